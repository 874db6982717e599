// tests/gpu/persistent.h -- an experiment: a step of one or two rows as one launch, whose blocks stay until it is done.
//
// The launches of cuda/fuse.h become tasks. Each block does its share of one task after the other; in place of the end of a launch stands a
// counter in global memory, which blocks raise when their share is done and wait for before they read what others wrote. While it waits a
// block brings the weights of what comes next into the second-level cache, so the memory goes on where a launch would let it rest. The sums
// have the order of the launches, and so the same bits.
//
// What it may save, by arithmetic: a layer has five waits where there are six ends of launches, since heads are made by the blocks that attend
// them. A wait is a fence, an atomic and a load by way of the second-level cache, 0.7 us or so, an early launch 1 to 2 us: of the 1B's 16
// layers 56 us against 96 to 192, where its 2.5 GB are read in 575 us at 4.3 TB/s. And 128 KiB ahead in each of 132 blocks are 17 MB, what the
// memory delivers in 4 us: longer than a wait and the norm behind it.
#ifndef TESTS_GPU_PERSISTENT_H
#define TESTS_GPU_PERSISTENT_H

#include <stdalign.h>

#include "cuda/fused.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PERSISTENT_ROWS = 2, PERSISTENT_WARPS = 12 };

enum persistent_kind {
    PERSISTENT_PRODUCT,
    PERSISTENT_ATTENTION, // with what is done to heads in front of it: by the blocks that read them, each for itself
};

struct persistent_attention {
    struct cuda_fused_heads heads;
    struct cuda_attention of;
};

struct persistent_task {
    alignas(16) enum persistent_kind kind; // tasks are copied 16 bytes at a time
    int32_t wait;                          // the counter that it waits for, -1: none,
    uint32_t target;                       // until that has come so far
    int32_t raise; // the counter that each block raises which has done its share; -1: none
    union {
        struct cuda_fused_product product;
        struct persistent_attention attention;
    };
};

struct persistent_step {
    const struct persistent_task *host, *tasks; // (count) of the host, and the same on the device
    uint32_t *counters;                         // (count + 1) zeros, which are zeros again behind it
    int32_t count;
    int32_t ahead; // bytes of weights that a warp has on their way, at least one row
};

// Who waits for whom in a launch of so many blocks: each task for the one in front. False where a task has no such form.
bool persistent_plan(struct persistent_task *tasks, int32_t count, int blocks);
// blocks: at most one for each processor. False where no kernel has all types of weights.
bool persistent_run(struct cuda_stream *s, const struct persistent_step *step, int blocks);
// The same as launches.
void persistent_launches(struct cuda_stream *s, const struct persistent_task *tasks, int32_t count,
                         int processors);

#ifdef __cplusplus
}
#endif

#endif
