// core/dtype.h -- the element types of tensors, with GGUF's numbers, and conversions of single numbers.
//
// A type is a block of `block_size` numbers in `block_bytes` bytes; plain types have blocks of one. A row of
// n numbers needs n to be a multiple of block_size. The numbers are those of the GGUF specification
// (ggml's type ids), so a private id never reaches a file.
#ifndef CORE_DTYPE_H
#define CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q8_1 = 9,
    DTYPE_Q2_K = 10,
    DTYPE_Q3_K = 11,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_Q8_K = 15,
    DTYPE_IQ2_XXS = 16,
    DTYPE_IQ2_XS = 17,
    DTYPE_IQ3_XXS = 18,
    DTYPE_IQ1_S = 19,
    DTYPE_IQ4_NL = 20,
    DTYPE_IQ3_S = 21,
    DTYPE_IQ2_S = 22,
    DTYPE_IQ4_XS = 23,
    DTYPE_I8 = 24,
    DTYPE_I16 = 25,
    DTYPE_I32 = 26,
    DTYPE_I64 = 27,
    DTYPE_F64 = 28,
    DTYPE_IQ1_M = 29,
    DTYPE_BF16 = 30,
    DTYPE_TQ1_0 = 34,
    DTYPE_TQ2_0 = 35,
    DTYPE_MXFP4 = 39,
    DTYPE_NVFP4 = 40,
    DTYPE_Q1_0 = 41,
    DTYPE_GGUF_COUNT = 42,
    // Types that GGUF lacks: in memory alone. A file has several tensors for one of the first four (quant/composite.h).
    DTYPE_NF4 = DTYPE_GGUF_COUNT,
    DTYPE_FP4,
    DTYPE_INT8,
    DTYPE_INT8_ASYM,
    DTYPE_F8_E4M3, // of caches; and what safetensors hold so is read
    DTYPE_COUNT
};

struct dtype_traits {
    const char *name;   // as the field writes it, "Q4_K"; NULL where GGUF left a hole in its numbers
    int16_t block_size; // numbers a block
    int16_t block_bytes;
};

extern const struct dtype_traits dtype_traits[DTYPE_COUNT];

// True where `type` is a type of GGUF's that this program knows the layout of.
static inline bool dtype_known(uint32_t type)
{
    return type < DTYPE_GGUF_COUNT && dtype_traits[type].name;
}

// Bytes of a row of n numbers; n must be a multiple of the block size.
static inline size_t dtype_row_bytes(enum dtype type, int64_t n)
{
    return (size_t)(n / dtype_traits[type].block_size) * (size_t)dtype_traits[type].block_bytes;
}

// The type of a name in any case ("q4_k", "BF16"); -1 where there is none.
int dtype_parse(const char *name);

static inline uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float f32_from_bf16(uint16_t h)
{
    return f32_of_bits((uint32_t)h << 16);
}

// Rounds to nearest even; a NaN stays a (quiet) NaN.
static inline uint16_t bf16_from_f32(float x)
{
    uint32_t u = bits_of_f32(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// IEEE 754 binary16, every value, subnormals, infinities and NaN included.
static inline float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00)
        return f32_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13 | (rest > 0x7c00 ? 0x400000 : 0));
    // rest << 13 is the number times 2^-112; the product is exact, also for subnormals.
    float magnitude = f32_of_bits(rest << 13) * 0x1p112f;
    return f32_of_bits(sign | bits_of_f32(magnitude));
}

// Rounds to nearest even; too large becomes infinity; a NaN stays a quiet NaN. Equal to vcvtps2ph bit for bit.
static inline uint16_t f16_from_f32(float x)
{
    uint32_t u = bits_of_f32(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff));
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { // below 2^-14: the sum with 0.5 rounds at 2^-24, f16's smallest step
        uint32_t sum = bits_of_f32(f32_of_bits(a) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000));
    }
    a += 0xc8000fff + (a >> 13 & 1); // rebias the exponent by -112, round to even
    return (uint16_t)(sign | a >> 13);
}

// E4M3 of the OCP 8-bit floating point specification (OFP8, 2023): a sign, 4 bits of exponent with the bias 7, 3 of the fraction. No
// infinities; 0x7f and 0xff are NaN, the largest number is 448, the smallest 2^-9.
static inline float f32_from_f8_e4m3(uint8_t code)
{
    uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;
    if (rest == 0x7f) return f32_of_bits(sign | 0x7fc00000);
    // rest << 20 is the number times 2^-120, as with f16.
    return f32_of_bits(sign | bits_of_f32(f32_of_bits(rest << 20) * 0x1p120f));
}

// Rounds to nearest even; too large becomes 448, also from infinity; a NaN stays one. Equal to cvt.rn.satfinite.e4m3x2.f32 of PTX, but for
// the sign of a NaN.
static inline uint8_t f8_e4m3_from_f32(float x)
{
    uint32_t u = bits_of_f32(x), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint8_t)(sign | 0x7f);
    if (a > 0x43e00000) a = 0x43e00000; // 448
    if (a < 0x3c800000) {               // below 2^-6: the sum with 2^14 rounds at 2^-9, the smallest step
        uint32_t sum = bits_of_f32(f32_of_bits(a) + 0x1p14f);
        return (uint8_t)(sign | (sum - 0x46800000));
    }
    a += 0xc407ffff + (a >> 20 & 1); // rebias the exponent by -120, round to even
    return (uint8_t)(sign | a >> 20);
}

#endif
