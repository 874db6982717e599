// tests/test_shard.c -- corpora and their token shards: documents as they were, the same shards for any number of threads, splits,
// duplicates, conversations, what is refused, and hostile files.
#include "core/rng.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/trained.h"
#include "text/tokenizer_internal.h"
#include "train/tokenize.h"

static struct temp_folder folder;
static struct trained demo;
static struct threads *pool;

static const char chat[] = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}";

static void setup(void)
{
    folder = temp_folder_open();
    demo = trained_demo(chat);
    ck_assert(!threads_open(&pool, 2, NULL));
}

static void teardown(void)
{
    threads_close(pool);
    trained_close(&demo);
    temp_folder_close(&folder);
}

static struct temp_path put_file(const char *name, const void *data, size_t size)
{
    struct temp_path path = temp_path(&folder, name);
    FILE *f = fopen(path.text, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

// Tokenizes one file into a.gguf and, where `o` splits, b.gguf.
static enum tlm_status tokenize(struct tokenize_options *o, const char *path, int64_t *duplicates,
                                struct tlm_error *err)
{
    struct shard_writer *writers[2] = {NULL, NULL};
    struct corpus *corpus;
    if (!o->tokenizer) o->tokenizer = demo.t;
    if (!o->pool) o->pool = pool;
    ck_assert(!corpus_open(&corpus, &path, 1, &o->corpus, err));
    ck_assert(!shard_writer_open(&writers[0], temp_path(&folder, "a.gguf").text, o->tokenizer, "test", err));
    if (o->validation > 0 || o->validation_every)
        ck_assert(
            !shard_writer_open(&writers[1], temp_path(&folder, "b.gguf").text, o->tokenizer, "test", err));
    enum tlm_status status = tokenize_corpus(o, corpus, writers, duplicates, err);
    for (int i = 0; i < 2; i++) {
        if (!status && writers[i]) status = shard_writer_finish(writers[i], err);
        shard_writer_close(writers[i]);
    }
    corpus_close(corpus);
    return status;
}

static struct shard *made(struct tokenize_options o, const char *path, int64_t duplicates)
{
    struct tlm_error err = {0};
    struct shard *s;
    int64_t found;
    ck_assert_msg(!tokenize(&o, path, &found, &err), "%s", err.text);
    ck_assert_int_eq(found, duplicates);
    ck_assert_msg(!shard_open(&s, temp_path(&folder, "a.gguf").text, &err), "%s", err.text);
    return s;
}

static struct shard *other_half(void)
{
    struct tlm_error err = {0};
    struct shard *s;
    ck_assert_msg(!shard_open(&s, temp_path(&folder, "b.gguf").text, &err), "%s", err.text);
    return s;
}

// The text of a document's tokens, the end-of-text token as "$".
static char *document_text(const struct shard *s, int64_t document)
{
    static char text[4 << 20];
    size_t at = 0;
    int64_t end = document + 1 < s->documents ? s->starts[document + 1] : s->tokens;
    for (int64_t i = s->starts[document]; i < end; i++) {
        int32_t id = shard_token(s, i);
        if (id == 0)
            text[at++] = '$';
        else
            at += tokenizer_piece(demo.t, id, false, true, text + at, sizeof text - at);
    }
    text[at] = 0;
    return text;
}

static void check_document(const struct shard *s, int64_t document, const char *expected)
{
    ck_assert_int_lt(document, s->documents);
    ck_assert_str_eq(document_text(s, document), expected);
}

START_TEST(test_text)
{
    static const char text[] = "One bear.\n\nTwo \xC3\xA9 bears.\n";
    struct temp_path path = put_file("a.txt", text, sizeof text - 1);
    struct shard *s = made((struct tokenize_options){0}, path.text, 0);
    ck_assert_int_eq(s->documents, 1);
    check_document(s, 0, "One bear.\n\nTwo \xC3\xA9 bears.\n$");
    ck_assert(s->bytes == sizeof text - 1 && s->characters == sizeof text - 2 && s->vocab_size == 600);
    ck_assert(s->narrow && !s->wide && !shard_check(s, demo.t, NULL));
    shard_close(s);
}
END_TEST

START_TEST(test_separator)
{
    static const char text[] = "A bear\n<|endoftext|>\nB bear <|end|>\n\n<|endoftext|><|endoftext|>  C  ";
    struct temp_path path = put_file("a.txt", text, sizeof text - 1);
    struct tokenize_options o = {.corpus.separator = "<|endoftext|>", .special = _i == 1};
    struct shard *s = made(o, path.text, 0);
    ck_assert_int_eq(s->documents, 3);
    check_document(s, 0, "A bear$");
    check_document(s, 1, "B bear <|end|>$");
    check_document(s, 2, "C$");
    bool control = shard_token(s, s->starts[2] - 2) == 2;
    ck_assert_int_eq(control, _i == 1); // what looks like a control token is text, unless asked
    shard_close(s);
}
END_TEST

START_TEST(test_lines)
{
    static const char text[] =
        "{\"text\": \"A \\u00e9\", \"id\": 1}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"B "
        "<|end|>\"}, {\"role\": \"user\", \"content\": \"C\"}]}\n{\"text\": \"D\"}";
    struct temp_path path = put_file("a.jsonl", text, sizeof text - 1);
    struct template *template;
    ck_assert(!template_open_gguf(&template, demo.g, NULL));
    struct shard *s = made((struct tokenize_options){.template = template}, path.text, 0);
    ck_assert_int_eq(s->documents, 3);
    check_document(s, 0, "A \xC3\xA9$");
    check_document(s, 1, "<|user|>B <|end|><|end|><|user|>C<|end|>$");
    check_document(s, 2, "D$");
    int ends = 0;
    for (int64_t i = s->starts[1]; i < s->starts[2]; i++) ends += shard_token(s, i) == 2;
    ck_assert_int_eq(ends, 2); // the third is what a person said
    shard_close(s);
    template_close(template);
}
END_TEST

// A long text is cut for the threads, and its ids are those of the whole.
START_TEST(test_long)
{
    enum { COUNT = 1 << 20 };
    char *text = malloc(COUNT);
    int32_t *ids = malloc(COUNT * sizeof *ids);
    size_t count, at = 0;
    for (uint64_t i = 0; at < COUNT - 64; i++) {
        static const char *const words[] = {"the", " bear", "\n", "\n\n",     " ",  "  ",
                                            ".",   "!\n",   "12", "\xC3\xA9", "It", "\t\n"};
        at += (size_t)snprintf(text + at, COUNT - at, "%s", words[(size_t)(rng_uniform(3, 0, i) * 12)]);
    }
    struct temp_path path = put_file("a.txt", text, at);
    struct shard *s = made((struct tokenize_options){.dedup = _i == 1}, path.text, 0);
    ck_assert(!tokenizer_encode(demo.t, text, at, 0, ids, COUNT, &count, NULL));
    ck_assert_int_eq(s->tokens, (int64_t)count + 1);
    for (size_t i = 0; i < count; i++) ck_assert_int_eq(shard_token(s, (int64_t)i), ids[i]);
    ck_assert_int_eq(s->documents, 1);
    shard_close(s);

    // Its end is for validation, and no byte is lost.
    s = made((struct tokenize_options){.validation = 0.25}, path.text, 0);
    struct shard *b = other_half();
    ck_assert_int_eq(s->bytes + b->bytes, (int64_t)at);
    ck_assert(b->bytes >= (int64_t)(at / 4) && b->bytes <= (int64_t)(at / 4) + 4);
    ck_assert(s->documents == 1 && b->documents == 1);
    text[at] = '$', text[at + 1] = 0;
    ck_assert_str_eq(document_text(b, 0), text + s->bytes);
    shard_close(s);
    shard_close(b);
    free(ids);
    free(text);
}
END_TEST

// For every pre-tokenizer that texts are cut for; superbpe's words go across lines, so it is not among them.
START_TEST(test_cuts)
{
    static const char *const names[] = {
        "gpt-2",      "olmo",      "llama-bpe", "dbrx",        "qwen2",        "hunyuan",        "qwen35",
        "gpt-4o",     "tekken",    "kimi-k2",   "deepseek-v3", "deepseek-llm", "deepseek-coder", "falcon",
        "starcoder",  "command-r", "bloom",     "viking",      "chameleon",    "seed-coder",     "bailingmoe",
        "exaone-moe", "youtu",     "jais-2",    "superbpe",    "tiny_aya",     "afmoe",          "default"};
    enum { COUNT = 300000 };
    struct bpe_train_options options = {.pre = names[_i], .vocab_size = 500, .min_frequency = 2};
    char *text = malloc(COUNT);
    int32_t *ids = malloc(COUNT * sizeof *ids);
    size_t count, at = 0;
    for (uint64_t i = 0; at < COUNT - 64; i++) {
        static const char *const words[] = {"the", " bear", "\n",       "\n\n", "\r\n", "  ",  ".",
                                            "!\n", "12",    "\xC3\xA9", "It",   "\t\n", "X",   "\xE4\xBD\xA0",
                                            "'s",  " \n b", ",",        "'",    "/",    "99\n"};
        at += (size_t)snprintf(text + at, COUNT - at, "%s", words[(size_t)(rng_uniform(9, 0, i) * 20)]);
    }
    struct trained v = trained_open(&options, 2, (const char *const[]){text}, &at, 1, NULL);
    struct temp_path path = put_file("a.txt", text, at);
    struct shard *s = made((struct tokenize_options){.tokenizer = v.t}, path.text, 0);
    ck_assert(!tokenizer_encode(v.t, text, at, 0, ids, COUNT, &count, NULL));
    ck_assert_int_eq(s->tokens, (int64_t)count);
    for (size_t i = 0; i < count; i++) ck_assert_int_eq(shard_token(s, (int64_t)i), ids[i]);
    shard_close(s);
    trained_close(&v);
    free(ids);
    free(text);
}
END_TEST

// Documents of all lengths, in order, whatever the threads.
START_TEST(test_threads)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (uint64_t i = 0; i < 3000; i++) {
        fprintf(f, "{\"text\": \"%d", (int)i);
        for (int n = (int)(rng_uniform(4, 0, i) * 40); n--;) fprintf(f, " bear");
        fprintf(f, "\"}\n");
    }
    ck_assert_int_eq(fclose(f), 0);
    struct temp_path path = put_file("a.jsonl", text, size);
    struct threads *three;
    ck_assert(!threads_open(&three, 3, NULL));
    char *files[2];
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        struct shard *s = made((struct tokenize_options){.pool = i ? three : pool}, path.text, 0);
        ck_assert_int_eq(s->documents, 3000);
        for (int64_t d = 0; d < 3000; d++) ck_assert_int_eq(strtol(document_text(s, d), NULL, 10), d);
        shard_close(s);
        ck_assert(!file_read(temp_path(&folder, "a.gguf").text, &files[i], &sizes[i], NULL));
    }
    ck_assert(sizes[0] == sizes[1] && !memcmp(files[0], files[1], sizes[0]));
    for (int i = 0; i < 2; i++) free(files[i]);
    threads_close(three);
    free(text);
}
END_TEST

START_TEST(test_splits)
{
    char text[8000];
    size_t size = 0;
    for (int i = 0; i < 200; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%d bears\n\n", i % 150);
    struct temp_path path = put_file("a.txt", text, size);
    struct tokenize_options o = {.corpus.separator = "\n\n", .validation_every = 10};
    struct shard *s = made(o, path.text, 0), *b = other_half();
    ck_assert(s->documents == 180 && b->documents == 20);
    check_document(b, 0, "9 bears$");
    check_document(b, 19, "49 bears$");
    shard_close(s);
    shard_close(b);

    o.validation_every = 0, o.validation = 0.25;
    s = made(o, path.text, 0), b = other_half();
    ck_assert(s->documents + b->documents == 200 && b->documents > 30 && b->documents < 70);
    shard_close(s);
    shard_close(b);

    o.validation = 0, o.dedup = true;
    s = made(o, path.text, 50);
    ck_assert_int_eq(s->documents, 150);
    check_document(s, 149, "149 bears$");
    shard_close(s);
}
END_TEST

static void check_refused(struct tokenize_options o, const char *name, const char *text, const char *reason)
{
    struct tlm_error err = {0};
    int64_t duplicates;
    struct temp_path path = put_file(name, text, strlen(text));
    remove(temp_path(&folder, "a.gguf").text);
    ck_assert(tokenize(&o, path.text, &duplicates, &err));
    ck_assert_msg(strstr(err.text, reason) != NULL, "%s", err.text);
    ck_assert_ptr_null(strchr(err.text, '\n'));
    ck_assert_int_ne(access(temp_path(&folder, "a.gguf").text, F_OK), 0);
}

START_TEST(test_refused)
{
    struct tokenize_options o = {0};
    check_refused(o, "a.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n",
                  "a.jsonl: line 2: expected a text in \"text\"");
    check_refused(o, "a.jsonl", "{\"text\": \"a\"}\n{\"text\n", "line 2");
    check_refused(o, "a.jsonl", "{\"messages\": []}\n", "chat template");
    check_refused(o, "a.txt", "", "expected texts, found none");

    // Characters that a vocabulary lacks are not dropped in silence.
    static const char text[] = "abc abc";
    size_t size = sizeof text - 1;
    struct bpe_train_options chars = {.characters = true};
    struct trained v = trained_open(&chars, 1, (const char *const[]){text}, &size, 1, NULL);
    o.tokenizer = v.t;
    check_refused(o, "a.txt", "abc bad", "byte 0x64");
    trained_close(&v);
}
END_TEST

START_TEST(test_other_tokenizer)
{
    struct tlm_error err = {0};
    size_t size = 6;
    struct bpe_train_options o = {.vocab_size = 600};
    struct trained v = trained_open(&o, 1, (const char *const[]){"a text"}, &size, 1, NULL);
    struct temp_path path = put_file("a.txt", "text", 4);
    struct shard *s = made((struct tokenize_options){0}, path.text, 0);
    ck_assert_int_eq(shard_check(s, v.t, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "tokenize the texts again"));
    shard_close(s);
    trained_close(&v);
}
END_TEST

// Ids beyond 16 bits, and documents that come in pieces.
START_TEST(test_wide)
{
    static int32_t ids[10000];
    struct shard_writer *w;
    struct shard *s;
    struct tokenizer big = *demo.t; // of which the writer asks the size
    struct temp_path path = temp_path(&folder, "wide.gguf");
    big.size = 100000;
    for (int i = 0; i < 10000; i++) ids[i] = i * 10;
    ck_assert(!shard_writer_open(&w, path.text, &big, "", NULL));
    for (int i = 0; i < 10; i++) ck_assert(!shard_writer_add(w, i % 5 == 0, ids + 1000 * i, 1000, NULL));
    ck_assert(!shard_writer_finish(w, NULL));
    shard_writer_close(w);
    ck_assert(!shard_open(&s, path.text, NULL));
    ck_assert(s->tokens == 10000 && s->documents == 2 && s->starts[1] == 5000 && s->wide);
    for (int i = 0; i < 10000; i++) ck_assert_int_eq(shard_token(s, i), ids[i]);
    for (int i = 0; i < 10000; i += 499) ck_assert_int_eq(shard_document(s, i), i / 5000);
    shard_close(s);
}
END_TEST

// Cut and flipped files: an error line, or a shard whose every number is in range.
START_TEST(test_hostile)
{
    static const char text[] = "One bear.\n\nTwo bears.\n\nThree\n\nFour bears";
    struct temp_path path = put_file("a.txt", text, sizeof text - 1);
    struct tokenize_options o = {.corpus.separator = "\n\n"};
    shard_close(made(o, path.text, 0));
    char *data;
    size_t size;
    int opened = 0;
    ck_assert(!file_read(temp_path(&folder, "a.gguf").text, &data, &size, NULL));
    for (uint64_t n = 0; n < 3000; n++) {
        struct tlm_error err = {0};
        struct shard *s;
        size_t length = size, at = (size_t)(rng_uniform(8, n, 1) * (double)size);
        char old = data[at];
        if (n % 3 == 0) length = at;
        if (n % 3) data[at] = (char)(n % 3 == 1 ? old ^ 1 << n % 8 : (int)(rng_uniform(8, n, 2) * 256));
        path = put_file("h.gguf", data, length);
        data[at] = old;
        if (shard_open(&s, path.text, &err)) {
            ck_assert(err.text[0] && !strchr(err.text, '\n'));
            continue;
        }
        opened++;
        for (int64_t i = 0; i < s->tokens; i++)
            ck_assert(shard_token(s, i) >= 0 && shard_token(s, i) < s->vocab_size);
        for (int64_t i = 0; i < s->documents; i++) ck_assert_int_eq(shard_document(s, s->starts[i]), i);
        shard_close(s);
    }
    ck_assert_int_gt(opened, 10);
    free(data);
}
END_TEST

Suite *suite_shard(void)
{
    Suite *s = suite_create("shard");
    TCase *c = tcase_create("shard");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_text);
    tcase_add_loop_test(c, test_separator, 0, 2);
    tcase_add_test(c, test_lines);
    tcase_add_loop_test(c, test_long, 0, 2);
    tcase_add_loop_test(c, test_cuts, 0, 28);
    tcase_add_test(c, test_threads);
    tcase_add_test(c, test_splits);
    tcase_add_test(c, test_refused);
    tcase_add_test(c, test_other_tokenizer);
    tcase_add_test(c, test_wide);
    tcase_add_test(c, test_hostile);
    suite_add_tcase(s, c);
    return s;
}
