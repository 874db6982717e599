// ops/packed.c -- between rows of the file and groups of 16 interleaved rows.
#include "ops/packed.h"

#include <string.h>

#include "core/error.h"

// Offsets are those of the structs in quant/quant.h.
static const struct packed_format formats[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = {{{2, 16, 4}}, {{0, 2, 2}}},
    [DTYPE_Q4_1] = {{{4, 16, 4}}, {{0, 2, 2}, {2, 2, 2}}},
    [DTYPE_Q5_0] = {{{6, 16, 4}, {2, 4, 4}}, {{0, 2, 2}}},
    [DTYPE_Q5_1] = {{{8, 16, 4}, {4, 4, 4}}, {{0, 2, 2}, {2, 2, 2}}},
    [DTYPE_Q8_0] = {{{2, 32, 4}}, {{0, 2, 2}}},
    [DTYPE_IQ4_NL] = {{{2, 16, 4}}, {{0, 2, 2}}},
    [DTYPE_MXFP4] = {{{1, 16, 4}}, {{0, 1, 1}}},
    [DTYPE_Q2_K] = {{{16, 64, 4}}, {{0, 16, 4}, {80, 2, 2}, {82, 2, 2}}},
    [DTYPE_Q3_K] = {{{32, 64, 4}, {0, 32, 4}}, {{96, 12, 4}, {108, 2, 2}}},
    [DTYPE_Q4_K] = {{{16, 128, 4}}, {{4, 12, 4}, {0, 2, 2}, {2, 2, 2}}},
    [DTYPE_Q5_K] = {{{48, 128, 4}, {16, 32, 4}}, {{4, 12, 4}, {0, 2, 2}, {2, 2, 2}}},
    [DTYPE_Q6_K] = {{{0, 128, 4}, {128, 64, 4}}, {{192, 16, 4}, {208, 2, 2}}},
    [DTYPE_IQ4_XS] = {{{8, 128, 4}}, {{4, 4, 4}, {2, 2, 2}, {0, 2, 2}}},
};

const struct packed_format *packed_format(enum dtype type)
{
    return formats[type].codes[0].bytes ? &formats[type] : NULL;
}

static size_t field_bytes(const struct packed_field *fields, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += fields[i].bytes;
    return PACKED_ROWS * bytes;
}

static int64_t blocks_of(enum dtype type, int64_t k)
{
    return k / dtype_traits[type].block_size;
}

size_t packed_group_bytes(enum dtype type, int64_t k)
{
    size_t block = field_bytes(formats[type].codes, 2) + field_bytes(formats[type].scales, 3);
    return ((size_t)blocks_of(type, k) * block + 63) / 64 * 64;
}

// Where the codes and the scales of block b of a row of `blocks` begin in a group.
static size_t codes_at(enum dtype type, int64_t b, int64_t blocks, size_t *scales_at)
{
    int64_t together = 256 / dtype_traits[type].block_size, first = b / together * together;
    int64_t count = blocks - first < together ? blocks - first : together;
    size_t codes = field_bytes(formats[type].codes, 2), scales = field_bytes(formats[type].scales, 3);
    size_t begin = (size_t)first * (codes + scales);
    *scales_at = begin + (size_t)count * codes + (size_t)(b - first) * scales;
    return begin + (size_t)(b - first) * codes;
}

// Moves the fields of one block between a row of the file and place `row` of the group; returns the bytes that 16 rows take.
static size_t move_fields(char *group, char *block, const struct packed_field *fields, int count, int row,
                          bool undo)
{
    char *piece = group;
    for (int i = 0; i < count; i++) {
        const struct packed_field *f = &fields[i];
        for (int at = 0; at < f->bytes; at += f->unit, piece += PACKED_ROWS * f->unit) {
            char *in_group = piece + row * f->unit, *in_block = block + f->offset + at;
            memcpy(undo ? in_block : in_group, undo ? in_group : in_block, f->unit);
        }
    }
    return (size_t)(piece - group);
}

// Codes are dwords in runs, by far the most of the bytes: their own loop lets the compiler see constants.
static void pack_codes(uint32_t *to, const char *from, size_t stride, const struct packed_field *f)
{
    for (int j = 0; j < f->bytes / 4; j++)
        for (int r = 0; r < PACKED_ROWS; r++)
            memcpy(&to[j * PACKED_ROWS + r], from + (size_t)r * stride + f->offset + 4 * j, 4);
}

void packed_group(void *group, enum dtype type, const void *rows, size_t stride, int64_t count, int64_t k)
{
    const struct packed_format *format = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    TLM_ASSERT(count >= 1 && count <= PACKED_ROWS);
    if (count < PACKED_ROWS) memset(group, 0, packed_group_bytes(type, k));
    for (int64_t b = 0; b < blocks; b++) {
        const char *from = (const char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        size_t scales_at;
        char *codes = (char *)group + codes_at(type, b, blocks, &scales_at),
             *scales = (char *)group + scales_at;
        if (count == PACKED_ROWS) {
            pack_codes((uint32_t *)codes, from, stride, &format->codes[0]);
            pack_codes((uint32_t *)codes + 4 * format->codes[0].bytes, from, stride, &format->codes[1]);
        }
        for (int r = 0; r < count; r++, from += stride) {
            if (count < PACKED_ROWS) move_fields(codes, (char *)from, format->codes, 2, r, false);
            move_fields(scales, (char *)from, format->scales, 3, r, false);
        }
    }
}

void packed_group_undo(void *rows, size_t stride, int64_t count, enum dtype type, const void *group,
                       int64_t k)
{
    const struct packed_format *format = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    for (int64_t b = 0; b < blocks; b++) {
        char *to = (char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        size_t scales_at;
        char *codes = (char *)group + codes_at(type, b, blocks, &scales_at),
             *scales = (char *)group + scales_at;
        for (int r = 0; r < count; r++, to += stride) {
            move_fields(codes, to, format->codes, 2, r, true);
            move_fields(scales, to, format->scales, 3, r, true);
        }
    }
}
