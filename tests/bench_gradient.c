// tests/bench_gradient.c -- the kernels of training beside the limits of the machine, measured in turn with them.
//
//   bench_gradient [part of a name]
//
// One thread. Attention is held against the multiply-adds of f32, all else against a loop that reads and writes the same arrays and does
// next to nothing with them; the arrays are far larger than the caches. A triple is a slice of the limit, one of the reference and one of
// the kernel; printed are the medians of the kernel's share of the limit, with quartiles, and of its speed over the reference's.
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops/ops.h"

enum { TRIPLES = 9, COLS = 768, VOCAB = 50257, ARRAYS = 5, ROWS = 64 };
static const int64_t numbers = (int64_t)1 << 24; // of an array: 64 MB
static const double slice_seconds = 0.02;

struct bench {
    struct kernels kernels;
    float *array[ARRAYS];
    float *weights; // (2 COLS) and their gradients behind
    void *scratch;
    int64_t at; // numbers of each array that were taken, cyclically
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Where the next `count` numbers begin.
static int64_t next(struct bench *s, int64_t count)
{
    if (s->at + count > numbers) s->at = 0;
    int64_t at = s->at;
    s->at += count;
    return at;
}

// ---- the limits: each returns the numbers it took, of each of its arrays ------------------------------------

enum { CHUNK = 1 << 14 };

// From the first `reads` arrays to the `writes` behind them; over the first array if there are none.
static inline __attribute__((always_inline, target("avx2"))) int64_t stream(struct bench *s, int reads,
                                                                            int writes)
{
    int64_t at = next(s, CHUNK);
    const __m256i one = _mm256_set1_epi32(1);
    for (int64_t i = at; i < at + CHUNK; i += 8) {
        __m256i x = _mm256_loadu_si256((void *)(s->array[0] + i));
        for (int r = 1; r < reads; r++)
            x = _mm256_xor_si256(x, _mm256_loadu_si256((void *)(s->array[r] + i)));
        if (!writes) _mm256_storeu_si256((void *)(s->array[0] + i), _mm256_xor_si256(x, one));
        for (int w = 0; w < writes; w++) _mm256_storeu_si256((void *)(s->array[reads + w] + i), x);
    }
    return CHUNK;
}

__attribute__((target("avx2"))) static int64_t limit_in_place(struct bench *s)
{
    return stream(s, 1, 0);
}

__attribute__((target("avx2"))) static int64_t limit_copy(struct bench *s)
{
    return stream(s, 1, 1);
}

__attribute__((target("avx2"))) static int64_t limit_two(struct bench *s)
{
    return stream(s, 2, 1);
}

__attribute__((target("avx2"))) static int64_t limit_three(struct bench *s)
{
    return stream(s, 3, 2);
}

__attribute__((target("avx2"))) static int64_t limit_read(struct bench *s)
{
    __m256i x[4] = {_mm256_setzero_si256()};
    int64_t at = next(s, CHUNK);
    for (int64_t i = at; i < at + CHUNK; i += 32)
        for (int j = 0; j < 4; j++)
            x[j] = _mm256_xor_si256(x[j], _mm256_loadu_si256((void *)(s->array[0] + i + 8 * j)));
    x[0] = _mm256_and_si256(_mm256_xor_si256(_mm256_xor_si256(x[0], x[1]), _mm256_xor_si256(x[2], x[3])),
                            _mm256_set1_epi32(1));
    _mm256_storeu_si256((void *)(s->weights + 3 * COLS), x[0]);
    return CHUNK;
}

// 12 independent chains of multiply-adds of vectors.
#define PEAK(name, isa, vector, zero, lanes)                                        \
    __attribute__((target(isa))) static int64_t name(struct bench *s)               \
    {                                                                               \
        vector a[12], m = zero();                                                   \
        (void)s;                                                                    \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = m;             \
        for (int k = 0; k < 4096; k++)                                              \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) __asm__ volatile( \
                "vfmadd231ps %1, %1, %0" : "+v"(a[i]) : "v"(m));                    \
        return 4096 * 12 * lanes;                                                   \
    }
PEAK(peak_avx2, "avx2,fma", __m256, _mm256_setzero_ps, 8)
PEAK(peak_avx512, "avx512f", __m512, _mm512_setzero_ps, 16)

// ---- the kernels ------------------------------------------------------------------------------------------

static int64_t work_cross_entropy(struct bench *s)
{
    float *x = s->array[0] + next(s, VOCAB);
    s->weights[0] += (float)s->kernels.cross_entropy(x, x, 4711, VOCAB, 1e-3);
    return VOCAB;
}

static int64_t work_distill(struct bench *s)
{
    int64_t at = next(s, VOCAB);
    float *x = s->array[0] + at;
    s->weights[0] += (float)s->kernels.distill(x, x, s->array[1] + at, 4711, VOCAB, 0.5, 1e-3);
    return VOCAB;
}

static int64_t work_dropout(struct bench *s)
{
    int64_t at = next(s, CHUNK);
    s->kernels.dropout_fwd(s->array[1] + at, s->array[0] + at, CHUNK, 1, 2, (uint64_t)at, 1u << 29, 1.1);
    return CHUNK;
}

static int64_t work_rmsnorm(struct bench *s)
{
    int64_t at = next(s, ROWS * COLS);
    s->kernels.rmsnorm_dx(s->array[2] + at, s->weights + 2 * COLS, s->array[0] + at, s->array[1] + at,
                          s->weights, ROWS, COLS, 1e-5, false);
    return ROWS * COLS;
}

static int64_t work_layernorm(struct bench *s)
{
    int64_t at = next(s, ROWS * COLS);
    s->kernels.layernorm_dx(s->array[2] + at, s->weights + 2 * COLS, s->weights + 3 * COLS, s->array[0] + at,
                            s->array[1] + at, s->weights, ROWS, COLS, 1e-5, false);
    return ROWS * COLS;
}

static int64_t work_gelu_tanh(struct bench *s)
{
    int64_t at = next(s, CHUNK);
    s->kernels.activation_dx(s->array[2] + at, s->array[0] + at, s->array[1] + at, CHUNK, ACT_GELU_TANH);
    return CHUNK;
}

static int64_t work_swiglu(struct bench *s)
{
    int64_t at = next(s, CHUNK);
    s->kernels.glu_dx(s->array[3] + at, s->array[4] + at, s->array[0] + at, s->array[1] + at,
                      s->array[2] + at, CHUNK, ACT_SILU);
    return CHUNK;
}

// A unit: 64 columns of all rows.
static int64_t work_sum_rows(struct bench *s)
{
    int64_t at = next(s, 1024 * COLS) / COLS * COLS;
    for (int64_t c = 0; c < COLS; c += 64)
        s->kernels.sum_rows(s->weights + c, s->array[0] + at + c, 1024, 64, COLS, false);
    return 1024 * COLS;
}

static int64_t work_transpose(struct bench *s, enum dtype type)
{
    // As a unit takes it: 64 columns of 1024 rows of 768.
    int64_t at = next(s, COLS * 1024) / (COLS * 1024) * (COLS * 1024);
    for (int64_t c = 0; c < COLS; c += 64)
        s->kernels.transpose_fwd(s->array[1] + at + c * 1024, 1024, type, s->array[0] + at + c, COLS, 1024,
                                 64);
    return COLS * 1024;
}

static int64_t work_transpose_f32(struct bench *s)
{
    return work_transpose(s, DTYPE_F32);
}

static int64_t work_transpose_bf16(struct bench *s)
{
    return work_transpose(s, DTYPE_BF16);
}

// One head after another of a layer of GPT-2's shape, 12 heads of 64: its five products, of the keys that a row sees.
static int64_t work_attention(struct bench *s, int64_t rows)
{
    enum { HEADS = COLS / 64 };
    int32_t head = (int32_t)(s->at++ % HEADS);
    s->kernels.attention_dx(&(struct attention_dx_args){.dq = s->array[4],
                                                        .dk = s->array[4] + COLS,
                                                        .dv = s->array[4] + 2 * COLS,
                                                        .q = s->array[0],
                                                        .k = s->array[0] + COLS,
                                                        .v = s->array[0] + 2 * COLS,
                                                        .y = s->array[1],
                                                        .dy = s->array[2],
                                                        .lse = s->array[3],
                                                        .dx_stride = 3 * COLS,
                                                        .q_stride = 3 * COLS,
                                                        .k_stride = 3 * COLS,
                                                        .v_stride = 3 * COLS,
                                                        .y_stride = COLS,
                                                        .lse_stride = HEADS,
                                                        .rows = rows,
                                                        .head_begin = head,
                                                        .head_count = 1,
                                                        .kv_head = head,
                                                        .head_dim = 64,
                                                        .value_dim = 64,
                                                        .scale = 1e-3f,
                                                        .scratch = s->scratch});
    return rows * (rows + 1) / 2 * 5 * 64;
}

static int64_t work_attention_64(struct bench *s)
{
    return work_attention(s, 64);
}

static int64_t work_attention_1024(struct bench *s)
{
    return work_attention(s, 1024);
}

static const struct {
    const char *name;
    int64_t (*limit)(struct bench *s), (*work)(struct bench *s);
} benches[] = {
    // limit NULL: the multiply-adds of the tier
    {"cross_entropy, in place", limit_in_place, work_cross_entropy},
    {"distill, in place", limit_in_place, work_distill},
    {"attention, 64 rows", NULL, work_attention_64},
    {"attention, 1024 rows", NULL, work_attention_1024},
    {"dropout", limit_copy, work_dropout},
    {"rmsnorm", limit_two, work_rmsnorm},
    {"layernorm", limit_two, work_layernorm},
    {"gelu by tanh", limit_two, work_gelu_tanh},
    {"swiglu", limit_three, work_swiglu},
    {"sum of rows", limit_read, work_sum_rows},
    {"transpose to f32", limit_copy, work_transpose_f32},
    {"transpose to bf16", limit_copy, work_transpose_bf16},
};

// ---- measuring --------------------------------------------------------------------------------------------

// Numbers a second, over a slice.
static double rate(struct bench *s, int64_t (*work)(struct bench *s))
{
    double begin = now(), end;
    int64_t count = 0;
    do count += work(s);
    while ((end = now()) - begin < slice_seconds);
    return (double)count / (end - begin);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench(const char *name, struct bench *s, enum isa isa, int64_t (*limit)(struct bench *),
                  int64_t (*work)(struct bench *))
{
    double share[TRIPLES], gain[TRIPLES];
    const struct kernels reference = kernels_for(ISA_REF), fast = kernels_for(isa);
    for (int i = 0; i < TRIPLES; i++) {
        double most = rate(s, limit);
        s->kernels = fast;
        double found = rate(s, work);
        s->kernels = reference;
        gain[i] = found / rate(s, work);
        share[i] = 2 * found / (most + rate(s, limit));
    }
    qsort(share, TRIPLES, sizeof *share, ascending);
    qsort(gain, TRIPLES, sizeof *gain, ascending);
    printf("%-24s %-12s %5.1f%% [%5.1f %5.1f] of the limit, %5.2f times the reference\n", name, isa_name(isa),
           100 * share[TRIPLES / 2], 100 * share[TRIPLES / 4], 100 * share[TRIPLES * 3 / 4],
           gain[TRIPLES / 2]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const enum isa tiers[] = {ISA_AVX2, ISA_AVX512};
    struct bench s = {.at = 0};
    for (int i = 0; i < ARRAYS; i++) {
        s.array[i] = malloc((size_t)numbers * sizeof(float));
        if (!s.array[i]) return 1;
        for (int64_t j = 0; j < numbers; j++) s.array[i][j] = (float)((j * 7919 + i) % 1009) * 1e-2f - 5;
    }
    s.weights = calloc(4 * COLS, sizeof *s.weights);
    s.scratch = aligned_alloc(64, (size_t)1 << 22);
    if (!s.weights || !s.scratch) return 1;
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        for (size_t t = 0; t < sizeof tiers / sizeof *tiers && tiers[t] <= isa_detect(); t++)
            if (argc < 2 || strstr(benches[i].name, argv[1]))
                bench(benches[i].name, &s, tiers[t],
                      benches[i].limit         ? benches[i].limit
                      : tiers[t] >= ISA_AVX512 ? peak_avx512
                                               : peak_avx2,
                      benches[i].work);
    return 0;
}
