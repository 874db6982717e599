// ops/matmul_int8.h -- products of packed quantized weights (ops/packed.h) and rows of Q8_K in integers: the source of the
// forms for AVX2 and AVX-512 VNNI, which differ in their vectors and in how they multiply.
//
//     y[t][n] = sum over blocks b of 256:  e_tb * s_nb,   s = d * (sum of sub-scale * dot) - dmin * (sum of sub-min * sum of x)
//
// with e the scale of the activations' block. Within a block kinds K are exact, so only the order of blocks matters; kinds A add
// up their sub-blocks of 32 in order by fused multiply-adds, then the blocks. All paths run the same super_block(), so the bits
// of an output do not depend on the number of columns (activation rows); and integers being integers, not on the tier either.
//
//   up to DIRECT columns   16 rows at a time, unpacked in registers for FORMS columns; the packed bytes are read in one stream
//   more                   a panel of VECS vectors of rows, DEEP numbers deep, is unpacked into the cache once for all columns,
//                          while the bytes of the next one are on their way; each activation is a broadcast that feeds VECS
//                          products and needs no shuffle
//
// Every type is brought to the same form, lane r of a vector of bytes being numbers 4i .. 4i+3 of row r. Codes that stand for
// negative numbers get a bias of 1 << bias_shift, which is taken back through the sums of the activations, or are left with their
// sign where the product wants that (SIGNED). Types are constants at every call: the switches vanish.
//
//     kind    number                                        types
//     A       scale (code - bias), a float scale every 32   Q4_0 Q5_0 Q8_0 IQ4_NL MXFP4
//     A_MIN   scale code + min                              Q4_1 Q5_1
//     K32     d (sub-scale (code - bias)), every 32         IQ4_XS
//     K32_MIN d sub-scale code - dmin sub-min               Q4_K Q5_K
//     K16     d (sub-scale (code - bias)), every 16         Q3_K Q6_K
//     K16_MIN d sub-scale code - dmin sub-min               Q2_K
//     K256    d (code - bias)                               TQ2_0
//
// The including file defines, before the include:
//   vec, vecf, LANES                  int32 and float vectors
//   STRIP, FORMS, DIRECT              columns of a tile with a panel; without, at once and in all
//   vec_..., vecf_...                 what is used below of them
//   WIDENS                            products are summed in 16 bits first (no VNNI)
// then unit(), the product of a unit of the packed codes or of a sub-block of a panel, and includes ops/matmul_int8_run.h, which has
// the loops.
#ifndef OPS_MATMUL_INT8_H
#define OPS_MATMUL_INT8_H

#include "ops/matmul_simd.h"
#include "ops/packed.h"

#define INLINE static inline ALWAYS

enum {
    SUPER = 256,                // numbers of a block of activations
    X_BYTES = 292,              // of it
    VECS = 2,                   // vectors of rows in a tile
    VEC = 4 * LANES,            // bytes of a vector
    PARTS = 16 / LANES,         // vectors of a group of 16 rows
    ROWS = VECS * LANES,        // of a panel
    SUB_BYTES = 8 * VECS * VEC, // codes of 32 numbers in a panel
    SCALE_BYTES = VECS * VEC,   // a scale of each row in a panel
    DEEP = 8192,                // numbers; a multiple of SUPER
};

enum kind { KIND_A, KIND_A_MIN, KIND_K32, KIND_K32_MIN, KIND_K16, KIND_K16_MIN, KIND_K256 };

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
    case DTYPE_TQ2_0: return KIND_K256;
    default: return KIND_A;
    }
}

INLINE bool is_k(enum dtype type)
{
    return kind_of(type) != KIND_A && kind_of(type) != KIND_A_MIN;
}

INLINE bool by_16(enum dtype type)
{
    return kind_of(type) == KIND_K16 || kind_of(type) == KIND_K16_MIN;
}

// Codes of eight bits do not fit the sums of 16 bits unless signs are moved to the activations.
INLINE bool is_signed(enum dtype type)
{
    return WIDENS && (type == DTYPE_Q8_0 || type == DTYPE_IQ4_NL || type == DTYPE_IQ4_XS);
}

// The minimum, or the bias, is taken off through pairs of int16 once a block.
INLINE bool has_pairs(enum dtype type)
{
    return kind_of(type) == KIND_K32_MIN || kind_of(type) == KIND_K16_MIN ||
           (WIDENS && kind_of(type) == KIND_K16);
}

INLINE int bias_shift(enum dtype type)
{
    switch (type) {
    case DTYPE_TQ2_0: return 0;
    case DTYPE_Q3_K: return 2;
    case DTYPE_Q4_0: return 3;
    case DTYPE_Q5_0:
    case DTYPE_MXFP4: return 4;
    case DTYPE_Q6_K: return 5;
    default: return 7; // Q8_0, IQ4_NL, IQ4_XS
    }
}

// Of a unit of packed codes: sub-blocks, vectors of 64 bytes, and units of a block of 256.
INLINE int unit_subs(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
    case DTYPE_Q6_K: return 2;
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
    case DTYPE_TQ2_0: return 4;
    default: return 1;
    }
}

INLINE int unit_words(enum dtype type)
{
    switch (type) {
    case DTYPE_Q5_0:
    case DTYPE_Q5_1: return 5;
    case DTYPE_Q8_0:
    case DTYPE_Q2_K:
    case DTYPE_TQ2_0:
    case DTYPE_Q4_K: return 8;
    case DTYPE_Q5_K: return 10;
    case DTYPE_Q3_K:
    case DTYPE_Q6_K: return 12;
    default: return 4;
    }
}

INLINE int units_of(enum dtype type)
{
    return 8 / unit_subs(type);
}

// The sub-blocks of unit u are unit_first(), and every unit_step() behind it.
INLINE int unit_first(enum dtype type, int u)
{
    return type == DTYPE_Q6_K ? u / 2 * 4 + u % 2 : u * unit_subs(type);
}

INLINE int unit_step(enum dtype type)
{
    return type == DTYPE_Q6_K ? 2 : 1;
}

// Bytes of the scales of 16 rows and a block, apart from those at the head of the group.
INLINE int scale_step(enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_1:
    case DTYPE_Q5_1: return 16 * 4;
    case DTYPE_MXFP4: return 16;
    case DTYPE_Q2_K: return 16 * 20;
    case DTYPE_Q3_K: return 16 * 12;
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
    case DTYPE_Q6_K: return 16 * 16;
    case DTYPE_IQ4_XS: return 16 * 8;
    case DTYPE_TQ2_0: return 0;
    default: return 16 * 2;
    }
}

INLINE bool has_head(enum dtype type)
{
    return type == DTYPE_Q3_K || type == DTYPE_Q6_K || type == DTYPE_TQ2_0;
}

INLINE size_t head_bytes(enum dtype type, int64_t k)
{
    return has_head(type) ? ((size_t)(k / SUPER) * 32 + 63) / 64 * 64 : 0;
}

// Bytes of the scales that stand before the codes of `subs` sub-blocks, and of both for 256 numbers.
INLINE int scales_bytes(enum dtype type, int subs)
{
    return scale_step(type) * (is_k(type) ? 1 : subs);
}

INLINE int super_step(enum dtype type)
{
    return scales_bytes(type, 8) + units_of(type) * unit_words(type) * 64;
}

// ---- codes --------------------------------------------------------------------------------------------
//
// p is where a vector's part of the first 64 bytes begins.

INLINE vec word(const char *p, int i)
{
    return vec_load(p + 64 * i);
}

INLINE vec down(vec v, int n, int mask)
{
    return vec_and(n ? vec_srl16(v, n) : v, vec_bytes(mask));
}

// Bits moved up or down within each byte, among others that are not meant.
INLINE vec moved(vec v, int from, int to)
{
    return from < to ? vec_sll16(v, to - from) : from > to ? vec_srl16(v, from - to) : v;
}

// The lower bits of each byte under `mask`, and the bits above them from `upper`, where they are `count` bits.
INLINE vec with_upper(vec lower, vec upper, int count, int mask)
{
    return vec_and(vec_merge(vec_bytes(mask), lower, upper), vec_bytes((mask + 1) * (1 << count) - 1));
}

// Bits 4i .. 4i+3 of a dword, each as bit 4 of one of its bytes.
INLINE vec fifth_bits(vec qh, int i)
{
    vec four = vec_and(vec_srl32(qh, 4 * i), vec_set(15));
    return vec_and(vec_mul32(four, vec_set(0x02040810)), vec_bytes(16));
}

// The 16 numbers of IQ4_NL and IQ4_XS, plus 128 unless they keep their sign; twice those of MXFP4 plus 16.
INLINE vec from_table(enum dtype type, vec at)
{
    const __m128i iq4 =
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    const __m128i fp4 = _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
    if (type == DTYPE_MXFP4) return vec_table(fp4, at);
    return vec_table(is_signed(type) ? iq4 : _mm_xor_si128(iq4, _mm_set1_epi8(-128)), at);
}

// Where the lower bits of numbers 4i .. 4i+3 are, of all sub-blocks of the unit at p.
INLINE vec lower(enum dtype type, const char *p, int i)
{
    switch (type) {
    case DTYPE_Q5_0:
    case DTYPE_Q5_1: return word(p, 1 + i % 4);
    case DTYPE_Q5_K: return word(p, 2 + i);
    case DTYPE_Q3_K: return word(p, 4 + i);
    case DTYPE_Q6_K: return word(p, i / 4 * 6 + 2 + i % 4);
    case DTYPE_Q8_0:
    case DTYPE_Q2_K:
    case DTYPE_TQ2_0:
    case DTYPE_Q4_K: return word(p, i);
    default: return word(p, i % 4);
    }
}

// Numbers 4i .. 4i+3 of the k-th sub-block of the unit at p, whose lower bits are in v.
INLINE vec code(enum dtype type, const char *p, vec v, int k, int i)
{
    switch (type) {
    case DTYPE_Q4_0:
    case DTYPE_Q4_1: return down(v, i / 4 * 4, 15);
    case DTYPE_Q5_0:
    case DTYPE_Q5_1: return vec_or(down(v, i / 4 * 4, 15), fifth_bits(word(p, 0), i));
    case DTYPE_Q8_0: return is_signed(type) ? v : vec_xor(v, vec_bytes(128));
    case DTYPE_IQ4_XS:
    case DTYPE_IQ4_NL:
    case DTYPE_MXFP4: return from_table(type, down(v, i / 4 * 4, 15));
    case DTYPE_Q2_K:
    case DTYPE_TQ2_0: return down(v, 2 * k, 3);
    case DTYPE_Q3_K: return with_upper(moved(v, 2 * k, 0), moved(word(p, k), i, 2), 1, 3);
    case DTYPE_Q4_K: return down(v, 4 * k, 15);
    case DTYPE_Q5_K: return with_upper(moved(v, 4 * k, 0), moved(word(p, k), i, 4), 1, 15);
    case DTYPE_Q6_K:
        return with_upper(moved(v, 4 * k, 0), moved(word(p, i / 4 * 6 + k), i % 4 * 2, 4), 2, 15);
    default: __builtin_unreachable();
    }
}

// ---- scales: p is where the scales of the block begin, part the vector within the group ---------------

// Kinds A: the scale of the block, and with A_MIN its minimum behind it.
INLINE vecf float_scale(enum dtype type, const char *p, int part)
{
    if (type != DTYPE_MXFP4) return vecf_halves(p + 2 * LANES * part);
    // 2^(e - 128), half of the format's scale because the table holds doubles; below the smallest normal number as bits.
    vec e = vec_from_u8(p + LANES * part);
    vec tiny = vec_sllv32(vec_set(0x200000), e); // e = 0, 1; 0 for all from 11 on, and no normal number is 0
    return vec_as_float(vec_select_less(e, 2, tiny, vec_sll32(vec_sub32(e, vec_set(1)), 23)));
}

INLINE vecf float_min(const char *p, int part)
{
    return vecf_halves(p + 32 + 2 * LANES * part);
}

INLINE vec byte_of(vec v, int at)
{
    vec moved_down = at ? vec_srl32(v, 8 * at) : v;
    return at == 3 ? moved_down : vec_and(moved_down, vec_set(255));
}

// Four sub-scales of six bits as bytes: those of the first four are `low`, the upper bits of the others spread over its two upper bits.
INLINE vec k4_four(vec low, vec rest, int q)
{
    if (q == 0) return vec_and(low, vec_bytes(63));
    return vec_or(vec_and(rest, vec_bytes(15)), vec_and(vec_srl16(low, 2), vec_bytes(48)));
}

INLINE vec k4_scales(const char *p, int q)
{
    return k4_four(word(p, 0), word(p, 2), q);
}

INLINE vec k4_mins(const char *p, int q)
{
    return k4_four(word(p, 1), vec_srl16(word(p, 2), 4), q);
}

// Sub-scales of Q3_K: 4q .. 4q+3 as bytes, before 32 is subtracted.
INLINE vec k3_scales(const char *p, int q)
{
    return vec_or(down(word(p, q % 2), q / 2 * 4, 15), vec_and(moved(word(p, 2), 2 * q, 4), vec_bytes(48)));
}

// Sub-scale number `at`, of 32 or 16 numbers by the kind, as int32. Those of Q6_K are bytes; of the other types, dwords have four.
INLINE vec sub_scale(enum dtype type, const char *scales, int part, int at)
{
    const char *p = scales + VEC * part;
    int q = at / 4, place = at % 4;
    switch (type) {
    case DTYPE_Q4_K:
    case DTYPE_Q5_K: return byte_of(k4_scales(p, q), place);
    case DTYPE_Q6_K: return vec_from_s8(scales + PACKED_ROWS * at + LANES * part);
    case DTYPE_Q2_K: return vec_and(byte_of(word(p, q), place), vec_set(15));
    case DTYPE_Q3_K: return vec_sub32(byte_of(k3_scales(p, q), place), vec_set(32));
    case DTYPE_IQ4_XS: {
        vec four = vec_and(vec_srl32(word(p, 0), 4 * at), vec_set(15));
        vec upper = vec_and(vec_srl32(vec_from_u16(scales + 64 + 2 * LANES * part), 2 * at), vec_set(3));
        return vec_sub32(vec_or(four, vec_sll32(upper, 4)), vec_set(32));
    }
    default: __builtin_unreachable();
    }
}

// Pair `at` of the sub-minima, of K16 of the sub-scales, as int16. Of four in a dword the first and the third make a pair, then the
// second and the fourth.
INLINE vec sub_pair(enum dtype type, const char *scales, int part, int at)
{
    const char *p = scales + VEC * part;
    const int first = at / 2 * 4 + at % 2;
    if (kind_of(type) == KIND_K16)
        return vec_or(vec_and(sub_scale(type, scales, part, first), vec_set(0xffff)),
                      vec_sll32(sub_scale(type, scales, part, first + 2), 16));
    vec four = type == DTYPE_Q2_K ? down(word(p, at / 2), 4, 15) : k4_mins(p, at / 2);
    return at % 2 ? vec_srl16(four, 8) : vec_and(four, vec_set(0x00ff00ff));
}

// d and dmin of kinds K; d is at the head where the type has one.
INLINE vecf block_scale(enum dtype type, const char *p, const char *head, int part)
{
    if (has_head(type)) return vecf_halves(head + 2 * LANES * part);
    int at = type == DTYPE_Q2_K ? 256 : type == DTYPE_IQ4_XS ? 96 : 192;
    return vecf_halves(p + at + 2 * LANES * part);
}

INLINE vecf block_min(enum dtype type, const char *p, int part)
{
    return vecf_halves(p + (type == DTYPE_Q2_K ? 288 : 224) + 2 * LANES * part);
}

// ---- activations: a block of Q8_K is float d, int8 q[256], int16 sums of 16 q's each ------------------

INLINE float scale_of(const char *block)
{
    float d;
    memcpy(&d, block, 4);
    return d;
}

// Dwords of activations, at any address.
typedef int32_t dword __attribute__((aligned(1), may_alias));

// What a type wants to know of the sums of one block, `slot` dwords:
//   A, K32   8 int32, the sums of 32 times -bias     A_MIN     8 float, the sums of 32
//   K16     16 int32, the sums of 16 times -bias     K32_MIN   4 pairs of int16, the sums of 32
//   K256     1 int32, the sum of all times -bias
//   K16_MIN, and K16 where products widen: 8 pairs, of 16
// Pairs are those of sub_pair().
INLINE int slot_of(enum dtype type)
{
    if (kind_of(type) == KIND_K256) return 1;
    return kind_of(type) == KIND_K32_MIN ? 4 : kind_of(type) == KIND_K16 && !has_pairs(type) ? 16 : 8;
}

INLINE int32_t sum_of(__m256i eight)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

INLINE void prepare_sums(int32_t *sums, const char *block, const enum dtype type)
{
    const __m256i by_sixteen = _mm256_loadu_si256((const __m256i *)(block + 4 + SUPER));
    const __m256i by_32 = _mm256_madd_epi16(by_sixteen, _mm256_set1_epi16(1));
    const __m256i zero = _mm256_setzero_si256();
    const __m128i paired = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    __m256i *out = (__m256i *)sums;
    switch (kind_of(type)) {
    case KIND_A:
    case KIND_K32:
        out[0] = is_signed(type) ? zero : _mm256_sub_epi32(zero, _mm256_slli_epi32(by_32, bias_shift(type)));
        break;
    case KIND_K256: *sums = -(sum_of(by_32) << bias_shift(type)); break;
    case KIND_A_MIN: _mm256_store_ps((float *)sums, _mm256_cvtepi32_ps(by_32)); break;
    case KIND_K32_MIN:
        _mm_store_si128((__m128i *)sums, _mm_shuffle_epi8(_mm_packs_epi32(_mm256_castsi256_si128(by_32),
                                                                          _mm256_extracti128_si256(by_32, 1)),
                                                          paired));
        break;
    case KIND_K16:
        if (!has_pairs(type)) {
            __m256i first = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(by_sixteen));
            __m256i second = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(by_sixteen, 1));
            out[0] = _mm256_sub_epi32(zero, _mm256_slli_epi32(first, bias_shift(type)));
            out[1] = _mm256_sub_epi32(zero, _mm256_slli_epi32(second, bias_shift(type)));
            break;
        } // fall through
    case KIND_K16_MIN: out[0] = _mm256_shuffle_epi8(by_sixteen, _mm256_broadcastsi128_si256(paired)); break;
    }
}

// ---- a block of 256: vectors of rows times nc columns -------------------------------------------------

// Where weights come from: the packed bytes, whose sub-scales are unpacked apart a block at a time; or a panel, where each sub-block
// has codes [8][VECS], scales [0, 1 or 2][VECS] and minima of A_MIN [VECS], and behind the eighth of kinds K stand d [VECS], dmin
// [VECS] and pairs [4 or 8][VECS].
enum source { PACKED, PANEL };

INLINE int panel_sub_bytes(enum dtype type)
{
    const int scales = kind_of(type) == KIND_K256 ? 0 : by_16(type) || kind_of(type) == KIND_A_MIN ? 2 : 1;
    return SUB_BYTES + SCALE_BYTES * scales;
}

INLINE int panel_block_bytes(enum dtype type)
{
    return 8 * panel_sub_bytes(type) + (!is_k(type)       ? 0
                                        : has_pairs(type) ? by_16(type) ? 10 : 6
                                                          : 1) *
                                           SCALE_BYTES;
}

struct operand {
    const char *codes;  // of the unit, or the panel's sub-block
    const char *scales; // PACKED: of the sub-block, for kinds K of the block
    const char *head;   // PACKED: d, where it is at the head of the group
    const char *ints;   // PACKED, is_staged: sub-scales of the block [piece][PARTS]
};

enum { COLUMNS = FORMS > STRIP ? FORMS : STRIP };

// The activations of one block: their own blocks, and the sums as prepare_sums() leaves them, [columns][slot].
struct columns {
    const char *x[COLUMNS];
    const int32_t *sums;
};

// Vectors are those of a panel, or the PARTS of a group of 16 rows.
INLINE int vectors(const enum source from)
{
    return from == PANEL ? VECS : PARTS;
}

INLINE vec panel_word(const struct operand *w, int i, int v)
{
    return vec_load(w->codes + (i * VECS + v) * VEC);
}

// A sub-scale as the product takes it: int32, or where products widen, twice as int16.
INLINE vec scale_form(vec scale)
{
    return WIDENS ? vec_or(vec_and(scale, vec_set(0xffff)), vec_sll32(scale, 16)) : scale;
}

// Packed sub-scales are unpacked for the whole block at once, unless they are whole bytes.
INLINE bool is_staged(enum dtype type)
{
    return is_k(type) && type != DTYPE_Q6_K && type != DTYPE_TQ2_0;
}

// Of piece `at` of the block, half h of its sub-block.
INLINE vec int_scale(const struct operand *w, const enum dtype type, const enum source from, int at, int h,
                     int v)
{
    if (from == PANEL) return vec_load(w->codes + SUB_BYTES + (h * VECS + v) * VEC);
    if (!is_staged(type)) return scale_form(sub_scale(type, w->scales, v, at));
    return vec_load(w->ints + (at * PARTS + v) * VEC);
}

INLINE vecf real_scale(const struct operand *w, const enum dtype type, const enum source from, int v)
{
    if (from == PANEL) return vecf_load(w->codes + SUB_BYTES + VEC * v);
    return float_scale(type, w->scales, v);
}

INLINE vecf real_min(const struct operand *w, const enum source from, int v)
{
    if (from == PANEL) return vecf_load(w->codes + SUB_BYTES + SCALE_BYTES + VEC * v);
    return float_min(w->scales, v);
}

// The sums of columns within a block: integers of kinds K, floats of kinds A.
struct tile {
    vec total[VECS][COLUMNS];
    vecf part[VECS][COLUMNS];
};

#endif
