// train/config_keys.h -- the table behind train/config.h: a row a key, and values as text and back.
#ifndef TRAIN_CONFIG_KEYS_H
#define TRAIN_CONFIG_KEYS_H

#include <stdbool.h>

#include "train/config.h"

enum config_kind {
    CONFIG_INTEGER, // int64_t; "1e6" is one too
    CONFIG_NUMBER,  // double
    CONFIG_SEED,    // uint64_t
    CONFIG_CHOICE,  // an enum, in the order of `choices`
    CONFIG_TEXT,    // char *, NULL where empty
    CONFIG_WORDS,   // struct config_words
};

struct config_key {
    const char *section, *name;
    enum config_kind kind;
    size_t offset; // in struct train_config
    const char *fallback;
    const char *help;
    double low, high;           // of numbers, both inclusive
    const char *const *choices; // ends with NULL
};

extern const struct config_key config_keys[];
enum { CONFIG_KEY_COUNT = 48 };

const struct config_key *config_key_find(const char *section, const char *name); // NULL where there is none
bool config_section_exists(const char *section);
// The name that `name` was probably meant to be: of a section, of a key of `section`, or of the key in another section, as
// "section.key". NULL where nothing is near. The result lies in `buffer` or in the table.
const char *config_nearest_section(const char *name);
const char *config_nearest_key(const char *section, const char *name, char *buffer, size_t size);

// Sets a field from text. Errors: ARGUMENT ("section.key: expected X, found 'Y'"), MEMORY; then the field is as it was.
enum tlm_status config_value_set(struct train_config *c, const struct config_key *key, const char *text,
                                 struct tlm_error *err);
bool config_value_empty(const struct train_config *c, const struct config_key *key); // 0, "", no words
void config_value_free(struct train_config *c, const struct config_key *key);

// ---- what the command line and files share ------------------------------------------------------------

enum { CONFIG_KEY_LENGTH = 48 }; // inih remembers 49 bytes of the name that a further line belongs to

// Is it a key of a new model: a name of models/create.h, or a GGUF key with a dot in it?
bool config_is_pair(const char *key);
// Sets one of model.pairs. Errors: ARGUMENT, MEMORY.
enum tlm_status config_pair_set(struct train_config *c, const char *key, const char *text,
                                struct tlm_error *err);
// How long training goes on is said in one of three ways: where `key`, which was just set, is one of them, the others become 0,
// except those that `seen` (NULL: none) says were given too. Errors: MEMORY.
enum tlm_status config_clear_lengths(struct train_config *c, const struct config_key *key, const int *seen,
                                     struct tlm_error *err);
// An error with the name that may have been meant. Returns ARGUMENT.
enum tlm_status config_unknown_key(const char *section, const char *name, struct tlm_error *err);

// ---- writing ------------------------------------------------------------------------------------------

// Text that grows; a failure of memory is kept.
struct config_text {
    char *data;
    size_t length, capacity;
    bool failed;
};
void config_text_add(struct config_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
// "name = value" and a line's end, split as the length of lines demands, so that reading gives the value again.
void config_value_write(struct config_text *t, const struct train_config *c, const struct config_key *key);
void config_pair_write(struct config_text *t, const char *key, const char *value);

// A string as config files have it ("quoted" or as it stands) as a new string; NULL with a reason in *wrong, or, without
// memory, with *wrong = NULL.
char *config_unquote(const char *text, const char **wrong);
// For messages, as gguf_printable().
const char *config_printable(const char *text, char *buffer, size_t size);

#endif
