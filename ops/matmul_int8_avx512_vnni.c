// ops/matmul_int8_avx512_vnni.c -- ops/matmul_int8.h with vectors of 16 rows and products of four bytes (vpdpbusd): a panel is 32
// rows, times 6 columns.
#include <immintrin.h>

#define LANES      16
#define STRIP      6
#define FORMS      8
#define DIRECT     40
#define WIDENS     0
#define ANY_VECTOR "v"

#define vec                   __m512i
#define vec_zero              _mm512_setzero_si512
#define vec_set(x)            _mm512_set1_epi32(x)
#define vec_bytes(x)          _mm512_set1_epi8((char)(x))
#define vec_load(p)           _mm512_loadu_si512(p)
#define vec_store(p, v)       _mm512_store_si512(p, v)
#define vec_merge(mask, a, b) _mm512_ternarylogic_epi32(mask, a, b, 0xca) // a under the mask, else b
#define vec_and               _mm512_and_si512
#define vec_or                _mm512_or_si512
#define vec_xor               _mm512_xor_si512
#define vec_srl16(v, n)       _mm512_srl_epi16(v, _mm_cvtsi32_si128(n))
#define vec_sll16(v, n)       _mm512_sll_epi16(v, _mm_cvtsi32_si128(n))
#define vec_srl32(v, n)       _mm512_srl_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sll32(v, n)       _mm512_sll_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sra32(v, n)       _mm512_sra_epi32(v, _mm_cvtsi32_si128(n))
#define vec_sllv32            _mm512_sllv_epi32
#define vec_add32             _mm512_add_epi32
#define vec_sub32             _mm512_sub_epi32
#define vec_mul32             _mm512_mullo_epi32
#define vec_add_pairs         _mm512_dpwssd_epi32
#define vec_table(table, at)  _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), at)
#define vec_from_s8(p)        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define vec_from_u8(p)        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define vec_from_u16(p)       _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p)))
#define vec_select_less(v, n, yes, no) \
    _mm512_mask_mov_epi32(no, _mm512_cmplt_epu32_mask(v, _mm512_set1_epi32(n)), yes)
#define vec_as_float             _mm512_castsi512_ps
#define vecf                     __m512
#define vecf_zero                _mm512_setzero_ps
#define vecf_set                 _mm512_set1_ps
#define vecf_load(p)             _mm512_load_ps(p)
#define vecf_store               _mm512_store_ps
#define vecf_mul                 _mm512_mul_ps
#define vecf_fma                 _mm512_fmadd_ps
#define vecf_fnma                _mm512_fnmadd_ps
#define vecf_from_int            _mm512_cvtepi32_ps
#define vecf_halves(p)           _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define some(n)                  ((n) >= 16 ? (__mmask16)-1 : (n) <= 0 ? (__mmask16)0 : (__mmask16)((1 << (n)) - 1))
#define vecf_load_some(p, n)     _mm512_maskz_loadu_ps(some(n), p)
#define vecf_store_some(p, n, v) _mm512_mask_storeu_ps(p, some(n), v)

#include "ops/matmul_int8.h"

// The activations come from memory with each product.
typedef const dword *factor;
INLINE factor load_factor(const dword *x)
{
    return x;
}

// Volatile keeps the products in this order, and the compiler from needing twice the registers.
INLINE void dot(vec *sum, vec codes, factor x)
{
    __asm__ volatile("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(codes), "m"(*x));
}

#include "ops/matmul_int8_vnni.h"

#include "ops/matmul_int8_run.h"

DEFINE_ALL_STRIPS

#define DEFINE_DIRECTS(name, type)                                                                       \
    DEFINE_DIRECT(name, type, 1)                                                                         \
    DEFINE_DIRECT(name, type, 2)                                                                         \
    DEFINE_DIRECT(name, type, 4)                                                                         \
    DEFINE_DIRECT(name, type, 6)                                                                         \
    DEFINE_DIRECT(name, type, 8)                                                                         \
    static direct_fn *const directs_##name[] = {direct_##name##_1, direct_##name##_2, direct_##name##_4, \
                                                direct_##name##_6, direct_##name##_8};

DEFINE_ALL_KERNELS(avx512_vnni)
