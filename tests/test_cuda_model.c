// tests/test_cuda_model.c -- whole models on the GPU's kernels, on the emulation: the logits of every golden model that the backend knows,
// and of models in every type of weights.
#include <check.h>
#include <stdio.h>

#include "cuda/kernels.h"
#include "generate/forward.h"
#include "models/model.h"
#include "tests/cuda_emu/control.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

static struct tlm_model *open_on(const char *path, const char *backend, const char *isa,
                                 struct tlm_error *err)
{
    struct tlm_model *m;
    return tlm_model_open(&m, path, &(struct tlm_model_options){.backend = backend, .isa = isa}, err) ? NULL
                                                                                                      : m;
}

// Token by token and prompts against transformers, on the plainest of models.
START_TEST(test_golden)
{
    struct tlm_error err;
    struct tlm_model *m = open_on("tests/golden/llama-plain.gguf", "cuda", NULL, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    struct golden g = golden_read("llama-plain-33");
    emu_set_order(EMU_BACKWARD, 0);
    golden_check(&g, m, "llama-plain-33", 15, 1e-4);
    ck_assert_msg(!strncmp(tlm_model_backend(m), "cuda: ", 6), "%s", tlm_model_backend(m));
    golden_free(&g);
    tlm_model_close(m);
}
END_TEST

// A prompt in one pass, then single tokens, of which the second is recorded and the third is what was recorded, against the CPU in double.
static void check_model(const char *path)
{
    enum { PROMPT = 5, TOKENS = 8 };
    static const int32_t tokens[TOKENS] = {1, 5, 9, 8, 7, 2, 4, 6};
    const double tolerance = strstr(path, "mxfp4") ? 0.1 : 1e-5; // activations of 8 bits
    struct tlm_error err;
    struct tlm_model *m = open_on(path, "cuda", NULL, &err), *oracle = open_model(path, "f64");
    ck_assert_msg(m != NULL, "%s", err.text);
    const int32_t vocab = tlm_model_vocab_size(m);
    const struct tlm_session_options options = {.context = 16, .kv_type_k = "f32", .kv_type_v = "f32"};
    struct tlm_session *own = open_session(m, options), *other = open_session(oracle, options);
    double *expected = malloc((size_t)vocab * sizeof *expected);
    for (size_t n = PROMPT; n <= TOKENS; n++) {
        ck_assert_msg(!tlm_session_sync(own, tokens, n, &err), "%s: %s", path, err.text);
        ck_assert_msg(!tlm_session_sync(other, tokens, n, &err), "%s: %s", path, err.text);
        for (int32_t i = 0; i < vocab; i++) expected[i] = (double)tlm_session_logits(other)[i];
        ck_assert_msg(agrees(tlm_session_logits(own), expected, vocab, tolerance), "%s, %d tokens: error %g",
                      path, (int)n, rel_error(tlm_session_logits(own), expected, vocab));
    }
    free(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m), tlm_model_close(oracle);
}

enum { PARTS = 4 };

// Every golden model, whatever the architecture.
START_TEST(test_architectures_cuda)
{
    int count, ran = 0;
    char **names = golden_names("models", &count), last[256] = "";
    for (int i = 0, model = 0; i < count; i++) {
        char path[256];
        snprintf(path, sizeof path, "tests/golden/%.*s", (int)(strrchr(names[i], '-') - names[i]), names[i]);
        free(names[i]);
        if (!strcmp(path, last)) continue;
        memcpy(last, path, sizeof last);
        emu_set_order((enum emu_order)(model % 3), (uint64_t)model);
        if (model++ % PARTS != _i) continue;
        check_model(path);
        ran++;
    }
    free(names);
    ck_assert_int_gt(ran, 8);
}
END_TEST

// A prompt in chunks, a second that shares its begin, single tokens: logits against the model in double. Eight bits of the activations
// are what the tolerance of quantized weights is for; the CPU's, which has them too, are as far from the oracle.
START_TEST(test_types)
{
    static const struct {
        enum dtype type;
        const char *cache, *oracle;
        double tolerance;
        int prompt, batch;
    } kinds[] = {
        {DTYPE_F32, "f32", "f64", 1e-4, 13, 11},
        {DTYPE_F16, "f16", "f64", 2e-3, 13, 11},
        {DTYPE_BF16, "bf16", "f64", 2e-2, 13, 11},
        {DTYPE_BF16, "f16", "f64", 2e-2, 77, 70}, // products by cuBLAS, and not
        {DTYPE_Q8_0, "q8_0", "f64", 0.1, 13, 11},
        {DTYPE_Q4_0, "f16", "f64", 0.1, 13, 11},
        {DTYPE_Q4_K, "f16", "f64", 0.1, 13, 11},
        {DTYPE_Q6_K, "f16", "f64", 0.1, 13, 11},
        {DTYPE_F16, "f16", "f64", 2e-3, 77, 70}, // by tensor cores, and not
        {DTYPE_Q4_K, "f16", "f64", 0.1, 77, 70}, // as bf16, and not
        {DTYPE_Q8_0, "f16", "f64", 0.1, 77, 70},
        {DTYPE_F32, "f8_e4m3", "ref", 1e-2, 13, 8}, // the same codes in the cache, but for ties
        {DTYPE_F32, "q4_0", "ref", 1e-2, 13, 8},    // likewise
        {DTYPE_F32, "q8_0", "ref", 1e-2, 13, 11},   // prompts over f16
        // likewise: more ties fall elsewhere; codes of 4 bits are 0.3 off f64
        {DTYPE_F32, "q4_0", "ref", 5e-2, 13, 11},
    };
    enum { MOST_TOKENS = 80 };
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "tiny.gguf");
    struct tiny_model shape = {.type = kinds[_i].type, .width = 256, .seed = 3};
    if (dtype_traits[shape.type].block_size < 256) shape.width = 128;
    tiny_model_write(path.text, &shape);
    struct tlm_error err;
    struct tlm_model *gpu = open_on(path.text, "cuda", NULL, &err),
                     *oracle = open_on(path.text, NULL, kinds[_i].oracle, &err);
    ck_assert_msg(gpu && oracle, "%s", err.text);
    struct tlm_session_options options = {
        .context = 96, .batch = kinds[_i].batch, .kv_type_k = kinds[_i].cache, .kv_type_v = kinds[_i].cache};
    struct tlm_session *own = open_session(gpu, options), *other = open_session(oracle, options);
    int32_t tokens[MOST_TOKENS];
    double expected[TINY_VOCAB];
    for (int i = 0; i < MOST_TOKENS; i++) tokens[i] = 3 + i * 17 % 250;
    emu_set_order(EMU_RANDOM, (uint64_t)_i);
    for (int n = kinds[_i].prompt; n <= kinds[_i].prompt + 2; n++) {
        ck_assert_msg(!tlm_session_sync(own, tokens, (size_t)n, &err), "%s", err.text);
        ck_assert_msg(!tlm_session_sync(other, tokens, (size_t)n, &err), "%s", err.text);
        for (int i = 0; i < TINY_VOCAB; i++) expected[i] = (double)tlm_session_logits(other)[i];
        const float *logits = tlm_session_logits(own);
        ck_assert_msg(agrees(logits, expected, TINY_VOCAB, kinds[_i].tolerance), "%s, %d tokens: error %g",
                      dtype_traits[shape.type].name, n, rel_error(logits, expected, TINY_VOCAB));
    }
    ck_assert_int_eq(tlm_session_save(own, temp_path(&folder, "session").text, &err), TLM_ERR_UNSUPPORTED);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(gpu), tlm_model_close(oracle);
    temp_folder_close(&folder);
}
END_TEST

// Mixtures of experts and latent attention with so many rows that weights are brought into another form, then with few in the same graph.
START_TEST(test_many_rows)
{
    static const struct {
        const char *path;
        double tolerance;
    } models[] = {
        {"tests/golden/models/deepseek-v3", 1e-5},
        {"tests/golden/models/qwen3moe-norm", 1e-5},
        {"tests/golden/models/gpt-oss-mxfp4", 0.1},
    };
    enum { PROMPT = 77, TOKENS = 79 };
    struct tlm_error err;
    struct tlm_model *m = open_on(models[_i].path, "cuda", NULL, &err),
                     *oracle = open_model(models[_i].path, "f64");
    ck_assert_msg(m != NULL, "%s", err.text);
    const int32_t vocab = tlm_model_vocab_size(m);
    const struct tlm_session_options options = {
        .context = 96, .batch = 70, .kv_type_k = "f32", .kv_type_v = "f32"};
    struct tlm_session *own = open_session(m, options), *other = open_session(oracle, options);
    double *expected = malloc((size_t)vocab * sizeof *expected);
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) tokens[i] = 1 + i * 7 % 20;
    for (size_t n = PROMPT; n <= TOKENS; n++) {
        ck_assert_msg(!tlm_session_sync(own, tokens, n, &err), "%s", err.text);
        ck_assert_msg(!tlm_session_sync(other, tokens, n, &err), "%s", err.text);
        for (int32_t i = 0; i < vocab; i++) expected[i] = (double)tlm_session_logits(other)[i];
        ck_assert_msg(agrees(tlm_session_logits(own), expected, vocab, models[_i].tolerance),
                      "%s, %d tokens: error %g", models[_i].path, (int)n,
                      rel_error(tlm_session_logits(own), expected, vocab));
    }
    free(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m), tlm_model_close(oracle);
}
END_TEST

// "auto" says why it took the CPU; what cannot be is refused.
START_TEST(test_choice)
{
    struct tlm_error err;
    const char *path = "tests/golden/llama-plain.gguf";
    struct tlm_model *m = open_on(path, "auto", NULL, &err);
    ck_assert_msg(!strncmp(tlm_model_backend(m), "cuda: ", 6), "%s", tlm_model_backend(m));
    tlm_model_close(m);
    m = open_on(path, "auto", "f64", &err);
    ck_assert_str_eq(tlm_model_backend(m), "cpu (cuda: computes in float, not in double (isa f64))");
    tlm_model_close(m);
    m = open_on(path, NULL, NULL, &err);
    ck_assert_str_eq(tlm_model_backend(m), "cpu");
    tlm_model_close(m);
    ck_assert_ptr_null(open_on(path, "cuda", "f64", &err));
    ck_assert_ptr_null(open_on(path, "tpu", NULL, &err));
    ck_assert_str_eq(err.text,
                     "tests/golden/llama-plain.gguf: backend: expected auto, cpu or cuda, found 'tpu'");
}
END_TEST

// A kernel that fails is an error of the pass; the emulation knows the place.
START_TEST(test_failure)
{
    struct tlm_error err;
    struct tlm_model *m = open_on("tests/golden/llama-plain.gguf", "cuda", NULL, &err);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 32});
    const int32_t tokens[] = {1, 1 << 20};
    ck_assert_int_eq(tlm_session_sync(s, tokens, 1, &err), TLM_OK);
    cuda_select(NULL, NULL, NULL, tokens, (struct cuda_rows){NULL, 1}, 4); // reads what is in no allocation
    ck_assert_int_eq(tlm_session_sync(s, (const int32_t[]){1, 2}, 2, &err), TLM_ERR_IO);
    ck_assert_msg(strstr(err.text, "select_kernel: block (0,0,0)") || strstr(err.text, "illegal memory"),
                  "%s", err.text);
    tlm_session_close(s);
    tlm_model_close(m);
    emu_forget();
}
END_TEST

// Five sequences that were forked from one prompt, one to three rows each: they attend it together, three times, of which the second run is
// recorded and the third is the recording; between them a run of one sequence alone.
START_TEST(test_forks_cuda)
{
    enum { SEQUENCES = 5, PROMPT = 150, ROWS = 9, VOCAB = 293 };
    struct tlm_error err;
    struct tlm_model *model[2] = {open_on("tests/golden/llama-plain.gguf", "cuda", NULL, &err),
                                  open_model("tests/golden/llama-plain.gguf", "f64")};
    const struct forward_config config = {.context = PROMPT + 4,
                                          .sequences = SEQUENCES,
                                          .max_rows = PROMPT,
                                          .max_outputs = ROWS,
                                          .threads = 1,
                                          .type_k = DTYPE_F16,
                                          .type_v = DTYPE_F16};
    struct forward_row rows[PROMPT];
    struct forward f[2];
    double expected[VOCAB];
    int32_t count = 0;
    emu_set_tiles(_i);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(model[i] && !forward_open(&f[i], model[i], &config, &err), "%s", err.text);
        for (int32_t r = 0; r < PROMPT; r++) rows[r] = (struct forward_row){r * 7919 % VOCAB, r, 0, false};
        ck_assert_msg(!forward_run(&f[i], rows, PROMPT, &err), "%s", err.text);
        for (int32_t s = 1; s < SEQUENCES; s++) ck_assert_int_eq(kv_fork(&f[i].cache, s, 0, PROMPT), PROMPT);
    }
    for (int32_t s = 0; s < SEQUENCES; s++)
        for (int32_t i = 0; i <= s % 3; i++, count++)
            rows[count] = (struct forward_row){(s * 31 + i) % VOCAB, PROMPT + i, s, true};
    ck_assert_int_eq(count, ROWS);
    for (int run = 0; run < 4; run++) {
        const int32_t n = run == 1 ? 1 : ROWS;
        for (int i = 0; i < 2; i++) {
            for (int32_t s = 0; s < SEQUENCES; s++) kv_truncate(&f[i].cache, s, PROMPT);
            ck_assert_msg(!forward_run(&f[i], rows, n, &err), "%s", err.text);
            ck_assert_int_eq(f[i].step.counts[EXTENT_PREFIX_TILES], n > 1);
        }
        for (int32_t r = 0; r < n; r++) {
            for (int i = 0; i < VOCAB; i++) expected[i] = (double)forward_logits(&f[1], r)[i];
            ck_assert_msg(agrees(forward_logits(&f[0], r), expected, VOCAB, 2e-3), "run %d, row %d: error %g",
                          run, (int)r, rel_error(forward_logits(&f[0], r), expected, VOCAB));
        }
    }
    emu_set_tiles(true);
    for (int i = 0; i < 2; i++) forward_close(&f[i]), tlm_model_close(model[i]);
}
END_TEST

Suite *suite_cuda_model(void)
{
    Suite *s = suite_create("cuda_model");
    TCase *t = tcase_create("cuda_model");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_golden);
    tcase_add_loop_test(t, test_architectures_cuda, 0, PARTS);
    tcase_add_loop_test(t, test_types, 0, 15);
    tcase_add_loop_test(t, test_many_rows, 0, 3);
    tcase_add_loop_test(t, test_forks_cuda, 0, 2);
    tcase_add_test(t, test_choice);
    tcase_add_test(t, test_failure);
    suite_add_tcase(s, t);
    return s;
}
