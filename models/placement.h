// models/placement.h -- what of a model is where: place 0 is the processor, places 1 and on are the devices that a backend opened for it.
//
//     layers    the last `gpu_layers` are the devices', in order, shared out by the memory that these have free, or by `tensor_split`;
//               the rest, in front, are the processor's. A layer's keys and values are where the layer is.
//     matrices  are where their layer is; what stands in front of the layers goes with the first, what stands behind with the last; but
//               for those whose name a rule of `tensor_placement` matches, of which the first counts. With `split_mode` "row" the devices
//               share what is in their layers (models/rows.h).
//
// Norms and biases have no place: they are computed with what they are applied to (ops/parts.h).
#ifndef MODELS_PLACEMENT_H
#define MODELS_PLACEMENT_H

#include "models/model.h"

// Devices by options->backend, "cpu" (or NULL), "cuda" or "auto", and what is computed there; before weights are packed for the processor.
// Errors: ARGUMENT (options that make no sense, rules that match nothing), those of cuda_backend_open(), UNSUPPORTED (the model has something
// that the backend lacks), MEMORY; with "auto" what keeps a device from being used is a reason to take the processor.
enum tlm_status placement_choose(struct tlm_model *m, const struct tlm_model_options *options,
                                 struct tlm_error *err);

// models/rules.c: texts REGEX=PLACE,REGEX=PLACE ..., where PLACE is cpu, cuda (the layer's device) or cuda:N. A comma ends a rule only behind a place,
// so regular expressions may have some.
struct placement_rules;
enum { RULE_CPU = -1, RULE_LAYER = -2 }; // in place of a device's number
// Errors: ARGUMENT, with what is wrong; MEMORY.
enum tlm_status rules_parse(struct placement_rules **out, const char *const *texts, size_t count,
                            struct tlm_error *err);
void rules_free(struct placement_rules *r);
// The device's number or one of the above; false where no rule matches.
bool rules_match(struct placement_rules *r, const char *name, int *device);
bool rules_name(const struct placement_rules *r, int device);
// Errors: ARGUMENT: a rule whose expression no name has matched, though none in front of it took it away.
enum tlm_status rules_check_used(const struct placement_rules *r, struct tlm_error *err);

#endif
