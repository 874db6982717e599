// tests/bench_constraint.c -- what a grammar adds to a draw, with the vocabulary of a model and logits of chance.
//
//   bench_constraint MODEL SCHEMA [tokens]
//
// An answer is drawn with the JSON schema, then the same number of tokens without it, and so on in turn; each answer has to be whole
// within `tokens` (128). Printed are medians with quartiles: microseconds a token of both, what opening the grammar takes, and the first
// answer, which finds the masks that the others look up.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/file.h"
#include "generate/sample.h"
#include "tinylm.h"

enum { ANSWERS = 21, SHIFTS = 8191 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_quartiles(const char *name, double *samples, int count)
{
    qsort(samples, (size_t)count, sizeof *samples, by_size);
    printf("%-24s %9.1f us/token  (%.1f to %.1f)\n", name, samples[count / 2], samples[count / 4],
           samples[3 * count / 4]);
}

// Draws `most` tokens, or up to the end of the answer. Returns the microseconds, or -1 after an error.
static double draw(struct tlm_sampler *s, const struct tlm_model *m, const float *logits, int32_t most,
                   int32_t *count, struct tlm_error *err)
{
    double begin = now();
    bool over = false;
    tlm_sampler_set_history(s, NULL, 0);
    if (sampler_set_budget(s, most, err)) return -1;
    for (*count = 0; *count < most && !over; ++*count) {
        int32_t token = tlm_sampler_next(s, logits + *count * 977 % SHIFTS); // other logits for each token
        tlm_sampler_accept(s, token);
        over = s->constraint && (tlm_token_is_end(m, token) || sampler_is_over(s));
    }
    return now() - begin;
}

static enum tlm_status measure(const struct tlm_model *m, const struct tlm_grammar *grammar,
                               const float *logits, int32_t most, struct tlm_error *err)
{
    struct tlm_sampler_options options = tlm_sampler_defaults();
    struct tlm_sampler *plain = NULL, *bound = NULL;
    double with[ANSWERS], without[ANSWERS], first = 0;
    int32_t count = 0;
    enum tlm_status status = tlm_sampler_open(&plain, m, &options, err);
    options.grammar = grammar;
    if (!status) status = tlm_sampler_open(&bound, m, &options, err);
    for (int i = 0; i <= ANSWERS && !status; i++) {
        double taken = draw(bound, m, logits, most, &count, err);
        if (taken < 0) {
            status = err->code;
        } else if (!i) {
            first = taken / count;
        } else {
            with[i - 1] = taken / count;
            without[i - 1] = draw(plain, m, logits, count, &count, err) / count;
        }
    }
    if (!status) {
        printf("%-24s %9.1f us/token\n", "first answer", first);
        print_quartiles("with the grammar", with, ANSWERS);
        print_quartiles("without", without, ANSWERS);
    }
    tlm_sampler_close(plain);
    tlm_sampler_close(bound);
    return status;
}

// Of a bell curve, nearly, as wide as those of models.
static float *make_logits(size_t count)
{
    float *x = malloc(count * sizeof *x);
    uint64_t state = 1;
    for (size_t i = 0; x && i < count; i++) {
        x[i] = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            x[i] += 4 * ((float)(state >> 40) / (1 << 24) - 0.5F);
        }
    }
    return x;
}

int main(int argc, char **argv)
{
    struct tlm_error err = {0};
    struct tlm_model *model = NULL;
    struct tlm_grammar *grammar = NULL;
    char *text = NULL;
    float *logits = NULL;
    size_t bytes;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_constraint MODEL SCHEMA [tokens]\n");
        return 2;
    }
    enum tlm_status status = tlm_model_open(&model, argv[1], NULL, &err);
    if (!status) status = file_read(argv[2], &text, &bytes, &err);
    double begin = now();
    if (!status) status = tlm_grammar_open(&grammar, model, TLM_GRAMMAR_JSON_SCHEMA, text, bytes, &err);
    if (!status) {
        printf("%-24s %9.1f ms\n", "opening the grammar", 1e-3 * (now() - begin));
        logits = make_logits((size_t)tlm_model_vocab_size(model) + SHIFTS);
        if (!logits) status = error_set(&err, TLM_ERR_MEMORY, "no memory for logits");
    }
    if (!status) status = measure(model, grammar, logits, argc > 3 ? atoi(argv[3]) : 128, &err);
    if (status) fprintf(stderr, "bench_constraint: %s\n", err.text);
    free(logits);
    free(text);
    tlm_grammar_close(grammar);
    tlm_model_close(model);
    return status != TLM_OK;
}
