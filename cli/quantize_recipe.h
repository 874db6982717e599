// cli/quantize_recipe.h -- `tinylm quantize --target-bpw`: a type for each matrix, by what rounding it costs this very model.
#ifndef CLI_QUANTIZE_RECIPE_H
#define CLI_QUANTIZE_RECIPE_H

#include "core/gguf.h"

struct recipe_request {
    const char *model; // path of the file that `in` is
    const char *text;  // what costs are measured on; NULL: on what the model writes itself
    float bpw;         // bits by numbers, over all tensors
    int32_t threads, chunks;
};

// Sets types[i] of every tensor whose search[i] is set; the others' are what they are on entry, and count. Says on stderr what it expects
// of the result. Errors: those of opening and running the model; ARGUMENT (too small a target).
enum tlm_status quantize_recipe_find(const struct recipe_request *q, const struct gguf *in,
                                     const bool *search, enum dtype *types, struct tlm_error *err);

// Writes lines REGEX=TYPE, one for each matrix that a mix would touch. Errors: IO.
enum tlm_status quantize_recipe_save(const char *path, const struct gguf *in, const enum dtype *types,
                                     struct tlm_error *err);

#endif
