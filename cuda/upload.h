// cuda/upload.h -- how weights come to the device: a stretch of rows at a time through a ring of two pinned buffers, so that the next is
// packed (cuda/planes.h) while one travels.
#ifndef CUDA_UPLOAD_H
#define CUDA_UPLOAD_H

#include "core/arena.h"
#include "core/tensor.h"
#include "cuda/runtime.h"

enum { UPLOAD_BUFFERS = 2 };

struct upload_ring {
    struct arena memory;
    struct cuda_stream *stream;
    struct cuda_event *free[UPLOAD_BUFFERS]; // passed when what was in the buffer has left it
    bool pinned;
};

// Errors: MEMORY.
enum tlm_status upload_open(struct upload_ring *r, struct tlm_error *err);
void upload_close(struct upload_ring *r);

// The matrices of t into their planes at `device`. Errors: MEMORY (a row is larger than a buffer), IO.
enum tlm_status upload_weight(struct upload_ring *r, const struct tensor *t, void *device,
                              struct tlm_error *err);
// Made-up numbers in their place, to measure speed with: t's own are not read. Some rows are drawn (quant/stand_in.h) and repeated. Errors:
// MEMORY, IO, UNSUPPORTED (a type that we do not write).
enum tlm_status upload_stand_in(struct upload_ring *r, const struct tensor *t, void *device,
                                struct tlm_error *err);

#endif
