// ops/attention_avx512_vnni.c -- attention with AVX-512 and dot products of bytes for keys and values in Q8_0 and Q4_0.
//
// The other side of a product, 32 numbers of a query or 64 weights times the scales of their values, becomes whole
// numbers of 16 bits times one scale, and these a high and a low byte, x = 256 high + low, -128 <= low < 128: two
// vpdpbusd, exact, whose error is that of 16 bits and not of 8. The codes of the cache are read as numbers without a
// sign, so the sums begin at -offset times the sum of x.
//
// Measured as in ops/attention_avx512.h, Q8_0: prompts at 91 to 96% of the peak of f32 multiply-adds, where f32 copies
// reach 77%; one row after 16384 tokens at 12 GB/s a core, twice as fast as with f32 copies.
#include "ops/attention_avx512.h"

enum { TOP = 127 * 256 }; // of a whole number

// What one block of 32 numbers of a query becomes.
struct query_block {
    int8_t high[32], low[32];
    uint32_t sum;
    float scale;
};

// 64 weights times the scales of one block of 32 numbers of their values.
struct weight_block {
    int8_t high[TILE], low[TILE];
    uint32_t sum;
    float scale;
};

// sum += k0 x0 + k1 x1 + k2 x2 + k3 x3 in each lane; the bytes k have no sign, the four x are the same for all lanes.
INLINE void dot_bytes(__m512i *sum, __m512i k, const int8_t *x)
{
    const struct four {
        int8_t x[4];
    } *four = (const void *)x;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(k), "m"(*four));
}

// The scale for whole numbers whose largest size is `top`, and its inverse; numbers next to nothing become 0.
INLINE float scale_for(float top, float *inverse)
{
    *inverse = top > 1e-30f ? TOP / top : 0;
    return top / TOP;
}

// Sixteen numbers times `factor` as whole numbers, which are returned, and these as bytes.
INLINE __m512i split(int8_t *high, int8_t *low, __m512 x, float factor)
{
    __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(factor)));
    __m512i h = _mm512_srai_epi32(_mm512_add_epi32(i, _mm512_set1_epi32(128)), 8);
    _mm_storeu_si128((void *)high, _mm512_cvtepi32_epi8(h));
    _mm_storeu_si128((void *)low, _mm512_cvtepi32_epi8(i));
    return i;
}

// The sum of the lanes, modulo 2^32: what is not a number gives whole numbers of any size.
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
        __m512 x0 = _mm512_loadu_ps(c->q + i), x1 = _mm512_loadu_ps(c->q + i + 16);
        float inverse;
        b->scale =
            scale_for(_mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x0), _mm512_abs_ps(x1))), &inverse);
        __m512i i0 = split(b->high, b->low, x0, inverse);
        __m512i i1 = split(b->high + 16, b->low + 16, x1, inverse);
        b->sum = sum_lanes(_mm512_add_epi32(i0, i1));
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

// Codes without a sign: Q8_0 plus 128; the low or high halves of the bytes of Q4_0, which are codes plus 8.
INLINE __m512i load_codes(const char *from, const enum dtype type, const int high)
{
    __m512i x = _mm512_loadu_si512(from);
    if (type == DTYPE_Q8_0) return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
    if (high) x = _mm512_srli_epi16(x, 4);
    return _mm512_and_si512(x, _mm512_set1_epi8(15));
}

INLINE __m512 whole(__m512i high, __m512i low)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low));
}

// ---- scores -------------------------------------------------------------------------------------------

INLINE void score_codes(float *p, struct column *const *c, const int n, const enum dtype type, struct tile *t)
{
    const uint32_t offset = type == DTYPE_Q8_0 ? 128 : 8;
    const int bytes = type == DTYPE_Q8_0 ? 512 : 256;
    for (int b = 0; b < TILE_BLOCKS; b++) {
        const char *scales = t->key[b], *code = scales + t->d;
        __m512 sum[GROUP];
        UNROLL(6)
        for (int i = 0; i < n; i++) sum[i] = _mm512_setzero_ps();
        for (int64_t k = 0; k < t->d / 32; k++, scales += 2 * KV_BLOCK, code += bytes) {
            const struct query_block *q[GROUP];
            __m512i high[GROUP], low[GROUP];
            UNROLL(6)
            for (int i = 0; i < n; i++) {
                q[i] = (const struct query_block *)c[i]->codes + k;
                high[i] = _mm512_setzero_si512();
                low[i] = _mm512_set1_epi32((int)(-offset * q[i]->sum));
            }
            UNROLL(8)
            for (int u = 0; u < 8; u++) {
                fetch(&t->value_fetcher);
                __m512i x = type == DTYPE_Q8_0 ? load_codes(code + 64 * u, type, 0)
                                               : load_codes(code + u % 4 * 64, type, u / 4);
                UNROLL(6)
                for (int i = 0; i < n; i++) {
                    dot_bytes(&high[i], x, q[i]->high + 4 * u);
                    dot_bytes(&low[i], x, q[i]->low + 4 * u);
                }
            }
            __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)scales));
            UNROLL(6)
            for (int i = 0; i < n; i++)
                sum[i] = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(q[i]->scale)),
                                         whole(high[i], low[i]), sum[i]);
        }
        UNROLL(6)
        for (int i = 0; i < n; i++) _mm512_store_ps(p + i * TILE + b * KV_BLOCK, sum[i]);
    }
}

// ---- values -------------------------------------------------------------------------------------------

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

// p: (64) weights. The scales of keys that are not `seen` may be anything.
INLINE void take_weights(struct weight_block *w, const float *p, const __m512 *scale, uint64_t seen)
{
    __m512 x[4], top = _mm512_setzero_ps();
    __m512i sum = _mm512_setzero_si512();
    float inverse;
    UNROLL(4)
    for (int j = 0; j < 4; j++) {
        x[j] = _mm512_maskz_mul_ps((__mmask16)(seen >> 16 * j), _mm512_load_ps(p + 16 * j), scale[j]);
        top = _mm512_max_ps(top, _mm512_abs_ps(x[j]));
    }
    w->scale = scale_for(_mm512_reduce_max_ps(top), &inverse);
    UNROLL(4)
    for (int j = 0; j < 4; j++)
        sum = _mm512_add_epi32(sum, split(w->high + 16 * j, w->low + 16 * j, x[j], inverse));
    w->sum = sum_lanes(sum);
}

INLINE void weigh_codes(struct column *const *c, const float *p, const int n, const enum dtype type,
                        struct tile *t)
{
    const uint32_t offset = type == DTYPE_Q8_0 ? 128 : 8;
    const int bytes = type == DTYPE_Q8_0 ? 32 : 16;
    const int64_t four_bytes = t->d_v / 32 * bytes * 4; // the codes of four keys
    uint64_t seen[GROUP];
    for (int i = 0; i < n; i++) {
        int begin = first_seen(c[i], t), end = end_seen(c[i], t);
        seen[i] = ~(uint64_t)0 >> (TILE - (end - begin)) << begin;
    }
    for (int64_t k = 0; k < t->d_v / 32; k++) {
        struct weight_block w[GROUP];
        __m512 scale[TILE_BLOCKS];
        __m512i high[GROUP][2], low[GROUP][2];
        UNROLL(4)
        for (int b = 0; b < TILE_BLOCKS; b++)
            scale[b] =
                _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(t->value_rows[b] + k * 2 * KV_BLOCK)));
        UNROLL(6)
        for (int i = 0; i < n; i++) {
            take_weights(&w[i], p + i * TILE, scale, seen[i]);
            high[i][0] = high[i][1] = _mm512_setzero_si512();
            low[i][0] = low[i][1] = _mm512_set1_epi32((int)(-offset * w[i].sum));
        }
        for (int b = 0; b < TILE_BLOCKS; b++) {
            const char *code = t->value_rows[b] + t->d_v + k * bytes * 4;
            UNROLL(4)
            for (int f = 0; f < 4; f++, code += four_bytes) {
                fetch(&t->next_fetcher);
                __m512i x0 = load_codes(code, type, 0),
                        x1 = load_codes(type == DTYPE_Q8_0 ? code + 64 : code, type, 1);
                UNROLL(6)
                for (int i = 0; i < n; i++) {
                    const int8_t *h = w[i].high + b * KV_BLOCK + 4 * f, *l = w[i].low + b * KV_BLOCK + 4 * f;
                    dot_bytes(&high[i][0], x0, h);
                    dot_bytes(&high[i][1], x1, h);
                    dot_bytes(&low[i][0], x0, l);
                    dot_bytes(&low[i][1], x1, l);
                }
            }
        }
        UNROLL(12)
        for (int s = 0; s < 2 * n; s++) {
            float *out = c[s / 2]->out + 32 * k + s % 2 * 16;
            _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_set1_ps(w[s / 2].scale),
                                                 whole(high[s / 2][s % 2], low[s / 2][s % 2]),
                                                 _mm512_load_ps(out)));
        }
    }
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
