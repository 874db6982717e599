// text/normalizer.h -- what is done to a text before it is cut into words.
#ifndef TEXT_NORMALIZER_H
#define TEXT_NORMALIZER_H

#include "core/error.h"

struct normalizer; // a list of steps; shared by threads

// Reads the "normalizer" of a tokenizer.json (an object, as text). `charsmap` is SentencePiece's precompiled table that
// its step "Precompiled" stands for, or is empty. Errors: FORMAT, UNSUPPORTED (a step we do not have), MEMORY.
enum tlm_status normalizer_open(struct normalizer **out, const char *json, size_t length,
                                struct tlm_error *err);
void normalizer_close(struct normalizer *n); // NULL is allowed
// A list that has one step: normalization form C.
enum tlm_status normalizer_open_nfc(struct normalizer **out, struct tlm_error *err);

// Normalizes well-formed UTF-8. *out is a new text that the caller frees, or NULL where nothing changes.
// `first`: the text begins a span (a prefix is added to that alone). Errors: MEMORY, FORMAT (a text too long).
enum tlm_status normalizer_run(const struct normalizer *n, const char *text, size_t bytes, bool first,
                               char **out, size_t *out_bytes, struct tlm_error *err);

#endif
