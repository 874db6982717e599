// tests/test_gguf.c -- the GGUF container: files of another program, sets of files, files larger than 4 GB.
#include <check.h>
#include <fcntl.h>

#include "core/file.h"
#include "tests/gguf_bytes.h"
#include "tests/golden_gguf.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

static struct temp_folder folder;

static void setup(void)
{
    folder = temp_folder_open();
}

static void teardown(void)
{
    temp_folder_close(&folder);
}

// ---- a file that another program wrote ----------------------------------------------------------------

static int64_t golden_i64(const struct gguf *g, const char *key)
{
    int64_t x = 4711;
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_get_i64(g, key, &x, &err), "%s", err.text);
    return x;
}

static double golden_f64(const struct gguf *g, const char *key)
{
    double x = 4711;
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_get_f64(g, key, &x, &err), "%s", err.text);
    return x;
}

START_TEST(golden_metadata)
{
    struct gguf *g = gguf_must_open_memory(golden_gguf, sizeof golden_gguf);
    ck_assert_uint_eq(g->version, 3);
    ck_assert_uint_eq(g->alignment, 32);
    ck_assert_uint_eq(g->key_count, 17);
    ck_assert(gguf_string_is(g->keys[1].name, "t.u8")); // the order of the file
    ck_assert_int_eq(golden_i64(g, "t.u8"), 255);
    ck_assert_int_eq(golden_i64(g, "t.i8"), -128);
    ck_assert_int_eq(golden_i64(g, "t.u16"), 65535);
    ck_assert_int_eq(golden_i64(g, "t.i16"), -32768);
    ck_assert_int_eq(golden_i64(g, "t.u32"), 4294967295);
    ck_assert_int_eq(golden_i64(g, "t.i32"), INT32_MIN);
    ck_assert_int_eq(golden_i64(g, "t.i64"), INT64_MIN);
    ck_assert_int_eq(golden_i64(g, "t.bool"), 1);
    ck_assert_int_eq(golden_i64(g, "none"), 4711);
    ck_assert(golden_f64(g, "t.f32") == (double)0.1f);
    ck_assert(golden_f64(g, "t.f64") == 0.1);
    ck_assert(golden_f64(g, "t.i8") == -128);
    ck_assert(golden_f64(g, "t.u64") == 0x1p64);
    ck_assert(golden_f64(g, "none") == 4711);
    bool b = false;
    ck_assert(!gguf_get_bool(g, "t.bool", &b, NULL) && b);
    gguf_expect_string(g, "t.string", "snow \xe2\x98\x83");
    gguf_expect_string(g, "general.architecture", "test");

    const struct gguf_value *v = gguf_find(g, "t.numbers");
    ck_assert(v && v->type == GGUF_ARRAY && v->item == GGUF_I32 && v->count == 3 && gguf_value_is_integer(v));
    ck_assert_int_eq(gguf_value_i64(v, 1), -2);
    v = gguf_find(g, "t.floats");
    ck_assert(v && v->item == GGUF_F32 && v->count == 2 && gguf_value_is_number(v) &&
              !gguf_value_is_integer(v));
    ck_assert(gguf_value_f64(v, 1) == -0.25);
    v = gguf_find(g, "t.bools");
    ck_assert(v && v->item == GGUF_BOOL && gguf_value_i64(v, 0) == 1 && gguf_value_i64(v, 1) == 0);
    v = gguf_find(g, "t.strings");
    struct gguf_string *s;
    ck_assert(v && v->item == GGUF_STRING && v->count == 3 && !gguf_value_is_number(v));
    ck_assert_int_eq(gguf_value_strings(v, &s, NULL), TLM_OK);
    ck_assert(gguf_string_is(s[0], "") && gguf_string_is(s[1], "a") &&
              gguf_string_is(s[2], "\xe2\x96\x81the"));
    free(s);
    gguf_close(g);
}
END_TEST

START_TEST(golden_wrong_types)
{
    struct gguf *g = gguf_must_open_memory(golden_gguf, sizeof golden_gguf);
    struct tlm_error err = {0};
    int64_t i = 7;
    double f = 7;
    bool b = true;
    struct gguf_string s = {"kept", 4};
    ck_assert_int_eq(gguf_get_i64(g, "t.string", &i, &err), TLM_ERR_FORMAT);
    ck_assert_str_eq(err.text, "memory: key 't.string': expected a whole number, found type string");
    ck_assert_int_eq(gguf_get_i64(g, "t.f32", &i, &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(gguf_get_i64(g, "t.u64", &i, &err), TLM_ERR_FORMAT);
    ck_assert_str_eq(err.text, "memory: key 't.u64': expected at most 2^63-1, found 18446744073709551615");
    ck_assert_int_eq(gguf_get_i64(g, "t.numbers", &i, &err), TLM_ERR_FORMAT);
    ck_assert_str_eq(err.text, "memory: key 't.numbers': expected a whole number, found an array of i32");
    ck_assert_int_eq(gguf_get_f64(g, "t.string", &f, &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(gguf_get_bool(g, "t.u8", &b, &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(gguf_get_string(g, "t.u8", &s, &err), TLM_ERR_FORMAT);
    ck_assert_int_eq(gguf_get_string(g, "t.strings", &s, &err), TLM_ERR_FORMAT);
    ck_assert(i == 7 && f == 7 && b && gguf_string_is(s, "kept"));
    ck_assert_int_eq(gguf_value_i64(gguf_find(g, "t.u64"), 0), INT64_MAX);
    ck_assert_ptr_null(gguf_find(g, "t.u"));
    ck_assert_ptr_null(gguf_find(g, "t.u88"));
    ck_assert_ptr_null(gguf_find(g, ""));
    ck_assert_ptr_null(gguf_find_tensor(g, "f3"));
    gguf_close(g);
}
END_TEST

START_TEST(golden_tensors)
{
    struct gguf *g = gguf_must_open_memory(golden_gguf, sizeof golden_gguf);
    ck_assert_uint_eq(g->tensor_count, 4);
    const struct tensor *t = &gguf_find_tensor(g, "f32")->tensor;
    ck_assert(t->type == DTYPE_F32 && t->ne[0] == 3 && t->ne[1] == 2 && t->ne[2] == 1 && t->ne[3] == 1);
    for (int i = 0; i < 6; i++) {
        float x;
        memcpy(&x, (char *)t->data + 4 * i, 4);
        ck_assert(x == (float)i);
    }
    t = &gguf_find_tensor(g, "f16")->tensor;
    ck_assert(t->type == DTYPE_F16 && t->ne[0] == 5 && t->ne[1] == 2 && t->ne[2] == 2 && t->nb[2] == 20);
    for (int i = 0; i < 20; i++) {
        uint16_t h;
        memcpy(&h, (char *)t->data + 2 * i, 2);
        ck_assert(f32_from_f16(h) == (float)i);
    }
    t = &gguf_find_tensor(g, "q8_0")->tensor;
    ck_assert(t->type == DTYPE_Q8_0 && t->ne[0] == 32 && t->ne[1] == 2 && tensor_bytes(t) == 68);
    ck_assert_int_eq(((int8_t *)tensor_row(t, 0))[2], -127); // the first code, behind the f16 scale
    ck_assert_int_eq(((int8_t *)tensor_row(t, 1))[33], 127);
    t = &gguf_find_tensor(g, "i8")->tensor;
    ck_assert(t->type == DTYPE_I8 && t->ne[0] == 3 && ((int8_t *)t->data)[2] == -3);
    gguf_close(g);
}
END_TEST

static void expect_rewrite_is_equal(const void *data, size_t size)
{
    struct temp_path p = temp_path(&folder, "copy.gguf");
    struct gguf *g = gguf_must_open_memory(data, size);
    char *copy;
    size_t copy_size;
    gguf_rewrite(g, p.text);
    gguf_close(g);
    ck_assert_int_eq(file_read(p.text, &copy, &copy_size, NULL), TLM_OK);
    ck_assert_uint_eq(copy_size, size);
    ck_assert_int_eq(memcmp(copy, data, size), 0);
    free(copy);
}

START_TEST(golden_rewrite)
{
    expect_rewrite_is_equal(golden_gguf, sizeof golden_gguf);
}
END_TEST

START_TEST(real_files_rewrite)
{
    static const char *const paths[] = {"../shared/models/stories260K.gguf",
                                        "../shared/tokenizers/ggml-vocab-llama-spm.gguf"};
    for (int i = 0; i < 2; i++) {
        char *data;
        size_t size;
        if (file_read(paths[i], &data, &size, NULL)) continue; // a clone has no such folder beside it
        expect_rewrite_is_equal(data, size);
        free(data);
    }
}
END_TEST

START_TEST(nested_arrays_and_version_2)
{
    struct bytes b = {.size = 0};
    put_header(&b, 2, 0, 2);
    put_key(&b, "nested", GGUF_ARRAY);
    put_array(&b, GGUF_ARRAY, 2);
    put_array(&b, GGUF_STRING, 2);
    put_string(&b, "one");
    put_string(&b, "");
    put_array(&b, GGUF_U16, 3);
    put(&b, "abcdef", 6);
    put_key(&b, "after", GGUF_U8);
    put_u8(&b, 9);
    struct gguf *g = gguf_must_open_memory(b.data, b.size);
    ck_assert_uint_eq(g->version, 2);
    const struct gguf_value *v = gguf_find(g, "nested");
    ck_assert(v->type == GGUF_ARRAY && v->item == GGUF_ARRAY && v->count == 2 && !gguf_value_is_number(v));
    ck_assert_int_eq(golden_i64(g, "after"), 9);
    gguf_close(g);
    b.data[4] = 3; // the version that is written
    expect_rewrite_is_equal(b.data, b.size);
}
END_TEST

// ---- large files and sets of files --------------------------------------------------------------------

START_TEST(tensors_beyond_4_gb)
{
    static const uint64_t offsets[] = {0, 3ull << 30, (4ull << 30) + 32, 5ull << 30};
    struct temp_path p = temp_path(&folder, "sparse.gguf");
    struct bytes b = {.size = 0};
    put_header(&b, 3, 4, 0);
    put_tensor(&b, "a", 1 << 20, 3 << 10, DTYPE_I8, offsets[0]); // 3 GB, up to the second
    put_tensor(&b, "b", 1 << 20, 1 << 8, DTYPE_F32, offsets[1]); // 1 GB
    put_tensor(&b, "c", 4, 1, DTYPE_F32, offsets[2]);
    put_tensor(&b, "d", 1 << 20, 1 << 9, DTYPE_F16, offsets[3]); // 1 GB, up to the end
    put_padding(&b, 32);

    int fd = open(p.text, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, b.data, b.size, 0), (ssize_t)b.size);
    struct stat st;
    if (ftruncate(fd, (off_t)(b.size + (6ull << 30))) || fstat(fd, &st) || st.st_blocks > 1 << 20) {
        fprintf(stderr, "skipped: %s cannot hold a sparse file of 6 GB\n", folder.path);
        close(fd);
        return;
    }
    for (int i = 0; i < 4; i++) {
        float mark = (float)(i + 1);
        ck_assert_int_eq(pwrite(fd, &mark, 4, (off_t)(b.size + offsets[i])), 4);
    }
    ck_assert_int_eq(pwrite(fd, "\x2a", 1, (off_t)(b.size + (6ull << 30) - 1)), 1);
    close(fd);

    struct gguf *g = gguf_must_open(p.text);
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        const struct gguf_tensor *t = gguf_find_tensor(g, name);
        float mark;
        ck_assert_ptr_nonnull(t);
        memcpy(&mark, t->tensor.data, 4);
        ck_assert(mark == (float)(i + 1));
        gguf_drop_pages(g, &t->tensor);
    }
    const struct tensor *d = &gguf_find_tensor(g, "d")->tensor;
    ck_assert_uint_eq(tensor_bytes(d), 1u << 30);
    ck_assert_int_eq(((uint8_t *)d->data)[tensor_bytes(d) - 1], 0x2a);
    gguf_close(g);
}
END_TEST

// Part `number` of `count`, counted from 1, with one tensor named `tensor`; the keys say `no` and `total`
// tensors.
static void write_part(int number, int count, const char *tensor, uint32_t no, int32_t total)
{
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-%05d.gguf", number, count);
    struct temp_path p = temp_path(&folder, name);
    struct gguf_writer *w = gguf_must_write(p.text);
    struct tensor t = tensor_shape(DTYPE_F32, 3, 1, 1, 1);
    float data[3] = {(float)number, 2, 3};
    gguf_set_u32(w, "split.no", no);
    gguf_set_u32(w, "split.count", (uint32_t)count);
    gguf_set_i32(w, "split.tensors.count", total);
    if (number == 1) gguf_set_u32(w, "only.first", 1);
    gguf_set_u32(w, "general.alignment", 16u << number); // each part has its own
    gguf_add_tensor(w, tensor, &t);
    ck_assert_int_eq(gguf_write_data(w, data, sizeof data, NULL), TLM_OK);
    gguf_must_finish(w);
}

static void expect_split_error(const char *name, enum tlm_status status, const char *text)
{
    struct temp_path p = temp_path(&folder, name);
    struct gguf *g;
    struct tlm_error err = {0};
    ck_assert_int_eq(gguf_open(&g, p.text, &err), status);
    ck_assert_ptr_null(g);
    ck_assert_msg(strstr(err.text, text) != NULL, "%s", err.text);
}

START_TEST(split_set)
{
    for (int i = 1; i <= 3; i++)
        write_part(i, 3, (const char *const[]){"", "x", "y", "z"}[i], (uint32_t)i - 1, 3);
    struct temp_path p = temp_path(&folder, "model-00001-of-00003.gguf");
    struct gguf *g = gguf_must_open(p.text);
    ck_assert_int_eq(g->file_count, 3);
    ck_assert_uint_eq(g->tensor_count, 3);
    ck_assert_int_eq(golden_i64(g, "only.first"), 1);
    ck_assert_ptr_nonnull(strstr(g->files[2].path, "model-00003-of-00003.gguf"));
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('x' + i), 0};
        const struct gguf_tensor *t = gguf_find_tensor(g, name);
        ck_assert(t && t->file == i && ((float *)t->tensor.data)[0] == (float)(i + 1));
        gguf_drop_pages(g, &t->tensor);
    }
    gguf_prefetch(g);
    gguf_close(g);
}
END_TEST

START_TEST(split_set_errors)
{
    write_part(1, 3, "x", 0, 3);
    expect_split_error("model-00001-of-00003.gguf", TLM_ERR_IO, "model-00002-of-00003.gguf: cannot open");
    write_part(2, 3, "y", 1, 3);
    write_part(3, 3, "z", 2, 3);
    expect_split_error("model-00002-of-00003.gguf", TLM_ERR_ARGUMENT, "model-00001-of-00003.gguf");
    write_part(3, 3, "y", 2, 3);
    expect_split_error("model-00001-of-00003.gguf", TLM_ERR_FORMAT, "tensor 'y': expected once, found twice");
    write_part(3, 3, "z", 1, 3);
    expect_split_error("model-00001-of-00003.gguf", TLM_ERR_FORMAT,
                       "expected 2 and 3 by the name of the file, found 1 and 3");
    write_part(3, 3, "z", 2, 3);
    write_part(1, 3, "x", 0, 4);
    expect_split_error("model-00001-of-00003.gguf", TLM_ERR_FORMAT,
                       "expected 4 tensors in all parts, found 3");
    write_part(1, 3, "x", 0, 3);

    // A part under a name that does not say where the others are.
    struct temp_path from = temp_path(&folder, "model-00001-of-00003.gguf"),
                     to = temp_path(&folder, "model.gguf");
    ck_assert_int_eq(rename(from.text, to.text), 0);
    expect_split_error("model.gguf", TLM_ERR_FORMAT, "expected a name such as NAME-00001-of-00003.gguf");
}
END_TEST

START_TEST(names_that_are_no_split)
{
    static const char *const names[] = {"-00001-of-00001.gguf",  "a-00000-of-00003.gguf",
                                        "a-00004-of-00003.gguf", "a-0001-of-00003.gguf",
                                        "a-00001-of-00003.ggml", "x"};
    for (int i = 0; i < 6; i++) {
        struct temp_path p = temp_path(&folder, names[i]);
        struct gguf *g = gguf_must_open_memory(golden_gguf, sizeof golden_gguf);
        gguf_rewrite(g, p.text);
        gguf_close(g);
        g = gguf_must_open(p.text);
        ck_assert_int_eq(g->file_count, 1);
        gguf_close(g);
    }
}
END_TEST

START_TEST(printable_text)
{
    char text[16];
    struct gguf_string s = {"plain", 5};
    ck_assert_str_eq(gguf_printable(s, text, sizeof text), "plain");
    s = (struct gguf_string){"a\n\\\x7f", 4};
    ck_assert_str_eq(gguf_printable(s, text, sizeof text), "a\\x0a\\x5c\\x7f");
    s = (struct gguf_string){"0123456789abcde", 15};
    ck_assert_str_eq(gguf_printable(s, text, sizeof text), "0123456789abcde");
    s = (struct gguf_string){"0123456789abcdef", 16};
    ck_assert_str_eq(gguf_printable(s, text, sizeof text), "0123456789ab...");
    s = (struct gguf_string){"01234567\xff\xff", 10};
    ck_assert_str_eq(gguf_printable(s, text, sizeof text), "01234567\\xff...");
    s = (struct gguf_string){NULL, 0};
    ck_assert_str_eq(gguf_printable(s, text, 8), "");
}
END_TEST

Suite *suite_gguf(void)
{
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("gguf");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, golden_metadata);
    tcase_add_test(t, golden_wrong_types);
    tcase_add_test(t, golden_tensors);
    tcase_add_test(t, golden_rewrite);
    tcase_add_test(t, real_files_rewrite);
    tcase_add_test(t, nested_arrays_and_version_2);
    tcase_add_test(t, tensors_beyond_4_gb);
    tcase_add_test(t, split_set);
    tcase_add_test(t, split_set_errors);
    tcase_add_test(t, names_that_are_no_split);
    tcase_add_test(t, printable_text);
    suite_add_tcase(s, t);
    suite_add_tcase(s, tcase_gguf_write());
    suite_add_tcase(s, tcase_gguf_hostile());
    return s;
}
