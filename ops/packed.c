// ops/packed.c -- between rows of the file and groups of 16 interleaved rows.
#include "ops/packed.h"

#include <emmintrin.h>
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
    [DTYPE_TQ2_0] = {.low = {0, 64, 4}, .scales = {{64, 2, 2}}, .units = 2, .head = true},
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

// `dwords` of each of `count` rows, `stride` bytes apart.
static void gather(lanes *to, const char *from, size_t stride, int64_t count, int dwords)
{
    const int whole = count == PACKED_ROWS ? dwords / 4 * 4 : 0;
    for (int j = 0; j < whole; j += 4)
        for (int r = 0; r < PACKED_ROWS; r += 4) { // four dwords of four rows
            __m128i in[4], half[4];
            for (int i = 0; i < 4; i++)
                in[i] = _mm_loadu_si128((const __m128i *)(from + (size_t)(r + i) * stride + 4 * j));
            half[0] = _mm_unpacklo_epi32(in[0], in[1]), half[1] = _mm_unpacklo_epi32(in[2], in[3]);
            half[2] = _mm_unpackhi_epi32(in[0], in[1]), half[3] = _mm_unpackhi_epi32(in[2], in[3]);
            _mm_storeu_si128((__m128i *)&to[j][r], _mm_unpacklo_epi64(half[0], half[1]));
            _mm_storeu_si128((__m128i *)&to[j + 1][r], _mm_unpackhi_epi64(half[0], half[1]));
            _mm_storeu_si128((__m128i *)&to[j + 2][r], _mm_unpacklo_epi64(half[2], half[3]));
            _mm_storeu_si128((__m128i *)&to[j + 3][r], _mm_unpackhi_epi64(half[2], half[3]));
        }
    for (int j = whole; j < dwords; j++)
        for (int64_t r = 0; r < count; r++) memcpy(&to[j][r], from + (size_t)r * stride + 4 * j, 4);
}

// 16 bytes of each of 16 rows. Each step is a perfect shuffle of the 256 bytes; four of them make a transposition.
static void gather_bytes(char *to, const char *from, size_t stride)
{
    __m128i v[16], next[16];
    for (int r = 0; r < 16; r++) v[r] = _mm_loadu_si128((const __m128i *)(from + (size_t)r * stride));
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 8; i++) {
            next[2 * i] = _mm_unpacklo_epi8(v[i], v[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + 8]);
        }
        memcpy(v, next, sizeof v);
    }
    memcpy(to, v, sizeof v);
}

static void pack_field(char *to, const char *from, size_t stride, int64_t count, const struct packed_field *f)
{
    from += f->offset;
    if (f->unit == 4) {
        gather((lanes *)to, from, stride, count, f->bytes / 4);
    } else if (f->unit == 1 && f->bytes == 16 && count == PACKED_ROWS) {
        gather_bytes(to, from, stride);
    } else {
        for (int at = 0; at < f->bytes; at += f->unit, to += PACKED_ROWS * f->unit)
            for (int64_t r = 0; r < count; r++)
                memcpy(to + r * f->unit, from + (size_t)r * stride + at, f->unit);
    }
}

static void undo_field(char *to, size_t stride, int64_t count, const char *from, const struct packed_field *f)
{
    for (int at = 0; at < f->bytes; at += f->unit, from += PACKED_ROWS * f->unit)
        for (int64_t r = 0; r < count; r++)
            memcpy(to + (size_t)r * stride + f->offset + at, from + r * f->unit, f->unit);
}

static void pack_codes(const struct packed_format *f, char *codes, const char *from, size_t stride,
                       int64_t count)
{
    const int highs = f->high.bytes / 4 / f->units, lows = f->low.bytes / 4 / f->units;
    lanes high[16];
    if (highs) {
        if (count < PACKED_ROWS) memset(high, 0, sizeof high);
        gather(high, from + f->high.offset, stride, count, f->high.bytes / 4);
        transpose_all(high, f);
    }
    for (int u = 0; u < f->units; u++) {
        lanes *to = unit_codes(f, codes, u);
        for (int i = 0; i < highs; i++) memcpy(to[i], high[high_order(f, u * highs + i)], sizeof *to);
        gather(to + highs, from + f->low.offset + (size_t)(4 * u * lows), stride, count, lows);
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
    const int scales = scale_fields(f);
    TLM_ASSERT(count >= 1 && count <= PACKED_ROWS);
    if (count < PACKED_ROWS) memset(group, 0, packed_group_bytes(type, k));
    for (int64_t b = 0; b < blocks; b++) {
        const char *from = (const char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        struct place to = place_of(type, group, b, blocks);
        pack_codes(f, to.codes, from, stride, count);
        for (int i = 0; i < scales; i++) {
            pack_field(to.scales, from, stride, count, &f->scales[i]);
            to.scales += PACKED_ROWS * f->scales[i].bytes;
        }
        if (f->head) pack_field(to.head, from, stride, count, &f->scales[scales]);
    }
}

void packed_group_undo(void *rows, size_t stride, int64_t count, enum dtype type, const void *group,
                       int64_t k)
{
    const struct packed_format *f = &formats[type];
    const int64_t blocks = blocks_of(type, k);
    const int scales = scale_fields(f);
    for (int64_t b = 0; b < blocks; b++) {
        char *to = (char *)rows + (size_t)(b * dtype_traits[type].block_bytes);
        struct place from = place_of(type, group, b, blocks);
        undo_codes(f, to, stride, count, from.codes);
        for (int i = 0; i < scales; i++) {
            undo_field(to, stride, count, from.scales, &f->scales[i]);
            from.scales += PACKED_ROWS * f->scales[i].bytes;
        }
        if (f->head) undo_field(to, stride, count, from.head, &f->scales[scales]);
    }
}
