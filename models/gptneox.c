// models/gptneox.c -- GPT-NeoX and Pythia: LayerNorms, rotation of a part of each head, attention and feed-forward side by side. Black et
// al., arXiv 2204.06745. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"

#define HF_LAYER "gpt_neox.layers.%d."
#include "models/weights.h"

static const struct weight_spec weights[] = {
    MODEL_WEIGHT(embed, "token_embd.weight", "gpt_neox.embed_in.weight", EMBEDDING(WIDTH, VOCAB)),
    WEIGHTS_OUT_LAYER_NORM("gpt_neox.final_layer_norm"),
    MODEL_WEIGHT(out, "output.weight", "embed_out.weight", MATRIX(WIDTH, VOCAB, ROWS), OPTIONAL),
    WEIGHTS_LAYER_NORM(attn_norm, "attn_norm", "input_layernorm"),
    WEIGHTS_FUSED_ATTENTION("attention.query_key_value", "attention.dense", QKV_BY_HEAD, QKV_BY_HEAD, NONE),
    WEIGHTS_LAYER_NORM(ffn_norm, "ffn_norm", "post_attention_layernorm"),
    WEIGHTS_MLP("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", NONE),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->parallel = true;
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s;
    if ((s = hparams_common(h, g, "gptneox", "attention.layer_norm_epsilon", err)) ||
        (s = hparam_bool(g, "gptneox", "use_parallel_residual", &h->parallel, err)))
        return s;
    return rope_hparams_read(&h->rope, g, "gptneox", err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *attention =
            block_attention(g, m, in, l, block_norm(g, m, x, w->attn_norm, w->attn_norm_bias), &rope);
        struct node *between = g_add(g, x, attention);
        struct node *h = block_norm(g, m, m->hparams.parallel ? x : between, w->ffn_norm, w->ffn_norm_bias);
        x = g_add(g, between, block_mlp(g, w, h, ACT_GELU));
    }
    g->layer = -1;
    return x;
}

// Of a new model: a quarter of a head turns, as in the published ones.
static enum tlm_status derive_rotation(struct gguf_writer *w, const struct create_sizes *s,
                                       struct tlm_error *err)
{
    (void)err;
    int64_t head = s->head_dim ? s->head_dim : s->width / s->heads;
    if (!s->rope_dims)
        gguf_set_u32(w, "gptneox.rope.dimension_count", (uint32_t)(head < 8 ? head / 2 * 2 : head / 8 * 2));
    return TLM_OK;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    {"block_count", "num_hidden_layers", HF_I64, NULL},
    {"embedding_length", "hidden_size", HF_I64, NULL},
    {"feed_forward_length", "intermediate_size", HF_I64, NULL},
    {"attention.head_count", "num_attention_heads", HF_I64, NULL},
    {"context_length", "max_position_embeddings", HF_I64, "2048"},
    {"attention.layer_norm_epsilon", "layer_norm_eps", HF_F64, "1e-5"},
    {"use_parallel_residual", "use_parallel_residual", HF_BOOL, "true"},
};

// The class once had names of its own for the base and the rotated part.
static enum tlm_status rename_rope(json_t *config, struct tlm_error *err)
{
    double share = 0.25, base = 10000;
    enum tlm_status s;
    if (json_is_object(json_object_get(config, "rope_parameters"))) return TLM_OK;
    if ((s = hf_get_f64(config, "rotary_pct", &share, err)) ||
        (s = hf_get_f64(config, "rotary_emb_base", &base, err)) ||
        (s = hf_get_f64(config, "rope_theta", &base, err)) ||
        (s = hf_get_f64(config, "partial_rotary_factor", &share, err)))
        return s;
    json_object_set_new(config, "partial_rotary_factor", json_real(share));
    json_object_set_new(config, "rope_theta", json_real(base));
    return TLM_OK;
}

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_act", "\"gelu\"", err)) ||
        (s = hf_expect(config, "attention_bias", "true", err)))
        return s;
    json_t *copy = json_copy((json_t *)config); // which only reads it
    if (!copy) return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    if (!(s = rename_rope(copy, err))) s = hf_import_rope(w, "gptneox", copy, err);
    json_decref(copy);
    return s;
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "hidden_act", json_string("gelu"));
    enum tlm_status s;
    if ((s = hf_export_partial_rope(config, "gptneox", g, err)) ||
        (s = hf_export_rope(config, "gptneox", g, err)))
        return s;
    // Under the names that older versions of the class know, too; they take a missing factor for a quarter.
    const json_t *share = json_object_get(config, "partial_rotary_factor");
    json_object_set_new(config, "rotary_pct", json_real(share ? json_number_value(share) : 1));
    json_object_set(config, "rotary_emb_base", json_object_get(config, "rope_theta"));
    return TLM_OK;
}

static const struct hf_variant variants[] = {
    {"gpt_neox", "GPTNeoXForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_gptneox = {
    .name = "gptneox",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.keys = "use_parallel_residual=true",
               .variance = 2.0 / 5,
               .residual = RESIDUAL_WANG,
               .derive = derive_rotation},
};
