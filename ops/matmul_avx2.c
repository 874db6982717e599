// ops/matmul_avx2.c -- matrix products in f32 multiply-adds; f16 and bf16 become f32, which keeps every bit.
//
// Measured on two Zen 4 cores by tests/bench_matmul.c. 512 columns: 82 to 91% of the multiply-add peak. One
// column, against a plain loop that reads the same memory: 81 to 89%.
#include "ops/matmul_simd.h"

enum { LANES = 8, VECS = 2, STREAM_COLS = 6 };
typedef __m256 vec;
typedef __m256i block; // one of LANES vectors of a transposed block

static inline ALWAYS vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline ALWAYS void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}

static inline ALWAYS vec vec_broadcast(const char *p)
{
    return _mm256_set1_ps(*(const step *)p);
}

static inline ALWAYS void dot(vec *acc, vec w, vec x)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*acc) : "x"(w), "x"(x));
}

static inline ALWAYS void dot_x(vec *acc, vec w, const char *x)
{
    dot(acc, w, vec_broadcast(x));
}

// 4 columns of 8 rows of dwords: a quarter of each of rows i and i + 4 at p, side by side.
static inline ALWAYS __m256i rows_apart(const char *p, const char *p4)
{
    __m256i lo = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p));
    return _mm256_inserti128_si256(lo, _mm_loadu_si128((const __m128i *)p4), 1);
}

// 8 rows of 8 dwords become columns. The halves of the rows are put in place by the loads, which leaves 16
// shuffles.
static inline ALWAYS void transpose_dwords(__m256i *c, const char *w, size_t stride)
{
    const char *w4 = opaque(w + 4 * stride);
    EACH (h, 2, 1) {
        const char *p = w + 16 * h, *p4 = w4 + 16 * h;
        __m256i *out = c + 4 * h;
        __m256i r0 = rows_apart(p, p4), r1 = rows_apart(p + stride, p4 + stride);
        __m256i r2 = rows_apart(p + 2 * stride, p4 + 2 * stride),
                r3 = rows_apart(p + 3 * stride, p4 + 3 * stride);
        __m256i a0 = _mm256_unpacklo_epi32(r0, r1), a1 = _mm256_unpackhi_epi32(r0, r1);
        __m256i a2 = _mm256_unpacklo_epi32(r2, r3), a3 = _mm256_unpackhi_epi32(r2, r3);
        out[0] = _mm256_unpacklo_epi64(a0, a2);
        out[1] = _mm256_unpackhi_epi64(a0, a2);
        out[2] = _mm256_unpacklo_epi64(a1, a3);
        out[3] = _mm256_unpackhi_epi64(a1, a3);
    }
}

// 8 rows of 16 halves: the low half of c[m] becomes column m, the high half column 8 + m.
static inline ALWAYS void transpose_halves(__m256i *c, const char *w, size_t stride)
{
    __m256i r[8], a[8], b[8];
    EACH (i, 8, 1) {
        if (i == 4) w = opaque(w + 4 * stride);
        r[i] = _mm256_loadu_si256((const __m256i *)(w + (size_t)(i % 4) * stride));
    }
    EACH (i, 8, 2) {
        a[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
    }
    EACH (i, 8, 4) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    EACH (i, 4, 1) {
        c[2 * i] = _mm256_unpacklo_epi64(b[i], b[4 + i]);
        c[2 * i + 1] = _mm256_unpackhi_epi64(b[i], b[4 + i]);
    }
}

// Reads 32 bytes of each of 8 rows and transposes them.
static inline ALWAYS void block_load(enum weights kind, block *c, const char *w, size_t stride)
{
    if (kind == WEIGHTS_F16)
        transpose_halves(c, w, stride);
    else
        transpose_dwords(c, w, stride);
}

// The same with `bytes` <= 32 bytes of each row, then zeros.
static inline ALWAYS void block_load_part(enum weights kind, block *c, const char *w, size_t stride,
                                          size_t bytes)
{
    char rows[8][32] __attribute__((aligned(32))) = {{0}};
    for (size_t i = 0; i < 8; i++) memcpy(rows[i], w + i * stride, bytes);
    block_load(kind, c, rows[0], sizeof *rows);
}

// Step s of the 8 rows. Computed where it is used, because 16 of them do not fit the registers.
static inline ALWAYS vec block_step(enum weights kind, const block *c, int s)
{
    switch (kind) {
    case WEIGHTS_F16:
        return _mm256_cvtph_ps(s < 8 ? _mm256_castsi256_si128(c[s]) : _mm256_extracti128_si256(c[s - 8], 1));
    case WEIGHTS_BF16: // the upper half of an f32
        return _mm256_castsi256_ps(s % 2 == 0
                                       ? _mm256_slli_epi32(c[s / 2], 16)
                                       : _mm256_and_si256(c[s / 2], _mm256_set1_epi32((int)0xffff0000)));
    default: return _mm256_castsi256_ps(c[s]);
    }
}

#define STREAM_CASES STREAM_CASE(2) STREAM_CASE(3) STREAM_CASE(4) STREAM_CASE(5) STREAM_CASE(6)

#include "ops/matmul_tile.h"

// 8 columns of one row.
static inline ALWAYS vec nn_step(enum weights kind, const char *row, const char *next, int64_t count)
{
    (void)next;
    char part[32] __attribute__((aligned(32))) = {0};
    if (count < LANES) {
        memcpy(part, row, (size_t)count * weight_bytes(kind));
        row = part;
    }
    if (kind == WEIGHTS_F32) return _mm256_loadu_ps((const float *)row);
    if (kind == WEIGHTS_F16) return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)row));
    const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)row));
    return _mm256_castsi256_ps(_mm256_slli_epi32(low, 16));
}

#include "ops/matmul_nn.h"

UNCHECKED void matmul_fwd_f32_avx2(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_F32);
}

UNCHECKED void matmul_fwd_f16_avx2(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_F16);
}

UNCHECKED void matmul_fwd_bf16_avx2(const struct matmul_args *a)
{
    matmul_rows(a, WEIGHTS_BF16);
}

UNCHECKED void matmul_nn_f32_avx2(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_F32);
}

UNCHECKED void matmul_nn_f16_avx2(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_F16);
}

UNCHECKED void matmul_nn_bf16_avx2(const struct matmul_args *a)
{
    nn_rows(a, WEIGHTS_BF16);
}
