// quant/iq_tables.h -- the grids of the IQ1, IQ2 and IQ3 formats: which 8 (or 4) magnitudes a code stands
// for.
//
// An entry packs its numbers into 16 bits, the first number lowest: 8 of 2 bits, or 4 of 4 bits. What such a
// small number means: IQ2  0, 1, 2    -> 8, 25, 43
//               IQ3_XXS  0 ... 7 -> 4, 12, 20, 28, 36, 44, 52, 62
//               IQ3_S    0 ... 7 -> 1, 3, 5 ... 15
//               IQ1  0, 1, 2    -> -1, 0, 1
#ifndef QUANT_IQ_TABLES_H
#define QUANT_IQ_TABLES_H

#include <stdint.h>

extern const uint16_t quant_iq2_xxs_grid[256];
extern const uint16_t quant_iq2_xs_grid[512];
extern const uint16_t quant_iq2_s_grid[1024];
extern const uint16_t quant_iq3_xxs_grid[256];
extern const uint16_t quant_iq3_s_grid[512];
extern const uint16_t quant_iq1_grid[2048]; // IQ1_S and IQ1_M

// 7-bit signs to 8: the eighth makes the number of ones even.
static inline uint8_t quant_iq_signs(uint32_t seven)
{
    return (uint8_t)(seven | (uint32_t)__builtin_parity(seven) << 7);
}

#endif
