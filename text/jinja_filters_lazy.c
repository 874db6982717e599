// text/jinja_filters_lazy.c -- filters that are generators in jinja2: each item is made when it is asked for.
#include "text/jinja_builtin.h"

#define FILTER(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

struct lazy {
    struct value source;
    struct iterator *items;
    const struct args *args;    // of map, select, reject: as called
    const struct builtin *call; // the filter to map or the test to select by; NULL: the attribute, the truth
    struct args call_args;      // for it
    struct value path, fallback;
    bool ready, map, attribute, reject, case_sensitive;
    struct dict *seen;
    int64_t size, count; // batch, slice
    struct value fill, held;
    struct list *all;
};

static struct value generator(struct jinja *j, next_fn *next, struct lazy state)
{
    struct lazy *l = pool_alloc(j, 1, sizeof *l);
    struct iterator *it = pool_alloc(j, 1, sizeof *it);
    *l = state;
    *it = (struct iterator){.next = next, .state = l};
    return value_iterator(it);
}

static void take_attribute(struct jinja *j, struct lazy *l)
{
    const struct args *a = l->args;
    for (int64_t i = 0; i < a->keyword_count; i++) {
        if (string_is(a->keywords[i].name, "attribute"))
            l->path = a->keywords[i].value;
        else if (string_is(a->keywords[i].name, "default"))
            l->fallback = a->keywords[i].value;
        else
            FAIL(j, "map expected the arguments attribute and default, found another");
    }
    l->attribute = true;
}

static bool has_attribute(const struct args *a)
{
    for (int64_t i = 0; i < a->keyword_count; i++) {
        if (string_is(a->keywords[i].name, "attribute")) return true;
    }
    return false;
}

// What the arguments of map, select, reject, selectattr, rejectattr ask for; settled as the first item is.
static void prepare(struct jinja *j, struct lazy *l)
{
    const struct args *a = l->args;
    int64_t used = 0;
    char shown[64];
    l->ready = true;
    l->items = iterator_of(j, l->source);
    if (l->map && !a->count && has_attribute(a)) {
        take_attribute(j, l);
        return;
    }
    if (l->attribute) {
        if (!a->count) FAIL(j, "expected the name of an attribute, found none");
        l->path = a->positional[used++];
    }
    if (used < a->count) {
        struct value name = arg_string(j, a->positional[used++], "expected the name of a filter or test: it");
        l->call = l->map ? filter_find(name) : test_find(name);
        if (!l->call)
            FAIL(j, "expected the name of a %s, found '%s'", l->map ? "filter" : "test",
                 value_show(name, shown, sizeof shown));
    } else if (l->map) {
        FAIL(j, "map expected a filter, found none");
    }
    l->call_args = (struct args){a->positional + used, a->count - used, a->keywords, a->keyword_count};
}

static bool next_mapped(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    struct value item;
    if (!l->ready && l->source.type != V_ITERATOR && !value_truth(l->source)) return false;
    if (!l->ready) prepare(j, l);
    if (!iterator_next(j, l->items, &item)) return false;
    *out =
        l->call ? builtin_call(j, l->call, item, &l->call_args) : follow_path(j, item, l->path, l->fallback);
    return true;
}

static bool next_selected(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    if (!l->ready && l->source.type != V_ITERATOR && !value_truth(l->source)) return false;
    if (!l->ready) prepare(j, l);
    while (iterator_next(j, l->items, out)) {
        struct value v = l->attribute ? follow_path(j, *out, l->path, value_missing()) : *out;
        if (l->call) v = builtin_call(j, l->call, v, &l->call_args);
        if (value_truth(v) != l->reject) return true;
    }
    return false;
}

// The arguments live on: they are the pool's.
static const struct args *keep(struct jinja *j, const struct args *a)
{
    struct args *copy = pool_alloc(j, 1, sizeof *copy);
    *copy = *a;
    return copy;
}

FILTER(filter_map)
{
    (void)arg;
    return generator(j, next_mapped, (struct lazy){.source = self, .args = keep(j, rest), .map = true});
}

FILTER(filter_select)
{
    (void)arg;
    return generator(j, next_selected, (struct lazy){.source = self, .args = keep(j, rest)});
}

FILTER(filter_reject)
{
    (void)arg;
    return generator(j, next_selected, (struct lazy){.source = self, .args = keep(j, rest), .reject = true});
}

FILTER(filter_selectattr)
{
    (void)arg;
    return generator(j, next_selected,
                     (struct lazy){.source = self, .args = keep(j, rest), .attribute = true});
}

FILTER(filter_rejectattr)
{
    (void)arg;
    return generator(j, next_selected,
                     (struct lazy){.source = self, .args = keep(j, rest), .attribute = true, .reject = true});
}

static bool next_unique(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    if (!l->items) l->items = iterator_of(j, l->source);
    while (iterator_next(j, l->items, out)) {
        struct value key = fold_case(j, follow_path(j, *out, l->path, value_missing()), l->case_sensitive);
        if (!value_hashable(j, key)) FAIL(j, "unique expected hashable items, found %s", type_name(key));
        if (dict_find(j, l->seen, key)) continue;
        dict_set(j, l->seen, key, value_none());
        return true;
    }
    return false;
}

FILTER(filter_unique)
{
    (void)rest;
    return generator(
        j, next_unique,
        (struct lazy){
            .source = self, .path = arg[1], .case_sensitive = given_true(arg[0]), .seen = dict_new(j)});
}

static bool next_pair(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    if (l->source.type == V_UNDEFINED) return false;
    if (l->source.type != V_DICT) FAIL(j, "items expected a dict, found %s", type_name(l->source));
    if (l->count >= l->source.dict->count) return false;
    const struct entry *e = &l->source.dict->entries[l->count++];
    *out = value_pair(j, e->key, e->value);
    return true;
}

FILTER(filter_items)
{
    (void)arg, (void)rest;
    return generator(j, next_pair, (struct lazy){.source = self});
}

static bool next_batch(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    struct list *batch = list_new(j, 0);
    struct value item;
    if (!l->items) l->items = iterator_of(j, l->source);
    if (is_given(l->held)) list_push(j, batch, l->held);
    l->held = value_missing();
    while (iterator_next(j, l->items, &item)) {
        if (batch->count == l->size) { // full: what came is the first of the next
            l->held = item;
            *out = value_list(batch);
            return true;
        }
        list_push(j, batch, item);
    }
    if (!batch->count) return false;
    while (l->fill.type != V_NONE && batch->count < l->size) list_push(j, batch, l->fill);
    *out = value_list(batch);
    return true;
}

FILTER(filter_batch)
{
    (void)rest;
    struct value fill = is_given(arg[1]) ? arg[1] : value_none();
    return generator(j, next_batch,
                     (struct lazy){.source = self, .size = arg_int(j, arg[0], 0), .fill = fill});
}

static bool next_slice(struct jinja *j, struct iterator *it, struct value *out)
{
    struct lazy *l = it->state;
    if (!l->all) l->all = list_of(j, l->source);
    if (!l->size) FAIL(j, "slice expected a number of slices, found zero");
    if (l->count >= l->size) return false;
    int64_t n = l->all->count, i = l->count++, each = n / l->size, longer = n % l->size;
    int64_t from = i * each + (i < longer ? i : longer), count = each + (i < longer);
    struct list *slice = list_new(j, count);
    for (int64_t k = 0; k < count; k++) list_push(j, slice, l->all->items[from + k]);
    if (l->fill.type != V_NONE && i >= longer) list_push(j, slice, l->fill);
    *out = value_list(slice);
    return true;
}

FILTER(filter_slice)
{
    (void)rest;
    struct value fill = is_given(arg[1]) ? arg[1] : value_none();
    return generator(j, next_slice,
                     (struct lazy){.source = self, .size = arg_int(j, arg[0], 0), .fill = fill});
}

const struct builtin filters_lazy[] = {
    {"batch", filter_batch, "linecount fill_with", 1},
    {"items", filter_items, "", 0},
    {"map", filter_map, "*", 0},
    {"reject", filter_reject, "*", 0},
    {"rejectattr", filter_rejectattr, "*", 0},
    {"select", filter_select, "*", 0},
    {"selectattr", filter_selectattr, "*", 0},
    {"slice", filter_slice, "slices fill_with", 1},
    {"unique", filter_unique, "case_sensitive attribute", 0},
};
const size_t filters_lazy_count = sizeof filters_lazy / sizeof *filters_lazy;
