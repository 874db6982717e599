// generate/request.h -- one answer in the making: a timeline of tokens, its sequence in the cache, and what draws from its logits.
//
// Whoever runs passes asks each request for its next rows, runs them all in one pass, and hands each its outputs:
//
//     while (!r.done) { n = request_rows(&r, rows, ...); forward_run(f, rows, n); request_take(&r, 0); }
//
// The rows are a chunk of the prompt, or the last token with guesses behind it (generate/draft.h). Where a device draws, the pass of the
// next token can begin before that is known (request_row_ahead()); when its turn comes it is taken like any other, or nobody wants it.
#ifndef GENERATE_REQUEST_H
#define GENERATE_REQUEST_H

#include "generate/draft.h"
#include "generate/forward.h"
#include "generate/stream.h"

struct request {
    struct forward *forward;
    struct tlm_sampler *sampler;
    struct tlm_generate_options options; // a copy; on_token and the rest are the caller's
    struct stream stream;
    struct tlm_generate_result result; // .tokens: the timeline, prompt and answer
    int32_t count, capacity;           // tokens of the timeline; at most
    int32_t computed;                  // tokens whose keys and values the sequence holds
    int32_t sequence;                  // of the cache
    bool done;
    bool ahead; // a row of it runs in the pass behind the one that request_take() will get

    // of the rows that request_rows() gave out last
    int32_t rows, outputs;
    struct draft draft;
    int32_t branch_sequence[DRAFT_BRANCHES]; // [0] is `sequence`
    int32_t branch_output[DRAFT_BRANCHES];   // first output, counted from the request's first
};

// The sequence holds tokens[0..computed), computed < count. `capacity`: tokens that the timeline may reach.
// Errors: MEMORY. On failure nothing is left open.
enum tlm_status request_open(struct request *r, struct forward *f, struct tlm_sampler *sampler,
                             const int32_t *tokens, int32_t count, int32_t capacity, int32_t sequence,
                             int32_t computed, const struct tlm_generate_options *options,
                             struct tlm_error *err);
// Leaves the sequence and result.tokens to the caller.
void request_close(struct request *r);

// Writes the next rows, at least one and at most `room`, and how many of them are outputs to r->outputs. `branches` is at most
// DRAFT_BRANCHES; 0: no guesses at all. Errors: those of the drafter.
enum tlm_status request_rows(struct request *r, struct forward_row *rows, int32_t room, int32_t branches,
                             struct tlm_error *err);
// Tells the pass to come, behind forward_expect_draws(), what will be drawn from the request's outputs.
void request_expect(const struct request *r, int32_t first_output);
// While a pass runs whose output `output` is the request's: its row of the next one, which reads the token that will be drawn there.
enum request_next {
    REQUEST_GOES_AHEAD,
    REQUEST_ENDS,  // with that token
    REQUEST_WAITS, // the host has to see the token first
};
enum request_next request_row_ahead(const struct request *r, int32_t output, struct forward_row *row);
// The pass behind does not count any more.
void request_drop_ahead(struct request *r);
// Takes the outputs of the pass, of which the request's are the ones from `first_output` on: draws tokens and hands out text.
// Errors: MEMORY; the request can go no further then.
enum tlm_status request_take(struct request *r, int32_t first_output, struct tlm_error *err);
// Ends the answer early and hands out the text that was held back.
void request_finish(struct request *r, enum tlm_finish finish);

#endif
