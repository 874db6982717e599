// tests/test_session.c -- the timeline: bits that do not depend on chunks, threads or history; reuse; errors; no
// allocation while decoding; every failing allocation met.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/gguf.h"
#include "generate/session.h"
#include "ops/paged.h"
#include "tests/alloc.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

enum { TOKENS = 70, SOURCE_VOCAB = 293 };

static const char source[] = "tests/golden/llama-plain.gguf";

static void fill_tokens(int32_t *tokens)
{
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int32_t)((i * 7919 + 13) % SOURCE_VOCAB);
}

// The plain golden model with its matrices in another type.
static void write_converted(const char *path, enum dtype type)
{
    struct gguf *g;
    struct gguf_writer *w;
    ck_assert_int_eq(gguf_open(&g, source, NULL), TLM_OK);
    ck_assert_int_eq(gguf_writer_open(&w, path, NULL), TLM_OK);
    for (uint64_t i = 0; i < g->key_count; i++) gguf_set_value(w, g->keys[i].name, &g->keys[i].value);
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)t->name.length, t->name.data);
        enum dtype to = t->tensor.ne[1] > 1 ? type : DTYPE_F32;
        struct tensor shape = tensor_shape(to, t->tensor.ne[0], t->tensor.ne[1], 1, 1);
        gguf_add_tensor(w, name, &shape);
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        int64_t n = tensor_elements(t);
        const float *x = t->data;
        if (t->ne[1] == 1 || type == DTYPE_F32) {
            ck_assert_int_eq(gguf_write_data(w, x, (size_t)n * 4, NULL), TLM_OK);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            uint16_t h = type == DTYPE_F16 ? f16_from_f32(x[j]) : bf16_from_f32(x[j]);
            ck_assert_int_eq(gguf_write_data(w, &h, 2, NULL), TLM_OK);
        }
    }
    ck_assert_int_eq(gguf_writer_finish(w, NULL), TLM_OK);
    gguf_writer_close(w);
    gguf_close(g);
}

struct rows {
    float *logits; // (TOKENS, V)
    size_t count;
};

static int keep_row(void *user, size_t index, const float *logits)
{
    struct rows *r = user;
    ck_assert_uint_eq(index, r->count);
    memcpy(r->logits + r->count++ * SOURCE_VOCAB, logits, SOURCE_VOCAB * sizeof *logits);
    return 0;
}

// Logits behind every token.
static float *all_logits(const struct tlm_model *m, int32_t batch, int32_t threads, const char *kv_type)
{
    int32_t tokens[TOKENS];
    fill_tokens(tokens);
    struct rows r = {.logits = malloc(sizeof(float) * TOKENS * SOURCE_VOCAB)};
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = TOKENS,
                                                                         .batch = batch,
                                                                         .threads = threads,
                                                                         .kv_type_k = kv_type,
                                                                         .kv_type_v = kv_type});
    ck_assert_int_eq(tlm_session_logits_each(s, tokens, TOKENS, 0, keep_row, &r, NULL), TLM_OK);
    ck_assert_uint_eq(r.count, TOKENS);
    tlm_session_close(s);
    return r.logits;
}

static void check_bits(const char *path, const char *isa, const char *kv_type)
{
    static const int32_t chunks[] = {1, 2, 7, 16, 33, TOKENS}, threads[] = {1, 2, 4};
    struct tlm_model *m = open_model(path, isa);
    float *want = all_logits(m, TOKENS, 1, kv_type);
    for (size_t c = 0; c < 6; c++)
        for (size_t t = 0; t < 3; t++) {
            float *got = all_logits(m, chunks[c], threads[t], kv_type);
            ck_assert_msg(!memcmp(got, want, sizeof(float) * TOKENS * SOURCE_VOCAB),
                          "%s, isa %s, kv %s: chunks of %d on %d threads give other bits", path, isa, kv_type,
                          chunks[c], threads[t]);
            free(got);
        }
    free(want);
    tlm_model_close(m);
}

START_TEST(test_row_independence)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const char *const kv_types[] = {"f32", "f16", "bf16", "f8_e4m3"};
    enum dtype type = types[_i / 4];
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "model.gguf");
    write_converted(path.text, type);
    EACH_ISA (isa, ISA_REF) check_bits(path.text, isa_name(isa), kv_types[_i % 4]);
    temp_folder_close(&folder);
}
END_TEST

// A window of 40 keys: what passed out of it is given back, and a long timeline read token by token has the logits of one read in a single
// pass, whose cache gave nothing back. Going far back finds the window's keys gone, and computes them again.
START_TEST(test_window)
{
    enum { LONG = 400 };
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "window.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 64, .window = 40});
    struct tlm_model *m = open_model(path.text, NULL);
    int32_t tokens[LONG];
    for (int i = 0; i < LONG; i++) tokens[i] = (i * 7919 + 13) % TINY_VOCAB;
    struct tlm_session *once = open_session(m, (struct tlm_session_options){.context = LONG, .batch = LONG});
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = LONG, .batch = 7});
    static const size_t lengths[] = {LONG, LONG - 50, LONG - 20, 200, 3, 300};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t n = lengths[i];
        for (size_t t = i ? n : 1; t <= n; t++)
            ck_assert_int_eq(tlm_session_sync(s, tokens, t, NULL), TLM_OK);
        tlm_session_close(once);
        once = open_session(m, (struct tlm_session_options){.context = LONG, .batch = LONG});
        ck_assert_int_eq(tlm_session_sync(once, tokens, n, NULL), TLM_OK);
        ck_assert_mem_eq(tlm_session_logits(s), tlm_session_logits(once), TINY_VOCAB * sizeof(float));
    }
    tlm_session_close(once);
    tlm_session_close(s);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// Numbers of position p in layer l: its key and its value, read back.
static void read_cache(const struct tlm_session *s, int l, int p, float key[64], float value[64])
{
    const struct kv_cache *c = &s->forward.cache;
    const struct kernels *k = &s->forward.model->kernels;
    int32_t block = kv_table(c, c->group_of[l], s->sequence)[p / KV_BLOCK];
    char row[256];
    paged_get(row, &c->keys[l], paged_rows(&c->keys[l], block, 0), p % KV_BLOCK, 64);
    k->to_real[c->keys[l].type](key, row, 64);
    paged_get(row, &c->values[l], paged_rows(&c->values[l], block, 0), p % KV_BLOCK, 64);
    k->to_real[c->values[l].type](value, row, 64);
}

static double distance(const float *a, const float *b)
{
    double apart = 0, size = 0;
    for (int i = 0; i < 64; i++) {
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(apart / size);
}

// A B C D E becomes A C E F: C and E are kept with their keys turned. Layers of this model add nothing, so that what stands in the cache
// does not depend on what was dropped: turned keys are those of an exact pass but for rounding.
START_TEST(test_shift)
{
    static const struct {
        const char *kv_type;
        double tolerance;
    } cases[] = {{"f32", 1e-5}, {"f16", 2e-3}, {"f8_e4m3", 0.1}, {"q8_0", 2e-2}, {"q4_0", 0.25}};
    enum { A = 30, B = 17, C = 50, D = 9, E = 40, F = 5, OLD = A + B + C + D + E, NEW = A + C + E + F };
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "model.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 64, .bigram = true});
    struct tlm_model *m = open_model(path.text, NULL);
    int32_t old[OLD], new[NEW];
    for (int i = 0; i < OLD; i++) old[i] = (i * 7919 + 13) % TINY_VOCAB;
    memcpy(new, old, A * 4);
    memcpy(new + A, old + A + B, C * 4);
    memcpy(new + A + C, old + A + B + C + D, E * 4);
    for (int i = 0; i < F; i++) new[A + C + E + i] = i;
    struct tlm_session_options o = {
        .context = 320, .reuse_shifted = 16, .kv_type_k = cases[_i].kv_type, .kv_type_v = cases[_i].kv_type};
    struct tlm_session *s = open_session(m, o);
    o.reuse_shifted = 0;
    struct tlm_session *exact = open_session(m, o);
    ck_assert_int_eq(tlm_session_sync(s, old, OLD, NULL), TLM_OK);
    ck_assert_int_eq(tlm_session_sync(s, new, NEW, NULL), TLM_OK);
    ck_assert_int_eq(tlm_session_sync(exact, new, NEW, NULL), TLM_OK);
    ck_assert_uint_eq(tlm_session_info(s).tokens_shifted, C + E);
    ck_assert_uint_eq(tlm_session_info(s).tokens_computed, OLD + F);
    for (int l = 0; l < 2; l++)
        for (int p = 0; p < NEW; p++) {
            float a[64], b[64], va[64], vb[64];
            read_cache(s, l, p, a, va);
            read_cache(exact, l, p, b, vb);
            double off = distance(a, b), v_off = distance(va, vb);
            ck_assert_msg(off <= (p < A ? 0 : cases[_i].tolerance) && v_off == 0,
                          "%s, layer %d, position %d: keys %g apart, values %g", cases[_i].kv_type, l, p, off,
                          v_off);
        }
    // What was turned is nobody else's to find: cut away, it is computed again.
    ck_assert_int_eq(tlm_session_sync(s, old, 1, NULL), TLM_OK);
    uint64_t computed = tlm_session_info(s).tokens_computed;
    ck_assert_int_eq(tlm_session_sync(s, new, NEW, NULL), TLM_OK);
    ck_assert_uint_ge(tlm_session_info(s).tokens_computed, computed + NEW - A);
    tlm_session_close(exact);
    tlm_session_close(s);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// Saved, loaded into another session, gone on with: nothing is computed again, and the logits have the bits of a session that was never
// saved. With windows, all types of caches, and the latent keys of DeepSeek.
START_TEST(test_save_and_load)
{
    static const struct {
        const char *kv_type;
        int32_t window;
        const char *model; // NULL: a tiny Llama
    } cases[] = {{"f32", 0, NULL},      {"f16", 40, NULL},
                 {"q8_0", 0, NULL},     {"q4_0", 40, NULL},
                 {"f8_e4m3", 40, NULL}, {"bf16", 0, "tests/golden/models/deepseek-v2-lite"}};
    enum { SAVED = 250, MORE = 20 };
    struct temp_folder folder = temp_folder_open();
    struct temp_path model = temp_path(&folder, "model.gguf"), saved = temp_path(&folder, "saved.gguf");
    tiny_model_write(model.text,
                     &(struct tiny_model){.type = DTYPE_F32, .width = 64, .window = cases[_i].window});
    struct tlm_model *m = open_model(cases[_i].model ? cases[_i].model : model.text, NULL);
    int32_t tokens[SAVED + MORE], vocab = tlm_model_vocab_size(m);
    size_t count = cases[_i].model ? 60 : SAVED;
    for (int i = 0; i < SAVED + MORE; i++) tokens[i] = (i * 7919 + 13) % vocab;
    struct tlm_session_options o = {
        .context = 300, .batch = 50, .kv_type_k = cases[_i].kv_type, .kv_type_v = cases[_i].kv_type};
    struct tlm_session *a = open_session(m, o), *b;
    struct tlm_error err;
    ck_assert_int_eq(tlm_session_save(a, saved.text, &err), TLM_ERR_ARGUMENT); // nothing to save
    ck_assert_int_eq(tlm_session_sync(a, tokens, count, &err), TLM_OK);
    ck_assert_msg(tlm_session_save(a, saved.text, &err) == TLM_OK, "%s", err.text);
    o.batch = 7;
    b = open_session(m, o);
    ck_assert_int_eq(tlm_session_sync(b, tokens + 1, 40, &err), TLM_OK); // it holds something else
    uint64_t computed = tlm_session_info(b).tokens_computed;
    ck_assert_msg(tlm_session_load(b, saved.text, &err) == TLM_OK, "%s", err.text);
    ck_assert_int_eq(tlm_session_info(b).length, (int)count);
    for (size_t n = count + 1; n <= count + MORE; n++) {
        ck_assert_int_eq(tlm_session_sync(a, tokens, n, &err), TLM_OK);
        ck_assert_int_eq(tlm_session_sync(b, tokens, n, &err), TLM_OK);
        ck_assert_mem_eq(tlm_session_logits(a), tlm_session_logits(b), (size_t)vocab * sizeof(float));
    }
    ck_assert_uint_eq(tlm_session_info(b).tokens_computed, computed + MORE);
    tlm_session_close(a);
    tlm_session_close(b);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

START_TEST(test_load_refused)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path model = temp_path(&folder, "model.gguf"), saved = temp_path(&folder, "saved.gguf");
    tiny_model_write(model.text, &(struct tiny_model){.type = DTYPE_F32, .width = 64});
    struct tlm_model *m = open_model(model.text, NULL);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 100});
    struct tlm_error err;
    int32_t tokens[50] = {1, 2, 3};
    ck_assert_int_eq(tlm_session_sync(s, tokens, 50, &err), TLM_OK);
    ck_assert_int_eq(tlm_session_save(s, saved.text, &err), TLM_OK);
    tlm_session_close(s);
    // Too small a context; another type of cache; no session at all.
    s = open_session(m, (struct tlm_session_options){.context = 49});
    ck_assert_int_eq(tlm_session_load(s, saved.text, &err), TLM_ERR_CONTEXT);
    ck_assert_msg(strstr(err.text, "expected at most the 49 tokens of the context, found 50") != NULL, "%s",
                  err.text);
    tlm_session_close(s);
    s = open_session(m, (struct tlm_session_options){.context = 64, .kv_type_k = "f8_e4m3"});
    ck_assert_int_eq(tlm_session_load(s, saved.text, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, "blk.0.keys: expected F8_E4M3 as this session's cache") != NULL, "%s",
                  err.text);
    tlm_session_close(s);
    s = open_session(m, (struct tlm_session_options){.context = 64, .kv_type_v = "q8_0"});
    ck_assert_int_eq(tlm_session_sync(s, tokens, 3, &err), TLM_OK);
    ck_assert_int_eq(tlm_session_load(s, saved.text, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(
        strstr(err.text, "blk.0.values: expected Q8_0 as this session's cache (-ctk, -ctv), found F16") !=
            NULL,
        "%s", err.text);
    ck_assert_int_eq(tlm_session_info(s).length, 0);
    ck_assert_int_eq(tlm_session_sync(s, tokens, 50, &err), TLM_OK);
    ck_assert_int_eq(tlm_session_load(s, model.text, &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(tlm_session_info(s).length, 50); // as it was
    tlm_session_close(s);
    tlm_model_close(m);
    // One weight more or less is another model.
    tiny_model_write(model.text, &(struct tiny_model){.type = DTYPE_F32, .width = 64, .seed = 1});
    m = open_model(model.text, NULL);
    s = open_session(m, (struct tlm_session_options){.context = 64});
    ck_assert_int_eq(tlm_session_load(s, saved.text, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, "expected a session of this model") != NULL, "%s", err.text);
    tlm_session_close(s);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

START_TEST(test_reuse)
{
    int32_t tokens[TOKENS];
    fill_tokens(tokens);
    struct tlm_model *m = open_model(source, NULL);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 128, .batch = 16});
    float *fresh = all_logits(m, 16, 1, "f16");
    ck_assert_ptr_null(tlm_session_logits(s));
    static const size_t lengths[] = {5, 40, 41, 70, 70, 33, 1, 70}; // on, again, back, to the start
    // What is new is computed; of a timeline that got shorter, only the last token's row. At the end the index of prefixes has 64
    // tokens of the old timeline.
    static const uint64_t costs[] = {5, 35, 1, 29, 0, 1, 1, 6};
    uint64_t computed = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        ck_assert_int_eq(tlm_session_sync(s, tokens, lengths[i], NULL), TLM_OK);
        ck_assert(!memcmp(tlm_session_logits(s), fresh + (lengths[i] - 1) * SOURCE_VOCAB,
                          SOURCE_VOCAB * sizeof(float)));
        computed += costs[i];
        ck_assert_uint_eq(tlm_session_info(s).tokens_computed, computed);
        ck_assert_int_eq(tlm_session_info(s).length, (int)lengths[i]);
    }
    // Another token in the middle: all behind it is computed again, and nothing of the old timeline shows.
    int32_t other[TOKENS];
    memcpy(other, tokens, sizeof other);
    other[20] = (other[20] + 1) % SOURCE_VOCAB;
    ck_assert_int_eq(tlm_session_sync(s, other, TOKENS, NULL), TLM_OK);
    ck_assert_uint_eq(tlm_session_info(s).tokens_computed, computed + TOKENS - 20);
    ck_assert(memcmp(tlm_session_logits(s), fresh + (TOKENS - 1) * SOURCE_VOCAB,
                     SOURCE_VOCAB * sizeof(float)) != 0);
    free(fresh);
    tlm_session_close(s);
    tlm_model_close(m);
}
END_TEST

static int stop_at_three(void *user, size_t index, const float *logits)
{
    (void)logits;
    ++*(int *)user;
    return index == 3;
}

START_TEST(test_errors)
{
    int32_t tokens[TOKENS];
    fill_tokens(tokens);
    struct tlm_error err;
    struct tlm_model *m = open_model(source, NULL);
    struct tlm_session *s;
    ck_assert_int_eq(tlm_session_open(&s, m, &(struct tlm_session_options){.kv_type_k = "q9"}, &err),
                     TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text,
                     "type of cached keys: expected f16, f32, bf16, f8_e4m3, q8_0 or q4_0, found 'q9'");
    ck_assert_int_eq(tlm_session_open(&s, m, &(struct tlm_session_options){.threads = -1}, &err),
                     TLM_ERR_ARGUMENT);
    ck_assert_int_eq(tlm_session_open(&s, m, &(struct tlm_session_options){.context = -5}, &err),
                     TLM_ERR_ARGUMENT);
    s = open_session(m, (struct tlm_session_options){.context = 32});
    ck_assert_int_eq(tlm_session_sync(s, tokens, 0, &err), TLM_ERR_ARGUMENT);
    ck_assert_int_eq(tlm_session_sync(s, tokens, 33, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "context: 33 tokens do not fit into a context of 32");
    ck_assert_int_eq(tlm_session_sync(s, tokens, 32, &err), TLM_OK);
    int32_t bad[2] = {1, SOURCE_VOCAB};
    ck_assert_int_eq(tlm_session_sync(s, bad, 2, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "token 1: expected an id from 0 to 292, found 293");
    ck_assert_int_eq(tlm_session_info(s).length, 32); // a refused call changes nothing
    int calls = 0;
    ck_assert_int_eq(tlm_session_logits_each(s, tokens, 10, 1, stop_at_three, &calls, &err),
                     TLM_ERR_CANCELLED);
    ck_assert_int_eq(calls, 3);
    ck_assert_int_eq(tlm_session_sync(s, tokens, 20, &err), TLM_OK); // and the session goes on
    tlm_session_close(s);
    tlm_model_close(m);
}
END_TEST

START_TEST(test_decoding_allocates_nothing)
{
    int32_t tokens[TOKENS];
    fill_tokens(tokens);
    struct tlm_model *m = open_model(source, NULL);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 128, .threads = 2});
    struct tlm_sampler *sampler;
    struct tlm_sampler_options options = tlm_sampler_defaults();
    ck_assert_int_eq(tlm_sampler_open(&sampler, m, &options, NULL), TLM_OK);
    ck_assert_int_eq(tlm_session_sync(s, tokens, 10, NULL), TLM_OK);
    long before = alloc_count();
    int failures = 0; // Check's own assertions allocate
    for (size_t n = 11; n <= TOKENS; n++) {
        failures += tlm_session_sync(s, tokens, n, NULL) != TLM_OK;
        tlm_sampler_accept(sampler, tlm_sampler_next(sampler, tlm_session_logits(s)));
    }
    long after = alloc_count();
    ck_assert_int_eq(failures, 0);
    ck_assert_int_eq(after, before);
    tlm_sampler_close(sampler);
    tlm_session_close(s);
    tlm_model_close(m);
}
END_TEST

// Opens all there is and runs a token, with the n-th allocation failing; returns whether it went through.
static bool survives(long n)
{
    struct tlm_model *m = NULL;
    struct tlm_session *s = NULL;
    struct tlm_sampler *sampler = NULL;
    struct tlm_error err = {0};
    int32_t tokens[] = {1, 5, 7};
    struct tlm_sampler_options options = tlm_sampler_defaults();
    struct tlm_generate_result r = {0};
    alloc_fail_after(n);
    enum tlm_status status = tlm_model_open(&m, source, NULL, &err);
    if (!status) status = tlm_session_open(&s, m, &(struct tlm_session_options){.threads = 1}, &err);
    if (!status) status = tlm_sampler_open(&sampler, m, &options, &err);
    if (!status)
        status =
            tlm_generate(s, sampler, tokens, 3, &(struct tlm_generate_options){.max_tokens = 4}, &r, &err);
    alloc_fail_after(-1);
    free(r.tokens);
    tlm_sampler_close(sampler);
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
    while (!survives(n)) n++;
    ck_assert_int_gt(n, 15); // all of them failed once
}
END_TEST

Suite *suite_session(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session");
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, test_row_independence, 0, 12);
    tcase_add_test(t, test_window);
    tcase_add_loop_test(t, test_save_and_load, 0, 6);
    tcase_add_test(t, test_load_refused);
    tcase_add_loop_test(t, test_shift, 0, 5);
    tcase_add_test(t, test_reuse);
    tcase_add_test(t, test_errors);
    tcase_add_test(t, test_decoding_allocates_nothing);
    tcase_add_test(t, test_failing_allocator);
    suite_add_tcase(s, t);
    return s;
}
