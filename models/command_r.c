// models/command_r.c -- Cohere's Command R: attention and feed-forward read the same LayerNorm and are added together; logits are
// scaled. Cohere, "Command R", 2024. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(NONE, NONE),
    WEIGHTS_ATTENTION_BIAS(NONE, NONE),
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "self_attn.q_norm.weight", NORM(HEAD), .rows = DIM_HEADS,
                 OPTIONAL),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "self_attn.k_norm.weight", NORM(HEAD), .rows = DIM_KV_HEADS,
                 OPTIONAL),
    WEIGHTS_GLU,
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s;
    h->parallel = true;
    if ((s = hparams_common(h, g, "command-r", "attention.layer_norm_epsilon", err)) ||
        (s = hparam_f64(g, "command-r", "logit_scale", &h->logit_scale, err)))
        return s;
    return rope_hparams_read(&h->rope, g, "command-r", err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        x = g_add(g, g_add(g, x, block_attention(g, m, in, l, h, &rope)), block_glu(g, m, w, h, ACT_SILU));
    }
    g->layer = -1;
    return x;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_epsilon", "layer_norm_eps", HF_F64, "1e-5"},
    {"logit_scale", "logit_scale", HF_F64, "0.0625"},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, "command-r", config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    static const char *const biased[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    json_object_set_new(config, "hidden_act", json_string("silu"));
    json_object_set_new(config, "use_qk_norm",
                        json_boolean(gguf_find_tensor(g, "blk.0.attn_q_norm.weight") != NULL));
    enum tlm_status s = hf_export_biases(config, "attention_bias", g, biased, 4, err);
    return s ? s : hf_export_rope(config, "command-r", g, err);
}

static const struct hf_variant variants[] = {
    {"cohere", "CohereForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_command_r = {
    .name = "command-r",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
};
