// tests/cuda_emu/emu.h -- CUDA's model of execution on the CPU: what cuda/device.h is made of where nvcc is not the compiler.
//
// A launch runs the blocks of its grid one after the other; a block's threads are fibers, which run until they wait for each other. In
// which order is up to emu_order(): forward, backward, or drawn anew at every turn, so that what depends on luck shows. Blocks of a
// cooperative launch all run together, and so do those of a cluster, whose shared memory they may reach into.
//
// What is seen, each as an error that names kernel, block, thread and source line, and ends the launch:
//   - shared memory, always, as kernels reach it through shared<T> alone: accesses outside of the array, misaligned ones, bytes that were
//     never written or whose cp.async has not been waited for; and two threads that touch the same byte, one of them writing,
//     with neither a barrier of the block nor, within a warp, __syncwarp() between
//   - warps: a lane of the mask that does not come, has ended, or comes for something else
//   - global memory: what goes through load(), store() and copy_async() is checked for bounds and alignment. Plain indexing is not:
//     there the guard pages around each allocation (cuda_alloc() of runtime.cc) fault, and AddressSanitizer sees the single byte.
//     Fresh allocations are full of NaNs; whether a byte of them was ever written is not followed.
//   - threads that wait forever, for a counter too that nobody who can go on will raise; copies that are never waited for
//   - clusters: memory of another block that is written while nothing says that it is through with it, reached before the cluster has met
//     behind the making of its barriers, or behind its end
//   - what the host does too early: a stream's work is kept until the host waits for it, or for something behind it, and copies to and from
//     pinned memory with it
//   - several devices: memory of another one than the launch is on (plain indexing faults there, too). The host giving a stream, a copy or an
//     event of another device than it uses ends the program.
//   - early launches: what load() and copy_async() read of an allocation that a launch has stored to, and all that store() writes, in front of
//     wait_for_previous(); threads that never call it
// What is not seen: races in global memory but by their results, registers, time.
#ifndef TESTS_CUDA_EMU_EMU_H
#define TESTS_CUDA_EMU_EMU_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cuda/runtime.h"
#include "tests/cuda_emu/control.h"
#include "tests/cuda_emu/fiber.h"

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz)
    {
    }
};

struct cuda_stream;

namespace emu
{

// Where in a kernel's source a call stands: default arguments are worked out where the call is written.
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

enum { WARP = 32, MAX_THREADS = 1024, MAX_SHARED = 227 * 1024, MAX_REGIONS = 32 };
enum { OP_WORDS = 10, MAX_COPIES = 64, MAX_BARRIERS = 64, MAX_TILE_COPIES = 64, MAX_NAMED = 16 };

enum how { IN_ORDER, TOGETHER, EARLY, CLUSTERS }; // cooperative: TOGETHER

// EVENT_WAIT: for something of the block, which is looked at again whenever that changes (wake())
// COUNT_WAIT: for a counter in global memory that other blocks raise
enum state { READY, WARP_WAIT, BLOCK_WAIT, GRID_WAIT, EVENT_WAIT, COUNT_WAIT, DONE };

// What a lane has come to a meeting of its warp with, and what it takes away.
struct meeting {
    const char *name; // "__shfl_sync"
    uint32_t mask;
    const char *file;
    int line;
    int option;
    uint32_t in[OP_WORDS], out[OP_WORDS];
};

// A cp.async that was issued: it lands when its group is waited for.
struct copy {
    int64_t to;
    int region;
    const void *from; // NULL: zeros
    int bytes, group;
};

// A barrier in shared memory (mbarrier): `pending` arrivals and `bytes` are missing in this phase.
struct barrier {
    int region;
    int64_t at;
    int arrivals, pending;
    int64_t bytes;
    uint32_t phase;
    uint32_t met;                 // how often the cluster had met when it was made
    uint32_t heard[CUDA_CLUSTER]; // the clocks of blocks that have arrived from elsewhere
};

// A copy of a tile that was issued: it lands when its barrier is waited for.
struct tile_copy {
    int region;
    int64_t at;
    const void *base; // of the matrix, `columns` x `rows` numbers of 16 bits, rows `stride` bytes apart
    int64_t columns, rows;
    size_t stride;
    int64_t column, row; // where the box of box_rows rows begins
    int box_rows;        // 0: `bytes` from `base` on, which stand side by side
    int bytes;
    struct barrier *barrier;
};

// A barrier of a part of the block.
struct named {
    int arrived;
    uint32_t turn;
};

struct block;
struct warpgroup_work; // tests/cuda_emu/hopper.cc

struct thread {
    struct fiber fiber;
    struct block *block;
    uint3 index;
    int number; // in the block
    enum state state;
    struct meeting meeting;
    const char *file; // of the barrier that it waits at
    int line;
    const unsigned *counter; // that it waits for
    unsigned target;
    bool waited; // for the launches in front: those of early launches do it themselves
    struct copy copies[MAX_COPIES];
    int copy_count, group; // group: number of the group that is open
    uint32_t fences;       // calls of shared_written()
    struct warpgroup_work *work;
};

// What is known of a byte of shared memory. An epoch is counts of the block's barriers and of the warp's.
struct shadow {
    uint8_t state;          // 0: never written, 1: holds a value, 2: a cp.async is on its way
    int16_t writer, reader; // threads, NOBODY, or as below
    uint16_t writer_line;
    uint32_t write_block, write_warp, read_block, read_warp, fence;
    uint32_t clock; // of the block, when it last had to do with the byte
};

// One __shared__ array of a block.
struct region {
    const char *file, *name;
    int line;
    size_t begin, bytes;
};

struct block {
    uint3 index;
    struct thread *threads;
    int count, live, arrived;
    uint32_t epoch, warp_epoch[MAX_THREADS / WARP];
    char *memory;
    struct shadow *shadow;
    struct region regions[MAX_REGIONS];
    struct barrier barriers[MAX_BARRIERS];
    struct tile_copy copies[MAX_TILE_COPIES];
    struct named named[MAX_NAMED], warpgroup[MAX_THREADS / 128];
    int region_count, barrier_count, copy_count;
    size_t used;
    // In a cluster: its number there, arrivals elsewhere so far, up to which of these it has heard of the others (what they did before is
    // over), and at which meeting of the cluster another block has last reached into it.
    int rank;
    uint32_t clock, known[CUDA_CLUSTER], reached;
};

struct grid {
    const char *kernel;
    dim3 size, block_size;
    enum how how;
    uint32_t meetings; // of the cluster that runs
};

extern struct thread *self; // the one that runs; NULL outside of launches
extern struct grid grid;

// Ends the launch with a text: kernel, block, thread, place, and what is wrong.
[[noreturn]] void fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void yield(void);           // to whoever has a turn
void wake(struct block *b); // who waits for something of the block looks again
// What is kept next is for this stream, whose device must be the one that the host uses. NULL: it runs at once.
void on_stream(struct cuda_stream *s);
int device(void); // that the host uses
void use(int device);
void copy_from(int device, void *to, const void *from, size_t bytes); // to that which the host uses
[[noreturn]] void wrong_device(const char *what, int device);
void finish(void); // runs all that streams were given
// Bytes at p are of the device that the host uses.
void on_device(const void *p, size_t bytes, const char *what);
void run(const char *kernel, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
         void (*body)(void *), void *user);
// Keeps a launch, or (kernel NULL) body(user), with `bytes` of what `user` points to: for the recording that goes on, or until somebody waits
// for the stream. False where it has to run at once.
bool keep(const char *kernel, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
          void (*body)(void *), const void *user, size_t bytes);

// Arguments are those of the moment of the launch, as a device has them.
template <class... P, class... A>
void launch(const char *name, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
            void (*kernel)(P...), A... arguments)
{
    auto call = [=] { kernel(P(arguments)...); };
    static_assert(__is_trivially_copyable(decltype(call)), "arguments are copied as bytes");
    void (*body)(void *) = [](void *f) { (*(decltype(call) *)f)(); };
    if (!keep(name, size, block_size, shared_bytes, how, body, &call, sizeof call))
        run(name, size, block_size, shared_bytes, how, body, &call);
}

// The kernel that the tests' compiler made, or `own`, which is of its type.
template <class... P> auto made_or(const struct cuda_kernel *made, void (*own)(P...)) -> decltype(own)
{
    return made ? (decltype(own))cuda_kernel_code(made) : own;
}

// ---- shared memory ----------------------------------------------------------------------------------------

int region_find(const char *name, size_t bytes, const char *file,
                int line); // made by the first thread to come
void shared_read(void *to, int region, int64_t at, size_t bytes, size_t align, const char *file, int line);
void shared_write(int region, int64_t at, const void *from, size_t bytes, size_t align, const char *file,
                  int line);
void shared_copy_async(int region, int64_t at, const void *from, int bytes, const char *file, int line);
// What the device itself writes and reads there: bytes that are on their way, have come, are read by wgmma
void shared_expect(struct block *b, int region, int64_t at, size_t bytes, size_t align, const char *file,
                   int line);
void shared_land(struct block *b, int region, int64_t at, const void *from, size_t bytes);
void shared_read_async(void *to, int region, int64_t at, size_t bytes, const char *file, int line);
// Products of a thread that are on their way: none, and are there any?
void work_reset(struct thread *t);
bool work_left(const struct thread *t);

template <class T> struct reference {
    int64_t at;
    int region;
    const char *file;
    int line;
    reference(int64_t a, int r, const char *f, int l) : at(a), region(r), file(f), line(l)
    {
    }
    reference(const reference &) = default;
    operator T() const
    {
        T value;
        shared_read(&value, region, at, sizeof value, alignof(T), file, line);
        return value;
    }
    const reference &operator=(const T &value) const
    {
        shared_write(region, at, &value, sizeof value, alignof(T), file, line);
        return *this;
    }
    const reference &operator=(const reference &other) const
    {
        return *this = (T)other;
    }
    const reference &operator+=(const T &value) const
    {
        return *this = (T)(*this) + value;
    }
    const reference &operator*=(const T &value) const
    {
        return *this = (T)(*this) * value;
    }
};

// An index that knows where it was written.
struct place {
    int64_t i;
    const char *file;
    int line;
    place(int64_t index, const char *f = __builtin_FILE(), int l = __builtin_LINE())
        : i(index), file(f), line(l)
    {
    }
};

} // namespace emu

// A pointer into a __shared__ array.
template <class T> struct shared {
    int64_t at; // bytes from the array's begin
    int region;
    emu::reference<T> operator[](emu::place p) const
    {
        return {at + p.i * (int64_t)sizeof(T), region, p.file, p.line};
    }
    shared operator+(int64_t n) const
    {
        return {at + n * (int64_t)sizeof(T), region};
    }
    shared operator-(int64_t n) const
    {
        return {at - n * (int64_t)sizeof(T), region};
    }
};

namespace emu
{

template <class T> shared<T> array(const char *name, size_t count, EMU_HERE)
{
    return {0, region_find(name, count * sizeof(T), file, line)};
}

// ---- global memory ----------------------------------------------------------------------------------------

void global_bounds(const void *p, size_t bytes, size_t align, const char *what, const char *file, int line);
// Likewise, of an access: threads of early launches that have not waited may only read what no launch has written.
void global_check(const void *p, size_t bytes, size_t align, const char *what, const char *file, int line);
void global_store(const void *p, size_t bytes, size_t align, const char *file, int line);

// ---- warps ------------------------------------------------------------------------------------------------

// The lane waits for those of the mask; the last one to come calls finish(lanes of the warp, mask) for all.
typedef void finish_fn(struct thread *lanes, uint32_t mask);
void meet(const char *name, uint32_t mask, finish_fn *finish, const char *file, int line);
void meet_words(const char *name, uint32_t mask, const void *in, void *out, size_t bytes, int option,
                finish_fn *finish, const char *file, int line);

finish_fn finish_shuffle, finish_ballot, finish_sync, finish_mma_bf16, finish_mma_f16, finish_mma_s8;
void sync_block(const char *file, int line);
void sync_grid(const char *file, int line);
void wait_count(const unsigned *counter, unsigned target, const char *file, int line);
void sync_cluster(const char *file, int line);
void copy_commit(void);
void copy_wait(int groups, const char *file, int line);
void copy_land(struct thread *t, int up_to_group, const char *file, int line);
void load_matrices(uint32_t *out, int count, bool transposed, int region, int64_t at, const char *file,
                   int line);

} // namespace emu

#endif
