// tests/test_cuda_ahead.c -- passes that begin before the tokens in front of them are known: the texts are those of one pass after the other,
// and the device always has something to do.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "generate/draws.h"
#include "generate/session.h"
#include "tests/cuda_emu/control.h"
#include "tests/golden.h"
#include "tests/tests.h"

enum { PROMPT = 9, NEW = 14, KINDS = 7 };

static struct tlm_model *open_cuda(const char *path)
{
    struct tlm_model *m;
    struct tlm_error err;
    ck_assert_msg(!tlm_model_open(&m, path, &(struct tlm_model_options){.backend = "cuda"}, &err), "%s",
                  err.text);
    return m;
}

// With `end` the model's end of a text is likely; else it never comes.
static struct tlm_sampler *open_sampler(const struct tlm_model *m, int kind, bool end)
{
    static const struct tlm_logit_bias biases[] = {{2, 4.5f}, {7, 1}, {40, 2}};
    struct tlm_sampler_options o = tlm_sampler_defaults();
    struct tlm_sampler *s;
    struct tlm_error err;
    o.seed = 5 + (uint64_t)kind;
    o.ignore_end = !end;
    if (kind == 0) o.temperature = 0;
    if (kind == 2) o.repeat_penalty = 1.3f, o.presence_penalty = 0.2f, o.penalty_last_n = 7;
    if (kind == 3) o.samplers = "temperature", o.temperature = 1.2f;
    if (kind == 4) o.top_k = 0, o.top_p = 0.9f, o.frequency_penalty = 0.4f, o.penalty_last_n = -1;
    if (kind == 5) o.temperature = 0, o.repeat_penalty = 2, o.penalty_last_n = 1;
    if (kind == 6) o.repeat_penalty = 1.5f, o.frequency_penalty = 1, o.penalty_last_n = 12;
    if (kind == 6 || end) o.logit_bias = biases + !end, o.logit_bias_count = end ? 3 : 2;
    ck_assert_msg(!tlm_sampler_open(&s, m, &o, &err), "%s", err.text);
    return s;
}

struct text {
    int32_t tokens[128];
    int32_t count, prompt;
};

static struct text prompt_of(int seed)
{
    struct text t = {.count = PROMPT, .prompt = PROMPT};
    for (int i = 0; i < PROMPT; i++) t.tokens[i] = 20 + (seed + i * seed) % 4 + i % 3;
    return t;
}

// Each token drawn by the host from logits that came back.
static void write_slowly(struct tlm_session *s, struct tlm_sampler *sampler, struct text *t, int32_t most)
{
    struct tlm_error err;
    tlm_sampler_set_history(sampler, t->tokens, (size_t)t->count);
    for (int32_t i = 0; i < most; i++) {
        ck_assert_msg(!tlm_session_sync(s, t->tokens, (size_t)t->count, &err), "%s", err.text);
        const int32_t token = tlm_sampler_next(sampler, tlm_session_logits(s));
        tlm_sampler_accept(sampler, token);
        t->tokens[t->count++] = token;
        if (tlm_token_is_end(tlm_session_model(s), token)) return;
    }
}

static struct tlm_generate_result write(struct tlm_session *s, struct tlm_sampler *sampler, struct text *t,
                                        struct tlm_generate_options o)
{
    struct tlm_generate_result r;
    struct tlm_error err;
    ck_assert_msg(!tlm_generate(s, sampler, t->tokens, (size_t)t->count, &o, &r, &err), "%s", err.text);
    t->count = r.prompt_tokens + r.new_tokens;
    memcpy(t->tokens, r.tokens, (size_t)t->count * sizeof *r.tokens);
    free(r.tokens);
    return r;
}

static void expect_text(const struct text *t, const struct text *expected, const char *what)
{
    ck_assert_msg(t->count == expected->count, "%s: %d tokens, expected %d", what, (int)t->count,
                  (int)expected->count);
    for (int32_t i = 0; i < t->count; i++)
        ck_assert_msg(t->tokens[i] == expected->tokens[i], "%s, token %d: expected %d, found %d", what,
                      (int)i, (int)expected->tokens[i], (int)t->tokens[i]);
}

// As if no token but those of the text had ever been drawn.
static void expect_state(const struct tlm_sampler *s, const struct tlm_sampler *expected)
{
    ck_assert_uint_eq(s->draws, expected->draws);
    ck_assert_int_eq(s->accepted, expected->accepted);
    ck_assert_int_eq(s->distinct_count, expected->distinct_count);
}

// ---- one answer -------------------------------------------------------------------------------------------

// Texts that reach their length, and those that the model ends; then more of them on the same session, which has to be as it was. All the
// while the host waits only for what has work behind it.
START_TEST(test_texts)
{
    const int kind = _i % KINDS;
    const bool end = _i >= KINDS;
    struct tlm_model *m = open_cuda("tests/golden/llama-plain.gguf");
    const struct tlm_session_options o = {.context = 64, .batch = kind % 2 ? 4 : 0};
    struct tlm_session *own = open_session(m, o), *other = open_session(m, o);
    struct tlm_sampler *sampler = open_sampler(m, kind, end), *expected = open_sampler(m, kind, end);
    struct text t = prompt_of(kind), slow = t;
    emu_set_order((enum emu_order)(kind % 3), (uint64_t)kind);
    for (int more = 0; more < 2; more++) {
        const int64_t idle = emu_idle();
        const struct tlm_generate_result r =
            write(own, sampler, &t, (struct tlm_generate_options){.max_tokens = more ? 3 : NEW});
        // Once where the text is at its end; the chunks of a prompt before.
        ck_assert_int_le(emu_idle() - idle, 1 + (o.batch ? 2 : 0) + (r.finish == TLM_FINISH_END));
        write_slowly(other, expected, &slow, more ? 3 : NEW);
        expect_text(&t, &slow, "text");
        expect_state(sampler, expected);
    }
    ck_assert_int_eq(tlm_session_info(own).length, t.count - 1);
    tlm_sampler_close(sampler), tlm_sampler_close(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m);
}
END_TEST

static int stop_at_fifth(void *user, int32_t token, const char *text, size_t bytes)
{
    (void)token, (void)text, (void)bytes;
    return ++*(int *)user == 5;
}

static int no_more(void *user, int32_t done, int32_t total)
{
    (void)user;
    return done == total;
}

// Who looks on while the prompt is read ends the text, or a piece of text does, or who listens; the session goes on from there. The last text fills
// the context.
START_TEST(test_ends)
{
    struct tlm_model *m = open_cuda("tests/golden/llama-plain.gguf");
    struct tlm_session *own = open_session(m, (struct tlm_session_options){.context = 32}),
                       *other = open_session(m, (struct tlm_session_options){.context = 32});
    struct text whole = prompt_of(1);
    struct tlm_sampler *sampler = open_sampler(m, 6, false);
    write_slowly(other, sampler, &whole, NEW);
    char piece[64] = "";
    size_t length;
    struct tlm_error err;
    ck_assert(!tlm_detokenize(m, whole.tokens + PROMPT + 3, 3, TLM_CONTINUE, piece, sizeof piece - 1, &length,
                              &err));
    piece[length] = '\0';
    const char *stop[] = {piece};
    for (int end = 0; end < 4; end++) {
        int heard = 0;
        struct tlm_generate_options o = {.user = &heard, .max_tokens = NEW};
        if (end == 0) o.on_prompt = no_more;
        if (end == 1) o.stop = stop, o.stop_count = 1;
        if (end == 2) o.on_token = stop_at_fifth;
        if (end == 3) o.max_tokens = 0; // until the context is full
        struct text t = prompt_of(1), rest = t;
        tlm_sampler_reset(sampler);
        const struct tlm_generate_result r = write(own, sampler, &t, o);
        static const enum tlm_finish finish[] = {TLM_FINISH_CANCELLED, TLM_FINISH_STOP, TLM_FINISH_CANCELLED,
                                                 TLM_FINISH_CONTEXT};
        ck_assert_int_eq(r.finish, finish[end]);
        if (end < 3) {
            rest = t;
            for (int32_t i = 0; i < t.count; i++) ck_assert_int_eq(t.tokens[i], whole.tokens[i]);
            write(own, sampler, &t, (struct tlm_generate_options){.max_tokens = PROMPT + NEW - t.count});
        } else {
            ck_assert_int_eq(t.count, 33);
            t.count = PROMPT + NEW;
        }
        if (end == 1) ck_assert_int_lt(rest.count, PROMPT + 7);
        expect_text(&t, &whole, "goes on");
    }
    tlm_sampler_close(sampler);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(m);
}
END_TEST

// What the device cannot draw, or the host has to draw, has no pass behind it, or one that does not count.
START_TEST(test_host_draws)
{
    struct tlm_error err;
    struct tlm_model *m = open_cuda("models/pretrained/tinylm-stories-q4_0.gguf");
    ck_assert_int_gt(tlm_model_vocab_size(m), DRAW_LIST);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 64});
    struct text t = prompt_of(3), slow = t;
    for (int slowly = 0; slowly < 2; slowly++) {
        struct tlm_sampler_options o = tlm_sampler_defaults();
        struct tlm_sampler *sampler;
        // More tokens than a list has
        o.samplers = "temperature;top_p", o.temperature = 20, o.top_p = 0.99f, o.ignore_end = true;
        ck_assert(!tlm_sampler_open(&sampler, m, &o, &err));
        if (slowly)
            write_slowly(s, sampler, &slow, 4);
        else
            write(s, sampler, &t, (struct tlm_generate_options){.max_tokens = 4});
        ck_assert(slowly || (s->forward.alone && s->forward.drawn));
        tlm_sampler_close(sampler);
    }
    expect_text(&t, &slow, "the host's");
    tlm_session_close(s);
    tlm_model_close(m);
}
END_TEST

// ---- several in one pass ----------------------------------------------------------------------------------

static void keep_result(void *user, const struct tlm_generate_result *r)
{
    struct text *t = user;
    t->count = r->prompt_tokens + r->new_tokens;
    memcpy(t->tokens, r->tokens, (size_t)t->count * sizeof *r->tokens);
    free(r->tokens);
}

// Requests that come and go, one of them taken back, over a cache that is too small for all.
START_TEST(test_batch)
{
    enum { REQUESTS = 6 };
    struct tlm_error err;
    struct tlm_model *m = open_cuda("tests/golden/llama-plain.gguf");
    struct tlm_sampler *sampler[REQUESTS];
    struct text t[REQUESTS];
    struct tlm_batch *b;
    int64_t left = 1, id[REQUESTS];
    const struct tlm_batch_options o = {.context = 64, .parallel = 3, .cache = _i ? 80 : 0};
    ck_assert_msg(!tlm_batch_open(&b, m, &o, &err), "%s", err.text);
    const int64_t idle = emu_idle();
    int added = 0;
    for (int step = 0; left || added < REQUESTS; step++) {
        if (step % 3 == 0 && added < REQUESTS) {
            const int i = added++;
            t[i] = prompt_of(i);
            t[i].count -= i; // as many tokens of the prompt
            sampler[i] = open_sampler(m, i, i == 1);
            const struct tlm_generate_options one = {.max_tokens = 4 + 3 * i, .user = &t[i]};
            ck_assert(!tlm_batch_add(b, sampler[i], t[i].tokens, (size_t)t[i].count, &one, 0, keep_result,
                                     &id[i], &err));
        }
        ck_assert_msg(!tlm_batch_step(b, &left, &err), "%s", err.text);
        if (step == 14) ck_assert(tlm_batch_cancel(b, id[4]));
    }
    const struct tlm_batch_info info = tlm_batch_info(b);
    if (!_i) ck_assert_int_lt(emu_idle() - idle, (int64_t)info.passes * 2 / 3);
    ck_assert_int_eq(info.running, 0);
    ck_assert_uint_eq(info.kv_bytes_held, 0);
    tlm_batch_close(b);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 64});
    for (int i = 0; i < REQUESTS; i++) {
        struct text slow = prompt_of(i);
        slow.count -= i;
        struct tlm_sampler *expected = open_sampler(m, i, i == 1);
        write_slowly(s, expected, &slow, 4 + 3 * i);
        if (i == 4) slow.count = t[i].count;
        expect_text(&t[i], &slow, "in company");
        tlm_sampler_close(sampler[i]), tlm_sampler_close(expected);
    }
    tlm_session_close(s);
    tlm_model_close(m);
}
END_TEST

Suite *suite_cuda_ahead(void)
{
    Suite *s = suite_create("cuda_ahead");
    TCase *t = tcase_create("cuda_ahead");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_texts, 0, 2 * KINDS);
    tcase_add_test(t, test_ends);
    tcase_add_test(t, test_host_draws);
    tcase_add_loop_test(t, test_batch, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
