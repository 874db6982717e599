// cuda/fused_product.h -- the kernel behind cuda_fused_product(): products of up to 8 rows, bound by the reading of the weights.
//
// Blocks stay for the whole launch, one a processor. Each makes the columns, normed and rounded, in its shared memory; then its warps
// walk over the outputs of all matrices, laid end to end: a warp an output (a gate and its up), its lanes stretches of k in turn. While a
// warp multiplies, its next weights are on their way into the second-level cache, the first ones since before the launch in front had
// ended. Order of summation: that of cuda/norm.cu, cuda/matmul.cu and cuda/matmul_quantized.cu, so the bits are theirs.
#ifndef CUDA_FUSED_PRODUCT_H
#define CUDA_FUSED_PRODUCT_H

#include "cuda/activations.h"
#include "cuda/decode.h"
#include "cuda/fixed.h"

namespace fused
{

constexpr int WARPS = 12, THREADS = WARPS * WARP_LANES;
constexpr int STEP = 1024; // numbers of a quantized row that a warp takes at once
constexpr int NORM_SMALL = 512, NORM_LARGE_THREADS = 256; // cuda/norm.cu

// ---- weights and columns ----------------------------------------------------------------------------------

// Weights W meet columns X, which stand one behind the other in shared memory.
template <class W, class X> struct plain {
    static constexpr int N = 16 / sizeof(W);

    __host__ __device__ static size_t column_bytes(int64_t inputs)
    {
        return sizeof(X) * (size_t)inputs;
    }

    // Four numbers of a column
    __device__ static void put(shared<char> memory, int columns, int column, int inputs, int at,
                               vec<float, 4> v)
    {
        if (column >= columns) return;
        vec<X, 4> x;
        for (int i = 0; i < 4; i++) from_f32(&x.x[i], v.x[i]);
        shared_as<vec<X, 4>>(memory)[(column * inputs + at) / 4] = x;
    }

    template <int C>
    __device__ static void add(float (&sum)[C], const vec<W, N> &w, shared<char> memory, int inputs, int at)
    {
        const shared<vec<X, N>> columns = shared_as<vec<X, N>>(memory);
#pragma unroll
        for (int c = 0; c < C; c++) {
            const vec<X, N> x = columns[(c * inputs + at) / N];
            for (int i = 0; i < N; i++) sum[c] += to_f32(w.x[i]) * to_f32(x.x[i]);
        }
    }

    // U loads are on their way at once.
    template <int U, int C>
    __device__ static void some(float (&sum)[C], const W *row, shared<char> memory, int inputs, int &at)
    {
        vec<W, N> w[U];
#pragma unroll
        for (int u = 0; u < U; u++) w[u] = load_stream((const vec<W, N> *)(row + at + u * WARP_LANES * N));
#pragma unroll
        for (int u = 0; u < U; u++) add(sum, w[u], memory, inputs, at + u * WARP_LANES * N);
        at += U * WARP_LANES * N;
    }

    template <int C>
    __device__ static void multiply(float (&sum)[C], const uint8_t *codes, const uint8_t *,
                                    shared<char> memory, int, const struct cuda_fused_shape &s)
    {
        constexpr int MOST = C <= 2 ? 8 : 2;
        const W *row = (const W *)codes;
        int at = lane_id() * N, left = ceil_div(s.inputs - at, WARP_LANES * N);
        for (; left >= MOST; left -= MOST) some<MOST>(sum, row, memory, s.inputs, at);
        if (MOST > 4 && left & 4) some<4>(sum, row, memory, s.inputs, at);
        if (MOST > 2 && left & 2) some<2>(sum, row, memory, s.inputs, at);
        if (left & 1) some<1>(sum, row, memory, s.inputs, at);
    }
};

// Items whose loads are on their way at once. What is looked up in tables is bound by that, and long enough as it is.
template <class F> constexpr int loads = 4;
template <> constexpr int loads<decode_TQ1_0> = 1;
template <> constexpr int loads<decode_IQ1_S> = 1;
template <> constexpr int loads<decode_IQ1_M> = 1;
template <> constexpr int loads<decode_IQ2_XXS> = 1;
template <> constexpr int loads<decode_IQ2_XS> = 1;
template <> constexpr int loads<decode_IQ2_S> = 1;
template <> constexpr int loads<decode_IQ3_XXS> = 1;
template <> constexpr int loads<decode_IQ3_S> = 1;

// Codes of 8 bits, (columns, K); behind them a scale for each 32 (columns, K / 32) and the sum of each 16 codes (columns, K / 16).
template <class F> struct quantized {
    __host__ __device__ static size_t column_bytes(int64_t inputs)
    {
        return (size_t)(inputs + inputs / 32 * 4 + inputs / 16 * 4);
    }

    __device__ static shared<float> scales_of(shared<char> memory, int columns, int inputs)
    {
        return shared_as<float>(memory + columns * inputs);
    }

    __device__ static shared<float> totals_of(shared<char> memory, int columns, int inputs)
    {
        return scales_of(memory, columns, inputs) + columns * (inputs / 32);
    }

    // Eight lanes share a block of 32 numbers, which they round as cuda/convert.cu does.
    __device__ static void put(shared<char> memory, int columns, int column, int inputs, int at,
                               vec<float, 4> v)
    {
        float most = 0;
        for (int i = 0; i < 4; i++) most = fmaxf(most, fabsf(v.x[i]));
        for (int other = 1; other < 8; other *= 2)
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, other));
        const float scale = most / 127, inverse = scale == 0 ? 0 : 1 / scale;
        int word = 0, total = 0;
        for (int i = 0; i < 4; i++) {
            const int code = (int)roundf(v.x[i] * inverse);
            word |= (code & 0xff) << 8 * i, total += code;
        }
        for (int other = 1; other < 4; other *= 2) total += __shfl_xor_sync(ALL_LANES, total, other);
        if (column >= columns) return;
        const int number = column * inputs + at;
        shared_as<int>(memory)[number / 4] = word;
        if (at % 32 == 0) scales_of(memory, columns, inputs)[number / 32] = scale;
        if (at % 16 == 0) totals_of(memory, columns, inputs)[number / 16] = (float)total;
    }

    template <int C>
    __device__ static void add(float (&sum)[C], const half_item &w, shared<char> memory, int columns,
                               int inputs, int from)
    {
        const shared<vec<int, 4>> codes = shared_as<vec<int, 4>>(memory);
        const shared<float> scales = scales_of(memory, columns, inputs);
        const shared<float> totals = totals_of(memory, columns, inputs);
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int at = c * inputs + from + w.at;
            const vec<int, 4> x = codes[at / 16];
            int dot = 0;
            for (int i = 0; i < 4; i++) dot = __dp4a(w.code[i], x.x[i], dot);
            float value = w.scale * (float)dot;
            if constexpr (HAS_MINIMA<F>) value -= w.min * totals[at / 16];
            sum[c] += scales[at / 32] * value;
        }
    }

    template <int U, int C>
    __device__ static void some(float (&sum)[C], const uint8_t *codes, const uint8_t *scales,
                                shared<char> memory, int columns, const struct cuda_fused_shape &s, int &step)
    {
#pragma unroll
        for (int u = 0; u < U; u++) {
            half_item half[2];
            F::decode(half, codes + (step + u) * stretch<F>::codes, scales + (step + u) * stretch<F>::rest,
                      lane_id());
            for (int h = 0; h < 2; h++) add(sum, half[h], memory, columns, s.inputs, (step + u) * STEP);
        }
        step += U;
    }

    template <int C>
    __device__ static void multiply(float (&sum)[C], const uint8_t *codes, const uint8_t *scales,
                                    shared<char> memory, int columns, const struct cuda_fused_shape &s)
    {
        constexpr int MOST = C <= 2 ? loads<F> : 1;
        int step = 0, left = ceil_div(s.inputs / 32 - lane_id(), WARP_LANES);
        for (; left >= MOST; left -= MOST) some<MOST>(sum, codes, scales, memory, columns, s, step);
        if (MOST > 2 && left & 2) some<2>(sum, codes, scales, memory, columns, s, step);
        if (MOST > 1 && left & 1) some<1>(sum, codes, scales, memory, columns, s, step);
    }
};

// ---- the columns ------------------------------------------------------------------------------------------

// A row's numbers: (x - mean) * factor
struct statistics {
    float mean, factor;
};

// The sum over a team, threads that share a row: all of a block in cuda/norm.cu, whose order this is.
__device__ inline float team_sum(float x, int team_warps, shared<float> part)
{
    x = warp_sum(x);
    if (lane_id() == 0) part[warp_id()] = x;
    __syncthreads();
    const int first = warp_id() / team_warps * team_warps;
    float sum = 0;
    for (int i = 0; i < team_warps && first + team_warps <= WARPS; i++) sum += part[first + i];
    __syncthreads();
    return sum;
}

__device__ inline void take_statistics(const struct cuda_fused_product &d, int rows,
                                       shared<struct statistics> of)
{
    SHARED(float, part, WARPS);
    const int inputs = shape_of(d).inputs,
              team_threads = inputs <= NORM_SMALL ? WARP_LANES : NORM_LARGE_THREADS;
    const int teams = THREADS / team_threads, team = (int)threadIdx.x / team_threads;
    const int begin = (int)threadIdx.x % team_threads * 4;
    for (int first = 0; first < rows; first += teams) {
        const bool there = team < teams && first + team < rows; // threads may be left over
        const float *x = d.x + (int64_t)(first + team) * inputs;
        float mean = 0, squares = 0;
        if (shape_of(d).norm == FUSED_LAYERNORM) {
            for (int i = begin; there && i < inputs; i += team_threads * 4) {
                const vec<float, 4> v = load((const vec<float, 4> *)(x + i));
                for (int j = 0; j < 4; j++) mean += v.x[j];
            }
            mean = team_sum(mean, team_threads / WARP_LANES, part) / (float)inputs;
        }
        for (int i = begin; there && i < inputs; i += team_threads * 4) {
            const vec<float, 4> v = load((const vec<float, 4> *)(x + i));
            for (int j = 0; j < 4; j++) squares += (v.x[j] - mean) * (v.x[j] - mean);
        }
        squares = team_sum(squares, team_threads / WARP_LANES, part);
        if (there && threadIdx.x % team_threads == 0)
            of[first + team] = {mean, 1 / sqrtf(squares / (float)inputs + d.eps)};
    }
    __syncthreads();
}

// Columns behind the step's rows become 0.
template <class W>
__device__ void make_columns(const struct cuda_fused_product &d, int rows, int columns, shared<char> memory)
{
    SHARED(struct statistics, of, FUSED_ROWS);
    const int inputs = shape_of(d).inputs, count = columns * inputs;
    if (shape_of(d).norm != FUSED_NO_NORM) take_statistics(d, rows, of);
    // Warps stay together: they shuffle.
    for (int first = warp_id() * WARP_LANES * 4; first < count; first += THREADS * 4) {
        const int number = first + lane_id() * 4, row = number / inputs, at = number % inputs;
        vec<float, 4> v = {};
        if (row < rows) {
            v = load((const vec<float, 4> *)(d.x + number));
            if (shape_of(d).norm != FUSED_NO_NORM) {
                const struct statistics s = of[row];
                const vec<float, 4> w = load((const vec<float, 4> *)(d.norm_w + at));
                vec<float, 4> b = {};
                if (d.norm_b) b = load((const vec<float, 4> *)(d.norm_b + at));
                for (int i = 0; i < 4; i++) v.x[i] = (v.x[i] - s.mean) * s.factor * w.x[i] + b.x[i];
            }
        }
        W::put(memory, columns, row, inputs, at, v);
    }
    __syncthreads();
}

// ---- outputs ----------------------------------------------------------------------------------------------

__host__ __device__ inline int unit_count(const struct cuda_fused_shape &s)
{
    int units = s.outputs[0];
    for (int p = 1; p < s.parts && !s.gated; p++) units += s.outputs[p];
    return units;
}

// Neighbours in a block are a grid apart, so that all blocks have equal shares.
__device__ inline int first_unit()
{
    return (int)blockIdx.x + (int)gridDim.x * warp_id();
}

__device__ inline int unit_step()
{
    return (int)gridDim.x * WARPS;
}

struct output {
    int part, n;
};

__device__ inline struct output output_of(const struct cuda_fused_shape &s, int unit)
{
    struct output o = {0, unit};
    while (!s.gated && o.n >= s.outputs[o.part]) o.n -= s.outputs[o.part++];
    return o;
}

// A lane a plane of an output's weights, of gate and up those of both.
__device__ inline void prefetch_unit(const struct cuda_fused_product &d, int unit)
{
    const struct cuda_fused_shape &s = shape_of(d);
    const int lane = lane_id();
    if (unit >= unit_count(s) || lane >= (s.gated ? 4 : 2)) return;
    const struct output o = output_of(s, unit);
    const struct cuda_fused_part &p = d.part[o.part + lane / 2];
    if (lane % 2 == 0)
        prefetch((const uint8_t *)p.codes + (int64_t)o.n * s.code_stride, (unsigned)s.code_stride);
    else if (s.scale_stride)
        prefetch((const uint8_t *)p.scales + (int64_t)o.n * s.scale_stride, (unsigned)s.scale_stride);
}

// A lane a column has w x + bias of output n.
template <class W, int C>
__device__ float product_of(const struct cuda_fused_product &d, const struct cuda_fused_part &p, int n,
                            shared<char> memory)
{
    const struct cuda_fused_shape &s = shape_of(d);
    const float bias = p.bias ? load(p.bias + n) : 0;
    float sum[C] = {}, own = 0;
    W::template multiply<C>(sum, (const uint8_t *)p.codes + (int64_t)n * s.code_stride,
                            (const uint8_t *)p.scales + (int64_t)n * s.scale_stride, memory, C, s);
#pragma unroll
    for (int c = 0; c < C; c++) {
        const float total = warp_sum(sum[c]);
        if (lane_id() == c) own = total;
    }
    return p.bias ? own + bias : own;
}

// ahead(unit) is called in front of each of the warp's units: it brings what will be read later.
template <class W, int C, class A>
__device__ void walk(const struct cuda_fused_product &d, int rows, shared<char> memory, A ahead)
{
    const struct cuda_fused_shape &s = shape_of(d);
    const int units = unit_count(s);
    make_columns<W>(d, rows, C, memory);
    for (int unit = first_unit(); unit < units; unit += unit_step()) {
        ahead(unit);
        const struct output o = output_of(s, unit);
        const int64_t at = (int64_t)lane_id() * s.outputs[o.part] + o.n;
        const float base = d.base && lane_id() < rows ? load(d.base + at) : 0;
        float y = 0, gate = 0;
#pragma unroll 1
        for (int p = 0; p <= s.gated; p++) {
            gate = y;
            y = product_of<W, C>(d, d.part[o.part + p], o.n, memory);
        }
        if (s.gated) y = gated{s.kind}(gate, y);
        if (s.activated) y = activated{s.kind}(y, 0);
        y *= d.factor;
        if (d.cap > 0) y = capped{d.cap}(y, 0);
        if (d.base) y += base;
        if (lane_id() < rows) store(d.part[o.part].y + at, y);
    }
}

// Two blocks have room on a processor where rows are few: this launch's and the next one's.
template <class W, int COLUMNS>
__global__ void __launch_bounds__(THREADS, COLUMNS <= 2 ? 2 : 1) product_kernel(struct cuda_fused_product d)
{
    SHARED_DYNAMIC(char, memory);
    prefetch_unit(d, first_unit());
    wait_for_previous();
    let_next_begin();
    const int rows = (int)row_count(d.rows);
    const auto ahead = [&](int unit) { prefetch_unit(d, unit + unit_step()); };
    if (COLUMNS == 2 && rows == 1)
        walk<W, 1>(d, rows, memory, ahead);
    else if (rows)
        walk<W, COLUMNS>(d, rows, memory, ahead);
}

#ifndef __CUDACC_RTC__

// `weights`: W as C++ writes it
template <class W, int COLUMNS>
void launch_columns(struct cuda_stream *s, const char *file, const char *weights,
                    const struct cuda_fused_product *p, int blocks)
{
    const unsigned grid = (unsigned)(blocks < 1 ? 1 : blocks);
    const size_t bytes = (size_t)COLUMNS * W::column_bytes(p->shape.inputs);
    char kernel[80];
    snprintf(kernel, sizeof kernel, "fused::product_kernel<fused::%s, %d>", weights, COLUMNS);
    // What adds to its own result cannot be launched twice to measure it.
    struct jit *jit = p->base == p->part[0].y ? NULL : p->jit;
    jit_launch(jit, fused_form(file, kernel, &p->shape), s, [&](const struct cuda_kernel *made) {
        CUDA_LAUNCH_EARLY_MADE(made, (product_kernel<W, COLUMNS>), grid, THREADS, bytes, s, *p);
    });
}

template <class W>
void launch(struct cuda_stream *s, const char *file, const char *weights, const struct cuda_fused_product *p,
            int blocks)
{
    if (p->rows.most <= 2)
        launch_columns<W, 2>(s, file, weights, p, blocks);
    else
        launch_columns<W, FUSED_ROWS>(s, file, weights, p, blocks);
}

// Of quantized weights (cuda/fused_quantized.cu)
void launch_quantized(struct cuda_stream *s, const struct cuda_fused_product *p, int blocks);

#endif

} // namespace fused

#endif
