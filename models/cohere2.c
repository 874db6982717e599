// models/cohere2.c -- Cohere's Command R7B and Command A: a Command R of which three layers see a window and rotate, and every fourth sees
// all and knows no positions. Cohere, arXiv 2504.00698. x: (T, D)
#include "models/cohere.h"
#include "models/windows.h"

enum { PERIOD = 4, WINDOW = 4096 }; // of files that do not say

static const struct weight_spec weights[] = {COHERE_WEIGHTS};

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    h->window = WINDOW;
    return cohere_hparams(h, g, "cohere2", err);
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    enum tlm_status s = windows_read(m, PERIOD, err);
    for (int64_t l = 0; l < m->hparams.layers; l++)
        m->weights.layer[l].no_rope = m->weights.layer[l].window == 0;
    return s;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const struct hf_key keys[] = {COHERE_HF_KEYS};

static enum tlm_status import_config(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s = cohere_import(w, "cohere2", config, err);
    return s ? s : windows_import(w, "cohere2", PERIOD, WINDOW, config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = cohere_export(config, "cohere2", g, err);
    return s ? s : windows_export(config, "cohere2", PERIOD, WINDOW, g, err);
}

static const struct hf_variant variants[] = {
    {"cohere2", "Cohere2ForCausalLM", keys, sizeof keys / sizeof *keys, import_config, export_config, NULL},
};

const struct arch arch_cohere2 = {
    .name = "cohere2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = cohere_build,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .layer_norm = true,
    .create = {.tied = true, .keys = "logit_scale=0.0625 attention.sliding_window=4096"},
};
