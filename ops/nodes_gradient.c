// ops/nodes_gradient.c -- the ops of training as the CPU runs them.
//
// Sums over rows are taken in a fixed order whatever the number of threads: by one unit (a stretch of columns, a range of the vocabulary,
// a sequence and head), or in parts of GRADIENT_ROWS rows that are added up afterwards.
#include "ops/gradient.h"
#include "ops/nodes_cpu.h"

// Has the output numbers that the result is added to? Those of a base that is not in the same place are copied there.
static bool adds(const struct node *n)
{
    return n->effect == EFFECT_GRADIENT ? adds_to_gradient(n) : n->base != NULL;
}

static void take_base(const struct node *n, int64_t begin, int64_t end)
{
    if (!n->base || n->base->out.data == n->out.data) return;
    memcpy(tensor_row(&n->out, begin), tensor_row(&n->base->out, begin),
           (size_t)(end - begin) * n->out.nb[1]);
}

static int64_t units_of_rows(const struct graph *g, const struct node *n)
{
    return (graph_rows(g, n) + GRADIENT_ROWS - 1) / GRADIENT_ROWS;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#define RUN(name)                                                                                 \
    void REF(run_##name)(const struct graph *g, const struct node *n, int64_t begin, int64_t end, \
                         void *scratch)

// ---- matmul_nn: units are (block of rows, group of outputs) -------------------------------------------

// A block of x stays in the cache while it goes past all groups of outputs, each of which packs its part of w again: once for so many
// rows, which is cheap. The other order read x from memory for each group.
enum { NN_ROWS = 384 };

static const struct matmul_kernel *nn_kernel(const struct graph *g, enum dtype w)
{
    return &kernels_of(g)->matmul_nn[w];
}

static int64_t nn_units(const struct matmul_kernel *k, int64_t rows, int64_t outputs)
{
    return (rows + NN_ROWS - 1) / NN_ROWS * REF(matmul_units)(k, outputs);
}

// What unit u computes: rows first .. first + rows - 1, outputs begin .. end - 1.
struct nn_part {
    int64_t first, rows, begin, end;
};

static struct nn_part nn_part(const struct matmul_kernel *k, int64_t rows, int64_t outputs, int64_t u)
{
    int64_t groups = REF(matmul_units)(k, outputs), first = u / groups * NN_ROWS,
            begin = u % groups * k->unit;
    return (struct nn_part){first, least(NN_ROWS, rows - first), begin, least(begin + k->unit, outputs)};
}

// Units begin .. end of one product of a.t_count rows and a.n_end outputs.
static void nn_run(const struct matmul_kernel *k, const struct matmul_args *all, int64_t begin, int64_t end)
{
    for (int64_t u = begin; u < end; u++) {
        struct nn_part p = nn_part(k, all->t_count, all->n_end, u);
        struct matmul_args a = *all;
        a.x = (const char *)all->x + (size_t)p.first * all->x_stride * dtype_row_bytes(k->x_type, 1);
        a.y = (real *)all->y + (size_t)p.first * all->y_stride;
        a.t_count = p.rows;
        a.n_begin = p.begin;
        a.n_end = p.end;
        k->fwd(&a);
    }
}

// Rows of x: all of a transposed matrix, those of the step of an activation.
static int64_t nn_rows(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n->in[0]);
}

int64_t REF(units_matmul_nn)(const struct graph *g, const struct node *n)
{
    return nn_units(nn_kernel(g, n->in[1]->out.type), nn_rows(g, n), n->out.ne[0]);
}

// And of the other products whose second input is the matrix that is packed.
size_t REF(scratch_matmul_nn)(const struct graph *g, const struct node *n)
{
    return nn_kernel(g, n->in[1]->out.type)->scratch;
}

RUN(matmul_nn)
{
    const struct tensor *x = &n->in[0]->out, *w = &n->in[1]->out;
    const struct matmul_kernel *k = nn_kernel(g, w->type);
    struct matmul_args a = {
        .y = n->out.data,
        .y_stride = (size_t)n->out.ne[0],
        .x = x->data,
        .x_stride = (size_t)x->ne[0],
        .w = w->data,
        .w_type = w->type,
        .w_stride = w->nb[1],
        .n_end = n->out.ne[0],
        .t_count = nn_rows(g, n),
        .k_count = graph_rows(g, n->in[1]),
        .add = adds(n),
        .scratch = scratch,
    };
    // A base elsewhere: its part of what these units compute.
    for (int64_t u = begin; u < end && n->base && n->base->out.data != n->out.data; u++) {
        struct nn_part p = nn_part(k, a.t_count, a.n_end, u);
        for (int64_t r = p.first; r < p.first + p.rows; r++)
            memcpy((real *)tensor_row(&n->out, r) + p.begin, (real *)tensor_row(&n->base->out, r) + p.begin,
                   (size_t)(p.end - p.begin) * sizeof(real));
    }
    nn_run(k, &a, begin, end);
}

// ---- transpose: units are groups of columns -----------------------------------------------------------

enum { TRANSPOSE_COLS = 64 };

int64_t REF(units_transpose)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n->in[0]) ? (n->out.ne[1] + TRANSPOSE_COLS - 1) / TRANSPOSE_COLS : 0;
}

RUN(transpose)
{
    (void)scratch;
    const struct tensor *x = &n->in[0]->out;
    int64_t first = begin * TRANSPOSE_COLS, cols = least(end * TRANSPOSE_COLS, n->out.ne[1]) - first;
    kernels_of(g)->transpose_fwd(tensor_row(&n->out, first), (size_t)n->out.ne[0], n->out.type,
                                 (const real *)x->data + first, (size_t)x->ne[0], graph_rows(g, n->in[0]),
                                 cols);
}

// ---- matmul_heads: units are heads --------------------------------------------------------------------

int64_t REF(units_matmul_heads_dx)(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n) ? n->in[1]->out.ne[2] : 0;
}

int64_t REF(units_matmul_heads_dw)(const struct graph *g, const struct node *n)
{
    (void)g;
    return n->out.ne[2];
}

RUN(matmul_heads_dx)
{
    const struct tensor *dy = &n->in[0]->out, *w = &n->in[1]->out;
    const struct matmul_kernel *k = nn_kernel(g, w->type);
    for (int64_t h = begin; h < end; h++) {
        struct matmul_args a = {
            .y = (real *)n->out.data + h * w->ne[0],
            .y_stride = (size_t)n->out.ne[0],
            .x = (const char *)dy->data + (size_t)(h * w->ne[1]) * dtype_row_bytes(dy->type, 1),
            .x_stride = (size_t)dy->ne[0],
            .w = (const char *)w->data + (size_t)h * w->nb[2],
            .w_type = w->type,
            .w_stride = w->nb[1],
            .n_end = w->ne[0],
            .t_count = graph_rows(g, n),
            .k_count = w->ne[1],
            .scratch = scratch,
        };
        nn_run(k, &a, 0, nn_units(k, a.t_count, a.n_end));
    }
}

RUN(matmul_heads_dw)
{
    const struct tensor *dy = &n->in[0]->out, *x = &n->in[1]->out, *w = &n->out;
    const struct matmul_kernel *k = nn_kernel(g, x->type);
    for (int64_t h = begin; h < end; h++) {
        struct matmul_args a = {
            .y = (char *)w->data + (size_t)h * w->nb[2],
            .y_stride = (size_t)w->ne[0],
            .x = tensor_row(dy, h * w->ne[1]),
            .x_stride = (size_t)dy->ne[0],
            .w = (const real *)x->data + h * w->ne[0],
            .w_type = x->type,
            .w_stride = x->nb[1],
            .n_end = w->ne[0],
            .t_count = w->ne[1],
            .k_count = graph_rows(g, n->in[1]),
            .add = adds(n),
            .scratch = scratch,
        };
        nn_run(k, &a, 0, nn_units(k, a.t_count, a.n_end));
    }
}

// ---- rows ---------------------------------------------------------------------------------------------

RUN(rows)
{
    (void)g, (void)scratch;
    const struct rows_params *p = n->params;
    memcpy(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, p->begin + begin),
           (size_t)(end - begin) * n->out.nb[1]);
}

RUN(rows_dx)
{
    (void)scratch;
    const struct rows_params *p = n->params;
    int64_t count = n->in[0]->out.ne[1];
    take_base(n, begin, end);
    for (int64_t r = begin; r < end; r++) {
        bool ours = r >= p->begin && r < p->begin + count;
        real *y = tensor_row(&n->out, r);
        if (!n->base) memset(y, 0, n->out.nb[1]);
        if (ours) kernels_of(g)->add_fwd(y, y, tensor_row(&n->in[0]->out, r - p->begin), n->out.ne[0]);
    }
}

enum { SUM_COLS = 64 };

int64_t REF(units_sum_rows)(const struct graph *g, const struct node *n)
{
    (void)g;
    return (tensor_elements(&n->out) + SUM_COLS - 1) / SUM_COLS;
}

// Rows of what a node saved: one a tile of attention, or one a part of the rows.
static int64_t saved_rows(const struct graph *g, const struct node *n)
{
    return n->op == OP_attention_dx ? g->counts[EXTENT_TILES] : units_of_rows(g, n);
}

RUN(sum_rows)
{
    (void)scratch;
    const struct sum_rows_params *p = n->params;
    const struct node *in = n->in[0];
    const struct tensor *x = p->saved ? &in->saved : &in->out;
    int64_t rows = p->saved ? saved_rows(g, in) : graph_rows(g, in);
    int64_t first = begin * SUM_COLS, last = least(end * SUM_COLS, tensor_elements(&n->out));
    kernels_of(g)->sum_rows((real *)n->out.data + first, (const real *)x->data + p->offset + first, rows,
                            last - first, (size_t)x->ne[0], adds(n));
}

// Units are ranges of the vocabulary: each looks for its tokens among all rows.
enum { EMBED_ROWS = 1024 };

int64_t REF(units_embed_dw)(const struct graph *g, const struct node *n)
{
    (void)g;
    return (n->out.ne[1] + EMBED_ROWS - 1) / EMBED_ROWS;
}

RUN(embed_dw)
{
    (void)scratch;
    const int32_t *tokens = n->in[1]->out.data;
    int64_t rows = graph_rows(g, n->in[0]), first = begin * EMBED_ROWS,
            last = least(end * EMBED_ROWS, n->out.ne[1]);
    if (!adds(n)) memset(tensor_row(&n->out, first), 0, (size_t)(last - first) * n->out.nb[1]);
    for (int64_t r = 0; r < rows; r++) {
        if (tokens[r] < first || tokens[r] >= last) continue;
        real *y = tensor_row(&n->out, tokens[r]);
        kernels_of(g)->add_fwd(y, y, tensor_row(&n->in[0]->out, r), n->out.ne[0]);
    }
}

// ---- norms: units are parts of GRADIENT_ROWS rows -----------------------------------------------------

int64_t REF(units_rmsnorm_dx)(const struct graph *g, const struct node *n)
{
    return units_of_rows(g, n);
}

// What a part saves: dw, and db behind it; NULL where frozen.
struct norm_part {
    real *dw, *db;
};

static struct norm_part norm_part(const struct node *n, int64_t part)
{
    int64_t weights = tensor_elements(&n->in[2]->out);
    if (!n->saved.ne[0]) return (struct norm_part){0};
    real *row = tensor_row(&n->saved, part);
    memset(row, 0, n->saved.nb[1]);
    return (struct norm_part){row, n->saved.ne[0] > weights ? row + weights : NULL};
}

static void norm_rows(const struct graph *g, const struct node *n, int64_t begin, int64_t end,
                      struct norm_part to)
{
    const struct norm_params *p = n->params;
    const real *w = n->in[2]->out.data;
    int64_t per_row = n->out.ne[0] / p->group, weights = tensor_elements(&n->in[2]->out) / p->group;
    take_base(n, begin, end);
    // Groups that share one weight are rows of one call.
    int64_t step = weights == 1 ? (end - begin) * per_row : 1, count = (end - begin) * per_row;
    for (int64_t i = 0; i < count; i += step) {
        int64_t at = i % weights * p->group;
        real *dx = (real *)tensor_row(&n->out, begin) + i * p->group;
        const real *dy = (const real *)tensor_row(&n->in[0]->out, begin) + i * p->group;
        const real *x = (const real *)tensor_row(&n->in[1]->out, begin) + i * p->group;
        real *dw = to.dw ? to.dw + at : NULL, *db = to.db ? to.db + at : NULL;
        if (n->op == OP_rmsnorm_dx)
            kernels_of(g)->rmsnorm_dx(dx, dw, dy, x, w + at, step, p->group, p->eps, adds(n));
        else
            kernels_of(g)->layernorm_dx(dx, dw, db, dy, x, w + at, step, p->group, p->eps, adds(n));
    }
}

// And of layernorm_dx.
RUN(rmsnorm_dx)
{
    (void)scratch;
    int64_t rows = graph_rows(g, n);
    for (int64_t u = begin; u < end; u++)
        norm_rows(g, n, u * GRADIENT_ROWS, least((u + 1) * GRADIENT_ROWS, rows), norm_part(n, u));
}

// ---- row-wise -----------------------------------------------------------------------------------------

RUN(activation_dx)
{
    (void)scratch;
    const struct activation_params *p = n->params;
    kernels_of(g)->activation_dx(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                                 tensor_row(&n->in[1]->out, begin), (end - begin) * n->out.ne[0], p->kind);
}

RUN(glu_dx)
{
    (void)scratch;
    const struct activation_params *p = n->params;
    int64_t cols = n->in[0]->out.ne[0];
    for (int64_t r = begin; r < end; r++) {
        real *dx = tensor_row(&n->out, r);
        kernels_of(g)->glu_dx(dx, dx + cols, tensor_row(&n->in[0]->out, r), tensor_row(&n->in[1]->out, r),
                              tensor_row(&n->in[2]->out, r), cols, p->kind);
    }
}

RUN(softcap_dx)
{
    (void)scratch;
    const struct factor_params *p = n->params;
    kernels_of(g)->softcap_dx(tensor_row(&n->out, begin), tensor_row(&n->in[0]->out, begin),
                              tensor_row(&n->in[1]->out, begin), (end - begin) * n->out.ne[0], p->factor);
}

RUN(slice_dx)
{
    (void)scratch;
    const struct slice_params *p = n->params;
    int64_t part = n->out.ne[0] / p->heads;
    take_base(n, begin, end);
    if (!n->base) memset(tensor_row(&n->out, begin), 0, (size_t)(end - begin) * n->out.nb[1]);
    for (int64_t r = begin; r < end; r++) {
        const real *dy = tensor_row(&n->in[0]->out, r);
        real *y = tensor_row(&n->out, r);
        for (int32_t h = 0; h < p->heads; h++, dy += p->count) {
            real *to = y + h * part + p->offset;
            kernels_of(g)->add_fwd(to, to, dy, p->count);
        }
    }
}

RUN(sum_heads)
{
    (void)scratch;
    const struct slice_params *p = n->params;
    for (int64_t r = begin; r < end; r++)
        kernels_of(g)->sum_rows(tensor_row(&n->out, r), tensor_row(&n->in[0]->out, r), p->heads, p->count,
                                (size_t)p->count, false);
}

// A draw a number: four of them a block of the counter.
RUN(dropout)
{
    (void)scratch;
    const struct dropout_params *p = n->params;
    const uint32_t *words = n->in[1]->out.data;
    const uint64_t seed = (uint64_t)words[1] << 32 | words[0];
    const uint32_t limit = (uint32_t)(p->rate * 0x1p32);
    const int64_t cols = n->out.ne[0];
    for (int64_t r = begin; r < end; r++)
        kernels_of(g)->dropout_fwd(tensor_row(&n->out, r), tensor_row(&n->in[0]->out, r), cols, seed,
                                   p->stream, (uint64_t)(r * ((cols + 3) / 4)), limit, 1 / (1 - p->rate));
}

RUN(cross_entropy)
{
    (void)scratch;
    const struct rows_params *p = n->params;
    const int32_t *targets = (const int32_t *)n->in[0]->out.data + p->begin;
    double *losses = (double *)n->in[1]->out.data + p->begin, factor = *(const double *)n->in[2]->out.data;
    for (int64_t r = begin; r < end; r++)
        losses[r] = kernels_of(g)->cross_entropy(tensor_row(&n->out, r), tensor_row(&n->base->out, r),
                                                 targets[r], n->out.ne[0], factor);
    (void)g;
}

RUN(distill)
{
    (void)scratch;
    const struct distill_params *p = n->params;
    const int32_t *targets = (const int32_t *)n->in[0]->out.data + p->begin;
    double *losses = (double *)n->in[1]->out.data + p->begin, factor = *(const double *)n->in[2]->out.data;
    for (int64_t r = begin; r < end; r++)
        losses[r] =
            kernels_of(g)->distill(tensor_row(&n->out, r), tensor_row(&n->base->out, r),
                                   tensor_row(&n->in[3]->out, r), targets[r], n->out.ne[0], p->share, factor);
}

// ---- attention: units are (tile of rows, key-value head); the first tile of a sequence stands for all of it ------------

int64_t REF(units_attention_dx)(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return (int64_t)g->counts[EXTENT_TILES] * p->kv_heads;
}

size_t REF(scratch_attention_dx)(const struct graph *g, const struct node *n)
{
    const struct attention_params *p = n->params;
    return kernels_of(g)->attention_dx_scratch(n->out.ne[1], p->heads / p->kv_heads, p->head_dim,
                                               p->value_dim);
}

RUN(attention_dx)
{
    const struct attention_params *p = n->params;
    const struct tensor *y = &n->in[1]->out, *lse = &n->in[1]->saved, *q = &n->in[2]->out,
                        *k = &n->in[3]->out, *v = &n->in[4]->out;
    const struct attention_tile *tiles = n->in[5]->out.data;
    int32_t count = g->counts[EXTENT_TILES], group = p->heads / p->kv_heads;
    for (int64_t u = begin; u < end; u++) {
        int32_t t = (int32_t)(u / p->kv_heads), head = (int32_t)(u % p->kv_heads);
        const struct attention_tile *tile = &tiles[t];
        real *dsinks = n->saved.ne[0] ? tensor_row(&n->saved, t) : NULL;
        if (dsinks) memset(dsinks + head * group, 0, (size_t)group * sizeof *dsinks);
        if (t && tile[-1].sequence == tile->sequence) continue;
        int64_t rows = 0;
        for (int32_t i = t; i < count && tiles[i].sequence == tile->sequence; i++) rows += tiles[i].rows;
        real *dq = tensor_row(&n->out, tile->row), *dk = dq + (int64_t)p->heads * p->head_dim;
        kernels_of(g)->attention_dx(&(struct attention_dx_args){
            .dq = dq,
            .dk = dk,
            .dv = dk + (int64_t)p->kv_heads * p->head_dim,
            .dsinks = dsinks,
            .q = tensor_row(q, tile->row),
            .k = tensor_row(k, tile->row),
            .v = tensor_row(v, tile->row),
            .y = tensor_row(y, tile->row),
            .dy = tensor_row(&n->in[0]->out, tile->row),
            .lse = tensor_row(lse, tile->row),
            .sinks = p->sinks ? p->sinks->data : NULL,
            .slopes = p->slopes ? p->slopes->data : NULL,
            .dx_stride = (size_t)n->out.ne[0],
            .q_stride = (size_t)q->ne[0],
            .k_stride = (size_t)k->ne[0],
            .v_stride = (size_t)v->ne[0],
            .y_stride = (size_t)y->ne[0],
            .lse_stride = (size_t)lse->ne[0],
            .rows = rows,
            .head_begin = head * group,
            .head_count = group,
            .kv_head = head,
            .head_dim = p->head_dim,
            .value_dim = p->value_dim,
            .window = p->window,
            .scale = (float)p->scale,
            .softcap = (float)p->softcap,
            .scratch = scratch,
        });
    }
}
