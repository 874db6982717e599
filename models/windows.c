#include "models/windows.h"

#include <inttypes.h>

struct key {
    char text[96];
};

static struct key key_of(const char *arch, const char *name)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "%s.attention.%s", arch, name);
    return key;
}

// Where the layers with a window are.
struct pattern {
    int64_t period;                 // used where
    const struct gguf_value *flags; // is NULL
};

static bool windowed(const struct pattern *p, int64_t l)
{
    if (p->flags) return gguf_value_i64(p->flags, (uint64_t)l) != 0;
    return p->period == 0 || l % p->period < p->period - 1;
}

static enum tlm_status read_pattern(struct pattern *p, const struct gguf *g, const char *arch, int64_t layers,
                                    struct tlm_error *err)
{
    struct key key = key_of(arch, "sliding_window_pattern");
    const struct gguf_value *v = gguf_find(g, key.text);
    if (!v) return TLM_OK;
    if (v->type != GGUF_ARRAY)
        return hparam_i64(g, arch, "attention.sliding_window_pattern", 0, 4096, &p->period, err);
    if (!gguf_value_is_integer(v) || (int64_t)v->count != layers)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s: expected a flag for each of %" PRId64 " layers, found %" PRIu64 " %ss",
                         key.text, layers, v->count, gguf_type_traits[v->item].name);
    p->flags = v;
    return TLM_OK;
}

enum tlm_status windows_read(struct tlm_model *m, int64_t period, struct tlm_error *err)
{
    struct hparams *h = &m->hparams;
    struct pattern p = {.period = period};
    enum tlm_status s;
    if ((s = hparam_i64(m->gguf, m->arch->name, "attention.sliding_window", 0, INT32_MAX, &h->window, err)) ||
        (s = read_pattern(&p, m->gguf, m->arch->name, h->layers, err)))
        return s;
    for (int64_t l = 0; l < h->layers; l++)
        m->weights.layer[l].window = windowed(&p, l) ? (int32_t)h->window : 0;
    return TLM_OK;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

static const char *const sliding = "sliding_attention", *const full = "full_attention";

// flags[layers] by layer_types. Errors: FORMAT, UNSUPPORTED.
static enum tlm_status read_types(bool *flags, int64_t layers, const json_t *types, struct tlm_error *err)
{
    if ((int64_t)json_array_size(types) != layers)
        return error_set(err, TLM_ERR_FORMAT,
                         "layer_types: expected one for each of %" PRId64 " layers, found %zu", layers,
                         json_array_size(types));
    for (int64_t l = 0; l < layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        char shown[48];
        flags[l] = type && !strcmp(type, sliding);
        if (!flags[l] && (!type || strcmp(type, full) != 0))
            return error_set(err, TLM_ERR_UNSUPPORTED, "layer_types: expected %s or %s, found '%s'", sliding,
                             full,
                             gguf_printable((struct gguf_string){type ? type : "", type ? strlen(type) : 0},
                                            shown, sizeof shown));
    }
    return TLM_OK;
}

static bool same_flags(const bool *flags, int64_t layers, int64_t period)
{
    for (int64_t l = 0; l < layers; l++)
        if (flags[l] != windowed(&(struct pattern){.period = period}, l)) return false;
    return true;
}

// The smallest period that makes these flags; -1 where none does.
static int64_t period_of(const bool *flags, int64_t layers)
{
    for (int64_t period = 1; period <= layers + 1; period++)
        if (same_flags(flags, layers, period)) return period;
    return -1;
}

enum tlm_status windows_import(struct gguf_writer *w, const char *arch, int64_t period, int64_t window,
                               const json_t *config, struct tlm_error *err)
{
    const json_t *types = json_object_get(config, "layer_types");
    int64_t layers = 0, own = period;
    if (json_is_null(json_object_get(config, "sliding_window"))) window = 0;
    enum tlm_status s;
    if ((s = hf_get_i64(config, "sliding_window", &window, err)) ||
        (s = hf_get_i64(config, "num_hidden_layers", &layers, err)) ||
        (s = hf_get_i64(config, "sliding_window_pattern|_sliding_window_pattern", &own, err)))
        return s;
    if (window < 0 || window > INT32_MAX || layers < 1 || layers > 4096 || own < 0 || own > INT32_MAX)
        return error_set(err, TLM_ERR_FORMAT,
                         "sliding_window: expected a count for a model of 1 to 4096 layers, found %" PRId64
                         " for %" PRId64 " layers, every %" PRId64,
                         window, layers, own);
    gguf_set_u32(w, key_of(arch, "sliding_window").text, (uint32_t)window);
    bool flags[4096];
    for (int64_t l = 0; l < layers; l++) flags[l] = windowed(&(struct pattern){.period = own}, l);
    if (json_is_array(types) && (s = read_types(flags, layers, types, err))) return s;
    bool any = false;
    for (int64_t l = 0; l < layers; l++) any |= flags[l];
    if (!window && any)
        return error_set(err, TLM_ERR_FORMAT,
                         "sliding_window: layer_types has %s: expected a number, found null", sliding);
    if (same_flags(flags, layers, period)) return TLM_OK;
    if ((own = period_of(flags, layers)) > 0)
        gguf_set_u32(w, key_of(arch, "sliding_window_pattern").text, (uint32_t)own);
    else
        gguf_set_array(w, key_of(arch, "sliding_window_pattern").text, GGUF_BOOL, flags, (uint64_t)layers);
    return TLM_OK;
}

enum tlm_status windows_export(json_t *config, const char *arch, int64_t period, int64_t window,
                               const struct gguf *g, struct tlm_error *err)
{
    struct pattern p = {.period = period};
    int64_t layers = 0;
    enum tlm_status s;
    if ((s = hparam_i64(g, arch, "attention.sliding_window", 0, INT32_MAX, &window, err)) ||
        (s = hparam_i64(g, arch, "block_count", 1, 4096, &layers, err)) ||
        (s = read_pattern(&p, g, arch, layers, err)))
        return s;
    json_t *types = json_array();
    for (int64_t l = 0; l < layers; l++)
        json_array_append_new(types, json_string(window && windowed(&p, l) ? sliding : full));
    if (json_object_set_new(config, "layer_types", types))
        return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    json_object_set_new(config, "sliding_window", window ? json_integer(window) : json_null());
    return TLM_OK;
}
