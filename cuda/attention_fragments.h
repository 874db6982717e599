// cuda/attention_fragments.h -- what the kernels of attention on tensor cores share: 16 rows a warp, tiles of 64 keys, both in fragments.
//
// Number i of fragment n of a row of scores: row lane / 4 + 8 (i / 2) of the warp's, key n * 8 + lane % 4 * 2 + i % 2 of the tile. So a
// row's numbers lie in four lanes, and scores that became weights are the left side of the next product as they lie (Dao, arXiv 2307.08691).
// Rows of shared memory have D + 8 numbers, so that the eight which ldmatrix reads at once lie in different banks.
#ifndef CUDA_ATTENTION_FRAGMENTS_H
#define CUDA_ATTENTION_FRAGMENTS_H

#include "cuda/device.h"

enum { KEY_TILES = ATTENTION_TILE / 8 };

template <class E> __device__ inline uint32_t pack(float low, float high)
{
    E a, b;
    from_f32(&a, low), from_f32(&b, high);
    return a.bits | (uint32_t)b.bits << 16;
}

__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// s becomes exp(s - top); top and total go on, rescale is what earlier sums are multiplied by.
__device__ inline void soften(float (&s)[KEY_TILES][4], float (&top)[2], float (&total)[2],
                              float (&rescale)[2])
{
    for (int r = 0; r < 2; r++) {
        float now = top[r], sum = 0;
        for (int n = 0; n < KEY_TILES; n++) now = fmaxf(now, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        now = quad_max(now);
        const float base = now == -INFINITY ? 0 : now;
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 2 * r; i < 2 * r + 2; i++) sum += s[n][i] = expf(s[n][i] - base);
        rescale[r] = expf(top[r] - base);
        total[r] = total[r] * rescale[r] + quad_sum(sum);
        top[r] = now;
    }
}

template <int D> __device__ inline void scale_rows(float (&o)[D / 8][4], const float (&factor)[2])
{
    for (int n = 0; n < D / 8; n++)
        for (int i = 0; i < 4; i++) o[n][i] *= factor[i / 2];
}

// o (16, D) += p (16, 64) right (64, D)
template <int D, class E>
__device__ inline void add_product(float (&o)[D / 8][4], const float (&p)[KEY_TILES][4], shared<E> right)
{
    const int lane = lane_id();
    for (int k = 0; k < ATTENTION_TILE / 16; k++) {
        const uint32_t left[4] = {pack<E>(p[2 * k][0], p[2 * k][1]), pack<E>(p[2 * k][2], p[2 * k][3]),
                                  pack<E>(p[2 * k + 1][0], p[2 * k + 1][1]),
                                  pack<E>(p[2 * k + 1][2], p[2 * k + 1][3])};
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t both[4];
            ldmatrix_transposed(both, right + ((k * 16 + lane % 16) * (D + 8) + n * 8 + lane / 16 * 8));
            const uint32_t first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
            mma(o[n], left, first, E());
            mma(o[n + 1], left, second, E());
        }
    }
}

// s (16, 64) = left (16, D) right (64, D)^T
template <int D, class E>
__device__ inline void product(float (&s)[KEY_TILES][4], shared<E> left, shared<E> right)
{
    const int lane = lane_id();
    for (int n = 0; n < KEY_TILES; n++)
        for (int i = 0; i < 4; i++) s[n][i] = 0;
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[4], both[4];
        ldmatrix(a, left + (lane % 16 * (D + 8) + k * 16 + lane / 16 * 8));
        for (int n = 0; n < KEY_TILES; n += 2) {
            ldmatrix(both,
                     right + ((n * 8 + lane / 16 * 8 + lane % 8) * (D + 8) + k * 16 + lane / 8 % 2 * 8));
            const uint32_t first[2] = {both[0], both[1]}, second[2] = {both[2], both[3]};
            mma(s[n], a, first, E());
            mma(s[n + 1], a, second, E());
        }
    }
}

// Issues the copies of rows first .. first + 64 of a matrix (count, ...), d numbers each; what is not there becomes zero.
template <int D, class E>
__device__ inline void fetch_rows(shared<E> to, const E *from, int64_t stride, int64_t first, int64_t count,
                                  int32_t d)
{
    for (int i = (int)threadIdx.x; i < ATTENTION_TILE * (D / 8); i += (int)blockDim.x) {
        const int row = i / (D / 8), c = i % (D / 8) * 8;
        const bool there = first + row < count && c < d;
        copy_async16(to + (row * (D + 8) + c), there ? from + (first + row) * stride + c : from, there);
    }
}

// The same of a matrix in f32, a row divided by its unit (a power of two `units` apart; 0: the row is) and rounded; it is there behind the
// next barrier.
template <int D, class E>
__device__ inline void round_rows(shared<E> to, const float *from, int64_t stride, int64_t first,
                                  int64_t count, int32_t d, const float *unit, int64_t units)
{
    for (int i = (int)threadIdx.x; i < ATTENTION_TILE * (D / 8); i += (int)blockDim.x) {
        const int row = i / (D / 8), c = i % (D / 8) * 8;
        vec<E, 8> piece = {};
        const float one = first + row < count && c < d ? load(unit + (first + row) * units) : 0,
                    inverse = 1 / one;
        for (int half = 0; half < 8 && one != 0; half += 4) {
            const vec<float, 4> x = load((const vec<float, 4> *)(from + (first + row) * stride + c + half));
            for (int j = 0; j < 4; j++) from_f32(&piece.x[half + j], x.x[j] * inverse);
        }
        shared_as<vec<E, 8>>(to + (row * (D + 8) + c))[0] = piece;
    }
}

#endif
