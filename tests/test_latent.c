// tests/test_latent.c -- the product of heads against a plain sum, and a whole block of latent attention, absorbed as it runs, against
// its expanded form in double: keys and values of every head made out of the compressed row. On every tier. And a model whose file is
// older than the absorbed form: keys and values of all heads are one tensor there.
#include <stdlib.h>

#include "cache/kv.h"
#include "models/blocks.h"
#include "models/hf.h"
#include "quant/quant.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

struct tier {
    struct kernels kernels;
    const struct op *ops;
    enum dtype real;
    double tolerance;
};

// Tier number `i` of this processor; false where it has no such.
static bool open_tier(int i, struct tier *t)
{
    bool f64 = i == ISA_F64;
    if (!isa_supported((enum isa)i)) return false;
    *t = (struct tier){.kernels = f64 ? kernels_for_f64() : kernels_for((enum isa)i),
                       .ops = f64 ? op_table_f64 : op_table_ref,
                       .real = f64 ? DTYPE_F64 : DTYPE_F32,
                       .tolerance = f64 ? 1e-12 : 3e-6};
    return true;
}

// ---- tensors of random numbers ------------------------------------------------------------------------

// Numbers that every type here holds exactly: eighths from -1 to 1.
static double number(uint64_t stream, int64_t i)
{
    return (double)((int)(rng_uniform(1, stream, (uint64_t)i) * 17) - 8) / 8;
}

static double get(const struct tensor *t, int64_t i)
{
    return t->type == DTYPE_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void set(struct tensor *t, int64_t i, double x)
{
    switch (t->type) {
    case DTYPE_F64: ((double *)t->data)[i] = x; break;
    case DTYPE_F16: ((uint16_t *)t->data)[i] = f16_from_f32((float)x); break;
    case DTYPE_BF16: ((uint16_t *)t->data)[i] = bf16_from_f32((float)x); break;
    default: ((float *)t->data)[i] = (float)x;
    }
}

static struct tensor make(enum dtype type, int64_t cols, int64_t rows, int64_t depth)
{
    struct tensor t = tensor_shape(type, cols, rows, depth, 1);
    t.data = calloc(1, tensor_bytes(&t) + 1);
    ck_assert_ptr_nonnull(t.data);
    return t;
}

static struct tensor make_random(enum dtype type, int64_t cols, int64_t rows, int64_t depth, uint64_t stream)
{
    struct tensor t = make(type, cols, rows, depth);
    for (int64_t i = 0; i < tensor_elements(&t); i++) set(&t, i, number(stream, i));
    return t;
}

// ---- running a graph ----------------------------------------------------------------------------------

struct memory {
    void *outputs, *scratch;
};

static struct memory bind(struct graph *g, struct node *root)
{
    struct tlm_error err;
    ck_assert_int_eq(graph_plan(g, &root, 1, &err), TLM_OK);
    struct memory m = {aligned_alloc(64, align_up(g->arena_bytes + 64, 64)),
                       aligned_alloc(64, align_up(g->scratch_bytes + 64, 64))};
    graph_bind(g, m.outputs, NULL);
    return m;
}

static void release(struct graph *g, struct memory *m)
{
    free(m->outputs);
    free(m->scratch);
    graph_free(g);
}

// y (rows, H N) of x (rows, H K) and w (H, N, K) of `type`; heads of w may have room between them.
static void run_heads(const struct tier *t, const struct tensor *w, const struct tensor *x, int32_t rows,
                      double *y)
{
    struct tlm_error err;
    struct graph g;
    int32_t counts[EXTENT_COUNT] = {[EXTENT_ROWS] = rows};
    ck_assert_int_eq(graph_init(&g, t->ops, &t->kernels, t->real, counts, &err), TLM_OK);
    struct node *root = g_matmul_heads(&g, g_weight(&g, w), graph_leaf(&g, x, EXTENT_ROWS));
    struct memory m = bind(&g, root);
    graph_run(&g, NULL, m.scratch);
    for (int64_t i = 0; i < rows * root->out.ne[0]; i++) y[i] = get(&root->out, i);
    release(&g, &m);
}

static void check_heads(const struct tier *t, enum dtype type, int64_t heads, int64_t outputs, int64_t inputs,
                        int64_t gap)
{
    enum { ROWS = 33 };
    struct tensor all = make_random(type, inputs, outputs + gap, heads, 7), w = all;
    struct tensor x = make_random(t->real, heads * inputs, ROWS, 1, 8);
    w.ne[1] = outputs; // nb[2] stays
    int64_t n = heads * outputs;
    double *y = malloc(sizeof *y * ROWS * (size_t)n), *one = malloc(sizeof *one * (size_t)n);
    run_heads(t, &w, &x, ROWS, y);
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t o = 0; o < outputs; o++) {
                double sum = 0, size = 0;
                for (int64_t k = 0; k < inputs; k++) {
                    double p = number(7, (h * (outputs + gap) + o) * inputs + k) *
                               number(8, (r * heads + h) * inputs + k);
                    sum += p;
                    size += fabs(p);
                }
                ck_assert_double_le(fabs(y[r * n + h * outputs + o] - sum), t->tolerance * (size + 1));
            }
    // A row's bits do not depend on how many there are.
    for (int64_t r = 0; r < ROWS; r += 8) {
        struct tensor row = x;
        row.data = tensor_row(&x, r);
        run_heads(t, &w, &row, 1, one);
        ck_assert(!memcmp(one, y + r * n, sizeof *one * (size_t)n));
    }
    free(y), free(one), free(all.data), free(x.data);
}

START_TEST(test_heads)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        check_heads(&t, types[i], 1, 1, 1, 0);
        check_heads(&t, types[i], 3, 5, 7, 0);
        check_heads(&t, types[i], 2, 17, 33, 4);
        check_heads(&t, types[i], 2, 130, 31, 1);
    }
}
END_TEST

// A quantized type: its own numbers are the oracle.
START_TEST(test_heads_quantized)
{
    enum { HEADS = 2, OUTPUTS = 9, INPUTS = 64, ROWS = 5 };
    struct tier t;
    if (!open_tier(_i, &t)) return;
    struct tensor w = make(DTYPE_Q8_0, INPUTS, OUTPUTS, HEADS),
                  x = make_random(t.real, HEADS * INPUTS, ROWS, 1, 9);
    float numbers[HEADS * OUTPUTS * INPUTS];
    fill_random(numbers, HEADS * OUTPUTS * INPUTS, 3);
    quant_types[DTYPE_Q8_0].quantize(w.data, numbers, HEADS * OUTPUTS * INPUTS, NULL);
    quant_types[DTYPE_Q8_0].dequantize(numbers, w.data, HEADS * OUTPUTS * INPUTS);
    double y[ROWS * HEADS * OUTPUTS];
    run_heads(&t, &w, &x, ROWS, y);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < HEADS * OUTPUTS; i++) {
            double sum = 0;
            for (int k = 0; k < INPUTS; k++)
                sum += (double)numbers[i * INPUTS + k] * number(9, (r * HEADS + i / OUTPUTS) * INPUTS + k);
            ck_assert_double_le(fabs(y[r * HEADS * OUTPUTS + i] - sum), t.tolerance * 64);
        }
    free(w.data), free(x.data);
}
END_TEST

// ---- a block ------------------------------------------------------------------------------------------

struct shape {
    int32_t width, heads, q_rank, rank, nope, pairs, value, rows;
};

struct block {
    struct shape s;
    struct arch arch;
    struct tlm_model model;
    struct layer layer;
    struct tensor weight[16]; // what `layer` points to
    int weights;
    struct tensor x, freq;
};

static const struct tensor *weight(struct block *b, enum dtype type, int64_t cols, int64_t rows,
                                   int64_t depth)
{
    struct tensor *t = &b->weight[b->weights];
    *t = make_random(type, cols, rows, depth, 20 + (uint64_t)b->weights);
    // Products of many numbers would make a softmax of one key.
    for (int64_t i = 0; rows > 1 && i < tensor_elements(t); i++) set(t, i, get(t, i) / sqrt((double)cols));
    b->weights++;
    return t;
}

static struct block make_block(const struct tier *t, struct shape s)
{
    struct block b = {.s = s, .model.kernels = t->kernels, .model.ops = t->ops, .model.real = t->real};
    struct hparams *h = &b.model.hparams;
    *h = (struct hparams){.layers = 1,
                          .width = s.width,
                          .heads = s.heads,
                          .kv_heads = 1,
                          .head_dim = s.nope + 2 * s.pairs,
                          .value_dim = s.value,
                          .norm_eps = 1e-5,
                          .latent_norm_eps = 1e-6,
                          .attention_scale = 0.3125, // kernels take a float
                          .q_rank = s.q_rank,
                          .kv_rank = s.rank,
                          .nope_dim = s.nope,
                          .rope = {.pairs = s.pairs, .pairing = ROPE_ADJACENT}};
    b.x = make_random(t->real, s.width, s.rows, 1, 11);
    b.freq = make(DTYPE_F64, s.pairs, 1, 1);
    for (int32_t i = 0; i < s.pairs; i++) set(&b.freq, i, pow(100, -(double)i / s.pairs));
    return b;
}

// The layer points into b->weight: made where b stays.
static void make_weights(struct block *b)
{
    const struct shape *s = &b->s;
    struct layer *w = &b->layer;
    enum dtype type = b->model.real;
    int64_t q = s->heads * (s->nope + 2 * s->pairs);
    if (s->q_rank) {
        w->wq_a = weight(b, type, s->width, s->q_rank, 1);
        w->q_a_norm = weight(b, type, s->q_rank, 1, 1);
        w->wq_b = weight(b, type, s->q_rank, q, 1);
    } else {
        w->wq = weight(b, type, s->width, q, 1);
    }
    w->wkv_a = weight(b, type, s->width, s->rank + 2 * s->pairs, 1);
    w->kv_a_norm = weight(b, type, s->rank, 1, 1);
    w->wk_b = weight(b, type, s->nope, s->rank, s->heads);
    w->wv_b = weight(b, type, s->rank, s->value, s->heads);
    w->wo = weight(b, type, s->heads * s->value, s->width, 1);
    b->model.arch = &b->arch;
    b->model.weights.layer = w;
}

static void free_block(struct block *b)
{
    for (int i = 0; i < b->weights; i++) free(b->weight[i].data);
    free(b->x.data);
    free(b->freq.data);
}

// ---- the expanded form --------------------------------------------------------------------------------

static void product(double *y, const struct tensor *w, int64_t depth, const double *x)
{
    for (int64_t o = 0; o < w->ne[1]; o++) {
        y[o] = 0;
        for (int64_t k = 0; k < w->ne[0]; k++) y[o] += get(w, (depth * w->ne[1] + o) * w->ne[0] + k) * x[k];
    }
}

static void normalize(double *x, int64_t n, const struct tensor *w)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (int64_t i = 0; i < n; i++) x[i] *= get(w, i) / sqrt(sum / (double)n + 1e-6);
}

static void rotate(double *x, const struct tensor *freq, int64_t position)
{
    for (int64_t i = 0; i < freq->ne[0]; i++) {
        double angle = (double)position * get(freq, i), a = x[2 * i], c = x[2 * i + 1];
        x[2 * i] = a * cos(angle) - c * sin(angle);
        x[2 * i + 1] = a * sin(angle) + c * cos(angle);
    }
}

struct expanded {
    double *q, *k, *v; // (rows, heads, nope + rope), the same, (rows, heads, value)
};

static void expand_row(const struct block *b, struct expanded *e, int64_t r)
{
    const struct shape *s = &b->s;
    const struct layer *w = &b->layer;
    int64_t turned = 2 * s->pairs, d = s->nope + turned;
    double x[64], low[1024], *q = e->q + r * s->heads * d;
    for (int32_t i = 0; i < s->width; i++) x[i] = get(&b->x, r * s->width + i);
    if (s->q_rank) {
        product(low, w->wq_a, 0, x);
        normalize(low, s->q_rank, w->q_a_norm);
        product(q, w->wq_b, 0, low);
    } else {
        product(q, w->wq, 0, x);
    }
    product(low, w->wkv_a, 0, x);
    rotate(low + s->rank, &b->freq, r);
    normalize(low, s->rank, w->kv_a_norm);
    for (int64_t h = 0; h < s->heads; h++) {
        double *k = e->k + (r * s->heads + h) * d;
        rotate(q + h * d + s->nope, &b->freq, r);
        for (int64_t n = 0; n < s->nope; n++) {
            k[n] = 0;
            for (int64_t i = 0; i < s->rank; i++)
                k[n] += get(w->wk_b, (h * s->rank + i) * s->nope + n) * low[i];
        }
        memcpy(k + s->nope, low + s->rank, (size_t)turned * sizeof *k);
        product(e->v + (r * s->heads + h) * s->value, w->wv_b, h, low);
    }
}

static void attend(const struct block *b, const struct expanded *e, int64_t r, double *y)
{
    const struct shape *s = &b->s;
    int64_t d = s->nope + 2 * s->pairs;
    for (int64_t h = 0; h < s->heads; h++) {
        double p[128], sum = 0, *to = y + h * s->value;
        for (int64_t j = 0; j <= r; j++) {
            p[j] = 0;
            for (int64_t i = 0; i < d; i++)
                p[j] += e->q[(r * s->heads + h) * d + i] * e->k[(j * s->heads + h) * d + i];
            sum += p[j] = exp(p[j] * b->model.hparams.attention_scale);
        }
        for (int64_t i = 0; i < s->value; i++) {
            to[i] = 0;
            for (int64_t j = 0; j <= r; j++) to[i] += p[j] / sum * e->v[(j * s->heads + h) * s->value + i];
        }
    }
}

static void expected(const struct block *b, double *y)
{
    const struct shape *s = &b->s;
    size_t keys = (size_t)(s->rows * s->heads * (s->nope + 2 * s->pairs)),
           values = (size_t)(s->rows * s->heads * s->value);
    struct expanded e = {malloc(keys * sizeof(double)), malloc(keys * sizeof(double)),
                         malloc(values * sizeof(double))};
    double *mixed = malloc((size_t)(s->heads * s->value) * sizeof *mixed);
    for (int64_t r = 0; r < s->rows; r++) expand_row(b, &e, r);
    for (int64_t r = 0; r < s->rows; r++) {
        attend(b, &e, r, mixed);
        product(y + r * s->width, b->layer.wo, 0, mixed);
    }
    free(mixed), free(e.q), free(e.k), free(e.v);
}

// ---- the absorbed form, in chunks ---------------------------------------------------------------------

static void fill_step(struct step *s, const struct kv_cache *c, int32_t begin, int32_t end)
{
    s->counts[EXTENT_ROWS] = end - begin;
    s->counts[EXTENT_TILES] = 0;
    const int32_t *table = kv_table(c, 0, 0);
    for (int32_t r = begin; r < end; r++) {
        s->positions[r - begin] = r;
        s->slots[0][r - begin] = table[r / KV_BLOCK] * KV_BLOCK + r % KV_BLOCK;
    }
    for (int32_t r = 0; r < end - begin; r += ATTENTION_ROWS) {
        int32_t left = end - begin - r;
        s->tiles[s->counts[EXTENT_TILES]++] =
            (struct attention_tile){r, left < ATTENTION_ROWS ? left : ATTENTION_ROWS, 0, 0};
    }
    memcpy(s->block_tables[0], table, (size_t)kv_blocks(end) * sizeof *table);
}

static void run_block(struct block *b, int32_t chunk, double *y)
{
    const struct shape *s = &b->s;
    const struct tlm_model *m = &b->model;
    struct tlm_error err;
    struct kv_cache cache;
    struct kv_config config = {.layers = 1,
                               .kv_heads = 1,
                               .head_dim = s->rank + 2 * s->pairs,
                               .type_k = m->real,
                               .type_v = m->real,
                               .sequences = 1,
                               .context = s->rows,
                               .blocks = kv_blocks(s->rows)};
    struct step step;
    struct graph g;
    ck_assert_int_eq(kv_open(&cache, &config, &err), TLM_OK);
    ck_assert_int_eq(kv_reserve(&cache, 0, s->rows, &err), TLM_OK);
    ck_assert_int_eq(step_init(&step, chunk, 1, 1, cache.blocks_per_sequence, 1, 0, &err), TLM_OK);
    ck_assert_int_eq(graph_init(&g, m->ops, &m->kernels, m->real, step.counts, &err), TLM_OK);
    struct tensor x = make(m->real, s->width, chunk, 1);
    struct build_inputs in = {.step = g_step(&g, &step, chunk, 1),
                              .rope = {graph_leaf(&g, &b->freq, EXTENT_FIXED), 1},
                              .keys = cache.keys,
                              .values = cache.values,
                              .group_of = cache.group_of};
    struct rope_tables rope = block_rope_tables(&g, m, &in);
    struct node *root = block_attention(&g, m, &in, 0, graph_leaf(&g, &x, EXTENT_ROWS), &rope);
    pass_convert(&g, &m->kernels);
    struct memory memory = bind(&g, root);
    for (int32_t begin = 0; begin < s->rows; begin += chunk) {
        int32_t end = begin + chunk < s->rows ? begin + chunk : s->rows;
        fill_step(&step, &cache, begin, end);
        memcpy(x.data, tensor_row(&b->x, begin), (size_t)(end - begin) * x.nb[1]);
        graph_run(&g, NULL, memory.scratch);
        for (int64_t i = 0; i < (int64_t)(end - begin) * s->width; i++)
            y[begin * s->width + i] = get(&root->out, i);
    }
    free(x.data);
    release(&g, &memory);
    step_free(&step);
    kv_close(&cache);
}

static void check_block(const struct tier *t, struct shape s)
{
    struct block b = make_block(t, s);
    make_weights(&b);
    size_t n = (size_t)(s.rows * s.width);
    double *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got),
           *other = malloc(n * sizeof *other);
    expected(&b, want);
    run_block(&b, s.rows, got);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    ck_assert_msg(sqrt(difference / norm) <= t->tolerance, "rank %d: off by %g", s.rank,
                  sqrt(difference / norm));
    run_block(&b, 7, other);
    ck_assert(!memcmp(got, other, n * sizeof *got));
    run_block(&b, 1, other);
    ck_assert(!memcmp(got, other, n * sizeof *got));
    free(want), free(got), free(other);
    free_block(&b);
}

START_TEST(test_block)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    check_block(&t, (struct shape){.width = 24,
                                   .heads = 3,
                                   .q_rank = 10,
                                   .rank = 18,
                                   .nope = 5,
                                   .pairs = 3,
                                   .value = 7,
                                   .rows = 70});
    check_block(&t, (struct shape){
                        .width = 31, .heads = 5, .rank = 33, .nope = 8, .pairs = 1, .value = 3, .rows = 17});
    check_block(&t, (struct shape){.width = 16,
                                   .heads = 2,
                                   .q_rank = 12,
                                   .rank = 512,
                                   .nope = 32,
                                   .pairs = 32,
                                   .value = 32,
                                   .rows = 20});
}
END_TEST

// ---- files older than the absorbed form ---------------------------------------------------------------

static bool ends(struct gguf_string s, const char *with)
{
    size_t n = strlen(with);
    return s.length >= n && !memcmp(s.data + s.length - n, with, n);
}

static int64_t key(const struct gguf *g, const char *name)
{
    int64_t n = -1;
    ck_assert_int_eq(gguf_get_i64(g, name, &n, NULL), TLM_OK);
    return n;
}

// Sizes are those of the heads, there are as many for keys as for queries.
static void write_old_keys(struct gguf_writer *w, const struct gguf *g)
{
    for (uint64_t i = 0; i < g->key_count; i++)
        if (!ends(g->keys[i].name, "_mla")) gguf_set_value(w, g->keys[i].name, &g->keys[i].value);
    gguf_set_u32(w, "deepseek2.attention.head_count_kv", (uint32_t)key(g, "deepseek2.attention.head_count"));
    gguf_set_u32(w, "deepseek2.attention.key_length", (uint32_t)key(g, "deepseek2.attention.key_length_mla"));
    gguf_set_u32(w, "deepseek2.attention.value_length",
                 (uint32_t)key(g, "deepseek2.attention.value_length_mla"));
}

// attn_kv_b (rank, H (nope + value)) of attn_k_b (nope, rank, H) and attn_v_b (rank, value, H), both F16.
static struct tensor merge(const struct tensor *k, const struct tensor *v)
{
    int64_t nope = k->ne[0], rank = k->ne[1], heads = k->ne[2], value = v->ne[1];
    struct tensor both = make(DTYPE_F16, rank, heads * (nope + value), 1);
    for (int64_t h = 0; h < heads; h++) {
        uint16_t *to = tensor_row(&both, h * (nope + value));
        for (int64_t n = 0; n < nope; n++)
            for (int64_t r = 0; r < rank; r++)
                to[n * rank + r] = ((const uint16_t *)k->data)[(h * rank + r) * nope + n];
        memcpy(to + nope * rank, (const uint16_t *)v->data + h * value * rank, (size_t)(value * rank) * 2);
    }
    return both;
}

static struct tensor old_tensor(const struct gguf *g, const struct gguf_tensor *t, char *name)
{
    char other[64];
    snprintf(name, 64, "%.*s", (int)t->name.length, t->name.data);
    char *part = strstr(name, "attn_k_b");
    if (!part) return t->tensor;
    snprintf(other, sizeof other, "%.*sattn_v_b.weight", (int)(part - name), name);
    strcpy(part, "attn_kv_b.weight");
    return merge(&t->tensor, &gguf_find_tensor(g, other)->tensor);
}

static void write_old(const char *path, const char *folder)
{
    struct gguf *g;
    struct gguf_writer *w;
    struct tlm_error err = {0};
    char name[64];
    ck_assert_msg(hf_open(&g, folder, MODEL_ALL, &err) == TLM_OK, "%s", err.text);
    ck_assert_int_eq(gguf_writer_open(&w, path, &err), TLM_OK);
    write_old_keys(w, g);
    for (int write = 0; write < 2; write++)
        for (uint64_t i = 0; i < g->tensor_count; i++) {
            if (ends(g->tensors[i].name, "attn_v_b.weight")) continue;
            struct tensor t = old_tensor(g, &g->tensors[i], name);
            if (write)
                ck_assert_int_eq(gguf_write_data(w, t.data, tensor_bytes(&t), &err), TLM_OK);
            else
                gguf_add_tensor(w, name, &t);
            if (t.data != g->tensors[i].tensor.data) free(t.data);
        }
    ck_assert_int_eq(gguf_writer_finish(w, &err), TLM_OK);
    gguf_writer_close(w);
    gguf_close(g);
}

struct compare {
    const struct golden *golden;
    int32_t next;
    double difference, norm;
};

static int compare_row(void *user, size_t index, const float *logits)
{
    struct compare *c = user;
    if (c->next == c->golden->row_count || (size_t)c->golden->rows[c->next] != index) return 0;
    const float *want = c->golden->logits + (size_t)c->next++ * (size_t)c->golden->vocab;
    for (int32_t i = 0; i < c->golden->vocab; i++) {
        c->difference += ((double)logits[i] - want[i]) * ((double)logits[i] - want[i]);
        c->norm += (double)want[i] * want[i];
    }
    return 0;
}

START_TEST(test_old_file)
{
    if (!isa_supported((enum isa)_i)) return;
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "old.gguf");
    struct tlm_error err = {0};
    write_old(path.text, "tests/golden/models/deepseek-v2-lite");
    struct golden g = golden_read("models/deepseek-v2-lite-33");
    struct tlm_model *m = open_model(path.text, isa_name((enum isa)_i));
    struct tlm_session *s = open_session(
        m, (struct tlm_session_options){
               .context = g.context, .threads = 1, .batch = 7, .kv_type_k = "f32", .kv_type_v = "f32"});
    struct compare c = {.golden = &g};
    ck_assert_int_eq(tlm_session_logits_each(s, g.ids, (size_t)g.count, 0, compare_row, &c, &err), TLM_OK);
    ck_assert_int_eq(c.next, g.row_count);
    ck_assert_double_le(sqrt(c.difference / c.norm), _i == ISA_F64 ? 1e-6 : 1e-5);
    tlm_session_close(s);
    tlm_model_close(m);
    golden_free(&g);
    temp_folder_close(&folder);
}
END_TEST

Suite *suite_latent(void)
{
    Suite *s = suite_create("latent");
    TCase *t = tcase_create("latent");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_heads, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_heads_quantized, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_block, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_old_file, ISA_REF, ISA_F64 + 1);
    suite_add_tcase(s, t);
    return s;
}
