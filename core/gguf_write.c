// core/gguf_write.c -- writing a GGUF file: version 3, keys and tensors in the order they were given.
//
// Values are kept as the bytes that go into the file, so a value that was read is copied whatever its type.
// Trees over the names find a key that is set again and a tensor that is declared twice.
#include <inttypes.h>
#include <search.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/gguf.h"

enum { VERSION = 3, DEFAULT_ALIGNMENT = 32 };

// The first field of keys and tensors, so that one comparison serves both trees.
struct name {
    char *data;
    size_t length;
};

struct key {
    struct name name;
    enum gguf_type type, item;
    uint64_t count;
    uint8_t *data; // the value, or an array's items
    size_t bytes;
    struct key *next;
};

struct output {
    struct name name;
    struct tensor shape;
    size_t bytes;
    uint64_t offset; // from the start of the data
    struct output *next;
};

struct gguf_writer {
    char *path;
    struct file_writer *file; // NULL: into memory
    FILE *memory;
    char *bytes; // of memory, valid once it is closed
    size_t size;
    struct tlm_error error; // the first failure before any data was written; code TLM_OK while there is none
    struct key *keys, **keys_end;
    struct output *tensors, **tensors_end;
    void *key_tree, *tensor_tree; // of <search.h>
    uint64_t key_count, tensor_count;
    bool started;           // the header has been written
    uint64_t alignment;     // valid once started
    struct output *current; // whose data comes next; NULL behind the last
    size_t current_bytes;   // of its data that have come
};

static enum tlm_status open_writer(struct gguf_writer **out, const char *path, bool memory,
                                   struct tlm_error *err)
{
    *out = NULL;
    struct gguf_writer *w = calloc(1, sizeof *w);
    char *copy = strdup(path);
    if (!w || !copy) {
        free(w);
        free(copy);
        return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory to write it", path);
    }
    w->path = copy;
    w->keys_end = &w->keys;
    w->tensors_end = &w->tensors;
    enum tlm_status status = TLM_OK;
    if (!memory)
        status = file_writer_open(&w->file, path, err);
    else if (!(w->memory = open_memstream(&w->bytes, &w->size)))
        status = error_set(err, TLM_ERR_MEMORY, "%.300s: no memory to write it", path);
    if (status)
        gguf_writer_close(w);
    else
        *out = w;
    return status;
}

enum tlm_status gguf_writer_open(struct gguf_writer **out, const char *path, struct tlm_error *err)
{
    return open_writer(out, path, false, err);
}

enum tlm_status gguf_writer_open_memory(struct gguf_writer **out, const char *name, struct tlm_error *err)
{
    return open_writer(out, name, true, err);
}

static void leave_node(void *node)
{
    (void)node; // the lists own the nodes
}

void gguf_writer_close(struct gguf_writer *w)
{
    if (!w) return;
    file_writer_abort(w->file);
    if (w->memory) fclose(w->memory);
    free(w->bytes);
    tdestroy(w->key_tree, leave_node);
    tdestroy(w->tensor_tree, leave_node);
    for (struct key *k = w->keys, *next; k; k = next) {
        next = k->next;
        free(k->name.data);
        free(k->data);
        free(k);
    }
    for (struct output *t = w->tensors, *next; t; t = next) {
        next = t->next;
        free(t->name.data);
        free(t);
    }
    free(w->path);
    free(w);
}

static void no_memory(struct gguf_writer *w)
{
    if (!w->error.code) error_set(&w->error, TLM_ERR_MEMORY, "%.300s: no memory for its metadata", w->path);
}

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return memcmp(x->data, y->data, x->length);
}

static bool copy_name(struct name *name, const char *data, size_t length)
{
    name->data = malloc(length + 1);
    if (!name->data) return false;
    memcpy(name->data, data, length);
    name->data[length] = '\0'; // for messages
    name->length = length;
    return true;
}

// ---- metadata -----------------------------------------------------------------------------------------

// The key of that name, a new one if there is none; NULL (and the failure kept) without memory.
static struct key *find_or_add_key(struct gguf_writer *w, const char *name, size_t length)
{
    struct name wanted = {(char *)name, length};
    struct key **found = tfind(&wanted, &w->key_tree, compare_names);
    if (found) return *found;
    struct key *k = calloc(1, sizeof *k);
    if (!k || !copy_name(&k->name, name, length) || !tsearch(k, &w->key_tree, compare_names)) {
        if (k) free(k->name.data);
        free(k);
        no_memory(w);
        return NULL;
    }
    *w->keys_end = k;
    w->keys_end = &k->next;
    w->key_count++;
    return k;
}

// Gives the key `bytes` bytes of room for its value, which the caller fills; NULL without memory.
static uint8_t *new_value(struct gguf_writer *w, struct gguf_string name, enum gguf_type type,
                          enum gguf_type item, uint64_t count, size_t bytes)
{
    TLM_ASSERT(!w->started);
    struct key *k = find_or_add_key(w, name.data, name.length);
    if (!k) return NULL;
    free(k->data);
    k->type = type;
    k->item = item;
    k->count = count;
    k->bytes = bytes;
    k->data = malloc(bytes ? bytes : 1);
    if (!k->data) no_memory(w);
    return k->data;
}

static void set_number(struct gguf_writer *w, const char *key, enum gguf_type type, const void *value)
{
    size_t bytes = gguf_type_traits[type].bytes;
    uint8_t *p = new_value(w, (struct gguf_string){key, strlen(key)}, type, type, 1, bytes);
    if (p) memcpy(p, value, bytes);
}

void gguf_set_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    set_number(w, key, GGUF_U32, &value);
}

void gguf_set_u64(struct gguf_writer *w, const char *key, uint64_t value)
{
    set_number(w, key, GGUF_U64, &value);
}

void gguf_set_i32(struct gguf_writer *w, const char *key, int32_t value)
{
    set_number(w, key, GGUF_I32, &value);
}

void gguf_set_f32(struct gguf_writer *w, const char *key, float value)
{
    set_number(w, key, GGUF_F32, &value);
}

void gguf_set_bool(struct gguf_writer *w, const char *key, bool value)
{
    uint8_t byte = value;
    set_number(w, key, GGUF_BOOL, &byte);
}

static uint8_t *put_string(uint8_t *p, struct gguf_string s)
{
    memcpy(p, &s.length, 8);
    if (s.length) memcpy(p + 8, s.data, s.length);
    return p + 8 + s.length;
}

void gguf_set_string(struct gguf_writer *w, const char *key, const char *data, size_t length)
{
    struct gguf_string s = {data, length};
    uint8_t *p =
        new_value(w, (struct gguf_string){key, strlen(key)}, GGUF_STRING, GGUF_STRING, 1, 8 + length);
    if (p) put_string(p, s);
}

void gguf_set_array(struct gguf_writer *w, const char *key, enum gguf_type item, const void *items,
                    uint64_t count)
{
    TLM_ASSERT(item < GGUF_TYPE_COUNT && item != GGUF_STRING && item != GGUF_ARRAY);
    size_t bytes = count * gguf_type_traits[item].bytes; // the items are in memory, so this does not overflow
    uint8_t *p = new_value(w, (struct gguf_string){key, strlen(key)}, GGUF_ARRAY, item, count, bytes);
    if (p && bytes) memcpy(p, items, bytes);
}

void gguf_set_string_array(struct gguf_writer *w, const char *key, const struct gguf_string *items,
                           uint64_t count)
{
    size_t bytes = 0;
    for (uint64_t i = 0; i < count; i++) bytes += 8 + items[i].length;
    uint8_t *p = new_value(w, (struct gguf_string){key, strlen(key)}, GGUF_ARRAY, GGUF_STRING, count, bytes);
    for (uint64_t i = 0; p && i < count; i++) p = put_string(p, items[i]);
}

void gguf_set_value(struct gguf_writer *w, struct gguf_string key, const struct gguf_value *value)
{
    size_t bytes = (size_t)(value->end - value->data);
    uint8_t *p = new_value(w, key, value->type, value->item, value->count, bytes);
    if (p) memcpy(p, value->data, bytes);
}

static bool begins_with(struct gguf_string s, const char *text)
{
    return s.length >= strlen(text) && !memcmp(s.data, text, strlen(text));
}

void gguf_copy_metadata(struct gguf_writer *w, const struct gguf *from)
{
    for (uint64_t i = 0; i < from->key_count; i++) {
        const struct gguf_key *k = &from->keys[i];
        if (!begins_with(k->name, "split.") && !begins_with(k->name, GGUF_KEYS_OF_NUMBERS))
            gguf_set_value(w, k->name, &k->value);
    }
}

// ---- tensors ------------------------------------------------------------------------------------------

// Bytes of the packed rows of `t`; false for a shape that no file may hold.
static bool packed_bytes(const struct tensor *t, size_t *bytes)
{
    const struct dtype_traits *traits = &dtype_traits[t->type];
    size_t n = (size_t)traits->block_bytes;
    if (t->ne[0] % traits->block_size) return false;
    for (int i = 0; i < TENSOR_MAX_DIMS; i++) {
        int64_t count = i ? t->ne[i] : t->ne[0] / traits->block_size;
        if (count < 1 || __builtin_mul_overflow(n, (size_t)count, &n)) return false;
    }
    *bytes = n;
    return n <= INT64_MAX;
}

void gguf_add_tensor(struct gguf_writer *w, const char *name, const struct tensor *t)
{
    TLM_ASSERT(!w->started && dtype_known(t->type));
    struct output *o = calloc(1, sizeof *o);
    struct output **in_tree = NULL;
    if (o && copy_name(&o->name, name, strlen(name))) in_tree = tsearch(o, &w->tensor_tree, compare_names);
    bool twice = in_tree && *in_tree != o;
    if (!in_tree)
        no_memory(w);
    else if (twice && !w->error.code)
        error_set(&w->error, TLM_ERR_ARGUMENT, "%.200s: tensor '%.100s': declared twice", w->path, name);
    if (!in_tree || twice) {
        if (o) free(o->name.data);
        free(o);
        return;
    }
    *w->tensors_end = o;
    w->tensors_end = &o->next;
    w->tensor_count++;
    o->shape = *t;
    if (!packed_bytes(t, &o->bytes) && !w->error.code)
        error_set(&w->error, TLM_ERR_ARGUMENT,
                  "%.200s: tensor '%.100s': expected sides of at least 1 and rows of a multiple of %d "
                  "numbers, found "
                  "%" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64,
                  w->path, name, dtype_traits[t->type].block_size, t->ne[0], t->ne[1], t->ne[2], t->ne[3]);
}

// ---- the file -----------------------------------------------------------------------------------------

static void put(struct gguf_writer *w, const void *data, size_t bytes)
{
    if (w->file)
        file_writer_write(w->file, data, bytes);
    else if (bytes)
        fwrite(data, 1, bytes, w->memory); // a failure stays with the stream
}

static enum tlm_status output_status(const struct gguf_writer *w, struct tlm_error *err)
{
    if (w->file) return file_writer_status(w->file, err);
    return ferror(w->memory) ? error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for its data", w->path)
                             : TLM_OK;
}

static void write_u32(struct gguf_writer *w, uint32_t x)
{
    put(w, &x, sizeof x);
}

static void write_u64(struct gguf_writer *w, uint64_t x)
{
    put(w, &x, sizeof x);
}

static void write_padding(struct gguf_writer *w, uint64_t at)
{
    static const uint8_t zeros[4096];
    for (uint64_t left = align_up(at, w->alignment) - at; left;) {
        size_t n = left < sizeof zeros ? left : sizeof zeros;
        put(w, zeros, n);
        left -= n;
    }
}

static enum tlm_status find_alignment(struct gguf_writer *w, struct tlm_error *err)
{
    struct name wanted = {(char *)"general.alignment", strlen("general.alignment")};
    struct key **found = tfind(&wanted, &w->key_tree, compare_names);
    w->alignment = DEFAULT_ALIGNMENT;
    if (!found) return TLM_OK;
    const struct key *k = *found;
    struct gguf_value v = {k->type, k->item, k->count, k->data, k->data + k->bytes};
    int64_t n = v.type != GGUF_ARRAY && gguf_value_is_integer(&v) ? gguf_value_i64(&v, 0) : 0;
    if (n <= 0 || (n & (n - 1)))
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%.200s: key 'general.alignment': expected a power of two, found %" PRId64, w->path,
                         n);
    w->alignment = (uint64_t)n;
    return TLM_OK;
}

// Sets the offsets of all tensors; false where they leave 63 bits.
static bool place_tensors(struct gguf_writer *w)
{
    uint64_t end = 0;
    for (struct output *t = w->tensors; t; t = t->next) {
        t->offset = align_up(end, w->alignment);
        if (__builtin_add_overflow(t->offset, t->bytes, &end) || end > INT64_MAX - w->alignment) return false;
    }
    return true;
}

// Writes everything before the data, and counts how much that is.
static void write_header(struct gguf_writer *w)
{
    uint64_t at = 4 + 4 + 8 + 8;
    put(w, "GGUF", 4);
    write_u32(w, VERSION);
    write_u64(w, w->tensor_count);
    write_u64(w, w->key_count);
    for (const struct key *k = w->keys; k; k = k->next) {
        write_u64(w, k->name.length);
        put(w, k->name.data, k->name.length);
        write_u32(w, k->type);
        if (k->type == GGUF_ARRAY) {
            write_u32(w, k->item);
            write_u64(w, k->count);
        }
        put(w, k->data, k->bytes);
        at += 8 + k->name.length + 4 + (k->type == GGUF_ARRAY ? 12 : 0) + k->bytes;
    }
    for (const struct output *t = w->tensors; t; t = t->next) {
        uint32_t n_dims = TENSOR_MAX_DIMS;
        while (n_dims > 1 && t->shape.ne[n_dims - 1] == 1) n_dims--;
        write_u64(w, t->name.length);
        put(w, t->name.data, t->name.length);
        write_u32(w, n_dims);
        for (uint32_t i = 0; i < n_dims; i++) write_u64(w, (uint64_t)t->shape.ne[i]);
        write_u32(w, t->shape.type);
        write_u64(w, t->offset);
        at += 8 + t->name.length + 4 + 8 * n_dims + 4 + 8;
    }
    if (w->tensors) write_padding(w, at); // a file of metadata alone ends with it, as other writers do it
}

static enum tlm_status start(struct gguf_writer *w, struct tlm_error *err)
{
    if (w->error.code) {
        if (err) *err = w->error;
        return w->error.code;
    }
    if (w->started) return TLM_OK;
    enum tlm_status status = find_alignment(w, err);
    if (status) return status;
    if (!place_tensors(w))
        return error_set(err, TLM_ERR_ARGUMENT, "%.300s: tensors of 2^63 bytes or more", w->path);
    w->started = true;
    w->current = w->tensors;
    write_header(w);
    return output_status(w, err);
}

enum tlm_status gguf_write_data(struct gguf_writer *w, const void *data, size_t bytes, struct tlm_error *err)
{
    enum tlm_status status = start(w, err);
    if (status) return status;
    for (const uint8_t *p = data; bytes;) {
        struct output *t = w->current;
        if (!t)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%.300s: expected no data behind the last tensor, found %zu bytes more", w->path,
                             bytes);
        size_t left = t->bytes - w->current_bytes, n = bytes < left ? bytes : left;
        put(w, p, n);
        p += n;
        bytes -= n;
        w->current_bytes += n;
        if (w->current_bytes == t->bytes) {
            write_padding(w, t->bytes); // offsets are aligned, so the size alone says how much
            w->current = t->next;
            w->current_bytes = 0;
        }
    }
    return output_status(w, err);
}

// Nothing is missing: the header is written, and the data of all tensors.
static enum tlm_status complete(struct gguf_writer *w, struct tlm_error *err)
{
    enum tlm_status status = start(w, err);
    if (status) return status;
    if (w->current)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%.200s: tensor '%.100s': expected %zu bytes of data, found %zu", w->path,
                         w->current->name.data, w->current->bytes, w->current_bytes);
    return TLM_OK;
}

enum tlm_status gguf_writer_finish(struct gguf_writer *w, struct tlm_error *err)
{
    TLM_ASSERT(w->file);
    enum tlm_status status = complete(w, err);
    if (status) return status;
    struct file_writer *file = w->file;
    w->file = NULL;
    return file_writer_finish(file, err);
}

static enum tlm_status take_memory(struct gguf_writer *w, void **data, size_t *size, struct tlm_error *err)
{
    FILE *memory = w->memory;
    w->memory = NULL;
    if (fclose(memory)) return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for its data", w->path);
    *data = w->bytes;
    *size = w->size;
    w->bytes = NULL;
    return TLM_OK;
}

enum tlm_status gguf_writer_take(struct gguf_writer *w, void **data, size_t *size, struct tlm_error *err)
{
    TLM_ASSERT(w->memory);
    enum tlm_status status = complete(w, err);
    return status ? status : take_memory(w, data, size, err);
}

enum tlm_status gguf_writer_take_head(struct gguf_writer *w, void **head, size_t *size, size_t *data_bytes,
                                      struct tlm_error *err)
{
    TLM_ASSERT(w->memory && !w->started);
    enum tlm_status status = start(w, err);
    *data_bytes = 0;
    for (const struct output *t = w->tensors; t; t = t->next)
        *data_bytes = align_up(t->offset + t->bytes, w->alignment);
    return status ? status : take_memory(w, head, size, err);
}
