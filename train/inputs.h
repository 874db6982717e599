// train/inputs.h -- what a run takes from outside and puts into its folder.
#ifndef TRAIN_INPUTS_H
#define TRAIN_INPUTS_H

#include "core/threads.h"
#include "models/model.h"
#include "train/config.h"
#include "train/dataset.h"

// Makes the run's folder with config.ini, or checks that the one that is there is of the same run: all that decides what it computes is as it
// was. How long it lasts, how often it writes and on how many threads may differ. Errors: ARGUMENT, IO, MEMORY.
enum tlm_status inputs_folder(const struct train_config *c, struct tlm_error *err);
// Writes a model (a file or a folder) as one GGUF. Errors: IO, FORMAT, MEMORY.
enum tlm_status inputs_copy_model(const char *from, const char *to, struct tlm_error *err);
// Opens files as a dataset; texts and JSONL are first made a shard, DIR/NAME.gguf. Errors: those of dataset_open() and tokenize_corpus().
enum tlm_status inputs_open(struct dataset **out, const struct config_words *files, const char *dir,
                            const char *name, const struct tlm_model *m, const struct dataset_options *o,
                            struct threads *threads, struct tlm_error *err);
// Draws `count` tokens behind a prompt; *text (with the prompt) is for free(). Errors: MEMORY, ARGUMENT.
enum tlm_status inputs_sample(const struct tlm_model *m, const char *prompt, int32_t count, uint64_t seed,
                              int threads, char **text, struct tlm_error *err);

#endif
