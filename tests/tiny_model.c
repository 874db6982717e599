#include "tests/tiny_model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gguf.h"
#include "core/rng.h"
#include "quant/quant.h"

enum { LAYERS = 2, HEAD = 64, MOST_WIDTH = 256, FF = 2 }; // FF: times the width

// Columns and rows in widths; 0 rows: one.
static const struct {
    const char *name;
    int cols, rows;
    float deviation; // 0: a norm, about 1
} layer[] = {
    {"attn_norm", 1, 0, 0},    {"attn_q", 1, 1, 0.15f},     {"attn_k", 1, 1, 0.15f},
    {"attn_v", 1, 1, 0.1f},    {"attn_output", 1, 1, 0.1f}, {"ffn_norm", 1, 0, 0},
    {"ffn_gate", 1, FF, 0.1f}, {"ffn_up", 1, FF, 0.1f},     {"ffn_down", FF, 1, 0.05f},
};
enum { IN_LAYER = sizeof layer / sizeof *layer, TENSORS = LAYERS * IN_LAYER + 2 };

static int width_of(const struct tiny_model *m)
{
    return m->width ? m->width : MOST_WIDTH;
}

// Query heads for each key-value head.
static int shared_by(const struct tiny_model *m)
{
    return width_of(m) % (2 * HEAD) == 0 ? 2 : 1;
}

struct tensor_plan {
    char name[64];
    struct tensor shape;
    float deviation;
};

static struct tensor_plan plan(const struct tiny_model *m, int i)
{
    struct tensor_plan p;
    int64_t width = width_of(m), cols = width,
            rows = i == 0 ? (m->vocabulary ? m->vocabulary_size : TINY_VOCAB) : 1;
    p.deviation = i == 0 ? 0.3f : 0;
    snprintf(p.name, sizeof p.name, i == 0 ? "token_embd.weight" : "output_norm.weight");
    if (i > 1) {
        int l = (i - 2) / IN_LAYER, t = (i - 2) % IN_LAYER;
        snprintf(p.name, sizeof p.name, "blk.%d.%s.weight", l, layer[t].name);
        cols = layer[t].cols * width, rows = layer[t].rows ? layer[t].rows * width : 1;
        if (t == 2 || t == 3) rows /= shared_by(m); // keys and values
        bool adds = !strcmp(layer[t].name, "attn_output") || !strcmp(layer[t].name, "ffn_down");
        p.deviation = m->bigram && adds ? 1e-30f : layer[t].deviation;
    }
    p.shape = tensor_shape(rows > 1 ? m->type : DTYPE_F32, cols, rows, 1, 1);
    return p;
}

static float random_weight(const struct tiny_model *m, int tensor, int64_t i, float deviation)
{
    uint64_t stream = (uint64_t)tensor + 1, at = (uint64_t)i;
    double u = rng_uniform(m->seed, stream, 2 * at), v = rng_uniform(m->seed, stream, 2 * at + 1);
    double normal = sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
    return deviation == 0 ? (float)(1 + 0.1 * normal) : (float)(deviation * normal);
}

static void write_tensor(struct gguf_writer *w, const struct tiny_model *m, int i)
{
    struct tensor_plan p = plan(m, i);
    int64_t cols = p.shape.ne[0];
    float row[FF * MOST_WIDTH];
    char packed[sizeof row];
    for (int64_t r = 0; r < p.shape.ne[1]; r++) {
        for (int64_t c = 0; c < cols; c++) row[c] = random_weight(m, i, r * cols + c, p.deviation);
        if (p.shape.type == DTYPE_F32)
            memcpy(packed, row, (size_t)cols * 4);
        else
            quant_types[p.shape.type].quantize(packed, row, cols, NULL);
        ck_assert_int_eq(gguf_write_data(w, packed, dtype_row_bytes(p.shape.type, cols), NULL), TLM_OK);
    }
}

void tiny_model_write(const char *path, const struct tiny_model *m)
{
    struct gguf *vocabulary;
    struct gguf_writer *w;
    ck_assert_int_eq(
        gguf_open(&vocabulary, m->vocabulary ? m->vocabulary : "tests/golden/llama-plain.gguf", NULL),
        TLM_OK);
    ck_assert_int_eq(gguf_writer_open(&w, path, NULL), TLM_OK);
    for (uint64_t i = 0; i < vocabulary->key_count; i++)
        if (!strncmp(vocabulary->keys[i].name.data, "tokenizer.", 10))
            gguf_set_value(w, vocabulary->keys[i].name, &vocabulary->keys[i].value);
    gguf_set_string(w, "general.architecture", "llama", 5);
    gguf_set_u32(w, "llama.context_length", m->context ? (uint32_t)m->context : 1024);
    gguf_set_u32(w, "llama.embedding_length", (uint32_t)width_of(m));
    gguf_set_u32(w, "llama.block_count", LAYERS);
    gguf_set_u32(w, "llama.feed_forward_length", (uint32_t)(FF * width_of(m)));
    gguf_set_u32(w, "llama.attention.head_count", (uint32_t)(width_of(m) / HEAD));
    gguf_set_u32(w, "llama.attention.head_count_kv", (uint32_t)(width_of(m) / HEAD / shared_by(m)));
    gguf_set_u32(w, "llama.vocab_size", TINY_VOCAB);
    gguf_set_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (m->window) gguf_set_u32(w, "llama.attention.sliding_window", (uint32_t)m->window);
    for (int i = 0; i < TENSORS; i++) {
        struct tensor_plan p = plan(m, i);
        gguf_add_tensor(w, p.name, &p.shape);
    }
    for (int i = 0; i < TENSORS; i++) write_tensor(w, m, i);
    ck_assert_int_eq(gguf_writer_finish(w, NULL), TLM_OK);
    gguf_writer_close(w);
    gguf_close(vocabulary);
}
