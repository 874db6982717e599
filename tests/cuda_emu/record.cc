// tests/cuda_emu/record.cc -- streams, events and recordings of cuda/runtime.h. What a stream is given is kept and runs when the host waits for
// it, as late as a device might; recordings are such lists, to be run again.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cuda/runtime.h"
#include "tests/cuda_emu/emu.h"

struct kept {
    const char *kernel; // NULL: something else
    dim3 size, block_size;
    size_t shared_bytes;
    enum emu::how how;
    void (*body)(void *);
    void *user; // our own copy of it
    const struct cuda_stream *stream;
};

struct cuda_stream {
    int device;
};

struct cuda_recording {
    struct kept *items;
    int64_t count, room;
};

// Of all streams, in the order in which they were given it: so what waits for another stream's event finds it passed.
static struct cuda_recording queue;
static int64_t gone, first;              // items that have left the queue; the next one of it
static struct cuda_recording *recording; // NULL: nothing is recorded
static struct cuda_stream *stream;       // of what is kept next
static int64_t idle;

void emu::on_stream(struct cuda_stream *s)
{
    if (s && s->device != emu::device()) wrong_device("a stream", s->device);
    stream = s;
}

// ---- what is kept -----------------------------------------------------------------------------------------

static void run(const struct kept *k)
{
    if (k->kernel)
        emu::run(k->kernel, k->size, k->block_size, k->shared_bytes, k->how, k->body, k->user);
    else
        k->body(k->user);
}

// The queue's items up to this number, counted since the program began.
static void run_to(int64_t number)
{
    const int used = emu::device();
    for (; first < queue.count && gone + first < number; first++) {
        struct kept *k = &queue.items[first];
        emu::use(k->stream->device);
        run(k);
        free(k->user);
    }
    if (first == queue.count) gone += first, first = queue.count = 0;
    emu::use(used);
}

static int64_t end_of_queue(void)
{
    return gone + queue.count;
}

void emu::finish(void)
{
    run_to(end_of_queue());
}

// The host waits.
static void wait_to(int64_t number)
{
    const bool waits = gone + first < number;
    run_to(number);
    idle += waits && first == queue.count;
}

int64_t emu_idle(void)
{
    return idle;
}

static bool has_room(struct cuda_recording *r)
{
    if (r->count < r->room) return true;
    const int64_t room = r->room ? 2 * r->room : 64;
    struct kept *more = (struct kept *)realloc((void *)r->items, (size_t)room * sizeof *more);
    if (more) r->items = more, r->room = room;
    return more;
}

// Where a test lets the allocator fail, what is given runs at once.
bool emu::keep(const char *kernel, dim3 size, dim3 block_size, size_t shared_bytes, enum how how,
               void (*body)(void *), const void *user, size_t bytes)
{
    struct cuda_recording *r = recording ? recording : stream ? &queue : NULL;
    if (!r) return false;
    void *copy = has_room(r) ? malloc(bytes) : NULL;
    if (!copy) {
        if (recording) abort();
        finish();
        return false;
    }
    memcpy(copy, user, bytes);
    struct kept *k = &r->items[r->count++];
    k->kernel = kernel, k->size = size, k->block_size = block_size, k->shared_bytes = shared_bytes;
    k->how = how, k->body = body, k->user = copy, k->stream = stream;
    return true;
}

static void keep_or_run(void (*body)(void *), void *user, size_t bytes)
{
    if (!emu::keep(NULL, dim3(), dim3(), 0, emu::IN_ORDER, body, user, bytes)) body(user);
}

// ---- streams ----------------------------------------------------------------------------------------------

struct cuda_stream *cuda_stream_open(void)
{
    struct cuda_stream *s = (struct cuda_stream *)calloc(1, sizeof(struct cuda_stream));
    if (s) s->device = emu::device();
    return s;
}

void cuda_stream_close(struct cuda_stream *s)
{
    emu::finish();
    free(s);
}

enum tlm_status cuda_sync(struct cuda_stream *s, struct tlm_error *err)
{
    emu::on_stream(s);
    for (int64_t i = queue.count; i-- > first;)
        if (queue.items[i].stream == s) {
            wait_to(gone + i + 1);
            break;
        }
    return cuda_failure(err);
}

enum tlm_status cuda_failure(struct tlm_error *err)
{
    const char *text = emu_error();
    return text ? error_set(err, TLM_ERR_IO, "cuda: %s", text) : TLM_OK;
}

// ---- copies -----------------------------------------------------------------------------------------------

enum { MOST_PINNED = 256 };
static struct {
    char *begin, *end;
} pinned[MOST_PINNED];
static int pinned_count;

bool cuda_pin(void *pages, size_t bytes)
{
    if (pinned_count == MOST_PINNED) return false;
    pinned[pinned_count].begin = (char *)pages, pinned[pinned_count].end = (char *)pages + bytes;
    pinned_count++;
    return true;
}

void cuda_unpin(void *pages)
{
    emu::finish();
    for (int i = 0; i < pinned_count; i++)
        if (pinned[i].begin == pages) {
            pinned[i] = pinned[--pinned_count];
            return;
        }
}

static bool is_pinned(const void *p, size_t bytes)
{
    for (int i = 0; i < pinned_count; i++)
        if ((const char *)p >= pinned[i].begin && (const char *)p + bytes <= pinned[i].end) return true;
    return false;
}

struct move {
    void *to;
    const void *from; // NULL: the bytes stand behind this
    size_t bytes;
};

static void run_move(void *user)
{
    const struct move *m = (const struct move *)user;
    memmove(m->to, m->from ? m->from : m + 1, m->bytes);
}

// What is not pinned has been read when the call returns.
void cuda_copy_in(struct cuda_stream *s, void *device, const void *host, size_t bytes)
{
    emu::on_stream(s);
    emu::on_device(device, bytes, "a copy to memory");
    struct move m = {device, host, bytes};
    struct move *copy = is_pinned(host, bytes) || !s ? NULL : (struct move *)malloc(sizeof m + bytes);
    if (!copy) {
        keep_or_run(run_move, &m, sizeof m);
        return;
    }
    *copy = {device, NULL, bytes};
    memcpy(copy + 1, host, bytes);
    keep_or_run(run_move, copy, sizeof m + bytes);
    free(copy);
}

// What is not pinned has been written.
void cuda_copy_out(struct cuda_stream *s, void *host, const void *device, size_t bytes)
{
    emu::on_stream(s);
    emu::on_device(device, bytes, "a copy from memory");
    struct move m = {host, device, bytes};
    if (is_pinned(host, bytes) || !s) {
        keep_or_run(run_move, &m, sizeof m);
        return;
    }
    emu::finish();
    run_move(&m);
}

void cuda_copy(struct cuda_stream *s, void *to, const void *from, size_t bytes)
{
    emu::on_stream(s);
    emu::on_device(to, bytes, "a copy to memory");
    emu::on_device(from, bytes, "a copy from memory");
    struct move m = {to, from, bytes};
    keep_or_run(run_move, &m, sizeof m);
}

struct peer_move {
    struct move move;
    int source;
};

void cuda_copy_between(struct cuda_stream *s, void *to, const struct cuda_device *target, const void *from,
                       const struct cuda_device *source, size_t bytes)
{
    emu::on_stream(s);
    emu::on_device(to, bytes, "a copy to memory");
    if (target->number != emu::device()) emu::wrong_device("a copy to memory", target->number);
    struct peer_move m = {{to, from, bytes}, source->number};
    keep_or_run(
        [](void *user) {
            const struct peer_move *m = (const struct peer_move *)user;
            emu::copy_from(m->source, m->move.to, m->move.from, m->move.bytes);
        },
        &m, sizeof m);
}

// ---- events: moments of the host's clock ------------------------------------------------------------------

struct cuda_event {
    double seconds;
    int device;
    int64_t at; // as run_to() counts
};

struct cuda_event *cuda_event_open(void)
{
    struct cuda_event *e = (struct cuda_event *)calloc(1, sizeof(struct cuda_event));
    if (e) e->device = emu::device();
    return e;
}

void cuda_event_close(struct cuda_event *e)
{
    emu::finish();
    free(e);
}

void cuda_event_record(struct cuda_event *e, struct cuda_stream *s)
{
    emu::on_stream(s);
    if (e->device != emu::device()) emu::wrong_device("an event", e->device);
    keep_or_run(
        [](void *user) {
            struct timespec now;
            clock_gettime(CLOCK_MONOTONIC, &now);
            (*(struct cuda_event **)user)->seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
        },
        &e, sizeof e);
    e->at = s ? end_of_queue() : 0;
}

void cuda_event_wait(struct cuda_event *e)
{
    wait_to(e->at);
}

void cuda_event_await(struct cuda_event *, struct cuda_stream *s)
{
    emu::on_stream(s);
}

double cuda_event_seconds(struct cuda_event *begin, struct cuda_event *end)
{
    return end->seconds - begin->seconds;
}

// ---- recordings -------------------------------------------------------------------------------------------

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
    keep_or_run(
        [](void *user) {
            const struct cuda_recording *r = *(struct cuda_recording **)user;
            for (int64_t i = 0; i < r->count; i++) run(&r->items[i]);
        },
        &r, sizeof r);
}

void cuda_recording_free(struct cuda_recording *r)
{
    if (!r) return;
    emu::finish();
    for (int64_t i = 0; i < r->count; i++) free(r->items[i].user);
    free((void *)r->items);
    free(r);
}
