// tests/test_quant.c -- the quantized formats: bits against the gguf package, errors against llama.cpp's.
//
// tests/golden/quant/ is made by scripts/golden_quant.py, whose head says what the files hold.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/file.h"
#include "core/gguf.h"
#include "core/rng.h"
#include "quant/fit_pass.h"
#include "quant/iq_tables.h"
#include "quant/quant.h"
#include "tests/tests.h"

enum { SEED = 7, COUNT = 64 * QUANT_SUPER, KINDS = 4 };

// Random numbers of a kind, "bell", "tails", "shifted" or "cubes"; the script makes the same.
static float *random_numbers(const char *kind, int64_t count)
{
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        uint32_t r[16];
        for (int k = 0; k < 4; k++) rng_philox(SEED, 1000, (uint64_t)(4 * i + k), r + 4 * k);
        double bell = 0, u = (r[12] + 0.5) * 0x1p-32;
        for (int k = 0; k < 12; k++) bell += r[k];
        bell = bell * 0x1p-32 - 6;
        switch (kind[0]) {
        case 'b': x[i] = (float)bell; break;
        case 't': x[i] = (float)(bell / sqrt(sqrt(u))); break;
        case 's': x[i] = (float)(bell + 1.5); break;
        default: x[i] = (float)(u * u * u); break;
        }
    }
    return x;
}

static uint64_t hash(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 0x100000001b3;
    return h;
}

static void *quantized(enum dtype type, const float *x, int64_t count, const float *importance)
{
    void *y = malloc(dtype_row_bytes(type, count));
    quant_types[type].quantize(y, x, count, importance);
    return y;
}

// The mean of w (x - what its blocks hold)^2; w may be NULL.
static double mean_error(enum dtype type, const void *blocks, const float *x, int64_t count, const float *w)
{
    float *y = malloc((size_t)count * sizeof *y);
    double sum = 0;
    quant_types[type].dequantize(y, blocks, count);
    for (int64_t i = 0; i < count; i++)
        sum += (w ? w[i] : 1.0) * ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
    free(y);
    return sum / (double)count;
}

// Calls f for each line of expected.txt that begins with `what`; returns how many there were.
static int each_expected(const char *what, void (*f)(enum dtype type, const char *second, const char *value))
{
    char word[32], type[32], second[64], value[64];
    int lines = 0;
    FILE *file = fopen("tests/golden/quant/expected.txt", "r");
    ck_assert_msg(file != NULL, "tests/golden/quant is missing: run from the root of the repository");
    while (fscanf(file, "%31s %31s %63s %63s", word, type, second, value) == 4) {
        if (strcmp(word, what)) continue;
        ck_assert_int_ge(dtype_parse(type), 0);
        f((enum dtype)dtype_parse(type), second, value);
        lines++;
    }
    fclose(file);
    return lines;
}

// ---- layout -------------------------------------------------------------------------------------------

START_TEST(blocks_have_the_sizes_of_the_table)
{
    static const struct {
        enum dtype type;
        size_t bytes;
    } layouts[] = {
        {DTYPE_Q4_0, sizeof(struct block_q4_0)},       {DTYPE_Q4_1, sizeof(struct block_q4_1)},
        {DTYPE_Q5_0, sizeof(struct block_q5_0)},       {DTYPE_Q5_1, sizeof(struct block_q5_1)},
        {DTYPE_Q8_0, sizeof(struct block_q8_0)},       {DTYPE_Q2_K, sizeof(struct block_q2_k)},
        {DTYPE_Q3_K, sizeof(struct block_q3_k)},       {DTYPE_Q4_K, sizeof(struct block_q4_k)},
        {DTYPE_Q5_K, sizeof(struct block_q5_k)},       {DTYPE_Q6_K, sizeof(struct block_q6_k)},
        {DTYPE_IQ4_NL, sizeof(struct block_iq4_nl)},   {DTYPE_IQ4_XS, sizeof(struct block_iq4_xs)},
        {DTYPE_TQ1_0, sizeof(struct block_tq1_0)},     {DTYPE_TQ2_0, sizeof(struct block_tq2_0)},
        {DTYPE_MXFP4, sizeof(struct block_mxfp4)},     {DTYPE_NVFP4, sizeof(struct block_nvfp4)},
        {DTYPE_Q1_0, sizeof(struct block_q1_0)},       {DTYPE_IQ1_S, sizeof(struct block_iq1_s)},
        {DTYPE_IQ1_M, sizeof(struct block_iq1_m)},     {DTYPE_IQ2_XXS, sizeof(struct block_iq2_xxs)},
        {DTYPE_IQ2_XS, sizeof(struct block_iq2_xs)},   {DTYPE_IQ2_S, sizeof(struct block_iq2_s)},
        {DTYPE_IQ3_XXS, sizeof(struct block_iq3_xxs)}, {DTYPE_IQ3_S, sizeof(struct block_iq3_s)},
        {DTYPE_NF4, sizeof(struct block_nf4)},         {DTYPE_FP4, sizeof(struct block_nf4)},
        {DTYPE_INT8, sizeof(struct block_int8)},       {DTYPE_INT8_ASYM, sizeof(struct block_int8)},
    };
    int readable = 0;
    for (int t = 0; t < DTYPE_COUNT; t++)
        readable += quant_types[t].dequantize && dtype_traits[t].block_size > 1;
    ck_assert_int_eq(readable, (int)(sizeof layouts / sizeof *layouts));
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        ck_assert_uint_eq(layouts[i].bytes, (size_t)dtype_traits[layouts[i].type].block_bytes);
        ck_assert_ptr_nonnull(quant_types[layouts[i].type].dequantize);
    }
}
END_TEST

// ---- reading ------------------------------------------------------------------------------------------

static bool same_numbers(const float *a, const float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (bits_of_f32(a[i]) != bits_of_f32(b[i]) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

START_TEST(dequantize_gives_the_stored_numbers)
{
    for (int t = 0; t < DTYPE_COUNT; t++) {
        size_t width = (size_t)dtype_traits[t].block_bytes, n = (size_t)dtype_traits[t].block_size, size;
        if (!quant_types[t].dequantize || n == 1) continue;
        char path[128], *data;
        snprintf(path, sizeof path, "tests/golden/quant/%s.blocks", dtype_traits[t].name);
        ck_assert_int_eq(file_read(path, &data, &size, NULL), TLM_OK);
        ck_assert_uint_eq(size % (width + 4 * n), 0);
        size_t blocks = size / (width + 4 * n), bytes = blocks * n * sizeof(float);
        float *want = malloc(bytes), *have = malloc(bytes);
        memcpy(want, data + blocks * width, bytes);
        quant_types[t].dequantize(have, data, (int64_t)(blocks * n));
        ck_assert_msg(same_numbers(want, have, (int64_t)(blocks * n)), "%s", path);
        // The same from an odd address.
        char *moved = malloc(blocks * width + 1);
        memcpy(moved + 1, data, blocks * width);
        memset(have, 0, bytes);
        quant_types[t].dequantize(have, moved + 1, (int64_t)(blocks * n));
        ck_assert_msg(same_numbers(want, have, (int64_t)(blocks * n)), "%s at an odd address", path);
        free(moved), free(want), free(have), free(data);
    }
}
END_TEST

// Where the f16 scales of a block stand, as the script has them; -1 ends.
static const int *scale_places(enum dtype type)
{
    static const int none[] = {-1}, first[] = {0, -1}, two[] = {0, 2, -1}, q2_k[] = {80, 82, -1},
                     q3_k[] = {108, -1}, q6_k[] = {208, -1}, tq1_0[] = {52, -1}, tq2_0[] = {64, -1};
    switch (type) {
    case DTYPE_IQ1_M:
    case DTYPE_MXFP4:
    case DTYPE_NVFP4: return none;
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: return two;
    case DTYPE_Q2_K: return q2_k;
    case DTYPE_Q3_K: return q3_k;
    case DTYPE_Q6_K: return q6_k;
    case DTYPE_TQ1_0: return tq1_0;
    case DTYPE_TQ2_0: return tq2_0;
    default: return first;
    }
}

static void check_dequantize(enum dtype type, const char *blocks_text, const char *value)
{
    static const uint16_t scales[8] = {0x0000, 0x8001, 0x7bff, 0x7c00, 0xfc00, 0x7e01, 0x2e66, 0xb800};
    size_t width = (size_t)dtype_traits[type].block_bytes, blocks = (size_t)atoi(blocks_text),
           calls = (width + 15) / 16;
    int64_t count = (int64_t)blocks * dtype_traits[type].block_size;
    uint8_t *data = malloc(blocks * width), draw[512];
    for (size_t b = 0; b < blocks; b++) {
        for (size_t c = 0; c < calls; c++) {
            uint32_t r[4];
            rng_philox(SEED, type, b * calls + c, r);
            memcpy(draw + 16 * c, r, 16);
        }
        for (const int *at = scale_places(type); *at >= 0; at++) memcpy(draw + *at, &scales[b % 8], 2);
        memcpy(data + b * width, draw, width);
    }
    float *y = malloc((size_t)count * sizeof *y);
    quant_types[type].dequantize(y, data, count);
    for (int64_t i = 0; i < count; i++)
        if (isnan(y[i])) y[i] = f32_of_bits(0x7fc00000);
    ck_assert_msg(hash(y, (size_t)count * sizeof *y) == strtoull(value, NULL, 16), "%s",
                  dtype_traits[type].name);
    free(y), free(data);
}

START_TEST(dequantize_agrees_on_random_and_extreme_blocks)
{
    ck_assert_int_eq(each_expected("dequantize", check_dequantize), 24);
}
END_TEST

// ---- writing ------------------------------------------------------------------------------------------

static void check_quantize(enum dtype type, const char *kind, const char *value)
{
    float *x = random_numbers(kind, COUNT);
    void *y = quantized(type, x, COUNT, NULL);
    ck_assert_msg(hash(y, dtype_row_bytes(type, COUNT)) == strtoull(value, NULL, 16), "%s of %s",
                  dtype_traits[type].name, kind);
    free(y), free(x);
}

START_TEST(quantize_gives_the_bytes_of_the_package)
{
    ck_assert_int_eq(each_expected("quantize", check_quantize), 8 * KINDS);
    int files = 0;
    for (int t = 0; t < DTYPE_COUNT; t++) {
        char path[128], *data;
        size_t width = (size_t)dtype_traits[t].block_bytes, n = (size_t)dtype_traits[t].block_size, size;
        snprintf(path, sizeof path, "tests/golden/quant/%s.numbers",
                 dtype_traits[t].name ? dtype_traits[t].name : "-");
        if (access(path, R_OK)) continue;
        ck_assert_int_eq(file_read(path, &data, &size, NULL), TLM_OK);
        size_t blocks = size / (width + 4 * n);
        float *x = malloc(blocks * n * sizeof *x);
        memcpy(x, data, blocks * n * sizeof *x);
        void *y = quantized((enum dtype)t, x, (int64_t)(blocks * n), NULL);
        ck_assert_mem_eq(y, data + blocks * n * sizeof *x, blocks * width);
        free(y), free(x), free(data);
        files++;
    }
    ck_assert_int_eq(files, 10);
}
END_TEST

// The numbers of a tensor of the model that lies beside the repository; NULL where it does not.
static float *tensor_numbers(const char *name, int64_t *count)
{
    struct gguf *g;
    if (gguf_open(&g, "../shared/models/char-5m.gguf", NULL)) return NULL;
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    float *x = NULL;
    if (t) {
        *count = tensor_elements(&t->tensor);
        x = malloc((size_t)*count * sizeof *x);
        quant_types[t->tensor.type].dequantize(x, t->tensor.data, *count);
    }
    gguf_close(g);
    return x;
}

static void check_error(enum dtype type, const char *kind, const char *value)
{
    int64_t count = COUNT;
    float *x = strchr(kind, '.') ? tensor_numbers(kind, &count) : random_numbers(kind, COUNT);
    if (!x) return;
    void *y = quantized(type, x, count, NULL);
    double error = sqrt(mean_error(type, y, x, count, NULL)), theirs = atof(value);
    ck_assert_msg(error <= theirs, "%s of %s: expected at most %g, found %g", dtype_traits[type].name, kind,
                  theirs, error);
    ck_assert_msg(error >= 0.7 * theirs, "%s of %s: %g is too good to be true", dtype_traits[type].name, kind,
                  error);
    free(y), free(x);
}

START_TEST(the_search_is_at_least_as_good_as_llama_cpp)
{
    ck_assert_int_ge(each_expected("error", check_error), 7 * KINDS);
}
END_TEST

// A group of random numbers of that size, some of them zero.
static struct fit_group random_group(uint64_t seed, int n, float size)
{
    float x[FIT_NUMBERS * FIT_LANES], w[FIT_NUMBERS * FIT_LANES];
    for (int i = 0; i < n * FIT_LANES; i++) {
        x[i] = i % 7 ? size * (float)(2 * rng_uniform(seed, 1, (uint64_t)i) - 1) : 0;
        w[i] = (float)rng_uniform(seed, 2, (uint64_t)i);
    }
    struct fit_group g;
    fit_gather(&g, x, w, n, FIT_LANES);
    return g;
}

// Files must not depend on the machine that wrote them.
START_TEST(forms_of_the_search_have_the_same_bits)
{
    static const struct fit_levels levels[] = {{.low = -4, .high = 3}, {.low = -32, .high = 31}};
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return;
    for (uint64_t seed = 1; seed < 200; seed++) {
        int n = seed % 2 ? 16 : 32;
        struct fit_group g = random_group(seed, n, seed % 5 ? 1 : 1e-38f);
        struct fit_sums a = {0}, b = {0};
        float scale[FIT_LANES], offset[FIT_LANES], error_a[FIT_LANES], error_b[FIT_LANES];
        for (int l = 0; l < FIT_LANES; l++) {
            scale[l] = l ? (float)(rng_uniform(seed, 3, (uint64_t)l) - 0.3) * (l == 1 ? 1e-39f : 0.2f) : 0;
            offset[l] = l == 2 ? 0 : -(float)rng_uniform(seed, 4, (uint64_t)l);
        }
        fit_whole_pass_ref(&g, &levels[seed % 2], scale, &a);
        fit_whole_pass_avx2(&g, &levels[seed % 2], scale, &b);
        ck_assert_mem_eq(&a, &b, sizeof a);
        fit_line_pass_ref(&g, 15, scale, offset, &a);
        fit_line_pass_avx2(&g, 15, scale, offset, &b);
        ck_assert_mem_eq(&a, &b, sizeof a);
        fit_line_error_ref(&g, 15, scale, offset, error_a);
        fit_line_error_avx2(&g, 15, scale, offset, error_b);
        ck_assert_mem_eq(error_a, error_b, sizeof error_a);
    }
}
END_TEST

START_TEST(rounding_stays_within_a_step)
{
    // The largest error over the largest number of a block of bell-shaped numbers.
    static const struct {
        enum dtype type;
        double bound;
    } bounds[] = {
        {DTYPE_Q8_0, 0.005},  {DTYPE_Q6_K, 0.03},   {DTYPE_Q5_1, 0.04},  {DTYPE_Q5_0, 0.07},
        {DTYPE_Q5_K, 0.06},   {DTYPE_Q4_1, 0.08},   {DTYPE_Q4_K, 0.12},  {DTYPE_Q4_0, 0.13},
        {DTYPE_IQ4_NL, 0.16}, {DTYPE_IQ4_XS, 0.16}, {DTYPE_MXFP4, 0.26}, {DTYPE_Q3_K, 0.35},
        {DTYPE_Q2_K, 0.6},    {DTYPE_TQ1_0, 0.51},  {DTYPE_TQ2_0, 0.51}, {DTYPE_NF4, 0.153},
        {DTYPE_FP4, 0.17},
    };
    float *x = random_numbers("bell", COUNT), y[QUANT_SUPER];
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
        enum dtype type = bounds[b].type;
        int64_t n = dtype_traits[type].block_size;
        uint8_t *blocks = quantized(type, x, COUNT, NULL);
        for (int64_t i = 0; i < COUNT; i += n) {
            double peak = 0, worst = 0;
            quant_types[type].dequantize(y, blocks + dtype_row_bytes(type, i), n);
            for (int64_t j = 0; j < n; j++) {
                peak = fmax(peak, fabs(x[i + j]));
                worst = fmax(worst, fabs((double)x[i + j] - y[j]));
            }
            ck_assert_msg(worst <= bounds[b].bound * peak, "%s: %g of %g", dtype_traits[type].name, worst,
                          peak);
        }
        free(blocks);
    }
    free(x);
}
END_TEST

START_TEST(importance_lowers_the_error_that_it_weighs)
{
    float *x = random_numbers("tails", COUNT), *w = malloc(COUNT * sizeof *w),
          *alike = malloc(COUNT * sizeof *w);
    for (int i = 0; i < COUNT; i++) {
        double u = rng_uniform(SEED, 2000, (uint64_t)i);
        w[i] = (float)(0.01 + 10 * u * u * u * u);
        alike[i] = 3;
    }
    for (int t = 0; t < DTYPE_COUNT; t++) {
        // Weights choose columns that a type by rows leaves apart, and there are none so much above the others.
        if (!quant_types[t].quantize || quant_types[t].by_row || dtype_traits[t].block_size == 1) continue;
        enum dtype type = (enum dtype)t;
        void *plain = quantized(type, x, COUNT, NULL), *weighted = quantized(type, x, COUNT, w),
             *same = quantized(type, x, COUNT, alike);
        double before = mean_error(type, plain, x, COUNT, w), after = mean_error(type, weighted, x, COUNT, w);
        ck_assert_msg(after < before, "%s: %g became %g", dtype_traits[t].name, before, after);
        // Weights that are all the same ask for the least error, which rounding alone may not reach.
        ck_assert_double_le(mean_error(type, same, x, COUNT, NULL),
                            mean_error(type, plain, x, COUNT, NULL) * 1.001);
        free(plain), free(weighted), free(same);
    }
    free(x), free(w), free(alike);
}
END_TEST

START_TEST(odd_numbers_do_no_harm)
{
    enum { N = 2 * QUANT_SUPER };
    float x[N], w[N], y[N];
    for (int t = 0; t < DTYPE_COUNT; t++) {
        enum dtype type = (enum dtype)t;
        if (!quant_types[t].quantize) continue;
        memset(x, 0, sizeof x);
        memset(w, 0, sizeof w);
        for (int weighted = 0; weighted < 2; weighted++) {
            void *b = quantized(type, x, N, weighted ? w : NULL);
            quant_types[t].dequantize(y, b, N);
            for (int i = 0; i < N; i++)
                ck_assert_msg(y[i] == 0, "%s: zero became %g", dtype_traits[t].name, y[i]);
            free(b);
        }
        static const float odd[] = {NAN,    INFINITY, -INFINITY, 3e38f,   -3e38f,
                                    1e-45f, 1e20f,    65504,     -1e-30f, -0.0f};
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
            for (int i = 0; i < N; i++) x[i] = i % 3 ? (float)(i % 17) - 8 : odd[k], w[i] = (float)(i % 5);
            free(quantized(type, x, N, NULL));
            free(quantized(type, x, N, w));
            for (int i = 0; i < N; i++) x[i] = odd[k];
            free(quantized(type, x, N, NULL));
        }
    }
}
END_TEST

START_TEST(grids_hold_what_they_may)
{
    // Two bits that are never 3; and eight signs, an even number of them minus.
    for (int i = 0; i < 2048; i++) ck_assert_int_eq(quant_iq1_grid[i] & quant_iq1_grid[i] >> 1 & 0x5555, 0);
    for (int i = 0; i < 1024; i++)
        ck_assert_int_eq(quant_iq2_s_grid[i] & quant_iq2_s_grid[i] >> 1 & 0x5555, 0);
    for (int i = 0; i < 512; i++) ck_assert_int_eq(quant_iq3_s_grid[i] & 0x8888, 0);
    for (uint32_t i = 0; i < 128; i++) ck_assert_int_eq(__builtin_popcount(quant_iq_signs(i)) % 2, 0);
}
END_TEST

Suite *suite_quant(void)
{
    Suite *s = suite_create("quant");
    TCase *t = tcase_create("formats");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, blocks_have_the_sizes_of_the_table);
    tcase_add_test(t, dequantize_gives_the_stored_numbers);
    tcase_add_test(t, dequantize_agrees_on_random_and_extreme_blocks);
    tcase_add_test(t, quantize_gives_the_bytes_of_the_package);
    tcase_add_test(t, the_search_is_at_least_as_good_as_llama_cpp);
    tcase_add_test(t, forms_of_the_search_have_the_same_bits);
    tcase_add_test(t, rounding_stays_within_a_step);
    tcase_add_test(t, importance_lowers_the_error_that_it_weighs);
    tcase_add_test(t, odd_numbers_do_no_harm);
    tcase_add_test(t, grids_hold_what_they_may);
    suite_add_tcase(s, t);
    return s;
}
