// models/hf_convert.h -- folders to GGUF files and back.
#ifndef MODELS_HF_CONVERT_H
#define MODELS_HF_CONVERT_H

#include "models/model.h"

struct hf_convert {
    const char *in, *out;
    int type; // of matrices: DTYPE_F32, F16 or BF16; -1: what they are, quantized ones BF16 in a folder
    // Called between pieces of work with the bytes written so far; returns false to stop. May be NULL.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};

// Both write under a temporary name beside `out`, sync and rename; memory is bounded by the largest tensor, or one expert of it.
// Errors: as hf_open(), gguf_open(); IO; ARGUMENT (progress() said to stop; `out` is there and not empty).
enum tlm_status hf_convert_to_gguf(const struct hf_convert *c, struct tlm_error *err);
enum tlm_status hf_convert_to_folder(const struct hf_convert *c, struct tlm_error *err);

#endif
