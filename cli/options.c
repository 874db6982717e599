// cli/options.c -- parsing by tables, --help, and errors that say what was expected.
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { HELP_COLUMN = 28, HELP_WIDTH = 100, NAME_MAX_LENGTH = 64 };

// ---- names --------------------------------------------------------------------------------------------

// Steps through "-n, --predict": the next name and its length, or NULL behind the last.
static const char *next_name(const char **names, size_t *length)
{
    const char *name = *names + strspn(*names, ", ");
    *length = strcspn(name, ",");
    *names = name + *length;
    return *length ? name : NULL;
}

// An option on the line: what it is, where its value goes, and the name that was typed.
struct given {
    const struct option *option;
    void *into;
    const char *name;
    int length;
};

static bool find(const struct command_line *line, struct given *o)
{
    for (size_t g = 0; g < line->group_count; g++)
        for (size_t i = 0; i < line->groups[g].count; i++) {
            const struct option *option = &line->groups[g].options[i];
            const char *names = option->names, *name;
            size_t n;
            while ((name = next_name(&names, &n)))
                if (n == (size_t)o->length && !memcmp(name, o->name, n)) {
                    o->option = option;
                    o->into = (char *)line->groups[g].into + option->offset;
                    return true;
                }
        }
    return false;
}

// Edits (insert, delete, replace a character) that make `b` of `a`; both at most NAME_MAX_LENGTH long.
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t row[NAME_MAX_LENGTH + 1];
    for (size_t j = 0; j <= b_length; j++) row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]);
            size_t least = row[j - 1] < row[j] ? row[j - 1] + 1 : row[j] + 1;
            diagonal = row[j];
            row[j] = replace < least ? replace : least;
        }
    }
    return row[b_length];
}

// How far `name` is from what was typed; a name that goes on from it, or that it goes on from, counts as
// near.
static size_t distance(const char *name, size_t n, const char *typed, size_t length)
{
    if (n > NAME_MAX_LENGTH || length > NAME_MAX_LENGTH) return SIZE_MAX;
    size_t shorter = n < length ? n : length;
    if (shorter > 3 && !memcmp(name, typed, shorter)) return 1;
    size_t edits = edit_distance(name, n, typed, length);
    return edits <= (shorter > 6 ? 3 : shorter > 3 ? 2 : 0) ? edits : SIZE_MAX;
}

static int unknown_option(const struct command_line *line, const struct given *typed)
{
    size_t best = SIZE_MAX, best_length = 0;
    const char *nearest = NULL;
    for (size_t g = 0; g < line->group_count; g++)
        for (size_t i = 0; i < line->groups[g].count; i++) {
            const char *names = line->groups[g].options[i].names, *name;
            size_t n;
            while ((name = next_name(&names, &n))) {
                size_t d = distance(name, n, typed->name, (size_t)typed->length);
                if (d < best) best = d, nearest = name, best_length = n;
            }
        }
    if (!nearest) return options_wrong(line, "no option '%.*s'", typed->length, typed->name);
    return options_wrong(line, "no option '%.*s'; did you mean '%.*s'?", typed->length, typed->name,
                         (int)best_length, nearest);
}

// ---- values -------------------------------------------------------------------------------------------

static bool whole_number(const char *text, long long *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && !*end && !errno && *text > ' ';
}

static int wrong_value(const struct command_line *line, const struct given *g, const char *expected,
                       const char *found)
{
    return options_wrong(line, "%.*s: expected %s, found '%s'", g->length, g->name, expected, found);
}

static int wrong_number(const struct command_line *line, const struct given *g, const char *kind,
                        const char *found)
{
    const struct option *o = g->option;
    char expected[96];
    if (o->low == 0 && o->high == 0)
        snprintf(expected, sizeof expected, "%s", kind);
    else if (o->high >= 1e9) // as good as no limit
        snprintf(expected, sizeof expected, "%s of at least %g", kind, o->low);
    else
        snprintf(expected, sizeof expected, "%s from %g to %g", kind, o->low, o->high);
    return wrong_value(line, g, expected, found);
}

static bool in_range(const struct option *o, double value)
{
    return (o->low == 0 && o->high == 0) || (value >= o->low && value <= o->high);
}

static bool fits_int32(long long value)
{
    return value >= INT32_MIN && value <= INT32_MAX;
}

static int store_integer(const struct command_line *line, const struct given *g, const char *text)
{
    long long value;
    bool wide = g->option->kind == OPTION_INT64;
    if (!whole_number(text, &value) || !(wide || fits_int32(value)) || !in_range(g->option, (double)value))
        return wrong_number(line, g, "a whole number", text);
    if (wide)
        *(int64_t *)g->into = value;
    else
        *(int32_t *)g->into = (int32_t)value;
    return OPTIONS_GO;
}

static int store_float(const struct command_line *line, const struct given *g, const char *text)
{
    char *end;
    float value = strtof(text, &end);
    if (end == text || *end || *text <= ' ' || !isfinite(value) || !in_range(g->option, (double)value))
        return wrong_number(line, g, "a number", text);
    *(float *)g->into = value;
    return OPTIONS_GO;
}

static int store_integers(const struct command_line *line, const struct given *g, const char *text)
{
    struct option_ints *into = g->into;
    into->count = 0;
    for (const char *rest = text;; rest++) {
        char item[32]; // a longer one is no number anyway
        size_t length = strcspn(rest, ",");
        long long value;
        snprintf(item, sizeof item, "%.*s", length < sizeof item ? (int)length : 0, rest);
        if (!whole_number(item, &value) || !fits_int32(value) || !in_range(g->option, (double)value))
            return wrong_number(line, g, "whole numbers joined by commas, each", text);
        if (into->count == OPTION_INTS_MAX) return wrong_value(line, g, "at most 64 numbers", text);
        into->items[into->count++] = (int32_t)value;
        rest += length;
        if (!*rest) return OPTIONS_GO;
    }
}
_Static_assert(OPTION_INTS_MAX == 64, "the message above says so");

static int store_choice(const struct command_line *line, const struct given *g, const char *text)
{
    const char *const *choices = g->option->choices;
    char all[256] = "";
    for (size_t i = 0, used = 0; choices[i]; i++) {
        if (!strcmp(choices[i], text)) {
            *(const char **)g->into = choices[i];
            return OPTIONS_GO;
        }
        const char *join = !i ? "" : choices[i + 1] ? ", " : " or ";
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", join, choices[i]);
        if (used >= sizeof all) used = sizeof all - 1;
    }
    return wrong_value(line, g, all, text);
}

static int store_string(const struct command_line *line, const struct given *g, const char *text)
{
    struct option_strings *strings = g->into;
    if (strings->count == OPTION_STRINGS_MAX)
        return wrong_value(line, g, "to be given at most 256 times", text);
    strings->items[strings->count++] = text;
    return OPTIONS_GO;
}
_Static_assert(OPTION_STRINGS_MAX == 256, "the message above says so");

static int store(const struct command_line *line, const struct given *g, const char *text)
{
    switch (g->option->kind) {
    case OPTION_FLAG: *(bool *)g->into = true; return OPTIONS_GO;
    case OPTION_INT:
    case OPTION_INT64: return store_integer(line, g, text);
    case OPTION_FLOAT: return store_float(line, g, text);
    case OPTION_INTS: return store_integers(line, g, text);
    case OPTION_CHOICE: return store_choice(line, g, text);
    case OPTION_STRING: *(const char **)g->into = text; return OPTIONS_GO;
    case OPTION_STRINGS: return store_string(line, g, text);
    }
    return OPTIONS_GO;
}

// ---- help ---------------------------------------------------------------------------------------------

// Prints words from column `column` on, broken before HELP_WIDTH, further lines starting at `indent`.
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + word > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word + strspn(text + word, " ");
    }
    putchar('\n');
}

static void print_option(const char *names, const char *argument, const char *help)
{
    int column = printf("  %s%s%s", names, argument ? " " : "", argument ? argument : "");
    // Two spaces at least; where the names are longer, the text starts on a line of its own.
    if (column > HELP_COLUMN - 2)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - column, "");
    print_wrapped(help, HELP_COLUMN, HELP_COLUMN);
}

static void print_help(const struct command_line *line)
{
    printf("usage: tinylm %s %s\n\n", line->name, line->synopsis);
    print_wrapped(line->about, 0, 0);
    for (size_t g = 0; g < line->group_count; g++) {
        printf("\n%s\n", line->groups[g].heading);
        for (size_t i = 0; i < line->groups[g].count; i++) {
            const struct option *o = &line->groups[g].options[i];
            print_option(o->names, o->argument, o->help);
        }
    }
    putchar('\n');
    print_option("-h, --help", NULL, "print this and end.");
    if (line->notes) printf("\n%s", line->notes);
}

// ---- the line -----------------------------------------------------------------------------------------

int options_wrong(const struct command_line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "tinylm %s: ", line->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n'tinylm %s --help' lists the options.\n", line->name);
    va_end(arguments);
    return EXIT_USAGE;
}

// Reads the option at argv[*at], and its value, which may be the next word.
static int parse_option(const struct command_line *line, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *equals = word[1] == '-' ? strchr(word, '=') : NULL;
    struct given g = {.name = word, .length = (int)(equals ? (size_t)(equals - word) : strlen(word))};
    if (!find(line, &g)) return unknown_option(line, &g);
    const char *value = equals ? equals + 1 : NULL;
    if (g.option->kind == OPTION_FLAG) {
        if (value) return wrong_value(line, &g, "no value", value);
    } else if (!value) {
        if (*at + 1 >= argc)
            return options_wrong(line, "%s: expected %s behind it, found nothing", word, g.option->argument);
        value = argv[++*at];
    }
    return store(line, &g, value);
}

int options_parse(const struct command_line *line, int argc, char **argv, const char **operands,
                  size_t capacity, size_t *count)
{
    size_t found = 0;
    bool options = true;
    for (int at = 1; at < argc; at++) {
        const char *word = argv[at];
        if (options && !strcmp(word, "--")) {
            options = false;
        } else if (options && (!strcmp(word, "-h") || !strcmp(word, "--help"))) {
            print_help(line);
            return EXIT_DONE;
        } else if (options && word[0] == '-' && word[1]) {
            int code = parse_option(line, argc, argv, &at);
            if (code != OPTIONS_GO) return code;
        } else if (found < capacity) {
            operands[found++] = word;
        } else if (capacity) {
            return options_wrong(line, "expected at most %zu operand%s, found '%s' too", capacity,
                                 capacity == 1 ? "" : "s", word);
        } else {
            return options_wrong(line, "expected options only, found '%s'", word);
        }
    }
    if (count) *count = found;
    return OPTIONS_GO;
}
