// train/gradient.h -- the gradient as a pass over a graph: from outputs whose gradients are known back to the weights.
//
// Each op has a rule (train/gradient_rules.c) that adds the nodes of its gradient: with respect to its inputs, and, where it has weights,
// to these; what nobody needs (frozen weights, what stands in front of them) is not added. The graph is differentiated as it stands
// behind pass_convert(), so that what the forward pass converted for its products serves those of the gradient.
#ifndef TRAIN_GRADIENT_H
#define TRAIN_GRADIENT_H

#include "ops/gradient.h"

// A weight's gradient within the pass.
struct gradient_slot {
    const void *weight;  // data of the leaf that the graph reads
    struct tensor to;    // of the weight's shape, `real`
    struct node *writer; // set by the pass: the last node that wrote it
};

// What the way back computes again instead of keeping it: of each layer, from the rows that come into it, what stands in front of its
// attention, or everything but attention itself, whose output and log-sum-exp are kept. The gradient's bits are the same.
enum recompute { RECOMPUTE_NONE, RECOMPUTE_ATTENTION, RECOMPUTE_LAYER };

struct gradient {
    struct graph *g;
    const struct kernels *kernels; // the types that products take
    enum recompute recompute;
    bool
        turns; // products of weights' gradients take the gradients of their outputs as they stand, not transposed
    struct gradient_slot *slots; // those that are trained; all others are frozen
    int64_t slot_count;
    struct node *resumed; // one I32: not 0 where the slots hold the sum of earlier passes of the batch
    // The pass's own:
    struct node **of;    // [nodes] the gradient so far, NULL: none
    struct node **again; // [nodes] what computes it again, NULL: nothing yet
    bool *needed;        // [nodes] does a trained weight stand behind it?
    bool *kept;          // [nodes] it is there on the way back
    struct node *entry;  // the gradient with which the walk came into its layer
    int64_t count;       // nodes of the forward pass
};

// Adds the gradients of all slots, given that of each output. Slots whose weights no output depends on keep writer NULL. Errors: MEMORY;
// UNSUPPORTED: an op without a rule.
enum tlm_status gradient_build(struct gradient *c, struct node *const *outputs, struct node *const *seeds,
                               int count, struct tlm_error *err);

// ---- for the rules

// Adds the nodes of n's gradient, given that of its output. False: there is no rule.
bool gradient_rule(struct gradient *c, struct node *n, struct node *dy);
// x itself, or what stands in front of a conversion: gradients are `real`.
struct node *gradient_source(struct node *x);
// x, or the node that computes it again: what a rule reads numbers from.
struct node *gradient_value(struct gradient *c, struct node *x);
bool gradient_needed(const struct gradient *c, const struct node *x);
// The gradient of x so far, which a new node may take as its base, and what it becomes.
struct node *gradient_base(const struct gradient *c, struct node *x);
void gradient_set(struct gradient *c, struct node *x, struct node *dx);
// Adds dx to the gradient of x; dx may have other readers.
void gradient_add(struct gradient *c, struct node *x, struct node *dx);
// Where the gradient of a weight with these numbers goes; false: it is frozen. The node that is made of it is to be noted.
struct gradient_slot *gradient_slot_of(const struct gradient *c, const void *weight);
struct weight_gradient gradient_of_slot(const struct gradient *c, const struct gradient_slot *s);

#endif
