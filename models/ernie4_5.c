// models/ernie4_5.c -- ERNIE 4.5, the dense ones: a Llama whose rows of queries and keys come in pairs already, all projections with biases
// or none. Baidu, ERNIE 4.5 Technical Report, 2025. x: (T, D)
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
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_GLU,
    WEIGHTS_GLU_BIAS,
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = hparams_common(h, g, "ernie4_5", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "ernie4_5", err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.key_length", "head_dim", HF_I64, "128"},
    {"attention.value_length", "head_dim", HF_I64, "128"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-5"},
    {"rope.freq_base", "rope_theta", HF_F64, "5e5"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, "ernie4_5", config, err);
}

static enum tlm_status export(json_t *config, const struct gguf *g, struct tlm_error *err) {
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                        "ffn_down"};
    struct hparams h = {0};
    enum tlm_status s;
    if ((s = hparams(&h, g, err)) || (s = hf_export_biases(config, "use_bias", g, parts, 7, err))) return s;
    json_object_set_new(config, "head_dim", json_integer(h.head_dim)); // the class has its own default
    json_object_set_new(config, "hidden_act", json_string("silu"));
    return hf_export_rope(config, "ernie4_5", g, err);
}

static const struct hf_variant variants[] = {
    {"ernie4_5", "Ernie4_5ForCausalLM", keys, sizeof keys / sizeof *keys, import, export, NULL},
};

const struct arch arch_ernie4_5 = {
    .name = "ernie4_5",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.tied = true, .keys = "rope.freq_base=500000.0"},
};
