// tests/gpu/llama_step.h -- a step of a Llama as the tasks of tests/gpu/persistent.h, with weights that are made up on the device.
#ifndef TESTS_GPU_LLAMA_STEP_H
#define TESTS_GPU_LLAMA_STEP_H

#include "tests/gpu/persistent.h"

enum { LLAMA_ALLOCATIONS = 64, LLAMA_ROWS = PERSISTENT_ROWS };

struct llama_sizes {
    const char *name;
    enum dtype type, down; // of the weights; of those behind the activation, and of the head
    int32_t layers, width, inner, heads, kv_heads, d, vocab;
    int32_t keys, splits; // of the longest sequence, with those of this step; parts of them
    int32_t rows, used;
    bool apart; // each row of a sequence of its own
};

struct llama_step {
    struct llama_sizes sizes;
    struct persistent_task *tasks; // of the host
    struct persistent_step step;
    float *activations, *logits; // all that launches write but the cache; of it (rows, vocab)
    char *cache;
    size_t activation_bytes, cache_bytes;
    double bytes; // that a step reads: weights, keys and values
    void *allocations[LLAMA_ALLOCATIONS];
    int allocation_count;
};

// ahead: bytes of weights that a warp has on their way. Memory that is missing ends the program.
void llama_step_open(struct llama_step *s, const struct llama_sizes *sizes, int blocks, int32_t ahead);
void llama_step_close(struct llama_step *s);
// What changed in the tasks of the host goes to the device.
void llama_step_send(struct llama_step *s);

#endif
