// ops/matmul_int8_avx2.c -- ops/matmul_int8.h with vectors of 8 rows, without VNNI: a panel is 16 rows, times 4 columns.
//
// vpmaddubsw leaves sums of two products in 16 bits. As many of them are added there as are sure to fit, run_of() steps; then
// vpmaddwd widens them and, for kinds K, multiplies with the sub-scale at no cost. So 4-bit codes need little more than one
// multiplication for 32 products, where widening every product would take two.

#define STRIP  4
#define FORMS  4
#define DIRECT 16
#define WIDENS 1
#include "ops/matmul_int8_256.h"

#include "ops/matmul_int8.h"

// Steps of 2 products of codes and activations (at most 127) whose sum stays below 32768.
INLINE int run_of(enum dtype type)
{
    switch (type) {
    case DTYPE_Q8_0: // products of at most 128 * 127 with the sign in the activations
    case DTYPE_IQ4_NL:
    case DTYPE_IQ4_XS: return 1;
    case DTYPE_Q6_K: return 2; // codes of at most 63
    case DTYPE_Q5_0:           // 31
    case DTYPE_Q5_1:
    case DTYPE_Q5_K:
    case DTYPE_MXFP4: return 4; // 28
    default: return 8;          // 15
    }
}

// Half h, where there is a scale every 16 numbers, or all of the k-th sub-block of the unit whose first sub-block is s.
INLINE void piece(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                  const int nc, const struct columns *c, const int k, const int h, int s)
{
    const int steps = by_16(type) ? 4 : 8, run = run_of(type) < steps ? run_of(type) : steps;
    const int vecs = vectors(from), halves = by_16(type) ? 2 : 1,
              stride = from == PANEL ? 1 : unit_step(type);
    vec sum[VECS][COLUMNS], wide[VECS][COLUMNS], codes[VECS];
    EACH (first, 8, run) {
        if (first >= steps) break;
        EACH (i, run, 1) {
            const int at = 4 * h + first + i;
            EACH (v, vecs, 1) {
                const char *p = w->codes + VEC * v;
                codes[v] = from == PANEL ? panel_word(w, at, v) : code(type, p, lower(type, p, at), k, at);
            }
            EACH (j, nc, 1) {
                const dword *numbers = (const dword *)(c->x[j] + 4 + 32 * s) + 8 * k * stride + at;
                const vec x = vec_set(*numbers);
                EACH (v, vecs, 1) {
                    vec product = is_signed(type) ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes[v]),
                                                                         _mm256_sign_epi8(x, codes[v]))
                                                  : _mm256_maddubs_epi16(codes[v], x);
                    sum[v][j] = i ? _mm256_add_epi16(sum[v][j], product) : product;
                }
            }
        }
        EACH (v, vecs, 1) {
            const vec scale = is_k(type) && kind_of(type) != KIND_K256
                                  ? int_scale(w, type, from, (s + k * stride) * halves + h, h, v)
                                  : _mm256_set1_epi16(1);
            EACH (j, nc, 1) {
                const vec widened = _mm256_madd_epi16(sum[v][j], scale);
                if (is_k(type))
                    t->total[v][j] = _mm256_add_epi32(t->total[v][j], widened);
                else
                    wide[v][j] = first ? _mm256_add_epi32(wide[v][j], widened) : widened;
            }
        }
    }
    if (is_k(type)) return;
    EACH (v, vecs, 1) {
        const vecf scale = real_scale(w, type, from, v);
        EACH (j, nc, 1) {
            const int32_t *sums = c->sums + j * slot_of(type) + s;
            if (kind_of(type) == KIND_A && !is_signed(type))
                wide[v][j] = _mm256_add_epi32(wide[v][j], vec_set(*sums));
            t->part[v][j] = vecf_fma(vecf_from_int(wide[v][j]), scale, t->part[v][j]);
        }
        if (kind_of(type) != KIND_A_MIN) continue;
        const vecf min = real_min(w, from, v);
        EACH (j, nc, 1)
            t->part[v][j] =
                vecf_fma(min, vecf_set(((const float *)c->sums)[j * slot_of(type) + s]), t->part[v][j]);
    }
}

// The unit of packed codes whose first sub-block is s; of a panel, sub-block s.
INLINE void unit(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                 const int nc, const struct columns *c, const int s)
{
    EACH (k, 4, 1) {
        if (k >= (from == PANEL ? 1 : unit_subs(type))) break;
        piece(t, w, type, from, nc, c, k, 0, s);
        if (by_16(type)) piece(t, w, type, from, nc, c, k, 1, s);
    }
}

#include "ops/matmul_int8_run.h"

// More than DIRECT columns make strips of 4 and 3.
#define DEFINE_STRIPS(name, type) \
    DEFINE_STRIP(name, type, 3)   \
    DEFINE_STRIP(name, type, 4)   \
    static strip_fn *const name[STRIP] = {[2] = strip_##name##_3, [3] = strip_##name##_4};
// In a panel types of a kind look alike whose codes have as many bits.
DEFINE_STRIPS(a_4, DTYPE_Q4_0)
DEFINE_STRIPS(a_5, DTYPE_Q5_0)
DEFINE_STRIPS(a_8, DTYPE_Q8_0)
DEFINE_STRIPS(a_min_4, DTYPE_Q4_1)
DEFINE_STRIPS(a_min_5, DTYPE_Q5_1)
DEFINE_STRIPS(k32_8, DTYPE_IQ4_XS)
DEFINE_STRIPS(k32_min_4, DTYPE_Q4_K)
DEFINE_STRIPS(k32_min_5, DTYPE_Q5_K)
DEFINE_STRIPS(k16_3, DTYPE_Q3_K)
DEFINE_STRIPS(k16_6, DTYPE_Q6_K)
DEFINE_STRIPS(k16_min_2, DTYPE_Q2_K)
DEFINE_STRIPS(k256_2, DTYPE_TQ2_0)

#define DEFINE_DIRECTS(name, type) \
    DEFINE_DIRECT(name, type, 1)   \
    DEFINE_DIRECT(name, type, 2)   \
    DEFINE_DIRECT(name, type, 4)   \
    static direct_fn *const directs_##name[] = {direct_##name##_1, direct_##name##_2, direct_##name##_4};
DEFINE_KERNEL(q4_0, avx2, DTYPE_Q4_0, a_4)
DEFINE_KERNEL(q4_1, avx2, DTYPE_Q4_1, a_min_4)
DEFINE_KERNEL(q5_0, avx2, DTYPE_Q5_0, a_5)
DEFINE_KERNEL(q5_1, avx2, DTYPE_Q5_1, a_min_5)
DEFINE_KERNEL(q8_0, avx2, DTYPE_Q8_0, a_8)
DEFINE_KERNEL(iq4_nl, avx2, DTYPE_IQ4_NL, a_8)
DEFINE_KERNEL(mxfp4, avx2, DTYPE_MXFP4, a_5)
DEFINE_KERNEL(q2_k, avx2, DTYPE_Q2_K, k16_min_2)
DEFINE_KERNEL(q3_k, avx2, DTYPE_Q3_K, k16_3)
DEFINE_KERNEL(q4_k, avx2, DTYPE_Q4_K, k32_min_4)
DEFINE_KERNEL(q5_k, avx2, DTYPE_Q5_K, k32_min_5)
DEFINE_KERNEL(q6_k, avx2, DTYPE_Q6_K, k16_6)
DEFINE_KERNEL(iq4_xs, avx2, DTYPE_IQ4_XS, k32_8)
DEFINE_KERNEL(tq2_0, avx2, DTYPE_TQ2_0, k256_2)
