// cuda/backend.h -- inside the CUDA backend: weights on the device, and what a pass needs there.
#ifndef CUDA_BACKEND_H
#define CUDA_BACKEND_H

#include "cuda/cublas.h"
#include "cuda/jit.h"
#include "cuda/kernels.h"
#include "cuda/upload.h"
#include "ops/backend.h"

// A tensor of the host that was brought to the device.
struct placed {
    const void *host;
    enum dtype type;
    int64_t count; // of its numbers: a matrix may be there whole, and in part
    void *device;
};

struct cuda_backend {
    struct backend base; // what others see
    struct cuda_device device;
    struct placed *placed; // by address
    int64_t placed_count, placed_room;
    struct upload_ring ring; // opened with the first weight
    struct jit *jit;         // NULL: no kernels are made
    struct cublas *cublas;   // NULL: not wanted yet, or not there
    bool cublas_sought;
};

enum { PINNED = 8 };

// Launches that are recorded once they have run.
struct recorded {
    struct cuda_recording *recording;
    bool ran, refused;
};

struct kept_graph {
    const struct graph *graph;
    bool fixed; // of as many rows each time
    // Without draws behind it (0), and with (1); of rows that share prefixes (2 more), which take launches of their own
    struct recorded recorded[4];
};

struct runner {
    struct cuda_backend *backend;
    struct cuda_stream *stream;
    const struct arena *step; // on the host
    char *device_step;        // the same bytes
    struct arena steps;       // those of BACKEND_PASSES passes, on their way there
    int64_t passes;           // begun
    struct cuda_event *marks[BACKEND_PASSES];
    void **memory; // that was handed out
    int64_t memory_count;
    struct kept_graph *kept;
    int64_t kept_count, kept_next; // kept_next: where the last one was found
    struct cuda_event *reached;    // a point in the stream that another device's waits for
    struct recorded repeated;      // of runner_repeat()
    void *pinned[PINNED];
    int pinned_count;
    int32_t *arrived;         // zeros: counters of the blocks of a launch, for CUDA_ARRIVALS of its groups
    struct cuda_sample draw;  // `most` 0: no draws; x is the run's
    bool recording;           // launches must be the same for every step, which may have fewer rows
    struct tlm_error failure; // of a library in the run so far; code TLM_OK: none
};

enum { CUDA_ARRIVALS = 4096 };

// Products that cuBLAS does where it is there; elsewhere it is our own tensor cores, whose clusters share what they read as cuBLAS's do
// (cuda/matmul_wgmma.cu). What settles it are the lines "BF16 14336 x 4096", "cuBLAS BF16 14336 x 4096" and their like in
// docs/benchmarks/gpu.md: where the first are faster, this is false.
static inline bool cublas_wins(enum dtype weights, int64_t rows)
{
    return weights == DTYPE_BF16 && rows >= CUDA_MANY_ROWS;
}

// Of a conversion to Q8_1: from how many rows on it is one to bf16 (cuda/nodes.h). None: from CUDA_MANY_ROWS on.
struct many_rows_params {
    int64_t rows;
};
static inline int64_t many_rows(const struct node *x)
{
    const struct many_rows_params *p = x->op == OP_convert ? x->params : NULL;
    return p ? p->rows : CUDA_MANY_ROWS;
}

// Memory of the device, until the runner is closed (cuda/runner.c).
enum tlm_status runner_alloc(struct runner *r, void **out, size_t bytes, const char *what,
                             struct tlm_error *err);
enum tlm_status runner_open(struct backend *b, struct runner **out, struct tlm_error *err);
void runner_close(struct runner *r);
enum tlm_status runner_set_step(struct runner *r, const struct arena *step, struct tlm_error *err);
void runner_copy(struct runner *r, void *to, const void *from, size_t bytes);
void runner_bring(struct runner *r, void *to, const void *from, size_t bytes);
void runner_take(struct runner *r, void *to, const void *from, size_t bytes);
void runner_hand_over(struct runner *r, void *to, struct runner *source, const void *from, size_t bytes);
void runner_pin(struct runner *r, void *pages, size_t bytes);
void runner_repeat(struct runner *r, void (*launch)(void *user), void *user); // struct backend_training's
void runner_keep(struct runner *r, const struct graph *g, bool fixed);
void runner_begin(struct runner *r);
enum tlm_status runner_launch(struct runner *r, const struct graph *g, void *scratch, bool draw,
                              struct tlm_error *err);
enum tlm_status runner_wait(struct runner *r, struct tlm_error *err);
void runner_mark(struct runner *r, int i);
enum tlm_status runner_reach(struct runner *r, int i, struct tlm_error *err);
enum tlm_status runner_draw_open(struct runner *r, int64_t rows, int64_t vocab, size_t bytes,
                                 struct tlm_error *err);
void runner_bring_draws(struct runner *r, void *from, const struct draw_run *d);
void runner_take_draws(struct runner *r, const struct draw_run *d);
void runner_follow(struct runner *r, const int32_t *tokens, int64_t rows);
// cuda/adder.c: struct backend_class's
struct adder *cuda_adder_open(struct runner *const *runners, int count);
void cuda_adder_close(struct adder *a);
enum tlm_status cuda_add_up(struct adder *a, float *const *to, const float *const *from, int64_t count,
                            struct tlm_error *err);
// Errors: MEMORY, with `what` and the bytes.
enum tlm_status cuda_no_memory(const char *what, size_t bytes, struct tlm_error *err);
// The library, opened when it is first asked for; NULL where there is none, for which the backend's note has the reason.
struct cublas *cuda_backend_cublas(struct cuda_backend *b);
// cuda/limits.c: struct backend_class's measure
enum tlm_status cuda_measure(struct backend *b, enum backend_limit limit, double *rate,
                             struct tlm_error *err);

// Between building a pass of training and planning it (cuda/join.c, cuda/narrow.c); other graphs stay as they are.
void cuda_join_gradients(struct graph *g);
void cuda_narrow_graph(struct graph *g);

// The ops as the device runs them: `run` launches, `units` is 1 where there is something to do.
extern const struct op cuda_op_table[]; // CUDA_OP_COUNT (cuda/fuse.h)
// Errors: UNSUPPORTED, naming op and reason.
enum tlm_status cuda_node_check(const struct node *n, struct tlm_error *err);

extern const struct backend_training cuda_training; // cuda/training.c

// Turns the tensor to the device, where its numbers are brought if they are not there. Errors: MEMORY, IO.
enum tlm_status cuda_place(struct cuda_backend *b, struct tensor *t, struct tlm_error *err);

static inline struct runner *cuda_runner_of(const struct graph *g)
{
    return (struct runner *)g->kernels;
}

#endif
