// quant/methods/rounded.h -- a model some of whose matrices hold what a type would make of them: what rounding does, without a file.
//
// The numbers of such a matrix are rounded to the type and read back as f32; everything else runs as before. So what is measured is the
// rounding of weights alone: kernels of the type itself would also round what is multiplied with them, to 8 bits.
#ifndef QUANT_METHODS_ROUNDED_H
#define QUANT_METHODS_ROUNDED_H

#include "core/threads.h"
#include "models/model.h"

// The sum of squares that rounding a matrix to `type` changes it by; the same on any number of threads. Errors: MEMORY.
enum tlm_status rounded_error(double *error, const struct tensor *t, enum dtype type, struct threads *threads,
                              struct tlm_error *err);

struct rounded_weight { // a slot of the model, and what it held
    const struct tensor **slot;
    const struct tensor *held;
    struct tensor copy;
};

struct rounded {
    struct tlm_model *model;
    struct rounded_weight *weights;
    size_t count;
    const struct tensor *head;
};

// Turns the model's matrices to copies rounded to types[i], i counting the tensors of its file; where that is the tensor's own type it
// stays. A copy takes four bytes a number. Sessions must be opened after it, and closed before rounded_undo(). Errors: MEMORY; nothing
// has changed then. TLM_ASSERTs that rows can be cut into blocks.
enum tlm_status rounded_apply(struct rounded *r, struct tlm_model *m, const enum dtype *types,
                              struct threads *threads, struct tlm_error *err);
void rounded_undo(struct rounded *r);

#endif
