#include "core/threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/cpu.h"

// A number that threads wait for to change. Waiters spin first; those who sleep are counted, so that the writer
// calls the kernel only when somebody does. The counts are sequentially consistent: either the writer sees the
// sleeper, or the sleeper sees the new number.
struct signal {
    _Alignas(128) atomic_uint number;
    atomic_uint sleepers;
};

struct threads {
    struct signal start;               // one more for each run
    struct signal done;                // one more for each barrier passed
    _Alignas(128) atomic_uint arrived; // threads at the barrier
    int count;
    int started; // workers that exist
    int64_t spin_ns;
    threads_fn *fn;
    void *user;
    struct worker *workers;
};

struct worker {
    struct threads *pool;
    pthread_t id;
    int index;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void signal_raise(struct signal *s)
{
    atomic_fetch_add(&s->number, 1);
    if (atomic_load(&s->sleepers)) syscall(SYS_futex, &s->number, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void signal_wait(struct signal *s, unsigned old, int64_t spin_ns)
{
    int64_t until = 0;
    while (atomic_load_explicit(&s->number, memory_order_acquire) == old) {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&s->number, memory_order_acquire) != old) return;
            __builtin_ia32_pause();
        }
        int64_t t = now_ns();
        if (!until) until = t + spin_ns;
        if (t < until) continue;
        atomic_fetch_add(&s->sleepers, 1);
        syscall(SYS_futex, &s->number, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&s->sleepers, 1);
    }
}

void threads_barrier(struct threads *t)
{
    if (t->count == 1) return;
    unsigned generation = atomic_load(&t->done.number);
    if (atomic_fetch_add(&t->arrived, 1) + 1 == (unsigned)t->count) {
        atomic_store(&t->arrived, 0);
        signal_raise(&t->done);
    } else {
        signal_wait(&t->done, generation, t->spin_ns);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct threads *t = w->pool;
    for (unsigned run = 0;; run++) {
        signal_wait(&t->start, run, t->spin_ns);
        if (!t->fn) return NULL;
        t->fn(t->user, w->index);
        threads_barrier(t);
    }
}

void threads_run(struct threads *t, threads_fn *fn, void *user)
{
    t->fn = fn;
    t->user = user;
    if (t->count > 1) signal_raise(&t->start);
    fn(user, 0);
    threads_barrier(t);
}

enum tlm_status threads_open(struct threads **out, int count, struct tlm_error *err)
{
    *out = NULL;
    if (count < 1 || count > THREADS_MAX)
        return error_set(err, TLM_ERR_ARGUMENT, "threads: expected 1 to %d, found %d", THREADS_MAX, count);
    struct threads *t = aligned_alloc(_Alignof(struct threads), sizeof *t);
    struct worker *workers = calloc((size_t)count, sizeof *workers);
    if (!t || !workers) {
        free(t), free(workers);
        return error_set(err, TLM_ERR_MEMORY, "threads: no memory for %d threads", count);
    }
    // With more threads than processors a spinning thread would keep away the one it waits for.
    *t = (struct threads){.count = count, .workers = workers, .spin_ns = count <= cpu_count() ? 50000 : 0};
    // Workers take no signals: Ctrl-C belongs to the caller's thread.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int failed = 0;
    for (int i = 1; i < count && !failed; i++) {
        workers[i] = (struct worker){.pool = t, .index = i};
        failed = pthread_create(&workers[i].id, NULL, work, &workers[i]);
        if (!failed) t->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        int started = t->started;
        threads_close(t);
        return error_set(err, TLM_ERR_MEMORY, "threads: the system refused thread %d of %d", started + 2,
                         count);
    }
    *out = t;
    return TLM_OK;
}

void threads_close(struct threads *t)
{
    if (!t) return;
    t->fn = NULL;
    signal_raise(&t->start);
    for (int i = 1; i <= t->started; i++) pthread_join(t->workers[i].id, NULL);
    free(t->workers);
    free(t);
}

int threads_count(const struct threads *t)
{
    return t->count;
}

// ---- sharing out --------------------------------------------------------------------------------------

struct each {
    threads_each_fn *fn;
    void *user;
    int64_t count;
    atomic_llong next;
};

static void run_each(void *user, int thread)
{
    struct each *e = user;
    for (int64_t i; (i = atomic_fetch_add(&e->next, 1)) < e->count;) e->fn(e->user, i, thread);
}

void threads_each(struct threads *t, int64_t count, threads_each_fn *fn, void *user)
{
    struct each e = {.fn = fn, .user = user, .count = count};
    atomic_init(&e.next, 0);
    threads_run(t, run_each, &e);
}
