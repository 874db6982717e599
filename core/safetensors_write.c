// core/safetensors_write.c -- writing safetensors: one file, or shards with their index.
//
// Names, shapes and places are known before the first data, so a shard's header is written when the shard begins. Each file has
// a temporary name until it is whole and synced.
#include <inttypes.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"

struct output {
    char *name;
    enum safetensors_type type;
    int dims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    uint64_t bytes, offset; // offset in the shard's data
    int shard;
};

struct safetensors_writer {
    char *folder;
    uint64_t shard_bytes;
    struct output *tensors;
    size_t count, room;
    int shard_count;
    bool started;
    size_t current;           // whose data comes next
    uint64_t current_bytes;   // of its data that have come
    struct file_writer *file; // of the shard being written
    int open_shard;
};

static enum tlm_status no_memory(const struct safetensors_writer *w, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to write it", w->folder);
}

enum tlm_status safetensors_writer_open(struct safetensors_writer **out, const char *folder,
                                        uint64_t shard_bytes, struct tlm_error *err)
{
    *out = NULL;
    struct safetensors_writer *w = calloc(1, sizeof *w);
    if (w) w->folder = strdup(folder);
    if (!w || !w->folder) {
        free(w);
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to write it", folder);
    }
    w->shard_bytes = shard_bytes;
    w->open_shard = -1;
    *out = w;
    return TLM_OK;
}

void safetensors_writer_close(struct safetensors_writer *w)
{
    if (!w) return;
    file_writer_abort(w->file);
    for (size_t i = 0; i < w->count; i++) free(w->tensors[i].name);
    free(w->tensors);
    free(w->folder);
    free(w);
}

enum tlm_status safetensors_add(struct safetensors_writer *w, const char *name, enum safetensors_type type,
                                int dims, const int64_t *shape, struct tlm_error *err)
{
    TLM_ASSERT(!w->started && dims >= 0 && dims <= SAFETENSORS_MAX_DIMS);
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 256;
        struct output *grown = realloc(w->tensors, room * sizeof *grown);
        if (!grown) return no_memory(w, err);
        w->tensors = grown;
        w->room = room;
    }
    struct output o = {.type = type, .dims = dims, .bytes = (uint64_t)safetensors_types[type].bytes};
    for (int i = 0; i < dims; i++) {
        o.shape[i] = shape[i];
        if (shape[i] < 0 || __builtin_mul_overflow(o.bytes, (uint64_t)shape[i], &o.bytes) ||
            o.bytes > INT64_MAX)
            return error_set(err, TLM_ERR_ARGUMENT, "tensor '%.100s': expected fewer than 2^63 bytes", name);
    }
    if (!(o.name = strdup(name))) return no_memory(w, err);
    w->tensors[w->count++] = o;
    return TLM_OK;
}

// Fills shards in the order of the tensors.
static void place(struct safetensors_writer *w)
{
    uint64_t used = 0;
    w->shard_count = 1;
    for (size_t i = 0; i < w->count; i++) {
        struct output *o = &w->tensors[i];
        if (used && (o->bytes > w->shard_bytes || used > w->shard_bytes - o->bytes)) {
            w->shard_count++;
            used = 0;
        }
        o->shard = w->shard_count - 1;
        o->offset = used;
        used += o->bytes;
    }
}

struct file_name {
    char text[64];
};

static struct file_name shard_name(const struct safetensors_writer *w, int shard)
{
    struct file_name name = {"model.safetensors"};
    if (w->shard_count > 1)
        snprintf(name.text, sizeof name.text, "model-%05d-of-%05d.safetensors", shard + 1, w->shard_count);
    return name;
}

static enum tlm_status open_file(struct safetensors_writer *w, struct file_writer **file, const char *name,
                                 struct tlm_error *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", w->folder, name) < 0) return no_memory(w, err);
    enum tlm_status s = file_writer_open(file, path, err);
    free(path);
    return s;
}

static json_t *describe(const struct output *o)
{
    json_t *shape = json_array();
    for (int i = 0; i < o->dims; i++) json_array_append_new(shape, json_integer(o->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_types[o->type].name, "shape", shape,
                     "data_offsets", (json_int_t)o->offset, (json_int_t)(o->offset + o->bytes));
}

// The header, with blanks behind it up to a multiple of 8, so that all numbers are aligned.
static enum tlm_status write_header(struct safetensors_writer *w, int shard, struct tlm_error *err)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    bool failed = !header;
    for (size_t i = 0; i < w->count && !failed; i++)
        if (w->tensors[i].shard == shard)
            failed = json_object_set_new(header, w->tensors[i].name, describe(&w->tensors[i])) != 0;
    char *text = failed ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text) return no_memory(w, err);
    uint64_t length = strlen(text), padded = align_up(length, 8);
    file_writer_write(w->file, &padded, sizeof padded);
    file_writer_write(w->file, text, length);
    file_writer_write(w->file, "       ", padded - length);
    free(text);
    return TLM_OK;
}

static enum tlm_status end_shard(struct safetensors_writer *w, struct tlm_error *err)
{
    struct file_writer *file = w->file;
    w->file = NULL;
    return file ? file_writer_finish(file, err) : TLM_OK;
}

static enum tlm_status begin_shard(struct safetensors_writer *w, int shard, struct tlm_error *err)
{
    enum tlm_status s = end_shard(w, err);
    if (!s) s = open_file(w, &w->file, shard_name(w, shard).text, err);
    w->open_shard = shard;
    return s ? s : write_header(w, shard, err);
}

static enum tlm_status start(struct safetensors_writer *w, struct tlm_error *err)
{
    if (w->started) return TLM_OK;
    w->started = true;
    place(w);
    return begin_shard(w, 0, err);
}

enum tlm_status safetensors_write_data(struct safetensors_writer *w, const void *data, size_t bytes,
                                       struct tlm_error *err)
{
    enum tlm_status s = start(w, err);
    for (const uint8_t *p = data; bytes && !s;) {
        if (w->current == w->count)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%.200s: expected no data behind the last tensor, found %zu bytes", w->folder,
                             bytes);
        const struct output *o = &w->tensors[w->current];
        if (o->shard != w->open_shard && (s = begin_shard(w, o->shard, err))) return s;
        uint64_t left = o->bytes - w->current_bytes;
        size_t n = bytes < left ? bytes : (size_t)left;
        file_writer_write(w->file, p, n);
        p += n;
        bytes -= n;
        w->current_bytes += n;
        if (w->current_bytes == o->bytes) {
            w->current++;
            w->current_bytes = 0;
        }
    }
    return s ? s : file_writer_status(w->file, err);
}

static enum tlm_status write_index(struct safetensors_writer *w, struct tlm_error *err)
{
    json_t *map = json_object();
    uint64_t total = 0;
    bool failed = !map;
    for (size_t i = 0; i < w->count && !failed; i++) {
        const struct output *o = &w->tensors[i];
        total += o->bytes;
        failed = json_object_set_new(map, o->name, json_string(shard_name(w, o->shard).text)) != 0;
    }
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char *text = index && !failed ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(index);
    if (!text) return no_memory(w, err);
    struct file_writer *file;
    enum tlm_status s = open_file(w, &file, "model.safetensors.index.json", err);
    if (!s) {
        file_writer_write(file, text, strlen(text));
        file_writer_write(file, "\n", 1);
        s = file_writer_finish(file, err);
    }
    free(text);
    return s;
}

enum tlm_status safetensors_writer_finish(struct safetensors_writer *w, struct tlm_error *err)
{
    enum tlm_status s = start(w, err);
    if (s) return s;
    if (w->current < w->count)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "tensor '%.100s': expected %" PRIu64 " bytes of data, found %" PRIu64,
                         w->tensors[w->current].name, w->tensors[w->current].bytes, w->current_bytes);
    if ((s = end_shard(w, err))) return s;
    return w->shard_count > 1 ? write_index(w, err) : TLM_OK;
}
