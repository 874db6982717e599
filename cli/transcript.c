// cli/transcript.c -- see cli/transcript.h.
#include "cli/transcript.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool transcript_add(struct transcript *t, const char *user)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 16;
        struct transcript_turn *turns = reallocarray(t->turns, capacity, sizeof *turns);
        if (!turns) return false;
        t->turns = turns;
        t->capacity = capacity;
    }
    struct transcript_turn turn = {strdup(user), strdup("")};
    if (!turn.user || !turn.answer) {
        free(turn.user);
        free(turn.answer);
        return false;
    }
    t->turns[t->count++] = turn;
    return true;
}

bool transcript_answer(struct transcript *t, const char *text, size_t bytes)
{
    char *answer = strndup(text, bytes);
    if (!answer) return false;
    free(t->turns[t->count - 1].answer);
    t->turns[t->count - 1].answer = answer;
    return true;
}

static void drop(struct transcript *t, size_t i)
{
    free(t->turns[i].user);
    free(t->turns[i].answer);
    t->count--;
    memmove(t->turns + i, t->turns + i + 1, (t->count - i) * sizeof *t->turns);
}

void transcript_drop_last(struct transcript *t)
{
    drop(t, t->count - 1);
}

void transcript_drop_oldest(struct transcript *t)
{
    drop(t, 0);
}

void transcript_clear(struct transcript *t)
{
    while (t->count) transcript_drop_last(t);
    free(t->turns);
    t->turns = NULL;
    t->capacity = 0;
}

char *transcript_text(const struct transcript *t, size_t *bytes)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, bytes);
    if (!f) return NULL;
    if (t->system) fprintf(f, "%s\n\n", t->system);
    for (size_t i = 0; i < t->count; i++) {
        fprintf(f, "User: %s\nAssistant:", t->turns[i].user);
        if (i + 1 < t->count) fprintf(f, "%s\n", t->turns[i].answer);
    }
    bool failed = ferror(f);
    if (fclose(f) || failed) {
        free(text);
        return NULL;
    }
    return text;
}
