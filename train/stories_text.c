// train/stories_text.c -- see train/stories_text.h.
#include "train/stories_text.h"

#include <ctype.h>
#include <string.h>

#include "core/error.h"
#include "core/rng.h"

void story_begin(struct story_text *t, uint64_t seed, uint64_t document)
{
    t->seed = seed;
    t->document = document;
    t->draws = 0;
    t->variable_count = 0;
    t->stored = 0;
    t->length = 0;
}

double story_chance(struct story_text *t)
{
    return rng_uniform(t->seed, t->document, t->draws++);
}

uint32_t story_draw(struct story_text *t, uint32_t n)
{
    return (uint32_t)(story_chance(t) * n);
}

// ---- patterns -----------------------------------------------------------------------------------------

struct sink {
    char *data;
    size_t length, room;
};

static void put(struct sink *s, const char *text, size_t n)
{
    TLM_ASSERT(n < s->room - s->length);
    memcpy(s->data + s->length, text, n);
    s->length += n;
    s->data[s->length] = '\0';
}

// Behind the choice that opens at p: its closing bracket. Counts the alternatives on the way.
static const char *skip_choice(const char *p, uint32_t *alternatives)
{
    int depth = 0;
    *alternatives = 1;
    for (; *p; p++) {
        depth += (*p == '{') - (*p == '}');
        if (!depth) return p;
        *alternatives += *p == '|' && depth == 1;
    }
    TLM_ASSERT(!"a choice that does not end");
    return p;
}

static const char *find(const struct story_text *t, const char *name, size_t n, bool *variable)
{
    *variable = true;
    for (int i = t->variable_count; i--;)
        if (!strncmp(t->variables[i].name, name, n) && !t->variables[i].name[n]) return t->variables[i].value;
    *variable = false;
    for (const struct story_rule *r = story_rules; r->name; r++)
        if (!strncmp(r->name, name, n) && !r->name[n]) return r->pattern;
    TLM_ASSERT(!"a name that is neither a variable nor a rule");
    return "";
}

static void expand(struct story_text *t, const char *p, const char *end, struct sink *out)
{
    while (p < end) {
        size_t plain = strcspn(p, "{[");
        if (plain > (size_t)(end - p)) plain = (size_t)(end - p);
        put(out, p, plain);
        p += plain;
        if (p >= end) return;
        if (*p == '[') {
            size_t n = strcspn(p + 1, "]");
            bool variable;
            const char *value = find(t, p + 1, n, &variable);
            if (variable)
                put(out, value, strlen(value));
            else
                expand(t, value, value + strlen(value), out);
            p += n + 2;
            continue;
        }
        uint32_t count, chosen;
        const char *close = skip_choice(p, &count), *from = p + 1;
        chosen = story_draw(t, count);
        int depth = 0;
        for (const char *q = from;; q++) {
            bool border = q == close || (*q == '|' && !depth);
            depth += (*q == '{') - (*q == '}');
            if (!border) continue;
            if (!chosen--) {
                expand(t, from, q, out);
                break;
            }
            from = q + 1;
        }
        p = close + 1;
    }
}

void story_set(struct story_text *t, const char *name, const char *pattern)
{
    struct sink out = {t->store + t->stored, 0, STORY_STORE - t->stored};
    put(&out, "", 0);
    expand(t, pattern, pattern + strlen(pattern), &out);
    int i = 0;
    while (i < t->variable_count && strcmp(t->variables[i].name, name) != 0) i++;
    TLM_ASSERT(i < STORY_VARIABLES);
    if (i == t->variable_count) t->variable_count++;
    t->variables[i].name = name;
    t->variables[i].value = out.data;
    t->stored += out.length + 1;
}

const char *story_get(const struct story_text *t, const char *name)
{
    for (int i = 0; i < t->variable_count; i++)
        if (!strcmp(t->variables[i].name, name)) return t->variables[i].value;
    return "";
}

void story_say(struct story_text *t, const char *pattern)
{
    struct sink out = {t->text, t->length, STORY_TEXT};
    expand(t, pattern, pattern + strlen(pattern), &out);
    t->length = out.length;
}

// ---- sentences ----------------------------------------------------------------------------------------

static bool is_letter(char c)
{
    return isalpha((unsigned char)c) != 0;
}

// "a" in front of a vowel; none of the words we have is a "unicorn".
static bool wants_an(const char *text, size_t at)
{
    bool article = (text[at] == 'a' || text[at] == 'A') && text[at + 1] == ' ' &&
                   (!at || !is_letter(text[at - 1])) && !(at && text[at - 1] == '\'');
    if (!article) return false;
    const char *word = text + at + 1;
    while (*word == ' ') word++;
    return *word && strchr("aeiouAEIOU", *word);
}

// Behind speech that ends with ! or ? the sentence may go on: "Why?" asked the fox. "Come!" they called.
static bool says_who(const char *text)
{
    static const char *const verbs[] = {"said",    "asked",     "cried",   "called",
                                        "shouted", "whispered", "thought", "hissed"};
    static const char *const pronouns[] = {"he ", "she ", "they ", "I "};
    for (size_t i = 0; i < sizeof pronouns / sizeof *pronouns; i++)
        if (!strncmp(text, pronouns[i], strlen(pronouns[i]))) {
            text += strlen(pronouns[i]);
            break;
        }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strncmp(text, verbs[i], strlen(verbs[i]))) return true;
    return false;
}

// A capital stands at the beginning, behind the end of a sentence or of speech, and behind a quotation mark that opens.
static bool wants_capital(const char *text, size_t at)
{
    size_t n = at;
    if (!at || text[at - 1] == '\n') return true;
    if (text[at - 1] == '"') return at < 2 || text[at - 2] == ' ' || text[at - 2] == '\n';
    while (n && text[n - 1] == ' ') n--;
    if (n == at || !n) return false;
    bool speech = text[n - 1] == '"' && n > 1 && strchr(".!?", text[n - 2]);
    return strchr(".!?", text[n - 1]) || (speech && !says_who(text + at));
}

const char *story_finish(struct story_text *t)
{
    static const char separators[] = " \n";
    struct sink out = {t->done, 0, STORY_TEXT};
    put(&out, "", 0);
    char *text = t->text;
    text[t->length] = '\0';
    for (size_t i = 0; i < t->length; i++) {
        bool last = !text[i + 1] || strchr(separators, text[i + 1]);
        if (text[i] == ' ' && (last || !out.length || out.data[out.length - 1] == '\n')) continue;
        if (is_letter(text[i]) && wants_capital(text, i)) text[i] = (char)toupper((unsigned char)text[i]);
        put(&out, &text[i], 1);
        if (wants_an(text, i)) put(&out, "n", 1);
    }
    while (out.length && strchr(separators, out.data[out.length - 1])) out.length--;
    t->done[out.length] = '\0';
    t->length = 0;
    return t->done;
}

int story_words(const char *text)
{
    int count = 0;
    for (const char *p = text; *p; p++) count += *p > ' ' && (p == text || p[-1] <= ' ');
    return count;
}
