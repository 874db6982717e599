// text/heap.h -- a binary heap that hands out the smallest key first. The caller owns the room.
#ifndef TEXT_HEAP_H
#define TEXT_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_item {
    uint64_t key;
    uint32_t a, b; // whatever the caller wants back
};

struct heap {
    struct heap_item *items;
    size_t count;
};

// items[count] must have room.
static inline void heap_push(struct heap *h, struct heap_item item)
{
    size_t i = h->count++;
    for (; i && h->items[(i - 1) / 2].key > item.key; i = (i - 1) / 2) h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = item;
}

// The heap must not be empty.
static inline struct heap_item heap_pop(struct heap *h)
{
    struct heap_item top = h->items[0], last = h->items[--h->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && h->items[child + 1].key < h->items[child].key) child++;
        if (h->items[child].key >= last.key) break;
        h->items[i] = h->items[child];
    }
    if (h->count) h->items[i] = last;
    return top;
}

#endif
