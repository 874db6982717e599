// models/hf_rope.c -- rotary positions in config.json and in GGUF.
//
// transformers 4 has rope_theta and rope_scaling beside each other, transformers 5 both in rope_parameters, one object or one a
// kind of layer (full_attention, sliding_attention). "type" is the older name of "rope_type". Written is the older form, which
// both read. What becomes of the kinds (models/rope.c has the formulas):
//
//   default    nothing
//   linear     rope.scaling.type linear, .factor
//   llama3     the tensor rope_freqs.weight; the four numbers it comes from under a key of ours, for the way back
//   yarn       rope.scaling.type yarn, .factor, .original_context_length, .yarn_beta_*; .attn_factor is a factor on top of
//              YaRN's own 1 + 0.1 ln(factor). mscale = mscale_all_dim (DeepSeek) becomes .yarn_log_multiplier: no factor at all
//   longrope   rope.scaling.type longrope, .original_context_length, .attn_factor; the tensors rope_factors_*.weight. "su" of old
//   dynamic    nothing: within max_position_embeddings, which is the context a model gets, it is the default
#include <inttypes.h>
#include <math.h>

#include "core/json.h"
#include "models/hf_folder.h"

#define KEY_LLAMA3   "tinylm.rope.llama3" // factor, low_freq_factor, high_freq_factor, original context; F64
#define KEY_TRUNCATE "tinylm.rope.yarn_truncate" // false: the ends of YaRN's ramp are not rounded to pairs

const char *const hf_rope_tables[HF_ROPE_TABLES] = {"rope_freqs.weight", "rope_factors_short.weight",
                                                    "rope_factors_long.weight"};

// ---- what config.json says ----------------------------------------------------------------------------

enum kind { DEFAULT, LINEAR, LLAMA3, YARN, LONGROPE };

struct rope {
    const json_t *object; // with the kind's numbers; NULL where there is none
    enum kind kind;
    double base, local_base; // 0: not said
    double factor;           // NAN: not said
    double share;            // of a head that is rotated
    int64_t context, original;
};

// The object of one kind of layer, where there is one for each.
static const json_t *of_layers(const json_t *parameters, const char *kind)
{
    const json_t *own = json_object_get(parameters, kind);
    return json_is_object(own) ? own : parameters;
}

static enum tlm_status read_kind(struct rope *r, struct tlm_error *err)
{
    static const struct {
        const char *name;
        enum kind kind;
    } kinds[] = {{"default", DEFAULT}, {"dynamic", DEFAULT}, {"linear", LINEAR},    {"llama3", LLAMA3},
                 {"yarn", YARN},       {"su", LONGROPE},     {"longrope", LONGROPE}};
    const json_t *type = json_object_get(r->object, "rope_type");
    if (!type || json_is_null(type)) type = json_object_get(r->object, "type");
    if (!type || json_is_null(type)) return TLM_OK;
    const char *name = json_is_string(type) ? json_string_value(type) : "";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(name, kinds[i].name) != 0) continue;
        r->kind = kinds[i].kind;
        return TLM_OK;
    }
    char shown[48];
    return error_set(
        err, TLM_ERR_UNSUPPORTED,
        "rope_scaling: rope_type: expected default, linear, dynamic, llama3, yarn or longrope, found '%s'",
        gguf_printable((struct gguf_string){name, strlen(name)}, shown, sizeof shown));
}

static enum tlm_status positive(double x, const char *key, struct tlm_error *err)
{
    if (isfinite(x) && x > 0) return TLM_OK;
    return error_set(err, TLM_ERR_FORMAT, "rope_scaling: %s: expected a positive number, found %g", key, x);
}

static enum tlm_status read_rope(struct rope *r, const json_t *config, struct tlm_error *err)
{
    *r = (struct rope){.factor = NAN, .share = 1, .kind = DEFAULT};
    const json_t *parameters = json_object_get(config, "rope_parameters"),
                 *scaling = json_object_get(config, "rope_scaling");
    if (!json_is_object(parameters)) parameters = NULL;
    if (scaling && !json_is_null(scaling) && !json_is_object(scaling))
        return error_set(err, TLM_ERR_FORMAT, "rope_scaling: expected an object, found %s",
                         json_kind(scaling));
    r->object = of_layers(parameters ? parameters : scaling, "full_attention");
    const json_t *local = json_object_get(parameters, "sliding_attention");
    double attention = NAN;
    enum tlm_status s;
    if ((s = hf_get_f64(config, "rope_theta", &r->base, err)) ||
        (s = hf_get_f64(r->object, "rope_theta", &r->base, err)) ||
        (s = hf_get_f64(config, "rope_local_base_freq", &r->local_base, err)) ||
        (s = hf_get_f64(local, "rope_theta", &r->local_base, err)) ||
        (s = hf_get_f64(config, "partial_rotary_factor", &r->share, err)) ||
        (s = hf_get_f64(r->object, "partial_rotary_factor", &r->share, err)) ||
        (s = hf_get_i64(config, "max_position_embeddings", &r->context, err)) || (s = read_kind(r, err)))
        return s;
    if (r->kind == DEFAULT) return TLM_OK;
    r->original = r->context;
    if ((s = hf_get_i64(r->object, "original_max_position_embeddings", &r->original, err)) ||
        (s = hf_get_i64(config, "original_max_position_embeddings", &r->original,
                        err)) || // Phi-3's, goes first
        (s = hf_get_f64(r->object, "factor", &r->factor, err)) ||
        (s = hf_get_f64(r->object, "attention_factor", &attention, err)))
        return s;
    if (r->kind != LINEAR && (r->original < 2 || r->original > INT32_MAX))
        return error_set(err, TLM_ERR_FORMAT,
                         "rope_scaling: original_max_position_embeddings: expected 2 or more, found %" PRId64,
                         r->original);
    if (isnan(r->factor) && r->original > 0 && (r->kind == YARN || r->kind == LONGROPE))
        r->factor = (double)r->context / (double)r->original;
    return positive(r->factor, "factor", err);
}

// ---- to GGUF ------------------------------------------------------------------------------------------

struct key {
    char text[96];
};

static struct key key_of(const char *arch, const char *name)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "%s.rope.%s", arch, name);
    return key;
}

static enum tlm_status import_yarn(struct gguf_writer *w, const char *arch, const struct rope *r,
                                   struct tlm_error *err)
{
    double fast = 32, slow = 1, attention = 0, mscale = 0, all = 0, own = 1 + 0.1 * log(r->factor);
    bool truncate = true;
    enum tlm_status s;
    if ((s = hf_get_f64(r->object, "beta_fast", &fast, err)) ||
        (s = hf_get_f64(r->object, "beta_slow", &slow, err)) ||
        (s = hf_get_f64(r->object, "attention_factor", &attention, err)) ||
        (s = hf_get_f64(r->object, "mscale", &mscale, err)) ||
        (s = hf_get_f64(r->object, "mscale_all_dim", &all, err)) ||
        (s = hf_get_bool(r->object, "truncate", &truncate, err)))
        return s;
    gguf_set_string(w, key_of(arch, "scaling.type").text, "yarn", 4);
    gguf_set_f32(w, key_of(arch, "scaling.factor").text, (float)r->factor);
    gguf_set_u32(w, key_of(arch, "scaling.original_context_length").text, (uint32_t)r->original);
    if (fast != 32) gguf_set_f32(w, key_of(arch, "scaling.yarn_beta_fast").text, (float)fast);
    if (slow != 1) gguf_set_f32(w, key_of(arch, "scaling.yarn_beta_slow").text, (float)slow);
    if (!truncate) gguf_set_bool(w, KEY_TRUNCATE, false);
    if (r->factor <= 1) own = 1;
    if (attention == 0 && mscale != 0 && all != 0) {
        if (mscale != all)
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "rope_scaling: mscale: expected mscale_all_dim, %g, found %g", all, mscale);
        gguf_set_f32(w, key_of(arch, "scaling.yarn_log_multiplier").text, (float)(0.1 * all));
    } else if (attention != 0) {
        gguf_set_f32(w, key_of(arch, "scaling.attn_factor").text, (float)(attention / own));
    }
    return TLM_OK;
}

static enum tlm_status import_longrope(struct gguf_writer *w, const char *arch, const struct rope *r,
                                       struct tlm_error *err)
{
    double attention = r->factor <= 1 ? 1 : sqrt(1 + log(r->factor) / log((double)r->original));
    enum tlm_status s = hf_get_f64(r->object, "attention_factor", &attention, err);
    if (s) return s;
    gguf_set_string(w, key_of(arch, "scaling.type").text, "longrope", 8);
    gguf_set_u32(w, key_of(arch, "scaling.original_context_length").text, (uint32_t)r->original);
    gguf_set_f32(w, key_of(arch, "scaling.attn_factor").text, (float)attention);
    return TLM_OK;
}

static enum tlm_status read_llama3(double numbers[4], const struct rope *r, struct tlm_error *err)
{
    numbers[0] = r->factor;
    numbers[1] = 1;
    numbers[2] = 4;
    numbers[3] = (double)r->original;
    enum tlm_status s;
    if ((s = hf_get_f64(r->object, "low_freq_factor", &numbers[1], err)) ||
        (s = hf_get_f64(r->object, "high_freq_factor", &numbers[2], err)))
        return s;
    if (!(numbers[1] > 0) || !(numbers[2] > numbers[1]))
        return error_set(err, TLM_ERR_FORMAT,
                         "rope_scaling: expected 0 < low_freq_factor < high_freq_factor, found %g and %g",
                         numbers[1], numbers[2]);
    return TLM_OK;
}

// The rotated part of a head, where that is said in this way.
static enum tlm_status import_share(struct gguf_writer *w, const char *arch, const json_t *config,
                                    double share, struct tlm_error *err)
{
    int64_t width = 0, heads = 0, head = 0;
    enum tlm_status s;
    if (share == 1) return TLM_OK;
    if ((s = hf_get_i64(config, "hidden_size", &width, err)) ||
        (s = hf_get_i64(config, "num_attention_heads", &heads, err)) ||
        (s = hf_get_i64(config, "head_dim", &head, err)))
        return s;
    if (!head && heads > 0) head = width / heads;
    int64_t rotated = isfinite(share) && share > 0 && share < 1 && head > 0 && head < 1 << 20
                          ? (int64_t)((double)head * share)
                          : 0;
    if (rotated < 2 || rotated % 2)
        return error_set(err, TLM_ERR_FORMAT,
                         "partial_rotary_factor: expected an even part of a head of %" PRId64
                         " numbers, found %g",
                         head, share);
    gguf_set_u32(w, key_of(arch, "dimension_count").text, (uint32_t)rotated);
    return TLM_OK;
}

enum tlm_status hf_import_rope(struct gguf_writer *w, const char *arch, const json_t *config,
                               struct tlm_error *err)
{
    struct rope r;
    enum tlm_status s = read_rope(&r, config, err);
    if (s || (s = import_share(w, arch, config, r.share, err))) return s;
    if (r.base != 0) gguf_set_f32(w, key_of(arch, "freq_base").text, (float)r.base);
    if (r.local_base != 0) gguf_set_f32(w, key_of(arch, "freq_base_swa").text, (float)r.local_base);
    double numbers[4];
    switch (r.kind) {
    case DEFAULT: return TLM_OK;
    case LINEAR:
        gguf_set_string(w, key_of(arch, "scaling.type").text, "linear", 6);
        gguf_set_f32(w, key_of(arch, "scaling.factor").text, (float)r.factor);
        return TLM_OK;
    case LLAMA3:
        s = read_llama3(numbers, &r, err);
        if (!s) gguf_set_array(w, KEY_LLAMA3, GGUF_F64, numbers, 4);
        return s;
    case YARN: return import_yarn(w, arch, &r, err);
    case LONGROPE: return import_longrope(w, arch, &r, err);
    }
    return TLM_OK;
}

// ---- tables -------------------------------------------------------------------------------------------

// The divisor of each frequency: 1 for waves short beside the original context, the factor for long ones, a ramp of frequencies
// between them.
static void llama3_divisors(const double numbers[4], double base, int64_t pairs, float *out)
{
    double factor = numbers[0], low = numbers[1], high = numbers[2], original = numbers[3];
    for (int64_t i = 0; i < pairs; i++) {
        double wave = 2 * M_PI * pow(base, (double)i / (double)pairs);
        double keep = (original / wave - low) / (high - low); // share of the frequency as it was
        out[i] = (float)(wave < original / high  ? 1
                         : wave > original / low ? factor
                                                 : 1 / ((1 - keep) / factor + keep));
    }
}

static enum tlm_status read_factors(const json_t *object, const char *key, int64_t pairs, float *out,
                                    struct tlm_error *err)
{
    const json_t *list = json_object_get(object, key), *item;
    if ((int64_t)json_array_size(list) != pairs)
        return error_set(err, TLM_ERR_FORMAT, "rope_scaling: %s: expected %" PRId64 " numbers, found %zu",
                         key, pairs, json_array_size(list));
    size_t i;
    json_array_foreach(list, i, item)
    {
        out[i] = (float)json_number_value(item);
        if (!json_is_number(item) || !isfinite(out[i]) || out[i] == 0)
            return error_set(err, TLM_ERR_FORMAT,
                             "rope_scaling: %s: item %zu: expected a number but 0, found %s", key, i,
                             json_kind(item));
    }
    return TLM_OK;
}

enum tlm_status hf_rope_table(const json_t *config, int table, int64_t pairs, float *out, bool *found,
                              struct tlm_error *err)
{
    struct rope r;
    enum tlm_status s = read_rope(&r, config, err);
    *found = !s && r.kind == (table == HF_ROPE_FREQS ? LLAMA3 : LONGROPE);
    if (!*found) return s;
    if (table != HF_ROPE_FREQS)
        return read_factors(r.object, table == HF_ROPE_SHORT ? "short_factor" : "long_factor", pairs, out,
                            err);
    double numbers[4];
    if ((s = read_llama3(numbers, &r, err))) return s;
    llama3_divisors(numbers, r.base > 1 ? r.base : 10000, pairs, out);
    return TLM_OK;
}

// ---- to config.json -----------------------------------------------------------------------------------

static json_t *json_f32(double x)
{
    return json_real(hf_short_number(x));
}

static enum tlm_status get(const struct gguf *g, const char *arch, const char *name, double *out,
                           struct tlm_error *err)
{
    return gguf_get_f64(g, key_of(arch, name).text, out, err);
}

static json_t *json_factors(const struct gguf_tensor *t)
{
    json_t *list = json_array();
    for (int64_t i = 0; t && i < t->tensor.ne[0]; i++)
        json_array_append_new(list, json_f32(((const float *)t->tensor.data)[i]));
    return list;
}

static bool is_llama3(const double numbers[4], double base, const struct tensor *t)
{
    float *made = malloc((size_t)t->ne[0] * sizeof *made);
    if (!made) return false;
    llama3_divisors(numbers, base, t->ne[0], made);
    bool same = true;
    for (int64_t i = 0; i < t->ne[0]; i++)
        same &= fabsf(made[i] - ((const float *)t->data)[i]) <= 1e-5f * fabsf(made[i]);
    free(made);
    return same;
}

// The four numbers that made the divisors: kept under our key, or found among those that models use.
static enum tlm_status find_llama3(double numbers[4], const struct gguf *g, double base,
                                   const struct tensor *t, struct tlm_error *err)
{
    const struct gguf_value *kept = gguf_find(g, KEY_LLAMA3);
    if (kept && kept->type == GGUF_ARRAY && kept->count == 4 && gguf_value_is_number(kept)) {
        for (uint64_t i = 0; i < 4; i++) numbers[i] = gguf_value_f64(kept, i);
        if (is_llama3(numbers, base, t)) return TLM_OK;
    }
    numbers[0] = ((const float *)t->data)[t->ne[0] - 1];
    numbers[1] = 1;
    numbers[2] = 4;
    for (numbers[3] = 16; numbers[3] <= 1 << 20; numbers[3] *= 2)
        if (is_llama3(numbers, base, t)) return TLM_OK;
    return error_set(
        err, TLM_ERR_UNSUPPORTED,
        "rope_freqs.weight: expected the divisors of Llama 3 by its usual numbers, found others");
}

static enum tlm_status export_llama3(json_t *scaling, const struct gguf *g, double base,
                                     const struct gguf_tensor *t, struct tlm_error *err)
{
    double numbers[4];
    enum tlm_status s = find_llama3(numbers, g, base, &t->tensor, err);
    if (s) return s;
    json_object_set_new(scaling, "rope_type", json_string("llama3"));
    json_object_set_new(scaling, "factor", json_f32(numbers[0]));
    json_object_set_new(scaling, "low_freq_factor", json_f32(numbers[1]));
    json_object_set_new(scaling, "high_freq_factor", json_f32(numbers[2]));
    json_object_set_new(scaling, "original_max_position_embeddings", json_integer((json_int_t)numbers[3]));
    return TLM_OK;
}

static enum tlm_status export_yarn(json_t *scaling, const char *arch, const struct gguf *g, double factor,
                                   struct tlm_error *err)
{
    double fast = 32, slow = 1, attention = 0, multiplier = 0;
    bool truncate = true;
    enum tlm_status s;
    if ((s = get(g, arch, "scaling.yarn_beta_fast", &fast, err)) ||
        (s = get(g, arch, "scaling.yarn_beta_slow", &slow, err)) ||
        (s = get(g, arch, "scaling.attn_factor", &attention, err)) ||
        (s = get(g, arch, "scaling.yarn_log_multiplier", &multiplier, err)) ||
        (s = gguf_get_bool(g, KEY_TRUNCATE, &truncate, err)))
        return s;
    json_object_set_new(scaling, "rope_type", json_string("yarn"));
    json_object_set_new(scaling, "factor", json_f32(factor));
    json_object_set_new(scaling, "beta_fast", json_f32(fast));
    json_object_set_new(scaling, "beta_slow", json_f32(slow));
    if (!truncate) json_object_set_new(scaling, "truncate", json_false());
    if (multiplier != 0) {
        json_object_set_new(scaling, "mscale", json_f32(multiplier * 10));
        json_object_set_new(scaling, "mscale_all_dim", json_f32(multiplier * 10));
    } else if (attention != 0) {
        json_object_set_new(scaling, "attention_factor",
                            json_f32(attention * (factor > 1 ? 1 + 0.1 * log(factor) : 1)));
    }
    return TLM_OK;
}

static enum tlm_status export_longrope(json_t *config, json_t *scaling, const char *arch,
                                       const struct gguf *g, double original, struct tlm_error *err)
{
    const struct gguf_tensor *tables[2];
    double attention = 1;
    enum tlm_status s = get(g, arch, "scaling.attn_factor", &attention, err);
    for (int i = 0; i < 2 && !s; i++) {
        tables[i] = gguf_find_tensor(g, hf_rope_tables[HF_ROPE_SHORT + i]);
        if (!tables[i] || tables[i]->tensor.type != DTYPE_F32)
            s = error_set(err, TLM_ERR_FORMAT, "%s: expected a tensor of type F32",
                          hf_rope_tables[HF_ROPE_SHORT + i]);
    }
    if (s) return s;
    const double context = json_number_value(json_object_get(config, "max_position_embeddings"));
    json_object_set_new(scaling, "rope_type", json_string("longrope"));
    json_object_set_new(scaling, "factor", json_real(context > original ? context / original : 1));
    json_object_set_new(scaling, "attention_factor", json_f32(attention));
    json_object_set_new(scaling, "short_factor", json_factors(tables[0]));
    json_object_set_new(scaling, "long_factor", json_factors(tables[1]));
    json_object_set_new(config, "original_max_position_embeddings", json_integer((json_int_t)original));
    return TLM_OK;
}

static enum tlm_status export_scaling(json_t *config, json_t *scaling, const char *arch, const struct gguf *g,
                                      double base, struct tlm_error *err)
{
    struct gguf_string type = {"", 0};
    double factor = 1, original = json_number_value(json_object_get(config, "max_position_embeddings"));
    const struct gguf_tensor *freqs = gguf_find_tensor(g, hf_rope_tables[HF_ROPE_FREQS]);
    enum tlm_status s;
    if ((s = gguf_get_string(g, key_of(arch, "scaling.type").text, &type, err)) ||
        (s = get(g, arch, "scale_linear", &factor, err)) ||
        (s = get(g, arch, "scaling.factor", &factor, err)) ||
        (s = get(g, arch, "scaling.original_context_length", &original, err)))
        return s;
    if (freqs && freqs->tensor.type == DTYPE_F32) return export_llama3(scaling, g, base, freqs, err);
    if (gguf_string_is(type, "longrope")) return export_longrope(config, scaling, arch, g, original, err);
    if (gguf_string_is(type, "yarn")) {
        json_object_set_new(scaling, "original_max_position_embeddings", json_integer((json_int_t)original));
        return export_yarn(scaling, arch, g, factor, err);
    }
    if (gguf_string_is(type, "none") || factor == 1) return TLM_OK;
    json_object_set_new(scaling, "rope_type", json_string("linear"));
    json_object_set_new(scaling, "factor", json_f32(factor));
    return TLM_OK;
}

enum tlm_status hf_export_rope(json_t *config, const char *arch, const struct gguf *g, struct tlm_error *err)
{
    double base = 10000, local = 0;
    enum tlm_status s;
    if ((s = get(g, arch, "freq_base", &base, err)) || (s = get(g, arch, "freq_base_swa", &local, err)))
        return s;
    json_object_set_new(config, "rope_theta", json_f32(base));
    if (local != 0) json_object_set_new(config, "rope_local_base_freq", json_f32(local));
    json_t *scaling = json_object();
    if (!scaling) return error_set(err, TLM_ERR_MEMORY, "config.json: no memory for it");
    s = export_scaling(config, scaling, arch, g, base, err);
    if (!s && json_object_get(scaling, "rope_type")) json_object_set(config, "rope_scaling", scaling);
    json_decref(scaling);
    return s;
}

enum tlm_status hf_export_partial_rope(json_t *config, const char *arch, const struct gguf *g,
                                       struct tlm_error *err)
{
    int64_t turned = 0, head = 0, width = 0, heads = 0;
    enum tlm_status s;
    if ((s = hparam_i64(g, arch, "embedding_length", 1, 1 << 20, &width, err)) ||
        (s = hparam_i64(g, arch, "attention.head_count", 1, 1 << 16, &heads, err)))
        return s;
    head = width / heads;
    if ((s = hparam_i64(g, arch, "attention.key_length", 1, 4096, &head, err))) return s;
    turned = head;
    if ((s = hparam_i64(g, arch, "rope.dimension_count", 1, head, &turned, err))) return s;
    if (turned != head)
        json_object_set_new(config, "partial_rotary_factor", json_real((double)turned / (double)head));
    return TLM_OK;
}
