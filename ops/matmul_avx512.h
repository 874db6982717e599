// ops/matmul_avx512.h -- the vectors of ops/matmul_tile.h in AVX-512. The including file defines DOT, the
// instruction that adds one step of k.
//
// A block is 16 rows of 64 bytes, one cache line each, and 64 shuffles whatever the type of its numbers:
// 16 x 16 dwords, or, for f16, 16 x 32 halves, because vcvtph2ps wants 16 halves of one step side by side.
// Putting quarters of rows in place by masked loads saves half the shuffles, and was slower: it reads a line
// four times, and rows whose stride is a power of two push each other out of L1 in between.
#ifndef OPS_MATMUL_AVX512_H
#define OPS_MATMUL_AVX512_H

#include "ops/matmul_simd.h"

enum { LANES = 16, VECS = 4, STREAM_COLS = 8 };
typedef __m512 vec;
typedef __m512i block; // one of LANES vectors of a transposed block

static inline ALWAYS vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline ALWAYS void vec_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}

static inline ALWAYS vec vec_broadcast(const char *p)
{
    return _mm512_set1_ps(*(const step *)p);
}

static inline ALWAYS void dot(vec *acc, vec w, vec x)
{
    __asm__(DOT " %2, %1, %0" : "+v"(*acc) : "v"(w), "v"(x));
}

static inline ALWAYS void dot_x(vec *acc, vec w, const char *x)
{
    __asm__(DOT " %2%{1to16%}, %1, %0" : "+v"(*acc) : "v"(w), "m"(*(const step *)x));
}

// Rows r[0..15] of 16 dwords become columns, in place.
static inline ALWAYS void transpose_dwords(__m512i *v, const __m512i *r)
{
    __m512i a[16], b[16];
    EACH (i, 16, 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    EACH (i, 16, 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    // b[4q + j]: lane c holds column 4c + j of rows 4q .. 4q + 3
    EACH (j, 4, 1) {
        __m512i lo0 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x44),
                lo1 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x44);
        __m512i hi0 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xee),
                hi1 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xee);
        v[j] = _mm512_shuffle_i32x4(lo0, lo1, 0x88);
        v[4 + j] = _mm512_shuffle_i32x4(lo0, lo1, 0xdd);
        v[8 + j] = _mm512_shuffle_i32x4(hi0, hi1, 0x88);
        v[12 + j] = _mm512_shuffle_i32x4(hi0, hi1, 0xdd);
    }
}

// 8 rows of 32 halves: lane L of c[m] becomes column 8L + m of the 8 rows.
static inline ALWAYS void transpose_halves(__m512i *c, const __m512i *r)
{
    __m512i a[8], b[8];
    EACH (i, 8, 2) {
        a[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
    }
    EACH (i, 8, 4) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi32(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi32(a[i + 1], a[i + 3]);
    }
    EACH (i, 4, 1) {
        c[2 * i] = _mm512_unpacklo_epi64(b[i], b[4 + i]);
        c[2 * i + 1] = _mm512_unpackhi_epi64(b[i], b[4 + i]);
    }
}

// Transposes 64 bytes of each of 16 rows.
static inline ALWAYS void block_transpose(enum weights kind, block *c, const __m512i *r)
{
    if (kind != WEIGHTS_F16) {
        transpose_dwords(c, r);
        return;
    }
    const __m512i lo = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i hi = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    __m512i h[16];
    transpose_halves(h, r);
    transpose_halves(h + 8, r + 8);
    EACH (m, 8, 1) { // columns m and 8 + m, then 16 + m and 24 + m
        c[m] = _mm512_permutex2var_epi64(h[m], lo, h[8 + m]);
        c[8 + m] = _mm512_permutex2var_epi64(h[m], hi, h[8 + m]);
    }
}

// Reads 64 bytes of each of 16 rows and transposes them.
static inline ALWAYS void block_load(enum weights kind, block *c, const char *w, size_t stride)
{
    __m512i r[16];
    EACH (i, 16, 1) {
        if (i > 0 && i % 4 == 0) w = opaque(w + 4 * stride);
        const char *p = w + (size_t)(i % 4) * stride;
        // An asm, or gcc reads the row in memory once for each of the two instructions that use it.
        __asm__("vmovdqu64 %1, %0" : "=v"(r[i]) : "m"(*(const char(*)[64])p));
    }
    block_transpose(kind, c, r);
}

// The same with `bytes` < 64 bytes of each row, then zeros.
static inline ALWAYS void block_load_part(enum weights kind, block *c, const char *w, size_t stride,
                                          size_t bytes)
{
    const __mmask64 mask = ((__mmask64)1 << bytes) - 1;
    __m512i r[16];
    EACH (i, 16, 1) r[i] = _mm512_maskz_loadu_epi8(mask, w + (size_t)i * stride);
    block_transpose(kind, c, r);
}

// Step s of the 16 rows. Computed where it is used, because 32 of them do not fit the registers.
static inline ALWAYS vec block_step(enum weights kind, const block *c, int s)
{
    const __m512i half = c[s / 16 * 8 + s % 8];
    switch (kind) {
    case WEIGHTS_F16:
        return _mm512_cvtph_ps(s % 16 < 8 ? _mm512_castsi512_si256(half)
                                          : _mm512_extracti64x4_epi64(half, 1));
    case WEIGHTS_BF16: // the upper half of an f32
        return _mm512_castsi512_ps(s % 2 == 0
                                       ? _mm512_slli_epi32(c[s / 2], 16)
                                       : _mm512_and_si512(c[s / 2], _mm512_set1_epi32((int)0xffff0000)));
    default: return _mm512_castsi512_ps(c[s]);
    }
}

#define STREAM_CASES \
    STREAM_CASE(2) STREAM_CASE(3) STREAM_CASE(4) STREAM_CASE(5) STREAM_CASE(6) STREAM_CASE(7) STREAM_CASE(8)

#include "ops/matmul_tile.h"

// 16 columns of one row, or of two.
static inline ALWAYS vec nn_step(enum weights kind, const char *row, const char *next, int64_t count)
{
    const __mmask16 mask = (__mmask16)((1u << count) - 1);
    if (kind == WEIGHTS_F32) return _mm512_maskz_loadu_ps(mask, row);
    if (kind == WEIGHTS_F16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row));
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row));
    if (kind == WEIGHTS_BF16) return _mm512_castsi512_ps(_mm512_slli_epi32(low, 16));
    if (!next) return _mm512_castsi512_ps(low);
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, next));
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#include "ops/matmul_nn.h"

#endif
