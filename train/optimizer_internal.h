// train/optimizer_internal.h -- what train/optimizer.c and train/optimizer_device.c share.
#ifndef TRAIN_OPTIMIZER_INTERNAL_H
#define TRAIN_OPTIMIZER_INTERNAL_H

#include <stdatomic.h>

#include "core/arena.h"
#include "ops/backend.h"
#include "train/muon.h"
#include "train/optimizer.h"

// A chunk's gradient, value and moments fit into a core's cache; 1024 chunks are enough for any number of threads.
enum { CHUNK = 1 << 16 };
_Static_assert(CHUNK % UPDATE_BLOCK == 0, "chunks are whole blocks");
enum { SMALL = 4096 };

enum rule { RULE_ADAMW, RULE_LION, RULE_SGD, RULE_MUON };

// What is kept of a parameter.
struct slot {
    const struct parameter *parameter;
    enum rule rule;
    enum dtype type;
    struct moment m, v; // v.data is NULL but for AdamW
    int64_t first_chunk;
    struct twins { // on the backend
        void *value, *copy, *gradient, *m, *v, *m_scale, *v_scale;
    } device;
};

// What the backend has beside the slots' twins. The limits and the numbers stand side by side, so that they travel as one.
struct optimizer_device {
    struct runner *runner;
    double *squares; // [chunks]
    struct update_verdict *verdict;
    char *step, *host_step; // limits, then numbers: there, and what they are made of here
    size_t step_bytes;
    float *x, *y, *square, *second; // of Muon, see struct update_matrix
    double *row_squares;
};

struct optimizer {
    struct optimizer_options options;
    struct kernels kernels;
    struct threads *threads;
    struct slot *slot;
    int64_t count, chunks;
    double *squares;  // [chunks]
    struct muon muon; // of OPTIMIZER_MUON
    struct arena memory;
    struct backend *backend; // of the model; NULL: the CPU
    struct optimizer_device device;
    struct optimizer_progress progress;
    // of the step under way
    atomic_llong next;
    double rate, factor;
};

// What the update of `count` numbers from `first` on is given, but for its pointers: with the rate and the number of the step under way.
struct update_args optimizer_numbers(const struct optimizer *o, const struct slot *s, int64_t first,
                                     int64_t count);
// The kernels of updates write copies that are the values in BF16.
bool optimizer_writes_copy(const struct parameter *p);
// The copies of all weights on a grid, from their values, by all threads.
void optimizer_copy_grids(struct optimizer *o);
// Steps whose norm is more stand out; INFINITY: none do.
double optimizer_most(const struct optimizer *o);

// ---- train/optimizer_device.c: the same where the model is on a backend
enum tlm_status optimizer_device_open(struct optimizer *o, struct tlm_error *err);
void optimizer_device_close(struct optimizer *o);
// Norm, verdict and, where that allows it, updates. o->rate and the number of updates are those that the step has if it is taken.
enum tlm_status optimizer_device_step(struct optimizer *o, double scale, struct update_verdict *verdict,
                                      struct tlm_error *err);

#endif
