// ops/matmul_int8_avx512_vnni.c -- ops/matmul_int8.h with vectors of 16 rows and products of four bytes (vpdpbusd): a panel is 32
// rows, times 6 columns.
#include <immintrin.h>

#define LANES  16
#define STRIP  6
#define FORMS  8
#define DIRECT 40
#define WIDENS 0

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

// Volatile keeps the products in this order, and the compiler from needing twice the registers.
INLINE void dot(vec *sum, vec codes, const dword *x)
{
    __asm__ volatile("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(codes), "m"(*x));
}

// From memory: gcc would rather load a dword and shuffle it, on a port of the products.
INLINE vec broadcast(const int32_t *p)
{
    vec v;
    __asm__ volatile("vpbroadcastd %1, %0" : "=v"(v) : "m"(*p));
    return v;
}

// `count` sub-blocks at once that share bytes, from the k-th on of the unit whose first is sub-block s; half h of each where there is
// a scale every 16 numbers, else all.
INLINE void pieces(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                   const int nc, const struct columns *c, const int count, const int k, const int h, int s)
{
    const enum kind kind = kind_of(type);
    const int steps = by_16(type) ? 4 : 8, vecs = vectors(from), halves = by_16(type) ? 2 : 1;
    const int stride = from == PANEL ? 1 : unit_step(type);
    const int32_t *sums = c->sums + s * halves + h;
    const bool biased = kind == KIND_A || kind == KIND_K32 || kind == KIND_K16;
    vec sum[2][VECS][COLUMNS];
    EACH (q, count, 1)
        EACH (j, nc, 1) {
            const vec first =
                biased ? broadcast(&sums[j * slot_of(type) + (k + q) * stride * halves]) : vec_zero();
            EACH (v, vecs, 1) sum[q][v][j] = first;
        }
    EACH (i, steps, 1) {
        vec codes[VECS];
        EACH (v, vecs, 1)
            codes[v] = from == PANEL ? panel_word(w, 4 * h + i, v) : lower(type, w->codes, 4 * h + i);
        if (count > 1) __asm__ volatile("" : "+v"(codes[0])); // one load for both
        const vec both = codes[0];
        EACH (q, count, 1) {
            if (from == PACKED) codes[0] = code(type, w->codes, both, k + q, 4 * h + i);
            EACH (j, nc, 1) {
                const dword *x = (const dword *)(c->x[j] + 4 + 32 * s) + 8 * (k + q) * stride + 4 * h + i;
                EACH (v, vecs, 1) dot(&sum[q][v][j], codes[v], x);
            }
        }
    }
    EACH (q, count, 1)
        EACH (v, vecs, 1) {
            if (is_k(type)) {
                vec scale = int_scale(w, type, from, (s + (k + q) * stride) * halves + h, h, v);
                EACH (j, nc, 1) t->total[v][j] = vec_add32(t->total[v][j], vec_mul32(sum[q][v][j], scale));
                continue;
            }
            vecf scale = real_scale(w, type, from, v);
            EACH (j, nc, 1) t->part[v][j] = vecf_fma(vecf_from_int(sum[q][v][j]), scale, t->part[v][j]);
            if (kind != KIND_A_MIN) continue;
            vecf min = real_min(w, from, v);
            EACH (j, nc, 1)
                t->part[v][j] =
                    vecf_fma(min, vecf_set(((const float *)sums)[j * slot_of(type)]), t->part[v][j]);
        }
    if (is_k(type)) // else the compiler mixes this piece with the next
        EACH (v, vecs, 1)
            EACH (j, nc, 1) __asm__ volatile("" : "+v"(t->total[v][j]));
}

// The unit of packed codes whose first sub-block is s; of a panel, sub-block s.
INLINE void unit(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                 const int nc, const struct columns *c, const int s)
{
    const int subs = from == PANEL ? 1 : unit_subs(type), together = subs < 2 ? 1 : 2;
    pieces(t, w, type, from, nc, c, together, 0, 0, s);
    if (by_16(type)) pieces(t, w, type, from, nc, c, together, 0, 1, s);
    if (subs > 2) pieces(t, w, type, from, nc, c, together, 2, 0, s);
    if (subs > 2 && by_16(type)) pieces(t, w, type, from, nc, c, together, 2, 1, s);
}

#include "ops/matmul_int8_run.h"

// In a panel all types of a kind look alike. More than DIRECT columns make strips of 6 and 5.
#define DEFINE_STRIPS(name, type) \
    DEFINE_STRIP(name, type, 5)   \
    DEFINE_STRIP(name, type, 6)   \
    static strip_fn *const name[STRIP] = {[4] = strip_##name##_5, [5] = strip_##name##_6};
DEFINE_STRIPS(kind_a, DTYPE_Q4_0)
DEFINE_STRIPS(kind_a_min, DTYPE_Q4_1)
DEFINE_STRIPS(kind_k32, DTYPE_IQ4_XS)
DEFINE_STRIPS(kind_k32_min, DTYPE_Q4_K)
DEFINE_STRIPS(kind_k16, DTYPE_Q6_K)
DEFINE_STRIPS(kind_k16_min, DTYPE_Q2_K)

#define DEFINE_DIRECTS(name, type)                                                                       \
    DEFINE_DIRECT(name, type, 1)                                                                         \
    DEFINE_DIRECT(name, type, 2)                                                                         \
    DEFINE_DIRECT(name, type, 4)                                                                         \
    DEFINE_DIRECT(name, type, 6)                                                                         \
    DEFINE_DIRECT(name, type, 8)                                                                         \
    static direct_fn *const directs_##name[] = {direct_##name##_1, direct_##name##_2, direct_##name##_4, \
                                                direct_##name##_6, direct_##name##_8};

DEFINE_KERNEL(q4_0, avx512_vnni, DTYPE_Q4_0, kind_a)
DEFINE_KERNEL(q4_1, avx512_vnni, DTYPE_Q4_1, kind_a_min)
DEFINE_KERNEL(q5_0, avx512_vnni, DTYPE_Q5_0, kind_a)
DEFINE_KERNEL(q5_1, avx512_vnni, DTYPE_Q5_1, kind_a_min)
DEFINE_KERNEL(q8_0, avx512_vnni, DTYPE_Q8_0, kind_a)
DEFINE_KERNEL(iq4_nl, avx512_vnni, DTYPE_IQ4_NL, kind_a)
DEFINE_KERNEL(mxfp4, avx512_vnni, DTYPE_MXFP4, kind_a)
DEFINE_KERNEL(q2_k, avx512_vnni, DTYPE_Q2_K, kind_k16_min)
DEFINE_KERNEL(q3_k, avx512_vnni, DTYPE_Q3_K, kind_k16)
DEFINE_KERNEL(q4_k, avx512_vnni, DTYPE_Q4_K, kind_k32_min)
DEFINE_KERNEL(q5_k, avx512_vnni, DTYPE_Q5_K, kind_k32_min)
DEFINE_KERNEL(q6_k, avx512_vnni, DTYPE_Q6_K, kind_k16)
DEFINE_KERNEL(iq4_xs, avx512_vnni, DTYPE_IQ4_XS, kind_k32)
