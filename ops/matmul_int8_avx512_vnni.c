// ops/matmul_int8_avx512_vnni.c -- products of packed quantized weights (ops/packed.h) and rows of Q8_K, in integers.
//
//     y[t][n] = sum over blocks b of 256:  e_tb * s_nb,   s = d * (sum of sub-scale * dot) - dmin * (sum of sub-min * sum of x)
//
// with e the scale of the activations' block. Within a block kinds K are exact, so only the order of blocks matters; kinds A add
// up their sub-blocks of 32 in order by fused multiply-adds, then the blocks. Every path below keeps to that, so the bits of an
// output do not depend on the number of columns (activation rows).
//
// Up to DIRECT columns are the business of ops/matmul_int8_few_avx512_vnni.c. More: a panel of 32 rows is unpacked into the cache
// once, up to CHUNK numbers deep, and multiplied with all columns, STRIP at a time: 2 x 6 accumulators, each activation a broadcast
// that feeds two products and needs no shuffle. 2 cores of a Zen 4: shares of the peak stand in docs/benchmarks/cpu.md.
#include "ops/matmul_int8_avx512_vnni.h"

enum { CHUNK = 4096, CHUNK_BLOCKS = CHUNK / SUPER };

_Static_assert(MATMUL_SCRATCH >= 32 * CHUNK + CHUNK_BLOCKS * (16 + 16 + 4) * 128 + STRIP * CHUNK_BLOCKS * 64,
               "a panel, its scales, and the sums of a strip");

// ---- many columns: a panel of 32 rows in the cache ----------------------------------------------------

struct panel {
    const char *codes;  // [sub][8][2] vectors
    const char *scales; // kinds A: [sub][2] float, behind them [sub][2] minima; K: [sub of 16 or 32][2] int32
    const char *blocks; // kinds K: [block] d [2], dmin [2], pairs of sub-minima [4 or 8][2]
    int64_t subs;       // of 32
};

INLINE size_t block_entry(const enum kind kind)
{
    return kind == KIND_K16_MIN ? 20 * 64 : kind == KIND_K32_MIN ? 12 * 64 : 2 * 64;
}

INLINE void store(void *to, __m512i v)
{
    _mm512_store_si512(to, v);
}

// Unpacks `subs` sub-blocks of both groups of 16 rows, from block `first` (of 256) on.
INLINE void unpack_panel(char *memory, struct panel *p, const enum dtype type, const char *const group[2],
                         int64_t k, int64_t first, int64_t subs)
{
    const enum kind kind = kind_of(type);
    const int64_t per_sub = by_16(kind) ? 2 : 1;
    char *codes = memory, *scales = codes + subs * 1024, *mins = scales + subs * 128,
         *blocks = scales + subs * per_sub * 128;
    *p = (struct panel){codes, scales, blocks, subs};
    for (int g = 0; g < 2; g++) {
        const int64_t format_first = is_k(kind) ? first : first * (SUPER / 32);
        const char *from = group[g] + (size_t)format_first * code_step(type);
        const char *scale = group[g] + packed_codes_bytes(type, k) + (size_t)format_first * scale_step(type);
        for (int64_t s = 0; s < subs; s++) {
            __m512i w[8];
            if (is_k(kind)) {
                // The position within the block is a constant of the unpacking, so all eight stand here.
                switch (s % 8) {
#define CASE(n) \
    case n: unpack_codes(w, type, from, n); break;
                    CASE(0)
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) default : unpack_codes(w, type, from, 7);
#undef CASE
                }
            } else {
                unpack_codes(w, type, from, 0);
            }
            UNROLL for (int i = 0; i < 8; i++) store(codes + s * 1024 + i * 128 + g * 64, w[i]);
            if (!is_k(kind)) {
                store(scales + s * 128 + g * 64, _mm512_castps_si512(float_scale(type, scale)));
                if (kind == KIND_A_MIN) store(mins + s * 128 + g * 64, _mm512_castps_si512(float_min(scale)));
            } else if (s % 8 == 0) {
                char *entry = blocks + (size_t)(s / 8) * block_entry(kind);
                UNROLL for (int at = 0; at < 16; at++) if (at < 8 * per_sub)
                    store(scales + (s * per_sub + at) * 128 + g * 64,
                          sub_scale(type, scale, by_16(kind) ? at : at % 8));
                store(entry + g * 64, _mm512_castps_si512(block_scale(type, scale)));
                if (has_min(kind)) {
                    store(entry + 128 + g * 64, _mm512_castps_si512(block_min(type, scale)));
                    UNROLL for (int at = 0; at < 8; at++) if (at < 4 * per_sub)
                        store(entry + 256 + at * 128 + g * 64, sub_min_pair(type, scale, at));
                }
            }
            if (!is_k(kind) || s % 8 == 7) from += code_step(type), scale += scale_step(type);
        }
    }
}

INLINE __m512i vector(const char *p, int64_t at)
{
    return _mm512_load_si512(p + at * 64);
}

INLINE __m512 numbers(const char *p, int64_t at)
{
    return _mm512_load_ps(p + at * 64);
}

// Four bytes of activations feed both vectors of codes; 4 `steps` of depth each.
INLINE void dots(__m512i a[2][STRIP], const int nc, const char *codes, const char *const x[], size_t at,
                 const int steps)
{
    UNROLL for (int i = 0; i < steps; i++)
    {
        __m512i w0 = vector(codes, 2 * i), w1 = vector(codes, 2 * i + 1);
        UNROLL for (int j = 0; j < nc; j++)
        {
            __m512i b = four((const int8_t *)x[j] + at + 4 * (size_t)i);
            dot(&a[0][j], w0, b);
            dot(&a[1][j], w1, b);
        }
    }
}

// A block of 256 (the last may be shorter) of the panel times nc columns, added to sum [2][nc] vectors.
INLINE void panel_block(float *sum, const enum kind kind, const int nc, const struct panel *p,
                        const struct columns *c, int64_t block, const int subs)
{
    __m512i total[2][STRIP], a[2][STRIP];
    __m512 part[2][STRIP];
    const char *x[STRIP];
    const int32_t *sums[STRIP];
    UNROLL for (int j = 0; j < nc; j++)
    {
        x[j] = c->x[j] + block * BLOCK_BYTES + 4;
        sums[j] = c->sums + (size_t)j * c->sums_stride + block * 16;
        UNROLL for (int g = 0; g < 2; g++) total[g][j] = _mm512_setzero_si512(),
                                           part[g][j] = _mm512_setzero_ps();
    }
    const char *codes = p->codes + block * 8192, *scales = p->scales + block * 1024 * (by_16(kind) ? 2 : 1);
    for (int s = 0; s < subs; s++, codes += 1024) {
        UNROLL for (int h = 0; h < 2; h++)
        {
            if (h == 1 && !by_16(kind)) break;
            UNROLL for (int j = 0; j < nc; j++) a[0][j] = a[1][j] =
                has_min(kind) ? _mm512_setzero_si512()
                              : _mm512_set1_epi32(sums[j][by_16(kind) ? 2 * s + h : s]);
            dots(a, nc, codes + 512 * h, x, 32 * (size_t)s + 16 * (size_t)h, by_16(kind) ? 4 : 8);
            UNROLL for (int g = 0; g < 2; g++)
            {
                if (is_k(kind)) {
                    __m512i scale = vector(scales, g);
                    UNROLL for (int j = 0; j < nc; j++) total[g][j] =
                        _mm512_add_epi32(total[g][j], _mm512_mullo_epi32(a[g][j], scale));
                } else {
                    __m512 scale = numbers(scales, g);
                    UNROLL for (int j = 0; j < nc; j++) part[g][j] =
                        _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[g][j]), scale, part[g][j]);
                    if (kind == KIND_A_MIN) {
                        __m512 min = numbers(scales + p->subs * 128, g);
                        UNROLL for (int j = 0; j < nc; j++) part[g][j] =
                            _mm512_fmadd_ps(min, _mm512_set1_ps(((const float *)sums[j])[s]), part[g][j]);
                    }
                }
            }
            scales += 128;
        }
    }
    const char *entry = p->blocks + (size_t)block * block_entry(kind);
    UNROLL for (int g = 0; g < 2; g++) UNROLL for (int j = 0; j < nc; j++)
    {
        float *y = sum + (g * nc + j) * 16;
        __m512 e = _mm512_set1_ps(scale_of(x[j] - 4));
        if (is_k(kind))
            _mm512_store_ps(y, _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[g][j]),
                                               _mm512_mul_ps(numbers(entry, g), e), _mm512_load_ps(y)));
        else
            _mm512_store_ps(y, _mm512_fmadd_ps(part[g][j], e, _mm512_load_ps(y)));
        total[g][j] = _mm512_setzero_si512();
    }
    if (kind != KIND_K32_MIN && kind != KIND_K16_MIN) return;
    UNROLL for (int at = 0; at < 8; at++) UNROLL for (int g = 0; g < 2; g++)
    {
        if (at >= 4 && !by_16(kind)) break;
        __m512i pair = vector(entry, 4 + 2 * at + g);
        UNROLL for (int j = 0; j < nc; j++) total[g][j] =
            _mm512_dpwssd_epi32(total[g][j], pair, _mm512_set1_epi32(sums[j][at]));
    }
    UNROLL for (int g = 0; g < 2; g++) UNROLL for (int j = 0; j < nc; j++)
    {
        float *y = sum + (g * nc + j) * 16;
        __m512 e = _mm512_set1_ps(scale_of(x[j] - 4));
        _mm512_store_ps(y, _mm512_fnmadd_ps(_mm512_cvtepi32_ps(total[g][j]),
                                            _mm512_mul_ps(numbers(entry, 2 + g), e), _mm512_load_ps(y)));
    }
}

// What a strip adds to its outputs: y (nc rows of 32), loaded and stored under the masks of the two groups.
static inline void load_sums(float *sum, int nc, const float *y, size_t stride, const __mmask16 some[2],
                             bool begun)
{
    for (int g = 0; g < 2; g++)
        for (int j = 0; j < nc; j++)
            _mm512_store_ps(sum + (g * nc + j) * 16,
                            begun ? _mm512_maskz_loadu_ps(some[g], y + (size_t)j * stride + 16 * g)
                                  : _mm512_setzero_ps());
}

static inline void store_sums(const float *sum, int nc, float *y, size_t stride, const __mmask16 some[2])
{
    for (int g = 0; g < 2; g++)
        for (int j = 0; j < nc; j++)
            _mm512_mask_storeu_ps(y + (size_t)j * stride + 16 * g, some[g],
                                  _mm512_load_ps(sum + (g * nc + j) * 16));
}

#define DEFINE_STRIP(kind, nc)                                                                     \
    static __attribute__((noinline)) void strip_##kind##_##nc(float *sum, const struct panel *p,   \
                                                              const struct columns *c)             \
    {                                                                                              \
        for (int64_t b = 0; 8 * b < p->subs; b++)                                                  \
            panel_block(sum, kind, nc, p, c, b, p->subs - 8 * b < 8 ? (int)(p->subs - 8 * b) : 8); \
    }
#define DEFINE_STRIPS(kind)                                                                      \
    DEFINE_STRIP(kind, 1)                                                                        \
    DEFINE_STRIP(kind, 2)                                                                        \
    DEFINE_STRIP(kind, 3)                                                                        \
    DEFINE_STRIP(kind, 4)                                                                        \
    DEFINE_STRIP(kind, 5)                                                                        \
    DEFINE_STRIP(kind, 6)                                                                        \
    static void strip_##kind(int nc, float *sum, const struct panel *p, const struct columns *c) \
    {                                                                                            \
        switch (nc) {                                                                            \
        case 1: strip_##kind##_1(sum, p, c); break;                                              \
        case 2: strip_##kind##_2(sum, p, c); break;                                              \
        case 3: strip_##kind##_3(sum, p, c); break;                                              \
        case 4: strip_##kind##_4(sum, p, c); break;                                              \
        case 5: strip_##kind##_5(sum, p, c); break;                                              \
        default: strip_##kind##_6(sum, p, c); break;                                             \
        }                                                                                        \
    }
DEFINE_STRIPS(KIND_A)
DEFINE_STRIPS(KIND_A_MIN)
DEFINE_STRIPS(KIND_K32)
DEFINE_STRIPS(KIND_K32_MIN)
DEFINE_STRIPS(KIND_K16)
DEFINE_STRIPS(KIND_K16_MIN)

INLINE void strip(const enum kind kind, int nc, float *sum, const struct panel *p, const struct columns *c)
{
    switch (kind) {
    case KIND_A: strip_KIND_A(nc, sum, p, c); break;
    case KIND_A_MIN: strip_KIND_A_MIN(nc, sum, p, c); break;
    case KIND_K32: strip_KIND_K32(nc, sum, p, c); break;
    case KIND_K32_MIN: strip_KIND_K32_MIN(nc, sum, p, c); break;
    case KIND_K16: strip_KIND_K16(nc, sum, p, c); break;
    case KIND_K16_MIN: strip_KIND_K16_MIN(nc, sum, p, c); break;
    }
}

INLINE void by_panel(const enum dtype type, const struct matmul_args *a)
{
    const enum kind kind = kind_of(type);
    const int64_t k = a->k_count, all_subs = k / 32;
    int32_t *sums = a->scratch; // [STRIP][CHUNK_BLOCKS][16]
    char *memory = (char *)(sums + STRIP * CHUNK_BLOCKS * 16);
    float sum[2 * STRIP * 16] __attribute__((aligned(64)));
    for (int64_t n = a->n_begin; n < a->n_end; n += 2 * PACKED_ROWS) {
        const int64_t left = a->n_end - n;
        const __mmask16 some[2] = {left >= 16 ? (__mmask16)-1 : (__mmask16)((1 << left) - 1),
                                   left >= 32  ? (__mmask16)-1
                                   : left > 16 ? (__mmask16)((1 << (left - 16)) - 1)
                                               : 0};
        const char *first_group = (const char *)a->w + (size_t)(n / PACKED_ROWS) * a->w_stride;
        const char *const group[2] = {first_group, left > 16 ? first_group + a->w_stride : first_group};
        for (int64_t first = 0; first < all_subs; first += CHUNK / 32) {
            struct panel p;
            int64_t subs = all_subs - first < CHUNK / 32 ? all_subs - first : CHUNK / 32,
                    blocks = (subs + 7) / 8;
            unpack_panel(memory, &p, type, group, k, first / 8, subs);
            // The same number of columns in each strip, or one less.
            int64_t strips = (a->t_count + STRIP - 1) / STRIP;
            for (int64_t i = 0, t = 0; i < strips; i++) {
                int nc = (int)((a->t_count - t + strips - i - 1) / (strips - i));
                struct columns c = {.sums = sums, .sums_stride = (size_t)blocks * 16};
                for (int j = 0; j < nc; j++) {
                    c.x[j] = (const char *)a->x +
                             ((size_t)(t + j) * (a->x_stride / SUPER) + (size_t)(first / 8)) * BLOCK_BYTES;
                    for (int64_t b = 0; b < blocks; b++)
                        prepare_sums(sums + (j * blocks + b) * 16, c.x[j] + b * BLOCK_BYTES, kind,
                                     bias_shift(type));
                }
                float *y = (float *)a->y + (size_t)t * a->y_stride + n;
                load_sums(sum, nc, y, a->y_stride, some, first > 0);
                strip(kind, nc, sum, &p, &c);
                store_sums(sum, nc, y, a->y_stride, some);
                t += nc;
            }
        }
    }
}

// ---- the kernels --------------------------------------------------------------------------------------

#define DEFINE_KERNEL(name, type)                                     \
    void matmul_fwd_##name##_avx512_vnni(const struct matmul_args *a) \
    {                                                                 \
        if (a->t_count <= DIRECT)                                     \
            matmul_few_##name##_avx512_vnni(a);                       \
        else                                                          \
            by_panel(type, a);                                        \
    }
INT8_TYPES(DEFINE_KERNEL)
