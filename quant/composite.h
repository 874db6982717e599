// quant/composite.h -- tensors of types that GGUF lacks, in a file as several tensors of types that it has.
//
// In memory such a tensor has blocks like any other (quant/quant.h). In a file it is, with the same axes behind the first:
//
//     NF4, FP4    NAME                I8   (ne0 / 2, ...)       the codes, as in the blocks
//                 NAME.absmax         I8   (ne0 / 64, ...)      bytes without a sign: the scales, as values of quant_dynamic_values
//                 NAME.absmax_scale   F32  (all scales / 256)   times what each 256 of those values, in the order of the file, stand for,
//                 NAME.absmax_offset  F32  (1)                  plus this
//     INT8        NAME                I8   (ne0, ...)           the codes
//                 NAME.absmax         F32  (ne1, ...)           of rows
//     INT8_ASYM   NAME.middle         F32  (ne1, ...)           too
//     both        NAME.columns        I32  (n, ne2, ...)        columns of each matrix that stand apart, ascending; -1: none. Absent: n = 0
//                 NAME.outliers       F16  (n, ne1, ...)        their numbers
//
// The keys tinylm.composite.tensors and tinylm.composite.types name them. So the bits a number are 4.127, or 8 and a little.
#ifndef QUANT_COMPOSITE_H
#define QUANT_COMPOSITE_H

#include "core/gguf.h"
#include "quant/quant.h"

#define COMPOSITE_TENSORS "tinylm.composite.tensors"
#define COMPOSITE_TYPES   "tinylm.composite.types"

enum { COMPOSITE_NESTED = 256 }; // scales of 4 bits that share a scale

static inline bool composite_is(enum dtype type)
{
    return type >= DTYPE_NF4 && type <= DTYPE_INT8_ASYM;
}

static inline bool composite_is_4bit(enum dtype type)
{
    return type == DTYPE_NF4 || type == DTYPE_FP4;
}

static inline int64_t composite_rows(const struct tensor *t)
{
    return t->ne[1] * t->ne[2] * t->ne[3];
}

static inline int64_t composite_mats(const struct tensor *t)
{
    return t->ne[2] * t->ne[3];
}

static inline int64_t composite_blocks(const struct tensor *t)
{
    return composite_rows(t) * (t->ne[0] / QUANT_BNB);
}

// Bytes that a tensor of the shape of `t` takes in a file, of any type; columns that stand apart are not counted.
size_t composite_file_bytes(enum dtype type, const struct tensor *t);

// Puts together what the keys of an open file name: its tensors have the types above from then on, and the keys and the parts are
// gone. Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status composite_assemble(struct gguf *g, struct tlm_error *err);

// ---- writing ------------------------------------------------------------------------------------------

struct composite {
    enum dtype type;
    struct tensor shape; // of the whole; no data
    int64_t outliers;    // n
    int part_count;
    struct composite_part {
        char *name;
        struct tensor tensor; // its type and shape in the file; data but for the first, which are streamed
    } parts[5];
    float *scales; // of 4 bits, before they are quantized, (blocks)
};

// Errors: MEMORY.
enum tlm_status composite_open(struct composite *c, struct gguf_string name, enum dtype type,
                               const struct tensor *shape, int64_t outliers, struct tlm_error *err);
void composite_close(struct composite *c);
// The most columns that stand apart in a matrix of the tensor, by weights (ne0, ne2) of importance, or by blocks.
int64_t composite_outliers(enum dtype type, const struct tensor *shape, const float *weights,
                           const void *blocks);
// Takes rows of blocks apart: their codes go to `codes`, the rest into the other parts. Threads may do it at once.
void composite_put(struct composite *c, int64_t row, int64_t rows, const void *blocks, void *codes);
// When all rows have been put: the other parts' data are whole.
void composite_finish(struct composite *c);
// Names them in a file. Errors: MEMORY.
enum tlm_status composite_set_keys(struct gguf_writer *w, const struct gguf *in, const enum dtype *types,
                                   struct tlm_error *err);

#endif
