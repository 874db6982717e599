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

// What a block of a gradient's product works on (struct cuda_product): that of number g, where there are several. Numbers from the
// beginnings of x, w and y (and base) on.
struct product_part {
    int64_t x, w, y, y_stride, rows, k_begin, k_end;
};

__device__ inline struct product_part part_of(const struct cuda_product &p, int64_t g)
{
    struct product_part q = {0, 0, 0, p.n, row_count(p.m), 0, row_count(p.k)};
    if (!p.groups.count) return q;
    q.x = g * p.groups.x_step, q.w = g * p.groups.w_step, q.y = g * p.groups.y_step;
    q.y_stride = p.groups.y_stride;
    if (p.groups.first) {
        const int64_t first = load(p.groups.first + g), last = load(p.groups.first + g + 1);
        if (p.groups.over_k)
            q.k_begin = first, q.k_end = last;
        else
            q.rows = last - first, q.x += first * p.x_stride, q.y += first * q.y_stride;
    }
    return q;
}

// Blocks along y for tiles of `tile` rows: enough for all rows, or for those of an expert of the usual size; blocks walk on from there.
static inline unsigned tiles_for(struct cuda_rows rows, const struct cuda_groups &groups, int64_t tile)
{
    return (unsigned)(groups.first ? 1 + rows.most / (groups.count * tile) : ceil_div(rows.most, tile));
}

#endif
