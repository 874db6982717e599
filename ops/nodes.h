// ops/nodes.h -- the graph's ops: builders that models call, and the table that the CPU runs.
//
// Builders check shapes with TLM_ASSERT: weights were checked against the file when the model was loaded, so a mismatch here
// is a mistake of ours. All activations are (rows, columns); heads lie side by side in the columns.
#ifndef OPS_NODES_H
#define OPS_NODES_H

#include "ops/ops.h"
#include "ops/step.h"

enum op_id {
#define OP(name, light) OP_##name,
#include "ops/ops.def"
#undef OP
    OP_COUNT
};

// Typed parameters, one struct an op that has any.
struct norm_params { // of rmsnorm and layernorm
    double eps;
    int64_t group; // columns that are normalised together
};
struct factor_params { // of scale and softcap
    double factor;
};
struct convert_params { // none: each block of a quantized type by its own largest number
    float limit;
};
struct hadamard_params {
    int64_t block; // columns that are rotated together
};
struct activation_params { // of activation and glu
    enum activation kind;
};
struct slice_params { // numbers offset .. offset + count of each of the `heads` parts of a row
    int32_t heads, offset, count;
};
struct concat_params {
    int32_t heads;
    bool b_shared;
};
struct rope_table_params {
    double magnitude; // of cos and sin (YaRN, LongRoPE); 1 otherwise
    bool inverse;     // turns back: the gradient of a rotation
};
struct rope_params {
    int32_t heads, head_dim, pairs; // the first 2*pairs numbers of a head turn
    enum rope_pairing pairing;
};
struct kv_write_params {
    struct paged_kv cache;
    int32_t heads, head_dim;
};
struct attention_params {
    int32_t heads, kv_heads, head_dim, value_dim;
    int32_t window; // keys a row sees, itself included; 0: all
    double scale, softcap;
    const struct tensor *sinks, *slopes; // (heads) or NULL
};
struct attention_prefix_params {
    struct attention_params attention;
    struct paged_kv k, v;
};

struct route_params {
    int32_t experts, used, groups, groups_used;
    enum route_gate gate;
    bool normalize;
    double scale;
};

// The leaves through which ops read the step.
struct step_leaves {
    struct node *tokens, *positions, *outputs, *tiles;
    struct node *prefix_tiles; // NULL where the step has one sequence
    struct node *slots[STEP_GROUPS], *block_tables[STEP_GROUPS];
};
// With room for so many rows and outputs, no more than the step has.
struct step_leaves g_step(struct graph *g, const struct step *s, int32_t max_rows, int32_t max_outputs);

struct node *g_weight(struct graph *g, const struct tensor *w);
// (rows, D): row tokens[r] of w (V, D)
struct node *g_embed(struct graph *g, struct node *w, struct node *tokens);
// (outputs, D): rows outputs[i] of x
struct node *g_select(struct graph *g, struct node *x, struct node *outputs);
struct node *g_convert(struct graph *g, struct node *x, enum dtype type);
// To Q8_K with steps of limit / 127, cut off at the limit
struct node *g_convert_within(struct graph *g, struct node *x, float limit);
// Norms of each `group` columns; w (group) serves all groups, or w (columns of x) gives each its own.
struct node *g_rmsnorm(struct graph *g, struct node *x, struct node *w, int64_t group, double eps);
// b may be NULL
struct node *g_layernorm(struct graph *g, struct node *x, struct node *w, struct node *b, int64_t group,
                         double eps);
// (rows, N): x (rows, K) times w (N, K) transposed
struct node *g_matmul(struct graph *g, struct node *w, struct node *x);
struct node *g_bias(struct graph *g, struct node *x, struct node *b);
struct node *g_add(struct graph *g, struct node *a, struct node *b);
// (rows, H*N): part h of a row of x (rows, H*K) times matrix h of w (H, N, K) transposed
struct node *g_matmul_heads(struct graph *g, struct node *w, struct node *x);
struct node *g_scale(struct graph *g, struct node *x, double factor);
struct node *g_softcap(struct graph *g, struct node *x, double cap);
// Each `block` columns, a power of two, times the Hadamard matrix / sqrt(block).
struct node *g_hadamard(struct graph *g, struct node *x, int64_t block);
struct node *g_activation(struct graph *g, struct node *x, enum activation kind);
struct node *g_glu(struct graph *g, struct node *gate, struct node *up, enum activation kind);
// (rows, heads*count): numbers offset .. offset + count of each of the `heads` equal parts of x's rows
struct node *g_slice(struct graph *g, struct node *x, int32_t heads, int32_t offset, int32_t count);
// Head by head side by side: (rows, heads*(a + b)) of a (rows, heads*a) and b (rows, heads*b), or (rows, b) for all heads alike.
struct node *g_concat(struct graph *g, struct node *a, struct node *b, int32_t heads, bool b_shared);
// (rows, 2*pairs): cos and sin of positions times freq (pairs, F64)
struct node *g_rope_table(struct graph *g, struct node *positions, struct node *freq, double magnitude);
// The table of the turns back
struct node *g_rope_inverse(struct graph *g, const struct node *table);
struct node *g_rope(struct graph *g, struct node *x, struct node *table, int32_t heads,
                    enum rope_pairing pairing);
// Puts x (rows, heads*head_dim) into the cache; the result stands for the cache after the write.
struct node *g_kv_write(struct graph *g, struct node *x, struct node *slots, struct paged_kv cache,
                        int32_t heads);
// (rows, heads*value_dim), for a layer whose keys and values stand where the block tables of `group` say. Prefixes that sequences share
// are attended by a node of its own, attention_prefix, whose output are the states behind them; keys and values of a prefix were
// written in an earlier step, so it runs beside kv_write.
struct node *g_attention(struct graph *g, struct node *q, struct node *k_written, struct node *v_written,
                         const struct step_leaves *step, int32_t group,
                         const struct attention_params *params);

// ---- mixtures of experts (ops/nodes_experts.c)
//
// A row goes to `used` experts. route says to which; sort puts the (row, expert) pairs in the order of experts, so that each expert
// multiplies its rows as one matrix; combine adds up a row's results in the order of route. What is in between has the extent
// ROUTED_ROWS: `used` rows a row.
struct node *g_route(struct graph *g, struct node *logits, struct node *choice_bias,
                     const struct route_params *p);
struct node *g_sort_experts(struct graph *g, struct node *route);
struct node *g_gather_experts(struct graph *g, struct node *x, struct node *sorted);
// (pairs, N) of w (E, N, K) and x (pairs, K)
struct node *g_matmul_experts(struct graph *g, struct node *w, struct node *x, struct node *sorted);
struct node *g_bias_experts(struct graph *g, struct node *x, struct node *b, struct node *sorted); // b (E, N)
struct node *g_combine_experts(struct graph *g, struct node *x, struct node *route, struct node *sorted);

// What a node of that output makes in another place, which brings it here before the level's nodes run (ops/parts.h).
struct node *g_move(struct graph *g, const struct node *from, int level);

// The tables that graph_init() takes, for float and double; its `kernels` is a struct kernels of the same build.
extern const struct op op_table_ref[OP_COUNT], op_table_f64[OP_COUNT];

// Passes over a graph, before graph_plan().
//
// Rows that nobody asked for need no computing behind the last attention: g_select(f(x)) becomes f(g_select(x)) for every
// row-wise op f whose only reader it is. Returns the new root.
struct node *pass_narrow(struct graph *g, struct node *select);
// Gives every matmul its activations in the type that its kernel takes; matmuls of the same input share a conversion.
void pass_convert(struct graph *g, const struct kernels *k);

#endif
