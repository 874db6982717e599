// cli/batch.h -- generate --in: a file of requests, answered many at once.
#ifndef CLI_BATCH_H
#define CLI_BATCH_H

#include "cli/batch_line.h"
#include "cli/drafting.h"

struct batch_args {
    const char *in, *out;    // NULL: not given; out then is standard output
    int32_t parallel, cache; // 0: the library's default
};

enum { BATCH_OPTION_COUNT = 4 };
// --in, --out, --parallel, --cache: into a struct batch_args
extern const struct option batch_options[BATCH_OPTION_COUNT];

// The options of generate that hold for all requests.
struct batch_settings {
    const struct batch_args *batch;
    const struct model_args *model;
    const struct session_args *session;
    const struct answer_args *answer;
    const char *const *stop; // (answer->stop.count) the texts of -r as they are meant
    const struct conversation_args *conversation;
    struct sampling_args *sampling;
    const struct drafting_args *drafting;
    const char *stats;
    bool chat;
};

// Returns the exit code; errors have been printed.
int batch_run(const struct command_line *line, const struct batch_settings *settings);

#endif
