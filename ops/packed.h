// ops/packed.h -- quantized weights as the integer kernels read them: 16 rows interleaved.
//
// A group of 16 rows holds the same bits as in the file, in the order in which they are read, so that one load gives one thing of
// all 16 rows and a product with one column is one stream:
//
//     heads | scales of block 0 ... 7 | codes of block 0 ... 7 | scales of block 8 ... 15 | codes of block 8 ... 15 | ...
//
// Blocks of 32 numbers come in eights (the last of a row may be fewer), blocks of 256 alone. Everything is a run of pieces of 4, 2
// or 1 bytes, each of row 0, 1, ... 15, so that 16 of them are 64, 32 or 16 bytes. Heads are the float scales of all blocks where
// they would leave the codes off the boundaries of 64 bytes.
//
// The codes of a block are `units` equal parts of dwords, first the upper bits of the unit's numbers, then the lower bits. A
// unit is one sub-block of 32 numbers, or those that share the bytes of their lower bits. Upper bits are transposed, so that
// those of one sub-block stand together:
//
//     Q3_K, Q5_K  1 bit: byte b of dword s has those of numbers 4i + b of sub-block s, in bit i
//     Q6_K        2 bits: byte b of two dwords likewise, numbers 4i + b in bits 2 (i % 4) of dword i / 4
//     Q5_0, Q5_1  as in the file
//
// Groups stand on boundaries of 64; rows that a matrix lacks in its last group are zeros.
#ifndef OPS_PACKED_H
#define OPS_PACKED_H

#include "core/dtype.h"

enum { PACKED_ROWS = 16 };

struct packed_field {
    uint8_t offset, bytes; // in the block of the file; 0 bytes: no such field
    uint8_t unit;          // bytes a piece
};

struct packed_format {
    struct packed_field low, high, scales[3];
    uint8_t units;
    uint8_t transposed; // bits of a number in `high`, where they are transposed
    bool head;          // the last of the scales stands at the beginning of the group
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
