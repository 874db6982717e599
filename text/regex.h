// text/regex.h -- the regular expressions of tokenizers, over PCRE2 with its JIT.
//
// They are written for Oniguruma (tokenizer.json) or Rust (tiktoken) and mean the same here: see text/regex_dialect.c
// for what differs. Characters that are newer than the Unicode of PCRE2 count as older ones of the same category.
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include "core/error.h"

struct regex;         // compiled; any number of threads may use it at once
struct regex_scratch; // what one thread needs to match

// `literal`: the pattern stands for itself. Errors: FORMAT (with the place in the pattern), MEMORY.
enum tlm_status regex_open(struct regex **out, const char *pattern, size_t length, bool literal,
                           struct tlm_error *err);
void regex_close(struct regex *r); // NULL is allowed

struct regex_scratch *regex_scratch_open(void); // NULL without memory
void regex_scratch_close(struct regex_scratch *s);

// Finds the first match in text[0..bytes) that begins at `from` or later; what stands before `from` is seen by
// lookbehinds. The text must have passed regex_text. Returns 1 (found), 0 (none), or -1: the expression ran over its
// limits of steps or memory.
int regex_find(const struct regex *r, struct regex_scratch *s, const char *text, size_t bytes, size_t from,
               size_t *start, size_t *end);

// How many bytes at the beginning of the text are well-formed UTF-8. *has_new: some of its characters are newer than
// PCRE2 knows; regex_replace_new, given the same bytes, writes the older ones that stand in for them, length for length.
size_t regex_text(const char *text, size_t bytes, bool *has_new);
void regex_replace_new(char *text, size_t bytes);

// A pattern of PCRE2 that means what `pattern` means to Oniguruma, terminated by zero; free() it. NULL without memory
// or where brackets do not close (then *bad is true).
char *regex_translate(const char *pattern, size_t length, bool *bad);

#endif
