// text/jinja_methods.c -- methods of lists, dicts, numbers and cyclers, and which type has which.
#include <math.h>

#include "text/jinja_builtin.h"

#define METHOD(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

// ---- lists, tuples, ranges ----------------------------------------------------------------------------

METHOD(list_count)
{
    (void)rest;
    int64_t count = 0;
    struct value item;
    struct iterator *it = iterator_of(j, self);
    while (iterator_next(j, it, &item)) count += value_equal(j, item, arg[0]);
    return value_int(count);
}

METHOD(list_index)
{
    (void)rest;
    int64_t from = arg_int(j, arg[1], 0), to = arg_int(j, arg[2], INT64_MAX), length = 0;
    value_length(j, self, &length);
    if (from < 0) from += length;
    if (to < 0) to += length;
    struct value item;
    struct iterator *it = iterator_of(j, self);
    for (int64_t i = 0; iterator_next(j, it, &item) && i < to; i++) {
        if (i >= from && value_equal(j, item, arg[0])) return value_int(i);
    }
    FAIL(j, "index expected an item of the list, found another value");
}

METHOD(list_copy)
{
    (void)arg, (void)rest;
    return value_list(list_of(j, self));
}

// ---- dicts --------------------------------------------------------------------------------------------

METHOD(dict_get)
{
    (void)rest;
    if (!value_hashable(j, arg[0])) FAIL(j, "get expected a hashable key, found %s", type_name(arg[0]));
    struct value *v = dict_find(j, self.dict, arg[0]);
    return v ? *v : is_given(arg[1]) ? arg[1] : value_none();
}

static struct value view_of(struct value self, enum view view)
{
    return (struct value){.type = V_VIEW, .view = (uint8_t)view, .dict = self.dict};
}

METHOD(dict_keys)
{
    (void)j, (void)arg, (void)rest;
    return view_of(self, VIEW_KEYS);
}

METHOD(dict_values)
{
    (void)j, (void)arg, (void)rest;
    return view_of(self, VIEW_VALUES);
}

METHOD(dict_items)
{
    (void)j, (void)arg, (void)rest;
    return view_of(self, VIEW_ITEMS);
}

METHOD(dict_copy)
{
    (void)j, (void)arg, (void)rest;
    return self;
}

METHOD(dict_fromkeys)
{
    (void)self, (void)rest;
    struct dict *d = dict_new(j);
    struct value key;
    struct iterator *it = iterator_of(j, arg[0]);
    while (iterator_next(j, it, &key)) dict_set(j, d, key, is_given(arg[1]) ? arg[1] : value_none());
    return value_dict(d);
}

// ---- others -------------------------------------------------------------------------------------------

METHOD(float_is_integer)
{
    (void)j, (void)arg, (void)rest;
    return value_bool(self.f - self.f == 0 && floor(self.f) == self.f);
}

METHOD(int_bit_length)
{
    (void)j, (void)arg, (void)rest;
    uint64_t n = self.n < 0 ? -(uint64_t)self.n : (uint64_t)self.n;
    return value_int(n ? 64 - __builtin_clzll(n) : 0);
}

METHOD(cycler_next)
{
    (void)j, (void)arg, (void)rest;
    struct cycler *c = self.cycler;
    struct value v = c->items->items[c->at];
    c->at = (c->at + 1) % c->items->count;
    return v;
}

METHOD(cycler_reset)
{
    (void)j, (void)arg, (void)rest;
    self.cycler->at = 0;
    return value_none();
}

const struct builtin *method_find(struct value self, struct value name)
{
    static const struct builtin of_list[] = {{"count", list_count, "/value", 1},
                                             {"index", list_index, "/value start stop", 1},
                                             {"copy", list_copy, "/", 0}};
    static const struct builtin of_dict[] = {
        {"get", dict_get, "/key default", 1}, {"keys", dict_keys, "/", 0},
        {"values", dict_values, "/", 0},      {"items", dict_items, "/", 0},
        {"copy", dict_copy, "/", 0},          {"fromkeys", dict_fromkeys, "/keys value", 1}};
    static const struct builtin of_float[] = {{"is_integer", float_is_integer, "/", 0}};
    static const struct builtin of_int[] = {{"bit_length", int_bit_length, "/", 0}};
    static const struct builtin of_cycler[] = {{"next", cycler_next, "/", 0},
                                               {"reset", cycler_reset, "/", 0}};
    const struct builtin *b;
    switch (self.type) {
    case V_STRING:
        b = builtin_find(methods_search, methods_search_count, name);
        return b ? b : builtin_find(methods_shape, methods_shape_count, name);
    case V_LIST: return builtin_find(of_list, 3, name);
    case V_TUPLE:
    case V_RANGE: return builtin_find(of_list, 2, name);
    case V_DICT: return builtin_find(of_dict, sizeof of_dict / sizeof *of_dict, name);
    case V_FLOAT: return builtin_find(of_float, 1, name);
    case V_INT:
    case V_BOOL: return builtin_find(of_int, 1, name);
    case V_CYCLER: return builtin_find(of_cycler, 2, name);
    default: return NULL;
    }
}
