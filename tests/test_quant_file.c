// tests/test_quant_file.c -- which type each tensor gets, and whole files written again.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gguf.h"
#include "core/rng.h"
#include "quant/mix.h"
#include "quant/quant.h"
#include "quant/requantize.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

// A Llama whose tensors hold random numbers.
struct shape {
    int layers, width, feed_forward, heads, kv_heads, experts;
    bool tied;
};

static struct temp_folder folder;

static void open_folder(void)
{
    folder = temp_folder_open();
}

static void close_folder(void)
{
    temp_folder_close(&folder);
}

static struct {
    char name[64];
    int64_t ne[3];
} declared[256];
static int declared_count;

static void declare(const char *format, int layer, int64_t ne0, int64_t ne1, int64_t ne2)
{
    snprintf(declared[declared_count].name, sizeof declared[0].name, format, layer);
    memcpy(declared[declared_count].ne, (int64_t[]){ne0, ne1, ne2}, sizeof declared[0].ne);
    declared_count++;
}

static void declare_layer(const struct shape *s, int l)
{
    int64_t d = s->width, kv = d / s->heads * s->kv_heads;
    declare("blk.%d.attn_norm.weight", l, d, 1, 1);
    declare("blk.%d.attn_q.weight", l, d, d, 1);
    declare("blk.%d.attn_k.weight", l, d, kv, 1);
    declare("blk.%d.attn_v.weight", l, d, kv, 1);
    declare("blk.%d.attn_output.weight", l, d, d, 1);
    if (s->experts) {
        declare("blk.%d.ffn_gate_inp.weight", l, d, s->experts, 1);
        declare("blk.%d.ffn_down_exps.weight", l, s->feed_forward, d, s->experts);
    } else {
        declare("blk.%d.ffn_up.weight", l, d, s->feed_forward, 1);
        declare("blk.%d.ffn_down.weight", l, s->feed_forward, d, 1);
    }
}

static float number(uint64_t tensor, uint64_t i)
{
    return (float)(rng_uniform(3, tensor, i) - rng_uniform(4, tensor, i));
}

static void write_tensors(struct gguf_writer *w)
{
    for (int i = 0; i < declared_count; i++) {
        struct tensor t = tensor_shape(DTYPE_F32, declared[i].ne[0], declared[i].ne[1], declared[i].ne[2], 1);
        gguf_add_tensor(w, declared[i].name, &t);
    }
    for (int i = 0; i < declared_count; i++) {
        int64_t count = declared[i].ne[0] * declared[i].ne[1] * declared[i].ne[2];
        float *x = malloc((size_t)count * sizeof *x);
        for (int64_t k = 0; k < count; k++) x[k] = number((uint64_t)i, (uint64_t)k);
        if (strstr(declared[i].name, "nan")) x[count / 2] = NAN;
        if (strstr(declared[i].name, "large")) x[count / 2] = 1e6f;
        ck_assert_int_eq(gguf_write_data(w, x, (size_t)count * sizeof *x, NULL), TLM_OK);
        free(x);
    }
}

static struct gguf *make_model(const struct shape *s, const char *extra)
{
    struct temp_path path = temp_path(&folder, "in.gguf");
    struct gguf_writer *w;
    struct gguf *g;
    ck_assert_int_eq(gguf_writer_open(&w, path.text, NULL), TLM_OK);
    gguf_set_string(w, "general.architecture", "llama", 5);
    gguf_set_u32(w, "llama.block_count", (uint32_t)s->layers);
    gguf_set_u32(w, "llama.attention.head_count", (uint32_t)s->heads);
    gguf_set_u32(w, "llama.attention.head_count_kv", (uint32_t)s->kv_heads);
    if (s->experts) gguf_set_u32(w, "llama.expert_count", (uint32_t)s->experts);
    declared_count = 0;
    declare("token_embd.weight", 0, s->width, 8, 1);
    for (int l = 0; l < s->layers; l++) declare_layer(s, l);
    if (!s->tied) declare("output.weight", 0, s->width, 8, 1);
    if (extra) declare(extra, 0, 256, 2, 1);
    write_tensors(w);
    ck_assert_int_eq(gguf_writer_finish(w, NULL), TLM_OK);
    gguf_writer_close(w);
    ck_assert_int_eq(gguf_open(&g, path.text, NULL), TLM_OK);
    return g;
}

static enum dtype chosen(const struct gguf *g, const char *mix, const char *tensor)
{
    struct mix_model m;
    ck_assert_int_eq(mix_model_read(&m, g, false, NULL), TLM_OK);
    const struct gguf_tensor *t = gguf_find_tensor(g, tensor);
    ck_assert_ptr_nonnull(t);
    return mix_applies(t) ? mix_type(mix_find(mix), &m, t) : t->tensor.type;
}

#define CHOSEN(g, mix, tensor, type) ck_assert_int_eq(chosen((g), (mix), (tensor)), (type))

// ---- mixes --------------------------------------------------------------------------------------------

START_TEST(mixes_give_more_to_what_suffers)
{
    struct gguf *g = make_model(
        &(struct shape){.layers = 16, .width = 256, .feed_forward = 256, .heads = 8, .kv_heads = 8}, NULL);
    CHOSEN(g, "Q4_K_M", "output.weight", DTYPE_Q6_K);
    CHOSEN(g, "Q4_K_M", "token_embd.weight", DTYPE_Q4_K);
    CHOSEN(g, "Q4_K_M", "blk.0.attn_norm.weight", DTYPE_F32);
    CHOSEN(g, "q4_k_m", "blk.0.attn_q.weight", DTYPE_Q4_K);
    // Of 16 layers: 0, 1, each third from 4 on, 14, 15.
    for (int l = 0; l < 16; l++) {
        char v[32], down[32];
        snprintf(v, sizeof v, "blk.%d.attn_v.weight", l);
        snprintf(down, sizeof down, "blk.%d.ffn_down.weight", l);
        bool more = l < 2 || l >= 14 || l % 3 == 1;
        CHOSEN(g, "Q4_K_M", v, more ? DTYPE_Q6_K : DTYPE_Q4_K);
        CHOSEN(g, "Q5_K_M", down, more ? DTYPE_Q6_K : DTYPE_Q5_K);
        CHOSEN(g, "Q4_K_S", v, l < 4 ? DTYPE_Q5_K : DTYPE_Q4_K);
        CHOSEN(g, "Q4_K_S", down, l < 2 ? DTYPE_Q5_K : DTYPE_Q4_K);
        CHOSEN(g, "Q3_K_M", v, l < 2 ? DTYPE_Q5_K : DTYPE_Q4_K);
        CHOSEN(g, "Q3_K_M", down, l < 1 ? DTYPE_Q5_K : DTYPE_Q4_K);
        CHOSEN(g, "IQ4_XS", down, l < 2 ? DTYPE_Q5_K : DTYPE_IQ4_XS);
    }
    CHOSEN(g, "Q3_K_L", "blk.7.attn_output.weight", DTYPE_Q5_K);
    CHOSEN(g, "Q2_K", "blk.7.attn_v.weight", DTYPE_Q3_K);
    CHOSEN(g, "TQ1_0", "token_embd.weight", DTYPE_Q4_K);
    CHOSEN(g, "TQ2_0", "blk.7.ffn_up.weight", DTYPE_TQ2_0);
    CHOSEN(g, "Q8_0", "output.weight", DTYPE_Q8_0);
    CHOSEN(g, "MXFP4", "blk.7.ffn_up.weight", DTYPE_MXFP4);
    CHOSEN(g, "MXFP4_MOE", "blk.7.ffn_up.weight", DTYPE_Q8_0);
    CHOSEN(g, "BF16", "output.weight", DTYPE_BF16);
    ck_assert_ptr_null(mix_find("Q4_K_X"));
    gguf_close(g);
}
END_TEST

START_TEST(mixes_look_at_groups_ties_and_experts)
{
    struct gguf *g = make_model(
        &(struct shape){
            .layers = 3, .width = 256, .feed_forward = 256, .heads = 8, .kv_heads = 2, .tied = true},
        NULL);
    CHOSEN(g, "Q4_K_M", "token_embd.weight", DTYPE_Q6_K);
    CHOSEN(g, "Q2_K", "blk.1.attn_v.weight", DTYPE_Q4_K);
    CHOSEN(g, "IQ4_NL", "blk.1.attn_v.weight", DTYPE_Q5_K);
    gguf_close(g);
    g = make_model(
        &(struct shape){
            .layers = 3, .width = 256, .feed_forward = 256, .heads = 8, .kv_heads = 8, .experts = 8},
        NULL);
    CHOSEN(g, "Q4_K_M", "blk.1.attn_k.weight", DTYPE_Q8_0);
    CHOSEN(g, "Q4_K_M", "blk.1.attn_v.weight", DTYPE_Q8_0);
    CHOSEN(g, "Q4_K_M", "blk.1.attn_output.weight", DTYPE_Q5_K);
    CHOSEN(g, "Q4_K_M", "blk.1.ffn_gate_inp.weight", DTYPE_F32);
    CHOSEN(g, "MXFP4_MOE", "blk.1.ffn_down_exps.weight", DTYPE_MXFP4);
    gguf_close(g);
}
END_TEST

START_TEST(rows_that_do_not_fit_get_smaller_blocks)
{
    struct gguf *g = make_model(
        &(struct shape){.layers = 3, .width = 96, .feed_forward = 40, .heads = 4, .kv_heads = 4}, NULL);
    CHOSEN(g, "Q4_K_M", "blk.1.attn_q.weight", DTYPE_Q5_0);
    CHOSEN(g, "Q5_K_S", "blk.1.attn_q.weight", DTYPE_Q5_1);
    CHOSEN(g, "Q6_K", "blk.1.attn_q.weight", DTYPE_Q8_0);
    CHOSEN(g, "Q2_K_S", "blk.1.attn_q.weight", DTYPE_Q4_0);
    CHOSEN(g, "IQ4_XS", "blk.1.attn_q.weight", DTYPE_IQ4_NL);
    CHOSEN(g, "Q4_K_M", "output.weight", DTYPE_Q8_0);
    CHOSEN(g, "Q4_K_M", "blk.1.ffn_down.weight", DTYPE_F16); // rows of 40
    CHOSEN(g, "F16", "blk.1.ffn_down.weight", DTYPE_F16);
    gguf_close(g);
}
END_TEST

// ---- files --------------------------------------------------------------------------------------------

// Writes `in` again in the types of a mix. Returns the status, and the file where that is TLM_OK.
static enum tlm_status rewrite(const struct gguf *in, const char *mix, int threads, struct gguf **out,
                               struct tlm_error *err)
{
    struct temp_path path = temp_path(&folder, "out.gguf");
    struct gguf_writer *w;
    struct threads *pool;
    struct mix_model m;
    enum dtype types[256];
    ck_assert_int_eq(mix_model_read(&m, in, false, NULL), TLM_OK);
    for (uint64_t i = 0; i < in->tensor_count; i++)
        types[i] = mix_applies(&in->tensors[i]) ? mix_type(mix_find(mix), &m, &in->tensors[i])
                                                : in->tensors[i].tensor.type;
    ck_assert_int_eq(threads_open(&pool, threads, NULL), TLM_OK);
    ck_assert_int_eq(gguf_writer_open(&w, path.text, NULL), TLM_OK);
    struct requantize r = {.in = in, .types = types, .threads = pool};
    enum tlm_status status = requantize_run(&r, w, err);
    if (!status) ck_assert_int_eq(gguf_writer_finish(w, NULL), TLM_OK);
    gguf_writer_close(w);
    threads_close(pool);
    if (!status) ck_assert_int_eq(gguf_open(out, path.text, NULL), TLM_OK);
    return status;
}

// Every tensor of `out` holds what quantizing the whole tensor of `in` at once gives.
static void check_tensors(const struct gguf *in, const struct gguf *out)
{
    ck_assert_uint_eq(in->tensor_count, out->tensor_count);
    for (uint64_t i = 0; i < in->tensor_count; i++) {
        const struct tensor *from = &in->tensors[i].tensor, *to = &out->tensors[i].tensor;
        ck_assert_uint_eq(in->tensors[i].name.length, out->tensors[i].name.length);
        ck_assert_mem_eq(in->tensors[i].name.data, out->tensors[i].name.data, in->tensors[i].name.length);
        ck_assert_mem_eq(from->ne, to->ne, sizeof from->ne);
        int64_t count = tensor_elements(from);
        float *x = malloc((size_t)count * sizeof *x);
        void *want = malloc(tensor_bytes(to));
        memcpy(x, from->data, (size_t)count * sizeof *x);
        quant_types[to->type].quantize(want, x, count, NULL);
        ck_assert_mem_eq(want, to->data, tensor_bytes(to));
        free(x), free(want);
    }
}

START_TEST(files_are_the_same_for_any_threads)
{
    // The feed-forward rows are longer than a piece of work; a layer has both large and tiny tensors.
    struct gguf *in = make_model(
        &(struct shape){.layers = 2, .width = 64, .feed_forward = 33024, .heads = 4, .kv_heads = 2}, NULL);
    for (int threads = 1; threads <= 3; threads++) {
        struct gguf *out;
        ck_assert_int_eq(rewrite(in, threads == 2 ? "Q2_K" : "Q8_0", threads, &out, NULL), TLM_OK);
        check_tensors(in, out);
        gguf_close(out);
    }
    gguf_close(in);
}
END_TEST

START_TEST(numbers_that_do_not_fit_are_refused)
{
    static const char *const names[] = {"nan.weight", "large.weight"};
    for (int i = 0; i < 2; i++) {
        struct gguf *in = make_model(
                        &(struct shape){
                            .layers = 1, .width = 256, .feed_forward = 256, .heads = 4, .kv_heads = 2},
                        names[i]),
                    *out;
        struct tlm_error err;
        ck_assert_int_eq(rewrite(in, "Q4_0", 2, &out, &err), TLM_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, names[i]));
        ck_assert_int_eq(rewrite(in, "F16", 2, &out, &err), TLM_ERR_FORMAT);
        // BF16 holds both, but nobody wants a NaN.
        enum tlm_status status = rewrite(in, "BF16", 2, &out, &err);
        ck_assert_int_eq(status, i ? TLM_OK : TLM_ERR_FORMAT);
        if (!status) gguf_close(out);
        remove(temp_path(&folder, "out.gguf").text);
        ck_assert_int_eq(rewrite(in, "F32", 2, &out, &err), i ? TLM_OK : TLM_ERR_FORMAT); // a copy
        if (i) gguf_close(out);
        remove(temp_path(&folder, "out.gguf").text);
        gguf_close(in);
    }
}
END_TEST

static bool stop(void *user, uint64_t done, uint64_t total)
{
    *(uint64_t *)user = done;
    return done < total / 4;
}

START_TEST(work_can_be_stopped)
{
    struct gguf *in = make_model(
        &(struct shape){.layers = 1, .width = 256, .feed_forward = 256, .heads = 4, .kv_heads = 2}, NULL);
    struct temp_path path = temp_path(&folder, "out.gguf");
    struct threads *pool;
    struct gguf_writer *w;
    enum dtype types[256];
    uint64_t done = 0;
    for (uint64_t i = 0; i < in->tensor_count; i++) types[i] = in->tensors[i].tensor.type;
    ck_assert_int_eq(threads_open(&pool, 2, NULL), TLM_OK);
    ck_assert_int_eq(gguf_writer_open(&w, path.text, NULL), TLM_OK);
    struct requantize r = {.in = in, .types = types, .threads = pool, .progress = stop, .user = &done};
    ck_assert_int_eq(requantize_run(&r, w, NULL), TLM_ERR_ARGUMENT);
    ck_assert_uint_gt(done, 0);
    gguf_writer_close(w);
    threads_close(pool);
    gguf_close(in);
    ck_assert_int_ne(access(path.text, F_OK), 0);
}
END_TEST

Suite *suite_quant_file(void)
{
    Suite *s = suite_create("quant_file");
    TCase *t = tcase_create("files");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, open_folder, close_folder);
    tcase_add_test(t, mixes_give_more_to_what_suffers);
    tcase_add_test(t, mixes_look_at_groups_ties_and_experts);
    tcase_add_test(t, rows_that_do_not_fit_get_smaller_blocks);
    tcase_add_test(t, files_are_the_same_for_any_threads);
    tcase_add_test(t, numbers_that_do_not_fit_are_refused);
    tcase_add_test(t, work_can_be_stopped);
    suite_add_tcase(s, t);
    return s;
}
