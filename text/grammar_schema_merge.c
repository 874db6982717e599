// text/grammar_schema_merge.c -- schemas that hold together (allOf, and what stands beside $ref and anyOf) become one.
#include <string.h>

#include "core/json.h"
#include "text/grammar_schema.h"

enum combination { // of a keyword that two schemas have
    REMARK,        // limits nothing
    OWN,           // combined by a rule of its own, or not at all unless equal
    HIGHER,
    LOWER,  // the higher or lower number
    BOTH,   // schemas: both hold
    COMMON, // arrays: what both have
    UNITED, // arrays: what either has
};

enum { LONG_LIST = 4096 }; // that each item of one is compared with each of another

static const struct keyword {
    const char *name;
    enum combination combination;
} keywords[] = {
    {"$anchor", REMARK},
    {"$comment", REMARK},
    {"$defs", REMARK},
    {"$id", REMARK},
    {"$schema", REMARK},
    {"$vocabulary", REMARK},
    {"contentEncoding", REMARK},
    {"contentMediaType", REMARK},
    {"contentSchema", REMARK},
    {"default", REMARK},
    {"definitions", REMARK},
    {"deprecated", REMARK},
    {"description", REMARK},
    {"discriminator", REMARK},
    {"example", REMARK},
    {"examples", REMARK},
    {"externalDocs", REMARK},
    {"id", REMARK},
    {"nullable", OWN},
    {"readOnly", REMARK},
    {"title", REMARK},
    {"writeOnly", REMARK},
    {"xml", REMARK},

    {"$ref", OWN},
    {"additionalProperties", BOTH},
    {"allOf", OWN},
    {"anyOf", OWN},
    {"const", OWN},
    {"enum", COMMON},
    {"exclusiveMaximum", LOWER},
    {"exclusiveMinimum", HIGHER},
    {"format", OWN},
    {"items", BOTH},
    {"maxItems", LOWER},
    {"maxLength", LOWER},
    {"maxProperties", LOWER},
    {"maximum", LOWER},
    {"minItems", HIGHER},
    {"minLength", HIGHER},
    {"minProperties", HIGHER},
    {"minimum", HIGHER},
    {"multipleOf", OWN},
    {"oneOf", OWN},
    {"pattern", OWN},
    {"prefixItems", OWN},
    {"properties", OWN},
    {"required", UNITED},
    {"type", COMMON},
    {"unevaluatedProperties", OWN},
    {"uniqueItems", OWN},
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcmp(keywords[i].name, name)) return &keywords[i];
    return NULL;
}

bool schema_limits(struct schema *s, const char *name, const json_t *value, const struct schema_place *at)
{
    const struct keyword *k = find_keyword(name);
    if (k && k->combination == REMARK) return false;
    if (!strncmp(name, "x-", 2)) return false;
    // What these say when they say no is what is done anyway.
    if (json_is_false(value) &&
        (!strcmp(name, "unevaluatedProperties") || !strcmp(name, "uniqueItems") || !strcmp(name, "nullable")))
        return false;
    if (!k || !strcmp(name, "unevaluatedProperties") || !strcmp(name, "uniqueItems"))
        schema_fail(s, at, TLM_ERR_UNSUPPORTED, "expected keywords that can be followed, found \"%.60s\"",
                    name);
    return strcmp(name, "nullable") != 0;
}

// ---- small parts ----------------------------------------------------------------------------------------

static json_t *no_memory(struct schema *s)
{
    exprs_fail(s->x, TLM_ERR_MEMORY, "no memory for a schema");
    return NULL;
}

// Gives a new value to s->made.
static json_t *keep(struct schema *s, json_t *value)
{
    return value && !json_array_append_new(s->made, value) ? value : no_memory(s);
}

static json_t *both(struct schema *s, json_t *a, json_t *b)
{
    if (json_is_true(a) || json_equal(a, b)) return b;
    if (json_is_true(b)) return a;
    json_t *all = json_pack("{s:[O,O]}", "allOf", a, b);
    return keep(s, all);
}

static bool holds(const json_t *array, const json_t *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)array, i, item) if (json_equal(item, value)) return true;
    return false;
}

// Types and values as arrays; "number" holds "integer".
static json_t *common(struct schema *s, json_t *a, json_t *b)
{
    json_t *out = keep(s, json_array()), *lists[2] = {a, b}, *item;
    size_t i;
    for (int k = 0; k < 2 && out; k++) {
        if (!json_is_array(lists[k])) lists[k] = keep(s, json_pack("[O]", lists[k]));
        if (!lists[k]) return NULL;
    }
    if (!out) return NULL;
    json_t *number = keep(s, json_string("number")), *integer = keep(s, json_string("integer"));
    if (!number || !integer) return NULL;
    for (int k = 0; k < 2; k++) json_array_foreach(lists[k], i, item)
        {
            bool narrower = json_equal(item, integer) && holds(lists[!k], number);
            if ((holds(lists[!k], item) || narrower) && !holds(out, item) && json_array_append(out, item))
                return no_memory(s);
        }
    return out;
}

static json_t *united(struct schema *s, json_t *a, json_t *b)
{
    json_t *out = json_is_array(a) && json_is_array(b) ? keep(s, json_copy(a)) : a, *item;
    size_t i;
    if (out != a)
        json_array_foreach(b, i, item) if (out && !holds(out, item) &&
                                           json_array_append(out, item)) return no_memory(s);
    return out;
}

// ---- two schemas ----------------------------------------------------------------------------------------

static json_t *merge_properties(struct schema *s, json_t *a, json_t *b)
{
    static const char *const which = "properties", *const others = "additionalProperties";
    json_t *out = keep(s, json_object()), *side[2] = {a, b}, *property;
    const char *name;
    for (int k = 0; k < 2 && out; k++) json_object_foreach(json_object_get(side[k], which), name, property)
        {
            json_t *same = json_object_get(json_object_get(side[!k], which), name);
            // Where the other side does not list it, it is one of its additional properties.
            if (!same) same = json_object_get(side[!k], others);
            if (json_object_get(out, name)) continue;
            if (same) property = both(s, property, same);
            if (!property || json_object_set(out, name, property)) return no_memory(s);
        }
    return out;
}

static json_t *merge_prefix(struct schema *s, json_t *a, json_t *b)
{
    json_t *out = keep(s, json_array());
    for (size_t i = 0; out && i < json_array_size(a); i++) {
        json_t *item = both(s, json_array_get(a, i), json_array_get(b, i));
        if (!item || json_array_append(out, item)) return no_memory(s);
    }
    return out;
}

static json_t *merge_values(struct schema *s, const char *name, json_t *a, json_t *b,
                            const struct schema_place *up)
{
    struct schema_place at = {up, name, 0};
    bool higher = json_number_value(a) > json_number_value(b);
    if (json_equal(a, b)) return a;
    if (json_array_size(a) > LONG_LIST || json_array_size(b) > LONG_LIST) {
        schema_fail(s, &at, TLM_ERR_UNSUPPORTED, "expected at most %d items to merge, found more", LONG_LIST);
        return NULL;
    }
    switch (find_keyword(name) ? find_keyword(name)->combination : REMARK) {
    case REMARK: return a;
    case HIGHER: return higher ? a : b;
    case LOWER: return higher ? b : a;
    case BOTH: return both(s, a, b);
    case COMMON: return common(s, a, b);
    case UNITED: return united(s, a, b);
    default: break;
    }
    if (!strcmp(name, "prefixItems") && json_array_size(a) == json_array_size(b))
        return merge_prefix(s, a, b);
    if (!strcmp(name, "nullable")) return json_is_false(a) ? a : b;
    schema_fail(s, &at, TLM_ERR_UNSUPPORTED,
                "expected schemas that can be merged, found two that differ here");
    return NULL;
}

json_t *schema_merge(struct schema *s, json_t *a, json_t *b, const struct schema_place *at)
{
    if (json_is_false(a) || json_is_true(b)) return a;
    if (json_is_false(b) || json_is_true(a)) return b;
    json_t *out = keep(s, json_copy(a)), *value;
    const char *name;
    json_t *properties = json_object_get(a, "properties") || json_object_get(b, "properties")
                             ? merge_properties(s, a, b)
                             : NULL;
    if (!out || s->x->status) return NULL;
    json_object_foreach(b, name, value)
    {
        json_t *mine = json_object_get(a, name);
        if (!strcmp(name, "properties")) continue;
        if (mine) value = merge_values(s, name, mine, value, at);
        if (s->x->status) return NULL;
        if (!value || json_object_set(out, name, value)) return no_memory(s);
    }
    if (properties && json_object_set(out, "properties", properties)) return no_memory(s);
    return out;
}

// ---- one schema -----------------------------------------------------------------------------------------

// Takes the keyword out of the schema, a copy, and merges what `part` says into it.
static json_t *merge_part(struct schema *s, json_t *flat, json_t *part, const struct schema_place *at)
{
    part = schema_flatten(s, part, at);
    return part && flat ? schema_merge(s, flat, part, at) : NULL;
}

static json_t *flatten_object(struct schema *s, json_t *schema, const struct schema_place *up)
{
    json_t *reference = json_object_get(schema, "$ref"), *all = json_object_get(schema, "allOf"), *part;
    json_t *value = json_object_get(schema, "const"), *flat = schema;
    const char *key;
    size_t i;
    json_object_foreach(schema, key, part) schema_limits(s, key, part, up);
    if (!reference && !all && !value) return schema;
    if (!(flat = keep(s, json_copy(schema)))) return NULL;
    json_object_del(flat, "$ref");
    json_object_del(flat, "allOf");
    json_object_del(flat, "const");
    if (reference) {
        struct schema_place at = {up, "$ref", 0};
        if (!json_is_string(reference)) {
            schema_fail(s, &at, TLM_ERR_FORMAT, "expected a string, found %s", json_kind(reference));
            return NULL;
        }
        part = schema_resolve(s, json_string_value(reference), &at);
        flat = part ? merge_part(s, flat, part, &at) : NULL;
    }
    struct schema_place at = {up, "allOf", 0};
    if (all && !json_is_array(all))
        schema_fail(s, &at, TLM_ERR_FORMAT, "expected an array, found %s", json_kind(all));
    json_array_foreach(all, i, part)
    {
        struct schema_place inside = {&at, NULL, i};
        if (!s->x->status && flat) flat = merge_part(s, flat, part, &inside);
    }
    if (value && flat) {
        part = keep(s, json_pack("{s:[O]}", "enum", value));
        flat = part ? schema_merge(s, flat, part, up) : NULL;
    }
    return flat;
}

json_t *schema_flatten(struct schema *s, json_t *schema, const struct schema_place *at)
{
    if (s->x->status || json_is_boolean(schema)) return s->x->status ? NULL : schema;
    if (!json_is_object(schema)) {
        schema_fail(s, at, TLM_ERR_FORMAT, "expected a schema, found %s", json_kind(schema));
        return NULL;
    }
    if (s->depth >= GRAMMAR_MAX_DEPTH || json_array_size(s->made) > GRAMMAR_MAX_RULES) {
        schema_fail(s, at, TLM_ERR_UNSUPPORTED,
                    "expected schemas that come to an end, found one that merges with itself");
        return NULL;
    }
    s->depth++;
    schema = flatten_object(s, schema, at);
    s->depth--;
    return s->x->status ? NULL : schema;
}
