// cli/answer.h -- one answer, as generate and chat make it: options, the prompt, streaming, what it took.
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include "cli/common.h"

struct answer_args {
    int32_t predict; // new tokens; -1 until the answer ends or the context is full
    struct option_strings stop;
    bool special;
};

enum { ANSWER_OPTION_COUNT = 3 };
// -n, -r, --special: into a struct answer_args
extern const struct option answer_options[ANSWER_OPTION_COUNT];
// Of --stats: "text", "json", "none", NULL
extern const char *const answer_stats_styles[];

// tlm_generate() with -n as `predict` (0: the prompt alone), progress of long prompts on a terminal, and Ctrl-C heard between passes.
// Tokens and text go to on_token, which had better ask common_interrupted().
enum tlm_status answer_run(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                           size_t count, int32_t predict, const struct tlm_generate_options *options,
                           struct tlm_generate_result *result, struct tlm_error *err);

// Writes text to stdout at once. Returns 0, or the errno of a failure: nobody will read what follows.
int answer_write(const char *text, size_t bytes);

const char *answer_finish_name(enum tlm_finish finish); // "end", "length", ...
// Says on stderr what an answer took, in the style of --stats.
void answer_print_stats(const char *style, const struct tlm_session *session,
                        const struct tlm_generate_result *result, uint64_t seed);

#endif
