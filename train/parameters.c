#include "train/parameters.h"

#include <string.h>

static bool is_trained(const struct weight_spec *spec)
{
    return spec->role != ROLE_TABLE;
}

// ---- counting: how many there are, and the bytes they take -----------------------------------------------------

struct size {
    const struct tlm_model *model;
    enum dtype matrices;
    int64_t count;
    size_t bytes;
    const char *made; // a weight that the file lacks
};

static enum dtype copy_type(const struct tlm_model *m, const struct weight_spec *spec, enum dtype matrices)
{
    enum dtype type = weight_is_matrix(spec) ? matrices : m->real;
    return type == DTYPE_F32 ? DTYPE_COUNT : type; // DTYPE_COUNT: the master itself
}

static void count_weight(void *user, const struct weight_spec *spec, const char *name,
                         const struct tensor **slot)
{
    struct size *s = user;
    if (!is_trained(spec)) return;
    if (!gguf_find_tensor(s->model->gguf, name)) s->made = spec->gguf;
    int64_t numbers = tensor_elements(*slot);
    enum dtype copy = copy_type(s->model, spec, s->matrices);
    s->count++;
    s->bytes += 2 * align_up((size_t)numbers * sizeof(float), ARENA_ALIGN);
    if (copy != DTYPE_COUNT) s->bytes += align_up((size_t)numbers * dtype_row_bytes(copy, 1), ARENA_ALIGN);
}

// ---- taking them ----------------------------------------------------------------------------------------------

struct taking {
    struct parameters *p;
    const struct tlm_model *from;
    enum dtype matrices;
};

// The numbers of a file's tensor, row by row: types of blocks have whole rows of them.
static void read_values(const struct tlm_model *m, float *to, const struct tensor *t)
{
    row_to_real_fn *to_real =
        m->isa == ISA_F64 ? kernels_for(ISA_REF).to_real[t->type] : m->kernels.to_real[t->type];
    for (int64_t r = 0; r < tensor_elements(t) / t->ne[0]; r++)
        to_real(to + r * t->ne[0], (const char *)t->data + (size_t)r * t->nb[1], t->ne[0]);
}

void parameter_copy(const struct parameter *p, const struct kernels *k)
{
    if (!p->copy) return;
    if (p->copy_type == DTYPE_F64)
        for (int64_t i = 0; i < p->count; i++) ((double *)p->copy)[i] = p->value[i];
    else
        k->from_real[p->copy_type](p->copy, p->value, p->count);
}

static void take_weight(void *user, const struct weight_spec *spec, const char *name,
                        const struct tensor **slot)
{
    struct taking *t = user;
    struct parameters *p = t->p;
    if (!is_trained(spec)) return;
    struct parameter *item = &p->item[p->count];
    struct tensor *header = &p->headers[p->count++];
    *item = (struct parameter){.role = spec->role,
                               .cols = (*slot)->ne[0],
                               .rows = (*slot)->ne[1],
                               .depth = (*slot)->ne[2],
                               .count = tensor_elements(*slot),
                               .decay = weight_is_matrix(spec)};
    snprintf(item->name, sizeof item->name, "%s", name);
    p->numbers += item->count;
    item->value = arena_alloc(&p->memory, (size_t)item->count * sizeof(float));
    item->gradient = arena_alloc(&p->memory, (size_t)item->count * sizeof(float));
    read_values(t->from, item->value, &gguf_find_tensor(t->from->gguf, name)->tensor);
    item->copy_type = copy_type(t->from, spec, t->matrices);
    if (item->copy_type != DTYPE_COUNT) {
        item->copy = arena_alloc(&p->memory, (size_t)item->count * dtype_row_bytes(item->copy_type, 1));
        parameter_copy(item, &t->from->kernels);
    }
    *header = tensor_shape(item->copy ? item->copy_type : DTYPE_F32, item->cols, item->rows, item->depth, 1);
    header->data = item->copy ? item->copy : item->value;
    *slot = header;
}

enum tlm_status parameters_open(struct parameters *p, const struct tlm_model *m, enum dtype matrices,
                                struct tlm_error *err)
{
    TLM_ASSERT(m->real == DTYPE_F32 || matrices == DTYPE_F32); // a model in double rounds nothing
    *p = (struct parameters){.model = *m};
    struct size size = {m, matrices, 0, 0, NULL};
    model_each_weight(&p->model, count_weight, &size);
    if (size.made)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%s: expected a tensor of the file, found one made of others", size.made);
    size_t layers = align_up((size_t)m->hparams.layers * sizeof(struct layer), ARENA_ALIGN);
    size_t lists = (size_t)size.count * (sizeof *p->item + sizeof *p->headers) + 2 * ARENA_ALIGN;
    enum tlm_status s = arena_init(&p->memory, layers + lists + size.bytes, "parameters", err);
    if (s) return s;
    p->item = arena_alloc(&p->memory, (size_t)size.count * sizeof *p->item);
    p->headers = arena_alloc(&p->memory, (size_t)size.count * sizeof *p->headers);
    p->model.weights.layer = arena_alloc(&p->memory, layers);
    memcpy(p->model.weights.layer, m->weights.layer, (size_t)m->hparams.layers * sizeof(struct layer));
    struct taking taking = {p, m, matrices};
    model_each_weight(&p->model, take_weight, &taking);
    struct weights *w = &p->model.weights;
    p->model.head.norm = w->out_norm;
    p->model.head.norm_bias = w->out_norm_bias;
    p->model.head.weight = w->out ? w->out : w->embed;
    p->model.head.bias = w->out_bias;
    return TLM_OK;
}

void parameters_close(struct parameters *p)
{
    arena_free(&p->memory);
    *p = (struct parameters){0};
}

void parameters_slots(const struct parameters *p, struct gradient_slot *to)
{
    for (int64_t i = 0; i < p->count; i++) {
        const struct parameter *item = &p->item[i];
        to[i] = (struct gradient_slot){.weight = p->headers[i].data};
        to[i].to = tensor_shape(DTYPE_F32, item->cols, item->rows, item->depth, 1);
        to[i].to.data = item->gradient;
    }
}

double parameters_flops(const struct parameters *p, int64_t context)
{
    const struct hparams *h = &p->model.hparams;
    double weights = 0;
    for (int64_t i = 0; i < p->count; i++) {
        const struct parameter *item = &p->item[i];
        bool head = item->role == ROLE_EMBEDDING && p->headers[i].data == p->model.head.weight->data;
        double used = h->experts.count && item->depth == h->experts.count
                          ? (double)h->experts.used / (double)item->depth
                          : 1;
        if (item->role == ROLE_MATRIX || item->role == ROLE_ROUTER || head)
            weights += (double)item->count * used;
    }
    double attention = (double)(h->layers * h->heads * (h->head_dim + h->value_dim)) * (double)context / 2;
    return 6 * (weights + attention);
}
