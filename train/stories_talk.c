// train/stories_talk.c -- conversations: greetings, who speaks, stories that were asked for, questions about stories, small facts.
#include <stdlib.h>
#include <string.h>

#include "train/stories_facts.h"
#include "train/stories_internal.h"

struct talk {
    struct stories *s;
    json_t *messages;
    unsigned asked; // questions about the story that were asked
    bool failed;    // there was no memory
};

static void put(struct talk *k, const char *role, const char *text)
{
    k->failed |=
        json_array_append_new(k->messages, json_pack("{s:s, s:s}", "role", role, "content", text)) != 0;
}

// What `role` says, by a pattern.
static void say(struct talk *k, const char *role, const char *pattern)
{
    story_say(&k->s->t, pattern);
    put(k, role, story_finish(&k->s->t));
}

static void exchange(struct talk *k, const char *question, const char *answer)
{
    say(k, "user", question);
    say(k, "assistant", answer);
}

struct pair {
    const char *question, *answer;
};

static void exchange_any(struct talk *k, const struct pair *pairs, uint32_t count)
{
    const struct pair *p = &pairs[story_draw(&k->s->t, count)];
    exchange(k, p->question, p->answer);
}
#define ANY(k, pairs) exchange_any((k), (pairs), sizeof(pairs) / sizeof *(pairs))

// ---- small talk ---------------------------------------------------------------------------------------

static const struct pair greetings[] = {
    {"{hello|hi|hey|good day}{!|.|}",
     "{hello|hi}! {What can I do for you|Shall I tell you a story|What would you like to hear}?"},
    {"good {morning|evening|afternoon}{!|.}",
     "{Good day|Hello} to you! {What would you like to hear|Shall I tell you a story}?"},
    {"{hello|hi}, {how are you|how is it going}?",
     "{I am fine, thank you|very well, thank you}. {And you|How are you}?"},
    {"{hello|hi}, my name is [me].", "{hello|hi}, [me]! {Nice to meet you|It is good to meet you}. {I am "
                                     "tinylm's stories model.|Shall I tell you a story?}"},
};
static const struct pair identity[] = {
    {"{who|what} are you?",
     "I am tinylm's stories model. {I tell small stories|I like to tell stories|Ask me for a story}."},
    {"{what is your name|do you have a name|what should I call you}?",
     "{my name is tinylm|you can call me tinylm|I am called tinylm}. I am a small model that tells stories."},
    {"{what can you do|how can you help me|what are you good at}?",
     "I can tell {small|} stories, answer questions about them, and {add small numbers|name colors and "
     "opposites|say what animals say}."},
    {"are you a {person|human|real person|robot|child}?",
     "no, I am {tinylm's stories model|a small language model}. {I was made of numbers and stories|I live in "
     "a computer}."},
    {"who made you?",
     "I was trained by the tinylm project{ on stories that a program wrote|, from stories}."},
    {"how old are you?", "I am {a model and have no age|not a person, so I have no birthday}. {But I know "
                         "many stories|Shall I tell you a story}!"},
    {"do you like {stories|rain|cake|music}?",
     "I am only a model, but {stories are what I know best|I know many stories about it}."},
};
static const struct pair goodbyes[] = {
    {"{thank you|thanks}{!|.}", "{you are welcome|it was a pleasure}!"},
    {"{bye|goodbye|see you|good night}{!|.}",
     "{goodbye|bye|see you}! {Come back for another story|Sleep well|Take care}."},
    {"{that was nice|I liked that|great}{, thank you|}!",
     "{I am glad|thank you}! {Ask me for another one any time|See you soon}."},
};

// ---- facts --------------------------------------------------------------------------------------------

static void ask_fact(struct talk *k)
{
    struct story_text *t = &k->s->t;
    const struct story_topic *topic = &story_topics[story_draw(t, (uint32_t)story_topic_count)];
    uint32_t count = 0;
    while (topic->facts[count].name) count++;
    const struct story_binding *fact = &topic->facts[story_draw(t, count)];
    story_set(t, "thing", fact->name);
    story_set(t, "fact", fact->pattern);
    exchange(k, topic->question, topic->answer);
}

static void ask_sum(struct talk *k)
{
    struct story_text *t = &k->s->t;
    int a = (int)story_draw(t, 11), b = (int)story_draw(t, 11);
    bool minus = story_draw(t, 3) == 0, words = story_draw(t, 2) == 0;
    if (minus && b > a) {
        int swapped = a;
        a = b, b = swapped;
    }
    int numbers[] = {a, b, minus ? a - b : a + b};
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        char digits[8];
        snprintf(digits, sizeof digits, "%d", numbers[i]);
        story_set(t, names[i], words ? story_numbers[numbers[i]] : digits);
    }
    if (words)
        exchange(k,
                 minus ? "{what is|how much is} [a] {minus|take away} [b]?"
                       : "{what is|how much is} [a] {plus|and} [b]?",
                 minus ? "{[a] minus [b] is [c].|[c].}" : "{[a] plus [b] is [c].|[c].}");
    else
        exchange(k, minus ? "{what is|how much is|} [a] - [b]?" : "{what is|how much is|} [a] + [b]?",
                 minus ? "[a] - [b] = [c]" : "[a] + [b] = [c]");
}

static void ask_size(struct talk *k)
{
    struct story_text *t = &k->s->t;
    uint32_t count = 0, small, large;
    while (story_sizes[count]) count++;
    small = story_draw(t, count - 1);
    large = small + 1 + story_draw(t, count - small - 1);
    story_set(t, "small", story_sizes[small]);
    story_set(t, "large", story_sizes[large]);
    exchange(k,
             "{which is bigger, {[small] or [large]|[large] or [small]}?|is [large] bigger than "
             "[small]?|what is bigger, {[small] or [large]|[large] or [small]}?}",
             "[large] is bigger than [small].");
}

static void ask_number(struct talk *k)
{
    struct story_text *t = &k->s->t;
    uint32_t n = story_draw(t, 19) + 1;
    story_set(t, "a", story_numbers[n - 1]);
    story_set(t, "b", story_numbers[n]);
    story_set(t, "c", story_numbers[n + 1]);
    static const struct pair pairs[] = {
        {"{which number|what} comes after [b]?", "{[c].|after [b] comes [c].}"},
        {"{which number|what} comes before [b]?", "{[a].|before [b] comes [a].}"},
        {"which number is between [a] and [c]?", "[b]{.| is between [a] and [c].}"}};
    ANY(k, pairs);
}

static void ask_something(struct talk *k)
{
    switch (story_draw(&k->s->t, 8)) {
    case 0: ask_size(k); break;
    case 1: ask_number(k); break;
    case 2:
    case 3: ask_sum(k); break;
    default: ask_fact(k); break;
    }
}

// ---- stories ------------------------------------------------------------------------------------------

// Questions that the last story answers, and their answers.
static void ask_about(struct talk *k)
{
    static const struct pair always[] = {
        {"{who is the story about|who is the hero}?",
         "{it is about [name], a [kind]|the hero is [name], the [kind]|[name], the [kind]}."},
        {"what did [name] {want|wish for}?", "{[name]|[he]} wanted [wish]."},
        {"{where did [name] go|where did [name] want to go}?", "{[name] went to [place]|to [place]}."},
        {"{what was in the way|what was the trouble|what made it hard for [name]}?",
         "{there was [noun]|[noun]}."},
        {"what {was [name] like|kind of [kind] was [name]}?", "{[name]|[he]} was [trait]."},
        {"{did [name] get what [he] wanted|did it end well|how did it end}?",
         "{yes, [name] [done]|it ended well: [name] [done]}."},
        {"{what animal|what} is [name]?", "[name] is a [kind]."},
    };
    static const struct pair of_items[] = {
        {"what did [name] {get from [his] [giver]|take along}?", "a [item]{.| from [his] [giver].}"},
        {"{who gave [name] the [item]|from whom did [name] have the [item]}?",
         "[his] [giver]{| gave it to [him]}."},
        {"{who helped [name]|did somebody help [name]}?",
         "nobody. [name] had the [item] from [his] [giver]."},
    };
    static const struct pair of_helpers[] = {
        {"{who helped [name]|did somebody help [name]}?",
         "{[helper], the [h.kind]|[helper] helped [him]|a [h.kind] {named|called} [helper]}."},
        {"{who|what} {is|was} [helper]?", "{[helper] is a [h.kind] who helped [name]|a [h.kind]}."},
    };
    static const struct pair of_traits[] = {
        {"{who helped [name]|did somebody help [name]}?", "nobody. [name] was [trait] and found a way."},
        {"how did [name] get past [noun.the]?", "{[name]|[he]} was [trait] and found a way alone."},
    };
    const struct pair *special = of_helpers;
    uint32_t general = sizeof always / sizeof *always, count = sizeof of_helpers / sizeof *of_helpers, which;
    if (k->s->mode == STORY_ITEM) special = of_items, count = sizeof of_items / sizeof *of_items;
    if (k->s->mode == STORY_TRAIT) special = of_traits, count = sizeof of_traits / sizeof *of_traits;
    do {
        which = story_draw(&k->s->t, general + count);
    } while (k->asked & 1u << which);
    k->asked |= 1u << which;
    const struct pair *p = which < general ? &always[which] : &special[which - general];
    exchange(k, p->question, p->answer);
}

static void tell(struct talk *k)
{
    struct story_text *t = &k->s->t;
    static const char *const wanted[] = {"a [kind]",
                                         "a [kind]",
                                         "a [kind] {named|called} [name]",
                                         "a [trait] [kind]",
                                         "a [kind] who wants [wish]",
                                         "a [kind] and [noun]",
                                         "[name], the [kind]"};
    char *text = strdup(stories_tell(k->s, -1, -1, true));
    uint32_t which = story_draw(t, sizeof wanted / sizeof *wanted + 1);
    if (!text) {
        k->failed = true;
        return;
    }
    if (which < sizeof wanted / sizeof *wanted) {
        story_set(t, "wanted", wanted[which]);
        say(k, "user",
            "{tell me a story about [wanted].|can you tell me a story about [wanted]?|I would like a story "
            "about [wanted], please.|write a story about [wanted].|a story about "
            "[wanted], please!|please tell me {something|a little story} about [wanted].}");
    } else {
        say(k, "user",
            "{tell me a story{.|, please.}|can you tell me a story?|I am {bored|sad|tired}. Tell me a "
            "story.|do you know a story?|a story, please!}");
    }
    put(k, "assistant", text);
    free(text);
}

// The user brings the story.
static void bring(struct talk *k)
{
    char *text = strdup(stories_tell(k->s, -1, -1, true));
    size_t before = json_array_size(k->messages);
    if (!text) {
        k->failed = true;
        return;
    }
    ask_about(k);
    json_t *question = json_array_get(k->messages, before);
    json_t *whole = json_sprintf("%s\n\n%s", text, json_string_value(json_object_get(question, "content")));
    k->failed |= !question || json_object_set_new(question, "content", whole) != 0;
    free(text);
}

json_t *stories_talk(struct stories *s)
{
    struct talk k = {.s = s, .messages = json_array()};
    struct story_text *t = &s->t;
    story_set(t, "me", story_draw(t, 2) ? story_boys : story_girls);
    uint32_t about = story_draw(t, 10);
    if (s->options.held_out && about < 4) about += 4; // those without a story have no combination to hold out
    if (story_draw(t, 3) == 0) ANY(&k, greetings);
    if (story_draw(t, 8) == 0) ANY(&k, identity);
    if (about < 1) {
        ANY(&k, identity);
    } else if (about < 4) {
        for (uint32_t n = 1 + story_draw(t, 4); n--;) ask_something(&k);
    } else if (about < 8) {
        tell(&k);
        for (uint32_t n = story_draw(t, 4); n--;) ask_about(&k);
    } else {
        bring(&k);
        for (uint32_t n = story_draw(t, 3); n--;) ask_about(&k);
    }
    if (story_draw(t, 3) == 0) ANY(&k, goodbyes);
    if (!k.failed) return k.messages;
    json_decref(k.messages);
    return NULL;
}
