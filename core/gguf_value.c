// core/gguf_value.c -- reading metadata out of an open GGUF file: numbers, strings, arrays.
#include <inttypes.h>

#include "core/gguf.h"

bool gguf_string_is(struct gguf_string s, const char *text)
{
    return s.length == strlen(text) && !memcmp(s.data, text, s.length);
}

// Characters that a byte takes in a message: itself, or \xNN.
static size_t printed_width(char c)
{
    return c >= ' ' && c <= '~' && c != '\\' ? 1 : 4;
}

const char *gguf_printable(struct gguf_string s, char *buffer, size_t size)
{
    TLM_ASSERT(size >= 8);
    size_t width = 0, n = 0;
    for (uint64_t i = 0; i < s.length && width < size; i++) width += printed_width(s.data[i]);
    size_t limit = width < size ? size - 1 : size - 4; // "..." and the zero
    for (uint64_t i = 0; i < s.length && n + printed_width(s.data[i]) <= limit; i++) {
        if (printed_width(s.data[i]) == 1)
            buffer[n++] = s.data[i];
        else
            n += (size_t)snprintf(buffer + n, size - n, "\\x%02x", (unsigned char)s.data[i]);
    }
    memcpy(buffer + n, width < size ? "" : "...", width < size ? 1 : 4);
    return buffer;
}

// ---- numbers ------------------------------------------------------------------------------------------

static bool is_float(enum gguf_type type)
{
    return type == GGUF_F32 || type == GGUF_F64;
}

bool gguf_value_is_number(const struct gguf_value *v)
{
    return v->item != GGUF_STRING && v->item != GGUF_ARRAY;
}

bool gguf_value_is_integer(const struct gguf_value *v)
{
    return gguf_value_is_number(v) && !is_float(v->item);
}

static uint64_t u64_at(const struct gguf_value *v, uint64_t i)
{
    uint64_t x;
    memcpy(&x, v->data + 8 * i, 8);
    return x;
}

double gguf_value_f64(const struct gguf_value *v, uint64_t i)
{
    TLM_ASSERT(gguf_value_is_number(v) && i < v->count);
    if (v->item == GGUF_F32) {
        float x;
        memcpy(&x, v->data + 4 * i, 4);
        return (double)x;
    }
    if (v->item == GGUF_F64) {
        double x;
        memcpy(&x, v->data + 8 * i, 8);
        return x;
    }
    return v->item == GGUF_U64 ? (double)u64_at(v, i) : (double)gguf_value_i64(v, i);
}

static int64_t i64_from_f64(double x)
{
    if (x >= 0x1p63) return INT64_MAX;
    if (x < -0x1p63) return INT64_MIN;
    return x == x ? (int64_t)x : 0;
}

int64_t gguf_value_i64(const struct gguf_value *v, uint64_t i)
{
    TLM_ASSERT(gguf_value_is_number(v) && i < v->count);
    if (is_float(v->item)) return i64_from_f64(gguf_value_f64(v, i));
    uint64_t x = 0;
    size_t bytes = gguf_type_traits[v->item].bytes;
    memcpy(&x, v->data + bytes * i, bytes);
    switch (v->item) {
    case GGUF_I8: return (int8_t)x;
    case GGUF_I16: return (int16_t)x;
    case GGUF_I32: return (int32_t)x;
    case GGUF_I64: return (int64_t)x;
    default: return x > INT64_MAX ? INT64_MAX : (int64_t)x;
    }
}

// ---- strings ------------------------------------------------------------------------------------------

static struct gguf_string string_at(const uint8_t *p)
{
    struct gguf_string s = {.data = (const char *)p + 8};
    memcpy(&s.length, p, 8);
    return s;
}

enum tlm_status gguf_value_strings(const struct gguf_value *v, struct gguf_string **out,
                                   struct tlm_error *err)
{
    TLM_ASSERT(v->item == GGUF_STRING);
    struct gguf_string *strings = calloc(v->count ? v->count : 1, sizeof *strings);
    *out = strings;
    if (!strings)
        return error_set(err, TLM_ERR_MEMORY, "no memory for a table of %" PRIu64 " strings", v->count);
    const uint8_t *p = v->data;
    for (uint64_t i = 0; i < v->count; i++) {
        strings[i] = string_at(p);
        p += 8 + strings[i].length;
    }
    return TLM_OK;
}

// ---- by the name of the key ---------------------------------------------------------------------------

static enum tlm_status wrong_type(const struct gguf *g, const char *key, const struct gguf_value *v,
                                  const char *expected, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_FORMAT, "%.200s: key '%s': expected %s, found %s%s", g->files[0].path, key,
                     expected, v->type == GGUF_ARRAY ? "an array of " : "type ",
                     gguf_type_traits[v->item].name);
}

enum tlm_status gguf_get_i64(const struct gguf *g, const char *key, int64_t *out, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return TLM_OK;
    if (v->type == GGUF_ARRAY || !gguf_value_is_integer(v))
        return wrong_type(g, key, v, "a whole number", err);
    if (v->type == GGUF_U64 && u64_at(v, 0) > INT64_MAX)
        return error_set(err, TLM_ERR_FORMAT, "%.200s: key '%s': expected at most 2^63-1, found %" PRIu64,
                         g->files[0].path, key, u64_at(v, 0));
    *out = gguf_value_i64(v, 0);
    return TLM_OK;
}

enum tlm_status gguf_get_f64(const struct gguf *g, const char *key, double *out, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return TLM_OK;
    if (v->type == GGUF_ARRAY || !gguf_value_is_number(v)) return wrong_type(g, key, v, "a number", err);
    *out = gguf_value_f64(v, 0);
    return TLM_OK;
}

enum tlm_status gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return TLM_OK;
    if (v->type != GGUF_BOOL) return wrong_type(g, key, v, "true or false", err);
    *out = v->data[0];
    return TLM_OK;
}

enum tlm_status gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out,
                                struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v) return TLM_OK;
    if (v->type != GGUF_STRING) return wrong_type(g, key, v, "a string", err);
    *out = string_at(v->data);
    return TLM_OK;
}
