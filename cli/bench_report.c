// cli/bench_report.c -- results of `tinylm bench` as Markdown, JSON and CSV, in llama-bench's names and ours.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"

const char *const bench_formats[] = {"md", "json", "jsonl", "csv", NULL};
_Static_assert(sizeof bench_formats / sizeof *bench_formats == BENCH_FORMATS + 1, "a name a format");

// ---- series -------------------------------------------------------------------------------------------

enum tlm_status series_add(struct series *s, double x, struct tlm_error *err)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 64;
        double *items = realloc(s->items, capacity * sizeof *items);
        if (!items) return error_set(err, TLM_ERR_MEMORY, "no memory for %zu samples", capacity);
        s->items = items;
        s->capacity = capacity;
    }
    s->items[s->count++] = x;
    return TLM_OK;
}

double series_mean(const struct series *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) sum += s->items[i];
    return s->count ? sum / (double)s->count : 0;
}

double series_deviation(const struct series *s)
{
    double mean = series_mean(s), sum = 0;
    for (size_t i = 0; i < s->count; i++) sum += (s->items[i] - mean) * (s->items[i] - mean);
    return s->count > 1 ? sqrt(sum / (double)(s->count - 1)) : 0;
}

// The k-th smallest: as many are smaller, or equal and earlier. Quadratic, and a bench has some hundred
// samples.
static double ranked(const struct series *s, size_t k)
{
    for (size_t i = 0; i < s->count; i++) {
        size_t rank = 0;
        for (size_t j = 0; j < s->count; j++)
            rank += s->items[j] < s->items[i] || (j < i && s->items[j] == s->items[i]);
        if (rank == k) return s->items[i];
    }
    return NAN;
}

double series_quantile(const struct series *s, double share)
{
    if (!s->count) return 0;
    double at = share * (double)(s->count - 1);
    size_t k = (size_t)at;
    double low = ranked(s, k), high = k + 1 < s->count ? ranked(s, k + 1) : low;
    return low + (at - (double)k) * (high - low);
}

void bench_result_free(struct bench_result *r)
{
    struct series *all[] = {&r->samples_ns, &r->samples_ts, &r->rate, &r->bound, &r->share};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->items);
}

// ---- fields: JSON and CSV -----------------------------------------------------------------------------

struct fields { // of one result, on their way out
    enum { FIELDS_JSON, FIELDS_JSONL, FIELDS_CSV_NAMES, FIELDS_CSV } style;
    size_t count; // so far
};

// Begins field `name`. False where the style wants names alone.
static bool begin_field(struct fields *f, const char *name)
{
    if (f->style == FIELDS_JSON)
        printf("%s\n    \"%s\": ", f->count++ ? "," : "", name);
    else if (f->style == FIELDS_JSONL)
        printf("%s\"%s\": ", f->count++ ? ", " : "", name);
    else
        printf("%s%s", f->count++ ? "," : "", f->style == FIELDS_CSV_NAMES ? name : "");
    return f->style != FIELDS_CSV_NAMES;
}

// In quotes. JSON escapes what it has to; a byte that is not ASCII passes, as file names are UTF-8. CSV
// doubles quotes.
static void text_field(struct fields *f, const char *name, const char *text)
{
    if (!begin_field(f, name)) return;
    putchar('"');
    for (const char *c = text; *c; c++) {
        if (f->style == FIELDS_CSV)
            printf(*c == '"' ? "\"\"" : "%c", *c);
        else if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            printf("\\u%04x", (unsigned)*c);
        else
            putchar(*c);
    }
    putchar('"');
}

static void whole_field(struct fields *f, const char *name, uint64_t n)
{
    if (begin_field(f, name)) printf("%" PRIu64, n);
}

static void real_field(struct fields *f, const char *name, double x)
{
    if (begin_field(f, name)) printf(isfinite(x) ? "%.9g" : "null", x);
}

// Lists are for JSON alone: a row of CSV has no place for them.
static void list_field(struct fields *f, const char *name, const struct series *s, const char *format)
{
    if (f->style == FIELDS_CSV || f->style == FIELDS_CSV_NAMES) return;
    begin_field(f, name);
    for (size_t i = 0; i < s->count; i++) {
        printf(i ? ", " : "[");
        printf(format, s->items[i]);
    }
    printf(s->count ? "]" : "[]");
}

// The name that the processor gives itself, or "".
static void cpu_name(char *name, size_t size)
{
    char row[256];
    *name = 0;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !*name && fgets(row, sizeof row, f)) {
        const char *value = strchr(row, ':');
        if (strncmp(row, "model name", 10) || !value) continue;
        value += 1 + strspn(value + 1, " ");
        snprintf(name, size, "%.*s", (int)strcspn(value, "\n"), value);
    }
    if (f) fclose(f);
}

static void write_fields(struct fields *f, const struct bench_result *r)
{
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    text_field(f, "tinylm_version", TLM_VERSION);
    text_field(f, "cpu_info", cpu);
    text_field(f, "backends", r->device ? "CUDA" : "CPU");
    text_field(f, "gpu_info", r->device ? r->device : "");
    text_field(f, "isa", r->isa);
    text_field(f, "model_filename", r->model_filename);
    text_field(f, "model_type", r->model_type);
    whole_field(f, "model_size", r->model_size);
    whole_field(f, "model_n_params", r->model_n_params);
    whole_field(f, "n_batch", (uint64_t)r->n_batch);
    whole_field(f, "n_threads", (uint64_t)r->n_threads);
    text_field(f, "type_k", r->type_k);
    text_field(f, "type_v", r->type_v);
    whole_field(f, "n_prompt", (uint64_t)r->n_prompt);
    whole_field(f, "n_gen", (uint64_t)r->n_gen);
    whole_field(f, "n_depth", (uint64_t)r->n_depth);
    whole_field(f, "n_parallel", (uint64_t)r->n_parallel);
    text_field(f, "what", r->what ? r->what : "");
    text_field(f, "test_time", r->test_time);
    whole_field(f, "avg_ns", (uint64_t)series_mean(&r->samples_ns));
    whole_field(f, "stddev_ns", (uint64_t)series_deviation(&r->samples_ns));
    real_field(f, "avg_ts", series_mean(&r->samples_ts));
    real_field(f, "stddev_ts", series_deviation(&r->samples_ts));
    list_field(f, "samples_ns", &r->samples_ns, "%.0f");
    list_field(f, "samples_ts", &r->samples_ts, "%.9g");
    // Ours. Rates are bytes a second where the limit is "read" or "file", tokens a second where it is "plain", else operations a second.
    text_field(f, "limit", bench_limit_name(r));
    real_field(f, "rate", r->work / r->seconds);
    real_field(f, "limit_rate", series_quantile(&r->bound, 0.5));
    whole_field(f, "pairs", r->share.count);
    real_field(f, "share", series_quantile(&r->share, 0.5));
    real_field(f, "share_q1", series_quantile(&r->share, 0.25));
    real_field(f, "share_q3", series_quantile(&r->share, 0.75));
    list_field(f, "samples_rate", &r->rate, "%.9g");
    list_field(f, "samples_limit", &r->bound, "%.9g");
    whole_field(f, "memory_anonymous", r->anonymous_bytes);
    whole_field(f, "memory_file", r->file_bytes);
    whole_field(f, "memory_kv", r->kv_bytes);
}

static void report_fields(const char *format, const struct bench_result *r, size_t results)
{
    struct fields f = {.style = FIELDS_JSON};
    if (format == bench_formats[BENCH_CSV]) {
        struct fields names = {.style = FIELDS_CSV_NAMES};
        if (!results) write_fields(&names, r), putchar('\n');
        f.style = FIELDS_CSV;
        write_fields(&f, r);
        putchar('\n');
    } else if (format == bench_formats[BENCH_JSONL]) {
        f.style = FIELDS_JSONL;
        putchar('{');
        write_fields(&f, r);
        printf("}\n");
    } else {
        printf(results ? ",\n  {" : "[\n  {");
        write_fields(&f, r);
        printf("\n  }");
    }
}

// ---- Markdown -----------------------------------------------------------------------------------------

const char *bench_limit_name(const struct bench_result *r)
{
    return r->against ? r->against : limit_names[r->limit];
}

const char *bench_test_name(const struct bench_result *r, char *text, size_t size)
{
    char parallel[16] = "", depth[16] = "";
    if (r->n_parallel > 1) snprintf(parallel, sizeof parallel, " x%d", r->n_parallel);
    if (r->n_depth) snprintf(depth, sizeof depth, " @ d%d", r->n_depth);
    if (r->what)
        snprintf(text, size, "%s", r->what);
    else
        snprintf(text, size, r->n_prompt ? "pp%d%s%s" : "tg%d%s%s", r->n_prompt ? r->n_prompt : r->n_gen,
                 parallel, depth);
    return text;
}

// "1.24 B"
static const char *human_count(uint64_t n, char *text, size_t size)
{
    const char *unit = n >= 1000000000 ? "B" : n >= 1000000 ? "M" : "K";
    snprintf(text, size, "%.2f %s", (double)n / (n >= 1000000000 ? 1e9 : n >= 1000000 ? 1e6 : 1e3), unit);
    return text;
}

static void report_row(const struct bench_result *r, size_t results)
{
    if (!results)
        printf("| %-24s | %9s | %9s | %-15s | %7s | %15s | %18s | %14s | %9s | %20s |\n"
               "| %.24s | %.8s: | %.8s: | %.15s | %.6s: | %.14s: | %.17s: | %.13s: | %.8s: | %.19s: |\n",
               "model", "size", "params", "backend", "threads", "test", "t/s", "rate", "limit",
               "share of limit", "------------------------", "--------", "--------", "---------------",
               "------", "--------------", "-----------------", "-------------", "--------",
               "-------------------");
    char size[16], params[16], backend[24], test[40], speed[32], rate[24], share[40];
    bench_test_name(r, test, sizeof test);
    snprintf(backend, sizeof backend, r->device ? "CUDA" : "CPU %s", r->isa);
    snprintf(speed, sizeof speed, "%.2f \u00b1 %.2f", series_mean(&r->samples_ts),
             series_deviation(&r->samples_ts));
    bool plain = r->against && !strcmp(r->against, "plain");
    double scale = plain ? 1 : 1e9;
    snprintf(rate, sizeof rate, "%.1f %s", r->work / r->seconds / scale,
             plain                    ? "t/s"
             : r->limit == LIMIT_READ ? "GB/s"
                                      : "GOP/s");
    snprintf(share, sizeof share, "%.3f (%.3f-%.3f)", series_quantile(&r->share, 0.5),
             series_quantile(&r->share, 0.25), series_quantile(&r->share, 0.75));
    // The sign in `speed` takes two bytes and one column.
    printf("| %-24s | %9s | %9s | %-15s | %7d | %15s | %19s | %14s | %9.1f | %20s |\n", r->model_type,
           common_human_bytes(r->model_size, size, sizeof size),
           human_count(r->model_n_params, params, sizeof params), backend, r->n_threads, test, speed, rate,
           series_quantile(&r->bound, 0.5) / scale, share);
    fflush(stdout);
    char anonymous[16], file[16], kv[16];
    fprintf(stderr,
            "%s: pairs with the %s limit: %zu; memory: %s anonymous, %s of files; cache for %d tokens: %s\n",
            test, bench_limit_name(r), r->share.count,
            common_human_bytes(r->anonymous_bytes, anonymous, sizeof anonymous),
            common_human_bytes(r->file_bytes, file, sizeof file), r->n_depth + r->n_prompt + r->n_gen,
            common_human_bytes(r->kv_bytes, kv, sizeof kv));
}

void bench_report(const char *format, const struct bench_result *r, size_t results)
{
    if (format == bench_formats[BENCH_MD])
        report_row(r, results);
    else
        report_fields(format, r, results);
    fflush(stdout);
}

void bench_report_end(const char *format, size_t results)
{
    if (format == bench_formats[BENCH_JSON]) printf(results ? "\n]\n" : "[]\n");
}
