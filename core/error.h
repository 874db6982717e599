// core/error.h -- how a failure travels: a status code returned, and one line of text in a tlm_error.
//
// Three kinds of failure are kept apart. Bad input (files, arguments, no memory) is a status and a line
// that says what, where, expected and found. A broken invariant of our own is TLM_ASSERT, always on.
// Nothing prints from below cli/.
#ifndef CORE_ERROR_H
#define CORE_ERROR_H

#include <stdio.h>
#include <stdlib.h>

#include "tinylm.h"

#ifdef __cplusplus // kernels for a GPU
extern "C" {
#endif

// Fills *err (which may be NULL) and returns `code`, so that a caller writes `return error_set(...)`.
enum tlm_status error_set(struct tlm_error *err, enum tlm_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "prefix: " in front of the text that is already there and returns err->code, for context on the way up.
enum tlm_status error_prefix(struct tlm_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif

#define TLM_ASSERT(condition)                                                                       \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "tinylm: %s:%d: internal error: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

#endif
