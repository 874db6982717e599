// text/bpe_learn.c -- learns merges: join the pair of neighbours that is seen most often, again and again.
//
// (Gage, "A New Algorithm for Data Compression", 1994; Sennrich et al., ACL 2016.) A join changes the counts of the pairs around
// it alone, so counts are kept up to date instead of being taken again: each pair has the list of the words it was seen in, and
// a heap hands out the pair with the largest count. Entries of the heap whose count has changed meanwhile go back with the new
// one. Of pairs with equal counts the one with the lower ids is first: the same order as in the trainer of Hugging Face's
// tokenizers, whose merges these are.
#include "text/bpe_learn.h"

#include <string.h>

#include "text/tokenizer_internal.h"

// ---- tokens -------------------------------------------------------------------------------------------

void token_list_free(struct token_list *l)
{
    for (uint32_t i = 0; i < l->count; i++) free((char *)l->items[i].data);
    free(l->items);
    free(l->table);
}

// The place of a text in the table, or the free one where it belongs.
static uint32_t *find_token(const struct token_list *l, const char *text, size_t length)
{
    for (uint32_t i = token_hash(text, length) & l->mask;; i = (i + 1) & l->mask) {
        uint32_t id = l->table[i];
        if (!id) return &l->table[i];
        const struct gguf_string *t = &l->items[id - 1];
        if (t->length == length && !memcmp(t->data, text, length)) return &l->table[i];
    }
}

int64_t token_list_find(const struct token_list *l, const char *text, size_t length)
{
    return l->table ? (int64_t)*find_token(l, text, length) - 1 : -1;
}

static bool grow_tokens(struct token_list *l)
{
    uint32_t room = l->room ? 2 * l->room : 1024;
    struct gguf_string *items = reallocarray(l->items, room, sizeof *items);
    if (items) l->items = items;
    uint32_t *table = calloc(2 * (size_t)room, sizeof *table);
    if (!items || !table) {
        free(table);
        return false;
    }
    free(l->table);
    l->table = table;
    l->mask = 2 * room - 1;
    l->room = room;
    for (uint32_t i = 0; i < l->count; i++) *find_token(l, items[i].data, items[i].length) = i + 1;
    return true;
}

bool token_list_add(struct token_list *l, const char *text, size_t length)
{
    if (l->count == l->room && !grow_tokens(l)) return false;
    char *kept = malloc(length + 1);
    if (!kept) return false;
    memcpy(kept, text, length);
    kept[length] = 0;
    *find_token(l, text, length) = l->count + 1;
    l->items[l->count++] = (struct gguf_string){kept, length};
    return true;
}

// ---- pairs --------------------------------------------------------------------------------------------

struct pair {
    uint64_t key;       // left << 32 | right
    int64_t count;      // how often it was seen; what a join of this very pair took away is not subtracted
    uint32_t *words;    // room for those of this step
    uint32_t fresh;     // words of this step in which it came up
    uint32_t last_word; // the latest of them + 1
    bool listed;
};

struct candidate { // an entry of the heap
    int64_t count;
    uint64_t key;
    uint32_t pair, word_count;
    uint32_t *words; // in which to join it
};

struct sighting {
    uint32_t pair, word;
};

struct block { // of lists of words
    struct block *next;
    size_t used, room;
    uint32_t words[];
};

struct learner {
    uint32_t *symbols; // of all words, one behind the other
    size_t *starts;
    uint16_t *lengths;
    const struct counted_word *counted;
    struct pair *pairs;
    uint32_t pair_count, pair_room;
    uint32_t *table; // pairs + 1 by key
    uint32_t mask;
    struct candidate *heap;
    size_t heap_count, heap_room;
    struct sighting *sightings; // pairs that came up in this step, a word at a time
    size_t sighting_count, sighting_room;
    struct block *blocks;
    bool failed; // there was no memory
};

// Makes room for one more; false, and a note in the learner, without memory.
static bool make_room(struct learner *l, void *array, size_t count, size_t *room, size_t size)
{
    void *old, *grown;
    if (count < *room) return true;
    memcpy(&old, array, sizeof old);
    size_t wanted = *room ? *room + *room / 2 : 4096;
    if (!(grown = reallocarray(old, wanted, size))) return !(l->failed = true);
    memcpy(array, &grown, sizeof grown);
    *room = wanted;
    return true;
}

static uint32_t *find_pair(const struct learner *l, uint64_t key)
{
    uint64_t h = key * 0x9E3779B97F4A7C15; // 2^64 / golden ratio, odd
    for (uint32_t i = (uint32_t)(h >> 32) & l->mask;; i = (i + 1) & l->mask)
        if (!l->table[i] || l->pairs[l->table[i] - 1].key == key) return &l->table[i];
}

static bool grow_pairs(struct learner *l)
{
    uint32_t room = l->pair_room ? 2 * l->pair_room : 1 << 16;
    struct pair *pairs = room > l->pair_room ? reallocarray(l->pairs, room, sizeof *pairs) : NULL;
    if (pairs) l->pairs = pairs;
    uint32_t *table = calloc(2 * (size_t)room, sizeof *table);
    if (!pairs || !table) {
        free(table);
        return !(l->failed = true);
    }
    free(l->table);
    l->table = table;
    l->mask = 2 * room - 1;
    l->pair_room = room;
    for (uint32_t i = 0; i < l->pair_count; i++) *find_pair(l, pairs[i].key) = i + 1;
    return true;
}

// A pair of neighbours is seen `change` times more in the corpus, for it came up in or went from `word`.
static void change_pair(struct learner *l, uint32_t left, uint32_t right, int64_t change, uint32_t word)
{
    uint64_t key = (uint64_t)left << 32 | right;
    if (l->failed || (l->pair_count == l->pair_room && !grow_pairs(l))) return;
    uint32_t *place = find_pair(l, key);
    if (!*place) {
        l->pairs[l->pair_count] = (struct pair){.key = key};
        *place = ++l->pair_count;
    }
    struct pair *p = &l->pairs[*place - 1];
    p->count += change;
    if (change < 0 || p->last_word == word + 1) return;
    if (!make_room(l, &l->sightings, l->sighting_count, &l->sighting_room, sizeof *l->sightings)) return;
    p->last_word = word + 1;
    p->fresh++;
    l->sightings[l->sighting_count++] = (struct sighting){*place - 1, word};
}

// ---- the heap -----------------------------------------------------------------------------------------

static bool comes_before(const struct candidate *a, const struct candidate *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void push(struct learner *l, struct candidate c)
{
    if (!make_room(l, &l->heap, l->heap_count, &l->heap_room, sizeof *l->heap)) return;
    size_t i = l->heap_count++;
    for (; i && comes_before(&c, &l->heap[(i - 1) / 2]); i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = c;
}

static struct candidate pop(struct learner *l)
{
    struct candidate top = l->heap[0], last = l->heap[--l->heap_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < l->heap_count; i = child) {
        if (child + 1 < l->heap_count && comes_before(&l->heap[child + 1], &l->heap[child])) child++;
        if (!comes_before(&l->heap[child], &last)) break;
        l->heap[i] = l->heap[child];
    }
    if (l->heap_count) l->heap[i] = last;
    return top;
}

static uint32_t *take_words(struct learner *l, size_t count)
{
    enum { BLOCK = 1 << 18 };
    if (!l->blocks || l->blocks->room - l->blocks->used < count) {
        size_t room = count > BLOCK ? count : BLOCK;
        struct block *b = malloc(sizeof *b + room * sizeof *b->words);
        if (!b) {
            l->failed = true;
            return NULL;
        }
        *b = (struct block){.next = l->blocks, .room = room};
        l->blocks = b;
    }
    l->blocks->used += count;
    return l->blocks->words + l->blocks->used - count;
}

// Each pair that came up in this step becomes a candidate, with the words of this step: those of earlier steps have
// candidates already.
static void push_sightings(struct learner *l)
{
    for (size_t i = 0; i < l->sighting_count && !l->failed; i++) {
        struct pair *p = &l->pairs[l->sightings[i].pair];
        if (p->last_word) { // the first sighting: the words' place
            if (!(p->words = take_words(l, p->fresh))) return;
            p->last_word = p->fresh = 0;
        }
        p->words[p->fresh++] = l->sightings[i].word;
    }
    for (size_t i = 0; i < l->sighting_count && !l->failed; i++) {
        struct pair *p = &l->pairs[l->sightings[i].pair];
        if (p->fresh && p->count > 0)
            push(l, (struct candidate){p->count, p->key, l->sightings[i].pair, p->fresh, p->words});
        p->fresh = 0;
    }
    l->sighting_count = 0;
}

// ---- learning -----------------------------------------------------------------------------------------

static bool spell_words(struct learner *l, const uint32_t *byte_ids, const struct counted_word *words,
                        size_t count)
{
    size_t total = 0;
    l->starts = malloc((count + 1) * sizeof *l->starts);
    l->lengths = malloc((count + 1) * sizeof *l->lengths);
    for (size_t i = 0; i < count; i++) total += words[i].bytes;
    l->symbols = malloc((total + 1) * sizeof *l->symbols);
    if (!l->starts || !l->lengths || !l->symbols || count > UINT32_MAX - 1) return !(l->failed = true);
    l->counted = words;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        l->starts[i] = at;
        l->lengths[i] = (uint16_t)words[i].bytes;
        for (uint32_t b = 0; b < words[i].bytes; b++) l->symbols[at++] = byte_ids[(uint8_t)words[i].text[b]];
        const uint32_t *s = l->symbols + l->starts[i];
        for (uint32_t b = 0; b + 1 < words[i].bytes; b++)
            change_pair(l, s[b], s[b + 1], words[i].count, (uint32_t)i);
    }
    push_sightings(l);
    return !l->failed;
}
_Static_assert(COUNTED_WORD_MAX <= UINT16_MAX, "lengths of words");

// Joins the pair wherever the word has it, from the left.
static void join(struct learner *l, uint32_t word, uint32_t left, uint32_t right, uint32_t token)
{
    uint32_t *s = l->symbols + l->starts[word];
    size_t n = l->lengths[word], out = 0;
    int64_t count = l->counted[word].count;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != left || i + 1 == n || s[i + 1] != right) {
            s[out++] = s[i];
            continue;
        }
        if (out) {
            change_pair(l, s[out - 1], left, -count, word);
            change_pair(l, s[out - 1], token, count, word);
        }
        if (i + 2 < n) {
            change_pair(l, right, s[i + 2], -count, word);
            change_pair(l, token, s[i + 2], count, word);
        }
        s[out++] = token;
        i++;
    }
    l->lengths[word] = (uint16_t)out;
}

// The token of two others: a new one, or one that other parts have made before. -1: a special token, or no memory.
static int64_t joined_token(struct learner *l, struct merge_learner *m, uint64_t key)
{
    struct gguf_string a = m->tokens->items[key >> 32], b = m->tokens->items[(uint32_t)key];
    char text[4 * COUNTED_WORD_MAX];
    TLM_ASSERT(a.length + b.length <= sizeof text); // a byte has at most two in the alphabet
    memcpy(text, a.data, a.length);
    memcpy(text + a.length, b.data, b.length);
    int64_t token = token_list_find(m->tokens, text, a.length + b.length);
    if (token >= 0) return token < m->special_count ? -1 : token;
    l->failed = !token_list_add(m->tokens, text, a.length + b.length);
    return l->failed ? -1 : (int64_t)m->tokens->count - 1;
}

static void learn(struct learner *l, struct merge_learner *m)
{
    size_t room = 0;
    while (!l->failed && m->tokens->count < m->vocab_size && l->heap_count) {
        struct candidate top = pop(l);
        if (top.count != l->pairs[top.pair].count) {
            top.count = l->pairs[top.pair].count;
            push(l, top);
            continue;
        }
        if (top.count < 1 || top.count < m->min_frequency) break;
        int64_t token = joined_token(l, m, top.key);
        if (token < 0 || !make_room(l, &m->merges, m->merge_count, &room, sizeof *m->merges)) continue;
        uint32_t left = (uint32_t)(top.key >> 32), right = (uint32_t)top.key;
        m->merges[m->merge_count++] = (struct learned_merge){left, right, (uint32_t)token};
        for (uint32_t i = 0; i < top.word_count; i++) join(l, top.words[i], left, right, (uint32_t)token);
        push_sightings(l);
    }
}

// A pair that came up again after it was joined, because a token was made in a second way, stands in the list again: the last
// place counts.
static void drop_repeated(struct learner *l, struct merge_learner *m)
{
    size_t kept = m->merge_count;
    for (size_t i = m->merge_count; i--;) {
        struct pair *p = &l->pairs[*find_pair(l, (uint64_t)m->merges[i].left << 32 | m->merges[i].right) - 1];
        if (!p->listed) m->merges[--kept] = m->merges[i];
        p->listed = true;
    }
    m->merge_count -= kept;
    if (kept) memmove(m->merges, m->merges + kept, m->merge_count * sizeof *m->merges);
}

enum tlm_status merge_learner_run(struct merge_learner *m, const struct counted_word *words, size_t count,
                                  struct tlm_error *err)
{
    struct learner l = {0};
    m->merges = NULL;
    m->merge_count = 0;
    if (spell_words(&l, m->byte_ids, words, count)) learn(&l, m);
    if (!l.failed) drop_repeated(&l, m);
    for (struct block *b = l.blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(l.symbols);
    free(l.starts);
    free(l.lengths);
    free(l.pairs);
    free(l.table);
    free(l.heap);
    free(l.sightings);
    return l.failed ? error_set(err, TLM_ERR_MEMORY, "no memory to learn %u tokens of %zu words",
                                m->vocab_size, count)
                    : TLM_OK;
}
