// generate/draft.h -- guesses of the tokens to come, and how many of them are worth checking.
//
// A pass over the weights takes hardly longer for a few rows than for one. So a drafter guesses tokens, one pass computes the logits
// behind each, and the sampler draws from them in order for as long as it draws what was guessed (Leviathan et al., "Fast inference
// from transformers via speculative decoding", arXiv 2211.17192). The sampler's random numbers belong to the places of tokens, not to
// passes, and rows do not depend on their company: so the text is the same as without drafting, greedy or drawn, whatever is guessed.
// A guess that was itself drawn with the random numbers of its place is right most often (Daliri, Musco and Suresh, "Coupling without
// communication and drafter-invariant speculative decoding", arXiv 2408.07978).
//
// Several branches may be guessed at once; each is a sequence of its own that shares the timeline's blocks.
#ifndef GENERATE_DRAFT_H
#define GENERATE_DRAFT_H

#include "core/error.h"

enum {
    DRAFT_MOST = 24,    // tokens of a branch
    DRAFT_BRANCHES = 3, // at once
    DRAFT_KINDS = 4,    // of guesses, the surer ones behind
};

struct draft {
    int32_t branches;
    int32_t count[DRAFT_BRANCHES];
    int32_t tokens[DRAFT_BRANCHES][DRAFT_MOST];
};

enum { DRAFT_ROWS = (DRAFT_MOST + 1) * DRAFT_BRANCHES }; // of a pass that checks guesses, at most

// How guesses came out, old ones counting less and less.
struct draft_luck {
    double right, wrong;
};

// What drafting costs and brings, measured as it goes. Nothing of it changes the text.
struct draft_control {
    double plain; // seconds of a pass of one row; 0: not yet known
    // Of a pass of so many rows to it, and from how many passes that is known.
    struct draft_cost {
        double ratio;
        int32_t passes;
    } cost[DRAFT_ROWS + 1];
    double guess; // seconds for one guessed token
    struct draft_kind {
        struct draft_luck first[DRAFT_BRANCHES]; // the first token of each branch
        struct draft_luck next;                  // tokens behind a right one
    } kinds[DRAFT_KINDS];
    int32_t idle, patience; // steps since guessing last paid or was tried; to the next attempt
};

// How many tokens a branch has, and how many branches there are; a length of 0: no guess.
struct draft_size {
    int32_t length, branches;
};

// Within these, what gives the most tokens a second. Now and then a guess where it would be none, to see whether that has changed.
struct draft_size draft_best_size(struct draft_control *c, int kind, int32_t most, int32_t branches);
// A pass of `rows` rows took so long.
void draft_pass_took(struct draft_control *c, int32_t rows, double seconds);
// Guessing so many tokens took so long.
void draft_guess_took(struct draft_control *c, int32_t tokens, double seconds);
// Of `branches` the one numbered `winner` did best: of its `guessed` tokens the first `right` were right.
void draft_came_out(struct draft_control *c, int kind, int32_t branches, int32_t winner, int32_t guessed,
                    int32_t right);

struct drafter_class {
    // What kind of guess can be made behind tokens[0..count), or -1: none; and in how many branches.
    int (*kind)(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches);
    // Reads a prompt that it has not met, which is not the price of a guess. NULL: nothing to do.
    enum tlm_status (*read)(struct tlm_drafter *d, const int32_t *tokens, int32_t count,
                            struct tlm_error *err);
    // Guesses at most `most` tokens a branch and `branches` branches, whose first tokens differ; *draft comes empty. `sampler` will
    // draw the tokens. Errors: those of the model that guesses.
    enum tlm_status (*guess)(struct tlm_drafter *d, const struct tlm_sampler *sampler, const int32_t *tokens,
                             int32_t count, int32_t most, int32_t branches, struct draft *draft,
                             struct tlm_error *err);
    void (*close)(struct tlm_drafter *d);
};

// The start of every drafter.
struct tlm_drafter {
    const struct drafter_class *class;
    struct draft_control control;
    int kind; // of the last guess
};

// Empty where guessing does not pay. Errors: as guess().
enum tlm_status draft_make(struct tlm_drafter *d, const struct tlm_sampler *sampler, const int32_t *tokens,
                           int32_t count, int32_t most, int32_t branches, struct draft *draft,
                           struct tlm_error *err);

#endif
