// cli/common.h -- what the commands share beside options: models, failures, output, signals.
#ifndef CLI_COMMON_H
#define CLI_COMMON_H

#include <stdio.h>

#include "cli/cli.h"
#include "cli/options.h"

// ---- a model and a session ----------------------------------------------------------------------------

struct model_args {
    const char *path, *isa;
    const char *backend; // NULL: cpu
    int32_t gpu_layers;  // 0: all
    struct option_strings placement;
    const char *split; // NULL: by free memory
    const char *split_mode;
};
struct session_args {
    int32_t context, batch, threads; // 0: the library's default
    const char *kv_type_k, *kv_type_v;
    int32_t reuse_shifted;
};

enum { MODEL_OPTION_COUNT = 2, DEVICE_OPTION_COUNT = 5, SESSION_OPTION_COUNT = 6 };
// -m, --isa: into a struct model_args
extern const struct option model_options[MODEL_OPTION_COUNT];
// --backend, -ngl, -ot, -sm, -ts: likewise, of commands that run on a GPU too
extern const struct option device_options[DEVICE_OPTION_COUNT];
// -c, -b, -t, -ctk, -ctv, --cache-reuse: into a struct session_args
extern const struct option session_options[SESSION_OPTION_COUNT];

// Prints "tinylm NAME: text" on stderr. Returns EXIT_FAILED.
int common_failed(const struct command_line *line, const struct tlm_error *err);

// Where a user's files of a kind stand, by the XDG Base Directory Specification: below $VARIABLE, or below the home's `folder`. False where
// the environment names neither by an absolute path.
bool common_user_path(char *path, size_t size, const char *variable, const char *folder, const char *name);

// What these arguments, which must stay, say of how a model is opened: what is for GPUs means the backend that has them.
struct tlm_model_options common_model_options(const struct model_args *args);
// Opens the model at `path`, or, where that is NULL, the one that is built in. Errors: those of tlm_model_open().
enum tlm_status common_open_path(struct tlm_model **model, const char *path,
                                 const struct tlm_model_options *options, struct tlm_error *err);
// Says on stderr where it computes, and what is where if that is in several places, if another place than the CPU was asked for.
void common_say_backend(const struct command_line *line, const struct tlm_model *model,
                        const struct tlm_model_options *options);
// Where a GPU runs the model: kernels may be compiled for its sizes from now on, and are kept among the user's files.
void common_make_kernels(const struct tlm_model *model);
// Opens the model that -m names, or the one that is built in. Returns OPTIONS_GO, or EXIT_FAILED after an error, which has been
// printed.
int common_open_model(const struct command_line *line, const struct model_args *args, bool vocab_only,
                      struct tlm_model **model);
// Likewise a session; `args` may be NULL for the defaults.
int common_open_session(const struct command_line *line, const struct tlm_model *model,
                        const struct session_args *args, struct tlm_session **session);

// Encodes a whole text; *ids is for free(). `flags` of tlm_tokenize(). Errors: as tlm_tokenize(), MEMORY.
enum tlm_status common_encode(const struct tlm_model *model, const char *text, size_t bytes, int flags,
                              int32_t **ids, size_t *count, struct tlm_error *err);

// ---- output -------------------------------------------------------------------------------------------

// Flushes stdout and turns `code` into EXIT_FAILED, with a line on stderr, where writing has failed. A reader
// that closed the pipe early (as `| head` does) is not a failure.
int common_finish_output(const struct command_line *line, int code);
// The same for a failure that somebody met; `error` is its errno, 0 where that is not known.
int common_output_failed(const struct command_line *line, int error, int code);
// True where writing to stdout has failed already: long work had better stop.
bool common_output_broken(void);

// "1.2 GiB" into a buffer of at least 16 bytes; returns it.
const char *common_human_bytes(uint64_t bytes, char *buffer, size_t size);
// Opens what is closed of standard input, output and error, so that no file of ours gets their numbers and,
// say, an answer lands in it. Reading finds the end at once; writing fails, as it would have.
void common_keep_standard_files(void);
// Seconds of a clock that only goes forward.
double common_seconds(void);

// ---- Ctrl-C -------------------------------------------------------------------------------------------

// From now on SIGINT sets a flag instead of ending the process; the third before the flag was cleared ends
// it, should the program be slow to look. SIGPIPE is ignored: a closed pipe is an error of writing.
void common_catch_interrupt(void);
void common_release_interrupt(void); // SIGINT ends the process again
bool common_interrupted(void);
void common_clear_interrupt(void);

#endif
