// tests/golden.h -- reading the golden files (tests/golden/README.md).
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include <stdint.h>

#include "tinylm.h"

struct golden {
    int32_t *ids; // [count]
    int32_t count;
    int32_t *rows; // [row_count] indices whose logits are kept, rising
    int32_t row_count;
    int32_t context; // to open a session with
    float *logits;   // (row_count, vocab)
    int32_t vocab;
};

// Fails the test where a file is missing or malformed.
struct golden golden_read(const char *name);
void golden_free(struct golden *g);

// Every id file of the folder: "llama-plain-33" ...; free the names and the list.
char **golden_names(int *count);
// "tests/golden/llama-plain.gguf" of "llama-plain-33", into path[256].
void golden_model_path(const char *name, char *path);

// Opens model and session or fails the test.
struct tlm_model *open_model(const char *path, const char *isa);
struct tlm_session *open_session(const struct tlm_model *m, struct tlm_session_options options);

#endif
