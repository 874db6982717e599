// cuda/groups.h -- which rows and which matrix a block of a product works on, where a launch is for several matrices (struct cuda_groups).
#ifndef CUDA_GROUPS_H
#define CUDA_GROUPS_H

#include "cuda/device.h"
#include "cuda/gradient.h"

struct group {
    const uint8_t *codes, *scales; // of its matrix
    int64_t rows;
    int64_t first;       // the first of them in x and y; 0 of heads
    int64_t x, x_stride; // number of its first activation, and from row to row
    int64_t y, y_stride; // likewise of its results
};

// That of blockIdx.z
__device__ inline struct group group_of(const struct cuda_matrix &w, struct cuda_rows rows,
                                        const struct cuda_groups &groups)
{
    const int64_t g = blockIdx.z;
    struct group p;
    p.codes = (const uint8_t *)w.codes + g * w.outputs * (int64_t)w.code_stride;
    p.scales = (const uint8_t *)w.scales + g * w.outputs * (int64_t)w.scale_stride;
    if (groups.first) {
        p.first = load(groups.first + g);
        p.rows = load(groups.first + g + 1) - p.first;
        p.x = p.first * w.inputs, p.x_stride = w.inputs;
        p.y = p.first * w.outputs, p.y_stride = w.outputs;
    } else {
        p.first = 0, p.rows = row_count(rows);
        p.x = g * w.inputs, p.x_stride = groups.count * w.inputs;
        p.y = g * w.outputs, p.y_stride = groups.count * w.outputs;
    }
    return p;
}

// What a block of a gradient's product works on (struct cuda_product): that of blockIdx.z, where there are several.
template <class X, class W> struct product_part {
    float *y;
    const float *base; // or NULL
    const X *x;
    const W *w;
    int64_t y_stride, rows, k_begin, k_end;
};

template <class X, class W> __device__ inline product_part<X, W> part_of(const struct cuda_product &p)
{
    product_part<X, W> q;
    q.y = p.y, q.base = has_base(p.base) ? p.base.from : NULL, q.x = (const X *)p.x, q.w = (const W *)p.w;
    q.y_stride = p.n, q.rows = row_count(p.m), q.k_begin = 0, q.k_end = row_count(p.k);
    if (!p.groups.count) return q;
    const int64_t g = blockIdx.z;
    int64_t y = g * p.groups.y_step;
    q.x += g * p.groups.x_step, q.w += g * p.groups.w_step, q.y_stride = p.groups.y_stride;
    if (p.groups.first) {
        const int64_t first = load(p.groups.first + g), last = load(p.groups.first + g + 1);
        if (p.groups.over_k)
            q.k_begin = first, q.k_end = last;
        else
            q.rows = last - first, q.x += first * p.x_stride, y += first * q.y_stride;
    }
    q.y += y;
    if (q.base) q.base += y;
    return q;
}

// Blocks along y for tiles of `tile` rows: enough for all rows, or for those of an expert of the usual size; blocks walk on from there.
static inline unsigned tiles_for(struct cuda_rows rows, const struct cuda_groups &groups, int64_t tile)
{
    return (unsigned)(groups.first ? 1 + rows.most / (groups.count * tile) : ceil_div(rows.most, tile));
}

#endif
