// generate/constraint_states.c -- see generate/constraint_states.h.
#include "generate/constraint_states.h"

#include <string.h>

#include "generate/constraint.h"

enum {
    FRAMES = 1 << 18,
    STATES = 1 << 16,
    MEMBERS = 1 << 20,
    ROW_NUMBERS = 1 << 22,  // of the table of steps, in all
    MOST_DEEP = 1 << 13,    // frames of a stack: deeper ones are left out, but on the way to the end
    MOST_MEMBERS = 1 << 10, // stacks of a state; the others are left out, so that less matches
    MOST_FOUND = 1 << 13,   // frames that a closure looks at; the others are left out
};

static uint32_t hash_pair(uint32_t a, uint32_t b)
{
    uint64_t h = (((uint64_t)a << 32) | b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32) ^ (uint32_t)h;
}

// ---- closures: what can be at the top of the stack --------------------------------------------------------

// A frame for the node, for a text that goes on with `parent` at the end of its rule; -1 where there is no room.
static int32_t frame_of(struct constraint_states *s, int32_t node, int32_t parent)
{
    uint32_t h = hash_pair((uint32_t)node, (uint32_t)parent);
    for (;; h++) {
        int32_t known = s->frame_table[h % (2 * FRAMES)];
        if (!known) break;
        if (s->frames[known].node == node && s->frames[known].parent == parent) return known;
    }
    const struct frame *p = &s->frames[parent];
    if (s->frame_count >= FRAMES) return -1;
    int32_t least = s->least[node] + (parent ? p->least : 0);
    if (least > GRAMMAR_NEVER) least = GRAMMAR_NEVER;
    s->frames[s->frame_count] = (struct frame){node, parent, least, p->depth + 1, 0};
    return s->frame_table[h % (2 * FRAMES)] = s->frame_count++;
}

// Adds a frame that the text may be at, unless it is there.
static int32_t reach(struct constraint_states *s, int32_t frame, int32_t depth)
{
    if (frame >= 0 && s->frames[frame].seen == s->epoch) return depth;
    if (frame < 0 || s->reached >= MOST_FOUND || s->frames[frame].depth > MOST_DEEP) {
        s->cut = true;
        return depth;
    }
    s->frames[frame].seen = s->epoch;
    s->reached++;
    s->work[depth] = frame;
    return depth + 1;
}

// What goes on behind a call. Where nothing but the end follows it, the callee goes on where we would: so lists do not grow stacks.
static int32_t behind_call(struct constraint_states *s, const struct grammar_call *c, int32_t parent)
{
    const struct grammar_node *to = &s->grammar->nodes[c->to];
    bool last = to->final && !grammar_edge_count(to) && !grammar_call_count(to);
    return last ? parent : frame_of(s, c->to, parent);
}

// Goes on from a node and a parent: into calls, and behind the ends of rules. What has edges is added to found[].
static void close_over(struct constraint_states *s, int32_t node, int32_t parent)
{
    const struct grammar *g = s->grammar;
    int32_t depth = reach(s, frame_of(s, node, parent), 0);
    int32_t least = s->least[node] + (parent ? s->frames[parent].least : 0);
    if (least < s->nearest_least)
        s->nearest_node = node, s->nearest_parent = parent, s->nearest_least = least;
    while (depth) {
        int32_t at = s->work[--depth];
        if (!at) {
            s->found_end = true;
            continue;
        }
        const struct frame f = s->frames[at];
        const struct grammar_node *n = &g->nodes[f.node];
        if (n->final) depth = reach(s, f.parent, depth);
        for (int32_t i = n->calls; i < n[1].calls; i++) {
            int32_t behind = behind_call(s, &g->calls[i], f.parent);
            depth = reach(s, behind < 0 ? -1 : frame_of(s, g->rules[g->calls[i].rule].start, behind), depth);
        }
        if (grammar_edge_count(n)) s->found[s->found_count++] = at;
    }
}

static void find(struct constraint_states *s, int32_t frame)
{
    for (int32_t i = 0; i < s->found_count; i++)
        if (s->found[i] == frame) return;
    s->found[s->found_count++] = frame;
}

// The same for the way to the end that `least` promises, where something was left out: so that there is a way on, always.
static void find_nearest(struct constraint_states *s)
{
    const struct grammar *g = s->grammar;
    int32_t node = s->nearest_node, parent = s->nearest_parent;
    while (s->nearest_least < GRAMMAR_NEVER) {
        const struct grammar_node *n = &g->nodes[node];
        if (n->final && !s->least[node]) {
            if (!parent) s->found_end = true;
            if (!parent) return;
            node = s->frames[parent].node;
            parent = s->frames[parent].parent;
            continue;
        }
        int32_t i = n->calls;
        while (i < n[1].calls &&
               s->least[g->rules[g->calls[i].rule].start] + s->least[g->calls[i].to] > s->least[node])
            i++;
        if (i == n[1].calls) break; // it goes on with a token
        parent = behind_call(s, &g->calls[i], parent);
        node = g->rules[g->calls[i].rule].start;
        if (parent < 0) return;
    }
    // That token begins here, or behind calls of rules that match nothing, too.
    struct constraint_nodes set = {.count = 0};
    constraint_add_node(g, &set, node);
    for (int32_t i = 0; i < set.count; i++) {
        int32_t frame = grammar_edge_count(&g->nodes[set.nodes[i]]) ? frame_of(s, set.nodes[i], parent) : -1;
        if (frame >= 0) find(s, frame);
    }
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int32_t count_below(const struct constraint_states *s, int32_t least)
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->found_count; i++) count += s->frames[s->found[i]].least < least;
    return count;
}

// Keeps the stacks that are nearest to the end.
static void keep_nearest(struct constraint_states *s)
{
    int32_t low = 0, high = GRAMMAR_NEVER, kept = 0; // low: the greatest `least` that not too many are below
    while (low < high) {
        int32_t middle = low + (high - low + 1) / 2;
        if (count_below(s, middle) <= MOST_MEMBERS)
            low = middle;
        else
            high = middle - 1;
    }
    int32_t equal = MOST_MEMBERS - count_below(s, low); // so many of just that
    for (int32_t i = 0; i < s->found_count; i++) {
        int32_t least = s->frames[s->found[i]].least;
        if (least < low || (least == low && equal-- > 0)) s->found[kept++] = s->found[i];
    }
    s->found_count = kept;
}

static bool same_members(const struct constraint_states *s, const struct state *state)
{
    return state->count == s->found_count && state->whole == s->found_end &&
           (!state->count ||
            !memcmp(s->members + state->first, s->found, (size_t)state->count * sizeof *s->found));
}

// The state of the frames found.
static int32_t state_of_found(struct constraint_states *s)
{
    if (s->cut) find_nearest(s);
    if (!s->found_count && !s->found_end) return STATE_DEAD;
    if (s->found_count > MOST_MEMBERS) keep_nearest(s);
    if (s->found_count > 1) qsort(s->found, (size_t)s->found_count, sizeof *s->found, by_number);
    uint32_t h = s->found_end;
    for (int32_t i = 0; i < s->found_count; i++) h = hash_pair(h, (uint32_t)s->found[i]);
    uint32_t at = h;
    for (;; at++) {
        int32_t known = s->state_table[at % (2 * STATES)];
        if (!known) break;
        if (s->states[known].hash == h && same_members(s, &s->states[known])) return known;
    }
    if (s->state_count >= STATES || s->member_count + s->found_count > MEMBERS) return STATE_DEAD;
    int32_t least = s->found_end ? 0 : GRAMMAR_NEVER;
    for (int32_t i = 0; i < s->found_count; i++) {
        if (s->frames[s->found[i]].least < least) least = s->frames[s->found[i]].least;
        s->members[s->member_count + i] = s->found[i];
    }
    s->states[s->state_count] = (struct state){.first = s->member_count,
                                               .count = s->found_count,
                                               .hash = h,
                                               .row = -1,
                                               .least = least,
                                               .slot = -1,
                                               .run = RUN_UNKNOWN,
                                               .whole = s->found_end};
    s->member_count += s->found_count;
    return s->state_table[at % (2 * STATES)] = s->state_count++;
}

static void begin_closure(struct constraint_states *s)
{
    s->epoch++;
    s->found_count = s->reached = 0;
    s->found_end = s->cut = false;
    s->nearest_least = GRAMMAR_NEVER;
}

// The first states, in empty tables.
static void begin(struct constraint_states *s)
{
    s->frames[0] = (struct frame){0};
    s->frame_count = 1;
    s->state_count = STATE_FIRST;
    s->member_count = s->row_count = 0;
    for (int32_t i = 0; i < STATE_FIRST; i++)
        s->states[i] = (struct state){.row = -1, .slot = -1, .least = GRAMMAR_NEVER, .next = STATE_DEAD};
    begin_closure(s);
    close_over(s, s->grammar->rules[0].start, 0);
    s->roots.state = state_of_found(s);
}

// ---- steps ------------------------------------------------------------------------------------------------

int32_t states_step(struct constraint_states *s, int32_t state, uint8_t byte)
{
    const struct grammar *g = s->grammar;
    struct state *from = &s->states[state];
    if (!from->count) return STATE_DEAD;
    int32_t *step = NULL;
    if (from->row < 0 && (int64_t)(s->row_count + 1) * g->class_count <= ROW_NUMBERS) {
        from->row = s->row_count++;
        memset(s->rows + (size_t)from->row * (size_t)g->class_count, 0,
               (size_t)g->class_count * sizeof *s->rows);
    }
    if (from->row >= 0) step = &s->rows[(size_t)from->row * (size_t)g->class_count + g->class_of[byte]];
    if (step && *step) return *step;
    begin_closure(s);
    for (int32_t i = from->first; i < from->first + from->count; i++) {
        const struct frame f = s->frames[s->members[i]];
        const struct grammar_node *n = &g->nodes[f.node];
        for (int32_t e = n->edges; e < n[1].edges; e++)
            if (g->edges[e].low <= byte && byte <= g->edges[e].high) close_over(s, g->edges[e].to, f.parent);
    }
    int32_t to = state_of_found(s);
    if (step) *step = to;
    return to;
}

// ---- runs of characters that make no difference -------------------------------------------------------------

// The one state that all bytes from `low` to `high` lead to, or STATE_DEAD. *detour becomes the worst `least` seen.
static int32_t all_lead_to(struct constraint_states *s, int32_t state, int low, int high, int32_t *detour)
{
    int32_t to = states_step(s, state, (uint8_t)low);
    for (int b = low + 1; b <= high && to != STATE_DEAD; b++)
        if (states_step(s, state, (uint8_t)b) != to) to = STATE_DEAD;
    if (to != STATE_DEAD && s->states[to].least > *detour) *detour = s->states[to].least;
    return to;
}

// Whether all characters of more than one byte lead to `next`.
static bool wide_lead_to(struct constraint_states *s, int32_t state, int32_t next, int32_t *detour)
{
    static const struct {
        uint8_t first[2], second[2];
        int more; // bytes behind the second, any of 80 to BF
    } ways[] = {{{0xC2, 0xDF}, {0x80, 0xBF}, 0}, {{0xE0, 0xE0}, {0xA0, 0xBF}, 1},
                {{0xE1, 0xEC}, {0x80, 0xBF}, 1}, {{0xED, 0xED}, {0x80, 0x9F}, 1},
                {{0xEE, 0xEF}, {0x80, 0xBF}, 1}, {{0xF0, 0xF0}, {0x90, 0xBF}, 2},
                {{0xF1, 0xF3}, {0x80, 0xBF}, 2}, {{0xF4, 0xF4}, {0x80, 0x8F}, 2}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int32_t at = all_lead_to(s, state, ways[i].first[0], ways[i].first[1], detour);
        if (at != STATE_DEAD) at = all_lead_to(s, at, ways[i].second[0], ways[i].second[1], detour);
        for (int k = 0; k < ways[i].more && at != STATE_DEAD; k++)
            at = all_lead_to(s, at, 0x80, 0xBF, detour);
        if (at != next) return false;
    }
    return true;
}

static void find_uniform(struct constraint_states *s, int32_t state)
{
    int32_t detour = 0, next = all_lead_to(s, state, 'a', 'z', &detour);
    uint32_t kinds = 0;
    if (next != STATE_DEAD) { // texts; where letters cannot stand, little is to be gained
        uint32_t differ = 0;
        for (int b = 0; b < 0x80; b++) {
            uint32_t kind = 1u << trie_kind((uint8_t)b);
            kinds |= kind;
            if (states_step(s, state, (uint8_t)b) != next) differ |= kind;
        }
        kinds &= ~differ;
        int32_t wide_detour = detour;
        if (wide_lead_to(s, state, next, &wide_detour)) kinds |= TRIE_WIDE, detour = wide_detour;
    }
    struct state *found = &s->states[state];
    found->kinds = kinds;
    found->next = next;
    found->detour = detour;
    found->uniform = true;
}

void states_find_run(struct constraint_states *s, int32_t state)
{
    if (!s->states[state].uniform) find_uniform(s, state);
    uint32_t kinds = s->states[state].kinds;
    int32_t at = state, least = 0, run = 0;
    for (; kinds && run < RUN_MOST; run++) {
        if (!s->states[at].uniform) find_uniform(s, at);
        const struct state *here = &s->states[at];
        if (kinds & ~here->kinds) break;
        if (here->detour > least) least = here->detour;
        if (here->next == at) {
            run = RUN_ENDLESS;
            break;
        }
        at = here->next;
    }
    uint32_t may = 0;
    for (int b = 0; b < 256; b++)
        if (states_step(s, state, (uint8_t)b) != STATE_DEAD)
            may |= b < 0x80 ? 1u << trie_kind((uint8_t)b) : TRIE_WIDE | TRIE_MALFORMED;
    s->states[state].may = may;
    s->states[state].run = (uint8_t)run;
    s->states[state].run_least = least;
}

// ---- room -----------------------------------------------------------------------------------------------

// Makes a frame of the copy again, and what is below it.
static int32_t move_frame(struct constraint_states *s, int32_t frame)
{
    struct states_copy *k = &s->copy;
    int32_t depth = 0;
    for (; frame && !k->new_frame[frame]; frame = k->frames[frame].parent) k->path[depth++] = frame;
    int32_t at = frame ? k->new_frame[frame] : 0;
    while (depth) {
        frame = k->path[--depth];
        at = k->new_frame[frame] = frame_of(s, k->frames[frame].node, at);
    }
    return at;
}

static int32_t move_state(struct constraint_states *s, int32_t state)
{
    struct states_copy *k = &s->copy;
    if (state < STATE_FIRST) return state;
    if (k->new_state[state]) return k->new_state[state];
    const struct state *old = &k->states[state];
    begin_closure(s);
    s->found_end = old->whole;
    for (int32_t i = 0; i < old->count; i++)
        s->found[s->found_count++] = move_frame(s, k->members[old->first + i]);
    int32_t new = state_of_found(s);
    if (old->slot >= 0 && s->states[new].slot < 0) { // its mask is still right
        s->states[new].slot = old->slot;
        s->slots[old->slot].state = new;
    }
    return k->new_state[state] = new;
}

static void clear(struct constraint_states *s)
{
    memset(s->frame_table, 0, 2 * FRAMES * sizeof *s->frame_table);
    memset(s->state_table, 0, 2 * STATES * sizeof *s->state_table);
    for (int i = 0; i < MASK_SLOTS; i++) s->slots[i].state = STATE_UNKNOWN;
    begin(s);
}

// Starts again with the states of the roots.
static void flush(struct constraint_states *s)
{
    size_t frames = (size_t)s->frame_count, states = (size_t)s->state_count;
    struct states_copy *k = &s->copy;
    memcpy(k->frames, s->frames, frames * sizeof *k->frames);
    memcpy(k->states, s->states, states * sizeof *k->states);
    memcpy(k->members, s->members, (size_t)s->member_count * sizeof *k->members);
    memset(k->new_frame, 0, frames * sizeof *k->new_frame);
    memset(k->new_state, 0, states * sizeof *k->new_state);
    clear(s);
    for (struct state_root *r = s->roots.behind; r != &s->roots; r = r->behind)
        r->state = move_state(s, r->state);
    for (int32_t i = 0; i < s->walk_count; i++) s->walk[i] = move_state(s, s->walk[i]);
    s->flushes++;
}

void states_make_room(struct constraint_states *s)
{
    if (s->frame_count > FRAMES / 8 * 7 || s->state_count > STATES / 8 * 7 ||
        s->member_count > MEMBERS / 8 * 7 ||
        (int64_t)s->row_count * s->grammar->class_count > ROW_NUMBERS / 8 * 7)
        flush(s);
}

// ---- opening and closing --------------------------------------------------------------------------------------

static void *take(struct arena *a, size_t *total, size_t bytes)
{
    *total += align_up(bytes, ARENA_ALIGN);
    return a->base ? arena_alloc(a, bytes) : NULL;
}

// Places all tables, and returns their bytes; pages that are never touched cost nothing.
static size_t place_tables(struct constraint_states *s)
{
    struct arena *a = &s->arena;
    size_t total = 0;
    s->frames = take(a, &total, FRAMES * sizeof *s->frames);
    s->states = take(a, &total, STATES * sizeof *s->states);
    s->members = take(a, &total, MEMBERS * sizeof *s->members);
    s->rows = take(a, &total, ROW_NUMBERS * sizeof *s->rows);
    s->frame_table = take(a, &total, 2 * FRAMES * sizeof *s->frame_table);
    s->state_table = take(a, &total, 2 * STATES * sizeof *s->state_table);
    s->work = take(a, &total, MOST_FOUND * sizeof *s->work);
    s->found = take(a, &total, (MOST_FOUND + CONSTRAINT_NODES) * sizeof *s->found);
    s->copy.frames = take(a, &total, FRAMES * sizeof *s->copy.frames);
    s->copy.states = take(a, &total, STATES * sizeof *s->copy.states);
    s->copy.members = take(a, &total, MEMBERS * sizeof *s->copy.members);
    s->copy.new_frame = take(a, &total, FRAMES * sizeof *s->copy.new_frame);
    s->copy.new_state = take(a, &total, STATES * sizeof *s->copy.new_state);
    s->copy.path = take(a, &total, FRAMES * sizeof *s->copy.path);
    s->walk = take(a, &total, ((size_t)s->longest + 1) * sizeof *s->walk);
    s->slots = take(a, &total, MASK_SLOTS * sizeof *s->slots);
    s->masks = take(a, &total, MASK_SLOTS * (size_t)s->words * sizeof *s->masks);
    return total;
}

enum tlm_status states_open(struct constraint_states **out, const struct grammar *g, const int32_t *least,
                            int32_t words, int32_t longest, struct tlm_error *err)
{
    struct constraint_states *s = *out = calloc(1, sizeof *s);
    if (!s) return error_set(err, TLM_ERR_MEMORY, "grammar: no memory for %zu bytes", sizeof *s);
    s->grammar = g;
    s->least = least;
    s->words = words;
    s->longest = longest;
    s->roots.before = s->roots.behind = &s->roots;
    enum tlm_status status = arena_init(&s->arena, place_tables(s), "grammar", err);
    if (status) {
        free(s);
        *out = NULL;
        return status;
    }
    place_tables(s);
    begin(s);
    return TLM_OK;
}

void states_close(struct constraint_states *s)
{
    if (!s) return;
    TLM_ASSERT(s->roots.behind == &s->roots); // nobody holds a state
    arena_free(&s->arena);
    free(s);
}

void states_add_root(struct constraint_states *s, struct state_root *root)
{
    root->before = &s->roots;
    root->behind = s->roots.behind;
    root->before->behind = root->behind->before = root;
}

void states_drop_root(struct state_root *root)
{
    root->before->behind = root->behind;
    root->behind->before = root->before;
}
