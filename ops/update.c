// ops/update.c -- the kernels of the optimizers, the reference; formulas are in ops/update.h, the 8-bit maps in ops/update_codes.h.
#include "ops/update.h"

#include <float.h>
#include <math.h>

#include "ops/update_codes.h"

// ---- 8-bit codes ----------------------------------------------------------------------------

static float number_at(const struct code_map *map, int32_t j)
{
    float place = (float)j;
    uint32_t row = bits_of_f32(place) >> 23 & 7;
    return fmaf(place, map->slope[row], map->offset[row]);
}

static inline int32_t max_i32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

// p of a number x >= 0
static int32_t place_of(const struct code_map *map, float x, float chance)
{
    float decades = fmaf((float)(int32_t)bits_of_f32(x), DECADE_SCALE, DECADE_START);
    int32_t decade = (int32_t)fmaxf(decades, 0) & 7;
    decade += x > map->next[decade];
    float place = fmaf(x, map->inverse[decade], map->start[decade]), last = map->last[decade];
    place = fmaf(fmaxf(place - last, 0), map->behind[decade], fminf(place, last));
    place = fminf(place, fmaf(x, map->rise, map->zero));
    return (int32_t)fminf(place + chance, map->most);
}

uint8_t code_signed(float x, float chance)
{
    int32_t p = place_of(&code_map_signed, fabsf(x), chance);
    return (uint8_t)max_i32(CODE_ZERO + (signbit(x) ? -p : p), 0);
}

uint8_t code_unsigned(float x, float chance)
{
    return (uint8_t)(max_i32(place_of(&code_map_unsigned, x, chance), 1 + (x > 0)) - 1);
}

float number_signed(uint8_t code)
{
    int32_t p = code - CODE_ZERO;
    float x = number_at(&code_map_signed, max_i32(2 * (p < 0 ? -p : p), 1));
    return p < 0 ? -x : x;
}

float number_unsigned(uint8_t code)
{
    return number_at(&code_map_unsigned, code + 1);
}

// ---- moments ----------------------------------------------------------------------------------------------

// 32 bits of chance for number i of a tensor (the mixing function of Wellons, "Prospecting for hash functions", 2018)
static uint32_t chance_bits(uint32_t key, int64_t i)
{
    uint32_t x = (uint32_t)i * 0x9E3779B9u + key;
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static float chance_unit(uint32_t bits)
{
    return (float)(int32_t)(bits >> 8) * 0x1p-24f;
}

static float magnitude_max(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

// Below the normal numbers the reciprocal would overflow: such a block becomes zero.
static float scale_inverse(float scale)
{
    return scale >= FLT_MIN ? 1 / scale : 0;
}

// How a moment is rounded and coded.
enum moment_kind {
    MOMENT_FAST, // AdamW's m, SGD's: to nearest
    MOMENT_SLOW, // Lion's m: by chance
    MOMENT_ROOT, // AdamW's v: by chance, its root in 8 bits
};

// x: the n numbers of the moment from `at`, the begin of a block.
static void moment_load(float *x, const struct moment *s, enum dtype type, enum moment_kind kind, int64_t at,
                        int64_t n)
{
    const float *f32 = s->data;
    const uint16_t *bf16 = s->data;
    const uint8_t *code = s->data;
    for (int64_t i = 0; i < n; i++) {
        if (type == DTYPE_F32) {
            x[i] = f32[at + i];
        } else if (type == DTYPE_BF16) {
            x[i] = f32_from_bf16(bf16[at + i]);
        } else if (kind != MOMENT_ROOT) {
            x[i] = number_signed(code[at + i]) * s->scale[at / UPDATE_BLOCK];
        } else {
            float root = number_unsigned(code[at + i]) * s->scale[at / UPDATE_BLOCK];
            x[i] = root * root;
        }
    }
}

static void moment_store(const struct update_args *a, const struct moment *s, float *x, enum moment_kind kind,
                         int64_t at, int64_t n)
{
    float *f32 = s->data, inverse = 0;
    uint16_t *bf16 = s->data;
    uint8_t *code = s->data;
    if (a->moments == DTYPE_I8) {
        for (int64_t i = 0; i < n && kind == MOMENT_ROOT; i++) x[i] = sqrtf(x[i]);
        s->scale[at / UPDATE_BLOCK] = magnitude_max(x, n);
        inverse = scale_inverse(s->scale[at / UPDATE_BLOCK]);
    }
    for (int64_t i = 0; i < n; i++) {
        uint32_t chance = kind == MOMENT_FAST ? 0x80000000u : chance_bits(a->key, a->first + at + i);
        if (a->moments == DTYPE_F32)
            f32[at + i] = x[i];
        else if (a->moments == DTYPE_BF16)
            bf16[at + i] = kind == MOMENT_FAST ? bf16_from_f32(x[i])
                                               : (uint16_t)((bits_of_f32(x[i]) + (chance & 0xffff)) >> 16);
        else if (kind != MOMENT_ROOT)
            code[at + i] = code_signed(x[i] * inverse, chance_unit(chance));
        else
            code[at + i] = code_unsigned(x[i] * inverse, chance_unit(chance));
    }
}

// ---- updates ----------------------------------------------------------------------------------------------

static inline int64_t block_size(const struct update_args *a, int64_t at)
{
    return a->count - at < UPDATE_BLOCK ? a->count - at : UPDATE_BLOCK;
}

static inline void write_value(const struct update_args *a, int64_t i, float value)
{
    a->value[i] = value;
    if (a->copy) a->copy[i] = bf16_from_f32(value);
}

void update_adamw_ref(const struct update_args *a)
{
    float m[UPDATE_BLOCK], v[UPDATE_BLOCK];
    for (int64_t at = 0; at < a->count; at += UPDATE_BLOCK) {
        int64_t n = block_size(a, at);
        moment_load(m, &a->m, a->moments, MOMENT_FAST, at, n);
        moment_load(v, &a->v, a->moments, MOMENT_ROOT, at, n);
        for (int64_t i = 0; i < n; i++) {
            float g = a->gradient[at + i] * a->factor;
            m[i] = fmaf(g - m[i], a->slow1, m[i]);
            v[i] = fmaf(g * a->slow2, g, v[i] * a->beta2);
            float ratio = m[i] / fmaf(sqrtf(v[i]), a->root_factor, a->eps);
            write_value(a, at + i, fmaf(-a->rate, ratio, a->value[at + i] * a->keep));
        }
        moment_store(a, &a->m, m, MOMENT_FAST, at, n);
        moment_store(a, &a->v, v, MOMENT_ROOT, at, n);
    }
}

void update_lion_ref(const struct update_args *a)
{
    float m[UPDATE_BLOCK];
    for (int64_t at = 0; at < a->count; at += UPDATE_BLOCK) {
        int64_t n = block_size(a, at);
        moment_load(m, &a->m, a->moments, MOMENT_SLOW, at, n);
        for (int64_t i = 0; i < n; i++) {
            float away = a->gradient[at + i] * a->factor - m[i], c = fmaf(away, a->slow1, m[i]);
            float sign = (float)((c > 0) - (c < 0));
            m[i] = fmaf(away, a->slow2, m[i]);
            write_value(a, at + i, fmaf(-a->rate, sign, a->value[at + i] * a->keep));
        }
        moment_store(a, &a->m, m, MOMENT_SLOW, at, n);
    }
}

void update_sgd_ref(const struct update_args *a)
{
    float m[UPDATE_BLOCK];
    for (int64_t at = 0; at < a->count; at += UPDATE_BLOCK) {
        int64_t n = block_size(a, at);
        moment_load(m, &a->m, a->moments, MOMENT_FAST, at, n);
        for (int64_t i = 0; i < n; i++) {
            float value = a->value[at + i], g = fmaf(value, a->decay, a->gradient[at + i] * a->factor);
            m[i] = fmaf(a->beta1, m[i], g);
            write_value(a, at + i, fmaf(-a->rate, a->nesterov ? fmaf(a->beta1, m[i], g) : m[i], value));
        }
        moment_store(a, &a->m, m, MOMENT_FAST, at, n);
    }
}

// ---- norm -------------------------------------------------------------------------------------------------

// The square of a float is exact in double, so it does not matter whether product and sum are fused.
double sum_squares_ref(const float *x, int64_t count)
{
    enum { PARTS = 32 };
    double part[PARTS] = {0};
    int64_t i = 0;
    for (; i + PARTS <= count; i += PARTS)
        for (int j = 0; j < PARTS; j++) part[j] += (double)x[i + j] * x[i + j];
    for (int j = 0; i + j < count; j++) part[j] += (double)x[i + j] * x[i + j];
    for (int half = PARTS / 2; half; half /= 2)
        for (int j = 0; j < half; j++) part[j] += part[j + half];
    return part[0];
}
