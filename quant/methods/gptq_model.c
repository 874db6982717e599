// quant/methods/gptq_model.c -- GPTQ over a whole model, layer by layer.
//
// A layer's matrices are taken in the order in which rows come to them: those that read the same rows together, and then the rows behind
// them are computed with what they have become. So the moments that a matrix is rounded by are those of the rows that it will meet.
#include <math.h>

#include "ops/nodes_experts.h"
#include "quant/methods/gptq.h"
#include "quant/methods/method.h"
#include "quant/quant.h"

enum { MOMENTS_BYTES = 1 << 30 }; // of experts that are looked at in one pass, if that is more than one
static const double DAMPING = 0.01;

struct run {
    struct quant_work *w;
    struct layers layers;
    struct threads *threads;
    // Of the layer: its products, and what their matrices have become.
    struct layers_product products[LAYERS_PRODUCTS];
    struct tensor copies[LAYERS_PRODUCTS];
    int count;
};

// Products of one input, and the experts first .. first + mats - 1 of them that are looked at now.
struct site {
    struct run *run;
    struct hessian hessian;
    const struct layers_product *product; // the first of them
    int64_t first;
};

// The place in the file of what a product multiplies by; -1 where it is not to be rounded.
static int64_t tensor_of(const struct run *r, const struct layers_product *p)
{
    const struct gguf_tensor *t = gguf_find_tensor(r->w->in, p->name);
    if (!t) return -1;
    int64_t i = t - r->w->in->tensors;
    enum dtype type = r->w->types[i];
    bool rounded = type != t->tensor.type && dtype_traits[type].block_size > 1;
    return rounded && quant_types[t->tensor.type].dequantize ? i : -1;
}

static bool same_site(const struct layers_product *a, const struct layers_product *b)
{
    return a->input == b->input && a->sorted == b->sorted && a->matrix->ne[0] == b->matrix->ne[0] &&
           a->matrix->ne[2] == b->matrix->ne[2];
}

// ---- moments ------------------------------------------------------------------------------------------

static enum tlm_status add_text(void *user, struct node *const *nodes, struct tlm_error *err)
{
    struct site *s = user;
    struct hessian *h = &s->hessian;
    const struct tensor *x = &nodes[0]->out;
    size_t stride = (size_t)x->ne[0];
    (void)err;
    for (int64_t m = 0; m < h->mats; m++) {
        if (s->product->sorted >= 0) {
            struct order o = order_of(nodes[1]);
            int32_t begin = o.offset[s->first + m], end = o.offset[s->first + m + 1];
            hessian_add(h, m, tensor_row(x, begin), stride, end - begin);
        } else { // heads have their part of each row
            int64_t part = x->ne[0] == h->n ? 0 : (s->first + m) * h->n;
            hessian_add(h, m, (const float *)x->data + part, stride, s->run->layers.config.rows);
        }
    }
    return TLM_OK;
}

static enum tlm_status check_moments(const struct site *s, struct tlm_error *err)
{
    const struct hessian *h = &s->hessian;
    for (int64_t c = 0; c < h->n; c++)
        if (!isfinite(h->h[c * h->n + c]))
            return error_set(err, TLM_ERR_FORMAT, "%s: a number that goes into it is not finite",
                             s->product->name);
    return TLM_OK;
}

// ---- rounding -----------------------------------------------------------------------------------------

struct rows {
    const struct tensor *from;
    enum dtype type;
    const char *data;     // rows of `type`
    char *out;            // what they become
    const float *weights; // of the columns; may be NULL
    enum dtype out_type;
    float *numbers; // (threads, K)
};

static void convert_row(void *user, int64_t i, int thread)
{
    const struct rows *r = user;
    int64_t k = r->from->ne[0];
    float *x = r->numbers + thread * k;
    quant_types[r->type].dequantize(x, r->data + (size_t)i * dtype_row_bytes(r->type, k), k);
    quant_types[r->out_type].quantize(r->out + (size_t)i * dtype_row_bytes(r->out_type, k), x, k, r->weights);
}

static enum tlm_status convert_rows(struct run *r, struct rows *rows, int64_t count, struct tlm_error *err)
{
    rows->numbers = malloc((size_t)threads_count(r->threads) * (size_t)rows->from->ne[0] * sizeof(float));
    if (!rows->numbers) return error_set(err, TLM_ERR_MEMORY, "no memory for rows of a matrix");
    threads_each(r->threads, count, convert_row, rows);
    free(rows->numbers);
    return TLM_OK;
}

// Matrix `mat` of tensor i by the selected moments, or without them where there were too few rows.
static enum tlm_status round_matrix(struct site *s, uint64_t i, int64_t mat, bool few, struct tlm_error *err)
{
    struct run *r = s->run;
    struct quant_work *w = r->w;
    const struct tensor *t = &w->in->tensors[i].tensor;
    const char *from = (const char *)t->data + (size_t)mat * t->nb[2];
    char *to = (char *)w->ready[i] + (size_t)(mat * t->ne[1]) * dtype_row_bytes(w->types[i], t->ne[0]);
    if (!few && quant_types[w->types[i]].grid) {
        struct gptq p = {&s->hessian, w->types[i], from, t->type, t->nb[1], t->ne[1], to};
        return gptq_round(&p, err);
    }
    float *weights = malloc((size_t)t->ne[0] * sizeof *weights);
    if (!weights) return error_set(err, TLM_ERR_MEMORY, "no memory for weights of columns");
    for (int64_t c = 0; c < t->ne[0]; c++) weights[c] = s->hessian.h[c * t->ne[0] + c];
    struct rows rows = {.from = t,
                        .type = t->type,
                        .data = from,
                        .out = to,
                        .out_type = w->types[i],
                        .weights = s->hessian.rows[mat - s->first] > 0 ? weights : NULL};
    enum tlm_status status = convert_rows(r, &rows, t->ne[1], err);
    free(weights);
    return status;
}

// All products of the site, for one of its matrices. The factors go by the blocks of a type, so types that share them share these.
static enum tlm_status round_products(struct site *s, int64_t m, struct tlm_error *err)
{
    struct run *r = s->run;
    struct hessian *h = &s->hessian;
    int64_t block = 0, sub = 0;
    hessian_select(h, m);
    enum tlm_status status = check_moments(s, err);
    bool few = h->rows[m] * 8 < (double)h->n;
    for (int j = 0; j < r->count && !status; j++) {
        int64_t i = same_site(s->product, &r->products[j]) ? tensor_of(r, &r->products[j]) : -1;
        if (i < 0) continue;
        const struct grid *grid = quant_types[r->w->types[i]].grid;
        if (grid && !few && (grid->block != block || grid->sub != sub)) {
            block = grid->block, sub = grid->sub;
            hessian_factor(h, DAMPING, block, sub);
        }
        status = round_matrix(s, (uint64_t)i, s->first + m, few, err);
        if (status) error_prefix(err, "%s", r->products[j].name);
        r->w->all++;
        r->w->plain += few;
    }
    return status;
}

// ---- a layer ------------------------------------------------------------------------------------------

static enum tlm_status run_site(struct site *s, int64_t l, struct tlm_error *err)
{
    struct run *r = s->run;
    const struct layers_product *p = s->product;
    int64_t n = p->matrix->ne[0], most = MOMENTS_BYTES / (n * n * (int64_t)sizeof(float)),
            rows = r->layers.config.rows;
    int32_t nodes[] = {p->input, p->sorted};
    if (p->sorted >= 0) rows *= r->layers.model->hparams.experts.used; // all may choose the same
    if (most < 1) most = 1;
    enum tlm_status status = TLM_OK;
    for (s->first = 0; s->first < p->matrix->ne[2] && !status; s->first += most) {
        int64_t mats = p->matrix->ne[2] - s->first < most ? p->matrix->ne[2] - s->first : most;
        struct layers_run run = {l, nodes, p->sorted < 0 ? 1 : 2, add_text, s, false};
        status = hessian_open(&s->hessian, n, mats, rows, &r->layers.model->kernels, r->threads, err);
        if (!status) status = layers_run(&r->layers, &run, err);
        for (int64_t m = 0; m < mats && !status; m++) status = round_products(s, m, err);
        hessian_close(&s->hessian);
    }
    return status;
}

// The matrix as it was rounded takes the place of the model's, in f16: its own rounding is small beside that.
static enum tlm_status replace(struct run *r, int j, uint64_t i, struct tlm_error *err)
{
    const struct tensor *t = &r->w->in->tensors[i].tensor;
    struct tensor *copy = &r->copies[j];
    *copy = tensor_shape(DTYPE_F16, t->ne[0], t->ne[1], t->ne[2], 1);
    copy->data = malloc(tensor_bytes(copy));
    if (!copy->data)
        return error_set(err, TLM_ERR_MEMORY, "%s: no memory for the %zu bytes of a copy",
                         r->products[j].name, tensor_bytes(copy));
    struct rows rows = {
        .from = t, .type = r->w->types[i], .data = r->w->ready[i], .out = copy->data, .out_type = DTYPE_F16};
    *r->products[j].slot = copy;
    return convert_rows(r, &rows, t->ne[1] * t->ne[2], err);
}

static void restore(struct run *r)
{
    for (int j = 0; j < r->count; j++) {
        if (!r->copies[j].data) continue;
        *r->products[j].slot = r->products[j].matrix;
        free(r->copies[j].data);
        r->copies[j] = (struct tensor){0};
    }
}

static enum tlm_status run_layer(struct run *r, int64_t l, struct tlm_error *err)
{
    enum tlm_status s = layers_products(&r->layers, l, r->products, &r->count, err);
    for (int j = 0; j < r->count && !s; j++) {
        int64_t i = tensor_of(r, &r->products[j]);
        if (i < 0 || r->copies[j].data) continue;
        struct site site = {.run = r, .product = &r->products[j]};
        s = run_site(&site, l, err);
        for (int k = j; k < r->count && !s; k++) {
            int64_t other = same_site(&r->products[j], &r->products[k]) ? tensor_of(r, &r->products[k]) : -1;
            if (other >= 0) s = replace(r, k, (uint64_t)other, err);
        }
    }
    struct layers_run advance = {.layer = l, .advance = true};
    if (!s) s = layers_run(&r->layers, &advance, err);
    restore(r);
    return s;
}

// ---- all ----------------------------------------------------------------------------------------------

// Room for the tensors that a layer's products read.
static enum tlm_status open_spool(struct run *r, struct tlm_error *err)
{
    struct quant_work *w = r->w;
    size_t bytes = 0;
    enum tlm_status s = TLM_OK;
    for (int turn = 0; turn < 2 && !s; turn++) {
        for (int64_t l = 0; l < r->layers.model->hparams.layers && !s; l++) {
            s = layers_products(&r->layers, l, r->products, &r->count, err);
            for (int j = 0; j < r->count && !s; j++) {
                int64_t i = tensor_of(r, &r->products[j]);
                if (i < 0 || w->ready[i]) continue;
                const struct tensor *t = &w->in->tensors[i].tensor;
                size_t own = (size_t)(t->ne[1] * t->ne[2]) * dtype_row_bytes(w->types[i], t->ne[0]);
                if (turn)
                    w->ready[i] = spool_take(&w->spool, own);
                else
                    bytes += align_up(own, 64);
            }
        }
        if (!turn && !s) s = spool_open(&w->spool, w->path, bytes, err);
    }
    return s;
}

// What the output reads says how much its columns matter; no layer reads the result, so more is not to be gained.
static enum tlm_status weigh_output(struct run *r, struct tlm_error *err)
{
    struct imatrix sums = {0};
    enum tlm_status s = imatrix_collect_layer(&sums, &r->layers, r->layers.model->hparams.layers, err);
    for (uint64_t i = 0; i < r->w->in->tensor_count && !s; i++) s = quant_work_weigh(r->w, i, &sums, err);
    imatrix_free(&sums);
    return s;
}

enum tlm_status gptq_run(struct quant_work *w, struct tlm_error *err)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) return error_set(err, TLM_ERR_MEMORY, "no memory to begin");
    int64_t layers = w->model->hparams.layers;
    r->w = w;
    r->threads = w->texts.threads;
    TLM_ASSERT(w->model->real == DTYPE_F32);
    enum tlm_status s = layers_open(&r->layers, w->model, &w->texts, err);
    if (!s) {
        s = open_spool(r, err);
        for (int64_t l = 0; l < layers && !s; l++) {
            s = run_layer(r, l, err);
            if (!s && w->progress && !w->progress(w->user, l + 1, layers))
                s = error_set(err, TLM_ERR_ARGUMENT, "stopped");
        }
        if (!s) s = weigh_output(r, err);
        layers_close(&r->layers);
    }
    free(r);
    return s;
}
