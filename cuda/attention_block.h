// cuda/attention_block.h -- what the kernels of attention among the rows of a step share (cuda/attention_rows.cu, cuda/attention_dx.cu).
//
// Documents stand one behind the other, so the first row that a row sees never falls from row to row: a block of rows sees a stretch of
// rows, and a block of keys is seen by one.
#ifndef CUDA_ATTENTION_BLOCK_H
#define CUDA_ATTENTION_BLOCK_H

#include "cuda/device.h"

constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

// The first row that `row` sees.
__device__ inline int64_t first_seen(const struct cuda_attention_rows &a, int64_t row)
{
    const int64_t begin = row - load(a.pos + row), window = row - a.window + 1;
    return a.window && window > begin ? window : begin;
}

// What a score becomes in front of the softmax: capped, and with its slope. *through: its derivative.
__device__ inline float shaped(const struct cuda_attention_rows &a, float score, float slope, int64_t away,
                               float *through)
{
    *through = 1;
    if (a.softcap > 0) {
        const float t = tanhf(score / a.softcap);
        score = a.softcap * t;
        *through = 1 - t * t;
    }
    return score + slope * (float)away;
}

// What is known of a row when a key's gradient is taken.
struct seen_row {
    float lse, delta;
    int64_t from; // the first row that it sees; none: INT64_MAX
};

__device__ inline struct seen_row seen_row_at(const struct cuda_attention_dx &x, int64_t row, int32_t head,
                                              int64_t count)
{
    const int64_t at = row * x.of.heads + head;
    if (row >= count) return {0, 0, INT64_MAX};
    return {load(x.of.lse + at), load(x.delta + at), first_seen(x.of, row)};
}

// The weight p of a key in a row, and ds, the gradient of its score times the scale.
struct weight {
    float p, ds;
};

__device__ inline struct weight weigh(const struct cuda_attention_dx &x, const struct seen_row &r,
                                      float score, float dp, float slope, int64_t row, int64_t key)
{
    float through;
    const float logit = shaped(x.of, score * x.of.scale, slope, key - row, &through);
    if (key < r.from || key > row) return {0, 0};
    const float p = expf(logit - r.lse);
    return {p, p * (dp - r.delta) * through * x.of.scale};
}

// Rows first .. first + ROWS of a matrix (count, ...), `cols` numbers from `from` on, into shared memory `stride` numbers apart; rows that
// are not there become 0.
template <int ROWS, class T>
__device__ inline void stage(shared<float> to, int stride, const T *from, int64_t row_stride, int64_t first,
                             int64_t count, int32_t cols)
{
    for (int i = (int)threadIdx.x; i < ROWS * cols; i += (int)blockDim.x) {
        const int row = i / cols, column = i % cols;
        to[row * stride + column] =
            first + row < count ? to_f32(load(from + (first + row) * row_stride + column)) : 0;
    }
}

#endif
