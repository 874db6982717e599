#include "generate/draft.h"

#include <math.h>

#include "generate/clock.h"

// What is believed before anything was measured, worth BELIEF guesses: right first tokens and next ones by kind, what a second branch has
// of the chance of the one before it, and what a row adds to a pass.
static const struct {
    double first, next;
} expected[DRAFT_KINDS] = {{0.25, 0.5}, {0.4, 0.6}, {0.6, 0.7}, {0.85, 0.9}};
static const double BELIEF = 2, LESSER = 0.4, ROW = 0.05;
static const double ALIKE = 4;   // what the first tokens' chance is worth as a belief about those behind them
static const double FADE = 0.95; // what a count is worth one guess later
static const double FRESH = 0.15; // what the last pass counts at least
enum { PATIENCE_LEAST = 4, PATIENCE_MOST = 64 };

static double chance(const struct draft_luck *l, double believed, double guesses)
{
    return (l->right + guesses * believed) / (l->right + l->wrong + guesses);
}

static void count_luck(struct draft_luck *l, double right, double wrong)
{
    l->right = FADE * l->right + right;
    l->wrong = FADE * l->wrong + wrong;
}

// Of passes of so many rows to one of a single row. What was not measured yet goes on from below, and a larger pass that was measured is
// the most that it can be.
static void expect_costs(const struct draft_control *c, double ratio[DRAFT_ROWS + 1])
{
    ratio[0] = ratio[1] = 1;
    for (int32_t n = 2; n <= DRAFT_ROWS; n++)
        ratio[n] = c->cost[n].passes ? c->cost[n].ratio : ratio[n - 1] + ROW;
    for (int32_t n = DRAFT_ROWS; n-- > 1;)
        if (ratio[n + 1] < ratio[n]) ratio[n] = ratio[n + 1];
}

struct draft_size draft_best_size(struct draft_control *c, int kind, int32_t most, int32_t branches)
{
    struct draft_size best = {0, 0};
    if (c->plain == 0 || most < 1) return best; // first learn what a plain step takes
    if (most > DRAFT_MOST) most = DRAFT_MOST;
    double ratio[DRAFT_ROWS + 1];
    expect_costs(c, ratio);
    const struct draft_kind *k = &c->kinds[kind];
    // A token behind a right one is believed to be no worse a guess than the first.
    double believed = expected[kind].first, first = 0, best_speed = 1.02;
    double next = fmax(expected[kind].next, chance(&k->first[0], believed, BELIEF));
    next = chance(&k->next, next, ALIKE);
    for (int32_t b = 1; b <= branches; b++, believed *= LESSER) {
        first += chance(&k->first[b - 1], believed, BELIEF);
        double tokens = 1, more = first < 1 ? first : 1;
        for (int32_t n = 1; n <= most; n++, more *= next) {
            tokens += more;
            double speed = tokens / (ratio[b * (n + 1)] + n * c->guess / c->plain);
            if (speed > best_speed * 1.01) best_speed = speed, best = (struct draft_size){n, b};
        }
    }
    if (best.length) {
        c->idle = c->patience = 0;
    } else if (++c->idle > c->patience) { // an attempt; each that brings nothing doubles the time to the next
        c->idle = 0;
        c->patience = c->patience < PATIENCE_LEAST  ? PATIENCE_LEAST
                      : c->patience < PATIENCE_MOST ? 2 * c->patience
                                                    : PATIENCE_MOST;
        best = (struct draft_size){1, 1};
    }
    return best;
}

// Moves the mean by a share of what it lacks.
static void blend(double *mean, double value, double share)
{
    // One pass that was held up must not count for long.
    if (*mean > 0 && value > 2 * *mean) value = 2 * *mean;
    *mean += fmax(share, FRESH) * (value - *mean);
}

void draft_pass_took(struct draft_control *c, int32_t rows, double seconds)
{
    if (rows > DRAFT_ROWS) return;
    struct draft_cost *now = &c->cost[rows];
    if (rows == 1) {
        blend(&c->plain, seconds, 1.0 / ++now->passes);
    } else if (c->plain > 0) {
        if (!now->passes) { // what was expected counts as one pass
            double ratio[DRAFT_ROWS + 1];
            expect_costs(c, ratio);
            now->ratio = ratio[rows];
        }
        blend(&now->ratio, seconds / c->plain, 1.0 / (++now->passes + 1));
    }
}

void draft_guess_took(struct draft_control *c, int32_t tokens, double seconds)
{
    if (tokens) blend(&c->guess, seconds / tokens, c->guess == 0 ? 1 : FRESH);
}

void draft_came_out(struct draft_control *c, int kind, int32_t branches, int32_t winner, int32_t guessed,
                    int32_t right)
{
    struct draft_kind *k = &c->kinds[kind];
    for (int32_t b = 0; b < branches; b++)
        count_luck(&k->first[b], right && b == winner, !right || b != winner);
    // What is not tried fades too, so that a few bad guesses are not believed for ever.
    bool more = right && guessed > 1;
    count_luck(&k->next, more ? right - 1 : 0, more && right < guessed);
}

enum tlm_status draft_make(struct tlm_drafter *d, const struct tlm_sampler *sampler, const int32_t *tokens,
                           int32_t count, int32_t most, int32_t branches, struct draft *draft,
                           struct tlm_error *err)
{
    draft->branches = 0;
    int32_t possible = 1;
    d->kind = d->class->kind(d, tokens, count, &possible);
    if (d->kind < 0) return TLM_OK;
    if (branches > possible) branches = possible;
    struct draft_size size = draft_best_size(&d->control, d->kind, most, branches);
    if (!size.length) return TLM_OK;
    enum tlm_status status = d->class->read ? d->class->read(d, tokens, count, err) : TLM_OK;
    if (status) return status;
    double begin = clock_seconds();
    status = d->class->guess(d, sampler, tokens, count, size.length, size.branches, draft, err);
    if (!status && draft->branches) draft_guess_took(&d->control, draft->count[0], clock_seconds() - begin);
    return status;
}

void tlm_drafter_close(struct tlm_drafter *d)
{
    if (d) d->class->close(d);
}
