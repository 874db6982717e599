// quant/methods/compare.h -- runs a model over windows of tokens beside the one that it is compared with.
#ifndef QUANT_METHODS_COMPARE_H
#define QUANT_METHODS_COMPARE_H

#include "quant/methods/divergence.h"
#include "quant/methods/logits_file.h"
#include "quant/methods/scan.h"

// Windows side by side, (count, window).
struct compare_text {
    const int32_t *tokens;
    int64_t count;
    int32_t window;
};

// Called behind each window; returns false to stop.
typedef bool compare_progress_fn(void *user, int64_t done, int64_t count);

// Compares `model` with `base`, which runs in step with it (one configuration, one vocabulary), or, where that is NULL, with the rows of
// `file`, which are of the same text. out[count * scan_counted(window)] receives the tokens that count, in order. All threads share the
// sums over the vocabulary. Errors: those of passes; FORMAT (logits that are not finite), CANCELLED, MEMORY.
enum tlm_status compare_run(struct scan *model, struct scan *base, const struct logits_file *file,
                            const struct compare_text *text, struct divergence_token *out,
                            compare_progress_fn *progress, void *user, struct tlm_error *err);

// Writes the rows of `model` to a file. Errors: as compare_run(); IO, ARGUMENT (too many tokens).
enum tlm_status compare_save(struct scan *model, const struct compare_text *text, const char *path,
                             compare_progress_fn *progress, void *user, struct tlm_error *err);
// The same into a file that is then open, and has no name any more: it is gone when it is closed, however the program ends.
enum tlm_status compare_keep(struct logits_file *f, struct scan *model, const struct compare_text *text,
                             const char *path, compare_progress_fn *progress, void *user,
                             struct tlm_error *err);

#endif
