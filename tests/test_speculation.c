// tests/test_speculation.c -- guesses never change the text: planted right and wrong ones, branches, lookup, draft models; and what is drawn
// has the model's distribution.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "generate/draft.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

enum { PROMPT = 37, NEW = 150, TOTAL = PROMPT + NEW };

static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_K};
enum { TYPES = sizeof types / sizeof *types };

// ---- planted guesses ----------------------------------------------------------------------------------

enum plant { PLANT_RIGHT, PLANT_WRONG, PLANT_MIXED, PLANT_KINDS };

struct planted {
    struct tlm_drafter base;
    enum plant plant;
    const int32_t *text; // the whole timeline that comes
    int32_t length;
    uint64_t calls;
};

// Whatever was measured, guess as much as there is room for.
static void insist(struct tlm_drafter *d)
{
    d->control = (struct draft_control){.plain = 1};
    for (int i = 0; i < DRAFT_KINDS; i++) {
        struct draft_kind *k = &d->control.kinds[i];
        k->next.right = 1e9;
        for (int b = 0; b < DRAFT_BRANCHES; b++)
            k->first[b].right = k->first[b].wrong = 1e9; // each is worth its rows
    }
    for (int i = 2; i <= DRAFT_ROWS; i++) d->control.cost[i] = (struct draft_cost){1, 1000};
}

static int planted_kind(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches)
{
    (void)tokens, (void)count;
    insist(d);
    *branches = DRAFT_BRANCHES;
    return 0;
}

// Branch b guesses the first right[b] tokens right and the others wrong.
static enum tlm_status planted_guess(struct tlm_drafter *d, const struct tlm_sampler *sampler,
                                     const int32_t *tokens, int32_t count, int32_t most, int32_t branches,
                                     struct draft *draft, struct tlm_error *err)
{
    (void)sampler, (void)tokens, (void)err;
    struct planted *p = (struct planted *)d;
    uint64_t call = p->calls++;
    draft->branches = p->plant == PLANT_MIXED ? 1 + (int32_t)(rng_uniform(1, 0, call) * branches) : 1;
    int32_t lucky = (int32_t)(rng_uniform(1, 1, call) * draft->branches);
    for (int32_t b = 0; b < draft->branches; b++) {
        int32_t right = p->plant == PLANT_RIGHT ? most : 0, n = most;
        if (p->plant == PLANT_MIXED) {
            n = 1 + (int32_t)(rng_uniform(1, 2 + (uint64_t)b, call) * most);
            right = b == lucky ? (int32_t)(rng_uniform(1, 9, call) * (n + 1)) : 0;
        }
        for (int32_t i = 0; i < n; i++) {
            int32_t next = count + i < p->length ? p->text[count + i] : 5;
            draft->tokens[b][i] = i < right ? next : (next + 1 + b) % TINY_VOCAB;
        }
        draft->count[b] = n;
    }
    return TLM_OK;
}

static void planted_close(struct tlm_drafter *d)
{
    (void)d;
}

static const struct drafter_class planted_class = {planted_kind, NULL, planted_guess, planted_close};

// ---- one answer ---------------------------------------------------------------------------------------

struct run {
    int32_t tokens[TOTAL];
    int32_t count;
    struct tlm_generate_result result;
};

static struct tlm_sampler *open_sampler(const struct tlm_model *m, float temperature, uint64_t seed)
{
    struct tlm_sampler *s;
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = temperature;
    o.seed = seed;
    o.repeat_penalty = 1.1f; // penalties see guessed tokens, too
    o.ignore_end = true;
    ck_assert_int_eq(tlm_sampler_open(&s, m, &o, NULL), TLM_OK);
    return s;
}

static struct run answer(const struct tlm_model *m, float temperature, struct tlm_drafter *drafter)
{
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 256, .batch = 64});
    struct tlm_sampler *sampler = open_sampler(m, temperature, 3);
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 7 + 3) % 11 + 20; // repeats itself
    struct run r = {0};
    struct tlm_error err;
    struct tlm_generate_options o = {.max_tokens = NEW, .drafter = drafter};
    ck_assert_int_eq(tlm_generate(s, sampler, prompt, PROMPT, &o, &r.result, &err), TLM_OK);
    r.count = r.result.prompt_tokens + r.result.new_tokens;
    ck_assert_int_eq(r.count, TOTAL);
    memcpy(r.tokens, r.result.tokens, sizeof r.tokens);
    free(r.result.tokens);
    // Nothing is lost of the cache: the whole timeline but its last token is still there.
    uint64_t computed = tlm_session_info(s).tokens_computed;
    ck_assert_int_eq(tlm_session_sync(s, r.tokens, TOTAL, NULL), TLM_OK);
    ck_assert_uint_eq(tlm_session_info(s).tokens_computed, computed + 1);
    tlm_sampler_close(sampler);
    tlm_session_close(s);
    return r;
}

static void same_text(const struct run *a, const struct run *b, const char *what)
{
    for (int i = 0; i < TOTAL; i++)
        if (a->tokens[i] != b->tokens[i])
            ck_abort_msg("%s: token %d: expected %d, found %d", what, i, a->tokens[i], b->tokens[i]);
}

static struct tlm_model *tiny(struct temp_folder *folder, const struct tiny_model *t)
{
    struct temp_path path = temp_path(folder, "tiny.gguf");
    tiny_model_write(path.text, t);
    return open_model(path.text, NULL);
}

START_TEST(test_planted)
{
    struct temp_folder folder = temp_folder_open();
    struct tlm_model *m = tiny(&folder, &(struct tiny_model){.type = types[_i % TYPES]});
    float temperature = _i / TYPES ? 0.8f : 0;
    struct run plain = answer(m, temperature, NULL);
    ck_assert_int_eq(plain.result.drafted_tokens, 0);
    for (int plant = 0; plant < PLANT_KINDS; plant++) {
        struct planted p = {
            .base.class = &planted_class, .plant = (enum plant)plant, .text = plain.tokens, .length = TOTAL};
        struct run r = answer(m, temperature, &p.base);
        same_text(&plain, &r, "planted guesses");
        if (plant == PLANT_RIGHT) ck_assert_int_eq(r.result.accepted_tokens, r.result.drafted_tokens);
        if (plant == PLANT_WRONG) ck_assert_int_eq(r.result.accepted_tokens, 0);
        if (plant == PLANT_MIXED) ck_assert_int_gt(r.result.accepted_tokens, NEW / 3);
        ck_assert_int_gt(r.result.drafted_tokens, 20);
    }
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// ---- lookup -------------------------------------------------------------------------------------------

static int insisting_kind(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches);
static const struct drafter_class *inner; // of the drafter that is made to guess; set by one test at a time

static enum tlm_status inner_guess(struct tlm_drafter *d, const struct tlm_sampler *sampler,
                                   const int32_t *tokens, int32_t count, int32_t most, int32_t branches,
                                   struct draft *draft, struct tlm_error *err)
{
    return inner->guess(d, sampler, tokens, count, most, branches, draft, err);
}

static const struct drafter_class insisting = {insisting_kind, NULL, inner_guess, planted_close};

static int insisting_kind(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches)
{
    insist(d);
    return inner->kind(d, tokens, count, branches);
}

START_TEST(test_lookup)
{
    struct temp_folder folder = temp_folder_open();
    struct tlm_model *m = tiny(&folder, &(struct tiny_model){.type = types[_i % TYPES], .bigram = true});
    float temperature = _i / TYPES ? 0.6f : 0;
    struct run plain = answer(m, temperature, NULL);
    struct tlm_drafter *d;
    ck_assert_int_eq(tlm_drafter_open_lookup(&d, NULL), TLM_OK);
    struct run measured = answer(m, temperature, d); // as long as it pays
    same_text(&plain, &measured, "lookup");
    inner = d->class;
    d->class = &insisting;
    struct run r = answer(m, temperature, d);
    same_text(&plain, &r, "lookup at every step");
    ck_assert_int_gt(r.result.drafted_tokens, 0);
    d->class = inner;
    tlm_drafter_close(d);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// What lookup guesses, on timelines made for it.
START_TEST(test_lookup_guesses)
{
    struct tlm_drafter *d;
    struct draft draft = {0};
    int32_t branches;
    ck_assert_int_eq(tlm_drafter_open_lookup(&d, NULL), TLM_OK);
    // "1 2 3" stood twice before, and went on with 4 5 and later with 6 7: the later one comes first.
    static const int32_t a[] = {9, 1, 2, 3, 4, 5, 8, 1, 2, 3, 6, 7, 0, 1, 2, 3};
    ck_assert_int_eq(d->class->kind(d, a, 16, &branches), 2);
    ck_assert_int_eq(branches, 2);
    ck_assert_int_eq(d->class->guess(d, NULL, a, 16, 2, 3, &draft, NULL), TLM_OK);
    ck_assert_int_eq(draft.branches, 2);
    ck_assert(draft.count[0] == 2 && draft.tokens[0][0] == 6 && draft.tokens[0][1] == 7);
    ck_assert(draft.count[1] == 2 && draft.tokens[1][0] == 4 && draft.tokens[1][1] == 5);
    // A loop goes on looping, beyond what is there.
    static const int32_t b[] = {5, 6, 5, 6};
    draft = (struct draft){0};
    ck_assert_int_eq(d->class->kind(d, b, 4, &branches), 1);
    ck_assert_int_eq(d->class->guess(d, NULL, b, 4, 5, 1, &draft, NULL), TLM_OK);
    static const int32_t loop[] = {5, 6, 5, 6, 5};
    ck_assert_int_eq(draft.count[0], 5);
    ck_assert_mem_eq(draft.tokens[0], loop, sizeof loop);
    static const int32_t c[] = {1, 2, 3, 4};
    ck_assert_int_eq(d->class->kind(d, c, 4, &branches), -1);
    ck_assert_int_eq(d->class->kind(d, c, 1, &branches), -1);
    tlm_drafter_close(d);
}
END_TEST

// ---- draft models -------------------------------------------------------------------------------------

START_TEST(test_draft_model)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "draft.gguf");
    struct tlm_model *m = tiny(&folder, &(struct tiny_model){.type = DTYPE_F32});
    // The model itself in another type: mostly right. Another one altogether: mostly wrong.
    tiny_model_write(path.text,
                     &(struct tiny_model){.type = _i % 2 ? DTYPE_F32 : DTYPE_Q8_0, .seed = _i % 2});
    struct tlm_model *small = open_model(path.text, NULL);
    struct tlm_session *session = open_session(small, (struct tlm_session_options){.context = 256});
    float temperature = _i / 2 ? 0.8f : 0;
    struct tlm_sampler *sampler = open_sampler(small, temperature, 3);
    struct tlm_drafter *d;
    ck_assert_int_eq(tlm_drafter_open_model(&d, session, sampler, m, NULL), TLM_OK);
    struct run plain = answer(m, temperature, NULL);
    inner = d->class;
    d->class = &insisting;
    struct run r = answer(m, temperature, d);
    same_text(&plain, &r, "draft model");
    if (_i % 2)
        ck_assert_int_lt(r.result.accepted_tokens, NEW / 4);
    else
        ck_assert_int_gt(r.result.accepted_tokens, NEW * 3 / 4);
    d->class = inner;
    tlm_drafter_close(d);
    tlm_sampler_close(sampler);
    tlm_session_close(session);
    tlm_model_close(small);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

START_TEST(test_other_vocabulary)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "other.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32,
                                                     .vocabulary = "tests/golden/spm.gguf",
                                                     .vocabulary_size = 531});
    struct tlm_model *m = open_model("tests/golden/llama-plain.gguf", NULL);
    struct tlm_model *other = open_model(path.text, NULL);
    struct tlm_session *s = open_session(other, (struct tlm_session_options){.context = 64});
    struct tlm_sampler *sampler = open_sampler(other, 0, 1);
    struct tlm_drafter *d;
    struct tlm_error err;
    ck_assert_int_eq(tlm_drafter_open_model(&d, s, sampler, m, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, "expected the vocabulary of the model") != NULL, "%s", err.text);
    ck_assert_ptr_null(d);
    tlm_sampler_close(sampler);
    tlm_session_close(s);
    tlm_model_close(other);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// ---- distribution -------------------------------------------------------------------------------------
//
// A model whose next token depends on the last one alone, and a sampler that allows eight tokens: the answer is a Markov chain of known
// transitions. 100,000 draws under random guesses must look like it; the same draws with every guess accepted must not.

enum { STATES = 8, DRAWS = 100000, CHAIN = 240, FIRST = 40, TEMPERATURE = 8 };

struct random_drafter {
    struct tlm_drafter base;
    uint64_t seed, calls;
    int32_t last[CHAIN + DRAFT_MOST]; // what was guessed for a place, or -1
};

static enum tlm_status random_guess(struct tlm_drafter *d, const struct tlm_sampler *sampler,
                                    const int32_t *tokens, int32_t count, int32_t most, int32_t branches,
                                    struct draft *draft, struct tlm_error *err)
{
    (void)sampler, (void)tokens, (void)branches, (void)err;
    struct random_drafter *r = (struct random_drafter *)d;
    draft->branches = 1;
    draft->count[0] = most < 3 ? most : 3;
    for (int32_t i = 0; i < draft->count[0]; i++) {
        draft->tokens[0][i] = FIRST + (int32_t)(STATES * rng_uniform(r->seed, 77, r->calls++));
        if (count + i < CHAIN) r->last[count + i] = draft->tokens[0][i];
    }
    return TLM_OK;
}

// p[a][b]: the chance of state b behind state a.
static void transitions(const struct tlm_model *m, double p[STATES][STATES])
{
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = 16});
    for (int a = 0; a < STATES; a++) {
        int32_t token = FIRST + a;
        double sum = 0;
        ck_assert_int_eq(tlm_session_sync(s, &token, 1, NULL), TLM_OK);
        const float *logits = tlm_session_logits(s);
        for (int b = 0; b < STATES; b++)
            sum += p[a][b] = exp((double)(logits[FIRST + b] - logits[FIRST]) / TEMPERATURE);
        for (int b = 0; b < STATES; b++) p[a][b] /= sum;
    }
    tlm_session_close(s);
}

// Chi-square of the pairs that were counted; degrees of freedom: STATES (STATES - 1).
static double chi_square(const double n[STATES][STATES], const double p[STATES][STATES])
{
    double x = 0;
    for (int a = 0; a < STATES; a++) {
        double row = 0;
        for (int b = 0; b < STATES; b++) row += n[a][b];
        for (int b = 0; b < STATES; b++) {
            double want = row * p[a][b];
            ck_assert_msg(want > 5, "state %d to %d: %g draws expected, too few to judge", a, b, want);
            x += (n[a][b] - want) * (n[a][b] - want) / want;
        }
    }
    return x;
}

static void count_pairs(double n[STATES][STATES], const int32_t *tokens, int32_t count)
{
    for (int32_t i = 1; i < count; i++) n[tokens[i - 1] - FIRST][tokens[i] - FIRST]++;
}

START_TEST(test_distribution)
{
    // 56 degrees of freedom: 99.9% of true chains stay below (Wilson and Hilferty's approximation gives 94.5).
    const double most = 94.46;
    static const struct drafter_class class = {planted_kind, NULL, random_guess, planted_close};
    struct temp_folder folder = temp_folder_open();
    struct tlm_model *m = tiny(&folder, &(struct tiny_model){.type = DTYPE_F32, .bigram = true, .width = 64});
    struct tlm_session *s = open_session(m, (struct tlm_session_options){.context = CHAIN, .threads = 1});
    double p[STATES][STATES], n[STATES][STATES] = {0}, accepted[STATES][STATES] = {0};
    transitions(m, p);
    struct tlm_logit_bias bias[TINY_VOCAB];
    size_t banned = 0;
    for (int32_t t = 0; t < TINY_VOCAB; t++)
        if (t < FIRST || t >= FIRST + STATES) bias[banned++] = (struct tlm_logit_bias){t, -INFINITY};
    struct tlm_sampler_options o = {.samplers = "temperature",
                                    .temperature = TEMPERATURE,
                                    .seed = 100 + (uint64_t)_i,
                                    .top_p = 1,
                                    .typical_p = 1,
                                    .repeat_penalty = 1,
                                    .dry_base = 1.75f,
                                    .xtc_threshold = 0.1f,
                                    .mirostat_tau = 5,
                                    .mirostat_eta = 0.1f,
                                    .logit_bias = bias,
                                    .logit_bias_count = banned};
    struct tlm_sampler *sampler;
    struct tlm_error err;
    ck_assert_msg(tlm_sampler_open(&sampler, m, &o, &err) == TLM_OK, "%s", err.text);
    struct random_drafter d = {.base.class = &class, .seed = 5 + (uint64_t)_i};
    int32_t right = 0;
    for (int done = 0; done < DRAWS; done += CHAIN - 1) {
        int32_t start = FIRST;
        struct tlm_generate_result r;
        memset(d.last, -1, sizeof d.last);
        struct tlm_generate_options options = {.max_tokens = CHAIN - 1, .drafter = &d.base};
        ck_assert_int_eq(tlm_generate(s, sampler, &start, 1, &options, &r, NULL), TLM_OK);
        count_pairs(n, r.tokens, CHAIN);
        right += r.accepted_tokens;
        for (int32_t i = 1; i < CHAIN; i++) // what an acceptance of every last guess would have made of it
            if (d.last[i] >= 0) r.tokens[i] = d.last[i];
        count_pairs(accepted, r.tokens, CHAIN);
        free(r.tokens);
    }
    ck_assert_int_gt(right, DRAWS / 20);
    double x = chi_square(n, p), planted = chi_square(accepted, p);
    ck_assert_msg(x < most, "chi-square %g of the chain: expected at most %g", x, most);
    ck_assert_msg(planted > 10 * most, "chi-square %g of accepted guesses: expected far more", planted);
    tlm_sampler_close(sampler);
    tlm_session_close(s);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

// ---- how much to guess --------------------------------------------------------------------------------

static int32_t length(struct draft_control *c, int kind, int32_t most)
{
    return draft_best_size(c, kind, most, 1).length;
}

START_TEST(test_control)
{
    struct draft_control c = {0};
    ck_assert_int_eq(length(&c, 0, 8), 0); // a plain step comes first
    draft_pass_took(&c, 1, 1);
    ck_assert_int_gt(length(&c, 0, 8), 0);
    for (int i = 0; i < 50; i++) draft_came_out(&c, 0, 1, 0, 4, 4);
    ck_assert_int_eq(length(&c, 0, 8), 8); // always right: as many as may be
    ck_assert_int_eq(length(&c, 0, 3), 3);
    // Rows that cost as much as steps are not worth it, however right.
    for (int i = 0; i < 20; i++)
        for (int n = 2; n < 10; n++) draft_pass_took(&c, n, n * 1.05);
    int32_t tried = 0;
    for (int i = 0; i < 1000; i++) tried += length(&c, 0, 8);
    ck_assert_int_le(tried, 25);
    ck_assert_int_gt(tried, 10); // though now and then it looks again
    // Never right: neither, at any price; another kind of guess is judged for itself.
    c = (struct draft_control){.plain = 1};
    for (int i = 0; i < 100; i++) draft_came_out(&c, 1, 1, 0, 4, 0);
    tried = 0;
    for (int i = 0; i < 1000; i++) tried += length(&c, 1, 8);
    ck_assert_int_le(tried, 25);
    ck_assert_int_gt(length(&c, 3, 8), 0);
}
END_TEST

// A branch is worth its rows where it is often the right one; a pass that was held up does not end guessing.
START_TEST(test_branches)
{
    struct draft_control c = {.plain = 1};
    for (int n = 2; n <= DRAFT_ROWS; n++) c.cost[n] = (struct draft_cost){1 + 0.1 * (n - 1), 100};
    for (int i = 0; i < 50; i++) draft_came_out(&c, 0, 2, i % 2, 2, 1);
    ck_assert_int_eq(draft_best_size(&c, 0, 8, 3).branches, 2);
    ck_assert_int_eq(draft_best_size(&c, 0, 8, 1).branches, 1);
    for (int i = 0; i < 50; i++) draft_came_out(&c, 0, 2, 0, 2, 1);
    ck_assert_int_eq(draft_best_size(&c, 0, 8, 3).branches, 1);
    c = (struct draft_control){.plain = 1};
    draft_pass_took(&c, 2, 5);
    int32_t tried = 0;
    for (int i = 0; i < 40; i++) {
        int32_t n = length(&c, 2, 1);
        if (n) draft_pass_took(&c, 2, 1.05), draft_came_out(&c, 2, 1, 0, 1, 1);
        tried += n;
    }
    ck_assert_int_gt(tried, 25);
}
END_TEST

// A few bad second guesses stop them for a while, not for ever: they are believed to be like the first, and old ones are forgotten.
START_TEST(test_bad_luck)
{
    struct draft_control c = {.plain = 1, .guess = 0.3};
    for (int n = 2; n <= DRAFT_ROWS; n++) c.cost[n] = (struct draft_cost){1 + 0.03 * (n - 1), 100};
    for (int i = 0; i < 12; i++) draft_came_out(&c, 2, 1, 0, 2, 1);
    ck_assert_int_eq(length(&c, 2, 8), 1);
    int32_t steps = 0;
    for (; steps < 200 && length(&c, 2, 8) < 2; steps++) draft_came_out(&c, 2, 1, 0, 1, steps % 5 != 0);
    ck_assert_int_gt(steps, 5);
    ck_assert_int_lt(steps, 60);
}
END_TEST

Suite *suite_speculation(void)
{
    Suite *s = suite_create("speculation");
    TCase *t = tcase_create("speculation");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_planted, 0, 2 * TYPES);
    tcase_add_loop_test(t, test_lookup, 0, 2 * TYPES);
    tcase_add_test(t, test_lookup_guesses);
    tcase_add_loop_test(t, test_draft_model, 0, 4);
    tcase_add_test(t, test_other_vocabulary);
    tcase_add_loop_test(t, test_distribution, 0, 3);
    tcase_add_test(t, test_control);
    tcase_add_test(t, test_branches);
    tcase_add_test(t, test_bad_luck);
    suite_add_tcase(s, t);
    return s;
}
