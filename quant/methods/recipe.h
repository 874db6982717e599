// quant/methods/recipe.h -- which type each matrix gets, so that a model of a given size is as near to the original as can be.
//
// Small changes of different matrices add up: the divergence of a model is about the sum of what rounding each matrix alone brings. So
// every matrix has a cost for each type, and the types of least total cost within the size are a knapsack.
#ifndef QUANT_METHODS_RECIPE_H
#define QUANT_METHODS_RECIPE_H

#include "core/dtype.h"
#include "core/error.h"

enum { RECIPE_CHOICES = 12 };

struct recipe_choice {
    enum dtype type;
    uint64_t bytes;
    double error; // sum of squares that rounding changes the weights by
    double cost;  // divergence in nats; NAN where it was not measured
};

struct recipe_tensor {
    uint64_t index; // in the file
    int count, chosen;
    struct recipe_choice choices[RECIPE_CHOICES];
};

// Gives the choices that were not measured a cost: along the line of ln cost over ln error through the two nearest that were. The
// divergence grows with the square of small changes, so the slope is about 1 there; what is measured shows how it bends. At least one
// choice with an error must have been measured: TLM_ASSERT.
void recipe_estimate(struct recipe_tensor *t);

// Sets `chosen` of all tensors: least sum of costs with a sum of bytes of at most `budget`, to within a 65536th of what there is to
// share out. Errors: ARGUMENT (even the smallest are too large), MEMORY.
enum tlm_status recipe_choose(struct recipe_tensor *tensors, size_t count, uint64_t budget,
                              struct tlm_error *err);

#endif
