// tests/test_sample.c -- samplers against exact distributions.
#include <check.h>
#include <math.h>

#include "core/rng.h"
#include "generate/sample.h"
#include "tests/sample_oracle.h"
#include "tests/tests.h"

enum { V = 200, CONTEXT = 512, DRAWS = 100000 };

// ---- helpers ------------------------------------------------------------------------------------------

// About normal, from sums of uniform numbers: no mathematics library, so the same everywhere.
static void fill_logits(float *x, int n, uint64_t seed, double scale)
{
    for (int i = 0; i < n; i++) {
        double sum = -6;
        for (uint64_t j = 0; j < 12; j++) sum += rng_uniform(seed, 7, (uint64_t)i * 12 + j);
        x[i] = (float)(sum * scale);
    }
}

static struct tlm_sampler *open_with(const struct sampler_vocab *vocab, const struct tlm_sampler_options *o)
{
    struct tlm_error err = {0};
    struct tlm_sampler *s;
    ck_assert_msg(sampler_open_vocab(&s, vocab, o, &err) == TLM_OK, "%s", err.text);
    return s;
}

static struct tlm_sampler *open_plain(int n, const struct tlm_sampler_options *o)
{
    return open_with(&(struct sampler_vocab){.size = n, .context = CONTEXT}, o);
}

// All samplers named but none on.
static struct tlm_sampler_options all_off(void)
{
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = 1, o.top_k = 0, o.top_p = 1, o.min_p = 0;
    return o;
}

static void spread(const struct tlm_sampler *s, double *p, int n)
{
    for (int i = 0; i < n; i++) p[i] = 0;
    for (int i = 0; i < s->candidate_count; i++) p[s->candidates[i].id] += s->candidates[i].p;
}

// Pearson's test at p > 0.001, the quantile by Wilson and Hilferty. Tokens expected fewer than 5 times share
// a bin.
static void check_counts(const int *counts, const double *p, int n, int draws)
{
    double chi2 = 0, rest_expected = 0, rest_seen = 0;
    int bins = 0;
    for (int i = 0; i < n; i++) {
        double expected = p[i] * draws;
        ck_assert_msg(p[i] > 0 || counts[i] == 0, "token %d cannot be drawn but was, %d times", i, counts[i]);
        if (expected < 5) {
            rest_expected += expected, rest_seen += counts[i];
            continue;
        }
        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
        bins++;
    }
    if (rest_expected >= 5) {
        chi2 += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
        bins++;
    }
    if (bins < 2) return;
    double df = bins - 1, cube = 1 - 2 / (9 * df) + 3.0902 * sqrt(2 / (9 * df));
    ck_assert_msg(chi2 < df * cube * cube * cube, "chi-square %g with %g degrees of freedom", chi2, df);
}

// ---- distributions ------------------------------------------------------------------------------------

static const struct tlm_logit_bias some_bias[] = {{3, 2.5f}, {17, -INFINITY}, {40, -1}, {3, 0.25f}};

static const struct {
    const char *samplers;
    struct tlm_sampler_options set; // what is not 0 replaces what all_off() says
} cases[] = {
    {"", {0}},
    {"temperature", {.temperature = 0.6f}},
    {"temperature", {.temperature = 1.7f}},
    {"top_k", {.top_k = 7}},
    {"top_k", {.top_k = 1}},
    {"top_k", {.top_k = 100000}},
    {"top_p", {.top_p = 0.7f}},
    {"top_p", {.top_p = 1e-6f}},
    {"top_p", {.top_p = 0.999f}},
    {"min_p", {.min_p = 0.1f}},
    {"min_p", {.min_p = 1}},
    {"typ_p", {.typical_p = 0.3f}},
    {"typ_p", {.typical_p = 0.9f}},
    {"xtc", {.xtc_probability = 1, .xtc_threshold = 0.02f}},
    {"xtc", {.xtc_probability = 1, .xtc_threshold = 0.5f}},
    {"penalties", {.repeat_penalty = 1.3f, .penalty_last_n = 20}},
    {"penalties", {.frequency_penalty = 0.4f, .presence_penalty = 0.3f, .penalty_last_n = -1}},
    {"penalties", {.repeat_penalty = 0.8f, .frequency_penalty = -0.2f, .penalty_last_n = 1000}},
    {"dry", {.dry_multiplier = 0.8f}},
    {"dry", {.dry_multiplier = 2, .dry_base = 1, .dry_allowed_length = 1, .dry_last_n = 25}},
    {"", {.logit_bias = some_bias, .logit_bias_count = 4}},
    {"top_k;top_p;min_p;temperature", {.top_k = 40, .top_p = 0.9f, .min_p = 0.05f, .temperature = 0.8f}},
    {"temperature;top_p", {.temperature = 0.5f, .top_p = 0.8f}},
    {"top_p;temperature", {.temperature = 0.5f, .top_p = 0.8f}},
    {"temperature;min_p", {.temperature = 2, .min_p = 0.2f}},
    {"min_p;temperature", {.temperature = 2, .min_p = 0.2f}},
    {"top_p;top_k", {.top_k = 5, .top_p = 0.6f}},
    {"min_p;top_k;typ_p", {.min_p = 0.01f, .top_k = 30, .typical_p = 0.6f}},
    {"top_k;penalties;top_p", {.top_k = 60, .repeat_penalty = 1.5f, .penalty_last_n = 64, .top_p = 0.9f}},
    {"typ_p;dry;temperature", {.typical_p = 0.8f, .dry_multiplier = 1, .temperature = 1.3f}},
    {"xtc;top_p", {.xtc_probability = 1, .xtc_threshold = 0.1f, .top_p = 0.8f}},
    {"top_p;xtc", {.xtc_probability = 1, .xtc_threshold = 0.1f, .top_p = 0.8f}},
    {"penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature",
     {.temperature = 0.9f,
      .top_k = 80,
      .top_p = 0.95f,
      .min_p = 0.01f,
      .typical_p = 0.95f,
      .xtc_probability = 1,
      .xtc_threshold = 0.15f,
      .repeat_penalty = 1.1f,
      .frequency_penalty = 0.1f,
      .penalty_last_n = 64,
      .dry_multiplier = 0.8f,
      .logit_bias = some_bias,
      .logit_bias_count = 4}},
};
enum { N_CASES = sizeof cases / sizeof *cases, N_HISTORY = 60 };

static struct tlm_sampler_options case_options(int at)
{
    struct tlm_sampler_options o = all_off(), set = cases[at].set;
    o.samplers = cases[at].samplers;
    if (set.temperature) o.temperature = set.temperature;
    if (set.top_k) o.top_k = set.top_k;
    if (set.top_p) o.top_p = set.top_p;
    if (set.min_p) o.min_p = set.min_p;
    if (set.typical_p) o.typical_p = set.typical_p;
    if (set.xtc_probability) o.xtc_probability = set.xtc_probability, o.xtc_threshold = set.xtc_threshold;
    if (set.repeat_penalty) o.repeat_penalty = set.repeat_penalty;
    o.frequency_penalty = set.frequency_penalty, o.presence_penalty = set.presence_penalty;
    if (set.penalty_last_n) o.penalty_last_n = set.penalty_last_n;
    o.dry_multiplier = set.dry_multiplier;
    if (set.dry_base) o.dry_base = set.dry_base;
    if (set.dry_allowed_length) o.dry_allowed_length = set.dry_allowed_length;
    if (set.dry_last_n) o.dry_last_n = set.dry_last_n;
    o.logit_bias = set.logit_bias, o.logit_bias_count = set.logit_bias_count;
    return o;
}

// Few different tokens, so that there is something to repeat.
static void fill_history(int *history)
{
    for (uint64_t i = 0; i < N_HISTORY; i++) history[i] = (int)(rng_uniform(5, 0, i) * 5) * 9;
}

START_TEST(distribution)
{
    struct tlm_sampler_options options = case_options(_i);
    int history[N_HISTORY];
    fill_history(history);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        float logits[V];
        struct oracle oracle;
        double p[V];
        int counts[V] = {0};
        fill_logits(logits, V, seed, 2);
        options.seed = seed;
        struct tlm_sampler *s = open_plain(V, &options);
        for (int i = 0; i < N_HISTORY; i++) tlm_sampler_accept(s, history[i]);
        sampler_apply(s, logits);
        oracle_run(&oracle, logits, V, &options, true, history, N_HISTORY);
        spread(s, p, V);
        // penalties, DRY and bias round their logits to float
        for (int i = 0; i < V; i++) ck_assert_double_eq_tol(p[i], oracle.p[i], 1e-6);
        for (int i = 0; i < V; i++) ck_assert_msg((p[i] > 0) == !oracle.out[i], "token %d", i);
        for (int i = 0; i < DRAWS; i++) counts[sampler_draw(s)]++;
        check_counts(counts, oracle.p, V, DRAWS);
        tlm_sampler_close(s);
    }
}
END_TEST

// The same over all of tlm_sampler_next(), where XTC decides anew each time.
START_TEST(xtc_by_chance)
{
    struct tlm_sampler_options o = all_off();
    o.xtc_probability = 0.3f, o.xtc_threshold = 0.05f;
    for (o.seed = 1; o.seed <= 3; o.seed++) {
        float logits[30];
        struct oracle with, without;
        double p[30];
        int counts[30] = {0};
        fill_logits(logits, 30, o.seed, 1);
        oracle_run(&with, logits, 30, &o, true, NULL, 0);
        oracle_run(&without, logits, 30, &o, false, NULL, 0);
        ck_assert(with.p[0] != without.p[0]);
        for (int i = 0; i < 30; i++)
            p[i] = with.p[i] * (double)o.xtc_probability + without.p[i] * (1 - (double)o.xtc_probability);
        struct tlm_sampler *s = open_plain(30, &o);
        for (int i = 0; i < DRAWS; i++) counts[tlm_sampler_next(s, logits)]++;
        check_counts(counts, p, 30, DRAWS);
        tlm_sampler_close(s);
    }
}
END_TEST

// top_p first keeps what is likely at temperature 1; after a low temperature fewer are needed for the mass.
START_TEST(order_matters)
{
    const float logits[4] = {2, 1.5f, 1,
                             -3}; // p = 0.505 0.306 0.186 0.003; at temperature 0.25: 0.866 0.117 ...
    struct tlm_sampler_options o = all_off();
    o.temperature = 0.25f, o.top_p = 0.6f;
    o.samplers = "top_p;temperature";
    struct tlm_sampler *s = open_plain(4, &o);
    sampler_apply(s, logits);
    ck_assert_int_eq(s->candidate_count, 2);
    ck_assert_double_eq_tol(s->candidates[0].p, 1 / (1 + exp(-2)), 1e-12);
    tlm_sampler_close(s);
    o.samplers = "temperature;top_p";
    s = open_plain(4, &o);
    sampler_apply(s, logits);
    ck_assert_int_eq(s->candidate_count, 1);
    ck_assert_int_eq(s->candidates[0].id, 0);
    tlm_sampler_close(s);
}
END_TEST

// ---- mirostat -----------------------------------------------------------------------------------------

static void zipf_logits(float *x, int n, double exponent)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(-exponent * log((i * 7) % n + 1)); // 7 and n coprime: ranks shuffled
}

static double bits(const struct oracle *o, int token)
{
    return -log2(o->p[token]);
}

START_TEST(mirostat_reaches_tau)
{
    static const float taus[] = {3, 4.5f, 6};
    float logits[2000];
    struct oracle oracle;
    struct tlm_sampler_options o = all_off();
    zipf_logits(logits, 2000, 1.05);
    oracle_run(&oracle, logits, 2000, &o, false, NULL, 0);
    o.mirostat = 1 + _i / 3, o.mirostat_tau = taus[_i % 3], o.seed = 11;
    struct tlm_sampler *s = open_plain(2000, &o);
    double sum = 0;
    for (int i = 0; i < 4000; i++) {
        double surprise = bits(&oracle, tlm_sampler_next(s, logits));
        if (i >= 1000) sum += surprise / 3000;
    }
    ck_assert_double_eq_tol(sum, (double)o.mirostat_tau, 0.05 * (double)o.mirostat_tau);
    tlm_sampler_close(s);
}
END_TEST

// What the first step keeps, mu being twice tau, after the temperature; and that truncating samplers are
// replaced.
START_TEST(mirostat_keeps)
{
    float logits[600];
    struct oracle oracle;
    struct tlm_sampler_options o = all_off();
    fill_logits(logits, 600, 3, 2);
    o.temperature = 1.5f;
    o.samplers = "top_k;temperature;min_p";
    oracle_run(&oracle, logits, 600, &o, false, NULL, 0);
    o.top_k = 2, o.min_p = 1, o.mirostat_tau = 3.5f;
    int ids[ORACLE_MAX];
    oracle_sort(&oracle, oracle.p, ids);

    double tb = 0, tt = 0;
    for (int i = 0; i < 99; i++) {
        double t = log((i + 2.0) / (i + 1)), b = log(oracle.p[ids[i]] / oracle.p[ids[i + 1]]);
        tb += t * b, tt += t * t;
    }
    double zipf = tb / tt, e = zipf - 1;
    int k = (int)pow(e * pow(2, 7) / (1 - pow(600, -e)), 1 / zipf), above = 0;
    ck_assert(k > 1 && k < 600);
    for (int i = 0; i < 600; i++) above += bits(&oracle, i) <= 7;

    for (o.mirostat = 1; o.mirostat <= 2; o.mirostat++) {
        struct tlm_sampler *s = open_plain(600, &o);
        double p[600], kept = 0;
        int expected = o.mirostat == 1 ? k : above;
        sampler_apply(s, logits);
        ck_assert_int_eq(s->candidate_count, expected);
        spread(s, p, 600);
        for (int i = 0; i < expected; i++) kept += oracle.p[ids[i]];
        for (int i = 0; i < expected; i++) ck_assert_double_eq_tol(p[ids[i]], oracle.p[ids[i]] / kept, 1e-9);
        int drawn = sampler_draw(s);
        ck_assert_double_eq_tol(s->mu, 7 - 0.1f * (bits(&oracle, drawn) - 3.5), 1e-6);
        tlm_sampler_close(s);
    }
}
END_TEST

// ---- DRY ----------------------------------------------------------------------------------------------

// Tokens 0 to 25 are the letters; the others have more to say.
static const char *const texts[] = {
    [26] = ":", [27] = "q:r", [28] = "\n\n", [29] = "::", [30] = "", [31] = " end"};
enum { N_TEXTS = 32 };

static size_t token_text(const void *user, int32_t token, char *text, size_t capacity)
{
    char letter[2] = {(char)('a' + token), '\0'};
    const char *it = token < 26 ? letter : texts[token];
    size_t length = strlen(it);
    (void)user;
    for (size_t i = 0; i < length && i < capacity; i++) text[i] = it[i];
    return length;
}

static struct tlm_sampler *open_dry(const char *const *breakers, size_t count)
{
    struct tlm_sampler_options o = all_off();
    o.samplers = "dry";
    o.dry_multiplier = 1, o.dry_base = 2, o.dry_allowed_length = 1;
    o.dry_breakers = breakers, o.dry_breaker_count = count;
    return open_with(&(struct sampler_vocab){.size = N_TEXTS, .context = CONTEXT, .text = token_text}, &o);
}

// What DRY takes from the logit of each token after `history`, a letter a token, ':' for 26 and 'A' + i for
// 26 + i.
static void dry_penalties(struct tlm_sampler *s, const char *history, double *penalty)
{
    static const float zeros[N_TEXTS];
    tlm_sampler_reset(s);
    for (const char *c = history; *c; c++) {
        int token = *c >= 'a' ? *c - 'a' : *c == ':' ? 26 : *c - 'A' + 26;
        tlm_sampler_accept(s, token);
    }
    sampler_apply(s, zeros);
    ck_assert_int_eq(s->candidate_count, N_TEXTS);
    for (int i = 0; i < N_TEXTS; i++) penalty[s->candidates[i].id] = -s->candidates[i].logit;
}

static const struct {
    const char *breakers[3], *history, *hit; // penalized tokens, each with the exponent: 2^digit
} dry_cases[] = {
    {{0}, "abccbcyabc", "c2b0y1"},  // the example of the source
    {{0}, "abcabcabc", "a5"},       // overlaps itself
    {{0}, "aaaa", "a2"},            // a run
    {{0}, "abcd", ""},              // no repetition
    {{0}, "a", ""},                 // nothing before it
    {{0}, "", ""},                  // empty
    {{0}, "a:bca:b", "c2"},         // without breakers a ':' is a token like others
    {{":"}, "a:bca:b", "c0"},       // only b repeats
    {{":"}, "ab:cdab", ""},         // the ':' would follow, and is welcome
    {{":"}, "abBcdab", ""},         // so is a token that contains it
    {{":"}, "xaBbcdxaBb", "c0"},    // a token that contains it breaks as well
    {{":"}, "abc:", ""},            // nothing since the breaker
    {{"c:d"}, "bc:dyebc:dy", "e0"}, // a breaker of three tokens
    {{"c:d"}, "bc:yebc:y", "e3"},   // that is not there
    {{"::"}, "y::xey::x", "e0"},    // one that a token alone may be or two may make
    {{"::"}, "yDxeyDx", "e0"},
    {{"\n"}, "yCxeyCx", "e0"},             // inside a token
    {{"a:", "zz", "b"}, "dbceadbc", "e0"}, // several; the last one counts
    {{"d end"}, "cdFaxcdFa", "x0"},        // a token and the beginning of its text
};

START_TEST(dry_by_hand)
{
    const char *const *breakers = dry_cases[_i].breakers;
    size_t count = 0;
    while (count < 3 && breakers[count]) count++;
    struct tlm_sampler *s = open_dry(breakers, count);
    double penalty[N_TEXTS], expected[N_TEXTS] = {0};
    for (const char *hit = dry_cases[_i].hit; *hit; hit += 2) expected[hit[0] - 'a'] = pow(2, hit[1] - '0');
    dry_penalties(s, dry_cases[_i].history, penalty);
    for (int i = 0; i < N_TEXTS; i++)
        ck_assert_msg(penalty[i] == expected[i], "%s: token %d: expected %g, found %g", dry_cases[_i].history,
                      i, expected[i], penalty[i]);
    tlm_sampler_close(s);
}
END_TEST

// Random histories, windows and breakers, against the comparison of all pairs.
START_TEST(dry_random)
{
    const char *breakers[] = {"cab"};
    for (uint64_t round = 0; round < 500; round++) {
        struct tlm_sampler_options o = all_off();
        o.samplers = "dry";
        o.dry_multiplier = 0.5f, o.dry_base = 1.5f;
        o.dry_allowed_length = (int)(rng_uniform(round, 1, 0) * 4);
        o.dry_last_n = (int)(rng_uniform(round, 1, 1) * 40) - 1;
        o.dry_breakers = breakers, o.dry_breaker_count = round % 2;
        int length = (int)(rng_uniform(round, 1, 2) * 80), letters = 1 + (int)(rng_uniform(round, 1, 3) * 4);
        int history[80], limit = length;
        struct tlm_sampler *s =
            open_with(&(struct sampler_vocab){.size = N_TEXTS, .context = CONTEXT, .text = token_text}, &o);
        for (int i = 0; i < length; i++) {
            history[i] = (int)(rng_uniform(round, 2, (uint64_t)i) * letters);
            tlm_sampler_accept(s, history[i]);
            if (round % 2 && i >= 2 && history[i - 2] == 2 && history[i - 1] == 0 && history[i] == 1)
                limit = length - 1 - i;
        }
        float zeros[N_TEXTS] = {0};
        struct oracle oracle = {.n = N_TEXTS};
        if (o.dry_last_n != 0) oracle_dry(&oracle, &o, history, length, limit);
        sampler_apply(s, zeros);
        for (int i = 0; i < N_TEXTS; i++) {
            double expected = oracle.logit[s->candidates[i].id]; // rounded to float
            ck_assert_double_eq_tol(s->candidates[i].logit, expected, 1e-7 * (1 + fabs(expected)));
        }
        tlm_sampler_close(s);
    }
}
END_TEST

// A long repetition must not turn into infinity or NaN.
START_TEST(dry_overflow)
{
    struct tlm_sampler *s = open_dry(NULL, 0);
    float logits[N_TEXTS] = {[0] = INFINITY, [1] = 1};
    for (int i = 0; i < CONTEXT; i++) tlm_sampler_accept(s, 0);
    ck_assert_int_eq(tlm_sampler_next(s, logits), 0);
    logits[0] = 1000;
    for (int i = 0; i < 100; i++) ck_assert_int_ne(tlm_sampler_next(s, logits), 0);
    tlm_sampler_close(s);
}
END_TEST

// ---- history, seeds, determinism ----------------------------------------------------------------------

static void draw_some(struct tlm_sampler *s, const float *logits, int *drawn, int n)
{
    for (int i = 0; i < n; i++) {
        drawn[i] = tlm_sampler_next(s, logits);
        tlm_sampler_accept(s, drawn[i]);
    }
}

START_TEST(determinism)
{
    float logits[V];
    int first[64], again[64];
    fill_logits(logits, V, 1, 2);
    for (int mirostat = 0; mirostat <= 2; mirostat++) {
        struct tlm_sampler_options o = tlm_sampler_defaults();
        o.seed = 42, o.repeat_penalty = 1.2f, o.penalty_last_n = 8, o.dry_multiplier = 1,
        o.mirostat = mirostat;
        o.xtc_probability = 0.5f;
        struct tlm_sampler *s = open_plain(V, &o), *other = open_plain(V, &o);
        draw_some(s, logits, first, 64);
        draw_some(other, logits, again, 64);
        ck_assert_mem_eq(first, again, sizeof first);
        tlm_sampler_reset(s);
        draw_some(s, logits, again, 64);
        ck_assert_mem_eq(first, again, sizeof first);
        draw_some(s, logits, again, 64);
        ck_assert_mem_ne(first, again, sizeof first);
        tlm_sampler_close(other);
        o.seed = 43;
        other = open_plain(V, &o);
        draw_some(other, logits, again, 64);
        ck_assert_mem_ne(first, again, sizeof first);
        tlm_sampler_close(other);
        tlm_sampler_close(s);
    }
}
END_TEST

// Recorded draws: other compilers and processors must find the same.
START_TEST(recorded)
{
    static const int expected[16] = {130, 75, 180, 196, 90, 67, 161, 195, 75, 24, 33, 197, 99, 151, 104, 130};
    float logits[V];
    int drawn[16];
    fill_logits(logits, V, 1, 1);
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.seed = 42, o.top_k = 0, o.top_p = 0.99f, o.min_p = 0.01f, o.typical_p = 0.97f,
    o.frequency_penalty = 0.3f;
    struct tlm_sampler *s = open_plain(V, &o);
    draw_some(s, logits, drawn, 16);
    ck_assert_mem_eq(drawn, expected, sizeof drawn);
    tlm_sampler_close(s);
}
END_TEST

// The window slides: after `last_n` other tokens a token is as likely as before.
START_TEST(window)
{
    const float logits[5] = {1, 1, 1, 1, 1};
    struct tlm_sampler_options o = all_off();
    o.frequency_penalty = 1, o.penalty_last_n = 3;
    struct tlm_sampler *s = open_plain(5, &o);
    static const int accepted[] = {0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 0};
    for (int i = 0; i < 11; i++) {
        tlm_sampler_accept(s, accepted[i]);
        sampler_apply(s, logits);
        for (int j = 0; j < 5; j++) {
            const struct sampler_candidate *c = &s->candidates[j];
            int count = 0;
            for (int k = i < 2 ? 0 : i - 2; k <= i; k++) count += accepted[k] == c->id;
            ck_assert_double_eq_tol(c->logit, 1 - count, 1e-12);
        }
    }
    tlm_sampler_accept(s, -1);
    tlm_sampler_accept(s, 5); // outside: ignored
    ck_assert_int_eq(s->distinct_count, 2);
    tlm_sampler_close(s);
}
END_TEST

// ---- edges --------------------------------------------------------------------------------------------

START_TEST(greedy)
{
    static float logits[1003];
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = 0, o.typical_p = 0.1f, o.xtc_probability = 1;
    struct tlm_sampler *s = open_plain(1003, &o);
    for (int i = 0; i < 1003; i++) logits[i] = -5;
    ck_assert_int_eq(tlm_sampler_next(s, logits), 0); // ties go to the lowest id
    for (int at = 1002; at >= 0; at -= 7) {
        logits[at] = 3;
        ck_assert_int_eq(tlm_sampler_next(s, logits), at);
        ck_assert_int_eq(s->candidate_count, 1);
        ck_assert_double_eq(s->candidates[0].p, 1);
    }
    logits[500] = 4, logits[501] = 4, logits[499] = NAN;
    ck_assert_int_eq(tlm_sampler_next(s, logits), 500);
    tlm_sampler_close(s);

    o.repeat_penalty = 2; // greedy is after the penalties
    s = open_plain(1003, &o);
    tlm_sampler_accept(s, 500);
    ck_assert_int_eq(tlm_sampler_next(s, logits), 501);
    tlm_sampler_close(s);
    o.mirostat = 2;
    s = open_plain(1003, &o);
    ck_assert_int_eq(tlm_sampler_next(s, logits), 500);
    tlm_sampler_close(s);
}
END_TEST

START_TEST(bias_and_ends)
{
    float logits[V];
    static const int32_t ends[] = {5, 9};
    const struct tlm_logit_bias bias[] = {{7, -INFINITY}};
    struct tlm_sampler_options o = all_off();
    fill_logits(logits, V, 1, 1);
    logits[5] = 20, logits[7] = INFINITY, logits[9] = 18;
    o.logit_bias = bias, o.logit_bias_count = 1;
    struct sampler_vocab vocab = {.size = V, .context = CONTEXT, .ends = ends, .end_count = 2};
    for (int greedy_too = 0; greedy_too < 2; greedy_too++) {
        o.temperature = (float)!greedy_too;
        o.ignore_end = false;
        struct tlm_sampler *s = open_with(&vocab, &o);
        for (int i = 0; i < 50; i++) ck_assert_int_ne(tlm_sampler_next(s, logits), 7);
        tlm_sampler_reset(s);
        ck_assert_int_eq(tlm_sampler_next(s, logits), 5);
        tlm_sampler_close(s);
        o.ignore_end = true;
        s = open_with(&vocab, &o);
        for (int i = 0; i < 5000; i++) {
            int token = tlm_sampler_next(s, logits);
            ck_assert(token != 5 && token != 7 && token != 9);
        }
        tlm_sampler_close(s);
    }
}
END_TEST

// Every case of the table over logits that a broken model may give: always a token, and finite probabilities.
START_TEST(odd_logits)
{
    static const float odd[][4] = {{NAN, NAN, NAN, NAN},
                                   {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
                                   {INFINITY, INFINITY, INFINITY, INFINITY},
                                   {0, INFINITY, -INFINITY, INFINITY},
                                   {NAN, -INFINITY, 1, NAN},
                                   {FLT_MAX, -FLT_MAX, FLT_MAX, 0},
                                   {-FLT_MAX, -FLT_MAX, -FLT_MAX, -INFINITY},
                                   {0, 0, 0, 0},
                                   {1e-40f, -1e-40f, 0, -0.0f}};
    static const int allowed[][4] = {{1},       {1},       {1, 1, 1, 1}, {0, 1, 0, 1}, {0, 0, 1},
                                     {1, 0, 1}, {1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1}};
    struct tlm_sampler_options o = case_options(_i % N_CASES);
    o.logit_bias_count = 0;
    o.mirostat = _i / N_CASES;
    if (strstr(o.samplers, "penalties") && o.repeat_penalty == 1) o.repeat_penalty = FLT_MAX;
    struct tlm_sampler *s = open_plain(4, &o);
    for (size_t row = 0; row < sizeof odd / sizeof *odd; row++) {
        for (int i = 0; i < 20; i++) {
            int token = tlm_sampler_next(s, odd[row]);
            double sum = 0;
            ck_assert_msg(token >= 0 && token < 4 && allowed[row][token], "row %zu: token %d", row, token);
            for (int j = 0; j < s->candidate_count; j++) sum += s->candidates[j].p;
            ck_assert_double_eq_tol(sum, 1, 1e-12);
        }
    }
    tlm_sampler_close(s);
    s = open_plain(1, &o); // V = 1
    ck_assert_int_eq(tlm_sampler_next(s, (const float[]){3}), 0);
    ck_assert_int_eq(tlm_sampler_next(s, (const float[]){NAN}), 0);
    tlm_sampler_close(s);
}
END_TEST

// Among equals the lower ids stay.
START_TEST(all_equal)
{
    float logits[V];
    struct tlm_sampler_options o = all_off();
    for (int i = 0; i < V; i++) logits[i] = 1.5f;
    for (int which = 0; which < 3; which++) {
        o.top_k = which == 0 ? 10 : 0;
        o.top_p = which == 1 ? 0.0475f : 1; // 9.5 of 200
        o.typical_p = which == 2 ? 0.0475f : 1;
        struct tlm_sampler *s = open_plain(V, &o);
        double p[V];
        sampler_apply(s, logits);
        spread(s, p, V);
        for (int i = 0; i < V; i++) ck_assert_double_eq_tol(p[i], i < 10 ? 0.1 : 0, 1e-12);
        tlm_sampler_close(s);
    }
}
END_TEST

// ---- errors -------------------------------------------------------------------------------------------

static void check_bad(const struct tlm_sampler_options *o, const char *expected)
{
    struct tlm_error err = {0};
    struct tlm_sampler *s;
    char line[512];
    snprintf(line, sizeof line, "sampler: %s", expected);
    int status = sampler_open_vocab(&s, &(struct sampler_vocab){.size = V, .context = CONTEXT}, o, &err);
    ck_assert_int_eq(status, TLM_ERR_ARGUMENT);
    ck_assert_int_eq(err.code, TLM_ERR_ARGUMENT);
    ck_assert_ptr_null(s);
    ck_assert_str_eq(err.text, line);
}

#define CHECK_BAD(change, expected)                            \
    do {                                                       \
        struct tlm_sampler_options o = tlm_sampler_defaults(); \
        change;                                                \
        check_bad(&o, expected);                               \
    } while (0)

START_TEST(ranges)
{
    CHECK_BAD(o.temperature = -1, "temperature: expected a number of at least 0, found -1");
    CHECK_BAD(o.temperature = NAN, "temperature: expected a number of at least 0, found nan");
    CHECK_BAD(o.temperature = INFINITY, "temperature: expected a number of at least 0, found inf");
    CHECK_BAD(o.top_k = -1, "top_k: expected a number of at least 0, found -1");
    CHECK_BAD(o.top_p = 1.5f, "top_p: expected a number above 0 and at most 1, found 1.5");
    CHECK_BAD(o.top_p = -1, "top_p: expected a number above 0 and at most 1, found -1");
    CHECK_BAD(o.min_p = 2, "min_p: expected a number from 0 to 1, found 2");
    CHECK_BAD(o.typical_p = -0.5f, "typical_p: expected a number above 0 and at most 1, found -0.5");
    CHECK_BAD(o.xtc_probability = 1.25f, "xtc_probability: expected a number from 0 to 1, found 1.25");
    CHECK_BAD(o.xtc_threshold = -1, "xtc_threshold: expected a number from 0 to 1, found -1");
    CHECK_BAD(o.repeat_penalty = -1, "repeat_penalty: expected a number above 0, found -1");
    CHECK_BAD(o.frequency_penalty = INFINITY, "frequency_penalty: expected a finite number, found inf");
    CHECK_BAD(o.presence_penalty = NAN, "presence_penalty: expected a finite number, found nan");
    CHECK_BAD(o.penalty_last_n = -2, "penalty_last_n: expected a number of at least -1, found -2");
    CHECK_BAD(o.dry_multiplier = -1, "dry_multiplier: expected a number of at least 0, found -1");
    CHECK_BAD(o.dry_base = 0.5f, "dry_base: expected a number of at least 1, found 0.5");
    CHECK_BAD(o.dry_allowed_length = -1, "dry_allowed_length: expected a number of at least 0, found -1");
    CHECK_BAD(o.dry_last_n = -7, "dry_last_n: expected a number of at least -1, found -7");
    CHECK_BAD(o.mirostat = 3, "mirostat: expected a number from 0 to 2, found 3");
    CHECK_BAD(o.mirostat_tau = -1, "mirostat_tau: expected a number of at least 0, found -1");
    CHECK_BAD(o.mirostat_eta = NAN, "mirostat_eta: expected a number of at least 0, found nan");
    CHECK_BAD(o = (struct tlm_sampler_options){0}, "top_p: expected a number above 0 and at most 1, found 0");
}
END_TEST

#define NAMES                                                                                           \
    "samplers: expected names of penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature joined by ';', " \
    "found "

START_TEST(names_and_arrays)
{
    static const struct tlm_logit_bias bad_token[] = {{0, 1}, {V, 1}}, bad_bias[] = {{0, NAN}};
    static const char *const empty[] = {"x", ""}, *const none[] = {NULL};
    CHECK_BAD(o.samplers = "temperature;top-k", NAMES "\"top-k\"");
    CHECK_BAD(o.samplers = "top_k;", NAMES "\"\"");
    CHECK_BAD(o.samplers = ";", NAMES "\"\"");
    CHECK_BAD(o.samplers = "top_k,min_p", NAMES "\"top_k,min_p\"");
    CHECK_BAD(o.samplers = "top", NAMES "\"top\"");
    CHECK_BAD(o.samplers = "min_p;top_k;min_p", "samplers: expected each name once, found \"min_p\" again");
    CHECK_BAD((o.logit_bias = bad_token, o.logit_bias_count = 2),
              "logit_bias[1]: expected a token from 0 to 199, found 200");
    CHECK_BAD((o.logit_bias = bad_bias, o.logit_bias_count = 1),
              "logit_bias[0]: expected a finite bias or -inf, found nan");
    CHECK_BAD((o.dry_multiplier = 1, o.dry_breakers = empty, o.dry_breaker_count = 2),
              "dry_breakers[1]: expected a string, found an empty one");
    CHECK_BAD((o.dry_multiplier = 1, o.dry_breakers = none, o.dry_breaker_count = 1),
              "dry_breakers[0]: expected a string, found none");
}
END_TEST

START_TEST(defaults)
{
    struct tlm_sampler_options o = tlm_sampler_defaults();
    struct tlm_sampler *by_null = open_plain(V, NULL), *s = open_plain(V, &o);
    float logits[V];
    int first[32], second[32];
    fill_logits(logits, V, 1, 1);
    draw_some(by_null, logits, first, 32);
    draw_some(s, logits, second, 32);
    ck_assert_mem_eq(first, second, sizeof first);
    tlm_sampler_close(s);
    tlm_sampler_close(by_null);
    tlm_sampler_close(NULL);
}
END_TEST

// What a model tells: which tokens end an answer, and the texts that DRY looks for breakers in.
START_TEST(from_model)
{
    struct tlm_error err = {0};
    struct tlm_model *model;
    ck_assert_msg(tlm_model_open(&model, "tests/golden/llama-plain.gguf",
                                 &(struct tlm_model_options){.vocab_only = true}, &err) == TLM_OK,
                  "%s", err.text);
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = 0, o.ignore_end = true, o.dry_multiplier = 1;
    struct tlm_sampler *s;
    ck_assert_msg(tlm_sampler_open(&s, model, &o, &err) == TLM_OK, "%s", err.text);
    int32_t n = tlm_model_vocab_size(model), eos = tlm_token_eos(model), newline, spaced = 0;
    size_t count;
    float logits[1024] = {[5] = 1};
    ck_assert(n <= 1024 && eos >= 0 && eos != 5);
    logits[eos] = 2;
    ck_assert_int_eq(tlm_sampler_next(s, logits), 5);

    for (newline = 0; newline < n; newline++)
        if (s->dry.texts[newline].length == 1 && s->dry.texts[newline].bytes[0] == '\n') break;
    ck_assert_int_lt(newline, n);
    for (int32_t i = 0; i < n; i++) {
        char text[64];
        ck_assert_int_eq(
            tlm_detokenize(model, &i, 1, TLM_SHOW_SPECIAL | TLM_CONTINUE, text, sizeof text, &count, &err),
            TLM_OK);
        ck_assert_uint_eq(count, s->dry.texts[i].length);
        ck_assert_mem_eq(text, s->dry.texts[i].bytes, count);
        spaced += count > 0 && text[0] == ' '; // a first token would have lost it
    }
    ck_assert_int_gt(spaced, 0);
    tlm_sampler_accept(s, newline);
    ck_assert_int_eq(s->dry.since_breaker, 0);
    tlm_sampler_close(s);

    o.top_p = 2;
    ck_assert_int_eq(tlm_sampler_open(&s, model, &o, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_null(s);
    tlm_model_close(model);
}
END_TEST

Suite *suite_sample(void)
{
    Suite *suite = suite_create("sample");
    TCase *tc = tcase_create("sample");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, distribution, 0, N_CASES);
    tcase_add_test(tc, xtc_by_chance);
    tcase_add_test(tc, order_matters);
    tcase_add_loop_test(tc, mirostat_reaches_tau, 0, 6);
    tcase_add_test(tc, mirostat_keeps);
    tcase_add_loop_test(tc, dry_by_hand, 0, sizeof dry_cases / sizeof *dry_cases);
    tcase_add_test(tc, dry_random);
    tcase_add_test(tc, dry_overflow);
    tcase_add_test(tc, determinism);
    tcase_add_test(tc, recorded);
    tcase_add_test(tc, window);
    tcase_add_test(tc, greedy);
    tcase_add_test(tc, bias_and_ends);
    tcase_add_loop_test(tc, odd_logits, 0, 3 * N_CASES);
    tcase_add_test(tc, all_equal);
    tcase_add_test(tc, ranges);
    tcase_add_test(tc, names_and_arrays);
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, from_model);
    suite_add_tcase(suite, tc);
    return suite;
}
