// cuda/backend.h -- inside the CUDA backend: weights on the device, and what a pass needs there.
#ifndef CUDA_BACKEND_H
#define CUDA_BACKEND_H

#include "cuda/kernels.h"
#include "ops/backend.h"

// A tensor of the host that was brought to the device.
struct placed {
    const void *host;
    enum dtype type;
    void *device;
};

struct cuda_backend {
    struct backend base; // what others see
    struct cuda_device device;
    struct placed *placed; // by address
    int64_t placed_count, placed_room;
};

struct runner {
    struct cuda_backend *backend;
    struct cuda_stream *stream;
    const struct arena *step; // on the host
    char *device_step;        // the same bytes
    void **memory;            // that was handed out
    int64_t memory_count;
};

// The ops as the device runs them: `run` launches, `units` is 1 where there is something to do.
extern const struct op cuda_op_table[OP_COUNT];
// Errors: UNSUPPORTED, naming op and reason.
enum tlm_status cuda_node_check(const struct node *n, struct tlm_error *err);

static inline const struct runner *cuda_runner_of(const struct graph *g)
{
    return g->kernels;
}

#endif
