// cuda/update.h -- launchers of the optimizers: the formulas and roundings of ops/update.h, and its bits, with pointers of the device.
//
// What changes from step to step is read there: an update's launches are the same for every step, so they can be recorded.
#ifndef CUDA_UPDATE_H
#define CUDA_UPDATE_H

#include "cuda/kernels.h"
#include "ops/update.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_SQUARES = 1 << 16 }; // numbers of a sum of squares
// to[i]: the sum of the squares of numbers i * CUDA_SQUARES and on, in double, as ops/update.h has it: the CPU's bits (cuda/sum_squares.cu)
void cuda_sum_squares(struct cuda_stream *s, double *to, const float *x, int64_t count);
// From `count` such sums: the norm, what it is clipped by, and whether the step is taken (cuda/sum_squares.cu).
void cuda_decide(struct cuda_stream *s, struct update_verdict *to, const double *squares, int64_t count,
                 const struct update_limits *limits);
// cuda/update.cu
void cuda_update(struct cuda_stream *s, const struct update_launch *u);
// cuda/muon.cu
void cuda_muon(struct cuda_stream *s, const struct update_matrix *u);

#ifdef __cplusplus
}
#endif

#endif
