// quant/methods/method.h -- the ways to find smaller numbers for those of a model, behind one interface.
//
// What all have in common is quant/requantize.h: every tensor is written in the type that was chosen for it. A method runs before that,
// and hands over what it has found: weights of importance for the rounding of a tensor, or the tensor's data as they are to be written.
#ifndef QUANT_METHODS_METHOD_H
#define QUANT_METHODS_METHOD_H

#include "generate/layers.h"
#include "quant/methods/imatrix.h"
#include "quant/methods/spool.h"

struct quant_work {
    const struct gguf *in;      // the model's file
    const enum dtype *types;    // [in->tensor_count] what each tensor becomes
    const struct imatrix *sums; // that the user has brought, or NULL
    // For methods with `texts`:
    struct tlm_model *model;
    struct layers_config texts;
    const char *path; // that will be written: what memory cannot hold stands beside it
    imatrix_progress_fn *progress;
    void *user;
    // What the method has found, [in->tensor_count]; quant_work_close() frees it.
    float **weights;         // (ne[0], ne[2]) of the columns, or NULL
    const void **ready;      // in types[i], or NULL
    float **columns, **rows; // factors (ne[0]), (ne[1]) of the numbers in front of rounding, or NULL
    struct spool spool;      // where `ready` stands
    int64_t plain, all;      // matrices for which the texts had too few rows, of all that were looked at
};

struct quant_method {
    const char *name, *help;
    bool texts;  // runs the model over texts
    bool scales; // changes what goes into matrices
    // Fills in weights and ready. Errors: MEMORY, IO, FORMAT (numbers that cannot be rounded), ARGUMENT (stopped).
    enum tlm_status (*run)(struct quant_work *w, struct tlm_error *err);
};

extern const struct quant_method quant_methods[]; // ends with a name of NULL
const struct quant_method *quant_method_find(const char *name);

// Makes the arrays. The caller has set what stands in front of them, and zeros behind it. Errors: MEMORY.
enum tlm_status quant_work_open(struct quant_work *w, struct tlm_error *err);
void quant_work_close(struct quant_work *w);
// The weights of tensor i by these sums. What has no sums, or sums of another shape, stays without. Errors: MEMORY.
enum tlm_status quant_work_weigh(struct quant_work *w, uint64_t i, const struct imatrix *sums,
                                 struct tlm_error *err);

// quant/methods/gptq_model.c, quant/methods/awq.c
enum tlm_status gptq_run(struct quant_work *w, struct tlm_error *err);
enum tlm_status awq_run(struct quant_work *w, struct tlm_error *err);

#endif
