// text/grammar_schema_types.c -- the keywords of strings, numbers, arrays and objects.
#include <math.h>
#include <string.h>

#include "core/json.h"
#include "text/grammar_schema.h"

// A count that a keyword gives, `otherwise` without it.
static int64_t count_of(struct schema *s, const json_t *schema, const char *keyword, int64_t otherwise,
                        const struct schema_place *up)
{
    struct schema_place at = {up, keyword, 0};
    const json_t *value = json_object_get(schema, keyword);
    if (!value) return otherwise;
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (number >= 0 && number <= 0x1p53 && number == floor(number)) return (int64_t)number;
    schema_fail(s, &at, TLM_ERR_FORMAT, "expected a whole number from 0 on, found %s",
                json_is_number(value) ? "another number" : json_kind(value));
    return otherwise;
}

// An upper bound; -1: none. What no answer reaches is no bound.
static int64_t most_of(struct schema *s, const json_t *schema, const char *keyword,
                       const struct schema_place *at)
{
    int64_t most = count_of(s, schema, keyword, -1, at);
    return most > GRAMMAR_MAX_REPEAT ? -1 : most;
}

// ---- strings --------------------------------------------------------------------------------------------

#define DAY  "(0[1-9]|[12][0-9]|3[01])"
#define YEAR "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([13579][26]|0[48]|[2468][048])00)"
#define DATE                                                                                                 \
    "(" YEAR "-((0[13578]|1[02])-" DAY "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP \
    "-02-29)"
#define TIME  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define PATH  "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"},
    {"email", "[A-Za-z0-9_%+-]{1,32}(\\.[A-Za-z0-9_%+-]{1,32}){0,3}@(" LABEL "\\.){1,4}[A-Za-z]{2,24}"},
    {"hostname", "(" LABEL "\\.){0,3}" LABEL},
    {"ipv4", OCTET "(\\." OCTET "){3}"},
    {"uri", "[a-z][a-z0-9+.-]*://(" LABEL "\\.){0,4}" LABEL "(:[1-9][0-9]{0,3})?(/" PATH ")*(\\?" PATH
            ")?(#" PATH ")?"},
};

// The characters of the string that a regular expression describes. Lengths are compared with its own: an automaton of both would be
// one of their product.
static int32_t from_regex(struct schema *s, const char *pattern, size_t bytes, bool search, int64_t least,
                          int64_t most, const struct schema_place *up, const char *keyword)
{
    struct schema_place at = {up, keyword, 0};
    struct tlm_error kept = s->x->error;
    struct regex_expr e = grammar_regex_part(s->x, pattern, bytes, search ? REGEX_SEARCH : REGEX_STRING, "");
    if (s->x->status) { // once more, with the place in front
        char text[300];
        snprintf(text, sizeof text, "%.*s", (int)sizeof text - 1, s->x->error.text + strlen(s->x->what) + 2);
        enum tlm_status status = s->x->status;
        s->x->status = TLM_OK;
        s->x->error = kept;
        schema_fail(s, &at, status, "%s", text);
        return 0;
    }
    if (e.least < least || (most >= 0 && (e.most < 0 || e.most > most)))
        schema_fail(
            s, &at, TLM_ERR_UNSUPPORTED,
            "expected lengths that minLength and maxLength allow, found one that they would have to limit");
    return e.expr;
}

int32_t schema_string(struct schema *s, const json_t *schema, const struct schema_place *at)
{
    struct grammar_exprs *x = s->x;
    int64_t least = count_of(s, schema, "minLength", 0, at), most = most_of(s, schema, "maxLength", at);
    const json_t *pattern = json_object_get(schema, "pattern");
    const char *format = json_string_value(json_object_get(schema, "format")), *known = NULL;
    for (size_t i = 0; format && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(format, formats[i].name)) known = formats[i].pattern;
    struct schema_place inside = {at, "pattern", 0};
    if (pattern && !json_is_string(pattern))
        schema_fail(s, &inside, TLM_ERR_FORMAT, "expected a string, found %s", json_kind(pattern));
    if (pattern && known)
        schema_fail(s, &inside, TLM_ERR_UNSUPPORTED, "expected no pattern beside a format, found both");
    if (x->status) return 0;
    if (!pattern && !known && !least && most < 0) return json_any_string(&s->json);
    int32_t body;
    if (pattern)
        body = from_regex(s, json_string_value(pattern), json_string_length(pattern), true, least, most, at,
                          "pattern");
    else if (known)
        body = from_regex(s, known, strlen(known), false, least, most, at, "format");
    else
        body = expr_repeat(x, json_character(&s->json), least, most);
    int32_t e = expr_list(x, text_expr(&s->json, "\""), body);
    return expr_add(x, e, text_expr(&s->json, "\""));
}

// ---- numbers --------------------------------------------------------------------------------------------

static double bound_of(struct schema *s, const json_t *schema, const char *keyword, double otherwise,
                       const struct schema_place *up)
{
    struct schema_place at = {up, keyword, 0};
    const json_t *value = json_object_get(schema, keyword);
    if (value && !json_is_number(value)) // draft 4 has true here
        schema_fail(s, &at, TLM_ERR_FORMAT, "expected a number, found %s", json_kind(value));
    return value ? json_number_value(value) : otherwise;
}

int32_t schema_number(struct schema *s, const json_t *schema, bool whole, const struct schema_place *at)
{
    struct number_range r = {bound_of(s, schema, "minimum", -INFINITY, at),
                             bound_of(s, schema, "maximum", INFINITY, at), false, false};
    double above = bound_of(s, schema, "exclusiveMinimum", -INFINITY, at),
           below = bound_of(s, schema, "exclusiveMaximum", INFINITY, at),
           unit = bound_of(s, schema, "multipleOf", whole ? 1 : 0, at);
    if (above >= r.low && above > -INFINITY) r.low = above, r.low_open = true;
    if (below <= r.high && below < INFINITY) r.high = below, r.high_open = true;
    if (unit == 1) whole = true;
    if (unit != (whole ? 1 : 0)) {
        struct schema_place inside = {at, "multipleOf", 0};
        schema_fail(s, &inside, TLM_ERR_UNSUPPORTED, "expected 1, found another number");
    }
    if (s->x->status) return 0;
    if (whole) return json_whole_numbers(&s->json, r);
    if (isinf(r.low) && isinf(r.high)) return json_any_number(&s->json);
    int32_t e;
    if (!json_decimals(&s->json, r, &e))
        schema_fail(s, at, TLM_ERR_UNSUPPORTED,
                    "expected bounds of at most 15 digits in front of the point and behind it, found more");
    return e;
}

// ---- arrays ---------------------------------------------------------------------------------------------

// A rule for the schema: what is used several times.
static int32_t rule_of(struct schema *s, json_t *schema, const struct schema_place *at)
{
    if (!schema || json_is_true(schema)) {
        json_any(&s->json);
        return s->json.value;
    }
    int32_t rule = expr_rule(s->x, "", 0);
    expr_define(s->x, rule, schema_expr(s, schema, at));
    return rule;
}

int32_t schema_array(struct schema *s, json_t *schema, const struct schema_place *up)
{
    struct grammar_exprs *x = s->x;
    struct schema_place at = {up, "items", 0}, at_prefix = {up, "prefixItems", 0};
    int64_t least = count_of(s, schema, "minItems", 0, up), most = most_of(s, schema, "maxItems", up);
    json_t *items = json_object_get(schema, "items"), *prefix = json_object_get(schema, "prefixItems");
    int64_t fixed = (int64_t)json_array_size(prefix);
    if (prefix && !json_is_array(prefix))
        schema_fail(s, &at_prefix, TLM_ERR_FORMAT, "expected an array, found %s", json_kind(prefix));
    if (fixed > GRAMMAR_MAX_DEPTH)
        schema_fail(s, &at_prefix, TLM_ERR_UNSUPPORTED, "expected at most %d items, found more",
                    GRAMMAR_MAX_DEPTH);
    if (x->status) return 0;
    // Behind a prefix others come where `items` says so, or where they have to.
    bool others = !json_is_false(items) && (!prefix || items || least > fixed);
    if (!prefix && !items && !least && most < 0) return json_any_array(&s->json);
    if (most < 0 || most > fixed) most = others ? most : fixed;
    int32_t rest = 0;
    if (others && (most < 0 || most > fixed)) {
        int32_t rule = rule_of(s, items, &at);
        rest = json_items(&s->json, rule, least - fixed, most < 0 ? -1 : most - fixed);
        if (fixed) { // each with a comma in front: "(, a(, a)*)?" where none need be
            rest = expr_list(x, expr_list(x, text_expr(&s->json, ","), json_space(&s->json)),
                             json_items(&s->json, rule, least - fixed > 1 ? least - fixed : 1,
                                        most < 0 ? -1 : most - fixed));
            if (least <= fixed) rest = expr_repeat(x, rest, 0, 1);
        }
    } else if (least > fixed) {
        rest = expr_many(x, EXPR_ALT);
    }
    for (int64_t i = (most >= 0 && most < fixed ? most : fixed) - 1; i >= 0; i--) {
        struct schema_place inside = {&at_prefix, NULL, (size_t)i};
        int32_t item = schema_expr(s, json_array_get(prefix, (size_t)i), &inside);
        rest = expr_list(x, item, rest);
        if (i) rest = expr_list(x, expr_list(x, text_expr(&s->json, ","), json_space(&s->json)), rest);
        if (i >= least) rest = expr_repeat(x, rest, 0, 1);
    }
    int32_t e = expr_list(x, text_expr(&s->json, "["), json_space(&s->json));
    expr_add(x, expr_add(x, e, rest), json_space(&s->json));
    return expr_add(x, e, text_expr(&s->json, "]"));
}

// ---- objects --------------------------------------------------------------------------------------------

struct members {
    struct schema *s;
    json_t *properties; // in order
    const char **names; // (count)
    bool *required;     // (count)
    int32_t *pair;      // (count) the rule of "name": value, made where it is used twice; 0: not yet
    int32_t count;
    int32_t other;       // the rule of a pair with another name; 0: there are none
    int64_t most_others; // -1: no bound
    const struct schema_place *at;
};

static int32_t colon(struct members *m, int32_t key, int32_t value)
{
    struct grammar_exprs *x = m->s->x;
    int32_t e = expr_list(x, key, text_expr(&m->s->json, ":"));
    return expr_add(x, expr_add(x, e, json_space(&m->s->json)), value);
}

static int32_t new_pair(struct members *m, int32_t i)
{
    struct schema_place up = {m->at, "properties", 0}, at = {&up, m->names[i], 0};
    json_t *name = json_string(m->names[i]);
    int32_t key = name ? json_constant(&m->s->json, name) : 0;
    json_decref(name);
    return colon(m, key, schema_expr(m->s, json_object_get(m->properties, m->names[i]), &at));
}

// Property i; `shared`: it will be asked for again.
static int32_t pair(struct members *m, int32_t i, bool shared)
{
    if (!shared && !m->pair[i]) return new_pair(m, i);
    if (!m->pair[i]) {
        m->pair[i] = expr_rule(m->s->x, NULL, 0);
        expr_define(m->s->x, m->pair[i], new_pair(m, i));
    }
    return expr_call(m->s->x, m->pair[i]);
}

static int32_t comma(struct members *m, int32_t e)
{
    struct grammar_exprs *x = m->s->x;
    return expr_add(x, expr_list(x, text_expr(&m->s->json, ","), json_space(&m->s->json)), e);
}

// Other names, behind something.
static int32_t more_others(struct members *m, int64_t fewer)
{
    if (!m->other) return 0;
    int64_t most = m->most_others < 0 ? -1 : m->most_others > fewer ? m->most_others - fewer : 0;
    return expr_repeat(m->s->x, comma(m, expr_call(m->s->x, m->other)), 0, most);
}

// The properties in order. Whether a comma stands in front of one depends on whether there was one before: so up to the first that is
// required, each may be the first, and what follows it is a rule, as several ways lead there.
static int32_t all_members(struct members *m, bool may_be_empty)
{
    struct grammar_exprs *x = m->s->x;
    int32_t first = 0;
    while (first < m->count && !m->required[first]) first++;
    int32_t rest = expr_many(x, EXPR_LIST); // what follows the properties up to i
    for (int32_t i = first + 1; i < m->count && !x->status; i++) {
        int32_t e = comma(m, pair(m, i, false));
        expr_add(x, rest, m->required[i] ? e : expr_repeat(x, e, 0, 1));
    }
    expr_add(x, rest, more_others(m, 0));
    int32_t begin = expr_many(x, EXPR_ALT);
    for (int32_t i = (first < m->count ? first : m->count - 1); i >= 0 && !x->status; i--) {
        if (!first) return expr_list(x, pair(m, 0, false), rest);
        int32_t rule = expr_rule(x, NULL, 0);
        expr_define(x, rule, rest);
        expr_add(x, begin, expr_list(x, pair(m, i, true), expr_call(x, rule)));
        int32_t e = comma(m, pair(m, i, true));
        rest = expr_list(x, m->required[i] ? e : expr_repeat(x, e, 0, 1), expr_call(x, rule));
    }
    if (first == m->count) { // nothing is required
        if (m->other) expr_add(x, begin, expr_list(x, expr_call(x, m->other), more_others(m, 1)));
        if (may_be_empty) expr_add(x, begin, 0);
    }
    return begin;
}

// The listed names, and required ones that are not listed, which are as additionalProperties says.
static bool list_members(struct members *m, json_t *schema, json_t *others)
{
    struct schema *s = m->s;
    struct schema_place at = {m->at, "required", 0};
    json_t *listed = json_object_get(schema, "properties"), *required = json_object_get(schema, "required"),
           *item;
    const char *name;
    size_t i;
    m->properties = listed ? json_copy(listed) : json_object();
    if (!m->properties || json_array_append_new(s->made, m->properties)) {
        exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for properties");
        return false;
    }
    if (required && !json_is_array(required))
        schema_fail(s, &at, TLM_ERR_FORMAT, "expected an array, found %s", json_kind(required));
    json_array_foreach(required, i, item)
    {
        if (!json_is_string(item)) {
            schema_fail(s, &at, TLM_ERR_FORMAT, "expected names, found %s", json_kind(item));
            return false;
        }
        json_t *schema_of = others ? others : json_true();
        if (!json_object_get(m->properties, json_string_value(item)) &&
            json_object_set(m->properties, json_string_value(item), schema_of))
            return false;
    }
    size_t n = json_object_size(m->properties);
    json_t *names = json_object(); // of those that are required
    json_array_foreach(required, i, item) json_object_set(names, json_string_value(item), item);
    m->names = calloc(n + 1, sizeof *m->names);
    m->required = calloc(n + 1, sizeof *m->required);
    m->pair = calloc(n + 1, sizeof *m->pair);
    if (!m->names || !m->required || !m->pair || !names) {
        json_decref(names);
        exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for %zu properties", n);
        return false;
    }
    json_object_foreach(m->properties, name, item)
    {
        m->required[m->count] = json_object_get(names, name) != NULL;
        m->names[m->count++] = name;
    }
    json_decref(names);
    return !s->x->status;
}

static int32_t object_of(struct members *m, json_t *schema)
{
    struct schema *s = m->s;
    struct schema_place at = {m->at, "additionalProperties", 0}, at_least = {m->at, "minProperties", 0},
                        at_most = {m->at, "maxProperties", 0};
    json_t *others = json_object_get(schema, "additionalProperties"),
           *listed = json_object_get(schema, "properties");
    int64_t least = count_of(s, schema, "minProperties", 0, m->at),
            most = most_of(s, schema, "maxProperties", m->at);
    struct schema_place at_listed = {m->at, "properties", 0};
    if (listed && !json_is_object(listed))
        schema_fail(s, &at_listed, TLM_ERR_FORMAT, "expected an object, found %s", json_kind(listed));
    if (s->x->status || !list_members(m, schema, others)) return 0;
    int64_t required = 0;
    for (int32_t i = 0; i < m->count; i++) required += m->required[i];
    if (least > required && least > 1) // the same name might come twice
        schema_fail(s, &at_least, TLM_ERR_UNSUPPORTED, "expected at most 1, or what is required, found more");
    bool any = !listed && !json_object_get(schema, "required");
    if (others ? !json_is_false(others) : any) {
        m->other = expr_rule(s->x, NULL, 0);
        int32_t key = json_other_key(&s->json, m->names, m->count);
        int32_t rule = rule_of(s, others, &at);
        expr_define(s->x, m->other, colon(m, key, expr_call(s->x, rule)));
    }
    m->most_others = -1;
    if (most >= 0 && m->other && most >= m->count)
        m->most_others = most - m->count;
    else if (most >= 0 && most < m->count)
        schema_fail(s, &at_most, TLM_ERR_UNSUPPORTED, "expected at least as many as are listed, found fewer");
    if (m->most_others == 0) m->other = 0;
    int32_t e = expr_list(s->x, text_expr(&s->json, "{"), json_space(&s->json));
    expr_add(s->x, e, all_members(m, least == 0));
    expr_add(s->x, e, json_space(&s->json));
    return expr_add(s->x, e, text_expr(&s->json, "}"));
}

int32_t schema_object(struct schema *s, json_t *schema, const struct schema_place *at)
{
    static const char *const keywords[] = {"properties", "required", "additionalProperties", "minProperties",
                                           "maxProperties"};
    bool limited = false;
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        limited |= json_object_get(schema, keywords[i]) != NULL;
    if (!limited) return json_any_object(&s->json);
    struct members m = {.s = s, .at = at};
    int32_t e = object_of(&m, schema);
    free(m.names);
    free(m.required);
    free(m.pair);
    return e;
}
