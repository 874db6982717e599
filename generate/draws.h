// generate/draws.h -- the draws of a pass as a device makes them: samplers become data (ops/draw.h), tokens come back.
#ifndef GENERATE_DRAWS_H
#define GENERATE_DRAWS_H

#include "generate/sample.h"
#include "ops/draw.h"

// One of the passes that may be on their way.
struct pass_draws {
    struct arena memory;
    struct draws *data; // NULL: nothing can be drawn
    int32_t *drawn;     // (rows) tokens, or DRAW_NONE
    size_t used, room;  // bytes of *data
    int32_t vocab;
    bool any; // rows for the device in the next pass
};

// Errors: MEMORY.
enum tlm_status draws_open(struct pass_draws *d, int32_t rows, int32_t vocab, struct tlm_error *err);
void draws_close(struct pass_draws *d);

// Begins a pass of so many rows of logits.
void draws_begin(struct pass_draws *d, int32_t rows);
// Row i is for `sampler` to draw from, behind ahead[0..count), tokens that it has not accepted yet; the last of them may be ~j, what is drawn
// from row j of the pass in front, which still runs. Left to the host where the device lacks something.
void draws_add(struct pass_draws *d, int32_t i, struct tlm_sampler *sampler, const int32_t *ahead,
               int32_t count);

#endif
