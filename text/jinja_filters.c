// text/jinja_filters.c -- filters over sequences and dicts.
#include <string.h>

#include "text/jinja_builtin.h"

#define FILTER(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

bool given_true(struct value v)
{
    return is_given(v) && value_truth(v);
}

bool given_some(struct value v)
{
    return is_given(v) && v.type != V_NONE;
}

struct value fold_case(struct jinja *j, struct value v, bool case_sensitive)
{
    return is_string(v) && !case_sensitive ? string_lower(j, v) : v;
}

// ---- attributes by path: "a.b.0" ----------------------------------------------------------------------

static struct value follow_part(struct jinja *j, struct value item, struct value part)
{
    bool digits = part.n > 0;
    int64_t number;
    for (int64_t i = 0; i < part.n; i++) digits = digits && char_is_digit(part.s[i]);
    if (digits && number_parse_integer(part, 10, &number)) return value_item(j, item, value_int(number));
    return value_item(j, item, part);
}

// `fallback` stands in for what is undefined on the way; missing or none where there is no such.
struct value follow_path(struct jinja *j, struct value item, struct value path, struct value fallback)
{
    if (!given_some(path)) return item;
    if (!is_string(path)) {
        item = value_item(j, item, path);
        return given_some(fallback) && item.type == V_UNDEFINED ? fallback : item;
    }
    for (int64_t at = 0; at <= path.n;) {
        int64_t end = at;
        while (end < path.n && (path.s[end] & JINJA_CHAR) != '.') end++;
        item = follow_part(j, item, string_slice(path, at, end));
        if (given_some(fallback) && item.type == V_UNDEFINED) item = fallback;
        at = end + 1;
    }
    return item;
}

// ---- sorting ------------------------------------------------------------------------------------------

struct sorting {
    struct jinja *j;
    const struct value *keys;
    bool reverse;
};

// True where b has to come before a: in a stable sort that is the only question.
static bool overtakes(const struct sorting *s, int64_t a, int64_t b)
{
    return s->reverse ? value_compare(s->j, s->keys[a], s->keys[b], "<") < 0
                      : value_compare(s->j, s->keys[b], s->keys[a], "<") < 0;
}

static void merge_sort(const struct sorting *s, int64_t *order, int64_t *spare, int64_t n)
{
    if (n < 2) return;
    int64_t half = n / 2, a = 0, b = half;
    merge_sort(s, order, spare, half);
    merge_sort(s, order + half, spare + half, n - half);
    memcpy(spare, order, (size_t)n * sizeof *order);
    for (int64_t i = 0; i < n; i++) {
        bool right = a == half || (b < n && overtakes(s, spare[a], spare[b]));
        order[i] = right ? spare[b++] : spare[a++];
    }
}

void list_sort(struct jinja *j, struct list *items, struct list *keys, bool reverse)
{
    int64_t n = items->count, *order = pool_alloc(j, n, sizeof *order),
            *spare = pool_alloc(j, n, sizeof *spare);
    struct value *sorted = pool_alloc(j, n, sizeof *sorted);
    struct sorting s = {j, keys->items, reverse};
    for (int64_t i = 0; i < n; i++) order[i] = i;
    merge_sort(&s, order, spare, n);
    for (int64_t i = 0; i < n; i++) sorted[i] = items->items[order[i]];
    if (n) memcpy(items->items, sorted, (size_t)n * sizeof *sorted);
}

// The key of jinja2's sort: the list of the values at all paths in "a,b.c".
static struct value sort_key(struct jinja *j, struct value item, struct value paths, bool case_sensitive)
{
    struct list *key = list_new(j, 1);
    if (!is_string(paths)) {
        list_push(j, key, fold_case(j, follow_path(j, item, paths, value_missing()), case_sensitive));
        return value_list(key);
    }
    for (int64_t at = 0; at <= paths.n;) {
        int64_t end = at;
        while (end < paths.n && (paths.s[end] & JINJA_CHAR) != ',') end++;
        struct value v = follow_path(j, item, string_slice(paths, at, end), value_missing());
        list_push(j, key, fold_case(j, v, case_sensitive));
        at = end + 1;
    }
    return value_list(key);
}

FILTER(filter_sort)
{
    (void)rest;
    struct list *items = list_of(j, self), *keys = list_new(j, items->count);
    for (int64_t i = 0; i < items->count; i++)
        list_push(j, keys, sort_key(j, items->items[i], arg[2], given_true(arg[1])));
    list_sort(j, items, keys, given_true(arg[0]));
    return value_list(items);
}

FILTER(filter_dictsort)
{
    (void)rest;
    if (self.type != V_DICT) FAIL(j, "dictsort expected a dict, found %s", type_name(self));
    bool by_value = is_given(arg[1]) && string_is(arg[1], "value");
    if (is_given(arg[1]) && !by_value && !string_is(arg[1], "key"))
        FAIL(j, "dictsort expected by='key' or by='value', found another");
    struct list *items = list_new(j, self.dict->count), *keys = list_new(j, self.dict->count);
    for (int64_t i = 0; i < self.dict->count; i++) {
        const struct entry *e = &self.dict->entries[i];
        list_push(j, items, value_pair(j, e->key, e->value));
        list_push(j, keys, fold_case(j, by_value ? e->value : e->key, given_true(arg[0])));
    }
    list_sort(j, items, keys, given_true(arg[2]));
    return value_list(items);
}

static struct value extreme(struct jinja *j, struct value self, const struct value *arg, bool most)
{
    struct iterator *it = iterator_of(j, self);
    struct value best, best_key, item;
    if (!iterator_next(j, it, &best))
        return value_undefined_hint(j, "No aggregated item, sequence was empty.");
    best_key = fold_case(j, follow_path(j, best, arg[1], value_missing()), given_true(arg[0]));
    while (iterator_next(j, it, &item)) {
        struct value key = fold_case(j, follow_path(j, item, arg[1], value_missing()), given_true(arg[0]));
        bool better =
            most ? value_compare(j, key, best_key, ">") == 1 : value_compare(j, key, best_key, "<") < 0;
        if (!better) continue;
        best = item;
        best_key = key;
    }
    return best;
}

FILTER(filter_min)
{
    (void)rest;
    return extreme(j, self, arg, false);
}

FILTER(filter_max)
{
    (void)rest;
    return extreme(j, self, arg, true);
}

// Runs of equal keys among the sorted items, each as the pair (key, items).
FILTER(filter_groupby)
{
    (void)rest;
    bool case_sensitive = given_true(arg[2]);
    struct list *items = list_of(j, self), *keys = list_new(j, items->count), *groups = list_new(j, 0);
    for (int64_t i = 0; i < items->count; i++)
        list_push(j, keys, fold_case(j, follow_path(j, items->items[i], arg[0], arg[1]), case_sensitive));
    struct list *sorted_keys = list_new(j, keys->count);
    for (int64_t i = 0; i < keys->count; i++) list_push(j, sorted_keys, keys->items[i]);
    list_sort(j, items, keys, false);
    list_sort(j, sorted_keys, keys, false);
    for (int64_t i = 0; i < items->count;) {
        struct list *group = list_new(j, 1);
        struct value first = items->items[i], key = sorted_keys->items[i];
        for (; i < items->count && value_equal(j, sorted_keys->items[i], key); i++)
            list_push(j, group, items->items[i]);
        struct value pair =
            value_pair(j, case_sensitive ? key : follow_path(j, first, arg[0], arg[1]), value_list(group));
        pair.safe = true; // has the names grouper and list
        list_push(j, groups, pair);
    }
    return value_list(groups);
}

// ---- whole sequences ----------------------------------------------------------------------------------

static bool is_reversible(struct value v)
{
    return is_iterable(v) && v.type != V_ITERATOR && v.type != V_LOOP;
}

FILTER(filter_first)
{
    (void)arg, (void)rest;
    struct value v;
    return iterator_next(j, iterator_of(j, self), &v)
               ? v
               : value_undefined_hint(j, "No first item, sequence was empty.");
}

FILTER(filter_last)
{
    (void)arg, (void)rest;
    if (!is_reversible(self)) FAIL(j, "last expected a sequence, found %s", type_name(self));
    int64_t n = 0;
    value_length(j, self, &n);
    if (!n) return value_undefined_hint(j, "No last item, sequence was empty.");
    struct iterator *it = iterator_of(j, self);
    struct value v;
    it->at = n - 1;
    iterator_next(j, it, &v);
    return v;
}

FILTER(filter_length)
{
    (void)arg, (void)rest;
    int64_t n;
    if (self.type == V_UNDEFINED) return value_int(0);
    if (!value_length(j, self, &n)) FAIL(j, "%s has no length", type_name(self));
    return value_int(n);
}

FILTER(filter_list)
{
    (void)arg, (void)rest;
    return value_list(list_of(j, self));
}

FILTER(filter_reverse)
{
    (void)arg, (void)rest;
    if (is_string(self)) return value_slice(j, self, value_none(), value_none(), value_int(-1));
    struct list *l = list_of(j, self);
    struct value items = value_list(l), v = value_slice(j, items, value_none(), value_none(), value_int(-1));
    return is_reversible(self) ? value_iterator(iterator_of(j, v)) : v;
}

FILTER(filter_join)
{
    (void)rest;
    struct value separator = is_given(arg[0]) ? value_str(j, arg[0]) : value_chars(NULL, 0);
    if (!given_some(arg[1])) return string_join(j, separator, self, true);
    struct list *l = list_of(j, self);
    for (int64_t i = 0; i < l->count; i++) l->items[i] = follow_path(j, l->items[i], arg[1], value_missing());
    return string_join(j, separator, value_list(l), true);
}

FILTER(filter_sum)
{
    (void)rest;
    struct iterator *it = iterator_of(j, self);
    struct value total = is_given(arg[1]) ? arg[1] : value_int(0), item;
    if (is_string(total)) FAIL(j, "sum expected a start that is not a string, found one");
    while (iterator_next(j, it, &item))
        total = number_arithmetic(j, T_ADD, total, follow_path(j, item, arg[0], value_missing()));
    return total;
}

FILTER(filter_default)
{
    (void)j, (void)rest;
    bool replaced = self.type == V_UNDEFINED || (given_true(arg[1]) && !value_truth(self));
    if (!replaced) return self;
    return is_given(arg[0]) ? arg[0] : value_chars(NULL, 0);
}

FILTER(filter_attr)
{
    (void)rest;
    struct value name = arg_string(j, arg[0], "attr");
    if (self.type == V_UNDEFINED) undefined_fail(j, self);
    bool has = self.type == V_NAMESPACE
                   ? dict_find(j, self.dict, name) != NULL
                   : method_find(self, name) || is_given(object_attribute(j, self, name));
    return has ? value_attribute(j, self, name) : value_undefined_attribute(j, self, name);
}

FILTER(filter_tojson)
{
    (void)rest;
    return json_dump(j, self, given_true(arg[0]), arg[1], arg[2], given_true(arg[3]));
}

FILTER(filter_refused)
{
    (void)self, (void)arg, (void)rest;
    jinja_fail(j, TLM_ERR_UNSUPPORTED, "this filter is not supported in a chat template");
}

const struct builtin filters_sequence[] = {
    {"attr", filter_attr, "name", 1},
    {"count", filter_length, "/", 0},
    {"d", filter_default, "default_value boolean", 0},
    {"default", filter_default, "default_value boolean", 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0},
    {"first", filter_first, "", 0},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1},
    {"join", filter_join, "d attribute", 0},
    {"last", filter_last, "", 0},
    {"length", filter_length, "/", 0},
    {"list", filter_list, "", 0},
    {"max", filter_max, "case_sensitive attribute", 0},
    {"min", filter_min, "case_sensitive attribute", 0},
    {"random", filter_refused, "*", 0},
    {"reverse", filter_reverse, "", 0},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0},
    {"sum", filter_sum, "attribute start", 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0},
    {"urlize", filter_refused, "*", 0},
    {"wordwrap", filter_refused, "*", 0},
};
const size_t filters_sequence_count = sizeof filters_sequence / sizeof *filters_sequence;

const struct builtin *filter_find(struct value name)
{
    const struct builtin *b = builtin_find(filters_sequence, filters_sequence_count, name);
    if (!b) b = builtin_find(filters_lazy, filters_lazy_count, name);
    return b ? b : builtin_find(filters_text, filters_text_count, name);
}
