// models/hf_transform.c -- the orders that Hugging Face keeps weights in, and GGUF's.
//
// Each transform is a list of moves between two places of the same numbers. The direction is the only thing that converting
// and exporting differ in, so one is the inverse of the other by construction. Numbers are moved as bytes.
#include <inttypes.h>

#include "models/hf_folder.h"
#include "quant/quant.h"

struct mover {
    uint8_t *folder, *gguf;
    size_t bytes;
    bool to_gguf;
};

// `count` numbers that lie side by side in both.
static void move_run(const struct mover *m, int64_t folder, int64_t gguf, int64_t count)
{
    uint8_t *a = m->folder + (size_t)folder * m->bytes, *b = m->gguf + (size_t)gguf * m->bytes;
    memcpy(m->to_gguf ? b : a, m->to_gguf ? a : b, (size_t)count * m->bytes);
}

static inline void move_one(const struct mover *m, int64_t folder, int64_t gguf, size_t bytes)
{
    uint8_t *a = m->folder + (size_t)folder * bytes, *b = m->gguf + (size_t)gguf * bytes;
    memcpy(m->to_gguf ? b : a, m->to_gguf ? a : b, bytes);
}

// gguf[i][j] is folder[j][i * step], `stride` numbers a row there; squares of 32 stay in the cache.
static inline void move_square(const struct mover *m, int64_t folder, int64_t stride, int64_t step,
                               int64_t gguf, int64_t rows, int64_t cols, size_t bytes)
{
    enum { SIDE = 32 };
    for (int64_t i0 = 0; i0 < rows; i0 += SIDE)
        for (int64_t j0 = 0; j0 < cols; j0 += SIDE)
            for (int64_t i = i0; i < rows && i < i0 + SIDE; i++)
                for (int64_t j = j0; j < cols && j < j0 + SIDE; j++)
                    move_one(m, folder + j * stride + i * step, gguf + i * cols + j, bytes);
}

static void move_transposed(const struct mover *m, int64_t folder, int64_t stride, int64_t step, int64_t gguf,
                            int64_t rows, int64_t cols)
{
    switch (m->bytes) {
    case 2: move_square(m, folder, stride, step, gguf, rows, cols, 2); break;
    case 4: move_square(m, folder, stride, step, gguf, rows, cols, 4); break;
    default: move_square(m, folder, stride, step, gguf, rows, cols, m->bytes); break;
    }
}

// Transformers turns pair (i, i + pairs) of a head, GGUF's llama (2i, 2i + 1). What is not turned stays.
static void move_rope(const struct mover *m, int64_t rows, int64_t cols, int64_t heads, int64_t pairs)
{
    int64_t d = rows / heads;
    for (int64_t h = 0; h < heads; h++) {
        for (int64_t i = 0; i < pairs; i++) {
            move_run(m, (h * d + i) * cols, (h * d + 2 * i) * cols, cols);
            move_run(m, (h * d + i + pairs) * cols, (h * d + 2 * i + 1) * cols, cols);
        }
        move_run(m, (h * d + 2 * pairs) * cols, (h * d + 2 * pairs) * cols, (d - 2 * pairs) * cols);
    }
}

static void move_qkv(const struct mover *m, int64_t rows, int64_t cols, int64_t heads)
{
    int64_t d = rows / 3 / heads;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t part = 0; part < 3; part++)
            move_run(m, (h * 3 + part) * d * cols, (part * heads + h) * d * cols, d * cols);
}

static void move_latent(const struct mover *m, const struct hparams *h, int64_t cols, bool keys)
{
    int64_t per_head = h->nope_dim + h->value_dim;
    for (int64_t i = 0; i < h->heads; i++) {
        if (keys)
            move_transposed(m, i * per_head * cols, cols, 1, i * h->nope_dim * cols, cols, h->nope_dim);
        else
            move_run(m, (i * per_head + h->nope_dim) * cols, i * h->value_dim * cols, h->value_dim * cols);
    }
}

// Of fused outputs (in, 2 F): every second one. A bias (E, 2 F) has a row an expert.
static void move_every_second(const struct mover *m, const struct hf_matrix *x, bool odd, bool bias)
{
    if (!bias) {
        move_transposed(m, odd, x->cols, 2, 0, x->cols / 2, x->rows);
        return;
    }
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->cols / 2; j++)
            move_one(m, i * x->cols + 2 * j + odd, i * (x->cols / 2) + j, m->bytes);
}

void hf_transform_move(const struct hf_matrix *x, void *folder, void *gguf, size_t bytes, bool to_gguf)
{
    struct mover m = {folder, gguf, bytes, to_gguf};
    const struct hparams *h = x->hparams;
    switch (x->transform) {
    case TRANSFORM_NONE:
    case TRANSFORM_PLUS_ONE: move_run(&m, x->row_first * x->cols, 0, x->row_count * x->cols); break;
    case TRANSFORM_ROPE_Q: move_rope(&m, x->rows, x->cols, h->heads, h->rope.pairs); break;
    case TRANSFORM_ROPE_K: move_rope(&m, x->rows, x->cols, h->kv_heads, h->rope.pairs); break;
    case TRANSFORM_TRANSPOSE: move_transposed(&m, 0, x->cols, 1, 0, x->cols, x->rows); break;
    case TRANSFORM_QKV_BY_HEAD: move_qkv(&m, x->rows, x->cols, h->heads); break;
    case TRANSFORM_LATENT_K: move_latent(&m, h, x->cols, true); break;
    case TRANSFORM_LATENT_V: move_latent(&m, h, x->cols, false); break;
    case TRANSFORM_EXPERT_EVEN: move_every_second(&m, x, false, x->bias); break;
    case TRANSFORM_EXPERT_ODD: move_every_second(&m, x, true, x->bias); break;
    case TRANSFORM_EXPERT_PLAIN:
        if (x->bias)
            move_run(&m, 0, 0, x->rows * x->cols);
        else
            move_transposed(&m, 0, x->cols, 1, 0, x->cols, x->rows);
        break;
    }
}

// ---- shapes -------------------------------------------------------------------------------------------

static enum tlm_status need(bool ok, const char *name, const char *expected, int dims, const int64_t *shape,
                            struct tlm_error *err)
{
    if (ok) return TLM_OK;
    char sides[96] = "";
    size_t used = 0;
    for (int i = 0; i < dims && used < sizeof sides - 24; i++)
        used += (size_t)snprintf(sides + used, sizeof sides - used, i ? " x %" PRId64 : "%" PRId64, shape[i]);
    return error_set(err, TLM_ERR_FORMAT, "tensor '%.100s': expected %s, found shape %s", name, expected,
                     sides);
}

static bool splits(int64_t rows, int64_t heads, int64_t least)
{
    return heads > 0 && rows % heads == 0 && rows / heads >= least;
}

enum tlm_status hf_transform_shape(enum transform transform, const struct hparams *h, const char *name,
                                   int dims, const int64_t *shape, int64_t ne[TENSOR_MAX_DIMS],
                                   struct tlm_error *err)
{
    enum tlm_status s = need(dims >= 1 && dims <= 3, name, "1 to 3 sides", dims, shape, err);
    for (int i = 0; i < dims && !s; i++)
        s = need(shape[i] > 0, name, "sides of at least 1", dims, shape, err);
    if (s) return s;
    for (int i = 0; i < TENSOR_MAX_DIMS; i++) ne[i] = i < dims ? shape[dims - 1 - i] : 1;
    int64_t rows = shape[0], cols = dims > 1 ? shape[1] : 1, per_head = h->nope_dim + h->value_dim;
    bool flat = dims <= 2;
    switch (transform) {
    case TRANSFORM_NONE:
    case TRANSFORM_PLUS_ONE: return TLM_OK;
    case TRANSFORM_ROPE_Q:
    case TRANSFORM_ROPE_K:
        return need(
            flat && splits(rows, transform == TRANSFORM_ROPE_Q ? h->heads : h->kv_heads, 2 * h->rope.pairs),
            name, "rows for all heads, each as many as are rotated or more", dims, shape, err);
    case TRANSFORM_TRANSPOSE:
        if (dims == 2) ne[0] = rows, ne[1] = cols;
        return need(flat, name, "a matrix", dims, shape, err);
    case TRANSFORM_QKV_BY_HEAD:
        return need(flat && rows % 3 == 0 && splits(rows / 3, h->heads, 1), name,
                    "rows for queries, keys and values of all heads", dims, shape, err);
    case TRANSFORM_LATENT_K:
    case TRANSFORM_LATENT_V:
        ne[2] = h->heads;
        ne[0] = transform == TRANSFORM_LATENT_K ? h->nope_dim : cols;
        ne[1] = transform == TRANSFORM_LATENT_K ? cols : h->value_dim;
        return need(dims == 2 && h->nope_dim > 0 && h->value_dim > 0 && rows == h->heads * per_head, name,
                    "rows for keys and values of all heads", dims, shape, err);
    case TRANSFORM_EXPERT_EVEN:
    case TRANSFORM_EXPERT_ODD:
        ne[0] = dims == 3 ? shape[1] : shape[dims - 1] / 2;
        ne[1] = dims == 3 ? shape[2] / 2 : shape[0];
        ne[2] = dims == 3 ? shape[0] : 1;
        return need(dims >= 2 && shape[dims - 1] % 2 == 0, name, "gate and up of all experts", dims, shape,
                    err);
    case TRANSFORM_EXPERT_PLAIN:
        if (dims == 3) ne[0] = shape[1], ne[1] = shape[2];
        return need(dims >= 2, name, "outputs of all experts", dims, shape, err);
    }
    return TLM_OK;
}

int hf_transform_folder_shape(enum transform transform, const struct hparams *h, int dims,
                              const int64_t ne[TENSOR_MAX_DIMS], int64_t shape[SAFETENSORS_MAX_DIMS])
{
    for (int i = 0; i < dims; i++) shape[i] = ne[dims - 1 - i];
    switch (transform) {
    case TRANSFORM_NONE:
    case TRANSFORM_PLUS_ONE:
    case TRANSFORM_ROPE_Q:
    case TRANSFORM_ROPE_K:
    case TRANSFORM_QKV_BY_HEAD: return dims;
    case TRANSFORM_TRANSPOSE:
        if (dims == 2) shape[0] = ne[0], shape[1] = ne[1];
        return dims;
    case TRANSFORM_LATENT_K:
    case TRANSFORM_LATENT_V:
        shape[0] = h->heads * (h->nope_dim + h->value_dim);
        shape[1] = transform == TRANSFORM_LATENT_K ? ne[1] : ne[0];
        return 2;
    case TRANSFORM_EXPERT_EVEN:
    case TRANSFORM_EXPERT_ODD:
    case TRANSFORM_EXPERT_PLAIN:
        if (dims == 3) shape[1] = ne[0], shape[2] = ne[1];
        if (transform != TRANSFORM_EXPERT_PLAIN) shape[dims - 1] *= 2;
        return dims;
    }
    return dims;
}

// ---- MXFP4 --------------------------------------------------------------------------------------------

// The folder's block holds numbers 2j and 2j + 1 in byte j, GGUF's j and j + 16; the scale stands in front.
static void move_block(struct block_mxfp4 *out, const uint8_t *in, uint8_t scale)
{
    uint8_t code[32];
    for (int j = 0; j < 16; j++) {
        code[2 * j] = in[j] & 15;
        code[2 * j + 1] = in[j] >> 4;
    }
    out->e = scale;
    for (int j = 0; j < 16; j++) out->qs[j] = (uint8_t)(code[j] | code[j + 16] << 4);
}

void hf_transform_mxfp4(enum transform transform, const uint8_t *blocks, const uint8_t *scales,
                        int64_t outputs, int64_t row_blocks, uint8_t *out)
{
    struct block_mxfp4 *to = (struct block_mxfp4 *)out;
    int64_t step = transform == TRANSFORM_EXPERT_PLAIN ? 1 : 2, first = transform == TRANSFORM_EXPERT_ODD;
    for (int64_t i = first; i < outputs; i += step)
        for (int64_t b = 0; b < row_blocks; b++) {
            int64_t at = i * row_blocks + b;
            move_block(to++, blocks + 16 * at, scales[at]);
        }
}
