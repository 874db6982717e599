// text/jinja_chars.c -- classes and case of characters as Python defines them, from utf8proc's Unicode data.
//
// Three things that Python has are not in utf8proc: letters by property rather than by category
// (Other_Lowercase and Other_Uppercase), digits that are no decimals, and mappings to more than one character
// (SpecialCasing.txt). These are tables below.
#include <utf8proc.h>

#include "text/jinja_value.h"

struct char_range {
    uint32_t first, last;
};

static const struct char_range other_lower[] = {
    {0x00aa, 0x00aa},   {0x00ba, 0x00ba},   {0x02b0, 0x02b8},   {0x02c0, 0x02c1},   {0x02e0, 0x02e4},
    {0x0345, 0x0345},   {0x037a, 0x037a},   {0x1d2c, 0x1d6a},   {0x1d78, 0x1d78},   {0x1d9b, 0x1dbf},
    {0x2071, 0x2071},   {0x207f, 0x207f},   {0x2090, 0x209c},   {0x2170, 0x217f},   {0x24d0, 0x24e9},
    {0x2c7c, 0x2c7d},   {0xa69c, 0xa69d},   {0xa770, 0xa770},   {0xa7f8, 0xa7f9},   {0xab5c, 0xab5f},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba},
};

static const struct char_range other_upper[] = {
    {0x2160, 0x216f}, {0x24b6, 0x24cf}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189},
};

static const struct char_range other_digit[] = {
    {0x00b2, 0x00b3}, {0x00b9, 0x00b9},   {0x1369, 0x1371},   {0x19da, 0x19da},   {0x2070, 0x2070},
    {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247c},   {0x2488, 0x2490},
    {0x24ea, 0x24ea}, {0x24f5, 0x24fd},   {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},
    {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a},
};

// What one character becomes in upper case where that is several; rising.
static const struct special {
    uint32_t c, upper[3];
} specials[] = {
    {0x00df, {0x0053, 0x0053}},         {0x0149, {0x02bc, 0x004e}},
    {0x01f0, {0x004a, 0x030c}},         {0x0390, {0x0399, 0x0308, 0x0301}},
    {0x03b0, {0x03a5, 0x0308, 0x0301}}, {0x0587, {0x0535, 0x0552}},
    {0x1e96, {0x0048, 0x0331}},         {0x1e97, {0x0054, 0x0308}},
    {0x1e98, {0x0057, 0x030a}},         {0x1e99, {0x0059, 0x030a}},
    {0x1e9a, {0x0041, 0x02be}},         {0x1f50, {0x03a5, 0x0313}},
    {0x1f52, {0x03a5, 0x0313, 0x0300}}, {0x1f54, {0x03a5, 0x0313, 0x0301}},
    {0x1f56, {0x03a5, 0x0313, 0x0342}}, {0x1f80, {0x1f08, 0x0399}},
    {0x1f81, {0x1f09, 0x0399}},         {0x1f82, {0x1f0a, 0x0399}},
    {0x1f83, {0x1f0b, 0x0399}},         {0x1f84, {0x1f0c, 0x0399}},
    {0x1f85, {0x1f0d, 0x0399}},         {0x1f86, {0x1f0e, 0x0399}},
    {0x1f87, {0x1f0f, 0x0399}},         {0x1f88, {0x1f08, 0x0399}},
    {0x1f89, {0x1f09, 0x0399}},         {0x1f8a, {0x1f0a, 0x0399}},
    {0x1f8b, {0x1f0b, 0x0399}},         {0x1f8c, {0x1f0c, 0x0399}},
    {0x1f8d, {0x1f0d, 0x0399}},         {0x1f8e, {0x1f0e, 0x0399}},
    {0x1f8f, {0x1f0f, 0x0399}},         {0x1f90, {0x1f28, 0x0399}},
    {0x1f91, {0x1f29, 0x0399}},         {0x1f92, {0x1f2a, 0x0399}},
    {0x1f93, {0x1f2b, 0x0399}},         {0x1f94, {0x1f2c, 0x0399}},
    {0x1f95, {0x1f2d, 0x0399}},         {0x1f96, {0x1f2e, 0x0399}},
    {0x1f97, {0x1f2f, 0x0399}},         {0x1f98, {0x1f28, 0x0399}},
    {0x1f99, {0x1f29, 0x0399}},         {0x1f9a, {0x1f2a, 0x0399}},
    {0x1f9b, {0x1f2b, 0x0399}},         {0x1f9c, {0x1f2c, 0x0399}},
    {0x1f9d, {0x1f2d, 0x0399}},         {0x1f9e, {0x1f2e, 0x0399}},
    {0x1f9f, {0x1f2f, 0x0399}},         {0x1fa0, {0x1f68, 0x0399}},
    {0x1fa1, {0x1f69, 0x0399}},         {0x1fa2, {0x1f6a, 0x0399}},
    {0x1fa3, {0x1f6b, 0x0399}},         {0x1fa4, {0x1f6c, 0x0399}},
    {0x1fa5, {0x1f6d, 0x0399}},         {0x1fa6, {0x1f6e, 0x0399}},
    {0x1fa7, {0x1f6f, 0x0399}},         {0x1fa8, {0x1f68, 0x0399}},
    {0x1fa9, {0x1f69, 0x0399}},         {0x1faa, {0x1f6a, 0x0399}},
    {0x1fab, {0x1f6b, 0x0399}},         {0x1fac, {0x1f6c, 0x0399}},
    {0x1fad, {0x1f6d, 0x0399}},         {0x1fae, {0x1f6e, 0x0399}},
    {0x1faf, {0x1f6f, 0x0399}},         {0x1fb2, {0x1fba, 0x0399}},
    {0x1fb3, {0x0391, 0x0399}},         {0x1fb4, {0x0386, 0x0399}},
    {0x1fb6, {0x0391, 0x0342}},         {0x1fb7, {0x0391, 0x0342, 0x0399}},
    {0x1fbc, {0x0391, 0x0399}},         {0x1fc2, {0x1fca, 0x0399}},
    {0x1fc3, {0x0397, 0x0399}},         {0x1fc4, {0x0389, 0x0399}},
    {0x1fc6, {0x0397, 0x0342}},         {0x1fc7, {0x0397, 0x0342, 0x0399}},
    {0x1fcc, {0x0397, 0x0399}},         {0x1fd2, {0x0399, 0x0308, 0x0300}},
    {0x1fd3, {0x0399, 0x0308, 0x0301}}, {0x1fd6, {0x0399, 0x0342}},
    {0x1fd7, {0x0399, 0x0308, 0x0342}}, {0x1fe2, {0x03a5, 0x0308, 0x0300}},
    {0x1fe3, {0x03a5, 0x0308, 0x0301}}, {0x1fe4, {0x03a1, 0x0313}},
    {0x1fe6, {0x03a5, 0x0342}},         {0x1fe7, {0x03a5, 0x0308, 0x0342}},
    {0x1ff2, {0x1ffa, 0x0399}},         {0x1ff3, {0x03a9, 0x0399}},
    {0x1ff4, {0x038f, 0x0399}},         {0x1ff6, {0x03a9, 0x0342}},
    {0x1ff7, {0x03a9, 0x0342, 0x0399}}, {0x1ffc, {0x03a9, 0x0399}},
    {0xfb00, {0x0046, 0x0046}},         {0xfb01, {0x0046, 0x0049}},
    {0xfb02, {0x0046, 0x004c}},         {0xfb03, {0x0046, 0x0046, 0x0049}},
    {0xfb04, {0x0046, 0x0046, 0x004c}}, {0xfb05, {0x0053, 0x0054}},
    {0xfb06, {0x0053, 0x0054}},         {0xfb13, {0x0544, 0x0546}},
    {0xfb14, {0x0544, 0x0535}},         {0xfb15, {0x0544, 0x053b}},
    {0xfb16, {0x054e, 0x0546}},         {0xfb17, {0x0544, 0x053d}},
};

static bool in_ranges(const struct char_range *r, size_t count, uint32_t c)
{
    for (size_t i = 0; i < count; i++) {
        if (c >= r[i].first && c <= r[i].last) return true;
    }
    return false;
}

#define IN(table, c) in_ranges(table, sizeof table / sizeof *table, c)

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)(c & JINJA_CHAR));
}

// str.isspace(): the bidirectional classes WS, B and S, and category Zs.
bool char_is_space(uint32_t c)
{
    c &= JINJA_CHAR;
    if (c < 128) return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

// Where str.splitlines() cuts.
bool char_breaks_line(uint32_t c)
{
    c &= JINJA_CHAR;
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool char_is_alpha(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool char_is_decimal(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool char_is_digit(uint32_t c)
{
    return char_is_decimal(c) || IN(other_digit, c & JINJA_CHAR);
}

bool char_is_numeric(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool char_is_lower(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LL || IN(other_lower, c & JINJA_CHAR);
}

bool char_is_upper(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LU || IN(other_upper, c & JINJA_CHAR);
}

bool char_is_title(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LT;
}

bool char_is_cased(uint32_t c)
{
    return char_is_lower(c) || char_is_upper(c) || char_is_title(c);
}

// What repr() shows as it is.
bool char_is_printable(uint32_t c)
{
    c &= JINJA_CHAR;
    if (c < 128) return c >= 32 && c < 127;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

// A character of a Python identifier.
bool char_is_name(uint32_t c, bool first)
{
    c &= JINJA_CHAR;
    if (c < 128) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        return letter || (!first && c >= '0' && c <= '9');
    }
    utf8proc_category_t k = category(c);
    if (char_is_alpha(c) || k == UTF8PROC_CATEGORY_NL) return true;
    return !first && (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ND ||
                      k == UTF8PROC_CATEGORY_PC);
}

static const struct special *find_special(uint32_t c)
{
    size_t low = 0, high = sizeof specials / sizeof *specials;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (specials[middle].c < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof specials / sizeof *specials && specials[low].c == c ? &specials[low] : NULL;
}

int char_upper(uint32_t c, uint32_t out[3])
{
    uint32_t mark = c & JINJA_INPUT, plain = c & JINJA_CHAR;
    const struct special *s = plain < 128 ? NULL : find_special(plain);
    if (!s) {
        out[0] = mark | (uint32_t)utf8proc_toupper((utf8proc_int32_t)plain);
        return 1;
    }
    int n = s->upper[2] ? 3 : 2;
    for (int i = 0; i < n; i++) out[i] = mark | s->upper[i];
    return n;
}

int char_title(uint32_t c, uint32_t out[3])
{
    enum { IOTA = 0x399, IOTA_BELOW = 0x345, N_AFTER_APOSTROPHE = 0x149 };
    uint32_t mark = c & JINJA_INPUT, plain = c & JINJA_CHAR;
    const struct special *s = plain < 128 ? NULL : find_special(plain);
    uint32_t simple = (uint32_t)utf8proc_totitle((utf8proc_int32_t)plain);
    // Letters with an iota below have a title form of their own, or keep the iota as a mark.
    bool has_title = s && s->upper[1] == IOTA && (char_is_title(plain) || char_is_title(simple));
    if (!s || has_title) {
        out[0] = mark | simple;
        return 1;
    }
    int n = s->upper[2] ? 3 : 2;
    for (int i = 0; i < n; i++) {
        uint32_t u = s->upper[i];
        if (i && u == IOTA)
            u = IOTA_BELOW;
        else if (i && plain != N_AFTER_APOSTROPHE)
            u = (uint32_t)utf8proc_tolower((utf8proc_int32_t)u);
        out[i] = mark | u;
    }
    return n;
}

int char_lower(uint32_t c, uint32_t out[3])
{
    uint32_t mark = c & JINJA_INPUT, plain = c & JINJA_CHAR;
    if (plain == 0x130) { // I with a dot above: the dot stays
        out[0] = mark | 'i';
        out[1] = mark | 0x307;
        return 2;
    }
    out[0] = mark | (uint32_t)utf8proc_tolower((utf8proc_int32_t)plain);
    return 1;
}

int char_fold(uint32_t c, uint32_t out[4])
{
    utf8proc_int32_t folded[4];
    int class = UTF8PROC_BOUNDCLASS_START;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)(c & JINJA_CHAR), folded, 4, UTF8PROC_CASEFOLD, &class);
    for (int i = 0; i < n; i++) out[i] = (uint32_t)folded[i] | (c & JINJA_INPUT);
    return (int)n;
}

size_t char_encode(uint32_t c, char out[4])
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)(c & JINJA_CHAR), (utf8proc_uint8_t *)out);
}
