// text/jinja_dict.c -- equality and order of values, and dicts, which rest on them.
#include <string.h>

#include "text/jinja_value.h"

// ---- equality and order -------------------------------------------------------------------------------

static double number_of(struct value v)
{
    return v.type == V_FLOAT ? v.f : (double)v.n;
}

// Exact, unlike a comparison after rounding the integer to a double. NaN is neither: 2.
static int compare_int_float(int64_t i, double f)
{
    if (f != f) return 2;
    if (f >= 0x1p63) return -1;
    if (f < -0x1p63) return 1;
    int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_numbers(struct value a, struct value b)
{
    if (is_integer(a) && is_integer(b)) return a.n < b.n ? -1 : a.n > b.n;
    if (is_integer(a)) return compare_int_float(a.n, b.f);
    if (is_integer(b)) {
        int c = compare_int_float(b.n, a.f);
        return c == 2 ? 2 : -c;
    }
    return a.f != a.f || b.f != b.f ? 2 : a.f < b.f ? -1 : a.f > b.f;
}

static bool dicts_equal(struct jinja *j, const struct dict *a, const struct dict *b)
{
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++) {
        struct value *other = dict_find(j, b, a->entries[i].key);
        if (!other || !value_equal(j, a->entries[i].value, *other)) return false;
    }
    return true;
}

static bool lists_equal(struct jinja *j, const struct list *a, const struct list *b)
{
    if (a == b) return true;
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++) {
        if (!value_equal(j, a->items[i], b->items[i])) return false;
    }
    return true;
}

static bool ranges_equal(const struct range *a, const struct range *b)
{
    if (a->count != b->count) return false;
    return !a->count || (a->start == b->start && (a->count == 1 || a->step == b->step));
}

bool value_equal(struct jinja *j, struct value a, struct value b)
{
    jinja_charge(j, 0);
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return false;
    bool equal;
    jinja_enter(j);
    switch (a.type) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE: equal = true; break;
    case V_STRING:
        if (a.n == b.n) jinja_charge(j, a.n);
        equal = a.n == b.n && chars_equal(a.s, b.s, a.n);
        break;
    case V_LIST:
    case V_TUPLE: equal = lists_equal(j, a.list, b.list); break;
    case V_DICT: equal = dicts_equal(j, a.dict, b.dict); break;
    case V_RANGE: equal = ranges_equal(a.range, b.range); break;
    case V_VIEW: equal = a.view == b.view && a.view != VIEW_VALUES && dicts_equal(j, a.dict, b.dict); break;
    default: equal = a.dict == b.dict; break; // the same object
    }
    jinja_leave(j);
    return equal;
}

static int compare_strings(struct value a, struct value b)
{
    int64_t n = a.n < b.n ? a.n : b.n;
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = a.s[i] & JINJA_CHAR, y = b.s[i] & JINJA_CHAR;
        if (x != y) return x < y ? -1 : 1;
    }
    return a.n < b.n ? -1 : a.n > b.n;
}

// The result is 2 where a NaN is in play: then no order holds.
int value_compare(struct jinja *j, struct value a, struct value b, const char *op)
{
    jinja_charge(j, 0);
    if (is_number(a) && is_number(b)) return compare_numbers(a, b);
    if (a.type == V_UNDEFINED) undefined_fail(j, a);
    if (b.type == V_UNDEFINED) undefined_fail(j, b);
    if (a.type == V_STRING && b.type == V_STRING) {
        jinja_charge(j, a.n < b.n ? a.n : b.n);
        return compare_strings(a, b);
    }
    if ((a.type != V_LIST && a.type != V_TUPLE) || a.type != b.type)
        FAIL(j, "'%s' not supported between %s and %s", op, type_name(a), type_name(b));
    jinja_enter(j);
    const struct list *x = a.list, *y = b.list;
    int64_t n = x->count < y->count ? x->count : y->count, i = 0;
    while (i < n && value_equal(j, x->items[i], y->items[i])) i++;
    int order = i < n                 ? value_compare(j, x->items[i], y->items[i], op)
                : x->count < y->count ? -1
                                      : x->count > y->count;
    jinja_leave(j);
    return order;
}

// ---- dicts --------------------------------------------------------------------------------------------

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

bool value_hashable(struct jinja *j, struct value v)
{
    if (v.type == V_LIST || v.type == V_DICT || (v.type == V_VIEW && v.view != VIEW_VALUES)) return false;
    if (v.type != V_TUPLE) return true;
    bool hashable = true;
    jinja_enter(j);
    for (int64_t i = 0; i < v.list->count && hashable; i++) hashable = value_hashable(j, v.list->items[i]);
    jinja_leave(j);
    return hashable;
}

static uint64_t hash(struct jinja *j, struct value v)
{
    uint64_t h = v.type;
    jinja_charge(j, 0);
    if (is_number(v)) { // 1, 1.0 and True are one key
        double f = number_of(v) + 0.0;
        uint64_t bits;
        memcpy(&bits, &f, sizeof bits);
        return mix(0, bits == UINT64_C(0x8000000000000000) ? 0 : bits);
    }
    if (v.type == V_STRING) {
        jinja_charge(j, v.n);
        for (int64_t i = 0; i < v.n; i++) h = mix(h, v.s[i] & JINJA_CHAR);
    } else if (v.type == V_TUPLE) {
        jinja_enter(j);
        for (int64_t i = 0; i < v.list->count; i++) h = mix(h, hash(j, v.list->items[i]));
        jinja_leave(j);
    }
    return h; // of other types few ever meet in one dict
}

struct dict *dict_new(struct jinja *j)
{
    struct dict *d = pool_alloc(j, 1, sizeof *d);
    *d = (struct dict){0};
    return d;
}

static int64_t dict_seek(struct jinja *j, const struct dict *d, struct value key, uint64_t h)
{
    if (!d->index) {
        for (int64_t i = 0; i < d->count; i++) {
            if (d->entries[i].hash == h && value_equal(j, d->entries[i].key, key)) return i;
        }
        return -1;
    }
    for (uint64_t at = h & d->index_mask; d->index[at]; at = (at + 1) & d->index_mask) {
        jinja_charge(j, 0);
        const struct entry *e = &d->entries[d->index[at] - 1];
        if (e->hash == h && value_equal(j, e->key, key)) return d->index[at] - 1;
    }
    return -1;
}

struct value *dict_find(struct jinja *j, const struct dict *d, struct value key)
{
    int64_t i = dict_seek(j, d, key, hash(j, key));
    return i < 0 ? NULL : &d->entries[i].value;
}

static void index_put(struct dict *d, int64_t i)
{
    uint64_t at = d->entries[i].hash & d->index_mask;
    while (d->index[at]) at = (at + 1) & d->index_mask;
    d->index[at] = (uint32_t)(i + 1);
}

static void dict_grow(struct jinja *j, struct dict *d)
{
    enum { UNINDEXED = 8 };
    int64_t capacity = d->capacity ? d->capacity * 2 : 4;
    if (capacity > INT32_MAX) jinja_fail(j, TLM_ERR_MEMORY, "expected a dict of 32 bits, found a larger one");
    d->entries = pool_grow(j, d->entries, d->capacity, capacity, sizeof *d->entries);
    d->capacity = capacity;
    if (capacity <= UNINDEXED) return;
    d->index_mask = (uint64_t)capacity * 2 - 1;
    d->index = pool_alloc(j, capacity * 2, sizeof *d->index);
    memset(d->index, 0, (size_t)capacity * 2 * sizeof *d->index);
    for (int64_t i = 0; i < d->count; i++) index_put(d, i);
}

void dict_set(struct jinja *j, struct dict *d, struct value key, struct value v)
{
    if (!value_hashable(j, key)) FAIL(j, "%s cannot be a key: expected a hashable value", type_name(key));
    uint64_t h = hash(j, key);
    int64_t i = dict_seek(j, d, key, h);
    if (i >= 0) {
        d->entries[i].value = v;
        return;
    }
    if (d->count == d->capacity) dict_grow(j, d);
    d->entries[d->count++] = (struct entry){.key = key, .value = v, .hash = h};
    if (d->index) index_put(d, d->count - 1);
}

struct value value_dict(struct dict *d)
{
    return (struct value){.type = V_DICT, .dict = d};
}
