// tests/cuda_emu/record.cc -- recordings of cuda/runtime.h: launches and copies, with the arguments that they had, to be run again.
#include <stdio.h>
#include <stdlib.h>

#include "cuda/runtime.h"
#include "tests/cuda_emu/emu.h"

struct kept {
    const char *kernel; // NULL: a copy
    dim3 size, block_size;
    size_t shared_bytes;
    enum emu::how how;
    void (*body)(void *);
    void *user; // our own copy of it
};

struct cuda_recording {
    struct kept *items;
    int64_t count, room;
};

static struct cuda_recording *recording; // NULL: nothing is recorded

bool emu::keep(const char *kernel, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
               void (*body)(void *), const void *user, size_t bytes)
{
    struct cuda_recording *r = recording;
    if (!r) return false;
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->items = (struct kept *)realloc((void *)r->items, (size_t)r->room * sizeof *r->items);
        if (!r->items) abort();
    }
    void *copy = malloc(bytes);
    if (!copy) abort();
    memcpy(copy, user, bytes);
    struct kept *k = &r->items[r->count++];
    k->kernel = kernel, k->size = size, k->block_size = block_size, k->shared_bytes = shared_bytes;
    k->how = how, k->body = body, k->user = copy;
    return true;
}

void cuda_record_begin(struct cuda_stream *s)
{
    emu::on_stream(s);
    recording = (struct cuda_recording *)calloc(1, sizeof *recording);
    if (!recording) abort();
}

struct cuda_recording *cuda_record_end(struct cuda_stream *)
{
    struct cuda_recording *r = recording;
    recording = NULL;
    return r;
}

void cuda_recording_run(struct cuda_recording *r, struct cuda_stream *s)
{
    emu::on_stream(s);
    for (int64_t i = 0; i < r->count; i++) {
        const struct kept *k = &r->items[i];
        if (k->kernel)
            emu::run(k->kernel, k->size, k->block_size, k->shared_bytes, k->how, k->body, k->user);
        else
            k->body(k->user);
    }
}

void cuda_recording_free(struct cuda_recording *r)
{
    if (!r) return;
    for (int64_t i = 0; i < r->count; i++) free(r->items[i].user);
    free((void *)r->items);
    free(r);
}

struct move {
    void *to;
    const void *from;
    size_t bytes;
};

void cuda_copy(struct cuda_stream *s, void *to, const void *from, size_t bytes)
{
    emu::on_stream(s);
    emu::on_device(to, bytes, "a copy to memory");
    emu::on_device(from, bytes, "a copy from memory");
    struct move m = {to, from, bytes};
    void (*body)(void *) = [](void *user) {
        const struct move *m = (const struct move *)user;
        memmove(m->to, m->from, m->bytes);
    };
    if (!emu::keep(NULL, dim3(), dim3(), 0, emu::IN_ORDER, body, &m, sizeof m)) body(&m);
}
