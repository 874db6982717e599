// tests/test_cuda_fused.c -- launches that do several ops at once: the bits of the kernels that they stand for, and whole models of every
// kind of layer, whose logits are those of the double build.
#include <stdio.h>

#include "cuda/bnb.h"
#include "cuda/fused.h"
#include "cuda/products.h"
#include "models/model.h"
#include "ops/paged.h"
#include "tests/cuda_weights.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

enum { PROCESSORS = 3 };

// ---- products -----------------------------------------------------------------------------------------

// What is done around a product.
static const struct around {
    int parts;
    int64_t outputs[FUSED_PARTS];
    enum fused_norm norm;
    bool bias, base, gated, activated;
    enum activation kind;
    float factor, cap;
} arounds[] = {
    {.parts = 3, .outputs = {5, 1, 33}, .factor = 1},
    {.parts = 2, .outputs = {40, 3}, .norm = FUSED_RMSNORM, .bias = true, .factor = 1},
    {.parts = 2, .outputs = {37, 37}, .norm = FUSED_LAYERNORM, .bias = true, .gated = true, .factor = 1},
    {.parts = 2, .outputs = {9, 9}, .norm = FUSED_RMSNORM, .gated = true, .kind = ACT_GELU_TANH, .factor = 1},
    {.parts = 1, .outputs = {41}, .bias = true, .base = true, .factor = 0.25f},
    {.parts = 1, .outputs = {2}, .bias = true, .activated = true, .kind = ACT_GELU, .factor = 1},
    {.parts = 1, .outputs = {70}, .norm = FUSED_LAYERNORM, .factor = 3, .cap = 5},
};
enum { AROUNDS = sizeof arounds / sizeof *arounds };

// One kernel after the other.
static void apart(float *const *y, const struct around *a, const struct cuda_fused_product *p,
                  const struct device_weights *w)
{
    const int64_t k = p->shape.inputs, most = p->rows.most;
    const enum dtype input = cuda_matmul_input(p->shape.type);
    float *x = device(NULL, (size_t)(most * k) * sizeof *x), *other = NULL;
    void *converted = device(NULL, (size_t)(most * k) * 4);
    if (a->norm == FUSED_RMSNORM) cuda_rmsnorm(NULL, x, p->x, p->norm_w, p->rows, k, k, 1, p->eps);
    if (a->norm == FUSED_LAYERNORM)
        cuda_layernorm(NULL, x, p->x, p->norm_w, p->norm_b, p->rows, k, k, 1, p->eps);
    const float *from = a->norm ? x : p->x;
    if (input != DTYPE_F32) cuda_convert(NULL, converted, input, from, p->rows, k);
    for (int i = 0; i < a->parts; i++) {
        const int64_t n = a->outputs[i];
        float *to = i && a->gated ? (other = empty_device(most * n)) : y[i];
        cuda_matmul(NULL, to, input == DTYPE_F32 ? (const void *)from : converted, &w[i].matrix, p->rows);
        if (a->bias) cuda_bias(NULL, to, to, p->part[i].bias, p->rows, n);
        if (a->activated) cuda_activation(NULL, to, to, p->rows, n, a->kind);
        if (a->factor != 1) cuda_scale(NULL, to, to, p->rows, n, (double)a->factor);
        if (a->cap > 0) cuda_softcap(NULL, to, to, p->rows, n, (double)a->cap);
        if (a->base) cuda_add(NULL, to, to, p->base, p->rows, n);
    }
    if (a->gated) cuda_glu(NULL, y[0], y[0], other, p->rows, a->outputs[0], a->kind);
}

// A device may round a product and a sum together in one kernel and apart in the other.
static bool same(float a, float b)
{
    return a == b || (!emu_here() && fabsf(a - b) <= 1e-4f * (1 + fabsf(b)));
}

static void try_around(const struct around *a, enum dtype type, int64_t k, int32_t used, int64_t most)
{
    struct device_weights w[FUSED_PARTS];
    float *own[FUSED_PARTS], *other[FUSED_PARTS];
    for (int i = 0; i < a->parts; i++) w[i] = make_weights(type, a->outputs[i], k);
    struct cuda_fused_product p = {.shape = cuda_fused_shape_of(&w[0].matrix), .rows = some_rows(used, most)};
    p.shape.parts = a->parts, p.shape.norm = a->norm;
    p.shape.gated = a->gated, p.shape.activated = a->activated, p.shape.kind = a->kind;
    p.x = random_device(NULL, most * k, 3, 2);
    p.norm_w = random_device(NULL, k, 4, 1);
    if (a->norm == FUSED_LAYERNORM) p.norm_b = random_device(NULL, k, 5, 1);
    p.eps = 1e-5f, p.factor = a->factor, p.cap = a->cap;
    if (a->base) p.base = random_device(NULL, most * a->outputs[0], 6, 1);
    for (int i = 0; i < a->parts; i++) {
        p.shape.outputs[i] = (int32_t)a->outputs[i];
        p.part[i] = (struct cuda_fused_part){
            .codes = w[i].matrix.codes,
            .scales = w[i].matrix.scales,
            .bias = a->bias ? random_device(NULL, a->outputs[i], 7 + (uint64_t)i, 1) : NULL,
            .y = own[i] = empty_device(most * a->outputs[i])};
        other[i] = empty_device(most * a->outputs[i]);
    }
    ck_assert(cuda_fused_product_fits(&p.shape, most));
    cuda_fused_product(NULL, &p, PROCESSORS);
    apart(other, a, &p, w);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    for (int i = 0; i < (a->gated ? 1 : a->parts); i++) {
        const int64_t n = a->outputs[i];
        for (int64_t j = 0; j < most * n; j++)
            ck_assert_msg(j < used * n ? same(own[i][j], other[i][j]) : isnan(own[i][j]),
                          "%s, %d inputs, %d of %d rows, what is around: %d, part %d, number %d: %g, not %g",
                          dtype_traits[type].name, (int)k, used, (int)most, (int)(a - arounds), i, (int)j,
                          (double)own[i][j], (double)other[i][j]);
    }
    done();
    for (int i = 0; i < a->parts; i++) free_weights(&w[i]);
}

// All types; the inputs around what the lanes of a warp, of a norm's team and of a block take at once.
START_TEST(test_products)
{
    static const int64_t plain[] = {40, 264, 520, 1544}, blocks[] = {1, 3, 7, 5};
    static const struct {
        int32_t used;
        int64_t most;
    } rows[] = {{1, 2}, {2, 2}, {5, 8}, {8, 8}, {1, 1}};
    const enum dtype type = types[_i];
    const int64_t block = dtype_traits[type].block_size;
    if (bnb_known(type)) return; // products of their own
    for (int i = 0; i < AROUNDS; i++) {
        const int r = (i + _i) % 5;
        const int64_t k = block == 1 ? plain[(i + _i) % 4] : (block < 32 ? 32 : block) * blocks[(i + _i) % 4];
        orders(i + _i);
        try_around(&arounds[i], type, k, rows[r].used, rows[r].most);
    }
    if (type == DTYPE_BF16 || type == DTYPE_Q8_0 || type == DTYPE_Q4_K)
        for (int r = 0; r < 5; r++) try_around(&arounds[r], type, 2304, rows[r].used, rows[r].most);
}
END_TEST

// Devices differ in their shared memory, into which the columns must fit.
START_TEST(test_shared_memory)
{
    const struct cuda_fused_shape s = {
        .type = DTYPE_BF16, .inputs = 8192, .parts = 1, .outputs = {64}, .code_stride = 16384};
    if (!emu_here()) return;
    ck_assert(cuda_fused_product_fits(&s, 8));
    emu_set_shared(99 << 10);
    ck_assert(!cuda_fused_product_fits(&s, 8) && cuda_fused_product_fits(&s, 2));
    emu_set_shared(227 << 10);
}
END_TEST

// ---- whole models -------------------------------------------------------------------------------------

// Shapes whose rows stand on boundaries of 16 bytes: all rules apply.
static const struct {
    const char *arch, *pairs;
    double tolerance;
    int launches; // of a step of one row: six a layer, and five around them, where all rules apply
} models[] = {
    {"llama", "layers=2 width=64 heads=4 kv_heads=2 feed_forward=96 tied=true", 1e-5, 17},
    {"qwen2", "layers=2 width=64 heads=4 kv_heads=2 feed_forward=96", 1e-5, 17},
    {"qwen3", "layers=2 width=64 heads=4 kv_heads=2 head_dim=24 feed_forward=96", 1e-5, 17},
    {"gemma2", "layers=2 width=64 heads=4 kv_heads=2 head_dim=16 feed_forward=96", 1e-5, 22},
    {"gemma3", "layers=2 width=64 heads=4 kv_heads=1 head_dim=16 feed_forward=96", 1e-5, 22},
    {"gpt2", "layers=2 width=64 heads=4 context=192", 1e-5, 18},
    {"gptneox", "layers=2 width=64 heads=4 feed_forward=96", 1e-5, 17},
    {"granite",
     "layers=2 width=64 heads=4 kv_heads=2 feed_forward=96 granite.residual_scale=0.5 "
     "granite.logit_scale=4.0",
     1e-5, 17},
    {"olmo2", "layers=2 width=64 heads=4 feed_forward=96", 1e-5, 25},
    {"command-r", "layers=2 width=64 heads=4 kv_heads=2 feed_forward=96", 1e-5, 19},
    {"phi3", "layers=2 width=64 heads=4 kv_heads=2 feed_forward=96", 1e-5, 17},
    {"bloom", "layers=2 width=64 heads=4", 1e-5, 17},
};
enum { MODELS = sizeof models / sizeof *models, TOKENS = 16, CONTEXT = 32 };

// "a=1 b=2" as a file.
static void create(const char *path, const char *arch, const char *text)
{
    struct create_pair pairs[16];
    struct create_options o = {
        .arch = arch, .pairs = pairs, .tokenizer = "tests/golden/llama-plain.gguf", .seed = 5, .threads = 2};
    struct tlm_error err;
    char copy[256], *rest;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *item = strtok_r(copy, " ", &rest); item; item = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(item, '=');
        *equals = 0;
        pairs[o.pair_count++] = (struct create_pair){item, equals + 1};
    }
    ck_assert_msg(!model_create(path, &o, &err), "%s: %s", arch, err.text);
}

static struct tlm_model *open_on(const char *path, const char *backend, const char *isa)
{
    struct tlm_error err;
    struct tlm_model *m;
    ck_assert_msg(
        !tlm_model_open(&m, path, &(struct tlm_model_options){.backend = backend, .isa = isa}, &err), "%s",
        err.text);
    return m;
}

static struct tlm_session *open_rows(struct tlm_model *m, int32_t context, int32_t batch, const char *cache)
{
    const struct tlm_session_options o = {
        .context = context, .batch = batch, .kv_type_k = cache, .kv_type_v = cache};
    struct tlm_session *s;
    struct tlm_error err;
    ck_assert_msg(!tlm_session_open(&s, m, &o, &err), "%s", err.text);
    return s;
}

// Passes of 5 and 8 rows, of the larger bucket, of 2 and 1, of the smaller one; the last ones recorded and run again.
START_TEST(test_models)
{
    static const size_t ends[] = {5, 13, 15, 16, 17, 18, 20};
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "model.gguf");
    struct tlm_error err;
    create(path.text, models[_i].arch, models[_i].pairs);
    struct tlm_model *m = open_on(path.text, "cuda", NULL), *oracle = open_on(path.text, NULL, "f64");
    const int32_t vocab = tlm_model_vocab_size(m);
    struct tlm_session *own = open_rows(m, CONTEXT, 8, "f32"), *other = open_rows(oracle, CONTEXT, 8, "f32");
    double *expected = malloc((size_t)vocab * sizeof *expected);
    int32_t tokens[CONTEXT];
    int64_t launches = 0;
    for (int i = 0; i < CONTEXT; i++) tokens[i] = 1 + i * 7 % 40;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        orders((int)i);
        launches = emu_launches();
        ck_assert_msg(!tlm_session_sync(own, tokens, ends[i], &err), "%s: %s", models[_i].arch, err.text);
        launches = emu_launches() - launches;
        ck_assert_msg(!tlm_session_sync(other, tokens, ends[i], &err), "%s", err.text);
        for (int32_t j = 0; j < vocab; j++) expected[j] = (double)tlm_session_logits(other)[j];
        ck_assert_msg(agrees(tlm_session_logits(own), expected, vocab, models[_i].tolerance),
                      "%s, %d tokens: error %g", models[_i].arch, (int)ends[i],
                      rel_error(tlm_session_logits(own), expected, vocab));
    }
    ck_assert_msg(launches <= models[_i].launches, "%s: %d launches", models[_i].arch, (int)launches);
    free(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m), tlm_model_close(oracle);
    temp_folder_close(&folder);
}
END_TEST

// Prompts in pieces of 70 rows, of a bucket for 96, and of 20, which take products of few rows there: of models without biases and with.
static const int prompts[] = {0, 1, 3, 5, 7, 11};

START_TEST(test_prompts)
{
    const int shape = prompts[_i];
    enum { BATCH = 96, LONG = 176 };
    static const size_t ends[] = {70, 140, 160};
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "model.gguf");
    struct tlm_error err;
    create(path.text, models[shape].arch, models[shape].pairs);
    struct tlm_model *m = open_on(path.text, "cuda", NULL), *oracle = open_on(path.text, NULL, "f64");
    const int32_t vocab = tlm_model_vocab_size(m);
    struct tlm_session *own = open_rows(m, LONG, BATCH, "f32"),
                       *other = open_rows(oracle, LONG, BATCH, "f32");
    double *expected = malloc((size_t)vocab * sizeof *expected);
    int32_t tokens[LONG];
    for (int i = 0; i < LONG; i++) tokens[i] = 1 + i * 7 % 40;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        orders((int)i);
        ck_assert_msg(!tlm_session_sync(own, tokens, ends[i], &err), "%s: %s", models[shape].arch, err.text);
        ck_assert_msg(!tlm_session_sync(other, tokens, ends[i], &err), "%s", err.text);
        for (int32_t j = 0; j < vocab; j++) expected[j] = (double)tlm_session_logits(other)[j];
        ck_assert_msg(agrees(tlm_session_logits(own), expected, vocab, models[shape].tolerance),
                      "%s, %d tokens: error %g", models[shape].arch, (int)ends[i],
                      rel_error(tlm_session_logits(own), expected, vocab));
    }
    free(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m), tlm_model_close(oracle);
    temp_folder_close(&folder);
}
END_TEST

// ---- products of many rows ----------------------------------------------------------------------------

// Bias and residual that the product adds, in place and elsewhere, are the bits of one kernel after the other; tiles that are there as a whole
// and in part.
static void try_added(enum dtype type, int64_t n, int64_t k, int64_t rows, bool biased, int based)
{
    struct device_weights w = make_weights(type, n, k);
    const struct cuda_rows all = {NULL, rows};
    const struct cuda_groups one = {1, NULL};
    const enum dtype input = cuda_matmul_many_input(type);
    const size_t bytes = cuda_matmul_many_scratch(&w.matrix, 1, rows, k);
    const float *x = random_device(NULL, rows * k, 3, 2), *bias = random_device(NULL, n, 4, 3);
    float *base = random_device(NULL, rows * n, 5, 4), *apart = empty_device(rows * n);
    float *y = based == 2 ? base : empty_device(rows * n);
    void *converted = device(NULL, (size_t)(rows * k) * 4), *scratch = device(NULL, bytes);
    const struct cuda_addends addends = {based ? base : NULL, biased ? bias : NULL};
    if (input == DTYPE_F32)
        memcpy(converted, x, (size_t)(rows * k) * sizeof *x);
    else
        cuda_convert(NULL, converted, input, x, all, k);
    cuda_matmul_many(NULL, apart, converted, &w.matrix, all, one, scratch, bytes);
    if (biased) cuda_bias(NULL, apart, apart, bias, all, n);
    if (based) cuda_add(NULL, apart, base, apart, all, n);
    const bool added = matmul_many_added(NULL, y, converted, &w.matrix, all, addends, scratch, bytes);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_int_eq(added, type != DTYPE_F32);
    for (int64_t i = 0; i < rows * n && added; i++)
        ck_assert_msg(y[i] == apart[i], "%s, %d x %d: number %d is %g, not %g", dtype_traits[type].name,
                      (int)n, (int)k, (int)i, (double)y[i], (double)apart[i]);
    done();
    free_weights(&w);
}

START_TEST(test_added)
{
    static const enum dtype tried[] = {DTYPE_BF16, DTYPE_F16, DTYPE_Q4_K, DTYPE_F32};
    for (int tiles = 0; tiles < 2; tiles++) {
        emu_set_tiles(tiles);
        for (int based = 0; based < 3; based++) {
            orders(based + tiles);
            try_added(tried[_i], 130, 256, 129, based < 2, based);
            try_added(tried[_i], 33, 256, 64, true, based);
        }
    }
    emu_set_tiles(true);
}
END_TEST

Suite *suite_cuda_fused(void)
{
    Suite *s = suite_create("cuda_fused");
    TCase *t = tcase_create("cuda_fused");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_products, 0, TYPES);
    tcase_add_test(t, test_shared_memory);
    tcase_add_loop_test(t, test_models, 0, MODELS);
    tcase_add_loop_test(t, test_added, 0, 4);
    tcase_add_loop_test(t, test_prompts, 0, sizeof prompts / sizeof *prompts);
    suite_add_tcase(s, t);
    return s;
}
