// tests/test_dataset.c -- examples: every token of an epoch once, borders of documents, the same example for the same number,
// permutations, several shards.
#include "core/rng.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "tests/trained.h"
#include "train/dataset.h"

enum { MAX = 4096 };

static struct temp_folder folder;
static struct trained demo;

static void setup(void)
{
    folder = temp_folder_open();
    demo = trained_demo(NULL);
}

static void teardown(void)
{
    trained_close(&demo);
    temp_folder_close(&folder);
}

// A shard of documents of those lengths; its ids count up from `first`.
static struct temp_path put_shard(const char *name, const int *lengths, int count, int32_t first)
{
    struct temp_path path = temp_path(&folder, name);
    struct shard_writer *w;
    struct tlm_error err = {0};
    ck_assert_msg(!shard_writer_open(&w, path.text, demo.t, "test", &err), "%s", err.text);
    for (int i = 0; i < count; i++)
        for (int n = 0; n < lengths[i]; n++)
            ck_assert(!shard_writer_add(w, n == 0, &first, 1, &err)), first++;
    ck_assert_msg(!shard_writer_finish(w, &err), "%s", err.text);
    shard_writer_close(w);
    return path;
}

static struct dataset *open_dataset(const char *path, int64_t context, bool in_order)
{
    struct dataset *ds;
    struct tlm_error err = {0};
    struct dataset_options o = {.context = context, .seed = 7, .in_order = in_order};
    ck_assert_msg(!dataset_open(&ds, &path, 1, demo.t, &o, &err), "%s", err.text);
    return ds;
}

struct example {
    int32_t tokens[MAX], targets[MAX], positions[MAX], segments[MAX];
};

static const int lengths[] = {5, 1, 12, 3, 30, 7, 1, 1, 20, 9};
enum { DOCUMENTS = 10, TOKENS = 89 };

static bool begins_document(int32_t token) // ids count up from 100
{
    int at = 100;
    for (int i = 0; i < DOCUMENTS; at += lengths[i++])
        if (token == at) return true;
    return false;
}

// What must hold in a window: returns how many tokens are not padding.
static int64_t check_window(const struct example *e, int64_t context, int *seen, int *aimed)
{
    int64_t filled = 0;
    while (filled < context && e->tokens[filled] >= 100) filled++;
    for (int64_t i = 0; i < context; i++) {
        bool begins = i && (i == filled || begins_document(e->tokens[i]));
        if (i > filled) begins = false;
        ck_assert_int_eq(e->segments[i], i ? e->segments[i - 1] + begins : 0);
        ck_assert_int_eq(e->positions[i], i && !begins ? e->positions[i - 1] + 1 : 0);
        if (i >= filled) {
            ck_assert(e->tokens[i] == 0 && e->targets[i] == -1);
            continue;
        }
        bool last = e->tokens[i] == 100 + TOKENS - 1 || begins_document(e->tokens[i] + 1);
        ck_assert_int_eq(e->targets[i], last ? -1 : e->tokens[i] + 1);
        seen[e->tokens[i] - 100]++;
        if (!last) aimed[e->targets[i] - 100]++;
    }
    return filled;
}

// For many contexts and epochs: each token once, each but the first of a document a target once.
START_TEST(test_epochs)
{
    static struct example e;
    struct temp_path path = put_shard("a.gguf", lengths, DOCUMENTS, 100);
    for (int64_t context = 1; context < 100; context += context < 12 ? 1 : 11) {
        struct dataset *ds = open_dataset(path.text, context, _i == 0);
        int64_t windows = dataset_windows(ds);
        ck_assert(dataset_tokens(ds) == TOKENS && dataset_targets(ds) == TOKENS - DOCUMENTS);
        for (int64_t epoch = 0; epoch < 5; epoch++) {
            int seen[TOKENS] = {0}, aimed[TOKENS] = {0};
            int64_t tokens = 0, targets = 0;
            for (int64_t i = 0; i < windows; i++) {
                targets += dataset_example(ds, (uint64_t)(epoch * windows + i), e.tokens, e.targets,
                                           e.positions, e.segments);
                if (_i == 0) ck_assert_int_eq(e.tokens[0], 100 + context * i);
                tokens += check_window(&e, context, seen, aimed);
            }
            ck_assert(tokens == TOKENS && targets == dataset_targets(ds));
            for (int i = 0; i < TOKENS; i++) {
                ck_assert_int_eq(seen[i], 1);
                ck_assert_int_eq(aimed[i], !begins_document(100 + i));
            }
        }
        dataset_close(ds);
    }
}
END_TEST

// Numbers alone decide: in any order, in another data set over the same file.
START_TEST(test_resume)
{
    static struct example a, b;
    struct temp_path path = put_shard("a.gguf", lengths, DOCUMENTS, 100);
    struct dataset *ds = open_dataset(path.text, 8, false), *again = open_dataset(path.text, 8, false);
    int64_t differ = 0;
    for (uint64_t n = 100; n--;) {
        dataset_example(ds, n, a.tokens, a.targets, a.positions, a.segments);
        dataset_example(again, n, b.tokens, b.targets, b.positions, b.segments);
        ck_assert(!memcmp(&a, &b, sizeof a));
        dataset_example(ds, n + 12, b.tokens, b.targets, b.positions, b.segments); // the next epoch
        differ += memcmp(a.tokens, b.tokens, 8 * sizeof *a.tokens) != 0;
    }
    ck_assert_int_eq(dataset_windows(ds), 12);
    ck_assert_int_gt(differ, 80); // another order, cut elsewhere
    dataset_close(ds);
    dataset_close(again);
}
END_TEST

START_TEST(test_permutation)
{
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 15, 16, 17, 64, 65, 1000, 4095, 4097, 20000};
    static uint8_t seen[20000];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t n = sizes[s], fixed = 0, same = 0;
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t p = dataset_permute(3, 1, n, i);
            ck_assert(p < n && !seen[p]++);
            fixed += p == i;
            same += p == dataset_permute(3, 2, n, i);
        }
        if (n >= 1000) ck_assert(fixed < 12 && same < 12); // 1 is what to expect
    }
    uint64_t large = (uint64_t)1 << 40;
    ck_assert_uint_lt(dataset_permute(1, 1, large, large - 1), large);
}
END_TEST

// Several shards are one stream; a document ends with its shard.
START_TEST(test_shards)
{
    static struct example e;
    struct tlm_error err = {0};
    struct temp_path a = put_shard("a.gguf", (const int[]){5, 6}, 2, 100),
                     b = put_shard("b.gguf", (const int[]){4}, 1, 200);
    const char *paths[] = {a.text, b.text, a.text};
    struct dataset *ds;
    struct dataset_options o = {.context = 30, .in_order = true};
    ck_assert_msg(!dataset_open(&ds, paths, 3, demo.t, &o, &err), "%s", err.text);
    ck_assert(dataset_tokens(ds) == 26 && dataset_documents(ds) == 5 && dataset_windows(ds) == 1);
    ck_assert_int_eq(dataset_example(ds, 0, e.tokens, e.targets, e.positions, e.segments), 21);
    for (int i = 0; i < 26; i++)
        ck_assert_int_eq(e.tokens[i], i < 11 ? 100 + i : i < 15 ? 200 + i - 11 : 100 + i - 15);
    ck_assert(e.targets[10] == -1 && e.segments[11] == 2 && e.positions[15] == 0 && e.segments[29] == 5);
    dataset_close(ds);
}
END_TEST

START_TEST(test_refused)
{
    struct tlm_error err = {0};
    struct dataset *ds;
    struct temp_path path = put_shard("a.gguf", lengths, DOCUMENTS, 100);
    const char *paths[] = {path.text, "/no/such/file.gguf"};
    struct dataset_options o = {.context = 8};
    ck_assert_int_eq(dataset_open(&ds, paths, 0, demo.t, &o, &err), TLM_ERR_ARGUMENT);
    ck_assert_int_eq(dataset_open(&ds, paths, 2, demo.t, &o, &err), TLM_ERR_IO);
    o.context = 0;
    ck_assert_int_eq(dataset_open(&ds, paths, 1, demo.t, &o, &err), TLM_ERR_ARGUMENT);
    o.context = 8;
    size_t size = 6;
    struct trained other = trained_open(&(struct bpe_train_options){.vocab_size = 600}, 1,
                                        (const char *const[]){"a text"}, &size, 1, NULL);
    ck_assert_int_eq(dataset_open(&ds, paths, 1, other.t, &o, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "tokenizer"));
    trained_close(&other);
}
END_TEST

Suite *suite_dataset(void)
{
    Suite *s = suite_create("dataset");
    TCase *c = tcase_create("dataset");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, test_epochs, 0, 2);
    tcase_add_test(c, test_resume);
    tcase_add_test(c, test_permutation);
    tcase_add_test(c, test_shards);
    tcase_add_test(c, test_refused);
    suite_add_tcase(s, c);
    return s;
}
