// tests/test_activations.c -- activations, alone and gated, softcap and scale on every tier: each number against its formula in double, so
// that no large number hides a small one's error; numbers that overflow; one number at a time, in place, has the bits of many.
#include <float.h>

#include "ops/ops.h"
#include "tests/kernels.h"
#include "tests/tests.h"

static const int64_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,   10,  11, 12,
                                13, 14, 15, 16, 17, 31, 32, 33, 511, 512, 513};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const float special[] = {0.0f,    -0.0f,    INFINITY, -INFINITY, NAN,     3e38f, -3e38f, 1e-40f,
                                -1e-40f, 88.8f,    -88.8f,   -12.9f,    -14.5f,  20.0f, 1e20f,  -1e20f,
                                7.0f,    7.00001f, -7.0f,    1e-30f,    -103.0f, -5.5f};
enum { SPECIAL = sizeof special / sizeof *special };

// ---- the formulas -------------------------------------------------------------------------------------

static double act(double x, enum activation kind)
{
    switch (kind) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return x * (erfc(-x / sqrt(2)) / 2);
    case ACT_GELU_TANH: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_RELU: return x < 0 ? 0 : x;
    case ACT_RELU_SQUARED: return x < 0 ? 0 : x * x;
    case ACT_SWIGLU_CLAMPED: break;
    }
    ck_abort_msg("not an activation");
}

static double gated(double gate, double up, enum activation kind)
{
    if (kind != ACT_SWIGLU_CLAMPED) return act(gate, kind) * up;
    double g = gate > 7 ? 7 : gate, u = up > 7 ? 7 : up < -7 ? -7 : up;
    return g / (1 + exp(-1.702 * g)) * (u + 1);
}

// The relative error that a form may have at x: a few units in the last place, and what becomes of the rounded argument of exp or erfc,
// which multiply its error by its size. GELU's fast forms keep the digits of x^2 that its rounding drops.
static double allowed(double x, enum activation kind, enum isa isa)
{
    double grown = 0;
    if (kind == ACT_GELU && isa < ISA_AVX2) grown = x * x;
    if (kind == ACT_GELU_TANH) grown = 2 * sqrt(2 / M_PI) * (fabs(x) + 0.044715 * fabs(x * x * x));
    if (kind == ACT_SWIGLU_CLAMPED) grown = 1.702 * fabs(x);
    return FLT_EPSILON * (4.5 + 2 * fmin(grown, 200));
}

// exp(-x) overflows at 88.73, where SiLU is 3e-37 yet and here becomes 0; `up` is at most 9.
#define SMALL 3e-36

static void check_number(const char *what, enum isa isa, double x, double got, double want, double tolerance)
{
    bool good = isnan(want)            ? isnan(got)
                : fabs(want) > FLT_MAX ? got == (want > 0 ? INFINITY : -INFINITY)
                                       : fabs(got - want) <= tolerance * fabs(want) + SMALL;
    if (!good) // Check notes every assertion in a file, which would take longer than the numbers
        ck_abort_msg("%s: %s of %.9g: expected %.9g, found %.9g", isa_name(isa), what, x, want, got);
}

// ---- numbers ------------------------------------------------------------------------------------------

enum { SPREADS = 5 };
static const float spreads[SPREADS] = {1e-30f, 1, 6, 100, 1e30f};

static struct guarded spread_numbers(int64_t n, float spread, uint64_t stream)
{
    struct guarded x = guarded_alloc((size_t)n * sizeof(float));
    fill_random(x.data, n, stream);
    for (int64_t i = 0; i < n; i++) ((float *)x.data)[i] *= spread;
    return x;
}

static const char *const names[] = {"silu", "gelu", "gelu_tanh", "relu", "relu_squared", "swiglu_clamped"};
enum { KINDS = sizeof names / sizeof *names };

static void check_activation(const struct kernels *k, enum activation kind, int64_t n, float spread)
{
    struct guarded x = spread_numbers(n, spread, 1), y = guarded_alloc(x.size);
    float *in = x.data, *out = y.data;
    k->activation_fwd(out, in, n, kind);
    for (int64_t i = 0; i < n; i++)
        check_number(names[kind], k->isa, in[i], out[i], act(in[i], kind), allowed(in[i], kind, k->isa));
    ck_assert(guarded_intact(&y));
    for (int64_t i = 0; i < n; i++) k->activation_fwd(in + i, in + i, 1, kind);
    ck_assert_mem_eq(in, out, y.size);
    guarded_free(&x), guarded_free(&y);
}

static void check_glu(const struct kernels *k, enum activation kind, int64_t n, float spread)
{
    struct guarded gate = spread_numbers(n, spread, 1), up = spread_numbers(n, 9, 2),
                   y = guarded_alloc(gate.size);
    float *g = gate.data, *u = up.data, *out = y.data;
    k->glu_fwd(out, g, u, n, kind);
    for (int64_t i = 0; i < n; i++) {
        check_number(names[kind], k->isa, g[i], out[i], gated(g[i], u[i], kind),
                     allowed(g[i], kind, k->isa) + FLT_EPSILON);
    }
    ck_assert(guarded_intact(&y));
    for (int64_t i = 0; i < n; i++) // over the gates, and over the other rows
        k->glu_fwd(i % 2 ? u + i : g + i, g + i, u + i, 1, kind);
    bool same = true;
    for (int64_t i = 0; i < n; i++) same &= !memcmp(i % 2 ? u + i : g + i, out + i, sizeof *out);
    ck_assert(same);
    guarded_free(&gate), guarded_free(&up), guarded_free(&y);
}

START_TEST(test_activations)
{
    enum activation kind = (enum activation)_i;
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES + SPREADS; i++) {
            int64_t n = i < SIZES ? sizes[i] : 50000;
            float spread = i < SIZES ? 6 : spreads[i - SIZES];
            if (kind != ACT_SWIGLU_CLAMPED) check_activation(&k, kind, n, spread);
            check_glu(&k, kind, n, spread);
        }
    }
}
END_TEST

START_TEST(test_special_numbers)
{
    enum activation kind = (enum activation)_i;
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        float y[SPECIAL], up[SPECIAL];
        for (int i = 0; i < SPECIAL; i++) up[i] = i % 3 ? 1 : -2;
        k.glu_fwd(y, special, up, SPECIAL, kind);
        for (int i = 0; i < SPECIAL; i++)
            check_number(names[kind], isa, special[i], y[i], gated(special[i], up[i], kind),
                         allowed(special[i], kind, isa));
        if (kind == ACT_SWIGLU_CLAMPED) { // its other side bends too
            k.glu_fwd(y, up, special, SPECIAL, kind);
            for (int i = 0; i < SPECIAL; i++)
                check_number("the up side", isa, special[i], y[i], gated(up[i], special[i], kind), 1e-6);
            continue;
        }
        k.activation_fwd(y, special, SPECIAL, kind);
        for (int i = 0; i < SPECIAL; i++) {
            check_number(names[kind], isa, special[i], y[i], act(special[i], kind),
                         allowed(special[i], kind, isa));
            if (special[i] == 0)
                ck_assert_int_eq(signbit(y[i]), kind == ACT_RELU_SQUARED ? 0 : signbit(special[i]));
        }
    }
}
END_TEST

// The f64 build has the accuracy of double.
START_TEST(test_double)
{
    enum activation kind = (enum activation)_i;
    struct kernels k = kernels_for_f64();
    for (int i = 0; i < 2000; i++) {
        double x = 12 * (double)random_signed(1, (uint64_t)i), up = random_signed(2, (uint64_t)i), y;
        k.glu_fwd((void *)&y, (void *)&x, (void *)&up, 1, kind);
        double want = gated(x, up, kind);
        check_number(names[kind], ISA_F64, x, y, want, 1e-13);
    }
}
END_TEST

// ---- softcap and scale --------------------------------------------------------------------------------

static void check_softcap(const struct kernels *k, int64_t n, float spread, double cap)
{
    struct guarded x = spread_numbers(n, spread, 1), y = guarded_alloc(x.size);
    float *in = x.data, *out = y.data;
    k->softcap_fwd(out, in, n, cap);
    for (int64_t i = 0; i < n; i++)
        check_number("softcap", k->isa, in[i], out[i], cap * tanh(in[i] / cap), 4.5 * FLT_EPSILON);
    ck_assert(guarded_intact(&y));
    for (int64_t i = 0; i < n; i++) k->softcap_fwd(in + i, in + i, 1, cap);
    ck_assert_mem_eq(in, out, y.size);
    guarded_free(&x), guarded_free(&y);
}

// Against the definition, entry (i, j) of the matrix being -1 to the number of bits that i and j have in common; twice is nothing.
START_TEST(test_hadamard)
{
    enum { MOST = 256, BLOCKS = 3 };
    struct kernels k = kernels_for(ISA_REF);
    for (int block = 1; block <= MOST; block *= 2) {
        float x[BLOCKS * MOST], y[BLOCKS * MOST];
        int n = BLOCKS * block;
        for (int i = 0; i < n; i++) x[i] = (float)((i * 7919 + 13) % 1009) / 100 - 5;
        k.hadamard_fwd(y, x, n, block);
        for (int i = 0; i < n; i++) {
            double want = 0;
            for (int j = 0; j < block; j++) {
                double term = (double)x[i / block * block + j];
                want += __builtin_popcount((unsigned)(i % block & j)) % 2 ? -term : term;
            }
            ck_assert_double_eq_tol((double)y[i], want / sqrt(block), 1e-4);
        }
        k.hadamard_fwd(y, y, n, block); // in place
        for (int i = 0; i < n; i++) ck_assert_double_eq_tol((double)y[i], (double)x[i], 1e-5);
    }
}
END_TEST

START_TEST(test_softcap)
{
    static const double caps[] = {0.5, 5, 30, 50};
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int c = 0; c < 4; c++) {
            for (int s = 0; s < SIZES; s++) check_softcap(&k, sizes[s], 6, caps[c]);
            for (int i = 0; i < SPREADS; i++) check_softcap(&k, 50000, spreads[i], caps[c]);
            float y[SPECIAL];
            k.softcap_fwd(y, special, SPECIAL, caps[c]);
            for (int i = 0; i < SPECIAL; i++) {
                check_number("softcap", isa, special[i], y[i], caps[c] * tanh(special[i] / caps[c]),
                             4.5 * FLT_EPSILON);
                if (special[i] == 0) ck_assert_int_eq(signbit(y[i]), signbit(special[i]));
            }
        }
    }
}
END_TEST

START_TEST(test_scale)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int s = 0; s < SIZES; s++) {
            int64_t n = sizes[s];
            struct guarded x = spread_numbers(n, 100, 1), y = guarded_alloc(x.size),
                           z = spread_numbers(n, 1, 2);
            float *in = x.data, *out = y.data, *sum = z.data;
            k.scale_fwd(out, in, n, 0.1);
            k.add_scaled_fwd(sum, in, 0.25f, n);
            bool exact = true;
            for (int64_t i = 0; i < n; i++)
                exact &= out[i] == in[i] * 0.1f && sum[i] == random_signed(2, (uint64_t)i) + in[i] * 0.25f;
            ck_assert(exact && guarded_intact(&y) && guarded_intact(&z));
            k.scale_fwd(in, in, n, 0.1);
            ck_assert_mem_eq(in, out, y.size);
            guarded_free(&x), guarded_free(&y), guarded_free(&z);
        }
    }
}
END_TEST

Suite *suite_activations(void)
{
    Suite *suite = suite_create("activations");
    TCase *tcase = tcase_create("activations");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_activations, 0, KINDS);
    tcase_add_loop_test(tcase, test_special_numbers, 0, KINDS);
    tcase_add_loop_test(tcase, test_double, 0, KINDS);
    tcase_add_test(tcase, test_softcap);
    tcase_add_test(tcase, test_hadamard);
    tcase_add_test(tcase, test_scale);
    suite_add_tcase(suite, tcase);
    return suite;
}
