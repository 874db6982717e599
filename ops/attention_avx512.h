// ops/attention_avx512.h -- the kernels of attention that all AVX-512 tiers share: register tiles of 64 numbers x 6
// columns.
//
// F16 and BF16 are widened as they are loaded, beside the multiply-adds: keeping f32 copies of a tile costs more in
// stores than it saves. On a Zen 4, measured by tests/bench_attention.c at d = 64 and 4 query heads a key-value head: 77%
// of the FMA peak for prompts, counting only the keys a row sees; one row after 16384 tokens of F16 reads its keys and
// values at 76% (one core) to 94% (two) of the speed of a plain reading loop.
#ifndef OPS_ATTENTION_AVX512_H
#define OPS_ATTENTION_AVX512_H

#include <immintrin.h>

#define SCORE_UNIT 0.69314718056f // scores count in units of ln 2, which saves exp() a reduction
#include "ops/attention_tiles.h"
#include "ops/exp_avx512.h"

enum { LANES = 16 };

// sum += a * b. As a tied operand of assembly, because gcc 12 keeps a wide tile of accumulators on the stack
// when it allocates the registers of the intrinsic.
INLINE void multiply_add(__m512 *sum, __m512 a, __m512 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

// Sixteen numbers of `type`; those outside `some` are 0 and not read.
INLINE __m512 load_wide(const char *from, const enum dtype type, __mmask16 some)
{
    if (type == DTYPE_F32) return _mm512_maskz_loadu_ps(some, from);
    __m256i h = _mm256_maskz_loadu_epi16(some, from);
    if (type == DTYPE_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

// A code shifted into place lacks 8 in the exponent, which numbers below 2^-6 do not have: they come from a table of high bytes.
static void widen_e4m3(uint16_t *to, const char *from, int64_t count)
{
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 0x18, 0x1c, 0x1e, 0x20, 0x21, 0x22, 0x23, 0, 0, 0, 0, 0, 0, 0, 0));
    for (int64_t i = 0; i < count; i += 32) {
        const __mmask32 some = count - i >= 32 ? ~0u : (1u << (count - i)) - 1;
        __m512i x = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, from + i));
        __m512i rest = _mm512_and_si512(x, _mm512_set1_epi16(0x7f));
        __m512i h = _mm512_add_epi16(_mm512_slli_epi16(rest, 7), _mm512_set1_epi16(0x2000));
        __m512i place = _mm512_or_si512(_mm512_slli_epi16(rest, 8), _mm512_set1_epi16(0x80)); // low byte: 0
        h = _mm512_mask_mov_epi16(h, _mm512_cmplt_epi16_mask(rest, _mm512_set1_epi16(8)),
                                  _mm512_shuffle_epi8(table, place));
        h = _mm512_mask_mov_epi16(h, _mm512_cmpeq_epi16_mask(rest, _mm512_set1_epi16(0x7f)),
                                  _mm512_set1_epi16(0x7e00));
        h = _mm512_ternarylogic_epi32(h, x, _mm512_set1_epi16((int16_t)0x8000), 0xf8); // h | (x & sign)
        _mm512_mask_storeu_epi16(to + i, some, h);
    }
}

// ---- transposing keys ---------------------------------------------------------------------------------

// Sixteen bytes at `at` of four rows that lie `step` apart in the list, one a lane of 128 bits.
INLINE __m512i load_lanes(const char *const *row, int step, int64_t at, int64_t bytes)
{
    __m512i x = _mm512_castsi128_si512(load_bytes(row[0] + at, bytes));
    x = _mm512_inserti32x4(x, load_bytes(row[step] + at, bytes), 1);
    x = _mm512_inserti32x4(x, load_bytes(row[2 * step] + at, bytes), 2);
    return _mm512_inserti32x4(x, load_bytes(row[3 * step] + at, bytes), 3);
}

// 32 keys x 8 numbers of 16 bits. Lane l of x[t] holds key 8 l + t, so that the 8 x 8 transpositions inside
// the lanes leave each number's 32 keys in order.
INLINE void transpose_16(char *to, const char *const *row, int64_t at, int64_t bytes)
{
    __m512i x[8], y[8];
    UNROLL(8)
    for (int t = 0; t < 8; t++) x[t] = load_lanes(row + t, 8, at, bytes);
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        y[t] = _mm512_unpacklo_epi16(x[2 * t], x[2 * t + 1]);     // numbers 0..3 of the keys 2 t and 2 t + 1
        y[4 + t] = _mm512_unpackhi_epi16(x[2 * t], x[2 * t + 1]); // numbers 4..7
    }
    // x[t]: numbers 2 t and 2 t + 1 of the keys 0..3 of a lane; x[4 + t]: of the keys 4..7.
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        const __m512i *from = &y[t / 2 * 4];
        x[t] = t % 2 ? _mm512_unpackhi_epi32(from[0], from[1]) : _mm512_unpacklo_epi32(from[0], from[1]);
        x[4 + t] = t % 2 ? _mm512_unpackhi_epi32(from[2], from[3]) : _mm512_unpacklo_epi32(from[2], from[3]);
    }
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        _mm512_store_si512(to + (2 * t) * TILE * 2, _mm512_unpacklo_epi64(x[t], x[4 + t]));
        _mm512_store_si512(to + (2 * t + 1) * TILE * 2, _mm512_unpackhi_epi64(x[t], x[4 + t]));
    }
}

// 16 keys x 4 floats. Lane l of x[t] holds key 4 l + t.
INLINE void transpose_32(char *to, const char *const *row, int64_t at, int64_t bytes)
{
    __m512 x[4];
    UNROLL(4)
    for (int t = 0; t < 4; t++) x[t] = _mm512_castsi512_ps(load_lanes(row + t, 4, at, bytes));
    // a and b: numbers 0 and 1 of two keys each; c and d: numbers 2 and 3.
    __m512 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpacklo_ps(x[2], x[3]);
    __m512 c = _mm512_unpackhi_ps(x[0], x[1]), d = _mm512_unpackhi_ps(x[2], x[3]);
    _mm512_store_ps(to, _mm512_shuffle_ps(a, b, 0x44));
    _mm512_store_ps(to + TILE * 4, _mm512_shuffle_ps(a, b, 0xee));
    _mm512_store_ps(to + 2 * TILE * 4, _mm512_shuffle_ps(c, d, 0x44));
    _mm512_store_ps(to + 3 * TILE * 4, _mm512_shuffle_ps(c, d, 0xee));
}

static void transpose_keys(const struct tile *t, const struct workspace *w, const char *const *row)
{
    if (t->k_type == DTYPE_F32) {
        for (int64_t i = 0; i < t->d; i += 4)
            for (int j = 0; j < TILE; j += 16)
                transpose_32(w->keys + (i * TILE + j) * 4, row + j, 4 * i, 4 * (t->d - i));
    } else {
        for (int64_t i = 0; i < t->d; i += 8)
            for (int j = 0; j < TILE; j += 32)
                transpose_16(w->keys + (i * TILE + j) * 2, row + j, 2 * i, 2 * (t->d - i));
    }
}

// ---- the register kernels -----------------------------------------------------------------------------

// The keys of blocks first .. first + blocks - 1.
INLINE void score_blocks(float *p, struct column *const *column, const int n, const enum dtype type,
                         const int blocks, int first, struct tile *t)
{
    const char *keys[TILE_BLOCKS];
    const float *q[GROUP];
    const int64_t d = t->d, step = t->key_step;
    UNROLL(4)
    for (int b = 0; b < blocks; b++) keys[b] = t->key[first + b];
    UNROLL(6)
    for (int c = 0; c < n; c++) q[c] = column[c]->q;
    struct fetcher fetcher = t->in_score;
    __m512 sum[GROUP][TILE_BLOCKS];
    UNROLL(24)
    for (int s = 0; s < blocks * n; s++) sum[s / blocks][s % blocks] = _mm512_setzero_ps();
    for (int64_t i = 0; i < d; i++) {
        __m512 k[TILE_BLOCKS];
        fetch(&fetcher, type == DTYPE_F32 ? 4 : 2);
        UNROLL(4)
        for (int j = 0; j < blocks; j++) k[j] = load_wide(keys[j] + i * step, type, (__mmask16)-1);
        UNROLL(6)
        for (int c = 0; c < n; c++) {
            __m512 x = _mm512_set1_ps(q[c][i]);
            UNROLL(4)
            for (int j = 0; j < blocks; j++) multiply_add(&sum[c][j], k[j], x);
        }
    }
    t->in_score = fetcher;
    UNROLL(24)
    for (int s = 0; s < blocks * n; s++)
        _mm512_store_ps(p + s / blocks * TILE + (first + s % blocks) * 16, sum[s / blocks][s % blocks]);
}

// Only blocks of which a column sees a key: on the diagonal of a prompt that leaves out a third of its tile.
INLINE void score_columns(float *p, struct column *const *column, const int n, const enum dtype type,
                          struct tile *t)
{
    int end = blocks_seen(column, n, t);
    if (end == TILE_BLOCKS)
        score_blocks(p, column, n, type, TILE_BLOCKS, 0, t);
    else
        for (int b = 0; b < end; b++) score_blocks(p, column, n, type, 1, b, t);
}

#define SCORE(n, type) score_columns(p, c, n, type, t)
static void score_plain(float *p, struct column *const *c, int n, struct tile *t)
{
    WITH_CONSTANTS(n, t->k_type, SCORE);
}

// Numbers at .. at + 16 * parts - 1 of the values; `some`: which of the last 16 there are.
INLINE void weigh_slice(float *const *out, const float *p, const int n, const enum dtype type,
                        const int parts, struct tile *t, int begin, int end, int64_t at, __mmask16 some)
{
    const int size = type == DTYPE_F32 ? 4 : 2;
    struct fetcher fetcher = t->in_weigh;
    __m512 sum[GROUP][4];
    UNROLL(24)
    for (int s = 0; s < n * parts; s++)
        sum[s / parts][s % parts] = _mm512_load_ps(out[s / parts] + at + s % parts * 16);
    for (int j = begin; j < end; j++) {
        __m512 v[4];
        const char *value = t->value[j / KV_BLOCK] + j % KV_BLOCK * t->value_step;
        fetch(&fetcher, type == DTYPE_F32 ? 4 : 2);
        UNROLL(4)
        for (int i = 0; i < parts; i++) v[i] = load_wide(value + (at + 16 * i) * size, type, some);
        UNROLL(6)
        for (int c = 0; c < n; c++) {
            __m512 x = _mm512_set1_ps(p[c * TILE + j]);
            UNROLL(4)
            for (int i = 0; i < parts; i++) multiply_add(&sum[c][i], v[i], x);
        }
    }
    t->in_weigh = fetcher;
    UNROLL(24)
    for (int s = 0; s < n * parts; s++)
        _mm512_store_ps(out[s / parts] + at + s % parts * 16, sum[s / parts][s % parts]);
}

INLINE void weigh_columns(float *const *out, const float *p, const int n, const enum dtype type,
                          struct tile *t, int begin, int end)
{
    const __mmask16 all = (__mmask16)-1;
    int64_t at = 0;
    for (; at + 64 <= t->d_v; at += 64) weigh_slice(out, p, n, type, 4, t, begin, end, at, all);
    for (; at + 16 <= t->d_v; at += 16) weigh_slice(out, p, n, type, 1, t, begin, end, at, all);
    if (at < t->d_v)
        weigh_slice(out, p, n, type, 1, t, begin, end, at, (__mmask16)((1 << (t->d_v - at)) - 1));
}

#define WEIGH(n, type) weigh_columns(out, p, n, type, t, begin, end)
static void weigh_range(float *const *out, const float *p, int n, struct tile *t, int begin, int end)
{
    WITH_CONSTANTS(n, t->v_type, WEIGH);
}

// Scores from products with the keys at first .. first + 15.
static inline __m512 score_of(__m512 x, const struct column *c, const struct attention_args *a, int64_t first)
{
    if (a->softcap > 0) {
        __m512 cap = _mm512_set1_ps(a->softcap);
        x = _mm512_div_ps(_mm512_mul_ps(x, _mm512_set1_ps(a->scale)), cap);
        x = _mm512_mul_ps(_mm512_set1_ps(a->softcap / SCORE_UNIT), tanh_avx512(x));
    } else {
        x = _mm512_mul_ps(x, _mm512_set1_ps(a->scale / SCORE_UNIT));
    }
    if (a->slopes) {
        __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        __m512i distance = _mm512_add_epi32(_mm512_set1_epi32((int)(first + 1 - c->end)), lane);
        x = _mm512_fmadd_ps(_mm512_set1_ps(c->slope), _mm512_cvtepi32_ps(distance), x);
    }
    return x;
}

static float soften(float *s, struct column *c, const struct attention_args *a, int64_t first, int begin,
                    int end)
{
    const __m512 low = _mm512_set1_ps(-INFINITY);
    uint64_t seen = ~(uint64_t)0 >> (TILE - (end - begin)) << begin;
    __m512 x[4];
    UNROLL(4)
    for (int j = 0; j < 4; j++) {
        x[j] = score_of(_mm512_load_ps(s + 16 * j), c, a, first + 16 * j);
        x[j] = _mm512_mask_mov_ps(low, (__mmask16)(seen >> 16 * j), x[j]);
    }
    float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    float factor = 1;
    if (top > c->max) {
        factor = _mm512_cvtss_f32(exp2_avx512(_mm512_set1_ps(c->max - top)));
        c->max = top;
    }
    // Scores that overflowed to -inf weigh nothing.
    __m512 base = _mm512_set1_ps(c->max == -INFINITY ? 0 : c->max);
    UNROLL(4)
    for (int j = 0; j < 4; j++) {
        x[j] = exp2_avx512(_mm512_sub_ps(x[j], base));
        _mm512_store_ps(s + 16 * j, x[j]);
    }
    __m512 sum = _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
    _mm512_store_ps(c->sum, _mm512_fmadd_ps(_mm512_load_ps(c->sum), _mm512_set1_ps(factor), sum));
    return factor;
}

#endif
