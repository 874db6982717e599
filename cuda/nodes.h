// cuda/nodes.h -- what the files of the device's op table (cuda/nodes.c, cuda/nodes_experts.c) share.
#ifndef CUDA_NODES_H
#define CUDA_NODES_H

#include "core/dtype.h"
#include "cuda/backend.h"

static inline struct cuda_stream *stream_of(const struct graph *g)
{
    return cuda_runner_of(g)->stream;
}

// So many of `most` rows as the step has, read on the device.
static inline struct cuda_rows rows_of(const struct graph *g, enum extent extent, int64_t most)
{
    const int32_t *counts = (const int32_t *)cuda_runner_of(g)->device_step;
    return (struct cuda_rows){extent == EXTENT_FIXED ? NULL : counts + extent, most};
}

static inline struct cuda_rows rows(const struct graph *g, const struct node *n)
{
    return rows_of(g, n->extent, n->out.ne[1]);
}

static inline const void *input(const struct node *n, int i)
{
    return n->in[i]->out.data;
}

// Of a run function whose work is not divided; scratch serves one node after the other, in order.
#define UNUSED (void)begin, (void)end, (void)scratch

#define CUDA_DECLARE(name)                                                                        \
    void cuda_run_##name(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                         void *scratch)

// ---- cuda/nodes_experts.c

CUDA_DECLARE(route);
CUDA_DECLARE(sort_experts);
CUDA_DECLARE(gather_experts);
CUDA_DECLARE(matmul_experts);
CUDA_DECLARE(bias_experts);
CUDA_DECLARE(combine_experts);
CUDA_DECLARE(matmul_heads);
size_t cuda_scratch_matmul_heads(const struct graph *g, const struct node *n);

#endif
