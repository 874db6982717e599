// cuda/runtime.h -- what the backend needs of a device, in plain C: memory, streams, copies.
//
// cuda/runtime.cu is made of the CUDA runtime, tests/cuda_emu/runtime.cc of the host's memory. Launches and copies are asynchronous
// and in order on their stream; what went wrong in them is told by the next cuda_sync(). A stream of NULL is the default one.
//
// A thread of the host works with one device at a time, the last that it opened or used: memory, streams and events that it opens are that
// device's, and what it gives to a stream, or waits for, must be of that device.
#ifndef CUDA_RUNTIME_H
#define CUDA_RUNTIME_H

#include <stdbool.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_stream; // cudaStream_t

struct cuda_device {
    char name[256];
    int number;
    int major, minor; // compute capability
    int processors;   // streaming multiprocessors
    size_t memory, available;
};

int cuda_count(void); // devices that there are
// Takes device `number`. Errors: UNSUPPORTED, with the reason: no driver, no such device, one that is too old.
enum tlm_status cuda_open(struct cuda_device *d, int number, struct tlm_error *err);
void cuda_use(const struct cuda_device *d);
void cuda_close(struct cuda_device *d);

void *cuda_alloc(size_t bytes); // NULL where there is no room; on a boundary of 256
void cuda_free(void *p);

struct cuda_stream *cuda_stream_open(void);
void cuda_stream_close(struct cuda_stream *s);
void cuda_copy_in(struct cuda_stream *s, void *device, const void *host, size_t bytes);
void cuda_copy_out(struct cuda_stream *s, void *host, const void *device, size_t bytes);
void cuda_copy(struct cuda_stream *s, void *to, const void *from, size_t bytes); // on the device
// From another device, on a stream of the one that gets it.
void cuda_copy_between(struct cuda_stream *s, void *to, const struct cuda_device *target, const void *from,
                       const struct cuda_device *source, size_t bytes);
// Waits for all that the stream was given. Errors: IO, with the text of the first thing that went wrong since the last call.
enum tlm_status cuda_sync(struct cuda_stream *s, struct tlm_error *err);
// The same of what has happened so far; waits for nothing.
enum tlm_status cuda_failure(struct tlm_error *err);

// A matrix of 16-bit numbers as the device's own copies of tiles know it (TMA, compute capability 9.0): boxes of 64 columns and box_rows rows;
// what lies outside of the matrix is zeros. Made for a launch, which takes it by value. False where the device or the driver has no
// such copies, or base and stride (in bytes) are no multiples of 16; box_rows: at most 256.
struct cuda_tile_map; // cuda/hopper.h
bool cuda_tile_map_make(struct cuda_tile_map *m, const void *base, int64_t columns, int64_t rows,
                        size_t stride, int box_rows);
// Streaming multiprocessors of the device.
int cuda_processors(void);
// Bytes of shared memory that a block of a launch may have: 227 KiB of 9.0, 163 of 8.0, 99 of others.
size_t cuda_shared_most(void);
enum { CUDA_CLUSTER = 2 }; // blocks of a launch in clusters (cuda/hopper.h)

// Memory of the host that copies take their own way from, and to: whole pages that somebody else owns, from cuda_pin() to cuda_unpin(). False
// where the system does not want to; copies are slower then.
bool cuda_pin(void *pages, size_t bytes);
void cuda_unpin(void *pages);

// A point in a stream's work.
struct cuda_event;
struct cuda_event *cuda_event_open(void); // NULL: there is none to be had
void cuda_event_close(struct cuda_event *e);
void cuda_event_record(struct cuda_event *e, struct cuda_stream *s);
void cuda_event_wait(struct cuda_event *e); // the host waits; at once where it was not recorded
// What the stream is given from now on waits for the event, which may be another device's.
void cuda_event_await(struct cuda_event *e, struct cuda_stream *s);
// Seconds of the device between two that were recorded on one stream and have passed.
double cuda_event_seconds(struct cuda_event *begin, struct cuda_event *end);

// Launches and copies on the device, recorded to be sent again as one, with the arguments that they had: what the stream is given between
// begin and end is not run. NULL: it could not be recorded.
struct cuda_recording;
void cuda_record_begin(struct cuda_stream *s);
struct cuda_recording *cuda_record_end(struct cuda_stream *s);
void cuda_recording_run(struct cuda_recording *r, struct cuda_stream *s);
void cuda_recording_free(struct cuda_recording *r); // NULL is allowed

// A kernel that was compiled while the program runs (cuda/jit.h), out of its cubin. Errors: UNSUPPORTED, with what the driver says.
struct cuda_kernel;
enum tlm_status cuda_kernel_load(struct cuda_kernel **out, const void *cubin, size_t size, const char *name,
                                 struct tlm_error *err);
void cuda_kernel_unload(struct cuda_kernel *k);            // NULL is allowed
const void *cuda_kernel_code(const struct cuda_kernel *k); // what a launch takes in the place of a function

#ifdef __cplusplus
}
#endif

#endif
