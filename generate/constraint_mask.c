// generate/constraint_mask.c -- the walk over a vocabulary that finds which tokens a state allows.
#include "generate/constraint.h"
#include "generate/constraint_states.h"

struct walk {
    struct constraint_states *s;
    const struct token_trie *t;
    uint64_t *mask;
    int32_t limit; // tokens that may follow
    int32_t worst;
};

// Allows the tokens of ranks first .. end.
static void allow(struct walk *w, uint32_t first, uint32_t end)
{
    for (uint32_t r = first; r < end; r++) {
        uint32_t id = (uint32_t)w->t->ids[r];
        w->mask[id / 64] |= (uint64_t)1 << id % 64;
    }
}

// Whether all tokens below a node are allowed in a state, because their characters make no difference.
static bool allows_subtree(struct walk *w, const struct state *at, const struct trie_node *n)
{
    if (n->kinds & ~at->kinds || n->chars > at->run || at->run_least > w->limit) return false;
    if (at->run_least > w->worst) w->worst = at->run_least;
    return true;
}

// What follows `state` at a byte where that is not known yet; the walk's states may get new numbers on the way.
static int32_t look(struct walk *w, int32_t depth, uint8_t byte)
{
    w->s->walk_count = depth + 1;
    states_make_room(w->s);
    return states_step(w->s, w->s->walk[depth], byte);
}

int32_t constraint_walk(struct constraint_states *s, const struct token_trie *t, int32_t state, int32_t limit,
                        uint64_t *mask)
{
    struct walk w = {.s = s, .t = t, .mask = mask, .limit = limit};
    const struct trie_node *nodes = t->nodes;
    const int64_t classes = s->grammar->class_count;
    s->walk[0] = state;
    for (uint32_t i = 1, end = (uint32_t)t->node_count; i < end;) {
        const struct trie_node *n = &nodes[i];
        int32_t depth = n->depth - 1, row = s->states[s->walk[depth]].row;
        int32_t to = row < 0 ? STATE_UNKNOWN : s->rows[row * classes + s->grammar->class_of[n->byte]];
        if (to == STATE_UNKNOWN) to = look(&w, depth, n->byte);
        if (to == STATE_DEAD) {
            i = n->next;
            continue;
        }
        int32_t least = s->states[to].least;
        if (n->rank < trie_own_end(n) && least <= limit) {
            allow(&w, n->rank, trie_own_end(n));
            if (least > w.worst) w.worst = least;
        }
        s->walk[depth + 1] = to;
        if (++i == n->next) continue;
        if (s->states[to].run == RUN_UNKNOWN) states_find_run(s, to);
        const struct state *at = &s->states[to];
        if (!(n->kinds & at->may)) { // nothing below it begins as it would have to
            i = n->next;
        } else if (allows_subtree(&w, at, n)) {
            allow(&w, trie_own_end(n), nodes[n->next].rank);
            i = n->next;
        }
    }
    s->walk_count = 0;
    return w.worst;
}
