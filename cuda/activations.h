// cuda/activations.h -- what becomes of a number, or of a pair, where it stands (ops/glu.c has the formulas): in the kernels of
// cuda/elementwise.cu, and behind products.
#ifndef CUDA_ACTIVATIONS_H
#define CUDA_ACTIVATIONS_H

#include "cuda/device.h"

// Those of one number ignore the other.
struct activated {
    enum activation kind;
    __device__ float operator()(float x, float) const
    {
        switch (kind) {
        case ACT_SILU: return x / (1 + expf(-x));
        case ACT_GELU: return x * (erfcf(-x * 0.70710678f) / 2);
        case ACT_GELU_TANH:
            return x / (1 + expf(-2 * (float)GELU_SCALE * (x + (float)GELU_CUBE * x * x * x)));
        case ACT_RELU: return x < 0 ? 0 : x;
        default: return x < 0 ? 0 : x * x; // ACT_RELU_SQUARED
        }
    }
};

struct gated {
    enum activation kind;
    __device__ float operator()(float gate, float up) const
    {
        if (kind != ACT_SWIGLU_CLAMPED) return activated{kind}(gate, 0) * up;
        const float limit = SWIGLU_LIMIT, g = gate > limit ? limit : gate;
        const float u = up > limit ? limit : up < -limit ? -limit : up;
        return g / (1 + expf(-(float)SWIGLU_ALPHA * g)) * (u + 1);
    }
};

struct capped {
    float cap;
    __device__ float operator()(float x, float) const
    {
        return cap * tanhf(x / cap);
    }
};

#endif
