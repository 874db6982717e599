// ops/attention.c -- attention over paged keys and values, the reference: the softmax is taken online, tile
// by tile.
//
// For a row and a head with scores s_j = scale * (q . k_j) over the keys that the row sees,
//
//     y = sum_j exp(s_j - m) v_j / sum_j exp(s_j - m),   lse = m + log(sum_j exp(s_j - m)),   m = max_j s_j.
//
// With a cap c the score is c tanh(s_j / c), to which a slope a adds a (j - pos). A sink is one more score, without a
// value: in m and in both sums over exp, also that of lse.
//
// Keys come in tiles of ATTENTION_TILE counted from position 0. A row and head carries (m, l, o), the
// maximum, the sum and the weighted values so far, from (-inf, 0, 0) on or from (sink, 1, 0); a tile that raises m to m' first multiplies l and o by
// exp(m - m'). Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135. All that touches a
// row's state are the keys it sees, in order, so its bits do not depend on the other rows of the call, nor on how many
// calls take them.
#include <tgmath.h>

#include "ops/paged.h"

// Reals of scratch: a tile of keys (64, d) and one of values (64, d_v), m and l of each row and head, and a stored row.
size_t REF(attention_scratch)(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    size_t tiles = (size_t)ATTENTION_TILE * ((size_t)head_dim + (size_t)value_dim);
    size_t stored = (size_t)(head_dim > value_dim ? head_dim : value_dim) * sizeof(double);
    return sizeof(real) * (tiles + 2 * (size_t)rows * (size_t)head_count) + stored;
}

static row_to_real_fn *reader(enum dtype type)
{
    switch (type) {
    case DTYPE_F32: return REF(row_from_f32);
    case DTYPE_F16: return REF(row_from_f16);
    case DTYPE_BF16: return REF(row_from_bf16);
    case DTYPE_F8_E4M3: return REF(row_from_f8_e4m3);
    case DTYPE_F64: return REF(row_from_f64);
    default: return REF(row_from_quantized)(type);
    }
}

// Rows begin..end of one tile, (64, d) from the tile's first key on.
static void unpack_tile(real *tile, void *stored, const struct paged_kv *kv, const struct attention_args *a,
                        int64_t begin, int64_t end, int64_t d)
{
    row_to_real_fn *read = reader(kv->type);
    for (int64_t j = begin; j < end; j++) {
        paged_get(stored, kv, paged_rows(kv, a->blocks[j / KV_BLOCK], a->kv_head), j % KV_BLOCK, d);
        read(tile + j % ATTENTION_TILE * d, stored, d);
    }
}

// Where (m, l, o) of a row and head stand: in the call's state; without one in y, and m and l in scratch.
struct state {
    real *o, *sum, *max;
};

static real *y_of(const struct attention_args *a, int64_t r, int64_t h)
{
    return (real *)a->y + r * (int64_t)a->y_stride + (a->head_begin + h) * a->value_dim;
}

static struct state state_of(const struct attention_args *a, real *own, int64_t r, int64_t h)
{
    real *pair = own + 2 * (r * a->head_count + h);
    if (!a->state) return (struct state){y_of(a, r, h), pair, pair + 1};
    int64_t size = attention_state(a->value_dim);
    real *o = (real *)a->state + r * (int64_t)a->state_stride + (a->head_begin + h) * size;
    return (struct state){o, o + size - 32, o + size - 16};
}

static void begin_state(struct state s, const struct attention_args *a, int64_t h)
{
    *s.max = a->sinks ? ((const real *)a->sinks)[a->head_begin + h] : -(real)INFINITY;
    *s.sum = a->sinks ? 1 : 0;
    for (int64_t i = 0; i < a->value_dim; i++) s.o[i] = 0;
}

static void end_state(struct state s, const struct attention_args *a, int64_t r, int64_t h)
{
    real *y = y_of(a, r, h), *lse = a->lse;
    for (int64_t i = 0; i < a->value_dim; i++) y[i] = s.o[i] / *s.sum;
    if (lse) lse[r * (int64_t)a->lse_stride + a->head_begin + h] = *s.max + log(*s.sum);
}

// Takes n keys (n, d) and values (n, d_v) into the state of one row and head; the first key stands `distance`
// after the row (so 0 or less).
static void update(struct state state, const real *q, const real *keys, const real *values, int64_t n,
                   int64_t distance, real slope, const struct attention_args *a)
{
    const real cap = (real)a->softcap;
    real s[ATTENTION_TILE], top = *state.max, *o = state.o;
    for (int64_t j = 0; j < n; j++) {
        real dot = 0;
        for (int64_t i = 0; i < a->head_dim; i++) dot += q[i] * keys[j * a->head_dim + i];
        s[j] = dot * (real)a->scale;
        if (cap > 0) s[j] = cap * tanh(s[j] / cap);
        if (slope != 0) s[j] += slope * (real)(distance + j);
        if (s[j] > top) top = s[j];
    }
    real base = top == -(real)INFINITY ? 0 : top; // scores that overflowed to -inf weigh nothing
    real rescale = exp(*state.max - base);
    *state.max = top;
    *state.sum *= rescale;
    for (int64_t i = 0; i < a->value_dim; i++) o[i] *= rescale;
    for (int64_t j = 0; j < n; j++) {
        real p = exp(s[j] - base);
        *state.sum += p;
        for (int64_t i = 0; i < a->value_dim; i++) o[i] += p * values[j * a->value_dim + i];
    }
}

static int64_t first_key(const struct attention_args *a, int64_t row)
{
    return a->window && a->pos[row] >= a->window ? a->pos[row] - a->window + 1 : 0;
}

void REF(attention_fwd)(const struct attention_args *a)
{
    const int64_t d = a->head_dim, d_v = a->value_dim, heads = a->head_count;
    real *keys = a->scratch, *values = keys + ATTENTION_TILE * d;
    real *own = values + ATTENTION_TILE * d_v;
    void *stored = own + 2 * a->rows * heads;
    const real *q = (const real *)a->q + a->head_begin * d, *slopes = a->slopes;

    int64_t first = INT64_MAX, end = 0;
    for (int64_t r = 0; r < a->rows; r++) {
        if (first_key(a, r) < first) first = first_key(a, r);
        if (a->pos[r] + 1 > end) end = a->pos[r] + 1;
        for (int64_t h = 0; h < heads && !a->key_begin; h++) begin_state(state_of(a, own, r, h), a, h);
    }
    if (first < a->key_begin) first = a->key_begin;
    if (a->key_end && end > a->key_end) end = a->key_end;
    for (int64_t tile = first / ATTENTION_TILE * ATTENTION_TILE; tile < end; tile += ATTENTION_TILE) {
        int64_t tile_begin = tile > first ? tile : first;
        int64_t tile_end = tile + ATTENTION_TILE < end ? tile + ATTENTION_TILE : end;
        unpack_tile(keys, stored, &a->k, a, tile_begin, tile_end, d);
        unpack_tile(values, stored, &a->v, a, tile_begin, tile_end, d_v);
        for (int64_t r = 0; r < a->rows; r++) {
            int64_t from = first_key(a, r) > tile ? first_key(a, r) - tile : 0;
            int64_t to = a->pos[r] + 1 < tile_end ? a->pos[r] + 1 - tile : tile_end - tile;
            for (int64_t h = 0; h < heads && from < to; h++)
                update(state_of(a, own, r, h), q + r * (int64_t)a->q_stride + h * d, keys + from * d,
                       values + from * d_v, to - from, tile + from - a->pos[r],
                       slopes ? slopes[a->head_begin + h] : 0, a);
        }
    }
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t h = 0; h < heads && !a->key_end; h++) end_state(state_of(a, own, r, h), a, r, h);
}
