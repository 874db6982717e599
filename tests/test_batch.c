// tests/test_batch.c -- many requests over one cache: every answer is the one it would be alone, whatever the company, the priorities, the
// room in the cache and the guesses; nothing is computed or kept twice.
#include <stdlib.h>
#include <string.h>

#include "tests/alloc.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

enum { MOST = 64, CONTEXT = 160 };

struct order { // of the requests that were done
    int index[MOST];
    int count;
};

struct asked {
    int32_t prompt[CONTEXT];
    int32_t count, most, priority;
    struct tlm_sampler *sampler;
    struct tlm_drafter *drafter;
    struct tlm_generate_result result;
    char text[2048];
    size_t bytes;
    int ends;
    struct order *order;
    int index;
};

static int collect(void *user, int32_t token, const char *text, size_t bytes)
{
    struct asked *a = user;
    if (a->bytes + bytes > sizeof a->text) abort(); // Check's assertions allocate
    memcpy(a->text + a->bytes, text, bytes);
    a->bytes += bytes;
    a->ends += token < 0;
    return 0;
}

static void done(void *user, const struct tlm_generate_result *result)
{
    struct asked *a = user;
    if (a->result.tokens) abort(); // once
    a->result = *result;
    if (a->order) a->order->index[a->order->count++] = a->index;
}

// Requests of many lengths; some begin alike, some are longer than a pass.
static void ask(struct asked *a, int index, const struct tlm_model *m, float temperature)
{
    *a = (struct asked){.index = index, .priority = index % 3};
    a->count = 1 + (index * 37) % 90;
    a->most = 20 + (index * 23) % 90;
    int32_t start = index % 4 < 2 ? 7 : index;
    for (int i = 0; i < a->count; i++) a->prompt[i] = (start + i * 11) % TINY_VOCAB;
    if (a->count > 1) a->prompt[a->count - 1] = (index * 5 + 1) % TINY_VOCAB;
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = temperature;
    o.seed = (uint64_t)index;
    o.ignore_end = true;
    ck_assert_int_eq(tlm_sampler_open(&a->sampler, m, &o, NULL), TLM_OK);
}

static struct tlm_generate_options options_of(struct asked *a)
{
    return (struct tlm_generate_options){
        .max_tokens = a->most, .drafter = a->drafter, .on_token = collect, .user = a};
}

static void add(struct tlm_batch *b, struct asked *a)
{
    struct tlm_error err;
    struct tlm_generate_options o = options_of(a);
    int64_t id;
    ck_assert_msg(
        tlm_batch_add(b, a->sampler, a->prompt, (size_t)a->count, &o, a->priority, done, &id, &err) == TLM_OK,
        "%s", err.text);
}

static int64_t step(struct tlm_batch *b)
{
    struct tlm_error err;
    int64_t left;
    ck_assert_msg(tlm_batch_step(b, &left, &err) == TLM_OK, "%s", err.text);
    return left;
}

// The same answers, one after the other on a session.
static void check_alone(const struct tlm_model *m, struct asked *a, int count, const char *kv_type)
{
    struct tlm_session *s = open_session(
        m, (struct tlm_session_options){.context = CONTEXT, .kv_type_k = kv_type, .kv_type_v = kv_type});
    for (int i = 0; i < count; i++) {
        struct asked alone = a[i];
        alone.bytes = 0, alone.ends = 0, alone.drafter = NULL;
        struct tlm_generate_options o = options_of(&alone);
        struct tlm_generate_result r;
        tlm_sampler_reset(a[i].sampler);
        ck_assert_int_eq(tlm_generate(s, a[i].sampler, a[i].prompt, (size_t)a[i].count, &o, &r, NULL),
                         TLM_OK);
        const struct tlm_generate_result *got = &a[i].result;
        ck_assert_msg(got->tokens != NULL, "request %d was never done", i);
        ck_assert_int_eq(got->prompt_tokens, r.prompt_tokens);
        ck_assert_int_eq(got->new_tokens, r.new_tokens);
        ck_assert_int_eq(got->finish, r.finish);
        ck_assert_msg(!memcmp(got->tokens, r.tokens, (size_t)(r.prompt_tokens + r.new_tokens) * 4),
                      "request %d has another answer in company", i);
        ck_assert_uint_eq(a[i].bytes, alone.bytes);
        ck_assert_mem_eq(a[i].text, alone.text, alone.bytes);
        ck_assert_int_eq(a[i].ends, 1);
        free(r.tokens);
    }
    tlm_session_close(s);
}

static void free_asked(struct asked *a, int count)
{
    for (int i = 0; i < count; i++) {
        tlm_sampler_close(a[i].sampler);
        tlm_drafter_close(a[i].drafter);
        free(a[i].result.tokens);
    }
}

static struct tlm_model *tiny(const struct tiny_model *t)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "tiny.gguf");
    tiny_model_write(path.text, t);
    struct tlm_model *m = open_model(path.text, NULL); // stays open without its name
    temp_folder_close(&folder);
    return m;
}

static const struct {
    enum dtype type;
    const char *kv_type;
    int32_t cache, batch, window;
    float temperature;
    bool drafts;
} cases[] = {
    {DTYPE_F32, "f32", 0, 0, 0, 0, false},        {DTYPE_F32, "f16", 320, 48, 0, 0, false},
    {DTYPE_BF16, "f16", 320, 32, 0, 0.8f, false}, {DTYPE_Q4_0, "q8_0", 480, 64, 0, 0, true},
    {DTYPE_Q4_K, "f16", 320, 128, 0, 0.8f, true}, {DTYPE_F32, "bf16", 320, 40, 30, 0, false},
};

START_TEST(test_company)
{
    struct tlm_model *m = tiny(&(struct tiny_model){.type = cases[_i].type,
                                                    .window = cases[_i].window,
                                                    .width = cases[_i].type == DTYPE_Q4_K ? 256 : 128});
    struct asked *a = calloc(MOST, sizeof *a);
    struct tlm_batch *b;
    struct tlm_error err;
    struct tlm_batch_options o = {.parallel = 9,
                                  .context = CONTEXT,
                                  .cache = cases[_i].cache,
                                  .batch = cases[_i].batch,
                                  .kv_type_k = cases[_i].kv_type,
                                  .kv_type_v = cases[_i].kv_type};
    ck_assert_msg(tlm_batch_open(&b, m, &o, &err) == TLM_OK, "%s", err.text);
    for (int i = 0; i < MOST; i++) {
        ask(&a[i], i, m, cases[_i].temperature);
        if (cases[_i].drafts && i % 2) ck_assert_int_eq(tlm_drafter_open_lookup(&a[i].drafter, NULL), TLM_OK);
    }
    for (int i = 0; i < MOST / 2; i++) add(b, &a[i]);
    for (int i = MOST / 2; i < MOST; i++) { // the others come while those are running
        step(b);
        add(b, &a[i]);
    }
    while (step(b) > 0) {
    }
    struct tlm_batch_info info = tlm_batch_info(b);
    if (cases[_i].cache) {
        ck_assert_uint_gt(info.preempted, 0);
        ck_assert_uint_gt(info.evicted, 0);
    } else {
        ck_assert_uint_eq(info.preempted, 0);
    }
    ck_assert_uint_gt(info.tokens_found, 300);
    ck_assert_uint_eq(info.kv_bytes_held, 0);
    tlm_batch_close(b);
    check_alone(m, a, MOST, cases[_i].kv_type);
    free_asked(a, MOST);
    free(a);
    tlm_model_close(m);
}
END_TEST

// 32 requests with 1000 tokens in common and 32 of their own take a tenth of what as many copies would.
START_TEST(test_shared_prefix)
{
    enum { REQUESTS = 32, SHARED = 1000, OWN = 32 };
    struct tlm_model *m = tiny(&(struct tiny_model){.type = DTYPE_F32, .width = 64, .context = 1200});
    struct tlm_batch *b;
    struct tlm_error err;
    struct tlm_batch_options o = {.parallel = REQUESTS, .context = 1100};
    ck_assert_msg(tlm_batch_open(&b, m, &o, &err) == TLM_OK, "%s", err.text);
    struct tlm_sampler *sampler[REQUESTS];
    struct tlm_sampler_options greedy = tlm_sampler_defaults();
    greedy.temperature = 0, greedy.ignore_end = true;
    uint64_t most = 0;
    int64_t left = REQUESTS;
    for (int i = 0; i < REQUESTS; i++) {
        int32_t prompt[SHARED + OWN];
        for (int t = 0; t < SHARED + OWN; t++) prompt[t] = (t < SHARED ? t * 7 : t * 7 + 1 + i) % TINY_VOCAB;
        ck_assert_int_eq(tlm_sampler_open(&sampler[i], m, &greedy, NULL), TLM_OK);
        struct tlm_generate_options g = {.max_tokens = 4};
        ck_assert_int_eq(tlm_batch_add(b, sampler[i], prompt, SHARED + OWN, &g, 0, NULL, NULL, NULL), TLM_OK);
    }
    while (left > 0) {
        left = step(b);
        struct tlm_batch_info info = tlm_batch_info(b);
        if (info.kv_bytes_held > most) most = info.kv_bytes_held;
    }
    uint64_t position = 2 * 2 * 2 * 64; // bytes: layers, keys and values, f16, one head of 64
    uint64_t copies = REQUESTS * (uint64_t)(SHARED + OWN) * position;
    ck_assert_msg(most <= copies / 10, "%llu bytes held, of %llu that copies would take",
                  (unsigned long long)most, (unsigned long long)copies);
    struct tlm_batch_info info = tlm_batch_info(b);
    // The first one reads the beginning alone, the others wait for it. It ends inside a block, which each has of its own.
    ck_assert_uint_le(info.rows, SHARED + REQUESTS * (OWN + 16 + 4));
    tlm_batch_close(b);
    for (int i = 0; i < REQUESTS; i++) tlm_sampler_close(sampler[i]);
    tlm_model_close(m);
}
END_TEST

// The most important first, then the earliest; who is waiting or running can be cancelled, once.
START_TEST(test_order_and_cancel)
{
    struct tlm_model *m = tiny(&(struct tiny_model){.type = DTYPE_F32, .width = 64});
    struct tlm_batch *b;
    struct order order = {0};
    struct asked *a = calloc(6, sizeof *a);
    static const int32_t priority[] = {0, 5, 0, 5, 9, 0};
    ck_assert_int_eq(
        tlm_batch_open(&b, m, &(struct tlm_batch_options){.parallel = 1, .context = CONTEXT}, NULL), TLM_OK);
    for (int i = 0; i < 6; i++) {
        ask(&a[i], i, m, 0);
        a[i].count = a[i].most = 3;
        a[i].priority = priority[i];
        a[i].order = &order;
        add(b, &a[i]);
    }
    step(b);                           // 4 has its first token
    ck_assert(tlm_batch_cancel(b, 3)); // waits
    ck_assert(!tlm_batch_cancel(b, 3));
    ck_assert(!tlm_batch_cancel(b, 77));
    ck_assert_int_eq(a[2].result.finish, TLM_FINISH_CANCELLED);
    ck_assert_int_eq(a[2].result.new_tokens, 0);
    ck_assert(tlm_batch_cancel(b, 5)); // runs
    ck_assert_int_eq(a[4].result.new_tokens, 1);
    while (step(b) > 0) {
    }
    static const int want[] = {2, 4, 1, 3, 0, 5};
    ck_assert_int_eq(order.count, 6);
    ck_assert_mem_eq(order.index, want, sizeof want);
    struct asked kept[] = {a[0], a[1], a[3], a[5]};
    check_alone(m, kept, 4, "f16");
    tlm_batch_close(b);
    free_asked(a, 6);
    free(a);
    tlm_model_close(m);
}
END_TEST

START_TEST(test_errors)
{
    struct tlm_model *m = tiny(&(struct tiny_model){.type = DTYPE_F32, .width = 64});
    struct tlm_batch *b;
    struct tlm_error err;
    ck_assert_int_eq(tlm_batch_open(&b, m, &(struct tlm_batch_options){.parallel = -1}, &err),
                     TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "parallel: expected 1 to 4096, found -1");
    ck_assert_int_eq(tlm_batch_open(&b, m, &(struct tlm_batch_options){.cache = -1}, &err), TLM_ERR_ARGUMENT);
    ck_assert_int_eq(tlm_batch_open(&b, m, &(struct tlm_batch_options){.kv_type_k = "x"}, &err),
                     TLM_ERR_ARGUMENT);
    ck_assert_ptr_null(b);
    // A cache smaller than the context bounds the context.
    ck_assert_int_eq(tlm_batch_open(&b, m, &(struct tlm_batch_options){.context = 100, .cache = 40}, &err),
                     TLM_OK);
    ck_assert_int_eq(tlm_batch_info(b).context, 48);
    int32_t prompt[64] = {0};
    struct tlm_generate_options o = {.max_tokens = 1};
    ck_assert_int_eq(tlm_batch_add(b, NULL, prompt, 0, &o, 0, NULL, NULL, &err), TLM_ERR_ARGUMENT);
    ck_assert_int_eq(tlm_batch_add(b, NULL, prompt, 49, &o, 0, NULL, NULL, &err), TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "context: 49 tokens do not fit into a context of 48");
    prompt[2] = TINY_VOCAB;
    ck_assert_int_eq(tlm_batch_add(b, NULL, prompt, 3, &o, 0, NULL, NULL, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "token 2: expected an id from 0 to 292, found 293");
    ck_assert_int_eq(step(b), 0);
    tlm_batch_close(b);
    tlm_batch_close(NULL);
    tlm_model_close(m);
}
END_TEST

// Every allocation fails once, then all from there on: an error each time, or the right answer; no leak (the sanitizers look), no crash.
START_TEST(test_failing_memory)
{
    struct tlm_model *m = tiny(&(struct tiny_model){.type = DTYPE_F32, .width = 64});
    struct asked *a = calloc(3, sizeof *a);
    for (int i = 0; i < 3; i++) ask(&a[i], i + 1, m, 0);
    bool whole = false;
    int failures = 0;
    for (long n = 0; !whole; n++) {
        struct tlm_batch *b = NULL;
        struct tlm_error err;
        int64_t left = 1;
        ck_assert_int_lt(n, 2000);
        for (int i = 0; i < 3; i++) {
            free(a[i].result.tokens);
            a[i].result.tokens = NULL, a[i].bytes = 0, a[i].ends = 0;
            tlm_sampler_reset(a[i].sampler);
        }
        alloc_fail_after(n);
        enum tlm_status s =
            tlm_batch_open(&b, m, &(struct tlm_batch_options){.parallel = 2, .context = CONTEXT}, &err);
        for (int i = 0; i < 3 && !s; i++) {
            struct tlm_generate_options o = options_of(&a[i]);
            s = tlm_batch_add(b, a[i].sampler, a[i].prompt, (size_t)a[i].count, &o, 0, done, NULL, &err);
        }
        while (!s && left) s = tlm_batch_step(b, &left, &err);
        alloc_fail_after(-1);
        if (s) ck_assert_int_eq(s, TLM_ERR_MEMORY);
        failures += s != TLM_OK;
        whole = !s;
        tlm_batch_close(b);
    }
    ck_assert_int_gt(failures, 10);
    check_alone(m, a, 3, "f16");
    free_asked(a, 3);
    free(a);
    tlm_model_close(m);
}
END_TEST

Suite *suite_batch(void)
{
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("batch");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_company, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, test_shared_prefix);
    tcase_add_test(t, test_order_and_cancel);
    tcase_add_test(t, test_errors);
    tcase_add_test(t, test_failing_memory);
    suite_add_tcase(s, t);
    return s;
}
