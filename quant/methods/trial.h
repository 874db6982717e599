// quant/methods/trial.h -- what rounding some matrices of a model does to its distributions, measured on a text again and again.
#ifndef QUANT_METHODS_TRIAL_H
#define QUANT_METHODS_TRIAL_H

#include "quant/methods/compare.h"
#include "quant/methods/rounded.h"

struct trial {
    struct tlm_model *model;
    struct scan_config config;
    struct compare_text text;
    struct logits_file base; // of the model as it is
    struct threads *threads; // that round
    struct divergence_token *tokens;
};

// Runs the model as it is and keeps its distributions in a file at `path` without a name. `text` must outlive the trial. Errors: those of
// compare_keep().
enum tlm_status trial_open(struct trial *t, struct tlm_model *m, const struct scan_config *config,
                           const struct compare_text *text, const char *path, compare_progress_fn *progress,
                           void *user, struct tlm_error *err);
void trial_close(struct trial *t); // of one that is all zero: does nothing

// With each matrix rounded to types[i] (quant/methods/rounded.h). `progress` may be NULL. Errors: those of compare_run(), MEMORY.
enum tlm_status trial_run(struct trial *t, const enum dtype *types, compare_progress_fn *progress, void *user,
                          struct divergence *d, struct tlm_error *err);

#endif
