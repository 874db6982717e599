// quant/methods/awq.c -- scaling what goes into a matrix, so that columns with much in them are rounded less. Lin et al., "AWQ", arXiv
// 2306.00978.
//
// Columns are multiplied by s and what they are multiplied by is divided by it, in the norm in front or in the rows of the matrix that
// makes it: the model stays the same but for its rounding. s = size^alpha, size the root of a column's mean square over the rows of a
// text; alpha is the one for which the outputs of some rows of the matrices change least. Which tensor can take the other half of the
// factor is seen from the graph; where none can, the matrix stays as it is.
#include <math.h>

#include "quant/methods/hessian.h"
#include "quant/methods/method.h"
#include "quant/quant.h"

enum { ALPHAS = 11, SAMPLES = 64 }; // alpha 0, 0.1 ... 1; rows of each matrix

struct run {
    struct quant_work *w;
    struct layers layers;
    struct layers_product products[LAYERS_PRODUCTS];
    int count;
};

// One source, and the products that read it.
struct group {
    struct run *run;
    const struct layers_source *source;
    struct hessian hessian;
    float *factor;        // (ALPHAS, K)
    float *samples;       // (threads, 2, SAMPLES, K)
    double error[ALPHAS]; // of what the matrices give
};

static int64_t tensor_of(const struct run *r, const char *name)
{
    const struct gguf_tensor *t = gguf_find_tensor(r->w->in, name);
    return t ? t - r->w->in->tensors : -1;
}

static bool is_rounded(const struct run *r, int64_t i)
{
    enum dtype from = r->w->in->tensors[i].tensor.type, to = r->w->types[i];
    return from != to && dtype_traits[to].block_size > 1 && quant_types[from].dequantize;
}

// A factor goes into numbers, so all who take one must have some.
static bool can_scale(const struct run *r, const char *name)
{
    int64_t i = tensor_of(r, name);
    return i >= 0 && quant_types[r->w->in->tensors[i].tensor.type].dequantize &&
           quant_types[r->w->types[i]].quantize;
}

static bool can_scale_all(const struct group *g)
{
    const struct run *r = g->run;
    bool can = can_scale(r, g->source->weight) && (!*g->source->bias || can_scale(r, g->source->bias)),
         rounds = false;
    for (int j = 0; j < r->count; j++) {
        if (!(g->source->readers >> j & 1)) continue;
        can &= can_scale(r, r->products[j].name);
        rounds |= can && is_rounded(r, tensor_of(r, r->products[j].name));
    }
    return can && rounds;
}

// The number of the source that makes column c.
static int64_t source_of(const struct layers_source *s, int64_t c)
{
    int64_t head = c / s->dim / (s->heads / s->kv_heads);
    return head * s->dim + c % s->dim;
}

// ---- the search for alpha -----------------------------------------------------------------------------

static enum tlm_status add_text(void *user, struct node *const *nodes, struct tlm_error *err)
{
    struct group *g = user;
    const struct tensor *x = &nodes[0]->out;
    (void)err;
    hessian_add(&g->hessian, 0, x->data, (size_t)x->ne[0], g->run->layers.config.rows);
    return TLM_OK;
}

// Factors have a mean of about 1, so that numbers stay in the range of f16. Heads that share their values share factors, too.
static void make_factors(struct group *g)
{
    const struct hessian *h = &g->hessian;
    int64_t n = h->n, share = g->source->heads / g->source->kv_heads;
    for (int a = 0; a < ALPHAS; a++) {
        float *s = g->factor + a * n, low = INFINITY, high = 0;
        memset(s, 0, (size_t)n * sizeof *s);
        for (int64_t c = 0; c < n; c++) s[source_of(g->source, c)] += h->h[c * n + c] / (float)share;
        for (int64_t c = n - 1; c >= 0; c--) // a column stands behind its source
            s[c] = s[source_of(g->source, c)];
        for (int64_t c = 0; c < n; c++) {
            s[c] = fmaxf(powf(s[c], 0.05f * (float)a), 1e-4f);
            low = fminf(low, s[c]), high = fmaxf(high, s[c]);
        }
        for (int64_t c = 0; c < n; c++) s[c] /= sqrtf(low * high);
    }
}

// Some rows of tensor i, spread over it, and what rounding them with those factors loses: into e (SAMPLES, K). Returns how many.
static int64_t lose_samples(const struct group *g, uint64_t i, const float *s, float *x, float *e)
{
    const struct tensor *t = &g->run->w->in->tensors[i].tensor;
    enum dtype type = g->run->w->types[i];
    int64_t k = t->ne[0], all = t->ne[1] * t->ne[2], count = all < SAMPLES ? all : SAMPLES;
    for (int64_t r = 0; r < count; r++) {
        float *w = e + r * k;
        quant_types[t->type].dequantize(w, (const char *)t->data + (size_t)(r * all / count) * t->nb[1], k);
        for (int64_t c = 0; c < k; c++) w[c] *= s[c];
        quant_types[type].quantize(x + k, w, k, NULL); // a row of any type is smaller than one of floats
        quant_types[type].dequantize(x, x + k, k);
        for (int64_t c = 0; c < k; c++) w[c] = (w[c] - x[c]) / s[c];
    }
    return count;
}

static void try_alpha(void *user, int64_t a, int thread)
{
    struct group *g = user;
    const struct hessian *h = &g->hessian;
    const struct run *r = g->run;
    const struct matmul_kernel *nn = &h->kernels->matmul_nn[DTYPE_F32];
    float *e = g->samples + (int64_t)thread * 2 * SAMPLES * h->n, *y = e + SAMPLES * h->n;
    for (int j = 0; j < r->count; j++) {
        int64_t i = g->source->readers >> j & 1 ? tensor_of(r, r->products[j].name) : -1;
        if (i < 0 || !is_rounded(r, i)) continue;
        int64_t count = lose_samples(g, (uint64_t)i, g->factor + a * h->n, y, e);
        struct matmul_args args = {.y = y,
                                   .y_stride = (size_t)h->n,
                                   .x = e,
                                   .x_stride = (size_t)h->n,
                                   .w = h->h,
                                   .w_type = DTYPE_F32,
                                   .w_stride = (size_t)h->n * sizeof(float),
                                   .n_end = h->n,
                                   .t_count = count,
                                   .k_count = h->n,
                                   .scratch = (char *)h->scratch + (size_t)thread * nn->scratch};
        nn->fwd(&args);
        for (int64_t c = 0; c < count * h->n; c++) g->error[a] += (double)e[c] * y[c];
    }
}

// ---- where the factors go -----------------------------------------------------------------------------

// factors[c] *= or /= s[c], of ones where there were none. (count)
static enum tlm_status put(float **factors, int64_t count, int64_t first, const float *s, int64_t n,
                           bool divide, struct tlm_error *err)
{
    if (!*factors) {
        *factors = malloc((size_t)count * sizeof **factors);
        if (!*factors) return error_set(err, TLM_ERR_MEMORY, "no memory for %lld factors", (long long)count);
        for (int64_t c = 0; c < count; c++) (*factors)[c] = 1;
    }
    for (int64_t c = 0; c < n; c++) (*factors)[first + c] *= divide ? 1 / s[c] : s[c];
    return TLM_OK;
}

static enum tlm_status put_all(const struct group *g, float *s, struct tlm_error *err)
{
    const struct layers_source *from = g->source;
    struct quant_work *w = g->run->w;
    int64_t n = g->hessian.n, own = (int64_t)from->kv_heads * from->dim;
    enum tlm_status status = TLM_OK;
    for (int j = 0; j < g->run->count && !status; j++)
        if (from->readers >> j & 1)
            status = put(&w->columns[tensor_of(g->run, g->run->products[j].name)], n, 0, s, n, false, err);
    for (int64_t c = 0; c < n; c++) s[source_of(from, c)] = s[c]; // those of the source, side by side
    uint64_t i = (uint64_t)tensor_of(g->run, from->weight);
    const struct tensor *t = &w->in->tensors[i].tensor;
    if (!status && from->norm) status = put(&w->columns[i], n, 0, s, n, true, err);
    if (!status && !from->norm) status = put(&w->rows[i], t->ne[1], from->row, s, own, true, err);
    if (!status && *from->bias) {
        i = (uint64_t)tensor_of(g->run, from->bias);
        status = put(&w->columns[i], w->in->tensors[i].tensor.ne[0], from->row, s, own, true, err);
    }
    return status;
}

// ---- all ----------------------------------------------------------------------------------------------

static enum tlm_status run_group(struct group *g, int64_t l, int64_t n, struct tlm_error *err)
{
    struct run *r = g->run;
    struct threads *threads = r->w->texts.threads;
    struct layers_run run = {l, &g->source->node, 1, add_text, g, false};
    enum tlm_status s =
        hessian_open(&g->hessian, n, 1, r->layers.config.rows, &r->w->model->kernels, threads, err);
    if (s) return s;
    g->factor = malloc((size_t)n * ALPHAS * sizeof *g->factor);
    g->samples = malloc((size_t)threads_count(threads) * 2 * SAMPLES * (size_t)n * sizeof *g->samples);
    if (!g->factor || !g->samples)
        s = error_set(err, TLM_ERR_MEMORY, "no memory for samples of %lld columns", (long long)n);
    if (!s) s = layers_run(&r->layers, &run, err);
    if (!s) {
        int best = 0;
        hessian_select(&g->hessian, 0);
        make_factors(g);
        threads_each(threads, ALPHAS, try_alpha, g);
        for (int a = 1; a < ALPHAS; a++)
            if (g->error[a] < g->error[best]) best = a;
        if (best) s = put_all(g, g->factor + best * n, err);
    }
    free(g->factor);
    free(g->samples);
    hessian_close(&g->hessian);
    return s;
}

static enum tlm_status run_layer(struct run *r, int64_t l, struct tlm_error *err)
{
    enum tlm_status s = layers_products(&r->layers, l, r->products, &r->count, err);
    uint64_t done = 0;
    for (int j = 0; j < r->count && !s; j++) {
        struct layers_source source;
        if (done >> j & 1 || !layers_source(&r->layers, l, r->products, r->count, j, &source)) continue;
        struct group g = {.run = r, .source = &source};
        done |= source.readers;
        if (can_scale_all(&g)) s = run_group(&g, l, r->products[j].matrix->ne[0], err);
    }
    struct layers_run advance = {.layer = l, .advance = true};
    return s ? s : layers_run(&r->layers, &advance, err);
}

enum tlm_status awq_run(struct quant_work *w, struct tlm_error *err)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r) return error_set(err, TLM_ERR_MEMORY, "no memory to begin");
    int64_t layers = w->model->hparams.layers;
    r->w = w;
    TLM_ASSERT(w->model->real == DTYPE_F32);
    enum tlm_status s = layers_open(&r->layers, w->model, &w->texts, err);
    for (int64_t l = 0; l < layers && !s; l++) {
        s = run_layer(r, l, err);
        if (!s && w->progress && !w->progress(w->user, l + 1, layers))
            s = error_set(err, TLM_ERR_ARGUMENT, "stopped");
    }
    layers_close(&r->layers);
    free(r);
    return s;
}
