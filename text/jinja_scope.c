// text/jinja_scope.c -- which assignment a name means, settled before rendering as jinja2 settles it.
//
// Templates, loops, macros, blocks and the like are frames; `if` is not. A name that a frame assigns to
// anywhere is the frame's own, from its beginning: on entry it gets the value that the next outer frame has
// under that name (an alias), or what the caller passed (resolve), or none (undefined) where an assignment
// comes first in any case. A name that is only read is that of the nearest outer frame that has it; if none
// does, the reading frame asks the caller's variables once, on entry. So assignments in a loop don't leak out
// of it, and a name that the template assigns to at its end hides the caller's variable from all loops and
// macros before. (jinja2: idtracking.py, compiler.py)
#include "text/jinja_builtin.h"

struct resolver {
    struct jinja *j;
    struct frame *frame;
    int branches; // of `if` around this point, within the frame
    bool soft;    // within a condition: an unknown filter fails only where it is reached
};

static int symbol_find(struct resolver *r, const struct frame *f, struct value name)
{
    for (int64_t i = 0; i < f->count; i++) {
        jinja_charge(r->j, 0);
        if (f->symbols[i].name.n == name.n && chars_equal(f->symbols[i].name.s, name.s, name.n))
            return (int)i;
    }
    return -1;
}

// The nearest frame from `f` outwards that has the name: how far out, and the place there.
static bool find(struct resolver *r, const struct frame *f, struct value name, int *up, int *slot)
{
    for (*up = 0; f; f = f->parent, (*up)++) {
        *slot = symbol_find(r, f, name);
        if (*slot >= 0) return true;
    }
    return false;
}

static int define(struct resolver *r, struct value name, enum load load)
{
    struct frame *f = r->frame;
    if (f->count == f->capacity) {
        int64_t capacity = f->capacity ? f->capacity * 2 : 8;
        f->symbols = pool_grow(r->j, f->symbols, f->capacity, capacity, sizeof *f->symbols);
        f->capacity = capacity;
    }
    f->symbols[f->count] = (struct symbol){.name = name, .load = load};
    return (int)f->count++;
}

static int declare_parameter(struct resolver *r, struct value name)
{
    int slot = symbol_find(r, r->frame, name);
    if (slot < 0) slot = define(r, name, LOAD_PARAMETER);
    r->frame->symbols[slot].load = LOAD_PARAMETER;
    r->frame->symbols[slot].stored = true;
    return slot;
}

static void declare_store(struct resolver *r, struct value name)
{
    int slot = symbol_find(r, r->frame, name), up, outer;
    if (slot < 0) {
        slot = define(r, name, r->branches ? LOAD_RESOLVE : LOAD_UNDEFINED);
        if (r->frame->parent && find(r, r->frame->parent, name, &up, &outer)) {
            struct symbol *s = &r->frame->symbols[slot];
            s->load = LOAD_ALIAS;
            s->up = up;
            s->slot = outer;
        }
    }
    r->frame->symbols[slot].stored = true;
}

static void declare_load(struct resolver *r, struct value name)
{
    int up, slot;
    if (!find(r, r->frame, name, &up, &slot)) define(r, name, LOAD_RESOLVE);
}

// ---- walking ------------------------------------------------------------------------------------------

typedef void visit_fn(void *state, struct node *n);

static void visit_list(visit_fn *visit, void *state, struct node **items, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (items[i]) visit(state, items[i]);
    }
}

static void visit_arguments(visit_fn *visit, void *state, const struct call_args *a)
{
    visit_list(visit, state, a->positional, a->positional_count);
    for (int64_t i = 0; i < a->keyword_count; i++) visit(state, a->keywords[i].value);
    if (a->star) visit(state, a->star);
    if (a->star_star) visit(state, a->star_star);
}

// All children of an expression, or of a statement without a frame of its own.
static void visit_children(visit_fn *visit, void *state, struct node *n)
{
    if (n->a) visit(state, n->a);
    if (n->b) visit(state, n->b);
    if (n->c) visit(state, n->c);
    visit_list(visit, state, n->items, n->count);
    if (n->args) visit_arguments(visit, state, n->args);
}

// ---- which special names a body mentions --------------------------------------------------------------

struct mention { // of one name: read before anything in the body assigns to it
    struct jinja *j;
    const char *name;
    bool used, hidden;
};

static void find_mention(void *state, struct node *n);

static void hide_target(struct mention *m, const struct node *target)
{
    if (target->kind == N_NAME && string_is(target->value, m->name)) m->hidden = true;
    if (target->kind == N_TUPLE) {
        for (int64_t i = 0; i < target->count; i++) hide_target(m, target->items[i]);
    }
}

static void find_mention_in_macro(struct mention *m, const struct signature *s)
{
    for (int64_t i = 0; i < s->count; i++) m->hidden |= string_is(s->names[i], m->name);
    visit_list(find_mention, m, s->defaults, s->count);
    find_mention(m, s->body);
}

static void find_mention(void *state, struct node *n)
{
    struct mention *m = state;
    if (m->used || m->hidden || n->kind == N_BLOCK) return;
    jinja_charge(m->j, 0);
    jinja_enter(m->j);
    switch (n->kind) {
    case N_NAME: m->used = string_is(n->value, m->name); break;
    case N_SET:
    case N_SET_BLOCK:
    case N_FOR: hide_target(m, n->a); break;
    case N_WITH:
        for (int64_t i = 0; i + 1 < n->count; i += 2) hide_target(m, n->items[i]);
        break;
    case N_CALL_BLOCK: find_mention(m, n->a); break;
    default: break;
    }
    if (n->macro)
        find_mention_in_macro(m, n->macro);
    else if (n->kind != N_FIELD)
        visit_children(find_mention, m, n);
    jinja_leave(m->j);
}

static bool mentions(struct resolver *r, struct node *body, const char *name)
{
    struct mention m = {.j = r->j, .name = name};
    find_mention(&m, body);
    return m.used;
}

// ---- first pass over a frame: its symbols -------------------------------------------------------------

static void declare(void *state, struct node *n);

static void declare_target(struct resolver *r, const struct node *target, bool parameter)
{
    if (target->kind == N_TUPLE) {
        for (int64_t i = 0; i < target->count; i++) declare_target(r, target->items[i], parameter);
    } else if (target->kind == N_FIELD) {
        declare_load(r, target->value);
    } else if (parameter) {
        declare_parameter(r, target->value);
    } else {
        declare_store(r, target->value);
    }
}

static void declare_if(struct resolver *r, struct node *n)
{
    declare(r, n->items[0]);
    r->branches++;
    visit_list(declare, r, n->items + 1, n->count - 1);
    r->branches--;
}

// What `n` does to the symbols of the frame that it stands in. Frames within are left alone.
static void declare(void *state, struct node *n)
{
    struct resolver *r = state;
    jinja_charge(r->j, 0);
    jinja_enter(r->j);
    switch (n->kind) {
    case N_NAME:
    case N_FIELD: declare_load(r, n->value); break;
    case N_IF: declare_if(r, n); break;
    case N_FOR: declare(r, n->b); break;
    case N_SET:
        declare(r, n->b);
        declare_target(r, n->a, false);
        break;
    case N_SET_BLOCK: declare_target(r, n->a, false); break;
    case N_MACRO: declare_store(r, n->value); break;
    case N_CALL_BLOCK:
    case N_FILTER_BLOCK: declare(r, n->a); break;
    case N_WITH:
        for (int64_t i = 1; i + 1 < n->count; i += 2) declare(r, n->items[i]);
        break;
    case N_SCOPE:
    case N_GENERATION:
    case N_BLOCK: break;
    default: visit_children(declare, r, n); break;
    }
    jinja_leave(r->j);
}

// ---- second pass: the place of each name, and the frames within ---------------------------------------

static void resolve(void *state, struct node *n);

static struct resolver enter_frame(struct resolver *outer, bool isolated)
{
    struct frame *f = pool_alloc(outer->j, 1, sizeof *f);
    f->parent = isolated ? NULL : outer->frame;
    return (struct resolver){.j = outer->j, .frame = f};
}

static void place(struct resolver *r, struct node *n)
{
    if (find(r, r->frame, n->value, &n->up, &n->slot)) return;
    char name[64];
    r->j->line = n->line;
    FAIL(r->j,
         "expected '%s' to be read outside the filter of {%% set %%} too: jinja2 cannot resolve it there",
         value_show(n->value, name, sizeof name));
}

static void resolve_macro(struct resolver *outer, struct node *n)
{
    struct signature *s = n->macro;
    struct resolver r = enter_frame(outer, false);
    n->frame = r.frame;
    s->slots = pool_alloc(r.j, s->count, sizeof *s->slots);
    bool named_kwargs = false, named_varargs = false;
    for (int64_t i = 0; i < s->count; i++) {
        s->slots[i] = declare_parameter(&r, s->names[i]);
        named_kwargs |= string_is(s->names[i], "kwargs");
        named_varargs |= string_is(s->names[i], "varargs");
        if (string_is(s->names[i], "caller") && !s->defaults[i] && mentions(&r, s->body, "caller")) {
            r.j->line = n->line;
            FAIL(r.j, "expected a default for the special argument 'caller', found none");
        }
    }
    s->uses_caller = mentions(&r, s->body, "caller");
    s->uses_kwargs = !named_kwargs && mentions(&r, s->body, "kwargs");
    s->uses_varargs = !named_varargs && mentions(&r, s->body, "varargs");
    if (s->uses_caller) s->caller_slot = declare_parameter(&r, value_ascii(r.j, "caller"));
    if (s->uses_kwargs) s->kwargs_slot = declare_parameter(&r, value_ascii(r.j, "kwargs"));
    if (s->uses_varargs) s->varargs_slot = declare_parameter(&r, value_ascii(r.j, "varargs"));
    visit_list(declare, &r, s->defaults, s->count);
    declare(&r, s->body);
    visit_list(resolve, &r, s->defaults, s->count);
    resolve(&r, s->body);
}

static void resolve_for(struct resolver *outer, struct node *n)
{
    struct value loop = value_ascii(outer->j, "loop");
    resolve(outer, n->b);
    struct resolver r = enter_frame(outer, false);
    n->frame = r.frame;
    n->loop_slot = n->recursive || mentions(&r, n->items[0], "loop") ? declare_parameter(&r, loop) : -1;
    declare_target(&r, n->a, true);
    declare(&r, n->items[0]);
    resolve(&r, n->a);
    resolve(&r, n->items[0]);
    if (n->items[1]) {
        struct resolver e = enter_frame(outer, false);
        n->else_frame = e.frame;
        declare(&e, n->items[1]);
        resolve(&e, n->items[1]);
    }
    if (n->c) { // the target has the same places here as in the body
        struct resolver t = enter_frame(outer, false);
        n->test_frame = t.frame;
        if (n->loop_slot >= 0) define(&t, value_chars(NULL, 0), LOAD_PARAMETER);
        declare_target(&t, n->a, true);
        declare(&t, n->c);
        resolve(&t, n->c);
    }
}

// with, filter and set blocks, {% autoescape false %}, {% block %}.
static void resolve_block(struct resolver *outer, struct node *n)
{
    struct resolver r = enter_frame(outer, n->kind == N_BLOCK);
    struct node *body = n->items[n->count - 1];
    n->frame = r.frame;
    if (n->kind == N_WITH) {
        for (int64_t i = 0; i + 1 < n->count; i += 2) declare_target(&r, n->items[i], true);
    }
    declare(&r, body);
    if (n->kind == N_FILTER_BLOCK) declare(&r, n->a);
    for (int64_t i = 0; i + 1 < n->count; i += 2) {
        resolve(&r, n->items[i]);
        resolve(outer, n->items[i + 1]);
    }
    resolve(&r, body);
    if (n->kind == N_FILTER_BLOCK) resolve(&r, n->a);
    if (n->kind != N_SET_BLOCK) return;
    resolve(outer, n->a);
    if (n->b) resolve(&r, n->b);
}

static void resolve_soft(struct resolver *r, struct node *n)
{
    bool soft = r->soft;
    r->soft = true;
    visit_children(resolve, r, n);
    r->soft = soft;
}

static void resolve(void *state, struct node *n)
{
    struct resolver *r = state;
    char name[64];
    jinja_charge(r->j, 0);
    jinja_enter(r->j);
    switch (n->kind) {
    case N_NAME:
    case N_FIELD: place(r, n); break;
    case N_IF:
    case N_CONDITION: resolve_soft(r, n); break;
    case N_FOR: resolve_for(r, n); break;
    case N_MACRO:
        place(r, n);
        resolve_macro(r, n);
        break;
    case N_CALL_BLOCK:
        resolve_macro(r, n);
        resolve(r, n->a);
        break;
    case N_GENERATION: resolve_macro(r, n); break;
    case N_SET_BLOCK:
    case N_FILTER_BLOCK:
    case N_WITH:
    case N_SCOPE:
    case N_BLOCK: resolve_block(r, n); break;
    case N_FILTER:
    case N_TEST:
        r->j->line = n->line;
        if (!n->builtin && !r->soft)
            FAIL(r->j, "expected the name of a %s, found '%s'", n->kind == N_FILTER ? "filter" : "test",
                 value_show(n->value, name, sizeof name));
        visit_children(resolve, r, n);
        break;
    default: visit_children(resolve, r, n); break;
    }
    jinja_leave(r->j);
}

struct frame *jinja_resolve(struct jinja *j, struct node *body)
{
    struct resolver none = {.j = j}, r = enter_frame(&none, true);
    declare(&r, body);
    resolve(&r, body);
    return r.frame;
}
