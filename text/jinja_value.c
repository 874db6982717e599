// text/jinja_value.c -- the pool, failures, strings, lists, and what all values have: truth, length, type.
// lengths.
#include "text/jinja_value.h"

#include <stdarg.h>
#include <string.h>

enum { CHUNK = 1 << 16 };

void jinja_fail(struct jinja *j, enum tlm_status code, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++) { // a template's own text may get here
        if ((unsigned char)*c < 32 || *c == 127) *c = ' ';
    }
    error_set(j->err, code, "template line %d: %s", j->line, text);
    longjmp(j->failed, code);
}

void jinja_charge(struct jinja *j, int64_t work)
{
    j->steps_left -= work / 16 + 1;
    if (j->steps_left < 0)
        jinja_fail(j, TLM_ERR_MEMORY,
                   "the limit of steps is reached: expected a template that ends, found one that may not");
}

void jinja_enter(struct jinja *j)
{
    if (++j->depth > JINJA_MAX_DEPTH)
        jinja_fail(j, TLM_ERR_FORMAT, "expected at most %d levels of nesting and recursion, found more",
                   JINJA_MAX_DEPTH);
}

// ---- the pool -----------------------------------------------------------------------------------------

_Noreturn static void fail_memory(struct jinja *j)
{
    jinja_fail(j, TLM_ERR_MEMORY, "expected at most %.1f MiB of memory in use, found more",
               (double)j->arena.size / 0x1p20);
}

static size_t bytes_of(struct jinja *j, int64_t count, size_t item)
{
    if (count < 0 || (uint64_t)count > (j->arena.size - j->arena.used) / item) fail_memory(j);
    return align_up((size_t)count * item, 8);
}

void *pool_alloc(struct jinja *j, int64_t count, size_t item)
{
    size_t bytes = bytes_of(j, count, item);
    if (j->free && bytes <= (size_t)(j->end - j->free)) {
        void *p = j->free;
        j->free += bytes;
        return p;
    }
    size_t chunk = bytes > CHUNK / 4 ? bytes : CHUNK;
    if (align_up(chunk, ARENA_ALIGN) > j->arena.size - j->arena.used) fail_memory(j);
    char *p = arena_alloc(&j->arena, chunk);
    if (chunk == CHUNK && chunk != bytes) {
        j->free = p + bytes;
        j->end = p + chunk;
    }
    return p;
}

void *pool_grow(struct jinja *j, void *old, int64_t old_count, int64_t new_count, size_t item)
{
    size_t used = align_up((size_t)old_count * item, 8), wanted = bytes_of(j, new_count, item);
    if (old && (char *)old + used == j->free && wanted - used <= (size_t)(j->end - j->free)) {
        j->free += wanted - used;
        return old;
    }
    // A block of its own at the end of what the arena has handed out.
    char *top = j->arena.base + j->arena.used;
    if (old && used > CHUNK / 4 && (char *)old + align_up(used, ARENA_ALIGN) == top &&
        align_up(wanted, ARENA_ALIGN) - align_up(used, ARENA_ALIGN) <= j->arena.size - j->arena.used) {
        arena_alloc(&j->arena, align_up(wanted, ARENA_ALIGN) - align_up(used, ARENA_ALIGN));
        return old;
    }
    void *larger = pool_alloc(j, new_count, item);
    if (old_count) memcpy(larger, old, (size_t)old_count * item);
    return larger;
}

// ---- strings ------------------------------------------------------------------------------------------

struct value value_ascii(struct jinja *j, const char *text)
{
    int64_t n = (int64_t)strlen(text);
    uint32_t *s = pool_alloc(j, n, sizeof *s);
    for (int64_t i = 0; i < n; i++) s[i] = (unsigned char)text[i];
    return value_chars(s, n);
}

// Length of the well-formed UTF-8 character at s (table 3-7 of the Unicode standard), and the character; 0 if
// none.
static size_t decode(const unsigned char *s, size_t left, uint32_t *c)
{
    size_t n = *s < 0x80                  ? 1
               : *s >= 0xC2 && *s <= 0xDF ? 2
               : (*s & 0xF0) == 0xE0      ? 3
               : *s >= 0xF0 && *s <= 0xF4 ? 4
                                          : 0;
    if (!n || n > left) return 0;
    static const uint32_t lead[5] = {0, 0x7F, 0x1F, 0x0F, 0x07}, least[5] = {0, 0, 0x80, 0x800, 0x10000};
    *c = *s & lead[n];
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        *c = *c << 6 | (s[i] & 0x3F);
    }
    return *c < least[n] || *c > 0x10FFFF || (*c >= 0xD800 && *c <= 0xDFFF) ? 0 : n;
}

struct value value_utf8(struct jinja *j, const char *text, size_t bytes, uint32_t mark)
{
    if (bytes > SIZE_MAX / 8) fail_memory(j);
    const unsigned char *at = (const unsigned char *)text;
    int64_t count = 0;
    for (size_t i = 0; i < bytes; i++) count += (at[i] & 0xC0) != 0x80;
    uint32_t *s = pool_alloc(j, count, sizeof *s), c = 0;
    int64_t n = 0;
    for (size_t i = 0; i < bytes; n++) {
        size_t length = decode(at + i, bytes - i, &c);
        if (!length) FAIL(j, "expected UTF-8, found byte 0x%02x at offset %zu", at[i], i);
        s[n] = c | mark;
        i += length;
    }
    return value_chars(s, n);
}

bool chars_equal(const uint32_t *a, const uint32_t *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if ((a[i] ^ b[i]) & JINJA_CHAR) return false;
    }
    return true;
}

bool string_is(struct value v, const char *ascii)
{
    if (!is_string(v)) return false;
    for (int64_t i = 0; i < v.n; i++) {
        if ((v.s[i] & JINJA_CHAR) != (unsigned char)ascii[i] || !ascii[i]) return false;
    }
    return !ascii[v.n];
}

const char *value_show(struct value string, char *buffer, size_t size)
{
    size_t used = 0;
    for (int64_t i = 0; i < string.n; i++) {
        char bytes[4];
        size_t n = char_encode(string.s[i], bytes);
        if (used + n + 4 > size) {
            memcpy(buffer + used, "...", 3);
            used += 3;
            break;
        }
        memcpy(buffer + used, bytes, n);
        used += n;
    }
    buffer[used] = 0;
    return buffer;
}

void text_chars(struct jinja *j, struct text *t, const uint32_t *s, int64_t n)
{
    jinja_charge(j, n);
    if (n > t->capacity - t->count) {
        int64_t wanted = t->count + n, capacity = t->capacity ? t->capacity * 2 : 64;
        if (capacity < wanted) capacity = wanted;
        t->at = pool_grow(j, t->at, t->capacity, capacity, sizeof *t->at);
        t->capacity = capacity;
    }
    if (n) memcpy(t->at + t->count, s, (size_t)n * sizeof *s);
    t->count += n;
}

void text_put(struct jinja *j, struct text *t, uint32_t c)
{
    if (t->count < t->capacity)
        t->at[t->count++] = c;
    else
        text_chars(j, t, &c, 1);
}

void text_ascii(struct jinja *j, struct text *t, const char *s)
{
    while (*s) text_put(j, t, (unsigned char)*s++);
}

void text_add(struct jinja *j, struct text *t, struct value string)
{
    text_chars(j, t, string.s, string.n);
}

// ---- undefined ----------------------------------------------------------------------------------------

static struct value undefined_new(struct jinja *j, struct undefined u)
{
    struct undefined *p = pool_alloc(j, 1, sizeof *p);
    *p = u;
    return (struct value){.type = V_UNDEFINED, .undefined = p};
}

struct value value_undefined_name(struct jinja *j, struct value name)
{
    return undefined_new(j, (struct undefined){.name = name});
}

struct value value_undefined_attribute(struct jinja *j, struct value owner, struct value name)
{
    return undefined_new(j, (struct undefined){.name = name, .owner = type_name(owner)});
}

struct value value_undefined_hint(struct jinja *j, const char *hint)
{
    return undefined_new(j, (struct undefined){.hint = hint});
}

_Noreturn void undefined_fail(struct jinja *j, struct value v)
{
    const struct undefined *u = v.undefined;
    char name[100];
    if (u->hint) FAIL(j, "%s", u->hint);
    value_show(value_str(j, u->name), name, sizeof name);
    if (!u->owner) FAIL(j, "'%s' is undefined", name);
    FAIL(j, "%s has no %s '%s'", u->owner, is_string(u->name) ? "attribute" : "element", name);
}

// ---- lists --------------------------------------------------------------------------------------------

struct list *list_new(struct jinja *j, int64_t capacity)
{
    struct list *l = pool_alloc(j, 1, sizeof *l);
    *l = (struct list){.capacity = capacity, .items = pool_alloc(j, capacity, sizeof *l->items)};
    return l;
}

void list_push(struct jinja *j, struct list *l, struct value v)
{
    jinja_charge(j, 0);
    if (l->count == l->capacity) {
        int64_t capacity = l->capacity ? l->capacity * 2 : 8;
        l->items = pool_grow(j, l->items, l->capacity, capacity, sizeof *l->items);
        l->capacity = capacity;
    }
    l->items[l->count++] = v;
}

struct value value_list(struct list *l)
{
    return (struct value){.type = V_LIST, .list = l};
}

struct value value_tuple(struct list *l)
{
    return (struct value){.type = V_TUPLE, .list = l};
}

struct value value_pair(struct jinja *j, struct value a, struct value b)
{
    struct list *l = list_new(j, 2);
    list_push(j, l, a);
    list_push(j, l, b);
    return value_tuple(l);
}

// ---- truth, length, type ------------------------------------------------------------------------------

bool value_truth(struct value v)
{
    switch (v.type) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE: return false;
    case V_BOOL:
    case V_INT:
    case V_STRING: return v.n != 0;
    case V_FLOAT: return v.f != 0;
    case V_LIST:
    case V_TUPLE: return v.list->count != 0;
    case V_DICT:
    case V_VIEW: return v.dict->count != 0;
    case V_RANGE: return v.range->count != 0;
    default: return true;
    }
}

bool value_length(struct jinja *j, struct value v, int64_t *length)
{
    (void)j;
    switch (v.type) {
    case V_UNDEFINED: *length = 0; return true;
    case V_STRING: *length = v.n; return true;
    case V_LIST:
    case V_TUPLE: *length = v.list->count; return true;
    case V_DICT:
    case V_VIEW: *length = v.dict->count; return true;
    case V_RANGE: *length = v.range->count; return true;
    default: return false;
    }
}

const char *type_name(struct value v)
{
    static const char *const names[] = {
        [V_MISSING] = "missing",
        [V_UNDEFINED] = "Undefined",
        [V_NONE] = "None",
        [V_BOOL] = "'bool' object",
        [V_INT] = "'int' object",
        [V_FLOAT] = "'float' object",
        [V_STRING] = "'str' object",
        [V_LIST] = "'list' object",
        [V_TUPLE] = "'tuple' object",
        [V_DICT] = "'dict' object",
        [V_RANGE] = "'range' object",
        [V_VIEW] = "a view of a dict",
        [V_ITERATOR] = "'generator' object",
        [V_NAMESPACE] = "'Namespace' object",
        [V_MACRO] = "'Macro' object",
        [V_FUNCTION] = "a function",
        [V_METHOD] = "a method",
        [V_LOOP] = "'LoopContext' object",
        [V_CYCLER] = "'Cycler' object",
        [V_JOINER] = "'Joiner' object",
    };
    return names[v.type];
}
