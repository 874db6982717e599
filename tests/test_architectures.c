// tests/test_architectures.c -- every architecture against what transformers computes in double precision: the tiny models of
// tests/golden/models (scripts/golden_common.py), opened as folders, as GGUF files, and as folders that were made of these.
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/json.h"
#include "models/hf_convert.h"
#include "models/model.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

#define MODELS "tests/golden/models/"

static struct tlm_error err;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

// ---- agreement ----------------------------------------------------------------------------------------

// "models/qwen2-tied" of "models/qwen2-tied-20".
static int stem_length(const char *name)
{
    return (int)(strrchr(name, '-') - name);
}

// Products with weights of some types (MXFP4 of gpt-oss; BF16 that it becomes) round activations on tiers that have instructions for it:
// there the model is only near.
static double tolerance_of(const struct tlm_model *m)
{
    double tolerance = m->isa == ISA_F64 ? 1e-6 : 1e-4;
    for (uint64_t i = 0; i < m->gguf->tensor_count; i++)
        if (m->kernels.matmul[m->gguf->tensors[i].tensor.type].x_type != m->real) tolerance = 0.05;
    return tolerance;
}

// All lengths of one model, with prompt chunks of 1, 7 and all tokens.
static void check_model(const char *path, const char *isa, char **names, int count)
{
    static const int32_t batches[] = {1, 7, 512};
    struct tlm_model *m = open_model(path, isa);
    double tolerance = tolerance_of(m);
    for (int i = 0; i < count; i++) {
        struct golden g = golden_read(names[i]);
        char what[512];
        snprintf(what, sizeof what, "%s of %s", names[i], path);
        for (int b = 0; b < 3; b++) golden_check(&g, m, what, batches[b], tolerance);
        golden_free(&g);
    }
    tlm_model_close(m);
}

static void check_tiers(const char *path, char **names, int count)
{
    EACH_ISA (isa, ISA_REF) check_model(path, isa_name(isa), names, count);
    check_model(path, "f64", names, count);
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') ck_assert(!unlinkat(dirfd(dir), e->d_name, 0));
    closedir(dir);
    ck_assert(!rmdir(path));
}

static void check_everywhere(char **names, int count)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path gguf = temp_path(&f, "model.gguf"), back = temp_path(&f, "back");
    char folder[256];
    snprintf(folder, sizeof folder, "tests/golden/%.*s", stem_length(names[0]), names[0]);
    check_tiers(folder, names, count);
    OK(hf_convert_to_gguf(&(struct hf_convert){.in = folder, .out = gguf.text, .type = -1}, &err));
    check_tiers(gguf.text, names, count);
    OK(hf_convert_to_folder(&(struct hf_convert){.in = gguf.text, .out = back.text, .type = -1}, &err));
    check_tiers(back.text, names, count);
    remove_folder(back.text);
    ck_assert_int_eq(temp_folder_close(&f), 1);
}

// The names of architecture `_i`, model by model. Folders are named after the architecture, up to their first dash.
START_TEST(agrees_with_transformers)
{
    int count, models = 0;
    if (!arch_at((size_t)_i)->variant_count) return; // ours alone: tests/test_compose.c
    char **names = golden_names("models", &count);
    const char *arch = arch_at((size_t)_i)->name;
    for (int i = 0, n; i < count; i += n) {
        char folder[256];
        struct tlm_model *m;
        for (n = 1; i + n < count && stem_length(names[i + n]) == stem_length(names[i]); n++)
            if (strncmp(names[i + n], names[i], (size_t)stem_length(names[i])) != 0) break;
        snprintf(folder, sizeof folder, "tests/golden/%.*s", stem_length(names[i]), names[i]);
        m = open_model(folder, NULL);
        bool wanted = !strcmp(m->arch->name, arch);
        tlm_model_close(m);
        if (!wanted) continue;
        check_everywhere(names + i, n);
        models++;
    }
    ck_assert_msg(models >= 3, "%s: expected 3 models in tests/golden/models, found %d", arch, models);
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
}
END_TEST

// ---- what we do not compute ---------------------------------------------------------------------------

// A folder with one setting of its config.json changed. JSON text; NULL removes the key.
static struct temp_folder changed_config(const char *model, const char *key, const char *value)
{
    struct temp_folder f = temp_folder_open();
    char path[256], *target;
    json_t *config;
    snprintf(path, sizeof path, MODELS "%s/config.json", model);
    OK(json_read_file(&config, path, &err));
    json_t *json = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    ck_assert(value ? json && !json_object_set_new(config, key, json) : !json_object_del(config, key));
    ck_assert(!json_dump_file(config, temp_path(&f, "config.json").text, 0));
    json_decref(config);
    snprintf(path, sizeof path, MODELS "%s/model.safetensors", model);
    ck_assert_ptr_nonnull(target = realpath(path, NULL));
    ck_assert(!symlink(target, temp_path(&f, "model.safetensors").text));
    free(target);
    return f;
}

static const struct {
    const char *model, *key, *value;
    const char *found; // part of the message; NULL: it opens
} settings[] = {
    {"llama-llama3", "hidden_act", "\"gelu\"", "hidden_act"},
    {"llama-llama3", "hidden_act", "null", NULL},
    {"llama-llama3", "rope_parameters", "{\"rope_type\": \"mrope\", \"rope_theta\": 1e4}", "rope_type"},
    {"mistral-window", "sliding_window", "-1", "sliding_window"},
    {"mistral-window", "sliding_window", "\"7\"", "sliding_window"},
    {"mistral-all", "layer_types", "[\"chunked_attention\", \"full_attention\"]", "layer_types"},
    {"mistral-all", "head_dim", "null", "expected"}, // width / heads, which the matrices are not
    {"mixtral-all", "num_local_experts", "6", "expected 6"},
    {"mixtral-all", "num_experts_per_tok", "8", "expert_used_count"},
    {"qwen2-tied", "layer_types", "[\"full_attention\", \"sliding_attention\"]", "layer_types"},
    {"qwen2-windows", "layer_types", "[\"full_attention\"]", "layer_types"},
    {"qwen2-windows", "layer_types", "null", NULL},
    {"qwen2-windows", "sliding_window", "null", "layer_types"},
    {"qwen2-windows", "use_sliding_window", "1", "use_sliding_window"},
    {"qwen3-plain", "head_dim", NULL, "expected"},
    {"qwen3-plain", "num_key_value_heads", "2", "head_count_kv"},
    {"qwen3moe-mixed", "hidden_act", "\"relu\"", "hidden_act"},
    {"qwen3moe-mixed", "num_hidden_layers", "3", "tensor"},
    {"granite-tied", "logits_scaling", "0", "scale"},
    {"granite-tied", "logits_scaling", "\"1\"", "logits_scaling"},
    {"ernie4_5-biases", "hidden_act", "\"gelu\"", "hidden_act"},
    {"gpt2-own", "activation_function", "\"relu\"", "activation_function"},
    {"gpt2-own", "scale_attn_by_inverse_layer_idx", "true", "scale_attn_by_inverse_layer_idx"},
    {"gpt2-own", "n_positions", "64", "expected 64"},
    {"gpt2-four", "n_embd", "\"24\"", "n_embd"},
    {"gptneox-tied", "hidden_act", "\"gelu_fast\"", "hidden_act"},
    {"gptneox-serial", "attention_bias", "false", "attention_bias"},
    {"bloom-six", "apply_residual_connection_post_layernorm", "true", "apply_residual"},
    {"bloom-six", "n_head", "7", "heads"},
    {"starcoder2-all", "use_bias", "false", "use_bias"},
    {"starcoder2-all", "norm_type", "\"rms_norm\"", "norm_type"},
    {"phi3-window", "sliding_window", "9000000000", "sliding_window"},
    {"phi3-long", "num_key_value_heads", "3", "head_count_kv"},
    {"olmo2-one", "attention_bias", "true", "attention_bias"},
    {"cohere-long", "hidden_act", "\"gelu\"", "hidden_act"},
    {"cohere2-four", "sliding_window", "null", "sliding_window"},
    {"cohere2-four", "layer_types", "null", NULL},
};

START_TEST(settings_count_or_are_refused)
{
    struct temp_folder f = changed_config(settings[_i].model, settings[_i].key, settings[_i].value);
    struct tlm_model *m;
    enum tlm_status s = tlm_model_open(&m, f.path, NULL, &err);
    if (!settings[_i].found)
        ck_assert_msg(s == TLM_OK, "%s", err.text);
    else
        ck_assert_msg((s == TLM_ERR_FORMAT || s == TLM_ERR_UNSUPPORTED) &&
                          strstr(err.text, settings[_i].found),
                      "%s, %s = %s: found %s", settings[_i].model, settings[_i].key, settings[_i].value,
                      s ? err.text : "that it opens");
    tlm_model_close(m);
    temp_folder_close(&f);
}
END_TEST

// A table of learned positions has an end, which no session may pass.
START_TEST(learned_positions_end)
{
    struct tlm_model *m = open_model(MODELS "gpt2-own", NULL);
    struct tlm_session *session;
    ck_assert_int_eq(tlm_model_context_length(m), 128);
    struct tlm_session_options options = {.context = 129, .threads = 1};
    ck_assert_int_eq(tlm_session_open(&session, m, &options, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "128 positions"));
    options.context = 128;
    tlm_session_close(open_session(m, options));
    tlm_model_close(m);
}
END_TEST

// ---- files whose layers are not whole -----------------------------------------------------------------

// Copies a GGUF file, one tensor left out (`drop`) or with another name.
static void copy_but(const char *from, const char *to, const char *tensor, const char *name)
{
    struct gguf *g;
    struct gguf_writer *w;
    OK(gguf_open(&g, from, &err));
    OK(gguf_writer_open(&w, to, &err));
    for (uint64_t i = 0; i < g->key_count; i++) gguf_set_value(w, g->keys[i].name, &g->keys[i].value);
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        char own[96];
        snprintf(own, sizeof own, "%.*s", (int)g->tensors[i].name.length, g->tensors[i].name.data);
        bool it = !strcmp(own, tensor);
        if (!it || name) gguf_add_tensor(w, it ? name : own, &g->tensors[i].tensor);
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        if (name || !gguf_string_is(g->tensors[i].name, tensor))
            OK(gguf_write_data(w, t->data, tensor_bytes(t), &err));
    }
    OK(gguf_writer_finish(w, &err));
    gguf_writer_close(w);
    gguf_close(g);
}

static const struct {
    const char *model, *tensor, *name, *found;
} tensors[] = {
    {"llama-linear", "blk.1.ffn_up.weight", NULL, "ffn_up"},
    {"llama-linear", "blk.1.ffn_up.weight", "blk.1.ffn_extra.weight", "ffn_"},
    {"mixtral-window", "blk.1.ffn_gate_inp.weight", NULL, "blk.1"},
    {"mixtral-window", "blk.0.ffn_down_exps.weight", NULL, "ffn_down_exps"},
    {"qwen2-tied", "blk.0.attn_q.bias", NULL, "blk.0.attn_q.bias"},
    {"qwen3-plain", "blk.0.attn_q_norm.weight", NULL, "attn_q_norm"},
    {"qwen3moe-mixed", "blk.1.ffn_up_exps.weight", NULL, "ffn_up_exps"},
    {"qwen3moe-mixed", "blk.0.ffn_gate.weight", NULL, "ffn_gate"},
    {"gpt2-own", "position_embd.weight", NULL, "position_embd"},
    {"bloom-six", "token_embd_norm.bias", NULL, "token_embd_norm.bias"},
    {"phi3-part", "blk.1.ffn_up.weight", "blk.1.ffn_gate.weight", "ffn_up"},
    {"olmo2-one", "blk.0.post_attention_norm.weight", NULL, "post_attention_norm"},
};

START_TEST(missing_tensors_are_named)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path whole = temp_path(&f, "whole.gguf"), part = temp_path(&f, "part.gguf");
    char folder[256];
    struct tlm_model *m;
    snprintf(folder, sizeof folder, MODELS "%s", tensors[_i].model);
    OK(hf_convert_to_gguf(&(struct hf_convert){.in = folder, .out = whole.text, .type = -1}, &err));
    copy_but(whole.text, part.text, tensors[_i].tensor, tensors[_i].name);
    enum tlm_status s = tlm_model_open(&m, part.text, NULL, &err);
    ck_assert_msg((s == TLM_ERR_FORMAT || s == TLM_ERR_UNSUPPORTED) && strstr(err.text, tensors[_i].found),
                  "without %s: found %s", tensors[_i].tensor, s ? err.text : "that it opens");
    temp_folder_close(&f);
}
END_TEST

Suite *suite_architectures(void)
{
    Suite *s = suite_create("architectures");
    TCase *t = tcase_create("architectures");
    int count = 0;
    while (arch_at((size_t)count)) count++;
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, agrees_with_transformers, 0, count);
    tcase_add_loop_test(t, settings_count_or_are_refused, 0, (int)(sizeof settings / sizeof *settings));
    tcase_add_test(t, learned_positions_end);
    tcase_add_loop_test(t, missing_tensors_are_named, 0, (int)(sizeof tensors / sizeof *tensors));
    suite_add_tcase(s, t);
    return s;
}
