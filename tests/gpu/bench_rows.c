// tests/gpu/bench_rows.c -- kernels that memory bounds: what they read and write at least, beside a copy.
#include <math.h>
#include <stdlib.h>

#include "ops/paged.h"
#include "tests/gpu/bench.h"

enum { CHECKED = 4 }; // rows that are held against the reference
enum { HEAD = 128, PAIRS = HEAD / 2 };

struct work {
    int64_t rows, cols;
    struct cuda_rows all;
    float *y, *a, *b, *w, *table;
    double *losses, *factor;
    int32_t *numbers; // (rows) tokens, targets, slots
    struct cuda_matrix embedding;
    struct paged_kv cache;
};

// The numbers of rows first .. of an array of bench_numbers(), in double.
static void host(double *x, uint64_t stream, int64_t count)
{
    for (int64_t i = 0; i < count; i++) x[i] = bench_number(stream, i);
}

#define LAUNCH(name) static void run_##name(void *user, int turn)
#define WORK               \
    struct work *w = user; \
    (void)turn

LAUNCH(add)
{
    WORK;
    cuda_add(NULL, w->y, w->a, w->b, w->all, w->cols);
}
LAUNCH(bias)
{
    WORK;
    cuda_bias(NULL, w->y, w->a, w->w, w->all, w->cols);
}
LAUNCH(scale)
{
    WORK;
    cuda_scale(NULL, w->y, w->a, w->all, w->cols, 0.125);
}
LAUNCH(softcap)
{
    WORK;
    cuda_softcap(NULL, w->y, w->a, w->all, w->cols, 0.5);
}
LAUNCH(gelu)
{
    WORK;
    cuda_activation(NULL, w->y, w->a, w->all, w->cols, ACT_GELU);
}
LAUNCH(swiglu)
{
    WORK;
    cuda_glu(NULL, w->y, w->a, w->b, w->all, w->cols, ACT_SILU);
}
LAUNCH(rmsnorm)
{
    WORK;
    cuda_rmsnorm(NULL, w->y, w->a, w->w, w->all, w->cols, w->cols, 1, 1e-5);
}
LAUNCH(layernorm)
{
    WORK;
    cuda_layernorm(NULL, w->y, w->a, w->w, w->b, w->all, w->cols, w->cols, 1, 1e-5);
}
LAUNCH(rope)
{
    WORK;
    cuda_rope(NULL, w->y, w->a, w->table, w->all, (int32_t)(w->cols / HEAD), HEAD, PAIRS, ROPE_HALVES);
}
LAUNCH(bf16)
{
    WORK;
    cuda_convert(NULL, w->y, DTYPE_BF16, w->a, w->all, w->cols);
}
LAUNCH(q8)
{
    WORK;
    cuda_convert(NULL, w->y, DTYPE_Q8_1, w->a, w->all, w->cols);
}
LAUNCH(embed)
{
    WORK;
    cuda_embed(NULL, w->y, w->numbers, &w->embedding, w->all);
}
LAUNCH(kv_write)
{
    WORK;
    cuda_kv_write(NULL, &w->cache, w->a, w->numbers, w->all, (int32_t)(w->cols / HEAD), HEAD);
}
LAUNCH(argmax)
{
    WORK;
    cuda_argmax(NULL, w->numbers, w->a, w->all, w->cols);
}
LAUNCH(cross_entropy)
{
    WORK;
    cuda_cross_entropy(NULL, w->losses, w->y, w->a, w->numbers, w->all, w->cols, w->factor);
}

// What becomes of rows x (and z) of `cols` numbers, with weights v, in double.
typedef void oracle_fn(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                       int64_t rows, int64_t cols);

static void check_add(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                      int64_t rows, int64_t cols)
{
    (void)v;
    ((void (*)(double *, const double *, const double *, int64_t))k->add_fwd)(y, x, z, rows * cols);
}
static void check_bias(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                       int64_t rows, int64_t cols)
{
    (void)z;
    ((void (*)(double *, const double *, const double *, int64_t, int64_t))k->bias_fwd)(y, x, v, rows, cols);
}
static void check_scale(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                        int64_t rows, int64_t cols)
{
    (void)z, (void)v;
    ((void (*)(double *, const double *, int64_t, double))k->scale_fwd)(y, x, rows * cols, 0.125);
}
static void check_softcap(const struct kernels *k, double *y, const double *x, const double *z,
                          const double *v, int64_t rows, int64_t cols)
{
    (void)z, (void)v;
    ((void (*)(double *, const double *, int64_t, double))k->softcap_fwd)(y, x, rows * cols, 0.5);
}
static void check_gelu(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                       int64_t rows, int64_t cols)
{
    (void)z, (void)v;
    ((void (*)(double *, const double *, int64_t, enum activation))k->activation_fwd)(y, x, rows * cols,
                                                                                      ACT_GELU);
}
static void check_swiglu(const struct kernels *k, double *y, const double *x, const double *z,
                         const double *v, int64_t rows, int64_t cols)
{
    (void)v;
    ((void (*)(double *, const double *, const double *, int64_t, enum activation))k->glu_fwd)(
        y, x, z, rows * cols, ACT_SILU);
}
static void check_rmsnorm(const struct kernels *k, double *y, const double *x, const double *z,
                          const double *v, int64_t rows, int64_t cols)
{
    (void)z;
    ((void (*)(double *, double *, const double *, const double *, int64_t, int64_t, double))k->rmsnorm_fwd)(
        y, NULL, x, v, rows, cols, 1e-5);
}
static void check_layernorm(const struct kernels *k, double *y, const double *x, const double *z,
                            const double *v, int64_t rows, int64_t cols)
{
    ((void (*)(double *, double *, double *, const double *, const double *, const double *, int64_t, int64_t,
               double))k->layernorm_fwd)(y, NULL, NULL, x, v, z, rows, cols, 1e-5);
}
static void check_rope(const struct kernels *k, double *y, const double *x, const double *z, const double *v,
                       int64_t rows, int64_t cols)
{
    (void)v;
    ((void (*)(double *, const double *, const double *, int64_t, int32_t, int32_t, int32_t,
               enum rope_pairing))k->rope_fwd)(y, x, z, rows, (int32_t)(cols / HEAD), HEAD, PAIRS,
                                               ROPE_HALVES);
}

static const struct row_op {
    const char *name;
    void (*launch)(void *user, int turn);
    oracle_fn *oracle; // NULL: others check it (tests/test_cuda.c)
    double bytes;      // a number of the input
} ops[] = {
    {"add", run_add, check_add, 12},
    {"bias", run_bias, check_bias, 8},
    {"scale", run_scale, check_scale, 8},
    {"softcap", run_softcap, check_softcap, 8},
    {"gelu", run_gelu, check_gelu, 8},
    {"swiglu", run_swiglu, check_swiglu, 12},
    {"rmsnorm", run_rmsnorm, check_rmsnorm, 8},
    {"layernorm", run_layernorm, check_layernorm, 8},
    {"rope", run_rope, check_rope, 8},
    {"to bf16", run_bf16, NULL, 6},
    {"to 8 bits", run_q8, NULL, 4 + 1 + 4 / 32.0},
    {"embedding, bf16", run_embed, NULL, 6},
    {"keys to the cache, f16", run_kv_write, NULL, 6},
};

// How far the first rows of y are from the reference.
static double row_error(const struct kernels *k, const struct row_op *op, const struct work *w)
{
    const size_t n = (size_t)(CHECKED * w->cols);
    double *x = malloc(4 * n * sizeof *x), *z = x + n, *v = z + n, *y = v + n;
    float *found = malloc(n * sizeof *found);
    double error = NAN;
    if (x && found) {
        host(x, 1, (int64_t)n), host(v, 3, w->cols);
        host(z, op->launch == run_rope ? 4 : 2, (int64_t)n);
        op->oracle(k, y, x, z, v, CHECKED, w->cols);
        bench_fetch(found, w->y, n * sizeof *found);
        error = bench_error(found, y, (int64_t)n);
    }
    free(x);
    free(found);
    return error;
}

static int32_t *row_numbers(struct bench *b, int64_t rows, int64_t below)
{
    int32_t *host_numbers = malloc((size_t)rows * sizeof *host_numbers);
    TLM_ASSERT(host_numbers);
    for (int64_t i = 0; i < rows; i++) host_numbers[i] = (int32_t)(i * 7919 % below);
    int32_t *numbers = bench_put(b, host_numbers, (size_t)rows * sizeof *numbers);
    free(host_numbers);
    return numbers;
}

static void plain_rows(struct bench *b)
{
    const struct kernels k = kernels_for_f64();
    struct work w = {.rows = b->small ? 16 : 8192, .cols = b->small ? 256 : 4096};
    const int64_t n = w.rows * w.cols;
    w.all = (struct cuda_rows){NULL, w.rows};
    w.y = bench_alloc(b, (size_t)n * sizeof(float));
    w.a = bench_numbers(b, 1, n), w.b = bench_numbers(b, 2, n), w.w = bench_numbers(b, 3, w.cols);
    w.table = bench_numbers(b, 4, w.rows * 2 * PAIRS);
    w.numbers = row_numbers(b, w.rows, w.rows);
    w.embedding = (struct cuda_matrix){.type = DTYPE_BF16,
                                       .codes = w.b,
                                       .code_stride = (size_t)w.cols * 2,
                                       .outputs = w.rows,
                                       .inputs = w.cols};
    w.cache = paged_layout(DTYPE_F16, KV_ROWS, (int32_t)(w.rows / KV_BLOCK), HEAD);
    w.cache.data = bench_alloc(b, (size_t)(w.cols / HEAD) * w.cache.head_stride);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct bench_case c = {"rows", ops[i].name, ops[i].bytes * (double)n, 0, BACKEND_COPY, NAN};
        ops[i].launch(&w, 0);
        if (ops[i].oracle) c.error = row_error(&k, &ops[i], &w);
        bench_case(b, &c, ops[i].launch, &w);
    }
    bench_free_all(b);
}

// Behind the logits of a vocabulary as Llama 3's.
static void logit_rows(struct bench *b)
{
    struct work w = {.rows = b->small ? 4 : 512, .cols = b->small ? 512 : 128256};
    const int64_t n = w.rows * w.cols;
    w.all = (struct cuda_rows){NULL, w.rows};
    w.y = bench_alloc(b, (size_t)n * sizeof(float));
    w.a = bench_numbers(b, 1, n);
    w.losses = bench_alloc(b, (size_t)w.rows * sizeof *w.losses);
    w.factor = bench_put(b, &(double){1}, sizeof *w.factor);
    w.numbers = row_numbers(b, w.rows, w.cols);
    bench_case(b, &(struct bench_case){"rows", "cross entropy", 8 * (double)n, 0, BACKEND_COPY, NAN},
               run_cross_entropy, &w);
    bench_case(b, &(struct bench_case){"rows", "argmax", 4 * (double)n, 0, BACKEND_COPY, NAN}, run_argmax,
               &w);
    bench_free_all(b);
}

void bench_rows(struct bench *b)
{
    plain_rows(b);
    logit_rows(b);
}
