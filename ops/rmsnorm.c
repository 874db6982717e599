// ops/rmsnorm.c -- root mean square normalisation, the reference.
//
//     y = x * r * w,   r = 1 / sqrt(mean(x^2) + eps)       (Zhang and Sennrich, arXiv 1910.07467)
//
// x and y are (rows, cols), w is (cols). The squares go into PARTS running sums, number i into sum i % PARTS,
// which are added as a tree: closer to the true sum than one long chain, and the same order for every number
// of rows.
#include <tgmath.h>

#include "ops/ops.h"

enum { PARTS = 16 };

static real sum_of_squares(const real *x, int64_t cols)
{
    real part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= cols; i += PARTS)
        for (int64_t j = 0; j < PARTS; j++) part[j] += x[i + j] * x[i + j];
    for (int64_t j = 0; i + j < cols; j++) part[j] += x[i + j] * x[i + j];
    for (int64_t half = PARTS / 2; half; half /= 2)
        for (int64_t j = 0; j < half; j++) part[j] += part[j + half];
    return part[0];
}

void REF(rmsnorm_fwd)(real *y, real *rstd, const real *x, const real *w, int64_t rows, int64_t cols,
                      double eps)
{
    for (int64_t row = 0; row < rows; row++, x += cols, y += cols) {
        real r = 1 / sqrt(sum_of_squares(x, cols) / (real)cols + (real)eps);
        for (int64_t i = 0; i < cols; i++) y[i] = x[i] * r * w[i];
        if (rstd) rstd[row] = r;
    }
}
