// models/model.h -- what a model is: hyperparameters, a weight table, and build().
//
// An architecture is one file with a `struct arch`: it reads its hyperparameters from GGUF keys, lists its weights in a
// table, and builds the graph of its hidden rows. models/model.c does what all share: opening the file, finding and
// checking each weight by the table, the head. A new architecture is its file and one line in models/registry.c.
//
// Shapes: T rows, D model width, H heads, G key-value heads, d head size, F feed-forward size, V vocabulary.
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "core/gguf.h"
#include "ops/nodes.h"
#include "text/tokenizer.h"

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LONGROPE };

struct rope_hparams {
    int64_t pairs; // rotated pairs a head
    double base;   // theta
    enum rope_pairing pairing;
    enum rope_scaling scaling;
    double factor; // how much longer the context is than the original
    int64_t original_context;
    double attn_factor; // times the magnitude of YaRN and LongRoPE
    double yarn_beta_fast, yarn_beta_slow, yarn_ext_factor;
};

struct hparams {
    int64_t layers, width, feed_forward, heads, kv_heads, head_dim, value_dim, vocab, context;
    double norm_eps;
    struct rope_hparams rope;
};

// ---- weights ------------------------------------------------------------------------------------------

// Names for the sizes in a weight's shape.
enum dim { DIM_1, DIM_WIDTH, DIM_VOCAB, DIM_FF, DIM_Q, DIM_K, DIM_V, DIM_OUT, DIM_ROPE_PAIRS };

enum transform { // from a Hugging Face tensor to GGUF's
    TRANSFORM_NONE,
    TRANSFORM_ROPE_Q, // rows of each head from halves to adjacent pairs
    TRANSFORM_ROPE_K,
};
enum split { SPLIT_COPY, SPLIT_ROWS, SPLIT_HEADS, SPLIT_COLUMNS }; // over devices
enum role { ROLE_MATRIX, ROLE_NORM, ROLE_BIAS, ROLE_EMBEDDING, ROLE_TABLE };

struct weight_spec {
    const char *gguf; // "blk.%d." stands for the layer; so does "model.layers.%d." in hf
    const char *hf;
    enum transform transform;
    size_t slot; // offset in struct layer for names with a layer, else in struct weights
    enum dim cols, rows;
    enum split split;
    enum role role;
    bool optional; // absent: the slot stays NULL and helpers leave the step out
};

struct layer {
    const struct tensor *attn_norm, *wq, *bq, *wk, *bk, *wv, *bv, *wo, *bo;
    const struct tensor *ffn_norm, *gate, *gate_bias, *up, *up_bias, *down, *down_bias;
};

struct weights {
    const struct tensor *embed, *out_norm, *out;
    const struct tensor *rope_freqs, *rope_short, *rope_long; // divisors of the frequencies, (pairs)
    struct layer *layer;
};

// What stands behind the hidden rows: kept apart so that losses, pooling and draft heads use it without all logits.
struct head {
    const struct tensor *norm;   // (D)
    const struct tensor *weight; // (V, D)
    const struct tensor *bias;   // (V) or NULL
    double scale;                // of the logits; 1
    double softcap;              // 0: none
    double norm_eps;
};

// ---- architectures ------------------------------------------------------------------------------------

// What build() is given beside the model: leaves of the step, rotation tables' inputs, and the cache.
struct build_inputs {
    struct step_leaves step;
    struct node *rope_freq; // (pairs) F64
    double rope_magnitude;
    const struct paged_kv *keys, *values; // [layers]
};

struct arch {
    const char *name; // general.architecture
    enum tlm_status (*hparams)(struct hparams *h, const struct gguf *g, struct tlm_error *err);
    const struct weight_spec *weights;
    size_t weight_count;
    // Final hidden rows (T, D), before the head's norm.
    struct node *(*build)(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);
};

extern const struct arch arch_llama;
const struct arch *arch_find(struct gguf_string name); // NULL where there is none
const char *arch_names(void);                          // "llama, ...", for messages

// The public handle of tinylm.h is this struct.
struct tlm_model {
    struct gguf *gguf;
    struct tokenizer *tokenizer;      // NULL where the file has none that we know; then:
    struct tlm_error tokenizer_error; // why
    const struct arch *arch;          // NULL when only the vocabulary was opened
    struct hparams hparams;
    struct weights weights;
    struct head head;
    enum isa isa;
    struct kernels kernels;
    const struct op *ops;
    enum dtype real;      // of activations and vectors
    struct arena vectors; // norms and biases, converted to `real`; tensor headers; layers
    uint64_t weight_bytes, parameters;
    char description[96];
};
// models/rope.c: the rotation frequencies (pairs) of a session that holds `context` tokens, and the factor of cos and sin.
void rope_frequencies(const struct tlm_model *m, int64_t context, double *freq, double *magnitude);
// Reads ARCH.rope.* into *h; pairs, pairing and original_context hold the architecture's defaults on entry. Errors: FORMAT, UNSUPPORTED.
enum tlm_status rope_hparams_read(struct rope_hparams *h, const struct gguf *g, const char *arch,
                                  struct tlm_error *err);

// Reads the whole number ARCH.`key` within [min, max]; required where *out < min on entry (no default).
enum tlm_status hparam_i64(const struct gguf *g, const char *arch, const char *key, int64_t min, int64_t max,
                           int64_t *out, struct tlm_error *err);
enum tlm_status hparam_f64(const struct gguf *g, const char *arch, const char *key, double *out,
                           struct tlm_error *err);

#endif
