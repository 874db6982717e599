// cuda/bnb.cu -- the types of bitsandbytes: embeddings, products of few columns, and bf16 for many.
//
// A lane takes EIGHT numbers of a row at a time: four bytes of codes, or eight, so that a warp reads 128 bytes or 256 that stand together, and
// likewise of the activations. The 16 values of a code of four bits stand in shared memory, each in a bank of its own.
#include "cuda/bnb.h"
#include "cuda/groups.h"

extern "C" {
#include "quant/quant.h"
}

constexpr int THREADS = 128, WARPS = THREADS / WARP_LANES, EIGHT = 8, IN_BLOCK = QUANT_BNB / EIGHT;

struct bnb_values {
    float of[16];
};

struct decode_4bit {
    __device__ static void decode(float (&x)[EIGHT], const uint8_t *codes, const uint8_t *scales,
                                  int64_t eight, shared<float> value)
    {
        const uint32_t word = load_stream((const uint32_t *)codes + eight);
        const float absmax = load((const float *)scales + eight / IN_BLOCK);
        for (int i = 0; i < EIGHT; i++)
            x[i] = value[(int)(word >> (i / 2 * 8 + (i % 2 ? 0 : 4)) & 15)] * absmax;
    }
};

// Of a block: absmax, middle, four columns, their weights.
struct decode_8bit {
    __device__ static void decode(float (&x)[EIGHT], const uint8_t *codes, const uint8_t *scales,
                                  int64_t eight, shared<float>)
    {
        enum { REST = 20, COLUMNS = 8, OUTLIERS = 12 };
        const vec<int8_t, EIGHT> code = load_stream((const vec<int8_t, EIGHT> *)codes + eight);
        const uint8_t *rest = scales + eight / IN_BLOCK * REST;
        const float absmax = load((const float *)rest), middle = load((const float *)rest + 1);
        const uint32_t columns = load((const uint32_t *)(rest + COLUMNS));
        for (int i = 0; i < EIGHT; i++) x[i] = (float)code.x[i] * absmax * QUANT_INT8_STEP + middle;
        if (columns == ~0u) return;
        for (int o = 0; o < QUANT_OUTLIERS; o++) {
            const int at = (int)(columns >> 8 * o & 255) - (int)(eight % IN_BLOCK) * EIGHT;
            const float number = to_f32(load((const f16 *)(rest + OUTLIERS) + o));
            for (int i = 0; i < EIGHT; i++) x[i] = i == at ? number : x[i];
        }
    }
};

__device__ static void put_values(shared<float> value, const struct bnb_values &values)
{
    if (threadIdx.x < 16) value[threadIdx.x] = values.of[threadIdx.x];
    __syncthreads();
}

// ---- numbers ----------------------------------------------------------------------------------------------

// A block a row of y: row tokens[i] of w, or row i of matrix blockIdx.y.
template <class F, class T>
__global__ void __launch_bounds__(THREADS)
    rows_kernel(T *y, const int32_t *tokens, struct cuda_matrix w, struct cuda_rows rows,
                struct cuda_groups groups, struct bnb_values values)
{
    SHARED(float, value, 16);
    const int64_t to = blockIdx.x + blockIdx.y * w.outputs;
    if ((int64_t)blockIdx.x >= row_count(rows)) return;
    if (groups.first && load(groups.first + blockIdx.y) == load(groups.first + blockIdx.y + 1)) return;
    put_values(value, values);
    const int64_t from = tokens ? load(tokens + to) : to;
    for (int64_t i = threadIdx.x; i < w.inputs / EIGHT; i += THREADS) {
        float x[EIGHT];
        F::decode(x, (const uint8_t *)w.codes + from * (int64_t)w.code_stride,
                  (const uint8_t *)w.scales + from * (int64_t)w.scale_stride, i, value);
        constexpr int WIDE = 16 / sizeof(T);
        for (int j = 0; j < EIGHT; j += WIDE) {
            vec<T, WIDE> piece;
            for (int k = 0; k < WIDE; k++) from_f32(&piece.x[k], x[j + k]);
            store((vec<T, WIDE> *)(y + to * w.inputs + i * EIGHT + j), piece);
        }
    }
}

static struct bnb_values values_of(enum dtype type)
{
    struct bnb_values v = {};
    for (int i = 0; i < 16; i++) v.of[i] = type == DTYPE_NF4 ? quant_nf4_values[i] : quant_bnb_fp4_values[i];
    return v;
}

static bool has_4bit(enum dtype type)
{
    return type == DTYPE_NF4 || type == DTYPE_FP4;
}

template <class T>
static void launch_rows(struct cuda_stream *s, T *y, const int32_t *tokens, const struct cuda_matrix *w,
                        struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)rows.most, (unsigned)groups.count);
    if (!rows.most) return;
    if (has_4bit(w->type))
        CUDA_LAUNCH((rows_kernel<decode_4bit, T>), grid, THREADS, 0, s, y, tokens, *w, rows, groups,
                    values_of(w->type));
    else
        CUDA_LAUNCH((rows_kernel<decode_8bit, T>), grid, THREADS, 0, s, y, tokens, *w, rows, groups,
                    values_of(w->type));
}

void bnb_embed(struct cuda_stream *s, float *y, const int32_t *tokens, const struct cuda_matrix *w,
               struct cuda_rows rows)
{
    launch_rows(s, y, tokens, w, rows, {1, NULL});
}

void bnb_dequantize(struct cuda_stream *s, void *y, const struct cuda_matrix *w, struct cuda_groups groups)
{
    launch_rows(s, (bf16 *)y, NULL, w, {NULL, w->outputs}, groups);
}

// ---- products of few columns ------------------------------------------------------------------------------

// Columns first .. first + COLUMNS of an output; in the place of those that are not there stands the last. The order of summation does not depend
// on how many there are.
template <class F, int COLUMNS>
__device__ static void multiply_columns(float *y, const struct group &p, const float *x, int64_t first,
                                        const uint8_t *codes, const uint8_t *scales, int64_t eights,
                                        shared<float> value)
{
    const int64_t count = p.rows - first < COLUMNS ? p.rows - first : COLUMNS;
    const float *column[COLUMNS];
    float sum[COLUMNS] = {};
    for (int t = 0; t < COLUMNS; t++)
        column[t] = x + p.x + (first + (t < count ? t : count - 1)) * p.x_stride;
#pragma unroll 4
    for (int64_t i = lane_id(); i < eights; i += WARP_LANES) {
        float weight[EIGHT];
        F::decode(weight, codes, scales, i, value);
#pragma unroll
        for (int t = 0; t < COLUMNS; t++)
            for (int half = 0; half < 2; half++) {
                const vec<float, 4> four = load((const vec<float, 4> *)(column[t] + i * EIGHT) + half);
                for (int j = 0; j < 4; j++) sum[t] += weight[half * 4 + j] * four.x[j];
            }
    }
    for (int t = 0; t < COLUMNS; t++) {
        const float total = warp_sum(sum[t]);
        if (t < count && lane_id() == 0) store(y + p.y + (first + t) * p.y_stride, total);
    }
}

template <class F, int COLUMNS>
__global__ void __launch_bounds__(THREADS)
    matmul_bnb_kernel(float *y, const float *x, struct cuda_matrix w, struct cuda_rows rows,
                      struct cuda_groups groups, struct bnb_values values)
{
    SHARED(float, value, 16);
    const struct group p = group_of(w, rows, groups);
    const int64_t n = (int64_t)blockIdx.x * WARPS + warp_id();
    put_values(value, values);
    if (n >= w.outputs) return;
    const uint8_t *codes = p.codes + n * (int64_t)w.code_stride;
    const uint8_t *scales = p.scales + n * (int64_t)w.scale_stride;
    for (int64_t first = (int64_t)blockIdx.y * COLUMNS; first < p.rows; first += gridDim.y * COLUMNS) {
        if (p.rows - first == 1)
            multiply_columns<F, 1>(y + n, p, x, first, codes, scales, w.inputs / EIGHT, value);
        else
            multiply_columns<F, COLUMNS>(y + n, p, x, first, codes, scales, w.inputs / EIGHT, value);
    }
}

template <class F>
static void launch(struct cuda_stream *s, float *y, const float *x, const struct cuda_matrix *w,
                   struct cuda_rows rows, struct cuda_groups groups)
{
    const dim3 grid((unsigned)ceil_div(w->outputs, (int64_t)WARPS), tiles_for(rows, groups, 8),
                    (unsigned)groups.count);
    if (rows.most <= 2)
        CUDA_LAUNCH((matmul_bnb_kernel<F, 2>), grid, THREADS, 0, s, y, x, *w, rows, groups,
                    values_of(w->type));
    else
        CUDA_LAUNCH((matmul_bnb_kernel<F, 8>), grid, THREADS, 0, s, y, x, *w, rows, groups,
                    values_of(w->type));
}

void bnb_matmul(struct cuda_stream *s, float *y, const float *x, const struct cuda_matrix *w,
                struct cuda_rows rows, struct cuda_groups groups)
{
    if (has_4bit(w->type))
        launch<decode_4bit>(s, y, x, w, rows, groups);
    else
        launch<decode_8bit>(s, y, x, w, rows, groups);
}
