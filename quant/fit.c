// quant/fit.c -- see quant/fit.h. Here: one group of sub-blocks, each with a scale (and offset) of its own.
#include "quant/fit_pass.h"

void fit_gather(struct fit_group *g, const float *x, const float *w, int n, int subs)
{
    *g = (struct fit_group){.n = n};
    for (int s = 0; s < subs; s++)
        for (int i = 0; i < n; i++) {
            float weight = w ? w[s * n + i] : 1;
            g->x[i][s] = x[s * n + i];
            g->w[i][s] = weight;
            g->sum_x[s] += weight * x[s * n + i];
            g->sum_w[s] += weight;
        }
}

// ---- levels -------------------------------------------------------------------------------------------

uint8_t fit_code(const struct fit_levels *levels, float t)
{
    if (!levels->iq4) return (uint8_t)(fit_whole(t, (int)levels->low, (int)levels->high) - (int)levels->low);
    t = t > levels->low ? t : levels->low;
    t = t < levels->high ? t : levels->high;
    return fit_iq4_codes[(int)(2 * t + 254)];
}

// The borders between neighbours among the values of IQ4 are multiples of 1/2: so the code of t is that of
// floor(2 (t + 127)).
const uint8_t fit_iq4_codes[481] = {
    [0 ... 22] = 0,     [23 ... 66] = 1,    [67 ... 105] = 2,   [106 ... 139] = 3,
    [140 ... 169] = 4,  [170 ... 196] = 5,  [197 ... 221] = 6,  [222 ... 244] = 7,
    [245 ... 267] = 8,  [268 ... 291] = 9,  [292 ... 316] = 10, [317 ... 344] = 11,
    [345 ... 375] = 12, [376 ... 411] = 13, [412 ... 455] = 14, [456 ... 480] = 15,
};

// ---- a scale ------------------------------------------------------------------------------------------

// Takes over the lanes of a trial whose error is smaller.
static void keep_better(struct fit_trial *best, const struct fit_trial *t)
{
    for (int l = 0; l < FIT_LANES; l++) {
        bool better = t->error[l] < best->error[l];
        best->scale[l] = better ? t->scale[l] : best->scale[l];
        best->offset[l] = better ? t->offset[l] : best->offset[l];
        best->error[l] = better ? t->error[l] : best->error[l];
    }
}

// The number of each lane that is largest in size, with its sign.
static void find_peaks(const struct fit_group *g, float peak[FIT_LANES])
{
    for (int l = 0; l < FIT_LANES; l++) peak[l] = 0;
    for (int i = 0; i < g->n; i++)
        for (int l = 0; l < FIT_LANES; l++)
            peak[l] = fabsf(g->x[i][l]) > fabsf(peak[l]) ? g->x[i][l] : peak[l];
}

void fit_scale(const struct fit_group *g, const struct fit_levels *levels, float scale[FIT_LANES])
{
    // A start maps the peak onto this many times the last level. With few levels it pays to cut the peak off.
    static const float few[] = {0.7f, 0.85f, 1, 1.15f, 1.35f, 1.6f},
                       many[] = {0.9f, 0.96f, 1, 1.03f, 1.08f, 1.15f};
    enum { STARTS = 6, ROUNDS = 3 };
    const float *cut = levels->high < 8 ? few : many;
    float peak[FIT_LANES];
    find_peaks(g, peak);
    struct fit_trial best = {0}, t = {0};
    for (int l = 0; l < FIT_LANES; l++) best.error[l] = INFINITY;
    for (int start = 0; start < 2 * STARTS; start++) {
        float end = (start < STARTS ? levels->low : levels->high) * cut[start % STARTS];
        for (int l = 0; l < FIT_LANES; l++) t.scale[l] = peak[l] / end;
        for (int round = 0; round < ROUNDS; round++) {
            struct fit_sums s;
            fit_scale_pass(g, levels, t.scale, &s);
            for (int l = 0; l < FIT_LANES; l++) t.error[l] = s.error[l];
            keep_better(&best, &t);
            for (int l = 0; l < FIT_LANES; l++) t.scale[l] = s.qq[l] > 0 ? s.xq[l] / s.qq[l] : t.scale[l];
        }
    }
    memcpy(scale, best.scale, sizeof best.scale);
}

// ---- a scale and an offset ----------------------------------------------------------------------------

static void find_range(const struct fit_group *g, float low[FIT_LANES], float high[FIT_LANES])
{
    for (int l = 0; l < FIT_LANES; l++) low[l] = high[l] = g->x[0][l];
    for (int i = 1; i < g->n; i++)
        for (int l = 0; l < FIT_LANES; l++) {
            low[l] = g->x[i][l] < low[l] ? g->x[i][l] : low[l];
            high[l] = g->x[i][l] > high[l] ? g->x[i][l] : high[l];
        }
}

// The least squares line through the codes of a pass: from sum w (x - scale q - offset)^2 both derivatives
// zero. Where the offset may not be positive and would be, it is 0.
static void solve_line(const struct fit_group *g, const struct fit_sums *s, bool lower, struct fit_trial *t)
{
    for (int l = 0; l < FIT_LANES; l++) {
        float det = g->sum_w[l] * s->qq[l] - s->q[l] * s->q[l];
        float scale = (g->sum_w[l] * s->xq[l] - g->sum_x[l] * s->q[l]) / det;
        float offset = (g->sum_x[l] - scale * s->q[l]) / g->sum_w[l];
        bool bounded = lower && offset > 0;
        offset = bounded ? 0 : offset;
        scale = bounded ? s->xq[l] / s->qq[l] : scale;
        bool solved = det > 0 && scale > 0; // false for a NaN too
        t->scale[l] = solved ? scale : t->scale[l];
        t->offset[l] = solved ? offset : t->offset[l];
    }
}

void fit_line(const struct fit_group *g, int top, bool lower, float scale[FIT_LANES], float offset[FIT_LANES])
{
    enum { STARTS = 10, ROUNDS = 3 };
    // Where a start puts the ends of the line: so many steps inside the range, below and above. With many
    // levels the answers next to the range differ by fractions of a step; with few it pays to cut much off.
    static const float few[STARTS][2] = {{0, 0},    {0, 0.5f}, {0, 1},    {0.5f, 0}, {0.5f, 0.5f},
                                         {0.5f, 1}, {1, 0},    {1, 0.5f}, {1, 1},    {0.25f, 0.25f}};
    static const float many[STARTS][2] = {{-1, 0}, {-0.5f, 0}, {0, 0},    {0.5f, 0}, {1, 0},
                                          {0, -1}, {0, -0.5f}, {0, 0.5f}, {0, 1},    {0, 1.4f}};
    const float(*cut)[2] = top < 8 ? few : many;
    float low[FIT_LANES], high[FIT_LANES];
    find_range(g, low, high);
    struct fit_trial best = {0}, t;
    for (int l = 0; l < FIT_LANES; l++) best.error[l] = INFINITY;
    for (int start = 0; start < STARTS; start++) {
        for (int l = 0; l < FIT_LANES; l++) {
            // The range, and what is cut off it, are together `top` steps.
            float step = (high[l] - low[l]) / ((float)top + cut[start][0] + cut[start][1]);
            float from = low[l] + step * cut[start][0], to = high[l] - step * cut[start][1];
            t.offset[l] = lower && from > 0 ? 0 : from;
            t.scale[l] = (to - t.offset[l]) / (float)top;
            t.scale[l] = t.scale[l] > 0 ? t.scale[l] : 0;
        }
        for (int round = 0; round < ROUNDS; round++) {
            struct fit_sums s;
            fit_line_pass(g, (float)top, t.scale, t.offset, &s);
            for (int l = 0; l < FIT_LANES; l++) t.error[l] = s.error[l];
            keep_better(&best, &t);
            solve_line(g, &s, lower, &t);
        }
    }
    memcpy(scale, best.scale, sizeof best.scale);
    memcpy(offset, best.offset, sizeof best.offset);
}
