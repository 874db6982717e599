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

#include "core/graph.h"
#include "ops/ops.h"

// Heads that several places share (ops/parts.h): place p has heads first[p] .. first[p + 1], at data[p], with the strides of the whole.
struct paged_share {
    int64_t first[PLACES + 1];
    char *data[PLACES];
};

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

// Words of `count` rows, `apart` bytes apart, side by side: word i of row r becomes the one at to[i * KV_BLOCK + r]. Sizes are constants
// where this is called, so each word is one load and one store.
static inline __attribute__((always_inline)) void
paged_interleave(char *to, const char *from, int64_t words, const size_t word, int64_t count, size_t apart)
{
    for (int64_t i = 0; i < words; i++, to += KV_BLOCK * word, from += word)
        for (int64_t r = 0; r < count; r++) memcpy(to + (size_t)r * word, from + (size_t)r * apart, word);
}

// Codes of one block of `count` rows in KV_VALUES: a row's bytes stand four apart, fours of rows `four` bytes apart.
static inline void paged_spread_codes(char *to, const char *from, int64_t place, int64_t count, size_t apart,
                                      size_t codes, size_t four)
{
    for (int64_t r = 0; r < count; r++, from += apart) {
        char *row = to + (size_t)((place + r) / 4) * four + (place + r) % 4;
        for (size_t i = 0; i < codes; i++) row[4 * i] = from[i];
    }
}

static inline void paged_put_quantized(const struct paged_kv *kv, char *rows, int64_t place, int64_t count,
                                       const char *from, int64_t d)
{
    const size_t number = (size_t)dtype_traits[kv->type].block_bytes, codes = number - 2;
    const size_t blocks = (size_t)d / (size_t)dtype_traits[kv->type].block_size, apart = blocks * number;
    char *code = rows + 2 * KV_BLOCK * blocks;
    for (size_t b = 0; b < blocks; b++, from += number) {
        paged_interleave(rows + (b * KV_BLOCK + (size_t)place) * 2, from, 1, 2, count, apart);
        if (kv->layout == KV_KEYS)
            paged_interleave(code + (b * codes * KV_BLOCK / 4 + (size_t)place) * 4, from + 2,
                             (int64_t)codes / 4, 4, count, apart);
        else
            paged_spread_codes(code + b * codes * 4, from + 2, place, count, apart, codes,
                               blocks * codes * 4);
    }
}

// The same for `count` rows that follow one another, from `place` on in the block: a prompt fills whole blocks, line by line, which
// takes a third of the time of 16 single rows.
static inline void paged_put_rows(const struct paged_kv *kv, char *rows, int64_t place, int64_t count,
                                  const void *from, int64_t d)
{
    const size_t bytes = dtype_row_bytes(kv->type, d), number = (size_t)dtype_traits[kv->type].block_bytes;
    if (kv->layout == KV_ROWS) {
        for (int64_t r = 0; r < count; r++)
            memcpy(rows + (size_t)(place + r) * kv->token_stride, (const char *)from + (size_t)r * bytes,
                   bytes);
    } else if (paged_quantized(kv->type)) {
        paged_put_quantized(kv, rows, place, count, from, d);
    } else if (number == 1) {
        paged_interleave(rows + place, from, d, 1, count, bytes);
    } else if (number == 2) {
        paged_interleave(rows + place * 2, from, d, 2, count, bytes);
    } else if (number == 4) {
        paged_interleave(rows + place * 4, from, d, 4, count, bytes);
    } else {
        paged_interleave(rows + place * 8, from, d, 8, count, bytes);
    }
}

static inline void paged_get(void *row, const struct paged_kv *kv, const char *rows, int64_t place, int64_t d)
{
#define PART(from, to, bytes) memcpy((char *)row + (to), rows + (from), bytes)
    PAGED_PARTS(kv, place, d, PART);
#undef PART
}

#endif
