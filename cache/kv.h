// cache/kv.h -- the paged key-value cache: a pool of blocks, and for each sequence a table of the blocks it uses.
//
//     a layer's keys: [kv head][block of the pool][16 keys of head_dim numbers, in a layout of ops/paged.h]
//     sequence s: table[s][i] is the block of positions 16 i .. 16 i + 15
//
// Without values of their own (value_dim 0: latent attention) the keys stand in rows, whose first numbers are the values.
//
// Block ids are logical: the same id stands for a place in every layer's storage. A block has a reference count; it is
// written only by a sequence that holds the one reference. The cache knows nothing of models: heads and sizes come in the
// config. Kwon et al., "Efficient memory management for LLM serving with PagedAttention", SOSP 2023.
#ifndef CACHE_KV_H
#define CACHE_KV_H

#include "core/arena.h"
#include "ops/ops.h"

struct kv_config {
    int32_t layers, kv_heads, head_dim, value_dim;
    enum dtype type_k, type_v;
    int32_t sequences; // at most
    int32_t context;   // positions a sequence may reach
    int32_t blocks;    // in the pool
};

struct kv_sequence {
    int32_t length;      // positions that are covered by blocks and counted as written
    int32_t block_count; // entries of the table in use
};

struct kv_cache {
    struct kv_config config;
    struct arena memory;            // storage of all layers; pages are touched as blocks are used
    struct arena books;             // what follows
    struct paged_kv *keys, *values; // [layers]
    int32_t *references;            // [blocks]
    int32_t *free_blocks;           // stack
    int32_t free_count;
    struct kv_sequence *sequences;
    int32_t *tables; // (sequences, blocks_per_sequence)
    int32_t blocks_per_sequence;
};

// Blocks that `positions` positions take.
static inline int32_t kv_blocks(int32_t positions)
{
    return (positions + KV_BLOCK - 1) / KV_BLOCK;
}

size_t kv_storage_bytes(const struct kv_config *config);
// Errors: ARGUMENT (a head size that the type's blocks do not divide), MEMORY (with the bytes).
enum tlm_status kv_open(struct kv_cache *c, const struct kv_config *config, struct tlm_error *err);
void kv_close(struct kv_cache *c);

// Makes the sequence `length` positions long: takes blocks from the pool, or gives back those behind the end.
// Errors: CONTEXT (length beyond config.context, or no free block); the sequence is as it was.
enum tlm_status kv_resize(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err);
const int32_t *kv_table(const struct kv_cache *c, int32_t sequence); // [blocks_per_sequence]

#endif
