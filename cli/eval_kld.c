// cli/eval_kld.c -- tinylm eval kld: how far the distributions of a model are from those of the one it was made from.
#include <inttypes.h>
#include <string.h>

#include "cli/common.h"
#include "cli/eval_text.h"

struct kld_args {
    struct model_args model;
    struct session_args session;
    const char *file, *base, *kl_base, *save, *format;
    int32_t chunks;
};

static const char *const formats[] = {"text", "json", NULL};

static const struct option options[] = {
    {"--base", "FILE", OPTION_STRING, offsetof(struct kld_args, base),
     .help = "the model to compare with, which runs beside: nothing is stored. Default: none."},
    {"--kl-divergence-base, --kl-base", "FILE", OPTION_STRING, offsetof(struct kld_args, kl_base),
     .help = "compare with what --save-logits wrote, on the text that it was written of. Default: none."},
    {"--save-all-logits, --save-logits", "FILE", OPTION_STRING, offsetof(struct kld_args, save),
     .help =
         "write the model's distributions over the text, two bytes a token of the vocabulary, and compare "
         "nothing. Default: none."},
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct kld_args, file),
     .help = "the text, '-' for standard input. Default: none."},
    {"--chunks", "N", OPTION_INT, offsetof(struct kld_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "windows to look at. Default: all."},
    {"-o, --output", "STYLE", OPTION_CHOICE, offsetof(struct kld_args, format), .choices = formats,
     .help = "text or json (on one line). Default: text."},
};

static const char notes[] =
    "The text is cut into windows of -c tokens (512 here), of each of which the second half counts, as in "
    "'eval ppl'.\n"
    "KL divergence: the mean over tokens of sum p ln(p / q), p the base's distribution and q the model's, in "
    "nats.\n"
    "Behind +- stand standard errors. The ratio of perplexities has less than either, for both meet the same "
    "tokens.\n"
    "-c, -b, -t, -ctk, -ctv and --isa hold for both models.\n";

// What one call opens; closed by close_all().
struct kld {
    const struct command_line *line;
    const struct kld_args *args;
    struct tlm_model *model, *base;
    struct scan scan, base_scan;
    struct logits_file file;
    int32_t *tokens;
    struct compare_text text;
};

static void close_all(struct kld *k)
{
    scan_close(&k->scan);
    scan_close(&k->base_scan);
    tlm_model_close(k->model);
    tlm_model_close(k->base);
    logits_file_close(&k->file);
    free(k->tokens);
}

// ---- what is said -------------------------------------------------------------------------------------

static void print_text(const struct kld *k, const struct divergence *d)
{
    printf("base         %s\nmodel        %s\n%" PRId64 " tokens in %" PRId64 " windows of %d\n\n",
           k->base ? tlm_model_description(k->base) : k->file.info.description,
           tlm_model_description(k->model), d->tokens, k->text.count, k->text.window);
    printf("KL divergence    mean %.6f +- %.6f nats\n", d->kl.value, d->kl.error);
    printf("                 median %.6f  90%% %.6f  95%% %.6f  99%% %.6f  99.9%% %.6f  max %.6f\n",
           d->kl_median, d->kl_90, d->kl_95, d->kl_99, d->kl_999, d->kl_max);
    printf("same best token  %.3f%% +- %.3f%%\n", 100 * d->same_top.value, 100 * d->same_top.error);
    printf("perplexity       %.4f +- %.4f, the base's %.4f +- %.4f\n", d->perplexity.value,
           d->perplexity.error, d->perplexity_base.value, d->perplexity_base.error);
    printf("their ratio      %.6f +- %.6f, its ln %.6f +- %.6f\n", d->ratio.value, d->ratio.error,
           d->log_ratio.value, d->log_ratio.error);
    printf("change of p      mean %.3f%% +- %.3f%%, RMS %.3f%% +- %.3f%%\n", 100 * d->change.value,
           100 * d->change.error, 100 * d->change_rms.value, 100 * d->change_rms.error);
}

static void print_json(const struct kld *k, const struct divergence *d)
{
    putchar('{');
    eval_json_divergence(d);
    printf(", \"windows\": %" PRId64 ", \"context\": %d}\n", k->text.count, k->text.window);
}

// ---- what is done -------------------------------------------------------------------------------------

static enum tlm_status open_scan(const struct kld *k, struct scan *scan, const struct tlm_model *m,
                                 struct tlm_error *err)
{
    const struct session_args *s = &k->args->session;
    struct scan_config config = {.window = k->text.window,
                                 .batch = s->batch,
                                 .threads = s->threads,
                                 .kv_type_k = s->kv_type_k,
                                 .kv_type_v = s->kv_type_v};
    return scan_open(scan, m, &config, err);
}

// The text, and what stands for the base.
static enum tlm_status open_base(struct kld *k, struct tlm_error *err)
{
    const struct kld_args *args = k->args;
    struct logits_info info;
    enum tlm_status status;
    if (!args->kl_base) {
        int32_t window = args->session.context ? args->session.context : EVAL_WINDOW;
        status = eval_read_windows(k->model, args->file, window, args->chunks, &k->tokens, &k->text, err);
        if (status || !k->base) return status;
        if ((status = logits_info_of(&info, k->base, window, k->text.count, err)) ||
            (status = logits_info_check(&info, k->model, args->base, err)))
            return status;
        return open_scan(k, &k->base_scan, k->base, err);
    }
    if ((status = logits_file_open(&k->file, args->kl_base, err)) ||
        (status = logits_info_check(&k->file.info, k->model, args->kl_base, err)))
        return status;
    const struct logits_info *of = &k->file.info;
    if (args->session.context && args->session.context != of->window)
        return error_set(err, TLM_ERR_ARGUMENT, "%.300s: expected windows of %d tokens (-c), found %d",
                         args->kl_base, args->session.context, of->window);
    int32_t count = args->chunks && args->chunks < of->windows ? args->chunks : of->windows;
    k->text = (struct compare_text){k->file.tokens, count, of->window};
    return TLM_OK;
}

static enum tlm_status compare(struct kld *k, struct tlm_error *err)
{
    char name[] = "window";
    int64_t count = k->text.count * scan_counted(k->text.window);
    struct divergence_token *tokens = malloc((size_t)count * sizeof *tokens);
    struct divergence d;
    if (!tokens)
        return error_set(err, TLM_ERR_MEMORY, "no memory for the divergences of %" PRId64 " tokens", count);
    enum tlm_status status = compare_run(&k->scan, k->base ? &k->base_scan : NULL, &k->file, &k->text, tokens,
                                         eval_progress, name, err);
    if (!status) status = divergence_summarize(&d, tokens, count, err);
    if (!status) (k->args->format == formats[1] ? print_json : print_text)(k, &d);
    free(tokens);
    return status;
}

static enum tlm_status run(struct kld *k, struct tlm_error *err)
{
    char name[] = "window";
    enum tlm_status status = open_base(k, err);
    if (!status) status = open_scan(k, &k->scan, k->model, err);
    if (status) return status;
    common_catch_interrupt();
    if (k->args->save) return compare_save(&k->scan, &k->text, k->args->save, eval_progress, name, err);
    return compare(k, err);
}

static int check_args(const struct command_line *line, const struct kld_args *args)
{
    if (!!args->base + !!args->kl_base + !!args->save != 1)
        return options_wrong(line, "expected one of --base, --kl-base and --save-logits");
    if (args->kl_base && args->file)
        return options_wrong(line, "-f: the file of --kl-base holds the text that it was written of");
    if (!args->kl_base && !args->file) return options_wrong(line, "no text: name one with -f FILE");
    return args->session.context ? eval_check_window(line, args->session.context) : OPTIONS_GO;
}

int eval_kld(int argc, char **argv)
{
    struct kld_args args = {.format = formats[0]};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          {"Session:", session_options, SESSION_OPTION_COUNT, &args.session},
                                          OPTION_GROUP("Divergence:", options, &args)};
    const struct command_line line = {
        "eval kld",
        "-m MODEL --base BASE -f TEXT [OPTION ...]",
        "Measures how far a model's distributions are from those of the model that it was made from.",
        groups,
        3,
        notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO || (code = check_args(&line, &args)) != OPTIONS_GO) return code;
    struct kld k = {.line = &line, .args = &args};
    struct tlm_error err;
    code = common_open_model(&line, &args.model, false, &k.model);
    struct model_args base = {.path = args.base, .isa = args.model.isa};
    if (code == OPTIONS_GO && args.base) code = common_open_model(&line, &base, false, &k.base);
    if (code == OPTIONS_GO) code = run(&k, &err) ? common_failed(&line, &err) : EXIT_DONE;
    close_all(&k);
    return common_finish_output(&line, code);
}
