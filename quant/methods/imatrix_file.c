// quant/methods/imatrix_file.c -- files of sums; see quant/methods/imatrix.h.
#include "quant/methods/imatrix.h"

#include <math.h>

#include "core/file.h"

#define SUMS   ".in_sum2"
#define COUNTS ".counts"

// ---- writing ------------------------------------------------------------------------------------------

static void declare(struct gguf_writer *w, const struct imatrix_entry *e)
{
    char name[WEIGHT_NAME + 16];
    struct tensor sums = tensor_shape(DTYPE_F32, e->cols, e->mats, 1, 1),
                  counts = tensor_shape(DTYPE_F32, 1, e->mats, 1, 1);
    snprintf(name, sizeof name, "%s" SUMS, e->name);
    gguf_add_tensor(w, name, &sums);
    snprintf(name, sizeof name, "%s" COUNTS, e->name);
    gguf_add_tensor(w, name, &counts);
}

static enum tlm_status write_numbers(struct gguf_writer *w, const double *x, int64_t count,
                                     struct tlm_error *err)
{
    float part[1024];
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0, n; i < count && !s; i += n) {
        n = count - i < 1024 ? count - i : 1024;
        for (int64_t k = 0; k < n; k++) part[k] = (float)x[i + k];
        s = gguf_write_data(w, part, (size_t)n * sizeof *part, err);
    }
    return s;
}

enum tlm_status imatrix_write(const struct imatrix *im, const char *path, struct tlm_error *err)
{
    struct gguf_writer *w;
    enum tlm_status s = gguf_writer_open(&w, path, err);
    if (s) return s;
    const char *dataset = im->dataset ? im->dataset : "";
    struct gguf_string name = {dataset, strlen(dataset)};
    gguf_set_string(w, "general.type", "imatrix", strlen("imatrix"));
    gguf_set_string_array(w, "imatrix.datasets", &name, 1);
    gguf_set_u32(w, "imatrix.chunk_count", im->chunks);
    gguf_set_u32(w, "imatrix.chunk_size", im->chunk_size);
    for (int64_t i = 0; i < im->count; i++) declare(w, &im->entries[i]);
    for (int64_t i = 0; i < im->count && !s; i++) {
        const struct imatrix_entry *e = &im->entries[i];
        s = write_numbers(w, e->sums, e->mats * e->cols, err);
        if (!s) s = write_numbers(w, e->count, e->mats, err);
    }
    if (!s) s = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return s;
}

// ---- reading ------------------------------------------------------------------------------------------

// Sums that cannot be: they would make weights below zero, or none at all.
static enum tlm_status check_numbers(const struct imatrix_entry *e, const char *path, struct tlm_error *err)
{
    for (int64_t i = 0; i < e->mats * (e->cols + 1); i++)
        if (!(e->sums[i] >= 0 && e->sums[i] < INFINITY))
            return error_set(err, TLM_ERR_FORMAT, "%.300s: %s: expected sums of squares, found %g", path,
                             e->name, e->sums[i]);
    return TLM_OK;
}

static enum tlm_status bad_shape(const char *path, const char *name, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_FORMAT,
                     "%.300s: %s: expected sums (K, matrices) and counts (1, matrices), both F32", path,
                     name);
}

static enum tlm_status take_entry(struct imatrix *im, const struct gguf *g, const struct gguf_tensor *t,
                                  const char *path, struct tlm_error *err)
{
    char name[WEIGHT_NAME + 16];
    size_t length = t->name.length - strlen(SUMS);
    const int64_t *ne = t->tensor.ne;
    if (length >= WEIGHT_NAME || memchr(t->name.data, 0, length)) return TLM_OK; // of no matrix that we know
    snprintf(name, sizeof name, "%.*s" COUNTS, (int)length, t->name.data);
    const struct gguf_tensor *counts = gguf_find_tensor(g, name);
    name[length] = 0;
    if (!counts || t->tensor.type != DTYPE_F32 || counts->tensor.type != DTYPE_F32 || ne[2] * ne[3] != 1 ||
        tensor_elements(&counts->tensor) != ne[1] || ne[0] < 1 || ne[1] < 1)
        return bad_shape(path, name, err);
    struct imatrix_entry *e = imatrix_add(im, name, ne[0], ne[1]);
    if (!e) return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for %s", path, name);
    const char *sums = t->tensor.data, *count = counts->tensor.data;
    for (int64_t i = 0; i < ne[0] * ne[1] + ne[1]; i++) {
        float x;
        memcpy(&x, i < ne[0] * ne[1] ? sums + 4 * i : count + 4 * (i - ne[0] * ne[1]), sizeof x);
        e->sums[i] = x;
    }
    return check_numbers(e, path, err);
}

static bool ends_with(struct gguf_string s, const char *text)
{
    size_t n = strlen(text);
    return s.length > n && !memcmp(s.data + s.length - n, text, n);
}

static enum tlm_status read_gguf(struct imatrix *im, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    struct gguf_string type = {"", 0};
    char shown[64];
    int64_t chunks = 0, size = 0;
    enum tlm_status s = gguf_open(&g, path, err);
    if (s) return s;
    s = gguf_get_string(g, "general.type", &type, err);
    if (!s && !gguf_string_is(type, "imatrix"))
        s = error_set(err, TLM_ERR_FORMAT, "%.300s: general.type: expected 'imatrix', found '%s'", path,
                      gguf_printable(type, shown, sizeof shown));
    if (!s) s = gguf_get_i64(g, "imatrix.chunk_count", &chunks, err);
    if (!s) s = gguf_get_i64(g, "imatrix.chunk_size", &size, err);
    im->chunks = (uint32_t)chunks;
    im->chunk_size = (uint32_t)size;
    const struct gguf_value *v = gguf_find(g, "imatrix.datasets");
    if (!s && v && v->item == GGUF_STRING && v->count) {
        struct gguf_string *names;
        s = gguf_value_strings(v, &names, err);
        if (!s) im->dataset = strndup(names[0].data, names[0].length);
        if (!s) free(names);
    }
    for (uint64_t i = 0; i < g->tensor_count && !s; i++)
        if (ends_with(g->tensors[i].name, SUMS)) s = take_entry(im, g, &g->tensors[i], path, err);
    gguf_close(g);
    return s;
}

// ---- the older form -----------------------------------------------------------------------------------

struct reader {
    const char *at, *end;
    bool short_of; // the file ended
};

static const char *take(struct reader *r, size_t bytes)
{
    const char *at = r->at;
    if (r->short_of || (size_t)(r->end - at) < bytes) {
        r->short_of = true;
        return NULL;
    }
    r->at += bytes;
    return at;
}

static int32_t take_i32(struct reader *r)
{
    const char *at = take(r, 4);
    int32_t x = 0;
    if (at) memcpy(&x, at, 4);
    return x;
}

// Calls count as rows, of which the numbers are the sums; the experts' sums stand in one run.
static enum tlm_status take_old_entry(struct imatrix *im, struct reader *r, const char *path,
                                      struct tlm_error *err)
{
    char name[WEIGHT_NAME] = "";
    int32_t length = take_i32(r);
    const char *text = length >= 0 ? take(r, (size_t)length) : NULL;
    int32_t calls = take_i32(r), count = take_i32(r);
    const char *numbers = count > 0 ? take(r, 4 * (size_t)count) : NULL;
    if (r->short_of || !text || !numbers)
        return error_set(err, TLM_ERR_FORMAT,
                         "%.300s: expected sums of squares in llama.cpp's GGUF or older form", path);
    if (length >= WEIGHT_NAME || memchr(text, 0, (size_t)length)) return TLM_OK;
    memcpy(name, text, (size_t)length);
    struct imatrix_entry *e = imatrix_add(im, name, count, 1);
    if (!e) return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for %s", path, name);
    e->count[0] = calls > 0 ? calls : 1;
    for (int32_t i = 0; i < count; i++) {
        float x;
        memcpy(&x, numbers + 4 * (size_t)i, sizeof x);
        e->sums[i] = x;
    }
    return check_numbers(e, path, err);
}

static enum tlm_status read_old(struct imatrix *im, const char *data, size_t size, const char *path,
                                struct tlm_error *err)
{
    struct reader r = {data, data + size, false};
    int32_t entries = take_i32(&r);
    if (entries < 1) r.short_of = true;
    enum tlm_status s = TLM_OK;
    for (int32_t i = 0; (i < entries || i == 0) && !s; i++) s = take_old_entry(im, &r, path, err);
    if (s || r.at == r.end) return s;
    int32_t chunks = take_i32(&r), length = take_i32(&r); // may be missing
    const char *name = length > 0 ? take(&r, (size_t)length) : NULL;
    im->chunks = chunks > 0 ? (uint32_t)chunks : 0;
    if (name) im->dataset = strndup(name, (size_t)length);
    return TLM_OK;
}

enum tlm_status imatrix_read(struct imatrix *im, const char *path, struct tlm_error *err)
{
    void *data;
    size_t size;
    *im = (struct imatrix){0};
    enum tlm_status s = file_map(path, &data, &size, err);
    if (s) return s;
    bool gguf = size >= 4 && !memcmp(data, "GGUF", 4);
    s = gguf ? read_gguf(im, path, err) : read_old(im, data, size, path, err);
    if (!s && !im->count)
        s = error_set(err, TLM_ERR_FORMAT, "%.300s: expected sums of squares, found none", path);
    file_unmap(data, size);
    if (s) imatrix_free(im);
    return s;
}
