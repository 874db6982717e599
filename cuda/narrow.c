// cuda/narrow.c -- what training computes in the form that tensor cores take: 16 bits, in rows on boundaries of 16 bytes.
//
// A conversion that products of gradients alone read gets rows of whole pieces of 16 bytes, the last ones filled with zeros: GPT-2's vocabulary
// has 50,257 tokens, and rows of so many numbers would leave its largest product without tensor cores. And where a conversion is all that
// reads the gradient of the loss, a norm, an activation, its gradient or a part of rows, that is written so at once: a number is written with
// 2 bytes where apart it would be written and read with 4 and written with 2. The numbers are the same: rounded once, from the same f32.
#include "cuda/nodes.h"

enum { PIECE = 8 }; // numbers of bf16

static bool is_product(int op)
{
    return op == OP_matmul_nn || op == OP_matmul_experts_dx || op == OP_matmul_experts_dw ||
           op == OP_matmul_heads_dx || op == OP_matmul_heads_dw;
}

// The gradient of a bias: a sum over the rows of x, which may have 16 bits. It is then made of the numbers that the gradient of the bias's
// matrix is made of.
static bool is_sum(const struct node *n, const struct node *x)
{
    return n->op == OP_sum_rows && n->in[0] == x && !((const struct sum_rows_params *)n->params)->saved;
}

// The one node that reads x beside such sums, or NULL; *products: all that do are products of gradients, as their first input. Conversions may
// have been added behind what reads them.
static struct node *only_reader(const struct graph *g, const struct node *x, bool *products)
{
    struct node *nodes = (struct node *)g->nodes.base, *found = NULL;
    int count = 0;
    *products = true;
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        bool reads = n->base == x;
        for (int j = 0; j < n->input_count; j++) reads |= n->in[j] == x;
        if (!reads || is_sum(n, x)) continue;
        *products &= is_product(n->op) && n->in[0] == x && n->in[1] != x && n->base != x;
        found = n, count++;
    }
    return count == 1 ? found : NULL;
}

static bool is_loss(const struct node *n)
{
    return (n->op == OP_cross_entropy || n->op == OP_distill) && n->base;
}

// Ops with kernels that write 16 bits (cuda/narrow.h)
static bool writes_narrow(const struct node *n)
{
    return n->op == OP_rmsnorm || n->op == OP_layernorm || n->op == OP_activation || n->op == OP_glu ||
           n->op == OP_slice || n->op == OP_activation_dx;
}

// What the conversion reads in its place, which nobody reads from then on.
static void narrow(struct graph *g, struct node *from, struct node *convert)
{
    struct node *nodes = (struct node *)g->nodes.base;
    from->out = convert->out;
    if (is_loss(from)) { // no longer in the place of the logits
        from->in[from->input_count++] = from->base;
        from->base = NULL;
    }
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        for (int j = 0; j < n->input_count; j++)
            if (n->in[j] == convert) n->in[j] = from;
        if (n->after == convert) n->after = from;
    }
}

static bool has_loss(const struct graph *g)
{
    const struct node *nodes = (const struct node *)g->nodes.base;
    for (int64_t i = 0; i < g->node_count; i++)
        if (is_loss(&nodes[i])) return true;
    return false;
}

void cuda_narrow_graph(struct graph *g)
{
    struct node *nodes = (struct node *)g->nodes.base;
    if (!has_loss(g)) return; // generating has rules of its own (cuda/fuse.c)
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i], *from = n->in[0];
        if (n->op != OP_convert || (n->out.type != DTYPE_BF16 && n->out.type != DTYPE_F16)) continue;
        bool products, ignored;
        only_reader(g, n, &products);
        if (products && n->out.type == DTYPE_BF16)
            n->out = tensor_shape(DTYPE_BF16, (n->out.ne[0] + PIECE - 1) / PIECE * PIECE, n->out.ne[1], 1, 1);
        const bool padded = n->out.ne[0] != from->out.ne[0];
        if (((is_loss(from) && n->out.type == DTYPE_BF16) || (writes_narrow(from) && !padded)) &&
            only_reader(g, from, &ignored) == n)
            narrow(g, from, n);
    }
}
