// cuda/adder.c -- sums over runners of several devices, by NCCL (ops/backend.h).
#include <stdlib.h>

#include "cuda/backend.h"
#include "cuda/nccl.h"

struct adder {
    struct nccl *nccl;
    struct cuda_stream *streams[PLACES];
};

struct adder *cuda_adder_open(struct runner *const *runners, int count)
{
    struct adder *a = calloc(1, sizeof *a);
    struct backend *first = &runners[0]->backend->base;
    struct tlm_error why;
    int devices[PLACES];
    if (!a) return NULL;
    for (int i = 0; i < count; i++) {
        devices[i] = runners[i]->backend->device.number;
        a->streams[i] = runners[i]->stream;
    }
    if (!nccl_open(&a->nccl, devices, count, &why)) return a;
    snprintf(first->note, sizeof first->note, "%.200s; devices add up by copies", why.text);
    free(a);
    return NULL;
}

void cuda_adder_close(struct adder *a)
{
    if (!a) return;
    nccl_close(a->nccl);
    free(a);
}

enum tlm_status cuda_add_up(struct adder *a, float *const *to, const float *const *from, int64_t count,
                            struct tlm_error *err)
{
    return nccl_add(a->nccl, a->streams, to, from, count, err);
}
