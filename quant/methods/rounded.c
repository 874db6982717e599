#include "quant/methods/rounded.h"

#include <stdatomic.h>

#include "quant/quant.h"

enum { PIECE_NUMBERS = 1 << 15 };

// ---- one matrix, by all threads -----------------------------------------------------------------------

// Pieces of some rows are rounded and read back: into `to`, or for the sum of squares that each changes by.
struct job {
    const struct tensor *from;
    enum dtype type;
    float *to;      // (numbers of the matrix), or NULL and
    double *errors; // (pieces)
    int64_t rows, piece_rows;
    float *numbers; // (threads, numbers of a piece) twice; only for errors
    uint8_t *bytes; // (threads, bytes of a piece)
    size_t piece_bytes;
    atomic_llong next; // piece
};

static int64_t pieces_of(const struct job *j)
{
    return (j->rows + j->piece_rows - 1) / j->piece_rows;
}

static void round_piece(struct job *j, int64_t piece, int thread)
{
    int64_t row = piece * j->piece_rows, n = j->piece_rows * j->from->ne[0];
    int64_t count = (j->rows - row < j->piece_rows ? j->rows - row : j->piece_rows) * j->from->ne[0];
    uint8_t *bytes = j->bytes + (size_t)thread * j->piece_bytes;
    float *x = j->to ? j->to + row * j->from->ne[0] : j->numbers + 2 * thread * n, *y = j->to ? x : x + n;
    quant_types[j->from->type].dequantize(x, tensor_row(j->from, row), count);
    quant_quantize_rows(j->type, bytes, x, count / j->from->ne[0], j->from->ne[0], NULL);
    quant_types[j->type].dequantize(y, bytes, count);
    double sum = 0;
    for (int64_t i = 0; i < count && j->errors; i++) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    if (j->errors) j->errors[piece] = sum;
}

static void round_pieces(void *user, int thread)
{
    struct job *j = user;
    for (int64_t piece; (piece = atomic_fetch_add(&j->next, 1)) < pieces_of(j);)
        round_piece(j, piece, thread);
}

static struct job job_of(const struct tensor *from, enum dtype type)
{
    TLM_ASSERT(from->ne[0] % dtype_traits[type].block_size == 0);
    int64_t rows = from->ne[0] < PIECE_NUMBERS ? PIECE_NUMBERS / from->ne[0] : 1;
    return (struct job){.from = from,
                        .type = type,
                        .rows = from->ne[1] * from->ne[2] * from->ne[3],
                        .piece_rows = rows,
                        .piece_bytes = (size_t)rows * dtype_row_bytes(type, from->ne[0])};
}

static enum tlm_status round_matrix(struct tensor *copy, const struct tensor *from, enum dtype type,
                                    struct threads *threads, struct tlm_error *err)
{
    struct job j = job_of(from, type);
    *copy = tensor_shape(DTYPE_F32, from->ne[0], from->ne[1], from->ne[2], from->ne[3]);
    copy->data = aligned_alloc(ARENA_ALIGN, align_up(tensor_bytes(copy), ARENA_ALIGN));
    j.to = copy->data;
    j.bytes = malloc((size_t)threads_count(threads) * j.piece_bytes);
    bool failed = !j.to || !j.bytes;
    if (!failed) threads_run(threads, round_pieces, &j);
    free(j.bytes);
    if (!failed) return TLM_OK;
    free(copy->data);
    return error_set(err, TLM_ERR_MEMORY, "no memory for a matrix of %zu bytes", tensor_bytes(copy));
}

enum tlm_status rounded_error(double *error, const struct tensor *t, enum dtype type, struct threads *threads,
                              struct tlm_error *err)
{
    struct job j = job_of(t, type);
    size_t count = (size_t)threads_count(threads), numbers = (size_t)(j.piece_rows * t->ne[0]);
    j.numbers = malloc(2 * count * numbers * sizeof *j.numbers);
    j.bytes = malloc(count * j.piece_bytes);
    j.errors = calloc((size_t)pieces_of(&j) + 1, sizeof *j.errors);
    bool failed = !j.numbers || !j.bytes || !j.errors;
    *error = 0;
    if (!failed) threads_run(threads, round_pieces, &j);
    for (int64_t i = 0; !failed && i < pieces_of(&j); i++) *error += j.errors[i];
    free(j.numbers), free(j.bytes), free(j.errors);
    return failed ? error_set(err, TLM_ERR_MEMORY, "no memory to round a matrix") : TLM_OK;
}

// ---- the model ----------------------------------------------------------------------------------------

struct apply {
    struct rounded *r;
    const enum dtype *types;
    struct threads *threads;
    struct tlm_error *err;
    enum tlm_status status;
};

static void round_weight(void *user, const struct weight_spec *spec, const char *name,
                         const struct tensor **slot)
{
    struct apply *a = user;
    struct rounded *r = a->r;
    struct tlm_model *m = r->model;
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
    if (a->status || !t || !weight_is_matrix(spec)) return;
    enum dtype type = a->types[t - m->gguf->tensors];
    if (type == t->tensor.type) return;
    struct rounded_weight *w = &r->weights[r->count];
    // The slot may hold a packed copy of what the file has.
    if ((a->status = round_matrix(&w->copy, &t->tensor, type, a->threads, a->err))) return;
    w->slot = slot;
    w->held = *slot;
    *slot = &w->copy;
    r->count++;
    if (slot == &m->weights.out || (slot == &m->weights.embed && !m->weights.out)) m->head.weight = &w->copy;
}

enum tlm_status rounded_apply(struct rounded *r, struct tlm_model *m, const enum dtype *types,
                              struct threads *threads, struct tlm_error *err)
{
    *r = (struct rounded){.model = m, .head = m->head.weight};
    r->weights = calloc((size_t)m->gguf->tensor_count + 1, sizeof *r->weights);
    if (!r->weights) return error_set(err, TLM_ERR_MEMORY, "no memory for the names of all matrices");
    struct apply a = {.r = r, .types = types, .threads = threads, .err = err};
    model_each_weight(m, round_weight, &a);
    if (a.status) rounded_undo(r);
    return a.status;
}

void rounded_undo(struct rounded *r)
{
    for (size_t i = 0; i < r->count; i++) {
        *r->weights[i].slot = r->weights[i].held;
        free(r->weights[i].copy.data);
    }
    if (r->model) r->model->head.weight = r->head;
    free(r->weights);
    *r = (struct rounded){0};
}
