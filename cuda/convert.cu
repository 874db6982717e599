// cuda/convert.cu -- activations in the types that products take: f16 and bf16, rounded to nearest even, and codes of 8 bits.
#include "cuda/device.h"
#include "cuda/gradient.h"

enum { THREADS = 256 };

template <class T> __global__ void convert_kernel(T *y, const float *x, struct cuda_rows rows, int64_t cols)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(rows) * cols) return;
    T number;
    from_f32(&number, load(x + i));
    store(y + i, number);
}

// A block a row
static __global__ void narrow_kernel(bf16 *to, int64_t stride, const float *x, struct cuda_rows rows,
                                     int64_t cols)
{
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    for (int64_t i = threadIdx.x; i < stride; i += THREADS) {
        bf16 number;
        from_f32(&number, i < cols ? load(x + row * cols + i) : 0);
        store(to + row * stride + i, number);
    }
}

void cuda_narrow(struct cuda_stream *s, void *to, int64_t stride, const float *x, struct cuda_rows rows,
                 int64_t cols)
{
    if (rows.most)
        CUDA_LAUNCH(narrow_kernel, blocks_for(rows.most, 1), THREADS, 0, s, (bf16 *)to, stride, x, rows,
                    cols);
}

// A warp a block of 32 numbers: the one of largest size becomes 127 or -127, halves go away from zero.
static __global__ void convert_q8_kernel(struct cuda_q8 y, const float *x, struct cuda_rows rows,
                                         int64_t cols)
{
    const int64_t block = (int64_t)blockIdx.x * (THREADS / WARP_LANES) + warp_id();
    if (block >= row_count(rows) * cols / 32) return;
    const float number = load(x + block * 32 + lane_id());
    const float scale = warp_max(fabsf(number)) / 127;
    const float inverse = scale == 0 ? 0 : 1 / scale;
    store(y.codes + block * 32 + lane_id(), (int8_t)roundf(number * inverse));
    if (lane_id() == 0) store(y.scales + block, scale);
}

void cuda_convert(struct cuda_stream *s, void *y, enum dtype type, const float *x, struct cuda_rows rows,
                  int64_t cols)
{
    const int64_t count = rows.most * cols;
    const dim3 grid = blocks_for(count, THREADS);
    if (!count) return;
    switch (type) {
    case DTYPE_F32:
        CUDA_LAUNCH(convert_kernel<float>, grid, THREADS, 0, s, (float *)y, x, rows, cols);
        return;
    case DTYPE_F16: CUDA_LAUNCH(convert_kernel<f16>, grid, THREADS, 0, s, (f16 *)y, x, rows, cols); return;
    case DTYPE_BF16: CUDA_LAUNCH(convert_kernel<bf16>, grid, THREADS, 0, s, (bf16 *)y, x, rows, cols); return;
    default:
        TLM_ASSERT(type == DTYPE_Q8_1 && cols % 32 == 0);
        CUDA_LAUNCH(convert_q8_kernel, grid, THREADS, 0, s, cuda_q8_at(y, rows.most, cols), x, rows, cols);
    }
}
