// tests/test_cuda_passes.c -- what is done to a graph of training before the device runs it: who reads what afterwards; and the kernels that
// then write 16 bits at once.
#include "core/graph.h"
#include "cuda/backend.h"
#include "cuda/gradient.h"
#include "cuda/narrow.h"
#include "ops/gradient.h"
#include "tests/cuda_kernels.h"
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

// ---- 16 bits at once ----------------------------------------------------------------------------------------

// What an op writes in a type; f32 is what a conversion to the others reads.
static void write_as(void *y, enum dtype type, int op, const float *x, const float *w, struct cuda_rows rows,
                     int64_t cols)
{
    switch (op) {
    case OP_activation: cuda_activation_to(NULL, y, type, x, rows, cols, ACT_GELU_TANH); break;
    case OP_glu: cuda_glu_to(NULL, y, type, x, w, rows, cols, ACT_SILU); break;
    case OP_activation_dx: cuda_activation_dx(NULL, y, type, x, w, rows, cols, ACT_GELU_TANH); break;
    case OP_rmsnorm: cuda_rmsnorm_to(NULL, y, type, x, w, rows, cols, cols, 1, 1e-5); break;
    case OP_layernorm: cuda_layernorm_to(NULL, y, type, x, w, w, rows, cols, cols, 1, 1e-5); break;
    default: cuda_slice_to(NULL, y, type, x, rows, cols + 3, 1, 2, (int32_t)cols);
    }
}

START_TEST(test_narrow_ops)
{
    static const int ops[] = {OP_activation, OP_glu, OP_activation_dx, OP_rmsnorm, OP_layernorm, OP_slice};
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16};
    for (int i = 0; i < ODD; i++)
        for (int t = 0; t < 2; t++) {
            const int64_t cols = odd[i], all = MOST * cols;
            const struct cuda_rows rows = some_rows(USED, MOST);
            const float *x = random_device(NULL, MOST * (cols + 3), 1, 10),
                        *w = random_device(NULL, all, 2, 2);
            float *wide = empty_device(all);
            uint16_t *apart = device(NULL, (size_t)all * 2), *once = device(NULL, (size_t)all * 2);
            orders(i);
            write_as(wide, DTYPE_F32, ops[_i], x, w, rows, cols);
            cuda_convert(NULL, apart, types[t], wide, rows, cols);
            write_as(once, types[t], ops[_i], x, w, rows, cols);
            ck_assert_msg(!emu_error(), "%s", emu_error());
            ck_assert_mem_eq(once, apart, (size_t)all * 2); // and rows that are not used were not written
            done();
        }
}
END_TEST

// What reads an activation beside the conversion.
enum beside { NOBODY, SCALE, SUM };

static const struct narrowed {
    enum dtype type;
    bool loss; // is the graph one of training?
    enum beside beside;
    bool narrowed;
} narrows[] = {
    {DTYPE_BF16, true, NOBODY, true}, {DTYPE_F16, true, NOBODY, true}, {DTYPE_BF16, false, NOBODY, false},
    {DTYPE_BF16, true, SCALE, false}, {DTYPE_BF16, true, SUM, true},   {DTYPE_Q8_1, true, NOBODY, false},
};

START_TEST(test_narrow_graph)
{
    struct graph g;
    struct tlm_error err = {0};
    const struct narrowed *c = &narrows[_i];
    ck_assert(!graph_init(&g, NULL, NULL, DTYPE_F32, NULL, &err));
    struct node *x = numbers(&g, 32), *other = numbers(&g, 32);
    struct node *activation = g_activation(&g, x, ACT_GELU), *convert = g_convert(&g, activation, c->type);
    struct node *reader = g_rows_dx(&g, other, NULL, 0, ROWS, EXTENT_ROWS);
    reader->in[0] = convert; // whatever takes this type
    if (c->loss) g_cross_entropy(&g, g_scale(&g, other, 2), other, other, other, 0);
    const struct tensor bias = tensor_shape(DTYPE_F32, 32, 1, 1, 1);
    const struct weight_gradient to = {.to = &bias, .resumed = other};
    if (c->beside == SCALE) g_scale(&g, activation, 2);
    if (c->beside == SUM) g_sum_rows(&g, activation, false, 0, &to);
    cuda_narrow_graph(&g);
    ck_assert_ptr_eq(reader->in[0], c->narrowed ? activation : convert);
    ck_assert_int_eq(activation->out.type, c->narrowed ? c->type : DTYPE_F32);
    graph_free(&g);
}
END_TEST

Suite *suite_cuda_passes(void)
{
    Suite *s = suite_create("cuda_passes");
    TCase *t = tcase_create("cuda_passes");
    tcase_add_loop_test(t, test_join, 0, sizeof joins / sizeof *joins);
    tcase_add_loop_test(t, test_narrow_ops, 0, 6);
    tcase_add_loop_test(t, test_narrow_graph, 0, sizeof narrows / sizeof *narrows);
    suite_add_tcase(s, t);
    return s;
}
