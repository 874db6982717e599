// tests/test_gguf_hostile.c -- GGUF files that are truncated, corrupt or made to hurt: one line each, and no
// harm.
#include <check.h>
#include <inttypes.h>

#include "core/file.h"
#include "core/rng.h"
#include "tests/gguf_bytes.h"
#include "tests/golden_gguf.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

// Opens a copy of exactly `size` bytes, so that AddressSanitizer sees the first byte read behind the end.
static enum tlm_status open_copy(const void *data, size_t size, struct tlm_error *err)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, data, size);
    struct gguf *g;
    enum tlm_status status = gguf_open_memory(&g, copy, size, "file", err);
    ck_assert(status ? !g : g != NULL);
    gguf_close(g);
    free(copy);
    return status;
}

static void expect(const struct bytes *b, enum tlm_status status, const char *text)
{
    struct tlm_error err = {0};
    ck_assert_msg(open_copy(b->data, b->size, &err) == status, "expected '%s', found '%s'", text, err.text);
    ck_assert_msg(!strncmp(err.text, "file: ", status ? 6 : 0) && strstr(err.text, text),
                  "expected '%s', found '%s'", text, err.text);
    ck_assert_int_eq(open_copy(b->data, b->size, NULL), status);
}

// ---- headers ------------------------------------------------------------------------------------------

START_TEST(headers)
{
    static const struct header_case {
        uint32_t version;
        uint64_t n_tensors, n_keys;
        enum tlm_status status;
        const char *text;
    } cases[] = {
        {3, 0, 0, TLM_OK, ""},
        {0, 0, 0, TLM_ERR_UNSUPPORTED, "expected GGUF version 2 or 3, found 0"},
        {1, 0, 0, TLM_ERR_UNSUPPORTED, "expected GGUF version 2 or 3, found 1"},
        {4, 0, 0, TLM_ERR_UNSUPPORTED, "expected GGUF version 2 or 3, found 4"},
        {0x03000000, 0, 0, TLM_ERR_UNSUPPORTED, "found a big-endian one of GGUF version 3"},
        {3, 1, 0, TLM_ERR_FORMAT, "1 x tensor at byte 24"},
        {3, 0, 1, TLM_ERR_FORMAT, "1 x metadata key at byte 24"},
        {3, 1ull << 60, 0, TLM_ERR_FORMAT, "1152921504606846976 x tensor"},
        {3, 0, UINT64_MAX, TLM_ERR_FORMAT, "18446744073709551615 x metadata key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = {.size = 0};
        put_header(&b, cases[i].version, cases[i].n_tensors, cases[i].n_keys);
        expect(&b, cases[i].status, cases[i].text);
    }
    struct bytes zip = {.data = "PK\x03\x04 is no GGUF file, but long enough", .size = 40},
                 none = {.size = 0};
    expect(&zip, TLM_ERR_FORMAT, "expected it to begin with 'GGUF', found 'PK\\x03\\x04'");
    expect(&none, TLM_ERR_FORMAT,
           "header: magic at byte 0: expected 4 bytes, found the end of the file after 0");
}
END_TEST

START_TEST(files_that_are_no_files)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path empty = temp_path(&folder, "empty.gguf");
    FILE *f = fopen(empty.text, "w");
    ck_assert_int_eq(fclose(f), 0);
    struct gguf *g;
    struct tlm_error err = {0};
    ck_assert_int_eq(gguf_open(&g, empty.text, &err), TLM_ERR_FORMAT);
    ck_assert_msg(strstr(err.text, empty.text) && strstr(err.text, "found the end of the file after 0"), "%s",
                  err.text);
    ck_assert_int_eq(gguf_open(&g, folder.path, &err), TLM_ERR_IO);
    ck_assert_msg(strstr(err.text, "expected a regular file, found a folder") != NULL, "%s", err.text);
    temp_folder_close(&folder);
}
END_TEST

// ---- metadata -----------------------------------------------------------------------------------------

// A file with one key of type `type`; the value and zeros to spare follow.
static struct bytes one_key(uint32_t type)
{
    struct bytes b = {.size = 0};
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", type);
    return b;
}

START_TEST(values)
{
    struct bytes b = one_key(GGUF_TYPE_COUNT);
    put_zeros(&b, 64);
    expect(&b, TLM_ERR_FORMAT,
           "key 'k': type of the value at byte 33: expected a type from 0 to 12, found 13");
    b = one_key(GGUF_BOOL);
    put_u8(&b, 2);
    expect(&b, TLM_ERR_FORMAT, "key 'k': bool at byte 37: expected 0 or 1, found 2");
    b = one_key(GGUF_F64);
    put_zeros(&b, 7);
    expect(&b, TLM_ERR_FORMAT,
           "key 'k': 1 x f64 at byte 37: expected 8 bytes or more for each, found 7 in all");
    b = one_key(GGUF_STRING);
    put_u64(&b, UINT64_MAX - 7); // with the position it comes to a small number
    put_zeros(&b, 64);
    expect(&b, TLM_ERR_FORMAT, "key 'k': string at byte 45: expected 18446744073709551608 bytes");
    b = one_key(GGUF_ARRAY);
    put_array(&b, 99, 0);
    put_zeros(&b, 64);
    expect(&b, TLM_ERR_FORMAT,
           "key 'k': type of the array's items at byte 37: expected a type from 0 to 12, found 99");

    // Lengths whose product with the item's size is small again in 64 bits.
    static const uint64_t counts[] = {1ull << 60, 1ull << 61, 1ull << 62, 1ull << 63, UINT64_MAX, 100};
    for (int item = 0; item < GGUF_TYPE_COUNT; item++)
        for (int i = 0; i < 6; i++) {
            b = one_key(GGUF_ARRAY);
            put_array(&b, (uint32_t)item, counts[i]);
            put_zeros(&b, 64);
            expect(&b, TLM_ERR_FORMAT, "key 'k'");
        }
}
END_TEST

START_TEST(string_array_says_more_than_there_are)
{
    struct bytes b = one_key(GGUF_ARRAY);
    put_array(&b, GGUF_STRING, 3);
    put_string(&b, "one");
    put_string(&b, "two, which is long enough for the count to look right");
    expect(&b, TLM_ERR_FORMAT, "key 'k': string at byte");
}
END_TEST

static struct bytes nested(int depth)
{
    struct bytes b = one_key(GGUF_ARRAY);
    for (int i = 1; i < depth; i++) put_array(&b, GGUF_ARRAY, 1);
    put_array(&b, GGUF_U8, 1);
    put_u8(&b, 1);
    return b;
}

START_TEST(nesting)
{
    struct bytes b = nested(8);
    expect(&b, TLM_OK, "");
    b = nested(9);
    expect(&b, TLM_ERR_UNSUPPORTED, "key 'k': array at byte");
    b = nested(600);
    expect(&b, TLM_ERR_UNSUPPORTED, "expected at most 8 arrays in one another");
}
END_TEST

START_TEST(names)
{
    struct bytes b = {.size = 0};
    put_header(&b, 3, 0, 3);
    static const char *const same[] = {"b", "a", "b"};
    for (int i = 0; i < 3; i++) {
        put_key(&b, same[i], GGUF_U8);
        put_u8(&b, 1);
    }
    expect(&b, TLM_ERR_FORMAT, "key 'b': expected once, found twice");

    // Bytes of the file never reach the line as they are, nor do they fill it.
    b.size = 0;
    put_header(&b, 3, 0, 1);
    put_key(&b, "\x1b[31mred\nline", 99);
    expect(&b, TLM_ERR_FORMAT, "key '\\x1b[31mred\\x0aline': type of the value");
    b.size = 0;
    put_header(&b, 3, 0, 1);
    put_u64(&b, 4000);
    put_zeros(&b, 4000);
    put_u32(&b, 99);
    expect(&b, TLM_ERR_FORMAT, "\\x00...': type of the value at byte 4032");
}
END_TEST

START_TEST(alignments)
{
    static const uint32_t bad[] = {0, 3, 12, 0x80000001};
    for (int i = 0; i < 4; i++) {
        struct bytes b = {.size = 0};
        put_header(&b, 3, 0, 1);
        put_key(&b, "general.alignment", GGUF_U32);
        put_u32(&b, bad[i]);
        expect(&b, TLM_ERR_FORMAT, "key 'general.alignment': expected a power of two, found");
    }
    struct bytes b = {.size = 0};
    put_header(&b, 3, 0, 1);
    put_key(&b, "general.alignment", GGUF_STRING);
    put_string(&b, "32");
    expect(&b, TLM_ERR_FORMAT, "key 'general.alignment': expected a whole number, found type string");

    // With 2^31 the data of this tensor would lie behind the end; without a tensor nothing does.
    for (uint64_t n_tensors = 0; n_tensors < 2; n_tensors++) {
        b.size = 0;
        put_header(&b, 3, n_tensors, 1);
        put_key(&b, "general.alignment", GGUF_U32);
        put_u32(&b, 1u << 31);
        if (n_tensors) put_tensor(&b, "t", 1, 1, DTYPE_F32, 0);
        put_zeros(&b, 4096);
        expect(&b, n_tensors ? TLM_ERR_FORMAT : TLM_OK,
               n_tensors ? "tensor 't': expected 4 bytes at offset 0" : "");
    }
    // Data that kernels could not read through pointers to the type.
    for (int shift = 0; shift < 2; shift++) {
        b.size = 0;
        put_header(&b, 3, 1, 1);
        put_key(&b, "general.alignment", GGUF_U8);
        put_u8(&b, 1);
        put_tensor(&b, shift ? "t" : "tttt", 1, 1, DTYPE_F32, 0);
        put_zeros(&b, 16);
        bool whole = (b.size - 16) % 4 == 0;
        expect(&b, whole ? TLM_OK : TLM_ERR_UNSUPPORTED,
               whole ? "" : "expected data at a multiple of 4 for type F32");
    }
}
END_TEST

// ---- tensors ------------------------------------------------------------------------------------------

// Files of one tensor and 4096 bytes of data.
START_TEST(tensors)
{
    static const struct tensor_case {
        uint64_t ne0, ne1;
        uint32_t type;
        uint64_t offset;
        enum tlm_status status;
        const char *text;
    } cases[] = {
        {1024, 1, DTYPE_F32, 0, TLM_OK, ""},
        {1, 1, DTYPE_F32, 4064, TLM_OK, ""},
        {1025, 1, DTYPE_F32, 0, TLM_ERR_FORMAT,
         "expected 4100 bytes at offset 0 of the data, found 4096 bytes of data"},
        {1, 1, DTYPE_F32, 4096, TLM_ERR_FORMAT, "expected 4 bytes at offset 4096"},
        {1, 1, DTYPE_F32, 4, TLM_ERR_FORMAT, "expected an offset that is a multiple of 32, found 4"},
        {1, 1, DTYPE_F32, UINT64_MAX - 31, TLM_ERR_FORMAT, "expected 4 bytes at offset 18446744073709551584"},
        {8, 1, DTYPE_F32, 1ull << 63, TLM_ERR_FORMAT, "expected 32 bytes at offset 9223372036854775808"},
        {0, 1, DTYPE_F32, 0, TLM_ERR_FORMAT, "dimension 0: expected from 1"},
        {1, 0, DTYPE_F32, 0, TLM_ERR_FORMAT, "dimension 1: expected from 1"},
        {1ull << 63, 1, DTYPE_F32, 0, TLM_ERR_FORMAT, "dimension 0: expected from 1"},
        {1ull << 32, 1ull << 32, DTYPE_I8, 0, TLM_ERR_FORMAT, "dimension 1: expected from 1"},
        {1ull << 31, 1ull << 31, DTYPE_F32, 0, TLM_ERR_FORMAT, "expected fewer than 2^64 bytes"},
        {1ull << 31, 1ull << 30, DTYPE_F32, 0, TLM_ERR_FORMAT,
         "expected 9223372036854775808 bytes at offset 0"},
        {255, 1, DTYPE_Q4_K, 0, TLM_ERR_FORMAT,
         "expected rows of a multiple of 256 numbers for type Q4_K, found 255"},
        {33, 32, DTYPE_Q8_0, 0, TLM_ERR_FORMAT, "expected rows of a multiple of 32 numbers"},
        {32, 1, 255, 0, TLM_ERR_UNSUPPORTED, "expected a tensor type that GGUF defines, found number 255"},
        {32, 1, 4, 0, TLM_ERR_UNSUPPORTED, "expected a tensor type that GGUF defines, found number 4"},
        {32, 1, 0x80000000, 0, TLM_ERR_UNSUPPORTED, "found number 2147483648"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = {.size = 0};
        put_header(&b, 3, 1, 0);
        put_tensor(&b, "t", cases[i].ne0, cases[i].ne1, cases[i].type, cases[i].offset);
        put_padding(&b, 32);
        put_zeros(&b, 4096);
        expect(&b, cases[i].status, cases[i].text);
        if (cases[i].status) expect(&b, cases[i].status, "tensor 't': ");
    }
}
END_TEST

START_TEST(dimensions)
{
    for (uint32_t n = 0; n < 6; n++) {
        struct bytes b = {.size = 0};
        put_header(&b, 3, 1, 0);
        put_string(&b, "t");
        put_u32(&b, n < 5 ? n : UINT32_MAX);
        for (uint32_t i = 0; i < n; i++) put_u64(&b, 2);
        put_u32(&b, DTYPE_F32);
        put_u64(&b, 0);
        put_padding(&b, 32);
        put_zeros(&b, 64);
        expect(&b, n < 5 ? TLM_OK : TLM_ERR_FORMAT, n < 5 ? "" : "tensor 't': expected at most 4 dimensions");
    }
}
END_TEST

START_TEST(two_tensors)
{
    static const struct pair_case {
        const char *name;
        uint64_t offset_a, offset_b;
        enum tlm_status status;
        const char *text;
    } cases[] = {
        {"b", 0, 64, TLM_OK, ""},
        {"b", 64, 0, TLM_OK, ""},
        {"b", 128, 0, TLM_OK, ""}, // a gap
        {"b", 0, 32, TLM_ERR_FORMAT,
         "tensor 'b': expected an offset behind the 64 bytes of tensor 'a' at 0, found 32"},
        {"b", 32, 0, TLM_ERR_FORMAT,
         "tensor 'a': expected an offset behind the 64 bytes of tensor 'b' at 0, found 32"},
        {"b", 64, 64, TLM_ERR_FORMAT, "expected an offset behind the 64 bytes"},
        {"a", 0, 64, TLM_ERR_FORMAT, "tensor 'a': expected once, found twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = {.size = 0};
        put_header(&b, 3, 2, 0);
        put_tensor(&b, "a", 16, 1, DTYPE_F32, cases[i].offset_a);
        put_tensor(&b, cases[i].name, 16, 1, DTYPE_F32, cases[i].offset_b);
        put_padding(&b, 32);
        put_zeros(&b, 256);
        expect(&b, cases[i].status, cases[i].text);
    }
}
END_TEST

// ---- damage -------------------------------------------------------------------------------------------

// The target checks itself: what opens is walked from end to end, what does not has one line of text.
static void smoke(const void *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, data, size);
    ck_assert_int_eq(fuzz_gguf(copy, size), 0);
    free(copy);
}

START_TEST(every_truncation)
{
    enum { PADDING = 29 }; // behind the last tensor, which has three bytes
    for (size_t size = 0; size <= sizeof golden_gguf; size++) {
        struct tlm_error err = {0};
        enum tlm_status status = open_copy(golden_gguf, size, &err);
        ck_assert_msg((status == TLM_OK) == (size >= sizeof golden_gguf - PADDING), "%zu: %s", size,
                      err.text);
        ck_assert(!status || status == TLM_ERR_FORMAT);
        smoke(golden_gguf, size);
    }
}
END_TEST

START_TEST(every_bit_flipped)
{
    uint8_t data[sizeof golden_gguf];
    memcpy(data, golden_gguf, sizeof data);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        smoke(data, sizeof data);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

START_TEST(many_bits_flipped)
{
    for (uint64_t round = 0; round < 5000; round++) {
        uint8_t data[sizeof golden_gguf];
        uint32_t r[4];
        memcpy(data, golden_gguf, sizeof data);
        rng_philox(1, round, 0, r);
        uint32_t flips = 2 + r[0] % 30;
        for (uint32_t i = 1; i <= flips; i++) {
            rng_philox(1, round, i, r);
            size_t at = 4 + r[0] % (sizeof data - 4); // a file without its magic would be refused at once
            if (r[1] % 4)
                data[at] ^= (uint8_t)(1 << r[2] % 8);
            else
                data[at] = (uint8_t)(r[3] % 2 ? 0xff : 0);
        }
        smoke(data, r[3] % 8 ? sizeof data : r[2] % sizeof data);
    }
}
END_TEST

TCase *tcase_gguf_hostile(void)
{
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, headers);
    tcase_add_test(t, files_that_are_no_files);
    tcase_add_test(t, values);
    tcase_add_test(t, string_array_says_more_than_there_are);
    tcase_add_test(t, nesting);
    tcase_add_test(t, names);
    tcase_add_test(t, alignments);
    tcase_add_test(t, tensors);
    tcase_add_test(t, dimensions);
    tcase_add_test(t, two_tensors);
    tcase_add_test(t, every_truncation);
    tcase_add_test(t, every_bit_flipped);
    tcase_add_test(t, many_bits_flipped);
    return t;
}
