// models/inspect.c -- see models/inspect.h.
#include "models/inspect.h"

#include <math.h>
#include <stdlib.h>

#include "quant/quant.h"

struct sums {
    double first, second, third, fourth; // powers of x - shift
    double shift;                        // near the mean, so that little is lost
    double difference, norm;
    int64_t finite;
};

static void add_row(struct tensor_stats *s, struct sums *m, const float *x, const float *y, int64_t count)
{
    int64_t zeros = 0;
    for (int64_t i = 0; i < count; i++) {
        double v = (double)x[i];
        if (isnan(v)) {
            s->nans++;
            continue;
        }
        if (isinf(v)) {
            s->infinities++;
            continue;
        }
        if (v == 0) zeros++;
        if (!m->finite) m->shift = s->least = s->most = v;
        if (v < s->least) s->least = v;
        if (v > s->most) s->most = v;
        double d = v - m->shift, square = d * d;
        m->finite++;
        m->first += d, m->second += square, m->third += square * d, m->fourth += square * square;
        if (!y) continue;
        double w = (double)y[i];
        m->difference += (v - w) * (v - w);
        m->norm += w * w;
    }
    s->zeros += zeros;
    s->zero_rows += zeros == count;
    s->rows++;
    s->count += count;
}

static void finish(struct tensor_stats *s, const struct sums *m, bool compared)
{
    double n = m->finite ? (double)m->finite : 1, mean = m->first / n;
    double variance = m->second / n - mean * mean;
    double fourth = m->fourth / n - 4 * mean * m->third / n + 6 * mean * mean * m->second / n -
                    3 * mean * mean * mean * mean;
    s->mean = m->shift + mean;
    s->deviation = variance > 0 ? sqrt(variance) : 0;
    s->kurtosis = variance > 0 ? fourth / (variance * variance) : 0;
    s->relative_error = !compared ? NAN : m->difference == 0 ? 0 : sqrt(m->difference / m->norm);
}

enum tlm_status inspect_tensor(struct tensor_stats *out, const struct tensor *t, const struct tensor *other,
                               struct tlm_error *err)
{
    const struct tensor *both[2] = {t, other};
    float *row[2] = {NULL, NULL};
    struct sums sums = {0};
    enum tlm_status status = TLM_OK;
    *out = (struct tensor_stats){0};
    for (int i = 0; i < 2 && both[i]; i++)
        if (!quant_types[both[i]->type].dequantize)
            return error_set(err, TLM_ERR_UNSUPPORTED, "type %s is not one of real numbers",
                             dtype_traits[both[i]->type].name);
    for (int i = 0; i < 4 && other; i++)
        if (t->ne[i] != other->ne[i])
            return error_set(err, TLM_ERR_ARGUMENT, "axis %d: %lld numbers and %lld", i, (long long)t->ne[i],
                             (long long)other->ne[i]);
    for (int i = 0; i < 2 && both[i] && !status; i++)
        if (!(row[i] = malloc((size_t)t->ne[0] * sizeof(float) + 1)))
            status = error_set(err, TLM_ERR_MEMORY, "no memory for a row");
    int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    for (int64_t r = 0; r < rows && !status; r++) {
        for (int i = 0; i < 2 && both[i]; i++)
            quant_types[both[i]->type].dequantize(
                row[i], (const char *)both[i]->data + (size_t)r * both[i]->nb[1], t->ne[0]);
        add_row(out, &sums, row[0], row[1], t->ne[0]);
    }
    if (!status) finish(out, &sums, other != NULL);
    free(row[0]), free(row[1]);
    return status;
}
