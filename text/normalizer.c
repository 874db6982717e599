// text/normalizer.c -- the normalizers of tokenizer.json; Unicode's forms by utf8proc.
#include "text/normalizer.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

#include "text/charsmap.h"
#include "text/json_text.h"
#include "text/regex.h"

enum { STEPS_MAX = 32, DEPTH_MAX = 8 };

enum kind { FORM, LOWERCASE, STRIP, STRIP_ACCENTS, REPLACE, PREPEND, CHARSMAP };

struct step {
    enum kind kind;
    utf8proc_option_t form; // FORM
    bool left, right;       // STRIP
    struct regex *regex;    // REPLACE
    char *content;          // REPLACE, PREPEND
    size_t length;
    struct charsmap *charsmap;
};

struct normalizer {
    size_t count;
    struct step steps[STEPS_MAX];
};

struct text { // grows; `failed` once there was no memory
    char *data;
    size_t size, room;
    bool failed;
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->room - t->size < n) {
        size_t room = t->room + t->room / 2 + n + 64;
        char *data = t->failed ? NULL : realloc(t->data, room);
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->room = room;
    }
    if (n) memcpy(t->data + t->size, s, n);
    t->size += n;
}

// ---- reading ------------------------------------------------------------------------------------------

static enum tlm_status read_step(struct normalizer *n, const json_t *json, int depth, struct tlm_error *err);

static enum tlm_status read_sequence(struct normalizer *n, const json_t *json, int depth,
                                     struct tlm_error *err)
{
    const json_t *list = json_object_get(json, "normalizers"), *item;
    if (!json_is_array(list))
        return error_set(err, TLM_ERR_FORMAT, "normalizer: Sequence: expected an array \"normalizers\"");
    size_t i;
    json_array_foreach(list, i, item)
    {
        enum tlm_status status = read_step(n, item, depth + 1, err);
        if (status) return status;
    }
    return TLM_OK;
}

static enum tlm_status read_content(struct step *s, const json_t *text, const char *what,
                                    struct tlm_error *err)
{
    if (!json_is_string(text)) return error_set(err, TLM_ERR_FORMAT, "normalizer: %s: expected a text", what);
    s->length = json_string_length(text);
    s->content = malloc(s->length + 1);
    if (!s->content) return error_set(err, TLM_ERR_MEMORY, "normalizer: no memory for %zu bytes", s->length);
    memcpy(s->content, json_string_value(text), s->length);
    return TLM_OK;
}

static enum tlm_status read_replace(struct step *s, const json_t *json, struct tlm_error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *text = literal ? literal : regex;
    s->kind = REPLACE;
    if (!json_is_string(text) || !json_string_length(text))
        return error_set(err, TLM_ERR_FORMAT, "normalizer: Replace: expected a pattern, String or Regex");
    enum tlm_status status =
        regex_open(&s->regex, json_string_value(text), json_string_length(text), literal != NULL, err);
    return status ? status : read_content(s, json_object_get(json, "content"), "Replace", err);
}

static enum tlm_status read_step(struct normalizer *n, const json_t *json, int depth, struct tlm_error *err)
{
    static const struct {
        const char *name;
        int form;
    } forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    const char *type = json_string_value(json_object_get(json, "type"));
    if (!type) return error_set(err, TLM_ERR_FORMAT, "normalizer: expected an object with a \"type\"");
    if (depth > DEPTH_MAX || n->count == STEPS_MAX)
        return error_set(err, TLM_ERR_UNSUPPORTED, "normalizer: expected at most %d steps, %d deep",
                         STEPS_MAX, DEPTH_MAX);
    if (!strcmp(type, "Sequence")) return read_sequence(n, json, depth, err);
    struct step *s = &n->steps[n->count++];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(type, forms[i].name)) {
            s->form = (utf8proc_option_t)forms[i].form;
            return TLM_OK;
        }
    if (!strcmp(type, "Lowercase")) {
        s->kind = LOWERCASE;
    } else if (!strcmp(type, "StripAccents")) {
        s->kind = STRIP_ACCENTS;
    } else if (!strcmp(type, "Strip")) {
        s->kind = STRIP;
        s->left = json_is_true(json_object_get(json, "strip_left"));
        s->right = json_is_true(json_object_get(json, "strip_right"));
    } else if (!strcmp(type, "Replace")) {
        return read_replace(s, json, err);
    } else if (!strcmp(type, "Prepend")) {
        s->kind = PREPEND;
        return read_content(s, json_object_get(json, "prepend"), "Prepend", err);
    } else if (!strcmp(type, "Precompiled")) {
        const json_t *table = json_object_get(json, "precompiled_charsmap");
        s->kind = CHARSMAP;
        return charsmap_open_base64(&s->charsmap, json_string_value(table), json_string_length(table), err);
    } else {
        return error_set(err, TLM_ERR_UNSUPPORTED, "normalizer: expected a kind that is known, found \"%s\"",
                         json_shown(type).text);
    }
    return TLM_OK;
}

enum tlm_status normalizer_open(struct normalizer **out, const char *json, size_t length,
                                struct tlm_error *err)
{
    *out = NULL;
    json_t *root;
    enum tlm_status status = json_text_read(&root, json, length, "normalizer", err);
    if (status) return status;
    struct normalizer *n = calloc(1, sizeof *n);
    status = n ? read_step(n, root, 0, err) : error_set(err, TLM_ERR_MEMORY, "normalizer: no memory");
    json_decref(root);
    if (status)
        normalizer_close(n);
    else
        *out = n;
    return status;
}

enum tlm_status normalizer_open_nfc(struct normalizer **out, struct tlm_error *err)
{
    static const char nfc[] = "{\"type\":\"NFC\"}";
    return normalizer_open(out, nfc, sizeof nfc - 1, err);
}

void normalizer_close(struct normalizer *n)
{
    if (!n) return;
    for (size_t i = 0; i < n->count; i++) {
        regex_close(n->steps[i].regex);
        charsmap_close(n->steps[i].charsmap);
        free(n->steps[i].content);
    }
    free(n);
}

// ---- running ------------------------------------------------------------------------------------------

// The character at s, well-formed, and its length.
static int32_t point_at(const char *s, size_t left, size_t *length)
{
    utf8proc_int32_t point;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)left, &point);
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? point : 0xFFFD;
}

static void put_point(struct text *out, int32_t point)
{
    utf8proc_uint8_t bytes[4] = {0};
    put(out, (const char *)bytes, (size_t)utf8proc_encode_char(point, bytes));
}

// True where a Unicode form may change the character or join it to the one before it.
static bool may_change(int32_t point, utf8proc_option_t form)
{
    if (point < 0xA0 || (point < 0x300 && form == (UTF8PROC_STABLE | UTF8PROC_COMPOSE))) return false;
    if (point >= 0x1100 && point < 0x1200) return true; // Hangul letters, which join by rule
    if (point >= 0xAC00 && point < 0xD7A4) return form & UTF8PROC_DECOMPOSE;
    const utf8proc_property_t *p = utf8proc_get_property(point);
    bool is_mark = p->category == UTF8PROC_CATEGORY_MN || p->category == UTF8PROC_CATEGORY_MC;
    return is_mark || p->decomp_seqindex != UINT16_MAX; // what joins its left neighbour is a mark
}

// Only stretches that may change go through utf8proc: from the character before the first such one, which it may
// join, up to the next ASCII character, which joins nothing before it.
static void run_form(utf8proc_option_t form, const char *text, size_t bytes, struct text *out)
{
    size_t done = 0, previous = 0, length;
    for (size_t i = 0; i < bytes; previous = i, i += length) {
        if ((unsigned char)text[i] < 0x80) {
            length = 1;
            continue;
        }
        if (!may_change(point_at(text + i, bytes - i, &length), form)) continue;
        size_t start = previous > done ? previous : done, end = i + length;
        while (end < bytes && (unsigned char)text[end] >= 0x80) end++;
        put(out, text + done, start - done);
        utf8proc_uint8_t *mapped = NULL;
        utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text + start,
                                          (utf8proc_ssize_t)(end - start), &mapped, form);
        if (n < 0)
            out->failed = true;
        else
            put(out, (const char *)mapped, (size_t)n);
        free(mapped);
        done = i = end;
        length = 0;
    }
    put(out, text + done, bytes - done);
}

static void run_lowercase(const char *text, size_t bytes, struct text *out)
{
    size_t length;
    for (size_t i = 0; i < bytes; i += length) {
        int32_t point = point_at(text + i, bytes - i, &length);
        put_point(out, point == 0x130 ? 'i' : utf8proc_tolower(point));
        if (point == 0x130) put_point(out, 0x307); // the one letter whose lower case is two characters
    }
}

static void run_strip_accents(const char *text, size_t bytes, struct text *out)
{
    size_t length;
    for (size_t i = 0; i < bytes; i += length) {
        int category = utf8proc_category(point_at(text + i, bytes - i, &length));
        bool is_mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                       category == UTF8PROC_CATEGORY_ME;
        if (!is_mark) put(out, text + i, length);
    }
}

static bool is_space(int32_t point)
{
    return (point >= 9 && point <= 13) || point == 0x85 ||
           (utf8proc_category(point) >= UTF8PROC_CATEGORY_ZS &&
            utf8proc_category(point) <= UTF8PROC_CATEGORY_ZP);
}

static void run_strip(const struct step *s, const char *text, size_t bytes, struct text *out)
{
    size_t start = 0, end = bytes, length;
    while (s->left && start < end && is_space(point_at(text + start, end - start, &length))) start += length;
    while (s->right && start < end) {
        size_t last = end - 1;
        while (last > start && (text[last] & 0xC0) == 0x80) last--;
        if (!is_space(point_at(text + last, end - last, &length))) break;
        end = last;
    }
    put(out, text + start, end - start);
}

static enum tlm_status run_replace(const struct step *s, const char *text, size_t bytes, struct text *out,
                                   struct tlm_error *err)
{
    struct regex_scratch *scratch = regex_scratch_open();
    if (!scratch) out->failed = true;
    size_t at = 0, from = 0, a, b;
    int found = 0;
    while (scratch && from <= bytes &&
           (found = regex_find(s->regex, scratch, text, bytes, from, &a, &b)) > 0) {
        put(out, text + at, a - at);
        put(out, s->content, s->length);
        at = from = b;
        if (a == b) // an empty match: go on behind the next character
            for (from++; from < bytes && (text[from] & 0xC0) == 0x80; from++) {
            }
    }
    put(out, text + at, bytes - at);
    regex_scratch_close(scratch);
    return found < 0 ? error_set(err, TLM_ERR_UNSUPPORTED,
                                 "normalizer: an expression ran over its limits in %zu bytes", bytes)
                     : TLM_OK;
}

static enum tlm_status run_step(const struct step *s, const char *text, size_t bytes, bool first,
                                struct text *out, struct tlm_error *err)
{
    switch (s->kind) {
    case FORM: run_form(s->form, text, bytes, out); break;
    case LOWERCASE: run_lowercase(text, bytes, out); break;
    case STRIP_ACCENTS: run_strip_accents(text, bytes, out); break;
    case STRIP: run_strip(s, text, bytes, out); break;
    case REPLACE: return run_replace(s, text, bytes, out, err);
    case PREPEND:
        if (first && bytes) put(out, s->content, s->length);
        put(out, text, bytes);
        break;
    case CHARSMAP:
        for (size_t i = 0; i < bytes;) {
            const char *mapped;
            size_t length, taken = charsmap_find(s->charsmap, text + i, bytes - i, &mapped, &length);
            if (!taken) point_at(text + i, bytes - i, &taken), mapped = text + i, length = taken;
            put(out, mapped, length);
            i += taken;
        }
        break;
    }
    return TLM_OK;
}

// True where the step leaves ASCII text, which most texts are, as it is.
static bool keeps_ascii(const struct step *s)
{
    return s->kind == FORM || s->kind == STRIP_ACCENTS;
}

enum tlm_status normalizer_run(const struct normalizer *n, const char *text, size_t bytes, bool first,
                               char **out, size_t *out_bytes, struct tlm_error *err)
{
    *out = NULL;
    *out_bytes = bytes;
    char *current = NULL;
    for (size_t i = 0; i < n->count; i++) {
        const struct step *s = &n->steps[i];
        const char *source = current ? current : text;
        size_t high = 0;
        while (keeps_ascii(s) && high < *out_bytes && (unsigned char)source[high] < 0x80) high++;
        if (keeps_ascii(s) && high == *out_bytes) continue;
        struct text result = {0};
        put(&result, "", 0);
        enum tlm_status status = run_step(s, source, *out_bytes, first, &result, err);
        free(current);
        if (!status && result.failed)
            status = error_set(err, TLM_ERR_MEMORY, "normalizer: no memory for %zu bytes", bytes);
        if (status) {
            free(result.data);
            return status;
        }
        current = result.data;
        *out_bytes = result.size;
    }
    *out = current;
    return TLM_OK;
}
