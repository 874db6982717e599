// models/qwen2.c -- Qwen2 and Qwen2.5: a Llama whose queries, keys and values have biases. Qwen Team, arXiv 2407.10671. Also what it
// shares with Qwen3. x: (T, D)
#include "models/qwen.h"

#include "models/blocks.h"
#include "models/weights.h"
#include "models/windows.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    WEIGHTS_ROPE_FACTORS,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_ATTENTION(NONE, NONE),
    LAYER_WEIGHT(bq, "attn_q.bias", "self_attn.q_proj.bias", BIAS(Q, HEADS)),
    LAYER_WEIGHT(bk, "attn_k.bias", "self_attn.k_proj.bias", BIAS(K, HEADS)),
    LAYER_WEIGHT(bv, "attn_v.bias", "self_attn.v_proj.bias", BIAS(V, HEADS)),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    WEIGHTS_GLU,
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->rope.pairing = ROPE_HALVES;
    enum tlm_status s = hparams_common(h, g, "qwen2", "attention.layer_norm_rms_epsilon", err);
    return s ? s : rope_hparams_read(&h->rope, g, "qwen2", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, 0, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const char sliding[] = "sliding_attention", full[] = "full_attention";

// layer_types as the class makes them of max_window_layers.
static enum tlm_status make_layer_types(json_t *config, struct tlm_error *err)
{
    int64_t layers = 0, from = 28;
    enum tlm_status s;
    if ((s = hf_get_i64(config, "num_hidden_layers", &layers, err)) ||
        (s = hf_get_i64(config, "max_window_layers", &from, err)))
        return s;
    json_t *types = json_array();
    for (int64_t l = 0; l < layers && l < 4096; l++) // more are refused later
        json_array_append_new(types, json_string(l < from ? full : sliding));
    if (json_object_set_new(config, "layer_types", types))
        return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    return TLM_OK;
}

static enum tlm_status import_windows(struct gguf_writer *w, const char *arch, json_t *config, bool by_layer,
                                      struct tlm_error *err)
{
    bool typed = json_is_array(json_object_get(config, "layer_types"));
    enum tlm_status s = by_layer && !typed ? make_layer_types(config, err) : TLM_OK;
    return s ? s : windows_import(w, arch, 0, 4096, config, err);
}

// A model that uses no window may still name one, but no layer that has it.
static enum tlm_status expect_full(const json_t *config, struct tlm_error *err)
{
    const json_t *types = json_object_get(config, "layer_types"), *type;
    size_t l;
    json_array_foreach(types, l, type)
    {
        if (!json_is_string(type) || strcmp(json_string_value(type), full) != 0)
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "layer_types: expected %s in a model that uses no window, found something else",
                             full);
    }
    return TLM_OK;
}

enum tlm_status qwen_import(struct gguf_writer *w, const char *arch, const json_t *config, bool by_layer,
                            struct tlm_error *err)
{
    bool used = false;
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_act", "\"silu\"", err)) ||
        (s = hf_get_bool(config, "use_sliding_window", &used, err)) ||
        (s = hf_import_rope(w, arch, config, err)))
        return s;
    if (!used || json_is_null(json_object_get(config, "sliding_window"))) return expect_full(config, err);
    json_t *copy = json_copy((json_t *)config); // which only reads it
    s = copy ? import_windows(w, arch, copy, by_layer, err)
             : error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    json_decref(copy);
    return s;
}

// How many layers in front see all; the others have to be alike where the class knows no layer_types.
static int64_t leading_full(const json_t *types)
{
    size_t l = 0;
    while (l < json_array_size(types) && !strcmp(json_string_value(json_array_get(types, l)), full)) l++;
    return (int64_t)l;
}

static bool all_sliding(const json_t *types)
{
    bool all = true;
    for (size_t l = 0; l < json_array_size(types); l++)
        all &= !strcmp(json_string_value(json_array_get(types, l)), sliding);
    return all;
}

enum tlm_status qwen_export(json_t *config, const char *arch, const struct gguf *g, bool by_layer,
                            struct tlm_error *err)
{
    json_object_set_new(config, "hidden_act", json_string("silu"));
    enum tlm_status s = hf_export_rope(config, arch, g, err);
    if (!s) s = windows_export(config, arch, 0, 0, g, err);
    if (s) return s;
    bool used = json_is_integer(json_object_get(config, "sliding_window"));
    const json_t *types = json_object_get(config, "layer_types");
    json_object_set_new(config, "use_sliding_window", json_boolean(used));
    if (by_layer) {
        json_object_set_new(config, "max_window_layers", json_integer(leading_full(types)));
        return TLM_OK;
    }
    if (used && !all_sliding(types))
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%s.attention.sliding_window_pattern: expected a window in all layers, found others",
                         arch);
    json_object_del(config, "layer_types");
    return TLM_OK;
}

static const struct hf_key keys[] = {
    HF_KEYS_COMMON,
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"},
};

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    return qwen_import(w, "qwen2", config, true, err);
}

static enum tlm_status export(json_t *config, const struct gguf *g, struct tlm_error *err) {
    return qwen_export(config, "qwen2", g, true, err);
}

static const struct hf_variant variants[] = {
    {"qwen2", "Qwen2ForCausalLM", keys, sizeof keys / sizeof *keys, import, export, NULL},
};

const struct arch arch_qwen2 = {
    .name = "qwen2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = block_pre_norm_layers,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.keys = "rope.freq_base=1e6 attention.layer_norm_rms_epsilon=1e-6"},
};
