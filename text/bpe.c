// text/bpe.c -- byte pair encoding by a list of merges, as GGUF stores it.
//
// tokenizer.ggml.model = "gpt2": the text is cut into words (tokenizer.ggml.pre says how), a word falls into bytes, and
// of all neighbours that the list has as a pair the one that stands first in the list is joined, the leftmost first,
// until no pair is in the list. (Sennrich et al., ACL 2016; Radford et al., "Language models are unsupervised multitask
// learners", 2019.) "gemma4" is the same over characters, with U+2581 for a space and byte tokens for unknown ones.
//
// A short word is scanned for its best pair again after each join; a long one uses a heap, n log n.
#include "text/byte_alphabet.h"
#include "text/heap.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/regex.h"
#include "text/tokenizer_internal.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

enum { SHORT_WORD = 64 };
enum { MAX_MERGES = 1 << 26 };

struct merge {
    uint32_t left, right; // ids; left == FREE: none
    uint32_t rank;        // a smaller one is joined first
    int32_t result;
};
static const uint32_t FREE = UINT32_MAX;

struct pair {
    uint32_t rank; // NO_RANK: none
    int32_t result;
};
static const uint32_t NO_RANK = UINT32_MAX;

struct bpe {
    struct pretokenizer *pretokenizer;
    struct normalizer *normalizer; // NULL: none
    struct word_cache cache;
    struct merge *merges; // open addressing, at most half full
    uint32_t mask;
    struct pair
        *byte_pairs;    // (256, 256) the merges of two bytes, with which each word begins; NULL where `raw`
    bool raw;           // characters, not bytes
    bool ignore_merges; // a word that is a token is that token
    bool fuse_unknown;  // one unknown token for a run of unknown characters
    int32_t byte_ids[256];
};

// ---- opening ------------------------------------------------------------------------------------------

static uint32_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15; // 2^64 / golden ratio, odd
    return (uint32_t)(h >> 32);
}

static struct merge *find_merge(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    for (uint32_t i = hash_pair(left, right) & bpe->mask;; i = (i + 1) & bpe->mask) {
        struct merge *m = &bpe->merges[i];
        if ((m->left == left && m->right == right) || m->left == FREE) return m;
    }
}

static struct pair find_pair(const struct bpe *bpe, int32_t left, int32_t right)
{
    const struct merge *m = find_merge(bpe, (uint32_t)left, (uint32_t)right);
    return m->left == FREE ? (struct pair){NO_RANK, -1} : (struct pair){m->rank, m->result};
}

// Enters "left right". A merge of or into what is no token can never show in the ids of a text; a pair that comes
// twice counts where it came first.
static enum tlm_status add_merge(struct tokenizer *t, struct bpe *bpe, struct gguf_string text, uint32_t rank,
                                 char *joined, struct tlm_error *err)
{
    const char *space = text.length > 2 ? memchr(text.data + 1, ' ', text.length - 2) : NULL;
    if (!space || text.length > 2 * TOKEN_MAX_BYTES)
        return error_set(err, TLM_ERR_FORMAT,
                         "tokenizer.ggml.merges: merge %u: expected two tokens and a space", rank);
    size_t left = (size_t)(space - text.data), right = text.length - left - 1;
    memcpy(joined, text.data, left);
    memcpy(joined + left, space + 1, right);
    int32_t a = token_find(t, text.data, left), b = token_find(t, space + 1, right);
    int32_t result = token_find(t, joined, left + right);
    if (a < 0 || b < 0 || result < 0) return TLM_OK;
    struct merge *m = find_merge(bpe, (uint32_t)a, (uint32_t)b);
    if (m->left == FREE) *m = (struct merge){(uint32_t)a, (uint32_t)b, rank, result};
    return TLM_OK;
}

static enum tlm_status read_merges(struct tokenizer *t, struct bpe *bpe, const struct gguf *g,
                                   struct tlm_error *err)
{
    const char *key = "tokenizer.ggml.merges";
    const struct gguf_value *v = gguf_find(g, key);
    if (!v || v->type != GGUF_ARRAY || v->item != GGUF_STRING || v->count > MAX_MERGES)
        return error_set(err, TLM_ERR_FORMAT, "%s: expected an array of strings, found %s", key,
                         !v                      ? "no such key"
                         : v->count > MAX_MERGES ? "too many items"
                                                 : "another type");
    uint32_t slots = 4;
    while (slots < 2 * v->count) slots *= 2;
    bpe->mask = slots - 1;
    bpe->merges = malloc((size_t)slots * sizeof *bpe->merges);
    struct gguf_string *texts = NULL;
    char *joined = malloc(2 * TOKEN_MAX_BYTES);
    enum tlm_status status = TLM_OK;
    if (!bpe->merges || !joined)
        status = error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %llu merges",
                           (unsigned long long)v->count);
    if (!status) status = gguf_value_strings(v, &texts, err);
    for (uint32_t i = 0; !status && i < slots; i++) bpe->merges[i].left = FREE;
    for (uint64_t i = 0; !status && i < v->count; i++)
        status = add_merge(t, bpe, texts[i], (uint32_t)i, joined, err);
    free(texts);
    free(joined);
    return status;
}

// The lists that the file names, or writes out in the form of tokenizer.json.
static enum tlm_status read_steps(struct tokenizer *t, struct bpe *bpe, const struct gguf *g,
                                  struct tlm_error *err)
{
    struct gguf_string pre = {"default", 7}, steps = {0}, normalizer = {0};
    enum tlm_status status;
    bpe->raw = t->kind == &tokenizer_bpe_raw;
    if (bpe->raw) pre = (struct gguf_string){"gemma4", 6};
    if ((status = gguf_get_string(g, "tokenizer.ggml.pre", &pre, err))) return status;
    if ((status = gguf_get_string(g, VOCABULARY_KEY_PRE_TOKENIZER, &steps, err))) return status;
    if ((status = gguf_get_string(g, VOCABULARY_KEY_NORMALIZER, &normalizer, err))) return status;
    if ((status = gguf_get_bool(g, VOCABULARY_KEY_IGNORE_MERGES, &bpe->ignore_merges, err))) return status;
    if ((status = gguf_get_bool(g, VOCABULARY_KEY_FUSE_UNKNOWN, &bpe->fuse_unknown, err))) return status;
    if (normalizer.data &&
        (status = normalizer_open(&bpe->normalizer, normalizer.data, normalizer.length, err)))
        return status;
    if (steps.data) return pretokenizer_open_json(&bpe->pretokenizer, steps.data, steps.length, err);

    const struct pretokenizer_info *info = pretokenizer_find(pre.data, pre.length);
    char shown[64];
    if (!info)
        return error_set(
            err, TLM_ERR_UNSUPPORTED,
            "tokenizer.ggml.pre: expected the name of a pre-tokenizer that is known, found \"%s\"",
            gguf_printable(pre, shown, sizeof shown));
    if (info->raw) t->kind = &tokenizer_bpe_raw; // a file may say so in either key
    bpe->raw |= info->raw;
    bpe->ignore_merges |= info->ignore_merges;
    if (!gguf_find(g, "tokenizer.ggml.add_bos_token")) t->adds_bos = info->adds_bos && t->bos >= 0;
    if (info->nfc && !bpe->normalizer && (status = normalizer_open_nfc(&bpe->normalizer, err))) return status;
    if (bpe->raw && !bpe->normalizer) {
        static const char marks[] =
            "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}";
        if ((status = normalizer_open(&bpe->normalizer, marks, sizeof marks - 1, err))) return status;
    }
    return pretokenizer_open(&bpe->pretokenizer, info->rules, pretokenizer_rule_count(info), err);
}

static enum tlm_status bpe_open(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    struct bpe *bpe = t->state = calloc(1, sizeof *bpe);
    if (!bpe) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu bytes", sizeof *bpe);
    enum tlm_status status;
    if ((status = read_steps(t, bpe, g, err))) return status;
    if ((status = read_merges(t, bpe, g, err))) return status;
    for (unsigned b = 0; b < 256; b++) {
        char name[2];
        bpe->byte_ids[b] = bpe->raw ? t->byte_ids[b] : token_find(t, name, byte_alphabet_put(b, name));
    }
    if (!bpe->raw && !(bpe->byte_pairs = malloc(65536 * sizeof *bpe->byte_pairs)))
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its pairs of bytes");
    for (unsigned i = 0; bpe->byte_pairs && i < 65536; i++) {
        int32_t left = bpe->byte_ids[i >> 8], right = bpe->byte_ids[i & 255];
        bpe->byte_pairs[i] = left < 0 || right < 0 ? (struct pair){NO_RANK, -1} : find_pair(bpe, left, right);
    }
    bpe->cache.entries =
        calloc(WORD_CACHE_ENTRIES, sizeof *bpe->cache.entries); // pages come as they are used
    if (!bpe->cache.entries) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its cache");
    return TLM_OK;
}

static void bpe_close(struct tokenizer *t)
{
    struct bpe *bpe = t->state;
    if (!bpe) return;
    pretokenizer_close(bpe->pretokenizer);
    normalizer_close(bpe->normalizer);
    free(bpe->cache.entries);
    free(bpe->merges);
    free(bpe->byte_pairs);
    free(bpe);
}

// ---- words --------------------------------------------------------------------------------------------

struct symbol {
    int32_t id;             // -1: joined to its left neighbour
    int32_t previous, next; // -1: none; of long words
};

struct encoder {
    const struct tokenizer *t;
    const struct bpe *bpe;
    struct id_sink *ids;
    struct symbol *symbols; // (room) of long words
    struct heap heap;       // (2 * room)
    size_t room;
};

// Joins the ids of a short word in place and returns how many are left. `word` is its bytes where each has an id.
static size_t join_short(const struct bpe *bpe, const char *word, int32_t *ids, size_t count)
{
    uint32_t ranks[SHORT_WORD]; // of the pair of ids i and i + 1, and what they make
    int32_t results[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++) {
        struct pair p =
            word ? bpe->byte_pairs[(unsigned)(unsigned char)word[i] << 8 | (unsigned char)word[i + 1]]
                 : find_pair(bpe, ids[i], ids[i + 1]);
        ranks[i] = p.rank;
        results[i] = p.result;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        ids[best] = results[best];
        count--;
        for (size_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
            results[i - 1] = results[i];
        }
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < count; i++) {
            struct pair p = find_pair(bpe, ids[i], ids[i + 1]);
            ranks[i] = p.rank;
            results[i] = p.result;
        }
    }
    return count;
}

static void try_join(struct encoder *e, int32_t left)
{
    const struct symbol *a = &e->symbols[left];
    if (a->next < 0) return;
    int32_t right_id = e->symbols[a->next].id;
    const struct merge *m = find_merge(e->bpe, (uint32_t)a->id, (uint32_t)right_id);
    if (m->left == FREE) return;
    uint64_t key = (uint64_t)m->rank << 32 | (uint32_t)left; // lowest rank, then leftmost
    heap_push(&e->heap, (struct heap_item){key, (uint32_t)a->id, (uint32_t)right_id});
}

static void join_long(struct encoder *e, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) try_join(e, (int32_t)i);
    while (e->heap.count) {
        struct heap_item top = heap_pop(&e->heap);
        int32_t left = (int32_t)(uint32_t)top.key;
        struct symbol *a = &e->symbols[left];
        // The entry still holds if the two ids are where they were.
        if (a->id != (int32_t)top.a || a->next < 0 || e->symbols[a->next].id != (int32_t)top.b) continue;
        struct symbol *b = &e->symbols[a->next];
        a->id = find_merge(e->bpe, top.a, top.b)->result;
        a->next = b->next;
        b->id = -1;
        if (a->next >= 0) e->symbols[a->next].previous = left;
        if (a->previous >= 0) try_join(e, a->previous);
        try_join(e, left);
    }
}

// Room for the symbols of a word of so many bytes; each join takes one entry from the heap and brings at most two.
static bool grow(struct encoder *e, size_t count)
{
    if (count <= e->room) return true;
    size_t room = count + count / 2;
    struct symbol *symbols = realloc(e->symbols, room * sizeof *symbols);
    if (symbols) e->symbols = symbols;
    struct heap_item *items = realloc(e->heap.items, 2 * room * sizeof *items);
    if (items) e->heap.items = items;
    if (!symbols || !items) return false;
    e->room = room;
    return true;
}

// The first ids of a word, before any join: one a byte, or one a character. Returns how many.
static size_t begin_word(const struct encoder *e, const char *word, size_t bytes, int32_t *ids, size_t stride)
{
    const struct bpe *bpe = e->bpe;
    size_t count = 0, length = 1;
    bool after_unknown = false;
    for (size_t i = 0; i < bytes; i += length) {
        int32_t id = -1;
        length = 1;
        if (bpe->raw) {
            while (i + length < bytes && (word[i + length] & 0xC0) == 0x80 && length < 4) length++;
            id = token_find(e->t, word + i, length);
        }
        bool known = id >= 0 || bpe->byte_ids[(unsigned char)word[i]] >= 0;
        for (size_t j = i; id < 0 && j < i + length; j++) known &= bpe->byte_ids[(unsigned char)word[j]] >= 0;
        if (id >= 0) {
            ids[count++ * stride] = id;
        } else if (known) {
            for (size_t j = i; j < i + length; j++)
                ids[count++ * stride] = bpe->byte_ids[(unsigned char)word[j]];
        } else if (e->t->unknown >= 0 && !(after_unknown && bpe->fuse_unknown)) {
            ids[count++ * stride] = e->t->unknown;
        }
        after_unknown = id < 0 && !known;
    }
    return count;
}

static bool encode_long(struct encoder *e, const char *word, size_t bytes)
{
    if (!grow(e, bytes)) return false;
    enum { STRIDE = sizeof(struct symbol) / sizeof(int32_t) };
    size_t count = begin_word(e, word, bytes, &e->symbols[0].id, STRIDE);
    for (size_t i = 0; i < count; i++) {
        e->symbols[i].previous = (int32_t)i - 1;
        e->symbols[i].next = i + 1 < count ? (int32_t)i + 1 : -1;
    }
    join_long(e, count);
    for (int32_t i = count ? 0 : -1; i >= 0; i = e->symbols[i].next) id_sink_put(e->ids, e->symbols[i].id);
    return true;
}

// The token that the whole word is, or -1.
static int32_t whole_word(const struct encoder *e, const char *word, size_t bytes)
{
    if (bytes > TOKEN_MAX_BYTES / 2) return -1;
    if (e->bpe->raw) return token_find(e->t, word, bytes);
    size_t length = 0;
    char name[TOKEN_MAX_BYTES];
    for (size_t i = 0; i < bytes; i++) length += byte_alphabet_put((unsigned char)word[i], name + length);
    return length <= e->t->longest ? token_find(e->t, name, length) : -1;
}

static enum tlm_status encode_word(void *user, const char *word, size_t bytes, struct tlm_error *err)
{
    struct encoder *e = user;
    uint32_t hash = 0;
    if (bytes <= WORD_CACHE_BYTES) {
        hash = token_hash(word, bytes);
        const struct word_cache_entry *known = word_cache_find(&e->bpe->cache, hash, word, bytes);
        for (int i = 0; known && i < known->count; i++) id_sink_put(e->ids, known->ids[i]);
        if (known) return TLM_OK;
    }
    if (bytes > SHORT_WORD) {
        int32_t whole = e->bpe->ignore_merges ? whole_word(e, word, bytes) : -1;
        if (whole >= 0) id_sink_put(e->ids, whole);
        if (whole >= 0 || encode_long(e, word, bytes)) return TLM_OK;
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory to encode a word of %zu bytes", bytes);
    }
    int32_t ids[SHORT_WORD];
    size_t count = 1;
    ids[0] = e->bpe->ignore_merges ? whole_word(e, word, bytes) : -1;
    if (ids[0] < 0) {
        count = begin_word(e, word, bytes, ids, 1);
        count = join_short(e->bpe, !e->bpe->raw && count == bytes ? word : NULL, ids, count);
    }
    if (bytes <= WORD_CACHE_BYTES) word_cache_put(&e->bpe->cache, hash, word, bytes, ids, count);
    for (size_t i = 0; i < count; i++) id_sink_put(e->ids, ids[i]);
    return TLM_OK;
}

// ---- texts --------------------------------------------------------------------------------------------

static enum tlm_status encode_text(struct encoder *e, const char *text, size_t bytes, bool has_new,
                                   bool first, bool begins, struct tlm_error *err)
{
    if (!e->bpe->normalizer)
        return pretokenizer_run(e->bpe->pretokenizer, text, bytes, has_new, first, encode_word, e, err);
    char *normal;
    size_t normal_bytes;
    enum tlm_status status =
        normalizer_run(e->bpe->normalizer, text, bytes, begins, &normal, &normal_bytes, err);
    if (status) return status;
    if (normal) {
        regex_text(normal, normal_bytes, &has_new);
        text = normal;
        bytes = normal_bytes;
    }
    status = pretokenizer_run(e->bpe->pretokenizer, text, bytes, has_new, first, encode_word, e, err);
    free(normal);
    return status;
}

// Well-formed stretches are texts of their own; the bytes between them, which no expression can see, are words.
static enum tlm_status bpe_encode(const struct tokenizer *t, const char *text, size_t bytes,
                                  struct id_sink *ids, struct tlm_error *err)
{
    struct encoder e = {.t = t, .bpe = t->state, .ids = ids};
    enum tlm_status status = TLM_OK;
    for (size_t at = 0; at < bytes && !status;) {
        bool has_new;
        size_t good = regex_text(text + at, bytes - at, &has_new), bad = 0;
        if (good) status = encode_text(&e, text + at, good, has_new, at == 0 && ids->first, at == 0, err);
        at += good;
        while (at + bad < bytes &&
               !regex_text(text + at + bad, bytes - at - bad < 4 ? bytes - at - bad : 4, &has_new))
            bad++;
        if (bad && !status) status = encode_word(&e, text + at, bad, err);
        at += bad;
    }
    free(e.symbols);
    free(e.heap.items);
    return status;
}

static void bpe_decode(const struct token *token, struct byte_sink *bytes)
{
    size_t length;
    bool in_alphabet = true;
    for (uint32_t i = 0; i < token->length && in_alphabet; i += (uint32_t)length)
        in_alphabet = byte_alphabet_get(token->text + i, token->length - i, &length) >= 0;
    for (uint32_t i = 0; i < token->length; i += (uint32_t)length) {
        length = 1;
        int byte = in_alphabet ? byte_alphabet_get(token->text + i, token->length - i, &length)
                               : (unsigned char)token->text[i];
        byte_sink_put(bytes, (char)byte);
    }
}

const struct tokenizer_kind tokenizer_bpe = {
    .name = "gpt2",
    .open = bpe_open,
    .close = bpe_close,
    .encode = bpe_encode,
    .decode = bpe_decode,
    .bos = 11, // GPT-2's kin that lack the keys are Falcon and NeoX, by llama.cpp's example
    .eos = 11,
    .unknown = -1,
};

const struct tokenizer_kind tokenizer_bpe_raw = {
    .name = "gemma4",
    .open = bpe_open,
    .close = bpe_close,
    .encode = bpe_encode,
    .decode = marked_decode,
    .bos = -1,
    .eos = -1,
    .unknown = -1,
};
