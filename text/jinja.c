// text/jinja.c -- compiling and rendering: where failures arrive, and where text enters and leaves.
#include "text/jinja.h"

#include <string.h>

#include "text/jinja_eval.h"

enum { COMPILE_STEPS = 20000000, RENDER_STEPS = 20000000, OUTPUT_CHARS = 1 << 26 };
static const size_t compile_memory = (size_t)256 << 20, render_memory = (size_t)512 << 20;

enum tlm_status jinja_compile(struct jinja_template **out, const char *source, size_t bytes,
                              struct tlm_error *err)
{
    *out = NULL;
    struct jinja_template *t = calloc(1, sizeof *t);
    if (!t) return error_set(err, TLM_ERR_MEMORY, "template: no memory for it");
    struct jinja *j = &t->j;
    *j = (struct jinja){.err = err, .line = 1, .steps_left = COMPILE_STEPS};
    volatile enum tlm_status status = arena_init(&j->arena, compile_memory, "template", err);
    if (!status) status = (enum tlm_status)setjmp(j->failed);
    if (!status) {
        t->body = jinja_parse(j, value_utf8(j, source, bytes, 0));
        t->frame = jinja_resolve(j, t->body);
        *out = t;
        return TLM_OK;
    }
    jinja_free(t);
    return status;
}

void jinja_free(struct jinja_template *t)
{
    if (!t) return;
    arena_free(&t->j.arena);
    free(t);
}

static void set_variables(struct jinja *j, const struct jinja_options *o)
{
    j->variables = dict_new(j);
    for (size_t i = 0; i < o->variable_count; i++) {
        const struct jinja_variable *v = &o->variables[i];
        uint32_t mark = v->trusted ? 0 : JINJA_INPUT;
        dict_set(j, j->variables, value_utf8(j, v->name, strlen(v->name), 0),
                 json_value(j, v->value, mark, v->trusted_key));
    }
}

// The characters as UTF-8, and the runs of those that came from variables.
static void encode_output(struct jinja *j, const struct text *t, struct jinja_output *out)
{
    size_t bytes = 0, spans = 0, at = 0, span = 0;
    char buffer[4];
    for (int64_t i = 0; i < t->count; i++) {
        uint32_t c = t->at[i] & JINJA_CHAR;
        if (c >= 0xD800 && c <= 0xDFFF)
            FAIL(j, "expected characters, found a surrogate (U+%04X) in the output", c);
        bytes += char_encode(c, buffer);
        spans += (t->at[i] & JINJA_INPUT) && (!i || !(t->at[i - 1] & JINJA_INPUT));
    }
    out->text = malloc(bytes + 1);
    out->input = malloc((spans + 1) * sizeof *out->input);
    if (!out->text || !out->input) jinja_fail(j, TLM_ERR_MEMORY, "no memory for %zu bytes of output", bytes);
    for (int64_t i = 0; i < t->count; i++) {
        bool input = t->at[i] & JINJA_INPUT, before = i && (t->at[i - 1] & JINJA_INPUT);
        if (input && !before) out->input[span].begin = at;
        if (!input && before) out->input[span++].end = at;
        at += char_encode(t->at[i], out->text + at);
    }
    if (t->count && (t->at[t->count - 1] & JINJA_INPUT)) out->input[span++].end = at;
    TLM_ASSERT(at == bytes && span == spans);
    out->text[bytes] = 0;
    out->bytes = bytes;
    out->input_count = spans;
}

enum tlm_status jinja_render(const struct jinja_template *t, const struct jinja_options *o,
                             struct jinja_output *out, struct tlm_error *err)
{
    *out = (struct jinja_output){0};
    struct text text = {0};
    struct jinja j = {.err = err, .line = 1, .now = o->now};
    j.steps_left = o->max_steps ? o->max_steps : RENDER_STEPS;
    j.max_output = o->max_output ? o->max_output : OUTPUT_CHARS;
    j.out = &text;
    volatile enum tlm_status status =
        arena_init(&j.arena, o->max_memory ? o->max_memory : render_memory, "template", err);
    if (!status) status = (enum tlm_status)setjmp(j.failed);
    if (!status) {
        set_variables(&j, o);
        j.root = scope_enter(&j, NULL, t->frame);
        jinja_execute(&j, j.root, t->body);
        encode_output(&j, &text, out);
    } else {
        jinja_output_free(out);
    }
    arena_free(&j.arena);
    return status;
}

void jinja_output_free(struct jinja_output *out)
{
    free(out->text);
    free(out->input);
    *out = (struct jinja_output){0};
}
