// cuda/nodes.c -- the ops as the device runs them: a node is launches on the runner's stream.
//
// Grids are for the rows of the bucket; how many of them a step has is read on the device, from the copy of the step's counts. So what
// is launched for a node is the same in every step.
#include "cuda/nodes.h"

#include "cuda/fuse.h"
#include "cuda/narrow.h"
#include "cuda/planes.h"

#define RUN(name)                                                                                   \
    static void run_##name(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                           void *scratch)

RUN(embed)
{
    UNUSED;
    const struct cuda_matrix w = planes_matrix(&n->in[0]->out, input(n, 0), 0);
    cuda_embed(stream_of(g), n->out.data, input(n, 1), &w, rows(g, n));
}

RUN(select)
{
    UNUSED;
    cuda_select(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0]);
}

RUN(convert)
{
    UNUSED;
    const int64_t cols = n->in[0]->out.ne[0];
    if (n->out.type == DTYPE_BF16 && n->out.ne[0] > cols) // cuda/narrow.c
        cuda_narrow(stream_of(g), n->out.data, n->out.ne[0], input(n, 0), rows(g, n), cols);
    else
        cuda_convert(stream_of(g), n->out.data, type_of_activations(g, n), input(n, 0), rows(g, n),
                     n->out.ne[0]);
}

RUN(rmsnorm)
{
    UNUSED;
    const struct norm_params *p = n->params;
    cuda_rmsnorm_to(stream_of(g), n->out.data, n->out.type, input(n, 0), input(n, 1), rows(g, n),
                    n->out.ne[0], p->group, tensor_elements(&n->in[1]->out) / p->group, p->eps);
}

RUN(layernorm)
{
    UNUSED;
    const struct norm_params *p = n->params;
    cuda_layernorm_to(stream_of(g), n->out.data, n->out.type, input(n, 0), input(n, 1),
                      n->input_count == 3 ? input(n, 2) : NULL, rows(g, n), n->out.ne[0], p->group,
                      tensor_elements(&n->in[1]->out) / p->group, p->eps);
}

// As many rows as the host has counted: not for a recording, which serves every count. The library adds to what is in the place of its results.
bool cuda_multiply_library(const struct graph *g, const struct node *n, const struct cuda_matrix *w,
                           const float *base)
{
    struct runner *r = cuda_runner_of(g);
    const int64_t count = graph_rows(g, n);
    if (r->recording || !cublas_wins(w->type, count) || !r->backend->cublas) return false;
    if (base && base != n->out.data)
        cuda_copy(r->stream, n->out.data, base, (size_t)(count * w->outputs) * sizeof *base);
    cublas_matmul(r->backend->cublas, r->stream, n->out.data, input(n, 0), w, count, base != NULL,
                  r->failure.code ? NULL : &r->failure);
    return true;
}

RUN(matmul)
{
    (void)begin, (void)end;
    struct cuda_matrix w = planes_matrix(&n->in[1]->out, input(n, 1), 0);
    w.jit = cuda_runner_of(g)->backend->jit;
    if (cuda_multiply_library(g, n, &w, NULL)) return;
    cuda_multiply(g, n, input(n, 0), n->in[0], &w, (struct cuda_groups){1, NULL}, scratch);
}

void cuda_multiply(const struct graph *g, const struct node *n, const void *x, const struct node *counted,
                   const struct cuda_matrix *w, struct cuda_groups groups, void *scratch)
{
    if (!has_many_rows(g, counted)) {
        cuda_matmul_grouped(stream_of(g), n->out.data, x, w, rows(g, n), groups);
        return;
    }
    const struct cuda_rows all = {NULL, graph_rows(g, n)};
    cuda_matmul_many(stream_of(g), n->out.data, x, w, all, groups, scratch, cuda_multiply_scratch(g, n));
}

size_t cuda_multiply_scratch(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct tensor *t = &n->in[1]->out;
    const struct cuda_matrix w = planes_matrix(t, t->data, 0);
    if (n->out.ne[1] < CUDA_MANY_ROWS) return 0;
    return cuda_matmul_many_scratch(&w, t->ne[2], n->out.ne[1], n->in[0]->out.ne[0]);
}

RUN(bias)
{
    UNUSED;
    cuda_bias(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0]);
}

RUN(add)
{
    UNUSED;
    cuda_add(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0]);
}

RUN(scale)
{
    UNUSED;
    const struct factor_params *p = n->params;
    cuda_scale(stream_of(g), n->out.data, input(n, 0), rows(g, n), n->out.ne[0], p->factor);
}

RUN(softcap)
{
    UNUSED;
    const struct factor_params *p = n->params;
    cuda_softcap(stream_of(g), n->out.data, input(n, 0), rows(g, n), n->out.ne[0], p->factor);
}

RUN(hadamard)
{
    UNUSED;
    const struct hadamard_params *p = n->params;
    cuda_hadamard(stream_of(g), n->out.data, input(n, 0), rows(g, n), n->out.ne[0], (int32_t)p->block);
}

RUN(activation)
{
    UNUSED;
    const struct activation_params *p = n->params;
    cuda_activation_to(stream_of(g), n->out.data, n->out.type, input(n, 0), rows(g, n), n->out.ne[0],
                       p->kind);
}

RUN(glu)
{
    UNUSED;
    const struct activation_params *p = n->params;
    cuda_glu_to(stream_of(g), n->out.data, n->out.type, input(n, 0), input(n, 1), rows(g, n), n->out.ne[0],
                p->kind);
}

RUN(slice)
{
    UNUSED;
    const struct slice_params *p = n->params;
    cuda_slice_to(stream_of(g), n->out.data, n->out.type, input(n, 0), rows(g, n),
                  n->in[0]->out.ne[0] / p->heads, p->heads, p->offset, p->count);
}

RUN(concat)
{
    UNUSED;
    const struct concat_params *p = n->params;
    const int64_t first = n->in[0]->out.ne[0] / p->heads;
    cuda_concat(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), p->heads, first,
                n->out.ne[0] / p->heads - first, p->b_shared);
}

RUN(rope_table)
{
    UNUSED;
    const struct rope_table_params *p = n->params;
    cuda_rope_table(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n),
                    (int32_t)n->in[1]->out.ne[0], p->magnitude, p->inverse);
}

RUN(rope)
{
    UNUSED;
    const struct rope_params *p = n->params;
    cuda_rope(stream_of(g), n->out.data, input(n, 0), input(n, 1), rows(g, n), p->heads, p->head_dim,
              p->pairs, p->pairing);
}

RUN(kv_write)
{
    UNUSED;
    const struct kv_write_params *p = n->params;
    const struct node *x = n->in[0];
    cuda_kv_write(stream_of(g), &p->cache, x->out.data, input(n, 1), rows_of(g, x->extent, x->out.ne[1]),
                  p->heads, p->head_dim);
}

// Few rows leave the device idle unless their keys are shared out; many have work for all of it, and would fill memory with parts.
static int32_t splits_for(int64_t most_rows)
{
    return most_rows <= 8 ? 32 : most_rows <= 64 ? 8 : 2;
}

// Attention over a cache: queries, positions, tiles and block tables are the nodes in[0], in[at], in[at + 1] and in[at + 2].
static struct cuda_attention over_cache(const struct graph *g, const struct node *n,
                                        const struct attention_params *p, const struct paged_kv *k,
                                        const struct paged_kv *v, int at, enum extent tiles, void *scratch)
{
    const struct tensor *tables = &n->in[at + 2]->out;
    return (struct cuda_attention){
        .partial = scratch,
        .q = input(n, 0),
        .k = *k,
        .v = *v,
        .state_stride = attention_state(p->value_dim),
        .tiles = input(n, at + 1),
        .pos = input(n, at),
        .tables = tables->data,
        .sinks = p->sinks ? p->sinks->data : NULL,
        .slopes = p->slopes ? p->slopes->data : NULL,
        .tile_count = rows_of(g, tiles, n->out.ne[1]), // every row may be a tile of its own
        .rows = rows(g, n),
        .table_stride = tables->ne[0],
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .window = p->window,
        .splits = splits_for(n->out.ne[1]),
        .scale = (float)p->scale,
        .softcap = (float)p->softcap,
    };
}

RUN(attention)
{
    UNUSED;
    const struct attention_params *p = n->params;
    if (!is_paged(n)) {
        const struct cuda_attention_rows a = cuda_attention_node(g, n, n->in[0], n->in[1], n->in[2]);
        cuda_attention_rows(stream_of(g), &a);
        return;
    }
    const struct kv_write_params *k = n->in[1]->params, *v = n->in[2]->params;
    struct cuda_attention a = over_cache(g, n, p, &k->cache, &v->cache, 3, EXTENT_TILES, scratch);
    a.y = n->out.data;
    a.arrived = n->out.ne[1] * p->heads <= CUDA_ARRIVALS ? cuda_runner_of(g)->arrived : NULL;
    if (n->input_count == 7 && cuda_attention_prefix(stream_of(g), &a)) a.states = n->in[6]->out.data;
    cuda_attention(stream_of(g), &a);
}

static size_t scratch_attention(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct attention_params *p = n->params;
    if (!is_paged(n)) return 0;
    return sizeof(float) *
           (size_t)cuda_attention_partial(n->out.ne[1], p->heads, p->value_dim, splits_for(n->out.ne[1]));
}

// ---- prefixes that rows of several sequences share ----------------------------------------------------------

// Few tiles have all keys of a prefix between them: these are parted further, as far as memory for the parts goes.
static int32_t prefix_splits(int64_t most_rows)
{
    return most_rows <= 64 ? 16 : most_rows <= 512 ? 8 : 2;
}

RUN(attention_prefix)
{
    UNUSED;
    const struct attention_prefix_params *p = n->params;
    struct cuda_attention a = over_cache(g, n, &p->attention, &p->k, &p->v, 1, EXTENT_PREFIX_TILES, scratch);
    a.states = n->out.data;
    a.splits = prefix_splits(n->out.ne[1]);
    cuda_attention_prefix(stream_of(g), &a); // where there is no such form, attention reads all keys
}

static size_t scratch_attention_prefix(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct attention_params *p = n->params; // those of a prefix begin with them
    return sizeof(float) *
           (size_t)cuda_attention_partial(n->out.ne[1], p->heads, p->value_dim, prefix_splits(n->out.ne[1]));
}

static int64_t units_attention_prefix(const struct graph *g, const struct node *n)
{
    (void)n;
    return g->counts[EXTENT_PREFIX_TILES] > 0;
}

static int64_t units_none(const struct graph *g, const struct node *n)
{
    (void)g, (void)n;
    return 0;
}

RUN(move)
{
    UNUSED;
    (void)g, (void)n;
}

static int64_t units_one(const struct graph *g, const struct node *n)
{
    (void)g, (void)n;
    return 1;
}

// An op that is not in the table has no `run`.
const struct op cuda_op_table[CUDA_OP_COUNT] = {
#define LAUNCH(name) [OP_##name] = {#name, units_one, run_##name, NULL, false}
    LAUNCH(embed),
    LAUNCH(select),
    LAUNCH(convert),
    LAUNCH(rmsnorm),
    LAUNCH(layernorm),
    [OP_matmul] = {"matmul", units_one, run_matmul, cuda_multiply_scratch, false},
    LAUNCH(bias),
    LAUNCH(add),
    LAUNCH(scale),
    LAUNCH(softcap),
    LAUNCH(hadamard),
    LAUNCH(activation),
    LAUNCH(glu),
    LAUNCH(slice),
    LAUNCH(concat),
    LAUNCH(rope_table),
    LAUNCH(rope),
    LAUNCH(kv_write),
    [OP_attention] = {"attention", units_one, run_attention, scratch_attention, false},
#define LAUNCH_GROUPED(name, scratch) [OP_##name] = {#name, units_one, cuda_run_##name, scratch, false}
    LAUNCH_GROUPED(route, NULL),
    LAUNCH_GROUPED(sort_experts, NULL),
    LAUNCH_GROUPED(gather_experts, NULL),
    LAUNCH_GROUPED(matmul_experts, cuda_multiply_scratch),
    LAUNCH_GROUPED(bias_experts, NULL),
    LAUNCH_GROUPED(combine_experts, NULL),
    LAUNCH_GROUPED(matmul_heads, cuda_scratch_matmul_heads),
    [OP_attention_prefix] = {"attention_prefix", units_attention_prefix, run_attention_prefix,
                             scratch_attention_prefix, false},
    [OP_move] = {"move", units_none, run_move, NULL, false},
#define LAUNCH_GRADIENT(name, scratch) [OP_##name] = {#name, units_one, cuda_run_##name, scratch, false}
    LAUNCH_GRADIENT(matmul_nn, cuda_scratch_matmul_nn),
    LAUNCH_GRADIENT(rows, NULL),
    LAUNCH_GRADIENT(rows_dx, NULL),
    LAUNCH_GRADIENT(sum_rows, NULL),
    LAUNCH_GRADIENT(embed_dw, NULL),
    LAUNCH_GRADIENT(rmsnorm_dx, cuda_scratch_norm_dx),
    LAUNCH_GRADIENT(layernorm_dx, cuda_scratch_norm_dx),
    LAUNCH_GRADIENT(activation_dx, NULL),
    LAUNCH_GRADIENT(glu_dx, NULL),
    LAUNCH_GRADIENT(softcap_dx, NULL),
    LAUNCH_GRADIENT(slice_dx, NULL),
    LAUNCH_GRADIENT(attention_dx, cuda_scratch_attention_dx),
    LAUNCH_GRADIENT(dropout, NULL),
    LAUNCH_GRADIENT(cross_entropy, NULL),
    LAUNCH_GRADIENT(distill, NULL),
    LAUNCH_GRADIENT(sum_heads, NULL),
    LAUNCH_GRADIENT(combine_dx, NULL),
    LAUNCH_GRADIENT(combine_dw, NULL),
    LAUNCH_GRADIENT(gather_dx, NULL),
    LAUNCH_GRADIENT(bias_experts_dw, NULL),
    LAUNCH_GRADIENT(route_dx, NULL),
    LAUNCH_GRADIENT(matmul_experts_dx, NULL),
    LAUNCH_GRADIENT(matmul_experts_dw, NULL),
    LAUNCH_GRADIENT(matmul_heads_dx, NULL),
    LAUNCH_GRADIENT(matmul_heads_dw, NULL),
    [FUSED_linear] = {"linear", units_one, cuda_run_linear, cuda_scratch_linear, false},
    [FUSED_part] = {"(fused)", units_none, NULL, NULL, false},
#define OP(name, launch) [FUSED_##name] = {#name, units_one, cuda_run_##launch, NULL, false},
    CUDA_FUSED(OP)
#undef OP
};

static const char *const op_names[] = {
#define OP(name, light) #name,
#include "ops/ops.def"
#undef OP
};

static enum tlm_status check_cache(enum dtype type, const char *what, struct tlm_error *err)
{
    if (type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F8_E4M3 ||
        type == DTYPE_Q8_0 || type == DTYPE_Q4_0)
        return TLM_OK;
    return error_set(err, TLM_ERR_UNSUPPORTED,
                     "cuda: cached %s: expected F32, F16, BF16, F8_E4M3, Q8_0 or Q4_0, found %s", what,
                     dtype_traits[type].name);
}

enum tlm_status cuda_node_check(const struct node *n, struct tlm_error *err)
{
    const char *name = op_names[n->op];
    if (!cuda_op_table[n->op].run)
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: no kernel for the op '%s' yet", name);
    const bool product = n->op == OP_matmul || n->op == OP_matmul_experts || n->op == OP_matmul_heads;
    const int weight = n->op == OP_embed ? 0 : product ? 1 : -1;
    if (weight >= 0 && !planes_known(n->in[weight]->out.type))
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: %s: no kernel for weights of type %s yet", name,
                         dtype_traits[n->in[weight]->out.type].name);
    if (n->op == OP_kv_write)
        return check_cache(((const struct kv_write_params *)n->params)->cache.type, "keys or values", err);
    const bool paged = n->op == OP_attention && is_paged(n);
    if (!paged) return cuda_gradient_check(n, err);
    if (((const struct attention_params *)n->params)->value_dim > CUDA_VALUE_MAX)
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: attention: values of at most %d numbers a head",
                         (int)CUDA_VALUE_MAX);
    return TLM_OK;
}
