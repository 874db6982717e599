#include "core/error.h"

#include <stdarg.h>
#include <string.h>

enum tlm_status error_set(struct tlm_error *err, enum tlm_status code, const char *format, ...)
{
    if (!err) return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    err->code = code;
    return code;
}

enum tlm_status error_prefix(struct tlm_error *err, const char *format, ...)
{
    if (!err) return TLM_ERR_ARGUMENT;
    char prefix[sizeof err->text], text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    memcpy(text, err->text, sizeof text);
    snprintf(err->text, sizeof err->text, "%.*s: %.*s", 200, prefix, (int)sizeof text - 210, text);
    return err->code;
}
