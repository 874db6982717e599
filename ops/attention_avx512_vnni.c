// ops/attention_avx512_vnni.c -- attention with AVX-512 and dot products of
// whole numbers for keys and values in Q8_0 and Q4_0.
//
// The other side of a product, 32 numbers of a query or 64 weights times the
// scales of their values, becomes whole numbers of 16 bits times one scale.
// Codes are widened to 16 bits where they lie, in pairs that stand two apart,
// for vpdpwssd: exact, and the error is that of 16 bits and not of 8. Beside
// pairs of bytes for vpdpbusd, which takes as many products, it needs one sum
// instead of two, and a third of the work to make the pairs.
//
// On a Zen 4, d = 64 and 4 query heads a key-value head, a tile of 64 keys
// takes a column 0.7 of the time with pairs of bytes in Q8_0 and 0.9 in Q4_0:
// one row after 16384 tokens of Q8_0 at 16 to 17 GB/s a core.
#include "ops/attention_avx512.h"

enum { TOP = 32767 }; // of a whole number

// 32 whole numbers, of a query or of weights: in a four those of number 0 and
// 2, and of 1 and 3, side by side, as expand() gives the codes; a line has
// fours of the first and of the second 16 numbers in turn.
struct whole_block {
    int16_t pair[4][2][4];
};

// A block of 32 numbers of a query.
struct query_block {
    struct whole_block x;
    int32_t q8_0, q4_0; // what the sums over codes begin at, as expand_keys()
                        // leaves them without a sign
    float scale;
};

// sum += x0 k0 + x1 k1 in each lane; the two x are the same for all lanes.
INLINE void dot(__m512i *sum, __m512i k, const int16_t *x)
{
    const struct two {
        int16_t x[2];
    } *two = (const void *)x;
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(k), "m"(*two));
}

// The scale for whole numbers whose largest size is `top`, and its inverse;
// numbers next to nothing become 0.
INLINE float scale_for(float top, float *inverse)
{
    *inverse = top > 1e-30f ? TOP / top : 0;
    return top * (1.0f / TOP);
}

// Numbers 0 .. 15 and 16 .. 31, which are whole.
INLINE void pair_up(struct whole_block *to, __m512i x0, __m512i x1)
{
    const __m512i first =
                      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0)),
                  second =
                      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 8, 9, 4, 5, 12, 13));
    _mm512_storeu_si512(
        to, _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(x0, first), 0xff00ff00ff00ff00, x1, second));
}

// The sum of the lanes, modulo 2^32: what is not a number gives whole numbers
// of any size.
INLINE uint32_t sum_lanes(__m512i x)
{
    __m256i y = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    __m128i z = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_add_epi32(z, _mm_unpackhi_epi64(z, z));
    return (uint32_t)_mm_cvtsi128_si32(_mm_add_epi32(z, _mm_shuffle_epi32(z, 1)));
}

static int64_t query_bytes(int64_t d)
{
    return (d + 31) / 32 * (int64_t)sizeof(struct query_block);
}

static void take_query(const struct column *c, int64_t d)
{
    struct query_block *b = c->codes;
    for (int64_t i = 0; i < d; i += 32, b++) {
        __m512 x0 = _mm512_loadu_ps(c->q + i), x1 = _mm512_loadu_ps(c->q + i + 16), inverse;
        float factor;
        b->scale =
            scale_for(_mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1))), &factor);
        inverse = _mm512_set1_ps(factor);
        __m512i i0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse)),
                i1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse)), sum = _mm512_add_epi32(i0, i1);
        pair_up(&b->x, i0, i1);
        b->q8_0 = (int32_t)(-128u * sum_lanes(_mm512_maskz_mov_epi32(0x5555, sum)));
        b->q4_0 = (int32_t)(-8u * sum_lanes(sum));
    }
}

static void take_keys(struct tile *t, const struct workspace *w)
{
    (void)t, (void)w;
}

static void take_values(struct tile *t, const struct workspace *w)
{
    (void)t, (void)w;
}

// The codes of 16 fours, as numbers of 16 bits: those of the first and third of
// each four, and of the second and fourth. Of Q4_0 also the same of the fours
// that are 16 numbers on; they lack the 8 that is to be subtracted.
INLINE void expand(__m512i *pair, const char *from, const enum dtype type)
{
    __m512i x = _mm512_loadu_si512(from), low = _mm512_set1_epi16(15);
    if (type == DTYPE_Q8_0) {
        pair[0] = _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
        pair[1] = _mm512_srai_epi16(x, 8);
        return;
    }
    pair[0] = _mm512_and_si512(x, low);
    pair[1] = _mm512_and_si512(_mm512_srli_epi16(x, 8), low);
    pair[2] = _mm512_and_si512(_mm512_srli_epi16(x, 4), low);
    pair[3] = _mm512_srli_epi16(x, 12);
}

// The same of keys; of Q8_0 the first and third are 128 too large.
INLINE void expand_keys(__m512i *pair, const char *from, const enum dtype type)
{
    expand(pair, from, type);
    if (type != DTYPE_Q8_0) return;
    __m512i x = _mm512_loadu_si512(from);
    pair[0] = _mm512_and_si512(_mm512_xor_si512(x, _mm512_set1_epi16(128)), _mm512_set1_epi16(255));
}

// Calls a kernel with n as a constant.
#define WITH_COLUMNS(n, type, call) \
    switch (n) {                    \
    case 1: call(1, type); break;   \
    case 2: call(2, type); break;   \
    case 3: call(3, type); break;   \
    case 4: call(4, type); break;   \
    case 5: call(5, type); break;   \
    default: call(GROUP, type);     \
    }

// ---- scores
// -------------------------------------------------------------------------------------------

// Sums that are added up beside each other for one number: a single one would
// wait for its last product.
INLINE int chains_for(const int n)
{
    return n <= 2 ? 4 : 2;
}

INLINE void score_codes(float *p, struct column *const *c, const int n, const enum dtype type, struct tile *t)
{
    const int bytes = type == DTYPE_Q8_0 ? 512 : 256, chains = chains_for(n);
    struct fetcher fetcher = t->in_score;
    for (int b = 0, end = blocks_seen(c, n, t); b < end; b++) {
        const char *scales = t->key[b], *code = scales + t->d;
        __m512 score[GROUP];
        UNROLL(6)
        for (int i = 0; i < n; i++) score[i] = _mm512_setzero_ps();
        for (int64_t k = 0; k < t->d / 32; k++, scales += 2 * KV_BLOCK, code += bytes) {
            const struct query_block *q[GROUP];
            __m512i sum[GROUP][4];
            UNROLL(6)
            for (int i = 0; i < n; i++) {
                q[i] = (const struct query_block *)c[i]->codes + k;
                sum[i][0] = _mm512_set1_epi32(type == DTYPE_Q8_0 ? q[i]->q8_0 : q[i]->q4_0);
                UNROLL(3)
                for (int s = 1; s < chains; s++) sum[i][s] = _mm512_setzero_si512();
            }
            fetch(&fetcher, 1);
            UNROLL(4)
            for (int f = 0; f < 4; f++) {
                __m512i x[4];
                fetch(&fetcher, type == DTYPE_Q8_0 ? 2 : 1);
                expand_keys(x, code + 64 * f, type);
                if (type == DTYPE_Q8_0) expand_keys(x + 2, code + 64 * (f + 4), type);
                UNROLL(4)
                for (int s = 0; s < 4; s++) {
                    UNROLL(6)
                    for (int i = 0; i < n; i++)
                        dot(&sum[i][s % chains], x[s], q[i]->x.pair[f][s / 2] + s % 2 * 2);
                }
            }
            __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)scales));
            UNROLL(6)
            for (int i = 0; i < n; i++) {
                UNROLL(3)
                for (int s = 1; s < chains; s++) sum[i][0] = _mm512_add_epi32(sum[i][0], sum[i][s]);
                score[i] = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(q[i]->scale)),
                                           _mm512_cvtepi32_ps(sum[i][0]), score[i]);
            }
        }
        UNROLL(6)
        for (int i = 0; i < n; i++) _mm512_store_ps(p + i * TILE + b * KV_BLOCK, score[i]);
    }
    t->in_score = fetcher;
}

static void score(float *p, struct column *const *c, int n, struct tile *t)
{
#define SCORE_CODES(n, type) score_codes(p, c, n, type, t)
    if (t->k_type == DTYPE_Q8_0)
        WITH_COLUMNS(n, DTYPE_Q8_0, SCORE_CODES)
    else if (t->k_type == DTYPE_Q4_0)
        WITH_COLUMNS(n, DTYPE_Q4_0, SCORE_CODES)
    else
        score_plain(p, c, n, t);
}

// ---- values
// -------------------------------------------------------------------------------------------

// The scales of a block of 32 numbers of the values of the keys that are
// `seen`, divided by the largest, which is returned.
INLINE float take_scales(__m512 *scale, const struct tile *t, int64_t k, uint64_t seen)
{
    __m512 size = _mm512_setzero_ps();
    UNROLL(4)
    for (int b = 0; b < TILE_BLOCKS; b++) {
        __m256i half = _mm256_loadu_si256((const void *)(t->value_rows[b] + k * 2 * KV_BLOCK));
        scale[b] = _mm512_maskz_mov_ps((__mmask16)(seen >> KV_BLOCK * b), _mm512_cvtph_ps(half));
        size = _mm512_max_ps(size, _mm512_abs_ps(scale[b]));
    }
    float most = _mm512_reduce_max_ps(size);
    __m512 inverse = _mm512_set1_ps(most > 0 ? 1 / most : 0);
    UNROLL(4)
    for (int b = 0; b < TILE_BLOCKS; b++) scale[b] = _mm512_mul_ps(scale[b], inverse);
    return most;
}

// One column's weights p: (64), times the factor that makes the largest TOP, in
// `scaled`. Returns what 1 is worth there.
INLINE float scale_weights(float *scaled, const float *p)
{
    __m512 x[4];
    float inverse;
    UNROLL(4)
    for (int j = 0; j < 4; j++) x[j] = _mm512_load_ps(p + 16 * j);
    float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
    float worth = scale_for(most, &inverse);
    UNROLL(4)
    for (int j = 0; j < 4; j++)
        _mm512_store_ps(scaled + 16 * j, _mm512_mul_ps(x[j], _mm512_set1_ps(inverse)));
    return worth;
}

// Weights times the scales of their values, as whole numbers. Returns what the
// sums over codes begin at, as expand() leaves these.
INLINE __m512i take_weights(struct whole_block *x, const float *scaled, const __m512 *scale,
                            const enum dtype type)
{
    __m512i y[TILE_BLOCKS];
    UNROLL(4)
    for (int b = 0; b < TILE_BLOCKS; b++)
        y[b] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(scaled + KV_BLOCK * b), scale[b]));
    pair_up(&x[0], y[0], y[1]);
    pair_up(&x[1], y[2], y[3]);
    if (type == DTYPE_Q8_0) return _mm512_setzero_si512();
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(y[0], y[1]), _mm512_add_epi32(y[2], y[3]));
    return _mm512_set1_epi32((int32_t)(-8u * sum_lanes(sum)));
}

INLINE void weigh_codes(struct column *const *c, const float *p, const int n, const enum dtype type,
                        struct tile *t)
{
    const int bytes = type == DTYPE_Q8_0 ? 32 : 16, chains = chains_for(n);
    const int64_t four_bytes = t->d_v / 32 * bytes * 4; // the codes of four keys
    _Alignas(64) float scaled[GROUP][TILE];
    float worth[GROUP];
    uint64_t seen[GROUP], common = ~(uint64_t)0;
    struct fetcher fetcher = t->in_weigh;
    UNROLL(6)
    for (int i = 0; i < n; i++) {
        int begin = first_seen(c[i], t), end = end_seen(c[i], t);
        common &= seen[i] = ~(uint64_t)0 >> (TILE - (end - begin)) << begin;
        worth[i] = scale_weights(scaled[i], p + i * TILE);
    }
    for (int64_t k = 0; k < t->d_v / 32; k++) {
        struct whole_block x[GROUP][TILE_BLOCKS / 2];
        __m512 scale[TILE_BLOCKS];
        __m512i sum[GROUP][4]; // of the first and second 16 numbers in turn
        float most[GROUP], of_all = take_scales(scale, t, k, ~(uint64_t)0);
        UNROLL(6)
        for (int i = 0; i < n; i++) {
            most[i] = ~common ? take_scales(scale, t, k, seen[i]) : of_all;
            sum[i][0] = sum[i][1] = take_weights(x[i], scaled[i], scale, type);
            sum[i][2] = sum[i][3] = _mm512_setzero_si512();
        }
        for (int b = 0; b < TILE_BLOCKS; b++) {
            const char *code = t->value_rows[b] + t->d_v + k * bytes * 4;
            fetch(&fetcher, 1);
            UNROLL(4)
            for (int f = 0; f < 4; f++, code += four_bytes) {
                __m512i v[4];
                fetch(&fetcher, type == DTYPE_Q8_0 ? 2 : 1);
                expand(v, code, type);
                if (type == DTYPE_Q8_0) expand(v + 2, code + 64, type);
                UNROLL(4)
                for (int s = 0; s < 4; s++) {
                    UNROLL(6)
                    for (int i = 0; i < n; i++)
                        dot(&sum[i][s % chains], v[s % 2 * 2 + s / 2],
                            x[i][b / 2].pair[f][b % 2] + s / 2 * 2);
                }
            }
        }
        UNROLL(12)
        for (int s = 0; s < 2 * n; s++) {
            float *out = c[s / 2]->out + 32 * k + s % 2 * 16;
            __m512 factor = _mm512_set1_ps(most[s / 2] * worth[s / 2]);
            __m512i all = sum[s / 2][s % 2];
            if (chains == 4) all = _mm512_add_epi32(all, sum[s / 2][2 + s % 2]);
            _mm512_store_ps(out, _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(all), _mm512_load_ps(out)));
        }
    }
    t->in_weigh = fetcher;
}

static void weigh(struct column *const *c, const float *p, int n, struct tile *t)
{
#define WEIGH_CODES(n, type) weigh_codes(c, p, n, type, t)
    if (t->v_type == DTYPE_Q8_0)
        WITH_COLUMNS(n, DTYPE_Q8_0, WEIGH_CODES)
    else if (t->v_type == DTYPE_Q4_0)
        WITH_COLUMNS(n, DTYPE_Q4_0, WEIGH_CODES)
    else
        weigh_plain(c, p, n, t);
}

size_t attention_scratch_avx512_vnni(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    return tiles_scratch(rows * head_count, head_dim, value_dim, LANES);
}

void attention_fwd_avx512_vnni(const struct attention_args *a)
{
    attend(a, LANES);
}
