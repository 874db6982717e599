// train/stories.h -- a corpus of our own: small stories and talks about them, made by a grammar from a seed.
//
// A story has a hero (a kind, a name, a character), a wish that is told at its beginning, an obstacle on the way, a way out of it and an
// end in which the wish comes true. The way out is prepared: a thing that was given at home, somebody who was met, or helped before, or
// what the hero is like. Frames tell it in order, from the middle, at a bedside, as a letter, or of two friends. What comes late is said by what
// came early, so that a model has something to learn that is not in the last few words.
//
// Document n is a function of the seed and n. Combinations of hero's kind, wish and obstacle are parted once and for all: a tenth of
// them occurs in held-out documents alone, the others never there.
#ifndef TRAIN_STORIES_H
#define TRAIN_STORIES_H

#include <jansson.h>
#include <stdbool.h>

#include "train/stories_text.h"

struct stories_options {
    uint64_t seed;
    bool held_out; // write the held-out combinations, instead of the others
    double talks;  // the share of documents that are conversations
};

struct stories; // room for one document at a time

struct stories *stories_open(const struct stories_options *o); // NULL without memory
void stories_close(struct stories *s);                         // NULL is allowed
// Document n as an object: {"text": a story} or {"messages": [a conversation]}. NULL without memory.
json_t *stories_document(struct stories *s, uint64_t n);

#endif
