// models/command_r.c -- Cohere's Command R: attention and feed-forward read the same LayerNorm and are added together; logits are
// scaled. Cohere, "Command R", 2024. Also what it shares with Command R7B. x: (T, D)
#include "models/cohere.h"

static const struct weight_spec weights[] = {
    COHERE_WEIGHTS,
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "self_attn.q_norm.weight", NORM(HEAD), .rows = DIM_HEADS,
                 OPTIONAL),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "self_attn.k_norm.weight", NORM(HEAD), .rows = DIM_KV_HEADS,
                 OPTIONAL),
};

enum tlm_status cohere_hparams(struct hparams *h, const struct gguf *g, const char *arch,
                               struct tlm_error *err)
{
    enum tlm_status s;
    h->parallel = true;
    if ((s = hparams_common(h, g, arch, "attention.layer_norm_epsilon", err)) ||
        (s = hparam_f64(g, arch, "logit_scale", &h->logit_scale, err)))
        return s;
    return rope_hparams_read(&h->rope, g, arch, err);
}

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    return cohere_hparams(h, g, "command-r", err);
}

struct node *cohere_build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
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

enum tlm_status cohere_import(struct gguf_writer *w, const char *arch, const json_t *config,
                              struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, arch, config, err);
}

enum tlm_status cohere_export(json_t *config, const char *arch, const struct gguf *g, struct tlm_error *err)
{
    static const char *const biased[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    json_object_set_new(config, "hidden_act", json_string("silu"));
    enum tlm_status s = hf_export_biases(config, "attention_bias", g, biased, 4, err);
    return s ? s : hf_export_rope(config, arch, g, err);
}

static const struct hf_key keys[] = {COHERE_HF_KEYS};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return cohere_import(w, "command-r", config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "use_qk_norm",
                        json_boolean(gguf_find_tensor(g, "blk.0.attn_q_norm.weight") != NULL));
    return cohere_export(config, "command-r", g, err);
}

static const struct hf_variant variants[] = {
    {"cohere", "CohereForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_command_r = {
    .name = "command-r",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = cohere_build,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.tied = true, .keys = "logit_scale=0.0625"},
};
