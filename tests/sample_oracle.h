// tests/sample_oracle.h -- every sampler in the plainest way, for tests/test_sample.c to compare with.
//
// Over the whole vocabulary in double with the C library's mathematics: ranks by counting, masses by sorting
// all, repetitions by comparing all pairs of positions. A token that is out keeps its place.
#ifndef TESTS_SAMPLE_ORACLE_H
#define TESTS_SAMPLE_ORACLE_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tinylm.h"

enum { ORACLE_MAX = 2048 }; // tokens

struct oracle {
    int n;
    double logit[ORACLE_MAX], p[ORACLE_MAX];
    bool out[ORACLE_MAX];
};

static void oracle_softmax(struct oracle *o)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < o->n; i++)
        if (!o->out[i]) max = fmax(max, o->logit[i]);
    for (int i = 0; i < o->n; i++) sum += o->p[i] = o->out[i] ? 0 : exp(o->logit[i] - max);
    for (int i = 0; i < o->n; i++) o->p[i] /= sum;
}

static int oracle_by_key(const void *a, const void *b, void *keys)
{
    int i = *(const int *)a, j = *(const int *)b;
    double x = ((const double *)keys)[i], y = ((const double *)keys)[j];
    return x != y ? (x > y ? -1 : 1) : i - j;
}

// The ids by their keys, the highest first.
static void oracle_sort(const struct oracle *o, double *keys, int *ids)
{
    for (int i = 0; i < o->n; i++) ids[i] = i;
    qsort_r(ids, (size_t)o->n, sizeof *ids, oracle_by_key, keys);
}

static void oracle_mass(struct oracle *o, double *keys, double mass)
{
    int ids[ORACLE_MAX];
    double sum = 0;
    oracle_sort(o, keys, ids);
    for (int r = 0; r < o->n; r++) {
        if (o->out[ids[r]]) continue;
        if (sum >= mass) o->out[ids[r]] = true;
        sum += o->p[ids[r]];
    }
}

static void oracle_typical(struct oracle *o, double mass)
{
    double entropy = 0, keys[ORACLE_MAX];
    for (int i = 0; i < o->n; i++)
        if (o->p[i] > 0) entropy -= o->p[i] * log(o->p[i]);
    for (int i = 0; i < o->n; i++) keys[i] = o->p[i] > 0 ? -fabs(-log(o->p[i]) - entropy) : -INFINITY;
    oracle_mass(o, keys, mass);
}

static void oracle_xtc(struct oracle *o, double threshold)
{
    int ids[ORACLE_MAX], last = -1;
    oracle_sort(o, o->p, ids);
    for (int r = 0; r < o->n; r++)
        if (!o->out[ids[r]] && o->p[ids[r]] >= threshold) last = r;
    for (int r = 0; r < last; r++) o->out[ids[r]] = true;
}

static void oracle_penalties(struct oracle *o, const struct tlm_sampler_options *opt, const int *history,
                             int length)
{
    int first = opt->penalty_last_n < 0 || opt->penalty_last_n > length ? 0 : length - opt->penalty_last_n;
    for (int i = 0; i < o->n; i++) {
        int count = 0;
        for (int j = first; j < length; j++) count += history[j] == i;
        if (count == 0) continue;
        o->logit[i] *= o->logit[i] > 0 ? 1 / (double)opt->repeat_penalty : (double)opt->repeat_penalty;
        o->logit[i] -= count * (double)opt->frequency_penalty + (double)opt->presence_penalty;
    }
}

// `limit`: tokens since the last breaker.
static void oracle_dry(struct oracle *o, const struct tlm_sampler_options *opt, const int *history,
                       int length, int limit)
{
    int first = opt->dry_last_n < 0 || opt->dry_last_n > length ? 0 : length - opt->dry_last_n;
    int longest[ORACLE_MAX];
    memset(longest, -1, sizeof longest);
    for (int end = first + 1; end < length; end++) { // history[..end) is compared with the whole history
        int same = 0;
        while (end - 1 - same >= first && same < limit &&
               history[end - 1 - same] == history[length - 1 - same])
            same++;
        if (same > longest[history[end]]) longest[history[end]] = same;
    }
    for (int i = 0; i < o->n; i++)
        if (longest[i] >= opt->dry_allowed_length)
            o->logit[i] -=
                fmin((double)FLT_MAX, (double)opt->dry_multiplier *
                                          pow((double)opt->dry_base, longest[i] - opt->dry_allowed_length));
}

static void oracle_step(struct oracle *o, const char *name, const struct tlm_sampler_options *opt, bool xtc,
                        const int *history, int length)
{
    oracle_softmax(o);
    if (!strcmp(name, "penalties")) oracle_penalties(o, opt, history, length);
    if (!strcmp(name, "dry") && opt->dry_multiplier > 0) oracle_dry(o, opt, history, length, length);
    if (!strcmp(name, "top_p") && opt->top_p < 1) oracle_mass(o, o->logit, (double)opt->top_p);
    if (!strcmp(name, "typ_p") && opt->typical_p < 1) oracle_typical(o, (double)opt->typical_p);
    if (!strcmp(name, "xtc") && xtc) oracle_xtc(o, (double)opt->xtc_threshold);
    double max = 0;
    bool out[ORACLE_MAX];
    memcpy(out, o->out, sizeof out);
    for (int i = 0; i < o->n; i++) max = fmax(max, o->p[i]);
    for (int i = 0; i < o->n; i++) {
        if (!strcmp(name, "temperature")) o->logit[i] /= (double)opt->temperature;
        if (!strcmp(name, "min_p") && o->p[i] < (double)opt->min_p * max) o->out[i] = true;
        if (!strcmp(name, "top_k") && opt->top_k > 0) {
            int better = 0;
            for (int j = 0; j < o->n; j++)
                better += !out[j] && (o->logit[j] > o->logit[i] || (o->logit[j] == o->logit[i] && j < i));
            if (better >= opt->top_k) o->out[i] = true;
        }
    }
}

static void oracle_run(struct oracle *o, const float *logits, int n, const struct tlm_sampler_options *opt,
                       bool xtc, const int *history, int length)
{
    *o = (struct oracle){.n = n};
    for (int i = 0; i < n; i++) o->logit[i] = (double)logits[i];
    for (size_t i = 0; i < opt->logit_bias_count; i++)
        o->logit[opt->logit_bias[i].token] += (double)opt->logit_bias[i].bias;
    for (int i = 0; i < n; i++) o->out[i] = !(o->logit[i] > -INFINITY);
    char list[128];
    snprintf(list, sizeof list, "%s", opt->samplers);
    for (char *name = strtok(list, ";"); name; name = strtok(NULL, ";"))
        oracle_step(o, name, opt, xtc, history, length);
    oracle_softmax(o);
}

#endif
