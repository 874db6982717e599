// cuda/none.c -- the backend of a binary that was built without it.
#include "ops/backend.h"

int cuda_backend_count(void)
{
    return 0;
}

enum tlm_status cuda_backend_open(struct backend **out, int number, struct tlm_error *err)
{
    (void)number;
    *out = NULL;
    return error_set(err, TLM_ERR_UNSUPPORTED,
                     "cuda: this tinylm was built without it ('make cuda' builds it in)");
}
