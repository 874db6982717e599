#include "core/arena.h"

#include <stdint.h>
#include <sys/mman.h>

enum tlm_status arena_init(struct arena *a, size_t size, const char *what, struct tlm_error *err)
{
    size = align_up(size ? size : 1, 4096);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *a = (struct arena){0};
    if (p == MAP_FAILED)
        return error_set(err, TLM_ERR_MEMORY, "%s: cannot reserve %.1f MiB of memory", what,
                         (double)size / 0x1p20);
    *a = (struct arena){.base = p, .size = size};
    return TLM_OK;
}

void arena_free(struct arena *a)
{
    if (a->base) munmap(a->base, a->size);
    *a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t size)
{
    size = align_up(size, ARENA_ALIGN);
    TLM_ASSERT(size <= a->size - a->used);
    void *p = a->base + a->used;
    a->used += size;
    return p;
}

void arena_give_back(void *at, size_t bytes)
{
    uintptr_t begin = align_up((uintptr_t)at, 4096), end = ((uintptr_t)at + bytes) / 4096 * 4096;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}
