#include "generate/draft.h"

#include <stdlib.h>

#include "generate/clock.h"

enum { PROBE = 48 };             // steps from one attempt to the next while guessing does not pay
static const double FADE = 0.95; // what a count is worth one guess later

static double chance(const struct draft_control *c, int kind)
{
    return (c->right[kind] + 1) / (c->right[kind] + c->wrong[kind] + 2);
}

// Seconds of a pass of n rows: measured, or a straight line through what was measured nearest, flat before anything was.
static double pass_seconds(const struct draft_control *c, int32_t n)
{
    const int32_t most = (int32_t)(sizeof c->pass / sizeof *c->pass) - 1;
    int32_t low = n, high = n;
    while (low > 0 && c->pass[low] == 0) low--;
    while (high < most && c->pass[high] == 0) high++;
    double below = low > 0 ? c->pass[low] : 0, above = c->pass[high];
    if (below == 0) return above;
    if (above == 0) return below * (1 + 0.05 * (n - low));
    return low == high ? below : below + (above - below) * (n - low) / (high - low);
}

int32_t draft_length(struct draft_control *c, int kind, int32_t most)
{
    if (c->pass[1] == 0) return 0; // first learn what a plain step takes
    double right = chance(c, kind), tokens = 1, next = 1, best_speed = 0;
    int32_t best = 0;
    for (int32_t n = 0; n <= most && n <= DRAFT_MOST; n++) {
        double speed = tokens / (pass_seconds(c, n + 1) + n * c->guess);
        if (speed > best_speed * 1.02) best_speed = speed, best = n; // a draw goes to the shorter one
        tokens += next *= right;
    }
    if (best) return best;
    return ++c->steps % PROBE == 0 && most ? 1 : 0;
}

static void blend(double *mean, double value)
{
    // One pass that was held up must not count for long.
    if (*mean > 0 && value > 2 * *mean) value = 2 * *mean;
    *mean = *mean == 0 ? value : *mean + 0.15 * (value - *mean);
}

void draft_pass_took(struct draft_control *c, int32_t rows, double seconds)
{
    if (rows < (int32_t)(sizeof c->pass / sizeof *c->pass)) blend(&c->pass[rows], seconds);
}

void draft_guess_took(struct draft_control *c, int32_t tokens, double seconds)
{
    if (tokens) blend(&c->guess, seconds / tokens);
}

void draft_came_out(struct draft_control *c, int kind, int32_t guessed, int32_t right)
{
    if (!guessed) return;
    c->right[kind] = FADE * c->right[kind] + right;
    c->wrong[kind] = FADE * c->wrong[kind] + (right < guessed);
}

enum tlm_status draft_make(struct tlm_drafter *d, const struct tlm_sampler *sampler, const int32_t *tokens,
                           int32_t count, int32_t most, int32_t branches, struct draft *draft,
                           struct tlm_error *err)
{
    draft->branches = 0;
    d->kind = d->class->kind(d, tokens, count);
    int32_t length = d->kind < 0 ? 0 : draft_length(&d->control, d->kind, most);
    if (!length) return TLM_OK;
    double begin = clock_seconds();
    enum tlm_status status = d->class->guess(d, sampler, tokens, count, length, branches, draft, err);
    if (!status && draft->branches) draft_guess_took(&d->control, draft->count[0], clock_seconds() - begin);
    return status;
}

void tlm_drafter_close(struct tlm_drafter *d)
{
    if (d) d->class->close(d);
}
