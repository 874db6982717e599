// cli/eval.c -- tinylm eval: perplexity of a text, and the logits behind given tokens.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/eval_text.h"

struct eval_args {
    struct model_args model;
    struct session_args session;
    const char *file, *ids, *ids_file, *out, *format;
    int32_t stride, chunks;
};

// What all evaluations open; closed by close_all().
struct eval {
    const struct command_line *line;
    struct tlm_model *model;
    struct tlm_session *session;
    int32_t *tokens;
    size_t count;
};

static void close_all(struct eval *e)
{
    tlm_session_close(e->session);
    tlm_model_close(e->model);
    free(e->tokens);
}

// ---- perplexity ---------------------------------------------------------------------------------------

static const char *const formats[] = {"text", "json", NULL};

static const struct option ppl_options[] = {
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct eval_args, file),
     .help = "the text, '-' for standard input. Default: none."},
    {"--stride", "N", OPTION_INT, offsetof(struct eval_args, stride), .low = 1, .high = INT32_MAX,
     .help = "move the window on by N tokens and count what is new in it, so that each token of the text but "
             "the first "
             "counts once. Default: windows without overlap, of each of which the second half counts."},
    {"--chunks", "N", OPTION_INT, offsetof(struct eval_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "windows to look at. Default: all."},
    {"-o, --output", "STYLE", OPTION_CHOICE, offsetof(struct eval_args, format), .choices = formats,
     .help = "text or json (on one line). Default: text."},
};

static const char ppl_notes[] = "A window holds -c tokens (512 here). Without --stride it starts with the "
                                "token that begins a text, in place of its\n"
                                "first, if the model asks for one. The figure is exp of the mean of -ln p; "
                                "behind +- stands its standard error.\n";

// Sums over the tokens that were counted so far.
struct score {
    const struct tlm_model *model;
    const int32_t *window;
    double nll, squares; // of -ln p
    int64_t count;
};

// -ln p of token window[index + 1].
static int score_token(void *user, size_t index, const float *logits)
{
    struct score *s = user;
    double nll = tlm_model_loss(s->model, logits, s->window[index + 1]);
    s->nll += nll;
    s->squares += nll * nll;
    s->count++;
    return common_interrupted();
}

static double perplexity(const struct score *s)
{
    return exp(s->nll / (double)s->count);
}

// Of the perplexity, from that of the mean.
static double standard_error(const struct score *s)
{
    if (s->count < 2) return 0;
    double n = (double)s->count, mean = s->nll / n, variance = fmax(0, s->squares / n - mean * mean);
    return perplexity(s) * sqrt(variance / (n - 1));
}

// Scores window[first..count), each token predicted from those before it in the window.
static enum tlm_status score_window(struct eval *e, struct score *s, const int32_t *window, size_t count,
                                    size_t first, struct tlm_error *err)
{
    s->window = window;
    return tlm_session_logits_each(e->session, window, count - 1, first - 1, score_token, s, err);
}

static void show_progress(const struct score *s, int64_t done, int64_t windows)
{
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\rwindow %" PRId64 " of %" PRId64 ": %.4f +- %.4f ", done, windows, perplexity(s),
            standard_error(s));
    if (done == windows) fputc('\n', stderr);
}

// Windows side by side, the second half of each counted, as llama.cpp's llama-perplexity does.
static enum tlm_status score_halves(struct eval *e, struct score *s, const struct eval_args *args,
                                    int64_t *windows, struct tlm_error *err)
{
    size_t size = (size_t)args->session.context;
    *windows = eval_cut_windows(e->model, e->tokens, e->count, args->session.context, args->chunks);
    for (int64_t w = 0; w < *windows; w++) {
        int32_t *window = e->tokens + (size_t)w * size;
        enum tlm_status status = score_window(e, s, window, size, size / 2 + 1, err);
        if (status) return status;
        show_progress(s, w + 1, *windows);
    }
    return TLM_OK;
}

static enum tlm_status score_strides(struct eval *e, struct score *s, const struct eval_args *args,
                                     int64_t *windows, struct tlm_error *err)
{
    size_t size = (size_t)args->session.context, stride = (size_t)args->stride, counted = 1;
    *windows = 1 + (e->count > size ? (int64_t)((e->count - size + stride - 1) / stride) : 0);
    if (args->chunks && *windows > args->chunks) *windows = args->chunks;
    for (int64_t w = 0; w < *windows; w++) {
        size_t begin = (size_t)w * stride, end = begin + size < e->count ? begin + size : e->count;
        enum tlm_status status = score_window(e, s, e->tokens + begin, end - begin, counted - begin, err);
        if (status) return status;
        counted = end;
        show_progress(s, w + 1, *windows);
    }
    return TLM_OK;
}

static void print_score(const struct score *s, const struct eval_args *args, int64_t windows)
{
    if (args->format == formats[1])
        printf("{\"perplexity\": %.6f, \"error\": %.6f, \"nll\": %.9f, \"tokens\": %" PRId64
               ", \"windows\": %" PRId64 ", \"context\": %d, \"stride\": %d}\n",
               perplexity(s), standard_error(s), s->nll / (double)s->count, s->count, windows,
               args->session.context, args->stride);
    else
        printf("perplexity %.4f +- %.4f  (tokens %" PRId64 ", windows %" PRId64 ")\n", perplexity(s),
               standard_error(s), s->count, windows);
}

static int eval_ppl(int argc, char **argv)
{
    struct eval_args args = {.format = formats[0], .session.context = EVAL_WINDOW};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          {"Session:", session_options, SESSION_OPTION_COUNT, &args.session},
                                          OPTION_GROUP("Perplexity:", ppl_options, &args)};
    const struct command_line line = {
        "eval ppl", "-m MODEL -f TEXT [OPTION ...]", "Measures how well a model predicts a text.", groups, 3,
        ppl_notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code;
    if (!args.file) return options_wrong(&line, "no text: name one with -f FILE");
    if (args.session.context < 4)
        return options_wrong(&line, "-c: expected windows of 4 tokens at least, found %d",
                             args.session.context);
    if (args.stride > args.session.context)
        return options_wrong(&line, "--stride: expected at most the window's %d tokens, found %d",
                             args.session.context, args.stride);
    struct eval e = {.line = &line};
    struct tlm_error err;
    if ((code = common_open_model(&line, &args.model, false, &e.model)) != OPTIONS_GO) return code;
    if ((code = common_open_session(&line, e.model, &args.session, &e.session)) != OPTIONS_GO) {
        close_all(&e);
        return code;
    }
    struct score s = {.model = e.model};
    int64_t windows = 0;
    enum tlm_status status = eval_read_tokens(e.model, args.file, &e.tokens, &e.count, &err);
    size_t least = args.stride ? 2 : (size_t)args.session.context;
    if (!status && e.count < least)
        status = error_set(&err, TLM_ERR_ARGUMENT, "%s: expected %zu tokens at least, found %zu: lower -c",
                           args.file, least, e.count);
    common_catch_interrupt();
    if (!status) status = (args.stride ? score_strides : score_halves)(&e, &s, &args, &windows, &err);
    if (!status) print_score(&s, &args, windows);
    close_all(&e);
    return common_finish_output(&line, status ? common_failed(&line, &err) : EXIT_DONE);
}

// ---- logits -------------------------------------------------------------------------------------------

static const struct option logits_options[] = {
    {"--ids", "LIST", OPTION_STRING, offsetof(struct eval_args, ids),
     .help = "token ids, separated by spaces. Default: none."},
    {"--ids-file", "FILE", OPTION_STRING, offsetof(struct eval_args, ids_file),
     .help = "the same from a file, '-' for standard input. Default: none."},
    {"-o, --output", "FILE", OPTION_STRING, offsetof(struct eval_args, out),
     .help = "the NPY file to write. Default: none."},
};

static const char logits_notes[] =
    "Writes an array (T, V) of f32: row t holds the logits behind ids 0 to t.\n"
    "The cache is f32 here, where -ctk and -ctv do not say.\n";

static enum tlm_status parse_ids(struct eval *e, const char *text, struct tlm_error *err)
{
    e->tokens = malloc((strlen(text) / 2 + 1) * sizeof *e->tokens);
    if (!e->tokens)
        return error_set(err, TLM_ERR_MEMORY, "ids: no memory for %zu bytes of them", strlen(text));
    for (const char *at = text;;) {
        char *end;
        at += strspn(at, " \t\r\n,");
        if (!*at) return TLM_OK;
        long id = strtol(at, &end, 10);
        if (end == at || id < 0 || id > INT32_MAX)
            return error_set(err, TLM_ERR_ARGUMENT, "ids: expected a token's id, found '%.20s'", at);
        e->tokens[e->count++] = (int32_t)id;
        at = end;
    }
}

static enum tlm_status read_ids(struct eval *e, const struct eval_args *args, struct tlm_error *err)
{
    if (args->ids) return parse_ids(e, args->ids, err);
    char *text;
    size_t bytes;
    enum tlm_status status = file_read(args->ids_file, &text, &bytes, err);
    if (status) return status;
    status = parse_ids(e, text, err);
    free(text);
    return status;
}

struct npy_file {
    struct file_writer *writer;
    int32_t vocab;
};

static int write_row(void *user, size_t index, const float *logits)
{
    struct npy_file *f = user;
    (void)index;
    file_writer_write(f->writer, logits, (size_t)f->vocab * sizeof *logits);
    return common_interrupted();
}

// NPY 1.0: magic, version, u16 length of the header, the header, padded with spaces so that data starts at
// 128.
static void write_npy_header(struct file_writer *w, size_t rows, int32_t cols)
{
    char header[128] = "\x93NUMPY\x01", text[118];
    int n = snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %d), }",
                     rows, cols);
    header[8] = sizeof text;
    memset(header + 10, ' ', sizeof text);
    memcpy(header + 10, text, (size_t)n);
    header[127] = '\n';
    file_writer_write(w, header, sizeof header);
}

static enum tlm_status write_logits(struct eval *e, const char *path, struct tlm_error *err)
{
    struct npy_file f = {.vocab = tlm_model_vocab_size(e->model)};
    enum tlm_status status = file_writer_open(&f.writer, path, err);
    if (status) return status;
    write_npy_header(f.writer, e->count, f.vocab);
    status = tlm_session_logits_each(e->session, e->tokens, e->count, 0, write_row, &f, err);
    if (!status) return file_writer_finish(f.writer, err);
    file_writer_abort(f.writer);
    return status;
}

static int eval_logits(int argc, char **argv)
{
    struct eval_args args = {0};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          {"Session:", session_options, SESSION_OPTION_COUNT, &args.session},
                                          OPTION_GROUP("Logits:", logits_options, &args)};
    const struct command_line line = {"eval logits",
                                      "-m MODEL --ids \"1 2 3\" -o OUT.npy [OPTION ...]",
                                      "Writes the logits behind each of the given tokens.",
                                      groups,
                                      3,
                                      logits_notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code;
    if (!args.ids == !args.ids_file)
        return options_wrong(&line, "expected --ids or --ids-file, one of the two");
    if (!args.out) return options_wrong(&line, "no file to write: name one with -o OUT.npy");
    struct eval e = {.line = &line};
    struct tlm_error err;
    if ((code = common_open_model(&line, &args.model, false, &e.model)) != OPTIONS_GO) return code;
    enum tlm_status status = read_ids(&e, &args, &err);
    if (status) code = common_failed(&line, &err);
    // Logits are for comparing: the cache rounds nothing unless it is asked to.
    if (!args.session.kv_type_k) args.session.kv_type_k = "f32";
    if (!args.session.kv_type_v) args.session.kv_type_v = "f32";
    // As many positions as there are ids, where -c does not say: LongRoPE looks at the context.
    if (!args.session.context && e.count <= INT32_MAX) args.session.context = (int32_t)e.count;
    if (!status) code = common_open_session(&line, e.model, &args.session, &e.session);
    common_catch_interrupt();
    if (code == OPTIONS_GO) code = write_logits(&e, args.out, &err) ? common_failed(&line, &err) : EXIT_DONE;
    close_all(&e);
    return code;
}

// ---- the command --------------------------------------------------------------------------------------

int command_eval(int argc, char **argv)
{
    static const struct {
        const char *name, *help;
        int (*run)(int argc, char **argv);
    } kinds[] = {
        {"ppl", "perplexity of a text", eval_ppl},
        {"kld", "how far a model's distributions are from another's", eval_kld},
        {"types", "what each type of weights costs a model", eval_types},
        {"sensitivity", "which matrices suffer from being rounded", eval_sensitivity},
        {"logits", "the logits behind given tokens, as an NPY file", eval_logits},
        {"diff", "where two models, or two instruction sets, part", eval_diff},
    };
    enum { KINDS = sizeof kinds / sizeof *kinds };
    const char *what = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < KINDS; i++)
        if (!strcmp(what, kinds[i].name)) return kinds[i].run(argc - 1, argv + 1);
    bool help = !strcmp(what, "--help") || !strcmp(what, "-h");
    if (argc > 1 && !help)
        fprintf(stderr, "tinylm eval: expected one of the following, found '%s'\n\n", what);
    FILE *to = help ? stdout : stderr;
    fputs("usage: tinylm eval KIND [OPTION ...]\n\n", to);
    for (size_t i = 0; i < KINDS; i++) fprintf(to, "  %-12s %s\n", kinds[i].name, kinds[i].help);
    fputs("\n'tinylm eval KIND --help' lists the options of a kind.\n", to);
    return help ? EXIT_DONE : EXIT_USAGE;
}
