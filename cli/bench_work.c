// cli/bench_work.c -- the work of a pass, from the weight table alone: every architecture is counted by the same rules.
#include "cli/bench_work.h"

#include <math.h>
#include <string.h>

#include "core/dtype.h"

// The tensor that a row of the table put into layer l (or, without layers, into the model); NULL where it is absent.
static const struct tensor *slot(const struct tlm_model *m, const struct weight_spec *spec, int64_t l)
{
    bool in_layer = strstr(spec->gguf, "%d") != NULL;
    const char *base = in_layer ? (const char *)&m->weights.layer[l] : (const char *)&m->weights;
    const struct tensor *t;
    memcpy(&t, base + spec->slot, sizeof t);
    return t;
}

static bool in_layers(const struct weight_spec *spec)
{
    return strstr(spec->gguf, "%d") != NULL;
}

// Share of a tensor that `rows` rows use: of a stack of experts, those to which one of the rows is likely to go.
static double share_used(const struct tlm_model *m, const struct weight_spec *spec, double rows)
{
    if (spec->split != SPLIT_EXPERTS) return 1;
    double one = (double)m->hparams.experts.used / (double)m->hparams.experts.count;
    return 1 - pow(1 - one, rows);
}

// Keys that the row at position `at` of layer l sees.
static double seen(const struct tlm_model *m, int64_t l, int64_t at)
{
    int64_t window = m->weights.layer[l].window, keys = at + 1;
    return (double)(window && window < keys ? window : keys);
}

double work_step_bytes(const struct tlm_model *m, enum dtype type_k, enum dtype type_v, int64_t sequences,
                       int64_t length)
{
    const struct hparams *h = &m->hparams;
    double bytes = 0;
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        if (spec->role == ROLE_EMBEDDING) continue; // a row of it
        for (int64_t l = 0; l < (in_layers(spec) ? h->layers : 1); l++) {
            const struct tensor *t = slot(m, spec, l);
            if (t) bytes += (double)tensor_bytes(t) * share_used(m, spec, (double)sequences);
        }
    }
    if (!m->weights.out) bytes += (double)tensor_bytes(m->weights.embed); // tied
    int64_t heads = h->kv_rank ? 1 : h->kv_heads,
            k = h->kv_rank ? h->kv_rank + 2 * h->rope.pairs : h->head_dim;
    size_t token = dtype_row_bytes(type_k, k) + (h->kv_rank ? 0 : dtype_row_bytes(type_v, h->value_dim));
    for (int64_t l = 0; l < h->layers; l++)
        bytes += (double)(sequences * heads) * (double)token * seen(m, l, length - 1);
    return bytes;
}

// Is it from this matrix on that only the wanted rows of the last layer are computed? All but what makes queries, keys and values.
static bool behind_attention(const struct weight_spec *spec)
{
    static const size_t before[] = {offsetof(struct layer, wq),   offsetof(struct layer, wk),
                                    offsetof(struct layer, wv),   offsetof(struct layer, wqkv),
                                    offsetof(struct layer, wq_a), offsetof(struct layer, wq_b),
                                    offsetof(struct layer, wkv_a)};
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        if (spec->slot == before[i]) return false;
    return true;
}

double work_operations(const struct tlm_model *m, int64_t sequences, int64_t rows, int64_t depth)
{
    const struct hparams *h = &m->hparams;
    double products = (double)tensor_elements(m->head.weight);
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        if ((spec->role != ROLE_MATRIX && spec->role != ROLE_ROUTER) || !in_layers(spec)) continue;
        double used = share_used(m, spec, 1);
        for (int64_t l = 0; l < h->layers; l++) {
            const struct tensor *t = slot(m, spec, l);
            bool one = l + 1 == h->layers && behind_attention(spec);
            if (t) products += (one ? 1 : (double)rows) * used * (double)tensor_elements(t);
        }
    }
    double width =
        h->kv_rank ? (double)(2 * h->kv_rank + 2 * h->rope.pairs) : (double)(h->head_dim + h->value_dim);
    for (int64_t l = 0; l < h->layers; l++)
        for (int64_t r = 0; r < rows; r++) products += (double)h->heads * width * seen(m, l, depth + r);
    return 2 * (double)sequences * products;
}

enum dtype work_main_type(const struct tlm_model *m)
{
    double sum[DTYPE_COUNT] = {0};
    for (size_t i = 0; i < m->arch->weight_count; i++) {
        const struct weight_spec *spec = &m->arch->weights[i];
        for (int64_t l = 0; spec->role == ROLE_MATRIX && l < (in_layers(spec) ? m->hparams.layers : 1); l++) {
            const struct tensor *t = slot(m, spec, l);
            if (t) sum[t->type] += (double)tensor_elements(t);
        }
    }
    enum dtype most = DTYPE_F32;
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (sum[type] > sum[most]) most = (enum dtype)type;
    return most;
}
