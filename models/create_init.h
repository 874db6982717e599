// models/create_init.h -- the numbers of new weights.
#ifndef MODELS_CREATE_INIT_H
#define MODELS_CREATE_INIT_H

#include "core/threads.h"
#include "models/model.h"

// How a tensor begins: normal with mean 0 and this deviation, or, where that is 0, all `value`.
struct weight_init {
    double std;
    float value;
};

// `std`: what the user asks for; negative: the architecture's.
struct weight_init weight_init_of(const struct arch *arch, const struct hparams *h,
                                  const struct weight_spec *spec, double std);
// Fills out[0, count) with the numbers `first` and behind of the tensor `name`, which depend on nothing but seed, name and place.
void weight_init_fill(float *out, struct weight_init init, uint64_t seed, const char *name, int64_t first,
                      int64_t count, struct threads *pool);

#endif
