// ops/matmul_int8_run.h -- the loops of ops/matmul_int8.h: a block, one column, a panel and its strips of columns.
#ifndef OPS_MATMUL_INT8_RUN_H
#define OPS_MATMUL_INT8_RUN_H

// ---- a block of 256: vectors of rows times nc columns -------------------------------------------------

// Prefetches are spread out: all at once they hold up the loads. To the second level: into the first, Q6_K is a third slower.
#define LINES(type) ((super_step(type) + 511) / 512) // of a block of 16 rows, a sub-block

INLINE void sub_block(struct tile *t, const struct operand *w, const enum dtype type, const enum source from,
                      const int nc, const struct columns *c, const int s)
{
    if (from == PANEL) {
        for (int i = 0; i < c->lines; i++)
            EACH (g, VECS / PARTS, 1) __builtin_prefetch(c->ahead[g] + 64 * (s * c->lines + i), 0, 2);
    } else {
        EACH (i, LINES(type), 1) __builtin_prefetch(w->codes + AHEAD + 64 * (s * LINES(type) + i), 0, 2);
    }
    piece(t, w, type, from, nc, c, s, 0);
    if (by_16(type)) piece(t, w, type, from, nc, c, s, 1);
}

// sum[v][j] (vectors) += the block's product.
INLINE void super_block(float *sum, const struct operand *w, const enum dtype type, const enum source from,
                        const int nc, const struct columns *c, const int subs)
{
    const int vecs = vectors(from);
    struct tile t;
    EACH (j, nc, 1)
        EACH (v, vecs, 1) t.total[v][j] = vec_zero(), t.part[v][j] = vecf_zero();
    for (int s = 0; s < subs; s++) sub_block(&t, w, type, from, nc, c, s);
    EACH (v, vecs, 1) {
        vecf d = vecf_zero(), dmin = vecf_zero();
        vec corrected[COLUMNS];
        const bool min = has_pairs(type) && kind_of(type) != KIND_K16;
        if (is_k(type)) d = from == PANEL ? vecf_load(w->entry + VEC * v) : block_scale(type, w->scales, v);
        if (min)
            dmin = from == PANEL ? vecf_load(w->entry + (VECS + v) * VEC) : block_min(type, w->scales, v);
        EACH (j, nc, 1) corrected[j] = vec_zero();
        if (has_pairs(type))
            EACH (at, 8, 1) {
                if (at >= 4 && !by_16(type)) break;
                vec pair = from == PANEL ? vec_load(w->entry + ((2 + at) * VECS + v) * VEC)
                                         : sub_pair(type, w->scales, v, at);
                EACH (j, nc, 1) corrected[j] = vec_add_pairs(corrected[j], pair, vec_set(c->sums[j][at]));
            }
        EACH (j, nc, 1) {
            float *y = sum + (v * COLUMNS + j) * LANES;
            vecf e = vecf_set(scale_of(c->x[j]));
            if (!is_k(type)) {
                vecf_store(y, vecf_fma(t.part[v][j], e, vecf_load(y)));
                continue;
            }
            vec total = t.total[v][j];
            if (kind_of(type) == KIND_K16 && has_pairs(type))
                total = vec_sub32(total, vec_sll32(corrected[j], bias_shift(type)));
            vecf s = vecf_mul(vecf_from_int(total), d);
            if (min) s = vecf_fnma(vecf_from_int(corrected[j]), dmin, s);
            s = vecf_fma(s, e, vecf_load(y));
            vecf_store(y, s);
        }
    }
}

// Between y and sums; `rows` of a panel or a group are there.
INLINE void load_sums(float *sum, const int vecs, int nc, const float *y, size_t stride, int64_t rows)
{
    for (int j = 0; j < nc; j++)
        EACH (v, vecs, 1)
            vecf_store(sum + (v * COLUMNS + j) * LANES,
                       vecf_load_some(y + (size_t)j * stride + v * LANES, rows - v * LANES));
}

INLINE void store_sums(const float *sum, const int vecs, int nc, float *y, size_t stride, int64_t rows)
{
    for (int j = 0; j < nc; j++)
        EACH (v, vecs, 1)
            vecf_store_some(y + (size_t)j * stride + v * LANES, rows - v * LANES,
                            vecf_load(sum + (v * COLUMNS + j) * LANES));
}

// ---- scratch ------------------------------------------------------------------------------------------

enum {
    SLOT = 16,    // int32 of prepare_sums()
    SLOTS = 2048, // blocks of activations whose sums are prepared for the whole call, if they fit
    DEEP_BLOCKS = DEEP / SUPER,
    ENTRY_BYTES = 20 * VEC,
};

struct scratch {
    int32_t sums[SLOTS * SLOT];
    int32_t strip_sums[STRIP * DEEP_BLOCKS * SLOT];
    char codes[DEEP / 32 * SUB_BYTES];
    char scales[DEEP / 16 * SCALE_BYTES], mins[DEEP / 32 * SCALE_BYTES];
    char entries[DEEP_BLOCKS * ENTRY_BYTES];
};
_Static_assert(sizeof(struct scratch) <= MATMUL_SCRATCH, "what ops/ops.h promises");

INLINE const char *x_block(const struct matmul_args *a, int64_t t, int64_t block)
{
    return (const char *)a->x + ((size_t)t * (a->x_stride / SUPER) + (size_t)block) * X_BYTES;
}

// The sums of all columns, or NULL where they do not fit.
INLINE const int32_t *prepare_all(const struct matmul_args *a, const enum dtype type, int64_t blocks)
{
    int32_t *sums = ((struct scratch *)a->scratch)->sums;
    if (a->t_count * blocks > SLOTS) return NULL;
    for (int64_t t = 0; t < a->t_count; t++)
        for (int64_t b = 0; b < blocks; b++)
            prepare_sums(sums + (t * blocks + b) * SLOT, x_block(a, t, b), type);
    return sums;
}

// ---- few columns: from the packed bytes ---------------------------------------------------------------

// `blocks` of 256 (and `rest` sub-blocks) of 16 rows times nc columns.
struct direct {
    float *sum;
    const char *p;
    struct columns c;
    int64_t blocks;
    int rest;
};
typedef void direct_fn(const struct direct *d);

INLINE void run_direct(const struct direct *d, const enum dtype type, const int nc)
{
    const char *p = d->p;
    struct columns c = d->c;
    char staged[16 * PARTS * VEC] __attribute__((aligned(64)));
    struct operand w = {.ints = staged};
    for (int64_t b = 0; b < d->blocks; b++, p += super_step(type)) {
        w.codes = p, w.scales = p + code_step(type) * (is_k(type) ? 1 : 8);
        if (is_k(type))
            EACH (at, 16, 1)
                EACH (v, PARTS, 1)
                    if (at < 8 || by_16(type))
                        vec_store(staged + (at * PARTS + v) * VEC,
                                  scale_form(sub_scale(type, w.scales, v, at)));
        super_block(d->sum, &w, type, PACKED, nc, &c, 8);
        EACH (j, nc, 1) c.x[j] += X_BYTES, c.sums[j] += SLOT;
    }
    if (is_k(type) || !d->rest) return;
    w.codes = p, w.scales = p + code_step(type) * d->rest;
    super_block(d->sum, &w, type, PACKED, nc, &c, d->rest);
}

// There are forms for 1, 2, 4, 6 ... columns; the last column stands in for one that is not there.
INLINE int form_of(int64_t columns)
{
    return columns <= 1 ? 0 : (int)(columns + 1) / 2;
}

INLINE int form_columns(int form)
{
    return form ? 2 * form : 1;
}

INLINE void by_groups(direct_fn *const forms[], const struct matmul_args *a, const int32_t *all_sums)
{
    const int64_t blocks = (a->k_count + SUPER - 1) / SUPER;
    const int form = form_of(a->t_count);
    float sum[PARTS * COLUMNS * LANES] __attribute__((aligned(64)));
    struct direct d = {.sum = sum, .blocks = a->k_count / SUPER, .rest = (int)(a->k_count % SUPER / 32)};
    for (int j = 0; j < form_columns(form); j++) {
        const int64_t t = j < a->t_count ? j : a->t_count - 1;
        d.c.x[j] = x_block(a, t, 0);
        d.c.sums[j] = all_sums + t * blocks * SLOT;
    }
    for (int64_t n = a->n_begin; n < a->n_end; n += PACKED_ROWS) {
        memset(sum, 0, sizeof sum);
        d.p = (const char *)a->w + (size_t)(n / PACKED_ROWS) * a->w_stride;
        forms[form](&d);
        store_sums(sum, PARTS, (int)a->t_count, (float *)a->y + n, a->y_stride, a->n_end - n);
    }
}

// ---- many columns: a panel in the cache ---------------------------------------------------------------

INLINE int entry_bytes(const enum dtype type)
{
    return (has_pairs(type) ? (by_16(type) ? 20 : 12) : 4) * VEC;
}

// Unpacks a block of `subs` sub-blocks for vector v of a panel.
INLINE void unpack_block(const struct operand *to, const enum dtype type, const char *p, const int v,
                         int subs)
{
    const int part = v % PARTS, pieces = by_16(type) ? 2 : 1;
    char *codes = (char *)to->codes + v * VEC, *entry = (char *)to->entry + v * VEC;
    char *out = (char *)(is_k(type) ? to->ints : to->scales) + v * VEC;
    const char *scales = p + code_step(type) * (is_k(type) ? 1 : subs);
    p += VEC * part;
    if (!is_k(type)) {
        for (int s = 0; s < subs; s++, p += code_step(type), scales += scale_step(type)) {
            EACH (i, 8, 1) vec_store(codes + s * SUB_BYTES + i * VECS * VEC, code(type, p, 0, i));
            vecf_store((float *)(out + s * SCALE_BYTES), float_scale(type, scales, part));
            if (kind_of(type) == KIND_A_MIN)
                vecf_store((float *)((char *)to->mins + v * VEC + s * SCALE_BYTES), float_min(scales, part));
        }
        return;
    }
    EACH (s, 8, 1) {
        EACH (i, 8, 1) vec_store(codes + s * SUB_BYTES + i * VECS * VEC, code(type, p, s, i));
        EACH (h, pieces, 1)
            vec_store(out + (s * pieces + h) * SCALE_BYTES,
                      scale_form(sub_scale(type, scales, part, s * pieces + h)));
    }
    vecf_store((float *)entry, block_scale(type, scales, part));
    if (!has_pairs(type)) return;
    if (kind_of(type) != KIND_K16) vecf_store((float *)(entry + VECS * VEC), block_min(type, scales, part));
    EACH (at, 4 * pieces, 1) vec_store(entry + (2 + at) * VECS * VEC, sub_pair(type, scales, part, at));
}

struct strip {
    float *y;
    size_t y_stride;
    int64_t rows; // of the panel
    bool begun;   // y has sums already
    struct operand w;
    struct columns c;
    int64_t subs;
};
typedef void strip_fn(const struct strip *s);

// A strip of nc columns times a panel that was unpacked from weights that take the form of `type`.
INLINE void run_strip(const struct strip *s, const enum dtype type, const int nc)
{
    float sum[VECS * COLUMNS * LANES] __attribute__((aligned(64)));
    struct operand w = s->w;
    struct columns c = s->c;
    // Rows of y lie far apart: lines that are asked for now are there when the sums are stored.
    for (int j = 0; j < nc; j++)
        EACH (v, VECS, 1) __builtin_prefetch(s->y + (size_t)j * s->y_stride + v * LANES, 1, 3);
    if (s->begun)
        load_sums(sum, VECS, nc, s->y, s->y_stride, s->rows);
    else
        memset(sum, 0, sizeof sum);
    for (int64_t left = s->subs; left > 0; left -= 8) {
        super_block(sum, &w, type, PANEL, nc, &c, left < 8 ? (int)left : 8);
        w.codes += 8 * SUB_BYTES, w.scales += 8 * SCALE_BYTES, w.mins += 8 * SCALE_BYTES;
        w.ints += 8 * SCALE_BYTES * (by_16(type) ? 2 : 1), w.entry += entry_bytes(type);
        EACH (j, nc, 1) c.x[j] += X_BYTES, c.sums[j] += SLOT;
        EACH (g, VECS / PARTS, 1) c.ahead[g] += 8 * 64 * c.lines;
    }
    store_sums(sum, VECS, nc, s->y, s->y_stride, s->rows);
}

// Where block `b` of a panel is unpacked to.
INLINE struct operand panel_block(struct scratch *m, const enum dtype type, int64_t b)
{
    char *scales = m->scales + b * 8 * SCALE_BYTES * (by_16(type) ? 2 : 1);
    return (struct operand){
        .codes = m->codes + b * 8 * SUB_BYTES,
        .scales = scales,
        .ints = scales,
        .mins = m->mins + b * 8 * SCALE_BYTES,
        .entry = m->entries + b * entry_bytes(type),
    };
}

// The x of columns t .. t + nc of blocks first .. last, and its sums.
INLINE void strip_columns(struct columns *c, const enum dtype type, const struct matmul_args *a, int64_t t,
                          int nc, int64_t first, int64_t last, const int32_t *all_sums)
{
    for (int j = 0; j < nc; j++) {
        c->x[j] = x_block(a, t + j, first);
        if (all_sums) {
            c->sums[j] = all_sums + ((t + j) * ((a->k_count + SUPER - 1) / SUPER) + first) * SLOT;
            continue;
        }
        int32_t *sums = ((struct scratch *)a->scratch)->strip_sums + j * DEEP_BLOCKS * SLOT;
        for (int64_t b = first; b < last; b++)
            prepare_sums(sums + (b - first) * SLOT, x_block(a, t + j, b), type);
        c->sums[j] = sums;
    }
}

// Blocks first .. last of a panel of rows from n on.
INLINE void deep_panel(const enum dtype type, strip_fn *const strips[STRIP], const struct matmul_args *a,
                       int64_t n, int64_t first, int64_t last, const int32_t *all_sums)
{
    struct scratch *m = a->scratch;
    const int64_t subs = a->k_count / 32, count = (a->t_count + STRIP - 1) / STRIP;
    struct strip s = {.y_stride = a->y_stride, .rows = a->n_end - n, .w = panel_block(m, type, 0)};
    const char *group[VECS / PARTS];
    EACH (g, VECS / PARTS, 1) { // a second group that is not there is the first again
        const bool there = n + g * PACKED_ROWS < a->n_end;
        group[g] = (const char *)a->w + (size_t)(n / PACKED_ROWS + (there ? g : 0)) * a->w_stride +
                   (size_t)first * (size_t)super_step(type);
    }
    for (int64_t b = 0; b < last - first; b++)
        for (int v = 0; v < VECS; v++) {
            const struct operand to = panel_block(m, type, b);
            const int64_t left = subs - 8 * (first + b);
            unpack_block(&to, type, group[v / PARTS] + (size_t)b * (size_t)super_step(type), v,
                         left < 8 ? (int)left : 8);
        }
    s.begun = first > 0;
    s.subs = (last * 8 < subs ? last * 8 : subs) - first * 8;
    // The strips share the lines of the bytes that are unpacked next, those of the next panel.
    const size_t bytes = (size_t)(last - first) * (size_t)super_step(type);
    const int lines = (int)(((int64_t)bytes / 64 + s.subs * count - 1) / (s.subs * count));
    EACH (g, VECS / PARTS, 1) s.c.ahead[g] = group[g] + VECS / PARTS * a->w_stride;
    const char *const ahead_end = s.c.ahead[0] + bytes;
    // The same number of columns in each strip, or one less.
    for (int64_t i = 0, t = 0; i < count; i++) {
        const int nc = (int)((a->t_count - t + count - i - 1) / (count - i));
        strip_columns(&s.c, type, a, t, nc, first, last, all_sums);
        s.c.lines = s.c.ahead[0] < ahead_end ? lines : 0;
        s.y = (float *)a->y + (size_t)t * a->y_stride + n;
        strips[nc - 1](&s);
        t += nc;
        EACH (g, VECS / PARTS, 1) s.c.ahead[g] += 64 * s.subs * lines;
    }
}

INLINE void by_panel(const enum dtype type, strip_fn *const strips[STRIP], const struct matmul_args *a,
                     const int32_t *all_sums)
{
    const int64_t blocks = (a->k_count + SUPER - 1) / SUPER;
    for (int64_t first = 0; first < blocks; first += DEEP_BLOCKS) {
        const int64_t last = first + DEEP_BLOCKS < blocks ? first + DEEP_BLOCKS : blocks;
        for (int64_t n = a->n_begin; n < a->n_end; n += ROWS)
            deep_panel(type, strips, a, n, first, last, all_sums);
    }
}

// ---- what the files of tiers are made of --------------------------------------------------------------

#define DEFINE_STRIP(name, type, nc)                                                           \
    static UNCHECKED __attribute__((noinline)) void strip_##name##_##nc(const struct strip *s) \
    {                                                                                          \
        run_strip(s, type, nc);                                                                \
    }
#define DEFINE_DIRECT(name, type, nc)                                                            \
    static UNCHECKED __attribute__((noinline)) void direct_##name##_##nc(const struct direct *d) \
    {                                                                                            \
        run_direct(d, type, nc);                                                                 \
    }
#define DEFINE_KERNEL(name, isa, type, strips)                                        \
    DEFINE_DIRECTS(name, type)                                                        \
    UNCHECKED void matmul_fwd_##name##_##isa(const struct matmul_args *a)             \
    {                                                                                 \
        const int32_t *sums = prepare_all(a, type, (a->k_count + SUPER - 1) / SUPER); \
        if (a->t_count <= DIRECT && sums)                                             \
            by_groups(directs_##name, a, sums);                                       \
        else                                                                          \
            by_panel(type, strips, a, sums);                                          \
    }

#endif
