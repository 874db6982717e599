// ops/swiglu.c -- the gated activation SwiGLU, the reference.
//
//     y = gate * sigmoid(gate) * up = gate / (1 + exp(-gate)) * up      (Shazeer, arXiv 2002.05202)
//
// A very negative gate gives exp(-gate) = inf and y = 0; there is no overflow to guard against.
#include <tgmath.h>

#include "ops/ops.h"

void REF(swiglu_fwd)(real *y, const real *gate, const real *up, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
}
