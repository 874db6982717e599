// ops/parts_share.h -- between the files that share a graph out: ops/parts_share.c, what each place computes; ops/parts_cut.c, a place's part
// of a node.
#ifndef OPS_PARTS_SHARE_H
#define OPS_PARTS_SHARE_H

#include "ops/paged.h"
#include "ops/parts.h"

// How a node's output is spread over the places; the words are those of ops/parts.h.
enum spread_kind { SPREAD_ONE, SPREAD_ALL, SPREAD_COLUMNS, SPREAD_SUM };
struct spread {
    enum spread_kind kind;
    const int64_t *
        cut; // of columns: place p has cut[p] .. cut[p + 1]; of a sum: where that is something, the place has an addend
};

struct share {
    struct parts *p;
    const struct parts_layers *layers;
    int64_t count; // nodes of the whole graph
    char *used;    // [count] somebody needs it
    int32_t *
        place; // [count] where it runs; of what several compute, the place that those beside them read it from
    struct spread *spread; // [count]
    struct node **known;   // (place_count, count) the node as a place sees it
    struct node **part;    // (place_count, count) its own columns, its addend
    bool failed;           // for want of memory
};

static inline bool parts_has_some(const int64_t *cut, int place)
{
    return cut[place] < cut[place + 1];
}

static inline struct node **parts_slot(const struct share *s, struct node **of, int place,
                                       const struct node *x)
{
    return &of[place * s->count + x->index];
}

// x as a place sees the whole of it, added there if it is new.
struct node *parts_seen(struct share *s, int place, const struct node *x);
// x in that place, with these inputs, output and params.
struct node *parts_add_node(struct share *s, int place, const struct node *x, struct tensor out,
                            const void *params, struct node *const *in);

// ops/parts_cut.c: the place's columns of x, or its addend, added there.
struct node *parts_part_of(struct share *s, int place, const struct node *x);
// The heads of the cache that the node works with, where they are shared; else NULL.
const struct paged_share *parts_heads_of(const struct node *n);
// Where a node of shared heads cuts the columns of its first input, and of its output.
void parts_cut_by_heads(const struct node *n, int64_t input[PLACES + 1], int64_t output[PLACES + 1]);
// Are columns cut in the same places, addends in the same ones?
bool parts_same_spread(const struct spread *a, const struct spread *b);
// Columns that the op takes together: cuts stand between these. 0: it wants all.
int64_t parts_columns_together(const struct node *n);

#endif
