// train/trainer.h -- a training run: model, data, optimizer and checkpoints together.
//
// A run lives in a folder (checkpoint.dir): `config.ini`, the resolved configuration; `init.gguf`, the model that it began with; `log.jsonl`;
// checkpoints; `model.gguf`, the model so far. A run that is begun again in its folder goes on from the last checkpoint, and comes to the
// same bits as if it had never stopped: losses, weights and moments are functions of the configuration and the step, whatever the threads.
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/checkpoint.h"
#include "train/config.h"
#include "train/dataset.h"
#include "train/pass.h"
#include "train/schedule.h"

// What is known of a step.
struct trainer_step {
    int64_t step, steps; // done, of all
    int64_t tokens;      // seen so far
    double loss;         // mean of the batch, in nats a token
    double rate, norm;   // learning rate; of the gradients before clipping
    double seconds;      // that the step took
    double flops;        // that its products have
    enum optimizer_outcome outcome;
};

struct trainer_eval {
    int64_t step;
    double loss; // mean over all targets, in nats
    int64_t targets;
    double best; // so far, this one included
    bool improved;
};

// What a run tells; any may be NULL.
struct trainer_hooks {
    void (*note)(void *user, const char *line);
    void (*step)(void *user, const struct trainer_step *s);
    void (*eval)(void *user, const struct trainer_eval *e);
    void (*sample)(void *user, const char *text);
    bool (*stop)(void *user); // true: the run saves and ends
    void *user;
};

// The bytes of a run, before it begins.
struct trainer_plan {
    int64_t parameters;
    size_t weights, gradients, copies, moments, activations, scratch;
    int64_t micro_batch, passes; // sequences a pass, passes a step
    int64_t steps;
    double flops; // a step
};

struct trainer;

// Opens or makes the model, opens the data, and goes on from the last checkpoint where there is one. Errors: of all parts; ARGUMENT where the
// folder holds a run of another configuration.
enum tlm_status trainer_open(struct trainer **out, const struct train_config *c,
                             const struct trainer_hooks *hooks, struct tlm_error *err);
void trainer_close(struct trainer *t); // NULL is allowed
struct trainer_plan trainer_plan(const struct trainer *t);

// Trains to the end, or until hooks->stop. What was done is in a checkpoint when it returns without an error. Errors: IO, MEMORY; ARGUMENT: the
// loss is no number any more.
enum tlm_status trainer_run(struct trainer *t, struct tlm_error *err);

// How much the log-probabilities of training and of generating from the written model differ, over the beginning of the validation data:
// the largest difference of a token's. Errors: IO, MEMORY.
enum tlm_status trainer_gap(struct trainer *t, double *gap, int64_t *tokens, struct tlm_error *err);

#endif
