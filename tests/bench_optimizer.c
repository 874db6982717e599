// tests/bench_optimizer.c -- the updates beside the bandwidth of reading and writing memory in place, measured in turn with it, and
// Muon's products.
//
//   bench_optimizer [-t THREADS]
//
// A pair is a pass of the limit over as many bytes and a pass of the update; printed are the median of the ratios of all pairs
// with its quartiles, and the median rates. Bytes are those read and those written.
#include <immintrin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/threads.h"
#include "ops/ops.h"
#include "train/muon.h"

enum { PAIRS = 20, NUMBERS = 32 << 20, CHUNK = 1 << 16 };

struct pass {
    struct update_args whole;
    update_fn *update; // NULL: the limit
    float *plain;
    int64_t plain_count;
    atomic_llong next;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((target("avx2"))) static void touch(float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += 8)
        _mm256_store_ps(x + i, _mm256_add_ps(_mm256_load_ps(x + i), _mm256_set1_ps(1)));
}

static void work(void *user, int thread)
{
    (void)thread;
    struct pass *p = user;
    int64_t count = p->update ? NUMBERS : p->plain_count;
    for (int64_t at; (at = atomic_fetch_add(&p->next, CHUNK)) < count;) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        if (!p->update) {
            touch(p->plain + at % (2 * (int64_t)NUMBERS), n); // far more than the caches hold
            continue;
        }
        struct update_args a = p->whole;
        size_t skip = (size_t)at * dtype_row_bytes(a.moments, 1);
        a.value += at, a.gradient += at, a.copy += at, a.first = at, a.count = n;
        a.m.data = (char *)a.m.data + skip, a.v.data = (char *)a.v.data + skip;
        a.m.scale += at / UPDATE_BLOCK, a.v.scale += at / UPDATE_BLOCK;
        p->update(&a);
    }
}

static double seconds(struct pass *p, struct threads *threads)
{
    atomic_store(&p->next, 0);
    double begin = now();
    threads_run(threads, work, p);
    return now() - begin;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(const char *name, struct pass *p, struct threads *threads, int moments)
{
    // value in and out, gradient, copy, and each moment in and out
    size_t bytes = (size_t)NUMBERS * (14 + 2 * (size_t)moments * dtype_row_bytes(p->whole.moments, 1));
    struct pass limit = {.plain = p->plain, .plain_count = (int64_t)(bytes / 8) / 8 * 8};
    double ratio[PAIRS], rate[PAIRS], peak[PAIRS];
    for (int i = -1; i < PAIRS; i++) {
        double a = seconds(&limit, threads), b = seconds(p, threads);
        if (i >= 0) ratio[i] = a / b, rate[i] = (double)bytes / b, peak[i] = (double)bytes / a;
    }
    qsort(ratio, PAIRS, sizeof *ratio, by_size), qsort(rate, PAIRS, sizeof *rate, by_size);
    qsort(peak, PAIRS, sizeof *peak, by_size);
    printf("%-24s %5.1f GB/s, limit %5.1f, ratio %.2f (%.2f to %.2f), %.2f G numbers/s\n", name,
           rate[PAIRS / 2] * 1e-9, peak[PAIRS / 2] * 1e-9, ratio[PAIRS / 2], ratio[PAIRS / 4],
           ratio[PAIRS * 3 / 4], rate[PAIRS / 2] * 1e-9 * NUMBERS / (double)bytes);
}

static void bench_updates(struct threads *threads)
{
    struct arena arena;
    size_t size = (size_t)NUMBERS * sizeof(float);
    if (arena_init(&arena, 5 * size + size / 2 + size / 64 + (size << 1), "bench", NULL)) exit(1);
    struct pass p = {.whole = {.value = arena_alloc(&arena, size),
                               .gradient = arena_alloc(&arena, size),
                               .copy = arena_alloc(&arena, size / 2),
                               .m = {arena_alloc(&arena, size), arena_alloc(&arena, size / 256)},
                               .v = {arena_alloc(&arena, size), arena_alloc(&arena, size / 256)},
                               .factor = 1,
                               .rate = 1e-3f,
                               .keep = 0.9999f,
                               .beta1 = 0.9f,
                               .beta2 = 0.95f,
                               .slow1 = 0.1f,
                               .slow2 = 0.05f,
                               .root_factor = 1,
                               .eps = 1e-8f},
                     .plain = arena_alloc(&arena, 2 * size)};
    float *gradient = (float *)p.whole.gradient;
    for (int64_t i = 0; i < NUMBERS; i++) gradient[i] = (float)(i * 7919 % 1001 - 500) * 1e-4f;
    static const struct {
        enum dtype type;
        const char *name;
    } types[] = {{DTYPE_F32, "f32"}, {DTYPE_BF16, "bf16"}, {DTYPE_I8, "i8"}};
    for (enum isa isa = ISA_AVX2; isa <= ISA_AVX512 && isa <= isa_detect(); isa++) {
        struct kernels k = kernels_for(isa);
        for (int i = 0; i < 3; i++) {
            char name[64];
            p.whole.moments = types[i].type;
            memset(p.whole.m.data, 0, size), memset(p.whole.v.data, 0, size);
            snprintf(name, sizeof name, "adamw %s %s", types[i].name, isa_name(isa));
            p.update = k.update_adamw, compare(name, &p, threads, 2);
            memset(p.whole.m.data, 0, size);
            snprintf(name, sizeof name, "lion %s %s", types[i].name, isa_name(isa));
            p.update = k.update_lion, compare(name, &p, threads, 1);
        }
    }
    arena_free(&arena);
}

// Useful operations: what the products would cost if nothing were symmetric.
static void bench_muon(struct threads *threads)
{
    static const int64_t shapes[][2] = {{768, 768}, {3072, 768}, {768, 3072}};
    struct kernels k = kernels_for(isa_detect());
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1], r = rows < cols ? rows : cols, c = rows + cols - r;
        struct parameter item = {
            .role = ROLE_MATRIX, .rows = rows, .cols = cols, .depth = 1, .count = rows * cols};
        struct parameters list = {.item = &item, .count = 1};
        struct arena arena;
        size_t size = (size_t)item.count * sizeof(float);
        if (arena_init(&arena, 3 * size + muon_bytes(&list, threads_count(threads)), "bench", NULL)) exit(1);
        item.value = arena_alloc(&arena, size), item.gradient = arena_alloc(&arena, size);
        float *momentum = arena_alloc(&arena, size);
        for (int64_t j = 0; j < item.count; j++) item.gradient[j] = (float)(j * 7919 % 1001 - 500);
        struct muon m = muon_make(&arena, &list, &k, threads);
        struct muon_update u = {&item, momentum, 1, 0.95f, 0.02f, 1, true, 5};
        double best = 1e9;
        for (int pass = 0; pass < 7; pass++) {
            double begin = now();
            muon_update(&m, &u);
            if (now() - begin < best) best = now() - begin;
        }
        double flops = 5 * 2.0 * (double)r * (double)r * (double)(2 * c + r);
        printf("muon %4d x %4d           %.1f ms, %.0f GFLOP/s\n", (int)rows, (int)cols, best * 1e3,
               flops / best * 1e-9);
        arena_free(&arena);
    }
}

int main(int argc, char **argv)
{
    struct threads *threads;
    int count = argc == 3 && !strcmp(argv[1], "-t") ? atoi(argv[2]) : cpu_count();
    if (threads_open(&threads, count, NULL)) return 2;
    bench_updates(threads);
    bench_muon(threads);
    threads_close(threads);
    return 0;
}
