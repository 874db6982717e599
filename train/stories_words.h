// train/stories_words.h -- what stories are about: kinds of heroes, wishes, obstacles. Patterns are those of train/stories_text.h.
//
// Variables that patterns use: of the hero [hero] (the subject of a sentence), [hero.o] (its object), [hero.s] (whose), [he] [him]
// [his] [himself], [He] and so on at the beginning of a sentence behind speech; [name], by which others call the hero; [place], where
// the wish leads; of the one who helps [helper], [h.kind], [h.he] [h.him] [h.his] [h.He]; and the words of stories_bindings.
#ifndef TRAIN_STORIES_WORDS_H
#define TRAIN_STORIES_WORDS_H

enum { STORY_SWIMS = 1, STORY_CLIMBS = 2, STORY_SMALL = 4, STORY_STRONG = 8, STORY_FURRY = 16 };
enum { STORY_WINTER = 1, STORY_SUMMER = 2, STORY_LONELY = 4 };

struct story_kind {
    const char *name;
    char gender;  // 'm', 'f', or '?' for either
    unsigned can; // STORY_SWIMS, ...
    const char *home;
};

struct story_wish {
    const char *wish;    // "to see the sea"
    const char *place;   // where that is
    const char *reason;  // sentences: how the wish came about
    const char *success; // sentences: at the place
    const char *after;   // a sentence: what came of it
    const char *done;    // "had seen the sea"
    unsigned only;       // in winter, in summer, by a hero without friends; 0: any
};

struct story_way {    // out of an obstacle
    const char *by;   // an item, kinds of helpers, or traits of the hero
    const char *text; // sentences
};

struct story_obstacle {
    const char *noun;      // "a wide river"
    const char *complaint; // what the hero says of it, in a sentence with "I"
    const char *meet, *fail;
    unsigned defeated;                                // heroes who can one of these have no trouble with it
    unsigned only;                                    // in that season
    struct story_way items[2], helpers[3], traits[3]; // up to a NULL
};

struct story_binding {
    const char *name, *pattern;
};

extern const struct story_kind story_kinds[];
extern const struct story_wish story_wishes[];
extern const struct story_obstacle story_obstacles[];
extern const int story_kind_count, story_wish_count, story_obstacle_count;
extern const struct story_binding story_bindings[]; // words that every story draws, up to a NULL
extern const char story_boys[], story_girls[];      // names

#endif
