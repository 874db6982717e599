// cuda/rope.cu -- rotary positions: the table of angles, and the rotation by it (ops/rope.c).
//
// Angles are worked out in double, once a step for all layers: (rows, pairs) numbers.
#include "cuda/device.h"

enum { THREADS = 256 };

static __global__ void rope_table_kernel(float *table, const int32_t *pos, const double *freq,
                                         struct cuda_rows rows, int32_t pairs, double magnitude, bool inverse)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(rows) * pairs) return;
    const double angle = load(pos + i / pairs) * load(freq + i % pairs);
    const float sine = (float)(sin(angle) * magnitude);
    const vec<float, 2> turn = {{(float)(cos(angle) * magnitude), inverse ? -sine : sine}};
    store((vec<float, 2> *)table + i, turn);
}

void cuda_rope_table(struct cuda_stream *s, float *table, const int32_t *pos, const double *freq,
                     struct cuda_rows rows, int32_t pairs, double magnitude, bool inverse)
{
    if (rows.most > 0)
        CUDA_LAUNCH(rope_table_kernel, blocks_for(rows.most * pairs, THREADS), THREADS, 0, s, table, pos,
                    freq, rows, pairs, magnitude, inverse);
}

// A thread turns a pair, or copies a number behind the pairs. x and y: (rows, heads, head_dim); y may be x.
static __global__ void rope_kernel(float *y, const float *x, const float *table, struct cuda_rows rows,
                                   int32_t heads, int32_t head_dim, int32_t pairs, enum rope_pairing pairing)
{
    const int32_t units = head_dim - pairs; // of a head
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, head = i / units;
    if (head >= row_count(rows) * heads) return;
    const int32_t unit = (int32_t)(i % units);
    const int64_t at = head * head_dim;
    if (unit >= pairs) {
        if (y != x) store(y + at + pairs + unit, load(x + at + pairs + unit));
        return;
    }
    const int32_t first = pairing == ROPE_ADJACENT ? 2 * unit : unit;
    const int32_t second = pairing == ROPE_ADJACENT ? first + 1 : unit + pairs;
    const vec<float, 2> turn = load((const vec<float, 2> *)table + head / heads * pairs + unit);
    const float x0 = load(x + at + first), x1 = load(x + at + second);
    store(y + at + first, x0 * turn.x[0] - x1 * turn.x[1]);
    store(y + at + second, x1 * turn.x[0] + x0 * turn.x[1]);
}

void cuda_rope(struct cuda_stream *s, float *y, const float *x, const float *table, struct cuda_rows rows,
               int32_t heads, int32_t head_dim, int32_t pairs, enum rope_pairing pairing)
{
    const int64_t units = rows.most * heads * (head_dim - pairs);
    if (units)
        CUDA_LAUNCH(rope_kernel, blocks_for(units, THREADS), THREADS, 0, s, y, x, table, rows, heads,
                    head_dim, pairs, pairing);
}
