// models/qwen3.c -- Qwen3: a Llama that norms each head of queries and keys. Qwen Team, arXiv 2505.09388. x: (T, D)
#include "models/blocks.h"
#include "models/qwen.h"
#include "models/weights.h"
#include "models/windows.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(NONE, NONE),
    WEIGHTS_ATTENTION_BIAS(NONE, NONE),
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "self_attn.q_norm.weight", NORM(HEAD)),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "self_attn.k_norm.weight", NORM(HEAD)),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_GLU,
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s = hparams_common(h, g, "qwen3", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "qwen3", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, 0, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.key_length", "head_dim", HF_I64, "128"},
    {"attention.value_length", "head_dim", HF_I64, "128"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return qwen_import(w, "qwen3", config, true, err);
}

static enum tlm_status export(json_t *config, const struct gguf *g, struct tlm_error *err) {
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"}; struct hparams h = {0};
    enum tlm_status s;
    if ((s = hparams(&h, g, err)) ||
        (s = hf_export_biases(config, "attention_bias", g, parts, 4, err))) return s;
    json_object_set_new(config, "head_dim", json_integer(h.head_dim)); // the class has its own default
    return qwen_export(config, "qwen3", g, true, err);
}

static const struct hf_variant variants[] = {
    {"qwen3", "Qwen3ForCausalLM", keys, sizeof keys / sizeof *keys, import, export, NULL},
};

const struct arch arch_qwen3 = {
    .name = "qwen3",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.keys = "rope.freq_base=1e6 attention.layer_norm_rms_epsilon=1e-6"},
};
