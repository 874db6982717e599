// quant/fit_super.c -- the search for super-blocks, whose sub-blocks share an f16 scale: see quant/fit.h.
//
// First every sub-block finds the scale (and minimum) it would like; then whole multiples of a common d (and
// dmin) are chosen near those, each by the error that it gives with its own rounding of the numbers; then d
// is fitted by least squares to the codes that came out, and the multiples are chosen once more.
#include "quant/fit_pass.h"

enum { GROUPS = FIT_SUBS / FIT_LANES };

static int gather(struct fit_group g[GROUPS], const float *x, const float *w, int n)
{
    int groups = QUANT_SUPER / (n * FIT_LANES);
    for (int i = 0; i < groups; i++)
        fit_gather(&g[i], x + i * n * FIT_LANES, w ? w + i * n * FIT_LANES : NULL, n, FIT_LANES);
    return groups;
}

// ---- without minimum ----------------------------------------------------------------------------------

struct super_scale {
    const struct fit_levels *levels;
    int low, high;         // of the multiples
    float want[FIT_LANES]; // the scales that the lanes would like
};

// Chooses the multiples of d for one group; adds the sums from which a better d follows. Returns the error.
static double choose_scales(const struct fit_group *g, const struct super_scale *p, float d,
                            int sub[FIT_LANES], double *up, double *down)
{
    float best[FIT_LANES], xq[FIT_LANES] = {0}, qq[FIT_LANES] = {0};
    for (int l = 0; l < FIT_LANES; l++) best[l] = INFINITY, sub[l] = 0;
    for (int step = -1; step <= 1; step++) {
        int trial[FIT_LANES];
        float scale[FIT_LANES];
        for (int l = 0; l < FIT_LANES; l++) {
            trial[l] = fit_whole(p->want[l] / d + (float)step, p->low, p->high);
            scale[l] = d * (float)trial[l];
        }
        struct fit_sums s;
        fit_scale_pass(g, p->levels, scale, &s);
        for (int l = 0; l < FIT_LANES; l++) {
            bool better = s.error[l] < best[l];
            best[l] = better ? s.error[l] : best[l];
            sub[l] = better ? trial[l] : sub[l];
            xq[l] = better ? s.xq[l] : xq[l];
            qq[l] = better ? s.qq[l] : qq[l];
        }
    }
    double error = 0;
    for (int l = 0; l < FIT_LANES; l++) {
        error += best[l];
        *up += sub[l] * xq[l];
        *down += (double)sub[l] * sub[l] * qq[l];
    }
    return error;
}

void fit_super_scale(const float *x, const float *w, int n, const struct fit_levels *levels, int low,
                     int high, struct fit_scales *out)
{
    enum { ROUNDS = 3 };
    struct fit_group g[GROUPS];
    struct super_scale p[GROUPS];
    float peak = 0;
    int groups = gather(g, x, w, n), sub[FIT_SUBS] = {0};
    for (int i = 0; i < groups; i++) {
        p[i] = (struct super_scale){.levels = levels, .low = low, .high = high};
        fit_scale(&g[i], levels, p[i].want);
        for (int l = 0; l < FIT_LANES; l++) peak = fabsf(p[i].want[l]) > fabsf(peak) ? p[i].want[l] : peak;
    }
    double best = INFINITY;
    *out = (struct fit_scales){0};
    for (int end = 0; end < 2; end++) { // the largest scale becomes the lowest multiple, or the highest
        uint16_t bits = fit_f16(peak / (float)(end ? high : low));
        for (int round = 0; round < ROUNDS; round++) {
            double up = 0, down = 0, error = 0;
            float d = f32_from_f16(bits);
            if (d == 0) break;
            for (int i = 0; i < groups; i++)
                error += choose_scales(&g[i], &p[i], d, &sub[i * FIT_LANES], &up, &down);
            if (error < best) {
                best = error;
                out->d = bits;
                memcpy(out->sub, sub, sizeof sub);
            }
            uint16_t next = fit_f16(down > 0 ? (float)(up / down) : d);
            if (next == bits) break;
            bits = next;
        }
    }
}

// ---- with minimum -------------------------------------------------------------------------------------

struct super_line {
    float top; // of the codes
    int high;  // of the multiples
    float want_scale[FIT_LANES], want_min[FIT_LANES];
};

// What the choice of one group gives: multiples and errors.
struct line_choice {
    int scale[FIT_LANES], min[FIT_LANES];
    float error[FIT_LANES];
};

static void keep_choice(struct line_choice *best, const struct line_choice *t)
{
    for (int l = 0; l < FIT_LANES; l++) {
        bool better = t->error[l] < best->error[l];
        best->error[l] = better ? t->error[l] : best->error[l];
        best->scale[l] = better ? t->scale[l] : best->scale[l];
        best->min[l] = better ? t->min[l] : best->min[l];
    }
}

static void choose_lines(const struct fit_group *g, const struct super_line *p, float d, float dmin,
                         struct line_choice *best)
{
    *best = (struct line_choice){0};
    for (int l = 0; l < FIT_LANES; l++) best->error[l] = INFINITY;
    float per_d = fit_reciprocal(d), per_dmin = fit_reciprocal(dmin);
    for (int step = -1; step <= 1; step++) {
        struct line_choice t;
        struct fit_sums s;
        float scale[FIT_LANES], offset[FIT_LANES], below[FIT_LANES];
        for (int l = 0; l < FIT_LANES; l++) {
            t.scale[l] = fit_whole(p->want_scale[l] * per_d + (float)step, 0, p->high);
            scale[l] = d * (float)t.scale[l];
            offset[l] = -p->want_min[l];
        }
        // The minimum that goes best with this scale follows from the codes that the scale gives.
        fit_line_pass(g, p->top, scale, offset, &s);
        for (int l = 0; l < FIT_LANES; l++) {
            float min = (scale[l] * s.q[l] - g->sum_x[l]) / g->sum_w[l] * per_dmin;
            below[l] = min - 0.5f; // rounded, the whole number below it
        }
        for (int above = 0; above <= 1; above++) {
            for (int l = 0; l < FIT_LANES; l++) {
                t.min[l] = fit_whole(below[l] + (float)above, 0, p->high);
                offset[l] = -(dmin * (float)t.min[l]);
            }
            fit_line_error(g, p->top, scale, offset, t.error);
            keep_choice(best, &t);
        }
    }
}

// The normal equations of x ~ d (scale q) - dmin min over the whole super-block.
struct line_equations {
    double aa, ab, bb, ax, bx;
};

static void add_equations(struct line_equations *e, const struct fit_group *g, float top,
                          const struct line_choice *c, float d, float dmin)
{
    struct fit_sums s;
    float scale[FIT_LANES], offset[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) {
        scale[l] = d * (float)c->scale[l];
        offset[l] = -(dmin * (float)c->min[l]);
    }
    fit_line_pass(g, top, scale, offset, &s);
    for (int l = 0; l < FIT_LANES; l++) {
        double a = c->scale[l], b = c->min[l];
        e->aa += a * a * s.qq[l];
        e->ab += a * b * s.q[l];
        e->bb += b * b * g->sum_w[l];
        e->ax += a * s.xq[l];
        e->bx += b * g->sum_x[l];
    }
}

// False where they have no use: no solution, or one with a negative scale.
static bool solve_equations(const struct line_equations *e, uint16_t *d, uint16_t *dmin)
{
    double det = e->aa * e->bb - e->ab * e->ab, x = 0, y = 0;
    if (det > 0) {
        x = (e->ax * e->bb - e->ab * e->bx) / det;
        y = (e->ab * e->ax - e->aa * e->bx) / det;
    } else if (e->aa > 0) {
        x = e->ax / e->aa;
    }
    *d = fit_f16((float)x);
    *dmin = fit_f16((float)y);
    return x > 0 && y >= 0;
}

void fit_super_line(const float *x, const float *w, int n, int top, int high, struct fit_lines *out)
{
    enum { ROUNDS = 3 };
    struct fit_group g[GROUPS];
    struct super_line p[GROUPS];
    float most_scale = 0, most_min = 0;
    int groups = gather(g, x, w, n);
    for (int i = 0; i < groups; i++) {
        float offset[FIT_LANES];
        p[i] = (struct super_line){.top = (float)top, .high = high};
        fit_line(&g[i], top, true, p[i].want_scale, offset);
        for (int l = 0; l < FIT_LANES; l++) {
            p[i].want_min[l] = -offset[l];
            most_scale = p[i].want_scale[l] > most_scale ? p[i].want_scale[l] : most_scale;
            most_min = p[i].want_min[l] > most_min ? p[i].want_min[l] : most_min;
        }
    }
    double best = INFINITY;
    *out = (struct fit_lines){0};
    uint16_t d = fit_f16(most_scale / (float)high), dmin = fit_f16(most_min / (float)high);
    for (int round = 0; round < ROUNDS; round++) {
        struct line_choice choice[GROUPS];
        struct line_equations e = {0};
        double error = 0;
        for (int i = 0; i < groups; i++) {
            choose_lines(&g[i], &p[i], f32_from_f16(d), f32_from_f16(dmin), &choice[i]);
            add_equations(&e, &g[i], (float)top, &choice[i], f32_from_f16(d), f32_from_f16(dmin));
            for (int l = 0; l < FIT_LANES; l++) error += choice[i].error[l];
        }
        if (error < best) {
            best = error;
            out->d = d;
            out->dmin = dmin;
            for (int i = 0; i < groups; i++) {
                memcpy(&out->scale[i * FIT_LANES], choice[i].scale, sizeof choice[i].scale);
                memcpy(&out->min[i * FIT_LANES], choice[i].min, sizeof choice[i].min);
            }
        }
        uint16_t old_d = d, old_dmin = dmin;
        if (!solve_equations(&e, &d, &dmin) || (d == old_d && dmin == old_dmin)) break;
    }
}
