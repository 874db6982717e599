// tests/test_cuda_places.c -- models over the processor and one or several devices, on the emulation: the same logits wherever layers and
// matrices are; chunks, forks and guesses there; and what is refused.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/kernels.h"
#include "models/model.h"
#include "tests/alloc.h"
#include "tests/cuda_emu/control.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/placed.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

// What differs is where layers and matrices are.
static const struct placed_setting settings[] = {
    {"all on one", 1, 0, NULL, NULL, NULL},
    {"the last layer", 1, 1, NULL, NULL, NULL},
    {"experts on the processor", 1, 0, "_exps=cpu", NULL, NULL},
    {"experts in pieces", 2, 0, "ffn_up_exps=cpu,ffn_gate_exps=cuda:1", NULL, NULL},
    {"layers in turn", 1, 0, "blk\\.[02468]\\.=cpu", NULL, NULL},
    {"two devices", 2, 0, NULL, NULL, NULL},
    {"two devices and the processor", 2, 1, "ffn_(down|gate_inp)=cuda:1", "1,1", NULL},
    {"single matrices", 3, 0,
     "blk\\.1\\..*(attn_output|attn_q|qkv)=cpu,ffn_(down|up)=cuda:2,token_embd=cuda:1", NULL, NULL},
    {"embedding and head on the processor", 2, 0, "^(token_embd|output)=cpu", "0,1", NULL},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static const struct {
    const char *path;
    double tolerance;
} models[] = {
    {"tests/golden/llama-plain.gguf", 1e-5},        {"tests/golden/models/gpt2-four", 1e-5},
    {"tests/golden/models/gemma2-windows", 1e-5},   {"tests/golden/models/gemma3-bases", 1e-5},
    {"tests/golden/models/deepseek-v2", 1e-5},      {"tests/golden/models/qwen3moe-mixed", 1e-5},
    {"tests/golden/models/gptneox-parallel", 1e-5}, {"tests/golden/models/bloom-six", 1e-5},
    {"tests/golden/models/gpt-oss-mxfp4", 0.1},     {"tests/golden/models/granite-tied", 1e-5},
};
enum { MODELS = sizeof models / sizeof *models };

START_TEST(test_logits)
{
    const struct placed_setting *s = &settings[_i];
    int ran = 0;
    if (emu_set_devices(s->devices) < s->devices) return;
    emu_set_order((enum emu_order)(_i % EMU_ORDERS), (uint64_t)_i);
    for (int i = 0; i < MODELS; i++) {
        struct tlm_error err;
        struct tlm_model *m;
        const enum tlm_status status = placed_open(&m, models[i].path, s, &err);
        if (status == TLM_ERR_ARGUMENT && strstr(err.text, "matches the name of no matrix"))
            continue; // no experts
        ck_assert_msg(!status, "%s: %s", s->name, err.text);
        placed_check_logits(m, models[i].path, s->name, models[i].tolerance);
        tlm_model_close(m);
        ran++;
    }
    ck_assert_int_ge(ran, 2);
}
END_TEST

// ---- sequences and guesses ----------------------------------------------------------------------------

START_TEST(test_forks)
{
    const struct placed_setting *s = &settings[_i];
    const char *path = "tests/golden/models/deepseek-v2";
    struct tlm_error err;
    struct tlm_model *m, *oracle = open_model(path, "f64");
    if (emu_set_devices(s->devices) < s->devices) return;
    ck_assert_msg(!placed_open(&m, path, s, &err), "%s: %s", s->name, err.text);
    float *own = placed_fork_logits(m, DTYPE_F32), *other = placed_fork_logits(oracle, DTYPE_F64);
    const int64_t count = 9 * m->hparams.vocab;
    double *expected = malloc((size_t)count * sizeof *expected);
    for (int64_t i = 0; i < count; i++) expected[i] = (double)other[i];
    ck_assert_msg(agrees(own, expected, count, 1e-5), "%s: error %g", s->name,
                  rel_error(own, expected, count));
    free(own), free(other), free(expected);
    tlm_model_close(m), tlm_model_close(oracle);
}
END_TEST

// Guesses are branches, which are forked, checked and cut off again.
START_TEST(test_guesses)
{
    const struct temp_folder folder = temp_folder_open();
    const struct temp_path path = temp_path(&folder, "tiny.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 128, .bigram = true});
    struct tlm_error err;
    struct tlm_drafter *d;
    struct tlm_model *m, *plain = open_model(path.text, NULL);
    emu_set_devices(2);
    const struct placed_setting mixed = {"", 2, 0, "blk\\.0\\.ffn=cpu", NULL, NULL};
    ck_assert_msg(!placed_open(&m, path.text, &mixed, &err), "%s", err.text);
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

// ---- choosing -----------------------------------------------------------------------------------------

// What a place says of itself, without the device's name.
static void says(const struct tlm_model *m, int32_t place, const char *expected)
{
    char text[512];
    ck_assert(tlm_model_place(m, place, text, sizeof text));
    ck_assert_msg(strstr(text, expected) != NULL, "place %d: expected '%s', found '%s'", (int)place, expected,
                  text);
}

// Layers by shares, by free memory, and by rules.
START_TEST(test_shares)
{
    const char *path = "tests/golden/models/qwen3moe-plain";
    struct tlm_error err;
    struct tlm_model *m;
    char text[512];
    if (emu_set_devices(2) < 2) return;
    ck_assert_int_eq(placed_open(&m, path, &(struct placed_setting){.split = "1,0"}, &err), TLM_OK);
    ck_assert_int_eq(m->place_count, 2); // the other is not opened
    ck_assert_msg(!m->shared && !strncmp(tlm_model_backend(m), "cuda: ", 6), "%s", tlm_model_backend(m));
    const int64_t layers = m->hparams.layers;
    tlm_model_close(m);
    ck_assert_int_eq(placed_open(&m, path, &(struct placed_setting){.split = "1,1"}, &err), TLM_OK);
    ck_assert_int_eq(m->layer_places[0], 1);
    ck_assert_int_eq(m->layer_places[layers - 1], 2);
    ck_assert_int_eq(m->weights.embed->place, 1);
    ck_assert_int_eq(m->head.weight->place, 2);
    says(m, 0, "cpu: 0 matrices");
    says(m, 1, "cuda:0 (");
    says(m, 2, ", the head");
    ck_assert(!tlm_model_place(m, 3, text, sizeof text));
    ck_assert_str_eq(tlm_model_backend(m), "cuda: 2 devices");
    tlm_model_close(m);
    emu_set_free(0, 1); // a device has what it has
    ck_assert_int_eq(placed_open(&m, path, &(struct placed_setting){0}, &err), TLM_OK);
    for (int64_t l = 0; l < layers && emu_here(); l++) ck_assert_int_eq(m->layer_places[l], 2);
    tlm_model_close(m);
    ck_assert_int_eq(
        placed_open(&m, path,
                    &(struct placed_setting){.layers = 1, .placement = "blk.0.attn_q=CUDA", .split = "1"},
                    &err),
        TLM_OK);
    ck_assert_int_eq(m->layer_places[0], 0);
    ck_assert_int_eq(m->weights.layer[0].wq->place, 1); // a device's, though its layer is the processor's
    ck_assert_int_eq(m->weights.layer[0].wk->place, 0);
    ck_assert_msg(strstr(tlm_model_backend(m), ", and the CPU") != NULL, "%s", tlm_model_backend(m));
    tlm_model_close(m);
}
END_TEST

// One line that says what is wrong; and with "auto" what makes no sense is no reason for the processor.
START_TEST(test_bad_rules)
{
    static const struct {
        const char *placement, *split, *expected;
    } bad[] = {
        {"attn_q", NULL,
         "tensor placement: expected REGEX=PLACE, with cpu, cuda or cuda:N as the place, found 'attn_q'"},
        {"attn_q=gpu", NULL,
         "tensor placement: expected REGEX=PLACE, with cpu, cuda or cuda:N as the place, found 'attn_q=gpu'"},
        {"attn_q=cpu,=cpu", NULL,
         "tensor placement: expected REGEX=PLACE, with cpu, cuda or cuda:N as the place, found '=cpu'"},
        {"", NULL, "tensor placement: expected REGEX=PLACE, with cpu, cuda or cuda:N as the place, found ''"},
        {"attn_(q=cpu", NULL, "tensor placement: 'attn_(q' is no regular expression: "},
        {"experts=cpu", NULL, "tensor placement: 'experts' matches the name of no matrix of the model"},
        {"attn_norm=cpu", NULL, "tensor placement: 'attn_norm' matches the name of no matrix of the model"},
        {"attn_q=cuda:7", NULL, "tensor placement: cuda:7: expected a device from 0 to 1"},
        {NULL, "1,2,3", "tensor split: expected at most 2 shares, one a device, found '1,2,3'"},
        {NULL, "0,0", "tensor split: expected a share above 0, found '0,0'"},
        {NULL, "1;1", "tensor split: expected a share for each device, such as 3,1, found '1;1'"},
        {NULL, "1,", "tensor split: expected a share for each device, such as 3,1, found '1,'"},
    };
    struct tlm_error err;
    struct tlm_model *m;
    if (emu_set_devices(2) < 2) return;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int any = 0; any < 2; any++) {
            const struct tlm_model_options options = {.backend = any ? "auto" : "cuda",
                                                      .tensor_placement = &bad[i].placement,
                                                      .tensor_placement_count = bad[i].placement != NULL,
                                                      .tensor_split = bad[i].split};
            ck_assert_int_eq(tlm_model_open(&m, "tests/golden/llama-plain.gguf", &options, &err),
                             TLM_ERR_ARGUMENT);
            ck_assert_msg(strstr(err.text, bad[i].expected) != NULL, "expected '%s', found '%s'",
                          bad[i].expected, err.text);
        }
    // A comma within an expression, and a place that is no end.
    const struct placed_setting odd = {.placement = "attn_[qk]{1,2}=cpu,x{0,1}ffn_down=CUDA1"};
    ck_assert_msg(!placed_open(&m, "tests/golden/llama-plain.gguf", &odd, &err), "%s", err.text);
    ck_assert_int_eq(m->weights.layer[0].wk->place, 0);
    ck_assert_int_eq(m->weights.layer[0].down->place, 2);
    tlm_model_close(m);
}
END_TEST

// ---- failures -----------------------------------------------------------------------------------------

static bool survives(long n)
{
    static const struct placed_setting mixed = {"", 2, 0, "_exps=cpu", "1,1", NULL};
    static const int32_t tokens[] = {1, 5, 7};
    struct tlm_model *m = NULL;
    struct tlm_session *s = NULL;
    struct tlm_error err = {0};
    alloc_fail_after(n);
    enum tlm_status status = placed_open(&m, "tests/golden/models/qwen3moe-plain", &mixed, &err);
    if (!status)
        status = tlm_session_open(&s, m, &(struct tlm_session_options){.context = 32, .threads = 1}, &err);
    alloc_fail_after(-1); // the emulation itself allocates when it launches
    if (!status) status = tlm_session_sync(s, tokens, 3, &err);
    tlm_session_close(s);
    tlm_model_close(m);
    if (!status) return true;
    ck_assert_msg(status == TLM_ERR_MEMORY || status == TLM_ERR_IO, "allocation %ld: status %d: %s", n,
                  status, err.text);
    ck_assert_uint_gt(strlen(err.text), 0);
    return false;
}

START_TEST(test_failing_allocator)
{
    long n = 0;
    emu_set_devices(2);
    while (!survives(n)) n++;
    ck_assert_int_gt(n, 40);
}
END_TEST

// The emulation sees a launch that touches another device's memory, and a stream of one that is not in use.
static void touch_other(bool stream)
{
    struct tlm_error err;
    struct cuda_device d[2];
    emu_set_devices(2);
    cuda_open(&d[0], 0, &err);
    float *x = cuda_alloc(64);
    struct cuda_stream *s = cuda_stream_open();
    cuda_open(&d[1], 1, &err);
    float *y = cuda_alloc(64);
    int32_t *row = cuda_alloc(sizeof *row);
    *row = 0;
    cuda_select(stream ? s : NULL, y, x, row, (struct cuda_rows){NULL, 1}, 4);
    ck_assert_msg(emu_error() && strstr(emu_error(), "memory of device 0 in a launch on device 1"), "%s",
                  emu_error());
    emu_forget();
    cuda_copy_between(NULL, y, &d[1], x, &d[0], 64);
    cuda_select(NULL, y, y, row, (struct cuda_rows){NULL, 1}, 4);
    ck_assert_ptr_null(emu_error());
    cuda_free(x), cuda_free(y), cuda_free(row);
    cuda_stream_close(s);
}

START_TEST(test_other_memory)
{
    touch_other(false);
}
END_TEST

START_TEST(test_other_stream)
{
    touch_other(true);
}
END_TEST

Suite *suite_cuda_places(void)
{
    Suite *s = suite_create("cuda_places");
    TCase *t = tcase_create("cuda_places");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_logits, 0, SETTINGS);
    tcase_add_loop_test(t, test_forks, 0, SETTINGS);
    tcase_add_test(t, test_guesses);
    tcase_add_test(t, test_shares);
    tcase_add_test(t, test_bad_rules);
    suite_add_tcase(s, t);
    // A device's libraries allocate, too, which have failures of their own; and its memory is out of the host's reach.
    if (!emu_here()) return s;
    tcase_add_test(t, test_failing_allocator);
    tcase_add_test(t, test_other_memory);
    tcase_add_test_raise_signal(t, test_other_stream, 6); // SIGABRT
    return s;
}
