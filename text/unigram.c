// text/unigram.c -- SentencePiece's unigram model (tokenizer.ggml.model = "t5").
//
// Each token has a score, the logarithm of its probability; of all ways to write a text as tokens the one whose scores
// sum to the most is taken (Viterbi's algorithm). A character that begins no token is unknown, at a score 10 below the
// lowest. (Kudo, "Subword regularization", ACL 2018.)
#include "text/charsmap.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/regex.h"
#include "text/tokenizer_internal.h"
#include "text/vocabulary.h"
#include "text/word_cache.h"

#define MARK "\xE2\x96\x81" // U+2581, which stands for a space
enum { MARK_BYTES = 3 };

struct piece {
    const char *text;
    uint32_t length;
    int32_t id;
    double score;
};

struct unigram {
    struct piece *pieces; // sorted by text, so that those with a common beginning stand together
    uint32_t count;
    uint32_t first[257]; // pieces that begin with byte b are first[b] .. first[b + 1]
    double unknown_score;
    bool byte_fallback; // unknown characters become byte tokens
    bool merges_spaces;
    struct charsmap *charsmap;         // NULL: none
    struct normalizer *normalizer;     // of tokenizer.json, in place of the map; NULL: none
    struct pretokenizer *pretokenizer; // likewise
    struct word_cache cache;
};

static int compare_pieces(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static enum tlm_status read_pieces(struct tokenizer *t, struct unigram *u, const struct gguf *g,
                                   struct tlm_error *err)
{
    const struct gguf_value *scores = gguf_find(g, "tokenizer.ggml.scores"),
                            *exact = gguf_find(g, VOCABULARY_KEY_SCORES);
    if (!scores)
        return error_set(err, TLM_ERR_FORMAT,
                         "tokenizer.ggml.scores: expected a score a token, found no such key");
    bool is_exact =
        exact && exact->type == GGUF_ARRAY && exact->item == GGUF_F64 && exact->count == (uint64_t)t->size;
    if (is_exact) scores = exact;
    u->pieces = malloc((size_t)t->size * sizeof *u->pieces);
    if (!u->pieces) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %d tokens", (int)t->size);
    double lowest = 0;
    for (int32_t id = 0; id < t->size; id++) {
        const struct token *token = &t->tokens[id];
        double score = gguf_value_f64(scores, (uint64_t)id);
        if (!(score > -1e30 && score < 1e30))
            return error_set(err, TLM_ERR_FORMAT, "tokenizer.ggml.scores: token %d: expected a number",
                             (int)id);
        bool is_piece =
            token->type == TOKEN_NORMAL || token->type == TOKEN_USER_DEFINED || token->type == TOKEN_UNUSED;
        if (!is_piece || !token->length) continue;
        if (token->type == TOKEN_NORMAL && score < lowest) lowest = score;
        if (token->type == TOKEN_USER_DEFINED) score = 0;
        u->pieces[u->count++] = (struct piece){token->text, token->length, id, score};
    }
    u->unknown_score = lowest - 10;
    qsort(u->pieces, u->count, sizeof *u->pieces, compare_pieces);
    for (uint32_t i = 0; i < u->count; i++) u->first[(unsigned char)u->pieces[i].text[0] + 1]++;
    for (int b = 0; b < 256; b++) u->first[b + 1] += u->first[b];
    return TLM_OK;
}

static enum tlm_status read_steps(struct unigram *u, const struct gguf *g, struct tlm_error *err)
{
    struct gguf_string steps = {0}, normalizer = {0};
    enum tlm_status status;
    if ((status = gguf_get_string(g, VOCABULARY_KEY_PRE_TOKENIZER, &steps, err))) return status;
    if ((status = gguf_get_string(g, VOCABULARY_KEY_NORMALIZER, &normalizer, err))) return status;
    if (normalizer.data &&
        (status = normalizer_open(&u->normalizer, normalizer.data, normalizer.length, err)))
        return status;
    if (steps.data) return pretokenizer_open_json(&u->pretokenizer, steps.data, steps.length, err);
    if (normalizer.data) return pretokenizer_open(&u->pretokenizer, NULL, 0, err);

    if ((status = gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &u->merges_spaces, err)))
        return status;
    const char *key = "tokenizer.ggml.precompiled_charsmap";
    const struct gguf_value *map = gguf_find(g, key);
    if (!map) return TLM_OK;
    if (map->type != GGUF_ARRAY || (map->item != GGUF_I8 && map->item != GGUF_U8))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected an array of bytes, found another type", key);
    return map->count ? charsmap_open(&u->charsmap, map->data, map->count, err) : TLM_OK;
}

static enum tlm_status unigram_open(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    struct unigram *u = t->state = calloc(1, sizeof *u);
    if (!u) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu bytes", sizeof *u);
    enum tlm_status status;
    if ((status = read_pieces(t, u, g, err))) return status;
    if ((status = read_steps(u, g, err))) return status;
    u->byte_fallback = true;
    for (int b = 0; b < 256; b++)
        u->byte_fallback &= t->byte_ids[b] >= 0 && t->tokens[t->byte_ids[b]].type == TOKEN_BYTE;
    if (!u->byte_fallback && t->unknown < 0)
        return error_set(
            err, TLM_ERR_FORMAT,
            "tokenizer.ggml.tokens: expected an unknown token or a token for each byte, found neither");
    u->cache.entries = calloc(WORD_CACHE_ENTRIES, sizeof *u->cache.entries);
    return u->cache.entries ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its cache");
}

static void unigram_close(struct tokenizer *t)
{
    struct unigram *u = t->state;
    if (!u) return;
    charsmap_close(u->charsmap);
    normalizer_close(u->normalizer);
    pretokenizer_close(u->pretokenizer);
    free(u->cache.entries);
    free(u->pieces);
    free(u);
}

// ---- Viterbi ------------------------------------------------------------------------------------------

struct node { // the best way to write the text up to here
    double score;
    uint32_t start; // of its last token
    int32_t id;     // of its last token; -1: an unknown character
    bool reached;
};

struct encoder {
    const struct tokenizer *t;
    const struct unigram *u;
    struct id_sink *ids;
    struct node *nodes; // (room)
    size_t room;
    int32_t *path; // (room)
};

// SentencePiece sums in single precision, the tokenizers library in double: it decides between ways of equal scores.
static void improve(const struct unigram *u, struct node *node, double score, size_t start, int32_t id)
{
    if (!u->pretokenizer) score = (float)score;
    if (node->reached && !(score > node->score)) return;
    *node = (struct node){score, (uint32_t)start, id, true};
}

// Enters all tokens that begin at the place.
static void enter_tokens(const struct unigram *u, struct node *nodes, const char *text, size_t at,
                         size_t bytes, size_t character)
{
    unsigned byte = (unsigned char)text[at];
    uint32_t low = u->first[byte], high = u->first[byte + 1];
    bool whole = false; // a token is just this character
    for (size_t depth = 1; low < high; depth++) {
        const struct piece *p = &u->pieces[low];
        if (p->length == depth) {
            improve(u, &nodes[at + depth], nodes[at].score + p->score, at, p->id);
            whole |= depth == character;
            low++;
        }
        if (at + depth >= bytes) break;
        byte = (unsigned char)text[at + depth];
        for (uint32_t end = high, middle; low < end;) { // the first piece whose next byte is at least `byte`
            middle = low + (end - low) / 2;
            if ((unsigned char)u->pieces[middle].text[depth] < byte)
                low = middle + 1;
            else
                end = middle;
        }
        for (uint32_t start = low, middle; start < high;) { // the first whose next byte is more
            middle = start + (high - start) / 2;
            if ((unsigned char)u->pieces[middle].text[depth] <= byte)
                start = middle + 1;
            else
                high = middle;
        }
    }
    if (!whole) improve(u, &nodes[at + character], nodes[at].score + u->unknown_score, at, -1);
}

static size_t character_at(const char *text, size_t left)
{
    size_t length = 1;
    while (length < left && length < 4 && (text[length] & 0xC0) == 0x80) length++;
    return length;
}

static void put_unknown(struct encoder *e, const char *text, size_t bytes)
{
    if (!e->u->byte_fallback) {
        id_sink_put(e->ids, e->t->unknown);
        return;
    }
    for (size_t i = 0; i < bytes; i++) id_sink_put(e->ids, e->t->byte_ids[(unsigned char)text[i]]);
}

static bool grow(struct encoder *e, size_t room)
{
    if (room <= e->room) return true;
    room += room / 2;
    struct node *nodes = realloc(e->nodes, room * sizeof *nodes);
    if (nodes) e->nodes = nodes;
    int32_t *path = realloc(e->path, room * sizeof *path);
    if (path) e->path = path;
    if (nodes && path) e->room = room;
    return nodes && path;
}

static enum tlm_status viterbi(struct encoder *e, const char *text, size_t bytes, struct tlm_error *err)
{
    if (!grow(e, bytes + 1))
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory to encode %zu bytes", bytes);
    memset(e->nodes, 0, (bytes + 1) * sizeof *e->nodes);
    e->nodes[0].reached = true;
    for (size_t at = 0; at < bytes; at++)
        if (e->nodes[at].reached)
            enter_tokens(e->u, e->nodes, text, at, bytes, character_at(text + at, bytes - at));
    // From the end back to the beginning, then forward: the path holds where each token ends.
    size_t count = 0;
    for (size_t at = bytes; at; at = e->nodes[at].start) e->path[count++] = (int32_t)at;
    size_t unknown = 0; // bytes of unknown characters in a row
    for (size_t i = count; i-- > 0;) {
        const struct node *node = &e->nodes[e->path[i]];
        if (node->id < 0) {
            unknown += (size_t)e->path[i] - node->start;
            if (i) continue;
        }
        size_t end = node->id < 0 ? (size_t)e->path[i] : node->start;
        if (unknown) put_unknown(e, text + end - unknown, unknown);
        unknown = 0;
        if (node->id >= 0) id_sink_put(e->ids, node->id);
    }
    return TLM_OK;
}

static enum tlm_status encode_word(void *user, const char *word, size_t bytes, struct tlm_error *err)
{
    struct encoder *e = user;
    if (bytes > WORD_CACHE_BYTES) return viterbi(e, word, bytes, err);
    uint32_t hash = token_hash(word, bytes);
    const struct word_cache_entry *known = word_cache_find(&e->u->cache, hash, word, bytes);
    for (int i = 0; known && i < known->count; i++) id_sink_put(e->ids, known->ids[i]);
    if (known) return TLM_OK;
    int32_t ids[WORD_CACHE_BYTES + 1];
    struct id_sink all = {.ids = ids, .capacity = WORD_CACHE_BYTES}, *outer = e->ids;
    e->ids = &all;
    enum tlm_status status = viterbi(e, word, bytes, err);
    e->ids = outer;
    if (status) return status;
    word_cache_put(&e->u->cache, hash, word, bytes, ids, all.count);
    for (size_t i = 0; i < all.count; i++) id_sink_put(outer, ids[i]);
    return TLM_OK;
}

// ---- texts --------------------------------------------------------------------------------------------

struct marker { // writes text with marks for spaces
    char *out;
    size_t size;
    bool in_word;
};

static void put_mark(struct marker *m)
{
    memcpy(m->out + m->size, MARK, MARK_BYTES);
    m->size += MARK_BYTES;
}

static void mark_byte(const struct unigram *u, bool adds_space, struct marker *m, char byte)
{
    if (byte != ' ') {
        if (u->merges_spaces && !m->in_word && (adds_space || m->size)) put_mark(m);
        m->in_word = true;
        m->out[m->size++] = byte;
    } else {
        m->in_word = false;
        if (!u->merges_spaces) put_mark(m);
    }
}

// As the keys of GGUF say: the map, then marks for spaces (runs of them as one, if the file wants that).
static enum tlm_status encode_keys(struct encoder *e, const char *text, size_t bytes, struct tlm_error *err)
{
    const struct unigram *u = e->u;
    size_t room = 0, length, taken;
    const char *mapped;
    struct marker m = {0};
    for (int pass = 0; pass < 2; pass++) { // the first counts
        for (size_t i = 0; i < bytes; i += taken) {
            taken = u->charsmap ? charsmap_find(u->charsmap, text + i, bytes - i, &mapped, &length) : 0;
            if (!taken) {
                taken = length = character_at(text + i, bytes - i);
                mapped = text + i;
            }
            room += length;
            if (pass && !i && e->t->adds_space && !u->merges_spaces) put_mark(&m);
            for (size_t j = 0; pass && j < length; j++) mark_byte(u, e->t->adds_space, &m, mapped[j]);
        }
        // A mark takes three bytes, for a space or before a word of one byte or more.
        if (!pass && !(m.out = malloc(4 * room + MARK_BYTES)))
            return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory to encode %zu bytes", bytes);
    }
    enum tlm_status status = viterbi(e, m.out, m.size, err);
    free(m.out);
    return status;
}

static enum tlm_status encode_steps(struct encoder *e, const char *text, size_t bytes, bool first,
                                    bool begins, struct tlm_error *err)
{
    char *normal = NULL;
    size_t normal_bytes = bytes;
    enum tlm_status status =
        e->u->normalizer ? normalizer_run(e->u->normalizer, text, bytes, begins, &normal, &normal_bytes, err)
                         : TLM_OK;
    if (status) return status;
    if (normal) text = normal;
    bool has_new;
    regex_text(text, normal_bytes, &has_new);
    status = pretokenizer_run(e->u->pretokenizer, text, normal_bytes, has_new, first, encode_word, e, err);
    free(normal);
    return status;
}

static enum tlm_status unigram_encode(const struct tokenizer *t, const char *text, size_t bytes,
                                      struct id_sink *ids, struct tlm_error *err)
{
    struct encoder e = {.t = t, .u = t->state, .ids = ids};
    enum tlm_status status = TLM_OK;
    if (!e.u->pretokenizer) status = encode_keys(&e, text, bytes, err);
    for (size_t at = 0; e.u->pretokenizer && at < bytes && !status;) { // the steps need well-formed text
        bool has_new;
        size_t good = regex_text(text + at, bytes - at, &has_new);
        status = good ? encode_steps(&e, text + at, good, ids->first && !at, !at, err)
                      : viterbi(&e, text + at, 1, err);
        at += good ? good : 1;
    }
    free(e.nodes);
    free(e.path);
    return status;
}

const struct tokenizer_kind tokenizer_unigram = {
    .name = "t5",
    .open = unigram_open,
    .close = unigram_close,
    .encode = unigram_encode,
    .decode = marked_decode,
    .bos = -1,
    .eos = 1,
    .unknown = 2,
    .adds_space = true,
};
