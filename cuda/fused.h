// cuda/fused.h -- launchers of kernels that do several ops of a step of few rows at once, in the manner of cuda/kernels.h.
//
// A layer of a small model is read in the time of a few launches, so decoding is a chain of few: what stands between two products is done by
// the blocks of the product behind it, each for itself, and by those of the product in front of it for their own results. Launches
// are early ones (cuda/device.h): while one ends, the blocks of the next are there and bring their first weights into the cache.
#ifndef CUDA_FUSED_H
#define CUDA_FUSED_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FUSED_ROWS = 8, FUSED_PARTS = 4 };

enum fused_norm { FUSED_NO_NORM, FUSED_RMSNORM, FUSED_LAYERNORM };

// What is the same in each run and each layer: a kernel may be made for it.
struct cuda_fused_shape {
    enum dtype type;                   // of the weights
    int32_t inputs;                    // K
    int32_t parts;                     // matrices (N, K) of one type that multiply the same rows
    int32_t outputs[FUSED_PARTS];      // N of each
    int32_t code_stride, scale_stride; // bytes a row of weights
    enum fused_norm norm;              // of the rows, whole
    enum activation kind;
    bool activated; // y = kind(..)
    bool gated;     // two parts, gate and up, of one size: y = kind(gate) * up
};

struct cuda_fused_part {
    const void *codes, *scales;
    const float *bias; // (N) or NULL
    float *y;          // (rows, N); of gate and up, the gate's
};

// y = base + cap(factor * act(w norm(x) + bias)), with what a model has of these. x is rounded as cuda_convert() does it for such weights.
struct cuda_fused_product {
    struct cuda_fused_shape shape;
    struct cuda_rows rows;
    const float *x;               // (rows, K)
    const float *norm_w, *norm_b; // (K); norm_b may be NULL
    float eps;
    struct cuda_fused_part part[FUSED_PARTS];
    const float *base; // (rows, N) or NULL; of one part alone
    float factor, cap; // 1, 0: none
    struct jit *jit;   // of the host: what makes kernels for the shape; NULL: nothing does
};

// That of matrices like w; parts and what is done around the product are the caller's.
struct cuda_fused_shape cuda_fused_shape_of(const struct cuda_matrix *w);
// Do launches of `rows` rows work?
bool cuda_fused_product_fits(const struct cuda_fused_shape *shape, int64_t rows);
// blocks: as many as the device has processors.
void cuda_fused_product(struct cuda_stream *s, const struct cuda_fused_product *p, int blocks);

// ---- cuda/fused_rows.cu

// y = base + factor * norm(x), of whole rows
struct cuda_fused_norm_add {
    struct cuda_rows rows;
    float *y;
    const float *x, *base; // (rows, cols)
    const float *w, *b;    // (cols); b may be NULL
    int64_t cols;
    enum fused_norm norm;
    float eps, factor;
};
void cuda_fused_norm_add(struct cuda_stream *s, const struct cuda_fused_norm_add *p);

// What is done to the heads of a row between projection and attention: norm of each, rotation; then queries go to y, keys and values to the
// cache, which stands in rows of a plain type.
struct cuda_fused_head {
    const float *x;     // (rows, heads * dim)
    const float *w, *b; // of the norm: (dim) or (heads * dim); b may be NULL
    float *y;           // queries; NULL: to the cache
    struct paged_kv cache;
    int32_t heads, dim, pairs; // pairs: of them that turn; 0: none
    int32_t weights;           // heads that have norms of their own, or 1
    enum fused_norm norm;
    float eps;
};
// Weights that a launch behind reads: brought into the second-level cache by one that leaves the memory idle.
struct cuda_fused_ahead {
    const void *from; // NULL: nothing
    int64_t bytes;    // a multiple of 16
};
enum { FUSED_AHEAD_MOST = 16 << 20 }; // bytes, of a cache of 40 MiB (A100) or 50
struct cuda_fused_heads {
    struct cuda_rows rows;
    const float *table; // of rotation (rows, 2 pairs), or NULL
    const int32_t *slots;
    struct cuda_fused_head kind[3]; // queries, keys, values; heads 0: none of them
    enum rope_pairing pairing;
    struct cuda_fused_ahead ahead[2];
};
enum { FUSED_HEAD = 512 }; // numbers of a head at most
void cuda_fused_heads(struct cuda_stream *s, const struct cuda_fused_heads *p);

#ifdef __cplusplus
}
#endif

#endif
