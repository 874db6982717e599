// models/create_metadata.c -- hyperparameters of a new model, as they were written, to the keys of its file.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "models/create_plan.h"

// ---- hyperparameters ----------------------------------------------------------------------------------

const struct create_value *create_value(const struct create_plan *p, const char *name)
{
    for (size_t i = 0; i < create_key_count; i++)
        if (!strcmp(create_keys[i].name, name)) return &p->values[i];
    return NULL;
}

int64_t create_size(const struct create_plan *p, const char *name, int64_t fallback)
{
    const struct create_value *v = create_value(p, name);
    return v->given ? (int64_t)v->number : fallback;
}

enum tlm_status create_wrong_value(const char *key, const char *expected, const char *found,
                                   struct tlm_error *err)
{
    char shown[64];
    return error_set(err, TLM_ERR_ARGUMENT, "%s: expected %s, found '%s'", key, expected,
                     gguf_printable((struct gguf_string){found, strlen(found)}, shown, sizeof shown));
}

static enum tlm_status read_value(const struct create_key *key, const char *text, struct create_value *v,
                                  struct tlm_error *err)
{
    char expected[96], *end;
    if (key->kind == CREATE_BOOL) {
        bool on = !strcmp(text, "true");
        if (!on && strcmp(text, "false") != 0)
            return create_wrong_value(key->name, "true or false", text, err);
        *v = (struct create_value){true, on};
        return TLM_OK;
    }
    bool integer = key->kind == CREATE_INTEGER;
    double x = strtod(text, &end);
    bool decimal = *text && !*end && !text[strspn(text, "0123456789+-.eE")];
    snprintf(expected, sizeof expected, "%s from %.15g to %.15g", integer ? "a whole number" : "a number",
             key->low, key->high);
    if (!decimal || !(x >= key->low) || !(x <= key->high) || (integer && x != floor(x)))
        return create_wrong_value(key->name, expected, text, err);
    *v = (struct create_value){true, x};
    return TLM_OK;
}

bool create_is_verbatim(const struct create_pair *pair)
{
    return strchr(pair->key, '.') != NULL;
}

enum tlm_status create_read_values(struct create_plan *p, struct tlm_error *err)
{
    static const char *const required[] = {"layers", "width", "heads"};
    TLM_ASSERT(create_key_count <= CREATE_KEY_COUNT_MAX);
    for (size_t i = 0; i < p->options->pair_count; i++) {
        const struct create_pair *pair = &p->options->pairs[i];
        const struct create_key *key = NULL;
        for (size_t j = 0; j < create_key_count; j++)
            if (!strcmp(create_keys[j].name, pair->key)) key = &create_keys[j];
        if (create_is_verbatim(pair)) continue;
        if (!key)
            return create_wrong_value("model", "the name of a hyperparameter or of a GGUF key", pair->key,
                                      err);
        enum tlm_status s = read_value(key, pair->value, &p->values[key - create_keys], err);
        if (s) return s;
    }
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        if (!create_value(p, required[i])->given)
            return error_set(err, TLM_ERR_ARGUMENT, "%s: a new model needs this number, found none",
                             required[i]);
    int64_t width = create_size(p, "width", 0), heads = create_size(p, "heads", 0);
    if (width % heads && !create_value(p, "head_dim")->given)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "heads: expected a divisor of the width %" PRId64 ", or head_dim, found %" PRId64,
                         width, heads);
    return TLM_OK;
}

// ---- keys ---------------------------------------------------------------------------------------------

struct create_name create_key_name(const struct create_plan *p, const char *name)
{
    struct create_name key;
    size_t n = strlen(p->arch->name);
    bool whole = (!strncmp(name, p->arch->name, n) && name[n] == '.') || !strncmp(name, "general.", 8) ||
                 !strncmp(name, "tinylm.", 7);
    snprintf(key.text, sizeof key.text, "%s%s%s", whole ? "" : p->arch->name, whole ? "" : ".", name);
    return key;
}

static void set_number(const struct create_plan *p, struct gguf_writer *w, const char *name, int64_t x)
{
    gguf_set_u32(w, create_key_name(p, name).text, (uint32_t)x);
}

// A whole number of `n` characters, with a sign or without.
static bool is_whole(const char *text, size_t n)
{
    size_t sign = n > 1 && *text == '-';
    return n > sign && strspn(text + sign, "0123456789") >= n - sign;
}

// "1 0 1" or "true,false": an array of numbers or of flags. False where the text is no such list.
static bool set_list(struct gguf_writer *w, const char *key, const char *text)
{
    enum { ITEMS_MAX = 4096 };
    static const char separators[] = " \t,";
    uint32_t numbers[ITEMS_MAX];
    bool flags[ITEMS_MAX], whole = true, logical = true;
    uint64_t count = 0;
    for (text += strspn(text, separators); *text && count < ITEMS_MAX; count++) {
        size_t n = strcspn(text, separators);
        flags[count] = n == 4 && !strncmp(text, "true", n);
        numbers[count] = (uint32_t)strtoul(text, NULL, 10);
        whole = whole && is_whole(text, n) && *text != '-';
        logical = logical && (flags[count] || (n == 5 && !strncmp(text, "false", n)));
        text += n;
        text += strspn(text, separators);
    }
    if (*text || count < 2 || !(whole || logical)) return false;
    gguf_set_array(w, key, whole ? GGUF_U32 : GGUF_BOOL, whole ? (void *)numbers : (void *)flags, count);
    return true;
}

// A key by the look of its value; what describes the file is text always.
static void set_by_look(struct gguf_writer *w, const char *key, const char *text)
{
    char *end;
    double x = strtod(text, &end);
    bool whole = is_whole(text, strlen(text)), number = *text && !*end && isfinite(x);
    if (!strncmp(key, "general.", 8))
        gguf_set_string(w, key, text, strlen(text));
    else if (whole && x >= 0 && x <= UINT32_MAX)
        gguf_set_u32(w, key, (uint32_t)x);
    else if (whole && x >= INT32_MIN && x < 0)
        gguf_set_i32(w, key, (int32_t)x);
    else if (number)
        gguf_set_f32(w, key, (float)x);
    else if (!strcmp(text, "true") || !strcmp(text, "false"))
        gguf_set_bool(w, key, *text == 't');
    else if (!set_list(w, key, text))
        gguf_set_string(w, key, text, strlen(text));
}

// The architecture's own, "name=value name=value".
static void set_defaults(const struct create_plan *p, struct gguf_writer *w)
{
    for (const char *at = p->arch->create.keys; at && *at;) {
        char item[CREATE_NAME_SIZE];
        size_t n = strcspn(at, " ");
        snprintf(item, sizeof item, "%.*s", (int)n, at);
        char *equals = strchr(item, '=');
        TLM_ASSERT(n < sizeof item && equals);
        *equals = 0;
        set_by_look(w, create_key_name(p, item).text, equals + 1);
        at += n;
        at += *at == ' ';
    }
}

static enum tlm_status derive(const struct create_plan *p, struct gguf_writer *w, struct tlm_error *err)
{
    struct create_sizes sizes = {
        .layers = create_size(p, "layers", 0),
        .width = create_size(p, "width", 0),
        .heads = create_size(p, "heads", 0),
        .kv_heads = create_size(p, "kv_heads", 0),
        .head_dim = create_size(p, "head_dim", 0),
        .value_dim = create_size(p, "value_dim", 0),
        .rope_dims = create_size(p, "rope_dims", 0),
        .q_rank = create_size(p, "q_rank", 0),
        .kv_rank = create_size(p, "kv_rank", 0),
    };
    return p->arch->create.derive ? p->arch->create.derive(w, &sizes, err) : TLM_OK;
}

enum tlm_status create_set_keys(const struct create_plan *p, struct gguf_writer *w, struct tlm_error *err)
{
    const char *arch = p->arch->name;
    const char *eps =
        p->arch->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    const struct create_value *norm_eps = create_value(p, "norm_eps");
    int64_t experts = create_size(p, "experts", 0);
    gguf_set_string(w, "general.architecture", arch, strlen(arch));
    gguf_set_string(w, "general.type", "model", 5);
    gguf_set_u32(w, "general.file_type", 0); // all F32
    gguf_set_u32(w, "general.quantization_version", 2);
    set_number(p, w, "context_length", 1024);
    gguf_set_f32(w, create_key_name(p, eps).text, 1e-5f);
    set_defaults(p, w);
    if (norm_eps->given) gguf_set_f32(w, create_key_name(p, eps).text, (float)norm_eps->number);
    if (experts > 0) set_number(p, w, "expert_used_count", experts < 2 ? experts : 2);
    set_number(p, w, "vocab_size", p->vocab);
    set_number(p, w, "feed_forward_length", p->feed_forward);
    if (p->expert_feed_forward) set_number(p, w, "expert_feed_forward_length", p->expert_feed_forward);
    for (size_t i = 0; i < create_key_count; i++) {
        const struct create_key *key = &create_keys[i];
        if (!key->gguf || !p->values[i].given) continue;
        if (key->kind == CREATE_INTEGER)
            set_number(p, w, key->gguf, (int64_t)p->values[i].number);
        else
            gguf_set_f32(w, create_key_name(p, key->gguf).text, (float)p->values[i].number);
    }
    if (create_value(p, "head_dim")->given && !create_value(p, "value_dim")->given)
        set_number(p, w, "attention.value_length", create_size(p, "head_dim", 0));
    enum tlm_status s = derive(p, w, err);
    for (size_t i = 0; i < p->options->pair_count && !s; i++) {
        const struct create_pair *pair = &p->options->pairs[i];
        if (create_is_verbatim(pair)) set_by_look(w, create_key_name(p, pair->key).text, pair->value);
    }
    return s;
}
