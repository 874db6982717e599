// ops/nodes_experts.h -- the order of experts' rows, which the forward ops and their gradients share.
#ifndef OPS_NODES_EXPERTS_H
#define OPS_NODES_EXPERTS_H

#include "ops/nodes_cpu.h"

// What sort_experts writes, over its output.
struct order {
    int32_t *active_count; // experts that have rows:
    int32_t *active;       // [experts] their numbers, rising
    int32_t *offset;       // [experts + 1] the first pair of each expert
    int32_t *source;       // [pairs] row * used + choice of the pair
    int32_t *expert;       // [pairs]
    int32_t *place;        // [pairs] the way back: place[row * used + choice]
};

static inline struct order order_of(const struct node *sort)
{
    const struct route_params *p = sort->params;
    int32_t *data = sort->out.data;
    int64_t head = 2 * p->experts + 2, pairs = (sort->out.ne[1] - head) / 3;
    return (struct order){
        .active_count = data,
        .active = data + 1,
        .offset = data + 1 + p->experts,
        .source = data + head,
        .expert = data + head + pairs,
        .place = data + head + 2 * pairs,
    };
}

#endif
