// text/jinja_methods_search.c -- methods of strings that look for parts: strip, split, find, replace.
#include <string.h>

#include "text/jinja_builtin.h"

#define METHOD(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

// ---- strip, split, lines ------------------------------------------------------------------------------

METHOD(str_strip)
{
    (void)rest;
    return string_strip(j, self, arg[0], true, true);
}

METHOD(str_lstrip)
{
    (void)rest;
    return string_strip(j, self, arg[0], true, false);
}

METHOD(str_rstrip)
{
    (void)rest;
    return string_strip(j, self, arg[0], false, true);
}

// At runs of white space; the last piece keeps all that is left once `most` cuts are made.
static struct list *split_space(struct jinja *j, struct value s, int64_t most)
{
    struct list *l = list_new(j, 0);
    jinja_charge(j, s.n);
    for (int64_t at = 0;;) {
        while (at < s.n && char_is_space(s.s[at])) at++;
        if (at == s.n) return l;
        int64_t end = at;
        if (l->count == most) {
            list_push(j, l, string_slice(s, at, s.n)); // as it is, blanks at its end too
            return l;
        }
        while (end < s.n && !char_is_space(s.s[end])) end++;
        list_push(j, l, string_slice(s, at, end));
        at = end;
    }
}

static void reverse(struct list *l)
{
    for (int64_t a = 0, b = l->count - 1; a < b; a++, b--) {
        struct value v = l->items[a];
        l->items[a] = l->items[b];
        l->items[b] = v;
    }
}

static struct list *rsplit_space(struct jinja *j, struct value s, int64_t most)
{
    struct list *l = list_new(j, 0);
    jinja_charge(j, s.n);
    for (int64_t end = s.n;;) {
        while (end && char_is_space(s.s[end - 1])) end--;
        if (!end) break;
        int64_t at = end;
        if (l->count == most) {
            list_push(j, l, string_slice(s, 0, end));
            break;
        }
        while (at && !char_is_space(s.s[at - 1])) at--;
        list_push(j, l, string_slice(s, at, end));
        end = at;
    }
    reverse(l);
    return l;
}

static struct value split(struct jinja *j, struct value s, const struct value *arg, bool right)
{
    int64_t most = arg_int(j, arg[1], -1);
    if (most < 0) most = INT64_MAX;
    if (!is_given(arg[0]) || arg[0].type == V_NONE)
        return value_list(right ? rsplit_space(j, s, most) : split_space(j, s, most));
    struct value separator = arg_string(j, arg[0], "split");
    if (!separator.n) FAIL(j, "split expected a separator, found an empty one");
    struct list *l = list_new(j, 0);
    int64_t from = 0, to = s.n;
    for (; most; most--) {
        int64_t found =
            right ? string_find_last(j, s, separator, from, to) : string_find(j, s, separator, from, to);
        if (found < 0) break;
        list_push(j, l, right ? string_slice(s, found + separator.n, to) : string_slice(s, from, found));
        if (right)
            to = found;
        else
            from = found + separator.n;
    }
    list_push(j, l, string_slice(s, from, to));
    if (right) reverse(l);
    return value_list(l);
}

METHOD(str_split)
{
    (void)rest;
    return split(j, self, arg, false);
}

METHOD(str_rsplit)
{
    (void)rest;
    return split(j, self, arg, true);
}

METHOD(str_splitlines)
{
    (void)rest;
    return value_list(string_lines(j, self, is_given(arg[0]) && value_truth(arg[0])));
}

static struct value partition(struct jinja *j, struct value s, struct value separator, bool right)
{
    separator = arg_string(j, separator, "partition");
    if (!separator.n) FAIL(j, "partition expected a separator, found an empty one");
    int64_t at = right ? string_find_last(j, s, separator, 0, s.n) : string_find(j, s, separator, 0, s.n);
    struct value nothing = string_slice(s, 0, 0);
    struct list *l = list_new(j, 3);
    list_push(j, l, at >= 0 ? string_slice(s, 0, at) : right ? nothing : s);
    list_push(j, l, at >= 0 ? separator : nothing);
    list_push(j, l, at >= 0 ? string_slice(s, at + separator.n, s.n) : right ? s : nothing);
    return value_tuple(l);
}

METHOD(str_partition)
{
    (void)rest;
    return partition(j, self, arg[0], false);
}

METHOD(str_rpartition)
{
    (void)rest;
    return partition(j, self, arg[0], true);
}

// ---- searching ----------------------------------------------------------------------------------------

// The part of a string that [start, end) means, as slices do; false where start lies behind the end.
static bool part_of(struct jinja *j, struct value s, const struct value *bounds, int64_t *from, int64_t *to)
{
    *from = bounds[0].type == V_NONE ? 0 : arg_int(j, bounds[0], 0);
    *to = bounds[1].type == V_NONE ? s.n : arg_int(j, bounds[1], s.n);
    if (*from < 0) *from = *from + s.n < 0 ? 0 : *from + s.n;
    if (*to < 0) *to = *to + s.n < 0 ? 0 : *to + s.n;
    if (*to > s.n) *to = s.n;
    return *from <= *to;
}

static int64_t find(struct jinja *j, struct value s, const struct value *arg, bool right)
{
    int64_t from, to;
    struct value what = arg_string(j, arg[0], "find");
    if (!part_of(j, s, arg + 1, &from, &to)) return -1;
    return right ? string_find_last(j, s, what, from, to) : string_find(j, s, what, from, to);
}

METHOD(str_find)
{
    (void)rest;
    return value_int(find(j, self, arg, false));
}

METHOD(str_rfind)
{
    (void)rest;
    return value_int(find(j, self, arg, true));
}

METHOD(str_index)
{
    (void)rest;
    int64_t at = find(j, self, arg, false);
    if (at < 0) FAIL(j, "index expected a part of the string, found another one");
    return value_int(at);
}

METHOD(str_rindex)
{
    (void)rest;
    int64_t at = find(j, self, arg, true);
    if (at < 0) FAIL(j, "rindex expected a part of the string, found another one");
    return value_int(at);
}

METHOD(str_count)
{
    (void)rest;
    int64_t from, to, count = 0;
    struct value what = arg_string(j, arg[0], "count");
    if (!part_of(j, self, arg + 1, &from, &to)) return value_int(0);
    if (!what.n) return value_int(to - from + 1);
    for (; (from = string_find(j, self, what, from, to)) >= 0; from += what.n) count++;
    return value_int(count);
}

static bool matches(struct jinja *j, struct value s, struct value affix, const struct value *bounds, bool end)
{
    int64_t from, to;
    if (affix.type == V_TUPLE) {
        for (int64_t i = 0; i < affix.list->count; i++) {
            if (affix.list->items[i].type == V_TUPLE)
                FAIL(j, "expected strings to compare with, found a tuple");
            if (matches(j, s, affix.list->items[i], bounds, end)) return true;
        }
        return false;
    }
    affix = arg_string(j, affix, end ? "endswith" : "startswith");
    if (!part_of(j, s, bounds, &from, &to) || affix.n > to - from) return false;
    jinja_charge(j, affix.n);
    return chars_equal(s.s + (end ? to - affix.n : from), affix.s, affix.n);
}

METHOD(str_startswith)
{
    (void)rest;
    return value_bool(matches(j, self, arg[0], arg + 1, false));
}

METHOD(str_endswith)
{
    (void)rest;
    return value_bool(matches(j, self, arg[0], arg + 1, true));
}

METHOD(str_removeprefix)
{
    (void)rest;
    struct value p = arg_string(j, arg[0], "removeprefix");
    bool has = p.n <= self.n && chars_equal(self.s, p.s, p.n);
    return has ? string_slice(self, p.n, self.n) : self;
}

METHOD(str_removesuffix)
{
    (void)rest;
    struct value p = arg_string(j, arg[0], "removesuffix");
    bool has = p.n <= self.n && chars_equal(self.s + self.n - p.n, p.s, p.n);
    return has ? string_slice(self, 0, self.n - p.n) : self;
}

METHOD(str_replace)
{
    (void)rest;
    struct value old = arg_string(j, arg[0], "replace"), with = arg_string(j, arg[1], "replace");
    return string_replace(j, self, old, with, arg_int(j, arg[2], -1));
}

const struct builtin methods_search[] = {
    {"strip", str_strip, "/chars", 0},
    {"lstrip", str_lstrip, "/chars", 0},
    {"rstrip", str_rstrip, "/chars", 0},
    {"split", str_split, "sep maxsplit", 0},
    {"rsplit", str_rsplit, "sep maxsplit", 0},
    {"splitlines", str_splitlines, "keepends", 0},
    {"partition", str_partition, "/sep", 1},
    {"rpartition", str_rpartition, "/sep", 1},
    {"find", str_find, "/sub start end", 1},
    {"rfind", str_rfind, "/sub start end", 1},
    {"index", str_index, "/sub start end", 1},
    {"rindex", str_rindex, "/sub start end", 1},
    {"count", str_count, "/sub start end", 1},
    {"startswith", str_startswith, "/prefix start end", 1},
    {"endswith", str_endswith, "/suffix start end", 1},
    {"removeprefix", str_removeprefix, "/prefix", 1},
    {"removesuffix", str_removesuffix, "/suffix", 1},
    {"replace", str_replace, "/old new count", 2},
};
const size_t methods_search_count = sizeof methods_search / sizeof *methods_search;
