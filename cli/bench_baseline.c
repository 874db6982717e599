// cli/bench_baseline.c -- holds a run of `tinylm bench` against an earlier one.
//
// Tokens a second of two days say little about a shared machine; shares of a limit that was measured in turn do. A test has become
// slower where its upper quartile lies below the lower quartile of the earlier run.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"

struct bench_baseline {
    json_t *tests; // an array, as -o json writes it
    size_t compared, slower, faster, missing;
};

enum tlm_status bench_baseline_open(struct bench_baseline **out, const char *path, struct tlm_error *err)
{
    json_error_t where;
    struct bench_baseline *b = calloc(1, sizeof *b);
    if (!b) return error_set(err, TLM_ERR_MEMORY, "%s: no memory", path);
    b->tests = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (b->tests && json_is_array(b->tests)) {
        *out = b;
        return TLM_OK;
    }
    enum tlm_status status =
        b->tests ? error_set(err, TLM_ERR_FORMAT, "%s: expected what bench -o json writes, an array of tests",
                             path)
                 : error_set(err, TLM_ERR_FORMAT, "%s: line %d: %s", path, where.line, where.text);
    bench_baseline_close(b, false);
    return status;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool same_text(const json_t *test, const char *key, const char *text)
{
    const char *old = json_string_value(json_object_get(test, key));
    return !strcmp(base_name(old ? old : ""), base_name(text ? text : ""));
}

static bool same_number(const json_t *test, const char *key, int64_t number)
{
    const json_t *old = json_object_get(test, key);
    return json_is_integer(old) && json_integer_value(old) == number;
}

static bool same_test(const json_t *test, const struct bench_result *r)
{
    return same_text(test, "model_filename", r->model_filename) && same_text(test, "isa", r->isa) &&
           same_text(test, "type_k", r->type_k) && same_text(test, "type_v", r->type_v) &&
           same_text(test, "what", r->what) && same_number(test, "n_threads", r->n_threads) &&
           same_number(test, "n_batch", r->n_batch) && same_number(test, "n_prompt", r->n_prompt) &&
           same_number(test, "n_gen", r->n_gen) && same_number(test, "n_depth", r->n_depth) &&
           same_number(test, "n_parallel", r->n_parallel);
}

void bench_baseline_compare(struct bench_baseline *b, const struct bench_result *r)
{
    size_t i;
    json_t *test;
    char name[48];
    bench_test_name(r, name, sizeof name);
    json_array_foreach(b->tests, i, test)
    {
        if (!same_test(test, r)) continue;
        double old = json_number_value(json_object_get(test, "share"));
        double old_q1 = json_number_value(json_object_get(test, "share_q1"));
        double old_q3 = json_number_value(json_object_get(test, "share_q3"));
        double q1 = series_quantile(&r->share, 0.25), q3 = series_quantile(&r->share, 0.75);
        bool slower = q3<old_q1, faster = q1> old_q3;
        b->compared++, b->slower += slower, b->faster += faster;
        fprintf(stderr, "%s: share of the limit %.3f, was %.3f: %s\n", name, series_quantile(&r->share, 0.5),
                old,
                slower   ? "SLOWER beyond the spread"
                : faster ? "faster"
                         : "the same within the spread");
        return;
    }
    b->missing++;
    fprintf(stderr, "%s: the earlier run has no such test\n", name);
}

bool bench_baseline_close(struct bench_baseline *b, bool report)
{
    bool good = !b->slower;
    if (report)
        fprintf(stderr, "compared %zu tests: %zu slower, %zu faster; %zu had nothing to be held against\n",
                b->compared, b->slower, b->faster, b->missing);
    json_decref(b->tests);
    free(b);
    return good;
}
