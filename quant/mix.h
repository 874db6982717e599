// quant/mix.h -- the standard mixes (Q4_K_M ...): which type each tensor of a model gets.
//
// A mix has a base type, and gives more bits to what suffers most: the output, the values of attention and
// the second half of the feed-forward, all of their layers or some. The rules are those that llama.cpp has
// made customary, so that a name means the same file everywhere. They look at GGUF names and shapes only, so
// they serve any architecture.
#ifndef QUANT_MIX_H
#define QUANT_MIX_H

#include "core/gguf.h"

struct mix; // opaque

// By name in any case; NULL where there is none.
const struct mix *mix_find(const char *name);
// The first mix of that base type; NULL where there is none.
const struct mix *mix_of_base(enum dtype base);
// The name of mix i, NULL behind the last.
const char *mix_name(size_t i);
const char *mix_title(const struct mix *m); // as the field writes it, "Q4_K_M"
bool mix_is_composite(const struct mix *m); // its base is a type that GGUF lacks (quant/composite.h)
// GGUF's general.file_type.
uint32_t mix_file_type(const struct mix *m);

// What the rules want to know of a model.
struct mix_model {
    const struct gguf *file;
    int64_t layers, experts; // 0 where the file does not say
    int64_t group;           // query heads for each key-value head; 1 where the file does not say
    int64_t values;          // tensors that make the values of attention
    bool tied;               // no output matrix: the embedding is it
    bool falcon;
    bool importance; // weights of importance are at hand
};

// Errors: FORMAT (a key of the wrong type).
enum tlm_status mix_model_read(struct mix_model *m, const struct gguf *g, bool importance,
                               struct tlm_error *err);

// Whether a mix touches that tensor at all: matrices named *.weight, but no norms, routers and other small
// ones.
bool mix_applies(const struct gguf_tensor *t);
// The type for a tensor that mix_applies() to.
enum dtype mix_type(const struct mix *m, const struct mix_model *model, const struct gguf_tensor *t);
// `type` itself where rows of n numbers can be cut into its blocks, else a type of about the same size that
// can.
enum dtype mix_fitting_type(enum dtype type, int64_t n);

#endif
