#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "generate/clock.h"
#include "models/create.h"
#include "ops/backend.h"
#include "train/inputs.h"

// Rows of a pass, where the configuration leaves it open: enough for the processor, and for a device with hundreds of tiles at a time. What a
// row leaves for the way back is some 64 bytes a layer and column.
enum { PASS_ROWS = 2048, DEVICE_PASS_ROWS = 16384, ROW_BYTES = 64 };
// The scale of the loss with matrices of f16, whose gradients would else be lost below 6e-8 where they are f16 too. It is halved when a gradient
// overflows, and doubled after so many steps without. Micikevicius et al., arXiv 1710.03740, section 3.2.
enum { SCALE_FIRST = 1 << 16, SCALE_MOST = 1 << 24, SCALE_STEPS = 2000 };

struct trainer {
    const struct train_config *config;
    struct trainer_hooks hooks;
    char *text; // of the resolved configuration
    char model_path[CHECKPOINT_PATH];
    struct threads *threads;
    struct tlm_model *file;    // what the run began with
    struct tlm_model *teacher; // `file` or another; NULL: none
    struct parameters parameters;
    struct gradient_slot *slots;
    struct pass pass, eval_pass;
    struct dataset *train, *val; // val may be NULL
    struct optimizer *optimizer;
    struct schedule schedule;
    struct checkpoint_state state;
    struct checkpoint_writer writer;
    enum dtype matrices;
    int64_t context, micro_batch, passes, steps;
    double flops;                                     // a token
    int32_t *tokens, *targets, *positions, *segments; // (passes * micro_batch * context)
};

static void note(const struct trainer *t, const char *line)
{
    if (t->hooks.note) t->hooks.note(t->hooks.user, line);
}

static int64_t rows_of(const struct trainer *t)
{
    return t->micro_batch * t->context;
}

// ---- the model ------------------------------------------------------------------------------------------------

static const char *backend_of(const struct trainer *t)
{
    return t->config->train.backend == CONFIG_CUDA ? "cuda" : "cpu";
}

// The model that a run begins with stays in its folder, so that going on needs nothing else.
static enum tlm_status make_model(struct trainer *t, struct tlm_error *err)
{
    const struct train_config *c = t->config;
    struct stat there;
    if (!stat(t->model_path, &there)) return TLM_OK;
    if (c->model.init) return inputs_copy_model(c->model.init, t->model_path, err);
    struct create_options o = {.arch = c->model.arch,
                               .pairs = c->model.pairs,
                               .pair_count = c->model.pair_count,
                               .tokenizer = c->model.tokenizer,
                               .seed = c->train.seed,
                               .threads = (int)c->train.threads};
    return model_create(t->model_path, &o, err);
}

static enum tlm_status open_model(struct trainer *t, struct tlm_error *err)
{
    enum tlm_status s = make_model(t, err);
    static const enum dtype types[] = {
        [CONFIG_F32] = DTYPE_F32, [CONFIG_BF16] = DTYPE_BF16, [CONFIG_F16] = DTYPE_F16};
    t->matrices = types[t->config->train.precision];
    const struct tlm_model_options options = {.backend = backend_of(t), .tensor_split = "1"};
    if (s || (s = tlm_model_open(&t->file, t->model_path, &options, err))) return s;
    if (t->file->backend) note(t, tlm_model_backend(t->file));
    if (!t->file->arch)
        return error_set(err, TLM_ERR_ARGUMENT, "%s: expected a model, found a vocabulary", t->model_path);
    t->context = t->config->data.context ? t->config->data.context : t->file->hparams.context;
    if (t->context > t->file->hparams.context)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "data.context: expected at most the %lld tokens of the model, found %lld",
                         (long long)t->file->hparams.context, (long long)t->context);
    const struct mix *mix = NULL;
    const char *name = t->config->train.quantize;
    if (name && (!(mix = mix_find(name)) || mix_is_composite(mix)))
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "train.quantize: expected a type or mix of `tinylm quantize` that GGUF has, found '%s'", name);
    return parameters_open(&t->parameters, t->file, t->matrices, mix, err);
}

// A teacher's distributions are over the tokens of the model that learns.
static enum tlm_status open_teacher(struct trainer *t, struct tlm_error *err)
{
    const char *path = t->config->train.teacher;
    if (t->config->train.distill == 0) return TLM_OK;
    t->teacher = t->file;
    if (!path) return TLM_OK;
    const struct tlm_model_options options = {.backend = backend_of(t), .tensor_split = "1"};
    enum tlm_status s = tlm_model_open(&t->teacher, path, &options, err);
    if (s) return s;
    const struct tlm_model *a = t->teacher, *b = t->file;
    if (a->hparams.vocab != b->hparams.vocab)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.teacher: %s: expected the %lld tokens of the model, found %lld", path,
                         (long long)b->hparams.vocab, (long long)a->hparams.vocab);
    if (a->tokenizer && b->tokenizer) {
        struct shard_hash x = shard_hash_tokenizer(a->tokenizer), y = shard_hash_tokenizer(b->tokenizer);
        if (memcmp(&x, &y, sizeof x) != 0)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "train.teacher: %s: expected the vocabulary of the model, found another", path);
    }
    if (a->hparams.context < t->context)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.teacher: %s: expected a context of at least data.context = %lld, found %lld",
                         path, (long long)t->context, (long long)a->hparams.context);
    return TLM_OK;
}

// ---- data -----------------------------------------------------------------------------------------------------

static enum tlm_status open_data(struct trainer *t, struct tlm_error *err)
{
    const struct train_config *c = t->config;
    struct dataset_options o = {.context = t->context, .seed = c->data.seed},
                           in_order = {.context = t->context, .in_order = true};
    enum tlm_status s =
        inputs_open(&t->train, &c->data.train, c->checkpoint.dir, "train", t->file, &o, t->threads, err);
    if (!s && c->data.val.count)
        s = inputs_open(&t->val, &c->data.val, c->checkpoint.dir, "val", t->file, &in_order, t->threads, err);
    return s;
}

// As many as a quarter of the device's memory has room for.
static int64_t pass_rows(const struct trainer *t)
{
    const struct backend *b = t->file->backend;
    const struct hparams *h = &t->file->hparams;
    int64_t rows = PASS_ROWS;
    while (b && rows < DEVICE_PASS_ROWS &&
           (double)(2 * rows) * (double)(h->layers * h->width) * ROW_BYTES <= (double)b->memory / 4)
        rows *= 2;
    return rows;
}

// Sequences of a pass, passes of a step, steps of the run.
static enum tlm_status plan_steps(struct trainer *t, struct tlm_error *err)
{
    const struct train_config *c = t->config;
    int64_t sequences = (c->train.batch_tokens + t->context - 1) / t->context;
    int64_t fits = pass_rows(t) / t->context > 1 ? pass_rows(t) / t->context : 1;
    t->micro_batch = c->train.micro_batch ? c->train.micro_batch : fits < sequences ? fits : sequences;
    t->passes = (sequences + t->micro_batch - 1) / t->micro_batch;
    if (!c->train.micro_batch) t->micro_batch = (sequences + t->passes - 1) / t->passes; // as near as can be
    if (rows_of(t) > INT32_MAX / 8)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "train.micro_batch: expected at most %lld sequences of %lld tokens, found %lld",
                         (long long)(INT32_MAX / 8 / t->context), (long long)t->context,
                         (long long)t->micro_batch);
    int64_t batch = t->passes * rows_of(t);
    double tokens = c->train.tokens
                        ? (double)c->train.tokens
                        : c->train.epochs * (double)dataset_windows(t->train) * (double)t->context;
    t->steps = c->train.steps ? c->train.steps : (int64_t)ceil(tokens / (double)batch);
    double warmup = c->schedule.warmup < 1 ? c->schedule.warmup * (double)t->steps : c->schedule.warmup;
    double decay = c->schedule.decay < 1 ? c->schedule.decay * (double)t->steps : c->schedule.decay;
    t->schedule = (struct schedule){.kind = c->schedule.kind,
                                    .peak = c->optimizer.lr,
                                    .minimum = c->schedule.min_ratio,
                                    .steps = t->steps,
                                    .warmup = (int64_t)ceil(warmup),
                                    .decay = (int64_t)ceil(decay)};
    return schedule_check(&t->schedule, err);
}

// ---- opening --------------------------------------------------------------------------------------------------

static enum tlm_status open_optimizer(struct trainer *t, struct tlm_error *err)
{
    static const enum dtype types[] = {
        [CONFIG_STATE_F32] = DTYPE_F32, [CONFIG_STATE_BF16] = DTYPE_BF16, [CONFIG_STATE_Q8] = DTYPE_I8};
    const struct train_config *c = t->config;
    struct optimizer_options o = optimizer_defaults(c->optimizer.kind);
    o.moments = types[c->optimizer.state];
    o.beta1 = c->optimizer.beta1, o.beta2 = c->optimizer.beta2, o.eps = c->optimizer.eps;
    o.momentum = c->optimizer.beta1;
    o.decay = c->optimizer.weight_decay, o.clip = c->optimizer.clip;
    o.outlier = c->optimizer.skip_sigma;
    o.seed = c->train.seed;
    return optimizer_open(&t->optimizer, &t->parameters, &o, isa_detect(), t->threads, err);
}

// auto: as little as fits in half of the memory that is free; on a backend in what is left of its own.
static enum tlm_status open_training_pass(struct trainer *t, struct pass_config *config,
                                          struct tlm_error *err)
{
    static const enum recompute modes[] = {[CONFIG_RECOMPUTE_NONE] = RECOMPUTE_NONE,
                                           [CONFIG_RECOMPUTE_ATTENTION] = RECOMPUTE_ATTENTION,
                                           [CONFIG_RECOMPUTE_LAYER] = RECOMPUTE_LAYER,
                                           [CONFIG_RECOMPUTE_AUTO] = RECOMPUTE_NONE};
    bool decide = t->config->train.recompute == CONFIG_RECOMPUTE_AUTO;
    uint64_t room = memory_available() / 2;
    for (config->recompute = modes[t->config->train.recompute];; config->recompute++) {
        enum tlm_status s =
            pass_open(&t->pass, &t->parameters.model, t->slots, t->parameters.count, config, t->threads, err);
        bool fits =
            t->file->backend ? s != TLM_ERR_MEMORY : s || !room || pass_size(&t->pass).activations <= room;
        if (fits || !decide || config->recompute == RECOMPUTE_LAYER) return s;
        if (!s) pass_close(&t->pass);
    }
}

static enum tlm_status open_passes(struct trainer *t, struct tlm_error *err)
{
    struct pass_config config = {.rows = (int32_t)rows_of(t),
                                 .context = (int32_t)t->context,
                                 .dropout = t->config->train.dropout,
                                 .gradients = true,
                                 .teacher = t->teacher,
                                 .distill = t->config->train.distill};
    size_t batch = (size_t)(t->passes * rows_of(t));
    t->slots = calloc((size_t)t->parameters.count, sizeof *t->slots);
    t->tokens = malloc(4 * batch * sizeof *t->tokens);
    if (!t->slots || !t->tokens)
        return error_set(err, TLM_ERR_MEMORY, "train: no memory for a batch of %zu tokens", batch);
    t->targets = t->tokens + batch, t->positions = t->tokens + 2 * batch, t->segments = t->tokens + 3 * batch;
    parameters_slots(&t->parameters, t->slots);
    t->flops = 3 * parameters_flops(&t->parameters.model, t->context) +
               (t->teacher ? parameters_flops(t->teacher, t->context) : 0);
    // Training takes what memory validating leaves.
    const struct pass_config eval = {.rows = config.rows, .context = config.context};
    enum tlm_status s =
        t->val ? pass_open(&t->eval_pass, &t->parameters.model, NULL, 0, &eval, t->threads, err) : TLM_OK;
    return s ? s : open_training_pass(t, &config, err);
}

// The share of rounding in the weights that step `step` computes with.
static void set_rounding(struct trainer *t, int64_t step)
{
    double warmup = t->config->train.quantize_warmup, steps = warmup < 1 ? warmup * (double)t->steps : warmup;
    parameters_round(&t->parameters, (double)step < steps ? (double)step / steps : 1);
}

// Goes on from the last checkpoint that is whole.
static enum tlm_status go_on(struct trainer *t, struct tlm_error *err)
{
    int64_t *steps, count;
    char path[CHECKPOINT_PATH], line[2 * CHECKPOINT_PATH];
    t->state =
        (struct checkpoint_state){.best_loss = INFINITY, .scale = t->matrices == DTYPE_F16 ? SCALE_FIRST : 1};
    enum tlm_status s = checkpoint_list(t->config->checkpoint.dir, &steps, &count, err);
    for (int64_t i = count - 1; !s && i >= 0; i--) {
        struct checkpoint c = {&t->parameters, t->optimizer, t->state};
        checkpoint_path(path, t->config->checkpoint.dir, steps[i]);
        s = checkpoint_read(&c, path, err);
        if (!s) {
            t->state = c.state;
            snprintf(line, sizeof line, "going on from %s, behind step %lld of %lld", path,
                     (long long)t->state.step, (long long)t->steps);
            note(t, line);
            break;
        }
        if (s == TLM_ERR_MEMORY || i == 0) break;
        snprintf(line, sizeof line, "%.900s: trying the one before", err->text);
        note(t, line);
        s = TLM_OK;
    }
    free(steps);
    set_rounding(t, t->state.step);
    for (int64_t i = 0; i < t->parameters.count && t->parameters.mix && !s; i++)
        parameter_copy(&t->parameters.item[i], &t->file->kernels);
    if (!s) s = parameters_push(&t->parameters, err);
    return s ? s : optimizer_push(t->optimizer, err);
}

enum tlm_status trainer_open(struct trainer **out, const struct train_config *c,
                             const struct trainer_hooks *hooks, struct tlm_error *err)
{
    *out = NULL;
    struct trainer *t = calloc(1, sizeof *t);
    if (!t) return error_set(err, TLM_ERR_MEMORY, "train: no memory to begin");
    t->config = c;
    if (hooks) t->hooks = *hooks;
    snprintf(t->model_path, sizeof t->model_path, "%s/init.gguf", c->checkpoint.dir);
    enum tlm_status s = train_config_check(c, err);
    if (s || (s = inputs_folder(c, err)) || (s = train_config_text(c, &t->text, err)) ||
        (s = threads_open(&t->threads, c->train.threads ? (int)c->train.threads : cpu_count(), err)) ||
        (s = open_model(t, err)) || (s = open_teacher(t, err)) || (s = open_data(t, err)) ||
        (s = plan_steps(t, err)) || (s = open_optimizer(t, err)) || (s = open_passes(t, err)) ||
        (s = go_on(t, err))) {
        trainer_close(t);
        return s;
    }
    *out = t;
    return TLM_OK;
}

void trainer_close(struct trainer *t)
{
    if (!t) return;
    struct tlm_error ignored;
    checkpoint_wait(&t->writer, t->config->checkpoint.dir, t->config->checkpoint.keep, &ignored);
    pass_close(&t->pass);
    pass_close(&t->eval_pass);
    optimizer_close(t->optimizer);
    dataset_close(t->train);
    dataset_close(t->val);
    parameters_close(&t->parameters);
    if (t->teacher != t->file) tlm_model_close(t->teacher);
    tlm_model_close(t->file);
    threads_close(t->threads);
    free(t->slots);
    free(t->tokens);
    free(t->text);
    free(t);
}

struct trainer_plan trainer_plan(const struct trainer *t)
{
    struct pass_bytes pass = pass_size(&t->pass), eval = {0};
    if (t->val) eval = pass_size(&t->eval_pass);
    struct trainer_plan p = {.parameters = t->parameters.numbers,
                             .micro_batch = t->micro_batch,
                             .passes = t->passes,
                             .steps = t->steps,
                             .flops = t->flops * (double)(t->passes * rows_of(t))};
    p.weights = p.gradients = (size_t)t->parameters.numbers * sizeof(float);
    for (int64_t i = 0; i < t->parameters.count; i++)
        if (t->parameters.item[i].copy)
            p.copies += dtype_row_bytes(t->parameters.item[i].copy_type, t->parameters.item[i].count);
    for (int64_t i = 0; i < optimizer_state_count(t->optimizer); i++)
        p.moments += optimizer_state(t->optimizer, i).bytes;
    p.activations = pass.activations + eval.activations;
    p.scratch = pass.scratch + eval.scratch;
    return p;
}

// ---- a step ---------------------------------------------------------------------------------------------------

// Fills `count` examples from `first` on. Returns their targets.
static int64_t fill(struct trainer *t, const struct dataset *d, int64_t first, int64_t count)
{
    int64_t targets = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i * t->context;
        targets += dataset_example(d, (uint64_t)(first + i), t->tokens + at, t->targets + at,
                                   t->positions + at, t->segments + at);
        // Documents are told apart by their number: those of other examples get other ones.
        for (int64_t j = 0; j < t->context; j++) t->segments[at + j] += (int32_t)(i % 2 * t->context);
    }
    return targets;
}

static struct pass_batch batch_at(const struct trainer *t, int64_t pass)
{
    int64_t at = pass * rows_of(t);
    return (struct pass_batch){t->tokens + at, t->targets + at, t->segments + at};
}

static void adapt_scale(struct checkpoint_state *s, bool good)
{
    s->good_steps = good ? s->good_steps + 1 : 0;
    if (!good && s->scale > 1) s->scale /= 2;
    if (s->good_steps < SCALE_STEPS || s->scale >= SCALE_MOST) return;
    s->scale *= 2;
    s->good_steps = 0;
}

static enum tlm_status run_step(struct trainer *t, struct trainer_step *out, struct tlm_error *err)
{
    double begin = clock_seconds(), sum = 0, losses;
    enum tlm_status s = TLM_OK;
    int64_t sequences = t->passes * t->micro_batch, step = t->state.step;
    int64_t targets = fill(t, t->train, step * sequences, sequences);
    if (!targets) targets = 1; // documents of one token each: a step that changes nothing but what decays
    for (int64_t i = 0; i < t->passes; i++) {
        struct pass_batch b = batch_at(t, i);
        s = pass_run(&t->pass, &b, t->state.scale / (double)targets, i > 0,
                     t->config->train.seed + (uint64_t)(step * t->passes + i), &losses, err);
        if (s) return s;
        sum += losses;
    }
    double rate = schedule_rate(&t->schedule, step);
    set_rounding(t, step + 1);
    struct optimizer_report r = optimizer_step(t->optimizer, rate, 1 / t->state.scale);
    if (r.outcome == OPTIMIZER_FAILED) {
        *err = r.error;
        return r.error.code;
    }
    if (t->matrices == DTYPE_F16) adapt_scale(&t->state, r.outcome != OPTIMIZER_NOT_FINITE);
    t->state.step++;
    t->state.tokens += sequences * t->context;
    t->state.optimizer = *optimizer_progress(t->optimizer);
    *out = (struct trainer_step){.step = t->state.step,
                                 .steps = t->steps,
                                 .tokens = t->state.tokens,
                                 .loss = sum / (double)targets,
                                 .rate = rate,
                                 .norm = r.norm,
                                 .seconds = clock_seconds() - begin,
                                 .flops = t->flops * (double)(sequences * t->context),
                                 .outcome = r.outcome};
    return TLM_OK;
}

// The losses of one pass over validation windows from `first` on; windows that are not there are rows without targets. *sum: of them.
static enum tlm_status eval_windows(struct trainer *t, int64_t first, int64_t *targets, double *sum,
                                    struct tlm_error *err)
{
    int64_t left = dataset_windows(t->val) - first, count = left < t->micro_batch ? left : t->micro_batch;
    *targets += fill(t, t->val, first, count);
    for (int64_t i = count * t->context; i < rows_of(t); i++)
        t->tokens[i] = 0, t->targets[i] = -1, t->segments[i] = (int32_t)(-1 - i / t->context);
    struct pass_batch b = batch_at(t, 0);
    return pass_run(&t->eval_pass, &b, 0, false, 0, sum, err);
}

// The mean loss of the validation data, or of its first passes.
static enum tlm_status evaluate(struct trainer *t, struct trainer_eval *out, struct tlm_error *err)
{
    int64_t windows = dataset_windows(t->val), targets = 0, limit = t->config->train.eval_batches;
    double sum = 0, losses;
    for (int64_t first = 0, passes = 0; first < windows && (!limit || passes < limit);
         first += t->micro_batch, passes++) {
        enum tlm_status s = eval_windows(t, first, &targets, &losses, err);
        if (s) return s;
        sum += losses;
    }
    struct trainer_eval e = {
        .step = t->state.step, .loss = sum / (double)(targets ? targets : 1), .targets = targets};
    e.improved = e.loss < t->state.best_loss;
    t->state.since_best = e.improved ? 0 : t->state.since_best + 1;
    if (e.improved) t->state.best_loss = e.loss;
    e.best = t->state.best_loss;
    *out = e;
    return TLM_OK;
}

static enum tlm_status sample(struct trainer *t, struct tlm_error *err)
{
    enum { TOKENS = 128, PROMPT = 512 };
    const char *prompt = t->config->train.sample_prompt ? t->config->train.sample_prompt : "";
    char *text = NULL;
    enum tlm_status s =
        inputs_sample(&t->parameters.model, prompt, TOKENS, t->config->train.seed + (uint64_t)t->state.step,
                      threads_count(t->threads), &text, err);
    if (!s && t->hooks.sample) t->hooks.sample(t->hooks.user, text);
    free(text);
    return s;
}

static bool due(int64_t step, int64_t every)
{
    return every && step % every == 0;
}

static enum tlm_status save(struct trainer *t, struct tlm_error *err)
{
    struct checkpoint c = {&t->parameters, t->optimizer, t->state};
    enum tlm_status s = parameters_pull(&t->parameters, err);
    if (s || (s = optimizer_pull(t->optimizer, err))) return s;
    return checkpoint_begin(&t->writer, &c, t->text, t->config->checkpoint.dir, t->matrices,
                            t->config->checkpoint.keep, err);
}

enum tlm_status trainer_run(struct trainer *t, struct tlm_error *err)
{
    const struct train_config *c = t->config;
    enum tlm_status s = TLM_OK;
    bool stop = false, saved = t->state.step > 0;
    while (!s && !stop && t->state.step < t->steps) {
        struct trainer_step step;
        if ((s = run_step(t, &step, err))) return s;
        saved = false;
        if (!isfinite(step.loss))
            return error_set(err, TLM_ERR_ARGUMENT,
                             "step %lld: expected a finite loss, found %g: the last checkpoint is as it was; "
                             "try a lower optimizer.lr",
                             (long long)step.step, step.loss);
        if (t->hooks.step) t->hooks.step(t->hooks.user, &step);
        bool last = step.step == t->steps;
        if (t->val && (last || due(step.step, c->train.eval_every))) {
            struct trainer_eval e;
            if ((s = evaluate(t, &e, err))) return s;
            if (t->hooks.eval) t->hooks.eval(t->hooks.user, &e);
            stop = c->train.early_stop && t->state.since_best >= c->train.early_stop;
        }
        if (due(step.step, c->train.sample_every)) s = sample(t, err);
        if (t->hooks.stop && t->hooks.stop(t->hooks.user)) stop = true;
        if (!s && (last || stop || due(step.step, c->checkpoint.every))) s = save(t, err), saved = !s;
    }
    if (!s && !saved && t->state.step == 0) return TLM_OK;
    if (!s) s = checkpoint_wait(&t->writer, c->checkpoint.dir, c->checkpoint.keep, err);
    return s;
}

// ---- training against generating ------------------------------------------------------------------------------

struct comparison {
    const double *losses;
    const int32_t *targets;
    const struct tlm_model *model;
    double gap;
    int64_t count;
};

static int compare(void *user, size_t index, const float *logits)
{
    struct comparison *c = user;
    if (c->targets[index] < 0) return 0;
    double loss =
        c->model->kernels.cross_entropy(NULL, logits, c->targets[index], c->model->hparams.vocab, 0);
    double d = fabs(loss - c->losses[index]);
    if (!(d <= c->gap)) c->gap = d;
    c->count++;
    return 0;
}

enum tlm_status trainer_gap(struct trainer *t, double *gap, int64_t *tokens, struct tlm_error *err)
{
    char path[CHECKPOINT_PATH];
    struct tlm_model *m;
    struct tlm_session *session;
    *gap = 0, *tokens = 0;
    if (!t->val) return TLM_OK;
    snprintf(path, sizeof path, "%s/model.gguf", t->config->checkpoint.dir);
    const struct tlm_model_options options = {.backend = backend_of(t), .tensor_split = "1"};
    enum tlm_status s = tlm_model_open(&m, path, &options, err);
    if (s) return s;
    struct tlm_session_options o = {.context = (int32_t)t->context + 1,
                                    .threads = threads_count(t->threads),
                                    .kv_type_k = "f32",
                                    .kv_type_v = "f32"};
    s = tlm_session_open(&session, m, &o, err);
    if (!s) {
        int64_t targets = 0;
        double sum;
        s = eval_windows(t, 0, &targets, &sum, err);
        for (int64_t begin = 0, end; !s && begin < rows_of(t) && t->segments[begin] >= 0; begin = end) {
            for (end = begin + 1; end < rows_of(t) && t->segments[end] == t->segments[begin]; end++) {
            }
            struct comparison c = {t->eval_pass.losses + begin, t->targets + begin, m, *gap, *tokens};
            s = tlm_session_logits_each(session, t->tokens + begin, (size_t)(end - begin), 0, compare, &c,
                                        err);
            *gap = c.gap, *tokens = c.count;
        }
        tlm_session_close(session);
    }
    tlm_model_close(m);
    return s;
}
