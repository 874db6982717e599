// tests/test_cuda_experts.c -- the GPU's kernels of mixtures of experts and of products of many matrices, on the emulation, against the
// references in double.
#include "cuda/experts.h"
#include "cuda/planes.h"
#include "quant/quant.h"
#include "tests/cuda_kernels.h"
#include "tests/tests.h"

// ---- who gets which row ---------------------------------------------------------------------------------

static const struct route_case {
    int32_t experts, used, groups, groups_used;
    enum route_gate gate;
    bool normalize, bias;
} routes[] = {
    {8, 2, 1, 1, ROUTE_SOFTMAX, true, false},         {5, 5, 1, 1, ROUTE_SOFTMAX, false, false},
    {60, 4, 1, 1, ROUTE_SOFTMAX_CHOSEN, false, true}, {64, 6, 8, 3, ROUTE_SOFTMAX, false, false},
    {96, 8, 8, 4, ROUTE_SIGMOID, true, true},         {1, 1, 1, 1, ROUTE_SIGMOID, false, false},
};
enum { ROUTES = sizeof routes / sizeof *routes };

// The weights against the reference; the experts are its.
START_TEST(test_route)
{
    const struct route_case *c = &routes[_i];
    double logits[MOST * 96], bias[96], out[USED * 16], scratch[3 * 96], weights[USED * 8];
    float *dlogits = random_device(logits, MOST * c->experts, 21, 3),
          *dbias = random_device(bias, c->experts, 22, 1);
    float *y = empty_device(MOST * 2 * c->used);
    const struct route_args a = {out,     logits,    c->bias ? bias : NULL, USED,    c->experts,
                                 c->used, c->groups, c->groups_used,        c->gate, c->normalize,
                                 2.5,     scratch};
    kernels_for_f64().route_fwd(&a);
    orders(_i);
    const struct cuda_route d = {y,
                                 dlogits,
                                 c->bias ? dbias : NULL,
                                 some_rows(USED, MOST),
                                 c->experts,
                                 c->used,
                                 c->groups,
                                 c->groups_used,
                                 c->gate,
                                 c->normalize,
                                 2.5f};
    cuda_route(NULL, &d);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    for (int r = 0; r < USED; r++) {
        const double *w = out + 2 * r * c->used;
        for (int i = 0; i < c->used; i++) {
            int32_t found;
            memcpy(&found, y + 2 * r * c->used + c->used + i, sizeof found);
            ck_assert_int_eq(found, ((const int32_t *)(w + c->used))[i]);
            weights[i] = w[i];
        }
        ck_assert_msg(agrees(y + 2 * r * c->used, weights, c->used, 1e-6), "row %d", r);
    }
    ck_assert(isnan(y[USED * 2 * c->used]));
    done();
}
END_TEST

// ---- their order ----------------------------------------------------------------------------------------

enum { EXPERTS = 7, CHOICES = 3, SORTED_ROWS = 50, SORTED_USED = 37, PAIRS = SORTED_ROWS * CHOICES };

static struct cuda_order empty_order(void)
{
    int32_t *p = device(NULL, (2 * EXPERTS + 2 + 3 * PAIRS) * sizeof *p);
    return (struct cuda_order){p,
                               p + 1,
                               p + 1 + EXPERTS,
                               p + 2 * EXPERTS + 2,
                               p + 2 * EXPERTS + 2 + PAIRS,
                               p + 2 * EXPERTS + 2 + 2 * PAIRS};
}

// Three of seven experts for each of some rows; nobody chooses expert 2.
static float *make_route(double *weights)
{
    float route[SORTED_ROWS * 2 * CHOICES];
    for (int r = 0; r < SORTED_ROWS; r++)
        for (int i = 0; i < CHOICES; i++) {
            const int32_t expert = (3 + (r * 5 + i * 2) % (EXPERTS - 1)) % EXPERTS;
            const float w = random_signed(31, (uint64_t)(r * CHOICES + i));
            if (weights) weights[r * CHOICES + i] = w;
            route[r * 2 * CHOICES + i] = w;
            memcpy(route + r * 2 * CHOICES + CHOICES + i, &expert, sizeof expert);
        }
    return device(route, sizeof route);
}

static int32_t expert_of(const float *route, int32_t pair)
{
    int32_t e;
    memcpy(&e, route + pair / CHOICES * 2 * CHOICES + CHOICES + pair % CHOICES, sizeof e);
    return e;
}

START_TEST(test_sort_experts)
{
    const struct cuda_order o = empty_order();
    const float *route = make_route(NULL);
    orders(_i);
    cuda_sort_experts(NULL, &o, route, some_rows(SORTED_USED, SORTED_ROWS), EXPERTS, CHOICES);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_int_eq(o.offset[0], 0);
    ck_assert_int_eq(o.offset[EXPERTS], SORTED_USED * CHOICES);
    int32_t active = 0;
    for (int32_t e = 0; e < EXPERTS; e++) {
        if (o.offset[e + 1] > o.offset[e]) ck_assert_int_eq(o.active[active++], e);
        for (int32_t i = o.offset[e]; i < o.offset[e + 1]; i++) {
            ck_assert_int_eq(o.expert[i], e);
            ck_assert_int_eq(expert_of(route, o.source[i]), e);
            ck_assert_int_eq(o.place[o.source[i]], i);
            if (i > o.offset[e]) ck_assert_int_lt(o.source[i - 1], o.source[i]);
        }
    }
    ck_assert_int_eq(o.active_count[0], active);
    done();
}
END_TEST

// gather, a bias of each expert, and combine: sum over a row's choices of weight (x + b of the expert).
START_TEST(test_gather_combine)
{
    enum { COLS = 33 };
    static double x[SORTED_ROWS * COLS], b[EXPERTS * COLS], y[SORTED_USED * COLS], weights[PAIRS];
    const struct cuda_order o = empty_order();
    const float *route = make_route(weights);
    const struct cuda_rows rows = some_rows(SORTED_USED, SORTED_ROWS),
                           pairs = some_rows(SORTED_USED * CHOICES, PAIRS);
    float *dx = random_device(x, SORTED_ROWS * COLS, 32, 1), *db = random_device(b, EXPERTS * COLS, 33, 1);
    float *gathered = empty_device(PAIRS * COLS), *biased = empty_device(PAIRS * COLS),
          *out = empty_device(SORTED_ROWS * COLS);
    orders(_i);
    cuda_sort_experts(NULL, &o, route, rows, EXPERTS, CHOICES);
    cuda_gather_experts(NULL, gathered, dx, DTYPE_F32, &o, pairs, COLS, CHOICES);
    cuda_bias_experts(NULL, biased, gathered, db, &o, pairs, COLS);
    cuda_combine_experts(NULL, out, biased, route, &o, rows, COLS, CHOICES);
    for (int r = 0; r < SORTED_USED; r++)
        for (int c = 0; c < COLS; c++) {
            y[r * COLS + c] = 0;
            for (int i = 0; i < CHOICES; i++)
                y[r * COLS + c] += weights[r * CHOICES + i] *
                                   (x[r * COLS + c] + b[expert_of(route, r * CHOICES + i) * COLS + c]);
        }
    expect("experts", out, y, SORTED_USED, SORTED_ROWS, COLS, 1e-6);
    done();
}
END_TEST

// Rows that were converted before they are gathered, as products take them: the same as the other way round.
START_TEST(test_gather_types)
{
    enum { COLS = 96 };
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_Q8_1};
    const struct cuda_order o = empty_order();
    const float *route = make_route(NULL), *x = random_device(NULL, SORTED_ROWS * COLS, 32, 1);
    const struct cuda_rows rows = some_rows(SORTED_USED, SORTED_ROWS),
                           pairs = some_rows(SORTED_USED * CHOICES, PAIRS);
    float *gathered = empty_device(PAIRS * COLS);
    void *converted = device(NULL, SORTED_ROWS * COLS * 2), *found = device(NULL, PAIRS * COLS * 2),
         *expected = device(NULL, PAIRS * COLS * 2);
    cuda_sort_experts(NULL, &o, route, rows, EXPERTS, CHOICES);
    cuda_gather_experts(NULL, gathered, x, DTYPE_F32, &o, pairs, COLS, CHOICES);
    cuda_convert(NULL, expected, types[_i], gathered, pairs, COLS);
    cuda_convert(NULL, converted, types[_i], x, rows, COLS);
    cuda_gather_experts(NULL, found, converted, types[_i], &o, pairs, COLS, CHOICES);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    ck_assert_mem_eq(found, expected, PAIRS * COLS * 2);
    done();
}
END_TEST

// ---- products of many matrices --------------------------------------------------------------------------

static const enum dtype grouped_types[] = {DTYPE_F32,  DTYPE_F16,   DTYPE_BF16, DTYPE_Q8_0,
                                           DTYPE_Q4_K, DTYPE_MXFP4, DTYPE_NF4};
enum { GROUPED_TYPES = sizeof grouped_types / sizeof *grouped_types };

// `count` matrices (n, k): in double, and on the device.
static struct cuda_matrix make_stack(double *numbers, enum dtype type, int64_t count, int64_t n, int64_t k)
{
    struct tensor t = tensor_shape(type, k, n, count, 1);
    float *row = malloc((size_t)k * sizeof *row);
    t.data = malloc(tensor_bytes(&t));
    for (int64_t r = 0; r < count * n; r++) {
        for (int64_t i = 0; i < k; i++) row[i] = random_signed(7, (uint64_t)(r * k + i));
        quant_types[type].quantize(tensor_row(&t, r), row, k, NULL);
        quant_types[type].dequantize(row, tensor_row(&t, r), k);
        for (int64_t i = 0; i < k; i++) numbers[r * k + i] = row[i];
    }
    char *planes = calloc(1, planes_bytes(&t));
    const struct cuda_matrix host = planes_matrix(&t, planes, 0);
    planes_put_rows(planes, (char *)host.scales, &t, 0, count * n);
    const struct cuda_matrix w = planes_matrix(&t, device(planes, planes_bytes(&t)), 0);
    free(row), free(planes), free(t.data);
    return w;
}

// Activations (most, cols) as the kernel takes them, and what they are then in double.
static const void *make_activations(double *numbers, enum dtype input, int32_t used, int64_t most,
                                    int64_t cols)
{
    const float *x = random_device(numbers, most * cols, 3, 2);
    if (input == DTYPE_F32) return x;
    void *converted = device(NULL, (size_t)(most * cols) * 4);
    cuda_convert(NULL, converted, input, x, some_rows(used, most), cols);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    const struct cuda_q8 q = cuda_q8_at(converted, most, cols);
    for (int64_t i = 0; i < used * cols; i++)
        numbers[i] = input == DTYPE_BF16 ? (double)f32_from_bf16(((const uint16_t *)converted)[i])
                                         : (double)q.scales[i / 32] * q.codes[i];
    return converted;
}

static void multiply(double *y, const double *x, const double *w, int64_t n, int64_t k)
{
    for (int64_t o = 0; o < n; o++) {
        y[o] = 0;
        for (int64_t i = 0; i < k; i++) y[o] += x[i] * w[o * k + i];
    }
}

// Experts of few rows and of many, and one that has none.
START_TEST(test_matmul_experts)
{
    enum { COUNT = 4, N = 37, K = 256, MANY = 190 };
    static const int32_t firsts[][COUNT + 1] = {
        {0, 1, 1, 3, 4}, {0, 11, 11, 14, 20}, {0, 100, 101, 101, 180}};
    static double w[COUNT * N * K], x[MANY * K], y[MANY * N];
    const enum dtype type = grouped_types[_i];
    for (int c = 0; c < 3; c++) {
        const int32_t used = firsts[c][COUNT];
        const int64_t most = used + 5;
        const struct cuda_matrix m = make_stack(w, type, COUNT, N, K);
        const void *dx = make_activations(x, cuda_matmul_input(type), used, most, K);
        float *out = empty_device(most * N);
        for (int e = 0; e < COUNT; e++)
            for (int32_t r = firsts[c][e]; r < firsts[c][e + 1]; r++)
                multiply(y + r * N, x + r * K, w + e * N * K, N, K);
        orders(_i + c);
        cuda_matmul_grouped(NULL, out, dx, &m, some_rows(used, most),
                            (struct cuda_groups){COUNT, device(firsts[c], sizeof firsts[c])});
        expect(dtype_traits[type].name, out, y, used, most, N, 1e-5);
        done();
    }
}
END_TEST

// What plain and quantized weights of many rows are multiplied with, from what was made of x, and how far the result may be off.
struct many {
    const void *x;
    size_t bytes; // of scratch
    double tolerance;
};

// The scratch has room for `matrices` of quantized ones, or for parts of one.
static struct many make_many(double *numbers, const struct cuda_matrix *m, int64_t count, int64_t matrices,
                             int32_t used, int64_t most, int64_t cols)
{
    const bool quantized = dtype_traits[m->type].block_size > 1;
    const int64_t outputs = matrices ? matrices * m->outputs : m->outputs / 2;
    size_t bytes = cuda_matmul_many_scratch(m, count, most, cols);
    if (quantized) bytes -= (size_t)((count * m->outputs - outputs) * m->inputs) * 2;
    return (struct many){make_activations(numbers, cuda_matmul_many_input(m->type), used, most, cols), bytes,
                         quantized ? 3e-3 : 1e-5};
}

// Experts with less than a tile of 128 rows, more, and none, by tiles that the device copies and without them; quantized ones in slabs.
START_TEST(test_matmul_experts_many)
{
    enum { COUNT = 4, N = 37, K = 256, MOST_ROWS = 300 };
    static const int32_t first[COUNT + 1] = {0, 100, 101, 101, 290};
    static double w[COUNT * N * K], x[MOST_ROWS * K], y[MOST_ROWS * N];
    const enum dtype type = grouped_types[_i];
    for (int c = 0; c < 4; c++) {
        const int32_t used = first[COUNT];
        const struct cuda_matrix m = make_stack(w, type, COUNT, N, K);
        const struct many many = make_many(x, &m, COUNT, c, used, MOST_ROWS, K);
        float *out = empty_device(MOST_ROWS * N);
        for (int e = 0; e < COUNT; e++)
            for (int32_t r = first[e]; r < first[e + 1]; r++)
                multiply(y + r * N, x + r * K, w + e * N * K, N, K);
        orders(_i + c);
        emu_set_tiles(c % 2);
        cuda_matmul_many(NULL, out, many.x, &m, some_rows(used, MOST_ROWS),
                         (struct cuda_groups){COUNT, device(first, sizeof first)}, device(NULL, many.bytes),
                         many.bytes);
        expect(dtype_traits[type].name, out, y, used, MOST_ROWS, N, many.tolerance);
        done();
    }
    emu_set_tiles(true);
}
END_TEST

START_TEST(test_matmul_heads_many)
{
    enum { HEADS = 3, N = 22, K = 256, ROWS = 135 };
    static double w[HEADS * N * K], x[ROWS * HEADS * K], y[ROWS * HEADS * N];
    const enum dtype type = grouped_types[_i];
    for (int c = 0; c < 4; c++) {
        const struct cuda_matrix m = make_stack(w, type, HEADS, N, K);
        const struct many many = make_many(x, &m, HEADS, c, ROWS, ROWS, HEADS * K);
        float *out = empty_device(ROWS * HEADS * N);
        for (int32_t r = 0; r < ROWS; r++)
            for (int h = 0; h < HEADS; h++)
                multiply(y + (r * HEADS + h) * N, x + (r * HEADS + h) * K, w + h * N * K, N, K);
        orders(_i + c);
        emu_set_tiles(c % 2);
        cuda_matmul_many(NULL, out, many.x, &m, (struct cuda_rows){NULL, ROWS},
                         (struct cuda_groups){HEADS, NULL}, device(NULL, many.bytes), many.bytes);
        expect(dtype_traits[type].name, out, y, ROWS, ROWS, HEADS * N, many.tolerance);
        done();
    }
    emu_set_tiles(true);
}
END_TEST

// Heads: each part of a row by a matrix of its own.
START_TEST(test_matmul_heads)
{
    enum { HEADS = 3, N = 21, K = 256, ROWS = 20 };
    static double w[HEADS * N * K], x[ROWS * HEADS * K], y[ROWS * HEADS * N];
    static const int32_t sizes[] = {1, 2, 17};
    const enum dtype type = grouped_types[_i];
    for (int c = 0; c < 3; c++) {
        const int32_t used = sizes[c];
        const int64_t most = used + c;
        const struct cuda_matrix m = make_stack(w, type, HEADS, N, K);
        const void *dx = make_activations(x, cuda_matmul_input(type), used, most, HEADS * K);
        float *out = empty_device(most * HEADS * N);
        for (int32_t r = 0; r < used; r++)
            for (int h = 0; h < HEADS; h++)
                multiply(y + (r * HEADS + h) * N, x + (r * HEADS + h) * K, w + h * N * K, N, K);
        orders(_i + c);
        cuda_matmul_grouped(NULL, out, dx, &m, some_rows(used, most), (struct cuda_groups){HEADS, NULL});
        expect(dtype_traits[type].name, out, y, used, most, HEADS * N, 1e-5);
        done();
    }
}
END_TEST

START_TEST(test_hadamard_cuda)
{
    static double x[MOST * WIDEST], y[MOST * WIDEST];
    for (int32_t block = 1; block <= 512; block *= 2) {
        const int64_t cols = 2 * block;
        float *dx = random_device(x, MOST * cols, 5, 3), *out = empty_device(MOST * cols);
        orders(block);
        ((void (*)(double *, const double *, int64_t, int64_t))kernels_for_f64().hadamard_fwd)(
            y, x, USED * cols, block);
        cuda_hadamard(NULL, out, dx, some_rows(USED, MOST), cols, block);
        expect("hadamard", out, y, USED, MOST, cols, 1e-6);
        done();
    }
}
END_TEST

Suite *suite_cuda_experts(void)
{
    Suite *s = suite_create("cuda_experts");
    TCase *t = tcase_create("cuda_experts");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_route, 0, ROUTES);
    tcase_add_loop_test(t, test_sort_experts, 0, 3);
    tcase_add_loop_test(t, test_gather_combine, 0, 3);
    tcase_add_loop_test(t, test_gather_types, 0, 2);
    tcase_add_loop_test(t, test_matmul_experts, 0, GROUPED_TYPES);
    tcase_add_loop_test(t, test_matmul_heads, 0, GROUPED_TYPES);
    tcase_add_loop_test(t, test_matmul_experts_many, 0, GROUPED_TYPES);
    tcase_add_loop_test(t, test_matmul_heads_many, 0, GROUPED_TYPES);
    tcase_add_test(t, test_hadamard_cuda);
    suite_add_tcase(s, t);
    return s;
}
