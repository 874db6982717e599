// tests/fuzz_grammar.c -- any bytes are a grammar, a schema or a regular expression (the first byte says which): it compiles, and texts
// that its masks allow come to their ends within a budget; or it fails with one line.
#include <string.h>

#include "generate/constraint.h"
#include "tests/tests.h"

enum { VOCAB = 300 };

// All bytes, some texts of several, and a token that ends answers.
static size_t token_text(const void *user, int32_t token, char *text, size_t capacity)
{
    static const char *const texts[] = {"\": ",
                                        "\", \"",
                                        "true",
                                        "null",
                                        "{\"",
                                        "\"}",
                                        "}]",
                                        "the ",
                                        "ab",
                                        "abc",
                                        "aa",
                                        "00",
                                        "12",
                                        "\n    ",
                                        "\xC3\xA9",
                                        "\xE2\x82",
                                        "\xF0\x9F\x98\x80 x",
                                        "a\xE4"};
    (void)user;
    char byte = (char)token;
    const char *from = token < 256                                             ? &byte
                       : token - 256 < (int32_t)(sizeof texts / sizeof *texts) ? texts[token - 256]
                                                                               : "";
    size_t length = token < 256 ? 1 : strlen(from);
    if (capacity) memcpy(text, from, length < capacity ? length : capacity);
    return length;
}

static bool token_is_end(const void *user, int32_t token)
{
    (void)user;
    return token == VOCAB - 1;
}

static void walk(const struct tlm_grammar *g, const uint8_t *data, size_t size)
{
    struct constraint *c;
    TLM_ASSERT(!constraint_open(&c, g, NULL));
    int32_t least = constraint_least_tokens(c), budget = least < 1000 ? least + (int32_t)(size % 20) : 0,
            taken = 0;
    for (size_t at = 0; !constraint_is_over(c) && budget; at++) {
        const uint64_t *mask = constraint_mask(c, budget - taken);
        int32_t allowed[VOCAB], count = 0;
        for (int32_t t = 0; t < VOCAB; t++)
            if (mask[t / 64] >> t % 64 & 1) allowed[count++] = t;
        TLM_ASSERT(count > 0 && taken < budget);
        bool may_end = constraint_may_end(c);
        int32_t token = allowed[(size ? data[at % size] + at : at) % (size_t)count];
        TLM_ASSERT(!token_is_end(NULL, token) || may_end);
        TLM_ASSERT(constraint_accept(c, token));
        taken++;
    }
    constraint_close(c);
}

int fuzz_grammar(const uint8_t *data, size_t size)
{
    static const struct trie_vocab vocab = {VOCAB, token_text, token_is_end, NULL};
    struct tlm_error err = {0};
    struct grammar *g;
    struct tlm_grammar *ready;
    if (!size) return 0;
    if (grammar_open(&g, (enum tlm_grammar_kind)(data[0] % 3), (const char *)data + 1, size - 1, &err)) {
        TLM_ASSERT(!g && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    if (constraint_prepare(&ready, g, &vocab, &err)) {
        TLM_ASSERT(!ready && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    walk(ready, data + 1, size - 1);
    tlm_grammar_close(ready);
    return 0;
}
