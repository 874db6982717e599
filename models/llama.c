// models/llama.c -- Llama and its kin (TinyLlama, SmolLM, Yi, Mistral without windows): pre-norm, rotary positions, grouped
// query heads, SwiGLU. Touvron et al., arXiv 2302.13971 and 2307.09288. x: (T, D)
#include <math.h>

#include "models/blocks.h"

#define LAYER(field) offsetof(struct layer, field)
#define MODEL(field) offsetof(struct weights, field)

static const struct weight_spec weights[] = {
    {"token_embd.weight", "model.embed_tokens.weight", TRANSFORM_NONE, MODEL(embed), DIM_WIDTH, DIM_VOCAB,
     SPLIT_ROWS, ROLE_EMBEDDING, false},
    {"output_norm.weight", "model.norm.weight", TRANSFORM_NONE, MODEL(out_norm), DIM_WIDTH, DIM_1, SPLIT_COPY,
     ROLE_NORM, false},
    {"output.weight", "lm_head.weight", TRANSFORM_NONE, MODEL(out), DIM_WIDTH, DIM_VOCAB, SPLIT_ROWS,
     ROLE_MATRIX, true},
    {"rope_freqs.weight", NULL, TRANSFORM_NONE, MODEL(rope_freqs), DIM_ROPE_PAIRS, DIM_1, SPLIT_COPY,
     ROLE_TABLE, true},
    {"rope_factors_short.weight", NULL, TRANSFORM_NONE, MODEL(rope_short), DIM_ROPE_PAIRS, DIM_1, SPLIT_COPY,
     ROLE_TABLE, true},
    {"rope_factors_long.weight", NULL, TRANSFORM_NONE, MODEL(rope_long), DIM_ROPE_PAIRS, DIM_1, SPLIT_COPY,
     ROLE_TABLE, true},
    {"blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight", TRANSFORM_NONE, LAYER(attn_norm),
     DIM_WIDTH, DIM_1, SPLIT_COPY, ROLE_NORM, false},
    {"blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight", TRANSFORM_ROPE_Q, LAYER(wq),
     DIM_WIDTH, DIM_Q, SPLIT_HEADS, ROLE_MATRIX, false},
    {"blk.%d.attn_q.bias", "model.layers.%d.self_attn.q_proj.bias", TRANSFORM_ROPE_Q, LAYER(bq), DIM_Q, DIM_1,
     SPLIT_HEADS, ROLE_BIAS, true},
    {"blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight", TRANSFORM_ROPE_K, LAYER(wk),
     DIM_WIDTH, DIM_K, SPLIT_HEADS, ROLE_MATRIX, false},
    {"blk.%d.attn_k.bias", "model.layers.%d.self_attn.k_proj.bias", TRANSFORM_ROPE_K, LAYER(bk), DIM_K, DIM_1,
     SPLIT_HEADS, ROLE_BIAS, true},
    {"blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight", TRANSFORM_NONE, LAYER(wv), DIM_WIDTH,
     DIM_V, SPLIT_HEADS, ROLE_MATRIX, false},
    {"blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias", TRANSFORM_NONE, LAYER(bv), DIM_V, DIM_1,
     SPLIT_HEADS, ROLE_BIAS, true},
    {"blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight", TRANSFORM_NONE, LAYER(wo),
     DIM_OUT, DIM_WIDTH, SPLIT_COLUMNS, ROLE_MATRIX, false},
    {"blk.%d.attn_output.bias", "model.layers.%d.self_attn.o_proj.bias", TRANSFORM_NONE, LAYER(bo), DIM_WIDTH,
     DIM_1, SPLIT_COPY, ROLE_BIAS, true},
    {"blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight", TRANSFORM_NONE,
     LAYER(ffn_norm), DIM_WIDTH, DIM_1, SPLIT_COPY, ROLE_NORM, false},
    {"blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight", TRANSFORM_NONE, LAYER(gate), DIM_WIDTH,
     DIM_FF, SPLIT_ROWS, ROLE_MATRIX, false},
    {"blk.%d.ffn_gate.bias", "model.layers.%d.mlp.gate_proj.bias", TRANSFORM_NONE, LAYER(gate_bias), DIM_FF,
     DIM_1, SPLIT_ROWS, ROLE_BIAS, true},
    {"blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight", TRANSFORM_NONE, LAYER(up), DIM_WIDTH,
     DIM_FF, SPLIT_ROWS, ROLE_MATRIX, false},
    {"blk.%d.ffn_up.bias", "model.layers.%d.mlp.up_proj.bias", TRANSFORM_NONE, LAYER(up_bias), DIM_FF, DIM_1,
     SPLIT_ROWS, ROLE_BIAS, true},
    {"blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight", TRANSFORM_NONE, LAYER(down), DIM_FF,
     DIM_WIDTH, SPLIT_COLUMNS, ROLE_MATRIX, false},
    {"blk.%d.ffn_down.bias", "model.layers.%d.mlp.down_proj.bias", TRANSFORM_NONE, LAYER(down_bias),
     DIM_WIDTH, DIM_1, SPLIT_COPY, ROLE_BIAS, true},
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    const char *a = "llama";
    int64_t experts = 0;
    enum tlm_status s;
    h->norm_eps = NAN; // the file has to say
    if ((s = hparam_i64(g, a, "block_count", 1, 4096, &h->layers, err)) ||
        (s = hparam_i64(g, a, "embedding_length", 1, 1 << 20, &h->width, err)) ||
        (s = hparam_i64(g, a, "feed_forward_length", 1, 1 << 24, &h->feed_forward, err)) ||
        (s = hparam_i64(g, a, "attention.head_count", 1, 1 << 16, &h->heads, err)) ||
        (s = hparam_i64(g, a, "context_length", 1, INT32_MAX, &h->context, err)) ||
        (s = hparam_i64(g, a, "expert_count", 0, 1 << 16, &experts, err)))
        return s;
    if (experts)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "llama.expert_count: %lld: mixtures of experts are not supported yet",
                         (long long)experts);
    h->kv_heads = h->heads;
    h->head_dim = h->value_dim = h->width / h->heads; // where the file does not say
    if ((s = hparam_i64(g, a, "attention.head_count_kv", 1, h->heads, &h->kv_heads, err)) ||
        (s = hparam_i64(g, a, "attention.key_length", 1, 4096, &h->head_dim, err)) ||
        (s = hparam_i64(g, a, "attention.value_length", 1, 4096, &h->value_dim, err)) ||
        (s = hparam_f64(g, a, "attention.layer_norm_rms_epsilon", &h->norm_eps, err)))
        return s;
    if (h->heads % h->kv_heads)
        return error_set(err, TLM_ERR_FORMAT,
                         "llama.attention.head_count_kv: expected a divisor of the %lld heads, found %lld",
                         (long long)h->heads, (long long)h->kv_heads);
    h->rope.pairs = h->head_dim / 2;
    h->rope.original_context = h->context;
    return rope_hparams_read(&h->rope, g, a, err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct node *table = g_rope_table(g, in->step.positions, in->rope_freq, in->rope_magnitude);
    struct node *x = g_embed(g, g_weight(g, m->weights.embed), in->step.tokens);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = g_rmsnorm(g, x, g_weight(g, w->attn_norm), m->hparams.norm_eps);
        x = g_add(g, x, block_attention(g, m, in, l, h, table));
        h = g_rmsnorm(g, x, g_weight(g, w->ffn_norm), m->hparams.norm_eps);
        x = g_add(g, x, block_swiglu(g, w, h));
    }
    g->layer = -1;
    return x;
}

const struct arch arch_llama = {"llama", hparams, weights, sizeof weights / sizeof *weights, build};
