// cli/eval_types.c -- tinylm eval types: what each type of weights costs a model, in one table.
//
// The model is quantized to a file in $TMPDIR that loses its name as soon as it is open, and measured beside the model as it is.
#include "cli/eval_types.h"

#include <inttypes.h>
#include <string.h>

#include "cli/eval_text.h"

struct types_args {
    struct model_args model;
    struct session_args session;
    const char *file, *types, *methods, *calibration, *sums, *format, *plot;
    int32_t chunks, calibration_chunks;
};

static const char *const formats[] = {"md", "json", NULL};

static const struct option options[] = {
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct types_args, file),
     .help = "the text, '-' for standard input. Default: none."},
    {"--types", "LIST", OPTION_STRING, offsetof(struct types_args, types),
     .help = "mixes of types, joined by commas. Default: Q8_0,Q6_K,Q5_K_M,Q5_K_S,Q4_K_M,Q4_K_S,IQ4_XS,Q4_0,"
             "Q3_K_L,Q3_K_M,Q3_K_S,Q2_K."},
    {"--methods", "LIST", OPTION_STRING, offsetof(struct types_args, methods),
     .help =
         "rtn (each number to the nearest level), imatrix (the same by weights of importance), gptq, awq: "
         "every type by each of them. Default: rtn."},
    {"--imatrix", "FILE", OPTION_STRING, offsetof(struct types_args, sums),
     .help = "the weights of importance for imatrix. Default: none."},
    {"--calibration", "FILE", OPTION_STRING, offsetof(struct types_args, calibration),
     .help = "the text for gptq and awq, which had better be another than that of -f. Default: none."},
    {"--calibration-chunks", "N", OPTION_INT, offsetof(struct types_args, calibration_chunks), .low = 1,
     .high = INT32_MAX, .help = "chunks of 512 tokens of it. Default: 64."},
    {"--chunks", "N", OPTION_INT, offsetof(struct types_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "windows of the text to look at. Default: all."},
    {"-o, --output", "STYLE", OPTION_CHOICE, offsetof(struct types_args, format), .choices = formats,
     .help = "md or json. Default: md."},
    {"--plot", "FILE.svg", OPTION_STRING, offsetof(struct types_args, plot),
     .help = "a chart of the divergences by bits. Default: none."},
};

static const char notes[] =
    "Bits are those of all tensors by all of their numbers. KL divergence from the model as it is, in nats, "
    "and ratio of\n"
    "perplexities, with standard errors. Speeds are ratios to the model as it is: a prompt of one window and "
    "single\n"
    "tokens, measured in turn. A file of the size of each model stands in $TMPDIR (or /tmp) while it is "
    "measured.\n";

enum { MOST_TYPES = 64, PAIRS = 5, STEPS = 16, CALIBRATION_WINDOW = 512 };
static const double SLICE = 0.1; // seconds, at least, of one side of a pair

struct types_run {
    const struct types_args *args;
    const struct mix *mixes[MOST_TYPES];
    int methods[TYPES_METHODS];
    size_t mix_count, method_count;
    struct types_source source;
    struct tlm_model *base;
    struct scan base_scan;
    struct scan_config config;
    int32_t *tokens;
    struct compare_text text;
    struct logits_file file; // the base's distributions
    struct divergence_token *divergences;
    struct types_row rows[MOST_TYPES * TYPES_METHODS];
    size_t row_count;
};

// ---- speed --------------------------------------------------------------------------------------------

// One run of a prompt of a window, or of single tokens; *seconds receives its time.
static enum tlm_status run_once(struct scan *s, const int32_t *tokens, bool prompt, double *seconds,
                                struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    int32_t most = s->forward.config.max_rows, steps = s->window < STEPS ? s->window : STEPS;
    int32_t count = prompt ? s->window : steps;
    double begin = common_seconds();
    kv_truncate(&s->forward.cache, 0, 0);
    for (int32_t at = 0, n; at < count && !status; at += n) {
        for (n = 0; at + n < count && n < (prompt ? most : 1); n++)
            s->rows[n] = (struct forward_row){tokens[at + n], at + n, 0, at + n + 1 == count || !prompt};
        status = forward_run(&s->forward, s->rows, n, err);
    }
    *seconds = common_seconds() - begin;
    return status;
}

// Seconds a run, of as many as fill a slice.
static enum tlm_status time_slice(struct scan *s, const int32_t *tokens, bool prompt, double *seconds,
                                  struct tlm_error *err)
{
    double all = 0, one;
    int runs = 0;
    for (; all < SLICE; all += one, runs++) {
        enum tlm_status status = run_once(s, tokens, prompt, &one, err);
        if (status) return status;
    }
    *seconds = all / runs;
    return TLM_OK;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// How many times as fast as the base: the median of pairs that ran in turn.
static enum tlm_status times_as_fast(struct types_run *r, struct scan *s, bool prompt, double *times,
                                     struct tlm_error *err)
{
    double ratios[PAIRS], a, b;
    enum tlm_status status = run_once(s, r->text.tokens, prompt, &a, err); // pages and caches warm
    for (int i = 0; i < PAIRS && !status; i++) {
        status = time_slice(&r->base_scan, r->text.tokens, prompt, &a, err);
        if (!status) status = time_slice(s, r->text.tokens, prompt, &b, err);
        ratios[i] = a / b;
        if (!status && common_interrupted()) status = error_set(err, TLM_ERR_CANCELLED, "stopped");
    }
    if (status) return status;
    qsort(ratios, PAIRS, sizeof *ratios, rising);
    *times = ratios[PAIRS / 2];
    return TLM_OK;
}

// ---- a line -------------------------------------------------------------------------------------------

static void weigh(struct types_row *row, const struct tlm_model *m)
{
    row->bytes = tlm_model_bytes(m);
    row->bits = 8 * (double)row->bytes / (double)tlm_model_parameters(m);
}

static enum tlm_status measure_type(struct types_run *r, const struct mix *mix, int method,
                                    struct tlm_error *err)
{
    char name[48];
    struct types_row *row = &r->rows[r->row_count];
    struct tlm_model *model = NULL;
    struct scan scan = {0};
    snprintf(name, sizeof name, "%s %s", mix_title(mix), types_methods[method]);
    enum tlm_status status = types_open(&model, &r->source, method, mix, err);
    if (!status) status = scan_open(&scan, model, &r->config, err);
    if (!status)
        status = compare_run(&scan, NULL, &r->file, &r->text, r->divergences, eval_progress, name, err);
    if (!status)
        status =
            divergence_summarize(&row->d, r->divergences, r->text.count * scan_counted(r->text.window), err);
    if (!status) status = times_as_fast(r, &scan, true, &row->prompt, err);
    if (!status) status = times_as_fast(r, &scan, false, &row->generation, err);
    if (!status) {
        row->type = mix_title(mix);
        row->method = method;
        weigh(row, model);
        r->row_count++;
    }
    scan_close(&scan);
    tlm_model_close(model);
    return status;
}

static void print_md(const struct types_run *r)
{
    char size[16];
    struct types_row base = {0};
    const struct divergence *first = &r->rows[0].d;
    weigh(&base, r->base);
    printf("| %" PRId64
           " tokens | bits | size | perplexity | ratio | KL divergence | same best token | prompt | "
           "generation |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
           first->tokens);
    printf("| %s | %.3f | %s | %.4f | | | | 1 | 1 |\n", tlm_model_description(r->base), base.bits,
           common_human_bytes(base.bytes, size, sizeof size), first->perplexity_base.value);
    for (size_t i = 0; i < r->row_count; i++) {
        const struct types_row *row = &r->rows[i];
        const struct divergence *d = &row->d;
        printf(
            "| %s%s%s | %.3f | %s | %.4f | %.5f +- %.5f | %.6f +- %.6f | %.2f%% +- %.2f%% | %.2f | %.2f |\n",
            row->type, row->method ? " " : "", row->method ? types_methods[row->method] : "", row->bits,
            common_human_bytes(row->bytes, size, sizeof size), d->perplexity.value, d->ratio.value,
            d->ratio.error, d->kl.value, d->kl.error, 100 * d->same_top.value, 100 * d->same_top.error,
            row->prompt, row->generation);
    }
}

static void print_json(const struct types_run *r)
{
    for (size_t i = 0; i < r->row_count; i++) {
        const struct types_row *row = &r->rows[i];
        printf("%s\n  {\"type\": \"%s\", \"method\": \"%s\", \"bits\": %.6f, \"bytes\": %" PRIu64
               ", \"prompt\": %.4f, \"generation\": %.4f, ",
               i ? "," : "[", row->type, types_methods[row->method], row->bits, row->bytes, row->prompt,
               row->generation);
        eval_json_divergence(&row->d);
        putchar('}');
    }
    puts("\n]");
}

// ---- the command --------------------------------------------------------------------------------------

static enum tlm_status open_base(struct types_run *r, struct tlm_error *err)
{
    const struct session_args *s = &r->args->session;
    char path[512], name[] = "base";
    r->config = (struct scan_config){.window = s->context,
                                     .batch = s->batch,
                                     .threads = s->threads,
                                     .kv_type_k = s->kv_type_k,
                                     .kv_type_v = s->kv_type_v};
    enum tlm_status status =
        eval_read_windows(r->base, r->args->file, s->context, r->args->chunks, &r->tokens, &r->text, err);
    if (status) return status;
    size_t count = (size_t)(r->text.count * scan_counted(s->context));
    if (!(r->divergences = malloc(count * sizeof *r->divergences)))
        return error_set(err, TLM_ERR_MEMORY, "no memory for the divergences of %zu tokens", count);
    eval_scratch_path(path, sizeof path, "logits");
    status = threads_open(&r->source.threads, s->threads ? s->threads : cpu_count(), err);
    if (!status) status = scan_open(&r->base_scan, r->base, &r->config, err);
    if (!status) status = compare_keep(&r->file, &r->base_scan, &r->text, path, eval_progress, name, err);
    return status;
}

static enum tlm_status run(struct types_run *r, struct tlm_error *err)
{
    enum tlm_status status = open_base(r, err);
    for (size_t i = 0; i < r->mix_count * r->method_count && !status; i++)
        status = measure_type(r, r->mixes[i / r->method_count], r->methods[i % r->method_count], err);
    if (!status) (r->args->format == formats[1] ? print_json : print_md)(r);
    if (!status && r->args->plot)
        status = types_chart_write(r->args->plot, tlm_model_description(r->base), r->rows, r->row_count, err);
    return status;
}

static void close_all(struct types_run *r)
{
    scan_close(&r->base_scan);
    logits_file_close(&r->file);
    threads_close(r->source.threads);
    free(r->divergences);
    free(r->tokens);
    tlm_model_close(r->base);
}

// Names joined by commas.
static int parse_types(const struct command_line *line, struct types_run *r, const char *list)
{
    for (const char *at = list; *at;) {
        char name[32];
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : 0), at);
        const struct mix *mix = mix_find(name);
        if (!mix) return options_wrong(line, "--types: no type is called '%.*s'", (int)length, at);
        if (r->mix_count == MOST_TYPES)
            return options_wrong(line, "--types: expected at most %d types", MOST_TYPES);
        r->mixes[r->mix_count++] = mix;
        at += length + (at[length] == ',');
    }
    return r->mix_count ? OPTIONS_GO : options_wrong(line, "--types: expected a type, found none");
}

static int parse_methods(const struct command_line *line, struct types_run *r)
{
    const struct types_args *args = r->args;
    for (const char *at = args->methods; *at;) {
        size_t length = strcspn(at, ",");
        int m = 0;
        while (m < TYPES_METHODS &&
               (strlen(types_methods[m]) != length || memcmp(types_methods[m], at, length) != 0))
            m++;
        if (m == TYPES_METHODS)
            return options_wrong(line, "--methods: expected rtn, imatrix, gptq or awq, found '%.*s'",
                                 (int)length, at);
        if (!strcmp(types_methods[m], "imatrix") && !args->sums)
            return options_wrong(line, "--methods: imatrix needs a file: --imatrix FILE");
        if (types_method(m)->texts && !args->calibration)
            return options_wrong(line, "--methods: %s needs a text: --calibration FILE", types_methods[m]);
        if (r->method_count == TYPES_METHODS)
            return options_wrong(line, "--methods: expected at most %d methods", TYPES_METHODS);
        r->methods[r->method_count++] = m;
        at += length + (at[length] == ',');
    }
    return r->method_count ? OPTIONS_GO : options_wrong(line, "--methods: expected a method, found none");
}

int eval_types(int argc, char **argv)
{
    struct types_args args = {
        .types = "Q8_0,Q6_K,Q5_K_M,Q5_K_S,Q4_K_M,Q4_K_S,IQ4_XS,Q4_0,Q3_K_L,Q3_K_M,Q3_K_S,Q2_K",
        .methods = "rtn",
        .calibration_chunks = 64,
        .format = formats[0],
        .session.context = EVAL_WINDOW};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          {"Session:", session_options, SESSION_OPTION_COUNT, &args.session},
                                          OPTION_GROUP("Types:", options, &args)};
    const struct command_line line = {
        "eval types",
        "-m MODEL -f TEXT [--types LIST] [OPTION ...]",
        "Measures what each type of weights costs a model: bits, divergence, speed.",
        groups,
        3,
        notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code;
    if (!args.file) return options_wrong(&line, "no text: name one with -f FILE");
    code = eval_check_window(&line, args.session.context);
    if (code != OPTIONS_GO) return code;
    struct types_run *r = calloc(1, sizeof *r);
    struct tlm_error err;
    if (!r) {
        error_set(&err, TLM_ERR_MEMORY, "no memory to begin");
        return common_failed(&line, &err);
    }
    r->args = &args;
    r->source = (struct types_source){.model = args.model,
                                      .method = {.sums = args.sums,
                                                 .text = args.calibration,
                                                 .context = CALIBRATION_WINDOW,
                                                 .chunks = args.calibration_chunks}};
    code = parse_types(&line, r, args.types);
    if (code == OPTIONS_GO) code = parse_methods(&line, r);
    if (code == OPTIONS_GO) code = common_open_model(&line, &args.model, false, &r->base);
    if (code == OPTIONS_GO) {
        common_catch_interrupt();
        code = run(r, &err) ? common_failed(&line, &err) : EXIT_DONE;
    }
    close_all(r);
    free(r);
    return common_finish_output(&line, code);
}
