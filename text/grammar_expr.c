// text/grammar_expr.c -- see text/grammar_expr.h.
#include "text/grammar_expr.h"

#include <stdarg.h>
#include <string.h>

enum { LAST_CHAR = 0x10FFFF, SURROGATES = 0xD800, SURROGATES_END = 0xDFFF };

bool grammar_grow(void *items, int32_t *capacity, int64_t count, int64_t more, size_t size)
{
    void **p = items;
    if (count + more <= *capacity) return true;
    int64_t room = 2 * (count + more) + 16;
    if (room > INT32_MAX) return false;
    void *grown = reallocarray(*p, (size_t)room, size);
    if (!grown) return false;
    *p = grown;
    *capacity = (int32_t)room;
    return true;
}

enum tlm_status exprs_fail(struct grammar_exprs *x, enum tlm_status status, const char *format, ...)
{
    if (x->status) return x->status;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return x->status = error_set(&x->error, status, "%s: %s", x->what, text);
}

static bool no_memory(struct grammar_exprs *x)
{
    exprs_fail(x, TLM_ERR_MEMORY, "no memory for %d expressions", x->count);
    return false;
}

void exprs_open(struct grammar_exprs *x, const char *what)
{
    *x = (struct grammar_exprs){.what = what};
    if (grammar_grow(&x->items, &x->capacity, 0, 1, sizeof *x->items))
        x->items[x->count++] = (struct expr){.kind = EXPR_EMPTY};
    else
        no_memory(x);
    expr_rule(x, NULL, 0);
}

void exprs_close(struct grammar_exprs *x)
{
    free(x->items);
    free(x->ranges);
    free(x->texts);
    free(x->rules);
    *x = (struct grammar_exprs){0};
}

// ---- expressions ----------------------------------------------------------------------------------------

static int32_t add(struct grammar_exprs *x, struct expr e)
{
    if (x->status) return 0;
    if (x->count >= GRAMMAR_MAX_EXPRS) {
        exprs_fail(x, TLM_ERR_UNSUPPORTED, "expected at most %d parts, found more", GRAMMAR_MAX_EXPRS);
        return 0;
    }
    if (!grammar_grow(&x->items, &x->capacity, x->count, 1, sizeof e)) return no_memory(x);
    x->items[x->count] = e;
    return x->count++;
}

static bool add_text(struct grammar_exprs *x, const char *text, size_t bytes)
{
    if (bytes > GRAMMAR_MAX_TEXT || x->text_bytes > 16 * GRAMMAR_MAX_TEXT ||
        !grammar_grow(&x->texts, &x->text_capacity, x->text_bytes, (int64_t)bytes, 1))
        return no_memory(x);
    memcpy(x->texts + x->text_bytes, text, bytes);
    x->text_bytes += (int32_t)bytes;
    return true;
}

int32_t expr_bytes(struct grammar_exprs *x, const char *text, size_t bytes)
{
    if (x->status || !bytes || !add_text(x, text, bytes)) return 0;
    return add(
        x, (struct expr){.kind = EXPR_BYTES, .at = x->text_bytes - (int32_t)bytes, .count = (int32_t)bytes});
}

int32_t expr_class(struct grammar_exprs *x, const struct char_set *set)
{
    if (x->status) return 0;
    if (set->failed ||
        !grammar_grow(&x->ranges, &x->range_capacity, x->range_count, set->count, sizeof *x->ranges))
        return no_memory(x);
    struct expr e = {.kind = EXPR_CLASS, .at = x->range_count, .count = set->count};
    if (set->count) memcpy(x->ranges + x->range_count, set->items, (size_t)set->count * sizeof *set->items);
    x->range_count += set->count;
    return add(x, e);
}

int32_t expr_range(struct grammar_exprs *x, uint32_t low, uint32_t high)
{
    struct char_range r = {low, high};
    return expr_class(x, &(struct char_set){.items = &r, .count = 1});
}

int32_t expr_many(struct grammar_exprs *x, enum expr_kind kind)
{
    return add(x, (struct expr){.kind = kind});
}

int32_t expr_add(struct grammar_exprs *x, int32_t parent, int32_t child)
{
    if (x->status) return 0;
    if (!child) child = add(x, x->items[0]); // [0] has many parents
    if (x->status) return 0;
    struct expr *p = &x->items[parent];
    TLM_ASSERT(p->kind >= EXPR_LIST && p->kind <= EXPR_REPEAT && !x->items[child].next && child != parent);
    if (p->last)
        x->items[p->last].next = child;
    else
        p->first = child;
    p->last = child;
    return parent;
}

static int32_t pair(struct grammar_exprs *x, enum expr_kind kind, int32_t a, int32_t b)
{
    return expr_add(x, expr_add(x, expr_many(x, kind), a), b);
}

int32_t expr_list(struct grammar_exprs *x, int32_t a, int32_t b)
{
    return pair(x, EXPR_LIST, a, b);
}

int32_t expr_alt(struct grammar_exprs *x, int32_t a, int32_t b)
{
    return pair(x, EXPR_ALT, a, b);
}

int32_t expr_repeat(struct grammar_exprs *x, int32_t child, int64_t min, int64_t max)
{
    if (min > GRAMMAR_MAX_REPEAT || max > GRAMMAR_MAX_REPEAT) {
        exprs_fail(x, TLM_ERR_UNSUPPORTED, "expected at most %d repetitions, found %lld", GRAMMAR_MAX_REPEAT,
                   (long long)(max > min ? max : min));
        return 0;
    }
    if (max >= 0 && min > max) return expr_many(x, EXPR_ALT); // never
    return expr_add(x, add(x, (struct expr){.kind = EXPR_REPEAT, .min = (int32_t)min, .max = (int32_t)max}),
                    child);
}

int32_t expr_call(struct grammar_exprs *x, int32_t rule)
{
    return add(x, (struct expr){.kind = EXPR_CALL, .rule = rule});
}

int32_t expr_rule(struct grammar_exprs *x, const char *name, size_t bytes)
{
    if (x->status) return 0;
    if (x->rule_count >= GRAMMAR_MAX_RULES) {
        exprs_fail(x, TLM_ERR_UNSUPPORTED, "expected at most %d rules, found more", GRAMMAR_MAX_RULES);
        return 0;
    }
    if (!grammar_grow(&x->rules, &x->rule_capacity, x->rule_count, 1, sizeof *x->rules)) return no_memory(x);
    struct expr_rule r = {.place = -1, .name = x->text_bytes, .name_bytes = (int32_t)bytes};
    if (bytes && !add_text(x, name, bytes)) return 0;
    x->rules[x->rule_count] = r;
    return x->rule_count++;
}

void expr_define(struct grammar_exprs *x, int32_t rule, int32_t body)
{
    if (x->status) return;
    TLM_ASSERT(!x->rules[rule].body);
    x->rules[rule].body = expr_add(x, expr_many(x, EXPR_LIST), body);
}

// ---- sets of characters ---------------------------------------------------------------------------------

void set_add(struct char_set *s, uint32_t low, uint32_t high)
{
    if (s->failed || !grammar_grow(&s->items, &s->capacity, s->count, 1, sizeof *s->items)) {
        s->failed = true;
        return;
    }
    s->items[s->count++] = (struct char_range){low, high};
}

void set_add_all(struct char_set *s, const struct char_set *of)
{
    for (int32_t i = 0; i < of->count; i++) set_add(s, of->items[i].low, of->items[i].high);
    s->failed |= of->failed;
}

static int by_low(const void *a, const void *b)
{
    uint32_t x = ((const struct char_range *)a)->low, y = ((const struct char_range *)b)->low;
    return (x > y) - (x < y);
}

void set_sort(struct char_set *s)
{
    int32_t kept = 0;
    if (s->count) qsort(s->items, (size_t)s->count, sizeof *s->items, by_low);
    for (int32_t i = 0; i < s->count; i++) {
        struct char_range r = s->items[i];
        if (kept && r.low <= s->items[kept - 1].high + 1) {
            if (r.high > s->items[kept - 1].high) s->items[kept - 1].high = r.high;
        } else {
            s->items[kept++] = r;
        }
    }
    s->count = kept;
}

void set_negate(struct char_set *s)
{
    set_sort(s);
    struct char_set out = {.failed = s->failed};
    uint32_t at = 0;
    for (int32_t i = 0; i < s->count; i++) {
        if (s->items[i].low > at) set_add(&out, at, s->items[i].low - 1);
        at = s->items[i].high + 1;
    }
    if (at <= LAST_CHAR) set_add(&out, at, LAST_CHAR);
    set_free(s);
    *s = out;
}

bool set_has(const struct char_set *s, uint32_t c)
{
    for (int32_t i = 0; i < s->count; i++)
        if (s->items[i].low <= c && c <= s->items[i].high) return true;
    return false;
}

void set_remove(struct char_set *s, uint32_t low, uint32_t high)
{
    set_negate(s);
    set_add(s, low, high);
    set_negate(s);
}

void set_free(struct char_set *s)
{
    free(s->items);
    *s = (struct char_set){0};
}

// ---- UTF-8 ----------------------------------------------------------------------------------------------

int32_t utf8_read(const char *text, size_t bytes, size_t *length)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)text;
    *length = 1;
    if (!bytes) return -1;
    int more = p[0] < 0x80                   ? 0
               : p[0] >= 0xC0 && p[0] < 0xE0 ? 1
               : p[0] >= 0xE0 && p[0] < 0xF0 ? 2
               : p[0] >= 0xF0 && p[0] < 0xF8 ? 3
                                             : -1;
    if (more < 0 || (size_t)more >= bytes) return -1;
    uint32_t c = more ? p[0] & (0x3Fu >> more) : p[0];
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xC0) != 0x80) return -1;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < least[more] || c > LAST_CHAR || (c >= SURROGATES && c <= SURROGATES_END)) return -1;
    *length = (size_t)more + 1;
    return (int32_t)c;
}

int utf8_write(char out[4], uint32_t c)
{
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    for (int i = more; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(more ? (0xFF00u >> (more + 1) & 0xFF) | c : c);
    return more + 1;
}

// Cuts a range until all its characters have the same number of bytes, and in each byte either one value or, behind that, all.
static void split(uint32_t low, uint32_t high, void (*take)(void *user, const struct utf8_steps *),
                  void *user)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, LAST_CHAR};
    for (int i = 0; i < 4; i++) {
        if (low > ends[i]) continue;
        uint32_t top = high < ends[i] ? high : ends[i];
        for (int j = 1; j <= i; j++) {
            uint32_t mask = (1u << 6 * j) - 1;
            if ((low & ~mask) == (top & ~mask)) continue;
            if (low & mask) {
                split(low, low | mask, take, user);
                split((low | mask) + 1, high, take, user);
                return;
            }
            if ((top & mask) != mask) {
                split(low, (top & ~mask) - 1, take, user);
                split(top & ~mask, high, take, user);
                return;
            }
        }
        struct utf8_steps s;
        s.length = utf8_write((char *)s.low, low);
        utf8_write((char *)s.high, top);
        take(user, &s);
        if (top == high) return;
        low = top + 1;
    }
}

void utf8_split(uint32_t low, uint32_t high, void (*take)(void *user, const struct utf8_steps *), void *user)
{
    if (high > LAST_CHAR) high = LAST_CHAR;
    if (low < SURROGATES && low <= high) split(low, high < SURROGATES ? high : SURROGATES - 1, take, user);
    if (high > SURROGATES_END) split(low > SURROGATES_END ? low : SURROGATES_END + 1, high, take, user);
}
