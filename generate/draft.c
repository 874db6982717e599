#include "generate/draft.h"

#include <stdlib.h>

#include "generate/clock.h"

// What is believed before anything was measured, worth BELIEF guesses: right first tokens and next ones by kind, what a second branch has
// of the chance of the one before it, and what a row adds to a pass.
static const struct {
    double first, next;
} expected[DRAFT_KINDS] = {{0.25, 0.5}, {0.4, 0.6}, {0.6, 0.7}, {0.85, 0.9}};
static const double BELIEF = 2, LESSER = 0.4, ROW = 0.05;
static const double FADE = 0.95;  // what a count is worth one guess later
static const double FRESH = 0.15; // what the last pass counts at least
enum { PATIENCE_LEAST = 4, PATIENCE_MOST = 64 };

static double chance(const struct draft_luck *l, double believed)
{
    return (l->right + BELIEF * believed) / (l->right + l->wrong + BELIEF);
}

static void count_luck(struct draft_luck *l, double right, double wrong)
{
    l->right = FADE * l->right + right;
    l->wrong = FADE * l->wrong + wrong;
}

// A pass of n rows to one of a single row. What larger passes were measured to take is the most that it can be.
static double cost(const struct draft_control *c, int32_t n)
{
    if (n <= 1) return 1;
    double least = 1 + ROW * (n - 1);
    int32_t low = n;
    while (low > 1 && !c->cost[low].passes) low--;
    if (low > 1) least = c->cost[low].ratio + ROW * (n - low);
    for (int32_t i = n; i <= DRAFT_ROWS; i++)
        if (c->cost[i].passes && c->cost[i].ratio < least) least = c->cost[i].ratio;
    return least;
}

struct draft_size draft_best_size(struct draft_control *c, int kind, int32_t most, int32_t branches)
{
    struct draft_size best = {0, 0};
    if (c->plain == 0 || most < 1) return best; // first learn what a plain step takes
    if (most > DRAFT_MOST) most = DRAFT_MOST;
    const struct draft_kind *k = &c->kinds[kind];
    double next = chance(&k->next, expected[kind].next), best_speed = 1.02, first = 0;
    double believed = expected[kind].first;
    for (int32_t b = 1; b <= branches; b++, believed *= LESSER) {
        first += chance(&k->first[b - 1], believed);
        double tokens = 1, more = first < 1 ? first : 1;
        for (int32_t n = 1; n <= most; n++, more *= next) {
            tokens += more;
            double speed = tokens / (cost(c, b * (n + 1)) + n * c->guess / c->plain);
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

static void blend(double *mean, double value, int32_t seen)
{
    // One pass that was held up must not count for long.
    if (*mean > 0 && value > 2 * *mean) value = 2 * *mean;
    double share = 1.0 / (seen + 1);
    *mean += (share > FRESH ? share : FRESH) * (value - *mean);
}

void draft_pass_took(struct draft_control *c, int32_t rows, double seconds)
{
    if (rows > DRAFT_ROWS) return;
    struct draft_cost *now = &c->cost[rows];
    if (rows == 1) {
        blend(&c->plain, seconds, now->passes++);
    } else if (c->plain > 0) {
        // What was expected counts as one pass.
        if (!now->passes) now->ratio = cost(c, rows);
        blend(&now->ratio, seconds / c->plain, ++now->passes);
    }
}

void draft_guess_took(struct draft_control *c, int32_t tokens, double seconds)
{
    if (tokens) blend(&c->guess, seconds / tokens, c->guess == 0 ? 0 : INT32_MAX - 1);
}

void draft_came_out(struct draft_control *c, int kind, int32_t branches, int32_t winner, int32_t guessed,
                    int32_t right)
{
    struct draft_kind *k = &c->kinds[kind];
    for (int32_t b = 0; b < branches; b++)
        count_luck(&k->first[b], right && b == winner, !right || b != winner);
    if (right && guessed > 1) count_luck(&k->next, right - 1, right < guessed);
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
    double begin = clock_seconds();
    enum tlm_status status =
        d->class->guess(d, sampler, tokens, count, size.length, size.branches, draft, err);
    if (!status && draft->branches) draft_guess_took(&d->control, draft->count[0], clock_seconds() - begin);
    return status;
}

void tlm_drafter_close(struct tlm_drafter *d)
{
    if (d) d->class->close(d);
}
