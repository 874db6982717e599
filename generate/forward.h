// generate/forward.h -- one pass of a batch of rows through a model: the graph, its memory, the cache, the threads.
//
// A row is a token at a position of a sequence; rows of many sequences, prompt chunks and single steps may stand in one
// batch. Rows of a sequence come with rising positions, without gaps, and stand side by side.
#ifndef GENERATE_FORWARD_H
#define GENERATE_FORWARD_H

#include "cache/kv.h"
#include "generate/draws.h"
#include "models/model.h"
#include "ops/parts.h"

struct forward_config {
    int32_t context;     // positions of a sequence
    int32_t sequences;   // at most
    int32_t max_rows;    // of a pass
    int32_t max_outputs; // rows of a pass whose logits can be asked for
    int32_t threads;
    enum dtype type_k, type_v;
    enum kv_policy policy;
    int32_t blocks; // of the cache; 0: for `context` positions of each sequence
};

enum { FORWARD_SMALL = 2 };

struct forward_row {
    int32_t token, position,
        sequence; // token: or ~i, what is drawn from the i-th output of the pass in front, which runs
    bool output;  // logits wanted
};

// A pass that devices work on, or have worked on.
struct forward_pass {
    struct pass_draws draws;
    const struct parts *parts; // that it went through
    int32_t outputs;
    bool drawn; // not logits come back, but tokens
};

struct forward {
    const struct tlm_model *model;
    struct forward_config config;
    struct kv_cache cache;
    struct step step;
    // For many rows, and for at most FORWARD_SMALL rows, in which threads share the products and attention alone.
    struct parts large, small;
    struct arena arena; // of the processor: activations, scratch of the threads, logits
    struct threads *threads;
    struct rope_source rope, rope_local;
    void *scratch[PLACES];
    float *
        float_logits; // (max_outputs, V) where the model runs in double or the head elsewhere than on the CPU, else NULL
    struct forward_pass passes[BACKEND_PASSES];
    int64_t begun, waited; // passes; begun - waited are on their way
    bool drawn;            // the last pass that was waited for drew
    bool
        lost; // it has to run again: a token is the host's to draw, from logits that the pass behind has overwritten
    int32_t alone;                  // passes to come that none may begin behind
    struct arena logits;            // these, of a head elsewhere
    struct runner *runners[PLACES]; // of the model's devices
    struct adder *adder;            // of those that share layers; NULL: they add up without one
};

// Bytes of address space that the cache of such a pass takes.
size_t forward_cache_bytes(const struct tlm_model *m, const struct forward_config *config);
// Errors: ARGUMENT, MEMORY. On failure nothing is left open.
enum tlm_status forward_open(struct forward *f, const struct tlm_model *model,
                             const struct forward_config *config, struct tlm_error *err);
void forward_close(struct forward *f);

// Runs rows[0..count), count <= max_rows, and writes their keys and values. A sequence's first row stands at its end, which grows with it,
// or at a position that kv_reserve() has added.
// Errors: CONTEXT; nothing was computed then, but sequences may have grown: kv_truncate() them.
enum tlm_status forward_run(struct forward *f, const struct forward_row *rows, int32_t count,
                            struct tlm_error *err);
// The two halves of it. Between them the next pass may be launched where forward_goes_ahead() says so; forward_wait() is for the older one,
// and what follows tells of that. forward_drop() waits for all, and nothing tells of them; their rows are the caller's to cut off.
enum tlm_status forward_launch(struct forward *f, const struct forward_row *rows, int32_t count,
                               struct tlm_error *err);
enum tlm_status forward_wait(struct forward *f, struct tlm_error *err);
enum tlm_status forward_drop(struct forward *f, struct tlm_error *err);
// Whether the next pass can begin behind the one that runs: it draws all its tokens on a device, which has the whole model.
bool forward_goes_ahead(const struct forward *f);
// Tells, in front of forward_run(), that tokens are drawn from the `outputs` rows of logits of the next pass; and who draws from the i-th
// of them, behind ahead[0..count), tokens that it has not accepted yet. Where a device can draw, it does, and logits stay there.
void forward_expect_draws(struct forward *f, int32_t outputs);
void forward_expect_draw(struct forward *f, int32_t i, struct tlm_sampler *sampler, const int32_t *ahead,
                         int32_t count);
// Calls watch->done for every node of later passes; NULL ends it.
void forward_watch(struct forward *f, const struct graph_watch *watch);
// Its graphs, one behind the other; NULL behind the last.
const struct graph *forward_graph(const struct forward *f, int i);
// (V) logits of the i-th row of the last pass that had `output`.
const float *forward_logits(const struct forward *f, int32_t i);
// The next token of the sampler of that row: what the device has drawn, or drawn now.
int32_t forward_draw(const struct forward *f, int32_t i, struct tlm_sampler *sampler);

#endif
