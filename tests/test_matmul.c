// tests/test_matmul.c -- every form of matmul against the double reference, at every edge, and bit for bit
// against itself.
#include <check.h>

#include "core/cpu.h"
#include "ops/ops.h"
#include "tests/kernels.h"
#include "tests/tests.h"

// The oracle; its `struct matmul_args` is the same, with doubles behind x and y.
matmul_fwd_fn matmul_fwd_f64;

static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_F64};
enum { TYPES = sizeof types / sizeof *types };

// One product: y (T, N), x (T, K), w (N, K), each with rows `pad` elements apart more than they need; w lies
// `shift` bytes off its natural end. All end at a page that faults.
struct product {
    struct guarded y, x, w, scratch;
    struct matmul_args args;
    const struct matmul_kernel *kernel;
    int64_t n;
};

// What the numbers of a product are drawn from.
enum fill { FILL_UNIFORM, FILL_EXTREME };

static float draw(enum fill fill, uint64_t stream, uint64_t i)
{
    static const float extreme[] = {0.0f, -0.0f, 6e-8f, -3e-6f, 65504.0f, -60000.0f, 1.0f, 0x1p-14f, 1e-40f};
    float u = random_signed(stream, i);
    if (fill == FILL_UNIFORM || u > 0) return u;
    return extreme[(size_t)(-u * 8.99f)];
}

static void put(void *p, enum dtype type, float v)
{
    uint16_t h = type == DTYPE_F16 ? f16_from_f32(v) : bf16_from_f32(v);
    double d = v;
    switch (type) {
    case DTYPE_F16:
    case DTYPE_BF16: memcpy(p, &h, sizeof h); break;
    case DTYPE_F64: memcpy(p, &d, sizeof d); break;
    default: memcpy(p, &v, sizeof v);
    }
}

static size_t rows_bytes(int64_t rows, size_t stride, size_t row)
{
    return (size_t)(rows - 1) * stride + row;
}

static struct product product_make(const struct matmul_kernel *kernel, enum dtype type, int64_t n, int64_t k,
                                   int64_t t, size_t pad, size_t shift, enum fill fill)
{
    struct product p = {.kernel = kernel, .n = n};
    size_t xe = dtype_row_bytes(kernel->x_type, 1), we = dtype_row_bytes(type, 1);
    size_t y_stride = (size_t)n + pad, x_stride = (size_t)k + pad, w_stride = ((size_t)k + pad) * we + shift;
    p.y = guarded_alloc(rows_bytes(t, y_stride * 4, (size_t)n * 4));
    p.x = guarded_alloc(rows_bytes(t, x_stride * xe, (size_t)k * xe));
    p.w = guarded_alloc(rows_bytes(n, w_stride, (size_t)k * we));
    p.scratch = guarded_alloc((kernel->scratch + 63) / 64 * 64);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < k; i++)
            put((char *)p.w.data + (size_t)r * w_stride + (size_t)i * we, type,
                draw(fill, 1, (uint64_t)(r * k + i)));
    for (int64_t r = 0; r < t; r++)
        for (int64_t i = 0; i < k; i++)
            put((char *)p.x.data + ((size_t)r * x_stride + (size_t)i) * xe, kernel->x_type,
                draw(fill, 2, (uint64_t)(r * k + i)));
    p.args = (struct matmul_args){.y = p.y.data,
                                  .y_stride = y_stride,
                                  .x = p.x.data,
                                  .x_stride = x_stride,
                                  .w = p.w.data,
                                  .w_type = type,
                                  .w_stride = w_stride,
                                  .n_end = n,
                                  .t_count = t,
                                  .k_count = k,
                                  .scratch = p.scratch.data};
    return p;
}

static void product_free(struct product *p)
{
    guarded_free(&p->y), guarded_free(&p->x), guarded_free(&p->w), guarded_free(&p->scratch);
}

static void product_run(const struct product *p, int64_t n_begin, int64_t n_end)
{
    struct matmul_args a = p->args;
    a.n_begin = n_begin, a.n_end = n_end;
    p->kernel->fwd(&a);
}

// Holds y against the double reference of the same inputs, and the guards and gaps between rows for being
// untouched.
static void product_check(const struct product *p, const char *what)
{
    const struct matmul_args *a = &p->args;
    const size_t n = (size_t)p->n, k = (size_t)a->k_count, t_count = (size_t)a->t_count;
    double *x = malloc(t_count * k * sizeof *x), *expected = malloc(t_count * n * sizeof *expected);
    float *found = malloc(t_count * n * sizeof *found);
    ck_assert(x && expected && found);
    for (size_t t = 0; t < t_count; t++)
        for (size_t i = 0; i < k; i++) {
            if (p->kernel->x_type == DTYPE_BF16)
                x[t * k + i] = f32_from_bf16(((const uint16_t *)a->x)[t * a->x_stride + i]);
            else
                x[t * k + i] = ((const float *)a->x)[t * a->x_stride + i];
        }
    struct matmul_args oracle = *a;
    oracle.y = expected, oracle.y_stride = n, oracle.x = x, oracle.x_stride = k;
    matmul_fwd_f64(&oracle);
    bool gaps = true;
    for (size_t t = 0; t < t_count; t++) {
        const float *row = (const float *)a->y + t * a->y_stride;
        memcpy(found + t * n, row, n * sizeof *found);
        for (size_t i = n; i < a->y_stride && t + 1 < t_count; i++) gaps &= isnan(row[i]) != 0;
    }
    ck_assert_msg(agrees(found, expected, (int64_t)(t_count * n), 1e-5), "%s: relative error %g", what,
                  rel_error(found, expected, (int64_t)(t_count * n)));
    ck_assert_msg(gaps && guarded_intact(&p->y) && guarded_intact(&p->x) && guarded_intact(&p->w) &&
                      guarded_intact(&p->scratch),
                  "%s: written outside", what);
    free(x), free(expected), free(found);
}

static void check_shape(const struct kernels *ks, enum dtype type, int64_t n, int64_t k, int64_t t,
                        size_t pad, size_t shift, enum fill fill)
{
    struct product p = product_make(&ks->matmul[type], type, n, k, t, pad, shift, fill);
    char what[128];
    snprintf(what, sizeof what, "%s %s N %d K %d T %d pad %d shift %d", isa_name(ks->isa),
             dtype_traits[type].name, (int)n, (int)k, (int)t, (int)pad, (int)shift);
    product_run(&p, 0, n);
    product_check(&p, what);
    product_free(&p);
}

// Every tier from the reference to the best of this machine, every type of weights.
#define EACH_TIER_AND_TYPE(ks, type)                                               \
    EACH_ISA (isa, ISA_REF)                                                        \
        for (struct kernels ks = kernels_for(isa), *once = &ks; once; once = NULL) \
            for (size_t type##_i = 0; type##_i < TYPES; type##_i++)                \
                for (enum dtype type = types[type##_i], *go = &type; go; go = NULL)

// Each of N, K, T goes through all its values, the other two through a few.
START_TEST(edges)
{
    static const int64_t ns[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 511, 512, 513};
    static const int64_t some_k[] = {1, 33, 65}, some_t[] = {1, 3, 8, 9, 16};
    EACH_TIER_AND_TYPE (ks, type) {
        for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
            for (size_t j = 0; j < sizeof some_t / sizeof *some_t; j++)
                check_shape(&ks, type, ns[i], some_k[(i + j) % 3], some_t[j], i % 3, j % 2, FILL_UNIFORM);
        for (int64_t k = 1; k <= 33; k++)
            for (int64_t t = 1; t <= 13; t += 4)
                check_shape(&ks, type, 81, k, t, (size_t)k % 2, 0, FILL_UNIFORM);
        for (int64_t t = 1; t <= 33; t++) check_shape(&ks, type, 70, 47, t, 0, (size_t)t % 4, FILL_UNIFORM);
    }
}
END_TEST

// Depths beyond one panel, one piece and one copy of x, with and without an odd rest.
START_TEST(long_rows)
{
    static const int64_t ks_long[] = {511, 512, 513, 1023, 1025, 2047, 2049, 2080, 4113, 8257, 10497};
    static const int64_t columns[] = {1, 6, 8, 9};
    EACH_TIER_AND_TYPE (ks, type)
        for (size_t i = 0; i < sizeof ks_long / sizeof *ks_long; i++)
            for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
                check_shape(&ks, type, 67, ks_long[i], columns[j], i % 3, 0, FILL_UNIFORM);
}
END_TEST

START_TEST(extreme_values)
{
    EACH_TIER_AND_TYPE (ks, type) {
        check_shape(&ks, type, 80, 100, 1, 0, 0, FILL_EXTREME);
        check_shape(&ks, type, 80, 100, 12, 0, 0, FILL_EXTREME);
    }
}
END_TEST

// Every f16 and every bf16 comes out as itself from a row times one; NaN and infinities too.
START_TEST(every_half)
{
    EACH_TIER_AND_TYPE (ks, type) {
        if (type != DTYPE_F16 && type != DTYPE_BF16) continue;
        const struct matmul_kernel *kernel = &ks.matmul[type];
        for (int64_t t = 1; t <= 12; t += 11) {
            struct product p = product_make(kernel, type, 65536, 1, t, 0, 0, FILL_UNIFORM);
            for (uint32_t h = 0; h < 65536; h++) ((uint16_t *)p.w.data)[h] = (uint16_t)h;
            for (int64_t i = 0; i < t; i++)
                put((char *)p.x.data + (size_t)i * dtype_row_bytes(kernel->x_type, 1), kernel->x_type, 1);
            product_run(&p, 0, p.n);
            int wrong = -1;
            for (uint32_t i = 0; i < 65536 * (uint32_t)t; i++) {
                uint16_t h = (uint16_t)i;
                float w = type == DTYPE_F16 ? f32_from_f16(h) : f32_from_bf16(h),
                      y = ((const float *)p.y.data)[i];
                // The bf16 dot flushes subnormal numbers.
                bool flushed = kernel->x_type == DTYPE_BF16 && fabsf(w) < 0x1p-126f && y == 0;
                if (!((isnan(w) && isnan(y)) || w == y || flushed)) wrong = h;
            }
            ck_assert_msg(wrong < 0, "%s %s: %04x", isa_name(ks.isa), dtype_traits[type].name,
                          (unsigned)wrong);
            product_free(&p);
        }
    }
}
END_TEST

// The bits of an output do not depend on the columns beside it or on the ranges of rows that a call is given.
START_TEST(row_independence)
{
    static const int64_t columns[] = {1, 2, 7, 16, 33, 512};
    static const int64_t depths[] = {1, 75, 1100, 2311};
    EACH_TIER_AND_TYPE (ks, type)
        for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
            const int64_t n = 150, splits[] = {0, 1, 4, 20, 83, 84, 149, 150};
            struct product all = product_make(&ks.matmul[type], type, n, depths[d], 512, 0, 0, FILL_UNIFORM);
            float *y = malloc(all.y.size);
            ck_assert_ptr_nonnull(y);
            product_run(&all, 0, n);
            memcpy(y, all.y.data, all.y.size);
            for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
                for (int64_t t = 0; t < 66; t += columns[c]) {
                    struct product part = all;
                    part.args.x = (char *)all.x.data +
                                  (size_t)t * all.args.x_stride * dtype_row_bytes(part.kernel->x_type, 1);
                    part.args.y = (float *)all.y.data + (size_t)t * all.args.y_stride;
                    part.args.t_count = columns[c] < 512 - t ? columns[c] : 512 - t;
                    memset(all.y.data, 0xFF, all.y.size);
                    for (size_t s = 0; s + 1 < sizeof splits / sizeof *splits; s++)
                        product_run(&part, splits[s], splits[s + 1]);
                    size_t bytes = (size_t)(part.args.t_count * n) * sizeof *y;
                    ck_assert_msg(!memcmp(part.args.y, y + t * n, bytes),
                                  "%s %s K %d: %d columns from %d differ", isa_name(ks.isa),
                                  dtype_traits[type].name, (int)depths[d], (int)columns[c], (int)t);
                    if (c > 0 && t > 0) break;
                }
            }
            free(y);
            product_free(&all);
        }
}
END_TEST

Suite *suite_matmul(void)
{
    Suite *s = suite_create("matmul");
    TCase *c = tcase_create("matmul");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, edges);
    tcase_add_test(c, long_rows);
    tcase_add_test(c, extreme_values);
    tcase_add_test(c, every_half);
    tcase_add_test(c, row_independence);
    suite_add_tcase(s, c);
    return s;
}
