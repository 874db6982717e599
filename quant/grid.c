// quant/grid.c -- see quant/grid.h.
#include "quant/grid.h"

#include "quant/fit_pass.h"

static bool has_subs(const struct grid *g)
{
    return g->sub < g->block;
}

// ---- super-blocks -------------------------------------------------------------------------------------

static void fit_super(const struct grid *g, const float *x, const float *w, struct grid_block *out)
{
    if (g->offset) {
        struct fit_lines fit;
        fit_super_line(x, w, g->sub, (int)g->levels.high, g->high, &fit);
        out->d = fit.d;
        out->m = fit.dmin;
        memcpy(out->scale, fit.scale, sizeof fit.scale);
        memcpy(out->min, fit.min, sizeof fit.min);
    } else {
        struct fit_scales fit;
        fit_super_scale(x, w, g->sub, &g->levels, g->low, g->high, &fit);
        out->d = fit.d;
        memcpy(out->scale, fit.sub, sizeof fit.sub);
    }
}

static void round_super(const struct grid *g, void *block, const float *x, const float *w)
{
    struct grid_block b = {0};
    fit_super(g, x, w, &b);
    for (int s = 0; s < g->block / g->sub; s++) {
        float scale, offset;
        grid_line(g, &b, s, &scale, &offset);
        float inverse = fit_reciprocal(scale);
        for (int i = s * g->sub; i < (s + 1) * g->sub; i++)
            b.code[i] = fit_code(&g->levels, (x[i] - offset) * inverse);
    }
    g->pack(block, &b);
}

void grid_quantize(const struct grid *g, void *y, const float *x, int64_t count, const float *w)
{
    char *block = y;
    for (int64_t i = 0; i < count; i += g->block, block += g->bytes)
        round_super(g, block, x + i, w ? w + i : NULL);
}

// ---- all ----------------------------------------------------------------------------------------------

void grid_pack(const struct grid *g, void *block, const struct grid_block *b)
{
    if (has_subs(g)) {
        g->pack(block, b);
    } else {
        struct fit_block one = {.d = b->d, .m = b->m};
        memcpy(one.code, b->code, sizeof one.code);
        g->write(block, 0, &one);
    }
}

void grid_fit(const struct grid *g, const float *x, const float *w, int count, struct grid_block *out)
{
    if (has_subs(g)) {
        for (int i = 0; i < count; i++) fit_super(g, x + i * g->block, w + i * g->block, &out[i]);
        return;
    }
    struct fit_group group;
    float scale[FIT_LANES], offset[FIT_LANES] = {0};
    fit_gather(&group, x, w, g->block, count);
    if (g->offset)
        fit_line(&group, (int)g->levels.high, false, scale, offset);
    else
        fit_scale(&group, &g->levels, scale);
    for (int i = 0; i < count; i++) {
        out[i].d = fit_f16(scale[i]);
        out[i].m = fit_f16(offset[i]);
    }
}

void grid_near(const struct grid *g, struct grid_block *b, int s, float scale, float offset)
{
    if (has_subs(g)) {
        float per_d = fit_reciprocal(f32_from_f16(b->d)), per_m = fit_reciprocal(f32_from_f16(b->m));
        b->scale[s] = fit_whole(scale * per_d, g->low, g->high);
        b->min[s] = g->offset ? fit_whole(-offset * per_m, 0, g->high) : 0;
    } else {
        b->d = fit_f16(scale);
        b->m = fit_f16(offset);
    }
}
