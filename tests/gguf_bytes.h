// tests/gguf_bytes.h -- GGUF files put together by hand, right or wrong; opening and copying those that are
// right.
#ifndef TESTS_GGUF_BYTES_H
#define TESTS_GGUF_BYTES_H

#include <check.h>
#include <string.h>

#include "core/gguf.h"

struct bytes {
    uint8_t data[8192];
    size_t size;
};

static inline void put(struct bytes *b, const void *data, size_t size)
{
    ck_assert_uint_le(size, sizeof b->data - b->size);
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static inline void put_u8(struct bytes *b, uint8_t x)
{
    put(b, &x, sizeof x);
}

static inline void put_u32(struct bytes *b, uint32_t x)
{
    put(b, &x, sizeof x);
}

static inline void put_u64(struct bytes *b, uint64_t x)
{
    put(b, &x, sizeof x);
}

static inline void put_string(struct bytes *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_header(struct bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_keys);
}

// The name and the type; the value follows.
static inline void put_key(struct bytes *b, const char *name, uint32_t type)
{
    put_string(b, name);
    put_u32(b, type);
}

static inline void put_array(struct bytes *b, uint32_t item, uint64_t count)
{
    put_u32(b, item);
    put_u64(b, count);
}

// A matrix of ne1 rows of ne0 numbers.
static inline void put_tensor(struct bytes *b, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type,
                              uint64_t offset)
{
    put_string(b, name);
    put_u32(b, 2);
    put_u64(b, ne0);
    put_u64(b, ne1);
    put_u32(b, type);
    put_u64(b, offset);
}

// Zeros up to a multiple of `alignment`.
static inline void put_padding(struct bytes *b, size_t alignment)
{
    while (b->size % alignment) put_u8(b, 0);
}

static inline void put_zeros(struct bytes *b, size_t size)
{
    while (size--) put_u8(b, 0);
}

// ---- files that are right: what fails here fails the test ---------------------------------------------

static inline struct gguf *gguf_must_open(const char *path)
{
    struct gguf *g;
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_open(&g, path, &err), "%s", err.text);
    return g;
}

static inline struct gguf *gguf_must_open_memory(const void *data, size_t size)
{
    struct gguf *g;
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_open_memory(&g, data, size, "memory", &err), "%s", err.text);
    return g;
}

static inline struct gguf_writer *gguf_must_write(const char *path)
{
    struct gguf_writer *w;
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_writer_open(&w, path, &err), "%s", err.text);
    return w;
}

static inline void gguf_must_finish(struct gguf_writer *w)
{
    struct tlm_error err = {0};
    ck_assert_msg(!gguf_writer_finish(w, &err), "%s", err.text);
    gguf_writer_close(w);
}

static inline void gguf_expect_string(const struct gguf *g, const char *key, const char *text)
{
    struct gguf_string s = {0};
    ck_assert_int_eq(gguf_get_string(g, key, &s, NULL), TLM_OK);
    ck_assert_msg(gguf_string_is(s, text), "%s: expected '%s'", key, text);
}

// Copies an open file to `path`: all keys, all tensors.
static inline void gguf_rewrite(const struct gguf *g, const char *path)
{
    struct gguf_writer *w = gguf_must_write(path);
    struct tlm_error err = {0};
    for (uint64_t i = 0; i < g->key_count; i++) gguf_set_value(w, g->keys[i].name, &g->keys[i].value);
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)g->tensors[i].name.length, g->tensors[i].name.data);
        gguf_add_tensor(w, name, &g->tensors[i].tensor);
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        ck_assert_msg(!gguf_write_data(w, t->data, tensor_bytes(t), &err), "%s", err.text);
    }
    gguf_must_finish(w);
}

// Hand-made files that do harm: the part of suite_gguf() in tests/test_gguf_hostile.c.
TCase *tcase_gguf_hostile(void);
// What we write is read back: the part in tests/test_gguf_write.c.
TCase *tcase_gguf_write(void);

#endif
