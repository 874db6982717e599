// train/config.h -- what a training run is: an INI file, changed by key=value of the command line, as a plain struct.
//
//     [model]                       # a new model (models/create.h), or init = FILE to go on from one
//     arch = llama
//     layers = 8
//     [optimizer]
//     lr = 1e-3                     ; a comment
//
// A value may go on in the next line behind an indent. Text that begins or ends with blanks, or has quotes or comment
// signs in it, stands in double quotes, with \n, \t, \", \\ and \; inside. Every key is a row of the table in
// train/config_keys.c, which also gives the defaults, the ranges and the help; keys that it lacks are refused.
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include <stdint.h>

#include "models/create.h"
#include "train/optimizer.h"
#include "train/schedule.h"

enum config_precision { CONFIG_F32, CONFIG_BF16, CONFIG_F16 };
enum config_recompute {
    CONFIG_RECOMPUTE_NONE,
    CONFIG_RECOMPUTE_ATTENTION,
    CONFIG_RECOMPUTE_LAYER,
    CONFIG_RECOMPUTE_AUTO
};
enum config_backend { CONFIG_CPU, CONFIG_CUDA };
enum config_state { CONFIG_STATE_F32, CONFIG_STATE_BF16, CONFIG_STATE_Q8 };

struct config_words {
    char **items;
    size_t count;
};

// Strings belong to the config; NULL where nothing was given. Numbers of which 0 says "none" or "decided for you" say so in
// the table.
struct train_config {
    struct {
        char *arch, *init, *tokenizer;
        struct create_pair *pairs; // all other keys of the section, in order
        size_t pair_count;
    } model;
    struct {
        struct config_words train, val;
        int64_t context; // tokens a sequence
        uint64_t seed;
    } data;
    struct {
        int64_t steps, tokens; // how long: one of the three, the others are 0
        double epochs;
        int64_t batch_tokens; // an optimizer step sees that many, in passes of micro_batch sequences
        int64_t micro_batch;
        enum config_precision precision;
        char *quantize;         // a mix
        double quantize_warmup; // steps; below 1: a share of all steps
        char *teacher;          // NULL: the model that the run goes on from
        double distill;         // share of the loss that compares with the teacher; 0: none
        enum config_recompute recompute;
        double dropout;
        enum config_backend backend;
        int64_t threads;
        uint64_t seed;
        int64_t eval_every, eval_batches, sample_every;
        char *sample_prompt;
        int64_t early_stop;
    } train;
    struct {
        enum optimizer_kind kind;
        double lr, beta1, beta2, eps, weight_decay, clip;
        enum config_state state;
        double skip_sigma;
    } optimizer;
    struct {
        enum schedule_kind kind;
        double warmup, decay; // steps; below 1: a share of all steps
        double min_ratio;
    } schedule;
    struct {
        char *dir;
        int64_t every, keep;
    } checkpoint;
    struct {
        int64_t every;
        char *on_start, *on_step, *on_eval, *on_end; // shell commands
    } log;
};

// The defaults. Errors: MEMORY.
enum tlm_status train_config_init(struct train_config *c, struct tlm_error *err);
void train_config_free(struct train_config *c); // of a struct of zeros too

// Reads a file over what the config holds; `name` stands for `text` in messages. Each key once. Errors: IO, MEMORY, FORMAT
// ("FILE:LINE: KEY: expected X, found Y").
enum tlm_status train_config_read(struct train_config *c, const char *path, struct tlm_error *err);
enum tlm_status train_config_parse(struct train_config *c, const char *name, const char *text, size_t bytes,
                                   struct tlm_error *err);
// "section.key=value", or "key=value" where only one section has the key. What is given takes the place of what it cannot stand
// beside: a new model and one to go on from, steps and tokens and epochs. Errors: ARGUMENT, MEMORY.
enum tlm_status train_config_set(struct train_config *c, const char *assignment, struct tlm_error *err);
// What no single key shows: data to train on, a model to begin with, a warmup that fits. Errors: ARGUMENT.
enum tlm_status train_config_check(const struct train_config *c, struct tlm_error *err);

// All keys with their values as an INI that reads back to the same; *text is for free(). Errors: MEMORY.
enum tlm_status train_config_text(const struct train_config *c, char **text, struct tlm_error *err);
// The same as a file, which takes its name once it is whole. Errors: IO, MEMORY.
enum tlm_status train_config_write(const struct train_config *c, const char *path, struct tlm_error *err);
// Every key with what it takes, what it means and its default, in lines of at most `columns`; *text is for free(). Errors: MEMORY.
enum tlm_status train_config_help(char **text, int columns, struct tlm_error *err);

#endif
