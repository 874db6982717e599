// cli/limits.c -- slices of the limits on all threads, and what any x86-64 can do.
#include "cli/limits.h"

#include <emmintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/common.h"
#include "core/threads.h"

const char *const limit_names[LIMIT_COUNT] = {"read", "fma", "bf16", "int8"};

// Far more than any cache holds; between two looks at the clock a thread reads a CHUNK.
enum { STREAM_BYTES = 1 << 30, CHUNK = 1 << 20 };

struct part {                // a thread's own, on cache lines of its own
    _Alignas(128) size_t at; // where in its part of the stream the next slice goes on
    double done;             // bytes or operations in this slice
};

struct limits {
    struct threads *threads;
    struct part *parts;
    char *stream; // [STREAM_BYTES], NULL until it is wanted
    size_t part_bytes;
    limit_read_fn *read;
    limit_peak_fn *peak[LIMIT_COUNT];
    enum limit limit; // of the slice under way
    double until;
};

// ---- without vector extensions ------------------------------------------------------------------------

static __m128i load(const char *data)
{
    return _mm_load_si128((const __m128i *)data);
}

void limit_read_ref(const char *data, size_t bytes)
{
    __m128i a = _mm_setzero_si128(), b = a, c = a, d = a;
    size_t quarter = bytes / 4;
    for (const char *end = data + quarter; data < end; data += 16) {
        a = _mm_xor_si128(a, load(data));
        b = _mm_xor_si128(b, load(data + quarter));
        c = _mm_xor_si128(c, load(data + 2 * quarter));
        d = _mm_xor_si128(d, load(data + 3 * quarter));
    }
    __asm__ volatile("" ::"x"(a), "x"(b), "x"(c), "x"(d)); // somebody wants the result
}

// A product and a sum are two instructions here: half of the chains multiply, half add, which is as many
// operations a lane.
double limit_fma_ref(void)
{
    __m128 a[LIMIT_CHAINS], one = _mm_set1_ps(1);
    LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i++) a[i] = one;
    for (int k = 0; k < LIMIT_ROUNDS; k++) LIMIT_UNROLL for (int i = 0; i < LIMIT_CHAINS; i += 2)
        {
            __asm__ volatile("mulps %1, %0" : "+x"(a[i]) : "x"(one));
            __asm__ volatile("addps %1, %0" : "+x"(a[i + 1]) : "x"(one));
        }
    return 4.0 * LIMIT_CHAINS * LIMIT_ROUNDS;
}

// ---- slices -------------------------------------------------------------------------------------------

static void choose_kernels(struct limits *l, enum isa isa)
{
    bool vectors = isa != ISA_F64; // the references in double precision are plain C, too
    l->read = limit_read_ref, l->peak[LIMIT_FMA] = limit_fma_ref;
    if (vectors && isa >= ISA_AVX2) {
        l->read = limit_read_avx2;
        l->peak[LIMIT_FMA] = limit_fma_avx2;
        l->peak[LIMIT_INT8] = limit_int8_avx2;
    }
    if (isa == ISA_AVX_VNNI) l->peak[LIMIT_INT8] = limit_int8_avx_vnni;
    if (vectors && isa >= ISA_AVX512) l->read = limit_read_avx512, l->peak[LIMIT_FMA] = limit_fma_avx512;
    if (vectors && isa >= ISA_AVX512_VNNI) l->peak[LIMIT_INT8] = limit_int8_avx512_vnni;
    if (vectors && isa >= ISA_AVX512_BF16) l->peak[LIMIT_BF16] = limit_bf16_avx512_bf16;
}

enum tlm_status limits_open(struct limits **out, enum isa isa, int threads, struct tlm_error *err)
{
    *out = NULL;
    struct limits *l = calloc(1, sizeof *l);
    struct part *parts = aligned_alloc(_Alignof(struct part), (size_t)threads * sizeof *parts);
    if (!l || !parts) {
        free(l), free(parts);
        return error_set(err, TLM_ERR_MEMORY, "limits: no memory for %d threads", threads);
    }
    memset(parts, 0, (size_t)threads * sizeof *parts);
    l->parts = parts;
    l->part_bytes = STREAM_BYTES / (size_t)threads / CHUNK * CHUNK;
    choose_kernels(l, isa);
    enum tlm_status status = threads_open(&l->threads, threads, err);
    if (status)
        limits_close(l);
    else
        *out = l;
    return status;
}

void limits_close(struct limits *l)
{
    if (!l) return;
    threads_close(l->threads);
    if (l->stream) munmap(l->stream, STREAM_BYTES);
    free(l->parts);
    free(l);
}

static void touch_part(void *user, int thread)
{
    struct limits *l = user;
    memset(l->stream + (size_t)thread * l->part_bytes, 1, l->part_bytes);
}

// Shared memory, because the system counts it apart from what the program itself takes (RssShmem in
// /proc/self/status), and in small pages as files have. Each thread touches what it will read: on machines
// with several memories it is near then.
static enum tlm_status open_stream(struct limits *l, struct tlm_error *err)
{
    void *stream = mmap(NULL, STREAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stream == MAP_FAILED)
        return error_set(err, TLM_ERR_MEMORY, "limits: no memory for a buffer of %d bytes to read from",
                         STREAM_BYTES);
    madvise(stream, STREAM_BYTES, MADV_NOHUGEPAGE);
    l->stream = stream;
    threads_run(l->threads, touch_part, l);
    return TLM_OK;
}

static void run_slice(void *user, int thread)
{
    struct limits *l = user;
    struct part *p = &l->parts[thread];
    p->done = 0;
    do {
        if (l->limit == LIMIT_READ) {
            l->read(l->stream + (size_t)thread * l->part_bytes + p->at, CHUNK);
            p->at = (p->at + CHUNK) % l->part_bytes;
            p->done += CHUNK;
        } else {
            p->done += l->peak[l->limit]();
        }
    } while (common_seconds() < l->until);
}

enum tlm_status limits_measure(struct limits *l, enum limit limit, double seconds, double *rate,
                               struct tlm_error *err)
{
    enum tlm_status status;
    TLM_ASSERT(limit == LIMIT_READ || l->peak[limit]);
    if (limit == LIMIT_READ && !l->stream && (status = open_stream(l, err))) return status;
    double begin = common_seconds(), done = 0;
    l->limit = limit;
    l->until = begin + seconds;
    threads_run(l->threads, run_slice, l);
    double taken = common_seconds() - begin;
    for (int i = 0; i < threads_count(l->threads); i++) done += l->parts[i].done;
    *rate = done / taken;
    return TLM_OK;
}
