// quant/bits.h -- the packings that several formats share: nibbles of 32 numbers, fifth bits, pairs of bits.
#ifndef QUANT_BITS_H
#define QUANT_BITS_H

#include <math.h>
#include <stdint.h>

// The 32 codes of a block whose byte j holds numbers j (low) and j + 16 (high).
static inline void bits_unpack_nibbles(const uint8_t packed[16], uint8_t code[32])
{
    for (int j = 0; j < 16; j++) {
        code[j] = packed[j] & 15;
        code[j + 16] = packed[j] >> 4;
    }
}

// Takes the low four bits of each code.
static inline void bits_pack_nibbles(uint8_t packed[16], const uint8_t code[32])
{
    for (int j = 0; j < 16; j++) packed[j] = (uint8_t)((code[j] & 15) | code[j + 16] << 4);
}

// Bit i of `fifth` becomes bit 4 of code i.
static inline void bits_unpack_fifth(const uint8_t fifth[4], uint8_t code[32])
{
    for (int i = 0; i < 32; i++) code[i] |= (uint8_t)((fifth[i >> 3] >> (i & 7) & 1) << 4);
}

static inline void bits_pack_fifth(uint8_t fifth[4], const uint8_t code[32])
{
    for (int j = 0; j < 4; j++) {
        fifth[j] = 0;
        for (int b = 0; b < 8; b++) fifth[j] |= (uint8_t)((code[8 * j + b] >> 4 & 1) << b);
    }
}

// Two bits of each of 256 codes: byte j of half h has those of numbers 128h + j, + 32, + 64 and + 96, lowest
// first.
static inline void bits_unpack_pairs(const uint8_t packed[64], uint8_t code[256])
{
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 4; k++)
            for (int j = 0; j < 32; j++) code[128 * h + 32 * k + j] = packed[32 * h + j] >> 2 * k & 3;
}

// Takes the low two bits of each code.
static inline void bits_pack_pairs(uint8_t packed[64], const uint8_t code[256])
{
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 32; j++) {
            const uint8_t *c = code + 128 * h + j;
            packed[32 * h + j] =
                (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
        }
}

// The nibbles of Q4_K, Q5_K: 32 bytes for 64 numbers, low nibbles for the first 32 of them.
static inline void bits_unpack_nibbles_64(const uint8_t packed[128], uint8_t code[256])
{
    for (int p = 0; p < 4; p++)
        for (int j = 0; j < 32; j++) {
            code[64 * p + j] = packed[32 * p + j] & 15;
            code[64 * p + 32 + j] = packed[32 * p + j] >> 4;
        }
}

static inline void bits_pack_nibbles_64(uint8_t packed[128], const uint8_t code[256])
{
    for (int p = 0; p < 4; p++)
        for (int j = 0; j < 32; j++)
            packed[32 * p + j] = (uint8_t)((code[64 * p + j] & 15) | code[64 * p + 32 + j] << 4);
}

// Bit `bit` of each of 256 codes: bit s of byte j is that of number 32s + j.
static inline void bits_pack_planes(uint8_t packed[32], const uint8_t code[256], int bit)
{
    for (int j = 0; j < 32; j++) {
        packed[j] = 0;
        for (int s = 0; s < 8; s++) packed[j] |= (uint8_t)((code[32 * s + j] >> bit & 1) << s);
    }
}

// The 6-bit scales and minima of Q4_K and Q5_K; quant_unpack_6bit() reads them.
static inline void bits_pack_6bit(uint8_t packed[12], const int *scale, const int *min)
{
    for (int s = 0; s < 4; s++) {
        packed[s] = (uint8_t)(scale[s] | scale[s + 4] >> 4 << 6);
        packed[4 + s] = (uint8_t)(min[s] | min[s + 4] >> 4 << 6);
        packed[8 + s] = (uint8_t)((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
    }
}

// A whole number's low byte; what does not fit into an int gives 0, as x86 converts it.
static inline uint8_t bits_byte(float x)
{
    return fabsf(x) < 0x1p31f ? (uint8_t)(int32_t)x : 0;
}

#endif
