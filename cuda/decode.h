// cuda/decode.h -- the quantized types of weights, a small function each: 32 numbers of a row as codes of 8 bits and their scales.
//
// What one access of 16 bytes gives of a type are two times 16 numbers that stand together in the row (nibbles 16, 32 or 64 numbers
// apart), so an ITEM is two halves: number i of a half is scale * code[i] - min, and stands at `at` + i of the row. The items of a row,
// inputs / 32 of them, are all its numbers. Drawings of the blocks: quant/quant.h; their parting into planes: cuda/planes.h.
#ifndef CUDA_DECODE_H
#define CUDA_DECODE_H

#include "cuda/device.h"

// clang-format off
#define CUDA_QUANTIZED(X)                                                           \
    X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) \
    X(IQ4_NL) X(IQ4_XS) X(MXFP4) X(TQ1_0) X(TQ2_0)                                  \
    X(IQ1_S) X(IQ1_M) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S) X(NVFP4) X(Q1_0)
// clang-format on

struct half_item {
    int code[4]; // 4 codes of 8 bits with a sign in each, the first the lowest
    int32_t at;
    float scale, min;
};

__device__ inline vec<int, 4> load_codes(const uint8_t *p)
{
    return load_stream((const vec<int, 4> *)p);
}

__device__ inline float load_f16(const uint8_t *p)
{
    return to_f32(load((const f16 *)p));
}

// Bits 0 to 3 become bit `at` of bytes 0 to 3.
__device__ inline int spread_bits(int bits, int at)
{
    return ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) << at;
}

struct decode_Q8_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const float d = load_f16(scales + item * 2);
        for (int h = 0; h < 2; h++) {
            const vec<int, 4> word = load_codes(codes + item * 32 + h * 16);
            for (int i = 0; i < 4; i++) half[h].code[i] = word.x[i];
            half[h].at = (int32_t)item * 32 + h * 16;
            half[h].scale = d, half[h].min = 0;
        }
    }
};

// Q4_0, Q4_1, Q5_0, Q5_1: nibbles 16 numbers apart; `fifth` has bit i for number i.
__device__ inline void decode_nibbles(half_item (&half)[2], const uint8_t *codes, int64_t item,
                                      unsigned fifth, int offset, float scale, float min)
{
    const vec<int, 4> word = load_codes(codes + item * 16);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 4; i++) {
            const int nibbles = word.x[i] >> 4 * h & 0x0f0f0f0f;
            const int code = nibbles | spread_bits((int)(fifth >> (16 * h + 4 * i) & 15), 4);
            half[h].code[i] = (int)__vsub4((unsigned)code, (unsigned)offset);
        }
        half[h].at = (int32_t)item * 32 + h * 16;
        half[h].scale = scale, half[h].min = min;
    }
}

struct decode_Q4_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        decode_nibbles(half, codes, item, 0, 0x08080808, load_f16(scales + item * 2), 0);
    }
};

struct decode_Q4_1 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint8_t *s = scales + item * 4;
        decode_nibbles(half, codes, item, 0, 0, load_f16(s), -load_f16(s + 2));
    }
};

// The fifth bits stand behind a block's d, on boundaries of 2.
__device__ inline unsigned load_fifth(const uint8_t *p)
{
    return load((const uint16_t *)p) | (unsigned)load((const uint16_t *)p + 1) << 16;
}

struct decode_Q5_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint8_t *s = scales + item * 6;
        decode_nibbles(half, codes, item, load_fifth(s + 2), 0x10101010, load_f16(s), 0);
    }
};

struct decode_Q5_1 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint8_t *s = scales + item * 8;
        decode_nibbles(half, codes, item, load_fifth(s + 4), 0, load_f16(s), -load_f16(s + 2));
    }
};

// Byte `i` of a word
__device__ inline float byte_to_f32(int word, int i)
{
    return (float)((unsigned)word >> 8 * i & 0xff);
}

// Q4_K and Q5_K: nibbles 32 numbers apart, of sub-blocks 2 pair and 2 pair + 1; scales and minima of six bits, quant_unpack_6bit(), two
// at a time: `head` is d and dmin, then bytes of the scales of sub-blocks 0 to 3, of their minima, and of the rest.
__device__ inline void scales_6bit(half_item (&half)[2], const vec<int, 4> &head, int pair)
{
    const int at = 16 * (pair & 1);
    const int scale = head.x[1] >> at, min = head.x[2] >> at, rest = head.x[3] >> at;
    const bool low = pair < 2;
    const int scales = low ? scale & 0x3f3f : (rest & 0x0f0f) | (scale >> 2 & 0x3030);
    const int minima = low ? min & 0x3f3f : (rest >> 4 & 0x0f0f) | (min >> 2 & 0x3030);
    f16 d, dmin;
    d.bits = (uint16_t)(head.x[0] & 0xffff), dmin.bits = (uint16_t)((unsigned)head.x[0] >> 16);
    for (int h = 0; h < 2; h++) {
        half[h].scale = to_f32(d) * byte_to_f32(scales, h);
        half[h].min = to_f32(dmin) * byte_to_f32(minima, h);
    }
}

struct decode_Q4_K {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int64_t block = item / 8;
        const int pair = (int)(item % 8) / 2, c = (int)(item % 2);
        const vec<int, 4> word = load_codes(codes + block * 128 + 32 * pair + 16 * c);
        const vec<int, 4> head = load((const vec<int, 4> *)(scales + block * 16));
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < 4; i++) half[h].code[i] = word.x[i] >> 4 * h & 0x0f0f0f0f;
            half[h].at = (int32_t)block * 256 + 64 * pair + 32 * h + 16 * c;
        }
        scales_6bit(half, head, pair);
    }
};

struct decode_Q5_K {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int64_t block = item / 8;
        const int pair = (int)(item % 8) / 2, c = (int)(item % 2);
        const uint8_t *fifth = codes + block * 160;
        const vec<int, 4> bits = load_codes(fifth + 16 * c),
                          word = load_codes(fifth + 32 + 32 * pair + 16 * c);
        const vec<int, 4> head = load((const vec<int, 4> *)(scales + block * 16));
        for (int h = 0; h < 2; h++) {
            const int sub = 2 * pair + h;
            for (int i = 0; i < 4; i++)
                half[h].code[i] = (word.x[i] >> 4 * h & 0x0f0f0f0f) | (bits.x[i] >> sub & 0x01010101) << 4;
            half[h].at = (int32_t)block * 256 + 32 * sub + 16 * c;
        }
        scales_6bit(half, head, pair);
    }
};

struct decode_Q6_K {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int64_t block = item / 8;
        const int side = (int)(item % 8) / 4, c = (int)(item % 4);
        const uint8_t *from = codes + block * 192, *s = scales + block * 18;
        const vec<int, 4> low = load_codes(from + 64 * side + 16 * c);
        const vec<int, 4> high = load_codes(from + 128 + 32 * side + 16 * (c % 2));
        const float d = load_f16(s + 16);
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < 4; i++) {
                const int top = high.x[i] >> (4 * h + c / 2 * 2) & 0x03030303;
                half[h].code[i] =
                    (int)__vsub4((unsigned)((low.x[i] >> 4 * h & 0x0f0f0f0f) | top << 4), 0x20202020);
            }
            half[h].at = (int32_t)block * 256 + 128 * side + 64 * h + 16 * c;
            half[h].scale = d * (float)(int8_t)load(s + 8 * side + 4 * h + c), half[h].min = 0;
        }
    }
};

// Q2_K and Q3_K: two bits of 4 x 32 numbers a byte; item: which half of the block, which 16 bytes, which two of the four.
struct pairs_item {
    int64_t block;
    int side, c, first;
    __device__ explicit pairs_item(int64_t item)
        : block(item / 8), side((int)(item % 8) / 4), c((int)(item / 2 % 2)), first((int)(item % 2) * 2)
    {
    }
};

struct decode_Q2_K {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const pairs_item p(item);
        const vec<int, 4> word = load_codes(codes + p.block * 64 + 32 * p.side + 16 * p.c);
        const uint8_t *s = scales + p.block * 20;
        for (int h = 0; h < 2; h++) {
            const int k = p.first + h, sub = 8 * p.side + 2 * k + p.c, packed = load(s + sub);
            for (int i = 0; i < 4; i++) half[h].code[i] = word.x[i] >> 2 * k & 0x03030303;
            half[h].at = (int32_t)p.block * 256 + 16 * sub;
            half[h].scale = load_f16(s + 16) * (float)(packed & 15);
            half[h].min = load_f16(s + 18) * (float)(packed >> 4);
        }
    }
};

struct decode_Q3_K {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const pairs_item p(item);
        const uint8_t *from = codes + p.block * 96, *s = scales + p.block * 14;
        const vec<int, 4> third = load_codes(from + 16 * p.c);
        const vec<int, 4> word = load_codes(from + 32 + 32 * p.side + 16 * p.c);
        for (int h = 0; h < 2; h++) {
            const int k = p.first + h, sub = 8 * p.side + 2 * k + p.c;
            const int low = load(s + (sub & 7)) >> (sub < 8 ? 0 : 4) & 15;
            const int high = load(s + 8 + (sub & 3)) >> 2 * (sub >> 2) & 3;
            for (int i = 0; i < 4; i++) {
                const int top = third.x[i] >> (4 * p.side + k) & 0x01010101;
                half[h].code[i] =
                    (int)__vsub4((unsigned)((word.x[i] >> 2 * k & 0x03030303) | top << 2), 0x04040404);
            }
            half[h].at = (int32_t)p.block * 256 + 16 * sub;
            half[h].scale = load_f16(s + 12) * (float)((low | high << 4) - 32), half[h].min = 0;
        }
    }
};

// ---- values out of a table: IQ4_NL, IQ4_XS, MXFP4 -----------------------------------------------------------

// 16 values of 8 bits, the first the lowest byte
struct table16 {
    unsigned word[4];
};

// The values for the low and the high nibbles of four bytes: __byte_perm chooses four of eight bytes by the three low bits of each of the
// first four nibbles of its selector.
__device__ inline void look_up(int (&value)[2], const table16 &table, unsigned nibbles)
{
    const unsigned high_half = 0x32103210 | (nibbles & 0x88888888) >> 1;
    unsigned four[2];
    for (int i = 0; i < 2; i++) {
        const unsigned low = __byte_perm(table.word[0], table.word[1], nibbles >> 16 * i);
        const unsigned high = __byte_perm(table.word[2], table.word[3], nibbles >> 16 * i);
        four[i] = __byte_perm(low, high, high_half >> 16 * i);
    }
    value[0] = (int)__byte_perm(four[0], four[1], 0x6420);
    value[1] = (int)__byte_perm(four[0], four[1], 0x7531);
}

// quant_iq4_values: -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
__device__ inline table16 iq4_table()
{
    return {{0xbfad9881, 0xf6eaddcf, 0x26190d01, 0x71594535}};
}

// quant_fp4_values: 0 1 2 3 4 6 8 12, and these with a minus
__device__ inline table16 fp4_table()
{
    return {{0x03020100, 0x0c080604, 0xfdfeff00, 0xf4f8fafc}};
}

// Nibbles 16 numbers apart, the first number at `at`
__device__ inline void decode_table(half_item (&half)[2], const uint8_t *codes, const table16 &table,
                                    int32_t at, float scale)
{
    const vec<int, 4> word = load_codes(codes);
    for (int i = 0; i < 4; i++) {
        int value[2];
        look_up(value, table, (unsigned)word.x[i]);
        half[0].code[i] = value[0], half[1].code[i] = value[1];
    }
    for (int h = 0; h < 2; h++) half[h].at = at + h * 16, half[h].scale = scale, half[h].min = 0;
}

struct decode_IQ4_NL {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        decode_table(half, codes + item * 16, iq4_table(), (int32_t)item * 32, load_f16(scales + item * 2));
    }
};

struct decode_MXFP4 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const unsigned e = load(scales + item);
        const float scale = bits_to_f32(e < 2 ? 0x00200000u << e : (e - 1) << 23); // quant_e8m0_half()
        decode_table(half, codes + item * 16, fp4_table(), (int32_t)item * 32, scale);
    }
};

struct decode_IQ4_XS {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int64_t block = item / 8;
        const int sub = (int)(item % 8);
        const uint8_t *s = scales + block * 8;
        const int low = load(s + 4 + sub / 2) >> 4 * (sub % 2) & 15;
        const int high = load((const uint16_t *)(s + 2)) >> 2 * sub & 3;
        decode_table(half, codes + block * 128 + 16 * sub, iq4_table(), (int32_t)item * 32,
                     load_f16(s) * (float)((low | high << 4) - 32));
    }
};

// Blocks of 64 with a scale in UE4M3 for each 16, whose nibbles are 8 numbers apart
struct decode_NVFP4 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const vec<int, 4> word = load_codes(codes + item * 16);
        for (int h = 0; h < 2; h++) {
            const unsigned bits = load(scales + 2 * item + h), d = bits & 0x7f;
            for (int i = 0; i < 2; i++) {
                int value[2];
                look_up(value, fp4_table(), (unsigned)word.x[2 * h + i]);
                half[h].code[i] = value[0], half[h].code[2 + i] = value[1];
            }
            half[h].at = (int32_t)item * 32 + 16 * h, half[h].min = 0;
            half[h].scale = bits == 0x7f ? 0
                            : d < 8      ? (float)d / 1024
                                         : bits_to_f32(((d >> 3) + 119) << 23 | (d & 7) << 20);
        }
    }
};

// ---- one bit: 1 or -1 ---------------------------------------------------------------------------------------

struct decode_Q1_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const unsigned bits = load((const uint32_t *)(codes + item * 4));
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < 4; i++) {
                const int ones = spread_bits((int)(bits >> (16 * h + 4 * i) & 15), 1); // 2 or 0
                half[h].code[i] = (int)__vsub4((unsigned)ones, 0x01010101);
            }
            half[h].at = (int32_t)item * 32 + 16 * h, half[h].min = 0;
            half[h].scale = load_f16(scales + item / 4 * 2);
        }
    }
};

// ---- ternary ------------------------------------------------------------------------------------------------

struct decode_TQ2_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const pairs_item p(item);
        const vec<int, 4> word = load_codes(codes + p.block * 64 + 32 * p.side + 16 * p.c);
        for (int h = 0; h < 2; h++) {
            const int k = p.first + h;
            for (int i = 0; i < 4; i++)
                half[h].code[i] = (int)__vsub4((unsigned)(word.x[i] >> 2 * k & 0x03030303), 0x01010101);
            half[h].at = (int32_t)p.block * 256 + 128 * p.side + 32 * k + 16 * p.c;
            half[h].scale = load_f16(scales + p.block * 2), half[h].min = 0;
        }
    }
};

// Digit k of a byte is the carry out of the byte in 3^(k+1) byte. Halves 0 to 9 of a block are digits of 32 bytes, 10 to 14 of 16, the last one
// of 4 (quant/quant.h), which stand with the scales.
struct decode_TQ1_0 {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int64_t block = item / 8;
        const uint8_t *from = codes + block * 48, *rest = scales + block * 6;
        for (int h = 0; h < 2; h++) {
            const int number = (int)(item % 8) * 2 + h; // of the half
            for (int i = 0; i < 16; i++) {
                int byte, digit;
                if (number < 10)
                    byte = load(from + 16 * (number % 2) + i), digit = number / 2;
                else if (number < 15)
                    byte = load(from + 32 + i), digit = number - 10;
                else
                    byte = load(rest + i % 4), digit = i / 4;
                for (int k = 0; k < digit; k++) byte = byte * 3 & 0xff;
                const int code = ((byte * 3 >> 8) - 1) & 0xff;
                half[h].code[i / 4] = (i % 4 ? half[h].code[i / 4] : 0) | code << 8 * (i % 4);
            }
            half[h].at = (int32_t)block * 256 + 16 * number;
            half[h].scale = load_f16(rest + 4), half[h].min = 0;
        }
    }
};

#include "cuda/decode_grid.h"

// Types whose numbers are scale * code - min; of all others min is 0, and the sum of the codes is not wanted.
template <class F> constexpr bool HAS_MINIMA = false;
template <> constexpr bool HAS_MINIMA<decode_Q4_1> = true;
template <> constexpr bool HAS_MINIMA<decode_Q5_1> = true;
template <> constexpr bool HAS_MINIMA<decode_Q2_K> = true;
template <> constexpr bool HAS_MINIMA<decode_Q4_K> = true;
template <> constexpr bool HAS_MINIMA<decode_Q5_K> = true;

// ---- sizes --------------------------------------------------------------------------------------------------

// Bytes that the codes of 1024 numbers take in a row's plane, and all else: items that are 32 apart, as those of a lane are, differ in
// these alone.
template <class F> struct stretch;
#define STRETCH(name, block, code_bytes, rest_bytes)                                                      \
    template <> struct stretch<decode_##name> {                                                           \
        static constexpr int codes = 1024 / (block) * (code_bytes), rest = 1024 / (block) * (rest_bytes); \
    };
STRETCH(Q8_0, 32, 32, 2)
STRETCH(Q4_0, 32, 16, 2)
STRETCH(Q4_1, 32, 16, 4)
STRETCH(Q5_0, 32, 16, 6)
STRETCH(Q5_1, 32, 16, 8)
STRETCH(Q2_K, 256, 64, 20)
STRETCH(Q3_K, 256, 96, 14)
STRETCH(Q4_K, 256, 128, 16)
STRETCH(Q5_K, 256, 160, 16)
STRETCH(Q6_K, 256, 192, 18)
STRETCH(IQ4_NL, 32, 16, 2)
STRETCH(IQ4_XS, 256, 128, 8)
STRETCH(MXFP4, 32, 16, 1)
STRETCH(TQ1_0, 256, 48, 6)
STRETCH(TQ2_0, 256, 64, 2)
STRETCH(IQ1_S, 256, 32, 18)
STRETCH(IQ1_M, 256, 48, 8)
STRETCH(IQ2_XXS, 256, 64, 2)
STRETCH(IQ2_XS, 256, 64, 10)
STRETCH(IQ2_S, 256, 64, 18)
STRETCH(IQ3_XXS, 256, 96, 2)
STRETCH(IQ3_S, 256, 64, 46)
STRETCH(NVFP4, 64, 32, 4)
STRETCH(Q1_0, 128, 16, 2)
#undef STRETCH

#endif
