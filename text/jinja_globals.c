// text/jinja_globals.c -- functions that every template can call.
#include <string.h>
#include <time.h>

#include "text/jinja_builtin.h"

#define GLOBAL(name)                                                                      \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)

enum { RANGE_MAX = 100000 }; // jinja2's limit in the sandbox

GLOBAL(global_range)
{
    (void)self, (void)rest;
    struct range *r = pool_alloc(j, 1, sizeof *r);
    bool one = !is_given(arg[1]);
    *r = (struct range){one ? 0 : arg_int(j, arg[0], 0), arg_int(j, arg[!one], 0), arg_int(j, arg[2], 1), 0};
    if (!r->step) FAIL(j, "range expected a step other than zero, found zero");
    if (r->step > 0 ? r->start < r->stop : r->start > r->stop) {
        // As unsigned numbers, which hold any distance.
        uint64_t distance =
            r->step > 0 ? (uint64_t)r->stop - (uint64_t)r->start : (uint64_t)r->start - (uint64_t)r->stop;
        uint64_t step = r->step > 0 ? (uint64_t)r->step : -(uint64_t)r->step,
                 count = (distance - 1) / step + 1;
        if (count > RANGE_MAX) FAIL(j, "range expected at most %d items, found more", RANGE_MAX);
        r->count = (int64_t)count;
    }
    return (struct value){.type = V_RANGE, .range = r};
}

// dict(mapping or pairs, key=value ...)
static struct dict *make_dict(struct jinja *j, const struct args *args)
{
    struct dict *d = dict_new(j);
    if (args->count > 1) FAIL(j, "dict expected at most 1 argument, found %lld", (long long)args->count);
    if (args->count) {
        struct value source = args->positional[0], pair;
        if (source.type == V_DICT)
            source = (struct value){.type = V_VIEW, .view = VIEW_ITEMS, .dict = source.dict};
        struct iterator *it = iterator_of(j, source);
        while (iterator_next(j, it, &pair)) {
            struct list *l = list_of(j, pair);
            if (l->count != 2) FAIL(j, "dict expected pairs, found %lld items", (long long)l->count);
            dict_set(j, d, l->items[0], l->items[1]);
        }
    }
    for (int64_t i = 0; i < args->keyword_count; i++)
        dict_set(j, d, args->keywords[i].name, args->keywords[i].value);
    return d;
}

GLOBAL(global_dict)
{
    (void)self, (void)arg;
    return value_dict(make_dict(j, rest));
}

GLOBAL(global_namespace)
{
    (void)self, (void)arg;
    struct dict *d = make_dict(j, rest);
    for (int64_t i = 0; i < d->count; i++) {
        struct value key = d->entries[i].key;
        if (is_string(key) && key.n && (key.s[0] & JINJA_CHAR) == '_')
            FAIL(j, "expected attributes that do not begin with an underscore, found one that does");
    }
    return (struct value){.type = V_NAMESPACE, .dict = d};
}

GLOBAL(global_cycler)
{
    (void)self, (void)arg;
    struct cycler *c = pool_alloc(j, 1, sizeof *c);
    if (!rest->count || rest->keyword_count) FAIL(j, "cycler expected items, found none");
    *c = (struct cycler){.items = list_new(j, rest->count)};
    for (int64_t i = 0; i < rest->count; i++) list_push(j, c->items, rest->positional[i]);
    return (struct value){.type = V_CYCLER, .cycler = c};
}

GLOBAL(global_joiner)
{
    (void)self, (void)rest;
    struct joiner *n = pool_alloc(j, 1, sizeof *n);
    *n = (struct joiner){is_given(arg[0]) ? arg[0] : value_ascii(j, ", "), false};
    return (struct value){.type = V_JOINER, .joiner = n};
}

GLOBAL(global_raise)
{
    (void)self, (void)rest;
    char shown[300];
    FAIL(j, "%s", value_show(value_str(j, arg[0]), shown, sizeof shown));
}

GLOBAL(global_strftime)
{
    (void)self, (void)rest;
    enum { MAX_FORMAT = 1024, MAX_RESULT = 8192 };
    struct value format = arg_string(j, arg[0], "strftime_now");
    char *bytes = pool_alloc(j, MAX_FORMAT * 4, 1), *result = pool_alloc(j, MAX_RESULT, 1);
    size_t n = 0;
    time_t now = j->now ? (time_t)j->now : time(NULL);
    struct tm local;
    if (format.n > MAX_FORMAT - 8) FAIL(j, "strftime_now expected a short format, found a long one");
    for (int64_t i = 0; i < format.n; i++) {
        bool code = (format.s[i] & JINJA_CHAR) == '%' && i + 1 < format.n;
        uint32_t next = code ? format.s[i + 1] & JINJA_CHAR : 0;
        if (next == 'f') n += (size_t)sprintf(bytes + n, "000000"); // microseconds: we tell whole seconds
        if (next == '%') n += (size_t)sprintf(bytes + n, "%%%%");
        if (code &&
            (next == 'f' || next == '%' || next == 'z' || next == 'Z')) { // Python's now() knows no zone
            i++;
            continue;
        }
        n += char_encode(format.s[i], bytes + n);
    }
    if (!n) return value_chars(NULL, 0);
    if (!localtime_r(&now, &local)) FAIL(j, "strftime_now expected a date, found one beyond the calendar");
    bytes[n] = ' '; // a result that may be empty cannot be told from a failure
    size_t length = strftime(result, MAX_RESULT, bytes, &local);
    if (!length) FAIL(j, "strftime_now expected a shorter result, found a longer one");
    return value_utf8(j, result, length - 1, 0);
}

GLOBAL(global_refused)
{
    (void)self, (void)arg, (void)rest;
    jinja_fail(j, TLM_ERR_UNSUPPORTED, "lipsum is not supported in a chat template");
}

const struct builtin *global_find(struct value name)
{
    static const struct builtin globals[] = {
        {"range", global_range, "/start stop step", 1},
        {"dict", global_dict, "*", 0},
        {"namespace", global_namespace, "*", 0},
        {"cycler", global_cycler, "*", 0},
        {"joiner", global_joiner, "sep", 0},
        {"raise_exception", global_raise, "message", 1},
        {"strftime_now", global_strftime, "format", 1},
        {"lipsum", global_refused, "*", 0},
    };
    return builtin_find(globals, sizeof globals / sizeof *globals, name);
}
