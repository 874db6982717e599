// ops/attention_dx_avx512.c -- the gradient of attention with AVX-512: the walk of ops/attention_dx_tiles.h, register tiles of 6 rows and 64
// numbers. On a Zen 4, one head of 64 by tests/bench_gradient.c, counting the keys that a row sees: 76% of the FMA peak with 1024 rows, 55%
// with 64; 23 and 10 times the reference.
#include "ops/exp_avx512.h"
#include "ops/ops.h"

enum { LANES = 16, PARTS = 4 };

static float dot_product(const float *x, const float *y, int64_t count)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += LANES) {
        __mmask16 some = count - i >= LANES ? (__mmask16)-1 : (__mmask16)((1 << (count - i)) - 1);
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, x + i), _mm512_maskz_loadu_ps(some, y + i), sum);
    }
    return _mm512_reduce_add_ps(sum);
}

#include "ops/attention_dx_tiles.h"

// sum += a * b. As a tied operand of assembly, because gcc 12 keeps a wide tile of accumulators on the stack when it allocates the
// registers of the intrinsic.
INLINE void multiply_add(__m512 *sum, __m512 a, __m512 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

// `parts` registers of `count` rows of the result.
INLINE void multiply_block(const struct product *x, int64_t at, const int count, const int parts)
{
    __m512 sum[GROUP][PARTS];
    const float *a[GROUP], *b = x->b + at;
    float *c = x->c + at;
    UNROLL(6)
    for (int m = 0; m < count; m++) {
        a[m] = x->a + (size_t)m * x->a_row;
        UNROLL(4)
        for (int i = 0; i < parts; i++)
            sum[m][i] =
                x->add ? _mm512_loadu_ps(c + (size_t)m * x->c_stride + i * LANES) : _mm512_setzero_ps();
    }
    const size_t b_stride = x->b_stride, a_step = x->a_step;
    size_t from = 0;
    for (int64_t k = x->depth; k; k--, b += b_stride, from += a_step) {
        __m512 v[PARTS];
        UNROLL(4)
        for (int i = 0; i < parts; i++) v[i] = _mm512_loadu_ps(b + i * LANES);
        UNROLL(6)
        for (int m = 0; m < count; m++) {
            const __m512 s = _mm512_set1_ps(a[m][from]);
            UNROLL(4)
            for (int i = 0; i < parts; i++) multiply_add(&sum[m][i], v[i], s);
        }
    }
    UNROLL(6)
    for (int m = 0; m < count; m++) {
        UNROLL(4)
        for (int i = 0; i < parts; i++) _mm512_storeu_ps(c + (size_t)m * x->c_stride + i * LANES, sum[m][i]);
    }
}

INLINE void multiply_rows(const struct product *x, const int count)
{
    int64_t at = 0;
    for (; at + PARTS * LANES <= x->width; at += PARTS * LANES) multiply_block(x, at, count, PARTS);
    switch ((x->width - at) / LANES) {
    case 3: multiply_block(x, at, count, 3); break;
    case 2: multiply_block(x, at, count, 2); break;
    case 1: multiply_block(x, at, count, 1); break;
    }
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
    const __m512 scale = _mm512_set1_ps(a->scale), base = _mm512_set1_ps(lse), mean = _mm512_set1_ps(e);
    const __m512 one = _mm512_set1_ps(1), cap = _mm512_set1_ps(a->softcap);
    const __m512 lane = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int j = 0; j < TILE; j += LANES, seen >>= LANES) {
        const __mmask16 some = (__mmask16)seen;
        if (!some) {
            _mm512_store_ps(p + j, _mm512_setzero_ps()), _mm512_store_ps(ds + j, _mm512_setzero_ps());
            continue;
        }
        __m512 x = _mm512_maskz_loadu_ps(some, p + j), through = scale;
        if (a->softcap > 0) {
            __m512 t = tanh_avx512(_mm512_div_ps(_mm512_mul_ps(x, scale), cap));
            x = _mm512_mul_ps(cap, t), through = _mm512_mul_ps(scale, _mm512_fnmadd_ps(t, t, one));
            x = _mm512_sub_ps(x, base);
        } else {
            x = _mm512_fmsub_ps(x, scale, base);
        }
        if (a->slopes)
            x = _mm512_fmadd_ps(_mm512_set1_ps(slope),
                                _mm512_add_ps(lane, _mm512_set1_ps((float)(distance + j))), x);
        x = _mm512_maskz_mov_ps(some, exp_avx512(x));
        __m512 dp = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, ds + j), mean);
        _mm512_store_ps(p + j, x);
        _mm512_store_ps(ds + j, _mm512_maskz_mul_ps(some, _mm512_mul_ps(x, dp), through));
    }
}

void attention_dx_avx512(const struct attention_dx_args *a)
{
    attention_dx_run(a, transpose_fwd_avx512);
}

size_t attention_dx_scratch_avx512(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim)
{
    return scratch_bytes(rows, head_count, head_dim, value_dim);
}
