// quant/stand_in.h -- rows of random weights, for models that only stand in for others of their shape.
#ifndef QUANT_STAND_IN_H
#define QUANT_STAND_IN_H

#include "core/tensor.h"

enum { STAND_IN_ROWS = 16 }; // are drawn of a matrix, and repeated

// Draws all rows of t, of a type that quant_types can write; `row` has room for one. Uniform and of variance 1 / k, so that activations
// stay as large as they are.
void stand_in_draw(const struct tensor *t, float *row);

#endif
