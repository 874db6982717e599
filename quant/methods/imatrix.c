// quant/methods/imatrix.c -- the table of sums, and how they are collected; files are in imatrix_file.c.
#include "quant/methods/imatrix.h"

#include <math.h>

#include "ops/nodes_experts.h"

void imatrix_free(struct imatrix *im)
{
    for (int64_t i = 0; i < im->count; i++) {
        free(im->entries[i].name);
        free(im->entries[i].sums);
    }
    free(im->entries);
    free(im->dataset);
    *im = (struct imatrix){0};
}

// Where the name stands, or would.
static int64_t place_of(const struct imatrix *im, const char *name, uint64_t length)
{
    int64_t low = 0, high = im->count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        const char *other = im->entries[middle].name;
        int order = strncmp(other, name, length);
        if (order < 0 || (order == 0 && strlen(other) < length))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct imatrix_entry *imatrix_find(const struct imatrix *im, struct gguf_string name)
{
    if (memchr(name.data, 0, name.length)) return NULL;
    int64_t i = place_of(im, name.data, name.length);
    return i < im->count && gguf_string_is(name, im->entries[i].name) ? &im->entries[i] : NULL;
}

struct imatrix_entry *imatrix_add(struct imatrix *im, const char *name, int64_t cols, int64_t mats)
{
    int64_t at = place_of(im, name, strlen(name));
    if (at < im->count && !strcmp(im->entries[at].name, name)) {
        struct imatrix_entry *e = &im->entries[at];
        return e->cols == cols && e->mats == mats ? e : NULL;
    }
    if (im->count == im->capacity) {
        int64_t capacity = im->capacity ? 2 * im->capacity : 64;
        struct imatrix_entry *entries = reallocarray(im->entries, (size_t)capacity, sizeof *entries);
        if (!entries) return NULL;
        im->entries = entries;
        im->capacity = capacity;
    }
    struct imatrix_entry e = {.name = strdup(name), .cols = cols, .mats = mats};
    e.sums = calloc((size_t)mats, (size_t)(cols + 1) * sizeof *e.sums);
    if (!e.name || !e.sums) {
        free(e.name);
        free(e.sums);
        return NULL;
    }
    e.count = e.sums + mats * cols;
    memmove(im->entries + at + 1, im->entries + at, (size_t)(im->count - at) * sizeof e);
    im->entries[at] = e;
    im->count++;
    return &im->entries[at];
}

float *imatrix_weights(const struct imatrix_entry *e)
{
    float *w = malloc((size_t)(e->mats * e->cols) * sizeof *w);
    for (int64_t m = 0; m < e->mats && w; m++)
        for (int64_t c = 0; c < e->cols; c++) {
            int64_t i = m * e->cols + c;
            w[i] = e->count[m] > 0 ? (float)(e->sums[i] / e->count[m]) : 1;
        }
    return w;
}

// ---- collecting ---------------------------------------------------------------------------------------

void imatrix_add_rows(struct imatrix_entry *e, int64_t mat, const void *rows, enum dtype type, size_t stride,
                      int64_t count)
{
    double *sums = e->sums + mat * e->cols;
    for (int64_t r = 0; r < count; r++) {
        const float *f = (const float *)rows + (size_t)r * stride;
        const double *d = (const double *)rows + (size_t)r * stride;
        if (type == DTYPE_F64)
            for (int64_t c = 0; c < e->cols; c++) sums[c] += d[c] * d[c];
        else
            for (int64_t c = 0; c < e->cols; c++) sums[c] += (double)f[c] * (double)f[c];
    }
    e->count[mat] += (double)count;
}

struct collector {
    struct imatrix *im;
    const struct layers *layers;
    struct layers_product *products;
    int count;
};

// What a text gives to one product: nodes are its input and, of experts, their order.
static void add_product(struct imatrix_entry *e, const struct layers *l, const struct layers_product *p,
                        const struct node *input, const struct node *sorted)
{
    const struct tensor *x = &input->out;
    size_t stride = (size_t)x->ne[0];
    for (int64_t m = 0; m < e->mats; m++) {
        if (sorted) {
            struct order o = order_of(sorted);
            imatrix_add_rows(e, m, tensor_row(x, o.offset[m]), x->type, stride,
                             o.offset[m + 1] - o.offset[m]);
        } else { // heads have their part of each row
            int64_t part = x->ne[0] == p->matrix->ne[0] ? 0 : m * e->cols;
            imatrix_add_rows(e, m, (const char *)x->data + dtype_row_bytes(x->type, part), x->type, stride,
                             l->config.rows);
        }
    }
}

static enum tlm_status add_text(void *user, struct node *const *nodes, struct tlm_error *err)
{
    struct collector *c = user;
    for (int i = 0, at = 0; i < c->count; i++) {
        const struct layers_product *p = &c->products[i];
        struct imatrix_entry *e = imatrix_add(c->im, p->name, p->matrix->ne[0], p->matrix->ne[2]);
        if (!e) return error_set(err, TLM_ERR_MEMORY, "%s: no memory for the sums of its columns", p->name);
        const struct node *input = nodes[at++], *sorted = p->sorted < 0 ? NULL : nodes[at++];
        add_product(e, c->layers, p, input, sorted);
        for (int64_t k = 0; k < e->mats * e->cols; k++)
            if (!isfinite(e->sums[k]))
                return error_set(err, TLM_ERR_FORMAT, "%s: a number that goes into it is not finite",
                                 p->name);
    }
    return TLM_OK;
}

enum tlm_status imatrix_collect_layer(struct imatrix *im, struct layers *p, int64_t l, struct tlm_error *err)
{
    struct layers_product products[LAYERS_PRODUCTS];
    struct collector c = {im, p, products, 0};
    int32_t nodes[LAYERS_NODES];
    int count = 0;
    enum tlm_status s = layers_products(p, l, products, &c.count, err);
    if (s) return s;
    for (int i = 0; i < c.count; i++) {
        nodes[count++] = products[i].input;
        if (products[i].sorted >= 0) nodes[count++] = products[i].sorted;
    }
    struct layers_run run = {l, nodes, count, add_text, &c, l < p->model->hparams.layers};
    return layers_run(p, &run, err);
}

enum tlm_status imatrix_collect(struct imatrix *im, struct layers *p, imatrix_progress_fn *progress,
                                void *user, struct tlm_error *err)
{
    int64_t layers = p->model->hparams.layers;
    enum tlm_status s = TLM_OK;
    for (int64_t l = 0; l <= layers && !s; l++) {
        s = imatrix_collect_layer(im, p, l, err);
        if (!s && progress && !progress(user, l + 1, layers + 1))
            s = error_set(err, TLM_ERR_ARGUMENT, "stopped");
    }
    im->chunks += (uint32_t)p->config.texts;
    im->chunk_size = (uint32_t)p->config.rows;
    return s;
}
