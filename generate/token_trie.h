// generate/token_trie.h -- the texts of a vocabulary as a tree, in which tokens that begin alike share their beginnings.
//
// Its nodes stand in the order of a walk that goes down before it goes on, so that a walk is a loop over an array:
//
//     for (i = 1; i < count; i = alive ? i + 1 : nodes[i].next)      // what nodes[i].byte leads to, from depth - 1 to depth
//
// Tokens are ranked by their texts: those of a subtree are a run of ranks.
#ifndef GENERATE_TOKEN_TRIE_H
#define GENERATE_TOKEN_TRIE_H

#include "core/error.h"

enum {                        // kinds of characters, as bits
    TRIE_LETTERS = 1 << 0,    // a to z
    TRIE_ASCII_KINDS = 28,    // so many are of ASCII
    TRIE_WIDE = 1 << 28,      // characters of more than one byte
    TRIE_MALFORMED = 1 << 29, // no characters
    TRIE_INSIDE = 1 << 30,    // the node itself is inside a character: its subtree does not begin with one
};

struct trie_node {
    uint32_t next;  // the node behind its subtree
    uint32_t rank;  // of the first token at it or below; those that end at it are rank .. nodes[i + 1].rank
    uint32_t kinds; // of the characters below it
    uint16_t depth; // bytes from the root
    uint8_t byte;
    uint8_t chars; // characters on the longest way down from it; 255: or more
};

struct token_trie {
    int32_t vocab;           // V
    int32_t node_count;      // the root, without a byte, is node 0
    struct trie_node *nodes; // (node_count + 1)
    int32_t *ids;            // (ranks)
    int32_t longest;         // bytes
    char *texts;             // of token t: texts[text_at[t] .. text_at[t + 1])
    uint32_t *text_at;       // (V + 1)
};

struct trie_vocab {
    int32_t size; // V
    // Writes at most `capacity` bytes of the text of `token` and returns how many it has; 0 where it stands for no text.
    size_t (*text)(const void *user, int32_t token, char *text, size_t capacity);
    bool (*is_end)(const void *user, int32_t token); // ends an answer: not in the tree
    const void *user;
};

// Errors: MEMORY, UNSUPPORTED (2^31 bytes of text).
enum tlm_status token_trie_open(struct token_trie **out, const struct trie_vocab *vocab,
                                struct tlm_error *err);
void token_trie_close(struct token_trie *t); // NULL is allowed

// The kind of an ASCII character: which bit.
int trie_kind(uint8_t byte);

static inline uint32_t trie_own_end(const struct trie_node *n) // rank behind the tokens that end at the node
{
    return n[1].rank;
}

#endif
