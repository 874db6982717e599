#include "cuda/planes.h"

#include <string.h>

#include "core/arena.h"
#include "quant/quant.h"

enum { ALIGN = 16 };

// Where the codes stand in a block; the rest is what is in front of them and behind.
struct cut {
    uint8_t at, bytes; // bytes 0: the type has no kernels
};

static const struct cut cuts[DTYPE_COUNT] = {
    [DTYPE_Q8_0] = {offsetof(struct block_q8_0, qs), 32},
    [DTYPE_Q4_0] = {offsetof(struct block_q4_0, qs), 16},
    [DTYPE_Q4_1] = {offsetof(struct block_q4_1, qs), 16},
    [DTYPE_Q5_0] = {offsetof(struct block_q5_0, qs), 16},
    [DTYPE_Q5_1] = {offsetof(struct block_q5_1, qs), 16},
    [DTYPE_Q2_K] = {offsetof(struct block_q2_k, qs), 64},
    [DTYPE_Q3_K] = {offsetof(struct block_q3_k, hmask), 96},
    [DTYPE_Q4_K] = {offsetof(struct block_q4_k, qs), 128},
    [DTYPE_Q5_K] = {offsetof(struct block_q5_k, qh), 160},
    [DTYPE_Q6_K] = {offsetof(struct block_q6_k, ql), 192},
    [DTYPE_IQ4_NL] = {offsetof(struct block_iq4_nl, qs), 16},
    [DTYPE_IQ4_XS] = {offsetof(struct block_iq4_xs, qs), 128},
    [DTYPE_MXFP4] = {offsetof(struct block_mxfp4, qs), 16},
    [DTYPE_NVFP4] = {offsetof(struct block_nvfp4, qs), 32},
    [DTYPE_Q1_0] = {offsetof(struct block_q1_0, qs), 16},
    [DTYPE_TQ1_0] = {offsetof(struct block_tq1_0, qs), 48},
    [DTYPE_TQ2_0] = {offsetof(struct block_tq2_0, qs), 64},
    [DTYPE_IQ1_S] = {offsetof(struct block_iq1_s, qs), 32},
    [DTYPE_IQ1_M] = {offsetof(struct block_iq1_m, qs), 48},
    [DTYPE_IQ2_XXS] = {offsetof(struct block_iq2_xxs, qs), 64},
    [DTYPE_IQ2_XS] = {offsetof(struct block_iq2_xs, qs), 64},
    [DTYPE_IQ2_S] = {offsetof(struct block_iq2_s, qs), 64},
    [DTYPE_IQ3_XXS] = {offsetof(struct block_iq3_xxs, qs), 96},
    [DTYPE_IQ3_S] = {offsetof(struct block_iq3_s, qs), 64},
    [DTYPE_NF4] = {offsetof(struct block_nf4, qs), 32},
    [DTYPE_FP4] = {offsetof(struct block_nf4, qs), 32},
    [DTYPE_INT8] = {offsetof(struct block_int8, qs), 64},
    [DTYPE_INT8_ASYM] = {offsetof(struct block_int8, qs), 64},
};

// Numbers side by side: those of weights, and bytes, which only moments are made of.
static bool is_plain(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_I8;
}

bool planes_known(enum dtype type)
{
    return type != DTYPE_I8 && (is_plain(type) || cuts[type].bytes);
}

static int64_t rows_of(const struct tensor *t)
{
    return t->ne[1] * t->ne[2] * t->ne[3];
}

// Bytes of a row's codes, and of the rest.
static size_t code_stride(const struct tensor *t)
{
    const int64_t blocks = t->ne[0] / dtype_traits[t->type].block_size;
    return is_plain(t->type) ? dtype_row_bytes(t->type, t->ne[0])
                             : align_up((size_t)blocks * cuts[t->type].bytes, ALIGN);
}

static size_t scale_stride(const struct tensor *t)
{
    const int64_t blocks = t->ne[0] / dtype_traits[t->type].block_size;
    const size_t rest = (size_t)dtype_traits[t->type].block_bytes - cuts[t->type].bytes;
    return is_plain(t->type) ? 0 : align_up((size_t)blocks * rest, ALIGN);
}

size_t planes_bytes(const struct tensor *t)
{
    return (size_t)rows_of(t) * (code_stride(t) + scale_stride(t));
}

static void part_row(char *codes, char *scales, const char *from, enum dtype type, int64_t blocks)
{
    const size_t all = (size_t)dtype_traits[type].block_bytes, at = cuts[type].at, bytes = cuts[type].bytes;
    for (int64_t b = 0; b < blocks; b++, from += all, codes += bytes, scales += all - bytes) {
        memcpy(codes, from + at, bytes);
        memcpy(scales, from, at);
        memcpy(scales + at, from + at + bytes, all - at - bytes);
    }
}

void planes_put_rows(char *codes, char *scales, const struct tensor *t, int64_t first, int64_t count)
{
    const size_t code_bytes = code_stride(t), scale_bytes = scale_stride(t);
    const int64_t blocks = t->ne[0] / dtype_traits[t->type].block_size;
    for (int64_t r = 0; r < count; r++) {
        const size_t stack = (size_t)((first + r) / t->ne[1]), row = (size_t)((first + r) % t->ne[1]);
        // t may be a part of another
        const char *from = (const char *)t->data + stack * t->nb[2] + row * t->nb[1];
        if (is_plain(t->type))
            memcpy(codes + (size_t)r * code_bytes, from, code_bytes);
        else
            part_row(codes + (size_t)r * code_bytes, scales + (size_t)r * scale_bytes, from, t->type, blocks);
    }
}

struct cuda_matrix planes_matrix(const struct tensor *t, const void *data, int64_t number)
{
    const size_t codes = code_stride(t), scales = scale_stride(t), first = (size_t)(number * t->ne[1]);
    const char *plane = data, *scale_plane = plane + (size_t)rows_of(t) * codes;
    return (struct cuda_matrix){.type = t->type,
                                .codes = plane + first * codes,
                                .scales = is_plain(t->type) ? NULL : scale_plane + first * scales,
                                .code_stride = codes,
                                .scale_stride = scales,
                                .outputs = t->ne[1],
                                .inputs = t->ne[0]};
}
