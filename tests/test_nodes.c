// tests/test_nodes.c -- the row ops of a graph that are more than one call of a kernel: norms of groups of columns with one weight or a
// weight a group, and parts of rows taken out and put together, head by head. On every tier and in double, for several rows of which the
// step uses fewer than there are.
#include <stdlib.h>

#include "ops/nodes.h"
#include "tests/kernels.h"
#include "tests/tests.h"

enum { ROWS = 5, USED = 3 }; // rows of the bucket, and those of the step

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

static double get(const struct tensor *t, int64_t i)
{
    return t->type == DTYPE_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void set(struct tensor *t, int64_t i, double x)
{
    if (t->type == DTYPE_F64)
        ((double *)t->data)[i] = x;
    else
        ((float *)t->data)[i] = (float)x;
}

static struct tensor make_random(const struct tier *t, int64_t cols, int64_t rows, uint64_t stream)
{
    struct tensor x = tensor_shape(t->real, cols, rows, 1, 1);
    x.data = malloc(tensor_bytes(&x));
    ck_assert_ptr_nonnull(x.data);
    for (int64_t i = 0; i < cols * rows; i++) set(&x, i, random_signed(stream, (uint64_t)i));
    return x;
}

// A graph of one op over `a` and `b`, run; its output's numbers stay until close_run().
struct run {
    struct graph g;
    int32_t counts[EXTENT_COUNT];
    void *outputs, *scratch;
    struct node *root;
};

static void open_run(struct run *r, const struct tier *t)
{
    *r = (struct run){.counts = {[EXTENT_ROWS] = USED}};
    ck_assert_int_eq(graph_init(&r->g, t->ops, &t->kernels, t->real, r->counts, NULL), TLM_OK);
}

static void finish_run(struct run *r, struct node *root)
{
    r->root = root;
    ck_assert_int_eq(graph_plan(&r->g, &root, 1, NULL), TLM_OK);
    r->outputs = aligned_alloc(64, align_up(r->g.arena_bytes + 64, 64));
    r->scratch = aligned_alloc(64, align_up(r->g.scratch_bytes + 64, 64));
    graph_bind(&r->g, r->outputs, NULL);
    memset(root->out.data, 0xFF, tensor_bytes(&root->out)); // NaN
    graph_run(&r->g, NULL, r->scratch);
    for (int64_t i = USED * root->out.ne[0]; i < ROWS * root->out.ne[0]; i++)
        ck_assert(isnan(get(&root->out, i))); // rows that the step has not are left alone
}

static void close_run(struct run *r)
{
    free(r->outputs), free(r->scratch);
    graph_free(&r->g);
}

// ---- norms of groups ----------------------------------------------------------------------------------

// The number in column c of a row x of one group, normed; layer: LayerNorm.
static double normed(const double *x, int64_t group, int64_t c, double eps, bool layer)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < group && layer; i++) mean += x[i] / (double)group;
    for (int64_t i = 0; i < group; i++) square += (x[i] - mean) * (x[i] - mean) / (double)group;
    return (x[c] - mean) / sqrt(square + eps);
}

static void check_norm(const struct tier *t, int64_t groups, int64_t group, bool shared, bool layer,
                       bool biased)
{
    int64_t cols = groups * group, weights = shared ? group : cols;
    struct tensor x = make_random(t, cols, ROWS, 1), w = make_random(t, group, weights / group, 2),
                  b = make_random(t, group, weights / group, 3);
    struct run r;
    open_run(&r, t);
    struct node *in = graph_leaf(&r.g, &x, EXTENT_ROWS), *wn = g_weight(&r.g, &w), *bn = g_weight(&r.g, &b);
    finish_run(&r, layer ? g_layernorm(&r.g, in, wn, biased ? bn : NULL, group, 1e-3)
                         : g_rmsnorm(&r.g, in, wn, group, 1e-3));
    for (int64_t i = 0; i < USED * cols; i++) {
        double of[64];
        int64_t c = i % group, at = shared ? c : i % cols;
        for (int64_t j = 0; j < group; j++) of[j] = get(&x, i - c + j);
        double want = normed(of, group, c, 1e-3, layer) * get(&w, at) + (biased ? get(&b, at) : 0);
        if (!(fabs(get(&r.root->out, i) - want) <= (t->real == DTYPE_F64 ? 1e-13 : 2e-6)))
            ck_abort_msg("%s: %d groups of %d, number %d: expected %g, found %g", isa_name(t->kernels.isa),
                         (int)groups, (int)group, (int)i, want, get(&r.root->out, i));
    }
    close_run(&r);
    free(x.data), free(w.data), free(b.data);
}

START_TEST(test_norms_of_groups)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    for (int64_t groups = 1; groups <= 6; groups++)
        for (int64_t group = 3; group <= 37; group += 17)
            for (int i = 0; i < 6; i++) check_norm(&t, groups, group, i % 2, i > 1, i > 3);
}
END_TEST

// ---- parts of rows ------------------------------------------------------------------------------------

static void check_slice(const struct tier *t, int32_t heads, int32_t part, int32_t offset, int32_t count)
{
    struct tensor x = make_random(t, heads * part, ROWS, 1);
    struct run r;
    open_run(&r, t);
    finish_run(&r, g_slice(&r.g, graph_leaf(&r.g, &x, EXTENT_ROWS), heads, offset, count));
    ck_assert_int_eq(r.root->out.ne[0], heads * count);
    bool same = true;
    for (int64_t i = 0; i < USED * heads * count; i++)
        same &= get(&r.root->out, i) == get(&x, i / count * part + offset + i % count);
    ck_assert_msg(same, "%s: %d to %d of %d x %d", isa_name(t->kernels.isa), offset, offset + count, heads,
                  part);
    close_run(&r);
    free(x.data);
}

START_TEST(test_slice)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    for (int32_t heads = 1; heads <= 5; heads += 2)
        for (int32_t part = 1; part <= 19; part += 3)
            for (int32_t offset = 0; offset < part; offset += 2)
                for (int32_t count = 1; offset + count <= part; count += 4)
                    check_slice(&t, heads, part, offset, count);
}
END_TEST

static void check_concat(const struct tier *t, int32_t heads, int64_t first, int64_t second, bool shared)
{
    struct tensor a = make_random(t, heads * first, ROWS, 1),
                  b = make_random(t, (shared ? 1 : heads) * second, ROWS, 2);
    struct run r;
    open_run(&r, t);
    finish_run(&r, g_concat(&r.g, graph_leaf(&r.g, &a, EXTENT_ROWS), graph_leaf(&r.g, &b, EXTENT_ROWS), heads,
                            shared));
    int64_t part = first + second;
    ck_assert_int_eq(r.root->out.ne[0], heads * part);
    bool same = true;
    for (int64_t i = 0; i < USED * heads * part; i++) {
        int64_t h = i / part, c = i % part; // h counts the heads of all rows
        double want =
            c < first ? get(&a, h * first + c) : get(&b, (shared ? h / heads : h) * second + c - first);
        same &= get(&r.root->out, i) == want;
    }
    ck_assert_msg(same, "%s: %d heads of %d and %d", isa_name(t->kernels.isa), heads, (int)first,
                  (int)second);
    close_run(&r);
    free(a.data), free(b.data);
}

START_TEST(test_concat)
{
    struct tier t;
    if (!open_tier(_i, &t)) return;
    for (int32_t heads = 1; heads <= 5; heads += 2)
        for (int64_t first = 1; first <= 19; first += 6)
            for (int64_t second = 1; second <= 9; second += 4)
                for (int shared = 0; shared < 2; shared++) check_concat(&t, heads, first, second, shared);
}
END_TEST

Suite *suite_nodes(void)
{
    Suite *suite = suite_create("nodes");
    TCase *tcase = tcase_create("nodes");
    tcase_add_loop_test(tcase, test_norms_of_groups, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(tcase, test_slice, ISA_REF, ISA_F64 + 1);
    tcase_add_loop_test(tcase, test_concat, ISA_REF, ISA_F64 + 1);
    suite_add_tcase(suite, tcase);
    return suite;
}
