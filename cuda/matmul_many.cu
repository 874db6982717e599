// cuda/matmul_many.cu -- products of many rows, of weights that tensor cores do not take as they are: they get what they take first.
//
// Quantized weights become bf16 in scratch memory, slab by slab, and meet activations in bf16. Both are rounded to 2^-9 then, which is half of
// the error that activations in codes of 8 bits have, with a scale for each 32. What it costs for a billion weights, on an H200 (4.8 TB/s of memory,
// perhaps 4 TB/s to its cache, perhaps 600 TFLOP/s by wgmma): reading 0.6 GB of codes 0.1 ms, behind which 2 GB of bf16 are written in
// 0.5 ms; then 0.4 ms for each 128 rows. Codes of 8 bits (cuda/matmul_mma_q8.cu) go at about 120 TFLOP/s, since each 32 steps of k take some
// 14 instructions a result beside the product: 1.1 ms for each 64 rows. So bf16 wins from the first tile on that is full, and the border
// is where the host begins to count rows (CUDA_MANY_ROWS). Experts pay for all of their weights, however few
// rows they have: less than 9 of each on average (CUDA_MANY_EXPERT_ROWS) go by dp4a, which reads the codes once, in a quarter of the time.
//
// F16 weights keep every bit, and so must the activations: x = 2^e (hi + lo) with both of f16, e the row's, which leaves 22 bits. Two products
// of f16 at 600 TFLOP/s are ten times as fast as fused multiply-adds. F32 weights would take three parts of bf16 each, six products,
// and a pass over the weights, to be two or three times as fast as the tiles of cuda/matmul_tile.cu: not worth it, for files that are there to be
// converted.
#include "cuda/bnb.h"
#include "cuda/decode.h"
#include "cuda/products.h"

constexpr int THREADS = 256, TILE = 128;
constexpr size_t CACHE =
    24 << 20; // of a slab, so that it stays in a cache of 50 MB beside activations and results
constexpr size_t SLAB_MOST = (size_t)128
                             << 20; // room for a round of tiles of 64 rows on all processors, K = 4096

static bool is_quantized(enum dtype type)
{
    return cuda_matmul_input(type) == DTYPE_Q8_1 || bnb_known(type);
}

// Rows on boundaries of 16 bytes: others have no tiles
static bool is_split(const struct cuda_matrix *w)
{
    return w->type == DTYPE_F16 && w->inputs % 8 == 0 && aligned_to(w->codes, 16);
}

enum dtype cuda_matmul_many_input(enum dtype weights)
{
    return cuda_matmul_input(weights) == DTYPE_Q8_1 ? DTYPE_BF16 : cuda_matmul_input(weights);
}

// Of activations that come in f32 and become bf16 here
static size_t converted_bytes(enum dtype weights, int64_t most_rows, int64_t columns)
{
    enum { ALIGN = 256 };
    return bnb_known(weights) ? align_up((size_t)(most_rows * columns) * sizeof(bf16), ALIGN) : 0;
}

size_t cuda_matmul_many_scratch(const struct cuda_matrix *w, int64_t matrices, int64_t most_rows,
                                int64_t columns)
{
    const size_t row = (size_t)w->inputs * sizeof(bf16), all = row * (size_t)(w->outputs * matrices);
    if (is_quantized(w->type))
        return converted_bytes(w->type, most_rows, columns) + (all < SLAB_MOST   ? all
                                                               : row < SLAB_MOST ? SLAB_MOST
                                                                                 : row);
    return is_split(w) ? (size_t)most_rows * (2 * (size_t)columns * sizeof(f16) + sizeof(float)) : 0;
}

// ---- quantized weights ------------------------------------------------------------------------------------

// So many outputs of a matrix at a time: whole rounds of tiles on all processors that stay in the cache; at least one such round, even if it
// goes through the memory; no more than there is room for.
static int64_t outputs_of_slab(const struct cuda_matrix *w, int64_t rows, size_t room)
{
    const size_t row_bytes = (size_t)w->inputs * sizeof(bf16);
    const int64_t fit = (int64_t)(room / row_bytes), down = ceil_div(rows, (int64_t)TILE);
    const int64_t cached = (int64_t)(CACHE / row_bytes) / TILE, processors = cuda_processors();
    const int64_t rounds = cached * down < processors ? 1 : cached * down / processors;
    int64_t outputs = rounds * processors / down * TILE;
    if (outputs < TILE) outputs = TILE;
    if (outputs > fit) outputs = fit < TILE ? fit : fit / TILE * TILE;
    return outputs < w->outputs ? outputs : w->outputs;
}

struct slab {
    int64_t matrix, matrices; // of which so many from this one on, whole,
    int64_t output, outputs;  // or so many outputs of one of them
};

static void multiply_slab(struct cuda_stream *s, float *y, const bf16 *x, const struct cuda_matrix *w,
                          struct cuda_rows rows, struct cuda_groups groups, struct slab slab,
                          struct cuda_addends addends, bf16 *numbers)
{
    const int64_t row = slab.matrix * w->outputs + slab.output, heads = groups.first ? 1 : groups.count;
    struct cuda_matrix part = *w;
    part.codes = (const char *)w->codes + (size_t)row * w->code_stride;
    part.scales = (const char *)w->scales + (size_t)row * w->scale_stride;
    part.outputs = slab.outputs;
    const struct cuda_groups own = {slab.matrices, groups.first ? groups.first + slab.matrix : NULL};
    cuda_dequantize(s, numbers, &part, own);
    struct cuda_tiles t = {};
    t.p.y = y + (groups.first ? slab.output : row);
    t.p.x = x + (groups.first ? 0 : slab.matrix * w->inputs), t.p.w = numbers;
    t.p.x_type = t.p.w_type = DTYPE_BF16;
    t.p.x_stride = heads * w->inputs, t.p.w_stride = w->inputs;
    t.p.m = rows, t.p.k = {NULL, w->inputs}, t.p.n = slab.outputs;
    t.y_stride = heads * w->outputs, t.groups = own, t.parts = t.passes = 1;
    if (addends.base) t.p.base.from = addends.base + row;
    if (addends.bias) t.bias = addends.bias + row;
    matmul_tiles(s, &t);
}

static void dequantized(struct cuda_stream *s, float *y, const bf16 *x, const struct cuda_matrix *w,
                        struct cuda_rows rows, struct cuda_groups groups, struct cuda_addends addends,
                        bf16 *scratch, size_t bytes)
{
    const size_t matrix_bytes = (size_t)w->outputs * (size_t)w->inputs * sizeof(bf16);
    if (groups.count > 1 && matrix_bytes <= bytes) {
        const int64_t most = (int64_t)(bytes / matrix_bytes);
        for (int64_t m = 0; m < groups.count; m += most) {
            const int64_t count = groups.count - m < most ? groups.count - m : most;
            multiply_slab(s, y, x, w, rows, groups, {m, count, 0, w->outputs}, addends, scratch);
        }
        return;
    }
    const int64_t most = outputs_of_slab(w, rows.most, bytes);
    for (int64_t m = 0; m < groups.count; m++)
        for (int64_t o = 0; o < w->outputs; o += most) {
            const int64_t count = w->outputs - o < most ? w->outputs - o : most;
            multiply_slab(s, y, x, w, rows, groups, {m, 1, o, count}, addends, scratch);
        }
}

// ---- F16 weights ------------------------------------------------------------------------------------------

// A block a row: to (2, cols), lo and then hi, which is added up last. The largest number becomes one of 2^14 to 2^15.
static __global__ void __launch_bounds__(THREADS)
    split_kernel(f16 *to, float *scale, const float *x, struct cuda_rows rows, int64_t cols)
{
    SHARED(float, part, THREADS / WARP_LANES);
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    float top = 0;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) top = fmaxf(top, fabsf(load(x + row * cols + i)));
    top = block_max(top, part);
    int exponent = (int)(f32_to_bits(top) >> 23) - 127;
    if (exponent < -100) exponent = -100; // zeros, and what is as good as zero
    if (exponent > 127) exponent = 14;    // not a number, which stays one
    const float unit = bits_to_f32((unsigned)(127 + 14 - exponent) << 23);
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) {
        const float number = load(x + row * cols + i) * unit;
        f16 high, low;
        from_f32(&high, number);
        from_f32(&low, number - to_f32(high));
        store(to + row * 2 * cols + i, low);
        store(to + (row * 2 + 1) * cols + i, high);
    }
    if (threadIdx.x == 0) store(scale + row, bits_to_f32((unsigned)(127 + exponent - 14) << 23));
}

static void split(struct cuda_stream *s, float *y, const float *x, const struct cuda_matrix *w,
                  struct cuda_rows rows, struct cuda_groups groups, struct cuda_addends addends,
                  void *scratch)
{
    const int64_t heads = groups.first ? 1 : groups.count, cols = heads * w->inputs;
    f16 *parts = (f16 *)scratch;
    float *scale = (float *)(void *)(parts + rows.most * 2 * cols);
    CUDA_LAUNCH(split_kernel, blocks_for(rows.most, 1), THREADS, 0, s, parts, scale, x, rows, cols);
    struct cuda_tiles t = {};
    t.p.y = y, t.p.x = parts, t.p.w = w->codes;
    t.p.x_type = t.p.w_type = DTYPE_F16;
    t.p.x_stride = 2 * cols, t.p.w_stride = w->inputs;
    t.p.m = rows, t.p.k = {NULL, w->inputs}, t.p.n = w->outputs;
    t.y_stride = heads * w->outputs, t.groups = groups, t.parts = 1, t.passes = 2;
    t.scale = scale, t.bias = addends.bias;
    t.p.base.from = addends.base;
    matmul_tiles(s, &t);
}

// False, and nothing is done, where the weights are multiplied as they are.
static bool convert_and_multiply(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                                 struct cuda_rows rows, struct cuda_groups groups,
                                 struct cuda_addends addends, void *scratch, size_t scratch_bytes)
{
    const int64_t columns = (groups.first ? 1 : groups.count) * w->inputs;
    const size_t converted = converted_bytes(w->type, rows.most, columns);
    if (converted) {
        cuda_convert(s, scratch, DTYPE_BF16, (const float *)x, rows, columns);
        x = scratch;
    }
    if (is_quantized(w->type))
        dequantized(s, y, (const bf16 *)x, w, rows, groups, addends,
                    (bf16 *)(void *)((char *)scratch + converted), scratch_bytes - converted);
    else if (is_split(w))
        split(s, y, (const float *)x, w, rows, groups, addends, scratch);
    else
        return false;
    return true;
}

void cuda_matmul_many(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                      struct cuda_rows rows, struct cuda_groups groups, void *scratch, size_t scratch_bytes)
{
    if (!rows.most || !w->outputs) return;
    if (bnb_known(w->type) && groups.first && rows.most < CUDA_MANY_EXPERT_ROWS * groups.count)
        bnb_matmul(s, y, (const float *)x, w, rows, groups);
    else if (!convert_and_multiply(s, y, x, w, rows, groups, {}, scratch, scratch_bytes))
        cuda_matmul_grouped(s, y, x, w, rows, groups);
}

bool matmul_many_added(struct cuda_stream *s, float *y, const void *x, const struct cuda_matrix *w,
                       struct cuda_rows rows, struct cuda_addends addends, void *scratch,
                       size_t scratch_bytes)
{
    const struct cuda_groups one = {1, NULL};
    if (convert_and_multiply(s, y, x, w, rows, one, addends, scratch, scratch_bytes)) return true;
    if (w->type != DTYPE_BF16 || w->inputs % 8) return false;
    matmul_mma(s, y, (const bf16 *)x, w, rows, one, addends);
    return true;
}
