// cli/bench.h -- one test of `tinylm bench`: what was run, what was measured; and how it is written down.
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/common.h"
#include "cli/limits.h"
#include "core/dtype.h"

struct series { // numbers in the order in which they were measured
    double *items;
    size_t count, capacity;
};

// Errors: MEMORY.
enum tlm_status series_add(struct series *s, double x, struct tlm_error *err);
double series_mean(const struct series *s);
double series_deviation(const struct series *s); // of a sample (n - 1); 0 for fewer than two
double series_quantile(const struct series *s,
                       double share); // 0.5: the median, linear between neighbours; 0 if empty

struct bench_result {
    const char *model_filename, *model_type, *isa, *type_k, *type_v;
    const char *device; // what computes in the CPU's place, in words; NULL: the CPU
    uint64_t model_size, model_n_params;
    int32_t n_batch, n_threads, n_prompt, n_gen, n_depth; // of n_prompt and n_gen one is 0
    int32_t n_parallel;                                   // sequences that generate side by side
    // A test of another kind: what was done ("first token, warm"), and what was done in turn with it, whose speed is its limit ("file",
    // "plain"), or NULL where a limit of the machine was; both NULL: pp or tg. Beside "plain", rates are tokens a second.
    const char *what, *against;
    char test_time[24]; // when it began, "2026-01-31T12:00:00Z"

    // A sample is a run of the test, or as many of them as fill a slice of time.
    struct series samples_ns; // time of a run
    struct series samples_ts; // tokens a second

    // A pair is a slice of the test and a slice of the limit behind it.
    enum limit limit;
    double work, seconds; // bytes (LIMIT_READ) or operations of all pairs' slices of the test, and their time
    struct series rate, bound; // of a pair: of the test, of the limit
    struct series share;       // of a pair: rate / bound

    // The most that the process held behind any slice; the buffer that the read limit streams is not in it.
    uint64_t anonymous_bytes, file_bytes;
    uint64_t kv_bytes; // of the cache for the test's whole context, of which the test touches what it needs
};

void bench_result_free(struct bench_result *r);

enum { BENCH_MD, BENCH_JSON, BENCH_JSONL, BENCH_CSV, BENCH_FORMATS };
extern const char *const bench_formats[]; // names in that order, then NULL

// "tg128 x4 @ d512"; returns text.
const char *bench_test_name(const struct bench_result *r, char *text, size_t size);
// "read", "int8" ..., or r->against
const char *bench_limit_name(const struct bench_result *r);

// Writes to stdout in the format of that name; `results` is how many were written before.
void bench_report(const char *format, const struct bench_result *r, size_t results);
// What stands behind the last result.
void bench_report_end(const char *format, size_t results);

// What the model's device does at most, measured: the CPU's threads, for about `seconds`, or that of its backend, where NaN means that it
// does not tell. Errors: MEMORY, IO.
enum tlm_status bench_limit(const struct tlm_model *m, struct limits *limits, enum limit limit,
                            double seconds, double *rate, struct tlm_error *err);

// ---- loading (cli/bench_load.c)

// Opens the model and computes the first token behind a short prompt, `repeats` times warm and as often cold, in turn with plain
// reads of the file, and reports both. Errors: those of opening; IO.
enum tlm_status bench_load(const char *format, const char *path, const char *isa, int32_t repeats,
                           size_t *results, struct tlm_error *err);

// ---- speculation (cli/bench_replay.c)

struct bench_replay {
    const char *text;  // file whose tokens are drawn, whatever the model would draw
    const char *draft; // file of a model that guesses; NULL: lookup
    float accept;      // share of its guesses that are made right
    int32_t most;      // tokens to draw
};

// Replays the text with and without guesses, in turn, and reports the two speeds. `common` has the model's columns and the threads.
// Errors: those of opening and of generating; ARGUMENT (too short a text).
enum tlm_status bench_replay(const char *format, const struct tlm_model *model,
                             const struct bench_replay *replay, const struct bench_result *common,
                             int32_t repeats, size_t *results, struct tlm_error *err);

// ---- training (cli/bench_train.c)

struct bench_train {
    int32_t sequences, context; // of a step
    enum dtype type;            // of matrices: F32 or BF16
};

// Whole steps of AdamW beside the peak. Errors: those of passes; MEMORY.
enum tlm_status bench_train(const char *format, const struct tlm_model *model, const struct bench_train *how,
                            const struct bench_result *common, int32_t repeats, size_t *results,
                            struct tlm_error *err);

// ---- the cache (cli/bench_cache.c)

// Prompts of common->n_prompt tokens asked again; steps behind common->n_depth tokens, of one sequence and of `parallel`, paged and shared:
// each in turn with doing without. Errors: those of sessions and passes.
enum tlm_status bench_cache(const char *format, const struct tlm_model *model,
                            const struct bench_result *common, int32_t parallel, int32_t repeats,
                            size_t *results, struct tlm_error *err);

// ---- an earlier run (cli/bench_baseline.c)

struct bench_baseline;

// Errors: IO, FORMAT.
enum tlm_status bench_baseline_open(struct bench_baseline **out, const char *path, struct tlm_error *err);
// Finds the same test in the earlier run, and says on stderr how the two compare.
void bench_baseline_compare(struct bench_baseline *b, const struct bench_result *r);
// Frees it. True where no test got slower beyond its spread; with `report` a line on stderr sums up.
bool bench_baseline_close(struct bench_baseline *b, bool report);

// ---- a chart (cli/bench_plot.c)

struct bench_plot;

// The file is written at the end, so errors of memory come back then. Errors: MEMORY.
enum tlm_status bench_plot_open(struct bench_plot **out, const char *path, struct tlm_error *err);
void bench_plot_add(struct bench_plot *p, const struct bench_result *r);
// Errors: IO, MEMORY.
enum tlm_status bench_plot_write(struct bench_plot *p, struct tlm_error *err);
void bench_plot_close(struct bench_plot *p); // NULL is allowed

#endif
