// text/jinja_tests.c -- tests: what stands behind `is`.
#include "text/jinja_builtin.h"

#define TEST(name)                                                                        \
    static struct value name(struct jinja *j, struct value self, const struct value *arg, \
                             const struct args *rest)
// A test of one value that needs nothing else.
#define SIMPLE_TEST(name, holds)        \
    TEST(name)                          \
    {                                   \
        (void)j, (void)arg, (void)rest; \
        return value_bool(holds);       \
    }

SIMPLE_TEST(test_defined, self.type != V_UNDEFINED)
SIMPLE_TEST(test_undefined, self.type == V_UNDEFINED)
SIMPLE_TEST(test_none, self.type == V_NONE)
SIMPLE_TEST(test_boolean, self.type == V_BOOL)
SIMPLE_TEST(test_true, self.type == V_BOOL && self.n)
SIMPLE_TEST(test_false, self.type == V_BOOL && !self.n)
SIMPLE_TEST(test_integer, self.type == V_INT)
SIMPLE_TEST(test_float, self.type == V_FLOAT)
SIMPLE_TEST(test_number, is_number(self))
SIMPLE_TEST(test_string, is_string(self))
SIMPLE_TEST(test_mapping, self.type == V_DICT)
SIMPLE_TEST(test_iterable, is_iterable(self))
SIMPLE_TEST(test_escaped, is_string(self) && self.safe)
SIMPLE_TEST(test_filter, is_string(self) && filter_find(self))
SIMPLE_TEST(test_test, is_string(self) && test_find(self))
SIMPLE_TEST(test_sequence, self.type == V_UNDEFINED || self.type == V_STRING || self.type == V_LIST ||
                               self.type == V_TUPLE || self.type == V_DICT || self.type == V_RANGE)
// An undefined value has a __call__, which fails.
SIMPLE_TEST(test_callable, self.type == V_UNDEFINED || self.type == V_MACRO || self.type == V_FUNCTION ||
                               self.type == V_METHOD || self.type == V_LOOP || self.type == V_JOINER)

static struct value remainder_of(struct jinja *j, struct value a, struct value b)
{
    return number_arithmetic(j, T_MOD, a, b);
}

TEST(test_odd)
{
    (void)arg, (void)rest;
    return value_bool(value_equal(j, remainder_of(j, self, value_int(2)), value_int(1)));
}

TEST(test_even)
{
    (void)arg, (void)rest;
    return value_bool(value_equal(j, remainder_of(j, self, value_int(2)), value_int(0)));
}

TEST(test_divisibleby)
{
    (void)rest;
    return value_bool(value_equal(j, remainder_of(j, self, arg[0]), value_int(0)));
}

static struct value of_text(struct jinja *j, struct value self, const char *method)
{
    struct args none = {0};
    struct value s = value_str(j, self);
    return builtin_call(j, method_find(s, value_ascii(j, method)), s, &none);
}

TEST(test_lower)
{
    (void)arg, (void)rest;
    return of_text(j, self, "islower");
}

TEST(test_upper)
{
    (void)arg, (void)rest;
    return of_text(j, self, "isupper");
}

TEST(test_in)
{
    (void)rest;
    return value_bool(value_contains(j, arg[0], self));
}

// The same object: equal where values have no identity that a template could tell.
TEST(test_sameas)
{
    (void)rest;
    struct value a = self, b = arg[0];
    if (a.type != b.type) return value_bool(false);
    switch (a.type) {
    case V_UNDEFINED: return value_bool(a.undefined == b.undefined);
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_FLOAT:
    case V_STRING: return value_bool(value_equal(j, a, b));
    default: return value_bool(a.dict == b.dict);
    }
}

TEST(test_eq)
{
    (void)rest;
    return value_bool(value_equal(j, self, arg[0]));
}

TEST(test_ne)
{
    (void)rest;
    return value_bool(!value_equal(j, self, arg[0]));
}

TEST(test_lt)
{
    (void)rest;
    return value_bool(value_compare(j, self, arg[0], "<") < 0);
}

TEST(test_le)
{
    (void)rest;
    return value_bool(value_compare(j, self, arg[0], "<=") <= 0);
}

TEST(test_gt)
{
    (void)rest;
    return value_bool(value_compare(j, self, arg[0], ">") == 1);
}

TEST(test_ge)
{
    (void)rest;
    int order = value_compare(j, self, arg[0], ">=");
    return value_bool(order == 0 || order == 1);
}

static const struct builtin tests[] = {
    {"odd", test_odd, "", 0},
    {"even", test_even, "", 0},
    {"divisibleby", test_divisibleby, "num", 1},
    {"defined", test_defined, "", 0},
    {"undefined", test_undefined, "", 0},
    {"filter", test_filter, "", 0},
    {"test", test_test, "", 0},
    {"none", test_none, "", 0},
    {"boolean", test_boolean, "", 0},
    {"false", test_false, "", 0},
    {"true", test_true, "", 0},
    {"integer", test_integer, "", 0},
    {"float", test_float, "", 0},
    {"lower", test_lower, "", 0},
    {"upper", test_upper, "", 0},
    {"string", test_string, "", 0},
    {"mapping", test_mapping, "", 0},
    {"number", test_number, "", 0},
    {"sequence", test_sequence, "", 0},
    {"iterable", test_iterable, "", 0},
    {"callable", test_callable, "/", 0},
    {"sameas", test_sameas, "other", 1},
    {"escaped", test_escaped, "", 0},
    {"in", test_in, "seq", 1},
    {"==", test_eq, "/b", 1},
    {"eq", test_eq, "/b", 1},
    {"equalto", test_eq, "/b", 1},
    {"!=", test_ne, "/b", 1},
    {"ne", test_ne, "/b", 1},
    {">", test_gt, "/b", 1},
    {"gt", test_gt, "/b", 1},
    {"greaterthan", test_gt, "/b", 1},
    {">=", test_ge, "/b", 1},
    {"ge", test_ge, "/b", 1},
    {"<", test_lt, "/b", 1},
    {"lt", test_lt, "/b", 1},
    {"lessthan", test_lt, "/b", 1},
    {"<=", test_le, "/b", 1},
    {"le", test_le, "/b", 1},
};

const struct builtin *test_find(struct value name)
{
    return builtin_find(tests, sizeof tests / sizeof *tests, name);
}
