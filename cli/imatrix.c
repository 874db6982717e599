// cli/imatrix.c -- tinylm imatrix: how large the inputs of each matrix are while the model reads a text.
#include <inttypes.h>
#include <unistd.h>

#include "cli/calibration.h"
#include "cli/common.h"
#include "core/cpu.h"
#include "quant/methods/imatrix.h"

struct imatrix_args {
    struct model_args model;
    const char *file, *out;
    int32_t context, chunks, threads;
};

static const struct option options[] = {
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct imatrix_args, file),
     .help = "the text, '-' for standard input. Default: none."},
    {"-o, --output", "FILE", OPTION_STRING, offsetof(struct imatrix_args, out),
     .help = "the file to write. Default: none."},
    {"-c, --ctx-size", "N", OPTION_INT, offsetof(struct imatrix_args, context), .low = 1, .high = 65536,
     .help = "tokens of a chunk. Default: 512."},
    {"--chunks", "N", OPTION_INT, offsetof(struct imatrix_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "chunks to run, evenly spread over the text. Default: all."},
    {"-t, --threads", "N", OPTION_INT, offsetof(struct imatrix_args, threads), .low = 0, .high = THREADS_MAX,
     .help = "threads; 0 for the default. Default: the processors this process may run on."},
};

static const char notes[] =
    "The file is llama.cpp's (GGUF), for 'tinylm quantize --imatrix' and for llama-quantize. The model is "
    "run layer by\n"
    "layer over 64 chunks at a time, whose rows between two layers take 64 x -c x width x 4 bytes.\n";

struct progress {
    int64_t begin, texts, all; // chunks of this round
    bool terminal;
};

static bool show_progress(void *user, int64_t done, int64_t total)
{
    const struct progress *p = user;
    double share = ((double)p->begin + (double)p->texts * (double)done / (double)total) / (double)p->all;
    if (p->terminal) fprintf(stderr, "\r%3.0f%%%s", 100 * share, share == 1 ? "\r    \r" : "");
    return !common_interrupted();
}

static enum tlm_status collect(struct imatrix *im, struct tlm_model *m, const struct imatrix_args *args,
                               const int32_t *tokens, int64_t texts, struct tlm_error *err)
{
    struct threads *threads;
    enum tlm_status s = threads_open(&threads, args->threads ? args->threads : cpu_count(), err);
    struct progress p = {.all = texts, .terminal = isatty(STDERR_FILENO)};
    for (; p.begin < texts && !s; p.begin += p.texts) {
        struct layers layers;
        p.texts = texts - p.begin < CALIBRATION_CHUNKS ? texts - p.begin : CALIBRATION_CHUNKS;
        struct layers_config config = {tokens + p.begin * args->context, p.texts, args->context, threads};
        if ((s = layers_open(&layers, m, &config, err))) break;
        s = imatrix_collect(im, &layers, show_progress, &p, err);
        layers_close(&layers);
    }
    threads_close(threads);
    return s;
}

static enum tlm_status run(struct tlm_model *m, const struct imatrix_args *args, struct tlm_error *err)
{
    int32_t *tokens;
    int64_t texts = 0;
    struct imatrix im = {.dataset = strdup(args->file)};
    enum tlm_status s = calibration_read(m, args->file, args->context, args->chunks, &tokens, &texts, err);
    if (!s) s = collect(&im, m, args, tokens, texts, err);
    if (!s) s = imatrix_write(&im, args->out, err);
    if (!s)
        fprintf(stderr, "%s: %" PRId64 " matrices, %" PRId64 " chunks of %d tokens\n", args->out, im.count,
                texts, args->context);
    if (s && common_interrupted()) error_set(err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
    imatrix_free(&im);
    free(tokens);
    return s;
}

int command_imatrix(int argc, char **argv)
{
    struct imatrix_args args = {.context = CALIBRATION_CONTEXT};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          OPTION_GROUP("Statistics:", options, &args)};
    const struct command_line line = {
        "imatrix",
        "-m MODEL -f TEXT -o OUT [OPTION ...]",
        "Writes for each matrix the sums of squares of what it is multiplied by "
        "while the model reads a text: how much each of its columns matters.",
        groups,
        2,
        notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code;
    if (!args.file) return options_wrong(&line, "no text: name one with -f FILE");
    if (!args.out) return options_wrong(&line, "no file to write: name one with -o FILE");
    struct tlm_model *m;
    struct tlm_error err;
    if ((code = common_open_model(&line, &args.model, false, &m)) != OPTIONS_GO) return code;
    common_catch_interrupt();
    code = run(m, &args, &err) ? common_failed(&line, &err) : EXIT_DONE;
    tlm_model_close(m);
    return common_finish_output(&line, code);
}
