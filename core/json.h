// core/json.h -- JSON from files that nobody vouches for.
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <jansson.h>

#include "core/error.h"

// Reads one object; json_decref() it. Strict: no key twice in an object, nothing behind it, at most 2048 levels deep (jansson's
// limit). `what` is for messages. Errors: FORMAT (with line and column), MEMORY.
enum tlm_status json_read_object(json_t **out, const char *text, size_t length, const char *what,
                                 struct tlm_error *err);
// The same of a whole file. Errors: also IO.
enum tlm_status json_read_file(json_t **out, const char *path, struct tlm_error *err);
// A JSON string of any bytes: each byte that is part of no character of UTF-8 becomes U+FFFD. NULL: no memory.
json_t *json_text(const char *text, size_t bytes);
// "a string", "a whole number", ...: what a value is, for messages. NULL is "nothing".
const char *json_kind(const json_t *value);

#endif
