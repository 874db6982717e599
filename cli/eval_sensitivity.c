// cli/eval_sensitivity.c -- tinylm eval sensitivity: which matrices of a model suffer from being rounded, and how much.
//
// One matrix alone, all of a kind, or one layer alone is rounded to a type; everything else stays as it is in the file.
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/eval_text.h"
#include "quant/methods/trial.h"
#include "quant/mix.h"
#include "quant/quant.h"

struct sensitivity_args {
    struct model_args model;
    struct session_args session;
    const char *file, *type, *by, *format;
    int32_t chunks;
};

enum { BY_TENSOR, BY_KIND, BY_LAYER, BY_COUNT };
static const char *const by_names[] = {"tensor", "kind", "layer", "all", NULL};
static const char *const by_headings[BY_COUNT] = {"one matrix", "all of a kind", "one layer"};
static const char *const formats[] = {"md", "json", NULL};

static const struct option options[] = {
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct sensitivity_args, file),
     .help = "the text, '-' for standard input; some thousand tokens tell matrices apart. Default: none."},
    {"--type", "TYPE", OPTION_STRING, offsetof(struct sensitivity_args, type),
     .help =
         "what is rounded gets this type, or, where its rows cannot be cut into the type's blocks, one of "
         "about the same size. Default: Q4_K."},
    {"--by", "WHAT", OPTION_CHOICE, offsetof(struct sensitivity_args, by), .choices = by_names,
     .help = "what is rounded at once: a tensor, a kind (all attn_v), a layer; or all three, one after the "
             "other. Default: all."},
    {"--chunks", "N", OPTION_INT, offsetof(struct sensitivity_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "windows of the text to look at. Default: 8."},
    {"-o, --output", "STYLE", OPTION_CHOICE, offsetof(struct sensitivity_args, format), .choices = formats,
     .help = "md or json. Default: md."},
};

static const char notes[] =
    "Each line is a pass over the text. KL divergence from the model as it is, in nats; ln of the ratio of "
    "perplexities;\n"
    "how often the best token is the same. Windows are of -c tokens (512 here), the second half of which "
    "counts.\n"
    "Weights alone are rounded: activations stay what they are, and a copy in f32 of what is rounded is in "
    "memory.\n";

struct part { // what is rounded at once
    int by;
    char name[WEIGHT_NAME];
    int64_t numbers;
    struct divergence d;
};

struct report {
    const struct sensitivity_args *args;
    struct trial trial;
    struct part *parts;
    size_t count, room;
};

// ---- parts --------------------------------------------------------------------------------------------

// "blk.3.attn_q.weight": as a kind "attn_q", as a layer "blk.3". What is in no layer is a part of its own.
static void part_name(char name[WEIGHT_NAME], struct gguf_string tensor, int by)
{
    char whole[WEIGHT_NAME];
    int layer, end = 0;
    snprintf(whole, sizeof whole, "%.*s",
             (int)(tensor.length < WEIGHT_NAME ? tensor.length : WEIGHT_NAME - 1), tensor.data);
    char *weight = strstr(whole, ".weight");
    if (weight) *weight = 0;
    bool in_layer = sscanf(whole, "blk.%d.%n", &layer, &end) == 1 && end;
    if (by == BY_LAYER && in_layer)
        snprintf(name, WEIGHT_NAME, "blk.%d", layer);
    else
        snprintf(name, WEIGHT_NAME, "%s", by == BY_KIND && in_layer ? whole + end : whole);
}

static enum tlm_status add_part(struct report *r, int by, const struct gguf_tensor *t, struct tlm_error *err)
{
    char name[WEIGHT_NAME];
    part_name(name, t->name, by);
    size_t i = 0;
    while (i < r->count && (r->parts[i].by != by || strcmp(r->parts[i].name, name) != 0)) i++;
    if (i == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        struct part *parts = realloc(r->parts, room * sizeof *parts);
        if (!parts) return error_set(err, TLM_ERR_MEMORY, "no memory for %zu lines", room);
        r->parts = parts, r->room = room;
    }
    if (i == r->count) {
        r->parts[r->count++] = (struct part){.by = by};
        memcpy(r->parts[i].name, name, sizeof name);
    }
    r->parts[i].numbers += tensor_elements(&t->tensor);
    return TLM_OK;
}

static bool touches(const struct gguf_tensor *t)
{
    return mix_applies(t) && quant_types[t->tensor.type].dequantize;
}

static enum tlm_status list_parts(struct report *r, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (int by = 0; by < BY_COUNT; by++) {
        if (r->args->by != by_names[BY_COUNT] && r->args->by != by_names[by]) continue;
        for (uint64_t i = 0; i < g->tensor_count && !status; i++)
            if (touches(&g->tensors[i])) status = add_part(r, by, &g->tensors[i], err);
    }
    return status;
}

static enum tlm_status measure_part(struct report *r, struct part *p, enum dtype type, struct tlm_error *err)
{
    const struct gguf *g = r->trial.model->gguf;
    enum dtype *types = malloc((size_t)g->tensor_count * sizeof *types);
    char name[WEIGHT_NAME];
    if (!types) return error_set(err, TLM_ERR_MEMORY, "no memory for the types of all tensors");
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        types[i] = t->tensor.type;
        if (!touches(t)) continue;
        part_name(name, t->name, p->by);
        if (!strcmp(name, p->name)) types[i] = mix_fitting_type(type, t->tensor.ne[0]);
    }
    enum tlm_status status = trial_run(&r->trial, types, eval_silent, NULL, &p->d, err);
    free(types);
    return status;
}

// ---- the report ---------------------------------------------------------------------------------------

// Kinds of parts apart, the worst first.
static int by_divergence(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    if (x->by != y->by) return x->by - y->by;
    return (x->d.kl.value < y->d.kl.value) - (x->d.kl.value > y->d.kl.value);
}

static void print_md(const struct report *r, const char *type)
{
    for (size_t i = 0; i < r->count && !common_output_broken(); i++) {
        const struct part *p = &r->parts[i];
        const struct divergence *d = &p->d;
        if (!i || r->parts[i - 1].by != p->by)
            printf("%s| %s at %s | numbers | KL divergence | ln of the ratio of perplexities | same best "
                   "token |\n"
                   "|---|---:|---:|---:|---:|\n",
                   i ? "\n" : "", by_headings[p->by], type);
        printf("| %s | %" PRId64 " | %.6f +- %.6f | %+.6f +- %.6f | %.2f%% |\n", p->name, p->numbers,
               d->kl.value, d->kl.error, d->log_ratio.value, d->log_ratio.error, 100 * d->same_top.value);
    }
}

static void print_json(const struct report *r, const char *type)
{
    for (size_t i = 0; i < r->count && !common_output_broken(); i++) {
        const struct part *p = &r->parts[i];
        printf("%s\n  {\"by\": \"%s\", \"name\": \"%s\", \"type\": \"%s\", \"numbers\": %" PRId64 ", ",
               i ? "," : "[", by_names[p->by], p->name, type, p->numbers);
        eval_json_divergence(&p->d);
        putchar('}');
    }
    puts(r->count ? "\n]" : "[]");
}

static enum tlm_status run(struct report *r, struct tlm_model *m, enum dtype type, struct tlm_error *err)
{
    const struct sensitivity_args *args = r->args;
    const struct session_args *s = &args->session;
    struct scan_config config = {
        .batch = s->batch, .threads = s->threads, .kv_type_k = s->kv_type_k, .kv_type_v = s->kv_type_v};
    struct compare_text text;
    int32_t *tokens;
    char path[512], windows[] = "window", parts[] = "part";
    eval_scratch_path(path, sizeof path, "logits");
    enum tlm_status status = eval_read_windows(m, args->file, s->context, args->chunks, &tokens, &text, err);
    if (!status) status = list_parts(r, m->gguf, err);
    if (!status) status = trial_open(&r->trial, m, &config, &text, path, eval_progress, windows, err);
    for (size_t i = 0; i < r->count && !status; i++) {
        status = measure_part(r, &r->parts[i], type, err);
        if (!status && !eval_progress(parts, (int64_t)i + 1, (int64_t)r->count))
            status = error_set(err, TLM_ERR_CANCELLED, "stopped");
    }
    if (!status) {
        qsort(r->parts, r->count, sizeof *r->parts, by_divergence);
        (args->format == formats[1] ? print_json : print_md)(r, dtype_traits[type].name);
    }
    trial_close(&r->trial);
    free(tokens);
    return status;
}

int eval_sensitivity(int argc, char **argv)
{
    struct sensitivity_args args = {.type = "Q4_K",
                                    .by = by_names[BY_COUNT],
                                    .format = formats[0],
                                    .chunks = 8,
                                    .session.context = EVAL_WINDOW};
    const struct option_group groups[] = {{"Model:", model_options, MODEL_OPTION_COUNT, &args.model},
                                          {"Session:", session_options, SESSION_OPTION_COUNT, &args.session},
                                          OPTION_GROUP("Sensitivity:", options, &args)};
    const struct command_line line = {"eval sensitivity",
                                      "-m MODEL -f TEXT [--type TYPE] [OPTION ...]",
                                      "Measures which matrices of a model suffer from being rounded.",
                                      groups,
                                      3,
                                      notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code;
    int type = dtype_parse(args.type);
    if (type < 0 || !quant_types[type].quantize)
        return options_wrong(&line, "--type: expected a type that can be written, found '%s'", args.type);
    if (!args.file) return options_wrong(&line, "no text: name one with -f FILE");
    code = eval_check_window(&line, args.session.context);
    if (code != OPTIONS_GO) return code;
    struct tlm_model *model;
    struct tlm_error err;
    struct report r = {.args = &args};
    if ((code = common_open_model(&line, &args.model, false, &model)) != OPTIONS_GO) return code;
    common_catch_interrupt();
    code = run(&r, model, (enum dtype)type, &err) ? common_failed(&line, &err) : EXIT_DONE;
    free(r.parts);
    tlm_model_close(model);
    return common_finish_output(&line, code);
}
