// tests/test_gradient_kernels.c -- the kernels of training on every tier, against the double references: odd sizes, unaligned rows,
// buffers that end at a page that faults and begin as NaN, in place, numbers that overflow.
#include <float.h>

#include "ops/ops.h"
#include "tests/kernels.h"
#include "tests/tests.h"

static const int64_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,   10,  11, 12,
                                13, 14, 15, 16, 17, 31, 32, 33, 511, 512, 513};
enum { SIZES = sizeof sizes / sizeof *sizes };

// ---- what all share -----------------------------------------------------------------------------------

// Floats that end at a page that faults, and the same numbers in double.
struct numbers {
    struct guarded guard;
    float *f;
    double *d;
    int64_t n;
};

// NaN, as outputs are before they are written.
static struct numbers unset(int64_t n)
{
    struct numbers x = {.guard = guarded_alloc((size_t)n * sizeof(float)), .n = n};
    x.f = x.guard.data;
    x.d = malloc((size_t)n * sizeof *x.d);
    ck_assert(x.d != NULL);
    for (int64_t i = 0; i < n; i++) x.d[i] = NAN;
    return x;
}

static void widen(struct numbers *x)
{
    for (int64_t i = 0; i < x->n; i++) x->d[i] = x->f[i];
}

static struct numbers drawn(int64_t n, float spread, uint64_t stream)
{
    struct numbers x = unset(n);
    for (int64_t i = 0; i < n; i++) x.f[i] = spread * random_signed(stream, (uint64_t)i);
    widen(&x);
    return x;
}

static void release(struct numbers *x)
{
    guarded_free(&x->guard);
    free(x->d);
}

// Errors of at most `tolerance`, relative to the largest number there is or to `scale`; a NaN where the oracle has one, and nowhere else.
static void check_numbers(const char *what, enum isa isa, int64_t size, const struct numbers *x,
                          double tolerance, double scale)
{
    double largest = scale;
    for (int64_t i = 0; i < x->n; i++) largest = fmax(largest, fabs(x->d[i]));
    for (int64_t i = 0; i < x->n; i++) {
        bool good =
            isnan(x->d[i]) ? isnan(x->f[i]) : fabs(x->f[i] - x->d[i]) <= tolerance * largest + FLT_MIN;
        if (!good)
            ck_abort_msg("%s: %s of %d: number %d: expected %.9g, found %.9g", isa_name(isa), what, (int)size,
                         (int)i, x->d[i], x->f[i]);
    }
    ck_assert_msg(guarded_intact(&x->guard), "%s: %s of %d wrote in front of its numbers", isa_name(isa),
                  what, (int)size);
}

// ---- cross entropy ------------------------------------------------------------------------------------

static const float extreme_logits[] = {-INFINITY, 80,    1e4f,    -1e4f,  0.0f,  -0.0f,
                                       1e-40f,    88.8f, -103.5f, 65504., 1e30f, -3e38f};
enum { EXTREME_LOGITS = sizeof extreme_logits / sizeof *extreme_logits };

// Loss and gradient of one row; the loss alone, and the gradient over the logits, are the same to the bit.
static void check_cross_entropy(const struct kernels *k, const struct numbers *x, int32_t target)
{
    struct kernels f64 = kernels_for_f64();
    struct numbers dx = unset(x->n);
    double loss = k->cross_entropy(dx.f, x->f, target, x->n, 0.125);
    double expected = f64.cross_entropy((void *)dx.d, (void *)x->d, target, x->n, 0.125);
    ck_assert_msg(fabs(loss - expected) <= 1e-6 * (1 + fabs(expected)) || (isnan(loss) && isnan(expected)) ||
                      loss == expected,
                  "%s: loss of %d logits: expected %.9g, found %.9g", isa_name(k->isa), (int)x->n, expected,
                  loss);
    check_numbers("cross_entropy", k->isa, x->n, &dx, 1e-6, 0.125);
    double alone = k->cross_entropy(NULL, x->f, target, x->n, 0);
    ck_assert_mem_eq(&alone, &loss, sizeof loss);
    double within = k->cross_entropy(x->f, x->f, target, x->n, 0.125);
    ck_assert_mem_eq(&within, &loss, sizeof loss);
    ck_assert_mem_eq(x->f, dx.f, (size_t)x->n * sizeof *dx.f);
    release(&dx);
}

static void check_row(const struct kernels *k, int64_t vocab, float spread, int64_t target)
{
    struct numbers x = drawn(vocab, spread, 1);
    check_cross_entropy(k, &x, (int32_t)target);
    release(&x);
}

START_TEST(test_cross_entropy)
{
    static const float spreads[] = {0, 1e-3f, 10, 200};
    for (enum isa isa = ISA_REF; isa <= isa_detect(); isa++) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++)
            for (size_t s = 0; s < sizeof spreads / sizeof *spreads; s++) {
                check_row(&k, sizes[i], spreads[s], sizes[i] - 1);
                check_row(&k, sizes[i], spreads[s], -1); // ignored
            }
        check_row(&k, 50257, 12, 31415);
        for (int i = 0; i < EXTREME_LOGITS; i++) { // one that stands out, or all of them
            struct numbers x = drawn(77, 1, 2), same = unset(77);
            x.f[70] = extreme_logits[i];
            for (int j = 0; j < 77; j++) same.f[j] = extreme_logits[i];
            widen(&x), widen(&same);
            check_cross_entropy(&k, &x, 3);
            check_cross_entropy(&k, &same, 76);
            release(&x), release(&same);
        }
    }
}
END_TEST

Suite *suite_gradient_kernels(void)
{
    Suite *s = suite_create("gradient_kernels");
    TCase *t = tcase_create("gradient_kernels");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_cross_entropy);
    suite_add_tcase(s, t);
    return s;
}
