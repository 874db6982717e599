// cli/bench_work.h -- what a pass of a model costs at least: bytes that it has to read, operations that it has to do.
#ifndef CLI_BENCH_WORK_H
#define CLI_BENCH_WORK_H

#include "models/model.h"

// Bytes that one step reads in which each of `sequences` sequences goes on by a token and then holds `length` tokens: all matrices
// once (of the experts those that so many rows can be expected to use), and the keys and values that each sequence sees.
double work_step_bytes(const struct tlm_model *m, enum dtype type_k, enum dtype type_v, int64_t sequences,
                       int64_t length);
// Operations, a product and its sum counting as two, of `rows` tokens of each of `sequences` sequences behind `depth` tokens each.
// All rows pass through the matrices, but from the last layer's attention on only those whose logits are wanted: one a sequence.
double work_operations(const struct tlm_model *m, int64_t sequences, int64_t rows, int64_t depth);
// The type of the matrices that hold most numbers.
enum dtype work_main_type(const struct tlm_model *m);

#endif
