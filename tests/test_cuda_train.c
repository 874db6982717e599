// tests/test_cuda_train.c -- training on the GPU's kernels, on the emulation: ten steps of AdamW against the CPU's, the same bits in every
// order of threads, and a run that is stopped and goes on.
#include <check.h>
#include <stdio.h>

#include "cuda/kernels.h"
#include "ops/backend.h"
#include "tests/cuda_emu/control.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "train/trainer.h"

enum { STEPS = 10 };

// A model and how it is trained: on its golden tokens, as two documents, in `passes` passes a step.
struct training {
    const char *model; // golden file of ids
    enum dtype matrices, moments;
    enum recompute recompute;
    int passes;
    double dropout, tolerance, rate; // rate: of learning
    enum optimizer_kind optimizer;
    const char *teacher; // golden folder, for half of the loss; NULL: none
};

// What holds a training together, from opening to closing.
struct setup {
    struct tlm_model *file, *teacher;
    struct parameters p;
    struct gradient_slot *slots;
    struct pass pass;
    struct threads *threads;
    struct optimizer *optimizer;
};

static struct tlm_model *open_on(const char *path, const char *backend)
{
    struct tlm_error err = {0};
    struct tlm_model *m;
    ck_assert_msg(!tlm_model_open(&m, path, &(struct tlm_model_options){.backend = backend}, &err), "%s",
                  err.text);
    return m;
}

static void open_setup(struct setup *s, const struct golden *g, const struct training *t, const char *backend)
{
    struct tlm_error err = {0};
    char path[256];
    golden_model_path(t->model, path);
    *strrchr(path, '.') = 0; // a folder
    s->file = open_on(path, backend);
    s->teacher = t->teacher ? open_on(t->teacher, backend) : NULL;
    ck_assert_msg(!parameters_open(&s->p, s->file, t->matrices, NULL, &err), "%s", err.text);
    s->slots = calloc((size_t)s->p.count, sizeof *s->slots);
    parameters_slots(&s->p, s->slots);
    struct pass_config config = {.rows = g->count,
                                 .context = g->context,
                                 .gradients = true,
                                 .recompute = t->recompute,
                                 .dropout = t->dropout,
                                 .teacher = s->teacher,
                                 .distill = 0.5};
    ck_assert_msg(!pass_open(&s->pass, &s->p.model, s->slots, s->p.count, &config, NULL, &err), "%s: %s",
                  t->model, err.text);
    struct optimizer_options o = optimizer_defaults(t->optimizer);
    o.moments = t->moments;
    ck_assert(!threads_open(&s->threads, 1, &err));
    ck_assert_msg(!optimizer_open(&s->optimizer, &s->p, &o, isa_detect(), s->threads, &err), "%s", err.text);
}

static void close_setup(struct setup *s)
{
    optimizer_close(s->optimizer);
    threads_close(s->threads);
    pass_close(&s->pass);
    parameters_close(&s->p);
    tlm_model_close(s->file);
    tlm_model_close(s->teacher);
    free(s->slots);
}

// The losses in front of each step, and the norm of each step's gradient.
static void train(double losses[STEPS], double norms[STEPS], const struct training *t, const char *backend,
                  int steps)
{
    struct golden g = golden_read(t->model);
    struct setup s;
    struct tlm_error err = {0};
    open_setup(&s, &g, t, backend);
    int32_t *targets = calloc(2 * (size_t)g.count, sizeof *targets), *documents = targets + g.count;
    int32_t cut = g.count / 3, counted = 0;
    for (int32_t i = 0; i < g.count; i++) {
        bool last = i + 1 == cut || i + 1 == g.count;
        documents[i] = i >= cut;
        targets[i] = last ? -1 : g.ids[i + 1];
        counted += !last;
    }
    struct pass_batch batch = {g.ids, targets, documents};
    for (int step = 0; step < steps; step++) {
        losses[step] = 0;
        for (int pass = 0; pass < t->passes; pass++) {
            double loss;
            ck_assert_msg(!pass_run(&s.pass, &batch, 1.0 / (counted * t->passes), pass > 0,
                                    (uint64_t)(step * t->passes + pass), &loss, &err),
                          "%s", err.text);
            losses[step] += loss / (counted * t->passes);
        }
        struct optimizer_report r = optimizer_step(s.optimizer, t->rate, 1);
        ck_assert_msg(r.outcome == OPTIMIZER_STEPPED, "%s", r.error.text);
        norms[step] = r.norm;
    }
    free(targets);
    close_setup(&s);
    golden_free(&g);
}

// In bf16 the device's attention is rounded, the CPU's is not. At a rate of 1e-3 weights that differ in the last bit of f32 lead the CPU's own
// losses 1.3e-3 apart, and its tiers are 1.9e-3 from each other: where roundings turn, a shorter stride tells more.
#define PLAIN .moments = DTYPE_F32, .passes = 1, .tolerance = 1e-4, .rate = 3e-3
static const struct training trainings[] = {
    {"models/llama-llama3-20", PLAIN, .recompute = RECOMPUTE_LAYER}, // grouped heads
    {"models/qwen2-tied-20", DTYPE_F32, DTYPE_F32, RECOMPUTE_ATTENTION, 2, 0, 1e-4, 3e-3, OPTIMIZER_ADAMW,
     NULL}, // one matrix for tokens and logits
    {"models/qwen3-plain-20", DTYPE_F32, DTYPE_BF16, RECOMPUTE_LAYER, 2, 0.1, 1e-4, 3e-3, OPTIMIZER_ADAMW,
     NULL},
    {"models/gpt2-four-40", DTYPE_F32, DTYPE_F32, RECOMPUTE_NONE, 1, 0.2, 1e-4, 3e-3, OPTIMIZER_ADAMW, NULL},
    {"models/gemma2-plain-20", PLAIN},
    {"models/bloom-six-40", PLAIN},
    {"models/cohere-norms-33", PLAIN},
    {"models/llama-llama3-20", DTYPE_BF16, DTYPE_F32, RECOMPUTE_NONE, 1, 0, 1e-3, 3e-4, OPTIMIZER_ADAMW,
     NULL},
    {"models/granite-plain-40", DTYPE_BF16, DTYPE_F32, RECOMPUTE_NONE, 1, 0, 1e-3, 1e-3, OPTIMIZER_ADAMW,
     NULL}, // on tensor cores
    {"models/gpt2-four-40", DTYPE_BF16, DTYPE_BF16, RECOMPUTE_LAYER, 2, 0.1, 1e-3, 3e-3, OPTIMIZER_ADAMW,
     NULL},
    {"models/llama-llama3-20", PLAIN, .optimizer = OPTIMIZER_MUON},
    {"models/gpt2-four-40", DTYPE_F32, DTYPE_I8, RECOMPUTE_NONE, 1, 0, 1e-4, 3e-3, OPTIMIZER_ADAMW, NULL},
    {"models/llama-llama3-20", DTYPE_F32, DTYPE_BF16, RECOMPUTE_NONE, 1, 0, 1e-4, 3e-4, OPTIMIZER_LION, NULL},
    {"models/llama-llama3-20", DTYPE_F32, DTYPE_I8, RECOMPUTE_NONE, 1, 0, 1e-4, 3e-4, OPTIMIZER_LION, NULL},
    {"models/gpt2-four-40", DTYPE_F32, DTYPE_BF16, RECOMPUTE_NONE, 1, 0, 1e-4, 0.1, OPTIMIZER_SGD, NULL},
    {"models/qwen3moe-plain-33", PLAIN, .recompute = RECOMPUTE_LAYER},  // experts
    {"models/gpt-oss-truncate-33", PLAIN},                              // with biases, and sinks
    {"models/deepseek-v3-20", PLAIN, .recompute = RECOMPUTE_ATTENTION}, // latent attention, groups of experts
    // Where a rounding turns a row to another expert, the last bit of f32 leads the CPU 4e-3 from itself, and its tiers are 6e-3 apart.
    {"models/mixtral-all-40", DTYPE_BF16, DTYPE_F32, RECOMPUTE_NONE, 2, 0, 1e-2, 3e-4, OPTIMIZER_ADAMW, NULL},
    {"models/deepseek-v2-40", DTYPE_BF16, DTYPE_F32, RECOMPUTE_NONE, 1, 0, 1e-2, 3e-4, OPTIMIZER_ADAMW, NULL},
    {"models/qwen2-tied-20", DTYPE_F16, DTYPE_F32, RECOMPUTE_NONE, 1, 0, 1e-3, 3e-3, OPTIMIZER_ADAMW, NULL},
    // Beside teachers of other architectures
    {"models/gpt2-own-20", PLAIN, .dropout = 0.1, .teacher = "tests/golden/models/gemma2-caps"},
    {"models/qwen3-plain-20", DTYPE_BF16, DTYPE_F32, RECOMPUTE_LAYER, 2, 0, 1e-3, 1e-3, OPTIMIZER_ADAMW,
     "tests/golden/models/mixtral-all"},
};
enum { TRAININGS = sizeof trainings / sizeof *trainings };

START_TEST(test_against_cpu)
{
    const struct training *t = &trainings[_i];
    double losses[2][STEPS], norms[2][STEPS];
    emu_set_order((enum emu_order)(_i % EMU_ORDERS), (uint64_t)_i);
    for (int i = 0; i < 2; i++) train(losses[i], norms[i], t, i ? "cuda" : "cpu", STEPS);
    for (int step = 0; step < STEPS; step++)
        ck_assert_msg(fabs(losses[1][step] - losses[0][step]) <= t->tolerance * losses[0][step],
                      "%s, step %d: expected a loss of %.9f, found %.9f", t->model, step, losses[0][step],
                      losses[1][step]);
    ck_assert_msg(fabs(norms[1][0] - norms[0][0]) <= 10 * t->tolerance * norms[0][0],
                  "%s: expected a norm of %.9f, found %.9f", t->model, norms[0][0], norms[1][0]);
    const double fallen = losses[1][STEPS - 1] / losses[1][0]; // ten steps at a low rate go less far
    ck_assert_msg(fallen < (t->rate < 1e-3 ? 0.9 : 0.7), "%s: the loss fell to %.3f of what it was", t->model,
                  fallen);
}
END_TEST

// ---- every architecture -----------------------------------------------------------------------------------

static const char *const every[] = {
    "bloom-eight-33",    "cohere-norms-33",   "cohere2-four-33",  "deepseek-v2-lite-33", "deepseek-v3-20",
    "ernie4_5-head-40",  "gemma2-windows-40", "gemma3-linear-20", "gpt-oss-yarn-40",     "gpt2-own-20",
    "gptneox-serial-40", "granite-plain-40",  "llama-linear-33",  "mistral-window-33",   "mixtral-window-33",
    "olmo2-grouped-33",  "phi3-part-33",      "qwen2-windows-33", "qwen3-window-33",     "qwen3moe-norm-20",
    "starcoder2-all-33",
};
enum { EVERY = sizeof every / sizeof *every };

// One pass over the golden tokens, in documents of so many; the gradients are the host's when it returns.
static void take_gradients(struct setup *s, const struct golden *g, int32_t length)
{
    struct tlm_error err = {0};
    double loss;
    int32_t *targets = calloc(2 * (size_t)g->count, sizeof *targets), *documents = targets + g->count;
    for (int32_t i = 0; i < g->count; i++) {
        targets[i] = (i + 1) % length ? g->ids[i + 1] : -1;
        documents[i] = i / length;
    }
    const struct pass_batch batch = {g->ids, targets, documents};
    ck_assert_msg(!pass_run(&s->pass, &batch, 1.0 / g->count, false, 0, &loss, &err), "%s", err.text);
    struct backend *b = s->p.model.backend;
    for (int64_t i = 0; b && i < s->p.count; i++)
        if (s->slots[i].writer) ck_assert(!b->class->training->pull(b, &s->slots[i].to, &err));
    free(targets);
}

// Each weight's gradient against the CPU's, which tests/test_gradient.c holds against finite differences in double.
static void compare_gradients(const struct training *t, const struct golden *g, int32_t length)
{
    struct setup s[2];
    for (int i = 0; i < 2; i++) {
        open_setup(&s[i], g, t, i ? "cuda" : "cpu");
        take_gradients(&s[i], g, length);
    }
    for (int64_t i = 0; i < s[0].p.count; i++) {
        const struct parameter *p = &s[0].p.item[i];
        if (!s[0].slots[i].writer) continue;
        double *expected = malloc((size_t)p->count * sizeof *expected);
        for (int64_t j = 0; j < p->count; j++) expected[j] = p->gradient[j];
        const double error = rel_error(s[1].p.item[i].gradient, expected, p->count);
        ck_assert_msg(error <= t->tolerance, "%s: %s: error %g", t->model, p->name, error);
        free(expected);
    }
    for (int i = 0; i < 2; i++) close_setup(&s[i]);
}

START_TEST(test_every_gradient)
{
    char model[64];
    snprintf(model, sizeof model, "models/%s", every[_i]);
    const struct training t = {
        .model = model, .matrices = DTYPE_F32, .moments = DTYPE_F32, .tolerance = 2e-5};
    struct golden g = golden_read(model);
    emu_set_order((enum emu_order)(_i % EMU_ORDERS), (uint64_t)_i);
    compare_gradients(&t, &g, g.count);
    golden_free(&g);
}
END_TEST

// Of rows enough for products that add bias and residual themselves: the golden tokens several times, each a document.
START_TEST(test_many_rows)
{
    static const struct training many[] = {
        {"models/gpt2-own-20", DTYPE_F32, DTYPE_F32, .tolerance = 2e-5},
        {"models/gpt2-own-20", DTYPE_BF16, DTYPE_F32, .tolerance = 2e-2},
        {"models/gpt2-four-40", DTYPE_BF16, DTYPE_F32, RECOMPUTE_LAYER, .tolerance = 2e-2},
        {"models/starcoder2-all-33", DTYPE_BF16, DTYPE_F32, RECOMPUTE_ATTENTION, .tolerance = 2e-2},
    };
    enum { TIMES = 5 };
    struct golden once = golden_read(many[_i].model), g = once;
    g.count = TIMES * once.count;
    g.ids = malloc((size_t)g.count * sizeof *g.ids);
    for (int32_t i = 0; i < g.count; i++) g.ids[i] = once.ids[i % once.count];
    emu_set_order((enum emu_order)(_i % EMU_ORDERS), (uint64_t)_i);
    compare_gradients(&many[_i], &g, once.count);
    free(g.ids);
    golden_free(&once);
}
END_TEST

// Whatever runs first: nothing is added up in the order of luck.
START_TEST(test_same_bits)
{
    static const struct training t = {
        "models/qwen2-tied-20", DTYPE_BF16, DTYPE_BF16, RECOMPUTE_LAYER, 1, 0.1, 0, 3e-3,
        OPTIMIZER_ADAMW,        NULL};
    enum { FEW = 3 };
    double losses[EMU_ORDERS][STEPS] = {{0}}, norms[EMU_ORDERS][STEPS] = {{0}};
    for (int order = 0; order < EMU_ORDERS; order++) {
        emu_set_order((enum emu_order)order, 7);
        train(losses[order], norms[order], &t, "cuda", FEW);
        ck_assert_mem_eq(losses[order], losses[0], sizeof *losses);
        ck_assert_mem_eq(norms[order], norms[0], sizeof *norms);
    }
}
END_TEST

// ---- runs ---------------------------------------------------------------------------------------------

enum { RUN_STEPS = 6 };

struct run {
    double losses[RUN_STEPS + 1], evals[RUN_STEPS + 1];
    int64_t stop_at, last;
};

static void on_step(void *user, const struct trainer_step *t)
{
    struct run *r = user;
    r->losses[t->step] = t->loss;
    r->last = t->step;
}

static void on_eval(void *user, const struct trainer_eval *e)
{
    ((struct run *)user)->evals[e->step] = e->loss;
}

static bool on_stop(void *user)
{
    const struct run *r = user;
    return r->stop_at && r->last >= r->stop_at;
}

// Trains from where the folder stands. Returns how training and generating from the written model differ.
static double go(struct run *r, const char *folder, const char *dir, const char *backend,
                 const char *precision)
{
    struct tlm_error err = {0};
    struct train_config c;
    struct trainer *t;
    struct trainer_hooks hooks = {.step = on_step, .eval = on_eval, .stop = on_stop, .user = r};
    char text[1024];
    double gap = -1;
    int64_t tokens = 0;
    snprintf(
        text, sizeof text,
        "[model]\narch = llama\nlayers = 1\nwidth = 32\nheads = 4\nkv_heads = 2\ncontext = 16\ntokenizer = "
        "tests/golden/llama-plain.gguf\n"
        "[data]\ntrain = %s/text.txt\nval = %s/text.txt\n"
        "[train]\nsteps = %d\nbatch_tokens = 64\nmicro_batch = 2\ndropout = 0.1\neval_every = 2\n"
        "eval_batches = 1\nbackend = %s\nthreads = 1\nprecision = %s\n"
        "[optimizer]\nlr = 0.003\nstate = bf16\n[checkpoint]\ndir = %s/%s\nevery = 2\n",
        folder, folder, RUN_STEPS, backend, precision, folder, dir);
    ck_assert(!train_config_init(&c, &err));
    ck_assert_msg(!train_config_parse(&c, "test", text, strlen(text), &err), "%s", err.text);
    ck_assert_msg(!trainer_open(&t, &c, &hooks, &err), "%s", err.text);
    ck_assert_msg(!trainer_run(t, &err), "%s", err.text);
    ck_assert_msg(!trainer_gap(t, &gap, &tokens, &err), "%s", err.text);
    ck_assert_int_gt(tokens, 10);
    trainer_close(t);
    train_config_free(&c);
    return gap;
}

static void write_text(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/text.txt", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 60; i++)
        fprintf(f, "The %d. sheep follows the %d. one over the hill. ", i, i * i % 17);
    ck_assert(f && !fclose(f));
}

static void remove_run(const struct temp_folder *temp, const char *name)
{
    struct temp_folder run;
    snprintf(run.path, sizeof run.path, "%.240s/%s", temp->path, name);
    ck_assert_int_ge(temp_folder_close(&run), 4);
}

// Weights and moments come back from the device, and go there again, also where they are on a grid: the same losses to the bit.
START_TEST(test_going_on_cuda)
{
    static const char *const precision[] = {"f32", "bf16", "f32\nquantize = Q8_0\nquantize_warmup = 2"};
    static const double gaps[] = {1e-4, 0.05, 0.05};
    struct temp_folder temp = temp_folder_open();
    struct run whole = {.stop_at = 0}, parts = {.stop_at = 0};
    write_text(temp.path);
    const int64_t launches = emu_launches();
    const double gap = go(&whole, temp.path, "whole", "cuda", precision[_i]);
    ck_assert_int_gt(emu_launches(), launches);
    ck_assert_msg(gap <= gaps[_i], "a gap of %g", gap);
    for (parts.stop_at = 2; parts.stop_at <= RUN_STEPS; parts.stop_at += 3)
        go(&parts, temp.path, "parts", "cuda", precision[_i]);
    go(&parts, temp.path, "parts", "cuda", precision[_i]);
    for (int i = 1; i <= RUN_STEPS; i++) {
        ck_assert_double_eq(whole.losses[i], parts.losses[i]);
        ck_assert_double_eq(whole.evals[i], parts.evals[i]);
    }
    ck_assert(whole.losses[RUN_STEPS] < whole.losses[1]);
    remove_run(&temp, "whole"), remove_run(&temp, "parts");
    temp_folder_close(&temp);
}
END_TEST

// A teacher's quantized weights are those of its file; a run on the device has the losses of one on the processor.
START_TEST(test_quantized_teacher)
{
    struct temp_folder temp = temp_folder_open();
    struct run taught[2] = {{.stop_at = 0}}, teacher = {.stop_at = 0};
    char how[512];
    write_text(temp.path);
    go(&teacher, temp.path, "teacher", "cpu", "f32\nquantize = Q8_0");
    snprintf(how, sizeof how, "bf16\ndistill = 0.75\nteacher = %.250s/teacher/model.gguf", temp.path);
    go(&taught[0], temp.path, "cpu", "cpu", how);
    go(&taught[1], temp.path, "cuda", "cuda", how);
    for (int i = 1; i <= RUN_STEPS; i++)
        ck_assert_msg(fabs(taught[1].losses[i] - taught[0].losses[i]) < 5e-3 * taught[0].losses[i],
                      "step %d: expected a loss of %.6f, found %.6f", i, taught[0].losses[i],
                      taught[1].losses[i]);
    remove_run(&temp, "teacher"), remove_run(&temp, "cpu"), remove_run(&temp, "cuda");
    temp_folder_close(&temp);
}
END_TEST

// A step whose gradient is not finite changes nothing, the device says so, and the next goes on from there.
START_TEST(test_skipped_cuda)
{
    static const struct training t = {
        "models/qwen2-tied-20", DTYPE_F16, DTYPE_F32, RECOMPUTE_NONE, 1, 0, 0, 3e-3, OPTIMIZER_ADAMW, NULL};
    struct golden g = golden_read(t.model);
    struct setup s;
    struct tlm_error err = {0};
    double loss, first = 0;
    open_setup(&s, &g, &t, "cuda");
    int32_t *targets = calloc((size_t)g.count, sizeof *targets),
            *documents = calloc((size_t)g.count, sizeof *documents);
    for (int32_t i = 0; i < g.count; i++) targets[i] = i + 1 == g.count ? -1 : g.ids[i + 1];
    struct pass_batch batch = {g.ids, targets, documents};
    static const double scales[] = {1e38, 1e38, 65536, 1e38, 65536}; // also of steps that are recorded
    for (int step = 0; step < 5; step++) {
        ck_assert_msg(!pass_run(&s.pass, &batch, scales[step], false, 0, &loss, &err), "%s", err.text);
        if (!step) first = loss;
        if (step <= 2) ck_assert_double_eq(loss, first); // nothing has changed yet
        struct optimizer_report r = optimizer_step(s.optimizer, t.rate, 1 / scales[step]);
        ck_assert_int_eq(r.outcome, scales[step] > 1e30 ? OPTIMIZER_NOT_FINITE : OPTIMIZER_STEPPED);
        if (step > 2) ck_assert(loss < first);
    }
    ck_assert_int_eq(optimizer_progress(s.optimizer)->updates, 2);
    ck_assert_int_eq(optimizer_progress(s.optimizer)->not_finite, 3);
    free(targets), free(documents);
    close_setup(&s);
    golden_free(&g);
}
END_TEST

Suite *suite_cuda_train(void)
{
    Suite *s = suite_create("cuda_train");
    TCase *t = tcase_create("cuda_train");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_against_cpu, 0, TRAININGS);
    tcase_add_loop_test(t, test_every_gradient, 0, EVERY);
    tcase_add_loop_test(t, test_many_rows, 0, 4);
    tcase_add_test(t, test_same_bits);
    tcase_add_loop_test(t, test_going_on_cuda, 0, 3);
    tcase_add_test(t, test_quantized_teacher);
    tcase_add_test(t, test_skipped_cuda);
    suite_add_tcase(s, t);
    return s;
}
