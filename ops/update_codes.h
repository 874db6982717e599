// ops/update_codes.h -- the maps of 8-bit codes, bitsandbytes' create_dynamic_map() as formulas.
//
// The places of a map are counted as j = 1 .. 256, so that j as a float tells its decade by its exponent:
//
//   j = 1: 0     2^(i+1) <= j < 2^(i+2): decade i = 0 .. 6, 10^(i-7) to 10^(i-6) in equal steps     j = 256: 1
//
// The unsigned map has a code at every place, the signed one, on either side of 0, at even ones:
//
//   unsigned: code = j - 1       signed: code = 127 +- p where j = 2 p, and 127 for 0; there is no code for -1
//
// Within a decade the number is slope * j + offset. Row 7 of the tables serves both ends, j = 1 and j = 256.
//
// On the way back p (j, or j / 2 in the signed map) is found with a fraction, which chance then rounds: along a straight line
// within a decade; a third as steep behind its last code, as the gap to the next decade is three steps wide (twice as steep in
// the last decade, where 1 is half a step away); and below the first code of all along a straight line from 0.
// The tables are constants in every file that uses them, so that they stay in registers.
#ifndef OPS_UPDATE_CODES_H
#define OPS_UPDATE_CODES_H

#include <math.h>
#include <stdint.h>

struct code_map {
    float slope[8], offset[8];  // number = fma(j, slope, offset)
    float inverse[8], start[8]; // p = fma(number, inverse, start),
    float last[8], behind[8];   // of which what is more than `last` counts `behind`
    float next[8];              // the first number of the decade above
    float rise, zero;           // p = fma(number, rise, zero) below the first number
    float most;                 // p of 1
};
// The decade of a number is that of fma(its bits as an integer, DECADE_SCALE, DECADE_START), cut off at 0, or the next: bits of a
// float are its logarithm but for 0.026 decades; first numbers of decades lie up to 0.512 above their begin.
#define DECADE_LOG2  0.30102999566398120
#define DECADE_SCALE (float)(DECADE_LOG2 * 0x1p-23)
#define DECADE_START (float)(7 - 0.52 - 127 * DECADE_LOG2)

// `end` of a decade i, places `wide` a code: 1 or 2. A code stands for the middle of its step.
#define SPAN(i)               (0.9 / (2 << (i))) // of a place, in parts of the end
#define MIDDLE(i, wide)       (SPAN(i) * (wide) / 2)
#define SLOPE(i, end, wide)   (float)((end)*SPAN(i))
#define OFFSET(i, end, wide)  (float)((end) * (MIDDLE(i, wide) - 0.8))
#define INVERSE(i, end, wide) (float)(1 / ((end)*SPAN(i) * (wide)))
#define START(i, end, wide)   (float)((0.8 - MIDDLE(i, wide)) / (SPAN(i) * (wide)))
#define LAST(i, end, wide)    (float)((4 << (i)) / (wide)-1)
#define BEHIND(i, end, wide)  (float)((i) < 6 ? 1.0 / 3 : 2)
#define FIRST(i, end, wide)   (float)((end) * (0.1 + MIDDLE(i, wide)))
#define UPPER(F, wide) \
    F(1, 1e-5, wide), F(2, 1e-4, wide), F(3, 1e-3, wide), F(4, 1e-2, wide), F(5, 1e-1, wide), F(6, 1e0, wide)
#define DECADES(F, wide) F(0, 1e-6, wide), UPPER(F, wide)
// Row 7 of slope and offset: from 0 at j = 1 to 1 at j = 256.
#define MAP(wide)                                                                                          \
    {                                                                                                      \
        .slope = {DECADES(SLOPE, wide), (float)(1.0 / 255)},                                               \
        .offset = {DECADES(OFFSET, wide), -(float)(1.0 / 255)}, .inverse = {DECADES(INVERSE, wide)},       \
        .start = {DECADES(START, wide)}, .last = {DECADES(LAST, wide)}, .behind = {DECADES(BEHIND, wide)}, \
        .next = {UPPER(FIRST, wide), INFINITY, INFINITY},                                                  \
        .rise = (float)(1 / (1e-6 * (0.1 + MIDDLE(0, wide)))), .zero = 2 - (wide), .most = 256 / (wide)    \
    }

static const struct code_map code_map_unsigned = MAP(1);
static const struct code_map code_map_signed = MAP(2);

#endif
