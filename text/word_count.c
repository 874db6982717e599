// text/word_count.c -- see text/word_count.h.
#include "text/word_count.h"

#include <stdatomic.h>
#include <string.h>

#include "text/normalizer.h"
#include "text/regex.h"
#include "text/tokenizer_internal.h"

enum { BATCH_BYTES = 8 << 20, PIECE_BYTES = 64 << 10, CHUNK_BYTES = 1 << 20 };

// ---- a table of words ---------------------------------------------------------------------------------

struct chunk { // of the texts of words
    struct chunk *next;
    size_t used;
    char text[CHUNK_BYTES];
};

struct word_table {
    struct counted_word *words; // (mask + 1) open addressing, at most half full; count == 0: free
    size_t mask, used;
    struct chunk *chunks;
};

static void table_free(struct word_table *t)
{
    for (struct chunk *c = t->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(t->words);
}

static struct counted_word *table_find(const struct word_table *t, uint32_t hash, const char *text,
                                       size_t bytes)
{
    for (size_t i = hash & t->mask;; i = (i + 1) & t->mask) {
        struct counted_word *w = &t->words[i];
        if (!w->count || (w->hash == hash && w->bytes == bytes && !memcmp(w->text, text, bytes))) return w;
    }
}

static bool table_grow(struct word_table *t)
{
    struct word_table grown = {
        .mask = t->words ? 2 * t->mask + 1 : 4095, .used = t->used, .chunks = t->chunks};
    grown.words = calloc(grown.mask + 1, sizeof *grown.words);
    if (!grown.words) return false;
    for (size_t i = 0; t->words && i <= t->mask; i++) {
        const struct counted_word *w = &t->words[i];
        if (w->count) *table_find(&grown, w->hash, w->text, w->bytes) = *w;
    }
    free(t->words);
    *t = grown;
    return true;
}

static const char *table_keep(struct word_table *t, const char *text, size_t bytes)
{
    if (!t->chunks || CHUNK_BYTES - t->chunks->used < bytes) {
        struct chunk *c = malloc(sizeof *c);
        if (!c) return NULL;
        c->next = t->chunks;
        c->used = 0;
        t->chunks = c;
    }
    char *kept = t->chunks->text + t->chunks->used;
    t->chunks->used += bytes;
    return memcpy(kept, text, bytes);
}

// Counts a word `times` more. Its text is copied where `keep`, else it lives elsewhere.
static bool table_add(struct word_table *t, uint32_t hash, const char *text, size_t bytes, int64_t times,
                      bool keep)
{
    if ((!t->words || 2 * t->used > t->mask) && !table_grow(t)) return false;
    struct counted_word *w = table_find(t, hash, text, bytes);
    if (!w->count) {
        if (keep && !(text = table_keep(t, text, bytes))) return false;
        *w = (struct counted_word){text, (uint32_t)bytes, hash, 0};
        t->used++;
    }
    w->count += times;
    return true;
}

// ---- counting -----------------------------------------------------------------------------------------

struct piece {
    size_t at, bytes; // in the batch
};

struct counting_thread {
    struct word_table table;
    enum tlm_status status; // the first failure
    struct tlm_error err;
};

struct word_counter {
    struct pretokenizer *pretokenizer;
    struct normalizer *normalizer; // NULL: none
    const struct gguf_string *special;
    const char **next; // (special_count) where each of them comes next in the text that is being cut
    size_t special_count;
    struct threads *pool;
    struct counting_thread *threads;
    char *batch; // (BATCH_BYTES)
    size_t used;
    struct piece *pieces;
    size_t piece_count, piece_room;
    atomic_size_t piece_taken;
};

enum tlm_status word_counter_open(struct word_counter **out, const struct pretokenizer_info *pre,
                                  const struct gguf_string *special, size_t special_count,
                                  struct threads *pool, struct tlm_error *err)
{
    *out = NULL;
    struct word_counter *c = calloc(1, sizeof *c);
    if (!c) return error_set(err, TLM_ERR_MEMORY, "no memory to count words");
    c->special = special;
    c->special_count = special_count;
    c->pool = pool;
    c->threads = calloc((size_t)threads_count(pool), sizeof *c->threads);
    c->batch = malloc(BATCH_BYTES);
    c->next = calloc(special_count + 1, sizeof *c->next);
    enum tlm_status status = TLM_OK;
    if (!c->threads || !c->batch || !c->next)
        status = error_set(err, TLM_ERR_MEMORY, "no memory to count words");
    if (!status) status = pretokenizer_open(&c->pretokenizer, pre->rules, pretokenizer_rule_count(pre), err);
    if (!status && pre->nfc) status = normalizer_open_nfc(&c->normalizer, err);
    if (status)
        word_counter_close(c);
    else
        *out = c;
    return status;
}

void word_counter_close(struct word_counter *c)
{
    if (!c) return;
    for (int i = 0; c->threads && i < threads_count(c->pool); i++) table_free(&c->threads[i].table);
    pretokenizer_close(c->pretokenizer);
    normalizer_close(c->normalizer);
    free(c->threads);
    free(c->batch);
    free(c->next);
    free(c->pieces);
    free(c);
}

static enum tlm_status count_word(void *user, const char *word, size_t bytes, struct tlm_error *err)
{
    struct word_table *t = user;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < COUNTED_WORD_MAX ? bytes - at : COUNTED_WORD_MAX;
        while (at + n < bytes && n > COUNTED_WORD_MAX - 4 && (word[at + n] & 0xC0) == 0x80)
            n--; // whole characters
        if (!table_add(t, token_hash(word + at, n), word + at, n, 1, true))
            return error_set(err, TLM_ERR_MEMORY, "no memory to count words");
    }
    return TLM_OK;
}

static enum tlm_status count_text(const struct word_counter *c, struct word_table *t, const char *text,
                                  size_t bytes, bool has_new, struct tlm_error *err)
{
    char *normal = NULL;
    size_t normal_bytes;
    enum tlm_status status = TLM_OK;
    if (c->normalizer)
        status = normalizer_run(c->normalizer, text, bytes, false, &normal, &normal_bytes, err);
    if (normal) {
        regex_text(normal, normal_bytes, &has_new);
        text = normal;
        bytes = normal_bytes;
    }
    if (!status) status = pretokenizer_run(c->pretokenizer, text, bytes, has_new, false, count_word, t, err);
    free(normal);
    return status;
}

// As encoding does, well-formed stretches are texts of their own and the bytes between them are words.
static enum tlm_status count_piece(const struct word_counter *c, struct word_table *t, const char *text,
                                   size_t bytes, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (size_t at = 0; at < bytes && !status;) {
        bool has_new;
        size_t good = regex_text(text + at, bytes - at, &has_new), bad = 0;
        if (good) status = count_text(c, t, text + at, good, has_new, err);
        at += good;
        while (at + bad < bytes &&
               !regex_text(text + at + bad, bytes - at - bad < 4 ? bytes - at - bad : 4, &has_new))
            bad++;
        if (bad && !status) status = count_word(t, text + at, bad, err);
        at += bad;
    }
    return status;
}

static void run_thread(void *user, int index)
{
    struct word_counter *c = user;
    struct counting_thread *t = &c->threads[index];
    for (size_t i; !t->status && (i = atomic_fetch_add(&c->piece_taken, 1)) < c->piece_count;)
        t->status = count_piece(c, &t->table, c->batch + c->pieces[i].at, c->pieces[i].bytes, &t->err);
}

static enum tlm_status count_batch(struct word_counter *c, struct tlm_error *err)
{
    atomic_store(&c->piece_taken, 0);
    threads_run(c->pool, run_thread, c);
    c->used = c->piece_count = 0;
    for (int i = 0; i < threads_count(c->pool); i++)
        if (c->threads[i].status) return error_set(err, c->threads[i].status, "%s", c->threads[i].err.text);
    return TLM_OK;
}

// ---- cutting ------------------------------------------------------------------------------------------

// Where a long text can be cut without cutting a word: in front of a line's end behind a letter, which no pre-tokenizer joins.
// Where there is none, at a line's end, and else between characters: then a word may be counted as two.
static size_t cut(const char *text, size_t bytes)
{
    if (bytes <= PIECE_BYTES) return bytes;
    size_t line = 0;
    for (size_t at = PIECE_BYTES; at > PIECE_BYTES / 2; at--) {
        if (text[at] != '\n') continue;
        char before = text[at - 1] | 0x20;
        if (before >= 'a' && before <= 'z') return at;
        if (!line) line = at;
    }
    if (line) return line;
    size_t at = PIECE_BYTES;
    while (at > PIECE_BYTES - 4 && (text[at] & 0xC0) == 0x80) at--;
    return at;
}

static enum tlm_status add_plain(struct word_counter *c, const char *text, size_t bytes,
                                 struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (size_t at = 0, n; at < bytes && !status; at += n) {
        n = cut(text + at, bytes - at);
        if (BATCH_BYTES - c->used < n) status = count_batch(c, err);
        if (c->piece_count == c->piece_room) {
            size_t room = c->piece_room ? 2 * c->piece_room : 256;
            struct piece *grown = reallocarray(c->pieces, room, sizeof *grown);
            if (!grown) return error_set(err, TLM_ERR_MEMORY, "no memory to count words");
            c->pieces = grown;
            c->piece_room = room;
        }
        c->pieces[c->piece_count++] = (struct piece){c->used, n};
        memcpy(c->batch + c->used, text + at, n);
        c->used += n;
    }
    return status;
}

// The first special text at or behind `at`, the longest of several; `end` where there is none.
static const char *next_special(struct word_counter *c, const char *at, const char *end, size_t *length)
{
    const char *first = end;
    *length = 0;
    for (size_t i = 0; i < c->special_count; i++) {
        const struct gguf_string *s = &c->special[i];
        if (c->next[i] < at) {
            c->next[i] = memmem(at, (size_t)(end - at), s->data, s->length);
            if (!c->next[i]) c->next[i] = end;
        }
        if (c->next[i] < first || (c->next[i] == first && first < end && s->length > *length)) {
            first = c->next[i];
            *length = s->length;
        }
    }
    return first;
}

enum tlm_status word_counter_add(struct word_counter *c, const char *text, size_t bytes,
                                 struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    for (size_t i = 0; i < c->special_count; i++) c->next[i] = NULL;
    for (const char *at = text, *end = text + bytes; at < end && !status;) {
        size_t length;
        const char *stop = next_special(c, at, end, &length);
        if (stop > at) status = add_plain(c, at, (size_t)(stop - at), err);
        at = stop + length;
    }
    return status;
}

enum tlm_status word_counter_finish(struct word_counter *c, const struct counted_word **words, size_t *count,
                                    struct tlm_error *err)
{
    struct word_table *all = &c->threads[0].table;
    enum tlm_status status = count_batch(c, err);
    if (status) return status;
    for (int i = 1; i < threads_count(c->pool); i++) {
        const struct word_table *t = &c->threads[i].table;
        for (size_t n = 0; t->words && n <= t->mask; n++) {
            const struct counted_word *w = &t->words[n];
            if (w->count && !table_add(all, w->hash, w->text, w->bytes, w->count, false))
                return error_set(err, TLM_ERR_MEMORY, "no memory to count words");
        }
    }
    // What is in use moves to the front of the table, which is a table no longer.
    size_t used = 0;
    for (size_t n = 0; all->words && n <= all->mask; n++)
        if (all->words[n].count) all->words[used++] = all->words[n];
    *words = all->words;
    *count = used;
    return TLM_OK;
}
