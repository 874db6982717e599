// tests/test_train.c -- training as a whole: ten steps of AdamW against PyTorch's (tests/golden/train.txt), and runs that are stopped and go on.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/file.h"
#include "quant/quant.h"
#include "tests/golden.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "train/optimizer.h"
#include "train/pass.h"
#include "train/trainer.h"

enum { STEPS = 10, NAME = 64 };

// The folder of a golden model, whose name may have the number of ids behind it.
static struct tlm_model *open_golden(const char *name)
{
    char path[256];
    golden_model_path(name, path);
    *strrchr(path, '.') = 0;
    return open_model(path, NULL);
}

// Trains as scripts/golden_train.py says, and compares the losses. teacher may be NULL.
static void check_losses(const char *name, struct tlm_model *teacher, double share, const double *expected,
                         enum recompute recompute)
{
    struct golden golden = golden_read(name);
    struct tlm_error err = {0};
    struct parameters p;
    struct pass pass;
    struct optimizer *optimizer;
    struct tlm_model *file = open_golden(name);
    ck_assert_msg(!parameters_open(&p, file, DTYPE_F32, NULL, &err), "%s", err.text);
    struct gradient_slot *slots = calloc((size_t)p.count, sizeof *slots);
    parameters_slots(&p, slots);
    struct pass_config config = {.rows = golden.count,
                                 .context = golden.context,
                                 .gradients = true,
                                 .recompute = recompute,
                                 .teacher = teacher,
                                 .distill = share};
    ck_assert_msg(!pass_open(&pass, &p.model, slots, p.count, &config, NULL, &err), "%s", err.text);
    struct optimizer_options o = optimizer_defaults(OPTIMIZER_ADAMW);
    o.beta1 = 0.9, o.beta2 = 0.95, o.eps = 1e-8, o.decay = 0.1, o.clip = 0;
    struct threads *threads;
    ck_assert(!threads_open(&threads, 1, &err));
    ck_assert_msg(!optimizer_open(&optimizer, &p, &o, isa_detect(), threads, &err), "%s", err.text);

    int32_t *targets = calloc(2 * (size_t)golden.count, sizeof *targets), *documents = targets + golden.count;
    int32_t cut = strstr(name, "phi3") ? 0 : golden.count / 3, counted = 0;
    for (int32_t i = 0; i < golden.count; i++) {
        bool last = i + 1 == cut || i + 1 == golden.count;
        documents[i] = i >= cut;
        targets[i] = last ? -1 : golden.ids[i + 1];
        counted += !last;
    }
    struct pass_batch batch = {golden.ids, targets, documents};
    for (int step = 0; step <= STEPS; step++) {
        double loss;
        ck_assert_msg(!pass_run(&pass, &batch, 1.0 / counted, false, 0, &loss, &err), "%s", err.text);
        loss /= counted;
        ck_assert_msg(fabs(loss - expected[step]) <= 1e-4 * expected[step],
                      "%s, step %d: expected a loss of %.9f, found %.9f", name, step, expected[step], loss);
        optimizer_step(optimizer, 3e-3, 1);
    }
    free(targets);
    free(slots);
    optimizer_close(optimizer);
    threads_close(threads);
    pass_close(&pass);
    parameters_close(&p);
    tlm_model_close(file);
    golden_free(&golden);
}

START_TEST(test_against_pytorch)
{
    FILE *f = fopen("tests/golden/train.txt", "r");
    ck_assert_msg(f != NULL, "tests/golden/train.txt is missing: run from the root of the repository");
    char name[NAME], path[NAME + 8];
    int models = 0;
    while (fscanf(f, "%63s", name) == 1) {
        double expected[STEPS + 1];
        for (int i = 0; i <= STEPS; i++) ck_assert_int_eq(fscanf(f, "%lf", &expected[i]), 1);
        snprintf(path, sizeof path, "models/%s", name);
        check_losses(path, NULL, 0, expected, models++ % 2 ? RECOMPUTE_LAYER : RECOMPUTE_NONE);
    }
    ck_assert_int_ge(models, 55);
    fclose(f);
}
END_TEST

START_TEST(test_distilling_against_pytorch)
{
    FILE *f = fopen("tests/golden/train_distill.txt", "r");
    ck_assert_msg(f != NULL, "tests/golden/train_distill.txt is missing");
    char name[NAME], teacher[NAME], path[NAME + 16];
    double share;
    int models = 0;
    while (fscanf(f, "%63s %63s %lf", name, teacher, &share) == 3) {
        double expected[STEPS + 1];
        for (int i = 0; i <= STEPS; i++) ck_assert_int_eq(fscanf(f, "%lf", &expected[i]), 1);
        snprintf(path, sizeof path, "models/%s-0", teacher);
        struct tlm_model *m = open_golden(path);
        snprintf(path, sizeof path, "models/%s", name);
        check_losses(path, m, share, expected, models++ % 2 ? RECOMPUTE_LAYER : RECOMPUTE_NONE);
        tlm_model_close(m);
    }
    ck_assert_int_eq(models, 4);
    fclose(f);
}
END_TEST

// ---- runs -----------------------------------------------------------------------------------------------------

enum { RUN_STEPS = 12 };

struct run {
    double losses[RUN_STEPS + 1], evals[RUN_STEPS + 1]; // [step], NAN: not taken
    int64_t stop_at;                                    // 0: never
    int64_t last;
    int notes;
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

static void on_note(void *user, const char *line)
{
    (void)line;
    ((struct run *)user)->notes++;
}

static bool on_stop(void *user)
{
    const struct run *r = user;
    return r->stop_at && r->last >= r->stop_at;
}

static void configure(struct train_config *c, const char *folder, const char *dir, const char *const *more)
{
    struct tlm_error err = {0};
    char text[1024];
    snprintf(text, sizeof text,
             "[model]\narch = llama\nlayers = 2\nwidth = 32\nheads = 4\ncontext = 32\ntokenizer = "
             "tests/golden/llama-plain.gguf\n"
             "[data]\ntrain = %s/text.txt\nval = tests/golden/llama-ppl.text\n"
             "[train]\nsteps = %d\nbatch_tokens = 128\nmicro_batch = 2\ndropout = 0.1\neval_every = "
             "4\nthreads = 2\n"
             "[optimizer]\nlr = 0.003\n[checkpoint]\ndir = %s/%s\nevery = 3\n",
             folder, RUN_STEPS, folder, dir);
    ck_assert(!train_config_init(c, &err));
    ck_assert_msg(!train_config_parse(c, "test", text, strlen(text), &err), "%s", err.text);
    for (; more && *more; more++) ck_assert_msg(!train_config_set(c, *more, &err), "%s", err.text);
}

static void write_text(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/text.txt", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 400; i++)
        fprintf(f, "The %d. sheep follows the %d. one over the hill. ", i, i * i % 17);
    ck_assert(f && !fclose(f));
}

// Trains from where the folder stands; `r` keeps what earlier calls found.
static enum tlm_status go(struct run *r, const char *folder, const char *dir, const char *const *more,
                          struct tlm_error *err)
{
    struct train_config c;
    struct trainer *t;
    struct trainer_hooks hooks = {
        .step = on_step, .eval = on_eval, .stop = on_stop, .note = on_note, .user = r};
    configure(&c, folder, dir, more);
    enum tlm_status s = trainer_open(&t, &c, &hooks, err);
    if (!s) {
        s = trainer_run(t, err);
        double gap = -1;
        int64_t tokens = 0;
        if (!s) ck_assert_msg(!trainer_gap(t, &gap, &tokens, err), "%s", err->text);
        if (!s)
            ck_assert_msg(gap == 0 && tokens > 30, "expected a gap of 0, found %g over %d tokens", gap,
                          (int)tokens);
        trainer_close(t);
    }
    train_config_free(&c);
    return s;
}

static void start_run(struct run *r)
{
    *r = (struct run){0};
    for (int i = 0; i <= RUN_STEPS; i++) r->losses[i] = r->evals[i] = NAN;
}

static void check_same_file(const char *folder, const char *a, const char *b)
{
    char path[2][512], *data[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", folder, i ? b : a);
        ck_assert(!file_read(path[i], &data[i], &size[i], NULL));
    }
    ck_assert_uint_eq(size[0], size[1]);
    ck_assert_mem_eq(data[0], data[1], size[0]);
    free(data[0]);
    free(data[1]);
}

static void check_same_run(const struct run *a, const struct run *b)
{
    for (int i = 1; i <= RUN_STEPS; i++) {
        ck_assert_msg(a->losses[i] == b->losses[i], "step %d: expected a loss of %.17g, found %.17g", i,
                      a->losses[i], b->losses[i]);
        ck_assert(a->evals[i] == b->evals[i] || (isnan(a->evals[i]) && isnan(b->evals[i])));
    }
}

// The folders of both runs, then the one around them.
static void remove_runs(const struct temp_folder *temp)
{
    static const char *const names[] = {"whole", "parts"};
    for (int i = 0; i < 2; i++) {
        struct temp_folder run;
        snprintf(run.path, sizeof run.path, "%.240s/%s", temp->path, names[i]);
        ck_assert_int_ge(temp_folder_close(&run), 5);
    }
    temp_folder_close(temp);
}

// Stopped at every third step, or at any other, on other numbers of threads, with other ways of saving memory: the same bits.
START_TEST(test_going_on)
{
    static const char *const how[][3] = {
        {"precision=f32"},
        {"precision=bf16"},
        {"precision=f16"},
        {"precision=bf16", "distill=0.5", "teacher=tests/golden/llama-plain.gguf"}};
    const char *plain[5] = {how[_i][0], how[_i][1], how[_i][2]},
               *other[] = {"train.threads=1", "recompute=layer", how[_i][0], how[_i][1], how[_i][2], NULL};
    struct temp_folder temp = temp_folder_open();
    const char *folder = temp.path;
    struct tlm_error err = {0};
    struct run whole, parts;
    write_text(folder);
    start_run(&whole);
    start_run(&parts);
    ck_assert_msg(!go(&whole, folder, "whole", plain, &err), "%s", err.text);
    ck_assert(whole.losses[RUN_STEPS] < whole.losses[1]);
    for (int64_t stop = 2; stop <= RUN_STEPS + 1; stop += 2) {
        parts.stop_at = stop;
        ck_assert_msg(!go(&parts, folder, "parts", stop % 4 ? plain : other, &err), "%s", err.text);
    }
    check_same_run(&whole, &parts);
    check_same_file(folder, "whole/model.gguf", "parts/model.gguf");
    ck_assert_int_eq(parts.notes, 5);
    remove_runs(&temp);
}
END_TEST

// A damaged checkpoint is told, and the one before is taken; a run of another configuration is refused.
START_TEST(test_damaged_checkpoint)
{
    const char *other[] = {"lr=0.1", NULL};
    struct temp_folder temp = temp_folder_open();
    const char *folder = temp.path;
    char path[512];
    struct tlm_error err = {0};
    struct run whole, parts;
    write_text(folder);
    start_run(&whole);
    start_run(&parts);
    ck_assert_msg(!go(&whole, folder, "whole", NULL, &err), "%s", err.text);
    parts.stop_at = 7;
    ck_assert_msg(!go(&parts, folder, "parts", NULL, &err), "%s", err.text);
    snprintf(path, sizeof path, "%s/parts/checkpoint-00000007.gguf", folder);
    FILE *f = fopen(path, "r+");
    ck_assert(f && !fseek(f, -100, SEEK_END));
    int byte = fgetc(f);
    ck_assert(!fseek(f, -100, SEEK_END) && fputc(byte ^ 4, f) != EOF && !fclose(f));
    parts.stop_at = 0;
    ck_assert_msg(!go(&parts, folder, "parts", NULL, &err), "%s", err.text);
    ck_assert_int_eq(parts.notes, 2);
    check_same_run(&whole, &parts);
    ck_assert_int_eq(go(&parts, folder, "parts", other, &err), TLM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(err.text, "optimizer.lr"));
    remove_runs(&temp);
}
END_TEST

// Teachers that cannot teach are refused; without a name it is the model that the run goes on from, whose loss beside itself is that of dropout.
START_TEST(test_teachers)
{
    static const struct {
        const char *teacher, *message;
    } wrong[] = {
        {"teacher=tests/golden/llama-bias.gguf", "expected the 293 tokens of the model, found 131"},
        {"teacher=tests/golden/spm.gguf", "the file lacks this tensor"},
        {"teacher=no-such-file.gguf", "no-such-file.gguf"},
    };
    struct temp_folder temp = temp_folder_open();
    struct tlm_error err = {0};
    struct run r;
    write_text(temp.path);
    start_run(&r);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *more[] = {"distill=0.5", wrong[i].teacher, NULL};
        char dir[] = "wrong0";
        dir[5] = (char)(dir[5] + i);
        ck_assert_int_ne(go(&r, temp.path, dir, more, &err), TLM_OK);
        ck_assert_msg(strstr(err.text, wrong[i].message) != NULL, "%s", err.text);
        struct temp_folder run;
        snprintf(run.path, sizeof run.path, "%.240s/%s", temp.path, dir);
        temp_folder_close(&run);
    }
    const char *own[] = {"model.init=tests/golden/llama-plain.gguf",
                         "data.context=32",
                         "distill=1",
                         "lr=1e-6",
                         "dropout=0",
                         NULL};
    ck_assert_msg(!go(&r, temp.path, "whole", own, &err), "%s", err.text);
    ck_assert_msg(fabs(r.losses[1]) < 1e-9 && fabs(r.losses[RUN_STEPS]) < 1e-6,
                  "expected losses of 0, found %g and %g", r.losses[1], r.losses[RUN_STEPS]);
    struct temp_folder run;
    snprintf(run.path, sizeof run.path, "%.240s/whole", temp.path);
    temp_folder_close(&run);
    temp_folder_close(&temp);
}
END_TEST

// Weights on a grid: the graph computes with a blend of the value and the nearest number of the type, and the file has that number's bytes.
START_TEST(test_grid)
{
    static const enum dtype matrices[] = {DTYPE_F32, DTYPE_BF16};
    struct temp_folder temp = temp_folder_open();
    struct tlm_error err = {0};
    struct parameters p;
    char path[300];
    struct tlm_model *file = open_model("tests/golden/llama-bias.gguf", NULL);
    ck_assert_msg(!parameters_open(&p, file, matrices[_i], mix_find("Q4_0"), &err), "%s", err.text);
    snprintf(path, sizeof path, "%s/model.gguf", temp.path);
    ck_assert_msg(!checkpoint_write_model(&p, matrices[_i], path, &err), "%s", err.text);
    struct gguf *written;
    ck_assert_msg(!gguf_open(&written, path, &err), "%s", err.text);
    int grids = 0;
    for (int64_t i = 0; i < p.count; i++) {
        struct parameter *item = &p.item[i];
        ck_assert(item->decay || item->grid == DTYPE_COUNT);
        if (item->grid == DTYPE_COUNT) continue;
        grids++;
        size_t bytes = dtype_row_bytes(item->grid, item->count);
        char *blocks = malloc(bytes);
        float *rounded = malloc((size_t)item->count * sizeof *rounded);
        parameter_quantize(item, blocks, 0, item->count);
        quant_types[item->grid].dequantize(rounded, blocks, item->count);
        const struct gguf_tensor *t = gguf_find_tensor(written, item->name);
        ck_assert_int_eq(t->tensor.type, item->grid);
        ck_assert_mem_eq(t->tensor.data, blocks, bytes);
        for (int step = 0; step <= 2; step++) {
            parameters_round(&p, step / 2.0);
            parameter_copy(item, &file->kernels);
            for (int64_t j = 0; j < item->count; j++) {
                float x = item->value[j] + (float)step / 2 * (rounded[j] - item->value[j]);
                float found = matrices[_i] == DTYPE_F32 ? ((float *)item->copy)[j]
                                                        : f32_from_bf16(((uint16_t *)item->copy)[j]);
                ck_assert(fabsf(found - x) <= (matrices[_i] == DTYPE_F32 ? 0 : fabsf(x) / 256));
            }
        }
        free(blocks);
        free(rounded);
    }
    ck_assert_int_ge(grids, 7);
    gguf_close(written);
    parameters_close(&p);
    tlm_model_close(file);
    temp_folder_close(&temp);
}
END_TEST

Suite *suite_train(void)
{
    Suite *s = suite_create("train");
    TCase *t = tcase_create("train");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, test_against_pytorch);
    tcase_add_test(t, test_distilling_against_pytorch);
    tcase_add_loop_test(t, test_going_on, 0, 4);
    tcase_add_test(t, test_teachers);
    tcase_add_test(t, test_damaged_checkpoint);
    tcase_add_loop_test(t, test_grid, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
