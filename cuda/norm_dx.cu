// cuda/norm_dx.cu -- the gradients of RMSNorm and LayerNorm (ops/rmsnorm.c and ops/layernorm.c have the formulas).
//
//     n = (x - m) r,  g = dy w:   dx = r (g - mean(g) - n mean(g n)),   dw = sum over rows of dy n,   db = sum of dy      (RMSNorm: m = 0)
//
// A first launch takes a group a block and leaves m and r; a second adds up dw and db in parts of GRADIENT_ROWS rows, a thread a column,
// rows in order. The parts are added up by cuda_sum_rows().
#include "cuda/device.h"
#include "ops/gradient.h"

enum { SMALL = 32, LARGE = 256, SMALL_COLUMNS = 512 };

template <bool CENTRED> __global__ void norm_dx_kernel(struct cuda_norm_dx n)
{
    SHARED(float, part, LARGE / WARP_LANES);
    const int64_t at = blockIdx.x, count = n.group, step = blockDim.x;
    if (at >= row_count(n.rows) * n.groups) return;
    const float *x = n.x + at * count, *dy = n.dy + at * count, *w = n.w + at % n.weights * count;
    float mean = 0, squares = 0, g_sum = 0, gn_sum = 0;
    if (CENTRED) {
        for (int64_t i = threadIdx.x; i < count; i += step) mean += load(x + i);
        mean = block_sum(mean, part) / (float)count;
    }
    for (int64_t i = threadIdx.x; i < count; i += step) {
        const float away = load(x + i) - mean;
        squares += away * away;
    }
    const float r = 1 / sqrtf(block_sum(squares, part) / (float)count + (float)n.eps);
    for (int64_t i = threadIdx.x; i < count; i += step) {
        const float g = load(dy + i) * load(w + i);
        g_sum += g;
        gn_sum += g * ((load(x + i) - mean) * r);
    }
    const float mean_g = CENTRED ? block_sum(g_sum, part) / (float)count : 0;
    const float mean_gn = block_sum(gn_sum, part) / (float)count;
    const bool based = has_base(n.base);
    for (int64_t i = threadIdx.x; i < count; i += step) {
        const float own = (load(x + i) - mean) * r;
        const float d = r * (load(dy + i) * load(w + i) - mean_g - own * mean_gn);
        store(n.dx + at * count + i, based ? load(n.base.from + at * count + i) + d : d);
    }
    if (n.parts && threadIdx.x == 0) store(n.stats + 2 * at, mean), store(n.stats + 2 * at + 1, r);
}

// Column c of the weights, part blockIdx.y of the rows. A group of columns takes part where the weights are its own.
static __global__ void norm_dw_kernel(struct cuda_norm_dx n)
{
    const int64_t c = (int64_t)blockIdx.x * LARGE + threadIdx.x, columns = n.weights * n.group;
    const int64_t begin = (int64_t)blockIdx.y * GRADIENT_ROWS, rows = row_count(n.rows);
    if (c >= columns || begin >= rows) return;
    const int64_t end = begin + GRADIENT_ROWS < rows ? begin + GRADIENT_ROWS : rows;
    float dw = 0, db = 0;
    for (int64_t row = begin; row < end; row++)
        for (int64_t g = c / n.group; g < n.groups; g += n.weights) {
            const int64_t group = row * n.groups + g, at = group * n.group + c % n.group;
            const float dy = load(n.dy + at);
            dw += dy * ((load(n.x + at) - load(n.stats + 2 * group)) * load(n.stats + 2 * group + 1));
            db += dy;
        }
    float *to = n.parts + (int64_t)blockIdx.y * (n.shifted ? 2 * columns : columns) + c;
    store(to, dw);
    if (n.shifted) store(to + columns, db);
}

void cuda_norm_dx(struct cuda_stream *s, const struct cuda_norm_dx *n)
{
    const int64_t groups = n->rows.most * n->groups;
    const int threads = n->group <= SMALL_COLUMNS ? SMALL : LARGE;
    if (!groups) return;
    if (n->centred)
        CUDA_LAUNCH(norm_dx_kernel<true>, blocks_for(groups, 1), threads, 0, s, *n);
    else
        CUDA_LAUNCH(norm_dx_kernel<false>, blocks_for(groups, 1), threads, 0, s, *n);
    if (!n->parts) return;
    const dim3 grid((unsigned)ceil_div(n->weights * n->group, (int64_t)LARGE),
                    (unsigned)ceil_div(n->rows.most, (int64_t)GRADIENT_ROWS));
    CUDA_LAUNCH(norm_dw_kernel, grid, LARGE, 0, s, *n);
}
