// models/weights.h -- how the rows of weight tables are written: one line a tensor.
//
//     LAYER_WEIGHT(wq, "attn_q.weight", "self_attn.q_proj.weight", MATRIX(WIDTH, Q, HEADS), TRANSFORM(ROPE_Q)),
//
// slot in struct layer, GGUF name behind "blk.%d.", Hugging Face name behind HF_LAYER ("model.layers.%d." unless the file defines
// another before it includes this), what it is, and where it is special: OPTIONAL, TRANSFORM(...), STACK(...).
#ifndef MODELS_WEIGHTS_H
#define MODELS_WEIGHTS_H

#include "models/model.h"

#ifndef HF_LAYER
#define HF_LAYER "model.layers.%d."
#endif

#define MODEL_WEIGHT(field, gguf_name, hf_name, ...)                                           \
    {                                                                                          \
        .gguf = gguf_name, .hf = hf_name, .slot = offsetof(struct weights, field), __VA_ARGS__ \
    }
#define LAYER_WEIGHT(field, gguf_name, hf_name, ...)                                                \
    {                                                                                               \
        .gguf = "blk.%d." gguf_name, .hf = HF_LAYER hf_name, .slot = offsetof(struct layer, field), \
        __VA_ARGS__                                                                                 \
    }

// K columns (inputs), N rows (outputs), how it splits over devices.
#define MATRIX(k, n, over) .cols = DIM_##k, .rows = DIM_##n, .split = SPLIT_##over, .role = ROLE_MATRIX
#define EMBEDDING(k, n)    .cols = DIM_##k, .rows = DIM_##n, .split = SPLIT_ROWS, .role = ROLE_EMBEDDING
#define ROUTER             .cols = DIM_WIDTH, .rows = DIM_EXPERTS, .split = SPLIT_COPY, .role = ROLE_ROUTER
#define NORM(n)            .cols = DIM_##n, .split = SPLIT_COPY, .role = ROLE_NORM
#define BIAS(n, over)      .cols = DIM_##n, .split = SPLIT_##over, .role = ROLE_BIAS
#define TABLE(n)           .cols = DIM_##n, .split = SPLIT_COPY, .role = ROLE_TABLE
#define EXPERT_MATRIX(k, n) \
    .cols = DIM_##k, .rows = DIM_##n, .depth = DIM_EXPERTS, .split = SPLIT_EXPERTS, .role = ROLE_MATRIX
#define EXPERT_BIAS(n) .cols = DIM_##n, .rows = DIM_EXPERTS, .split = SPLIT_EXPERTS, .role = ROLE_BIAS
#define HEAD_MATRIX(k, n) \
    .cols = DIM_##k, .rows = DIM_##n, .depth = DIM_HEADS, .split = SPLIT_HEADS, .role = ROLE_MATRIX
#define OPTIONAL        .optional = true
#define TRANSFORM(name) .transform = TRANSFORM_##name

// ---- rows that most architectures have, under the same names ------------------------------------------

#define WEIGHTS_EMBED \
    MODEL_WEIGHT(embed, "token_embd.weight", "model.embed_tokens.weight", EMBEDDING(WIDTH, VOCAB))
#define WEIGHTS_HEAD                                                                \
    MODEL_WEIGHT(out_norm, "output_norm.weight", "model.norm.weight", NORM(WIDTH)), \
        MODEL_WEIGHT(out, "output.weight", "lm_head.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL)
// Divisors of rotation frequencies; made from config.json, so no Hugging Face tensor has them.
#define WEIGHTS_ROPE_FACTORS                                                                      \
    MODEL_WEIGHT(rope_freqs, "rope_freqs.weight", NULL, TABLE(ROPE_PAIRS), OPTIONAL),             \
        MODEL_WEIGHT(rope_short, "rope_factors_short.weight", NULL, TABLE(ROPE_PAIRS), OPTIONAL), \
        MODEL_WEIGHT(rope_long, "rope_factors_long.weight", NULL, TABLE(ROPE_PAIRS), OPTIONAL)
// q and k of halves-paired rotation stay as they are; Llama's are turned into adjacent pairs: transforms NONE, or ROPE_Q and ROPE_K.
#define WEIGHTS_ATTENTION(q_transform, k_transform)                                            \
    LAYER_WEIGHT(wq, "attn_q.weight", "self_attn.q_proj.weight", MATRIX(WIDTH, Q, HEADS),      \
                 TRANSFORM(q_transform)),                                                      \
        LAYER_WEIGHT(wk, "attn_k.weight", "self_attn.k_proj.weight", MATRIX(WIDTH, K, HEADS),  \
                     TRANSFORM(k_transform)),                                                  \
        LAYER_WEIGHT(wv, "attn_v.weight", "self_attn.v_proj.weight", MATRIX(WIDTH, V, HEADS)), \
        LAYER_WEIGHT(wo, "attn_output.weight", "self_attn.o_proj.weight", MATRIX(OUT, WIDTH, COLUMNS))
#define WEIGHTS_ATTENTION_BIAS(q_transform, k_transform)                                                 \
    LAYER_WEIGHT(bq, "attn_q.bias", "self_attn.q_proj.bias", BIAS(Q, HEADS), TRANSFORM(q_transform),     \
                 OPTIONAL),                                                                              \
        LAYER_WEIGHT(bk, "attn_k.bias", "self_attn.k_proj.bias", BIAS(K, HEADS), TRANSFORM(k_transform), \
                     OPTIONAL),                                                                          \
        LAYER_WEIGHT(bv, "attn_v.bias", "self_attn.v_proj.bias", BIAS(V, HEADS), OPTIONAL),              \
        LAYER_WEIGHT(bo, "attn_output.bias", "self_attn.o_proj.bias", BIAS(WIDTH, COPY), OPTIONAL)
#define WEIGHTS_GLU                                                                         \
    LAYER_WEIGHT(gate, "ffn_gate.weight", "mlp.gate_proj.weight", MATRIX(WIDTH, FF, ROWS)), \
        LAYER_WEIGHT(up, "ffn_up.weight", "mlp.up_proj.weight", MATRIX(WIDTH, FF, ROWS)),   \
        LAYER_WEIGHT(down, "ffn_down.weight", "mlp.down_proj.weight", MATRIX(FF, WIDTH, COLUMNS))
// Of models some or all of whose layers have experts instead; block_check_feed_forward() wants one or the other.
#define WEIGHTS_GLU_OPTIONAL                                                                          \
    LAYER_WEIGHT(gate, "ffn_gate.weight", "mlp.gate_proj.weight", MATRIX(WIDTH, FF, ROWS), OPTIONAL), \
        LAYER_WEIGHT(up, "ffn_up.weight", "mlp.up_proj.weight", MATRIX(WIDTH, FF, ROWS), OPTIONAL),   \
        LAYER_WEIGHT(down, "ffn_down.weight", "mlp.down_proj.weight", MATRIX(FF, WIDTH, COLUMNS), OPTIONAL)
#define WEIGHTS_GLU_BIAS                                                                      \
    LAYER_WEIGHT(gate_bias, "ffn_gate.bias", "mlp.gate_proj.bias", BIAS(FF, ROWS), OPTIONAL), \
        LAYER_WEIGHT(up_bias, "ffn_up.bias", "mlp.up_proj.bias", BIAS(FF, ROWS), OPTIONAL),   \
        LAYER_WEIGHT(down_bias, "ffn_down.bias", "mlp.down_proj.bias", BIAS(WIDTH, COPY), OPTIONAL)
// `hf_block` is "mlp." or what stands in its place; the names of an expert's three matrices differ too.
#define WEIGHTS_EXPERTS(hf_block, hf_gate, hf_up, hf_down)                                 \
    LAYER_WEIGHT(router, "ffn_gate_inp.weight", hf_block "gate.weight", ROUTER, OPTIONAL), \
        LAYER_WEIGHT(experts_gate, "ffn_gate_exps.weight", hf_block "experts.%d." hf_gate, \
                     EXPERT_MATRIX(WIDTH, EXPERT_FF), OPTIONAL),                           \
        LAYER_WEIGHT(experts_up, "ffn_up_exps.weight", hf_block "experts.%d." hf_up,       \
                     EXPERT_MATRIX(WIDTH, EXPERT_FF), OPTIONAL),                           \
        LAYER_WEIGHT(experts_down, "ffn_down_exps.weight", hf_block "experts.%d." hf_down, \
                     EXPERT_MATRIX(EXPERT_FF, WIDTH), OPTIONAL)

// A LayerNorm, or a linear layer, with its bias.
#define WEIGHTS_LAYER_NORM(field, gguf_name, hf_name)                         \
    LAYER_WEIGHT(field, gguf_name ".weight", hf_name ".weight", NORM(WIDTH)), \
        LAYER_WEIGHT(field##_bias, gguf_name ".bias", hf_name ".bias", BIAS(WIDTH, COPY))
#define WEIGHTS_OUT_LAYER_NORM(hf_name)                                           \
    MODEL_WEIGHT(out_norm, "output_norm.weight", hf_name ".weight", NORM(WIDTH)), \
        MODEL_WEIGHT(out_norm_bias, "output_norm.bias", hf_name ".bias", BIAS(WIDTH, COPY))
// Up and down with biases; GPT-2 stores them transposed.
#define WEIGHTS_MLP(hf_up, hf_down, how)                                                         \
    LAYER_WEIGHT(up, "ffn_up.weight", hf_up ".weight", MATRIX(WIDTH, FF, ROWS), TRANSFORM(how)), \
        LAYER_WEIGHT(up_bias, "ffn_up.bias", hf_up ".bias", BIAS(FF, ROWS)),                     \
        LAYER_WEIGHT(down, "ffn_down.weight", hf_down ".weight", MATRIX(FF, WIDTH, COLUMNS),     \
                     TRANSFORM(how)),                                                            \
        LAYER_WEIGHT(down_bias, "ffn_down.bias", hf_down ".bias", BIAS(WIDTH, COPY))
// Queries, keys and values in one matrix, and the output, with biases. `how` is the order of Hugging Face's rows, `out_how` of the output's.
#define WEIGHTS_FUSED_ATTENTION(hf_qkv, hf_out, how, bias_how, out_how)                                 \
    LAYER_WEIGHT(wqkv, "attn_qkv.weight", hf_qkv ".weight", MATRIX(WIDTH, QKV, HEADS), TRANSFORM(how)), \
        LAYER_WEIGHT(bqkv, "attn_qkv.bias", hf_qkv ".bias", BIAS(QKV, HEADS), TRANSFORM(bias_how)),     \
        LAYER_WEIGHT(wo, "attn_output.weight", hf_out ".weight", MATRIX(OUT, WIDTH, COLUMNS),           \
                     TRANSFORM(out_how)),                                                               \
        LAYER_WEIGHT(bo, "attn_output.bias", hf_out ".bias", BIAS(WIDTH, COPY))

#endif
