// cli/quantize.c -- tinylm quantize: a model file written again in smaller types.
#include <inttypes.h>
#include <regex.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/common.h"
#include "cli/quantize_file.h"
#include "cli/quantize_recipe.h"
#include "core/cpu.h"
#include "core/file.h"
#include "models/hf.h"
#include "quant/composite.h"
#include "quant/mix.h"
#include "quant/quant.h"
#include "quant/requantize.h"

struct quantize_args {
    struct method_args method;
    int32_t threads, chunks;
    bool dry_run;
    float target_bpw;
    const char *text, *recipe, *save_recipe;
    struct option_strings tensor_types;
};

static const struct option options[] = {
    {"--tensor-type", "REGEX=TYPE", OPTION_STRINGS, offsetof(struct quantize_args, tensor_types),
     .help = "matrices in whose name the extended regular expression is found get that type instead of the "
             "mix's; of "
             "several the first that is found counts. Default: none."},
    {"--target-bpw", "B", OPTION_FLOAT, offsetof(struct quantize_args, target_bpw), .low = 1, .high = 32,
     .help = "instead of TYPE: bits by numbers over all tensors, at most. Each matrix gets the type with "
             "which, in sum, the model stays as near as can be to what it is: what rounding it costs is "
             "measured, in two passes over a text a matrix. Default: none."},
    {"-f, --file", "FILE", OPTION_STRING, offsetof(struct quantize_args, text),
     .help = "the text for --target-bpw, '-' for standard input. Default: what the model writes itself."},
    {"--chunks", "N", OPTION_INT, offsetof(struct quantize_args, chunks), .low = 1, .high = INT32_MAX,
     .help = "windows of 512 tokens of that text to look at, or to write. Default: 16."},
    {"--recipe, --tensor-type-file", "FILE", OPTION_STRING, offsetof(struct quantize_args, recipe),
     .help = "lines REGEX=TYPE, which stand behind those of --tensor-type. Without TYPE, matrices that none "
             "of them names stay what they are. Default: none."},
    {"--save-recipe", "FILE", OPTION_STRING, offsetof(struct quantize_args, save_recipe),
     .help = "write a line for --recipe of each matrix. Default: none."},
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
    const struct quantize_args *args;
    struct quantize_method method;
    struct gguf *in;
    const struct mix *mix; // NULL: none was named
    enum dtype *types;     // (in->tensor_count)
    bool *search;          // (in->tensor_count) --target-bpw chooses the type
    struct override *overrides;
    size_t override_count, override_room;
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

static int parse_override(struct plan *p, const char *option, const char *text)
{
    char names[512], reason[128];
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return options_wrong(p->line, "%s: expected REGEX=TYPE, found '%s'", option, text);
    int type = dtype_parse(equals + 1);
    if (type < 0 || !quant_types[type].quantize) {
        list_types(names, sizeof names);
        return options_wrong(p->line, "%s: expected one of %s, found '%s'", option, names, equals + 1);
    }
    if (p->override_count == p->override_room) {
        size_t room = p->override_room ? 2 * p->override_room : 64;
        struct override *more = realloc(p->overrides, room * sizeof *more);
        if (!more) return options_wrong(p->line, "%s: no memory for %zu lines", option, room);
        p->overrides = more, p->override_room = room;
    }
    struct override *o = &p->overrides[p->override_count];
    char *regex = strndup(text, (size_t)(equals - text));
    int failed = regex ? regcomp(&o->regex, regex, REG_EXTENDED | REG_NOSUB) : REG_ESPACE;
    free(regex);
    if (failed) {
        regerror(failed, &o->regex, reason, sizeof reason);
        return options_wrong(p->line, "%s: '%.*s' is no regular expression: %s", option, (int)(equals - text),
                             text, reason);
    }
    o->type = (enum dtype)type;
    p->override_count++;
    return OPTIONS_GO;
}

// The lines of --recipe; those that are empty or begin with # say nothing.
static int parse_recipe(struct plan *p, const char *path)
{
    struct tlm_error err;
    char *text, *rest, *line;
    size_t bytes;
    if (file_read(path, &text, &bytes, &err)) return common_failed(p->line, &err);
    int code = OPTIONS_GO;
    for (rest = text; code == OPTIONS_GO && (line = strsep(&rest, "\r\n"));)
        if (*line && *line != '#') code = parse_override(p, "--recipe", line);
    free(text);
    return code;
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

static enum tlm_status choose_types(struct plan *p, const char *model_path, struct tlm_error *err)
{
    struct mix_model model;
    enum tlm_status status = mix_model_read(&model, p->in, quantize_method_weighs(&p->method), err);
    for (uint64_t i = 0; i < p->in->tensor_count && !status; i++) {
        const struct gguf_tensor *t = &p->in->tensors[i];
        char name[128];
        p->types[i] = t->tensor.type;
        if (!mix_applies(t) || !quant_types[t->tensor.type].dequantize) continue;
        const struct override *o = find_override(p, t->name);
        p->types[i] = o ? o->type : p->mix ? mix_type(p->mix, &model, t) : t->tensor.type;
        p->search[i] = !o;
        int block = dtype_traits[p->types[i]].block_size;
        if (t->tensor.ne[0] % block)
            status = error_set(err, TLM_ERR_ARGUMENT,
                               "tensor '%s': %s needs rows of a multiple of %d numbers, found %" PRId64,
                               gguf_printable(t->name, name, sizeof name), dtype_traits[p->types[i]].name,
                               block, t->tensor.ne[0]);
    }
    if (status || !p->args->target_bpw) return status;
    struct recipe_request q = {model_path, p->args->text, p->args->target_bpw, p->args->threads,
                               p->args->chunks};
    return quantize_recipe_find(&q, p->in, p->search, p->types, err);
}

// ---- what the user sees -------------------------------------------------------------------------------

static void print_plan(const struct plan *p)
{
    char name[72];
    for (uint64_t i = 0; i < p->in->tensor_count && !common_output_broken(); i++) {
        const struct tensor *t = &p->in->tensors[i].tensor;
        printf("%-40s %-8s -> %-8s %12zu -> %12zu bytes\n",
               gguf_printable(p->in->tensors[i].name, name, sizeof name), dtype_traits[t->type].name,
               dtype_traits[p->types[i]].name, composite_file_bytes(t->type, t),
               composite_file_bytes(p->types[i], t));
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
        struct total *into[] = {&types[p->types[i]], &all};
        for (int k = 0; k < 2; k++) {
            into[k]->tensors++;
            into[k]->numbers += (uint64_t)tensor_elements(t);
            into[k]->before += composite_file_bytes(t->type, t);
            into[k]->after += composite_file_bytes(p->types[i], t);
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

static enum tlm_status write_file(struct plan *p, const char *path, struct tlm_error *err)
{
    bool terminal = isatty(STDERR_FILENO);
    struct quantize_file f = {.method = &p->method,
                              .in = p->in,
                              .types = p->types,
                              .mix = p->mix,
                              .progress = show_progress,
                              .user = &terminal};
    enum tlm_status status = threads_open(&f.threads, p->args->threads ? p->args->threads : cpu_count(), err);
    if (!status) status = quantize_file_write(&f, path, err);
    threads_close(f.threads);
    return status;
}

static enum tlm_status write_or_print(struct plan *p, const char *path, struct tlm_error *err)
{
    double start = common_seconds();
    enum tlm_status status = TLM_OK;
    if (p->args->save_recipe) status = quantize_recipe_save(p->args->save_recipe, p->in, p->types, err);
    warn_of_twice(p);
    if (p->args->dry_run)
        print_plan(p);
    else if (!status)
        status = write_file(p, path, err);
    if (status) return status;
    print_totals(p);
    if (!p->args->dry_run) fprintf(stderr, "%s: %.2f s\n", path, common_seconds() - start);
    return TLM_OK;
}

static int run(struct plan *p, const char *const operands[3])
{
    struct tlm_error err;
    enum tlm_status status =
        quantize_method_open(&p->method, &p->args->method, operands[0], p->args->dry_run, &p->in, &err);
    if (status) return common_failed(p->line, &err);
    p->types = calloc((size_t)p->in->tensor_count + 1, sizeof *p->types);
    p->search = calloc((size_t)p->in->tensor_count + 1, sizeof *p->search);
    if (!p->types || !p->search)
        status = error_set(&err, TLM_ERR_MEMORY, "no memory for the types of all tensors");
    if (!status && reads_from(p->in, operands[1]))
        status = error_set(&err, TLM_ERR_ARGUMENT, "%.300s: expected another file than the one that is read",
                           operands[1]);
    if (!status) status = choose_types(p, operands[0], &err);
    if (!status) status = write_or_print(p, operands[1], &err);
    free(p->types);
    free(p->search);
    quantize_method_close(&p->method, p->in);
    if (status && common_interrupted()) error_set(&err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
    return status ? common_failed(p->line, &err) : EXIT_DONE;
}

// TYPE, and what may stand in its place.
static int parse_type(struct plan *p, const char *type, const char *names)
{
    const struct quantize_args *args = p->args;
    if (args->target_bpw && type) return options_wrong(p->line, "expected TYPE or --target-bpw, found both");
    if (!type)
        return args->target_bpw || args->recipe
                   ? OPTIONS_GO
                   : options_wrong(p->line, "expected IN OUT TYPE, found no TYPE");
    p->mix = mix_find(type);
    return p->mix ? OPTIONS_GO : options_wrong(p->line, "TYPE: expected one of %s, found '%s'", names, type);
}

int command_quantize(int argc, char **argv)
{
    struct quantize_args args = {.chunks = 16, .method = METHOD_DEFAULTS};
    char names[512], notes[1024];
    list_mixes(names, sizeof names);
    snprintf(notes, sizeof notes, "TYPE is one of %s.\n\n%s", names, method_notes);
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args),
                                          {"Method:", method_options, METHOD_OPTION_COUNT, &args.method}};
    const struct command_line line = {"quantize",
                                      "IN OUT TYPE | --target-bpw B [-f TEXT] [OPTION ...]",
                                      "Writes the GGUF file OUT: the model IN (of a split set the first "
                                      "file), its matrices rounded to the mix of "
                                      "types TYPE. Norms and other small tensors stay as they are.",
                                      groups,
                                      2,
                                      notes};
    const char *operands[3] = {NULL};
    size_t count = 0;
    int code = options_parse(&line, argc, argv, operands, 3, &count);
    if (code == EXIT_DONE) return common_finish_output(&line, code);
    if (code != OPTIONS_GO) return code;
    if (count < 2) return options_wrong(&line, "expected IN OUT TYPE, found %zu operands", count);
    if ((code = quantize_method_check(&line, &args.method)) != OPTIONS_GO) return code;

    struct plan *p = calloc(1, sizeof *p);
    if (!p) {
        struct tlm_error err;
        error_set(&err, TLM_ERR_MEMORY, "no memory to begin");
        return common_failed(&line, &err);
    }
    p->line = &line;
    p->args = &args;
    code = parse_type(p, operands[2], names);
    for (size_t i = 0; i < args.tensor_types.count && code == OPTIONS_GO; i++)
        code = parse_override(p, "--tensor-type", args.tensor_types.items[i]);
    if (code == OPTIONS_GO && args.recipe) code = parse_recipe(p, args.recipe);
    if (code == OPTIONS_GO) {
        common_catch_interrupt();
        code = common_finish_output(&line, run(p, operands));
    }
    for (size_t i = 0; i < p->override_count; i++) regfree(&p->overrides[i].regex);
    free(p->overrides);
    free(p);
    return code;
}
