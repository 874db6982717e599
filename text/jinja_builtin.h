// text/jinja_builtin.h -- filters, tests, methods and globals: tables of functions with Python's signatures.
#ifndef TEXT_JINJA_BUILTIN_H
#define TEXT_JINJA_BUILTIN_H

#include "text/jinja_ast.h"

enum { BUILTIN_MAX_ARGS = 8 };

struct named {
    struct value name, value;
};

struct args { // as a call wrote them
    const struct value *positional;
    int64_t count;
    const struct named *keywords;
    int64_t keyword_count;
};

// `self` is what is filtered, tested, or whose method it is. arg[i] is the i-th parameter, V_MISSING where
// not given; `rest` is what came in for builtins that take any arguments.
typedef struct value builtin_fn(struct jinja *j, struct value self, const struct value *arg,
                                const struct args *rest);

struct builtin {
    const char *name;
    builtin_fn *call;
    // Parameters separated by spaces; "/..." where Python takes them by position only; "*" for any arguments.
    const char *params;
    int required;
};

// Binds the arguments to the parameters as Python would, or fails as Python would, and calls.
struct value builtin_call(struct jinja *j, const struct builtin *b, struct value self,
                          const struct args *args);
const struct builtin *builtin_find(const struct builtin *table, size_t count, struct value name);

// NULL where there is no such name.
const struct builtin *filter_find(struct value name);
const struct builtin *test_find(struct value name);
const struct builtin *global_find(struct value name);
const struct builtin *method_find(struct value self, struct value name);

extern const struct builtin filters_text[], filters_sequence[], filters_lazy[], methods_search[],
    methods_shape[];
extern const size_t filters_text_count, filters_sequence_count, filters_lazy_count, methods_search_count,
    methods_shape_count;

// ---- calls --------------------------------------------------------------------------------------------

struct value value_call(struct jinja *j, struct value callee, const struct args *args);
struct value value_attribute(struct jinja *j, struct value owner, struct value name); // owner.name
struct value value_item(struct jinja *j, struct value owner, struct value key);       // owner[key]
struct value value_slice(struct jinja *j, struct value owner, struct value start, struct value stop,
                         struct value step);
// Attributes of loops, cyclers, joiners and macros; missing where there is none of that name.
struct value object_attribute(struct jinja *j, struct value owner, struct value name);
struct value macro_call(struct jinja *j, struct macro *m, const struct args *args);
struct value loop_call(struct jinja *j, struct loop *l, const struct args *args);

// ---- iteration ----------------------------------------------------------------------------------------

struct iterator;
typedef bool next_fn(struct jinja *j, struct iterator *it, struct value *out);

struct iterator {
    next_fn *next;
    struct value source;
    int64_t at;
    struct iterator *inner;
    void *state; // of generators
};

struct iterator *iterator_of(struct jinja *j, struct value v); // fails where v is not iterable
bool is_iterable(struct value v);
static inline bool iterator_next(struct jinja *j, struct iterator *it, struct value *out)
{
    jinja_charge(j, 0);
    return it->next(j, it, out);
}
struct value value_iterator(struct iterator *it);
struct list *list_of(struct jinja *j, struct value v); // a new list of all that v yields
// Stable; rising by `keys` (which may be the items themselves), or falling.
void list_sort(struct jinja *j, struct list *items, struct list *keys, bool reverse);

// ---- arithmetic and text ------------------------------------------------------------------------------

struct value number_arithmetic(struct jinja *j, int op, struct value a, struct value b);
struct value number_negate(struct jinja *j, int op, struct value a);
bool number_parse_integer(struct value s, int base, int64_t *out);
bool number_parse_float(struct jinja *j, struct value s, double *out);
struct value number_round(struct jinja *j, struct value v, int64_t digits);

int64_t string_find(struct jinja *j, struct value s, struct value what, int64_t from,
                    int64_t to); // -1: not there
int64_t string_find_last(struct jinja *j, struct value s, struct value what, int64_t from, int64_t to);
struct value string_slice(struct value s, int64_t from, int64_t to);
struct value string_strip(struct jinja *j, struct value s, struct value chars, bool left, bool right);
struct value string_replace(struct jinja *j, struct value s, struct value old, struct value with,
                            int64_t count);
struct value string_upper(struct jinja *j, struct value s);
struct value string_lower(struct jinja *j, struct value s);
struct value string_capitalize(struct jinja *j, struct value s);
struct value string_center(struct jinja *j, struct value s, int64_t width, uint32_t fill);
struct list *string_lines(struct jinja *j, struct value s, bool keep_ends);
struct value string_escape(struct jinja *j, struct value s); // for HTML; a safe string stays as it is
struct value string_join(struct jinja *j, struct value separator, struct value items, bool convert);
struct value string_percent(struct jinja *j, struct value format, struct value args); // format % args
struct value string_format(struct jinja *j, struct value format,
                           const struct args *args); // format.format(args)
struct value json_dump(struct jinja *j, struct value v, bool ascii, struct value indent,
                       struct value separators, bool sort);
struct value json_value(struct jinja *j, const json_t *json, uint32_t mark, const char *trusted_key);

int64_t arg_int(struct jinja *j, struct value v, int64_t otherwise); // fails where given and not an integer
struct value arg_string(struct jinja *j, struct value v, const char *what);

// What filters share (text/jinja_filters.c).
bool given_true(struct value v); // an argument that is there, and true
bool given_some(struct value v); // one that is there, and not none
struct value fold_case(struct jinja *j, struct value v, bool case_sensitive);
// The value at a path such as "a.b.0" from an item. `fallback` stands in for what is undefined on the way;
// missing or none where there is no such.
struct value follow_path(struct jinja *j, struct value item, struct value path, struct value fallback);

#endif
