// tests/gpu/report.c -- what a check of a GPU found, as a page and as JSON.
//
//     gpu_report RECORDS.jsonl REPORT.md REPORT.json
//
// RECORDS has a record a line: those of gpu_bench, of `tinylm bench -o jsonl`, of scripts/gpu_torch.py, and of scripts/gpu_check.sh itself
// ("test"). With none of them the page says what stands open.
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- records ----------------------------------------------------------------------------------------------

static json_t *records;

static const char *text_of(const json_t *record, const char *field)
{
    const char *text = json_string_value(json_object_get(record, field));
    return text ? text : "";
}

static double number_of(const json_t *record, const char *field)
{
    const json_t *n = json_object_get(record, field);
    return json_is_number(n) ? json_number_value(n) : NAN;
}

static bool is_kind(const json_t *record, const char *kind)
{
    return !strcmp(text_of(record, "kind"), kind);
}

// Record `i` of that kind, NULL behind the last. Those of `tinylm bench` have no kind of their own.
static const json_t *record_at(const char *kind, size_t i)
{
    size_t index;
    json_t *record;
    json_array_foreach(records, index, record) if (is_kind(record, kind) && !i--) return record;
    return NULL;
}

static const json_t *find_named(const char *kind, const char *name)
{
    const json_t *r;
    for (size_t i = 0; (r = record_at(kind, i)); i++)
        if (!strcmp(text_of(r, "name"), name)) return r;
    return NULL;
}

static bool read_records(const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int number = 0;
    bool right = f && records;
    if (!f) perror(path);
    while (right && getline(&line, &room, f) >= 0) {
        json_error_t error;
        json_t *record = json_loads(line, 0, &error);
        number++;
        right = json_is_object(record) && !json_array_append_new(records, record);
        if (!right)
            fprintf(stderr, "gpu_report: %s:%d: expected a JSON object, found: %.60s", path, number, line);
    }
    free(line);
    if (f) fclose(f);
    return right;
}

// ---- goals ------------------------------------------------------------------------------------------------

enum source { SOURCE_DECODE, SOURCE_PROMPT, SOURCE_TRAIN, SOURCE_KERNEL, SOURCE_WORST_ROWS };

static const struct goal {
    const char *what, *goal;
    enum source source;
    const char *name, *type; // the shape and type of a model, or the name of a kernel
    double least, of;        // of: what the rate is divided by; 0: the share that was measured counts
} goals[] = {
    {"decode, 1B shape, bf16", "85% of the copy bandwidth", SOURCE_DECODE, "llama-1b", "BF16", 0.85, 0},
    {"decode, 8B shape, Q4_K", "60% of the copy bandwidth", SOURCE_DECODE, "llama-8b", "Q4_K", 0.60, 0},
    {"decode, 8B shape, Q8_0", "75% of the copy bandwidth", SOURCE_DECODE, "llama-8b", "Q8_0", 0.75, 0},
    {"prompt, 8B shape, bf16", "65% of cuBLAS's rate", SOURCE_PROMPT, "llama-8b", "BF16", 0.65, 0},
    {"attention forward, d = 128, causal, 16384 tokens", "70% of 616 TFLOP/s", SOURCE_KERNEL,
     "prompt, d128, causal, 16384 tokens", "", 0.70, 616e12},
    {"attention backward, d = 128, causal, 16384 tokens", "60% of 561 TFLOP/s", SOURCE_KERNEL,
     "backward, d128, causal, 16384 tokens", "", 0.60, 561e12},
    {"training, GPT-2 124M, bf16", "40% of cuBLAS's rate", SOURCE_TRAIN, "gpt2-124m", "", 0.40, 0},
    {"norms and elementwise kernels, the slowest", "85% of the copy bandwidth", SOURCE_WORST_ROWS, "", "",
     0.85, 0},
};
enum { GOALS = sizeof goals / sizeof *goals };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static double measured_bench(const struct goal *g)
{
    const json_t *r;
    double best = NAN;
    for (size_t i = 0; (r = record_at("", i)); i++) {
        const bool train = !strncmp(text_of(r, "what"), "train", 5), prompt = number_of(r, "n_prompt") > 0;
        if (strcmp(text_of(r, "model_filename"), g->name)) continue;
        if (g->source == SOURCE_TRAIN ? !train : train || prompt != (g->source == SOURCE_PROMPT)) continue;
        if (*g->type && !ends_with(text_of(r, "model_type"), g->type)) continue;
        if (!(number_of(r, "share") <= best)) best = number_of(r, "share");
    }
    return best;
}

static double worst_rows(void)
{
    const json_t *r;
    double worst = NAN;
    for (size_t i = 0; (r = record_at("kernel", i)); i++)
        if (!strcmp(text_of(r, "group"), "rows") && !(number_of(r, "share") >= worst))
            worst = number_of(r, "share");
    return worst;
}

// The share that was reached; NaN: not measured.
static double measured(const struct goal *g)
{
    if (g->source == SOURCE_WORST_ROWS) return worst_rows();
    if (g->source != SOURCE_KERNEL) return measured_bench(g);
    const json_t *r = find_named("kernel", g->name);
    return r ? number_of(r, "rate") / g->of : NAN;
}

// ---- the page ---------------------------------------------------------------------------------------------

static void write_goals(FILE *f, bool any)
{
    fprintf(f, "## Goals\n\n| what | goal | measured | |\n|---|---|--:|---|\n");
    for (int i = 0; i < GOALS; i++) {
        const double share = measured(&goals[i]);
        char text[64];
        snprintf(text, sizeof text, "%.0f%%", 100 * share);
        fprintf(f, "| %s | %s | %s | %s |\n", goals[i].what, goals[i].goal,
                isnan(share) ? (any ? "not measured" : "not measured: no GPU was at hand") : text,
                isnan(share)              ? "open"
                : share >= goals[i].least ? "reached"
                                          : "open");
    }
}

static void write_tests(FILE *f)
{
    const json_t *r;
    fprintf(f, "\n## Tests\n\n| what | |\n|---|---|\n");
    for (size_t i = 0; (r = record_at("test", i)); i++)
        fprintf(f, "| %s | %s |\n", text_of(r, "name"), text_of(r, "text"));
}

static void write_models(FILE *f)
{
    const json_t *r;
    fprintf(f, "\n## Models\n\nRandom weights, made up on the device. Shares are of a copy's bytes a second "
               "for tokens, of cuBLAS's bf16 "
               "product for prompts, measured in turn.\n\n"
               "| shape | model | test | tokens/s | rate | share |\n|---|---|---|--:|--:|--:|\n");
    for (size_t i = 0; (r = record_at("", i)); i++) {
        const bool read = !strcmp(text_of(r, "limit"), "read"), prompt = number_of(r, "n_prompt") > 0;
        char test[64];
        snprintf(test, sizeof test, "%s%.0f x%.0f @ %.0f", prompt ? "pp" : "tg",
                 number_of(r, prompt ? "n_prompt" : "n_gen"), number_of(r, "n_parallel"),
                 number_of(r, "n_depth"));
        fprintf(f, "| %s | %s | %s | %.1f | %.1f %s | %.0f%% |\n", text_of(r, "model_filename"),
                text_of(r, "model_type"), *text_of(r, "what") ? text_of(r, "what") : test,
                number_of(r, "avg_ts"), number_of(r, "rate") / (read ? 1e9 : 1e12), read ? "GB/s" : "TFLOP/s",
                100 * number_of(r, "share"));
    }
}

static void write_kernels(FILE *f)
{
    const json_t *r;
    fprintf(f,
            "\n## Kernels\n\nThe median of events' times. Shares: of the copy for what memory bounds, of "
            "cuBLAS's rate for the rest. Errors "
            "are ||a - b|| / ||b|| against the double reference. PyTorch: the time of its own ops, unfused, "
            "on the same shapes.\n\n"
            "| kernel | time | rate | share | error | PyTorch, times as long |\n|---|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; (r = record_at("kernel", i)); i++) {
        const bool copy = !strcmp(text_of(r, "limit"), "copy");
        const json_t *torch = find_named("torch", text_of(r, "name"));
        char error[32] = "", beside[32] = "";
        if (!isnan(number_of(r, "error"))) snprintf(error, sizeof error, "%.1e", number_of(r, "error"));
        if (torch)
            snprintf(beside, sizeof beside, "%.2f", number_of(torch, "seconds") / number_of(r, "seconds"));
        fprintf(f, "| %s: %s | %.1f us | %.1f %s | %.0f%% | %s | %s |\n", text_of(r, "group"),
                text_of(r, "name"), 1e6 * number_of(r, "seconds"), number_of(r, "rate") / (copy ? 1e9 : 1e12),
                copy ? "GB/s" : "TFLOP/s", 100 * number_of(r, "share"), error, beside);
    }
}

static void write_page(FILE *f)
{
    const json_t *device = record_at("device", 0), *r;
    const bool any = json_array_size(records) > 0;
    fprintf(f, "# The GPU\n\n`make gpu-check` writes this page and `gpu.json`: it runs every kernel's tests "
               "against the double reference on "
               "the device, whole models, and these measurements, in less than ten minutes. Where a machine "
               "with a GPU lacks the "
               "packages, `make gpu-files` puts all it needs into `build/gpu`, and `scripts/gpu_check.sh` "
               "runs from there.\n\n");
    if (device)
        fprintf(f, "On %s: %.0f units, %.0f GiB.", text_of(device, "name"), number_of(device, "processors"),
                number_of(device, "memory") / 0x1p30);
    for (size_t i = 0; (r = record_at("limit", i)); i++) {
        const bool copy = !strcmp(text_of(r, "name"), "copy");
        fprintf(f,
                copy ? " A copy in its memory moves %.0f GB/s." : " cuBLAS multiplies bf16 at %.0f TFLOP/s.",
                number_of(r, "rate") / (copy ? 1e9 : 1e12));
    }
    for (size_t i = 0; (r = record_at("reason", i)); i++) fprintf(f, " %s.", text_of(r, "text"));
    if (!any)
        fprintf(f, "The kernels have not run on a device: what is known of them is known from the emulation "
                   "of CUDA in the tests "
                   "and from the compiler.");
    fprintf(f, "\n\n");
    write_goals(f, any);
    if (record_at("test", 0)) write_tests(f);
    if (record_at("", 0)) write_models(f);
    if (record_at("kernel", 0)) write_kernels(f);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: gpu_report RECORDS.jsonl REPORT.md REPORT.json\n");
        return 2;
    }
    records = json_array();
    if (!read_records(argv[1])) return EXIT_FAILURE;
    FILE *page = fopen(argv[2], "w");
    if (page) write_page(page);
    if (!page || fclose(page) || json_dump_file(records, argv[3], JSON_INDENT(1))) {
        fprintf(stderr, "gpu_report: cannot write %s and %s\n", argv[2], argv[3]);
        return EXIT_FAILURE;
    }
    json_decref(records);
    return 0;
}
