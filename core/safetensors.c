// core/safetensors.c -- reading safetensors: each byte is taken for hostile until it has been checked.
#include "core/safetensors.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/gguf_show.h"
#include "core/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they stand in the file");

enum { HEADER_MAX = 100 << 20 }; // what the format's own library reads

const struct safetensors_type_traits safetensors_types[] = {
    [SAFETENSORS_F64] = {"F64", 8, DTYPE_F64},
    [SAFETENSORS_F32] = {"F32", 4, DTYPE_F32},
    [SAFETENSORS_F16] = {"F16", 2, DTYPE_F16},
    [SAFETENSORS_BF16] = {"BF16", 2, DTYPE_BF16},
    [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1, DTYPE_F8_E4M3},
    [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1, -1},
    [SAFETENSORS_F8_E8M0] = {"F8_E8M0", 1, -1},
    [SAFETENSORS_I64] = {"I64", 8, DTYPE_I64},
    [SAFETENSORS_I32] = {"I32", 4, DTYPE_I32},
    [SAFETENSORS_I16] = {"I16", 2, DTYPE_I16},
    [SAFETENSORS_I8] = {"I8", 1, DTYPE_I8},
    [SAFETENSORS_U64] = {"U64", 8, -1},
    [SAFETENSORS_U32] = {"U32", 4, -1},
    [SAFETENSORS_U16] = {"U16", 2, -1},
    [SAFETENSORS_U8] = {"U8", 1, -1},
    [SAFETENSORS_BOOL] = {"BOOL", 1, -1},
};

// ---- a tensor of the header ---------------------------------------------------------------------------

static enum tlm_status read_type(struct safetensors_tensor *t, const json_t *entry, struct tlm_error *err)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name)
        return error_set(err, TLM_ERR_FORMAT, "tensor '%s': dtype: expected a string, found %s",
                         gguf_show_text(t->name).text, json_kind(json_object_get(entry, "dtype")));
    for (int i = 0; i < SAFETENSORS_TYPE_COUNT; i++) {
        if (strcmp(name, safetensors_types[i].name) != 0) continue;
        t->type = (enum safetensors_type)i;
        return TLM_OK;
    }
    return error_set(
        err, TLM_ERR_UNSUPPORTED,
        "tensor '%s': dtype: expected F32, F16, BF16 or another whole number of bytes, found '%s'",
        gguf_show_text(t->name).text, gguf_show_text(name).text);
}

static enum tlm_status read_shape(struct safetensors_tensor *t, const json_t *entry, struct tlm_error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_DIMS)
        return error_set(err, TLM_ERR_FORMAT, "tensor '%s': shape: expected at most %d numbers, found %s",
                         gguf_show_text(t->name).text, SAFETENSORS_MAX_DIMS,
                         json_is_array(shape) ? "more" : json_kind(shape));
    t->dims = (int)json_array_size(shape);
    t->bytes = (size_t)safetensors_types[t->type].bytes;
    for (int i = 0; i < t->dims; i++) {
        const json_t *side = json_array_get(shape, (size_t)i);
        t->shape[i] = json_is_integer(side) ? json_integer_value(side) : -1;
        if (t->shape[i] < 0 || __builtin_mul_overflow(t->bytes, (size_t)t->shape[i], &t->bytes))
            return error_set(err, TLM_ERR_FORMAT,
                             "tensor '%s': shape: expected sides from 0 to 2^63 bytes in all, found %s %lld",
                             gguf_show_text(t->name).text, json_kind(side),
                             (long long)json_integer_value(side));
    }
    return TLM_OK;
}

// `data` are the `size` bytes behind the header.
static enum tlm_status read_place(struct safetensors_tensor *t, const json_t *entry, const uint8_t *data,
                                  size_t size, struct tlm_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return error_set(err, TLM_ERR_FORMAT, "tensor '%s': data_offsets: expected two whole numbers",
                         gguf_show_text(t->name).text);
    json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return error_set(
            err, TLM_ERR_FORMAT,
            "tensor '%s': data_offsets: expected a range within %zu bytes of data, found %lld to %lld",
            gguf_show_text(t->name).text, size, (long long)begin, (long long)end);
    if ((uint64_t)(end - begin) != t->bytes)
        return error_set(err, TLM_ERR_FORMAT,
                         "tensor '%s': data_offsets: expected %zu bytes for its shape of %s, found %lld",
                         gguf_show_text(t->name).text, t->bytes, safetensors_types[t->type].name,
                         (long long)(end - begin));
    t->data = data + begin;
    return TLM_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // empty ones stand before what begins there
}

// Tensors lie behind each other, each byte belongs to one: so nothing overlaps and nothing is hidden.
static enum tlm_status check_places(struct safetensors_tensor *tensors, size_t count, const uint8_t *data,
                                    size_t size, struct tlm_error *err)
{
    qsort(tensors, count, sizeof *tensors, compare_places);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t begin = (size_t)(tensors[i].data - data);
        if (begin != at)
            return error_set(
                err, TLM_ERR_FORMAT,
                "tensor '%s': data_offsets: expected to begin at %zu, where the one before it ends, "
                "found %zu",
                gguf_show_text(tensors[i].name).text, at, begin);
        at += tensors[i].bytes;
    }
    if (at != size)
        return error_set(err, TLM_ERR_FORMAT, "expected %zu bytes of data for all tensors, found %zu", at,
                         size);
    return TLM_OK;
}

// ---- a file -------------------------------------------------------------------------------------------

static enum tlm_status read_header(json_t **header, const uint8_t *file, size_t size, size_t *data_at,
                                   struct tlm_error *err)
{
    uint64_t length = 0;
    if (size >= 8) memcpy(&length, file, 8);
    if (size < 8) return error_set(err, TLM_ERR_FORMAT, "header: expected 8 bytes or more, found %zu", size);
    if (length > size - 8)
        return error_set(err, TLM_ERR_FORMAT, "header: expected %" PRIu64 " bytes, found %zu", length,
                         size - 8);
    if (length > HEADER_MAX)
        return error_set(err, TLM_ERR_FORMAT, "header: expected at most %d bytes, found %" PRIu64, HEADER_MAX,
                         length);
    *data_at = 8 + (size_t)length;
    return json_read_object(header, (const char *)file + 8, (size_t)length, "header", err);
}

// Appends the tensors of one file.
static enum tlm_status read_entries(struct safetensors *s, json_t *header, const uint8_t *data, size_t size,
                                    int file, struct tlm_error *err)
{
    size_t wanted = s->count + json_object_size(header);
    struct safetensors_tensor *grown = realloc(s->tensors, (wanted + 1) * sizeof *grown);
    if (!grown) return error_set(err, TLM_ERR_MEMORY, "no memory for a table of %zu tensors", wanted);
    s->tensors = grown;
    const size_t before = s->count;
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (!strcmp(name, "__metadata__")) continue;
        struct safetensors_tensor *t = &s->tensors[s->count];
        *t = (struct safetensors_tensor){.name = strdup(name), .file = file};
        if (!t->name) return error_set(err, TLM_ERR_MEMORY, "no memory for the names of tensors");
        s->count++;
        enum tlm_status status;
        if ((status = read_type(t, entry, err)) || (status = read_shape(t, entry, err)) ||
            (status = read_place(t, entry, data, size, err)))
            return status;
    }
    return check_places(s->tensors + before, s->count - before, data, size, err);
}

static enum tlm_status parse(struct safetensors *s, const void *bytes, size_t size, int file,
                             struct tlm_error *err)
{
    json_t *header = NULL;
    size_t data_at = 0;
    enum tlm_status status = read_header(&header, bytes, size, &data_at, err);
    if (!status)
        status = read_entries(s, header, (const uint8_t *)bytes + data_at, size - data_at, file, err);
    json_decref(header);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct safetensors_tensor *)a)->name, ((const struct safetensors_tensor *)b)->name);
}

static enum tlm_status sort(struct safetensors *s, struct tlm_error *err)
{
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, compare_names);
    for (size_t i = 1; i < s->count; i++)
        if (!compare_names(&s->tensors[i - 1], &s->tensors[i]))
            return error_set(err, TLM_ERR_FORMAT, "tensor '%s': expected in one file, found in two",
                             gguf_show_text(s->tensors[i].name).text);
    return TLM_OK;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct safetensors_tensor wanted = {.name = (char *)name};
    return s->count ? bsearch(&wanted, s->tensors, s->count, sizeof wanted, compare_names) : NULL;
}

enum tlm_status safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                                        const char *name, struct tlm_error *err)
{
    *out = NULL;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to open it", name);
    enum tlm_status status = parse(s, data, size, 0, err);
    if (!status) status = sort(s, err);
    if (status) {
        safetensors_close(s);
        return error_prefix(err, "%.200s", name);
    }
    *out = s;
    return TLM_OK;
}

void safetensors_close(struct safetensors *s)
{
    if (!s) return;
    for (int i = 0; i < s->file_count; i++) {
        file_unmap(s->files[i].map, s->files[i].size);
        free(s->files[i].path);
    }
    for (size_t i = 0; i < s->count; i++) free(s->tensors[i].name);
    free(s->files);
    free(s->tensors);
    free(s);
}

void safetensors_drop_pages(const struct safetensors *s, const struct safetensors_tensor *t)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)t->data;
    uintptr_t first = align_up(begin, page), last = (begin + t->bytes) / page * page;
    if (t->file < s->file_count && first < last) madvise((void *)first, last - first, MADV_DONTNEED);
}

// ---- a folder -----------------------------------------------------------------------------------------

// Adds folder/name to the files and reads its header.
static enum tlm_status add_file(struct safetensors *s, const char *folder, const char *name,
                                struct tlm_error *err)
{
    struct safetensors_file *grown = realloc(s->files, (size_t)(s->file_count + 1) * sizeof *grown);
    if (grown) s->files = grown;
    struct safetensors_file f = {0};
    if (!grown || asprintf(&f.path, "%s/%s", folder, name) < 0)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its files", folder);
    enum tlm_status status = file_map(f.path, &f.map, &f.size, err);
    if (status) {
        free(f.path);
        return status;
    }
    s->files[s->file_count++] = f;
    status = parse(s, f.map, f.size, s->file_count - 1, err);
    return status ? error_prefix(err, "%.300s", f.path) : TLM_OK;
}

// The index comes from strangers: a name of a file there is a name in this folder, or none.
static bool is_plain_name(const char *name)
{
    size_t length = strlen(name), tail = strlen(".safetensors");
    return name[0] != '.' && !strchr(name, '/') && length > tail && length < 256 &&
           !strcmp(name + length - tail, ".safetensors");
}

static int find_file(const struct safetensors *s, const char *name)
{
    for (int i = 0; i < s->file_count; i++)
        if (!strcmp(strrchr(s->files[i].path, '/') + 1, name)) return i;
    return -1;
}

static enum tlm_status open_shards(struct safetensors *s, const char *folder, json_t *map,
                                   struct tlm_error *err)
{
    enum { SHARDS_MAX = 10000 };
    const char *name;
    json_t *value;
    enum tlm_status status;
    if (!json_is_object(map))
        return error_set(err, TLM_ERR_FORMAT, "weight_map: expected an object, found %s", json_kind(map));
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (!file || !is_plain_name(file))
            return error_set(
                err, TLM_ERR_FORMAT,
                "weight_map: tensor '%s': expected the name of a .safetensors file in this folder, "
                "found '%s'",
                gguf_show_text(name).text, file ? gguf_show_text(file).text : json_kind(value));
        if (find_file(s, file) >= 0) continue;
        if (s->file_count == SHARDS_MAX)
            return error_set(err, TLM_ERR_FORMAT, "weight_map: expected at most %d files, found more",
                             SHARDS_MAX);
        if ((status = add_file(s, folder, file, err))) return status;
    }
    if ((status = sort(s, err))) return status;
    json_object_foreach(map, name, value)
    {
        const struct safetensors_tensor *t = safetensors_find(s, name);
        if (!t || find_file(s, json_string_value(value)) != t->file)
            return error_set(err, TLM_ERR_FORMAT, "weight_map: tensor '%s': expected in %s, found %s",
                             gguf_show_text(name).text, gguf_show_text(json_string_value(value)).text,
                             t ? "in another file" : "in no file");
    }
    return TLM_OK;
}

static bool exists(const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0) return false;
    bool yes = !access(path, F_OK);
    free(path);
    return yes;
}

static enum tlm_status open_folder(struct safetensors *s, const char *folder, struct tlm_error *err)
{
    static const char single[] = "model.safetensors", index[] = "model.safetensors.index.json";
    enum tlm_status status;
    if (exists(folder, single)) {
        status = add_file(s, folder, single, err);
        return status ? status : sort(s, err);
    }
    if (!exists(folder, index))
        return error_set(err, TLM_ERR_IO, "%.200s: expected %s or %s, found neither%s", folder, single, index,
                         exists(folder, "pytorch_model.bin") || exists(folder, "pytorch_model.bin.index.json")
                             ? ", but pytorch_model.bin, which is a program and is not read"
                             : "");
    char *path;
    json_t *json = NULL;
    if (asprintf(&path, "%s/%s", folder, index) < 0)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its index", folder);
    status = json_read_file(&json, path, err);
    if (!status && (status = open_shards(s, folder, json_object_get(json, "weight_map"), err)))
        error_prefix(err, "%.300s", path);
    json_decref(json);
    free(path);
    return status;
}

enum tlm_status safetensors_open(struct safetensors **out, const char *folder, struct tlm_error *err)
{
    *out = NULL;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to open it", folder);
    enum tlm_status status = open_folder(s, folder, err);
    if (status)
        safetensors_close(s);
    else
        *out = s;
    return status;
}
