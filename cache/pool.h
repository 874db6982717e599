// cache/pool.h -- the blocks of one storage: who holds them, which are free, and which still have contents worth finding.
//
// A block that nobody holds is free. Free blocks stand in a list: those without findable contents at its front, the others
// behind them, the longest unused first. Blocks are taken from the front, so contents are lost only when there is nothing
// else, least recently used first; until then whoever asks for the same contents by their key gets them back.
#ifndef CACHE_POOL_H
#define CACHE_POOL_H

#include "core/arena.h"

enum { KV_NONE = -1 };

// The name of a block's contents: a hash of 128 bits over everything that its numbers depend on, which is all rows from the
// start of the sequence and the settings of the model.
struct kv_key {
    uint64_t a, b;
};

// The key of `count` more row keys (token ids) behind `before`.
struct kv_key kv_key_next(struct kv_key before, const int32_t *rows, int32_t count);

struct kv_block {
    struct kv_key key;
    int32_t references;
    int32_t before, after; // in the list of free blocks
    int32_t same_bucket;   // next in the index
    bool indexed;
};

struct kv_pool {
    struct kv_block *blocks; // [count]
    int32_t count;
    int32_t first_free, last_free, free_count;
    int32_t *buckets; // [bucket_mask + 1] of the index
    uint32_t bucket_mask;
    int64_t indexed; // blocks in the index
    int64_t evicted; // findable contents that were given up for others
};

// Bytes that pool_init() takes from the arena.
size_t pool_bytes(int32_t count);
void pool_init(struct kv_pool *p, int32_t count, struct arena *books);

// A block without contents and with one reference; KV_NONE where none is free.
int32_t pool_take(struct kv_pool *p);
// The same for one block of the caller's choice, which must be free.
void pool_take_block(struct kv_pool *p, int32_t block);
void pool_hold(struct kv_pool *p, int32_t block); // one reference more, maybe the first
// One reference less. True where the block is free now and its contents are not in the index.
bool pool_release(struct kv_pool *p, int32_t block);

// Makes the block's contents findable. Returns the block that has this key: this one, or one that had it before.
int32_t pool_index(struct kv_pool *p, int32_t block, struct kv_key key);
void pool_unindex(struct kv_pool *p, int32_t block);
int32_t pool_find(const struct kv_pool *p, struct kv_key key); // KV_NONE: not there
// Blocks that nobody holds and whose contents can be found.
int32_t pool_idle(const struct kv_pool *p);
// Takes all of them out of the index.
void pool_forget(struct kv_pool *p);

#endif
