// tests/kernels.h -- what the tests of kernels share: guarded buffers, random numbers, and agreement with an
// oracle.
#ifndef TESTS_KERNELS_H
#define TESTS_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/rng.h"

// A buffer that ends where an inaccessible page begins, so that a read or write past the end faults; what
// lies between the page's begin and the buffer is a guard band that guarded_intact() looks at. The buffer
// starts as 0xFF bytes, a NaN in every floating type, so an output that is not written is seen too.
//
//     | GUARD bytes ... | data: size bytes | PROT_NONE page |
struct guarded {
    void *data;
    size_t size;
    unsigned char *map;
    size_t map_size, page;
};

enum { GUARD = 0xA5 };

static inline struct guarded guarded_alloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size + 64 + page - 1) / page * page;
    struct guarded g = {.size = size, .map_size = body + page, .page = page};
    g.map = mmap(NULL, g.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TLM_ASSERT(g.map != MAP_FAILED);
    TLM_ASSERT(mprotect(g.map + body, page, PROT_NONE) == 0);
    memset(g.map, GUARD, body - size);
    g.data = g.map + body - size;
    memset(g.data, 0xFF, size);
    return g;
}

static inline bool guarded_intact(const struct guarded *g)
{
    size_t band = g->map_size - g->page - g->size;
    for (size_t i = 0; i < band; i++)
        if (g->map[i] != GUARD) return false;
    return true;
}

static inline void guarded_free(struct guarded *g)
{
    munmap(g->map, g->map_size);
    *g = (struct guarded){0};
}

// Uniform in (-1, 1); stream `stream` of one fixed seed.
static inline float random_signed(uint64_t stream, uint64_t index)
{
    return (float)(2 * rng_uniform(1, stream, index) - 1);
}

static inline void fill_random(float *x, int64_t n, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++) x[i] = random_signed(stream, (uint64_t)i);
}

// ||a - b|| / ||b||; 0 where both are zero. NaN where either has one.
static inline double rel_error(const float *a, const double *b, int64_t n)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

// "Agrees to 1e-4": ||a - b|| / ||b|| <= 1e-4 and max |a - b| <= 1e-3 max |b|. A NaN never agrees.
static inline bool agrees(const float *a, const double *b, int64_t n, double tolerance)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(b[i]));
        worst = fmax(worst, fabs(a[i] - b[i]));
    }
    return rel_error(a, b, n) <= tolerance && worst <= 10 * tolerance * largest;
}

#endif
