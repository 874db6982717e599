#include "cli/quantize_method.h"

#include <inttypes.h>
#include <unistd.h>

#include "cli/calibration.h"
#include "cli/common.h"
#include "models/hf.h"

static const char *const names[] = {"rtn", "gptq", "awq", NULL};

const struct option method_options[METHOD_OPTION_COUNT] = {
    {"--method", "NAME", OPTION_CHOICE, offsetof(struct method_args, name), .choices = names,
     .help = "rtn: each number to the nearest level, scales by search; gptq: one column after the other, "
             "those behind making "
             "up for it, by what goes into the matrix while the model reads a text; awq: rtn, with the "
             "columns that have much "
             "going into them scaled up, and what goes into them down. Default: rtn."},
    {"--calibration", "FILE", OPTION_STRING, offsetof(struct method_args, text),
     .help = "the text for --method gptq or awq, or --static-activations, '-' for standard input. Default: "
             "none."},
    {"-c, --ctx-size", "N", OPTION_INT, offsetof(struct method_args, context), .low = 1, .high = 65536,
     .help = "tokens of a chunk of that text. Default: 512."},
    {"--calibration-chunks", "N", OPTION_INT, offsetof(struct method_args, chunks), .low = 1,
     .high = INT32_MAX, .help = "chunks of it, evenly spread. Default: 64."},
    {"--imatrix", "FILE", OPTION_STRING, offsetof(struct method_args, sums),
     .help = "what 'tinylm imatrix' or llama.cpp wrote: --method rtn chooses scales by how much each column "
             "matters. Default: "
             "none."},
    {"--allow-nonfinite", NULL, OPTION_FLAG, offsetof(struct method_args, allow_nonfinite),
     .help =
         "keep infinities and NaNs where the type has them, instead of refusing the model. Default: off."},
    {"--static-activations", NULL, OPTION_FLAG, offsetof(struct method_args, static_activations),
     .help = "find out over the text how large the inputs of each matrix are and keep it in the file: they "
             "become whole "
             "numbers by that, and not by the largest number of each block. Default: off."},
    {"--clip-percentile", "P", OPTION_FLOAT, offsetof(struct method_args, clip), .low = 50, .high = 100,
     .help = "of --static-activations: percent of the numbers that are not cut off. Default: as many as make "
             "the squared error the least."},
};

const char method_notes[] = "--method gptq and awq keep the rows between two layers (chunks x -c x width x 4 "
                            "bytes) and the moments of the widest\n"
                            "matrix's columns (8 bytes times their number squared; of experts 1 GiB, or one "
                            "expert's); gptq also one layer's\n"
                            "matrices in f16, and what it finds waits in a file without a name beside OUT.\n";

// Is the model run over a text?
static bool reads_text(const struct method_args *args)
{
    return quant_method_find(args->name)->texts || args->static_activations;
}

int quantize_method_check(const struct command_line *line, const struct method_args *args)
{
    const struct quant_method *method = quant_method_find(args->name);
    if (method->texts && !args->text)
        return options_wrong(line, "--method %s: name a text with --calibration FILE", args->name);
    if (args->static_activations && !args->text)
        return options_wrong(line, "--static-activations: name a text with --calibration FILE");
    if (args->static_activations && method->scales)
        return options_wrong(line, "--static-activations: --method %s changes what goes into matrices",
                             args->name);
    if (args->clip && !args->static_activations)
        return options_wrong(line, "--clip-percentile: only with --static-activations");
    if (!reads_text(args) && args->text)
        return options_wrong(line, "--calibration: --method %s looks at no text", args->name);
    if (method->texts && args->sums)
        return options_wrong(line, "--imatrix: --method %s works out its own", args->name);
    return OPTIONS_GO;
}

enum tlm_status quantize_method_open(struct quantize_method *q, const struct method_args *args,
                                     const char *path, bool dry_run, struct gguf **in, struct tlm_error *err)
{
    *q = (struct quantize_method){.args = args, .method = quant_method_find(args->name)};
    enum tlm_status s = args->sums ? imatrix_read(&q->sums, args->sums, err) : TLM_OK;
    if (!s && (!reads_text(args) || dry_run)) {
        s = model_file_open(in, path, MODEL_ALL, err);
    } else if (!s) {
        s = tlm_model_open(&q->model, path, NULL, err);
        if (!s) *in = q->model->gguf;
    }
    if (s) imatrix_free(&q->sums);
    return s;
}

void quantize_method_close(struct quantize_method *q, struct gguf *in)
{
    if (!q->model) gguf_close(in);
    tlm_model_close(q->model);
    imatrix_free(&q->sums);
    limits_free(&q->limits);
}

bool quantize_method_weighs(const struct quantize_method *q)
{
    return q->args->sums || q->method->texts;
}

static bool show_layers(void *user, int64_t done, int64_t total)
{
    const bool *terminal = user;
    if (*terminal)
        fprintf(stderr, "\rlayer %" PRId64 " of %" PRId64 "%s", done, total,
                done == total ? "\r                        \r" : "");
    return !common_interrupted();
}

static enum tlm_status find_limits(struct quantize_method *q, struct quant_work *w, struct tlm_error *err)
{
    struct layers layers;
    enum tlm_status s = layers_open(&layers, q->model, &w->texts, err);
    if (s) return s;
    s = limits_collect(&q->limits, &layers, q->args->clip, w->progress, w->user, err);
    layers_close(&layers);
    return s;
}

enum tlm_status quantize_method_run(struct quantize_method *q, struct quant_work *w, struct threads *threads,
                                    struct tlm_error *err)
{
    int32_t *tokens = NULL;
    bool terminal = isatty(STDERR_FILENO);
    w->sums = q->args->sums ? &q->sums : NULL;
    w->model = q->model;
    w->texts = (struct layers_config){.rows = q->args->context, .threads = threads};
    w->progress = show_layers;
    w->user = &terminal;
    enum tlm_status s = quant_work_open(w, err);
    if (!s && reads_text(q->args))
        s = calibration_read(q->model, q->args->text, q->args->context, q->args->chunks, &tokens,
                             &w->texts.texts, err);
    w->texts.tokens = tokens;
    if (!s && q->args->static_activations) s = find_limits(q, w, err);
    if (!s) s = q->method->run(w, err);
    if (!s && w->plain)
        fprintf(stderr,
                "tinylm quantize: note: %" PRId64 " of %" PRId64
                " matrices got too few rows of the text, and were rounded without its moments\n",
                w->plain, w->all);
    free(tokens);
    return s;
}
