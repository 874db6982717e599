// models/hf_quantized_read.c -- the numbers of quantized matrices; the layouts stand in models/hf_quantized.h.
#include <math.h>

#include "models/hf_quantized.h"
#include "quant/bits.h"
#include "quant/quant.h"

enum { INPUTS = 32, OUTPUTS = 8 }; // of a tile of codes

static float float_at(const struct safetensors_tensor *t, size_t i)
{
    uint32_t u = 0;
    memcpy(&u, t->data + i * (size_t)safetensors_types[t->type].bytes,
           (size_t)safetensors_types[t->type].bytes);
    if (t->type == SAFETENSORS_F32) return f32_of_bits(u);
    return t->type == SAFETENSORS_F16 ? f32_from_f16((uint16_t)u) : f32_from_bf16((uint16_t)u);
}

static uint32_t dword_at(const struct safetensors_tensor *t, int64_t i)
{
    uint32_t x;
    memcpy(&x, t->data + 4 * i, 4);
    return x;
}

// ---- bitsandbytes -------------------------------------------------------------------------------------

static float scale_4bit(const struct hf_quantized *q, size_t block)
{
    if (!q->nested_scales) return float_at(q->scales, block);
    float value = float_at(q->nested_values, q->scales->data[block]);
    return value * float_at(q->nested_scales, block / (size_t)q->nested_group) + q->nested_offset;
}

static void read_4bit(const struct hf_quantized *q, row_from_real_fn *from_real, size_t bytes, uint8_t *out)
{
    enum { PIECE = 512 };
    float numbers[PIECE];
    int64_t count = q->matrix.shape[0] * q->matrix.shape[1];
    for (int64_t i = 0, n; i < count; i += n) {
        int64_t left = q->group - i % q->group;
        n = left < PIECE ? left : PIECE;
        if (n > count - i) n = count - i;
        float scale = scale_4bit(q, (size_t)(i / q->group));
        for (int64_t j = 0; j < n; j++) {
            uint8_t pair = q->codes->data[(i + j) / 2];
            numbers[j] = q->values[(i + j) % 2 ? pair & 15 : pair >> 4] * scale;
        }
        from_real(out + (size_t)i * bytes, numbers, n);
    }
}

static void read_8bit(const struct hf_quantized *q, row_from_real_fn *from_real, size_t bytes, uint8_t *out)
{
    enum { PIECE = 512 };
    float numbers[PIECE];
    int64_t cols = q->matrix.shape[1];
    for (int64_t r = 0; r < q->matrix.shape[0]; r++) {
        float scale = float_at(q->scales, (size_t)r);
        for (int64_t c = 0, n; c < cols; c += n) {
            const int8_t *codes = (const int8_t *)q->codes->data + r * cols + c;
            n = cols - c < PIECE ? cols - c : PIECE;
            for (int64_t i = 0; i < n; i++) numbers[i] = (float)codes[i] * scale * QUANT_INT8_STEP;
            from_real(out + (size_t)(r * cols + c) * bytes, numbers, n);
        }
    }
}

// ---- GPTQ and AWQ -------------------------------------------------------------------------------------

// Code i of a string of bits, whose dwords stand `stride` apart.
static uint32_t code_at(const struct safetensors_tensor *t, int64_t first, int64_t stride, int64_t i,
                        int bits)
{
    int64_t bit = i * bits, word = bit / 32;
    int shift = (int)(bit % 32);
    uint32_t x = dword_at(t, first + word * stride) >> shift;
    if (shift + bits > 32) x |= dword_at(t, first + (word + 1) * stride) << (32 - shift);
    return x & ((1u << bits) - 1);
}

// Which nibble of AWQ's dwords is output 8i + j.
static const int awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// Codes of up to OUTPUTS outputs of some inputs from `input` on.
static void read_codes(const struct hf_quantized *q, int64_t output, int outputs, int64_t input, int inputs,
                       uint8_t codes[OUTPUTS][INPUTS])
{
    int64_t out = q->matrix.shape[0];
    for (int i = 0; i < inputs && q->packing == HF_AWQ; i++) {
        uint32_t all = dword_at(q->codes, (input + i) * (out / 8) + output / 8);
        for (int j = 0; j < 8; j++) codes[j][i] = all >> 4 * awq_place[j] & 15;
    }
    for (int j = 0; j < outputs && q->packing == HF_GPTQ; j++)
        for (int i = 0; i < inputs; i++)
            codes[j][i] = (uint8_t)code_at(q->codes, output + j, out, input + i, q->bits);
}

static int zero_of(const struct hf_quantized *q, int64_t group, int64_t output)
{
    int64_t first = group * (q->matrix.shape[0] * q->bits / 32);
    if (q->packing == HF_AWQ)
        return (int)(dword_at(q->zeros, first + output / 8) >> 4 * awq_place[output % 8] & 15);
    return (int)((code_at(q->zeros, first, 1, output, q->bits) + (uint32_t)q->zero_add) &
                 ((1u << q->bits) - 1));
}

static int64_t group_at(const struct hf_quantized *q, int64_t input)
{
    return q->group_of ? (int64_t)dword_at(q->group_of, input) : input / q->group;
}

// Inputs of one output as numbers, or as a block of the grid.
static void finish_row(const struct hf_quantized *q, const struct kernels *k, enum dtype type, int64_t output,
                       int64_t input, int inputs, const uint8_t *codes, uint8_t *out)
{
    int64_t in = q->matrix.shape[1], out_count = q->matrix.shape[0];
    float numbers[INPUTS], scale = 0;
    int zero = 0;
    uint8_t *to = out + (size_t)output * dtype_row_bytes(type, in) + dtype_row_bytes(type, input);
    if ((int)type == q->grid) {
        uint16_t d;
        memcpy(&d, q->scales->data + 2 * (group_at(q, input) * out_count + output), 2);
        struct block_q4_0 *four = (struct block_q4_0 *)to;
        struct block_q8_0 *eight = (struct block_q8_0 *)to;
        if (type == DTYPE_Q4_0)
            four->d = d, bits_pack_nibbles(four->qs, codes);
        else
            eight->d = d;
        for (int i = 0; i < INPUTS && type == DTYPE_Q8_0; i++) eight->qs[i] = (int8_t)(codes[i] - 128);
        return;
    }
    for (int64_t i = 0, group = -1; i < inputs; i++) {
        if (group != group_at(q, input + i)) {
            group = group_at(q, input + i);
            zero = zero_of(q, group, output);
            scale = float_at(q->scales, (size_t)(group * out_count + output));
        }
        numbers[i] = scale * (float)(codes[i] - zero);
    }
    k->from_real[type](to, numbers, inputs);
}

static void read_groups(const struct hf_quantized *q, const struct kernels *k, enum dtype type, uint8_t *out)
{
    uint8_t codes[OUTPUTS][INPUTS];
    int64_t in = q->matrix.shape[1], out_count = q->matrix.shape[0];
    for (int64_t input = 0; input < in; input += INPUTS) {
        int inputs = in - input < INPUTS ? (int)(in - input) : INPUTS;
        for (int64_t output = 0; output < out_count; output += OUTPUTS) {
            int outputs = out_count - output < OUTPUTS ? (int)(out_count - output) : OUTPUTS;
            read_codes(q, output, outputs, input, inputs, codes);
            for (int j = 0; j < outputs; j++)
                finish_row(q, k, type, output + j, input, inputs, codes[j], out);
        }
    }
}

// ---- all ----------------------------------------------------------------------------------------------

void hf_quantized_read(const struct hf_quantized *q, const struct kernels *k, enum dtype type, void *out)
{
    size_t bytes = (size_t)safetensors_types[q->matrix.type].bytes;
    if (q->packing != HF_BNB)
        read_groups(q, k, type, out);
    else if (q->bits == 4)
        read_4bit(q, k->from_real[type], bytes, out);
    else
        read_8bit(q, k->from_real[type], bytes, out);
}

void hf_quantized_drop_pages(const struct hf_quantized *q, const struct safetensors *weights)
{
    safetensors_drop_pages(weights, q->codes);
}
