// text/grammar_json.h -- pieces of JSON as expressions: what grammar_schema.c is made of.
//
// All of it is JSON that every reader takes: numbers that doubles hold, no halves of surrogate pairs, no U+0000. White space stands
// where people put it and has an end, so that no model can write blanks for ever.
#ifndef TEXT_GRAMMAR_JSON_H
#define TEXT_GRAMMAR_JSON_H

#include <jansson.h>

#include "text/grammar_expr.h"

struct json_rules { // made when they are first asked for; 0: not yet
    struct grammar_exprs *x;
    int32_t space, character, string, value, object, array;
};

int32_t text_expr(struct json_rules *j, const char *text);
int32_t json_space(struct json_rules *j);     // nothing, a space, or a line end and some indentation
int32_t json_character(struct json_rules *j); // of a string, maybe escaped
int32_t json_any_string(struct json_rules *j);
int32_t json_any(struct json_rules *j); // any value
int32_t json_any_object(struct json_rules *j);
int32_t json_any_array(struct json_rules *j);
int32_t json_any_number(struct json_rules *j);
// The value as json_dumps() writes it. Errors: those of the tree.
int32_t json_constant(struct json_rules *j, const json_t *value);
// Strings that are none of the names; without escapes, so that they are not the names in another spelling either.
int32_t json_other_key(struct json_rules *j, const char *const *names, int32_t count);

// Values of `item`, a comma between two, `least` to `most` of them (-1: without end); `item` is a rule.
int32_t json_items(struct json_rules *j, int32_t item, int64_t least, int64_t most);

struct number_range {
    double low, high; // -INFINITY, INFINITY: no bound
    bool low_open, high_open;
};
// Whole numbers of at most 15 digits, or up to the bounds.
int32_t json_whole_numbers(struct json_rules *j, struct number_range range);
// Numbers without exponents, of at most 15 digits in front of the point and 15 behind it. False where a bound has more.
bool json_decimals(struct json_rules *j, struct number_range range, int32_t *expr);

#endif
