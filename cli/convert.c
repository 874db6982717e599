// cli/convert.c -- tinylm convert: a Hugging Face folder to a GGUF file, and back.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/common.h"
#include "core/error.h"
#include "models/hf_convert.h"

struct convert_args {
    const char *type;
};

static const char *const types[] = {"f32", "f16", "bf16", NULL};

static const struct option options[] = {
    {"--type", "TYPE", OPTION_CHOICE, offsetof(struct convert_args, type), .choices = types,
     .help = "type of matrices: f32, f16, bf16. Default: what they are; in a folder bf16 for quantized ones. "
             "Norms, biases and "
             "routers are f32 in a GGUF file; in a folder they get the matrices' type if that loses nothing, "
             "or is asked for."},
};

// What asks the program to end waits until nothing half-written is left: then it ends it.
static void hold_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(how, &set, NULL);
}

static bool asked_to_end(void)
{
    sigset_t set;
    return !sigpending(&set) && (sigismember(&set, SIGTERM) || sigismember(&set, SIGHUP));
}

static bool show_progress(void *user, uint64_t done, uint64_t total)
{
    const bool *terminal = user;
    if (*terminal)
        fprintf(stderr, "\r%3.0f%%%s", 100.0 * (double)done / (double)total, done == total ? "\r    \r" : "");
    return !common_interrupted() && !asked_to_end();
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int command_convert(int argc, char **argv)
{
    struct convert_args args = {NULL};
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &args)};
    const struct command_line line = {"convert",
                                      "HF_FOLDER OUT.gguf | IN.gguf HF_FOLDER [--type f32|f16|bf16]",
                                      "Writes a model of a Hugging Face folder (config.json, safetensors, "
                                      "tokenizer files) as a GGUF file, or a GGUF "
                                      "file as such a folder. Which way follows from the first operand.",
                                      groups,
                                      1,
                                      NULL};
    const char *operands[2];
    size_t count = 0;
    int code = options_parse(&line, argc, argv, operands, 2, &count);
    if (code == EXIT_DONE) return common_finish_output(&line, code);
    if (code != OPTIONS_GO) return code;
    if (count != 2) return options_wrong(&line, "expected a folder and a file, found %zu operands", count);

    struct tlm_error err;
    bool terminal = isatty(STDERR_FILENO);
    struct hf_convert job = {operands[0], operands[1], args.type ? dtype_parse(args.type) : -1, show_progress,
                             &terminal};
    double start = common_seconds();
    common_catch_interrupt();
    hold_signals(SIG_BLOCK);
    enum tlm_status status =
        is_folder(job.in) ? hf_convert_to_gguf(&job, &err) : hf_convert_to_folder(&job, &err);
    hold_signals(SIG_UNBLOCK);
    if (status && common_interrupted()) error_set(&err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
    if (status) return common_failed(&line, &err);
    fprintf(stderr, "%s: %.2f s\n", job.out, common_seconds() - start);
    return EXIT_DONE;
}
