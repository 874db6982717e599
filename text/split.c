// text/split.c -- runs the steps of a pre-tokenizer over a text.
//
// Pieces go from step to step as soon as they are found, so nothing is kept but the places in the text. Where the
// text has characters newer than PCRE2 knows, the expressions see a copy with their stand-ins, at the same places.
#include <string.h>

#include "text/pretokenizer.h"
#include "text/regex.h"

struct step {
    enum split_kind kind;
    enum split_behavior behavior;
    bool invert;
    enum split_prefix prefix;
    struct regex *regex;
};

struct pretokenizer {
    size_t count;
    struct step steps[SPLIT_RULES_MAX];
};

struct run {
    const struct pretokenizer *p;
    struct regex_scratch *scratch;
    const char *text, *seen; // what is cut, and what expressions see: the same or a copy
    bool first;              // the text begins the input
    pretokenizer_fn *put;
    void *user;
    struct tlm_error *err;
};

enum tlm_status pretokenizer_open(struct pretokenizer **out, const struct split_rule *rules, size_t count,
                                  struct tlm_error *err)
{
    *out = NULL;
    if (count > SPLIT_RULES_MAX)
        return error_set(err, TLM_ERR_UNSUPPORTED, "pre-tokenizer: expected at most %d steps, found %zu",
                         SPLIT_RULES_MAX, count);
    struct pretokenizer *p = calloc(1, sizeof *p);
    if (!p) return error_set(err, TLM_ERR_MEMORY, "pre-tokenizer: no memory for %zu bytes", sizeof *p);
    enum tlm_status status = TLM_OK;
    for (; p->count < count && !status; p->count++) {
        const struct split_rule *rule = &rules[p->count];
        struct step *step = &p->steps[p->count];
        *step = (struct step){
            .kind = rule->kind, .behavior = rule->behavior, .invert = rule->invert, .prefix = rule->prefix};
        if (rule->kind == SPLIT_BYTE_NUMBERS || rule->kind == SPLIT_PREFIX_SPACE || rule->kind == SPLIT_MARKS)
            continue;
        size_t length = rule->length ? rule->length : strlen(rule->pattern);
        status = regex_open(&step->regex, rule->pattern, length, rule->kind == SPLIT_LITERAL, err);
    }
    if (status)
        pretokenizer_close(p);
    else
        *out = p;
    return status;
}

void pretokenizer_close(struct pretokenizer *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->count; i++) regex_close(p->steps[i].regex);
    free(p);
}

static enum tlm_status apply(const struct run *run, size_t step, size_t start, size_t end);

// Hands a piece that is not empty to the next step.
static enum tlm_status pass(const struct run *run, size_t step, size_t start, size_t end)
{
    if (start == end) return TLM_OK;
    if (step + 1 == run->p->count) return run->put(run->user, run->text + start, end - start, run->err);
    return apply(run, step + 1, start, end);
}

static enum tlm_status pass_threes(const struct run *run, size_t step, size_t start, size_t end)
{
    size_t characters = 0;
    for (size_t i = start; i < end; i++) characters += (run->seen[i] & 0xC0) != 0x80;
    enum tlm_status status = TLM_OK;
    while (start < end && !status) {
        size_t take = characters % 3 ? characters % 3 : 3, stop = start;
        characters -= take;
        for (; stop < end; stop++)
            if ((run->seen[stop] & 0xC0) != 0x80 && !take--) break;
        status = pass(run, step, start, stop);
        start = stop;
    }
    return status;
}

static bool is_byte_number(unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || byte == 0xB2 || byte == 0xB3 || byte == 0xB9 ||
           (byte >= 0xBC && byte <= 0xBE);
}

static enum tlm_status split_byte_numbers(const struct run *run, size_t step, size_t start, size_t end)
{
    enum tlm_status status = TLM_OK;
    for (size_t stop; start < end && !status; start = stop) {
        bool number = is_byte_number((unsigned char)run->text[start]);
        for (stop = start + 1; stop < end && is_byte_number((unsigned char)run->text[stop]) == number;)
            stop++;
        status = pass(run, step, start, stop);
    }
    return status;
}

// The piece that is not yet passed on, because the next match or gap may join it.
struct pending {
    size_t start, end;
    bool any, is_match;
};

// Takes a match or the gap before one, and passes on what it completes.
static enum tlm_status take(const struct run *run, size_t step, struct pending *open, size_t start,
                            size_t end, bool is_match)
{
    const struct step *s = &run->p->steps[step];
    is_match = is_match != s->invert;
    if (s->behavior == SPLIT_ISOLATED)
        return s->kind == SPLIT_THREES && is_match ? pass_threes(run, step, start, end)
                                                   : pass(run, step, start, end);
    if (s->behavior == SPLIT_REMOVED) return is_match ? TLM_OK : pass(run, step, start, end);
    bool joins = open->any && (s->behavior == SPLIT_CONTIGUOUS             ? is_match == open->is_match
                               : s->behavior == SPLIT_MERGED_WITH_PREVIOUS ? is_match && !open->is_match
                                                                           : !is_match && open->is_match);
    if (joins) {
        open->end = end;
        open->is_match = is_match;
        return TLM_OK;
    }
    enum tlm_status status = open->any ? pass(run, step, open->start, open->end) : TLM_OK;
    *open = (struct pending){start, end, true, is_match};
    return status;
}

static enum tlm_status split(const struct run *run, size_t step, size_t start, size_t end)
{
    const struct step *s = &run->p->steps[step];
    const char *seen = run->seen + start; // expressions see the piece alone
    size_t bytes = end - start, at = 0, from = 0;
    struct pending open = {0};
    enum tlm_status status = TLM_OK;
    bool matched = false; // up to `at`
    while (from <= bytes && !status) {
        size_t a, b;
        int found = regex_find(s->regex, run->scratch, seen, bytes, from, &a, &b);
        if (found < 0)
            return error_set(
                run->err, TLM_ERR_UNSUPPORTED,
                "text: an expression of the pre-tokenizer ran over its limits in a piece of %zu bytes",
                bytes);
        if (!found) break;
        if (a == b && matched &&
            a == at) { // an empty match at the end of another: go on behind the next character
            for (from = b + 1; from < bytes && (seen[from] & 0xC0) == 0x80; from++) {
            }
            continue;
        }
        if (at < a) status = take(run, step, &open, start + at, start + a, false);
        if (!status) status = take(run, step, &open, start + a, start + b, true);
        at = from = b;
        matched = true;
    }
    if (!status && at < bytes) status = take(run, step, &open, start + at, end, false);
    if (!status && open.any) status = pass(run, step, open.start, open.end);
    return status;
}

// Writes text[0..bytes) with a mark for each space, after one for the prefix if `prefix`, or a plain space there.
static size_t rewrite(char *out, const char *text, size_t bytes, bool prefix, bool marks)
{
    static const char mark[] = "\xE2\x96\x81";
    char *p = out;
    if (prefix) p = marks ? mempcpy(p, mark, 3) : mempcpy(p, " ", 1);
    for (size_t i = 0; i < bytes; i++) {
        if (marks && text[i] == ' ')
            p = mempcpy(p, mark, 3);
        else
            *p++ = text[i];
    }
    return (size_t)(p - out);
}

// The steps that change the piece go on with a copy of it.
static enum tlm_status change(const struct run *run, size_t step, size_t start, size_t end)
{
    const struct step *s = &run->p->steps[step];
    const char *text = run->text + start;
    size_t bytes = end - start, spaces = 0;
    bool marks = s->kind == SPLIT_MARKS, prefix = *text != ' ';
    if (marks) {
        bool wanted =
            s->prefix == SPLIT_PREFIX_ALWAYS || (s->prefix == SPLIT_PREFIX_FIRST && run->first && !start);
        prefix &= wanted && !(bytes >= 3 && !memcmp(text, "\xE2\x96\x81", 3));
        for (size_t i = 0; i < bytes; i++) spaces += text[i] == ' ';
    }
    size_t room = bytes + 2 * spaces + 3;
    char *copy = malloc(2 * room);
    if (!copy) return error_set(run->err, TLM_ERR_MEMORY, "pre-tokenizer: no memory for %zu bytes", 2 * room);
    struct run inner = *run;
    inner.text = copy;
    inner.seen = copy + room;
    inner.first = false;
    rewrite(copy + room, run->seen + start, bytes, prefix, marks);
    enum tlm_status status = pass(&inner, step, 0, rewrite(copy, text, bytes, prefix, marks));
    free(copy);
    return status;
}

static enum tlm_status apply(const struct run *run, size_t step, size_t start, size_t end)
{
    const struct step *s = &run->p->steps[step];
    if (s->kind == SPLIT_BYTE_NUMBERS) return split_byte_numbers(run, step, start, end);
    return s->regex ? split(run, step, start, end) : change(run, step, start, end);
}

enum tlm_status pretokenizer_run(const struct pretokenizer *p, const char *text, size_t bytes, bool has_new,
                                 bool first, pretokenizer_fn *put, void *user, struct tlm_error *err)
{
    if (!bytes) return TLM_OK;
    if (!p->count) return put(user, text, bytes, err);
    struct run run = {
        .p = p, .text = text, .seen = text, .first = first, .put = put, .user = user, .err = err};
    char *copy = NULL;
    run.scratch = regex_scratch_open();
    if (has_new) run.seen = copy = malloc(bytes);
    enum tlm_status status;
    if (!run.scratch || !run.seen) {
        status = error_set(err, TLM_ERR_MEMORY, "pre-tokenizer: no memory for %zu bytes", bytes);
    } else {
        if (has_new) regex_replace_new(memcpy(copy, text, bytes), bytes);
        status = apply(&run, 0, 0, bytes);
    }
    regex_scratch_close(run.scratch);
    free(copy);
    return status;
}
