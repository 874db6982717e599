// text/regex.c -- compiling and matching with PCRE2, and the text it is given.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <string.h>

#include "core/gguf.h"
#include "text/unicode_new.h"

// Steps and memory of one search. The expressions of real models take a few steps a character; a hostile one that
// backtracks without end stops here, after about a second.
enum { MATCH_LIMIT = 50 * 1000 * 1000, HEAP_LIMIT_KIB = 64 * 1024 };
enum { STACK_START = 64 * 1024, STACK_MAX = 64 * 1024 * 1024, PATTERN_MAX = 64 * 1024 };

struct regex {
    pcre2_code *code;
    bool jit;
    bool has_first;    // a match begins with one of these bytes, so that most searches end before they begin
    uint8_t first[32]; // a bit a byte
};

struct regex_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; // NULL until the machine's stack, of which the JIT takes 32 KiB, was too small
};

// PCRE2 knows for most expressions which bytes a match can begin with.
static void find_first(struct regex *r)
{
    uint32_t kind = 0, unit = 0;
    const uint8_t *bitmap = NULL;
    pcre2_pattern_info(r->code, PCRE2_INFO_FIRSTCODETYPE, &kind);
    if (kind == 1 && !pcre2_pattern_info(r->code, PCRE2_INFO_FIRSTCODEUNIT, &unit)) {
        r->first[unit / 8 & 31] |= (uint8_t)(1 << unit % 8);
        r->has_first = true;
    } else if (!pcre2_pattern_info(r->code, PCRE2_INFO_FIRSTBITMAP, &bitmap) && bitmap) {
        memcpy(r->first, bitmap, sizeof r->first);
        r->has_first = true;
    }
}

enum tlm_status regex_open(struct regex **out, const char *pattern, size_t length, bool literal,
                           struct tlm_error *err)
{
    *out = NULL;
    if (length > PATTERN_MAX)
        return error_set(err, TLM_ERR_FORMAT, "regular expression: expected at most %d bytes, found %zu",
                         PATTERN_MAX, length);
    char shown[256];
    gguf_printable((struct gguf_string){pattern, length}, shown, sizeof shown);
    bool bad = false, has_new;
    char *translated = NULL;
    if (regex_text(pattern, length, &has_new) != length)
        return error_set(err, TLM_ERR_FORMAT, "regular expression: expected UTF-8, found other bytes");
    if (!literal && memchr(pattern, '\0', length))
        return error_set(err, TLM_ERR_FORMAT, "regular expression: expected no zero byte");
    if (!literal) {
        translated = regex_translate(pattern, length, &bad);
        if (bad)
            return error_set(err, TLM_ERR_FORMAT, "regular expression: a bracket does not close: %s", shown);
    }
    struct regex *r = calloc(1, sizeof *r);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (r && context && (literal || translated)) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        // Oniguruma's ^ and $ are those of lines, whatever the options.
        uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
        r->code = pcre2_compile(literal ? (PCRE2_SPTR)pattern : (PCRE2_SPTR)translated,
                                literal ? length : PCRE2_ZERO_TERMINATED, options, &code, &at, context);
    }
    pcre2_compile_context_free(context);
    free(translated);
    if (r && r->code) {
        r->jit =
            !pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); // where it is refused, pcre2_match interprets
        find_first(r);
        *out = r;
        return TLM_OK;
    }
    free(r);
    if (!code) return error_set(err, TLM_ERR_MEMORY, "regular expression: no memory for %zu bytes", length);
    char text[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    return error_set(err, TLM_ERR_FORMAT, "regular expression: %s, at byte %zu of %s", text, (size_t)at,
                     shown);
}

void regex_close(struct regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    free(r);
}

struct regex_scratch *regex_scratch_open(void)
{
    struct regex_scratch *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->match = pcre2_match_data_create(1, NULL); // the whole match, no groups
    s->context = pcre2_match_context_create(NULL);
    if (!s->match || !s->context) {
        regex_scratch_close(s);
        return NULL;
    }
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
    return s;
}

void regex_scratch_close(struct regex_scratch *s)
{
    if (!s) return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

static int match(const struct regex *r, struct regex_scratch *s, const char *text, size_t bytes, size_t from)
{
    return (r->jit ? pcre2_jit_match : pcre2_match)(r->code, (PCRE2_SPTR)text, bytes, from,
                                                    PCRE2_NO_UTF_CHECK, s->match, s->context);
}

int regex_find(const struct regex *r, struct regex_scratch *s, const char *text, size_t bytes, size_t from,
               size_t *start, size_t *end)
{
    if (r->has_first) {
        for (; from < bytes; from++)
            if (r->first[(unsigned char)text[from] / 8] >> (unsigned char)text[from] % 8 & 1 &&
                (text[from] & 0xC0) != 0x80)
                break;
        if (from == bytes) return 0;
    }
    int found = match(r, s, text, bytes, from);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT && !s->stack) {
        s->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
        found = match(r, s, text, bytes, from);
    }
    if (found == PCRE2_ERROR_NOMATCH) return 0;
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
    // \K in a lookahead could put the start behind the end.
    if (found < 0 || range[0] > range[1] || range[0] < from) return -1;
    *start = range[0];
    *end = range[1];
    return 1;
}

// ---- text ---------------------------------------------------------------------------------------------

// Bytes of the character at s and its number, or 0 where s begins none (table 3-7 of the Unicode standard).
static size_t decode(const unsigned char *s, size_t left, uint32_t *point)
{
    uint32_t lead = s[0];
    size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                    : lead >= 0xE0 && lead <= 0xEF ? 3
                    : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                   : 0;
    if (!length || length > left) return 0;
    uint32_t p = lead & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        p = p << 6 | (s[i] & 0x3Fu);
    }
    if ((length == 3 && (p < 0x800 || (p >= 0xD800 && p <= 0xDFFF))) ||
        (length == 4 && (p < 0x10000 || p > 0x10FFFF)))
        return 0;
    *point = p;
    return length;
}

// The row of unicode_new that has the character, or NULL.
static const struct unicode_new *find_new(uint32_t point)
{
    size_t low = 0, high = sizeof unicode_new / sizeof *unicode_new;
    if (point < unicode_new[0].first || point > unicode_new[high - 1].last) return NULL;
    // Of what most texts are made of: Chinese, Japanese and Korean, punctuation.
    if ((point > 0x31EF && point < 0xA7CB) || (point > 0x1C8A && point < 0x2427) ||
        (point > 0xA7DC && point < 0x105C0))
        return NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (unicode_new[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    return unicode_new[low].first <= point ? &unicode_new[low] : NULL;
}

size_t regex_text(const char *text, size_t bytes, bool *has_new)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    *has_new = false;
    while (i < bytes) {
        uint64_t word;
        if (bytes - i >= 8 && (memcpy(&word, s + i, 8), !(word & 0x8080808080808080))) {
            i += 8;
        } else if (s[i] < 0x80) {
            i++;
        } else {
            uint32_t point;
            size_t length = decode(s + i, bytes - i, &point);
            if (!length) break;
            if (length > 2 && find_new(point)) *has_new = true;
            i += length;
        }
    }
    return i;
}

void regex_replace_new(char *text, size_t bytes)
{
    unsigned char *s = (unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        uint32_t point;
        size_t length = decode(s + i, bytes - i, &point);
        const struct unicode_new *row = length > 2 ? find_new(point) : NULL;
        if (row && length == 3) {
            s[i] = (unsigned char)(0xE0 | row->stand_in >> 12);
            s[i + 1] = (unsigned char)(0x80 | (row->stand_in >> 6 & 0x3F));
        } else if (row) {
            s[i] = (unsigned char)(0xF0 | row->stand_in >> 18);
            s[i + 1] = (unsigned char)(0x80 | (row->stand_in >> 12 & 0x3F));
            s[i + 2] = (unsigned char)(0x80 | (row->stand_in >> 6 & 0x3F));
        }
        if (row) s[i + length - 1] = (unsigned char)(0x80 | (row->stand_in & 0x3F));
        i += length ? length : 1;
    }
}
