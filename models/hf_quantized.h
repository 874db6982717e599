// models/hf_quantized.h -- matrices of a folder that bitsandbytes, GPTQ or AWQ have made smaller.
//
// Each of them stands in a folder as a handful of tensors in place of NAME.weight. They are found by config.json's
// quantization_config and by their names, checked, and put together as one tensor NAME.weight without data, of the shape and the
// type that its numbers have: so everything behind (names, shapes, transforms, stacks of experts) sees a matrix like any other.
// The numbers are those that the libraries compute with, bit for bit; blocks of `grid` hold scales and codes before GPTQ's arithmetic in f16
// rounds their products.
//
//     bitsandbytes, 4 bits   weight            codes, two a byte, the first one high, over all numbers of the matrix (out, in)
//     (QLoRA, 2305.14314)    weight.absmax     a scale for each `blocksize` numbers: F32, or U8, codes of
//                            weight.nested_quant_map, with weight.nested_absmax, F32, for each `nested_blocksize` of them
//                            weight.quant_map  the 16 values
//                            weight.quant_state.bitsandbytes__nf4 (or fp4): JSON with the shape, the type and the sizes of blocks
//     bitsandbytes, 8 bits   weight            I8 (out, in);  SCB  F32 (out): number = code SCB / 127
//     (LLM.int8, 2208.07339) weight_format     0: rows
//     GPTQ (2210.17323)      qweight I32 (in bits / 32, out), qzeros I32 (groups, out bits / 32): the codes of a column, the zeros of a row,
//                            lowest bits first, as one string of bits; scales (groups, out); g_idx I32 (in), the group of an input
//                            number = scale (code - zero); the first version of the format stores zero - 1
//     AWQ (2306.00978)       qweight I32 (in, out / 8), qzeros I32 (groups, out / 8), scales (groups, out); the nibbles of a dword
//                            are those of columns 0, 2, 4, 6, 1, 3, 5, 7
#ifndef MODELS_HF_QUANTIZED_H
#define MODELS_HF_QUANTIZED_H

#include "core/safetensors.h"
#include "models/hf.h"

enum hf_packing { HF_PLAIN, HF_BNB, HF_GPTQ, HF_AWQ };

// What config.json says of it.
struct hf_quantization {
    enum hf_packing packing;
    int64_t bits;     // GPTQ, AWQ
    int64_t group;    // GPTQ, AWQ: inputs that share a scale; -1: all
    int zero_add;     // GPTQ: to a stored zero
    enum dtype dtype; // bitsandbytes: of the numbers of 8 bits
};

struct hf_quantized {
    struct safetensors_tensor matrix; // its name is its own
    enum hf_packing packing;
    int bits, zero_add;
    int64_t group; // inputs, or bitsandbytes' numbers, that share a scale
    const struct safetensors_tensor *codes, *scales, *zeros, *group_of;
    // bitsandbytes, 4 bits:
    float values[16];
    const struct safetensors_tensor *nested_scales, *nested_values; // NULL: the scales are floats
    int64_t nested_group;
    float nested_offset;
    // The type of GGUF whose blocks hold the very same numbers, or -1.
    int grid;
};

// All of a folder, and which of its tensors they are made of.
struct hf_quantized_set {
    struct hf_quantized *items;
    size_t count;
    bool *is_part; // [weights->count]
};

// Errors: FORMAT, UNSUPPORTED.
enum tlm_status hf_quantization_read(struct hf_quantization *q, const json_t *config, struct tlm_error *err);
// Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status hf_quantized_find(struct hf_quantized_set *set, const struct hf_quantization *q,
                                  const struct safetensors *weights, struct tlm_error *err);
void hf_quantized_free(struct hf_quantized_set *set);

// The one whose `matrix` this is; NULL: it is a tensor of the folder.
const struct hf_quantized *hf_quantized_of(const struct hf_quantized_set *set,
                                           const struct safetensors_tensor *t);
// Writes all numbers, out x in, in the matrix's own type (F32, F16 or BF16) or in blocks of `grid`.
void hf_quantized_read(const struct hf_quantized *q, const struct kernels *k, enum dtype type, void *out);
void hf_quantized_drop_pages(const struct hf_quantized *q, const struct safetensors *weights);

#endif
