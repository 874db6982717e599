// tests/test_attention.c -- every form of attention against PyTorch and the double reference, and bit for bit
// against itself.
#include <check.h>

#include "generate/forward.h"
#include "ops/paged.h"
#include "tests/golden.h"
#include "tests/golden/ops.h"
#include "tests/kernels.h"
#include "tests/tests.h"

// One sequence of `keys` keys and values in shuffled blocks, and `rows` rows of queries at the positions from
// `first` on.
struct shape {
    int32_t rows, first, heads, kv_heads, d, d_v, window;
    enum dtype k_type, v_type;
};

struct options {
    float softcap;
    bool sinks, slopes;
    bool shared; // values are the first numbers of the keys
    bool rows;   // keys and values stand in rows
};

enum { HEADS_MOST = 200, DIM_MOST = 576 };

struct scene {
    struct shape s;
    struct options o;
    struct guarded k, v, q, blocks, pos;
    int32_t keys;
};

// y, lse and scratch of a call, with `e` bytes a number, side by side with nothing but themselves.
struct result {
    struct guarded y, lse, scratch;
};

enum { UNUSED_BLOCKS = 3 }; // a sequence's storage has blocks that are not its own, between its own

static int32_t blocks_of(int32_t keys)
{
    return (keys + KV_BLOCK - 1) / KV_BLOCK;
}

static void put_stored(const struct scene *e, const struct paged_kv *kv, int32_t key, int32_t head,
                       const void *row, int32_t d)
{
    int32_t block = ((int32_t *)e->blocks.data)[key / KV_BLOCK];
    paged_put(kv, paged_rows(kv, block, head), key % KV_BLOCK, row, d);
}

static void put(const struct scene *e, const struct paged_kv *kv, int32_t key, int32_t head, const float *x,
                int32_t d)
{
    struct kernels k = kernels_for(ISA_REF);
    char row[8 * DIM_MOST];
    k.from_real[kv->type](row, x, d);
    put_stored(e, kv, key, head, row, d);
}

static struct paged_kv keys_of(const struct scene *e)
{
    enum kv_layout layout = e->o.rows || e->o.shared ? KV_ROWS : KV_KEYS;
    struct paged_kv kv = paged_layout(e->s.k_type, layout, blocks_of(e->keys) + UNUSED_BLOCKS, e->s.d);
    kv.data = e->k.data;
    return kv;
}

static struct paged_kv values_of(const struct scene *e)
{
    if (e->o.shared) return keys_of(e);
    struct paged_kv kv = paged_layout(e->s.v_type, e->o.rows ? KV_ROWS : KV_VALUES,
                                      blocks_of(e->keys) + UNUSED_BLOCKS, e->s.d_v);
    kv.data = e->v.data;
    return kv;
}

// An empty scene: every slot of the cache is NaN. `order` picks the shuffle of the blocks.
static struct scene scene_empty(const struct shape *s, struct options o, int32_t keys, uint64_t order)
{
    struct scene e = {.s = *s, .o = o, .keys = keys};
    int32_t n = blocks_of(keys), storage = n + UNUSED_BLOCKS;
    size_t slots = (size_t)storage * KV_BLOCK * (size_t)s->kv_heads;
    e.k = guarded_alloc(slots * dtype_row_bytes(s->k_type, s->d));
    e.v = guarded_alloc(slots * dtype_row_bytes(s->v_type, s->d_v));
    e.q = guarded_alloc((size_t)s->rows * (size_t)(s->heads * s->d) * sizeof(float));
    e.blocks = guarded_alloc((size_t)n * sizeof(int32_t));
    e.pos = guarded_alloc((size_t)s->rows * sizeof(int32_t));
    int32_t *ids = malloc((size_t)storage * sizeof *ids);
    for (int32_t i = 0; i < storage; i++) ids[i] = i;
    for (int32_t i = storage - 1; i > 0; i--) {
        int32_t j = (int32_t)(rng_uniform(9, order, (uint64_t)i) * (i + 1)), kept = ids[i];
        ids[i] = ids[j], ids[j] = kept;
    }
    memcpy(e.blocks.data, ids, (size_t)n * sizeof *ids);
    free(ids);
    for (int32_t r = 0; r < s->rows; r++) ((int32_t *)e.pos.data)[r] = s->first + r;
    return e;
}

static struct scene scene_with(const struct shape *s, struct options o, int32_t keys, uint64_t order,
                               float spread)
{
    struct scene e = scene_empty(s, o, keys, order);
    struct paged_kv k = keys_of(&e), v = values_of(&e);
    float x[DIM_MOST];
    fill_random(e.q.data, (int64_t)s->rows * s->heads * s->d, 1);
    for (int64_t i = 0; i < (int64_t)s->rows * s->heads * s->d; i++) ((float *)e.q.data)[i] *= spread;
    for (int32_t j = 0; j < keys; j++) {
        for (int32_t g = 0; g < s->kv_heads; g++) {
            fill_random(x, s->d, 1000 + (uint64_t)(j * s->kv_heads + g));
            put(&e, &k, j, g, x, s->d);
            fill_random(x, s->d_v, 5000000 + (uint64_t)(j * s->kv_heads + g));
            put(&e, &v, j, g, x, s->d_v);
        }
    }
    return e;
}

static struct scene scene_random(const struct shape *s, int32_t keys, uint64_t order, float spread)
{
    return scene_with(s, (struct options){0}, keys, order, spread);
}

static void scene_free(struct scene *e)
{
    ck_assert(guarded_intact(&e->k) && guarded_intact(&e->v) && guarded_intact(&e->q));
    guarded_free(&e->k), guarded_free(&e->v), guarded_free(&e->q), guarded_free(&e->blocks),
        guarded_free(&e->pos);
}

static struct result result_make(const struct kernels *k, const struct shape *s, size_t size)
{
    size_t scratch = k->attention_scratch(s->rows, s->heads / s->kv_heads, s->d, s->d_v);
    return (struct result){
        .y = guarded_alloc((size_t)s->rows * (size_t)(s->heads * s->d_v) * size),
        .lse = guarded_alloc((size_t)s->rows * (size_t)s->heads * size),
        .scratch = guarded_alloc((scratch + 63) / 64 * 64),
    };
}

static void result_free(struct result *r)
{
    ck_assert(guarded_intact(&r->y) && guarded_intact(&r->lse) && guarded_intact(&r->scratch));
    guarded_free(&r->y), guarded_free(&r->lse), guarded_free(&r->scratch);
}

// A part of the keys, with the states (rows, H) behind it or in front of it, and a block table other than the scene's.
struct part {
    const int32_t *blocks;
    int64_t begin, end;
    void *states;
};

// Rows row .. row + rows - 1 of `heads` heads from `head` on, which must share a key-value head. q: (rows,
// H*d). part: NULL for all keys.
static void attend_part(const struct kernels *k, const struct scene *e, const void *q, struct result *out,
                        size_t size, int32_t row, int32_t rows, int32_t head, int32_t heads,
                        const struct part *part)
{
    const struct shape *s = &e->s;
    float sinks[HEADS_MOST], slopes[HEADS_MOST];
    double sinks_f64[HEADS_MOST], slopes_f64[HEADS_MOST];
    for (int32_t h = 0; h < s->heads; h++) {
        sinks_f64[h] = sinks[h] = h % 5 == 3 ? -INFINITY : 6 * random_signed(77, (uint64_t)h);
        slopes_f64[h] = slopes[h] = exp2f(-8 * (float)(h + 1) / (float)s->heads);
    }
    struct attention_args a = {
        .y = (char *)out->y.data + (size_t)row * (size_t)(s->heads * s->d_v) * size,
        .lse = (char *)out->lse.data + (size_t)row * (size_t)s->heads * size,
        .q = (const char *)q + (size_t)row * (size_t)(s->heads * s->d) * size,
        .k = keys_of(e),
        .v = values_of(e),
        .blocks = e->blocks.data,
        .pos = (int32_t *)e->pos.data + row,
        .y_stride = (size_t)(s->heads * s->d_v),
        .q_stride = (size_t)(s->heads * s->d),
        .lse_stride = (size_t)s->heads,
        .rows = rows,
        .head_begin = head,
        .head_count = heads,
        .kv_head = head / (s->heads / s->kv_heads),
        .head_dim = s->d,
        .value_dim = s->d_v,
        .window = s->window,
        .scale = 0.375f,
        .softcap = e->o.softcap,
        .sinks = !e->o.sinks             ? NULL
                 : size == sizeof(float) ? (void *)sinks
                                         : (void *)sinks_f64,
        .slopes = !e->o.slopes            ? NULL
                  : size == sizeof(float) ? (void *)slopes
                                          : (void *)slopes_f64,
        .scratch = out->scratch.data,
    };
    if (part) {
        a.blocks = part->blocks;
        a.key_begin = part->begin;
        a.key_end = part->end;
        a.state_stride = (size_t)(s->heads * attention_state(s->d_v));
        a.state = part->states ? (char *)part->states + (size_t)row * a.state_stride * size : NULL;
    }
    memset(out->scratch.data, 0xff, out->scratch.size);
    k->attention_fwd(&a);
}

static void attend(const struct kernels *k, const struct scene *e, const void *q, struct result *out,
                   size_t size, int32_t row, int32_t rows, int32_t head, int32_t heads)
{
    attend_part(k, e, q, out, size, row, rows, head, heads, NULL);
}

static void attend_all(const struct kernels *k, const struct scene *e, const void *q, struct result *out,
                       size_t size)
{
    int32_t group = e->s.heads / e->s.kv_heads;
    for (int32_t h = 0; h < e->s.heads; h += group) attend(k, e, q, out, size, 0, e->s.rows, h, group);
}

// The oracle's y and lse.
static struct result oracle(const struct scene *e)
{
    struct kernels k = kernels_for_f64();
    struct result out = result_make(&k, &e->s, sizeof(double));
    int64_t n = (int64_t)e->s.rows * e->s.heads * e->s.d;
    double *q = malloc((size_t)n * sizeof *q);
    for (int64_t i = 0; i < n; i++) q[i] = ((float *)e->q.data)[i];
    attend_all(&k, e, q, &out, sizeof(double));
    free(q);
    return out;
}

// On every tier y and lse agree with the oracle.
static void check_scene(const struct scene *e, double tolerance)
{
    struct result want = oracle(e);
    int64_t numbers = (int64_t)e->s.rows * e->s.heads;
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        struct result got = result_make(&k, &e->s, sizeof(float));
        attend_all(&k, e, e->q.data, &got, sizeof(float));
        ck_assert_msg(agrees(got.y.data, want.y.data, numbers * e->s.d_v, tolerance) &&
                          agrees(got.lse.data, want.lse.data, numbers, tolerance),
                      "%s: rows %d from %d, heads %d/%d, d %d and %d, window %d, types %d %d, cap %g, sinks "
                      "%d, slopes %d, "
                      "shared %d: error %.2g, lse %.2g",
                      isa_name(isa), e->s.rows, e->s.first, e->s.heads, e->s.kv_heads, e->s.d, e->s.d_v,
                      e->s.window, e->s.k_type, e->s.v_type, e->o.softcap, e->o.sinks, e->o.slopes,
                      e->o.shared, rel_error(got.y.data, want.y.data, numbers * e->s.d_v),
                      rel_error(got.lse.data, want.lse.data, numbers));
        result_free(&got);
    }
    result_free(&want);
}

static void check_with(struct shape s, struct options o)
{
    struct scene e = scene_with(&s, o, s.first + s.rows, (uint64_t)(s.d + s.first), 2);
    bool quantized = paged_quantized(s.k_type) || paged_quantized(s.v_type);
    check_scene(&e, (quantized ? 1.5e-4 : 1e-6) +
                        1e-8 * s.d); // longer sums of products are less exact, and so are the weights
    scene_free(&e);
}

static void check_shape(struct shape s)
{
    check_with(s, (struct options){0});
}

// ---- the tests ----------------------------------------------------------------------------------------

START_TEST(test_golden)
{
    struct shape s = {
        .rows = 70, .heads = 4, .kv_heads = 2, .d = 5, .d_v = 3, .k_type = DTYPE_F64, .v_type = DTYPE_F64};
    for (int windowed = 0; windowed < 2; windowed++) {
        s.window = windowed ? 33 : 0;
        const double *want = windowed ? golden_attention_window_y : golden_attention_y;
        struct scene e = scene_empty(&s, (struct options){0}, s.rows, 4);
        struct paged_kv k = keys_of(&e), v = values_of(&e);
        for (int32_t j = 0; j < s.rows; j++) {
            for (int32_t g = 0; g < s.kv_heads; g++) {
                put_stored(&e, &k, j, g, golden_attention_k + (j * s.kv_heads + g) * s.d, s.d);
                put_stored(&e, &v, j, g, golden_attention_v + (j * s.kv_heads + g) * s.d_v, s.d_v);
            }
        }
        struct kernels f64 = kernels_for_f64();
        struct result got = result_make(&f64, &s, sizeof(double));
        attend_all(&f64, &e, golden_attention_q, &got, sizeof(double));
        int32_t row = s.heads * s.d_v;
        for (int32_t r = 0; r < s.rows; r += 9)
            for (int32_t i = 0; i < row; i++)
                ck_assert_double_eq_tol(((double *)got.y.data)[r * row + i], want[r / 9 * row + i], 1e-13);
        result_free(&got);
        scene_free(&e);
    }
}
END_TEST

START_TEST(test_sizes)
{
    static const int32_t sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,  12, 13,
                                    14, 15, 16, 17, 31, 32, 33, 64, 80, 96, 128, 256};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < SIZES; i++) {
        int32_t d = sizes[i], d_v = sizes[(i * 7 + 3) % SIZES];
        check_shape((struct shape){3, 70, 2, 2, d, d, 0, DTYPE_F16, DTYPE_F16});
        check_shape((struct shape){5, 126, 3, 1, d, d_v, 0, DTYPE_BF16, DTYPE_F32});
        check_shape((struct shape){1, 15, 4, 1, d, d_v, 0, DTYPE_F32, DTYPE_BF16});
    }
}
END_TEST

START_TEST(test_positions)
{
    static const int32_t firsts[] = {0, 1, 15, 16, 62, 63, 64, 65, 127, 128, 500};
    static const int32_t rows[] = {1, 2, 33, 67};
    static const int32_t windows[] = {0, 1, 2, 16, 63, 64, 65, 100};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (int f = 0; f < 11; f++)
        for (int r = 0; r < 4; r++)
            for (int w = 0; w < 8; w++)
                check_shape((struct shape){rows[r], firsts[f], 4, 2, 12, 10, windows[w], types[(f + w) % 3],
                                           types[(f + r) % 3]});
}
END_TEST

START_TEST(test_groups)
{
    static const int32_t groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 13, 100};
    for (int g = 0; g < 10; g++)
        for (int32_t rows = 1; rows < 30; rows += 9)
            check_shape((struct shape){rows, 60, 2 * groups[g], 2, 16, 24, 0, DTYPE_F16, DTYPE_F16});
    check_shape((struct shape){512, 0, 4, 1, 64, 64, 0, DTYPE_F16, DTYPE_F16});
}
END_TEST

// Every option alone and all together, beside windows, groups and rows of every kind.
START_TEST(test_options)
{
    static const struct options options[] = {
        {.softcap = 5},
        {.softcap = 0.5f},
        {.sinks = true},
        {.slopes = true},
        {.softcap = 3, .sinks = true, .slopes = true},
    };
    static const struct shape shapes[] = {
        {1, 0, 4, 2, 64, 64, 0, DTYPE_F16, DTYPE_F16},      {70, 30, 8, 2, 64, 64, 0, DTYPE_F16, DTYPE_F16},
        {33, 150, 6, 2, 80, 80, 70, DTYPE_BF16, DTYPE_F16}, {7, 700, 12, 1, 13, 9, 0, DTYPE_F32, DTYPE_BF16},
        {3, 300, 16, 8, 128, 96, 1, DTYPE_F16, DTYPE_F32},  {2, 64, 2, 1, 256, 256, 0, DTYPE_F16, DTYPE_F16},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t o = 0; o < sizeof options / sizeof *options; o++) check_with(shapes[s], options[o]);
}
END_TEST

// A sink takes its share of the weight; one of -inf takes none.
START_TEST(test_sinks)
{
    struct shape s = {1, 0, 4, 1, 8, 8, 0, DTYPE_F32, DTYPE_F32};
    struct scene e = scene_random(&s, 1, 1, 0);
    float value[8];
    fill_random(value, 8, 5000000);
    e.o.sinks = true;
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        struct result got = result_make(&k, &s, sizeof(float));
        attend_all(&k, &e, e.q.data, &got, sizeof(float)); // the one key has the score 0
        for (int h = 0; h < 4; h++) {
            double weight = h == 3 ? 1 : 1 / (1 + exp(6 * (double)random_signed(77, (uint64_t)h)));
            for (int i = 0; i < 8; i++)
                ck_assert_float_eq_tol(((float *)got.y.data)[h * 8 + i], weight * value[i], 1e-6);
            ck_assert_float_eq_tol(((float *)got.lse.data)[h], -log(weight), 2e-6);
        }
        result_free(&got);
    }
    scene_free(&e);
}
END_TEST

// Latent attention: one key head, whose keys begin with the values.
START_TEST(test_shared)
{
    static const int32_t heads[] = {16, 128};
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < 2; i++)
        for (int t = 0; t < 3; t++)
            check_with((struct shape){3, 150, heads[i], 1, 576, 512, 0, types[t], types[t]},
                       (struct options){.shared = true});
    check_with((struct shape){40, 50, 6, 2, 20, 13, 30, DTYPE_F16, DTYPE_F16},
               (struct options){.shared = true, .sinks = true});
    check_with((struct shape){2, 70, 16, 1, 576, 512, 0, DTYPE_Q8_0, DTYPE_Q8_0},
               (struct options){.shared = true});
    check_with((struct shape){2, 70, 16, 1, 576, 512, 0, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
               (struct options){.shared = true});
    check_with((struct shape){40, 50, 6, 2, 37, 13, 30, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
               (struct options){.shared = true});
}
END_TEST

// Any types of keys beside any of values, in the layouts of the cache and in rows.
START_TEST(test_types)
{
    static const enum dtype types[] = {DTYPE_F32,     DTYPE_F16,  DTYPE_BF16,
                                       DTYPE_F8_E4M3, DTYPE_Q8_0, DTYPE_Q4_0};
    static const int32_t sizes[][2] = {{32, 32}, {64, 64}, {128, 96}, {96, 256}};
    static const int32_t heads[] = {1, 2, 3, 4, 5, 7, 14};
    int n = 0;
    for (int k = 0; k < 6; k++)
        for (int v = 0; v < 6; v++)
            for (int s = 0; s < 4; s++, n++)
                for (int rows = 0; rows < 2; rows++)
                    check_with((struct shape){1 + n % 3, n * 5 % 200, 2 * heads[n % 7], 2, sizes[s][0],
                                              sizes[s][1], n % 5 == 0 ? 40 : 0, types[k], types[v]},
                               (struct options){.rows = rows, .softcap = n % 4 == 0 ? 4 : 0});
    check_with((struct shape){70, 100, 8, 2, 64, 64, 0, DTYPE_Q8_0, DTYPE_Q8_0},
               (struct options){.sinks = true, .slopes = true});
}
END_TEST

// Rows at positions out of order and repeated, as the branches of a draft are.
START_TEST(test_any_positions)
{
    struct shape s = {40, 0, 3, 1, 20, 20, 50, DTYPE_F16, DTYPE_F16};
    struct scene e = scene_random(&s, 300, 2, 2);
    for (int32_t r = 0; r < s.rows; r++)
        ((int32_t *)e.pos.data)[r] = (int32_t)(299 * rng_uniform(3, 1, (uint64_t)r));
    check_scene(&e, 1e-6);
    scene_free(&e);
}
END_TEST

enum { INDEPENDENCE_SHAPES = 15 };

// Whatever the chunks, the grouping of heads, the places of the blocks, and what the cache holds of keys that
// a row does not see: the same bits.
START_TEST(test_row_independence)
{
    static const int32_t chunks[] = {1, 2, 7, 16, 33, 1000};
    static const struct shape shapes[] = {
        {150, 0, 4, 1, 64, 64, 0, DTYPE_F16, DTYPE_F16},
        {150, 37, 6, 2, 20, 13, 41, DTYPE_F32, DTYPE_BF16},
        {100, 200, 3, 3, 80, 128, 0, DTYPE_BF16, DTYPE_F16},
        {70, 1, 16, 2, 7, 9, 65, DTYPE_F16, DTYPE_F32},
        {70, 90, 8, 2, 64, 64, 0, DTYPE_F16, DTYPE_F16},
        {34, 90, 16, 1, 96, 72, 0, DTYPE_F16, DTYPE_F16},
        {70, 90, 8, 2, 20, 30, 55, DTYPE_F16, DTYPE_F16},
        {70, 90, 8, 2, 64, 64, 0, DTYPE_Q8_0, DTYPE_Q8_0},
        {70, 30, 7, 1, 96, 32, 41, DTYPE_Q4_0, DTYPE_Q8_0},
        {40, 60, 3, 3, 32, 96, 0, DTYPE_Q8_0, DTYPE_Q4_0},
        {40, 60, 6, 2, 64, 64, 0, DTYPE_Q4_0, DTYPE_Q8_0},
        {40, 60, 6, 2, 64, 48, 0, DTYPE_Q8_0, DTYPE_F16},
        {70, 90, 8, 2, 64, 64, 0, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
        {70, 30, 7, 1, 20, 13, 41, DTYPE_F8_E4M3, DTYPE_F16},
        {40, 60, 6, 2, 33, 64, 0, DTYPE_F8_E4M3, DTYPE_F8_E4M3},
    };
    ck_assert_uint_eq(sizeof shapes / sizeof *shapes, INDEPENDENCE_SHAPES);
    static const struct options options[INDEPENDENCE_SHAPES] = {
        [4] = {.softcap = 2, .sinks = true, .slopes = true},
        [5] = {.shared = true},
        [6] = {.rows = true},
        [10] = {.rows = true},
        [14] = {.rows = true}};
    const struct shape *s = &shapes[_i];
    int32_t group = s->heads / s->kv_heads;
    struct scene e = scene_with(s, options[_i], s->first + s->rows, 1, 2),
                 moved = scene_with(s, options[_i], s->first + s->rows, 2, 2);
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        struct result want = result_make(&k, s, sizeof(float));
        attend_all(&k, &e, e.q.data, &want, sizeof(float));
        for (int c = 0; c < 6; c++) {
            for (int single = 0; single < 2; single++) {
                struct result got = result_make(&k, s, sizeof(float));
                int32_t heads = single ? 1 : group;
                for (int32_t r = 0; r < s->rows; r += chunks[c])
                    for (int32_t h = 0; h < s->heads; h += heads)
                        attend(&k, &moved, e.q.data, &got, sizeof(float), r,
                               r + chunks[c] < s->rows ? chunks[c] : s->rows - r, h, heads);
                ck_assert_msg(!memcmp(got.y.data, want.y.data, want.y.size) &&
                                  !memcmp(got.lse.data, want.lse.data, want.lse.size),
                              "%s: chunks of %d, %d heads a call", isa_name(isa), chunks[c], heads);
                result_free(&got);
            }
        }
        result_free(&want);
    }
    scene_free(&e);
    scene_free(&moved);
}
END_TEST

// A row alone, with NaN in all that it does not see and blocks before its window given back, has the bits
// that it has beside later rows whose values are infinite.
START_TEST(test_unseen_keys)
{
    enum { D = 32 };
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_F8_E4M3};
    struct shape s = {50, 100, 4, 2, D, D, 70, types[_i], types[_i]};
    struct scene e = scene_random(&s, 150, 1, 2);
    struct paged_kv v = values_of(&e), k = keys_of(&e);
    char nan[4 * D];
    float infinite[D];
    memset(nan, 0xff, sizeof nan);
    for (int i = 0; i < D; i++) infinite[i] = INFINITY;
    for (int32_t j = 120; j < 150; j++)
        for (int32_t g = 0; g < 2; g++) put(&e, &v, j, g, infinite, D), put(&e, &k, j, g, infinite, D);
    EACH_ISA (isa, ISA_REF) {
        struct kernels kernels = kernels_for(isa);
        struct result all = result_make(&kernels, &s, sizeof(float)),
                      alone = result_make(&kernels, &s, sizeof(float));
        attend_all(&kernels, &e, e.q.data, &all, sizeof(float));
        for (int32_t r = 0; r < 20; r++) {
            int32_t pos = s.first + r, first = pos - s.window + 1;
            struct scene bare = scene_random(&s, pos + 1, 3, 2);
            struct paged_kv bare_k = keys_of(&bare), bare_v = values_of(&bare);
            for (int32_t j = 0; j < first; j++) {
                for (int32_t g = 0; g < 2; g++) {
                    put_stored(&bare, &bare_k, j, g, nan, D);
                    put_stored(&bare, &bare_v, j, g, nan, D);
                }
            }
            for (int32_t b = 0; b < first / KV_BLOCK; b++) ((int32_t *)bare.blocks.data)[b] = INT32_MAX;
            for (int32_t h = 0; h < 4; h += 2)
                attend(&kernels, &bare, e.q.data, &alone, sizeof(float), r, 1, h, 2);
            scene_free(&bare);
        }
        size_t row = 4 * D * sizeof(float);
        ck_assert_msg(!memcmp(all.y.data, alone.y.data, 20 * row), "%s", isa_name(isa));
        for (int i = 0; i < 20 * 4 * D; i++) ck_assert_float_finite(((float *)all.y.data)[i]);
        result_free(&all);
        result_free(&alone);
    }
    scene_free(&e);
}
END_TEST

// One key has all the weight; scores so large that all but one vanish; scores that overflow to -inf over
// whole tiles.
START_TEST(test_extremes)
{
    struct shape s = {1, 0, 2, 1, 33, 33, 0, DTYPE_F32, DTYPE_F32};
    struct scene one = scene_random(&s, 1, 1, 1e9f);
    float value[33];
    fill_random(value, 33, 5000000);
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        struct result got = result_make(&k, &s, sizeof(float));
        attend_all(&k, &one, one.q.data, &got, sizeof(float));
        for (int h = 0; h < 2; h++)
            ck_assert_mem_eq((char *)got.y.data + (size_t)h * 33 * 4, value, (size_t)33 * 4);
        result_free(&got);
    }
    scene_free(&one);

    s.rows = 5, s.first = 190;
    static const float spreads[] = {0, 1e-30f, 1e-8f, 300};
    for (int i = 0; i < 4; i++) {
        struct scene e = scene_random(&s, 195, 1, spreads[i]);
        // A score is wrong by the rounding of its sum, so a weight by that times the score.
        check_scene(&e, 1e-6 + 2e-7 * spreads[i]);
        scene_free(&e);
    }

    struct scene e = scene_random(&s, 195, 1, 1);
    struct paged_kv k = keys_of(&e);
    float huge[33];
    for (int i = 0; i < 33; i++) huge[i] = -3e38f;
    for (int32_t j = 0; j < 190; j++)
        if (j < 70 || j % 3 == 0) put(&e, &k, j, 0, huge, 33);
    for (int64_t i = 0; i < 5 * 2 * 33; i++) ((float *)e.q.data)[i] = 1 + fabsf(((float *)e.q.data)[i]);
    check_scene(&e, 1e-6);

    float nan[33]; // a NaN that a row does see is not lost
    for (int i = 0; i < 33; i++) nan[i] = i == 20 ? NAN : 0;
    put(&e, &k, 191, 0, nan, 33);
    EACH_ISA (isa, ISA_REF) {
        struct kernels kernels = kernels_for(isa);
        struct result got = result_make(&kernels, &s, sizeof(float));
        attend_all(&kernels, &e, e.q.data, &got, sizeof(float));
        for (int i = 0; i < 5 * 2 * 33; i++) ck_assert(!isnan(((float *)got.y.data)[i]) == (i < 2 * 33));
        result_free(&got);
    }
    scene_free(&e);
}
END_TEST

// ---- prefixes that sequences share --------------------------------------------------------------------

// Row r of the scene as a sequence of its own: the first `keys` keys stand in the blocks of the scene, the rest in the others, turned by r.
static void own_blocks(const struct scene *e, int32_t keys, int32_t r, int32_t *blocks)
{
    int32_t shared = keys / KV_BLOCK, n = blocks_of(e->keys), own = n - shared;
    const int32_t *all = e->blocks.data;
    for (int32_t b = 0; b < n; b++) blocks[b] = all[b < shared ? b : shared + (b - shared + r) % own];
}

// The first `keys` keys for all rows at once, then for each row the others: the bits of a call for each row alone.
static void check_prefix(const struct kernels *k, const struct scene *e, const void *q, size_t size,
                         int32_t keys)
{
    const struct shape *s = &e->s;
    int32_t group = s->heads / s->kv_heads, *blocks = malloc((size_t)blocks_of(e->keys) * sizeof *blocks);
    struct result want = result_make(k, s, size), got = result_make(k, s, size);
    struct guarded states = guarded_alloc((size_t)(s->rows * s->heads * attention_state(s->d_v)) *
                                          size); // a multiple of 64 bytes
    struct part prefix = {e->blocks.data, 0, keys, states.data}, rest = {blocks, keys, 0, states.data},
                alone = {.blocks = blocks};
    for (int32_t h = 0; h < s->heads; h += group)
        attend_part(k, e, q, &got, size, 0, s->rows, h, group, &prefix);
    for (int32_t r = 0; r < s->rows; r++) {
        own_blocks(e, keys, r, blocks);
        for (int32_t h = 0; h < s->heads; h += group) {
            attend_part(k, e, q, &got, size, r, 1, h, group, &rest);
            attend_part(k, e, q, &want, size, r, 1, h, group, &alone);
        }
    }
    ck_assert_msg(!memcmp(got.y.data, want.y.data, want.y.size) &&
                      !memcmp(got.lse.data, want.lse.data, want.lse.size),
                  "%s: %d rows share %d keys, types %d %d, window %d", isa_name(k->isa), s->rows, keys,
                  s->k_type, s->v_type, s->window);
    ck_assert(guarded_intact(&states));
    guarded_free(&states);
    result_free(&want), result_free(&got);
    free(blocks);
}

enum { PREFIX_SHAPES = 15 };

START_TEST(test_prefix)
{
    static const struct {
        struct shape s;
        struct options o;
        int32_t keys;
    } cases[] = {
        {{16, 100, 8, 2, 64, 64, 0, DTYPE_F16, DTYPE_F16}, {.softcap = 0}, 64},
        {{33, 1024, 4, 4, 64, 64, 0, DTYPE_F16, DTYPE_F16}, {.softcap = 0}, 1024},
        {{2, 600, 6, 2, 20, 13, 0, DTYPE_F32, DTYPE_BF16}, {.softcap = 0}, 576},
        {{33, 256, 16, 2, 80, 40, 0, DTYPE_BF16, DTYPE_F32}, {.softcap = 0}, 256},
        {{1, 300, 4, 1, 33, 7, 0, DTYPE_F32, DTYPE_F32}, {.softcap = 0}, 192},
        {{20, 200, 8, 2, 64, 64, 0, DTYPE_Q8_0, DTYPE_Q8_0}, {.softcap = 0}, 128},
        {{7, 330, 6, 1, 96, 32, 0, DTYPE_Q4_0, DTYPE_Q4_0}, {.softcap = 0}, 320},
        {{9, 520, 8, 1, 64, 96, 0, DTYPE_Q8_0, DTYPE_Q4_0}, {.slopes = true, .sinks = true}, 512},
        {{17, 190, 6, 2, 64, 64, 100, DTYPE_F16, DTYPE_F16},
         {.softcap = 3, .sinks = true, .slopes = true},
         128},
        {{17, 190, 6, 2, 64, 64, 70, DTYPE_Q8_0, DTYPE_Q8_0},
         {.sinks = true},
         128}, // later rows see nothing of it
        {{20, 200, 8, 2, 64, 64, 0, DTYPE_F8_E4M3, DTYPE_F8_E4M3}, {.softcap = 0}, 128},
        {{17, 300, 4, 2, 32, 32, 64, DTYPE_F16, DTYPE_Q8_0}, {.softcap = 0}, 64}, // none does
        {{12, 260, 16, 1, 96, 72, 0, DTYPE_F16, DTYPE_F16}, {.shared = true}, 256},
        {{5, 140, 4, 2, 64, 64, 33, DTYPE_Q4_0, DTYPE_Q8_0}, {.rows = true}, 128},
        {{12, 64, 100, 1, 16, 16, 0, DTYPE_F16, DTYPE_F16}, {.softcap = 0}, 64},
    };
    ck_assert_uint_eq(sizeof cases / sizeof *cases, PREFIX_SHAPES);
    const struct shape *s = &cases[_i].s;
    struct scene e = scene_with(s, cases[_i].o, s->first + s->rows + 40, 1, 2);
    int64_t n = (int64_t)s->rows * s->heads * s->d;
    double *q = malloc((size_t)n * sizeof *q);
    for (int64_t i = 0; i < n; i++) q[i] = ((float *)e.q.data)[i];
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        check_prefix(&k, &e, e.q.data, sizeof(float), cases[_i].keys);
    }
    struct kernels f64 = kernels_for_f64();
    check_prefix(&f64, &e, q, sizeof(double), cases[_i].keys);
    free(q);
    scene_free(&e);
}
END_TEST

enum { SHARING = 40, PROMPT = 150, VOCAB = 293 };

// The logits of one pass; rows[i] is the i-th row of `out`.
static void run_rows(struct forward *f, const struct forward_row *rows, int32_t count, float *out)
{
    ck_assert_int_eq(forward_run(f, rows, count, NULL), TLM_OK);
    for (int32_t i = 0; i < count; i++)
        memcpy(out + (int64_t)i * VOCAB, forward_logits(f, i), VOCAB * sizeof(float));
}

// Sequences that were forked from one prompt, run in one pass of one to three rows each, and each alone: the same bits, and the former
// with prefix tiles of at most so many rows.
static void check_forks(const struct tlm_model *m, enum dtype type, int32_t sequences, int32_t prefixes)
{
    struct forward f;
    struct forward_config config = {.context = PROMPT + 4,
                                    .sequences = sequences,
                                    .max_rows = PROMPT,
                                    .max_outputs = 3 * SHARING,
                                    .threads = 2,
                                    .type_k = type,
                                    .type_v = type};
    struct forward_row rows[PROMPT];
    float *want = malloc(sizeof(float) * 3 * SHARING * VOCAB),
          *got = malloc(sizeof(float) * 3 * SHARING * VOCAB);
    ck_assert_int_eq(forward_open(&f, m, &config, NULL), TLM_OK);
    for (int32_t i = 0; i < PROMPT; i++) rows[i] = (struct forward_row){i * 7919 % VOCAB, i, 0, false};
    ck_assert_int_eq(forward_run(&f, rows, PROMPT, NULL), TLM_OK);
    for (int32_t s = 1; s < sequences; s++) ck_assert_int_eq(kv_fork(&f.cache, s, 0, PROMPT), PROMPT);
    int32_t count = 0;
    for (int32_t s = 0; s < sequences; s++)
        for (int32_t i = 0; i <= s % 3; i++, count++)
            rows[count] = (struct forward_row){(s * 31 + i) % VOCAB, PROMPT + i, s, true};
    run_rows(&f, rows, count, got);
    ck_assert_int_eq(f.step.counts[EXTENT_PREFIX_TILES], prefixes);
    for (int32_t s = 0, begin = 0; s < sequences; s++, begin += (s - 1) % 3 + 1) {
        kv_truncate(&f.cache, s, PROMPT);
        run_rows(&f, rows + begin, s % 3 + 1, want + (int64_t)begin * VOCAB);
        ck_assert_int_eq(f.step.counts[EXTENT_PREFIX_TILES], 0);
    }
    ck_assert_msg(!memcmp(got, want, sizeof(float) * (size_t)count * VOCAB), "%s, %d sequences, keys in %s",
                  isa_name(m->kernels.isa), sequences, dtype_traits[type].name);
    free(want), free(got);
    forward_close(&f);
}

START_TEST(test_forks)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_F32, DTYPE_BF16};
    EACH_ISA (isa, ISA_REF) {
        struct tlm_model *m = open_model("tests/golden/llama-plain.gguf", isa_name(isa));
        check_forks(m, types[isa % 3], 2, 1);
        check_forks(m, types[isa % 3], 5, 1);
        check_forks(m, types[isa % 3], SHARING, 3);
        tlm_model_close(m);
    }
}
END_TEST

Suite *suite_attention(void)
{
    Suite *suite = suite_create("attention");
    TCase *tcase = tcase_create("attention");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, test_golden);
    tcase_add_test(tcase, test_sizes);
    tcase_add_test(tcase, test_positions);
    tcase_add_test(tcase, test_groups);
    tcase_add_test(tcase, test_options);
    tcase_add_test(tcase, test_sinks);
    tcase_add_test(tcase, test_shared);
    tcase_add_test(tcase, test_types);
    tcase_add_test(tcase, test_any_positions);
    tcase_add_loop_test(tcase, test_row_independence, 0, INDEPENDENCE_SHAPES);
    tcase_add_loop_test(tcase, test_unseen_keys, 0, 5);
    tcase_add_test(tcase, test_extremes);
    tcase_add_loop_test(tcase, test_prefix, 0, PREFIX_SHAPES);
    tcase_add_test(tcase, test_forks);
    suite_add_tcase(suite, tcase);
    return suite;
}
