// cuda/decode_grid.h -- the types whose codes stand for 8 numbers (IQ1, IQ2) or 4 (IQ3) at once, out of a table; a part of cuda/decode.h.
//
// An entry of a table has 2 bits a number, or 4 (quant/iq_tables.h); what they mean stands in the bytes of a word, or of two.
#ifndef CUDA_DECODE_GRID_H
#define CUDA_DECODE_GRID_H

#include "cuda/decode.h"

#define QUANT_IQ_TABLES_H // not what the host sees of them
#define QUANT_TABLE       static __device__ const
#include "quant/iq_tables.c"
#undef QUANT_TABLE

// Numbers 8 at .. 8 at + 8 of a half: of the byte that an entry's two bits choose, minus where a bit of `signs` is set.
__device__ inline void put_eight(half_item &half, int at, unsigned entry, unsigned meaning, unsigned signs)
{
    for (int w = 0; w < 2; w++) {
        unsigned word = 0;
        for (int j = 0; j < 4; j++) {
            const int i = 4 * w + j;
            const unsigned m = meaning >> 8 * (entry >> 2 * i & 3);
            word |= ((signs >> i & 1 ? 0 - m : m) & 0xff) << 8 * j;
        }
        half.code[2 * at + w] = (int)word;
    }
}

// Numbers 4 at .. 4 at + 4: of the byte of `low` or `high` that four bits choose.
__device__ inline void put_four(half_item &half, int at, unsigned entry, unsigned low, unsigned high,
                                unsigned signs)
{
    unsigned word = 0;
    for (int j = 0; j < 4; j++) {
        const unsigned i = entry >> 4 * j & 7, m = (i < 4 ? low : high) >> 8 * (i & 3);
        word |= ((signs >> j & 1 ? 0 - m : m) & 0xff) << 8 * j;
    }
    half.code[at] = (int)word;
}

// The eighth sign makes their number even.
__device__ inline unsigned eight_signs(unsigned seven)
{
    return seven | (unsigned)(__popc(seven) & 1) << 7;
}

// An item is 32 numbers that stand together.
__device__ inline void place_halves(half_item (&half)[2], int64_t item)
{
    for (int h = 0; h < 2; h++) half[h].at = (int32_t)item * 32 + 16 * h, half[h].min = 0;
}

constexpr unsigned IQ2_MEANING = 0x002b1908; // 8 25 43

struct decode_IQ2_XXS {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint8_t *from = codes + item * 8;
        const uint32_t rest = load((const uint32_t *)(from + 4));
        const float scale = load_f16(scales + item / 8 * 2) * (0.5f + (float)(rest >> 28)) * 0.25f;
        place_halves(half, item);
        for (int k = 0; k < 4; k++)
            put_eight(half[k / 2], k % 2, quant_iq2_xxs_grid[load(from + k)], IQ2_MEANING,
                      eight_signs(rest >> 7 * k & 127));
        half[0].scale = half[1].scale = scale;
    }
};

struct decode_IQ2_XS {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint16_t *from = (const uint16_t *)(codes + item * 8);
        const uint8_t *s = scales + item / 8 * 10;
        const int packed = load(s + 2 + item % 8);
        place_halves(half, item);
        for (int k = 0; k < 4; k++) {
            const unsigned code = load(from + k);
            put_eight(half[k / 2], k % 2, quant_iq2_xs_grid[code & 511], IQ2_MEANING, eight_signs(code >> 9));
        }
        for (int h = 0; h < 2; h++)
            half[h].scale = load_f16(s) * (0.5f + (float)(packed >> 4 * h & 15)) * 0.25f;
    }
};

struct decode_IQ2_S {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int s = (int)(item % 8);
        const uint8_t *from = codes + item / 8 * 64 + 4 * s, *rest = scales + item / 8 * 18;
        const int high = load(rest + 2 + s), packed = load(rest + 10 + s);
        place_halves(half, item);
        for (int k = 0; k < 4; k++)
            put_eight(half[k / 2], k % 2, quant_iq2_s_grid[load(from + k) | (high >> 2 * k & 3) << 8],
                      IQ2_MEANING, load(from + 32 + k));
        for (int h = 0; h < 2; h++)
            half[h].scale = load_f16(rest) * (0.5f + (float)(packed >> 4 * h & 15)) * 0.25f;
    }
};

struct decode_IQ3_XXS {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int s = (int)(item % 8);
        const uint8_t *block = codes + item / 8 * 96, *from = block + 8 * s;
        const uint32_t rest = load((const uint32_t *)(block + 64 + 4 * s));
        place_halves(half, item);
        for (int k = 0; k < 8; k++) // 4 12 20 28 36 44 52 62
            put_four(half[k / 4], k % 4, quant_iq3_xxs_grid[load(from + k)], 0x1c140c04, 0x3e342c24,
                     eight_signs(rest >> 7 * (k / 2) & 127) >> 4 * (k % 2));
        half[0].scale = half[1].scale = load_f16(scales + item / 8 * 2) * (0.5f + (float)(rest >> 28)) * 0.5f;
    }
};

struct decode_IQ3_S {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int s = (int)(item % 8);
        const uint8_t *from = codes + item * 8, *rest = scales + item / 8 * 46;
        const int high = load(rest + 2 + s), packed = load(rest + 42 + s / 2) >> 4 * (s % 2) & 15;
        place_halves(half, item);
        for (int k = 0; k < 8; k++) // 1 3 5 ... 15
            put_four(half[k / 4], k % 4, quant_iq3_s_grid[load(from + k) | (high >> k & 1) << 8], 0x07050301,
                     0x0f0d0b09, (unsigned)load(rest + 10 + 4 * s + k / 2) >> 4 * (k % 2));
        half[0].scale = half[1].scale = load_f16(rest) * (float)(1 + 2 * packed);
    }
};

// IQ1: -1, 0, 1, and an eighth more or less: in eighths -7 1 9, or -9 -1 7
__device__ inline unsigned iq1_meaning(bool less)
{
    return less ? 0x0007fff7 : 0x000901f9;
}

struct decode_IQ1_S {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const uint8_t *from = codes + item * 4, *rest = scales + item / 8 * 18;
        const unsigned high = load((const uint16_t *)(rest + 2) + item % 8);
        place_halves(half, item);
        for (int k = 0; k < 4; k++)
            put_eight(half[k / 2], k % 2, quant_iq1_grid[load(from + k) | (high >> 3 * k & 7) << 8],
                      iq1_meaning(high >> 15), 0);
        half[0].scale = half[1].scale = load_f16(rest) * (float)(2 * (high >> 12 & 7) + 1) * 0.125f;
    }
};

struct decode_IQ1_M {
    __device__ static void decode(half_item (&half)[2], const uint8_t *codes, const uint8_t *scales,
                                  int64_t item)
    {
        const int s = (int)(item % 8);
        const uint8_t *block = codes + item / 8 * 48, *from = block + 4 * s;
        const vec<uint16_t, 4> rest = load((const vec<uint16_t, 4> *)(scales + item / 8 * 8));
        f16 d;
        d.bits =
            (uint16_t)(rest.x[0] >> 12 | rest.x[1] >> 12 << 4 | rest.x[2] >> 12 << 8 | rest.x[3] >> 12 << 12);
        place_halves(half, item);
        for (int k = 0; k < 4; k++) {
            const unsigned high = (unsigned)load(block + 32 + 2 * s + k / 2) >> 4 * (k % 2);
            put_eight(half[k / 2], k % 2, quant_iq1_grid[load(from + k) | (high & 7) << 8],
                      iq1_meaning(high >> 3 & 1), 0);
        }
        for (int h = 0; h < 2; h++) {
            const int sub = 2 * s + h;
            half[h].scale = to_f32(d) * (float)(2 * (rest.x[sub / 4] >> 3 * (sub % 4) & 7) + 1) * 0.125f;
        }
    }
};

#endif
