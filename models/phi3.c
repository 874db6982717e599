// models/phi3.c -- Phi-3, 3.5 and 4-mini: a Llama with fused matrices, long contexts by LongRoPE, and a window. Abdin et al., arXiv
// 2404.14219. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"
#include "models/windows.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(wqkv, "attn_qkv.weight", "self_attn.qkv_proj.weight", MATRIX(WIDTH, QKV, HEADS)),
    LAYER_WEIGHT(wo, "attn_output.weight", "self_attn.o_proj.weight", MATRIX(OUT, WIDTH, COLUMNS)),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(gate_up, "ffn_up.weight", "mlp.gate_up_proj.weight", MATRIX(WIDTH, GATE_UP, ROWS)),
    LAYER_WEIGHT(down, "ffn_down.weight", "mlp.down_proj.weight", MATRIX(FF, WIDTH, COLUMNS)),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s = hparams_common(h, g, "phi3", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "phi3", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, 0, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-5"},
    {"attention.sliding_window", "sliding_window", HF_I64, NULL},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, "phi3", config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "hidden_act", json_string("silu"));
    enum tlm_status s = hf_export_partial_rope(config, "phi3", g, err);
    return s ? s : hf_export_rope(config, "phi3", g, err);
}

static const struct hf_variant variants[] = {
    {"phi3", "Phi3ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_phi3 = {
    .name = "phi3",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
};
