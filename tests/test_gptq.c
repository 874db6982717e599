// tests/test_gptq.c -- factors of moments against their definition, and matrices rounded by them against rounding by search: the
// quadratic error, which is what GPTQ is for.
#include <math.h>
#include <stdlib.h>

#include "core/rng.h"
#include "quant/methods/gptq.h"
#include "tests/kernels.h"
#include "tests/tests.h"

static struct tlm_error err;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

static float normal(uint64_t stream, int64_t i)
{
    double a = rng_uniform(5, stream, (uint64_t)(2 * i)), b = rng_uniform(5, stream, (uint64_t)(2 * i + 1));
    return (float)(sqrt(-2 * log(1 - a)) * cos(6.283185307179586 * b));
}

// Rows whose columns go together, and some of which are much larger than others: (rows, n)
static float *correlated(int64_t rows, int64_t n)
{
    enum { COMMON = 12 };
    float *x = malloc((size_t)(rows * n) * sizeof *x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++) {
            float sum = 0.3f * normal(1, r * n + c);
            for (int64_t k = 0; k < COMMON; k++)
                sum += normal(2, r * COMMON + k) * normal(3, c * COMMON + k) / 3;
            x[r * n + c] = sum * (c % 17 == 3 ? 8 : 1);
        }
    return x;
}

struct fixture {
    struct threads *threads;
    struct kernels kernels;
    struct hessian h;
};

static void open_fixture(struct fixture *f, int64_t n, int64_t rows, int threads, const float *x)
{
    OK(threads_open(&f->threads, threads, &err));
    f->kernels = kernels_for(isa_detect());
    OK(hessian_open(&f->h, n, 1, rows, &f->kernels, f->threads, &err));
    hessian_add(&f->h, 0, x, (size_t)n, rows / 2); // in two parts
    hessian_add(&f->h, 0, x + rows / 2 * n, (size_t)n, rows - rows / 2);
    hessian_select(&f->h, 0);
}

static void close_fixture(struct fixture *f)
{
    hessian_close(&f->h);
    threads_close(f->threads);
}

START_TEST(moments_and_their_factors_are_what_they_should_be)
{
    static const int64_t sizes[] = {32, 96, 256, 416};
    for (int k = 0; k < 4; k++) {
        int64_t n = sizes[k], rows = 2 * n;
        float *x = correlated(rows, n);
        struct fixture f;
        open_fixture(&f, n, rows, 2, x);
        const struct hessian *h = &f.h;
        double *a = calloc((size_t)(n * n), sizeof *a), mean = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                for (int64_t r = 0; r < rows; r++) a[i * n + j] += (double)x[r * n + i] * x[r * n + j];
                a[i * n + j] /= (double)rows;
                ck_assert_double_le(fabs(a[i * n + j] - h->h[i * n + j]), 1e-4 * (1 + fabs(a[i * n + j])));
            }
        for (int64_t i = 0; i < n; i++) mean += a[i * n + i] / (double)n;
        hessian_factor(&f.h, 0.01, 32, 32);
        // U H U^T = D, of the columns in their order.
        for (int64_t i = 0; i < n; i++) a[i * n + i] += 0.01 * mean;
        for (int64_t i = 0; i < n; i++) {
            ck_assert_float_eq(h->u[i * n + i], 1);
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                if (j < i) ck_assert_float_eq(h->u[i * n + j], 0);
                for (int64_t p = i; p < n && j % 7 == i % 7; p++) {
                    double inner = 0;
                    for (int64_t q = j; q < n; q++)
                        inner += a[h->order[p] * n + h->order[q]] * h->u[j * n + q];
                    sum += h->u[i * n + p] * inner;
                }
                if (j % 7 != i % 7) continue; // a part of them is enough
                ck_assert_double_le(fabs(sum - (i == j ? h->d[i] : 0)), 1e-3 * mean);
            }
        }
        close_fixture(&f);
        free(a), free(x);
    }
}
END_TEST

// The sum over all rows of e H e^T, e what was lost of w.
static double error_of(const float *w, const void *rounded, enum dtype type, int64_t rows, const float *x,
                       int64_t n, int64_t samples)
{
    double sum = 0;
    float *q = malloc((size_t)n * sizeof *q);
    for (int64_t r = 0; r < rows; r++) {
        quant_types[type].dequantize(q, (const char *)rounded + (size_t)r * dtype_row_bytes(type, n), n);
        for (int64_t s = 0; s < samples; s++) {
            double y = 0;
            for (int64_t c = 0; c < n; c++) y += ((double)w[r * n + c] - q[c]) * x[s * n + c];
            sum += y * y;
        }
    }
    free(q);
    return sum;
}

struct rounded {
    double gptq, search;
    void *bytes;
};

static struct rounded round_both(enum dtype type, const float *w, int64_t rows, const float *x, int64_t n,
                                 int64_t samples, int threads, double damping)
{
    struct fixture f;
    const struct grid *grid = quant_types[type].grid;
    size_t row_bytes = dtype_row_bytes(type, n);
    struct rounded out = {.bytes = malloc((size_t)rows * row_bytes)};
    open_fixture(&f, n, samples, threads, x);
    float *weights = malloc((size_t)n * sizeof *weights);
    for (int64_t c = 0; c < n; c++) weights[c] = f.h.h[c * n + c];
    for (int64_t r = 0; r < rows; r++)
        quant_types[type].quantize((char *)out.bytes + (size_t)r * row_bytes, w + r * n, n, weights);
    out.search = error_of(w, out.bytes, type, rows, x, n, samples);
    hessian_factor(&f.h, damping, grid->block, grid->sub);
    struct gptq p = {&f.h, type, w, DTYPE_F32, (size_t)n * sizeof *w, rows, out.bytes};
    OK(gptq_round(&p, &err));
    out.gptq = error_of(w, out.bytes, type, rows, x, n, samples);
    free(weights);
    close_fixture(&f);
    return out;
}

static const enum dtype grids[] = {DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,   DTYPE_Q5_1,
                                   DTYPE_Q8_0, DTYPE_Q2_K, DTYPE_Q3_K,   DTYPE_Q4_K,
                                   DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS};
enum { GRIDS = sizeof grids / sizeof *grids };

static float *weights_of(int64_t rows, int64_t n)
{
    float *w = malloc((size_t)(rows * n) * sizeof *w);
    for (int64_t i = 0; i < rows * n; i++) w[i] = 0.1f * normal(4, i);
    return w;
}

START_TEST(rows_that_go_together_lose_less)
{
    enum { ROWS = 13, N = 512, SAMPLES = 768 };
    float *w = weights_of(ROWS, N), *x = correlated(SAMPLES, N);
    for (int i = 0; i < GRIDS; i++) {
        struct rounded one = round_both(grids[i], w, ROWS, x, N, SAMPLES, 1, 0.01);
        struct rounded two = round_both(grids[i], w, ROWS, x, N, SAMPLES, 3, 0.01);
        const char *name = dtype_traits[grids[i]].name;
        ck_assert_msg(one.gptq < 0.6 * one.search, "%s: %g, by search %g", name, one.gptq, one.search);
        ck_assert_mem_eq(one.bytes, two.bytes, ROWS * dtype_row_bytes(grids[i], N));
        free(one.bytes), free(two.bytes);
    }
    free(w), free(x);
}
END_TEST

START_TEST(columns_that_do_not_are_rounded_by_search)
{
    enum { ROWS = 9, N = 256 };
    float *w = weights_of(ROWS, N), *x = calloc(N * N, sizeof *x);
    for (int c = 0; c < N; c++) x[c * N + c] = 1 + (float)(c % 5); // each sample one column
    for (int i = 0; i < GRIDS; i++) {
        struct rounded r = round_both(grids[i], w, ROWS, x, N, N, 2, 1e-6);
        ck_assert_msg(r.gptq <= 1.0001 * r.search, "%s: %g, by search %g", dtype_traits[grids[i]].name,
                      r.gptq, r.search);
        free(r.bytes);
    }
    free(w), free(x);
}
END_TEST

START_TEST(numbers_without_a_scale_are_refused)
{
    enum { ROWS = 2, N = 64 };
    float *w = weights_of(ROWS, N), *x = correlated(N, N);
    uint8_t out[ROWS * 36];
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        w[N + 3] = i ? NAN : 1e6f;
        open_fixture(&f, N, N, 1, x);
        hessian_factor(&f.h, 0.01, 32, 32);
        struct gptq p = {&f.h, DTYPE_Q4_0, w, DTYPE_F32, N * sizeof *w, ROWS, out};
        ck_assert_int_eq(gptq_round(&p, &err), TLM_ERR_FORMAT);
        close_fixture(&f);
    }
    free(w), free(x);
}
END_TEST

Suite *suite_gptq(void)
{
    Suite *s = suite_create("gptq");
    TCase *t = tcase_create("gptq");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, moments_and_their_factors_are_what_they_should_be);
    tcase_add_test(t, rows_that_go_together_lose_less);
    tcase_add_test(t, columns_that_do_not_are_rounded_by_search);
    tcase_add_test(t, numbers_without_a_scale_are_refused);
    suite_add_tcase(s, t);
    return s;
}
