// tests/gpu/device.cu -- the tests of kernels on a real device: what tests/cuda_emu/ is to them elsewhere.
//
// Tests of kernels read and write the device's memory as their own, so theirs is pinned memory of the host, which the device reaches by the
// same addresses, full of NaNs as the emulation's, with a guard behind; every launch is waited for (tests/gpu/main.c), so that what they read
// is there. Tests of models get the device's own memory.
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "cuda/hopper.h"
#include "tests/cuda_emu/control.h"

extern "C" {
extern bool gpu_memory_shared;
void *__wrap_cuda_alloc(size_t bytes);
void __wrap_cuda_free(void *p);
void *__real_cuda_alloc(size_t bytes);
void __real_cuda_free(void *p);
bool __wrap_cuda_tile_map_make(struct cuda_tile_map *m, const void *base, int64_t columns, int64_t rows,
                               size_t stride, int box_rows);
bool __real_cuda_tile_map_make(struct cuda_tile_map *m, const void *base, int64_t columns, int64_t rows,
                               size_t stride, int box_rows);
}

enum { HEAD = 256, GUARD_BYTES = 256, GUARD = 0xA5 };

// | size, HEAD bytes | data | GUARD_BYTES |
void *__wrap_cuda_alloc(size_t bytes)
{
    char *p = NULL;
    if (!gpu_memory_shared) return __real_cuda_alloc(bytes);
    if (cudaHostAlloc((void **)&p, HEAD + bytes + GUARD_BYTES, cudaHostAllocMapped) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    memcpy(p, &bytes, sizeof bytes);
    memset(p + HEAD, 0xff, bytes);
    memset(p + HEAD + bytes, GUARD, GUARD_BYTES);
    return p + HEAD;
}

void __wrap_cuda_free(void *data)
{
    if (!data || !gpu_memory_shared) {
        __real_cuda_free(data);
        return;
    }
    const bool well = cudaDeviceSynchronize() == cudaSuccess;
    char *p = (char *)data - HEAD;
    size_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    for (size_t i = 0; well && i < GUARD_BYTES; i++)
        if ((unsigned char)p[HEAD + bytes + i] != GUARD) {
            fprintf(stderr, "gpu: byte %zu behind an allocation of %zu bytes was written\n", i, bytes);
            abort();
        }
    cudaFreeHost(p);
}

static bool tiles_there = true;

void emu_set_tiles(bool there)
{
    tiles_there = there;
}

// Kernels for older devices run on newer ones, too.
bool __wrap_cuda_tile_map_make(struct cuda_tile_map *m, const void *base, int64_t columns, int64_t rows,
                               size_t stride, int box_rows)
{
    return tiles_there && __real_cuda_tile_map_make(m, base, columns, rows, stride, box_rows);
}

void emu_set_order(enum emu_order, uint64_t)
{
}

int emu_set_devices(int count)
{
    int there = 0;
    cudaGetDeviceCount(&there);
    return count < there ? count : there;
}

void emu_set_free(int, size_t)
{
}

void emu_set_shared(size_t)
{
}

// A machine has its library or not.
void emu_set_nccl(bool)
{
}

int64_t emu_nccl_sums(void)
{
    return 0;
}

size_t emu_bytes(int)
{
    return 0;
}

bool emu_here(void)
{
    return false;
}

// The first error, which some forget when they are asked.
static struct tlm_error first_error;

const char *emu_error(void)
{
    struct tlm_error err;
    cudaDeviceSynchronize();
    const bool failed = cuda_sync(NULL, &err) != TLM_OK;
    if (failed && !first_error.code) first_error = err;
    return first_error.code ? first_error.text : NULL;
}

// A device does not count launches: to who looks whether there were some, there were.
int64_t emu_launches(void)
{
    static int64_t asked;
    return ++asked;
}

// Nor what it had to do when the host waited.
int64_t emu_idle(void)
{
    return 0;
}

// A device that has failed stays so until the process ends; each test is a process of its own.
void emu_forget(void)
{
    first_error = {};
}
