// ops/attention_avx512.c -- attention with AVX-512 without dot products of bytes: quantized keys and values become f32.
#include "ops/attention_avx512.h"

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
INLINE __m512 unpack_code(__m512i x, const enum dtype type, const int b, const int high)
{
    if (type == DTYPE_Q8_0)
        return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, (unsigned)(24 - 8 * b)), 24));
    x = _mm512_and_si512(_mm512_srli_epi32(x, (unsigned)(8 * b + 4 * high)), _mm512_set1_epi32(15));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(x, _mm512_set1_epi32(8)));
}

// The keys of a block in KV_KEYS to (d, 64) at `to`.
INLINE void unpack_keys(float *to, const char *rows, const enum dtype type, int64_t d)
{
    const int units = type == DTYPE_Q8_0 ? 8 : 4;
    const char *code = rows + d;
    for (int64_t i = 0; i < d; i += 32, rows += 2 * KV_BLOCK, to += 32 * TILE) {
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)rows));
        for (int u = 0; u < units; u++, code += 4 * KV_BLOCK) {
            __m512i x = _mm512_loadu_si512(code);
            UNROLL(4)
            for (int b = 0; b < 4; b++) {
                float *at = to + (4 * u + b) * TILE;
                _mm512_store_ps(at, _mm512_mul_ps(scale, unpack_code(x, type, b, 0)));
                if (type == DTYPE_Q4_0)
                    _mm512_store_ps(at + 16 * TILE, _mm512_mul_ps(scale, unpack_code(x, type, b, 1)));
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
            __m512 scale[4];
            UNROLL(4)
            for (int b = 0; b < 4; b++) {
                uint16_t half;
                memcpy(&half, rows + i + (j + b) * 2, 2);
                scale[b] = _mm512_set1_ps(_cvtsh_ss(half));
            }
            for (int k = 0; k < bytes; k += LANES, code += 4 * LANES) {
                __m512i x = _mm512_loadu_si512(code);
                UNROLL(4)
                for (int b = 0; b < 4; b++) {
                    float *row = to + (j + b) * d + i + k;
                    _mm512_storeu_ps(row, _mm512_mul_ps(scale[b], unpack_code(x, type, b, 0)));
                    if (type == DTYPE_Q4_0)
                        _mm512_storeu_ps(row + 16, _mm512_mul_ps(scale[b], unpack_code(x, type, b, 1)));
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

static void score(float *p, struct column *const *c, int n, struct tile *t)
{
    score_plain(p, c, n, t);
}

static void weigh(struct column *const *c, const float *p, int n, struct tile *t)
{
    weigh_plain(c, p, n, t);
}

size_t attention_scratch_avx512(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    return tiles_scratch(rows * head_count, head_dim, value_dim, LANES);
}

void attention_fwd_avx512(const struct attention_args *a)
{
    attend(a, LANES);
}
