// text/spm.c -- SentencePiece's byte pair encoding, as GGUF stores it (tokenizer.ggml.model = "llama").
//
// Spaces become U+2581 and the text falls into characters. Of all neighbours that together are a token, those
// whose token has the highest score are joined, the leftmost first, until no neighbours are a token. A
// character that is no token becomes one byte token for each of its bytes. (Sennrich et al., "Neural machine
// translation of rare words with subword units", ACL 2016; Kudo and Richardson, "SentencePiece", EMNLP 2018;
// the order of ties is llama.cpp's.)
//
// Joins are found with a heap, in n log n for n characters. Where two neighbours stand inside no token of the
// vocabulary, nothing can ever join across, so the text is cut there and the pieces, mostly words, are done
// one by one: the heap and its symbols stay in the cache, and the ids of short pieces are remembered.
#include "text/heap.h"
#include "text/tokenizer_internal.h"
#include "text/word_cache.h"

static const char space_mark[] = "\xE2\x96\x81"; // U+2581, which stands for a space
enum { MARK_BYTES = 3 };

// Classes of characters: the mark is one, all others are told by one byte, the last of a left neighbour and
// the first of a right one. Coarse classes may miss a place to cut, but never make a wrong one.
enum { MARK_CLASS = 256, CLASSES = 257 };

struct spm {
    uint8_t joined[CLASSES][(CLASSES + 7) / 8]; // bit: a token has such neighbours
    struct word_cache cache;
};

struct symbol {             // a character, or what was joined
    const char *text;       // into the span
    uint32_t length;        // 0: joined to its left neighbour
    int32_t token;          // -1: not known, or none
    int32_t previous, next; // -1: none
};

struct merger {
    struct symbol *symbols; // (room)
    struct heap heap;       // (2 * room): of each join one entry leaves and at most two come
    size_t room;
};

static bool is_mark(const char *s, size_t length)
{
    return length == MARK_BYTES && !memcmp(s, space_mark, MARK_BYTES);
}

static unsigned left_class(const char *s, size_t length)
{
    return is_mark(s, length) ? MARK_CLASS : (unsigned char)s[length - 1];
}

static unsigned right_class(const char *s, size_t length)
{
    return is_mark(s, length) ? MARK_CLASS : (unsigned char)s[0];
}

// Bytes of the character at s, where `left` bytes remain. A byte that begins no whole character is one by
// itself, so that a broken one takes none of its neighbours along and any bytes come back from their tokens.
// (llama.cpp goes by the lead byte alone. For well-formed text that is the same.)
static uint32_t character(const char *s, size_t left)
{
    static const uint8_t by_high_bits[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    uint32_t length = by_high_bits[(unsigned char)*s >> 4];
    if (length > left) return 1;
    for (uint32_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80) return 1;
    return length;
}

static enum tlm_status spm_open(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    if (!gguf_find(g, "tokenizer.ggml.scores"))
        return error_set(err, TLM_ERR_FORMAT,
                         "tokenizer.ggml.scores: expected a score a token, found no such key");
    for (int b = 0; b < 256 && t->unknown < 0; b++)
        if (t->byte_ids[b] < 0)
            return error_set(err, TLM_ERR_FORMAT,
                             "tokenizer.ggml.tokens: expected an unknown token or a token for each byte, "
                             "found none for <0x%02X>",
                             (unsigned)b);
    struct spm *spm = t->state = calloc(1, sizeof *spm);
    if (spm) spm->cache.entries = calloc(WORD_CACHE_ENTRIES, sizeof *spm->cache.entries);
    if (!spm || !spm->cache.entries)
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its cache");
    for (int32_t id = 0; id < t->size; id++) {
        const char *text = t->tokens[id].text;
        uint32_t left = t->tokens[id].length, n, m;
        if (!left) continue;
        for (n = character(text, left); n < left; text += n, left -= n, n = m) {
            m = character(text + n, left - n);
            unsigned right = right_class(text + n, m);
            spm->joined[left_class(text, n)][right / 8] |= (uint8_t)(1 << right % 8);
        }
    }
    return TLM_OK;
}

static void spm_close(struct tokenizer *t)
{
    struct spm *spm = t->state;
    if (spm) free(spm->cache.entries);
    free(spm);
}

// Enters the join of a symbol with its right neighbour, if they are a token together.
static void try_join(const struct tokenizer *t, struct merger *m, int32_t left)
{
    const struct symbol *a = &m->symbols[left];
    if (a->next < 0) return;
    uint32_t length = a->length + m->symbols[a->next].length; // the two lie side by side in the text
    if (length > t->longest) return;
    int32_t token = token_find(t, a->text, length);
    if (token < 0) return;
    uint64_t key =
        (uint64_t)~t->tokens[token].priority << 32 | (uint32_t)left; // highest score, then leftmost
    heap_push(&m->heap, (struct heap_item){key, length, (uint32_t)token});
}

static void join_all(const struct tokenizer *t, struct merger *m, int32_t count)
{
    for (int32_t i = 0; i + 1 < count; i++) try_join(t, m, i);
    while (m->heap.count) {
        struct heap_item top = heap_pop(&m->heap);
        int32_t left = (int32_t)(uint32_t)top.key;
        struct symbol *a = &m->symbols[left];
        // Symbols only grow, so the entry still holds if both are there and their lengths add up.
        if (!a->length || a->next < 0 || a->length + m->symbols[a->next].length != top.a) continue;
        struct symbol *b = &m->symbols[a->next];
        a->length = top.a;
        a->token = (int32_t)top.b;
        a->next = b->next;
        b->length = 0;
        if (a->next >= 0) m->symbols[a->next].previous = left;
        if (a->previous >= 0) try_join(t, m, a->previous);
        try_join(t, m, left);
    }
}

static void put_symbol(const struct tokenizer *t, const struct symbol *s, struct id_sink *ids)
{
    int32_t token = s->token >= 0 ? s->token : token_find(t, s->text, s->length);
    if (token >= 0) {
        id_sink_put(ids, token);
        return;
    }
    for (uint32_t i = 0; i < s->length; i++) {
        if (t->byte_ids[(unsigned char)s->text[i]] >= 0) continue;
        id_sink_put(ids, t->unknown); // one for the whole character
        return;
    }
    for (uint32_t i = 0; i < s->length; i++) id_sink_put(ids, t->byte_ids[(unsigned char)s->text[i]]);
}

// Makes room for one symbol more than `count`.
static bool grow(struct merger *m, size_t count)
{
    if (count < m->room) return true;
    size_t room = m->room ? m->room * 2 : 64;
    struct symbol *symbols = realloc(m->symbols, room * sizeof *symbols);
    if (symbols) m->symbols = symbols;
    struct heap_item *items = realloc(m->heap.items, 2 * room * sizeof *items);
    if (items) m->heap.items = items;
    if (!symbols || !items) return false;
    m->room = room;
    return true;
}

// Bytes of the piece that begins at s: up to the first neighbours that stand inside no token.
static size_t piece(const struct spm *spm, const char *s, size_t left)
{
    size_t at = 0;
    for (uint32_t length = character(s, left);;) {
        unsigned before = left_class(s + at, length);
        at += length;
        if (at == left) return at;
        length = character(s + at, left - at);
        unsigned after = right_class(s + at, length);
        if (!(spm->joined[before][after / 8] >> after % 8 & 1)) return at;
    }
}

static bool encode_piece(const struct tokenizer *t, struct merger *m, const char *text, size_t bytes,
                         struct id_sink *ids)
{
    size_t count = 0;
    for (size_t at = 0; at < bytes; count++) {
        uint32_t length = character(text + at, bytes - at);
        if (!grow(m, count)) return false;
        m->symbols[count] = (struct symbol){text + at, length, -1, (int32_t)count - 1, (int32_t)count + 1};
        at += length;
    }
    m->symbols[count - 1].next = -1;
    join_all(t, m, (int32_t)count);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next) put_symbol(t, &m->symbols[i], ids);
    return true;
}

static bool encode_short(const struct tokenizer *t, struct merger *m, const char *text, size_t bytes,
                         struct id_sink *ids)
{
    const struct spm *spm = t->state;
    uint32_t hash = token_hash(text, bytes);
    const struct word_cache_entry *known = word_cache_find(&spm->cache, hash, text, bytes);
    for (int i = 0; known && i < known->count; i++) id_sink_put(ids, known->ids[i]);
    if (known) return true;
    int32_t own[WORD_CACHE_BYTES];
    struct id_sink all = {.ids = own, .capacity = WORD_CACHE_BYTES};
    if (!encode_piece(t, m, text, bytes, &all)) return false;
    word_cache_put(&spm->cache, hash, text, bytes, own, all.count);
    for (size_t i = 0; i < all.count; i++) id_sink_put(ids, own[i]);
    return true;
}

// Encodes text whose spaces are marks already.
static bool encode_marked(const struct tokenizer *t, struct merger *m, const char *text, size_t bytes,
                          struct id_sink *ids)
{
    for (size_t at = 0, length; at < bytes; at += length) {
        length = piece(t->state, text + at, bytes - at);
        if (length <= WORD_CACHE_BYTES ? !encode_short(t, m, text + at, length, ids)
                                       : !encode_piece(t, m, text + at, length, ids))
            return false;
    }
    return true;
}

static enum tlm_status spm_encode(const struct tokenizer *t, const char *text, size_t bytes,
                                  struct id_sink *ids, struct tlm_error *err)
{
    size_t spaces = t->adds_space;
    for (size_t i = 0; i < bytes; i++) spaces += text[i] == ' ';
    char *marked = malloc(bytes + spaces * MARK_BYTES), *out = marked;
    struct merger m = {0};
    bool done = false;
    if (marked) {
        if (t->adds_space) out = mempcpy(out, space_mark, MARK_BYTES);
        for (size_t i = 0; i < bytes; i++) {
            if (text[i] == ' ')
                out = mempcpy(out, space_mark, MARK_BYTES);
            else
                *out++ = text[i];
        }
        done = encode_marked(t, &m, marked, (size_t)(out - marked), ids);
    }
    free(marked);
    free(m.symbols);
    free(m.heap.items);
    return done ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory to encode %zu bytes", bytes);
}

void marked_decode(const struct token *token, struct byte_sink *bytes)
{
    for (uint32_t i = 0; i < token->length;) {
        bool mark = token->length - i >= MARK_BYTES && is_mark(token->text + i, MARK_BYTES);
        byte_sink_put(bytes, mark ? ' ' : token->text[i]);
        i += mark ? MARK_BYTES : 1;
    }
}

const struct tokenizer_kind tokenizer_spm = {
    .name = "llama",
    .open = spm_open,
    .close = spm_close,
    .encode = spm_encode,
    .decode = marked_decode,
    .bos = 1,
    .eos = 2,
    .unknown = 0,
    .adds_bos = true,
    .adds_space = true,
};
