// text/jinja_exec.c -- statements: output, conditions, loops, assignments, macros and blocks.
#include "text/jinja_eval.h"

// ---- scopes -------------------------------------------------------------------------------------------

// A {% block %} stands outside all frames: it sees what the top of the template has assigned, a scoped one
// also what the frames around it have, and then the caller's variables.
static struct value resolve_in_block(struct jinja *j, struct scope *around, struct value name)
{
    for (struct scope *s = around; s; s = s->parent) {
        for (int64_t i = 0; i < s->frame->count; i++) {
            const struct symbol *symbol = &s->frame->symbols[i];
            if (symbol->stored && is_given(s->slots[i]) && value_equal(j, symbol->name, name))
                return s->slots[i];
        }
    }
    return value_missing();
}

static struct value resolve_name(struct jinja *j, struct value name)
{
    struct value *v = dict_find(j, j->variables, name);
    if (v) return *v;
    const struct builtin *b = global_find(name);
    return b ? (struct value){.type = V_FUNCTION, .function = b} : value_missing();
}

struct scope *scope_enter(struct jinja *j, struct scope *parent, const struct frame *f)
{
    jinja_charge(j, f->count);
    struct scope *s = pool_alloc(j, (int64_t)sizeof *s + f->count * (int64_t)sizeof s->slots[0], 1);
    s->parent = parent;
    s->frame = f;
    for (int64_t i = 0; i < f->count; i++) {
        const struct symbol *symbol = &f->symbols[i];
        s->slots[i] = value_missing();
        if (symbol->load == LOAD_RESOLVE) s->slots[i] = resolve_name(j, symbol->name);
        if (symbol->load == LOAD_ALIAS) {
            struct scope *outer = parent;
            for (int up = symbol->up; up; up--) outer = outer->parent;
            s->slots[i] = outer->slots[symbol->slot];
        }
    }
    return s;
}

// Runs a body and gives back what it printed.
static struct value capture(struct jinja *j, struct scope *s, const struct node *body, enum flow *flow)
{
    struct text t = {0}, *outer = j->out;
    j->out = &t;
    *flow = jinja_execute(j, s, body);
    j->out = outer;
    return text_value(&t);
}

static void print(struct jinja *j, struct value v)
{
    int64_t before = j->out->count;
    text_str(j, j->out, v);
    j->output_count += j->out->count - before;
    if (j->output_count > j->max_output)
        jinja_fail(j, TLM_ERR_MEMORY, "expected at most %lld characters of output, found more",
                   (long long)j->max_output);
}

// ---- loops --------------------------------------------------------------------------------------------

struct filtered { // the items of {% for x in y if test %}
    const struct node *node;
    struct scope *scope;
};

static bool next_filtered(struct jinja *j, struct iterator *it, struct value *out)
{
    struct filtered *f = it->state;
    while (iterator_next(j, it->inner, out)) {
        jinja_assign(j, f->scope, f->node->a, *out);
        if (value_truth(jinja_eval(j, f->scope, f->node->c))) return true;
    }
    return false;
}

static struct value filter_items(struct jinja *j, struct scope *outer, const struct node *n,
                                 struct value iterable)
{
    struct filtered *f = pool_alloc(j, 1, sizeof *f);
    *f = (struct filtered){n, scope_enter(j, outer, n->test_frame)};
    struct iterator *it = pool_alloc(j, 1, sizeof *it);
    *it = (struct iterator){.next = next_filtered, .inner = iterator_of(j, iterable), .state = f};
    return value_iterator(it);
}

static bool loop_next(struct jinja *j, struct loop *l, struct value *item)
{
    if (is_given(l->after)) {
        *item = l->after;
        l->after = value_missing();
    } else if (!iterator_next(j, l->items, item)) {
        return false;
    }
    l->index0++;
    l->before = l->current;
    l->current = *item;
    return true;
}

static bool loop_peek(struct jinja *j, struct loop *l)
{
    if (!is_given(l->after) && !iterator_next(j, l->items, &l->after)) l->after = value_missing();
    return is_given(l->after);
}

// Items that have no length yet are all fetched to count them.
int64_t loop_length(struct jinja *j, struct loop *l)
{
    if (l->length >= 0 || value_length(j, l->iterable, &l->length)) return l->length;
    struct list *rest = list_new(j, 8);
    struct value item;
    while (iterator_next(j, l->items, &item)) list_push(j, rest, item);
    l->items = iterator_of(j, value_list(rest));
    l->length = rest->count + l->index0 + 1 + is_given(l->after);
    return l->length;
}

static enum flow run_loop(struct jinja *j, struct scope *outer, const struct node *n, struct value iterable,
                          int64_t depth0)
{
    if (n->c) iterable = filter_items(j, outer, n, iterable);
    struct loop *l = pool_alloc(j, 1, sizeof *l);
    *l = (struct loop){.items = iterator_of(j, iterable),
                       .iterable = iterable,
                       .index0 = -1,
                       .length = -1,
                       .depth0 = depth0,
                       .node = n,
                       .outer = outer};
    struct value item;
    bool complete = false; // a whole pass through the body was made, which is what `else` asks for
    while (loop_next(j, l, &item)) {
        struct scope *s = scope_enter(j, outer, n->frame);
        if (n->loop_slot >= 0) s->slots[n->loop_slot] = (struct value){.type = V_LOOP, .loop = l};
        j->line = n->line;
        jinja_assign(j, s, n->a, item);
        enum flow flow = jinja_execute(j, s, n->items[0]);
        if (flow == FLOW_BREAK) break;
        complete |= flow == FLOW_ON;
    }
    if (complete || !n->items[1]) return FLOW_ON;
    return jinja_execute(j, scope_enter(j, outer, n->else_frame), n->items[1]);
}

static enum flow execute_for(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value iterable = jinja_eval(j, s, n->b);
    j->line = n->line;
    return run_loop(j, s, n, iterable, 0);
}

// loop(items) within {% for ... recursive %}.
struct value loop_call(struct jinja *j, struct loop *l, const struct args *args)
{
    if (!l->node->recursive) FAIL(j, "expected a loop marked 'recursive' to call, found one that is not");
    if (args->count != 1 || args->keyword_count)
        FAIL(j, "expected one argument of loop(), found another number");
    struct text t = {0}, *outer = j->out;
    j->out = &t;
    jinja_enter(j);
    run_loop(j, l->outer, l->node, args->positional[0], l->depth0 + 1);
    jinja_leave(j);
    j->out = outer;
    return text_value(&t);
}

static struct value loop_cycle(struct jinja *j, struct value self, const struct value *arg,
                               const struct args *rest)
{
    (void)arg;
    if (!rest->count) FAIL(j, "expected items to cycle through, found none");
    return rest->positional[self.loop->index0 % rest->count];
}

static struct value loop_changed(struct jinja *j, struct value self, const struct value *arg,
                                 const struct args *rest)
{
    (void)arg;
    struct list *now = list_new(j, rest->count);
    for (int64_t i = 0; i < rest->count; i++) list_push(j, now, rest->positional[i]);
    struct value v = value_tuple(now);
    if (is_given(self.loop->last_changed) && value_equal(j, self.loop->last_changed, v))
        return value_bool(false);
    self.loop->last_changed = v;
    return value_bool(true);
}

static struct value loop_attribute(struct jinja *j, struct value self, struct value name)
{
    static const struct builtin methods[] = {{"cycle", loop_cycle, "*", 0},
                                             {"changed", loop_changed, "*", 0}};
    struct loop *l = self.loop;
    if (string_is(name, "index")) return value_int(l->index0 + 1);
    if (string_is(name, "index0")) return value_int(l->index0);
    if (string_is(name, "first")) return value_bool(l->index0 == 0);
    if (string_is(name, "last")) return value_bool(!loop_peek(j, l));
    if (string_is(name, "length")) return value_int(loop_length(j, l));
    if (string_is(name, "revindex")) return value_int(loop_length(j, l) - l->index0);
    if (string_is(name, "revindex0")) return value_int(loop_length(j, l) - l->index0 - 1);
    if (string_is(name, "depth")) return value_int(l->depth0 + 1);
    if (string_is(name, "depth0")) return value_int(l->depth0);
    if (string_is(name, "previtem"))
        return l->index0 == 0 ? value_undefined_hint(j, "there is no previous item") : l->before;
    if (string_is(name, "nextitem"))
        return loop_peek(j, l) ? l->after : value_undefined_hint(j, "there is no next item");
    const struct builtin *b = builtin_find(methods, 2, name);
    if (!b) return value_missing();
    struct method *m = pool_alloc(j, 1, sizeof *m);
    *m = (struct method){self, b};
    return (struct value){.type = V_METHOD, .method = m};
}

// ---- macros -------------------------------------------------------------------------------------------

// The keyword argument of that name, taken out of the list; missing where there is none.
static struct value take_named(struct jinja *j, struct named *list, int64_t *count, struct value name)
{
    for (int64_t i = 0; i < *count; i++) {
        if (!value_equal(j, list[i].name, name)) continue;
        struct value v = list[i].value;
        for (int64_t k = i + 1; k < *count; k++) list[k - 1] = list[k];
        (*count)--;
        return v;
    }
    return value_missing();
}

static void bind_special(struct jinja *j, struct scope *s, const struct signature *sig,
                         const struct args *args, struct named *named, int64_t *named_count)
{
    if (sig->uses_caller && !sig->explicit_caller) {
        struct value caller = take_named(j, named, named_count, value_ascii(j, "caller"));
        if (!is_given(caller) || caller.type == V_NONE) caller = value_undefined_hint(j, "No caller defined");
        s->slots[sig->caller_slot] = caller;
    }
    if (sig->uses_kwargs) {
        struct dict *d = dict_new(j);
        for (int64_t i = 0; i < *named_count; i++) dict_set(j, d, named[i].name, named[i].value);
        s->slots[sig->kwargs_slot] = value_dict(d);
    } else if (*named_count) {
        char name[64];
        FAIL(j, "the macro takes no argument '%s'", value_show(named[0].name, name, sizeof name));
    }
    if (sig->uses_varargs) {
        struct list *rest = list_new(j, 0);
        for (int64_t i = sig->count; i < args->count; i++) list_push(j, rest, args->positional[i]);
        s->slots[sig->varargs_slot] = value_tuple(rest);
    } else if (args->count > sig->count) {
        FAIL(j, "expected at most %lld arguments of the macro, found %lld", (long long)sig->count,
             (long long)args->count);
    }
}

struct value macro_call(struct jinja *j, struct macro *m, const struct args *args)
{
    const struct signature *sig = m->node->macro;
    struct scope *s = scope_enter(j, m->scope, m->node->frame);
    struct named *named = pool_alloc(j, args->keyword_count, sizeof *named);
    int64_t named_count = args->keyword_count;
    for (int64_t i = 0; i < named_count; i++) named[i] = args->keywords[i];
    for (int64_t i = 0; i < sig->count; i++)
        s->slots[sig->slots[i]] =
            i < args->count ? args->positional[i] : take_named(j, named, &named_count, sig->names[i]);
    bind_special(j, s, sig, args, named, &named_count);
    for (int64_t i = 0; i < sig->count; i++) {
        struct value *slot = &s->slots[sig->slots[i]];
        if (!is_given(*slot))
            *slot = sig->defaults[i]
                        ? jinja_eval(j, s, sig->defaults[i])
                        : value_undefined_hint(j, "expected an argument of the macro, found none");
    }
    enum flow flow;
    jinja_enter(j);
    struct value v = capture(j, s, sig->body, &flow);
    jinja_leave(j);
    return v;
}

static struct value macro_new(struct jinja *j, struct scope *s, const struct node *n, struct value name)
{
    struct macro *m = pool_alloc(j, 1, sizeof *m);
    *m = (struct macro){n, s, name};
    return (struct value){.type = V_MACRO, .macro = m};
}

static struct value macro_attribute(struct jinja *j, const struct macro *m, struct value name)
{
    const struct signature *sig = m->node->macro;
    if (string_is(name, "name")) return is_given(m->name) ? m->name : value_none();
    if (string_is(name, "catch_kwargs")) return value_bool(sig->uses_kwargs);
    if (string_is(name, "catch_varargs")) return value_bool(sig->uses_varargs);
    if (string_is(name, "caller")) return value_bool(sig->uses_caller);
    if (string_is(name, "explicit_caller")) return value_bool(sig->explicit_caller);
    if (!string_is(name, "arguments")) return value_missing();
    struct list *l = list_new(j, sig->count);
    for (int64_t i = 0; i < sig->count; i++) list_push(j, l, sig->names[i]);
    return value_tuple(l);
}

struct value object_attribute(struct jinja *j, struct value owner, struct value name)
{
    if (owner.type == V_LOOP) return loop_attribute(j, owner, name);
    if (owner.type == V_MACRO) return macro_attribute(j, owner.macro, name);
    if (owner.type == V_CYCLER && string_is(name, "current"))
        return owner.cycler->items->items[owner.cycler->at];
    if (owner.type == V_JOINER && string_is(name, "sep")) return owner.joiner->separator;
    if (owner.type == V_JOINER && string_is(name, "used")) return value_bool(owner.joiner->used);
    return value_missing();
}

// ---- statements ---------------------------------------------------------------------------------------

static enum flow execute_output(struct jinja *j, struct scope *s, const struct node *n)
{
    for (int64_t i = 0; i < n->count; i++) {
        struct value v = jinja_eval(j, s, n->items[i]);
        j->line = n->items[i]->line;
        print(j, v);
    }
    return FLOW_ON;
}

static enum flow execute_if(struct jinja *j, struct scope *s, const struct node *n)
{
    for (int64_t i = 0; i < n->count; i += 2) {
        if (!n->items[i] || value_truth(jinja_eval(j, s, n->items[i])))
            return jinja_execute(j, s, n->items[i + 1]);
    }
    return FLOW_ON;
}

// jinja2 checks that all fields to assign to are a namespace's before it evaluates the value.
static void check_fields(struct jinja *j, struct scope *s, const struct node *target)
{
    for (int64_t i = 0; target->kind == N_TUPLE && i < target->count; i++)
        check_fields(j, s, target->items[i]);
    if (target->kind != N_FIELD) return;
    struct scope *owner = s;
    for (int up = target->up; up; up--) owner = owner->parent;
    if (owner->slots[target->slot].type != V_NAMESPACE)
        FAIL(j, "expected a namespace to assign an attribute of, found %s",
             type_name(owner->slots[target->slot]));
}

static enum flow execute_set(struct jinja *j, struct scope *s, const struct node *n)
{
    check_fields(j, s, n->a);
    struct value v = jinja_eval(j, s, n->b);
    j->line = n->line;
    jinja_assign(j, s, n->a, v);
    return FLOW_ON;
}

static enum flow execute_set_block(struct jinja *j, struct scope *s, const struct node *n)
{
    enum flow flow;
    struct scope *inner = scope_enter(j, s, n->frame);
    struct value v = capture(j, inner, n->items[0], &flow);
    if (flow != FLOW_ON) return flow;
    if (n->b) v = jinja_eval_filter(j, inner, n->b, v);
    j->line = n->line;
    jinja_assign(j, s, n->a, v);
    return FLOW_ON;
}

static enum flow execute_filter_block(struct jinja *j, struct scope *s, const struct node *n)
{
    enum flow flow;
    struct scope *inner = scope_enter(j, s, n->frame);
    struct value v = capture(j, inner, n->items[0], &flow);
    if (flow == FLOW_ON) print(j, jinja_eval_filter(j, inner, n->a, v));
    return flow;
}

static enum flow execute_with(struct jinja *j, struct scope *s, const struct node *n)
{
    struct scope *inner = scope_enter(j, s, n->frame);
    for (int64_t i = 0; i + 1 < n->count; i += 2) {
        struct value v = jinja_eval(j, s, n->items[i + 1]);
        j->line = n->line;
        jinja_assign(j, inner, n->items[i], v);
    }
    return jinja_execute(j, inner, n->items[n->count - 1]);
}

static enum flow execute_block(struct jinja *j, struct scope *s, const struct node *n)
{
    struct scope *inner = scope_enter(j, NULL, n->frame);
    for (int64_t i = 0; i < n->frame->count; i++) {
        const struct symbol *symbol = &n->frame->symbols[i];
        if (symbol->load != LOAD_RESOLVE) continue;
        struct value v = resolve_in_block(j, n->scoped ? s : j->root, symbol->name);
        if (is_given(v)) inner->slots[i] = v;
    }
    return jinja_execute(j, inner, n->items[0]);
}

static enum flow execute_call_block(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value caller = macro_new(j, s, n, value_missing());
    print(j, jinja_eval_call(j, s, n->a, caller));
    return FLOW_ON;
}

// The body is jinja2's caller() of a call block: a function of its own.
static enum flow execute_generation(struct jinja *j, struct scope *s, const struct node *n)
{
    const struct signature *sig = n->macro;
    struct scope *inner = scope_enter(j, s, n->frame);
    struct args none = {0};
    int64_t count = 0;
    bind_special(j, inner, sig, &none, NULL, &count);
    return jinja_execute(j, inner, sig->body);
}

enum flow jinja_execute(struct jinja *j, struct scope *s, const struct node *n)
{
    enum flow flow = FLOW_ON;
    jinja_charge(j, 15);
    jinja_enter(j);
    j->line = n->line;
    switch (n->kind) {
    case N_BODY:
        for (int64_t i = 0; i < n->count && flow == FLOW_ON; i++) flow = jinja_execute(j, s, n->items[i]);
        break;
    case N_OUTPUT: flow = execute_output(j, s, n); break;
    case N_IF: flow = execute_if(j, s, n); break;
    case N_FOR: flow = execute_for(j, s, n); break;
    case N_SET: flow = execute_set(j, s, n); break;
    case N_SET_BLOCK: flow = execute_set_block(j, s, n); break;
    case N_MACRO: s->slots[n->slot] = macro_new(j, s, n, n->value); break;
    case N_CALL_BLOCK: flow = execute_call_block(j, s, n); break;
    case N_FILTER_BLOCK: flow = execute_filter_block(j, s, n); break;
    case N_WITH: flow = execute_with(j, s, n); break;
    case N_SCOPE: flow = jinja_execute(j, scope_enter(j, s, n->frame), n->items[0]); break;
    case N_GENERATION: flow = execute_generation(j, s, n); break;
    case N_BLOCK: flow = execute_block(j, s, n); break;
    case N_BREAK: flow = FLOW_BREAK; break;
    default: flow = FLOW_CONTINUE; break;
    }
    jinja_leave(j);
    return flow;
}
