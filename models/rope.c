// models/rope.c -- frequencies of rotary positions and the ways to stretch them over longer contexts.
//
// Pair i of P turns by position * freq[i], freq[i] = base^(-i/P), then:
//   linear    freq / factor                                                     (arXiv 2306.15595)
//   Llama 3   freq / rope_freqs.weight[i], the divisors stand in the file
//   YaRN      slow pairs as linear, fast pairs unchanged, a ramp between; cos and sin times
//             attn_factor * (1 + 0.1 ln(factor))                                (arXiv 2309.00071)
//   LongRoPE  freq / rope_factors_short or _long.weight[i], the long ones where the session holds more tokens than the
//             original context; cos and sin times attn_factor                   (arXiv 2402.13753)
#include <math.h>
#include <stdlib.h>

#include "models/model.h"

// The pair whose wave turns `turns` times within the original context; fractional.
static double yarn_pair(const struct rope_hparams *h, double turns)
{
    double waves = (double)h->original_context / (turns * 2 * M_PI);
    return (double)h->pairs * log(waves) / log(h->base);
}

static void yarn(const struct rope_hparams *h, double *freq, double *magnitude)
{
    double low = yarn_pair(h, h->yarn_beta_fast), high = yarn_pair(h, h->yarn_beta_slow);
    if (!h->yarn_fractions) low = floor(low), high = ceil(high);
    low = fmax(0, low);
    high = fmin((double)(2 * h->pairs - 1), high);
    for (int64_t i = 0; i < h->pairs; i++) {
        double ramp = ((double)i - low) / fmax(0.001, high - low);
        double keep = h->yarn_ext_factor * (1 - fmin(1, fmax(0, ramp))); // share of the unchanged frequency
        freq[i] = freq[i] / h->factor * (1 - keep) + freq[i] * keep;
    }
    if (h->factor > 1 && h->yarn_ext_factor != 0) *magnitude *= 1 + 0.1 * log(h->factor);
}

static void divide(double *freq, const struct tensor *by)
{
    for (int64_t i = 0; by && i < by->ne[0]; i++)
        freq[i] /= by->type == DTYPE_F64 ? ((const double *)by->data)[i] : ((const float *)by->data)[i];
}

void rope_frequencies(const struct tlm_model *m, const struct rope_hparams *h, int64_t context, double *freq,
                      double *magnitude)
{
    const struct weights *w = &m->weights;
    *magnitude = h->attn_factor;
    for (int64_t i = 0; i < h->pairs; i++) freq[i] = pow(h->base, -(double)i / (double)h->pairs);
    if (h == &m->hparams.rope) {
        divide(freq, w->rope_freqs);
        divide(freq, context > h->original_context ? w->rope_long : w->rope_short);
    }
    switch (h->scaling) {
    case ROPE_SCALING_NONE:
    case ROPE_SCALING_LONGROPE: break;
    case ROPE_SCALING_LINEAR:
        for (int64_t i = 0; i < h->pairs; i++) freq[i] /= h->factor;
        break;
    case ROPE_SCALING_YARN: yarn(h, freq, magnitude); break;
    }
}

static enum tlm_status read_scaling(struct rope_hparams *h, const struct gguf *g, const char *arch,
                                    struct tlm_error *err)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    char key[96];
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    struct gguf_string type = {"linear", 6}; // files older than the key give a factor alone
    enum tlm_status s = gguf_get_string(g, key, &type, err);
    if (s) return s;
    for (int i = 0; i < 4; i++) {
        if (!gguf_string_is(type, names[i])) continue;
        h->scaling = (enum rope_scaling)i;
        return TLM_OK;
    }
    char shown[64];
    return error_set(err, TLM_ERR_UNSUPPORTED, "%s: expected none, linear, yarn or longrope, found '%s'", key,
                     gguf_printable(type, shown, sizeof shown));
}

enum tlm_status rope_hparams_read(struct rope_hparams *h, const struct gguf *g, const char *arch,
                                  struct tlm_error *err)
{
    int64_t head_pairs = h->pairs, dims = 2 * h->pairs;
    h->base = 10000;
    h->factor = 1;
    h->attn_factor = 1;
    h->yarn_beta_fast = 32;
    h->yarn_beta_slow = 1;
    h->yarn_ext_factor = 1;
    enum tlm_status s;
    if ((s = hparam_i64(g, arch, "rope.dimension_count", 0, 2 * head_pairs, &dims, err)) ||
        (s = hparam_f64(g, arch, "rope.freq_base", &h->base, err)) || (s = read_scaling(h, g, arch, err)) ||
        (s = hparam_f64(g, arch, "rope.scale_linear", &h->factor,
                        err)) || // its name before scaling had kinds
        (s = hparam_f64(g, arch, "rope.scaling.factor", &h->factor, err)) ||
        (s = hparam_f64(g, arch, "rope.scaling.attn_factor", &h->attn_factor, err)) ||
        (s = hparam_i64(g, arch, "rope.scaling.original_context_length", 1, INT32_MAX, &h->original_context,
                        err)) ||
        (s = hparam_f64(g, arch, "rope.scaling.yarn_beta_fast", &h->yarn_beta_fast, err)) ||
        (s = hparam_f64(g, arch, "rope.scaling.yarn_beta_slow", &h->yarn_beta_slow, err)) ||
        (s = hparam_f64(g, arch, "rope.scaling.yarn_ext_factor", &h->yarn_ext_factor, err)))
        return s;
    // What GGUF has no key for; the architecture's default stands in files of others.
    bool truncate = !h->yarn_fractions;
    if ((s = gguf_get_bool(g, "tinylm.rope.yarn_truncate", &truncate, err))) return s;
    h->yarn_fractions = !truncate;
    h->pairs = dims / 2;
    if (dims % 2 || !(h->base > 1) || !(h->factor > 0))
        return error_set(
            err, TLM_ERR_FORMAT,
            "%s.rope: expected an even dimension_count, freq_base above 1 and a positive factor, found "
            "%lld, %g, %g",
            arch, (long long)dims, h->base, h->factor);
    return TLM_OK;
}

enum tlm_status rope_source_open(struct rope_source *r, const struct tlm_model *m,
                                 const struct rope_hparams *h, int64_t context, struct tlm_error *err)
{
    r->freq = tensor_shape(DTYPE_F64, h->pairs, 1, 1, 1);
    r->freq.data = malloc(tensor_bytes(&r->freq) + 1);
    if (!r->freq.data)
        return error_set(err, TLM_ERR_MEMORY, "session: no memory for %d pairs", (int)h->pairs);
    rope_frequencies(m, h, context, r->freq.data, &r->magnitude);
    return TLM_OK;
}

void rope_source_close(struct rope_source *r)
{
    free(r->freq.data);
    *r = (struct rope_source){0};
}
