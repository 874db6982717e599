// ops/parts.h -- one computation in several places: the processor, which is place 0, and devices, places 1 and on.
//
// A model builds one graph and knows nothing of places. parts_share() decides where each node of it runs, and gives each place a graph of
// its own: a product runs where its matrix is (tensor.place), attention where its layer's cache is, all else behind what it reads. What is
// cheap and read in many places (angles of rotation, the order of experts' rows) is computed in each. What a node reads from elsewhere is a
// node of OP_move, whose bytes the planner of its graph places like any other's.
//
// Devices may also SHARE layers, as in tensor parallelism (Megatron-LM, Shoeybi et al., arXiv 1909.08053). Their matrices and caches are cut
// there (struct tensor's cut, struct paged_share); what becomes of a node follows from what it reads (ops/parts_share.h):
//
//     one       it runs in one place, as above
//     all       each place computes it that reads it: what stands between the matrices
//     columns   each place has some of its columns: products with some of a matrix's outputs, heads of attention
//     sum       each place has an addend: products with some of a matrix's inputs
//
// A reader that wants the whole of columns has them brought together, one that wants the whole of a sum has it added up, in the order
// of places or by a library (struct backend_class's add_up()): all places then have the same bits.
//
// A node's LEVEL is how often the computation has changed places in front of it. Level by level, parts_run() moves what the level reads from
// elsewhere, in so many rows as the step has, and then runs the places' parts of the level, devices beside the processor. With all in one
// place there is one level and one part, which is the graph as it was built.
#ifndef OPS_PARTS_H
#define OPS_PARTS_H

#include "ops/backend.h"

// What runs the nodes of a place.
struct parts_site {
    const struct kernels *kernels; // that pass_convert() goes by
    const struct op *ops;
    const void *data;               // that graph_init() takes beside `ops`
    const struct backend_class *on; // NULL: the processor
    struct runner *runner;          // likewise
};

struct parts_move {
    struct node *from, *to; // of the graphs of source and target
    int source, target, level;
};

// Added up by a library: each sharing place's addend, and the sum there.
struct parts_sum {
    struct node *from[PLACES], *to[PLACES]; // NULL in the other places
    int level;
};

// What runs in one place without a pause.
struct parts_segment {
    struct graph graph; // of one level
    int place, level;
    bool works; // has more than moves
};

struct parts {
    struct parts_site sites[PLACES];
    int place_count;
    struct graph whole;         // as it was built; holds the nodes' parameters
    struct graph graph[PLACES]; // those without nodes are zeros
    struct node *root;          // of graph[root_place]
    int root_place, level_count;
    struct parts_move *moves; // by level
    int64_t move_count, move_room;
    struct parts_sum *sums; // by level
    int64_t sum_count, sum_room;
    struct adder *adder; // of the sharing places' runners, in their order; NULL: moves and additions
    bool sharing[PLACES];
    struct parts_segment *segments; // by level
    int64_t segment_count;
};

// What is known of the places beside what they run with.
struct parts_layers {
    const int32_t *place; // [layers] of what a layer has whole: its keys and values, if they are not cut
    const bool *sharing;  // [PLACES] that share the layers of devices; none: layers are whole
};

// p->whole is built, up to `root`, and p->adder set. Converts what products read, and leaves placing and planning to parts_plan(). Errors: MEMORY.
enum tlm_status parts_share(struct parts *p, struct node *root, const struct parts_site *sites,
                            int place_count, const struct parts_layers *layers, struct tlm_error *err);
// threads: of the processor's graph, as graph_plan() takes them. Errors: those of struct backend_class's place(), MEMORY.
enum tlm_status parts_plan(struct parts *p, int threads, struct tlm_error *err);
// Afterwards segments point to where they run. memory[place] of at least graph[place].arena_bytes; local: as graph_bind() takes it.
void parts_bind(struct parts *p, void *const memory[PLACES], void *local);
void parts_watch(struct parts *p, const struct graph_watch *watch);
void parts_free(struct parts *p);

// Brings the step's data to the devices, in order with what they were given.
void parts_begin(const struct parts *p);
// Behind parts_begin(): all of it, with draws behind the root where that is a device's; what devices were given last may still run.
// scratch[place]. Errors: IO, of the devices that the processor waited for.
enum tlm_status parts_run(const struct parts *p, struct threads *threads, void *const scratch[PLACES],
                          bool draw, struct tlm_error *err);

#endif
