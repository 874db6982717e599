// cli/data.c -- tinylm data: corpora made ready for training.
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "core/cpu.h"
#include "models/hf.h"
#include "train/tokenize.h"

struct tokenize_args {
    const char *model, *out;
    struct corpus_options corpus;
    float validation;
    int32_t validation_every, threads;
    bool dedup, special;
};

static const struct option options[] = {
    {"-m, --model", "FILE", OPTION_STRING, offsetof(struct tokenize_args, model),
     .help = "whose tokenizer (and chat template): a GGUF file, with or without weights, or a Hugging Face "
             "folder. Default: none."},
    {"-o, --output", "OUT.gguf", OPTION_STRING, offsetof(struct tokenize_args, out),
     .help = "the tokens; those for validation go to OUT-val.gguf. Default: none."},
    {"--split-val", "FRACTION", OPTION_FLOAT, offsetof(struct tokenize_args, validation), .low = 0,
     .high = 0.9,
     .help = "which share is for validation: of a file that is one document its end; of other documents each "
             "by lot. Default: 0."},
    {"--val-every", "N", OPTION_INT, offsetof(struct tokenize_args, validation_every), .low = 0,
     .high = INT32_MAX, .help = "instead, each Nth document is for validation; 0: none. Default: 0."},
    {"--separator", "TEXT", OPTION_STRING, offsetof(struct tokenize_args, corpus.separator),
     .help = "what stands between the documents of a text file, such as <|endoftext|>; \\n is a line's end. "
             "Default: none, a file "
             "is a document."},
    {"--field", "NAME", OPTION_STRING, offsetof(struct tokenize_args, corpus.field),
     .help = "which field of the lines of .jsonl files is the text; a line without it that has \"messages\" "
             "is a conversation, and "
             "the chat template makes its text. Default: text."},
    {"--dedup", NULL, OPTION_FLAG, offsetof(struct tokenize_args, dedup),
     .help = "leave out documents whose text came before. Default: off."},
    {"--special", NULL, OPTION_FLAG, offsetof(struct tokenize_args, special),
     .help = "names of control tokens in texts become those tokens. Default: off."},
    {"-t, --threads", "N", OPTION_INT, offsetof(struct tokenize_args, threads), .low = 0, .high = THREADS_MAX,
     .help = "threads; 0 for the default. Default: the processors this process may run on."},
};

// "\n", "\t" and "\\" as the characters they stand for, in place.
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        bool escape = *in == '\\' && (in[1] == 'n' || in[1] == 't' || in[1] == '\\');
        if (escape) in++;
        *out++ = !escape ? *in : *in == 'n' ? '\n' : *in == 't' ? '\t' : '\\';
    }
    *out = '\0';
}

static bool show_progress(void *user, uint64_t bytes)
{
    const bool *terminal = user;
    char size[16];
    if (*terminal) fprintf(stderr, "\r%s   ", common_human_bytes(bytes, size, sizeof size));
    return !common_interrupted();
}

struct shards {
    char *paths[2];
    struct shard_writer *writers[2];
};

static enum tlm_status open_shards(struct shards *s, const struct tokenize_args *args,
                                   const struct tokenizer *t, const char *source, struct tlm_error *err)
{
    int count = args->validation > 0 || args->validation_every ? 2 : 1;
    size_t stem = strlen(args->out) - strlen(".gguf");
    enum tlm_status status = TLM_OK;
    for (int i = 0; i < count && !status; i++) {
        if (asprintf(&s->paths[i], "%.*s%s.gguf", (int)stem, args->out, i ? "-val" : "") < 0) {
            s->paths[i] = NULL;
            return error_set(err, TLM_ERR_MEMORY, "no memory to begin");
        }
        status = shard_writer_open(&s->writers[i], s->paths[i], t, source, err);
    }
    return status;
}

static enum tlm_status finish_shards(struct shards *s, int64_t duplicates, double seconds,
                                     struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int i = 0; i < 2 && s->writers[i] && !status; i++) {
        if (i && !shard_writer_tokens(s->writers[i])) {
            fprintf(stderr, "tinylm data tokenize: no document is for validation\n");
            break;
        }
        status = shard_writer_finish(s->writers[i], err);
        int64_t tokens = shard_writer_tokens(s->writers[i]);
        if (!status)
            fprintf(stderr, "%s: %" PRId64 " documents, %" PRId64 " tokens, %.3f characters a token\n",
                    s->paths[i], shard_writer_documents(s->writers[i]), tokens,
                    (double)shard_writer_characters(s->writers[i]) / (double)tokens);
    }
    if (!status && duplicates) fprintf(stderr, "%" PRId64 " duplicates were left out\n", duplicates);
    if (!status) fprintf(stderr, "%.2f s\n", seconds);
    return status;
}

// The names of the files, the last ones left out where they are too many.
static void name_source(char *text, size_t size, const char *const *files, size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, i ? " %s" : "%s", files[i]);
    if (used >= size) snprintf(text + size - 4, 4, "...");
}

static enum tlm_status run(const struct tokenize_args *args, const char *const *files, size_t count,
                           struct tlm_error *err)
{
    bool terminal = isatty(STDERR_FILENO);
    struct tokenize_options o = {.corpus = args->corpus,
                                 .special = args->special,
                                 .dedup = args->dedup,
                                 .validation = (double)args->validation,
                                 .validation_every = args->validation_every,
                                 .progress = show_progress,
                                 .user = &terminal};
    char source[1024];
    struct gguf *g = NULL;
    struct tokenizer *tokenizer = NULL;
    struct template *template = NULL;
    struct corpus *corpus = NULL;
    struct shards shards = {0};
    int64_t duplicates = 0;
    double start = common_seconds();
    name_source(source, sizeof source, files, count);
    enum tlm_status status = model_file_open(&g, args->model, MODEL_VOCABULARY, err);
    if (!status) status = tokenizer_open(&tokenizer, g, err);
    if (!status && gguf_find(g, "tokenizer.chat_template")) status = template_open_gguf(&template, g, err);
    if (!status) status = threads_open(&o.pool, args->threads ? args->threads : cpu_count(), err);
    if (!status) status = corpus_open(&corpus, files, count, &args->corpus, err);
    if (!status) status = open_shards(&shards, args, tokenizer, source, err);
    o.tokenizer = tokenizer;
    o.template = template;
    if (!status) status = tokenize_corpus(&o, corpus, shards.writers, &duplicates, err);
    if (terminal) fprintf(stderr, "\r            \r");
    if (!status) status = finish_shards(&shards, duplicates, common_seconds() - start, err);
    for (int i = 0; i < 2; i++) {
        shard_writer_close(shards.writers[i]);
        free(shards.paths[i]);
    }
    corpus_close(corpus);
    threads_close(o.pool);
    template_close(template);
    tokenizer_close(tokenizer);
    gguf_close(g);
    return status;
}

static int data_tokenize(int argc, char **argv)
{
    struct tokenize_args args = {0};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {
        "data tokenize",
        "-m MODEL -o OUT.gguf [OPTION ...] FILES...",
        "Writes the token ids of text files and .jsonl files for training. Each document ends with "
        "the tokenizer's end-of-text token, where it has one.",
        groups,
        1,
        NULL};
    const char **files = calloc((size_t)argc + 1, sizeof *files);
    char *separator = NULL;
    struct tlm_error err;
    size_t count = 0;
    if (!files) {
        error_set(&err, TLM_ERR_MEMORY, "no memory to begin");
        return common_failed(&line, &err);
    }
    int code = options_parse(&line, argc, argv, files, (size_t)argc, &count);
    if (code == EXIT_DONE) code = common_finish_output(&line, code);
    size_t length = args.out ? strlen(args.out) : 0;
    if (code == OPTIONS_GO && !args.model) code = options_wrong(&line, "no tokenizer: expected -m FILE");
    if (code == OPTIONS_GO && (length < 6 || strcmp(args.out + length - 5, ".gguf") != 0))
        code = options_wrong(&line, "expected -o OUT.gguf, found %s", args.out ? args.out : "none");
    if (code == OPTIONS_GO && !count) code = options_wrong(&line, "expected files to read, found none");
    if (code == OPTIONS_GO && args.validation > 0 && args.validation_every)
        code = options_wrong(&line, "expected --split-val or --val-every, one of the two");
    if (code == OPTIONS_GO) {
        if (args.corpus.separator && (separator = strdup(args.corpus.separator))) unescape(separator);
        args.corpus.separator = separator;
        common_catch_interrupt();
        code = run(&args, files, count, &err) ? common_failed(&line, &err) : EXIT_DONE;
    }
    free(separator);
    free(files);
    return code;
}

int command_data(int argc, char **argv)
{
    static const char usage[] = "usage: tinylm data tokenize|generate [OPTION ...]\n\n"
                                "  tokenize   the token ids of texts, for training\n"
                                "  generate   stories and conversations of our own\n\n"
                                "'tinylm data tokenize --help' lists the options.\n";
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "tokenize")) return data_tokenize(argc - 1, argv + 1);
    if (!strcmp(what, "generate")) return data_generate(argc - 1, argv + 1);
    bool help = !strcmp(what, "--help") || !strcmp(what, "-h");
    if (argc > 1 && !help)
        fprintf(stderr, "tinylm data: expected tokenize or generate, found '%s'\n\n", what);
    fputs(usage, help ? stdout : stderr);
    return help ? EXIT_DONE : EXIT_USAGE;
}
