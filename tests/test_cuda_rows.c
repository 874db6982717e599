// tests/test_cuda_rows.c -- devices that share each layer, on the emulation: the logits of the processor in double from every architecture, with
// a library that adds up and without; parts of what memory was; what is refused.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate/forward.h"
#include "models/rows.h"
#include "tests/alloc.h"
#include "tests/cuda_emu/control.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/placed.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

static const struct {
    struct placed_setting how;
    bool library;
} settings[] = {
    {{"two", 2, 0, NULL, NULL, "row"}, false},
    {{"two with a library", 2, 0, NULL, "1,1", "row"}, true},
    {{"three of unlike shares", 3, 0, NULL, "3,1,2", "row"}, true},
    {{"three without a library", 3, 0, NULL, "1,1,1", "row"}, false},
    {{"the last layer", 2, 1, NULL, "1,1", "row"}, true},
    {{"with rules", 3, 0, "blk\\.0\\..*(attn_q|qkv|ffn_up|down_exps)=cpu,ffn_down=cuda:2,attn_v=cuda:0",
      "1,1,0", "row"},
     false},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static const struct {
    const char *path;
    double tolerance;
} models[] = {
    {"tests/golden/llama-plain.gguf", 1e-5},      {"tests/golden/llama-bias.gguf", 1e-5},
    {"tests/golden/models/qwen2-tied", 1e-5},     {"tests/golden/models/gpt2-four", 1e-5},
    {"tests/golden/models/gemma2-windows", 1e-5}, {"tests/golden/models/gemma3-bases", 1e-5},
    {"tests/golden/models/phi3-part", 1e-5},      {"tests/golden/models/gptneox-parallel", 1e-5},
    {"tests/golden/models/bloom-six", 1e-5},      {"tests/golden/models/cohere-norms", 1e-5},
    {"tests/golden/models/olmo2-grouped", 1e-5},  {"tests/golden/models/starcoder2-all", 1e-5},
    {"tests/golden/models/qwen3moe-mixed", 1e-5}, {"tests/golden/models/mixtral-all", 1e-5},
    {"tests/golden/models/deepseek-v2", 1e-5},    {"tests/golden/models/granite-tied", 1e-5},
    {"tests/golden/models/gpt-oss-mxfp4", 0.1},
};
enum { MODELS = sizeof models / sizeof *models };

static bool begin(const struct placed_setting *how, bool library, int turn)
{
    if (emu_set_devices(how->devices) < how->devices) return false;
    emu_set_order((enum emu_order)(turn % EMU_ORDERS), (uint64_t)turn);
    emu_set_nccl(library);
    return true;
}

START_TEST(test_logits)
{
    const struct placed_setting *how = &settings[_i].how;
    const int64_t sums = emu_nccl_sums();
    if (!begin(how, settings[_i].library, _i)) return;
    // All of them two by two, with a library and without; of those some with the rest.
    for (int i = 0; i < MODELS; i++) {
        if (_i > 1 && i % 4 != _i % 4) continue;
        struct tlm_error err;
        struct tlm_model *m;
        const enum tlm_status status = placed_open(&m, models[i].path, how, &err);
        if (status == TLM_ERR_ARGUMENT && strstr(err.text, "matches the name of no matrix")) continue;
        ck_assert_msg(!status, "%s, %s: %s", models[i].path, how->name, err.text);
        ck_assert(rows_chosen(m));
        placed_check_logits(m, models[i].path, how->name, models[i].tolerance);
        tlm_model_close(m);
    }
    if (emu_here()) ck_assert_int_eq(emu_nccl_sums() > sums, settings[_i].library);
}
END_TEST

// Inputs of quantized matrices are cut between blocks; where there are too few, outputs are.
static const struct {
    enum dtype type;
    int devices;
} types[] = {{DTYPE_BF16, 2}, {DTYPE_Q8_0, 3}, {DTYPE_Q4_K, 2}};
enum { TYPES = sizeof types / sizeof *types };

START_TEST(test_types)
{
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "tiny.gguf");
    const struct placed_setting how = {
        .devices = types[_i].devices, .split = types[_i].devices == 2 ? "1,1" : "1,1,1", .mode = "row"};
    const int64_t block = dtype_traits[types[_i].type].block_size;
    struct tlm_error err;
    struct tlm_model *m;
    if (!begin(&how, true, _i)) return;
    tiny_model_write(path.text, &(struct tiny_model){.type = types[_i].type, .width = 256});
    ck_assert_msg(!placed_open(&m, path.text, &how, &err), "%s", err.text);
    const struct layer *w = &m->weights.layer[0];
    ck_assert(w->wq->cut && w->wq->axis == 1 && w->gate->cut && w->gate->axis == 1);
    ck_assert_int_eq(w->wo->axis, block > 128);
    ck_assert_int_eq(w->down->axis, 0);
    placed_check_logits(m, path.text, dtype_traits[types[_i].type].name, 0.1);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// Rows of several sequences, some of whose keys are copied, with the cache's heads in several places.
START_TEST(test_forks)
{
    static const char *const paths[] = {"tests/golden/models/qwen3moe-mixed",
                                        "tests/golden/models/deepseek-v2"};
    const struct placed_setting *how = &settings[_i].how;
    if (!begin(how, settings[_i].library, _i)) return;
    for (int i = 0; i < 2; i++) {
        struct tlm_error err;
        struct tlm_model *m, *oracle = open_model(paths[i], "f64");
        ck_assert_msg(!placed_open(&m, paths[i], how, &err), "%s: %s", how->name, err.text);
        float *own = placed_fork_logits(m, DTYPE_F32), *other = placed_fork_logits(oracle, DTYPE_F64);
        const int64_t count = 9 * m->hparams.vocab;
        double *expected = malloc((size_t)count * sizeof *expected);
        for (int64_t j = 0; j < count; j++) expected[j] = (double)other[j];
        ck_assert_msg(agrees(own, expected, count, 1e-5), "%s, %s: error %g", paths[i], how->name,
                      rel_error(own, expected, count));
        free(own), free(other), free(expected);
        tlm_model_close(m), tlm_model_close(oracle);
    }
}
END_TEST

START_TEST(test_guesses)
{
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "tiny.gguf");
    const struct placed_setting *how = &settings[_i].how;
    struct tlm_error err;
    struct tlm_drafter *d;
    struct tlm_model *m, *plain;
    if (!begin(how, true, _i)) return;
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 128, .bigram = true});
    plain = open_model(path.text, NULL);
    ck_assert_msg(!placed_open(&m, path.text, how, &err), "%s", err.text);
    ck_assert_int_eq(tlm_drafter_open_lookup(&d, &err), TLM_OK);
    struct tlm_generate_result guessed = placed_greedy(m, d), expected = placed_greedy(plain, NULL);
    ck_assert_int_eq(guessed.new_tokens, expected.new_tokens);
    ck_assert_mem_eq(guessed.tokens, expected.tokens,
                     (size_t)(expected.prompt_tokens + expected.new_tokens) * sizeof *expected.tokens);
    ck_assert_int_gt(guessed.accepted_tokens, 0);
    free(guessed.tokens), free(expected.tokens);
    tlm_drafter_close(d);
    tlm_model_close(m), tlm_model_close(plain);
    temp_folder_close(&folder);
}
END_TEST

// ---- memory -------------------------------------------------------------------------------------------

// What a session takes of each device, and of them the cache.
struct taken {
    size_t bytes[EMU_DEVICES], cache[EMU_DEVICES];
};

static struct taken take(const char *path, const struct placed_setting *how)
{
    const struct forward_config config = {.context = 2048,
                                          .sequences = 1,
                                          .max_rows = 4,
                                          .max_outputs = 1,
                                          .threads = 1,
                                          .type_k = DTYPE_F16,
                                          .type_v = DTYPE_F16};
    struct taken t = {0};
    struct tlm_error err;
    struct tlm_model *m;
    struct forward f;
    emu_set_devices(2);
    ck_assert_msg(!placed_open(&m, path, how, &err), "%s", err.text);
    ck_assert_msg(!forward_open(&f, m, &config, &err), "%s", err.text);
    for (int i = 0; i < 2; i++) t.bytes[i] = emu_bytes(i), t.cache[i] = f.cache.memory[i + 1].size;
    forward_close(&f);
    tlm_model_close(m);
    return t;
}

// Of two equal devices each has half of the matrices and half of the cache; beside them the embedding, norms, activations.
START_TEST(test_memory)
{
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "tiny.gguf");
    const struct placed_setting one = {.split = "1,0"}, two = {.split = "1,1", .mode = "row"};
    if (emu_set_devices(2) < 2 || !emu_here()) return;
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 256});
    const struct taken all = take(path.text, &one), half = take(path.text, &two);
    const size_t embedding = (size_t)TINY_VOCAB * 256 * sizeof(float);
    ck_assert_uint_eq(half.cache[0], all.cache[0] / 2);
    ck_assert_uint_eq(half.cache[1], all.cache[0] / 2);
    ck_assert_uint_lt(half.bytes[0], (all.bytes[0] + embedding) / 2 + all.bytes[0] / 10);
    ck_assert_uint_lt(half.bytes[1], half.bytes[0] - embedding / 2);
    temp_folder_close(&folder);
}
END_TEST

// ---- choosing -----------------------------------------------------------------------------------------

static void says(const struct tlm_model *m, int32_t place, const char *expected)
{
    char text[512];
    ck_assert(tlm_model_place(m, place, text, sizeof text));
    ck_assert_msg(strstr(text, expected) != NULL, "place %d: expected '%s', found '%s'", (int)place, expected,
                  text);
}

START_TEST(test_words)
{
    const char *path = "tests/golden/llama-plain.gguf";
    const struct placed_setting row = {.split = "1,1", .mode = "row"}, alone = {.split = "1", .mode = "row"};
    struct tlm_error err;
    struct tlm_model *m;
    if (emu_set_devices(2) < 2) return;
    ck_assert_msg(!placed_open(&m, path, &row, &err), "%s", err.text);
    ck_assert_str_eq(tlm_model_backend(m), "cuda: 2 devices that share each layer");
    says(m, 1, "parts of layers 0 to ");
    says(m, 2, "parts of layers 0 to ");
    says(m, 2, ", a part of the head");
    tlm_model_close(m);
    ck_assert_msg(!placed_open(&m, path, &alone, &err), "%s", err.text); // nobody to share with
    ck_assert(!rows_chosen(m));
    tlm_model_close(m);
    const struct {
        const char *backend, *mode, *expected;
    } bad[] = {
        {"cuda", "column", "split mode: expected layer or row, found 'column'"},
        {"cpu", "row",
         "split mode: row shares layers among GPUs: expected cuda or auto as backend, found cpu"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct tlm_model_options options = {.backend = bad[i].backend, .split_mode = bad[i].mode};
        ck_assert_int_eq(tlm_model_open(&m, path, &options, &err), TLM_ERR_ARGUMENT);
        ck_assert_msg(strstr(err.text, bad[i].expected) != NULL, "%s", err.text);
    }
}
END_TEST

static bool survives(long n)
{
    static const struct placed_setting row = {"", 2, 0, NULL, "1,1", "row"};
    static const int32_t tokens[] = {1, 5, 7};
    struct tlm_model *m = NULL;
    struct tlm_session *s = NULL;
    struct tlm_error err = {0};
    alloc_fail_after(n);
    enum tlm_status status = placed_open(&m, "tests/golden/models/qwen3moe-plain", &row, &err);
    if (!status)
        status = tlm_session_open(&s, m, &(struct tlm_session_options){.context = 32, .threads = 1}, &err);
    alloc_fail_after(-1); // the emulation itself allocates when it launches
    if (!status) status = tlm_session_sync(s, tokens, 3, &err);
    tlm_session_close(s);
    tlm_model_close(m);
    if (!status) return true;
    ck_assert_msg(status == TLM_ERR_MEMORY || status == TLM_ERR_IO, "allocation %ld: status %d: %s", n,
                  status, err.text);
    return false;
}

START_TEST(test_failing_allocator)
{
    long n = 0;
    emu_set_devices(2);
    emu_set_nccl(true);
    while (!survives(n)) n++;
    ck_assert_int_gt(n, 40);
}
END_TEST

Suite *suite_cuda_rows(void)
{
    Suite *s = suite_create("cuda_rows");
    TCase *t = tcase_create("cuda_rows");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_logits, 0, SETTINGS);
    tcase_add_loop_test(t, test_types, 0, TYPES);
    tcase_add_loop_test(t, test_forks, 0, SETTINGS - 1);
    tcase_add_loop_test(t, test_guesses, 1, 3);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_words);
    tcase_add_test(t, test_failing_allocator);
    suite_add_tcase(s, t);
    return s;
}
