// generate/stream.h -- the text of an answer as it becomes certain: whole UTF-8 characters, and nothing that may still turn out to be
// a stop string.
#ifndef GENERATE_STREAM_H
#define GENERATE_STREAM_H

#include "core/error.h"

struct stream {
    const struct tlm_model *model;
    const struct tlm_generate_options *options;
    char *text; // held back
    size_t bytes, capacity;
};

// Errors: MEMORY. `options` must outlive the stream.
enum tlm_status stream_open(struct stream *s, const struct tlm_model *model,
                            const struct tlm_generate_options *options, struct tlm_error *err);
void stream_close(struct stream *s);

// Takes the answer's next token and hands out what became certain. *stopped: a stop string is whole, and what follows it is dropped.
// *cancelled: the receiver asked to stop. Errors: MEMORY.
enum tlm_status stream_token(struct stream *s, int32_t token, bool *stopped, bool *cancelled,
                             struct tlm_error *err);
// Hands out what is left.
void stream_end(struct stream *s);

#endif
