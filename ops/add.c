// ops/add.c -- sums and multiples of rows: y = a + b, y = x * factor, y += x * weight, a bias b (cols) added to each row of
// x (rows, cols), and the sum of the rows.
//
// The compiler's vectors (-O3) keep up with the memory; but for the sum of the rows, no other form gained anything.
#include <string.h>

#include "ops/ops.h"

void REF(add_fwd)(real *y, const real *a, const real *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

void REF(bias_fwd)(real *y, const real *x, const real *b, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols)
        for (int64_t i = 0; i < cols; i++) y[i] = x[i] + b[i];
}

void REF(scale_fwd)(real *y, const real *x, int64_t count, double factor)
{
    for (int64_t i = 0; i < count; i++) y[i] = x[i] * (real)factor;
}

void REF(add_scaled_fwd)(real *y, const real *x, real weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] += x[i] * weight;
}

void REF(sum_rows)(real *to, const real *x, int64_t rows, int64_t cols, size_t stride, bool add)
{
    if (!add) memset(to, 0, (size_t)cols * sizeof *to);
    for (int64_t r = 0; r < rows; r++, x += stride)
        for (int64_t i = 0; i < cols; i++) to[i] += x[i];
}
