// text/pretokenizer.h -- cutting a text into the words that byte pair encoding works on.
//
// A pre-tokenizer is a list of steps; each cuts the pieces that the one before it left. GGUF names a list
// (tokenizer.ggml.pre), tokenizer.json writes it out.
#ifndef TEXT_PRETOKENIZER_H
#define TEXT_PRETOKENIZER_H

#include "core/error.h"

enum split_kind {
    SPLIT_REGEX,   // at the matches of a regular expression
    SPLIT_LITERAL, // at the places of a text
    SPLIT_THREES,  // what the expression matches, into groups of three characters counted from its end
    SPLIT_BYTE_NUMBERS, // where numbers of the byte alphabet (0-9, and the bytes of \xB2 \xB3 \xB9 \xBC-\xBE) meet other
                        // bytes: into pieces that may be no whole characters, so nothing but words may follow
    SPLIT_PREFIX_SPACE, // no cut: puts a space in front of a piece that does not begin with one
    SPLIT_MARKS,        // no cut: spaces become U+2581, and one is put in front as `prefix` says
};

enum split_prefix { SPLIT_PREFIX_NEVER, SPLIT_PREFIX_FIRST, SPLIT_PREFIX_ALWAYS };

enum split_behavior { // what becomes of the matches
    SPLIT_ISOLATED,   // each is a piece
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS, // a run of matches is a piece
};

struct split_rule {
    enum split_kind kind;
    const char *pattern;
    size_t length; // of the pattern; 0: up to its zero byte
    enum split_behavior behavior;
    bool invert;              // what the pattern does not match are the matches
    enum split_prefix prefix; // of SPLIT_MARKS
};

enum { SPLIT_RULES_MAX = 16 };

struct pretokenizer_info { // what a value of tokenizer.ggml.pre means
    const char *names;     // separated by spaces
    struct split_rule rules[8];
    bool ignore_merges; // a word that is a token is that token, whatever the merges
    bool adds_bos;      // where tokenizer.ggml.add_bos_token is absent
    bool nfc;           // the text is brought to normalization form C first
    bool raw;           // tokens are plain UTF-8 with U+2581 for a space, not the byte alphabet
};

// What the tokenizers library calls punctuation: ASCII's, and that of the Unicode of its day.
#define PRETOKENIZER_PUNCTUATION                                                                             \
    "[\\p{P}$+<=>^`|~\\x{166d}\\x{111c9}](?<![\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}"   \
    "\\x{2e43}-\\x{2e4f}"                                                                                    \
    "\\x{2e52}-\\x{2e5d}\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}\\x{1145a}" \
    "-\\x{1145d}"                                                                                            \
    "\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}\\x{11a3f}-\\x{11a46}\\x{"      \
    "11a9a}-\\x{11aa2}"                                                                                      \
    "\\x{11c41}-\\x{11c45}\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{"     \
    "16e97}-\\x{16e9a}"                                                                                      \
    "\\x{16fe2}\\x{1e95e}-\\x{1e95f}])"

size_t pretokenizer_rule_count(const struct pretokenizer_info *info);
// NULL where there is none of that name.
const struct pretokenizer_info *pretokenizer_find(const char *name, size_t length);
// A name whose rules and flags (but adds_bos) are these: how long the name is goes to *length. NULL where there is none.
const char *pretokenizer_name(const struct split_rule *rules, size_t count, bool ignore_merges, bool nfc,
                              size_t *length);

struct pretokenizer; // compiled; shared by threads

// Copies what it needs. Errors: FORMAT (a bad expression), MEMORY.
enum tlm_status pretokenizer_open(struct pretokenizer **out, const struct split_rule *rules, size_t count,
                                  struct tlm_error *err);
// Reads the "pre_tokenizer" of a tokenizer.json (an object, as text). Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status pretokenizer_open_json(struct pretokenizer **out, const char *json, size_t length,
                                       struct tlm_error *err);
void pretokenizer_close(struct pretokenizer *p); // NULL is allowed

typedef enum tlm_status pretokenizer_fn(void *user, const char *word, size_t bytes, struct tlm_error *err);

// Calls `put` with each word in order. The text is well-formed UTF-8; `has_new` as regex_text() reports; `first`: it
// begins the input.
// Errors: UNSUPPORTED (an expression ran over its limits), MEMORY, those of `put`.
enum tlm_status pretokenizer_run(const struct pretokenizer *p, const char *text, size_t bytes, bool has_new,
                                 bool first, pretokenizer_fn *put, void *user, struct tlm_error *err);

#endif
