// generate/thoughts.c -- see generate/thoughts.h.
#include "generate/thoughts.h"

#include <string.h>

struct marker {
    const char *text;
    enum thought_part next;
};

static const struct marker tags[] = {{"<think>", THOUGHT_THOUGHT}, {"</think>", THOUGHT_ANSWER}, {NULL, 0}};
// Behind a <|message|> it depends on the header.
static const struct marker channels[] = {{"<|start|>", THOUGHT_HEADER},
                                         {"<|channel|>", THOUGHT_HEADER},
                                         {"<|message|>", THOUGHT_ANSWER},
                                         {"<|end|>", THOUGHT_HEADER},
                                         {"<|return|>", THOUGHT_HEADER},
                                         {"<|call|>", THOUGHT_HEADER},
                                         {NULL, 0}};

static const struct marker *markers_of(enum thought_style style)
{
    return style == THOUGHT_CHANNELS ? channels : tags;
}

void thoughts_begin(struct thoughts *t, enum thought_style style, enum thought_part part, thoughts_fn *out,
                    void *user)
{
    *t = (struct thoughts){.style = style, .part = part, .leading = true, .out = out, .user = user};
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hand_out(struct thoughts *t, const char *text, size_t bytes)
{
    if (t->part == THOUGHT_HEADER) {
        size_t room = sizeof t->header - t->header_bytes, n = bytes < room ? bytes : room;
        memcpy(t->header + t->header_bytes, text, n);
        t->header_bytes += n;
        return 0;
    }
    while (t->leading && bytes && is_space(*text)) text++, bytes--;
    if (!bytes) return 0;
    t->leading = false;
    return t->out(t->user, t->part, text, bytes);
}

static void pass(struct thoughts *t, const struct marker *m)
{
    bool spoken = t->header_bytes >= 5 && !memcmp(t->header, "final", 5);
    t->part = !strcmp(m->text, "<|message|>") && !spoken ? THOUGHT_THOUGHT : m->next;
    t->header_bytes = 0;
    t->leading = true;
}

// One byte of text: it continues what is held, which is a marker, begins one, or is text.
static int feed_byte(struct thoughts *t, char c)
{
    t->held[t->held_bytes++] = c;
    for (;;) {
        bool prefix = false;
        for (const struct marker *m = markers_of(t->style); m->text; m++) {
            size_t length = strlen(m->text);
            if (t->held_bytes > length || memcmp(m->text, t->held, t->held_bytes) != 0) continue;
            if (t->held_bytes == length) {
                t->held_bytes = 0;
                pass(t, m);
                return 0;
            }
            prefix = true;
        }
        if (prefix || !t->held_bytes) return 0;
        int stop = hand_out(t, t->held, 1); // the first byte is text
        memmove(t->held, t->held + 1, --t->held_bytes);
        if (stop) return stop;
    }
}

int thoughts_feed(struct thoughts *t, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        // A run without '<' passes as a whole.
        const char *next = memchr(text + i, '<', bytes - i);
        size_t run = next ? (size_t)(next - (text + i)) : bytes - i;
        int stop;
        if (!t->held_bytes && run) {
            stop = hand_out(t, text + i, run);
            i += run;
        } else {
            stop = feed_byte(t, text[i++]);
        }
        if (stop) return stop;
    }
    return 0;
}

int thoughts_end(struct thoughts *t)
{
    size_t bytes = t->held_bytes;
    t->held_bytes = 0;
    return bytes ? hand_out(t, t->held, bytes) : 0;
}

enum thought_part thoughts_of_prompt(enum thought_style style, const char *text, size_t bytes)
{
    while (bytes && is_space(text[bytes - 1])) bytes--;
    const char *end = style == THOUGHT_CHANNELS ? "<|start|>assistant" : "<think>";
    size_t length = strlen(end);
    bool opened = bytes >= length && !memcmp(text + bytes - length, end, length);
    if (!opened) return THOUGHT_ANSWER;
    return style == THOUGHT_CHANNELS ? THOUGHT_HEADER : THOUGHT_THOUGHT;
}

const char *thoughts_closing(enum thought_style style)
{
    return style == THOUGHT_CHANNELS ? "<|end|><|start|>assistant<|channel|>final<|message|>"
                                     : "\n</think>\n\n";
}
