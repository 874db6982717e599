// core/arena.h -- memory of one lifetime: sized before it is taken, given back all at once.
//
// Pages come from the system zeroed and cost nothing until they are touched.
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/error.h"

enum { ARENA_ALIGN = 64 };

struct arena {
    char *base;
    size_t size, used;
};

// Reserves `size` bytes for `what` (named in the error). Errors: MEMORY.
enum tlm_status arena_init(struct arena *a, size_t size, const char *what, struct tlm_error *err);
void arena_free(struct arena *a);
// Hands out `size` bytes on a boundary of 64. The arena was sized for what is asked of it: TLM_ASSERT.
void *arena_alloc(struct arena *a, size_t size);
// Gives the whole pages within `bytes` at `at`, memory of an arena, back to the system: they read as zeros from now on.
void arena_give_back(void *at, size_t bytes);

static inline size_t align_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

#endif
