// models/cohere.h -- what Command R and Command R7B share (models/command_r.c): attention and feed-forward part side by side behind one
// LayerNorm without bias, adjacent pairs rotated, scaled logits.
#ifndef MODELS_COHERE_H
#define MODELS_COHERE_H

#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

#define COHERE_WEIGHTS                                                                      \
    WEIGHTS_EMBED, WEIGHTS_HEAD, WEIGHTS_ROPE_FACTORS,                                      \
        LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)), \
        WEIGHTS_ATTENTION(NONE, NONE), WEIGHTS_ATTENTION_BIAS(NONE, NONE), WEIGHTS_GLU

#define COHERE_HF_KEYS                                                                  \
    HF_KEYS_COMMON, {"attention.layer_norm_epsilon", "layer_norm_eps", HF_F64, "1e-5"}, \
    {                                                                                   \
        "logit_scale", "logit_scale", HF_F64, "0.0625"                                  \
    }

enum tlm_status cohere_hparams(struct hparams *h, const struct gguf *g, const char *arch,
                               struct tlm_error *err);
struct node *cohere_build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);
enum tlm_status cohere_import(struct gguf_writer *w, const char *arch, const json_t *config,
                              struct tlm_error *err);
enum tlm_status cohere_export(json_t *config, const char *arch, const struct gguf *g, struct tlm_error *err);

#endif
