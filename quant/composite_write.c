// quant/composite_write.c -- tensors of types that GGUF lacks, taken apart; see quant/composite.h.
#include <math.h>

#include "quant/composite.h"

// The parts by their place in struct composite.
enum { CODES, ABSMAX, SCALE = 2, OFFSET = 3 }; // of 4 bits; those of 8 bits behind ABSMAX differ

static int64_t code_columns(enum dtype type, const struct tensor *t)
{
    return composite_is_4bit(type) ? t->ne[0] / 2 : t->ne[0];
}

size_t composite_file_bytes(enum dtype type, const struct tensor *t)
{
    size_t rows = (size_t)composite_rows(t);
    if (!composite_is(type)) return rows * dtype_row_bytes(type, t->ne[0]);
    size_t codes = rows * (size_t)code_columns(type, t), blocks = (size_t)composite_blocks(t);
    if (!composite_is_4bit(type)) return codes + rows * (type == DTYPE_INT8 ? 4 : 8);
    return codes + blocks + (blocks + COMPOSITE_NESTED - 1) / COMPOSITE_NESTED * 4 + 4;
}

static enum tlm_status no_memory(struct gguf_string name, struct tlm_error *err)
{
    char shown[100];
    return error_set(err, TLM_ERR_MEMORY, "tensor '%s': no memory for its parts",
                     gguf_printable(name, shown, sizeof shown));
}

// ---- parts --------------------------------------------------------------------------------------------

struct part_plan {
    const char *suffix;
    struct tensor shape;
};

static int plan_parts(const struct composite *c, struct part_plan plan[5])
{
    const int64_t *ne = c->shape.ne;
    int64_t blocks = composite_blocks(&c->shape), nested = (blocks + COMPOSITE_NESTED - 1) / COMPOSITE_NESTED;
    int count = 0;
    plan[count++] =
        (struct part_plan){"", tensor_shape(DTYPE_I8, code_columns(c->type, &c->shape), ne[1], ne[2], ne[3])};
    if (composite_is_4bit(c->type)) {
        plan[count++] =
            (struct part_plan){".absmax", tensor_shape(DTYPE_I8, ne[0] / QUANT_BNB, ne[1], ne[2], ne[3])};
        plan[count++] = (struct part_plan){".absmax_scale", tensor_shape(DTYPE_F32, nested, 1, 1, 1)};
        plan[count++] = (struct part_plan){".absmax_offset", tensor_shape(DTYPE_F32, 1, 1, 1, 1)};
        return count;
    }
    plan[count++] = (struct part_plan){".absmax", tensor_shape(DTYPE_F32, ne[1], ne[2], ne[3], 1)};
    if (c->type == DTYPE_INT8_ASYM)
        plan[count++] = (struct part_plan){".middle", tensor_shape(DTYPE_F32, ne[1], ne[2], ne[3], 1)};
    if (!c->outliers) return count;
    plan[count++] = (struct part_plan){".columns", tensor_shape(DTYPE_I32, c->outliers, ne[2], ne[3], 1)};
    plan[count++] =
        (struct part_plan){".outliers", tensor_shape(DTYPE_F16, c->outliers, ne[1], ne[2], ne[3])};
    return count;
}

enum tlm_status composite_open(struct composite *c, struct gguf_string name, enum dtype type,
                               const struct tensor *shape, int64_t outliers, struct tlm_error *err)
{
    struct part_plan plan[5];
    *c = (struct composite){.type = type, .shape = *shape, .outliers = outliers};
    c->part_count = plan_parts(c, plan);
    bool failed = false;
    for (int i = 0; i < c->part_count; i++) {
        struct composite_part *p = &c->parts[i];
        p->tensor = plan[i].shape;
        if (asprintf(&p->name, "%.*s%s", (int)name.length, name.data, plan[i].suffix) < 0) p->name = NULL;
        if (i) p->tensor.data = calloc(1, tensor_bytes(&p->tensor));
        failed |= !p->name || (i && !p->tensor.data);
    }
    if (composite_is_4bit(type)) c->scales = malloc((size_t)composite_blocks(shape) * sizeof *c->scales);
    failed |= composite_is_4bit(type) && !c->scales;
    return failed ? no_memory(name, err) : TLM_OK;
}

void composite_close(struct composite *c)
{
    for (int i = 0; i < c->part_count; i++) {
        free(c->parts[i].name);
        free(c->parts[i].tensor.data);
    }
    free(c->scales);
    *c = (struct composite){0};
}

// ---- 8 bits -------------------------------------------------------------------------------------------

static int columns_apart(const struct block_int8 *b)
{
    int count = 0;
    while (count < QUANT_OUTLIERS && b->column[count] != QUANT_NO_COLUMN) count++;
    return count;
}

int64_t composite_outliers(enum dtype type, const struct tensor *shape, const float *weights,
                           const void *blocks)
{
    int64_t most = 0, row_blocks = shape->ne[0] / QUANT_BNB;
    for (int64_t m = 0; m < composite_mats(shape) && composite_is(type) && !composite_is_4bit(type); m++) {
        int64_t count = 0;
        const struct block_int8 *b = (const struct block_int8 *)blocks + m * shape->ne[1] * row_blocks;
        for (int64_t i = 0; i < row_blocks && blocks; i++) count += columns_apart(&b[i]);
        if (!blocks && weights) count = quant_outlier_count(weights + m * shape->ne[0], shape->ne[0]);
        most = count > most ? count : most;
    }
    return most;
}

// The columns of row r that stand apart; the first row of a matrix says which they are.
static void put_outliers(struct composite *c, int64_t r, const struct block_int8 *b)
{
    const struct composite_part *columns = &c->parts[c->part_count - 2], *outliers = columns + 1;
    int64_t row_blocks = c->shape.ne[0] / QUANT_BNB, n = c->outliers, at = 0;
    bool first = r % c->shape.ne[1] == 0;
    int32_t *column = (int32_t *)columns->tensor.data + r / c->shape.ne[1] * n;
    uint16_t *value = (uint16_t *)outliers->tensor.data + r * n;
    for (int64_t i = 0; i < row_blocks; i++)
        for (int j = 0; j < columns_apart(&b[i]); j++, at++) {
            TLM_ASSERT(at < n);
            if (first) column[at] = (int32_t)(i * QUANT_BNB + b[i].column[j]);
            value[at] = b[i].outlier[j];
        }
    while (first && at < n) column[at++] = -1;
}

// ---- all ----------------------------------------------------------------------------------------------

void composite_put(struct composite *c, int64_t row, int64_t rows, const void *blocks, void *codes)
{
    int64_t row_blocks = c->shape.ne[0] / QUANT_BNB;
    const struct block_nf4 *four = blocks;
    const struct block_int8 *eight = blocks;
    char *to = codes;
    for (int64_t i = 0; i < rows * row_blocks; i++) {
        if (composite_is_4bit(c->type)) {
            c->scales[row * row_blocks + i] = four[i].absmax;
            memcpy(to + (size_t)i * sizeof four->qs, four[i].qs, sizeof four->qs);
        } else {
            memcpy(to + (size_t)i * sizeof eight->qs, eight[i].qs, sizeof eight->qs);
        }
    }
    for (int64_t r = row; r < row + rows && !composite_is_4bit(c->type); r++, eight += row_blocks) {
        ((float *)c->parts[ABSMAX].tensor.data)[r] = eight->absmax;
        if (c->type == DTYPE_INT8_ASYM) ((float *)c->parts[ABSMAX + 1].tensor.data)[r] = eight->middle;
        if (c->outliers) put_outliers(c, r, eight);
    }
}

// The code whose value is nearest.
static uint8_t nearest(float x)
{
    int low = 0, high = 255;
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        if (quant_dynamic_values[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return (uint8_t)(x - quant_dynamic_values[low] <= quant_dynamic_values[high] - x ? low : high);
}

// Double quantization: what is left of the scales without their mean has a scale of its own for each 256 of them.
void composite_finish(struct composite *c)
{
    if (!composite_is_4bit(c->type)) return;
    int64_t blocks = composite_blocks(&c->shape);
    uint8_t *codes = c->parts[ABSMAX].tensor.data;
    float *nested = c->parts[SCALE].tensor.data;
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) sum += c->scales[i];
    float mean = *(float *)c->parts[OFFSET].tensor.data = (float)(sum / (double)blocks);
    for (int64_t i = 0; i < blocks; i += COMPOSITE_NESTED) {
        int64_t end = i + COMPOSITE_NESTED < blocks ? i + COMPOSITE_NESTED : blocks;
        float absmax = 0;
        for (int64_t j = i; j < end; j++) absmax = fmaxf(absmax, fabsf(c->scales[j] - mean));
        nested[i / COMPOSITE_NESTED] = absmax;
        for (int64_t j = i; j < end; j++) codes[j] = nearest(absmax > 0 ? (c->scales[j] - mean) / absmax : 0);
    }
    free(c->scales);
    c->scales = NULL;
}

enum tlm_status composite_set_keys(struct gguf_writer *w, const struct gguf *in, const enum dtype *types,
                                   struct tlm_error *err)
{
    struct gguf_string *names = calloc(2 * (size_t)in->tensor_count + 1, sizeof *names),
                       *kinds = names + in->tensor_count;
    uint64_t count = 0;
    if (!names) return error_set(err, TLM_ERR_MEMORY, "no memory for the names of tensors");
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        if (!composite_is(types[i])) continue;
        const char *kind = dtype_traits[types[i]].name;
        kinds[count] = (struct gguf_string){kind, strlen(kind)};
        names[count++] = in->tensors[i].name;
    }
    if (count) {
        gguf_set_string_array(w, COMPOSITE_TENSORS, names, count);
        gguf_set_string_array(w, COMPOSITE_TYPES, kinds, count);
    }
    free(names);
    return TLM_OK;
}
