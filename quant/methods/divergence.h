// quant/methods/divergence.h -- how far the distributions of a model are from those of the one that it was made from.
//
// For each token: the Kullback-Leibler divergence of the model's distribution q from the base's p, sum p (ln p - ln q) in nats; -ln of
// the probability that each gave to the token that came; whether both like the same token best. Softmax and sums are in double.
#ifndef QUANT_METHODS_DIVERGENCE_H
#define QUANT_METHODS_DIVERGENCE_H

#include "core/error.h"

struct divergence_token {
    double kl, nll_base, nll;
    bool same_top;
};

// By (vocab) logits of the base and of the model, in front of token `target`. What is not finite in them makes the result so.
struct divergence_token divergence_of(const float *base, const float *logits, int32_t vocab, int32_t target);

struct mean { // over the tokens, with its standard error, as if tokens were independent
    double value, error;
};

struct divergence {
    int64_t tokens;
    struct mean kl;
    double kl_median, kl_90, kl_95, kl_99, kl_999, kl_max;
    struct mean same_top; // share of the tokens
    struct mean perplexity_base, perplexity;
    // The model's by the base's. Both meet the same hard and easy tokens, so the ratio is known better than either: its error is that
    // of the mean of the differences.
    struct mean log_ratio, ratio;
    struct mean change, change_rms; // of the probability of the token that came
};

// Errors: MEMORY. TLM_ASSERTs count > 0.
enum tlm_status divergence_summarize(struct divergence *d, const struct divergence_token *tokens,
                                     int64_t count, struct tlm_error *err);

#endif
