// cli/bench.c -- tinylm bench: how fast a model reads a prompt and generates, and what share of the machine's
// limit that is.
//
// The machine may be shared, and its limits wander within minutes. So the test runs in slices of SLICE
// seconds or a little more, and behind each the limit is measured for as long, with as many threads: the
// median of the ratios of these pairs counts, and its quartiles say how far to trust it.
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/bench_profile.h"
#include "cli/bench_shape.h"
#include "cli/bench_work.h"
#include "cli/builtin.h"
#include "core/rng.h"
#include "generate/forward.h"
#include "ops/backend.h"

static const double SLICE = 0.5; // seconds

struct bench_args {
    struct option_strings models, types_k, types_v, train;
    struct option_ints prompt, gen, parallel, depth, threads;
    int32_t batch, repeats;
    const char *isa, *format, *plot, *compare, *trace, *shape, *type;
    struct model_args device;
    struct bench_replay replay;
    bool no_warmup, load, cache, profile;
};

static const struct option options[] = {
    {"-m, --model", "FILE", OPTION_STRINGS, offsetof(struct bench_args, models),
     .help =
         "a GGUF file; may be given several times. Default: the model that is built in, " BUILTIN_NAME "."},
    {"--shape", "NAME", OPTION_CHOICE, offsetof(struct bench_args, shape), .choices = bench_shapes,
     .help =
         "instead of a file, a model of that shape with random weights: llama-1b, llama-8b, gpt2-124m, tiny. "
         "Default: none."},
    {"--type", "TYPE", OPTION_STRING, offsetof(struct bench_args, type),
     .help = "type of its matrices, such as Q4_K or Q8_0. Default: BF16."},
    {"-p, --n-prompt", "LIST", OPTION_INTS, offsetof(struct bench_args, prompt), .low = 0, .high = 1 << 24,
     .help = "prompt tokens, joined by commas; 0 for no such test. Default: 512."},
    {"-n, --n-gen", "LIST", OPTION_INTS, offsetof(struct bench_args, gen), .low = 0, .high = 1 << 24,
     .help = "tokens to generate, likewise. Default: 128."},
    {"-npl, --parallel", "LIST", OPTION_INTS, offsetof(struct bench_args, parallel), .low = 1, .high = 256,
     .help = "sequences that generate side by side, a token of each in one pass. Default: 1."},
    {"-d, --n-depth", "LIST", OPTION_INTS, offsetof(struct bench_args, depth), .low = 0, .high = 1 << 24,
     .help = "tokens that the context holds before a test begins. Default: 0."},
    {"-t, --threads", "LIST", OPTION_INTS, offsetof(struct bench_args, threads), .low = 1, .high = 1024,
     .help = "threads. Default: the processors this process may run on."},
    {"-b, --batch-size", "N", OPTION_INT, offsetof(struct bench_args, batch), .low = 1, .high = 16384,
     .help = "prompt tokens that one pass over the weights takes. Default: 512."},
    {"-r, --repetitions", "N", OPTION_INT, offsetof(struct bench_args, repeats), .low = 1, .high = 10000,
     .help = "times each test is run, and pairs at least. Default: 5."},
    {"-ctk, --cache-type-k", "TYPE", OPTION_STRINGS, offsetof(struct bench_args, types_k),
     .help = "type of cached keys: f16, bf16, f32, q8_0, q4_0; may be given several times. Default: f16."},
    {"-ctv, --cache-type-v", "TYPE", OPTION_STRINGS, offsetof(struct bench_args, types_v),
     .help = "type of cached values, likewise; each goes with each type of keys. Default: f16."},
    {"--isa", "NAME", OPTION_STRING, offsetof(struct bench_args, isa),
     .help = "instruction sets that kernels and limits use: auto, ref, avx2, avx-vnni, avx512, "
             "avx512-vnni, avx512-bf16. Default: auto."},
    {"-o, --output", "FORMAT", OPTION_CHOICE, offsetof(struct bench_args, format), .choices = bench_formats,
     .help = "md (a table; memory on standard error), json, jsonl or csv. Default: md."},
    {"--load", NULL, OPTION_FLAG, offsetof(struct bench_args, load),
     .help = "also measures opening the model up to the first token of an 8-token prompt: warm, and cold, "
             "with the file "
             "dropped from the system's cache before. Default: no."},
    {"--cache", NULL, OPTION_FLAG, offsetof(struct bench_args, cache),
     .help = "instead of -p and -n as they are, measures what the cache brings: -p tokens asked again, and "
             "steps behind -d tokens, of one "
             "sequence and of -npl that share them, in turn with doing without. Default: no."},
    {"--train", "BxT", OPTION_STRINGS, offsetof(struct bench_args, train),
     .help = "instead, measures steps of training with AdamW on B sequences of T tokens, in f32 and in bf16, "
             "such as 4x64; may be "
             "given several times. Default: none."},
    {"--profile", NULL, OPTION_FLAG, offsetof(struct bench_args, profile),
     .help = "behind each test, one more run with the time of each op and what it reads and computes a "
             "second, on standard "
             "error. Default: no."},
    {"--trace", "FILE", OPTION_STRING, offsetof(struct bench_args, trace),
     .help = "writes such a run of the last test as trace events, which Chrome and Perfetto show. Default: "
             "none."},
    {"--spec-replay", "FILE", OPTION_STRING, offsetof(struct bench_args, replay.text),
     .help = "also measures speculative decoding: draws -n tokens of this text, whatever the model would "
             "draw, behind what comes "
             "before them, at the full cost of guessing, checking and rolling back, in turn with plain "
             "decoding. Default: none."},
    {"-md, --model-draft", "FILE", OPTION_STRING, offsetof(struct bench_args, replay.draft),
     .help =
         "the model that guesses in --spec-replay. Default: none, guesses are looked up in the text so far."},
    {"--spec-accept", "P", OPTION_FLOAT, offsetof(struct bench_args, replay.accept), .low = 0, .high = 1,
     .help = "the share of that model's guesses that are made right. Default: 0.75."},
    {"--plot", "FILE", OPTION_STRING, offsetof(struct bench_args, plot),
     .help = "writes a chart of all tests as SVG. Default: none."},
    {"--compare", "FILE", OPTION_STRING, offsetof(struct bench_args, compare),
     .help = "holds the shares of the limits against those of an earlier run (-o json): a test whose "
             "quartiles lie wholly "
             "below the old ones is a regression, named on standard error; exit 1. Default: none."},
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

// The units that most of a pass runs on: those that the kernel of most weights uses; of a GPU the bf16 product of cuBLAS.
static enum limit compute_limit(const struct tlm_model *m)
{
    if (m->backend) return LIMIT_BF16;
    switch ((int)m->kernels.matmul[work_main_type(m)].x_type) {
    case DTYPE_BF16: return LIMIT_BF16;
    case DTYPE_Q8_K: return LIMIT_INT8;
    default: return LIMIT_FMA;
    }
}

// ---- measuring ----------------------------------------------------------------------------------------

struct bench {
    const struct tlm_model *model;
    struct forward forward;
    struct forward_row *rows; // [forward.config.max_rows]
    struct limits *limits;    // of the CPU; NULL where something else computes
    struct bench_result *result;
    uint64_t run;                     // counts runs, so that each has other tokens
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

enum tlm_status bench_limit(const struct tlm_model *m, struct limits *limits, enum limit limit,
                            double seconds, double *rate, struct tlm_error *err)
{
    if (!m->backend) return limits_measure(limits, limit, seconds, rate, err);
    if (m->shared) { // each place has its own
        *rate = NAN;
        return TLM_OK;
    }
    const enum backend_limit of_device = limit == LIMIT_READ ? BACKEND_COPY : BACKEND_PRODUCT;
    enum tlm_status status = m->backend->class->measure(m->backend, of_device, rate, err);
    if (status != TLM_ERR_UNSUPPORTED) return status;
    *rate = NAN;
    return TLM_OK;
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
    enum tlm_status status = bench_limit(b->model, b->limits, r->limit, SLICE, &bound, err);
    if (status) return status;
    r->work += b->slice_work;
    r->seconds += b->slice_seconds;
    b->slice_work = b->slice_seconds = 0;
    if (!(status = series_add(&r->rate, rate, err)) && !(status = series_add(&r->bound, bound, err)))
        status = series_add(&r->share, rate / bound, err);
    return status;
}

static int32_t any_token(const struct bench *b, int32_t sequence, int32_t position)
{
    uint64_t stream = b->run << 16 | (uint64_t)sequence;
    return (int32_t)(rng_uniform(1, stream, (uint64_t)position) * b->model->hparams.vocab);
}

// Reads tokens begin .. end of one sequence, in passes of as many as the batch takes; logits for the last.
static enum tlm_status read_tokens(struct bench *b, int32_t sequence, int32_t begin, int32_t end,
                                   struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int32_t at = begin; at < end && !status;) {
        int32_t count = 0;
        for (; at < end && count < b->forward.config.max_rows; at++)
            b->rows[count++] = (struct forward_row){any_token(b, sequence, at), at, sequence, at + 1 == end};
        status = forward_run(&b->forward, b->rows, count, err);
    }
    return status;
}

// One more token of every sequence, all of which hold `length`.
static enum tlm_status step(struct bench *b, int32_t length, struct tlm_error *err)
{
    int32_t n = b->result->n_parallel;
    for (int32_t s = 0; s < n; s++)
        b->rows[s] = (struct forward_row){any_token(b, s, length), length, s, true};
    return forward_run(&b->forward, b->rows, n, err);
}

// All sequences hold the first `depth` tokens again; where windows have dropped some of them, they are read anew.
static enum tlm_status rewind_to(struct bench *b, int32_t depth, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int32_t s = 0; s < b->result->n_parallel && !status; s++)
        status = read_tokens(b, s, kv_truncate(&b->forward.cache, s, depth), depth, err);
    return status;
}

static double step_work(const struct bench *b, int32_t length)
{
    const struct bench_result *r = b->result;
    if (r->limit != LIMIT_READ) return work_operations(b->model, r->n_parallel, 1, length - 1);
    return work_step_bytes(b->model, b->forward.config.type_k, b->forward.config.type_v, r->n_parallel,
                           length);
}

// Runs the test once; *seconds receives the time that it took, the limit's apart.
static enum tlm_status run_once(struct bench *b, double *seconds, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    int32_t depth = r->n_depth;
    enum tlm_status status = rewind_to(b, depth, err);
    *seconds = 0;
    b->run++;
    // A prompt is read in one go, generating is n_gen steps.
    for (int32_t done = 0; done < (r->n_prompt ? 1 : r->n_gen) && !status; done++) {
        double begin = common_seconds();
        status =
            r->n_prompt ? read_tokens(b, 0, depth, depth + r->n_prompt, err) : step(b, depth + done, err);
        double taken = common_seconds() - begin;
        *seconds += taken;
        double work =
            r->n_prompt ? work_operations(b->model, 1, r->n_prompt, depth) : step_work(b, depth + done + 1);
        if (!status) status = add_work(b, work, taken, err);
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
    double tokens = r->n_prompt ? r->n_prompt : (double)r->n_gen * r->n_parallel;
    return series_add(&r->samples_ts, tokens * runs / all, err);
}

// With many sequences a step may be bound by reading or by computing: the one that takes longer is its limit.
static enum tlm_status choose_limit(struct bench *b, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    double read, compute;
    r->limit = LIMIT_READ;
    double bytes = step_work(b, r->n_depth + 1);
    r->limit = compute_limit(b->model);
    double operations = step_work(b, r->n_depth + 1);
    enum tlm_status status;
    if ((status = bench_limit(b->model, b->limits, LIMIT_READ, SLICE, &read, err)) ||
        (status = bench_limit(b->model, b->limits, r->limit, SLICE, &compute, err)))
        return status;
    if (!(bytes / read < operations / compute)) r->limit = LIMIT_READ;
    return TLM_OK;
}

// One more run, watched: behind the runs that are measured, so that it costs them nothing.
static enum tlm_status profile(struct bench *b, const struct bench_args *args, struct tlm_error *err)
{
    struct bench_profile *p;
    enum tlm_status status = bench_profile_open(&p, &b->forward, err);
    if (status) return status;
    double seconds;
    char name[48];
    if (!(status = run_once(b, &seconds, err)) && args->profile)
        bench_profile_report(p, bench_test_name(b->result, name, sizeof name), seconds);
    if (!status && args->trace) status = bench_profile_trace(p, args->trace, err);
    bench_profile_close(p);
    return status;
}

static enum tlm_status run_test(struct bench *b, const struct bench_args *args, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    enum tlm_status status = TLM_OK;
    if (r->n_parallel > 1 && (status = choose_limit(b, err))) return status;
    // What stands before the test.
    for (int32_t s = 0; s < r->n_parallel && !status; s++) status = read_tokens(b, s, 0, r->n_depth, err);
    // A prompt, or a first step, which reads all weights.
    if (!status && !args->no_warmup)
        status = r->n_prompt ? read_tokens(b, 0, r->n_depth, r->n_depth + r->n_prompt, err)
                             : step(b, r->n_depth, err);
    for (int32_t i = 0; i < args->repeats && !status; i++) status = take_sample(b, err);
    sample_memory(r);
    return status;
}

// ---- the command --------------------------------------------------------------------------------------

struct plan {
    const struct command_line *line;
    const struct bench_args *args;
    struct bench_baseline *baseline; // what --compare names; NULL: none
    struct bench_plot *plot;         // NULL: none
    size_t results;                  // reported so far
    bool told;                       // the device's note
};

static enum tlm_status cache_type(const struct tlm_model *m, const char *name, const char *option,
                                  enum dtype *type, struct tlm_error *err)
{
    int parsed = dtype_parse(name);
    if (parsed < 0) return error_set(err, TLM_ERR_ARGUMENT, "%s: no type is called '%s'", option, name);
    *type = m->real == DTYPE_F64 ? DTYPE_F64 : (enum dtype)parsed; // the oracle rounds nothing
    return TLM_OK;
}

static enum tlm_status open_forward(struct bench *b, struct tlm_error *err)
{
    struct bench_result *r = b->result;
    int32_t most = r->n_prompt ? r->n_batch : r->n_parallel > r->n_depth ? r->n_parallel : r->n_depth;
    struct forward_config config = {
        .context = r->n_depth + r->n_prompt + r->n_gen,
        .sequences = r->n_parallel,
        .max_rows = most < r->n_batch ? most : r->n_batch,
        .max_outputs = r->n_parallel,
        .threads = r->n_threads,
    };
    if (config.max_rows < r->n_parallel) config.max_rows = r->n_parallel;
    enum tlm_status status;
    if ((status = cache_type(b->model, r->type_k, "-ctk", &config.type_k, err)) ||
        (status = cache_type(b->model, r->type_v, "-ctv", &config.type_v, err)))
        return status;
    b->rows = calloc((size_t)config.max_rows, sizeof *b->rows);
    if (!b->rows) return error_set(err, TLM_ERR_MEMORY, "no memory for %d rows", config.max_rows);
    if ((status = forward_open(&b->forward, b->model, &config, err))) return status;
    r->kv_bytes = kv_bytes(&b->forward.cache);
    return TLM_OK;
}

static void finish_test(struct plan *p, const struct bench_result *r)
{
    bench_report(p->args->format, r, p->results++);
    if (p->plot) bench_plot_add(p->plot, r);
    if (p->baseline) bench_baseline_compare(p->baseline, r);
}

// What the device does without, said once.
static void tell_note(struct plan *p, const struct tlm_model *model)
{
    char made[160];
    if (p->told || !model->backend) return;
    model->backend->class->made(model->backend, made, sizeof made);
    if (*made) fprintf(stderr, "tinylm bench: %s\n", made);
    if (*model->backend->note) fprintf(stderr, "tinylm bench: %s\n", model->backend->note);
    p->told = *made || *model->backend->note;
}

// Opens what one test needs, runs it and reports it. Errors: all of the pass's and the limits'.
static enum tlm_status bench_test(struct plan *p, const struct tlm_model *model, struct bench_result *r,
                                  struct tlm_error *err)
{
    struct bench b = {.model = model, .result = r};
    time_t now = time(NULL);
    struct tm utc;
    strftime(r->test_time, sizeof r->test_time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    enum tlm_status status = open_forward(&b, err);
    if (!status && !model->backend) status = limits_open(&b.limits, model->isa, r->n_threads, err);
    if (!status) tell_note(p, model);
    if (!status) status = run_test(&b, p->args, err);
    if (!status) finish_test(p, r);
    if (!status && (p->args->profile || p->args->trace)) status = profile(&b, p->args, err);
    limits_close(b.limits);
    forward_close(&b.forward);
    free(b.rows);
    return status;
}

static struct bench_result new_result(const struct plan *p, const struct tlm_model *model, const char *path)
{
    return (struct bench_result){
        .model_filename = path,
        .model_type = tlm_model_description(model),
        .isa = tlm_model_isa(model),
        .device = model->backend ? model->backend->device : NULL,
        .model_size = tlm_model_bytes(model),
        .model_n_params = tlm_model_parameters(model),
        .n_batch = p->args->batch,
        .n_parallel = 1,
    };
}

// All prompts, then all numbers of tokens to generate with all numbers of sequences.
static enum tlm_status bench_tests(struct plan *p, const struct tlm_model *model,
                                   const struct bench_result *common, struct tlm_error *err)
{
    const struct bench_args *args = p->args;
    enum tlm_status status = TLM_OK;
    size_t tests = args->prompt.count + args->gen.count * args->parallel.count;
    for (size_t i = 0; i < tests && !status && !common_output_broken(); i++) {
        bool prompt = i < args->prompt.count;
        size_t at = i - args->prompt.count;
        struct bench_result r = *common;
        if (prompt) {
            r.n_prompt = args->prompt.items[i];
            r.limit = compute_limit(model);
        } else {
            r.n_gen = args->gen.items[at / args->parallel.count];
            r.n_parallel = args->parallel.items[at % args->parallel.count];
            r.limit = LIMIT_READ;
        }
        if (r.n_prompt + r.n_gen) status = bench_test(p, model, &r, err);
        bench_result_free(&r);
    }
    return status;
}

static enum tlm_status bench_trainings(struct plan *p, const struct tlm_model *model,
                                       const struct bench_result *common, struct tlm_error *err)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    enum tlm_status status = TLM_OK;
    if (model->shared) return error_set(err, TLM_ERR_UNSUPPORTED, "--train: expected a model in one place");
    for (size_t i = 0; i < 2 * p->args->train.count && !status; i++) {
        const char *text = p->args->train.items[i / 2];
        struct bench_train how = {.type = types[i % 2]};
        int end = 0;
        if (sscanf(text, "%dx%d%n", &how.sequences, &how.context, &end) != 2 || text[end] ||
            how.sequences < 1 || how.context < 1 || how.context > model->hparams.context ||
            how.sequences > (1 << 20) / how.context)
            return error_set(
                err, TLM_ERR_ARGUMENT,
                "--train: expected sequences x tokens, of at most %lld, such as 4x64, found '%s'",
                (long long)model->hparams.context, text);
        status = bench_train(p->args->format, model, &how, common, p->args->repeats, &p->results, err);
    }
    return status;
}

// All threads, depths and types of cached keys and values.
static enum tlm_status bench_model(struct plan *p, const char *path, struct tlm_error *err)
{
    const struct bench_args *args = p->args;
    const char *name = path ? path : BUILTIN_NAME;
    struct tlm_model_options how = common_model_options(&args->device);
    how.isa = args->isa;
    struct tlm_model *model;
    struct arena memory = {0};
    enum tlm_status status = TLM_OK;
    if (args->load && (status = bench_load(args->format, path, args->isa, args->repeats, &p->results, err)))
        return status;
    status = args->shape
                 ? bench_shape_open(&model, &memory, path, args->type,
                                    args->train.count > 0 || how.gpu_layers || how.tensor_placement_count,
                                    &how, err)
                 : common_open_path(&model, path, &how, err);
    if (status) {
        arena_free(&memory);
        return status;
    }
    common_say_backend(p->line, model, &how);
    common_make_kernels(model);
    if (model->hparams.vocab < 2)
        status = error_set(err, TLM_ERR_UNSUPPORTED, "expected a vocabulary of 2 tokens at least, found %lld",
                           (long long)model->hparams.vocab);
    size_t kinds = args->types_k.count * args->types_v.count,
           grid = args->threads.count * args->depth.count * kinds;
    for (size_t i = 0; i < grid && !status; i++) {
        struct bench_result r = new_result(p, model, name);
        int32_t threads = args->threads.items[i / kinds / args->depth.count];
        r.n_threads = threads ? threads : cpu_count();
        r.n_depth = args->depth.items[i / kinds % args->depth.count];
        r.type_k = args->types_k.items[i % kinds / args->types_v.count];
        r.type_v = args->types_v.items[i % args->types_v.count];
        if (args->train.count) {
            status = bench_trainings(p, model, &r, err);
            continue;
        }
        if (args->cache) {
            r.n_prompt = args->prompt.items[0];
            status = bench_cache(args->format, model, &r, args->parallel.items[0], args->repeats, &p->results,
                                 err);
            continue;
        }
        status = bench_tests(p, model, &r, err);
        struct bench_replay replay = args->replay;
        replay.most = args->gen.items[0] ? args->gen.items[0] : 128;
        if (!status && replay.text)
            status = bench_replay(args->format, model, &replay, &r, args->repeats, &p->results, err);
    }
    if (status) error_prefix(err, "%s", name);
    tlm_model_close(model);
    arena_free(&memory);
    return status;
}

static bool any(const struct option_ints *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i]) return true;
    return false;
}

int command_bench(int argc, char **argv)
{
    struct bench_args args = {
        .prompt = {1, {512}},
        .gen = {1, {128}},
        .parallel = {1, {1}},
        .depth = {1, {0}},
        .threads = {1, {0}},
        .batch = 512,
        .repeats = 5,
        .replay = {.accept = 0.75f},
        .format = bench_formats[BENCH_MD],
        .type = "BF16",
    };
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args),
                                          OPTION_GROUP("Device:", device_options, &args.device)};
    const struct command_line line = {"bench",
                                      "-m MODEL | --shape NAME [OPTION ...]",
                                      "Measures the speed of reading a prompt and of generating, beside the "
                                      "machine's limits, which are measured in turn.",
                                      groups,
                                      2,
                                      notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if (args.shape && (args.models.count || args.load || args.replay.text))
        return options_wrong(&line, "--shape: expected neither -m nor --load nor --spec-replay beside it");
    if (args.load && !args.models.count) return options_wrong(&line, "--load: expected -m FILE beside it");
    if (!args.models.count) args.models = (struct option_strings){1, {args.shape}}; // NULL: built in
    if (!any(&args.prompt) && !any(&args.gen) && !args.load && !args.replay.text)
        return options_wrong(&line, "no test: expected -p or -n above 0");
    if (!args.types_k.count) args.types_k = (struct option_strings){1, {"f16"}};
    if (!args.types_v.count) args.types_v = (struct option_strings){1, {"f16"}};
    struct plan plan = {.line = &line, .args = &args};
    struct tlm_error err;
    enum tlm_status status = TLM_OK;
    if (args.compare) status = bench_baseline_open(&plan.baseline, args.compare, &err);
    if (args.plot && !status) status = bench_plot_open(&plan.plot, args.plot, &err);
    for (size_t i = 0; i < args.models.count && !status; i++)
        status = bench_model(&plan, args.models.items[i], &err);
    bench_report_end(args.format, plan.results);
    if (plan.plot && !status) status = bench_plot_write(plan.plot, &err);
    code = status ? common_failed(&line, &err) : EXIT_DONE;
    if (plan.baseline && !bench_baseline_close(plan.baseline, !status) && !status) code = EXIT_FAILED;
    bench_plot_close(plan.plot);
    return common_finish_output(&line, code);
}
