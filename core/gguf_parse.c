// core/gguf_parse.c -- the bytes of a GGUF file: each is taken for hostile until it has been checked.
//
// Two rules keep that true. All reading goes through need(), which compares with what is left of the file and
// never adds to a number of the file. And no memory is taken for a count before need_items() has seen that
// the file is long enough to hold so many items, so the tables are at most a small multiple of the file.
#include "core/gguf_parse.h"

#include <inttypes.h>

#include "core/arena.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they stand in the file");

enum {
    MAX_ARRAY_DEPTH = 8,   // arrays in arrays; the format sets no limit, our stack does
    KEY_MIN_BYTES = 13,    // length of an empty name, type, one byte of value
    TENSOR_MIN_BYTES = 24, // length of an empty name, n_dims, no dimensions, type, offset
    DEFAULT_ALIGNMENT = 32,
};

// clang-format off
const struct gguf_type_traits gguf_type_traits[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},   [GGUF_I8] = {"i8", 1},   [GGUF_U16] = {"u16", 2}, [GGUF_I16] = {"i16", 2},
    [GGUF_U32] = {"u32", 4}, [GGUF_I32] = {"i32", 4}, [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},
    [GGUF_U64] = {"u64", 8}, [GGUF_I64] = {"i64", 8}, [GGUF_F64] = {"f64", 8},
    [GGUF_STRING] = {"string", 8}, // u64 length
    [GGUF_ARRAY] = {"array", 12},  // u32 type of the items, u64 count
};
// clang-format on

struct reader {
    const uint8_t *data;
    size_t size, at;
    char where[96]; // what is being read, for messages: "key 'general.name'"
    struct tlm_error *err;
};

static enum tlm_status need(const struct reader *r, uint64_t bytes, const char *what)
{
    if (bytes <= r->size - r->at) return TLM_OK;
    return error_set(r->err, TLM_ERR_FORMAT,
                     "%s: %s at byte %zu: expected %" PRIu64 " bytes, found the end of the file after %zu",
                     r->where, what, r->at, bytes, r->size - r->at);
}

static enum tlm_status need_items(const struct reader *r, uint64_t count, size_t item_bytes, const char *what)
{
    if (count <= (r->size - r->at) / item_bytes) return TLM_OK;
    return error_set(r->err, TLM_ERR_FORMAT,
                     "%s: %" PRIu64
                     " x %s at byte %zu: expected %zu bytes or more for each, found %zu in all",
                     r->where, count, what, r->at, item_bytes, r->size - r->at);
}

static enum tlm_status read_u32(struct reader *r, uint32_t *x, const char *what)
{
    enum tlm_status status = need(r, sizeof *x, what);
    if (status) return status;
    memcpy(x, r->data + r->at, sizeof *x);
    r->at += sizeof *x;
    return TLM_OK;
}

static enum tlm_status read_u64(struct reader *r, uint64_t *x, const char *what)
{
    enum tlm_status status = need(r, sizeof *x, what);
    if (status) return status;
    memcpy(x, r->data + r->at, sizeof *x);
    r->at += sizeof *x;
    return TLM_OK;
}

static enum tlm_status read_string(struct reader *r, struct gguf_string *s, const char *what)
{
    enum tlm_status status = read_u64(r, &s->length, what);
    if (!status) status = need(r, s->length, what);
    if (status) return status;
    s->data = (const char *)r->data + r->at;
    r->at += s->length;
    return TLM_OK;
}

// Sets what messages call the thing being read: by its number until its name is known, then by its name.
static void say_where(struct reader *r, const char *kind, uint64_t number, const struct gguf_string *name)
{
    char text[64];
    if (name)
        snprintf(r->where, sizeof r->where, "%s '%s'", kind, gguf_printable(*name, text, sizeof text));
    else
        snprintf(r->where, sizeof r->where, "%s %" PRIu64, kind, number);
}

static void *new_table(uint64_t count, size_t item_bytes, struct tlm_error *err)
{
    void *table = calloc(count ? count : 1, item_bytes); // checks the product
    if (!table)
        error_set(err, TLM_ERR_MEMORY, "no memory for a table of %" PRIu64 " x %zu bytes", count, item_bytes);
    return table;
}

// ---- metadata -----------------------------------------------------------------------------------------

static enum tlm_status read_type(struct reader *r, enum gguf_type *type, const char *what)
{
    uint32_t id;
    enum tlm_status status = read_u32(r, &id, what);
    if (status) return status;
    if (id >= GGUF_TYPE_COUNT)
        return error_set(r->err, TLM_ERR_FORMAT,
                         "%s: %s at byte %zu: expected a type from 0 to %d, found %" PRIu32, r->where, what,
                         r->at - sizeof id, GGUF_TYPE_COUNT - 1, id);
    *type = (enum gguf_type)id;
    return TLM_OK;
}

static enum tlm_status read_array_header(struct reader *r, enum gguf_type *item, uint64_t *count)
{
    enum tlm_status status = read_type(r, item, "type of the array's items");
    if (!status) status = read_u64(r, count, "length of the array");
    return status;
}

// Passes over `count` items of one type. An array in an array takes 12 bytes of the file, so time is linear.
static enum tlm_status skip_items(struct reader *r, enum gguf_type type, uint64_t count, int depth)
{
    enum tlm_status status = need_items(r, count, gguf_type_traits[type].bytes, gguf_type_traits[type].name);
    if (status) return status;
    if (type == GGUF_STRING) {
        struct gguf_string s;
        for (uint64_t i = 0; i < count && !status; i++) status = read_string(r, &s, "string");
    } else if (type == GGUF_ARRAY) {
        if (depth == MAX_ARRAY_DEPTH)
            return error_set(r->err, TLM_ERR_UNSUPPORTED,
                             "%s: array at byte %zu: expected at most %d arrays in one another, found more",
                             r->where, r->at, MAX_ARRAY_DEPTH);
        for (uint64_t i = 0; i < count && !status; i++) {
            enum gguf_type item;
            uint64_t item_count;
            status = read_array_header(r, &item, &item_count);
            if (!status) status = skip_items(r, item, item_count, depth + 1);
        }
    } else {
        if (type == GGUF_BOOL)
            for (uint64_t i = 0; i < count; i++)
                if (r->data[r->at + i] > 1)
                    return error_set(r->err, TLM_ERR_FORMAT,
                                     "%s: bool at byte %zu: expected 0 or 1, found %d", r->where, r->at + i,
                                     r->data[r->at + i]);
        r->at += count * gguf_type_traits[type].bytes;
    }
    return status;
}

static enum tlm_status read_value(struct reader *r, struct gguf_value *v)
{
    enum tlm_status status = read_type(r, &v->type, "type of the value");
    if (status) return status;
    v->item = v->type;
    v->count = 1;
    if (v->type == GGUF_ARRAY) status = read_array_header(r, &v->item, &v->count);
    if (status) return status;
    v->data = r->data + r->at;
    status = skip_items(r, v->item, v->count, v->type == GGUF_ARRAY ? 1 : 0);
    v->end = r->data + r->at;
    return status;
}

static int compare_names(const void *a, const void *b)
{
    const struct gguf_string *x = *(const struct gguf_string *const *)a,
                             *y = *(const struct gguf_string *const *)b;
    int order = memcmp(x->data, y->data, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

enum tlm_status gguf_sort_names(const struct gguf_string ***out, const void *table, uint64_t count,
                                size_t item_bytes, const char *kind, struct tlm_error *err)
{
    const struct gguf_string **names = new_table(count, sizeof *names, err);
    if (!names) return TLM_ERR_MEMORY;
    for (uint64_t i = 0; i < count; i++)
        names[i] = (const struct gguf_string *)((const char *)table + i * item_bytes);
    qsort(names, count, sizeof *names, compare_names);
    free(*out);
    *out = names;
    for (uint64_t i = 1; i < count; i++) { // names that come twice are side by side now
        char text[64];
        if (!compare_names(&names[i - 1], &names[i]))
            return error_set(err, TLM_ERR_FORMAT, "%s '%s': expected once, found twice", kind,
                             gguf_printable(*names[i], text, sizeof text));
    }
    return TLM_OK;
}

static const void *find_name(const struct gguf_string **names, uint64_t count, const char *name)
{
    struct gguf_string s = {name, strlen(name)};
    const struct gguf_string *key = &s, **found = bsearch(&key, names, count, sizeof *names, compare_names);
    return found ? *found : NULL;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    const struct gguf_key *k = find_name(g->keys_by_name, g->key_count, key);
    return k ? &k->value : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    return find_name(g->tensors_by_name, g->tensor_count, name);
}

static enum tlm_status read_keys(struct reader *r, struct gguf *g, uint64_t count)
{
    enum tlm_status status = need_items(r, count, KEY_MIN_BYTES, "metadata key");
    if (status) return status;
    g->keys = new_table(count, sizeof *g->keys, r->err);
    if (!g->keys) return TLM_ERR_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        struct gguf_key *key = &g->keys[i];
        say_where(r, "key", i, NULL);
        status = read_string(r, &key->name, "name");
        if (status) return status;
        say_where(r, "key", i, &key->name);
        status = read_value(r, &key->value);
        if (status) return status;
    }
    g->key_count = count;
    return gguf_sort_names(&g->keys_by_name, g->keys, count, sizeof *g->keys, "key", r->err);
}

static enum tlm_status find_alignment(struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, "general.alignment");
    g->alignment = DEFAULT_ALIGNMENT;
    if (!v) return TLM_OK;
    if (!gguf_value_is_integer(v) || v->type == GGUF_ARRAY)
        return error_set(err, TLM_ERR_FORMAT,
                         "key 'general.alignment': expected a whole number, found type %s",
                         gguf_type_traits[v->type].name);
    int64_t n = gguf_value_i64(v, 0);
    if (n <= 0 || (n & (n - 1)))
        return error_set(err, TLM_ERR_FORMAT,
                         "key 'general.alignment': expected a power of two, found %" PRId64, n);
    g->alignment = (uint64_t)n;
    return TLM_OK;
}

// ---- tensors ------------------------------------------------------------------------------------------

// Where the data of a tensor lies, counted from the start of the data.
struct extent {
    uint64_t offset;
    size_t bytes;
    struct gguf_tensor *tensor;
};

// Reads the dimensions and the type; the product of all dimensions and the bytes are checked for overflow.
static enum tlm_status read_shape(struct reader *r, struct tensor *t, size_t *bytes)
{
    uint32_t n_dims, type;
    uint64_t ne[TENSOR_MAX_DIMS] = {1, 1, 1, 1};
    int64_t elements = 1;
    enum tlm_status status = read_u32(r, &n_dims, "number of dimensions");
    if (status) return status;
    if (n_dims > TENSOR_MAX_DIMS)
        return error_set(r->err, TLM_ERR_FORMAT, "%s: expected at most %d dimensions, found %" PRIu32,
                         r->where, TENSOR_MAX_DIMS, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        status = read_u64(r, &ne[i], "dimension");
        if (status) return status;
        if (ne[i] == 0 || ne[i] > INT64_MAX || __builtin_mul_overflow(elements, (int64_t)ne[i], &elements))
            return error_set(r->err, TLM_ERR_FORMAT,
                             "%s: dimension %" PRIu32 ": expected from 1 to 2^63-1 in all, found %" PRIu64,
                             r->where, i, ne[i]);
    }
    status = read_u32(r, &type, "type");
    if (status) return status;
    if (!dtype_known(type))
        return error_set(r->err, TLM_ERR_UNSUPPORTED,
                         "%s: expected a tensor type that GGUF defines, found number %" PRIu32, r->where,
                         type);
    const struct dtype_traits *traits = &dtype_traits[type];
    if (ne[0] % (uint64_t)traits->block_size)
        return error_set(r->err, TLM_ERR_FORMAT,
                         "%s: expected rows of a multiple of %d numbers for type %s, found %" PRIu64,
                         r->where, traits->block_size, traits->name, ne[0]);
    if (__builtin_mul_overflow((size_t)(elements / traits->block_size), (size_t)traits->block_bytes, bytes))
        return error_set(r->err, TLM_ERR_FORMAT,
                         "%s: expected fewer than 2^64 bytes, found %" PRId64 " numbers of type %s", r->where,
                         elements, traits->name);
    *t = tensor_shape((enum dtype)type, (int64_t)ne[0], (int64_t)ne[1], (int64_t)ne[2], (int64_t)ne[3]);
    return TLM_OK;
}

static enum tlm_status read_tensors(struct reader *r, struct gguf *g, uint64_t count, struct extent *extents)
{
    for (uint64_t i = 0; i < count; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        say_where(r, "tensor", i, NULL);
        enum tlm_status status = read_string(r, &t->name, "name");
        if (status) return status;
        say_where(r, "tensor", i, &t->name);
        extents[i].tensor = t;
        status = read_shape(r, &t->tensor, &extents[i].bytes);
        if (!status) status = read_u64(r, &extents[i].offset, "offset");
        if (status) return status;
    }
    g->tensor_count = count;
    return gguf_sort_names(&g->tensors_by_name, g->tensors, count, sizeof *g->tensors, "tensor", r->err);
}

static int compare_offsets(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

// Points the tensors to their data, behind which the reader stands; sorts the extents.
static enum tlm_status place_tensors(struct reader *r, struct gguf *g, struct extent *extents)
{
    size_t start = align_up(r->at, g->alignment); // no overflow: the alignment is at most 2^62
    size_t data_bytes = start < r->size ? r->size - start : 0;
    g->files[0].data_offset = data_bytes ? start : r->size;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct extent *e = &extents[i];
        struct tensor *t = &e->tensor->tensor;
        say_where(r, "tensor", i, &e->tensor->name);
        if (e->offset % g->alignment)
            return error_set(r->err, TLM_ERR_FORMAT,
                             "%s: expected an offset that is a multiple of %" PRIu64 ", found %" PRIu64,
                             r->where, g->alignment, e->offset);
        if (e->offset > data_bytes || e->bytes > data_bytes - e->offset)
            return error_set(r->err, TLM_ERR_FORMAT,
                             "%s: expected %zu bytes at offset %" PRIu64
                             " of the data, found %zu bytes of data",
                             r->where, e->bytes, e->offset, data_bytes);
        // Kernels read numbers through pointers to their type. The alignment of a type divides its size.
        size_t natural = t->nb[0] & -t->nb[0], at = start + e->offset;
        natural = natural < 8 ? natural : 8;
        if (at % natural)
            return error_set(r->err, TLM_ERR_UNSUPPORTED,
                             "%s: expected data at a multiple of %zu for type %s, found byte %zu", r->where,
                             natural, dtype_traits[t->type].name, at);
        t->data = (void *)(r->data + at);
    }
    qsort(extents, g->tensor_count, sizeof *extents, compare_offsets);
    for (uint64_t i = 1; i < g->tensor_count; i++) {
        const struct extent *e = &extents[i], *before = e - 1;
        char text[64];
        say_where(r, "tensor", i, &e->tensor->name);
        if (e->offset - before->offset < before->bytes)
            return error_set(r->err, TLM_ERR_FORMAT,
                             "%s: expected an offset behind the %zu bytes of tensor '%s' at %" PRIu64
                             ", found %" PRIu64,
                             r->where, before->bytes, gguf_printable(before->tensor->name, text, sizeof text),
                             before->offset, e->offset);
    }
    return TLM_OK;
}

// ---- the whole file -----------------------------------------------------------------------------------

static enum tlm_status read_header(struct reader *r, struct gguf *g, uint64_t *n_tensors, uint64_t *n_keys)
{
    uint32_t magic;
    snprintf(r->where, sizeof r->where, "header");
    enum tlm_status status = read_u32(r, &magic, "magic");
    if (status) return status;
    if (memcmp(r->data, "GGUF", 4)) {
        char text[32];
        struct gguf_string found = {(const char *)r->data, 4};
        return error_set(r->err, TLM_ERR_FORMAT,
                         "not a GGUF file: expected it to begin with 'GGUF', found '%s'",
                         gguf_printable(found, text, sizeof text));
    }
    status = read_u32(r, &g->version, "version");
    if (status) return status;
    if (g->version && !(g->version & 0xffff)) // a small number with its bytes in the other order
        return error_set(r->err, TLM_ERR_UNSUPPORTED,
                         "expected a little-endian file, found a big-endian one of GGUF version %" PRIu32,
                         __builtin_bswap32(g->version));
    if (g->version != 2 && g->version != 3)
        return error_set(r->err, TLM_ERR_UNSUPPORTED, "expected GGUF version 2 or 3, found %" PRIu32,
                         g->version);
    status = read_u64(r, n_tensors, "number of tensors");
    if (!status) status = read_u64(r, n_keys, "number of metadata keys");
    return status;
}

enum tlm_status gguf_parse(struct gguf *g, const void *data, size_t size, struct tlm_error *err)
{
    struct reader r = {.data = data, .size = size, .err = err};
    uint64_t n_tensors, n_keys;
    enum tlm_status status = read_header(&r, g, &n_tensors, &n_keys);
    if (!status) status = need_items(&r, n_tensors, TENSOR_MIN_BYTES, "tensor");
    if (!status) status = read_keys(&r, g, n_keys);
    if (!status) status = find_alignment(g, err);
    if (status) return status;

    snprintf(r.where, sizeof r.where, "header");
    status = need_items(&r, n_tensors, TENSOR_MIN_BYTES, "tensor"); // less is left now
    if (status) return status;
    struct extent *extents = new_table(n_tensors, sizeof *extents, err);
    g->tensors = extents ? new_table(n_tensors, sizeof *g->tensors, err) : NULL;
    status = g->tensors ? read_tensors(&r, g, n_tensors, extents) : TLM_ERR_MEMORY;
    if (!status) status = place_tensors(&r, g, extents);
    free(extents);
    return status;
}
