// cli/eval_types.h -- a line of `tinylm eval types`, and the lines as a chart.
#ifndef CLI_EVAL_TYPES_H
#define CLI_EVAL_TYPES_H

#include "quant/methods/divergence.h"

struct types_row {
    const char *type;
    uint64_t bytes;            // of all tensors
    double bits;               // of a number, over all of them
    struct divergence d;       // from the model as it is
    double prompt, generation; // speeds, times those of the model as it is, measured in turn
};

// A chart of rows: KL divergence, on a scale of powers, by bits. Errors: IO, MEMORY.
enum tlm_status types_chart_write(const char *path, const char *model, const struct types_row *rows,
                                  size_t count, struct tlm_error *err);

#endif
