// models/create.h -- a new model: hyperparameters in, a GGUF file with initialised weights out.
#ifndef MODELS_CREATE_H
#define MODELS_CREATE_H

#include <stddef.h>

// Names for the hyperparameters that most architectures have. Beside these a model takes the GGUF keys that its architecture reads,
// written with a dot: "attention.scale", or "granite.logit_scale" with the architecture in front.
enum create_kind { CREATE_INTEGER, CREATE_NUMBER, CREATE_BOOL };
struct create_key {
    const char *name;
    enum create_kind kind;
    const char *help; // what it is, and what holds where it is left out
};

extern const struct create_key create_keys[];
extern const size_t create_key_count;

#endif
