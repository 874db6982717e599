// text/jinja_lex.c -- a template's source to tokens, by the rules of jinja2's lexer.py.
//
// Text, {{ }}, {% %}, {# #} and {% raw %} alternate. What white space around a tag is dropped:
//
//     {%- {{- {#-     all in front of the tag           -%} -}} -#}     all behind it
//     {%  {#          (lstrip_blocks) blanks between the start of the line and the tag; {%+ {#+ keep them
//     %}  #}          (trim_blocks) one newline behind the tag; +%} +#} keep it
//
// and the one newline at the very end of the source.
#include <string.h>

#include "text/jinja_ast.h"

struct lexer {
    struct jinja *j;
    const uint32_t *s;
    int64_t at, end;
    int line;
    bool line_starting; // what was lexed last ends with a newline, or nothing was
    struct tokens *out;
    struct list *brackets; // that are open: V_INT of the character that closes each, and of its line
};

static uint32_t look(const struct lexer *l, int64_t ahead)
{
    return l->at + ahead < l->end ? l->s[l->at + ahead] : 0;
}

static bool starts(const struct lexer *l, int64_t at, const char *ascii)
{
    for (int64_t i = 0; ascii[i]; i++) {
        if (at + i >= l->end || l->s[at + i] != (unsigned char)ascii[i]) return false;
    }
    return true;
}

static void push(struct lexer *l, enum token_kind kind, struct value v)
{
    struct tokens *t = l->out;
    if (t->count == t->capacity) {
        int64_t capacity = t->capacity ? t->capacity * 2 : 256;
        t->items = pool_grow(l->j, t->items, t->capacity, capacity, sizeof *t->items);
        t->capacity = capacity;
    }
    t->items[t->count++] = (struct token){kind, l->line, v};
}

// Goes on to `to` and counts the lines.
static void advance(struct lexer *l, int64_t to)
{
    for (; l->at < to; l->at++) l->line += l->s[l->at] == '\n';
}

static int64_t skip_space(const struct lexer *l, int64_t at)
{
    while (at < l->end && char_is_space(l->s[at])) at++;
    return at;
}

// Text in front of a tag whose sign ('-', '+' or 0) is given. Variables keep the blanks of their line.
static void push_data(struct lexer *l, int64_t begin, int64_t end, uint32_t sign, bool variable)
{
    int64_t keep = end;
    if (sign == '-') {
        while (keep > begin && char_is_space(l->s[keep - 1])) keep--;
    } else if (sign != '+' && !variable) {
        int64_t line = end;
        while (line > begin && l->s[line - 1] != '\n') line--;
        if ((line > begin || l->line_starting) && skip_space(l, line) >= end) keep = line;
    }
    if (keep > begin) push(l, T_DATA, value_chars(l->s + begin, keep - begin));
}

// Past the end of a tag: `close` with a sign in front, and the white space that goes with it. -1 if it is not
// here.
static int64_t tag_end(const struct lexer *l, int64_t at, const char *close, bool plus)
{
    bool minus = at < l->end && l->s[at] == '-' && starts(l, at + 1, close);
    if (minus) return skip_space(l, at + 3);
    if (plus && at < l->end && l->s[at] == '+' && starts(l, at + 1, close)) return at + 3;
    if (!starts(l, at, close)) return -1;
    at += 2;
    bool variable = close[0] == '}';
    return !variable && at < l->end && l->s[at] == '\n' ? at + 1 : at;
}

// Past "raw" and the end of its tag if that is what begins at `at`; -1 if not.
static int64_t raw_begin(const struct lexer *l, int64_t at)
{
    at = skip_space(l, at);
    if (!starts(l, at, "raw")) return -1;
    at = skip_space(l, at + 3);
    if (starts(l, at, "-%}")) return skip_space(l, at + 3);
    return starts(l, at, "%}") ? at + 2 : -1;
}

static void lex_raw(struct lexer *l)
{
    for (int64_t at = l->at; at < l->end; at++) {
        if (!starts(l, at, "{%")) continue;
        uint32_t sign = at + 2 < l->end && (l->s[at + 2] == '-' || l->s[at + 2] == '+') ? l->s[at + 2] : 0;
        int64_t word = skip_space(l, at + 2 + (sign != 0));
        if (!starts(l, word, "endraw")) continue;
        int64_t end = tag_end(l, skip_space(l, word + 6), "%}", true);
        if (end < 0) continue;
        push_data(l, l->at, at, sign, false);
        advance(l, end);
        l->line_starting = l->s[end - 1] == '\n';
        return;
    }
    l->j->line = l->line;
    FAIL(l->j, "expected {%% endraw %%}, found the end of the template");
}

static void lex_comment(struct lexer *l)
{
    for (int64_t at = l->at; at < l->end; at++) {
        int64_t end = tag_end(l, at, "#}", true);
        if (end < 0) continue;
        advance(l, end);
        l->line_starting = l->s[end - 1] == '\n';
        return;
    }
    l->j->line = l->line;
    FAIL(l->j, "expected the end of a comment, found the end of the template");
}

// ---- inside {{ }} and {% %} ---------------------------------------------------------------------------

static bool is_decimal(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static int digit_value(uint32_t c)
{
    return is_decimal(c)          ? (int)c - '0'
           : c >= 'a' && c <= 'f' ? (int)c - 'a' + 10
           : c >= 'A' && c <= 'F' ? (int)c - 'A' + 10
                                  : 99;
}

// Past digits of the base with single underscores between them; `at` itself if there are none.
static int64_t skip_digits(const struct lexer *l, int64_t at, int base, bool leading_underscore)
{
    int64_t begin = at;
    for (;;) {
        int64_t digit = at < l->end && l->s[at] == '_' && (at > begin || leading_underscore) ? at + 1 : at;
        if (digit >= l->end || digit_value(l->s[digit]) >= base) return at;
        at = digit + 1;
    }
}

// The end of a float at `at`, or `at`: digits, then a fraction, an exponent, or both.
static int64_t float_end(const struct lexer *l, int64_t at)
{
    if (at > 0 && l->s[at - 1] == '.') return at;
    int64_t whole = skip_digits(l, at, 10, false), end = whole;
    if (whole == at) return at;
    if (end < l->end && l->s[end] == '.') {
        int64_t fraction = skip_digits(l, end + 1, 10, false);
        if (fraction > end + 1) end = fraction;
    }
    if (end < l->end && (l->s[end] == 'e' || l->s[end] == 'E')) {
        int64_t sign = end + 1;
        if (sign < l->end && (l->s[sign] == '+' || l->s[sign] == '-')) sign++;
        int64_t exponent = skip_digits(l, sign, 10, false);
        if (exponent > sign) end = exponent;
    }
    return end > whole ? end : at;
}

static void lex_float(struct lexer *l, int64_t end)
{
    char *digits = pool_alloc(l->j, end - l->at + 1, 1);
    size_t n = 0;
    for (int64_t i = l->at; i < end; i++) {
        if (l->s[i] != '_') digits[n++] = (char)l->s[i];
    }
    push(l, T_FLOAT, value_float(strtod(digits, NULL)));
}

static void lex_integer(struct lexer *l)
{
    uint32_t second = look(l, 1) | 0x20;
    int base = look(l, 0) != '0' ? 10 : second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 1;
    int64_t begin = l->at, end = begin;
    if (base == 16 || base == 8 || base == 2) end = skip_digits(l, begin += 2, base, true);
    if (end <= begin) { // decimal: zeros alone, or digits that begin with another
        begin = l->at;
        base = look(l, 0) == '0' ? 1 : 10;
        end = skip_digits(l, begin, base, false);
    }
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        if (l->s[i] == '_') continue;
        if (__builtin_mul_overflow(n, (int64_t)base, &n) ||
            __builtin_add_overflow(n, digit_value(l->s[i]), &n)) {
            l->j->line = l->line;
            FAIL(l->j, "expected an integer of 64 bits, found a larger one");
        }
    }
    push(l, T_INTEGER, value_int(n));
    l->at = end;
}

// A number of up to `most` digits behind an escape; how many there were comes back in *count.
static uint32_t escaped_number(const uint32_t *s, int64_t left, int base, int most, int *count)
{
    uint32_t n = 0;
    for (*count = 0; *count < most && *count < left && digit_value(s[*count]) < base; (*count)++)
        n = n * (uint32_t)base + (uint32_t)digit_value(s[*count]);
    return n;
}

// A backslash in front of a character that Python's unicode-escape codec was handed as an escape itself.
static void put_other_escape(struct jinja *j, struct text *t, uint32_t c)
{
    char escape[16];
    if (c < 128)
        snprintf(escape, sizeof escape, "\\%c", (char)c);
    else if (c < 0x100)
        snprintf(escape, sizeof escape, "\\x%02x", (unsigned)c);
    else
        snprintf(escape, sizeof escape, c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
    text_ascii(j, t, escape);
}

// The text of a string literal between its quotes.
static struct value unescape(struct lexer *l, const uint32_t *s, int64_t n)
{
    static const char codes[] = "\\'\"abfnrtv", meanings[] = "\\'\"\a\b\f\n\r\t\v";
    struct text t = {0};
    int64_t i = 0;
    while (i < n) {
        uint32_t c = s[i++];
        if (c != '\\' || i == n) {
            text_put(l->j, &t, c);
            continue;
        }
        c = s[i++];
        const char *simple = c && c < 128 ? strchr(codes, (int)c) : NULL;
        if (simple) {
            text_put(l->j, &t, (unsigned char)meanings[simple - codes]);
        } else if (c >= '0' && c <= '7') {
            int count;
            text_put(l->j, &t, escaped_number(s + i - 1, n - i + 1, 8, 3, &count));
            i += count - 1;
        } else if (c == 'x' || c == 'u' || c == 'U') {
            int wanted = c == 'x' ? 2 : c == 'u' ? 4 : 8, count;
            uint32_t number = escaped_number(s + i, n - i, 16, wanted, &count);
            l->j->line = l->line;
            if (count < wanted || number > 0x10FFFF)
                FAIL(l->j, "expected %d hexadecimal digits of a character behind \\%c, found others", wanted,
                     (char)c);
            text_put(l->j, &t, number);
            i += count;
        } else if (c == 'N') {
            l->j->line = l->line;
            FAIL(l->j, "names of characters (\\N) are not supported: expected \\u");
        } else if (c != '\n') {
            put_other_escape(l->j, &t, c);
        }
    }
    return text_value(&t);
}

// True where a string literal begins here and ends.
static bool lex_string(struct lexer *l)
{
    uint32_t quote = look(l, 0);
    int64_t end = l->at + 1;
    while (end < l->end && l->s[end] != quote) end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->end) return false;
    push(l, T_STRING, unescape(l, l->s + l->at + 1, end - l->at - 1));
    advance(l, end + 1);
    return true;
}

static const struct {
    char text[3];
    enum token_kind kind;
} operators[] = {
    // longer ones first
    {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
    {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
    {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
    {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
    {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
    {";", T_SEMICOLON},
};

static void match_brackets(struct lexer *l, enum token_kind kind)
{
    struct list *open = l->brackets;
    int closes = kind == T_LBRACE ? '}' : kind == T_LPAREN ? ')' : kind == T_LBRACKET ? ']' : 0;
    if (closes) list_push(l->j, open, value_int(closes));
    if (kind != T_RBRACE && kind != T_RPAREN && kind != T_RBRACKET) return;
    int found = kind == T_RBRACE ? '}' : kind == T_RPAREN ? ')' : ']';
    l->j->line = l->line;
    if (!open->count) FAIL(l->j, "expected no closing bracket, found '%c'", found);
    int wanted = (int)open->items[--open->count].n;
    if (wanted != found) FAIL(l->j, "expected '%c', found '%c'", wanted, found);
}

static void lex_operator(struct lexer *l)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!starts(l, l->at, operators[i].text)) continue;
        match_brackets(l, operators[i].kind);
        push(l, operators[i].kind, value_missing());
        l->at += (int64_t)strlen(operators[i].text);
        return;
    }
    char shown[16];
    l->j->line = l->line;
    FAIL(l->j, "expected an expression, found the character '%s'",
         value_show(value_chars(l->s + l->at, 1), shown, sizeof shown));
}

// The inside of a tag, up to and with its end.
static void lex_tag(struct lexer *l, bool variable)
{
    l->brackets->count = 0;
    while (l->at < l->end) {
        int64_t end = l->brackets->count ? -1 : tag_end(l, l->at, variable ? "}}" : "%}", !variable);
        uint32_t c = look(l, 0);
        if (end >= 0) {
            push(l, variable ? T_VARIABLE_END : T_BLOCK_END, value_missing());
            advance(l, end);
            l->line_starting = l->s[end - 1] == '\n';
            return;
        }
        if (char_is_space(c)) {
            advance(l, l->at + 1);
        } else if (is_decimal(c) && (end = float_end(l, l->at)) > l->at) {
            lex_float(l, end);
            l->at = end;
        } else if (is_decimal(c)) {
            lex_integer(l);
        } else if (char_is_name(c, true)) {
            for (end = l->at + 1; end < l->end && char_is_name(l->s[end], false);) end++;
            push(l, T_NAME, value_chars(l->s + l->at, end - l->at));
            l->at = end;
        } else if ((c != '\'' && c != '"') || !lex_string(l)) {
            lex_operator(l);
        }
    }
}

// Text up to the next tag, and that tag.
static void lex_root(struct lexer *l)
{
    int64_t tag = l->at;
    while (tag < l->end &&
           !(l->s[tag] == '{' && (starts(l, tag, "{%") || starts(l, tag, "{{") || starts(l, tag, "{#"))))
        tag++;
    if (tag == l->end) {
        push(l, T_DATA, value_chars(l->s + l->at, tag - l->at));
        l->at = tag;
        return;
    }
    uint32_t kind = l->s[tag + 1];
    int64_t inside = tag + 2;
    uint32_t sign = inside < l->end && (l->s[inside] == '-' || l->s[inside] == '+') ? l->s[inside] : 0;
    if (sign) inside++;
    push_data(l, l->at, tag, sign, kind == '{');
    int64_t raw = kind == '%' ? raw_begin(l, inside) : -1;
    advance(l, raw >= 0 ? raw : inside);
    l->line_starting = raw >= 0 && l->s[raw - 1] == '\n';
    if (raw >= 0) {
        lex_raw(l);
    } else if (kind == '#') {
        lex_comment(l);
    } else {
        push(l, kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN, value_missing());
        lex_tag(l, kind == '{');
    }
}

void jinja_lex(struct jinja *j, struct value source, struct tokens *out)
{
    // All kinds of line ends become \n; one at the very end goes.
    uint32_t *s = pool_alloc(j, source.n, sizeof *s);
    int64_t n = 0;
    for (int64_t i = 0; i < source.n; i++) {
        bool carriage = source.s[i] == '\r';
        s[n++] = carriage ? '\n' : source.s[i];
        if (carriage && i + 1 < source.n && source.s[i + 1] == '\n') i++;
    }
    if (n && s[n - 1] == '\n') n--;
    struct lexer l = {
        .j = j, .s = s, .end = n, .line = 1, .line_starting = true, .out = out, .brackets = list_new(j, 8)};
    while (l.at < l.end) lex_root(&l);
    push(&l, T_EOF, value_missing());
}

const char *token_show(const struct token *t, char buffer[64])
{
    static const char *const names[] = {
        [T_EOF] = "the end of the template",
        [T_DATA] = "text",
        [T_BLOCK_BEGIN] = "{%",
        [T_BLOCK_END] = "%}",
        [T_VARIABLE_BEGIN] = "{{",
        [T_VARIABLE_END] = "}}",
        [T_STRING] = "a string",
        [T_INTEGER] = "an integer",
        [T_FLOAT] = "a float",
    };
    if (t->kind == T_NAME) {
        buffer[0] = '\'';
        value_show(t->value, buffer + 1, 62);
        return strcat(buffer, "'");
    }
    if (t->kind < T_ADD) return names[t->kind];
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (operators[i].kind == t->kind) snprintf(buffer, 64, "'%.2s'", operators[i].text);
    }
    return buffer;
}
