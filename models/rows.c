#include "models/rows.h"

#include <math.h>

// ---- where to cut -------------------------------------------------------------------------------------

bool rows_chosen(const struct tlm_model *m)
{
    return m->rows.at[CUT_WIDTH][PLACES] > 0;
}

bool rows_share_heads(const struct tlm_model *m)
{
    return rows_chosen(m) && !m->hparams.kv_rank;
}

// `count` things by shares, in whole units; the last place that has a share gets what is left.
static void cut(struct row_cuts *r, enum cut_of what, int64_t count, int64_t unit,
                const double shares[PLACES])
{
    double all = 0, sum = 0;
    for (int i = 0; i < PLACES; i++) all += shares[i];
    for (int i = 0; i < PLACES; i++) {
        sum += shares[i];
        r->at[what][i + 1] = sum < all ? (int64_t)round((double)(count / unit) * sum / all) * unit : count;
    }
}

static void cut_times(struct row_cuts *r, enum cut_of what, int64_t times)
{
    for (int i = 0; i <= PLACES; i++) r->at[what][i] = r->at[CUT_KV_HEADS][i] * times;
}

// The longest block of the types that the matrix has in the layers. Blocks are powers of two.
static int64_t block_of(const struct tlm_model *m, size_t slot)
{
    int64_t block = 1;
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct tensor *t = *(const struct tensor **)((char *)&m->weights.layer[l] + slot);
        if (t && dtype_traits[t->type].block_size > block) block = dtype_traits[t->type].block_size;
    }
    return block;
}

// Kernels like long pieces, and all places want some: the block's where that leaves enough of them.
static int64_t unit_for(int64_t count, int64_t block, int64_t places)
{
    int64_t unit = 256;
    while (unit > block && count / unit < 4 * places) unit /= 2;
    while (unit > 1 && count / unit < places) unit /= 2;
    return unit;
}

// So many heads that the output's inputs are cut between blocks; one where that would leave places without heads.
static int64_t heads_for(int64_t heads, int64_t numbers, int64_t block, int64_t places)
{
    int64_t unit = 1;
    while (unit < heads && unit * numbers % block) unit++;
    return heads / unit >= places ? unit : 1;
}

void rows_choose(struct tlm_model *m, const double shares[PLACES])
{
    const struct hparams *h = &m->hparams;
    const struct expert_hparams *e = &h->experts;
    struct row_cuts *r = &m->rows;
    int64_t places = 0;
    for (int i = 0; i < PLACES; i++) places += r->sharing[i] = shares[i] > 0;
#define BLOCK(field) block_of(m, offsetof(struct layer, field))
    if (!h->kv_rank) {
        const int64_t out = h->heads / h->kv_heads * h->value_dim;
        cut(r, CUT_KV_HEADS, h->kv_heads, heads_for(h->kv_heads, out, BLOCK(wo), places), shares);
        cut_times(r, CUT_Q, h->heads / h->kv_heads * h->head_dim);
        cut_times(r, CUT_K, h->head_dim);
        cut_times(r, CUT_V, h->value_dim);
        cut_times(r, CUT_OUT, out);
    }
    cut(r, CUT_FF, h->feed_forward, unit_for(h->feed_forward, BLOCK(down), places), shares);
    cut(r, CUT_EXPERT_FF, e->feed_forward, unit_for(e->feed_forward, BLOCK(experts_down), places), shares);
    cut(r, CUT_SHARED_FF, e->shared_feed_forward,
        unit_for(e->shared_feed_forward, BLOCK(shared_down), places), shares);
#undef BLOCK
    cut(r, CUT_WIDTH, h->width, unit_for(h->width, 1, places), shares);
    cut(r, CUT_VOCAB, h->vocab, unit_for(h->vocab, 1, places), shares);
}

// ---- matrices -----------------------------------------------------------------------------------------

// CUT_COUNT: not at all.
static enum cut_of cut_of_dim(const struct tlm_model *m, enum dim d)
{
    const bool heads = rows_share_heads(m);
    switch (d) {
    case DIM_Q: return heads ? CUT_Q : CUT_COUNT;
    case DIM_K: return heads ? CUT_K : CUT_COUNT;
    case DIM_V: return heads ? CUT_V : CUT_COUNT;
    case DIM_QKV: return heads ? CUT_KV_HEADS : CUT_COUNT; // in proportion: its parts are cut
    case DIM_OUT: return heads ? CUT_OUT : CUT_COUNT;
    case DIM_FF:
    case DIM_GATE_UP: return CUT_FF; // likewise
    case DIM_EXPERT_FF: return CUT_EXPERT_FF;
    case DIM_SHARED_FF: return CUT_SHARED_FF;
    case DIM_VOCAB: return CUT_VOCAB;
    default: return CUT_COUNT;
    }
}

static bool between_blocks(const struct tensor *t, const int64_t *at)
{
    for (int i = 0; i <= PLACES; i++)
        if (at[i] % dtype_traits[t->type].block_size) return false;
    return true;
}

static void set(struct tlm_model *m, struct tensor *t, enum cut_of what, int axis)
{
    const int64_t *at = m->rows.at[what];
    if (what == CUT_COUNT) return;
    if (axis == 0 && !between_blocks(t, at)) at = m->rows.at[CUT_WIDTH], axis = 1;
    t->cut = at;
    t->axis = axis;
}

// Numbers first .. first + count of the vector, or rows of the matrix, as a tensor of their own.
static struct tensor *view(struct tlm_model *m, const struct tensor *t, int axis, int64_t first,
                           int64_t count)
{
    struct tensor *v = arena_alloc(&m->vectors, sizeof *v);
    *v = *t;
    v->data = (char *)t->data + (size_t)first * t->nb[axis];
    v->ne[axis] = count;
    v->cut = NULL;
    return v;
}

static const struct tensor *cut_view(struct tlm_model *m, const struct tensor *t, int64_t first,
                                     int64_t count, enum cut_of what)
{
    struct tensor *v = view(m, t, 1, first, count);
    set(m, v, what, 1);
    return v;
}

static void part_attention(struct tlm_model *m, struct layer *w)
{
    const struct hparams *h = &m->hparams;
    const int64_t q = h->heads * h->head_dim, k = h->kv_heads * h->head_dim, v = h->kv_heads * h->value_dim;
    w->wq = cut_view(m, w->wqkv, 0, q, CUT_Q);
    w->wk = cut_view(m, w->wqkv, q, k, CUT_K);
    w->wv = cut_view(m, w->wqkv, q + k, v, CUT_V);
    if (!w->bqkv) return;
    w->bq = view(m, w->bqkv, 0, 0, q);
    w->bk = view(m, w->bqkv, 0, q, k);
    w->bv = view(m, w->bqkv, 0, q + k, v);
}

static void part_gate_up(struct tlm_model *m, struct layer *w)
{
    const int64_t n = m->hparams.feed_forward;
    w->gate = cut_view(m, w->gate_up, 0, n, CUT_FF);
    w->up = cut_view(m, w->gate_up, n, n, CUT_FF);
}

void rows_cut(struct tlm_model *m, const struct weight_spec *spec, int64_t l, struct tensor *t)
{
    struct layer *w = &m->weights.layer[l];
    if (!m->layer_places[l]) return;
    if (!spec)
        set(m, t, CUT_VOCAB, 1);
    else if (spec->role == ROLE_MATRIX && (spec->split == SPLIT_ROWS || spec->split == SPLIT_HEADS))
        set(m, t, cut_of_dim(m, spec->rows), 1);
    else if (spec->role == ROLE_MATRIX && spec->split == SPLIT_COLUMNS)
        set(m, t, cut_of_dim(m, spec->cols), 0);
    else if (spec->role == ROLE_MATRIX && spec->split == SPLIT_EXPERTS)
        set(m, t, CUT_EXPERT_FF, spec->rows == DIM_EXPERT_FF);
    if (t == w->wqkv && t->cut) part_attention(m, w);
    if (t == w->gate_up && t->cut) part_gate_up(m, w);
}

void rows_forget(struct tlm_model *m)
{
    for (int64_t l = 0; l < m->hparams.layers && rows_chosen(m); l++) {
        struct layer *w = &m->weights.layer[l];
        if (w->wqkv) w->wq = w->wk = w->wv = NULL;
        if (w->bqkv) w->bq = w->bk = w->bv = NULL;
        if (w->gate_up) w->gate = w->up = NULL;
    }
    m->rows = (struct row_cuts){0};
}
