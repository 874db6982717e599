#include "generate/shift.h"

#include "models/blocks.h"
#include "ops/paged.h"

enum { ROW_MOST = 4096 }; // numbers of a key

// How the keys of a layer turn.
struct turn {
    int64_t offset; // of the rotated numbers in a key
    int64_t head, block;
    int32_t pairs; // 0: not at all
    enum rope_pairing pairing;
    float table[ROW_MOST];
};

static void make_turn(struct turn *t, const struct forward *f, int32_t layer, int32_t distance)
{
    const struct hparams *h = &f->model->hparams;
    const struct layer *w = &f->model->weights.layer[layer];
    const struct rope_hparams *rope = w->local_rope ? &h->rope_local : &h->rope;
    const struct rope_source *angles = w->local_rope ? &f->rope_local : &f->rope;
    t->head = f->cache.config.head_dim;
    t->offset = h->kv_rank;
    t->pairs = w->no_rope ? 0 : (int32_t)rope->pairs;
    t->pairing = h->rope.pairing;
    t->block = block_hadamard(f->cache.keys[layer].type, t->head, h->kv_rank ? h->kv_rank : t->head);
    TLM_ASSERT(t->head <= ROW_MOST);
    if (t->pairs) f->model->kernels.rope_table_fwd(t->table, &distance, angles->freq.data, 1, t->pairs, 1);
}

// The key at `row`, of that type, turned.
static void turn_key(void *row, const struct turn *t, const struct kernels *k, enum dtype type)
{
    float x[ROW_MOST];
    k->to_real[type](x, row, t->head);
    if (t->block > 1) k->hadamard_fwd(x, x, t->head, t->block);
    float *rotated = x + t->offset;
    int32_t head = t->offset ? 2 * t->pairs : (int32_t)t->head;
    k->rope_fwd(rotated, rotated, t->table, 1, 1, head, t->pairs, t->pairing);
    if (t->block > 1) k->hadamard_fwd(x, x, t->head, t->block);
    k->from_real[type](row, x, t->head);
}

static void shift_layer(struct forward *f, int32_t layer, int32_t to, int32_t to_position, int32_t from,
                        int32_t from_position, int32_t count)
{
    const struct kv_cache *c = &f->cache;
    const struct paged_kv *keys = &c->keys[layer], *values = &c->values[layer];
    const int32_t *to_table = kv_table(c, c->group_of[layer], to),
                  *from_table = kv_table(c, c->group_of[layer], from);
    struct turn turn;
    char row[ROW_MOST * 4];
    make_turn(&turn, f, layer, to_position - from_position);
    for (int32_t i = 0; i < count; i++) {
        int32_t a = from_position + i, b = to_position + i, source = from_table[a / KV_BLOCK];
        if (source == KV_NONE || to_table[b / KV_BLOCK] == KV_NONE) continue; // no window sees it any more
        for (int32_t h = 0; h < c->config.kv_heads; h++) {
            paged_get(row, keys, paged_rows(keys, source, h), a % KV_BLOCK, c->config.head_dim);
            if (turn.pairs) turn_key(row, &turn, &f->model->kernels, keys->type);
            paged_put(keys, paged_rows(keys, to_table[b / KV_BLOCK], h), b % KV_BLOCK, row,
                      c->config.head_dim);
            if (!c->config.value_dim) continue;
            paged_get(row, values, paged_rows(values, source, h), a % KV_BLOCK, c->config.value_dim);
            paged_put(values, paged_rows(values, to_table[b / KV_BLOCK], h), b % KV_BLOCK, row,
                      c->config.value_dim);
        }
    }
}

void shift_rows(struct forward *f, int32_t to, int32_t to_position, int32_t from, int32_t from_position,
                int32_t count)
{
    TLM_ASSERT(f->model->real == DTYPE_F32);
    for (int32_t l = 0; l < f->cache.config.layers; l++)
        shift_layer(f, l, to, to_position, from, from_position, count);
}
