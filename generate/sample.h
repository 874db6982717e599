// generate/sample.h -- inside a sampler: logits become candidates with probabilities, candidates become a
// token.
//
//     logits (V) -> grammar -> bias -> the chain, in the order the user gave -> candidates, whose p sum to 1 -> a draw
//
// sampler_apply() is all but the draw and sampler_draw() is the draw, so that speculative decoding can look
// at the whole distribution in between. generate/sample.c holds the options and the history, sample_chain.c
// the samplers, sample_dry.c the one sampler that reads text. Nothing is allocated after the sampler was
// opened.
//
// Only basic operations of IEEE doubles in a fixed order are used (no exp() or log() of the C library, whose
// last bit differs between processors), and sums of weights are sums of integers: the same logits, options and history draw the same
// tokens on every machine and device.
#ifndef GENERATE_SAMPLE_H
#define GENERATE_SAMPLE_H

#include "core/arena.h"
#include "generate/constraint.h"

struct sampler_candidate {
    int32_t id;
    double logit; // finite
    double p;     // probability; while a sampler is at work, its weight or what it sorts by
};

// What a sampler has to know of a vocabulary. Nothing of it is kept after the sampler was opened.
struct sampler_vocab {
    int32_t size;        // V
    int32_t context;     // tokens a timeline may hold: what "all" means for DRY
    const int32_t *ends; // (end_count) the tokens that end an answer
    size_t end_count;
    // Writes at most `capacity` bytes of the text of `token` and returns how many it has. NULL where no token
    // has text. Asked only for the breakers of DRY.
    size_t (*text)(const void *user, int32_t token, char *text, size_t capacity);
    const void *user;
};

enum sampler_kind {
    SAMPLER_PENALTIES,
    SAMPLER_DRY,
    SAMPLER_TOP_K,
    SAMPLER_TYP_P,
    SAMPLER_TOP_P,
    SAMPLER_MIN_P,
    SAMPLER_XTC,
    SAMPLER_TEMPERATURE,
    SAMPLER_NAMED,                    // so many have names a user can give
    SAMPLER_MIROSTAT = SAMPLER_NAMED, // always last
    SAMPLER_KINDS
};

struct sampler_text {
    const char *bytes;
    size_t length;
};

struct sampler_dry {
    int32_t window;                // tokens looked back
    int32_t *match;                // (window) lengths of matches
    int32_t *longest;              // (V) 1 + length of the longest repetition the token would continue, or 0
    int32_t *marked;               // (window) the tokens whose `longest` is not 0
    struct sampler_text *breakers; // (breaker_count)
    size_t breaker_count;
    struct sampler_text *texts;                                      // (V) texts of the tokens
    char *text_bytes;                                                // where they are
    size_t text_total, text_longest, breaker_total, breaker_longest; // bytes
    char *tail; // the last breaker_longest - 1 bytes of the history; room for a token's text behind them
    size_t tail_length;    // bytes
    int64_t since_breaker; // tokens accepted after the last one that ended a breaker
};

struct tlm_sampler {
    struct tlm_sampler_options options;     // numbers only: strings and arrays are below
    int32_t n_vocab;                        // V
    enum sampler_kind chain[SAMPLER_KINDS]; // what is on, in order
    int32_t chain_length;
    bool greedy;
    bool drawable;
    struct tlm_logit_bias
        *bias; // (bias_count) the user's, and -INFINITY for tokens that must not end the answer
    size_t bias_count;
    struct arena arena;            // all arrays
    struct constraint *constraint; // NULL without a grammar
    int32_t budget;                // tokens that may still come, or CONSTRAINT_UNLIMITED
    int32_t last_resort;           // the token to draw where none has a probability

    const float *dense; // (V) the logits as they stand; NULL once the candidates have been gathered from them
    float *changed;     // (V) our copy, where they have to be changed
    struct sampler_candidate *candidates; // (V)
    int32_t candidate_count;

    const int32_t *forced; // (forced_count) what the draws come to, whatever the logits; for measuring
    uint64_t forced_count;
    uint64_t draws;   // tokens drawn: the index of the random numbers
    double mu;        // mirostat: the surprise allowed, in bits
    double log_total; // mirostat: ln of the sum of e^logit over all candidates before it truncates them

    int64_t accepted; // tokens accepted since the reset
    int32_t *history; // (2 * history_capacity) the last tokens accepted; see sampler_history()
    int32_t history_capacity;
    int32_t penalty_window; // tokens; 0: never forget one
    int32_t *count;         // (V) how often a token is in the penalty window
    int32_t *place;         // (V) where a token of the window stands in `distinct`
    int32_t *distinct;      // (distinct_count) the tokens in the window, each once
    int32_t distinct_count;
    struct sampler_dry dry;
};

// As tlm_sampler_open(), for any vocabulary.
enum tlm_status sampler_open_vocab(struct tlm_sampler **sampler, const struct sampler_vocab *vocab,
                                   const struct tlm_sampler_options *options, struct tlm_error *err);

// Runs the chain over (V) logits: s->candidates[0..candidate_count) with probabilities that sum to 1. A NaN
// counts as -INFINITY. Tokens at -INFINITY are no candidates; where every token is, token 0 is the only one, or the first that the
// grammar allows.
// Tokens at +INFINITY are equally likely, and leave nothing to the others.
void sampler_apply(struct tlm_sampler *s, const float *logits);
// Draws one of the candidates that sampler_apply() left.
int32_t sampler_draw(struct tlm_sampler *s);

// Whether a device can draw for this sampler (ops/draw.h).
static inline bool sampler_is_drawable(const struct tlm_sampler *s)
{
    return s->drawable;
}
// Whether it can do so behind a token that is not known yet: that is what it draws, and there is no state but the history.
static inline bool sampler_goes_ahead(const struct tlm_sampler *s)
{
    return s->drawable && !s->constraint && !s->forced;
}
// The next token where a device has drawn `drawn`, or, if that is DRAW_NONE, has left these logits with the grammar, bias and penalties in
// them.
int32_t sampler_take(struct tlm_sampler *s, int32_t drawn, const float *changed);
// As sampler_apply(), for such logits.
void sampler_apply_changed(struct tlm_sampler *s, const float *logits);

// Tells how many tokens may still come: with a grammar the answer will be whole by then. Errors: ARGUMENT (it takes more).
enum tlm_status sampler_set_budget(struct tlm_sampler *s, int32_t tokens, struct tlm_error *err);
// Whether the grammar has come to its end without a token for that.
bool sampler_is_over(const struct tlm_sampler *s);

// Gives `to`, opened with the same options for as many tokens, the history and the place in the random numbers that `from` has.
void sampler_copy_state(struct tlm_sampler *to, const struct tlm_sampler *from);

// The last n <= history_capacity tokens accepted, oldest first. Every token is written twice, a capacity
// apart, so that they stand in one piece wherever the ring wraps.
static inline const int32_t *sampler_history(const struct tlm_sampler *s, int32_t n)
{
    return s->history + s->history_capacity + s->accepted % s->history_capacity - n;
}

// sample_dry.c. Counts the texts and breakers into s->dry, before the arrays are there and after.
enum tlm_status sampler_dry_measure(struct sampler_dry *dry, const struct sampler_vocab *vocab,
                                    const struct tlm_sampler_options *options, struct tlm_error *err);
void sampler_dry_fill(struct sampler_dry *dry, const struct sampler_vocab *vocab,
                      const struct tlm_sampler_options *options);
void sampler_dry_reset(struct sampler_dry *dry);
void sampler_dry_accept(struct sampler_dry *dry, int32_t token);
// Sets dry.longest for each token that would continue a repetition, and returns how many stand in dry.marked.
int32_t sampler_dry_mark(struct tlm_sampler *s);
// What to take from the logit of a marked token.
double sampler_dry_penalty(const struct tlm_sampler *s, int32_t token);

#endif
