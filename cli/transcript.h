// cli/transcript.h -- a conversation as plain text, for models that know no chat template:
//
//     SYSTEM                      if there is one, with an empty line behind it
//
//     User: what the person typed
//     Assistant: what the model answered
//     User: ...
//     Assistant:                  and here the model goes on
#ifndef CLI_TRANSCRIPT_H
#define CLI_TRANSCRIPT_H

#include <stdbool.h>
#include <stddef.h>

// What the model would write to speak for the person: an answer ends in front of it.
#define TRANSCRIPT_STOP "\nUser:"

struct transcript_turn {
    char *user, *answer; // answer: "" while there is none
};

struct transcript {
    const char *system; // may be NULL
    struct transcript_turn *turns;
    size_t count, capacity;
};

// Adds a turn without an answer. False where memory ran out; nothing has changed then.
bool transcript_add(struct transcript *t, const char *user);
// Sets the answer of the last turn; likewise.
bool transcript_answer(struct transcript *t, const char *text, size_t bytes);
void transcript_drop_last(struct transcript *t);
void transcript_drop_oldest(struct transcript *t);
void transcript_clear(struct transcript *t); // keeps the system text

// The whole conversation up to the last "Assistant:", for free(); NULL where memory ran out.
char *transcript_text(const struct transcript *t, size_t *bytes);

#endif
