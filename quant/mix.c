// quant/mix.c -- the table of mixes, and how its rules are applied; see quant/mix.h.
#include "quant/mix.h"

#include <inttypes.h>
#include <strings.h>

#include "quant/composite.h"

// ---- the table ----------------------------------------------------------------------------------------

// Which of the layers 0 ... n-1 a rule speaks of.
enum where {
    NOWHERE,
    EVERYWHERE,
    FIRST_2,
    FIRST_4,
    FIRST_8TH,            // the first n/8
    FIRST_16TH,           // the first n/16
    SPREAD,               // the first and the last eighth, and each third layer between
    GROUPED,              // every layer, where at least four heads share their keys and values
    FIRST_8TH_UNWEIGHTED, // as FIRST_8TH, but not with weights of importance
    FIRST_8TH_WEIGHTED,   // only with them
};

// The type there, and the type in the other layers. NOWHERE is the base type in all.
struct rule {
    enum where where;
    enum dtype there, elsewhere;
};

struct mix {
    const char *name;
    uint32_t file_type;
    enum dtype base;
    struct rule value;       // attn_v, attn_qkv, attn_kv_b
    struct rule down;        // ffn_down
    struct rule attn_output; // attn_output
    struct rule embedding;   // token_embd that is not the output, too
    bool eight_experts;      // models of 8 experts get Q5_K for attn_output
    bool dense_q8;           // only stacks of experts get the base type, other matrices Q8_0
};

#define MIX(text, number, type) .name = (text), .file_type = (number), .base = (type)

enum { UNNAMED = 1024 }; // the number of files whose mix has no number of its own

static const struct mix mixes[] = {
    {MIX("F32", 0, DTYPE_F32)},
    {MIX("F16", 1, DTYPE_F16)},
    {MIX("BF16", 32, DTYPE_BF16)},
    {MIX("Q8_0", 7, DTYPE_Q8_0)},
    {MIX("Q6_K", 18, DTYPE_Q6_K)},
    {MIX("Q5_K_M", 17, DTYPE_Q5_K), .value = {SPREAD, DTYPE_Q6_K, DTYPE_Q5_K},
     .down = {SPREAD, DTYPE_Q6_K, DTYPE_Q5_K}},
    {MIX("Q5_K_S", 16, DTYPE_Q5_K)},
    {MIX("Q5_1", 9, DTYPE_Q5_1)},
    {MIX("Q5_0", 8, DTYPE_Q5_0), .down = {FIRST_8TH_WEIGHTED, DTYPE_Q5_1, DTYPE_Q5_0}},
    {MIX("Q4_K_M", 15, DTYPE_Q4_K), .value = {SPREAD, DTYPE_Q6_K, DTYPE_Q4_K},
     .down = {SPREAD, DTYPE_Q6_K, DTYPE_Q4_K}, .eight_experts = true},
    {MIX("Q4_K_S", 14, DTYPE_Q4_K), .value = {FIRST_4, DTYPE_Q5_K, DTYPE_Q4_K},
     .down = {FIRST_8TH, DTYPE_Q5_K, DTYPE_Q4_K}, .eight_experts = true},
    {MIX("Q4_1", 3, DTYPE_Q4_1)},
    {MIX("Q4_0", 2, DTYPE_Q4_0), .down = {FIRST_8TH_WEIGHTED, DTYPE_Q4_1, DTYPE_Q4_0}},
    {MIX("IQ4_NL", 25, DTYPE_IQ4_NL), .value = {GROUPED, DTYPE_Q5_K, DTYPE_IQ4_NL},
     .down = {FIRST_8TH_UNWEIGHTED, DTYPE_Q5_K, DTYPE_IQ4_NL}, .eight_experts = true},
    {MIX("IQ4_XS", 30, DTYPE_IQ4_XS), .value = {GROUPED, DTYPE_Q5_K, DTYPE_IQ4_XS},
     .down = {FIRST_8TH_UNWEIGHTED, DTYPE_Q5_K, DTYPE_IQ4_XS}, .eight_experts = true},
    {MIX("MXFP4", 38, DTYPE_MXFP4), .embedding = {EVERYWHERE, DTYPE_Q8_0, DTYPE_Q8_0}},
    {MIX("MXFP4_MOE", 38, DTYPE_MXFP4), .dense_q8 = true},
    {MIX("Q3_K_L", 13, DTYPE_Q3_K), .value = {EVERYWHERE, DTYPE_Q5_K, DTYPE_Q5_K},
     .down = {EVERYWHERE, DTYPE_Q5_K, DTYPE_Q5_K}, .attn_output = {EVERYWHERE, DTYPE_Q5_K, DTYPE_Q5_K}},
    {MIX("Q3_K_M", 12, DTYPE_Q3_K), .value = {FIRST_2, DTYPE_Q5_K, DTYPE_Q4_K},
     .down = {FIRST_16TH, DTYPE_Q5_K, DTYPE_Q4_K}, .attn_output = {EVERYWHERE, DTYPE_Q4_K, DTYPE_Q4_K},
     .eight_experts = true},
    {MIX("Q3_K_S", 11, DTYPE_Q3_K), .eight_experts = true},
    {MIX("Q2_K", 10, DTYPE_Q2_K), .value = {GROUPED, DTYPE_Q4_K, DTYPE_Q3_K},
     .down = {EVERYWHERE, DTYPE_Q3_K, DTYPE_Q3_K}, .attn_output = {EVERYWHERE, DTYPE_Q3_K, DTYPE_Q3_K},
     .eight_experts = true},
    {MIX("Q2_K_S", 21, DTYPE_Q2_K), .value = {GROUPED, DTYPE_Q4_K, DTYPE_Q2_K},
     .down = {FIRST_8TH, DTYPE_Q4_K, DTYPE_Q2_K}},
    {MIX("TQ2_0", 37, DTYPE_TQ2_0), .embedding = {EVERYWHERE, DTYPE_Q4_K, DTYPE_Q4_K}},
    {MIX("NF4", UNNAMED, DTYPE_NF4), .embedding = {EVERYWHERE, DTYPE_F16, DTYPE_F16}},
    {MIX("FP4", UNNAMED, DTYPE_FP4), .embedding = {EVERYWHERE, DTYPE_F16, DTYPE_F16}},
    {MIX("INT8", UNNAMED, DTYPE_INT8), .embedding = {EVERYWHERE, DTYPE_F16, DTYPE_F16}},
    {MIX("INT8_ASYM", UNNAMED, DTYPE_INT8_ASYM), .embedding = {EVERYWHERE, DTYPE_F16, DTYPE_F16}},
    {MIX("TQ1_0", 36, DTYPE_TQ1_0), .embedding = {EVERYWHERE, DTYPE_Q4_K, DTYPE_Q4_K}},
};

enum { MIX_COUNT = sizeof mixes / sizeof *mixes };

const struct mix *mix_find(const char *name)
{
    for (size_t i = 0; i < MIX_COUNT; i++)
        if (!strcasecmp(mixes[i].name, name)) return &mixes[i];
    return NULL;
}

const struct mix *mix_of_base(enum dtype base)
{
    for (size_t i = 0; i < MIX_COUNT; i++)
        if (mixes[i].base == base) return &mixes[i];
    return NULL;
}

const char *mix_name(size_t i)
{
    return i < MIX_COUNT ? mixes[i].name : NULL;
}

const char *mix_title(const struct mix *m)
{
    return m->name;
}

bool mix_is_composite(const struct mix *m)
{
    return composite_is(m->base);
}

uint32_t mix_file_type(const struct mix *m)
{
    return m->file_type;
}

// ---- tensors by name ----------------------------------------------------------------------------------

static bool contains(struct gguf_string s, const char *text)
{
    return memmem(s.data, s.length, text, strlen(text)) != NULL;
}

static bool ends_with(struct gguf_string s, const char *text)
{
    size_t n = strlen(text);
    return s.length >= n && !memcmp(s.data + s.length - n, text, n);
}

static bool contains_any(struct gguf_string s, const char *const *texts)
{
    for (; *texts; texts++)
        if (contains(s, *texts)) return true;
    return false;
}

bool mix_applies(const struct gguf_tensor *t)
{
    // Small, and sensitive: norms, routers, positions, short convolutions, the mixing weights of recurrent
    // models, the borders of encoders.
    static const char *const left_alone[] = {"_norm.weight",
                                             "ffn_gate_inp.weight",
                                             "altup",
                                             "laurel",
                                             "per_layer_model_proj",
                                             "ssm_conv1d",
                                             "shortconv.conv.weight",
                                             "time_mix_first.weight",
                                             "time_mix_w0.",
                                             "time_mix_w1.",
                                             "time_mix_w2.",
                                             "time_mix_v0.",
                                             "time_mix_v1.",
                                             "time_mix_v2.",
                                             "time_mix_a0.",
                                             "time_mix_a1.",
                                             "time_mix_a2.",
                                             "time_mix_g1.",
                                             "time_mix_g2.",
                                             "time_mix_decay_w",
                                             "time_mix_lerp_fused.",
                                             "attn_rel_b.weight",
                                             "position_embd",
                                             "token_types",
                                             "sam.pos_embd",
                                             "sam.neck.",
                                             "sam.net_",
                                             ".rel_pos",
                                             ".patch_embd",
                                             ".patch_merger",
                                             NULL};
    const int64_t *ne = t->tensor.ne;
    if (ne[1] == 1 && ne[2] == 1 && ne[3] == 1) return false;
    return ends_with(t->name, "weight") && !contains_any(t->name, left_alone);
}

static bool is_value(struct gguf_string name)
{
    static const char *const names[] = {"attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight", NULL};
    return contains_any(name, names);
}

static bool is_down(struct gguf_string name)
{
    return contains(name, "ffn_down");
}

// The number in "blk.12.attn_v.weight"; -1 where there is none.
static int64_t layer_of(struct gguf_string name)
{
    int64_t layer = 0;
    size_t i = 4;
    if (name.length < 6 || memcmp(name.data, "blk.", 4)) return -1;
    for (; i < name.length && name.data[i] >= '0' && name.data[i] <= '9' && layer < INT32_MAX; i++)
        layer = 10 * layer + (name.data[i] - '0');
    return i > 4 && i < name.length && name.data[i] == '.' ? layer : -1;
}

// How many tensors of that kind stand in layers before this one: its layer, where each has one.
static int64_t rank_of(const struct gguf *g, const struct gguf_tensor *t,
                       bool (*kind)(struct gguf_string name))
{
    int64_t layer = layer_of(t->name), rank = 0;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *other = &g->tensors[i];
        rank += kind(other->name) && layer_of(other->name) < layer && mix_applies(other);
    }
    return rank;
}

// ---- the model ----------------------------------------------------------------------------------------

// "ARCHITECTURE.name" as a number, or the first of an array of numbers; `out` keeps its value where it is
// absent.
static enum tlm_status read_number(const struct gguf *g, struct gguf_string arch, const char *name,
                                   int64_t *out, struct tlm_error *err)
{
    char key[160];
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.length < 64 ? arch.length : 64), arch.data, name);
    const struct gguf_value *v = gguf_find(g, key);
    if (!v || v->type != GGUF_ARRAY) return gguf_get_i64(g, key, out, err);
    if (v->count && gguf_value_is_integer(v)) *out = gguf_value_i64(v, 0);
    return TLM_OK;
}

enum tlm_status mix_model_read(struct mix_model *m, const struct gguf *g, bool importance,
                               struct tlm_error *err)
{
    struct gguf_string arch = {"", 0};
    int64_t heads = 0, kv_heads = 0;
    *m = (struct mix_model){.file = g, .group = 1, .importance = importance, .tied = true};
    enum tlm_status status = gguf_get_string(g, "general.architecture", &arch, err);
    if (!status) status = read_number(g, arch, "block_count", &m->layers, err);
    if (!status) status = read_number(g, arch, "expert_count", &m->experts, err);
    if (!status) status = read_number(g, arch, "attention.head_count", &heads, err);
    kv_heads = heads;
    if (!status) status = read_number(g, arch, "attention.head_count_kv", &kv_heads, err);
    if (status) return status;
    if (heads > 0 && kv_heads > 0) m->group = heads / kv_heads;
    m->falcon = gguf_string_is(arch, "falcon");
    m->tied = !gguf_find_tensor(g, "output.weight");
    for (uint64_t i = 0; i < g->tensor_count; i++) m->values += is_value(g->tensors[i].name);
    return TLM_OK;
}

// ---- the rules ----------------------------------------------------------------------------------------

static bool spread(int64_t layer, int64_t layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static bool holds(enum where where, const struct mix_model *m, int64_t layer, int64_t layers)
{
    switch (where) {
    case NOWHERE: return false;
    case EVERYWHERE: return true;
    case FIRST_2: return layer < 2;
    case FIRST_4: return layer < 4;
    case FIRST_8TH: return layer < layers / 8;
    case FIRST_16TH: return layer < layers / 16;
    case SPREAD: return spread(layer, layers);
    case GROUPED: return m->group >= 4;
    case FIRST_8TH_UNWEIGHTED: return layer < layers / 8 && !m->importance;
    case FIRST_8TH_WEIGHTED: return layer < layers / 8 && m->importance;
    }
    return false;
}

static enum dtype apply(const struct rule *r, enum dtype base, const struct mix_model *m, int64_t layer,
                        int64_t layers)
{
    if (r->where == NOWHERE) return base;
    return holds(r->where, m, layer, layers) ? r->there : r->elsewhere;
}

static enum dtype output_type(const struct mix *m, const struct mix_model *model, const struct tensor *t)
{
    if (composite_is(m->base)) return DTYPE_F16; // which bitsandbytes leaves as it is, like the embedding
    if (m->base == DTYPE_MXFP4 || m->base == DTYPE_Q8_0) return DTYPE_Q8_0;
    if (model->falcon || t->ne[0] % dtype_traits[m->base].block_size) return DTYPE_Q8_0;
    return DTYPE_Q6_K;
}

static enum dtype value_type(const struct mix *m, const struct mix_model *model, const struct gguf_tensor *t)
{
    // These matrices are small where heads share them: 80 layers and groups are the models of 70 billion
    // parameters.
    enum dtype type = apply(&m->value, m->base, model, rank_of(model->file, t, is_value), model->values);
    bool grouped_70b = model->layers == 80 && model->group > 1;
    if (grouped_70b && (type == DTYPE_Q3_K || type == DTYPE_Q4_K)) type = DTYPE_Q5_K;
    return model->experts == 8 ? DTYPE_Q8_0 : type;
}

static enum dtype down_type(const struct mix *m, const struct mix_model *model, const struct gguf_tensor *t)
{
    int64_t layer = model->experts > 1 ? layer_of(t->name) : rank_of(model->file, t, is_down);
    return apply(&m->down, m->base, model, layer, model->layers);
}

// The type by the rules, whatever the rows' length.
static enum dtype wanted_type(const struct mix *m, const struct mix_model *model, const struct gguf_tensor *t)
{
    bool embedding = gguf_string_is(t->name, "token_embd.weight") ||
                     gguf_string_is(t->name, "per_layer_token_embd.weight");
    if (gguf_string_is(t->name, "output.weight") || (model->tied && embedding))
        return output_type(m, model, &t->tensor);
    if (m->dense_q8) return t->tensor.ne[2] > 1 ? m->base : DTYPE_Q8_0;
    if (embedding) return apply(&m->embedding, m->base, model, 0, 1);
    if (is_value(t->name)) return value_type(m, model, t);
    if (contains(t->name, "attn_k.weight")) return model->experts == 8 ? DTYPE_Q8_0 : m->base;
    if (is_down(t->name)) return down_type(m, model, t);
    if (contains(t->name, "attn_output.weight")) {
        if (model->experts == 8) return m->eight_experts ? DTYPE_Q5_K : m->base;
        return apply(&m->attn_output, m->base, model, 0, 1);
    }
    return m->base;
}

enum dtype mix_type(const struct mix *m, const struct mix_model *model, const struct gguf_tensor *t)
{
    // A mix of plain numbers is the same for all.
    if (dtype_traits[m->base].block_size == 1) return m->base;
    return mix_fitting_type(wanted_type(m, model, t), t->tensor.ne[0]);
}

enum dtype mix_fitting_type(enum dtype type, int64_t n)
{
    if (n % dtype_traits[type].block_size == 0) return type;
    switch (type) { // blocks of 256 and 64 become blocks of 32
    case DTYPE_IQ4_XS: type = DTYPE_IQ4_NL; break;
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0: type = DTYPE_Q4_0; break;
    case DTYPE_Q4_K: type = DTYPE_Q5_0; break;
    case DTYPE_Q5_K: type = DTYPE_Q5_1; break;
    case DTYPE_Q6_K:
    case DTYPE_INT8:
    case DTYPE_INT8_ASYM: type = DTYPE_Q8_0; break;
    case DTYPE_NF4:
    case DTYPE_FP4: type = DTYPE_IQ4_NL; break;
    default: return DTYPE_F16;
    }
    return n % dtype_traits[type].block_size == 0 ? type : DTYPE_F16;
}
