// models/llama.c -- Llama and its kin (TinyLlama, SmolLM, Yi, Mistral with its window) and Mixtral, which GGUF records as a llama with
// experts: pre-norm, rotary positions, grouped query heads, SwiGLU. Touvron et al., arXiv 2302.13971 and 2307.09288; Jiang et al.,
// arXiv 2310.06825 and 2401.04088. x: (T, D)
#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"
#include "models/windows.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(ROPE_Q, ROPE_K),
    WEIGHTS_ATTENTION_BIAS(ROPE_Q, ROPE_K),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_GLU_OPTIONAL,
    WEIGHTS_GLU_BIAS,
    WEIGHTS_EXPERTS("block_sparse_moe.", "w1.weight", "w3.weight", "w2.weight"),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->experts.normalize = true;
    enum tlm_status s = hparams_common(h, g, "llama", "attention.layer_norm_rms_epsilon", err);
    if (s) return s;
    if (!h->experts.feed_forward) h->experts.feed_forward = h->feed_forward; // Mixtral's files have one size
    return rope_hparams_read(&h->rope, g, "llama", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    enum tlm_status s = windows_read(m, 0, err); // Mistral's window is that of every layer
    return s ? s : block_check_feed_forward(m, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

#define EPS(fallback)                                                        \
    {                                                                        \
        "attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, fallback \
    }

static const struct hf_key keys[] = {HF_KEYS_COMMON, EPS("1e-6")};
static const struct hf_key mixtral_keys[] = {
    HF_KEYS_COMMON,
    EPS("1e-5"),
    {"expert_count", "num_local_experts", HF_I64, "8"},
    {"expert_used_count", "num_experts_per_tok", HF_I64, "2"},
    {"rope.freq_base", "rope_theta", HF_F64, "1e6"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = hf_expect(config, "hidden_act", "\"silu\"", err);
    return s ? s : hf_import_rope(w, "llama", config, err);
}

// The class's own window stands where config.json lacks the key; null is none.
static enum tlm_status import_window(struct gguf_writer *w, const json_t *config, int64_t window,
                                     struct tlm_error *err)
{
    const json_t *own = json_object_get(config, "sliding_window");
    enum tlm_status s = import(w, config, err);
    if (!s) s = hf_expect(config, "layer_types", "null", err); // the classes know no such thing
    if (s || (own ? json_is_null(own) : !window)) return s;
    return windows_import(w, "llama", 0, window, config, err);
}

static enum tlm_status import_mistral(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return import_window(w, config, 4096, err);
}

static enum tlm_status import_mixtral(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return import_window(w, config, 0, err);
}

static const char *const attention_parts[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
static const char *const feed_forward_parts[] = {"ffn_gate", "ffn_up", "ffn_down"};

static enum tlm_status export(json_t *config, const char *attention, const char *feed_forward,
                              const struct gguf *g, struct tlm_error *err) {
    enum tlm_status s; json_object_set_new(config, "hidden_act", json_string("silu"));
    if ((s = hf_export_biases(config, attention, g, attention_parts, 4, err)) ||
        (s = hf_export_biases(config, feed_forward, g, feed_forward_parts, 3, err))) return s;
    return hf_export_rope(config, "llama", g, err);
}

static enum tlm_status export_llama(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    return export(config, "attention_bias", "mlp_bias", g, err);
}

static int64_t window_of(const struct gguf *g)
{
    int64_t window = 0;
    return gguf_get_i64(g, "llama.attention.sliding_window", &window, NULL) ? 0 : window;
}

// Classes without biases, and with one window for all layers.
static enum tlm_status export_mistral(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    if (gguf_find(g, "llama.attention.sliding_window_pattern"))
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "llama.attention.sliding_window_pattern: expected none in a Mistral, found one");
    json_object_set_new(config, "sliding_window", window_of(g) ? json_integer(window_of(g)) : json_null());
    return export(config, NULL, NULL, g, err);
}

static enum tlm_status export_mixtral(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    struct hparams h = {.experts.scale = 1};
    const struct expert_hparams *e = &h.experts;
    enum tlm_status s = hparams(&h, g, err);
    if (s) return s;
    if (e->feed_forward != h.feed_forward || !e->normalize || e->scale != 1 || e->gate != ROUTE_SOFTMAX ||
        e->groups > 1)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "llama.expert_*: expected experts as Mixtral has them, found other sizes or gates");
    return export_mistral(config, g, err);
}

static bool has_window(const struct gguf *g)
{
    return window_of(g) > 0;
}

static bool has_experts(const struct gguf *g)
{
    int64_t count = 0;
    return !gguf_get_i64(g, "llama.expert_count", &count, NULL) && count > 0;
}

static const struct hf_variant variants[] = {
    {"mixtral", "MixtralForCausalLM", mixtral_keys, sizeof mixtral_keys / sizeof *mixtral_keys,
     import_mixtral, export_mixtral, has_experts},
    {"mistral", "MistralForCausalLM", keys, sizeof keys / sizeof *keys, import_mistral, export_mistral,
     has_window},
    {"llama", "LlamaForCausalLM", keys, sizeof keys / sizeof *keys, import, export_llama, NULL},
};

const struct arch arch_llama = {
    .name = "llama",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
};
