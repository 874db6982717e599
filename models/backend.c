// models/backend.c -- the devices that a model may use, and whether they have kernels for all that is computed on them.
#include "models/backend.h"

#include <stdlib.h>

#include "models/blocks.h"
#include "ops/parts.h"

// ---- kernels ------------------------------------------------------------------------------------------

// The whole computation of one row, on nothing: to ask the devices about every node of theirs.
static enum tlm_status build_parts(const struct tlm_model *m, struct parts *p, const struct step *step,
                                   const struct paged_kv *stores, const int32_t *group_of,
                                   struct tlm_error *err)
{
    struct graph *g = &p->whole;
    struct parts_site sites[PLACES] = {{.kernels = &m->kernels, .ops = m->ops, .data = &m->kernels}};
    struct tensor freq = tensor_shape(DTYPE_F64, m->hparams.rope.pairs, 1, 1, 1);
    struct tensor local = tensor_shape(DTYPE_F64, m->hparams.rope_local.pairs, 1, 1, 1);
    enum tlm_status s = graph_init(g, m->ops, &m->kernels, m->real, step->counts, err);
    if (s) return s;
    struct build_inputs in = {
        .step = g_step(g, step, 1, 1),
        .rope = {graph_leaf(g, &freq, EXTENT_FIXED), 1},
        .rope_local = {graph_leaf(g, &local, EXTENT_FIXED), 1},
        .keys = stores,
        .values = stores,
        .group_of = group_of,
    };
    for (int i = 1; i < m->place_count; i++)
        sites[i] = (struct parts_site){.kernels = &m->devices[i]->kernels, .ops = m->devices[i]->class->ops};
    struct node *x = g_select(g, m->arch->build(g, m, &in), in.step.outputs);
    x = block_logits(g, m, block_norm(g, m, x, m->head.norm, m->head.norm_bias));
    const struct parts_layers layers = {m->layer_places, m->rows.sharing};
    return parts_share(p, x, sites, m->place_count, &layers, err);
}

static enum tlm_status check_parts(const struct tlm_model *m, const struct parts *p, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int i = 1; i < m->place_count; i++) {
        const struct node *nodes = (const struct node *)p->graph[i].nodes.base;
        for (int64_t j = 0; j < p->graph[i].node_count && !s; j++)
            if (nodes[j].op != GRAPH_LEAF) s = m->devices[i]->class->check(&nodes[j], err);
    }
    return s;
}

enum tlm_status backend_check_model(const struct tlm_model *m, struct tlm_error *err)
{
    const size_t layers = (size_t)m->hparams.layers;
    struct paged_kv *stores = calloc(layers, sizeof *stores);
    int32_t *group_of = calloc(layers, sizeof *group_of);
    struct step step = {0};
    struct parts parts = {0};
    enum tlm_status s = TLM_OK;
    if (!stores || !group_of)
        s = error_set(err, TLM_ERR_MEMORY, "%s: no memory for %zu layers", m->backend->class->name, layers);
    for (size_t l = 0; l < layers && !s; l++) stores[l].type = DTYPE_F16;
    if (!s) s = step_init(&step, 1, 1, 1, 1, 1, 0, err);
    if (!s) s = build_parts(m, &parts, &step, stores, group_of, err);
    if (!s) s = check_parts(m, &parts, err);
    parts_free(&parts);
    step_free(&step);
    free(stores);
    free(group_of);
    return s;
}

// ---- devices ------------------------------------------------------------------------------------------

enum tlm_status backend_open_devices(struct tlm_model *m, const enum backend_wish *wishes, int count,
                                     struct tlm_error *err)
{
    struct tlm_error why = {0};
    if (m->real != DTYPE_F32)
        return error_set(err, TLM_ERR_ARGUMENT, "cuda: computes in float, not in double (isa f64)");
    for (int i = 0; i < count; i++) {
        if (wishes[i] == BACKEND_UNUSED) continue;
        const enum tlm_status s = cuda_backend_open(&m->devices[m->place_count], i, &why);
        if (s && wishes[i] == BACKEND_NAMED) return error_set(err, s, "%s", why.text);
        m->place_count += !s;
    }
    if (m->place_count == 1) return error_set(err, why.code, "%s", why.text);
    m->backend = m->devices[1];
    if (why.code) snprintf(m->backend_text, sizeof m->backend_text, "; left out: %s", why.text);
    return TLM_OK;
}

void backend_close_devices(struct tlm_model *m)
{
    for (int i = 1; i < m->place_count; i++) m->devices[i]->class->close(m->devices[i]);
    m->place_count = 1;
    m->backend = NULL;
}
