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

struct gradient {
    struct graph *g;
    struct gradient_slot *slots; // those that are trained; all others are frozen
    int64_t slot_count;
    struct node *resumed; // one I32: not 0 where the slots hold the sum of earlier passes of the batch
    // The pass's own:
    struct node **of; // [nodes] the gradient so far, NULL: none
    bool *needed;     // [nodes] does a trained weight stand behind it?
    int64_t count;    // nodes of the forward pass
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
