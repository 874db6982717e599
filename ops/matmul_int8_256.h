// ops/matmul_int8_256.h -- vectors of 8 rows for ops/matmul_int8.h, with the instructions of AVX2.
#ifndef OPS_MATMUL_INT8_256_H
#define OPS_MATMUL_INT8_256_H

#include <immintrin.h>

#define LANES 8

#define vec                    __m256i
#define vec_zero               _mm256_setzero_si256
#define vec_set(x)             _mm256_set1_epi32(x)
#define vec_bytes(x)           _mm256_set1_epi8((char)(x))
#define vec_load(p)            _mm256_loadu_si256((const __m256i *)(p))
#define vec_store(p, v)        _mm256_store_si256((__m256i *)(p), v)
#define vec_merge(mask, a, b)  _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b))
#define vec_and                _mm256_and_si256
#define vec_or                 _mm256_or_si256
#define vec_xor                _mm256_xor_si256
#define vec_srl16(v, n)        _mm256_srl_epi16(v, _mm_cvtsi32_si128(n))
#define vec_sll16(v, n)        _mm256_sll_epi16(v, _mm_cvtsi32_si128(n))
#define vec_srl32(v, n)        _mm256_srl_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sll32(v, n)        _mm256_sll_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sra32(v, n)        _mm256_sra_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sllv32             _mm256_sllv_epi32
#define vec_add32              _mm256_add_epi32
#define vec_sub32              _mm256_sub_epi32
#define vec_mul32              _mm256_mullo_epi32
#define vec_add_pairs(s, a, b) _mm256_add_epi32(s, _mm256_madd_epi16(a, b))
#define vec_table(table, at)   _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), at)
#define vec_from_s8(p)         _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define vec_from_u8(p)         _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define vec_from_u16(p)        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define vec_select_less(v, n, yes, no) \
    _mm256_blendv_epi8(yes, no, _mm256_cmpgt_epi32(v, _mm256_set1_epi32((n)-1)))
#define vec_as_float   _mm256_castsi256_ps
#define vecf           __m256
#define vecf_zero      _mm256_setzero_ps
#define vecf_set       _mm256_set1_ps
#define vecf_load(p)   _mm256_load_ps((const float *)(p))
#define vecf_store     _mm256_store_ps
#define vecf_mul       _mm256_mul_ps
#define vecf_fma       _mm256_fmadd_ps
#define vecf_fnma      _mm256_fnmadd_ps
#define vecf_from_int  _mm256_cvtepi32_ps
#define vecf_halves(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define some(n) \
    _mm256_cmpgt_epi32(_mm256_set1_epi32((n) > 8 ? 8 : (int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define vecf_load_some(p, n)     _mm256_maskload_ps(p, some(n))
#define vecf_store_some(p, n, v) _mm256_maskstore_ps(p, some(n), v)

#endif
