// tests/test_hf_quantized.c -- folders that bitsandbytes, GPTQ and AWQ have made smaller, against transformers with the dequantized numbers.
#include <string.h>

#include "core/rng.h"
#include "models/hf_convert.h"
#include "models/hf_folder.h"
#include "quant/quant.h"
#include "tests/golden.h"
#include "tests/hf_copy.h"
#include "tests/tests.h"

static struct tlm_error err;

#define OK(call) ck_assert_msg(!(call), "%s", err.text)

static const struct {
    const char *name;
    enum dtype type; // of its matrices
} folders[] = {{"bnb-nf4", DTYPE_BF16},  {"bnb-fp4", DTYPE_F16},    {"bnb-int8", DTYPE_F16},
               {"gptq-sym", DTYPE_Q4_0}, {"gptq-order", DTYPE_F16}, {"gptq-8", DTYPE_Q8_0},
               {"gptq-3", DTYPE_F16},    {"gptq-2", DTYPE_F16},     {"awq", DTYPE_F16}};
enum { FOLDERS = sizeof folders / sizeof *folders };

// Blocks hold scale times code as they are, where GPTQ rounds it to f16: so their logits may be further off.
static void check_logits(const char *path, const char *golden, bool blocks)
{
    static const struct {
        const char *isa;
        double tolerance;
    } tries[] = {{"ref", 1e-4}, {"f64", 1e-6}};
    struct golden g = golden_read(golden);
    for (int i = 0; i < 2; i++) {
        struct tlm_model *m = open_model(path, tries[i].isa);
        golden_check(&g, m, path, 7, blocks ? 2e-3 : tries[i].tolerance);
        tlm_model_close(m);
    }
    golden_free(&g);
}

static void check_type(const char *path, enum dtype type)
{
    struct gguf *g;
    OK(model_file_open(&g, path, MODEL_ALL, &err));
    const struct gguf_tensor *q = gguf_find_tensor(g, "blk.0.attn_q.weight"),
                             *down = gguf_find_tensor(g, "blk.0.ffn_down.weight");
    ck_assert_msg(q->tensor.type == type && down->tensor.type == type, "%s: %s", path,
                  dtype_traits[q->tensor.type].name);
    gguf_close(g);
}

// The numbers of blocks, rounded to f16, are those that F16 is asked for.
static void check_rounded(const char *folder, const char *path)
{
    struct hf_convert c = {.in = folder, .out = path, .type = DTYPE_F16};
    struct gguf *a, *b;
    OK(hf_convert_to_gguf(&c, &err));
    OK(model_file_open(&a, folder, MODEL_ALL, &err));
    OK(gguf_open(&b, path, &err));
    ck_assert_uint_eq(a->tensor_count, b->tensor_count);
    for (uint64_t i = 0; i < a->tensor_count; i++) {
        const struct tensor *s = &a->tensors[i].tensor, *t = &b->tensors[i].tensor;
        int64_t n = tensor_elements(s);
        float *x = malloc((size_t)n * sizeof *x);
        uint16_t *h = malloc((size_t)n * sizeof *h);
        ck_assert(!memcmp(s->ne, t->ne, sizeof s->ne));
        if (dtype_traits[s->type].block_size > 1) {
            quant_types[s->type].dequantize(x, s->data, n);
            quant_types[DTYPE_F16].quantize(h, x, n, NULL);
            ck_assert(!memcmp(h, t->data, (size_t)n * sizeof *h));
        }
        free(x), free(h);
    }
    gguf_close(a), gguf_close(b);
}

START_TEST(numbers_are_those_of_the_libraries)
{
    static const int asked[] = {-1, DTYPE_F32};
    struct temp_folder f = temp_folder_open();
    struct temp_path gguf = temp_path(&f, "model.gguf");
    char folder[256], golden[256];
    snprintf(folder, sizeof folder, GOLDEN "%s", folders[_i].name);
    snprintf(golden, sizeof golden, "hf/%s-33", folders[_i].name);
    check_type(folder, folders[_i].type);
    bool blocks = dtype_traits[folders[_i].type].block_size > 1;
    check_logits(folder, golden, blocks);
    if (blocks) check_rounded(folder, gguf.text);
    for (int i = 0; i < 2; i++) {
        struct hf_convert c = {.in = folder, .out = gguf.text, .type = asked[i]};
        OK(hf_convert_to_gguf(&c, &err));
        check_type(gguf.text, i ? DTYPE_F32 : folders[_i].type);
        check_logits(gguf.text, golden, blocks && !i);
    }
    temp_folder_close(&f);
}
END_TEST

// ---- what is wrong ------------------------------------------------------------------------------------

static void refused(const struct temp_folder *f, const char *text)
{
    struct gguf *g;
    enum tlm_status status = hf_open(&g, f->path, MODEL_ALL, &err);
    ck_assert_msg(status != TLM_OK, "opened, expected '%s'", text);
    ck_assert_msg(strstr(err.text, text) && !strchr(err.text, '\n'), "expected '%s' in '%s'", text, err.text);
}

START_TEST(wrong_configs)
{
    static const struct {
        const char *folder, *value, *text;
    } cases[] = {
        {"gptq-sym", NULL, "tensor 'model.layers.0.self_attn.q_proj.weight': the folder lacks it"},
        {"gptq-sym", "{\"quant_method\":\"hqq\"}",
         "expected none, mxfp4, bitsandbytes, gptq or awq, found 'hqq'"},
        {"gptq-sym", "{\"quant_method\":\"gptq\"}", "bits: expected one of 2, 3, 4, 8, found 0"},
        {"gptq-sym", "{\"quant_method\":\"gptq\",\"bits\":5}", "bits: expected one of 2, 3, 4, 8, found 5"},
        {"gptq-sym", "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":0}",
         "group_size: expected 1 or more, or -1, found 0"},
        {"gptq-sym", "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}",
         "checkpoint_format: expected gptq or gptq_v2, found marlin"},
        {"gptq-sym", "{\"quant_method\":\"gptq\",\"bits\":8,\"group_size\":32}",
         "expected whole dwords of codes of 8 bits"},
        {"gptq-sym", "{\"quant_method\":\"gptq\",\"bits\":3}", "qzeros': expected"},
        {"awq", "{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}",
         "version: expected gemm, found gemv"},
        {"awq", "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":16}",
         "expected a row for each 16 of 96 inputs"},
        {"awq", "{\"quant_method\":\"awq\",\"bits\":8}", "bits: expected one of 4, found 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct temp_folder f = copy_folder(cases[i].folder);
        edit_config(&f, "quantization_config", cases[i].value);
        refused(&f, cases[i].text);
        temp_folder_close(&f);
    }
}
END_TEST

// The first `from` in the file's bytes becomes `to`, which is as long.
static void replace(const struct temp_folder *f, const char *from, const char *to)
{
    struct temp_path path = temp_path(f, "model.safetensors");
    char *data;
    size_t size;
    OK(file_read(path.text, &data, &size, &err));
    char *at = memmem(data, size, from, strlen(from));
    ck_assert_msg(at && strlen(from) == strlen(to), "%s", from);
    memcpy(at, to, strlen(to));
    write_file(path.text, data, size);
    free(data);
}

START_TEST(wrong_parts)
{
    static const struct {
        const char *folder, *from, *to, *text;
    } cases[] = {
        {"bnb-nf4", "down_proj.weight.absmax", "down_proj.weight.absmix",
         "down_proj.weight.absmax': the folder lacks it"},
        {"bnb-nf4", "down_proj.weight.quant_map", "down_proj.weight.quant_cap",
         "down_proj.weight.quant_map': the folder lacks it"},
        {"bnb-nf4", "down_proj.weight.nested_quant_map", "down_proj.weight.nested_quant_cap",
         "nested_quant_map': the folder lacks it"},
        {"bnb-nf4", "\"blocksize\": 64", "\"blocksize\": 32", "absmax': expected"},
        {"bnb-nf4", "\"blocksize\": 64", "\"blocksize\": -4", "an even blocksize from 2 to 2^20"},
        {"bnb-nf4", "\"nested_blocksize\"", "\"nested_glocksize\"", "a nested_blocksize of 1 or more"},
        {"bnb-nf4", "\"bfloat16\"", "\"afloat16\"", "a dtype of float32, float16 or bfloat16"},
        {"bnb-int8", "down_proj.weight_format", "down_proj.weight_farmat", "not one that LlamaForCausalLM"},
        {"gptq-order", "down_proj.qzeros", "down_proj.qzeroz", "down_proj.qzeros': the folder lacks it"},
        {"gptq-order", "down_proj.scales", "down_proj.scalez",
         "down_proj.scales': expected F16, BF16 or F32"},
        {"gptq-order", "down_proj.qweight", "down_proj.qveight", "down_proj.g_idx': not one that"},
        {"awq", "down_proj.qzeros", "down_proj.qzeroz", "down_proj.qzeros': the folder lacks it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct temp_folder f = copy_folder(cases[i].folder);
        replace(&f, cases[i].from, cases[i].to);
        refused(&f, cases[i].text);
        temp_folder_close(&f);
    }
}
END_TEST

// Files with a flipped bit open, or are refused by one line.
START_TEST(flipped_files)
{
    struct temp_folder f = copy_folder(folders[_i].name);
    struct temp_path path = temp_path(&f, "model.safetensors");
    char *data;
    size_t size;
    OK(file_read(path.text, &data, &size, &err));
    for (uint64_t i = 0; i < 60; i++) {
        uint64_t bit = (uint64_t)(rng_uniform(5, (uint64_t)_i, i) * 8 * (double)(i % 2 ? size : 4096));
        struct gguf *g;
        data[bit / 8] ^= (char)(1 << bit % 8);
        write_file(path.text, data, size);
        err.text[0] = '\0';
        if (hf_open(&g, f.path, MODEL_ALL, &err)) ck_assert(err.text[0] && !strchr(err.text, '\n'));
        gguf_close(g);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(data);
    temp_folder_close(&f);
}
END_TEST

Suite *suite_hf_quantized(void)
{
    Suite *s = suite_create("hf_quantized");
    TCase *t = tcase_create("hf_quantized");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, numbers_are_those_of_the_libraries, 0, FOLDERS);
    tcase_add_test(t, wrong_configs);
    tcase_add_test(t, wrong_parts);
    tcase_add_loop_test(t, flipped_files, 0, FOLDERS);
    suite_add_tcase(s, t);
    return s;
}
