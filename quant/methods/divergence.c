#include "quant/methods/divergence.h"

#include <math.h>
#include <string.h>

static int32_t largest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

// With a' = a - max a and A = sum exp a', and b likewise: KL = sum exp(a') (a' - b') / A - ln A + ln B.
struct divergence_token divergence_of(const float *a, const float *b, int32_t vocab, int32_t target)
{
    int32_t best_a = largest(a, vocab), best_b = largest(b, vocab);
    double top_a = a[best_a], top_b = b[best_b], sum_a = 0, sum_b = 0, apart = 0;
    for (int32_t i = 0; i < vocab; i++) {
        double x = a[i] - top_a, y = b[i] - top_b, p = exp(x);
        sum_a += p;
        sum_b += exp(y);
        apart += p * (x - y);
    }
    double log_a = log(sum_a), log_b = log(sum_b), kl = apart / sum_a - log_a + log_b;
    return (struct divergence_token){
        .kl = kl < 0 ? 0 : kl, // by rounding alone
        .nll_base = log_a - (a[target] - top_a),
        .nll = log_b - (b[target] - top_b),
        .same_top = best_a == best_b,
    };
}

// ---- over all tokens ----------------------------------------------------------------------------------

typedef double value_fn(const struct divergence_token *t);

static double kl_of(const struct divergence_token *t)
{
    return t->kl;
}

static double same_top_of(const struct divergence_token *t)
{
    return t->same_top;
}

static double nll_base_of(const struct divergence_token *t)
{
    return t->nll_base;
}

static double nll_of(const struct divergence_token *t)
{
    return t->nll;
}

static double log_ratio_of(const struct divergence_token *t)
{
    return t->nll - t->nll_base;
}

static double change_of(const struct divergence_token *t)
{
    return exp(-t->nll) - exp(-t->nll_base);
}

static double squared_change_of(const struct divergence_token *t)
{
    double change = change_of(t);
    return change * change;
}

static struct mean mean_of(const struct divergence_token *t, int64_t count, value_fn *value)
{
    double sum = 0, squares = 0, n = (double)count;
    for (int64_t i = 0; i < count; i++) sum += value(&t[i]);
    for (int64_t i = 0; i < count; i++) {
        double off = value(&t[i]) - sum / n;
        squares += off * off;
    }
    return (struct mean){sum / n, count > 1 ? sqrt(squares / n / (n - 1)) : 0};
}

// exp of a mean, its error by the slope there.
static struct mean exp_of(struct mean m)
{
    return (struct mean){exp(m.value), exp(m.value) * m.error};
}

static struct mean root_of(struct mean m)
{
    double root = sqrt(m.value);
    return (struct mean){root, root > 0 ? m.error / (2 * root) : 0};
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Linear between neighbours, as numpy has it.
static double percentile(const double *sorted, int64_t count, double share)
{
    double at = share * (double)(count - 1);
    int64_t k = (int64_t)at;
    return k + 1 < count ? sorted[k] + (at - (double)k) * (sorted[k + 1] - sorted[k]) : sorted[k];
}

enum tlm_status divergence_summarize(struct divergence *d, const struct divergence_token *t, int64_t count,
                                     struct tlm_error *err)
{
    TLM_ASSERT(count > 0);
    double *sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted)
        return error_set(err, TLM_ERR_MEMORY, "no memory for the divergences of %lld tokens",
                         (long long)count);
    for (int64_t i = 0; i < count; i++) sorted[i] = t[i].kl;
    qsort(sorted, (size_t)count, sizeof *sorted, rising);
    struct mean log_ratio = mean_of(t, count, log_ratio_of);
    *d = (struct divergence){
        .tokens = count,
        .kl = mean_of(t, count, kl_of),
        .kl_median = percentile(sorted, count, 0.5),
        .kl_90 = percentile(sorted, count, 0.9),
        .kl_95 = percentile(sorted, count, 0.95),
        .kl_99 = percentile(sorted, count, 0.99),
        .kl_999 = percentile(sorted, count, 0.999),
        .kl_max = sorted[count - 1],
        .same_top = mean_of(t, count, same_top_of),
        .perplexity_base = exp_of(mean_of(t, count, nll_base_of)),
        .perplexity = exp_of(mean_of(t, count, nll_of)),
        .log_ratio = log_ratio,
        .ratio = exp_of(log_ratio),
        .change = mean_of(t, count, change_of),
        .change_rms = root_of(mean_of(t, count, squared_change_of)),
    };
    free(sorted);
    return TLM_OK;
}
