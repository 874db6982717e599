// tests/cuda_emu/runtime.cc -- cuda/runtime.h where the device is the emulation: devices, and memory between guard pages.
#include "cuda/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/cuda_emu/emu.h"

// As cudaMalloc's, memory begins at a multiple of 256; behind it slack, filled with GUARD, up to a page that faults.
//
//     | PROT_NONE page | data | slack | PROT_NONE page |
enum { PAGE = 4096, ALIGN = 256, GUARD = 0xA5, MAX_ALLOCATIONS = 4096 };

struct allocation {
    char *data;
    size_t size, room;
    int device;
    bool written; // by a launch
};

static int device_count = 1, current; // current: the device that the host uses
static size_t free_bytes[EMU_DEVICES] = {(size_t)1 << 32, (size_t)1 << 32, (size_t)1 << 32, (size_t)1 << 32};

static struct allocation allocations[MAX_ALLOCATIONS];
static int allocation_count;

static bool is_in(const struct allocation *a, const void *p)
{
    return (const char *)p >= a->data && (const char *)p < a->data + a->room + PAGE;
}

// The allocation that the address is in, or little behind; that of one of the last calls, most times.
static struct allocation *find(const void *p)
{
    static int recent[4];
    for (int i = 0; i < 4; i++)
        if (recent[i] < allocation_count && is_in(&allocations[recent[i]], p)) return &allocations[recent[i]];
    for (int i = allocation_count; i-- > 0;)
        if (is_in(&allocations[i], p)) {
            memmove(recent + 1, recent, 3 * sizeof *recent);
            recent[0] = i;
            return &allocations[i];
        }
    return NULL;
}

static struct allocation *bounds(const void *p, size_t bytes, size_t align, const char *what,
                                 const char *file, int line)
{
    struct allocation *a = find(p);
    if (!a) emu::fail(file, line, "%s %p: in no allocation", what, p);
    const size_t at = (size_t)((const char *)p - a->data);
    if (at + bytes > a->size)
        emu::fail(file, line, "%s bytes %zu to %zu of an allocation of %zu", what, at, at + bytes - 1,
                  a->size);
    if ((uintptr_t)p % align)
        emu::fail(file, line, "%s byte %zu of an allocation: no multiple of %zu", what, at, align);
    if (a->device != current)
        emu::fail(file, line, "%s memory of device %d in a launch on device %d", what, a->device, current);
    return a;
}

// ---- devices ----------------------------------------------------------------------------------------------

void emu::wrong_device(const char *what, int device)
{
    fprintf(stderr, "cuda_emu: %s of device %d while the host uses device %d\n", what, device, current);
    abort();
}

int emu::device(void)
{
    return current;
}

void emu::on_device(const void *p, size_t bytes, const char *what)
{
    const struct allocation *a = bytes ? find(p) : NULL;
    if (a && a->device != current) emu::wrong_device(what, a->device);
}

static void protect(const struct allocation *a, int access)
{
    char *begin = (char *)((uintptr_t)a->data / PAGE * PAGE);
    if (mprotect(begin, (size_t)(a->data + a->room - begin), access)) abort();
}

// Memory of other devices is out of reach.
void emu::use(int device)
{
    if (device == current) return;
    current = device;
    for (int i = 0; i < allocation_count; i++)
        protect(&allocations[i], allocations[i].device == current ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void cuda_use(const struct cuda_device *d)
{
    emu::use(d->number);
}

void emu::copy_from(int device, void *to, const void *from, size_t bytes)
{
    struct allocation *a = bytes ? find(from) : NULL;
    if (!a) return;
    if (a->device != device) wrong_device("a copy from memory", a->device);
    protect(a, PROT_READ);
    memcpy(to, from, bytes);
    protect(a, a->device == current ? PROT_READ | PROT_WRITE : PROT_NONE);
}

int emu_set_devices(int count)
{
    return device_count = count < EMU_DEVICES ? count : EMU_DEVICES;
}

void emu_set_free(int device, size_t bytes)
{
    free_bytes[device] = bytes;
}

size_t emu_bytes(int device)
{
    size_t sum = 0;
    for (int i = 0; i < allocation_count; i++)
        if (allocations[i].device == device) sum += allocations[i].size;
    return sum;
}

int cuda_count(void)
{
    return device_count;
}

void emu::global_bounds(const void *p, size_t bytes, size_t align, const char *what, const char *file,
                        int line)
{
    bounds(p, bytes, align, what, file, line);
}

void emu::global_check(const void *p, size_t bytes, size_t align, const char *what, const char *file,
                       int line)
{
    const struct allocation *a = bounds(p, bytes, align, what, file, line);
    if (!self->waited && a->written)
        fail(file, line, "%s what a launch has written, in front of wait_for_previous()", what);
}

void emu::global_store(const void *p, size_t bytes, size_t align, const char *file, int line)
{
    struct allocation *a = bounds(p, bytes, align, "store to", file, line);
    if (!self->waited) fail(file, line, "store in front of wait_for_previous()");
    a->written = true;
}

enum tlm_status cuda_open(struct cuda_device *d, int number, struct tlm_error *err)
{
    if (number >= device_count)
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: device %d: the emulation has %d", number,
                         device_count);
    *d = {};
    snprintf(d->name, sizeof d->name, "emulation");
    d->number = number;
    d->major = 9;
    d->processors = 3;
    d->memory = (size_t)1 << 32, d->available = free_bytes[number];
    cuda_use(d);
    return TLM_OK;
}

void cuda_close(struct cuda_device *)
{
}

// Few, so that a block of a grid of this size has more than one piece of work.
int cuda_processors(void)
{
    return 3;
}

static size_t shared_most = emu::MAX_SHARED;

void emu_set_shared(size_t bytes)
{
    shared_most = bytes;
}

size_t cuda_shared_most(void)
{
    return shared_most;
}

void *cuda_alloc(size_t bytes)
{
    const size_t body = (bytes + ALIGN + PAGE - 1) / PAGE * PAGE;
    if (allocation_count == MAX_ALLOCATIONS) return NULL;
    char *map =
        (char *)mmap(NULL, body + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map + PAGE, body, PROT_READ | PROT_WRITE)) return NULL;
    struct allocation a;
    a.room = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    a.data = map + PAGE + body - a.room;
    a.size = bytes;
    a.device = current;
    a.written = false;
    if (bytes <= (size_t)1 << 24) memset(a.data, 0xff, bytes); // NaNs; large memory is touched as it is used
    memset(a.data + bytes, GUARD, a.room - bytes);
    allocations[allocation_count++] = a;
    return a.data;
}

void cuda_free(void *p)
{
    if (!p) return;
    emu::finish();
    struct allocation *a = find(p);
    if (!a || a->data != p) {
        fprintf(stderr, "cuda_emu: cuda_free of %p: no allocation\n", p);
        abort();
    }
    protect(a, PROT_READ | PROT_WRITE);
    for (size_t i = a->size; i < a->room; i++)
        if ((unsigned char)a->data[i] != GUARD) {
            fprintf(stderr, "cuda_emu: byte %zu behind an allocation of %zu bytes was written\n", i - a->size,
                    a->size);
            abort();
        }
    char *map = (char *)((uintptr_t)a->data / PAGE * PAGE) - PAGE;
    munmap(map, (size_t)(a->data + a->room - map) + PAGE);
    *a = allocations[--allocation_count];
}
