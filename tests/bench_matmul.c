// tests/bench_matmul.c -- the matrix multiplications beside the limits of the machine, measured in turn with
// them.
//
//   bench_matmul [-t THREADS] [ISA ...] [TYPE ...] [COLUMNS ...]
//
// Many columns are held against the peak of the multiply-add that the kernel uses, up to 16 columns against
// the bandwidth of reading the same memory too. All bytes of weights and activations are the same: kernels take
// no shortcuts for numbers. A pair is a slice of the limit and a slice of the kernel;
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
#include "ops/packed.h"

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
PEAK(peak_int8, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512, "vpdpbusd")
PEAK(peak_int8_avx_vnni, "avx2", __m256i, _mm256_setzero_si256, "%{vex%} vpdpbusd")

// Without VNNI the product is widened: vpmaddubsw, vpmaddwd and vpaddd, here of 12 chains.
__attribute__((target("avx2"))) static void peak_int8_avx2(const struct slice *s, int64_t unit, void *scratch)
{
    __m256i a[12], m = _mm256_set1_epi8(1), one = _mm256_set1_epi16(1);
    (void)s, (void)unit, (void)scratch;
    _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = m;
    for (int k = 0; k < 4096; k++) _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++)
        {
            __m256i t;
            __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %1, %3, %1\n\tvpaddd %1, %0, %0"
                             : "+x"(a[i]), "=&x"(t)
                             : "x"(m), "x"(one));
        }
}

static size_t matrix_bytes(const struct slice *s)
{
    if (!s->kernel->packed) return dtype_row_bytes(s->type, s->k) * (size_t)s->n;
    return packed_group_bytes(s->type, s->k) * (size_t)(s->n / PACKED_ROWS);
}

static void work_matmul(const struct slice *s, int64_t unit, void *scratch)
{
    int64_t units = (s->n + s->rows - 1) / s->rows, matrix = unit / units % s->per_pass,
            first = unit % units * s->rows;
    struct matmul_args a = {.y = s->y,
                            .y_stride = (size_t)s->n,
                            .x = s->x,
                            .x_stride = (size_t)s->k,
                            .w = s->weights + (size_t)matrix * matrix_bytes(s),
                            .w_type = s->type,
                            .w_stride = s->kernel->packed ? packed_group_bytes(s->type, s->k)
                                                          : dtype_row_bytes(s->type, s->k),
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
    s.work = work_matmul, s.kernel = kernel, s.type = type, s.n = n, s.k = k, s.t = t;
    s.per_pass = (int64_t)(weights_size / matrix_bytes(&s));
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
        bool wide = isa >= ISA_AVX512_VNNI;
        double operations = wide ? 128 : 64; // an instruction, or three
        limit.work = wide ? peak_int8 : isa == ISA_AVX_VNNI ? peak_int8_avx_vnni : peak_int8_avx2;
        if (kernel->x_type == DTYPE_BF16)
            limit.work = peak_bf16, operations = 64;
        else if (kernel->x_type == DTYPE_F32)
            limit.work = isa >= ISA_AVX512 ? peak_avx512 : peak_avx2,
            operations = isa >= ISA_AVX512 ? 32 : 16;
        pairs("the peak", &limit, 12 * 4096 * operations, &s, 2 * per_row * (double)k * (double)t, "GFLOP/s");
    }
    putchar('\n');
}

// A tier has its own form of the type's kernel, not that of the tier below.
static bool is_new(enum isa isa, enum dtype type)
{
    struct kernels k = kernels_for(isa), below = kernels_for(isa == ISA_AVX512 ? ISA_AVX2
                                                             : isa > ISA_REF   ? isa - 1
                                                                               : isa);
    return !k.matmul[type].dequantize && k.matmul[type].fwd != below.matmul[type].fwd;
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][2] = {{2048, 2048}, {8192, 2048}, {2048, 8192}};
    int64_t columns[16] = {1, 4, 8, 32, 512}, chosen_columns = 0;
    bool type[DTYPE_COUNT] = {0}, tier[ISA_COUNT] = {0}, types = false, tiers = false;
    struct slice s = {.threads = cpu_count()};
    for (int i = 1; i < argc; i++) {
        enum isa isa;
        if (!strcmp(argv[i], "-t") && i + 1 < argc)
            s.threads = atoi(argv[++i]);
        else if (dtype_parse(argv[i]) >= 0)
            type[dtype_parse(argv[i])] = types = true;
        else if (isa_parse(&isa, argv[i], NULL) == TLM_OK)
            tier[isa] = tiers = true;
        else if (atol(argv[i]) > 0 && atol(argv[i]) <= MAX_COLUMNS && chosen_columns < 16)
            columns[chosen_columns++] = atol(argv[i]);
        else
            return fprintf(stderr, "%s: expected -t N, a tier, a type or a number of columns\n", argv[i]), 2;
    }
    char *weights = mmap(NULL, weights_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *x = calloc(MAX_COLUMNS * 8192, sizeof *x), *y = calloc(MAX_COLUMNS * 8192, sizeof *y);
    if (weights == MAP_FAILED || !x || !y || s.threads < 1 || s.threads > MAX_THREADS) return 1;
    memset(weights, 0x3c, weights_size);
    memset(x, 0x3c, MAX_COLUMNS * 8192 * sizeof *x);
    s.weights = weights, s.x = x, s.y = y;
    for (enum isa isa = ISA_AVX512_BF16; isa > ISA_REF; isa--)
        for (enum dtype t = 0; t < DTYPE_COUNT; t++) {
            if (!isa_supported(isa) || (tiers && !tier[isa]) || (types && !type[t]) || !is_new(isa, t))
                continue;
            for (int m = 0; m < (chosen_columns ? chosen_columns : 5); m++)
                for (size_t h = 0; h < sizeof shapes / sizeof *shapes; h++)
                    bench(&s, isa, t, shapes[h][0], shapes[h][1], columns[m]);
        }
    return 0;
}
