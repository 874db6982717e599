// generate/sample_chain.c -- the samplers: each narrows the candidates down or moves their logits.
//
// Penalties, DRY and top_k work on the dense logits while they come first, touching few of them; the first
// sampler that needs more gathers the candidates. Candidates are never sorted as a whole: a heap hands out
// the best ones until there are enough. Where two are equal, the lower id is the better, so the result is one
// for all machines.
#include "generate/sample.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "ops/draw_math.h"

enum { STREAM_TOKEN, STREAM_XTC };  // of the random numbers
enum { MIROSTAT_CANDIDATES = 100 }; // from which mirostat 1 estimates the shape, as in the paper

// ---- the order of candidates --------------------------------------------------------------------------

// By p, which a sampler has set to what it sorts by.
static bool is_better(const struct sampler_candidate *a, const struct sampler_candidate *b)
{
    return a->p > b->p || (a->p == b->p && a->id < b->id);
}

// Moves c[i] down to its place in the heap c[0..n), which has the best candidate at its root, or the worst.
static void sift_down(struct sampler_candidate *c, int64_t n, int64_t i, bool best_first)
{
    struct sampler_candidate moved = c[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_better(&c[child + 1], &c[child]) == best_first) child++;
        if (is_better(&c[child], &moved) != best_first) break;
        c[i] = c[child];
    }
    c[i] = moved;
}

static void make_heap(struct sampler_candidate *c, int64_t n, bool best_first)
{
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift_down(c, n, i, best_first);
}

// Takes the best of the heap c[0..n) out and puts it at c[n - 1], behind the heap that is left.
static struct sampler_candidate *pop_best(struct sampler_candidate *c, int64_t n)
{
    struct sampler_candidate best = c[0];
    c[0] = c[n - 1];
    c[n - 1] = best;
    sift_down(c, n - 1, 0, true);
    return &c[n - 1];
}

// Keeps the first `keep` candidates that pop_best() took out, best first.
static void keep_popped(struct tlm_sampler *s, int32_t keep)
{
    struct sampler_candidate *c = s->candidates, *from = c + s->candidate_count - keep;
    for (int32_t i = 0; i < keep / 2; i++) {
        struct sampler_candidate swap = from[i];
        from[i] = from[keep - 1 - i];
        from[keep - 1 - i] = swap;
    }
    memmove(c, from, (size_t)keep * sizeof *c);
    s->candidate_count = keep;
}

// ---- from logits to candidates ------------------------------------------------------------------------

// The logits, to be changed.
static float *changeable(struct tlm_sampler *s)
{
    if (s->dense != s->changed) memcpy(s->changed, s->dense, (size_t)s->n_vocab * sizeof(float));
    s->dense = s->changed;
    return s->changed;
}

static struct sampler_candidate candidate(int32_t id, float logit)
{
    return (struct sampler_candidate){.id = id, .logit = (double)logit, .p = (double)logit};
}

// Makes the candidates all finite and at least one, as sampler.h promises: nobody after this meets an
// infinity.
static void settle(struct tlm_sampler *s)
{
    struct sampler_candidate *c = s->candidates;
    if (s->candidate_count == 0) c[s->candidate_count++] = candidate(s->last_resort, 0);
    int32_t certain = 0;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (c[i].logit == INFINITY) c[certain++] = candidate(c[i].id, 0);
    if (certain > 0) s->candidate_count = certain;
}

// Takes the best k of the dense logits, in no particular order, or all where k is V.
static void gather(struct tlm_sampler *s, int32_t k)
{
    const float *x = s->dense;
    struct sampler_candidate *c = s->candidates;
    int32_t n = 0, i = 0;
    for (; i < s->n_vocab && n < k; i++)
        if (x[i] > -INFINITY) c[n++] = candidate(i, x[i]); // not for a NaN either
    if (i < s->n_vocab) {
        make_heap(c, n, false);
        float worst = (float)c[0].logit;
        for (; i < s->n_vocab; i++) {
            if (!(x[i] > worst)) continue; // an equal one has the higher id
            c[0] = candidate(i, x[i]);
            sift_down(c, n, 0, false);
            worst = (float)c[0].logit;
        }
    }
    s->candidate_count = n;
    s->dense = NULL;
    settle(s);
}

// The candidates, gathered if they were not yet.
static struct sampler_candidate *gathered(struct tlm_sampler *s)
{
    if (s->dense) gather(s, s->n_vocab);
    return s->candidates;
}

static double highest(struct tlm_sampler *s)
{
    const struct sampler_candidate *c = gathered(s);
    double max = c[0].logit;
    for (int32_t i = 1; i < s->candidate_count; i++)
        if (c[i].logit > max) max = c[i].logit;
    return max;
}

// Sets p = e^(logit - max) and returns their sum.
static double weigh(struct tlm_sampler *s, double max)
{
    struct sampler_candidate *c = s->candidates;
    const double unit = draw_unit(s->n_vocab);
    uint64_t sum = 0;
    for (int32_t i = 0; i < s->candidate_count; i++) {
        c[i].p = draw_exp(c[i].logit - max);
        sum += draw_weight(c[i].p, unit);
    }
    return (double)sum / unit;
}

// ---- samplers -----------------------------------------------------------------------------------------

// A token n times in the window: l / repeat if l > 0, else l * repeat; then minus n * frequency + presence.
static double penalized(const struct tlm_sampler *s, int32_t token, double logit)
{
    const struct tlm_sampler_options *o = &s->options;
    logit = logit > 0 ? logit / (double)o->repeat_penalty : logit * (double)o->repeat_penalty;
    return logit - ((double)s->count[token] * (double)o->frequency_penalty + (double)o->presence_penalty);
}

static void apply_penalties(struct tlm_sampler *s)
{
    if (s->distinct_count == 0) return;
    if (s->dense) {
        float *x = changeable(s);
        for (int32_t i = 0; i < s->distinct_count; i++) {
            int32_t token = s->distinct[i];
            x[token] = (float)penalized(s, token, (double)x[token]);
        }
        return;
    }
    struct sampler_candidate *c = s->candidates;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (s->count[c[i].id] > 0) c[i].logit = penalized(s, c[i].id, c[i].logit);
}

static void apply_dry(struct tlm_sampler *s)
{
    int32_t marked = sampler_dry_mark(s);
    if (s->dense && marked > 0) {
        float *x = changeable(s);
        for (int32_t i = 0; i < marked; i++) {
            int32_t token = s->dry.marked[i];
            x[token] = (float)((double)x[token] - sampler_dry_penalty(s, token));
        }
    } else if (marked > 0) {
        struct sampler_candidate *c = s->candidates;
        for (int32_t i = 0; i < s->candidate_count; i++)
            if (s->dry.longest[c[i].id] > 0) c[i].logit -= sampler_dry_penalty(s, c[i].id);
    }
    for (int32_t i = 0; i < marked; i++) s->dry.longest[s->dry.marked[i]] = 0;
}

static void apply_top_k(struct tlm_sampler *s)
{
    int32_t k = s->options.top_k;
    if (s->dense) {
        gather(s, k < s->n_vocab ? k : s->n_vocab);
    } else if (k < s->candidate_count) {
        struct sampler_candidate *c = s->candidates;
        for (int32_t i = 0; i < s->candidate_count; i++) c[i].p = c[i].logit;
        make_heap(c, s->candidate_count, true);
        for (int32_t i = 0; i < k; i++) pop_best(c, s->candidate_count - i);
        keep_popped(s, k);
    }
}

// Keeps the fewest candidates, in the order of p, whose weights e^(logit - max) reach `mass`.
static void keep_mass(struct tlm_sampler *s, double max, double mass)
{
    struct sampler_candidate *c = s->candidates;
    const double unit = draw_unit(s->n_vocab);
    make_heap(c, s->candidate_count, true);
    uint64_t sum = 0;
    int32_t keep = 0;
    while (keep < s->candidate_count && (keep == 0 || (double)sum / unit < mass))
        sum += draw_weight(draw_exp(pop_best(c, s->candidate_count - keep++)->logit - max), unit);
    keep_popped(s, keep);
}

static void apply_top_p(struct tlm_sampler *s)
{
    double max = highest(s), sum = weigh(s, max), top_p = (double)s->options.top_p;
    // Most of a vocabulary need not enter the heap: all weights below sum * (1 - top_p) / n together are less
    // than what may be left out. Half of that, so that rounding has room.
    struct sampler_candidate *c = s->candidates;
    double least = sum * (1 - top_p) / s->candidate_count / 2;
    int32_t keep = 0;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (c[i].p >= least) c[keep++] = c[i];
    s->candidate_count = keep;
    keep_mass(s, max, top_p * sum);
}

// Locally typical (Meister et al., "Locally typical sampling", TACL 2023): first the candidates whose
// surprise is nearest to the entropy. |-ln p - H| = |E[logit] - logit|, for ln of the softmax's sum cancels
// out.
static void apply_typ_p(struct tlm_sampler *s)
{
    const double max = highest(s), sum = weigh(s, max), unit = draw_unit(s->n_vocab);
    struct sampler_candidate *c = s->candidates;
    uint64_t below = 0; // weights times how far they are below the highest: at most 1 / e each
    for (int32_t i = 0; i < s->candidate_count; i++) below += draw_weight(c[i].p * (max - c[i].logit), unit);
    const double mean = -((double)below / unit / sum);
    for (int32_t i = 0; i < s->candidate_count; i++) c[i].p = -fabs(c[i].logit - max - mean);
    keep_mass(s, max, (double)s->options.typical_p * sum);
}

// Keeps the candidates whose logit is at least `least`, which the highest is.
static void keep_from(struct tlm_sampler *s, double least)
{
    struct sampler_candidate *c = s->candidates;
    int32_t keep = 0;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (c[i].logit >= least) c[keep++] = c[i];
    s->candidate_count = keep;
}

static void apply_min_p(struct tlm_sampler *s)
{
    keep_from(s, highest(s) + draw_log((double)s->options.min_p));
}

// Exclude top choices: with some probability, all candidates at or above the threshold go but the least
// likely of them. By p-e-w (text-generation-webui, pull request 6335).
static void apply_xtc(struct tlm_sampler *s)
{
    if (rng_uniform(s->options.seed, STREAM_XTC, s->draws) >= (double)s->options.xtc_probability) return;
    double least = weigh(s, highest(s)) * (double)s->options.xtc_threshold;
    struct sampler_candidate *c = s->candidates;
    int32_t last = -1, keep = 0;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (c[i].p >= least && (last < 0 || is_better(&c[last], &c[i]))) last = i;
    for (int32_t i = 0; i < s->candidate_count; i++)
        if (c[i].p < least || i == last) c[keep++] = c[i];
    s->candidate_count = keep;
}

static void apply_temperature(struct tlm_sampler *s)
{
    struct sampler_candidate *c = gathered(s);
    for (int32_t i = 0; i < s->candidate_count; i++) c[i].logit /= (double)s->options.temperature;
}

// Mirostat 1 fits Zipf's law p_i ~ i^-s to the likeliest candidates (least squares over the ratios of
// neighbours) and keeps the k that would have a surprise of mu on average: k = (e 2^mu / (1 - V^-e))^(1/s), e
// = s - 1.
static void mirostat_keep(struct tlm_sampler *s)
{
    struct sampler_candidate *c = s->candidates;
    int32_t n = s->candidate_count, popped = 1;
    for (int32_t i = 0; i < n; i++) c[i].p = c[i].logit;
    make_heap(c, n, true);
    double above = pop_best(c, n)->logit, tb = 0, tt = 0;
    for (; popped < n && popped < MIROSTAT_CANDIDATES; popped++) {
        double logit = pop_best(c, n - popped)->logit, t = draw_log((popped + 1.0) / popped);
        tb += t * (above - logit);
        tt += t * t;
        above = logit;
    }
    double zipf = tb / tt, e = zipf - 1, log_v = draw_log(s->n_vocab);
    // at e = 0 the fraction is 1 / ln V
    double fraction = fabs(e) < 1e-9 ? 1 / log_v : e / (1 - draw_exp(-e * log_v));
    double log_k = (draw_log(fraction) + s->mu * LN2) / zipf;
    if (!(log_k < draw_log(n)))
        return; // for a NaN too: all are equal (zipf is 0) and just as surprising as allowed
    int32_t k = (int32_t)draw_exp(log_k);
    if (k < 1) k = 1;
    for (; popped < k; popped++) pop_best(c, n - popped);
    keep_popped(s, k);
}

// Mirostat (Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity", ICLR
// 2021) keeps the mean surprise of the tokens drawn, under the distribution before it truncates, at tau bits.
static void apply_mirostat(struct tlm_sampler *s)
{
    double max = highest(s);
    s->log_total = max + draw_log(weigh(s, max));
    if (s->candidate_count == 1) return;
    if (s->options.mirostat == 1) {
        mirostat_keep(s);
    } else { // version 2 drops what would surprise by more than mu
        double least = s->log_total - s->mu * LN2;
        keep_from(s, least < max ? least : max);
    }
}

// ---- the chain ----------------------------------------------------------------------------------------

// The highest logit, the lowest id among equals; `otherwise` where there is none. Only the few runs of 64 that raise
// the maximum are looked at again; the lanes let the compiler use vectors for the others.
static int32_t argmax(const float *x, int32_t n, int32_t otherwise)
{
    enum { RUN = 64, LANES = 16 };
    float max = -INFINITY;
    int32_t best = otherwise, i = 0;
    for (; i + RUN <= n; i += RUN) {
        float lane[LANES];
        for (int j = 0; j < LANES; j++) lane[j] = max;
        for (int k = 0; k < RUN; k += LANES)
            for (int j = 0; j < LANES; j++) lane[j] = x[i + k + j] > lane[j] ? x[i + k + j] : lane[j];
        bool raised = false;
        for (int j = 0; j < LANES; j++) raised |= lane[j] > max;
        for (int j = 0; raised && j < RUN; j++)
            if (x[i + j] > max) max = x[i + j], best = i + j;
    }
    for (; i < n; i++)
        if (x[i] > max) max = x[i], best = i;
    return best;
}

// Leaves the logits of tokens that the grammar allows. Where it allows none the text is over, and it has nothing to say.
static void apply_grammar(struct tlm_sampler *s)
{
    enum { WORD = 64 };
    s->last_resort = 0;
    if (!s->constraint) return;
    const uint64_t *mask = constraint_mask(s->constraint, s->budget);
    int32_t known = constraint_vocab_size(s->constraint), words = (known + WORD - 1) / WORD, first = 0;
    while (first < words && !mask[first]) first++;
    if (first == words || first * WORD >= s->n_vocab) return;
    s->last_resort = first * WORD + __builtin_ctzll(mask[first]);
    for (int32_t at = 0; at < s->n_vocab; at += WORD) {
        uint64_t word = at < known ? mask[at / WORD] : 0;
        int32_t n = s->n_vocab - at < WORD ? s->n_vocab - at : WORD;
        if (word == UINT64_MAX)
            memcpy(s->changed + at, s->dense + at, (size_t)n * sizeof(float));
        else
            for (int32_t i = 0; i < n; i++) s->changed[at + i] = word >> i & 1 ? s->dense[at + i] : -INFINITY;
    }
    s->dense = s->changed;
}

static void apply_bias(struct tlm_sampler *s)
{
    if (s->bias_count == 0) return;
    float *x = changeable(s);
    for (size_t i = 0; i < s->bias_count; i++) {
        float *logit = &x[s->bias[i].token];
        *logit = s->bias[i].bias == -INFINITY ? -INFINITY : *logit + s->bias[i].bias;
    }
}

// The chain from step `from` on.
static void run_chain(struct tlm_sampler *s, int32_t from)
{
    static void (*const apply[SAMPLER_KINDS])(struct tlm_sampler *) = {
        [SAMPLER_PENALTIES] = apply_penalties,
        [SAMPLER_DRY] = apply_dry,
        [SAMPLER_TOP_K] = apply_top_k,
        [SAMPLER_TYP_P] = apply_typ_p,
        [SAMPLER_TOP_P] = apply_top_p,
        [SAMPLER_MIN_P] = apply_min_p,
        [SAMPLER_XTC] = apply_xtc,
        [SAMPLER_TEMPERATURE] = apply_temperature,
        [SAMPLER_MIROSTAT] = apply_mirostat,
    };
    for (int32_t i = from; i < s->chain_length; i++) apply[s->chain[i]](s);
    if (s->greedy) { // its chain never gathers
        s->candidates[s->candidate_count++] = candidate(argmax(s->dense, s->n_vocab, s->last_resort), 0);
        s->dense = NULL;
    }
    double sum = weigh(s, highest(s));
    for (int32_t i = 0; i < s->candidate_count; i++) s->candidates[i].p *= 1 / sum;
}

void sampler_apply(struct tlm_sampler *s, const float *logits)
{
    s->dense = logits;
    s->candidate_count = 0;
    apply_grammar(s);
    apply_bias(s);
    run_chain(s, 0);
}

void sampler_apply_changed(struct tlm_sampler *s, const float *logits)
{
    s->dense = logits;
    s->candidate_count = 0;
    apply_grammar(s); // again, for the last resort
    run_chain(s, s->chain_length && s->chain[0] == SAMPLER_PENALTIES);
}

// Each candidate's clock rings after an exponential time of rate p, and the first one to ring is drawn: so it is each with its
// probability (the Gumbel-max trick in another dress). The clocks go by (seed, draw, token) alone: two distributions that are close draw
// the same token from the same random numbers, which is what drafts live on (generate/draft.h).
int32_t sampler_draw(struct tlm_sampler *s)
{
    const struct sampler_candidate *c = s->candidates;
    uint64_t draw = s->draws++;
    int32_t drawn = 0;
    double first = INFINITY;
    for (int32_t i = 0; i < s->candidate_count && s->candidate_count > 1; i++) {
        double u = rng_uniform(s->options.seed, STREAM_TOKEN + 2 * (uint64_t)(uint32_t)c[i].id, draw);
        if (c[i].p == 0 || u > first * c[i].p) continue; // -ln(1 - u) >= u
        double time = -draw_log(1 - u) / c[i].p;
        if (time < first || (time == first && c[i].id < c[drawn].id)) first = time, drawn = i;
    }
    if (s->options.mirostat && !s->greedy) {
        double surprise = (s->log_total - c[drawn].logit) / LN2; // bits
        s->mu -= (double)s->options.mirostat_eta * (surprise - (double)s->options.mirostat_tau);
    }
    return c[drawn].id;
}
