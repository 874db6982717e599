// models/gpt_oss.c -- gpt-oss: every second layer sees a window, a sink a head takes part in its softmax, all projections have biases,
// experts with a clamped SwiGLU whose weights are the softmax over the chosen ones. OpenAI, arXiv 2508.10925. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"
#include "models/windows.h"

enum { PERIOD = 2, WINDOW = 128 }; // of files that do not say

#define EXPERTS(field, gguf_name, hf_name, part, ...)                                                      \
    LAYER_WEIGHT(experts_##field, gguf_name ".weight", "mlp.experts." hf_name, EXPERT_MATRIX(__VA_ARGS__), \
                 TRANSFORM(EXPERT_##part))
#define EXPERTS_BIAS(field, gguf_name, hf_name, part, n)                                                    \
    LAYER_WEIGHT(experts_##field##_bias, gguf_name ".bias", "mlp.experts." hf_name "_bias", EXPERT_BIAS(n), \
                 TRANSFORM(EXPERT_##part))

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(NONE, NONE),
    WEIGHTS_ATTENTION_BIAS(NONE, NONE),
    LAYER_WEIGHT(sinks, "attn_sinks.weight", "self_attn.sinks", BIAS(HEADS, HEADS)),
    LAYER_WEIGHT(ffn_norm, "post_attention_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(router, "ffn_gate_inp.weight", "mlp.router.weight", ROUTER),
    LAYER_WEIGHT(router_bias, "ffn_gate_inp.bias", "mlp.router.bias", BIAS(EXPERTS, COPY)),
    EXPERTS(gate, "ffn_gate_exps", "gate_up_proj", EVEN, WIDTH, EXPERT_FF),
    EXPERTS_BIAS(gate, "ffn_gate_exps", "gate_up_proj", EVEN, EXPERT_FF),
    EXPERTS(up, "ffn_up_exps", "gate_up_proj", ODD, WIDTH, EXPERT_FF),
    EXPERTS_BIAS(up, "ffn_up_exps", "gate_up_proj", ODD, EXPERT_FF),
    EXPERTS(down, "ffn_down_exps", "down_proj", PLAIN, EXPERT_FF, WIDTH),
    EXPERTS_BIAS(down, "ffn_down_exps", "down_proj", PLAIN, WIDTH),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = hparams_common(h, g, "gpt-oss", "attention.layer_norm_rms_epsilon", err);
    if (s) return s;
    if (h->experts.count < 1)
        return error_set(err, TLM_ERR_FORMAT, "gpt-oss.expert_count: expected experts, found none");
    h->experts.gate = ROUTE_SOFTMAX_CHOSEN;
    h->window = WINDOW;
    h->rope.pairing = ROPE_HALVES;
    h->rope.yarn_fractions = true;
    return rope_hparams_read(&h->rope, g, "gpt-oss", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, PERIOD, err);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        x = block_residual(g, m, x, block_attention(g, m, in, l, h, &rope));
        h = block_norm(g, m, x, w->ffn_norm, NULL);
        x = block_residual(g, m, x, block_experts(g, m, w, h, ACT_SWIGLU_CLAMPED));
    }
    g->layer = -1;
    return x;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-5"},
    {"expert_count", "num_local_experts|num_experts", HF_I64, NULL},
    {"expert_used_count", "num_experts_per_tok|experts_per_token", HF_I64, "4"},
    {"expert_feed_forward_length", "intermediate_size", HF_I64, NULL},
};

// What YaRN has where config.json says nothing at all.
static json_t *with_rope(const json_t *config)
{
    json_t *copy = json_copy((json_t *)config); // which only reads it
    if (!json_is_object(json_object_get(copy, "rope_parameters")) &&
        !json_is_object(json_object_get(copy, "rope_scaling")))
        json_object_set_new(copy, "rope_parameters",
                            json_pack("{s:s, s:f, s:f, s:f, s:b, s:i}", "rope_type", "yarn", "factor", 32.0,
                                      "beta_fast", 32.0, "beta_slow", 1.0, "truncate", 0,
                                      "original_max_position_embeddings", 4096));
    return copy;
}

static enum tlm_status import_rope(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    bool truncate = true; // where there is an object that does not say it
    enum tlm_status s = hf_get_bool(config, "rope_parameters.truncate|rope_scaling.truncate", &truncate, err);
    if (s) return s;
    gguf_set_f32(w, "gpt-oss.rope.freq_base", 150000); // where config.json says nothing
    if ((s = hf_import_rope(w, "gpt-oss", config, err))) return s;
    if (truncate) gguf_set_bool(w, "tinylm.rope.yarn_truncate", true);
    return TLM_OK;
}

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_expect(config, "swiglu_alpha", "1.702", err)) ||
        (s = hf_expect(config, "swiglu_limit", "7.0", err)) ||
        (s = hf_expect(config, "hidden_act", "\"silu\"", err)))
        return s;
    json_t *whole = with_rope(config);
    if (!whole) return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    s = import_rope(w, whole, err);
    json_decref(whole);
    return s ? s : windows_import(w, "gpt-oss", PERIOD, WINDOW, config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    bool truncate = false;
    enum tlm_status s;
    if ((s = gguf_get_bool(g, "tinylm.rope.yarn_truncate", &truncate, err)) ||
        (s = hf_export_rope(config, "gpt-oss", g, err)))
        return s;
    json_object_set_new(config, "hidden_act", json_string("silu"));
    json_object_set_new(config, "attention_bias", json_boolean(gguf_find_tensor(g, "blk.0.attn_q.bias")));
    json_object_set_new(config, "swiglu_limit", json_real(SWIGLU_LIMIT));
    json_t *scaling = json_object_get(config, "rope_scaling");
    if (!scaling) // else the class has YaRN
        json_object_set_new(config, "rope_parameters",
                            json_pack("{s:s, s:O}", "rope_type", "default", "rope_theta",
                                      json_object_get(config, "rope_theta")));
    else
        json_object_set_new(scaling, "truncate", json_boolean(truncate));
    return windows_export(config, "gpt-oss", PERIOD, WINDOW, g, err);
}

static const struct hf_variant variants[] = {
    {"gpt_oss", "GptOssForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_gpt_oss = {
    .name = "gpt-oss",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.bias = true,
               .keys =
                   "rope.freq_base=150000.0 attention.sliding_window=128 expert_count=8 expert_used_count=2"},
};
