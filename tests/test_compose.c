// tests/test_compose.c -- composed models: the lists that describe another architecture give its numbers to the bit, and mistakes are named.
#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "models/model.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "train/parameters.h"
#include "train/pass.h"

static struct temp_folder folder;

static void setup(void)
{
    folder = temp_folder_open();
}

static void teardown(void)
{
    temp_folder_close(&folder);
}

// "layers=2;blocks.attention=window full;...", taken apart, as a file.
static enum tlm_status create(const char *path, const char *arch, const char *settings, struct tlm_error *err)
{
    struct create_pair pairs[24];
    struct create_options o = {
        .arch = arch, .pairs = pairs, .tokenizer = "tests/golden/llama-plain.gguf", .seed = 3, .threads = 2};
    char text[1024], *rest;
    snprintf(text, sizeof text, "%s", settings);
    for (char *item = strtok_r(text, ";", &rest); item; item = strtok_r(NULL, ";", &rest)) {
        char *equals = strchr(item, '=');
        ck_assert(equals && o.pair_count < 24);
        *equals = 0;
        pairs[o.pair_count++] = (struct create_pair){item, equals + 1};
    }
    return model_create(path, &o, err);
}

// Numbers that follow from a tensor's name and role alone: norms around 1, all else around 0, biases too, which begin as 0.
static void fill(float *x, int64_t count, const char *name)
{
    uint64_t stream = 7;
    for (const char *c = name; *c; c++) stream = 31 * stream + (uint8_t)*c;
    bool norm = strstr(name, "norm.weight") != NULL;
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)((norm ? 1 : 0) + 0.3 * (rng_uniform(9, stream, (uint64_t)i) - 0.5));
}

// Rewrites all tensors of the file. A tensor of queries, keys and values in one gets those of three.
static void rewrite(const char *path)
{
    char *data;
    size_t size;
    struct gguf *g;
    struct file_writer *w;
    struct tlm_error err;
    ck_assert_msg(!file_read(path, &data, &size, &err), "%s", err.text);
    ck_assert_msg(!gguf_open_memory(&g, data, size, path, &err), "%s", err.text);
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        char name[96];
        float *x = g->tensors[i].tensor.data;
        int64_t count = tensor_elements(&g->tensors[i].tensor);
        snprintf(name, sizeof name, "%.*s", (int)g->tensors[i].name.length, g->tensors[i].name.data);
        char *fused = strstr(name, "attn_qkv."), kind[8];
        if (!fused) {
            fill(x, count, name);
            continue;
        }
        snprintf(kind, sizeof kind, "%s", strchr(fused, '.') + 1);
        for (int part = 0; part < 3; part++) {
            snprintf(fused, 24, "attn_%c.%s", "qkv"[part], kind);
            fill(x + part * (count / 3), count / 3, name);
        }
    }
    gguf_close(g);
    ck_assert_msg(!file_writer_open(&w, path, &err), "%s", err.text);
    file_writer_write(w, data, size);
    ck_assert_msg(!file_writer_finish(w, &err), "%s", err.text);
    free(data);
}

enum { TOKENS = 24, VOCAB = 293 };

// Logits behind TOKENS tokens, which come in pieces of `chunk`.
static void run(const char *path, size_t chunk, float logits[VOCAB])
{
    int32_t tokens[TOKENS];
    struct tlm_model *m;
    struct tlm_session *session;
    struct tlm_error err;
    for (int i = 0; i < TOKENS; i++) tokens[i] = 3 + i * 37 % 290;
    ck_assert_msg(!tlm_model_open(&m, path, NULL, &err), "%s", err.text);
    ck_assert_msg(!tlm_session_open(&session, m, NULL, &err), "%s", err.text);
    for (size_t n = chunk; n < TOKENS; n += chunk)
        ck_assert_msg(!tlm_session_sync(session, tokens, n, &err), "%s", err.text);
    ck_assert_msg(!tlm_session_sync(session, tokens, TOKENS, &err), "%s", err.text);
    memcpy(logits, tlm_session_logits(session), VOCAB * sizeof *logits);
    for (int i = 0; i < VOCAB; i++) ck_assert(isfinite(logits[i]));
    tlm_session_close(session);
    tlm_model_close(m);
}

static void run_new(const char *arch, const char *settings, float logits[VOCAB])
{
    struct temp_path path = temp_path(&folder, "m.gguf");
    struct tlm_error err;
    ck_assert_msg(!create(path.text, arch, settings, &err), "%s: %s", arch, err.text);
    rewrite(path.text);
    run(path.text, TOKENS, logits);
}

// Two rotated numbers are one pair, adjacent or not.
#define SIZES "width=64;heads=4;context=64;feed_forward=96;norm_eps=1e-5;"

static const struct {
    const char *arch, *settings, *common, *blocks;
} same[] = {
    {"llama", "", "layers=2;rope_dims=2;kv_heads=2", ""},
    {"llama", "", "layers=3;rope_dims=2;window=5;bias=true", "blocks.attention=window"},
    {"qwen3", "", "layers=2;rope_base=1e6;head_dim=8", "blocks.qk_norm=true"},
    {"qwen3moe", "", "layers=2;rope_base=1e6;experts=5;expert_feed_forward=48",
     "blocks.qk_norm=true;blocks.feed_forward=silu-experts"},
    {"starcoder2", "", "layers=2;bias=true;tied=true;kv_heads=1",
     "blocks.norm=layer;blocks.feed_forward=gelu-tanh"},
    {"gemma2", "gemma2.attn_logit_softcapping=5.0;gemma2.final_logit_softcapping=3.0",
     "layers=4;tied=true;window=5",
     "tinylm-compose.attn_logit_softcapping=5.0;tinylm-compose.final_logit_softcapping=3.0;"
     "tinylm-compose.embedding_scale=8.0;blocks.norms=sandwich;blocks.feed_forward=gelu-tanh-gated;blocks."
     "attention=window full"},
    {"command-r", "command-r.logit_scale=1.0", "layers=2;rope_dims=2;tied=true",
     "blocks.norm=layer;blocks.order=parallel"},
    {"cohere2", "cohere2.logit_scale=1.0", "layers=8;rope_dims=2;tied=true;window=5",
     "blocks.norm=layer;blocks.order=parallel;blocks.attention=window window window full;"
     "blocks.positions=rope rope rope none"},
    {"gpt2", "", "layers=2;tied=true",
     "bias=true;blocks.norm=layer;blocks.feed_forward=gelu-tanh;blocks.positions=learned"},
    {"gptneox", "gptneox.use_parallel_residual=false", "layers=2;rope_dims=4",
     "bias=true;blocks.norm=layer;blocks.feed_forward=gelu"},
    {"bloom", "", "layers=2;tied=true",
     "bias=true;blocks.norm=layer;blocks.feed_forward=gelu-tanh;blocks.positions=alibi;blocks.embed_norm="
     "true"},
};

START_TEST(lists_describe_other_architectures)
{
    char settings[512];
    float expected[VOCAB], found[VOCAB];
    snprintf(settings, sizeof settings, SIZES "%s;%s", same[_i].common, same[_i].settings);
    run_new(same[_i].arch, settings, expected);
    snprintf(settings, sizeof settings, SIZES "%s;%s", same[_i].common, same[_i].blocks);
    run_new("tinylm-compose", settings, found);
    for (int i = 0; i < VOCAB; i++)
        ck_assert_msg(expected[i] == found[i], "%s: logit %d: expected %.9g, found %.9g", same[_i].arch, i,
                      (double)expected[i], (double)found[i]);
}
END_TEST

// clang-format off
static const char *const models[] = {
    "layers=4;blocks.attention=none full;blocks.feed_forward=silu-gated none",
    "layers=3;blocks.norms=post;blocks.norm=layer;bias=true",
    "layers=3;blocks.norms=output",
    "layers=4;blocks.norms=pre post sandwich output",
    "layers=4;blocks.order=parallel sequential;blocks.norms=post",
    "layers=4;blocks.order=parallel sequential;blocks.norms=sandwich",
    "layers=6;window=5;blocks.attention=window window full;blocks.positions=rope alibi none;blocks.qk_norm=true",
    "layers=4;blocks.feed_forward=relu2-gated relu2 gelu-gated relu-gated",
    "layers=5;experts=3;blocks.feed_forward=gelu-experts relu2-experts silu gelu relu",
    "layers=2;blocks.attention=none;blocks.positions=none",
};
// clang-format on

// Chunks give the bits of the whole, and each composition says something of its own.
START_TEST(compositions_run)
{
    struct temp_path path = temp_path(&folder, "m.gguf");
    char settings[512];
    float whole[VOCAB], parts[VOCAB], plain[VOCAB];
    snprintf(settings, sizeof settings, SIZES "%s", models[_i]);
    run_new("tinylm-compose", settings, whole);
    run(path.text, 7, parts);
    ck_assert_mem_eq(whole, parts, sizeof whole);
    run(path.text, 1, parts);
    ck_assert_mem_eq(whole, parts, sizeof whole);
    run_new("tinylm-compose", SIZES "layers=3", plain);
    ck_assert(memcmp(whole, plain, sizeof whole) != 0);
}
END_TEST

// Along a random direction u of all weights together, f(w + u) - f(w - u) against 2 g . u, in double.
START_TEST(compositions_have_gradients)
{
    enum { ROWS_OF_PASS = 24, STEPS = 2 };
    struct temp_path path = temp_path(&folder, "m.gguf");
    struct tlm_model *m;
    struct parameters p;
    struct pass pass;
    struct tlm_error err;
    char settings[512];
    int32_t tokens[ROWS_OF_PASS], targets[ROWS_OF_PASS], documents[ROWS_OF_PASS];
    snprintf(settings, sizeof settings, SIZES "%s", models[_i]);
    ck_assert_msg(!create(path.text, "tinylm-compose", settings, &err), "%s", err.text);
    rewrite(path.text);
    ck_assert_msg(!tlm_model_open(&m, path.text, &(struct tlm_model_options){.isa = "f64"}, &err), "%s",
                  err.text);
    ck_assert_msg(!parameters_open(&p, m, DTYPE_F32, NULL, &err), "%s", err.text);
    struct gradient_slot *slots = calloc((size_t)p.count, sizeof *slots);
    double *gradient = calloc((size_t)p.numbers, sizeof *gradient), *to = gradient;
    parameters_slots(&p, slots);
    for (int64_t i = 0; i < p.count; to += p.item[i++].count) {
        struct tensor *t = &slots[i].to;
        *t = tensor_shape(DTYPE_F64, t->ne[0], t->ne[1], t->ne[2], 1);
        t->data = to;
    }
    struct pass_config config = {.rows = ROWS_OF_PASS, .context = ROWS_OF_PASS, .gradients = true};
    ck_assert_msg(!pass_open(&pass, &p.model, slots, p.count, &config, NULL, &err), "%s", err.text);
    for (int i = 0; i < ROWS_OF_PASS; i++)
        tokens[i] = 3 + i * 37 % 290, targets[i] = 3 + i * 91 % 290, documents[i] = i / 13;
    struct pass_batch batch = {tokens, targets, documents};
    double expected = 0, norm = 0, found[STEPS], loss;
    ck_assert(!pass_run(&pass, &batch, 1, false, 0, &loss, &err));
    double *kept = malloc((size_t)p.numbers * sizeof *kept);
    memcpy(kept, gradient, (size_t)p.numbers * sizeof *kept);
    for (int side = 0; side < STEPS; side++) {
        const double *g = kept;
        for (int64_t i = 0; i < p.count; i++) {
            struct parameter *item = &p.item[i];
            ck_assert_msg(slots[i].writer != NULL, "%s: no gradient", item->name);
            for (int64_t j = 0; j < item->count; j++, g++) {
                float was = item->value[j],
                      u = rng_uniform(5, (uint64_t)i, (uint64_t)j) < 0.5 ? -1e-6f : 1e-6f;
                item->value[j] = side ? was - 2 * u : was + u;
                if (side)
                    expected += *g * ((double)was - item->value[j]); // f32 rounds: the step that was made
                norm += *g * *g * 1e-12;
            }
            parameter_copy(item, &p.model.kernels);
        }
        ck_assert(!pass_run(&pass, &batch, 1, false, 0, &found[side], &err));
    }
    double change = found[0] - found[1];
    ck_assert_msg(norm > 0 && fabs(change - expected) <= 1e-3 * sqrt(norm),
                  "expected a change of %.9g, found %.9g (norm %g)", expected, change, sqrt(norm));
    free(kept);
    free(gradient);
    free(slots);
    pass_close(&pass);
    parameters_close(&p);
    tlm_model_close(m);
}
END_TEST

static const struct {
    const char *settings, *message;
} mistakes[] = {
    {"blocks.attention=full local",
     "tinylm-compose.blocks.attention: expected words of full, window, none, found 'local'"},
    {"blocks.attention=", "tinylm-compose.blocks.attention: expected words of full, window, none, found ''"},
    {"blocks.feed_forward=silu-gated tanh",
     "tinylm-compose.blocks.feed_forward: expected words of silu-gated, silu,"},
    {"blocks.norm=group", "tinylm-compose.blocks.norm: expected words of rms, layer, found 'group'"},
    {"blocks.attention=full window",
     "tinylm-compose.attention.sliding_window: expected the window of layer 1, found none"},
    {"blocks.feed_forward=silu-experts",
     "tinylm-compose.expert_count: expected the experts of layer 0, found none"},
    {"blocks.positions=rope learned",
     "tinylm-compose.blocks.positions: expected learned for all layers or for none"},
    {"blocks.position=rope", "blocks.position: expected a key that tinylm-compose reads"},
    {"blocks.qk_norm=3", "blocks.qk_norm"},
};

START_TEST(mistakes_are_named)
{
    struct temp_path path = temp_path(&folder, "m.gguf");
    struct tlm_error err = {0};
    char settings[512];
    snprintf(settings, sizeof settings, SIZES "layers=2;%s", mistakes[_i].settings);
    ck_assert_int_eq(create(path.text, "tinylm-compose", settings, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, mistakes[_i].message) != NULL, "%s", err.text);
}
END_TEST

// A file whose lists say something else than its tensors.
static void expect_refused(const char *settings, const char *from, const char *to, const char *message)
{
    struct temp_path path = temp_path(&folder, "m.gguf");
    struct tlm_error err = {0};
    struct file_writer *w;
    struct tlm_model *m;
    char *data, text[512];
    size_t size;
    snprintf(text, sizeof text, SIZES "%s", settings);
    ck_assert_msg(!create(path.text, "tinylm-compose", text, &err), "%s", err.text);
    ck_assert_msg(!file_read(path.text, &data, &size, &err), "%s", err.text);
    char *at = memmem(data, size, from, strlen(from));
    ck_assert(at && strlen(from) == strlen(to));
    memcpy(at, to, strlen(to));
    ck_assert_msg(!file_writer_open(&w, path.text, &err), "%s", err.text);
    file_writer_write(w, data, size);
    ck_assert_msg(!file_writer_finish(w, &err), "%s", err.text);
    free(data);
    ck_assert_int_eq(tlm_model_open(&m, path.text, NULL, &err), TLM_ERR_FORMAT);
    ck_assert_msg(strstr(err.text, message) != NULL, "%s", err.text);
}

START_TEST(lists_and_tensors_have_to_agree)
{
    expect_refused("layers=2;blocks.attention=full none", "full none", "none full",
                   "blk.0.attn_norm.weight: expected no such tensor by the lists of blocks");
    expect_refused("layers=2;blocks.attention=none full", "none full", "full none",
                   "blk.0.attn_norm.weight: the file lacks this tensor");
    expect_refused("layers=2;blocks.feed_forward=relu2 silu", "relu2 silu", "silu-gated",
                   "blk.0.ffn_gate.weight: the file lacks this tensor");
    expect_refused("layers=2;blocks.positions=none  none none", "none  none none", "learned learned",
                   "position_embd.weight: the file lacks this tensor");
    expect_refused("layers=2;blocks.attention=full full", "full full", "         ", "found ''");
}
END_TEST

#define ROWS(table) (int)(sizeof table / sizeof *table)

Suite *suite_compose(void)
{
    Suite *s = suite_create("compose");
    TCase *t = tcase_create("compose");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lists_describe_other_architectures, 0, ROWS(same));
    tcase_add_loop_test(t, compositions_run, 0, ROWS(models));
    tcase_add_loop_test(t, compositions_have_gradients, 0, ROWS(models));
    tcase_add_loop_test(t, mistakes_are_named, 0, ROWS(mistakes));
    tcase_add_test(t, lists_and_tensors_have_to_agree);
    suite_add_tcase(s, t);
    return s;
}
