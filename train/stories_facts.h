// train/stories_facts.h -- small facts that conversations ask for.
#ifndef TRAIN_STORIES_FACTS_H
#define TRAIN_STORIES_FACTS_H

#include "train/stories_words.h"

struct story_topic {
    const char *question, *answer;     // patterns with [thing] and [fact]
    const struct story_binding *facts; // thing and fact, up to a NULL
};

extern const struct story_topic story_topics[];
extern const int story_topic_count;
extern const char *const story_numbers[21]; // "zero" to "twenty"
extern const char *const story_sizes[];     // animals, each larger than the one before it, up to a NULL

#endif
