// cli/template.c -- tinylm template: renders a chat template, to see the prompt that a model gets.
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "core/file.h"
#include "text/template.h"

struct template_args {
    const char *model, *file, *bos, *eos, *messages, *tools, *variables;
    bool no_generation_prompt;
};

static const struct option options[] = {
    {"-m, --model", "MODEL", OPTION_STRING, offsetof(struct template_args, model),
     .help = "a GGUF file, with or without weights, or a Hugging Face folder: its template and special "
             "tokens. Default: "
             "none."},
    {"--chat-template-file", "FILE", OPTION_STRING, offsetof(struct template_args, file),
     .help = "the template. Default: the model's."},
    {"--bos-token", "TEXT", OPTION_STRING, offsetof(struct template_args, bos),
     .help = "what the template knows as bos_token. Default: the model's."},
    {"--eos-token", "TEXT", OPTION_STRING, offsetof(struct template_args, eos),
     .help = "what the template knows as eos_token. Default: the model's."},
    {"--messages", "FILE", OPTION_STRING, offsetof(struct template_args, messages),
     .help = "JSON, a list of messages, each with its role and content; - is standard input. Default: none."},
    {"--tools", "FILE", OPTION_STRING, offsetof(struct template_args, tools),
     .help = "JSON, a list of tool definitions. Default: none."},
    {"--kwargs", "JSON", OPTION_STRING, offsetof(struct template_args, variables),
     .help = "an object of more variables, such as {\"enable_thinking\": false}. Default: none."},
    {"--no-generation-prompt", NULL, OPTION_FLAG, offsetof(struct template_args, no_generation_prompt),
     .help = "leave out what begins the answer. Default: off."},
};

static enum tlm_status open_template(const struct template_args *args, struct template **out,
                                     struct tlm_error *err)
{
    char *source;
    size_t bytes;
    *out = NULL;
    enum tlm_status status;
    if (args->file) {
        status = file_read(args->file, &source, &bytes, err);
        if (status) return status;
        status = template_open_text(out, source, bytes, err);
        free(source);
        if (status) return error_prefix(err, "%s", args->file);
        if (args->model) status = template_read_tokens(*out, args->model, err);
    } else {
        status = template_open(out, args->model, err);
    }
    if (!status && args->bos)
        status = template_set_token(*out, "bos_token", args->bos, strlen(args->bos), err);
    if (!status && args->eos)
        status = template_set_token(*out, "eos_token", args->eos, strlen(args->eos), err);
    return status;
}

static enum tlm_status read_json(const char *path, json_t **out, struct tlm_error *err)
{
    char *text;
    size_t bytes;
    enum tlm_status status = file_read(path, &text, &bytes, err);
    if (status) return status;
    status = template_parse_json(out, text, bytes, path, err);
    free(text);
    return status;
}

static enum tlm_status run(const struct template_args *args, struct tlm_error *err)
{
    struct template *t = NULL;
    struct jinja_output out = {0};
    json_t *messages = NULL, *tools = NULL, *variables = NULL;
    enum tlm_status status = open_template(args, &t, err);
    if (!status) status = read_json(args->messages, &messages, err);
    if (!status && args->tools) status = read_json(args->tools, &tools, err);
    if (!status && args->variables)
        status = template_parse_json(&variables, args->variables, strlen(args->variables), "--kwargs", err);
    if (!status) {
        struct template_input input = {.messages = messages,
                                       .tools = tools,
                                       .variables = variables,
                                       .add_generation_prompt = !args->no_generation_prompt};
        status = template_render(t, &input, &out, err);
    }
    if (!status) fwrite(out.text, 1, out.bytes, stdout);
    jinja_output_free(&out);
    json_decref(messages);
    json_decref(tools);
    json_decref(variables);
    template_close(t);
    return status;
}

int command_template(int argc, char **argv)
{
    struct template_args args = {0};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {
        "template",
        "-m MODEL | --chat-template-file FILE --messages FILE [OPTION ...]",
        "Writes the prompt that a chat template makes of messages: byte for byte, with nothing added.",
        groups,
        1,
        NULL};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if (!args.model && !args.file)
        return options_wrong(&line, "expected -m MODEL or --chat-template-file FILE");
    if (!args.messages) return options_wrong(&line, "expected --messages FILE");
    struct tlm_error err;
    enum tlm_status status = run(&args, &err);
    return common_finish_output(&line, status ? common_failed(&line, &err) : EXIT_DONE);
}
