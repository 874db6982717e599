// cli/quantize_method.h -- `tinylm quantize`: how smaller numbers are found, and what that needs beside the file.
#ifndef CLI_QUANTIZE_METHOD_H
#define CLI_QUANTIZE_METHOD_H

#include "cli/options.h"
#include "quant/methods/limits.h"
#include "quant/methods/method.h"

struct method_args {
    const char *name, *sums, *text;
    int32_t context, chunks;
    bool allow_nonfinite, static_activations;
    float clip;
};
#define METHOD_DEFAULTS                             \
    {                                               \
        .name = "rtn", .context = 512, .chunks = 64 \
    }

enum { METHOD_OPTION_COUNT = 8 };
extern const struct option method_options[METHOD_OPTION_COUNT];
extern const char method_notes[]; // on the memory it takes, for --help

struct quantize_method {
    const struct method_args *args;
    const struct quant_method *method;
    struct imatrix sums;     // of --imatrix
    struct limits limits;    // of --static-activations
    struct tlm_model *model; // where it is going to run
};

// OPTIONS_GO, or the exit code after an error that has been printed.
int quantize_method_check(const struct command_line *line, const struct method_args *args);
// Opens the model's file, and all of the model where it is going to run. On failure nothing is left open.
enum tlm_status quantize_method_open(struct quantize_method *q, const struct method_args *args,
                                     const char *path, bool dry_run, struct gguf **in, struct tlm_error *err);
void quantize_method_close(struct quantize_method *q, struct gguf *in);
// Will matrices be rounded by weights of importance?
bool quantize_method_weighs(const struct quantize_method *q);
// Fills in the work, whose file, types and path are set; quant_work_close() it in any case.
enum tlm_status quantize_method_run(struct quantize_method *q, struct quant_work *w, struct threads *threads,
                                    struct tlm_error *err);

#endif
