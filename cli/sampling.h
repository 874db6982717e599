// cli/sampling.h -- the options of sampling, which generate and chat share.
#ifndef CLI_SAMPLING_H
#define CLI_SAMPLING_H

#include "cli/common.h"

struct sampling_args {
    struct tlm_sampler_options options;
    int64_t seed; // -1: a random one
    struct option_strings breakers, biases;
};

enum { SAMPLING_OPTION_COUNT = 23 };
extern const struct option sampling_options[SAMPLING_OPTION_COUNT];

struct sampling_args sampling_defaults(void);

// Makes the sampler that `args` ask for, drawing a seed from the system where none was given;
// args->options.seed is then the one in use. Returns OPTIONS_GO, or the exit code after an error, which has
// been printed.
int sampling_open(const struct command_line *line, struct sampling_args *args, const struct tlm_model *model,
                  struct tlm_sampler **sampler);

// Sets the number that option --`name` (without the dashes) stands for. False after an error, which has been printed.
bool sampling_set(struct sampling_args *args, const char *name, const char *value);
// Writes these numbers with their names, one a line.
void sampling_print(const struct sampling_args *args, FILE *f);

#endif
