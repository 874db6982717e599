// cuda/kernels.h -- the kernels' launchers, in plain C: what ops/ops.h says of an op holds here too, but for the precision.
//
// All pointers are the device's, activations f32, rows side by side. Order of arguments: the stream; outputs, saved statistics, inputs,
// weights, sizes, constants. Nothing waits: errors are told by cuda_sync().
//
// What changes from step to step is read on the device (ops/step.h), so that a captured launch serves every step: a launch is for
// `most` rows, of which the first *count are computed.
#ifndef CUDA_KERNELS_H
#define CUDA_KERNELS_H

#include "cuda/runtime.h"
#include "ops/ops.h"
#include "ops/step.h"

#ifdef __cplusplus
extern "C" {
#endif

struct jit;
struct draws;

struct cuda_rows {
    const int32_t *count; // on the device; NULL: all
    int64_t most;
};

// A matrix of weights (N, K) as the device holds it. Plain types as in the file. A quantized row's blocks are parted into their codes,
// which begin at multiples of 16 and are read by 16 bytes, and all else (scales, minima), in a plane of its own (cuda/planes.h).
struct cuda_matrix {
    enum dtype type;
    const void *codes, *scales;
    size_t code_stride, scale_stride; // bytes a row
    int64_t outputs, inputs;
    struct jit *jit; // of the host: what makes kernels for its sizes; NULL: nothing does
};

// Activations as products of quantized weights take them: codes (rows, K) of 8 bits, x = scale * code, -127 to 127; behind all of them
// a scale for each 32 (rows, K / 32).
struct cuda_q8 {
    int8_t *codes;
    float *scales;
};
static inline struct cuda_q8 cuda_q8_at(void *data, int64_t rows, int64_t cols)
{
    int8_t *codes = (int8_t *)data;
    struct cuda_q8 q = {codes, (float *)(void *)(codes + rows * cols)};
    return q;
}

// ---- rows (cuda/rows.cu)
void cuda_embed(struct cuda_stream *s, float *y, const int32_t *tokens, const struct cuda_matrix *w,
                struct cuda_rows rows);
void cuda_select(struct cuda_stream *s, float *y, const float *x, const int32_t *from, struct cuda_rows rows,
                 int64_t cols);
void cuda_slice(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t part,
                int32_t heads, int32_t offset, int32_t count);
void cuda_concat(struct cuda_stream *s, float *y, const float *a, const float *b, struct cuda_rows rows,
                 int32_t heads, int64_t first, int64_t second, bool b_shared);

// ---- number by number (cuda/elementwise.cu)
void cuda_add(struct cuda_stream *s, float *y, const float *a, const float *b, struct cuda_rows rows,
              int64_t cols);
void cuda_bias(struct cuda_stream *s, float *y, const float *x, const float *b, struct cuda_rows rows,
               int64_t cols);
void cuda_scale(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                double factor);
void cuda_softcap(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                  double cap);
void cuda_activation(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                     enum activation kind);
void cuda_glu(struct cuda_stream *s, float *y, const float *gate, const float *up, struct cuda_rows rows,
              int64_t cols, enum activation kind);

// each `block` columns, a power of two, times the Hadamard matrix / sqrt(block); y may be x (cuda/hadamard.cu)
void cuda_hadamard(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                   int32_t block);

// ---- to other types (cuda/convert.cu): F32, F16, BF16; Q8_1 stands for struct cuda_q8 of rows.most rows
void cuda_convert(struct cuda_stream *s, void *y, enum dtype type, const float *x, struct cuda_rows rows,
                  int64_t cols);

// ---- norms of each `group` columns (cuda/norm.cu); w (group) or (cols), b alike or NULL
void cuda_rmsnorm(struct cuda_stream *s, float *y, const float *x, const float *w, struct cuda_rows rows,
                  int64_t cols, int64_t group, int64_t weights, double eps);
void cuda_layernorm(struct cuda_stream *s, float *y, const float *x, const float *w, const float *b,
                    struct cuda_rows rows, int64_t cols, int64_t group, int64_t weights, double eps);

// ---- positions and the cache (cuda/rope.cu, cuda/kv_write.cu)
// inverse: of the turns back
void cuda_rope_table(struct cuda_stream *s, float *table, const int32_t *pos, const double *freq,
                     struct cuda_rows rows, int32_t pairs, double magnitude, bool inverse);
void cuda_rope(struct cuda_stream *s, float *y, const float *x, const float *table, struct cuda_rows rows,
               int32_t heads, int32_t head_dim, int32_t pairs, enum rope_pairing pairing);
// The cache stands in rows (KV_ROWS) of F32, F16, BF16, F8_E4M3, Q8_0 or Q4_0.
void cuda_kv_write(struct cuda_stream *s, const struct paged_kv *cache, const float *x, const int32_t *slots,
                   struct cuda_rows rows, int32_t heads, int32_t head_dim);

// ---- attention over the paged cache (cuda/attention.cu)
//
// Tiles as in ops/step.h; positions of a tile's rows rise by one. The keys of a row are parted into `splits` stretches at most, by
// its position alone; a stretch leaves its maximum, sum and weighted values in `partial`, which are added up in order by the block that comes last, or by a second launch.
struct cuda_attention {
    float *y;       // (rows, heads * value_dim)
    float *partial; // cuda_attention_partial() floats
    const float *q; // (rows, heads * head_dim)
    struct paged_kv k, v;
    int32_t *
        arrived; // zeros, (rows, heads) of them, which are zeros again behind it; NULL: the parts are added up by a launch of its own
    // (rows, heads) states behind the keys that a tile's rows share with others' (tile.keys): maximum, sum, weighted values; NULL: all
    // keys are attended
    float *states;
    int64_t state_stride; // of a head
    const struct attention_tile *tiles;
    const int32_t *pos, *tables; // (rows), (sequences, table_stride)
    const float *sinks, *slopes; // (heads) or NULL
    struct cuda_rows tile_count, rows;
    int64_t table_stride;
    int32_t heads, kv_heads, head_dim, value_dim, window, splits;
    float scale, softcap;
};
enum { CUDA_VALUE_MAX = 512 };    // numbers of a value
enum { CUDA_ATTENTION_MANY = 9 }; // from so many rows on tensor cores are worth it
static inline int64_t cuda_attention_partial(int64_t rows, int32_t heads, int32_t value_dim, int32_t splits)
{
    return rows * heads * splits * (value_dim + 2);
}
void cuda_attention(struct cuda_stream *s, const struct cuda_attention *a);
// The states of rows that share keys, whose tiles are prefix tiles. False, and nothing is done, where that form of attention has none; with
// states NULL it only says so.
bool cuda_attention_prefix(struct cuda_stream *s, const struct cuda_attention *a);

// ---- products (cuda/matmul.cu, cuda/matmul_quantized.cu, cuda/matmul_mma.cu): y = x w^T
//
// x is of the type that cuda_matmul_input() names: F32, BF16, or Q8_1 for struct cuda_q8.
enum dtype cuda_matmul_input(enum dtype weights); // DTYPE_COUNT: no product of such weights
void cuda_matmul(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                 struct cuda_rows rows);
// Several matrices at once, which stand behind each other in the planes that *w begins.
struct cuda_groups {
    int64_t count;
    // (count + 1) where the rows of x begin that matrix g multiplies, all of them side by side: experts. NULL: matrix g multiplies part g
    // of every row: heads, x (rows, count * K), y (rows, count * N).
    const int32_t *first;
};
void cuda_matmul_grouped(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                         struct cuda_rows rows, struct cuda_groups groups);
// The same of so many rows that weights are brought into the form that tensor cores take at once, in scratch memory (cuda/matmul_many.cu). x is
// of the type that cuda_matmul_many_input() names: F32 or BF16.
enum {
    CUDA_MANY_ROWS = 64,
    CUDA_MANY_EXPERT_ROWS = 9 // of an expert, on average
};
enum dtype cuda_matmul_many_input(enum dtype weights);
// Bytes of scratch that are best for `matrices` and rows of x of `columns`; of quantized weights less, at least a matrix's row, is enough.
size_t cuda_matmul_many_scratch(const struct cuda_matrix *w, int64_t matrices, int64_t most_rows,
                                int64_t columns);
void cuda_matmul_many(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups, void *scratch, size_t scratch_bytes);
// The numbers of quantized matrices as bf16, rows side by side; of experts (groups.first) those that have rows (cuda/dequantize.cu).
void cuda_dequantize(struct cuda_stream *s, void *y, const struct cuda_matrix *w, struct cuda_groups groups);

// ---- behind the logits
// loss (rows); dx (rows, V), which may be x, or NULL: times *factor, of the device. A target below 0 has no loss and no gradient
// (cuda/cross_entropy.cu).
void cuda_cross_entropy(struct cuda_stream *s, double *loss, float *dx, const float *x,
                        const int32_t *targets, struct cuda_rows rows, int64_t vocab, const double *factor);
// y (rows): the number of the row's largest, of equal ones the first (cuda/argmax.cu)
void cuda_argmax(struct cuda_stream *s, int32_t *y, const float *x, struct cuda_rows rows, int64_t cols);

// Draws a token of each row (cuda/sample.cu); where the host has to, the token is DRAW_NONE. The bits of a draw are the host's.
struct cuda_sample {
    int32_t *drawn;           // (rows)
    float *x;                 // (rows, vocab) logits, which are changed
    const struct draws *data; // ops/draw.h
    void *scratch;            // cuda_sample_scratch() bytes
    int64_t most, vocab;      // rows; at most DRAW_VOCAB_MOST
};
size_t cuda_sample_scratch(int64_t most, int64_t vocab);
void cuda_sample(struct cuda_stream *s, const struct cuda_sample *a);
// In front of the pass that reads `tokens` and draws by a->data: those of tokens[0..rows) that are ~i become a->drawn[i], and the draws' changes
// know the tokens that they stand behind, no
// more than rows (cuda/follow.cu).
void cuda_follow(struct cuda_stream *s, int32_t *tokens, int64_t rows, const struct cuda_sample *a);

#ifdef __cplusplus
}
#endif

#endif
