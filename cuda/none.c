// cuda/none.c -- the backend of a binary that was built without it.
#include "ops/backend.h"

enum tlm_status cuda_backend_open(struct backend **out, struct tlm_error *err)
{
    *out = NULL;
    return error_set(err, TLM_ERR_UNSUPPORTED,
                     "cuda: this tinylm was built without it ('make cuda' builds it in)");
}
