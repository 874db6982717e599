// cli/bench_shape.h -- models of well-known shapes with random weights: speed needs no file.
#ifndef CLI_BENCH_SHAPE_H
#define CLI_BENCH_SHAPE_H

#include "core/arena.h"
#include "models/model.h"

extern const char *const bench_shapes[]; // names, then NULL

// Opens a model of that shape with matrices of the type. The CPU's weights are drawn here, a GPU's in its own memory where the host does
// not need them (host_too). *memory outlives the model. Errors: ARGUMENT (no such type), those of tlm_model_open().
enum tlm_status bench_shape_open(struct tlm_model **out, struct arena *memory, const char *shape,
                                 const char *type, bool host_too, const struct tlm_model_options *how,
                                 struct tlm_error *err);

#endif
