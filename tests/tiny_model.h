// tests/tiny_model.h -- Llamas of random weights, written to a file: for tests that need many types, sizes or windows.
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include <stdbool.h>

#include "core/dtype.h"

struct tiny_model {
    enum dtype type; // of the matrices
    int32_t context; // 0: 1024
    int32_t window;  // 0: none
    int32_t width;   // a multiple of 64, at most 256; 0: 256
    uint32_t seed;
    const char *vocabulary; // a file of that many tokens; NULL: TINY_VOCAB tokens
    int32_t vocabulary_size;
    bool bigram; // layers add nothing: what follows a token depends on that token alone
};

enum { TINY_VOCAB = 293 }; // the vocabulary of tests/golden/llama-plain.gguf

// Two layers, heads of 64, two of which share keys and values where there is an even number. Fails the test where it cannot be
// written.
void tiny_model_write(const char *path, const struct tiny_model *m);

#endif
