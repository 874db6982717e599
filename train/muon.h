// train/muon.h -- Muon's update of a matrix: its momentum, made orthogonal.
//
//     m = m + (1 - momentum) (g - m),   u = g + momentum (m - g) with Nesterov, else m
//     value = value * keep - rate * max(1, rows / cols)^0.5 * orthogonal(u)
//
// orthogonal(u) is near U V^T of u's singular value decomposition U S V^T: five iterations of a quintic polynomial bring all
// singular values near 1 (between 0.7 and 1.2), starting from u / ||u||:
//
//     X = a X + (b S + c S S) X,   S = X X^T,   a, b, c = 3.4445, -4.7750, 2.0315
//
// (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, kellerjordan.github.io/posts/muon). There the
// iterations run in bf16, here in f32.
#ifndef TRAIN_MUON_H
#define TRAIN_MUON_H

#include "core/arena.h"
#include "core/threads.h"
#include "ops/ops.h"
#include "train/parameters.h"

// Room for the iterations on the largest matrix.
struct muon {
    float *x, *y;           // (r, c), r = min(rows, cols), c = max(rows, cols)
    float *square, *second; // (r, r): S, and b S + c S S
    double *squares;        // (rows): sums of squares
    char *scratch;          // muon_scratch bytes a thread
    const struct kernels *kernels;
    struct threads *threads;
};

// Whether the parameter is a matrix of a layer: not the head, nor a vector.
bool muon_takes(const struct parameter *p);
size_t muon_bytes(const struct parameters *p, int threads);
// Takes muon_bytes() of the arena.
struct muon muon_make(struct arena *a, const struct parameters *p, const struct kernels *kernels,
                      struct threads *threads);

struct muon_update {
    const struct parameter *parameter;
    float *momentum; // as the parameter's value
    float factor;    // times the gradient
    float beta;      // of the momentum
    float rate, keep;
    bool nesterov;
    int iterations;
};
// By all threads; the result does not depend on how many there are. Writes value and momentum, not the copy.
void muon_update(const struct muon *m, const struct muon_update *u);

#endif
