// tests/gpu/bench.h -- what the benchmarks of kernels share: data on the device, times by its events, records as lines of JSON.
#ifndef TESTS_GPU_BENCH_H
#define TESTS_GPU_BENCH_H

#include "cuda/backend.h"

enum { BENCH_PERIOD = 1 << 16, BENCH_ALLOCATIONS = 64 };

struct bench {
    bool small; // sizes for the emulation
    struct cuda_backend *backend;
    double copy, product; // the limits; 0: not known
    void *allocations[BENCH_ALLOCATIONS];
    int allocation_count;
};

// Memory of the device; it ends the program where there is none.
void *bench_alloc(struct bench *b, size_t bytes);
void *bench_put(struct bench *b, const void *host, size_t bytes);
// count numbers (i) -> bench_number(stream, i) on the device.
float *bench_numbers(struct bench *b, uint64_t stream, int64_t count);
// Uniform in (-1, 1), again from the begin behind BENCH_PERIOD.
float bench_number(uint64_t stream, int64_t i);
void bench_fetch(void *host, const void *device, size_t bytes);
void bench_free_all(struct bench *b);

// What one launch does at least, and how far its result is from the double reference.
struct bench_case {
    // group: "rows", "gemv", "gemm", "attention", "draws", "layers", "steps", "updates", "gradients"
    const char *group, *name;
    double bytes, operations; // its rate is of those that its limit is about
    enum backend_limit limit;
    double error;
};
// Times launch(user, turn), where turn counts launches, and writes the record.
void bench_case(struct bench *b, const struct bench_case *c, void (*launch)(void *user, int turn),
                void *user);

// ||a - b|| / ||b||
double bench_error(const float *a, const double *b, int64_t count);

void bench_rows(struct bench *b);      // norms, elementwise, conversions (tests/gpu/bench_rows.c)
void bench_sample(struct bench *b);    // draws of tokens (tests/gpu/bench_sample.c)
void bench_updates(struct bench *b);   // optimizers (tests/gpu/bench_updates.c)
void bench_gradients(struct bench *b); // products of gradients, losses (tests/gpu/bench_gradient.c)
void bench_products(struct bench *b);  // tests/gpu/bench_products.c
void bench_attention(struct bench *b); // tests/gpu/bench_attention.c
void bench_layers(struct bench *b);    // tests/gpu/bench_layer.c
void bench_steps(struct bench *b);     // tests/gpu/bench_step.c

#endif
