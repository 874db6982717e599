// cli/common.c -- see cli/common.h.
#include "cli/common.h"

#include "cli/builtin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "models/model.h"
#include "ops/backend.h"

// ---- a model and a session ----------------------------------------------------------------------------

static const char *const isa_choices[] = {"auto",        "ref",         "avx2", "avx-vnni", "avx512",
                                          "avx512-vnni", "avx512-bf16", "f64",  NULL};
static const char *const backend_choices[] = {"auto", "cpu", "cuda", NULL};
static const char *const split_choices[] = {"layer", "row", NULL};
static const char *const kv_choices[] = {"f16", "bf16", "f32", "f8_e4m3", "q8_0", "q4_0", NULL};

const struct option model_options[MODEL_OPTION_COUNT] = {
    {"-m, --model", "FILE", OPTION_STRING, offsetof(struct model_args, path),
     .help =
         "a GGUF file, of a split set the first, or a Hugging Face folder; scripts/get_model.sh downloads "
         "public ones. Default: the small model that is built in, " BUILTIN_NAME "."},
    {"--isa", "NAME", OPTION_CHOICE, offsetof(struct model_args, isa),
     .help = "instruction sets that kernels may use: auto, ref (plain C), avx2, avx-vnni, avx512 (the best "
             "AVX-512 there is), avx512-vnni, avx512-bf16; f64 computes everything in double precision. "
             "Default: auto.",
     .choices = isa_choices},
};

const struct option device_options[DEVICE_OPTION_COUNT] = {
    {"--backend", "NAME", OPTION_CHOICE, offsetof(struct model_args, backend),
     .help = "what computes: cpu; cuda, a GPU ('tinylm info' shows it); auto, a GPU where there is one that "
             "has kernels "
             "for all of the model, which is said on stderr. Default: cpu; with -ngl, -ot, -sm or -ts cuda.",
     .choices = backend_choices},
    {"-ngl, --gpu-layers", "N", OPTION_INT, offsetof(struct model_args, gpu_layers), .low = 1,
     .high = INT32_MAX,
     .help =
         "layers, the last of the model, that the GPU computes, with what stands behind them; the CPU has "
         "those in front. Default: all."},
    {"-ot, --tensor-placement", "REGEX=PLACE", OPTION_STRINGS, offsetof(struct model_args, placement),
     .help =
         "where the matrices are whose names the expression matches: cpu, cuda (the GPU of their layer) or "
         "cuda:N, a GPU by its number; the first rule that matches counts. Rules may be joined by commas, "
         "and the option given several times. 'ffn_.*_exps=cpu' leaves the experts to the CPU. Default: "
         "where their layers are."},
    {"-sm, --split-mode", "MODE", OPTION_CHOICE, offsetof(struct model_args, split_mode),
     .choices = split_choices,
     .help = "how several GPUs share a model: layer, each has whole layers; row, each has a part of every "
             "matrix and of "
             "the heads, and they work on a layer together. Default: layer."},
    {"-ts, --tensor-split", "LIST", OPTION_STRING, offsetof(struct model_args, split),
     .help = "shares of the layers, or of each of them, for GPU 0, 1 and so on, such as 3,1; 0 leaves one "
             "out. Default: all GPUs, "
             "by the memory that they have free."},
};

const struct option session_options[SESSION_OPTION_COUNT] = {
    {"-c, --ctx-size", "N", OPTION_INT, offsetof(struct session_args, context), .low = 0,
     .high = INT32_MAX / 2,
     .help = "tokens of context; 0 for the default. Default: what the model was trained for, at most 4096."},
    {"-b, --batch-size", "N", OPTION_INT, offsetof(struct session_args, batch), .low = 1, .high = 16384,
     .help = "prompt tokens that one pass over the weights takes. Default: 512."},
    {"-t, --threads", "N", OPTION_INT, offsetof(struct session_args, threads), .low = 0, .high = 1024,
     .help = "threads; 0 for the default. Default: the processors this process may run on."},
    {"-ctk, --cache-type-k", "TYPE", OPTION_CHOICE, offsetof(struct session_args, kv_type_k),
     .choices = kv_choices,
     .help = "type of cached keys: f16, bf16, f32, f8_e4m3, q8_0, q4_0. Default: f16."},
    {"-ctv, --cache-type-v", "TYPE", OPTION_CHOICE, offsetof(struct session_args, kv_type_v),
     .choices = kv_choices, .help = "type of cached values, likewise. Default: f16."},
    {"--cache-reuse", "N", OPTION_INT, offsetof(struct session_args, reuse_shifted), .low = 0,
     .high = INT32_MAX,
     .help = "pieces of at least N tokens that stand at another place than before, as when thoughts were "
             "dropped in front of them, are not "
             "computed again: their keys are turned. That is not exact. Default: 0, never."},
};

int common_failed(const struct command_line *line, const struct tlm_error *err)
{
    fprintf(stderr, "tinylm %s: %s\n", line->name, err->text);
    return EXIT_FAILED;
}

bool common_user_path(char *path, size_t size, const char *variable, const char *folder, const char *name)
{
    const char *base = getenv(variable), *home = getenv("HOME"); // a relative path there does not count
    int length;
    if (base && *base == '/')
        length = snprintf(path, size, "%s/%s", base, name);
    else if (home && *home == '/')
        length = snprintf(path, size, "%s/%s/%s", home, folder, name);
    else
        return false;
    return length >= 0 && (size_t)length < size;
}

void common_make_kernels(const struct tlm_model *model)
{
    char folder[1024];
    if (!common_user_path(folder, sizeof folder, "XDG_CACHE_HOME", ".cache", "tinylm/kernels")) return;
    for (int i = 1; i < model->place_count; i++)
        model->devices[i]->class->make_kernels(model->devices[i], folder);
}

struct tlm_model_options common_model_options(const struct model_args *args)
{
    const bool devices = args->gpu_layers || args->placement.count || args->split || args->split_mode;
    return (struct tlm_model_options){.isa = args->isa,
                                      .backend = devices && !args->backend ? "cuda" : args->backend,
                                      .gpu_layers = args->gpu_layers,
                                      .tensor_placement = args->placement.items,
                                      .tensor_placement_count = args->placement.count,
                                      .tensor_split = args->split,
                                      .split_mode = args->split_mode};
}

enum tlm_status common_open_path(struct tlm_model **model, const char *path,
                                 const struct tlm_model_options *options, struct tlm_error *err)
{
    return path ? tlm_model_open(model, path, options, err)
                : tlm_model_open_memory(model, builtin_model, builtin_bytes(), BUILTIN_NAME, options, err);
}

void common_say_backend(const struct command_line *line, const struct tlm_model *model,
                        const struct tlm_model_options *options)
{
    char text[512];
    if (!options->backend || !strcmp(options->backend, "cpu")) return;
    fprintf(stderr, "tinylm %s: backend: %s\n", line->name, tlm_model_backend(model));
    if (!model->shared) return;
    for (int32_t i = 0; tlm_model_place(model, i, text, sizeof text); i++)
        fprintf(stderr, "tinylm %s:   %s\n", line->name, text);
}

int common_open_model(const struct command_line *line, const struct model_args *args, bool vocab_only,
                      struct tlm_model **model)
{
    struct tlm_error err;
    struct tlm_model_options options = common_model_options(args);
    options.vocab_only = vocab_only;
    if (common_open_path(model, args->path, &options, &err)) return common_failed(line, &err);
    common_say_backend(line, *model, &options);
    common_make_kernels(*model);
    return OPTIONS_GO;
}

int common_open_session(const struct command_line *line, const struct tlm_model *model,
                        const struct session_args *args, struct tlm_session **session)
{
    static const struct session_args defaults;
    if (!args) args = &defaults;
    struct tlm_error err;
    struct tlm_session_options options = {.context = args->context,
                                          .threads = args->threads,
                                          .batch = args->batch,
                                          .kv_type_k = args->kv_type_k,
                                          .kv_type_v = args->kv_type_v,
                                          .reuse_shifted = args->reuse_shifted};
    return tlm_session_open(session, model, &options, &err) ? common_failed(line, &err) : OPTIONS_GO;
}

enum tlm_status common_encode(const struct tlm_model *model, const char *text, size_t bytes, int flags,
                              int32_t **ids, size_t *count, struct tlm_error *err)
{
    // Most texts take fewer tokens than bytes; where one takes more, the second round knows how many.
    size_t capacity = bytes + 8;
    *ids = NULL;
    for (;;) {
        int32_t *grown = capacity <= SIZE_MAX / sizeof **ids ? realloc(*ids, capacity * sizeof **ids) : NULL;
        enum tlm_status status;
        if (grown) {
            *ids = grown;
            status = tlm_tokenize(model, text, bytes, flags, *ids, capacity, count, err);
        } else {
            status = error_set(err, TLM_ERR_MEMORY, "text: no memory for %zu tokens", capacity);
        }
        if (!status && *count <= capacity) return TLM_OK;
        if (status) {
            free(*ids);
            *ids = NULL;
            return status;
        }
        capacity = *count;
    }
}

// ---- output -------------------------------------------------------------------------------------------

void common_keep_standard_files(void)
{
    // open() takes the lowest number that is free. Reading from a write-only file fails, and the other way
    // round.
    static const int flags[] = {O_RDONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", flags[fd]) < 0) return;
}

bool common_output_broken(void)
{
    return ferror(stdout);
}

int common_output_failed(const struct command_line *line, int error, int code)
{
    clearerr(stdout);
    // The write that failed may be an earlier one, so the pipe itself is asked, too, whether its reader is
    // gone.
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (error == EPIPE || (poll(&out, 1, 0) == 1 && out.revents & POLLERR)) return code;
    fprintf(stderr, "tinylm %s: cannot write to standard output%s%s\n", line->name, error ? ": " : "",
            error ? strerror(error) : "");
    return EXIT_FAILED;
}

int common_finish_output(const struct command_line *line, int code)
{
    errno = 0;
    return fflush(stdout) || ferror(stdout) ? common_output_failed(line, errno, code) : code;
}

const char *common_human_bytes(uint64_t bytes, char *buffer, size_t size)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(buffer, size, "%d bytes", (int)bytes);
        return buffer;
    }
    double n = (double)bytes / 1024;
    size_t unit = 0;
    while (n >= 1023.95 && unit < 5) n /= 1024, unit++;
    snprintf(buffer, size, "%.1f %s", n, units[unit]);
    return buffer;
}

double common_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- Ctrl-C -------------------------------------------------------------------------------------------

enum { INTERRUPTS_MAX = 3 };

// A signal handler has no other way to speak to the program.
static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    if (++interrupts < INTERRUPTS_MAX) return;
    signal(number, SIG_DFL);
    raise(number);
}

void common_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void common_release_interrupt(void)
{
    signal(SIGINT, SIG_DFL);
}

bool common_interrupted(void)
{
    return interrupts != 0;
}

void common_clear_interrupt(void)
{
    interrupts = 0;
}
