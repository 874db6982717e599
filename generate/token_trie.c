// generate/token_trie.c -- see generate/token_trie.h.
#include "generate/token_trie.h"

#include <string.h>

struct key {
    uint64_t head; // the first eight bytes, the first one highest
    int32_t id;
};

static size_t length_of(const struct token_trie *t, int32_t id)
{
    return t->text_at[id + 1] - t->text_at[id];
}

static enum tlm_status no_memory(const struct trie_vocab *v, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "grammar: no memory for the texts of %d tokens", v->size);
}

static enum tlm_status read_texts(struct token_trie *t, const struct trie_vocab *v, struct tlm_error *err)
{
    uint64_t total = 0;
    t->text_at = malloc(((size_t)v->size + 1) * sizeof *t->text_at);
    if (!t->text_at) return no_memory(v, err);
    for (int pass = 0; pass < 2; pass++) {
        uint64_t at = 0;
        for (int32_t id = 0; id < v->size; id++) {
            t->text_at[id] = (uint32_t)at;
            size_t room = pass ? total - at : 0;
            size_t length =
                v->is_end(v->user, id) ? 0 : v->text(v->user, id, pass ? t->texts + at : NULL, room);
            if (length > UINT16_MAX) length = 0; // nobody will miss it
            TLM_ASSERT(!pass || length <= room);
            at += length;
            if (!pass && length > (size_t)t->longest) t->longest = (int32_t)length;
        }
        if (at > INT32_MAX)
            return error_set(err, TLM_ERR_UNSUPPORTED, "grammar: expected less than 2 GiB of tokens");
        t->text_at[v->size] = (uint32_t)at;
        if (!pass && !(t->texts = malloc(at + 1))) return no_memory(v, err);
        total = at;
    }
    return TLM_OK;
}

static int by_text(const void *a, const void *b, void *user)
{
    const struct key *x = a, *y = b;
    const struct token_trie *t = user;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    size_t n = length_of(t, x->id), m = length_of(t, y->id);
    int order = memcmp(t->texts + t->text_at[x->id], t->texts + t->text_at[y->id], n < m ? n : m);
    if (order) return order;
    if (n != m) return n < m ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

// Ranks of the tokens that have a text. Returns how many.
static int32_t sort_tokens(struct token_trie *t, struct key *keys)
{
    int32_t count = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        size_t length = length_of(t, id);
        if (!length) continue;
        uint64_t head = 0;
        for (size_t i = 0; i < 8; i++)
            head = head << 8 | (i < length ? (uint8_t)t->texts[t->text_at[id] + i] : 0);
        keys[count++] = (struct key){head, id};
    }
    qsort_r(keys, (size_t)count, sizeof *keys, by_text, t);
    for (int32_t r = 0; r < count; r++) t->ids[r] = keys[r].id;
    return count;
}

// Adds the tokens in their order; path[d] is the node at depth d that the last one went through.
static void add_tokens(struct token_trie *t, int32_t count, uint32_t *path)
{
    uint32_t nodes = 1, depth = 0;
    t->nodes[0] = (struct trie_node){0};
    path[0] = 0;
    for (int32_t r = 0; r < count; r++) {
        const char *text = t->texts + t->text_at[t->ids[r]],
                   *last = r ? t->texts + t->text_at[t->ids[r - 1]] : text;
        uint32_t length = (uint32_t)length_of(t, t->ids[r]), common = 0;
        while (r && common < length && common < depth && text[common] == last[common]) common++;
        for (; depth > common; depth--) t->nodes[path[depth]].next = nodes;
        for (; depth < length; depth++) {
            path[depth + 1] = nodes;
            t->nodes[nodes++] = (struct trie_node){
                .rank = (uint32_t)r, .depth = (uint16_t)(depth + 1), .byte = (uint8_t)text[depth]};
        }
    }
    for (; depth; depth--) t->nodes[path[depth]].next = nodes;
    t->nodes[0].next = nodes;
    t->nodes[nodes] = (struct trie_node){.rank = (uint32_t)count};
    t->node_count = (int32_t)nodes;
}

// ---- kinds ----------------------------------------------------------------------------------------------

int trie_kind(uint8_t byte)
{
    static const char *const kinds[] = {" ", "\"", "\\",   "\n",  "\t", "\r", "'",   "-",
                                        "_", ".",  ",",    ":",   "{}", "[]", "()",  "<>",
                                        "/", "@",  "#$%&", "*+=", "!?", ";",  "^`|~"};
    enum { PUNCTUATION = 4 };
    if (byte >= 'a' && byte <= 'z') return 0;
    if (byte >= 'A' && byte <= 'Z') return 1;
    if (byte >= '0' && byte <= '9') return 2;
    for (int i = 0; i < (int)(sizeof kinds / sizeof *kinds); i++)
        if (byte && strchr(kinds[i], byte)) return PUNCTUATION + i;
    return 3; // control characters
}

struct character {     // where in a character a node is
    uint8_t left;      // bytes to come
    uint8_t low, high; // the next of them
    bool malformed;
};

static struct character after(struct character c, uint8_t byte)
{
    struct character next = {.low = 0x80, .high = 0xBF};
    if (c.malformed || (c.left && (byte < c.low || byte > c.high))) {
        next.malformed = true;
    } else if (c.left) {
        next.left = c.left - 1;
    } else if (byte >= 0x80) {
        next.left = byte >= 0xC2 && byte <= 0xDF   ? 1
                    : byte >= 0xE0 && byte <= 0xEF ? 2
                    : byte >= 0xF0 && byte <= 0xF4 ? 3
                                                   : 0;
        next.malformed = !next.left;
        if (byte == 0xE0) next.low = 0xA0;
        if (byte == 0xED) next.high = 0x9F;
        if (byte == 0xF0) next.low = 0x90;
        if (byte == 0xF4) next.high = 0x8F;
    }
    return next;
}

#define BEGINS 0x80000000u // beside the kinds of a node's own byte: a character begins with it

// What characters are below each node: first where in characters the nodes are, then from the last node to the first. By depth: place,
// path. By node: up, the parents; own.
static void find_kinds(struct token_trie *t, struct character *place, uint32_t *path, uint32_t *up,
                       uint32_t *own)
{
    place[0] = (struct character){0};
    path[0] = 0;
    for (int32_t i = 1; i < t->node_count; i++) {
        const struct trie_node *n = &t->nodes[i];
        struct character *c = &place[n->depth];
        bool begins = !c[-1].left && !c[-1].malformed;
        *c = after(c[-1], n->byte);
        path[n->depth] = (uint32_t)i;
        up[i] = path[n->depth - 1];
        own[i] = c->malformed ? TRIE_MALFORMED : n->byte >= 0x80 ? TRIE_WIDE : 1u << trie_kind(n->byte);
        if (c->left || c->malformed) own[i] |= TRIE_INSIDE;
        if (begins) own[i] |= BEGINS;
    }
    for (int32_t i = t->node_count; i-- > 1;) {
        struct trie_node *n = &t->nodes[i], *parent = &t->nodes[up[i]];
        uint32_t chars = n->chars + (own[i] & BEGINS ? 1u : 0u);
        parent->kinds |= n->kinds | (own[i] & ~(uint32_t)(TRIE_INSIDE | BEGINS));
        if (chars > parent->chars) parent->chars = (uint8_t)(chars < 255 ? chars : 255);
        n->kinds |= own[i] & TRIE_INSIDE;
    }
}

enum tlm_status token_trie_open(struct token_trie **out, const struct trie_vocab *v, struct tlm_error *err)
{
    *out = NULL;
    struct token_trie *t = calloc(1, sizeof *t);
    if (!t) return no_memory(v, err);
    t->vocab = v->size;
    enum tlm_status status = read_texts(t, v, err);
    size_t most = status ? 0 : (size_t)t->text_at[v->size] + 2, depth = (size_t)t->longest + 2;
    struct key *keys = malloc(((size_t)v->size + 1) * sizeof *keys);
    uint32_t *scratch = malloc((2 * most + depth) * sizeof *scratch);
    struct character *place = malloc(depth * sizeof *place);
    t->ids = malloc(((size_t)v->size + 1) * sizeof *t->ids);
    t->nodes = malloc(most * sizeof *t->nodes);
    if (!status && (!keys || !scratch || !place || !t->ids || !t->nodes)) status = no_memory(v, err);
    if (!status) {
        add_tokens(t, sort_tokens(t, keys), scratch);
        find_kinds(t, place, scratch, scratch + depth, scratch + depth + most);
        struct trie_node *fit = realloc(t->nodes, ((size_t)t->node_count + 1) * sizeof *fit);
        if (fit) t->nodes = fit;
    }
    free(keys);
    free(scratch);
    free(place);
    if (status)
        token_trie_close(t);
    else
        *out = t;
    return status;
}

void token_trie_close(struct token_trie *t)
{
    if (!t) return;
    free(t->nodes);
    free(t->ids);
    free(t->texts);
    free(t->text_at);
    free(t);
}
