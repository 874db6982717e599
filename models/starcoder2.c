// models/starcoder2.c -- StarCoder2: LayerNorms and biases, rotation, grouped heads, a plain feed-forward part with GELU. Lozhkov et al.,
// arXiv 2402.19173. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"
#include "models/windows.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_OUT_LAYER_NORM("model.norm"),
    MODEL_WEIGHT(out, "output.weight", "lm_head.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL),
    WEIGHTS_ROPE_FACTORS,
    WEIGHTS_LAYER_NORM(attn_norm, "attn_norm", "input_layernorm"),
    WEIGHTS_ATTENTION(NONE, NONE),
    WEIGHTS_ATTENTION_BIAS(NONE, NONE),
    WEIGHTS_LAYER_NORM(ffn_norm, "ffn_norm", "post_attention_layernorm"),
    WEIGHTS_MLP("mlp.c_fc", "mlp.c_proj", NONE),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s = hparams_common(h, g, "starcoder2", "attention.layer_norm_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "starcoder2", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, 0, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_epsilon", "norm_epsilon", HF_F64, "1e-5"},
    {"attention.sliding_window", "sliding_window", HF_I64, NULL},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_act", "\"gelu_pytorch_tanh\"", err)) ||
        (s = hf_expect(config, "use_bias", "true", err)) ||
        (s = hf_expect(config, "norm_type", "\"layer_norm\"", err)))
        return s;
    return hf_import_rope(w, "starcoder2", config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    static const char *const biased[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    json_object_set_new(config, "hidden_act", json_string("gelu_pytorch_tanh"));
    enum tlm_status s = hf_export_biases(config, "use_bias", g, biased, 4, err);
    if (s) return s;
    if (!json_is_true(json_object_get(config, "use_bias")))
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "blk.*.attn_q.bias: expected biases, as the class has them, found none");
    return hf_export_rope(config, "starcoder2", g, err);
}

static const struct hf_variant variants[] = {
    {"starcoder2", "Starcoder2ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config,
     NULL},
};

const struct arch arch_starcoder2 = {
    .name = "starcoder2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_mlp_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.tied = true, .bias = true, .std = 0.018042},
};
