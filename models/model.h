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
#include "models/create.h"
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
    bool yarn_fractions; // the ends of YaRN's ramp are not rounded to whole pairs (gpt-oss)
};

struct expert_hparams {
    int64_t count, used; // 0: no experts
    int64_t feed_forward;
    int64_t shared, shared_feed_forward; // experts that every row passes through; their size together
    int64_t dense_layers;                // layers in front that have a plain feed-forward part
    int64_t groups, groups_used;         // experts are chosen from the best groups alone; 0 or 1: no groups
    enum route_gate gate;
    bool normalize; // the chosen weights are divided by their sum
    double scale;   // times the chosen weights
};

struct hparams {
    int64_t layers, width, feed_forward, heads, kv_heads, head_dim, value_dim, vocab, context;
    double norm_eps;
    struct rope_hparams rope, rope_local; // rope_local: of layers whose `local_rope` is set (Gemma 3)
    int64_t window;                       // of the layers that have one: keys a row sees; 0: none
    double attention_scale;               // of scores; 0: 1 / sqrt(head_dim)
    double attention_softcap;             // 0: none
    double embedding_scale, residual_scale, logit_scale,
        logit_softcap; // 1, 1, 1, 0 where the file says nothing
    bool layer_norm;   // norms are LayerNorms: the architecture's, or what its hparams() set
    bool parallel;     // attention and feed-forward read the same rows and are added together
    double alibi_bias; // largest slope's exponent; 0: no ALiBi
    struct expert_hparams experts;
    // Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434). kv_rank > 0: the cache of a layer holds one head of
    // kv_rank + rope numbers, whose first kv_rank are also the values.
    int64_t q_rank, kv_rank,
        nope_dim; // q_rank 0: queries are not compressed; nope_dim: of a head, without positions
    double latent_norm_eps;
};

// ---- weights ------------------------------------------------------------------------------------------

// Names for the sizes in a weight's shape.
enum dim {
    DIM_1,
    DIM_WIDTH,
    DIM_VOCAB,
    DIM_CONTEXT, // rows of learned positions
    DIM_FF,
    DIM_GATE_UP, // 2 F, gate above up
    DIM_Q,       // H d
    DIM_K,       // G d
    DIM_V,       // G d_v
    DIM_QKV,     // the three above each other
    DIM_OUT,     // H d_v
    DIM_HEADS,
    DIM_KV_HEADS,
    DIM_HEAD, // d
    DIM_ROPE_PAIRS,
    DIM_EXPERTS,
    DIM_EXPERT_FF,
    DIM_SHARED_FF,
    DIM_Q_RANK, // latent attention:
    DIM_KV_RANK,
    DIM_KV_A, // kv_rank + rotated part of a key
    DIM_KV_B, // H (nope + d_v)
    DIM_NOPE,
    DIM_VALUE, // d_v of the expanded values
};

// From a Hugging Face tensor to GGUF's. Where two rows of a table name the same Hugging Face tensor, each takes its part, and
// the way back puts the parts together. A Hugging Face name with a second %d, for the expert, is stacked over experts.
enum transform {
    TRANSFORM_NONE,
    TRANSFORM_ROPE_Q,      // rows of each head from halves to adjacent pairs
    TRANSFORM_ROPE_K,      // the same for key-value heads
    TRANSFORM_TRANSPOSE,   // (in, out) to (out, in): GPT-2's Conv1D
    TRANSFORM_PLUS_ONE,    // w + 1: Gemma's norms
    TRANSFORM_QKV_BY_HEAD, // rows [head][q k v][d] to [q k v][head][d]: GPT-NeoX, BLOOM
    TRANSFORM_LATENT_K, // of kv_b_proj, rows [head][nope + value]: the nope rows, transposed: (nope, rank, head)
    TRANSFORM_LATENT_V, // of kv_b_proj: the value rows: (rank, value, head)
    TRANSFORM_EXPERT_EVEN, // of gpt-oss's gate_up_proj: even outputs, the gate; numbers or MXFP4 blocks with scales
    TRANSFORM_EXPERT_ODD,   // odd outputs, up
    TRANSFORM_EXPERT_PLAIN, // gpt-oss's down_proj
};
enum split { SPLIT_COPY, SPLIT_ROWS, SPLIT_HEADS, SPLIT_COLUMNS, SPLIT_EXPERTS }; // over devices
enum role { ROLE_MATRIX, ROLE_NORM, ROLE_BIAS, ROLE_EMBEDDING, ROLE_TABLE, ROLE_ROUTER };

struct weight_spec {
    const char *gguf; // "blk.%d." stands for the layer; so does "model.layers.%d." in hf
    const char *hf;
    enum transform transform;
    size_t slot; // offset in struct layer for names with a layer, else in struct weights
    enum dim cols, rows;
    enum split split;
    enum role role;
    bool optional;  // absent: the slot stays NULL and helpers leave the step out
    enum dim depth; // third axis: experts, heads
};

enum { WEIGHT_NAME = 96 }; // bytes that the name of a weight takes at most
// Kernels read it in the type of the file; other weights are rows of `real`.
bool weight_is_matrix(const struct weight_spec *spec);

struct layer {
    const struct tensor *attn_norm, *attn_norm_bias, *wq, *bq, *wk, *bk, *wv, *bv, *wqkv, *bqkv, *wo, *bo;
    const struct tensor *q_norm,
        *k_norm;                // of each head (d), of all (H d), or of each by its own weight (d, H)
    const struct tensor *sinks; // (H)
    const struct tensor *attn_post_norm; // behind attention, before the sum
    const struct tensor *ffn_norm, *ffn_norm_bias, *gate, *gate_bias, *up, *up_bias, *down, *down_bias,
        *gate_up;
    const struct tensor *ffn_post_norm;
    // Experts: (D, E), then stacks (K, N, E) with biases (N, E).
    const struct tensor *router, *router_bias, *experts_gate, *experts_up, *experts_down;
    const struct tensor *experts_gate_bias, *experts_up_bias, *experts_down_bias;
    const struct tensor *choice_bias; // (E) joins the scores that choose experts, not their weights
    const struct tensor *shared_gate, *shared_up, *shared_down;
    // Latent attention: w_q_a (D, q_rank), w_q_b (q_rank, H (nope + rope)), w_kv_a (D, kv_rank + rope), w_k_b (nope, kv_rank, H),
    // w_v_b (kv_rank, value, H)
    // and of older files w_k_b and w_v_b in one piece, head by head: w_kv_b (kv_rank, H (nope + value)).
    const struct tensor *wq_a, *q_a_norm, *wq_b, *wkv_a, *kv_a_norm, *wk_b, *wv_b, *wkv_b;
    // Set by the architecture's finish(), not from the file:
    int32_t window;  // keys a row sees; 0: all
    bool local_rope; // turns by rope_local
    bool no_rope;
    bool no_slopes; // of ALiBi
};

struct weights {
    const struct tensor *embed, *positions; // (D, V), (D, context)
    const struct tensor *embed_norm, *embed_norm_bias;
    const struct tensor *out_norm, *out_norm_bias, *out, *out_bias;
    const struct tensor *rope_freqs, *rope_short, *rope_long; // divisors of the frequencies, (pairs)
    const struct tensor *alibi_slopes;                        // (H), worked out when the model is opened
    struct layer *layer;
};

// What stands behind the hidden rows: kept apart so that losses, pooling and draft heads use it without all logits.
struct head {
    const struct tensor *norm;      // (D)
    const struct tensor *norm_bias; // (D) or NULL
    bool layer_norm;                // LayerNorm; else RMSNorm
    const struct tensor *weight;    // (V, D)
    const struct tensor *bias;      // (V) or NULL
    double scale;                   // of the logits; 1
    double softcap;                 // 0: none
    double norm_eps;
};

// ---- architectures ------------------------------------------------------------------------------------

// What build() is given beside the model: leaves of the step, rotation tables' inputs, and the cache.
struct build_inputs {
    struct step_leaves step;
    struct {
        struct node *freq; // (pairs) F64
        double magnitude;
    } rope, rope_local;
    const struct paged_kv *keys, *values; // [layers]
    const int32_t *group_of;              // [layers] whose slots and block tables a layer goes by
};

// A kind of model on Hugging Face (models/hf.h) that becomes this architecture.
struct hf_variant;

struct arch {
    const char *name; // general.architecture
    enum tlm_status (*hparams)(struct hparams *h, const struct gguf *g, struct tlm_error *err);
    const struct weight_spec *weights;
    size_t weight_count;
    // Final hidden rows (T, D), before the head's norm.
    struct node *(*build)(struct graph *g, const struct tlm_model *m, const struct build_inputs *in);
    // Fills in what depends on the layer (windows, kinds of rotation) and refuses combinations of optional weights that make no
    // sense; NULL: nothing to do.
    enum tlm_status (*finish)(struct tlm_model *m, struct tlm_error *err);
    const struct hf_variant *variants;
    size_t variant_count;
    bool layer_norm;               // norms are LayerNorms, with or without bias; else RMSNorms
    struct create_defaults create; // what a new model has where nobody says otherwise
};

const struct arch *arch_find(struct gguf_string name); // NULL where there is none
const struct arch *arch_at(size_t i);                  // all of them in turn, then NULL
const char *arch_names(void);                          // "llama, ...", for messages

// Where places that share layers cut them (models/rows.c): place p has at[c][p] .. at[c][p + 1] of what is counted.
enum cut_of {
    CUT_KV_HEADS,
    CUT_Q, // numbers of queries, of keys, of values, of what attention makes: by whole key-value heads
    CUT_K,
    CUT_V,
    CUT_OUT,
    CUT_FF,
    CUT_EXPERT_FF,
    CUT_SHARED_FF,
    CUT_WIDTH, // outputs of a matrix whose inputs cannot be cut where they would have to be
    CUT_VOCAB,
    CUT_COUNT
};
struct row_cuts {
    bool sharing[PLACES]; // the places; none: layers are whole
    int64_t at[CUT_COUNT][PLACES + 1];
};

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
    enum dtype real;                 // of activations and vectors
    struct backend *devices[PLACES]; // by place (models/placement.h); [0] is NULL
    int place_count;                 // the processor, and the devices
    int32_t *layer_places;           // [layers]
    struct row_cuts rows;
    struct backend *backend; // the first device; NULL: the CPU computes all
    bool shared;             // more than one place computes
    char backend_text[640];  // which it is, and why
    struct arena vectors;    // norms and biases, converted to `real`; tensor headers; layers
    struct arena made;       // weights that finish() works out of those of the file; mostly none
    struct arena packed,
        packed_data; // matrices in the order that integer kernels read: their headers, their numbers
    uint64_t weight_bytes, parameters;
    char description[96];
};
// The frequencies as a leaf of the graph takes them.
struct rope_source {
    struct tensor freq; // (pairs) F64
    double magnitude;   // of cos and sin
};
// Errors: MEMORY.
enum tlm_status rope_source_open(struct rope_source *r, const struct tlm_model *m,
                                 const struct rope_hparams *h, int64_t context, struct tlm_error *err);
void rope_source_close(struct rope_source *r);
// models/rope.c: the rotation frequencies (pairs) by `h` (the model's rope or rope_local) of a session that holds `context` tokens, and
// the factor of cos and sin. Divisors that the file holds belong to rope alone.
void rope_frequencies(const struct tlm_model *m, const struct rope_hparams *h, int64_t context, double *freq,
                      double *magnitude);
// Reads ARCH.rope.* into *h; pairs, pairing and original_context hold the architecture's defaults on entry. Errors: FORMAT, UNSUPPORTED.
enum tlm_status rope_hparams_read(struct rope_hparams *h, const struct gguf *g, const char *arch,
                                  struct tlm_error *err);

// All of them, by the architecture; `h` is set from scratch. Errors: those of arch->hparams().
enum tlm_status hparams_read(struct hparams *h, const struct arch *arch, const struct gguf *g,
                             struct tlm_error *err);
// What nearly all architectures have, under the same keys: sizes, heads, `eps_key` ("attention.layer_norm_rms_epsilon"), experts. Sets
// rope.pairs and rope.original_context for rope_hparams_read. Errors: FORMAT.
enum tlm_status hparams_common(struct hparams *h, const struct gguf *g, const char *arch, const char *eps_key,
                               struct tlm_error *err);
// ARCH.expert_*; what the file does not say keeps its value.
enum tlm_status hparams_experts(struct expert_hparams *e, const struct gguf *g, const char *arch,
                                struct tlm_error *err);

// models/limits.c: gives the tensors of the file the limits of their inputs that its keys name. Errors: FORMAT, MEMORY.
#define MODEL_KEY_LIMITED GGUF_KEYS_OF_NUMBERS "matrices"
#define MODEL_KEY_LIMITS  GGUF_KEYS_OF_NUMBERS "limits"
enum tlm_status model_read_limits(struct gguf *g, struct tlm_error *err);

// models/pack.c: packs the matrices whose kernels want that. Errors: MEMORY.
enum tlm_status model_pack(struct tlm_model *m, struct tlm_error *err);

// models/model.c: calls fn for each weight that the model has: its row of the table, its name in the file, and the slot that build() and head
// read; a slot may be turned to another tensor of the same shape.
typedef void model_weight_fn(void *user, const struct weight_spec *spec, const char *name,
                             const struct tensor **slot);
void model_each_weight(struct tlm_model *m, model_weight_fn *fn, void *user);

// models/model.c: the size that a name in a weight table stands for.
int64_t hparams_dim(const struct hparams *h, enum dim d);
// Reads the whole number ARCH.`key` within [min, max]; required where *out < min on entry (no default).
enum tlm_status hparam_i64(const struct gguf *g, const char *arch, const char *key, int64_t min, int64_t max,
                           int64_t *out, struct tlm_error *err);
enum tlm_status hparam_f64(const struct gguf *g, const char *arch, const char *key, double *out,
                           struct tlm_error *err);
enum tlm_status hparam_bool(const struct gguf *g, const char *arch, const char *key, bool *out,
                            struct tlm_error *err);

#endif
