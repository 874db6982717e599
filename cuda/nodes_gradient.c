// cuda/nodes_gradient.c -- the ops of training as the device runs them: a node is launches on the runner's stream (ops/nodes_gradient.c has
// the CPU's).
#include "cuda/nodes.h"

#define RUN(name) CUDA_DECLARE(name)

// What the node's result is added to. That of a weight's gradient stands where it goes, and counts if an earlier node of this pass, or an
// earlier pass, wrote it.
struct cuda_base cuda_gradient_base(const struct node *n)
{
    if (n->effect != EFFECT_GRADIENT) return (struct cuda_base){n->base ? n->base->out.data : NULL, NULL};
    return (struct cuda_base){n->out.data, n->base ? NULL : input(n, n->input_count - 1)};
}

// ---- products -----------------------------------------------------------------------------------------

size_t cuda_scratch_matmul_nn(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct tensor *w = &n->in[1]->out, *y = &n->out;
    const int64_t parts = cuda_product_parts(w->type, y->ne[1], y->ne[0], w->ne[1]);
    return parts > 1 ? (size_t)parts * tensor_bytes(y) : 0;
}

// k is the rows of w: those of the step where w is an activation, and with it x, the gradient by the outputs.
RUN(matmul_nn)
{
    (void)begin, (void)end;
    const struct node *x = n->in[0], *w = n->in[1];
    const bool turned = n->effect == EFFECT_GRADIENT;
    const struct cuda_product p = {
        .y = n->out.data,
        .x = x->out.data,
        .w = w->out.data,
        .x_type = x->out.type,
        .w_type = w->out.type,
        .x_stride = x->out.ne[0],
        .w_stride = w->out.ne[0],
        .m = turned ? (struct cuda_rows){NULL, n->out.ne[1]} : rows(g, x),
        .k = rows(g, w),
        .n = n->out.ne[0],
        .base = cuda_gradient_base(n),
        .turned = turned,
        .parts = scratch,
    };
    cuda_matmul_nn(stream_of(g), &p);
}

// ---- rows ---------------------------------------------------------------------------------------------

RUN(rows)
{
    UNUSED;
    const struct rows_params *p = n->params;
    cuda_copy(stream_of(g), n->out.data, tensor_row(&n->in[0]->out, p->begin), tensor_bytes(&n->out));
}

RUN(rows_dx)
{
    UNUSED;
    const struct rows_params *p = n->params;
    cuda_rows_dx(stream_of(g), n->out.data, input(n, 0), cuda_gradient_base(n), rows(g, n), p->begin,
                 n->in[0]->out.ne[1], n->out.ne[0]);
}

// What a node saved has a row a row of it (attention_dx), or one for GRADIENT_ROWS.
RUN(sum_rows)
{
    UNUSED;
    const struct sum_rows_params *p = n->params;
    const struct node *in = n->in[0];
    const struct tensor *x = p->saved ? &in->saved : &in->out;
    const char *from = (const char *)x->data + dtype_row_bytes(x->type, p->offset);
    cuda_sum_rows(stream_of(g), n->out.data, from, x->type, cuda_gradient_base(n), rows(g, in),
                  p->saved && in->op != OP_attention_dx ? GRADIENT_ROWS : 1, tensor_elements(&n->out),
                  x->ne[0]);
}

RUN(embed_dw)
{
    UNUSED;
    cuda_embed_dw(stream_of(g), n->out.data, input(n, 0), input(n, 1), cuda_gradient_base(n),
                  rows(g, n->in[0]), n->out.ne[1], n->out.ne[0]);
}

RUN(slice_dx)
{
    UNUSED;
    const struct slice_params *p = n->params;
    cuda_slice_dx(stream_of(g), n->out.data, input(n, 0), cuda_gradient_base(n), rows(g, n),
                  n->out.ne[0] / p->heads, p->heads, p->offset, p->count);
}

// ---- norms --------------------------------------------------------------------------------------------

size_t cuda_scratch_norm_dx(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct norm_params *p = n->params;
    return 2 * sizeof(float) * (size_t)(n->out.ne[1] * (n->out.ne[0] / p->group));
}

RUN(rmsnorm_dx)
{
    (void)begin, (void)end;
    const struct norm_params *p = n->params;
    const int64_t weights = tensor_elements(&n->in[2]->out);
    const struct cuda_norm_dx a = {
        .dx = n->out.data,
        .parts = n->saved.ne[0] ? n->saved.data : NULL,
        .stats = scratch,
        .dy = input(n, 0),
        .x = input(n, 1),
        .w = input(n, 2),
        .base = cuda_gradient_base(n),
        .rows = rows(g, n),
        .groups = n->out.ne[0] / p->group,
        .group = p->group,
        .weights = weights / p->group,
        .eps = p->eps,
        .centred = n->op == OP_layernorm_dx,
        .shifted = n->saved.ne[0] > weights,
    };
    cuda_norm_dx(stream_of(g), &a);
}

RUN(layernorm_dx)
{
    cuda_run_rmsnorm_dx(g, n, begin, end, scratch);
}

// ---- number by number ---------------------------------------------------------------------------------

RUN(activation_dx)
{
    UNUSED;
    const struct activation_params *p = n->params;
    cuda_activation_dx(stream_of(g), n->out.data, n->out.type, input(n, 0), input(n, 1), rows(g, n),
                       n->out.ne[0], p->kind);
}

RUN(glu_dx)
{
    UNUSED;
    const struct activation_params *p = n->params;
    cuda_glu_dx(stream_of(g), n->out.data, input(n, 0), input(n, 1), input(n, 2), rows(g, n),
                n->out.ne[0] / 2, p->kind);
}

RUN(softcap_dx)
{
    UNUSED;
    const struct factor_params *p = n->params;
    cuda_softcap_dx(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0], p->factor);
}

RUN(dropout)
{
    UNUSED;
    const struct dropout_params *p = n->params;
    cuda_dropout(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0], p->stream,
                 p->rate);
}

// The logits are what the node's result takes the place of, or where it is narrow its last input (cuda/narrow.c); `teacher` is the number
// of the input, or 0.
static struct cuda_distill loss_node(const struct graph *g, const struct node *n, int teacher, int64_t begin)
{
    const struct node *x = n->base ? n->base : n->in[n->input_count - 1];
    return (struct cuda_distill){
        .loss = (double *)n->in[1]->out.data + begin,
        .dx = n->out.data,
        .dx_type = n->out.type,
        .dx_stride = n->out.ne[0],
        .x = x->out.data,
        .teacher = teacher ? input(n, teacher) : NULL,
        .targets = (const int32_t *)n->in[0]->out.data + begin,
        .rows = rows(g, n),
        .vocab = x->out.ne[0],
        .factor = input(n, 2),
    };
}

RUN(cross_entropy)
{
    (void)begin, (void)end, (void)scratch;
    const struct rows_params *p = n->params;
    const struct cuda_distill a = loss_node(g, n, 0, p->begin);
    cuda_cross_entropy_dx(stream_of(g), &a);
}

RUN(distill)
{
    (void)begin, (void)end, (void)scratch;
    const struct distill_params *p = n->params;
    struct cuda_distill a = loss_node(g, n, 3, p->begin);
    a.share = p->share;
    cuda_distill(stream_of(g), &a);
}

// ---- attention ----------------------------------------------------------------------------------------

struct cuda_attention_rows cuda_attention_node(const struct graph *g, const struct node *attention,
                                               const struct node *q, const struct node *k,
                                               const struct node *v)
{
    const struct attention_params *p = attention->params;
    return (struct cuda_attention_rows){
        .y = attention->out.data,
        .lse = attention->saved.ne[0] ? attention->saved.data : NULL,
        .q = q->out.data,
        .k = k->out.data,
        .v = v->out.data,
        .v_stride = v->out.ne[0],
        .type = q->out.type,
        .pos = input(attention, 3),
        .sinks = p->sinks ? p->sinks->data : NULL,
        .slopes = p->slopes ? p->slopes->data : NULL,
        .rows = rows(g, attention),
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .window = p->window,
        .scale = (float)p->scale,
        .softcap = (float)p->softcap,
    };
}

size_t cuda_scratch_attention_dx(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct attention_params *p = n->params;
    return cuda_attention_dx_scratch(n->out.ne[1], p->heads, p->value_dim);
}

RUN(attention_dx)
{
    (void)begin, (void)end;
    const struct attention_params *p = n->params;
    float *dq = n->out.data, *dk = dq + (int64_t)p->heads * p->head_dim;
    struct cuda_attention_dx x = {
        .of = cuda_attention_node(g, n->in[1], n->in[2], n->in[3], n->in[4]),
        .dq = dq,
        .dk = dk,
        .dv = dk + (int64_t)p->kv_heads * p->head_dim,
        .stride = n->out.ne[0],
        .dsinks = n->saved.ne[0] ? n->saved.data : NULL,
        .dy = input(n, 0),
    };
    cuda_attention_dx_place(&x, scratch);
    cuda_attention_dx(stream_of(g), &x);
}

static enum tlm_status check_attention(const struct attention_params *p, struct tlm_error *err)
{
    if (p->head_dim <= CUDA_HEAD_MAX && p->value_dim <= CUDA_VALUE_MAX) return TLM_OK;
    return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: attention: heads of at most %d numbers",
                     (int)CUDA_VALUE_MAX);
}

static bool has_product(enum dtype w)
{
    return w == DTYPE_F32 || w == DTYPE_F16 || w == DTYPE_BF16;
}

enum tlm_status cuda_gradient_check(const struct node *n, struct tlm_error *err)
{
    const bool product = n->op == OP_matmul_nn || n->op == OP_matmul_experts_dx ||
                         n->op == OP_matmul_experts_dw || n->op == OP_matmul_heads_dx ||
                         n->op == OP_matmul_heads_dw;
    if (n->op == OP_attention || n->op == OP_attention_dx) return check_attention(n->params, err);
    if (!product || has_product(n->in[1]->out.type)) return TLM_OK;
    const enum dtype w = n->in[1]->out.type;
    return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: matmul_nn: no kernel for weights of type %s yet",
                     dtype_traits[w].name);
}
