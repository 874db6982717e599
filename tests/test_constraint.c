// tests/test_constraint.c -- masks against every token tried on its own; budgets; copies; answers of models under a schema.
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "generate/constraint.h"
#include "generate/sample.h"
#include "tests/golden.h"
#include "tests/grammar_oracle.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/tiny_model.h"

// ---- vocabularies and grammars ------------------------------------------------------------------------------

static const char *const vocabularies[] = {
    "tests/golden/llama-plain.gguf", "tests/golden/spm.gguf", "tests/golden/hf/shards",
    "../shared/tokenizers/ggml-vocab-gpt-2.gguf", "../shared/tokenizers/ggml-vocab-llama-spm.gguf"};
enum { VOCABULARIES = 5 };

static struct tlm_model *open_vocabulary(const char *path)
{
    if (access(path, R_OK)) return NULL;
    struct tlm_model *m;
    struct tlm_error err;
    struct tlm_model_options options = {.vocab_only = true};
    if (tlm_model_open(&m, path, &options, &err)) ck_abort_msg("%s", err.text);
    return m;
}

#define PERSON                                                                                              \
    "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\", \"minLength\": 1, "           \
    "\"maxLength\": 12}, "                                                                                  \
    "\"age\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 130}, "                                  \
    "\"mail\": {\"type\": \"string\", \"pattern\": \"^[a-z.]+@[a-z]+\\\\.(com|org)$\"}, "                   \
    "\"tags\": {\"type\": \"array\", \"items\": {\"enum\": [\"red\", \"green\", \"blue\"]}, \"maxItems\": " \
    "3}, "                                                                                                  \
    "\"note\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}}, \"required\": [\"name\", "     \
    "\"age\", \"tags\"]}"

static const struct {
    enum tlm_grammar_kind kind;
    const char *text;
} grammars[] = {
    {TLM_GRAMMAR_JSON_SCHEMA, PERSON},
    {TLM_GRAMMAR_JSON_SCHEMA, "{}"},
    {TLM_GRAMMAR_JSON_SCHEMA, "{\"type\": \"string\", \"maxLength\": 9}"},
    {TLM_GRAMMAR_JSON_SCHEMA, "{\"type\": \"string\"}"},
    {TLM_GRAMMAR_REGEX, "([A-Z][a-z]+ ){2,5}\\d{1,3}(\\.\\d+)?"},
    {TLM_GRAMMAR_REGEX, "(a|b|ab|\\w)*(the|[^\\x00-\\x7F]+)*"},
    {TLM_GRAMMAR_REGEX, ".*"},
    {TLM_GRAMMAR_GBNF, "root ::= e\ne ::= t (\" + \" t)* \"\\n\"?\nt ::= [0-9]+ | \"(\" e \")\" | name\nname "
                       "::= [a-z] [a-z0-9_]*"},
    {TLM_GRAMMAR_GBNF,
     "root ::= (item \"\\n\")+\nitem ::= \"- \" [^\\n]+ | x\nx ::= \"(\" x \")\" | \"[\" x \"]\" | \"\""},
    {TLM_GRAMMAR_GBNF, "root ::= word (\" \" word){3,6} \".\"\nword ::= [a-zA-Z\\u00C0-\\u017F]{1,8}"},
};
enum { GRAMMARS = sizeof grammars / sizeof *grammars };

static struct tlm_grammar *prepare(const struct tlm_model *m, int i)
{
    struct tlm_grammar *g;
    struct tlm_error err;
    if (tlm_grammar_open(&g, m, grammars[i].kind, grammars[i].text, strlen(grammars[i].text), &err))
        ck_abort_msg("%s", err.text);
    return g;
}

static struct grammar *plain(int i)
{
    struct grammar *g;
    ck_assert_int_eq(grammar_open(&g, grammars[i].kind, grammars[i].text, strlen(grammars[i].text), NULL),
                     TLM_OK);
    return g;
}

static struct constraint *begin(const struct tlm_grammar *g)
{
    struct constraint *c;
    ck_assert_int_eq(constraint_open(&c, g, NULL), TLM_OK);
    return c;
}

static bool has(const uint64_t *mask, int32_t token)
{
    return mask[token / 64] >> token % 64 & 1;
}

// A token of the mask at random, -1 where there is none.
static int32_t draw(const uint64_t *mask, int32_t vocab, uint64_t seed, uint64_t *draws)
{
    int32_t count = 0, chosen = -1;
    for (int32_t w = 0; w < (vocab + 63) / 64; w++) count += __builtin_popcountll(mask[w]);
    int32_t nth = (int32_t)(rng_uniform(seed, 0, (*draws)++) * count);
    for (int32_t t = 0; t < vocab && chosen < 0; t++)
        if (has(mask, t) && !nth--) chosen = t;
    return chosen;
}

struct text {
    char data[4096];
    size_t bytes;
};

static size_t text_of(const struct tlm_model *m, int32_t token, char *text, size_t room)
{
    size_t bytes;
    ck_assert_int_eq(tlm_detokenize(m, &token, 1, TLM_CONTINUE, text, room, &bytes, NULL), TLM_OK);
    ck_assert_uint_le(bytes, room);
    return bytes;
}

static void append(struct text *text, const struct tlm_model *m, int32_t token)
{
    if (!tlm_token_is_end(m, token))
        text->bytes += text_of(m, token, text->data + text->bytes, sizeof text->data - text->bytes);
}

// ---- masks --------------------------------------------------------------------------------------------------

// What the mask says of one token, against the rules.
static void check_token(const struct tlm_model *m, const struct grammar *g, const struct text *text,
                        const uint64_t *mask, int32_t token)
{
    char joined[512];
    memcpy(joined, text->data, text->bytes);
    bool expected;
    if (tlm_token_is_end(m, token)) {
        expected = oracle_judge(g, text->data, text->bytes).whole;
    } else {
        size_t more = text_of(m, token, joined + text->bytes, sizeof joined - text->bytes);
        expected = more && oracle_judge(g, joined, text->bytes + more).alive;
    }
    if (has(mask, token) != expected)
        ck_abort_msg("behind '%.*s': token %d: expected %d, found %d", (int)text->bytes, text->data, token,
                     expected, has(mask, token));
}

START_TEST(test_masks)
{
    enum { STEPS = 12, TRIES = 150, LONGEST = 60 };
    struct tlm_model *m = open_vocabulary(vocabularies[_i % VOCABULARIES]);
    if (!m) return;
    int32_t vocab = tlm_model_vocab_size(m);
    struct tlm_grammar *ready = prepare(m, _i / VOCABULARIES);
    struct grammar *g = plain(_i / VOCABULARIES);
    uint64_t draws = 0;
    for (int walk = 0; walk < (vocab < 1000 ? 3 : 1); walk++) {
        struct constraint *c = begin(ready);
        struct text text = {.bytes = 0};
        for (int step = 0; step < STEPS && text.bytes < LONGEST; step++) {
            const uint64_t *mask = constraint_mask(c, CONSTRAINT_UNLIMITED);
            if (vocab < 1000) {
                for (int32_t t = 0; t < vocab; t++) check_token(m, g, &text, mask, t);
            } else { // some of all, and some of those that are allowed
                for (int i = 0; i < TRIES; i++)
                    check_token(m, g, &text, mask, (int32_t)(rng_uniform(1, 1, draws++) * vocab));
                for (int i = 0; i < TRIES / 3; i++)
                    check_token(m, g, &text, mask, draw(mask, vocab, 2, &draws));
            }
            ck_assert(constraint_may_end(c) == oracle_judge(g, text.data, text.bytes).whole);
            int32_t token = draw(mask, vocab, 3, &draws);
            ck_assert_int_ge(token, 0);
            append(&text, m, token);
            ck_assert(constraint_accept(c, token));
            if (tlm_token_is_end(m, token)) break;
        }
        constraint_close(c);
    }
    grammar_close(g);
    tlm_grammar_close(ready);
    tlm_model_close(m);
}
END_TEST

// ---- budgets ------------------------------------------------------------------------------------------------

START_TEST(test_budgets)
{
    struct tlm_model *m = open_vocabulary(vocabularies[_i % VOCABULARIES]);
    if (!m) return;
    int32_t vocab = tlm_model_vocab_size(m);
    struct tlm_grammar *ready = prepare(m, _i / VOCABULARIES);
    struct grammar *g = plain(_i / VOCABULARIES);
    struct constraint *c = begin(ready);
    int32_t least = constraint_least_tokens(c);
    uint64_t draws = 0;
    for (int32_t budget = least; budget <= least + 40; budget += vocab < 1000 ? 1 : 8) {
        struct text text = {.bytes = 0};
        constraint_reset(c);
        for (int32_t left = budget; !constraint_is_over(c); left--) {
            ck_assert_int_gt(left, 0);
            ck_assert_int_le(constraint_least_tokens(c), left);
            int32_t token = draw(constraint_mask(c, left), vocab, 4, &draws);
            ck_assert_int_ge(token, 0);
            append(&text, m, token);
            ck_assert(constraint_accept(c, token));
        }
        ck_assert(text.bytes > 300 || oracle_judge(g, text.data, text.bytes).whole);
    }
    constraint_reset(c);
    if (!constraint_may_end(c)) ck_assert_int_eq(draw(constraint_mask(c, 1), vocab, 4, &draws), -1);
    constraint_close(c);
    grammar_close(g);
    tlm_grammar_close(ready);
    tlm_model_close(m);
}
END_TEST

// Literals take as many tokens as their longest pieces need, not as many as they have bytes.
START_TEST(test_least)
{
    struct tlm_model *m = open_vocabulary("tests/golden/llama-plain.gguf");
    static const struct {
        const char *text;
        int32_t bytes;
    } literals[] = {{"\"information\"", 11}, {"[0-9]{5}", 5}, {"\"a\" | \"bcdefgh\"", 1}};
    for (int i = 0; i < 3; i++) {
        char rule[64];
        struct tlm_grammar *g;
        snprintf(rule, sizeof rule, "root ::= %s", literals[i].text);
        ck_assert_int_eq(tlm_grammar_open(&g, m, TLM_GRAMMAR_GBNF, rule, strlen(rule), NULL), TLM_OK);
        struct constraint *c = begin(g);
        ck_assert_int_gt(constraint_least_tokens(c), 1);
        ck_assert_int_le(constraint_least_tokens(c), literals[i].bytes + 1); // and the one that ends it
        constraint_close(c);
        tlm_grammar_close(g);
    }
    tlm_model_close(m);
}
END_TEST

// ---- vocabularies made for a purpose ------------------------------------------------------------------------

struct words { // of a vocabulary; NULL: ends an answer
    const char *const *texts;
    int32_t count;
};

static size_t word_text(const void *user, int32_t token, char *text, size_t capacity)
{
    const struct words *w = user;
    size_t length = strlen(w->texts[token]);
    if (capacity) memcpy(text, w->texts[token], length < capacity ? length : capacity);
    return length;
}

static bool word_is_end(const void *user, int32_t token)
{
    return ((const struct words *)user)->texts[token] == NULL;
}

static enum tlm_status prepare_words(struct tlm_grammar **out, const char *rules, const char *const *texts,
                                     int32_t count)
{
    struct words w = {texts, count};
    struct trie_vocab vocab = {count, word_text, word_is_end, &w};
    struct grammar *g;
    struct tlm_error err;
    ck_assert_int_eq(grammar_open(&g, TLM_GRAMMAR_GBNF, rules, strlen(rules), &err), TLM_OK);
    enum tlm_status status = constraint_prepare(out, g, &vocab, &err);
    ck_assert(!status || (err.code == status && err.text[0]));
    return status;
}

// Without bytes as tokens only some texts can be spelt, and the masks never lead to the others.
START_TEST(test_few_tokens)
{
    static const char *const texts[] = {"ab", "c", "", "\xC3", "\xA9", "\xC3\xA9", "abc", NULL};
    enum { COUNT = 8 };
    struct tlm_grammar *g;
    ck_assert_int_eq(prepare_words(&g, "root ::= \"abd\" | \"x\"", texts, COUNT), TLM_ERR_UNSUPPORTED);
    ck_assert_int_eq(prepare_words(&g, "root ::= \"ab\" (\"c\" | \"d\" | \"\\u00e9\") \"c\"?", texts, COUNT),
                     TLM_OK);
    struct constraint *c = begin(g);
    ck_assert_int_eq(constraint_least_tokens(c), 2); // "abc" and the end
    const uint64_t *mask = constraint_mask(c, CONSTRAINT_UNLIMITED);
    ck_assert_uint_eq(mask[0], 1 << 0 | 1 << 6);
    ck_assert(constraint_accept(c, 0));
    ck_assert_uint_eq(constraint_mask(c, CONSTRAINT_UNLIMITED)[0], 1 << 1 | 1 << 3 | 1 << 5);
    ck_assert_uint_eq(constraint_mask(c, 2)[0],
                      1 << 1 | 1 << 5); // the two halves of a character take a token more
    ck_assert(constraint_accept(c, 3));
    ck_assert_uint_eq(constraint_mask(c, CONSTRAINT_UNLIMITED)[0], 1 << 4);
    ck_assert(constraint_accept(c, 4));
    ck_assert(constraint_may_end(c));
    ck_assert_uint_eq(constraint_mask(c, CONSTRAINT_UNLIMITED)[0], 1 << 1 | 1 << 7);
    ck_assert_uint_eq(constraint_mask(c, 1)[0], 1 << 7);
    ck_assert(!constraint_accept(c, 0)); // not one of them: the text is over
    ck_assert(constraint_is_over(c));
    ck_assert_uint_eq(constraint_mask(c, CONSTRAINT_UNLIMITED)[0], 0);
    constraint_reset(c);
    ck_assert(constraint_accept(c, 6) && constraint_accept(c, 7));
    ck_assert(constraint_is_over(c));
    constraint_close(c);
    tlm_grammar_close(g);
}
END_TEST

// Where no token ends answers, the text is over once nothing can follow.
START_TEST(test_no_end)
{
    static const char *const texts[] = {"a", "b"};
    struct tlm_grammar *g;
    ck_assert_int_eq(prepare_words(&g, "root ::= \"a\" \"b\"?", texts, 2), TLM_OK);
    struct constraint *c = begin(g);
    ck_assert_int_eq(constraint_least_tokens(c), 1);
    ck_assert(constraint_accept(c, 0));
    ck_assert(constraint_may_end(c) && !constraint_is_over(c));
    ck_assert(constraint_accept(c, 1));
    ck_assert(constraint_is_over(c));
    constraint_close(c);
    tlm_grammar_close(g);
}
END_TEST

// ---- copies, and tables that are full -----------------------------------------------------------------------

START_TEST(test_copies)
{
    struct tlm_model *m = open_vocabulary("tests/golden/llama-plain.gguf");
    int32_t vocab = tlm_model_vocab_size(m);
    size_t bytes = (size_t)(vocab + 63) / 64 * 8;
    struct tlm_grammar *g = prepare(m, _i);
    struct constraint *c = begin(g), *draft = begin(g);
    uint64_t draws = 0;
    for (int step = 0; step < 60 && !constraint_is_over(c); step++) {
        uint64_t kept[16];
        ck_assert_uint_le(bytes, sizeof kept);
        memcpy(kept, constraint_mask(c, CONSTRAINT_UNLIMITED), bytes);
        int32_t guess[4], guessed = 0;
        constraint_copy(draft, c);
        for (; guessed < 4 && !constraint_is_over(draft); guessed++) {
            guess[guessed] = draw(constraint_mask(draft, CONSTRAINT_UNLIMITED), vocab, 6, &draws);
            ck_assert(constraint_accept(draft, guess[guessed]));
        }
        ck_assert_mem_eq(kept, constraint_mask(c, CONSTRAINT_UNLIMITED), bytes); // the draft left no trace
        ck_assert(constraint_accept(c, guess[0]));
    }
    constraint_close(draft);
    constraint_close(c);
    tlm_grammar_close(g);
    tlm_model_close(m);
}
END_TEST

// Many times more stacks than the tables hold: places are still what they were.
START_TEST(test_full_tables)
{
    static const char *const texts[] = {"(", ")", "[", "]", "x", "([", "])", NULL};
    enum { COUNT = 8, DEEP = 3000 };
    struct tlm_grammar *g;
    ck_assert_int_eq(
        prepare_words(&g, "root ::= v v*\nv ::= \"(\" v* \")\" | \"[\" v* \"]\" | \"x\"", texts, COUNT),
        TLM_OK);
    struct constraint *c = begin(g), *still = begin(g);
    for (int i = 0; i < 20; i++) ck_assert(constraint_accept(still, i % 2 ? 0 : 2));
    uint64_t mask = constraint_mask(still, CONSTRAINT_UNLIMITED)[0];
    int32_t least = constraint_least_tokens(still);
    uint64_t draws = 0;
    uint8_t open[DEEP]; // the closing tokens we owe
    for (int round = 0; round < 150; round++) {
        int depth = 0;
        constraint_reset(c);
        for (; depth < DEEP; depth++) {
            int kind = rng_uniform(8, 0, draws++) < 0.5 ? 0 : 2;
            if (!constraint_accept(c, kind))
                ck_abort_msg("round %d, depth %d: expected a bracket to be allowed", round, depth);
            open[depth] = (uint8_t)(kind + 1);
        }
        if (round % 50 == 0) ck_assert(has(constraint_mask(c, CONSTRAINT_UNLIMITED), open[depth - 1]));
        ck_assert_int_eq(constraint_least_tokens(c), DEEP + 1);
        while (depth > 0) ck_assert(constraint_accept(c, open[--depth]));
        ck_assert(constraint_may_end(c));
    }
    ck_assert_uint_eq(constraint_mask(still, CONSTRAINT_UNLIMITED)[0], mask);
    ck_assert_int_eq(constraint_least_tokens(still), least);
    for (int i = 20; i-- > 0;) ck_assert(constraint_accept(still, i % 2 ? 1 : 3));
    ck_assert(constraint_may_end(still));
    constraint_close(still);
    constraint_close(c);
    tlm_grammar_close(g);
}
END_TEST

struct walker {
    const struct tlm_grammar *grammar;
    int32_t vocab;
    uint64_t hash;
};

static void *walk_alone(void *user)
{
    struct walker *w = user;
    struct constraint *c = begin(w->grammar);
    uint64_t draws = 0;
    for (int step = 0; step < 300; step++) {
        const uint64_t *mask = constraint_mask(c, step % 3 ? CONSTRAINT_UNLIMITED : 60);
        for (int32_t i = 0; i < (w->vocab + 63) / 64; i++)
            w->hash = (w->hash ^ mask[i]) * 0x9E3779B97F4A7C15u;
        int32_t token = draw(mask, w->vocab, 9, &draws);
        if (token < 0 || !constraint_accept(c, token) || constraint_is_over(c)) constraint_reset(c);
    }
    constraint_close(c);
    return NULL;
}

// Threads that share a grammar see what they would see alone.
START_TEST(test_threads)
{
    struct tlm_model *m = open_vocabulary("tests/golden/llama-plain.gguf");
    struct tlm_grammar *g = prepare(m, 0);
    struct walker w[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) w[i] = (struct walker){g, tlm_model_vocab_size(m), 0};
    walk_alone(&w[0]);
    for (int i = 1; i < 3; i++) pthread_create(&threads[i], NULL, walk_alone, &w[i]);
    for (int i = 1; i < 3; i++) pthread_join(threads[i], NULL);
    ck_assert_uint_eq(w[1].hash, w[0].hash);
    ck_assert_uint_eq(w[2].hash, w[0].hash);
    tlm_grammar_close(g);
    tlm_model_close(m);
}
END_TEST

// ---- samplers and answers -----------------------------------------------------------------------------------

static struct tlm_sampler *open_sampler(const struct tlm_model *m, const struct tlm_grammar *g,
                                        float temperature, uint64_t seed)
{
    struct tlm_sampler *s;
    struct tlm_error err;
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.temperature = temperature;
    o.seed = seed;
    o.grammar = g;
    o.repeat_penalty = 1.1f;
    if (tlm_sampler_open(&s, m, &o, &err)) ck_abort_msg("%s", err.text);
    return s;
}

START_TEST(test_sampler)
{
    struct tlm_model *m = open_model("tests/golden/llama-plain.gguf", NULL);
    int32_t vocab = tlm_model_vocab_size(m);
    struct tlm_grammar *g = prepare(m, 0);
    struct constraint *c = begin(g);
    float *logits = calloc((size_t)vocab, sizeof *logits);
    uint64_t draws = 0;
    for (int greedy = 0; greedy < 2; greedy++) {
        struct tlm_sampler *s = open_sampler(m, g, greedy ? 0 : 1, 5);
        int32_t prompt[] = {40, 41, 42}; // is not part of the answer
        tlm_sampler_set_history(s, prompt, 3);
        constraint_reset(c);
        for (int step = 0; step < 60 && !constraint_is_over(c); step++) {
            for (int32_t t = 0; t < vocab; t++) logits[t] = (float)(rng_uniform(7, 7, draws++) * 8);
            if (step % 7 == 3)
                for (int32_t t = 0; t < vocab; t++)
                    logits[t] = step % 2 ? NAN : -INFINITY; // nothing to choose from
            int32_t token = tlm_sampler_next(s, logits);
            ck_assert(has(constraint_mask(c, CONSTRAINT_UNLIMITED), token));
            tlm_sampler_accept(s, token);
            ck_assert(constraint_accept(c, token));
        }
        tlm_sampler_reset(s);
        constraint_reset(c);
        ck_assert(has(constraint_mask(c, CONSTRAINT_UNLIMITED), tlm_sampler_next(s, logits)));
        tlm_sampler_close(s);
    }
    struct tlm_sampler *s;
    struct tlm_error err;
    struct tlm_sampler_options o = tlm_sampler_defaults();
    o.grammar = g;
    o.ignore_end = true;
    ck_assert_int_eq(tlm_sampler_open(&s, m, &o, &err), TLM_ERR_ARGUMENT);
    free(logits);
    constraint_close(c);
    tlm_grammar_close(g);
    tlm_model_close(m);
}
END_TEST

// What PERSON asks for.
static void check_person(const char *text, size_t bytes)
{
    json_error_t error;
    json_t *person = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!person) ck_abort_msg("'%.*s': expected JSON, found %s", (int)bytes, text, error.text);
    const json_t *name = json_object_get(person, "name"), *age = json_object_get(person, "age"),
                 *tags = json_object_get(person, "tags"), *mail = json_object_get(person, "mail"),
                 *note = json_object_get(person, "note"), *tag;
    ck_assert_uint_eq(json_object_size(person), 3u + (mail != NULL) + (note != NULL));
    int characters = 0;
    for (const char *p = json_string_value(name); *p; p++) characters += (*p & 0xC0) != 0x80;
    ck_assert(characters >= 1 && characters <= 12);
    ck_assert(json_is_integer(age) && json_integer_value(age) >= 0 && json_integer_value(age) <= 130);
    ck_assert(json_is_array(tags) && json_array_size(tags) <= 3);
    size_t i;
    json_array_foreach((json_t *)tags, i, tag)
    {
        const char *color = json_string_value(tag);
        ck_assert(color && (!strcmp(color, "red") || !strcmp(color, "green") || !strcmp(color, "blue")));
    }
    ck_assert(!mail || (json_is_string(mail) && strchr(json_string_value(mail), '@')));
    ck_assert(!note || json_is_string(note) || json_is_null(note));
    json_decref(person);
}

static int collect(void *user, int32_t token, const char *text, size_t bytes)
{
    struct text *t = user;
    (void)token;
    ck_assert_uint_le(t->bytes + bytes, sizeof t->data);
    memcpy(t->data + t->bytes, text, bytes);
    t->bytes += bytes;
    return 0;
}

static const char *const answering[] = {"tests/golden/llama-plain.gguf", "tests/golden/hf/shards",
                                        "../shared/models/stories260K.gguf"};

// 200 answers of each: all of them are what the schema asks for, however few tokens they have.
START_TEST(test_answers)
{
    if (access(answering[_i], R_OK)) return;
    struct tlm_model *m = open_model(answering[_i], NULL);
    struct tlm_session *session = open_session(m, (struct tlm_session_options){.context = 160, .threads = 1});
    struct tlm_grammar *g = prepare(m, 0);
    struct constraint *c = begin(g);
    int32_t least = constraint_least_tokens(c), prompt[] = {5, 6, 7, 8};
    constraint_close(c);
    for (int i = 0; i < 200; i++) {
        struct tlm_sampler *s = open_sampler(m, g, i % 10 ? 1 : 0, (uint64_t)i);
        struct text text = {.bytes = 0};
        struct tlm_generate_options o = {
            .on_token = collect, .user = &text, .max_tokens = i % 2 ? least + i % 41 : 0};
        struct tlm_generate_result r;
        struct tlm_error err;
        if (tlm_generate(session, s, prompt, 4, &o, &r, &err)) ck_abort_msg("%s", err.text);
        ck_assert_int_eq(r.finish, TLM_FINISH_END);
        check_person(text.data, text.bytes);
        free(r.tokens);
        if (!i) { // too few are refused
            o.max_tokens = least - 1;
            ck_assert_int_eq(tlm_generate(session, s, prompt, 4, &o, &r, &err), TLM_ERR_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(err.text, "grammar"));
            free(r.tokens);
        }
        tlm_sampler_close(s);
    }
    tlm_grammar_close(g);
    tlm_session_close(session);
    tlm_model_close(m);
}
END_TEST

static void answer(const struct tlm_model *m, const struct tlm_grammar *g, struct tlm_drafter *drafter,
                   float temperature, struct text *text)
{
    struct tlm_session *session = open_session(m, (struct tlm_session_options){.context = 256, .threads = 1});
    struct tlm_sampler *s = open_sampler(m, g, temperature, 11);
    int32_t prompt[] = {5, 6, 7, 8, 5, 6, 7, 8};
    struct tlm_generate_options o = {
        .on_token = collect, .user = text, .max_tokens = 120, .drafter = drafter};
    struct tlm_generate_result r;
    ck_assert_int_eq(tlm_generate(session, s, prompt, 8, &o, &r, NULL), TLM_OK);
    free(r.tokens);
    tlm_sampler_close(s);
    tlm_session_close(session);
}

// Guessed tokens pass the grammar, too: the text stays the same.
START_TEST(test_drafts)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "tiny.gguf");
    tiny_model_write(path.text, &(struct tiny_model){.type = DTYPE_F32, .width = 64});
    struct tlm_model *m = open_model(path.text, NULL);
    struct tlm_grammar *g = prepare(m, _i / 2);
    float temperature = _i % 2 ? 1 : 0;
    struct text alone = {.bytes = 0}, looked_up = {.bytes = 0}, drafted = {.bytes = 0};
    struct tlm_drafter *lookup, *model;
    struct tlm_session *session = open_session(m, (struct tlm_session_options){.context = 256, .threads = 1});
    struct tlm_sampler *sampler = open_sampler(m, g, temperature, 11);
    ck_assert_int_eq(tlm_drafter_open_lookup(&lookup, NULL), TLM_OK);
    ck_assert_int_eq(tlm_drafter_open_model(&model, session, sampler, m, NULL), TLM_OK);
    answer(m, g, NULL, temperature, &alone);
    answer(m, g, lookup, temperature, &looked_up);
    answer(m, g, model, temperature, &drafted);
    ck_assert_uint_eq(alone.bytes, looked_up.bytes);
    ck_assert_mem_eq(alone.data, looked_up.data, alone.bytes);
    ck_assert_uint_eq(alone.bytes, drafted.bytes);
    ck_assert_mem_eq(alone.data, drafted.data, alone.bytes);
    tlm_drafter_close(lookup);
    tlm_drafter_close(model);
    tlm_sampler_close(sampler);
    tlm_session_close(session);
    tlm_grammar_close(g);
    tlm_model_close(m);
    temp_folder_close(&folder);
}
END_TEST

Suite *suite_constraint(void)
{
    Suite *s = suite_create("constraint");
    TCase *t = tcase_create("constraint");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_masks, 0, VOCABULARIES * GRAMMARS);
    tcase_add_loop_test(t, test_budgets, 0, VOCABULARIES * GRAMMARS);
    tcase_add_test(t, test_least);
    tcase_add_test(t, test_few_tokens);
    tcase_add_test(t, test_no_end);
    tcase_add_loop_test(t, test_copies, 0, GRAMMARS);
    tcase_add_test(t, test_full_tables);
    tcase_add_test(t, test_threads);
    tcase_add_test(t, test_sampler);
    tcase_add_loop_test(t, test_answers, 0, 3);
    tcase_add_loop_test(t, test_drafts, 0, 4);
    suite_add_tcase(s, t);
    return s;
}
