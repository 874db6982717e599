// quant/methods/limits.h -- static activations: where the input of each matrix is cut off, found over a text and kept in the file.
//
// A product in whole numbers turns its input into codes from -127 to 127. By itself a block of 256 numbers goes by its own largest; with a
// limit all of them do by steps of limit / 127, and larger numbers become the limit. The limit is found from a histogram of the magnitudes:
// by a share of them that is to stay as it is, or by the least squared error of the codes. Krishnamoorthi, arXiv 1806.08342, section 3.1.
#ifndef QUANT_METHODS_LIMITS_H
#define QUANT_METHODS_LIMITS_H

#include "quant/methods/imatrix.h"

// Magnitudes from 2^-40 to 2^40, 32 bins an octave: 3% wide.
enum { HISTOGRAM_BINS = 80 * 32 };

struct histogram {
    uint64_t bin[HISTOGRAM_BINS];
    uint64_t count;
    float most;
};

// `rows` rows of `cols` numbers; F32 or F64. False: one is not finite.
bool histogram_add(struct histogram *h, const void *x, enum dtype type, int64_t count);
// The limit within which `share` of the numbers are, 1: all of them. 0 where all numbers are 0.
float histogram_share(const struct histogram *h, double share);
// The limit whose codes have the least squared error.
float histogram_least_error(const struct histogram *h);

struct limit {
    char name[WEIGHT_NAME]; // of the matrix
    float limit;
};

struct limits {
    struct limit *items;
    int64_t count, capacity;
};

void limits_free(struct limits *l);
// Runs the texts of `p` through all layers; `percent` of the numbers stay as they are, or (0) the error is the least. Matrices whose inputs are
// all 0, or that are not multiplied as a whole, get none. Errors: MEMORY, ARGUMENT (stopped), FORMAT (a number that is not finite).
enum tlm_status limits_collect(struct limits *l, struct layers *p, double percent,
                               imatrix_progress_fn *progress, void *user, struct tlm_error *err);
// The keys that models/limits.c reads, of the matrices that become blocks. Errors: MEMORY.
enum tlm_status limits_write(const struct limits *l, const struct gguf *in, const enum dtype *types,
                             struct gguf_writer *w, struct tlm_error *err);

#endif
