// train/config_values.c -- values of a config as text: read into the fields of struct train_config, and written again.
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "core/gguf.h"
#include "train/config_keys.h"

static void *field(const struct train_config *c, const struct config_key *key)
{
    return (char *)c + key->offset;
}

// ---- strings ------------------------------------------------------------------------------------------

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// One character behind a backslash at *at, which moves past it; -1 where it is none that we know.
static int unescape(const char **at)
{
    static const char signs[] = "nrt\"\\;", values[] = "\n\r\t\"\\;";
    const char *found = **at ? strchr(signs, **at) : NULL;
    if (found) {
        ++*at;
        return values[found - signs];
    }
    int high, low;
    if (**at != 'x' || (high = hex_digit((*at)[1])) < 0 || (low = hex_digit((*at)[2])) < 0 || !(high | low))
        return -1;
    *at += 3;
    return 16 * high + low;
}

// Text in quotes from *at, which stands on the first, into `out`; *at moves behind the second. NULL, or what is wrong.
static const char *read_quoted(const char **at, char **out)
{
    for (++*at; **at != '"';) {
        int c = (unsigned char)*(*at)++;
        if (!c) return "text with a closing quote (a ; begins a comment where it is not written \\;)";
        if (c == '\\' && (c = unescape(at)) < 0) return "one of \\n \\r \\t \\\" \\\\ \\; \\xNN in quotes";
        *(*out)++ = (char)c;
    }
    ++*at;
    return NULL;
}

char *config_unquote(const char *text, const char **wrong)
{
    char *s = malloc(strlen(text) + 1), *end = s;
    *wrong = NULL;
    if (!s) return NULL;
    if (*text != '"') return strcpy(s, text);
    *wrong = read_quoted(&text, &end);
    if (!*wrong && *text) *wrong = "nothing behind the closing quote";
    *end = 0;
    if (!*wrong) return s;
    free(s);
    return NULL;
}

static void free_words(struct config_words *w)
{
    for (size_t i = 0; i < w->count; i++) free(w->items[i]);
    free(w->items);
    *w = (struct config_words){0};
}

// Words apart by blanks, those in quotes with blanks inside. *wrong as in config_unquote(); false after a failure.
static bool read_words(struct config_words *w, const char *text, const char **wrong)
{
    *w = (struct config_words){.items = calloc(strlen(text) / 2 + 1, sizeof *w->items)};
    *wrong = NULL;
    while (w->items && !*wrong) {
        while (is_blank(*text)) text++;
        if (!*text) return true;
        char *word = malloc(strlen(text) + 1), *end = word;
        if (!word) break;
        if (*text == '"')
            *wrong = read_quoted(&text, &end);
        else
            while (*text && !is_blank(*text)) *end++ = *text++;
        if (!*wrong && *text && !is_blank(*text)) *wrong = "a blank behind the closing quote";
        *end = 0;
        w->items[w->count++] = word;
    }
    free_words(w);
    return false;
}

// ---- reading ------------------------------------------------------------------------------------------

const char *config_printable(const char *text, char *buffer, size_t size)
{
    return gguf_printable((struct gguf_string){text, strlen(text)}, buffer, size);
}

static enum tlm_status refuse(const struct config_key *key, const char *expected, const char *found,
                              struct tlm_error *err)
{
    char shown[80];
    return error_set(err, TLM_ERR_ARGUMENT, "%s.%s: expected %s, found '%s'", key->section, key->name,
                     expected, config_printable(found, shown, sizeof shown));
}

static enum tlm_status no_memory(const struct config_key *key, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "%s.%s: no memory for its value", key->section, key->name);
}

static enum tlm_status set_number(struct train_config *c, const struct config_key *key, const char *text,
                                  struct tlm_error *err)
{
    const double whole_limit = 0x1p53; // whole numbers beyond it are not all doubles
    bool integer = key->kind == CONFIG_INTEGER;
    char expected[96];
    const char *what = integer ? "a whole number" : "a number";
    if (isinf(key->high))
        snprintf(expected, sizeof expected, "%s of at least %.15g", what, key->low);
    else
        snprintf(expected, sizeof expected, "%s from %.15g to %.15g", what, key->low, key->high);
    char *end;
    double x = strtod(text, &end);
    bool decimal =
        *text && !text[strspn(text, "0123456789+-.eE")]; // not what else strtod takes: hex, inf, blanks
    if (!decimal || *end || !isfinite(x) || x < key->low || x > key->high ||
        (integer && (x != floor(x) || x > whole_limit)))
        return refuse(key, expected, text, err);
    if (integer)
        *(int64_t *)field(c, key) = (int64_t)x;
    else
        *(double *)field(c, key) = x;
    return TLM_OK;
}

static enum tlm_status set_seed(struct train_config *c, const struct config_key *key, const char *text,
                                struct tlm_error *err)
{
    errno = 0;
    uint64_t seed = strtoull(text, NULL, 10);
    if (!*text || text[strspn(text, "0123456789")] || errno)
        return refuse(key, "a whole number from 0 to 2^64 - 1", text, err);
    *(uint64_t *)field(c, key) = seed;
    return TLM_OK;
}

static enum tlm_status set_choice(struct train_config *c, const struct config_key *key, const char *text,
                                  struct tlm_error *err)
{
    char expected[96] = "one of";
    for (int i = 0; key->choices[i]; i++) {
        if (!strcmp(key->choices[i], text)) {
            *(int *)field(c, key) = i;
            return TLM_OK;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s %s", i ? "," : "", key->choices[i]);
    }
    return refuse(key, expected, text, err);
}

enum tlm_status config_value_set(struct train_config *c, const struct config_key *key, const char *text,
                                 struct tlm_error *err)
{
    const char *wrong;
    switch (key->kind) {
    case CONFIG_INTEGER:
    case CONFIG_NUMBER: return set_number(c, key, text, err);
    case CONFIG_SEED: return set_seed(c, key, text, err);
    case CONFIG_CHOICE: return set_choice(c, key, text, err);
    case CONFIG_TEXT: {
        char *s = config_unquote(text, &wrong), **to = field(c, key);
        if (!s) return wrong ? refuse(key, wrong, text, err) : no_memory(key, err);
        free(*to);
        *to = *s ? s : NULL;
        if (!*s) free(s);
        return TLM_OK;
    }
    case CONFIG_WORDS: {
        struct config_words words, *to = field(c, key);
        if (!read_words(&words, text, &wrong))
            return wrong ? refuse(key, wrong, text, err) : no_memory(key, err);
        free_words(to);
        *to = words;
        return TLM_OK;
    }
    }
    return TLM_OK;
}

bool config_value_empty(const struct train_config *c, const struct config_key *key)
{
    const void *p = field(c, key);
    switch (key->kind) {
    case CONFIG_INTEGER: return *(const int64_t *)p == 0;
    case CONFIG_NUMBER: return *(const double *)p == 0;
    case CONFIG_TEXT: return !*(char *const *)p;
    case CONFIG_WORDS: return !((const struct config_words *)p)->count;
    case CONFIG_SEED:
    case CONFIG_CHOICE: break;
    }
    return false;
}

void config_value_free(struct train_config *c, const struct config_key *key)
{
    if (key->kind == CONFIG_WORDS) free_words(field(c, key));
    if (key->kind != CONFIG_TEXT) return;
    char **text = field(c, key);
    free(*text);
    *text = NULL;
}

// ---- writing ------------------------------------------------------------------------------------------

void config_text_add(struct config_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t length = (size_t)vsnprintf(NULL, 0, format, args);
    if (!t->failed && t->capacity - t->length <= length) {
        size_t capacity = 2 * (t->length + length) + 256;
        char *data = realloc(t->data, capacity);
        t->failed = !data;
        if (data) t->data = data, t->capacity = capacity;
    }
    if (!t->failed) t->length += (size_t)vsnprintf(t->data + t->length, length + 1, format, again);
    va_end(again);
    va_end(args);
}

// inih takes lines of 197 bytes. A line that ends with a backslash goes on in the next one, without a blank between.
enum { LINE_BYTES = 150, UNQUOTED_BYTES = 100 };

struct line {
    struct config_text *text;
    size_t start; // where the last line begins
};

static void add_quoted(struct line *l, const char *s)
{
    static const char signs[] = "\n\r\t\"\\;", letters[] = "nrt\"\\;";
    config_text_add(l->text, "\"");
    while (*s) {
        bool full = l->text->length - l->start > LINE_BYTES;
        if (full) {
            config_text_add(l->text, "\\\n    ");
            l->start = l->text->length - 4;
        }
        const char *sign = strchr(signs, *s);
        int n = 1;
        if (sign)
            config_text_add(l->text, "\\%c", letters[sign - signs]);
        else if ((unsigned char)*s < ' ' ||
                 (full && (*s == ' ' || *s == '#'))) // which a line does not begin with
            config_text_add(l->text, "\\x%02x", (unsigned)(unsigned char)*s);
        else {
            while (n < 4 && ((unsigned char)s[n] & 0xc0) == 0x80)
                n++; // a character of UTF-8 stays in one line
            config_text_add(l->text, "%.*s", n, s);
        }
        s += n;
    }
    config_text_add(l->text, "\"");
}

// Would the string, as it stands, be read as something else?
static bool needs_quotes(const char *s, bool word)
{
    size_t n = strlen(s);
    if (!n) return word;
    if (n > UNQUOTED_BYTES || is_blank(s[0]) || is_blank(s[n - 1]) || s[0] == '"' || s[0] == '#') return true;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == ';' || *s == '\\' || (word && (*s == ' ' || *s == '"')))
            return true;
    return false;
}

static void add_string(struct line *l, const char *s, bool word)
{
    if (needs_quotes(s, word))
        add_quoted(l, s);
    else
        config_text_add(l->text, "%s", s);
}

static void add_words(struct line *l, const struct config_words *w)
{
    for (size_t i = 0; i < w->count; i++) {
        if (i && l->text->length - l->start > LINE_BYTES - UNQUOTED_BYTES) {
            config_text_add(l->text, "\n    ");
            l->start = l->text->length - 4;
        } else if (i) {
            config_text_add(l->text, " ");
        }
        add_string(l, w->items[i], true);
    }
}

// With the fewest digits that give the same number again.
static void add_number(struct config_text *t, double x)
{
    char digits[32];
    int precision = 1;
    do snprintf(digits, sizeof digits, "%.*g", precision, x);
    while (strtod(digits, NULL) != x && ++precision <= 17);
    config_text_add(t, "%s", digits);
}

void config_value_write(struct config_text *t, const struct train_config *c, const struct config_key *key)
{
    struct line l = {t, t->length};
    const void *p = field(c, key);
    config_text_add(t, "%s =", key->name);
    if (!config_value_empty(c, key) || key->kind == CONFIG_INTEGER || key->kind == CONFIG_NUMBER)
        config_text_add(t, " ");
    switch (key->kind) {
    case CONFIG_INTEGER: config_text_add(t, "%" PRId64, *(const int64_t *)p); break;
    case CONFIG_NUMBER: add_number(t, *(const double *)p); break;
    case CONFIG_SEED: config_text_add(t, "%" PRIu64, *(const uint64_t *)p); break;
    case CONFIG_CHOICE: config_text_add(t, "%s", key->choices[*(const int *)p]); break;
    case CONFIG_TEXT:
        if (*(char *const *)p) add_string(&l, *(char *const *)p, false);
        break;
    case CONFIG_WORDS: add_words(&l, p); break;
    }
    config_text_add(t, "\n");
}

void config_pair_write(struct config_text *t, const char *key, const char *value)
{
    struct line l = {t, t->length};
    config_text_add(t, "%s = ", key);
    add_string(&l, value, false);
    config_text_add(t, "\n");
}
