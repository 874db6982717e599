// train/checkpoint.h -- everything that a run needs to go on as if it had never stopped, in one file; and the model that it has made so far.
//
// A checkpoint is a GGUF file:
//
//     general.architecture          "tinylm-checkpoint"
//     tinylm.checkpoint.version     1
//     tinylm.checkpoint.checksum    XXH3 (128 bits) of the data of all tensors in order, 32 hexadecimal digits
//     tinylm.checkpoint.config      the run's configuration, as an INI
//     tinylm.checkpoint.state       struct checkpoint_state, bytes
//     NAME                          f32, the weight of that name
//     NAME.m, NAME.v ...            what the optimizer keeps of it
//
// It takes its name once it is whole. Random numbers and the order of the data are functions of the step, so the step is all that is said of
// them.
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <sys/types.h>

#include "train/optimizer.h"

// Plain numbers, saved and restored as they are.
struct checkpoint_state {
    int64_t step; // steps done
    int64_t tokens;
    double best_loss; // of the validations so far; INFINITY: there was none
    int64_t since_best;
    double scale;       // of the loss: 1, but where matrices are f16
    int64_t good_steps; // with that scale
    struct optimizer_progress optimizer;
};

struct checkpoint {
    const struct parameters *parameters;
    struct optimizer *optimizer;
    struct checkpoint_state state;
};

// Errors: IO, MEMORY.
enum tlm_status checkpoint_write(const struct checkpoint *c, const char *config, const char *path,
                                 struct tlm_error *err);
// Fills the weights, the moments and c->state. Nothing is touched unless the checksum fits. Errors: IO, FORMAT (not a checkpoint, or not of
// this model), MEMORY.
enum tlm_status checkpoint_read(struct checkpoint *c, const char *path, struct tlm_error *err);
// The configuration in a checkpoint; *text is for free(). Errors: IO, FORMAT, MEMORY.
enum tlm_status checkpoint_config(const char *path, char **text, struct tlm_error *err);

// Writes the model as a GGUF that every command opens: the file's metadata with matrices in `matrices`, or on their grids. Errors: IO,
// MEMORY.
enum tlm_status checkpoint_write_model(const struct parameters *p, enum dtype matrices, const char *path,
                                       struct tlm_error *err);

// ---- the files of a run -----------------------------------------------------------------------------------------

enum { CHECKPOINT_PATH = 1024 };
// "DIR/checkpoint-00000120.gguf"
void checkpoint_path(char path[CHECKPOINT_PATH], const char *dir, int64_t step);
// The steps of the checkpoints of a folder, rising; *steps is for free(). A folder that is not there has none. Errors: IO, MEMORY.
enum tlm_status checkpoint_list(const char *dir, int64_t **steps, int64_t *count, struct tlm_error *err);

// Writing beside training: a forked process has the memory as it was, and training goes on.
struct checkpoint_writer {
    pid_t child; // 0: none
    int pipe;
    int64_t step;
};
// Begins to write DIR's checkpoint and model, once the one before is done. Errors: IO, MEMORY; those of the one before.
enum tlm_status checkpoint_begin(struct checkpoint_writer *w, const struct checkpoint *c, const char *config,
                                 const char *dir, enum dtype matrices, int64_t keep, struct tlm_error *err);
// Waits until it is written; then the oldest beyond `keep` (0: none) are removed. Errors: of the writing.
enum tlm_status checkpoint_wait(struct checkpoint_writer *w, const char *dir, int64_t keep,
                                struct tlm_error *err);

#endif
