// cuda/elementwise.cu -- number by number: sums, multiples, activations alone and gated, and their gradients (ops/add.c and ops/glu.c
// have the formulas).
//
// Bound by memory: a thread takes four numbers by one access of 16 bytes where the arrays stand on such boundaries, else one.
#include "cuda/activations.h"
#include "cuda/narrow.h"

enum { THREADS = 256 };

// What becomes of a number x, or of a pair. Those of one number ignore the other.
struct sum {
    __device__ float operator()(float x, float other) const
    {
        return x + other;
    }
};

struct multiple {
    float factor;
    __device__ float operator()(float x, float) const
    {
        return x * factor;
    }
};

// Gradients: of a number x whose output's is dy; the formulas are in ops/glu.c, too.
struct activated_dx {
    enum activation kind;
    __device__ float operator()(float dy, float x) const
    {
        switch (kind) {
        case ACT_SILU: {
            const float s = 1 / (1 + expf(-x));
            return dy * (s + x * s * (1 - s));
        }
        case ACT_GELU:
            return dy * (erfcf(-x * 0.70710678f) / 2 + x * expf(-x * x / 2) * 0.39894228f); // 1 / sqrt(2 pi)
        case ACT_GELU_TANH: {
            const float s = 1 / (1 + expf(-2 * (float)GELU_SCALE * (x + (float)GELU_CUBE * x * x * x)));
            const float slope = (float)GELU_SCALE * (1 + 3 * (float)GELU_CUBE * x * x);
            return dy * (s + 2 * x * s * (1 - s) * slope);
        }
        case ACT_RELU: return x < 0 ? 0 : dy;
        default: return x < 0 ? 0 : dy * 2 * x; // ACT_RELU_SQUARED
        }
    }
};

struct capped_dx {
    float cap;
    __device__ float operator()(float dy, float y) const
    {
        const float t = y / cap;
        return dy * (1 - t * t);
    }
};

// y[i] = f(a[i], b[i]); b may be NULL
template <int N, class T, class F>
__global__ void map_kernel(T *y, const float *a, const float *b, struct cuda_rows rows, int64_t cols, F f)
{
    const int64_t count = row_count(rows) * cols;
    const int64_t begin = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (N > 1 && begin + N <= count) {
        vec<float, N> u = load((const vec<float, N> *)(a + begin)), v = {};
        if (b) v = load((const vec<float, N> *)(b + begin));
        vec<T, N> to;
        for (int i = 0; i < N; i++) from_f32(&to.x[i], f(u.x[i], v.x[i]));
        store((vec<T, N> *)(y + begin), to);
        return;
    }
    for (int64_t i = begin; i < begin + N && i < count; i++) {
        T to;
        from_f32(&to, f(load(a + i), b ? load(b + i) : 0));
        store(y + i, to);
    }
}

template <class T, class F>
static void map(struct cuda_stream *s, T *y, const float *a, const float *b, struct cuda_rows rows,
                int64_t cols, F f)
{
    const int64_t count = rows.most * cols;
    if (!count) return;
    if (aligned_to(y, 4 * sizeof(T)) && aligned_to(a, 16) && aligned_to(b, 16))
        CUDA_LAUNCH((map_kernel<4, T, F>), blocks_for(count, 4 * THREADS), THREADS, 0, s, y, a, b, rows, cols,
                    f);
    else
        CUDA_LAUNCH((map_kernel<1, T, F>), blocks_for(count, THREADS), THREADS, 0, s, y, a, b, rows, cols, f);
}

void cuda_add(struct cuda_stream *s, float *y, const float *a, const float *b, struct cuda_rows rows,
              int64_t cols)
{
    map(s, y, a, b, rows, cols, sum{});
}

void cuda_scale(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                double factor)
{
    map(s, y, x, NULL, rows, cols, multiple{(float)factor});
}

void cuda_softcap(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                  double cap)
{
    map(s, y, x, NULL, rows, cols, capped{(float)cap});
}

// Likewise to y of a type.
template <class F>
static void map_to(struct cuda_stream *s, void *y, enum dtype type, const float *a, const float *b,
                   struct cuda_rows rows, int64_t cols, F f)
{
    if (type == DTYPE_BF16)
        map(s, (bf16 *)y, a, b, rows, cols, f);
    else if (type == DTYPE_F16)
        map(s, (f16 *)y, a, b, rows, cols, f);
    else
        map(s, (float *)y, a, b, rows, cols, f);
}

void cuda_activation_to(struct cuda_stream *s, void *y, enum dtype type, const float *x,
                        struct cuda_rows rows, int64_t cols, enum activation kind)
{
    map_to(s, y, type, x, NULL, rows, cols, activated{kind});
}

void cuda_activation(struct cuda_stream *s, float *y, const float *x, struct cuda_rows rows, int64_t cols,
                     enum activation kind)
{
    map(s, y, x, NULL, rows, cols, activated{kind});
}

void cuda_glu_to(struct cuda_stream *s, void *y, enum dtype type, const float *gate, const float *up,
                 struct cuda_rows rows, int64_t cols, enum activation kind)
{
    map_to(s, y, type, gate, up, rows, cols, gated{kind});
}

void cuda_glu(struct cuda_stream *s, float *y, const float *gate, const float *up, struct cuda_rows rows,
              int64_t cols, enum activation kind)
{
    map(s, y, gate, up, rows, cols, gated{kind});
}

void cuda_activation_dx(struct cuda_stream *s, void *dx, enum dtype type, const float *dy, const float *x,
                        struct cuda_rows rows, int64_t cols, enum activation kind)
{
    map_to(s, dx, type, dy, x, rows, cols, activated_dx{kind});
}

void cuda_softcap_dx(struct cuda_stream *s, float *dx, const float *dy, const float *y, struct cuda_rows rows,
                     int64_t cols, double cap)
{
    map(s, dx, dy, y, rows, cols, capped_dx{(float)cap});
}

// dx (rows, 2 cols). Where a clamp holds, nothing flows back.
static __global__ void glu_dx_kernel(float *dx, const float *dy, const float *gate, const float *up,
                                     struct cuda_rows rows, int64_t cols, enum activation kind)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= row_count(rows) * cols) return;
    const float d = load(dy + i), g = load(gate + i), u = load(up + i);
    float dgate = activated_dx{kind}(d * u, g), dup = d * activated{kind}(g, 0);
    if (kind == ACT_SWIGLU_CLAMPED) {
        const float limit = SWIGLU_LIMIT, alpha = (float)SWIGLU_ALPHA, low = g > limit ? limit : g;
        const float s = 1 / (1 + expf(-alpha * low)), v = u > limit ? limit : u < -limit ? -limit : u;
        dgate = g > limit ? 0 : d * (v + 1) * (s + alpha * low * s * (1 - s));
        dup = u > limit || u < -limit ? 0 : d * low * s;
    }
    float *to = dx + i / cols * 2 * cols + i % cols;
    store(to, dgate);
    store(to + cols, dup);
}

void cuda_glu_dx(struct cuda_stream *s, float *dx, const float *dy, const float *gate, const float *up,
                 struct cuda_rows rows, int64_t cols, enum activation kind)
{
    if (rows.most > 0)
        CUDA_LAUNCH(glu_dx_kernel, blocks_for(rows.most * cols, THREADS), THREADS, 0, s, dx, dy, gate, up,
                    rows, cols, kind);
}

// y[r][c] = x[r][c] + b[c]
static __global__ void bias_kernel(float *y, const float *x, const float *b, struct cuda_rows rows,
                                   int64_t cols)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < row_count(rows) * cols) store(y + i, load(x + i) + load(b + i % cols));
}

void cuda_bias(struct cuda_stream *s, float *y, const float *x, const float *b, struct cuda_rows rows,
               int64_t cols)
{
    if (rows.most > 0)
        CUDA_LAUNCH(bias_kernel, blocks_for(rows.most * cols, THREADS), THREADS, 0, s, y, x, b, rows, cols);
}
