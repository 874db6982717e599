// train/pass.h -- one pass over a batch of rows, forward and back: losses, and the gradients of the weights.
//
// The graph is that of the model's build(), so a row's logits are those of generating, to the bit (keys and values in f32); its gradient is
// added by train/gradient.h. The logits are taken in chunks of rows, each through the loss and back before the next: never all.
//
// A model on a backend has its passes there. Attention reads keys and values as they stand beside the queries, in no cache, and in F16
// where matrices are BF16 (or a teacher's are quantized).
#ifndef TRAIN_PASS_H
#define TRAIN_PASS_H

#include "models/model.h"
#include "train/gradient.h"

struct pass_config {
    int32_t rows;    // of a pass; every pass has so many
    int32_t context; // rows of a document at most
    double dropout;  // of what layers add to the rows; 0: none
    bool gradients;  // else losses alone
    enum recompute recompute;
    // Distillation: `distill` of the loss is the divergence from this model's distributions (ops/distill.c), which has the vocabulary of the
    // one that learns and runs in the same `real`, both on the CPU or both on a backend; NULL: the loss is the tokens' alone. It stays the
    // caller's.
    const struct tlm_model *teacher;
    double distill;
};

// Rows of documents, one behind the other. A row sees those of its own document in front of it.
struct pass_batch {
    const int32_t *tokens;
    const int32_t *targets;   // the token to be predicted; -1: none
    const int32_t *documents; // any numbers: a document ends where the number changes
};

struct pass {
    const struct tlm_model *model;
    struct pass_config config;
    struct graph graph;
    struct step step;
    struct rope_source rope, rope_local;
    struct arena data;   // the cache of one layer
    struct arena memory; // activations, scratch of the threads
    struct threads *threads;
    struct runner *runner; // on the model's backend; NULL: on the CPU
    void *scratch;
    struct node *losses_leaf;
    // The teacher's over the same rows, up to what its head reads; NULL: none. On a backend it has no graph
    struct pass *teacher;
    struct node *hidden; // what a teacher's pass comes to, (rows, D)
    // Read by the graph, in the memory of the step:
    int32_t *targets, *resumed, *seed; // (rows), 1, 2
    double *losses, *factor;           // (rows), 1
};

// Bytes that a pass takes.
struct pass_bytes {
    size_t activations, scratch, cache;
};

// slots (train/gradient.h) name the weights of the model that are trained. threads may be NULL. Errors: MEMORY, UNSUPPORTED.
enum tlm_status pass_open(struct pass *p, const struct tlm_model *m, struct gradient_slot *slots,
                          int64_t slot_count, const struct pass_config *config, struct threads *threads,
                          struct tlm_error *err);
void pass_close(struct pass *p);
struct pass_bytes pass_size(const struct pass *p);

// Runs a batch of config.rows rows. Gradients are those of factor times the sum of the losses, added to what the slots hold if `resumed`. seed: of
// dropout. *sum: of the losses, each of which is in p->losses. Errors: IO, of the backend.
enum tlm_status pass_run(struct pass *p, const struct pass_batch *batch, double factor, bool resumed,
                         uint64_t seed, double *sum, struct tlm_error *err);

#endif
