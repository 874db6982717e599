// models/llama.c -- Llama and its kin (TinyLlama, SmolLM, Yi, Mistral without windows): pre-norm, rotary positions, grouped
// query heads, SwiGLU. Touvron et al., arXiv 2302.13971 and 2307.09288. x: (T, D)
#include "models/blocks.h"
#include "models/weights.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(ROPE_Q, ROPE_K),
    WEIGHTS_ATTENTION_BIAS(ROPE_Q, ROPE_K),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(gate, "ffn_gate.weight", "mlp.gate_proj.weight", MATRIX(WIDTH, FF, ROWS)),
    LAYER_WEIGHT(gate_bias, "ffn_gate.bias", "mlp.gate_proj.bias", BIAS(FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(up, "ffn_up.weight", "mlp.up_proj.weight", MATRIX(WIDTH, FF, ROWS)),
    LAYER_WEIGHT(up_bias, "ffn_up.bias", "mlp.up_proj.bias", BIAS(FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(down, "ffn_down.weight", "mlp.down_proj.weight", MATRIX(FF, WIDTH, COLUMNS)),
    LAYER_WEIGHT(down_bias, "ffn_down.bias", "mlp.down_proj.bias", BIAS(WIDTH, COPY), OPTIONAL),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = hparams_common(h, g, "llama", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "llama", err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        x = block_residual(g, m, x, block_attention(g, m, in, l, h, &rope));
        h = block_norm(g, m, x, w->ffn_norm, NULL);
        x = block_residual(g, m, x, block_feed_forward(g, m, w, h, ACT_SILU));
    }
    g->layer = -1;
    return x;
}

const struct arch arch_llama = {
    .name = "llama",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
};
