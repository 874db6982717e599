// tests/test_matmul_quantized.c -- products of packed quantized weights: packing and its way back, every type and tier against
// doubles, every edge, and bit for bit against itself.
#include <check.h>

#include "ops/ops.h"
#include "ops/packed.h"
#include "quant/quant.h"
#include "tests/kernels.h"
#include "tests/tests.h"

static const enum dtype types[] = {PACKED_TYPES};
enum { TYPES = sizeof types / sizeof *types, SUPER = 256, X_BYTES = 292 };

// What the weights are: rounded numbers; bytes at random, which give every code and every sub-scale, with sane block scales;
// the largest code and sub-scale everywhere, with activations of the largest magnitude.
enum fill { FILL_ROUNDED, FILL_BYTES, FILL_LARGEST, FILLS };

static unsigned char random_byte(uint64_t stream, uint64_t i)
{
    return (unsigned char)(256 * rng_uniform(1, stream, i));
}

// Bytes of the block at which f16 scales stand, two at most.
static void scale_offsets(enum dtype type, int at[2])
{
    const struct packed_format *f = packed_format(type);
    int found = 0;
    at[0] = at[1] = -1;
    for (int i = 0; i < 3; i++)
        if (f->scales[i].bytes == 2 && found < 2 && !(type == DTYPE_IQ4_XS && f->scales[i].offset == 2))
            at[found++] = f->scales[i].offset;
}

static void fill_row(unsigned char *row, enum dtype type, int64_t k, enum fill fill, uint64_t stream)
{
    int64_t blocks = k / dtype_traits[type].block_size, bytes = dtype_traits[type].block_bytes;
    if (fill == FILL_ROUNDED) {
        float *x = malloc((size_t)k * sizeof *x);
        ck_assert_ptr_nonnull(x);
        fill_random(x, k, stream);
        quant_types[type].quantize(row, x, k, NULL);
        free(x);
        return;
    }
    for (int64_t b = 0; b < blocks; b++) {
        unsigned char *block = row + b * bytes;
        int at[2];
        for (int64_t i = 0; i < bytes; i++)
            block[i] = fill == FILL_LARGEST ? 0xff : random_byte(stream, (uint64_t)(b * bytes + i));
        if (type == DTYPE_MXFP4) block[0] = (unsigned char)(fill == FILL_LARGEST ? 130 : 118 + block[0] % 16);
        if (type == DTYPE_Q8_0 && fill == FILL_LARGEST) memset(block + 2, 0x80, 32); // -128
        scale_offsets(type, at);
        for (int i = 0; i < 2; i++) {
            uint16_t h = f16_from_f32(random_signed(stream + 1, (uint64_t)(2 * b + i)));
            if (at[i] >= 0) memcpy(block + at[i], &h, 2);
        }
    }
}

// One product: y (T, N), x (T, K) of Q8_K, w (N, K) packed. All end at a page that faults.
struct product {
    struct guarded y, x, w, scratch;
    unsigned char *rows; // of the weights, as in a file
    float *numbers;      // (T, K) activations before they were converted
    struct matmul_args args;
    const struct matmul_kernel *kernel;
    int64_t n;
};

static int64_t blocks_of(int64_t k)
{
    return (k + SUPER - 1) / SUPER;
}

static struct product product_make(const struct kernels *ks, enum dtype type, int64_t n, int64_t k, int64_t t,
                                   size_t pad, enum fill fill)
{
    struct product p = {.kernel = &ks->matmul[type], .n = n};
    const size_t row = dtype_row_bytes(type, k), group = packed_group_bytes(type, k),
                 x_row = (size_t)blocks_of(k) * X_BYTES;
    const size_t y_stride = (size_t)n + pad;
    ck_assert(p.kernel->packed && p.kernel->x_type == DTYPE_Q8_K);
    p.y = guarded_alloc(((size_t)(t - 1) * y_stride + (size_t)n) * 4);
    p.x = guarded_alloc((size_t)t * x_row);
    p.w = guarded_alloc((size_t)((n + PACKED_ROWS - 1) / PACKED_ROWS) * group);
    p.scratch = guarded_alloc((p.kernel->scratch + 63) / 64 * 64);
    p.rows = malloc((size_t)n * row), p.numbers = malloc((size_t)(t * k) * sizeof *p.numbers);
    ck_assert(p.rows && p.numbers);
    for (int64_t r = 0; r < n; r++) fill_row(p.rows + (size_t)r * row, type, k, fill, (uint64_t)(10 + 2 * r));
    for (int64_t r = 0; r < n; r += PACKED_ROWS)
        packed_group((char *)p.w.data + (size_t)(r / PACKED_ROWS) * group, type, p.rows + (size_t)r * row,
                     row, n - r < PACKED_ROWS ? n - r : PACKED_ROWS, k);
    fill_random(p.numbers, t * k, 2);
    if (fill == FILL_LARGEST)
        for (int64_t i = 0; i < t * k; i++) p.numbers[i] = i % k / 32 % 2 ? -3 : 3;
    for (int64_t r = 0; r < t; r++)
        ks->from_real[DTYPE_Q8_K]((char *)p.x.data + (size_t)r * x_row, p.numbers + r * k, k);
    p.args = (struct matmul_args){.y = p.y.data,
                                  .y_stride = y_stride,
                                  .x = p.x.data,
                                  .x_stride = (size_t)(blocks_of(k) * SUPER),
                                  .w = p.w.data,
                                  .w_type = type,
                                  .w_stride = group,
                                  .n_end = n,
                                  .t_count = t,
                                  .k_count = k,
                                  .scratch = p.scratch.data};
    return p;
}

static void product_free(struct product *p)
{
    guarded_free(&p->y), guarded_free(&p->x), guarded_free(&p->w), guarded_free(&p->scratch);
    free(p->rows), free(p->numbers);
}

static void product_run(const struct product *p, int64_t n_begin, int64_t n_end)
{
    struct matmul_args a = p->args;
    a.n_begin = n_begin, a.n_end = n_end;
    p->kernel->fwd(&a);
}

// Against the double product of the weights' numbers and those of the converted activations; and of the activations themselves,
// as far as 8 bits go.
static void product_check(const struct product *p, const char *what, bool sane)
{
    const struct matmul_args *a = &p->args;
    const int64_t n = p->n, k = a->k_count, t_count = a->t_count;
    const size_t row = dtype_row_bytes(a->w_type, k);
    float *w = malloc((size_t)k * sizeof *w), *found = malloc((size_t)(n * t_count) * sizeof *found);
    float *x = malloc((size_t)(t_count * k) * sizeof *x);
    double *expected = malloc((size_t)(n * t_count) * sizeof *expected),
           *plain = malloc((size_t)(n * t_count) * sizeof *plain);
    ck_assert(w && found && x && expected && plain);
    for (int64_t t = 0; t < t_count; t++)
        for (int64_t i = 0; i < k; i++) {
            const char *block = (const char *)a->x + (t * blocks_of(k) + i / SUPER) * X_BYTES;
            float d;
            memcpy(&d, block, 4);
            x[t * k + i] = d * (float)*(const int8_t *)(block + 4 + i % SUPER);
        }
    bool gaps = true;
    for (int64_t r = 0; r < n; r++) {
        quant_types[a->w_type].dequantize(w, p->rows + (size_t)r * row, k);
        for (int64_t t = 0; t < t_count; t++) {
            double sum = 0, sum_plain = 0;
            for (int64_t i = 0; i < k; i++) {
                sum += (double)w[i] * x[t * k + i];
                sum_plain += (double)w[i] * p->numbers[t * k + i];
            }
            expected[t * n + r] = sum, plain[t * n + r] = sum_plain;
        }
    }
    for (int64_t t = 0; t < t_count; t++) {
        const float *y = (const float *)a->y + (size_t)t * a->y_stride;
        memcpy(found + t * n, y, (size_t)n * sizeof *found);
        for (size_t i = (size_t)n; i < a->y_stride && t + 1 < t_count; i++) gaps &= isnan(y[i]) != 0;
    }
    ck_assert_msg(agrees(found, expected, n * t_count, 1e-5), "%s: relative error %g", what,
                  rel_error(found, expected, n * t_count));
    ck_assert_msg(!sane || rel_error(found, plain, n * t_count) < 0.02, "%s: %g from plain activations", what,
                  rel_error(found, plain, n * t_count));
    ck_assert_msg(gaps && guarded_intact(&p->y) && guarded_intact(&p->x) && guarded_intact(&p->w) &&
                      guarded_intact(&p->scratch),
                  "%s: written outside", what);
    free(w), free(found), free(x), free(expected), free(plain);
}

static void check_shape(const struct kernels *ks, enum dtype type, int64_t n, int64_t k, int64_t t,
                        enum fill fill)
{
    struct product p = product_make(ks, type, n, k, t, (size_t)(n + t) % 3, fill);
    char what[128];
    snprintf(what, sizeof what, "%s %s N %d K %d T %d fill %d", isa_name(ks->isa), dtype_traits[type].name,
             (int)n, (int)k, (int)t, (int)fill);
    product_run(&p, 0, n);
    product_check(&p, what, fill == FILL_ROUNDED && n * t > 100);
    product_free(&p);
}

// The kernels of AVX-VNNI with the encoding of AVX-512 (tests/evex_avx512_vnni.c), so that they are tested on more processors.
matmul_fwd_fn PACKED_KERNELS(evex);

static bool open_tier(enum isa isa, struct kernels *k)
{
    static matmul_fwd_fn *const twins[] = {PACKED_KERNELS(evex)};
    const bool twin = isa == ISA_AVX_VNNI && !isa_supported(isa) && isa_detect() >= ISA_AVX512_VNNI;
    if (!twin && !isa_supported(isa)) return false;
    *k = kernels_for(twin ? ISA_AVX2 : isa);
    for (size_t i = 0; twin && i < TYPES; i++) k->matmul[types[i]].fwd = twins[i];
    k->isa = isa;
    return true;
}

// Every tier that has packed kernels, every type.
#define EACH_TIER(ks)                                         \
    for (enum isa isa = ISA_AVX2; isa <= isa_detect(); isa++) \
        for (struct kernels ks, *once = open_tier(isa, &ks) ? &ks : NULL; once; once = NULL)
#define EACH_TIER_AND_TYPE(ks, type)                            \
    EACH_TIER (ks)                                              \
        for (size_t type##_i = 0; type##_i < TYPES; type##_i++) \
            for (enum dtype type = types[type##_i], *go = &type; go; go = NULL)

START_TEST(packing)
{
    static const int64_t rows[] = {1, 5, 15, 16}, depths[] = {32, 96, 256, 288, 512, 768};
    for (size_t i = 0; i < TYPES; i++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
                const int64_t k = depths[d], n = rows[r];
                if (k % dtype_traits[types[i]].block_size) continue;
                const size_t row = dtype_row_bytes(types[i], k), stride = row + 3;
                struct guarded from = guarded_alloc((size_t)(n - 1) * stride + row),
                               back = guarded_alloc(from.size);
                struct guarded group = guarded_alloc(packed_group_bytes(types[i], k));
                for (size_t b = 0; b < from.size; b++) ((unsigned char *)from.data)[b] = random_byte(3, b);
                packed_group(group.data, types[i], from.data, stride, n, k);
                packed_group_undo(back.data, stride, n, types[i], group.data, k);
                for (int64_t j = 0; j < n; j++)
                    ck_assert_msg(!memcmp((char *)from.data + (size_t)j * stride,
                                          (char *)back.data + (size_t)j * stride, row),
                                  "%s: row %d of %d, K %d", dtype_traits[types[i]].name, (int)j, (int)n,
                                  (int)k);
                ck_assert(group.size >= PACKED_ROWS * row && group.size < PACKED_ROWS * row + 64);
                ck_assert(guarded_intact(&group) && guarded_intact(&back));
                guarded_free(&from), guarded_free(&back), guarded_free(&group);
            }
}
END_TEST

START_TEST(edges)
{
    static const int64_t ns[] = {1, 15, 16, 17, 31, 32, 33, 47, 64, 77},
                         depths[] = {32, 64, 256, 288, 512, 2048, 2400, 4352};
    EACH_TIER_AND_TYPE (ks, type) {
        const bool by_256 = dtype_traits[type].block_size == 256;
        for (int64_t t = 1; t <= 41; t += t < 17 ? 1 : 3)
            check_shape(&ks, type, 37, by_256 ? 512 : 544, t, FILL_ROUNDED);
        for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
            for (int64_t t = 1; t <= 40; t += 13) check_shape(&ks, type, ns[i], 256, t, FILL_BYTES);
        for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
            for (int64_t t = 1; t <= 33 && !(by_256 && depths[i] % 256); t = t < 31 ? t + 10 : t + 1)
                check_shape(&ks, type, 34, depths[i], t, FILL_BYTES);
        check_shape(&ks, type, 33, 256, 513, FILL_BYTES);
        check_shape(&ks, type, 33, 8448, 35, FILL_BYTES);                          // a panel in two parts
        if (type == DTYPE_Q6_K) check_shape(&ks, type, 17, 64000, 32, FILL_BYTES); // sums in two parts
    }
}
END_TEST

START_TEST(largest)
{
    EACH_TIER_AND_TYPE (ks, type)
        for (int64_t t = 1; t <= 21; t += 5) check_shape(&ks, type, 18, 768, t, FILL_LARGEST);
}
END_TEST

// The bits of an output depend on its row of activations alone: not on the columns beside it, the ranges of rows that a call is
// given, or the tier.
START_TEST(row_independence)
{
    static const int64_t columns[] = {1, 2, 7, 16, 33, 512}, splits[] = {0, 16, 64, 80, 112, 118};
    enum { N = 118, T = 512 };
    for (size_t i = 0; i < TYPES; i++)
        for (int64_t k = 256; k <= 4352; k += 4096) {
            float *first = NULL;
            EACH_TIER (ks) {
                struct product all = product_make(&ks, types[i], N, k, T, 0, FILL_BYTES);
                product_run(&all, 0, N);
                if (!first) {
                    first = malloc(all.y.size);
                    ck_assert_ptr_nonnull(first);
                    memcpy(first, all.y.data, all.y.size);
                }
                ck_assert_msg(!memcmp(first, all.y.data, all.y.size), "%s %s K %d: another tier's bits",
                              isa_name(ks.isa), dtype_traits[types[i]].name, (int)k);
                for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
                    for (int64_t t = 0; t < 14; t += columns[c]) {
                        struct product part = all;
                        part.args.x = (char *)all.x.data + t * blocks_of(k) * X_BYTES;
                        part.args.y = (float *)all.y.data + t * N;
                        part.args.t_count = columns[c] < T - t ? columns[c] : T - t;
                        memset(all.y.data, 0xFF, all.y.size);
                        for (size_t s = 0; s + 1 < sizeof splits / sizeof *splits; s++)
                            product_run(&part, splits[s], splits[s + 1]);
                        ck_assert_msg(!memcmp(part.args.y, first + t * N,
                                              (size_t)(part.args.t_count * N) * sizeof *first),
                                      "%s %s K %d: %d columns from %d differ", isa_name(ks.isa),
                                      dtype_traits[types[i]].name, (int)k, (int)columns[c], (int)t);
                    }
                product_free(&all);
            }
            free(first);
        }
}
END_TEST

// Rows to Q8_K: the definition, padding, guards, the same bytes on every tier; what is not finite stays so.
START_TEST(activations)
{
    static const int64_t counts[] = {1, 31, 32, 255, 256, 257, 288, 700, 2048};
    static const float scales[] = {1, 0, 1e-30f, 1e30f, 1e-42f};
    EACH_TIER (ks)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
                const int64_t n = counts[c];
                struct guarded x = guarded_alloc((size_t)n * 4),
                               y = guarded_alloc((size_t)blocks_of(n) * X_BYTES);
                for (int64_t i = 0; i < n; i++)
                    ((float *)x.data)[i] = scales[s] * random_signed(4, (uint64_t)i);
                ks.from_real[DTYPE_Q8_K](y.data, x.data, n);
                for (int64_t b = 0; b < blocks_of(n); b++) {
                    const char *block = (const char *)y.data + b * X_BYTES;
                    float d, most = 0;
                    memcpy(&d, block, 4);
                    for (int64_t i = b * SUPER; i < (b + 1) * SUPER && i < n; i++)
                        most = fmaxf(most, fabsf(((float *)x.data)[i]));
                    const bool none = most == 0 || isinf(127 / most);
                    ck_assert(d == (none ? 0 : most / 127));
                    for (int g = 0; g < 16; g++) {
                        int sum = 0;
                        int16_t stored;
                        for (int i = 16 * g; i < 16 * g + 16; i++) {
                            const int64_t at = b * SUPER + i;
                            const float v = at < n && !none ? ((float *)x.data)[at] * (127 / most) : 0;
                            ck_assert_int_eq(*(const int8_t *)(block + 4 + i), (int)nearbyintf(v));
                            sum += *(const int8_t *)(block + 4 + i);
                        }
                        memcpy(&stored, block + 4 + SUPER + 2 * g, 2);
                        ck_assert_int_eq(stored, sum);
                    }
                }
                ck_assert(guarded_intact(&y) && guarded_intact(&x));
                for (int kind = 0; kind < 2; kind++) {
                    float d;
                    ((float *)x.data)[n / 2] = kind ? NAN : -INFINITY;
                    ks.from_real[DTYPE_Q8_K](y.data, x.data, n);
                    memcpy(&d, (char *)y.data + n / 2 / SUPER * X_BYTES, 4);
                    ck_assert(isnan(d));
                }
                guarded_free(&x), guarded_free(&y);
            }
}
END_TEST

// Likewise with a limit, within which most, some or none of the numbers are.
START_TEST(limited_activations)
{
    static const int64_t counts[] = {1, 31, 256, 257, 700};
    static const float limits[] = {2, 0.9f, 0.3f, 1e-15f, 1e15f};
    EACH_ISA (isa, ISA_AVX2)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t s = 0; s < sizeof limits / sizeof *limits; s++) {
                struct kernels ks = kernels_for(isa);
                const int64_t n = counts[c];
                const float limit = limits[s];
                struct guarded x = guarded_alloc((size_t)n * 4),
                               y = guarded_alloc((size_t)blocks_of(n) * X_BYTES);
                for (int64_t i = 0; i < n; i++) ((float *)x.data)[i] = random_signed(4, (uint64_t)i);
                ((float *)x.data)[n / 3] = 3e38f;
                ks.q8_k_within(y.data, x.data, n, limit);
                for (int64_t b = 0; b < blocks_of(n); b++) {
                    const char *block = (const char *)y.data + b * X_BYTES;
                    float d;
                    memcpy(&d, block, 4);
                    ck_assert(d == limit / 127);
                    for (int g = 0; g < 16; g++) {
                        int sum = 0;
                        int16_t stored;
                        for (int i = 16 * g; i < 16 * g + 16; i++) {
                            const int64_t at = b * SUPER + i;
                            const float v = at < n ? ((float *)x.data)[at] * (127 / limit) : 0;
                            const float code = nearbyintf(fmaxf(-127, fminf(127, v)));
                            ck_assert_int_eq(*(const int8_t *)(block + 4 + i), (int)code);
                            sum += *(const int8_t *)(block + 4 + i);
                        }
                        memcpy(&stored, block + 4 + SUPER + 2 * g, 2);
                        ck_assert_int_eq(stored, sum);
                    }
                }
                ck_assert(guarded_intact(&y) && guarded_intact(&x));
                for (int kind = 0; kind < 2; kind++) {
                    float d;
                    ((float *)x.data)[n / 2] = kind ? NAN : -INFINITY;
                    ks.q8_k_within(y.data, x.data, n, limit);
                    memcpy(&d, (char *)y.data + n / 2 / SUPER * X_BYTES, 4);
                    ck_assert(isnan(d));
                }
                guarded_free(&x), guarded_free(&y);
            }
}
END_TEST

Suite *suite_matmul_quantized(void)
{
    Suite *s = suite_create("matmul_quantized");
    TCase *c = tcase_create("matmul_quantized");
    tcase_set_timeout(c, 240);
    tcase_add_test(c, packing);
    tcase_add_test(c, activations);
    tcase_add_test(c, limited_activations);
    tcase_add_test(c, edges);
    tcase_add_test(c, largest);
    tcase_add_test(c, row_independence);
    suite_add_tcase(s, c);
    return s;
}
