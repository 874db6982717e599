// tests/test_optimizer.c -- optimizers against PyTorch's (tests/golden/optimizer.h), on every tier, for any number of threads; moments
// in fewer bits; steps that are skipped; what a checkpoint keeps.
#include "ops/ops.h"
#include "tests/golden/optimizer.h"
#include "tests/kernels.h"
#include "tests/tests.h"
#include "train/optimizer.h"

enum { TENSORS = 3, NUMBERS = 83, STEPS = 10 };

// The tensors of the golden file, or of other sizes.
struct net {
    struct parameter item[TENSORS];
    struct parameters parameters;
    float *values, *gradients;
    uint16_t *copies;
    int64_t count;
};

static struct net net_open(const int64_t shape[TENSORS][2])
{
    struct net n = {0};
    for (int i = 0; i < TENSORS; i++) n.count += shape[i][0] * shape[i][1];
    n.values = calloc((size_t)n.count, sizeof *n.values);
    n.gradients = calloc((size_t)n.count, sizeof *n.gradients);
    n.copies = calloc((size_t)n.count, sizeof *n.copies);
    ck_assert(n.values && n.gradients && n.copies);
    for (int64_t i = 0, at = 0; i < TENSORS; at += n.item[i].count, i++) {
        n.item[i] = (struct parameter){.role = i < 2 ? ROLE_MATRIX : ROLE_NORM,
                                       .cols = shape[i][1],
                                       .rows = shape[i][0],
                                       .depth = 1,
                                       .count = shape[i][0] * shape[i][1],
                                       .value = n.values + at,
                                       .gradient = n.gradients + at,
                                       .copy = n.copies + at,
                                       .copy_type = DTYPE_BF16,
                                       .decay = i < 2};
        snprintf(n.item[i].name, sizeof n.item[i].name, "tensor.%d", (int)i);
    }
    return n;
}

static const int64_t golden_shape[TENSORS][2] = {{5, 8}, {9, 4}, {1, 7}};
// More than a chunk, a broken block, and less than a block.
static const int64_t large_shape[TENSORS][2] = {{300, 257}, {77, 61}, {1, 255}};

static void net_close(struct net *n)
{
    free(n->values), free(n->gradients), free(n->copies);
}

static struct optimizer *opened(struct net *n, const struct optimizer_options *options, enum isa isa,
                                struct threads *threads)
{
    n->parameters = (struct parameters){.item = n->item, .count = TENSORS};
    struct optimizer *o;
    struct tlm_error err = {0};
    ck_assert_msg(optimizer_open(&o, &n->parameters, options, isa, threads, &err) == TLM_OK, "%s", err.text);
    return o;
}

static struct threads *threads_of(int count)
{
    struct threads *t;
    ck_assert_int_eq(threads_open(&t, count, NULL), TLM_OK);
    return t;
}

// ---- PyTorch ------------------------------------------------------------------------------------------------

static void golden_gradients_of(struct net *n, int step, double factor)
{
    for (int i = 0; i < NUMBERS; i++)
        n->gradients[i] = (float)(golden_gradients[step * NUMBERS + i] * factor);
}

// Ten steps; gradients come multiplied by 8, which the step is told to undo.
static void follow(const char *what, const struct optimizer_options *options, double rate, const double *want,
                   double tolerance)
{
    EACH_ISA (isa, ISA_REF) {
        struct net n = net_open(golden_shape);
        struct threads *threads = threads_of(2);
        struct optimizer *o = opened(&n, options, isa, threads);
        for (int i = 0; i < NUMBERS; i++) n.values[i] = (float)golden_start[i];
        for (int step = 0; step < STEPS; step++) {
            golden_gradients_of(&n, step, 8);
            ck_assert_int_eq(optimizer_step(o, rate, 1.0 / 8).outcome, OPTIMIZER_STEPPED);
        }
        double apart = rel_error(n.values, want, NUMBERS);
        ck_assert_msg(apart <= tolerance, "%s on %s: relative error %g", what, isa_name(isa), apart);
        for (int i = 0; i < NUMBERS; i++) {
            ck_assert_msg(fabs(n.values[i] - want[i]) <= tolerance * fmax(fabs(want[i]), 0.1),
                          "%s: number %d: %.9g for %.9g", what, i, n.values[i], want[i]);
            ck_assert_int_eq(n.copies[i], bf16_from_f32(n.values[i]));
        }
        optimizer_close(o), threads_close(threads), net_close(&n);
    }
}

START_TEST(test_follows_pytorch)
{
    struct optimizer_options o = optimizer_defaults(OPTIMIZER_ADAMW);
    o.beta2 = 0.999, o.clip = 0;
    follow("AdamW", &o, 0.01, golden_adamw, 1e-6);
    o = (struct optimizer_options){
        .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .decay = 0.5, .clip = 1, .iterations = 1, .window = 2};
    follow("AdamW, clipped", &o, 0.003, golden_adamw_clipped, 1e-6);
    o = optimizer_defaults(OPTIMIZER_SGD);
    o.decay = 0.01, o.clip = 0;
    follow("SGD", &o, 0.05, golden_sgd, 1e-6);
    o.nesterov = true;
    follow("SGD, Nesterov", &o, 0.05, golden_sgd_nesterov, 1e-6);
    o = optimizer_defaults(OPTIMIZER_LION);
    o.clip = 0;
    follow("Lion", &o, 0.003, golden_lion, 1e-6);
    o = optimizer_defaults(OPTIMIZER_MUON);
    o.side_rate = 0.15, o.clip = 0;
    follow("Muon", &o, 0.02, golden_muon, 1e-5); // its iterations multiply the rounding of f32
}
END_TEST

// ---- bits -------------------------------------------------------------------------------------------------------

static const enum dtype moment_types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I8};
enum { MOMENT_TYPES = 3 };

// Gradients of spread sizes: each number has its own, over six decades; some are 0.
static void random_gradients(struct net *n, int step)
{
    for (int64_t i = 0; i < n->count; i++) {
        float size = powf(10, 3 * random_signed(99, (uint64_t)i) - 4);
        n->gradients[i] = i % 41 == 7 ? 0 : size * random_signed((uint64_t)step + 100, (uint64_t)i);
    }
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3;
    return h;
}

// Of values, copies and all moments.
static uint64_t hash_all(const struct net *n, const struct optimizer *o)
{
    uint64_t h = hash_bytes(0xcbf29ce484222325, n->values, (size_t)n->count * sizeof *n->values);
    h = hash_bytes(h, n->copies, (size_t)n->count * sizeof *n->copies);
    for (int64_t i = 0; i < optimizer_state_count(o); i++) {
        struct optimizer_state s = optimizer_state(o, i);
        h = hash_bytes(h, s.data, s.bytes);
    }
    return h;
}

static uint64_t bits_after(const struct optimizer_options *options, enum isa isa, int threads, int steps)
{
    struct net n = net_open(large_shape);
    struct threads *pool = threads_of(threads);
    struct optimizer *o = opened(&n, options, isa, pool);
    fill_random(n.values, n.count, 5);
    for (int step = 0; step < steps; step++) {
        random_gradients(&n, step);
        optimizer_step(o, 0.01, 1);
    }
    uint64_t h = hash_all(&n, o);
    optimizer_close(o), threads_close(pool), net_close(&n);
    return h;
}

START_TEST(test_one_result)
{
    for (int kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_SGD; kind++) {
        for (int type = 0; type < MOMENT_TYPES; type++) {
            struct optimizer_options o = optimizer_defaults((enum optimizer_kind)kind);
            o.moments = moment_types[type];
            if (kind == OPTIMIZER_SGD && o.moments == DTYPE_I8) continue;
            enum isa first = kind == OPTIMIZER_MUON ? isa_detect() : ISA_REF;
            uint64_t want = bits_after(&o, first, 1, 5);
            // Muon's products round as those of its tier do.
            EACH_ISA (isa, first)
                for (int threads = 1; threads <= 3; threads++)
                    ck_assert_msg(bits_after(&o, isa, threads, 5) == want,
                                  "kind %d, moments %d, %s, %d threads: other bits", kind, type,
                                  isa_name(isa), threads);
        }
    }
}
END_TEST

// A matrix of several tiles, wide and tall, and a stack of them: all singular values come out near 1, those of nothing stay nothing.
START_TEST(test_orthogonal)
{
    static const int64_t shapes[][3] = {{200, 450, 1}, {450, 200, 1}, {193, 193, 2}, {2, 3, 4}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1], depth = shapes[i][2], r = rows < cols ? rows : cols;
        struct parameter item = {
            .role = ROLE_MATRIX, .rows = rows, .cols = cols, .depth = depth, .count = rows * cols * depth};
        struct parameters p = {.item = &item, .count = 1};
        item.value = calloc((size_t)item.count, sizeof(float)),
        item.gradient = calloc((size_t)item.count, sizeof(float));
        ck_assert(item.value && item.gradient);
        fill_random(item.gradient, rows * cols, 9); // the first of the stack alone
        struct threads *threads = threads_of(2);
        struct optimizer_options options = optimizer_defaults(OPTIMIZER_MUON);
        struct optimizer *o;
        ck_assert_int_eq(optimizer_open(&o, &p, &options, isa_detect(), threads, NULL), TLM_OK);
        optimizer_step(o, 1, 1);
        // The squares of the singular values add up to ||X||^2; each is between 0.6 and 1.3 at most.
        double norm = sum_squares_ref(item.value, rows * cols) / fmax(1, (double)rows / (double)cols);
        ck_assert_msg(norm > 0.36 * (double)r && norm < 1.69 * (double)r, "shape %zu: norm %g", i,
                      norm / (double)r);
        double along = 0;
        for (int64_t j = 0; j < rows * cols; j++) along += (double)item.value[j] * item.gradient[j];
        ck_assert(along < 0);
        for (int64_t j = rows * cols; j < item.count; j++) ck_assert(item.value[j] == 0);
        optimizer_close(o), threads_close(threads), free(item.value), free(item.gradient);
    }
}
END_TEST

// A kernel writes what it was given and nothing around it.
START_TEST(test_edges)
{
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 511, 513};
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        update_fn *forms[] = {k.update_adamw, k.update_lion, k.update_sgd};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes * 3 * MOMENT_TYPES; i++) {
            int64_t n = sizes[i / 9];
            enum dtype type = moment_types[i % 3];
            size_t width = dtype_row_bytes(type, 1), scales = (size_t)(n + 255) / 256 * sizeof(float);
            struct guarded value = guarded_alloc((size_t)n * 4), gradient = guarded_alloc((size_t)n * 4);
            struct guarded copy = guarded_alloc((size_t)n * 2), m = guarded_alloc((size_t)n * width);
            struct guarded v = guarded_alloc((size_t)n * width), ms = guarded_alloc(scales),
                           vs = guarded_alloc(scales);
            fill_random(value.data, n, 1), fill_random(gradient.data, n, 2);
            memset(m.data, 0, m.size), memset(v.data, 0, v.size), memset(ms.data, 0, scales),
                memset(vs.data, 0, scales);
            forms[i / 3 % 3](&(struct update_args){.value = value.data,
                                                   .copy = copy.data,
                                                   .gradient = gradient.data,
                                                   .m = {m.data, type == DTYPE_I8 ? ms.data : NULL},
                                                   .v = {v.data, type == DTYPE_I8 ? vs.data : NULL},
                                                   .moments = type,
                                                   .count = n,
                                                   .factor = 1,
                                                   .rate = 0.1f,
                                                   .keep = 1,
                                                   .beta1 = 0.9f,
                                                   .beta2 = 0.99f,
                                                   .slow1 = 0.1f,
                                                   .slow2 = 0.01f,
                                                   .root_factor = 1,
                                                   .eps = 1e-8f});
            bool finite = true;
            for (int64_t j = 0; j < n; j++)
                finite &= isfinite(((float *)value.data)[j]) && ((uint16_t *)copy.data)[j] != 0xffff;
            ck_assert_msg(finite, "%s, %d numbers: not all written", isa_name(isa), (int)n);
            ck_assert(guarded_intact(&value) && guarded_intact(&gradient) && guarded_intact(&copy));
            ck_assert(guarded_intact(&m) && guarded_intact(&v) && guarded_intact(&ms) && guarded_intact(&vs));
            guarded_free(&value), guarded_free(&gradient), guarded_free(&copy), guarded_free(&m);
            guarded_free(&v), guarded_free(&ms), guarded_free(&vs);
        }
    }
}
END_TEST

START_TEST(test_sum_squares)
{
    EACH_ISA (isa, ISA_REF) {
        struct kernels k = kernels_for(isa);
        for (int64_t n = 0; n <= 100; n++) {
            struct guarded x = guarded_alloc((size_t)n * sizeof(float));
            float *f = x.data;
            fill_random(f, n, 3);
            double want = 0;
            for (int64_t i = 0; i < n; i++) want += (double)f[i] * f[i];
            ck_assert(fabs(k.sum_squares(f, n) - want) <= 1e-14 * want);
            ck_assert(k.sum_squares(f, n) == sum_squares_ref(f, n));
            for (int64_t i = 0; i < n; i++) {
                float old = f[i];
                f[i] = i % 2 ? NAN : INFINITY;
                ck_assert(!isfinite(k.sum_squares(f, n)));
                f[i] = old;
            }
            guarded_free(&x);
        }
    }
}
END_TEST

// ---- 8 bits -----------------------------------------------------------------------------------------------------

START_TEST(test_code_maps)
{
    for (int c = 0; c < 256; c++) {
        double s = golden_map_signed[c], u = golden_map_unsigned[c];
        ck_assert_msg(fabs(number_signed((uint8_t)c) - s) <= 1e-6 * fabs(s), "signed %d: %.9g for %.9g", c,
                      number_signed((uint8_t)c), s);
        ck_assert_msg(fabs(number_unsigned((uint8_t)c) - u) <= 1e-6 * u, "unsigned %d: %.9g for %.9g", c,
                      number_unsigned((uint8_t)c), u);
        // A number that has a code becomes it whatever the chance, but for the last bits; 0 alone becomes 0 in the unsigned map.
        ck_assert_int_eq(code_signed(number_signed((uint8_t)c), 0.5f), c);
        ck_assert_int_eq(code_unsigned(number_unsigned((uint8_t)c), 0.5f), c);
    }
    ck_assert(number_signed(127) == 0 && number_signed(255) == 1 && number_unsigned(0) == 0 &&
              number_unsigned(255) == 1);
    ck_assert_int_eq(code_unsigned(1e-30f, 0.5f), 1);
    ck_assert_int_eq(code_signed(1e-30f, 0.5f), 127);
    ck_assert_int_eq(code_signed(-1, 0.5f), 0);
}
END_TEST

// The nearest code, and chances that are right on average.
START_TEST(test_code_rounding)
{
    for (int i = 0; i < 20000; i++) {
        float x = powf(10, -8.5f * (float)rng_uniform(1, 7, (uint64_t)i)), y = i % 2 ? -x : x;
        int s = code_signed(y, 0.5f), u = code_unsigned(x, 0.5f);
        double near_s = 9, near_u = 9;
        for (int c = 0; c < 256; c++) {
            near_s = fmin(near_s, fabs(golden_map_signed[c] - y));
            if (c) near_u = fmin(near_u, fabs(golden_map_unsigned[c] - x)); // 0 is left to 0
        }
        ck_assert(fabs(golden_map_signed[s] - y) <= near_s + 1e-6 * x);
        ck_assert(fabs(golden_map_unsigned[u] - x) <= near_u + 1e-6 * x);
    }
    for (int i = 0; i < 200; i++) {
        float x = powf(10, -6.4f * (float)rng_uniform(1, 8, (uint64_t)i));
        enum { DRAWS = 512 };
        double sum = 0, low = 9, high = 0;
        for (int d = 0; d < DRAWS; d++) {
            double got = number_unsigned(code_unsigned(x, ((float)d + 0.5f) / DRAWS));
            sum += got, low = fmin(low, got), high = fmax(high, got);
        }
        ck_assert(low <= x * (1 + 1e-6) && high >= x * (1 - 1e-6));
        ck_assert_msg(fabs(sum / DRAWS - x) <= (high - low) / DRAWS + 1e-6 * x,
                      "%.9g becomes %.9g on average", x, sum / DRAWS);
    }
}
END_TEST

START_TEST(test_bytes)
{
    struct parameter item[2] = {
        {.role = ROLE_MATRIX, .cols = 1024, .rows = 1024, .depth = 1, .count = 1 << 20},
        {.role = ROLE_NORM, .cols = 1024, .rows = 1, .depth = 1, .count = 1024}};
    struct parameters p = {.item = item, .count = 2};
    for (int kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_LION; kind++) {
        struct optimizer_options o = optimizer_defaults((enum optimizer_kind)kind);
        double f32 = (double)optimizer_bytes(&p, &o, 2).moments;
        o.moments = DTYPE_I8;
        ck_assert((double)optimizer_bytes(&p, &o, 2).moments <= 0.26 * f32);
        o.moments = DTYPE_BF16;
        ck_assert((double)optimizer_bytes(&p, &o, 2).moments <= 0.51 * f32);
    }
}
END_TEST

// ---- learning ---------------------------------------------------------------------------------------------------

// (w - target)^2 / 2, each number with a curvature of its own between 1e-2 and 1, seen through noise: the loss after `steps`.
static double quadratic(const struct optimizer_options *options, double rate, int steps)
{
    static const int64_t shape[TENSORS][2] = {{64, 96}, {5, 8}, {1, 16}};
    struct net n = net_open(shape);
    struct threads *threads = threads_of(2);
    struct optimizer *o = opened(&n, options, isa_detect(), threads);
    double loss = 0;
    for (int step = 0; step <= steps; step++) {
        loss = 0;
        for (int64_t i = 0; i < n.count; i++) {
            float curve = powf(10, random_signed(1, (uint64_t)i) - 1),
                  away = n.values[i] - random_signed(2, (uint64_t)i);
            loss += 0.5 * curve * away * away / (double)n.count;
            n.gradients[i] = curve * (away + 0.05f * random_signed((uint64_t)step + 10, (uint64_t)i));
        }
        // The rate falls to nothing, so that what remains is not the size of the last steps.
        optimizer_step(o, rate * (1 - (double)step / (steps + 1)), 1);
    }
    optimizer_close(o), threads_close(threads), net_close(&n);
    return loss;
}

START_TEST(test_converges)
{
    static const struct {
        enum optimizer_kind kind;
        double rate;
    } ways[] = {{OPTIMIZER_ADAMW, 0.02}, {OPTIMIZER_LION, 0.01}, {OPTIMIZER_MUON, 0.2}, {OPTIMIZER_SGD, 0.5}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        for (int type = 0; type < MOMENT_TYPES; type++) {
            struct optimizer_options o = optimizer_defaults(ways[i].kind);
            if (ways[i].kind == OPTIMIZER_SGD && moment_types[type] == DTYPE_I8) continue;
            o.decay = 0, o.clip = 0, o.moments = moment_types[type];
            double loss = quadratic(&o, ways[i].rate, 500);
            ck_assert_msg(loss < 1e-4, "kind %d, moments %d: loss %g", ways[i].kind, type, loss); // from 0.03
        }
    }
}
END_TEST

// ---- steps that are skipped --------------------------------------------------------------------------------------

START_TEST(test_not_finite)
{
    struct net n = net_open(golden_shape);
    struct threads *threads = threads_of(2);
    struct optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    struct optimizer *o = opened(&n, &options, isa_detect(), threads);
    golden_gradients_of(&n, 0, 1);
    optimizer_step(o, 0.01, 1);
    uint64_t before = hash_all(&n, o);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < NUMBERS; i++) {
        float old = n.gradients[i];
        n.gradients[i] = bad[i % 3];
        ck_assert_int_eq(optimizer_step(o, 0.01, 1).outcome, OPTIMIZER_NOT_FINITE);
        n.gradients[i] = old;
    }
    ck_assert(hash_all(&n, o) == before);
    ck_assert_int_eq(optimizer_progress(o)->not_finite, NUMBERS);
    ck_assert_int_eq(optimizer_progress(o)->updates, 1);
    // A norm that is finite though the squares of its numbers are not, as floats.
    for (int i = 0; i < NUMBERS; i++) n.gradients[i] = 3e38f;
    struct optimizer_report r = optimizer_step(o, 0.01, 1);
    ck_assert_int_eq(r.outcome, OPTIMIZER_STEPPED);
    ck_assert(fabs(r.norm / (3e38 * sqrt(NUMBERS)) - 1) < 1e-6 && fabs(r.clipped * r.norm - 1) < 1e-6);
    for (int i = 0; i < NUMBERS; i++) ck_assert(isfinite(n.values[i]));
    optimizer_close(o), threads_close(threads), net_close(&n);
}
END_TEST

START_TEST(test_outliers)
{
    struct net n = net_open(golden_shape);
    struct threads *threads = threads_of(1);
    struct optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
    options.outlier = 6, options.window = 20;
    struct optimizer *o = opened(&n, &options, isa_detect(), threads);
    for (int step = 0; step < 100; step++) {
        fill_random(n.gradients, n.count, (uint64_t)step);
        ck_assert_int_eq(optimizer_step(o, 0.01, 1).outcome, OPTIMIZER_STEPPED);
    }
    uint64_t before = hash_all(&n, o);
    double mean = optimizer_progress(o)->mean;
    ck_assert_int_eq(optimizer_step(o, 0.01, 10).outcome, OPTIMIZER_OUTLIER);
    ck_assert(hash_all(&n, o) == before);
    ck_assert(optimizer_progress(o)->mean < 1.2 * mean);
    ck_assert_int_eq(optimizer_progress(o)->outliers, 1);
    int skipped = 0; // norms that stay high become the rule
    while (optimizer_step(o, 0.01, 10).outcome == OPTIMIZER_OUTLIER) ck_assert_int_lt(++skipped, 50);
    optimizer_close(o), threads_close(threads), net_close(&n);
}
END_TEST

// ---- checkpoints --------------------------------------------------------------------------------------------------

START_TEST(test_state)
{
    for (int type = 0; type < MOMENT_TYPES; type++) {
        struct optimizer_options options = optimizer_defaults(OPTIMIZER_ADAMW);
        options.moments = moment_types[type], options.outlier = 6;
        struct net a = net_open(large_shape), b = net_open(large_shape);
        struct threads *threads = threads_of(2);
        struct optimizer *from = opened(&a, &options, isa_detect(), threads),
                         *to = opened(&b, &options, isa_detect(), threads);
        for (int step = 0; step < 3; step++) random_gradients(&a, step), optimizer_step(from, 0.01, 1);
        memcpy(b.values, a.values, (size_t)a.count * sizeof *a.values);
        memcpy(b.copies, a.copies, (size_t)a.count * sizeof *a.copies);
        ck_assert_int_eq(optimizer_state_count(from), type == 2 ? 10 : 6);
        size_t bytes = 0;
        for (int64_t i = 0; i < optimizer_state_count(from); i++) {
            struct optimizer_state x = optimizer_state(from, i), y = optimizer_state(to, i);
            ck_assert_str_eq(x.name, y.name);
            ck_assert(x.bytes == y.bytes && x.type == y.type);
            ck_assert(x.bytes == dtype_row_bytes(x.type, x.ne[0] * x.ne[1] * x.ne[2]));
            memcpy(y.data, x.data, x.bytes);
            bytes += align_up(x.bytes, 64);
        }
        ck_assert_uint_eq(bytes, optimizer_bytes(&a.parameters, &options, 2).moments);
        *optimizer_progress(to) = *optimizer_progress(from);
        for (int step = 3; step < 6; step++) {
            random_gradients(&a, step), random_gradients(&b, step);
            struct optimizer_report x = optimizer_step(from, 0.01, 1), y = optimizer_step(to, 0.01, 1);
            ck_assert(x.norm == y.norm && x.clipped == y.clipped);
        }
        ck_assert(hash_all(&a, from) == hash_all(&b, to));
        ck_assert_mem_eq(optimizer_progress(from), optimizer_progress(to), sizeof(struct optimizer_progress));
        ck_assert_str_eq(optimizer_state(from, 0).name, "tensor.0.m");
        optimizer_close(from), optimizer_close(to), threads_close(threads), net_close(&a), net_close(&b);
    }
}
END_TEST

START_TEST(test_refused)
{
    struct optimizer_options good = optimizer_defaults(OPTIMIZER_ADAMW), bad[8];
    for (int i = 0; i < 8; i++) bad[i] = good;
    bad[0].beta1 = 1, bad[1].beta2 = -0.1, bad[2].eps = NAN, bad[3].clip = INFINITY,
    bad[4].moments = DTYPE_F16;
    bad[5].window = 1, bad[6].iterations = 0, bad[7].kind = OPTIMIZER_SGD, bad[7].moments = DTYPE_I8;
    struct net n = net_open(golden_shape);
    n.parameters = (struct parameters){.item = n.item, .count = TENSORS};
    struct threads *threads = threads_of(1);
    for (int i = 0; i < 8; i++) {
        struct optimizer *o;
        struct tlm_error err = {0};
        ck_assert_msg(optimizer_open(&o, &n.parameters, &bad[i], ISA_REF, threads, &err) == TLM_ERR_ARGUMENT,
                      "options %d were taken", i);
        ck_assert(!o);
    }
    threads_close(threads), net_close(&n);
}
END_TEST

Suite *suite_optimizer(void)
{
    Suite *s = suite_create("optimizer");
    TCase *t = tcase_create("optimizer");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_follows_pytorch);
    tcase_add_test(t, test_one_result);
    tcase_add_test(t, test_orthogonal);
    tcase_add_test(t, test_edges);
    tcase_add_test(t, test_sum_squares);
    tcase_add_test(t, test_code_maps);
    tcase_add_test(t, test_code_rounding);
    tcase_add_test(t, test_bytes);
    tcase_add_test(t, test_converges);
    tcase_add_test(t, test_not_finite);
    tcase_add_test(t, test_outliers);
    tcase_add_test(t, test_state);
    tcase_add_test(t, test_refused);
    suite_add_tcase(s, t);
    return s;
}
