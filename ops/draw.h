// ops/draw.h -- what a device has to know to draw tokens from rows of logits, as the sampler of the host would.
//
// The data of a pass stand in one piece: a struct draws, a struct draw_row for each row of logits, and behind them what rows point to by
// bytes from the beginning: changes of single logits, and bits of the tokens that a grammar allows. All that a draw does is fixed by
// generate/sample_chain.c: same logits, same bits. Chains that a device lacks are the host's (generate/draws.c).
#ifndef OPS_DRAW_H
#define OPS_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum draw_kind { DRAW_TOP_K, DRAW_TYPICAL, DRAW_TOP_P, DRAW_MIN_P, DRAW_TEMPERATURE, DRAW_KINDS };

// More candidates than that are no list. DRAW_BOUND are looked for where the chain does not say how many.
enum { DRAW_LIST = 512, DRAW_BOUND = 128 };
enum { DRAW_VOCAB_MOST = 1 << 19 };
enum { DRAW_NONE = -1 }; // in place of a token: the host draws it

// One token's logit: plus the bias; then, where it stands in the history, what the penalties say of `count` times.
struct draw_change {
    int32_t token;
    float bias;
    int32_t count;
};

struct draw_step {
    enum draw_kind kind;
    double value; // k, p, the logarithm of min_p, the temperature
};

struct draw_row {
    uint64_t seed, draw;                // of the random numbers
    double repeat, frequency, presence; // penalties
    struct draw_step chain[DRAW_KINDS]; // [length]
    double
        divisor; // of the logits where the sum over all of them is wanted: the temperature in front of that
    int32_t length;                      // DRAW_NONE: the host draws
    int32_t last_resort;                 // the token to draw where none has a probability
    int32_t changes, change_count, mask; // bytes from the beginning; mask 0: every token is allowed
    // 1 + the output of the pass in front whose token, not known yet, stands behind the history: it is one of the changes, or one more, for
    // which there is room. 0: none.
    int32_t behind;
    bool greedy;
    bool weigh; // the sum over all tokens is wanted
    bool all;   // nothing truncates: the draw is among all tokens
};

struct draws {
    int32_t count; // rows
    struct draw_row rows[];
};

// The draws of a pass, on the host.
struct draw_run {
    const struct draws *data;
    size_t bytes;   // of *data and all that belongs to it
    int32_t *drawn; // (count) tokens, or DRAW_NONE
};

#endif
