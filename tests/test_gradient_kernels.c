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
    EACH_ISA (isa, ISA_REF) {
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

// Beside a teacher's logits; what one of both lacks altogether counts for nothing, or for infinitely much.
static void check_distill(const struct kernels *k, const struct numbers *x, const struct numbers *teacher,
                          int32_t target, double share)
{
    struct kernels f64 = kernels_for_f64();
    struct numbers dx = unset(x->n);
    double loss = k->distill(dx.f, x->f, teacher->f, target, x->n, share, 0.125);
    double expected = f64.distill((void *)dx.d, (void *)x->d, (void *)teacher->d, target, x->n, share, 0.125);
    ck_assert_msg(fabs(loss - expected) <= 1e-6 * (1 + fabs(expected)) || (isnan(loss) && isnan(expected)) ||
                      loss == expected,
                  "%s: distilled loss of %d logits: expected %.9g, found %.9g", isa_name(k->isa), (int)x->n,
                  expected, loss);
    check_numbers("distill", k->isa, x->n, &dx, 2e-6, 0.125);
    struct numbers same = drawn(x->n, 0, 1);
    memcpy(same.f, x->f, (size_t)x->n * sizeof *x->f);
    double within = k->distill(same.f, same.f, teacher->f, target, x->n, share, 0.125);
    ck_assert_mem_eq(&within, &loss, sizeof loss);
    ck_assert_mem_eq(same.f, dx.f, (size_t)x->n * sizeof *dx.f);
    release(&dx), release(&same);
}

START_TEST(test_distill)
{
    static const float spreads[] = {0, 1e-3f, 10, 200};
    static const double shares[] = {0.25, 1};
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES + 1; i++)
            for (int s = 0; s < 8; s++) {
                int64_t n = i < SIZES ? sizes[i] : 50257;
                struct numbers x = drawn(n, spreads[s % 4], 1), teacher = drawn(n, spreads[s / 2], 2);
                check_distill(&k, &x, &teacher, (int32_t)n - 1, shares[s % 2]);
                check_distill(&k, &x, &teacher, -1, 1);
                // What has learnt all of it has neither a loss nor a gradient.
                struct numbers none = unset(n);
                ck_assert(fabs(k.distill(none.f, x.f, x.f, 0, n, 1, 1)) < 1e-12);
                for (int64_t v = 0; v < n; v++) ck_assert(fabsf(none.f[v]) <= 1e-7f);
                release(&x), release(&teacher), release(&none);
            }
        for (int i = 0; i < EXTREME_LOGITS; i++) {
            struct numbers x = drawn(77, 1, 2), teacher = drawn(77, 1, 3);
            teacher.f[70] = extreme_logits[i];
            widen(&teacher);
            check_distill(&k, &x, &teacher, 3, 0.5);
            x.f[70] = extreme_logits[i];
            widen(&x);
            check_distill(&k, &x, &teacher, 3, 0.5);
            release(&x), release(&teacher);
        }
    }
}
END_TEST

// ---- transpose ----------------------------------------------------------------------------------------

// The bits of the reference; what lies between the rows of the result stays as it was.
static void check_transpose(const struct kernels *k, enum dtype type, int64_t rows, int64_t cols, size_t pad)
{
    const size_t bytes = dtype_row_bytes(type, 1), to_stride = (size_t)rows + pad,
                 from_stride = (size_t)cols + pad;
    const size_t size = ((size_t)(cols - 1) * to_stride + (size_t)rows) * bytes;
    struct numbers x = drawn((rows - 1) * (int64_t)from_stride + cols, 1, 3);
    for (int64_t i = 0; i < x.n; i += 5)
        x.f[i] = i % 3 ? extreme_logits[i % EXTREME_LOGITS] : i % 2 ? NAN : f32_of_bits(0xff800001);
    struct guarded found = guarded_alloc(size), expected = guarded_alloc(size);
    k->transpose_fwd(found.data, to_stride, type, x.f, from_stride, rows, cols);
    kernels_for(ISA_REF).transpose_fwd(expected.data, to_stride, type, x.f, from_stride, rows, cols);
    ck_assert_msg(!memcmp(found.data, expected.data, size) && guarded_intact(&found),
                  "%s: transpose of %d x %d to %s", isa_name(k->isa), (int)rows, (int)cols,
                  dtype_traits[type].name);
    guarded_free(&found), guarded_free(&expected);
    release(&x);
}

START_TEST(test_transpose)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++)
            for (int64_t other = 1; other < 140; other = 2 * other + i % 3)
                for (size_t pad = 0; pad < 4; pad += 3) {
                    check_transpose(&k, DTYPE_F32, sizes[i], other, pad);
                    check_transpose(&k, DTYPE_F32, other, sizes[i], pad);
                    check_transpose(&k, DTYPE_BF16, sizes[i], other, pad);
                    check_transpose(&k, DTYPE_BF16, other, sizes[i], pad);
                }
    }
}
END_TEST

// ---- attention ----------------------------------------------------------------------------------------

struct attention_shape {
    int32_t heads, kv_heads, d, d_v, window;
    float softcap;
    bool sinks, slopes;
};

// Inputs in the type of `real`, outputs behind NaN; rows of q, k, v, y and of the gradients lie further apart than they are long.
struct attention_case {
    struct numbers q, k, v, y, dy, lse, dx, sinks, slopes, dsinks;
    size_t dx_stride, q_stride, k_stride, v_stride, y_stride;
};

static struct attention_dx_args attention_call(const struct attention_shape *s,
                                               const struct attention_case *c, int64_t rows, int32_t head,
                                               bool f64, void *scratch)
{
    const int32_t group = s->heads / s->kv_heads;
    const size_t size = f64 ? sizeof(double) : sizeof(float);
#define OF(x, at) ((char *)(f64 ? (void *)c->x.d : (void *)c->x.f) + (size_t)(at)*size)
    return (struct attention_dx_args){
        .dq = OF(dx, 0),
        .dk = OF(dx, s->heads * s->d),
        .dv = OF(dx, (s->heads + s->kv_heads) * s->d),
        .dsinks = s->sinks ? OF(dsinks, 0) : NULL,
        .q = OF(q, 0),
        .k = OF(k, 0),
        .v = OF(v, 0),
        .y = OF(y, 0),
        .dy = OF(dy, 0),
        .lse = OF(lse, 0),
        .sinks = s->sinks ? OF(sinks, 0) : NULL,
        .slopes = s->slopes ? OF(slopes, 0) : NULL,
        .dx_stride = c->dx_stride,
        .q_stride = c->q_stride,
        .k_stride = c->k_stride,
        .v_stride = c->v_stride,
        .y_stride = c->y_stride,
        .lse_stride = (size_t)s->heads,
        .rows = rows,
        .head_begin = head * group,
        .head_count = group,
        .kv_head = head,
        .head_dim = s->d,
        .value_dim = s->d_v,
        .window = s->window,
        .scale = 0.3f,
        .softcap = s->softcap,
        .scratch = scratch,
    };
#undef OF
}

// lse and y that belong to the rest, in double, rounded to float.
static void finish_case(const struct attention_shape *s, struct attention_case *c, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t h = 0; h < s->heads; h++) {
            const int32_t g = h / (s->heads / s->kv_heads);
            double sum = s->sinks ? exp(c->sinks.d[h]) : 0,
                   *y = c->y.d + r * (int64_t)c->y_stride + h * s->d_v;
            for (int32_t i = 0; i < s->d_v; i++) y[i] = 0;
            for (int64_t j = s->window && r >= s->window ? r - s->window + 1 : 0; j <= r; j++) {
                double score = 0;
                for (int32_t i = 0; i < s->d; i++)
                    score += 0.3f * c->q.d[r * (int64_t)c->q_stride + h * s->d + i] *
                             c->k.d[j * (int64_t)c->k_stride + g * s->d + i];
                if (s->softcap > 0) score = s->softcap * tanh(score / s->softcap);
                if (s->slopes) score += c->slopes.d[h] * (double)(j - r);
                sum += exp(score);
                for (int32_t i = 0; i < s->d_v; i++)
                    y[i] += exp(score) * c->v.d[j * (int64_t)c->v_stride + g * s->d_v + i];
            }
            c->lse.f[r * s->heads + h] = (float)log(sum);
            for (int32_t i = 0; i < s->d_v; i++)
                c->y.f[r * (int64_t)c->y_stride + h * s->d_v + i] = (float)(y[i] / sum);
        }
    }
    widen(&c->lse), widen(&c->y);
}

static void check_attention(const struct kernels *k, const struct attention_shape *s, int64_t rows,
                            size_t pad)
{
    struct attention_case c = {.q_stride = (size_t)(s->heads * s->d) + pad,
                               .k_stride = (size_t)(s->kv_heads * s->d) + 2 * pad,
                               .v_stride = (size_t)(s->kv_heads * s->d_v) + pad,
                               .y_stride = (size_t)(s->heads * s->d_v) + pad};
    c.dx_stride = (size_t)((s->heads + s->kv_heads) * s->d + s->kv_heads * s->d_v) + pad;
    c.q = drawn(rows * (int64_t)c.q_stride, 1.5f, 1), c.k = drawn(rows * (int64_t)c.k_stride, 1.5f, 2);
    c.v = drawn(rows * (int64_t)c.v_stride, 1, 3), c.dy = drawn(rows * (int64_t)c.y_stride, 1, 4);
    c.y = drawn(rows * (int64_t)c.y_stride, 1, 5), c.lse = drawn(rows * s->heads, 1, 6);
    c.sinks = drawn(s->heads, 2, 7), c.dsinks = drawn(s->heads, 1, 8), c.slopes = drawn(s->heads, 0.2f, 9);
    c.dx = unset(rows * (int64_t)c.dx_stride);
    finish_case(s, &c, rows);
    size_t bytes = k->attention_dx_scratch(rows, s->heads / s->kv_heads, s->d, s->d_v);
    struct guarded scratch = guarded_alloc((bytes + 63) / 64 * 64);
    for (int32_t g = 0; g < s->kv_heads; g++) {
        struct attention_dx_args fast = attention_call(s, &c, rows, g, false, scratch.data),
                                 oracle = attention_call(s, &c, rows, g, true, NULL);
        k->attention_dx(&fast);
        kernels_for_f64().attention_dx(&oracle);
    }
    check_numbers("attention_dx", k->isa, rows, &c.dx, 3e-6, 0); // NaN between the rows too
    check_numbers("attention_dx: sinks", k->isa, rows, &c.dsinks, 3e-6, 1);
    ck_assert(guarded_intact(&scratch));
    guarded_free(&scratch);
    struct numbers *all[] = {&c.q, &c.k, &c.v, &c.y, &c.dy, &c.lse, &c.dx, &c.sinks, &c.slopes, &c.dsinks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) release(all[i]);
}

static const struct attention_shape shapes[] = {
    {.heads = 2, .kv_heads = 2, .d = 64, .d_v = 64},
    {.heads = 6, .kv_heads = 2, .d = 32, .d_v = 48, .sinks = true},
    {.heads = 2, .kv_heads = 1, .d = 16, .d_v = 16, .window = 37, .sinks = true},
    {.heads = 1, .kv_heads = 1, .d = 80, .d_v = 112, .window = 1},
    {.heads = 1, .kv_heads = 1, .d = 128, .d_v = 96, .window = 64, .slopes = true},
    {.heads = 3, .kv_heads = 1, .d = 64, .d_v = 64, .softcap = 2, .window = 100},
    {.heads = 2, .kv_heads = 1, .d = 24, .d_v = 7, .softcap = 1.5f, .slopes = true, .sinks = true},
    {.heads = 1, .kv_heads = 1, .d = 5, .d_v = 8},
    {.heads = 2, .kv_heads = 2, .d = 8, .d_v = 24, .window = 5},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(test_attention)
{
    static const int64_t rows[] = {1, 2, 5, 6, 7, 15, 16, 17, 33, 63, 64, 65, 70, 127, 128, 129, 200};
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            check_attention(&k, &shapes[_i], rows[i], i % 2 ? 3 : 0);
    }
}
END_TEST

// ---- dropout ------------------------------------------------------------------------------------------

// The bits of the reference, also where a counter's lower half overflows; in place too.
static void check_dropout(const struct kernels *k, int64_t n, double rate, uint64_t first)
{
    const uint64_t seed = 0x123456789abcdef0, stream = 0xfedcba987;
    const uint32_t limit = (uint32_t)(rate * 0x1p32);
    struct numbers x = drawn(n, 3, 1), y = unset(n), expected = unset(n);
    k->dropout_fwd(y.f, x.f, n, seed, stream, first, limit, 1 / (1 - rate));
    kernels_for(ISA_REF).dropout_fwd(expected.f, x.f, n, seed, stream, first, limit, 1 / (1 - rate));
    k->dropout_fwd(x.f, x.f, n, seed, stream, first, limit, 1 / (1 - rate));
    ck_assert_msg(!memcmp(y.f, expected.f, (size_t)n * sizeof *y.f) &&
                      !memcmp(x.f, expected.f, (size_t)n * sizeof *y.f) && guarded_intact(&y.guard),
                  "%s: dropout of %d at %g", isa_name(k->isa), (int)n, rate);
    int64_t dropped = 0;
    for (int64_t i = 0; i < n; i++) dropped += y.f[i] == 0;
    if (n > 10000) ck_assert(fabs((double)dropped / (double)n - rate) < 0.02);
    release(&x), release(&y), release(&expected);
}

START_TEST(test_dropout)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++) check_dropout(&k, sizes[i], 0.3, (uint64_t)i * 77);
        for (int i = 0; i <= 10; i++) check_dropout(&k, 20000, i / 10.0 * 0.99, 0xffffff00u + (uint64_t)i);
        check_dropout(&k, 1000, 0.5, UINT64_MAX - 40);
    }
}
END_TEST

// ---- the sum of the rows ------------------------------------------------------------------------------

// The bits of the reference.
static void check_sum_rows(const struct kernels *k, int64_t rows, int64_t cols, bool add)
{
    const size_t stride = (size_t)cols + 5;
    struct numbers x = drawn((rows - 1) * (int64_t)stride + cols, 1, 1), to = drawn(cols, 1, 2),
                   expected = drawn(cols, 1, 2);
    if (!add) to.f[0] = expected.f[cols - 1] = NAN;
    k->sum_rows(to.f, x.f, rows, cols, stride, add);
    kernels_for(ISA_REF).sum_rows(expected.f, x.f, rows, cols, stride, add);
    ck_assert_msg(!memcmp(to.f, expected.f, (size_t)cols * sizeof *to.f) && guarded_intact(&to.guard),
                  "%s: sum of %d rows of %d", isa_name(k->isa), (int)rows, (int)cols);
    release(&x), release(&to), release(&expected);
}

START_TEST(test_sum_rows)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++)
            for (int64_t other = 1; other < 140; other = 2 * other + i % 3) {
                check_sum_rows(&k, sizes[i], other, i % 2);
                check_sum_rows(&k, other, sizes[i], i % 2);
            }
    }
}
END_TEST

// ---- norms --------------------------------------------------------------------------------------------

// dx set or added to, weights' gradients always added to, or not wanted.
static void check_norm(const struct kernels *k, bool layer, int64_t rows, int64_t cols, bool weights,
                       bool add, float middle)
{
    const struct kernels f64 = kernels_for_f64();
    struct numbers x = drawn(rows * cols, 2, 1), dy = drawn(rows * cols, 1, 2), w = drawn(cols, 1, 3),
                   dx = add ? drawn(rows * cols, 1, 4) : unset(rows * cols), dw = drawn(cols, 1, 5),
                   db = drawn(cols, 1, 6);
    for (int64_t i = 0; i < x.n; i++) x.f[i] += middle;
    widen(&x);
    float *fw = weights ? dw.f : NULL, *fb = weights ? db.f : NULL;
    double *gw = weights ? dw.d : NULL, *gb = weights ? db.d : NULL;
    const double eps = 1e-5;
    if (layer) {
        k->layernorm_dx(dx.f, fw, fb, dy.f, x.f, w.f, rows, cols, eps, add);
        f64.layernorm_dx((void *)dx.d, (void *)gw, (void *)gb, (void *)dy.d, (void *)x.d, (void *)w.d, rows,
                         cols, eps, add);
    } else {
        k->rmsnorm_dx(dx.f, fw, dy.f, x.f, w.f, rows, cols, eps, add);
        f64.rmsnorm_dx((void *)dx.d, (void *)gw, (void *)dy.d, (void *)x.d, (void *)w.d, rows, cols, eps,
                       add);
    }
    const char *what = layer ? "layernorm_dx" : "rmsnorm_dx";
    const double tolerance = 2e-6 * (1 + (layer ? fabsf(middle) : 0)); // of x - mean
    check_numbers(what, k->isa, cols, &dx, tolerance, cols < 3 ? 40 : 1);
    check_numbers(what, k->isa, cols, &dw, tolerance, 1);
    check_numbers(what, k->isa, cols, &db, tolerance, 1);
    struct numbers *all[] = {&x, &dy, &w, &dx, &dw, &db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) release(all[i]);
}

START_TEST(test_norms)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++)
            for (int64_t rows = 1; rows < 8; rows += 2)
                check_norm(&k, _i, rows, sizes[i], rows != 3, rows != 5, rows == 7 ? 30 : 0);
        check_norm(&k, _i, 32, 4096, true, true, -3);
    }
}
END_TEST

// ---- activations --------------------------------------------------------------------------------------

static const float steep[] = {0.0f,  -0.0f, NAN,    1e4f,   -1e4f, 1e-40f, 88.8f, -88.8f,
                              -5.5f, 20.0f, -14.5f, 103.0f, 7.0f,  7.1f,   -7.0f, -7.1f};
enum { STEEP = sizeof steep / sizeof *steep };

static struct numbers arguments(int64_t n, float spread, uint64_t stream)
{
    struct numbers x = drawn(n, spread, stream);
    for (int64_t i = 3; i < n && n > 100; i += 7) x.f[i] = steep[(size_t)(i / 7) % STEEP];
    widen(&x);
    return x;
}

// Slopes are between -0.2 and 1.2, or go with |x|; so errors are held against dy, and up.
static void check_slopes(const struct kernels *k, enum activation kind, int64_t n, float spread)
{
    const struct kernels f64 = kernels_for_f64();
    struct numbers x = arguments(n, spread, 1), up = arguments(n, 9, 2), dy = drawn(n, 1, 3), dx = unset(n),
                   dup = unset(n);
    if (kind != ACT_SWIGLU_CLAMPED) {
        k->activation_dx(dx.f, dy.f, x.f, n, kind);
        f64.activation_dx((void *)dx.d, (void *)dy.d, (void *)x.d, n, kind);
        check_numbers("activation_dx", k->isa, n, &dx, 3e-6, 1);
        bool same = true; // one at a time, in place; compilers choose which bits a NaN has
        for (int64_t i = 0; i < n; i++) {
            k->activation_dx(x.f + i, dy.f + i, x.f + i, 1, kind);
            same &= isnan(dx.f[i]) ? isnan(x.f[i]) != 0 : !memcmp(&x.f[i], &dx.f[i], sizeof *dx.f);
        }
        ck_assert_msg(same, "%s: activation %d: one number has other bits than many", isa_name(k->isa), kind);
        for (int64_t i = 0; i < n; i++) x.f[i] = (float)x.d[i];
    }
    for (int64_t i = 0; i < n; i++) // numbers that are large do not hide what others do
        if (fabsf(up.f[i]) > 100) up.f[i] = 1;
    widen(&up);
    k->glu_dx(dx.f, dup.f, dy.f, x.f, up.f, n, kind);
    f64.glu_dx((void *)dx.d, (void *)dup.d, (void *)dy.d, (void *)x.d, (void *)up.d, n, kind);
    for (int64_t i = 0; i < n; i++) // likewise
        if (fabs(x.d[i]) > 100)
            ck_assert(fabs(dup.f[i] - dup.d[i]) <= 1e-6 * fabs(dup.d[i])), dup.f[i] = 0, dup.d[i] = 0;
    check_numbers("glu_dx: gate", k->isa, n, &dx, 3e-6, 10);
    check_numbers("glu_dx: up", k->isa, n, &dup, 3e-6, 10);
    struct numbers *all[] = {&x, &up, &dy, &dx, &dup};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) release(all[i]);
}

START_TEST(test_slopes)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < SIZES; i++) check_slopes(&k, (enum activation)_i, sizes[i], 6);
        check_slopes(&k, (enum activation)_i, 20000, 1e-3f);
        check_slopes(&k, (enum activation)_i, 20000, 30);
    }
}
END_TEST

// What is so large that its powers overflow has the slope of the limit, on the fast tiers.
START_TEST(test_large_slopes)
{
    static const float large[] = {1e10f, -1e10f, 3e38f, -3e38f, 1e20f, -1e20f, 200, -200};
    enum { COUNT = sizeof large / sizeof *large };
    EACH_ISA (isa, ISA_AVX2) {
        struct kernels k = kernels_for(isa);
        for (int kind = ACT_SILU; kind <= ACT_GELU_TANH; kind++) {
            float one[COUNT], dx[COUNT];
            for (int i = 0; i < COUNT; i++) one[i] = 1;
            k.activation_dx(dx, one, large, COUNT, (enum activation)kind);
            for (int i = 0; i < COUNT; i++) ck_assert(dx[i] == (large[i] > 0 ? 1 : 0));
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
    tcase_add_test(t, test_distill);
    tcase_add_test(t, test_transpose);
    tcase_add_loop_test(t, test_attention, 0, SHAPES);
    tcase_add_test(t, test_dropout);
    tcase_add_test(t, test_sum_rows);
    tcase_add_loop_test(t, test_norms, 0, 2);
    tcase_add_loop_test(t, test_slopes, 0, ACT_SWIGLU_CLAMPED + 1);
    tcase_add_test(t, test_large_slopes);
    suite_add_tcase(s, t);
    return s;
}
