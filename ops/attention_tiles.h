// ops/attention_tiles.h -- how the AVX2 and AVX-512 forms of attention walk over columns and tiles of keys.
//
// A column is a row and a query head; all columns of a call share one key-value head. The formula and the
// order of keys are those of ops/attention.c. The walk, with the register kernels that the including file
// defines:
//
//     for each block of at most COLUMNS columns, for each tile of 64 keys that one of them sees
//         transpose_keys   keys[i][j] = k[j][i]                 once a block of columns
//         score            p[c][j] = sum_i q[c][i] keys[i][j]   register tiles of keys x GROUP columns
//         soften           p[c][j] = exp(scale p[c][j] - m), 0 where c does not see j; m and l updated
//         weigh            o[c][i] += sum_j p[c][j] v[j][i]     register tiles of numbers x GROUP columns
//
// Row independence: a chain of `weigh` runs over exactly the keys that its column sees. So a tile that a
// column does not see leaves the column alone, and what stands in the cache beyond (zeros, NaN) enters
// nothing, whatever the company.
//
// Memory: score and weigh fetch what comes next into L2, two cache lines an iteration. A burst of as many
// fetches would wait for the few miss buffers there are: in decoding, bursts gained nothing and this more
// than doubles the speed.
#ifndef OPS_ATTENTION_TILES_H
#define OPS_ATTENTION_TILES_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "ops/ops.h"

#define INLINE       static inline __attribute__((always_inline))
#define STRINGIFY(x) #x
#define UNROLL(n)    _Pragma(STRINGIFY(GCC unroll n))

enum {
    TILE = ATTENTION_TILE,
    GROUP = 6,       // columns of a register tile
    COLUMNS = 96,    // columns of a block: q, p and o, 24 KiB each at d = 64, stay in L2; more gained nothing
    LANES_MOST = 16, // numbers of the widest register
};

struct column {
    const float *q;     // (d)
    float *out;         // (wide) o, not yet divided by the sum
    float *sum;         // (lanes) partial sums of l
    float *y;           // (d_v)
    float *lse;         // or NULL
    float max;          // m
    int64_t begin, end; // the keys it sees
};

// 64 keys of one key-value head.
struct tile {
    int64_t first;             // position of the first
    enum dtype k_type, v_type; // F32, F16, BF16
    int64_t d, d_v;
    char *keys;                 // (d rounded up to 8, 64) of k_type
    const char *value[TILE];    // rows of d_v numbers of v_type in the cache
    const char *next_key[TILE]; // the keys of the tile after it, or anything that may be fetched
};

// What the including file defines; 1 <= n <= GROUP.

// The keys row[0..63], d numbers each, to t->keys.
static void transpose_keys(const struct tile *t, const char *const *row);
// p: (n, 64) = q keys, one chain of fused multiply-adds over d a number. Fetches the values.
static void score(float *p, const float *const *q, int n, const struct tile *t);
// Takes one column's scores s: (64), of which it sees begin..end-1, into its max and sum, and turns them into
// weights. Returns the factor exp(old max - new max) that `out` must still be multiplied by.
static float soften(float *s, struct column *c, float scale, int begin, int end);
// out[c] += p[c] values, a chain in order over begin..end-1. p: (n, 64). Fetches the next keys.
static void weigh(float *const *out, const float *p, int n, const struct tile *t, int begin, int end);

// Calls a kernel with n and type as constants, so that its sums stay in registers and its loops unroll.
#define WITH_TYPE(n, type, call)                                    \
    switch (type) {                                                 \
    case DTYPE_F32: call(n, DTYPE_F32); break;                      \
    case DTYPE_F16: call(n, DTYPE_F16); break;                      \
    default: TLM_ASSERT((type) == DTYPE_BF16); call(n, DTYPE_BF16); \
    }
#define WITH_CONSTANTS(n, type, call)       \
    switch (n) {                            \
    case 1: WITH_TYPE(1, type, call) break; \
    case 2: WITH_TYPE(2, type, call) break; \
    case 3: WITH_TYPE(3, type, call) break; \
    case 4: WITH_TYPE(4, type, call) break; \
    case 5: WITH_TYPE(5, type, call) break; \
    default: WITH_TYPE(GROUP, type, call)   \
    }

INLINE void fetch(const char *at)
{
    __builtin_prefetch(at, 0, 2);
    __builtin_prefetch(at + 64, 0, 2);
}

// Sixteen bytes, of which `bytes` may be read; zeros for the others.
INLINE __m128i load_bytes(const char *from, int64_t bytes)
{
    if (bytes >= 16) return _mm_loadu_si128((const void *)from);
    char part[16] = {0};
    memcpy(part, from, (size_t)bytes);
    return _mm_loadu_si128((const void *)part);
}

static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

struct workspace {
    char *keys; // (d rounded up to 8, 64) of at most four bytes
    float *p;   // (COLUMNS, 64)
    float *out; // (COLUMNS, wide): d_v rounded up to whole registers
    float *sum; // (COLUMNS, lanes)
    int64_t wide, lanes;
};

static inline size_t tiles_scratch(int64_t columns, int64_t d, int64_t d_v, int64_t lanes)
{
    if (columns > COLUMNS) columns = COLUMNS;
    return sizeof(float) * (size_t)(TILE * round_up(d, 8) + columns * (TILE + round_up(d_v, lanes) + lanes));
}

static struct column column_begin(const struct attention_args *a, const struct workspace *w, int64_t index,
                                  int64_t slot)
{
    int64_t row = index / a->head_count, head = a->head_begin + index % a->head_count;
    int64_t pos = a->pos[row];
    struct column c = {
        .q = (const float *)a->q + row * (int64_t)a->q_stride + head * a->head_dim,
        .out = w->out + slot * w->wide,
        .sum = w->sum + slot * w->lanes,
        .y = (float *)a->y + row * (int64_t)a->y_stride + head * a->value_dim,
        .lse = a->lse ? (float *)a->lse + row * (int64_t)a->lse_stride + head : NULL,
        .max = -INFINITY,
        .begin = a->window && pos >= a->window ? pos - a->window + 1 : 0,
        .end = pos + 1,
    };
    memset(c.out, 0, (size_t)w->wide * sizeof(float));
    memset(c.sum, 0, (size_t)w->lanes * sizeof(float));
    return c;
}

static void column_end(const struct column *c, int64_t d_v, int64_t lanes)
{
    float part[LANES_MOST];
    memcpy(part, c->sum, (size_t)lanes * sizeof(float));
    for (int64_t half = lanes / 2; half; half /= 2)
        for (int64_t i = 0; i < half; i++) part[i] += part[i + half];
    for (int64_t i = 0; i < d_v; i++) c->y[i] = c->out[i] / part[0];
    if (c->lse) *c->lse = c->max + logf(part[0]);
}

// The first key of a tile that a column sees, and the one after the last, counted in the tile.
static int first_seen(const struct column *c, const struct tile *t)
{
    return c->begin > t->first ? (int)(c->begin - t->first) : 0;
}

static int end_seen(const struct column *c, const struct tile *t)
{
    return c->end < t->first + TILE ? (int)(c->end - t->first) : TILE;
}

// Weighs the values for n columns: together over the keys that all of them see, singly over the keys before
// and after.
static void weigh_group(struct column *const *c, const float *p, int n, const struct tile *t)
{
    float *out[GROUP];
    int begin = 0, end = TILE;
    for (int i = 0; i < n; i++) {
        out[i] = c[i]->out;
        if (first_seen(c[i], t) > begin) begin = first_seen(c[i], t);
        if (end_seen(c[i], t) < end) end = end_seen(c[i], t);
    }
    if (begin >= end) begin = end = TILE; // nothing in common: all keys of each column come before `begin`
    for (int i = 0; i < n; i++) {
        int first = first_seen(c[i], t), last = end_seen(c[i], t) < begin ? end_seen(c[i], t) : begin;
        if (first < last) weigh(&out[i], p + i * TILE, 1, t, first, last);
    }
    if (begin < end) weigh(out, p, n, t, begin, end);
    for (int i = 0; i < n; i++)
        if (end < end_seen(c[i], t)) weigh(&out[i], p + i * TILE, 1, t, end, end_seen(c[i], t));
}

// One tile for the n columns that see a part of it.
static void attend_tile(struct column *const *c, int n, const struct tile *t, const struct workspace *w,
                        float scale)
{
    for (int g = 0; g < n; g += GROUP) {
        const float *q[GROUP];
        int count = n - g < GROUP ? n - g : GROUP;
        for (int i = 0; i < count; i++) q[i] = c[g + i]->q;
        score(w->p + g * TILE, q, count, t);
        for (int i = g; i < g + count; i++) {
            float factor = soften(w->p + i * TILE, c[i], scale, first_seen(c[i], t), end_seen(c[i], t));
            if (factor != 1) // a factor of 1 would change no bit
                for (int64_t k = 0; k < w->wide; k++) c[i]->out[k] *= factor;
        }
    }
    for (int g = 0; g < n; g += GROUP) weigh_group(c + g, w->p + g * TILE, n - g < GROUP ? n - g : GROUP, t);
}

// Addresses of a tile's keys. Those that no column sees and that lie in a block of which no key is seen get
// another's.
static void locate(const char **row, const struct paged_kv *kv, const struct attention_args *a, int64_t tile,
                   int64_t first, int64_t end)
{
    for (int j = 0; j < TILE; j += KV_BLOCK) {
        int64_t key = tile + j;
        if (key + KV_BLOCK <= first) key = first;
        if (key >= end) key = end - 1;
        const char *block = kv->data + (size_t)a->blocks[key / KV_BLOCK] * kv->block_stride +
                            (size_t)a->kv_head * kv->head_stride;
        for (int i = 0; i < KV_BLOCK; i++) row[j + i] = block + (size_t)i * kv->token_stride;
    }
}

static void attend_block(const struct attention_args *a, const struct workspace *w, int64_t first_column,
                         int n)
{
    struct column column[COLUMNS];
    int64_t first = INT64_MAX, end = 0; // keys that some column sees
    for (int i = 0; i < n; i++) {
        column[i] = column_begin(a, w, first_column + i, i);
        if (column[i].begin < first) first = column[i].begin;
        if (column[i].end > end) end = column[i].end;
    }
    struct tile t = {
        .k_type = a->k.type, .v_type = a->v.type, .d = a->head_dim, .d_v = a->value_dim, .keys = w->keys};
    for (t.first = first / TILE * TILE; t.first < end; t.first += TILE) {
        struct column *seeing[COLUMNS];
        const char *key[TILE];
        int count = 0;
        for (int i = 0; i < n; i++)
            if (column[i].begin < t.first + TILE && column[i].end > t.first) seeing[count++] = &column[i];
        if (!count) continue;
        locate(key, &a->k, a, t.first, first, end);
        locate(t.value, &a->v, a, t.first, first, end);
        locate(t.next_key, &a->k, a, t.first + TILE, first, end);
        transpose_keys(&t, key);
        attend_tile(seeing, count, &t, w, a->scale);
    }
    for (int i = 0; i < n; i++) column_end(&column[i], a->value_dim, w->lanes);
}

static void attend(const struct attention_args *a, int64_t lanes)
{
    int64_t columns = a->rows * a->head_count, most = columns < COLUMNS ? columns : COLUMNS;
    struct workspace w = {.wide = round_up(a->value_dim, lanes), .lanes = lanes, .keys = a->scratch};
    w.p = (float *)a->scratch + TILE * round_up(a->head_dim, 8);
    w.out = w.p + most * TILE;
    w.sum = w.out + most * w.wide;
    for (int64_t c = 0; c < columns; c += most)
        attend_block(a, &w, c, (int)(columns - c < most ? columns - c : most));
}

#endif
