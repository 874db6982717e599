// core/tensor.h -- a tensor: type, shape, strides, and where its numbers are.
//
// Shapes are in GGUF's order: ne[0] is the number of columns, whose numbers lie side by side; a weight matrix of
// N outputs and K inputs has ne = {K, N}. nb[i] is the distance in bytes between neighbours along axis i; nb[0] is the
// bytes of one block of the type. Counts are int64_t, byte offsets size_t.
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include "core/dtype.h"

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    enum dtype type;
    int64_t ne[TENSOR_MAX_DIMS]; // unused axes are 1
    size_t nb[TENSOR_MAX_DIMS];
    void *data;
    // Of a matrix: magnitude at which what it is multiplied by is cut off when that becomes whole numbers of 8 bits, whose steps it
    // gives; 0: each block of a row goes by its own largest number.
    float input_limit;
    // Of a matrix: the place that computes with it: 0 the processor, 1 .. devices (core/graph.h).
    int32_t place;
    // Of a matrix that several places share: place p computes with numbers cut[p] .. cut[p + 1] along `axis`. NULL: `place` has all of it.
    const int64_t *cut; // [PLACES + 1]
    int32_t axis;
};

// A tensor of that type and shape with its rows side by side and no data yet.
static inline struct tensor tensor_shape(enum dtype type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3)
{
    struct tensor t = {.type = type, .ne = {ne0, ne1, ne2, ne3}};
    t.nb[0] = (size_t)dtype_traits[type].block_bytes;
    t.nb[1] = dtype_row_bytes(type, ne0);
    t.nb[2] = t.nb[1] * (size_t)ne1;
    t.nb[3] = t.nb[2] * (size_t)ne2;
    return t;
}

static inline int64_t tensor_elements(const struct tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

static inline size_t tensor_bytes(const struct tensor *t)
{
    return t->nb[3] * (size_t)t->ne[3];
}

// Row `r` of a two-dimensional tensor.
static inline void *tensor_row(const struct tensor *t, int64_t r)
{
    return (char *)t->data + (size_t)r * t->nb[1];
}

#endif
