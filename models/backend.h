// models/backend.h -- opening devices for a model, and asking them for kernels; for models/placement.c.
#ifndef MODELS_BACKEND_H
#define MODELS_BACKEND_H

#include "models/model.h"
#include "ops/backend.h"

enum backend_wish { BACKEND_UNUSED, BACKEND_USED, BACKEND_NAMED };

// Opens those of the first `count` devices that are wished for, as places 1 and on. Those that do not open are left out, with a word in
// m->backend_text, unless somebody named them or there is no other. Errors: ARGUMENT, UNSUPPORTED, with the reason.
enum tlm_status backend_open_devices(struct tlm_model *m, const enum backend_wish *wishes, int count,
                                     struct tlm_error *err);
void backend_close_devices(struct tlm_model *m);
// Have the devices kernels for all that is computed on them? Errors: UNSUPPORTED, with op and reason; MEMORY.
enum tlm_status backend_check_model(const struct tlm_model *m, struct tlm_error *err);

#endif
