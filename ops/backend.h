// ops/backend.h -- another device that runs graphs, as the floors above see it: a table of functions, no header of the device.
//
// A backend holds a device and the weights that were brought to it; where there are several devices, each has its own. A RUNNER is what one pass over a model needs there: a stream, the
// step's data, the activations. A graph is built on the host as ever; runner_place() then turns its leaves to the device, and its nodes
// run in order on the stream.
#ifndef OPS_BACKEND_H
#define OPS_BACKEND_H

#include "ops/draw.h"
#include "ops/nodes.h"

struct backend;
struct runner;
struct adder;

enum { BACKEND_PASSES = 2 };

enum backend_limit {
    BACKEND_COPY,    // bytes a second, read and written, of a copy in its memory
    BACKEND_PRODUCT, // operations a second of a large bf16 product
};

// Training: weights, gradients and moments are the host's arrays, each with a TWIN on the device where the numbers are, until the
// backend is closed; the host's are what checkpoints and files are made of.
struct backend_training {
    // The twin's address; made, and brought there, when it is asked for first. Tensors are plain. Errors: MEMORY, IO.
    enum tlm_status (*twin)(struct backend *b, const struct tensor *t, void **out, struct tlm_error *err);
    // The host's numbers to the twin, and back. Errors: IO.
    enum tlm_status (*push)(struct backend *b, const struct tensor *t, struct tlm_error *err);
    enum tlm_status (*pull)(struct backend *b, const struct tensor *t, struct tlm_error *err);
    // On the runner's stream, addresses of the device. to[i]: the sum of the squares of `squares` numbers from i * squares on, with the bits
    // of ops/update.h.
    int64_t squares;
    void (*sum_squares)(struct runner *r, double *to, const float *x, int64_t count);
    void (*decide)(struct runner *r, struct update_verdict *to, const double *squares, int64_t count,
                   const struct update_limits *limits);
    void (*update)(struct runner *r, const struct update_launch *u);
    void (*update_matrix)(struct runner *r, const struct update_matrix *u);
    void (*convert)(struct runner *r, void *to, enum dtype type, const float *from, int64_t count);
    // Runs launch(user), which gives the stream the same work each time, of the calls above: recorded from the second time on.
    void (*repeat)(struct runner *r, void (*launch)(void *user), void *user);
    // Waits for the stream, and brings bytes to the host. Errors: IO.
    enum tlm_status (*fetch)(struct runner *r, void *to, const void *from, size_t bytes,
                             struct tlm_error *err);
};

struct backend_class {
    const char *name;     // "cuda"
    const struct op *ops; // the table that graph_init() takes, with the runner as its `kernels`
    void (*close)(struct backend *b);
    // From now on kernels may be compiled for the sizes of models, and are kept in the folder.
    void (*make_kernels)(struct backend *b, const char *folder);
    // What came of it, in words; "" where nothing did.
    void (*made)(const struct backend *b, char *text, size_t size);

    // Is there a kernel for the node? Errors: UNSUPPORTED, naming op and reason.
    enum tlm_status (*check)(const struct node *n, struct tlm_error *err);

    enum tlm_status (*runner_open)(struct backend *b, struct runner **out, struct tlm_error *err);
    void (*runner_close)(struct runner *r); // and all that it gave memory to
    // Memory of the device, until the runner is closed. Errors: MEMORY, with `what` and the bytes.
    enum tlm_status (*alloc)(struct runner *r, void **out, size_t bytes, const char *what,
                             struct tlm_error *err);
    void (*copy)(struct runner *r, void *to, const void *from, size_t bytes); // on the device, in order
    // In order with what the runner was given: from the host, whose bytes may change when the call has returned; to the host, where they
    // are behind wait(); to this runner from another one, on its device.
    void (*bring)(struct runner *r, void *to, const void *from, size_t bytes);
    void (*take)(struct runner *r, void *to, const void *from, size_t bytes);
    void (*hand_over)(struct runner *r, void *to, struct runner *source, const void *from, size_t bytes);
    // The memory of a struct step, whose counts stand first: begin() copies it to the device, from which time on it may change. Errors: MEMORY.
    enum tlm_status (*set_step)(struct runner *r, const struct arena *step, struct tlm_error *err);
    // Between building and planning. Errors: those of check(), MEMORY.
    enum tlm_status (*place)(struct runner *r, struct graph *g, struct tlm_error *err);
    // Between placing and planning of a graph that is not run backwards: ops of few rows that stand together become one. Errors: MEMORY.
    enum tlm_status (*fuse)(struct graph *g, struct node *const *roots, int root_count,
                            struct tlm_error *err);
    // The host's pages that results are brought to, until the runner is closed: that goes faster then.
    void (*pin)(struct runner *r, void *pages, size_t bytes);
    // The graph stays as it is until the runner is closed, and is run many times, with the same scratch: its launches may be recorded.
    // `fixed`: each run is of as many rows.
    void (*keep)(struct runner *r, const struct graph *g, bool fixed);
    // A pass: it begins, launches planned and bound graphs one behind the other, perhaps draws behind one, and waits for them. BACKEND_PASSES may
    // be on their way: the next begins when the first of them has been waited for, or its mark. Errors: IO.
    void (*begin)(struct runner *r);
    enum tlm_status (*launch)(struct runner *r, const struct graph *g, void *scratch, bool draw,
                              struct tlm_error *err);
    enum tlm_status (*wait)(struct runner *r, struct tlm_error *err);
    // A point in what the runner was given, one of BACKEND_PASSES; the host waits for it. Errors: IO.
    void (*mark)(struct runner *r, int i);
    enum tlm_status (*reach)(struct runner *r, int i, struct tlm_error *err);

    // Room for draws (ops/draw.h) from `rows` rows of `vocab` logits, whose data take `bytes` at most. Errors: MEMORY.
    enum tlm_status (*draw_open)(struct runner *r, int64_t rows, int64_t vocab, size_t bytes,
                                 struct tlm_error *err);
    // In front of a launch that is to draw: tokens from the logits `from` on the device, which that changes; and behind it
    // the tokens.
    void (*bring_draws)(struct runner *r, void *from, const struct draw_run *d);
    void (*take_draws)(struct runner *r, const struct draw_run *d);
    // Behind begin() and bring_draws(), in front of a launch: what is drawn by the pass in front, which may still run, goes where this one
    // reads it: to those of the step's tokens[0..rows) that are ~i, the token of its row i of logits, and to the draws that stand behind it.
    void (*follow)(struct runner *r, const int32_t *tokens, int64_t rows);

    // Runners of several devices that add up numbers, by a library; NULL where there is none, for which the note of the first one's backend has
    // the reason: copies and additions on the devices do it then (ops/parts.h).
    struct adder *(*adder_open)(struct runner *const *runners, int count);
    void (*adder_close)(struct adder *a); // in front of the runners; NULL is allowed
    // to[i] on runner i becomes the sum of all from[], in order with what the runners were given. Errors: IO.
    enum tlm_status (*add_up)(struct adder *a, float *const *to, const float *const *from, int64_t count,
                              struct tlm_error *err);

    // What the device does at most, measured for some hundredths of a second. Errors: MEMORY; UNSUPPORTED, with the reason.
    enum tlm_status (*measure)(struct backend *b, enum backend_limit limit, double *rate,
                               struct tlm_error *err);
    const struct backend_training *training;
};

struct backend {
    const struct backend_class *class;
    int number;               // of the device
    size_t memory, available; // bytes that it has, and that were free when it was opened
    char device[288];         // what it is, in words
    char note[288];           // what it does without, and why; "" where it has all that was wanted so far
    bool stand_in; // matrices are made up on the device, and those of the host never read: to measure speed
    struct kernels kernels; // what passes ask: the type that products take their activations in
};

// The backend of CUDA on device `number`, of cuda_backend_count(). Errors: UNSUPPORTED, with the reason.
enum tlm_status cuda_backend_open(struct backend **out, int number, struct tlm_error *err);
int cuda_backend_count(void);

#endif
