// models/identity.h -- a number that tells models apart.
#ifndef MODELS_IDENTITY_H
#define MODELS_IDENTITY_H

#include "models/model.h"

// A hash of the metadata, of the names, shapes and types of all tensors, and of samples of their data: two files that are used as one
// and the same model have the same, and a model that was trained on has another. Reads some pages of each tensor.
uint64_t model_identity(const struct tlm_model *m);

// A hash of the tokens' texts; 0 where the file has none. Models of one vocabulary have the same.
uint64_t model_vocabulary_identity(const struct tlm_model *m);

// One more piece in a hash.
uint64_t identity_add(uint64_t hash, const void *data, size_t bytes);

#endif
