// cli/tokenize.c -- tinylm tokenize: text to token ids and back, by the vocabulary of a model file.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/common.h"
#include "core/error.h"
#include "core/file.h"

struct tokenize_args {
    struct model_args model;
    bool bos, special, decode;
};

static const struct option options[] = {
    {"-m, --model", "FILE", OPTION_STRING, offsetof(struct tokenize_args, model.path),
     .help = "a GGUF file, of any architecture, with or without weights, or a Hugging Face folder. Default: "
             "none."},
    {"--bos", NULL, OPTION_FLAG, offsetof(struct tokenize_args, bos),
     .help = "put the token that begins a text first, if the model asks for one. Default: off."},
    {"--special", NULL, OPTION_FLAG, offsetof(struct tokenize_args, special),
     .help = "text such as </s> becomes the special token of that name; with --decode, names of control "
             "tokens are "
             "written. Default: off."},
    {"--decode", NULL, OPTION_FLAG, offsetof(struct tokenize_args, decode),
     .help = "read ids, separated by white space, and write their bytes. Default: off."},
};

static enum tlm_status encode(const struct tlm_model *model, const struct tokenize_args *args,
                              const char *text, size_t bytes, struct tlm_error *err)
{
    int flags = (args->bos ? TLM_ADD_BOS : 0) | (args->special ? TLM_PARSE_SPECIAL : 0);
    int32_t *ids;
    size_t count;
    enum tlm_status status = common_encode(model, text, bytes, flags, &ids, &count, err);
    if (status) return status;
    for (size_t i = 0; i < count && !common_output_broken(); i++)
        printf(i ? " %" PRId32 : "%" PRId32, ids[i]);
    putchar('\n');
    free(ids);
    return TLM_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Reads ids out of `text`, which ends with a zero byte, into ids[bytes / 2 + 1].
static enum tlm_status parse_ids(const char *text, size_t bytes, int32_t *ids, size_t *count,
                                 struct tlm_error *err)
{
    *count = 0;
    for (const char *at = text, *end = text + bytes;;) {
        while (at < end && is_space(*at)) at++;
        if (at == end) return TLM_OK;
        const char *word = at;
        int64_t id = 0;
        for (; at < end && *at >= '0' && *at <= '9' && id <= INT32_MAX; at++) id = 10 * id + (*at - '0');
        if (at == word || id > INT32_MAX || (at < end && !is_space(*at))) {
            int shown = 0;
            while (shown < 20 && word + shown < end && word[shown] > ' ' && word[shown] <= '~') shown++;
            return error_set(err, TLM_ERR_ARGUMENT,
                             "standard input: byte %zu: expected a token's id, found '%.*s'",
                             (size_t)(word - text), shown, word);
        }
        ids[(*count)++] = (int32_t)id;
    }
}

static enum tlm_status decode(const struct tlm_model *model, const struct tokenize_args *args,
                              const char *text, size_t bytes, struct tlm_error *err)
{
    int32_t *ids = malloc((bytes / 2 + 1) * sizeof *ids);
    if (!ids) return error_set(err, TLM_ERR_MEMORY, "no memory for the ids in %zu bytes", bytes);
    int flags = args->special ? TLM_SHOW_SPECIAL : 0;
    size_t count, length = 0;
    char *out = NULL;
    enum tlm_status status = parse_ids(text, bytes, ids, &count, err);
    if (!status) status = tlm_detokenize(model, ids, count, flags, NULL, 0, &length, err);
    if (!status && length && !(out = malloc(length)))
        status = error_set(err, TLM_ERR_MEMORY, "no memory for %zu bytes of text", length);
    if (!status && length) status = tlm_detokenize(model, ids, count, flags, out, length, &length, err);
    if (!status && length) fwrite(out, 1, length, stdout);
    free(out);
    free(ids);
    return status;
}

int command_tokenize(int argc, char **argv)
{
    struct tokenize_args args = {0};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"tokenize",
                                      "-m MODEL [--bos] [--special] [--decode] < TEXT",
                                      "Reads standard input, byte for byte, and writes its token ids on one "
                                      "line, separated by spaces. Nothing is "
                                      "added unless asked.",
                                      groups,
                                      1,
                                      NULL};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;

    struct tlm_model *model = NULL;
    struct tlm_error err;
    code = common_open_model(&line, &args.model, true, &model);
    if (code != OPTIONS_GO) return code;
    char *text = NULL;
    size_t bytes;
    enum tlm_status status = file_read("-", &text, &bytes, &err);
    if (!status) status = (args.decode ? decode : encode)(model, &args, text, bytes, &err);
    free(text);
    tlm_model_close(model);
    return common_finish_output(&line, status ? common_failed(&line, &err) : EXIT_DONE);
}
