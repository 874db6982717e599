// cuda/nccl.h -- NVIDIA's sums over several devices, where the machine has them: the library is opened when several devices share layers, and
// nothing links against it.
#ifndef CUDA_NCCL_H
#define CUDA_NCCL_H

#include "cuda/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

struct nccl;

// For devices[0 .. count), of this process. Errors: UNSUPPORTED, with the reason; MEMORY.
enum tlm_status nccl_open(struct nccl **out, const int *devices, int count, struct tlm_error *err);
void nccl_close(struct nccl *n); // NULL is allowed
// to[i] on stream i, which is of device i: the sum of all from[], `count` floats. The order in which it adds is the library's (a ring, a tree),
// by the devices and `count`; all devices get the same bits. Errors: IO, with NCCL's text.
enum tlm_status nccl_add(struct nccl *n, struct cuda_stream *const *streams, float *const *to,
                         const float *const *from, int64_t count, struct tlm_error *err);

#ifdef __cplusplus
}
#endif

#endif
