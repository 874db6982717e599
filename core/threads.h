// core/threads.h -- a pool of threads that run one function together, and a barrier between its parts.
//
// The caller is thread 0. Waiting threads spin for some tens of microseconds, then sleep in the kernel, so a barrier costs
// well under a microsecond while all cores are free and an idle pool costs nothing.
#ifndef CORE_THREADS_H
#define CORE_THREADS_H

#include <stdint.h>

#include "core/error.h"

struct threads;

// `count` threads, the caller among them. Errors: ARGUMENT (count < 1 or > THREADS_MAX), MEMORY.
enum { THREADS_MAX = 1024 };
enum tlm_status threads_open(struct threads **out, int count, struct tlm_error *err);
void threads_close(struct threads *t); // NULL is allowed
int threads_count(const struct threads *t);

// Runs fn(user, i) on every thread i and returns when all have returned. Not reentrant.
typedef void threads_fn(void *user, int thread);
void threads_run(struct threads *t, threads_fn *fn, void *user);
// Calls fn(user, i, thread) for every i below `count`, in rising order as threads get round to it.
typedef void threads_each_fn(void *user, int64_t i, int thread);
void threads_each(struct threads *t, int64_t count, threads_each_fn *fn, void *user);
// Called from within fn by every thread: none goes on before all have come.
void threads_barrier(struct threads *t);

#endif
