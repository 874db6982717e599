// generate/sample_dry.c -- DRY, "don't repeat yourself": tokens that would continue a repetition become
// unlikely.
//
// If the last L tokens of the history stand somewhere earlier in it too, the token that followed there would
// make the repetition one longer: with L >= allowed_length it loses multiplier * base^(L - allowed_length).
// By p-e-w (text-generation-webui, pull request 5677); the search in linear time by pi6am (koboldcpp, pull
// request 982).
//
//     history      a b c c b c y a b c      L counts how many tokens up to here repeat the end of the
//     history: L            0 0 3 1 0 2 0 0 0 -      a b c was followed by c, so c would make 4; c by b; b c
//     by y
//
// A breaker is a string that no repetition crosses, such as a newline: tokens up to it count as gone. It is
// looked for in the text of the history, so it is found however it was cut into tokens.
#include "generate/sample.h"

#include <float.h>
#include <string.h>

enum tlm_status sampler_dry_measure(struct sampler_dry *dry, const struct sampler_vocab *vocab,
                                    const struct tlm_sampler_options *options, struct tlm_error *err)
{
    for (size_t i = 0; i < options->dry_breaker_count; i++) {
        const char *breaker = options->dry_breakers[i];
        size_t length = breaker ? strlen(breaker) : 0;
        if (length == 0)
            return error_set(err, TLM_ERR_ARGUMENT, "sampler: dry_breakers[%zu]: expected a string, found %s",
                             i, breaker ? "an empty one" : "none");
        dry->breaker_total += length;
        if (length > dry->breaker_longest) dry->breaker_longest = length;
    }
    dry->breaker_count = vocab->text ? options->dry_breaker_count : 0;
    for (int32_t token = 0; dry->breaker_count > 0 && token < vocab->size; token++) {
        size_t length = vocab->text(vocab->user, token, NULL, 0);
        dry->text_total += length;
        if (length > dry->text_longest) dry->text_longest = length;
    }
    return TLM_OK;
}

void sampler_dry_fill(struct sampler_dry *dry, const struct sampler_vocab *vocab,
                      const struct tlm_sampler_options *options)
{
    char *at = dry->text_bytes, *end = at + dry->text_total + dry->breaker_total;
    for (size_t i = 0; i < dry->breaker_count; i++) {
        size_t length = strlen(options->dry_breakers[i]);
        memcpy(at, options->dry_breakers[i], length);
        dry->breakers[i] = (struct sampler_text){at, length};
        at += length;
    }
    for (int32_t token = 0; dry->breaker_count > 0 && token < vocab->size; token++) {
        size_t length = vocab->text(vocab->user, token, at, (size_t)(end - at));
        TLM_ASSERT(length <= (size_t)(end - at));
        dry->texts[token] = (struct sampler_text){at, length};
        at += length;
    }
}

void sampler_dry_reset(struct sampler_dry *dry)
{
    dry->tail_length = 0;
    dry->since_breaker = INT64_MAX;
}

// Notes whether a breaker ends within the text of `token`, maybe begun by the tokens before it.
void sampler_dry_accept(struct sampler_dry *dry, int32_t token)
{
    if (dry->breaker_count == 0) return;
    if (dry->since_breaker != INT64_MAX) dry->since_breaker++;
    struct sampler_text text = dry->texts[token];
    memcpy(dry->tail + dry->tail_length, text.bytes, text.length);
    size_t length = dry->tail_length + text.length;
    for (size_t i = 0; i < dry->breaker_count; i++) {
        struct sampler_text breaker = dry->breakers[i];
        // One byte less than the breaker of what was there before: what is found then ends in the new text.
        size_t before = dry->tail_length < breaker.length - 1 ? dry->tail_length : breaker.length - 1;
        if (memmem(dry->tail + dry->tail_length - before, before + text.length, breaker.bytes,
                   breaker.length))
            dry->since_breaker = 0;
    }
    dry->tail_length = length < dry->breaker_longest - 1 ? length : dry->breaker_longest - 1;
    memmove(dry->tail, dry->tail + length - dry->tail_length, dry->tail_length);
}

// z[k] = how many tokens match when the history, read backwards, is laid over itself k tokens further back;
// the Z-algorithm. [left, right) is the match that reaches furthest back: inside it z has been seen before.
static void match_lengths(int32_t *z, const int32_t *last, int32_t n)
{
    int32_t left = 0, right = 0;
    for (int32_t k = 1; k < n; k++) {
        int32_t length = 0;
        if (k < right) length = z[k - left] < right - k ? z[k - left] : right - k;
        if (k + length >= right) {
            while (k + length < n && last[-length] == last[-length - k]) length++;
            left = k;
            right = k + length;
        }
        z[k] = length;
    }
}

int32_t sampler_dry_mark(struct tlm_sampler *s)
{
    struct sampler_dry *dry = &s->dry;
    int32_t allowed = s->options.dry_allowed_length;
    int32_t n = s->accepted < dry->window ? (int32_t)s->accepted : dry->window;
    int32_t limit = dry->since_breaker < n ? (int32_t)dry->since_breaker : n;
    if (n <= allowed || limit < allowed) return 0;

    const int32_t *last = sampler_history(s, 1);
    match_lengths(dry->match, last, n);
    int32_t marked = 0;
    for (int32_t k = 1; k < n; k++) {
        int32_t length = dry->match[k] < limit ? dry->match[k] : limit;
        if (length < allowed) continue;
        int32_t token = last[1 - k]; // followed there, so it would continue the repetition
        if (dry->longest[token] == 0) dry->marked[marked++] = token;
        if (dry->longest[token] < length + 1) dry->longest[token] = length + 1;
    }
    return marked;
}

// base^exponent by squaring; +INFINITY where that is too large.
static double power(double base, int32_t exponent)
{
    double result = 1;
    for (; exponent > 0; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

double sampler_dry_penalty(const struct tlm_sampler *s, int32_t token)
{
    const struct sampler_dry *dry = &s->dry;
    for (size_t i = 0; i < dry->breaker_count; i++) { // a token that breaks repetitions is welcome
        struct sampler_text text = dry->texts[token], breaker = dry->breakers[i];
        if (memmem(text.bytes, text.length, breaker.bytes, breaker.length)) return 0;
    }
    double penalty = (double)s->options.dry_multiplier *
                     power(s->options.dry_base, dry->longest[token] - 1 - s->options.dry_allowed_length);
    return penalty < FLT_MAX ? penalty : FLT_MAX; // finite: a logit of +INFINITY must not turn into NaN
}
