// tests/test_tokenizer_json.c -- folders with tokenizer.json or tokenizer.model: the ids of Hugging Face's tokenizers and of
// SentencePiece, the same ids from the keys written to a GGUF file, and files that are refused.
#include "core/rng.h"
#include "tests/bpe_fixture.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

static void put_file(const struct temp_folder *f, const char *name, const char *data, size_t size)
{
    FILE *file = fopen(temp_path(f, name).text, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

// A folder whose tokenizer is that golden file.
static struct tokenizer *open_golden(const struct temp_folder *f, const char *name)
{
    struct tlm_error err = {0};
    struct tokenizer *t;
    size_t size;
    char *data = read_golden(name, &size);
    bool is_json = strstr(name, ".json") != NULL;
    put_file(f, is_json ? "tokenizer.json" : "tokenizer.model", data, size);
    free(data);
    ck_assert_msg(!tokenizer_open_folder(&t, f->path, &err), "%s: %s", name, err.text);
    return t;
}

static void check_lines(const struct tokenizer *t, const char *name)
{
    size_t size;
    char *golden = read_golden("tokenizers.txt", &size), *rest = golden, *line;
    int checked = 0;
    while ((line = strsep(&rest, "\n")) && *line) {
        char text[512], found[4096], *file = strsep(&line, " "), *hex = strsep(&line, " ");
        if (strcmp(file, name) != 0) continue;
        ids_line(t, text, parse_hex(hex, text), TLM_PARSE_SPECIAL, found, sizeof found);
        ck_assert_msg(!strcmp(found, line), "%s: %s:\nexpected %s\nfound    %s", name, hex, line, found);
        checked++;
    }
    ck_assert_int_ge(checked, 20);
    free(golden);
}

static const struct {
    const char *file, *kind, *pre; // NULL: any
} golden_files[] = {
    {"bpe.json", "gpt2", "gpt-2"},
    {"tokenizer-custom.json", "gpt2", "custom"},
    {"tokenizer-prefix.json", "gpt2", "custom"},
    {"tokenizer-qwen.json", "gpt2", "qwen2"},
    {"tokenizer-raw.json", "gemma4", NULL},
    {"tokenizer-meta.json", "gemma4", NULL},
    {"tokenizer-unknown.json", "gemma4", NULL},
    {"tokenizer-llama.json", "llama", NULL},
    {"tokenizer-unigram.json", "t5", NULL},
    {"tokenizer-bpe.model", "llama", NULL},
    {"tokenizer-unigram.model", "t5", NULL},
};
enum { GOLDEN_FILES = sizeof golden_files / sizeof *golden_files };

START_TEST(test_golden)
{
    struct temp_folder f = temp_folder_open();
    struct tlm_error err = {0};
    const char *name = golden_files[_i].file;
    struct tokenizer *t = open_golden(&f, name), *again;
    struct gguf_string kind = {0}, pre = {0};
    gguf_get_string(tokenizer_keys(t), "tokenizer.ggml.model", &kind, &err);
    gguf_get_string(tokenizer_keys(t), "tokenizer.ggml.pre", &pre, &err);
    ck_assert_msg(gguf_string_is(kind, golden_files[_i].kind), "%s: %.*s", name, (int)kind.length, kind.data);
    if (golden_files[_i].pre)
        ck_assert_msg(gguf_string_is(pre, golden_files[_i].pre), "%s: %.*s", name, (int)pre.length, pre.data);
    if (strcmp(name, "bpe.json") != 0) check_lines(t, name);

    // The same again from a GGUF file.
    struct gguf_writer *w;
    struct gguf *g;
    struct temp_path path = temp_path(&f, "out.gguf");
    ck_assert(!gguf_writer_open(&w, path.text, &err));
    tokenizer_write_gguf(t, w);
    ck_assert_msg(!gguf_writer_finish(w, &err), "%s", err.text);
    gguf_writer_close(w);
    ck_assert(!gguf_open(&g, path.text, &err) && !tokenizer_open(&again, g, &err));
    ck_assert_int_eq(tokenizer_size(again), tokenizer_size(t));
    if (strcmp(name, "bpe.json") != 0) check_lines(again, name);
    tokenizer_close(again);
    gguf_close(g);
    tokenizer_close(t);
    ck_assert_int_eq(temp_folder_close(&f), 2);
}
END_TEST

// What stands beside the vocabulary: special tokens, their white space, what is put in front, the chat template.
START_TEST(test_config)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"<m>\","
        "\"special\":true,\"lstrip\":true},"
        "{\"id\":9,\"content\":\"<u>\",\"special\":false,\"rstrip\":true}],\"normalizer\":null,"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"post_processor\":{\"type\":"
        "\"Sequence\",\"processors\":["
        "{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<"
        "s>\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}]},\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2,\"b\":3,\"\u0120\":4,\"ab\":5,\"\u0120a\":6},"
        "\"merges\":[\"a b\",[\"\u0120\",\"a\"]]}}";
    static const char config[] =
        "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"<m>\",\"chat_template\":\"{{ x }}\"}";
    struct temp_folder f = temp_folder_open();
    struct tokenizer *t;
    struct tlm_error err = {0};
    char found[256];
    put_file(&f, "tokenizer.json", json, sizeof json - 1);
    put_file(&f, "tokenizer_config.json", config, sizeof config - 1);
    ck_assert_msg(!tokenizer_open_folder(&t, f.path, &err), "%s", err.text);
    ck_assert_int_eq(tokenizer_size(t), 10);
    ck_assert(tokenizer_bos(t) == 0 && tokenizer_eos(t) == 1 && tokenizer_adds_bos(t) &&
              tokenizer_is_end(t, 1));
    ck_assert_int_eq(tokenizer_type(t, 8), TOKEN_UNUSED);
    ids_line(t, "ab <m> a<u>  b", 14, TLM_ADD_BOS | TLM_PARSE_SPECIAL, found, sizeof found);
    ck_assert_str_eq(found, "0,5,1,6,9,3");
    ids_line(t, "<m>a", 4, 0, found, sizeof found); // a user's text never becomes a special token
    ck_assert_str_eq(found, "2");
    struct gguf_string chat = {0};
    ck_assert(!gguf_get_string(tokenizer_keys(t), "tokenizer.chat_template", &chat, &err) &&
              gguf_string_is(chat, "{{ x }}"));
    tokenizer_close(t);
    put_file(&f, "chat_template.jinja", "{{ y }}\n", 8);
    ck_assert(!tokenizer_open_folder(&t, f.path, &err));
    ck_assert(!gguf_get_string(tokenizer_keys(t), "tokenizer.chat_template", &chat, &err) &&
              gguf_string_is(chat, "{{ y }}\n"));
    tokenizer_close(t);
    temp_folder_close(&f);
}
END_TEST

// Each is refused with one line that says what is wrong.
START_TEST(test_refused)
{
    static const char *const files[] = {
        "",
        "{",
        "[]",
        "{\"model\":3}",
        "{\"model\":{\"type\":\"WordPiece\"}}",
        "{\"model\":{\"type\":\"BPE\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"b\"},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":16000000},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
        "\"New\\nthing\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
        "\"Split\",\"pattern\":{\"Regex\":\"[\\n\"},"
        "\"behavior\":\"Isolated\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
        "\"Split\",\"pattern\":{\"Regex\":\"a\"},"
        "\"behavior\":\"Odd\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":"
        "\"Sequence\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":"
        "\"Replace\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":"
        "\"Precompiled\","
        "\"precompiled_charsmap\":\"/////w==\"}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1}]}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1,"
        "\"content\":\"a\"}]}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]}}",
    };
    struct temp_folder f = temp_folder_open();
    struct tokenizer *t;
    struct tlm_error err = {0};
    ck_assert_int_eq(tokenizer_open_folder(&t, f.path, &err), TLM_ERR_IO);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        err = (struct tlm_error){0};
        put_file(&f, "tokenizer.json", files[i], strlen(files[i]));
        enum tlm_status status = tokenizer_open_folder(&t, f.path, &err);
        ck_assert_msg((status == TLM_ERR_FORMAT || status == TLM_ERR_UNSUPPORTED) && !t, "case %zu: %d %s", i,
                      status, err.text);
        ck_assert_msg(err.code == status && *err.text && !strchr(err.text, '\n'), "case %zu: %s", i,
                      err.text);
    }
    temp_folder_close(&f);
}
END_TEST

// Files with a few bytes changed, cut off, or doubled.
START_TEST(test_mangled)
{
    size_t size;
    char *data = read_golden(golden_files[_i].file, &size);
    uint8_t *copy = malloc(size);
    for (uint64_t n = 0; n < 150; n++) {
        size_t length = n % 4 ? size : (size_t)(rng_uniform(1, n, 0) * (double)size);
        memcpy(copy, data, length);
        for (uint64_t k = 0; length && k <= n % 7; k++) {
            size_t at = (size_t)(rng_uniform(2, n, k) * (double)length);
            static const char likely[] = "{}[]\",:0-9e\\\x00\xFF";
            copy[at] = (uint8_t)likely[(size_t)(rng_uniform(3, n, k) * (sizeof likely - 1))];
        }
        fuzz_tokenizer_json(copy, length);
    }
    free(copy);
    free(data);
}
END_TEST

Suite *suite_tokenizer_json(void)
{
    Suite *s = suite_create("tokenizer_json");
    TCase *c = tcase_create("tokenizer_json");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_golden, 0, GOLDEN_FILES);
    tcase_add_test(c, test_config);
    tcase_add_test(c, test_refused);
    tcase_add_loop_test(c, test_mangled, 0, GOLDEN_FILES);
    suite_add_tcase(s, c);
    return s;
}
