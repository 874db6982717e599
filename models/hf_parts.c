// models/hf_parts.c -- the numbers of a folder's tensors, part by part: mapped as they are, moved, converted or dequantized.
#include <inttypes.h>

#include "models/hf_folder.h"

size_t hf_part_bytes(const struct hf_tensor *t)
{
    return tensor_bytes(&t->shape) / (size_t)(t->parts > 0 ? t->parts : 1);
}

static const struct safetensors_tensor *part_source(const struct hf_tensor *t, int64_t part)
{
    return t->sources[t->sliced ? 0 : part];
}

// The bytes of a part in the folder's order.
static const uint8_t *part_data(const struct hf_tensor *t, int64_t part)
{
    const struct safetensors_tensor *source = part_source(t, part);
    return source->data + (t->sliced ? source->bytes / (size_t)t->parts * (size_t)part : 0);
}

static struct hf_matrix part_matrix(const struct hf_folder *f, const struct hf_tensor *t, int64_t part)
{
    const struct safetensors_tensor *s = part_source(t, part);
    const int64_t *shape = s->shape + t->sliced;
    int dims = s->dims - t->sliced;
    struct hf_matrix x = {.transform = t->spec->transform, .hparams = &f->hparams};
    x.rows = dims == 3 ? shape[0] * shape[1] : shape[0];
    x.cols = dims == 3 ? shape[2] : dims == 2 ? shape[1] : 1;
    x.bias = hf_is_experts(x.transform) && !t->sliced;
    x.row_count = t->half ? x.rows / 2 : x.rows;
    x.row_first = t->half == 2 ? x.row_count : 0;
    return x;
}

static bool is_moved(const struct hf_matrix *x)
{
    bool vector = x->cols == 1 && x->transform == TRANSFORM_TRANSPOSE;
    return x->transform != TRANSFORM_NONE && x->transform != TRANSFORM_PLUS_ONE && !vector;
}

const void *hf_part_mapped(const struct hf_folder *f, const struct hf_tensor *t, int64_t part)
{
    if (t->values || t->scales || hf_quantized_of(&f->quantized, part_source(t, part))) return NULL;
    struct hf_matrix x = part_matrix(f, t, part);
    const struct safetensors_type_traits *type = &safetensors_types[part_source(t, part)->type];
    if (is_moved(&x) || x.transform == TRANSFORM_PLUS_ONE || type->dtype != (int)t->shape.type) return NULL;
    return part_data(t, part) + (size_t)(x.row_first * x.cols) * (size_t)type->bytes;
}

// `data` are the part's numbers in the folder's order, in the type of its source.
static enum tlm_status make_numbers(const struct hf_folder *f, const struct hf_tensor *t, int64_t part,
                                    const uint8_t *data, void *out, struct tlm_error *err)
{
    const struct safetensors_tensor *source = part_source(t, part);
    struct hf_matrix x = part_matrix(f, t, part);
    size_t bytes = (size_t)safetensors_types[source->type].bytes;
    int64_t n = tensor_elements(&t->shape) / t->parts;
    float add = x.transform == TRANSFORM_PLUS_ONE ? 1 : 0;
    const enum dtype type = t->shape.type, from = (enum dtype)safetensors_types[source->type].dtype;
    bool same = from == type && add == 0;
    if (!same && !is_moved(&x)) {
        hf_convert_numbers(&f->kernels, type, out, from, data + (size_t)(x.row_first * x.cols) * bytes, n,
                           add);
        return TLM_OK;
    }
    uint8_t *moved = same ? out : malloc((size_t)n * bytes);
    if (!moved)
        return error_set(err, TLM_ERR_MEMORY, "tensor '%s': no memory for %" PRId64 " numbers", t->name, n);
    hf_transform_move(&x, (void *)data, moved, bytes, true); // which only reads it
    if (same) return TLM_OK;
    hf_convert_numbers(&f->kernels, type, out, from, moved, n, add);
    free(moved);
    return TLM_OK;
}

static enum tlm_status make_quantized(const struct hf_folder *f, const struct hf_tensor *t, int64_t part,
                                      const struct hf_quantized *q, void *out, struct tlm_error *err)
{
    struct hf_matrix x = part_matrix(f, t, part);
    bool blocks = (int)t->shape.type == q->grid;
    enum dtype type = blocks ? t->shape.type : (enum dtype)safetensors_types[q->matrix.type].dtype;
    size_t row_bytes = dtype_row_bytes(type, x.cols), bytes = (size_t)x.rows * row_bytes;
    uint8_t *rows = malloc(bytes);
    enum tlm_status s = TLM_OK;
    if (!rows) return error_set(err, TLM_ERR_MEMORY, "tensor '%s': no memory for %zu bytes", t->name, bytes);
    hf_quantized_read(q, &f->kernels, type, rows);
    if (blocks) {
        x.cols = (int64_t)row_bytes; // rows move as bytes
        hf_transform_move(&x, rows, out, 1, true);
    } else {
        s = make_numbers(f, t, part, rows, out, err);
    }
    free(rows);
    return s;
}

enum tlm_status hf_make_part(const struct hf_folder *f, const struct hf_tensor *t, int64_t part, void *out,
                             struct tlm_error *err)
{
    if (t->values) {
        memcpy(out, t->values, tensor_bytes(&t->shape));
        return TLM_OK;
    }
    const struct safetensors_tensor *source = part_source(t, part);
    const struct hf_quantized *q = hf_quantized_of(&f->quantized, source);
    if (q) return make_quantized(f, t, part, q, out, err);
    const uint8_t *data = part_data(t, part);
    if (!t->scales) return make_numbers(f, t, part, data, out, err);
    int64_t outputs = source->shape[1], blocks = source->shape[2];
    hf_transform_mxfp4(t->spec->transform, data, t->scales->data + (size_t)(part * outputs * blocks), outputs,
                       blocks, out);
    return TLM_OK;
}

void hf_drop_part(const struct hf_folder *f, const struct hf_tensor *t, int64_t part)
{
    if (t->values) return;
    const struct hf_quantized *q = hf_quantized_of(&f->quantized, part_source(t, part));
    if (q) {
        hf_quantized_drop_pages(q, f->weights);
        return;
    }
    struct safetensors_tensor slice = *part_source(t, part);
    slice.data = part_data(t, part);
    if (t->sliced) slice.bytes /= (size_t)t->parts;
    safetensors_drop_pages(f->weights, &slice);
}
