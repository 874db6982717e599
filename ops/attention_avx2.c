// ops/attention_avx2.c -- attention with AVX2 and FMA: register tiles of 16 numbers x 6 columns.
//
// ops/attention_tiles.h has the walk. F16 and BF16 are widened as they are loaded, beside the multiply-adds.
// In the measurements that ops/attention_avx512.h gives, this form reaches 62% to 70% of the FMA peak, and 72% of the
// reading loop on one core. Quantized keys and values become f32, a tile at a time.
#include <immintrin.h>

#define SCORE_UNIT 1.0f // scores are natural logarithms
#include "ops/attention_tiles.h"
#include "ops/exp_avx2.h"

enum { LANES = 8 };

// sum += a * b; assembly for the reason that ops/attention_avx512.c gives.
INLINE void multiply_add(__m256 *sum, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}

static inline __m256i lane_numbers(void)
{
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}

// Eight numbers of `type`; from `count` on they are 0 and not read.
INLINE __m256 load_wide(const char *from, const enum dtype type, int64_t count)
{
    if (type == DTYPE_F32) {
        if (count >= LANES) return _mm256_loadu_ps((const float *)from);
        return _mm256_maskload_ps((const float *)from,
                                  _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lane_numbers()));
    }
    __m128i h = load_bytes(from, 2 * count);
    if (type == DTYPE_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

// A code shifted into place lacks 8 in the exponent, which numbers below 2^-6 do not have: they come from a table of high bytes.
static void widen_e4m3(uint16_t *to, const char *from, int64_t count)
{
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0x18, 0x1c, 0x1e, 0x20, 0x21, 0x22, 0x23, 0, 0, 0, 0, 0, 0, 0, 0));
    for (int64_t i = 0; i < count; i += 16) {
        __m256i x = _mm256_cvtepi8_epi16(load_bytes(from + i, count - i));
        __m256i rest = _mm256_and_si256(x, _mm256_set1_epi16(0x7f));
        __m256i h = _mm256_add_epi16(_mm256_slli_epi16(rest, 7), _mm256_set1_epi16(0x2000));
        __m256i place = _mm256_or_si256(_mm256_slli_epi16(rest, 8), _mm256_set1_epi16(0x80)); // low byte: 0
        h = _mm256_blendv_epi8(h, _mm256_shuffle_epi8(table, place),
                               _mm256_cmpgt_epi16(_mm256_set1_epi16(8), rest));
        h = _mm256_blendv_epi8(h, _mm256_set1_epi16(0x7e00),
                               _mm256_cmpeq_epi16(rest, _mm256_set1_epi16(0x7f)));
        h = _mm256_or_si256(h, _mm256_and_si256(x, _mm256_set1_epi16((int16_t)0x8000)));
        if (count - i >= 16)
            _mm256_storeu_si256((void *)(to + i), h);
        else
            memcpy(to + i, &h, (size_t)(count - i) * 2);
    }
}

// ---- transposing keys ---------------------------------------------------------------------------------

// Sixteen bytes at `at` of two rows that lie `step` apart in the list, one a lane of 128 bits.
INLINE __m256i load_lanes(const char *const *row, int step, int64_t at, int64_t bytes)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load_bytes(row[0] + at, bytes)),
                                   load_bytes(row[step] + at, bytes), 1);
}

// 16 keys x 8 numbers of 16 bits. Lane l of x[t] holds key 8 l + t, so that the 8 x 8 transpositions inside
// the lanes leave each number's 16 keys in order.
INLINE void transpose_16(char *to, const char *const *row, int64_t at, int64_t bytes)
{
    __m256i x[8], y[8];
    UNROLL(8)
    for (int t = 0; t < 8; t++) x[t] = load_lanes(row + t, 8, at, bytes);
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        y[t] = _mm256_unpacklo_epi16(x[2 * t], x[2 * t + 1]);     // numbers 0..3 of the keys 2 t and 2 t + 1
        y[4 + t] = _mm256_unpackhi_epi16(x[2 * t], x[2 * t + 1]); // numbers 4..7
    }
    // x[t]: numbers 2 t and 2 t + 1 of the keys 0..3 of a lane; x[4 + t]: of the keys 4..7.
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        const __m256i *from = &y[t / 2 * 4];
        x[t] = t % 2 ? _mm256_unpackhi_epi32(from[0], from[1]) : _mm256_unpacklo_epi32(from[0], from[1]);
        x[4 + t] = t % 2 ? _mm256_unpackhi_epi32(from[2], from[3]) : _mm256_unpacklo_epi32(from[2], from[3]);
    }
    UNROLL(4)
    for (int t = 0; t < 4; t++) {
        _mm256_store_si256((void *)(to + (2 * t) * TILE * 2), _mm256_unpacklo_epi64(x[t], x[4 + t]));
        _mm256_store_si256((void *)(to + (2 * t + 1) * TILE * 2), _mm256_unpackhi_epi64(x[t], x[4 + t]));
    }
}

// 8 keys x 4 floats. Lane l of x[t] holds key 4 l + t.
INLINE void transpose_32(char *to, const char *const *row, int64_t at, int64_t bytes)
{
    float *tile = (float *)to;
    __m256 x[4];
    UNROLL(4)
    for (int t = 0; t < 4; t++) x[t] = _mm256_castsi256_ps(load_lanes(row + t, 4, at, bytes));
    // a and b: numbers 0 and 1 of two keys each; c and d: numbers 2 and 3.
    __m256 a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpacklo_ps(x[2], x[3]);
    __m256 c = _mm256_unpackhi_ps(x[0], x[1]), d = _mm256_unpackhi_ps(x[2], x[3]);
    _mm256_store_ps(tile, _mm256_shuffle_ps(a, b, 0x44));
    _mm256_store_ps(tile + TILE, _mm256_shuffle_ps(a, b, 0xee));
    _mm256_store_ps(tile + 2 * TILE, _mm256_shuffle_ps(c, d, 0x44));
    _mm256_store_ps(tile + 3 * TILE, _mm256_shuffle_ps(c, d, 0xee));
}

static void transpose_keys(const struct tile *t, const struct workspace *w, const char *const *row)
{
    if (t->k_type == DTYPE_F32) {
        for (int64_t i = 0; i < t->d; i += 4)
            for (int j = 0; j < TILE; j += 8)
                transpose_32(w->keys + (i * TILE + j) * 4, row + j, 4 * i, 4 * (t->d - i));
    } else {
        for (int64_t i = 0; i < t->d; i += 8)
            for (int j = 0; j < TILE; j += 16)
                transpose_16(w->keys + (i * TILE + j) * 2, row + j, 2 * i, 2 * (t->d - i));
    }
}

// ---- quantized keys and values: to f32 -----------------------------------------------------------------

static int64_t query_bytes(int64_t d)
{
    (void)d;
    return 0;
}

static void take_query(const struct column *c, int64_t d)
{
    (void)c, (void)d;
}

// Number b of a unit whose bytes lie in the lanes of x; of Q4_0 with `high` the one 16 numbers on.
INLINE __m256 unpack_code(__m256i x, const enum dtype type, const int b, const int high)
{
    if (type == DTYPE_Q8_0)
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * b), 24));
    x = _mm256_and_si256(_mm256_srli_epi32(x, 8 * b + 4 * high), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_set1_epi32(8)));
}

// The keys of a block in KV_KEYS to (d, 64) at `to`.
INLINE void unpack_keys(float *to, const char *rows, const enum dtype type, int64_t d)
{
    const int units = type == DTYPE_Q8_0 ? 8 : 4;
    const char *code = rows + d;
    for (int64_t i = 0; i < d; i += 32, rows += 2 * KV_BLOCK, to += 32 * TILE) {
        for (int u = 0; u < units; u++, code += 4 * KV_BLOCK) {
            UNROLL(8)
            for (int s = 0; s < 8; s++) { // byte s / 2 of the eight keys from 8 (s % 2) on
                const int b = s / 2, at = (4 * u + b) * TILE + s % 2 * LANES;
                __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(rows + s % 2 * 16)));
                __m256i x = _mm256_loadu_si256((const void *)(code + s % 2 * 32));
                _mm256_store_ps(to + at, _mm256_mul_ps(scale, unpack_code(x, type, b, 0)));
                if (type == DTYPE_Q4_0)
                    _mm256_store_ps(to + at + 16 * TILE, _mm256_mul_ps(scale, unpack_code(x, type, b, 1)));
            }
        }
    }
}

// The values of a block in KV_VALUES to rows of d numbers at `to`.
INLINE void unpack_values(float *to, const char *rows, const enum dtype type, int64_t d)
{
    const int bytes = type == DTYPE_Q8_0 ? 32 : 16;
    const char *code = rows + d;
    for (int j = 0; j < KV_BLOCK; j += 4) {
        for (int64_t i = 0; i < d; i += 32) {
            float scale[4];
            for (int b = 0; b < 4; b++) {
                uint16_t half;
                memcpy(&half, rows + i + (j + b) * 2, 2);
                scale[b] = _cvtsh_ss(half);
            }
            for (int k = 0; k < bytes; k += LANES, code += 4 * LANES) {
                __m256i x = _mm256_loadu_si256((const void *)code);
                UNROLL(4)
                for (int b = 0; b < 4; b++) {
                    float *row = to + (j + b) * d + i + k;
                    __m256 factor = _mm256_set1_ps(scale[b]);
                    _mm256_storeu_ps(row, _mm256_mul_ps(factor, unpack_code(x, type, b, 0)));
                    if (type == DTYPE_Q4_0)
                        _mm256_storeu_ps(row + 16, _mm256_mul_ps(factor, unpack_code(x, type, b, 1)));
                }
            }
        }
    }
}

static void take_keys(struct tile *t, const struct workspace *w)
{
    for (int b = 0; b < TILE_BLOCKS; b++) {
        float *to = (float *)w->keys + b * KV_BLOCK;
        if (t->k_type == DTYPE_Q8_0)
            unpack_keys(to, t->key_rows[b], DTYPE_Q8_0, t->d);
        else
            unpack_keys(to, t->key_rows[b], DTYPE_Q4_0, t->d);
        t->key[b] = (const char *)to;
    }
    t->key_step = TILE * 4;
    t->k_type = DTYPE_F32;
}

static void take_values(struct tile *t, const struct workspace *w)
{
    for (int b = 0; b < TILE_BLOCKS; b++) {
        float *to = w->values + b * KV_BLOCK * t->d_v;
        if (t->v_type == DTYPE_Q8_0)
            unpack_values(to, t->value_rows[b], DTYPE_Q8_0, t->d_v);
        else
            unpack_values(to, t->value_rows[b], DTYPE_Q4_0, t->d_v);
    }
    value_rows_unpacked(t, w, DTYPE_F32);
}

// ---- the register kernels -----------------------------------------------------------------------------

// Keys j .. j + 15. The first quarter fetches the values.
INLINE void score_quarter(float *p, const float *const *q, const int n, const enum dtype type, struct tile *t,
                          const int j)
{
    const int size = type == DTYPE_F32 ? 4 : 2;
    const char *keys = t->key[j / KV_BLOCK];
    __m256 sum[GROUP][2];
    UNROLL(6)
    for (int c = 0; c < n; c++) sum[c][0] = sum[c][1] = _mm256_setzero_ps();
    for (int64_t i = 0; i < t->d; i++, keys += t->key_step) {
        if (j == 0) fetch(&t->in_score, 2);
        __m256 k0 = load_wide(keys, type, LANES), k1 = load_wide(keys + LANES * size, type, LANES);
        UNROLL(6)
        for (int c = 0; c < n; c++) {
            __m256 x = _mm256_set1_ps(q[c][i]);
            multiply_add(&sum[c][0], k0, x);
            multiply_add(&sum[c][1], k1, x);
        }
    }
    UNROLL(6)
    for (int c = 0; c < n; c++) {
        _mm256_store_ps(p + c * TILE + j, sum[c][0]);
        _mm256_store_ps(p + c * TILE + j + LANES, sum[c][1]);
    }
}

INLINE void score_columns(float *p, struct column *const *c, const int n, const enum dtype type,
                          struct tile *t)
{
    const float *q[GROUP];
    for (int i = 0; i < n; i++) q[i] = c[i]->q;
    score_quarter(p, q, n, type, t, 0);
    for (int j = 16; j < TILE; j += 16) score_quarter(p, q, n, type, t, j);
}

#define SCORE(n, type) score_columns(p, c, n, type, t)
static void score(float *p, struct column *const *c, int n, struct tile *t)
{
    WITH_CONSTANTS(n, t->k_type, SCORE);
}

// Numbers at .. at + 8 * parts - 1 of the values, of which `count` exist (8 or more: all).
INLINE void weigh_slice(float *const *out, const float *p, const int n, const enum dtype type,
                        const int parts, struct tile *t, int begin, int end, int64_t at, int64_t count)
{
    const int size = type == DTYPE_F32 ? 4 : 2;
    __m256 sum[GROUP][2];
    UNROLL(12)
    for (int s = 0; s < n * parts; s++)
        sum[s / parts][s % parts] = _mm256_load_ps(out[s / parts] + at + s % parts * LANES);
    for (int j = begin; j < end; j++) {
        __m256 v[2];
        const char *value = t->value[j / KV_BLOCK] + j % KV_BLOCK * t->value_step;
        if (at % 64 == 0) fetch(&t->in_weigh, 2);
        UNROLL(2)
        for (int i = 0; i < parts; i++) v[i] = load_wide(value + (at + LANES * i) * size, type, count);
        UNROLL(6)
        for (int c = 0; c < n; c++) {
            __m256 x = _mm256_set1_ps(p[c * TILE + j]);
            UNROLL(2)
            for (int i = 0; i < parts; i++) multiply_add(&sum[c][i], v[i], x);
        }
    }
    UNROLL(12)
    for (int s = 0; s < n * parts; s++)
        _mm256_store_ps(out[s / parts] + at + s % parts * LANES, sum[s / parts][s % parts]);
}

INLINE void weigh_columns(float *const *out, const float *p, const int n, const enum dtype type,
                          struct tile *t, int begin, int end)
{
    int64_t at = 0;
    for (; at + 16 <= t->d_v; at += 16) weigh_slice(out, p, n, type, 2, t, begin, end, at, LANES);
    if (at + LANES <= t->d_v) weigh_slice(out, p, n, type, 1, t, begin, end, at, LANES), at += LANES;
    if (at < t->d_v) weigh_slice(out, p, n, type, 1, t, begin, end, at, t->d_v - at);
}

#define WEIGH(n, type) weigh_columns(out, p, n, type, t, begin, end)
static void weigh_range(float *const *out, const float *p, int n, struct tile *t, int begin, int end)
{
    WITH_CONSTANTS(n, t->v_type, WEIGH);
}

static void weigh(struct column *const *c, const float *p, int n, struct tile *t)
{
    weigh_plain(c, p, n, t);
}

static float largest(__m256 x)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// Scores from products with the keys at first .. first + 7.
static inline __m256 score_of(__m256 x, const struct column *c, const struct attention_args *a, int64_t first)
{
    x = _mm256_mul_ps(x, _mm256_set1_ps(a->scale));
    if (a->softcap > 0) {
        __m256 cap = _mm256_set1_ps(a->softcap);
        x = _mm256_mul_ps(cap, tanh_avx2(_mm256_div_ps(x, cap)));
    }
    if (a->slopes) {
        __m256i distance = _mm256_add_epi32(_mm256_set1_epi32((int)(first + 1 - c->end)), lane_numbers());
        x = _mm256_fmadd_ps(_mm256_set1_ps(c->slope), _mm256_cvtepi32_ps(distance), x);
    }
    return x;
}

static float soften(float *s, struct column *c, const struct attention_args *a, int64_t first, int begin,
                    int end)
{
    __m256 top = _mm256_set1_ps(-INFINITY);
    for (int j = 0; j < TILE; j += LANES) {
        __m256i key = _mm256_add_epi32(_mm256_set1_epi32(j), lane_numbers());
        __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(begin), key),
                                           _mm256_cmpgt_epi32(_mm256_set1_epi32(end), key));
        __m256 x = score_of(_mm256_load_ps(s + j), c, a, first + j);
        x = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(seen));
        _mm256_store_ps(s + j, x);
        top = _mm256_max_ps(top, x);
    }
    float factor = 1;
    if (largest(top) > c->max) {
        factor = _mm256_cvtss_f32(exp_avx2(_mm256_set1_ps(c->max - largest(top))));
        c->max = largest(top);
    }
    // Scores that overflowed to -inf weigh nothing.
    __m256 base = _mm256_set1_ps(c->max == -INFINITY ? 0 : c->max);
    __m256 sum = _mm256_mul_ps(_mm256_load_ps(c->sum), _mm256_set1_ps(factor));
    for (int j = 0; j < TILE; j += 2 * LANES) {
        __m256 x0 = exp_avx2(_mm256_sub_ps(_mm256_load_ps(s + j), base));
        __m256 x1 = exp_avx2(_mm256_sub_ps(_mm256_load_ps(s + j + LANES), base));
        _mm256_store_ps(s + j, x0);
        _mm256_store_ps(s + j + LANES, x1);
        sum = _mm256_add_ps(sum, _mm256_add_ps(x0, x1));
    }
    _mm256_store_ps(c->sum, sum);
    return factor;
}

// ---- entry --------------------------------------------------------------------------------------------

size_t attention_scratch_avx2(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    return tiles_scratch(rows * head_count, head_dim, value_dim, LANES);
}

void attention_fwd_avx2(const struct attention_args *a)
{
    attend(a, LANES);
}
