// tests/test_cuda_passes.c -- what is done to a graph of training before the device runs it: who reads what afterwards.
#include <check.h>

#include "core/graph.h"
#include "cuda/backend.h"
#include "ops/gradient.h"
#include "tests/tests.h"

enum { ROWS = 5, COLUMNS = 12 };

static struct node *numbers(struct graph *g, int64_t columns)
{
    const struct tensor t = tensor_shape(DTYPE_F32, columns, ROWS, 1, 1);
    return graph_leaf(g, &t, EXTENT_ROWS);
}

// ---- gradients of parts ---------------------------------------------------------------------------------

// Columns of an array that go to columns of a sum; count 0: there are no more.
struct moved {
    int32_t from, to, count;
    bool other; // of another array
};

static const struct joined {
    struct moved part[4];
    bool joined;
} joins[] = {
    {{{0, 0, 4, false}, {4, 4, 4, false}, {8, 8, 4, false}}, true},
    {{{7, 7, 5, false}, {0, 0, 6, false}, {6, 6, 1, false}}, true},
    {{{0, 0, 12, false}}, true},
    {{{0, 0, 4, false}, {4, 4, 4, false}}, false},                   // not all
    {{{0, 0, 4, false}, {8, 4, 4, false}, {4, 8, 4, false}}, false}, // elsewhere
    {{{0, 0, 8, false}, {4, 4, 4, false}}, false},                   // one twice, and one not
    {{{0, 0, 6, false}, {6, 6, 6, true}}, false},
};

START_TEST(test_join)
{
    struct graph g;
    struct tlm_error err = {0};
    const struct joined *c = &joins[_i];
    ck_assert(!graph_init(&g, NULL, NULL, DTYPE_F32, NULL, &err));
    struct node *all = numbers(&g, COLUMNS), *other = numbers(&g, COLUMNS), *sum = NULL;
    for (const struct moved *m = c->part; m->count; m++) {
        const struct slice_params to = {1, m->to, m->count};
        struct node *part = g_slice(&g, m->other ? other : all, 1, m->from, m->count);
        sum = g_slice_dx(&g, part, sum, &to, COLUMNS);
    }
    struct node *reader = g_scale(&g, sum, 2), *added = g_rows_dx(&g, other, sum, 0, ROWS, EXTENT_ROWS);
    cuda_join_gradients(&g);
    ck_assert_ptr_eq(reader->in[0], c->joined ? all : sum);
    ck_assert_ptr_eq(added->base, c->joined ? all : sum);
    graph_free(&g);
}
END_TEST

Suite *suite_cuda_passes(void)
{
    Suite *s = suite_create("cuda_passes");
    TCase *t = tcase_create("cuda_passes");
    tcase_add_loop_test(t, test_join, 0, sizeof joins / sizeof *joins);
    suite_add_tcase(s, t);
    return s;
}
