// ops/cross_entropy.c -- the loss of a row of logits and its gradient, the reference.
//
//     loss = log(sum_v exp(x_v)) - x_target,    dx_v = (exp(x_v - m) / sum - [v = target]) * factor,   m = max x
//
// The sum is taken in double over exponentials of `real`. tinylm eval scores a text by this very kernel (tlm_model_loss), so training and
// scoring agree to the bit.
#include <tgmath.h>

#include "ops/ops.h"

double REF(cross_entropy)(real *dx, const real *x, int32_t target, int64_t vocab, double factor)
{
    if (target < 0) {
        for (int64_t v = 0; v < vocab && dx; v++) dx[v] = 0;
        return 0;
    }
    real top = x[0], aim = x[target];
    for (int64_t v = 1; v < vocab; v++)
        if (x[v] > top) top = x[v];
    double sum = 0;
    for (int64_t v = 0; v < vocab; v++) {
        real e = exp(x[v] - top);
        sum += (double)e;
        if (dx) dx[v] = e;
    }
    real scale = (real)(factor / sum);
    for (int64_t v = 0; v < vocab && dx; v++) dx[v] *= scale;
    if (dx) dx[target] -= (real)factor;
    return log(sum) + (double)top - (double)aim;
}
