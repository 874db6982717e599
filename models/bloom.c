// models/bloom.c -- BLOOM: no positions but ALiBi's slopes, a LayerNorm behind the embedding. BigScience, arXiv 2211.05100. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"

#define HF_LAYER "transformer.h.%d."
#include "models/weights.h"

static const struct weight_spec weights[] = {
    MODEL_WEIGHT(embed, "token_embd.weight", "transformer.word_embeddings.weight", EMBEDDING(WIDTH, VOCAB)),
    MODEL_WEIGHT(embed_norm, "token_embd_norm.weight", "transformer.word_embeddings_layernorm.weight",
                 NORM(WIDTH)),
    MODEL_WEIGHT(embed_norm_bias, "token_embd_norm.bias", "transformer.word_embeddings_layernorm.bias",
                 BIAS(WIDTH, COPY)),
    WEIGHTS_OUT_LAYER_NORM("transformer.ln_f"),
    MODEL_WEIGHT(out, "output.weight", "lm_head.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL),
    WEIGHTS_LAYER_NORM(attn_norm, "attn_norm", "input_layernorm"),
    WEIGHTS_FUSED_ATTENTION("self_attention.query_key_value", "self_attention.dense", QKV_BY_HEAD,
                            QKV_BY_HEAD, NONE),
    WEIGHTS_LAYER_NORM(ffn_norm, "ffn_norm", "post_attention_layernorm"),
    WEIGHTS_MLP("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", NONE),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->alibi_bias = 8;
    enum tlm_status s = hparams_common(h, g, "bloom", "attention.layer_norm_epsilon", err);
    if (!s) s = hparam_f64(g, "bloom", "attention.max_alibi_bias", &h->alibi_bias, err);
    h->rope.pairs = 0;
    return s;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    {"block_count", "n_layer|num_hidden_layers", HF_I64, "2"},
    {"embedding_length", "hidden_size|n_embed", HF_I64, "64"},
    {"attention.head_count", "n_head|num_attention_heads", HF_I64, "8"},
    {"context_length", "seq_length", HF_I64, "2048"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", HF_F64, "1e-5"},
};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    int64_t width = 64;
    enum tlm_status s;
    if ((s = hf_expect(config, "apply_residual_connection_post_layernorm", "false", err)) ||
        (s = hf_get_i64(config, "n_embed", &width, err)) ||
        (s = hf_get_i64(config, "hidden_size", &width, err)))
        return s;
    gguf_set_u32(w, "bloom.feed_forward_length", (uint32_t)(4 * width));
    return TLM_OK;
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    int64_t width = 0, inner = 0;
    double bias = 8;
    enum tlm_status s;
    (void)config;
    if ((s = gguf_get_i64(g, "bloom.embedding_length", &width, err)) ||
        (s = gguf_get_i64(g, "bloom.feed_forward_length", &inner, err)) ||
        (s = gguf_get_f64(g, "bloom.attention.max_alibi_bias", &bias, err)))
        return s;
    if (inner != 4 * width || bias != 8)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "bloom: expected a feed-forward part of 4 widths and slopes up to 2^-8, as the "
                         "class has them, found "
                         "%lld of %lld and 2^-%g",
                         (long long)inner, (long long)width, bias);
    return TLM_OK;
}

static const struct hf_variant variants[] = {
    {"bloom", "BloomForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_bloom = {
    .name = "bloom",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_mlp_layers,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.tied = true, .variance = 1.0 / 3},
};
