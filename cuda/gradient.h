// cuda/gradient.h -- the launchers of training's kernels, in the manner of cuda/kernels.h: what ops/gradient.h says of an op holds here.
//
// Everything is added up in one order, whatever the device does first: by one thread, by a fixed tree, or in parts that a second launch
// adds up. There are no atomics on floats. So the same step gives the same bits, and a run that goes on is the run that never stopped.
#ifndef CUDA_GRADIENT_H
#define CUDA_GRADIENT_H

#include "cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// What a result is added to: numbers of its shape, which may stand in its own place, or NULL. With `resumed` (on the device) they count
// only where that is not 0.
struct cuda_base {
    const float *from;
    const int32_t *resumed;
};

// ---- products (cuda/matmul_tile.cu, cuda/matmul_mma.cu, cuda/matmul_dw_wgmma.cu): y (m, n) = base + x (m, k) w (k, n)
//
// Types of x and w: both F32, F32 and F16, both BF16.
struct cuda_product {
    float *y;
    const void *x, *w;
    enum dtype x_type, w_type;
    int64_t x_stride, w_stride; // elements
    struct cuda_rows m, k;
    int64_t n;
    struct cuda_base base;
    bool
        turned; // x is (k, m): the gradient of a weight sums over rows of the step, which both have side by side
    float *parts; // scratch: cuda_product_parts() results, where these are more than one
    // Several products at once; count 0: one. Numbers from one to the next, and from row to row of y; `first` (count + 1, of the device):
    // where the rows of x and y begin that are a product's, or with over_k its steps of k (rows of x and w), all of them side by side.
    struct cuda_product_groups {
        int64_t count;
        const int32_t *first; // NULL: each has all
        bool over_k;
        int64_t x_step, w_step, y_step, y_stride;
    } groups;
};
// A weight's gradient has few outputs and all rows of the step between them: k is cut into parts, so that there are blocks for the whole
// device, and the parts' sums are added in order. How many is a function of the shapes (of m.most, n and k.most) alone.
static inline int64_t cuda_product_parts(enum dtype w_type, int64_t m, int64_t n, int64_t k)
{
    enum { BLOCK = 128, BLOCKS = 256, DEPTH_LEAST = 512 };
    const int64_t blocks = ((m + BLOCK - 1) / BLOCK) * ((n + BLOCK - 1) / BLOCK);
    const int64_t wanted = blocks ? BLOCKS / blocks : 1, most = k / DEPTH_LEAST;
    const int64_t parts = wanted < most ? wanted : most;
    return w_type == DTYPE_BF16 && parts > 1 ? parts : 1;
}
void cuda_matmul_nn(struct cuda_stream *s, const struct cuda_product *p);
// to (cols, rows.most); columns behind the rows of the step become 0 (cuda/rows_dx.cu)
void cuda_transpose(struct cuda_stream *s, float *to, const float *x, struct cuda_rows rows, int64_t cols);
// to (rows, stride) of BF16; numbers behind cols become 0: rows on boundaries of 16 bytes for the tiles of products (cuda/convert.cu)
void cuda_narrow(struct cuda_stream *s, void *to, int64_t stride, const float *x, struct cuda_rows rows,
                 int64_t cols);

// ---- rows (cuda/rows_dx.cu)
// y (rows) = base + dy's `count` rows from `begin` on
void cuda_rows_dx(struct cuda_stream *s, float *y, const float *dy, struct cuda_base base,
                  struct cuda_rows rows, int64_t begin, int64_t count, int64_t cols);
// to (cols) = base + the sum of x's rows, F32, F16 or BF16, `stride` numbers apart; a row stands for `per` rows of the step
void cuda_sum_rows(struct cuda_stream *s, float *to, const void *x, enum dtype type, struct cuda_base base,
                   struct cuda_rows rows, int64_t per, int64_t cols, int64_t stride);
// to (vocab, cols) = base + the rows of dy at their tokens, in the order of rows: the CPU's bits
void cuda_embed_dw(struct cuda_stream *s, float *to, const float *dy, const int32_t *tokens,
                   struct cuda_base base, struct cuda_rows rows, int64_t vocab, int64_t cols);
// y (rows, heads, part) = base + dy (rows, heads, count) at `offset` of each part
void cuda_slice_dx(struct cuda_stream *s, float *y, const float *dy, struct cuda_base base,
                   struct cuda_rows rows, int64_t part, int32_t heads, int32_t offset, int32_t count);

// ---- number by number (cuda/elementwise.cu)
// type of dx: F32, F16 or BF16
void cuda_activation_dx(struct cuda_stream *s, void *dx, enum dtype type, const float *dy, const float *x,
                        struct cuda_rows rows, int64_t cols, enum activation kind);
// dx (rows, 2 cols): dgate, then dup
void cuda_glu_dx(struct cuda_stream *s, float *dx, const float *dy, const float *gate, const float *up,
                 struct cuda_rows rows, int64_t cols, enum activation kind);
void cuda_softcap_dx(struct cuda_stream *s, float *dx, const float *dy, const float *y, struct cuda_rows rows,
                     int64_t cols, double cap);
// seed: two words of the device (cuda/dropout.cu)
void cuda_dropout(struct cuda_stream *s, float *y, const float *x, const uint32_t *seed,
                  struct cuda_rows rows, int64_t cols, uint64_t stream, double rate);

// ---- the loss beside a teacher's logits (cuda/distill.cu)
struct cuda_distill {
    double *loss;             // (rows)
    void *dx;                 // (rows, dx_stride), may be x where that is F32
    enum dtype dx_type;       // F32 or BF16
    int64_t dx_stride;        // numbers; those behind vocab become 0
    const float *x, *teacher; // (rows, vocab)
    const int32_t *targets;   // (rows); below 0: no loss, no gradient
    struct cuda_rows rows;
    int64_t vocab;
    double share;         // of the loss that is the divergence
    const double *factor; // of the device: dx is times this
};
void cuda_distill(struct cuda_stream *s, const struct cuda_distill *a);
// cuda_cross_entropy() with a gradient as cuda_distill() leaves it; `teacher` and `share` are not read (cuda/cross_entropy.cu).
void cuda_cross_entropy_dx(struct cuda_stream *s, const struct cuda_distill *a);

// ---- norms (cuda/norm_dx.cu)
struct cuda_norm_dx {
    float *dx;
    float
        *parts; // (rows / GRADIENT_ROWS rounded up, weights * group, or twice as many: dw, then db), or NULL
    float *stats; // scratch: two numbers a row and group
    const float *dy, *x, *w;
    struct cuda_base base; // of dx
    struct cuda_rows rows;
    int64_t groups, group, weights; // of a row; columns; groups that have weights of their own
    double eps;
    bool centred, shifted; // LayerNorm; db is wanted
};
void cuda_norm_dx(struct cuda_stream *s, const struct cuda_norm_dx *n);

// ---- attention among the rows of a step (cuda/attention_rows.cu, cuda/attention_dx.cu)
//
// Documents stand one behind the other: row r sees the rows r - pos[r] .. r, of these the last `window`.
struct cuda_attention_rows {
    float *y;   // (rows, heads * value_dim)
    float *lse; // (rows, heads) or NULL
    const void *q, *k,
        *v;             // (rows, heads * head_dim), (rows, kv_heads * head_dim), (rows, kv_heads * value_dim)
    int64_t v_stride;   // numbers from row to row of v: latent attention has its values in front of its keys
    enum dtype type;    // of all three: F32 or F16
    const int32_t *pos; // (rows)
    const float *sinks, *slopes; // (heads) or NULL
    struct cuda_rows rows;
    int32_t heads, kv_heads, head_dim, value_dim, window;
    float scale, softcap;
};
enum {
    CUDA_HEAD_MAX = 576
}; // numbers of a key here: latent attention's have those of a value, and of its rotation
void cuda_attention_rows(struct cuda_stream *s, const struct cuda_attention_rows *a);

struct cuda_attention_dx {
    struct cuda_attention_rows of; // y and lse are read
    float *dq, *dk, *dv;           // row r of each at + r * stride
    int64_t stride;
    float *dsinks; // (rows, heads): a row's part, or NULL
    // Scratch, which cuda_attention_dx_place() parts: (rows, heads) each: y dy, and the power of two below the largest of dy; dy / unit in
    // F16; and for each head and row side by side lse in units of log2, delta / unit, log2 unit, and the first row seen, as its bits.
    float *delta, *unit, *stats;
    void *rounded;
    int64_t padded; // rows of a head in `stats`
    const float *dy;
};
// Rows as tiles of 128 have them
static inline int64_t cuda_padded_rows(int64_t rows)
{
    return (rows + 127) / 128 * 128;
}
static inline size_t cuda_attention_dx_scratch(int64_t rows, int32_t heads, int32_t value_dim)
{
    return (size_t)heads *
           (size_t)(cuda_padded_rows(rows) * (4 + 2) * (int64_t)sizeof(float) + rows * value_dim * 2);
}
static inline void cuda_attention_dx_place(struct cuda_attention_dx *x, void *scratch)
{
    x->padded = cuda_padded_rows(x->of.rows.most);
    const int64_t each = x->padded * x->of.heads;
    x->stats = (float *)scratch;
    x->delta = x->stats + 4 * each, x->unit = x->delta + each;
    x->rounded = x->unit + each;
}
void cuda_attention_dx(struct cuda_stream *s, const struct cuda_attention_dx *a);

#ifdef __cplusplus
}
#endif

#endif
