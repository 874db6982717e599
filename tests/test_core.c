// tests/test_core.c -- threads, the graph planner, conversions of numbers, the tiers, random numbers.
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/cpu.h"
#include "core/graph.h"
#include "core/rng.h"
#include "tests/tests.h"

// ---- threads ------------------------------------------------------------------------------------------

struct shared {
    struct threads *pool;
    atomic_int entered[64];
    int order_broken;
};

static void meet(void *user, int thread)
{
    struct shared *s = user;
    (void)thread;
    for (int round = 0; round < 64; round++) {
        atomic_fetch_add(&s->entered[round], 1);
        threads_barrier(s->pool);
        // Behind the barrier everybody's arrival is visible.
        if (atomic_load(&s->entered[round]) != threads_count(s->pool)) s->order_broken = 1;
        threads_barrier(s->pool);
    }
}

START_TEST(test_barrier)
{
    static const int counts[] = {1, 2, 3, 4, 9};
    for (size_t i = 0; i < 5; i++) {
        struct shared s = {0};
        ck_assert_int_eq(threads_open(&s.pool, counts[i], NULL), TLM_OK);
        for (int run = 0; run < 50; run++) {
            memset(s.entered, 0, sizeof s.entered);
            threads_run(s.pool, meet, &s);
            ck_assert_int_eq(s.order_broken, 0);
        }
        threads_close(s.pool);
    }
}
END_TEST

START_TEST(test_threads_refuse)
{
    struct threads *pool;
    struct tlm_error err;
    ck_assert_int_eq(threads_open(&pool, 0, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, "threads: expected 1 to 1024, found 0");
    ck_assert_int_eq(threads_open(&pool, 5000, &err), TLM_ERR_ARGUMENT);
}
END_TEST

// ---- the graph ----------------------------------------------------------------------------------------

// Two toy ops: `fill` writes its param everywhere, `sum` adds its inputs; units are single numbers, so that threads mix.
static int64_t toy_units(const struct graph *g, const struct node *n)
{
    return graph_rows(g, n) * n->out.ne[0];
}

static void toy_fill(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)scratch;
    for (int64_t i = begin; i < end; i++) ((float *)n->out.data)[i] = *(const float *)n->params + (float)i;
}

static void toy_sum(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch)
{
    (void)g, (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        float s = 0;
        for (int j = 0; j < n->input_count; j++) s += ((const float *)n->in[j]->out.data)[i];
        ((float *)n->out.data)[i] = s;
    }
}

static const struct op toys[] = {{"fill", toy_units, toy_fill, NULL, false},
                                 {"sum", toy_units, toy_sum, NULL, false},
                                 {"light sum", toy_units, toy_sum, NULL, true}};

static struct node *sum(struct graph *g, struct node *a, struct node *b, bool light)
{
    return graph_node(g, light ? 2 : 1, a->out, EXTENT_ROWS, NULL, 0, (struct node *[]){a, b}, 2);
}

// A chain with skips: node i is node i-1 plus node i/2, over columns that differ from node to node in nothing but place. With
// `local`, two of three nodes are light and every thread runs them for itself.
static void check_chain(int threads, int32_t rows, bool local)
{
    enum { LENGTH = 40, COLS = 33, ROWS = 7 };
    int32_t counts[EXTENT_COUNT] = {[EXTENT_ROWS] = rows};
    struct graph g;
    struct threads *pool;
    ck_assert_int_eq(graph_init(&g, toys, NULL, DTYPE_F32, counts, NULL), TLM_OK);
    ck_assert_int_eq(threads_open(&pool, threads, NULL), TLM_OK);
    struct tensor shape = tensor_shape(DTYPE_F32, COLS, ROWS, 1, 1);
    struct node *chain[LENGTH];
    float one = 1;
    g.threads = local ? threads : 0;
    chain[0] = graph_node(&g, 0, shape, EXTENT_ROWS, &one, sizeof one, NULL, 0);
    for (int i = 1; i < LENGTH; i++) chain[i] = sum(&g, chain[i - 1], chain[i / 2], i % 3 != 0);
    struct node *unused = sum(&g, chain[3], chain[4], false); // nobody reads it: it must not run
    ck_assert_int_eq(graph_plan(&g, &chain[LENGTH - 1], 1, NULL), TLM_OK);
    ck_assert_int_eq(g.order_count, LENGTH);
    ck_assert_int_eq(unused->phase, 0);
    // Each node waits for the one before it. Local: the first, every third, and the last, which is the root, are shared.
    ck_assert_int_eq(chain[LENGTH - 1]->phase, local ? 14 : LENGTH);
    ck_assert_uint_lt(g.arena_bytes,
                      LENGTH * align_up(tensor_bytes(&shape), ARENA_ALIGN)); // places are used again
    size_t local_bytes = align_up(g.local_bytes * (size_t)g.threads, ARENA_ALIGN);
    void *memory = aligned_alloc(ARENA_ALIGN, g.arena_bytes),
         *own = aligned_alloc(ARENA_ALIGN, local_bytes + ARENA_ALIGN);
    memset(memory, 0xff, g.arena_bytes);
    memset(own, 0xff, local_bytes);
    graph_bind(&g, memory, own);
    graph_run(&g, pool, NULL);
    double factor[LENGTH] = {1};
    for (int i = 1; i < LENGTH; i++) factor[i] = factor[i - 1] + factor[i / 2];
    const float *out = chain[LENGTH - 1]->out.data;
    for (int i = 0; i < rows * COLS; i++)
        ck_assert_double_eq_tol(out[i], factor[LENGTH - 1] * (1 + i), 1e-6 * out[i]);
    for (int i = rows * COLS; i < ROWS * COLS; i++)
        ck_assert(isnan(out[i])); // rows that the step lacks stay untouched
    threads_close(pool);
    graph_free(&g);
    free(memory), free(own);
}

START_TEST(test_graph)
{
    for (int threads = 1; threads <= 4; threads++)
        for (int32_t rows = 1; rows <= 7; rows += 3)
            check_chain(threads, rows, false), check_chain(threads, rows, true);
}
END_TEST

// ---- numbers ------------------------------------------------------------------------------------------

START_TEST(test_f16)
{
    // binary16 as IEEE 754 draws it, through the C library's arithmetic.
    for (uint32_t h = 0; h < 0x10000; h++) {
        double sign = h & 0x8000 ? -1 : 1, mantissa = h & 0x3ff;
        int exponent = h >> 10 & 31;
        float x = f32_from_f16((uint16_t)h);
        if (exponent == 31) {
            if (mantissa != 0)
                ck_assert(isnan(x));
            else
                ck_assert_float_eq(x, (float)(sign * INFINITY));
        } else {
            double want = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
            ck_assert_double_eq(x, sign * want);
            ck_assert_uint_eq(f16_from_f32(x), h);
        }
    }
    ck_assert_uint_eq(f16_from_f32(65519.0f), 0x7bff);
    ck_assert_uint_eq(f16_from_f32(65520.0f), 0x7c00); // halfway rounds to even: infinity
    ck_assert_uint_eq(f16_from_f32(0x1p-25f), 0);      // halfway to the smallest rounds to even: zero
    ck_assert_uint_eq(f16_from_f32(0x1.8p-24f), 2);
    ck_assert_uint_eq(f16_from_f32(1.0f + 0x1p-11f), 0x3c00);
    ck_assert_uint_eq(f16_from_f32(1.0f + 0x3p-11f), 0x3c02);
}
END_TEST

START_TEST(test_bf16)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = f32_from_bf16((uint16_t)h);
        if (isnan(x))
            ck_assert(isnan(f32_from_bf16(bf16_from_f32(x))));
        else
            ck_assert_uint_eq(bf16_from_f32(x), h);
    }
    ck_assert_uint_eq(bf16_from_f32(f32_of_bits(0x3f808000)), 0x3f80); // halfway, even below
    ck_assert_uint_eq(bf16_from_f32(f32_of_bits(0x3f818000)), 0x3f82); // halfway, even above
    ck_assert_uint_eq(bf16_from_f32(f32_of_bits(0x7f7fffff)), 0x7f80); // the largest becomes infinity
}
END_TEST

// E4M3 as the specification draws it; rounding at every midpoint and beside it, and at the ends.
START_TEST(test_f8_e4m3)
{
    for (int code = 0; code < 256; code++) {
        double sign = code & 0x80 ? -1 : 1, fraction = code & 7;
        int exponent = code >> 3 & 15;
        float x = f32_from_f8_e4m3((uint8_t)code);
        if ((code & 0x7f) == 0x7f) {
            ck_assert(isnan(x));
        } else {
            ck_assert_double_eq(x,
                                sign * (exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9)));
            ck_assert(!signbit(x) == !(code & 0x80));
        }
        ck_assert_uint_eq(f8_e4m3_from_f32(x), (unsigned)code);
    }
    for (int code = 0; code < 0x7e; code++) {
        float low = f32_from_f8_e4m3((uint8_t)code), high = f32_from_f8_e4m3((uint8_t)(code + 1));
        float middle = (low + high) / 2; // exact
        for (int sign = 0; sign < 2; sign++) {
            float s = sign ? -1.0f : 1.0f;
            unsigned bit = sign ? 0x80 : 0;
            ck_assert_uint_eq(f8_e4m3_from_f32(s * middle), bit | (unsigned)(code + code % 2));
            ck_assert_uint_eq(f8_e4m3_from_f32(s * nextafterf(middle, 0)), bit | (unsigned)code);
            ck_assert_uint_eq(f8_e4m3_from_f32(s * nextafterf(middle, 1000)), bit | (unsigned)(code + 1));
            ck_assert_uint_eq(f8_e4m3_from_f32(s * nextafterf(high, 0)), bit | (unsigned)(code + 1));
        }
    }
    static const float large[] = {448, 449, 463.9f, 464, 480, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        ck_assert_uint_eq(f8_e4m3_from_f32(large[i]), 0x7e);
        ck_assert_uint_eq(f8_e4m3_from_f32(-large[i]), 0xfe);
    }
    ck_assert_uint_eq(f8_e4m3_from_f32(f32_of_bits(1)), 0); // a subnormal float
    ck_assert_uint_eq(f8_e4m3_from_f32(-0.0f), 0x80);
    ck_assert_uint_eq(f8_e4m3_from_f32(-NAN), 0xff);
}
END_TEST

START_TEST(test_philox)
{
    // Known answers of the authors' library (Random123, kat_vectors: philox4x32 10).
    uint32_t r[4];
    rng_philox(0, 0, 0, r);
    ck_assert_uint_eq(r[0], 0x6627e8d5);
    ck_assert_uint_eq(r[1], 0xe169c58d);
    ck_assert_uint_eq(r[2], 0xbc57ac4c);
    ck_assert_uint_eq(r[3], 0x9b00dbd8);
    rng_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, r);
    ck_assert_uint_eq(r[0], 0x408f276d);
    ck_assert_uint_eq(r[1], 0x41c83b0e);
    ck_assert_uint_eq(r[2], 0xa20bc7c6);
    ck_assert_uint_eq(r[3], 0x6d5451fd);
}
END_TEST

START_TEST(test_isa)
{
    enum isa isa;
    struct tlm_error err;
    ck_assert_int_eq(isa_parse(&isa, NULL, &err), TLM_OK);
    ck_assert_int_eq(isa, isa_detect());
    ck_assert_int_eq(isa_parse(&isa, "ref", &err), TLM_OK);
    ck_assert_int_eq(isa, ISA_REF);
    ck_assert_int_eq(isa_parse(&isa, "f64", &err), TLM_OK);
    ck_assert_int_eq(isa, ISA_F64);
    ck_assert_int_eq(isa_parse(&isa, "avx1024", &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "avx1024"));
    ck_assert(isa_supported(isa_detect()) && isa_supported(ISA_REF) && isa_supported(ISA_F64));
    for (int i = 0; i < ISA_F64; i++) {
        enum tlm_status s = isa_parse(&isa, isa_name((enum isa)i), &err);
        ck_assert_int_eq(s, isa_supported((enum isa)i) ? TLM_OK : TLM_ERR_UNSUPPORTED);
    }
}
END_TEST

START_TEST(test_error_prefix)
{
    struct tlm_error err;
    error_set(&err, TLM_ERR_FORMAT, "expected %d", 3);
    ck_assert_int_eq(error_prefix(&err, "file %s", "a"), TLM_ERR_FORMAT);
    ck_assert_str_eq(err.text, "file a: expected 3");
    char longer[2000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    error_set(&err, TLM_ERR_IO, "%s", longer);
    error_prefix(&err, "%s", longer);
    ck_assert_uint_lt(strlen(err.text), sizeof err.text);
}
END_TEST

Suite *suite_core(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("core");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_barrier);
    tcase_add_test(t, test_threads_refuse);
    tcase_add_test(t, test_graph);
    tcase_add_test(t, test_f16);
    tcase_add_test(t, test_bf16);
    tcase_add_test(t, test_f8_e4m3);
    tcase_add_test(t, test_philox);
    tcase_add_test(t, test_isa);
    tcase_add_test(t, test_error_prefix);
    suite_add_tcase(s, t);
    return s;
}
