// core/graph.h -- a computation as a flat array of nodes: built once for a bucket of rows, planned, run many times.
//
// A node is one op with its inputs, typed parameters and one output tensor. Leaves are tensors that live elsewhere:
// weights, the cache, the arrays of the step. Outputs are planned into one arena by liveness. What changes from step to
// step (rows, tokens, positions, block tables) is read by the kernels from the step's arrays at run time; nothing in
// a node holds it, so a graph is built again only for a larger bucket.
//
// Nodes of one PHASE do not depend on each other: the threads share out the work units of all of them and meet at a
// barrier behind the phase. What an op does is a table given by the backend (ops/nodes.c for the CPU).
//
// In a graph for few rows, barriers cost more than the light ops between the matrix products. There every thread runs the light
// nodes for itself, into memory of its own: such a LOCAL node needs no barrier, neither before its readers nor behind what it
// reads in the same phase, and a layer is left with the barriers that its products and attention need.
//
// Where several PLACES share a computation (ops/parts.h), each has a graph of its own, which is run in parts: LEVELS, between which other
// places have their turns. The phases of a level stand behind those of all lower ones; mostly there is one level.
#ifndef CORE_GRAPH_H
#define CORE_GRAPH_H

#include "core/arena.h"
#include "core/tensor.h"
#include "core/threads.h"

enum { GRAPH_MAX_INPUTS = 7 };
enum {
    PLACES = 17
}; // where a graph may run: the processor, which is place 0, and at most so many devices behind it

// How many rows of a tensor a step uses: all, or a count that the step's data holds.
enum extent {
    EXTENT_FIXED,
    EXTENT_ROWS,
    EXTENT_OUTPUTS,        // rows whose logits are wanted
    EXTENT_TILES,          // of attention
    EXTENT_PREFIX_TILES,   // of rows that share a prefix
    EXTENT_ROUTED_ROWS,    // rows times the experts that each uses
    EXTENT_ROUTED_OUTPUTS, // outputs times these
    EXTENT_COUNT
};

enum effect {
    EFFECT_NONE,
    EFFECT_CACHE_WRITE, // writes keys or values: runs once a step, is never computed again
    EFFECT_GRADIENT, // out.data is set when the node is added: the gradient of a weight, which outlives the step
};

struct node {
    struct tensor out; // ne[0] columns, ne[1] rows of the bucket
    struct tensor
        saved; // what the op keeps beside it for its gradient (statistics, partial sums); saved.ne[0] 0: nothing
    int op;    // index of the backend's table; GRAPH_LEAF for a leaf
    enum extent extent;
    enum effect effect;
    int layer; // of the model; -1 outside the layers
    int level; // that it runs in at the earliest; graph_plan raises it to that of its inputs
    int input_count;
    struct node *in[GRAPH_MAX_INPUTS];
    // What the result is added to, a node of the same shape, or NULL: the planner gives the output the same bytes where nobody reads
    // `base` behind this node; elsewhere the op copies it first.
    struct node *base;
    struct node *after; // runs in an earlier phase, or NULL: for order alone
    const void *params; // the op's own struct
    int32_t index;      // in the order of adding
    // Set by graph_plan:
    bool local;     // every thread runs it for itself
    int phase;      // leaves 0
    int rank;       // within the phase: behind the local nodes that it reads
    int last_phase; // the last phase that reads the output
    int last_reads; // nodes that read it in that phase
    struct node
        *place; // the node whose bytes the output takes over: itself, or at the end of a chain of bases
    int32_t at; // place in the order of running
};

enum { GRAPH_LEAF = -1 };

struct graph;

struct op {
    const char *name;
    // Work units of this step, 0 if there is nothing to do; unit u of them may run on any thread.
    int64_t (*units)(const struct graph *g, const struct node *n);
    void (*run)(const struct graph *g, const struct node *n, int64_t begin, int64_t end, void *scratch);
    size_t (*scratch)(const struct graph *g, const struct node *n); // bytes a thread; NULL: none
    bool light; // for a row or two it takes less time than a barrier
};

// Somebody who wants to know when a node was run: profiles, comparisons of activations.
struct graph_watch {
    // A thread has done its part of node n between two times of CLOCK_MONOTONIC, in seconds. On one thread that is the whole node,
    // and n->out holds the result, until the planner's next tenant of those bytes runs. n may be a thread's replica: index names it.
    void (*done)(void *user, const struct graph *g, const struct node *n, int thread, double begin,
                 double end);
    void *user;
};

struct graph {
    const struct op *ops;  // the backend's table
    const void *kernels;   // the backend's own data
    enum dtype real;       // of activations: F32, or F64 for the double backend
    const int32_t *counts; // [EXTENT_COUNT] of the step
    struct arena nodes;    // the flat array, then params
    int64_t node_count;
    struct arena params;
    int layer;   // given to nodes as they are added
    int threads; // for each of which light nodes are local; 0: no node is. Set before graph_plan
    const struct graph_watch *watch; // NULL: nobody watches

    // set by graph_plan
    struct node **order; // nodes to run, by phase
    int64_t order_count;
    size_t arena_bytes;   // of the outputs that threads share
    size_t local_bytes;   // a thread: of local outputs
    size_t scratch_bytes; // a thread
    struct node
        *replicas; // (threads, replica_count): the nodes as each thread sees them, NULL without local nodes
    int64_t replica_count;
    int level_count; // of nodes that are run
};

// Starts an empty graph. Errors: MEMORY.
enum tlm_status graph_init(struct graph *g, const struct op *ops, const void *kernels, enum dtype real,
                           const int32_t *counts, struct tlm_error *err);
void graph_free(struct graph *g);

// Adds a leaf over a tensor that lives elsewhere.
struct node *graph_leaf(struct graph *g, const struct tensor *t, enum extent extent);
// Adds a node; params (may be NULL) are copied. Inputs follow, closed by NULL.
struct node *graph_node(struct graph *g, int op, struct tensor out, enum extent extent, const void *params,
                        size_t params_size, struct node *const *in, int input_count);

// Orders what `roots` need into phases, gives each output its place, and sums the sizes. A root's output is there until its level ends, and the next one has
// what it reads from elsewhere.
// Errors: MEMORY.
enum tlm_status graph_plan(struct graph *g, struct node *const *roots, int root_count, struct tlm_error *err);
// Puts the planned outputs into memory of at least arena_bytes, and local ones into threads * local_bytes.
void graph_bind(struct graph *g, void *memory, void *local);
// A planned graph as far as it runs in one level: the same nodes, in the same memory, which stays g's.
struct graph graph_level(const struct graph *g, int level);
// Runs all nodes, on the pool or (NULL) on the caller alone. scratch: threads * scratch_bytes. Allocates nothing.
void graph_run(const struct graph *g, struct threads *t, void *scratch);

static inline int64_t graph_rows(const struct graph *g, const struct node *n)
{
    return n->extent == EXTENT_FIXED ? n->out.ne[1] : g->counts[n->extent];
}

#endif
