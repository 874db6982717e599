// ops/attention_tiles.h -- how the AVX2 and AVX-512 forms of attention walk over columns and tiles of keys.
//
// A column is a row and a query head; all columns of a call share one key-value head. The formula and the
// order of keys are those of ops/attention.c. The walk, with the kernels that the including file defines:
//
//     for each block of at most COLUMNS columns, for each tile of 64 keys that one of them sees
//         take_keys, take_values   what the cache's layout (ops/paged.h) does not give as the kernels read it
//         score                    p[c][j] = sum_i q[c][i] keys[i][j]   register tiles of keys x GROUP columns
//         soften                   p[c][j] = exp(s - m), s the score of p[c][j], 0 where c does not see j; m, l updated
//         weigh                    o[c][i] += sum_j p[c][j] v[j][i]     register tiles of numbers x GROUP columns
//
// Row independence: plain values are weighed by one chain of multiply-adds over exactly the keys that a column
// sees, quantized ones by whole numbers that are 0 for the others. So a tile that a column does not see leaves
// the column alone, and what stands in the cache beyond (zeros, NaN) enters nothing, whatever the company.
//
// Memory: score and weigh fetch what comes next into L2, a line or two an iteration, so that fetching takes as long as computing.
// Fetches that come faster wait for the few miss buffers there are, and all loads behind them: bursts gain nothing, and lines
// fetched within the first half of the iterations cost a third of the speed of Q8_0. In decoding F16 this more than doubles the speed.
#ifndef OPS_ATTENTION_TILES_H
#define OPS_ATTENTION_TILES_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "ops/paged.h"

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
    void *codes;        // q as take_query() wants it
    float *out;         // (wide) o, not yet divided by the sum; in the call's state where it has one
    float *sum;         // (lanes) partial sums of l, likewise
    float *kept_max;    // where the state has m, or NULL
    float *y;           // (d_v)
    float *lse;         // or NULL
    float max;          // m, in units of SCORE_UNIT
    float slope;        // of the distance to a key, if slopes are in use, likewise
    int64_t begin, end; // the keys it sees
};

enum { TILE_BLOCKS = TILE / KV_BLOCK };

// Lines of memory that will be read soon: `size` bytes from each of chunk .. end - 1.
struct fetcher {
    const char *const *chunk, *const *end;
    int64_t at, size;
};

// 64 keys of one key-value head. As they are stored: rows[b] are the 16 rows of a block; as the kernels read them:
//     plain keys        number i of the keys 16 b .. 16 b + 15 at key[b] + i * key_step
//     plain values      value 16 b + i, d_v numbers, at value[b] + i * value_step
//     quantized ones    the stored rows
// E4M3 becomes f16, which holds all of it, before a kernel reads it: once for all columns of a block.
struct tile {
    int64_t first;   // position of the first
    int64_t located; // the tile that next_keys and next_values belong to
    int64_t d, d_v;
    const char *key_rows[TILE_BLOCKS], *value_rows[TILE_BLOCKS];
    const char *next_keys[TILE_BLOCKS],
        *next_values[TILE_BLOCKS]; // of the tile after it, or anything that may be fetched
    enum dtype k_type, v_type;     // as the kernels read them
    const char *key[TILE_BLOCKS];
    int64_t key_step;
    const char *value[TILE_BLOCKS];
    int64_t value_step;
    struct fetcher in_score, in_weigh; // what these fetch
};

struct workspace {
    char *keys;    // (d rounded up to 8, 64) of at most four bytes
    float *rows;   // (64, d) keys that had to be unpacked before they are transposed
    float *values; // (64, d_v) values that had to be unpacked
    float *p;      // (COLUMNS, 64)
    float *out;    // (COLUMNS, wide): d_v rounded up to whole registers
    float *sum;    // (COLUMNS, lanes)
    char *codes;   // (COLUMNS, code_bytes)
    int64_t wide, lanes, code_bytes;
};

// What the including file defines; 1 <= n <= GROUP.

// Bytes of a column's codes.
static int64_t query_bytes(int64_t d);
// c->codes from c->q.
static void take_query(const struct column *c, int64_t d);
// Keys and values that the cache holds quantized in KV_KEYS and KV_VALUES: to what the kernels read.
static void take_keys(struct tile *t, const struct workspace *w);
static void take_values(struct tile *t, const struct workspace *w);
// to[0, count), f16 = the numbers of as many codes of E4M3.
static void widen_e4m3(uint16_t *to, const char *from, int64_t count);
// The keys row[0..63] in rows, d numbers of t->k_type each, to w->keys, (d, 64).
static void transpose_keys(const struct tile *t, const struct workspace *w, const char *const *row);
// p: (n, 64) = q keys, a fixed order of sums a number; blocks that no column sees may be left as they are. Fetches the values.
static void score(float *p, struct column *const *c, int n, struct tile *t);
// Takes one column's products s: (64) with the keys from `first` on, of which it sees begin..end-1, into its max and
// sum, and turns them into weights. Returns the factor exp(old max - new max) that `out` must still be multiplied by.
static float soften(float *s, struct column *c, const struct attention_args *a, int64_t first, int begin,
                    int end);
// o += p v for n columns; p: (n, 64), 0 for keys that are not seen. Fetches the next keys.
static void weigh(struct column *const *c, const float *p, int n, struct tile *t);
// The same for plain values over begin..end-1, one chain in order a number.
static void weigh_range(float *const *out, const float *p, int n, struct tile *t, int begin, int end);

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

// The next lines.
INLINE void fetch(struct fetcher *f, const int lines)
{
    if (f->chunk == f->end) return;
    UNROLL(4)
    for (int i = 0; i < lines; i++) __builtin_prefetch(*f->chunk + f->at + 64 * i, 0, 2);
    f->at += 64 * lines;
    if (f->at >= f->size) f->at = 0, f->chunk++;
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

// The next `bytes` of scratch; NULL while they are only counted.
static void *carve(void *scratch, size_t *at, int64_t bytes)
{
    void *part = scratch ? (char *)scratch + *at : NULL;
    *at += (size_t)round_up(bytes, 64);
    return part;
}

// Lays out the workspace in `scratch` (or only counts) and returns its bytes.
static size_t workspace_init(struct workspace *w, void *scratch, int64_t columns, int64_t d, int64_t d_v,
                             int64_t lanes)
{
    size_t at = 0;
    if (columns > COLUMNS) columns = COLUMNS;
    w->lanes = lanes;
    w->wide = round_up(d_v, lanes);
    w->code_bytes = round_up(query_bytes(d), 64);
    w->keys = carve(scratch, &at, 4 * TILE * round_up(d, 8));
    w->rows = carve(scratch, &at, 4 * TILE * d);
    w->values = carve(scratch, &at, 4 * TILE * d_v);
    w->p = carve(scratch, &at, 4 * TILE * columns);
    w->out = carve(scratch, &at, 4 * w->wide * columns);
    w->sum = carve(scratch, &at, 4 * lanes * columns);
    w->codes = carve(scratch, &at, w->code_bytes * columns);
    return at;
}

static inline size_t tiles_scratch(int64_t columns, int64_t d, int64_t d_v, int64_t lanes)
{
    struct workspace w;
    return workspace_init(&w, NULL, columns, d, d_v, lanes);
}

static struct column column_begin(const struct attention_args *a, const struct workspace *w, int64_t index,
                                  int64_t slot)
{
    int64_t row = index / a->head_count, head = a->head_begin + index % a->head_count;
    int64_t pos = a->pos[row], size = attention_state(a->value_dim);
    float *state = a->state ? (float *)a->state + row * (int64_t)a->state_stride + head * size : NULL;
    struct column c = {
        .q = (const float *)a->q + row * (int64_t)a->q_stride + head * a->head_dim,
        .codes = w->codes + slot * w->code_bytes,
        .out = state ? state : w->out + slot * w->wide,
        .sum = state ? state + size - 32 : w->sum + slot * w->lanes,
        .kept_max = state ? state + size - 16 : NULL,
        .y = (float *)a->y + row * (int64_t)a->y_stride + head * a->value_dim,
        .lse = a->lse ? (float *)a->lse + row * (int64_t)a->lse_stride + head : NULL,
        .max = a->sinks ? ((const float *)a->sinks)[head] / SCORE_UNIT : -INFINITY,
        .slope = a->slopes ? ((const float *)a->slopes)[head] / SCORE_UNIT : 0,
        .begin = a->window && pos >= a->window ? pos - a->window + 1 : 0,
        .end = pos + 1,
    };
    if (a->key_begin) {
        c.max = *c.kept_max;
    } else {
        memset(c.out, 0, (size_t)w->wide * sizeof(float));
        memset(c.sum, 0, (size_t)w->lanes * sizeof(float));
        if (a->sinks) c.sum[0] = 1;
    }
    if (paged_quantized(a->k.type) && a->k.layout == KV_KEYS) take_query(&c, a->head_dim);
    return c;
}

static void column_end(const struct column *c, const struct attention_args *a, int64_t lanes)
{
    float part[LANES_MOST];
    if (a->key_end) {
        *c->kept_max = c->max;
        return;
    }
    memcpy(part, c->sum, (size_t)lanes * sizeof(float));
    for (int64_t half = lanes / 2; half; half /= 2)
        for (int64_t i = 0; i < half; i++) part[i] += part[i + half];
    for (int64_t i = 0; i < a->value_dim; i++) c->y[i] = c->out[i] / part[0];
    if (c->lse) *c->lse = c->max * SCORE_UNIT + logf(part[0]);
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

// The blocks of a tile up to the last of which one of n columns sees a key.
static inline int blocks_seen(struct column *const *c, int n, const struct tile *t)
{
    int end = 0;
    for (int i = 0; i < n; i++)
        if (end_seen(c[i], t) > end) end = end_seen(c[i], t);
    return (end + KV_BLOCK - 1) / KV_BLOCK;
}

// Weighs the values for n columns: together over the keys that all of them see, singly over the keys before
// and after.
static void weigh_plain(struct column *const *c, const float *p, int n, struct tile *t)
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
        if (first < last) weigh_range(&out[i], p + i * TILE, 1, t, first, last);
    }
    if (begin < end) weigh_range(out, p, n, t, begin, end);
    for (int i = 0; i < n; i++)
        if (end < end_seen(c[i], t)) weigh_range(&out[i], p + i * TILE, 1, t, end, end_seen(c[i], t));
}

// One tile for the n columns that see a part of it.
static void attend_tile(struct column *const *c, int n, struct tile *t, const struct workspace *w,
                        const struct attention_args *a)
{
    for (int g = 0; g < n; g += GROUP) {
        int count = n - g < GROUP ? n - g : GROUP;
        score(w->p + g * TILE, c + g, count, t);
        for (int i = g; i < g + count; i++) {
            float factor = soften(w->p + i * TILE, c[i], a, t->first, first_seen(c[i], t), end_seen(c[i], t));
            if (factor != 1) // a factor of 1 would change no bit
                for (int64_t k = 0; k < w->wide; k++) c[i]->out[k] *= factor;
        }
    }
    for (int g = 0; g < n; g += GROUP) weigh(c + g, w->p + g * TILE, n - g < GROUP ? n - g : GROUP, t);
}

// Where a tile's blocks stand. Those of which no key is seen get another's place.
static void locate(const char **rows, const struct paged_kv *kv, const struct attention_args *a, int64_t tile,
                   int64_t first, int64_t end)
{
    for (int b = 0; b < TILE_BLOCKS; b++) {
        int64_t key = tile + b * KV_BLOCK;
        if (key + KV_BLOCK <= first) key = first;
        if (key >= end) key = end - 1;
        rows[b] = paged_rows(kv, a->blocks[key / KV_BLOCK], a->kv_head);
    }
}

// Keys or values that become something else before they are read, or are done with sooner than fetched.
static inline bool is_wanted_soon(const struct paged_kv *kv)
{
    return paged_quantized(kv->type) || kv->type == DTYPE_F8_E4M3;
}

// Moves t to the tile at t->first. Other keys and values take long to compute: scoring fetches the tile's values, weighing the next
// keys. What is wanted soon is fetched a tile ahead, in each half what it reads itself.
static void locate_tile(struct tile *t, const struct attention_args *a, int64_t first, int64_t end)
{
    const int64_t key_bytes = KV_BLOCK * (int64_t)a->k.token_stride,
                  value_bytes = KV_BLOCK * (int64_t)a->v.token_stride;
    const bool soon = is_wanted_soon(&a->k) && is_wanted_soon(&a->v);
    if (t->located == t->first) {
        memcpy(t->key_rows, t->next_keys, sizeof t->key_rows);
        memcpy(t->value_rows, t->next_values, sizeof t->value_rows);
    } else {
        locate(t->key_rows, &a->k, a, t->first, first, end);
        locate(t->value_rows, &a->v, a, t->first, first, end);
        for (int64_t i = 0; soon && i < TILE_BLOCKS * value_bytes; i += 64)
            __builtin_prefetch(t->value_rows[i / value_bytes] + i % value_bytes, 0, 2);
    }
    t->located = t->first + TILE;
    locate(t->next_keys, &a->k, a, t->located, first, end);
    locate(t->next_values, &a->v, a, t->located, first, end);
    const struct fetcher keys = {t->next_keys, t->next_keys + TILE_BLOCKS, 0, key_bytes};
    t->in_score = soon ? keys : (struct fetcher){t->value_rows, t->value_rows + TILE_BLOCKS, 0, value_bytes};
    t->in_weigh =
        soon ? (struct fetcher){t->next_values, t->next_values + TILE_BLOCKS, 0, value_bytes} : keys;
}

// Quantized rows of a tile that stands in KV_ROWS to f32.
static void unpack_rows(float *to, const struct paged_kv *kv, const char *const *rows, int64_t d)
{
    row_to_real_fn *to_real = row_from_quantized_ref(kv->type);
    for (int j = 0; j < TILE; j++)
        to_real(to + j * d, rows[j / KV_BLOCK] + (size_t)(j % KV_BLOCK) * kv->token_stride, d);
}

// Rows of E4M3 of a tile that stands in KV_ROWS to f16.
static void widen_rows(uint16_t *to, const struct paged_kv *kv, const char *const *rows, int64_t d)
{
    for (int j = 0; j < TILE; j++)
        widen_e4m3(to + j * d, rows[j / KV_BLOCK] + (size_t)(j % KV_BLOCK) * kv->token_stride, d);
}

static void key_rows_to_columns(struct tile *t, const struct attention_args *a, const struct workspace *w)
{
    const char *row[TILE];
    if (paged_quantized(a->k.type))
        unpack_rows(w->rows, &a->k, t->key_rows, t->d), t->k_type = DTYPE_F32;
    else if (a->k.type == DTYPE_F8_E4M3)
        widen_rows((uint16_t *)w->rows, &a->k, t->key_rows, t->d), t->k_type = DTYPE_F16;
    for (int j = 0; j < TILE; j++)
        row[j] = t->k_type != a->k.type
                     ? (const char *)w->rows + (size_t)j * dtype_row_bytes(t->k_type, t->d)
                     : t->key_rows[j / KV_BLOCK] + (size_t)(j % KV_BLOCK) * a->k.token_stride;
    transpose_keys(t, w, row);
    t->key_step = TILE * (t->k_type == DTYPE_F32 ? 4 : 2);
    for (int b = 0; b < TILE_BLOCKS; b++) t->key[b] = w->keys + b * t->key_step / TILE_BLOCKS;
}

static void key_columns_widened(struct tile *t, const struct workspace *w)
{
    const int64_t numbers = KV_BLOCK * t->d;
    uint16_t *to = (uint16_t *)w->keys;
    t->k_type = DTYPE_F16;
    t->key_step = KV_BLOCK * 2;
    for (int b = 0; b < TILE_BLOCKS; b++, to += numbers) {
        widen_e4m3(to, t->key_rows[b], numbers);
        t->key[b] = (const char *)to;
    }
}

// Values unpacked to w->values, as numbers of `type`.
static void value_rows_unpacked(struct tile *t, const struct workspace *w, enum dtype type)
{
    t->v_type = type;
    t->value_step = (int64_t)dtype_row_bytes(type, t->d_v);
    for (int b = 0; b < TILE_BLOCKS; b++)
        t->value[b] = (const char *)w->values + b * KV_BLOCK * t->value_step;
}

static void take_tile(struct tile *t, const struct attention_args *a, const struct workspace *w)
{
    t->k_type = a->k.type;
    t->v_type = a->v.type;
    t->key_step = KV_BLOCK * (t->k_type == DTYPE_F32 ? 4 : 2);
    t->value_step = (int64_t)a->v.token_stride;
    for (int b = 0; b < TILE_BLOCKS; b++) t->key[b] = t->key_rows[b], t->value[b] = t->value_rows[b];
    if (a->k.layout == KV_ROWS)
        key_rows_to_columns(t, a, w);
    else if (paged_quantized(a->k.type))
        take_keys(t, w);
    else if (a->k.type == DTYPE_F8_E4M3)
        key_columns_widened(t, w);
    if (a->v.layout == KV_VALUES) {
        take_values(t, w);
    } else if (paged_quantized(a->v.type)) {
        unpack_rows(w->values, &a->v, t->value_rows, t->d_v);
        value_rows_unpacked(t, w, DTYPE_F32);
    } else if (a->v.type == DTYPE_F8_E4M3) {
        widen_rows((uint16_t *)w->values, &a->v, t->value_rows, t->d_v);
        value_rows_unpacked(t, w, DTYPE_F16);
    }
}

static void attend_block(const struct attention_args *a, const struct workspace *w, int64_t first_column,
                         int n)
{
    struct column column[COLUMNS];
    int64_t first = INT64_MAX, end = 0; // keys of the call that some column sees
    for (int i = 0; i < n; i++) {
        column[i] = column_begin(a, w, first_column + i, i);
        if (column[i].begin < first) first = column[i].begin;
        if (column[i].end > end) end = column[i].end;
    }
    if (first < a->key_begin) first = a->key_begin;
    if (a->key_end && end > a->key_end) end = a->key_end;
    struct tile t = {.d = a->head_dim, .d_v = a->value_dim, .located = -1};
    for (t.first = first / TILE * TILE; t.first < end; t.first += TILE) {
        struct column *seeing[COLUMNS];
        int count = 0;
        for (int i = 0; i < n; i++)
            if (column[i].begin < t.first + TILE && column[i].end > t.first) seeing[count++] = &column[i];
        if (!count) continue;
        locate_tile(&t, a, first, end);
        take_tile(&t, a, w);
        attend_tile(seeing, count, &t, w, a);
    }
    for (int i = 0; i < n; i++) column_end(&column[i], a, w->lanes);
}

static void attend(const struct attention_args *a, int64_t lanes)
{
    int64_t columns = a->rows * a->head_count, most = columns < COLUMNS ? columns : COLUMNS;
    struct workspace w;
    workspace_init(&w, a->scratch, columns, a->head_dim, a->value_dim, lanes);
    for (int64_t c = 0; c < columns; c += most)
        attend_block(a, &w, c, (int)(columns - c < most ? columns - c : most));
}

#endif
