// models/deepseek2.c -- DeepSeek V2, V2-Lite and V3: multi-head latent attention, then a few layers with a plain feed-forward part and many
// with experts, some of which every row passes through. arXiv 2405.04434 and 2412.19437. x: (T, D)
//
// config.json's heads have nope_dim + rope numbers for keys and value_dim for values; in GGUF these are key_length_mla and
// value_length_mla, key_length and value_length being the row that the cache holds. Files older than these keys have the heads' own
// sizes there, and attn_kv_b in one piece: it is split when the model is opened.
#include <math.h>

#include "models/blocks.h"
#include "models/hf.h"
#include "models/weights.h"

static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    WEIGHTS_HEAD,
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "input_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(wq, "attn_q.weight", "self_attn.q_proj.weight", MATRIX(WIDTH, Q, HEADS), OPTIONAL),
    LAYER_WEIGHT(wq_a, "attn_q_a.weight", "self_attn.q_a_proj.weight", MATRIX(WIDTH, Q_RANK, COPY), OPTIONAL),
    LAYER_WEIGHT(q_a_norm, "attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", NORM(Q_RANK), OPTIONAL),
    LAYER_WEIGHT(wq_b, "attn_q_b.weight", "self_attn.q_b_proj.weight", MATRIX(Q_RANK, Q, HEADS), OPTIONAL),
    LAYER_WEIGHT(wkv_a, "attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight",
                 MATRIX(WIDTH, KV_A, COPY)),
    LAYER_WEIGHT(kv_a_norm, "attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", NORM(KV_RANK)),
    LAYER_WEIGHT(wk_b, "attn_k_b.weight", "self_attn.kv_b_proj.weight", HEAD_MATRIX(NOPE, KV_RANK),
                 TRANSFORM(LATENT_K), OPTIONAL),
    LAYER_WEIGHT(wv_b, "attn_v_b.weight", "self_attn.kv_b_proj.weight", HEAD_MATRIX(KV_RANK, VALUE),
                 TRANSFORM(LATENT_V), OPTIONAL),
    {.gguf = "blk.%d.attn_kv_b.weight",
     .slot = offsetof(struct layer, wkv_b),
     MATRIX(KV_RANK, KV_B, HEADS),
     OPTIONAL},
    LAYER_WEIGHT(wo, "attn_output.weight", "self_attn.o_proj.weight", MATRIX(OUT, WIDTH, COLUMNS)),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "post_attention_layernorm.weight", NORM(WIDTH)),
    LAYER_WEIGHT(gate, "ffn_gate.weight", "mlp.gate_proj.weight", MATRIX(WIDTH, FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(up, "ffn_up.weight", "mlp.up_proj.weight", MATRIX(WIDTH, FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(down, "ffn_down.weight", "mlp.down_proj.weight", MATRIX(FF, WIDTH, COLUMNS), OPTIONAL),
    LAYER_WEIGHT(router, "ffn_gate_inp.weight", "mlp.gate.weight", ROUTER, OPTIONAL),
    LAYER_WEIGHT(choice_bias, "exp_probs_b.bias", "mlp.gate.e_score_correction_bias", BIAS(EXPERTS, COPY),
                 OPTIONAL),
    LAYER_WEIGHT(experts_gate, "ffn_gate_exps.weight", "mlp.experts.%d.gate_proj.weight",
                 EXPERT_MATRIX(WIDTH, EXPERT_FF), OPTIONAL),
    LAYER_WEIGHT(experts_up, "ffn_up_exps.weight", "mlp.experts.%d.up_proj.weight",
                 EXPERT_MATRIX(WIDTH, EXPERT_FF), OPTIONAL),
    LAYER_WEIGHT(experts_down, "ffn_down_exps.weight", "mlp.experts.%d.down_proj.weight",
                 EXPERT_MATRIX(EXPERT_FF, WIDTH), OPTIONAL),
    LAYER_WEIGHT(shared_gate, "ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight",
                 MATRIX(WIDTH, SHARED_FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(shared_up, "ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight",
                 MATRIX(WIDTH, SHARED_FF, ROWS), OPTIONAL),
    LAYER_WEIGHT(shared_down, "ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight",
                 MATRIX(SHARED_FF, WIDTH, COLUMNS), OPTIONAL),
};

// YaRN with a multiplier m: scores times (1 + m ln(factor))^2, cos and sin as they are but for attn_factor.
static enum tlm_status read_yarn(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    double multiplier = 0, stretch = log(h->rope.factor);
    enum tlm_status s = hparam_f64(g, "deepseek2", "rope.scaling.yarn_log_multiplier", &multiplier, err);
    if (s || multiplier == 0 || h->rope.scaling != ROPE_SCALING_YARN || !(stretch > 0)) return s;
    h->rope.attn_factor /= 1 + 0.1 * stretch; // what models/rope.c multiplies by
    h->attention_scale *= (1 + multiplier * stretch) * (1 + multiplier * stretch);
    return TLM_OK;
}

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    static const char arch[] = "deepseek2";
    struct expert_hparams *e = &h->experts;
    enum tlm_status s;
    if ((s = hparams_common(h, g, arch, "attention.layer_norm_rms_epsilon", err)) ||
        (s = rope_hparams_read(&h->rope, g, arch, err)) ||
        (s = hparam_i64(g, arch, "attention.kv_lora_rank", 1, 4096, &h->kv_rank, err)) ||
        (s = hparam_i64(g, arch, "attention.q_lora_rank", 0, 1 << 20, &h->q_rank, err)) ||
        (s = hparam_i64(g, arch, "attention.key_length_mla", 1, 4096, &h->head_dim, err)) ||
        (s = hparam_i64(g, arch, "attention.value_length_mla", 1, 4096, &h->value_dim, err)))
        return s;
    h->nope_dim = h->head_dim - 2 * h->rope.pairs;
    if (h->nope_dim < 1)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s.rope.dimension_count: expected less than the %lld numbers of a head, found %lld",
                         arch, (long long)h->head_dim, (long long)(2 * h->rope.pairs));
    h->latent_norm_eps = 1e-6; // DeepSeek's own, whatever the other norms have
    h->attention_scale = 1 / sqrt((double)h->head_dim);
    if (e->count) e->shared_feed_forward = e->shared * e->feed_forward;
    return read_yarn(h, g, err);
}

// ---- what depends on the layer ------------------------------------------------------------------------

// attn_kv_b (rank, H (nope + value)) of older files: the values' part is a view, the keys' is transposed, head by head.
static enum tlm_status split_kv_b(struct tlm_model *m, struct layer *w, struct tlm_error *err)
{
    const struct hparams *h = &m->hparams;
    const struct tensor *both = w->wkv_b;
    int64_t rank = h->kv_rank, nope = h->nope_dim, per_head = nope + h->value_dim;
    struct tensor *k = arena_alloc(&m->made, sizeof *k), *v = arena_alloc(&m->made, sizeof *v);
    *v = tensor_shape(both->type, rank, h->value_dim, h->heads, 1);
    v->nb[2] = both->nb[1] * (size_t)per_head;
    v->nb[3] = v->nb[2] * (size_t)h->heads;
    v->data = tensor_row(both, nope);
    *k = tensor_shape(m->real, nope, rank, h->heads, 1);
    k->data = arena_alloc(&m->made, tensor_bytes(k));
    double *row = malloc((size_t)rank * sizeof *row); // large enough for either kind of `real`
    if (!row)
        return error_set(err, TLM_ERR_MEMORY, "attn_kv_b: no memory for a row of %lld", (long long)rank);
    for (int64_t i = 0; i < h->heads * nope; i++) {
        int64_t head = i / nope, at = i % nope;
        size_t bytes = (size_t)dtype_traits[m->real].block_bytes;
        m->kernels.to_real[both->type]((void *)row, tensor_row(both, head * per_head + at), rank);
        char *to = (char *)k->data + (size_t)head * k->nb[2] + (size_t)at * bytes;
        for (int64_t r = 0; r < rank; r++)
            memcpy(to + (size_t)r * k->nb[1], (char *)row + (size_t)r * bytes, bytes);
    }
    free(row);
    w->wk_b = k;
    w->wv_b = v;
    return TLM_OK;
}

static enum tlm_status split_all(struct tlm_model *m, struct tlm_error *err)
{
    const struct hparams *h = &m->hparams;
    size_t layer = (size_t)(h->heads * h->nope_dim * h->kv_rank) * sizeof(double) + 4 * ARENA_ALIGN +
                   2 * sizeof(struct tensor);
    enum tlm_status s = arena_init(&m->made, (size_t)h->layers * layer, "attn_k_b of attn_kv_b", err);
    for (int64_t l = 0; l < h->layers && !s; l++)
        if (m->weights.layer[l].wkv_b) s = split_kv_b(m, &m->weights.layer[l], err);
    return s;
}

// What is missing in a layer; NULL where it is whole.
static const char *missing(const struct layer *w, bool dense, const struct expert_hparams *e)
{
    if (!w->wkv_b && !w->wk_b) return "attn_k_b";
    if (!w->wkv_b && !w->wv_b) return "attn_v_b";
    if (!w->wq && !w->wq_a) return "attn_q or attn_q_a";
    if (w->wq_a && !w->q_a_norm) return "attn_q_a_norm";
    if (w->wq_a && !w->wq_b) return "attn_q_b";
    if (dense) return !w->gate ? "ffn_gate" : !w->up ? "ffn_up" : !w->down ? "ffn_down" : NULL;
    if (!w->router) return "ffn_gate_inp";
    if (!w->experts_gate) return "ffn_gate_exps";
    if (!w->experts_up) return "ffn_up_exps";
    if (!w->experts_down) return "ffn_down_exps";
    if (!e->shared) return NULL;
    return !w->shared_gate   ? "ffn_gate_shexp"
           : !w->shared_up   ? "ffn_up_shexp"
           : !w->shared_down ? "ffn_down_shexp"
                             : NULL;
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    const struct hparams *h = &m->hparams;
    bool split = false;
    for (int64_t l = 0; l < h->layers; l++) {
        struct layer *w = &m->weights.layer[l];
        bool dense = !h->experts.count || l < h->experts.dense_layers;
        const char *name = missing(w, dense, &h->experts);
        if (name)
            return error_set(err, TLM_ERR_FORMAT, "blk.%lld.%s.weight: the file lacks this tensor",
                             (long long)l, name);
        if (dense && w->router)
            return error_set(err, TLM_ERR_FORMAT,
                             "blk.%lld.ffn_gate_inp.weight: expected none in the first %lld layers",
                             (long long)l, (long long)h->experts.dense_layers);
        split |= !w->wk_b || !w->wv_b;
    }
    return split ? split_all(m, err) : TLM_OK;
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, NULL);
        x = block_residual(g, m, x, block_attention(g, m, in, l, h, &rope));
        h = block_norm(g, m, x, w->ffn_norm, NULL);
        x = block_residual(g, m, x, block_feed_forward(g, m, w, h, ACT_SILU));
    }
    g->layer = -1;
    return x;
}

// Of a new model: heads of width / heads numbers without positions and half as many with, and keys and values compressed into four
// times that, the proportions of the published models. The cache holds one head: the compressed row and the rotated part.
static enum tlm_status derive_latent(struct gguf_writer *w, const struct create_sizes *s,
                                     struct tlm_error *err)
{
    if (s->kv_heads)
        return error_set(err, TLM_ERR_ARGUMENT, "kv_heads: expected none with latent attention, found %lld",
                         (long long)s->kv_heads);
    int64_t nope = s->width / s->heads, turned = s->rope_dims ? s->rope_dims : (nope + 3) / 4 * 2;
    int64_t head = s->head_dim ? s->head_dim : nope + turned;
    int64_t value = s->value_dim ? s->value_dim : head - turned;
    int64_t rank = s->kv_rank ? s->kv_rank : 4 * nope;
    if (head <= turned || rank + turned > 4096)
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "head_dim: expected more than the %lld rotated numbers, and kv_rank with them at most 4096, "
            "found %lld and %lld",
            (long long)turned, (long long)head, (long long)(rank + turned));
    gguf_set_u32(w, "deepseek2.attention.head_count_kv", 1);
    gguf_set_u32(w, "deepseek2.attention.key_length", (uint32_t)(rank + turned));
    gguf_set_u32(w, "deepseek2.attention.value_length", (uint32_t)rank);
    gguf_set_u32(w, "deepseek2.attention.key_length_mla", (uint32_t)head);
    gguf_set_u32(w, "deepseek2.attention.value_length_mla", (uint32_t)value);
    gguf_set_u32(w, "deepseek2.attention.kv_lora_rank", (uint32_t)rank);
    gguf_set_u32(w, "deepseek2.rope.dimension_count", (uint32_t)turned);
    return TLM_OK;
}

// ---- Hugging Face -------------------------------------------------------------------------------------

#define KEYS                                                                                               \
    {"block_count", "num_hidden_layers", HF_I64, NULL}, {"embedding_length", "hidden_size", HF_I64, NULL}, \
        {"feed_forward_length", "intermediate_size", HF_I64, NULL},                                        \
        {"attention.head_count", "num_attention_heads", HF_I64, NULL},                                     \
        {"context_length", "max_position_embeddings", HF_I64, NULL},                                       \
        {"attention.layer_norm_rms_epsilon", "rms_norm_eps", HF_F64, "1e-6"},                              \
        {"attention.q_lora_rank", "q_lora_rank", HF_I64, NULL},                                            \
        {"attention.kv_lora_rank", "kv_lora_rank", HF_I64, "512"},                                         \
        {"attention.value_length_mla", "v_head_dim", HF_I64, "128"},                                       \
        {"rope.dimension_count", "qk_rope_head_dim", HF_I64, "64"},                                        \
        {"expert_count", "n_routed_experts", HF_I64, NULL},                                                \
        {"expert_used_count", "num_experts_per_tok", HF_I64, NULL},                                        \
        {"expert_feed_forward_length", "moe_intermediate_size", HF_I64, NULL},                             \
    {                                                                                                      \
        "expert_shared_count", "n_shared_experts", HF_I64, NULL                                            \
    }

static const struct hf_key v2_keys[] = {
    KEYS,
    {"leading_dense_block_count", "first_k_dense_replace", HF_I64, "0"},
    {"expert_weights_scale", "routed_scaling_factor", HF_F64, "1.0"},
};
static const struct hf_key v3_keys[] = {
    KEYS,
    {"leading_dense_block_count", "first_k_dense_replace", HF_I64, "3"},
    {"expert_weights_scale", "routed_scaling_factor", HF_F64, "2.5"},
    {"expert_weights_norm", "norm_topk_prob", HF_BOOL, "true"},
    {"expert_group_count", "n_group", HF_I64, "8"},
    {"expert_group_used_count", "topk_group", HF_I64, "4"},
};

enum { GATE_SOFTMAX = 1, GATE_SIGMOID = 2 }; // of deepseek2.expert_gating_func

static enum tlm_status import_config(struct gguf_writer *w, int gate, const json_t *config,
                                     struct tlm_error *err)
{
    int64_t rank = 512, turned = 64, nope = 128, heads = 0, kv_heads = 0;
    enum tlm_status s;
    if ((s = hf_expect(config, "hidden_act", "\"silu\"", err)) ||
        (s = hf_expect(config, "attention_bias", "false", err)) ||
        (s = hf_expect(config, "mlp_bias", "false", err)) ||
        (s = hf_expect(config, "rope_interleave", "true", err)) ||
        (s = hf_expect(config, "moe_layer_freq", "1", err)) ||
        (s = hf_get_i64(config, "kv_lora_rank", &rank, err)) ||
        (s = hf_get_i64(config, "qk_rope_head_dim", &turned, err)) ||
        (s = hf_get_i64(config, "qk_nope_head_dim", &nope, err)) ||
        (s = hf_get_i64(config, "num_attention_heads", &heads, err)))
        return s;
    kv_heads = heads;
    if ((s = hf_get_i64(config, "num_key_value_heads", &kv_heads, err))) return s;
    if (kv_heads != heads || nope < 1 || nope > 4096 || turned < 1 || turned > 4096 || rank < 1 ||
        rank > 4096)
        return error_set(
            err, TLM_ERR_UNSUPPORTED,
            "kv_lora_rank: expected as many heads for keys as for queries, and sizes of 1 to 4096, found "
            "%lld and %lld heads, rank %lld, sizes %lld and %lld",
            (long long)kv_heads, (long long)heads, (long long)rank, (long long)nope, (long long)turned);
    gguf_set_u32(w, "deepseek2.attention.head_count_kv", 1); // of the row that the cache holds
    gguf_set_u32(w, "deepseek2.attention.key_length", (uint32_t)(rank + turned));
    gguf_set_u32(w, "deepseek2.attention.value_length", (uint32_t)rank);
    gguf_set_u32(w, "deepseek2.attention.key_length_mla", (uint32_t)(nope + turned));
    gguf_set_u32(w, "deepseek2.expert_gating_func", (uint32_t)gate);
    return hf_import_rope(w, "deepseek2", config, err);
}

static enum tlm_status v2_import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    static const char limited[] = "group_limited_greedy";
    const char *method = json_string_value(json_object_get(config, "topk_method"));
    int64_t groups = 1, used = 1;
    enum tlm_status s;
    if ((s = hf_expect(config, "scoring_func", "\"softmax\"", err)) ||
        (s = hf_expect(config, "norm_topk_prob", "false", err)))
        return s;
    if (method && !strcmp(method, limited)) {
        if ((s = hf_get_i64(config, "n_group", &groups, err)) ||
            (s = hf_get_i64(config, "topk_group", &used, err)))
            return s;
        if (groups < 1 || groups > 1 << 16 || used < 1 || used > groups)
            return error_set(err, TLM_ERR_FORMAT, "topk_group: expected 1 to n_group, found %lld of %lld",
                             (long long)used, (long long)groups);
        gguf_set_u32(w, "deepseek2.expert_group_count", (uint32_t)groups);
        gguf_set_u32(w, "deepseek2.expert_group_used_count", (uint32_t)used);
    } else if ((s = hf_expect(config, "topk_method", "\"greedy\"", err))) {
        return s;
    }
    return import_config(w, GATE_SOFTMAX, config, err);
}

static enum tlm_status v3_import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    enum tlm_status s;
    if ((s = hf_expect(config, "scoring_func", "\"sigmoid\"", err)) ||
        (s = hf_expect(config, "topk_method", "\"noaux_tc\"", err)))
        return s;
    return import_config(w, GATE_SIGMOID, config, err);
}

static enum tlm_status export_config(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    struct hparams h = {0};
    enum tlm_status s = hparams(&h, g, err);
    if (s) return s;
    if (gguf_find_tensor(g, "blk.0.attn_kv_b.weight"))
        return error_set(
            err, TLM_ERR_UNSUPPORTED,
            "blk.0.attn_kv_b.weight: expected attn_k_b and attn_v_b, found an older file's tensor: "
            "convert the model's own folder again");
    json_object_set_new(config, "hidden_act", json_string("silu"));
    json_object_set_new(config, "attention_bias", json_false());
    json_object_set_new(config, "num_key_value_heads", json_integer(h.heads));
    json_object_set_new(config, "qk_nope_head_dim", json_integer(h.nope_dim));
    if (!h.q_rank) json_object_set_new(config, "q_lora_rank", json_null()); // a missing key is 1536
    return hf_export_rope(config, "deepseek2", g, err);
}

static enum tlm_status v2_export(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    int64_t groups = 1, used = 1;
    enum tlm_status s;
    if ((s = hparam_i64(g, "deepseek2", "expert_group_count", 0, 1 << 16, &groups, err)) ||
        (s = hparam_i64(g, "deepseek2", "expert_group_used_count", 0, 1 << 16, &used, err)))
        return s;
    bool limited = groups > 1;
    json_object_set_new(config, "topk_method", json_string(limited ? "group_limited_greedy" : "greedy"));
    json_object_set_new(config, "n_group", json_integer(limited ? groups : 1));
    json_object_set_new(config, "topk_group", json_integer(limited ? used : 1));
    json_object_set_new(config, "scoring_func", json_string("softmax"));
    json_object_set_new(config, "norm_topk_prob", json_false());
    return export_config(config, g, err);
}

static enum tlm_status v3_export(json_t *config, const struct gguf *g, struct tlm_error *err)
{
    json_object_set_new(config, "topk_method", json_string("noaux_tc"));
    json_object_set_new(config, "scoring_func", json_string("sigmoid"));
    json_object_set_new(config, "num_nextn_predict_layers", json_integer(0)); // not in GGUF
    return export_config(config, g, err);
}

static bool is_v3(const struct gguf *g)
{
    int64_t gate = 0;
    return !gguf_get_i64(g, "deepseek2.expert_gating_func", &gate, NULL) && gate == GATE_SIGMOID;
}

static const struct hf_variant variants[] = {
    {"deepseek_v3", "DeepseekV3ForCausalLM", v3_keys, sizeof v3_keys / sizeof *v3_keys, v3_import, v3_export,
     is_v3},
    {"deepseek_v2", "DeepseekV2ForCausalLM", v2_keys, sizeof v2_keys / sizeof *v2_keys, v2_import, v2_export,
     NULL},
};

const struct arch arch_deepseek2 = {
    .name = "deepseek2",
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .finish = finish,
    .variants = variants,
    .variant_count = sizeof variants / sizeof *variants,
    .create = {.keys = "attention.layer_norm_rms_epsilon=1e-6 expert_count=8 expert_used_count=2 "
                       "expert_shared_count=1 leading_dense_block_count=1",
               .std = 0.006,
               .residual = RESIDUAL_SAME,
               .derive = derive_latent},
};
