// quant/methods/gptq_sub.c -- see quant/methods/gptq_sub.h.
//
// Two steps in turn: for given scales the columns are rounded one after the other; for given codes the error is a quadratic function
// of scale and offset, whose least value has a closed form. Several scales are tried as the start.
#include "quant/methods/gptq_sub.h"

#include "quant/fit_pass.h"

void gptq_sub_prepare(struct gptq_sub *s)
{
    memcpy(s->zx, s->x, (size_t)s->n * sizeof *s->x);
    for (int j = 0; j < s->n; j++) s->z1[j] = 1;
    for (int j = 0; j < s->n; j++)
        for (int k = j + 1; k < s->n; k++) {
            float u = s->u[j][k];
            s->z1[k] -= s->z1[j] * u;
            for (int l = 0; l < FIT_LANES; l++) s->zx[k][l] -= s->zx[j][l] * u;
        }
}

// ---- codes for given scales ---------------------------------------------------------------------------

static void nearest_whole(const struct fit_levels *levels, const float *t, float *level, uint8_t *code)
{
    const float low = levels->low, high = levels->high;
    int32_t number[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) {
        float q = t[l] > low ? t[l] : low;
        q = q < high ? q : high;
        level[l] = (q + 0x1.8p23f) - 0x1.8p23f; // to the nearest whole number
        number[l] = (int32_t)(level[l] - low);
    }
    for (int l = 0; l < FIT_LANES; l++) code[l] = (uint8_t)number[l];
}

static void nearest_iq4(const float *t, float *level, uint8_t *code)
{
    int32_t index[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) {
        float q = t[l] > -127 ? t[l] : -127;
        q = q < 113 ? q : 113;
        index[l] = (int32_t)(2 * q + 254);
    }
    for (int l = 0; l < FIT_LANES; l++) {
        code[l] = fit_iq4_codes[index[l]];
        level[l] = quant_iq4_values[code[l]];
    }
}

static void round_columns(const struct gptq_sub *s, struct gptq_levels *a)
{
    float x[FIT_NUMBERS][FIT_LANES], inverse[FIT_LANES], error[FIT_LANES] = {0};
    const struct fit_levels *levels = &s->grid->levels;
    memcpy(x, s->x, (size_t)s->n * sizeof *x);
    fit_reciprocals(a->scale, inverse);
    for (int j = 0; j < s->n; j++) {
        float t[FIT_LANES], level[FIT_LANES], *change = a->change[j];
        for (int l = 0; l < FIT_LANES; l++) t[l] = (x[j][l] - a->offset[l]) * inverse[l];
        if (levels->iq4)
            nearest_iq4(t, level, a->code[j]);
        else
            nearest_whole(levels, t, level, a->code[j]);
        for (int l = 0; l < FIT_LANES; l++) {
            change[l] = a->scale[l] * level[l] + a->offset[l] - x[j][l];
            error[l] += s->d[j] * change[l] * change[l];
        }
        for (int k = j + 1; k < s->n; k++)
            for (int l = 0; l < FIT_LANES; l++) x[k][l] += change[l] * s->u[j][k];
    }
    memcpy(a->error, error, sizeof error);
}

static void keep_better(const struct gptq_sub *s, struct gptq_levels *best, const struct gptq_levels *a)
{
    for (int l = 0; l < FIT_LANES; l++) {
        if (!(a->error[l] < best->error[l])) continue;
        best->error[l] = a->error[l];
        best->scale[l] = a->scale[l];
        best->offset[l] = a->offset[l];
        for (int j = 0; j < s->n; j++) {
            best->change[j][l] = a->change[j][l];
            best->code[j][l] = a->code[j][l];
        }
    }
}

// ---- scales for given codes ---------------------------------------------------------------------------

// With l the levels taken and z = l V: the error is the sum of d (zx - scale z - offset z1)^2, and the changes were
// scale z + offset z1 - zx.
static void solve(const struct gptq_sub *s, const struct gptq_levels *a, float *scale, float *offset)
{
    const bool with_offset = s->grid->offset, lower = with_offset && s->grid->sub < s->grid->block;
    for (int l = 0; l < FIT_LANES; l++) {
        float zz = 0, zx = 0, z1 = 0, x1 = 0, ones = 0;
        scale[l] = a->scale[l];
        offset[l] = a->offset[l];
        if (scale[l] == 0) continue;
        for (int j = 0; j < s->n; j++) {
            float d = s->d[j], x = s->zx[j][l], one = s->z1[j];
            float z = (x - a->offset[l] * one + a->change[j][l]) / a->scale[l];
            zz += d * z * z;
            zx += d * z * x;
            z1 += d * z * one;
            x1 += d * x * one;
            ones += d * one * one;
        }
        float det = zz * ones - z1 * z1, slope = (ones * zx - z1 * x1) / det;
        float at = (x1 - slope * z1) / ones;
        bool plain = !with_offset || (lower && !(at < 0));
        if (plain) slope = zx / zz, at = 0;
        bool solved = zz > 0 && (plain || det > 0) && (!with_offset || slope > 0) && fabsf(slope) < 65504;
        if (!solved) continue;
        scale[l] = slope;
        offset[l] = at;
    }
}

// What the block can store of a scale and an offset.
static void snap(const struct gptq_sub *s, const struct grid_block *block, int at, float *scale,
                 float *offset)
{
    struct grid_block b = *block;
    grid_near(s->grid, &b, at, *scale, *offset);
    grid_line(s->grid, &b, at, scale, offset);
}

void gptq_sub_round(const struct gptq_sub *s, struct grid_block *const block[FIT_LANES], int at,
                    struct gptq_levels *best)
{
    static const float starts[] = {1, 0.93f, 1.07f};
    enum { STARTS = sizeof starts / sizeof *starts, ROUNDS = 3 };
    const float middle = (s->grid->levels.low + s->grid->levels.high) / 2;
    float first[FIT_LANES], first_offset[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) {
        grid_line(s->grid, block[l], at, &first[l], &first_offset[l]);
        best->error[l] = INFINITY;
    }
    for (int start = 0; start < STARTS; start++) {
        struct gptq_levels a;
        for (int l = 0; l < FIT_LANES; l++) { // the middle of an offset's range stays where it is
            a.scale[l] = first[l] * starts[start];
            a.offset[l] = s->grid->offset ? first_offset[l] + (first[l] - a.scale[l]) * middle : 0;
        }
        for (int round = 0; round < ROUNDS; round++) {
            for (int l = 0; l < FIT_LANES; l++) snap(s, block[l], at, &a.scale[l], &a.offset[l]);
            round_columns(s, &a);
            keep_better(s, best, &a);
            float scale[FIT_LANES], offset[FIT_LANES];
            solve(s, &a, scale, offset);
            memcpy(a.scale, scale, sizeof scale);
            memcpy(a.offset, offset, sizeof offset);
        }
    }
    for (int l = 0; l < FIT_LANES; l++) grid_near(s->grid, block[l], at, best->scale[l], best->offset[l]);
}
