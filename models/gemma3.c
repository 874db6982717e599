// models/gemma3.c -- Gemma 3's text model: five layers that see a window to one that sees all, each kind with a rotation of its own,
// norms of queries and keys, no caps. Gemma Team, arXiv 2503.19786.
#include "models/gemma.h"
#include "models/windows.h"

enum { PERIOD = 6, LARGE = 62 }; // of files that do not say; LARGE: layers of the 27B

static const struct weight_spec weights[] = {
    GEMMA_WEIGHTS,
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "self_attn.q_norm.weight", NORM(HEAD), TRANSFORM(PLUS_ONE)),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "self_attn.k_norm.weight", NORM(HEAD), TRANSFORM(PLUS_ONE)),
};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = gemma_hparams(h, g, "gemma3", LARGE, err))) return s;
    h->rope_local = h->rope;
    if ((s = rope_hparams_read(&h->rope, g, "gemma3", err))) return s;
    // Scaling is for the layers that see all.
    h->rope_local.pairs = h->rope.pairs;
    h->rope_local.base = 10000;
    h->rope_local.factor = h->rope_local.attn_factor = 1;
    if ((s = hparam_f64(g, "gemma3", "rope.freq_base_swa", &h->rope_local.base, err))) return s;
    if (!(h->rope_local.base > 1))
        return error_set(err, TLM_ERR_FORMAT,
                         "gemma3.rope.freq_base_swa: expected a number above 1, found %g",
                         h->rope_local.base);
    return hparam_f64(g, "gemma3", "final_logit_softcapping", &h->logit_softcap, err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    enum tlm_status s = windows_read(m, PERIOD, err);
    for (int64_t l = 0; l < m->hparams.layers; l++)
        m->weights.layer[l].local_rope = m->weights.layer[l].window > 0;
    return s;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    double cap = 0;
    enum tlm_status s;
    gguf_set_f32(w, "gemma3.rope.freq_base", 1e6f); // where config.json says nothing
    if ((s = hf_expect(config, "attn_logit_softcapping", "null", err)) ||
        (s = hf_get_f64(config, "final_logit_softcapping", &cap, err)) ||
        (s = gemma_import(w, "gemma3", LARGE, config, err)))
        return s;
    if (cap != 0) gguf_set_f32(w, "gemma3.final_logit_softcapping", (float)cap);
    return windows_import(w, "gemma3", PERIOD, 4096, config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    double cap = 0;
    enum tlm_status s;
    if ((s = hparam_f64(g, "gemma3", "final_logit_softcapping", &cap, err)) ||
        (s = gemma_export(config, "gemma3", LARGE, g, err)))
        return s;
    json_object_set_new(config, "final_logit_softcapping", cap == 0 ? json_null() : json_real(cap));
    return windows_export(config, "gemma3", PERIOD, 0, g, err);
}

static const struct hf_key keys[] = {GEMMA_HF_KEYS("131072")};

static const struct hf_variant variants[] = {
    {"gemma3_text", "Gemma3ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config,
     NULL},
};

const struct arch arch_gemma3 = {
    .name = "gemma3",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = gemma_build,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.tied = true,
               .keys =
                   "attention.layer_norm_rms_epsilon=1e-6 attention.sliding_window=512 rope.freq_base=1e6"},
};
