// text/jinja.h -- the template language Jinja, as models ship it in their chat templates.
//
// What a template renders to is what Python's jinja2 (3.1) renders in the environment that Hugging Face
// transformers sets up: immutable sandbox, trim_blocks, lstrip_blocks, loop controls, {% generation %}, a
// plain `tojson`, `raise_exception`, `strftime_now`. Where jinja2 raises, rendering fails. There is no
// loader, so include, import and extends are refused; so is what is not a function of its input (random,
// lipsum). Integers are 64 bits wide: beyond them is an error where Python goes on.
//
// Templates are untrusted: nesting, steps, memory and output are bounded, and an error is one line that names
// the template's line.
//
// Text that came out of the variables is told from text that the template wrote, character by character,
// through all that a template does to strings. So a caller can keep "<|im_end|>" in a user's message from
// becoming a token.
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <jansson.h>

#include "core/error.h"
#include "text/span.h"

struct jinja_template; // compiled; immutable, and safe to share between threads

// Compiles `bytes` bytes of UTF-8. Errors: FORMAT (syntax, unknown filter), UNSUPPORTED, MEMORY.
enum tlm_status jinja_compile(struct jinja_template **out, const char *source, size_t bytes,
                              struct tlm_error *err);
void jinja_free(struct jinja_template *t); // NULL is allowed

struct jinja_variable {
    const char *name; // UTF-8
    const json_t *value;
    bool trusted; // its strings count as the template's own text
    // A key whose value is trusted in each object of a list at the top (a message's "role"), as long as it is
    // a plain word of letters, digits, '_' and '-'; NULL for none.
    const char *trusted_key;
};

struct jinja_options {
    const struct jinja_variable *variables; // a later one of the same name wins
    size_t variable_count;
    int64_t now;        // seconds since 1970 that strftime_now tells; 0: the clock's
    int64_t max_steps;  // 0: 20 million; a step is a node of the template, or 16 characters worked on
    size_t max_memory;  // 0: 512 MiB
    int64_t max_output; // 0: 64 Mi characters
};

struct jinja_output {
    char *text; // UTF-8; a zero byte stands behind its end
    size_t bytes;
    struct text_span *input; // what came out of variables that are not trusted: rising, apart from each other
    size_t input_count;
};

// Errors: FORMAT (what Python would raise; what the template raises itself), UNSUPPORTED, MEMORY (a limit is
// reached).
enum tlm_status jinja_render(const struct jinja_template *t, const struct jinja_options *options,
                             struct jinja_output *out, struct tlm_error *err);
void jinja_output_free(struct jinja_output *out);

#endif
