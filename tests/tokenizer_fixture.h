// tests/tokenizer_fixture.h -- small vocabularies, right and wrong ones, as GGUF files in memory.
#ifndef TESTS_TOKENIZER_FIXTURE_H
#define TESTS_TOKENIZER_FIXTURE_H

#include <string.h>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

struct fixture_token {
    const char *text;
    float score;
    int32_t type;
};

struct fixture { // a file that is being written
    uint8_t data[32768];
    size_t size;
    uint64_t keys;
};

static inline void fixture_put(struct fixture *f, const void *data, size_t size)
{
    TLM_ASSERT(size <= sizeof f->data - f->size);
    memcpy(f->data + f->size, data, size);
    f->size += size;
}

static inline void fixture_put_string(struct fixture *f, const char *s, uint64_t length)
{
    fixture_put(f, &length, 8);
    fixture_put(f, s, length);
}

static inline void fixture_begin(struct fixture *f)
{
    uint32_t version = 3;
    uint64_t zero = 0;
    f->size = f->keys = 0;
    fixture_put(f, "GGUF", 4);
    fixture_put(f, &version, 4);
    fixture_put(f, &zero, 8); // tensors
    fixture_put(f, &zero, 8); // keys, known at the end
}

static inline void fixture_key(struct fixture *f, const char *key, uint32_t type)
{
    f->keys++;
    fixture_put_string(f, key, strlen(key));
    fixture_put(f, &type, 4);
}

static inline void fixture_string(struct fixture *f, const char *key, const char *value)
{
    fixture_key(f, key, GGUF_STRING);
    fixture_put_string(f, value, strlen(value));
}

static inline void fixture_u32(struct fixture *f, const char *key, uint32_t value)
{
    fixture_key(f, key, GGUF_U32);
    fixture_put(f, &value, 4);
}

static inline void fixture_bool(struct fixture *f, const char *key, bool value)
{
    uint8_t byte = value;
    fixture_key(f, key, GGUF_BOOL);
    fixture_put(f, &byte, 1);
}

static inline void fixture_array(struct fixture *f, const char *key, uint32_t item, uint64_t count)
{
    fixture_key(f, key, GGUF_ARRAY);
    fixture_put(f, &item, 4);
    fixture_put(f, &count, 8);
}

// The three arrays of a vocabulary: 256 byte tokens where `bytes`, then the given tokens.
static inline void fixture_tokens(struct fixture *f, bool bytes, const struct fixture_token *tokens,
                                  size_t count)
{
    uint64_t all = (bytes ? 256 : 0) + count;
    float zero = 0;
    int32_t byte_type = TOKEN_BYTE;
    fixture_array(f, "tokenizer.ggml.tokens", GGUF_STRING, all);
    for (unsigned b = 0; bytes && b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        fixture_put_string(f, name, 6);
    }
    for (size_t i = 0; i < count; i++) fixture_put_string(f, tokens[i].text, strlen(tokens[i].text));
    fixture_array(f, "tokenizer.ggml.scores", GGUF_F32, all);
    for (unsigned b = 0; bytes && b < 256; b++) fixture_put(f, &zero, 4);
    for (size_t i = 0; i < count; i++) fixture_put(f, &tokens[i].score, 4);
    fixture_array(f, "tokenizer.ggml.token_type", GGUF_I32, all);
    for (unsigned b = 0; bytes && b < 256; b++) fixture_put(f, &byte_type, 4);
    for (size_t i = 0; i < count; i++) fixture_put(f, &tokens[i].type, 4);
}

static inline void fixture_end(struct fixture *f)
{
    memcpy(f->data + 16, &f->keys, 8);
}

// A vocabulary whose every text comes back from its tokens: byte tokens, a few joins, user-defined tokens
// that overlap.
static inline void fixture_round_trip(struct fixture *f, bool adds_space, bool user_defined)
{
    static const struct fixture_token tokens[] = {
        {"<unk>", 0, TOKEN_UNKNOWN},     {"<s>", 0, TOKEN_CONTROL},         {"</s>", 0, TOKEN_CONTROL},
        {"\u2581", -1, TOKEN_NORMAL},    {"a", -2, TOKEN_NORMAL},           {"b", -2, TOKEN_NORMAL},
        {"ab", -1, TOKEN_NORMAL},        {"\u2581a", 0, TOKEN_NORMAL},      {"\u2581\u2581", 1, TOKEN_NORMAL},
        {"b\u2581a", 2, TOKEN_NORMAL},   {"\u00e9", 0, TOKEN_NORMAL},       {"\u00e9\u00e9", 1, TOKEN_NORMAL},
        {"\u65e5", 0, TOKEN_NORMAL},     {"\u65e5\u672c", 3, TOKEN_NORMAL}, {"\U0001f600", 0, TOKEN_NORMAL},
        {"bab", 0, TOKEN_USER_DEFINED},  {"aba", 0, TOKEN_USER_DEFINED},    {"a b", 0, TOKEN_USER_DEFINED},
        {"\n\n", 0, TOKEN_USER_DEFINED}, {"\n\n\n", 0, TOKEN_USER_DEFINED},
    };
    fixture_begin(f);
    fixture_string(f, "general.architecture", "llama");
    fixture_string(f, "tokenizer.ggml.model", "llama");
    fixture_tokens(f, true, tokens, sizeof tokens / sizeof *tokens - (user_defined ? 0 : 5));
    fixture_u32(f, "tokenizer.ggml.bos_token_id", 257);
    fixture_u32(f, "tokenizer.ggml.eos_token_id", 258);
    fixture_u32(f, "tokenizer.ggml.unknown_token_id", 256);
    fixture_bool(f, "tokenizer.ggml.add_space_prefix", adds_space);
    fixture_end(f);
}

// A byte-level vocabulary: a token a byte, a few joins, some of them across characters.
static inline void fixture_byte_level(struct fixture *f, const char *pre)
{
    static const char *const merges[][2] = {
        {"a", "b"},           {"\u0120", "a"},      {"ab", "a"},
        {"\u010a", "\u010a"}, {"\u0120", "\u0120"}, {"\u0120\u0120", "\u0120\u0120"},
        {"\u00e4", "\u00bd"}, {"\u00a0", "\u00e4"}, {"'", "s"},
        {"1", "2"},           {"12", "3"}};
    enum { MERGES = sizeof merges / sizeof *merges };
    char text[16];
    fixture_begin(f);
    fixture_string(f, "general.architecture", "llama");
    fixture_string(f, "tokenizer.ggml.model", "gpt2");
    fixture_string(f, "tokenizer.ggml.pre", pre);
    fixture_array(f, "tokenizer.ggml.tokens", GGUF_STRING, 256 + MERGES);
    for (unsigned b = 0; b < 256; b++) fixture_put_string(f, text, byte_alphabet_put(b, text));
    for (size_t i = 0; i < MERGES; i++) {
        snprintf(text, sizeof text, "%s%s", merges[i][0], merges[i][1]);
        fixture_put_string(f, text, strlen(text));
    }
    fixture_array(f, "tokenizer.ggml.merges", GGUF_STRING, MERGES);
    for (size_t i = 0; i < MERGES; i++) {
        snprintf(text, sizeof text, "%s %s", merges[i][0], merges[i][1]);
        fixture_put_string(f, text, strlen(text));
    }
    fixture_end(f);
}

#endif
