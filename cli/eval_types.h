// cli/eval_types.h -- a line of `tinylm eval types`: the file it is of, and the lines as a chart.
#ifndef CLI_EVAL_TYPES_H
#define CLI_EVAL_TYPES_H

#include "cli/common.h"
#include "cli/quantize_method.h"
#include "quant/methods/divergence.h"
#include "quant/mix.h"

// How numbers are found: a method of quant/methods/method.h, or "imatrix", which is rtn with weights of importance.
enum { TYPES_METHODS = 4 };
extern const char *const types_methods[TYPES_METHODS];
const struct quant_method *types_method(int method);

struct types_source {
    struct model_args model;
    struct method_args method; // its text and sums
    struct threads *threads;
};

// The model as that method and mix leave it, out of a file in $TMPDIR that has no name any more. Errors: those of writing and of opening;
// CANCELLED.
enum tlm_status types_open(struct tlm_model **model, const struct types_source *s, int method,
                           const struct mix *mix, struct tlm_error *err);

struct types_row {
    const char *type;
    int method;
    uint64_t bytes;            // of all tensors
    double bits;               // of a number, over all of them
    struct divergence d;       // from the model as it is
    double prompt, generation; // speeds, times those of the model as it is, measured in turn
};

// A chart of rows: KL divergence, on a scale of powers, by bits. Errors: IO, MEMORY.
enum tlm_status types_chart_write(const char *path, const char *model, const struct types_row *rows,
                                  size_t count, struct tlm_error *err);

#endif
