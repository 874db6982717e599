// tests/fuzz_tokenizer.c -- bytes that begin like a GGUF file are a vocabulary, which opens or is refused
// with one line; all others are text, which must come back from its tokens.
#include "tests/tests.h"
#include "tests/tokenizer_fixture.h"

enum { PIECE_MAX = 65536 }; // longer than any token

// Encodes, and checks what holds for every vocabulary: a count that does not depend on the room, ids inside.
static int32_t *encode(const struct tokenizer *t, const char *text, size_t bytes, int flags, size_t *count)
{
    struct tlm_error err;
    size_t again;
    TLM_ASSERT(!tokenizer_encode(t, text, bytes, flags, NULL, 0, count, &err));
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    TLM_ASSERT(ids && !tokenizer_encode(t, text, bytes, flags, ids, *count, &again, &err) && again == *count);
    for (size_t i = 0; i < *count; i++) TLM_ASSERT(ids[i] >= 0 && ids[i] < tokenizer_size(t));
    return ids;
}

static void use_vocabulary(const uint8_t *data, size_t size)
{
    struct tlm_error err = {0};
    struct gguf *g;
    struct tokenizer *t;
    if (gguf_open_memory(&g, data, size, "fuzz", &err)) return;
    if (tokenizer_open(&t, g, &err)) {
        TLM_ASSERT(!t && err.code && err.text[0] && !strchr(err.text, '\n'));
        gguf_close(g);
        return;
    }
    char *piece = malloc(PIECE_MAX);
    TLM_ASSERT(piece);
    for (int32_t id = 0; id < tokenizer_size(t); id++) {
        size_t plain = tokenizer_piece(t, id, false, false, piece, PIECE_MAX);
        size_t special = tokenizer_piece(t, id, true, true, NULL, 0);
        TLM_ASSERT(plain < PIECE_MAX && special < PIECE_MAX && tokenizer_token(t, id).length < PIECE_MAX);
        (void)tokenizer_is_end(t, id);
    }
    size_t count, tail = size < 512 ? size : 512;
    static const char text[] = "Once upon  a time \xE2\x96\x81 \xFF</s>\n";
    free(encode(t, text, sizeof text - 1, TLM_ADD_BOS, &count));
    free(encode(t, (const char *)data + size - tail, tail, TLM_ADD_BOS | TLM_PARSE_SPECIAL, &count));
    free(piece);
    tokenizer_close(t);
    gguf_close(g);
}

// The bytes that stand for U+2581 come back as a space: the vocabulary makes no difference between the two.
static size_t replace_marks(char *text, size_t bytes)
{
    size_t out = 0;
    for (size_t i = 0; i < bytes; out++) {
        bool mark = bytes - i >= 3 && !memcmp(text + i, "\xE2\x96\x81", 3);
        text[out] = mark ? ' ' : text[i];
        i += mark ? 3 : 1;
    }
    return out;
}

// Through a byte-level vocabulary with a pre-tokenizer that the text chooses, any bytes come back.
static void byte_level_round_trip(const char *text, size_t bytes)
{
    static const char *const names[] = {
        "gpt-2", "llama-bpe", "gpt-4o", "deepseek-llm", "deepseek-v3", "falcon",     "bloom",    "chameleon",
        "youtu", "jais-2",    "afmoe",  "tiny_aya",     "kimi-k2",     "exaone-moe", "superbpe", "tekken"};
    struct tlm_error err;
    struct gguf *g;
    struct tokenizer *t;
    struct fixture file;
    fixture_byte_level(&file, names[bytes ? (unsigned char)text[0] % (sizeof names / sizeof *names) : 0]);
    TLM_ASSERT(!gguf_open_memory(&g, file.data, file.size, "fixture", &err) && !tokenizer_open(&t, g, &err));
    size_t count, length = 0;
    int32_t *ids = encode(t, text, bytes, 0, &count);
    char *decoded = malloc(bytes + 1);
    TLM_ASSERT(decoded);
    for (size_t i = 0; i < count; i++) {
        length += tokenizer_piece(t, ids[i], !i, false, decoded + length, bytes - length);
        TLM_ASSERT(length <= bytes);
    }
    TLM_ASSERT(length == bytes && (!bytes || !memcmp(decoded, text, bytes)));
    free(decoded);
    free(ids);
    tokenizer_close(t);
    gguf_close(g);
}

static void round_trip(const char *text, size_t bytes)
{
    struct tlm_error err;
    struct gguf *g;
    struct tokenizer *t;
    struct fixture file;
    fixture_round_trip(&file, false, true);
    TLM_ASSERT(!gguf_open_memory(&g, file.data, file.size, "fixture", &err) && !tokenizer_open(&t, g, &err));
    size_t count, length = 0;
    int32_t *ids = encode(t, text, bytes, 0, &count);
    char *expected = malloc(bytes + 1), *decoded = malloc(bytes + 1);
    TLM_ASSERT(expected && decoded);
    for (size_t i = 0; i < count; i++) {
        length += tokenizer_piece(t, ids[i], false, false, decoded + length, bytes - length);
        TLM_ASSERT(length <= bytes);
        TLM_ASSERT(utf8_complete(decoded, length) <= length && utf8_complete(decoded, length) + 3 >= length);
    }
    if (bytes) memcpy(expected, text, bytes);
    bytes = replace_marks(expected, bytes);
    TLM_ASSERT(length == bytes && !memcmp(decoded, expected, bytes));
    free(expected);
    free(decoded);
    free(ids);
    tokenizer_close(t);
    gguf_close(g);
}

int fuzz_tokenizer(const uint8_t *data, size_t size)
{
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        use_vocabulary(data, size);
    } else {
        round_trip((const char *)data, size);
        byte_level_round_trip((const char *)data, size);
    }
    return 0;
}
