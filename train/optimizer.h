// train/optimizer.h -- what becomes of the weights once their gradients are there: norm, clipping, and the update.
//
// The arithmetic of the updates stands in ops/update.h; here is the policy: which weight is updated how, in which type its
// moments are kept, which steps are skipped. Weights are cut into chunks of a fixed size, which threads take as they come;
// results do not depend on how many there are. Where the model runs on a backend, weights, gradients and moments are there and are
// updated there (train/optimizer_device.c).
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "core/cpu.h"
#include "core/threads.h"
#include "train/parameters.h"

enum optimizer_kind {
    OPTIMIZER_ADAMW,
    OPTIMIZER_LION,
    OPTIMIZER_MUON, // matrices of layers; AdamW for embeddings, the head, norms, biases and routers
    OPTIMIZER_SGD,
};

struct optimizer_options {
    enum optimizer_kind kind;
    // Type of the moments: F32, BF16, I8 (ops/update.h). Tensors of fewer than 4096 numbers and norms stay in F32, and so does
    // Muon's momentum; SGD has no I8.
    enum dtype moments;
    double beta1, beta2, eps; // AdamW; Lion without eps
    double momentum;          // Muon, SGD
    bool nesterov;            // Muon, SGD
    double decay; // of weights: times the learning rate (SGD: joins the gradient), where a parameter says so
    int iterations;   // Muon: of Newton and Schulz
    double side_rate; // Muon: the learning rate of its AdamW, in parts of Muon's
    double clip;      // largest norm of all gradients together; 0: no limit
    // Steps whose norm is more than `outlier` deviations above the average of the last `window` steps are skipped, once there
    // were as many; 0: none are. Off by default: clipping bounds what a bad batch does, and a run that skips no longer is the
    // run of its schedule and data. 6 is a sane choice where losses spike.
    double outlier;
    int64_t window;
    uint64_t seed; // of the chances in rounding
};

// AdamW 0.9, 0.95, decay 0.1; Lion 0.9, 0.99, decay 0.3; Muon as its author's: 0.95, Nesterov, 5 iterations; SGD 0.9, no decay.
// All clip at 1.
struct optimizer_options optimizer_defaults(enum optimizer_kind kind);

struct optimizer;

// The parameters and threads stay the caller's and alive; gradients and values are looked up at each step.
// Errors: ARGUMENT (options that make no sense), MEMORY, UNSUPPORTED (by the model's backend).
enum tlm_status optimizer_open(struct optimizer **out, const struct parameters *p,
                               const struct optimizer_options *options, enum isa isa, struct threads *threads,
                               struct tlm_error *err);
void optimizer_close(struct optimizer *o); // NULL is allowed
// Bytes that optimizer_open() would take for moments, and for everything.
struct optimizer_bytes {
    size_t moments, all;
};
struct optimizer_bytes optimizer_bytes(const struct parameters *p, const struct optimizer_options *options,
                                       int threads);

enum optimizer_outcome {
    OPTIMIZER_STEPPED,
    OPTIMIZER_NOT_FINITE,
    OPTIMIZER_OUTLIER,
    OPTIMIZER_FAILED, // the backend has: `error` says how
};
struct optimizer_report {
    enum optimizer_outcome outcome; // where not STEPPED, nothing was touched but the counts
    double norm;                    // of all gradients times `scale`, before clipping
    double clipped;                 // what they were multiplied with on top of it, 1 or less
    struct tlm_error error;         // of OPTIMIZER_FAILED
};
// One update with this learning rate. scale: what makes of the gradients' sums those of the loss, such as 1 / (batch * loss scale).
struct optimizer_report optimizer_step(struct optimizer *o, double rate, double scale);

// ---- what a checkpoint keeps --------------------------------------------------------------------------------

// Plain numbers, without gaps, to be saved and restored as they are.
struct optimizer_progress {
    int64_t updates; // done; bias correction counts these, not the skipped
    int64_t not_finite, outliers;
    int64_t norms; // seen
    double mean,
        variance; // of the last norms: of all of them up to `window`, from then on with a weight of 1 / window for the newest
};
struct optimizer_progress *optimizer_progress(struct optimizer *o);

// One array of moments, to be written out or filled.
struct optimizer_state {
    char name[WEIGHT_NAME + 16]; // of the parameter, and ".m", ".m_scale", ".v" or ".v_scale"
    enum dtype type;
    int64_t ne[3]; // as the parameter's; of scales (blocks, 1, 1)
    void *data;
    size_t bytes;
};
int64_t optimizer_state_count(const struct optimizer *o);
// 0 <= i < count; the order is that of the parameters.
struct optimizer_state optimizer_state(const struct optimizer *o, int64_t i);
// Of a model on a backend: the arrays from there, before they are written, and there, when they were filled. Errors: IO.
enum tlm_status optimizer_pull(const struct optimizer *o, struct tlm_error *err);
enum tlm_status optimizer_push(const struct optimizer *o, struct tlm_error *err);

#endif
