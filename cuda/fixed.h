// cuda/fixed.h -- sizes that a kernel knows when it is compiled, if that is done while the program runs (cuda/jit.h).
//
// A kernel takes its sizes as arguments, and calls fix() on them first. For nvcc that does nothing. A kernel that is compiled for one
// matrix has them as macros: what it was passed is overwritten by constants, loops have a known length, and addresses become offsets.
#ifndef CUDA_FIXED_H
#define CUDA_FIXED_H

#include "cuda/fused.h"

// How often the loop over a row is unrolled, of which a lane does `step` numbers a round: whole, or in equal parts of at most eight.
__host__ __device__ constexpr int unroll_of(int64_t step)
{
#ifdef FIXED_INPUTS
    const int64_t rounds = (FIXED_INPUTS + step - 1) / step;
    for (int u = 8; u > 4; u--)
        if (rounds % u == 0) return u;
    return rounds < 4 ? (int)rounds : 4;
#else
    return step ? 4 : 1;
#endif
}

// A product with one matrix. Outputs stay an argument: nothing but the last store depends on them.
__device__ inline void fix(struct cuda_matrix &w, struct cuda_groups &groups)
{
#ifdef FIXED_INPUTS
    w.inputs = FIXED_INPUTS;
    w.code_stride = FIXED_CODE_STRIDE, w.scale_stride = FIXED_SCALE_STRIDE;
    groups.count = 1, groups.first = NULL;
#else
    (void)w, (void)groups;
#endif
}

// A product with what is done around it: its whole shape.
#ifdef FIXED_SHAPE
static __device__ constexpr struct cuda_fused_shape fixed_shape = FIXED_SHAPE;
#endif
__device__ inline const struct cuda_fused_shape &shape_of(const struct cuda_fused_product &d)
{
#ifdef FIXED_SHAPE
    (void)d;
    return fixed_shape;
#else
    return d.shape;
#endif
}

#ifndef __CUDACC_RTC__
#include <stdio.h>

#include "cuda/jit.h"

// The form of `kernel`, of `file`, that fix() makes for w.
static inline struct jit_form product_form(const char *file, const char *kernel, const struct cuda_matrix *w)
{
    struct jit_form f;
    f.file = file;
    snprintf(f.kernel, sizeof f.kernel, "%s", kernel);
    snprintf(f.constants, sizeof f.constants,
             " -DFIXED_INPUTS=%lld -DFIXED_CODE_STRIDE=%zu -DFIXED_SCALE_STRIDE=%zu", (long long)w->inputs,
             w->code_stride, w->scale_stride);
    return f;
}

// That of a kernel that shape_of() makes for a shape, in the order of the struct's members.
static inline struct jit_form fused_form(const char *file, const char *kernel,
                                         const struct cuda_fused_shape *p)
{
    struct jit_form f;
    f.file = file;
    snprintf(f.kernel, sizeof f.kernel, "%s", kernel);
    snprintf(f.constants, sizeof f.constants,
             " -DFIXED_SHAPE={(dtype)%d,%d,%d,{%d,%d,%d,%d},%d,%d,(fused_norm)%d,(activation)%d,%d,%d}",
             (int)p->type, p->inputs, p->parts, p->outputs[0], p->outputs[1], p->outputs[2], p->outputs[3],
             p->code_stride, p->scale_stride, (int)p->norm, (int)p->kind, p->activated, p->gated);
    return f;
}
#endif

#endif
