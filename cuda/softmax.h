// cuda/softmax.h -- the maximum of a row and the sum of its exponentials, found in one reading.
//
// A thread's sum is relative to the largest number that it has met, and shrinks when a larger one comes; the threads' sums meet at
// the largest of all. Milakov and Gimelshein, arXiv 1805.02867.
#ifndef CUDA_SOFTMAX_H
#define CUDA_SOFTMAX_H

#include "cuda/device.h"

// sum = sum of exp(x - top); nothing met: top is -infinity, sum 0.
struct softmax {
    float top = -INFINITY, sum = 0;

    // What sums so far become by a number x, which may be -infinity; top is x at least from then on.
    __device__ float raise(float x)
    {
        if (x <= top) return 1;
        const float shrink = expf(top - x);
        top = x, sum *= shrink;
        return shrink;
    }
    // exp(x - top), which has been added.
    __device__ float add(float x)
    {
        const float e = x == -INFINITY ? 0 : expf(x - top);
        sum += e;
        return e;
    }
};

// That of all threads of a block, which all get it. *shrink: what a thread's own sums are to be multiplied by. A barrier stands in it.
__device__ inline struct softmax block_softmax(struct softmax own, float *shrink, shared<float> part)
{
    struct softmax all;
    all.top = block_max(own.top, part);
    *shrink = own.top == -INFINITY ? 0 : expf(own.top - all.top);
    all.sum = block_sum(own.sum * *shrink, part);
    return all;
}

#endif
