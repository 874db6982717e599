// models/blocks.h -- the pieces that architectures share. Optional weights are NULL and leave their step out; what differs between
// architectures stands in struct hparams and struct layer.
#ifndef MODELS_BLOCKS_H
#define MODELS_BLOCKS_H

#include "models/model.h"

// cos and sin of the step's positions, made once for all layers; `local` is NULL where no layer turns by rope_local.
struct rope_tables {
    struct node *global, *local;
};
struct rope_tables block_rope_tables(struct graph *g, const struct tlm_model *m,
                                     const struct build_inputs *in);

// The rows of the step's tokens, with learned positions, scale and norm where the model has them: (T, D)
struct node *block_embed(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);
// RMSNorm or LayerNorm as the architecture has it; x itself where w is NULL.
struct node *block_norm(struct graph *g, const struct tlm_model *m, struct node *x, const struct tensor *w,
                        const struct tensor *b);
// The head's matrix, bias, scale and cap on normed rows
struct node *block_logits(struct graph *g, const struct tlm_model *m, struct node *x);
// w x + b
struct node *block_linear(struct graph *g, const struct tensor *w, const struct tensor *b, struct node *x);
// Projections (apart or fused), norms of queries and keys, rotation, the cache, attention, output projection of layer l; x (T, D) is
// normed already. A model with hparams.kv_rank gets latent attention.
struct node *block_attention(struct graph *g, const struct tlm_model *m, const struct build_inputs *in,
                             int64_t l, struct node *x, const struct rope_tables *rope);
// Keys and values of four bits are kept rotated (ops/hadamard.c), so many numbers together: the largest power of two that divides heads of
// both sizes; 1: not rotated.
int64_t block_hadamard(enum dtype type, int64_t head, int64_t other);
// down(act(gate x) * up x), gate and up apart or fused
struct node *block_glu(struct graph *g, const struct tlm_model *m, const struct layer *w, struct node *x,
                       enum activation act);
// down(act(up x))
struct node *block_mlp(struct graph *g, const struct layer *w, struct node *x, enum activation act);
// The chosen experts' gated parts, weighted and summed, and shared experts where there are some.
struct node *block_experts(struct graph *g, const struct tlm_model *m, const struct layer *w, struct node *x,
                           enum activation act);
// Experts where the layer has a router, a plain gated part where not.
struct node *block_feed_forward(struct graph *g, const struct tlm_model *m, const struct layer *w,
                                struct node *x, enum activation act);
// The whole of Llama and its kin: x += attention(norm(x)), x += feed_forward(norm(x)) in each layer, gates by SiLU. An arch's build().
struct node *block_pre_norm_layers(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);
// Of GPT-2 and its kin: likewise with LayerNorms and a plain feed-forward part with GELU by tanh.
struct node *block_pre_norm_mlp_layers(struct graph *g, const struct tlm_model *m,
                                       const struct build_inputs *in);
// Of tables in which gate, up, down and the experts are optional: FORMAT where a layer has not all of one kind and none of the other.
enum tlm_status block_check_feed_forward(const struct tlm_model *m, struct tlm_error *err);
// x + y times the model's residual scale
struct node *block_residual(struct graph *g, const struct tlm_model *m, struct node *x, struct node *y);

#endif
