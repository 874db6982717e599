// ops/rmsnorm_avx2.c -- the gradient of RMSNorm with AVX2 and FMA; the formula is in ops/rmsnorm.c. Sums go into 4 registers of 8, added
// as a tree. Twice as fast as the reference from memory, at 60 to 80% of reading and writing the same arrays. The compiler's code for the
// reference of the forward pass was the faster one: it has no such form.
#include <immintrin.h>
#include <math.h>

#include "ops/ops.h"

enum { LANES = 8, CHAINS = 4 }; // four chains hide the latency of the sums

static inline __m256i mask_of(int64_t count)
{
    int some = count < LANES ? (int)count : LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(some), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static float tree(const __m256 sum[CHAINS])
{
    __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The sum of x^2, and of g x with g = dy w.
static float sums_of(float *gx, const float *dy, const float *x, const float *w, int64_t cols)
{
    __m256 squares[CHAINS], products[CHAINS];
    for (int j = 0; j < CHAINS; j++) squares[j] = products[j] = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + CHAINS * LANES <= cols; i += CHAINS * LANES) {
        for (int j = 0; j < CHAINS; j++) {
            __m256 v = _mm256_loadu_ps(x + i + j * LANES);
            __m256 g = _mm256_mul_ps(_mm256_loadu_ps(dy + i + j * LANES), _mm256_loadu_ps(w + i + j * LANES));
            squares[j] = _mm256_fmadd_ps(v, v, squares[j]), products[j] = _mm256_fmadd_ps(g, v, products[j]);
        }
    }
    for (int j = 0; i < cols; i += LANES, j++) {
        __m256i some = mask_of(cols - i);
        __m256 v = _mm256_maskload_ps(x + i, some);
        __m256 g = _mm256_mul_ps(_mm256_maskload_ps(dy + i, some), _mm256_maskload_ps(w + i, some));
        squares[j] = _mm256_fmadd_ps(v, v, squares[j]), products[j] = _mm256_fmadd_ps(g, v, products[j]);
    }
    *gx = tree(products);
    return tree(squares);
}

// dx = r (g - n mean(g n)) = r g - x shift, with shift = r^3 mean(g x).
static void row_dx(float *dx, float *dw, const float *dy, const float *x, const float *w, int64_t cols,
                   float r, float shift, bool add)
{
    const __m256 rs = _mm256_set1_ps(r), shifts = _mm256_set1_ps(shift);
    int64_t i = 0;
    for (; i + LANES <= cols; i += LANES) {
        __m256 v = _mm256_loadu_ps(x + i), d = _mm256_loadu_ps(dy + i);
        __m256 g = _mm256_mul_ps(d, _mm256_loadu_ps(w + i));
        __m256 y = _mm256_fnmadd_ps(v, shifts, _mm256_mul_ps(g, rs));
        if (dw) _mm256_storeu_ps(dw + i, _mm256_fmadd_ps(d, _mm256_mul_ps(v, rs), _mm256_loadu_ps(dw + i)));
        _mm256_storeu_ps(dx + i, add ? _mm256_add_ps(y, _mm256_loadu_ps(dx + i)) : y);
    }
    for (; i < cols; i++) {
        float v = x[i], d = dy[i], y = d * w[i] * r - v * shift;
        if (dw) dw[i] += d * (v * r);
        dx[i] = add ? dx[i] + y : y;
    }
}

void rmsnorm_dx_avx2(float *dx, float *dw, const float *dy, const float *x, const float *w, int64_t rows,
                     int64_t cols, double eps, bool add)
{
    for (int64_t row = 0; row < rows; row++, x += cols, dy += cols, dx += cols) {
        float gx, r = 1 / sqrtf(sums_of(&gx, dy, x, w, cols) / (float)cols + (float)eps);
        row_dx(dx, dw, dy, x, w, cols, r, r * r * (gx / (float)cols) * r, add);
    }
}
