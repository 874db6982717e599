// tests/test_generate.c -- the loop from prompt to answer: stop strings, characters, finish reasons, determinism.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden.h"
#include "tests/tests.h"

struct answer {
    char text[8192];
    size_t bytes;
    int calls, ends;     // calls with a token, and the closing one
    int cancel_at;       // call to stop at; 0: none
    size_t borders[512]; // bytes there were behind each call
};

// Bytes of the well-formed UTF-8 character at text[at], 0 where there is none.
static size_t character(const struct answer *a, size_t at)
{
    unsigned char c = (unsigned char)a->text[at];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (at + n > a->bytes) return 0;
    for (size_t i = 1; i < n; i++)
        if ((a->text[at + i] & 0xc0) != 0x80) return 0;
    return n;
}

// The model draws any bytes, so the text is mostly no UTF-8; what is a character came in one piece.
static void check_borders(const struct answer *a)
{
    for (int i = 0; i < a->calls; i++)
        for (size_t back = 1; back <= 3 && back <= a->borders[i]; back++)
            ck_assert_uint_le(character(a, a->borders[i] - back), back);
}

static int collect(void *user, int32_t token, const char *text, size_t bytes)
{
    struct answer *a = user;
    ck_assert_uint_le(a->bytes + bytes, sizeof a->text);
    memcpy(a->text + a->bytes, text, bytes);
    a->bytes += bytes;
    if (token < 0)
        a->ends++;
    else
        a->borders[a->calls++] = a->bytes;
    return a->cancel_at && a->calls == a->cancel_at;
}

struct fixture {
    struct tlm_model *model;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
};

static struct fixture open_fixture(float temperature, uint64_t seed, int32_t context)
{
    struct fixture f = {.model = open_model("tests/golden/llama-plain.gguf", NULL)};
    f.session = open_session(f.model, (struct tlm_session_options){.context = context, .threads = 1});
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = temperature;
    o.seed = seed;
    o.ignore_end = true;
    ck_assert_int_eq(tlm_sampler_open(&f.sampler, f.model, &o, NULL), TLM_OK);
    return f;
}

static void close_fixture(struct fixture *f)
{
    tlm_sampler_close(f->sampler);
    tlm_session_close(f->session);
    tlm_model_close(f->model);
}

static enum tlm_finish run(struct fixture *f, struct tlm_generate_options o, struct answer *a)
{
    int32_t prompt[] = {1, 7, 11};
    struct tlm_generate_result r;
    struct tlm_error err = {0};
    o.on_token = collect;
    o.user = a;
    enum tlm_status s = tlm_generate(f->session, f->sampler, prompt, 3, &o, &r, &err);
    ck_assert_msg(s == TLM_OK, "%s", err.text);
    ck_assert_int_eq(r.new_tokens, a->calls);
    ck_assert_int_eq(a->ends, 1);
    check_borders(a);
    ck_assert(!memcmp(r.tokens, prompt, sizeof prompt));
    free(r.tokens);
    return r.finish;
}

START_TEST(test_length_and_context)
{
    struct fixture f = open_fixture(1, 5, 64);
    struct answer a = {0}, b = {0};
    ck_assert_int_eq(run(&f, (struct tlm_generate_options){.max_tokens = 10}, &a), TLM_FINISH_LENGTH);
    ck_assert_int_eq(a.calls, 10);
    ck_assert_int_eq(run(&f, (struct tlm_generate_options){0}, &b), TLM_FINISH_CONTEXT);
    ck_assert_int_eq(b.calls, 64 - 3 + 1); // the last drawn token needs no place
    close_fixture(&f);
}
END_TEST

START_TEST(test_same_seed_same_text)
{
    struct answer a = {0}, b = {0}, c = {0}, d = {0};
    struct fixture f = open_fixture(1, 7, 512);
    run(&f, (struct tlm_generate_options){.max_tokens = 100}, &a);
    tlm_sampler_reset(f.sampler);
    run(&f, (struct tlm_generate_options){.max_tokens = 100}, &b); // with the prompt already in the cache
    close_fixture(&f);
    f = open_fixture(1, 8, 512);
    run(&f, (struct tlm_generate_options){.max_tokens = 100}, &c);
    close_fixture(&f);
    f = open_fixture(0, 8, 512);
    run(&f, (struct tlm_generate_options){.max_tokens = 100}, &d);
    close_fixture(&f);
    ck_assert_uint_eq(a.bytes, b.bytes);
    ck_assert(!memcmp(a.text, b.text, a.bytes));
    ck_assert(a.bytes != c.bytes || memcmp(a.text, c.text, a.bytes) != 0);
    ck_assert(a.bytes != d.bytes || memcmp(a.text, d.text, a.bytes) != 0);
}
END_TEST

// A stop string taken from the middle of an answer ends it right there, wherever tokens begin and end.
START_TEST(test_stop_strings)
{
    struct answer whole = {0};
    struct fixture f = open_fixture(1, 11, 512);
    run(&f, (struct tlm_generate_options){.max_tokens = 120}, &whole);
    for (size_t n = 1; n <= 9; n++) {
        char stop[16] = {0};
        memcpy(stop, whole.text + 60, n);
        if (strlen(stop) != n) continue; // a zero byte cannot stand in a stop string
        const char *first = memmem(whole.text, whole.bytes, stop, n);
        const char *stops[] = {"never in the text, long as it is", stop};
        struct answer a = {0};
        tlm_sampler_reset(f.sampler);
        ck_assert_int_eq(
            run(&f, (struct tlm_generate_options){.max_tokens = 120, .stop = stops, .stop_count = 2}, &a),
            TLM_FINISH_STOP);
        ck_assert_uint_eq(a.bytes, (size_t)(first - whole.text));
        ck_assert(!memcmp(a.text, whole.text, a.bytes));
    }
    close_fixture(&f);
}
END_TEST

START_TEST(test_held_back_text_comes)
{
    // Half a stop string at the end of the answer is text after all.
    struct answer whole = {0}, a = {0};
    struct fixture f = open_fixture(1, 13, 512);
    run(&f, (struct tlm_generate_options){.max_tokens = 40}, &whole);
    char stop[64];
    size_t n = whole.bytes < 6 ? whole.bytes : 6;
    snprintf(stop, sizeof stop, "%.*s and no more", (int)n, whole.text + whole.bytes - n);
    const char *stops[] = {stop};
    tlm_sampler_reset(f.sampler);
    ck_assert_int_eq(
        run(&f, (struct tlm_generate_options){.max_tokens = 40, .stop = stops, .stop_count = 1}, &a),
        TLM_FINISH_LENGTH);
    ck_assert_uint_eq(a.bytes, whole.bytes);
    ck_assert(!memcmp(a.text, whole.text, a.bytes));
    close_fixture(&f);
}
END_TEST

START_TEST(test_cancel)
{
    struct fixture f = open_fixture(1, 5, 512);
    struct answer a = {.cancel_at = 4};
    ck_assert_int_eq(run(&f, (struct tlm_generate_options){.max_tokens = 50}, &a), TLM_FINISH_CANCELLED);
    ck_assert_int_eq(a.calls, 4);
    close_fixture(&f);
}
END_TEST

START_TEST(test_prompt_too_long)
{
    struct fixture f = open_fixture(1, 5, 16);
    int32_t prompt[20] = {1};
    struct tlm_generate_result r;
    struct tlm_error err;
    ck_assert_int_eq(
        tlm_generate(f.session, f.sampler, prompt, 20, &(struct tlm_generate_options){0}, &r, &err),
        TLM_ERR_CONTEXT);
    ck_assert_str_eq(err.text, "context: 20 tokens do not fit into a context of 16");
    free(r.tokens);
    close_fixture(&f);
}
END_TEST

Suite *suite_generate(void)
{
    Suite *s = suite_create("generate");
    TCase *t = tcase_create("generate");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_length_and_context);
    tcase_add_test(t, test_same_seed_same_text);
    tcase_add_test(t, test_stop_strings);
    tcase_add_test(t, test_held_back_text_comes);
    tcase_add_test(t, test_cancel);
    tcase_add_test(t, test_prompt_too_long);
    suite_add_tcase(s, t);
    return s;
}
