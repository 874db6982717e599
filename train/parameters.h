// train/parameters.h -- the weights that are trained: f32 masters, gradients, and a model that computes with them.
#ifndef TRAIN_PARAMETERS_H
#define TRAIN_PARAMETERS_H

#include "models/model.h"
#include "quant/mix.h"
#include "train/gradient.h"

// A weight that is trained. Arrays are flat, `count` numbers in the order of the tensor.
struct parameter {
    char name[WEIGHT_NAME];
    enum role role;
    int64_t cols, rows, depth, count;
    float *value;    // f32 master
    float *gradient; // sum over the batch
    void *
        copy; // what the graph computes with, of copy_type, written by the optimizer; NULL: the graph reads `value`
    enum dtype
        copy_type; // BF16 or F16 where matrices are computed with in these; F64 for vectors of a model in double
    bool decay;    // weight decay applies: matrices and embeddings; not norms and biases
    // Quantization-aware training: the copy holds what numbers of this type can be, blended with the value; gradients go to the value
    // as if nothing had been rounded (Bengio, Leonard and Courville, arXiv 1308.3432: straight through). DTYPE_COUNT: none.
    enum dtype grid;
    float rounded; // share of the rounded number in the copy, from 0 to 1
};

struct parameters {
    struct parameter *item;
    int64_t count;
    int64_t numbers;       // of all
    const struct mix *mix; // that gives grids; NULL: nothing is rounded
    // The same model over these arrays; its other parts are those of the model it was made of, which stays open as long.
    struct tlm_model model;
    struct tensor *headers; // [count] what the slots of the model point to
    struct arena memory;
};

// Takes all weights of a model but its tables, from a file of any type, and computes with matrices in `matrices` (F32, BF16 or F16). With a
// mix (NULL: none) they are rounded to the types that it gives them; until parameters_round() the share of that is 0.
// Errors: MEMORY; UNSUPPORTED: a weight that was made of others in the file; those of mix_model_read().
enum tlm_status parameters_open(struct parameters *p, const struct tlm_model *m, enum dtype matrices,
                                const struct mix *mix, struct tlm_error *err);
void parameters_close(struct parameters *p);
// Operations of a forward pass on a token at `context` tokens a document: 2 a weight of each product, whose sum counts as one, and attention's
// on half of the context. Training has three times as many.
double parameters_flops(struct tlm_model *m, int64_t context);
// Sets the share of rounding for copies that are written from now on.
void parameters_round(struct parameters *p, double share);
// Writes the copy of a parameter from its value, with a tier's conversions (k: the model's, or others in f32).
void parameter_copy(const struct parameter *p, const struct kernels *k);
// A parameter's numbers [first, first + count) in its grid's type, as the finished file has them: whole blocks.
void parameter_quantize(const struct parameter *p, void *to, int64_t first, int64_t count);
// Where the model runs on a backend, the weights are there (ops/backend.h): brings values back for files, or values and copies there.
// Errors: IO, MEMORY.
enum tlm_status parameters_pull(const struct parameters *p, struct tlm_error *err);
enum tlm_status parameters_push(const struct parameters *p, struct tlm_error *err);
// What the gradient pass is to write: to[p->count].
void parameters_slots(const struct parameters *p, struct gradient_slot *to);

#endif
