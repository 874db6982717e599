// models/granite.c -- Granite 3: a Llama whose embeddings, scores, branches and logits are scaled by numbers of the file. IBM, Granite
// 3.0 Language Models, 2024. x: (T, D)
#include <math.h>

#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(ROPE_Q, ROPE_K),
    WEIGHTS_ATTENTION_BIAS(ROPE_Q, ROPE_K),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_GLU,
    WEIGHTS_GLU_BIAS,
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    double divisor = 1; // of logits
    enum tlm_status s;
    if ((s = hparams_common(h, g, "granite", "attention.layer_norm_rms_epsilon", err)) ||
        (s = rope_hparams_read(&h->rope, g, "granite", err)) ||
        (s = hparam_f64(g, "granite", "attention.scale", &h->attention_scale, err)) ||
        (s = hparam_f64(g, "granite", "embedding_scale", &h->embedding_scale, err)) ||
        (s = hparam_f64(g, "granite", "residual_scale", &h->residual_scale, err)) ||
        (s = hparam_f64(g, "granite", "logit_scale", &divisor, err)))
        return s;
    if (divisor == 0 || h->embedding_scale == 0 || h->residual_scale == 0)
        return error_set(
            err, TLM_ERR_FORMAT,
            "granite.*_scale: expected numbers but 0 of embedding, residual and logits, found %g, %g, %g",
            h->embedding_scale, h->residual_scale, divisor);
    h->logit_scale = 1 / divisor;
    return TLM_OK;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"},
    {"attention.scale", "attention_multiplier", HF_F64, "1"},
    {"embedding_scale", "embedding_multiplier", HF_F64, "1"},
    {"residual_scale", "residual_multiplier", HF_F64, "1"},
    {"logit_scale", "logits_scaling", HF_F64, "1"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, "granite", config, err);
}

static enum tlm_status export(json_t *config, const struct gguf *g, struct tlm_error *err) {
    static const char *const attention[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const feed_forward[] = {"ffn_gate", "ffn_up", "ffn_down"};
    struct hparams h = {.embedding_scale = 1, .residual_scale = 1};
    enum tlm_status s;
    if ((s = hparams(&h, g, err)) || (s = hf_export_biases(config, "attention_bias", g, attention, 4, err)) ||
        (s = hf_export_biases(config, "mlp_bias", g, feed_forward, 3, err))) return s;
    if (h.attention_scale == 0) // GGUF's default is not that of the class
    json_object_set_new(config, "attention_multiplier", json_real(1 / sqrt((double)h.head_dim)));
    json_object_set_new(config, "hidden_act", json_string("silu"));
    return hf_export_rope(config, "granite", g, err);
}

static const struct hf_variant variants[] = {
    {"granite", "GraniteForCausalLM", keys, sizeof keys / sizeof *keys, import, export, NULL},
};

const struct arch arch_granite = {
    .name = "granite",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.keys = "embedding_scale=1.0 residual_scale=1.0 logit_scale=1.0"},
};
