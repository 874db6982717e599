#include "cuda/nccl.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

// Of nccl.h: what we call, by its own numbers.
struct nccl_communicator;
typedef int init_all_fn(struct nccl_communicator **, int count, const int *devices);
typedef int destroy_fn(struct nccl_communicator *);
typedef int all_reduce_fn(const void *from, void *to, size_t count, int type, int operation,
                          struct nccl_communicator *, struct cuda_stream *);
typedef int group_fn(void);
typedef const char *text_fn(int result);
enum { SUM = 0, FLOAT32 = 7 };

struct nccl {
    struct nccl_communicator **communicators; // [count]
    int count;
    destroy_fn *destroy;
    all_reduce_fn *all_reduce;
    group_fn *begin, *end;
    text_fn *text;
};

static void *open_library(void)
{
    static const char *const names[] = {"libnccl.so.2", "libnccl.so", "/usr/local/cuda/lib64/libnccl.so.2"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

static enum tlm_status start(struct nccl *n, const int *devices, struct tlm_error *err)
{
    void *library = open_library();
    if (!library) return error_set(err, TLM_ERR_UNSUPPORTED, "NCCL: no libnccl.so.2 on this machine");
    init_all_fn *init_all = (init_all_fn *)dlsym(library, "ncclCommInitAll");
    n->destroy = (destroy_fn *)dlsym(library, "ncclCommDestroy");
    n->all_reduce = (all_reduce_fn *)dlsym(library, "ncclAllReduce");
    n->begin = (group_fn *)dlsym(library, "ncclGroupStart");
    n->end = (group_fn *)dlsym(library, "ncclGroupEnd");
    n->text = (text_fn *)dlsym(library, "ncclGetErrorString");
    if (!init_all || !n->destroy || !n->all_reduce || !n->begin || !n->end || !n->text)
        return error_set(err, TLM_ERR_UNSUPPORTED, "NCCL: the library lacks a function of version 2");
    const int failure = init_all(n->communicators, n->count, devices);
    if (!failure) return TLM_OK;
    for (int i = 0; i < n->count; i++) n->communicators[i] = NULL; // nothing that could be given back
    return error_set(err, TLM_ERR_UNSUPPORTED, "NCCL: it does not start: %.200s", n->text(failure));
}

enum tlm_status nccl_open(struct nccl **out, const int *devices, int count, struct tlm_error *err)
{
    struct nccl *n = *out = calloc(1, sizeof *n);
    if (n) n->communicators = calloc((size_t)count, sizeof(struct nccl_communicator *));
    enum tlm_status s = TLM_OK;
    if (!n || !n->communicators) {
        s = error_set(err, TLM_ERR_MEMORY, "NCCL: no memory");
    } else {
        n->count = count;
        s = start(n, devices, err);
    }
    if (!s) return TLM_OK;
    nccl_close(n);
    *out = NULL;
    return s;
}

void nccl_close(struct nccl *n)
{
    if (!n) return;
    for (int i = 0; i < n->count; i++)
        if (n->communicators[i]) n->destroy(n->communicators[i]); // the library stays
    free(n->communicators);
    free(n);
}

// One thread gives all devices their part, which only a group lets it do without waiting for the others.
enum tlm_status nccl_add(struct nccl *n, struct cuda_stream *const *streams, float *const *to,
                         const float *const *from, int64_t count, struct tlm_error *err)
{
    int failure = n->begin();
    for (int i = 0; i < n->count && !failure; i++)
        failure = n->all_reduce(from[i], to[i], (size_t)count, FLOAT32, SUM, n->communicators[i], streams[i]);
    const int ended = n->end();
    if (!failure) failure = ended;
    return failure ? error_set(err, TLM_ERR_IO, "NCCL: a sum of %lld numbers over %d devices: %.200s",
                               (long long)count, n->count, n->text(failure))
                   : TLM_OK;
}
