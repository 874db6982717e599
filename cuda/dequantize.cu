// cuda/dequantize.cu -- quantized weights as bf16, for products of many rows: bound by writing two bytes a number.
//
// A thread takes an item (cuda/decode.h), whose halves of 16 numbers are two pieces of 16 bytes each. Two lanes change pieces, so that a
// store of a warp fills 32 bytes of a row at once, which is what the cache takes in one go.
#include "cuda/bnb.h"
#include "cuda/decode.h"

constexpr int THREADS = 256;

using piece = vec<int, 4>; // 8 numbers of bf16

// Numbers 8 first .. of a half
__device__ static piece piece_of(const struct half_item &half, int first)
{
    piece p;
    for (int i = 0; i < 4; i++) {
        const int code = half.code[2 * first + i / 2] >> 16 * (i % 2);
        bf16 low, high;
        from_f32(&low, half.scale * (float)(int8_t)code - half.min);
        from_f32(&high, half.scale * (float)(int8_t)(code >> 8) - half.min);
        p.x[i] = (int)(low.bits | (unsigned)high.bits << 16);
    }
    return p;
}

__device__ static void put(bf16 *y, int at, const piece &p)
{
    if (at >= 0) store((piece *)(void *)(y + at), p);
}

template <class F>
__global__ void __launch_bounds__(THREADS)
    dequantize_kernel(bf16 *y, struct cuda_matrix w, struct cuda_groups groups)
{
    const int64_t matrix = blockIdx.y, rows = matrix * w.outputs;
    if (groups.first && load(groups.first + matrix) == load(groups.first + matrix + 1)) return;
    const unsigned items = (unsigned)w.inputs / 32, i = blockIdx.x * THREADS + threadIdx.x;
    const unsigned row = i / items, item = i % items;
    const bool there = row < w.outputs, odd = lane_id() % 2;
    struct half_item half[2] = {};
    if (there)
        F::decode(half, (const uint8_t *)w.codes + (rows + row) * (int64_t)w.code_stride,
                  (const uint8_t *)w.scales + (rows + row) * (int64_t)w.scale_stride, item);
    y += rows * w.inputs;
    for (int h = 0; h < 2; h++) {
        // The even lane keeps its first piece and takes the odd lane's first, the odd one both second pieces.
        const piece first = piece_of(half[h], 0), second = piece_of(half[h], 1);
        const int own = there ? (int)(row * (unsigned)w.inputs) + half[h].at : -1;
        const int other = __shfl_xor_sync(ALL_LANES, own, 1);
        piece kept, taken;
        for (int j = 0; j < 4; j++) {
            kept.x[j] = odd ? second.x[j] : first.x[j];
            taken.x[j] = __shfl_xor_sync(ALL_LANES, odd ? first.x[j] : second.x[j], 1);
        }
        put(y, odd ? (other < 0 ? other : other + 8) : own, odd ? taken : kept);
        put(y, odd ? (own < 0 ? own : own + 8) : other, odd ? kept : taken);
    }
}

void cuda_dequantize(struct cuda_stream *s, void *y, const struct cuda_matrix *w, struct cuda_groups groups)
{
    TLM_ASSERT(w->outputs * w->inputs <= INT32_MAX);
    if (bnb_known(w->type)) {
        bnb_dequantize(s, y, w, groups);
        return;
    }
    const dim3 grid((unsigned)ceil_div(w->outputs * (w->inputs / 32), (int64_t)THREADS),
                    (unsigned)groups.count);
    switch (w->type) {
#define DEQUANTIZE(name)                                                                           \
    case DTYPE_##name:                                                                             \
        CUDA_LAUNCH(dequantize_kernel<decode_##name>, grid, THREADS, 0, s, (bf16 *)y, *w, groups); \
        return;
        CUDA_QUANTIZED(DEQUANTIZE)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}
