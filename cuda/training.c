// cuda/training.c -- twins of the host's arrays on the device, and what is done to weights there.
#include "cuda/backend.h"
#include "cuda/gradient.h"
#include "cuda/update.h"

static enum tlm_status twin(struct backend *base, const struct tensor *t, void **out, struct tlm_error *err)
{
    struct tensor own = *t;
    enum tlm_status s = cuda_place((struct cuda_backend *)base, &own, err);
    *out = own.data;
    return s;
}

static enum tlm_status push(struct backend *b, const struct tensor *t, struct tlm_error *err)
{
    void *device;
    enum tlm_status s = twin(b, t, &device, err);
    if (s) return s;
    cuda_copy_in(NULL, device, t->data, tensor_bytes(t));
    return cuda_sync(NULL, err);
}

static enum tlm_status pull(struct backend *b, const struct tensor *t, struct tlm_error *err)
{
    void *device;
    enum tlm_status s = twin(b, t, &device, err);
    if (s) return s;
    cuda_copy_out(NULL, t->data, device, tensor_bytes(t));
    return cuda_sync(NULL, err);
}

static void sum_squares(struct runner *r, double *to, const float *x, int64_t count)
{
    cuda_sum_squares(r->stream, to, x, count);
}

static void decide(struct runner *r, struct update_verdict *to, const double *squares, int64_t count,
                   const struct update_limits *limits)
{
    cuda_decide(r->stream, to, squares, count, limits);
}

static void update(struct runner *r, const struct update_launch *u)
{
    cuda_update(r->stream, u);
}

static void update_matrix(struct runner *r, const struct update_matrix *u)
{
    cuda_muon(r->stream, u);
}

static void convert(struct runner *r, void *to, enum dtype type, const float *from, int64_t count)
{
    cuda_convert(r->stream, to, type, from, (struct cuda_rows){NULL, 1}, count);
}

static enum tlm_status fetch(struct runner *r, void *to, const void *from, size_t bytes,
                             struct tlm_error *err)
{
    if (bytes) cuda_copy_out(r->stream, to, from, bytes);
    return cuda_sync(r->stream, err);
}

const struct backend_training cuda_training = {
    .twin = twin,
    .push = push,
    .pull = pull,
    .squares = CUDA_SQUARES,
    .sum_squares = sum_squares,
    .decide = decide,
    .update = update,
    .update_matrix = update_matrix,
    .convert = convert,
    .repeat = runner_repeat,
    .fetch = fetch,
};
