// cuda/narrow.c -- gradients in the form that products on tensor cores take: bf16, in rows on boundaries of 16 bytes.
//
// A conversion that products of gradients alone read gets rows of whole pieces of 16 bytes, the last ones filled with zeros: GPT-2's vocabulary
// has 50,257 tokens, and rows of so many numbers would leave its largest product without tensor cores. And where such a conversion is
// all that reads the gradient of the loss, that is written so at once: of the logits of a step, the largest array that there is, a number is
// read with 4 bytes and written with 2, where apart it would be 8 and 6.
#include "cuda/nodes.h"

enum { PIECE = 8 }; // numbers of bf16

static bool is_product(int op)
{
    return op == OP_matmul_nn || op == OP_matmul_experts_dx || op == OP_matmul_experts_dw ||
           op == OP_matmul_heads_dx || op == OP_matmul_heads_dw;
}

// The one node that reads x, or NULL; *products: all that do are products of gradients, as their first input. Conversions may have been
// added behind what reads them.
static struct node *only_reader(const struct graph *g, const struct node *x, bool *products)
{
    struct node *nodes = (struct node *)g->nodes.base, *found = NULL;
    int count = 0;
    *products = true;
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        bool reads = n->base == x;
        for (int j = 0; j < n->input_count; j++) reads |= n->in[j] == x;
        if (!reads) continue;
        *products &= is_product(n->op) && n->in[0] == x && n->in[1] != x && n->base != x;
        found = n, count++;
    }
    return count == 1 ? found : NULL;
}

// The gradient of the loss in the place of the conversion, which nobody reads from then on.
static void narrow_loss(struct graph *g, struct node *loss, struct node *convert)
{
    struct node *nodes = (struct node *)g->nodes.base;
    loss->out = convert->out;
    loss->in[loss->input_count++] = loss->base; // no longer in its place
    loss->base = NULL;
    for (int64_t i = 0; i < g->node_count; i++)
        if (is_product(nodes[i].op) && nodes[i].in[0] == convert) nodes[i].in[0] = loss;
}

void cuda_narrow_gradients(struct graph *g)
{
    struct node *nodes = (struct node *)g->nodes.base;
    for (int64_t i = 0; i < g->node_count; i++) {
        struct node *n = &nodes[i];
        bool products;
        if (n->op != OP_convert || n->out.type != DTYPE_BF16) continue;
        only_reader(g, n, &products);
        if (!products) continue;
        const int64_t cols = (n->out.ne[0] + PIECE - 1) / PIECE * PIECE;
        n->out = tensor_shape(DTYPE_BF16, cols, n->out.ne[1], 1, 1);
        struct node *from = n->in[0];
        const bool loss = from->op == OP_cross_entropy || from->op == OP_distill;
        if (loss && from->base && only_reader(g, from, &products) == n) narrow_loss(g, from, n);
    }
}
