// generate/draft_lookup.c -- guesses that what followed the same tokens before follows again ("prompt lookup decoding", Saxena 2023).
//
// The longest run of last tokens that stands somewhere earlier in the timeline is looked for; what came behind its latest
// occurrence is the guess, and behind the latest one that went on with another token a second branch. Answers that quote, correct
// or complete what stands in the prompt profit most.
#include <stdlib.h>

#include "generate/draft.h"

enum { LONGEST = 16 }; // tokens of a match that are worth telling apart

struct lookup {
    struct tlm_drafter base;
    int32_t place[DRAFT_BRANCHES]; // where the guesses begin
    int32_t places;
};

// Tokens at the end of tokens[0..count) that also end in front of `at`.
static int32_t match_length(const int32_t *tokens, int32_t count, int32_t at)
{
    int32_t n = 0;
    while (n < LONGEST && n < at && tokens[at - 1 - n] == tokens[count - 1 - n]) n++;
    return n;
}

static bool goes_on_like_another(const struct lookup *l, const int32_t *tokens, int32_t at)
{
    for (int32_t i = 0; i < l->places; i++)
        if (tokens[l->place[i]] == tokens[at]) return true;
    return false;
}

static int lookup_kind(struct tlm_drafter *d, const int32_t *tokens, int32_t count, int32_t *branches)
{
    struct lookup *l = (struct lookup *)d;
    int32_t longest = 0;
    l->places = 0;
    for (int32_t at = count - 1; at > 0 && longest < LONGEST; at--) {
        if (tokens[at - 1] != tokens[count - 1]) continue;
        int32_t n = match_length(tokens, count, at);
        if (n > longest) {
            longest = n;
            l->place[0] = at;
            l->places = 1;
        } else if (n == longest && l->places < DRAFT_BRANCHES && !goes_on_like_another(l, tokens, at)) {
            l->place[l->places++] = at;
        }
    }
    *branches = l->places;
    return longest == 0 ? -1 : longest == 1 ? 0 : longest == 2 ? 1 : longest < 8 ? 2 : 3;
}

static enum tlm_status lookup_guess(struct tlm_drafter *d, const struct tlm_sampler *sampler,
                                    const int32_t *tokens, int32_t count, int32_t most, int32_t branches,
                                    struct draft *draft, struct tlm_error *err)
{
    (void)sampler, (void)err;
    const struct lookup *l = (const struct lookup *)d;
    for (int32_t b = 0; b < l->places && b < branches; b++) {
        int32_t n = 0;
        // A guess may run into itself: what repeats goes on repeating.
        for (int32_t at = l->place[b]; n < most; n++, at++)
            draft->tokens[b][n] = at < count ? tokens[at] : draft->tokens[b][at - count];
        draft->count[b] = n;
        draft->branches++;
    }
    return TLM_OK;
}

static void lookup_close(struct tlm_drafter *d)
{
    free(d);
}

enum tlm_status tlm_drafter_open_lookup(struct tlm_drafter **out, struct tlm_error *err)
{
    static const struct drafter_class class = {lookup_kind, NULL, lookup_guess, lookup_close};
    struct lookup *l = calloc(1, sizeof *l);
    if (!l) return error_set(err, TLM_ERR_MEMORY, "drafter: no memory for %zu bytes", sizeof *l);
    l->base.class = &class;
    *out = &l->base;
    return TLM_OK;
}
