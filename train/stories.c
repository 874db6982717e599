// train/stories.c -- see train/stories.h.
#include "train/stories.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/rng.h"
#include "train/stories_internal.h"

enum { WORDS_MIN = 100, WORDS_MAX = 250, HELD_OUT = 10 };

struct stories *stories_open(const struct stories_options *o)
{
    struct stories *s = calloc(1, sizeof *s);
    if (s) s->options = *o;
    return s;
}

void stories_close(struct stories *s)
{
    free(s);
}

bool stories_is_held_out(int kind, int wish, int obstacle)
{
    uint32_t r[4];
    rng_philox(0x5701, (uint64_t)kind, (uint64_t)wish << 32 | (uint64_t)obstacle, r);
    return r[0] % HELD_OUT == 0;
}

// ---- words --------------------------------------------------------------------------------------------

void stories_set_pronouns(struct story_text *t, const char *name, char gender)
{
    static const char *const names[][6] = {
        {"he", "him", "his", "himself", "He", "His"},
        {"h.he", "h.him", "h.his", "h.himself", "h.He", "h.His"},
        {"k.he", "k.him", "k.his", "k.himself", "k.He", "k.His"},
    };
    static const char *const words[][6] = {{"he", "him", "his", "himself", "He", "His"},
                                           {"she", "her", "her", "herself", "She", "Her"},
                                           {"I", "me", "my", "myself", "I", "My"}};
    int row = !*name ? 0 : *name == 'h' ? 1 : 2, word = gender == 'm' ? 0 : gender == 'f' ? 1 : 2;
    for (int i = 0; i < 6; i++) story_set(t, names[row][i], words[word][i]);
}

static char gender_of(struct story_text *t, char gender)
{
    return gender != '?' ? gender : story_draw(t, 2) ? 'm' : 'f';
}

// A name that none of the variables has that are listed, up to a NULL.
static void set_name(struct story_text *t, const char *variable, char gender, const char *const *others)
{
    for (bool taken = true; taken;) {
        story_set(t, variable, gender == 'm' ? story_boys : story_girls);
        taken = false;
        for (const char *const *o = others; *o; o++)
            taken |= !strcmp(story_get(t, *o), story_get(t, variable));
    }
}

// What a character shows itself in.
static const char *shows(const char *trait)
{
    static const struct story_binding rows[] = {
        {"clever",
         "{[he] could solve every riddle|[he] always knew how things worked|[he] had a head full of ideas}"},
        {"patient", "{[he] could watch a snail cross the road|[he] could wait for hours without a word|[he] "
                    "never hurried}"},
        {"brave", "{[he] was not afraid of thunder|[he] slept without a light|[he] was the first to jump "
                  "into cold water}"},
        {"careful", "{[he] looked at everything twice|[he] had never broken a cup|[he] tested every step}"},
        {"curious",
         "{[he] asked why a hundred times a day|[he] looked into every hole|[he] wanted to know everything}"},
        {"stubborn", "{[he] never gave up|when [he] began something, [he] finished it|nobody could make "
                     "[him] turn back}"},
        {"kind", "{[he] shared everything [he] had|[he] carried snails across the road|[he] could not see "
                 "anybody sad}"},
        {"cheerful",
         "{[he] laughed more than all the others|[he] sang from morning to night|[he] knew a hundred jokes}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].name, trait)) return rows[i].pattern;
    TLM_ASSERT(!"a trait that nobody knows");
    return "";
}

// ---- what happens -------------------------------------------------------------------------------------

static bool fits(int kind, int wish, int obstacle)
{
    const struct story_obstacle *o = &story_obstacles[obstacle];
    unsigned seasons = (o->only | story_wishes[wish].only) & (STORY_WINTER | STORY_SUMMER);
    return !(story_kinds[kind].can & o->defeated) && seasons != (STORY_WINTER | STORY_SUMMER);
}

static void choose(struct stories *s, int kind, int wish)
{
    do {
        s->kind = kind >= 0 ? kind : (int)story_draw(&s->t, (uint32_t)story_kind_count);
        s->wish = wish >= 0 ? wish : (int)story_draw(&s->t, (uint32_t)story_wish_count);
        s->obstacle = (int)story_draw(&s->t, (uint32_t)story_obstacle_count);
    } while (!fits(s->kind, s->wish, s->obstacle) ||
             stories_is_held_out(s->kind, s->wish, s->obstacle) != s->options.held_out);
}

static const struct story_way *choose_way(struct stories *s, const struct story_way *ways, uint32_t room)
{
    uint32_t count = 0;
    while (count < room && ways[count].by) count++;
    return &ways[story_draw(&s->t, count)];
}

static void set_helper(struct stories *s, const char *kinds)
{
    struct story_text *t = &s->t;
    static const char *const taken[] = {"name", "friend", "pal", "kid", NULL};
    story_set(t, "h.kind", kinds);
    story_set(t, "h.look", "a {very |}{old|big|small|tired|fat|thin|polite|busy|sleepy|funny|young|gray}");
    const char *kind = story_get(t, "h.kind");
    char gender = strstr(kind, "woman") || strstr(kind, "maid") ? 'f'
                  : strstr(kind, "man") || strstr(kind, "shepherd") || strstr(kind, "stag")
                      ? 'm'
                      : gender_of(t, '?');
    set_name(t, "helper", gender, taken);
    stories_set_pronouns(t, "h", gender);
}

// How the obstacle is overcome, and what the story tells of it before and behind.
static void set_way(struct stories *s)
{
    struct story_text *t = &s->t;
    const struct story_obstacle *o = &story_obstacles[s->obstacle];
    static const char *const traits = "{clever|patient|brave|careful|curious|stubborn|kind|cheerful}";
    const struct story_way *way;
    s->mode = (enum story_mode)story_draw(t, 4);
    story_set(t, "trait", traits);
    story_set(t, "gift", "{[gift.snack]||}");
    story_set(t, "meeting", "");
    story_set(t, "item", "");
    story_set(t, "helper", "");
    switch (s->mode) {
    case STORY_ITEM:
        way = choose_way(s, o->items, 2);
        story_set(t, "item", way->by);
        story_set(t, "gift", "[gift.item]");
        story_set(t, "solution", "[remembers] ");
        story_set(t, "moral", "[moral.item]");
        story_set(t, "credit", "the [item] from [his] [giver]");
        break;
    case STORY_HELPER:
        set_helper(s, (way = choose_way(s, o->helpers, 3))->by);
        story_set(t, "you.welcome",
                  "{It was nothing|I was glad to|That was fun|One day you will help somebody too}");
        story_set(t, "solution", "[need] ");
        story_set(t, "moral", "[moral.helper]");
        break;
    case STORY_KINDNESS:
        set_helper(s, (way = choose_way(s, o->helpers, 3))->by);
        story_set(t, "you.welcome", "{You helped me first|You were kind to me|Now we are even}");
        story_set(t, "meeting", "[kindness]");
        story_set(t, "solution", "[called] ");
        story_set(t, "moral", "[moral.kindness]");
        break;
    case STORY_TRAIT:
    default:
        way = choose_way(s, o->traits, 3);
        story_set(t, "trait", way->by);
        story_set(t, "solution", "[own.way] ");
        story_set(t, "moral", "[moral.trait]");
        story_set(t, "credit", "the {long|hard} way");
        break;
    }
    story_set(t, "way.out", way->text);
    bool helped = s->mode == STORY_HELPER || s->mode == STORY_KINDNESS;
    if (helped) story_set(t, "credit", "[helper] the [h.kind]");
    story_set(t, "solution", helped ? "[solution][way.out] {[thanks]|[thanks]|}" : "[solution][way.out]");
    story_set(t, "trait.shows", shows(story_get(t, "trait")));
}

// ---- telling ------------------------------------------------------------------------------------------

// Who it is about; `self`: the hero tells it.
static void set_hero(struct stories *s, bool self)
{
    struct story_text *t = &s->t;
    static const char *const nobody[] = {NULL}, *const name[] = {"name", NULL},
                             *const two[] = {"name", "friend", NULL},
                             *const three[] = {"name", "friend", "pal", NULL};
    const struct story_kind *kind = &story_kinds[s->kind];
    char gender = gender_of(t, kind->gender), other = gender_of(t, '?');
    set_name(t, "name", gender, nobody);
    set_name(t, "friend", gender_of(t, '?'), name);
    set_name(t, "pal", gender_of(t, '?'), two);
    set_name(t, "kid", other, three);
    stories_set_pronouns(t, "k", other);
    stories_set_pronouns(t, "", self ? 'i' : gender);
    story_set(t, "kind", kind->name);
    story_set(t, "home", kind->home);
    story_set(t, "hero", self ? "I" : "[name]");
    story_set(t, "hero.o", self ? "me" : "[name]");
    story_set(t, "the.kind", self ? "I" : "{[name]|the little [kind]|[name] the [kind]}");
    story_set(t, "shade", "{red|blue|green|yellow|white|purple|striped|spotted|woolen|checked}");
    story_set(t, "look",
              "{a [shade] {scarf|cap|ribbon|jacket|hat|bow tie}|{big|round|sharp|dark|sleepy} "
              "eyes|{short|long|quick} legs|a {white|dark|tiny} spot on [his] "
              "{nose|chin|ear}|a crooked tooth|{one|a} {torn|bent|white} ear|{a loud|a soft|a deep} voice|a "
              "stamp collection|cold feet}");
    story_set(t, "teller", "{mother|father|grandmother|grandfather}");
    story_set(t, "snack",
              "{apple|piece of bread|bag of nuts|slice of cake|pear|piece of cheese|boiled egg|plum}");
    for (const char *variable = "pal.kind";; variable = "friend.kind") {
        do {
            story_set(t, variable, "{mouse|cat|hare|dog|pig|crow|goose|frog|mole|sheep}");
        } while (!strcmp(story_get(t, variable), kind->name));
        if (*variable == 'f') break;
    }
}

// The wish as the hero's friends and the hero say it: the same words with another "his".
static void set_wish(struct stories *s)
{
    struct story_text *t = &s->t;
    const struct story_wish *w = &story_wishes[s->wish];
    char his[8];
    for (const struct story_binding *b = story_bindings; b->name; b++) story_set(t, b->name, b->pattern);
    while (!strcmp(story_get(t, "family"), story_get(t, "giver")))
        story_set(t, "giver", "{mother|father|grandmother|grandfather}");
    snprintf(his, sizeof his, "%s", story_get(t, "his"));
    story_set(t, "wish", w->wish);
    story_set(t, "his", "my");
    story_set(t, "mywish", w->wish);
    story_set(t, "his", "your");
    story_set(t, "yourwish", w->wish);
    story_set(t, "his", his);
    story_set(t, "place", w->place);
    story_set(t, "done", w->done);
}

const char *stories_tell(struct stories *s, int kind, int wish, bool plain)
{
    struct story_text *t = &s->t;
    static const char *const frames[] = {"[frame.plain]", "[frame.plain]",  "[frame.tiny]", "[frame.quick]",
                                         "[frame.short]", "[frame.middle]", "[frame.bed]",  "[frame.pal]",
                                         "[frame.pal]",   "[frame.letter]"};
    enum { PLAIN = 6, FIRST_PAL = 7, FRAMES = sizeof frames / sizeof *frames };
    for (;;) {
        uint32_t frame = story_draw(t, plain ? PLAIN : FRAMES);
        choose(s, kind, wish);
        // Who goes with a friend need not find one.
        if (frame >= FIRST_PAL && frame < FRAMES - 1 && story_wishes[s->wish].only & STORY_LONELY) frame = 0;
        t->variable_count = 0;
        t->stored = 0;
        set_hero(s, frame == FRAMES - 1);
        set_wish(s);
        const struct story_obstacle *o = &story_obstacles[s->obstacle];
        story_set(t, "noun", o->noun);
        story_set(t, "noun.the",
                  !strncmp(o->noun, "a ", 2)    ? o->noun + 2
                  : !strncmp(o->noun, "an ", 3) ? o->noun + 3
                                                : o->noun);
        story_set(t, "noun.the", "the [noun.the]");
        story_set(t, "complaint", o->complaint);
        set_way(s);
        story_set(t, "meet", o->meet);
        story_set(t, "fail", o->fail);
        story_set(t, "reason", story_wishes[s->wish].reason);
        story_set(t, "success", story_wishes[s->wish].success);
        story_set(t, "after", story_wishes[s->wish].after);
        story_say(t, frames[frame]);
        const char *text = story_finish(t);
        int words = story_words(text);
        if (words >= WORDS_MIN && words <= WORDS_MAX) return text;
    }
}

// ---- documents ----------------------------------------------------------------------------------------

json_t *stories_document(struct stories *s, uint64_t n)
{
    story_begin(&s->t, s->options.seed, n);
    if (story_chance(&s->t) >= s->options.talks)
        return json_pack("{s:s}", "text", stories_tell(s, -1, -1, false));
    json_t *messages = stories_talk(s);
    return messages ? json_pack("{s:o}", "messages", messages) : NULL;
}
