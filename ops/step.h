// ops/step.h -- everything that changes from step to step, in one buffer at a fixed address.
//
// The kernels read it at run time, so a graph (or a captured CUDA graph) never has to be built again because of it.
// Nothing else may carry such data.
#ifndef OPS_STEP_H
#define OPS_STEP_H

#include "core/graph.h"

// Consecutive rows of one sequence, attended together. Where sequences that stand side by side begin with the same blocks, their
// rows are also together in a prefix tile, which attends the first `keys` keys for all of them; each sequence's own tiles go on
// behind these.
struct attention_tile {
    int32_t row, rows, sequence;
    int32_t keys; // of the layers of group 0, a multiple of ATTENTION_TILE; 0: no prefix is shared
};

enum { ATTENTION_ROWS = 64 }; // rows of an attention_tile at most
enum { STEP_GROUPS = 4 };     // of layers with block tables of their own, at most (cache/kv.h)

struct step {
    struct arena memory;
    int32_t max_rows, max_outputs, max_sequences, blocks_per_sequence, groups;
    int32_t *counts;              // [EXTENT_COUNT]; [EXTENT_FIXED] unused
    int32_t *tokens;              // (rows) token ids
    int32_t *positions;           // (rows)
    int32_t *slots[STEP_GROUPS];  // (rows) where keys and values go: block * KV_BLOCK + place in the block
    int32_t *outputs;             // (outputs) rows whose logits are wanted
    struct attention_tile *tiles; // (tiles)
    struct attention_tile *prefix_tiles; // (prefix tiles); `sequence`: one of those that share the keys
    int32_t *block_tables[STEP_GROUPS];  // (sequences, blocks_per_sequence)
};

// `more`: bytes that the caller will take of s->memory, for what else changes from step to step. Errors: MEMORY.
enum tlm_status step_init(struct step *s, int32_t max_rows, int32_t max_outputs, int32_t max_sequences,
                          int32_t blocks_per_sequence, int32_t groups, size_t more, struct tlm_error *err);
void step_free(struct step *s);

#endif
