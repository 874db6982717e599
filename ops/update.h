// ops/update.h -- the kernels of the optimizers: one pass over the numbers of a tensor reads gradient, value and moments, and
// writes value, moments and the bf16 copy that the graph computes with. Bound by memory.
//
// Master weights, gradients and moments are f32 on every tier, whatever the graph computes in: these kernels have no double
// form. Every number is a function of its own inputs alone, with each rounding laid down here (fma: one rounding), so all
// forms give the same bits, for any splitting into calls that begin at multiples of UPDATE_BLOCK.
//
// With g = gradient * factor:
//
//   AdamW (Loshchilov and Hutter, arXiv 1711.05101), in the order of PyTorch's:
//     m = fma(g - m, slow1, m)
//     v = fma(g * slow2, g, beta2 * v)
//     value = fma(-rate, m / fma(sqrt(v), root_factor, eps), value * keep)
//   where the caller folds bias correction into rate = lr / (1 - beta1^t) and root_factor = 1 / sqrt(1 - beta2^t), and
//   decay into keep = 1 - lr * decay.
//
//   Lion (Chen et al., arXiv 2302.06675):
//     value = fma(-rate, sign(fma(g - m, slow1, m)), value * keep)
//     m = fma(g - m, slow2, m)
//
//   SGD with momentum, as PyTorch's, whose decay joins the gradient:
//     g = fma(value, decay, g);   m = fma(momentum, m, g);   value = fma(-rate, nesterov ? fma(momentum, m, g) : m, value)
//
// Moments are kept in one of three types:
//   F32
//   BF16  m rounds to nearest even. v, and Lion's m, move by less than half a step of bf16 at a time, so rounding to nearest
//         would hold them where they are: they round up or down by chance, right on average.
//   I8    blocks of 256 codes with the largest magnitude of the block in f32 (Dettmers et al., arXiv 2110.02861, section 2).
//         A code stands for a number of [-1, 1] (m) or [0, 1] (v) times that scale. The maps are those of bitsandbytes'
//         create_dynamic_map(), sorted: seven decades, each with twice the numbers of the one below, their steps equal.
//         Chances in rounding as for BF16: at beta2 = 0.999 a small network's loss ends 0.03% off
//         that of f32, with rounding to nearest 0.25%. What is coded for v is its root: that keeps v's seven decades to fourteen, errs by
//         no more, and costs nothing, as the root is there. A root that is not zero never becomes zero: it divides.
// The chance of number i is a hash of (key, i): nothing to store, the same for any number of threads.
#ifndef OPS_UPDATE_H
#define OPS_UPDATE_H

#include "core/dtype.h"

enum { UPDATE_BLOCK = 256 }; // numbers that share a scale; where calls may begin
enum { CODE_ZERO = 127 };    // 0 in the signed map

// m or v of the numbers of a call.
struct moment {
    void *data;   // (count) of the type
    float *scale; // (count / 256, rounded up) of I8; else NULL
};

struct update_args {
    float *value;
    uint16_t *copy; // bf16, or NULL
    const float *gradient;
    struct moment m, v; // v: AdamW alone
    enum dtype moments; // F32, BF16 or I8
    int64_t count;
    int64_t first; // the number of the tensor that the call begins with, a multiple of UPDATE_BLOCK
    uint32_t key;  // of the chances in rounding: another for each tensor and step
    float factor, rate, keep, decay;
    float beta1, beta2; // SGD's momentum is beta1
    float slow1, slow2; // 1 - beta, rounded once: in float the difference would lose digits
    float root_factor, eps;
    bool nesterov;
};
typedef void update_fn(const struct update_args *a);

// ---- on a device ----------------------------------------------------------------------------------------------
//
// What changes from step to step stands in the device's memory, so that launches can be recorded; so does what the norm of the gradient
// decides, which nobody waits for.

enum update_rule { UPDATE_ADAMW, UPDATE_LION, UPDATE_SGD };

struct update_limits {
    double scale; // of all gradients
    double clip;  // the largest norm that stays as it is; 0: any
    double most;  // norms above are not stepped with, as ones that are not finite
};

struct update_verdict {
    double norm, clipped; // of the gradients times scale; what they are multiplied with on top of it
    float factor;         // scale * clipped
    int32_t taken;        // 0: no number changes in this step
};

// Of a tensor: what stands for the fields of these names in struct update_args.
struct update_numbers {
    float rate, keep, root_factor;
    uint32_t key;
};

struct update_launch {
    enum update_rule rule;
    struct update_args of; // all of the tensor; arrays on boundaries of 16 bytes
    const struct update_numbers *now;
    const struct update_verdict *verdict;
};

// Muon's of one matrix (train/muon.h).
struct update_matrix {
    float *value, *momentum; // (rows, cols)
    const float *gradient;
    float *x, *y;           // scratch (rows, cols)
    float *square, *second; // scratch (r, r), r the smaller of both
    double *squares;        // scratch (rows)
    int64_t rows, cols;
    int32_t iterations;
    float beta, slow; // slow: 1 - beta, rounded once
    bool nesterov;
    const struct update_numbers *now;
    const struct update_verdict *verdict;
};

// Sum of the squares in double: number i joins sum i % 32, which are then added as a tree. Infinite or NaN just where a
// number is.
typedef double sum_squares_fn(const float *x, int64_t count);

update_fn update_adamw_ref, update_lion_ref, update_sgd_ref;
update_fn update_adamw_avx2, update_lion_avx2, update_sgd_avx2;
update_fn update_adamw_avx512, update_lion_avx512, update_sgd_avx512;
sum_squares_fn sum_squares_ref, sum_squares_avx2, sum_squares_avx512;

// ---- 8-bit codes (ops/update_codes.h) -----------------------------------------------------------------------

// A number of [-1, 1] or [0, 1] becomes the code above it where its distance from the one below is more than `chance` (of
// [0, 1)) of the gap between them, else the one below: 1/2 rounds to nearest.
uint8_t code_signed(float x, float chance);
uint8_t code_unsigned(float x, float chance);
float number_signed(uint8_t code);
float number_unsigned(uint8_t code);

#endif
