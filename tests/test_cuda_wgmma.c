// tests/test_cuda_wgmma.c -- every form of the product by wgmma against a product in double, whichever would be chosen: tiles of 128 and 256
// outputs, alone and in clusters, over shapes that leave tiles and pairs of them partly or wholly without rows. A cluster's bits are
// those of blocks alone.
#include "cuda/products.h"
#include "tests/cuda_kernels.h"
#include "tests/tests.h"

enum { MATRICES = 3 };

struct tiles_case {
    int64_t most, used, n, k;
    int64_t parts; // of k; 0: experts, whose rows begin at `first`
    int32_t first[MATRICES + 1];
};

static uint16_t *halves(int64_t count, enum dtype type, uint64_t stream)
{
    uint16_t *x = device(NULL, (size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        const float number = random_signed(stream, (uint64_t)i);
        x[i] = type == DTYPE_F16 ? f16_from_f32(number) : bf16_from_f32(number);
    }
    return x;
}

static double half_at(const void *x, enum dtype type, int64_t i)
{
    const uint16_t bits = ((const uint16_t *)x)[i];
    return (double)(type == DTYPE_F16 ? f32_from_f16(bits) : f32_from_bf16(bits));
}

// Matrix, or part of k, `g` of the case; y is (used, n), of experts the rows of all
static void tiles_oracle(double *y, const struct cuda_tiles *t, const struct tiles_case *c, bool nn,
                         int64_t g)
{
    const enum dtype type = t->p.w_type;
    const int64_t each = ((c->k + 63) / 64 + t->parts - 1) / t->parts * 64;
    const bool experts = !c->parts;
    const int64_t k0 = experts ? 0 : g * each, k1 = experts || k0 + each > c->k ? c->k : k0 + each;
    const int64_t m1 = experts ? c->first[g + 1] : c->used, row = experts ? g * c->n : 0;
    for (int64_t m = experts ? c->first[g] : 0; m < m1; m++)
        for (int64_t n = 0; n < c->n; n++) {
            double sum = 0;
            for (int64_t k = k0; k < k1; k++)
                sum += half_at(t->p.x, type, m * t->p.x_stride + k) *
                       half_at(t->p.w, type, nn ? k * t->p.w_stride + n : (row + n) * t->p.w_stride + k);
            y[m * c->n + n] = sum;
        }
}

// By `form`, compared with the same of blocks alone, which comes first
static void try_tiles(const struct tiles_case *c, enum dtype type, bool nn, enum wgmma_form form)
{
    const bool experts = !c->parts;
    const int64_t columns = (c->n + 7) / 8 * 8, parts = experts ? 1 : c->parts, size = c->most * c->n;
    const int64_t count = experts ? MATRICES : parts;
    struct cuda_tiles t = {.parts = parts, .passes = 1, .y_stride = c->n};
    t.p.x_type = t.p.w_type = type;
    t.p.x_stride = c->k, t.p.w_stride = nn ? columns : c->k;
    t.p.x = halves(c->most * c->k, type, 1);
    t.p.w = halves(nn ? c->k * columns : c->k * c->n * (experts ? MATRICES : 1), type, 2);
    t.p.m = experts ? (struct cuda_rows){NULL, c->most} : some_rows((int32_t)c->used, c->most);
    t.p.k = (struct cuda_rows){NULL, c->k}, t.p.n = c->n;
    if (experts) t.groups = (struct cuda_groups){MATRICES, device(c->first, sizeof c->first)};
    float *alone = empty_device(size * parts), *y = t.p.y = empty_device(size * parts);
    double *oracle = calloc((size_t)size, sizeof *oracle);
    const bool there = matmul_wgmma_as(NULL, &t, nn, form);
    t.p.y = alone;
    if (there) {
        ck_assert(matmul_wgmma_as(NULL, &t, nn, form % WGMMA_PAIRS_128));
        for (int64_t g = 0; g < count; g++) {
            tiles_oracle(oracle, &t, c, nn, g);
            if (!experts) expect("a part", y + g * size, oracle, c->used, c->most, c->n, 1e-5);
        }
        if (experts) expect("experts", y, oracle, c->used, c->most, c->n, 1e-5);
        ck_assert_mem_eq(y, alone, (size_t)(size * parts) * sizeof *y);
    }
    done();
    free(oracle);
}

START_TEST(test_wgmma_forms)
{
    static const struct tiles_case cases[] = {
        {.most = 1, .used = 1, .n = 1, .k = 8, .parts = 1},
        {.most = 140, .used = 129, .n = 257, .k = 72, .parts = 1},  // two tiles, more outputs than one has
        {.most = 260, .used = 120, .n = 130, .k = 200, .parts = 1}, // the lower tile has no rows
        {.most = 280, .used = 270, .n = 40, .k = 456, .parts = 1},  // an odd number of tiles, many panels
        {.most = 200, .used = 200, .n = 70, .k = 264, .parts = 3},  // parts of k, the last of them smaller
        {.most = 1200, .used = 1153, .n = 9, .k = 64, .parts = 1},  // more than a band of tiles
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        orders((int)i + _i);
        try_tiles(&cases[i], DTYPE_BF16, false, (enum wgmma_form)_i);
        try_tiles(&cases[i], DTYPE_BF16, true, (enum wgmma_form)_i);
    }
    try_tiles(&cases[1], DTYPE_F16, false, (enum wgmma_form)_i);
}
END_TEST

START_TEST(test_wgmma_experts)
{
    static const struct tiles_case cases[] = {
        {.most = 300, .used = 300, .n = 24, .k = 40, .first = {0, 0, 131, 300}},
        {.most = 290, .used = 260, .n = 130, .k = 72, .first = {0, 129, 130, 260}},
    };
    for (int i = 0; i < 2; i++) {
        orders(i + _i);
        try_tiles(&cases[i], DTYPE_BF16, false, (enum wgmma_form)_i);
    }
}
END_TEST

// Nothing is shared where there is one tile of rows.
START_TEST(test_wgmma_choice)
{
    struct cuda_tiles t = {.parts = 1, .passes = 1};
    for (int64_t n = 128; n <= 16384; n *= 2) {
        t.p.m.most = 128, t.p.n = n;
        ck_assert_int_lt(matmul_wgmma_form(&t), WGMMA_PAIRS_128);
    }
}
END_TEST

Suite *suite_cuda_wgmma(void)
{
    Suite *s = suite_create("cuda_wgmma");
    TCase *t = tcase_create("cuda_wgmma");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_wgmma_forms, 0, WGMMA_FORMS);
    tcase_add_loop_test(t, test_wgmma_experts, 0, WGMMA_FORMS);
    tcase_add_test(t, test_wgmma_choice);
    suite_add_tcase(s, t);
    return s;
}
