// ops/distill.c -- the loss of a row of logits beside another model's, the teacher's, and its gradient, the reference.
//
//     loss = (1 - share) (-log q_target) + share KL(p || q),    KL = sum_v p_v (log p_v - log q_v)
//     dx_v = (q_v - share p_v - (1 - share) [v = target]) factor
//
// q = softmax(x), p = softmax(teacher): the cross entropy with a target that lies between the token and the teacher's distribution, less the
// teacher's entropy, so that the loss of a model that learnt all of it is 0. Hinton, Vinyals and Dean, arXiv 1503.02531, at a temperature
// of 1: the model is to give the very distribution of its teacher.
#include <tgmath.h>

#include "ops/ops.h"

static real top_of(const real *x, int64_t count)
{
    real top = x[0];
    for (int64_t v = 1; v < count; v++)
        if (x[v] > top) top = x[v];
    return top;
}

double REF(distill)(real *dx, const real *x, const real *teacher, int32_t target, int64_t vocab, double share,
                    double factor)
{
    if (target < 0) {
        for (int64_t v = 0; v < vocab; v++) dx[v] = 0;
        return 0;
    }
    const real top = top_of(x, vocab), goal = top_of(teacher, vocab), aim = x[target];
    double own = 0, taught = 0, apart = 0;
    for (int64_t v = 0; v < vocab; v++) {
        real a = x[v] - top, b = teacher[v] - goal, e = exp(a), p = exp(b);
        own += (double)e, taught += (double)p;
        if (p != 0) apart += (double)p * (double)(b - a); // 0 log 0 is 0
        dx[v] = e;
    }
    const real scale = (real)(factor / own), less = (real)(share * factor / taught);
    for (int64_t v = 0; v < vocab; v++) dx[v] = dx[v] * scale - exp(teacher[v] - goal) * less;
    dx[target] -= (real)((1 - share) * factor);
    return (1 - share) * (log(own) + (double)top - (double)aim) +
           share * (apart / taught + log(own) - log(taught));
}
