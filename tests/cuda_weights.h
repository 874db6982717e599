// tests/cuda_weights.h -- random weights of every type that the GPU's kernels multiply with.
#ifndef TESTS_CUDA_WEIGHTS_H
#define TESTS_CUDA_WEIGHTS_H

#include "cuda/planes.h"
#include "quant/quant.h"
#include "tests/cuda_kernels.h"

static const enum dtype types[] = {
    DTYPE_F32,    DTYPE_F16,   DTYPE_BF16,     DTYPE_Q8_0,  DTYPE_Q4_0,  DTYPE_Q4_1,  DTYPE_Q5_0,
    DTYPE_Q5_1,   DTYPE_Q2_K,  DTYPE_Q3_K,     DTYPE_Q4_K,  DTYPE_Q5_K,  DTYPE_Q6_K,  DTYPE_IQ4_NL,
    DTYPE_IQ4_XS, DTYPE_MXFP4, DTYPE_TQ1_0,    DTYPE_TQ2_0, DTYPE_IQ1_S, DTYPE_IQ1_M, DTYPE_IQ2_XXS,
    DTYPE_IQ2_XS, DTYPE_IQ2_S, DTYPE_IQ3_XXS,  DTYPE_IQ3_S, DTYPE_NVFP4, DTYPE_Q1_0,  DTYPE_NF4,
    DTYPE_FP4,    DTYPE_INT8,  DTYPE_INT8_ASYM};
enum { TYPES = sizeof types / sizeof *types };

// Random weights (n, k) of a type: as the file has them, in double, and on the device.
struct device_weights {
    struct tensor t;
    double *numbers;
    struct cuda_matrix matrix;
};

// A block of random bytes, of a type that we only read; its scale is a number.
static inline void random_block(uint8_t *block, enum dtype type, uint64_t number)
{
    const uint16_t d = 0x2c00; // 1 / 16
    const int bytes = dtype_traits[type].block_bytes;
    for (int i = 0; i < bytes; i++)
        block[i] = (uint8_t)(int)(128 + 127 * random_signed(77, number * 256 + (uint64_t)i));
    if (type != DTYPE_IQ1_M) {
        memcpy(block, &d, sizeof d);
        return;
    }
    for (int t = 0; t < 4; t++) { // d stands in the top bits of four scales
        uint8_t *top = block + offsetof(struct block_iq1_m, scales) + 2 * t + 1;
        *top = (uint8_t)((*top & 15) | (d >> 4 * t & 15) << 4);
    }
}

// Some columns of which INT8 keeps apart.
static inline float importance_at(int64_t column)
{
    return column % 37 == 5 ? 1e4f : 1;
}

static inline struct device_weights make_weights(enum dtype type, int64_t n, int64_t k)
{
    struct device_weights w = {.t = tensor_shape(type, k, n, 1, 1),
                               .numbers = malloc((size_t)(n * k) * sizeof(double))};
    float *row = malloc((size_t)k * sizeof *row), *importance = malloc((size_t)k * sizeof *importance);
    for (int64_t i = 0; i < k; i++) importance[i] = importance_at(i);
    w.t.data = malloc(tensor_bytes(&w.t));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < k; i++) row[i] = random_signed(7, (uint64_t)(r * k + i));
        const int64_t blocks = k / dtype_traits[type].block_size;
        if (quant_types[type].quantize)
            quant_types[type].quantize(tensor_row(&w.t, r), row, k, type == DTYPE_INT8 ? importance : NULL);
        else
            for (int64_t b = 0; b < blocks; b++)
                random_block((uint8_t *)tensor_row(&w.t, r) + b * dtype_traits[type].block_bytes, type,
                             (uint64_t)(r * blocks + b));
        quant_types[type].dequantize(row, tensor_row(&w.t, r), k);
        for (int64_t i = 0; i < k; i++) w.numbers[r * k + i] = row[i];
    }
    char *planes = malloc(planes_bytes(&w.t));
    memset(planes, 0, planes_bytes(&w.t));
    const struct cuda_matrix host = planes_matrix(&w.t, planes, 0);
    planes_put_rows(planes, (char *)host.scales, &w.t, 0, n);
    w.matrix = planes_matrix(&w.t, device(planes, planes_bytes(&w.t)), 0);
    free(planes);
    free(importance), free(row);
    return w;
}

static inline void free_weights(struct device_weights *w)
{
    free(w->t.data);
    free(w->numbers);
}

#endif
