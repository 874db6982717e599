// ops/parts_share.c -- what each place computes of a graph (ops/parts.h): where nodes run, what becomes of those that devices share, and what
// goes from place to place.
#include <limits.h>
#include <stdlib.h>

#include "ops/parts_share.h"

// ---- where a node runs --------------------------------------------------------------------------------

// Computed in each place that reads it. Of experts' rows only what the router says goes to another place, not the rows by twos and fours.
static bool runs_anywhere(const struct node *n)
{
    return n->op == OP_rope_table || n->op == OP_sort_experts || n->op == OP_gather_experts;
}

static int place_of(const struct share *s, const struct node *n)
{
    const int32_t *layers = s->layers->place;
    switch (n->op) {
    case OP_embed: return n->in[0]->out.place;
    case OP_matmul:
    case OP_matmul_heads:
    case OP_matmul_experts: return n->in[1]->out.place;
    case OP_kv_write:
    case OP_attention:
    case OP_attention_prefix: return layers[n->layer];
    case OP_add: // the sums of the layers, and what begins a part of a layer: so little goes from one to the next
    case OP_rmsnorm:
    case OP_layernorm:
        if (n->layer >= 0) return layers[n->layer];
        break;
    default: break;
    }
    return s->place[n->in[0]->index];
}

static bool goes_on(const struct node *n, const struct spread *x)
{
    const int64_t together = parts_columns_together(n);
    if (x->kind == SPREAD_SUM) return n->op == OP_scale || n->op == OP_select || n->op == OP_combine_experts;
    if (x->kind != SPREAD_COLUMNS || !together) return false;
    for (int i = 0; i <= PLACES; i++)
        if (x->cut[i] % together) return false;
    return true;
}

static struct spread spread_of(struct share *s, const struct node *n)
{
    const struct spread *x = &s->spread[n->in[0]->index], one = {0}, all = {SPREAD_ALL, NULL};
    const struct tensor *w;
    int64_t input[PLACES + 1], *cut;
    switch (n->op) {
    case OP_embed:
    case OP_route: // in one place, so that all have the same experts
    case OP_matmul_heads: return one;
    case OP_matmul:
    case OP_matmul_experts:
        w = &n->in[1]->out;
        return w->cut ? (struct spread){w->axis ? SPREAD_COLUMNS : SPREAD_SUM, w->cut} : one;
    case OP_kv_write:
    case OP_attention:
    case OP_attention_prefix:
        if (!parts_heads_of(n)) return one;
        parts_cut_by_heads(n, input, cut = arena_alloc(&s->p->whole.params, sizeof input));
        return (struct spread){SPREAD_COLUMNS, cut};
    case OP_add:
    case OP_glu:
        if (parts_same_spread(x, &s->spread[n->in[1]->index]) &&
            (n->op == OP_add || x->kind == SPREAD_COLUMNS))
            return *x;
        break;
    default:
        if (goes_on(n, x)) return *x;
    }
    const bool between = n->op == OP_add || n->op == OP_rmsnorm || n->op == OP_layernorm;
    return s->layers->sharing[s->place[n->index]] && (x->kind != SPREAD_ONE || between) ? all : one;
}

// ---- nodes of a place ---------------------------------------------------------------------------------

enum {
    LEVEL_OPEN = INT_MAX
}; // that of the first reader: of what reads nothing but leaves, and runs anywhere

// The level of a node that reads these, which is theirs if theirs was open. computed: inputs that are no leaves.
static int level_behind(struct node *const *in, int count, int *computed)
{
    int level = 0;
    *computed = 0;
    for (int i = 0; i < count; i++) {
        *computed += in[i]->op != GRAPH_LEAF;
        if (in[i]->level != LEVEL_OPEN && in[i]->level > level) level = in[i]->level;
    }
    for (int i = 0; i < count; i++)
        if (in[i]->level > level) in[i]->level = level;
    return level;
}

struct node *parts_add_node(struct share *s, int place, const struct node *x, struct tensor out,
                            const void *params, struct node *const *in)
{
    struct graph *g = &s->p->graph[place];
    int computed, level = level_behind(in, x->input_count, &computed);
    if (runs_anywhere(x) && !computed) level = LEVEL_OPEN;
    g->layer = x->layer;
    struct node *n = graph_node(g, x->op, out, x->extent, NULL, 0, in, x->input_count);
    n->params = params;
    n->effect = x->effect;
    n->level = level;
    return n;
}

static struct node *added(struct share *s, int place, const struct node *x)
{
    struct node *in[GRAPH_MAX_INPUTS];
    for (int i = 0; i < x->input_count; i++) in[i] = parts_seen(s, place, x->in[i]);
    return parts_add_node(s, place, x, x->out, x->params, in);
}

// Room for one more. False where there is none, which fails the sharing when it has ended.
static bool grow(struct share *s, void **items, int64_t count, int64_t *room, size_t size)
{
    if (count < *room) return true;
    const int64_t more = *room ? 2 * *room : 64;
    void *grown = realloc(*items, (size_t)more * size);
    if (!grown) return !(s->failed = true);
    *items = grown, *room = more;
    return true;
}

// What is read in place `place` of node `from` of place `source`.
static struct node *moved(struct share *s, int place, int source, struct node *from)
{
    struct parts *p = s->p;
    const int level = from->level + 1;
    struct node *to = g_move(&p->graph[place], from, level);
    if (grow(s, (void **)&p->moves, p->move_count, &p->move_room, sizeof *p->moves))
        p->moves[p->move_count++] = (struct parts_move){from, to, source, place, level};
    return to;
}

// ---- what several have a part of ----------------------------------------------------------------------

// x's part in another place or this one.
static struct node *piece(struct share *s, int place, int source, const struct node *x)
{
    struct node *part = *parts_slot(s, s->part, source, x);
    return source == place ? part : moved(s, place, source, part);
}

// Columns side by side, or addends added up, in the order of places.
static struct node *brought_together(struct share *s, int place, const struct node *x)
{
    const struct spread *spread = &s->spread[x->index];
    struct graph *g = &s->p->graph[place];
    struct node *y = NULL;
    g->layer = x->layer;
    for (int i = 0; i < s->p->place_count; i++) {
        if (!parts_has_some(spread->cut, i)) continue;
        struct node *in[2] = {y, piece(s, place, i, x)};
        int computed;
        if (y) {
            y = spread->kind == SPREAD_SUM ? g_add(g, in[0], in[1]) : g_concat(g, in[0], in[1], 1, false);
            y->level = level_behind(in, 2, &computed);
        } else {
            y = in[1];
        }
    }
    return y;
}

// In all sharing places at once, where each has an addend and a library to add them up.
static bool added_up(struct share *s, const struct node *x)
{
    struct parts *p = s->p;
    struct parts_sum sum = {.level = 0};
    for (int i = 0; i < p->place_count; i++) {
        if (!p->sharing[i]) continue;
        if (!p->adder || !parts_has_some(s->spread[x->index].cut, i)) return false;
        sum.from[i] = *parts_slot(s, s->part, i, x);
        if (sum.from[i]->level >= sum.level) sum.level = sum.from[i]->level + 1;
    }
    if (!grow(s, (void **)&p->sums, p->sum_count, &p->sum_room, sizeof *p->sums)) return false;
    for (int i = 0; i < p->place_count; i++) {
        if (!sum.from[i]) continue;
        struct node *to = sum.to[i] = g_move(&p->graph[i], sum.from[i], sum.level);
        to->in[to->input_count++] = sum.from[i]; // which is there until then
        *parts_slot(s, s->known, i, x) = to;
    }
    p->sums[p->sum_count++] = sum;
    return true;
}

// The whole of x, which several places compute.
static struct node *seen_of_several(struct share *s, int place, const struct node *x)
{
    const enum spread_kind kind = s->spread[x->index].kind;
    const int home = s->place[x->index];
    if (kind == SPREAD_COLUMNS) return brought_together(s, place, x);
    if (!s->p->sharing[place]) return moved(s, place, home, parts_seen(s, home, x));
    if (kind == SPREAD_ALL) return added(s, place, x);
    return added_up(s, x) ? *parts_slot(s, s->known, place, x) : brought_together(s, place, x);
}

struct node *parts_seen(struct share *s, int place, const struct node *x)
{
    struct node **known = parts_slot(s, s->known, place, x);
    if (*known) return *known;
    if (x->op == GRAPH_LEAF || runs_anywhere(x))
        *known = added(s, place, x);
    else if (s->spread[x->index].kind != SPREAD_ONE)
        *known = seen_of_several(s, place, x);
    else if (s->place[x->index] == place)
        *known = added(s, place, x);
    else
        *known = moved(s, place, s->place[x->index], parts_seen(s, s->place[x->index], x));
    return *known;
}

// ---- sharing out --------------------------------------------------------------------------------------

static struct node *nodes_of(const struct graph *g)
{
    return (struct node *)g->nodes.base;
}

// Nodes stand behind their inputs. What each place computes that reads it is added with its readers.
static void share_nodes(struct share *s, const struct node *root)
{
    const struct node *nodes = nodes_of(&s->p->whole);
    s->used[root->index] = 1;
    for (int64_t i = s->count - 1; i >= 0; i--)
        for (int j = 0; s->used[i] && j < nodes[i].input_count; j++) s->used[nodes[i].in[j]->index] = 1;
    for (int64_t i = 0; i < s->count; i++) {
        const struct node *n = &nodes[i];
        if (!s->used[i] || n->op == GRAPH_LEAF || runs_anywhere(n)) continue;
        s->place[i] = place_of(s, n);
        TLM_ASSERT(s->place[i] < s->p->place_count);
        s->spread[i] = spread_of(s, n);
        if (s->spread[i].kind == SPREAD_ONE) parts_seen(s, s->place[i], n);
        for (int p = 0; p < s->p->place_count && s->spread[i].cut; p++)
            if (parts_has_some(s->spread[i].cut, p)) *parts_slot(s, s->part, p, n) = parts_part_of(s, p, n);
    }
}

enum tlm_status parts_share(struct parts *p, struct node *root, const struct parts_site *sites,
                            int place_count, const struct parts_layers *layers, struct tlm_error *err)
{
    const size_t count = (size_t)p->whole.node_count, seats = (size_t)place_count * count;
    struct share s = {.p = p, .layers = layers, .count = p->whole.node_count};
    enum tlm_status status = TLM_OK;
    p->place_count = place_count;
    memcpy(p->sharing, layers->sharing, sizeof p->sharing);
    for (int i = 0; i < place_count && !status; i++) {
        p->sites[i] = sites[i];
        status = graph_init(&p->graph[i], sites[i].ops, sites[i].data, p->whole.real, p->whole.counts, err);
    }
    if (status) return status;
    s.used = calloc(count, sizeof *s.used);
    s.place = calloc(count, sizeof *s.place);
    s.spread = calloc(count, sizeof *s.spread);
    s.known = calloc(seats, sizeof(struct node *));
    s.part = calloc(seats, sizeof(struct node *));
    s.failed = !s.used || !s.place || !s.spread || !s.known || !s.part;
    if (!s.failed) {
        share_nodes(&s, root);
        p->root_place = s.place[root->index];
        p->root = parts_seen(&s, p->root_place, root);
    }
    free(s.used);
    free(s.place);
    free(s.spread);
    free(s.known);
    free(s.part);
    if (s.failed) return error_set(err, TLM_ERR_MEMORY, "graph: no memory to share out %zu nodes", count);
    for (int i = 0; i < place_count; i++) pass_convert(&p->graph[i], sites[i].kernels);
    return TLM_OK;
}
