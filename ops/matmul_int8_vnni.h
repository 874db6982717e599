// ops/matmul_int8_vnni.h -- unit() of ops/matmul_int8.h by vpdpbusd, which adds four products of bytes to each dword.
//
// The including file defines:
//   ANY_VECTOR            the constraint of a vector register in assembly
//   factor, load_factor   four activations of a column, as dot() takes them
//   dot                   the products with a vector of codes
#ifndef OPS_MATMUL_INT8_VNNI_H
#define OPS_MATMUL_INT8_VNNI_H

// From memory: gcc would rather load a dword and shuffle it, on a port of the products.
INLINE vec broadcast(const int32_t *p)
{
    vec v;
    __asm__ volatile("vpbroadcastd %1, %0" : "=" ANY_VECTOR(v) : "m"(*p));
    return v;
}

// `count` sub-blocks at once that share bytes, from the k-th on of the unit whose first is sub-block s; half h of each where there is
// a scale every 16 numbers, else all.
INLINE void pieces(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                   const int nc, const struct columns *c, const int count, const int k, const int h, int s)
{
    const enum kind kind = kind_of(type);
    const int steps = by_16(type) ? 4 : 8, vecs = vectors(from), halves = by_16(type) ? 2 : 1;
    const int stride = from == PANEL ? 1 : unit_step(type);
    const int32_t *sums = c->sums + s * halves + h;
    const bool biased = kind == KIND_A || kind == KIND_K32 || kind == KIND_K16;
    // Two bits of a byte that are left where they are make products that are 4, 16 or 64 times as large, and exact.
    const bool in_place = type == DTYPE_TQ2_0 && from == PACKED;
    vec sum[2][VECS][COLUMNS];
    EACH (q, count, 1)
        EACH (j, nc, 1) {
            const vec first =
                biased ? broadcast(&sums[j * slot_of(type) + (k + q) * stride * halves]) : vec_zero();
            EACH (v, vecs, 1) sum[q][v][j] = first;
        }
    EACH (i, steps, 1) {
        const int at = 4 * h + i;
        vec shared[VECS], codes[VECS];
        EACH (v, vecs, 1)
            shared[v] = from == PANEL ? panel_word(w, at, v) : lower(type, w->codes + VEC * v, at);
        if (count > 1) __asm__ volatile("" : "+" ANY_VECTOR(shared[0])); // one load for both
        EACH (q, count, 1) {
            EACH (v, vecs, 1)
                codes[v] = from == PANEL ? shared[v]
                           : in_place    ? vec_and(shared[v], vec_bytes(3 << 2 * (k + q)))
                                         : code(type, w->codes + VEC * v, shared[v], k + q, at);
            EACH (j, nc, 1) {
                const factor x =
                    load_factor((const dword *)(c->x[j] + 4 + 32 * s) + 8 * (k + q) * stride + at);
                EACH (v, vecs, 1) dot(&sum[q][v][j], codes[v], x);
            }
        }
    }
    EACH (q, count, 1)
        EACH (v, vecs, 1) {
            if (kind == KIND_K256) {
                EACH (j, nc, 1)
                    t->total[v][j] = vec_add32(t->total[v][j], in_place ? vec_sra32(sum[q][v][j], 2 * (k + q))
                                                                        : sum[q][v][j]);
                continue;
            }
            if (is_k(type)) {
                vec scale = int_scale(w, type, from, (s + (k + q) * stride) * halves + h, h, v);
                EACH (j, nc, 1) t->total[v][j] = vec_add32(t->total[v][j], vec_mul32(sum[q][v][j], scale));
                continue;
            }
            vecf scale = real_scale(w, type, from, v);
            EACH (j, nc, 1) t->part[v][j] = vecf_fma(vecf_from_int(sum[q][v][j]), scale, t->part[v][j]);
            if (kind != KIND_A_MIN) continue;
            vecf min = real_min(w, from, v);
            EACH (j, nc, 1)
                t->part[v][j] =
                    vecf_fma(min, vecf_set(((const float *)sums)[j * slot_of(type)]), t->part[v][j]);
        }
    if (is_k(type)) // else the compiler mixes this piece with the next
        EACH (v, vecs, 1)
            EACH (j, nc, 1) __asm__ volatile("" : "+" ANY_VECTOR(t->total[v][j]));
}

// The unit of packed codes whose first sub-block is s; of a panel, sub-block s.
INLINE void unit(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                 const int nc, const struct columns *c, const int s)
{
    const int subs = from == PANEL ? 1 : unit_subs(type), together = subs < 2 || PARTS > 1 ? 1 : 2;
    EACH (k, 4, together) {
        if (k >= subs) break;
        pieces(t, w, type, from, nc, c, together, k, 0, s);
        if (by_16(type)) pieces(t, w, type, from, nc, c, together, k, 1, s);
    }
}

// More than DIRECT columns make strips of 6 and 5: STRIP is 6. In a panel all types of a kind look alike.
#define DEFINE_STRIPS(name, type) \
    DEFINE_STRIP(name, type, 5)   \
    DEFINE_STRIP(name, type, 6)   \
    static strip_fn *const name[STRIP] = {[4] = strip_##name##_5, [5] = strip_##name##_6};
#define DEFINE_ALL_STRIPS                   \
    DEFINE_STRIPS(kind_a, DTYPE_Q4_0)       \
    DEFINE_STRIPS(kind_a_min, DTYPE_Q4_1)   \
    DEFINE_STRIPS(kind_k32, DTYPE_IQ4_XS)   \
    DEFINE_STRIPS(kind_k32_min, DTYPE_Q4_K) \
    DEFINE_STRIPS(kind_k16, DTYPE_Q6_K)     \
    DEFINE_STRIPS(kind_k16_min, DTYPE_Q2_K) \
    DEFINE_STRIPS(kind_k256, DTYPE_TQ2_0)
#define DEFINE_ALL_KERNELS(isa)                        \
    DEFINE_KERNEL(q4_0, isa, DTYPE_Q4_0, kind_a)       \
    DEFINE_KERNEL(q4_1, isa, DTYPE_Q4_1, kind_a_min)   \
    DEFINE_KERNEL(q5_0, isa, DTYPE_Q5_0, kind_a)       \
    DEFINE_KERNEL(q5_1, isa, DTYPE_Q5_1, kind_a_min)   \
    DEFINE_KERNEL(q8_0, isa, DTYPE_Q8_0, kind_a)       \
    DEFINE_KERNEL(iq4_nl, isa, DTYPE_IQ4_NL, kind_a)   \
    DEFINE_KERNEL(mxfp4, isa, DTYPE_MXFP4, kind_a)     \
    DEFINE_KERNEL(q2_k, isa, DTYPE_Q2_K, kind_k16_min) \
    DEFINE_KERNEL(q3_k, isa, DTYPE_Q3_K, kind_k16)     \
    DEFINE_KERNEL(q4_k, isa, DTYPE_Q4_K, kind_k32_min) \
    DEFINE_KERNEL(q5_k, isa, DTYPE_Q5_K, kind_k32_min) \
    DEFINE_KERNEL(q6_k, isa, DTYPE_Q6_K, kind_k16)     \
    DEFINE_KERNEL(iq4_xs, isa, DTYPE_IQ4_XS, kind_k32) \
    DEFINE_KERNEL(tq2_0, isa, DTYPE_TQ2_0, kind_k256)

#endif
