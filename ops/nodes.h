// ops/nodes.h -- the graph's ops: builders that models call, and the table that the CPU runs.
//
// Builders check shapes with TLM_ASSERT: weights were checked against the file when the model was loaded, so a mismatch here
// is a mistake of ours. All activations are (rows, columns); heads lie side by side in the columns.
#ifndef OPS_NODES_H
#define OPS_NODES_H

#include "ops/ops.h"
#include "ops/step.h"

enum op_id {
#define OP(name) OP_##name,
#include "ops/ops.def"
#undef OP
    OP_COUNT
};

// Typed parameters, one struct an op that has any.
struct rmsnorm_params {
    double eps;
};
struct rope_table_params {
    double magnitude; // of cos and sin (YaRN, LongRoPE); 1 otherwise
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
    double scale;
};

// The leaves through which ops read the step.
struct step_leaves {
    struct node *tokens, *positions, *slots, *outputs, *tiles, *block_tables;
};
struct step_leaves g_step(struct graph *g, const struct step *s);

struct node *g_weight(struct graph *g, const struct tensor *w);
// (rows, D): row tokens[r] of w (V, D)
struct node *g_embed(struct graph *g, struct node *w, struct node *tokens);
// (outputs, D): rows outputs[i] of x
struct node *g_select(struct graph *g, struct node *x, struct node *outputs);
struct node *g_convert(struct graph *g, struct node *x, enum dtype type);
struct node *g_rmsnorm(struct graph *g, struct node *x, struct node *w, double eps);
// (rows, N): x (rows, K) times w (N, K) transposed
struct node *g_matmul(struct graph *g, struct node *w, struct node *x);
struct node *g_bias(struct graph *g, struct node *x, struct node *b);
struct node *g_add(struct graph *g, struct node *a, struct node *b);
struct node *g_swiglu(struct graph *g, struct node *gate, struct node *up);
// (rows, 2*pairs): cos and sin of positions times freq (pairs, F64)
struct node *g_rope_table(struct graph *g, struct node *positions, struct node *freq, double magnitude);
struct node *g_rope(struct graph *g, struct node *x, struct node *table, int32_t heads,
                    enum rope_pairing pairing);
// Puts x (rows, heads*head_dim) into the cache; the result stands for the cache after the write.
struct node *g_kv_write(struct graph *g, struct node *x, struct node *slots, struct paged_kv cache,
                        int32_t heads);
// (rows, heads*value_dim)
struct node *g_attention(struct graph *g, struct node *q, struct node *k_written, struct node *v_written,
                         const struct step_leaves *step, const struct attention_params *params);

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
