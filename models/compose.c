// models/compose.c -- a model composed of blocks that its file lists, for trying what no architecture of others has. x: (T, D)
//
// Each key tinylm-compose.blocks.* is a list of words, one a layer, which begins again where it ends ("window window full"):
//
//     attention     full | window | none                     window: of attention.sliding_window keys
//     positions     rope | alibi | none, or learned for all  rotation turns halves of a head
//     feed_forward  ACT | ACT-gated | ACT-experts | none     ACT: silu gelu gelu-tanh relu relu2
//     order         sequential | parallel                    parallel: attention and feed-forward part read the same rows
//     norms         pre | post | sandwich | output           x + f(n(x)) | n(x + f(x)) | x + n(f(n(x))) | x + n(f(x))
//     norm          rms | layer                              one word, for all layers
//
// and two are true or false: qk_norm, norms of each head of queries and keys, and embed_norm, a norm behind the embedding.
//
// Where a key is missing, the first word of its line holds, silu-gated, or false: together a Llama.
#include "models/blocks.h"
#include "models/weights.h"

static const char arch_name[] = "tinylm-compose";

// No model of transformers is read as one of these, so the names there do not count.
static const struct weight_spec weights[] = {
    WEIGHTS_EMBED,
    MODEL_WEIGHT(positions, "position_embd.weight", NULL, EMBEDDING(WIDTH, CONTEXT), OPTIONAL),
    MODEL_WEIGHT(embed_norm, "token_embd_norm.weight", NULL, NORM(WIDTH), OPTIONAL),
    MODEL_WEIGHT(embed_norm_bias, "token_embd_norm.bias", NULL, BIAS(WIDTH, COPY), OPTIONAL),
    WEIGHTS_HEAD,
    MODEL_WEIGHT(out_norm_bias, "output_norm.bias", NULL, BIAS(WIDTH, COPY), OPTIONAL),
    LAYER_WEIGHT(attn_norm, "attn_norm.weight", "", NORM(WIDTH), OPTIONAL),
    LAYER_WEIGHT(attn_norm_bias, "attn_norm.bias", "", BIAS(WIDTH, COPY), OPTIONAL),
    LAYER_WEIGHT(wq, "attn_q.weight", "", MATRIX(WIDTH, Q, HEADS), OPTIONAL),
    LAYER_WEIGHT(wk, "attn_k.weight", "", MATRIX(WIDTH, K, HEADS), OPTIONAL),
    LAYER_WEIGHT(wv, "attn_v.weight", "", MATRIX(WIDTH, V, HEADS), OPTIONAL),
    LAYER_WEIGHT(wo, "attn_output.weight", "", MATRIX(OUT, WIDTH, COLUMNS), OPTIONAL),
    WEIGHTS_ATTENTION_BIAS(NONE, NONE),
    LAYER_WEIGHT(q_norm, "attn_q_norm.weight", "", NORM(HEAD), OPTIONAL),
    LAYER_WEIGHT(k_norm, "attn_k_norm.weight", "", NORM(HEAD), OPTIONAL),
    LAYER_WEIGHT(attn_post_norm, "post_attention_norm.weight", "", NORM(WIDTH), OPTIONAL),
    LAYER_WEIGHT(ffn_norm, "ffn_norm.weight", "", NORM(WIDTH), OPTIONAL),
    LAYER_WEIGHT(ffn_norm_bias, "ffn_norm.bias", "", BIAS(WIDTH, COPY), OPTIONAL),
    WEIGHTS_GLU_OPTIONAL,
    WEIGHTS_GLU_BIAS,
    WEIGHTS_EXPERTS("", "", "", ""),
    LAYER_WEIGHT(ffn_post_norm, "post_ffw_norm.weight", "", NORM(WIDTH), OPTIONAL),
};

// ---- the lists ----------------------------------------------------------------------------------------

enum attention_kind { FULL, WINDOW, NO_ATTENTION };
enum positions_kind { ROTATED, SLOPES, NO_POSITIONS, LEARNED };
enum norms_kind { PRE, POST, SANDWICH, OUTPUT };
enum feed_forward_kind { PLAIN, GATED, EXPERTS, NO_FEED_FORWARD };

struct block {
    enum attention_kind attention;
    enum positions_kind positions;
    enum feed_forward_kind feed_forward;
    enum activation activation;
    enum norms_kind norms;
    bool parallel;
};

static const char *const attentions[] = {"full", "window", "none", NULL};
static const char *const positions[] = {"rope", "alibi", "none", "learned", NULL};
static const char *const orders[] = {"sequential", "parallel", NULL};
static const char *const norms[] = {"pre", "post", "sandwich", "output", NULL};
static const char *const norm_kinds[] = {"rms", "layer", NULL};
// Of each activation the gated, the plain and the experts' form; and none.
static const char *const feed_forwards[] = {
    "silu-gated",      "silu",      "silu-experts",      "gelu-gated", "gelu", "gelu-experts",
    "gelu-tanh-gated", "gelu-tanh", "gelu-tanh-experts", "relu-gated", "relu", "relu-experts",
    "relu2-gated",     "relu2",     "relu2-experts",     "none",       NULL};

enum { FEED_FORWARD_NONE = sizeof feed_forwards / sizeof *feed_forwards - 2 };

// Finds word n; returns how many words there are, at most n + 1.
static int64_t find_word(struct gguf_string list, int64_t n, struct gguf_string *word)
{
    int64_t count = 0;
    for (uint64_t i = 0, end; i < list.length && count <= n; i = end + 1) {
        for (end = i; end < list.length && list.data[end] != ' ';) end++;
        if (end == i) continue;
        *word = (struct gguf_string){list.data + i, end - i};
        count++;
    }
    return count;
}

// Of a list that begins again where it ends; an empty word where the list has none.
static struct gguf_string word_at(struct gguf_string list, int64_t n)
{
    struct gguf_string word = {"", 0};
    int64_t count = find_word(list, n, &word);
    if (count > 0 && count <= n) find_word(list, n % count, &word);
    return word;
}

// What a list says of layer l, as a place in `words`; where the file lacks it, the first of them.
static enum tlm_status read_word(const struct gguf *g, const char *key, const char *const *words, int64_t l,
                                 int *out, struct tlm_error *err)
{
    char name[64], expected[256] = "", shown[48];
    struct gguf_string list = {words[0], strlen(words[0])};
    snprintf(name, sizeof name, "%s.blocks.%s", arch_name, key);
    enum tlm_status s = gguf_get_string(g, name, &list, err);
    if (s) return s;
    struct gguf_string word = word_at(list, l);
    for (*out = 0; words[*out]; ++*out) {
        if (gguf_string_is(word, words[*out])) return TLM_OK;
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", used ? ", " : "", words[*out]);
    }
    return error_set(err, TLM_ERR_FORMAT, "%s: expected words of %s, found '%s'", name, expected,
                     gguf_printable(word, shown, sizeof shown));
}

static enum tlm_status read_block(struct block *b, const struct gguf *g, int64_t l, struct tlm_error *err)
{
    static const enum activation activations[] = {ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU,
                                                  ACT_RELU_SQUARED};
    static const enum feed_forward_kind kinds[] = {GATED, PLAIN, EXPERTS};
    int attention, where, part, order, norm;
    enum tlm_status s;
    if ((s = read_word(g, "attention", attentions, l, &attention, err)) ||
        (s = read_word(g, "positions", positions, l, &where, err)) ||
        (s = read_word(g, "feed_forward", feed_forwards, l, &part, err)) ||
        (s = read_word(g, "order", orders, l, &order, err)) ||
        (s = read_word(g, "norms", norms, l, &norm, err)))
        return s;
    bool none = part == FEED_FORWARD_NONE;
    *b = (struct block){
        .attention = (enum attention_kind)attention,
        .positions = (enum positions_kind)where,
        .feed_forward = none ? NO_FEED_FORWARD : kinds[part % 3],
        .activation = none ? ACT_SILU : activations[part / 3],
        .norms = (enum norms_kind)norm,
        .parallel = order == 1 && attention != NO_ATTENTION &&
                    !none, // with one of the two there is nothing beside it
    };
    return TLM_OK;
}

// Of a file that hparams() has read: there are no more mistakes to find.
static struct block block_of(const struct gguf *g, int64_t l)
{
    struct block b;
    TLM_ASSERT(!read_block(&b, g, l, NULL));
    return b;
}

static bool norms_are_layer(const struct gguf *g)
{
    int word;
    TLM_ASSERT(!read_word(g, "norm", norm_kinds, 0, &word, NULL));
    return word == 1;
}

static bool is_on(const struct gguf *g, const char *key)
{
    bool on = false;
    TLM_ASSERT(!hparam_bool(g, arch_name, key, &on, NULL));
    return on;
}

// ---- hyperparameters ----------------------------------------------------------------------------------

// What the layers need that stands once in the file.
static enum tlm_status check_blocks(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    bool has[LEARNED + 1] = {false};
    enum tlm_status s = TLM_OK;
    for (int64_t l = 0; l < h->layers; l++) {
        struct block b;
        if ((s = read_block(&b, g, l, err))) return s;
        has[b.positions] = true;
        if (b.attention == WINDOW && !h->window)
            return error_set(err, TLM_ERR_FORMAT,
                             "%s.attention.sliding_window: expected the window of layer %lld, found none",
                             arch_name, (long long)l);
        if (b.feed_forward == EXPERTS && !h->experts.count)
            return error_set(err, TLM_ERR_FORMAT,
                             "%s.expert_count: expected the experts of layer %lld, found none", arch_name,
                             (long long)l);
    }
    if (has[LEARNED] && (has[ROTATED] || has[SLOPES] || has[NO_POSITIONS]))
        return error_set(err, TLM_ERR_FORMAT,
                         "%s.blocks.positions: expected learned for all layers or for none, found a mixture",
                         arch_name);
    if (!has[ROTATED]) h->rope.pairs = 0;
    if (!has[SLOPES]) h->alibi_bias = 0;
    return TLM_OK;
}

static enum tlm_status hparams(struct hparams *h, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s;
    int layer_norm;
    bool on = false;
    h->rope.pairing = ROPE_HALVES;
    h->experts.normalize = true;
    h->alibi_bias = 8;
    if ((s = hparams_common(h, g, arch_name, "attention.layer_norm_rms_epsilon", err)) || // whatever the norm
        (s = rope_hparams_read(&h->rope, g, arch_name, err)) ||
        (s = hparam_i64(g, arch_name, "attention.sliding_window", 0, INT32_MAX, &h->window, err)) ||
        (s = hparam_f64(g, arch_name, "attention.max_alibi_bias", &h->alibi_bias, err)) ||
        (s = hparam_f64(g, arch_name, "attention.scale", &h->attention_scale, err)) ||
        (s = hparam_f64(g, arch_name, "embedding_scale", &h->embedding_scale, err)) ||
        (s = hparam_f64(g, arch_name, "residual_scale", &h->residual_scale, err)) ||
        (s = hparam_f64(g, arch_name, "attn_logit_softcapping", &h->attention_softcap, err)) ||
        (s = hparam_f64(g, arch_name, "final_logit_softcapping", &h->logit_softcap, err)) ||
        (s = read_word(g, "norm", norm_kinds, 0, &layer_norm, err)) ||
        (s = hparam_bool(g, arch_name, "blocks.qk_norm", &on, err)) ||
        (s = hparam_bool(g, arch_name, "blocks.embed_norm", &on, err)))
        return s;
    h->layer_norm = layer_norm;
    return check_blocks(h, g, err);
}

// ---- weights ------------------------------------------------------------------------------------------

// Slots of struct layer, to tell rows of the table by.
#define SLOT(field) offsetof(struct layer, field)

static enum create_choice has_in_layer(const struct gguf *g, size_t slot, int64_t l)
{
    struct block b = block_of(g, l);
    bool attention = b.attention != NO_ATTENTION, part = b.feed_forward != NO_FEED_FORWARD;
    bool front = b.norms == PRE || b.norms == SANDWICH,
         plain = b.feed_forward == PLAIN || b.feed_forward == GATED;
    bool own_norm = part && front && !b.parallel; // in front of the feed-forward part
    bool layer_norm = norms_are_layer(g);
#define CHOICE(condition) ((condition) ? CREATE_YES : CREATE_NO)
#define OPEN(condition)   ((condition) ? CREATE_OPEN : CREATE_NO)
    switch (slot) {
    case SLOT(wq):
    case SLOT(wk):
    case SLOT(wv):
    case SLOT(wo): return CHOICE(attention);
    case SLOT(bq):
    case SLOT(bk):
    case SLOT(bv):
    case SLOT(bo): return OPEN(attention);
    case SLOT(q_norm):
    case SLOT(k_norm): return CHOICE(attention && is_on(g, "blocks.qk_norm"));
    case SLOT(attn_norm): return CHOICE(attention && front);
    case SLOT(attn_norm_bias): return OPEN(attention && front && layer_norm);
    case SLOT(attn_post_norm): return CHOICE(attention && b.norms != PRE);
    case SLOT(ffn_norm): return CHOICE(own_norm);
    case SLOT(ffn_norm_bias): return OPEN(own_norm && layer_norm);
    case SLOT(ffn_post_norm): return CHOICE(part && b.norms != PRE && !(b.parallel && b.norms == POST));
    case SLOT(gate): return CHOICE(b.feed_forward == GATED);
    case SLOT(gate_bias): return OPEN(b.feed_forward == GATED);
    case SLOT(up):
    case SLOT(down): return CHOICE(plain);
    case SLOT(up_bias):
    case SLOT(down_bias): return OPEN(plain);
    case SLOT(router):
    case SLOT(experts_gate):
    case SLOT(experts_up):
    case SLOT(experts_down): return CHOICE(b.feed_forward == EXPERTS);
    }
    return CREATE_NO;
}

// Does a model by these lists have the weight?
static enum create_choice has(const struct gguf *g, const struct weight_spec *spec, int64_t l)
{
    if (l >= 0) return has_in_layer(g, spec->slot, l);
    bool embed_norm = is_on(g, "blocks.embed_norm"), layer_norm = norms_are_layer(g);
    switch (spec->slot) {
    case offsetof(struct weights, embed_norm): return CHOICE(embed_norm);
    case offsetof(struct weights, embed_norm_bias): return OPEN(embed_norm && layer_norm);
    case offsetof(struct weights, positions): return CHOICE(block_of(g, 0).positions == LEARNED);
    case offsetof(struct weights, out_norm_bias): return OPEN(layer_norm);
    }
    return CREATE_OPEN;
}

static enum tlm_status check_weight(const struct tlm_model *m, const struct weight_spec *spec, int64_t l,
                                    struct tlm_error *err)
{
    const char *base = l >= 0 ? (const char *)&m->weights.layer[l] : (const char *)&m->weights;
    const struct tensor *t;
    memcpy(&t, base + spec->slot, sizeof t);
    enum create_choice choice = spec->optional ? has(m->gguf, spec, l) : CREATE_OPEN;
    if (choice == CREATE_OPEN || (choice == CREATE_YES) == (t != NULL)) return TLM_OK;
    char name[WEIGHT_NAME] = "";
    if (l >= 0) snprintf(name, sizeof name, "blk.%lld", (long long)l);
    const char *rest = l >= 0 ? spec->gguf + strlen("blk.%d") : spec->gguf;
    return error_set(err, TLM_ERR_FORMAT, "%s%s: %s", name, rest,
                     t ? "expected no such tensor by the lists of blocks" : "the file lacks this tensor");
}

static enum tlm_status finish(struct tlm_model *m, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t l = -1; l < m->hparams.layers && !s; l++)
        for (size_t i = 0; i < m->arch->weight_count && !s; i++)
            if ((strstr(weights[i].gguf, "%d") != NULL) == (l >= 0)) s = check_weight(m, &weights[i], l, err);
    for (int64_t l = 0; l < m->hparams.layers && !s; l++) {
        struct block b = block_of(m->gguf, l);
        struct layer *w = &m->weights.layer[l];
        w->window = b.attention == WINDOW ? (int32_t)m->hparams.window : 0;
        w->no_rope = b.positions != ROTATED;
        w->no_slopes = b.positions != SLOPES;
    }
    return s;
}

// ---- the graph ----------------------------------------------------------------------------------------

static struct node *feed_forward(struct graph *g, const struct tlm_model *m, const struct layer *w,
                                 struct node *x, const struct block *b)
{
    switch (b->feed_forward) {
    case PLAIN: return block_mlp(g, w, x, b->activation);
    case GATED: return block_glu(g, m, w, x, b->activation);
    case EXPERTS: return block_experts(g, m, w, x, b->activation);
    case NO_FEED_FORWARD: break;
    }
    return x;
}

// x + y, with the norm behind y or behind the sum.
static struct node *join(struct graph *g, const struct tlm_model *m, struct node *x, struct node *y,
                         const struct tensor *norm, bool behind_sum)
{
    if (!behind_sum) return block_residual(g, m, x, block_norm(g, m, y, norm, NULL));
    return block_norm(g, m, block_residual(g, m, x, y), norm, NULL);
}

static struct node *build(struct graph *g, const struct tlm_model *m, const struct build_inputs *in)
{
    struct rope_tables rope = block_rope_tables(g, m, in);
    struct node *x = block_embed(g, m, in);
    for (int64_t l = 0; l < m->hparams.layers; l++) {
        const struct layer *w = &m->weights.layer[l];
        struct block b = block_of(m->gguf, l);
        bool post = b.norms == POST;
        g->layer = (int)l;
        struct node *h = block_norm(g, m, x, w->attn_norm, w->attn_norm_bias), *beside = NULL;
        if (b.parallel) beside = feed_forward(g, m, w, h, &b);
        if (beside && post) x = block_residual(g, m, x, beside);
        if (b.attention != NO_ATTENTION) {
            struct node *y = block_attention(g, m, in, l, h, &rope);
            x = join(g, m, x, y, w->attn_post_norm, post);
        }
        if (beside && !post) x = join(g, m, x, beside, w->ffn_post_norm, false);
        if (b.parallel || b.feed_forward == NO_FEED_FORWARD) continue;
        h = block_norm(g, m, x, w->ffn_norm, w->ffn_norm_bias);
        x = join(g, m, x, feed_forward(g, m, w, h, &b), w->ffn_post_norm, post);
    }
    g->layer = -1;
    return x;
}

const struct arch arch_compose = {
    .name = arch_name,
    .hparams = hparams,
    .weights = weights,
    .weight_count = sizeof weights / sizeof *weights,
    .build = build,
    .finish = finish,
    .create = {.has = has},
};
