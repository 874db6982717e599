// models/gemma2.c -- Gemma 2: every second layer sees a window, scores and logits are capped. Gemma Team, arXiv 2408.00118. Also what it
// shares with Gemma 3. x: (T, D)
//
//     x += norm(attention(norm(x))),   x += norm(glu(norm(x)))
#include <math.h>

#include "models/gemma.h"
#include "models/windows.h"

// Of files that do not say; LARGE: layers of the 27B.
enum { PERIOD = 2, WINDOW = 4096, LARGE = 46 };
#define ATTENTION_SOFTCAP 50.0
#define LOGIT_SOFTCAP     30.0

static const struct weight_spec weights[] = {GEMMA_WEIGHTS};

static double default_scale(const struct hparams *h, int64_t large_layers)
{
    return 1 / sqrt((double)(h->layers == large_layers ? h->width / h->heads : h->head_dim));
}

enum tlm_status gemma_hparams(struct hparams *h, const struct gguf *g, const char *arch, int64_t large_layers,
                              struct tlm_error *err)
{
    enum tlm_status s = hparams_common(h, g, arch, "attention.layer_norm_rms_epsilon", err);
    if (s) return s;
    h->rope.pairing = ROPE_HALVES;
    h->embedding_scale = sqrt((double)h->width);
    h->attention_scale = default_scale(h, large_layers);
    return hparam_f64(g, arch, "attention.scale", &h->attention_scale, err);
}

struct node *gemma_build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        h = block_attention(g, m, in, l, h, &rope);
        x = block_residual(g, m, x, block_norm(g, m, h, w->attn_post_norm, NULL));
        h = block_norm(g, m, x, w->ffn_norm, NULL);
        h = block_glu(g, m, w, h, ACT_GELU_TANH);
        x = block_residual(g, m, x, block_norm(g, m, h, w->ffn_post_norm, NULL));
    }
    g->layer = -1;
    return x;
}

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = gemma_hparams(h, g, "gemma2", LARGE, err)) ||
        (s = rope_hparams_read(&h->rope, g, "gemma2", err)))
        return s;
    h->window = WINDOW;
    h->attention_softcap = ATTENTION_SOFTCAP;
    h->logit_softcap = LOGIT_SOFTCAP;
    if ((s = hparam_f64(g, "gemma2", "attn_logit_softcapping", &h->attention_softcap, err))) return s;
    return hparam_f64(g, "gemma2", "final_logit_softcapping", &h->logit_softcap, err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    return windows_read(m, PERIOD, err);
}

// ---- Hugging Face -------------------------------------------------------------------------------------

// The sizes that decide on the scale's default.
static enum tlm_status read_sizes(struct hparams *h, double *scalar, const json_t *config,
                                  struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_get_i64(config, "num_hidden_layers", &h->layers, err)) ||
        (s = hf_get_i64(config, "hidden_size", &h->width, err)) ||
        (s = hf_get_i64(config, "num_attention_heads", &h->heads, err)) ||
        (s = hf_get_i64(config, "head_dim", &h->head_dim, err)) ||
        (s = hf_get_f64(config, "query_pre_attn_scalar", scalar, err)))
        return s;
    if (h->heads < 1 || h->head_dim < 1 || !(*scalar > 0))
        return error_set(
            err, TLM_ERR_FORMAT,
            "query_pre_attn_scalar: expected a positive number, heads and their size, found %g, %lld, %lld",
            *scalar, (long long)h->heads, (long long)h->head_dim);
    return TLM_OK;
}

enum tlm_status gemma_import(struct gguf_writer *w, const char *arch, int64_t large_layers,
                             const json_t *config, struct tlm_error *err)
{
    struct hparams h = {.layers = 26, .width = 2304, .heads = 8, .head_dim = 256};
    double scalar = 256;
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_activation", "\"gelu_pytorch_tanh\"", err)) ||
        (s = hf_expect(config, "use_bidirectional_attention", "false", err)) ||
        (s = read_sizes(&h, &scalar, config, err)))
        return s;
    char key[64];
    snprintf(key, sizeof key, "%s.attention.scale", arch);
    double scale = 1 / sqrt(scalar);
    if (scale != default_scale(&h, large_layers)) gguf_set_f32(w, key, (float)scale);
    return hf_import_rope(w, arch, config, err);
}

enum tlm_status gemma_export(json_t *config, const char *arch, int64_t large_layers, const struct gguf *g,
                             struct tlm_error *err)
{
    struct hparams h = {0};
    enum tlm_status s = gemma_hparams(&h, g, arch, large_layers, err);
    if (s) return s;
    double scalar = 1 / (h.attention_scale * h.attention_scale);
    if (fabs(scalar - round(scalar)) < 1e-4 * scalar) // single precision keeps the scale to 1e-7
        json_object_set_new(config, "query_pre_attn_scalar", json_integer((json_int_t)round(scalar)));
    else
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%s.attention.scale: expected 1 over the root of a whole number, found %g", arch,
                         h.attention_scale);
    json_object_set_new(config, "hidden_activation", json_string("gelu_pytorch_tanh"));
    json_object_set_new(config, "attention_bias", json_boolean(gguf_find_tensor(g, "blk.0.attn_q.bias")));
    return hf_export_rope(config, arch, g, err);
}

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    // null stands for no cap, a missing key for Gemma's own.
    static const struct {
        const char *hf, *gguf;
        double cap;
    } caps[] = {{"attn_logit_softcapping", "gemma2.attn_logit_softcapping", ATTENTION_SOFTCAP},
                {"final_logit_softcapping", "gemma2.final_logit_softcapping", LOGIT_SOFTCAP}};
    enum tlm_status s;
    for (size_t i = 0; i < 2; i++) {
        double cap = json_is_null(json_object_get(config, caps[i].hf)) ? 0 : caps[i].cap;
        if ((s = hf_get_f64(config, caps[i].hf, &cap, err))) return s;
        gguf_set_f32(w, caps[i].gguf, (float)cap);
    }
    if ((s = gemma_import(w, "gemma2", LARGE, config, err))) return s;
    return windows_import(w, "gemma2", PERIOD, WINDOW, config, err);
}

static json_t *json_cap(const struct gguf *g, const char *key, double value)
{
    (void)gguf_get_f64(g, key, &value, NULL); // of a file that is open: a number
    return value == 0 ? json_null() : json_real(value);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "attn_logit_softcapping",
                        json_cap(g, "gemma2.attn_logit_softcapping", ATTENTION_SOFTCAP));
    json_object_set_new(config, "final_logit_softcapping",
                        json_cap(g, "gemma2.final_logit_softcapping", LOGIT_SOFTCAP));
    enum tlm_status s = gemma_export(config, "gemma2", LARGE, g, err);
    return s ? s : windows_export(config, "gemma2", PERIOD, WINDOW, g, err);
}

static const struct hf_key keys[] = {GEMMA_HF_KEYS("8192")};

static const struct hf_variant variants[] = {
    {"gemma2", "Gemma2ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_gemma2 = {
    .name = "gemma2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = gemma_build,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.tied = true,
               .keys = "attention.layer_norm_rms_epsilon=1e-6 attention.sliding_window=4096 "
                       "attn_logit_softcapping=50.0 final_logit_softcapping=30.0"},
};
