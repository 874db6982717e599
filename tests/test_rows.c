// tests/test_rows.c -- the row-wise kernels and the conversions: against PyTorch, against the double
// reference on every tier, and bit for bit against themselves.
#include <check.h>

#include "ops/ops.h"
#include "tests/golden/ops.h"
#include "tests/kernels.h"
#include "tests/tests.h"

static const int64_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,  11,  12,
                                13, 14, 15, 16, 17, 31, 32, 33, 64, 511, 512, 513};
enum { SIZES = sizeof sizes / sizeof *sizes };

// n floats that end at a page that faults; so they begin anywhere, on a boundary of 64 bytes only where n is
// a multiple of 16.
static struct guarded floats(int64_t n)
{
    return guarded_alloc((size_t)n * sizeof(float));
}

// What the numbers of a test are drawn from.
enum fill { FILL_ONE, FILL_LARGE, FILL_TINY, FILL_ZERO, FILL_COUNT };

static void fill(float *x, int64_t n, enum fill kind, uint64_t stream)
{
    static const float spread[] = {3, 1e17f, 1e-30f, 0};
    fill_random(x, n, stream);
    for (int64_t i = 0; i < n; i++) x[i] *= spread[kind];
}

static double *doubles(const float *x, int64_t n)
{
    double *d = malloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = x[i];
    return d;
}

static void check_golden(const double *got, const double *want, int n)
{
    for (int i = 0; i < n; i++) ck_assert_double_eq_tol(got[i], want[i], 1e-14 * (1 + fabs(want[i])));
}

// The references in double, called with doubles where their type says float.
START_TEST(test_golden)
{
    struct kernels k = kernels_for_f64();
    double y[36], rstd[3];
    k.rmsnorm_fwd((void *)y, (void *)rstd, (const void *)golden_rms_x, (const void *)golden_rms_w, 3, 7,
                  1e-5);
    check_golden(y, golden_rms_y, 21);
    check_golden(&rstd[0], &(double){golden_rms_y[0] / golden_rms_x[0] / golden_rms_w[0]}, 1);

    k.glu_fwd((void *)y, (const void *)golden_swiglu_gate, (const void *)golden_swiglu_up, 9, ACT_SILU);
    check_golden(y, golden_swiglu_y, 9);

    double table[12], freq[3];
    for (int i = 0; i < 3; i++) freq[i] = pow(10000, -i / 3.0);
    k.rope_table_fwd((void *)table, (int32_t[]){3, 70001}, freq, 2, 3, 1.25);
    k.rope_fwd((void *)y, (const void *)golden_rope_x, (const void *)table, 2, 2, 9, 3, ROPE_ADJACENT);
    for (int i = 0; i < 36; i++) ck_assert_double_eq_tol(y[i], golden_rope_adjacent[i], 1e-10);
    k.rope_fwd((void *)y, (const void *)golden_rope_x, (const void *)table, 2, 2, 9, 3, ROPE_HALVES);
    for (int i = 0; i < 36; i++) ck_assert_double_eq_tol(y[i], golden_rope_halves[i], 1e-10);
}
END_TEST

static void check_rmsnorm(const struct kernels *k, int64_t rows, int64_t cols, enum fill kind)
{
    struct kernels f64 = kernels_for_f64();
    int64_t n = rows * cols;
    struct guarded x = floats(n), w = floats(cols), y = floats(n), rstd = floats(rows);
    fill(x.data, n, kind, 1), fill(w.data, cols, FILL_ONE, 2);
    double *dx = doubles(x.data, n), *dw = doubles(w.data, cols), *dy = malloc((size_t)n * 8),
           *drstd = malloc((size_t)rows * 8);
    f64.rmsnorm_fwd((void *)dy, (void *)drstd, (void *)dx, (void *)dw, rows, cols, 1e-5);
    k->rmsnorm_fwd(y.data, rstd.data, x.data, w.data, rows, cols, 1e-5);
    ck_assert_msg(agrees(y.data, dy, n, 3e-7) && agrees(rstd.data, drstd, rows, 3e-7),
                  "%s: %d x %d, fill %d: %.2g", isa_name(k->isa), (int)rows, (int)cols, kind,
                  rel_error(y.data, dy, n));
    ck_assert(guarded_intact(&y) && guarded_intact(&rstd));

    // Row by row, and in place: the same bits.
    for (int64_t r = 0; r < rows; r++) {
        float *row = (float *)x.data + r * cols;
        k->rmsnorm_fwd(row, NULL, row, w.data, 1, cols, 1e-5);
    }
    ck_assert_mem_eq(x.data, y.data, y.size);
    free(dx), free(dw), free(dy), free(drstd);
    guarded_free(&x), guarded_free(&w), guarded_free(&y), guarded_free(&rstd);
}

START_TEST(test_rmsnorm)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int s = 0; s < SIZES; s++)
            for (int64_t rows = 1; rows <= 5; rows += 2)
                for (enum fill kind = 0; kind < FILL_COUNT; kind++) check_rmsnorm(&k, rows, sizes[s], kind);
        check_rmsnorm(&k, 2, 8191, FILL_ONE);
    }
}
END_TEST

// `mean` shifts the rows. Numbers that are large beside their spread cost digits, whichever form is used: their mean is rounded.
static void check_layernorm(const struct kernels *k, int64_t rows, int64_t cols, enum fill kind, float mean,
                            bool biased)
{
    struct kernels f64 = kernels_for_f64();
    int64_t n = rows * cols;
    struct guarded x = floats(n), w = floats(cols), b = floats(cols), y = floats(n), m = floats(rows),
                   rstd = floats(rows);
    fill(x.data, n, kind, 1), fill(w.data, cols, FILL_ONE, 2), fill(b.data, cols, FILL_ONE, 3);
    for (int64_t i = 0; i < n; i++) ((float *)x.data)[i] += mean;
    double *dx = doubles(x.data, n), *dw = doubles(w.data, cols), *db = doubles(b.data, cols),
           *dy = malloc((size_t)n * 8), *dm = malloc((size_t)rows * 8), *drstd = malloc((size_t)rows * 8);
    const float *bias = biased ? b.data : NULL;
    f64.layernorm_fwd((void *)dy, (void *)dm, (void *)drstd, (void *)dx, (void *)dw,
                      biased ? (void *)db : NULL, rows, cols, 1e-5);
    k->layernorm_fwd(y.data, m.data, rstd.data, x.data, w.data, bias, rows, cols, 1e-5);
    double beside = 0; // the largest number of a row beside its spread
    for (int64_t i = 0; i < n; i++) beside = fmax(beside, fabs(dx[i]) * drstd[i / cols]);
    double tolerance = 3e-7 * (1 + beside);
    ck_assert_msg(agrees(y.data, dy, n, tolerance) && agrees(m.data, dm, rows, tolerance) &&
                      agrees(rstd.data, drstd, rows, tolerance),
                  "%s: %d x %d, fill %d, mean %g: %.2g", isa_name(k->isa), (int)rows, (int)cols, kind,
                  (double)mean, rel_error(y.data, dy, n));
    ck_assert(guarded_intact(&y) && guarded_intact(&m) && guarded_intact(&rstd));
    for (int64_t r = 0; r < rows; r++) { // row by row, and in place: the same bits
        float *row = (float *)x.data + r * cols;
        k->layernorm_fwd(row, NULL, NULL, row, w.data, bias, 1, cols, 1e-5);
    }
    ck_assert_mem_eq(x.data, y.data, y.size);
    free(dx), free(dw), free(db), free(dy), free(dm), free(drstd);
    guarded_free(&x), guarded_free(&w), guarded_free(&b), guarded_free(&y), guarded_free(&m),
        guarded_free(&rstd);
}

START_TEST(test_layernorm)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int s = 0; s < SIZES; s++) {
            for (enum fill kind = 0; kind < FILL_COUNT; kind++)
                check_layernorm(&k, 3, sizes[s], kind, 0, kind != FILL_TINY);
            check_layernorm(&k, 2, sizes[s], FILL_ONE, 300, s % 2);
        }
        check_layernorm(&k, 5, 8191, FILL_ONE, -40, true);
    }
}
END_TEST

// A row of one number, and rows of equal ones: exactly the bias.
START_TEST(test_layernorm_of_equals)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        float x[64], y[64], w[64], b[64], mean, rstd;
        for (int n = 1; n <= 64; n *= 2) { // sums of powers of two are exact
            for (int i = 0; i < n; i++) x[i] = 12345.678f, w[i] = 3, b[i] = (float)i;
            k.layernorm_fwd(y, &mean, &rstd, x, w, b, 1, n, 1e-6);
            ck_assert_mem_eq(y, b, (size_t)n * sizeof *y);
            ck_assert(mean == x[0] && fabsf(rstd - 1000) < 1e-3f);
        }
    }
}
END_TEST

START_TEST(test_add_and_bias)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int s = 0; s < SIZES; s++) {
            int64_t rows = 3, cols = sizes[s], n = rows * cols;
            struct guarded a = floats(n), b = floats(n), y = floats(n), z = floats(n);
            fill(a.data, n, FILL_ONE, 1), fill(b.data, n, FILL_LARGE, 2);
            k.add_fwd(y.data, a.data, b.data, n);
            k.bias_fwd(z.data, a.data, b.data, rows, cols);
            for (int64_t i = 0; i < n; i++) {
                float *fa = a.data, *fb = b.data;
                ck_assert(((float *)y.data)[i] == fa[i] + fb[i] &&
                          ((float *)z.data)[i] == fa[i] + fb[i % cols]);
            }
            k.add_fwd(a.data, a.data, b.data, n);
            ck_assert_mem_eq(a.data, y.data, y.size);
            ck_assert(guarded_intact(&y) && guarded_intact(&z));
            guarded_free(&a), guarded_free(&b), guarded_free(&y), guarded_free(&z);
        }
    }
}
END_TEST

// rows x heads of `d` numbers, `pairs` of them turned: in place or not, on every tier, as in double.
static void check_rope(const struct kernels *k, int64_t rows, int32_t heads, int32_t d, int32_t pairs,
                       enum rope_pairing pairing)
{
    struct kernels f64 = kernels_for_f64();
    int64_t n = rows * heads * d, angles = rows * pairs * 2;
    struct guarded x = floats(n), y = floats(n), table = floats(angles);
    double *dtable = malloc((size_t)angles * 8 + 8), *dy = malloc((size_t)n * 8), freq[128];
    int32_t pos[8];
    for (int64_t r = 0; r < rows; r++) pos[r] = (int32_t)(r * 12345 + r);
    for (int32_t i = 0; i < pairs; i++) freq[i] = pow(500000, -(double)i / pairs);
    fill(x.data, n, FILL_ONE, 1);
    double *dx = doubles(x.data, n);
    k->rope_table_fwd(table.data, pos, freq, rows, pairs, 0.75);
    f64.rope_table_fwd((void *)dtable, pos, freq, rows, pairs, 0.75);
    ck_assert(agrees(table.data, dtable, angles, 1e-7));
    k->rope_fwd(y.data, x.data, table.data, rows, heads, d, pairs, pairing);
    f64.rope_fwd((void *)dy, (void *)dx, (void *)dtable, rows, heads, d, pairs, pairing);
    ck_assert(agrees(y.data, dy, n, 3e-7));
    k->rope_fwd(x.data, x.data, table.data, rows, heads, d, pairs, pairing);
    ck_assert_mem_eq(x.data, y.data, y.size);
    for (int64_t h = 0; h < rows * heads; h++) // what lies behind the pairs is copied
        for (int32_t i = 2 * pairs; i < d; i++)
            ck_assert(((float *)y.data)[h * d + i] == (float)dx[h * d + i]);
    ck_assert(guarded_intact(&y) && guarded_intact(&table));
    free(dx), free(dy), free(dtable);
    guarded_free(&x), guarded_free(&y), guarded_free(&table);
}

START_TEST(test_rope)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int32_t d = 1; d <= 70; d += d < 20 ? 1 : 7)
            for (int32_t pairs = 0; 2 * pairs <= d; pairs += 1 + d / 20)
                for (int p = 0; p < 2; p++)
                    check_rope(&k, 1 + d % 4, 1 + d % 5, d, pairs, p ? ROPE_HALVES : ROPE_ADJACENT);
        check_rope(&k, 3, 4, 256, 128, ROPE_HALVES);
    }
}
END_TEST

// ---- conversions --------------------------------------------------------------------------------------

// All f16 and bf16 numbers, NaN with all their payloads included, become the same floats on every tier, and
// come back.
START_TEST(test_convert_from)
{
    enum { ALL = 65536 };
    static uint16_t h[ALL], back[ALL];
    static float want[ALL], got[ALL];
    for (int i = 0; i < ALL; i++) h[i] = (uint16_t)i;
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            enum dtype type = bf16 ? DTYPE_BF16 : DTYPE_F16;
            for (int i = 0; i < ALL; i++) want[i] = bf16 ? f32_from_bf16(h[i]) : f32_from_f16(h[i]);
            k.to_real[type](got, h, ALL);
            ck_assert_mem_eq(got, want, sizeof want);
            k.from_real[type](back, got, ALL);
            for (int i = 0; i < ALL; i++) { // a signalling NaN comes back quiet
                uint16_t quiet = isnan(want[i]) ? (bf16 ? 0x40 : 0x200) : 0;
                ck_assert_msg(back[i] == (h[i] | quiet), "%s: %04x comes back as %04x", isa_name(isa), h[i],
                              back[i]);
            }
        }
    }
}
END_TEST

// Floats to f16 and bf16: ten million random patterns and all ties, the same bits on every tier. The
// reference is held against exact arithmetic: nothing nearer exists, and of two as near the even one is
// taken.
START_TEST(test_convert_to)
{
    enum { CHUNK = 1 << 16, CHUNKS = 160 };
    static float x[CHUNK];
    static uint16_t got[CHUNK], want[CHUNK];
    for (int c = 0; c < CHUNKS; c++) {
        for (int i = 0; i < CHUNK; i += 4) {
            uint32_t r[4];
            rng_philox(7, (uint64_t)c, (uint64_t)i, r);
            for (int j = 0; j < 4;
                 j++) { // every other one: exponents of f16's range, with a tail of a tie or next to it
                if (j % 2) r[j] = (r[j] & 0x8fffffff) + 0x30000000;
                if (j == 3) r[j] = (r[j] & 0xfffff000) + ((uint32_t)c % 3 - 1);
                if (j == 2 && c % 2) r[j] = (r[j] & 0xffff0000) + 0x8000;
            }
            memcpy(x + i, r, sizeof r);
        }
        for (int bf16 = 0; bf16 < 2; bf16++) {
            enum dtype type = bf16 ? DTYPE_BF16 : DTYPE_F16;
            for (int i = 0; i < CHUNK; i++) want[i] = bf16 ? bf16_from_f32(x[i]) : f16_from_f32(x[i]);
            EACH_ISA (isa, ISA_REF) {
                struct kernels k = kernels_for(isa);
                memset(got, 0, sizeof got);
                k.from_real[type](got, x, CHUNK);
                ck_assert_msg(!memcmp(got, want, sizeof want), "%s: to %s, chunk %d", isa_name(isa),
                              bf16 ? "bf16" : "f16", c);
            }
            for (int i = 0; i < CHUNK; i += 17) {
                if (!isfinite(x[i]) || (want[i] & 0x7fff) == 0 ||
                    (want[i] & 0x7fff) >= (bf16 ? 0x7f7f : 0x7bff))
                    continue;
                double near = bf16 ? f32_from_bf16(want[i]) : f32_from_f16(want[i]);
                double error = fabs(near - x[i]);
                for (int step = -1; step <= 1; step += 2) {
                    uint16_t other = (uint16_t)(want[i] + step);
                    double away = fabs((bf16 ? f32_from_bf16(other) : f32_from_f16(other)) - (double)x[i]);
                    ck_assert(error < away || (error == away && want[i] % 2 == 0));
                }
            }
        }
    }
}
END_TEST

// Floats to E4M3 and back, the same on every tier: for every exponent, midpoints, their neighbours and random numbers.
START_TEST(test_convert_e4m3)
{
    enum { TAILS = 8, HIGH = 1 << 13, COUNT = TAILS * HIGH };
    static const uint32_t tails[TAILS] = {0, 1, 0x3ffff, 0x40000, 0x40001, 0x7ffff};
    static float x[COUNT], y[COUNT];
    static uint8_t got[COUNT], want[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) { // 13 bits in front: a sign, an exponent, 4 of the fraction
        uint32_t r[4];
        rng_philox(3, i, 0, r);
        x[i] = f32_of_bits(i / TAILS << 19 | (i % TAILS < 6 ? tails[i % TAILS] : r[0] & 0x7ffff));
        want[i] = f8_e4m3_from_f32(x[i]);
    }
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        k.from_real[DTYPE_F8_E4M3](got, x, COUNT);
        ck_assert_msg(!memcmp(got, want, COUNT), "%s", isa_name(isa));
        k.to_real[DTYPE_F8_E4M3](y, got, COUNT);
        for (int i = 0; i < COUNT; i++)
            ck_assert(bits_of_f32(y[i]) == bits_of_f32(f32_from_f8_e4m3(want[i])));
    }
}
END_TEST

// Lengths that no register divides, at the end of a page; the plain types.
START_TEST(test_convert_lengths)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64, DTYPE_F8_E4M3};
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int s = 0; s < SIZES; s++) {
            for (int t = 0; t < 5; t++) {
                int64_t n = sizes[s];
                struct guarded x = floats(n), h = guarded_alloc(dtype_row_bytes(types[t], n)), y = floats(n);
                fill(x.data, n, FILL_ONE, 1);
                k.from_real[types[t]](h.data, x.data, n);
                k.to_real[types[t]](y.data, h.data, n);
                for (int64_t i = 0; i < n; i++) {
                    float v = ((float *)x.data)[i];
                    if (types[t] == DTYPE_F16) v = f32_from_f16(f16_from_f32(v));
                    if (types[t] == DTYPE_BF16) v = f32_from_bf16(bf16_from_f32(v));
                    if (types[t] == DTYPE_F8_E4M3) v = f32_from_f8_e4m3(f8_e4m3_from_f32(v));
                    ck_assert(((float *)y.data)[i] == v);
                }
                ck_assert(guarded_intact(&h) && guarded_intact(&y));
                guarded_free(&x), guarded_free(&h), guarded_free(&y);
            }
        }
    }
}
END_TEST

Suite *suite_rows(void)
{
    Suite *suite = suite_create("rows");
    TCase *tcase = tcase_create("rows");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_golden);
    tcase_add_test(tcase, test_rmsnorm);
    tcase_add_test(tcase, test_layernorm);
    tcase_add_test(tcase, test_layernorm_of_equals);
    tcase_add_test(tcase, test_add_and_bias);
    tcase_add_test(tcase, test_rope);
    tcase_add_test(tcase, test_convert_from);
    tcase_add_test(tcase, test_convert_to);
    tcase_add_test(tcase, test_convert_e4m3);
    tcase_add_test(tcase, test_convert_lengths);
    suite_add_tcase(suite, tcase);
    return suite;
}
