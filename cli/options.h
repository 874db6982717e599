// cli/options.h -- the options of a command: tables in, a filled struct out, --help for free.
//
//     static const struct option rows[] = {
//         {"-n, --predict", "N", OPTION_INT, offsetof(struct my_args, predict), .low = 1, .high = 9,
//          .help = "tokens to write. Default: 3."},
//         {"--echo", NULL, OPTION_FLAG, offsetof(struct my_args, echo), .help = "print it. Default: off."},
//     };
//     struct my_args args = {.predict = 3};
//     const struct option_group groups[] = {OPTION_GROUP("Generation", rows, &args)};
//     const struct command_line line = {"my", "[OPTION ...]", "Continues a text.", groups, 1, .notes = NULL};
//     int code = options_parse(&line, argc, argv, NULL, 0, NULL);
//     if (code != OPTIONS_GO) return code;
//
// The struct holds the defaults before parsing; the help text states them. Options may stand anywhere on the
// line, as "--name value" or "--name=value"; "--" ends them. An option that is given again replaces its
// value, except those of kind OPTION_STRINGS, which collect. Nothing is allocated: strings point into argv.
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,    // bool
    OPTION_INT,     // int32_t
    OPTION_INT64,   // int64_t
    OPTION_FLOAT,   // float, finite
    OPTION_STRING,  // const char *
    OPTION_CHOICE,  // const char *: one of `choices`, by the pointer that stands there
    OPTION_STRINGS, // struct option_strings: one more each time
    OPTION_INTS,    // struct option_ints: "1,2,4"
};

enum { OPTION_STRINGS_MAX = 256, OPTION_INTS_MAX = 64 };

struct option_strings {
    size_t count;
    const char *items[OPTION_STRINGS_MAX];
};

struct option_ints {
    size_t count;
    int32_t items[OPTION_INTS_MAX];
};

struct option {
    const char *names;    // "-n, --predict"
    const char *argument; // "N" in the help; NULL for a flag
    enum option_kind kind;
    size_t offset;              // of the field in the group's struct
    const char *help;           // sentences, the last "Default: ..."; wrapped by --help
    double low, high;           // range of numbers, both inclusive; both 0: whatever the type holds
    const char *const *choices; // ends with NULL
};

// Options that stand under one heading of --help and are stored in one struct.
struct option_group {
    const char *heading;
    const struct option *options;
    size_t count;
    void *into;
};

// clang-format off
#define OPTION_GROUP(heading, table, into) {(heading), (table), sizeof(table) / sizeof *(table), (into)}
// clang-format on

struct command_line {
    const char *name;     // "generate", "eval ppl"
    const char *synopsis; // what follows the name in the usage line
    const char *about;    // a sentence or two; wrapped
    const struct option_group *groups;
    size_t group_count;
    const char *notes; // printed as it stands behind the options of --help; may be NULL
};

enum { OPTIONS_GO = -1 };

// Reads argv[1..argc). At most `capacity` operands (words that are no options) are stored in operands[];
// *count (may be NULL) receives how many there were. Returns OPTIONS_GO, or the exit code: EXIT_DONE after
// --help or -h, EXIT_USAGE after an error, which has been printed.
int options_parse(const struct command_line *line, int argc, char **argv, const char **operands,
                  size_t capacity, size_t *count);

// Prints "tinylm NAME: ..." and a hint to --help on stderr, and returns EXIT_USAGE: for what a table cannot
// express.
int options_wrong(const struct command_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
