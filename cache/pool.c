#include "cache/pool.h"

// ---- keys ---------------------------------------------------------------------------------------------

// The finalizer of MurmurHash3 (Appleby, public domain): every bit of x reaches every bit of the result.
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccd;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53;
    return x ^ x >> 33;
}

struct kv_key kv_key_next(struct kv_key before, const int32_t *rows, int32_t count)
{
    struct kv_key k = {mix(before.a + 0x9e3779b97f4a7c15), mix(before.b + 0xd1b54a32d192ed03)};
    for (int32_t i = 0; i < count; i++) {
        uint64_t row = (uint32_t)rows[i];
        k.a = mix(k.a ^ row) + k.b;
        k.b = mix(k.b + row * 0xa0761d6478bd642f) ^ k.a;
    }
    return k;
}

static bool same(struct kv_key x, struct kv_key y)
{
    return x.a == y.a && x.b == y.b;
}

// ---- the list of free blocks --------------------------------------------------------------------------

static void unlink_free(struct kv_pool *p, int32_t block)
{
    struct kv_block *b = &p->blocks[block];
    *(b->before == KV_NONE ? &p->first_free : &p->blocks[b->before].after) = b->after;
    *(b->after == KV_NONE ? &p->last_free : &p->blocks[b->after].before) = b->before;
    p->free_count--;
}

static void push_front(struct kv_pool *p, int32_t block)
{
    p->blocks[block].before = KV_NONE;
    p->blocks[block].after = p->first_free;
    *(p->first_free == KV_NONE ? &p->last_free : &p->blocks[p->first_free].before) = block;
    p->first_free = block;
    p->free_count++;
}

static void push_back(struct kv_pool *p, int32_t block)
{
    p->blocks[block].after = KV_NONE;
    p->blocks[block].before = p->last_free;
    *(p->last_free == KV_NONE ? &p->first_free : &p->blocks[p->last_free].after) = block;
    p->last_free = block;
    p->free_count++;
}

// ---- the pool -----------------------------------------------------------------------------------------

static uint32_t bucket_count(int32_t count)
{
    uint32_t n = 16;
    while (n < (uint32_t)count) n *= 2;
    return n;
}

size_t pool_bytes(int32_t count)
{
    return align_up((size_t)count * sizeof(struct kv_block), ARENA_ALIGN) +
           align_up(bucket_count(count) * sizeof(int32_t), ARENA_ALIGN);
}

void pool_init(struct kv_pool *p, int32_t count, struct arena *books)
{
    *p = (struct kv_pool){
        .count = count, .first_free = KV_NONE, .last_free = KV_NONE, .bucket_mask = bucket_count(count) - 1};
    p->blocks = arena_alloc(books, (size_t)count * sizeof *p->blocks);
    p->buckets = arena_alloc(books, (p->bucket_mask + 1) * sizeof *p->buckets);
    for (uint32_t i = 0; i <= p->bucket_mask; i++) p->buckets[i] = KV_NONE;
    for (int32_t b = count; b-- > 0;) push_front(p, b); // block 0 is taken first
}

void pool_take_block(struct kv_pool *p, int32_t block)
{
    TLM_ASSERT(p->blocks[block].references == 0);
    if (p->blocks[block].indexed) {
        pool_unindex(p, block);
        p->evicted++;
    }
    unlink_free(p, block);
    p->blocks[block].references = 1;
}

int32_t pool_take(struct kv_pool *p)
{
    int32_t block = p->first_free;
    if (block != KV_NONE) pool_take_block(p, block);
    return block;
}

void pool_hold(struct kv_pool *p, int32_t block)
{
    if (p->blocks[block].references++ == 0) unlink_free(p, block);
}

bool pool_release(struct kv_pool *p, int32_t block)
{
    struct kv_block *b = &p->blocks[block];
    TLM_ASSERT(b->references > 0);
    if (--b->references) return false;
    if (b->indexed)
        push_back(p, block);
    else
        push_front(p, block);
    return !b->indexed;
}

static int32_t *bucket_of(const struct kv_pool *p, struct kv_key key)
{
    return &p->buckets[key.a & p->bucket_mask];
}

int32_t pool_find(const struct kv_pool *p, struct kv_key key)
{
    for (int32_t b = *bucket_of(p, key); b != KV_NONE; b = p->blocks[b].same_bucket)
        if (same(p->blocks[b].key, key)) return b;
    return KV_NONE;
}

int32_t pool_index(struct kv_pool *p, int32_t block, struct kv_key key)
{
    int32_t other = pool_find(p, key), *bucket = bucket_of(p, key);
    if (other != KV_NONE) return other;
    struct kv_block *b = &p->blocks[block];
    TLM_ASSERT(b->references > 0 && !b->indexed);
    b->key = key;
    b->indexed = true;
    b->same_bucket = *bucket;
    *bucket = block;
    p->indexed++;
    return block;
}

static bool is_idle(const struct kv_block *b)
{
    return b->indexed && b->references == 0;
}

int32_t pool_idle(const struct kv_pool *p)
{
    int32_t count = 0;
    for (int32_t b = 0; b < p->count; b++) count += is_idle(&p->blocks[b]);
    return count;
}

void pool_forget(struct kv_pool *p)
{
    for (int32_t b = 0; b < p->count; b++)
        if (is_idle(&p->blocks[b])) pool_unindex(p, b);
}

void pool_unindex(struct kv_pool *p, int32_t block)
{
    struct kv_block *b = &p->blocks[block];
    int32_t *at = bucket_of(p, b->key);
    while (*at != block) at = &p->blocks[*at].same_bucket;
    *at = b->same_bucket;
    b->indexed = false;
    p->indexed--;
}
