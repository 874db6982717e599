// generate/constraint_states.h -- places in a text of a grammar, found once and numbered.
//
// A place is a set of stacks: at the top the node where we are, below it the nodes to go on at behind the calls we are inside. Stacks
// share their lower parts; equal stacks, and equal sets of stacks, exist once. So a place is a number (a state), what a byte makes of
// it is looked up in a table after the first time, and a place is copied by copying its number.
//
// The tables have fixed sizes. When they are full, all is forgotten but the states that somebody holds (the roots), which get new
// numbers.
#ifndef GENERATE_CONSTRAINT_STATES_H
#define GENERATE_CONSTRAINT_STATES_H

#include "core/arena.h"
#include "text/grammar.h"

enum {
    STATE_UNKNOWN = 0, // in tables: not looked up yet
    STATE_DEAD = 1,    // nothing matches
    STATE_OVER = 2,    // the text has ended
    STATE_FIRST = 3,
};

struct frame {
    int32_t node;
    int32_t parent; // the frame to go on with at the end of the node's rule; 0: the text ends
    int32_t least;  // tokens to the end of the text
    int32_t depth;  // frames below it
    uint32_t seen;  // the last closure that met it
};

struct state {
    int32_t first, count; // its frames: members[first .. first + count), rising; their nodes have edges
    uint32_t hash;
    int32_t row;   // of the table of steps, -1: none yet
    int32_t least; // tokens to the end of the text at least; an upper bound
    int32_t slot;  // of its mask, -1: none
    bool whole;    // the text may end here
    // Runs of characters that make no difference; generate/token_trie.h has their kinds.
    bool uniform;      // kinds, next and detour are known
    uint8_t run;       // as many characters of `kinds` may follow, or RUN_ENDLESS, RUN_UNKNOWN
    uint32_t may;      // kinds of characters that may come next; known where `run` is
    uint32_t kinds;    // each of these characters leads to `next`
    int32_t next;      // STATE_DEAD: there are none
    int32_t detour;    // the worst `least` of the states behind each byte on the way there
    int32_t run_least; // the worst on all of the run
};

enum { RUN_MOST = 24, RUN_UNKNOWN = 254, RUN_ENDLESS = 255 };

struct state_root { // a state that somebody holds
    int32_t state;
    struct state_root *before, *behind; // in a ring
};

struct state_slot { // a mask that is kept
    int32_t state;  // STATE_UNKNOWN: free
    int32_t worst;  // `least` of the worst token that it allows
    uint64_t used;  // when last; by constraint_states.clock
};

struct states_copy { // what there was, while it is forgotten
    struct frame *frames;
    struct state *states;
    int32_t *members;
    int32_t *new_frame, *new_state; // their numbers now, 0: none yet
    int32_t *path;                  // a stack
};

struct constraint_states {
    const struct grammar *grammar;
    const int32_t *least; // (nodes) tokens to the end of the node's rule
    struct arena arena;
    struct frame *frames;
    struct state *states;
    int32_t *members, *rows;
    int32_t frame_count, state_count, member_count, row_count;
    int32_t *frame_table, *state_table; // hash: index, 0: free
    uint32_t epoch;
    int32_t *work, *found; // closures in the making
    int32_t found_count, reached;
    bool found_end;
    bool cut;                             // something was left out of the closure
    int32_t nearest_node, nearest_parent; // where it started nearest to the end of the text
    int32_t nearest_least;
    struct state_root roots; // the ring; roots.state is the start
    int32_t *walk;           // (longest + 1) states of a walk in progress: roots, too
    int32_t walk_count, longest;
    struct states_copy copy;
    uint64_t flushes;
    // masks
    int32_t words; // of a mask
    struct state_slot *slots;
    uint64_t *masks; // (MASK_SLOTS, words)
    uint64_t clock;
};

enum { MASK_SLOTS = 256 };

// `words`: 64-bit words of a mask; `longest`: bytes of a token. Errors: MEMORY.
enum tlm_status states_open(struct constraint_states **out, const struct grammar *g, const int32_t *least,
                            int32_t words, int32_t longest, struct tlm_error *err);
void states_close(struct constraint_states *s); // NULL is allowed

void states_add_root(struct constraint_states *s, struct state_root *root);
void states_drop_root(struct state_root *root);

// Makes room for many new states where there is little, which may change the numbers of all states but those of roots.
void states_make_room(struct constraint_states *s);

// The state behind a byte. Asks for room only where nobody has looked before.
int32_t states_step(struct constraint_states *s, int32_t state, uint8_t byte);

// Finds run and may of a state.
void states_find_run(struct constraint_states *s, int32_t state);

#endif
