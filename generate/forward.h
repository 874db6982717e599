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
    int32_t token, position, sequence;
    bool output; // logits wanted
};

struct forward {
    const struct tlm_model *model;
    struct forward_config config;
    struct kv_cache cache;
    struct step step;
    // For many rows, and for at most FORWARD_SMALL rows, in which threads share the products and attention alone.
    struct parts large, small;
    const struct parts *last; // the one that ran
    struct arena arena;       // of the processor: activations, scratch of the threads, logits
    struct threads *threads;
    struct rope_source rope, rope_local;
    void *scratch[PLACES];
    float *
        float_logits; // (max_outputs, V) where the model runs in double or the head elsewhere than on the CPU, else NULL
    struct pass_draws draws;
    bool drawn;                     // the last pass drew
    struct arena logits;            // these, of a head elsewhere
    struct runner *runners[PLACES]; // of the model's devices
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
