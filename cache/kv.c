#include "cache/kv.h"

#ifdef TLM_DEBUG
enum { DEBUG_FILL = 1 };
#else
enum { DEBUG_FILL = 0 };
#endif

static struct paged_kv layout(enum dtype type, int32_t heads, int32_t dim)
{
    struct paged_kv kv = {.type = type, .token_stride = dtype_row_bytes(type, dim)};
    kv.head_stride = KV_BLOCK * kv.token_stride;
    kv.block_stride = (size_t)heads * kv.head_stride;
    return kv;
}

// Bytes of one layer's keys or values.
static size_t layer_bytes(const struct kv_config *c, enum dtype type, int32_t dim)
{
    return align_up(layout(type, c->kv_heads, dim).block_stride * (size_t)c->blocks, 4096);
}

size_t kv_storage_bytes(const struct kv_config *c)
{
    return (size_t)c->layers *
           (layer_bytes(c, c->type_k, c->head_dim) + layer_bytes(c, c->type_v, c->value_dim));
}

enum tlm_status kv_open(struct kv_cache *c, const struct kv_config *config, struct tlm_error *err)
{
    *c = (struct kv_cache){.config = *config, .blocks_per_sequence = kv_blocks(config->context)};
    size_t layers = (size_t)config->layers, blocks = (size_t)config->blocks,
           sequences = (size_t)config->sequences;
    size_t table = sequences * (size_t)c->blocks_per_sequence;
    enum tlm_status s = arena_init(&c->memory, kv_storage_bytes(config), "key-value cache", err);
    if (s) return s;
    size_t books =
        2 * layers * sizeof *c->keys + 2 * blocks * 4 + sequences * sizeof *c->sequences + table * 4;
    if ((s = arena_init(&c->books, books + 8 * ARENA_ALIGN, "key-value cache", err))) {
        kv_close(c);
        return s;
    }
    c->keys = arena_alloc(&c->books, layers * sizeof *c->keys);
    c->values = arena_alloc(&c->books, layers * sizeof *c->values);
    c->references = arena_alloc(&c->books, blocks * 4);
    c->free_blocks = arena_alloc(&c->books, blocks * 4);
    c->sequences = arena_alloc(&c->books, sequences * sizeof *c->sequences);
    c->tables = arena_alloc(&c->books, table * 4);
    for (size_t l = 0; l < layers; l++) {
        c->keys[l] = layout(config->type_k, config->kv_heads, config->head_dim);
        c->values[l] = layout(config->type_v, config->kv_heads, config->value_dim);
        c->keys[l].data = arena_alloc(&c->memory, layer_bytes(config, config->type_k, config->head_dim));
        c->values[l].data = arena_alloc(&c->memory, layer_bytes(config, config->type_v, config->value_dim));
    }
    for (int32_t b = config->blocks; b-- > 0;) c->free_blocks[c->free_count++] = b; // block 0 is taken first
    return TLM_OK;
}

void kv_close(struct kv_cache *c)
{
    arena_free(&c->memory);
    arena_free(&c->books);
    *c = (struct kv_cache){0};
}

static int32_t *table_of(struct kv_cache *c, int32_t sequence)
{
    return c->tables + (int64_t)sequence * c->blocks_per_sequence;
}

const int32_t *kv_table(const struct kv_cache *c, int32_t sequence)
{
    return c->tables + (int64_t)sequence * c->blocks_per_sequence;
}

// All bits set is a NaN in every floating type: who reads a block that was given back shows it.
static void poison(struct kv_cache *c, int32_t block)
{
    for (int32_t l = 0; l < c->config.layers; l++) {
        memset(c->keys[l].data + (size_t)block * c->keys[l].block_stride, 0xff, c->keys[l].block_stride);
        memset(c->values[l].data + (size_t)block * c->values[l].block_stride, 0xff,
               c->values[l].block_stride);
    }
}

enum tlm_status kv_resize(struct kv_cache *c, int32_t sequence, int32_t length, struct tlm_error *err)
{
    TLM_ASSERT(sequence >= 0 && sequence < c->config.sequences && length >= 0);
    struct kv_sequence *s = &c->sequences[sequence];
    int32_t *table = table_of(c, sequence), want = kv_blocks(length);
    if (length > c->config.context)
        return error_set(err, TLM_ERR_CONTEXT,
                         "context: %d tokens do not fit into the %d that were asked for (-c)", length,
                         c->config.context);
    if (want - s->block_count > c->free_count)
        return error_set(err, TLM_ERR_CONTEXT, "key-value cache: %d blocks are needed, %d of %d are free",
                         want - s->block_count, c->free_count, c->config.blocks);
    while (s->block_count > want) {
        int32_t block = table[--s->block_count];
        if (--c->references[block]) continue;
        c->free_blocks[c->free_count++] = block;
        if (DEBUG_FILL) poison(c, block);
    }
    while (s->block_count < want) {
        int32_t block = c->free_blocks[--c->free_count];
        c->references[block] = 1;
        table[s->block_count++] = block;
    }
    s->length = length;
    return TLM_OK;
}
