// ops/layernorm.c -- layer normalisation, the reference.
//
//     y = (x - m) * r * w + b,   m = mean(x),   r = 1 / sqrt(mean((x - m)^2) + eps)      (Ba et al., arXiv 1607.06450)
//
// x and y are (rows, cols), w and b (cols); b may be NULL. Numbers go into PARTS running sums, number i into sum i % PARTS,
// which are added as a tree: the same order for every number of rows. The mean is taken first and the squares of what is left:
// the difference of two large sums would lose the variance of rows far from 0.
#include <tgmath.h>

#include "ops/ops.h"

enum { PARTS = 16 };

static real tree(real part[PARTS])
{
    for (int64_t half = PARTS / 2; half; half /= 2)
        for (int64_t j = 0; j < half; j++) part[j] += part[j + half];
    return part[0];
}

static real mean(const real *x, int64_t cols)
{
    real part[PARTS] = {0};
    for (int64_t i = 0; i < cols; i += PARTS)
        for (int64_t j = 0; j < PARTS && i + j < cols; j++) part[j] += x[i + j];
    return tree(part) / (real)cols;
}

static real variance(const real *x, real m, int64_t cols)
{
    real part[PARTS] = {0};
    for (int64_t i = 0; i < cols; i += PARTS)
        for (int64_t j = 0; j < PARTS && i + j < cols; j++) part[j] += (x[i + j] - m) * (x[i + j] - m);
    return tree(part) / (real)cols;
}

void REF(layernorm_fwd)(real *y, real *mean_out, real *rstd, const real *x, const real *w, const real *b,
                        int64_t rows, int64_t cols, double eps)
{
    for (int64_t row = 0; row < rows; row++, x += cols, y += cols) {
        real m = mean(x, cols), r = 1 / sqrt(variance(x, m, cols) + (real)eps);
        for (int64_t i = 0; i < cols; i++) y[i] = (x[i] - m) * r * w[i] + (b ? b[i] : 0);
        if (mean_out) mean_out[row] = m;
        if (rstd) rstd[row] = r;
    }
}

// With n = (x - m) r and g = dy w: dx = r (g - mean(g) - n mean(g n)).
void REF(layernorm_dx)(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
                       int64_t rows, int64_t cols, double eps, bool add)
{
    for (int64_t row = 0; row < rows; row++, x += cols, dy += cols, dx += cols) {
        real m = mean(x, cols), r = 1 / sqrt(variance(x, m, cols) + (real)eps);
        real g[PARTS] = {0}, gn[PARTS] = {0};
        for (int64_t i = 0; i < cols; i++) {
            g[i % PARTS] += dy[i] * w[i];
            gn[i % PARTS] += dy[i] * w[i] * ((x[i] - m) * r);
        }
        real mean_g = tree(g) / (real)cols, mean_gn = tree(gn) / (real)cols;
        for (int64_t i = 0; i < cols; i++) {
            real n = (x[i] - m) * r, d = r * (dy[i] * w[i] - mean_g - n * mean_gn);
            if (dw) dw[i] += dy[i] * n;
            if (db) db[i] += dy[i];
            dx[i] = add ? dx[i] + d : d;
        }
    }
}
