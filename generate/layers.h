// generate/layers.h -- a model run one layer at a time over many texts: for work that looks at a layer's rows, or changes its weights
// before the rows go on. It costs one pass over the layers, and memory for the rows between two of them.
//
// Each run builds the graph of the whole model and cuts it: what earlier layers made and this one reads becomes leaves over rows
// that were kept, and what this layer makes and later ones read is kept in turn. Who reads what is seen from the graph, so
// any architecture can be cut. A text stands alone: its rows see each other and no other text's.
#ifndef GENERATE_LAYERS_H
#define GENERATE_LAYERS_H

#include "cache/kv.h"
#include "models/model.h"

struct layers_config {
    const int32_t *tokens; // (texts, rows), which must outlive the struct
    int64_t texts;
    int32_t rows; // of a text
    struct threads *threads;
};

enum { LAYERS_KEPT = 16 };

// The rows of all texts that a node gave.
struct layers_kept {
    int32_t node;
    int64_t last; // the last layer that reads them
    size_t bytes; // of a text
    char *rows;
};

struct layers {
    struct tlm_model *model;
    struct layers_config config;
    struct step step;
    struct kv_cache cache; // of one layer: keys and values are read in the run that writes them
    struct rope_source rope, rope_local;
    struct paged_kv *keys, *values; // [layers] that of the one layer for all
    int32_t *group_of;
    struct layers_kept kept[LAYERS_KEPT];
    int kept_count;
};

// The model's weights may be turned to others between runs (model_each_weight), but not to other shapes. Errors: ARGUMENT, MEMORY.
enum tlm_status layers_open(struct layers *p, struct tlm_model *m, const struct layers_config *config,
                            struct tlm_error *err);
void layers_close(struct layers *p);
// Bytes that the rows between two layers take, by the width of the model.
size_t layers_bytes(const struct tlm_model *m, const struct layers_config *config);

// A product of a matrix of the model, or of a stack of them, with what goes into it. Nodes are known by their index, which is the same
// in each run.
struct layers_product {
    char name[WEIGHT_NAME];      // of the matrix in the file
    const struct tensor **slot;  // where build() finds it
    const struct tensor *matrix; // as it was when the products were listed: (K, N, matrices)
    int32_t input;  // (rows, K); of heads (rows, matrices * K): each matrix has its part of a row
    int32_t sorted; // of experts: whose rows are whose; -1: all matrices have all rows
};
// What can be multiplied by a factor a column of `node`, so that its output is: the weight and bias of a norm, number by number; or rows of
// the matrix, and of its bias, that made it, beginning with `row`.
struct layers_source {
    int32_t node;                                // (rows, K)
    bool norm;                                   // else a matrix
    char weight[WEIGHT_NAME], bias[WEIGHT_NAME]; // names in the file; no bias: ""
    int64_t row;
    int32_t heads, kv_heads,
        dim;          // of values: column (h, d) of `heads` is row (h / (heads / kv_heads), d); else 1, 1, K
    uint64_t readers; // the products of the layer, by their place, that read it: and nothing else does
};
enum { LAYERS_PRODUCTS = 64, LAYERS_NODES = 2 * LAYERS_PRODUCTS };
// The products of layer l, in their order; l = layers: the output's. Errors: MEMORY.
enum tlm_status layers_products(struct layers *p, int64_t l, struct layers_product *out, int *count,
                                struct tlm_error *err);

// The source of what product `i` of the list reads; false where there is none. Errors cannot be: the graph was built before.
bool layers_source(struct layers *p, int64_t l, const struct layers_product *products, int count, int i,
                   struct layers_source *out);

struct layers_run {
    int64_t layer;        // layers: what stands behind them
    const int32_t *nodes; // whose outputs `seen` looks at
    int count;
    // After each text, on the caller's thread; nodes in their order. A status other than OK ends the run. May be NULL.
    enum tlm_status (*seen)(void *user, struct node *const *nodes, struct tlm_error *err);
    void *user;
    bool advance; // keep the rows that later layers read; they are there in no other way
};
// Errors: MEMORY, UNSUPPORTED (layers that more than LAYERS_KEPT nodes run between); those of `seen`. Behind an error of a run
// that advances the rows are of no use.
enum tlm_status layers_run(struct layers *p, const struct layers_run *r, struct tlm_error *err);

#endif
