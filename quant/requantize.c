// quant/requantize.c -- see quant/requantize.h.
//
// The data of all tensors, one after the other, is cut into pieces of some rows; as many pieces as fit into a
// buffer are a window. While the threads fill one window, one of them writes the window before it. Small
// tensors share a window and large ones take many, so all threads have work in both cases.
#include "quant/requantize.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>

#include "quant/composite.h"
#include "quant/quant.h"

enum {
    PIECE_NUMBERS = 1 << 15,
    PIECES_MAX = 4096,
    THREAD_BYTES = 1 << 21, // of a window, for each thread
};

// Scales are f16, and so are the numbers of F16: larger ones would become infinite.
#define LARGEST 65504.0f

struct piece {
    uint64_t tensor;
    int64_t row, rows;
    size_t at, bytes; // in the window
};

struct window {
    uint8_t *data;
    size_t used;
    int count;
    struct piece pieces[PIECES_MAX];
};

struct run {
    const struct requantize *r;
    struct gguf_writer *out;
    float *numbers;  // (threads, most numbers of a piece)
    uint8_t *blocks; // (threads, most bytes of a piece) of types that are taken apart
    size_t piece_numbers, piece_bytes, window_bytes;
    struct composite *composites;            // [in->tensor_count]
    struct window windows[2], *fill, *write; // write: NULL while there is none
    uint64_t tensor;                         // where the next piece begins
    int64_t row;
    atomic_int next;          // the next job: 0 writes, n is piece n - 1
    _Atomic uint64_t refused; // the first tensor with a number that its type cannot hold
    enum tlm_status status;   // of writing
    struct tlm_error error;
};

static int64_t rows_of(const struct tensor *t)
{
    return t->ne[1] * t->ne[2] * t->ne[3];
}

static int64_t piece_rows(const struct tensor *t)
{
    return t->ne[0] < PIECE_NUMBERS ? PIECE_NUMBERS / t->ne[0] : 1;
}

// ---- the work of a thread -----------------------------------------------------------------------------

static bool all_within(const float *x, int64_t count, float limit)
{
    bool within = true; // a NaN is not
    for (int64_t i = 0; i < count; i++) within &= fabsf(x[i]) <= limit;
    return within;
}

static void refuse(struct run *run, uint64_t tensor)
{
    uint64_t first = atomic_load(&run->refused);
    while (tensor < first && !atomic_compare_exchange_weak(&run->refused, &first, tensor)) {
    }
}

// F32, BF16 and F64 hold whatever there is.
static bool is_wide(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F64;
}

static bool holds(const struct requantize *r, enum dtype type, const float *numbers, int64_t count)
{
    if (!is_wide(type)) return all_within(numbers, count, LARGEST);
    return r->allow_nonfinite || all_within(numbers, count, FLT_MAX);
}

static bool is_scaled(const struct requantize *r, uint64_t tensor)
{
    return (r->columns && r->columns[tensor]) || (r->rows && r->rows[tensor]);
}

static void scale(const struct requantize *r, const struct piece *p, float *numbers)
{
    const struct tensor *t = &r->in->tensors[p->tensor].tensor;
    const float *columns = r->columns ? r->columns[p->tensor] : NULL,
                *rows = r->rows ? r->rows[p->tensor] : NULL;
    for (int64_t i = 0; i < p->rows && (columns || rows); i++) {
        float *x = numbers + i * t->ne[0], row = rows ? rows[(p->row + i) % t->ne[1]] : 1;
        for (int64_t c = 0; c < t->ne[0]; c++) x[c] *= row * (columns ? columns[c] : 1);
    }
}

// Each matrix of a stack has weights of its own.
static void quantize_rows(const struct run *run, const struct piece *p, uint8_t *to, const float *numbers)
{
    const struct tensor *t = &run->r->in->tensors[p->tensor].tensor;
    enum dtype type = run->r->types[p->tensor];
    const float *weights = run->r->weights ? run->r->weights[p->tensor] : NULL;
    if (!weights) {
        quant_quantize_rows(type, to, numbers, p->rows, t->ne[0], NULL);
        return;
    }
    for (int64_t i = 0; i < p->rows; i++)
        quant_types[type].quantize(to + (size_t)i * dtype_row_bytes(type, t->ne[0]), numbers + i * t->ne[0],
                                   t->ne[0], weights + (p->row + i) / t->ne[1] % t->ne[2] * t->ne[0]);
}

// The rows of a piece in the type that was chosen.
static void make_rows(struct run *run, const struct piece *p, float *numbers, uint8_t *to)
{
    const struct tensor *t = &run->r->in->tensors[p->tensor].tensor;
    enum dtype type = run->r->types[p->tensor];
    const uint8_t *from = tensor_row(t, p->row);
    size_t row_bytes = dtype_row_bytes(type, t->ne[0]), bytes = (size_t)p->rows * row_bytes;
    int64_t count = p->rows * t->ne[0];
    if (run->r->ready && run->r->ready[p->tensor]) {
        memcpy(to, (const char *)run->r->ready[p->tensor] + (size_t)p->row * row_bytes, bytes);
        return;
    }
    if (type == t->type && !is_scaled(run->r, p->tensor)) {
        memcpy(to, from, bytes);
        if (!run->r->allow_nonfinite && quant_types[type].dequantize) {
            quant_types[type].dequantize(numbers, from, count);
            if (!all_within(numbers, count, FLT_MAX)) refuse(run, p->tensor);
        }
        return;
    }
    quant_types[t->type].dequantize(numbers, from, count);
    scale(run->r, p, numbers);
    if (!holds(run->r, type, numbers, count))
        refuse(run, p->tensor);
    else
        quantize_rows(run, p, to, numbers);
}

static void convert(struct run *run, const struct piece *p, int thread)
{
    struct composite *c = &run->composites[p->tensor];
    uint8_t *window = run->fill->data + p->at, *blocks = run->blocks + (size_t)thread * run->piece_bytes;
    make_rows(run, p, run->numbers + (size_t)thread * run->piece_numbers, c->part_count ? blocks : window);
    if (c->part_count) composite_put(c, p->row, p->rows, blocks, window);
}

static void work(void *user, int thread)
{
    struct run *run = user;
    for (int job; (job = atomic_fetch_add(&run->next, 1)) <= run->fill->count;) {
        if (job)
            convert(run, &run->fill->pieces[job - 1], thread);
        else if (run->write)
            run->status = gguf_write_data(run->out, run->write->data, run->write->used, &run->error);
    }
}

// ---- windows ------------------------------------------------------------------------------------------

// Of the file, of what is streamed.
static size_t row_bytes(const struct run *run, uint64_t tensor)
{
    const struct composite *c = &run->composites[tensor];
    if (c->part_count) return c->parts[0].tensor.nb[1];
    return dtype_row_bytes(run->r->types[tensor], run->r->in->tensors[tensor].tensor.ne[0]);
}

// Cuts the next pieces for the window that is filled.
static void cut_pieces(struct run *run)
{
    struct window *w = run->fill;
    const struct gguf *in = run->r->in;
    w->used = 0;
    w->count = 0;
    while (run->tensor < in->tensor_count && w->count < PIECES_MAX) {
        const struct tensor *t = &in->tensors[run->tensor].tensor;
        int64_t left = rows_of(t) - run->row, rows = piece_rows(t);
        if (rows > left) rows = left;
        size_t bytes = (size_t)rows * row_bytes(run, run->tensor);
        if (bytes > run->window_bytes - w->used) return;
        w->pieces[w->count++] = (struct piece){run->tensor, run->row, rows, w->used, bytes};
        w->used += bytes;
        run->row += rows;
        if (rows == left) run->tensor++, run->row = 0;
    }
}

static uint64_t numbers_of(const struct run *run, const struct window *w)
{
    uint64_t count = 0;
    for (int i = 0; i < w->count; i++)
        count += (uint64_t)(w->pieces[i].rows * run->r->in->tensors[w->pieces[i].tensor].tensor.ne[0]);
    return count;
}

// The pages of tensors that have been read to the end are not needed again.
static void drop_read(const struct run *run, const struct window *w)
{
    for (int i = 0; i < w->count; i++) {
        const struct tensor *t = &run->r->in->tensors[w->pieces[i].tensor].tensor;
        if (w->pieces[i].row + w->pieces[i].rows == rows_of(t)) gguf_drop_pages(run->r->in, t);
    }
}

static enum tlm_status refused(const struct run *run, struct tlm_error *err)
{
    uint64_t i = atomic_load(&run->refused);
    char name[128];
    if (i == UINT64_MAX) return TLM_OK;
    if (run->r->types[i] == run->r->in->tensors[i].tensor.type || is_wide(run->r->types[i]))
        return error_set(err, TLM_ERR_FORMAT,
                         "tensor '%s': expected finite numbers, found an infinity or a NaN",
                         gguf_printable(run->r->in->tensors[i].name, name, sizeof name));
    return error_set(
        err, TLM_ERR_FORMAT,
        "tensor '%s': expected numbers from -65504 to 65504, which %s can hold, found a larger one or a NaN",
        gguf_printable(run->r->in->tensors[i].name, name, sizeof name), dtype_traits[run->r->types[i]].name);
}

static enum tlm_status run_windows(struct run *run, uint64_t total, struct tlm_error *err)
{
    uint64_t done = 0;
    for (int turn = 0;; turn ^= 1) {
        run->fill = &run->windows[turn];
        cut_pieces(run);
        if (!run->fill->count && !run->write) return TLM_OK;
        atomic_store(&run->next, 0);
        threads_run(run->r->threads, work, run);
        if (run->status) {
            if (err) *err = run->error;
            return run->status;
        }
        enum tlm_status status = refused(run, err);
        if (status) return status;
        drop_read(run, run->fill);
        done += numbers_of(run, run->fill);
        run->write = run->fill->count ? run->fill : NULL;
        if (run->r->progress && !run->r->progress(run->r->user, done, total))
            return error_set(err, TLM_ERR_ARGUMENT, "stopped");
    }
}

// ---- all of it ----------------------------------------------------------------------------------------

// A tensor of a type that GGUF lacks: its codes are streamed like any other's data.
static enum tlm_status open_composite(struct run *run, uint64_t i, struct tlm_error *err)
{
    const struct requantize *r = run->r;
    const struct gguf_tensor *t = &r->in->tensors[i];
    enum dtype type = r->types[i];
    if (!composite_is(type)) return TLM_OK;
    const void *blocks = r->ready ? r->ready[i] : NULL;
    if (!blocks && type == t->tensor.type && !is_scaled(r, i)) blocks = t->tensor.data;
    int64_t outliers = composite_outliers(type, &t->tensor, r->weights ? r->weights[i] : NULL, blocks);
    return composite_open(&run->composites[i], t->name, type, &t->tensor, outliers, err);
}

static enum tlm_status declare(struct run *run, struct tlm_error *err)
{
    const struct requantize *r = run->r;
    enum tlm_status status = composite_set_keys(run->out, r->in, r->types, err);
    for (uint64_t i = 0; i < r->in->tensor_count && !status; i++) {
        const struct gguf_tensor *t = &r->in->tensors[i];
        const struct composite *c = &run->composites[i];
        enum dtype type = r->types[i];
        TLM_ASSERT(type == t->tensor.type ||
                   (quant_types[t->tensor.type].dequantize && quant_types[type].quantize &&
                    t->tensor.ne[0] % dtype_traits[type].block_size == 0));
        char *name = strndup(t->name.data, t->name.length), shown[128];
        if (!name) return error_set(err, TLM_ERR_MEMORY, "no memory for the name of a tensor");
        if (strlen(name) != t->name.length)
            status = error_set(err, TLM_ERR_ARGUMENT, "tensor '%s': expected a name without a zero byte",
                               gguf_printable(t->name, shown, sizeof shown));
        if (!status) status = open_composite(run, i, err);
        struct tensor shape =
            tensor_shape(type, t->tensor.ne[0], t->tensor.ne[1], t->tensor.ne[2], t->tensor.ne[3]);
        if (!status) gguf_add_tensor(run->out, name, c->part_count ? &c->parts[0].tensor : &shape);
        free(name);
    }
    for (uint64_t i = 0; i < r->in->tensor_count && !status; i++)
        for (int k = 1; k < run->composites[i].part_count; k++)
            gguf_add_tensor(run->out, run->composites[i].parts[k].name, &run->composites[i].parts[k].tensor);
    return status;
}

// What belongs to the codes stands behind all tensors.
static enum tlm_status write_parts(struct run *run, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (uint64_t i = 0; i < run->r->in->tensor_count; i++) {
        struct composite *c = &run->composites[i];
        if (c->part_count) composite_finish(c);
        for (int k = 1; k < c->part_count && !status; k++)
            status =
                gguf_write_data(run->out, c->parts[k].tensor.data, tensor_bytes(&c->parts[k].tensor), err);
    }
    return status;
}

static enum tlm_status run_all(struct run *run, struct tlm_error *err)
{
    const struct requantize *r = run->r;
    size_t threads = (size_t)threads_count(r->threads), most_bytes = threads * THREAD_BYTES;
    uint64_t total = 0;
    for (uint64_t i = 0; i < r->in->tensor_count; i++) {
        const struct tensor *t = &r->in->tensors[i].tensor;
        size_t numbers = (size_t)(piece_rows(t) * t->ne[0]),
               bytes = dtype_row_bytes(r->types[i], (int64_t)numbers);
        if (numbers > run->piece_numbers) run->piece_numbers = numbers;
        if (composite_is(r->types[i]) && bytes > run->piece_bytes) run->piece_bytes = bytes;
        if (bytes > most_bytes) most_bytes = bytes;
        total += (uint64_t)tensor_elements(t);
    }
    run->window_bytes = most_bytes;
    run->windows[0].data = malloc(most_bytes);
    run->windows[1].data = malloc(most_bytes);
    run->numbers = calloc(run->piece_numbers ? threads * run->piece_numbers : 1, sizeof *run->numbers);
    run->blocks = malloc(threads * run->piece_bytes + 1);
    if (!run->windows[0].data || !run->windows[1].data || !run->numbers || !run->blocks)
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu numbers and twice %zu bytes",
                         threads * run->piece_numbers, most_bytes);
    enum tlm_status status = declare(run, err);
    if (!status) status = run_windows(run, total, err);
    return status ? status : write_parts(run, err);
}

enum tlm_status requantize_run(const struct requantize *r, struct gguf_writer *out, struct tlm_error *err)
{
    struct run *run = calloc(1, sizeof *run);
    struct composite *composites = calloc((size_t)r->in->tensor_count + 1, sizeof *composites);
    enum tlm_status status = TLM_ERR_MEMORY;
    if (run && composites) {
        run->r = r;
        run->out = out;
        run->composites = composites;
        atomic_init(&run->next, 0);
        atomic_init(&run->refused, UINT64_MAX);
        status = run_all(run, err);
        free(run->windows[0].data), free(run->windows[1].data), free(run->numbers), free(run->blocks);
    } else {
        error_set(err, TLM_ERR_MEMORY, "no memory to begin");
    }
    for (uint64_t i = 0; i < r->in->tensor_count && composites; i++) composite_close(&composites[i]);
    free(composites), free(run);
    return status;
}
