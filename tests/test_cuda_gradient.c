// tests/test_cuda_gradient.c -- the GPU's kernels of training against the references in double, as tests/test_cuda.c has those of the way
// forward: every order of threads, odd shapes, fewer rows than the launch is for, with and without something that the result is added to.
#include "core/rng.h"
#include "cuda/gradient.h"
#include "cuda/update.h"
#include "ops/gradient.h"
#include "ops/paged.h"
#include "tests/cuda_kernels.h"
#include "tests/tests.h"
#include "train/muon.h"

static const struct cuda_base no_base = {NULL, NULL};

// Bases that a result is tried with: none, one, one that does not count, one that does.
enum { NO_BASE, BASE, BASE_OF_NOTHING, BASE_OF_EARLIER, BASES };

// The base of `kind` for `count` numbers; what of it counts is added to the oracle.
static struct cuda_base try_base(int kind, double *oracle, int64_t count, int64_t all)
{
    const int32_t resumed = kind == BASE_OF_EARLIER;
    double *numbers = malloc((size_t)all * sizeof *numbers);
    const float *from = random_device(numbers, all, 77, 3);
    for (int64_t i = 0; i < count && (kind == BASE || kind == BASE_OF_EARLIER); i++) oracle[i] += numbers[i];
    free(numbers);
    if (kind == NO_BASE) return no_base;
    return (struct cuda_base){from, kind == BASE ? NULL : device(&resumed, sizeof resumed)};
}

// ---- number by number ---------------------------------------------------------------------------------

typedef void dx_f64(double *, const double *, const double *, int64_t, enum activation);
typedef void glu_dx_f64(double *, double *, const double *, const double *, const double *, int64_t,
                        enum activation);
typedef void softcap_dx_f64(double *, const double *, const double *, int64_t, double);

START_TEST(test_activations_dx)
{
    const struct kernels k = kernels_for_f64();
    static double dy[MOST * WIDEST], a[MOST * WIDEST], b[MOST * WIDEST], y[2 * MOST * WIDEST];
    for (int kind = ACT_SILU; kind <= ACT_SWIGLU_CLAMPED; kind++)
        for (int i = 0; i < ODD; i++) {
            const int64_t cols = odd[i];
            const struct cuda_rows rows = some_rows(USED, MOST);
            float *d = random_device(dy, MOST * cols, 3, 2), *out;
            float *x = random_device(a, MOST * cols, 1, 10), *z = random_device(b, MOST * cols, 2, 9);
            orders(i);
            for (int r = 0; r < USED; r++)
                ((glu_dx_f64 *)k.glu_dx)(y + 2 * r * cols, y + (2 * r + 1) * cols, dy + r * cols,
                                         a + r * cols, b + r * cols, cols, (enum activation)kind);
            cuda_glu_dx(NULL, out = empty_device(2 * MOST * cols), d, x, z, rows, cols,
                        (enum activation)kind);
            expect("glu_dx", out, y, USED, MOST, 2 * cols, 3e-6);
            if (kind != ACT_SWIGLU_CLAMPED) {
                ((dx_f64 *)k.activation_dx)(y, dy, a, USED * cols, (enum activation)kind);
                cuda_activation_dx(NULL, out = empty_device(MOST * cols), DTYPE_F32, d, x, rows, cols,
                                   (enum activation)kind);
                expect("activation_dx", out, y, USED, MOST, cols, 3e-6);
            }
            ((softcap_dx_f64 *)k.softcap_dx)(y, dy, b, USED * cols, 12);
            cuda_softcap_dx(NULL, out = empty_device(MOST * cols), d, z, rows, cols, 12);
            expect("softcap_dx", out, y, USED, MOST, cols, 2e-6);
            done();
        }
}
END_TEST

// The numbers that the CPU drops, and its bits.
START_TEST(test_dropout_cuda)
{
    const uint64_t seed = 0x1234567890abcdef;
    const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < ODD; i++) {
        const int64_t cols = odd[i];
        float *x = random_device(NULL, MOST * cols, 1, 1), *y = empty_device(MOST * cols), row[WIDEST];
        orders(i);
        cuda_dropout(NULL, y, x, device(words, sizeof words), some_rows(USED, MOST), cols, 5, 0.3);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        for (int r = 0; r < USED; r++) {
            dropout_fwd_ref(row, x + r * cols, cols, seed, 5, (uint64_t)(r * ((cols + 3) / 4)),
                            (uint32_t)(0.3 * 0x1p32), 1 / 0.7);
            ck_assert_mem_eq(y + r * cols, row, (size_t)cols * sizeof *row);
        }
        ck_assert(isnan(y[USED * cols]));
        done();
    }
}
END_TEST

// ---- norms --------------------------------------------------------------------------------------------

typedef void rmsnorm_dx_f64(double *, double *, const double *, const double *, const double *, int64_t,
                            int64_t, double, bool);
typedef void layernorm_dx_f64(double *, double *, double *, const double *, const double *, const double *,
                              int64_t, int64_t, double, bool);

enum { NORM_ROWS = 70, NORM_USED = 67, PARTS = 3, NORM_COLUMNS = 600 };

static void norm_oracle(double *dx, double *dw, double *db, const double *dy, const double *x,
                        const double *w, const struct cuda_norm_dx *n, int64_t row)
{
    const struct kernels k = kernels_for_f64();
    double *to = dw + row / GRADIENT_ROWS * n->weights * n->group;
    double *shift = db + row / GRADIENT_ROWS * n->weights * n->group;
    for (int64_t g = 0; g < n->groups; g++) {
        const int64_t at = (row * n->groups + g) * n->group, own = g % n->weights * n->group;
        if (n->centred)
            ((layernorm_dx_f64 *)k.layernorm_dx)(dx + at, to + own, shift + own, dy + at, x + at, w + own, 1,
                                                 n->group, n->eps, true);
        else
            ((rmsnorm_dx_f64 *)k.rmsnorm_dx)(dx + at, to + own, dy + at, x + at, w + own, 1, n->group, n->eps,
                                             true);
    }
}

static void try_norm(int64_t groups, int64_t group, int64_t weights, bool centred, int kind)
{
    const int64_t cols = groups * group, all = weights * group;
    double *numbers = calloc((size_t)(3 * NORM_ROWS * cols + (2 * PARTS + 1) * all), sizeof *numbers);
    double *dx = numbers, *x = dx + NORM_ROWS * cols, *dy = x + NORM_ROWS * cols, *dw = dy + NORM_ROWS * cols,
           *db = dw + PARTS * all, *w = db + PARTS * all;
    struct cuda_norm_dx n = {
        .dx = empty_device(NORM_ROWS * cols),
        .parts = kind == BASE ? NULL : empty_device(PARTS * all * (centred ? 2 : 1)),
        .stats = empty_device(2 * NORM_ROWS * groups),
        .dy = random_device(dy, NORM_ROWS * cols, 1, 1),
        .x = random_device(x, NORM_ROWS * cols, 2, 3),
        .w = random_device(w, all, 3, 1),
        .base = try_base(kind, dx, NORM_USED * cols, NORM_ROWS * cols),
        .rows = some_rows(NORM_USED, NORM_ROWS),
        .groups = groups,
        .group = group,
        .weights = weights,
        .eps = 1e-3,
        .centred = centred,
        .shifted = centred,
    };
    for (int64_t row = 0; row < NORM_USED; row++) norm_oracle(dx, dw, db, dy, x, w, &n, row);
    cuda_norm_dx(NULL, &n);
    expect("norm_dx", n.dx, dx, NORM_USED, NORM_ROWS, cols, group < 3 ? 1e-4 : 1e-5);
    for (int part = 0; n.parts && part < PARTS; part++) {
        const float *to = n.parts + part * all * (centred ? 2 : 1);
        ck_assert_msg(agrees(to, dw + part * all, all, 1e-5) || (centred && group == 1), "dw, part %d", part);
        if (centred) ck_assert(agrees(to + all, db + part * all, all, 1e-5));
    }
    done();
    free(numbers);
}

START_TEST(test_norms_dx)
{
    static const int64_t groups[] = {1, 2, 3, 7, 32, 33, 513};
    for (int i = 0; i < 7; i++)
        for (int centred = 0; centred < 2; centred++) {
            orders(i);
            try_norm(1, groups[i], 1, centred, i % BASES);
            if (3 * groups[i] > NORM_COLUMNS) continue;
            try_norm(3, groups[i], 1, centred, (i + 1) % BASES);
            try_norm(3, groups[i], 3, centred, (i + 2) % BASES);
        }
}
END_TEST

// ---- rows ---------------------------------------------------------------------------------------------

START_TEST(test_rows_dx)
{
    enum { COLS = 9, COUNT = 4, ROWS = 12, READ = 11 };
    for (int begin = 0; begin <= 8; begin += 4)
        for (int kind = 0; kind <= BASES; kind++) { // the last: in place
            double y[ROWS * COLS] = {0}, dy[COUNT * COLS];
            const bool in_place = kind == BASES;
            struct cuda_base base = try_base(in_place ? BASE : kind, y, READ * COLS, ROWS * COLS);
            float *d = random_device(dy, COUNT * COLS, 5, 1);
            float *out = in_place ? (float *)base.from : empty_device(ROWS * COLS);
            for (int i = 0; i < COUNT * COLS && i + begin * COLS < READ * COLS; i++)
                y[begin * COLS + i] += dy[i];
            orders(kind);
            cuda_rows_dx(NULL, out, d, base, some_rows(READ, ROWS), begin, COUNT, COLS);
            expect("rows_dx", out, y, READ, in_place ? READ : ROWS, COLS, 1e-6);
            done();
        }
}
END_TEST

START_TEST(test_slice_dx)
{
    enum { HEADS = 3, PART = 11, OFFSET = 4, COUNT = 5, ALL = HEADS * PART };
    for (int kind = 0; kind < BASES; kind++) {
        double y[MOST * ALL] = {0}, dy[MOST * HEADS * COUNT];
        float *d = random_device(dy, MOST * HEADS * COUNT, 5, 1), *out = empty_device(MOST * ALL);
        struct cuda_base base = try_base(kind, y, USED * ALL, MOST * ALL);
        for (int i = 0; i < USED * HEADS * COUNT; i++) y[i / COUNT * PART + OFFSET + i % COUNT] += dy[i];
        cuda_slice_dx(NULL, out, d, base, some_rows(USED, MOST), PART, HEADS, OFFSET, COUNT);
        expect("slice_dx", out, y, USED, MOST, ALL, 1e-6);
        done();
    }
}
END_TEST

// Rows that are not there become zeros.
START_TEST(test_transpose_cuda)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 40}, {33, 31}, {64, 32}, {70, 5}};
    for (int i = 0; i < 5; i++) {
        const int64_t most = shapes[i][0], cols = shapes[i][1], used = most > 1 ? most - 1 : 1;
        float *x = random_device(NULL, most * cols, 1, 3), *f32 = empty_device(most * cols);
        const struct cuda_rows rows = some_rows((int32_t)used, most);
        orders(i);
        cuda_transpose(NULL, f32, x, rows, cols);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        for (int64_t r = 0; r < most; r++)
            for (int64_t c = 0; c < cols; c++)
                ck_assert_float_eq(f32[c * most + r], r < used ? x[r * cols + c] : 0);
        done();
    }
}
END_TEST

START_TEST(test_sum_rows)
{
    enum { ROWS = 605, READ = 603, PER = 4, STRIDE = 80 };
    static const int64_t cols[] = {1, 31, 32, 33, 77};
    static double x[ROWS * STRIDE];
    for (int i = 0; i < 5; i++)
        for (int per = 1; per <= PER; per += PER - 1) {
            double y[STRIDE] = {0};
            float *dx = random_device(x, ROWS * STRIDE, 1, 1), *to = empty_device(cols[i]);
            const enum dtype type = (i + per) % 2 ? DTYPE_F32 : DTYPE_BF16;
            uint16_t *narrow = device(NULL, sizeof *narrow * ROWS * STRIDE);
            for (int j = 0; j < ROWS * STRIDE; j++) {
                narrow[j] = bf16_from_f32(dx[j]);
                if (type == DTYPE_BF16) x[j] = (double)f32_from_bf16(narrow[j]);
            }
            struct cuda_base base = try_base((i + per) % BASES, y, cols[i], cols[i]);
            for (int r = 0; r < (READ + per - 1) / per; r++)
                for (int c = 0; c < cols[i]; c++) y[c] += x[r * STRIDE + c];
            orders(i);
            cuda_sum_rows(NULL, to, type == DTYPE_F32 ? (void *)dx : narrow, type, base,
                          some_rows(READ, ROWS), per, cols[i], STRIDE);
            expect("sum_rows", to, y, 1, 1, cols[i], 1e-5);
            done();
        }
}
END_TEST

// Tokens that come often, once and never, in the order of rows: the CPU's bits.
START_TEST(test_embed_dw)
{
    enum { ROWS = 600, READ = 590, VOCAB = 71, COLS = 13 };
    for (int kind = 0; kind <= BASES; kind++) { // the last: in place
        int32_t tokens[ROWS];
        float expected[VOCAB * COLS] = {0};
        double counts[VOCAB * COLS] = {0};
        for (int r = 0; r < ROWS; r++) tokens[r] = r % 7 ? r * r % VOCAB : 70;
        const float *dy = random_device(NULL, ROWS * COLS, 1, 1);
        struct cuda_base base =
            try_base(kind < BASES ? kind : BASE_OF_EARLIER, counts, VOCAB * COLS, VOCAB * COLS);
        float *to = kind == BASES ? (float *)base.from : empty_device(VOCAB * COLS);
        for (int i = 0; i < VOCAB * COLS; i++) expected[i] = (float)counts[i];
        for (int r = 0; r < READ; r++)
            for (int c = 0; c < COLS; c++) expected[tokens[r] * COLS + c] += dy[r * COLS + c];
        orders(kind);
        cuda_embed_dw(NULL, to, dy, device(tokens, sizeof tokens), base, some_rows(READ, ROWS), VOCAB, COLS);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        ck_assert_mem_eq(to, expected, sizeof expected);
        done();
    }
}
END_TEST

// ---- the loss beside a teacher's logits ---------------------------------------------------------------

typedef double distill_f64(double *, const double *, const double *, int32_t, int64_t, double, double);

// What one of both lacks altogether counts for nothing, or for infinitely much; beside itself a model has no divergence.
START_TEST(test_distill_cuda)
{
    distill_f64 *oracle = (distill_f64 *)kernels_for_f64().distill;
    static double x[MOST * WIDEST], t[MOST * WIDEST], dx[MOST * WIDEST];
    for (int i = 0; i < ODD; i++)
        for (int turn = 0; turn < 4;
             turn++) { // a gradient apart or in the place of x; extremes; the same twice
            const int64_t vocab = odd[i];
            const int32_t targets[MOST] = {(int32_t)(vocab - 1), -1, (int32_t)(vocab / 2), 0, 0};
            const double factor = 0.25;
            double loss[USED];
            struct cuda_distill a = {.dx_type = DTYPE_F32,
                                     .dx_stride = vocab,
                                     .loss = device(NULL, MOST * sizeof *a.loss),
                                     .targets = device(targets, sizeof targets),
                                     .rows = some_rows(USED, MOST),
                                     .vocab = vocab,
                                     .share = turn % 2 ? 0.5 : 1,
                                     .factor = device(&factor, sizeof factor)};
            float *logits = random_device(x, MOST * vocab, 1, 20),
                  *teacher = random_device(t, MOST * vocab, turn == 3 ? 1 : 2, turn == 3 ? 20 : 5);
            if (turn == 2)
                t[0] = teacher[0] = vocab > 1 ? -INFINITY : 0, x[vocab / 3] = logits[vocab / 3] = 90;
            a.x = logits, a.teacher = teacher, a.dx = turn ? logits : empty_device(MOST * vocab);
            for (int r = 0; r < USED; r++)
                loss[r] =
                    oracle(dx + r * vocab, x + r * vocab, t + r * vocab, targets[r], vocab, a.share, factor);
            orders(i);
            cuda_distill(NULL, &a);
            ck_assert_msg(!emu_error(), "%s", emu_error());
            for (int r = 0; r < USED; r++)
                ck_assert_msg(fabs(a.loss[r] - loss[r]) <= 1e-5 * (1 + fabs(loss[r])),
                              "%d columns: expected %g, found %g", (int)vocab, loss[r], a.loss[r]);
            ck_assert(isnan(a.loss[USED]));
            for (int64_t v = 0; v < USED * vocab; v++)
                ck_assert(fabs(((float *)a.dx)[v] - dx[v]) <= 1e-6 * factor);
            done();
        }
}
END_TEST

// Gradients of the loss in bf16, in rows on boundaries: the numbers of f32, rounded. The last vocabulary does not stay in shared memory.
START_TEST(test_narrow_losses)
{
    static const int64_t vocabs[] = {1, 8, 13, 1000, 24 * 1024 + 333};
    enum { ROWS = 3 };
    for (int i = 0; i < 5; i++)
        for (int taught = 0; taught < 2; taught++) {
            const int64_t vocab = vocabs[i], stride = (vocab + 7) / 8 * 8;
            const int32_t targets[ROWS] = {(int32_t)(vocab - 1), -1, 0};
            const double factor = 0.25;
            struct cuda_distill a = {.loss = device(NULL, ROWS * sizeof *a.loss),
                                     .dx_type = DTYPE_F32,
                                     .dx_stride = vocab,
                                     .x = random_device(NULL, ROWS * vocab, 1, 9),
                                     .teacher = random_device(NULL, ROWS * vocab, 2, 9),
                                     .targets = device(targets, sizeof targets),
                                     .rows = some_rows(ROWS, ROWS),
                                     .vocab = vocab,
                                     .share = 0.5,
                                     .factor = device(&factor, sizeof factor)};
            const float *f32 = a.dx = empty_device(ROWS * vocab);
            void (*launch)(struct cuda_stream *, const struct cuda_distill *) =
                taught ? cuda_distill : cuda_cross_entropy_dx;
            orders(i);
            launch(NULL, &a);
            const uint16_t *bf16 = a.dx = device(NULL, (size_t)(ROWS * stride) * 2);
            a.dx_type = DTYPE_BF16, a.dx_stride = stride;
            launch(NULL, &a);
            ck_assert_msg(!emu_error(), "%s", emu_error());
            for (int64_t r = 0; r < ROWS; r++)
                for (int64_t v = 0; v < stride; v++)
                    ck_assert_uint_eq(bf16[r * stride + v],
                                      v < vocab ? bf16_from_f32(f32[r * vocab + v]) : 0);
            uint16_t *again = device(NULL, (size_t)(ROWS * stride) * 2);
            cuda_narrow(NULL, again, stride, f32, some_rows(ROWS, ROWS), vocab);
            ck_assert_mem_eq(again, bf16, (size_t)(ROWS * stride) * 2);
            done();
        }
}
END_TEST

// ---- products -----------------------------------------------------------------------------------------

static double product_number(const void *x, enum dtype type, int64_t i)
{
    return type == DTYPE_F32   ? (double)((const float *)x)[i]
           : type == DTYPE_F16 ? (double)f32_from_f16(((const uint16_t *)x)[i])
                               : (double)f32_from_bf16(((const uint16_t *)x)[i]);
}

// Random numbers of a type, on the device.
static void *random_of(enum dtype type, int64_t count, uint64_t stream)
{
    const struct kernels k = kernels_for(ISA_REF);
    float *x = malloc((size_t)count * sizeof *x);
    void *to = device(NULL, (size_t)count * dtype_row_bytes(type, 1));
    fill_random(x, count, stream);
    k.from_real[type](to, x, count);
    free(x);
    return to;
}

struct product_case {
    int64_t m, used, n, k, k_used, x_stride, w_stride;
};

// turned: x is (k, m), in rows on boundaries where those of the case are.
static void try_product(enum dtype type, const struct product_case *c, int kind, bool turned)
{
    const enum dtype x_type = type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    const int64_t x_stride = !turned ? c->x_stride : c->x_stride % 8 ? c->m : (c->m + 7) / 8 * 8;
    double *y = calloc((size_t)(c->m * c->n), sizeof *y);
    struct cuda_product p = {
        .y = empty_device(c->m * c->n),
        .x = random_of(x_type, (turned ? c->k : c->m) * x_stride, 1),
        .w = random_of(type, c->k * c->w_stride, 2),
        .x_type = x_type,
        .w_type = type,
        .x_stride = x_stride,
        .turned = turned,
        .w_stride = c->w_stride,
        .m = some_rows((int32_t)c->used, c->m),
        .k = some_rows((int32_t)c->k_used, c->k),
        .n = c->n,
        .base = try_base(kind, y, c->used * c->n, c->m * c->n),
        .parts = empty_device(cuda_product_parts(type, c->m, c->n, c->k) * c->m * c->n),
    };
    for (int64_t m = 0; m < c->used; m++)
        for (int64_t n = 0; n < c->n; n++)
            for (int64_t k = 0; k < c->k_used; k++)
                y[m * c->n + n] += product_number(p.x, x_type, turned ? k * x_stride + m : m * x_stride + k) *
                                   product_number(p.w, type, k * c->w_stride + n);
    cuda_matmul_nn(NULL, &p);
    expect(dtype_traits[type].name, p.y, y, c->used, c->m, c->n, 1e-5);
    done();
    free(y);
}

// Around tiles of 64 x 64 x 16, and on tensor cores of 128 x 128 or 256 x 64 by wgmma, of 128 x 128 x 32 by mma (the last of the loop);
// rows off boundaries of 16 bytes.
START_TEST(test_matmul_nn_cuda)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const struct product_case cases[] = {
        {1, 1, 1, 1, 1, 1, 1},
        {5, 3, 7, 9, 9, 11, 7},
        {66, 65, 63, 17, 17, 17, 70},
        {64, 64, 64, 32, 32, 32, 64},
        {40, 33, 24, 48, 40, 48, 24},
        {130, 129, 136, 40, 40, 40, 136},
        {20, 20, 130, 72, 72, 72, 136},
        {9, 9, 260, 8, 8, 8, 264},
        {9, 8, 17, 1104, 1096, 1104, 24}, // k in parts
        {70, 70, 515, 90, 77, 96, 520},
        {260, 201, 384, 200, 200, 200, 384},
    };
    for (int i = 0; i < 11; i++) {
        orders(_i + i);
        emu_set_tiles(_i != 3);
        for (int turned = 0; turned < 2; turned++)
            try_product(types[_i < 3 ? _i : 2], &cases[i], (i + turned) % BASES, turned);
    }
    emu_set_tiles(true);
}
END_TEST

// Several products at once: of experts, whose rows begin anywhere, one has none, and of heads.
enum { GROUPED = 4, GROUP_MOST = 150 };

struct grouped_case {
    bool experts, turned;
    int64_t k, n; // of a matrix
};

static void try_groups(enum dtype type, const struct grouped_case *c, int kind)
{
    static const int32_t first[GROUPED + 1] = {0, 5, 5, 75, 148};
    const enum dtype x_type = type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    const int64_t count = GROUPED, heads = c->experts ? 1 : count, used = c->experts ? first[GROUPED] : 149;
    // x is by the outputs, (rows, heads k); w of a step back (count, k, n), of a gradient (rows, heads n)
    const int64_t x_cols = heads * c->k;
    const int64_t all = c->turned ? count * c->k * c->n : GROUP_MOST * heads * c->n;
    const int64_t w_count = c->turned ? GROUP_MOST * heads * c->n : count * c->k * c->n;
    double *y = calloc((size_t)all, sizeof *y);
    struct cuda_product p = {
        .y = empty_device(all),
        .x = random_of(x_type, GROUP_MOST * x_cols, 1),
        .w = random_of(type, w_count, 2),
        .x_type = x_type,
        .w_type = type,
        .x_stride = x_cols,
        .w_stride = c->turned ? heads * c->n : c->n,
        .m = c->turned ? (struct cuda_rows){NULL, c->k} : some_rows((int32_t)used, GROUP_MOST),
        .k = c->turned ? some_rows((int32_t)used, GROUP_MOST) : (struct cuda_rows){NULL, c->k},
        .n = c->n,
        .turned = c->turned,
        .groups = {.count = count, .over_k = c->experts && c->turned},
    };
    p.groups.first = c->experts ? device(first, sizeof first) : NULL;
    if (!c->experts) p.groups.x_step = c->k;
    p.groups.w_step = !c->turned ? c->k * c->n : c->experts ? 0 : c->n;
    p.groups.y_step = c->turned ? c->k * c->n : c->experts ? 0 : c->n;
    p.groups.y_stride = c->turned ? c->n : heads * c->n;
    const int64_t written = c->turned ? all : used * heads * c->n;
    p.base = c->turned ? try_base(kind, y, all, all) : no_base;
    for (int64_t g = 0; g < count; g++)
        for (int64_t r = c->experts ? first[g] : 0; r < (c->experts ? first[g + 1] : used); r++)
            for (int64_t k = 0; k < c->k; k++)
                for (int64_t n = 0; n < c->n; n++) {
                    const int64_t x = r * x_cols + g * p.groups.x_step + k;
                    const int64_t w = (c->turned ? r * p.w_stride : k * c->n) + g * p.groups.w_step + n;
                    y[g * p.groups.y_step + (c->turned ? k : r) * p.groups.y_stride + n] +=
                        product_number(p.x, x_type, x) * product_number(p.w, type, w);
                }
    cuda_matmul_nn(NULL, &p);
    expect(dtype_traits[type].name, p.y, y, written, all, 1, 1e-5);
    done();
    free(y);
}

START_TEST(test_matmul_groups)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_BF16};
    static const int64_t sizes[][2] = {{40, 24}, {72, 264}, {7, 12}, {136, 136}};
    for (int i = 0; i < 16; i++) {
        const struct grouped_case c = {i & 1, i & 2, sizes[i / 4][0], sizes[i / 4][1]};
        orders(_i + i);
        emu_set_tiles(_i != 2);
        try_groups(types[_i], &c, i % BASES);
    }
    emu_set_tiles(true);
}
END_TEST

// ---- attention ----------------------------------------------------------------------------------------

struct attention_case {
    int32_t heads, kv_heads, d, d_v, window;
    float softcap;
    bool sinks, slopes;
    enum dtype type;
};

// Documents shorter and longer than a block, of 16, 64 or 128 rows.
enum { DOCUMENTS = 5, ATTENDED = 213, ATTENTION_MOST = 220 };
static const int32_t document_rows[DOCUMENTS] = {1, 7, 40, 140, 25};

// What is on the device, and the same in double.
struct attention_data {
    struct cuda_attention_dx x;
    double *q, *k, *v, *dy, *y, *lse, *dqkv, *dsinks, *sinks, *slopes;
    int64_t qs, ks, vs, ys;
};

static double *widened(const void *x, enum dtype type, int64_t count)
{
    double *y = malloc((size_t)count * sizeof *y);
    for (int64_t i = 0; i < count; i++) y[i] = product_number(x, type, i);
    return y;
}

static struct attention_data attention_data(const struct attention_case *c)
{
    struct attention_data a = {
        .qs = c->heads * c->d, .ks = c->kv_heads * c->d, .vs = c->kv_heads * c->d_v, .ys = c->heads * c->d_v};
    const int64_t rows = ATTENTION_MOST, all = a.qs + a.ks + a.vs;
    int32_t pos[ATTENTION_MOST] = {0};
    for (int i = 0, row = 0; i < DOCUMENTS; i++)
        for (int r = 0; r < document_rows[i]; r++) pos[row++] = r;
    a.x.of = (struct cuda_attention_rows){
        .y = empty_device(rows * a.ys),
        .lse = empty_device(rows * c->heads),
        .q = random_of(c->type, rows * a.qs, 1),
        .k = random_of(c->type, rows * a.ks, 2),
        .v = random_of(c->type, rows * a.vs, 3),
        .v_stride = a.vs,
        .type = c->type,
        .pos = device(pos, sizeof pos),
        .rows = some_rows(ATTENDED, rows),
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .head_dim = c->d,
        .value_dim = c->d_v,
        .window = c->window,
        .scale = 0.37f,
        .softcap = c->softcap,
    };
    float *dqkv = empty_device(rows * all);
    a.x.dq = dqkv, a.x.dk = dqkv + a.qs, a.x.dv = dqkv + a.qs + a.ks, a.x.stride = all;
    cuda_attention_dx_place(&a.x, device(NULL, cuda_attention_dx_scratch(rows, c->heads, c->d_v)));
    a.dy = malloc((size_t)(rows * a.ys) * sizeof *a.dy);
    float *dy = random_device(a.dy, rows * a.ys, 4, 1);
    for (int64_t i = 0; i < rows * a.ys; i++) { // of all sizes: what f16 alone could not hold
        const int power = (int)(i / c->d_v % 29) - 40;
        dy[i] = ldexpf(dy[i], power), a.dy[i] = ldexp(a.dy[i], power);
    }
    a.x.dy = dy;
    a.sinks = malloc((size_t)c->heads * sizeof *a.sinks),
    a.slopes = malloc((size_t)c->heads * sizeof *a.slopes);
    const float *sinks = random_device(a.sinks, c->heads, 5, 1),
                *slopes = random_device(a.slopes, c->heads, 6, 0.1f);
    if (c->sinks) a.x.of.sinks = sinks, a.x.dsinks = empty_device(rows * c->heads);
    if (c->slopes) a.x.of.slopes = slopes;
    a.q = widened(a.x.of.q, c->type, rows * a.qs), a.k = widened(a.x.of.k, c->type, rows * a.ks);
    a.v = widened(a.x.of.v, c->type, rows * a.vs);
    a.y = calloc((size_t)(rows * a.ys), sizeof *a.y),
    a.lse = calloc((size_t)(rows * c->heads), sizeof *a.lse);
    a.dqkv = calloc((size_t)(rows * all), sizeof *a.dqkv);
    a.dsinks = calloc((size_t)c->heads, sizeof *a.dsinks);
    return a;
}

static void free_attention(struct attention_data *a)
{
    double *all[] = {a->q, a->k, a->v, a->dy, a->y, a->lse, a->dqkv, a->dsinks, a->sinks, a->slopes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// The output and log-sum-exp of row r of a document that begins at `first`, straight from the definition.
static void attend_oracle(struct attention_data *a, const struct attention_case *c, int64_t first, int64_t r,
                          int32_t h)
{
    double score[ATTENTION_MOST], top = c->sinks ? a->sinks[h] : -INFINITY, total = 0;
    const int32_t kv = h / (c->heads / c->kv_heads);
    const int64_t row = first + r, from = c->window && r >= c->window ? r - c->window + 1 : 0;
    for (int64_t j = from; j <= r; j++) {
        double s = 0;
        for (int i = 0; i < c->d; i++)
            s += a->q[row * a->qs + h * c->d + i] * a->k[(first + j) * a->ks + kv * c->d + i];
        s *= (double)0.37f;
        if (c->softcap > 0) s = c->softcap * tanh(s / c->softcap);
        if (c->slopes) s += a->slopes[h] * (double)(j - r);
        score[j] = s;
        top = fmax(top, s);
    }
    total = c->sinks ? exp(a->sinks[h] - top) : 0;
    for (int64_t j = from; j <= r; j++) total += exp(score[j] - top);
    for (int64_t j = from; j <= r; j++)
        for (int i = 0; i < c->d_v; i++)
            a->y[row * a->ys + h * c->d_v + i] +=
                exp(score[j] - top) / total * a->v[(first + j) * a->vs + kv * c->d_v + i];
    a->lse[row * c->heads + h] = top + log(total);
}

typedef void attention_dx_f64_fn(const struct attention_dx_args *a);

static void document_oracle(struct attention_data *a, const struct attention_case *c, int64_t first,
                            int64_t rows)
{
    const int32_t group = c->heads / c->kv_heads;
    const int64_t all = a->qs + a->ks + a->vs;
    for (int64_t r = 0; r < rows; r++)
        for (int32_t h = 0; h < c->heads; h++) attend_oracle(a, c, first, r, h);
    for (int32_t kv = 0; kv < c->kv_heads; kv++)
        kernels_for_f64().attention_dx(&(struct attention_dx_args){
            .dq = a->dqkv + first * all,
            .dk = a->dqkv + first * all + a->qs,
            .dv = a->dqkv + first * all + a->qs + a->ks,
            .dsinks = c->sinks ? a->dsinks : NULL,
            .q = a->q + first * a->qs,
            .k = a->k + first * a->ks,
            .v = a->v + first * a->vs,
            .y = a->y + first * a->ys,
            .dy = a->dy + first * a->ys,
            .lse = a->lse + first * c->heads,
            .sinks = c->sinks ? a->sinks : NULL,
            .slopes = c->slopes ? a->slopes : NULL,
            .dx_stride = (size_t)all,
            .q_stride = (size_t)a->qs,
            .k_stride = (size_t)a->ks,
            .v_stride = (size_t)a->vs,
            .y_stride = (size_t)a->ys,
            .lse_stride = (size_t)c->heads,
            .rows = rows,
            .head_begin = kv * group,
            .head_count = group,
            .kv_head = kv,
            .head_dim = c->d,
            .value_dim = c->d_v,
            .window = c->window,
            .scale = 0.37f,
            .softcap = c->softcap,
        });
}

START_TEST(test_attention_rows)
{
    static const struct attention_case cases[] = {
        {2, 2, 16, 16, 0, 0, false, false, DTYPE_F32},
        {6, 2, 12, 20, 0, 0, true, false, DTYPE_F32}, // groups of three heads
        {4, 1, 33, 7, 9, 2, false, true, DTYPE_F32},
        {1, 1, 160, 130, 0, 0, false, false, DTYPE_F32}, // more numbers than a lane has room for at first
        {4, 2, 20, 12, 31, 3, true, true, DTYPE_F16},
        {4, 2, 64, 64, 0, 0, false, false, DTYPE_F16},
        {2, 1, 128, 72, 20, 4, true, true, DTYPE_F16},
        {2, 1, 128, 128, 0, 0, true, false, DTYPE_F16},
        {2, 2, 64, 64, 33, 3, false, true, DTYPE_F16},
        {1, 1, 256, 256, 0, 0, false, false, DTYPE_F16},
        {4, 2, 64, 64, 0, 0, false, false, DTYPE_F16}, // the same without tiles
        {2, 1, 128, 128, 0, 0, true, false, DTYPE_F16},
    };
    const struct attention_case *c = &cases[_i];
    emu_set_tiles(_i < 10);
    const double tolerance = c->type == DTYPE_F32 || c->d % 8 ? 1e-5 : 1e-3;
    struct attention_data a = attention_data(c);
    for (int64_t i = 0, first = 0; i < DOCUMENTS; first += document_rows[i++])
        document_oracle(&a, c, first, document_rows[i]);
    orders(_i);
    cuda_attention_rows(NULL, &a.x.of);
    expect("attention_rows", a.x.of.y, a.y, ATTENDED, ATTENTION_MOST, a.ys, tolerance);
    expect("log-sum-exp", a.x.of.lse, a.lse, ATTENDED, ATTENTION_MOST, c->heads, tolerance);
    orders(_i + 1);
    cuda_attention_dx(NULL, &a.x);
    expect("attention_dx", a.x.dq, a.dqkv, ATTENDED, ATTENTION_MOST, a.qs + a.ks + a.vs, tolerance);
    float dsinks[64] = {0};
    for (int64_t i = 0; c->sinks && i < ATTENDED * c->heads; i++) dsinks[i % c->heads] += a.x.dsinks[i];
    if (c->sinks) ck_assert(agrees(dsinks, a.dsinks, c->heads, tolerance));
    emu_set_tiles(true);
    done();
    free_attention(&a);
}
END_TEST

// ---- the norm of the gradient -------------------------------------------------------------------------

// The CPU's bits.
START_TEST(test_sum_squares_cuda)
{
    static const int64_t counts[] = {1, 31, 32, 33, 4097, CUDA_SQUARES, CUDA_SQUARES + 77};
    for (int i = 0; i < 7; i++) {
        const float *x = random_device(NULL, counts[i], 1, 1);
        double *to = device(NULL, 2 * sizeof *to);
        orders(i);
        cuda_sum_squares(NULL, to, x, counts[i]);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        for (int64_t first = 0, n = 0; first < counts[i]; first += CUDA_SQUARES, n++) {
            const int64_t left = counts[i] - first < CUDA_SQUARES ? counts[i] - first : CUDA_SQUARES;
            ck_assert_double_eq(to[n], sum_squares_ref(x + first, left));
        }
        done();
    }
}
END_TEST

// ---- updates ------------------------------------------------------------------------------------------

enum { NUMBERS = 3 * UPDATE_BLOCK + 131, UPDATE_BLOCKS = 4, UPDATES = 3 };

// A tensor under update, with room for moments of any type.
struct tensor_updated {
    float value[NUMBERS], gradient[NUMBERS], scales[2][UPDATE_BLOCKS];
    uint16_t copy[NUMBERS];
    _Alignas(64) char moments[2][NUMBERS * 4];
};

static struct update_args update_case(struct tensor_updated *t, enum update_rule rule, enum dtype moments)
{
    struct update_args a = {.value = t->value,
                            .copy = t->copy,
                            .gradient = t->gradient,
                            .m = {t->moments[0], t->scales[0]},
                            .v = {t->moments[1], t->scales[1]},
                            .moments = moments,
                            .count = NUMBERS,
                            .first = 512,
                            .factor = 0.5f,
                            .rate = 1e-2f,
                            .keep = 0.999f,
                            .decay = 0.01f,
                            .beta1 = 0.9f,
                            .beta2 = 0.95f,
                            .slow1 = 0.1f,
                            .slow2 = 0.05f,
                            .root_factor = 1.5f,
                            .eps = 1e-8f,
                            .nesterov = rule == UPDATE_SGD && moments == DTYPE_BF16};
    memset(t, 0, sizeof *t);
    fill_random(t->value, NUMBERS, 1), fill_random(t->gradient, NUMBERS, 2);
    for (int i = 0; i < NUMBERS; i++) t->gradient[i] *= ldexpf(1, -(i % 23));
    if (moments == DTYPE_I8) { // a code of 0 is no number 0
        memset(t->moments[0], CODE_ZERO, NUMBERS);
        memset(t->gradient + UPDATE_BLOCK, 0, UPDATE_BLOCK * sizeof(float)); // a block of zeros
    }
    return a;
}

// The bits of the host's, over three steps; a step that is not taken changes none.
static void try_update(enum update_rule rule, enum dtype moments)
{
    static update_fn *const host[] = {update_adamw_ref, update_lion_ref, update_sgd_ref};
    static struct tensor_updated t;
    const struct update_args a = update_case(&t, rule, moments);
    struct update_verdict verdict = {.factor = a.factor, .taken = 1},
                          *to_verdict = device(&verdict, sizeof verdict);
    struct update_numbers now = {a.rate, a.keep, a.root_factor, 99}, *to_now = device(&now, sizeof now);
    // Boundaries of 16 bytes, as the backend has them.
    struct update_launch u = {.rule = rule, .of = a, .now = to_now, .verdict = to_verdict};
    u.of.rate = u.of.keep = u.of.factor = u.of.root_factor = NAN;
    u.of.value = device(t.value, sizeof t.value), u.of.gradient = device(t.gradient, sizeof t.gradient);
    u.of.copy = device(t.copy, sizeof t.copy);
    u.of.m = (struct moment){device(t.moments[0], sizeof *t.moments), device(t.scales[0], sizeof *t.scales)};
    u.of.v = (struct moment){device(t.moments[1], sizeof *t.moments), device(t.scales[1], sizeof *t.scales)};
    for (int step = 0; step <= UPDATES; step++) {
        struct update_args own = a;
        own.key = to_now->key = 99 + (uint32_t)step;
        to_verdict->taken = step < UPDATES;
        if (step < UPDATES) host[rule](&own);
        cuda_update(NULL, &u);
    }
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_mem_eq(u.of.value, t.value, sizeof t.value);
    ck_assert_mem_eq(u.of.copy, t.copy, sizeof t.copy);
    ck_assert_mem_eq(u.of.m.data, t.moments[0], sizeof *t.moments);
    ck_assert_mem_eq(u.of.v.data, t.moments[1], sizeof *t.moments);
    ck_assert_mem_eq(u.of.m.scale, t.scales[0], sizeof *t.scales);
    ck_assert_mem_eq(u.of.v.scale, t.scales[1], sizeof *t.scales);
    done();
}

START_TEST(test_updates_cuda)
{
    static const enum dtype moments[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I8};
    for (int i = 0; i < 3; i++) {
        orders(_i + i);
        if (_i != UPDATE_SGD || moments[i] != DTYPE_I8) try_update((enum update_rule)_i, moments[i]);
    }
}
END_TEST

// What the host would have made of it, to the bit; norms that are not finite, or stand out, are not stepped with.
START_TEST(test_decide_cuda)
{
    static const struct {
        double last, clip, most;
        int32_t taken;
    } cases[] = {{1, 1, INFINITY, 1}, {1, 0, INFINITY, 1},   {1e6, 3, INFINITY, 1},
                 {1, 1, 0.01, 0},     {NAN, 1, INFINITY, 0}, {INFINITY, 1, INFINITY, 0},
                 {1, 1000, 1000, 1},  {INFINITY, 0, 1000, 0}};
    enum { COUNT = 300 };
    for (int i = 0; i < 8; i++) {
        double squares[COUNT], sum = 0;
        for (int j = 0; j < COUNT; j++) squares[j] = fabs((double)random_signed(3, (uint64_t)j));
        squares[COUNT - 1] = cases[i].last;
        for (int j = 0; j < COUNT; j++) sum += squares[j];
        const struct update_limits limits = {0.25, cases[i].clip, cases[i].most};
        struct update_verdict *v = device(NULL, sizeof *v);
        orders(i);
        cuda_decide(NULL, v, device(squares, sizeof squares), COUNT, device(&limits, sizeof limits));
        ck_assert_msg(!emu_error(), "%s", emu_error());
        ck_assert_int_eq(v->taken, cases[i].taken);
        const double norm = sqrt(sum) * 0.25, clip = limits.clip;
        if (cases[i].taken) {
            ck_assert_double_eq(v->norm, norm);
            ck_assert_double_eq(v->clipped, clip > 0 ? fmin(1, clip / (norm + 1e-6)) : 1);
            ck_assert_float_eq(v->factor, (float)(0.25 * v->clipped));
        }
        done();
    }
}
END_TEST

// Wide, tall and square matrices against train/muon.c.
START_TEST(test_muon_cuda)
{
    static const int64_t shapes[][2] = {{40, 72}, {72, 40}, {33, 33}, {2, 130}};
    for (int i = 0; i < 4; i++) {
        const int64_t rows = shapes[i][0], cols = shapes[i][1], count = rows * cols;
        const int64_t side = rows < cols ? rows : cols;
        float *host[3];
        for (int j = 0; j < 3; j++)
            fill_random(host[j] = malloc((size_t)count * sizeof(float)), count, (uint64_t)j);
        struct parameter p = {.role = ROLE_MATRIX,
                              .name = "m",
                              .cols = cols,
                              .rows = rows,
                              .depth = 1,
                              .count = count,
                              .value = host[0],
                              .gradient = host[1]};
        const struct update_verdict verdict = {.factor = 0.5f, .taken = 1};
        const struct update_numbers now = {.rate = 0.02f, .keep = 0.99f};
        const struct update_matrix u = {
            .value = device(host[0], (size_t)count * 4),
            .gradient = device(host[1], (size_t)count * 4),
            .momentum = device(host[2], (size_t)count * 4),
            .x = empty_device(count),
            .y = empty_device(count),
            .square = empty_device(side * side),
            .second = empty_device(side * side),
            .squares = device(NULL, (size_t)rows * sizeof(double)),
            .rows = rows,
            .cols = cols,
            .iterations = 5,
            .beta = 0.95f,
            .slow = (float)(1 - (double)0.95f),
            .nesterov = i % 2 == 0,
            .now = device(&now, sizeof now),
            .verdict = device(&verdict, sizeof verdict),
        };
        struct parameters all = {.item = &p, .count = 1};
        struct kernels k = kernels_for(ISA_REF);
        struct threads *threads;
        struct arena a;
        struct tlm_error err;
        ck_assert(!threads_open(&threads, 1, &err) &&
                  !arena_init(&a, muon_bytes(&all, 1) + 4096, "test", &err));
        const struct muon muon = muon_make(&a, &all, &k, threads);
        muon_update(&muon, &(struct muon_update){&p, host[2], 0.5f, 0.95f, 0.02f, 0.99f, u.nesterov, 5});
        orders(i);
        cuda_muon(NULL, &u);
        ck_assert_msg(!emu_error(), "%s", emu_error());
        double *expected = malloc((size_t)count * sizeof *expected);
        for (int64_t j = 0; j < count; j++) expected[j] = host[0][j];
        ck_assert_msg(agrees(u.value, expected, count, 1e-6), "%d x %d: error %g", (int)rows, (int)cols,
                      rel_error(u.value, expected, count));
        ck_assert_mem_eq(u.momentum, host[2], (size_t)count * sizeof(float));
        free(expected);
        for (int j = 0; j < 3; j++) free(host[j]);
        arena_free(&a);
        threads_close(threads);
        done();
    }
}
END_TEST

Suite *suite_cuda_gradient(void)
{
    Suite *s = suite_create("cuda_gradient");
    TCase *t = tcase_create("cuda_gradient");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_activations_dx);
    tcase_add_test(t, test_dropout_cuda);
    tcase_add_test(t, test_norms_dx);
    tcase_add_test(t, test_rows_dx);
    tcase_add_test(t, test_slice_dx);
    tcase_add_test(t, test_transpose_cuda);
    tcase_add_test(t, test_sum_rows);
    tcase_add_test(t, test_embed_dw);
    tcase_add_test(t, test_distill_cuda);
    tcase_add_test(t, test_narrow_losses);
    tcase_add_loop_test(t, test_matmul_nn_cuda, 0, 4);
    tcase_add_loop_test(t, test_matmul_groups, 0, 3);
    tcase_add_loop_test(t, test_attention_rows, 0, 12);
    tcase_add_test(t, test_sum_squares_cuda);
    tcase_add_loop_test(t, test_updates_cuda, 0, 3);
    tcase_add_test(t, test_decide_cuda);
    tcase_add_test(t, test_muon_cuda);
    suite_add_tcase(s, t);
    return s;
}
