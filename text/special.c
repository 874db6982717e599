// text/special.c -- finds the tokens that are matched as they stand: user-defined and control tokens.
//
// The rule (llama.cpp's): the longest special token takes all its places first, from left to right, then the
// next one takes places in what is left. So a long token wins against a shorter one that begins before it.
// Searching the text once for each token costs tokens x bytes; here each position enters a heap with its
// longest match, and where that overlaps a match already taken, comes back with its longest match that still
// fits.
#include "text/heap.h"
#include "text/tokenizer_internal.h"

static int compare_text(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int compare_rank(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int compare_start(const void *a, const void *b)
{
    const struct special_match *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static bool is_special(const struct token *token)
{
    return token->length && (token->type == TOKEN_CONTROL || token->type == TOKEN_USER_DEFINED ||
                             token->type == TOKEN_UNKNOWN);
}

enum tlm_status special_index_init(struct special_index *index, const struct tokenizer *t,
                                   struct tlm_error *err)
{
    uint32_t count = 0;
    for (int32_t i = 0; i < t->size; i++) count += is_special(&t->tokens[i]);
    if (!count) return TLM_OK;
    index->items = malloc(count * sizeof *index->items);
    if (!index->items)
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %u special tokens", count);
    for (int32_t i = 0; i < t->size; i++) {
        const struct token *token = &t->tokens[i];
        if (!is_special(token)) continue;
        index->items[index->count++] = (struct special){.text = token->text,
                                                        .length = token->length,
                                                        .id = i,
                                                        .always = token->type == TOKEN_USER_DEFINED};
    }
    qsort(index->items, count, sizeof *index->items, compare_rank);
    for (uint32_t i = 0; i < count; i++) index->items[i].rank = i;
    qsort(index->items, count, sizeof *index->items, compare_text);
    for (uint32_t i = 0; i < count; i++) index->first[(unsigned char)index->items[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++) index->first[b + 1] += index->first[b];
    return TLM_OK;
}

void special_index_free(struct special_index *index)
{
    free(index->items);
}

// The first of items[low..high) whose byte at `depth` is at least `byte`; all of them are longer than
// `depth`.
static uint32_t lower_bound(const struct special *items, uint32_t low, uint32_t high, uint32_t depth,
                            unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)items[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The longest special token that text[0..bytes) begins with, as its index, or -1.
static int64_t longest_match(const struct special_index *index, const char *text, size_t bytes, bool all)
{
    unsigned byte = (unsigned char)text[0];
    uint32_t low = index->first[byte], high = index->first[byte + 1];
    int64_t best = -1;
    for (uint32_t depth = 1; low < high; depth++) {
        // Of the tokens that share these `depth` bytes, the one that has no more of them sorts first.
        if (index->items[low].length == depth) {
            if (all || index->items[low].always) best = low;
            low++;
        }
        if (depth >= bytes) break;
        byte = (unsigned char)text[depth];
        low = lower_bound(index->items, low, high, depth, byte);
        high = lower_bound(index->items, low, high, depth, byte + 1);
    }
    return best;
}

static struct heap_item candidate(const struct special_index *index, uint32_t start, int64_t item)
{
    return (struct heap_item){(uint64_t)index->items[item].rank << 32 | start, start, (uint32_t)item};
}

// Enters each position that has a match.
static enum tlm_status collect(const struct special_index *index, const char *text, uint32_t bytes, bool all,
                               struct heap *heap, struct tlm_error *err)
{
    size_t room = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        unsigned byte = (unsigned char)text[i];
        if (index->first[byte] == index->first[byte + 1]) continue;
        int64_t item = longest_match(index, text + i, bytes - i, all);
        if (item < 0) continue;
        if (heap->count == room) {
            room = room ? room * 2 : 64;
            struct heap_item *items = realloc(heap->items, room * sizeof *items);
            if (!items)
                return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu special tokens", room);
            heap->items = items;
        }
        heap_push(heap, candidate(index, i, item));
    }
    return TLM_OK;
}

// Takes matches in order of rank; `taken` has one bit a byte of text. Returns how many stand in `matches`.
static size_t resolve(const struct special_index *index, const char *text, bool all, struct heap *heap,
                      uint8_t *taken, struct special_match *matches)
{
    size_t count = 0;
    while (heap->count) {
        struct heap_item top = heap_pop(heap);
        uint32_t start = top.a, length = index->items[top.b].length, free_bytes = 0;
        while (free_bytes < length && !(taken[(start + free_bytes) / 8] >> (start + free_bytes) % 8 & 1))
            free_bytes++;
        if (free_bytes == length) {
            for (uint32_t i = start; i < start + length; i++) taken[i / 8] |= (uint8_t)(1 << i % 8);
            matches[count++] = (struct special_match){start, top.b};
        } else if (free_bytes) {
            int64_t item = longest_match(index, text + start, free_bytes, all);
            if (item >= 0) heap_push(heap, candidate(index, start, item));
        }
    }
    qsort(matches, count, sizeof *matches, compare_start);
    return count;
}

enum tlm_status special_find(const struct special_index *index, const char *text, uint32_t bytes, bool all,
                             struct special_match **matches, size_t *count, struct tlm_error *err)
{
    *matches = NULL;
    *count = 0;
    struct heap heap = {0};
    enum tlm_status status = collect(index, text, bytes, all, &heap, err);
    if (!status && heap.count) {
        uint8_t *taken = calloc((size_t)bytes / 8 + 1, 1);
        struct special_match *found = malloc(heap.count * sizeof *found);
        if (taken && found) {
            *count = resolve(index, text, all, &heap, taken, found);
            *matches = found;
        } else {
            status =
                error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu special tokens", heap.count);
            free(found);
        }
        free(taken);
    }
    free(heap.items);
    return status;
}
