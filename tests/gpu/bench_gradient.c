// tests/gpu/bench_gradient.c -- what a step of training is made of beside its updates: products of gradients, dense, of experts and of
// heads, at the sizes of GPT-2 (12 layers of 768, 50,257 tokens) and of a mixture, and the gradient of the loss.
#include <math.h>
#include <stdlib.h>

#include "cuda/gradient.h"
#include "tests/gpu/bench.h"

static void run_product(void *user, int turn)
{
    (void)turn;
    cuda_matmul_nn(NULL, user);
}

static void *narrow(struct bench *b, uint64_t stream, int64_t count)
{
    void *to = bench_alloc(b, (size_t)count * 2);
    cuda_convert(NULL, to, DTYPE_BF16, bench_numbers(b, stream, count), (struct cuda_rows){NULL, 1}, count);
    return to;
}

static double number(uint64_t stream, int64_t i)
{
    return f32_from_bf16(bf16_from_f32(bench_number(stream, i)));
}

// Of the first results of the first matrix, whose rows of the step are from 0 on, `k` steps of it.
static double product_error(const struct cuda_product *p, int64_t k)
{
    enum { CHECKED = 16 };
    float y[CHECKED];
    double oracle[CHECKED] = {0};
    bench_fetch(y, p->y, sizeof y);
    for (int64_t i = 0; i < k; i++)
        for (int n = 0; n < CHECKED; n++)
            oracle[n] += number(1, p->turned ? i * p->x_stride : i) * number(2, i * p->w_stride + n);
    return bench_error(y, oracle, CHECKED);
}

// y (m, n) of k; those of a weight sum over rows of the step (turned). experts: that many, each of an equal share of the rows.
struct shape {
    const char *name;
    int64_t m, n, k, experts;
    bool turned;
};

static void one_product(struct bench *b, const struct shape *of)
{
    struct shape s = *of;
    if (b->small) s.m = 40, s.n = 24, s.k = 48;
    const int64_t share = s.experts ? s.experts : 1, x_cols = ((s.turned ? s.m : s.k) + 7) / 8 * 8;
    const int64_t rows = share * (s.turned ? s.k : s.m), matrices = share * (s.turned ? s.m : s.k) * s.n;
    struct cuda_product p = {
        .y = bench_alloc(b, sizeof(float) * (size_t)(s.turned ? matrices : rows * s.n)),
        .x = narrow(b, 1, rows * x_cols),
        .w = narrow(b, 2, s.turned ? rows * s.n : matrices),
        .x_type = DTYPE_BF16,
        .w_type = DTYPE_BF16,
        .x_stride = x_cols,
        .w_stride = s.n,
        .m = {NULL, s.turned ? s.m : rows},
        .k = {NULL, s.turned ? rows : s.k},
        .n = s.n,
        .turned = s.turned,
    };
    p.parts =
        bench_alloc(b, sizeof(float) * (size_t)(cuda_product_parts(DTYPE_BF16, p.m.most, s.n, p.k.most) *
                                                p.m.most * s.n));
    if (s.experts) {
        int32_t *first = malloc(sizeof *first * (size_t)(share + 1));
        for (int64_t e = 0; e <= share; e++) first[e] = (int32_t)(e * (s.turned ? s.k : s.m));
        p.groups =
            (struct cuda_product_groups){.count = share,
                                         .first = bench_put(b, first, sizeof *first * (size_t)(share + 1)),
                                         .over_k = s.turned,
                                         .w_step = s.turned ? 0 : s.k * s.n,
                                         .y_step = s.turned ? s.m * s.n : 0,
                                         .y_stride = s.n};
        free(first);
    }
    run_product(&p, 0);
    const double operations = 2.0 * (double)share * (double)s.m * (double)s.n * (double)s.k;
    bench_case(
        b, &(struct bench_case){"gradients", s.name, 0, operations, BACKEND_PRODUCT, product_error(&p, s.k)},
        run_product, &p);
    bench_free_all(b);
}

static void run_cross_entropy(void *user, int turn)
{
    (void)turn;
    cuda_cross_entropy_dx(NULL, user);
}

static void run_distill(void *user, int turn)
{
    (void)turn;
    cuda_distill(NULL, user);
}

static void one_loss(struct bench *b)
{
    const int64_t rows = b->small ? 4 : 1280, vocab = b->small ? 501 : 50257, stride = (vocab + 7) / 8 * 8;
    int32_t *targets = calloc((size_t)rows, sizeof *targets);
    for (int64_t r = 0; r < rows; r++) targets[r] = (int32_t)(r % vocab);
    struct cuda_distill a = {.loss = bench_alloc(b, (size_t)rows * sizeof(double)),
                             .dx = bench_alloc(b, (size_t)(rows * stride) * 2),
                             .dx_type = DTYPE_BF16,
                             .dx_stride = stride,
                             .x = bench_numbers(b, 1, rows * vocab),
                             .teacher = bench_numbers(b, 2, rows * vocab),
                             .targets = bench_put(b, targets, sizeof *targets * (size_t)rows),
                             .rows = {NULL, rows},
                             .vocab = vocab,
                             .share = 0.5,
                             .factor = bench_put(b, &(double){1}, sizeof(double))};
    free(targets);
    const double number = (double)(rows * vocab);
    bench_case(
        b,
        &(struct bench_case){"gradients", "cross entropy, 50257, to bf16", 6 * number, 0, BACKEND_COPY, NAN},
        run_cross_entropy, &a);
    bench_case(
        b,
        &(struct bench_case){"gradients", "distillation, 50257, to bf16", 10 * number, 0, BACKEND_COPY, NAN},
        run_distill, &a);
    bench_free_all(b);
}

void bench_gradients(struct bench *b)
{
    static const struct shape shapes[] = {
        {"dx of 50257 x 768, 1280 rows", 1280, 768, 50257, 0, false},
        {"dw of 50257 x 768, 1280 rows", 50257, 768, 1280, 0, true},
        {"dx of 3072 x 768, 16384 rows", 16384, 768, 3072, 0, false},
        {"dw of 3072 x 768, 16384 rows", 3072, 768, 16384, 0, true},
        {"dw of 768 x 768, 16384 rows", 768, 768, 16384, 0, true},
        {"dx of 8 experts, 768 x 2048, 2048 rows each", 2048, 2048, 768, 8, false},
        {"dw of 8 experts, 768 x 2048, 2048 rows each", 768, 2048, 2048, 8, true},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) one_product(b, &shapes[i]);
    one_loss(b);
}
