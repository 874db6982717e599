// ops/packed.c -- between rows of the file and groups of 16 interleaved rows.
#include "ops/packed.h"

#include <string.h>

#include "core/error.h"

// Offsets are those of the structs in quant/quant.h.
static const struct packed_format formats[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = {.low = {2, 16, 4}, .scales = {{0, 2, 2}}, .units = 1},
    [DTYPE_Q4_1] = {.low = {4, 16, 4}, .scales = {{0, 2, 2}, {2, 2, 2}}, .units = 1},
    [DTYPE_Q5_0] = {.low = {6, 16, 4}, .high = {2, 4, 4}, .scales = {{0, 2, 2}}, .units = 1},
    [DTYPE_Q5_1] = {.low = {8, 16, 4}, .high = {4, 4, 4}, .scales = {{0, 2, 2}, {2, 2, 2}}, .units = 1},
    [DTYPE_Q8_0] = {.low = {2, 32, 4}, .scales = {{0, 2, 2}}, .units = 1},
    [DTYPE_IQ4_NL] = {.low = {2, 16, 4}, .scales = {{0, 2, 2}}, .units = 1},
    [DTYPE_MXFP4] = {.low = {1, 16, 4}, .scales = {{0, 1, 1}}, .units = 1},
    [DTYPE_Q2_K] = {.low = {16, 64, 4}, .scales = {{0, 16, 4}, {80, 2, 2}, {82, 2, 2}}, .units = 2},
    [DTYPE_Q3_K] = {.low = {32, 64, 4},
                    .high = {0, 32, 4},
                    .scales = {{96, 12, 4}, {108, 2, 2}},
                    .units = 2,
                    .transposed = 1,
                    .head = true},
    [DTYPE_Q4_K] = {.low = {16, 128, 4}, .scales = {{4, 12, 4}, {0, 2, 2}, {2, 2, 2}}, .units = 4},
    [DTYPE_Q5_K] = {.low = {48, 128, 4},
                    .high = {16, 32, 4},
                    .scales = {{4, 12, 4}, {0, 2, 2}, {2, 2, 2}},
                    .units = 4,
                    .transposed = 1},
    [DTYPE_Q6_K] = {.low = {0, 128, 4},
                    .high = {128, 64, 4},
                    .scales = {{192, 16, 1}, {208, 2, 2}},
                    .units = 8,
                    .transposed = 2,
                    .head = true},
    [DTYPE_IQ4_XS] = {.low = {8, 128, 4}, .scales = {{4, 4, 4}, {2, 2, 2}, {0, 2, 2}}, .units = 8},
};

const struct packed_format *packed_format(enum dtype type)
{
    return formats[type].low.bytes ? &formats[type] : NULL;
}

static int64_t blocks_of(enum dtype type, int64_t k)
{
    return k / dtype_traits[type].block_size;
}

// Bytes of 16 rows and one block.
static size_t code_bytes(const struct packed_format *f)
{
    return (size_t)(PACKED_ROWS * (f->low.bytes + f->high.bytes));
}

static int scale_fields(const struct packed_format *f)
{
    int count = 0;
    while (count < 3 && f->scales[count].bytes) count++;
    return count - f->head;
}

static size_t scale_bytes(const struct packed_format *f)
{
    size_t bytes = 0;
    for (int i = 0; i < scale_fields(f); i++) bytes += PACKED_ROWS * f->scales[i].bytes;
    return bytes;
}

static size_t head_bytes(const struct packed_format *f, int64_t blocks)
{
    if (!f->head) return 0;
    return ((size_t)blocks * PACKED_ROWS * f->scales[scale_fields(f)].bytes + 63) / 64 * 64;
}

size_t packed_group_bytes(enum dtype type, int64_t k)
{
    const struct packed_format *f = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    return (head_bytes(f, blocks) + (size_t)blocks * (code_bytes(f) + scale_bytes(f)) + 63) / 64 * 64;
}

struct place {
    char *head, *scales, *codes;
};

// Where block b of rows of `blocks` blocks stands in a group.
static struct place place_of(enum dtype type, const void *group, int64_t b, int64_t blocks)
{
    const struct packed_format *f = &formats[type];
    const int64_t together = 256 / dtype_traits[type].block_size, first = b / together * together;
    const int64_t count = blocks - first < together ? blocks - first : together;
    const size_t codes = code_bytes(f), scales = scale_bytes(f);
    char *begin = (char *)group + head_bytes(f, blocks) + (size_t)first * (codes + scales);
    return (struct place){
        .head = (char *)group + (size_t)b * (f->head ? PACKED_ROWS * f->scales[scale_fields(f)].bytes : 0),
        .scales = begin + (size_t)(b - first) * scales,
        .codes = begin + (size_t)count * scales + (size_t)(b - first) * codes,
    };
}

// Moves scales of one block between a row of the file and place `row` of the group.
static void move_fields(char *piece, char *block, const struct packed_field *fields, int count, int row,
                        bool undo)
{
    for (int i = 0; i < count; i++) {
        const struct packed_field *f = &fields[i];
        for (int at = 0; at < f->bytes; at += f->unit, piece += PACKED_ROWS * f->unit) {
            char *in_group = piece + row * f->unit, *in_block = block + f->offset + at;
            memcpy(undo ? in_block : in_group, undo ? in_group : in_block, f->unit);
        }
    }
}

static void move_scales(const struct packed_format *f, const struct place *p, char *block, int row, bool undo)
{
    const int count = scale_fields(f);
    move_fields(p->scales, block, f->scales, count, row, undo);
    if (f->head) move_fields(p->head, block, &f->scales[count], 1, row, undo);
}

typedef uint32_t lanes[PACKED_ROWS];

// Fields of `bits` bits of every byte: field s of dword i changes places with field i of dword s, among 8 / bits dwords; an
// involution. Each step moves the fields whose number differs from that of their dword in one bit.
static void transpose(lanes *dword, int bits)
{
    static const uint32_t mask[] = {[1] = 0x55555555, [2] = 0x33333333, [4] = 0x0f0f0f0f};
    const int count = 8 / bits;
    for (int step = 1; step < count; step *= 2)
        for (int i = 0; i < count; i++) {
            if (i & step) continue;
            for (int r = 0; r < PACKED_ROWS; r++) {
                uint32_t *a = &dword[i][r], *b = &dword[i + step][r];
                const uint32_t change = ((*a >> bits * step) ^ *b) & mask[bits * step];
                *b ^= change;
                *a ^= change << bits * step;
            }
        }
}

static void transpose_all(lanes *high, const struct packed_format *f)
{
    for (int i = 0; f->transposed && i < f->high.bytes / 4; i += 8 / f->transposed)
        transpose(high + i, f->transposed);
}

// Which dword of `high`, transposed, is number i of the group's. Of Q6_K's 16, 8 half + 4 m + quarter has numbers 16 m and on of
// sub-block 4 half + quarter; the units, of 16 numbers each, are m = 0 and 1 of quarters 0 and 2, then of 1 and 3.
static int high_order(const struct packed_format *f, int i)
{
    if (f->transposed != 2) return i;
    const int half = i / 8, first = i / 4 % 2, m = i / 2 % 2, second = i % 2;
    return 8 * half + 4 * m + first + 2 * second;
}

// From here on `codes` are [units][high dwords of a unit, then low ones][16].
static lanes *unit_codes(const struct packed_format *f, char *codes, int unit)
{
    return (lanes *)(codes + (size_t)unit * (code_bytes(f) / f->units));
}

static void pack_codes(const struct packed_format *f, char *codes, const char *from, size_t stride,
                       int64_t count)
{
    const int highs = f->high.bytes / 4 / f->units, lows = f->low.bytes / 4 / f->units;
    lanes high[16] = {{0}};
    if (highs) {
        for (int j = 0; j < f->high.bytes / 4; j++)
            for (int64_t r = 0; r < count; r++)
                memcpy(&high[j][r], from + (size_t)r * stride + f->high.offset + 4 * j, 4);
        transpose_all(high, f);
    }
    for (int u = 0; u < f->units; u++) {
        lanes *to = unit_codes(f, codes, u);
        for (int i = 0; i < highs; i++) memcpy(to[i], high[high_order(f, u * highs + i)], sizeof *to);
        const char *low = from + f->low.offset + (size_t)(4 * u * lows);
        for (int i = 0; i < lows; i++)
            for (int64_t r = 0; r < count; r++)
                memcpy(&to[highs + i][r], low + (size_t)r * stride + 4 * i, 4);
    }
}

static void undo_codes(const struct packed_format *f, char *to, size_t stride, int64_t count, char *codes)
{
    const int highs = f->high.bytes / 4 / f->units, lows = f->low.bytes / 4 / f->units;
    lanes high[16] = {{0}};
    for (int u = 0; u < f->units; u++) {
        lanes *from = unit_codes(f, codes, u);
        for (int i = 0; i < highs; i++) memcpy(high[high_order(f, u * highs + i)], from[i], sizeof *from);
        char *low = to + f->low.offset + (size_t)(4 * u * lows);
        for (int i = 0; i < lows; i++)
            for (int64_t r = 0; r < count; r++)
                memcpy(low + (size_t)r * stride + 4 * i, &from[highs + i][r], 4);
    }
    transpose_all(high, f);
    for (int j = 0; j < f->high.bytes / 4; j++)
        for (int64_t r = 0; r < count; r++)
            memcpy(to + (size_t)r * stride + f->high.offset + 4 * j, &high[j][r], 4);
}

void packed_group(void *group, enum dtype type, const void *rows, size_t stride, int64_t count, int64_t k)
{
    const struct packed_format *f = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    TLM_ASSERT(count >= 1 && count <= PACKED_ROWS);
    if (count < PACKED_ROWS) memset(group, 0, packed_group_bytes(type, k));
    for (int64_t b = 0; b < blocks; b++) {
        const char *from = (const char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        const struct place to = place_of(type, group, b, blocks);
        if (count == PACKED_ROWS) // the constant makes it twice as fast
            pack_codes(f, to.codes, from, stride, PACKED_ROWS);
        else
            pack_codes(f, to.codes, from, stride, count);
        for (int r = 0; r < count; r++, from += stride) move_scales(f, &to, (char *)from, r, false);
    }
}

void packed_group_undo(void *rows, size_t stride, int64_t count, enum dtype type, const void *group,
                       int64_t k)
{
    const struct packed_format *f = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    for (int64_t b = 0; b < blocks; b++) {
        char *to = (char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        const struct place from = place_of(type, group, b, blocks);
        undo_codes(f, to, stride, count, from.codes);
        for (int r = 0; r < count; r++, to += stride) move_scales(f, &from, to, r, true);
    }
}
