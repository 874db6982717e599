// ops/paged.h -- where the rows of the key-value cache stand, number for number.
//
// A row is the d numbers of one key or value and one head, as its type stores them: plain numbers, or blocks of 32 of
// Q8_0 or Q4_0, each an f16 scale and `codes` bytes (32 or 16; quant/quant.h). The 16 rows of a cache block and head
// stand together in one of three layouts:
//
//     KV_ROWS    one row after the other
//     KV_KEYS    what one step of q.k reads of 16 keys stands side by side, so that nothing is ever transposed:
//                  plain       x[i of d][16 keys]
//                  quantized   scale[block][16 keys], then code[unit][16 keys][4]: a unit is 4 bytes of codes, the
//                              4 x 8 products that vpdpbusd adds up
//     KV_VALUES  what one step of p.v reads of 4 values, likewise:
//                  quantized   scale[block][16 keys], then code[4 fours of keys][byte][4 keys]
//                  (plain values stand in rows)
#ifndef OPS_PAGED_H
#define OPS_PAGED_H

#include <string.h>

#include "ops/ops.h"

static inline bool paged_quantized(enum dtype type)
{
    return type == DTYPE_Q8_0 || type == DTYPE_Q4_0;
}

// Storage [head][block][16 rows of d numbers], so that the blocks of a sequence, which mostly follow one another, are one
// stretch of memory for a head. `data` is up to the caller.
static inline struct paged_kv paged_layout(enum dtype type, enum kv_layout layout, int32_t blocks, int32_t d)
{
    struct paged_kv kv = {.type = type, .token_stride = dtype_row_bytes(type, d)};
    kv.layout = layout == KV_VALUES && !paged_quantized(type) ? KV_ROWS : layout;
    kv.block_stride = KV_BLOCK * kv.token_stride;
    kv.head_stride = (size_t)blocks * kv.block_stride;
    return kv;
}

// The 16 rows of a block and head.
static inline char *paged_rows(const struct paged_kv *kv, int64_t block, int32_t head)
{
    return kv->data + (size_t)block * kv->block_stride + (size_t)head * kv->head_stride;
}

// Calls PART(in the 16 rows, in the row, bytes) for each part of row `place` that stands in one piece.
#define PAGED_PARTS(kv, place, d, PART)                                                                      \
    do {                                                                                                     \
        const size_t number = (size_t)dtype_traits[(kv)->type].block_bytes, at = (size_t)(place);            \
        const size_t blocks = (size_t)(d) / (size_t)dtype_traits[(kv)->type].block_size, codes = number - 2; \
        if ((kv)->layout == KV_ROWS) {                                                                       \
            PART(at *(kv)->token_stride, 0, blocks *number);                                                 \
        } else if (!paged_quantized((kv)->type)) {                                                           \
            for (size_t i = 0; i < blocks; i++) PART((i * KV_BLOCK + at) * number, i * number, number);      \
        } else {                                                                                             \
            const size_t scales = 2 * KV_BLOCK * blocks, bytes = blocks * codes;                             \
            for (size_t b = 0; b < blocks; b++) {                                                            \
                PART((b * KV_BLOCK + at) * 2, b * number, 2);                                                \
                for (size_t i = b * codes, j = b * number + 2; i < (b + 1) * codes; i++, j++)                \
                    if ((kv)->layout == KV_KEYS)                                                             \
                        PART(scales + (i / 4 * KV_BLOCK + at) * 4 + i % 4, j, 1);                            \
                    else                                                                                     \
                        PART(scales + (at / 4 * bytes + i) * 4 + at % 4, j, 1);                              \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

// The row at place `place` of a block's 16 rows: row[] there, and back.
static inline void paged_put(const struct paged_kv *kv, char *rows, int64_t place, const void *row, int64_t d)
{
#define PART(to, from, bytes) memcpy(rows + (to), (const char *)row + (from), bytes)
    PAGED_PARTS(kv, place, d, PART);
#undef PART
}

static inline void paged_get(void *row, const struct paged_kv *kv, const char *rows, int64_t place, int64_t d)
{
#define PART(from, to, bytes) memcpy((char *)row + (to), rows + (from), bytes)
    PAGED_PARTS(kv, place, d, PART);
#undef PART
}

#endif
