// quant/methods/gptq.h -- rounding a matrix so that what it gives for the rows of a text changes least: GPTQ onto the grids of
// quant/grid.h. Frantar et al., arXiv 2210.17323; see quant/methods/hessian.h for the mathematics.
#ifndef QUANT_METHODS_GPTQ_H
#define QUANT_METHODS_GPTQ_H

#include "quant/grid.h"
#include "quant/methods/hessian.h"

struct gptq {
    const struct hessian *hessian; // factored, with the grid's blocks and sub-blocks
    enum dtype type;               // with a grid
    const void *w;                 // (rows, K) of a type that can be read
    enum dtype w_type;
    size_t w_stride; // bytes
    int64_t rows;
    void *out; // (rows, K) of `type`, side by side
};

// All threads of the hessian share the rows. Errors: MEMORY, FORMAT (a number that is not finite, or beyond those of f16).
enum tlm_status gptq_round(const struct gptq *p, struct tlm_error *err);

#endif
