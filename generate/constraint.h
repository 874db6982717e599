// generate/constraint.h -- which tokens may come next in a text of a grammar.
//
// A struct tlm_grammar is a grammar and a vocabulary: what is found out about their states (generate/constraint_states.h) is kept
// there and shared by all who use it, under a lock. A constraint is a place in a text: little more than the number of a state, so it
// is copied for nothing when drafts are tried and dropped.
//
// The mask of a state is found by walking over the tree of the vocabulary (generate/token_trie.h) with the grammar: once a state, for
// masks are kept. Where the grammar takes any text (inside a string, say), whole subtrees are allowed at once: those whose characters
// all lead to the same state. Dong et al., "XGrammar" (arXiv 2411.15100) sorts tokens by what they depend on to the same end.
//
// With a budget, a token is allowed only if what follows it can be brought to its end in what is left: so a text is whole when the
// budget is used up. What the end takes is found beforehand for each node of the grammar (generate/constraint_least.c), in tokens of
// this vocabulary: an upper bound, for tokens that reach over the ends of rules are not looked for.
#ifndef GENERATE_CONSTRAINT_H
#define GENERATE_CONSTRAINT_H

#include "generate/token_trie.h"
#include "text/grammar.h"

struct constraint;

enum { CONSTRAINT_UNLIMITED = -1 };

// Takes the grammar, also where it fails. Errors: UNSUPPORTED (the tokens cannot spell any text of the grammar), MEMORY.
enum tlm_status constraint_prepare(struct tlm_grammar **out, struct grammar *grammar,
                                   const struct trie_vocab *vocab, struct tlm_error *err);

// A place at the beginning of a text. Errors: MEMORY.
enum tlm_status constraint_open(struct constraint **out, const struct tlm_grammar *grammar,
                                struct tlm_error *err);
void constraint_close(struct constraint *c); // NULL is allowed
void constraint_reset(struct constraint *c); // to the beginning
// Both are of one grammar.
void constraint_copy(struct constraint *to, const struct constraint *from);

// The tokens that may come next, bit t % 64 of word t / 64 for token t; until the next call on c. `budget`: tokens that may still come,
// this one and one that ends the answer among them, or CONSTRAINT_UNLIMITED. Empty only where the text is over, or the budget was too
// small from the start.
const uint64_t *constraint_mask(struct constraint *c, int32_t budget);
int32_t constraint_vocab_size(const struct constraint *c);
// Goes on behind a token; false where it is none of those that may come: then the text is over.
bool constraint_accept(struct constraint *c, int32_t token);
bool constraint_may_end(const struct constraint *c);
// Nothing may follow: a token has ended the text, or it is whole and no token that ends texts exists.
bool constraint_is_over(const struct constraint *c);
// Tokens that are enough for the rest of the text, the one that ends it among them.
int32_t constraint_least_tokens(const struct constraint *c);

enum { CONSTRAINT_NODES = 8 };

struct constraint_nodes { // that a text may be at within a rule; others are left out
    int32_t nodes[CONSTRAINT_NODES];
    int32_t count;
};

// Adds a node, and those behind its calls of rules that match nothing, too.
void constraint_add_node(const struct grammar *g, struct constraint_nodes *s, int32_t node);

// constraint_least.c: tokens to the end of the rule from each node, GRAMMAR_NEVER where they cannot spell it: least[node_count].
enum tlm_status constraint_find_least(const struct grammar *g, const struct token_trie *t, int32_t *least,
                                      struct tlm_error *err);

// constraint_mask.c: sets the bits of the tokens behind which the text can come to its end in `limit` tokens. Returns what the worst
// of them needs. *state is followed where tables are made anew.
struct constraint_states;
int32_t constraint_walk(struct constraint_states *s, const struct token_trie *t, int32_t state, int32_t limit,
                        uint64_t *mask);

#endif
