// ops/nodes.c -- the ops as the CPU runs them: how much work a step has, and the kernel call for a part of it.
//
// Row-wise ops split by rows; matmul by outputs; attention by tiles of rows and key-value heads.
#include "ops/nodes.h"

static const struct kernels *kernels_of(const struct graph *g)
{
    return g->kernels;
}

static int64_t units_rows(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

#define units_embed      units_rows
#define units_select     units_rows
#define units_convert    units_rows
#define units_rmsnorm    units_rows
#define units_bias       units_rows
#define units_add        units_rows
#define units_swiglu     units_rows
#define units_rope_table units_rows
#define units_rope       units_rows
#define units_kv_write   units_rows

static void run_embed(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    const struct tensor *w = &n->in[0]->out;
    const int32_t *tokens = n->in[1]->out.data;
    row_to_real_fn *to_real = kernels_of(g)->to_real[w->type];
    for (int64_t r = begin; r < end; r++) to_real(tensor_row(&n->out, r), tensor_row(w, tokens[r]), w->ne[0]);
}

static void run_select(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)scratch;
    const int32_t *outputs = n->in[1]->out.data;
    for (int64_t r = begin; r < end; r++)
        memcpy(tensor_row(&n->out, r), tensor_row(&n->in[0]->out, outputs[r]), n->out.nb[1]);
}

static void run_convert(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                        void *scratch)
{
    (void)scratch;
    row_from_real_fn *from_real = kernels_of(g)->from_real[n->out.type];
    from_real(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin), (end - begin) * n->out.ne[0]);
}

static void run_rmsnorm(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                        void *scratch)
{
    (void)scratch;
    const struct rmsnorm_params *p = n->params;
    kernels_of(g)->rmsnorm_fwd(tensor_row(&n->out, begin), NULL, tensor_row(&n->in[0]->out, begin),
                               n->in[1]->out.data, end - begin, n->out.ne[0], p->eps);
}

static void run_bias(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    kernels_of(g)->bias_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin), n->in[1]->out.data,
                            end - begin, n->out.ne[0]);
}

static void run_add(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    kernels_of(g)->add_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                           tensor_row(&n->in[1]->out, begin), (end - begin) * n->out.ne[0]);
}

static void run_swiglu(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    kernels_of(g)->swiglu_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                              tensor_row(&n->in[1]->out, begin), (end - begin) * n->out.ne[0]);
}

static void run_rope_table(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                           void *scratch)
{
    (void)scratch;
    const struct rope_table_params *p = n->params;
    const int32_t *positions = n->in[0]->out.data;
    kernels_of(g)->rope_table_fwd(tensor_row(&n->out, begin), positions + begin, n->in[1]->out.data,
                                  end - begin, (int32_t)n->in[1]->out.ne[0], p->magnitude);
}

static void run_rope(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    const struct rope_params *p = n->params;
    kernels_of(g)->rope_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                            tensor_row(&n->in[1]->out, begin), end - begin, p->heads, p->head_dim, p->pairs,
                            p->pairing);
}

static void run_kv_write(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                         void *scratch)
{
    (void)scratch;
    const struct kv_write_params *p = n->params;
    const int32_t *slots = n->in[1]->out.data;
    row_from_real_fn *from_real = kernels_of(g)->from_real[p->cache.type];
    for (int64_t r = begin; r < end; r++) {
        const real *x = tensor_row(&n->in[0]->out, r);
        char *slot = p->cache.data + (size_t)(slots[r] / KV_BLOCK) * p->cache.block_stride +
                     (size_t)(slots[r] % KV_BLOCK) * p->cache.token_stride;
        for (int32_t h = 0; h < p->heads; h++)
            from_real(slot + (size_t)h * p->cache.head_stride, x + (int64_t)h * p->head_dim, p->head_dim);
    }
}

// ---- matmul: units are groups of outputs --------------------------------------------------------------

static const struct matmul_kernel *matmul_of(const struct graph *g, const struct node *n)
{
    return &kernels_of(g)->matmul[n->in[1]->out.type];
}

static int64_t units_matmul(const struct graph *g, const struct node *n)
{
    int64_t unit = matmul_of(g, n)->unit;
    return graph_rows(g, n) ? (n->out.ne[0] + unit - 1) / unit : 0;
}

static size_t scratch_matmul(const struct graph *g, const struct node *n)
{
    const struct matmul_kernel *k = matmul_of(g, n);
    return k->scratch + (k->dequantize ? (size_t)k->unit * (size_t)n->in[1]->out.ne[0] * sizeof(real) : 0);
}

// The product with rows that are dequantized first, a unit at a time.
static void run_dequantized(const struct graph *g, const struct matmul_kernel *k, struct matmul_args a)
{
    row_to_real_fn *to_real = kernels_of(g)->to_real[a.w_type];
    real *rows = (real *)((char *)a.scratch + k->scratch), *y = a.y;
    const char *w = a.w;
    size_t w_stride = a.w_stride;
    int64_t end = a.n_end;
    a.w = rows;
    a.w_type = DTYPE_REAL;
    a.w_stride = (size_t)a.k_count * sizeof(real);
    for (int64_t begin = a.n_begin; begin < end; begin += a.n_end) {
        a.n_begin = 0;
        a.n_end = end - begin < k->unit ? end - begin : k->unit;
        for (int64_t i = 0; i < a.n_end; i++)
            to_real(rows + i * a.k_count, w + (size_t)(begin + i) * w_stride, a.k_count);
        a.y = y + begin;
        k->fwd(&a);
    }
}

static void run_matmul(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    const struct matmul_kernel *k = matmul_of(g, n);
    const struct tensor *x = &n->in[0]->out, *w = &n->in[1]->out;
    struct matmul_args a = {
        .y = n->out.data,
        .y_stride = (size_t)n->out.ne[0],
        .x = x->data,
        .x_stride = (size_t)x->ne[0],
        .w = w->data,
        .w_type = w->type,
        .w_stride = w->nb[1],
        .n_begin = begin * k->unit,
        .n_end = end * k->unit < n->out.ne[0] ? end * k->unit : n->out.ne[0],
        .t_count = graph_rows(g, n),
        .k_count = x->ne[0],
        .scratch = scratch,
    };
    if (k->dequantize)
        run_dequantized(g, k, a);
    else
        k->fwd(&a);
}

// ---- attention: units are (tile of rows, key-value head) ----------------------------------------------

static int64_t units_attention(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return (int64_t)g->counts[EXTENT_TILES] * p->kv_heads;
}

static size_t scratch_attention(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return kernels_of(g)->attention_scratch(ATTENTION_ROWS, p->heads / p->kv_heads, p->head_dim,
                                            p->value_dim);
}

static void run_attention(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                          void *scratch)
{
    const struct attention_params *p = n->params;
    const struct kv_write_params *k = n->in[1]->params, *v = n->in[2]->params;
    const int32_t *positions = n->in[3]->out.data, *tables = n->in[5]->out.data;
    const struct attention_tile *tiles = n->in[4]->out.data;
    int32_t group = p->heads / p->kv_heads;
    for (int64_t u = begin; u < end; u++) {
        const struct attention_tile *tile = &tiles[u / p->kv_heads];
        int32_t head = (int32_t)(u % p->kv_heads);
        kernels_of(g)->attention_fwd(&(struct attention_args){
            .y = tensor_row(&n->out, tile->row),
            .q = tensor_row(&n->in[0]->out, tile->row),
            .k = k->cache,
            .v = v->cache,
            .blocks = tables + tile->sequence * n->in[5]->out.ne[0],
            .pos = positions + tile->row,
            .y_stride = (size_t)n->out.ne[0],
            .q_stride = (size_t)n->in[0]->out.ne[0],
            .rows = tile->rows,
            .head_begin = head * group,
            .head_count = group,
            .kv_head = head,
            .head_dim = p->head_dim,
            .value_dim = p->value_dim,
            .window = p->window,
            .scale = (float)p->scale,
            .scratch = scratch,
        });
    }
}

#define scratch_none       NULL
#define scratch_embed      scratch_none
#define scratch_select     scratch_none
#define scratch_convert    scratch_none
#define scratch_rmsnorm    scratch_none
#define scratch_bias       scratch_none
#define scratch_add        scratch_none
#define scratch_swiglu     scratch_none
#define scratch_rope_table scratch_none
#define scratch_rope       scratch_none
#define scratch_kv_write   scratch_none

const struct op REF(op_table)[OP_COUNT] = {
#define OP(name) [OP_##name] = {#name, units_##name, run_##name, scratch_##name},
#include "ops/ops.def"
#undef OP
};
