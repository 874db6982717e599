// ops/route.c -- the router of a mixture of experts, the reference: which experts a row uses, and with which weights.
//
//     scores p = softmax(logits), or sigmoid(logits); the `used` experts with the largest p + choice_bias are chosen; their weights
//     are p, divided by their sum where `normalize` says so, times `scale`. GATE_SOFTMAX_CHOSEN takes the softmax over the chosen
//     logits alone. With groups, experts come from the `groups_used` groups whose two best (one best without a bias) add up to most.
//
// Shazeer et al., arXiv 1701.06538; groups: DeepSeek-V2, arXiv 2405.04434, and V3, arXiv 2412.19437. Of equal scores the
// expert with the smaller number wins, and the best comes first.
#include <tgmath.h>

#include "ops/ops.h"

static void scores(real *p, const real *logits, const struct route_args *a)
{
    real top = logits[0], sum = 0;
    for (int64_t e = 1; e < a->experts; e++)
        if (logits[e] > top) top = logits[e];
    for (int64_t e = 0; e < a->experts; e++) {
        switch (a->gate) {
        case ROUTE_SOFTMAX: sum += p[e] = exp(logits[e] - top); break;
        case ROUTE_SIGMOID: p[e] = 1 / (1 + exp(-logits[e])); break;
        case ROUTE_SOFTMAX_CHOSEN: p[e] = logits[e]; break;
        }
    }
    if (a->gate == ROUTE_SOFTMAX)
        for (int64_t e = 0; e < a->experts; e++) p[e] /= sum;
}

// The largest of the n numbers; it becomes -inf. -1 where there is none above -inf.
static int64_t take_best(real *from, int64_t n)
{
    int64_t best = -1;
    real top = -(real)INFINITY;
    for (int64_t e = 0; e < n; e++)
        if (from[e] > top) top = from[best = e];
    if (best >= 0) from[best] = -(real)INFINITY;
    return best;
}

static real group_score(const real *choice, int64_t n, bool two)
{
    real first = -(real)INFINITY, second = first;
    for (int64_t e = 0; e < n; e++) {
        if (choice[e] > first)
            second = first, first = choice[e];
        else if (choice[e] > second)
            second = choice[e];
    }
    return two && n > 1 ? first + second : first;
}

// Experts outside the best groups cannot be chosen.
static void limit_groups(real *choice, real *group, const struct route_args *a)
{
    int64_t size = a->experts / a->groups;
    for (int64_t g = 0; g < a->groups; g++)
        group[g] = group_score(choice + g * size, size, a->choice_bias != NULL);
    for (int64_t i = 0; i < a->groups_used; i++) take_best(group, a->groups);
    for (int64_t g = 0; g < a->groups; g++) // those not taken
        for (int64_t e = 0; group[g] > -(real)INFINITY && e < size; e++)
            choice[g * size + e] = -(real)INFINITY;
}

static void weigh(real *w, const struct route_args *a)
{
    real sum = 0, top = w[0];
    if (a->gate == ROUTE_SOFTMAX_CHOSEN) {
        for (int64_t i = 1; i < a->used; i++)
            if (w[i] > top) top = w[i];
        for (int64_t i = 0; i < a->used; i++) w[i] = exp(w[i] - top);
    }
    for (int64_t i = 0; i < a->used; i++) sum += w[i];
    bool divide = a->normalize || a->gate == ROUTE_SOFTMAX_CHOSEN;
    for (int64_t i = 0; i < a->used; i++) w[i] = (divide ? w[i] / sum : w[i]) * (real)a->scale;
}

void REF(route_fwd)(const struct route_args *a)
{
    real *p = a->scratch, *choice = p + a->experts, *group = choice + a->experts;
    const real *bias = a->choice_bias;
    for (int64_t r = 0; r < a->rows; r++) {
        real *w = (real *)a->out + 2 * r * a->used;
        int32_t *chosen = (int32_t *)(w + a->used);
        scores(p, (const real *)a->logits + r * a->experts, a);
        for (int64_t e = 0; e < a->experts; e++) choice[e] = p[e] + (bias ? bias[e] : 0);
        if (a->groups > 1) limit_groups(choice, group, a);
        for (int64_t i = 0; i < a->used; i++) {
            int64_t e = take_best(choice, a->experts);
            chosen[i] = e < 0 ? (int32_t)i
                              : (int32_t)e; // logits that are all NaN: some experts, the sum is NaN anyway
            w[i] = p[chosen[i]];
        }
        weigh(w, a);
    }
}

// With scores p of the chosen, weights w = scale p / sum(p) or scale p. By the scores: dp_i = scale (dy_i - sum_j dy_j w_j / scale) / sum(p), or
// scale dy_i; softmax over all experts: dx_e = p_e ([chosen] dp_e - sum_i dp_i p_i); sigmoid: p (1 - p) dp; softmax over the chosen: as the
// first, over these alone, which is what dividing by the sum makes of it.
void REF(route_dx)(const struct route_dx_args *a)
{
    const real scale = (real)a->scale;
    for (int64_t r = 0; r < a->rows; r++) {
        real *dx = (real *)a->dx + r * a->experts;
        const real *dy = (const real *)a->dy + 2 * r * a->used, *w = (const real *)a->out + 2 * r * a->used;
        const real *logits = (const real *)a->logits + r * a->experts;
        const int32_t *chosen = (const int32_t *)(w + a->used);
        real top = logits[0], all = 0, sum = 0, through = 0;
        for (int64_t e = 1; e < a->experts; e++)
            if (logits[e] > top) top = logits[e];
        // dx holds the scores for now: exp(x - top), which become a softmax through `all`, or sigmoids.
        for (int64_t e = 0; e < a->experts; e++) {
            dx[e] = a->gate == ROUTE_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e] - top);
            all += dx[e];
        }
        bool divide = a->normalize || a->gate == ROUTE_SOFTMAX_CHOSEN;
        for (int64_t i = 0; i < a->used; i++) {
            sum += dx[chosen[i]];
            through += dy[i] * w[i];
        }
        if (a->gate == ROUTE_SIGMOID) all = 1;
        real total = 0; // sum_i dp_i p_i, which is 0 where the weights were divided by their sum
        for (int64_t i = 0; i < a->used && !divide; i++) total += scale * dy[i] * dx[chosen[i]] / all;
        for (int64_t e = 0; e < a->experts; e++) {
            real p = dx[e], d = 0; // d: p times the gradient by p
            for (int64_t i = 0; i < a->used; i++)
                if (chosen[i] == e)
                    d = divide ? (scale * dy[i] - through) * p / sum : scale * dy[i] * p / all;
            dx[e] = a->gate == ROUTE_SIGMOID ? d * (1 - p) : d - p / all * total;
        }
    }
}
