// text/jinja_number.c -- arithmetic as Python's, but for integers beyond 64 bits, which are an error.
#include <math.h>
#include <string.h>

#include "text/jinja_builtin.h"

static const char *op_name(int op)
{
    switch (op) {
    case T_ADD: return "+";
    case T_SUB: return "-";
    case T_MUL: return "*";
    case T_DIV: return "/";
    case T_FLOORDIV: return "//";
    case T_MOD: return "%";
    default: return "**";
    }
}

_Noreturn static void fail_large(struct jinja *j)
{
    FAIL(j, "expected an integer of 64 bits, found a larger one");
}

_Noreturn static void fail_zero(struct jinja *j)
{
    FAIL(j, "expected a divisor other than zero, found zero");
}

static double as_float(struct value v)
{
    return v.type == V_FLOAT ? v.f : (double)v.n;
}

// Floor division and its remainder, which has the sign of the divisor.
static struct value divide_integers(struct jinja *j, int op, int64_t a, int64_t b)
{
    if (!b) fail_zero(j);
    if (b == -1) { // INT64_MIN / -1 does not exist
        if (op == T_MOD) return value_int(0);
        if (a == INT64_MIN) fail_large(j);
        return value_int(-a);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    return value_int(op == T_MOD ? rest : quotient);
}

// As CPython's float_divmod: the remainder exact, the quotient rounded to a whole number.
static struct value divide_floats(struct jinja *j, int op, double a, double b)
{
    if (b == 0) fail_zero(j);
    double rest = fmod(a, b), quotient = (a - rest) / b;
    if (rest != 0) {
        if ((b < 0) != (rest < 0)) {
            rest += b;
            quotient -= 1;
        }
    } else {
        rest = copysign(0, b);
    }
    if (op == T_MOD) return value_float(rest);
    if (quotient == 0) return value_float(copysign(0, a / b));
    double whole = floor(quotient);
    return value_float(quotient - whole > 0.5 ? whole + 1 : whole);
}

static struct value power_integers(struct jinja *j, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    bool overflow = false; // of the base's square, which only matters where it is used
    for (; exponent; exponent >>= 1) {
        if (exponent & 1 && (overflow || __builtin_mul_overflow(result, base, &result))) fail_large(j);
        overflow = overflow || __builtin_mul_overflow(base, base, &base);
    }
    return value_int(result);
}

static struct value power(struct jinja *j, struct value a, struct value b)
{
    if (is_integer(a) && is_integer(b) && b.n >= 0) return power_integers(j, a.n, b.n);
    double x = as_float(a), y = as_float(b);
    if (x == 0 && y < 0) fail_zero(j);
    if (x < 0 && y != floor(y)) FAIL(j, "expected a real power, found a complex one");
    double p = pow(x, y);
    if (isinf(p) && !isinf(x) && !isinf(y))
        FAIL(j, "expected a power that a float can hold, found a larger one");
    return value_float(p);
}

static struct value on_integers(struct jinja *j, int op, int64_t a, int64_t b)
{
    int64_t r;
    bool overflow;
    switch (op) {
    case T_ADD: overflow = __builtin_add_overflow(a, b, &r); break;
    case T_SUB: overflow = __builtin_sub_overflow(a, b, &r); break;
    case T_MUL: overflow = __builtin_mul_overflow(a, b, &r); break;
    case T_DIV:
        if (!b) fail_zero(j);
        return value_float((double)a / (double)b);
    default: return divide_integers(j, op, a, b);
    }
    if (overflow) fail_large(j);
    return value_int(r);
}

static struct value on_numbers(struct jinja *j, int op, struct value a, struct value b)
{
    if (op == T_POW) return power(j, a, b);
    if (is_integer(a) && is_integer(b)) return on_integers(j, op, a.n, b.n);
    double x = as_float(a), y = as_float(b);
    switch (op) {
    case T_ADD: return value_float(x + y);
    case T_SUB: return value_float(x - y);
    case T_MUL: return value_float(x * y);
    case T_DIV:
        if (y == 0) fail_zero(j);
        return value_float(x / y);
    default: return divide_floats(j, op, x, y);
    }
}

static struct value concatenate(struct jinja *j, struct value a, struct value b)
{
    if (a.type == V_STRING) {
        bool safe = a.safe || b.safe; // with a safe one, the other is escaped
        if (safe) {
            a = string_escape(j, a);
            b = string_escape(j, b);
        }
        jinja_charge(j, a.n + b.n);
        uint32_t *s = pool_alloc(j, a.n + b.n, sizeof *s);
        if (a.n) memcpy(s, a.s, (size_t)a.n * sizeof *s);
        if (b.n) memcpy(s + a.n, b.s, (size_t)b.n * sizeof *s);
        struct value v = value_chars(s, a.n + b.n);
        v.safe = safe;
        return v;
    }
    struct list *l = list_new(j, a.list->count + b.list->count);
    for (int64_t i = 0; i < a.list->count; i++) list_push(j, l, a.list->items[i]);
    for (int64_t i = 0; i < b.list->count; i++) list_push(j, l, b.list->items[i]);
    return a.type == V_LIST ? value_list(l) : value_tuple(l);
}

static struct value repeat(struct jinja *j, struct value v, int64_t times)
{
    if (times < 0) times = 0;
    int64_t n = v.type == V_STRING ? v.n : v.list->count, total;
    if (__builtin_mul_overflow(n, times, &total)) total = INT64_MAX;
    if (v.type == V_STRING) {
        uint32_t *s = pool_alloc(j, total, sizeof *s);
        jinja_charge(j, total);
        for (int64_t i = 0; i < total; i += n) memcpy(s + i, v.s, (size_t)n * sizeof *s);
        struct value repeated = value_chars(s, total);
        repeated.safe = v.safe;
        return repeated;
    }
    struct list *l = list_new(j, total);
    for (int64_t i = 0; i < total; i++) list_push(j, l, v.list->items[i % n]);
    return v.type == V_LIST ? value_list(l) : value_tuple(l);
}

static bool is_sequence(struct value v)
{
    return v.type == V_STRING || v.type == V_LIST || v.type == V_TUPLE;
}

struct value number_arithmetic(struct jinja *j, int op, struct value a, struct value b)
{
    if (is_number(a) && is_number(b)) return on_numbers(j, op, a, b);
    if (op == T_MOD && is_string(a)) return string_percent(j, a, b);
    if (a.type == V_UNDEFINED) undefined_fail(j, a);
    if (b.type == V_UNDEFINED) undefined_fail(j, b);
    if (op == T_ADD && is_sequence(a) && a.type == b.type) return concatenate(j, a, b);
    if (op == T_MUL && is_sequence(a) && is_integer(b)) return repeat(j, a, b.n);
    if (op == T_MUL && is_sequence(b) && is_integer(a)) return repeat(j, b, a.n);
    FAIL(j, "unsupported operands of %s: %s and %s", op_name(op), type_name(a), type_name(b));
}

struct value number_negate(struct jinja *j, int op, struct value a)
{
    if (a.type == V_UNDEFINED) undefined_fail(j, a);
    if (!is_number(a)) FAIL(j, "unsupported operand of unary %s: %s", op_name(op), type_name(a));
    if (a.type == V_FLOAT) return value_float(op == T_SUB ? -a.f : a.f);
    if (op == T_SUB && a.n == INT64_MIN) fail_large(j);
    return value_int(op == T_SUB ? -a.n : a.n);
}

// ---- numbers in text ----------------------------------------------------------------------------------

static int digit_of(uint32_t c)
{
    c &= JINJA_CHAR;
    return c >= '0' && c <= '9'   ? (int)c - '0'
           : c >= 'a' && c <= 'z' ? (int)c - 'a' + 10
           : c >= 'A' && c <= 'Z' ? (int)c - 'A' + 10
                                  : 99;
}

static struct value trim(struct value s)
{
    while (s.n && char_is_space(s.s[0])) s.s++, s.n--;
    while (s.n && char_is_space(s.s[s.n - 1])) s.n--;
    return s;
}

// Python's int(s, base): blanks around, a sign, a prefix of the base (base 0 takes any), single underscores.
bool number_parse_integer(struct value s, int base, int64_t *out)
{
    s = trim(s);
    bool negative = s.n && (s.s[0] & JINJA_CHAR) == '-';
    if (negative || (s.n && (s.s[0] & JINJA_CHAR) == '+')) s.s++, s.n--;
    uint32_t letter = s.n > 1 && (s.s[0] & JINJA_CHAR) == '0' ? (s.s[1] & JINJA_CHAR) | 0x20 : 0;
    int prefix = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    bool prefixed = prefix && (base == prefix || base == 0);
    bool zeros_only = base == 0 && !prefixed && s.n && digit_of(s.s[0]) == 0;
    if (prefixed) s.s += 2, s.n -= 2;
    if (base == 0) base = prefixed ? prefix : 10;
    int64_t n = 0;
    bool digit = prefixed; // an underscore may follow
    for (int64_t i = 0; i < s.n; i++) {
        if ((s.s[i] & JINJA_CHAR) == '_' && digit) {
            digit = false;
            continue;
        }
        int d = digit_of(s.s[i]);
        if (d >= base || (zeros_only && d)) return false;
        digit = true;
        if (__builtin_mul_overflow(n, (int64_t)base, &n) || __builtin_sub_overflow(n, (int64_t)d, &n))
            return false;
    }
    if (!digit || !s.n || (!negative && n == INT64_MIN)) return false;
    *out = negative ? n : -n;
    return true;
}

// Python's float(s): blanks around, single underscores between digits; inf, infinity and nan in any case.
bool number_parse_float(struct jinja *j, struct value s, double *out)
{
    s = trim(s);
    if (!s.n || s.n > 4096) return false;
    char *text = pool_alloc(j, s.n + 1, 1), *end;
    int64_t n = 0;
    for (int64_t i = 0; i < s.n; i++) {
        uint32_t c = s.s[i] & JINJA_CHAR;
        bool between = i && i + 1 < s.n && digit_of(s.s[i - 1]) < 10 && digit_of(s.s[i + 1]) < 10;
        if (c == '_' && between) continue;
        if (c >= 128 || c == '_' || c == 'x' || c == 'X' || c == '(' || char_is_space(c) || !c) return false;
        text[n++] = (char)c;
    }
    *out = strtod(text, &end);
    return end == text + n;
}

// Python's round(): to even for integers and halves, by the exact decimal value for floats.
struct value number_round(struct jinja *j, struct value v, int64_t digits)
{
    if (is_integer(v)) {
        if (digits >= 0) return value_int(v.n);
        if (digits < -18) return value_int(0);
        int64_t unit = 1;
        for (int64_t i = 0; i > digits; i--) unit *= 10;
        int64_t rest = divide_integers(j, T_MOD, v.n, unit).n, down = v.n - rest;
        bool up = rest > unit / 2 || (rest == unit / 2 && divide_integers(j, T_FLOORDIV, v.n, unit).n % 2);
        return value_int(up ? down + unit : down);
    }
    if (v.f - v.f != 0 || digits > 330) return v;
    if (digits < -330) return value_float(copysign(0, v.f));
    char text[700];
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, v.f);
        return value_float(strtod(text, NULL));
    }
    double unit = pow(10, (double)-digits);
    return value_float(nearbyint(v.f / unit) * unit);
}
