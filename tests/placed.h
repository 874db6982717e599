// tests/placed.h -- models over several places, on the emulation: for the suites cuda_places and cuda_rows.
#ifndef TESTS_PLACED_H
#define TESTS_PLACED_H

#include "core/dtype.h"
#include "tinylm.h"

// A way of placing.
struct placed_setting {
    const char *name;
    int devices;
    int32_t layers; // of the devices; 0: all
    const char *placement, *split, *mode;
};

enum tlm_status placed_open(struct tlm_model **m, const char *path, const struct placed_setting *s,
                            struct tlm_error *err);
// A prompt in chunks, then single tokens, of which later ones are recorded, against the processor in double.
void placed_check_logits(const struct tlm_model *m, const char *path, const char *name, double tolerance);
// A prompt, which two more sequences go on from: their rows stand in one pass, and what they write is copied before. (9, V), for the caller to free().
float *placed_fork_logits(const struct tlm_model *m, enum dtype type);
// The most likely tokens; the drafter may be NULL.
struct tlm_generate_result placed_greedy(const struct tlm_model *m, struct tlm_drafter *d);

#endif
