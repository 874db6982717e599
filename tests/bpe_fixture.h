// tests/bpe_fixture.h -- tokenizers from the files of tests/golden, opened as a user's would be.
#ifndef TESTS_BPE_FIXTURE_H
#define TESTS_BPE_FIXTURE_H

#include <check.h>
#include <string.h>

#include "core/file.h"
#include "text/tokenizer.h"
#include "text/tokenizer_folder.h"

struct keys { // keys in memory, and the tokenizer over them
    struct vocabulary v;
    struct gguf *g;
    struct tokenizer *t;
};

// The keys of a tokenizer.json with the value of tokenizer.ggml.pre, and without the steps that the file writes out.
static inline enum tlm_status keys_open(struct keys *k, const char *json, size_t bytes, const char *pre,
                                        struct tlm_error *err)
{
    *k = (struct keys){0};
    struct vocabulary all;
    struct gguf *g;
    ck_assert(vocabulary_open(&all) && vocabulary_open(&k->v));
    enum tlm_status status = tokenizer_json_read(&all, json, bytes, NULL, err);
    ck_assert_msg(!status && !vocabulary_finish(&all, &g, err), "%s", err->text);
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens"),
                            *merges = gguf_find(g, "tokenizer.ggml.merges");
    const struct gguf_value *types = gguf_find(g, "tokenizer.ggml.token_type");
    struct gguf_string *texts;
    vocabulary_string(&k->v, "tokenizer.ggml.model", "gpt2", 4);
    vocabulary_string(&k->v, "tokenizer.ggml.pre", pre, strlen(pre));
    for (int i = 0; i < 2; i++) {
        const struct gguf_value *list = i ? merges : tokens;
        ck_assert(!gguf_value_strings(list, &texts, err));
        vocabulary_strings(&k->v, i ? "tokenizer.ggml.merges" : "tokenizer.ggml.tokens", list->count);
        for (uint64_t n = 0; n < list->count; n++) vocabulary_item(&k->v, texts[n].data, texts[n].length);
        free(texts);
    }
    vocabulary_array(&k->v, "tokenizer.ggml.token_type", GGUF_I32, types->data, types->count);
    gguf_close(g);
    vocabulary_close(&all);
    status = vocabulary_finish(&k->v, &k->g, err);
    return status ? status : tokenizer_open(&k->t, k->g, err);
}

static inline void keys_close(struct keys *k)
{
    tokenizer_close(k->t);
    gguf_close(k->g);
    vocabulary_close(&k->v);
}

static inline size_t parse_hex(const char *hex, char *out)
{
    size_t n = 0;
    unsigned byte;
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2) out[n++] = (char)byte;
    return n;
}

// The ids of a text as a line, "1,2,3" or "-".
static inline void ids_line(const struct tokenizer *t, const char *text, size_t bytes, int flags, char *line,
                            size_t room)
{
    static int32_t ids[1024];
    size_t count, at = 0;
    struct tlm_error err = {0};
    ck_assert_msg(!tokenizer_encode(t, text, bytes, flags, ids, 1024, &count, &err) && count <= 1024, "%s",
                  err.text);
    snprintf(line, room, "-");
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(line + at, room - at, i ? ",%d" : "%d", (int)ids[i]);
}

static inline char *read_golden(const char *name, size_t *size)
{
    char path[256], *data;
    struct tlm_error err = {0};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    ck_assert_msg(!file_read(path, &data, size, &err), "%s", err.text);
    return data;
}

#endif
