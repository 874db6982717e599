// cli/sampling.h -- the options of sampling, which generate and chat share.
#ifndef CLI_SAMPLING_H
#define CLI_SAMPLING_H

#include <jansson.h>

#include "cli/common.h"

struct sampling_args {
    struct tlm_sampler_options options;
    int64_t seed; // -1: a random one
    struct option_strings breakers, biases;
    const char *grammar_file, *schema_file, *regex; // at most one of them
    struct tlm_grammar *grammar;                    // what it says; several samplers may share it
    uint64_t grammar_hash;                          // of the file
};

enum { SAMPLING_OPTION_COUNT = 26 };
extern const struct option sampling_options[SAMPLING_OPTION_COUNT];

struct sampling_args sampling_defaults(void);

// Makes the sampler that `args` ask for, drawing a seed from the system where none was given;
// args->options.seed is then the one in use, and args->grammar open. Returns OPTIONS_GO, or the exit code after an error, which
// has been printed.
int sampling_open(const struct command_line *line, struct sampling_args *args, const struct tlm_model *model,
                  struct tlm_sampler **sampler);

// The same without a word; a value that is wrong is ARGUMENT.
enum tlm_status sampling_make(struct sampling_args *args, const struct tlm_model *model,
                              struct tlm_sampler **sampler, struct tlm_error *err);
// 63 bits, so that the number shown can be given to -s.
uint64_t sampling_draw_seed(void);
// Closes the grammar, after the samplers.
void sampling_close(struct sampling_args *args);

// Sets the number that option --`name` (without the dashes) stands for. False after an error, which has been printed.
bool sampling_set(struct sampling_args *args, const char *name, const char *value);
// Writes these numbers with their names, one a line.
void sampling_print(const struct sampling_args *args, FILE *f);
// Sets what a key of a JSON object names: the long name of an option that is given once, with '_' for '-', as in "top_k". Texts stay
// where they are in `value`. *known: there is such an option. Errors: ARGUMENT (another kind of value, or out of range).
enum tlm_status sampling_set_json(struct sampling_args *args, const char *key, const json_t *value,
                                  bool *known, struct tlm_error *err);

#endif
