// quant/composite.c -- tensors of types that GGUF lacks: put together from their parts; see quant/composite.h.
#include "quant/composite.h"

#include <inttypes.h>

#include "core/arena.h"
#include "core/gguf_parse.h"
#include "core/gguf_show.h"

struct assembly {
    struct gguf *g;
    bool *is_part;        // [tensor_count] belongs to another one
    struct tensor *whole; // [tensor_count] what it becomes; ne[0] is 0 where it stays what it is
    struct tlm_error *err;
};

static const struct gguf_tensor *find_tensor(const struct gguf *g, struct gguf_string base,
                                             const char *suffix)
{
    char *name;
    if (base.length > UINT16_MAX) return NULL; // no name of a tensor
    if (asprintf(&name, "%.*s%s", (int)base.length, base.data, suffix) < 0) return NULL;
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    free(name);
    return t;
}

// The part `suffix` of a tensor; NULL: absent.
static const struct tensor *find_part(struct assembly *a, struct gguf_string base, const char *suffix)
{
    const struct gguf_tensor *t = find_tensor(a->g, base, suffix);
    if (t) a->is_part[t - a->g->tensors] = true;
    return t ? &t->tensor : NULL;
}

static enum tlm_status need(struct assembly *a, const struct tensor **out, struct gguf_string base,
                            const char *suffix, enum dtype type, int64_t count)
{
    const struct tensor *t = *out = find_part(a, base, suffix);
    if (t && t->type == type && tensor_elements(t) == count) return TLM_OK;
    if (!t)
        return error_set(a->err, TLM_ERR_FORMAT, "tensor '%s%s': the file lacks it", gguf_show(base).text,
                         suffix);
    return error_set(a->err, TLM_ERR_FORMAT,
                     "tensor '%s%s': expected %" PRId64 " numbers of %s, found %" PRId64 " of %s",
                     gguf_show(base).text, suffix, count, dtype_traits[type].name, tensor_elements(t),
                     dtype_traits[t->type].name);
}

static float float_at(const struct tensor *t, int64_t i)
{
    float x;
    memcpy(&x, (const char *)t->data + 4 * i, 4);
    return x;
}

// The parts of a tensor, all checked.
struct parts {
    const struct tensor *codes, *absmax, *scale, *offset, *middle, *columns, *outliers;
};

static enum tlm_status find_parts(struct assembly *a, struct parts *p, struct gguf_string name,
                                  const struct tensor *whole)
{
    int64_t rows = composite_rows(whole), blocks = composite_blocks(whole);
    enum tlm_status s;
    if (composite_is_4bit(whole->type)) {
        s = need(a, &p->absmax, name, ".absmax", DTYPE_I8, blocks);
        if (!s)
            s = need(a, &p->scale, name, ".absmax_scale", DTYPE_F32,
                     (blocks + COMPOSITE_NESTED - 1) / COMPOSITE_NESTED);
        return s ? s : need(a, &p->offset, name, ".absmax_offset", DTYPE_F32, 1);
    }
    s = need(a, &p->absmax, name, ".absmax", DTYPE_F32, rows);
    if (!s && whole->type == DTYPE_INT8_ASYM) s = need(a, &p->middle, name, ".middle", DTYPE_F32, rows);
    const struct tensor *columns = s ? NULL : find_part(a, name, ".columns");
    if (!columns) return s;
    // At most 4 of 64 columns, so the product is below that of the tensor's sides.
    int64_t n = columns->ne[0], most = whole->ne[0] / QUANT_BNB * QUANT_OUTLIERS;
    if (n > most)
        return error_set(a->err, TLM_ERR_FORMAT,
                         "tensor '%s.columns': expected at most %" PRId64 " columns, found %" PRId64,
                         gguf_show(name).text, most, n);
    s = need(a, &p->columns, name, ".columns", DTYPE_I32, n * composite_mats(whole));
    return s ? s : need(a, &p->outliers, name, ".outliers", DTYPE_F16, n * rows);
}

static void assemble_4bit(const struct parts *p, const struct tensor *whole)
{
    struct block_nf4 *b = whole->data;
    const uint8_t *codes = p->codes->data, *absmax = p->absmax->data;
    for (int64_t i = 0; i < composite_blocks(whole); i++, b++, codes += sizeof b->qs) {
        b->absmax = quant_dynamic_values[absmax[i]] * float_at(p->scale, i / COMPOSITE_NESTED) +
                    float_at(p->offset, 0);
        memcpy(b->qs, codes, sizeof b->qs);
    }
}

// Puts a matrix's columns apart into the blocks of its rows.
static enum tlm_status place_columns(struct assembly *a, const struct parts *p, struct gguf_string name,
                                     const struct tensor *whole, int64_t mat)
{
    int64_t n = p->columns->ne[0], row_blocks = whole->ne[0] / QUANT_BNB, last = -1;
    for (int64_t j = 0; j < n; j++) {
        int32_t column;
        memcpy(&column, (const char *)p->columns->data + 4 * (mat * n + j), 4);
        if (column == -1) continue;
        struct block_int8 *b = (struct block_int8 *)whole->data + mat * whole->ne[1] * row_blocks;
        int slot = 0;
        bool ascends = column > last && column < whole->ne[0];
        while (ascends && slot < QUANT_OUTLIERS && b[column / QUANT_BNB].column[slot] != QUANT_NO_COLUMN)
            slot++;
        if (!ascends || slot == QUANT_OUTLIERS)
            return error_set(
                a->err, TLM_ERR_FORMAT,
                "tensor '%s.columns': expected columns in order, at most %d of each %d, found %d",
                gguf_show(name).text, QUANT_OUTLIERS, QUANT_BNB, column);
        last = column;
        for (int64_t r = 0; r < whole->ne[1]; r++) {
            struct block_int8 *at = &b[r * row_blocks + column / QUANT_BNB];
            at->column[slot] = (uint8_t)(column % QUANT_BNB);
            memcpy(&at->outlier[slot],
                   (const char *)p->outliers->data + 2 * ((mat * whole->ne[1] + r) * n + j), 2);
        }
    }
    return TLM_OK;
}

static enum tlm_status assemble_8bit(struct assembly *a, const struct parts *p, struct gguf_string name,
                                     const struct tensor *whole)
{
    struct block_int8 *b = whole->data;
    const int8_t *codes = p->codes->data;
    enum tlm_status s = TLM_OK;
    for (int64_t r = 0; r < composite_rows(whole); r++)
        for (int64_t i = 0; i < whole->ne[0]; i += QUANT_BNB, b++, codes += sizeof b->qs) {
            *b = (struct block_int8){.absmax = float_at(p->absmax, r),
                                     .middle = p->middle ? float_at(p->middle, r) : 0};
            memset(b->column, QUANT_NO_COLUMN, sizeof b->column);
            memcpy(b->qs, codes, sizeof b->qs);
        }
    for (int64_t m = 0; m < composite_mats(whole) && p->columns && !s; m++)
        s = place_columns(a, p, name, whole, m);
    return s;
}

static enum tlm_status assemble(struct assembly *a, uint64_t i)
{
    const struct gguf_tensor *t = &a->g->tensors[i];
    struct parts p = {.codes = &t->tensor};
    enum tlm_status s = find_parts(a, &p, t->name, &a->whole[i]);
    if (!s && composite_is_4bit(a->whole[i].type))
        assemble_4bit(&p, &a->whole[i]);
    else if (!s)
        s = assemble_8bit(a, &p, t->name, &a->whole[i]);
    gguf_drop_pages(a->g, &t->tensor);
    return s;
}

// The type and the shape of a tensor that the keys name.
static enum tlm_status plan(struct assembly *a, struct gguf_string name, struct gguf_string type_name)
{
    char *text = strndup(type_name.data, type_name.length);
    int type = text ? dtype_parse(text) : -1;
    free(text);
    if (type < 0 || !composite_is((enum dtype)type))
        return error_set(a->err, TLM_ERR_UNSUPPORTED,
                         COMPOSITE_TYPES ": expected NF4, FP4, INT8 or INT8_ASYM, found '%s'",
                         gguf_show(type_name).text);
    const struct gguf_tensor *found = find_tensor(a->g, name, "");
    const struct tensor *t = found ? &found->tensor : NULL;
    if (!t || t->type != DTYPE_I8)
        return error_set(a->err, TLM_ERR_FORMAT, "tensor '%s': expected codes of type I8, found %s",
                         gguf_show(name).text, t ? dtype_traits[t->type].name : "no such tensor");
    int64_t columns =
        composite_is_4bit((enum dtype)type) ? 2 * t->ne[0] : t->ne[0]; // fewer than 2^63: mapped
    if (columns % QUANT_BNB)
        return error_set(a->err, TLM_ERR_FORMAT,
                         "tensor '%s': expected rows of a multiple of %d numbers, found %" PRId64,
                         gguf_show(name).text, QUANT_BNB, columns);
    a->whole[found - a->g->tensors] = tensor_shape((enum dtype)type, columns, t->ne[1], t->ne[2], t->ne[3]);
    return TLM_OK;
}

static enum tlm_status plan_all(struct assembly *a, const struct gguf_value *names,
                                const struct gguf_value *types)
{
    struct gguf_string *name = NULL, *type = NULL;
    bool strings = names->item == GGUF_STRING && types && types->item == GGUF_STRING;
    if (!strings || names->count != types->count)
        return error_set(a->err, TLM_ERR_FORMAT,
                         COMPOSITE_TENSORS ", " COMPOSITE_TYPES ": expected as many texts in both");
    enum tlm_status s = gguf_value_strings(names, &name, a->err);
    if (!s) s = gguf_value_strings(types, &type, a->err);
    for (uint64_t i = 0; i < names->count && !s; i++) s = plan(a, name[i], type[i]);
    free(name), free(type);
    return s;
}

static enum tlm_status make_all(struct assembly *a)
{
    struct gguf *g = a->g;
    size_t bytes = 0;
    enum tlm_status s = TLM_OK;
    for (uint64_t i = 0; i < g->tensor_count; i++)
        if (a->whole[i].ne[0]) bytes += align_up(tensor_bytes(&a->whole[i]), ARENA_ALIGN);
    TLM_ASSERT(!g->files[0].own);
    char *at = g->files[0].own = aligned_alloc(ARENA_ALIGN, bytes ? bytes : ARENA_ALIGN);
    if (!at)
        return error_set(a->err, TLM_ERR_MEMORY, "no memory for %.1f MiB of tensors that are put together",
                         (double)bytes / 0x1p20);
    for (uint64_t i = 0; i < g->tensor_count && !s; i++) {
        if (!a->whole[i].ne[0]) continue;
        a->whole[i].data = at;
        at += align_up(tensor_bytes(&a->whole[i]), ARENA_ALIGN);
        s = assemble(a, i);
    }
    return s;
}

// Drops the parts and the keys that spoke of them.
static enum tlm_status finish(struct assembly *a)
{
    struct gguf *g = a->g;
    uint64_t tensors = 0, keys = 0;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        if (a->is_part[i]) continue;
        if (a->whole[i].ne[0]) g->tensors[i].tensor = a->whole[i], g->tensors[i].file = 0;
        g->tensors[tensors++] = g->tensors[i];
    }
    for (uint64_t i = 0; i < g->key_count; i++)
        if (!gguf_string_is(g->keys[i].name, COMPOSITE_TENSORS) &&
            !gguf_string_is(g->keys[i].name, COMPOSITE_TYPES))
            g->keys[keys++] = g->keys[i];
    g->tensor_count = tensors;
    g->key_count = keys;
    free(g->tensors_by_name), free(g->keys_by_name);
    g->tensors_by_name = g->keys_by_name = NULL;
    enum tlm_status s =
        gguf_sort_names(&g->tensors_by_name, g->tensors, tensors, sizeof *g->tensors, "tensor", a->err);
    return s ? s : gguf_sort_names(&g->keys_by_name, g->keys, keys, sizeof *g->keys, "key", a->err);
}

enum tlm_status composite_assemble(struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *names = gguf_find(g, COMPOSITE_TENSORS), *types = gguf_find(g, COMPOSITE_TYPES);
    if (!names) return TLM_OK;
    struct assembly a = {.g = g, .err = err};
    a.is_part = calloc((size_t)g->tensor_count + 1, sizeof *a.is_part);
    a.whole = calloc((size_t)g->tensor_count + 1, sizeof *a.whole);
    enum tlm_status s = a.is_part && a.whole
                            ? plan_all(&a, names, types)
                            : error_set(err, TLM_ERR_MEMORY, "no memory for names of tensors");
    if (!s) s = make_all(&a);
    if (!s) s = finish(&a);
    free(a.is_part), free(a.whole);
    return s;
}
