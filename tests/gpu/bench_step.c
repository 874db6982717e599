// tests/gpu/bench_step.c -- the decoding of a token, all layers and the head: launches beside one launch whose blocks stay.
//
// Errors are against the launches.
#include <math.h>
#include <stdlib.h>

#include "tests/gpu/bench.h"
#include "tests/gpu/llama_step.h"

struct run {
    struct llama_step step;
    int processors;
    bool stays;
    struct cuda_stream *stream;
    struct cuda_recording *recording;
};

static void step(const struct run *r)
{
    if (r->stays)
        persistent_run(r->stream, &r->step.step, r->processors);
    else
        persistent_launches(r->stream, r->step.tasks, r->step.step.count, r->processors);
}

static void run_step(void *user, int turn)
{
    const struct run *r = user;
    (void)turn;
    if (r->recording)
        cuda_recording_run(r->recording, NULL);
    else
        step(r);
}

static void one_row(struct bench *b, struct run *r, const char *what, double *oracle, bool begin)
{
    const struct llama_sizes *z = &r->step.sizes;
    float *found = malloc((size_t)z->vocab * sizeof *found);
    char name[160];
    TLM_ASSERT(found);
    r->stream = NULL;
    step(r);
    bench_fetch(found, r->step.logits, (size_t)z->vocab * sizeof *found);
    for (int32_t i = 0; i < z->vocab && begin; i++) oracle[i] = (double)found[i];
    struct bench_case record = {"steps", name,         r->step.bytes,
                                0,       BACKEND_COPY, bench_error(found, oracle, z->vocab)};
    r->stream = cuda_stream_open();
    cuda_record_begin(r->stream);
    step(r);
    r->recording = cuda_record_end(r->stream);
    snprintf(name, sizeof name, "%s, %s: %s%s", z->name, dtype_traits[z->type].name, what,
             r->recording ? "" : ", not recorded");
    bench_case(b, &record, run_step, r);
    cuda_recording_free(r->recording);
    cuda_stream_close(r->stream);
    r->recording = NULL;
    free(found);
}

// Kernels are measured when they are first launched, on a stream that can be recorded.
static void make_kernels(struct bench *b, struct run *r)
{
    struct tlm_error err;
    for (int32_t i = 0; i < r->step.step.count; i++)
        if (r->step.tasks[i].kind == PERSISTENT_PRODUCT) r->step.tasks[i].product.jit = b->backend->jit;
    r->stream = cuda_stream_open();
    step(r);
    if (cuda_sync(r->stream, &err)) fprintf(stderr, "gpu_bench: %s\n", err.text), exit(1);
    cuda_stream_close(r->stream);
}

static void one_shape(struct bench *b, struct llama_sizes sizes)
{
    static const int32_t ahead[] = {16, 64, 128, 192}; // KiB a block
    struct run r = {.processors = b->backend->device.processors};
    double *oracle = malloc((size_t)sizes.vocab * sizeof *oracle);
    char what[80];
    TLM_ASSERT(oracle);
    llama_step_open(&r.step, &sizes, r.processors, 1);
    snprintf(what, sizeof what, "%d launches", (int)(r.step.step.count + sizes.layers));
    one_row(b, &r, what, oracle, true);
    r.stays = true;
    for (size_t i = 0; i < (b->small ? 1 : sizeof ahead / sizeof *ahead); i++) {
        r.step.step.ahead = ahead[i] * 1024 / PERSISTENT_WARPS;
        snprintf(what, sizeof what, "one launch, %d KiB ahead", (int)ahead[i]);
        one_row(b, &r, what, oracle, false);
    }
    r.stays = false;
    make_kernels(b, &r);
    snprintf(what, sizeof what, "%d launches, by kernels for their shapes",
             (int)(r.step.step.count + sizes.layers));
    one_row(b, &r, what, oracle, false);
    llama_step_close(&r.step);
    free(oracle);
}

void bench_steps(struct bench *b)
{
    struct llama_sizes small = {"1B", DTYPE_BF16, DTYPE_BF16, 16, 2048, 8192, 32,   8,
                                64,   128256,     512,        32, 1,    1,    false};
    struct llama_sizes large = {"8B", DTYPE_Q8_0, DTYPE_Q8_0, 32, 4096, 14336, 32,   8,
                                128,  128256,     512,        32, 1,    1,     false};
    if (b->small) {
        small =
            (struct llama_sizes){"1B", DTYPE_BF16, DTYPE_BF16, 1, 256, 256, 4, 2, 64, 64, 32, 4, 1, 1, false};
        large = small;
    }
    one_shape(b, small);
    if (b->small) return;
    one_shape(b, large);
    large.type = DTYPE_Q4_K, large.down = DTYPE_Q6_K;
    one_shape(b, large);
}
