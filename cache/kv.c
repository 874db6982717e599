#include "cache/kv.h"

#include "ops/paged.h"

#ifdef TLM_DEBUG
enum { DEBUG_FILL = 1 };
#else
enum { DEBUG_FILL = 0 };
#endif

// ---- storage ------------------------------------------------------------------------------------------

static int32_t place_of(const struct kv_config *c, int32_t l)
{
    return c->places ? c->places[l] : 0;
}

static struct paged_kv layout_keys(const struct kv_config *c, int32_t l, int32_t blocks)
{
    return paged_layout(c->type_k, c->value_dim && !place_of(c, l) ? KV_KEYS : KV_ROWS, blocks, c->head_dim);
}

static struct paged_kv layout_values(const struct kv_config *c, int32_t l, int32_t blocks)
{
    return paged_layout(c->type_v, place_of(c, l) ? KV_ROWS : KV_VALUES, blocks, c->value_dim);
}

static bool is_shared(const struct kv_config *c, int32_t l)
{
    return c->head_cut && place_of(c, l);
}

// Heads of a layer's keys and values that are in that place.
static int64_t heads_in(const struct kv_config *c, int32_t l, int place)
{
    if (is_shared(c, l)) return c->head_cut[place + 1] - c->head_cut[place];
    return place_of(c, l) == place ? c->kv_heads : 0;
}

// Bytes of one layer's keys or values in that place.
static size_t layer_bytes(const struct kv_config *c, struct paged_kv layout, int32_t l, int place)
{
    return align_up(layout.head_stride * (size_t)heads_in(c, l, place), 4096);
}

// The group of layer l; a window not met before gets the next one.
static int32_t group_of_layer(const struct kv_config *c, int32_t l, int32_t windows[KV_GROUPS],
                              int32_t *count)
{
    int32_t w = c->windows ? c->windows[l] : 0;
    if (w >= c->context) w = 0;
    for (int32_t g = 0; g < *count; g++)
        if (windows[g] == w) return g;
    if (*count == KV_GROUPS) return 0;
    windows[*count] = w;
    return (*count)++;
}

// Blocks in the pool of a group.
static int32_t pool_size(const struct kv_config *c, int32_t window)
{
    int64_t all = c->blocks ? c->blocks : (int64_t)c->sequences * kv_blocks(c->context);
    if (c->policy == KV_CONTIGUOUS) return (int32_t)((int64_t)c->sequences * kv_blocks(c->context));
    if (!window) return (int32_t)all;
    // What a sequence holds while a pass runs, and as much again for beginnings that are asked for later.
    int64_t most = 2 * (int64_t)c->sequences * (kv_blocks(window + KV_SLACK) + kv_blocks(c->rows) + 2);
    return (int32_t)(most < all ? most : all);
}

// Of the layers in each place.
static void storage_bytes(const struct kv_config *c, size_t bytes[PLACES])
{
    int32_t windows[KV_GROUPS] = {0}, count = 1;
    memset(bytes, 0, PLACES * sizeof *bytes);
    for (int32_t l = 0; l < c->layers; l++) {
        int32_t blocks = pool_size(c, windows[group_of_layer(c, l, windows, &count)]);
        for (int i = 0; i < PLACES; i++)
            bytes[i] += layer_bytes(c, layout_keys(c, l, blocks), l, i) +
                        layer_bytes(c, layout_values(c, l, blocks), l, i);
    }
}

size_t kv_storage_bytes(const struct kv_config *c)
{
    size_t bytes[PLACES], sum = 0;
    storage_bytes(c, bytes);
    for (int i = 0; i < PLACES; i++) sum += bytes[i];
    return sum;
}

static enum tlm_status whole_blocks(enum dtype type, int32_t dim, const char *what, struct tlm_error *err)
{
    int size = dtype_traits[type].block_size;
    if (dim % size == 0) return TLM_OK;
    return error_set(
        err, TLM_ERR_ARGUMENT,
        "type of cached %s: %s has blocks of %d numbers: expected a multiple as head size, found %d", what,
        dtype_traits[type].name, size, dim);
}

// Layers into groups; returns the bytes of all books.
static size_t lay_out(struct kv_cache *c)
{
    const struct kv_config *config = &c->config;
    int32_t windows[KV_GROUPS] = {0};
    size_t layers = (size_t)config->layers, sequences = (size_t)config->sequences;
    size_t entries = sequences * (size_t)c->blocks_per_sequence;
    c->group_count = 1;
    for (int32_t l = 0; l < config->layers; l++) group_of_layer(config, l, windows, &c->group_count);
    size_t bytes = layers * (2 * sizeof *c->keys + sizeof *c->group_of) + sequences * sizeof *c->sequences +
                   entries * sizeof *c->chain;
    if (config->head_cut) bytes += 2 * layers * align_up(sizeof(struct paged_share), ARENA_ALIGN);
    for (int32_t g = 0; g < c->group_count; g++) {
        c->groups[g].window = windows[g];
        bytes += pool_bytes(pool_size(config, windows[g])) + entries * sizeof *c->groups[g].tables;
    }
    return bytes + 16 * ARENA_ALIGN;
}

// What all layers take, of the arena or of the store.
static enum tlm_status open_storage(struct kv_cache *c, struct tlm_error *err)
{
    size_t bytes[PLACES];
    void *memory;
    enum tlm_status s = TLM_OK;
    storage_bytes(&c->config, bytes);
    if (bytes[0]) s = arena_init(&c->memory[0], bytes[0], "key-value cache", err);
    for (int i = 1; i < PLACES && !s; i++) {
        if (!bytes[i] || (s = c->config.store.alloc(c->config.store.user, i, &memory, bytes[i], err)))
            continue;
        c->memory[i] = (struct arena){.base = memory, .size = bytes[i]};
    }
    return s;
}

// The storage of a layer's keys or values, in one place or in several.
static void open_store(struct kv_cache *c, int32_t l, struct paged_kv *kv)
{
    struct paged_share *share = NULL;
    if (!is_shared(&c->config, l)) {
        const int place = place_of(&c->config, l);
        kv->data = arena_alloc(&c->memory[place], layer_bytes(&c->config, *kv, l, place));
        return;
    }
    kv->share = share = arena_alloc(&c->books, sizeof *share);
    memcpy(share->first, c->config.head_cut, sizeof share->first);
    for (int i = 0; i < PLACES; i++)
        if (heads_in(&c->config, l, i))
            share->data[i] = arena_alloc(&c->memory[i], layer_bytes(&c->config, *kv, l, i));
}

static void open_layer(struct kv_cache *c, int32_t l, int32_t windows[KV_GROUPS], int32_t *count)
{
    c->group_of[l] = group_of_layer(&c->config, l, windows, count);
    int32_t blocks = c->groups[c->group_of[l]].pool.count;
    c->keys[l] = layout_keys(&c->config, l, blocks);
    c->values[l] = layout_values(&c->config, l, blocks);
    open_store(c, l, &c->keys[l]);
    open_store(c, l, &c->values[l]);
}

enum tlm_status kv_open(struct kv_cache *c, const struct kv_config *config, struct tlm_error *err)
{
    *c = (struct kv_cache){.config = *config, .blocks_per_sequence = kv_blocks(config->context)};
    size_t layers = (size_t)config->layers, sequences = (size_t)config->sequences,
           entries = sequences * (size_t)c->blocks_per_sequence;
    enum tlm_status s;
    if ((s = whole_blocks(config->type_k, config->head_dim, "keys", err)) ||
        (s = whole_blocks(config->type_v, config->value_dim, "values", err)) || (s = open_storage(c, err))) {
        kv_close(c);
        return s;
    }
    if ((s = arena_init(&c->books, lay_out(c), "key-value cache", err))) {
        kv_close(c);
        return s;
    }
    for (int32_t g = 0; g < c->group_count; g++) {
        pool_init(&c->groups[g].pool, pool_size(config, c->groups[g].window), &c->books);
        c->groups[g].tables = arena_alloc(&c->books, entries * sizeof *c->groups[g].tables);
    }
    c->keys = arena_alloc(&c->books, layers * sizeof *c->keys);
    c->values = arena_alloc(&c->books, layers * sizeof *c->values);
    c->group_of = arena_alloc(&c->books, layers * sizeof *c->group_of);
    c->sequences = arena_alloc(&c->books, sequences * sizeof *c->sequences);
    c->chain = arena_alloc(&c->books, entries * sizeof *c->chain);
    int32_t windows[KV_GROUPS] = {0}, count = 1;
    for (size_t i = 0; i < sequences; i++) c->sequences[i].exact = INT32_MAX;
    for (int32_t l = 0; l < config->layers; l++) open_layer(c, l, windows, &count);
    c->config.windows = c->config.places = NULL; // the caller's
    c->config.head_cut = NULL;
    return TLM_OK;
}

void kv_close(struct kv_cache *c)
{
    arena_free(&c->memory[0]); // the others are the stores'
    arena_free(&c->books);
    *c = (struct kv_cache){0};
}

static int32_t *table_of(const struct kv_cache *c, int32_t group, int32_t sequence)
{
    return c->groups[group].tables + (int64_t)sequence * c->blocks_per_sequence;
}

const int32_t *kv_table(const struct kv_cache *c, int32_t group, int32_t sequence)
{
    return table_of(c, group, sequence);
}

static struct kv_key *chain_of(const struct kv_cache *c, int32_t sequence)
{
    return c->chain + (int64_t)sequence * c->blocks_per_sequence;
}

// ---- blocks -------------------------------------------------------------------------------------------

// Calls the function for the block's keys and values of each layer and head: `bytes` at `rows`, `apart` bytes a block.
#define EACH_STORE(c, group, CALL)                                                              \
    for (int32_t l_ = 0; l_ < (c)->config.layers; l_++)                                         \
        for (int32_t h_ = 0; (c)->group_of[l_] == (group) && h_ < (c)->config.kv_heads; h_++) { \
            CALL(&(c)->keys[l_], h_);                                                           \
            CALL(&(c)->values[l_], h_);                                                         \
        }

// The 16 rows of a block and head, wherever they are.
static char *rows_of(const struct paged_kv *kv, int64_t block, int32_t head)
{
    int place = 0;
    if (!kv->share) return paged_rows(kv, block, head);
    while (head >= kv->share->first[place + 1]) place++;
    return kv->share->data[place] + (size_t)block * kv->block_stride +
           (size_t)(head - kv->share->first[place]) * kv->head_stride;
}

// The place of the storage that the address is in.
static int place_at(const struct kv_cache *c, const char *p)
{
    for (int i = 1; i < PLACES; i++)
        if (c->memory[i].base && p >= c->memory[i].base && p < c->memory[i].base + c->memory[i].size)
            return i;
    return 0;
}

// All bits set is a NaN in every floating type, and in the scales of the others: who reads a block that was given back
// shows it.
static void poison(const struct kv_cache *c, int32_t group, int32_t block)
{
#define POISON(kv, head) \
    if (!place_at(c, rows_of(kv, block, head))) memset(rows_of(kv, block, head), 0xff, (kv)->block_stride)
    EACH_STORE(c, group, POISON);
}

static void copy_rows(const struct kv_cache *c, char *to, const char *from, size_t bytes)
{
    const int place = place_at(c, to);
    if (place)
        c->config.store.copy(c->config.store.user, place, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void give_back(const struct kv_cache *c, char *rows, size_t bytes)
{
    if (!place_at(c, rows)) arena_give_back(rows, bytes);
}

static void copy_block(const struct kv_cache *c, int32_t group, int32_t to, int32_t from)
{
#define COPY(kv, head) copy_rows(c, rows_of(kv, to, head), rows_of(kv, from, head), (kv)->block_stride)
    EACH_STORE(c, group, COPY);
}

static void release(struct kv_cache *c, int32_t group, int32_t *entry)
{
    if (*entry == KV_NONE) return;
    if (pool_release(&c->groups[group].pool, *entry) && DEBUG_FILL) poison(c, group, *entry);
    *entry = KV_NONE;
}

// A block for place i of the sequence; the caller has seen to it that there is one. A block with nothing worth finding in the
// sequence's own stretch of the pool comes first: so sequences that grow in turn do not lie between each other, which would cost a step
// behind 4,000 tokens a tenth of its time, or a quarter where each head has keys of its own.
static int32_t take(struct kv_cache *c, int32_t group, int32_t sequence, int32_t i)
{
    struct kv_pool *pool = &c->groups[group].pool;
    if (c->config.policy == KV_PAGED) {
        int32_t stretch = pool->count / c->config.sequences;
        int32_t own = stretch ? sequence * stretch + i % stretch : KV_NONE;
        if (own == KV_NONE || pool->blocks[own].references || pool->blocks[own].indexed)
            return pool_take(pool);
        pool_take_block(pool, own);
        return own;
    }
    int32_t block = sequence * c->blocks_per_sequence + i;
    pool_take_block(pool, block);
    return block;
}

// The first block that rows from position `next` on see.
static int32_t first_seen(const struct kv_group *g, int32_t next)
{
    return g->window && next >= g->window ? (next - g->window + 1) / KV_BLOCK : 0;
}

// The first block that is kept while rows from position `next` on are written.
static int32_t kept_from(const struct kv_group *g, int32_t next)
{
    return next < KV_SLACK ? 0 : first_seen(g, next - KV_SLACK);
}

// Gives back what has passed out of the windows of rows from position `next` on.
static void slide(struct kv_cache *c, int32_t sequence, int32_t next)
{
    struct kv_sequence *s = &c->sequences[sequence];
    for (int32_t g = 0; g < c->group_count; g++) {
        int32_t *table = table_of(c, g, sequence);
        int32_t keep = kept_from(&c->groups[g], next);
        while (s->first[g] < keep && s->first[g] < s->blocks) release(c, g, &table[s->first[g]++]);
    }
}

// ---- sequences ----------------------------------------------------------------------------------------

// Whether the block where writing goes on has other holders.
static bool must_copy(const struct kv_cache *c, int32_t group, int32_t sequence)
{
    const struct kv_sequence *s = &c->sequences[sequence];
    if (s->length % KV_BLOCK == 0) return false;
    int32_t block = table_of(c, group, sequence)[s->length / KV_BLOCK];
    return c->groups[group].pool.blocks[block].references > 1;
}

// Makes the block where writing goes on the sequence's own, and unknown to the index.
static void make_own(struct kv_cache *c, int32_t group, int32_t sequence)
{
    const struct kv_sequence *s = &c->sequences[sequence];
    if (s->length % KV_BLOCK == 0) return;
    struct kv_pool *pool = &c->groups[group].pool;
    int32_t i = s->length / KV_BLOCK, *entry = &table_of(c, group, sequence)[i];
    if (must_copy(c, group, sequence)) {
        int32_t own = take(c, group, sequence, i);
        copy_block(c, group, own, *entry);
        c->copied++;
        release(c, group, entry);
        *entry = own;
    } else if (pool->blocks[*entry].indexed) {
        pool_unindex(pool, *entry);
    }
}

int32_t kv_acquire(struct kv_cache *c)
{
    for (int32_t s = 0; s < c->config.sequences; s++) {
        if (c->sequences[s].used) continue;
        TLM_ASSERT(c->sequences[s].blocks == 0);
        c->sequences[s].used = true;
        return s;
    }
    return KV_NONE;
}

void kv_release(struct kv_cache *c, int32_t sequence)
{
    TLM_ASSERT(c->sequences[sequence].used);
    kv_truncate(c, sequence, 0);
    c->sequences[sequence].used = false;
}

void kv_mark_inexact(struct kv_cache *c, int32_t sequence, int32_t position)
{
    struct kv_sequence *s = &c->sequences[sequence];
    if (position < s->exact) s->exact = position;
}

enum tlm_status kv_reserve(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err)
{
    TLM_ASSERT(sequence >= 0 && sequence < c->config.sequences && length >= 0);
    struct kv_sequence *s = &c->sequences[sequence];
    int32_t want = kv_blocks(length);
    if (length <= s->length) return TLM_OK;
    if (length > c->config.context)
        return error_set(err, TLM_ERR_CONTEXT,
                         "context: %d tokens do not fit into the %d that were asked for (-c)", length,
                         c->config.context);
    slide(c, sequence, s->length);
    for (int32_t g = 0; g < c->group_count; g++) {
        const struct kv_pool *pool = &c->groups[g].pool;
        int32_t from = s->first[g] > s->blocks ? s->first[g] : s->blocks;
        int32_t need = want - from + must_copy(c, g, sequence);
        if (need > pool->free_count)
            return error_set(err, TLM_ERR_CONTEXT, "key-value cache: %d blocks are needed, %d of %d are free",
                             need, pool->free_count, pool->count);
    }
    for (int32_t g = 0; g < c->group_count; g++) {
        make_own(c, g, sequence);
        for (int32_t i = s->first[g] > s->blocks ? s->first[g] : s->blocks; i < want; i++)
            table_of(c, g, sequence)[i] = take(c, g, sequence, i);
    }
    s->blocks = want;
    s->length = length;
    return TLM_OK;
}

enum tlm_status kv_place(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err)
{
    struct kv_sequence *s = &c->sequences[sequence];
    TLM_ASSERT(s->blocks == 0);
    for (int32_t g = 0; g < c->group_count; g++)
        for (s->first[g] = 0; s->first[g] < kept_from(&c->groups[g], length); s->first[g]++)
            table_of(c, g, sequence)[s->first[g]] = KV_NONE;
    enum tlm_status status = kv_reserve(c, sequence, length, err);
    if (status) memset(s->first, 0, sizeof s->first);
    return status;
}

// Whether all windows still have what a row at position `next` sees.
static bool all_there(const struct kv_cache *c, const struct kv_sequence *s, int32_t next)
{
    for (int32_t g = 0; g < c->group_count; g++)
        if (s->first[g] > first_seen(&c->groups[g], next)) return false;
    return true;
}

int32_t kv_truncate(struct kv_cache *c, int32_t sequence, int32_t length)
{
    struct kv_sequence *s = &c->sequences[sequence];
    TLM_ASSERT(length >= 0);
    if (length >= s->length) return s->length;
    if (!all_there(c, s, length)) length = 0;
    int32_t keep = kv_blocks(length);
    for (int32_t g = 0; g < c->group_count; g++) {
        int32_t *table = table_of(c, g, sequence);
        for (int32_t i = s->blocks; i-- > keep;)
            release(c, g, &table[i]); // so the end is forgotten before the beginning
        if (s->first[g] > keep) s->first[g] = keep;
    }
    s->blocks = keep;
    s->length = length;
    if (s->exact >= length) s->exact = INT32_MAX;
    if (s->known > length / KV_BLOCK) s->known = length / KV_BLOCK;
    return length;
}

int32_t kv_fork(struct kv_cache *c, int32_t to, int32_t from, int32_t length)
{
    struct kv_sequence *s = &c->sequences[to];
    const struct kv_sequence *f = &c->sequences[from];
    TLM_ASSERT(to != from && s->blocks == 0 && length <= f->length);
    if (!all_there(c, f, length)) return 0;
    int32_t blocks = kv_blocks(length), known = length / KV_BLOCK < f->known ? length / KV_BLOCK : f->known;
    s->length = length;
    s->blocks = blocks;
    s->known = known;
    s->exact = f->exact < length ? f->exact : INT32_MAX;
    memcpy(s->first, f->first, sizeof s->first);
    for (int32_t g = 0; g < c->group_count; g++) {
        int32_t *table = table_of(c, g, to);
        const int32_t *other = table_of(c, g, from);
        for (int32_t i = 0; i < blocks; i++) {
            table[i] = other[i];
            if (other[i] == KV_NONE) continue;
            if (c->config.policy == KV_CONTIGUOUS)
                copy_block(c, g, table[i] = take(c, g, to, i), other[i]);
            else
                pool_hold(&c->groups[g].pool, table[i]);
        }
    }
    memcpy(chain_of(c, to), chain_of(c, from), (size_t)known * sizeof *c->chain);
    return length;
}

// ---- the index of beginnings --------------------------------------------------------------------------

// The key of block i, behind those in chain[0..i).
static struct kv_key key_of(const struct kv_cache *c, const struct kv_key *chain, int32_t i,
                            const int32_t *rows)
{
    struct kv_key root = {c->config.identity, ~c->config.identity};
    return kv_key_next(i ? chain[i - 1] : root, rows + (int64_t)i * KV_BLOCK, KV_BLOCK);
}

void kv_commit(struct kv_cache *c, int32_t sequence, const int32_t *rows, int32_t length)
{
    struct kv_sequence *s = &c->sequences[sequence];
    struct kv_key *chain = chain_of(c, sequence);
    TLM_ASSERT(length <= s->length);
    if (c->config.policy == KV_CONTIGUOUS) return;
    if (length > s->exact) length = s->exact;
    for (; s->known < length / KV_BLOCK; s->known++) {
        int32_t i = s->known;
        chain[i] = key_of(c, chain, i, rows);
        for (int32_t g = 0; g < c->group_count; g++) {
            struct kv_pool *pool = &c->groups[g].pool;
            int32_t *entry = &table_of(c, g, sequence)[i];
            if (*entry == KV_NONE) continue;
            int32_t block = pool_index(pool, *entry, chain[i]);
            if (block == *entry) continue;
            pool_hold(pool, block);
            release(c, g, entry);
            *entry = block;
        }
    }
}

int32_t kv_match(struct kv_cache *c, int32_t sequence, const int32_t *rows, int32_t count)
{
    struct kv_sequence *s = &c->sequences[sequence];
    struct kv_key *chain = chain_of(c, sequence);
    TLM_ASSERT(s->blocks == 0);
    int32_t found = 0, run[KV_GROUPS] = {0}; // run: blocks in a row that a group has, up to here
    for (int32_t i = 0; i < count / KV_BLOCK && i < c->blocks_per_sequence; i++) {
        chain[i] = key_of(c, chain, i, rows);
        bool enough = true;
        for (int32_t g = 0; g < c->group_count; g++) {
            run[g] = pool_find(&c->groups[g].pool, chain[i]) == KV_NONE ? 0 : run[g] + 1;
            if (run[g] < i + 1 - first_seen(&c->groups[g], (i + 1) * KV_BLOCK)) enough = false;
        }
        if (enough) found = i + 1;
        if (run[0] == 0) break;
    }
    for (int32_t g = 0; g < c->group_count; g++) {
        int32_t *table = table_of(c, g, sequence);
        s->first[g] = first_seen(&c->groups[g], found * KV_BLOCK);
        for (int32_t i = 0; i < found; i++) {
            table[i] = i < s->first[g] ? KV_NONE : pool_find(&c->groups[g].pool, chain[i]);
            if (table[i] != KV_NONE) pool_hold(&c->groups[g].pool, table[i]);
        }
    }
    s->blocks = s->known = found;
    s->length = found * KV_BLOCK;
    c->asked += count;
    c->found += s->length;
    return s->length;
}

void kv_forget(struct kv_cache *c)
{
    for (int32_t g = 0; g < c->group_count; g++) {
        struct kv_pool *p = &c->groups[g].pool;
        pool_forget(p);
        for (int32_t b = 0, end; b < p->count; b = end + 1) {
            for (end = b; end < p->count && !p->blocks[end].references;) end++;
#define GIVE_BACK(kv, head) give_back(c, rows_of(kv, b, head), (size_t)(end - b) * (kv)->block_stride)
            if (end > b) EACH_STORE(c, g, GIVE_BACK);
        }
    }
}

// Bytes of a block of the group.
static int64_t block_bytes(const struct kv_cache *c, int32_t group)
{
    size_t bytes = 0;
#define ADD(kv, head) bytes += (kv)->block_stride
    EACH_STORE(c, group, ADD);
    return (int64_t)bytes;
}

size_t kv_bytes(const struct kv_cache *c)
{
    size_t sum = 0;
    for (int i = 0; i < PLACES; i++) sum += c->memory[i].size;
    return sum;
}

struct kv_stats kv_stats(const struct kv_cache *c)
{
    struct kv_stats s = {.asked = c->asked, .found = c->found, .copied = c->copied};
    for (int32_t g = 0; g < c->group_count; g++) {
        const struct kv_pool *p = &c->groups[g].pool;
        int32_t held = p->count - p->free_count;
        s.blocks += p->count;
        s.held += held;
        s.indexed += (int32_t)p->indexed;
        s.evicted += p->evicted;
        s.bytes_held += held * block_bytes(c, g);
        s.bytes_idle += pool_idle(p) * block_bytes(c, g);
    }
    for (int32_t i = 0; i < c->config.sequences; i++) s.positions += c->sequences[i].length;
    return s;
}
