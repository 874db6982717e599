// text/grammar_number.c -- the numbers of a range as expressions over their digits.
//
// A number is compared with a bound digit by digit: as long as it has the bound's own digits it is tight, and the next digit may not
// pass the bound's; once it is off the bound anything may follow. A range has two bounds, so there are four cases a digit.
#include <math.h>
#include <string.h>

#include "text/grammar_json.h"

enum { POINT_DIGITS = 15, DOUBLE_DIGITS = 15 };

static int32_t digit(struct grammar_exprs *x, int low, int high)
{
    return expr_range(x, (uint32_t)('0' + low), (uint32_t)('0' + high));
}

// ---- whole numbers --------------------------------------------------------------------------------------

// Texts of n digits from `low` to `high`, which have n digits, too.
static int32_t same_length(struct grammar_exprs *x, const char *low, const char *high, int n)
{
    if (!n) return 0;
    if (strspn(low, "0") >= (size_t)n && strspn(high, "9") >= (size_t)n)
        return expr_repeat(x, digit(x, 0, 9), n, n);
    static const char zeros[] = "0000000000000000000", nines[] = "9999999999999999999";
    int a = low[0] - '0', b = high[0] - '0';
    if (a == b) return expr_list(x, digit(x, a, a), same_length(x, low + 1, high + 1, n - 1));
    int32_t alt = expr_many(x, EXPR_ALT);
    expr_add(x, alt, expr_list(x, digit(x, a, a), same_length(x, low + 1, nines, n - 1)));
    if (a + 1 < b)
        expr_add(x, alt, expr_list(x, digit(x, a + 1, b - 1), expr_repeat(x, digit(x, 0, 9), n - 1, n - 1)));
    return expr_add(x, alt, expr_list(x, digit(x, b, b), same_length(x, zeros, high + 1, n - 1)));
}

// 0 <= low <= high
static int32_t unsigned_range(struct grammar_exprs *x, uint64_t low, uint64_t high)
{
    int32_t alt = expr_many(x, EXPR_ALT);
    uint64_t least = 0, most = 9; // of so many digits
    for (int n = 1; n <= 19; n++) {
        uint64_t a = low > least ? low : least, b = high < most ? high : most;
        if (a <= b) {
            char from[24], to[24];
            snprintf(from, sizeof from, "%llu", (unsigned long long)a);
            snprintf(to, sizeof to, "%llu", (unsigned long long)b);
            expr_add(x, alt, same_length(x, from, to, n));
        }
        least = most + 1;
        most = most * 10 + 9;
    }
    return alt;
}

int32_t json_whole_numbers(struct json_rules *j, struct number_range range)
{
    const double usual = 1e16,
                 edge = 9.2e18; // what doubles hold exactly, about; what 64 bits hold
    struct grammar_exprs *x = j->x;
    double low = ceil(range.low), high = floor(range.high);
    if (range.low_open && low == range.low) low += 1;
    if (range.high_open && high == range.high) high -= 1;
    int32_t alt = expr_many(x, EXPR_ALT);
    if (!(low > -INFINITY)) low = high < -usual ? -edge : -usual;
    if (!(high < INFINITY)) high = low > usual ? edge : usual;
    if (low < -edge) low = -edge;
    if (high > edge) high = edge;
    if (low > high) return alt;
    if (high >= 0) expr_add(x, alt, unsigned_range(x, low > 0 ? (uint64_t)low : 0, (uint64_t)high));
    if (low < 0) {
        int32_t negative = unsigned_range(x, high < 0 ? (uint64_t)-high : 1, (uint64_t)-low);
        expr_add(x, alt, expr_list(x, expr_bytes(x, "-", 1), negative));
    }
    return alt;
}

// ---- decimals -------------------------------------------------------------------------------------------

struct decimal {
    uint64_t whole;
    char point[POINT_DIGITS + 1]; // digits behind it, without zeros at the end
    bool open, none;              // the bound itself is out; there is no bound
};

static bool read_decimal(double value, bool open, struct decimal *d)
{
    *d = (struct decimal){.open = open, .none = isinf(value)};
    if (d->none) return true;
    if (!(value >= 0 && value < 1e15)) return false;
    for (int digits = 0; digits <= POINT_DIGITS; digits++) {
        char text[64];
        snprintf(text, sizeof text, "%.*f", digits, value);
        if (strtod(text, NULL) != value) continue;
        d->whole = strtoull(text, NULL, 10);
        if (digits) memcpy(d->point, strchr(text, '.') + 1, (size_t)digits + 1);
        return true;
    }
    return false;
}

struct tight { // the bounds whose digits the number has had so far
    const struct decimal *low, *high;
};

static int digit_of(const struct decimal *d, int at)
{
    return at < (int)strlen(d->point) ? d->point[at] - '0' : 0;
}

static bool zeros_from(const struct decimal *d, int at)
{
    return at >= (int)strlen(d->point);
}

// Whether a number may end in front of digit `at` behind the point.
static bool may_end(struct tight t, int at)
{
    if (t.low && (!zeros_from(t.low, at) || t.low->open)) return false;
    return !(t.high && zeros_from(t.high, at) && t.high->open);
}

// Digits `at` and on behind the point, of at most `end` digits there; at least one where `at` is 0.
static int32_t point_digits(struct grammar_exprs *x, struct tight t, int at, int end)
{
    if (!t.low && !t.high) return expr_repeat(x, digit(x, 0, 9), at ? 0 : 1, end - at);
    int32_t alt = expr_many(x, EXPR_ALT);
    if (at && may_end(t, at)) expr_add(x, alt, 0);
    if (at == end) return alt;
    int low = t.low ? digit_of(t.low, at) : 0, high = t.high ? digit_of(t.high, at) : 9;
    for (int d = low; d <= high;) {
        struct tight next = {t.low && d == low ? t.low : NULL, t.high && d == high ? t.high : NULL};
        int last = d;
        while (!next.low && !next.high && last + 1 <= high && !(t.high && last + 1 == high)) last++;
        int32_t rest = next.low || next.high ? point_digits(x, next, at + 1, end)
                                             : expr_repeat(x, digit(x, 0, 9), 0, end - at - 1);
        expr_add(x, alt, expr_list(x, digit(x, d, last), rest));
        d = last + 1;
    }
    return alt;
}

// A point and digits, or nothing, behind a whole part that is tight as `t` says and `whole` long.
static int32_t fraction(struct grammar_exprs *x, struct tight t, uint64_t whole)
{
    int end = DOUBLE_DIGITS;
    for (uint64_t w = whole; w; w /= 10) end--;
    int need = 0; // digits of the bounds, which the number must be able to have
    if (t.low) need = (int)strlen(t.low->point) + 1;
    if (t.high && need < (int)strlen(t.high->point) + 1) need = (int)strlen(t.high->point) + 1;
    if (end < need) end = need;
    if (end < 1) end = 1;
    int32_t some = expr_list(x, expr_bytes(x, ".", 1), point_digits(x, t, 0, end));
    return may_end(t, 0) ? expr_repeat(x, some, 0, 1) : some;
}

// low <= number <= high, neither below 0.
static int32_t positive_range(struct grammar_exprs *x, const struct decimal *low, const struct decimal *high)
{
    const uint64_t most = 999999999999999;
    int32_t alt = expr_many(x, EXPR_ALT);
    uint64_t first = low->whole, last = high->none ? most : high->whole;
    if (first > last) return alt;
    if (first == last && !high->none) {
        struct tight both = {low, high};
        return expr_add(x, alt, expr_list(x, unsigned_range(x, first, first), fraction(x, both, first)));
    }
    struct tight only_low = {low, NULL}, only_high = {NULL, high}, neither = {NULL, NULL};
    expr_add(x, alt, expr_list(x, unsigned_range(x, first, first), fraction(x, only_low, first)));
    if (!high->none) {
        expr_add(x, alt, expr_list(x, unsigned_range(x, last, last), fraction(x, only_high, last)));
        last--;
    }
    // Digits that doubles cannot tell apart might round up to a bound that is out.
    uint64_t whole = high->open ? last : 0;
    if (first < last)
        expr_add(x, alt, expr_list(x, unsigned_range(x, first + 1, last), fraction(x, neither, whole)));
    return alt;
}

static bool is_empty(const struct decimal *low, const struct decimal *high)
{
    if (high->none) return false;
    if (low->whole != high->whole) return low->whole > high->whole;
    int order = strcmp(low->point, high->point);
    return order > 0 || (!order && (low->open || high->open));
}

bool json_decimals(struct json_rules *j, struct number_range r, int32_t *expr)
{
    struct grammar_exprs *x = j->x;
    int32_t alt = *expr = expr_many(x, EXPR_ALT);
    struct decimal low, high;
    bool positive = r.high >= 0, negative = r.low < 0;
    if (positive) {
        if (!read_decimal(r.low > 0 ? r.low : 0, r.low >= 0 && r.low_open, &low) ||
            !read_decimal(r.high, r.high_open, &high))
            return false;
        if (!is_empty(&low, &high)) expr_add(x, alt, positive_range(x, &low, &high));
    }
    if (negative) { // the same of the other sign; zero is written without one
        bool to_zero = r.high >= 0;
        if (!read_decimal(to_zero ? 0 : -r.high, to_zero || r.high_open, &low) ||
            !read_decimal(-r.low, r.low_open, &high))
            return false;
        if (!is_empty(&low, &high))
            expr_add(x, alt, expr_list(x, expr_bytes(x, "-", 1), positive_range(x, &low, &high)));
    }
    return true;
}
