// quant/bnb.c -- the types of bitsandbytes: NF4 and FP4 (QLoRA, arXiv 2305.14314), and integers with a scale a row and columns left out
// of them (LLM.int8, arXiv 2208.07339).
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "quant/formats.h"
#include "quant/quant.h"

enum { N = QUANT_BNB };

// ---- 4 bits -------------------------------------------------------------------------------------------

// Quantiles of the normal distribution, brought to -1 to 1, with a zero among them.
const float quant_nf4_values[16] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};

// A sign in front of three bits that stand for 0, 1/16, 8, 12, 4, 6, 2 and 3, all divided by 12.
#define TWELFTH(x) ((x) / 12.0f)
const float quant_bnb_fp4_values[16] = {0.0f,           TWELFTH(0.0625f),  TWELFTH(8.0f),  1.0f,
                                        TWELFTH(4.0f),  TWELFTH(6.0f),     TWELFTH(2.0f),  TWELFTH(3.0f),
                                        0.0f,           TWELFTH(-0.0625f), TWELFTH(-8.0f), -1.0f,
                                        TWELFTH(-4.0f), TWELFTH(-6.0f),    TWELFTH(-2.0f), TWELFTH(-3.0f)};

// The values in ascending order, and their codes.
struct levels {
    float value[16], middle[15]; // between a value and the next
    uint8_t code[16];
    int count;
};

static struct levels levels_of(const float values[16])
{
    struct levels l = {.count = 0}; // stays sorted; FP4's two zeros stay in order
    for (int code = 0; code < 16; code++) {
        int at = l.count;
        for (; at > 0 && l.value[at - 1] > values[code]; at--)
            l.value[at] = l.value[at - 1], l.code[at] = l.code[at - 1];
        l.value[at] = values[code];
        l.code[at] = (uint8_t)code;
        l.count++;
    }
    for (int i = 0; i + 1 < l.count; i++) l.middle[i] = (l.value[i] + l.value[i + 1]) / 2;
    return l;
}

// Which level is nearest to each x / scale.
static void rank_block(const struct levels *l, const float *x, float scale, uint8_t rank[N])
{
    memset(rank, 0, N);
    for (int m = 0; m + 1 < l->count; m++)
        for (int j = 0; j < N; j++) rank[j] += x[j] / scale > l->middle[m];
}

// The scale with the least weighted squares among some below `absmax`, each fitted to the levels that it leads to.
static float weighted_scale(const struct levels *l, const float *x, const float *w, float absmax)
{
    enum { STEPS = 10 };
    float best = absmax;
    double least = INFINITY;
    for (int step = 0; step < STEPS; step++) {
        uint8_t rank[N];
        double xv = 0, vv = 0, error = 0;
        rank_block(l, x, absmax * (1 - 0.04f * (float)step), rank);
        for (int j = 0; j < N; j++) {
            double v = l->value[rank[j]];
            xv += w[j] * v * x[j];
            vv += w[j] * v * v;
        }
        float scale = xv > 0 ? (float)(xv / vv) : absmax;
        for (int j = 0; j < N; j++) {
            double off = x[j] - (double)scale * l->value[rank[j]];
            error += w[j] * off * off;
        }
        if (error < least) least = error, best = scale;
    }
    return best;
}

static void dequantize_4bit(float *y, const void *x, int64_t count, const float values[16])
{
    const struct block_nf4 *b = x;
    for (int64_t i = 0; i < count; i += N, b++)
        for (int j = 0; j < N / 2; j++) {
            y[i + 2 * j] = values[b->qs[j] >> 4] * b->absmax;
            y[i + 2 * j + 1] = values[b->qs[j] & 15] * b->absmax;
        }
}

// Without weights the scale is the largest number, as bitsandbytes has it.
static void quantize_4bit(void *y, const float *x, int64_t count, const float *importance,
                          const float values[16])
{
    struct block_nf4 *b = y;
    const struct levels l = levels_of(values);
    for (int64_t i = 0; i < count; i += N, b++) {
        float absmax = 0;
        uint8_t rank[N];
        for (int j = 0; j < N; j++) absmax = fabsf(x[i + j]) > absmax ? fabsf(x[i + j]) : absmax;
        b->absmax = importance && absmax > 0 ? weighted_scale(&l, x + i, importance + i, absmax) : absmax;
        rank_block(&l, x + i, b->absmax > 0 ? b->absmax : 1, rank);
        for (int j = 0; j < N / 2; j++)
            b->qs[j] = (uint8_t)(l.code[rank[2 * j]] << 4 | l.code[rank[2 * j + 1]]);
    }
}

void nf4_dequantize(float *y, const void *x, int64_t count)
{
    dequantize_4bit(y, x, count, quant_nf4_values);
}

void nf4_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    quantize_4bit(y, x, count, importance, quant_nf4_values);
}

void bnb_fp4_dequantize(float *y, const void *x, int64_t count)
{
    dequantize_4bit(y, x, count, quant_bnb_fp4_values);
}

void bnb_fp4_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    quantize_4bit(y, x, count, importance, quant_bnb_fp4_values);
}

// ---- 8 bits -------------------------------------------------------------------------------------------

void int8_dequantize(float *y, const void *x, int64_t count)
{
    const struct block_int8 *b = x;
    for (int64_t i = 0; i < count; i += N, b++) {
        for (int j = 0; j < N; j++) y[i + j] = (float)b->qs[j] * b->absmax * QUANT_INT8_STEP + b->middle;
        for (int o = 0; o < QUANT_OUTLIERS; o++)
            if (b->column[o] < N) y[i + b->column[o]] = f32_from_f16(b->outlier[o]);
    }
}

// Marks up to QUANT_OUTLIERS of a block's columns whose rows have more than 36 times the mean square of all: 6 times the size, which is
// the paper's threshold where rows have been normed to 1.
static int block_outliers(const float *importance, float mean, uint8_t column[QUANT_OUTLIERS])
{
    int count = 0;
    memset(column, QUANT_NO_COLUMN, QUANT_OUTLIERS);
    for (; count < QUANT_OUTLIERS; count++) {
        int best = -1;
        for (int j = 0; j < N; j++) {
            bool taken = memchr(column, j, (size_t)count) != NULL;
            if (!taken && importance[j] > 36 * mean && (best < 0 || importance[j] > importance[best]))
                best = j;
        }
        if (best < 0) break;
        column[count] = (uint8_t)best;
    }
    for (int i = 1; i < count; i++) // by columns
        for (int j = i; j > 0 && column[j - 1] > column[j]; j--) {
            uint8_t other = column[j];
            column[j] = column[j - 1];
            column[j - 1] = other;
        }
    return count;
}

static float mean_of(const float *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return (float)(sum / (double)count);
}

int64_t quant_outlier_count(const float *importance, int64_t count)
{
    uint8_t column[QUANT_OUTLIERS];
    int64_t all = 0;
    float mean = importance ? mean_of(importance, count) : 0;
    for (int64_t i = 0; i < count && importance; i += N) all += block_outliers(importance + i, mean, column);
    return all;
}

static bool is_outlier(const struct block_int8 *b, int j)
{
    return memchr(b->column, j, QUANT_OUTLIERS) != NULL;
}

// A row. What is left of it without the columns apart lies around `middle`, which is zero unless the form is the one with a middle.
static void quantize_8bit(void *y, const float *x, int64_t count, const float *importance, bool centred)
{
    struct block_int8 *b = y;
    float mean = importance ? mean_of(importance, count) : 0, low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i += N, b++) {
        memset(b->column, QUANT_NO_COLUMN, sizeof b->column);
        memset(b->outlier, 0, sizeof b->outlier);
        if (importance) block_outliers(importance + i, mean, b->column);
        for (int o = 0; o < QUANT_OUTLIERS; o++)
            if (b->column[o] < N) b->outlier[o] = f16_from_f32(x[i + b->column[o]]);
        for (int j = 0; j < N; j++) {
            if (is_outlier(b, j)) continue;
            low = x[i + j] < low ? x[i + j] : low;
            high = x[i + j] > high ? x[i + j] : high;
        }
    }
    float middle = centred && high >= low ? low / 2 + high / 2 : 0;
    float absmax = high >= low ? fmaxf(fabsf(high - middle), fabsf(low - middle)) : 0;
    float factor = absmax >= FLT_MIN ? 127 / absmax : 0;
    b = y;
    for (int64_t i = 0; i < count; i += N, b++) {
        b->absmax = absmax;
        b->middle = middle;
        for (int j = 0; j < N; j++) {
            float q = is_outlier(b, j) ? 0 : rintf((x[i + j] - middle) * factor);
            b->qs[j] = (int8_t)(fabsf(q) <= 127 ? q : q > 0 ? 127 : -127);
        }
    }
}

void int8_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    quantize_8bit(y, x, count, importance, false);
}

void int8_asym_quantize(void *y, const float *x, int64_t count, const float *importance)
{
    quantize_8bit(y, x, count, importance, true);
}
