// tests/gpu/bench_sample.c -- draws from rows of logits, beside the copy to the host that they take the place of.
#include <math.h>
#include <stdlib.h>

#include "ops/draw_math.h"
#include "tests/gpu/bench.h"

enum { MOST_DRAWN = 64 };

struct drawing {
    struct cuda_sample sample;
    float *host; // pinned
    size_t bytes;
};

static void run_sample(void *user, int turn)
{
    struct drawing *d = user;
    (void)turn;
    cuda_sample(NULL, &d->sample);
}

static void run_copy(void *user, int turn)
{
    struct drawing *d = user;
    (void)turn;
    cuda_copy_out(NULL, d->host, d->sample.x, d->bytes);
}

static const struct {
    const char *name;
    struct draw_row row;
} draws_of[] = {
    {"greedy", {.greedy = true}},
    {"top-k 40, top-p, min-p, temperature",
     {.chain = {{DRAW_TOP_K, 40}, {DRAW_TOP_P, 0.95}, {DRAW_MIN_P, -3}, {DRAW_TEMPERATURE, 0.8}},
      .length = 4}},
    {"top-p, temperature",
     {.chain = {{DRAW_TOP_P, 0.95}, {DRAW_TEMPERATURE, 0.8}}, .length = 2, .weigh = true}},
    {"temperature",
     {.chain = {{DRAW_TEMPERATURE, 0.8}}, .length = 1, .divisor = 0.8, .weigh = true, .all = true}},
};

// Logits whose probabilities fall with the square of the rank, in an order of no meaning.
static float *zipf(struct bench *b, int64_t rows, int64_t vocab)
{
    float *x = malloc((size_t)(rows * vocab) * sizeof *x);
    TLM_ASSERT(x);
    for (int64_t i = 0; i < rows * vocab; i++) x[i] = (float)(-2 * draw_log(1 + (double)(i * 7919 % vocab)));
    float *to = bench_put(b, x, (size_t)(rows * vocab) * sizeof *x);
    free(x);
    return to;
}

// The share of rows that are left to the host.
static double left(struct drawing *d, int32_t rows)
{
    int32_t drawn[MOST_DRAWN], count = 0;
    cuda_sample(NULL, &d->sample);
    bench_fetch(drawn, d->sample.drawn, (size_t)rows * sizeof *drawn);
    for (int32_t i = 0; i < rows; i++) count += drawn[i] == DRAW_NONE;
    return (double)count / rows;
}

static void draws_of_rows(struct bench *b, int32_t rows)
{
    const int64_t vocab = b->small ? 512 : 128256;
    const size_t page = 4096, bytes = (size_t)rows * (size_t)vocab * sizeof(float);
    struct drawing d = {.bytes = bytes, .host = aligned_alloc(page, (bytes + page - 1) / page * page)};
    const size_t data_bytes = sizeof(struct draws) + (size_t)rows * sizeof(struct draw_row);
    struct draws *data = calloc(1, data_bytes);
    char name[96];
    TLM_ASSERT(d.host && data);
    data->count = rows;
    const bool pinned = cuda_pin(d.host, bytes);
    d.sample = (struct cuda_sample){.drawn = bench_alloc(b, (size_t)rows * sizeof(int32_t)),
                                    .x = zipf(b, rows, vocab),
                                    .scratch = bench_alloc(b, cuda_sample_scratch(rows, vocab)),
                                    .most = rows,
                                    .vocab = vocab};
    for (size_t i = 0; i < sizeof draws_of / sizeof *draws_of; i++) {
        for (int32_t r = 0; r < rows; r++) {
            data->rows[r] = draws_of[i].row;
            data->rows[r].draw = (uint64_t)r;
            if (!data->rows[r].divisor) data->rows[r].divisor = 1;
        }
        d.sample.data = bench_put(b, data, data_bytes);
        snprintf(name, sizeof name, "%d rows, %s", rows, draws_of[i].name);
        bench_case(b, &(struct bench_case){"draws", name, (double)bytes, 0, BACKEND_COPY, left(&d, rows)},
                   run_sample, &d);
    }
    snprintf(name, sizeof name, "%d rows, logits to the host", rows);
    bench_case(b, &(struct bench_case){"draws", name, (double)bytes, 0, BACKEND_COPY, NAN}, run_copy, &d);
    if (pinned) cuda_unpin(d.host);
    free(d.host);
    free(data);
    bench_free_all(b);
}

void bench_sample(struct bench *b)
{
    draws_of_rows(b, 1);
    draws_of_rows(b, 8);
    if (!b->small) draws_of_rows(b, MOST_DRAWN);
}
