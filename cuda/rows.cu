// cuda/rows.cu -- rows as they are: embeddings, selections, parts of heads.
#include "cuda/bnb.h"
#include "cuda/decode.h"
#include "cuda/device.h"
#include "cuda/narrow.h"

enum { THREADS = 256 };

// A block a row. Quantized rows come by items of 32 numbers.
template <class T>
__global__ void embed_kernel(float *y, const int32_t *tokens, struct cuda_matrix w, struct cuda_rows rows)
{
    const int64_t row = blockIdx.x, cols = w.inputs;
    if (row >= row_count(rows)) return;
    const T *from = (const T *)((const char *)w.codes + load(tokens + row) * (int64_t)w.code_stride);
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) store(y + row * cols + i, to_f32(load(from + i)));
}

template <class F>
__global__ void embed_quantized_kernel(float *y, const int32_t *tokens, struct cuda_matrix w,
                                       struct cuda_rows rows)
{
    const int64_t row = blockIdx.x, cols = w.inputs;
    if (row >= row_count(rows)) return;
    const int64_t token = load(tokens + row);
    const uint8_t *codes = (const uint8_t *)w.codes + token * (int64_t)w.code_stride;
    const uint8_t *scales = (const uint8_t *)w.scales + token * (int64_t)w.scale_stride;
    for (int64_t item = threadIdx.x; item < cols / 32; item += THREADS) {
        struct half_item half[2];
        F::decode(half, codes, scales, item);
        for (int h = 0; h < 2; h++)
            for (int i = 0; i < 16; i++) {
                const int code = (int8_t)(half[h].code[i / 4] >> 8 * (i % 4));
                store(y + row * cols + half[h].at + i, half[h].scale * (float)code - half[h].min);
            }
    }
}

void cuda_embed(struct cuda_stream *s, float *y, const int32_t *tokens, const struct cuda_matrix *w,
                struct cuda_rows rows)
{
    const dim3 grid = blocks_for(rows.most, 1);
    if (!rows.most) return;
    if (bnb_known(w->type)) {
        bnb_embed(s, y, tokens, w, rows);
        return;
    }
    switch (w->type) {
    case DTYPE_F32: CUDA_LAUNCH(embed_kernel<float>, grid, THREADS, 0, s, y, tokens, *w, rows); return;
    case DTYPE_F16: CUDA_LAUNCH(embed_kernel<f16>, grid, THREADS, 0, s, y, tokens, *w, rows); return;
    case DTYPE_BF16: CUDA_LAUNCH(embed_kernel<bf16>, grid, THREADS, 0, s, y, tokens, *w, rows); return;
#define EMBED(name)                                                                                   \
    case DTYPE_##name:                                                                                \
        CUDA_LAUNCH(embed_quantized_kernel<decode_##name>, grid, THREADS, 0, s, y, tokens, *w, rows); \
        return;
        CUDA_QUANTIZED(EMBED)
    default: TLM_ASSERT(!"a type of weights with kernels");
    }
}

static __global__ void select_kernel(float *y, const float *x, const int32_t *from, struct cuda_rows rows,
                                     int64_t cols)
{
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    const float *source = x + load(from + row) * cols;
    for (int64_t i = threadIdx.x; i < cols; i += THREADS) store(y + row * cols + i, load(source + i));
}

void cuda_select(struct cuda_stream *s, float *y, const float *x, const int32_t *from, struct cuda_rows rows,
                 int64_t cols)
{
    if (rows.most)
        CUDA_LAUNCH(select_kernel, blocks_for(rows.most, 1), THREADS, 0, s, y, x, from, rows, cols);
}

// y: (rows, heads, count) of x: (rows, heads, part)
template <class T>
__global__ void slice_kernel(T *y, const float *x, struct cuda_rows rows, int64_t part, int32_t heads,
                             int32_t offset, int32_t count)
{
    const int64_t row = blockIdx.x;
    if (row >= row_count(rows)) return;
    for (int64_t i = threadIdx.x; i < (int64_t)heads * count; i += THREADS) {
        T to;
        from_f32(&to, load(x + (row * heads + i / count) * part + offset + i % count));
        store(y + row * heads * count + i, to);
    }
}

void cuda_slice_to(struct cuda_stream *s, void *y, enum dtype type, const float *x, struct cuda_rows rows,
                   int64_t part, int32_t heads, int32_t offset, int32_t count)
{
    const dim3 grid = blocks_for(rows.most, 1);
    if (!rows.most) return;
    if (type == DTYPE_BF16)
        CUDA_LAUNCH(slice_kernel<bf16>, grid, THREADS, 0, s, (bf16 *)y, x, rows, part, heads, offset, count);
    else if (type == DTYPE_F16)
        CUDA_LAUNCH(slice_kernel<f16>, grid, THREADS, 0, s, (f16 *)y, x, rows, part, heads, offset, count);
    else
        CUDA_LAUNCH(slice_kernel<float>, grid, THREADS, 0, s, (float *)y, x, rows, part, heads, offset,
                    count);
}

void cuda_slice(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t part,
                int32_t heads, int32_t offset, int32_t count)
{
    cuda_slice_to(s, y, DTYPE_F32, x, rows, part, heads, offset, count);
}

// y: (rows, heads, first + second) of a: (rows, heads, first) and b: (rows, heads, second), or (rows, second) for all heads
static __global__ void concat_kernel(float *y, const float *a, const float *b, struct cuda_rows rows,
                                     int32_t heads, int64_t first, int64_t second, bool b_shared)
{
    const int64_t row = blockIdx.x, part = first + second;
    if (row >= row_count(rows)) return;
    for (int64_t i = threadIdx.x; i < heads * part; i += THREADS) {
        const int64_t head = i / part, at = i % part, b_row = b_shared ? row : row * heads + head;
        const float *from =
            at < first ? a + (row * heads + head) * first + at : b + b_row * second + at - first;
        store(y + row * heads * part + i, load(from));
    }
}

void cuda_concat(struct cuda_stream *s, float *y, const float *a, const float *b, struct cuda_rows rows,
                 int32_t heads, int64_t first, int64_t second, bool b_shared)
{
    if (rows.most)
        CUDA_LAUNCH(concat_kernel, blocks_for(rows.most, 1), THREADS, 0, s, y, a, b, rows, heads, first,
                    second, b_shared);
}
