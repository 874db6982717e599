// text/json_text.h -- JSON from files that nobody vouches for.
#ifndef TEXT_JSON_TEXT_H
#define TEXT_JSON_TEXT_H

#include <jansson.h>

#include <string.h>

#include "core/gguf.h"

struct json_shown {
    char text[64];
};

// A text of a file as it may stand in a message; NULL is empty.
static inline struct json_shown json_shown(const char *text)
{
    struct json_shown s = {""};
    gguf_printable((struct gguf_string){text ? text : "", text ? strlen(text) : 0}, s.text, sizeof s.text);
    return s;
}

// Reads one value of any kind; json_decref() it. `what` is for messages. Errors: FORMAT (with line and column), MEMORY.
static inline enum tlm_status json_text_read(json_t **out, const char *text, size_t length, const char *what,
                                             struct tlm_error *err)
{
    json_error_t error;
    *out = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    // Python writes whole numbers of any size: a model_max_length of 1e30, say. All of them are real numbers then.
    if (!*out && json_error_code(&error) == json_error_numeric_overflow)
        *out = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (*out) return TLM_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for %zu bytes of JSON", what, length);
    char shown[200];
    gguf_printable((struct gguf_string){error.text, strlen(error.text)}, shown, sizeof shown);
    return error_set(err, TLM_ERR_FORMAT, "%.200s: JSON: line %d, column %d: %s", what, error.line,
                     error.column, shown);
}

#endif
