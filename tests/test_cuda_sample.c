// tests/test_cuda_sample.c -- draws on the GPU's kernels against the host's chain of samplers: from the same logits the same tokens.
#include <float.h>

#include "core/rng.h"
#include "generate/draws.h"
#include "generate/session.h"
#include "tests/cuda_kernels.h"
#include "tests/golden.h"
#include "tests/tests.h"

enum { ROWS = 6, N_HISTORY = 40 };

static const struct tlm_logit_bias some_bias[] = {{1, 2.5f}, {0, -INFINITY}, {40, -1}, {19, 0.25f}};

static const struct chain {
    const char *samplers;
    float temperature, top_p, min_p, typical_p, repeat, frequency;
    int32_t top_k, last_n;
    int bias;
} chains[] = {
    {"temperature", 0, 1, 0, 1, 1, 0, 0, 64, 0}, // greedy
    {"penalties;temperature", 0, 1, 0, 1, 1.3f, 0.2f, 0, 64, 3},
    {"", 1, 1, 0, 1, 1, 0, 0, 64, 0},
    {"temperature", 0.6f, 1, 0, 1, 1, 0, 0, 64, 0},
    {"temperature", 1e-30f, 1, 0, 1, 1, 0, 0, 64, 0},
    {"temperature", 1e30f, 1, 0, 1, 1, 0, 0, 64, 0},
    {"penalties;temperature", 1.5f, 1, 0, 1, 0.8f, -0.1f, 0, 20, 4},
    {"top_k", 1, 1, 0, 1, 1, 0, 40, 64, 0},
    {"top_k", 1, 1, 0, 1, 1, 0, 1, 64, 0},
    {"top_k;temperature", 0.01f, 1, 0, 1, 1, 0, 500, 64, 0},
    {"top_p", 1, 0.9f, 0, 1, 1, 0, 0, 64, 0},
    {"top_p", 1, 1e-6f, 0, 1, 1, 0, 0, 64, 0},
    {"temperature;top_p", 0.5f, 0.8f, 0, 1, 1, 0, 0, 64, 0},
    {"top_p;temperature", 0.5f, 0.8f, 0, 1, 1, 0, 0, 64, 0},
    {"min_p;temperature", 2, 1, 0.05f, 1, 1, 0, 0, 64, 0},
    {"temperature;min_p", 2, 1, 0.2f, 1, 1, 0, 0, 64, 0},
    {"top_p;typ_p;top_k", 1, 0.7f, 0, 0.6f, 1, 0, 5, 64, 0},
    {"min_p;top_k;typ_p", 1, 1, 0.01f, 0.6f, 1, 0, 30, 64, 2},
    {"top_k;typ_p;top_p;min_p;temperature", 0.8f, 0.95f, 0.05f, 0.9f, 1, 0, 40, 64, 0},
    {"penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature", 0.9f, 0.95f, 0.01f, 0.95f, 1.1f, 0.1f, 80, 64,
     4},
};
enum { CHAINS = sizeof chains / sizeof *chains };

static struct tlm_sampler *open_chain(int i, int32_t vocab, struct tlm_grammar *grammar)
{
    const struct chain *c = &chains[i];
    struct tlm_sampler_options o = tlm_sampler_defaults();
    struct tlm_error err;
    struct tlm_sampler *s;
    o.samplers = c->samplers, o.seed = 11 + (uint64_t)i;
    o.temperature = c->temperature, o.top_p = c->top_p, o.min_p = c->min_p, o.typical_p = c->typical_p;
    o.top_k = c->top_k, o.repeat_penalty = c->repeat, o.frequency_penalty = c->frequency;
    o.penalty_last_n = c->last_n;
    o.logit_bias = some_bias, o.grammar = grammar;
    while (o.logit_bias_count < (size_t)c->bias && some_bias[o.logit_bias_count].token < vocab)
        o.logit_bias_count++;
    const struct sampler_vocab v = {.size = vocab, .context = 64};
    ck_assert_msg(!sampler_open_vocab(&s, &v, &o, &err), "%s", err.text);
    ck_assert(sampler_is_drawable(s));
    return s;
}

// What models give, and what none should.
static void fill(float *x, int32_t n, int kind, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++) {
        const float u = random_signed(seed, (uint64_t)i), v = random_signed(seed + 1, (uint64_t)i);
        switch (kind) {
        case 0: x[i] = 8 * u * u * u; break;
        case 1: x[i] = 20 * u; break;
        case 2: x[i] = (float)(int)(4 * u); break; // equals
        case 3: x[i] = v > 0.5f ? -INFINITY : 6 * u; break;
        case 4: x[i] = v > 0.9f ? NAN : v > 0.8f ? INFINITY : u; break;
        case 5: x[i] = FLT_MAX * u; break;
        case 6: x[i] = 1; break;
        case 7: x[i] = i % 3 ? -INFINITY : NAN; break; // no candidate
        case 8: x[i] = i == n / 2 ? 30 : u; break;
        default: x[i] = 1e-40f * u; break;
        }
    }
}
enum { KINDS = 10 };

struct run {
    int32_t vocab;
    struct tlm_sampler *sampler[ROWS];
    struct pass_draws draws;
    int drawn, left; // by the device; to the host
};

// All rows on the device, then each on the host. What the device has left is drawn from the logits as it left them.
static void compare(struct run *r, const float *logits, const int32_t *ahead, int32_t count)
{
    struct pass_draws *d = &r->draws;
    const size_t bytes = (size_t)ROWS * (size_t)r->vocab * sizeof(float);
    draws_begin(d, ROWS);
    for (int i = 0; i < ROWS; i++)
        if (i != 4) draws_add(d, i, r->sampler[i], ahead, count); // one row is the host's
    struct cuda_sample a = {.most = ROWS + 1, .vocab = r->vocab};
    a.drawn = device(NULL, (ROWS + 1) * sizeof *a.drawn), a.x = device(logits, bytes);
    a.data = device(d->data, d->used), a.scratch = device(NULL, cuda_sample_scratch(a.most, a.vocab));
    cuda_sample(NULL, &a);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_int_eq(a.drawn[ROWS], -1);
    for (int i = 0; i < ROWS; i++) {
        for (int32_t j = 0; j < count; j++) tlm_sampler_accept(r->sampler[i], ahead[j]);
        r->sampler[i]->draws += (uint64_t)count;
        const float *row = logits + i * r->vocab;
        const uint64_t draws = r->sampler[i]->draws;
        const int32_t expected = tlm_sampler_next(r->sampler[i], row);
        r->sampler[i]->draws = draws;
        ck_assert(i != 4 || (a.drawn[i] == DRAW_NONE &&
                             !memcmp(a.x + i * r->vocab, row, sizeof(float) * (size_t)r->vocab)));
        const int32_t token = i == 4 ? expected : sampler_take(r->sampler[i], a.drawn[i], a.x + i * r->vocab);
        ck_assert_msg(token == expected, "vocabulary of %d, %s, row %d: expected %d, found %d (%d)",
                      (int)r->vocab, r->sampler[i]->greedy ? "greedy" : "drawn", i, (int)expected, (int)token,
                      (int)a.drawn[i]);
        r->drawn += a.drawn[i] != DRAW_NONE, r->left += i != 4 && a.drawn[i] == DRAW_NONE;
        tlm_sampler_accept(r->sampler[i], expected);
    }
    done();
}

static struct run open_run(int32_t vocab, int first)
{
    struct tlm_error err;
    struct run r = {.vocab = vocab};
    ck_assert(!draws_open(&r.draws, ROWS, vocab, &err));
    for (int i = 0; i < ROWS; i++) {
        r.sampler[i] = open_chain((first + i) % CHAINS, vocab, NULL);
        for (int32_t j = 0; j < N_HISTORY; j++) tlm_sampler_accept(r.sampler[i], j * j % 7 % vocab);
    }
    return r;
}

static void close_run(struct run *r)
{
    for (int i = 0; i < ROWS; i++) tlm_sampler_close(r->sampler[i]);
    draws_close(&r->draws);
}

static const int32_t sizes[] = {1, 2, 33, 100, 512, 513, 1025, 3000};
enum { SIZES = sizeof sizes / sizeof *sizes };

// Every chain, over every kind of logits.
START_TEST(test_chains)
{
    const int32_t vocab = sizes[_i];
    float *logits = malloc((size_t)ROWS * (size_t)vocab * sizeof *logits);
    int drawn = 0, left = 0;
    for (int first = 0; first < CHAINS; first += ROWS - 1) {
        struct run r = open_run(vocab, first);
        for (int kind = (_i + first) % 3; kind < KINDS; kind += 3) {
            orders(kind + _i);
            fill(logits, ROWS * vocab, kind, (uint64_t)(100 * _i + kind));
            const int32_t ahead[2] = {vocab / 2, 0};
            compare(&r, logits, ahead, kind % 2 ? 2 : 0);
        }
        drawn += r.drawn, left += r.left;
        close_run(&r);
    }
    if (vocab <= DRAW_LIST) ck_assert_int_eq(left, 0);
    ck_assert_int_gt(drawn, left);
    free(logits);
}
END_TEST

// A large vocabulary as models have it: most rows are the device's.
START_TEST(test_large_vocabulary)
{
    enum { VOCAB = 128256 };
    float *logits = malloc((size_t)ROWS * VOCAB * sizeof *logits);
    const int first = _i * ROWS;
    struct run r = open_run(VOCAB, first);
    orders(_i);
    fill(logits, ROWS * VOCAB, 0, 5);
    compare(&r, logits, NULL, 0);
    close_run(&r);
    free(logits);
}
END_TEST

// Many draws from few tokens, counted: the device's are as likely as the probabilities say.
START_TEST(test_many_draws)
{
    enum { VOCAB = 40, TURNS = 25 };
    float *logits = malloc((size_t)ROWS * VOCAB * sizeof *logits);
    struct run r = open_run(VOCAB, 2);
    for (int turn = 0; turn < TURNS; turn++) {
        orders(turn);
        fill(logits, ROWS * VOCAB, turn % 2 ? 0 : 2, (uint64_t)turn);
        compare(&r, logits, NULL, 0);
    }
    ck_assert_int_eq(r.left, 0);
    close_run(&r);
    free(logits);
}
END_TEST

// ---- answers ------------------------------------------------------------------------------------------

enum { NEW = 12, PROMPT = 9, ANSWERS = 5 };

// The host draws where two biases are of one token, here of 0.
static struct tlm_sampler *open_sampler(const struct tlm_model *m, int kind, bool on_host,
                                        const struct tlm_grammar *grammar)
{
    static const struct tlm_logit_bias twice[] = {{3, 0}, {3, 0}};
    struct tlm_sampler_options o = tlm_sampler_defaults();
    struct tlm_sampler *s;
    struct tlm_error err;
    o.seed = 5 + (uint64_t)kind;
    if (kind == 0) o.temperature = 0;
    if (kind == 2) o.repeat_penalty = 1.3f, o.presence_penalty = 0.2f, o.penalty_last_n = 7;
    if (kind == 3) o.samplers = "temperature", o.temperature = 1.2f;
    if (kind == 4) o.top_k = 0, o.top_p = 0.9f, o.frequency_penalty = 0.1f, o.penalty_last_n = -1;
    o.grammar = grammar;
    o.ignore_end = !grammar;
    if (on_host) o.logit_bias = twice, o.logit_bias_count = 2;
    ck_assert_msg(!tlm_sampler_open(&s, m, &o, &err), "%s", err.text);
    ck_assert_int_eq(sampler_is_drawable(s), !on_host);
    return s;
}

// One answer, whose tokens the caller frees.
static struct tlm_generate_result answer(struct tlm_session *s, struct tlm_sampler *sampler,
                                         struct tlm_drafter *drafter)
{
    int32_t prompt[PROMPT];
    struct tlm_generate_result r;
    struct tlm_error err;
    for (int i = 0; i < PROMPT; i++) prompt[i] = 20 + i % 4;
    const struct tlm_generate_options o = {.max_tokens = NEW, .drafter = drafter};
    ck_assert_msg(!tlm_generate(s, sampler, prompt, PROMPT, &o, &r, &err), "%s", err.text);
    return r;
}

static void expect_same(struct tlm_generate_result *a, struct tlm_generate_result *b, const char *what)
{
    ck_assert_int_eq(a->new_tokens, b->new_tokens);
    for (int i = 0; i < PROMPT + a->new_tokens; i++)
        ck_assert_msg(a->tokens[i] == b->tokens[i], "%s, token %d: expected %d, found %d", what, i,
                      b->tokens[i], a->tokens[i]);
    free(a->tokens), free(b->tokens);
}

// A whole answer, plain, with guesses from the text, and with those of a model, by the device and by the host.
START_TEST(test_answers)
{
    static const char *const kinds[] = {"plain", "lookup", "draft model"};
    struct tlm_error err;
    struct tlm_model *m;
    const struct tlm_model_options on_cuda = {.backend = "cuda"};
    ck_assert_msg(!tlm_model_open(&m, "tests/golden/llama-plain.gguf", &on_cuda, &err), "%s", err.text);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 64});
    struct tlm_session *other = open_session(m, (struct tlm_session_options){.context = 64});
    for (int kind = 0; kind < 3; kind++) {
        struct tlm_generate_result r[2];
        for (int on_host = 0; on_host < 2; on_host++) {
            struct tlm_sampler *sampler = open_sampler(m, _i, on_host, NULL);
            struct tlm_sampler *guesses = open_sampler(m, _i, on_host, NULL);
            struct tlm_drafter *d = NULL;
            if (kind == 1) ck_assert(!tlm_drafter_open_lookup(&d, &err));
            if (kind == 2) ck_assert(!tlm_drafter_open_model(&d, other, guesses, m, &err));
            r[on_host] = answer(s, sampler, d);
            ck_assert_int_eq(s->forward.drawn, !on_host);
            ck_assert(kind < 2 || (r[on_host].drafted_tokens && other->forward.drawn == !on_host));
            tlm_drafter_close(d);
            tlm_sampler_close(sampler), tlm_sampler_close(guesses);
        }
        expect_same(&r[0], &r[1], kinds[kind]);
    }
    const int32_t again[] = {1, 2};
    ck_assert(!tlm_session_sync(s, again, 2, &err)); // logits are there again
    ck_assert(!s->forward.drawn && tlm_session_logits(s));
    tlm_session_close(s), tlm_session_close(other);
    tlm_model_close(m);
}
END_TEST

// A grammar's mask.
START_TEST(test_grammar_on_device)
{
    static const char rules[] = "root ::= [a-f]+";
    struct tlm_error err;
    struct tlm_model *m;
    struct tlm_grammar *grammar;
    const struct tlm_model_options on_cuda = {.backend = "cuda"};
    ck_assert_msg(!tlm_model_open(&m, "tests/golden/llama-plain.gguf", &on_cuda, &err), "%s", err.text);
    ck_assert_msg(!tlm_grammar_open(&grammar, m, TLM_GRAMMAR_GBNF, rules, sizeof rules - 1, &err), "%s",
                  err.text);
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 64});
    struct tlm_generate_result r[2];
    for (int on_host = 0; on_host < 2; on_host++) {
        struct tlm_sampler *sampler = open_sampler(m, 1, on_host, grammar);
        r[on_host] = answer(s, sampler, NULL);
        ck_assert_int_eq(s->forward.drawn, !on_host);
        tlm_sampler_close(sampler);
    }
    expect_same(&r[0], &r[1], "grammar");
    tlm_session_close(s);
    tlm_grammar_close(grammar);
    tlm_model_close(m);
}
END_TEST

static void keep_result(void *user, const struct tlm_generate_result *r)
{
    *(struct tlm_generate_result *)user = *r;
}

// Requests in the same passes, each with a chain of its own, one of them the host's.
START_TEST(test_batch_on_device)
{
    struct tlm_error err;
    struct tlm_model *m;
    const struct tlm_model_options on_cuda = {.backend = "cuda"};
    ck_assert_msg(!tlm_model_open(&m, "tests/golden/llama-plain.gguf", &on_cuda, &err), "%s", err.text);
    struct tlm_generate_result r[3][ANSWERS];
    for (int turn = 0; turn < 3; turn++) { // by the device, by the host, by both
        struct tlm_batch *b;
        struct tlm_sampler *sampler[ANSWERS];
        int64_t left = 1;
        ck_assert(
            !tlm_batch_open(&b, m, &(struct tlm_batch_options){.context = 64, .parallel = ANSWERS}, &err));
        for (int i = 0; i < ANSWERS; i++) {
            sampler[i] = open_sampler(m, i, turn == 1 || (turn == 2 && i == 3), NULL);
            const int32_t prompt[PROMPT] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
            const struct tlm_generate_options o = {.max_tokens = 10 + 3 * i, .user = &r[turn][i]};
            ck_assert(
                !tlm_batch_add(b, sampler[i], prompt, (size_t)(PROMPT - i), &o, 0, keep_result, NULL, &err));
        }
        while (left) ck_assert_msg(!tlm_batch_step(b, &left, &err), "%s", err.text);
        tlm_batch_close(b);
        for (int i = 0; i < ANSWERS; i++) tlm_sampler_close(sampler[i]);
    }
    for (int i = 0; i < ANSWERS; i++)
        for (int turn = 1; turn < 3; turn++) {
            ck_assert_int_eq(r[0][i].new_tokens, r[turn][i].new_tokens);
            ck_assert_mem_eq(r[0][i].tokens, r[turn][i].tokens,
                             (size_t)(r[0][i].prompt_tokens + r[0][i].new_tokens) * sizeof(int32_t));
        }
    for (int i = 0; i < 3 * ANSWERS; i++) free(r[i / ANSWERS][i % ANSWERS].tokens);
    tlm_model_close(m);
}
END_TEST

Suite *suite_cuda_sample(void)
{
    Suite *s = suite_create("cuda_sample");
    TCase *t = tcase_create("draws");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_chains, 0, SIZES);
    tcase_add_loop_test(t, test_large_vocabulary, 0, (CHAINS + ROWS - 1) / ROWS);
    tcase_add_test(t, test_many_draws);
    tcase_add_loop_test(t, test_answers, 0, ANSWERS);
    tcase_add_test(t, test_grammar_on_device);
    tcase_add_test(t, test_batch_on_device);
    suite_add_tcase(s, t);
    return s;
}
