// tests/gpu/bench.c -- the speed of each kernel beside what the device does at most, and its error beside the speed.
//
//     gpu_bench [--small]      records to standard output, a line of JSON each
//
// Limits are measured in the same run: bytes a second of a copy in the device's memory, operations a second of cuBLAS's bf16 product of
// 8192 x 8192 x 8192. Each group of kernels is a process of its own, for one that fails takes what is behind it along. Times are the device's, by events; a sample is launches for a millisecond or more, and the median of SAMPLES counts (of FEW_SAMPLES, where a launch takes long).
#include "tests/gpu/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rng.h"

enum { SAMPLES = 9, FEW_SAMPLES = 3, MOST_LAUNCHES = 1000 };
static const double SAMPLE = 1e-3,
                    LONG = 0.05; // seconds: of a sample, and of a launch that is measured a few times

static void fail(const struct tlm_error *err)
{
    fprintf(stderr, "gpu_bench: %s\n", err->text);
    exit(EXIT_FAILURE);
}

static void sync_or_fail(void)
{
    struct tlm_error err;
    if (cuda_sync(NULL, &err)) fail(&err);
}

// ---- data -------------------------------------------------------------------------------------------------

void *bench_alloc(struct bench *b, size_t bytes)
{
    struct tlm_error err;
    void *p = cuda_alloc(bytes);
    if (!p) {
        cuda_no_memory("a benchmark", bytes, &err);
        fail(&err);
    }
    TLM_ASSERT(b->allocation_count < BENCH_ALLOCATIONS);
    return b->allocations[b->allocation_count++] = p;
}

void *bench_put(struct bench *b, const void *host, size_t bytes)
{
    void *p = bench_alloc(b, bytes);
    cuda_copy_in(NULL, p, host, bytes);
    sync_or_fail();
    return p;
}

float bench_number(uint64_t stream, int64_t i)
{
    return (float)(2 * rng_uniform(1, stream, (uint64_t)(i % BENCH_PERIOD)) - 1);
}

float *bench_numbers(struct bench *b, uint64_t stream, int64_t count)
{
    static float period[BENCH_PERIOD];
    float *x = bench_alloc(b, (size_t)count * sizeof *x);
    for (int64_t i = 0; i < BENCH_PERIOD && i < count; i++) period[i] = bench_number(stream, i);
    int64_t had = count < BENCH_PERIOD ? count : BENCH_PERIOD;
    cuda_copy_in(NULL, x, period, (size_t)had * sizeof *x);
    for (int64_t n; had < count; had += n) {
        n = had < count - had ? had : count - had;
        cuda_copy(NULL, x + had, x, (size_t)n * sizeof *x);
    }
    sync_or_fail();
    return x;
}

void bench_fetch(void *host, const void *device, size_t bytes)
{
    cuda_copy_out(NULL, host, device, bytes);
    sync_or_fail();
}

void bench_free_all(struct bench *b)
{
    while (b->allocation_count) cuda_free(b->allocations[--b->allocation_count]);
}

double bench_error(const float *a, const double *b, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

// ---- times ------------------------------------------------------------------------------------------------

static double time_of(struct cuda_event *begin, struct cuda_event *end, int launches, int *turn,
                      void (*launch)(void *user, int turn), void *user)
{
    cuda_event_record(begin, NULL);
    for (int i = 0; i < launches; i++) launch(user, (*turn)++);
    cuda_event_record(end, NULL);
    sync_or_fail();
    return cuda_event_seconds(begin, end) / launches;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_case(struct bench *b, const struct bench_case *c, void (*launch)(void *user, int turn), void *user)
{
    struct cuda_event *begin = cuda_event_open(), *end = cuda_event_open();
    TLM_ASSERT(begin && end);
    double samples[SAMPLES];
    int turn = 0, launches = 1, count = 1;
    const double first = time_of(begin, end, 1, &turn, launch, user);
    if (!b->small) {
        const double once = first > LONG ? first : time_of(begin, end, 3, &turn, launch, user);
        launches = once * MOST_LAUNCHES < SAMPLE ? MOST_LAUNCHES : 1 + (int)(SAMPLE / once);
        count = once > LONG ? FEW_SAMPLES : SAMPLES;
    }
    for (int i = 0; i < count; i++) samples[i] = time_of(begin, end, launches, &turn, launch, user);
    qsort(samples, (size_t)count, sizeof *samples, compare);
    const double seconds = samples[count / 2];
    const double rate = (c->limit == BACKEND_COPY ? c->bytes : c->operations) / seconds;
    const double limit = c->limit == BACKEND_COPY ? b->copy : b->product;
    printf("{\"kind\": \"kernel\", \"group\": \"%s\", \"name\": \"%s\", \"seconds\": %.6g, \"rate\": %.6g, "
           "\"limit\": \"%s\", \"share\": ",
           c->group, c->name, seconds, rate, c->limit == BACKEND_COPY ? "copy" : "product");
    printf(limit ? "%.4f" : "null", rate / limit);
    printf(isfinite(c->error) ? ", \"error\": %.3g}\n" : ", \"error\": null}\n", c->error);
    fflush(stdout);
    cuda_event_close(begin);
    cuda_event_close(end);
}

// ---- the program ------------------------------------------------------------------------------------------

static double limit(struct bench *b, enum backend_limit which, const char *name, bool told)
{
    struct tlm_error err;
    double rate = 0;
    if (cuda_measure(&b->backend->base, which, &rate, &err)) {
        if (told) printf("{\"kind\": \"reason\", \"name\": \"%s\", \"text\": \"%s\"}\n", name, err.text);
    } else if (told) {
        printf("{\"kind\": \"limit\", \"name\": \"%s\", \"rate\": %.6g}\n", name, rate);
    }
    return rate;
}

static const struct group {
    const char *name;
    void (*run)(struct bench *b);
    bool notes; // tells what cuBLAS and the compiler of kernels had to say
} groups[] = {
    {"rows", bench_rows, false},           {"updates", bench_updates, false},
    {"gradients", bench_gradients, false}, {"products", bench_products, true},
    {"attention", bench_attention, false}, {"layers", bench_layers, false},
    {"steps", bench_steps, false},         {"draws", bench_sample, false},
};
enum { GROUPS = sizeof groups / sizeof *groups, GROUP_SECONDS = 170 };

static void run_group(const struct group *g, bool small)
{
    struct tlm_error err;
    struct backend *base;
    const bool first = g == groups;
    alarm(small ? 0 : GROUP_SECONDS);
    if (cuda_backend_open(&base, 0, &err)) fail(&err);
    struct bench b = {.small = small, .backend = (struct cuda_backend *)base};
    const struct cuda_device *d = &b.backend->device;
    if (first)
        printf("{\"kind\": \"device\", \"name\": \"%s\", \"capability\": \"%d.%d\", \"processors\": %d, "
               "\"memory\": %zu}\n",
               d->name, d->major, d->minor, d->processors, d->memory);
    b.copy = limit(&b, BACKEND_COPY, "copy", first);
    b.product = limit(&b, BACKEND_PRODUCT, "product", first);
    fflush(stdout);
    // Where no file can be, so that each run compiles and measures.
    base->class->make_kernels(base, "/dev/null/kernels");
    g->run(&b);
    if (*base->note && g->notes)
        printf("{\"kind\": \"reason\", \"name\": \"kernels\", \"text\": \"%s\"}\n", base->note);
    base->class->close(base);
}

// Its status; this process never meets the device. Nothing is told of a run that only looks for what fails.
static int status_of_group(const struct group *g, bool small, bool told)
{
    int status = 1;
    fflush(stdout);
    const pid_t child = fork();
    if (!child) {
        if (!told && !freopen("/dev/null", "w", stdout)) exit(EXIT_FAILURE);
        run_group(g, small);
        exit(EXIT_SUCCESS);
    }
    return child < 0 || waitpid(child, &status, 0) < 0 ? 1 : status;
}

int main(int argc, char **argv)
{
    const bool small = argc == 2 && !strcmp(argv[1], "--small");
    int failed = 0;
    if (argc > 2 || (argc == 2 && !small)) {
        fprintf(stderr, "usage: gpu_bench [--small]\n");
        return 2;
    }
    for (int i = 0; i < GROUPS; i++) {
        if (!status_of_group(&groups[i], small, true)) continue;
        // Again, with every launch waited for: then the one that fails is named.
        setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
        fprintf(stderr, "gpu_bench: %s failed; again, launch by launch:\n", groups[i].name);
        status_of_group(&groups[i], small, false);
        unsetenv("CUDA_LAUNCH_BLOCKING");
        failed++;
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
