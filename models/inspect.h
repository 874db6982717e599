// models/inspect.h -- what the numbers of a tensor look like: for checks and comparisons.
#ifndef MODELS_INSPECT_H
#define MODELS_INSPECT_H

#include "core/error.h"
#include "core/tensor.h"

struct tensor_stats {
    int64_t count, nans, infinities, zeros;
    int64_t rows, zero_rows; // rows without a number but 0
    double mean, deviation;  // of the finite numbers
    double least, most;      // likewise
    double
        kurtosis; // fourth moment over the square of the second: 3 for a normal distribution; large where outliers rule
    // Against another tensor b of the same shape: ||a - b|| / ||b||; NaN where there is none.
    double relative_error;
};

// Reads a tensor (of any type that quant/ reads) once, row by row; `other` may be NULL. Errors: UNSUPPORTED (the type), ARGUMENT
// (shapes differ), MEMORY.
enum tlm_status inspect_tensor(struct tensor_stats *out, const struct tensor *t, const struct tensor *other,
                               struct tlm_error *err);

#endif
