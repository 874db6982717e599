// quant/quant.h -- the quantized formats of GGUF: the layout of their blocks, and conversion from and to f32.
//
// A row of numbers is cut into blocks, each of which holds small codes and what turns them back into numbers:
// a scale d, sometimes a minimum m. The larger formats have blocks of 256 numbers ("super-blocks") cut again
// into sub-blocks, whose scales are small whole numbers times the block's f16 scale. Every block is packed,
// so data may stand at any address. Numbers of more than a byte are little-endian, d is an f16.
//
// How to read the drawings: a box is a byte unless it says otherwise, bit 7 at the left; q[i] is the code of
// number i of the block, and x[i] the number itself.
#ifndef QUANT_QUANT_H
#define QUANT_QUANT_H

#include "core/dtype.h"

// y[0, count) = the numbers of the blocks at x; count is a multiple of the block size. Equal to the gguf
// package of Python bit for bit, but for the bits of a NaN.
typedef void quant_dequantize_fn(float *y, const void *x, int64_t count);

// The blocks at y = x[0, count), finite numbers, count a multiple of the block size. Without `importance`
// rounding to nearest: the bytes of the gguf package where it can write the format (but for the sign of a
// minimum of zero, and for blocks of MXFP4 below 2^-125, whose exponent wraps around there), else the
// smallest sum of squares that our search finds. With `importance`, count weights of at least 0: the smallest
// sum of importance[i] (x[i] - y[i])^2 that it finds. Numbers that are not finite give blocks that mean
// nothing, and do no harm.
typedef void quant_quantize_fn(void *y, const float *x, int64_t count, const float *importance);

struct quant_type {
    quant_dequantize_fn *dequantize; // NULL: not a type of real numbers, or one that no file stores
    quant_quantize_fn *quantize;     // NULL: read only
    const struct grid *grid;         // quant/grid.h; NULL: not of that kind
    bool by_row;                     // what is quantized at once is a row: it has one scale
};

// F32, F16, BF16 and F64, whose blocks are single numbers, are in it too.
extern const struct quant_type quant_types[DTYPE_COUNT];

// `rows` rows of n numbers, all with the same weights.
void quant_quantize_rows(enum dtype type, void *y, const float *x, int64_t rows, int64_t n,
                         const float *importance);

enum { QUANT_SUPER = 256 }; // numbers of a super-block

#define QUANT_PACKED __attribute__((packed))

// ---- blocks of 32: one scale --------------------------------------------------------------------------

// The nibbles of 32 numbers stand the same way in Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL and MXFP4:
//
//     qs[j]   | q[j+16] | q[j] |     4 bits each
//
// and the fifth bits of the Q5 formats in qh, bit i for number i.

// x[i] = d (q[i] - 8)
struct QUANT_PACKED block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q4_0) == 18, "the size in core/dtype.c");

// x[i] = d q[i] + m
struct QUANT_PACKED block_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q4_1) == 20, "the size in core/dtype.c");

// x[i] = d (q[i] - 16)
struct QUANT_PACKED block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q5_0) == 22, "the size in core/dtype.c");

// x[i] = d q[i] + m
struct QUANT_PACKED block_q5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q5_1) == 24, "the size in core/dtype.c");

// x[i] = d q[i]
struct QUANT_PACKED block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};
_Static_assert(sizeof(struct block_q8_0) == 34, "the size in core/dtype.c");

// x[i] = d v[q[i]] with the 16 values of quant_iq4_values, which lie closer together near zero
struct QUANT_PACKED block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_iq4_nl) == 18, "the size in core/dtype.c");

// x[i] = 2^(e - 128) v[q[i]] with the 16 values of quant_fp4_values, which are twice those of E2M1 (OCP
// MX 1.0)
struct QUANT_PACKED block_mxfp4 {
    uint8_t e; // E8M0; 0 and 1 give subnormal powers of two, 255 is no NaN here
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_mxfp4) == 17, "the size in core/dtype.c");

// Four sub-blocks of 16, each with a scale in UE4M3 (E4M3 without a sign; 0x7f is zero). Codes as in MXFP4.
//
//     d[s]        |.| e e e e | m m m |     2^(e-8) (1 + m/8), or m 2^-10 where e = 0; the top bit is ignored
//     qs[8s + j]  | q[16s+j+8] | q[16s+j] |
struct QUANT_PACKED block_nvfp4 {
    uint8_t d[4];
    uint8_t qs[32];
};
_Static_assert(sizeof(struct block_nvfp4) == 36, "the size in core/dtype.c");

// x[i] = q[i] ? d : -d
//
//     qs[j]   | q[8j+7] ... q[8j] |      1 bit each
struct QUANT_PACKED block_q1_0 {
    uint16_t d;
    uint8_t qs[16];
};
_Static_assert(sizeof(struct block_q1_0) == 18, "the size in core/dtype.c");

// ---- super-blocks with a minimum: x[i] = d sc[s] q[i] - dmin m[s] -------------------------------------

// 16 sub-blocks of 16; 4-bit scales and minima.
//
//     scales[s]      | m[s] | sc[s] |                                        4 bits each
//     qs[32h + j]    | q[128h+j+96] | q[128h+j+64] | q[128h+j+32] | q[128h+j] |    2 bits each, h = 0, 1
struct QUANT_PACKED block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
};
_Static_assert(sizeof(struct block_q2_k) == 84, "the size in core/dtype.c");

// 8 sub-blocks of 32; 6-bit scales and minima, of which the first four of each stand in the low six bits of a
// byte:
//
//     scales[s]      | sc[s+4] bits 5 4 | sc[s] bits 5..0 |            s = 0..3
//     scales[4 + s]  |  m[s+4] bits 5 4 |  m[s] bits 5..0 |
//     scales[8 + s]  |  m[s+4] bits 3..0 | sc[s+4] bits 3..0 |
//     qs[32p + j]    | q[64p+j+32] | q[64p+j] |                        4 bits each, p = 0..3
struct QUANT_PACKED block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_q4_k) == 144, "the size in core/dtype.c");

// As Q4_K, with the fifth bits of the codes apart:
//
//     qh[j]          | q[224+j] bit 4 | ... | q[32+j] bit 4 | q[j] bit 4 |      bit s for sub-block s
struct QUANT_PACKED block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_q5_k) == 176, "the size in core/dtype.c");

// ---- super-blocks without a minimum -------------------------------------------------------------------

// 16 sub-blocks of 16: x[i] = d (sc[s] - 32) (q[i] - 4), 6-bit scales, 3-bit codes.
//
//     hmask[j]       | q[224+j] bit 2 | ... | q[32+j] bit 2 | q[j] bit 2 |
//     qs[32h + j]    bits 1 0 of the codes, as in Q2_K
//     scales[t]      | sc[t+8] bits 3..0 | sc[t] bits 3..0 |                            t = 0..7
//     scales[8 + u]  | sc[u+12] bits 5 4 | sc[u+8] 5 4 | sc[u+4] 5 4 | sc[u] 5 4 |      u = 0..3
struct QUANT_PACKED block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};
_Static_assert(sizeof(struct block_q3_k) == 110, "the size in core/dtype.c");

// 16 sub-blocks of 16: x[i] = d scales[s] (q[i] - 32), 8-bit scales with a sign, 6-bit codes. With h = 0, 1:
//
//     ql[64h + j]    | q[128h+j+64] bits 3..0 | q[128h+j] bits 3..0 |                    j = 0..63
//     qh[32h + j]    | q[128h+j+96] bits 5 4 | q[128h+j+64] 5 4 | q[128h+j+32] 5 4 | q[128h+j] 5 4 |   j =
//     0..31
struct QUANT_PACKED block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};
_Static_assert(sizeof(struct block_q6_k) == 210, "the size in core/dtype.c");

// 8 sub-blocks of 32: x[i] = d (sc[s] - 32) v[q[i]], values as in IQ4_NL, 6-bit scales.
//
//     scales_h       bits 2s+1 2s: sc[s] bits 5 4
//     scales_l[p]    | sc[2p+1] bits 3..0 | sc[2p] bits 3..0 |
//     qs[16s + j]    | q[32s+j+16] | q[32s+j] |
struct QUANT_PACKED block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};
_Static_assert(sizeof(struct block_iq4_xs) == 136, "the size in core/dtype.c");

// ---- ternary: x[i] = d (q[i] - 1), q = 0, 1, 2 --------------------------------------------------------

// Five codes a byte. A byte is ceil(256 v / 243) for v = 81 a + 27 b + 9 c + 3 d + e: so digit k is the carry
// out of the byte in 3^(k+1) byte, without a division.
//
//     qs[j]       a..e = q[j], q[j+32], q[j+64], q[j+96], q[j+128]                 j = 0..31
//     qs[32 + j]  a..e = q[160+j], q[176+j], q[192+j], q[208+j], q[224+j]          j = 0..15
//     qh[j]       a..d = q[240+j], q[244+j], q[248+j], q[252+j], e = 0             j = 0..3
struct QUANT_PACKED block_tq1_0 {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
};
_Static_assert(sizeof(struct block_tq1_0) == 54, "the size in core/dtype.c");

// qs as in Q2_K; a code of 3 reads as 2 d.
struct QUANT_PACKED block_tq2_0 {
    uint8_t qs[64];
    uint16_t d;
};
_Static_assert(sizeof(struct block_tq2_0) == 66, "the size in core/dtype.c");

// ---- bitsandbytes': in memory alone -------------------------------------------------------------------

enum { QUANT_BNB = 64, QUANT_OUTLIERS = 4, QUANT_NO_COLUMN = 255 };
#define QUANT_INT8_STEP 7.874015718698502e-3f // 1 / 127, as bitsandbytes has it

// NF4 and FP4: x[i] = values[q[i]] absmax
//
//     qs[j]       | q[2j] | q[2j+1] |     4 bits each
struct QUANT_PACKED block_nf4 {
    float absmax;
    uint8_t qs[32];
};
_Static_assert(sizeof(struct block_nf4) == 36, "the size in core/dtype.c");

// INT8, and INT8_ASYM, where `middle` is not 0: x[i] = qs[i] absmax QUANT_INT8_STEP + middle, but for columns of large activations, whose weights
// stand apart. absmax and middle are those of the row.
struct QUANT_PACKED block_int8 {
    float absmax, middle;
    uint8_t column[QUANT_OUTLIERS]; // of the block, in ascending order; QUANT_NO_COLUMN: none
    uint16_t outlier[QUANT_OUTLIERS];
    int8_t qs[64];
};
_Static_assert(sizeof(struct block_int8) == 84, "the size in core/dtype.c");

// How many columns of rows of `count` numbers stand apart with these weights of importance, NULL: none.
int64_t quant_outlier_count(const float *importance, int64_t count);

// ---- grids, read only ---------------------------------------------------------------------------------

// A code stands for 8 (IQ1, IQ2) or 4 (IQ3) numbers at once, out of a table.
// The tables are in quant/iq_tables.h. Magnitudes come from the grid, signs stand apart: eight of them either
// as eight bits or as seven, where the eighth makes the number of minus signs even ("7-bit signs").

// 8 sub-blocks of 32, each 64 bits. x = d/4 (sc + 1/2) sign grid
//
//     qs[4s], qs[4s+1]     four 8-bit codes, low byte first
//     qs[4s+2], qs[4s+3]   32 bits: | sc (4) | signs of code 3 (7) | of code 2 | of code 1 | of code 0 |
struct QUANT_PACKED block_iq2_xxs {
    uint16_t d;
    uint16_t qs[32];
};
_Static_assert(sizeof(struct block_iq2_xxs) == 66, "the size in core/dtype.c");

// 16 sub-blocks of 16. x = d/4 (sc + 1/2) sign grid
//
//     qs[k]        | 7-bit signs | 9-bit code |          for numbers 8k ... 8k+7
//     scales[s/2]  | sc[s+1] | sc[s] |                   s even
struct QUANT_PACKED block_iq2_xs {
    uint16_t d;
    uint16_t qs[32];
    uint8_t scales[8];
};
_Static_assert(sizeof(struct block_iq2_xs) == 74, "the size in core/dtype.c");

// As IQ2_XS with 10-bit codes and 8 bits of signs.
//
//     qs[k]        bits 7..0 of code k;   qh[k/4] bits 2(k%4)+1, 2(k%4): bits 9 8
//     signs[k]     bit j: minus for number 8k+j
struct QUANT_PACKED block_iq2_s {
    uint16_t d;
    uint8_t qs[32];
    uint8_t signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
};
_Static_assert(sizeof(struct block_iq2_s) == 82, "the size in core/dtype.c");

// 8 sub-blocks of 32. x = d/2 (sc + 1/2) sign grid
//
//     qs[k]        8-bit code for numbers 4k ... 4k+3
//     signs[4s..]  32 bits: | sc (4) | four 7-bit signs |, as in IQ2_XXS
struct QUANT_PACKED block_iq3_xxs {
    uint16_t d;
    uint8_t qs[64];
    uint8_t signs[32];
};
_Static_assert(sizeof(struct block_iq3_xxs) == 98, "the size in core/dtype.c");

// 8 sub-blocks of 32. x = d (2 sc + 1) sign grid
//
//     qs[k]        bits 7..0 of code k, for numbers 4k ... 4k+3;   qh[k/8] bit k%8: bit 8
//     signs[j]     bit b: minus for number 8j+b
//     scales[s/2]  | sc[s+1] | sc[s] |                   s even
struct QUANT_PACKED block_iq3_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
};
_Static_assert(sizeof(struct block_iq3_s) == 110, "the size in core/dtype.c");

// 8 sub-blocks of 32. x = d (2 sc + 1) (grid +- 1/8), grid of -1, 0, 1
//
//     qs[4s + k]   bits 7..0 of code k = 0..3, for numbers 32s+8k ... 32s+8k+7
//     qh[s]        | minus | sc (3) | code 3 bits 10..8 | code 2 | code 1 | code 0 |      16 bits
struct QUANT_PACKED block_iq1_s {
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8];
};
_Static_assert(sizeof(struct block_iq1_s) == 50, "the size in core/dtype.c");

// 16 sub-blocks of 16. x = d (2 sc + 1) (grid +- 1/8), the sign of 1/8 for each code of its own
//
//     qs[k]        bits 7..0 of code k;   qh[k/2] | minus | bits 10..8 | for k odd in the high nibble
//     scales[t]    | d bits 4t+3 ... 4t | sc[4t+3] | sc[4t+2] | sc[4t+1] | sc[4t] |       16 bits: 4, 3, 3,
//     3, 3
struct QUANT_PACKED block_iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];
    uint16_t scales[4];
};
_Static_assert(sizeof(struct block_iq1_m) == 56, "the size in core/dtype.c");

// ---- shared values ------------------------------------------------------------------------------------

extern const int8_t quant_iq4_values[16];
extern const int8_t quant_fp4_values[16];
extern const float quant_nf4_values[16], quant_bnb_fp4_values[16];
extern const float quant_dynamic_values[256]; // quant/bnb_tables.c: of the 8-bit scales of scales, ascending

// 2^(e - 128), as MXFP4 counts it.
static inline float quant_e8m0_half(uint8_t e)
{
    return f32_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

// Scales and minima of Q4_K and Q5_K; see block_q4_k.
static inline void quant_unpack_6bit(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8])
{
    for (int s = 0; s < 4; s++) {
        scale[s] = packed[s] & 63;
        min[s] = packed[4 + s] & 63;
        scale[4 + s] = (uint8_t)((packed[8 + s] & 15) | (packed[s] >> 6) << 4);
        min[4 + s] = (uint8_t)(packed[8 + s] >> 4 | (packed[4 + s] >> 6) << 4);
    }
}

// Scales of Q3_K with their sign, -32 to 31; see block_q3_k.
static inline void quant_unpack_q3_k(const uint8_t packed[12], int8_t scale[16])
{
    for (int s = 0; s < 16; s++) {
        int low = packed[s & 7] >> (s < 8 ? 0 : 4) & 15, high = packed[8 + (s & 3)] >> 2 * (s >> 2) & 3;
        scale[s] = (int8_t)((low | high << 4) - 32);
    }
}

#endif
