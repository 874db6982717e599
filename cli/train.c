// cli/train.c -- tinylm train: a model from a configuration, or the next steps of one that is there.
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/limits.h"
#include "cli/train_chart.h"
#include "train/trainer.h"

struct train_args {
    bool plan;
    const char *backend;
};

static const char *const backend_choices[] = {"cpu", "cuda", NULL};

static const struct option options[] = {
    {"--backend", "NAME", OPTION_CHOICE, offsetof(struct train_args, backend),
     .help = "what computes: cpu, or cuda, a GPU; the same as train.backend=NAME. Default: cpu.",
     .choices = backend_choices},
    {"--plan", NULL, OPTION_FLAG, offsetof(struct train_args, plan),
     .help = "print what the run would take and compute, and stop. Default: off."},
};

// ---- what the user sees, and the log ------------------------------------------------------------------

struct show {
    const struct train_config *config;
    FILE *log;             // NULL: none
    bool terminal, line;   // of progress, which the next line has to leave
    double begin, spent;   // seconds of the run; of the steps since the last line
    int64_t steps, tokens; // since the last line
    double loss, flops;
    // Operations a second of the units that products take, measured in turn with the training; 0: not known.
    struct limits *limits; // NULL: no memory for them
    enum limit limit;
    double peak, peak_time;
};

static void leave_line(struct show *s)
{
    if (s->line) fputc('\n', stderr);
    s->line = false;
}

static void show_note(void *user, const char *line)
{
    leave_line(user);
    fprintf(stderr, "%s\n", line);
}

static void clock_text(char text[32], double seconds)
{
    int64_t s = (int64_t)(seconds + 0.5);
    snprintf(text, 32, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
}

// A hook is a command of the user's; what happened is in its environment's TINYLM_* and in the log.
static void run_hook(const struct show *s, const char *command, int64_t step, double loss)
{
    char number[32];
    if (!command || !*command) return;
    snprintf(number, sizeof number, "%" PRId64, step);
    setenv("TINYLM_STEP", number, 1);
    snprintf(number, sizeof number, "%.6f", loss);
    setenv("TINYLM_LOSS", number, 1);
    setenv("TINYLM_DIR", s->config->checkpoint.dir, 1);
    int status = system(command);
    if (status) fprintf(stderr, "tinylm train: hook '%s' ended with %d\n", command, status);
}

// A slice of a fiftieth of a second, when the last one is some seconds old.
static void measure_peak(struct show *s)
{
    if (!s->limits || (s->peak > 0 && common_seconds() - s->peak_time < 5)) return;
    if (limits_measure(s->limits, s->limit, 0.02, &s->peak, NULL)) s->peak = 0;
    s->peak_time = common_seconds();
}

static void show_step(void *user, const struct trainer_step *t)
{
    struct show *s = user;
    const char *words = t->outcome == OPTIMIZER_NOT_FINITE ? ", skipped: infinite gradient"
                        : t->outcome == OPTIMIZER_OUTLIER  ? ", skipped: outlying gradient"
                                                           : "";
    int64_t before = s->tokens;
    s->tokens = t->tokens;
    s->steps++, s->loss += t->loss, s->spent += t->seconds, s->flops += t->flops;
    if (t->step % s->config->log.every && t->step != t->steps && !*words) return;
    char left[32], share[32] = "";
    double rate = s->spent / (double)s->steps, per_token = (double)(t->tokens - before);
    clock_text(left, rate * (double)(t->steps - t->step));
    measure_peak(s);
    if (s->peak > 0)
        snprintf(share, sizeof share, " (%.0f%% of the peak)", 100 * s->flops / s->spent / s->peak);
    if (s->terminal) fprintf(stderr, "\r\033[K");
    fprintf(stderr,
            "step %" PRId64 " of %" PRId64
            ", loss %.4f, norm %.2f, rate %.2e, %.0f tokens/s, %.0f GFLOP/s%s, %s left%s%s",
            t->step, t->steps, s->loss / (double)s->steps, t->norm, t->rate, per_token / rate,
            s->flops / s->spent * 1e-9, share, left, words, s->terminal ? "" : "\n");
    s->line = s->terminal;
    if (s->log) {
        fprintf(s->log,
                "{\"step\": %" PRId64 ", \"tokens\": %" PRId64
                ", \"loss\": %.9g, \"norm\": %.6g, \"rate\": %.6g, "
                "\"tokens_per_second\": %.1f, \"gflops\": %.1f, \"seconds\": %.3f, \"skipped\": %s}\n",
                t->step, t->tokens, t->loss, t->norm, t->rate, per_token / rate, s->flops / s->spent * 1e-9,
                common_seconds() - s->begin, *words ? "true" : "false");
        fflush(s->log);
    }
    run_hook(s, s->config->log.on_step, t->step, t->loss);
    s->steps = 0, s->loss = 0, s->spent = 0, s->flops = 0;
}

static void show_eval(void *user, const struct trainer_eval *e)
{
    struct show *s = user;
    leave_line(s);
    fprintf(stderr, "step %" PRId64 ": validation loss %.4f, perplexity %.3f over %" PRId64 " tokens%s\n",
            e->step, e->loss, exp(e->loss), e->targets, e->improved ? ", the best so far" : "");
    if (s->log) {
        fprintf(s->log,
                "{\"step\": %" PRId64 ", \"validation_loss\": %.9g, \"targets\": %" PRId64
                ", \"best\": %.9g}\n",
                e->step, e->loss, e->targets, e->best);
        fflush(s->log);
    }
    run_hook(s, s->config->log.on_eval, e->step, e->loss);
}

static void show_sample(void *user, const char *text)
{
    leave_line(user);
    fprintf(stderr, "---\n%s\n---\n", text);
}

static bool asked_to_stop(void *user)
{
    (void)user;
    return common_interrupted();
}

static void print_bytes(const char *what, size_t bytes)
{
    char text[16];
    printf("  %-13s %10s\n", what, common_human_bytes(bytes, text, sizeof text));
}

static void print_plan(const struct trainer *t)
{
    struct trainer_plan p = trainer_plan(t);
    printf("%" PRId64 " parameters; %" PRId64 " steps of %" PRId64 " x %" PRId64
           " sequences; %.3g GFLOP a step\n",
           p.parameters, p.steps, p.passes, p.micro_batch, p.flops * 1e-9);
    print_bytes("weights", p.weights);
    print_bytes("gradients", p.gradients);
    print_bytes("narrow copies", p.copies);
    print_bytes("moments", p.moments);
    print_bytes("activations", p.activations);
    print_bytes("scratch", p.scratch);
    print_bytes("all", p.weights + p.gradients + p.copies + p.moments + p.activations + p.scratch);
}

// The chart beside the log, and on a terminal.
static void show_chart(const struct show *s)
{
    enum { COLUMNS = 80 };
    char log[CHECKPOINT_PATH], svg[CHECKPOINT_PATH];
    struct tlm_error err;
    snprintf(log, sizeof log, "%s/log.jsonl", s->config->checkpoint.dir);
    snprintf(svg, sizeof svg, "%s/loss.svg", s->config->checkpoint.dir);
    if (train_chart_write(log, svg, &err) || (s->terminal && train_chart_print(log, stderr, COLUMNS, &err)))
        fprintf(stderr, "tinylm train: %s\n", err.text);
}

// ---- running ------------------------------------------------------------------------------------------

static void open_limits(struct show *s, const struct train_config *c)
{
    const enum isa isa = isa_detect();
    const bool bf16 = c->train.precision == CONFIG_BF16 && isa >= ISA_AVX512_BF16;
    s->limit = bf16 ? LIMIT_BF16 : LIMIT_FMA;
    if (c->train.backend == CONFIG_CPU)
        limits_open(&s->limits, isa, c->train.threads ? (int)c->train.threads : cpu_count(), NULL);
}

static enum tlm_status train(const struct train_config *c, bool plan, struct tlm_error *err)
{
    struct show show = {.config = c, .terminal = isatty(STDERR_FILENO), .begin = common_seconds()};
    struct trainer_hooks hooks = {show_note, show_step, show_eval, show_sample, asked_to_stop, &show};
    struct trainer *t;
    char path[CHECKPOINT_PATH];
    enum tlm_status s = trainer_open(&t, c, &hooks, err);
    if (s) return s;
    if (plan) {
        print_plan(t);
        trainer_close(t);
        return TLM_OK;
    }
    snprintf(path, sizeof path, "%s/log.jsonl", c->checkpoint.dir);
    show.log = fopen(path, "a");
    if (!show.log) s = error_set(err, TLM_ERR_IO, "%s: cannot be written", path);
    open_limits(&show, c);
    run_hook(&show, c->log.on_start, 0, 0);
    if (!s) s = trainer_run(t, err);
    leave_line(&show);
    if (!s) {
        double gap;
        int64_t tokens;
        s = trainer_gap(t, &gap, &tokens, err);
        if (!s && tokens)
            fprintf(stderr,
                    "log-probabilities of training and of %s/model.gguf differ by at most %g over %" PRId64
                    " tokens\n",
                    c->checkpoint.dir, gap, tokens);
        if (!s && common_interrupted()) fprintf(stderr, "stopped; the same command goes on\n");
        run_hook(&show, c->log.on_end, 0, 0);
    }
    limits_close(show.limits);
    if (show.log) fclose(show.log);
    if (!s) show_chart(&show);
    trainer_close(t);
    return s;
}

int command_train(int argc, char **argv)
{
    enum { MOST = 64 };
    struct train_args args = {0};
    struct train_config c;
    struct tlm_error err = {0};
    char *keys = NULL;
    if (train_config_init(&c, &err) || train_config_help(&keys, 100, &err)) keys = NULL;
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"train",
                                      "CONFIG.ini [KEY=VALUE ...] [--backend NAME] [--plan]",
                                      "Trains a model and writes it as a GGUF file that every command opens. "
                                      "The same command goes on where a "
                                      "run was stopped.",
                                      groups,
                                      1,
                                      keys};
    const char *operands[MOST];
    size_t count = 0;
    int code = options_parse(&line, argc, argv, operands, MOST, &count);
    if (code == EXIT_DONE) code = common_finish_output(&line, code);
    if (code == OPTIONS_GO && !count) code = options_wrong(&line, "expected CONFIG.ini, found nothing");
    if (code == OPTIONS_GO) {
        enum tlm_status s = train_config_read(&c, operands[0], &err);
        for (size_t i = 1; i < count && !s; i++) s = train_config_set(&c, operands[i], &err);
        if (!s && args.backend) {
            char assignment[64];
            snprintf(assignment, sizeof assignment, "train.backend=%s", args.backend);
            s = train_config_set(&c, assignment, &err);
        }
        common_catch_interrupt();
        if (!s) s = train(&c, args.plan, &err);
        code = s ? common_failed(&line, &err) : common_finish_output(&line, EXIT_DONE);
    }
    free(keys);
    train_config_free(&c);
    return code;
}
