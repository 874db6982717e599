// generate/sample.c -- the sampler's options, checked; its buffers; and the history of accepted tokens.
#include "generate/sample.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/draw.h"

static const char *const sampler_names[SAMPLER_NAMED] = {
    [SAMPLER_PENALTIES] = "penalties",
    [SAMPLER_DRY] = "dry",
    [SAMPLER_TOP_K] = "top_k",
    [SAMPLER_TYP_P] = "typ_p",
    [SAMPLER_TOP_P] = "top_p",
    [SAMPLER_MIN_P] = "min_p",
    [SAMPLER_XTC] = "xtc",
    [SAMPLER_TEMPERATURE] = "temperature",
};
#define ALL_SAMPLERS "penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature"

struct tlm_sampler_options tlm_sampler_defaults(void)
{
    static const char *const breakers[] = {"\n", ":", "\"", "*"};
    return (struct tlm_sampler_options){
        .samplers = ALL_SAMPLERS,
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1,
        .xtc_threshold = 0.1f,
        .repeat_penalty = 1,
        .penalty_last_n = 64,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_last_n = -1,
        .dry_breakers = breakers,
        .dry_breaker_count = sizeof breakers / sizeof *breakers,
        .mirostat_tau = 5,
        .mirostat_eta = 0.1f,
    };
}

// ---- checking the options -----------------------------------------------------------------------------

static enum tlm_status check_ranges(const struct tlm_sampler_options *o, struct tlm_error *err)
{
    const struct {
        const char *name;
        double value, low, high; // high FLT_MAX: any finite number
        bool above_low;          // `low` itself is out of range
    } options[] = {
        {"temperature", (double)o->temperature, 0, FLT_MAX, false},
        {"top_k", o->top_k, 0, INT32_MAX, false},
        {"top_p", (double)o->top_p, 0, 1, true},
        {"min_p", (double)o->min_p, 0, 1, false},
        {"typical_p", (double)o->typical_p, 0, 1, true},
        {"xtc_probability", (double)o->xtc_probability, 0, 1, false},
        {"xtc_threshold", (double)o->xtc_threshold, 0, 1, false},
        {"repeat_penalty", (double)o->repeat_penalty, 0, FLT_MAX, true},
        {"frequency_penalty", (double)o->frequency_penalty, -FLT_MAX, FLT_MAX, false},
        {"presence_penalty", (double)o->presence_penalty, -FLT_MAX, FLT_MAX, false},
        {"penalty_last_n", o->penalty_last_n, -1, INT32_MAX, false},
        {"dry_multiplier", (double)o->dry_multiplier, 0, FLT_MAX, false},
        {"dry_base", (double)o->dry_base, 1, FLT_MAX, false},
        {"dry_allowed_length", o->dry_allowed_length, 0, INT32_MAX, false},
        {"dry_last_n", o->dry_last_n, -1, INT32_MAX, false},
        {"mirostat", o->mirostat, 0, 2, false},
        {"mirostat_tau", (double)o->mirostat_tau, 0, FLT_MAX, false},
        {"mirostat_eta", (double)o->mirostat_eta, 0, FLT_MAX, false},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        double value = options[i].value, low = options[i].low, high = options[i].high;
        if (value >= low && value <= high && !(options[i].above_low && value == low)) continue;
        char expected[64];
        if (low == (double)-FLT_MAX)
            snprintf(expected, sizeof expected, "a finite number");
        else if (high >= INT32_MAX)
            snprintf(expected, sizeof expected, "a number %s %g",
                     options[i].above_low ? "above" : "of at least", low);
        else
            snprintf(expected, sizeof expected, "a number %s %g %s %g",
                     options[i].above_low ? "above" : "from", low,
                     options[i].above_low ? "and at most" : "to", high);
        return error_set(err, TLM_ERR_ARGUMENT, "sampler: %s: expected %s, found %g", options[i].name,
                         expected, value);
    }
    return TLM_OK;
}

static enum tlm_status check_bias(const struct tlm_sampler_options *o, int32_t n_vocab, struct tlm_error *err)
{
    for (size_t i = 0; i < o->logit_bias_count; i++) {
        const struct tlm_logit_bias *b = &o->logit_bias[i];
        if (b->token < 0 || b->token >= n_vocab)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "sampler: logit_bias[%zu]: expected a token from 0 to %d, found %d", i,
                             n_vocab - 1, b->token);
        if (isnan(b->bias) || b->bias == INFINITY)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "sampler: logit_bias[%zu]: expected a finite bias or -inf, found %g", i,
                             (double)b->bias);
    }
    return TLM_OK;
}

// Reads the names in `list` into s->chain.
static enum tlm_status parse_chain(struct tlm_sampler *s, const char *list, struct tlm_error *err)
{
    bool seen[SAMPLER_NAMED] = {false};
    if (*list == '\0') return TLM_OK; // no samplers: draw from the softmax of the logits
    for (const char *name = list;; name++) {
        size_t length = strcspn(name, ";");
        int kind = 0;
        while (kind < SAMPLER_NAMED &&
               (strlen(sampler_names[kind]) != length || memcmp(sampler_names[kind], name, length) != 0))
            kind++;
        int shown = length < 40 ? (int)length : 40;
        if (kind == SAMPLER_NAMED)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "sampler: samplers: expected names of " ALL_SAMPLERS
                             " joined by ';', found \"%.*s\"",
                             shown, name);
        if (seen[kind])
            return error_set(err, TLM_ERR_ARGUMENT,
                             "sampler: samplers: expected each name once, found \"%s\" again",
                             sampler_names[kind]);
        seen[kind] = true;
        s->chain[s->chain_length++] = (enum sampler_kind)kind;
        name += length;
        if (*name == '\0') return TLM_OK;
    }
}

// Whether the options leave a sampler anything to do.
static bool is_on(const struct tlm_sampler_options *o, enum sampler_kind kind)
{
    switch (kind) {
    case SAMPLER_PENALTIES:
        return o->penalty_last_n != 0 &&
               (o->repeat_penalty != 1 || o->frequency_penalty != 0 || o->presence_penalty != 0);
    case SAMPLER_DRY: return o->dry_last_n != 0 && o->dry_multiplier != 0;
    case SAMPLER_TOP_K: return o->top_k != 0;
    case SAMPLER_TYP_P: return o->typical_p < 1;
    case SAMPLER_TOP_P: return o->top_p < 1;
    case SAMPLER_MIN_P: return o->min_p > 0;
    case SAMPLER_XTC: return o->xtc_probability > 0 && o->xtc_threshold <= 0.5f;
    case SAMPLER_TEMPERATURE: return o->temperature != 1;
    default: return false; // no other has a name
    }
}

static bool has(const struct tlm_sampler *s, enum sampler_kind kind)
{
    for (int32_t i = 0; i < s->chain_length; i++)
        if (s->chain[i] == kind) return true;
    return false;
}

// Leaves in the chain what does something. Greedy needs no sampler that keeps the highest logit or ends with
// fewer candidates; mirostat takes the place of all that truncate.
static void compile_chain(struct tlm_sampler *s)
{
    const struct tlm_sampler_options *o = &s->options;
    s->greedy = o->temperature == 0 && has(s, SAMPLER_TEMPERATURE);
    int32_t length = 0;
    for (int32_t i = 0; i < s->chain_length; i++) {
        enum sampler_kind kind = s->chain[i];
        bool moves_single_logits = kind == SAMPLER_PENALTIES || kind == SAMPLER_DRY;
        if (s->greedy && !moves_single_logits) continue;
        if (o->mirostat && !moves_single_logits && kind != SAMPLER_TEMPERATURE) continue;
        if (is_on(o, kind)) s->chain[length++] = kind;
    }
    if (o->mirostat && !s->greedy) s->chain[length++] = SAMPLER_MIROSTAT;
    s->chain_length = length;
}

// ---- buffers ------------------------------------------------------------------------------------------

// Takes `count` elements of `size` bytes from the arena; before there is one, only adds them to *total.
static void *take(struct arena *arena, size_t *total, size_t count, size_t size)
{
    *total += align_up(count * size, ARENA_ALIGN);
    return arena->base ? arena_alloc(arena, count * size) : NULL;
}

// What a device has: penalties in front of all else, a list of the best before anything that wants every candidate of it, and nothing
// that reads text or carries numbers from draw to draw.
static bool is_drawable(const struct tlm_sampler *s)
{
    bool listed = false; // at most DRAW_LIST are left
    if (s->n_vocab > DRAW_VOCAB_MOST) return false;
    for (int32_t i = 0; i < s->chain_length; i++) {
        const enum sampler_kind kind = s->chain[i];
        if (kind == SAMPLER_DRY || kind == SAMPLER_XTC || kind == SAMPLER_MIROSTAT) return false;
        if (kind == SAMPLER_PENALTIES && i) return false;
        if (kind == SAMPLER_TOP_K && s->options.top_k > DRAW_LIST && !listed) return false;
        if (kind == SAMPLER_TYP_P && !listed) return false;
        listed |= kind == SAMPLER_TOP_K || kind == SAMPLER_TOP_P || kind == SAMPLER_MIN_P;
    }
    for (size_t i = 0; i < s->bias_count; i++) // each change is of another token
        for (size_t j = 0; j < i; j++)
            if (s->bias[i].token == s->bias[j].token) return false;
    return true;
}

// Places all arrays, and returns their bytes. Pages never touched (those of samplers that are off) cost
// nothing.
static size_t place_arrays(struct tlm_sampler *s)
{
    struct arena *a = &s->arena;
    struct sampler_dry *dry = &s->dry;
    size_t total = 0, v = (size_t)s->n_vocab;
    s->changed = take(a, &total, v, sizeof *s->changed);
    s->candidates = take(a, &total, v, sizeof *s->candidates);
    s->bias = take(a, &total, s->bias_count, sizeof *s->bias);
    s->history = take(a, &total, 2 * (size_t)s->history_capacity, sizeof *s->history);
    s->count = take(a, &total, v, sizeof *s->count);
    s->place = take(a, &total, v, sizeof *s->place);
    s->distinct = take(a, &total, v, sizeof *s->distinct);
    dry->match = take(a, &total, (size_t)dry->window, sizeof *dry->match);
    dry->longest = take(a, &total, v, sizeof *dry->longest);
    dry->marked = take(a, &total, (size_t)dry->window, sizeof *dry->marked);
    dry->breakers = take(a, &total, dry->breaker_count, sizeof *dry->breakers);
    dry->texts = take(a, &total, v, sizeof *dry->texts);
    dry->text_bytes = take(a, &total, dry->text_total + dry->breaker_total, 1);
    dry->tail = take(a, &total, dry->breaker_longest + dry->text_longest, 1);
    return total;
}

// ---- the interface ------------------------------------------------------------------------------------

static enum tlm_status open_checked(struct tlm_sampler *s, const struct sampler_vocab *vocab,
                                    const struct tlm_sampler_options *o, struct tlm_error *err)
{
    s->options = *o;
    s->options.samplers = NULL, s->options.dry_breakers = NULL, s->options.logit_bias = NULL;
    s->n_vocab = vocab->size;
    s->bias_count = o->logit_bias_count + (o->ignore_end ? vocab->end_count : 0);
    if (check_ranges(o, err) || check_bias(o, s->n_vocab, err)) return TLM_ERR_ARGUMENT;
    if (parse_chain(s, o->samplers ? o->samplers : ALL_SAMPLERS, err)) return TLM_ERR_ARGUMENT;
    compile_chain(s);

    if (has(s, SAMPLER_PENALTIES)) s->penalty_window = o->penalty_last_n < 0 ? 0 : o->penalty_last_n;
    if (has(s, SAMPLER_DRY)) {
        s->dry.window = o->dry_last_n < 0 ? vocab->context : o->dry_last_n;
        enum tlm_status status = sampler_dry_measure(&s->dry, vocab, o, err);
        if (status) return status;
    }
    s->history_capacity = s->penalty_window > s->dry.window ? s->penalty_window : s->dry.window;

    enum tlm_status status = arena_init(&s->arena, place_arrays(s), "sampler", err);
    if (status) return status;
    place_arrays(s);
    if (o->logit_bias_count) memcpy(s->bias, o->logit_bias, o->logit_bias_count * sizeof *s->bias);
    for (size_t i = o->logit_bias_count; i < s->bias_count; i++)
        s->bias[i] = (struct tlm_logit_bias){vocab->ends[i - o->logit_bias_count], -INFINITY};
    s->drawable = is_drawable(s);
    if (has(s, SAMPLER_DRY)) sampler_dry_fill(&s->dry, vocab, o);
    if (o->grammar) {
        if (o->ignore_end)
            return error_set(
                err, TLM_ERR_ARGUMENT,
                "sampler: ignore_end: expected an answer that may end where its grammar does, found both");
        if ((status = constraint_open(&s->constraint, o->grammar, err))) return status;
    }
    tlm_sampler_reset(s);
    return TLM_OK;
}

enum tlm_status sampler_open_vocab(struct tlm_sampler **sampler, const struct sampler_vocab *vocab,
                                   const struct tlm_sampler_options *options, struct tlm_error *err)
{
    struct tlm_sampler_options defaults = tlm_sampler_defaults();
    *sampler = NULL;
    TLM_ASSERT(vocab->size > 0 && vocab->context > 0);
    struct tlm_sampler *s = calloc(1, sizeof *s);
    if (!s) return error_set(err, TLM_ERR_MEMORY, "sampler: cannot allocate %zu bytes", sizeof *s);
    enum tlm_status status = open_checked(s, vocab, options ? options : &defaults, err);
    if (status) {
        tlm_sampler_close(s);
        return status;
    }
    *sampler = s;
    return TLM_OK;
}

static size_t model_token_text(const void *user, int32_t token, char *text, size_t capacity)
{
    size_t length = 0;
    tlm_detokenize(user, &token, 1, TLM_SHOW_SPECIAL | TLM_CONTINUE, text, capacity, &length, NULL);
    return length;
}

enum tlm_status tlm_sampler_open(struct tlm_sampler **sampler, const struct tlm_model *model,
                                 const struct tlm_sampler_options *options, struct tlm_error *err)
{
    *sampler = NULL;
    struct sampler_vocab vocab = {
        .size = tlm_model_vocab_size(model), .text = model_token_text, .user = model};
    vocab.context = tlm_model_context_length(model) > 0 ? tlm_model_context_length(model) : 1;
    int32_t *ends = malloc((size_t)vocab.size * sizeof *ends);
    if (!ends)
        return error_set(err, TLM_ERR_MEMORY, "sampler: cannot allocate %zu bytes",
                         (size_t)vocab.size * sizeof *ends);
    for (int32_t token = 0; token < vocab.size; token++)
        if (tlm_token_is_end(model, token)) ends[vocab.end_count++] = token;
    vocab.ends = ends;
    enum tlm_status status = sampler_open_vocab(sampler, &vocab, options, err);
    free(ends);
    return status;
}

void tlm_sampler_close(struct tlm_sampler *s)
{
    if (!s) return;
    constraint_close(s->constraint);
    arena_free(&s->arena);
    free(s);
}

static int32_t forced(const struct tlm_sampler *s, int32_t drawn)
{
    return s->draws <= s->forced_count ? s->forced[s->draws - 1] : drawn;
}

int32_t tlm_sampler_next(struct tlm_sampler *s, const float *logits)
{
    sampler_apply(s, logits);
    return forced(s, sampler_draw(s));
}

int32_t sampler_take(struct tlm_sampler *s, int32_t drawn, const float *changed)
{
    if (drawn == DRAW_NONE) {
        sampler_apply_changed(s, changed);
        return forced(s, sampler_draw(s));
    }
    s->draws++;
    return forced(s, drawn);
}

// ---- the history --------------------------------------------------------------------------------------

static void count_token(struct tlm_sampler *s, int32_t token)
{
    if (s->count[token]++ > 0) return;
    s->place[token] = s->distinct_count;
    s->distinct[s->distinct_count++] = token;
}

static void forget_token(struct tlm_sampler *s, int32_t token)
{
    if (--s->count[token] > 0) return;
    int32_t moved = s->distinct[--s->distinct_count]; // fills the gap
    s->distinct[s->place[token]] = moved;
    s->place[moved] = s->place[token];
}

static void remember(struct tlm_sampler *s, int32_t token)
{
    if (token < 0 || token >= s->n_vocab) return; // no sampler could ever meet it again
    if (has(s, SAMPLER_PENALTIES)) {
        int32_t window = s->penalty_window;
        if (window > 0 && s->accepted >= window) forget_token(s, *sampler_history(s, window));
        count_token(s, token);
    }
    if (s->history_capacity > 0) {
        int64_t at = s->accepted % s->history_capacity;
        s->history[at] = s->history[at + s->history_capacity] = token;
    }
    sampler_dry_accept(&s->dry, token);
    s->accepted++;
}

void tlm_sampler_accept(struct tlm_sampler *s, int32_t token)
{
    remember(s, token);
    if (s->constraint) constraint_accept(s->constraint, token);
    if (s->budget > 0) s->budget--;
}

void tlm_sampler_set_history(struct tlm_sampler *s, const int32_t *tokens, size_t count)
{
    while (s->distinct_count > 0) s->count[s->distinct[--s->distinct_count]] = 0;
    s->accepted = 0;
    sampler_dry_reset(&s->dry);
    for (size_t i = 0; i < count; i++) remember(s, tokens[i]);
    if (s->constraint) constraint_reset(s->constraint);
    s->budget = CONSTRAINT_UNLIMITED;
}

void tlm_sampler_reset(struct tlm_sampler *s)
{
    tlm_sampler_set_history(s, NULL, 0);
    s->draws = 0;
    s->mu = 2 * (double)s->options.mirostat_tau; // as the paper starts
}

void sampler_copy_state(struct tlm_sampler *to, const struct tlm_sampler *from)
{
    int64_t n = from->accepted < from->history_capacity ? from->accepted : from->history_capacity;
    tlm_sampler_set_history(to, n ? sampler_history(from, (int32_t)n) : NULL, (size_t)n);
    to->draws = from->draws;
    to->mu = from->mu;
    if (to->constraint && from->constraint) constraint_copy(to->constraint, from->constraint);
    to->budget = from->budget;
}

enum tlm_status sampler_set_budget(struct tlm_sampler *s, int32_t tokens, struct tlm_error *err)
{
    int32_t least = s->constraint ? constraint_least_tokens(s->constraint) : 0;
    if (tokens < least)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "answer: expected room for the %d tokens that the shortest one of the grammar "
                         "takes, found room for %d",
                         least, tokens);
    s->budget = tokens;
    return TLM_OK;
}

bool sampler_is_over(const struct tlm_sampler *s)
{
    return s->constraint && constraint_is_over(s->constraint);
}
