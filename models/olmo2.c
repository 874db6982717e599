// models/olmo2.c -- OLMo 2: norms behind attention and feed-forward instead of in front, and over whole rows of queries and keys. Team
// OLMo, arXiv 2501.00656. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    WEIGHTS_ATTENTION(NONE, NONE),
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "self_attn.q_norm.weight", NORM(Q)),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "self_attn.k_norm.weight", NORM(K)),
    LAYER_WEIGHT(attn_post_norm, "post_attention_norm.weight", "post_attention_layernorm.weight",
                 NORM(WIDTH)),
    WEIGHTS_GLU,
    LAYER_WEIGHT(ffn_post_norm, "post_ffw_norm.weight", "post_feedforward_layernorm.weight", NORM(WIDTH)),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s = hparams_common(h, g, "olmo2", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "olmo2", err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *y = block_attention(g, m, in, l, x, &rope);
        x = g_add(g, x, block_norm(g, m, y, w->attn_post_norm, NULL));
        y = block_glu(g, m, w, x, ACT_SILU);
        x = g_add(g, x, block_norm(g, m, y, w->ffn_post_norm, NULL));
    }
    g->layer = -1;
    return x;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-5"},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_act", "\"silu\"", err)) ||
        (s = hf_expect(config, "attention_bias", "false", err)))
        return s;
    return hf_import_rope(w, "olmo2", config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "hidden_act", json_string("silu"));
    return hf_export_rope(config, "olmo2", g, err);
}

static const struct hf_variant variants[] = {
    {"olmo2", "Olmo2ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_olmo2 = {
    .name = "olmo2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.keys = "rope.freq_base=500000.0 attention.layer_norm_rms_epsilon=1e-6",
               .residual = RESIDUAL_SAME},
};
