// models/create.h -- a new model: hyperparameters in, a GGUF file with initialised weights out.
//
// What a file holds follows from the architecture's weight table and hparams(), so every architecture can be created. Beside the
// table an architecture says what its published models have where nobody says otherwise: struct create_defaults.
#ifndef MODELS_CREATE_H
#define MODELS_CREATE_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/gguf.h"

// Names for the hyperparameters that most architectures have. Beside these a model takes the GGUF keys that its architecture reads,
// written with a dot: "attention.scale", or "granite.logit_scale" with the architecture in front; and "general.name" and its kin.
enum create_kind { CREATE_INTEGER, CREATE_NUMBER, CREATE_BOOL };
struct create_key {
    const char *name;
    enum create_kind kind;
    const char *gguf; // the key without "ARCH."; NULL: it becomes no key, or not only one
    double low, high; // of numbers, both inclusive
    const char *help; // what it is, and what holds where it is left out
};

extern const struct create_key create_keys[];
extern const size_t create_key_count;

// A hyperparameter as it was written.
struct create_pair {
    char *key, *value;
};

struct create_options {
    const char *arch; // general.architecture
    const struct create_pair *pairs;
    size_t pair_count;
    const char *tokenizer; // the file or folder whose vocabulary and chat template the model takes
    uint64_t seed;
    int threads; // 0: the processors this process may run on
};

// Writes the file. Its bytes depend on the options but for `threads`. Errors: ARGUMENT ("KEY: expected X, found Y"), IO, MEMORY, and
// what opening the tokenizer gives.
enum tlm_status model_create(const char *path, const struct create_options *o, struct tlm_error *err);
// A file of that model in memory, to measure speed with: no tokenizer, matrices of `type`, or of one like it whose blocks their rows can be
// cut into, and numbers that are all zero, whose pages cost nothing until they are touched. Errors: as above.
enum tlm_status model_create_shapes(struct arena *file, const struct create_options *o, enum dtype type,
                                    struct tlm_error *err);
// How many parameters it would have: nothing is written, and no tokenizer needed where `vocab` is given. Errors: as above.
enum tlm_status model_create_count(uint64_t *parameters, const struct create_options *o,
                                   struct tlm_error *err);

// ---- what architectures say ---------------------------------------------------------------------------

// Sizes as they were given; 0 where they were not.
struct create_sizes {
    int64_t layers, width, heads, kv_heads, head_dim, value_dim, rope_dims, q_rank, kv_rank;
};

// How matrices whose outputs join the residual stream differ from the others.
enum residual_init {
    RESIDUAL_SCALED, // deviation / sqrt(2 layers): GPT-2, 2019, section 2.3
    RESIDUAL_SAME,   // they do not
    RESIDUAL_WANG,   // 2 / (layers sqrt(width)): GPT-NeoX, arXiv 2204.06745, section 2.1.3
};

// Whether a model has an optional weight: OPEN leaves it to what was asked for (biases) and to the experts.
enum create_choice { CREATE_NO, CREATE_YES, CREATE_OPEN };
struct weight_spec;

struct create_defaults {
    bool tied;        // the embedding is the output matrix
    bool bias;        // weights that are optional biases are there
    const char *keys; // "name=value name=value", GGUF keys without "ARCH.", numbers with a point are floats
    double std;       // deviation of new weights; 0: 0.02, as in GPT-2 and BERT
    double variance;  // > 0: the deviation is sqrt(variance / width)
    enum residual_init residual;
    // Keys that follow from several sizes, or refuses sizes; NULL: none do. Errors: ARGUMENT.
    enum tlm_status (*derive)(struct gguf_writer *w, const struct create_sizes *s, struct tlm_error *err);
    // Where the keys in `g` say which weights there are, in layer l or (-1) in the model; NULL: they do not.
    enum create_choice (*has)(const struct gguf *g, const struct weight_spec *spec, int64_t l);
};

#endif
