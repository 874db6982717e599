// models/qwen3moe.c -- Qwen3-MoE: Qwen3 with experts in some or all layers. Qwen Team, arXiv 2505.09388. x: (T, D)
#include <inttypes.h>

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
    WEIGHTS_GLU_OPTIONAL,
    WEIGHTS_EXPERTS("mlp.", "gate_proj.weight", "up_proj.weight", "down_proj.weight"),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    h->experts.normalize = true; // of files that do not say
    enum tlm_status s = hparams_common(h, g, "qwen3moe", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "qwen3moe", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    enum tlm_status s = windows_read(m, 0, err);
    return s ? s : block_check_feed_forward(m, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"},
    {"expert_count", "num_experts|num_local_experts", HF_I64, "128"},
    {"expert_used_count", "num_experts_per_tok", HF_I64, "8"},
    {"expert_feed_forward_length", "moe_intermediate_size", HF_I64, "768"},
    {"expert_weights_norm", "norm_topk_prob", HF_BOOL, "false"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return qwen_import(w, "qwen3moe", config, false, err);
}

static enum tlm_status export(json_t *config, const struct gguf *g, struct tlm_error *err) {
    static const char *const parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    struct hparams h = {.experts.scale = 1}; enum tlm_status s = hparams(&h, g, err);
    if (s || (s = hf_export_biases(config, "attention_bias", g, parts, 4, err))) return s;
    if (h.experts.scale != 1 || h.experts.gate != ROUTE_SOFTMAX || h.experts.groups > 1) return error_set(
        err, TLM_ERR_UNSUPPORTED,
        "qwen3moe.expert_*: expected experts as Qwen3 has them, found another scale, gate or groups");
    json_object_set_new(config, "norm_topk_prob", json_boolean(h.experts.normalize));
    json_object_set_new(config, "decoder_sparse_step", json_integer(1)); json_t *dense = json_array();
    for (int64_t l = 0; l < h.layers;
         l++){char name[64]; snprintf(name, sizeof name, "blk.%" PRId64 ".ffn_gate_inp.weight", l);
              if (!gguf_find_tensor(g, name)) json_array_append_new(dense, json_integer(l));}
if (json_object_set_new(config, "mlp_only_layers", dense)) return error_set(err, TLM_ERR_MEMORY,
                                                                            "config.json: no memory for it");
return qwen_export(config, "qwen3moe", g, false, err);
}

static const struct hf_variant variants[] = {
    {"qwen3_moe", "Qwen3MoeForCausalLM", keys, sizeof keys / sizeof *keys, import, export, NULL},
};

const struct arch arch_qwen3moe = {
    .name = "qwen3moe",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create =
        {.keys =
             "rope.freq_base=1e6 attention.layer_norm_rms_epsilon=1e-6 expert_count=8 expert_used_count=2"},
};
