// text/jinja_object.c -- what values can do for expressions: attributes, items, slices, membership,
// iteration, calls.
//
// jinja2's a.b asks Python for the attribute first and for the item a["b"] then; a[b] the other way around.
// Neither fails: what isn't there is undefined. The sandbox turns attributes that begin with an underscore,
// and methods that would change a list or a dict, into an undefined that fails when it is called.
#include <string.h>

#include "text/jinja_eval.h"

// ---- attributes and items -----------------------------------------------------------------------------

static struct value method_new(struct jinja *j, struct value self, const struct builtin *b)
{
    struct method *m = pool_alloc(j, 1, sizeof *m);
    *m = (struct method){self, b};
    return (struct value){.type = V_METHOD, .method = m};
}

static bool is_mutating(struct value owner, struct value name)
{
    static const char *const of_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                          "sort",   "extend", "remove", NULL};
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *const *names = owner.type == V_LIST ? of_list : owner.type == V_DICT ? of_dict : NULL;
    for (; names && *names; names++) {
        if (string_is(name, *names)) return true;
    }
    return false;
}

// What Python's getattr() finds; missing where it would raise AttributeError.
static struct value python_attribute(struct jinja *j, struct value owner, struct value name)
{
    if (owner.type == V_NAMESPACE) {
        struct value *v = dict_find(j, owner.dict, name);
        return v ? *v : value_missing();
    }
    if (owner.type == V_UNDEFINED) undefined_fail(j, owner);
    if (owner.type == V_TUPLE && owner.safe) { // of groupby
        if (string_is(name, "grouper")) return owner.list->items[0];
        if (string_is(name, "list")) return owner.list->items[1];
    }
    if (is_mutating(owner, name) || (name.n > 1 && name.s[0] == '_' && name.s[1] == '_'))
        return value_undefined_hint(
            j, "access to an attribute that begins with '_' or changes its object is unsafe");
    const struct builtin *b = method_find(owner, name);
    return b ? method_new(j, owner, b) : object_attribute(j, owner, name);
}

// owner[key] as Python would find it; missing where it would raise TypeError or LookupError.
static struct value python_item(struct jinja *j, struct value owner, struct value key)
{
    struct list *l = owner.list;
    if (owner.type == V_UNDEFINED) undefined_fail(j, owner);
    if (owner.type == V_DICT) {
        struct value *v = value_hashable(j, key) ? dict_find(j, owner.dict, key) : NULL;
        return v ? *v : value_missing();
    }
    int64_t length = 0;
    bool indexed =
        owner.type == V_LIST || owner.type == V_TUPLE || owner.type == V_STRING || owner.type == V_RANGE;
    if (!indexed || !is_integer(key)) return value_missing();
    value_length(j, owner, &length);
    int64_t at = key.n < 0 ? key.n + length : key.n;
    if (at < 0 || at >= length) return value_missing();
    if (owner.type == V_STRING) return string_slice(owner, at, at + 1);
    if (owner.type == V_RANGE) return value_int(owner.range->start + at * owner.range->step);
    return l->items[at];
}

struct value value_attribute(struct jinja *j, struct value owner, struct value name)
{
    struct value v = python_attribute(j, owner, name);
    if (!is_given(v)) v = python_item(j, owner, name);
    return is_given(v) ? v : value_undefined_attribute(j, owner, name);
}

struct value value_item(struct jinja *j, struct value owner, struct value key)
{
    struct value v = python_item(j, owner, key);
    if (!is_given(v) && is_string(key)) v = python_attribute(j, owner, key);
    return is_given(v) ? v : value_undefined_attribute(j, owner, key);
}

struct value string_slice(struct value s, int64_t from, int64_t to)
{
    if (from > s.n) from = s.n;
    if (to > s.n) to = s.n;
    struct value v = value_chars(s.n ? s.s + from : s.s, to > from ? to - from : 0);
    v.safe = s.safe;
    return v;
}

// A bound of a slice, brought into [low, high].
static int64_t slice_bound(struct jinja *j, struct value v, int64_t otherwise, int64_t length, int64_t low,
                           int64_t high)
{
    if (v.type == V_NONE) return otherwise;
    if (v.type == V_UNDEFINED) undefined_fail(j, v);
    if (!is_integer(v)) FAIL(j, "expected integers or none as bounds of a slice, found %s", type_name(v));
    int64_t n = v.n < 0 ? v.n + length : v.n;
    return n < low ? low : n > high ? high : n;
}

static struct value slice_range(struct jinja *j, const struct range *r, int64_t from, int64_t to,
                                int64_t step, int64_t n)
{
    struct range *out = pool_alloc(j, 1, sizeof *out);
    int64_t new_step;
    if (__builtin_mul_overflow(r->step, step, &new_step))
        FAIL(j, "expected a step of 64 bits, found a larger one");
    // The bounds may lie one step outside of 64 bits, where nobody reads them.
    uint64_t first = (uint64_t)r->start + (uint64_t)from * (uint64_t)r->step;
    uint64_t last = (uint64_t)r->start + (uint64_t)to * (uint64_t)r->step;
    *out = (struct range){(int64_t)first, (int64_t)last, new_step, n};
    return (struct value){.type = V_RANGE, .range = out};
}

struct value value_slice(struct jinja *j, struct value owner, struct value start, struct value stop,
                         struct value step_value)
{
    int64_t length = 0, step = 1;
    if (owner.type == V_UNDEFINED) undefined_fail(j, owner);
    if (owner.type != V_STRING && owner.type != V_LIST && owner.type != V_TUPLE && owner.type != V_RANGE)
        FAIL(j, "expected a string or a list to slice, found %s", type_name(owner));
    value_length(j, owner, &length);
    if (step_value.type != V_NONE) step = slice_bound(j, step_value, 1, 0, INT64_MIN, INT64_MAX);
    if (!step) FAIL(j, "expected a step of a slice other than zero, found zero");
    bool back = step < 0;
    int64_t low = back ? -1 : 0, high = back ? length - 1 : length;
    int64_t from = slice_bound(j, start, back ? high : low, length, low, high);
    int64_t to = slice_bound(j, stop, back ? low : high, length, low, high);
    int64_t distance = back ? from - to : to - from, n = 0;
    // -step as unsigned: the most negative integer has no positive counterpart.
    uint64_t stride = back ? -(uint64_t)step : (uint64_t)step;
    if (distance > 0) n = (int64_t)(((uint64_t)distance - 1) / stride) + 1;
    if (owner.type == V_RANGE) return slice_range(j, owner.range, from, to, step, n);
    if (owner.type == V_STRING && step == 1) return string_slice(owner, from, from + n);
    jinja_charge(j, n);
    if (owner.type == V_STRING) {
        uint32_t *s = pool_alloc(j, n, sizeof *s);
        for (int64_t i = 0; i < n; i++) s[i] = owner.s[from + i * step];
        return value_chars(s, n);
    }
    struct list *l = list_new(j, n);
    for (int64_t i = 0; i < n; i++) list_push(j, l, owner.list->items[from + i * step]);
    return owner.type == V_LIST ? value_list(l) : value_tuple(l);
}

// ---- iteration ----------------------------------------------------------------------------------------

bool is_iterable(struct value v)
{
    switch (v.type) {
    case V_UNDEFINED:
    case V_STRING:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_RANGE:
    case V_VIEW:
    case V_ITERATOR:
    case V_LOOP: return true;
    default: return false;
    }
}

static bool next_item(struct jinja *j, struct iterator *it, struct value *out)
{
    struct value v = it->source;
    int64_t length = 0, i = it->at;
    value_length(j, v, &length);
    if (i >= length) return false;
    it->at++;
    const struct entry *e = v.type == V_DICT || v.type == V_VIEW ? &v.dict->entries[i] : NULL;
    switch (v.type) {
    case V_STRING: *out = value_chars(v.s + i, 1); break; // of a safe string, too, a plain one
    case V_RANGE: *out = value_int(v.range->start + i * v.range->step); break;
    case V_DICT: *out = e->key; break;
    case V_VIEW:
        *out = v.view == VIEW_KEYS     ? e->key
               : v.view == VIEW_VALUES ? e->value
                                       : value_pair(j, e->key, e->value);
        break;
    default: *out = v.list->items[i]; break;
    }
    return true;
}

struct iterator *iterator_of(struct jinja *j, struct value v)
{
    if (v.type == V_ITERATOR) return v.iterator;
    if (!is_iterable(v) || v.type == V_LOOP)
        FAIL(j, "expected something to iterate over, found %s", type_name(v));
    struct iterator *it = pool_alloc(j, 1, sizeof *it);
    *it = (struct iterator){.next = next_item, .source = v};
    return it;
}

struct value value_iterator(struct iterator *it)
{
    return (struct value){.type = V_ITERATOR, .iterator = it};
}

struct list *list_of(struct jinja *j, struct value v)
{
    struct list *l = list_new(j, 0);
    struct iterator *it = iterator_of(j, v);
    struct value item;
    while (iterator_next(j, it, &item)) list_push(j, l, item);
    return l;
}

bool value_contains(struct jinja *j, struct value container, struct value item)
{
    if (container.type == V_STRING) {
        if (item.type == V_UNDEFINED || !is_string(item))
            FAIL(j, "'in <string>' expected a string on its left, found %s", type_name(item));
        return string_find(j, container, item, 0, container.n) >= 0;
    }
    if (container.type == V_DICT || (container.type == V_VIEW && container.view == VIEW_KEYS)) {
        if (!value_hashable(j, item))
            FAIL(j, "expected a hashable value to look for in a dict, found %s", type_name(item));
        return dict_find(j, container.dict, item);
    }
    struct iterator *it = iterator_of(j, container);
    struct value v;
    while (iterator_next(j, it, &v)) {
        if (value_equal(j, v, item)) return true;
    }
    return false;
}

// ---- calls --------------------------------------------------------------------------------------------

// The i-th of the words in `words`, separated by spaces; how long it is comes back, 0 behind the last.
static size_t word_at(const char *words, int i, const char **word)
{
    for (*word = words; i--;) {
        *word += strcspn(*word, " ");
        *word += **word == ' ';
    }
    return strcspn(*word, " ");
}

static int find_parameter(const char *params, struct value name)
{
    const char *word;
    size_t n;
    for (int i = 0; (n = word_at(params, i, &word)); i++) {
        char text[32] = "";
        strncat(text, word, n < sizeof text - 1 ? n : sizeof text - 1);
        if (string_is(name, text)) return i;
    }
    return -1;
}

struct value builtin_call(struct jinja *j, const struct builtin *b, struct value self,
                          const struct args *args)
{
    struct value bound[BUILTIN_MAX_ARGS];
    char shown[64];
    const char *params = b->params, *word;
    for (int i = 0; i < BUILTIN_MAX_ARGS; i++) bound[i] = value_missing();
    if (*params == '*') return b->call(j, self, bound, args);
    bool by_position = *params == '/';
    params += by_position;
    int most = 0;
    while (word_at(params, most, &word)) most++;
    if (args->count > most)
        FAIL(j, "%s expected at most %d arguments, found %lld", b->name, most, (long long)args->count);
    for (int64_t i = 0; i < args->count; i++) bound[i] = args->positional[i];
    for (int64_t i = 0; i < args->keyword_count; i++) {
        int at = by_position ? -1 : find_parameter(params, args->keywords[i].name);
        if (at < 0 || is_given(bound[at]))
            FAIL(j, "%s expected no argument '%s' %s, found it", b->name,
                 value_show(args->keywords[i].name, shown, sizeof shown), at < 0 ? "by name" : "again");
        bound[at] = args->keywords[i].value;
    }
    for (int i = 0; i < b->required; i++) {
        if (!is_given(bound[i]))
            FAIL(j, "%s expected at least %d arguments, found fewer", b->name, b->required);
    }
    return b->call(j, self, bound, args);
}

const struct builtin *builtin_find(const struct builtin *table, size_t count, struct value name)
{
    for (size_t i = 0; i < count; i++) {
        if (string_is(name, table[i].name)) return &table[i];
    }
    return NULL;
}

struct value value_call(struct jinja *j, struct value callee, const struct args *args)
{
    struct value v;
    jinja_enter(j);
    switch (callee.type) {
    case V_MACRO: v = macro_call(j, callee.macro, args); break;
    case V_FUNCTION: v = builtin_call(j, callee.function, value_none(), args); break;
    case V_METHOD: v = builtin_call(j, callee.method->builtin, callee.method->self, args); break;
    case V_LOOP: v = loop_call(j, callee.loop, args); break;
    case V_JOINER:
        if (args->count || args->keyword_count) FAIL(j, "expected no arguments of a joiner, found some");
        v = callee.joiner->used ? callee.joiner->separator : value_chars(NULL, 0);
        callee.joiner->used = true;
        break;
    case V_UNDEFINED: undefined_fail(j, callee);
    default: FAIL(j, "%s is not callable", type_name(callee));
    }
    jinja_leave(j);
    return v;
}

int64_t arg_int(struct jinja *j, struct value v, int64_t otherwise)
{
    if (!is_given(v)) return otherwise;
    if (v.type == V_UNDEFINED) undefined_fail(j, v);
    if (!is_integer(v)) FAIL(j, "expected an integer as argument, found %s", type_name(v));
    return v.n;
}

struct value arg_string(struct jinja *j, struct value v, const char *what)
{
    if (v.type == V_UNDEFINED) undefined_fail(j, v);
    if (!is_string(v)) FAIL(j, "%s expected a string, found %s", what, type_name(v));
    return v;
}
