// cuda/rows_dx.cu -- gradients that go back to rows, columns and tokens, and sums over rows.
#include "cuda/device.h"

enum { THREADS = 256 };

// ---- rows and parts of rows -------------------------------------------------------------------------------

// Rows first .. of y: base, and dy's row r - begin where there is one.
static __global__ void rows_dx_kernel(float *y, const float *dy, struct cuda_base base, struct cuda_rows rows,
                                      int64_t first, int64_t begin, int64_t count, int64_t cols)
{
    const int64_t i = first * cols + (int64_t)blockIdx.x * THREADS + threadIdx.x, row = i / cols;
    if (row >= row_count(rows)) return;
    float sum = has_base(base) ? load(base.from + i) : 0;
    if (row >= begin && row < begin + count) sum += load(dy + i - begin * cols);
    store(y + i, sum);
}

// In place of the base the other rows are there already.
void cuda_rows_dx(struct cuda_stream *s, float *y, const float *dy, struct cuda_base base,
                  struct cuda_rows rows, int64_t begin, int64_t count, int64_t cols)
{
    const bool in_place = base.from == y && !base.resumed;
    const int64_t first = in_place ? begin : 0, numbers = (in_place ? count : rows.most) * cols;
    if (numbers)
        CUDA_LAUNCH(rows_dx_kernel, blocks_for(numbers, THREADS), THREADS, 0, s, y, dy, base, rows, first,
                    begin, count, cols);
}

static __global__ void slice_dx_kernel(float *y, const float *dy, struct cuda_base base,
                                       struct cuda_rows rows, int64_t part, int32_t heads, int32_t offset,
                                       int32_t count)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, head = i / part, at = i % part - offset;
    if (head >= row_count(rows) * heads) return;
    float sum = has_base(base) ? load(base.from + i) : 0;
    if (at >= 0 && at < count) sum += load(dy + head * count + at);
    store(y + i, sum);
}

void cuda_slice_dx(struct cuda_stream *s, float *y, const float *dy, struct cuda_base base,
                   struct cuda_rows rows, int64_t part, int32_t heads, int32_t offset, int32_t count)
{
    if (rows.most > 0)
        CUDA_LAUNCH(slice_dx_kernel, blocks_for(rows.most * heads * part, THREADS), THREADS, 0, s, y, dy,
                    base, rows, part, heads, offset, count);
}

// ---- transposed -------------------------------------------------------------------------------------------

enum { SQUARE = 32, SQUARE_THREADS = 256 };

// A block a square of 32 x 32: read along the columns, written along the rows. to: (cols, rows.most)
static __global__ void transpose_kernel(float *to, const float *x, struct cuda_rows rows, int64_t cols)
{
    SHARED(float, square, SQUARE *(SQUARE + 1));
    const int64_t c0 = (int64_t)blockIdx.x * SQUARE, r0 = (int64_t)blockIdx.y * SQUARE;
    const int64_t used = row_count(rows);
    const int lane = lane_id();
    for (int i = warp_id(); i < SQUARE; i += SQUARE_THREADS / WARP_LANES)
        square[i * (SQUARE + 1) + lane] =
            r0 + i < used && c0 + lane < cols ? load(x + (r0 + i) * cols + c0 + lane) : 0;
    __syncthreads();
    for (int i = warp_id(); i < SQUARE; i += SQUARE_THREADS / WARP_LANES)
        if (c0 + i < cols && r0 + lane < rows.most)
            store(to + (c0 + i) * rows.most + r0 + lane, (float)square[lane * (SQUARE + 1) + i]);
}

void cuda_transpose(struct cuda_stream *s, float *to, const float *x, struct cuda_rows rows, int64_t cols)
{
    const dim3 grid((unsigned)ceil_div(cols, (int64_t)SQUARE),
                    (unsigned)ceil_div(rows.most, (int64_t)SQUARE));
    if (rows.most && cols) CUDA_LAUNCH(transpose_kernel, grid, SQUARE_THREADS, 0, s, to, x, rows, cols);
}

// ---- sums over rows ---------------------------------------------------------------------------------------

enum { SUM_WARPS = 32, SUM_READS = 8 };

// A block takes 32 columns: warp w adds up rows w, w + 32 ... in order, and the warps' sums are added in order. Memory answers in some 600 ns, and
// GPT-2's width is 24 blocks: only with SUM_READS rows of each warp under way do these have the 800 KB there that keep a third of it busy.
template <class T>
__global__ void sum_rows_kernel(float *to, const T *x, struct cuda_base base, struct cuda_rows rows,
                                int64_t per, int64_t cols, int64_t stride)
{
    SHARED(float, part, SUM_WARPS *WARP_LANES);
    const int64_t c = (int64_t)blockIdx.x * WARP_LANES + lane_id(), count = ceil_div(row_count(rows), per);
    float sum = 0;
    for (int64_t row = warp_id(); c < cols && row < count; row += SUM_READS * SUM_WARPS) {
        float read[SUM_READS];
#pragma unroll
        for (int i = 0; i < SUM_READS; i++) {
            const int64_t at = row + i * SUM_WARPS;
            read[i] = at < count ? to_f32(load(x + at * stride + c)) : 0;
        }
#pragma unroll
        for (int i = 0; i < SUM_READS; i++) sum += read[i];
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    if (warp_id() || c >= cols) return;
    sum = has_base(base) ? load(base.from + c) : 0;
    for (int i = 0; i < SUM_WARPS; i++) sum += part[i * WARP_LANES + lane_id()];
    store(to + c, sum);
}

template <class T>
static void sum_rows(struct cuda_stream *s, float *to, const T *x, struct cuda_base base,
                     struct cuda_rows rows, int64_t per, int64_t cols, int64_t stride)
{
    if (cols)
        CUDA_LAUNCH(sum_rows_kernel<T>, blocks_for(cols, WARP_LANES), SUM_WARPS * WARP_LANES, 0, s, to, x,
                    base, rows, per, cols, stride);
}

void cuda_sum_rows(struct cuda_stream *s, float *to, const void *x, enum dtype type, struct cuda_base base,
                   struct cuda_rows rows, int64_t per, int64_t cols, int64_t stride)
{
    if (type == DTYPE_BF16)
        sum_rows(s, to, (const bf16 *)x, base, rows, per, cols, stride);
    else if (type == DTYPE_F16)
        sum_rows(s, to, (const f16 *)x, base, rows, per, cols, stride);
    else
        sum_rows(s, to, (const float *)x, base, rows, per, cols, stride);
}

// ---- tokens -----------------------------------------------------------------------------------------------

enum { TOKENS = 32, WARPS = THREADS / WARP_LANES };

// A block takes TOKENS tokens of the vocabulary and looks for their rows, THREADS rows at a time; a thread has columns of its own, to which
// it adds the rows that were found in their order.
static __global__ void embed_dw_kernel(float *to, const float *dy, const int32_t *tokens,
                                       struct cuda_base base, struct cuda_rows rows, int64_t vocab,
                                       int64_t cols)
{
    SHARED(unsigned, found, WARPS);
    const int64_t first = (int64_t)blockIdx.x * TOKENS, count = row_count(rows);
    const int64_t last = first + TOKENS < vocab ? first + TOKENS : vocab;
    const bool based = has_base(base);
    for (int64_t i = first; i < last && !(based && base.from == to); i++)
        for (int64_t c = threadIdx.x; c < cols; c += THREADS)
            store(to + i * cols + c, based ? load(base.from + i * cols + c) : 0);
    for (int64_t begin = 0; begin < count; begin += THREADS) {
        const int64_t row = begin + threadIdx.x, token = row < count ? load(tokens + row) : -1;
        const unsigned ours = __ballot_sync(ALL_LANES, token >= first && token < last);
        if (lane_id() == 0) found[warp_id()] = ours;
        __syncthreads();
        for (int w = 0; w < WARPS; w++)
            for (unsigned left = found[w]; left; left &= left - 1) {
                const int64_t r = begin + w * WARP_LANES + __ffs((int)left) - 1;
                float *y = to + load(tokens + r) * cols;
                for (int64_t c = threadIdx.x; c < cols; c += THREADS)
                    store(y + c, load(y + c) + load(dy + r * cols + c));
            }
        __syncthreads();
    }
}

void cuda_embed_dw(struct cuda_stream *s, float *to, const float *dy, const int32_t *tokens,
                   struct cuda_base base, struct cuda_rows rows, int64_t vocab, int64_t cols)
{
    if (vocab)
        CUDA_LAUNCH(embed_dw_kernel, blocks_for(vocab, TOKENS), THREADS, 0, s, to, dy, tokens, base, rows,
                    vocab, cols);
}
