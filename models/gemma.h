// models/gemma.h -- what Gemma 2 and Gemma 3 share (models/gemma2.c): norms before and behind attention and feed-forward part,
// embeddings times sqrt(D), tanh's GELU.
#ifndef MODELS_GEMMA_H
#define MODELS_GEMMA_H

#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

// Norms multiply by 1 + w; GGUF holds 1 + w.
#define GEMMA_WEIGHTS                                                                                        \
    WEIGHTS_EMBED,                                                                                           \
        MODEL_WEIGHT(out_norm, "output_norm.weight", "model.norm.weight", NORM(WIDTH), TRANSFORM(PLUS_ONE)), \
        MODEL_WEIGHT(out, "output.weight", "lm_head.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL),          \
        LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH),                   \
                     TRANSFORM(PLUS_ONE)),                                                                   \
        WEIGHTS_ATTENTION(NONE, NONE), WEIGHTS_ATTENTION_BIAS(NONE, NONE),                                   \
        LAYER_WEIGHT(attn_post_norm, "post_attention_norm.weight", "post_attention_layernorm.weight",        \
                     NORM(WIDTH), TRANSFORM(PLUS_ONE)),                                                      \
        LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "pre_feedforward_layernorm.weight", NORM(WIDTH),           \
                     TRANSFORM(PLUS_ONE)),                                                                   \
        WEIGHTS_GLU,                                                                                         \
        LAYER_WEIGHT(ffn_post_norm, "post_ffw_norm.weight", "post_feedforward_layernorm.weight",             \
                     NORM(WIDTH), TRANSFORM(PLUS_ONE))

// Models of text and images leave out of text_config what is as in transformers' class.
#define GEMMA_HF_KEYS(context)                                                                               \
    {"block_count", "num_hidden_layers", HF_I64, "26"}, {"embedding_length", "hidden_size", HF_I64, "2304"}, \
        {"feed_forward_length", "intermediate_size", HF_I64, "9216"},                                        \
        {"attention.head_count", "num_attention_heads", HF_I64, "8"},                                        \
        {"attention.head_count_kv", "num_key_value_heads", HF_I64, "4"},                                     \
        {"attention.key_length", "head_dim", HF_I64, "256"},                                                 \
        {"attention.value_length", "head_dim", HF_I64, "256"},                                               \
        {"context_length", "max_position_embeddings", HF_I64, context},                                      \
    {                                                                                                        \
        "attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"                                   \
    }

// All but rotation, windows and caps. The scale of scores is that of the file, or else what GGUF leaves unsaid: 1 / sqrt(d), in
// the model of `large_layers` layers 1 / sqrt(D / H).
enum tlm_status gemma_hparams(struct hparams *h, const struct gguf *g, const char *arch, int64_t large_layers,
                              struct tlm_error *err);
struct node *gemma_build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);

// query_pre_attn_scalar and settings that we do not compute, and back.
enum tlm_status gemma_import(struct gguf_writer *w, const char *arch, int64_t large_layers,
                             const json_t *config, struct tlm_error *err);
enum tlm_status gemma_export(json_t *config, const char *arch, int64_t large_layers, const struct gguf *g,
                             struct tlm_error *err);

#endif
