// cache/kv.h -- the paged key-value cache: pools of blocks, and for each sequence tables of the blocks that it uses.
//
//     a layer's keys: [kv head][block of the pool][16 keys of head_dim numbers, in a layout of ops/paged.h]
//     sequence s:     table[s][i] is the block of positions 16 i .. 16 i + 15
//
// Layers form groups by the window of keys that a row sees; a group has one pool and one table a sequence, since layers with a
// window give back what has passed out of it and the others keep all. The same block id stands for a place in the storage of every
// layer of the group. Without values of their own (value_dim 0: latent attention) the keys stand in rows, whose first numbers are
// the values.
//
// Blocks have reference counts: sequences share what they have in common, and a block is written only by a sequence that holds
// its one reference (copy on write). Whole blocks whose rows are known stand in an index (cache/pool.h) and are found again by any
// sequence that begins with the same rows, for as long as nobody needed their place. The cache knows nothing of models: heads, sizes
// and windows come in the config. Kwon et al., "Efficient memory management for LLM serving with PagedAttention", SOSP 2023.
//
// Positions that a window has passed are gone, so a sequence with windows can be cut back by KV_SLACK positions at any time, and by
// more only while what it would see is still there.
#ifndef CACHE_KV_H
#define CACHE_KV_H

#include "cache/pool.h"
#include "ops/ops.h"
#include "ops/step.h"

enum {
    KV_GROUPS = STEP_GROUPS, // group 0 keeps all keys, and serves layers whose window got no group of its own
    KV_SLACK = 64,           // positions behind a window that are kept for cutting back
};

// Where blocks come from.
enum kv_policy {
    KV_PAGED,      // any free block
    KV_CONTIGUOUS, // each sequence has its own stretch of memory for its whole context, and shares nothing
};

// Storage in places that are not the host (core/graph.h): memory that lives as long as the cache's user, and copies within it, in order
// with what runs there.
struct kv_store {
    enum tlm_status (*alloc)(void *user, int place, void **out, size_t bytes, struct tlm_error *err);
    void (*copy)(void *user, int place, void *to, const void *from, size_t bytes);
    void *user;
};

struct kv_config {
    int32_t layers, kv_heads, head_dim, value_dim;
    const int32_t *windows; // [layers] keys a row sees, itself included, 0: all; NULL: all layers see all
    enum dtype type_k, type_v;
    enum kv_policy policy;
    int32_t sequences; // at most
    int32_t context;   // positions a sequence may reach
    int32_t rows;      // positions that are written in one pass, at most
    int32_t
        blocks; // of layers without a window; 0: `context` positions for each sequence. Others have what their windows need
    const int32_t *places; // [layers] where a layer's keys and values are, 0: the host; NULL: all are there
    // [PLACES + 1]: layers that are not the host's are shared by places, of which p has key-value heads head_cut[p] .. head_cut[p + 1]. NULL: each is
    // in its place
    const int64_t *head_cut;
    struct kv_store store; // of the other places, where keys and values stand in rows
    uint64_t
        identity; // of all that keys and values depend on beside the rows: model, adapter, types, rotation
};

struct kv_group {
    int32_t window; // 0: all keys
    struct kv_pool pool;
    int32_t *tables; // (sequences, blocks_per_sequence); KV_NONE where the window has passed
};

struct kv_sequence {
    bool used;
    int32_t length; // positions that are covered by blocks
    int32_t blocks; // entries of the tables in use
    int32_t known;  // leading blocks whose keys are known
    int32_t exact;  // positions before it hold what a pass computes; those behind stay out of the index
    int32_t first[KV_GROUPS]; // leading entries that were given back
};

struct kv_cache {
    struct kv_config config;
    struct arena
        memory[PLACES]; // storage: the host's, whose pages are touched as blocks are used, and the stores'
    struct arena books; // what follows
    struct paged_kv *keys, *values; // [layers]
    int32_t *group_of;              // [layers]
    struct kv_group groups[KV_GROUPS];
    int32_t group_count, blocks_per_sequence;
    struct kv_sequence *sequences;
    struct kv_key *chain; // (sequences, blocks_per_sequence) keys of the known blocks
    int64_t asked, found; // positions that kv_match() was asked for, and found
    int64_t copied;       // blocks copied before a write
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

// An empty sequence that nobody uses, or KV_NONE; and back with all its blocks. Who has a fixed number of sequences may do without.
int32_t kv_acquire(struct kv_cache *c);
void kv_release(struct kv_cache *c, int32_t sequence);
// From `position` on the sequence will hold something else than a pass would compute, until it is cut back to there.
void kv_mark_inexact(struct kv_cache *c, int32_t sequence, int32_t position);

// Makes the sequence at least `length` positions long, ready to be written from its present end on; windows give back what no row
// from there on will see. Errors: CONTEXT (length beyond config.context, or too few free blocks); the sequence is as long as it was.
enum tlm_status kv_reserve(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err);
// Makes the empty sequence `length` positions long, for contents from elsewhere: with blocks for what rows from there on see, and what
// may be cut back. Errors: as kv_reserve().
enum tlm_status kv_place(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err);
// Cuts the sequence to at most `length` positions. Returns what is left: `length`, or 0 where a window's keys are gone.
int32_t kv_truncate(struct kv_cache *c, int32_t sequence, int32_t length);
// Makes the empty sequence `to` share the first `length` positions of `from`. Returns `length`, or 0 as kv_truncate().
int32_t kv_fork(struct kv_cache *c, int32_t to, int32_t from, int32_t length);

// Tells which rows (token ids) stand in the sequence's first `length` positions, all computed: whole blocks go into the index. Where
// another sequence has computed the same block, it takes the place of this one's.
void kv_commit(struct kv_cache *c, int32_t sequence, const int32_t *rows, int32_t length);
// Gives the empty sequence the longest beginning of rows[0..count) that the index has. Returns its positions.
int32_t kv_match(struct kv_cache *c, int32_t sequence, const int32_t *rows, int32_t count);

// Forgets all contents that no sequence holds, and gives the memory of free blocks back to the system.
void kv_forget(struct kv_cache *c);

size_t kv_bytes(const struct kv_cache *c); // of its storage, in all places
const int32_t *kv_table(const struct kv_cache *c, int32_t group, int32_t sequence); // [blocks_per_sequence]

struct kv_stats {
    int32_t blocks, held, indexed; // of all groups: in the pools, in use, in the index
    int64_t positions;             // of all sequences, in group 0
    int64_t bytes_held;            // of the blocks in use
    int64_t bytes_idle;            // of those that nobody uses, and whose contents can be found
    int64_t asked, found;          // positions: the hit rate of the index is found / asked
    int64_t evicted, copied;       // blocks
};
struct kv_stats kv_stats(const struct kv_cache *c);

#endif
