// tests/test_hf.c -- folders of Hugging Face: opened, converted, written back, against what transformers computes for them.
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "core/rng.h"
#include "models/hf_convert.h"
#include "models/hf_folder.h"
#include "quant/quant.h"
#include "tests/golden.h"
#include "tests/hf_copy.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

static struct tlm_error err;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

// ---- files --------------------------------------------------------------------------------------------

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') ck_assert(!unlinkat(dirfd(dir), e->d_name, 0));
    closedir(dir);
    ck_assert(!rmdir(path));
}

static void convert(const char *in, const char *out, int type)
{
    struct stat st;
    struct hf_convert c = {.in = in, .out = out, .type = type};
    bool folder = !stat(in, &st) && S_ISDIR(st.st_mode);
    OK((folder ? hf_convert_to_gguf : hf_convert_to_folder)(&c, &err));
}

// ---- logits -------------------------------------------------------------------------------------------

static void check_logits(const char *path, const char *golden, const char *isa, double tolerance)
{
    struct golden g = golden_read(golden);
    struct tlm_model *m = open_model(path, isa);
    static const int32_t batches[] = {1, 7, 512};
    for (int i = 0; i < 3; i++) golden_check(&g, m, path, batches[i], tolerance);
    tlm_model_close(m);
    golden_free(&g);
}

static const struct {
    const char *name, *golden;
} folders[] = {{"single", "hf/single-33"}, {"shards", "hf/shards-90"}};

// The same shards in both, whatever the files.
static void check_same_weights(const char *a, const char *b)
{
    struct safetensors *x, *y;
    OK(safetensors_open(&x, a, &err));
    OK(safetensors_open(&y, b, &err));
    ck_assert_uint_eq(x->count, y->count);
    for (size_t i = 0; i < x->count; i++) {
        const struct safetensors_tensor *s = &x->tensors[i], *t = &y->tensors[i];
        ck_assert_str_eq(s->name, t->name);
        ck_assert_msg(s->type == t->type && s->dims == t->dims && s->bytes == t->bytes, "%s", s->name);
        ck_assert_msg(!memcmp(s->shape, t->shape, (size_t)s->dims * sizeof *s->shape), "%s", s->name);
        ck_assert_msg(!memcmp(s->data, t->data, s->bytes), "%s: other numbers", s->name);
    }
    safetensors_close(x);
    safetensors_close(y);
}

START_TEST(there_and_back)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path gguf = temp_path(&f, "model.gguf"), back = temp_path(&f, "back");
    char folder[256];
    snprintf(folder, sizeof folder, GOLDEN "%s", folders[_i].name);
    convert(folder, gguf.text, -1);
    convert(gguf.text, back.text, -1);
    check_same_weights(folder, back.text);
    const char *const paths[] = {folder, gguf.text, back.text};
    for (int i = 0; i < 3; i++) {
        check_logits(paths[i], folders[_i].golden, "ref", 1e-4);
        check_logits(paths[i], folders[_i].golden, "f64", 1e-6);
    }
    remove_folder(back.text);
    ck_assert_int_eq(temp_folder_close(&f), 1);
}
END_TEST

START_TEST(open_is_like_converted)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path path = temp_path(&f, "model.gguf");
    struct gguf *a, *b;
    char folder[256];
    snprintf(folder, sizeof folder, GOLDEN "%s", folders[_i].name);
    convert(folder, path.text, -1);
    OK(model_file_open(&a, folder, MODEL_ALL, &err));
    OK(model_file_open(&b, path.text, MODEL_ALL, &err));
    ck_assert_uint_eq(a->tensor_count, b->tensor_count);
    for (uint64_t i = 0; i < a->tensor_count; i++) {
        const struct tensor *s = &a->tensors[i].tensor, *t = &b->tensors[i].tensor;
        ck_assert(a->tensors[i].name.length == b->tensors[i].name.length && s->type == t->type);
        ck_assert(!memcmp(s->ne, t->ne, sizeof s->ne) && !memcmp(s->data, t->data, tensor_bytes(s)));
        gguf_drop_pages(a, s);
        ck_assert(!memcmp(s->data, t->data, tensor_bytes(s))); // what was made in memory is still there
    }
    struct gguf *shapes;
    OK(model_file_open(&shapes, folder, MODEL_SHAPES, &err));
    for (uint64_t i = 0; i < a->tensor_count; i++)
        ck_assert(tensor_bytes(&shapes->tensors[i].tensor) == tensor_bytes(&a->tensors[i].tensor));
    gguf_close(shapes);
    for (uint64_t i = 0; i < a->key_count; i++) {
        const struct gguf_key *k = &a->keys[i];
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)k->name.length, k->name.data);
        const struct gguf_value *v = gguf_find(b, name);
        ck_assert_msg(v && v->type == k->value.type && v->count == k->value.count, "%s", name);
        ck_assert(!memcmp(v->data, k->value.data, (size_t)(v->end - v->data)));
    }
    gguf_close(a);
    gguf_close(b);
    temp_folder_close(&f);
}
END_TEST

START_TEST(types)
{
    static const enum dtype all[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    struct temp_folder f = temp_folder_open();
    struct temp_path path = temp_path(&f, "model.gguf"), back = temp_path(&f, "back");
    for (int i = 0; i < 3; i++) {
        struct gguf *g;
        struct safetensors *s;
        convert(GOLDEN "single", path.text, (int)all[i]);
        OK(gguf_open(&g, path.text, &err));
        ck_assert(gguf_find_tensor(g, "blk.1.attn_q.weight")->tensor.type == all[i]);
        ck_assert(gguf_find_tensor(g, "blk.1.attn_q.bias")->tensor.type == DTYPE_F32);
        gguf_close(g);
        if (all[i] == DTYPE_F32) check_logits(path.text, "hf/single-33", "ref", 1e-4);
        convert(path.text, back.text, (int)all[2 - i]);
        OK(safetensors_open(&s, back.text, &err));
        for (size_t t = 0; t < s->count; t++)
            ck_assert_int_eq(safetensors_types[s->tensors[t].type].dtype, (int)all[2 - i]);
        safetensors_close(s);
        remove_folder(back.text);
    }
    temp_folder_close(&f);
}
END_TEST

static bool stop(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done * 2 < total;
}

START_TEST(stopped_leaves_nothing)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path path = temp_path(&f, "model.gguf"), back = temp_path(&f, "back");
    struct hf_convert c = {.in = GOLDEN "single", .out = path.text, .type = -1, .progress = stop};
    ck_assert_int_eq(hf_convert_to_gguf(&c, &err), TLM_ERR_ARGUMENT);
    convert(GOLDEN "single", path.text, -1);
    c.in = path.text;
    c.out = back.text;
    ck_assert_int_eq(hf_convert_to_folder(&c, &err), TLM_ERR_ARGUMENT);
    c.progress = NULL;
    c.out = GOLDEN "single"; // something is there
    ck_assert_int_eq(hf_convert_to_folder(&c, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "something there"));
    ck_assert_int_eq(temp_folder_close(&f), 1);
}
END_TEST

// ---- metadata -----------------------------------------------------------------------------------------

START_TEST(tokenizer_and_ends)
{
    struct gguf *g, *v;
    OK(hf_open(&g, GOLDEN "shards", MODEL_ALL, &err));
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    ck_assert(tokens && tokens->count == 292);
    struct gguf_string *texts, pre = {0};
    OK(gguf_value_strings(tokens, &texts, &err));
    ck_assert(gguf_string_is(texts[268], "\xC4\xA0\xC4\xA0") && gguf_string_is(texts[269], "[PAD269]"));
    free(texts);
    const struct gguf_value *kinds = gguf_find(g, "tokenizer.ggml.token_type");
    ck_assert(kinds->count == 292 && gguf_value_i64(kinds, 291) == TOKEN_UNUSED);
    OK(gguf_get_string(g, "tokenizer.ggml.pre", &pre, &err));
    ck_assert(gguf_string_is(pre, "llama-bpe"));
    int64_t eos = -1, eot = -1, eom = -1;
    OK(gguf_get_i64(g, "tokenizer.ggml.eos_token_id", &eos, &err));
    OK(gguf_get_i64(g, "tokenizer.ggml.eot_token_id", &eot, &err));
    OK(gguf_get_i64(g, "tokenizer.ggml.eom_token_id", &eom, &err));
    ck_assert(eos == 1 && eot == 2 && eom == 3);
    ck_assert_ptr_nonnull(gguf_find(g, "tokenizer.chat_template"));
    gguf_close(g);
    OK(hf_open(&v, GOLDEN "shards", MODEL_VOCABULARY, &err));
    ck_assert(v->tensor_count == 0 && gguf_find(v, "tokenizer.ggml.tokens")->count == 269);
    gguf_close(v);
    ck_assert_int_eq(hf_open(&v, GOLDEN "single", MODEL_VOCABULARY, &err), TLM_ERR_IO);
}
END_TEST

// A tokenizer that is written from the vocabulary alone gives the same ids.
START_TEST(tokenizer_from_vocabulary)
{
    static const char text[] = "Once upon  a time\n\n he'll go; don't 12345 \xC3\xA9\xE4\xBD\xA0 the end";
    static const char *const files[] = {"tests/golden/spm.gguf", GOLDEN "shards"};
    struct temp_folder f = temp_folder_open();
    struct gguf *g;
    struct tokenizer *a, *b;
    int32_t x[256], y[256];
    size_t n, m;
    OK(model_file_open(&g, files[_i], MODEL_VOCABULARY, &err));
    OK(hf_write_tokenizer_files(g, f.path, &err));
    OK(tokenizer_open(&a, g, &err));
    OK(tokenizer_open_folder(&b, f.path, &err));
    OK(tokenizer_encode(a, text, sizeof text - 1, TLM_ADD_BOS, x, 256, &n, &err));
    OK(tokenizer_encode(b, text, sizeof text - 1, TLM_ADD_BOS, y, 256, &m, &err));
    ck_assert_uint_eq(n, m);
    for (size_t i = 0; i < n; i++) ck_assert_int_eq(x[i], y[i]);
    ck_assert_int_eq(tokenizer_eos(a), tokenizer_eos(b));
    tokenizer_close(a);
    tokenizer_close(b);
    gguf_close(g);
    ck_assert_int_eq(temp_folder_close(&f), 2);
}
END_TEST

// Rotary positions to keys and back, in either spelling.
static void check_rope(const char *in, const char *keys, const char *out)
{
    json_t *config = json_loads(in, 0, NULL), *back = json_object(), *want = json_loads(out, 0, NULL);
    struct gguf_writer *w;
    struct gguf *g;
    void *data;
    size_t size;
    ck_assert(config && want);
    OK(gguf_writer_open_memory(&w, "rope", &err));
    OK(hf_import_rope(w, "llama", config, &err));
    OK(gguf_writer_take(w, &data, &size, &err));
    OK(gguf_open_memory(&g, data, size, "rope", &err));
    ck_assert_msg(keys ? gguf_find(g, keys) != NULL : g->key_count == 1, "%s: no %s", in, keys);
    json_object_set(back, "max_position_embeddings", json_object_get(config, "max_position_embeddings"));
    OK(hf_export_rope(back, "llama", g, &err));
    json_object_del(back, "max_position_embeddings");
    char *text = json_dumps(back, JSON_SORT_KEYS);
    ck_assert_msg(json_equal(back, want), "%s became %s", in, text);
    free(text);
    gguf_close(g);
    free(data);
    gguf_writer_close(w);
    json_decref(config);
    json_decref(back);
    json_decref(want);
}

START_TEST(rope_kinds)
{
    check_rope("{\"rope_theta\":5e5}", NULL, "{\"rope_theta\":5e5}");
    check_rope("{\"rope_theta\":5e5,\"rope_scaling\":null}", NULL, "{\"rope_theta\":5e5}");
    check_rope("{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":100}}", NULL,
               "{\"rope_theta\":100.0}");
    check_rope("{\"rope_theta\":100.5,\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}", NULL,
               "{\"rope_theta\":100.5}");
    check_rope("{\"rope_theta\":100.5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}}",
               "llama.rope.scaling.factor",
               "{\"rope_theta\":100.5,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.5}}");
    check_rope(
        "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":100.5,\"factor\":4,\"attention_factor\":"
        "1.3,"
        "\"original_max_position_embeddings\":64,\"truncate\":false}}",
        "llama.rope.scaling.attn_factor",
        "{\"rope_theta\":100.5,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"attention_factor\":"
        "1.3,"
        "\"beta_fast\":32.0,\"beta_slow\":1.0,\"original_max_position_embeddings\":64,\"truncate\":false}}");
    check_rope("{\"max_position_embeddings\":256,\"rope_theta\":100.5,\"rope_scaling\":{\"type\":\"yarn\","
               "\"mscale\":0.5,"
               "\"mscale_all_dim\":0.5,\"original_max_position_embeddings\":64}}",
               "llama.rope.scaling.yarn_log_multiplier",
               "{\"rope_theta\":100.5,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"mscale\":0.5,"
               "\"mscale_all_dim\":0.5,\"beta_fast\":32.0,\"beta_slow\":1.0,\"original_max_position_"
               "embeddings\":64}}");
}
END_TEST

// ---- transforms ---------------------------------------------------------------------------------------

static void check_move(struct hf_matrix m, const uint16_t *folder, const uint16_t *gguf, size_t count)
{
    uint16_t out[64], back[64];
    float wide[64], wide_out[64];
    ck_assert_uint_le(count, 64);
    hf_transform_move(&m, (void *)folder, out, 2, true);
    ck_assert(!memcmp(out, gguf, 2 * count));
    hf_transform_move(&m, back, out, 2, false);
    ck_assert(!memcmp(back, folder, 2 * count));
    for (size_t i = 0; i < count; i++) wide[i] = folder[i];
    hf_transform_move(&m, wide, wide_out, 4, true);
    for (size_t i = 0; i < count; i++) ck_assert(wide_out[i] == gguf[i]);
}

START_TEST(orders)
{
    const struct hparams h = {.heads = 2, .kv_heads = 1, .nope_dim = 2, .value_dim = 1, .rope.pairs = 2};
    const uint16_t rows[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct hf_matrix m = {.transform = TRANSFORM_ROPE_Q, .hparams = &h, .rows = 10, .cols = 1};
    check_move(m, rows, (uint16_t[]){0, 2, 1, 3, 4, 5, 7, 6, 8, 9}, 10); // the fifth of a head is not turned
    m = (struct hf_matrix){.transform = TRANSFORM_ROPE_K, .hparams = &h, .rows = 4, .cols = 2};
    check_move(m, rows, (uint16_t[]){0, 1, 4, 5, 2, 3, 6, 7}, 8);
    m = (struct hf_matrix){.transform = TRANSFORM_TRANSPOSE, .hparams = &h, .rows = 2, .cols = 3};
    check_move(m, rows, (uint16_t[]){0, 3, 1, 4, 2, 5}, 6);
    m = (struct hf_matrix){.transform = TRANSFORM_QKV_BY_HEAD, .hparams = &h, .rows = 12, .cols = 1};
    check_move(m, rows, (uint16_t[]){0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11}, 12);
}
END_TEST

// Two tensors of GGUF out of one, and one of two.
START_TEST(parts_of_one)
{
    const struct hparams h = {.heads = 2, .nope_dim = 2, .value_dim = 1};
    uint16_t from[36], a[36], b[36], back[36];
    for (uint16_t i = 0; i < 36; i++) from[i] = i;
    struct hf_matrix k = {.transform = TRANSFORM_LATENT_K, .hparams = &h, .rows = 6, .cols = 2}, v = k;
    v.transform = TRANSFORM_LATENT_V;
    hf_transform_move(&k, from, a, 2, true);
    hf_transform_move(&v, from, b, 2, true);
    ck_assert(!memcmp(a, (uint16_t[]){0, 2, 1, 3, 6, 8, 7, 9}, 16) &&
              !memcmp(b, (uint16_t[]){4, 5, 10, 11}, 8));
    hf_transform_move(&k, back, a, 2, false);
    hf_transform_move(&v, back, b, 2, false);
    ck_assert(!memcmp(back, from, 24));
    for (int bias = 0; bias < 2; bias++) { // (in, 2 F) of an expert; (E, 2 F)
        struct hf_matrix even = {.transform = TRANSFORM_EXPERT_EVEN,
                                 .hparams = &h,
                                 .rows = 2,
                                 .cols = 4,
                                 .bias = bias},
                         odd = even;
        odd.transform = TRANSFORM_EXPERT_ODD;
        hf_transform_move(&even, from, a, 2, true);
        hf_transform_move(&odd, from, b, 2, true);
        ck_assert(!memcmp(a, bias ? (uint16_t[]){0, 2, 4, 6} : (uint16_t[]){0, 4, 2, 6}, 8));
        ck_assert(!memcmp(b, bias ? (uint16_t[]){1, 3, 5, 7} : (uint16_t[]){1, 5, 3, 7}, 8));
        hf_transform_move(&even, back, a, 2, false);
        hf_transform_move(&odd, back, b, 2, false);
        ck_assert(!memcmp(back, from, 16));
    }
}
END_TEST

START_TEST(mxfp4_blocks)
{
    static const float codes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    uint8_t blocks[4 * 16], scales[4] = {127, 128, 126, 129}, out[2 * 17];
    for (int i = 0; i < 64; i++) blocks[i] = (uint8_t)(7 * i + 3);
    for (int odd = 0; odd < 2; odd++) { // outputs 1 and 3 of four
        float x[32];
        hf_transform_mxfp4(odd ? TRANSFORM_EXPERT_ODD : TRANSFORM_EXPERT_EVEN, blocks, scales, 4, 1, out);
        for (int row = 0; row < 2; row++) {
            int from = 2 * row + odd;
            quant_types[DTYPE_MXFP4].dequantize(x, out + 17 * row, 32);
            for (int i = 0; i < 32; i++) {
                uint8_t byte = blocks[16 * from + i / 2];
                ck_assert(x[i] == codes[i % 2 ? byte >> 4 : byte & 15] * exp2f((float)scales[from] - 127));
            }
        }
    }
}
END_TEST

// ---- what is wrong ------------------------------------------------------------------------------------

static void refused(const struct temp_folder *f, enum tlm_status code, const char *text)
{
    struct gguf *g;
    enum tlm_status status = hf_open(&g, f->path, MODEL_ALL, &err);
    ck_assert_msg(status == code, "status %d: %s", status, status ? err.text : "opened");
    ck_assert_ptr_null(g);
    ck_assert_msg(strstr(err.text, text) && !strchr(err.text, '\n'), "expected '%s' in '%s'", text, err.text);
}

START_TEST(wrong_configs)
{
    static const struct {
        const char *key, *value;
        enum tlm_status code;
        const char *text;
    } cases[] = {
        {"model_type", NULL, TLM_ERR_FORMAT, "model_type: expected a string, found nothing"},
        {"model_type", "\"no\\nsuch\"", TLM_ERR_UNSUPPORTED, "found 'no\\x0asuch'"},
        {"num_hidden_layers", NULL, TLM_ERR_FORMAT, "llama.block_count"},
        {"num_hidden_layers", "1", TLM_ERR_UNSUPPORTED, "tensor 'model.layers.1."},
        {"num_hidden_layers", "3", TLM_ERR_FORMAT,
         "tensor 'model.layers.2.input_layernorm.weight': the folder lacks it"},
        {"num_hidden_layers", "\"2\"", TLM_ERR_FORMAT,
         "num_hidden_layers: expected a whole number, found a string"},
        {"num_hidden_layers", "-2", TLM_ERR_FORMAT, "num_hidden_layers: expected 0 to 2^32"},
        {"num_attention_heads", "8", TLM_ERR_FORMAT, "self_attn.q_proj.weight': expected rows for all heads"},
        {"hidden_size", "21", TLM_ERR_FORMAT, "expected 21, found 20"},
        {"vocab_size", "1e300", TLM_ERR_FORMAT, "vocab_size: expected a whole number"},
        {"rms_norm_eps", "[1]", TLM_ERR_FORMAT, "rms_norm_eps: expected a number, found an array"},
        {"hidden_act", "\"gelu\"", TLM_ERR_UNSUPPORTED, "hidden_act: expected \"silu\", found \"gelu\""},
        {"tie_word_embeddings", "3", TLM_ERR_FORMAT, "tie_word_embeddings: expected true or false"},
        {"rope_parameters", "{\"rope_type\":\"spiral\"}", TLM_ERR_UNSUPPORTED, "found 'spiral'"},
        {"rope_parameters", "{\"rope_type\":\"linear\",\"factor\":-1}", TLM_ERR_FORMAT,
         "factor: expected a positive"},
        {"rope_parameters",
         "{\"rope_type\":\"longrope\",\"factor\":2,\"short_factor\":[1],\"long_factor\":[1]}", TLM_ERR_FORMAT,
         "short_factor: expected 3 numbers, found 1"},
        {"quantization_config", "{\"quant_method\":\"hqq\"}", TLM_ERR_UNSUPPORTED, "found 'hqq'"},
        {"quantization_config", "{\"quant_method\":\"fp8\"}", TLM_ERR_UNSUPPORTED, "found 'fp8'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct temp_folder f = copy_folder("single");
        edit_config(&f, cases[i].key, cases[i].value);
        refused(&f, cases[i].code, cases[i].text);
        temp_folder_close(&f);
    }
}
END_TEST

START_TEST(wrong_weights)
{
    struct temp_folder f = temp_folder_open();
    struct temp_path path = temp_path(&f, "model.safetensors");
    char *config, *data;
    size_t size, bytes;
    OK(file_read(GOLDEN "single/config.json", &config, &size, &err));
    write_file(temp_path(&f, "config.json").text, config, size);
    refused(&f, TLM_ERR_IO, "found neither");
    OK(file_read(GOLDEN "single/model.safetensors", &data, &bytes, &err));
    write_file(path.text, data, bytes - 1);
    refused(&f, TLM_ERR_FORMAT, "within");
    char *at = memmem(data, bytes, "mlp.up_proj.bias", 16);
    memcpy(at, "mlp.up_proj.bats", 16);
    write_file(path.text, data, bytes);
    refused(&f, TLM_ERR_UNSUPPORTED, "mlp.up_proj.bats': not one that LlamaForCausalLM with 2 layers has");
    memcpy(at, "mlp.up_proj.bias", 16);
    at = memmem(data, bytes, "\"F32\"", 5);
    memcpy(at, "\"I32\"", 5);
    write_file(path.text, data, bytes);
    refused(&f, TLM_ERR_UNSUPPORTED, "expected type F32, F16, BF16 or F8_E4M3, found I32");
    free(config);
    free(data);
    temp_folder_close(&f);
}
END_TEST

// The weights of GOLDEN "single" into `folder`, all rounded to E4M3, the matrices among them stored as `type`.
static void write_e4m3(const char *folder, enum safetensors_type type, const char *extra)
{
    struct safetensors *in;
    struct safetensors_writer *w;
    OK(safetensors_open(&in, GOLDEN "single", &err));
    OK(safetensors_writer_open(&w, folder, UINT64_MAX, &err));
    for (size_t i = 0; i < in->count; i++) {
        const struct safetensors_tensor *t = &in->tensors[i];
        OK(safetensors_add(w, t->name, t->dims > 1 ? type : SAFETENSORS_BF16, t->dims, t->shape, &err));
    }
    if (extra) OK(safetensors_add(w, extra, SAFETENSORS_F32, 1, (int64_t[]){1}, &err));
    for (size_t i = 0; i < in->count; i++) {
        const struct safetensors_tensor *t = &in->tensors[i];
        ck_assert_int_eq(t->type, SAFETENSORS_F32);
        for (size_t j = 0; j < t->bytes / 4; j++) {
            float x;
            memcpy(&x, t->data + 4 * j, 4);
            const uint8_t code = f8_e4m3_from_f32(x);
            const uint16_t wide = bf16_from_f32(f32_from_f8_e4m3(code));
            if (t->dims > 1 && type == SAFETENSORS_F8_E4M3)
                OK(safetensors_write_data(w, &code, 1, &err));
            else
                OK(safetensors_write_data(w, &wide, 2, &err));
        }
    }
    if (extra) OK(safetensors_write_data(w, &(float){1}, 4, &err));
    OK(safetensors_writer_finish(w, &err));
    safetensors_writer_close(w);
    safetensors_close(in);
}

// Matrices of E4M3 give the file that the same numbers in BF16 give; with scales beside them they are refused.
START_TEST(matrices_of_e4m3)
{
    struct temp_folder f = copy_folder("single");
    struct temp_path gguf = temp_path(&f, "model.gguf");
    char *data[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        write_e4m3(f.path, i ? SAFETENSORS_BF16 : SAFETENSORS_F8_E4M3, NULL);
        convert(f.path, gguf.text, -1);
        OK(file_read(gguf.text, &data[i], &size[i], &err));
    }
    ck_assert(size[0] == size[1] && !memcmp(data[0], data[1], size[0]));
    free(data[0]), free(data[1]);
    write_e4m3(f.path, SAFETENSORS_F8_E4M3, "model.layers.0.mlp.up_proj.weight_scale_inv");
    refused(&f, TLM_ERR_UNSUPPORTED, "up_proj.weight_scale_inv': not one that LlamaForCausalLM");
    temp_folder_close(&f);
}
END_TEST

// Configurations with flipped bits, through the keys; and through the whole door.
START_TEST(flipped_configs)
{
    for (size_t k = 0; k < 2; k++) {
        char path[256], *data;
        size_t size;
        snprintf(path, sizeof path, GOLDEN "%s/config.json", folders[k].name);
        OK(file_read(path, &data, &size, &err));
        for (uint64_t i = 0; i < 10000; i++) {
            uint8_t *copy = malloc(size);
            memcpy(copy, data, size);
            uint64_t bit = (uint64_t)(rng_uniform(3, k, i) * 8 * (double)size);
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            fuzz_hf_config(copy, size);
            free(copy);
        }
        struct temp_folder f = copy_folder(folders[k].name);
        for (uint64_t i = 0; i < 300; i++) {
            uint64_t bit = (uint64_t)(rng_uniform(4, k, i) * 8 * (double)size);
            struct gguf *g;
            data[bit / 8] ^= (char)(1 << bit % 8);
            write_file(temp_path(&f, "config.json").text, data, i % 3 ? size : bit / 8);
            err.text[0] = '\0';
            if (hf_open(&g, f.path, MODEL_ALL, &err)) ck_assert(err.text[0] && !strchr(err.text, '\n'));
            gguf_close(g);
            data[bit / 8] ^= (char)(1 << bit % 8);
        }
        free(data);
        temp_folder_close(&f);
    }
}
END_TEST

Suite *suite_hf(void)
{
    Suite *s = suite_create("hf");
    TCase *t = tcase_create("hf");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, there_and_back, 0, 2);
    tcase_add_loop_test(t, open_is_like_converted, 0, 2);
    tcase_add_test(t, types);
    tcase_add_test(t, stopped_leaves_nothing);
    tcase_add_test(t, tokenizer_and_ends);
    tcase_add_loop_test(t, tokenizer_from_vocabulary, 0, 2);
    tcase_add_test(t, rope_kinds);
    tcase_add_test(t, orders);
    tcase_add_test(t, parts_of_one);
    tcase_add_test(t, mxfp4_blocks);
    tcase_add_test(t, wrong_configs);
    tcase_add_test(t, wrong_weights);
    tcase_add_test(t, matrices_of_e4m3);
    tcase_add_test(t, flipped_configs);
    suite_add_tcase(s, t);
    return s;
}
