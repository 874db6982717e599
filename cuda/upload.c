#include "cuda/upload.h"

#include <stdlib.h>

#include "cuda/planes.h"
#include "quant/quant.h"
#include "quant/stand_in.h"

enum { BUFFER = 16 << 20 };

enum tlm_status upload_open(struct upload_ring *r, struct tlm_error *err)
{
    *r = (struct upload_ring){0};
    enum tlm_status s =
        arena_init(&r->memory, (size_t)UPLOAD_BUFFERS * BUFFER, "weights on their way to the device", err);
    if (s) return s;
    r->pinned = cuda_pin(r->memory.base, r->memory.size);
    r->stream = cuda_stream_open();
    for (int i = 0; i < UPLOAD_BUFFERS; i++)
        if (!(r->free[i] = cuda_event_open()))
            return error_set(err, TLM_ERR_MEMORY, "cuda: no event for copies");
    return TLM_OK;
}

void upload_close(struct upload_ring *r)
{
    if (!r->memory.base) return;
    for (int i = 0; i < UPLOAD_BUFFERS; i++) cuda_event_close(r->free[i]);
    cuda_stream_close(r->stream);
    if (r->pinned) cuda_unpin(r->memory.base);
    arena_free(&r->memory);
}

static enum tlm_status check_row(size_t bytes, struct tlm_error *err)
{
    return bytes <= BUFFER
               ? TLM_OK
               : error_set(err, TLM_ERR_MEMORY, "cuda: weights: expected rows of at most %d bytes, found %zu",
                           BUFFER, bytes);
}

// Rows first .. first + count of the planes, which stand in `buffer`: codes, then scales.
static void send(struct upload_ring *r, const struct cuda_matrix *to, const char *buffer, int64_t first,
                 int64_t count)
{
    const size_t codes = (size_t)count * to->code_stride, scales = (size_t)count * to->scale_stride;
    cuda_copy_in(r->stream, (char *)to->codes + (size_t)first * to->code_stride, buffer, codes);
    if (scales)
        cuda_copy_in(r->stream, (char *)to->scales + (size_t)first * to->scale_stride, buffer + codes,
                     scales);
}

enum tlm_status upload_weight(struct upload_ring *r, const struct tensor *t, void *device,
                              struct tlm_error *err)
{
    const struct cuda_matrix to = planes_matrix(t, device, 0);
    const int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    const size_t row_bytes = to.code_stride + to.scale_stride;
    enum tlm_status s = check_row(row_bytes, err);
    if (s) return s;
    const int64_t most = (int64_t)(BUFFER / row_bytes);
    for (int64_t first = 0, turn = 0; first < rows; first += most, turn = (turn + 1) % UPLOAD_BUFFERS) {
        const int64_t count = rows - first < most ? rows - first : most;
        char *buffer = r->memory.base + turn * BUFFER;
        cuda_event_wait(r->free[turn]);
        planes_put_rows(buffer, buffer + (size_t)count * to.code_stride, t, first, count);
        send(r, &to, buffer, first, count);
        cuda_event_record(r->free[turn], r->stream);
    }
    return cuda_sync(r->stream, err);
}

// Copies the first `had` rows of `stride` bytes behind themselves until there are `rows`.
static void repeat(struct cuda_stream *s, char *plane, size_t stride, int64_t had, int64_t rows)
{
    for (int64_t n; had < rows; had += n) {
        n = had < rows - had ? had : rows - had;
        cuda_copy(s, plane + (size_t)had * stride, plane, (size_t)n * stride);
    }
}

enum tlm_status upload_stand_in(struct upload_ring *r, const struct tensor *t, void *device,
                                struct tlm_error *err)
{
    const struct cuda_matrix to = planes_matrix(t, device, 0);
    const int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    enum tlm_status s = check_row(to.code_stride + to.scale_stride, err);
    if (s) return s;
    if (!quant_types[t->type].quantize)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: a type that is only read",
                         dtype_traits[t->type].name);
    int64_t drawn = BUFFER / (int64_t)(to.code_stride + to.scale_stride);
    if (drawn > STAND_IN_ROWS) drawn = STAND_IN_ROWS;
    if (drawn > rows) drawn = rows;
    struct tensor some = tensor_shape(t->type, t->ne[0], drawn, 1, 1);
    float *row = malloc((size_t)t->ne[0] * sizeof *row);
    some.data = malloc(tensor_bytes(&some));
    if (row && some.data) {
        char *buffer = r->memory.base;
        stand_in_draw(&some, row);
        planes_put_rows(buffer, buffer + (size_t)drawn * to.code_stride, &some, 0, drawn);
        send(r, &to, buffer, 0, drawn);
        repeat(r->stream, (char *)to.codes, to.code_stride, drawn, rows);
        if (to.scales) repeat(r->stream, (char *)to.scales, to.scale_stride, drawn, rows);
        s = cuda_sync(r->stream, err);
    } else {
        s = error_set(err, TLM_ERR_MEMORY, "cuda: no memory for rows of %s", dtype_traits[t->type].name);
    }
    free(row);
    free(some.data);
    return s;
}
