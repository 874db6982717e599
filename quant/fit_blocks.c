// quant/fit_blocks.c -- the search for formats whose blocks of 32 numbers stand alone; see quant/fit.h.
#include <math.h>

#include "quant/bits.h"
#include "quant/fit_pass.h"

enum { N = 32, RUN = N * FIT_LANES };

static int blocks_left(int64_t count)
{
    return count < RUN ? (int)(count / N) : FIT_LANES;
}

void fit_blocks_scale(void *y, const float *x, const float *w, int64_t count, const struct fit_levels *levels,
                      fit_write_fn *write)
{
    for (int64_t at = 0; at < count; at += RUN) {
        int blocks = blocks_left(count - at);
        float scale[FIT_LANES];
        struct fit_group g;
        fit_gather(&g, x + at, w ? w + at : NULL, N, blocks);
        fit_scale(&g, levels, scale);
        for (int s = 0; s < blocks; s++) {
            struct fit_block b = {.d = fit_f16(scale[s])};
            float inverse = fit_reciprocal(f32_from_f16(b.d));
            for (int j = 0; j < N; j++) b.code[j] = fit_code(levels, x[at + s * N + j] * inverse);
            write(y, at / N + s, &b);
        }
    }
}

void fit_blocks_line(void *y, const float *x, const float *w, int64_t count, int top, fit_write_fn *write)
{
    for (int64_t at = 0; at < count; at += RUN) {
        int blocks = blocks_left(count - at);
        float scale[FIT_LANES], offset[FIT_LANES];
        struct fit_group g;
        fit_gather(&g, x + at, w ? w + at : NULL, N, blocks);
        fit_line(&g, top, false, scale, offset);
        for (int s = 0; s < blocks; s++) {
            struct fit_block b = {.d = fit_f16(scale[s]), .m = fit_f16(offset[s])};
            float inverse = fit_reciprocal(f32_from_f16(b.d)), m = f32_from_f16(b.m);
            for (int j = 0; j < N; j++)
                b.code[j] = (uint8_t)fit_whole((x[at + s * N + j] - m) * inverse, 0, top);
            write(y, at / N + s, &b);
        }
    }
}

static uint8_t rounded(float code, int top)
{
    uint8_t q = bits_byte(code);
    return q < top ? q : (uint8_t)top;
}

void fit_round_scale(void *y, const float *x, int64_t count, int half, fit_write_fn *write)
{
    for (int64_t at = 0; at < count; at += N) {
        struct fit_block b = {0};
        float peak = x[at]; // where all are zero, the first tells the sign of d
        for (int j = 1; j < N; j++) peak = fabsf(x[at + j]) > fabsf(peak) ? x[at + j] : peak;
        float d = peak / (float)-half, inverse = d == 0 ? 0 : 1 / d;
        b.d = f16_from_f32(d);
        for (int j = 0; j < N; j++)
            b.code[j] = rounded(x[at + j] * inverse + ((float)half + 0.5f), 2 * half - 1);
        write(y, at / N, &b);
    }
}

void fit_round_line(void *y, const float *x, int64_t count, int top, fit_write_fn *write)
{
    for (int64_t at = 0; at < count; at += N) {
        struct fit_block b = {0};
        float low = x[at], high = x[at];
        for (int j = 1; j < N; j++) {
            low = x[at + j] < low ? x[at + j] : low;
            high = x[at + j] > high ? x[at + j] : high;
        }
        float d = (high - low) / (float)top, inverse = d == 0 ? 0 : 1 / d;
        b.d = f16_from_f32(d);
        b.m = f16_from_f32(low);
        for (int j = 0; j < N; j++) b.code[j] = rounded((x[at + j] - low) * inverse + 0.5f, top);
        write(y, at / N, &b);
    }
}
