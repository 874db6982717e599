// tests/test_gradient.c -- gradients of whole models: against finite differences in double, and those of the fast kernels against double.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/golden.h"
#include "tests/tests.h"
#include "train/parameters.h"
#include "train/pass.h"

enum { ROWS = 45, CONTEXT = 24, SEED = 77 };
#define FACTOR 0.25 // of the loss
#define SHARE  0.75 // of the divergence from a teacher

// Documents of several lengths, one of a single row; some rows have no target.
static void make_batch(int32_t *tokens, int32_t *targets, int32_t *documents, int64_t vocab)
{
    static const int32_t ends[] = {20, 21, 45};
    for (int32_t r = 0, d = 0; r < ROWS; r++) {
        if (r == ends[d]) d++;
        documents[r] = d;
        tokens[r] = (int32_t)(rng_uniform(1, 1, (uint64_t)r) * (double)vocab);
        targets[r] = r % 11 == 7 ? -1 : (int32_t)(rng_uniform(1, 2, (uint64_t)r) * (double)vocab);
    }
}

struct setup {
    struct tlm_model *file;
    struct tlm_model *teacher; // NULL: none
    struct parameters p;
    struct pass pass;
    struct gradient_slot *slots;
    double *gradients; // where the model runs in double
    int32_t tokens[ROWS], targets[ROWS], documents[ROWS];
};

static void open_taught(struct setup *s, const char *path, const char *teacher, const char *isa,
                        enum dtype matrices, double dropout, struct threads *threads,
                        enum recompute recompute)
{
    struct tlm_error err = {0};
    s->file = open_model(path, isa);
    s->teacher = teacher ? open_model(teacher, isa) : NULL;
    ck_assert_msg(!parameters_open(&s->p, s->file, matrices, NULL, &err), "%s", err.text);
    s->slots = calloc((size_t)s->p.count, sizeof *s->slots);
    parameters_slots(&s->p, s->slots);
    s->gradients = NULL;
    if (s->file->real == DTYPE_F64) {
        double *to = s->gradients = calloc((size_t)s->p.numbers, sizeof *to);
        for (int64_t i = 0; i < s->p.count; to += s->p.item[i++].count) {
            struct tensor *t = &s->slots[i].to;
            *t = tensor_shape(DTYPE_F64, t->ne[0], t->ne[1], t->ne[2], 1);
            t->data = to;
        }
    }
    struct pass_config config = {.rows = ROWS,
                                 .context = CONTEXT,
                                 .dropout = dropout,
                                 .gradients = true,
                                 .recompute = recompute,
                                 .teacher = s->teacher,
                                 .distill = SHARE};
    ck_assert_msg(!pass_open(&s->pass, &s->p.model, s->slots, s->p.count, &config, threads, &err), "%s: %s",
                  path, err.text);
    make_batch(s->tokens, s->targets, s->documents, s->file->hparams.vocab);
}

static void open_setup(struct setup *s, const char *path, const char *isa, enum dtype matrices,
                       double dropout, struct threads *threads, enum recompute recompute)
{
    open_taught(s, path, NULL, isa, matrices, dropout, threads, recompute);
}

static void close_setup(struct setup *s)
{
    pass_close(&s->pass);
    parameters_close(&s->p);
    tlm_model_close(s->file);
    tlm_model_close(s->teacher);
    free(s->slots);
    free(s->gradients);
}

static double run(struct setup *s, bool resumed)
{
    struct pass_batch b = {s->tokens, s->targets, s->documents};
    double loss;
    ck_assert(!pass_run(&s->pass, &b, FACTOR, resumed, SEED, &loss, NULL));
    return loss * FACTOR;
}

static double signed_draw(int64_t parameter, int64_t i)
{
    return rng_uniform(3, (uint64_t)parameter, (uint64_t)i) < 0.5 ? -1 : 1;
}

// Along a random direction of each weight, (f(w + e u) - f(w - e u)) / 2 against g . u, with the steps that f32 really made.
static void check_differences(struct setup *s, const char *name)
{
    struct pass forward; // without gradients: a third of the work
    struct pass_config config = s->pass.config;
    struct pass_batch b = {s->tokens, s->targets, s->documents};
    config.gradients = false;
    ck_assert(!pass_open(&forward, &s->p.model, NULL, 0, &config, NULL, NULL));
    run(s, false);
    for (int64_t i = 0; i < s->p.count; i++) {
        struct parameter *item = &s->p.item[i];
        if (!s->slots[i].writer) {
            ck_assert_msg(strstr(item->name, "exp_probs_b") != NULL, "%s: %s has no gradient", name,
                          item->name);
            continue; // which experts are chosen is taken as given
        }
        float *kept = malloc((size_t)item->count * sizeof *kept);
        const double *g = s->slots[i].to.data;
        double value[2], expected = 0, norm = 0;
        memcpy(kept, item->value, (size_t)item->count * sizeof *kept);
        for (int side = 0; side < 2; side++) {
            for (int64_t j = 0; j < item->count; j++)
                item->value[j] = kept[j] + (float)((side ? 1e-5 : -1e-5) * signed_draw(i, j));
            for (int64_t j = 0; j < item->count; j++)
                expected += g[j] * (item->value[j] - (double)kept[j]) * (side ? 1 : -1);
            parameter_copy(item, &s->p.model.kernels);
            ck_assert(!pass_run(&forward, &b, 0, false, SEED, &value[side], NULL));
            value[side] *= FACTOR;
        }
        for (int64_t j = 0; j < item->count; j++) norm += g[j] * g[j];
        double found = value[1] - value[0], scale = fabs(expected) + 1e-5 * sqrt(norm);
        ck_assert_msg(norm > 0 || found == 0, "%s: %s: no gradient, but the loss changes by %g", name,
                      item->name, found);
        ck_assert_msg(fabs(found - expected) <= 1e-5 * scale + 1e-13,
                      "%s: %s: expected a change of %.12g, found %.12g (norm %g)", name, item->name, expected,
                      found, sqrt(norm));
        memcpy(item->value, kept, (size_t)item->count * sizeof *kept);
        parameter_copy(item, &s->p.model.kernels);
        free(kept);
    }
    pass_close(&forward);
}

// Calls check(path) for every golden model, of every architecture; names that differ in the number of tokens are one model.
static void each_model(const char *folder, void (*check)(const char *path, int number))
{
    int count;
    char **names = golden_names(folder, &count), path[256], last[256] = "";
    for (int i = 0; i < count; i++) {
        golden_model_path(names[i], path);
        if (*folder) *strrchr(path, '.') = 0; // a folder of Hugging Face's
        if (strcmp(path, last)) check(path, i);
        memcpy(last, path, sizeof last);
        free(names[i]);
    }
    free(names);
}

// A fourth of them with dropout.
static void check_model(const char *path, int number)
{
    struct setup s;
    open_setup(&s, path, "f64", DTYPE_F32, number % 4 == 1 ? 0.3 : 0, NULL, RECOMPUTE_NONE);
    check_differences(&s, path);
    close_setup(&s);
}

START_TEST(test_finite_differences)
{
    each_model(_i ? "models" : "", check_model);
}
END_TEST

// Of each weight ||a - b|| <= tolerance (||b|| + share ||all weights' b||).
static void check_close(const struct setup *s, const struct setup *oracle, const char *what, double tolerance,
                        double share)
{
    double all = 0;
    for (int64_t i = 0; i < s->p.numbers; i++) all += oracle->gradients[i] * oracle->gradients[i];
    for (int64_t i = 0; i < s->p.count; i++) {
        const float *a = s->slots[i].to.data;
        const double *b = oracle->slots[i].to.data;
        double difference = 0, norm = 0;
        for (int64_t j = 0; j < s->p.item[i].count && s->slots[i].writer; j++) {
            difference += (a[j] - b[j]) * (a[j] - b[j]);
            norm += b[j] * b[j];
        }
        ck_assert_msg(sqrt(difference) <= tolerance * (sqrt(norm) + share * sqrt(all)),
                      "%s: %s: error %g of %g", what, s->p.item[i].name, sqrt(difference), sqrt(norm));
    }
}

static void check_tiers(const char *path, int number)
{
    struct setup oracle, s;
    open_setup(&oracle, path, "f64", DTYPE_F32, number % 4 == 1 ? 0.3 : 0, NULL, RECOMPUTE_NONE);
    double expected = run(&oracle, false);
    EACH_ISA (isa, ISA_REF) {
        open_setup(&s, path, isa_name(isa), DTYPE_F32, number % 4 == 1 ? 0.3 : 0, NULL, RECOMPUTE_NONE);
        double found = run(&s, false);
        ck_assert_msg(fabs(found - expected) <= 1e-5 * expected, "%s, %s: expected %.9g, found %.9g", path,
                      isa_name(isa), expected, found);
        check_close(&s, &oracle, path, 1e-4, 1e-3);
        close_setup(&s);
    }
    static const struct {
        enum dtype type;
        double tolerance; // rounding to 8 and to 11 bits, through all layers
    } narrow[] = {{DTYPE_BF16, 0.1}, {DTYPE_F16, 0.02}};
    for (int i = 0; i < 2; i++) {
        open_setup(&s, path, NULL, narrow[i].type, number % 4 == 1 ? 0.3 : 0, NULL, RECOMPUTE_NONE);
        run(&s, false);
        check_close(&s, &oracle, path, narrow[i].tolerance, 0.2);
        close_setup(&s);
    }
    close_setup(&oracle);
}

START_TEST(test_tiers)
{
    each_model(_i ? "models" : "", check_tiers);
}
END_TEST

// The same bits from any number of threads; two passes that are added up are twice one; what was there before is not looked at.
START_TEST(test_threads_and_sums)
{
    static const char *const paths[] = {"tests/golden/llama-plain.gguf", "tests/golden/models/gpt2-own",
                                        "tests/golden/models/mixtral-all"};
    struct setup one, more;
    struct threads *threads;
    ck_assert(!threads_open(&threads, 3, NULL));
    for (size_t m = 0; m < sizeof paths / sizeof *paths; m++) {
        open_setup(&one, paths[m], NULL, DTYPE_F32, 0.1, NULL, RECOMPUTE_NONE);
        open_setup(&more, paths[m], NULL, DTYPE_F32, 0.1, threads, RECOMPUTE_NONE);
        for (int64_t i = 0; i < more.p.count; i++)
            for (int64_t j = 0; j < more.p.item[i].count; j++) more.p.item[i].gradient[j] = NAN;
        ck_assert(run(&one, false) == run(&more, false));
        for (int64_t i = 0; i < one.p.count; i++)
            ck_assert_mem_eq(one.p.item[i].gradient, more.p.item[i].gradient,
                             (size_t)one.p.item[i].count * sizeof(float));
        run(&more, true);
        for (int64_t i = 0; i < one.p.count; i++)
            for (int64_t j = 0; j < one.p.item[i].count; j++) {
                float a = one.p.item[i].gradient[j], b = more.p.item[i].gradient[j];
                ck_assert_msg(fabsf(2 * a - b) <= 1e-5f * fabsf(a) + 1e-6f, "%s: twice %g, found %g",
                              one.p.item[i].name, a, b);
            }
        close_setup(&one);
        close_setup(&more);
    }
    threads_close(threads);
}
END_TEST

// What is computed again gives the same bits, in less memory.
static void check_recompute(const char *path, int number)
{
    struct setup kept, again;
    size_t bytes;
    double dropout = number % 4 == 1 ? 0.3 : 0;
    enum dtype matrices = number % 3 == 2 ? DTYPE_BF16 : DTYPE_F32;
    open_setup(&kept, path, NULL, matrices, dropout, NULL, RECOMPUTE_NONE);
    double loss = run(&kept, false);
    bytes = pass_size(&kept.pass).activations;
    for (enum recompute r = RECOMPUTE_ATTENTION; r <= RECOMPUTE_LAYER; r++) {
        open_setup(&again, path, NULL, matrices, dropout, NULL, r);
        ck_assert(run(&again, false) == loss);
        for (int64_t i = 0; i < kept.p.count; i++)
            ck_assert_msg(!memcmp(kept.p.item[i].gradient, again.p.item[i].gradient,
                                  (size_t)kept.p.item[i].count * sizeof(float)),
                          "%s: %s: other bits with recompute %d", path, kept.p.item[i].name, r);
        ck_assert_uint_le(pass_size(&again.pass).activations, bytes);
        close_setup(&again);
    }
    close_setup(&kept);
}

START_TEST(test_recompute)
{
    each_model(_i ? "models" : "", check_recompute);
}
END_TEST

// Beside a teacher: finite differences, the tiers, threads, what is computed again.
START_TEST(test_teachers)
{
    static const char *const pairs[][2] = {
        {"tests/golden/models/gpt2-own", "tests/golden/models/gemma2-caps"},
        {"tests/golden/models/gemma2-caps", "tests/golden/models/cohere2-four"},
        {"tests/golden/models/qwen3-plain", "tests/golden/models/mixtral-all"},
        {"tests/golden/models/mixtral-all", "tests/golden/models/deepseek-v3"},
        {"tests/golden/llama-plain.gguf", "tests/golden/llama-plain.gguf"}};
    const char *path = pairs[_i][0], *teacher = pairs[_i][1];
    struct setup oracle, one, more;
    struct threads *threads;
    ck_assert(!threads_open(&threads, 3, NULL));
    open_taught(&oracle, path, teacher, "f64", DTYPE_F32, 0.3, NULL, RECOMPUTE_NONE);
    check_differences(&oracle, path);
    double expected = run(&oracle, false);
    EACH_ISA (isa, ISA_REF) {
        open_taught(&one, path, teacher, isa_name(isa), DTYPE_F32, 0.3, NULL, RECOMPUTE_NONE);
        double loss = run(&one, false);
        ck_assert_msg(fabs(loss - expected) <= 1e-5 * expected, "%s, %s: expected %.9g, found %.9g", path,
                      isa_name(isa), expected, loss);
        check_close(&one, &oracle, path, 1e-4, 1e-3);
        for (enum recompute r = RECOMPUTE_NONE; r <= RECOMPUTE_LAYER; r++) {
            open_taught(&more, path, teacher, isa_name(isa), DTYPE_F32, 0.3, threads, r);
            ck_assert(run(&more, false) == loss);
            for (int64_t i = 0; i < one.p.count; i++)
                ck_assert_mem_eq(one.p.item[i].gradient, more.p.item[i].gradient,
                                 (size_t)one.p.item[i].count * sizeof(float));
            close_setup(&more);
        }
        close_setup(&one);
    }
    close_setup(&oracle);
    threads_close(threads);
}
END_TEST

Suite *suite_gradient(void)
{
    Suite *s = suite_create("gradient");
    TCase *t = tcase_create("gradient");
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, test_finite_differences, 0, 2);
    tcase_add_loop_test(t, test_tiers, 0, 2);
    tcase_add_loop_test(t, test_recompute, 0, 2);
    tcase_add_test(t, test_threads_and_sums);
    tcase_add_loop_test(t, test_teachers, 0, 5);
    suite_add_tcase(s, t);
    return s;
}
