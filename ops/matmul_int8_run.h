// ops/matmul_int8_run.h -- the loops of ops/matmul_int8.h: a block, few columns, a panel and its strips of columns.
#ifndef OPS_MATMUL_INT8_RUN_H
#define OPS_MATMUL_INT8_RUN_H

// ---- a block of 256 -----------------------------------------------------------------------------------

// sum[v][j] (vectors) += the total of a block; `last` is where its d, dmin and pairs are.
INLINE void close_block(float *sum, const struct tile *t, const char *last, const char *head,
                        const enum dtype type, const enum source from, const int nc, const struct columns *c)
{
    const bool min = has_pairs(type) && kind_of(type) != KIND_K16;
    sum = (float *)opaque((const char *)sum); // else gcc keeps sums in registers, and the tile in memory
    EACH (v, vectors(from), 1) {
        vecf d = vecf_zero(), dmin = vecf_zero();
        vec corrected[COLUMNS];
        if (is_k(type)) d = from == PANEL ? vecf_load(last + VEC * v) : block_scale(type, last, head, v);
        if (min) dmin = from == PANEL ? vecf_load(last + (VECS + v) * VEC) : block_min(type, last, v);
        EACH (j, nc, 1) corrected[j] = vec_zero();
        if (has_pairs(type))
            EACH (at, 8, 1) {
                if (at >= 4 && !by_16(type)) break;
                vec pair = from == PANEL ? vec_load(last + ((2 + at) * VECS + v) * VEC)
                                         : sub_pair(type, last, v, at);
                EACH (j, nc, 1)
                    corrected[j] =
                        vec_add_pairs(corrected[j], pair, vec_set(c->sums[j * slot_of(type) + at]));
            }
        EACH (j, nc, 1) {
            float *y = sum + (v * COLUMNS + j) * LANES;
            vecf e = vecf_set(scale_of(c->x[j]));
            if (!is_k(type)) {
                vecf_store(y, vecf_fma(t->part[v][j], e, vecf_load(y)));
                continue;
            }
            vec total = t->total[v][j];
            if (kind_of(type) == KIND_K16 && has_pairs(type))
                total = vec_sub32(total, vec_sll32(corrected[j], bias_shift(type)));
            if (kind_of(type) == KIND_K256) total = vec_add32(total, vec_set(c->sums[j]));
            vecf s = vecf_mul(vecf_from_int(total), d);
            if (min) s = vecf_fnma(vecf_from_int(corrected[j]), dmin, s);
            vecf_store(y, vecf_fma(s, e, vecf_load(y)));
        }
    }
}

INLINE void clear_tile(struct tile *t, const enum source from, const int nc)
{
    EACH (j, nc, 1)
        EACH (v, vectors(from), 1) t->total[v][j] = vec_zero(), t->part[v][j] = vecf_zero();
}

INLINE void clear_sums(float *sum, const int vecs, const int nc)
{
    EACH (j, nc, 1)
        EACH (v, vecs, 1) vecf_store(sum + (v * COLUMNS + j) * LANES, vecf_zero());
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
    DEEP_BLOCKS = DEEP / SUPER,
    SUMS = 1 << 17, // dwords of prepare_sums(): of 256 columns of DEEP numbers or more
};

struct scratch {
    int32_t sums[SUMS];
    char panel[DEEP_BLOCKS * (8 * (SUB_BYTES + 2 * SCALE_BYTES) + 10 * SCALE_BYTES)];
};
_Static_assert(sizeof(struct scratch) <= MATMUL_SCRATCH, "what ops/ops.h promises");

INLINE const char *x_block(const struct matmul_args *a, int64_t t, int64_t block)
{
    return (const char *)a->x + ((size_t)t * (a->x_stride / SUPER) + (size_t)block) * X_BYTES;
}

INLINE int64_t blocks_of(const struct matmul_args *a)
{
    return (a->k_count + SUPER - 1) / SUPER;
}

// Where blocks from `first` on stand of the group of row n.
INLINE const char *group_at(const struct matmul_args *a, const enum dtype type, int64_t n, int64_t first)
{
    return (const char *)a->w + (size_t)(n / PACKED_ROWS) * a->w_stride + head_bytes(type, a->k_count) +
           (size_t)first * (size_t)super_step(type);
}

// The sums of blocks first .. last of all columns, [block][columns][slot]; the last column stands in for what lacks to `columns`.
INLINE void prepare_all(const struct matmul_args *a, const enum dtype type, int64_t columns, int64_t first,
                        int64_t last)
{
    int32_t *sums = ((struct scratch *)a->scratch)->sums;
    for (int64_t t = 0; t < columns; t++)
        for (int64_t b = first; b < last; b++)
            prepare_sums(sums + ((b - first) * columns + t) * slot_of(type),
                         x_block(a, t < a->t_count ? t : a->t_count - 1, b), type);
}

// ---- few columns: from the packed bytes ---------------------------------------------------------------

// `blocks` of 256, and `rest` sub-blocks, of 16 rows times nc columns.
struct direct {
    float *sum;
    const char *p, *head;
    struct columns c;
    size_t sums_step; // dwords between blocks
    int64_t blocks;
    int rest;
};
typedef void direct_fn(const struct direct *d);

// Measured on Zen 4, one core and memory at 30 GB/s. The processor follows a stream by itself when its lines are touched in rising
// order, so scales, which are used after the first codes, are touched first; asking for every fourth line two pages ahead keeps it going
// where pages end, and for the next activations, which the weights push out. So one and two columns reach 90 to 100% of plain
// reading. Four and more wait long on each line: there every line is asked for, spread over the units, or the loads are held up.
enum { FAR = 8192, NEAR = 6144 }; // bytes ahead

INLINE int unit_lines(enum dtype type)
{
    return (super_step(type) / 64 + units_of(type) - 1) / units_of(type);
}

INLINE void touch_block(const char *p, const enum dtype type, const int nc, const struct columns *c)
{
    EACH (i, (scales_bytes(type, 8) + 63) / 64, 1) __asm__ volatile("prefetcht0 %0" : : "m"(p[64 * i]));
    if (nc > 2) return;
    EACH (j, nc, 1)
        EACH (i, X_BYTES, 64) __asm__ volatile("prefetcht0 %0" : : "m"(c->x[j][X_BYTES + i]));
    EACH (i, super_step(type), 256) __asm__ volatile("prefetcht1 %0" : : "m"(p[FAR + i]));
}

INLINE void direct_block(float *sum, const char *p, const char *head, const enum dtype type, const int nc,
                         const struct columns *c, const int subs)
{
    touch_block(p, type, nc, c);
    __asm__ volatile("" : "+r"(p)); // loads stay behind
    char ints[16 * PARTS * VEC] __attribute__((aligned(64)));
    struct operand w = {.codes = p + scales_bytes(type, subs), .scales = p, .head = head, .ints = ints};
    struct tile t;
    if (is_staged(type))
        EACH (at, 16, 1)
            EACH (v, PARTS, 1)
                if (at < 8 || by_16(type))
                    vec_store(ints + (at * PARTS + v) * VEC, scale_form(sub_scale(type, p, v, at)));
    clear_tile(&t, PACKED, nc);
    for (int u = 0; u < subs / unit_subs(type); u++) {
        if (nc > 2)
            EACH (i, unit_lines(type), 1)
                __builtin_prefetch(p + NEAR + 64 * (u * unit_lines(type) + i), 0, 2);
        unit(&t, &w, type, PACKED, nc, c, unit_first(type, u));
        w.codes += unit_words(type) * 64;
        if (!is_k(type)) w.scales += scale_step(type);
    }
    close_block(sum, &t, w.scales, head, type, PACKED, nc, c);
}

INLINE void run_direct(const struct direct *d, const enum dtype type, const int nc)
{
    const char *p = d->p, *head = d->head;
    struct columns c = d->c;
    for (int64_t b = 0; b < d->blocks; b++, p += super_step(type), head += 32) {
        direct_block(d->sum, p, head, type, nc, &c, 8);
        EACH (j, nc, 1) c.x[j] += X_BYTES;
        c.sums += d->sums_step;
    }
    if (!is_k(type) && d->rest) direct_block(d->sum, p, head, type, nc, &c, d->rest);
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

// Blocks first .. last of all rows; a group of 16 is multiplied with FORMS columns at a time while it is in the cache.
INLINE void group_blocks(const enum dtype type, direct_fn *const forms[], const struct matmul_args *a,
                         int64_t columns, int64_t first, int64_t last)
{
    const int32_t *sums = ((struct scratch *)a->scratch)->sums;
    float sum[PARTS * COLUMNS * LANES] __attribute__((aligned(64)));
    const int64_t whole = a->k_count / SUPER;
    struct direct d = {.sum = sum, .sums_step = (size_t)(columns * slot_of(type))};
    d.blocks = (last < whole ? last : whole) - first;
    d.rest = last > whole ? (int)(a->k_count % SUPER / 32) : 0;
    for (int64_t n = a->n_begin; n < a->n_end; n += PACKED_ROWS) {
        d.p = group_at(a, type, n, first);
        d.head = (const char *)a->w + (size_t)(n / PACKED_ROWS) * a->w_stride + first * 32;
        for (int64_t t = 0; t < a->t_count; t += FORMS) {
            const int nc = (int)(a->t_count - t < FORMS ? a->t_count - t : FORMS), form = form_of(nc);
            float *y = (float *)a->y + (size_t)t * a->y_stride + n;
            for (int j = 0; j < form_columns(form); j++)
                d.c.x[j] = x_block(a, t + j < a->t_count ? t + j : a->t_count - 1, first);
            d.c.sums = sums + t * slot_of(type);
            if (first)
                load_sums(sum, PARTS, nc, y, a->y_stride, a->n_end - n);
            else
                clear_sums(sum, PARTS, FORMS);
            forms[form](&d);
            store_sums(sum, PARTS, nc, y, a->y_stride, a->n_end - n);
        }
    }
}

INLINE void by_groups(const enum dtype type, direct_fn *const forms[], const struct matmul_args *a)
{
    const int64_t blocks = blocks_of(a), rest = a->t_count % FORMS;
    const int64_t columns = a->t_count - rest + (rest ? form_columns(form_of(rest)) : 0);
    const int64_t deep = SUMS / (columns * slot_of(type)); // hardly ever less than all
    for (int64_t first = 0; first < blocks; first += deep) {
        const int64_t last = first + deep < blocks ? first + deep : blocks;
        prepare_all(a, type, columns, first, last);
        group_blocks(type, forms, a, columns, first, last);
    }
}

// ---- many columns: a panel in the cache ---------------------------------------------------------------

// Unpacks a block of `subs` sub-blocks for vector v of a panel.
INLINE void unpack_block(char *to, const enum dtype type, const char *p, const char *head, const int v,
                         int subs)
{
    const int part = v % PARTS, pieces = by_16(type) ? 2 : 1, sub_bytes = panel_sub_bytes(type);
    const char *codes = p + scales_bytes(type, subs) + VEC * part;
    to += v * VEC;
    if (!is_k(type)) {
        for (int s = 0; s < subs;
             s++, to += sub_bytes, codes += unit_words(type) * 64, p += scale_step(type)) {
            EACH (i, 8, 1) vec_store(to + i * VECS * VEC, code(type, codes, lower(type, codes, i), 0, i));
            vecf_store((float *)(to + SUB_BYTES), float_scale(type, p, part));
            if (kind_of(type) == KIND_A_MIN)
                vecf_store((float *)(to + SUB_BYTES + SCALE_BYTES), float_min(p, part));
        }
        return;
    }
    for (int u = 0; u < units_of(type); u++, codes += unit_words(type) * 64)
        EACH (k, unit_subs(type), 1) {
            char *sub = to + (unit_first(type, u) + k * unit_step(type)) * sub_bytes;
            EACH (i, 8, 1) vec_store(sub + i * VECS * VEC, code(type, codes, lower(type, codes, i), k, i));
        }
    EACH (at, 16, 1)
        if (at < 8 * pieces && kind_of(type) != KIND_K256)
            vec_store(to + at / pieces * sub_bytes + SUB_BYTES + at % pieces * SCALE_BYTES,
                      scale_form(sub_scale(type, p, part, at)));
    to += 8 * sub_bytes;
    vecf_store((float *)to, block_scale(type, p, head, part));
    if (!has_pairs(type)) return;
    if (kind_of(type) != KIND_K16) vecf_store((float *)(to + SCALE_BYTES), block_min(type, p, part));
    EACH (at, 4 * pieces, 1) vec_store(to + (2 + at) * SCALE_BYTES, sub_pair(type, p, part, at));
}

struct strip {
    float *y;
    size_t y_stride;
    int64_t rows; // of the panel
    bool begun;   // y has sums already
    const char *panel;
    struct columns c;
    size_t sums_step; // dwords between blocks
    int64_t subs;
    // Bytes of each group that are unpacked next: each block asks for `lines` cache lines of them.
    const char *ahead[VECS / PARTS];
    int64_t lines;
};
typedef void strip_fn(const struct strip *s);

// A strip of nc columns times a panel that was unpacked from weights that take the form of `type`.
INLINE void run_strip(const struct strip *s, const enum dtype type, const int nc)
{
    float sum[VECS * COLUMNS * LANES] __attribute__((aligned(64)));
    struct columns c = s->c;
    struct operand w = {.codes = s->panel};
    const char *ahead[VECS / PARTS];
    EACH (g, VECS / PARTS, 1) ahead[g] = s->ahead[g];
    if (s->begun)
        load_sums(sum, VECS, nc, s->y, s->y_stride, s->rows);
    else
        clear_sums(sum, VECS, nc);
    for (int64_t left = s->subs; left > 0; left -= 8) {
        struct tile t;
        clear_tile(&t, PANEL, nc);
        // Rows of y lie far apart: lines that are asked for now are there when the sums are stored.
        for (int j = 0; j < nc && left <= 16; j++)
            EACH (v, VECS, 1) __builtin_prefetch(s->y + (size_t)j * s->y_stride + v * LANES, 1, 3);
        for (int64_t i = 0; i < s->lines; i++)
            EACH (g, VECS / PARTS, 1) __builtin_prefetch(ahead[g], 0, 2), ahead[g] += 64;
        for (int sub = 0; sub < (left < 8 ? (int)left : 8); sub++, w.codes += panel_sub_bytes(type))
            unit(&t, &w, type, PANEL, nc, &c, sub);
        close_block(sum, &t, w.codes, NULL, type, PANEL, nc, &c);
        w.codes += panel_block_bytes(type) - 8 * panel_sub_bytes(type);
        EACH (j, nc, 1) c.x[j] += X_BYTES;
        c.sums += s->sums_step;
    }
    store_sums(sum, VECS, nc, s->y, s->y_stride, s->rows);
}

INLINE void unpack_panel(char *panel, const enum dtype type, const struct matmul_args *a, int64_t n,
                         int64_t first, int64_t last)
{
    for (int v = 0; v < VECS; v++) {
        int64_t row = n + v / PARTS * PACKED_ROWS;
        if (row >= a->n_end) row = n; // a second group that is not there is the first again
        const char *p = group_at(a, type, row, first);
        const char *head = (const char *)a->w + (size_t)(row / PACKED_ROWS) * a->w_stride + first * 32;
        for (int64_t b = first; b < last; b++, p += super_step(type), head += 32) {
            const int64_t left = a->k_count / 32 - 8 * b;
            unpack_block(panel + (b - first) * panel_block_bytes(type), type, p, head, v,
                         left < 8 ? (int)left : 8);
        }
    }
}

// Blocks first .. last of `count` panels of rows from n on; the columns' sums are prepared. A strip of columns meets all panels while
// it is in the cache.
INLINE void run_panels(const enum dtype type, strip_fn *const strips[STRIP], const struct matmul_args *a,
                       int64_t n, int64_t count, int64_t first, int64_t last)
{
    struct scratch *m = a->scratch;
    const int64_t subs = a->k_count / 32, columns = (a->t_count + STRIP - 1) / STRIP;
    const int64_t size = (last - first) * panel_block_bytes(type);
    const int64_t lines = (last - first) * super_step(type) / 64; // of a group
    struct strip s = {.y_stride = a->y_stride,
                      .begun = first > 0,
                      .sums_step = (size_t)(a->t_count * slot_of(type)),
                      .subs = (last * 8 < subs ? last * 8 : subs) - first * 8};
    for (int64_t q = 0; q < count; q++) unpack_panel(m->panel + q * size, type, a, n + q * ROWS, first, last);
    // The same number of columns in each strip, or one less; each asks for its share of the lines of the next panels.
    s.lines = (lines + (last - first) * columns - 1) / ((last - first) * columns);
    for (int64_t i = 0, t = 0, asked = 0; i < columns; i++, asked += s.lines * (last - first)) {
        const int nc = (int)((a->t_count - t + columns - i - 1) / (columns - i));
        for (int j = 0; j < nc; j++) s.c.x[j] = x_block(a, t + j, first);
        s.c.sums = m->sums + t * slot_of(type);
        if (asked >= lines) s.lines = 0;
        for (int64_t q = 0; q < count; q++) {
            const int64_t row = n + q * ROWS;
            s.y = (float *)a->y + (size_t)t * a->y_stride + row;
            s.rows = a->n_end - row;
            s.panel = m->panel + q * size;
            EACH (g, VECS / PARTS, 1)
                s.ahead[g] = group_at(a, type, row + count * ROWS + g * PACKED_ROWS, first) + 64 * asked;
            strips[nc - 1](&s);
        }
        t += nc;
    }
}

INLINE void by_panels(const enum dtype type, strip_fn *const strips[STRIP], const struct matmul_args *a,
                      int64_t deep)
{
    const int64_t blocks = blocks_of(a), together = DEEP_BLOCKS / deep * ROWS;
    for (int64_t first = 0; first < blocks; first += deep) {
        const int64_t last = first + deep < blocks ? first + deep : blocks;
        prepare_all(a, type, a->t_count, first, last);
        for (int64_t n = a->n_begin; n < a->n_end; n += together) {
            const int64_t rows = n + together < a->n_end ? together : a->n_end - n;
            run_panels(type, strips, a, n, (rows + ROWS - 1) / ROWS, first, last);
        }
    }
}

// ---- both ---------------------------------------------------------------------------------------------

// As many columns at a time as have room for their sums.
INLINE void run_matmul(const struct matmul_args *all, const enum dtype type, direct_fn *const directs[],
                       strip_fn *const strips[STRIP])
{
    const int64_t blocks = blocks_of(all), deep = blocks < DEEP_BLOCKS ? blocks : DEEP_BLOCKS;
    const int64_t most = SUMS / (deep * slot_of(type));
    for (int64_t t = 0; t < all->t_count; t += most) {
        struct matmul_args a = *all;
        a.t_count = all->t_count - t < most ? all->t_count - t : most;
        a.x = x_block(all, t, 0), a.y = (float *)all->y + (size_t)t * all->y_stride;
        if (a.t_count <= DIRECT)
            by_groups(type, directs, &a);
        else
            by_panels(type, strips, &a, deep);
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
#define DEFINE_KERNEL(name, isa, type, strips)                            \
    DEFINE_DIRECTS(name, type)                                            \
    UNCHECKED void matmul_fwd_##name##_##isa(const struct matmul_args *a) \
    {                                                                     \
        run_matmul(a, type, directs_##name, strips);                      \
    }

#endif
