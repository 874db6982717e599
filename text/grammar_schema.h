// text/grammar_schema.h -- between the parts of the front end for JSON schemas.
#ifndef TEXT_GRAMMAR_SCHEMA_H
#define TEXT_GRAMMAR_SCHEMA_H

#include "text/grammar_json.h"

// Where in the schema we are, from the inside out; for messages, "#/properties/age".
struct schema_place {
    const struct schema_place *up;
    const char *name; // NULL: `index`
    size_t index;
};

struct pending_rule { // a schema that something refers to, to be made into the rule
    int32_t rule;
    json_t *schema;
    char *place; // its pointer, "#/$defs/node"
};

struct schema {
    struct grammar_exprs *x;
    struct json_rules json;
    json_t *root;
    json_t *rules; // pointer: rule
    json_t *made;  // an array that owns the schemas made by merging
    struct pending_rule *pending;
    int32_t pending_count, pending_capacity;
    int depth;
};

// All of these return 0, NULL or false after a failure, which s->x keeps.

void schema_fail(struct schema *s, const struct schema_place *at, enum tlm_status status, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

// The schema that "#/..." names.
json_t *schema_resolve(struct schema *s, const char *pointer, const struct schema_place *at);

// grammar_schema_merge.c. Whether a keyword limits values; false for titles and the like. Unknown keywords are a failure.
bool schema_limits(struct schema *s, const char *keyword, const json_t *value, const struct schema_place *at);
// The same schema without allOf and $ref: true, false or an object, which s->made owns. It may have anyOf or oneOf beside others.
json_t *schema_flatten(struct schema *s, json_t *schema, const struct schema_place *at);
// What both of two flat schemas allow, flat.
json_t *schema_merge(struct schema *s, json_t *a, json_t *b, const struct schema_place *at);

// grammar_schema_types.c: values of one type.
int32_t schema_string(struct schema *s, const json_t *schema, const struct schema_place *at);
int32_t schema_number(struct schema *s, const json_t *schema, bool whole, const struct schema_place *at);
int32_t schema_array(struct schema *s, json_t *schema, const struct schema_place *at);
int32_t schema_object(struct schema *s, json_t *schema, const struct schema_place *at);

// grammar_schema.c: values that a schema allows.
int32_t schema_expr(struct schema *s, json_t *schema, const struct schema_place *at);

#endif
