// text/jinja_eval.c -- expressions.
#include "text/jinja_eval.h"

static struct value *slot_of(struct scope *s, int up, int slot)
{
    while (up--) s = s->parent;
    return &s->slots[slot];
}

void jinja_assign(struct jinja *j, struct scope *s, const struct node *target, struct value v)
{
    if (target->kind == N_NAME) {
        *slot_of(s, target->up, target->slot) = v;
        return;
    }
    if (target->kind == N_FIELD) {
        struct value ns = *slot_of(s, target->up, target->slot);
        struct value name = target->b->value;
        if (ns.type != V_NAMESPACE)
            FAIL(j, "expected a namespace to assign an attribute of, found %s", type_name(ns));
        if (name.s[0] == '_')
            FAIL(j, "expected an attribute that does not begin with an underscore, found one that does");
        dict_set(j, ns.dict, name, v);
        return;
    }
    struct iterator *it = iterator_of(j, v);
    struct value item;
    for (int64_t i = 0; i < target->count; i++) {
        if (!iterator_next(j, it, &item))
            FAIL(j, "expected %lld values to unpack, found %lld", (long long)target->count, (long long)i);
        jinja_assign(j, s, target->items[i], item);
    }
    if (iterator_next(j, it, &item))
        FAIL(j, "expected %lld values to unpack, found more", (long long)target->count);
}

// ---- operators ----------------------------------------------------------------------------------------

static bool compare(struct jinja *j, int op, struct value a, struct value b)
{
    int order;
    switch (op) {
    case T_EQ: return value_equal(j, a, b);
    case T_NE: return !value_equal(j, a, b);
    case OP_IN: return value_contains(j, b, a);
    case OP_NOT_IN: return !value_contains(j, b, a);
    case T_LT: order = value_compare(j, a, b, "<"); return order < 0;
    case T_LE: order = value_compare(j, a, b, "<="); return order <= 0;
    case T_GT: order = value_compare(j, a, b, ">"); return order == 1;
    default: order = value_compare(j, a, b, ">="); return order == 0 || order == 1;
    }
}

// a < b < c is a < b and b < c, each evaluated once.
static struct value eval_compare(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value left = jinja_eval(j, s, n->a);
    bool holds = true;
    for (int64_t i = 0; i < n->count && holds; i++) {
        struct value right = jinja_eval(j, s, n->items[i]->a);
        j->line = n->line;
        holds = compare(j, n->items[i]->op, left, right);
        left = right;
    }
    return value_bool(holds);
}

static struct value eval_concat(struct jinja *j, struct scope *s, const struct node *n)
{
    struct text t = {0};
    for (int64_t i = 0; i < n->count; i++) {
        struct value v = jinja_eval(j, s, n->items[i]);
        text_str(j, &t, v);
    }
    return text_value(&t);
}

static struct list *eval_items(struct jinja *j, struct scope *s, const struct node *n)
{
    struct list *l = list_new(j, n->count);
    for (int64_t i = 0; i < n->count; i++) list_push(j, l, jinja_eval(j, s, n->items[i]));
    return l;
}

static struct value eval_dict(struct jinja *j, struct scope *s, const struct node *n)
{
    struct dict *d = dict_new(j);
    for (int64_t i = 0; i < n->count; i += 2) {
        struct value key = jinja_eval(j, s, n->items[i]);
        dict_set(j, d, key, jinja_eval(j, s, n->items[i + 1]));
    }
    return value_dict(d);
}

static struct value eval_slice(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value part[3], owner = jinja_eval(j, s, n->a);
    for (int i = 0; i < 3; i++) part[i] = n->items[i] ? jinja_eval(j, s, n->items[i]) : value_none();
    j->line = n->line;
    return value_slice(j, owner, part[0], part[1], part[2]);
}

static struct value eval_name(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value v = *slot_of(s, n->up, n->slot);
    return is_given(v) ? v : value_undefined_name(j, n->value);
}

// ---- calls --------------------------------------------------------------------------------------------

static void push_named(struct jinja *j, struct named *list, int64_t *count, struct value name, struct value v)
{
    for (int64_t i = 0; i < *count; i++) {
        char shown[64];
        if (value_equal(j, list[i].name, name))
            FAIL(j, "expected the argument '%s' once, found it twice", value_show(name, shown, sizeof shown));
    }
    list[(*count)++] = (struct named){name, v};
}

static struct args eval_args(struct jinja *j, struct scope *s, const struct call_args *a, struct value caller)
{
    struct list *positional = list_new(j, a->positional_count);
    for (int64_t i = 0; i < a->positional_count; i++)
        list_push(j, positional, jinja_eval(j, s, a->positional[i]));
    int64_t capacity = a->keyword_count + 1, count = 0;
    struct named *named = pool_alloc(j, capacity, sizeof *named);
    for (int64_t i = 0; i < a->keyword_count; i++)
        push_named(j, named, &count, a->keywords[i].name, jinja_eval(j, s, a->keywords[i].value));
    if (a->star) {
        struct value item;
        struct iterator *it = iterator_of(j, jinja_eval(j, s, a->star));
        while (iterator_next(j, it, &item)) list_push(j, positional, item);
    }
    if (a->star_star) {
        struct value more = jinja_eval(j, s, a->star_star);
        if (more.type != V_DICT) FAIL(j, "expected a dict behind **, found %s", type_name(more));
        named = pool_grow(j, named, capacity, capacity + more.dict->count, sizeof *named);
        for (int64_t i = 0; i < more.dict->count; i++) {
            const struct entry *e = &more.dict->entries[i];
            if (!is_string(e->key)) FAIL(j, "expected names as keys behind **, found %s", type_name(e->key));
            push_named(j, named, &count, e->key, e->value);
        }
    }
    if (is_given(caller)) push_named(j, named, &count, value_ascii(j, "caller"), caller);
    return (struct args){positional->items, positional->count, named, count};
}

struct value jinja_eval_call(struct jinja *j, struct scope *s, const struct node *n, struct value caller)
{
    struct value callee = jinja_eval(j, s, n->a);
    struct args args = eval_args(j, s, n->args, caller);
    j->line = n->line;
    return value_call(j, callee, &args);
}

struct value jinja_eval_filter(struct jinja *j, struct scope *s, const struct node *n, struct value subject)
{
    if (n->a) subject = jinja_eval_filter(j, s, n->a, subject);
    struct args args = eval_args(j, s, n->args, value_missing());
    j->line = n->line;
    return builtin_call(j, n->builtin, subject, &args);
}

static struct value eval_builtin(struct jinja *j, struct scope *s, const struct node *n)
{
    char name[64];
    struct value subject = jinja_eval(j, s, n->a);
    struct args args = eval_args(j, s, n->args, value_missing());
    j->line = n->line;
    if (!n->builtin)
        FAIL(j, "expected the name of a %s, found '%s'", n->kind == N_FILTER ? "filter" : "test",
             value_show(n->value, name, sizeof name));
    return builtin_call(j, n->builtin, subject, &args);
}

static struct value eval_condition(struct jinja *j, struct scope *s, const struct node *n)
{
    if (value_truth(jinja_eval(j, s, n->b))) return jinja_eval(j, s, n->a);
    if (n->c) return jinja_eval(j, s, n->c);
    return value_undefined_hint(
        j, "the inline if-expression evaluated to false and no else section was defined");
}

static struct value eval_binary(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value a = jinja_eval(j, s, n->a), b = jinja_eval(j, s, n->b);
    j->line = n->line;
    return number_arithmetic(j, n->op, a, b);
}

static struct value eval_lookup(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value owner = jinja_eval(j, s, n->a);
    struct value key = n->kind == N_ITEM ? jinja_eval(j, s, n->b) : n->value;
    j->line = n->line;
    return n->kind == N_ITEM ? value_item(j, owner, key) : value_attribute(j, owner, key);
}

static struct value eval_logic(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value a = jinja_eval(j, s, n->a);
    return value_truth(a) == (n->kind == N_AND) ? jinja_eval(j, s, n->b) : a;
}

static struct value eval_unary(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value a = jinja_eval(j, s, n->a);
    j->line = n->line;
    return number_negate(j, n->op, a);
}

struct value jinja_eval(struct jinja *j, struct scope *s, const struct node *n)
{
    struct value v;
    jinja_charge(j, 15);
    jinja_enter(j);
    j->line = n->line;
    switch (n->kind) {
    case N_CONST: v = n->value; break;
    case N_NAME: v = eval_name(j, s, n); break;
    case N_TUPLE: v = value_tuple(eval_items(j, s, n)); break;
    case N_LIST: v = value_list(eval_items(j, s, n)); break;
    case N_DICT: v = eval_dict(j, s, n); break;
    case N_UNARY: v = eval_unary(j, s, n); break;
    case N_NOT: v = value_bool(!value_truth(jinja_eval(j, s, n->a))); break;
    case N_BINARY: v = eval_binary(j, s, n); break;
    case N_AND:
    case N_OR: v = eval_logic(j, s, n); break;
    case N_CONCAT: v = eval_concat(j, s, n); break;
    case N_COMPARE: v = eval_compare(j, s, n); break;
    case N_CONDITION: v = eval_condition(j, s, n); break;
    case N_ATTRIBUTE:
    case N_ITEM: v = eval_lookup(j, s, n); break;
    case N_SLICE: v = eval_slice(j, s, n); break;
    case N_CALL: v = jinja_eval_call(j, s, n, value_missing()); break;
    default: v = eval_builtin(j, s, n); break; // N_FILTER, N_TEST
    }
    jinja_leave(j);
    return v;
}
