// models/blocks.h -- the pieces that architectures share. Optional weights are NULL and leave their step out.
#ifndef MODELS_BLOCKS_H
#define MODELS_BLOCKS_H

#include "models/model.h"

// w x + b
struct node *block_linear(struct graph *g, const struct tensor *w, const struct tensor *b, struct node *x);
// Projections, rotation, the cache, attention, output projection of layer l; x (T, D) is normed already.
struct node *block_attention(struct graph *g, const struct tlm_model *m, const struct build_inputs *in,
                             int64_t l, struct node *x, struct node *rope_table);
// down(silu(gate x) * up x)
struct node *block_swiglu(struct graph *g, const struct layer *w, struct node *x);

#endif
