#include "quant/methods/limits.h"

#include <math.h>

#include "ops/nodes_experts.h"
#include "quant/composite.h"

// ---- histograms ---------------------------------------------------------------------------------------

enum { SHIFT = 23 - 5, FIRST = (127 - 40) << 5, STEPS = 127 };

static float edge_of(int64_t bin)
{
    uint32_t bits = (uint32_t)(bin + FIRST) << SHIFT;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

bool histogram_add(struct histogram *h, const void *x, enum dtype type, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float v = fabsf(type == DTYPE_F64 ? (float)((const double *)x)[i] : ((const float *)x)[i]);
        if (!isfinite(v)) return false;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        int64_t bin = (int64_t)(bits >> SHIFT) - FIRST;
        h->bin[bin < 0 ? 0 : bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1]++;
        if (v > h->most) h->most = v;
    }
    h->count += (uint64_t)count;
    return true;
}

float histogram_share(const struct histogram *h, double share)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < HISTOGRAM_BINS; i++) {
        sum += h->bin[i];
        if ((double)sum >= share * (double)h->count) return fminf(edge_of(i + 1), h->most);
    }
    return h->most;
}

// Within bins wider than a step errors are spread evenly over it; in others all numbers are those of the middle.
static double squared_error(const struct histogram *h, double limit)
{
    double step = limit / STEPS, sum = 0;
    for (int64_t i = 0; i < HISTOGRAM_BINS; i++) {
        if (!h->bin[i]) continue;
        double low = edge_of(i), high = edge_of(i + 1), x = (low + high) / 2, e;
        if (x > limit)
            e = (x - limit) * (x - limit);
        else if (high - low >= step)
            e = step * step / 12;
        else
            e = (x - step * rint(x / step)) * (x - step * rint(x / step));
        sum += (double)h->bin[i] * e;
    }
    return sum;
}

float histogram_least_error(const struct histogram *h)
{
    enum { OCTAVES = 8 }; // below the largest number: no more of it is worth while
    float best = h->most;
    double least = squared_error(h, best);
    for (int64_t i = 1; i < HISTOGRAM_BINS; i++) {
        float limit = edge_of(i);
        if (limit >= h->most || limit < ldexpf(h->most, -OCTAVES)) continue;
        double error = squared_error(h, limit);
        if (error < least) least = error, best = limit;
    }
    return best;
}

// ---- collecting ---------------------------------------------------------------------------------------

void limits_free(struct limits *l)
{
    free(l->items);
    *l = (struct limits){0};
}

static enum tlm_status add_limit(struct limits *l, const char *name, float limit, struct tlm_error *err)
{
    if (l->count == l->capacity) {
        int64_t capacity = l->capacity ? 2 * l->capacity : 64;
        struct limit *items = reallocarray(l->items, (size_t)capacity, sizeof *items);
        if (!items) return error_set(err, TLM_ERR_MEMORY, "%s: no memory for the limit of its input", name);
        l->items = items;
        l->capacity = capacity;
    }
    struct limit *to = &l->items[l->count++];
    snprintf(to->name, sizeof to->name, "%s", name);
    to->limit = limit;
    return TLM_OK;
}

// What the products of a layer read: each node once, and whose pairs of rows and experts are how many.
struct collector {
    const struct layers *layers;
    struct layers_product products[LAYERS_PRODUCTS];
    int count;
    int32_t nodes[LAYERS_NODES];
    const char *names[LAYERS_NODES]; // of a matrix that reads it
    int sorted[LAYERS_NODES]; // place in nodes, -1: the rows of the text; -2: the node is an order itself
    int node_count;
    struct histogram *of; // [node_count]
};

static int place_of(struct collector *c, int32_t node, const char *name, int sorted)
{
    for (int i = 0; i < c->node_count; i++)
        if (c->nodes[i] == node) return i;
    c->nodes[c->node_count] = node;
    c->names[c->node_count] = name;
    c->sorted[c->node_count] = sorted;
    return c->node_count++;
}

static enum tlm_status add_text(void *user, struct node *const *nodes, struct tlm_error *err)
{
    struct collector *c = user;
    for (int i = 0; i < c->node_count; i++) {
        if (c->sorted[i] == -2) continue;
        const struct tensor *x = &nodes[i]->out;
        int64_t rows = c->layers->config.rows;
        if (c->sorted[i] >= 0) {
            const struct node *sorted = nodes[c->sorted[i]];
            rows = order_of(sorted).offset[c->layers->model->hparams.experts.count];
        }
        if (!histogram_add(&c->of[i], x->data, x->type, rows * x->ne[0]))
            return error_set(err, TLM_ERR_FORMAT, "%s: a number that goes into it is not finite",
                             c->names[i]);
    }
    return TLM_OK;
}

static bool is_whole(const struct layers_product *product)
{
    return product->sorted >= 0 || product->matrix->ne[2] == 1; // heads have their part of a row each
}

static enum tlm_status collect_layer(struct limits *l, struct collector *c, struct layers *p, int64_t layer,
                                     double percent, struct tlm_error *err)
{
    int at[LAYERS_PRODUCTS];
    enum tlm_status s = layers_products(p, layer, c->products, &c->count, err);
    c->layers = p;
    c->node_count = 0;
    for (int i = 0; i < c->count && !s; i++) {
        const struct layers_product *product = &c->products[i];
        int sorted = product->sorted < 0 ? -1 : place_of(c, product->sorted, product->name, -2);
        at[i] = place_of(c, product->input, product->name, sorted);
    }
    memset(c->of, 0, (size_t)c->node_count * sizeof *c->of);
    struct layers_run run = {layer, c->nodes, c->node_count, add_text, c, layer < p->model->hparams.layers};
    if (!s) s = layers_run(p, &run, err);
    for (int i = 0; i < c->count && !s; i++) {
        const struct histogram *h = &c->of[at[i]];
        if (h->most == 0 || !is_whole(&c->products[i])) continue;
        float limit = percent > 0 ? histogram_share(h, percent / 100) : histogram_least_error(h);
        s = add_limit(l, c->products[i].name, limit, err);
    }
    return s;
}

enum tlm_status limits_collect(struct limits *l, struct layers *p, double percent,
                               imatrix_progress_fn *progress, void *user, struct tlm_error *err)
{
    int64_t layers = p->model->hparams.layers;
    struct collector *c = calloc(1, sizeof *c);
    if (c) c->of = malloc(LAYERS_NODES * sizeof *c->of);
    enum tlm_status s =
        c && c->of ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "no memory for histograms of activations");
    for (int64_t i = 0; i <= layers && !s; i++) {
        s = collect_layer(l, c, p, i, percent, err);
        if (!s && progress && !progress(user, i + 1, layers + 1))
            s = error_set(err, TLM_ERR_ARGUMENT, "stopped");
    }
    if (c) free(c->of);
    free(c);
    return s;
}

// ---- writing ------------------------------------------------------------------------------------------

enum tlm_status limits_write(const struct limits *l, const struct gguf *in, const enum dtype *types,
                             struct gguf_writer *w, struct tlm_error *err)
{
    struct gguf_string *names = calloc((size_t)l->count + 1, sizeof *names);
    float *limits = calloc((size_t)l->count + 1, sizeof *limits);
    uint64_t count = 0;
    for (int64_t i = 0; i < l->count && names && limits; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(in, l->items[i].name);
        enum dtype type = t ? types[t - in->tensors] : DTYPE_F32;
        if (dtype_traits[type].block_size == 1 || composite_is(type)) continue;
        names[count] = t->name;
        limits[count++] = l->items[i].limit;
    }
    if (names && limits) {
        gguf_set_string_array(w, MODEL_KEY_LIMITED, names, count);
        gguf_set_array(w, MODEL_KEY_LIMITS, GGUF_F32, limits, count);
    }
    bool failed = !names || !limits;
    free(names);
    free(limits);
    return failed ? error_set(err, TLM_ERR_MEMORY, "no memory for the limits of activations") : TLM_OK;
}
