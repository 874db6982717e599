// models/create_plan.h -- between models/create.c and models/create_metadata.c: what was asked for, and the keys that follow from it.
#ifndef MODELS_CREATE_PLAN_H
#define MODELS_CREATE_PLAN_H

#include "models/model.h"

enum { CREATE_KEY_COUNT_MAX = 32, CREATE_NAME_SIZE = 128 };

struct create_value {
    bool given;
    double number; // a bool is 0 or 1
};

struct create_plan {
    const struct create_options *options;
    const struct arch *arch;
    struct create_value values[CREATE_KEY_COUNT_MAX]; // of create_keys
    int64_t vocab, feed_forward, expert_feed_forward; // 0: not known yet, or not said
};

struct create_name {
    char text[CREATE_NAME_SIZE];
};

// Reads options->pairs into values[]. Errors: ARGUMENT.
enum tlm_status create_read_values(struct create_plan *p, struct tlm_error *err);
const struct create_value *create_value(const struct create_plan *p, const char *name);
// The number that was given, or what stands in its place.
int64_t create_size(const struct create_plan *p, const char *name, int64_t fallback);
// Does the pair go into the file by its own name? Such names have a dot.
bool create_is_verbatim(const struct create_pair *pair);
enum tlm_status create_wrong_value(const char *key, const char *expected, const char *found,
                                   struct tlm_error *err);

// "ARCH.name"; names that have the architecture in front already, or are of no architecture, stay.
struct create_name create_key_name(const struct create_plan *p, const char *name);
// Everything but the tokenizer. Errors: ARGUMENT.
enum tlm_status create_set_keys(const struct create_plan *p, struct gguf_writer *w, struct tlm_error *err);

#endif
