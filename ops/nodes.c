// ops/nodes.c -- the ops as the CPU runs them: how much work a step has, and the kernel call for a part of it.
//
// Row-wise ops split by rows; matmul by outputs; attention by tiles of rows and key-value heads.
#include "ops/nodes_cpu.h"
#include "ops/paged.h"

static int64_t units_by_row(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n);
}

#define units_embed      units_by_row
#define units_select     units_by_row
#define units_convert    units_by_row
#define units_rmsnorm    units_by_row
#define units_bias       units_by_row
#define units_add        units_by_row
#define units_layernorm  units_by_row
#define units_scale      units_by_row
#define units_softcap    units_by_row
#define units_hadamard   units_by_row
#define units_activation units_by_row
#define units_glu        units_by_row
#define units_slice      units_by_row
#define units_concat     units_by_row
#define units_rope_table units_by_row
#define units_rope       units_by_row
#define units_kv_write   units_by_row

static int64_t units_move(const struct graph *g, const struct node *n)
{
    (void)g, (void)n;
    return 0;
}

static void run_move(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)n, (void)begin, (void)end, (void)scratch;
}

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
    const struct convert_params *p = n->params;
    const struct kernels *k = kernels_of(g);
    row_from_real_fn *from_real = k->from_real[n->out.type];
    int64_t count = n->in[0]->out.ne[0];
    for (int64_t r = begin; r < end; r++) {
        void *y = tensor_row(&n->out, r);
        const real *x = tensor_row(&n->in[0]->out, r);
        if (p)
            k->q8_k_within(y, x, count, p->limit);
        else
            from_real(y, x, count);
    }
}

// One weight for every group of columns: all groups are rows of one call. Otherwise a call a group.
static void run_rmsnorm(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                        void *scratch)
{
    (void)scratch;
    const struct norm_params *p = n->params;
    rmsnorm_fwd_fn *norm = kernels_of(g)->rmsnorm_fwd;
    real *y = tensor_row(&n->out, begin);
    const real *x = tensor_row(&n->in[0]->out, begin), *w = n->in[1]->out.data;
    int64_t groups = (end - begin) * n->out.ne[0] / p->group,
            weights = tensor_elements(&n->in[1]->out) / p->group;
    if (weights == 1)
        norm(y, NULL, x, w, groups, p->group, p->eps);
    else
        for (int64_t i = 0; i < groups; i++)
            norm(y + i * p->group, NULL, x + i * p->group, w + i % weights * p->group, 1, p->group, p->eps);
}

static void run_layernorm(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                          void *scratch)
{
    (void)scratch;
    const struct norm_params *p = n->params;
    layernorm_fwd_fn *norm = kernels_of(g)->layernorm_fwd;
    real *y = tensor_row(&n->out, begin);
    const real *x = tensor_row(&n->in[0]->out, begin), *w = n->in[1]->out.data;
    const real *b = n->input_count == 3 ? n->in[2]->out.data : NULL;
    int64_t groups = (end - begin) * n->out.ne[0] / p->group,
            weights = tensor_elements(&n->in[1]->out) / p->group;
    for (int64_t i = 0, at = 0; i < groups; i++, at = (at + 1) % weights)
        norm(y + i * p->group, NULL, NULL, x + i * p->group, w + at * p->group, b ? b + at * p->group : NULL,
             1, p->group, p->eps);
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

static void run_scale(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    const struct factor_params *p = n->params;
    kernels_of(g)->scale_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                             (end - begin) * n->out.ne[0], p->factor);
}

static void run_softcap(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                        void *scratch)
{
    (void)scratch;
    const struct factor_params *p = n->params;
    kernels_of(g)->softcap_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                               (end - begin) * n->out.ne[0], p->factor);
}

static void run_hadamard(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                         void *scratch)
{
    (void)scratch;
    const struct hadamard_params *p = n->params;
    kernels_of(g)->hadamard_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                                (end - begin) * n->out.ne[0], p->block);
}

static void run_activation(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                           void *scratch)
{
    (void)scratch;
    const struct activation_params *p = n->params;
    kernels_of(g)->activation_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                                  (end - begin) * n->out.ne[0], p->kind);
}

static void run_glu(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    const struct activation_params *p = n->params;
    kernels_of(g)->glu_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                           tensor_row(&n->in[1]->out, begin), (end - begin) * n->out.ne[0], p->kind);
}

static void run_slice(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)scratch;
    const struct slice_params *p = n->params;
    int64_t part = n->in[0]->out.ne[0] / p->heads;
    for (int64_t r = begin; r < end; r++) {
        const real *x = tensor_row(&n->in[0]->out, r);
        real *y = tensor_row(&n->out, r);
        for (int32_t h = 0; h < p->heads; h++)
            memcpy(y + (int64_t)h * p->count, x + h * part + p->offset, (size_t)p->count * sizeof(real));
    }
}

static void run_concat(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)scratch;
    const struct concat_params *p = n->params;
    int64_t part = n->out.ne[0] / p->heads, first = n->in[0]->out.ne[0] / p->heads, second = part - first;
    for (int64_t r = begin; r < end; r++) {
        const real *a = tensor_row(&n->in[0]->out, r), *b = tensor_row(&n->in[1]->out, r);
        real *y = tensor_row(&n->out, r);
        for (int32_t h = 0; h < p->heads; h++) {
            memcpy(y + h * part, a + h * first, (size_t)first * sizeof(real));
            memcpy(y + h * part + first, b + (p->b_shared ? 0 : h * second), (size_t)second * sizeof(real));
        }
    }
}

static void run_rope_table(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                           void *scratch)
{
    (void)scratch;
    const struct rope_table_params *p = n->params;
    const int32_t *positions = n->in[0]->out.data;
    int32_t pairs = (int32_t)n->in[1]->out.ne[0];
    real *table = tensor_row(&n->out, begin);
    kernels_of(g)->rope_table_fwd(table, positions + begin, n->in[1]->out.data, end - begin, pairs,
                                  p->magnitude);
    for (int64_t i = 1; p->inverse && i < (end - begin) * 2 * pairs; i += 2) table[i] = -table[i];
}

static void run_rope(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)scratch;
    const struct rope_params *p = n->params;
    kernels_of(g)->rope_fwd(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                            tensor_row(&n->in[1]->out, begin), end - begin, p->heads, p->head_dim, p->pairs,
                            p->pairing);
}

// Rows that follow one another in a block are put there together.
static void run_kv_write(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                         void *scratch)
{
    const struct kv_write_params *p = n->params;
    const int32_t *slots = n->in[1]->out.data;
    const size_t bytes = dtype_row_bytes(p->cache.type, p->head_dim);
    row_from_real_fn *from_real = kernels_of(g)->from_real[p->cache.type];
    for (int64_t r = begin, count; r < end; r += count) {
        const int32_t block = slots[r] / KV_BLOCK, place = slots[r] % KV_BLOCK;
        for (count = 1; r + count < end && place + count < KV_BLOCK; count++)
            if (slots[r + count] != slots[r] + count) break;
        for (int32_t h = 0; h < p->heads; h++) {
            for (int64_t i = 0; i < count; i++)
                from_real((char *)scratch + (size_t)i * bytes,
                          (const real *)tensor_row(&n->in[0]->out, r + i) + (int64_t)h * p->head_dim,
                          p->head_dim);
            paged_put_rows(&p->cache, paged_rows(&p->cache, block, h), place, count, scratch, p->head_dim);
        }
    }
}

static size_t scratch_kv_write(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct kv_write_params *p = n->params;
    return KV_BLOCK * dtype_row_bytes(p->cache.type, p->head_dim);
}

// ---- matmul: units are groups of outputs --------------------------------------------------------------

static const struct matmul_kernel *matmul_of(const struct graph *g, const struct node *n)
{
    return &kernels_of(g)->matmul[n->in[1]->out.type];
}

int64_t REF(matmul_units)(const struct matmul_kernel *k, int64_t outputs)
{
    return (outputs + k->unit - 1) / k->unit;
}

static int64_t units_matmul(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n) ? REF(matmul_units)(matmul_of(g, n), n->out.ne[0]) : 0;
}

size_t REF(matmul_scratch)(const struct matmul_kernel *k, int64_t k_count)
{
    return k->scratch + (k->dequantize ? (size_t)k->unit * (size_t)k_count * sizeof(real) : 0);
}

static size_t scratch_matmul(const struct graph *g, const struct node *n)
{
    return REF(matmul_scratch)(matmul_of(g, n), n->in[1]->out.ne[0]);
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

void REF(matmul_run)(const struct graph *g, const struct matmul_kernel *k, struct matmul_args a,
                     int64_t begin, int64_t end)
{
    int64_t outputs = a.n_end;
    a.n_begin = begin * k->unit;
    a.n_end = end * k->unit < outputs ? end * k->unit : outputs;
    if (k->dequantize)
        run_dequantized(g, k, a);
    else
        k->fwd(&a);
}

static void run_matmul(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    const struct tensor *x = &n->in[0]->out, *w = &n->in[1]->out;
    struct matmul_args a = {
        .y = n->out.data,
        .y_stride = (size_t)n->out.ne[0],
        .x = x->data,
        .x_stride = (size_t)x->ne[0],
        .w = w->data,
        .w_type = w->type,
        .w_stride = w->nb[1],
        .n_end = n->out.ne[0],
        .t_count = graph_rows(g, n),
        .k_count = w->ne[0],
        .scratch = scratch,
    };
    REF(matmul_run)(g, matmul_of(g, n), a, begin, end);
}

// ---- matmul_heads: units are (head, group of outputs) -------------------------------------------------

// Parts of a row are no rows that could be converted to a kernel's own type: types that want that are dequantized.
static struct matmul_kernel heads_kernel(const struct graph *g, const struct node *n)
{
    struct matmul_kernel k = *matmul_of(g, n);
    if (k.x_type == DTYPE_REAL) return k;
    k = kernels_of(g)->matmul[DTYPE_REAL];
    k.dequantize = true;
    return k;
}

static int64_t units_matmul_heads(const struct graph *g, const struct node *n)
{
    const struct tensor *w = &n->in[1]->out;
    struct matmul_kernel k = heads_kernel(g, n);
    return graph_rows(g, n) ? w->ne[2] * REF(matmul_units)(&k, w->ne[1]) : 0;
}

static size_t scratch_matmul_heads(const struct graph *g, const struct node *n)
{
    struct matmul_kernel k = heads_kernel(g, n);
    return REF(matmul_scratch)(&k, n->in[1]->out.ne[0]);
}

static void run_matmul_heads(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                             void *scratch)
{
    const struct tensor *x = &n->in[0]->out, *w = &n->in[1]->out;
    struct matmul_kernel k = heads_kernel(g, n);
    int64_t units = REF(matmul_units)(&k, w->ne[1]);
    for (int64_t u = begin, next; u < end; u = next) {
        int64_t h = u / units;
        next = (h + 1) * units < end ? (h + 1) * units : end;
        struct matmul_args a = {
            .y = (real *)n->out.data + h * w->ne[1],
            .y_stride = (size_t)n->out.ne[0],
            .x = (const real *)x->data + h * w->ne[0],
            .x_stride = (size_t)x->ne[0],
            .w = (const char *)w->data + (size_t)h * w->nb[2],
            .w_type = w->type,
            .w_stride = w->nb[1],
            .n_end = w->ne[1],
            .t_count = graph_rows(g, n),
            .k_count = w->ne[0],
            .scratch = scratch,
        };
        REF(matmul_run)(g, &k, a, u - h * units, next - h * units);
    }
}

// ---- attention: units are (tile of rows, key-value head) ----------------------------------------------

static int64_t units_attention(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return (int64_t)g->counts[EXTENT_TILES] * p->kv_heads;
}

static int64_t units_attention_prefix(const struct graph *g, const struct node *n)
{
    const struct attention_prefix_params *p = n->params;
    return (int64_t)g->counts[EXTENT_PREFIX_TILES] * p->attention.kv_heads;
}

static size_t scratch_attention(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return kernels_of(g)->attention_scratch(ATTENTION_ROWS, p->heads / p->kv_heads, p->head_dim,
                                            p->value_dim);
}

#define scratch_attention_prefix scratch_attention // its params begin with those of attention

// What both ops say of a tile and a key-value head. states: the output of attention_prefix, or NULL.
static struct attention_args attention_call(const struct attention_params *p,
                                            const struct attention_tile *tile, int32_t head,
                                            const struct tensor *q, const struct tensor *positions,
                                            const struct tensor *tables, const struct tensor *states)
{
    int32_t group = p->heads / p->kv_heads;
    return (struct attention_args){
        .q = tensor_row(q, tile->row),
        .blocks = (const int32_t *)tables->data + tile->sequence * tables->ne[0],
        .pos = (const int32_t *)positions->data + tile->row,
        .q_stride = (size_t)q->ne[0],
        .rows = tile->rows,
        .head_begin = head * group,
        .head_count = group,
        .kv_head = head,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .window = p->window,
        .scale = (float)p->scale,
        .softcap = (float)p->softcap,
        .sinks = p->sinks ? p->sinks->data : NULL,
        .slopes = p->slopes ? p->slopes->data : NULL,
        .state = states ? tensor_row(states, tile->row) : NULL,
        .state_stride = states ? (size_t)states->ne[0] : 0,
    };
}

static void run_attention(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                          void *scratch)
{
    const struct attention_params *p = n->params;
    const struct kv_write_params *k = n->in[1]->params, *v = n->in[2]->params;
    const struct attention_tile *tiles = n->in[4]->out.data;
    for (int64_t u = begin; u < end; u++) {
        const struct attention_tile *tile = &tiles[u / p->kv_heads];
        int64_t keys = n->input_count == 7 ? tile->keys : 0;
        struct attention_args a =
            attention_call(p, tile, (int32_t)(u % p->kv_heads), &n->in[0]->out, &n->in[3]->out,
                           &n->in[5]->out, keys ? &n->in[6]->out : NULL);
        a.y = tensor_row(&n->out, tile->row);
        a.y_stride = (size_t)n->out.ne[0];
        a.lse = n->saved.ne[0] ? tensor_row(&n->saved, tile->row) : NULL;
        a.lse_stride = (size_t)n->saved.ne[0];
        a.k = k->cache;
        a.v = v->cache;
        a.key_begin = keys;
        a.scratch = scratch;
        kernels_of(g)->attention_fwd(&a);
    }
}

static void run_attention_prefix(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                                 void *scratch)
{
    const struct attention_prefix_params *p = n->params;
    const struct attention_tile *tiles = n->in[2]->out.data;
    int32_t heads = p->attention.kv_heads;
    for (int64_t u = begin; u < end; u++) {
        const struct attention_tile *tile = &tiles[u / heads];
        struct attention_args a = attention_call(&p->attention, tile, (int32_t)(u % heads), &n->in[0]->out,
                                                 &n->in[1]->out, &n->in[3]->out, &n->out);
        a.k = p->k;
        a.v = p->v;
        a.key_end = tile->keys;
        a.scratch = scratch;
        kernels_of(g)->attention_fwd(&a);
    }
}

#define scratch_none       NULL
#define scratch_embed      scratch_none
#define scratch_select     scratch_none
#define scratch_convert    scratch_none
#define scratch_rmsnorm    scratch_none
#define scratch_bias       scratch_none
#define scratch_add        scratch_none
#define scratch_layernorm  scratch_none
#define scratch_scale      scratch_none
#define scratch_softcap    scratch_none
#define scratch_hadamard   scratch_none
#define scratch_activation scratch_none
#define scratch_glu        scratch_none
#define scratch_slice      scratch_none
#define scratch_concat     scratch_none
#define scratch_rope_table scratch_none
#define scratch_rope       scratch_none

// Those of ops/nodes_experts.c:
#define units_route             REF(units_route)
#define run_route               REF(run_route)
#define scratch_route           REF(scratch_route)
#define units_sort_experts      REF(units_sort_experts)
#define run_sort_experts        REF(run_sort_experts)
#define scratch_sort_experts    scratch_none
#define units_gather_experts    REF(units_gather_experts)
#define run_gather_experts      REF(run_gather_experts)
#define scratch_gather_experts  scratch_none
#define units_matmul_experts    REF(units_matmul_experts)
#define run_matmul_experts      REF(run_matmul_experts)
#define scratch_matmul_experts  REF(scratch_matmul_experts)
#define units_bias_experts      REF(units_bias_experts)
#define run_bias_experts        REF(run_bias_experts)
#define scratch_bias_experts    scratch_none
#define units_combine_experts   REF(units_combine_experts)
#define run_combine_experts     REF(run_combine_experts)
#define scratch_combine_experts scratch_none
#define scratch_move            scratch_none

// Those of ops/nodes_gradient.c and ops/nodes_experts_gradient.c:
#define units_matmul_nn           REF(units_matmul_nn)
#define run_matmul_nn             REF(run_matmul_nn)
#define scratch_matmul_nn         REF(scratch_matmul_nn)
#define units_transpose           REF(units_transpose)
#define run_transpose             REF(run_transpose)
#define scratch_transpose         scratch_none
#define units_matmul_heads_dx     REF(units_matmul_heads_dx)
#define run_matmul_heads_dx       REF(run_matmul_heads_dx)
#define scratch_matmul_heads_dx   REF(scratch_matmul_nn)
#define units_matmul_heads_dw     REF(units_matmul_heads_dw)
#define run_matmul_heads_dw       REF(run_matmul_heads_dw)
#define scratch_matmul_heads_dw   REF(scratch_matmul_nn)
#define units_rows                units_by_row
#define run_rows                  REF(run_rows)
#define scratch_rows              scratch_none
#define units_rows_dx             units_by_row
#define run_rows_dx               REF(run_rows_dx)
#define scratch_rows_dx           scratch_none
#define units_sum_rows            REF(units_sum_rows)
#define run_sum_rows              REF(run_sum_rows)
#define scratch_sum_rows          scratch_none
#define units_embed_dw            REF(units_embed_dw)
#define run_embed_dw              REF(run_embed_dw)
#define scratch_embed_dw          scratch_none
#define units_rmsnorm_dx          REF(units_rmsnorm_dx)
#define run_rmsnorm_dx            REF(run_rmsnorm_dx)
#define scratch_rmsnorm_dx        scratch_none
#define units_layernorm_dx        REF(units_rmsnorm_dx)
#define run_layernorm_dx          REF(run_rmsnorm_dx)
#define scratch_layernorm_dx      scratch_none
#define units_activation_dx       units_by_row
#define run_activation_dx         REF(run_activation_dx)
#define scratch_activation_dx     scratch_none
#define units_glu_dx              units_by_row
#define run_glu_dx                REF(run_glu_dx)
#define scratch_glu_dx            scratch_none
#define units_softcap_dx          units_by_row
#define run_softcap_dx            REF(run_softcap_dx)
#define scratch_softcap_dx        scratch_none
#define units_slice_dx            units_by_row
#define run_slice_dx              REF(run_slice_dx)
#define scratch_slice_dx          scratch_none
#define units_sum_heads           units_by_row
#define run_sum_heads             REF(run_sum_heads)
#define scratch_sum_heads         scratch_none
#define units_attention_dx        REF(units_attention_dx)
#define run_attention_dx          REF(run_attention_dx)
#define scratch_attention_dx      REF(scratch_attention_dx)
#define units_dropout             units_by_row
#define run_dropout               REF(run_dropout)
#define scratch_dropout           scratch_none
#define units_cross_entropy       units_by_row
#define run_cross_entropy         REF(run_cross_entropy)
#define scratch_cross_entropy     scratch_none
#define units_distill             units_by_row
#define run_distill               REF(run_distill)
#define scratch_distill           scratch_none
#define units_combine_dx          units_by_row
#define run_combine_dx            REF(run_combine_dx)
#define scratch_combine_dx        scratch_none
#define units_combine_dw          units_by_row
#define run_combine_dw            REF(run_combine_dw)
#define scratch_combine_dw        scratch_none
#define units_gather_dx           units_by_row
#define run_gather_dx             REF(run_gather_dx)
#define scratch_gather_dx         scratch_none
#define units_matmul_experts_dx   REF(units_matmul_experts_dx)
#define run_matmul_experts_dx     REF(run_matmul_experts_dx)
#define scratch_matmul_experts_dx REF(scratch_matmul_nn)
#define units_matmul_experts_dw   REF(units_matmul_experts_dw)
#define run_matmul_experts_dw     REF(run_matmul_experts_dw)
#define scratch_matmul_experts_dw REF(scratch_matmul_nn)
#define units_bias_experts_dw     REF(units_bias_experts_dw)
#define run_bias_experts_dw       REF(run_bias_experts_dw)
#define scratch_bias_experts_dw   scratch_none
#define units_route_dx            units_by_row
#define run_route_dx              REF(run_route_dx)
#define scratch_route_dx          scratch_none

const struct op REF(op_table)[OP_COUNT] = {
#define OP(name, light) [OP_##name] = {#name, units_##name, run_##name, scratch_##name, light},
#include "ops/ops.def"
#undef OP
};
