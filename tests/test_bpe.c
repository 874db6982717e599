// tests/test_bpe.c -- byte-level BPE: the ids of Hugging Face's tokenizers for every pre-tokenizer, texts that come back
// from their tokens, hostile texts, and vocabularies that are refused.
#include "core/rng.h"
#include "tests/alloc.h"
#include "tests/bpe_fixture.h"
#include "tests/tests.h"
#include "text/pretokenizer.h"
#include "text/regex.h"

static char *json;
static size_t json_bytes;

static void setup(void)
{
    json = read_golden("bpe.json", &json_bytes);
}

static void teardown(void)
{
    free(json);
}

// tests/golden/bpe.txt: "HEX IDS PRE PRE ...".
START_TEST(test_golden)
{
    size_t size, checked = 0;
    char *golden = read_golden("bpe.txt", &size), *rest = golden, *line;
    struct keys open[64];
    char names[64][24];
    int count = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        char text[512], found[4096], *hex = strsep(&line, " "), *ids = strsep(&line, " "), *name;
        size_t bytes = parse_hex(hex, text);
        while ((name = strsep(&line, " "))) {
            struct tlm_error err = {0};
            int i = 0;
            while (i < count && strcmp(names[i], name) != 0) i++;
            if (i == count) {
                ck_assert_msg(!keys_open(&open[count], json, json_bytes, name, &err), "%s", err.text);
                snprintf(names[count++], sizeof names[0], "%s", name);
            }
            ids_line(open[i].t, text, bytes, 0, found, sizeof found);
            ck_assert_msg(!strcmp(found, ids), "%s: %s:\nexpected %s\nfound    %s", name, hex, ids, found);
            checked++;
        }
    }
    ck_assert_int_ge(count, 25);
    ck_assert_uint_ge(checked, 600);
    for (int i = 0; i < count; i++) keys_close(&open[i]);
    free(golden);
}
END_TEST

// Any bytes come back from their tokens (but for normalization, which only texts with it need).
START_TEST(test_round_trip)
{
    static const char *const names[] = {"gpt-2",       "llama-bpe", "gpt-4o",   "deepseek-llm", "deepseek-v3",
                                        "falcon",      "starcoder", "bloom",    "viking",       "chameleon",
                                        "youtu",       "jais-2",    "afmoe",    "tiny_aya",     "kimi-k2",
                                        "default",     "tekken",    "superbpe", "exaone-moe",   "bailingmoe2",
                                        "chatglm-bpe", "hunyuan"};
    static const char alphabet[] = " \n\t'aZ9\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80.\xCC\x81";
    struct tlm_error err = {0};
    struct keys k;
    ck_assert_msg(!keys_open(&k, json, json_bytes, names[_i], &err), "%s", err.text);
    for (uint64_t n = 0; n < 300; n++) {
        char text[256], back[1024];
        int32_t ids[512];
        size_t bytes = (size_t)(rng_uniform(1, n, 0) * 200), count, at = 0;
        for (size_t i = 0; i < bytes; i++) {
            double u = rng_uniform(2, n, i);
            text[i] = n % 3 ? alphabet[(size_t)(u * (sizeof alphabet - 1))] : (char)(uint8_t)(u * 256);
        }
        ck_assert(!tokenizer_encode(k.t, text, bytes, 0, ids, 512, &count, &err) && count <= bytes);
        for (size_t i = 0; i < count; i++)
            at += tokenizer_piece(k.t, ids[i], !i, false, back + at, sizeof back - at);
        ck_assert_msg(at == bytes && !memcmp(text, back, bytes), "%s: text %d", names[_i], (int)n);
    }
    keys_close(&k);
}
END_TEST

// Long runs take time in proportion: with the square of their length this test would take hours.
START_TEST(test_long_runs)
{
    static const char *const names[] = {"gpt-2",    "llama-bpe", "gpt-4o",   "deepseek-llm", "deepseek-v3",
                                        "falcon",   "afmoe",     "tiny_aya", "kimi-k2",      "exaone-moe",
                                        "superbpe", "qwen2",     "default",  "bailingmoe"};
    static const char *const runs[] = {
        " ", "a", "1", "\n", "a ", "!", "\xCC\x81", "\xE4\xBD\xA0", "\xFF", " \xE4\xB8\x80", "A", "1a"};
    enum { BYTES = 300000 };
    struct tlm_error err = {0};
    struct keys k;
    size_t count;
    ck_assert_msg(!keys_open(&k, json, json_bytes, names[_i], &err), "%s", err.text);
    char *text = malloc(BYTES + 8);
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        size_t n = strlen(runs[r]), bytes = BYTES / n * n;
        for (size_t i = 0; i < bytes; i += n) memcpy(text + i, runs[r], n);
        text[bytes++] = 'x';
        ck_assert_msg(!tokenizer_encode(k.t, text, bytes, 0, NULL, 0, &count, &err), "%s: %s", names[_i],
                      err.text);
    }
    free(text);
    keys_close(&k);
}
END_TEST

START_TEST(test_unknown_pre)
{
    struct tlm_error err = {0};
    struct keys k;
    ck_assert_int_eq(keys_open(&k, json, json_bytes, "no-such\nname", &err), TLM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "no-such"));
    ck_assert_ptr_null(strchr(err.text, '\n'));
    keys_close(&k);
}
END_TEST

// What files say who lack the key, and that the key wins.
START_TEST(test_names)
{
    size_t length;
    struct split_rule none = {0};
    ck_assert_ptr_null(pretokenizer_find("", 0));
    ck_assert_ptr_null(pretokenizer_find("gpt-", 4));
    ck_assert_ptr_nonnull(pretokenizer_find("llama3", 6));
    ck_assert_ptr_eq(pretokenizer_find("llama3", 6), pretokenizer_find("llama-bpe", 9));
    ck_assert_ptr_null(pretokenizer_name(&none, 0, false, false, &length));
}
END_TEST

// The language of Oniguruma: what a pattern matches first, or the error.
START_TEST(test_dialect)
{
    static const struct {
        const char *pattern, *text, *match;
    } cases[] = {
        {"[a[bc]]+", "xxabcabcx", "abcabc"},
        {"[\\p{L}&&[^\\p{Han}]]+", "\u4e00\u3005ab\u00e9\u4e00", "ab\u00e9"},
        {"[^\\p{L}&&[a-z]]+", "abcD1", "D1"},
        {"[a-z&&[^aeiou]&&[^x]]+", "aexbcdx", "bcd"},
        {"\\h+", "xyz12aFg", "12aF"},
        {"\\p{Letter}+\\p{^Letter}", "12ab3", "ab3"},
        {"\\u4E00\\u{4E8C}", "a\u4e00\u4e8c", "\u4e00\u4e8c"},
        {"(?m:a.b)", "a\nb", "a\nb"},
        {"a$", "ba\nb", "a"},
        {"\\w+", "-e\u0301_\u00bd", "e\u0301_"},
        {"[]a]+", "b]a]", "]a]"},
        {"[(\\s|[.,])]+", "x(|., x", "(|., "},
        {"\\p{L}", "\U00031350", "\U00031350"}, // newer than Unicode 14
        {"\\S+", "\u180e", "\u180e"},
    };
    struct tlm_error err = {0};
    struct regex_scratch *scratch = regex_scratch_open();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct regex *r;
        size_t start = 0, end = 0, bytes = strlen(cases[i].text);
        char *seen = strdup(cases[i].text);
        regex_replace_new(seen, bytes);
        ck_assert_msg(!regex_open(&r, cases[i].pattern, strlen(cases[i].pattern), false, &err), "%s",
                      err.text);
        ck_assert_msg(regex_find(r, scratch, seen, bytes, 0, &start, &end) == 1, "%s", cases[i].pattern);
        ck_assert_msg(end - start == strlen(cases[i].match) &&
                          !memcmp(cases[i].text + start, cases[i].match, end - start),
                      "%s: found %zu to %zu", cases[i].pattern, start, end);
        regex_close(r);
        free(seen);
    }
    static const char *const wrong[] = {"[", "(", "[a&&", "a{2,1}", "\\", "[[[[", "\\p{Nothing}", "(?<", "*"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct regex *r;
        ck_assert_int_eq(regex_open(&r, wrong[i], strlen(wrong[i]), false, &err), TLM_ERR_FORMAT);
        ck_assert(!r && !strchr(err.text, '\n'));
    }
    // Backtracking without end stops.
    struct regex *r;
    size_t start, end;
    ck_assert(!regex_open(&r, "(a|aa)+$", 8, false, &err));
    ck_assert_int_eq(regex_find(r, scratch, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                                60, 0, &start, &end),
                     -1);
    regex_close(r);
    regex_scratch_close(scratch);
}
END_TEST

// Without memory there is an error, and nothing is lost.
START_TEST(test_no_memory)
{
    static const char text[] = "Hello  world \U00031350 e\u0301 \xFF 12345 a very long word: "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct tlm_error err = {0};
    struct tokenizer *t;
    struct keys k;
    ck_assert_msg(!keys_open(&k, json, json_bytes, "qwen2", &err), "%s", err.text);
    enum tlm_status status = TLM_ERR_MEMORY;
    long n = 0;
    for (; status == TLM_ERR_MEMORY; n++) {
        alloc_fail_after(n);
        status = tokenizer_open(&t, k.g, &err);
        alloc_fail_after(-1);
        ck_assert(!status == (t != NULL) && (!status || err.code == status));
    }
    ck_assert_msg(!status && n > 8, "%s", err.text);
    status = TLM_ERR_MEMORY;
    for (n = 0; status == TLM_ERR_MEMORY; n++) {
        size_t count;
        alloc_fail_after(n);
        status = tokenizer_encode(t, text, sizeof text - 1, 0, NULL, 0, &count, &err);
        alloc_fail_after(-1);
    }
    ck_assert_msg(!status && n > 2, "%s", err.text);
    tokenizer_close(t);
    keys_close(&k);
}
END_TEST

// llama.cpp's own vocabularies, where they are at hand: every line of their expected ids.
START_TEST(test_public)
{
    static const char *const names[] = {"gpt-2", "deepseek-coder", "falcon", "llama-spm"};
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[256], found[8192];
    struct tlm_error err = {0};
    struct gguf *g;
    struct tokenizer *t;
    char *input, *output;
    size_t size;
    snprintf(path, sizeof path, "../shared/tokenizers/ggml-vocab-%s.gguf", names[_i]);
    if (gguf_open(&g, path, &err)) return;
    ck_assert_msg(!tokenizer_open(&t, g, &err), "%s", err.text);
    size_t base = strlen(path);
    snprintf(path + base, sizeof path - base, ".inp");
    ck_assert(!file_read(path, &input, &size, &err));
    snprintf(path + base, sizeof path - base, ".out");
    ck_assert(!file_read(path, &output, &size, &err));
    int lines = 0;
    for (char *text = input, *rest = output, *line; (line = strsep(&rest, "\n")) && rest; lines++) {
        char *end = strstr(text, separator);
        ck_assert_ptr_nonnull(end);
        ids_line(t, text, (size_t)(end - text), 0, found, sizeof found);
        for (char *c = line; *c; c++)
            if (c > line && *c == ' ') *c = ',';
        ck_assert_msg(!strcmp(*line ? line + (*line == ' ') : "-", found), "line %d: expected %s, found %s",
                      lines, line, found);
        text = end + sizeof separator - 1;
    }
    ck_assert_int_ge(lines, 40);
    free(input);
    free(output);
    tokenizer_close(t);
    gguf_close(g);
}
END_TEST

Suite *suite_bpe(void)
{
    Suite *s = suite_create("bpe");
    TCase *c = tcase_create("bpe");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_golden);
    tcase_add_loop_test(c, test_round_trip, 0, 22);
    tcase_add_loop_test(c, test_long_runs, 0, 14);
    tcase_add_test(c, test_unknown_pre);
    tcase_add_test(c, test_names);
    tcase_add_test(c, test_dialect);
    tcase_add_test(c, test_no_memory);
    tcase_add_loop_test(c, test_public, 0, 4);
    suite_add_tcase(s, c);
    return s;
}
