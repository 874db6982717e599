// ops/attention_dx_avx2.c -- the gradient of attention with AVX2 and FMA: the walk of ops/attention_dx_tiles.h, register tiles of 6 rows and
// 16 numbers. By tests/bench_gradient.c, counting the keys that a row sees: 75% of the FMA peak with 1024 rows, 53% with 64; 23 and 10 times
// the reference.
#include "ops/exp_avx2.h"
#include "ops/ops.h"

enum { LANES = 8, PARTS = 2 };

static float dot_product(const float *x, const float *y, int64_t count)
{
    __m256 sum = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i), sum);
    float rest = 0;
    for (; i < count; i++) rest += x[i] * y[i];
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))) + rest;
}

#include "ops/attention_dx_tiles.h"

// sum += a * b, as a tied operand of assembly: see ops/attention_dx_avx512.c.
INLINE void multiply_add(__m256 *sum, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}

// `parts` registers of `count` rows of the result.
INLINE void multiply_block(const struct product *x, int64_t at, const int count, const int parts)
{
    __m256 sum[GROUP][PARTS];
    const float *a[GROUP], *b = x->b + at;
    float *c = x->c + at;
    UNROLL(6)
    for (int m = 0; m < count; m++) {
        a[m] = x->a + (size_t)m * x->a_row;
        UNROLL(2)
        for (int i = 0; i < parts; i++)
            sum[m][i] =
                x->add ? _mm256_loadu_ps(c + (size_t)m * x->c_stride + i * LANES) : _mm256_setzero_ps();
    }
    const size_t b_stride = x->b_stride, a_step = x->a_step;
    size_t from = 0;
    for (int64_t k = x->depth; k; k--, b += b_stride, from += a_step) {
        __m256 v[PARTS];
        UNROLL(2)
        for (int i = 0; i < parts; i++) v[i] = _mm256_loadu_ps(b + i * LANES);
        UNROLL(6)
        for (int m = 0; m < count; m++) {
            const __m256 s = _mm256_broadcast_ss(a[m] + from);
            UNROLL(2)
            for (int i = 0; i < parts; i++) multiply_add(&sum[m][i], v[i], s);
        }
    }
    UNROLL(6)
    for (int m = 0; m < count; m++) {
        UNROLL(2)
        for (int i = 0; i < parts; i++) _mm256_storeu_ps(c + (size_t)m * x->c_stride + i * LANES, sum[m][i]);
    }
}

INLINE void multiply_rows(const struct product *x, const int count)
{
    int64_t at = 0;
    for (; at + PARTS * LANES <= x->width; at += PARTS * LANES) multiply_block(x, at, count, PARTS);
    if (at < x->width) multiply_block(x, at, count, 1);
}

static void multiply(const struct product *x)
{
    switch (x->count) {
    case 6: multiply_rows(x, 6); break;
    case 5: multiply_rows(x, 5); break;
    case 4: multiply_rows(x, 4); break;
    case 3: multiply_rows(x, 3); break;
    case 2: multiply_rows(x, 2); break;
    case 1: multiply_rows(x, 1); break;
    }
}

static void soften(float *p, float *ds, const struct attention_dx_args *a, float slope, float lse, float e,
                   int64_t distance, uint64_t seen)
{
    const __m256 scale = _mm256_set1_ps(a->scale), base = _mm256_set1_ps(lse), mean = _mm256_set1_ps(e);
    const __m256 one = _mm256_set1_ps(1), cap = _mm256_set1_ps(a->softcap), none = _mm256_setzero_ps();
    const __m256 lane = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (int j = 0; j < TILE; j += LANES, seen >>= LANES) {
        if (!(seen & 0xff)) {
            _mm256_storeu_ps(p + j, none), _mm256_storeu_ps(ds + j, none);
            continue;
        }
        const __m256i bits = _mm256_and_si256(_mm256_set1_epi32((int)(seen & 0xff)), bit);
        const __m256 some = _mm256_castsi256_ps(_mm256_cmpeq_epi32(bits, bit));
        __m256 x = _mm256_and_ps(some, _mm256_loadu_ps(p + j)), through = scale;
        if (a->softcap > 0) {
            __m256 t = tanh_avx2(_mm256_div_ps(_mm256_mul_ps(x, scale), cap));
            x = _mm256_sub_ps(_mm256_mul_ps(cap, t), base);
            through = _mm256_mul_ps(scale, _mm256_fnmadd_ps(t, t, one));
        } else {
            x = _mm256_fmsub_ps(x, scale, base);
        }
        if (a->slopes)
            x = _mm256_fmadd_ps(_mm256_set1_ps(slope),
                                _mm256_add_ps(lane, _mm256_set1_ps((float)(distance + j))), x);
        x = _mm256_and_ps(some, exp_avx2(x));
        __m256 dp = _mm256_and_ps(some, _mm256_sub_ps(_mm256_loadu_ps(ds + j), mean));
        _mm256_storeu_ps(p + j, x);
        _mm256_storeu_ps(ds + j, _mm256_mul_ps(_mm256_mul_ps(x, dp), through));
    }
}

void attention_dx_avx2(const struct attention_dx_args *a)
{
    attention_dx_run(a, transpose_fwd_avx2);
}

size_t attention_dx_scratch_avx2(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    return scratch_bytes(rows, head_count, head_dim, value_dim);
}
