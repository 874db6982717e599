// text/grammar_schema.c -- JSON schemas, draft 2020-12 as people write it for answers of models.
//
// An answer is JSON that the schema allows; not every JSON that it allows can be an answer:
//
// - Properties come in the order they are listed in. Where some are listed, others come only if additionalProperties says so.
// - oneOf is taken as anyOf. A format that is not known here is a remark, as the specification has it.
// - A type that is not given follows from the keywords that are.
//
// A keyword that would limit values and is not followed is refused, with the place where it stands.
#include <stdarg.h>
#include <string.h>

#include "core/json.h"
#include "text/grammar_schema.h"

// ---- messages -------------------------------------------------------------------------------------------

// Writes "#/properties/age" into text[0..room) and returns its end.
static size_t write_place(const struct schema_place *at, char *text, size_t room)
{
    size_t n = at->up ? write_place(at->up, text, room) : 0;
    if (n >= room) return n;
    int more = at->name ? snprintf(text + n, room - n, "%s%.60s", at->up ? "/" : "", at->name)
                        : snprintf(text + n, room - n, "/%zu", at->index);
    return n + (size_t)more;
}

void schema_fail(struct schema *s, const struct schema_place *at, enum tlm_status status, const char *format,
                 ...)
{
    char place[160], text[240];
    va_list args;
    write_place(at, place, sizeof place);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = place; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
    exprs_fail(s->x, status, "%s: %s", place, text);
}

// ---- references -----------------------------------------------------------------------------------------

// Undoes "~1", "~0" and "%41" in a part of a pointer.
static void unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p; p++) {
        unsigned byte;
        if (*p == '%' && sscanf(p + 1, "%2x", &byte) == 1 && byte &&
            strspn(p + 1, "0123456789abcdefABCDEF") >= 2) {
            *to++ = (char)byte;
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    to = text;
    for (const char *p = text; *p; p++) {
        bool tilde = *p == '~' && (p[1] == '0' || p[1] == '1');
        *to++ = !tilde ? *p : p[1] == '0' ? '~' : '/';
        p += tilde;
    }
    *to = '\0';
}

json_t *schema_resolve(struct schema *s, const char *pointer, const struct schema_place *at)
{
    json_t *found = s->root;
    if (pointer[0] != '#' || (pointer[1] && pointer[1] != '/')) {
        schema_fail(s, at, TLM_ERR_UNSUPPORTED,
                    "expected a reference inside the schema like \"#/$defs/x\", found \"%.80s\"", pointer);
        return NULL;
    }
    char *copy = strdup(pointer + (pointer[1] ? 2 : 1)), *part = copy;
    if (!copy) {
        exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for a reference");
        return NULL;
    }
    while (pointer[1] && part && found) {
        char *end = strchr(part, '/');
        if (end) *end++ = '\0';
        unescape(part);
        if (json_is_array(found)) {
            size_t digits = strspn(part, "0123456789");
            found = digits && !part[digits] ? json_array_get(found, strtoul(part, NULL, 10)) : NULL;
        } else {
            found = json_object_get(found, part);
        }
        part = end;
    }
    free(copy);
    if (!found)
        schema_fail(s, at, TLM_ERR_FORMAT, "expected a reference to a part of the schema, found \"%.80s\"",
                    pointer);
    return found;
}

// A call of the rule for what the pointer names; the rule is made later.
static int32_t reference(struct schema *s, const char *pointer, const struct schema_place *at)
{
    json_t *known = json_object_get(s->rules, pointer);
    if (known) return expr_call(s->x, (int32_t)json_integer_value(known));
    json_t *schema = schema_resolve(s, pointer, at);
    if (!schema) return 0;
    struct pending_rule p = {expr_rule(s->x, pointer, strlen(pointer)), schema, strdup(pointer)};
    if (!p.place || json_object_set_new(s->rules, pointer, json_integer(p.rule)) ||
        !grammar_grow(&s->pending, &s->pending_capacity, s->pending_count, 1, sizeof p)) {
        exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for a reference");
        free(p.place);
        return 0;
    }
    s->pending[s->pending_count++] = p;
    return expr_call(s->x, p.rule);
}

// ---- values ---------------------------------------------------------------------------------------------

enum type { OBJECT, ARRAY, STRING, INTEGER, NUMBER, BOOLEAN, NULL_TYPE, TYPES };
static const char *const type_names[TYPES] = {"object", "array",   "string", "integer",
                                              "number", "boolean", "null"};

static bool has_type(const json_t *value, unsigned types)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return types >> OBJECT & 1;
    case JSON_ARRAY: return types >> ARRAY & 1;
    case JSON_STRING: return types >> STRING & 1;
    case JSON_INTEGER: return (types >> INTEGER | types >> NUMBER) & 1;
    case JSON_REAL: return types >> NUMBER & 1;
    case JSON_TRUE:
    case JSON_FALSE: return types >> BOOLEAN & 1;
    case JSON_NULL: return types >> NULL_TYPE & 1;
    }
    return false;
}

static unsigned type_named(struct schema *s, const json_t *name, const struct schema_place *at)
{
    for (int t = 0; t < TYPES; t++)
        if (json_is_string(name) && !strcmp(json_string_value(name), type_names[t])) return 1u << t;
    schema_fail(s, at, TLM_ERR_FORMAT, "expected the name of a type, found %s",
                json_is_string(name) ? json_string_value(name) : json_kind(name));
    return 0;
}

// The types that the schema names, or that its keywords are about, as bits.
static unsigned types_of(struct schema *s, const json_t *schema, const struct schema_place *up)
{
    static const struct {
        const char *keyword;
        unsigned types;
    } about[] = {{"properties", 1 << OBJECT},
                 {"required", 1 << OBJECT},
                 {"additionalProperties", 1 << OBJECT},
                 {"minProperties", 1 << OBJECT},
                 {"maxProperties", 1 << OBJECT},
                 {"items", 1 << ARRAY},
                 {"prefixItems", 1 << ARRAY},
                 {"minItems", 1 << ARRAY},
                 {"maxItems", 1 << ARRAY},
                 {"minLength", 1 << STRING},
                 {"maxLength", 1 << STRING},
                 {"pattern", 1 << STRING},
                 {"format", 1 << STRING},
                 {"minimum", 1 << NUMBER},
                 {"maximum", 1 << NUMBER},
                 {"exclusiveMinimum", 1 << NUMBER},
                 {"exclusiveMaximum", 1 << NUMBER},
                 {"multipleOf", 1 << NUMBER}};
    const json_t *type = json_object_get(schema, "type"), *item;
    struct schema_place at = {up, "type", 0};
    unsigned types = 0;
    size_t i;
    if (json_is_array(type)) {
        json_array_foreach((json_t *)type, i, item) types |= type_named(s, item, &at);
        return types;
    }
    if (type) return type_named(s, type, &at);
    for (i = 0; i < sizeof about / sizeof *about; i++)
        if (json_object_get(schema, about[i].keyword)) types |= about[i].types;
    return types ? types : (1u << TYPES) - 1;
}

static int32_t of_enum(struct schema *s, const json_t *schema, const json_t *values,
                       const struct schema_place *up)
{
    struct schema_place at = {up, "enum", 0};
    unsigned types = json_object_get(schema, "type") ? types_of(s, schema, up) : (1u << TYPES) - 1;
    int32_t alt = expr_many(s->x, EXPR_ALT);
    const json_t *value;
    const char *key;
    size_t i;
    if (!json_is_array(values)) {
        schema_fail(s, &at, TLM_ERR_FORMAT, "expected an array, found %s", json_kind(values));
        return 0;
    }
    // Which of the values the other keywords allow, nobody needs to ask of a model.
    json_object_foreach((json_t *)schema, key, value)
    {
        if (!strcmp(key, "enum") || !strcmp(key, "type") || !schema_limits(s, key, value, up)) continue;
        if (!s->x->status)
            schema_fail(s, &at, TLM_ERR_UNSUPPORTED, "expected nothing but a type beside it, found \"%.40s\"",
                        key);
    }
    json_array_foreach((json_t *)values, i, value) if (has_type(value, types))
        expr_add(s->x, alt, json_constant(&s->json, value));
    return alt;
}

static int32_t of_types(struct schema *s, json_t *schema, const struct schema_place *at)
{
    unsigned types = types_of(s, schema, at);
    if (types == (1u << TYPES) - 1 && !json_object_get(schema, "type")) return json_any(&s->json);
    if (types >> NUMBER & 1) types &= ~(1u << INTEGER);
    int32_t alt = expr_many(s->x, EXPR_ALT);
    for (int t = 0; t < TYPES && !s->x->status; t++) {
        if (!(types >> t & 1)) continue;
        int32_t e = 0;
        switch ((enum type)t) {
        case OBJECT: e = schema_object(s, schema, at); break;
        case ARRAY: e = schema_array(s, schema, at); break;
        case STRING: e = schema_string(s, schema, at); break;
        case INTEGER: e = schema_number(s, schema, true, at); break;
        case NUMBER: e = schema_number(s, schema, false, at); break;
        case BOOLEAN: e = expr_alt(s->x, text_expr(&s->json, "true"), text_expr(&s->json, "false")); break;
        case NULL_TYPE: e = text_expr(&s->json, "null"); break;
        case TYPES: break;
        }
        expr_add(s->x, alt, e);
    }
    return alt;
}

// One of the schemas in the array, each together with what stands beside the array.
static int32_t of_any(struct schema *s, json_t *schema, const char *keyword, const struct schema_place *up)
{
    struct schema_place at = {up, keyword, 0};
    json_t *branches = json_object_get(schema, keyword), *branch, *rest = json_copy(schema);
    int32_t alt = expr_many(s->x, EXPR_ALT);
    size_t i;
    if (!rest || json_object_del(rest, keyword) || json_array_append_new(s->made, rest)) {
        exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for a schema");
        return 0;
    }
    if (!json_is_array(branches)) {
        schema_fail(s, &at, TLM_ERR_FORMAT, "expected an array, found %s", json_kind(branches));
        return 0;
    }
    bool alone = true;
    const char *key;
    json_object_foreach(rest, key, branch) alone &= !schema_limits(s, key, branch, up);
    json_array_foreach(branches, i, branch)
    {
        struct schema_place inside = {&at, NULL, i};
        if (s->x->status) break;
        if (!alone) branch = schema_flatten(s, branch, &inside);
        if (!alone && branch) branch = schema_merge(s, rest, branch, &inside);
        if (branch) expr_add(s->x, alt, schema_expr(s, branch, &inside));
    }
    return alt;
}

int32_t schema_expr(struct schema *s, json_t *schema, const struct schema_place *at)
{
    if (s->x->status) return 0;
    if (s->depth >= GRAMMAR_MAX_DEPTH) {
        schema_fail(s, at, TLM_ERR_UNSUPPORTED, "expected schemas at most %d deep, found a deeper one",
                    GRAMMAR_MAX_DEPTH);
        return 0;
    }
    // A reference alone stays one, so that a schema may contain itself.
    bool alone = json_is_object(schema);
    const char *key;
    json_t *value, *target = alone ? json_object_get(schema, "$ref") : NULL;
    if (alone)
        json_object_foreach(schema, key, value) alone &=
            !strcmp(key, "$ref") || !schema_limits(s, key, value, at);
    if (target && alone && json_is_string(target)) return reference(s, json_string_value(target), at);

    s->depth++;
    int32_t e = 0;
    schema = schema_flatten(s, schema, at);
    if (!schema)
        e = 0;
    else if (json_is_true(schema))
        e = json_any(&s->json);
    else if (json_is_false(schema))
        e = expr_many(s->x, EXPR_ALT);
    else if (json_object_get(schema, "anyOf"))
        e = of_any(s, schema, "anyOf", at);
    else if (json_object_get(schema, "oneOf"))
        e = of_any(s, schema, "oneOf", at);
    else if (json_object_get(schema, "enum"))
        e = of_enum(s, schema, json_object_get(schema, "enum"), at);
    else
        e = of_types(s, schema, at);
    if (schema && json_is_true(json_object_get(schema, "nullable"))) // OpenAPI 3.0
        e = expr_alt(s->x, e, text_expr(&s->json, "null"));
    s->depth--;
    return e;
}

void grammar_schema(struct grammar_exprs *x, const char *text, size_t bytes)
{
    struct tlm_error err;
    struct schema s = {.x = x, .json.x = x, .rules = json_object(), .made = json_array()};
    if (!s.rules || !s.made)
        exprs_fail(x, TLM_ERR_MEMORY, "no memory for a schema");
    else if (json_read_object(&s.root, text, bytes, "JSON schema", &err))
        x->status = err.code, x->error = err;
    struct schema_place root = {NULL, "#", 0};
    if (!x->status && !json_object_set_new(s.rules, "#", json_integer(0)))
        expr_define(x, 0, schema_expr(&s, s.root, &root));
    for (int32_t i = 0; i < s.pending_count; i++) {
        struct schema_place at = {NULL, s.pending[i].place, 0};
        int32_t body = schema_expr(&s, s.pending[i].schema, &at);
        expr_define(x, s.pending[i].rule, body);
    }
    for (int32_t i = 0; i < s.pending_count; i++) free(s.pending[i].place);
    free(s.pending);
    json_decref(s.root);
    json_decref(s.rules);
    json_decref(s.made);
}
