// tests/cuda_kernels.h -- what the tests of the GPU's kernels share: memory of the device, numbers in it, and what is expected of it.
#ifndef TESTS_CUDA_KERNELS_H
#define TESTS_CUDA_KERNELS_H

#include <check.h>

#include "cuda/kernels.h"
#include "tests/cuda_emu/control.h"
#include "tests/kernels.h"

enum { MOST_ALLOCATIONS = 64 };

// What a test has on the device.
static void *allocations[MOST_ALLOCATIONS];
static int allocation_count;

static inline void *device(const void *host, size_t bytes)
{
    ck_assert_int_lt(allocation_count, MOST_ALLOCATIONS);
    void *p = allocations[allocation_count++] = cuda_alloc(bytes);
    if (host) cuda_copy_in(NULL, p, host, bytes);
    return p;
}

// Frees all of it, which looks at what stands behind, and expects that nothing went wrong.
static inline void done(void)
{
    ck_assert_msg(!emu_error(), "%s", emu_error());
    while (allocation_count) cuda_free(allocations[--allocation_count]);
}

// count random numbers of stream `stream`, on the device, and in double on the host.
static inline float *random_device(double *oracle, int64_t count, uint64_t stream, float size)
{
    float *x = device(NULL, (size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = size * random_signed(stream, (uint64_t)i);
        if (oracle) oracle[i] = x[i];
    }
    return x;
}

static inline float *empty_device(int64_t count)
{
    return device(NULL, (size_t)count * sizeof(float));
}

// `used` rows of a launch for `most`.
static inline struct cuda_rows some_rows(int32_t used, int64_t most)
{
    return (struct cuda_rows){device(&used, sizeof used), most};
}

static inline void expect(const char *what, const float *y, const double *oracle, int64_t used, int64_t most,
                          int64_t cols, double tolerance)
{
    ck_assert_msg(!emu_error(), "%s, %d of %d rows, %d columns: %s", what, (int)used, (int)most, (int)cols,
                  emu_error());
    ck_assert_msg(agrees(y, oracle, used * cols, tolerance), "%s, %d rows, %d columns: error %g", what,
                  (int)used, (int)cols, rel_error(y, oracle, used * cols));
    for (int64_t i = used * cols; i < most * cols; i++)
        ck_assert_msg(isnan(y[i]), "%s: row %d, which is not used, was written", what, (int)(i / cols));
}

static const int64_t odd[] = {1, 2, 3, 4, 5, 7, 8, 12, 17, 31, 32, 33, 64, 511, 512, 513, 1024};
enum { ODD = sizeof odd / sizeof *odd, MOST = 5, USED = 3, WIDEST = 1024 };

static inline void orders(int i)
{
    static const enum emu_order order[] = {EMU_FORWARD, EMU_BACKWARD, EMU_RANDOM};
    emu_set_order(order[i % 3], (uint64_t)i);
}

#endif
