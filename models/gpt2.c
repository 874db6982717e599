// models/gpt2.c -- GPT-2: LayerNorms in front, learned positions, a plain feed-forward part with GELU. Radford et al., "Language models
// are unsupervised multitask learners", 2019. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"

#define HF_LAYER "transformer.h.%d."
#include "models/weights.h"

static const struct weight_spec weights[] = {
    MODEL_WEIGHT(embed, "token_embd.weight", "transformer.wte.weight", EMBEDDING(WIDTH, VOCAB)),
    MODEL_WEIGHT(positions, "position_embd.weight", "transformer.wpe.weight", EMBEDDING(WIDTH, CONTEXT)),
    WEIGHTS_OUT_LAYER_NORM("transformer.ln_f"),
    MODEL_WEIGHT(out, "output.weight", "lm_head.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL),
    WEIGHTS_LAYER_NORM(attn_norm, "attn_norm", "ln_1"),
    WEIGHTS_FUSED_ATTENTION("attn.c_attn", "attn.c_proj", TRANSPOSE, NONE, TRANSPOSE),
    WEIGHTS_LAYER_NORM(ffn_norm, "ffn_norm", "ln_2"),
    WEIGHTS_MLP("mlp.c_fc", "mlp.c_proj", TRANSPOSE),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = hparams_common(h, g, "gpt2", "attention.layer_norm_epsilon", err);
    h->rope.pairs = 0;
    return s;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    {"block_count", "n_layer", HF_I64, "12"},
    {"embedding_length", "n_embd", HF_I64, "768"},
    {"feed_forward_length", "n_inner", HF_I64, NULL},
    {"attention.head_count", "n_head", HF_I64, "12"},
    {"context_length", "n_positions", HF_I64, "1024"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", HF_F64, "1e-5"},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    int64_t width = 768, inner = 0;
    enum tlm_status s;
    if ((s = hf_expect(config, "activation_function", "\"gelu_new\"", err)) ||
        (s = hf_expect(config, "scale_attn_weights", "true", err)) ||
        (s = hf_expect(config, "scale_attn_by_inverse_layer_idx", "false", err)) ||
        (s = hf_expect(config, "add_cross_attention", "false", err)) ||
        (s = hf_get_i64(config, "n_embd", &width, err)) || (s = hf_get_i64(config, "n_inner", &inner, err)))
        return s;
    if (!inner) gguf_set_u32(w, "gpt2.feed_forward_length", (uint32_t)(4 * width));
    return TLM_OK;
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    (void)g, (void)err;
    json_object_set_new(config, "activation_function", json_string("gelu_new"));
    return TLM_OK;
}

static const struct hf_variant variants[] = {
    {"gpt2", "GPT2LMHeadModel", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_gpt2 = {
    .name = "gpt2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_mlp_layers,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.tied = true},
};
