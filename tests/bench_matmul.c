// tests/bench_matmul.c -- the matrix multiplications beside the limits of the machine, measured in turn with
// them.
//
//   bench_matmul [threads [columns ...]]
//
// Many columns are held against the peak of the multiply-add that the kernel uses, up to 8 columns against
// the bandwidth of reading the same memory too. A pair is a slice of the limit and a slice of the kernel;
// printed are the median of the ratios of all pairs with its quartiles, and the median rates. Work is handed
// out in ranges of rows, as the engine does.
#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "ops/ops.h"

enum { PAIRS = 20, MAX_THREADS = 256, MAX_COLUMNS = 512, CHUNK = 1 << 20 };
static const size_t weights_size = (size_t)512 << 20; // far more than the caches hold
static const double slice_seconds = 0.06;

// What the threads of one slice share.
struct slice {
    int threads;
    int64_t units;    // handed out one at a time, cyclically
    int64_t per_pass; // units after which the work repeats
    atomic_llong next;
    void (*work)(const struct slice *s, int64_t unit, void *scratch);
    // what the units are
    const char *weights;
    const float *x;
    float *y;
    const struct matmul_kernel *kernel;
    enum dtype type;
    int64_t n, k, t, rows; // rows a unit
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((target("avx2"))) static void work_read(const struct slice *s, int64_t unit, void *scratch)
{
    const char *p = s->weights + (size_t)(unit % s->per_pass) * CHUNK;
    __m256i sum[4] = {_mm256_setzero_si256()};
    for (size_t i = 0; i < CHUNK; i += 128)
        for (int j = 0; j < 4; j++)
            sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256((const __m256i *)(p + i + 32 * j)));
    _mm256_store_si256(scratch,
                       _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3])));
}

// 12 independent chains of one instruction; 12 * 4096 of them a unit.
#define PEAK(name, isa, vector, zero, insn)                                                                \
    __attribute__((target(isa))) static void name(const struct slice *s, int64_t unit, void *scratch)      \
    {                                                                                                      \
        vector a[12], m = zero();                                                                          \
        (void)s, (void)unit, (void)scratch;                                                                \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = m;                                    \
        for (int k = 0; k < 4096; k++)                                                                     \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12;                                               \
                                          i++) __asm__ volatile(insn " %1, %1, %0" : "+v"(a[i]) : "v"(m)); \
    }
PEAK(peak_avx2, "avx2,fma", __m256, _mm256_setzero_ps, "vfmadd231ps")
PEAK(peak_avx512, "avx512f", __m512, _mm512_setzero_ps, "vfmadd231ps")
PEAK(peak_bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps, "vdpbf16ps")

static void work_matmul(const struct slice *s, int64_t unit, void *scratch)
{
    int64_t units = (s->n + s->rows - 1) / s->rows, matrix = unit / units % s->per_pass,
            first = unit % units * s->rows;
    size_t stride = dtype_row_bytes(s->type, s->k);
    struct matmul_args a = {.y = s->y,
                            .y_stride = (size_t)s->n,
                            .x = s->x,
                            .x_stride = (size_t)s->k,
                            .w = s->weights + (size_t)matrix * stride * (size_t)s->n,
                            .w_type = s->type,
                            .w_stride = stride,
                            .n_begin = first,
                            .n_end = first + s->rows < s->n ? first + s->rows : s->n,
                            .t_count = s->t,
                            .k_count = s->k,
                            .scratch = scratch};
    s->kernel->fwd(&a);
}

static void *slice_thread(void *arg)
{
    struct slice *s = arg;
    void *scratch = aligned_alloc(64, (s->kernel->scratch + 127) & ~(size_t)63);
    memset(scratch, 0, s->kernel->scratch);
    for (int64_t unit; (unit = atomic_fetch_add(&s->next, 1)) < s->units;) s->work(s, unit, scratch);
    free(scratch);
    return NULL;
}

static double slice_seconds_of(struct slice *s, int64_t units)
{
    pthread_t id[MAX_THREADS];
    s->units = units;
    atomic_store(&s->next, 0);
    double start = now();
    for (int i = 0; i < s->threads; i++) pthread_create(&id[i], NULL, slice_thread, s);
    for (int i = 0; i < s->threads; i++) pthread_join(id[i], NULL);
    return now() - start;
}

// Units that take about slice_seconds.
static int64_t slice_calibrate(struct slice *s)
{
    int64_t units = s->threads;
    double t;
    while ((t = slice_seconds_of(s, units)) < slice_seconds / 4) units *= 2;
    units = (int64_t)((double)units * slice_seconds / t);
    return units > s->threads ? units : s->threads;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void pairs(const char *limit_name, struct slice *limit, double limit_work, struct slice *s,
                  double work, const char *unit)
{
    double ratio[PAIRS], rate[PAIRS], limit_rate[PAIRS];
    int64_t limit_units = slice_calibrate(limit), units = slice_calibrate(s);
    for (int i = 0; i < PAIRS; i++) {
        double before = limit_work * (double)limit_units / slice_seconds_of(limit, limit_units);
        rate[i] = work * (double)units / slice_seconds_of(s, units);
        double after = limit_work * (double)limit_units / slice_seconds_of(limit, limit_units);
        limit_rate[i] = (before + after) / 2;
        ratio[i] = rate[i] / limit_rate[i];
    }
    qsort(ratio, PAIRS, sizeof *ratio, ascending);
    qsort(rate, PAIRS, sizeof *rate, ascending);
    qsort(limit_rate, PAIRS, sizeof *limit_rate, ascending);
    printf("  %5.1f%% [%5.1f %5.1f] of %s: %.1f of %.1f %s", 100 * ratio[PAIRS / 2], 100 * ratio[PAIRS / 4],
           100 * ratio[PAIRS * 3 / 4], limit_name, rate[PAIRS / 2] * 1e-9, limit_rate[PAIRS / 2] * 1e-9,
           unit);
    fflush(stdout);
}

static void bench(const struct slice *shared, enum isa isa, enum dtype type, int64_t n, int64_t k, int64_t t)
{
    struct kernels table = kernels_for(isa);
    const struct matmul_kernel *kernel = &table.matmul[type];
    struct slice s = *shared, limit = *shared;
    size_t matrix = dtype_row_bytes(type, k) * (size_t)n;
    s.work = work_matmul, s.kernel = kernel, s.type = type, s.n = n, s.k = k, s.t = t;
    s.per_pass = (int64_t)(weights_size / matrix);
    s.rows = n / (8 * s.threads) / kernel->unit * kernel->unit;
    if (s.rows < kernel->unit) s.rows = kernel->unit;
    limit.kernel = kernel;
    printf("%-12s %-4s N %5ld K %5ld T %3ld", isa_name(isa), dtype_traits[type].name, (long)n, (long)k,
           (long)t);
    double per_row = (double)n / (double)((n + s.rows - 1) / s.rows);
    if (t <= 16) {
        limit.work = work_read, limit.per_pass = (int64_t)(weights_size / CHUNK);
        pairs("reading", &limit, CHUNK, &s, per_row * (double)dtype_row_bytes(type, k), "GB/s");
    }
    if (t >= 4) {
        bool dots = kernel->x_type == DTYPE_BF16;
        limit.work = dots ? peak_bf16 : isa >= ISA_AVX512 ? peak_avx512 : peak_avx2;
        double flops = dots ? 64 : isa >= ISA_AVX512 ? 32 : 16;
        pairs("the peak", &limit, 12 * 4096 * flops, &s, 2 * per_row * (double)k * (double)t, "GFLOP/s");
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][2] = {{2048, 2048}, {8192, 2048}, {2048, 8192}};
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    static const enum isa tiers[] = {ISA_AVX512_BF16, ISA_AVX512, ISA_AVX2};
    static const int64_t most[] = {1, 4, 8, 32, 512};
    struct slice s = {.threads = argc > 1 ? atoi(argv[1]) : cpu_count()};
    char *weights = mmap(NULL, weights_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *x = calloc(MAX_COLUMNS * 8192, sizeof *x), *y = calloc(MAX_COLUMNS * 8192, sizeof *y);
    if (weights == MAP_FAILED || !x || !y || s.threads < 1 || s.threads > MAX_THREADS) return 1;
    memset(weights, 0x3c, weights_size);
    memset(x, 0x3c, MAX_COLUMNS * 8192 * sizeof *x);
    s.weights = weights, s.x = x, s.y = y;
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
        if (tiers[i] > isa_detect()) continue;
        for (size_t j = 0; j < sizeof types / sizeof *types; j++) {
            if (tiers[i] == ISA_AVX512_BF16 && types[j] != DTYPE_BF16) continue; // as in the tier below
            for (size_t m = 0; m < (argc > 2 ? (size_t)argc - 2 : sizeof most / sizeof *most); m++)
                for (size_t h = 0; h < sizeof shapes / sizeof *shapes; h++)
                    bench(&s, tiers[i], types[j], shapes[h][0], shapes[h][1],
                          argc > 2 ? atol(argv[m + 2]) : most[m]);
        }
    }
    return 0;
}
