// ops/matmul_int8_avx512_vnni.h -- what a block of 16 packed rows holds, in registers.
//
// Every type is brought to the same form: 32 numbers at a time as 8 vectors of unsigned bytes, lane r of vector i being numbers
// 4i .. 4i+3 of row r; and their scales. Codes that stand for negative numbers get a bias of 1 << bias_shift, which the
// caller takes back through the sums of the activations. Types are constants at every call: the switches vanish.
//
//     kind    number                                        types
//     A       scale (code - bias), a float scale every 32   Q4_0 Q5_0 Q8_0 IQ4_NL MXFP4
//     A_MIN   scale code + min                              Q4_1 Q5_1
//     K32     d (sub-scale (code - bias)), every 32         IQ4_XS
//     K32_MIN d sub-scale code - dmin sub-min               Q4_K Q5_K
//     K16     d (sub-scale (code - bias)), every 16         Q3_K Q6_K
//     K16_MIN d sub-scale code - dmin sub-min               Q2_K
#ifndef OPS_MATMUL_INT8_AVX512_VNNI_H
#define OPS_MATMUL_INT8_AVX512_VNNI_H

#include <immintrin.h>
#include <string.h>

#include "ops/ops.h"
#include "ops/packed.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum kind { KIND_A, KIND_A_MIN, KIND_K32, KIND_K32_MIN, KIND_K16, KIND_K16_MIN };

INLINE enum kind kind_of(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1: return KIND_A_MIN;
    case DTYPE_IQ4_XS: return KIND_K32;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: return KIND_K32_MIN;
    case DTYPE_Q3_K:
    case DTYPE_Q6_K: return KIND_K16;
    case DTYPE_Q2_K: return KIND_K16_MIN;
    default: return KIND_A;
    }
}

INLINE bool is_k(enum kind kind)
{
    return kind != KIND_A && kind != KIND_A_MIN;
}

INLINE bool has_min(enum kind kind)
{
    return kind == KIND_A_MIN || kind == KIND_K32_MIN || kind == KIND_K16_MIN;
}

INLINE bool by_16(enum kind kind)
{
    return kind == KIND_K16 || kind == KIND_K16_MIN;
}

INLINE int bias_shift(enum dtype type)
{
    switch (type) {
    case DTYPE_Q3_K: return 2;
    case DTYPE_Q4_0: return 3;
    case DTYPE_Q5_0:
    case DTYPE_MXFP4: return 4;
    case DTYPE_Q6_K: return 5;
    default: return 7; // Q8_0, IQ4_NL, IQ4_XS
    }
}

// Bytes of the codes and scales of 16 rows: of 32 numbers for kinds A, of 256 for kinds K.
INLINE size_t code_step(enum dtype type)
{
    switch (type) {
    case DTYPE_Q5_0:
    case DTYPE_Q5_1: return 16 * 20;
    case DTYPE_Q8_0: return 16 * 32;
    case DTYPE_Q2_K: return 16 * 64;
    case DTYPE_Q3_K: return 16 * 96;
    case DTYPE_Q5_K: return 16 * 160;
    case DTYPE_Q6_K: return 16 * 192;
    case DTYPE_Q4_K:
    case DTYPE_IQ4_XS: return 16 * 128;
    default: return 16 * 16;
    }
}

INLINE size_t scale_step(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1: return 16 * 4;
    case DTYPE_MXFP4: return 16;
    case DTYPE_Q2_K: return 16 * 20;
    case DTYPE_Q3_K: return 16 * 14;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: return 16 * 16;
    case DTYPE_Q6_K: return 16 * 18;
    case DTYPE_IQ4_XS: return 16 * 8;
    default: return 16 * 2;
    }
}

// ---- codes --------------------------------------------------------------------------------------------

INLINE __m512i load(const char *p, int vector)
{
    return _mm512_loadu_si512(p + 64 * vector);
}

INLINE __m512i bytes(int value)
{
    return _mm512_set1_epi8((char)value);
}

INLINE __m512i low(__m512i v)
{
    return _mm512_and_si512(v, bytes(15));
}

INLINE __m512i high(__m512i v)
{
    return _mm512_and_si512(_mm512_srli_epi16(v, 4), bytes(15));
}

// 2 bits of each byte from bit `at` on
INLINE __m512i two(__m512i v, int at)
{
    return _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128(at)), bytes(3));
}

// Bit `at` of each byte, moved to bit `to`.
INLINE __m512i bit(__m512i v, int at, int to)
{
    return _mm512_and_si512(
        _mm512_sll_epi16(_mm512_srl_epi16(v, _mm_cvtsi32_si128(at)), _mm_cvtsi32_si128(to)), bytes(1 << to));
}

// Bits 4i .. 4i+3 of a dword, each as bit 4 of one of its bytes.
INLINE __m512i fifth_bits(__m512i qh, int i)
{
    __m512i four = _mm512_and_si512(_mm512_srli_epi32(qh, (unsigned)(4 * i)), _mm512_set1_epi32(15));
    return _mm512_and_si512(_mm512_mullo_epi32(four, _mm512_set1_epi32(0x02040810)), bytes(16));
}

// The 16 numbers of IQ4_NL and IQ4_XS plus 128; twice those of MXFP4 plus 16.
INLINE __m512i table(enum dtype type)
{
    const __m128i iq4 = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153,
                                      (char)166, (char)181, (char)197, (char)217, (char)241);
    const __m128i fp4 = _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
    return _mm512_broadcast_i32x4(type == DTYPE_MXFP4 ? fp4 : iq4);
}

// Numbers 32 sub .. 32 sub + 31 of the block whose codes are at p; kinds A have blocks of one sub-block.
INLINE void unpack_codes(__m512i out[8], enum dtype type, const char *p, int sub)
{
    int half = sub / 4, quarter = sub % 4;
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
        UNROLL for (int i = 0; i < 4; i++) out[i] = low(load(p, i)), out[4 + i] = high(load(p, i));
        break;
    case DTYPE_Q5_0:
    case DTYPE_Q5_1:
        UNROLL for (int i = 0; i < 4; i++)
        {
            out[i] = _mm512_or_si512(low(load(p, i)), fifth_bits(load(p, 4), i));
            out[4 + i] = _mm512_or_si512(high(load(p, i)), fifth_bits(load(p, 4), 4 + i));
        }
        break;
    case DTYPE_Q8_0:
        UNROLL for (int i = 0; i < 8; i++) out[i] = _mm512_xor_si512(load(p, i), bytes(128));
        break;
    case DTYPE_IQ4_XS: p += 256 * sub; // fall through
    case DTYPE_IQ4_NL:
    case DTYPE_MXFP4:
        UNROLL for (int i = 0; i < 4; i++)
        {
            out[i] = _mm512_shuffle_epi8(table(type), low(load(p, i)));
            out[4 + i] = _mm512_shuffle_epi8(table(type), high(load(p, i)));
        }
        break;
    case DTYPE_Q2_K:
        UNROLL for (int i = 0; i < 8; i++) out[i] = two(load(p, 8 * half + i), 2 * quarter);
        break;
    case DTYPE_Q3_K:
        UNROLL for (int i = 0; i < 8; i++) out[i] =
            _mm512_or_si512(two(load(p, 8 * half + i), 2 * quarter), bit(load(p, 16 + i), sub, 2));
        break;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        if (sub % 2)
            UNROLL for (int i = 0; i < 8; i++) out[i] = high(load(p, 4 * (sub - 1) + i));
        else
            UNROLL for (int i = 0; i < 8; i++) out[i] = low(load(p, 4 * sub + i));
        if (type == DTYPE_Q5_K)
            UNROLL for (int i = 0; i < 8; i++) out[i] = _mm512_or_si512(out[i], bit(load(p, 32 + i), sub, 4));
        break;
    case DTYPE_Q6_K:
        if (quarter >= 2)
            UNROLL for (int i = 0; i < 8; i++) out[i] = high(load(p, 16 * half + 8 * (quarter % 2) + i));
        else
            UNROLL for (int i = 0; i < 8; i++) out[i] = low(load(p, 16 * half + 8 * (quarter % 2) + i));
        UNROLL for (int i = 0; i < 8; i++) out[i] =
            _mm512_or_si512(out[i], _mm512_slli_epi16(two(load(p, 32 + 8 * half + i), 2 * quarter), 4));
        break;
    default: __builtin_unreachable();
    }
}

// ---- scales -------------------------------------------------------------------------------------------

INLINE __m512 halves(const char *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

// Kinds A: the scale of the block, and with A_MIN its minimum behind it.
INLINE __m512 float_scale(enum dtype type, const char *p)
{
    if (type != DTYPE_MXFP4) return halves(p);
    // 2^(e - 128), half of the format's scale because the table holds doubles; below the smallest normal number as bits.
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x200000), e); // e = 0, 1
    return _mm512_castsi512_ps(
        _mm512_mask_mov_epi32(normal, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), tiny));
}

INLINE __m512 float_min(const char *p)
{
    return halves(p + 32);
}

// Byte `at` of each dword: unsigned, or with its sign.
INLINE __m512i byte_of(__m512i v, int at)
{
    return _mm512_and_si512(_mm512_srl_epi32(v, _mm_cvtsi32_si128(8 * at)), _mm512_set1_epi32(255));
}

INLINE __m512i signed_byte_of(__m512i v, int at)
{
    return _mm512_srai_epi32(_mm512_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * at)), 24);
}

// Sub-scales of Q4_K and Q5_K: numbers 4q .. 4q+3 as bytes; of 6 bits each, the upper ones spread over other bytes.
INLINE __m512i k4_scales(const char *p, int q)
{
    if (q == 0) return _mm512_and_si512(load(p, 0), bytes(63));
    return _mm512_or_si512(low(load(p, 2)), _mm512_and_si512(_mm512_srli_epi16(load(p, 0), 2), bytes(48)));
}

INLINE __m512i k4_mins(const char *p, int q)
{
    if (q == 0) return _mm512_and_si512(load(p, 1), bytes(63));
    return _mm512_or_si512(high(load(p, 2)), _mm512_and_si512(_mm512_srli_epi16(load(p, 1), 2), bytes(48)));
}

// Sub-scales of Q3_K: 4q .. 4q+3 as bytes, before 32 is subtracted.
INLINE __m512i k3_scales(const char *p, int q)
{
    __m512i four = q < 2 ? low(load(p, q % 2)) : high(load(p, q % 2));
    return _mm512_or_si512(four, _mm512_slli_epi16(two(load(p, 2), 2 * q), 4));
}

// Sub-scale number `at`, of 32 or 16 numbers by the kind, as int32.
INLINE __m512i sub_scale(enum dtype type, const char *p, int at)
{
    int q = at / 4, place = at % 4;
    switch (type) {
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: return byte_of(k4_scales(p, q), place);
    case DTYPE_Q6_K: return signed_byte_of(load(p, q), place);
    case DTYPE_Q2_K: return _mm512_and_si512(byte_of(load(p, q), place), _mm512_set1_epi32(15));
    case DTYPE_Q3_K: return _mm512_sub_epi32(byte_of(k3_scales(p, q), place), _mm512_set1_epi32(32));
    case DTYPE_IQ4_XS: {
        __m512i four =
            _mm512_and_si512(_mm512_srl_epi32(load(p, 0), _mm_cvtsi32_si128(4 * at)), _mm512_set1_epi32(15));
        __m512i upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p + 64)));
        upper = _mm512_and_si512(_mm512_srl_epi32(upper, _mm_cvtsi32_si128(2 * at)), _mm512_set1_epi32(3));
        return _mm512_sub_epi32(_mm512_or_si512(four, _mm512_slli_epi32(upper, 4)), _mm512_set1_epi32(32));
    }
    default: __builtin_unreachable();
    }
}

// Sub-minima 2 at and 2 at + 1 as a pair of int16.
INLINE __m512i sub_min_pair(enum dtype type, const char *p, int at)
{
    int q = at / 2;
    __m512i four = type == DTYPE_Q2_K ? high(load(p, q)) : k4_mins(p, q);
    __m512i first = byte_of(four, 2 * at % 4), second = byte_of(four, 2 * at % 4 + 1);
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

// d and dmin of kinds K.
INLINE __m512 block_scale(enum dtype type, const char *p)
{
    switch (type) {
    case DTYPE_Q2_K: return halves(p + 256);
    case DTYPE_Q3_K: return halves(p + 192);
    case DTYPE_Q6_K: return halves(p + 256);
    case DTYPE_IQ4_XS: return halves(p + 96);
    default: return halves(p + 192); // Q4_K, Q5_K
    }
}

INLINE __m512 block_min(enum dtype type, const char *p)
{
    return halves(p + (type == DTYPE_Q2_K ? 288 : 224));
}

enum {
    SUPER = 256,       // numbers of a block of activations
    BLOCK_BYTES = 292, // of it
    DIRECT = 4,        // columns that are multiplied from the packed weights
    STRIP = 6,         // columns that are multiplied from a panel at once
};

// ---- activations --------------------------------------------------------------------------------------
//
// A block of Q8_K: float d, int8 q[256], int16 sums of 16 q's each.

INLINE float scale_of(const char *block)
{
    float d;
    memcpy(&d, block, 4);
    return d;
}

INLINE const int8_t *codes_of(const char *block)
{
    return (const int8_t *)block + 4;
}

// What a kind wants to know of the sums of one block, in 64 bytes:
//   A, K32    8 int32, the sums of 32 times -bias    A_MIN     8 float, the sums of 32
//   K16      16 int32, the sums of 16 times -bias    K32_MIN   4 pairs of int16, the sums of 32    K16_MIN  8 pairs, of 16
INLINE void prepare_sums(int32_t sums[16], const char *block, const enum kind kind, const int shift)
{
    __m256i by_sixteen = _mm256_loadu_si256((const __m256i *)(block + 4 + SUPER));
    __m256i by_32 = _mm256_madd_epi16(by_sixteen, _mm256_set1_epi16(1));
    switch (kind) {
    case KIND_A:
    case KIND_K32:
        _mm256_store_si256((__m256i *)sums,
                           _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(by_32, shift)));
        break;
    case KIND_K16:
        _mm512_store_si512(
            sums, _mm512_sub_epi32(_mm512_setzero_si512(),
                                   _mm512_slli_epi32(_mm512_cvtepi16_epi32(by_sixteen), (unsigned)shift)));
        break;
    case KIND_A_MIN: _mm256_store_ps((float *)sums, _mm256_cvtepi32_ps(by_32)); break;
    case KIND_K32_MIN: _mm_store_si128((__m128i *)sums, _mm256_cvtepi32_epi16(by_32)); break;
    case KIND_K16_MIN: _mm256_store_si256((__m256i *)sums, by_sixteen); break;
    }
}

// ---- the inner product --------------------------------------------------------------------------------

// The compiler must keep accumulators in registers: it may not see into the product.
INLINE void dot(__m512i *sum, __m512i codes, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(codes), "v"(x));
}

INLINE __m512i four(const int8_t *x)
{
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return _mm512_set1_epi32(bytes);
}

struct columns {
    const char *x[STRIP]; // first block of each
    const int32_t *sums;  // [column][block][16]
    size_t sums_stride;   // int32 from column to column
};

// The product for at most DIRECT columns, for every type.
#define INT8_TYPES(X)                                                                                       \
    X(q4_0, DTYPE_Q4_0)                                                                                     \
    X(q4_1, DTYPE_Q4_1) X(q5_0, DTYPE_Q5_0) X(q5_1, DTYPE_Q5_1) X(q8_0, DTYPE_Q8_0) X(iq4_nl, DTYPE_IQ4_NL) \
        X(mxfp4, DTYPE_MXFP4) X(q2_k, DTYPE_Q2_K) X(q3_k, DTYPE_Q3_K) X(q4_k, DTYPE_Q4_K)                   \
            X(q5_k, DTYPE_Q5_K) X(q6_k, DTYPE_Q6_K) X(iq4_xs, DTYPE_IQ4_XS)
#define DECLARE_FEW(name, type) matmul_fwd_fn matmul_few_##name##_avx512_vnni;
INT8_TYPES(DECLARE_FEW)
#undef DECLARE_FEW

#endif
