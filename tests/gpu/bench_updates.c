// tests/gpu/bench_updates.c -- the optimizers: what an update reads and writes at least, beside a copy; Muon's by its operations.
#include <math.h>

#include "cuda/update.h"
#include "tests/gpu/bench.h"

static void run_update(void *user, int turn)
{
    (void)turn;
    cuda_update(NULL, user);
}

static void run_matrix(void *user, int turn)
{
    (void)turn;
    cuda_muon(NULL, user);
}

static const void *verdict_of(struct bench *b)
{
    const struct update_verdict verdict = {.norm = 1, .clipped = 1, .factor = 1, .taken = 1};
    return bench_put(b, &verdict, sizeof verdict);
}

static const void *numbers_of(struct bench *b)
{
    const struct update_numbers now = {.rate = 1e-4f, .keep = 1, .root_factor = 1, .key = 1};
    return bench_put(b, &now, sizeof now);
}

static struct moment moment_of(struct bench *b, int64_t n, enum dtype type)
{
    struct moment m = {bench_alloc(b, dtype_row_bytes(type, n)),
                       bench_alloc(b, (size_t)(n / UPDATE_BLOCK) * sizeof(float))};
    float *zeros = bench_alloc(b, (size_t)n * sizeof(float)), *x = bench_numbers(b, 3, n);
    const struct cuda_rows one = {NULL, 1};
    cuda_scale(NULL, zeros, x, one, n, 0);
    // Bytes of nothing: the largest numbers that scales of nothing allow, which are none.
    if (type == DTYPE_I8)
        cuda_copy(NULL, m.data, zeros, (size_t)n),
            cuda_copy(NULL, m.scale, zeros, (size_t)(n / UPDATE_BLOCK) * 4);
    else
        cuda_convert(NULL, m.data, type, zeros, one, n);
    return m;
}

static void one_update(struct bench *b, enum update_rule rule, enum dtype moments, const char *name)
{
    const int64_t n = b->small ? 4096 : 64 << 20;
    const int both = rule == UPDATE_ADAMW ? 2 : 1;
    struct update_launch u = {.rule = rule,
                              .of = {.value = bench_numbers(b, 1, n),
                                     .copy = bench_alloc(b, (size_t)n * 2),
                                     .gradient = bench_numbers(b, 2, n),
                                     .m = moment_of(b, n, moments),
                                     .moments = moments,
                                     .count = n,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.95f,
                                     .slow1 = 0.1f,
                                     .slow2 = 0.05f,
                                     .eps = 1e-8f},
                              .now = numbers_of(b),
                              .verdict = verdict_of(b)};
    if (both == 2) u.of.v = moment_of(b, n, moments);
    // value both ways, gradient, copy; moments both ways
    const double bytes = (double)n * (4 + 4 + 4 + 2) + 2.0 * both * (double)dtype_row_bytes(moments, n);
    bench_case(b, &(struct bench_case){"updates", name, bytes, 0, BACKEND_COPY, NAN}, run_update, &u);
    bench_free_all(b);
}

static void one_matrix(struct bench *b)
{
    const int64_t rows = b->small ? 48 : 3072, cols = b->small ? 32 : 768, count = rows * cols;
    const int64_t side = rows < cols ? rows : cols, iterations = 5;
    struct update_matrix u = {.value = bench_numbers(b, 1, count),
                              .momentum = bench_numbers(b, 2, count),
                              .gradient = bench_numbers(b, 3, count),
                              .x = bench_alloc(b, (size_t)count * sizeof(float)),
                              .y = bench_alloc(b, (size_t)count * sizeof(float)),
                              .square = bench_alloc(b, (size_t)(side * side) * sizeof(float)),
                              .second = bench_alloc(b, (size_t)(side * side) * sizeof(float)),
                              .squares = bench_alloc(b, (size_t)rows * sizeof(double)),
                              .rows = rows,
                              .cols = cols,
                              .iterations = (int32_t)iterations,
                              .beta = 0.95f,
                              .slow = 0.05f,
                              .nesterov = true,
                              .now = numbers_of(b),
                              .verdict = verdict_of(b)};
    const double operations = 2.0 * (double)iterations * (double)side * (double)side *
                              (2.0 * (double)(count / side) + (double)side);
    bench_case(b,
               &(struct bench_case){"updates", "Muon, 3072 x 768, f32", 0, operations, BACKEND_PRODUCT, NAN},
               run_matrix, &u);
    bench_free_all(b);
}

void bench_updates(struct bench *b)
{
    one_update(b, UPDATE_ADAMW, DTYPE_F32, "AdamW, f32 moments");
    one_update(b, UPDATE_ADAMW, DTYPE_BF16, "AdamW, bf16 moments");
    one_update(b, UPDATE_ADAMW, DTYPE_I8, "AdamW, 8-bit moments");
    one_update(b, UPDATE_LION, DTYPE_BF16, "Lion, bf16 moments");
    one_update(b, UPDATE_SGD, DTYPE_F32, "SGD, f32 moments");
    one_matrix(b);
}
