// cli/drafting.h -- the options of speculative decoding, which generate and chat share.
#ifndef CLI_DRAFTING_H
#define CLI_DRAFTING_H

#include "cli/sampling.h"

struct drafting_args {
    const char *model; // NULL: none
    bool lookup;
    int32_t most;
};

enum { DRAFTING_OPTION_COUNT = 3 };
extern const struct option drafting_options[DRAFTING_OPTION_COUNT];

// What the options ask for; all NULL where they ask for nothing.
struct drafting {
    struct tlm_drafter *drafter;
    struct tlm_model *model;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
};

// `target` is the model whose text is drafted, `sampling` as it was used for its sampler. Returns OPTIONS_GO, or the exit code after an
// error, which has been printed. To be closed in either case.
int drafting_open(const struct command_line *line, const struct drafting_args *args,
                  const struct sampling_args *sampling, const struct session_args *session,
                  const struct tlm_model *target, struct drafting *d);
void drafting_close(struct drafting *d);

#endif
