// cli/tokenizer.c -- tinylm tokenizer train: a vocabulary made of texts.
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/common.h"
#include "core/cpu.h"
#include "core/file.h"
#include "models/hf.h"
#include "text/bpe_train.h"
#include "text/template.h"
#include "train/corpus.h"

struct tokenizer_args {
    const char *type, *pre, *bos, *eos, *unknown, *template, *out;
    struct corpus_options corpus;
    struct option_strings special;
    int32_t vocab_size, min_frequency, threads;
};

static const char *const types[] = {"bpe", "char", NULL};

static const struct option options[] = {
    {"-o, --output", "OUT", OPTION_STRING, offsetof(struct tokenizer_args, out),
     .help = "OUT.gguf: a GGUF file of the vocabulary alone, for -m of tokenize and data; OUT.json: a "
             "tokenizer.json as Hugging "
             "Face's tokenizers open it. Default: none."},
    {"--type", "TYPE", OPTION_CHOICE, offsetof(struct tokenizer_args, type), .choices = types,
     .help =
         "bpe: merges of bytes; char: the characters that occur. A character that did not occur then becomes "
         "the token of "
         "--unknown; without one 'data tokenize' refuses it, and in prompts it is dropped. Default: bpe."},
    {"--vocab-size", "N", OPTION_INT, offsetof(struct tokenizer_args, vocab_size), .low = 256,
     .high = 1 << 24,
     .help = "tokens of a bpe vocabulary, with 256 bytes and the special ones. Default: 8192."},
    {"--min-frequency", "N", OPTION_INT, offsetof(struct tokenizer_args, min_frequency), .low = 0,
     .high = INT32_MAX, .help = "pairs that are seen less often are not merged. Default: 2."},
    {"--pre", "NAME", OPTION_STRING, offsetof(struct tokenizer_args, pre),
     .help = "how texts are cut into words: a value of tokenizer.ggml.pre, like gpt-2, llama-bpe or qwen2. "
             "Default: gpt-2."},
    {"--special", "TEXT", OPTION_STRINGS, offsetof(struct tokenizer_args, special),
     .help = "a control token, such as <|endoftext|>; may be given several times. They get the first ids. "
             "Default: none."},
    {"--bos", "TEXT", OPTION_STRING, offsetof(struct tokenizer_args, bos),
     .help = "which special token begins a text. Default: none."},
    {"--eos", "TEXT", OPTION_STRING, offsetof(struct tokenizer_args, eos),
     .help = "which special token ends a text. Default: <|endoftext|> or </s>, where it is one of them."},
    {"--unknown", "TEXT", OPTION_STRING, offsetof(struct tokenizer_args, unknown),
     .help = "which special token stands for characters that a char vocabulary lacks. Default: <unk>, where "
             "it is one of them."},
    {"--chat-template", "FILE", OPTION_STRING, offsetof(struct tokenizer_args, template),
     .help = "a chat template (Jinja), which the GGUF file keeps. Default: none."},
    {"--separator", "TEXT", OPTION_STRING, offsetof(struct tokenizer_args, corpus.separator),
     .help = "what stands between the documents of a text file. Default: none, a file is a document."},
    {"--field", "NAME", OPTION_STRING, offsetof(struct tokenizer_args, corpus.field),
     .help = "which field of the lines of .jsonl files is the text; lines with \"messages\" are read, too. "
             "Default: text."},
    {"-t, --threads", "N", OPTION_INT, offsetof(struct tokenizer_args, threads), .low = 0,
     .high = THREADS_MAX,
     .help = "threads; 0 for the default. Default: the processors this process may run on."},
};

// ---- reading ------------------------------------------------------------------------------------------

static enum tlm_status add_part(struct bpe_train *train, const struct corpus_part *part,
                                const struct corpus_options *o, struct tlm_error *err)
{
    struct corpus_document d;
    enum tlm_status status = corpus_parse(&d, part, o, err);
    if (status) return status;
    if (d.text) status = bpe_train_add(train, d.text, d.bytes, err);
    size_t i;
    const json_t *message;
    json_array_foreach(d.messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        if (json_is_string(content) && !status)
            status = bpe_train_add(train, json_string_value(content), json_string_length(content), err);
    }
    corpus_document_free(&d);
    return status;
}

static enum tlm_status read_corpus(struct bpe_train *train, struct corpus *corpus,
                                   const struct corpus_options *o, struct tlm_error *err)
{
    struct corpus_part part;
    enum tlm_status status;
    while (!(status = corpus_next(corpus, &part, err)) && part.data &&
           !(status = add_part(train, &part, o, err)))
        corpus_release(corpus);
    return status;
}

// ---- writing ------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && !strcmp(text + n - m, end);
}

static enum tlm_status write_keys(const struct bpe_train *train, const struct gguf_string *template,
                                  struct gguf_writer *w, struct tlm_error *err)
{
    gguf_set_string(w, "general.architecture", "gpt2", 4); // a kind that engines know; there are no weights
    enum tlm_status status = bpe_train_write(train, w, err);
    if (template->data) gguf_set_string(w, "tokenizer.chat_template", template->data, template->length);
    return status;
}

static enum tlm_status write_gguf(const struct bpe_train *train, const struct gguf_string *template,
                                  const char *path, struct tlm_error *err)
{
    struct gguf_writer *w;
    enum tlm_status status = gguf_writer_open(&w, path, err);
    if (!status) status = write_keys(train, template, w, err);
    if (!status) status = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return status;
}

static enum tlm_status write_json(const struct bpe_train *train, const char *path, struct tlm_error *err)
{
    struct gguf_writer *w;
    struct gguf *g = NULL;
    void *data = NULL;
    size_t size = 0;
    enum tlm_status status = gguf_writer_open_memory(&w, path, err);
    if (!status) status = write_keys(train, &(struct gguf_string){NULL, 0}, w, err);
    if (!status) status = gguf_writer_take(w, &data, &size, err);
    gguf_writer_close(w);
    if (!status) status = gguf_open_memory(&g, data, size, path, err);
    if (!status) status = hf_write_tokenizer_json(g, path, err);
    gguf_close(g);
    free(data);
    return status;
}

// ---- the command --------------------------------------------------------------------------------------

static bool has(const struct option_strings *strings, const char *text)
{
    for (size_t i = 0; i < strings->count; i++)
        if (!strcmp(strings->items[i], text)) return true;
    return false;
}

static enum tlm_status read_template(const char *path, struct gguf_string *out, struct tlm_error *err)
{
    struct template *checked;
    size_t bytes = 0;
    char *text;
    if (!path) return TLM_OK;
    enum tlm_status status = file_read(path, &text, &bytes, err);
    if (status) return status;
    *out = (struct gguf_string){text, bytes};
    if (!(status = template_open_text(&checked, text, bytes, err))) template_close(checked);
    return status;
}

static enum tlm_status run(const struct tokenizer_args *args, const char *const *files, size_t count,
                           struct tlm_error *err)
{
    struct bpe_train_options o = {.pre = args->pre,
                                  .characters = !strcmp(args->type, "char"),
                                  .vocab_size = args->vocab_size,
                                  .min_frequency = args->min_frequency,
                                  .special = args->special.items,
                                  .special_count = args->special.count,
                                  .bos = args->bos,
                                  .eos = args->eos,
                                  .unknown = args->unknown};
    if (!o.eos)
        o.eos = has(&args->special, "<|endoftext|>") ? "<|endoftext|>"
                : has(&args->special, "</s>")        ? "</s>"
                                                     : NULL;
    if (!o.unknown && has(&args->special, "<unk>")) o.unknown = "<unk>";
    struct gguf_string template = {NULL, 0};
    struct threads *pool = NULL;
    struct bpe_train *train = NULL;
    struct corpus *corpus = NULL;
    double start = common_seconds();
    enum tlm_status status = read_template(args->template, &template, err);
    if (!status) status = threads_open(&pool, args->threads ? args->threads : cpu_count(), err);
    if (!status) status = bpe_train_open(&train, &o, pool, err);
    if (!status) status = corpus_open(&corpus, files, count, &args->corpus, err);
    if (!status) status = read_corpus(train, corpus, &args->corpus, err);
    if (!status) status = bpe_train_run(train, err);
    if (!status)
        status = ends_with(args->out, ".gguf") ? write_gguf(train, &template, args->out, err)
                                               : write_json(train, args->out, err);
    if (!status) {
        char size[16];
        fprintf(stderr,
                "%s: %" PRId32 " tokens, %" PRId64 " merges, of %s with %" PRId64
                " different words: %.2f s\n",
                args->out, bpe_train_size(train), bpe_train_merges(train),
                common_human_bytes(corpus_bytes(corpus), size, sizeof size), bpe_train_words(train),
                common_seconds() - start);
        if (!o.characters && bpe_train_size(train) < args->vocab_size)
            fprintf(stderr, "%s: fewer tokens than %" PRId32 ": no other pair was seen %" PRId32 " times\n",
                    args->out, args->vocab_size, args->min_frequency);
    }
    corpus_close(corpus);
    bpe_train_close(train);
    threads_close(pool);
    free((char *)template.data);
    return status;
}

static int tokenizer_train(int argc, char **argv)
{
    struct tokenizer_args args = {.type = "bpe", .vocab_size = 8192, .min_frequency = 2};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"tokenizer train",
                                      "-o OUT [OPTION ...] FILES...",
                                      "Makes a byte-level vocabulary of text files and .jsonl files.",
                                      groups,
                                      1,
                                      NULL};
    const char **files = calloc((size_t)argc + 1, sizeof *files);
    struct tlm_error err;
    size_t count = 0;
    if (!files) {
        error_set(&err, TLM_ERR_MEMORY, "no memory to begin");
        return common_failed(&line, &err);
    }
    int code = options_parse(&line, argc, argv, files, (size_t)argc, &count);
    if (code == EXIT_DONE) code = common_finish_output(&line, code);
    if (code == OPTIONS_GO && !count) code = options_wrong(&line, "expected files to read, found none");
    if (code == OPTIONS_GO && (!args.out || !(ends_with(args.out, ".gguf") || ends_with(args.out, ".json"))))
        code = options_wrong(&line, "expected -o OUT.gguf or -o OUT.json, found %s",
                             args.out ? args.out : "none");
    if (code == OPTIONS_GO) code = run(&args, files, count, &err) ? common_failed(&line, &err) : EXIT_DONE;
    free(files);
    return code;
}

int command_tokenizer(int argc, char **argv)
{
    static const char usage[] = "usage: tinylm tokenizer train -o OUT [OPTION ...] FILES...\n\n"
                                "'tinylm tokenizer train --help' lists the options.\n";
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "train")) return tokenizer_train(argc - 1, argv + 1);
    bool help = !strcmp(what, "--help") || !strcmp(what, "-h");
    if (argc > 1 && !help) fprintf(stderr, "tinylm tokenizer: expected train, found '%s'\n\n", what);
    fputs(usage, help ? stdout : stderr);
    return help ? EXIT_DONE : EXIT_USAGE;
}
