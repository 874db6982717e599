// ops/matmul_int8_few_avx512_vnni.c -- packed quantized weights times a few rows of Q8_K: from the packed bytes, unpacked in
// registers, 16 rows of weights at a time. Decoding reads every byte once, in two streams a group. The arithmetic is that of
// ops/matmul_int8_avx512_vnni.c, in the same order.
#include "ops/matmul_int8_avx512_vnni.h"

struct few { // sums of nc columns within one block
    const char *x[DIRECT];
    const int32_t *sums[DIRECT];
    __m512i total[DIRECT];
    __m512 part[DIRECT];
};

// Sub-block s of 32 numbers, from codes and scales that kinds A give it alone and kinds K share among eight.
INLINE void sub_block(struct few *f, const enum dtype type, const int nc, const char *codes,
                      const char *scales, const int s)
{
    const enum kind kind = kind_of(type);
    __m512i w[8], a[DIRECT];
    unpack_codes(w, type, codes, is_k(kind) ? s : 0);
    UNROLL for (int h = 0; h < 2; h++)
    {
        if (h == 1 && !by_16(kind)) break;
        const int at = by_16(kind) ? 2 * s + h : s, first = 4 * h, last = by_16(kind) ? 4 * h + 4 : 8;
        UNROLL for (int j = 0; j < nc; j++)
        {
            a[j] = has_min(kind) ? _mm512_setzero_si512() : _mm512_set1_epi32(f->sums[j][at]);
            UNROLL for (int i = first; i < last; i++)
                dot(&a[j], w[i], four(codes_of(f->x[j]) + 32 * s + 4 * i));
        }
        if (is_k(kind)) {
            __m512i scale = sub_scale(type, scales, at);
            UNROLL for (int j = 0; j < nc; j++) f->total[j] =
                _mm512_add_epi32(f->total[j], _mm512_mullo_epi32(a[j], scale));
        } else {
            __m512 scale = float_scale(type, scales);
            UNROLL for (int j = 0; j < nc; j++) f->part[j] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[j]), scale, f->part[j]);
            if (kind == KIND_A_MIN) {
                __m512 min = float_min(scales);
                UNROLL for (int j = 0; j < nc; j++) f->part[j] =
                    _mm512_fmadd_ps(min, _mm512_set1_ps(((const float *)f->sums[j])[s]), f->part[j]);
            }
        }
    }
}

// One block of 16 rows times nc columns: y[j] (16) += ...
INLINE void direct_block(__m512 y[], const enum dtype type, const int nc, const char *codes,
                         const char *scales, const struct columns *c, int64_t block, int subs)
{
    const enum kind kind = kind_of(type);
    struct few f;
    UNROLL for (int j = 0; j < nc; j++)
    {
        f.x[j] = c->x[j] + block * BLOCK_BYTES;
        f.sums[j] = c->sums + (size_t)j * c->sums_stride + block * 16;
        f.total[j] = _mm512_setzero_si512();
        f.part[j] = _mm512_setzero_ps();
    }
    if (!is_k(kind)) {
        for (int s = 0; s < subs; s++, codes += code_step(type), scales += scale_step(type))
            sub_block(&f, type, nc, codes, scales, s);
        UNROLL for (int j = 0; j < nc; j++) y[j] =
            _mm512_fmadd_ps(f.part[j], _mm512_set1_ps(scale_of(f.x[j])), y[j]);
        return;
    }
    UNROLL for (int s = 0; s < 8; s++)
        sub_block(&f, type, nc, codes, scales, s); // which bits to unpack: constants
    __m512 d = block_scale(type, scales);
    UNROLL for (int j = 0; j < nc; j++) y[j] = _mm512_fmadd_ps(
        _mm512_cvtepi32_ps(f.total[j]), _mm512_mul_ps(d, _mm512_set1_ps(scale_of(f.x[j]))), y[j]);
    if (!has_min(kind)) return;
    UNROLL for (int j = 0; j < nc; j++) f.total[j] = _mm512_setzero_si512();
    UNROLL for (int p = 0; p < 8; p++)
    {
        if (p == 4 && !by_16(kind)) break;
        __m512i pair = sub_min_pair(type, scales, p);
        UNROLL for (int j = 0; j < nc; j++) f.total[j] =
            _mm512_dpwssd_epi32(f.total[j], pair, _mm512_set1_epi32(f.sums[j][p]));
    }
    __m512 min = block_min(type, scales);
    UNROLL for (int j = 0; j < nc; j++) y[j] = _mm512_fnmadd_ps(
        _mm512_cvtepi32_ps(f.total[j]), _mm512_mul_ps(min, _mm512_set1_ps(scale_of(f.x[j]))), y[j]);
}

enum { AHEAD = 1024 }; // bytes of codes that are asked for before they are used

INLINE void direct(const enum dtype type, const int nc, const struct matmul_args *a)
{
    const enum kind kind = kind_of(type);
    const int64_t k = a->k_count, whole = k / SUPER, rest = k % SUPER / 32, blocks = whole + (rest > 0);
    const size_t codes_bytes = packed_codes_bytes(type, k);
    const int64_t in_super = is_k(kind) ? 1 : SUPER / 32; // blocks of the format
    struct columns c = {.sums = a->scratch, .sums_stride = (size_t)blocks * 16};
    for (int j = 0; j < nc; j++) {
        c.x[j] = (const char *)a->x + (size_t)j * (a->x_stride / SUPER) * BLOCK_BYTES;
        for (int64_t b = 0; b < blocks; b++)
            prepare_sums((int32_t *)a->scratch + (j * blocks + b) * 16, c.x[j] + b * BLOCK_BYTES, kind,
                         bias_shift(type));
    }
    for (int64_t n = a->n_begin; n < a->n_end; n += PACKED_ROWS) {
        const char *codes = (const char *)a->w + (size_t)(n / PACKED_ROWS) * a->w_stride,
                   *scales = codes + codes_bytes;
        const size_t codes_super = code_step(type) * (size_t)in_super,
                     scales_super = scale_step(type) * (size_t)in_super;
        __m512 y[DIRECT];
        UNROLL for (int j = 0; j < nc; j++) y[j] = _mm512_setzero_ps();
        for (int64_t b = 0; b < whole; b++, codes += codes_super, scales += scales_super) {
            for (size_t at = 0; at < codes_super; at += 64) _mm_prefetch(codes + AHEAD + at, _MM_HINT_T0);
            direct_block(y, type, nc, codes, scales, &c, b, 8);
        }
        if (!is_k(kind) && rest) direct_block(y, type, nc, codes, scales, &c, whole, (int)rest);
        __mmask16 some = a->n_end - n >= PACKED_ROWS ? (__mmask16)-1 : (__mmask16)((1 << (a->n_end - n)) - 1);
        UNROLL for (int j = 0; j < nc; j++)
            _mm512_mask_storeu_ps((float *)a->y + (size_t)j * a->y_stride + n, some, y[j]);
    }
}

#define DEFINE_FEW(name, type)                                        \
    void matmul_few_##name##_avx512_vnni(const struct matmul_args *a) \
    {                                                                 \
        switch (a->t_count) {                                         \
        case 1: direct(type, 1, a); break;                            \
        case 2: direct(type, 2, a); break;                            \
        case 3: direct(type, 3, a); break;                            \
        default: direct(type, DIRECT, a);                             \
        }                                                             \
    }
INT8_TYPES(DEFINE_FEW)
