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

// Every id file of tests/golden/FOLDER ("" for tests/golden itself), sorted, as golden_read() takes them: "models/qwen2-tied-20" ...; free the
// names and the list.
char **golden_names(const char *folder, int *count);
// "tests/golden/llama-plain.gguf" of "llama-plain-33", into path[256].
void golden_model_path(const char *name, char *path);

// Opens model and session or fails the test.
struct tlm_model *open_model(const char *path, const char *isa);
struct tlm_session *open_session(const struct tlm_model *m, struct tlm_session_options options);

// Fails the test unless the logits of all kept rows agree with g to `tolerance`, with prompt chunks of `batch` tokens and keys and values in
// f32: ||a - b|| <= tolerance ||b|| and max |a - b| <= 10 tolerance max |b|. `what` is for the message.
void golden_check(const struct golden *g, const struct tlm_model *m, const char *what, int32_t batch,
                  double tolerance);

#endif
