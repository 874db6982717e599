#include "generate/draws.h"

#include <math.h>
#include <string.h>

#include "ops/draw_math.h"

enum { CHANGES = 256 }; // of a row, for which there is always room

static size_t mask_bytes(int32_t vocab)
{
    return align_up((size_t)vocab, 64) / 8;
}

enum tlm_status draws_open(struct pass_draws *d, int32_t rows, int32_t vocab, struct tlm_error *err)
{
    const size_t a_row = sizeof(struct draw_row) + CHANGES * sizeof(struct draw_change) + mask_bytes(vocab) +
                         2 * sizeof(uint64_t);
    *d = (struct pass_draws){.vocab = vocab, .room = sizeof(struct draws) + (size_t)rows * a_row};
    const size_t data = align_up(d->room, ARENA_ALIGN), drawn = (size_t)rows * sizeof *d->drawn;
    enum tlm_status s = arena_init(&d->memory, data + drawn, "draws", err);
    if (s) return s;
    d->data = arena_alloc(&d->memory, data);
    d->drawn = arena_alloc(&d->memory, drawn);
    return TLM_OK;
}

void draws_close(struct pass_draws *d)
{
    arena_free(&d->memory);
    *d = (struct pass_draws){0};
}

void draws_begin(struct pass_draws *d, int32_t rows)
{
    d->any = false;
    if (!d->data) return;
    d->data->count = rows;
    d->used = sizeof *d->data + (size_t)rows * sizeof *d->data->rows;
    for (int32_t i = 0; i < rows; i++) {
        d->data->rows[i] = (struct draw_row){.length = DRAW_NONE};
        d->drawn[i] = DRAW_NONE;
    }
}

// Room behind the rows, on a boundary of 8; 0: there is none.
static size_t take(struct pass_draws *d, size_t bytes)
{
    const size_t at = align_up(d->used, sizeof(uint64_t));
    if (bytes > d->room || at > d->room - bytes) return 0;
    d->used = at + bytes;
    return at;
}

// ---- changes of single logits -----------------------------------------------------------------------------

// How often a token stands in the penalties' window once ahead[0..count) have been accepted, of which the window holds all. One that is not known
// yet only pushes another out; the device counts it.
static int32_t count_behind(const struct tlm_sampler *s, int32_t token, const int32_t *ahead, int32_t count)
{
    int32_t n = s->count[token];
    for (int32_t i = 0; i < count; i++) n += ahead[i] == token;
    if (!s->penalty_window || !count) return n;
    const int32_t held = s->accepted < s->penalty_window ? (int32_t)s->accepted : s->penalty_window;
    const int32_t leave = held + count - s->penalty_window;
    for (int32_t i = 0; i < leave; i++) n -= sampler_history(s, held)[i] == token;
    return n;
}

static bool is_biased(const struct tlm_sampler *s, int32_t token)
{
    for (size_t i = 0; i < s->bias_count; i++)
        if (s->bias[i].token == token) return true;
    return false;
}

struct changes {
    struct draw_change *list;
    int32_t count, room;
};

static void add_change(struct changes *c, int32_t token, float bias, int32_t count)
{
    if (c->count < c->room) c->list[c->count] = (struct draw_change){token, bias, count};
    c->count++;
}

// Each token once. False where there is no room.
static bool add_changes(struct pass_draws *d, struct draw_row *row, const struct tlm_sampler *s,
                        const int32_t *ahead, int32_t count)
{
    const bool penalties = s->chain_length && s->chain[0] == SAMPLER_PENALTIES;
    if (penalties && s->penalty_window && count > s->penalty_window) return false;
    const size_t at = take(d, 0), room = at ? (d->room - at) / sizeof(struct draw_change) : 0;
    struct changes c = {(struct draw_change *)((char *)d->data + at), 0,
                        room > INT32_MAX ? INT32_MAX : (int32_t)room};
    for (size_t i = 0; i < s->bias_count; i++) {
        const struct tlm_logit_bias *b = &s->bias[i];
        add_change(&c, b->token, b->bias, penalties ? count_behind(s, b->token, ahead, count) : 0);
    }
    for (int32_t i = 0; penalties && i < s->distinct_count + count; i++) {
        const int32_t token = i < s->distinct_count ? s->distinct[i] : ahead[i - s->distinct_count];
        if (token < 0) continue;
        bool known = is_biased(s, token) || (i >= s->distinct_count && s->count[token]);
        for (int32_t j = s->distinct_count; j < i; j++) known |= ahead[j - s->distinct_count] == token;
        const int32_t n = known ? 0 : count_behind(s, token, ahead, count);
        if (n) add_change(&c, token, 0, n);
    }
    row->changes = (int32_t)at;
    row->change_count = c.count;
    row->behind = penalties && count && ahead[count - 1] < 0 ? 1 + ~ahead[count - 1] : 0;
    const int32_t places = c.count + (row->behind > 0);
    return places <= c.room && take(d, (size_t)places * sizeof *c.list) == at;
}

// ---- rows -------------------------------------------------------------------------------------------------

// What the grammar allows. Where it allows nothing the text is over, and it has nothing to say.
static bool add_mask(struct pass_draws *d, struct draw_row *row, struct tlm_sampler *s)
{
    if (!s->constraint) return true;
    const uint64_t *mask = constraint_mask(s->constraint, s->budget);
    const int32_t known = constraint_vocab_size(s->constraint),
                  most = known < s->n_vocab ? known : s->n_vocab;
    const size_t at = take(d, mask_bytes(d->vocab));
    if (!at) return false;
    uint64_t *to = (uint64_t *)((char *)d->data + at);
    memset(to, 0, mask_bytes(d->vocab));
    memcpy(to, mask, ((size_t)most + 63) / 64 * sizeof *to);
    int32_t first = 0;
    while (first < (most + 63) / 64 && !to[first]) first++;
    if (first == (most + 63) / 64) return true;
    row->last_resort = first * 64 + __builtin_ctzll(to[first]);
    row->mask = (int32_t)at;
    return true;
}

static void add_step(struct draw_row *row, enum draw_kind kind, double value)
{
    const bool sums = kind == DRAW_TOP_P, counts = kind == DRAW_TOP_K || kind == DRAW_MIN_P;
    if (kind == DRAW_TEMPERATURE && row->all && !row->weigh) row->divisor = value;
    if (sums && row->all) row->weigh = true;
    if (sums || counts || kind == DRAW_TYPICAL) row->all = false;
    row->chain[row->length++] = (struct draw_step){kind, value};
}

// The chain but for penalties, which are changes.
static void add_chain(struct draw_row *row, const struct tlm_sampler *s)
{
    const struct tlm_sampler_options *o = &s->options;
    row->divisor = 1;
    row->all = !s->greedy;
    for (int32_t i = 0; i < s->chain_length; i++) {
        switch (s->chain[i]) {
        case SAMPLER_TOP_K: add_step(row, DRAW_TOP_K, o->top_k); break;
        case SAMPLER_TYP_P: add_step(row, DRAW_TYPICAL, (double)o->typical_p); break;
        case SAMPLER_TOP_P: add_step(row, DRAW_TOP_P, (double)o->top_p); break;
        case SAMPLER_MIN_P: add_step(row, DRAW_MIN_P, draw_log((double)o->min_p)); break;
        case SAMPLER_TEMPERATURE: add_step(row, DRAW_TEMPERATURE, (double)o->temperature); break;
        default: break;
        }
    }
    if (row->all) row->weigh = true;
}

void draws_add(struct pass_draws *d, int32_t i, struct tlm_sampler *s, const int32_t *ahead, int32_t count)
{
    if (!d->data || s->n_vocab != d->vocab || !sampler_is_drawable(s)) return;
    if (s->constraint && count) return; // its state behind the guesses is not known
    struct draw_row row = {
        .seed = s->options.seed,
        .draw = s->draws + (uint64_t)count,
        .repeat = (double)s->options.repeat_penalty,
        .frequency = (double)s->options.frequency_penalty,
        .presence = (double)s->options.presence_penalty,
        .greedy = s->greedy,
    };
    if (!add_changes(d, &row, s, ahead, count) || !add_mask(d, &row, s)) return;
    add_chain(&row, s);
    d->data->rows[i] = row;
    d->any = true;
}
