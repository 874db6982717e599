// text/charsmap.c -- SentencePiece's precompiled character map.
#include "text/charsmap.h"

#include <string.h>

struct charsmap {
    uint32_t *units;
    uint32_t unit_count;
    char *texts;
    size_t text_bytes; // the last of them is 0
};

enum tlm_status charsmap_open(struct charsmap **out, const void *data, size_t bytes, struct tlm_error *err)
{
    *out = NULL;
    uint32_t trie = 0;
    if (bytes >= 4) memcpy(&trie, data, 4);
    if (bytes < 4 || trie % 4 || trie > bytes - 4)
        return error_set(err, TLM_ERR_FORMAT, "character map: expected a trie of at most %zu bytes, found %u",
                         bytes, trie);
    struct charsmap *c = calloc(1, sizeof *c);
    if (c) {
        c->unit_count = trie / 4;
        c->text_bytes = bytes - 4 - trie;
        c->units = malloc(trie + 4);
        c->texts = malloc(c->text_bytes + 1);
    }
    if (!c || !c->units || !c->texts) {
        charsmap_close(c);
        return error_set(err, TLM_ERR_MEMORY, "character map: no memory for %zu bytes", bytes);
    }
    memcpy(c->units, (const char *)data + 4, trie);
    memcpy(c->texts, (const char *)data + 4 + trie, c->text_bytes);
    c->texts[c->text_bytes++] = '\0';
    *out = c;
    return TLM_OK;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

enum tlm_status charsmap_open_base64(struct charsmap **out, const char *text, size_t length,
                                     struct tlm_error *err)
{
    *out = NULL;
    uint8_t *data = malloc(length / 4 * 3 + 4);
    if (!data) return error_set(err, TLM_ERR_MEMORY, "character map: no memory for %zu bytes", length);
    size_t bytes = 0;
    uint32_t bits = 0, have = 0;
    bool good = text != NULL;
    for (size_t i = 0; good && i < length && text[i] != '='; i++) {
        int digit = base64_digit(text[i]);
        good = digit >= 0;
        bits = bits << 6 | (uint32_t)(digit & 63);
        have += 6;
        if (have >= 8) data[bytes++] = (uint8_t)(bits >> (have -= 8));
    }
    enum tlm_status status = good ? charsmap_open(out, data, bytes, err)
                                  : error_set(err, TLM_ERR_FORMAT, "character map: expected base64");
    free(data);
    return status;
}

void charsmap_close(struct charsmap *c)
{
    if (!c) return;
    free(c->units);
    free(c->texts);
    free(c);
}

static uint32_t offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

size_t charsmap_find(const struct charsmap *c, const char *text, size_t bytes, const char **mapped,
                     size_t *length)
{
    size_t best = 0;
    if (!c->unit_count) return 0;
    uint32_t at = offset(c->units[0]);
    for (size_t i = 0; i < bytes; i++) {
        unsigned byte = (unsigned char)text[i];
        at ^= byte;
        if (!byte || at >= c->unit_count) break;
        uint32_t unit = c->units[at];
        if ((unit & 0x800000FF) != byte) break;
        at ^= offset(unit);
        if (at >= c->unit_count) break;
        uint32_t place = c->units[at] & 0x7FFFFFFF;
        if (unit >> 8 & 1 && place < c->text_bytes) {
            best = i + 1;
            *mapped = c->texts + place;
            *length = strlen(*mapped);
        }
    }
    return best;
}
