// tests/test_bpe_train.c -- vocabularies made of texts: the merges of Hugging Face's trainer, texts that come back from their
// tokens, the same vocabulary for any number of threads, vocabularies of characters, and what is refused.
#include "core/rng.h"
#include "models/hf.h"
#include "tests/alloc.h"
#include "tests/bpe_fixture.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/trained.h"

static uint64_t merges_of(const struct trained *v, struct gguf_string **out)
{
    struct tlm_error err = {0};
    const struct gguf_value *list = gguf_find(v->g, "tokenizer.ggml.merges");
    ck_assert_ptr_nonnull(list);
    ck_assert(!gguf_value_strings(list, out, &err));
    return list->count;
}

static void check_merges(const struct trained *v, char **rest, uint64_t count)
{
    struct gguf_string *merges;
    ck_assert_uint_eq(merges_of(v, &merges), count);
    for (uint64_t i = 0; i < count; i++) {
        const char *line = strsep(rest, "\n");
        ck_assert_msg(gguf_string_is(merges[i], line), "merge %d: expected '%s', found '%.*s'", (int)i, line,
                      (int)merges[i].length, merges[i].data);
    }
    free(merges);
}

// tests/golden/bpe_train.txt: "TEXT VOCAB_SIZE MIN_FREQUENCY PRE COUNT" and a merge a line; for each number of threads.
START_TEST(test_golden)
{
    size_t size, blocks = 0;
    char *golden = read_golden("bpe_train.txt", &size), *rest = golden, *line;
    static const char *const special[] = {"<|end|>"};
    while ((line = strsep(&rest, "\n")) && *line) {
        char path[64], pre[32], *text;
        int vocab, least, count;
        struct tlm_error err = {0};
        ck_assert_int_eq(sscanf(line, "%63s %d %d %31s %d", path, &vocab, &least, pre, &count), 5);
        ck_assert_msg(!file_read(path, &text, &size, &err), "%s", err.text);
        struct bpe_train_options o = {.pre = pre,
                                      .vocab_size = vocab,
                                      .min_frequency = least,
                                      .special = special,
                                      .special_count = 1,
                                      .eos = special[0]};
        struct trained v = trained_open(&o, _i, (const char *const[]){text}, &size, 1, NULL);
        check_merges(&v, &rest, (uint64_t)count);
        ck_assert_int_eq(tokenizer_eos(v.t), 0);
        ck_assert_int_eq(tokenizer_type(v.t, 0), TOKEN_CONTROL);
        ck_assert(gguf_string_is(tokenizer_token(v.t, 1), "!")); // bytes in the order of their alphabet
        trained_close(&v);
        free(text);
        blocks++;
    }
    ck_assert_uint_ge(blocks, 3);
    free(golden);
}
END_TEST

// ---- by hand ------------------------------------------------------------------------------------------

enum { TEXT = 3000 };

// Words of a few letters, so that tokens of other parts come up ("ab" + "c" and "a" + "bc"), no letter beside itself.
static void few_letters(uint64_t seed, char *text)
{
    for (size_t i = 0, last = 0; i < TEXT; i++) {
        last = (last + 1 + (size_t)(rng_uniform(seed, 1, i) * 4)) % 5;
        text[i] = "abcd "[last];
    }
}

// What is left of a text of letters when the pair is joined in it: ids a position, -1 between words.
static size_t join_pair(int32_t *ids, size_t count, int32_t left, int32_t right, int32_t token)
{
    size_t out = 0;
    for (size_t i = 0; i < count; i++) {
        bool found = i + 1 < count && ids[i] == left && ids[i + 1] == right;
        ids[out++] = found ? token : ids[i];
        i += found;
    }
    return out;
}

// Counts all pairs anew for each merge. Stops where a token would come up a second time, behind which counts are not those of
// the text alone.
START_TEST(test_naive)
{
    char text[TEXT];
    static int32_t ids[2 * TEXT];
    static int counts[400][400];
    size_t n = 0, size = TEXT, checked = 0;
    struct gguf_string *merges;
    few_letters((uint64_t)_i, text);
    struct bpe_train_options o = {.vocab_size = 300, .min_frequency = 2};
    struct trained v = trained_open(&o, 2, (const char *const[]){text}, &size, 1, NULL);
    uint64_t count = merges_of(&v, &merges);
    for (size_t i = 0; i < TEXT; i++) {
        // GPT-2's pattern: a space goes with the word behind it; of several the others are a word.
        if (text[i] == ' ' && (!i || text[i - 1] != ' ' || (i + 1 < TEXT && text[i + 1] != ' ')))
            ids[n++] = -1;
        ids[n++] = text[i] == ' ' ? 220 : text[i] - '!';
    }
    for (uint64_t m = 0; m < count; m++, checked++) {
        memset(counts, 0, sizeof counts);
        for (size_t i = 0; i + 1 < n; i++)
            if (ids[i] >= 0 && ids[i + 1] >= 0) counts[ids[i]][ids[i + 1]]++;
        int best = 0, left = 0, right = 0;
        for (int a = 0; a < 400; a++)
            for (int b = 0; b < 400; b++)
                if (counts[a][b] > best) best = counts[a][b], left = a, right = b;
        struct gguf_string a = tokenizer_token(v.t, left), b = tokenizer_token(v.t, right);
        char expected[64];
        snprintf(expected, sizeof expected, "%.*s %.*s", (int)a.length, a.data, (int)b.length, b.data);
        bool runs = left == right; // a run of three is two pairs to one count and one to the other
        if (runs) break;
        ck_assert_msg(gguf_string_is(merges[m], expected), "merge %d: expected '%s', found '%.*s'", (int)m,
                      expected, (int)merges[m].length, merges[m].data);
        int32_t token = 256 + (int32_t)m;
        struct gguf_string joined = tokenizer_token(v.t, token);
        if (joined.length != a.length + b.length) break;
        n = join_pair(ids, n, left, right, token);
    }
    ck_assert_uint_ge(checked, 3);
    free(merges);
    trained_close(&v);
}
END_TEST

// Any bytes come back, and text that has much in common with what was seen takes few tokens.
START_TEST(test_round_trip)
{
    size_t size, count, at = 0;
    struct tlm_error err = {0};
    char *text, back[1024];
    int32_t ids[1024];
    ck_assert(!file_read("tests/golden/tales.txt", &text, &size, &err));
    struct bpe_train_options o = {.pre = _i ? "qwen2" : NULL, .vocab_size = 1000, .min_frequency = 2};
    struct trained v = trained_open(&o, 2, (const char *const[]){text}, &size, 1, NULL);
    ck_assert(!tokenizer_encode(v.t, text, size, 0, NULL, 0, &count, &err));
    ck_assert_uint_lt(count, size / 3);
    static const char odd[] = "\xFF\xC3 caf\xC3\xA9\0 \xF0\x9F\x98\x80\n\n\t \xE4\xBD\xA0 \x80";
    ck_assert(!tokenizer_encode(v.t, odd, sizeof odd, 0, ids, 1024, &count, &err));
    for (size_t i = 0; i < count; i++)
        at += tokenizer_piece(v.t, ids[i], !i, false, back + at, sizeof back - at);
    ck_assert(at == sizeof odd && !memcmp(back, odd, at));
    ck_assert_int_eq(tokenizer_eos(v.t), -1);
    trained_close(&v);
    free(text);
}
END_TEST

// Special texts are tokens, and what is around them is not joined with them or across them.
START_TEST(test_special)
{
    static const char *const special[] = {"<|a|>", "<|a|>b"};
    char text[4096];
    size_t size = 0, count;
    int32_t ids[8];
    struct tlm_error err = {0};
    while (size < 4000) size += (size_t)snprintf(text + size, sizeof text - size, "x<|a|>y<|a|>bz");
    struct bpe_train_options o = {
        .vocab_size = 300, .min_frequency = 2, .special = special, .special_count = 2};
    struct trained v = trained_open(&o, 1, (const char *const[]){text}, &size, 1, NULL);
    struct gguf_string *merges;
    ck_assert_uint_eq(merges_of(&v, &merges), 1); // "z" and the "x" of the next
    ck_assert(gguf_string_is(merges[0], "z x"));
    ck_assert(!tokenizer_encode(v.t, "x<|a|>by", 8, TLM_PARSE_SPECIAL, ids, 8, &count, &err));
    ck_assert(count == 3 && ids[1] == 1);
    free(merges);
    trained_close(&v);
}
END_TEST

// ---- characters ---------------------------------------------------------------------------------------

START_TEST(test_characters)
{
    static const char text[] = "Hello, world!\nHello";
    static const char sorted[] = "\n !,Hdelorw";
    static const char *const special[] = {"<unk>"};
    size_t size = sizeof text - 1, count;
    int32_t ids[64];
    struct tlm_error err = {0};
    struct bpe_train_options o = {.characters = true};
    struct trained v = trained_open(&o, 1, (const char *const[]){text}, &size, 1, NULL);
    ck_assert_int_eq(tokenizer_size(v.t), sizeof sorted - 1);
    ck_assert(!tokenizer_encode(v.t, "low~", 4, 0, ids, 64, &count, &err));
    ck_assert_uint_eq(count, 3); // what has no token is dropped
    for (size_t i = 0; i < 3; i++) ck_assert_int_eq(ids[i], strchr(sorted, "low"[i]) - sorted);
    trained_close(&v);

    o.special = special, o.special_count = 1, o.unknown = special[0];
    v = trained_open(&o, 1, (const char *const[]){text}, &size, 1, NULL);
    ck_assert(!tokenizer_encode(v.t, "low~", 4, 0, ids, 64, &count, &err));
    ck_assert(count == 4 && ids[3] == 0 && tokenizer_type(v.t, 0) == TOKEN_UNKNOWN);
    trained_close(&v);
}
END_TEST

// A character of several bytes is one token.
START_TEST(test_wide_characters)
{
    static const char text[] = "na\u00efve caf\u00e9 \u4f60\u597d \U0001f600 \u00e9\u4f60";
    size_t size = sizeof text - 1, count, at = 0, characters = 0;
    int32_t ids[64];
    char back[128];
    struct tlm_error err = {0};
    struct bpe_train_options o = {.characters = true};
    struct trained v = trained_open(&o, 2, (const char *const[]){text}, &size, 1, NULL);
    for (size_t i = 0; i < size; i++) characters += (text[i] & 0xC0) != 0x80;
    ck_assert(!tokenizer_encode(v.t, text, size, 0, ids, 64, &count, &err));
    ck_assert_uint_eq(count, characters);
    for (size_t i = 0; i < count; i++)
        at += tokenizer_piece(v.t, ids[i], !i, false, back + at, sizeof back - at);
    ck_assert(at == size && !memcmp(back, text, at));
    trained_close(&v);
}
END_TEST

// tokenizer.json says the same as the keys.
START_TEST(test_json)
{
    static const char *const special[] = {"<unk>", "<|endoftext|>"};
    size_t size, count, again;
    struct tlm_error err = {0};
    struct tokenizer *t;
    char *text;
    int32_t ids[2][256];
    struct temp_folder folder = temp_folder_open();
    ck_assert(!file_read("tests/golden/tales.txt", &text, &size, &err));
    struct bpe_train_options o = {.characters = _i == 1,
                                  .vocab_size = 500,
                                  .min_frequency = 2,
                                  .special = special,
                                  .special_count = 2,
                                  .eos = special[1],
                                  .unknown = special[0]};
    struct trained v = trained_open(&o, 2, (const char *const[]){text}, &size, 1, NULL);
    ck_assert_msg(!hf_write_tokenizer_json(v.g, temp_path(&folder, "tokenizer.json").text, &err), "%s",
                  err.text);
    ck_assert_msg(!tokenizer_open_folder(&t, folder.path, &err), "%s", err.text);
    ck_assert_int_eq(tokenizer_size(t), tokenizer_size(v.t));
    static const char odd[] = "A fox <|endoftext|> ~ \u00e9 and a bear's 12 stones";
    ck_assert(!tokenizer_encode(v.t, odd, sizeof odd - 1, TLM_PARSE_SPECIAL, ids[0], 256, &count, &err));
    ck_assert(!tokenizer_encode(t, odd, sizeof odd - 1, TLM_PARSE_SPECIAL, ids[1], 256, &again, &err));
    ck_assert(count == again && !memcmp(ids[0], ids[1], count * sizeof ids[0][0]));
    tokenizer_close(t);
    trained_close(&v);
    free(text);
    ck_assert_int_eq(temp_folder_close(&folder), 1);
}
END_TEST

// ---- what is refused ----------------------------------------------------------------------------------

static void check_refused(const struct bpe_train_options *o, const char *reason)
{
    struct tlm_error err = {0};
    struct threads *pool;
    struct bpe_train *train;
    ck_assert(!threads_open(&pool, 1, &err));
    ck_assert_int_eq(bpe_train_open(&train, o, pool, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, reason) != NULL, "%s", err.text);
    ck_assert_ptr_null(train);
    threads_close(pool);
}

START_TEST(test_refused)
{
    static const char *const twice[] = {"<a>", "<a>"}, *const byte[] = {"a"}, *const empty[] = {""};
    check_refused(&(struct bpe_train_options){.vocab_size = 255}, "vocabulary");
    check_refused(&(struct bpe_train_options){.vocab_size = 300, .pre = "no-such"}, "no-such");
    check_refused(&(struct bpe_train_options){.vocab_size = 300, .pre = "gemma4"}, "gemma4");
    check_refused(&(struct bpe_train_options){.vocab_size = 300, .special = twice, .special_count = 2},
                  "twice");
    check_refused(&(struct bpe_train_options){.vocab_size = 300, .special = byte, .special_count = 1},
                  "character");
    check_refused(&(struct bpe_train_options){.vocab_size = 300, .special = empty, .special_count = 1},
                  "bytes");
    check_refused(
        &(struct bpe_train_options){.vocab_size = 300, .eos = "<b>", .special = twice, .special_count = 1},
        "eos");
    struct tlm_error err = {0};
    struct threads *pool;
    struct bpe_train *train;
    ck_assert(!threads_open(&pool, 1, &err));
    ck_assert(!bpe_train_open(&train, &(struct bpe_train_options){.vocab_size = 300}, pool, &err));
    ck_assert_int_eq(bpe_train_run(train, &err), TLM_ERR_ARGUMENT);
    bpe_train_close(train);
    threads_close(pool);
}
END_TEST

// Wherever memory runs out there is an error and nothing is lost.
START_TEST(test_no_memory)
{
    char text[TEXT];
    struct tlm_error err = {0};
    struct threads *pool;
    few_letters(5, text);
    ck_assert(!threads_open(&pool, 1, &err));
    struct bpe_train_options o = {.vocab_size = 300, .min_frequency = 2, .characters = _i == 1};
    for (long n = 0;; n++) {
        struct bpe_train *train;
        alloc_fail_after(n);
        enum tlm_status status = bpe_train_open(&train, &o, pool, &err);
        if (!status) status = bpe_train_add(train, text, TEXT, &err);
        if (!status) status = bpe_train_run(train, &err);
        alloc_fail_after(-1);
        bpe_train_close(train);
        if (!status) break;
        ck_assert_int_eq(status, TLM_ERR_MEMORY);
        ck_assert_int_lt(n, 2000);
    }
    threads_close(pool);
}
END_TEST

Suite *suite_bpe_train(void)
{
    Suite *s = suite_create("bpe_train");
    TCase *c = tcase_create("train");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, test_golden, 1, 5);
    tcase_add_loop_test(c, test_naive, 0, 10);
    tcase_add_loop_test(c, test_round_trip, 0, 2);
    tcase_add_test(c, test_special);
    tcase_add_test(c, test_characters);
    tcase_add_test(c, test_wide_characters);
    tcase_add_loop_test(c, test_json, 0, 2);
    tcase_add_test(c, test_refused);
    tcase_add_loop_test(c, test_no_memory, 0, 2);
    suite_add_tcase(s, c);
    return s;
}
