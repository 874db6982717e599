// tests/bench_attention.c -- attention beside the limits of the machine, measured in turn with them.
//
//   bench_attention [threads [positions [heads kv_heads head_dim]]]
//
// Decoding, one row after `positions` tokens (16384), is held against reading the bytes of those keys and values; a
// prompt, 256 rows up to `positions` / 8, against the multiply-adds of f32. A pair is a slice of the limit and a slice
// of the kernel; printed are the median of the ratios of all pairs with its quartiles, and the median rates.
//
// Below: rows of 16 sequences which have their first 4000 keys in common, and 32 of their own. The limit is then each sequence for
// itself, the kernel the common keys for all of them and the others for each; rates count the keys and values that rows see.
#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "ops/paged.h"

enum { PAIRS = 20, MAX_THREADS = 256, CHUNK = 1 << 20, ROWS = 256 };
enum { SEQUENCES = 16, SHARED = 4000, OWN = 32 };
static const size_t storage_size = (size_t)512 << 20; // far more than the caches hold
static const double slice_seconds = 0.06;

// What the threads of one slice share.
struct slice {
    int threads;
    int64_t units; // handed out one at a time, cyclically
    atomic_llong next;
    void (*work)(const struct slice *s, int64_t unit, void *scratch);
    struct kernels kernels;
    char *storage;
    struct paged_kv k, v;
    size_t layer; // bytes of one layer's keys and values
    const int32_t *blocks;
    int32_t heads, kv_heads, d, positions, rows;
    float *q, *y;
    bool sharing;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((target("avx2"))) static void work_read(const struct slice *s, int64_t unit, void *scratch)
{
    const char *p = s->storage + (size_t)unit % (storage_size / CHUNK) * CHUNK;
    __m256i sum[4] = {_mm256_setzero_si256()};
    for (size_t i = 0; i < CHUNK; i += 128)
        for (int j = 0; j < 4; j++)
            sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256((const __m256i *)(p + i + 32 * j)));
    _mm256_store_si256(scratch,
                       _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3])));
}

// 12 independent chains; 12 * 4096 multiply-adds of vectors a unit.
#define PEAK(name, isa, vector, zero)                                                                 \
    __attribute__((target(isa))) static void name(const struct slice *s, int64_t unit, void *scratch) \
    {                                                                                                 \
        vector a[12], m = zero();                                                                     \
        (void)s, (void)unit, (void)scratch;                                                           \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = m;                               \
        for (int k = 0; k < 4096; k++)                                                                \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) __asm__ volatile(                   \
                "vfmadd231ps %1, %1, %0" : "+v"(a[i]) : "v"(m));                                      \
    }
PEAK(peak_avx2, "avx2,fma", __m256, _mm256_setzero_ps)
PEAK(peak_avx512, "avx512f", __m512, _mm512_setzero_ps)

// A call for the key-value head of a layer.
static struct attention_args call(const struct slice *s, int64_t layer, int32_t head, const int32_t *pos,
                                  void *scratch)
{
    int32_t group = s->heads / s->kv_heads;
    struct attention_args a = {.y = s->y,
                               .q = s->q,
                               .k = s->k,
                               .v = s->v,
                               .blocks = s->blocks,
                               .pos = pos,
                               .y_stride = (size_t)(s->heads * s->d),
                               .q_stride = (size_t)(s->heads * s->d),
                               .rows = s->rows,
                               .head_begin = head * group,
                               .head_count = group,
                               .kv_head = head,
                               .head_dim = s->d,
                               .value_dim = s->d,
                               .scale = 0.125f,
                               .scratch = scratch};
    a.k.data = s->storage + (size_t)layer * s->layer;
    a.v.data = a.k.data + s->layer / 2;
    return a;
}

// One key-value head of one layer.
static void work_attention(const struct slice *s, int64_t unit, void *scratch)
{
    int64_t layers = (int64_t)(storage_size / s->layer);
    int32_t pos[ROWS];
    for (int32_t r = 0; r < s->rows; r++) pos[r] = s->positions - s->rows + r;
    struct attention_args a =
        call(s, unit / s->kv_heads % layers, (int32_t)(unit % s->kv_heads), pos, scratch);
    s->kernels.attention_fwd(&a);
}

static size_t attention_bytes(const struct slice *s)
{
    return (s->kernels.attention_scratch(ROWS, s->heads / s->kv_heads, s->d, s->d) + 63) & ~(size_t)63;
}

// One layer for all sequences; they share the block table, so also what would be their own keys.
static void work_sequences(const struct slice *s, int64_t unit, void *scratch)
{
    int64_t layer = unit % (int64_t)(storage_size / s->layer),
            common = SHARED / ATTENTION_TILE * ATTENTION_TILE;
    int32_t pos[SEQUENCES];
    for (int32_t r = 0; r < SEQUENCES; r++) pos[r] = SHARED + OWN - 1;
    float *states = (float *)((char *)scratch + attention_bytes(s));
    size_t state_stride = (size_t)(s->heads * attention_state(s->d));
    for (int32_t h = 0; h < s->kv_heads && s->sharing; h++) {
        struct attention_args a = call(s, layer, h, pos, scratch);
        a.rows = SEQUENCES, a.key_end = common, a.state = states, a.state_stride = state_stride;
        s->kernels.attention_fwd(&a);
    }
    for (int32_t r = 0; r < SEQUENCES; r++) {
        for (int32_t h = 0; h < s->kv_heads; h++) {
            struct attention_args a = call(s, layer, h, pos, scratch);
            a.rows = 1;
            if (s->sharing)
                a.key_begin = common, a.state = states + (size_t)r * state_stride,
                a.state_stride = state_stride;
            s->kernels.attention_fwd(&a);
        }
    }
}

static void *slice_thread(void *arg)
{
    struct slice *s = arg;
    size_t states = (size_t)(SEQUENCES * s->heads * attention_state(s->d)) * sizeof(float);
    void *scratch = aligned_alloc(64, attention_bytes(s) + states + 64);
    for (int64_t unit; (unit = atomic_fetch_add(&s->next, 1)) < s->units;) s->work(s, unit, scratch);
    free(scratch);
    return NULL;
}

static double seconds_of(struct slice *s, int64_t units)
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
static int64_t calibrate(struct slice *s)
{
    int64_t units = s->threads;
    double t;
    while ((t = seconds_of(s, units)) < slice_seconds / 4) units *= 2;
    units = (int64_t)((double)units * slice_seconds / t);
    return units > s->threads ? units : s->threads;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void pairs(struct slice *limit, double limit_work, struct slice *s, double work, const char *unit)
{
    double ratio[PAIRS], rate[PAIRS], limit_rate[PAIRS];
    int64_t limit_units = calibrate(limit), units = calibrate(s);
    for (int i = 0; i < PAIRS; i++) {
        double before = limit_work * (double)limit_units / seconds_of(limit, limit_units);
        rate[i] = work * (double)units / seconds_of(s, units);
        double after = limit_work * (double)limit_units / seconds_of(limit, limit_units);
        limit_rate[i] = (before + after) / 2;
        ratio[i] = rate[i] / limit_rate[i];
    }
    qsort(ratio, PAIRS, sizeof *ratio, ascending);
    qsort(rate, PAIRS, sizeof *rate, ascending);
    qsort(limit_rate, PAIRS, sizeof *limit_rate, ascending);
    printf("  %5.1f%% [%5.1f %5.1f]: %5.1f of %5.1f %s", 100 * ratio[PAIRS / 2], 100 * ratio[PAIRS / 4],
           100 * ratio[PAIRS * 3 / 4], rate[PAIRS / 2] * 1e-9, limit_rate[PAIRS / 2] * 1e-9, unit);
    fflush(stdout);
}

static void bench(const struct slice *shared, enum isa isa, enum dtype type)
{
    struct slice s = *shared, limit = *shared;
    s.kernels = limit.kernels = kernels_for(isa);
    s.work = work_attention;
    s.k = paged_layout(type, KV_KEYS, s.positions / KV_BLOCK, s.d),
    s.v = paged_layout(type, KV_VALUES, s.positions / KV_BLOCK, s.d);
    s.layer = 2 * s.k.head_stride * (size_t)s.kv_heads;
    s.rows = 1;
    limit.work = work_read;
    printf("%-12s %-4s", isa_name(isa), dtype_traits[type].name);
    pairs(&limit, CHUNK, &s, (double)s.layer / s.kv_heads, "GB/s");
    s.rows = ROWS, s.positions /= 8;
    limit.work = isa >= ISA_AVX512 ? peak_avx512 : peak_avx2;
    double seen = (double)s.rows * (s.positions - s.rows / 2.0);
    pairs(&limit, 12 * 4096 * (isa >= ISA_AVX512 ? 32 : 16), &s, seen * 4 * s.d * s.heads / s.kv_heads,
          "GFLOP/s");
    putchar('\n');
}

static void bench_sharing(const struct slice *shared, enum isa isa, enum dtype type)
{
    struct slice s = *shared;
    s.kernels = kernels_for(isa);
    s.k = paged_layout(type, KV_KEYS, (SHARED + OWN) / KV_BLOCK, s.d),
    s.v = paged_layout(type, KV_VALUES, (SHARED + OWN) / KV_BLOCK, s.d);
    s.layer = 2 * s.k.head_stride * (size_t)s.kv_heads;
    s.work = work_sequences;
    struct slice alone = s;
    s.sharing = true;
    printf("%-12s %-4s", isa_name(isa), dtype_traits[type].name);
    pairs(&alone, (double)s.layer * SEQUENCES, &s, (double)s.layer * SEQUENCES, "GB/s");
    putchar('\n');
}

int main(int argc, char **argv)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F8_E4M3, DTYPE_Q8_0, DTYPE_Q4_0};
    static const enum isa tiers[] = {ISA_AVX512_BF16, ISA_AVX512, ISA_AVX2};
    struct slice s = {.threads = argc > 1 ? atoi(argv[1]) : cpu_count(),
                      .positions = argc > 2 ? atoi(argv[2]) : 16384,
                      .heads = argc > 5 ? atoi(argv[3]) : 32,
                      .kv_heads = argc > 5 ? atoi(argv[4]) : 8,
                      .d = argc > 5 ? atoi(argv[5]) : 64};
    s.storage = mmap(NULL, storage_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    s.q = calloc((size_t)(ROWS * s.heads * s.d), sizeof *s.q),
    s.y = calloc((size_t)(ROWS * s.heads * s.d), sizeof *s.y);
    int32_t *blocks = calloc((size_t)s.positions / KV_BLOCK, sizeof *blocks);
    if (s.storage == MAP_FAILED || !s.q || !s.y || !blocks || s.threads < 1 || s.threads > MAX_THREADS)
        return 1;
    memset(s.storage, 0x2c, storage_size); // small numbers in every type
    memset(s.q, 0x3c, (size_t)(ROWS * s.heads * s.d) * sizeof *s.q);
    for (int32_t i = 0; i < s.positions / KV_BLOCK; i++) blocks[i] = i;
    s.blocks = blocks;
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++)
        for (size_t j = 0; j < sizeof types / sizeof *types && tiers[i] <= isa_detect(); j++)
            bench(&s, tiers[i], types[j]);
    printf("%d sequences that share %d keys:\n", SEQUENCES, SHARED);
    for (size_t j = 0; j < sizeof types / sizeof *types; j++) bench_sharing(&s, isa_detect(), types[j]);
    return 0;
}
