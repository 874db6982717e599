// ops/packed.h -- quantized weights as the integer kernels read them: 16 rows interleaved.
//
// A group of 16 rows holds the same bytes as in the file, in another order, so that one load gives one thing of all 16 rows. It
// is read in one stream, 256 numbers of each row at a time: blocks of 32 numbers come in eights (the last of a row may be fewer),
// blocks of 256 alone.
//
//     codes of block 0 ... 7 | scales of block 0 ... 7 | codes of block 8 ... 15 | scales of block 8 ... 15 | ...
//
// Codes: dword j of the block's codes, of row 0, 1, ... 15: a vector of 64 bytes, then dword j + 1. Scales likewise, in pieces of 4, 2
// or 1 bytes, so that 16 of them are 64, 32 or 16 bytes. The order of fields within a block is that of the table in ops/packed.c.
// Groups stand on boundaries of 64; rows that a matrix lacks in its last group are zeros.
#ifndef OPS_PACKED_H
#define OPS_PACKED_H

#include "core/dtype.h"

enum { PACKED_ROWS = 16 };

struct packed_field {
    uint8_t offset, bytes; // in the block of the file
    uint8_t unit;          // bytes a piece
};

struct packed_format {
    struct packed_field codes[2], scales[3]; // bytes 0: no such field
};

// NULL for types that are never packed.
const struct packed_format *packed_format(enum dtype type);
// Bytes of a group with rows of k numbers.
size_t packed_group_bytes(enum dtype type, int64_t k);
// `rows` (1 to 16) rows of the file, `stride` bytes apart, to a group.
void packed_group(void *group, enum dtype type, const void *rows, size_t stride, int64_t count, int64_t k);
// The way back.
void packed_group_undo(void *rows, size_t stride, int64_t count, enum dtype type, const void *group,
                       int64_t k);

#endif
