// ops/ops.h -- the kernels: what each computes, its arguments, and the table of forms that a tier uses.
//
// Kernels know nothing of threads, graphs or files: flat pointers and sizes. The graph (ops/nodes.c) splits the rows.
// Argument order: outputs, saved statistics, inputs, weights, sizes, constants. Saved statistics may be NULL.
// One stem an op: ops/rmsnorm.c is the reference (forward; the backward form joins it with training),
// ops/rmsnorm_avx2.c and ops/rmsnorm_avx512.c exist where they measure faster. ops/dispatch.c fills the table.
//
// Shapes in comments: T rows (tokens), D columns, N outputs and K inputs of a matrix, H heads, G key-value heads,
// d head size, F feed-forward size, V vocabulary. Activations are rows of `real` (f32), side by side.
//
// ROW INDEPENDENCE: on one tier the bits of an output row depend on its own inputs alone, never on how many rows are
// computed together, in which order, or by how many threads. So each kernel has ONE order of summation:
//   matmul     y[t][n]: one chain of fused multiply-adds over k = 0, 1, 2 ... starting from 0 (bf16: over pairs of k)
//   attention  keys in tiles of 64 counted from position 0, tiles in order, one running maximum and sum a row and head
//   norms      a fixed number of partial sums, summed in a fixed tree
//
// References are written over `real` and built twice: for float (names end in _ref), strict floating point, the fallback
// on any machine; and with REAL_DOUBLE for double (_f64), the oracle of the fast forms. The same goes for all of ops/ that
// is not an ISA file, so a whole model also runs in double (--isa f64).
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include "core/cpu.h"
#include "core/tensor.h"
#include "ops/update.h"

#ifdef REAL_DOUBLE
typedef double real;
#define DTYPE_REAL DTYPE_F64
#define REF(name)  name##_f64
#else
typedef float real;
#define DTYPE_REAL DTYPE_F32
#define REF(name)  name##_ref
#endif

// ---- matmul: y[t][n] = sum over k of x[t][k] * w[n][k] ------------------------------------------------
//
// y: (T, N) real, row t at y + t * y_stride; x: (T, K) of the kernel's x_type, row t at x + t * x_stride elements;
// w: (N, K) of w_type, row n at w + n * w_stride bytes. Any N, K, T >= 1, any alignment.
// Computes outputs n_begin <= n < n_end of all T rows; rows 0 .. n_end of w must be there, as a short range may begin
// its vectors before n_begin. scratch: matmul_kernel.scratch bytes, aligned to 64.
struct matmul_args {
    void *y;
    size_t y_stride; // elements
    const void *x;
    size_t x_stride; // elements
    const void *w;
    enum dtype w_type;
    size_t w_stride; // bytes
    int64_t n_begin, n_end, t_count, k_count;
    bool add; // of the nn form: y += instead of y =
    void *scratch;
};
typedef void matmul_fwd_fn(const struct matmul_args *a);
// The nn form: y[t][n] = sum over k of x[t][k] * w[k][n], w (K, N), row k at w + k * w_stride. Both gradients of a product are of this form:
// dx = dy w and dw = dy^T x. One chain of fused multiply-adds over k, from 0 or from y.

struct matmul_kernel {
    matmul_fwd_fn *fwd; // NULL: no kernel for this weight type
    enum dtype x_type;  // DTYPE_REAL, or the type that the activations must be converted to first
    int64_t unit;       // outputs a call should be a multiple of (all but the last)
    size_t scratch;     // bytes a thread
    bool
        packed; // fwd reads groups of 16 rows (ops/packed.h), w_stride bytes apart; n_begin is a multiple of 16
    bool
        dequantize; // fwd takes rows of `real`: the caller turns `unit` rows at a time into them (ops/nodes.c)
};

// to[c][r] = from[r][c]: (cols, rows) of `to`'s type, row c at to + c * to_stride, of (rows, cols) real, row r at from + r * from_stride elements.
// Strides of `to` in elements.
typedef void transpose_fwd_fn(void *to, size_t to_stride, enum dtype type, const real *from,
                              size_t from_stride, int64_t rows, int64_t cols);

// Bytes a thread of the AVX forms: a panel of 64 rows and 1024 steps of k (ops/matmul_tile.h), or one of codes, 32 rows and 8192
// numbers, and sums of the columns (ops/matmul_int8_run.h).
enum { MATMUL_SCRATCH = 896 * 1024 };

// ---- paged keys and values ----------------------------------------------------------------------------

enum { KV_BLOCK = 16 };       // tokens a block of the cache
enum { ATTENTION_TILE = 64 }; // keys a tile of attention

// One layer's keys or values: the 16 rows of d numbers of block b[j / KV_BLOCK] of a sequence with block table b and of
// head g begin at data + b[j / KV_BLOCK] * block_stride + g * head_stride. In KV_ROWS the row of key j is the one at
// (j % KV_BLOCK) * token_stride among them; the other layouts, made for the kernels, are in ops/paged.h.
enum kv_layout { KV_ROWS, KV_KEYS, KV_VALUES };
struct paged_kv {
    char *data;
    enum dtype type; // F32, F16, BF16, Q8_0, Q4_0 (F64 in the double build)
    enum kv_layout layout;
    size_t block_stride, head_stride, token_stride; // bytes
    const struct paged_share *share; // of heads in several places (ops/paged.h); NULL: data has them all
};

// ---- attention: y = softmax(scale * q k^T + mask) v, for one group of query heads that share a key-value head
//
// Rows are consecutive rows of one sequence; row r sees the keys j with pos[r] - window < j <= pos[r] (window 0: all).
// v may be k itself, its rows then being the first value_dim numbers of the keys (multi-head latent attention).
// Rows of several sequences share the block table of a call where their tables begin alike and key_end says how far.
// q: (rows, H*d) real and y: (rows, H*d_v) real, row r at q + r * q_stride; heads head_begin .. head_begin + head_count of
// them use key-value head `kv_head`. lse: (rows, H) real, log-sum-exp, or NULL.
struct attention_args {
    void *y;
    void *lse;
    const void *q;
    struct paged_kv k, v;
    const int32_t *blocks;                 // the sequence's block table
    const int32_t *pos;                    // (rows) position of each row
    size_t y_stride, q_stride, lse_stride; // elements
    int64_t rows;
    int32_t head_begin, head_count, kv_head;
    int32_t head_dim, value_dim;
    int32_t window;
    float scale;
    float softcap; // 0: none; else scores become softcap * tanh(score / softcap) (Gemma 2, arXiv 2408.00118)
    const void
        *sinks; // (H) real or NULL: a logit a head that takes part in the softmax and has no value (gpt-oss)
    const void *
        slopes; // (H) real or NULL: slopes[h] * (j - pos[r]) joins the score of key j (ALiBi, arXiv 2108.12409)
    // What a call has taken in when it comes to a key, multiples of ATTENTION_TILE, is its state, from which another call goes on
    // with the same operations in the same order, so to the same bits. NULL: from the first key to y and lse.
    void *
        state; // (rows, H) states of attention_state() reals, aligned to 64, row r at state + r * state_stride
    size_t state_stride; // elements
    int64_t key_begin;   // keys in front of it are in the state; 0: the state is begun
    int64_t
        key_end; // 0: all further keys are taken, y and lse written; else `state` takes those in front of it
    void *scratch; // attention_scratch_fn() bytes, aligned to 64
};
typedef void attention_fwd_fn(const struct attention_args *a);
// Reals of a state: the weighted values, filled up to 16; 16 partial sums; the maximum, filled up to 16.
static inline int64_t attention_state(int32_t value_dim)
{
    return (value_dim + 15) / 16 * 16 + 32;
}
typedef size_t attention_scratch_fn(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim);

// ---- its gradient: a sequence of rows and a group of query heads that share a key-value head
//
// With p_j = exp(s_j - lse), dp_j = dy . v_j, e = dy . y and ds_j = p_j (dp_j - e), times 1 - (s_j / cap)^2 under a cap:
//
//     dq = scale sum_j ds_j k_j,    dk_j = scale sum_i ds_ij q_i,    dv_j = sum_i p_ij dy_i
//
// sums over the group's heads where they meet. Sinks get -sum_i exp(sink - lse_i) e_i. Dao et al., arXiv 2205.14135, algorithm 4.
// All arrays are dense: row r of the sequence at base + r * stride, and head h's numbers at h * d of it. The rows' keys are those of
// the sequence itself: row r sees the keys j with r - window < j <= r.
struct attention_dx_args {
    void *dq, *dk, *dv; // (rows, H*d), (rows, G*d), (rows, G*d_v), set; row r at + r * dx_stride
    void *dsinks;       // (H) added to, or NULL
    const void *q, *k, *v, *y, *dy, *lse;                                 // lse: (rows, H)
    const void *sinks, *slopes;                                           // (H) or NULL
    size_t dx_stride, q_stride, k_stride, v_stride, y_stride, lse_stride; // elements; y_stride is dy's too
    int64_t rows;
    int32_t head_begin, head_count, kv_head, head_dim, value_dim, window;
    float scale, softcap;
    void *scratch;
};
typedef void attention_dx_fn(const struct attention_dx_args *a);
typedef size_t attention_dx_scratch_fn(int64_t rows, int32_t head_count, int32_t head_dim, int32_t value_dim);

// ---- row-wise kernels; rows of `cols` numbers side by side; y may be x, gate or a ---------------------

// y = x * w / sqrt(mean(x^2) + eps). rstd: (rows) or NULL. Zhang and Sennrich, arXiv 1910.07467.
typedef void rmsnorm_fwd_fn(real *y, real *rstd, const real *x, const real *w, int64_t rows, int64_t cols,
                            double eps);
// y = (x - mean) / sqrt(variance + eps) * w + b. mean, rstd: (rows) or NULL; b may be NULL. Ba et al., arXiv 1607.06450.
typedef void layernorm_fwd_fn(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b,
                              int64_t rows, int64_t cols, double eps);
enum activation {
    ACT_SILU,
    ACT_GELU,      // by erf
    ACT_GELU_TANH, // its approximation by tanh
    ACT_RELU,
    ACT_RELU_SQUARED,
    ACT_SWIGLU_CLAMPED, // gated alone: gpt-oss
};
#define GELU_SCALE   0.79788456080286535588 // sqrt(2 / pi)
#define GELU_CUBE    0.044715
#define SWIGLU_ALPHA 1.702 // of gpt-oss
#define SWIGLU_LIMIT 7
// y = act(x)
typedef void activation_fwd_fn(real *y, const real *x, int64_t count, enum activation kind);
// y = act(gate) * up. Shazeer, arXiv 2002.05202.
typedef void glu_fwd_fn(real *y, const real *gate, const real *up, int64_t count, enum activation kind);
// y = cap * tanh(x / cap)
typedef void softcap_fwd_fn(real *y, const real *x, int64_t count, double cap);
// y = x * factor
typedef void scale_fwd_fn(real *y, const real *x, int64_t count, double factor);
// y: each `block` (a power of two) numbers of x times the Hadamard matrix / sqrt(block), which is its own inverse
typedef void hadamard_fwd_fn(real *y, const real *x, int64_t count, int64_t block);
// y += x * weight
typedef void add_scaled_fwd_fn(real *y, const real *x, real weight, int64_t count);
// y = a + b
typedef void add_fwd_fn(real *y, const real *a, const real *b, int64_t count);
// y[r][c] = x[r][c] + b[c]
typedef void bias_fwd_fn(real *y, const real *x, const real *b, int64_t rows, int64_t cols);

// ---- gradients of the row-wise kernels; `add`: dx += instead of dx =

// With n = x r, r = 1 / sqrt(mean(x^2) + eps), g = dy w: dx = r (g - n mean(g n)), dw += sum over rows of dy n. dw may be NULL.
typedef void rmsnorm_dx_fn(real *dx, real *dw, const real *dy, const real *x, const real *w, int64_t rows,
                           int64_t cols, double eps, bool add);
// With n = (x - m) r: dx = r (g - mean(g) - n mean(g n)), dw += sum of dy n, db += sum of dy. dw and db may be NULL.
typedef void layernorm_dx_fn(real *dx, real *dw, real *db, const real *dy, const real *x, const real *w,
                             int64_t rows, int64_t cols, double eps, bool add);
// dx = dy act'(x)
typedef void activation_dx_fn(real *dx, const real *dy, const real *x, int64_t count, enum activation kind);
// dgate = dy act'(gate) up, dup = dy act(gate)
typedef void glu_dx_fn(real *dgate, real *dup, const real *dy, const real *gate, const real *up,
                       int64_t count, enum activation kind);
// dx = dy (1 - (y / cap)^2), y = cap tanh(x / cap)
typedef void softcap_dx_fn(real *dx, const real *dy, const real *y, int64_t count, double cap);
// to[c] (+)= sum over rows of x[r][c], rows in order, `stride` numbers apart
typedef void sum_rows_fn(real *to, const real *x, int64_t rows, int64_t cols, size_t stride, bool add);
// loss = log(sum over v of exp(x[v])) - x[target], in double from exponentials of `real`; the same bits with and without dx, as tinylm eval
// scores a text by it. dx = (softmax(x) - 1 at the target) * factor, which may be x or NULL. A target below 0: no loss, no gradient.
typedef double cross_entropy_fn(real *dx, const real *x, int32_t target, int64_t vocab, double factor);
// loss = (1 - share) times that of cross_entropy + share KL(softmax(teacher) || softmax(x)); dx, which may be x: its gradient by x, times
// factor. A target below 0: no loss, no gradient.
typedef double distill_fn(real *dx, const real *x, const real *teacher, int32_t target, int64_t vocab,
                          double share, double factor);

// y = x * factor, 0 where its draw is below `limit`: number i has draw i % 4 of block first + i / 4 of (seed, stream), core/rng.h.
// y may be x.
typedef void dropout_fwd_fn(real *y, const real *x, int64_t count, uint64_t seed, uint64_t stream,
                            uint64_t first, uint32_t limit, double factor);

// table[r] = d/2 pairs (cos, sin) of the angles pos[r] * freq[i], both times `magnitude`.
typedef void rope_table_fwd_fn(real *table, const int32_t *pos, const double *freq, int64_t rows,
                               int32_t pairs, double magnitude);
// Rotates the first 2*pairs numbers of each head and copies the rest. Su et al., arXiv 2104.09864.
enum rope_pairing {
    ROPE_ADJACENT, // (x0, x1), (x2, x3) ...: Llama in GGUF
    ROPE_HALVES,   // (x0, x[pairs]), (x1, x[pairs+1]) ...: NeoX, Qwen
};
typedef void rope_fwd_fn(real *y, const real *x, const real *table, int64_t rows, int32_t heads,
                         int32_t head_dim, int32_t pairs, enum rope_pairing pairing);

// ---- routing to experts (ops/route.c) -----------------------------------------------------------------

// How logits become the weights of the chosen experts.
enum route_gate {
    ROUTE_SOFTMAX,        // softmax over all experts, then the best (Mixtral, Qwen3)
    ROUTE_SIGMOID,        // sigmoid of each, then the best (DeepSeek-V3)
    ROUTE_SOFTMAX_CHOSEN, // the best by logit, then softmax over these (gpt-oss)
};

struct route_args {
    void *out;          // (rows, 2 used) real: the weights of the chosen experts, then their numbers as int32
    const void *logits; // (rows, experts) real
    const void *choice_bias; // (experts) real or NULL
    int64_t rows, experts, used, groups, groups_used;
    enum route_gate gate;
    bool normalize;
    double scale;
    void *scratch; // 3 * experts real
};
typedef void route_fwd_fn(const struct route_args *a);

// The gradient by the logits; who was chosen is taken as given. dy: (rows, 2 used), by the weights; out: what the forward pass gave.
struct route_dx_args {
    void *dx; // (rows, experts)
    const void *dy, *logits, *out;
    int64_t rows, experts, used;
    enum route_gate gate;
    bool normalize;
    double scale;
};
typedef void route_dx_fn(const struct route_dx_args *a);

// Row `id` of a matrix of any plain type, as real.
typedef void row_to_real_fn(real *y, const void *x, int64_t count);
// The other way, rounding to nearest even. Also the conversion of activations to a kernel's x_type, and of keys and
// values to the cache's type.
// DTYPE_Q8_K: blocks of 256, the last one filled up with zeros.
typedef void row_from_real_fn(void *y, const real *x, int64_t count);
// To Q8_K, every block with the scale limit / 127: larger numbers become the limit; a block with a NaN or an infinity keeps one in its scale.
typedef void row_within_fn(void *y, const real *x, int64_t count, float limit);

struct kernels {
    enum isa isa;
    struct matmul_kernel matmul[DTYPE_COUNT];
    struct matmul_kernel matmul_nn[DTYPE_COUNT]; // unit: outputs n
    row_to_real_fn *to_real[DTYPE_COUNT];
    row_from_real_fn *from_real[DTYPE_COUNT];
    row_within_fn *q8_k_within; // NULL where no product takes Q8_K
    attention_fwd_fn *attention_fwd;
    attention_scratch_fn *attention_scratch;
    rmsnorm_fwd_fn *rmsnorm_fwd;
    layernorm_fwd_fn *layernorm_fwd;
    activation_fwd_fn *activation_fwd;
    glu_fwd_fn *glu_fwd;
    softcap_fwd_fn *softcap_fwd;
    hadamard_fwd_fn *hadamard_fwd;
    scale_fwd_fn *scale_fwd;
    add_scaled_fwd_fn *add_scaled_fwd;
    route_fwd_fn *route_fwd;
    add_fwd_fn *add_fwd;
    bias_fwd_fn *bias_fwd;
    rope_table_fwd_fn *rope_table_fwd;
    rope_fwd_fn *rope_fwd;
    update_fn *update_adamw, *update_lion, *update_sgd; // NULL among the kernels in double
    sum_squares_fn *sum_squares;
    transpose_fwd_fn *transpose_fwd;
    dropout_fwd_fn *dropout_fwd;
    attention_dx_fn *attention_dx;
    attention_dx_scratch_fn *attention_dx_scratch;
    rmsnorm_dx_fn *rmsnorm_dx;
    layernorm_dx_fn *layernorm_dx;
    activation_dx_fn *activation_dx;
    glu_dx_fn *glu_dx;
    softcap_dx_fn *softcap_dx;
    sum_rows_fn *sum_rows;
    cross_entropy_fn *cross_entropy;
    distill_fn *distill;
    route_dx_fn *route_dx;
};

// The forms that tier `isa` uses: the reference, then the overrides of each tier up to it.
struct kernels kernels_for(enum isa isa);
// The references in double; its functions take double where the declarations here say real.
struct kernels kernels_for_f64(void);

// Every form there is, a line an op: the reference (REF), then the faster ones. A drift in a signature is a compile error.
matmul_fwd_fn REF(matmul_fwd);
attention_fwd_fn REF(attention_fwd);
attention_scratch_fn REF(attention_scratch);
rmsnorm_fwd_fn REF(rmsnorm_fwd);
layernorm_fwd_fn REF(layernorm_fwd);
activation_fwd_fn REF(activation_fwd);
glu_fwd_fn REF(glu_fwd);
softcap_fwd_fn REF(softcap_fwd);
hadamard_fwd_fn REF(hadamard_fwd);
scale_fwd_fn REF(scale_fwd);
add_scaled_fwd_fn REF(add_scaled_fwd);
route_fwd_fn REF(route_fwd);
add_fwd_fn REF(add_fwd);
bias_fwd_fn REF(bias_fwd);
rope_table_fwd_fn REF(rope_table_fwd);
rope_fwd_fn REF(rope_fwd);
matmul_fwd_fn REF(matmul_nn);
transpose_fwd_fn REF(transpose_fwd);
dropout_fwd_fn REF(dropout_fwd);
attention_dx_fn REF(attention_dx);
attention_dx_scratch_fn REF(attention_dx_scratch);
rmsnorm_dx_fn REF(rmsnorm_dx);
layernorm_dx_fn REF(layernorm_dx);
activation_dx_fn REF(activation_dx);
glu_dx_fn REF(glu_dx);
softcap_dx_fn REF(softcap_dx);
sum_rows_fn REF(sum_rows);
cross_entropy_fn REF(cross_entropy);
distill_fn REF(distill);
route_dx_fn REF(route_dx);
// The reference of rows of a quantized type, NULL where quant/ cannot read it.
row_to_real_fn *REF(row_from_quantized)(enum dtype type);
row_to_real_fn REF(row_from_f32), REF(row_from_f16), REF(row_from_bf16), REF(row_from_f8_e4m3),
    REF(row_from_f64);
row_from_real_fn REF(row_to_f32), REF(row_to_f16), REF(row_to_bf16), REF(row_to_f8_e4m3), REF(row_to_f64),
    REF(row_to_q8_0), REF(row_to_q4_0);

#ifndef REAL_DOUBLE
matmul_fwd_fn matmul_fwd_f32_avx2, matmul_fwd_f16_avx2, matmul_fwd_bf16_avx2;
matmul_fwd_fn matmul_fwd_f32_avx512, matmul_fwd_f16_avx512, matmul_fwd_bf16_avx512,
    matmul_fwd_bf16_avx512_bf16;
matmul_fwd_fn matmul_nn_f32_avx2, matmul_nn_f16_avx2, matmul_nn_bf16_avx2, matmul_nn_f32_avx512,
    matmul_nn_f16_avx512, matmul_nn_bf16_avx512, matmul_nn_bf16_avx512_bf16;
// The types of packed weights, and what a tier multiplies them with, in the same order.
#define PACKED_TYPES                                                                                   \
    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_IQ4_NL, DTYPE_MXFP4, DTYPE_Q2_K, \
        DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_XS, DTYPE_TQ2_0
#define PACKED_KERNELS(isa)                                                                            \
    matmul_fwd_q4_0_##isa, matmul_fwd_q4_1_##isa, matmul_fwd_q5_0_##isa, matmul_fwd_q5_1_##isa,        \
        matmul_fwd_q8_0_##isa, matmul_fwd_iq4_nl_##isa, matmul_fwd_mxfp4_##isa, matmul_fwd_q2_k_##isa, \
        matmul_fwd_q3_k_##isa, matmul_fwd_q4_k_##isa, matmul_fwd_q5_k_##isa, matmul_fwd_q6_k_##isa,    \
        matmul_fwd_iq4_xs_##isa, matmul_fwd_tq2_0_##isa
matmul_fwd_fn PACKED_KERNELS(avx2), PACKED_KERNELS(avx_vnni), PACKED_KERNELS(avx512_vnni);
attention_fwd_fn attention_fwd_avx2, attention_fwd_avx512, attention_fwd_avx512_vnni;
attention_scratch_fn attention_scratch_avx2, attention_scratch_avx512, attention_scratch_avx512_vnni;
rmsnorm_fwd_fn rmsnorm_fwd_avx512;
layernorm_fwd_fn layernorm_fwd_avx2;
activation_fwd_fn activation_fwd_avx2, activation_fwd_avx512;
glu_fwd_fn glu_fwd_avx2, glu_fwd_avx512;
softcap_fwd_fn softcap_fwd_avx2, softcap_fwd_avx512;
sum_rows_fn sum_rows_avx2;
transpose_fwd_fn transpose_fwd_avx2, transpose_fwd_avx512;
dropout_fwd_fn dropout_fwd_avx2, dropout_fwd_avx512;
attention_dx_fn attention_dx_avx2, attention_dx_avx512;
attention_dx_scratch_fn attention_dx_scratch_avx2, attention_dx_scratch_avx512;
rmsnorm_dx_fn rmsnorm_dx_avx2;
layernorm_dx_fn layernorm_dx_avx2;
activation_dx_fn activation_dx_avx2, activation_dx_avx512;
glu_dx_fn glu_dx_avx2, glu_dx_avx512;
cross_entropy_fn cross_entropy_avx2, cross_entropy_avx512;
distill_fn distill_avx2, distill_avx512;
row_to_real_fn row_from_f16_avx2, row_from_nf4_avx2, row_from_fp4_avx2, row_from_int8_avx2,
    row_from_nf4_avx512, row_from_fp4_avx512;
row_from_real_fn row_to_f16_avx2, row_to_bf16_avx2, row_to_f8_e4m3_avx2, row_to_q8_k_avx2,
    row_to_q8_k_avx512_vnni;
row_within_fn row_to_q8_k_within_avx2, row_to_q8_k_within_avx512_vnni;
#endif

#endif
