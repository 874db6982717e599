// train/stories_internal.h -- what train/stories.c shares with train/stories_talk.c.
#ifndef TRAIN_STORIES_INTERNAL_H
#define TRAIN_STORIES_INTERNAL_H

#include "train/stories.h"
#include "train/stories_words.h"

enum story_mode { STORY_ITEM, STORY_HELPER, STORY_KINDNESS, STORY_TRAIT };

struct stories {
    struct stories_options options;
    struct story_text t;
    int kind, wish, obstacle; // of the last story
    enum story_mode mode;
};

// Tells a story of `kind` (-1: any) and `wish` (-1: any) and returns its text; the variables of s->t say what is in it. `plain`: by
// somebody who was not there.
const char *stories_tell(struct stories *s, int kind, int wish, bool plain);
// A conversation: an array of messages, NULL without memory.
json_t *stories_talk(struct stories *s);
// A combination that only held-out documents have.
bool stories_is_held_out(int kind, int wish, int obstacle);
// Sets NAME.he, NAME.him and so on, or he, him where `name` is "", for 'm', 'f', or 'i' (who tells it).
void stories_set_pronouns(struct story_text *t, const char *name, char gender);

#endif
