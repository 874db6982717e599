// text/jinja_eval.h -- the objects of a rendering that expressions and statements share.
#ifndef TEXT_JINJA_EVAL_H
#define TEXT_JINJA_EVAL_H

#include "text/jinja_builtin.h"

struct scope { // a frame while it runs
    struct scope *parent;
    const struct frame *frame;
    struct value slots[]; // one a symbol
};

struct macro {
    const struct node *node; // N_MACRO or N_CALL_BLOCK
    struct scope *scope;     // where it was defined
    struct value name;       // missing for the body of a call block
};

struct loop {
    struct iterator *items;
    struct value iterable;
    struct value before, current, after; // missing where there is none (yet)
    int64_t index0, length;              // length: -1 until somebody asks
    int64_t depth0;                      // of {% for ... recursive %}
    struct value last_changed;
    const struct node *node; // N_FOR
    struct scope *outer;     // that the loop stands in
};

struct value jinja_eval(struct jinja *j, struct scope *s, const struct node *n);
// The same with one more keyword argument, `caller`, for a call.
struct value jinja_eval_call(struct jinja *j, struct scope *s, const struct node *n, struct value caller);
// A filter over the text of its block.
struct value jinja_eval_filter(struct jinja *j, struct scope *s, const struct node *n, struct value subject);
void jinja_assign(struct jinja *j, struct scope *s, const struct node *target, struct value v);

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };
enum flow jinja_execute(struct jinja *j, struct scope *s, const struct node *n);
struct scope *scope_enter(struct jinja *j, struct scope *parent, const struct frame *f);
int64_t loop_length(struct jinja *j, struct loop *l);

#endif
