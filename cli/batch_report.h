// cli/batch_report.h -- what a person sees of generate --in: how far it is, and what it took.
#ifndef CLI_BATCH_REPORT_H
#define CLI_BATCH_REPORT_H

#include "tinylm.h"

struct batch_report {
    bool shown;                     // progress, on a terminal
    int64_t lines, done, done_here; // requests in the input, -1 not known; done; of them, by this run
    int64_t drawn;                  // tokens so far, also of answers that are not whole
    double begin, last;             // seconds: the run began; progress was shown

    int64_t answers, found_answers, failures; // of this run; found on opening; of both, failures
    int64_t prompt_tokens, reused_tokens, new_tokens, drafted_tokens, accepted_tokens; // of this run
};

// Shows how far the run is, a few times a second.
void batch_report_progress(struct batch_report *r);
void batch_report_hide(const struct batch_report *r);
// Says on stderr what the run took, in the style of --stats.
void batch_report_stats(const struct batch_report *r, const char *style, const struct tlm_batch *batch,
                        const struct tlm_model *model);

#endif
