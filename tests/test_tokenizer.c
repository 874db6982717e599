// tests/test_tokenizer.c -- the ids of llama.cpp for its own and for our texts, texts that come back from
// their tokens, streams that never cut a character, and vocabularies that are refused.
#include "core/file.h"
#include "core/rng.h"
#include "tests/alloc.h"
#include "tests/tests.h"
#include "tests/tokenizer_fixture.h"

static struct gguf *model;
static struct tokenizer *tok;

static void open_memory(const void *data, size_t size)
{
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_open_memory(&model, data, size, "test", &err), "%s", err.text);
    ck_assert_msg(!tokenizer_open(&tok, model, &err), "%s", err.text);
}

static void close_all(void)
{
    tokenizer_close(tok);
    gguf_close(model);
}

// The whole of a file, which must be there; free() it.
static char *read_all(const char *path, size_t *size)
{
    char *data;
    struct tlm_error err = {0};
    ck_assert_msg(!file_read(path, &data, size, &err), "%s", err.text);
    return data;
}

static int32_t *encode(const char *text, size_t bytes, int flags, size_t *count)
{
    struct tlm_error err = {0};
    ck_assert_msg(!tokenizer_encode(tok, text, bytes, flags, NULL, 0, count, &err), "%s", err.text);
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    ids[*count] = -7; // a guard
    size_t again;
    enum tlm_status status = tokenizer_encode(tok, text, bytes, flags, ids, *count, &again, &err);
    ck_assert(!status && again == *count && ids[*count] == -7);
    return ids;
}

static char *decode(const int32_t *ids, size_t count, size_t *length)
{
    size_t room = 0, at = 0;
    for (size_t i = 0; i < count; i++) room += tokenizer_piece(tok, ids[i], i == 0, false, NULL, 0);
    char *text = malloc(room + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++)
        at += tokenizer_piece(tok, ids[i], i == 0, false, text + at, room - at);
    ck_assert_uint_eq(at, room);
    *length = at;
    return text;
}

// ---- against llama.cpp --------------------------------------------------------------------------------

static size_t parse_hex(const char *hex, char *out)
{
    size_t n = 0;
    unsigned byte;
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2) out[n++] = (char)byte;
    return n;
}

// Compares ids with a list of them, separated by any one character, up to the end of the line.
static void check_ids(const int32_t *ids, size_t count, const char *list, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        char *end;
        long expected = strtol(list, &end, 10);
        ck_assert_msg(end != list, "%s: expected %zu ids, found %zu", what, i, count);
        ck_assert_msg(ids[i] == expected, "%s: id %zu: expected %ld, found %d", what, i, expected,
                      (int)ids[i]);
        list = end + (*end == ',' || *end == ' ');
    }
    ck_assert_msg(!*list || *list == '-', "%s: expected more than %zu ids", what, count);
}

static void check_encode_line(char *hex, char *list, bool special)
{
    char text[256];
    size_t count, bytes = parse_hex(hex, text);
    int32_t *ids = encode(text, bytes, special ? TLM_PARSE_SPECIAL : 0, &count);
    check_ids(ids, count, list, hex);
    free(ids);
}

static void check_piece_line(char *id, char *plain, char *special)
{
    char expected[2][256], found[256];
    size_t length[2] = {parse_hex(plain, expected[0]), parse_hex(special, expected[1])};
    for (int s = 0; s < 2; s++) {
        size_t n = tokenizer_piece(tok, atoi(id), false, s, found, sizeof found);
        ck_assert_msg(n == length[s] && !memcmp(found, expected[s], n), "piece %s, special %d", id, s);
    }
}

static void check_ends_line(char *list)
{
    int32_t ends[16];
    size_t count = 0;
    for (int32_t id = 0; id < tokenizer_size(tok); id++)
        if (tokenizer_is_end(tok, id)) ends[count++] = id;
    check_ids(ends, count, list, "ends");
}

// One pass over the golden cases with the vocabulary as it is, one with its add_space_prefix turned off.
START_TEST(test_golden)
{
    bool bare = _i;
    const char *key = "tokenizer.ggml.add_space_prefix";
    size_t size, text_size;
    char *data = read_all("tests/golden/spm.gguf", &size),
         *text = read_all("tests/golden/spm.txt", &text_size);
    char *value =
        (char *)memmem(data, size, key, strlen(key)) + strlen(key) + 4; // behind the key and its type
    ck_assert_int_eq(*value, 1);
    *value = !bare;
    open_memory(data, size);
    int cases = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        char *word[4] = {0};
        for (int i = 0; i < 4 && line; i++) word[i] = strsep(&line, " ");
        if (!strcmp(word[0], "encode") && bare == !strcmp(word[1], "bare")) {
            check_encode_line(word[2], word[3], !strcmp(word[1], "special"));
            cases++;
        }
        if (!strcmp(word[0], "piece")) check_piece_line(word[1], word[2], word[3]);
        if (!strcmp(word[0], "ends")) check_ends_line(word[1]);
    }
    ck_assert_int_ge(cases, 60);
    close_all();
    free(text);
    free(data);
}
END_TEST

// llama.cpp's own texts for the vocabulary of Llama 2; the files are too large for the repository.
START_TEST(test_llama_vocabulary)
{
    const char *path = "../shared/tokenizers/ggml-vocab-llama-spm.gguf",
               *separator = "\n__ggml_vocab_test__\n";
    FILE *f = fopen(path, "rb");
    if (!f) return;
    fclose(f);
    size_t size, input_size, output_size;
    char *data = read_all(path, &size);
    char *input = read_all("../shared/tokenizers/ggml-vocab-llama-spm.gguf.inp", &input_size);
    char *output = read_all("../shared/tokenizers/ggml-vocab-llama-spm.gguf.out", &output_size);
    open_memory(data, size);
    int cases = 0;
    char *lines = output;
    for (char *text = input, *end; (end = strstr(text, separator)); text = end + strlen(separator), cases++) {
        char *line = strsep(&lines, "\n");
        ck_assert_ptr_nonnull(line);
        size_t count;
        int32_t *ids = encode(text, (size_t)(end - text), 0, &count);
        line += strspn(line, " ");
        line[strcspn(line, "\r")] = 0;
        check_ids(ids, count, line, line);
        free(ids);
    }
    ck_assert_int_gt(cases, 40);
    close_all();
    free(output);
    free(input);
    free(data);
}
END_TEST

// ---- there and back -----------------------------------------------------------------------------------

enum { MAX_TEXT = 400 };

static uint32_t draw(uint64_t stream, uint64_t *index, uint32_t below)
{
    return (uint32_t)(rng_uniform(5, stream, (*index)++) * below);
}

static size_t put_character(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00 >> n & 0xFF) | c);
    return n;
}

// Characters from the parts of Unicode where the vocabulary has tokens, and from everywhere; never U+2581.
static size_t random_unicode(char *out, uint64_t stream)
{
    static const uint32_t known[] = {' ', ' ', 'a', 'b', 'a', '\n', 0xE9, 0x65E5, 0x672C, 0x1F600, 0x301, 0};
    uint64_t at = 0;
    size_t n = 0;
    for (uint32_t left = draw(stream, &at, MAX_TEXT / 4); left; left--) {
        uint32_t c = draw(stream, &at, 4) ? known[draw(stream, &at, 12)] : draw(stream, &at, 0x110000);
        if ((c >= 0xD800 && c <= 0xDFFF) || c == 0x2581) c = '?';
        n += put_character(out + n, c);
    }
    return n;
}

// Bytes of any value; half of the texts have mostly bytes that form characters, in any order.
static size_t random_bytes(char *out, uint64_t stream)
{
    static const unsigned char likely[] = {' ',  'a',  'b',  0xE2, 0x96, 0x82,
                                           0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xA9};
    uint64_t at = 0;
    size_t n = draw(stream, &at, MAX_TEXT);
    for (size_t i = 0; i < n; i++) {
        bool any = stream % 2 || !draw(stream, &at, 8);
        out[i] = (char)(any ? draw(stream, &at, 256) : likely[draw(stream, &at, 12)]);
    }
    for (char *mark; (mark = memmem(out, n, "\xE2\x96\x81", 3));) *mark = 'a';
    return n;
}

// The pieces arrive one by one and are shown up to the last whole character. (One assertion for all: each
// costs a write.)
static bool stream_is_whole(const int32_t *ids, size_t count, const char *text, size_t bytes, uint64_t stream)
{
    char pending[MAX_TEXT];
    size_t have = 0, shown = 0;
    uint64_t at = 1 << 20;
    for (size_t i = 0; i < count; i++) {
        have += tokenizer_piece(tok, ids[i], i == 0, false, pending + have, sizeof pending - have);
        if (have > sizeof pending) return false;
        if (i + 1 < count && !draw(stream, &at, 3)) continue; // several at once
        size_t whole = utf8_complete(pending, have);
        if (whole + 3 < have || whole > bytes - shown || memcmp(pending, text + shown, whole)) return false;
        shown += whole;
        have -= whole;
        memmove(pending, pending + whole, have);
        // The text is well formed: what comes next begins a character.
        if (shown < bytes && ((unsigned char)text[shown] & 0xC0) == 0x80) return false;
    }
    return shown == bytes && !have;
}

START_TEST(test_round_trip)
{
    // The space that is put in front is dropped again, but not those behind user-defined tokens.
    bool adds_space = _i & 1, unicode = _i & 2;
    static struct fixture file;
    fixture_round_trip(&file, adds_space, !adds_space);
    open_memory(file.data, file.size);
    for (uint64_t stream = 0; stream < 10000; stream++) {
        char text[MAX_TEXT];
        size_t bytes = unicode ? random_unicode(text, stream) : random_bytes(text, stream), count, length;
        int32_t *ids = encode(text, bytes, 0, &count);
        char *back = decode(ids, count, &length);
        bool same = length == bytes && !memcmp(back, text, bytes);
        if (unicode) same = same && stream_is_whole(ids, count, text, bytes, stream);
        ck_assert_msg(same, "text %llu", (unsigned long long)stream);
        free(back);
        free(ids);
    }
    close_all();
}
END_TEST

// Megabytes without a place to cut: nothing may depend on the length but time and memory.
START_TEST(test_long_text)
{
    static struct fixture file;
    static const char pattern[] = "ab \n";
    fixture_round_trip(&file, true, true);
    open_memory(file.data, file.size);
    size_t bytes = 3 << 20, count, length;
    char *text = malloc(bytes);
    ck_assert_ptr_nonnull(text);
    memset(text, pattern[_i], bytes);
    int32_t *ids = encode(text, bytes, 0, &count);
    if (pattern[_i] == '\n') ck_assert_uint_eq(count, bytes / 3); // a user-defined token of three
    char *back = decode(ids, count, &length);
    ck_assert(length == bytes && !memcmp(back, text, bytes));
    free(back);
    free(ids);
    free(text);
    close_all();
}
END_TEST

START_TEST(test_utf8_complete)
{
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"a", 1},
        {"a\n", 2},
        // characters that lack bytes
        {"\xC3", 0},
        {"a\xC3", 1},
        {"\xE4\xBD", 0},
        {"ab\xE4", 2},
        {"\xF0\x9F\x98", 0},
        {"x\xF0\x9F", 1},
        {"x\xF0", 1},
        {"\xE0\xA0", 0},
        {"\xED\x9F", 0},
        {"\xF4\x8F\xBF", 0},
        {"\xF0\x90", 0},
        // whole ones
        {"\u00e9", 2},
        {"\u65e5", 3},
        {"\U0001f600", 4},
        {"\u65e5\u672c\xE6", 6},
        // bytes that can never become one: stray continuations, leads out of range, overlong, surrogates, too
        // large
        {"\x80", 1},
        {"\xC3\xA9\xA9", 3},
        {"\x80\x80\x80\x80", 4},
        {"\xC0", 1},
        {"\xC1", 1},
        {"\xF5", 1},
        {"\xFF", 1},
        {"\xE0\x80", 2},
        {"\xED\xA0", 2},
        {"\xF0\x8F", 2},
        {"\xF4\x90", 2},
        {"\xF4\x90\x80", 3},
        // a broken one in front of one that may still become whole
        {"\xE4\xC3", 1},
        {"\xF0\x9F\xE4\xBD", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(utf8_complete(cases[i].text, strlen(cases[i].text)) == cases[i].complete, "case %zu",
                      i);
}
END_TEST

// ---- special tokens and roles -------------------------------------------------------------------------

START_TEST(test_begin_token)
{
    static struct fixture file;
    fixture_round_trip(&file, true, true);
    open_memory(file.data, file.size);
    ck_assert_int_eq(tokenizer_bos(tok), 257);
    ck_assert_int_eq(tokenizer_eos(tok), 258);
    ck_assert(tokenizer_adds_bos(tok));
    ck_assert(tokenizer_is_end(tok, 258) && !tokenizer_is_end(tok, 257));
    ck_assert_int_eq(tokenizer_type(tok, 257), TOKEN_CONTROL);
    ck_assert(gguf_string_is(tokenizer_token(tok, 263), "\u2581a"));

    size_t count;
    int32_t *ids = encode("", 0, TLM_ADD_BOS, &count);
    check_ids(ids, count, "257", "empty");
    free(ids);
    ids = encode("a<s>a", 5, TLM_ADD_BOS | TLM_PARSE_SPECIAL, &count);
    check_ids(ids, count, "257,263,257,263", "special");
    free(ids);

    char text[4] = "????";
    ck_assert_uint_eq(tokenizer_piece(tok, 263, true, false, text, 4), 1); // the space is dropped
    ck_assert_mem_eq(text, "a???", 4);
    ck_assert_uint_eq(tokenizer_piece(tok, 265, false, false, text, 2),
                      3); // "b a" is cut, its length is told
    ck_assert_mem_eq(text, "b ??", 4);
    ck_assert_uint_eq(tokenizer_piece(tok, 257, false, false, text, 4), 0);
    close_all();
}
END_TEST

START_TEST(test_begin_token_off)
{
    static struct fixture file;
    static const struct fixture_token tokens[] = {{"<x>", 0, TOKEN_UNKNOWN}, {"a", 0, TOKEN_NORMAL}};
    fixture_begin(&file);
    fixture_string(&file, "general.architecture", "llama");
    fixture_string(&file, "tokenizer.ggml.model", "llama");
    fixture_tokens(&file, false, tokens, 2);
    if (_i)
        fixture_bool(&file, "tokenizer.ggml.add_bos_token", false);
    else
        fixture_u32(&file, "tokenizer.ggml.bos_token_id", UINT32_MAX); // none, in 32 bits
    fixture_end(&file);
    open_memory(file.data, file.size);
    ck_assert_int_eq(tokenizer_bos(tok), _i ? 1 : -1);
    ck_assert_int_eq(tokenizer_eos(tok), -1); // the default, 2, lies outside
    ck_assert(!tokenizer_adds_bos(tok));
    size_t count;
    int32_t *ids = encode("a\u65e5\xFF", 5, TLM_ADD_BOS, &count);
    check_ids(ids, count, "0,1,0,0", "unknown"); // no byte tokens: one unknown token a character
    free(ids);
    close_all();
}
END_TEST

// ---- hostile vocabularies -----------------------------------------------------------------------------

static const struct fixture_token good[] = {
    {"<unk>", 0, TOKEN_UNKNOWN}, {"<s>", 0, TOKEN_CONTROL}, {"", 0, TOKEN_NORMAL}};

static void broken_kind(struct fixture *f, const char *name)
{
    if (name) fixture_string(f, "tokenizer.ggml.model", name);
    fixture_tokens(f, true, good, 3);
}

static void broken_key(struct fixture *f, const char *key, int64_t value)
{
    fixture_string(f, "tokenizer.ggml.model", "llama");
    fixture_tokens(f, true, good, 3);
    if (value >= 0)
        fixture_u32(f, key, (uint32_t)value);
    else
        fixture_string(f, key, "text");
}

static void broken_tokens(struct fixture *f, struct fixture_token last)
{
    struct fixture_token tokens[] = {good[0], good[1], last};
    fixture_string(f, "tokenizer.ggml.model", "llama");
    fixture_tokens(f, true, tokens, 3);
}

// Three tokens of which one array has `count` items of another type or number.
static void broken_array(struct fixture *f, const char *key, uint32_t item, uint64_t count)
{
    static const uint8_t zeros[64];
    static const char *const names[] = {"tokens", "scores", "token_type"};
    static const uint32_t items[] = {GGUF_STRING, GGUF_F32, GGUF_I32};
    fixture_string(f, "tokenizer.ggml.model", "llama");
    for (int i = 0; i < 3; i++) {
        char full[40];
        bool this = !strcmp(names[i], key);
        uint32_t type = this ? item : items[i];
        uint64_t n = this ? count : 3;
        if (type == GGUF_TYPE_COUNT) continue; // leave it out
        snprintf(full, sizeof full, "tokenizer.ggml.%s", names[i]);
        fixture_array(f, full, type, n);
        fixture_put(f, zeros, n * (type == GGUF_STRING ? 8 : 4)); // strings of no length
    }
}

// Each fills the file with something wrong and returns a part of the line that must come.
static const char *break_vocabulary(struct fixture *f, int which)
{
    static char long_token[16384];
    switch (which) {
    case 0: return broken_kind(f, NULL), "no such key";
    case 1: return broken_kind(f, "rwkv"), "found \"rwkv\"";
    case 2: return broken_kind(f, "two\nlines\x1b[0m"), "tokenizer.ggml.model";
    case 3: return broken_key(f, "tokenizer.ggml.bos_token_id", 259), "expected -1 to 258, found 259";
    case 4: return broken_key(f, "tokenizer.ggml.eos_token_id", -1), "eos_token_id";
    case 5: return broken_key(f, "tokenizer.ggml.eot_token_id", 1 << 30), "eot_token_id";
    case 6: return broken_key(f, "tokenizer.ggml.add_bos_token", -1), "add_bos_token";
    case 7: return broken_key(f, "tokenizer.ggml.add_space_prefix", -1), "add_space_prefix";
    case 8: return broken_tokens(f, good[0]), "found tokens 256 and 258 equal";
    case 9: return broken_tokens(f, (struct fixture_token){"x", 0, 7}), "expected 0 to 6, found 7";
    case 10: return broken_tokens(f, (struct fixture_token){"x", 0, -1}), "found -1";
    case 11: return broken_tokens(f, (struct fixture_token){"<0xG0>", 0, TOKEN_BYTE}), "name of a byte";
    case 12: return broken_tokens(f, (struct fixture_token){"x", 0.0f / 0.0f, TOKEN_NORMAL}), "found NaN";
    case 13:
        return broken_array(f, "tokens", GGUF_TYPE_COUNT, 0),
               "expected an array of strings, found no such key";
    case 14: return broken_array(f, "tokens", GGUF_I32, 3), "found another type";
    case 15: return broken_array(f, "tokens", GGUF_STRING, 0), "expected 1 to";
    case 16: return broken_array(f, "tokens", GGUF_STRING, 2), "expected 2 items, one a token, found 3";
    case 17: return broken_array(f, "scores", GGUF_TYPE_COUNT, 0), "tokenizer.ggml.scores";
    case 18: return broken_array(f, "scores", GGUF_F32, 4), "expected 3 items, one a token, found 4";
    case 19: return broken_array(f, "scores", GGUF_STRING, 3), "array of numbers";
    case 20: return broken_array(f, "token_type", GGUF_F32, 3), "whole numbers";
    case 21: return broken_array(f, "token_type", GGUF_I32, 0), "found 0";
    case 22:
        memset(long_token, 'x', sizeof long_token - 1);
        return broken_tokens(f, (struct fixture_token){long_token, 0, TOKEN_NORMAL}),
               NULL;                                 // long, and still good
    case 23: return broken_tokens(f, good[2]), NULL; // a token without text is never found, and that is all
    default: return NULL;
    }
}

START_TEST(test_hostile)
{
    static struct fixture file;
    fixture_begin(&file);
    fixture_string(&file, "general.architecture", "llama");
    const char *expected = break_vocabulary(&file, _i);
    fixture_end(&file);
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_open_memory(&model, file.data, file.size, "test", &err), "%s", err.text);
    enum tlm_status status = tokenizer_open(&tok, model, &err);
    if (expected) {
        ck_assert_int_eq(status, _i == 1 || _i == 2 ? TLM_ERR_UNSUPPORTED : TLM_ERR_FORMAT);
        ck_assert_int_eq(err.code, status);
        ck_assert_ptr_null(tok);
        ck_assert_msg(strstr(err.text, expected) != NULL, "case %d: %s", _i, err.text);
        ck_assert_ptr_null(strchr(err.text, '\n'));
    } else {
        ck_assert_msg(!status, "%s", err.text);
        size_t count;
        int32_t *ids = encode("xx", 2, TLM_PARSE_SPECIAL, &count);
        ck_assert_uint_gt(count, 0);
        free(ids);
    }
    close_all();
}
END_TEST

// Text too long for 32-bit positions is refused before it is read.
START_TEST(test_too_long)
{
    static struct fixture file;
    struct tlm_error err;
    size_t count = 1;
    fixture_round_trip(&file, true, true);
    open_memory(file.data, file.size);
    ck_assert_int_eq(tokenizer_encode(tok, "a", ((size_t)1 << 30) + 1, 0, NULL, 0, &count, &err),
                     TLM_ERR_ARGUMENT);
    ck_assert_uint_eq(count, 0);
    close_all();
}
END_TEST

// Each allocation in turn fails: an error with its code, nothing lost, and the next attempt works.
START_TEST(test_no_memory)
{
    static struct fixture file;
    static const char text[] = "ab ab a bab\n\nabaa  ab <s> \u65e5\u672c";
    fixture_round_trip(&file, true, true);
    struct tlm_error err = {0};
    ck_assert(!gguf_open_memory(&model, file.data, file.size, "test", &err));
    enum tlm_status status = TLM_ERR_MEMORY;
    for (int n = 0; status; n++) {
        ck_assert_int_lt(n, 100);
        alloc_fail_after(n);
        status = tokenizer_open(&tok, model, &err);
        alloc_fail_after(-1);
        ck_assert(!status || (status == TLM_ERR_MEMORY && err.code == status && !tok));
    }
    status = TLM_ERR_MEMORY;
    for (int n = 0; status; n++) {
        int32_t ids[64];
        size_t count;
        ck_assert_int_lt(n, 100);
        alloc_fail_after(n);
        status = tokenizer_encode(tok, text, sizeof text - 1, TLM_PARSE_SPECIAL, ids, 64, &count, &err);
        alloc_fail_after(-1);
        ck_assert(!status || (status == TLM_ERR_MEMORY && err.code == status));
        ck_assert(status || count);
    }
    close_all();
}
END_TEST

// A thousand truncated and a thousand damaged files, then texts: no crash, no report of a sanitizer.
START_TEST(test_fuzz)
{
    size_t size;
    char *data = read_all("tests/golden/spm.gguf", &size);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t at = 0;
        size_t length = draw(i, &at, (uint32_t)size);
        uint8_t *cut = malloc(length + 1); // its own block, so that reading behind the end is noticed
        ck_assert_ptr_nonnull(cut);
        memcpy(cut, data, length);
        fuzz_tokenizer(cut, length);
        free(cut);

        char saved[4];
        uint32_t place[4];
        for (int k = 0; k < 4; k++) {
            // Most lengths and types are in the first part, before the texts of the tokens.
            place[k] = draw(i, &at, k % 2 ? (uint32_t)size : 1024);
            saved[k] = data[place[k]];
            data[place[k]] ^= (char)(1 << draw(i, &at, 8));
        }
        fuzz_tokenizer((uint8_t *)data, size);
        for (int k = 3; k >= 0; k--) data[place[k]] = saved[k];

        char text[MAX_TEXT];
        fuzz_tokenizer((uint8_t *)text, random_bytes(text, i));
    }
    free(data);
}
END_TEST

Suite *suite_tokenizer(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *golden = tcase_create("golden"), *text = tcase_create("text"), *hostile = tcase_create("hostile");
    tcase_add_loop_test(golden, test_golden, 0, 2);
    tcase_add_test(golden, test_llama_vocabulary);
    tcase_add_loop_test(text, test_round_trip, 0, 4);
    tcase_add_loop_test(text, test_long_text, 0, 4);
    tcase_add_test(text, test_utf8_complete);
    tcase_add_test(text, test_begin_token);
    tcase_add_loop_test(text, test_begin_token_off, 0, 2);
    tcase_add_loop_test(hostile, test_hostile, 0, 24);
    tcase_add_test(hostile, test_too_long);
    tcase_add_test(hostile, test_no_memory);
    tcase_add_test(hostile, test_fuzz);
    tcase_set_timeout(text, 120);
    tcase_set_timeout(hostile, 120);
    suite_add_tcase(s, golden);
    suite_add_tcase(s, text);
    suite_add_tcase(s, hostile);
    return s;
}
