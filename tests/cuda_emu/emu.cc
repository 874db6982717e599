// tests/cuda_emu/emu.cc -- launches: blocks, turns, barriers, and the text of what went wrong.
#include "tests/cuda_emu/emu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace emu
{

struct thread *self;
struct grid grid;

static struct {
    enum emu_order order;
    uint64_t seed, draws;
    int64_t launches;
    char error[1024];
    bool failed;
    struct fiber caller; // of the launch
    struct thread *threads;
    int thread_room;
    void (*body)(void *);
    void *user;
} world;

// ---- errors -----------------------------------------------------------------------------------------------

static void report(const char *file, int line, const char *format, va_list args)
{
    char *text = world.error;
    size_t room = sizeof world.error;
    int n = 0;
    if (self) {
        const uint3 b = self->block->index, t = self->index;
        n = snprintf(text, room, "%s: block (%u,%u,%u), thread (%u,%u,%u): ", grid.kernel, b.x, b.y, b.z, t.x,
                     t.y, t.z);
    }
    n += snprintf(text + n, room - (size_t)n, "%s:%d: ", file, line);
    vsnprintf(text + n, room - (size_t)n, format, args);
    world.failed = true;
}

static void report_text(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void report_text(const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(file, line, format, args);
    va_end(args);
}

// The fibers of the launch are left as they are: they begin anew in the next one.
void fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(file, line, format, args);
    va_end(args);
    if (self) fiber_switch(&self->fiber, &world.caller);
    fprintf(stderr, "cuda_emu: %s\n", world.error);
    abort();
}

// ---- turns ------------------------------------------------------------------------------------------------

static uint64_t draw(uint64_t below)
{
    uint64_t z = world.seed + ++world.draws * 0x9E3779B97F4A7C15u; // splitmix64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

static void turns(int *order, int count)
{
    for (int i = 0; i < count; i++) order[i] = world.order == EMU_BACKWARD ? count - 1 - i : i;
    for (int i = count - 1; i > 0 && world.order == EMU_RANDOM; i--) {
        int j = (int)draw((uint64_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

void yield(void)
{
    fiber_switch(&self->fiber, &world.caller);
}

static void release(struct block *b, enum state from)
{
    for (int i = 0; i < b->count; i++)
        if (b->threads[i].state == from) b->threads[i].state = READY;
}

void wake(struct block *b)
{
    release(b, EVENT_WAIT);
}

static void end_barrier(struct block *b)
{
    if (!b->arrived || b->arrived < b->live) return;
    release(b, BLOCK_WAIT);
    b->arrived = 0;
    b->epoch++;
}

// What a fiber begins with.
static void thread_main(void)
{
    fiber_arrived(&self->fiber, &world.caller);
    world.body(world.user);
    if (self->copy_count)
        fail(self->file, self->line, "cp.async: the thread ends with %d copies that it never waited for",
             self->copy_count);
    if (!self->waited) fail(self->file, self->line, "the thread ends without wait_for_previous()");
    if (work_left(self))
        fail(self->file, self->line, "wgmma: the thread ends with products that it never waited for");
    self->state = DONE;
    self->block->live--;
    if (!self->block->live && self->block->reached == grid.meetings)
        fail(self->file, self->line,
             "the block may be reached behind its end: others of the cluster did so since it last met");
    end_barrier(self->block);
    yield();
    abort(); // a thread that is done gets no turn
}

void sync_block(const char *file, int line)
{
    struct block *b = self->block;
    self->state = BLOCK_WAIT, self->file = file, self->line = line;
    b->arrived++;
    end_barrier(b);
    if (self->state != READY) yield();
}

void sync_grid(const char *file, int line)
{
    if (grid.how != TOGETHER) fail(file, line, "a barrier of the grid in a launch that is not cooperative");
    self->state = GRID_WAIT, self->file = file, self->line = line;
    yield();
}

// In a launch whose blocks do not all run together, the one that is waited for may never begin.
void wait_count(const unsigned *counter, unsigned target, const char *file, int line)
{
    if (grid.how != TOGETHER) fail(file, line, "a wait for other blocks in a launch that is not cooperative");
    if (*counter >= target) return;
    self->state = COUNT_WAIT, self->file = file, self->line = line;
    self->counter = counter, self->target = target;
    yield();
}

void sync_cluster(const char *file, int line)
{
    if (grid.how != CLUSTERS) fail(file, line, "a barrier of the cluster in a launch that has none");
    self->state = GRID_WAIT, self->file = file, self->line = line;
    yield();
}

// All threads that are left have come to the barrier of the grid or the cluster: what they did is known to all blocks.
static void end_meeting(struct thread *threads, int count)
{
    for (int i = 0; i < count; i++)
        if (threads[i].state == GRID_WAIT) threads[i].state = READY, threads[i].block->epoch++;
    if (grid.how != CLUSTERS) return;
    struct block *blocks = threads->block;
    grid.meetings++;
    for (int i = 0; i < CUDA_CLUSTER; i++)
        for (int j = 0; j < CUDA_CLUSTER; j++) blocks[i].known[j] = blocks[j].clock;
    for (int i = 0; i < CUDA_CLUSTER; i++) blocks[i].clock++;
}

// Nobody can go on: says why the first one waits.
static void stuck(struct thread *threads, int count)
{
    for (int i = 0; i < count; i++) {
        struct thread *t = &threads[i];
        if (t->state != WARP_WAIT) continue;
        const struct thread *lanes = t - t->number % WARP;
        int lane = 0;
        while (!(t->meeting.mask >> lane & 1) || lanes[lane].state == WARP_WAIT) lane++;
        self = t;
        report_text(t->file, t->line, "%s: lane %d of the mask %08x does not come: it waits at %s:%d",
                    t->meeting.name, lane, t->meeting.mask, lanes[lane].file, lanes[lane].line);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (threads[i].state != COUNT_WAIT) continue;
        self = &threads[i];
        report_text(self->file, self->line, "a wait for a count of %u that stays at %u: nobody can raise it",
                    self->target, *self->counter);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (threads[i].state == DONE) continue;
        self = &threads[i];
        report_text(self->file, self->line, "a barrier that not all threads reach");
        return;
    }
}

// A turn for each thread of a block that can go on. False if there was none.
static bool run_block(struct thread *threads, int count, int *order)
{
    bool moved = false;
    turns(order, count);
    for (int i = 0; i < count && !world.failed; i++) {
        struct thread *t = &threads[order[i]];
        if (t->state == COUNT_WAIT && *t->counter >= t->target) t->state = READY;
        if (t->state != READY) continue;
        moved = true;
        self = t;
        fiber_switch(&world.caller, &t->fiber);
    }
    return moved;
}

// Gives every thread turns until all are done, or something is wrong. A block goes on for as long as it can, or for as long as it is drawn,
// while the others stand still: nothing but what it waits for keeps them together.
static void run_threads(struct thread *threads, int blocks, int each)
{
    enum { MOST_TURNS = 64 };
    const int count = blocks * each;
    int *order = (int *)malloc((size_t)each * sizeof *order);
    int *block_order = (int *)malloc((size_t)blocks * sizeof *block_order);
    if (!order || !block_order) abort();
    for (bool moved = true; moved && !world.failed;) {
        moved = false;
        int waiting = 0, live = 0;
        turns(block_order, blocks);
        for (int i = 0; i < blocks; i++) {
            const bool drawn = blocks > 1 && world.order == EMU_RANDOM;
            int left = drawn ? 1 + (int)draw(MOST_TURNS) : INT32_MAX;
            while (left-- && !world.failed && run_block(threads + block_order[i] * each, each, order))
                moved = true;
        }
        for (int i = 0; i < count; i++) {
            live += threads[i].state != DONE;
            waiting += threads[i].state == GRID_WAIT;
        }
        if (!live || world.failed) break;
        if (waiting == live) end_meeting(threads, count);
        if (!moved && waiting < live) stuck(threads, count);
        moved |= waiting == live;
    }
    self = NULL;
    free(block_order);
    free(order);
}

// ---- launches ---------------------------------------------------------------------------------------------

static struct thread *threads_for(int count)
{
    if (count <= world.thread_room) return world.threads;
    struct fiber *fibers = (struct fiber *)malloc((size_t)count * sizeof *fibers);
    struct thread *threads = (struct thread *)calloc((size_t)count, sizeof *threads);
    if (!fibers || !threads) abort();
    const int had = world.thread_room;
    for (int i = 0; i < had; i++)
        threads[i].fiber = world.threads[i].fiber, threads[i].work = world.threads[i].work;
    fiber_stacks(fibers, (size_t)(count - had));
    for (int i = had; i < count; i++) threads[i].fiber = fibers[i - had];
    free(fibers);
    free(world.threads);
    world.threads = threads, world.thread_room = count;
    return threads;
}

static void begin_block(struct block *b, int64_t number, struct thread *threads, size_t shared_bytes)
{
    const dim3 g = grid.size, s = grid.block_size;
    const int count = (int)(s.x * s.y * s.z);
    b->index = {(unsigned)(number % g.x), (unsigned)(number / g.x % g.y), (unsigned)(number / g.x / g.y)};
    b->threads = threads, b->count = b->live = count, b->arrived = 0;
    b->epoch = 1, b->region_count = 1, b->used = shared_bytes, b->barrier_count = b->copy_count = 0;
    b->clock = 1, b->reached = ~0u;
    memset(b->known, 0, sizeof b->known);
    memset(b->named, 0, sizeof b->named);
    memset(b->warpgroup, 0, sizeof b->warpgroup);
    memset(b->warp_epoch, 0, sizeof b->warp_epoch);
    memset(b->shadow, 0, shared_bytes * sizeof *b->shadow);
    b->regions[0] = {"the launch", "dynamic shared memory", 0, 0, shared_bytes};
    for (int i = 0; i < count; i++) {
        struct thread *t = &threads[i];
        t->block = b, t->number = i, t->state = READY, t->copy_count = t->group = 0, t->fences = 0;
        work_reset(t);
        t->index = {(unsigned)i % s.x, (unsigned)i / s.x % s.y, (unsigned)i / s.x / s.y};
        t->file = "the end of the kernel", t->line = 0, t->waited = grid.how != EARLY;
        fiber_reset(&t->fiber, thread_main);
    }
}

static bool launch_fits(const char *kernel, size_t shared_bytes)
{
    const dim3 g = grid.size, s = grid.block_size;
    const uint64_t threads = (uint64_t)s.x * s.y * s.z;
    const char *wrong = NULL;
    if (!threads || threads > MAX_THREADS) wrong = "a block of more than 1024 threads, or of none";
    if (s.z > 64) wrong = "a block with z above 64";
    if (!g.x || !g.y || !g.z || g.x > INT32_MAX || g.y > 65535 || g.z > 65535)
        wrong = "a grid with a side of 0, or y or z above 65535";
    if (grid.how == CLUSTERS && g.x % CUDA_CLUSTER) wrong = "a grid that is no number of whole clusters";
    if (shared_bytes > cuda_shared_most()) wrong = "more shared memory than the device has";
    if (!wrong) return true;
    snprintf(world.error, sizeof world.error, "%s: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes: %s", kernel,
             g.x, g.y, g.z, s.x, s.y, s.z, shared_bytes, wrong);
    world.failed = true;
    return false;
}

void run(const char *kernel, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
         void (*body)(void *), void *user)
{
    if (world.failed) return;
    world.launches++;
    world.body = body, world.user = user;
    grid = {kernel, size, block_size, how, 0};
    if (!launch_fits(kernel, shared_bytes)) return;
    const int64_t blocks = (int64_t)size.x * size.y * size.z;
    const int64_t together = how == TOGETHER ? blocks : how == CLUSTERS ? CUDA_CLUSTER : 1;
    const int count = (int)(block_size.x * block_size.y * block_size.z);
    struct thread *threads = threads_for((int)together * count);
    struct block *block = (struct block *)calloc((size_t)together, sizeof *block);
    int *order = (int *)malloc((size_t)blocks * sizeof *order);
    if (!block || !order) abort();
    for (int64_t i = 0; i < together; i++) {
        block[i].memory = (char *)aligned_alloc(128, MAX_SHARED);
        block[i].shadow = (struct shadow *)malloc(MAX_SHARED * sizeof *block[i].shadow);
        if (!block[i].memory || !block[i].shadow) abort();
    }
    turns(order, (int)(blocks / together));
    for (int64_t i = 0; i < blocks && !world.failed; i += together) {
        grid.meetings = 0;
        for (int64_t j = 0; j < together; j++) {
            begin_block(&block[j], order[i / together] * together + j, threads + j * count, shared_bytes);
            block[j].rank = how == CLUSTERS ? (int)j : 0;
        }
        run_threads(threads, (int)together, count);
        for (int64_t j = 0; j < together && !world.failed; j++) {
            if (!block[j].copy_count) continue;
            self = threads + j * count;
            report_text(self->file, self->line,
                        "the block ends with %d copies of tiles that nobody waited for", block[j].copy_count);
            self = NULL;
        }
    }
    for (int64_t i = 0; i < together; i++) free(block[i].memory), free(block[i].shadow);
    free(block);
    free(order);
}

} // namespace emu

bool emu_here(void)
{
    return true;
}

void emu_set_order(enum emu_order order, uint64_t seed)
{
    emu::world.order = order, emu::world.seed = seed, emu::world.draws = 0;
}

const char *emu_error(void)
{
    return emu::world.failed ? emu::world.error : NULL;
}

void emu_forget(void)
{
    emu::world.failed = false;
}

int64_t emu_launches(void)
{
    return emu::world.launches;
}
