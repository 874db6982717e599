#include "train/parameters.h"

#include <string.h>

#include "ops/backend.h"
#include "quant/quant.h"

static bool is_trained(const struct weight_spec *spec)
{
    return spec->role != ROLE_TABLE;
}

// ---- counting: how many there are, and the bytes they take -----------------------------------------------------

struct wanted {
    enum dtype matrices;
    const struct mix *mix;
    struct mix_model of;
};

struct size {
    const struct tlm_model *model;
    const struct wanted *wanted;
    int64_t count;
    size_t bytes;
    const char *made; // a weight that the file lacks
};

// The type on whose grid a weight is trained, or DTYPE_COUNT.
static enum dtype grid_type(const struct tlm_model *m, const struct weight_spec *spec, const char *name,
                            const struct wanted *w)
{
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
    if (!w->mix || !weight_is_matrix(spec) || !t || !mix_applies(t)) return DTYPE_COUNT;
    enum dtype type = mix_type(w->mix, &w->of, t);
    return dtype_traits[type].block_size > 1 ? type : DTYPE_COUNT;
}

static enum dtype copy_type(const struct tlm_model *m, const struct weight_spec *spec, const char *name,
                            const struct wanted *w)
{
    enum dtype type = weight_is_matrix(spec) ? w->matrices : m->real;
    bool itself = type == DTYPE_F32 && grid_type(m, spec, name, w) == DTYPE_COUNT;
    return itself ? DTYPE_COUNT : type; // DTYPE_COUNT: the master itself
}

static void count_weight(void *user, const struct weight_spec *spec, const char *name,
                         const struct tensor **slot)
{
    struct size *s = user;
    if (!is_trained(spec)) return;
    if (!gguf_find_tensor(s->model->gguf, name)) s->made = spec->gguf;
    int64_t numbers = tensor_elements(*slot);
    enum dtype copy = copy_type(s->model, spec, name, s->wanted);
    s->count++;
    s->bytes += 2 * align_up((size_t)numbers * sizeof(float), ARENA_ALIGN);
    if (copy != DTYPE_COUNT) s->bytes += align_up((size_t)numbers * dtype_row_bytes(copy, 1), ARENA_ALIGN);
}

// ---- taking them ----------------------------------------------------------------------------------------------

struct taking {
    struct parameters *p;
    const struct tlm_model *from;
    const struct wanted *wanted;
};

// The numbers of a file's tensor, row by row: types of blocks have whole rows of them.
static void read_values(const struct tlm_model *m, float *to, const struct tensor *t)
{
    row_to_real_fn *to_real =
        m->isa == ISA_F64 ? kernels_for(ISA_REF).to_real[t->type] : m->kernels.to_real[t->type];
    for (int64_t r = 0; r < tensor_elements(t) / t->ne[0]; r++)
        to_real(to + r * t->ne[0], (const char *)t->data + (size_t)r * t->nb[1], t->ne[0]);
}

void parameter_quantize(const struct parameter *p, void *to, int64_t first, int64_t count)
{
    // With weights of one the scale is searched for, also where the format's plain rounding takes the largest number for it: of a ternary
    // block hardly anything but zeros would be left.
    enum { PIECE = QUANT_SUPER };
    float ones[PIECE];
    for (int i = 0; i < PIECE; i++) ones[i] = 1;
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t n = count - i < PIECE ? count - i : PIECE;
        quant_types[p->grid].quantize((char *)to + dtype_row_bytes(p->grid, i), p->value + first + i, n,
                                      ones);
    }
}

static void copy_rounded(const struct parameter *p, const struct kernels *k)
{
    enum { PIECE = 16 * QUANT_SUPER };
    uint8_t blocks[PIECE * sizeof(float)];
    float numbers[PIECE];
    for (int64_t i = 0; i < p->count; i += PIECE) {
        int64_t n = p->count - i < PIECE ? p->count - i : PIECE;
        const float *value = p->value + i;
        parameter_quantize(p, blocks, i, n);
        quant_types[p->grid].dequantize(numbers, blocks, n);
        if (p->rounded < 1)
            for (int64_t j = 0; j < n; j++) numbers[j] = value[j] + p->rounded * (numbers[j] - value[j]);
        void *to = (char *)p->copy + dtype_row_bytes(p->copy_type, i);
        if (p->copy_type == DTYPE_F32)
            memcpy(to, numbers, (size_t)n * sizeof *numbers);
        else
            k->from_real[p->copy_type](to, numbers, n);
    }
}

void parameters_round(struct parameters *p, double share)
{
    for (int64_t i = 0; i < p->count; i++) p->item[i].rounded = (float)share;
}

void parameter_copy(const struct parameter *p, const struct kernels *k)
{
    if (!p->copy) return;
    if (p->grid != DTYPE_COUNT && p->rounded > 0)
        copy_rounded(p, k);
    else if (p->copy_type == DTYPE_F32)
        memcpy(p->copy, p->value, (size_t)p->count * sizeof *p->value);
    else if (p->copy_type == DTYPE_F64)
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
    item->grid = grid_type(t->from, spec, name, t->wanted);
    item->copy_type = copy_type(t->from, spec, name, t->wanted);
    if (item->copy_type != DTYPE_COUNT) {
        item->copy = arena_alloc(&p->memory, (size_t)item->count * dtype_row_bytes(item->copy_type, 1));
        parameter_copy(item, &t->from->kernels);
    }
    *header = tensor_shape(item->copy ? item->copy_type : DTYPE_F32, item->cols, item->rows, item->depth, 1);
    header->data = item->copy ? item->copy : item->value;
    *slot = header;
}

enum tlm_status parameters_open(struct parameters *p, const struct tlm_model *m, enum dtype matrices,
                                const struct mix *mix, struct tlm_error *err)
{
    TLM_ASSERT(m->real == DTYPE_F32 || matrices == DTYPE_F32); // a model in double rounds nothing
    *p = (struct parameters){.model = *m, .mix = mix};
    struct wanted wanted = {.matrices = matrices, .mix = mix};
    enum tlm_status s = mix ? mix_model_read(&wanted.of, m->gguf, false, err) : TLM_OK;
    if (s) return s;
    struct size size = {m, &wanted, 0, 0, NULL};
    model_each_weight(&p->model, count_weight, &size);
    if (size.made)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%s: expected a tensor of the file, found one made of others", size.made);
    size_t layers = align_up((size_t)m->hparams.layers * sizeof(struct layer), ARENA_ALIGN);
    size_t lists = (size_t)size.count * (sizeof *p->item + sizeof *p->headers) + 2 * ARENA_ALIGN;
    s = arena_init(&p->memory, layers + lists + size.bytes, "parameters", err);
    if (s) return s;
    p->item = arena_alloc(&p->memory, (size_t)size.count * sizeof *p->item);
    p->headers = arena_alloc(&p->memory, (size_t)size.count * sizeof *p->headers);
    p->model.weights.layer = arena_alloc(&p->memory, layers);
    memcpy(p->model.weights.layer, m->weights.layer, (size_t)m->hparams.layers * sizeof(struct layer));
    struct taking taking = {p, m, &wanted};
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

static struct tensor values_of(const struct parameter *p)
{
    struct tensor t = tensor_shape(DTYPE_F32, p->cols, p->rows, p->depth, 1);
    t.data = p->value;
    return t;
}

enum tlm_status parameters_pull(const struct parameters *p, struct tlm_error *err)
{
    struct backend *b = p->model.backend;
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0; b && i < p->count && !s; i++) {
        struct tensor value = values_of(&p->item[i]);
        s = b->class->training->pull(b, &value, err);
    }
    return s;
}

enum tlm_status parameters_push(const struct parameters *p, struct tlm_error *err)
{
    struct backend *b = p->model.backend;
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0; b && i < p->count && !s; i++) {
        struct tensor value = values_of(&p->item[i]);
        s = b->class->training->push(b, &value, err);
        if (!s && p->item[i].copy) s = b->class->training->push(b, &p->headers[i], err);
    }
    return s;
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

struct products {
    const struct tlm_model *model;
    double weights; // that a token is multiplied by
};

static void count_products(void *user, const struct weight_spec *spec, const char *name,
                           const struct tensor **slot)
{
    struct products *p = user;
    const struct weights *w = &p->model->weights;
    const struct expert_hparams *e = &p->model->hparams.experts;
    (void)name;
    bool head = slot == (const struct tensor **)&w->embed && !w->out;
    double used = e->count && (*slot)->ne[2] == e->count ? (double)e->used / (double)e->count : 1;
    if (spec->role == ROLE_MATRIX || spec->role == ROLE_ROUTER || head)
        p->weights += (double)tensor_elements(*slot) * used;
}

double parameters_flops(struct tlm_model *m, int64_t context)
{
    const struct hparams *h = &m->hparams;
    struct products p = {.model = m};
    model_each_weight(m, count_products, &p);
    double attention = (double)(h->layers * h->heads * (h->head_dim + h->value_dim)) * (double)context / 2;
    return 2 * (p.weights + attention);
}
