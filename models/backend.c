// models/backend.c -- which device a model runs on: one that has kernels for all that the model computes, or the CPU.
#include <stdlib.h>

#include "models/blocks.h"
#include "ops/backend.h"

// The whole computation of one row, on nothing: to ask the backend about every node.
static enum tlm_status check_graph(const struct tlm_model *m, const struct backend *b,
                                   const struct step *step, struct paged_kv *stores, const int32_t *group_of,
                                   struct tlm_error *err)
{
    struct graph g;
    struct tensor freq = tensor_shape(DTYPE_F64, m->hparams.rope.pairs, 1, 1, 1);
    struct tensor local = tensor_shape(DTYPE_F64, m->hparams.rope_local.pairs, 1, 1, 1);
    enum tlm_status s = graph_init(&g, b->class->ops, NULL, m->real, step->counts, err);
    if (s) return s;
    struct build_inputs in = {
        .step = g_step(&g, step, 1, 1),
        .rope = {graph_leaf(&g, &freq, EXTENT_FIXED), 1},
        .rope_local = {graph_leaf(&g, &local, EXTENT_FIXED), 1},
        .keys = stores,
        .values = stores,
        .group_of = group_of,
    };
    struct node *x = g_select(&g, m->arch->build(&g, m, &in), in.step.outputs);
    block_logits(&g, m, block_norm(&g, m, x, m->head.norm, m->head.norm_bias));
    pass_convert(&g, &b->kernels);
    const struct node *nodes = (const struct node *)g.nodes.base;
    for (int64_t i = 0; i < g.node_count && !s; i++)
        if (nodes[i].op != GRAPH_LEAF) s = b->class->check(&nodes[i], err);
    graph_free(&g);
    return s;
}

static enum tlm_status check_model(const struct tlm_model *m, const struct backend *b, struct tlm_error *err)
{
    const size_t layers = (size_t)m->hparams.layers;
    struct paged_kv *stores = calloc(layers, sizeof *stores);
    int32_t *group_of = calloc(layers, sizeof *group_of);
    struct step step = {0};
    enum tlm_status s = TLM_OK;
    if (!stores || !group_of)
        s = error_set(err, TLM_ERR_MEMORY, "%s: no memory for %zu layers", b->class->name, layers);
    for (size_t l = 0; l < layers && !s; l++) stores[l].type = DTYPE_F16;
    if (!s) s = step_init(&step, 1, 1, 1, 1, 1, 0, err);
    if (!s) s = check_graph(m, b, &step, stores, group_of, err);
    step_free(&step);
    free(stores);
    free(group_of);
    return s;
}

static enum tlm_status take(struct tlm_model *m, struct tlm_error *err)
{
    struct backend *b;
    if (m->real != DTYPE_F32)
        return error_set(err, TLM_ERR_ARGUMENT, "cuda: computes in float, not in double (isa f64)");
    enum tlm_status s = cuda_backend_open(&b, err);
    if (s) return s;
    if ((s = check_model(m, b, err))) {
        b->class->close(b);
        return s;
    }
    m->backend = b;
    snprintf(m->backend_text, sizeof m->backend_text, "%s: %s", b->class->name, b->device);
    return TLM_OK;
}

enum tlm_status model_choose_backend(struct tlm_model *m, const char *name, struct tlm_error *err)
{
    struct tlm_error why = {0};
    snprintf(m->backend_text, sizeof m->backend_text, "cpu");
    if (!name || !strcmp(name, "cpu")) return TLM_OK;
    if (!strcmp(name, "cuda")) return take(m, err);
    if (strcmp(name, "auto"))
        return error_set(err, TLM_ERR_ARGUMENT, "backend: expected auto, cpu or cuda, found '%s'", name);
    if (take(m, &why)) snprintf(m->backend_text, sizeof m->backend_text, "cpu (%s)", why.text);
    return TLM_OK;
}
