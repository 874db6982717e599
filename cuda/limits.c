// cuda/limits.c -- what the device does at most, measured: the yardstick of what runs on it.
#include "cuda/backend.h"

enum { ROUNDS = 3, COPIES = 8, PRODUCTS = 4, SIDE = 8192, SMALL_SIDE = 64 };

// Calls work(user) `calls` times a round; the seconds of a call in the best round.
static enum tlm_status best_round(struct cuda_stream *s, int calls, enum tlm_status (*work)(void *user),
                                  void *user, double *seconds, struct tlm_error *err)
{
    struct cuda_event *begin = cuda_event_open(), *end = cuda_event_open();
    enum tlm_status status = TLM_OK;
    *seconds = 0;
    if (!begin || !end) status = error_set(err, TLM_ERR_MEMORY, "cuda: no events to measure with");
    for (int i = 0; i <= ROUNDS && !status; i++) { // the first one warms up
        cuda_event_record(begin, s);
        for (int c = 0; c < calls && !status; c++) status = work(user);
        cuda_event_record(end, s);
        if (!status) status = cuda_sync(s, err);
        if (status) break;
        const double t = cuda_event_seconds(begin, end) / calls;
        if (i && (i == 1 || t < *seconds)) *seconds = t;
    }
    cuda_event_close(begin);
    cuda_event_close(end);
    return status;
}

struct limit_work {
    struct cublas *cublas;
    char *to, *from;
    size_t bytes;
    struct cuda_matrix w;
    struct tlm_error *err;
};

static enum tlm_status copy(void *user)
{
    const struct limit_work *l = user;
    cuda_copy(NULL, l->to, l->from, l->bytes);
    return TLM_OK;
}

static enum tlm_status multiply(void *user)
{
    const struct limit_work *l = user;
    return cublas_matmul(l->cublas, NULL, (float *)(void *)l->to, l->from, &l->w, l->w.outputs, false,
                         l->err);
}

// From one half of the memory to the other, many times the size of the caches.
static enum tlm_status measure_copy(const struct cuda_backend *b, double *rate, struct tlm_error *err)
{
    size_t bytes = b->device.memory / 128;
    if (bytes > (size_t)1 << 30) bytes = (size_t)1 << 30;
    struct limit_work l = {.bytes = bytes, .to = cuda_alloc(bytes), .from = cuda_alloc(bytes)};
    double seconds;
    enum tlm_status s = l.to && l.from ? best_round(NULL, COPIES, copy, &l, &seconds, err)
                                       : cuda_no_memory("a copy to measure", 2 * bytes, err);
    if (!s) *rate = 2 * (double)bytes / seconds;
    cuda_free(l.to);
    cuda_free(l.from);
    return s;
}

// bf16 numbers from 2^-7 to 2 of either sign: zeros would take less power, and run faster.
static void fill(char *device, size_t bytes)
{
    uint16_t some[4096];
    size_t had = sizeof some;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        some[i] = (uint16_t)(0x3c00 | (i * 2654435761u >> 16 & 0x83ff));
    cuda_copy_in(NULL, device, some, had);
    for (size_t n; had < bytes; had += n) {
        n = had < bytes - had ? had : bytes - had;
        cuda_copy(NULL, device + had, device, n);
    }
}

static enum tlm_status measure_product(struct cuda_backend *b, double *rate, struct tlm_error *err)
{
    const int64_t n = b->device.processors ? SIDE : SMALL_SIDE;
    const size_t bytes = (size_t)(n * n) * 2;
    char *w = cuda_alloc(bytes);
    struct limit_work l = {.cublas = cuda_backend_cublas(b),
                           .to = cuda_alloc(2 * bytes),
                           .from = cuda_alloc(bytes),
                           .w = {.type = DTYPE_BF16, .codes = w, .code_stride = (size_t)n * 2, n, n},
                           .err = err};
    double seconds;
    enum tlm_status s = TLM_OK;
    if (!w || !l.to || !l.from)
        s = cuda_no_memory("a product to measure", 4 * bytes, err);
    else if (!l.cublas)
        s = error_set(err, TLM_ERR_UNSUPPORTED, "%s", b->base.note);
    else {
        fill(w, bytes);
        fill(l.from, bytes);
        s = best_round(NULL, PRODUCTS, multiply, &l, &seconds, err);
    }
    if (!s) *rate = 2 * (double)n * (double)n * (double)n / seconds;
    cuda_free(w);
    cuda_free(l.to);
    cuda_free(l.from);
    return s;
}

enum tlm_status cuda_measure(struct backend *base, enum backend_limit limit, double *rate,
                             struct tlm_error *err)
{
    struct cuda_backend *b = (struct cuda_backend *)base;
    cuda_use(&b->device);
    return limit == BACKEND_COPY ? measure_copy(b, rate, err) : measure_product(b, rate, err);
}
