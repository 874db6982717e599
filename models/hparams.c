// models/hparams.c -- reads hyperparameters from a container's metadata: the ones that most architectures share, and each by itself.
#include <math.h>

#include "models/model.h"

// Some files give a number a layer where all are the same; the architectures here want one number.
static enum tlm_status same_number(const struct gguf *g, const char *key, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v || v->type != GGUF_ARRAY) return TLM_OK;
    if (!v->count || !gguf_value_is_integer(v))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected a whole number, found an array of something else",
                         key);
    for (uint64_t i = 1; i < v->count; i++)
        if (gguf_value_i64(v, i) != gguf_value_i64(v, 0))
            return error_set(err, TLM_ERR_UNSUPPORTED,
                             "%s: expected one number for all layers, found %lld and %lld", key,
                             (long long)gguf_value_i64(v, 0), (long long)gguf_value_i64(v, i));
    return TLM_OK;
}

enum tlm_status hparam_i64(const struct gguf *g, const char *arch, const char *key, int64_t min, int64_t max,
                           int64_t *out, struct tlm_error *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    const struct gguf_value *v = gguf_find(g, name);
    enum tlm_status s = same_number(g, name, err);
    if (s) return s;
    if (!v && *out < min) return error_set(err, TLM_ERR_FORMAT, "%s: the file lacks this key", name);
    if (v && v->type == GGUF_ARRAY)
        *out = gguf_value_i64(v, 0);
    else if ((s = gguf_get_i64(g, name, out, err)))
        return s;
    if (v && (*out < min || *out > max))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected %lld to %lld, found %lld", name, (long long)min,
                         (long long)max, (long long)*out);
    return TLM_OK;
}

enum tlm_status hparam_f64(const struct gguf *g, const char *arch, const char *key, double *out,
                           struct tlm_error *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    enum tlm_status s = gguf_get_f64(g, name, out, err);
    if (!s && !isfinite(*out))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected a finite number, found %g", name, *out);
    return s;
}

enum tlm_status hparam_bool(const struct gguf *g, const char *arch, const char *key, bool *out,
                            struct tlm_error *err)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return gguf_get_bool(g, name, out, err);
}

enum tlm_status hparams_read(struct hparams *h, const struct arch *arch, const struct gguf *g,
                             struct tlm_error *err)
{
    *h = (struct hparams){.embedding_scale = 1,
                          .residual_scale = 1,
                          .logit_scale = 1,
                          .experts.scale = 1,
                          .layer_norm = arch->layer_norm};
    return arch->hparams(h, g, err);
}

enum tlm_status hparams_common(struct hparams *h, const struct gguf *g, const char *a, const char *eps_key,
                               struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hparam_i64(g, a, "block_count", 1, 4096, &h->layers, err)) ||
        (s = hparam_i64(g, a, "embedding_length", 1, 1 << 20, &h->width, err)) ||
        (s = hparam_i64(g, a, "feed_forward_length", 1, 1 << 24, &h->feed_forward, err)) ||
        (s = hparam_i64(g, a, "attention.head_count", 1, 1 << 16, &h->heads, err)) ||
        (s = hparam_i64(g, a, "context_length", 1, INT32_MAX, &h->context, err)))
        return s;
    h->kv_heads = h->heads;
    h->head_dim = h->value_dim = h->width / h->heads; // where the file does not say
    h->norm_eps = NAN;                                // the file has to say
    if ((s = hparam_i64(g, a, "attention.head_count_kv", 1, h->heads, &h->kv_heads, err)) ||
        (s = hparam_i64(g, a, "attention.key_length", 1, 4096, &h->head_dim, err)) ||
        (s = hparam_i64(g, a, "attention.value_length", 1, 4096, &h->value_dim, err)) ||
        (s = hparam_f64(g, a, eps_key, &h->norm_eps, err)) || (s = hparams_experts(&h->experts, g, a, err)))
        return s;
    if (h->heads % h->kv_heads)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s.attention.head_count_kv: expected a divisor of the %lld heads, found %lld", a,
                         (long long)h->heads, (long long)h->kv_heads);
    h->rope.pairs = h->head_dim / 2;
    h->rope.original_context = h->context;
    return TLM_OK;
}

enum tlm_status hparams_experts(struct expert_hparams *e, const struct gguf *g, const char *a,
                                struct tlm_error *err)
{
    int64_t gate = 1;
    enum tlm_status s;
    if ((s = hparam_i64(g, a, "expert_count", 0, 1 << 16, &e->count, err)) || !e->count) return s;
    if ((s = hparam_i64(g, a, "expert_used_count", 1, e->count, &e->used, err)) ||
        (s = hparam_i64(g, a, "expert_feed_forward_length", 0, 1 << 24, &e->feed_forward, err)) ||
        (s = hparam_i64(g, a, "expert_shared_count", 0, 1 << 16, &e->shared, err)) ||
        (s = hparam_i64(g, a, "expert_shared_feed_forward_length", 0, 1 << 24, &e->shared_feed_forward,
                        err)) ||
        (s = hparam_i64(g, a, "leading_dense_block_count", 0, 4096, &e->dense_layers, err)) ||
        (s = hparam_i64(g, a, "expert_group_count", 0, e->count, &e->groups, err)) ||
        (s = hparam_i64(g, a, "expert_group_used_count", 0, e->count, &e->groups_used, err)) ||
        (s = hparam_f64(g, a, "expert_weights_scale", &e->scale, err)) ||
        (s = hparam_bool(g, a, "expert_weights_norm", &e->normalize, err)) ||
        (s = hparam_i64(g, a, "expert_gating_func", 0, 3, &gate, err)))
        return s;
    if (gate) e->gate = gate == 3 ? ROUTE_SOFTMAX_CHOSEN : gate == 2 ? ROUTE_SIGMOID : ROUTE_SOFTMAX;
    if (e->groups > 1 && (e->count % e->groups || e->groups_used < 1 || e->groups_used > e->groups ||
                          e->used > e->groups_used * (e->count / e->groups)))
        return error_set(
            err, TLM_ERR_FORMAT,
            "%s.expert_group_count: expected groups of equal size with room for the experts used, found %lld "
            "experts, %lld used, %lld groups, %lld used",
            a, (long long)e->count, (long long)e->used, (long long)e->groups, (long long)e->groups_used);
    return TLM_OK;
}
