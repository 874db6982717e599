// tests/test_create.c -- new models: of every architecture, with as many parameters as the published ones, and weights that begin as they should.
#include <math.h>
#include <string.h>

#include "core/file.h"
#include "models/model.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

#define VOCABULARY "tests/golden/llama-plain.gguf"

static struct temp_folder folder;

static void setup(void)
{
    folder = temp_folder_open();
}

static void teardown(void)
{
    temp_folder_close(&folder);
}

enum { PAIRS_MAX = 24 };

// "layers=2 width=64 ...", taken apart.
struct request {
    char text[512];
    struct create_pair pairs[PAIRS_MAX];
    struct create_options options;
};

static void request(struct request *r, const char *arch, const char *pairs)
{
    *r = (struct request){
        .options = {.arch = arch, .pairs = r->pairs, .tokenizer = VOCABULARY, .seed = 1, .threads = 2}};
    snprintf(r->text, sizeof r->text, "%s", pairs);
    char *rest;
    for (char *item = strtok_r(r->text, " ", &rest); item; item = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(item, '=');
        ck_assert(equals && r->options.pair_count < PAIRS_MAX);
        *equals = 0;
        r->pairs[r->options.pair_count++] = (struct create_pair){item, equals + 1};
    }
}

static struct temp_path create(const char *name, const char *arch, const char *pairs)
{
    struct request r;
    struct tlm_error err;
    struct temp_path path = temp_path(&folder, name);
    request(&r, arch, pairs);
    ck_assert_msg(!model_create(path.text, &r.options, &err), "%s: %s", arch, err.text);
    return path;
}

static uint64_t count(const char *arch, const char *pairs)
{
    struct request r;
    struct tlm_error err;
    uint64_t n;
    request(&r, arch, pairs);
    r.options.tokenizer = NULL;
    ck_assert_msg(!model_create_count(&n, &r.options, &err), "%s: %s", arch, err.text);
    return n;
}

// ---- sizes --------------------------------------------------------------------------------------------

static const struct {
    const char *arch, *pairs;
    uint64_t parameters;
} published[] = {
    {"gpt2", "layers=12 width=768 heads=12 context=1024 vocab=50257", 124439808},
    {"llama", "layers=32 width=4096 heads=32 feed_forward=11008 vocab=32000", 6738415616}, // Llama 2 7B
    {"llama", "layers=32 width=4096 heads=32 kv_heads=8 feed_forward=14336 vocab=128256",
     8030261248}, // Llama 3 8B
    {"llama", "layers=32 width=4096 heads=32 kv_heads=8 feed_forward=14336 vocab=32000 experts=8",
     46702792704}, // Mixtral
    {"qwen2", "layers=24 width=896 heads=14 kv_heads=2 feed_forward=4864 vocab=151936 tied=true", 494032768},
    {"qwen3",
     "layers=28 width=1024 heads=16 kv_heads=8 head_dim=128 feed_forward=3072 vocab=151936 tied=true",
     596049920},
    {"qwen3moe",
     "layers=48 width=2048 heads=32 kv_heads=4 head_dim=128 feed_forward=6144 expert_feed_forward=768 "
     "experts=128 "
     "experts_used=8 vocab=151936",
     30532122624},
    {"granite", "layers=40 width=2048 heads=32 kv_heads=8 feed_forward=8192 vocab=49155 tied=true",
     2533531648},
    {"ernie4_5", "layers=18 width=1024 heads=16 kv_heads=2 head_dim=128 feed_forward=3072 vocab=103424",
     360748032},
    {"gptneox", "layers=12 width=768 heads=12 vocab=50304", 162322944}, // Pythia 160M
    {"bloom", "layers=24 width=1024 heads=16 vocab=250880", 559214592},
    {"starcoder2", "layers=30 width=3072 heads=24 kv_heads=2 vocab=49152", 3030371328},
    {"phi3", "layers=32 width=3072 heads=32 feed_forward=8192 vocab=32064", 3821079552},
    {"olmo2", "layers=16 width=2048 heads=16 feed_forward=8192 vocab=100352", 1484916736},
    {"command-r", "layers=40 width=8192 heads=64 feed_forward=22528 vocab=256000", 34980831232},
    {"cohere2", "layers=32 width=4096 heads=32 kv_heads=8 feed_forward=14336 vocab=256000", 8028033024},
    {"gemma2", "layers=26 width=2304 heads=8 kv_heads=4 head_dim=256 feed_forward=9216 vocab=256000",
     2614341888},
    {"gemma3", "layers=26 width=1152 heads=4 kv_heads=1 head_dim=256 feed_forward=6912 vocab=262144",
     999885952},
    {"gpt-oss",
     "layers=24 width=2880 heads=64 kv_heads=8 head_dim=64 experts=32 experts_used=4 "
     "expert_feed_forward=2880 vocab=201088",
     20914757184},
    {"deepseek2", // V2-Lite
     "layers=27 width=2048 heads=16 head_dim=192 value_dim=128 rope_dims=64 kv_rank=512 feed_forward=10944 "
     "experts=64 "
     "experts_used=6 expert_feed_forward=1408 deepseek2.expert_shared_count=2 vocab=102400",
     15706484224},
    {"deepseek2", // V3, without its head for the token after the next
     "layers=61 width=7168 heads=128 head_dim=192 value_dim=128 rope_dims=64 kv_rank=512 q_rank=1536 "
     "feed_forward=18432 "
     "experts=256 experts_used=8 expert_feed_forward=2048 deepseek2.leading_dense_block_count=3 "
     "deepseek2.expert_gating_func=2 vocab=129280",
     671026419200},
};

START_TEST(published_models_have_their_parameters)
{
    ck_assert_uint_eq(count(published[_i].arch, published[_i].pairs), published[_i].parameters);
}
END_TEST

START_TEST(what_is_left_out_has_defaults)
{
    // Embedding and output, then two norms, attention, and gated parts of 256 = 8/3 * 64 rounded up.
    uint64_t layer = 2 * 64 + 4 * 64 * 64 + 3 * 64 * 256, ends = 2 * 293 * 64 + 64;
    ck_assert_uint_eq(count("llama", "layers=3 width=64 heads=4 vocab=293"), 3 * layer + ends);
    ck_assert_uint_eq(count("llama", "layers=3 width=64 heads=4 vocab=293 tied=true"),
                      3 * layer + ends - 293 * 64);
    ck_assert_uint_eq(count("llama", "layers=3 width=64 heads=4 vocab=293 bias=true"),
                      3 * (layer + 4 * 64 + 2 * 256 + 64) + ends);
    ck_assert_uint_eq(count("llama", "layers=3 width=64 heads=4 vocab=293 kv_heads=1 head_dim=8"),
                      3 * (layer - 4 * 64 * 64 + 2 * 64 * 32 + 2 * 64 * 8) + ends);
}
END_TEST

// ---- every architecture -------------------------------------------------------------------------------

#define SMALL "layers=3 width=64 heads=4 context=64"

static void expect_runs(const char *path, const char *what)
{
    static const int32_t tokens[] = {1, 60, 200, 17, 99, 42, 60, 7, 250, 3};
    struct tlm_model *m;
    struct tlm_session *session;
    struct tlm_error err;
    enum { COUNT = sizeof tokens / sizeof *tokens };
    ck_assert_msg(!tlm_model_open(&m, path, NULL, &err), "%s: %s", what, err.text);
    ck_assert_msg(!tlm_session_open(&session, m, NULL, &err), "%s: %s", what, err.text);
    ck_assert_msg(!tlm_session_sync(session, tokens, COUNT, &err), "%s: %s", what, err.text);
    const float *logits = tlm_session_logits(session);
    double low = INFINITY, high = -INFINITY;
    for (int32_t i = 0; i < tlm_model_vocab_size(m); i++) {
        ck_assert_msg(isfinite(logits[i]), "%s", what);
        low = fmin(low, logits[i]);
        high = fmax(high, logits[i]);
    }
    ck_assert_msg(low < high, "%s", what); // they do say something
    tlm_session_close(session);
    tlm_model_close(m);
}

START_TEST(every_architecture_is_created_and_runs)
{
    const struct arch *arch = arch_at((size_t)_i);
    struct tlm_model *m;
    struct tlm_error err;
    struct temp_path path = create("m.gguf", arch->name, SMALL);
    ck_assert_msg(!tlm_model_open(&m, path.text, NULL, &err), "%s", err.text);
    ck_assert_uint_eq(tlm_model_parameters(m), count(arch->name, SMALL " vocab=293"));
    ck_assert_int_eq(m->hparams.layers, 3);
    ck_assert_int_eq(m->hparams.width, 64);
    ck_assert_int_eq(tlm_model_context_length(m), 64);
    tlm_model_close(m);
    expect_runs(path.text, arch->name);
}
END_TEST

static const struct {
    const char *arch, *pairs;
} variants[] = {
    {"llama", "layers=2 width=64 heads=4 kv_heads=2 window=16 rope_base=5e5 bias=true norm_eps=1e-6"},
    {"llama", "layers=2 width=64 heads=4 experts=4 expert_feed_forward=64"},
    {"llama", "layers=2 width=64 heads=4 rope_dims=8 rope.scaling.type=linear rope.scaling.factor=2.0"},
    {"qwen3", "layers=2 width=64 heads=4 head_dim=32 tied=true"},
    {"qwen3moe", "layers=2 width=64 heads=4 experts=3 experts_used=3"},
    {"granite", "layers=2 width=64 heads=4 attention.scale=0.1 granite.logit_scale=8.0"},
    {"gptneox", "layers=2 width=48 heads=4 gptneox.use_parallel_residual=false"},
    {"gemma3", "layers=3 width=64 heads=4 window=4 attention.sliding_window_pattern=true,false,true"},
    {"cohere2", "layers=4 width=64 heads=4 window=4 attention.sliding_window_pattern=2"},
    {"deepseek2", "layers=2 width=64 heads=4 q_rank=32 deepseek2.expert_gating_func=2 "
                  "deepseek2.leading_dense_block_count=0"},
    {"deepseek2", "layers=2 width=60 heads=4 experts=0"},
    {"gpt-oss", "layers=2 width=64 heads=4 bias=false vocab=300"},
};

START_TEST(settings_are_taken)
{
    struct temp_path path = create("m.gguf", variants[_i].arch, variants[_i].pairs);
    expect_runs(path.text, variants[_i].pairs);
}
END_TEST

START_TEST(values_reach_the_file)
{
    struct temp_path path =
        create("m.gguf", "llama",
               "layers=2 width=64 heads=4 kv_heads=2 rope_base=5e5 norm_eps=1e-6 general.name=12 vocab=300 "
               "rope.scaling.type=yarn rope.scaling.factor=4.0 init_std=0.5");
    struct gguf *g, *from;
    struct tlm_error err;
    struct gguf_string name = {0};
    double x = 0;
    ck_assert_msg(!gguf_open(&g, path.text, &err), "%s", err.text);
    ck_assert_msg(!gguf_open(&from, VOCABULARY, &err), "%s", err.text);
    ck_assert_int_eq(gguf_get_string(g, "general.name", &name, NULL), TLM_OK);
    ck_assert(gguf_string_is(name, "12"));
    ck_assert_int_eq(gguf_get_f64(g, "llama.rope.freq_base", &x, NULL), TLM_OK);
    ck_assert_double_eq(x, 5e5);
    ck_assert_int_eq(gguf_find(g, "llama.rope.scaling.factor")->type, GGUF_F32);
    ck_assert_uint_eq(gguf_find(g, "tokenizer.ggml.tokens")->count, 300); // padded
    for (uint64_t i = 0; i < from->key_count; i++) {
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)from->keys[i].name.length, from->keys[i].name.data);
        if (!strncmp(key, "tokenizer.", 10)) ck_assert_msg(gguf_find(g, key) != NULL, "%s", key);
    }
    gguf_close(from);
    gguf_close(g);
    expect_runs(path.text, "yarn");
}
END_TEST

// ---- the numbers --------------------------------------------------------------------------------------

// Mean 0 and this deviation, as far as so many numbers can show it; 0: all of them are `value`.
static void expect_numbers(const struct gguf *g, const char *name, double deviation, float value)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, name);
    ck_assert_msg(t && t->tensor.type == DTYPE_F32, "%s", name);
    const float *x = t->tensor.data;
    int64_t n = tensor_elements(&t->tensor);
    double sum = 0, squares = 0, fourth = 0, beyond = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        fourth += pow(x[i], 4);
        beyond += fabs(x[i]) > 5.5 * deviation;
        if (deviation == 0) ck_assert_msg(x[i] == value, "%s", name);
    }
    if (deviation == 0) return;
    double mean = sum / (double)n, found = sqrt(squares / (double)n), error = 1 / sqrt((double)n);
    ck_assert_msg(fabs(mean) < 5 * error * deviation, "%s: mean %g", name, mean);
    ck_assert_msg(fabs(found / deviation - 1) < 4 * error, "%s: expected %g, found %g", name, deviation,
                  found);
    // The fourth moment of normal numbers is 3 deviation^4, with a deviation of sqrt(96) of it.
    ck_assert_msg(fabs(fourth / (double)n / pow(deviation, 4) - 3) < 5 * sqrt(96) * error,
                  "%s: no normal numbers", name);
    ck_assert_msg(beyond <= 1, "%s: numbers far out", name);
}

static struct gguf *create_open(const char *arch, const char *pairs)
{
    struct gguf *g;
    struct tlm_error err;
    struct temp_path path = create("m.gguf", arch, pairs);
    ck_assert_msg(!gguf_open(&g, path.text, &err), "%s", err.text);
    return g;
}

START_TEST(weights_begin_as_papers_say)
{
    const double residual = 0.02 / sqrt(2 * 8);
    struct gguf *g = create_open("gpt2", "layers=8 width=128 heads=4");
    expect_numbers(g, "token_embd.weight", 0.02, 0);
    expect_numbers(g, "position_embd.weight", 0.02, 0);
    expect_numbers(g, "blk.7.attn_qkv.weight", 0.02, 0);
    expect_numbers(g, "blk.0.attn_output.weight", residual, 0);
    expect_numbers(g, "blk.3.ffn_up.weight", 0.02, 0);
    expect_numbers(g, "blk.3.ffn_down.weight", residual, 0);
    expect_numbers(g, "blk.3.ffn_norm.weight", 0, 1);
    expect_numbers(g, "blk.3.ffn_norm.bias", 0, 0);
    expect_numbers(g, "output_norm.weight", 0, 1);
    expect_numbers(g, "blk.3.attn_qkv.bias", 0, 0);
    ck_assert_ptr_null(gguf_find_tensor(g, "output.weight"));
    gguf_close(g);

    g = create_open("llama", "layers=8 width=128 heads=4 experts=2 init_std=0.1");
    expect_numbers(g, "output.weight", 0.1, 0);
    expect_numbers(g, "blk.1.ffn_gate_exps.weight", 0.1, 0);
    expect_numbers(g, "blk.1.ffn_down_exps.weight", 0.1 / sqrt(2 * 8), 0);
    gguf_close(g);

    g = create_open("gptneox", "layers=8 width=128 heads=4");
    expect_numbers(g, "blk.1.ffn_up.weight", sqrt(2 / (5 * 128.0)), 0);
    expect_numbers(g, "blk.1.ffn_down.weight", 2 / (8 * sqrt(128)), 0);
    gguf_close(g);

    g = create_open("gemma2", "layers=2 width=128 heads=4");
    expect_numbers(g, "blk.1.post_ffw_norm.weight", 0, 1); // 1 + 0
    gguf_close(g);

    g = create_open("deepseek2", "layers=2 width=128 heads=4");
    expect_numbers(g, "blk.1.attn_k_b.weight", 0.006, 0);
    expect_numbers(g, "blk.1.attn_output.weight", 0.006, 0);
    expect_numbers(g, "blk.1.ffn_down_exps.weight", 0.006, 0);
    gguf_close(g);

    g = create_open("gpt-oss", "layers=2 width=64 heads=64 head_dim=8");
    expect_numbers(g, "blk.1.attn_sinks.weight", 0.02, 0);
    expect_numbers(g, "blk.1.ffn_gate_exps.bias", 0, 0);
    gguf_close(g);
}
END_TEST

static void read_file(const char *path, char **data, size_t *size)
{
    struct tlm_error err;
    ck_assert_msg(!file_read(path, data, size, &err), "%s", err.text);
}

START_TEST(bytes_depend_on_the_seed_alone)
{
    static const char pairs[] = "layers=2 width=96 heads=4 feed_forward=200";
    struct temp_path paths[3];
    char *data[3];
    size_t size[3];
    struct tlm_error err;
    for (int i = 0; i < 3; i++) {
        struct request r;
        request(&r, "llama", pairs);
        r.options.threads = i == 1 ? 7 : 1;
        r.options.seed = i == 2 ? 2 : 1;
        paths[i] = temp_path(&folder, (const char *[]){"a", "b", "c"}[i]);
        ck_assert_msg(!model_create(paths[i].text, &r.options, &err), "%s", err.text);
        read_file(paths[i].text, &data[i], &size[i]);
        ck_assert_uint_eq(size[i], size[0]);
    }
    ck_assert_mem_eq(data[0], data[1], size[0]);
    ck_assert(memcmp(data[0], data[2], size[0]) != 0);
    for (int i = 0; i < 3; i++) free(data[i]);

    // Tensors of one shape have numbers of their own.
    struct gguf *g;
    ck_assert_msg(!gguf_open(&g, paths[0].text, &err), "%s", err.text);
    const struct tensor *a = &gguf_find_tensor(g, "blk.0.attn_q.weight")->tensor;
    const struct tensor *b = &gguf_find_tensor(g, "blk.1.attn_q.weight")->tensor;
    ck_assert(memcmp(a->data, b->data, tensor_bytes(a)) != 0);
    gguf_close(g);
}
END_TEST

// ---- mistakes -----------------------------------------------------------------------------------------

static const struct {
    const char *arch, *pairs, *message;
} wrong_requests[] = {
    {"lama", "layers=2", "arch: expected llama, qwen2"},
    {"llama", "layers=2 width=64", "heads: a new model needs this number, found none"},
    {"llama", "layers=2 width=64 heads=5", "heads: expected a divisor of the width 64, or head_dim, found 5"},
    {"llama", "layers=2 width=64 heads=4 kv_heads=3",
     "llama.attention.head_count_kv: expected a divisor of the 4 heads"},
    {"llama", "layers=0 width=64 heads=4", "layers: expected a whole number from 1 to 4096, found '0'"},
    {"llama", "layers=2.5 width=64 heads=4", "layers: expected a whole number from 1 to 4096, found '2.5'"},
    {"llama", "layers=two width=64 heads=4", "layers: expected a whole number from 1 to 4096, found 'two'"},
    {"llama", "layers=2 width=64 heads=4 tied=yes", "tied: expected true or false, found 'yes'"},
    {"llama", "layers=2 width=64 heads=4 depth=3",
     "model: expected the name of a hyperparameter or of a GGUF key, found 'depth'"},
    {"llama", "layers=2 width=64 heads=4 attention.scale=0.1",
     "attention.scale: expected a key that llama reads, found 'llama.attention.scale'"},
    {"granite", "layers=2 width=64 heads=4 granite.residual_scal=1.0",
     "granite.residual_scal: expected a key that granite reads"},
    {"granite", "layers=2 width=64 heads=4 granite.residual_scale=0.0",
     "granite.*_scale: expected numbers but 0"},
    {"gpt2", "layers=2 width=64 heads=4 rope_base=10000", "rope_base: expected a key that gpt2 reads"},
    {"qwen2", "layers=2 width=64 heads=4 experts=2", "experts: expected 0, as qwen2 has none, found 2"},
    {"bloom", "layers=2 width=64 heads=4 window=2", "window: expected a key that bloom reads"},
    {"llama", "layers=2 width=64 heads=4 vocab=100",
     "vocab: expected a row for each of 293 tokens, found 100"},
    {"llama", "layers=2 width=64 heads=4 rope_dims=7", "llama.rope: expected an even dimension_count"},
    {"llama", "layers=2 width=64 heads=4 general.architecture=gpt2",
     "general.architecture: expected a key of the description"},
    {"deepseek2", "layers=2 width=64 heads=4 kv_heads=2",
     "kv_heads: expected none with latent attention, found 2"},
    {"deepseek2", "layers=2 width=64 heads=4 head_dim=8 rope_dims=8",
     "head_dim: expected more than the 8 rotated"},
    {"gpt-oss", "layers=2 width=64 heads=4 experts=0", "gpt-oss.expert_count: expected experts, found none"},
    {"llama", "layers=2 width=1048576 heads=4096 feed_forward=16777216 experts=65536",
     "expected at most 2^40 numbers"},
};

START_TEST(wrong_requests_are_named)
{
    struct request r;
    struct tlm_error err = {0};
    struct temp_path path = temp_path(&folder, "m.gguf");
    request(&r, wrong_requests[_i].arch, wrong_requests[_i].pairs);
    ck_assert_int_eq(model_create(path.text, &r.options, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, wrong_requests[_i].message) != NULL, "%s", err.text);
    ck_assert_int_ne(access(path.text, F_OK), 0);
}
END_TEST

START_TEST(files_that_are_missing_are_named)
{
    struct request r;
    struct tlm_error err = {0};
    struct temp_path path = temp_path(&folder, "m.gguf"), none = temp_path(&folder, "none/m.gguf");
    request(&r, "llama", SMALL);
    ck_assert_int_eq(model_create(none.text, &r.options, &err), TLM_ERR_IO);
    ck_assert_msg(strstr(err.text, none.text) != NULL, "%s", err.text);
    r.options.tokenizer = none.text;
    ck_assert_int_eq(model_create(path.text, &r.options, &err), TLM_ERR_IO);
    ck_assert_msg(strstr(err.text, none.text) != NULL, "%s", err.text);
    r.options.tokenizer = NULL;
    ck_assert_int_eq(model_create(path.text, &r.options, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "tokenizer: expected a model or vocabulary file, found none");
    uint64_t n;
    ck_assert_int_eq(model_create_count(&n, &r.options, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "vocab: expected it where there is no tokenizer, found none");
    ck_assert_int_ne(access(path.text, F_OK), 0);
}
END_TEST

#define ROWS(table) (int)(sizeof table / sizeof *table)

Suite *suite_new_model(void)
{
    int archs = 0;
    while (arch_at((size_t)archs)) archs++;
    Suite *s = suite_create("new_model");
    TCase *t = tcase_create("new_model");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, published_models_have_their_parameters, 0, ROWS(published));
    tcase_add_test(t, what_is_left_out_has_defaults);
    tcase_add_loop_test(t, every_architecture_is_created_and_runs, 0, archs);
    tcase_add_loop_test(t, settings_are_taken, 0, ROWS(variants));
    tcase_add_test(t, values_reach_the_file);
    tcase_add_test(t, weights_begin_as_papers_say);
    tcase_add_test(t, bytes_depend_on_the_seed_alone);
    tcase_add_loop_test(t, wrong_requests_are_named, 0, ROWS(wrong_requests));
    tcase_add_test(t, files_that_are_missing_are_named);
    suite_add_tcase(s, t);
    return s;
}
