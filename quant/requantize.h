// quant/requantize.h -- a GGUF file's tensors, each written again in a type of its choice.
#ifndef QUANT_REQUANTIZE_H
#define QUANT_REQUANTIZE_H

#include "core/gguf.h"
#include "core/threads.h"

struct requantize {
    const struct gguf *in;
    const enum dtype *types; // (in->tensor_count) what each becomes; its own type copies it
    // (in->tensor_count) each, and either may be NULL, as may be what is in it: weights of importance (ne[0], ne[2]) of the columns,
    // and data that are written as they are, in the type that was chosen.
    const float *const *weights;
    const void *const *ready;
    const float *const *columns,
        *const *rows;     // factors (ne[0]), (ne[1]) that the numbers are multiplied by first
    bool allow_nonfinite; // copy infinities and NaNs into types that have them
    struct threads *threads;
    // Called between pieces of work with the numbers done so far; returns false to stop. May be NULL.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};

// Declares all tensors to `out`, whose metadata the caller has set, and writes their data. Memory is bounded
// by some MiB a thread, or two rows of the largest tensor where that is more; writing goes on beside the
// conversion. The caller finishes the writer. Errors: as gguf_write_data(); MEMORY; FORMAT (a number that the
// type cannot hold, or that is not finite); ARGUMENT (progress() said to stop, or a name of a tensor has a zero byte in it).
// TLM_ASSERTs that every pair of types can be converted and every row be cut into blocks.
enum tlm_status requantize_run(const struct requantize *r, struct gguf_writer *out, struct tlm_error *err);

#endif
