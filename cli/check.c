// cli/check.c -- tinylm check: is a model whole, and what in it may give trouble?
//
// A fault is what no use of the model survives: numbers that are none, shapes that do not fit, a tokenizer or a template that cannot
// be read. A note is what may: numbers that low precision cannot hold, weights far from all others, rows without a number.
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/check.h"
#include "cli/common.h"
#include "core/cpu.h"
#include "core/threads.h"
#include "models/hf.h"
#include "models/inspect.h"

// Where weights become worth a word. 65504 is the largest number of f16. A normal distribution of a billion numbers stays within 6.5
// deviations and has a kurtosis of 3; trained matrices reach some dozens. Norm weights of tens have broken models whose
// products were rounded before they were scaled.
enum { OUTLIER_DEVIATIONS = 60, OUTLIER_KURTOSIS = 100, LARGE_NORM = 30 };
static const double LARGEST_F16 = 65504;

static const char notes[] = "Looks at every number, the tokenizer and the chat template. A fault makes the "
                            "exit code 1; a note does not.\n"
                            "With two models their weights stand side by side, by name, with the relative "
                            "error of the first against the second.\n";

struct check {
    const struct command_line *line;
    struct gguf *gguf, *other;
    struct tensor_stats *stats; // [tensors]
    struct tlm_error *errors;   // [tensors]
    atomic_llong next;
    int faults, notes;
};

// ---- tensors ------------------------------------------------------------------------------------------

static const struct tensor *partner(const struct check *c, uint64_t i)
{
    struct gguf_string name = c->gguf->tensors[i].name;
    for (uint64_t j = 0; c->other && j < c->other->tensor_count; j++) {
        struct gguf_string theirs = c->other->tensors[j].name;
        if (theirs.length == name.length && !memcmp(theirs.data, name.data, name.length))
            return &c->other->tensors[j].tensor;
    }
    return NULL;
}

static void inspect_some(void *user, int thread)
{
    struct check *c = user;
    for (long long i; (i = atomic_fetch_add(&c->next, 1)) < (long long)c->gguf->tensor_count;) {
        if (common_interrupted()) return;
        c->errors[i].code = TLM_OK;
        const struct tensor *t = &c->gguf->tensors[i].tensor, *b = partner(c, (uint64_t)i);
        inspect_tensor(&c->stats[i], t, b, &c->errors[i]);
        gguf_drop_pages(c->gguf, t);
        if (b) gguf_drop_pages(c->other, b);
        if (!thread && isatty(STDERR_FILENO))
            fprintf(stderr, "\r%lld of %" PRIu64 " tensors", i + 1, c->gguf->tensor_count);
    }
}

static bool is_norm(const struct gguf_tensor *t)
{
    return t->tensor.ne[1] == 1 && memmem(t->name.data, t->name.length, "norm.weight", 11);
}

// What is to be said of a tensor: "" for nothing. True for a fault.
static bool judge(const struct check *c, uint64_t i, char *text, size_t size)
{
    const struct gguf_tensor *t = &c->gguf->tensors[i];
    const struct tensor_stats *s = &c->stats[i];
    double largest = fmax(fabs(s->least), fabs(s->most));
    *text = '\0';
    if (c->errors[i].code) {
        snprintf(text, size, "%s", c->errors[i].text);
        return c->errors[i].code != TLM_ERR_UNSUPPORTED && c->errors[i].code != TLM_ERR_ARGUMENT;
    }
    if (s->nans || s->infinities) {
        snprintf(text, size, "%" PRId64 " NaN, %" PRId64 " infinite of %" PRId64 " numbers", s->nans,
                 s->infinities, s->count);
        return true;
    }
    bool matrix = t->tensor.ne[1] > 1;
    if (s->zeros == s->count && matrix)
        snprintf(text, size, "all numbers are 0");
    else if (largest > LARGEST_F16 && t->tensor.type != DTYPE_F16)
        snprintf(text, size, "largest number %.3g, beyond f16's 65504", largest);
    else if (is_norm(t) && largest > LARGE_NORM)
        snprintf(text, size, "norm weights up to %.3g: round before they multiply", largest);
    else if (matrix && s->deviation > 0 && largest > OUTLIER_DEVIATIONS * s->deviation)
        snprintf(text, size, "largest number %.3g is %.0f deviations out", largest, largest / s->deviation);
    else if (matrix && s->kurtosis > OUTLIER_KURTOSIS)
        snprintf(text, size, "outliers: kurtosis %.0f", s->kurtosis);
    else if (matrix && s->zero_rows)
        snprintf(text, size, "%" PRId64 " of %" PRId64 " rows are 0", s->zero_rows, s->rows);
    return false;
}

// The layer of "blk.7.name"; -1 for what stands outside.
static int64_t layer_of(struct gguf_string name)
{
    int64_t l = 0;
    size_t i = 4;
    if (name.length < 6 || memcmp(name.data, "blk.", 4)) return -1;
    for (; i < name.length && name.data[i] >= '0' && name.data[i] <= '9' && l < 1 << 20; i++)
        l = 10 * l + name.data[i] - '0';
    return i > 4 && i < name.length && name.data[i] == '.' ? l : -1;
}

static void report_layer(struct check *c, int64_t layer)
{
    int64_t tensors = 0, faults = 0, marks = 0;
    double numbers = 0, largest = 0;
    char text[512], shown[96];
    for (uint64_t i = 0; i < c->gguf->tensor_count; i++) {
        if (layer_of(c->gguf->tensors[i].name) != layer) continue;
        bool fault = judge(c, i, text, sizeof text);
        tensors++;
        numbers += (double)c->stats[i].count;
        largest = fmax(largest, fmax(fabs(c->stats[i].least), fabs(c->stats[i].most)));
        faults += fault;
        marks += !fault && *text;
    }
    if (!tensors) return;
    char name[24];
    snprintf(name, sizeof name, "%" PRId64, layer);
    printf("| %-6s | %7" PRId64 " | %10.3g | %9.4g | %-7s |\n", layer < 0 ? "-" : name, tensors, numbers,
           largest,
           faults  ? "FAULT"
           : marks ? "note"
                   : "ok");
    for (uint64_t i = 0; i < c->gguf->tensor_count && faults + marks; i++) {
        if (layer_of(c->gguf->tensors[i].name) != layer) continue;
        bool fault = judge(c, i, text, sizeof text);
        if (*text)
            printf("         %s: %s: %s\n", fault ? "FAULT" : "note",
                   gguf_printable(c->gguf->tensors[i].name, shown, sizeof shown), text);
    }
    c->faults += (int)faults;
    c->notes += (int)marks;
}

static void report_tensors(struct check *c)
{
    int64_t last = -1;
    for (uint64_t i = 0; i < c->gguf->tensor_count; i++) {
        int64_t l = layer_of(c->gguf->tensors[i].name);
        if (l > last) last = l;
    }
    printf("| %-6s | %7s | %10s | %9s | %-7s |\n| ------ | ------: | ---------: | --------: | ------- |\n",
           "layer", "tensors", "numbers", "largest", "verdict");
    for (int64_t l = -1; l <= last && l < 1 << 20; l++) report_layer(c, l);
}

// Two models: their distributions, a tensor a line.
static void report_pairs(const struct check *c)
{
    printf("\n| %-32s | %-15s | %-21s | %-21s | %9s |\n| -------------------------------- | --------------- "
           "| --------------------- | "
           "--------------------- | --------: |\n",
           "tensor", "types", "mean, deviation", "least, most", "error");
    for (uint64_t i = 0; i < c->gguf->tensor_count; i++) {
        const struct tensor *b = partner(c, i);
        const struct tensor_stats *s = &c->stats[i];
        struct tensor_stats other;
        char name[64], types[32], error[16] = "";
        gguf_printable(c->gguf->tensors[i].name, name, sizeof name);
        if (!b) {
            printf("| %-32s | only in the first |\n", name);
            continue;
        }
        snprintf(types, sizeof types, "%s, %s", dtype_traits[c->gguf->tensors[i].tensor.type].name,
                 dtype_traits[b->type].name);
        if (!isnan(s->relative_error)) snprintf(error, sizeof error, "%.2e", s->relative_error);
        printf("| %-32s | %-15s | %9.2e, %10.3e | %9.2e, %10.3e | %9s |\n", name, types, s->mean,
               s->deviation, s->least, s->most, error);
        if (inspect_tensor(&other, b, NULL, NULL)) continue;
        printf("| %-32s | %-15s | %9.2e, %10.3e | %9.2e, %10.3e | %9s |\n", "", "", other.mean,
               other.deviation, other.least, other.most, "");
    }
}

// ---- the whole ----------------------------------------------------------------------------------------

void check_say(int *count, const char *kind, const char *what, const char *text)
{
    ++*count;
    printf("%s: %s: %s\n", kind, what, text);
}

static int run(struct check *c, const char *const paths[], size_t path_count)
{
    struct tlm_error err;
    struct threads *threads = NULL;
    if (model_file_open(&c->gguf, paths[0], MODEL_ALL, &err)) return common_failed(c->line, &err);
    if (path_count > 1 && model_file_open(&c->other, paths[1], MODEL_ALL, &err))
        return common_failed(c->line, &err);
    size_t tensors = (size_t)c->gguf->tensor_count + 1;
    c->stats = calloc(tensors, sizeof *c->stats);
    c->errors = calloc(tensors, sizeof *c->errors);
    enum tlm_status status = c->stats && c->errors
                                 ? threads_open(&threads, cpu_count(), &err)
                                 : error_set(&err, TLM_ERR_MEMORY, "no memory for %zu tensors", tensors);
    if (status) return common_failed(c->line, &err);
    common_catch_interrupt();
    threads_run(threads, inspect_some, c);
    threads_close(threads);
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
    if (common_interrupted()) return EXIT_FAILED;
    report_tensors(c);
    if (c->other) report_pairs(c);
    printf("\n");
    check_model(paths[0], c->gguf, &c->faults, &c->notes);
    printf("%s: %d fault%s, %d note%s\n", paths[0], c->faults, c->faults == 1 ? "" : "s", c->notes,
           c->notes == 1 ? "" : "s");
    return c->faults ? EXIT_FAILED : EXIT_DONE;
}

int command_check(int argc, char **argv)
{
    const struct command_line line = {
        "check",
        "MODEL [MODEL2]",
        "Examines a model: every number, the shapes, the tokenizer, the chat template.",
        NULL,
        0,
        notes};
    const char *paths[2];
    size_t count;
    int code = options_parse(&line, argc, argv, paths, 2, &count);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    if (!count) return options_wrong(&line, "no model: expected a GGUF file or a Hugging Face folder");
    struct check c = {.line = &line};
    code = run(&c, paths, count);
    gguf_close(c.gguf);
    gguf_close(c.other);
    free(c.stats);
    free(c.errors);
    return common_finish_output(&line, code);
}
