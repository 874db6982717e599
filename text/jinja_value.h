// text/jinja_value.h -- values of the template language, and the memory and the failures they live with.
//
// A value is small and passed by copy; what it points to lies in the pool of one compilation or rendering, is
// given back with it as a whole, and never changes once a template can see it (only namespaces, cyclers and
// loops do).
//
// Strings are arrays of code points, as Python's are to their user: indexing, slices and lengths need no
// search. The top bit of each says that the character came from a variable (see text/jinja.h) and travels
// along wherever the character is copied; all comparisons mask it.
//
// A failure leaves by longjmp to jinja_compile() or jinja_render(): since all memory is the pool's, nothing
// is lost on the way, and evaluation reads like the Python that it mirrors.
#ifndef TEXT_JINJA_VALUE_H
#define TEXT_JINJA_VALUE_H

#include <setjmp.h>

#include "core/arena.h"

enum { JINJA_MAX_DEPTH = 1000 }; // of calls, blocks and expressions within each other, and of values
#define JINJA_INPUT 0x80000000u  // this character came from a variable
#define JINJA_CHAR  0x001fffffu

enum value_type {
    V_MISSING,   // not given, not assigned: never seen by a template
    V_UNDEFINED, // jinja2's Undefined: prints as nothing, is false, fails in any other use
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW,     // keys(), values() or items() of a dict
    V_ITERATOR, // used up as it is walked: what generators give
    V_NAMESPACE,
    V_MACRO,
    V_FUNCTION, // a global
    V_METHOD,   // of a value it is bound to
    V_LOOP,
    V_CYCLER,
    V_JOINER,
};

struct value {
    uint8_t type;
    bool safe;    // a string: jinja2's Markup; a tuple: made by groupby, with names for its two items
    uint8_t view; // V_VIEW: enum view
    int64_t n;    // V_BOOL, V_INT: the number; V_STRING: its length
    union {
        double f;
        const uint32_t *s;
        struct list *list; // V_LIST, V_TUPLE
        struct dict *dict; // V_DICT, V_VIEW, V_NAMESPACE
        struct range *range;
        struct undefined *undefined;
        struct iterator *iterator;
        struct macro *macro;
        const struct builtin *function;
        struct method *method;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
    };
};

enum view { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

struct list {
    int64_t count, capacity;
    struct value *items;
};

struct entry {
    struct value key, value;
    uint64_t hash;
};

// In the order of insertion. `index` holds entry numbers + 1 by hash, open addressing, once there are more
// than a few.
struct dict {
    int64_t count, capacity;
    struct entry *entries;
    uint32_t *index;
    uint64_t index_mask;
};

struct range {
    int64_t start, stop, step, count;
};

struct undefined {
    struct value name; // V_STRING; V_MISSING where `hint` says it all
    const char *owner; // the kind of object that lacks the attribute; NULL for a variable
    const char *hint;
};

struct method {
    struct value self;
    const struct builtin *builtin;
};

struct cycler {
    struct list *items;
    int64_t at;
};

struct joiner {
    struct value separator;
    bool used;
};

// ---- the state of one compilation or rendering --------------------------------------------------------

struct text { // a string that grows
    uint32_t *at;
    int64_t count, capacity;
};

struct jinja {
    struct arena arena;
    char *free, *end; // of the current chunk of the arena
    jmp_buf failed;
    struct tlm_error *err;
    int line; // of the template, for messages
    int depth;
    int64_t steps_left;
    int64_t max_output, output_count;
    int64_t now;
    struct text *out;       // where the template writes at the moment
    struct dict *variables; // that the caller gave
    struct scope *root;
};

void jinja_fail(struct jinja *j, enum tlm_status code, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
#define FAIL(j, ...) jinja_fail(j, TLM_ERR_FORMAT, __VA_ARGS__)

// `work` is about sixteenths of a step; fails when none are left.
void jinja_charge(struct jinja *j, int64_t work);
void jinja_enter(struct jinja *j); // one level deeper, or fails; and back
static inline void jinja_leave(struct jinja *j)
{
    j->depth--;
}

// Zeroed memory of the pool; `count` items, checked for overflow.
void *pool_alloc(struct jinja *j, int64_t count, size_t item);
// A larger copy; in place where nothing was taken since.
void *pool_grow(struct jinja *j, void *old, int64_t old_count, int64_t new_count, size_t item);

// ---- making and looking at values ---------------------------------------------------------------------

static inline struct value value_missing(void)
{
    return (struct value){.type = V_MISSING};
}

static inline struct value value_none(void)
{
    return (struct value){.type = V_NONE};
}

static inline struct value value_bool(bool b)
{
    return (struct value){.type = V_BOOL, .n = b};
}

static inline struct value value_int(int64_t i)
{
    return (struct value){.type = V_INT, .n = i};
}

static inline struct value value_float(double f)
{
    return (struct value){.type = V_FLOAT, .f = f};
}

static inline struct value value_chars(const uint32_t *s, int64_t n)
{
    static const uint32_t nothing; // so that no string's pointer is NULL
    return (struct value){.type = V_STRING, .n = n, .s = s ? s : &nothing};
}

static inline bool is_given(struct value v)
{
    return v.type != V_MISSING;
}

static inline bool is_string(struct value v)
{
    return v.type == V_STRING;
}

static inline bool is_integer(struct value v) // as Python sees it: True is 1
{
    return v.type == V_INT || v.type == V_BOOL;
}

static inline bool is_number(struct value v)
{
    return is_integer(v) || v.type == V_FLOAT;
}

struct value value_ascii(struct jinja *j, const char *text);
struct value value_utf8(struct jinja *j, const char *text, size_t bytes,
                        uint32_t mark); // fails where not UTF-8
struct value value_undefined_name(struct jinja *j, struct value name);
struct value value_undefined_attribute(struct jinja *j, struct value owner, struct value name);
struct value value_undefined_hint(struct jinja *j, const char *hint);
_Noreturn void undefined_fail(struct jinja *j, struct value v); // what using it says

struct list *list_new(struct jinja *j, int64_t capacity);
void list_push(struct jinja *j, struct list *l, struct value v);
struct value value_list(struct list *l);
struct value value_tuple(struct list *l);
struct value value_pair(struct jinja *j, struct value a, struct value b);

struct dict *dict_new(struct jinja *j);
void dict_set(struct jinja *j, struct dict *d, struct value key,
              struct value v); // fails on an unhashable key
struct value *dict_find(struct jinja *j, const struct dict *d,
                        struct value key); // NULL where absent; likewise
bool value_hashable(struct jinja *j, struct value v);
struct value value_dict(struct dict *d);

bool value_truth(struct value v);
bool value_equal(struct jinja *j, struct value a, struct value b);
// < 0, 0, > 0. Fails where Python has no order; `op` is for the message.
int value_compare(struct jinja *j, struct value a, struct value b, const char *op);
bool value_contains(struct jinja *j, struct value container, struct value item);
bool value_length(struct jinja *j, struct value v, int64_t *length); // false where len() would raise
const char *type_name(struct value v);                               // Python's, for messages

bool string_is(struct value v, const char *ascii);
bool chars_equal(const uint32_t *a, const uint32_t *b, int64_t n);
// UTF-8 of at most `size` - 1 bytes for messages, what cannot be shown escaped; returns buffer.
const char *value_show(struct value string, char *buffer, size_t size);

// ---- text ---------------------------------------------------------------------------------------------

void text_put(struct jinja *j, struct text *t, uint32_t c);
void text_ascii(struct jinja *j, struct text *t, const char *s);
void text_add(struct jinja *j, struct text *t, struct value string);
void text_chars(struct jinja *j, struct text *t, const uint32_t *s, int64_t n);
static inline struct value text_value(const struct text *t)
{
    return value_chars(t->at, t->count);
}

struct value value_str(struct jinja *j, struct value v); // Python's str()
void text_str(struct jinja *j, struct text *t, struct value v);
void text_repr(struct jinja *j, struct text *t, struct value v);
void format_float(double f, char *buffer); // Python's repr(): the shortest that reads back; buffer of 32

// ---- characters (text/jinja_chars.c) ------------------------------------------------------------------

bool char_is_space(uint32_t c);
bool char_is_alpha(uint32_t c);
bool char_is_decimal(uint32_t c);
bool char_is_digit(uint32_t c);
bool char_is_numeric(uint32_t c);
bool char_is_lower(uint32_t c);
bool char_is_upper(uint32_t c);
bool char_is_title(uint32_t c);
bool char_is_cased(uint32_t c);
bool char_is_printable(uint32_t c);
bool char_is_name(uint32_t c, bool first);
bool char_breaks_line(uint32_t c);
// Full case mappings, up to three characters; the count comes back.
int char_upper(uint32_t c, uint32_t out[3]);
int char_title(uint32_t c, uint32_t out[3]);
int char_lower(uint32_t c, uint32_t out[3]);
int char_fold(uint32_t c, uint32_t out[4]);  // str.casefold(); likewise, up to four
size_t char_encode(uint32_t c, char out[4]); // as UTF-8

#endif
