// core/gguf.c -- opening GGUF files: one, or all parts of a split set; hints to the kernel about their pages.
#include <ctype.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/gguf_parse.h"

// Takes over `map`, also on failure.
static enum tlm_status open_bytes(struct gguf **out, void *map, const void *data, size_t size,
                                  const char *name, struct tlm_error *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    struct gguf_file *file = calloc(1, sizeof *file);
    char *path = strdup(name);
    if (!g || !file || !path) {
        file_unmap(map, size);
        free(g);
        free(file);
        free(path);
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to open it", name);
    }
    *file = (struct gguf_file){.map = map, .size = size, .path = path};
    g->file_count = 1;
    g->files = file;
    enum tlm_status status = gguf_parse(g, data, size, err);
    if (status) {
        error_prefix(err, "%s", name);
        gguf_close(g);
        return status;
    }
    *out = g;
    return TLM_OK;
}

enum tlm_status gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                                 struct tlm_error *err)
{
    *out = NULL;
    return open_bytes(out, NULL, data, size, name, err);
}

static enum tlm_status open_path(struct gguf **out, const char *path, struct tlm_error *err)
{
    void *map;
    size_t size;
    enum tlm_status status = file_map(path, &map, &size, err);
    return status ? status : open_bytes(out, map, map, size, path, err);
}

void gguf_close(struct gguf *g)
{
    if (!g) return;
    for (int i = 0; i < g->file_count; i++) {
        file_unmap(g->files[i].map, g->files[i].size);
        free(g->files[i].path);
        free(g->files[i].own);
    }
    free(g->files);
    free(g->keys);
    free(g->keys_by_name);
    free(g->tensors);
    free(g->tensors_by_name);
    free(g);
}

// ---- split sets ---------------------------------------------------------------------------------------

struct split_name {
    int stem; // characters before "-00001-of-00003.gguf"
    int part, count;
};

static bool parse_split_name(const char *path, struct split_name *s)
{
    static const char pattern[] = "-00001-of-00001.gguf"; // a digit stands for any digit
    size_t length = strlen(path), tail_length = sizeof pattern - 1;
    if (length < tail_length || length > INT32_MAX) return false;
    const char *tail = path + length - tail_length;
    for (size_t i = 0; i < tail_length; i++)
        if (isdigit((unsigned char)pattern[i]) ? !isdigit((unsigned char)tail[i]) : tail[i] != pattern[i])
            return false;
    *s = (struct split_name){(int)(length - tail_length), atoi(tail + 1), atoi(tail + 10)};
    return s->part >= 1 && s->part <= s->count;
}

// Compares the keys of a part, where they are there, with what the name of the file says.
static enum tlm_status check_part(const struct gguf *g, const struct split_name *s, struct tlm_error *err)
{
    int64_t number = s->part - 1, count = s->count;
    enum tlm_status status = gguf_get_i64(g, "split.no", &number, err);
    if (!status) status = gguf_get_i64(g, "split.count", &count, err);
    if (status) return status;
    if (number != s->part - 1 || count != s->count)
        return error_set(
            err, TLM_ERR_FORMAT,
            "%.200s: keys 'split.no' and 'split.count': expected %d and %d by the name of the file, found "
            "%" PRId64 " and %" PRId64,
            g->files[0].path, s->part - 1, s->count, number, count);
    return TLM_OK;
}

// Moves the tensors and the file of `part` into g; the keys of the part stay behind.
static enum tlm_status join(struct gguf *g, struct gguf *part, struct tlm_error *err)
{
    uint64_t count = g->tensor_count + part->tensor_count;
    struct gguf_tensor *tensors = realloc(g->tensors, (count ? count : 1) * sizeof *tensors);
    if (!tensors)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its tensors", part->files[0].path);
    g->tensors = tensors;
    for (uint64_t i = 0; i < part->tensor_count; i++) {
        struct gguf_tensor *t = &g->tensors[g->tensor_count++];
        *t = part->tensors[i];
        t->file = g->file_count;
    }
    g->files[g->file_count++] = part->files[0];
    part->file_count = 0;
    return TLM_OK;
}

static enum tlm_status open_other_parts(struct gguf *g, struct split_name s, struct tlm_error *err)
{
    const char *first = g->files[0].path;
    struct gguf_file *files = calloc((size_t)s.count, sizeof *files);
    if (!files) return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for %d parts", first, s.count);
    files[0] = g->files[0];
    free(g->files);
    g->files = files;
    for (s.part = 2; s.part <= s.count; s.part++) {
        char *path;
        struct gguf *part = NULL;
        if (asprintf(&path, "%.*s-%05d-of-%05d.gguf", s.stem, first, s.part, s.count) < 0)
            return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for the name of a part", first);
        enum tlm_status status = open_path(&part, path, err);
        free(path);
        if (!status) status = check_part(part, &s, err);
        if (!status) status = join(g, part, err);
        gguf_close(part);
        if (status) return status;
    }
    int64_t expected = (int64_t)g->tensor_count;
    enum tlm_status status = gguf_get_i64(g, "split.tensors.count", &expected, err);
    if (!status && expected != (int64_t)g->tensor_count)
        status = error_set(err, TLM_ERR_FORMAT,
                           "%.200s: key 'split.tensors.count': expected %" PRId64
                           " tensors in all parts, found %" PRIu64,
                           first, expected, g->tensor_count);
    if (status) return status;
    status =
        gguf_sort_names(&g->tensors_by_name, g->tensors, g->tensor_count, sizeof *g->tensors, "tensor", err);
    if (status) error_prefix(err, "%s", first);
    return status;
}

// A file that is no part of a set is done; the first part brings the others; other parts are refused.
static enum tlm_status open_split_set(struct gguf *g, struct tlm_error *err)
{
    const char *path = g->files[0].path;
    struct split_name s;
    if (!parse_split_name(path, &s)) {
        int64_t count = 1;
        enum tlm_status status = gguf_get_i64(g, "split.count", &count, err);
        if (status || count <= 1) return status;
        return error_set(err, TLM_ERR_FORMAT,
                         "%.200s: one of %" PRId64 " parts of a model: expected a name such as "
                         "NAME-00001-of-%05" PRId64 ".gguf",
                         path, count, count);
    }
    if (s.part != 1)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%.140s: part %d of %d: expected the first part, %.*s-00001-of-%05d.gguf", path,
                         s.part, s.count, s.stem, path, s.count);
    enum tlm_status status = check_part(g, &s, err);
    return status ? status : open_other_parts(g, s, err);
}

enum tlm_status gguf_open(struct gguf **out, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    *out = NULL;
    enum tlm_status status = open_path(&g, path, err);
    if (status) return status;
    status = open_split_set(g, err);
    if (status)
        gguf_close(g);
    else
        *out = g;
    return status;
}

// ---- hints about memory -------------------------------------------------------------------------------

void gguf_prefetch(const struct gguf *g)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < g->file_count; i++) {
        const struct gguf_file *f = &g->files[i];
        size_t start = f->data_offset / page * page;
        if (f->map && start < f->size) madvise((char *)f->map + start, f->size - start, MADV_WILLNEED);
    }
}

void gguf_drop_pages(const struct gguf *g, const struct tensor *t)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)t->data;
    uintptr_t first = align_up(begin, page), last = (begin + tensor_bytes(t)) / page * page;
    for (int i = 0; i < g->file_count; i++) { // a buffer of somebody else's holds data that would be lost
        uintptr_t map = (uintptr_t)g->files[i].map;
        if (map && begin >= map && begin - map < g->files[i].size && first < last)
            madvise((void *)first, last - first, MADV_DONTNEED);
    }
}
