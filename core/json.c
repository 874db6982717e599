// core/json.c -- see core/json.h.
#include "core/json.h"

#include <string.h>

#include "core/file.h"
#include "core/gguf.h"

enum tlm_status json_read_object(json_t **out, const char *text, size_t length, const char *what,
                                 struct tlm_error *err)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_error_t error;
    *out = json_loadb(text, length, flags, &error);
    // Python writes numbers of any size: a model_max_length of 1e30, say.
    if (!*out && json_error_code(&error) == json_error_numeric_overflow)
        *out = json_loadb(text, length, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (!*out && json_error_code(&error) == json_error_out_of_memory)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for %zu bytes of JSON", what, length);
    if (!*out) {
        char shown[160];
        gguf_printable((struct gguf_string){error.text, strlen(error.text)}, shown, sizeof shown);
        return error_set(err, TLM_ERR_FORMAT, "%.200s: JSON: line %d, column %d: %s", what, error.line,
                         error.column, shown);
    }
    if (json_is_object(*out)) return TLM_OK;
    enum tlm_status status =
        error_set(err, TLM_ERR_FORMAT, "%.200s: JSON: expected an object, found %s", what, json_kind(*out));
    json_decref(*out);
    *out = NULL;
    return status;
}

enum tlm_status json_read_file(json_t **out, const char *path, struct tlm_error *err)
{
    char *text;
    size_t size;
    *out = NULL;
    enum tlm_status status = file_read(path, &text, &size, err);
    if (status) return status;
    status = json_read_object(out, text, size, path, err);
    free(text);
    return status;
}

json_t *json_text(const char *text, size_t bytes)
{
    json_t *whole = json_stringn(text, bytes);
    if (whole) return whole;
    char *clean = malloc(3 * bytes + 1);
    size_t to = 0;
    for (size_t at = 0; clean && at < bytes;) {
        size_t length = 1;
        while (length <= 4 && at + length <= bytes) { // the shortest valid run from here is one character
            json_t *one = json_stringn(text + at, length);
            json_decref(one);
            if (one) break;
            length++;
        }
        bool valid = length <= 4 && at + length <= bytes;
        memcpy(clean + to, valid ? text + at : "\xEF\xBF\xBD", valid ? length : 3);
        to += valid ? length : 3;
        at += valid ? length : 1;
    }
    whole = clean ? json_stringn(clean, to) : NULL;
    free(clean);
    return whole;
}

const char *json_kind(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "nothing";
}
