// cli/bench.c -- tinylm bench: how fast a model reads a prompt and generates, and what share of the machine's
// limit that is.
//
// The machine may be shared, and its limits wander within minutes. So the test runs in slices of SLICE
// seconds or a little more, and behind each the limit is measured for as long, with as many threads: the
// median of the ratios of these pairs counts, and its quartiles say how far to trust it.
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/rng.h"
#include "models/model.h"

static const double SLICE = 0.5; // seconds

struct bench_args {
    struct option_strings models;
    struct option_ints prompt, gen, depth, threads;
    int32_t batch, repeats;
    const char *isa, *type_k, *type_v, *format;
    bool no_warmup;
};

static const char *const kv_choices[] = {"f16", "bf16", "f32", NULL};

static const struct option options[] = {
    {"-m, --model", "FILE", OPTION_STRINGS, offsetof(struct bench_args, models),
     .help = "a GGUF file; may be given several times. Default: none."},
    {"-p, --n-prompt", "LIST", OPTION_INTS, offsetof(struct bench_args, prompt), .low = 0, .high = 1 << 24,
     .help = "prompt tokens, joined by commas; 0 for no such test. Default: 512."},
    {"-n, --n-gen", "LIST", OPTION_INTS, offsetof(struct bench_args, gen), .low = 0, .high = 1 << 24,
     .help = "tokens to generate, likewise. Default: 128."},
    {"-d, --n-depth", "LIST", OPTION_INTS, offsetof(struct bench_args, depth), .low = 0, .high = 1 << 24,
     .help = "tokens that the context holds before a test begins. Default: 0."},
    {"-t, --threads", "LIST", OPTION_INTS, offsetof(struct bench_args, threads), .low = 1, .high = 1024,
     .help = "threads. Default: the processors this process may run on."},
    {"-b, --batch-size", "N", OPTION_INT, offsetof(struct bench_args, batch), .low = 1, .high = 16384,
     .help = "prompt tokens that one pass over the weights takes. Default: 512."},
    {"-r, --repetitions", "N", OPTION_INT, offsetof(struct bench_args, repeats), .low = 1, .high = 10000,
     .help = "times each test is run, and pairs at least. Default: 5."},
    {"-ctk, --cache-type-k", "TYPE", OPTION_CHOICE, offsetof(struct bench_args, type_k),
     .choices = kv_choices, .help = "type of cached keys: f16, bf16, f32. Default: f16."},
    {"-ctv, --cache-type-v", "TYPE", OPTION_CHOICE, offsetof(struct bench_args, type_v),
     .choices = kv_choices, .help = "type of cached values, likewise. Default: f16."},
    {"--isa", "NAME", OPTION_STRING, offsetof(struct bench_args, isa),
     .help = "instruction sets that kernels and limits use: auto, ref, avx2, avx512, avx512-vnni, "
             "avx512-bf16. Default: "
             "auto."},
    {"-o, --output", "FORMAT", OPTION_CHOICE, offsetof(struct bench_args, format), .choices = bench_formats,
     .help = "md (a table; memory on standard error), json, jsonl or csv. Default: md."},
    {"--no-warmup", NULL, OPTION_FLAG, offsetof(struct bench_args, no_warmup),
     .help = "measure at once. Default: the prompt, or one token, goes before the runs that are measured."},
};

static const char notes[] = "pp is the prompt in one go, tg generates token by token; t/s is mean and "
                            "standard deviation of the runs.\n"
                            "rate: a generated token reads all matrices and the cached keys and values; a "
                            "prompt's operations are two a\n"
                            "weight and row, and attention's. limit: what as many threads read or compute at "
                            "most, measured in turn.\n"
                            "share: the median of rate / limit over all pairs, with the quartiles.\n";

// ---- the work of a test -------------------------------------------------------------------------------

static double elements(const struct tensor *t)
{
    return t ? (double)tensor_elements(t) : 0;
}

// Bytes that a step of generation reads with `length` tokens in the context, its own among them.
static double step_bytes(const struct tlm_model *m, const struct bench_result *r, int64_t length)
{
    const struct hparams *h = &m->hparams;
    double weights = (double)m->weight_bytes;
    // Of the embedding it reads a row, unless the output is tied to it.
    if (m->weights.out) weights -= (double)tensor_bytes(m->weights.embed);
    double token = (double)(h->head_dim * dtype_traits[dtype_parse(r->type_k)].block_bytes +
                            h->value_dim * dtype_traits[dtype_parse(r->type_v)].block_bytes);
    return weights + (double)(h->layers * h->kv_heads * length) * token;
}

// Operations of a prompt of n tokens behind `depth`. All rows pass through the matrices, but from the last
// layer's attention on only the one whose logits are wanted; a row's attention multiplies with the keys and
// values up to its own.
static double prompt_operations(const struct tlm_model *m, int64_t n, int64_t depth)
{
    const struct hparams *h = &m->hparams;
    double rows = (double)n, sum = elements(m->head.weight);
    for (int64_t l = 0; l < h->layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        double behind = elements(w->wo) + elements(w->gate) + elements(w->up) + elements(w->down);
        sum += rows * (elements(w->wq) + elements(w->wk) + elements(w->wv));
        sum += l + 1 < h->layers ? rows * behind : behind;
    }
    double pairs = rows * (double)depth + rows * (rows + 1) / 2; // of a row and a key
    return 2 * (sum + (double)(h->layers * h->heads * (h->head_dim + h->value_dim)) * pairs);
}

// The units that most of a prompt's work runs on: those that the kernel of the largest matrices uses.
static enum limit prompt_limit(const struct tlm_model *m)
{
    return m->kernels.matmul[m->weights.layer->up->type].x_type == DTYPE_BF16 ? LIMIT_BF16 : LIMIT_FMA;
}

// ---- measuring ----------------------------------------------------------------------------------------

struct bench {
    const struct tlm_model *model;
    struct tlm_session *session;
    struct limits *limits;
    int32_t *tokens; // [depth + prompt + gen]
    struct bench_result *result;
    double slice_work, slice_seconds; // since the last pair
};

// Anonymous and file pages that this process holds, bytes.
static void sample_memory(struct bench_result *r)
{
    char row[256];
    unsigned long long kib;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(row, sizeof row, f)) {
        if (sscanf(row, "RssAnon: %llu kB", &kib) == 1 && kib << 10 > r->anonymous_bytes)
            r->anonymous_bytes = kib << 10;
        if (sscanf(row, "RssFile: %llu kB", &kib) == 1 && kib << 10 > r->file_bytes)
            r->file_bytes = kib << 10;
    }
    if (f) fclose(f);
}

// Counts work of the test; where that fills a slice, measures the limit and notes the pair.
static enum tlm_status add_work(struct bench *b, double work, double seconds, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    b->slice_work += work;
    b->slice_seconds += seconds;
    if (b->slice_seconds < SLICE) return TLM_OK;
    sample_memory(r);
    double rate = b->slice_work / b->slice_seconds, bound;
    enum tlm_status status = limits_measure(b->limits, r->limit, SLICE, &bound, err);
    if (status) return status;
    r->work += b->slice_work;
    r->seconds += b->slice_seconds;
    b->slice_work = b->slice_seconds = 0;
    if (!(status = series_add(&r->rate, rate, err)) && !(status = series_add(&r->bound, bound, err)))
        status = series_add(&r->share, rate / bound, err);
    return status;
}

// Runs the test once; *seconds receives the time that it took, the limit's apart. The first token behind the
// depth is another than last time, so the session keeps the tokens before it and nothing of the last run.
static enum tlm_status run_once(struct bench *b, double *seconds, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    int32_t n = r->n_prompt ? r->n_prompt : r->n_gen, depth = r->n_depth;
    b->tokens[depth] = (b->tokens[depth] + 1) % tlm_model_vocab_size(b->model);
    enum tlm_status status = TLM_OK;
    *seconds = 0;
    // A prompt is one pass over n tokens, generating n passes over one.
    for (int32_t done = r->n_prompt ? n : 1; done <= n && !status; done++) {
        double begin = common_seconds();
        if ((status = tlm_session_sync(b->session, b->tokens, (size_t)depth + (size_t)done, err)))
            return status;
        double taken = common_seconds() - begin;
        *seconds += taken;
        double work =
            r->n_prompt ? prompt_operations(b->model, n, depth) : step_bytes(b->model, r, depth + done);
        status = add_work(b, work, taken, err);
    }
    return status;
}

// A sample: runs until a slice is filled, so that there is a pair in it.
static enum tlm_status take_sample(struct bench *b, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    double all = 0, seconds, runs = 0;
    enum tlm_status status;
    do {
        if ((status = run_once(b, &seconds, err))) return status;
        all += seconds;
        runs++;
    } while (all < SLICE);
    if ((status = series_add(&r->samples_ns, 1e9 * all / runs, err))) return status;
    return series_add(&r->samples_ts, (r->n_prompt + r->n_gen) * runs / all, err);
}

static enum tlm_status run_test(struct bench *b, const struct bench_args *args, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    size_t count = (size_t)r->n_depth + (size_t)r->n_prompt + (size_t)r->n_gen;
    int32_t vocab = tlm_model_vocab_size(b->model);
    if (vocab < 2)
        return error_set(err, TLM_ERR_UNSUPPORTED, "expected a vocabulary of 2 tokens at least, found %d",
                         vocab);
    b->tokens = malloc(count * sizeof *b->tokens);
    if (!b->tokens) return error_set(err, TLM_ERR_MEMORY, "no memory for %zu tokens", count);
    for (size_t i = 0; i < count; i++) b->tokens[i] = (int32_t)(rng_uniform(1, 0, i) * vocab);
    // What stands before the test, and with it the prompt, or a first step, which reads all weights.
    size_t before = (size_t)r->n_depth;
    if (!args->no_warmup) before += r->n_prompt ? (size_t)r->n_prompt : 1;
    enum tlm_status status = before ? tlm_session_sync(b->session, b->tokens, before, err) : TLM_OK;
    for (int32_t i = 0; i < args->repeats && !status; i++) status = take_sample(b, err);
    sample_memory(r);
    return status;
}

// ---- the command --------------------------------------------------------------------------------------

struct plan {
    const struct bench_args *args;
    size_t results; // reported so far
};

// Opens what one test needs, runs it and reports it. Errors: all of the session's and the limits'.
static enum tlm_status bench_test(struct plan *p, const struct tlm_model *model, struct bench_result *r,
                                  struct tlm_error *err)
{
    const struct bench_args *args = p->args;
    struct bench b = {.model = model, .result = r};
    time_t now = time(NULL);
    struct tm utc;
    strftime(r->test_time, sizeof r->test_time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    struct tlm_session_options session = {
        .context = r->n_depth + r->n_prompt + r->n_gen,
        .threads = r->n_threads,
        .batch = args->batch,
        .kv_type_k = args->type_k,
        .kv_type_v = args->type_v,
    };
    enum tlm_status status = tlm_session_open(&b.session, model, &session, err);
    if (!status) {
        struct tlm_session_info info = tlm_session_info(b.session);
        r->n_threads = info.threads;
        r->kv_bytes = info.kv_bytes;
        status = limits_open(&b.limits, model->isa, info.threads, err);
    }
    if (!status) status = run_test(&b, args, err);
    if (!status) bench_report(args->format, r, p->results++);
    limits_close(b.limits);
    tlm_session_close(b.session);
    free(b.tokens);
    return status;
}

// All tests of one model on so many threads (0: the default) behind a depth.
static enum tlm_status bench_depth(struct plan *p, const struct tlm_model *model, const char *path,
                                   int32_t threads, int32_t depth, struct tlm_error *err)
{
    const struct bench_args *args = p->args;
    enum tlm_status status = TLM_OK;
    size_t tests = args->prompt.count + args->gen.count;
    for (size_t i = 0; i < tests && !status && !common_output_broken(); i++) {
        bool prompt = i < args->prompt.count;
        int32_t n = prompt ? args->prompt.items[i] : args->gen.items[i - args->prompt.count];
        if (!n) continue;
        struct bench_result r = {
            .model_filename = path,
            .model_type = tlm_model_description(model),
            .isa = tlm_model_isa(model),
            .type_k = model->isa == ISA_F64 ? "f64" : args->type_k,
            .type_v = model->isa == ISA_F64 ? "f64" : args->type_v,
            .model_size = tlm_model_bytes(model),
            .model_n_params = tlm_model_parameters(model),
            .n_batch = args->batch,
            .n_threads = threads,
            .n_prompt = prompt ? n : 0,
            .n_gen = prompt ? 0 : n,
            .n_depth = depth,
            .limit = prompt ? prompt_limit(model) : LIMIT_READ,
        };
        status = bench_test(p, model, &r, err);
        bench_result_free(&r);
    }
    return status;
}

static enum tlm_status bench_model(struct plan *p, const char *path, struct tlm_error *err)
{
    const struct bench_args *args = p->args;
    struct tlm_model_options how = {.isa = args->isa};
    struct tlm_model *model;
    enum tlm_status status = tlm_model_open(&model, path, &how, err);
    if (status) return status;
    for (size_t t = 0; t < args->threads.count && !status; t++)
        for (size_t d = 0; d < args->depth.count && !status; d++)
            status = bench_depth(p, model, path, args->threads.items[t], args->depth.items[d], err);
    if (status) error_prefix(err, "%s", path);
    tlm_model_close(model);
    return status;
}

int command_bench(int argc, char **argv)
{
    struct bench_args args = {
        .prompt = {1, {512}},
        .gen = {1, {128}},
        .depth = {1, {0}},
        .threads = {1, {0}},
        .batch = 512,
        .repeats = 5,
        .type_k = kv_choices[0],
        .type_v = kv_choices[0],
        .format = bench_formats[BENCH_MD],
    };
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"bench",
                                      "-m MODEL [OPTION ...]",
                                      "Measures the speed of reading a prompt and of generating, beside the "
                                      "machine's limits, which are measured in turn.",
                                      groups,
                                      1,
                                      notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if (!args.models.count) return options_wrong(&line, "no model: expected -m FILE");
    int32_t tokens = 0;
    for (size_t i = 0; i < args.prompt.count; i++) tokens |= args.prompt.items[i];
    for (size_t i = 0; i < args.gen.count; i++) tokens |= args.gen.items[i];
    if (!tokens) return options_wrong(&line, "no test: expected -p or -n above 0");
    struct plan plan = {.args = &args};
    struct tlm_error err;
    enum tlm_status status = TLM_OK;
    for (size_t i = 0; i < args.models.count && !status; i++)
        status = bench_model(&plan, args.models.items[i], &err);
    bench_report_end(args.format, plan.results);
    return common_finish_output(&line, status ? common_failed(&line, &err) : EXIT_DONE);
}
