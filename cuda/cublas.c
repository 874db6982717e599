#include "cuda/cublas.h"

#include <dlfcn.h>
#include <stdlib.h>

// Of cublas_v2.h, library_types.h: what we call, by its own numbers.
struct cublas_context;
typedef int create_fn(struct cublas_context **);
typedef int destroy_fn(struct cublas_context *);
typedef int set_stream_fn(struct cublas_context *, struct cuda_stream *);
typedef int gemm_ex_fn(struct cublas_context *, int trans_a, int trans_b, int m, int n, int k,
                       const void *alpha, const void *a, int type_a, int lda, const void *b, int type_b,
                       int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int algorithm);
enum { OP_N = 0, OP_T = 1, TYPE_F32 = 0, TYPE_BF16 = 14, COMPUTE_F32 = 68, GEMM_DEFAULT = -1 };

struct cublas {
    struct cublas_context *context;
    destroy_fn *destroy;
    set_stream_fn *set_stream;
    gemm_ex_fn *gemm_ex;
};

static void *open_library(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so",
                                        "/usr/local/cuda/lib64/libcublas.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

enum tlm_status cublas_open(struct cublas **out, struct tlm_error *err)
{
    struct cublas *c = *out = calloc(1, sizeof *c);
    if (!c) return error_set(err, TLM_ERR_MEMORY, "cuBLAS: no memory");
    int failure = 0;
    void *library = open_library();
    create_fn *create = library ? (create_fn *)dlsym(library, "cublasCreate_v2") : NULL;
    if (library) {
        c->destroy = (destroy_fn *)dlsym(library, "cublasDestroy_v2");
        c->set_stream = (set_stream_fn *)dlsym(library, "cublasSetStream_v2");
        c->gemm_ex = (gemm_ex_fn *)dlsym(library, "cublasGemmEx");
    }
    const bool whole = create && c->destroy && c->set_stream && c->gemm_ex;
    if (whole && !(failure = create(&c->context))) return TLM_OK;
    if (!library)
        error_set(err, TLM_ERR_UNSUPPORTED, "cuBLAS: no libcublas.so.13 or .12 on this machine");
    else if (!whole)
        error_set(err, TLM_ERR_UNSUPPORTED, "cuBLAS: the library lacks a function of version 12");
    else
        error_set(err, TLM_ERR_UNSUPPORTED, "cuBLAS: it does not start (status %d)", failure);
    cublas_close(c);
    *out = NULL;
    return TLM_ERR_UNSUPPORTED;
}

void cublas_close(struct cublas *c)
{
    if (!c) return;
    if (c->context) c->destroy(c->context); // the library stays: it has hooks of its own at the program's end
    free(c);
}

// cuBLAS counts by columns: its A is w, whose rows are columns there, B is x, and C is y, transposed all three.
enum tlm_status cublas_matmul(struct cublas *c, struct cuda_stream *s, float *y, const void *x,
                              const struct cuda_matrix *w, int64_t rows, bool add, struct tlm_error *err)
{
    static const float one = 1, zero = 0;
    const int n = (int)w->outputs, k = (int)w->inputs, stride = (int)(w->code_stride / 2);
    TLM_ASSERT(w->type == DTYPE_BF16 && rows <= INT32_MAX);
    int failure = c->set_stream(c->context, s);
    if (!failure)
        failure = c->gemm_ex(c->context, OP_T, OP_N, n, (int)rows, k, &one, w->codes, TYPE_BF16, stride, x,
                             TYPE_BF16, k, add ? &one : &zero, y, TYPE_F32, n, COMPUTE_F32, GEMM_DEFAULT);
    return failure ? error_set(err, TLM_ERR_IO, "cuBLAS: a product of %d x %d x %d: status %d", (int)rows, n,
                               k, failure)
                   : TLM_OK;
}
