// generate/constraint.c -- see generate/constraint.h.
#include "generate/constraint.h"

#include <pthread.h>
#include <string.h>

#include "generate/constraint_states.h"
#include "models/model.h"

struct tlm_grammar {
    struct grammar *grammar;
    struct token_trie *trie;
    int32_t *least; // (nodes)
    uint64_t *ends; // mask of the tokens that end an answer
    bool has_ends;
    int32_t words;                    // of a mask
    struct constraint_states *states; // under the lock
    pthread_mutex_t *lock;
};

struct constraint {
    const struct tlm_grammar *of;
    struct state_root root;
    uint64_t *mask;
};

// ---- preparing a grammar for a vocabulary ---------------------------------------------------------------

void tlm_grammar_close(struct tlm_grammar *g)
{
    if (!g) return;
    states_close(g->states);
    token_trie_close(g->trie);
    grammar_close(g->grammar);
    if (g->lock) pthread_mutex_destroy(g->lock);
    free(g->lock);
    free(g->least);
    free(g->ends);
    free(g);
}

static enum tlm_status prepare(struct tlm_grammar *g, const struct trie_vocab *v, struct tlm_error *err)
{
    g->words = (v->size + 63) / 64;
    g->least = malloc((size_t)g->grammar->node_count * sizeof *g->least);
    g->ends = calloc((size_t)g->words + 1, sizeof *g->ends);
    g->lock = malloc(sizeof *g->lock);
    if (g->lock) pthread_mutex_init(g->lock, NULL);
    if (!g->least || !g->ends || !g->lock)
        return error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %d nodes", g->grammar->node_count);
    enum tlm_status status = token_trie_open(&g->trie, v, err);
    if (!status) status = constraint_find_least(g->grammar, g->trie, g->least, err);
    if (status) return status;
    if (g->least[g->grammar->rules[0].start] >= GRAMMAR_NEVER)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "grammar: expected texts that the model's tokens can spell, found none");
    for (int32_t id = 0; id < v->size; id++)
        if (v->is_end(v->user, id)) {
            g->ends[id / 64] |= (uint64_t)1 << id % 64;
            g->has_ends = true;
        }
    return states_open(&g->states, g->grammar, g->least, g->words, g->trie->longest, err);
}

enum tlm_status constraint_prepare(struct tlm_grammar **out, struct grammar *grammar,
                                   const struct trie_vocab *vocab, struct tlm_error *err)
{
    struct tlm_grammar *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) {
        grammar_close(grammar);
        return error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %zu bytes", sizeof *g);
    }
    g->grammar = grammar;
    enum tlm_status status = prepare(g, vocab, err);
    if (status)
        tlm_grammar_close(g);
    else
        *out = g;
    return status;
}

// ---- places ---------------------------------------------------------------------------------------------

enum tlm_status constraint_open(struct constraint **out, const struct tlm_grammar *grammar,
                                struct tlm_error *err)
{
    struct constraint *c = *out = calloc(1, sizeof *c);
    if (c) c->mask = calloc((size_t)grammar->words + 1, sizeof *c->mask);
    if (!c || !c->mask) {
        free(c);
        *out = NULL;
        return error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %d words", grammar->words);
    }
    c->of = grammar;
    pthread_mutex_lock(grammar->lock);
    states_add_root(grammar->states, &c->root);
    c->root.state = grammar->states->roots.state;
    pthread_mutex_unlock(grammar->lock);
    return TLM_OK;
}

void constraint_close(struct constraint *c)
{
    if (!c) return;
    pthread_mutex_lock(c->of->lock);
    states_drop_root(&c->root);
    pthread_mutex_unlock(c->of->lock);
    free(c->mask);
    free(c);
}

void constraint_reset(struct constraint *c)
{
    pthread_mutex_lock(c->of->lock);
    c->root.state = c->of->states->roots.state;
    pthread_mutex_unlock(c->of->lock);
}

void constraint_copy(struct constraint *to, const struct constraint *from)
{
    TLM_ASSERT(to->of == from->of);
    pthread_mutex_lock(to->of->lock);
    to->root.state = from->root.state;
    pthread_mutex_unlock(to->of->lock);
}

int32_t constraint_vocab_size(const struct constraint *c)
{
    return c->of->trie->vocab;
}

static int32_t step_over(struct constraint *c, int32_t token)
{
    const struct token_trie *t = c->of->trie;
    struct constraint_states *s = c->of->states;
    if (token < 0 || token >= t->vocab) return STATE_DEAD;
    if (c->of->ends[token / 64] >> token % 64 & 1) return STATE_DEAD;
    if (t->text_at[token] == t->text_at[token + 1]) return STATE_DEAD;
    states_make_room(s);
    int32_t state = c->root.state;
    for (uint32_t i = t->text_at[token]; i < t->text_at[token + 1] && state != STATE_DEAD; i++)
        state = states_step(s, state, (uint8_t)t->texts[i]);
    return s->states[state].least < GRAMMAR_NEVER ? state : STATE_DEAD;
}

bool constraint_accept(struct constraint *c, int32_t token)
{
    const struct tlm_grammar *g = c->of;
    pthread_mutex_lock(g->lock);
    bool is_end = token >= 0 && token < g->trie->vocab && (g->ends[token / 64] >> token % 64 & 1);
    bool ends = is_end && g->states->states[c->root.state].whole;
    int32_t state = step_over(c, token);
    c->root.state = state == STATE_DEAD ? STATE_OVER : state;
    pthread_mutex_unlock(g->lock);
    return ends || state != STATE_DEAD;
}

bool constraint_may_end(const struct constraint *c)
{
    pthread_mutex_lock(c->of->lock);
    bool whole = c->of->states->states[c->root.state].whole;
    pthread_mutex_unlock(c->of->lock);
    return whole;
}

bool constraint_is_over(const struct constraint *c)
{
    pthread_mutex_lock(c->of->lock);
    const struct state *s = &c->of->states->states[c->root.state];
    bool over = c->root.state == STATE_OVER || (!c->of->has_ends && s->whole && !s->count);
    pthread_mutex_unlock(c->of->lock);
    return over;
}

int32_t constraint_least_tokens(const struct constraint *c)
{
    pthread_mutex_lock(c->of->lock);
    int32_t least =
        c->root.state == STATE_OVER ? 0 : c->of->states->states[c->root.state].least + c->of->has_ends;
    pthread_mutex_unlock(c->of->lock);
    return least;
}

// ---- masks ----------------------------------------------------------------------------------------------

// The slot with the mask of the constraint's state for any budget, found now if it is not there.
static struct state_slot *slot_of(struct constraint *c)
{
    struct constraint_states *s = c->of->states;
    int32_t at = s->states[c->root.state].slot;
    if (at < 0) {
        at = 0;
        for (int32_t i = 1; i < MASK_SLOTS; i++)
            if (s->slots[i].used < s->slots[at].used) at = i;
        struct state_slot *slot = &s->slots[at];
        uint64_t *mask = s->masks + (size_t)at * (size_t)s->words;
        if (slot->state) s->states[slot->state].slot = -1;
        slot->state = STATE_UNKNOWN;
        memset(mask, 0, (size_t)s->words * sizeof *mask);
        slot->worst = constraint_walk(s, c->of->trie, c->root.state, GRAMMAR_NEVER - 1, mask);
        slot->state = c->root.state; // the walk may have changed its number
        s->states[c->root.state].slot = at;
    }
    s->slots[at].used = ++s->clock;
    return &s->slots[at];
}

const uint64_t *constraint_mask(struct constraint *c, int32_t budget)
{
    const struct tlm_grammar *g = c->of;
    struct constraint_states *s = g->states;
    size_t bytes = (size_t)g->words * sizeof *c->mask;
    pthread_mutex_lock(g->lock);
    if (c->root.state == STATE_OVER) {
        memset(c->mask, 0, bytes);
    } else {
        const struct state_slot *slot = slot_of(c);
        int32_t behind =
            budget < 0 ? GRAMMAR_NEVER : budget - 1 - g->has_ends; // tokens that may follow the next one
        if (slot->worst <= behind) {
            memcpy(c->mask, s->masks + (slot - s->slots) * s->words, bytes);
        } else {
            memset(c->mask, 0, bytes);
            if (behind >= 0) constraint_walk(s, g->trie, c->root.state, behind, c->mask);
        }
        for (int32_t i = 0; i < g->words && s->states[c->root.state].whole; i++) c->mask[i] |= g->ends[i];
    }
    pthread_mutex_unlock(g->lock);
    return c->mask;
}

// ---- the interface --------------------------------------------------------------------------------------

static size_t model_text(const void *user, int32_t token, char *text, size_t capacity)
{
    const struct tokenizer *t = user;
    if (token >= tokenizer_size(t)) return 0; // a row of padding
    enum token_type type = tokenizer_type(t, token);
    if (type != TOKEN_NORMAL && type != TOKEN_BYTE && type != TOKEN_USER_DEFINED) return 0;
    return tokenizer_piece(t, token, false, false, text, capacity);
}

static bool model_is_end(const void *user, int32_t token)
{
    return token < tokenizer_size(user) && tokenizer_is_end(user, token);
}

enum tlm_status tlm_grammar_open(struct tlm_grammar **grammar, const struct tlm_model *model,
                                 enum tlm_grammar_kind kind, const char *text, size_t bytes,
                                 struct tlm_error *err)
{
    *grammar = NULL;
    if (!model->tokenizer) {
        if (err) *err = model->tokenizer_error;
        return model->tokenizer_error.code;
    }
    struct trie_vocab vocab = {tlm_model_vocab_size(model), model_text, model_is_end, model->tokenizer};
    struct grammar *g;
    enum tlm_status status = grammar_open(&g, kind, text, bytes, err);
    return status ? status : constraint_prepare(grammar, g, &vocab, err);
}
