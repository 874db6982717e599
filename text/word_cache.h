// text/word_cache.h -- the ids of words that were encoded before, shared by all threads without a lock.
//
// A fixed table of entries of one cache line. An entry is written once, by the thread that claims it, and never
// changes, so that readers need no lock: words come as often as Zipf's law says, and the common ones come first.
#ifndef TEXT_WORD_CACHE_H
#define TEXT_WORD_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { WORD_CACHE_ENTRIES = 1 << 17, WORD_CACHE_PROBES = 4, WORD_CACHE_BYTES = 27, WORD_CACHE_IDS = 8 };

struct word_cache_entry {
    _Atomic uint8_t state; // 0 free, 1 being written, 2 whole
    uint8_t bytes, count;
    char text[WORD_CACHE_BYTES + 2];
    int32_t ids[WORD_CACHE_IDS];
};

_Static_assert(sizeof(struct word_cache_entry) == 64, "an entry is a cache line");

struct word_cache {
    struct word_cache_entry *entries; // (WORD_CACHE_ENTRIES), zeros at first
};

// The entry of a word, or NULL.
static inline const struct word_cache_entry *word_cache_find(const struct word_cache *c, uint32_t hash,
                                                             const char *text, size_t bytes)
{
    for (uint32_t i = 0; i < WORD_CACHE_PROBES; i++) {
        struct word_cache_entry *e = &c->entries[(hash + i) % WORD_CACHE_ENTRIES];
        if (atomic_load_explicit(&e->state, memory_order_acquire) != 2) return NULL;
        if (e->bytes == bytes && !memcmp(e->text, text, bytes)) return e;
    }
    return NULL;
}

// Keeps a word, if it is short and one of its places is free.
static inline void word_cache_put(const struct word_cache *c, uint32_t hash, const char *text, size_t bytes,
                                  const int32_t *ids, size_t count)
{
    if (bytes > WORD_CACHE_BYTES || count > WORD_CACHE_IDS) return;
    for (uint32_t i = 0; i < WORD_CACHE_PROBES; i++) {
        struct word_cache_entry *e = &c->entries[(hash + i) % WORD_CACHE_ENTRIES];
        uint8_t free_state = 0;
        if (!atomic_compare_exchange_strong_explicit(&e->state, &free_state, 1, memory_order_relaxed,
                                                     memory_order_relaxed))
            continue;
        e->bytes = (uint8_t)bytes;
        e->count = (uint8_t)count;
        memcpy(e->text, text, bytes);
        memcpy(e->ids, ids, count * sizeof *ids);
        atomic_store_explicit(&e->state, 2, memory_order_release);
        return;
    }
}

#endif
