// tests/cuda_emu/nccl.cc -- cuda/nccl.h in the emulation: sums on the host, from the last device to the first, for nobody may rely on an order.
#include "cuda/nccl.h"

#include <stdlib.h>

#include "tests/cuda_emu/emu.h"

struct nccl {
    int devices[EMU_DEVICES], count;
};

static bool is_there;
static int64_t sums;

void emu_set_nccl(bool there)
{
    is_there = there;
}

int64_t emu_nccl_sums(void)
{
    return sums;
}

static void use(int number)
{
    struct cuda_device d = {};
    d.number = number;
    cuda_use(&d);
}

enum tlm_status nccl_open(struct nccl **out, const int *devices, int count, struct tlm_error *err)
{
    if (!is_there) return error_set(err, TLM_ERR_UNSUPPORTED, "NCCL: the emulation goes without it");
    struct nccl *n = *out = (struct nccl *)calloc(1, sizeof(struct nccl));
    if (!n) return error_set(err, TLM_ERR_MEMORY, "NCCL: no memory");
    n->count = count;
    for (int i = 0; i < count; i++) n->devices[i] = devices[i];
    return TLM_OK;
}

void nccl_close(struct nccl *n)
{
    free(n);
}

enum tlm_status nccl_add(struct nccl *n, struct cuda_stream *const *streams, float *const *to,
                         const float *const *from, int64_t count, struct tlm_error *err)
{
    const size_t bytes = (size_t)count * sizeof(float);
    float *sum = (float *)calloc(1, bytes), *x = (float *)malloc(bytes);
    if (!sum || !x) abort();
    for (int i = n->count; i-- > 0;) {
        use(n->devices[i]);
        cuda_copy_out(streams[i], x, from[i], bytes);
        for (int64_t j = 0; j < count; j++) sum[j] += x[j];
    }
    for (int i = 0; i < n->count; i++) {
        use(n->devices[i]);
        cuda_copy_in(streams[i], to[i], sum, bytes);
    }
    sums++;
    free(sum);
    free(x);
    const char *text = emu_error();
    return text ? error_set(err, TLM_ERR_IO, "NCCL: %s", text) : TLM_OK;
}
