#include "cache/kv.h"

#include "ops/paged.h"

#ifdef TLM_DEBUG
enum { DEBUG_FILL = 1 };
#else
enum { DEBUG_FILL = 0 };
#endif

static struct paged_kv layout_keys(const struct kv_config *c)
{
    return paged_layout(c->type_k, c->value_dim ? KV_KEYS : KV_ROWS, c->blocks, c->head_dim);
}

static struct paged_kv layout_values(const struct kv_config *c)
{
    return paged_layout(c->type_v, KV_VALUES, c->blocks, c->value_dim);
}

// Bytes of one layer's keys or values.
static size_t layer_bytes(const struct kv_config *c, struct paged_kv layout)
{
    return align_up(layout.head_stride * (size_t)c->kv_heads, 4096);
}

size_t kv_storage_bytes(const struct kv_config *c)
{
    return (size_t)c->layers * (layer_bytes(c, layout_keys(c)) + layer_bytes(c, layout_values(c)));
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

enum tlm_status kv_open(struct kv_cache *c, const struct kv_config *config, struct tlm_error *err)
{
    *c = (struct kv_cache){.config = *config, .blocks_per_sequence = kv_blocks(config->context)};
    size_t layers = (size_t)config->layers, blocks = (size_t)config->blocks,
           sequences = (size_t)config->sequences;
    size_t table = sequences * (size_t)c->blocks_per_sequence;
    enum tlm_status s;
    if ((s = whole_blocks(config->type_k, config->head_dim, "keys", err)) ||
        (s = whole_blocks(config->type_v, config->value_dim, "values", err)) ||
        (s = arena_init(&c->memory, kv_storage_bytes(config), "key-value cache", err)))
        return s;
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
        c->keys[l] = layout_keys(config);
        c->values[l] = layout_values(config);
        c->keys[l].data = arena_alloc(&c->memory, layer_bytes(config, c->keys[l]));
        c->values[l].data = arena_alloc(&c->memory, layer_bytes(config, c->values[l]));
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

// All bits set is a NaN in every floating type, and in the scales of the others: who reads a block that was given back
// shows it.
static void poison(struct kv_cache *c, int32_t block)
{
    for (int32_t l = 0; l < c->config.layers; l++) {
        for (int32_t h = 0; h < c->config.kv_heads; h++) {
            memset(paged_rows(&c->keys[l], block, h), 0xff, c->keys[l].block_stride);
            memset(paged_rows(&c->values[l], block, h), 0xff, c->values[l].block_stride);
        }
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
