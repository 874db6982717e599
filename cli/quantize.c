// cli/quantize.c -- tinylm quantize: a model file written again in smaller types.
#include <inttypes.h>
#include <regex.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/common.h"
#include "core/cpu.h"
#include "models/hf.h"
#include "quant/mix.h"
#include "quant/quant.h"
#include "quant/requantize.h"

struct quantize_args {
    int32_t threads;
    bool dry_run;
    struct option_strings tensor_types;
};

static const struct option options[] = {
    {"--tensor-type", "REGEX=TYPE", OPTION_STRINGS, offsetof(struct quantize_args, tensor_types),
     .help = "matrices in whose name the extended regular expression is found get that type instead of the "
             "mix's; of "
             "several the first that is found counts. Default: none."},
    {"--dry-run", NULL, OPTION_FLAG, offsetof(struct quantize_args, dry_run),
     .help = "print what each tensor would become and write nothing. Default: off."},
    {"-t, --threads", "N", OPTION_INT, offsetof(struct quantize_args, threads), .low = 0, .high = THREADS_MAX,
     .help = "threads; 0 for the default. Default: the processors this process may run on."},
};

// ---- what each tensor becomes -------------------------------------------------------------------------

struct override {
    regex_t regex;
    enum dtype type;
};

struct plan {
    const struct command_line *line;
    struct gguf *in;
    const struct mix *mix;
    enum dtype *types; // (in->tensor_count)
    struct override overrides[OPTION_STRINGS_MAX];
    size_t override_count;
};

// "Q4_K_M, Q4_K_S, ...": the names of all mixes.
static void list_mixes(char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; mix_name(i) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", mix_name(i));
}

static void list_types(char *text, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (quant_types[i].quantize && used < size)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", dtype_traits[i].name);
}

static int parse_override(struct plan *p, const char *text)
{
    char names[512], reason[128];
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return options_wrong(p->line, "--tensor-type: expected REGEX=TYPE, found '%s'", text);
    int type = dtype_parse(equals + 1);
    if (type < 0 || !quant_types[type].quantize) {
        list_types(names, sizeof names);
        return options_wrong(p->line, "--tensor-type: expected one of %s, found '%s'", names, equals + 1);
    }
    struct override *o = &p->overrides[p->override_count];
    char *regex = strndup(text, (size_t)(equals - text));
    int failed = regex ? regcomp(&o->regex, regex, REG_EXTENDED | REG_NOSUB) : REG_ESPACE;
    free(regex);
    if (failed) {
        regerror(failed, &o->regex, reason, sizeof reason);
        return options_wrong(p->line, "--tensor-type: '%.*s' is no regular expression: %s",
                             (int)(equals - text), text, reason);
    }
    o->type = (enum dtype)type;
    p->override_count++;
    return OPTIONS_GO;
}

// The override for a tensor, NULL where there is none.
static const struct override *find_override(const struct plan *p, struct gguf_string name)
{
    for (size_t i = 0; i < p->override_count; i++) {
        regmatch_t whole = {.rm_so = 0, .rm_eo = (regoff_t)name.length};
        if (!regexec(&p->overrides[i].regex, name.data, 1, &whole, REG_STARTEND)) return &p->overrides[i];
    }
    return NULL;
}

static enum tlm_status choose_types(struct plan *p, struct tlm_error *err)
{
    struct mix_model model;
    enum tlm_status status = mix_model_read(&model, p->in, false, err);
    for (uint64_t i = 0; i < p->in->tensor_count && !status; i++) {
        const struct gguf_tensor *t = &p->in->tensors[i];
        char name[128];
        p->types[i] = t->tensor.type;
        if (!mix_applies(t) || !quant_types[t->tensor.type].dequantize) continue;
        const struct override *o = find_override(p, t->name);
        p->types[i] = o ? o->type : mix_type(p->mix, &model, t);
        int block = dtype_traits[p->types[i]].block_size;
        if (t->tensor.ne[0] % block)
            status = error_set(err, TLM_ERR_ARGUMENT,
                               "tensor '%s': %s needs rows of a multiple of %d numbers, found %" PRId64,
                               gguf_printable(t->name, name, sizeof name), dtype_traits[p->types[i]].name,
                               block, t->tensor.ne[0]);
    }
    return status;
}

// ---- what the user sees -------------------------------------------------------------------------------

static void print_plan(const struct plan *p)
{
    char name[72];
    for (uint64_t i = 0; i < p->in->tensor_count && !common_output_broken(); i++) {
        const struct tensor *t = &p->in->tensors[i].tensor;
        size_t rows = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
        printf("%-40s %-8s -> %-8s %12zu -> %12zu bytes\n",
               gguf_printable(p->in->tensors[i].name, name, sizeof name), dtype_traits[t->type].name,
               dtype_traits[p->types[i]].name, tensor_bytes(t),
               rows * dtype_row_bytes(p->types[i], t->ne[0]));
    }
}

struct total {
    uint64_t tensors, numbers, before, after;
};

static void print_total(const char *name, const struct total *t)
{
    char before[16], after[16];
    fprintf(stderr, "  %-8s %6" PRIu64 " tensors %14" PRIu64 " numbers  %10s -> %10s  %6.3f bits each\n",
            name, t->tensors, t->numbers, common_human_bytes(t->before, before, sizeof before),
            common_human_bytes(t->after, after, sizeof after),
            t->numbers ? 8.0 * (double)t->after / (double)t->numbers : 0.0);
}

static void print_totals(const struct plan *p)
{
    struct total types[DTYPE_COUNT] = {0}, all = {0};
    for (uint64_t i = 0; i < p->in->tensor_count; i++) {
        const struct tensor *t = &p->in->tensors[i].tensor;
        size_t rows = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
        struct total *into[] = {&types[p->types[i]], &all};
        for (int k = 0; k < 2; k++) {
            into[k]->tensors++;
            into[k]->numbers += (uint64_t)tensor_elements(t);
            into[k]->before += tensor_bytes(t);
            into[k]->after += rows * dtype_row_bytes(p->types[i], t->ne[0]);
        }
    }
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (types[type].tensors) print_total(dtype_traits[type].name, &types[type]);
    print_total("all", &all);
}

// Tensors whose numbers were rounded before, and are rounded again.
static void warn_of_twice(const struct plan *p)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < p->in->tensor_count; i++) {
        enum dtype from = p->in->tensors[i].tensor.type;
        count += from != p->types[i] && dtype_traits[from].block_size > 1;
    }
    if (count)
        fprintf(stderr,
                "tinylm quantize: note: %" PRIu64
                " tensors are quantized already; from the original file the "
                "result would be better\n",
                count);
}

static bool show_progress(void *user, uint64_t done, uint64_t total)
{
    const bool *terminal = user;
    if (*terminal)
        fprintf(stderr, "\r%3.0f%%%s", 100.0 * (double)done / (double)total, done == total ? "\r    \r" : "");
    return !common_interrupted();
}

// ---- the file -----------------------------------------------------------------------------------------

// One of the files that are read would be replaced by the one that is written.
static bool reads_from(const struct gguf *in, const char *path)
{
    struct stat a, b;
    if (stat(path, &a)) return false;
    for (int i = 0; i < in->file_count; i++)
        if (!stat(in->files[i].path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino) return true;
    return false;
}

static void copy_metadata(const struct plan *p, struct gguf_writer *out)
{
    gguf_copy_metadata(out, p->in);
    if (!p->in->tensor_count) return; // a vocabulary alone stays what it was
    gguf_set_u32(out, "general.quantization_version", 2);
    gguf_set_u32(out, "general.file_type", mix_file_type(p->mix));
}

static enum tlm_status write_file(const struct plan *p, const char *path, int threads, struct tlm_error *err)
{
    struct gguf_writer *out = NULL;
    struct threads *pool = NULL;
    bool terminal = isatty(STDERR_FILENO);
    enum tlm_status status = threads_open(&pool, threads ? threads : cpu_count(), err);
    if (!status) status = gguf_writer_open(&out, path, err);
    if (!status) {
        copy_metadata(p, out);
        struct requantize r = {p->in, p->types, pool, show_progress, &terminal};
        status = requantize_run(&r, out, err);
    }
    if (!status) status = gguf_writer_finish(out, err);
    gguf_writer_close(out);
    threads_close(pool);
    return status;
}

static int run(struct plan *p, const struct quantize_args *args, const char *const operands[3])
{
    struct tlm_error err;
    enum tlm_status status = model_file_open(&p->in, operands[0], MODEL_ALL, &err);
    if (status) return common_failed(p->line, &err);
    p->types = calloc(p->in->tensor_count ? p->in->tensor_count : 1, sizeof *p->types);
    if (!p->types) status = error_set(&err, TLM_ERR_MEMORY, "no memory for the types of all tensors");
    if (!status && reads_from(p->in, operands[1]))
        status = error_set(&err, TLM_ERR_ARGUMENT, "%.300s: expected another file than the one that is read",
                           operands[1]);
    if (!status) status = choose_types(p, &err);
    if (!status) {
        double start = common_seconds();
        warn_of_twice(p);
        if (args->dry_run)
            print_plan(p);
        else
            status = write_file(p, operands[1], args->threads, &err);
        if (!status) print_totals(p);
        if (!status && !args->dry_run) fprintf(stderr, "%s: %.2f s\n", operands[1], common_seconds() - start);
    }
    free(p->types);
    gguf_close(p->in);
    if (status && common_interrupted()) error_set(&err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
    return status ? common_failed(p->line, &err) : EXIT_DONE;
}

int command_quantize(int argc, char **argv)
{
    struct quantize_args args = {0};
    char names[512], notes[640];
    list_mixes(names, sizeof names);
    snprintf(notes, sizeof notes, "TYPE is one of %s.\n", names);
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"quantize",
                                      "IN OUT TYPE [--tensor-type REGEX=TYPE] [--dry-run] [-t N]",
                                      "Writes the GGUF file OUT: the model IN (of a split set the first "
                                      "file), its matrices rounded to the mix of "
                                      "types TYPE. Norms and other small tensors stay as they are.",
                                      groups,
                                      1,
                                      notes};
    const char *operands[3];
    size_t count = 0;
    int code = options_parse(&line, argc, argv, operands, 3, &count);
    if (code == EXIT_DONE) return common_finish_output(&line, code);
    if (code != OPTIONS_GO) return code;
    if (count != 3) return options_wrong(&line, "expected IN OUT TYPE, found %zu operands", count);

    struct plan *p = calloc(1, sizeof *p);
    if (!p) {
        struct tlm_error err;
        error_set(&err, TLM_ERR_MEMORY, "no memory to begin");
        return common_failed(&line, &err);
    }
    p->line = &line;
    p->mix = mix_find(operands[2]);
    if (!p->mix) code = options_wrong(&line, "TYPE: expected one of %s, found '%s'", names, operands[2]);
    for (size_t i = 0; i < args.tensor_types.count && code == OPTIONS_GO; i++)
        code = parse_override(p, args.tensor_types.items[i]);
    if (code == OPTIONS_GO) {
        common_catch_interrupt();
        code = common_finish_output(&line, run(p, &args, operands));
    }
    for (size_t i = 0; i < p->override_count; i++) regfree(&p->overrides[i].regex);
    free(p);
    return code;
}
