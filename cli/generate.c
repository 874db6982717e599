// cli/generate.c -- tinylm generate: continues a text.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/batch.h"
#include "cli/conversation.h"
#include "cli/drafting.h"
#include "cli/sampling.h"
#include "core/error.h"
#include "core/file.h"

struct generate_args {
    struct model_args model;
    struct session_args session;
    struct sampling_args sampling;
    struct drafting_args drafting;
    struct answer_args answer;
    struct conversation_args conversation;
    struct batch_args batch;
    const char *prompt, *file, *stats, *saved;
    bool escape, echo, chat;
};

static const struct option input_options[] = {
    {"-p, --prompt", "TEXT", OPTION_STRING, offsetof(struct generate_args, prompt),
     .help = "the text to continue. Plain text never becomes special tokens. Default: standard input, unless "
             "that is "
             "a terminal."},
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct generate_args, file),
     .help = "the text to continue, from a file, '-' for standard input; one newline at its end is left out. "
             "Default: none."},
    {"-e, --escape", NULL, OPTION_FLAG, offsetof(struct generate_args, escape),
     .help =
         "in -p and -r, take \\n \\r \\t \\\\ \\' \\\" \\xNN for the characters they name. Default: off."},
};

static const struct option saved_options[] = {
    {"--session", "FILE", OPTION_STRING, offsetof(struct generate_args, saved),
     .help = "take the keys and values of the prompt from this file as far as they are there, and save those "
             "of prompt and answer to it. "
             "Default: none."},
};

static const struct option chat_options[] = {
    {"--chat", NULL, OPTION_FLAG, offsetof(struct generate_args, chat),
     .help = "the text is a message: the model sees what its chat template makes of it, and its answer is "
             "printed, thoughts "
             "and all. Default: off."},
};

static const struct option output_options[] = {
    {"--echo", NULL, OPTION_FLAG, offsetof(struct generate_args, echo),
     .help = "print the prompt in front of its continuation. Default: off."},
    {"--stats", "STYLE", OPTION_CHOICE, offsetof(struct generate_args, stats), .choices = answer_stats_styles,
     .help =
         "counts, timings and the seed on standard error: text, json (on one line) or none. Default: text."},
};

static const char notes[] =
    "The continuation goes to standard output, whole characters at a time, all else to standard error.\n"
    "Ctrl-C stops the answer; what was written counts as done.\n"
    "Exit: 0 done, 1 failed, 2 wrong usage.\n";

// ---- the prompt ---------------------------------------------------------------------------------------

struct text {
    char *data; // for free()
    size_t bytes;
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20; // lower case
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Replaces escapes in place and returns the new length. What is no escape stays.
static size_t unescape(char *text, size_t bytes)
{
    static const char letters[] = "nrt\\'\"", meanings[] = "\n\r\t\\'\"";
    size_t to = 0;
    for (size_t i = 0; i < bytes; i++) {
        const char *letter =
            text[i] == '\\' && i + 1 < bytes ? memchr(letters, text[i + 1], sizeof letters - 1) : NULL;
        bool hex = text[i] == '\\' && i + 3 < bytes && text[i + 1] == 'x' && hex_digit(text[i + 2]) >= 0 &&
                   hex_digit(text[i + 3]) >= 0;
        if (letter) {
            text[to++] = meanings[letter - letters];
            i++;
        } else if (hex) {
            text[to++] = (char)(hex_digit(text[i + 2]) << 4 | hex_digit(text[i + 3]));
            i += 3;
        } else {
            text[to++] = text[i];
        }
    }
    return to;
}

static enum tlm_status copy_text(const char *from, bool escape, struct text *text, struct tlm_error *err)
{
    text->bytes = strlen(from);
    if (!(text->data = strdup(from)))
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu bytes", text->bytes);
    if (escape) {
        text->bytes = unescape(text->data, text->bytes);
        text->data[text->bytes] = '\0';
    }
    return TLM_OK;
}

static int read_prompt(const struct command_line *line, const struct generate_args *args, struct text *text)
{
    struct tlm_error err;
    if (args->prompt && args->file) return options_wrong(line, "expected one of -p and -f, found both");
    if (!args->prompt && !args->file && isatty(STDIN_FILENO))
        return options_wrong(line, "no prompt: expected -p TEXT, -f FILE or text on standard input");
    if (args->prompt)
        return copy_text(args->prompt, args->escape, text, &err) ? common_failed(line, &err) : OPTIONS_GO;
    if (file_read(args->file ? args->file : "-", &text->data, &text->bytes, &err))
        return common_failed(line, &err);
    // Editors and `echo` end a text with a newline that is no part of what is to be continued.
    if (text->bytes && text->data[text->bytes - 1] == '\n') text->bytes--;
    return OPTIONS_GO;
}

// ---- the answer ---------------------------------------------------------------------------------------

struct printer {
    char last; // byte written
    int error; // errno of a write that failed
};

static int print_token(void *user, int32_t token, const char *text, size_t bytes)
{
    (void)token;
    struct printer *p = user;
    if (bytes && !p->error) {
        p->error = answer_write(text, bytes);
        p->last = text[bytes - 1];
    }
    return p->error || common_interrupted();
}

// The prompt that the model's template makes of one message.
static enum tlm_status encode_message(const struct generate_args *args, const struct tlm_model *model,
                                      const struct text *message, int32_t **ids, size_t *count, bool *plain,
                                      struct tlm_error *err)
{
    struct conversation c;
    struct conversation_prompt p = {NULL, 0, THOUGHT_ANSWER};
    enum tlm_status status = conversation_open(&c, model, &args->conversation, err);
    if (!status) status = conversation_add(&c, "user", message->data, message->bytes, NULL, 0, err);
    if (!status) status = conversation_prompt(&c, &p, err);
    *ids = p.ids;
    *count = p.count;
    *plain = !c.template;
    conversation_close(&c);
    return status;
}

// Encodes the prompt, runs it, prints what follows. The session and sampler are the caller's to close.
static int run(const struct command_line *line, const struct generate_args *args, const struct text *prompt,
               const struct text *stops, struct tlm_session *session, struct tlm_sampler *sampler,
               struct tlm_drafter *drafter)
{
    const struct tlm_model *model = tlm_session_model(session);
    struct tlm_error err;
    int32_t *ids;
    size_t count;
    bool plain_chat = false; // without a template the answer ends where the model would speak for the person
    if (args->chat ? encode_message(args, model, prompt, &ids, &count, &plain_chat, &err)
                   : common_encode(model, prompt->data, prompt->bytes, TLM_ADD_BOS, &ids, &count, &err))
        return common_failed(line, &err);

    const char *stop[OPTION_STRINGS_MAX + 1];
    size_t stop_count = args->answer.stop.count;
    for (size_t i = 0; i < stop_count; i++) stop[i] = stops[i].data;
    if (plain_chat) stop[stop_count++] = CONVERSATION_STOP;
    struct printer printer = {'\n', 0};
    struct tlm_generate_options options = {.stop = stop,
                                           .stop_count = stop_count,
                                           .special = args->answer.special,
                                           .drafter = drafter,
                                           .draft_max = args->drafting.most,
                                           .on_token = print_token,
                                           .user = &printer};
    struct tlm_generate_result result = {0};
    enum tlm_status status = TLM_OK;
    if (!count)
        status = error_set(&err, TLM_ERR_ARGUMENT,
                           "prompt: expected at least one token, found none (the model has no "
                           "token that begins a text)");
    common_catch_interrupt();
    if (!status && args->saved && access(args->saved, F_OK) == 0)
        status = tlm_session_load(session, args->saved, &err);
    if (!status && args->echo) print_token(&printer, -1, prompt->data, prompt->bytes);
    if (!status)
        status = answer_run(session, sampler, ids, count, args->answer.predict, &options, &result, &err);
    // A shell's prompt shall start on a line of its own; a pipe gets the text as it is.
    if (isatty(STDOUT_FILENO) && printer.last != '\n') answer_write("\n", 1);
    if (!status && args->saved) status = tlm_session_save(session, args->saved, &err);
    if (!status) answer_print_stats(args->stats, session, &result, args->sampling.options.seed);
    free(result.tokens);
    free(ids);
    int code = status ? common_failed(line, &err) : EXIT_DONE;
    return printer.error ? common_output_failed(line, printer.error, code) : code;
}

// Opens what is needed, in the order in which errors are cheap to find.
static int open_and_run(const struct command_line *line, struct generate_args *args,
                        const struct text *prompt, const struct text *stops)
{
    struct tlm_model *model = NULL;
    struct tlm_session *session = NULL;
    struct tlm_sampler *sampler = NULL;
    struct drafting drafting = {0};
    int code = common_open_model(line, &args->model, false, &model);
    if (code == OPTIONS_GO) code = sampling_open(line, &args->sampling, model, &sampler);
    if (code == OPTIONS_GO) code = common_open_session(line, model, &args->session, &session);
    if (code == OPTIONS_GO)
        code = drafting_open(line, &args->drafting, &args->sampling, &args->session, model, &drafting);
    if (code == OPTIONS_GO) code = run(line, args, prompt, stops, session, sampler, drafting.drafter);
    drafting_close(&drafting);
    tlm_session_close(session);
    tlm_sampler_close(sampler);
    sampling_close(&args->sampling);
    tlm_model_close(model);
    return common_finish_output(line, code);
}

// ---- many prompts -------------------------------------------------------------------------------------

static int check_batch(const struct command_line *line, const struct generate_args *args)
{
    const struct {
        bool given;
        const char *name;
    } alone[] = {{args->prompt, "-p"},
                 {args->file, "-f"},
                 {args->saved, "--session"},
                 {args->echo, "--echo"},
                 {args->session.reuse_shifted, "--cache-reuse"},
                 {args->drafting.model, "-md"}};
    if (!args->batch.in && (args->batch.out || args->batch.parallel || args->batch.cache))
        return options_wrong(line, "--out, --parallel and --cache: expected --in with them");
    for (size_t i = 0; args->batch.in && i < sizeof alone / sizeof *alone; i++)
        if (alone[i].given)
            return options_wrong(line, "expected one of --in and %s, found both", alone[i].name);
    return OPTIONS_GO;
}

// Standard input can be read once.
static int check_input(const struct command_line *line, const struct generate_args *args)
{
    const struct {
        const char *path, *name;
    } readers[] = {{args->batch.in, "--in"},
                   {args->prompt || args->batch.in ? NULL
                    : args->file                   ? args->file
                                                   : "-",
                    "the prompt"},
                   {args->sampling.grammar_file, "--grammar"},
                   {args->sampling.schema_file, "--json-schema"},
                   {args->conversation.tools, "--tools"},
                   {args->conversation.template_file, "--chat-template-file"}};
    const char *first = NULL;
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (!readers[i].path || strcmp(readers[i].path, "-") != 0) continue;
        if (first)
            return options_wrong(line, "expected standard input for one of %s and %s, found both", first,
                                 readers[i].name);
        first = readers[i].name;
    }
    return OPTIONS_GO;
}

static int run_batch(const struct command_line *line, struct generate_args *args, const struct text *stops)
{
    const char *stop[OPTION_STRINGS_MAX];
    for (size_t i = 0; i < args->answer.stop.count; i++) stop[i] = stops[i].data;
    const struct batch_settings settings = {.batch = &args->batch,
                                            .model = &args->model,
                                            .session = &args->session,
                                            .answer = &args->answer,
                                            .stop = stop,
                                            .conversation = &args->conversation,
                                            .sampling = &args->sampling,
                                            .drafting = &args->drafting,
                                            .stats = args->stats,
                                            .chat = args->chat};
    return common_finish_output(line, batch_run(line, &settings));
}

int command_generate(int argc, char **argv)
{
    struct generate_args args = {.sampling = sampling_defaults(), .answer = {.predict = -1}, .stats = "text"};
    const struct option_group groups[] = {
        OPTION_GROUP("Model:", model_options, &args.model),
        OPTION_GROUP("Device:", device_options, &args.model),
        OPTION_GROUP("Input:", input_options, &args),
        OPTION_GROUP("Cache:", saved_options, &args),
        OPTION_GROUP("Many prompts:", batch_options, &args.batch),
        OPTION_GROUP("Chat:", chat_options, &args),
        OPTION_GROUP("With --chat:", conversation_options, &args.conversation),
        OPTION_GROUP("Answer:", answer_options, &args.answer),
        OPTION_GROUP("Output:", output_options, &args),
        OPTION_GROUP("Sampling:", sampling_options, &args.sampling),
        OPTION_GROUP("Speculation:", drafting_options, &args.drafting),
        OPTION_GROUP("Machine:", session_options, &args.session),
    };
    const struct command_line line = {
        "generate",
        "-m MODEL [-p TEXT | -f FILE | --in FILE --out FILE] [-n N] [OPTION ...]",
        "Continues a text and prints the continuation alone.",
        groups,
        sizeof groups / sizeof *groups,
        notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if ((code = check_batch(&line, &args)) != OPTIONS_GO || (code = check_input(&line, &args)) != OPTIONS_GO)
        return code;
    struct text prompt = {NULL, 0}, stops[OPTION_STRINGS_MAX] = {{NULL, 0}};
    struct tlm_error err;
    code = args.batch.in ? OPTIONS_GO : read_prompt(&line, &args, &prompt);
    for (size_t i = 0; code == OPTIONS_GO && i < args.answer.stop.count; i++)
        if (copy_text(args.answer.stop.items[i], args.escape, &stops[i], &err))
            code = common_failed(&line, &err);
    if (code == OPTIONS_GO)
        code = args.batch.in ? run_batch(&line, &args, stops) : open_and_run(&line, &args, &prompt, stops);
    for (size_t i = 0; i < args.answer.stop.count; i++) free(stops[i].data);
    free(prompt.data);
    return code;
}
