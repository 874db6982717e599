// cuda/planes.h -- how the device holds quantized weights: the same bytes as GGUF's, each row's codes apart from its scales.
//
// Blocks of GGUF (quant/quant.h) are of 18, 34, 144 or 210 bytes, so codes stand anywhere. On the device the codes of a row's blocks
// stand one behind the other, and so does all else, each row of both on a boundary of 16:
//
//     | codes of block 0 | codes of block 1 | ... |      plane of codes,  (rows, code_stride)
//     | the rest of block 0 | of block 1 | ... |         plane of scales, (rows, scale_stride), behind all codes
//
// Plain types stay as they are.
#ifndef CUDA_PLANES_H
#define CUDA_PLANES_H

#include "core/tensor.h"
#include "cuda/kernels.h"

// Is it a type that kernels multiply with?
bool planes_known(enum dtype type);
// Bytes on the device of all the matrices of t (ne[2] of them).
size_t planes_bytes(const struct tensor *t);
// Rows first .. first + count of t's matrices, counted through all of them: their codes, and (of quantized types) their scales.
void planes_put_rows(char *codes, char *scales, const struct tensor *t, int64_t first, int64_t count);
// Matrix `number` of t, whose planes are at `data`.
struct cuda_matrix planes_matrix(const struct tensor *t, const void *data, int64_t number);

#endif
