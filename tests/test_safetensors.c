// tests/test_safetensors.c -- the container: what is written is read, and what is wrong is said in one line.
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

static struct tlm_error err;

// A file of a header and `data` bytes behind it; free() it.
static uint8_t *make_file(const char *header, size_t data, size_t *size)
{
    uint64_t length = strlen(header);
    uint8_t *file = malloc(8 + length + data);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memset(file + 8 + length, 0x41, data);
    *size = 8 + length + data;
    return file;
}

static void refuses(const char *header, size_t data, enum tlm_status code, const char *text)
{
    struct safetensors *s;
    size_t size;
    uint8_t *file = make_file(header, data, &size);
    enum tlm_status status = safetensors_open_memory(&s, file, size, "x", &err);
    ck_assert_msg(status == code, "%s: status %d, %s", header, status, err.text);
    ck_assert_ptr_null(s);
    ck_assert_msg(strstr(err.text, text) && !strchr(err.text, '\n'), "expected '%s' in '%s'", text, err.text);
    free(file);
}

START_TEST(hostile_headers)
{
    refuses("", 0, TLM_ERR_FORMAT, "JSON");
    refuses("[1]", 0, TLM_ERR_FORMAT, "expected an object, found an array");
    refuses("{\"a\":1}", 0, TLM_ERR_FORMAT, "dtype: expected a string, found nothing");
    refuses("{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, TLM_ERR_UNSUPPORTED,
            "found 'F4'");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":3,\"data_offsets\":[0,4]}}", 4, TLM_ERR_FORMAT,
            "a whole number");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, TLM_ERR_FORMAT, "shape");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, TLM_ERR_FORMAT, "shape");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0,
            TLM_ERR_FORMAT, "2^63 bytes");
    refuses("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
            TLM_ERR_FORMAT, "at most 8 numbers");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, TLM_ERR_FORMAT,
            "two whole numbers");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, TLM_ERR_FORMAT,
            "within 4 bytes");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, TLM_ERR_FORMAT,
            "within 4 bytes");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, TLM_ERR_FORMAT,
            "within 4 bytes");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, TLM_ERR_FORMAT,
            "expected 8 bytes for its shape of F32, found 4");
    const char *two = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                      "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}}";
    char text[256];
    snprintf(text, sizeof text, two, 2, 6);
    refuses(text, 6, TLM_ERR_FORMAT, "tensor 'b': data_offsets: expected to begin at 4");
    snprintf(text, sizeof text, two, 0, 4);
    refuses(text, 4, TLM_ERR_FORMAT, "expected to begin at 4");
    snprintf(text, sizeof text, two, 6, 10);
    refuses(text, 10, TLM_ERR_FORMAT, "expected to begin at 4");
    snprintf(text, sizeof text, two, 4, 8);
    refuses(text, 9, TLM_ERR_FORMAT, "expected 8 bytes of data for all tensors, found 9");
    refuses("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            0, TLM_ERR_FORMAT, "duplicate");
    refuses("{\"a\\n\\u001b[2J\":{\"dtype\":\"F9\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
            TLM_ERR_UNSUPPORTED, "a\\x0a\\x1b");
}
END_TEST

START_TEST(lengths_of_headers)
{
    static const uint64_t lengths[] = {1, 100, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    struct safetensors *s;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        ck_assert_int_eq(safetensors_open_memory(&s, &lengths[i], 8, "x", &err), TLM_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, "header"));
    }
    ck_assert_int_eq(safetensors_open_memory(&s, lengths, 3, "x", &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(safetensors_open_memory(&s, NULL, 0, "x", &err), TLM_ERR_FORMAT);
}
END_TEST

START_TEST(a_scalar_and_nothing)
{
    struct safetensors *s;
    size_t size;
    uint8_t *file = make_file(
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"I8\",\"shape\":[],"
        "\"data_offsets\":[0,1]},\"z\":{\"dtype\":\"F64\",\"shape\":[3,0],\"data_offsets\":[1,1]}} ",
        1, &size);
    ck_assert_msg(!safetensors_open_memory(&s, file, size, "x", &err), "%s", err.text);
    ck_assert_uint_eq(s->count, 2);
    const struct safetensors_tensor *a = safetensors_find(s, "a"), *z = safetensors_find(s, "z");
    ck_assert(a && a->dims == 0 && a->bytes == 1 && *a->data == 0x41);
    ck_assert(z && z->dims == 2 && z->shape[0] == 3 && z->bytes == 0);
    ck_assert_ptr_null(safetensors_find(s, "__metadata__"));
    safetensors_close(s);
    free(file);
}
END_TEST

// ---- writing ------------------------------------------------------------------------------------------

static void write_three(const char *folder, uint64_t shard_bytes)
{
    struct safetensors_writer *w;
    uint8_t data[30];
    for (int i = 0; i < 30; i++) data[i] = (uint8_t)i;
    ck_assert(!safetensors_writer_open(&w, folder, shard_bytes, &err));
    ck_assert(!safetensors_add(w, "b", SAFETENSORS_F32, 2, (int64_t[]){1, 3}, &err));
    ck_assert(!safetensors_add(w, "a", SAFETENSORS_BF16, 1, (int64_t[]){5}, &err));
    ck_assert(!safetensors_add(w, "c", SAFETENSORS_U8, 3, (int64_t[]){2, 2, 2}, &err));
    for (int i = 0; i < 30; i += 7) // across the borders of tensors and files
        ck_assert_msg(!safetensors_write_data(w, data + i, i + 7 < 30 ? 7 : (size_t)(30 - i), &err), "%s",
                      err.text);
    ck_assert_int_eq(safetensors_write_data(w, data, 1, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(!safetensors_writer_finish(w, &err), "%s", err.text);
    safetensors_writer_close(w);
}

static void read_three(const char *folder, int files)
{
    struct safetensors *s;
    ck_assert_msg(!safetensors_open(&s, folder, &err), "%s", err.text);
    ck_assert_int_eq(s->file_count, files);
    const struct safetensors_tensor *a = safetensors_find(s, "a"), *b = safetensors_find(s, "b"),
                                    *c = safetensors_find(s, "c");
    ck_assert(a && b && c && s->count == 3);
    ck_assert(b->type == SAFETENSORS_F32 && b->shape[0] == 1 && b->shape[1] == 3 && b->data[11] == 11);
    ck_assert(a->type == SAFETENSORS_BF16 && a->dims == 1 && a->data[0] == 12 && a->data[9] == 21);
    ck_assert(c->type == SAFETENSORS_U8 && c->dims == 3 && c->data[7] == 29);
    safetensors_close(s);
}

START_TEST(one_file)
{
    struct temp_folder f = temp_folder_open();
    write_three(f.path, 1000);
    read_three(f.path, 1);
    ck_assert_int_eq(temp_folder_close(&f), 1);
}
END_TEST

START_TEST(shards)
{
    static const int files[] = {3, 2, 3}; // 12, 10 and 8 bytes
    for (int i = 0; i < 3; i++) {
        struct temp_folder f = temp_folder_open();
        write_three(f.path, (uint64_t[]){1, 22, 12}[i]);
        read_three(f.path, files[i]);
        ck_assert_int_eq(temp_folder_close(&f), files[i] + 1);
    }
}
END_TEST

START_TEST(half_written_is_removed)
{
    struct temp_folder f = temp_folder_open();
    struct safetensors_writer *w;
    ck_assert(!safetensors_writer_open(&w, f.path, 100, &err));
    ck_assert(!safetensors_add(w, "a", SAFETENSORS_U8, 1, (int64_t[]){9}, &err));
    ck_assert(!safetensors_write_data(w, "12345", 5, &err));
    ck_assert_int_eq(safetensors_writer_finish(w, &err), TLM_ERR_ARGUMENT);
    safetensors_writer_close(w);
    ck_assert_int_eq(temp_folder_close(&f), 0);
}
END_TEST

// ---- folders ------------------------------------------------------------------------------------------

static void write_text(const struct temp_folder *f, const char *name, const char *text)
{
    FILE *file = fopen(temp_path(f, name).text, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void index_refused(const char *index, enum tlm_status code, const char *text)
{
    struct temp_folder f = temp_folder_open();
    struct safetensors *s;
    write_three(f.path, 1);
    write_text(&f, "model.safetensors.index.json", index);
    enum tlm_status status = safetensors_open(&s, f.path, &err);
    ck_assert_msg(status == code, "%s: status %d, %s", index, status, err.text);
    ck_assert_msg(strstr(err.text, text) && !strchr(err.text, '\n'), "expected '%s' in '%s'", text, err.text);
    temp_folder_close(&f);
}

START_TEST(hostile_indices)
{
    static const char own[] = "model-00001-of-00003.safetensors";
    char text[256];
    index_refused("{}", TLM_ERR_FORMAT, "weight_map: expected an object, found nothing");
    index_refused("{\"weight_map\":{\"a\":\"../model.safetensors\"}}", TLM_ERR_FORMAT, "file in this folder");
    index_refused("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", TLM_ERR_FORMAT, "file in this folder");
    index_refused("{\"weight_map\":{\"a\":\"sub/x.safetensors\"}}", TLM_ERR_FORMAT, "file in this folder");
    index_refused("{\"weight_map\":{\"a\":\".x.safetensors\"}}", TLM_ERR_FORMAT, "file in this folder");
    index_refused("{\"weight_map\":{\"a\":\"config.json\"}}", TLM_ERR_FORMAT, "file in this folder");
    index_refused("{\"weight_map\":{\"a\":7}}", TLM_ERR_FORMAT, "a whole number");
    index_refused("{\"weight_map\":{\"a\":\"gone.safetensors\"}}", TLM_ERR_IO, "gone.safetensors");
    snprintf(text, sizeof text, "{\"weight_map\":{\"zzz\":\"%s\"}}", own);
    index_refused(text, TLM_ERR_FORMAT, "tensor 'zzz': expected in model-00001");
    snprintf(text, sizeof text, "{\"weight_map\":{\"b\":\"%s\",\"c\":\"%s\"}}", own, own);
    index_refused(text, TLM_ERR_FORMAT, "in no file");
}
END_TEST

START_TEST(empty_folders)
{
    struct temp_folder f = temp_folder_open();
    struct safetensors *s;
    ck_assert_int_eq(safetensors_open(&s, f.path, &err), TLM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "found neither"));
    write_text(&f, "pytorch_model.bin", "");
    ck_assert_int_eq(safetensors_open(&s, f.path, &err), TLM_ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.text, "pytorch_model.bin"));
    temp_folder_close(&f);
}
END_TEST

START_TEST(cut_and_flipped)
{
    struct temp_folder f = temp_folder_open();
    char *file;
    size_t size;
    write_three(f.path, 1000);
    ck_assert(!file_read(temp_path(&f, "model.safetensors").text, &file, &size, &err));
    for (size_t n = 0; n < size; n++) {
        struct safetensors *s;
        uint8_t *cut = malloc(n + 1); // its end is guarded by the sanitizer
        memcpy(cut, file, n);
        ck_assert_int_ne(safetensors_open_memory(&s, cut, n, "x", &err), TLM_OK);
        free(cut);
    }
    for (int i = 0; i < 20000; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, file, size);
        for (uint64_t k = 0; k <= (uint64_t)i % 3; k++) {
            uint64_t bit = (uint64_t)(rng_uniform(2, (uint64_t)i, k) * 8 * (double)(size - 30));
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8); // not in the numbers
        }
        fuzz_safetensors(copy, size);
        free(copy);
    }
    free(file);
    temp_folder_close(&f);
}
END_TEST

Suite *suite_safetensors(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, hostile_headers);
    tcase_add_test(t, lengths_of_headers);
    tcase_add_test(t, a_scalar_and_nothing);
    tcase_add_test(t, one_file);
    tcase_add_test(t, shards);
    tcase_add_test(t, half_written_is_removed);
    tcase_add_test(t, hostile_indices);
    tcase_add_test(t, empty_folders);
    tcase_add_test(t, cut_and_flipped);
    suite_add_tcase(s, t);
    return s;
}
