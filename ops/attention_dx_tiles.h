// ops/attention_dx_tiles.h -- how the AVX2 and AVX-512 forms of the gradient of attention walk over tiles of 64 rows and 64 keys.
//
// The sums are in ops/ops.h. A call is a sequence and the heads that share a key-value head. The walk:
//
//     for each head, for each tile of 64 keys, for each tile of rows that sees one of them
//         for each 6 rows    s = q k^T, dp = dy v^T       of the registers of keys that one of the rows sees
//                            p = exp(scale s - lse), ds = scale p (dp - e), 0 where a row does not see a key
//                            dq += ds k
//         for each 6 keys    dv += p^T dy, dk += ds^T q   over the rows that see one of the keys
//
// All five are one kernel, multiply(): it adds up products of numbers that are spread over a register's lanes with rows of a matrix,
// for 6 rows of the result at a time, in registers. Keys and values are transposed once a tile; p and ds are never transposed, as numbers to
// spread are read from anywhere.
//
// Memory: a head's rows are copied together first, filled up with zeros to whole registers. Where they lie, kilobytes apart, each would
// miss the caches anew in each tile of keys, with nothing that fetches ahead; and they would meet in a few sets of L1. What a product reads
// stays in L2 (16 KiB a matrix at d = 64), which delivers more than the multiply-adds take: 10 loads for 24 of them.
#ifndef OPS_ATTENTION_DX_TILES_H
#define OPS_ATTENTION_DX_TILES_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "ops/ops.h"

#define INLINE       static inline __attribute__((always_inline))
#define STRINGIFY(x) #x
#define UNROLL(n)    _Pragma(STRINGIFY(GCC unroll n))

enum {
    TILE = ATTENTION_TILE, // rows, and keys
    GROUP = 6,             // rows of the result that multiply() takes at once
};

// What a call keeps in its scratch. d and d_v are filled up to whole registers in `wide` and `wide_v`.
struct work {
    float *keys, *values; // (d, TILE), (d_v, TILE): transposed, of the tile
    float *k, *dk, *dv;   // (TILE, wide), (TILE, wide), (TILE, wide_v): of the tile
    float *p, *ds;        // (TILE, TILE): a row of a tile of rows, its keys
    float *q, *dq, *dy;   // (rows, wide), (rows, wide), (rows, wide_v): of the head
    float *lse, *e;       // (rows): of the head
    int64_t wide, wide_v;
};

// c[m][i] (+)= sum over k < depth of a[m * a_row + k * a_step] * b[k * b_stride + i], for m < count <= GROUP and i < width, a multiple of
// the lanes.
struct product {
    float *c;
    size_t c_stride;
    const float *a;
    size_t a_row, a_step;
    const float *b;
    size_t b_stride;
    int64_t count, width, depth;
    bool add;
};

// What the including file has, beside LANES and dot_product():
static void multiply(const struct product *x);
// Weights from scores at p, their gradients from those of weights at ds, of the keys of a tile that `seen` has bits of; 0 for the others.
// `distance`: of the tile's first key from the row's.
static void soften(float *p, float *ds, const struct attention_dx_args *a, float slope, float lse, float e,
                   int64_t distance, uint64_t seen);

INLINE int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

INLINE const float *row_of(const void *base, size_t stride, int64_t row, int64_t at)
{
    return (const float *)base + (size_t)row * stride + at;
}

INLINE float *out_of(void *base, size_t stride, int64_t row, int64_t at)
{
    return (float *)base + (size_t)row * stride + at;
}

enum { FILL = 16 }; // numbers of the widest register

INLINE int64_t filled(int64_t d)
{
    return (d + FILL - 1) / FILL * FILL;
}

// Bytes for a call.
INLINE size_t scratch_bytes(int64_t rows, int32_t head_count, int32_t d, int32_t d_v)
{
    const int64_t tile = 3 * filled(d) + 2 * filled(d_v) + 2 * TILE;
    (void)head_count;
    return (size_t)(TILE * tile + rows * (2 * filled(d) + filled(d_v) + 2)) * sizeof(float);
}

static struct work work_of(const struct attention_dx_args *a)
{
    struct work w = {.keys = a->scratch, .wide = filled(a->head_dim), .wide_v = filled(a->value_dim)};
    w.k = w.keys + TILE * w.wide, w.dk = w.k + TILE * w.wide;
    w.values = w.dk + TILE * w.wide, w.dv = w.values + TILE * w.wide_v;
    w.p = w.dv + TILE * w.wide_v, w.ds = w.p + TILE * TILE;
    w.q = w.ds + TILE * TILE, w.dq = w.q + a->rows * w.wide, w.dy = w.dq + a->rows * w.wide;
    w.lse = w.dy + a->rows * w.wide_v, w.e = w.lse + a->rows;
    return w;
}

// ---- once a head --------------------------------------------------------------------------------------

// Rows of d numbers, to rows of `wide`.
static void gather(float *to, int64_t wide, const float *from, size_t stride, int64_t rows, int64_t d)
{
    for (int64_t r = 0; r < rows; r++, to += wide, from += stride) {
        memcpy(to, from, (size_t)d * sizeof *to);
        memset(to + d, 0, (size_t)(wide - d) * sizeof *to);
    }
}

static void scatter(float *to, size_t stride, const float *from, int64_t wide, int64_t rows, int64_t d)
{
    for (int64_t r = 0; r < rows; r++, to += stride, from += wide) memcpy(to, from, (size_t)d * sizeof *to);
}

// Queries, gradients, lse and e = dy . y of all rows; the gradient of the sink.
static void begin_head(const struct attention_dx_args *a, const struct work *w, int64_t head)
{
    const int64_t d = a->head_dim, d_v = a->value_dim;
    gather(w->q, w->wide, row_of(a->q, a->q_stride, 0, head * d), a->q_stride, a->rows, d);
    gather(w->dy, w->wide_v, row_of(a->dy, a->y_stride, 0, head * d_v), a->y_stride, a->rows, d_v);
    for (int64_t r = 0; r < a->rows; r++) {
        w->lse[r] = *row_of(a->lse, a->lse_stride, r, head);
        w->e[r] = dot_product(w->dy + r * w->wide_v, row_of(a->y, a->y_stride, r, head * d_v), d_v);
        if (a->dsinks)
            ((float *)a->dsinks)[head] -= expf(((const float *)a->sinks)[head] - w->lse[r]) * w->e[r];
    }
}

// ---- a tile of rows and keys --------------------------------------------------------------------------

// Rows row .. row + count - 1 of a tile and the keys from `key` on that the last sees and the first has not left behind; the first
// key and the end.
struct span {
    int64_t begin, end;
};

static struct span keys_of(const struct attention_dx_args *a, int64_t row, int64_t count, int64_t key)
{
    int64_t first = a->window ? most(row - a->window + 1, 0) : 0;
    return (struct span){most(first - key, 0), least(row + count - key, TILE)};
}

// p, ds and dq of `count` rows from `row` on; at most GROUP, of one tile.
static void rows_dx(const struct attention_dx_args *a, const struct work *w, int64_t head, int64_t row,
                    int64_t count, int64_t key)
{
    const struct span seen = keys_of(a, row, count, key);
    if (seen.begin >= seen.end) return;
    const int64_t from = seen.begin / LANES * LANES, to = (seen.end + LANES - 1) / LANES * LANES;
    float *p = w->p + row % TILE * TILE, *ds = w->ds + row % TILE * TILE;
    struct product x = {.c = p + from,
                        .c_stride = TILE,
                        .a = w->q + row * w->wide,
                        .a_row = (size_t)w->wide,
                        .a_step = 1,
                        .b = w->keys + from,
                        .b_stride = TILE,
                        .count = count,
                        .width = to - from,
                        .depth = a->head_dim};
    multiply(&x);
    x.c = ds + from, x.b = w->values + from, x.depth = a->value_dim;
    x.a = w->dy + row * w->wide_v, x.a_row = (size_t)w->wide_v;
    multiply(&x);
    const float slope = a->slopes ? ((const float *)a->slopes)[head] : 0;
    for (int64_t i = 0; i < count; i++) {
        const struct span keys = keys_of(a, row + i, 1, key);
        const uint64_t mask =
            keys.begin < keys.end ? ~(uint64_t)0 >> (TILE - (keys.end - keys.begin)) << keys.begin : 0;
        soften(p + i * TILE, ds + i * TILE, a, slope, w->lse[row + i], w->e[row + i], key - row - i, mask);
    }
    const int64_t first = a->window ? most(row - a->window + 1, 0) : 0; // key that one of them sees
    multiply(&(struct product){.c = w->dq + row * w->wide,
                               .c_stride = (size_t)w->wide,
                               .a = ds + seen.begin,
                               .a_row = TILE,
                               .a_step = 1,
                               .b = w->k + seen.begin * w->wide,
                               .b_stride = (size_t)w->wide,
                               .count = count,
                               .width = w->wide,
                               .depth = seen.end - seen.begin,
                               .add = first < key});
}

// dk and dv of `count` keys from `at` on in the tile of keys, at most GROUP, by the tile of rows that begins at `row`; `add`: to what there is.
static void keys_dx(const struct attention_dx_args *a, const struct work *w, int64_t row, int64_t key,
                    int64_t at, int64_t count, bool add)
{
    const int64_t first = key + at, begin = most(row, first), last = least(row + TILE, a->rows),
                  end = a->window ? least(last, first + count - 1 + a->window) : last;
    if (begin >= end) return;
    struct product x = {.c = w->dv + at * w->wide_v,
                        .c_stride = (size_t)w->wide_v,
                        .a = w->p + (begin - row) * TILE + at,
                        .a_row = 1,
                        .a_step = TILE,
                        .b = w->dy + begin * w->wide_v,
                        .b_stride = (size_t)w->wide_v,
                        .count = count,
                        .width = w->wide_v,
                        .depth = end - begin,
                        .add = add};
    multiply(&x);
    x.c = w->dk + at * w->wide, x.c_stride = (size_t)w->wide, x.width = w->wide;
    x.a = w->ds + (begin - row) * TILE + at;
    x.b = w->q + begin * w->wide, x.b_stride = (size_t)w->wide;
    multiply(&x);
}

// ---- the walk -----------------------------------------------------------------------------------------

// A tile of keys and all rows of a head that see one of them; later heads add to what the first has set.
static void keys_tile(const struct attention_dx_args *a, const struct work *w, transpose_fwd_fn *transpose,
                      int64_t h, int64_t key)
{
    const int64_t d = a->head_dim, d_v = a->value_dim, keys = least(TILE, a->rows - key);
    const float *k = row_of(a->k, a->k_stride, key, a->kv_head * d);
    const float *v = row_of(a->v, a->v_stride, key, a->kv_head * d_v);
    float *dk = out_of(a->dk, a->dx_stride, key, a->kv_head * d);
    float *dv = out_of(a->dv, a->dx_stride, key, a->kv_head * d_v);
    gather(w->k, w->wide, k, a->k_stride, keys, d);
    transpose(w->keys, TILE, DTYPE_F32, w->k, (size_t)w->wide, keys, d);
    transpose(w->values, TILE, DTYPE_F32, v, a->v_stride, keys, d_v);
    if (h) {
        gather(w->dk, w->wide, dk, a->dx_stride, keys, d);
        gather(w->dv, w->wide_v, dv, a->dx_stride, keys, d_v);
    }
    const int64_t last =
        a->window ? least(a->rows, key + keys - 1 + a->window) : a->rows; // no row from here on
    for (int64_t row = key; row < last; row += TILE) {
        const int64_t rows = least(TILE, a->rows - row);
        for (int64_t i = 0; i < rows; i += GROUP)
            rows_dx(a, w, a->head_begin + h, row + i, least(GROUP, rows - i), key);
        for (int64_t j = 0; j < keys; j += GROUP)
            keys_dx(a, w, row, key, j, least(GROUP, keys - j), h || row > key);
    }
    scatter(dk, a->dx_stride, w->dk, w->wide, keys, d);
    scatter(dv, a->dx_stride, w->dv, w->wide_v, keys, d_v);
}

static void attention_dx_run(const struct attention_dx_args *a, transpose_fwd_fn *transpose)
{
    const struct work w = work_of(a);
    for (int64_t h = 0; h < a->head_count; h++) {
        const int64_t head = a->head_begin + h;
        begin_head(a, &w, head);
        for (int64_t key = 0; key < a->rows; key += TILE) keys_tile(a, &w, transpose, h, key);
        scatter(out_of(a->dq, a->dx_stride, 0, head * a->head_dim), a->dx_stride, w.dq, w.wide, a->rows,
                a->head_dim);
    }
}

#endif
