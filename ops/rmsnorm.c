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

static real dot(const real *x, const real *y, int64_t cols)
{
    real part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= cols; i += PARTS)
        for (int64_t j = 0; j < PARTS; j++) part[j] += x[i + j] * y[i + j];
    for (int64_t j = 0; i + j < cols; j++) part[j] += x[i + j] * y[i + j];
    for (int64_t half = PARTS / 2; half; half /= 2)
        for (int64_t j = 0; j < half; j++) part[j] += part[j + half];
    return part[0];
}

void REF(rmsnorm_fwd)(real *y, real *rstd, const real *x, const real *w, int64_t rows, int64_t cols,
                      double eps)
{
    for (int64_t row = 0; row < rows; row++, x += cols, y += cols) {
        real r = 1 / sqrt(dot(x, x, cols) / (real)cols + (real)eps);
        for (int64_t i = 0; i < cols; i++) y[i] = x[i] * r * w[i];
        if (rstd) rstd[row] = r;
    }
}

// With n = x r and g = dy w: mean(g n) = r mean(g x).
void REF(rmsnorm_dx)(real *dx, real *dw, const real *dy, const real *x, const real *w, int64_t rows,
                     int64_t cols, double eps, bool add)
{
    for (int64_t row = 0; row < rows; row++, x += cols, dy += cols, dx += cols) {
        real r = 1 / sqrt(dot(x, x, cols) / (real)cols + (real)eps), part[PARTS] = {0}, mean = 0;
        for (int64_t i = 0; i < cols; i++) part[i % PARTS] += dy[i] * w[i] * x[i];
        for (int64_t j = 0; j < PARTS; j++) mean += part[j];
        mean *= r / (real)cols;
        for (int64_t i = 0; i < cols; i++) {
            real n = x[i] * r, d = r * (dy[i] * w[i] - n * mean);
            if (dw) dw[i] += dy[i] * n;
            dx[i] = add ? dx[i] + d : d;
        }
    }
}
