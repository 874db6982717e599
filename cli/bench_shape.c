#include "cli/bench_shape.h"

#include <stdlib.h>
#include <string.h>

#include "ops/backend.h"
#include "quant/quant.h"
#include "quant/stand_in.h"

const char *const bench_shapes[] = {"llama-1b", "llama-8b", "gpt2-124m", "tiny", NULL};

enum { PAIRS = 12 };

static const struct shape {
    const char *name, *arch;
    struct create_pair pairs[PAIRS];
} shapes[] = {
    // Llama 3.2 1B, with its vocabulary
    {"llama-1b",
     "llama",
     {{"layers", "16"},
      {"width", "2048"},
      {"heads", "32"},
      {"kv_heads", "8"},
      {"feed_forward", "8192"},
      {"vocab", "128256"},
      {"context", "131072"},
      {"rope_base", "500000"},
      {"tied", "true"}}},
    // Llama 3.1 8B
    {"llama-8b",
     "llama",
     {{"layers", "32"},
      {"width", "4096"},
      {"heads", "32"},
      {"kv_heads", "8"},
      {"feed_forward", "14336"},
      {"vocab", "128256"},
      {"context", "131072"},
      {"rope_base", "500000"},
      {"tied", "false"}}},
    // GPT-2, the smallest
    {"gpt2-124m",
     "gpt2",
     {{"layers", "12"}, {"width", "768"}, {"heads", "12"}, {"vocab", "50257"}, {"context", "1024"}}},
    // For tests of the command itself
    {"tiny",
     "llama",
     {{"layers", "2"},
      {"width", "256"},
      {"heads", "4"},
      {"kv_heads", "2"},
      {"vocab", "300"},
      {"context", "512"}}},
};

static const struct shape *find_shape(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!strcmp(shapes[i].name, name)) return &shapes[i];
    return NULL;
}

// Norms that change nothing: 1 where a weight multiplies. Biases stay 0.
static void set_vectors(const struct gguf *g)
{
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const char *end = t->name.data + t->name.length;
        const bool bias = t->name.length > 5 && !memcmp(end - 5, ".bias", 5);
        if (t->tensor.ne[1] > 1 || t->tensor.type != DTYPE_F32 || bias) continue;
        for (int64_t k = 0; k < t->tensor.ne[0]; k++) ((float *)t->tensor.data)[k] = 1;
    }
}

// A few rows are drawn and repeated.
static enum tlm_status draw_matrix(const struct tensor *t, struct tlm_error *err)
{
    const int64_t rows = t->ne[1] * t->ne[2] * t->ne[3], drawn = rows < STAND_IN_ROWS ? rows : STAND_IN_ROWS;
    struct tensor some = tensor_shape(t->type, t->ne[0], drawn, 1, 1);
    float *row = malloc((size_t)t->ne[0] * sizeof *row);
    if (!row)
        return error_set(err, TLM_ERR_MEMORY, "no memory for a row of %lld numbers", (long long)t->ne[0]);
    some.data = t->data;
    stand_in_draw(&some, row);
    for (int64_t r = drawn; r < rows; r++) memcpy(tensor_row(t, r), tensor_row(t, r % drawn), t->nb[1]);
    free(row);
    return TLM_OK;
}

static enum tlm_status draw_matrices(const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (uint64_t i = 0; i < g->tensor_count && !s; i++)
        if (g->tensors[i].tensor.ne[1] > 1) s = draw_matrix(&g->tensors[i].tensor, err);
    return s;
}

// The numbers that the model is opened with.
static enum tlm_status fill(const struct arena *memory, const char *name, bool matrices,
                            struct tlm_error *err)
{
    struct gguf *g;
    enum tlm_status s = gguf_open_memory(&g, memory->base, memory->used, name, err);
    if (s) return s;
    set_vectors(g);
    if (matrices) s = draw_matrices(g, err);
    gguf_close(g);
    return s;
}

enum tlm_status bench_shape_open(struct tlm_model **out, struct arena *memory, const char *name,
                                 const char *type, bool host_too, const struct tlm_model_options *how,
                                 struct tlm_error *err)
{
    const struct shape *shape = find_shape(name);
    const int parsed = dtype_parse(type);
    const bool elsewhere = !host_too && how->backend && strcmp(how->backend, "cpu");
    *out = NULL;
    if (parsed < 0 || !quant_types[parsed].quantize)
        return error_set(err, TLM_ERR_ARGUMENT, "--type: expected a type that can be written, found '%s'",
                         type);
    struct create_options options = {.arch = shape->arch, .pairs = shape->pairs};
    while (options.pair_count < PAIRS && shape->pairs[options.pair_count].key) options.pair_count++;
    enum tlm_status s = model_create_shapes(memory, &options, (enum dtype)parsed, err);
    if (!s) s = fill(memory, name, !elsewhere, err);
    if (!s) s = tlm_model_open_memory(out, memory->base, memory->used, name, how, err);
    if (!s && elsewhere && (*out)->backend)
        (*out)->backend->stand_in = true;
    else if (!s && elsewhere) { // "auto" took the CPU, which has only zeros so far
        tlm_model_close(*out);
        if (!(s = fill(memory, name, true, err)))
            s = tlm_model_open_memory(out, memory->base, memory->used, name, how, err);
    }
    return s;
}
