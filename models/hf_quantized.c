// models/hf_quantized.c -- finds the quantized matrices of a folder, and checks all that they are made of; see models/hf_quantized.h.
#include "models/hf_quantized.h"

#include <inttypes.h>
#include <stddef.h>
#include <strings.h>

#include "core/gguf_show.h"
#include "core/json.h"

// ---- config.json --------------------------------------------------------------------------------------

static enum tlm_status read_bits(struct hf_quantization *q, const json_t *c, const int *allowed,
                                 struct tlm_error *err)
{
    char list[32] = "";
    enum tlm_status s;
    q->group = 128;
    if ((s = hf_get_i64(c, json_object_get(c, "w_bit") ? "w_bit" : "bits", &q->bits, err))) return s;
    if ((s = hf_get_i64(c, json_object_get(c, "q_group_size") ? "q_group_size" : "group_size", &q->group,
                        err)))
        return s;
    if (q->group < 1 && q->group != -1)
        return error_set(err, TLM_ERR_FORMAT, "group_size: expected 1 or more, or -1, found %" PRId64,
                         q->group);
    for (; *allowed; allowed++) {
        if (q->bits == *allowed) return TLM_OK;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, used ? ", %d" : "%d", *allowed);
    }
    return error_set(err, TLM_ERR_UNSUPPORTED, "bits: expected one of %s, found %" PRId64, list, q->bits);
}

// A text of the object that has to be one of two, in any case; absent is the first.
static enum tlm_status expect_text(const json_t *c, const char *key, const char *first, const char *second,
                                   struct tlm_error *err)
{
    const json_t *value = json_object_get(c, key);
    const char *text = json_string_value(value);
    if (!value || json_is_null(value) || (text && (!strcasecmp(text, first) || !strcasecmp(text, second))))
        return TLM_OK;
    return error_set(err, TLM_ERR_UNSUPPORTED, "%s: expected %s%s%s, found %s", key, first,
                     strcmp(first, second) != 0 ? " or " : "", strcmp(first, second) != 0 ? second : "",
                     text ? gguf_show_text(text).text : json_kind(value));
}

static enum tlm_status read_gptq(struct hf_quantization *q, const json_t *c, struct tlm_error *err)
{
    static const int bits[] = {2, 3, 4, 8, 0};
    const char *format = json_string_value(json_object_get(c, "checkpoint_format"));
    enum tlm_status s = read_bits(q, c, bits, err);
    if (!s) s = expect_text(c, "checkpoint_format", "gptq", "gptq_v2", err);
    if (!s) s = hf_expect(c, "is_marlin_format", "false", err);
    q->packing = HF_GPTQ;
    q->zero_add = format && !strcasecmp(format, "gptq_v2") ? 0 : 1;
    return s;
}

static enum tlm_status read_awq(struct hf_quantization *q, const json_t *c, struct tlm_error *err)
{
    static const int bits[] = {4, 0};
    enum tlm_status s = read_bits(q, c, bits, err);
    if (!s) s = expect_text(c, "version", "gemm", "gemm", err);
    if (!s) s = expect_text(c, "backend", "autoawq", "autoawq", err);
    if (!s) s = hf_expect(c, "zero_point", "true", err);
    q->packing = HF_AWQ;
    return s;
}

// bitsandbytes computes with what was not made smaller in the type of the model, and in LLM.int8 with the rest too.
static enum dtype model_dtype(const json_t *config)
{
    const json_t *value = json_object_get(config, "dtype");
    const char *name = json_string_value(value ? value : json_object_get(config, "torch_dtype"));
    if (name && !strcmp(name, "float32")) return DTYPE_F32;
    return name && !strcmp(name, "bfloat16") ? DTYPE_BF16 : DTYPE_F16;
}

enum tlm_status hf_quantization_read(struct hf_quantization *q, const json_t *config, struct tlm_error *err)
{
    const json_t *c = json_object_get(config, "quantization_config");
    const char *method = json_string_value(json_object_get(c, "quant_method"));
    enum tlm_status s = TLM_OK;
    *q = (struct hf_quantization){.packing = HF_PLAIN, .dtype = model_dtype(config)};
    if (!json_is_object(c)) return TLM_OK;
    bool loads =
        json_is_true(json_object_get(c, "load_in_4bit")) || json_is_true(json_object_get(c, "load_in_8bit"));
    if ((!method && loads) || (method && !strcmp(method, "bitsandbytes")))
        q->packing = HF_BNB;
    else if (method && !strcmp(method, "gptq"))
        s = read_gptq(q, c, err);
    else if (method && !strcmp(method, "awq"))
        s = read_awq(q, c, err);
    else if (method && strcmp(method, "mxfp4") != 0)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "quantization_config: expected none, mxfp4, bitsandbytes, gptq or awq, found '%s'",
                         gguf_show_text(method).text);
    return s ? error_prefix(err, "quantization_config") : TLM_OK;
}

// ---- parts --------------------------------------------------------------------------------------------

struct finder {
    struct hf_quantized_set *set;
    const struct hf_quantization *config;
    const struct safetensors *weights;
    struct tlm_error *err;
};

static size_t elements(const struct safetensors_tensor *t)
{
    return t->bytes / (size_t)safetensors_types[t->type].bytes;
}

// The tensor `base` + `suffix`, which belongs to a quantized matrix from now on; NULL where there is none.
static const struct safetensors_tensor *take(struct finder *f, const char *base, const char *suffix)
{
    char *name;
    if (asprintf(&name, "%s%s", base, suffix) < 0) return NULL;
    const struct safetensors_tensor *t = safetensors_find(f->weights, name);
    free(name);
    if (t) f->set->is_part[t - f->weights->tensors] = true;
    return t;
}

// The same of a tensor that has to be there, with `count` numbers of that type.
static enum tlm_status need(struct finder *f, const struct safetensors_tensor **out, const char *base,
                            const char *suffix, enum safetensors_type type, size_t count)
{
    const struct safetensors_tensor *t = *out = take(f, base, suffix);
    if (!t)
        return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s%s': the folder lacks it",
                         gguf_show_text(base).text, suffix);
    if (t->type != type || elements(t) != count)
        return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s%s': expected %zu numbers of %s, found %zu of %s",
                         gguf_show_text(base).text, suffix, count, safetensors_types[type].name, elements(t),
                         safetensors_types[t->type].name);
    return TLM_OK;
}

static bool is_float(enum safetensors_type type)
{
    return type == SAFETENSORS_F32 || type == SAFETENSORS_F16 || type == SAFETENSORS_BF16;
}

// A new item: `base`.weight of out x in numbers of that type. NULL: no memory.
static struct hf_quantized *add(struct finder *f, const char *base, enum safetensors_type type, int64_t out,
                                int64_t in)
{
    struct hf_quantized *q = &f->set->items[f->set->count];
    *q = (struct hf_quantized){.packing = f->config->packing, .grid = -1};
    if (asprintf(&q->matrix.name, "%s.weight", base) < 0) {
        error_set(f->err, TLM_ERR_MEMORY, "no memory for the names of tensors");
        return NULL;
    }
    f->set->count++;
    q->matrix.type = type;
    q->matrix.dims = 2;
    q->matrix.shape[0] = out;
    q->matrix.shape[1] = in;
    return q;
}

// ---- bitsandbytes -------------------------------------------------------------------------------------

static const char state_mark[] = ".weight.quant_state.bitsandbytes__";

struct state {
    int64_t out, in, block, nested_block;
    double nested_offset;
    enum safetensors_type type;
};

static enum tlm_status state_wrong(struct finder *f, const char *base, const char *what)
{
    return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s.weight': quant_state: expected %s",
                     gguf_show_text(base).text, what);
}

static enum tlm_status read_state(struct finder *f, const char *base, const json_t *json, struct state *s)
{
    static const char *const names[] = {"float32", "float16", "bfloat16"};
    static const enum safetensors_type types[] = {SAFETENSORS_F32, SAFETENSORS_F16, SAFETENSORS_BF16};
    const json_t *shape = json_object_get(json, "shape");
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    int type = 0;
    s->out = json_integer_value(json_array_get(shape, 0));
    s->in = json_integer_value(json_array_get(shape, 1));
    s->block = json_integer_value(json_object_get(json, "blocksize"));
    s->nested_block = json_integer_value(json_object_get(json, "nested_blocksize"));
    s->nested_offset = json_number_value(json_object_get(json, "nested_offset"));
    int64_t count;
    if (json_array_size(shape) != 2 || s->out < 1 || s->in < 1 ||
        __builtin_mul_overflow(s->out, s->in, &count) || count > INT64_MAX / 8)
        return state_wrong(f, base, "a shape of two sides");
    if (s->block < 2 || s->block > 1 << 20 || s->block % 2)
        return state_wrong(f, base, "an even blocksize from 2 to 2^20");
    while (type < 3 && (!dtype || strcmp(dtype, names[type]) != 0)) type++;
    if (type == 3) return state_wrong(f, base, "a dtype of float32, float16 or bfloat16");
    s->type = types[type];
    return TLM_OK;
}

static enum tlm_status find_scales(struct finder *f, const char *base, struct hf_quantized *q,
                                   const struct state *s)
{
    size_t numbers = (size_t)s->out * (size_t)s->in, blocks = (numbers - 1) / (size_t)s->block + 1;
    const struct safetensors_tensor *scales = take(f, base, ".weight.absmax");
    bool nested = scales && scales->type == SAFETENSORS_U8;
    enum tlm_status e =
        need(f, &q->scales, base, ".weight.absmax", nested ? SAFETENSORS_U8 : SAFETENSORS_F32, blocks);
    if (e || !nested) return e;
    if (s->nested_block < 1) return state_wrong(f, base, "a nested_blocksize of 1 or more");
    q->nested_group = s->nested_block;
    q->nested_offset = (float)s->nested_offset;
    e = need(f, &q->nested_scales, base, ".weight.nested_absmax", SAFETENSORS_F32,
             (blocks - 1) / (size_t)s->nested_block + 1);
    return e ? e : need(f, &q->nested_values, base, ".weight.nested_quant_map", SAFETENSORS_F32, 256);
}

static enum tlm_status find_4bit(struct finder *f, const struct safetensors_tensor *t, const char *base)
{
    struct state s = {0};
    json_t *json;
    const struct safetensors_tensor *map;
    f->set->is_part[t - f->weights->tensors] = true;
    enum tlm_status e =
        json_read_object(&json, (const char *)t->data, t->bytes, gguf_show_text(t->name).text, f->err);
    if (e) return e;
    e = read_state(f, base, json, &s);
    json_decref(json);
    struct hf_quantized *q = e ? NULL : add(f, base, s.type, s.out, s.in);
    if (!q) return e ? e : TLM_ERR_MEMORY;
    q->bits = 4;
    q->group = s.block;
    // Codes may be stored as another type that has as many bytes (bnb_4bit_quant_storage).
    q->codes = take(f, base, ".weight");
    size_t bytes = ((size_t)s.out * (size_t)s.in + 1) / 2;
    if (!q->codes || q->codes->bytes != bytes)
        return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s.weight': expected %zu bytes, found %zu",
                         gguf_show_text(base).text, bytes, q->codes ? q->codes->bytes : 0);
    if ((e = need(f, &map, base, ".weight.quant_map", SAFETENSORS_F32, 16))) return e;
    memcpy(q->values, map->data, sizeof q->values);
    return find_scales(f, base, q, &s);
}

static enum tlm_status find_8bit(struct finder *f, const struct safetensors_tensor *scales, const char *base)
{
    const struct safetensors_tensor *codes = take(f, base, ".weight"),
                                    *format = take(f, base, ".weight_format");
    enum dtype dtype = f->config->dtype;
    enum safetensors_type type = dtype == DTYPE_F32    ? SAFETENSORS_F32
                                 : dtype == DTYPE_BF16 ? SAFETENSORS_BF16
                                                       : SAFETENSORS_F16;
    if (!codes || codes->type != SAFETENSORS_I8 || codes->dims != 2 || !codes->bytes)
        return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s.weight': expected a matrix of I8 beside SCB",
                         gguf_show_text(base).text);
    if (format && (format->bytes != 1 || format->data[0]))
        return error_set(f->err, TLM_ERR_UNSUPPORTED,
                         "tensor '%s.weight_format': expected 0, rows, found the layout of a device",
                         gguf_show_text(base).text);
    struct hf_quantized *q = add(f, base, type, codes->shape[0], codes->shape[1]);
    if (!q) return TLM_ERR_MEMORY;
    q->bits = 8;
    q->codes = codes;
    f->set->is_part[scales - f->weights->tensors] = true;
    return need(f, &q->scales, base, ".SCB", SAFETENSORS_F32, (size_t)codes->shape[0]);
}

// ---- GPTQ and AWQ -------------------------------------------------------------------------------------

static int32_t int_at(const struct safetensors_tensor *t, size_t i)
{
    int32_t x;
    memcpy(&x, t->data + 4 * i, 4);
    return x;
}

// Every input's group has a scale.
static enum tlm_status check_groups(struct finder *f, const char *base, struct hf_quantized *q,
                                    int64_t groups)
{
    int64_t in = q->matrix.shape[1];
    if (!q->group_of) {
        if ((in - 1) / q->group < groups) return TLM_OK;
        return error_set(f->err, TLM_ERR_FORMAT,
                         "tensor '%s.scales': expected a row for each %" PRId64 " of %" PRId64
                         " inputs, found %" PRId64,
                         gguf_show_text(base).text, q->group, in, groups);
    }
    for (int64_t i = 0; i < in; i++)
        if (int_at(q->group_of, (size_t)i) < 0 || int_at(q->group_of, (size_t)i) >= groups)
            return error_set(f->err, TLM_ERR_FORMAT,
                             "tensor '%s.g_idx': expected groups from 0 to %" PRId64 ", found %d",
                             gguf_show_text(base).text, groups - 1, int_at(q->group_of, (size_t)i));
    return TLM_OK;
}

// Codes around the middle with an f16 scale for each 32 inputs, or a multiple of them: such are the blocks of Q4_0 and Q8_0.
static int find_grid(const struct hf_quantized *q)
{
    uint32_t middle = q->bits == 4 ? 0x88888888 : 0x80808080;
    middle -= (q->bits == 4 ? 0x11111111u : 0x01010101u) * (uint32_t)q->zero_add;
    if ((q->bits != 4 && q->bits != 8) || q->scales->type != SAFETENSORS_F16 || q->matrix.shape[1] % 32)
        return -1;
    for (size_t i = 0; i < elements(q->zeros); i++)
        if ((uint32_t)int_at(q->zeros, i) != middle) return -1;
    for (int64_t i = 0; i < q->matrix.shape[1] && q->group_of; i++) // in blocks of 32 inputs
        if (int_at(q->group_of, (size_t)i) != int_at(q->group_of, (size_t)(i / 32 * 32))) return -1;
    if (!q->group_of && q->group % 32) return -1;
    return q->bits == 4 ? DTYPE_Q4_0 : DTYPE_Q8_0;
}

static enum tlm_status find_groups(struct finder *f, const struct safetensors_tensor *codes, const char *base)
{
    const struct hf_quantization *c = f->config;
    const struct safetensors_tensor *scales = take(f, base, ".scales");
    int64_t bits = c->bits, rows = codes->shape[0], cols = codes->shape[1], in, out;
    f->set->is_part[codes - f->weights->tensors] = true;
    if (codes->type != SAFETENSORS_I32 || codes->dims != 2 || !codes->bytes)
        return error_set(f->err, TLM_ERR_FORMAT, "tensor '%s': expected a matrix of I32",
                         gguf_show_text(codes->name).text);
    bool gptq = c->packing == HF_GPTQ, fits = gptq ? rows * 32 % bits == 0 : true;
    in = gptq ? rows * 32 / bits : rows;
    out = gptq ? cols : cols * 32 / bits;
    fits = fits && (!gptq || in % 32 == 0) && out * bits % 32 == 0;
    if (!fits)
        return error_set(f->err, TLM_ERR_FORMAT,
                         "tensor '%s': expected whole dwords of codes of %" PRId64 " bits, found %" PRId64
                         " x %" PRId64,
                         gguf_show_text(codes->name).text, bits, rows, cols);
    if (!scales || scales->dims != 2 || !is_float(scales->type) || scales->shape[1] != out || !scales->bytes)
        return error_set(f->err, TLM_ERR_FORMAT,
                         "tensor '%s.scales': expected F16, BF16 or F32 of groups x %" PRId64,
                         gguf_show_text(base).text, out);
    struct hf_quantized *q = add(f, base, scales->type, out, in);
    if (!q) return TLM_ERR_MEMORY;
    int64_t groups = scales->shape[0];
    q->bits = (int)bits;
    q->zero_add = c->zero_add;
    q->group = c->group == -1 ? in : c->group;
    q->codes = codes;
    q->scales = scales;
    enum tlm_status s =
        need(f, &q->zeros, base, ".qzeros", SAFETENSORS_I32, (size_t)groups * (size_t)(out * bits / 32));
    if (!s && gptq && take(f, base, ".g_idx"))
        s = need(f, &q->group_of, base, ".g_idx", SAFETENSORS_I32, (size_t)in);
    if (!s) s = check_groups(f, base, q, groups);
    if (!s) q->grid = find_grid(q);
    return s;
}

// ---- all of a folder ----------------------------------------------------------------------------------

// The part of a name in front of what it ends with, or of a mark within it.
static bool cut_name(char *base, size_t size, const char *name, const char *mark, bool at_end)
{
    const char *at = at_end ? name + strlen(name) - strlen(mark) : strstr(name, mark);
    if (strlen(name) < strlen(mark) || !at || (at_end && strcmp(at, mark) != 0)) return false;
    return (size_t)snprintf(base, size, "%.*s", (int)(at - name), name) < size;
}

static enum tlm_status find_at(struct finder *f, const struct safetensors_tensor *t)
{
    char base[192];
    if (f->config->packing == HF_BNB) {
        if (cut_name(base, sizeof base, t->name, state_mark, false)) return find_4bit(f, t, base);
        if (cut_name(base, sizeof base, t->name, ".SCB", true)) return find_8bit(f, t, base);
    } else if (cut_name(base, sizeof base, t->name, ".qweight", true)) {
        return find_groups(f, t, base);
    }
    return TLM_OK;
}

enum tlm_status hf_quantized_find(struct hf_quantized_set *set, const struct hf_quantization *q,
                                  const struct safetensors *weights, struct tlm_error *err)
{
    struct finder f = {set, q, weights, err};
    enum tlm_status s = TLM_OK;
    if (q->packing == HF_PLAIN) return TLM_OK;
    set->items = calloc(weights->count + 1, sizeof *set->items);
    set->is_part = calloc(weights->count + 1, sizeof *set->is_part);
    if (!set->items || !set->is_part)
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu tensors", weights->count);
    for (size_t i = 0; i < weights->count && !s; i++) s = find_at(&f, &weights->tensors[i]);
    return s;
}

void hf_quantized_free(struct hf_quantized_set *set)
{
    for (size_t i = 0; i < set->count; i++) free(set->items[i].matrix.name);
    free(set->items);
    free(set->is_part);
    *set = (struct hf_quantized_set){0};
}

_Static_assert(offsetof(struct hf_quantized, matrix) == 0, "hf_quantized_of() counts on it");

const struct hf_quantized *hf_quantized_of(const struct hf_quantized_set *set,
                                           const struct safetensors_tensor *t)
{
    uintptr_t first = (uintptr_t)set->items, at = (uintptr_t)t; // `matrix` is the first member
    return at >= first && at - first < set->count * sizeof *set->items ? (const struct hf_quantized *)t
                                                                       : NULL;
}
