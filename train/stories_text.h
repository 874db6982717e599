// train/stories_text.h -- texts from patterns: choices, variables, rules.
//
//     {a|b|c}    one of them, each as likely; they may be empty and hold choices themselves
//     [name]     the variable of that name, or else the rule, whose pattern is worked out anew each time
//
// What is chosen depends on a seed, the number of the document and how many choices came before. When a text is done, sentences get
// capitals, and "a" becomes "an" where it must. A variable is worked out once, when it is set: so a story says the same colour
// wherever it names it.
#ifndef TRAIN_STORIES_TEXT_H
#define TRAIN_STORIES_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { STORY_VARIABLES = 96, STORY_STORE = 16384, STORY_TEXT = 16384 };

struct story_text {
    uint64_t seed, document, draws;
    struct {
        const char *name, *value;
    } variables[STORY_VARIABLES];
    int variable_count;
    char store[STORY_STORE]; // of their values
    size_t stored;
    char text[STORY_TEXT]; // what was said so far
    size_t length;
    char done[STORY_TEXT]; // what is finished
};

struct story_rule {
    const char *name, *pattern;
};
extern const struct story_rule story_rules[]; // ends with a NULL; train/stories_rules.c

void story_begin(struct story_text *t, uint64_t seed, uint64_t document);
// A number below n, or in [0, 1).
uint32_t story_draw(struct story_text *t, uint32_t n);
double story_chance(struct story_text *t);
// Sets a variable to what the pattern gives now; a name that is set again gets the new value. The name must live on.
void story_set(struct story_text *t, const char *name, const char *pattern);
const char *story_get(const struct story_text *t, const char *name); // "" where it is not set
// Appends what the pattern gives.
void story_say(struct story_text *t, const char *pattern);
// Puts capitals and articles right in all that was said, and returns it; it lives until the next call. Variables stay, and a new text
// begins.
const char *story_finish(struct story_text *t);
int story_words(const char *text);

#endif
