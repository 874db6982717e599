// tests/test_hostile.c -- model files that are cut short or have flipped bits: an error line or a model that runs, never a
// crash, a hang or a read outside the file.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

enum { CASES = 1000 };

static const char source[] = "tests/golden/llama-bias.gguf";

static void write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

// Opens the file and, if that works, runs a few tokens. Returns whether it opened.
static bool try_model(const char *path)
{
    struct tlm_model *m;
    struct tlm_error err = {0};
    if (tlm_model_open(&m, path, NULL, &err)) {
        ck_assert_uint_gt(strlen(err.text), 0);
        ck_assert_ptr_null(strchr(err.text, '\n'));
        return false;
    }
    struct tlm_session *s;
    int32_t tokens[4] = {0, 1, 2, 3};
    if (!tlm_session_open(&s, m, &(struct tlm_session_options){.context = 32, .threads = 1}, &err)) {
        if (!tlm_session_sync(s, tokens, 4, &err)) ck_assert_ptr_nonnull(tlm_session_logits(s));
        tlm_session_close(s);
    }
    int32_t ids[64];
    size_t count;
    tlm_tokenize(m, "a text\xff", 7, TLM_ADD_BOS | TLM_PARSE_SPECIAL, ids, 64, &count, &err);
    tlm_model_close(m);
    return true;
}

START_TEST(test_truncated)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "model.gguf");
    char *data;
    size_t size;
    ck_assert_int_eq(file_read(source, &data, &size, NULL), TLM_OK);
    for (int i = 0; i < CASES; i++) {
        // Half of the cuts lie in the metadata, where the structure is.
        size_t range = i % 2 ? size : size / 16;
        size_t length = (size_t)(rng_uniform(1, 0, (uint64_t)i) * (double)range);
        write_file(path.text, data, length);
        ck_assert_msg(!try_model(path.text), "cut to %zu of %zu bytes, the file still opened", length, size);
    }
    free(data);
    temp_folder_close(&folder);
}
END_TEST

START_TEST(test_flipped)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "model.gguf");
    char *data;
    size_t size;
    int opened = 0;
    ck_assert_int_eq(file_read(source, &data, &size, NULL), TLM_OK);
    for (int i = 0; i < CASES; i++) {
        size_t where[3];
        int flips = 1 + i % 3;
        for (int j = 0; j < flips; j++) {
            uint32_t r[4];
            rng_philox(2, (uint64_t)j, (uint64_t)i, r);
            where[j] = ((uint64_t)r[0] << 32 | r[1]) % (i % 4 ? 6000 * 8 : size * 8); // mostly the metadata
            data[where[j] / 8] ^= (char)(1 << where[j] % 8);
        }
        write_file(path.text, data, size);
        opened += try_model(path.text);
        for (int j = 0; j < flips; j++) data[where[j] / 8] ^= (char)(1 << where[j] % 8);
    }
    ck_assert_int_gt(opened, 0); // flips in weights and names do no harm to the structure
    ck_assert_int_lt(opened, CASES);
    free(data);
    temp_folder_close(&folder);
}
END_TEST

Suite *suite_hostile(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, test_truncated);
    tcase_add_test(t, test_flipped);
    suite_add_tcase(s, t);
    return s;
}
