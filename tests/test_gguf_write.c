// tests/test_gguf_write.c -- writing GGUF files: what is written is read back, to the bit; failures leave
// nothing behind.
#include <check.h>
#include <signal.h>
#include <sys/resource.h>

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

START_TEST(every_setter)
{
    struct temp_path p = temp_path(&folder, "a.gguf");
    struct gguf_writer *w = gguf_must_write(p.text);
    struct gguf_string strings[] = {{"a\0b", 3}, {NULL, 0}, {"xyz", 3}};
    uint8_t numbers[24];
    for (int i = 0; i < 24; i++) numbers[i] = (uint8_t)(200 + i * 37);
    gguf_set_string(w, "changes", "first", 5);
    gguf_set_u32(w, "u32", UINT32_MAX);
    gguf_set_u64(w, "u64", UINT64_MAX);
    gguf_set_i32(w, "i32", -1);
    gguf_set_f32(w, "f32", -0.0f);
    gguf_set_bool(w, "bool", true);
    gguf_set_string(w, "empty", NULL, 0);
    gguf_set_string_array(w, "strings", strings, 3);
    gguf_set_string_array(w, "no strings", NULL, 0);
    for (int type = 0; type < GGUF_TYPE_COUNT; type++)
        if (type != GGUF_STRING && type != GGUF_ARRAY && type != GGUF_BOOL)
            gguf_set_array(w, gguf_type_traits[type].name, (enum gguf_type)type, numbers, 3);
    gguf_set_array(w, "none", GGUF_F64, NULL, 0);
    gguf_set_bool(w, "changes", false);
    gguf_must_finish(w);

    struct gguf *g = gguf_must_open(p.text);
    ck_assert_uint_eq(g->tensor_count, 0);
    ck_assert(gguf_string_is(g->keys[0].name, "changes")); // keeps its place
    ck_assert(g->keys[0].value.type == GGUF_BOOL && g->keys[0].value.data[0] == 0);
    bool b = false;
    ck_assert(!gguf_get_bool(g, "bool", &b, NULL) && b);
    gguf_expect_string(g, "empty", "");
    const struct gguf_value *v = gguf_find(g, "strings");
    struct gguf_string *s;
    ck_assert_int_eq(gguf_value_strings(v, &s, NULL), TLM_OK);
    ck_assert(v->count == 3 && s[0].length == 3 && !memcmp(s[0].data, "a\0b", 3) && !s[1].length);
    ck_assert(gguf_string_is(s[2], "xyz"));
    free(s);
    ck_assert_uint_eq(gguf_find(g, "no strings")->count, 0);
    ck_assert_uint_eq(gguf_find(g, "none")->count, 0);
    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        v = gguf_find(g, gguf_type_traits[type].name);
        if (type == GGUF_STRING || type == GGUF_ARRAY || type == GGUF_BOOL) continue;
        ck_assert(v && v->type == GGUF_ARRAY && v->item == (enum gguf_type)type && v->count == 3);
        ck_assert_mem_eq(v->data, numbers, 3 * gguf_type_traits[type].bytes);
    }
    gguf_close(g);
}
END_TEST

static uint8_t pattern(uint64_t tensor, uint64_t i)
{
    return (uint8_t)((i * 2654435761u + tensor * 97) >> 11);
}

// Tensors of several types and sizes, their data in pieces of odd sizes, at the alignment of loop iteration
// _i.
START_TEST(tensors_at_every_alignment)
{
    static const struct tensor_case {
        const char *name;
        enum dtype type;
        int64_t ne[4];
    } cases[] = {{"f32", DTYPE_F32, {7, 3, 1, 1}},     {"q4_k", DTYPE_Q4_K, {512, 5, 2, 1}},
                 {"scalar", DTYPE_F16, {1, 1, 1, 1}},  {"mxfp4", DTYPE_MXFP4, {32, 1, 1, 3}},
                 {"bf16", DTYPE_BF16, {33, 2, 3, 4}},  {"f64", DTYPE_F64, {5, 1, 1, 1}},
                 {"q8_0", DTYPE_Q8_0, {9600, 1, 1, 1}}};
    static const uint32_t alignments[] = {0, 8, 32, 64, 4096}; // 0: no such key
    enum { CASES = sizeof cases / sizeof *cases, PIECE = 61 };
    struct temp_path p = temp_path(&folder, "a.gguf");
    struct gguf_writer *w = gguf_must_write(p.text);
    struct tlm_error err = {0};
    uint64_t alignment = alignments[_i] ? alignments[_i] : 32, bytes[CASES];
    for (uint64_t i = 0; i < CASES; i++) {
        const int64_t *ne = cases[i].ne;
        struct tensor t = tensor_shape(cases[i].type, ne[0], ne[1], ne[2], ne[3]);
        gguf_add_tensor(w, cases[i].name, &t);
        bytes[i] = tensor_bytes(&t);
    }
    if (alignments[_i]) gguf_set_u32(w, "general.alignment", alignments[_i]);
    uint8_t piece[PIECE];
    size_t filled = 0;
    for (uint64_t i = 0; i < CASES; i++)
        for (uint64_t j = 0; j < bytes[i]; j++) {
            piece[filled++] = pattern(i, j);
            if (filled < PIECE && (i + 1 < CASES || j + 1 < bytes[i])) continue;
            ck_assert_msg(!gguf_write_data(w, piece, filled, &err), "%s", err.text);
            filled = 0;
        }
    gguf_must_finish(w);

    struct gguf *g = gguf_must_open(p.text);
    ck_assert_uint_eq(g->alignment, alignment);
    ck_assert_uint_eq(g->files[0].data_offset % alignment, 0);
    ck_assert_uint_eq(g->files[0].size % alignment, 0);
    gguf_prefetch(g);
    for (uint64_t i = 0; i < CASES; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(g, cases[i].name);
        ck_assert_ptr_eq(t, &g->tensors[i]);
        ck_assert_int_eq(t->tensor.type, cases[i].type);
        for (int d = 0; d < 4; d++) ck_assert_int_eq(t->tensor.ne[d], cases[i].ne[d]);
        size_t at = (size_t)((uint8_t *)t->tensor.data - (uint8_t *)g->files[0].map);
        ck_assert_uint_eq(at % alignment, 0);
        for (int twice = 0; twice < 2; twice++) { // pages that were dropped come back with the same bytes
            for (uint64_t j = 0; j < bytes[i]; j++)
                if (((uint8_t *)t->tensor.data)[j] != pattern(i, j))
                    ck_abort_msg("tensor %d byte %d", (int)i, (int)j);
            gguf_drop_pages(g, &t->tensor);
        }
    }
    gguf_close(g);
}
END_TEST

// Pages of files that this process has in memory.
static long file_pages(void)
{
    long total, resident, shared = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld %ld %ld", &total, &resident, &shared), 3);
    fclose(f);
    return shared;
}

START_TEST(drop_pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 4096 * page, file_size;
    struct temp_path p = temp_path(&folder, "a.gguf");
    struct gguf_writer *w = gguf_must_write(p.text);
    struct tensor t = tensor_shape(DTYPE_I8, (int64_t)size, 1, 1, 1);
    char *data = calloc(1, size);
    gguf_add_tensor(w, "t", &t);
    ck_assert_int_eq(gguf_write_data(w, data, size, NULL), TLM_OK);
    gguf_must_finish(w);
    free(data);

    struct gguf *g = gguf_must_open(p.text);
    const struct tensor *mapped = &gguf_find_tensor(g, "t")->tensor;
    const volatile uint8_t *bytes = mapped->data;
    for (size_t i = 0; i < size; i += page) ck_assert_int_eq(bytes[i], 0);
    long before = file_pages();
    gguf_drop_pages(g, mapped);
    ck_assert_int_lt(file_pages(), before - 2048); // the kernel's count is not exact
    gguf_close(g);

    // Memory of somebody else's is left alone: there, dropped pages would come back as zeros.
    ck_assert_int_eq(file_read(p.text, &data, &file_size, NULL), TLM_OK);
    g = gguf_must_open_memory(data, file_size);
    const struct tensor *owned = &g->tensors[0].tensor;
    memset(owned->data, 'x', size);
    gguf_drop_pages(g, owned);
    for (size_t i = 0; i < size; i += page) ck_assert_int_eq(((char *)owned->data)[i], 'x');
    gguf_close(g);
    free(data);
}
END_TEST

START_TEST(writer_refuses)
{
    struct temp_path p = temp_path(&folder, "a.gguf");
    struct tensor t = tensor_shape(DTYPE_Q8_0, 64, 2, 1, 1), odd = t, huge = t;
    static const uint8_t data[200];
    odd.ne[0] = 65;
    huge.ne[1] = huge.ne[2] = INT64_MAX / 4;
    for (int i = 0; i < 7; i++) {
        static const char *const expected[] = {
            "tensor 't': expected 136 bytes of data, found 100",
            "expected no data behind the last tensor, found 64 bytes more",
            "tensor 't': declared twice",
            "rows of a multiple of 32 numbers, found 65 x 2 x 1 x 1",
            "tensor 't': expected sides of at least 1",
            "key 'general.alignment': expected a power of two, found 48",
            "tensor 't': expected 136 bytes of data, found 0",
        };
        struct tlm_error err = {0};
        struct gguf_writer *w = gguf_must_write(p.text);
        if (i == 5) gguf_set_u32(w, "general.alignment", 48);
        gguf_add_tensor(w, "t", i == 3 ? &odd : i == 4 ? &huge : &t);
        if (i == 2) gguf_add_tensor(w, "t", &t);
        enum tlm_status status = TLM_OK;
        if (i < 2) status = gguf_write_data(w, data, i ? 200 : 100, &err);
        ck_assert_int_eq(status, i == 1 ? TLM_ERR_ARGUMENT : TLM_OK);
        if (i != 1) ck_assert_int_eq(gguf_writer_finish(w, &err), TLM_ERR_ARGUMENT);
        ck_assert_msg(strstr(err.text, expected[i]) && strstr(err.text, p.text), "%s", err.text);
        gguf_writer_close(w);
        ck_assert_int_ne(access(p.text, F_OK), 0);
    }
    struct gguf_writer *w;
    struct temp_path none = temp_path(&folder, "none/a.gguf");
    struct tlm_error err = {0};
    ck_assert_int_eq(gguf_writer_open(&w, none.text, &err), TLM_ERR_IO);
    ck_assert(!w && strstr(err.text, none.text));
    gguf_writer_close(NULL);
    ck_assert_int_eq(rmdir(folder.path), 0); // nothing was left in it
    ck_assert_int_eq(mkdir(folder.path, 0700), 0);
}
END_TEST

// A limit on the size of files stands for a full disk. The failure shows while data is written, not only at
// the end.
START_TEST(full_disk_keeps_the_old_file)
{
    struct temp_path p = temp_path(&folder, "a.gguf");
    struct gguf *g = gguf_must_open_memory(golden_gguf, sizeof golden_gguf);
    gguf_rewrite(g, p.text);
    gguf_close(g);
    static uint8_t block[1 << 20];
    struct gguf_writer *w = gguf_must_write(p.text);
    struct tensor t = tensor_shape(DTYPE_I8, sizeof block, 64, 1, 1);
    gguf_add_tensor(w, "t", &t);

    struct rlimit old, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 3 << 20;
    struct tlm_error err = {0};
    enum tlm_status status = TLM_OK;
    int blocks = 0;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small); // Check writes to a file too: no assertions until the limit is lifted
    while (blocks < 64 && !status) {
        status = gguf_write_data(w, block, sizeof block, &err);
        blocks++;
    }
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    ck_assert_int_eq(status, TLM_ERR_IO);
    ck_assert_int_lt(blocks, 10);
    ck_assert_msg(strstr(err.text, p.text) && strstr(err.text, "File too large"), "%s", err.text);
    gguf_writer_close(w);

    g = gguf_must_open(p.text);
    ck_assert_uint_eq(g->tensor_count, 4);
    gguf_close(g);
    ck_assert_int_eq(remove(p.text), 0);
    ck_assert_int_eq(rmdir(folder.path), 0); // no temporary file
    ck_assert_int_eq(mkdir(folder.path, 0700), 0);
}
END_TEST

TCase *tcase_gguf_write(void)
{
    TCase *t = tcase_create("write");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_setter);
    tcase_add_loop_test(t, tensors_at_every_alignment, 0, 5);
    tcase_add_test(t, drop_pages);
    tcase_add_test(t, writer_refuses);
    tcase_add_test(t, full_disk_keeps_the_old_file);
    return t;
}
