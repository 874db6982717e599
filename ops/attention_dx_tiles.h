// ops/attention_dx_tiles.h -- how the AVX2 and AVX-512 forms of the gradient of attention walk over tiles of 64 rows and 64 keys.
//
// The sums are in ops/ops.h. A call is a sequence and the heads that share a key-value head. The walk:
//
//     for each tile of 64 keys, for each head, for each tile of rows that sees one of them
//         for each 6 rows    s = q k^T, dp = dy v^T       of the registers of keys that one of the rows sees
//                            p = exp(scale s - lse), ds = scale p (dp - e), 0 where a row does not see a key
//                            dq += ds k
//         for each 6 keys    dv += p^T dy, dk += ds^T q   over the rows that see one of the keys
//
// All five are one kernel, multiply(): it adds up products of numbers that are spread over a register's lanes with rows of a matrix,
// for 6 rows of the result at a time, in registers. Keys and values are transposed once a tile; p and ds are never transposed, as numbers to
// spread are read from anywhere.
//
// Memory: p, ds and the transposed keys and values are 16 KiB each at d = 64. With the rows that a product reads they stay in L2, which
// delivers more than the multiply-adds take: 10 loads for 24 of them.
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

// What a call keeps in its scratch.
struct work {
    float *keys, *values; // (d, TILE), (d_v, TILE): of the tile
    float *p, *ds;        // (TILE, TILE): a row of the tile, its keys
    float *lse, *e;       // (head_count, rows)
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

// Bytes for a call.
INLINE size_t scratch_bytes(int64_t rows, int32_t head_count, int32_t d, int32_t d_v)
{
    return ((size_t)TILE * (size_t)(d + d_v + 2 * TILE) + 2 * (size_t)head_count * (size_t)rows) *
           sizeof(float);
}

// ---- once a call --------------------------------------------------------------------------------------

static struct work work_of(const struct attention_dx_args *a)
{
    struct work w;
    w.keys = a->scratch;
    w.values = w.keys + (int64_t)a->head_dim * TILE;
    w.p = w.values + (int64_t)a->value_dim * TILE;
    w.ds = w.p + TILE * TILE;
    w.lse = w.ds + TILE * TILE;
    w.e = w.lse + a->head_count * a->rows;
    return w;
}

// lse and e = dy . y of all rows, those of a head side by side; the gradients of sinks; outputs are set to 0.
static void begin_call(const struct attention_dx_args *a, const struct work *w)
{
    const int64_t d = a->head_dim, d_v = a->value_dim;
    for (int64_t r = 0; r < a->rows; r++) {
        memset(out_of(a->dq, a->dx_stride, r, a->head_begin * d), 0,
               (size_t)(a->head_count * d) * sizeof(float));
        memset(out_of(a->dk, a->dx_stride, r, a->kv_head * d), 0, (size_t)d * sizeof(float));
        memset(out_of(a->dv, a->dx_stride, r, a->kv_head * d_v), 0, (size_t)d_v * sizeof(float));
        for (int64_t h = 0; h < a->head_count; h++) {
            const int64_t head = a->head_begin + h;
            const float lse = *row_of(a->lse, a->lse_stride, r, head);
            const float e = dot_product(row_of(a->dy, a->y_stride, r, head * d_v),
                                        row_of(a->y, a->y_stride, r, head * d_v), d_v);
            w->lse[h * a->rows + r] = lse, w->e[h * a->rows + r] = e;
            if (a->dsinks) ((float *)a->dsinks)[head] -= expf(((const float *)a->sinks)[head] - lse) * e;
        }
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

// p, ds and dq of `count` rows; at most GROUP.
static void rows_dx(const struct attention_dx_args *a, const struct work *w, int64_t h, int64_t row,
                    int64_t count, int64_t key)
{
    const int64_t d = a->head_dim, d_v = a->value_dim, head = a->head_begin + h, in_tile = row % TILE;
    const struct span seen = keys_of(a, row, count, key);
    if (seen.begin >= seen.end) return;
    const int64_t from = seen.begin / LANES * LANES, to = (seen.end + LANES - 1) / LANES * LANES;
    float *p = w->p + in_tile * TILE, *ds = w->ds + in_tile * TILE;
    struct product x = {.c = p + from,
                        .c_stride = TILE,
                        .a = row_of(a->q, a->q_stride, row, head * d),
                        .a_row = a->q_stride,
                        .a_step = 1,
                        .b = w->keys + from,
                        .b_stride = TILE,
                        .count = count,
                        .width = to - from,
                        .depth = d};
    multiply(&x);
    x.c = ds + from, x.b = w->values + from, x.depth = d_v;
    x.a = row_of(a->dy, a->y_stride, row, head * d_v), x.a_row = a->y_stride;
    multiply(&x);
    const float slope = a->slopes ? ((const float *)a->slopes)[head] : 0;
    for (int64_t i = 0; i < count; i++) {
        const struct span keys = keys_of(a, row + i, 1, key);
        const uint64_t mask =
            keys.begin < keys.end ? ~(uint64_t)0 >> (TILE - (keys.end - keys.begin)) << keys.begin : 0;
        soften(p + i * TILE, ds + i * TILE, a, slope, w->lse[h * a->rows + row + i],
               w->e[h * a->rows + row + i], key - row - i, mask);
    }
    multiply(&(struct product){.c = out_of(a->dq, a->dx_stride, row, head * d),
                               .c_stride = a->dx_stride,
                               .a = ds + seen.begin,
                               .a_row = TILE,
                               .a_step = 1,
                               .b = row_of(a->k, a->k_stride, key + seen.begin, a->kv_head * d),
                               .b_stride = a->k_stride,
                               .count = count,
                               .width = d,
                               .depth = seen.end - seen.begin,
                               .add = true});
}

// dk and dv of `count` keys from `at` in the tile on, at most GROUP, by the tile of rows that begins at `row`.
static void keys_dx(const struct attention_dx_args *a, const struct work *w, int64_t head, int64_t row,
                    int64_t rows, int64_t key, int64_t at, int64_t count)
{
    const int64_t d = a->head_dim, d_v = a->value_dim, first = key + at;
    const int64_t begin = most(row, first),
                  end = a->window ? least(row + rows, first + count - 1 + a->window) : row + rows;
    if (begin >= end) return;
    struct product x = {.c = out_of(a->dv, a->dx_stride, first, a->kv_head * d_v),
                        .c_stride = a->dx_stride,
                        .a = w->p + (begin - row) * TILE + at,
                        .a_row = 1,
                        .a_step = TILE,
                        .b = row_of(a->dy, a->y_stride, begin, head * d_v),
                        .b_stride = a->y_stride,
                        .count = count,
                        .width = d_v,
                        .depth = end - begin,
                        .add = true};
    multiply(&x);
    x.c = out_of(a->dk, a->dx_stride, first, a->kv_head * d), x.width = d;
    x.a = w->ds + (begin - row) * TILE + at;
    x.b = row_of(a->q, a->q_stride, begin, head * d), x.b_stride = a->q_stride;
    multiply(&x);
}

// ---- the walk -----------------------------------------------------------------------------------------

static void attention_dx_run(const struct attention_dx_args *a, transpose_fwd_fn *transpose)
{
    const int64_t d = a->head_dim, d_v = a->value_dim;
    const struct work w = work_of(a);
    begin_call(a, &w);
    for (int64_t key = 0; key < a->rows; key += TILE) {
        const int64_t keys = least(TILE, a->rows - key);
        transpose(w.keys, TILE, DTYPE_F32, row_of(a->k, a->k_stride, key, a->kv_head * d), a->k_stride, keys,
                  d);
        transpose(w.values, TILE, DTYPE_F32, row_of(a->v, a->v_stride, key, a->kv_head * d_v), a->v_stride,
                  keys, d_v);
        const int64_t last =
            a->window ? least(a->rows, key + keys - 1 + a->window) : a->rows; // row that sees a key
        for (int64_t h = 0; h < a->head_count; h++) {
            for (int64_t row = key; row < last; row += TILE) {
                const int64_t rows = least(TILE, a->rows - row);
                for (int64_t i = 0; i < rows; i += GROUP)
                    rows_dx(a, &w, h, row + i, least(GROUP, rows - i), key);
                for (int64_t j = 0; j < keys; j += GROUP)
                    keys_dx(a, &w, a->head_begin + h, row, rows, key, j, least(GROUP, keys - j));
            }
        }
    }
}

#endif
