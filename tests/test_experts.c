// tests/test_experts.c -- mixtures of experts: the router against a plain search for the best, and route, sort, gather, the grouped
// product, bias and combine as one graph against a double loop over rows and experts. On every tier.
#include <stdlib.h>

#include "ops/nodes.h"
#include "ops/packed.h"
#include "quant/quant.h"
#include "tests/kernels.h"
#include "tests/tests.h"

struct tier {
    struct kernels kernels;
    const struct op *ops;
    enum dtype real;
};

// Tier number `i` of this processor; false where it has no such.
static bool open_tier(int i, struct tier *t)
{
    bool f64 = i == ISA_F64;
    if (!isa_supported((enum isa)i)) return false;
    *t = (struct tier){.kernels = f64 ? kernels_for_f64() : kernels_for((enum isa)i),
                       .ops = f64 ? op_table_f64 : op_table_ref,
                       .real = f64 ? DTYPE_F64 : DTYPE_F32};
    return true;
}

static double get(enum dtype type, const void *data, int64_t i)
{
    return type == DTYPE_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static void set(enum dtype type, void *data, int64_t i, double x)
{
    if (type == DTYPE_F64)
        ((double *)data)[i] = x;
    else
        ((float *)data)[i] = (float)x;
}

// Room for n of either kind.
static void *numbers(int64_t n)
{
    void *data = calloc((size_t)n + 1, sizeof(double));
    ck_assert_ptr_nonnull(data);
    return data;
}

// ---- the router ---------------------------------------------------------------------------------------

enum { MAX_EXPERTS = 96 };

struct choice {
    int32_t expert[MAX_EXPERTS];
    double weight[MAX_EXPERTS];
};

// Is expert a chosen before b?
static bool before(const double *score, int64_t a, int64_t b)
{
    return score[a] > score[b] || (score[a] == score[b] && a < b);
}

// What the best and, with a bias, the two best of a group add up to.
static double group_score(const double *score, int64_t first, int64_t size, bool two)
{
    double top = -INFINITY, next = -INFINITY;
    for (int64_t e = first; e < first + size; e++) {
        if (score[e] > top)
            next = top, top = score[e];
        else if (score[e] > next)
            next = score[e];
    }
    return two && size > 1 ? top + next : top;
}

// May expert e be chosen: how many groups come before its own?
static bool in_best_groups(const double *score, int64_t e, const struct route_args *a)
{
    if (a->groups < 2) return true;
    int64_t size = a->experts / a->groups, own = e / size, ahead = 0;
    double group[MAX_EXPERTS];
    for (int64_t g = 0; g < a->groups; g++)
        group[g] = group_score(score, g * size, size, a->choice_bias != NULL);
    for (int64_t g = 0; g < a->groups; g++) ahead += before(group, g, own);
    return ahead < a->groups_used;
}

// By rank: an expert's place is the number of eligible ones before it.
static struct choice choose(const double *logit, const double *bias, const struct route_args *a)
{
    struct choice c = {0};
    double p[MAX_EXPERTS], score[MAX_EXPERTS], sum = 0;
    for (int64_t e = 0; e < a->experts; e++) sum += exp(logit[e]);
    for (int64_t e = 0; e < a->experts; e++) {
        p[e] = a->gate == ROUTE_SOFTMAX   ? exp(logit[e]) / sum
               : a->gate == ROUTE_SIGMOID ? 1 / (1 + exp(-logit[e]))
                                          : logit[e];
        score[e] = p[e] + (bias ? bias[e] : 0);
    }
    for (int64_t e = 0; e < a->experts; e++) {
        if (!in_best_groups(score, e, a)) continue;
        int64_t place = 0;
        for (int64_t f = 0; f < a->experts; f++) place += before(score, f, e) && in_best_groups(score, f, a);
        if (place >= a->used) continue;
        c.expert[place] = (int32_t)e;
        c.weight[place] = a->gate == ROUTE_SOFTMAX_CHOSEN ? exp(logit[e]) : p[e];
    }
    sum = 0;
    for (int64_t i = 0; i < a->used; i++) sum += c.weight[i];
    if (!a->normalize && a->gate != ROUTE_SOFTMAX_CHOSEN) sum = 1;
    for (int64_t i = 0; i < a->used; i++) c.weight[i] *= a->scale / sum;
    return c;
}

static const int32_t *chosen(const struct tier *t, const void *out, int64_t row, int64_t used)
{
    size_t bytes = t->real == DTYPE_F64 ? 8 : 4;
    return (const int32_t *)((const char *)out + bytes * (size_t)(2 * row * used + used));
}

static void check_route(const struct tier *t, struct route_args a)
{
    enum { ROWS = 9 };
    void *logits = numbers(ROWS * a.experts), *bias = numbers(a.experts), *scratch = numbers(3 * a.experts);
    size_t out_bytes = (size_t)(ROWS * 2 * a.used) * (t->real == DTYPE_F64 ? 8 : 4);
    struct guarded out = guarded_alloc(out_bytes);
    double row_logits[MAX_EXPERTS], row_bias[MAX_EXPERTS];
    for (int64_t i = 0; i < ROWS * a.experts; i++) set(t->real, logits, i, 3 * random_signed(1, (uint64_t)i));
    for (int64_t e = 0; e < a.experts; e++) {
        set(t->real, bias, e, 0.3 * random_signed(2, (uint64_t)e));
        row_bias[e] = get(t->real, bias, e);
    }
    bool biased = a.choice_bias != NULL;
    a.out = out.data;
    a.logits = logits;
    a.choice_bias = biased ? bias : NULL;
    a.rows = ROWS;
    a.scratch = scratch;
    t->kernels.route_fwd(&a);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t e = 0; e < a.experts; e++) row_logits[e] = get(t->real, logits, r * a.experts + e);
        struct choice want = choose(row_logits, biased ? row_bias : NULL, &a);
        for (int64_t i = 0; i < a.used; i++) {
            ck_assert_msg(chosen(t, out.data, r, a.used)[i] == want.expert[i],
                          "%s: row %d, choice %d of %d in %d: expected expert %d, found %d",
                          isa_name(t->kernels.isa), (int)r, (int)i, (int)a.used, (int)a.experts,
                          want.expert[i], chosen(t, out.data, r, a.used)[i]);
            ck_assert_double_eq_tol(get(t->real, out.data, 2 * r * a.used + i), want.weight[i],
                                    2e-6 * a.scale);
        }
    }
    ck_assert(guarded_intact(&out));
    guarded_free(&out);
    free(logits), free(bias), free(scratch);
}

START_TEST(test_route)
{
    static const int64_t sizes[][4] = {// experts, used, groups, groups used
                                       {1, 1, 0, 0},  {2, 2, 0, 0},  {5, 3, 1, 1},  {8, 2, 4, 2},
                                       {8, 8, 0, 0},  {12, 5, 3, 2}, {12, 1, 3, 1}, {96, 6, 8, 3},
                                       {64, 8, 0, 0}, {6, 4, 6, 4}};
    struct tier t;
    if (!open_tier(_i, &t)) return;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int gate = ROUTE_SOFTMAX; gate <= ROUTE_SOFTMAX_CHOSEN; gate++)
            for (int options = 0; options < 8; options++)
                check_route(&t, (struct route_args){.experts = sizes[s][0],
                                                    .used = sizes[s][1],
                                                    .groups = sizes[s][2],
                                                    .groups_used = sizes[s][3],
                                                    .gate = (enum route_gate)gate,
                                                    .choice_bias = options & 1 ? "some" : NULL,
                                                    .normalize = options & 2,
                                                    .scale = options & 4 ? 2.5 : 1});
}
END_TEST

static struct route_args one_row(const struct tier *t, const double *logits, int64_t experts, int64_t used,
                                 enum route_gate gate)
{
    void *x = numbers(experts);
    for (int64_t e = 0; e < experts; e++) set(t->real, x, e, logits[e]);
    struct route_args a = {.out = numbers(2 * used),
                           .logits = x,
                           .rows = 1,
                           .experts = experts,
                           .used = used,
                           .gate = gate,
                           .normalize = true,
                           .scale = 1,
                           .scratch = numbers(3 * experts)};
    t->kernels.route_fwd(&a);
    return a;
}

static void free_row(struct route_args *a)
{
    free(a->out), free((void *)a->logits), free(a->scratch);
}

// Of equal logits the smaller number wins, and the best comes first.
START_TEST(test_route_ties)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    const double logits[] = {1, 2, 2, 0, 2, 1};
    for (int gate = ROUTE_SOFTMAX; gate <= ROUTE_SOFTMAX_CHOSEN; gate++) {
        struct route_args a = one_row(&t, logits, 6, 5, (enum route_gate)gate);
        const int32_t want[] = {1, 2, 4, 0, 5};
        ck_assert_mem_eq(chosen(&t, a.out, 0, 5), want, sizeof want);
        ck_assert_double_eq(get(t.real, a.out, 0), get(t.real, a.out, 2));
        free_row(&a);
    }
}
END_TEST

// Logits that are no numbers, or without bounds: some experts that there are, and no number for a weight that is made of NaN.
START_TEST(test_route_not_numbers)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    static const double rows[][4] = {{NAN, NAN, NAN, NAN},
                                     {0, NAN, 1, 2},
                                     {INFINITY, 0, 0, INFINITY},
                                     {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
                                     {-INFINITY, -INFINITY, 1, 2}};
    for (int gate = ROUTE_SOFTMAX; gate <= ROUTE_SOFTMAX_CHOSEN; gate++) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct route_args a = one_row(&t, rows[i], 4, 3, (enum route_gate)gate);
            const int32_t *c = chosen(&t, a.out, 0, 3);
            for (int j = 0; j < 3; j++) ck_assert_msg(c[j] >= 0 && c[j] < 4, "expert %d", c[j]);
            if (i == 0) ck_assert(isnan(get(t.real, a.out, 0)));
            if (i == 4) ck_assert(c[0] == 3 && c[1] == 2);
            free_row(&a);
        }
    }
}
END_TEST

// ---- the whole mixture --------------------------------------------------------------------------------

struct mixture {
    const struct tier *tier;
    int32_t experts, used, inputs, outputs, max_rows;
    struct tensor w, packed, bias, x, logits; // w (E, N, K) as in a file
    float *plain;                             // w's numbers
};

static struct tensor filled(const struct tier *t, int64_t cols, int64_t rows, uint64_t stream, double scale)
{
    struct tensor x = tensor_shape(t->real, cols, rows, 1, 1);
    x.data = numbers(cols * rows);
    for (int64_t i = 0; i < cols * rows; i++) { // eighths: bf16 holds them
        double n = (double)((int)(rng_uniform(1, stream, (uint64_t)i) * 17) - 8) / 8;
        set(t->real, x.data, i, scale * n);
    }
    return x;
}

// As models/pack.c does it.
static struct tensor packed_of(const struct tensor *w)
{
    struct tensor p = *w;
    int64_t groups = (w->ne[1] + PACKED_ROWS - 1) / PACKED_ROWS;
    p.nb[1] = packed_group_bytes(w->type, w->ne[0]);
    p.nb[2] = p.nb[1] * (size_t)groups;
    p.data = aligned_alloc(64, align_up(p.nb[2] * (size_t)w->ne[2], 64));
    for (int64_t e = 0; e < w->ne[2]; e++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t left = w->ne[1] - g * PACKED_ROWS, rows = left < PACKED_ROWS ? left : PACKED_ROWS;
            packed_group((char *)p.data + (size_t)e * p.nb[2] + (size_t)g * p.nb[1], w->type,
                         (char *)w->data + (size_t)e * w->nb[2] + (size_t)(g * PACKED_ROWS) * w->nb[1],
                         w->nb[1], rows, w->ne[0]);
        }
    return p;
}

static struct mixture mixture_make(const struct tier *t, enum dtype type, int32_t experts, int32_t used,
                                   int32_t inputs, int32_t outputs, int32_t rows)
{
    struct mixture m = {
        .tier = t, .experts = experts, .used = used, .inputs = inputs, .outputs = outputs, .max_rows = rows};
    int64_t n = (int64_t)experts * outputs * inputs;
    m.w = tensor_shape(type, inputs, outputs, experts, 1);
    m.w.data = malloc(tensor_bytes(&m.w));
    m.plain = malloc((size_t)n * sizeof *m.plain);
    fill_random(m.plain, n, 3);
    quant_types[type].quantize(m.w.data, m.plain, n, NULL);
    quant_types[type].dequantize(m.plain, m.w.data, n);
    m.packed = t->kernels.matmul[type].packed ? packed_of(&m.w) : m.w;
    m.bias = filled(t, outputs, experts, 4, 1);
    m.x = filled(t, inputs, rows, 5, 1);
    m.logits = filled(t, experts, rows, 6, 2);
    return m;
}

static void mixture_free(struct mixture *m)
{
    if (m->packed.data != m->w.data) free(m->packed.data);
    free(m->w.data), free(m->plain), free(m->bias.data), free(m->x.data), free(m->logits.data);
}

static struct route_params route_of(const struct mixture *m)
{
    return (struct route_params){
        .experts = m->experts, .used = m->used, .gate = ROUTE_SOFTMAX, .normalize = true, .scale = 1.5};
}

// y (rows, N) of rows first .. first + rows, in a graph with room for `room`; `local`: every thread runs the light
// nodes for itself.
static void mixture_run(const struct mixture *m, int64_t first, int32_t rows, int32_t room, int threads,
                        bool local, void *y)
{
    struct tlm_error err;
    struct graph g;
    int32_t counts[EXTENT_COUNT] = {[EXTENT_ROWS] = rows, [EXTENT_ROUTED_ROWS] = rows * m->used};
    struct route_params p = route_of(m);
    struct tensor x = m->x, logits = m->logits;
    x.data = tensor_row(&m->x, first);
    logits.data = tensor_row(&m->logits, first);
    x.ne[1] = logits.ne[1] = room;
    ck_assert_int_eq(graph_init(&g, m->tier->ops, &m->tier->kernels, m->tier->real, counts, &err), TLM_OK);
    g.threads = local ? threads : 0;
    struct node *in = graph_leaf(&g, &x, EXTENT_ROWS);
    struct node *route = g_route(&g, graph_leaf(&g, &logits, EXTENT_ROWS), NULL, &p);
    struct node *sorted = g_sort_experts(&g, route);
    struct node *h = g_matmul_experts(&g, g_weight(&g, &m->packed), g_gather_experts(&g, in, sorted), sorted);
    h = g_bias_experts(&g, h, g_weight(&g, &m->bias), sorted);
    struct node *root = g_combine_experts(&g, h, route, sorted);
    pass_convert(&g, &m->tier->kernels);
    ck_assert_int_eq(graph_plan(&g, &root, 1, &err), TLM_OK);
    size_t n = (size_t)threads;
    void *memory = aligned_alloc(64, align_up(g.arena_bytes + 64, 64)),
         *own = aligned_alloc(64, align_up(n * g.local_bytes + 64, 64)),
         *scratch = aligned_alloc(64, align_up(n * g.scratch_bytes + 64, 64));
    graph_bind(&g, memory, own);
    struct threads *pool = NULL;
    ck_assert_int_eq(threads_open(&pool, threads, &err), TLM_OK);
    for (int again = 0; again < 2; again++) graph_run(&g, threads > 1 || local ? pool : NULL, scratch);
    threads_close(pool);
    size_t row = (size_t)m->outputs * (m->tier->real == DTYPE_F64 ? 8 : 4);
    memcpy(y, root->out.data, row * (size_t)rows);
    free(memory), free(own), free(scratch);
    graph_free(&g);
}

// Row r of y by the double loop.
static void mixture_oracle(const struct mixture *m, int64_t r, double *y)
{
    struct route_args a = {
        .experts = m->experts, .used = m->used, .gate = ROUTE_SOFTMAX, .normalize = true, .scale = 1.5};
    double logits[MAX_EXPERTS];
    for (int32_t e = 0; e < m->experts; e++)
        logits[e] = get(m->tier->real, m->logits.data, r * m->experts + e);
    struct choice c = choose(logits, NULL, &a);
    for (int32_t o = 0; o < m->outputs; o++) {
        y[o] = 0;
        for (int32_t i = 0; i < m->used; i++) {
            int32_t e = c.expert[i];
            const float *w = m->plain + ((int64_t)e * m->outputs + o) * m->inputs;
            double sum = get(m->tier->real, m->bias.data, (int64_t)e * m->outputs + o);
            for (int32_t k = 0; k < m->inputs; k++)
                sum += w[k] * get(m->tier->real, m->x.data, r * m->inputs + k);
            y[o] += c.weight[i] * sum;
        }
    }
}

static void check_mixture(const struct mixture *m)
{
    static const int32_t rows[] = {1, 2, 3, 7, 16, 17, 33, 64, 65, 70};
    const struct tier *t = m->tier;
    const struct matmul_kernel *k = &t->kernels.matmul[m->w.type];
    // Integer kernels round activations; what is bf16 here is exact.
    double tolerance = t->real == DTYPE_F64 ? 1e-12 : k->packed ? 0.02 : 3e-6;
    size_t row = (size_t)m->outputs * (t->real == DTYPE_F64 ? 8 : 4);
    char *all = malloc(row * (size_t)m->max_rows), *some = malloc(row * (size_t)m->max_rows);
    double *want = malloc((size_t)m->outputs * sizeof *want);
    mixture_run(m, 0, m->max_rows, m->max_rows, 1, false, all);
    for (int64_t r = 0; r < m->max_rows; r++) {
        double difference = 0, norm = 0;
        mixture_oracle(m, r, want);
        for (int32_t o = 0; o < m->outputs; o++) {
            double d = get(t->real, all + row * (size_t)r, o) - want[o];
            difference += d * d;
            norm += want[o] * want[o];
        }
        ck_assert_msg(difference <= tolerance * tolerance * norm, "%s, %s: row %d: off by %g",
                      isa_name(t->kernels.isa), dtype_traits[m->w.type].name, (int)r,
                      sqrt(difference / norm));
    }
    // A row's bits depend neither on the rows beside it nor on threads, nor on who runs the light ops.
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t first = m->max_rows - rows[i];
        for (int threads = 1; threads <= 4; threads *= 2) {
            mixture_run(m, first, rows[i], m->max_rows - (int32_t)first, threads, rows[i] <= 2, some);
            ck_assert_msg(!memcmp(some, all + row * (size_t)first, row * (size_t)rows[i]),
                          "%s, %s: %d rows on %d threads: other bits", isa_name(t->kernels.isa),
                          dtype_traits[m->w.type].name, rows[i], threads);
        }
    }
    free(all), free(some), free(want);
}

START_TEST(test_mixture)
{
    static const struct {
        enum dtype type;
        int32_t inputs;
    } types[] = {{DTYPE_F32, 37}, {DTYPE_F16, 37}, {DTYPE_BF16, 37}, {DTYPE_Q8_0, 64}, {DTYPE_Q4_K, 256}};
    static const int32_t shapes[][3] = {
        {7, 3, 33}, {2, 2, 5}, {1, 1, 17}, {33, 4, 16}}; // experts, used, outputs
    struct tier t;
    if (!open_tier(_i, &t)) return;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            struct mixture m = mixture_make(&t, types[i].type, shapes[s][0], shapes[s][1], types[i].inputs,
                                            shapes[s][2], 70);
            check_mixture(&m);
            mixture_free(&m);
        }
    }
}
END_TEST

// Every number of rows, each with the bits that it has among 70.
START_TEST(test_every_row_count)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    struct mixture m = mixture_make(&t, DTYPE_F16, 5, 2, 19, 21, 70);
    size_t row = (size_t)m.outputs * (t.real == DTYPE_F64 ? 8 : 4);
    char *all = malloc(70 * row), *some = malloc(70 * row);
    mixture_run(&m, 0, 70, 70, 1, false, all);
    for (int32_t rows = 1; rows <= 70; rows++) {
        mixture_run(&m, 0, rows, 70, 2, false, some);
        ck_assert_msg(!memcmp(some, all, row * (size_t)rows), "%s: %d rows: other bits",
                      isa_name(t.kernels.isa), rows);
    }
    free(all), free(some);
    mixture_free(&m);
}
END_TEST

// All rows to the same experts: one product for all of them, none for the others.
START_TEST(test_crowded)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    struct mixture m = mixture_make(&t, DTYPE_F32, 6, 2, 40, 18, 70);
    for (int64_t r = 0; r < 70; r++)
        for (int64_t e = 0; e < 6; e++)
            set(t.real, m.logits.data, r * 6 + e, e == 4 ? 9 : e == 1 ? 8 : (double)-e);
    check_mixture(&m);
    mixture_free(&m);
}
END_TEST

Suite *suite_experts(void)
{
    Suite *s = suite_create("experts");
    TCase *t = tcase_create("experts");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_route, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_route_ties, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_route_not_numbers, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_mixture, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_every_row_count, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(t, test_crowded, ISA_REF, ISA_F64 + 1);
    suite_add_tcase(s, t);
    return s;
}
