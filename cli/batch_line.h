// cli/batch_line.h -- a request of generate --in, one line of JSON:
//
//     {"prompt": "Once upon a time"}
//     {"prompt": "A cat: ", "json_schema": {"type": "object"}}       or "regex": "...", or "grammar": "root ::= ..."
//     {"id": "b-7", "messages": [{"role": "user", "content": "Hello"}], "tools": [...], "n": 4, "max_tokens": 100, "stop": ["\n\n"]}
//
// and its answers, records of one line each:
//
//     {"index":0,"text":" there was","finish":"length","prompt_tokens":5,...,"seed":7,"hash":"9f2c..."}
//     {"index":1,"id":"b-7","choice":2,"text":...}
//     {"index":2,"error":"top_k: expected a whole number of at least 0, found a string","hash":...}
#ifndef CLI_BATCH_LINE_H
#define CLI_BATCH_LINE_H

#include <jansson.h>

#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/sampling.h"

// What the command line says of all requests, and one line of the input may say otherwise.
struct batch_defaults {
    struct sampling_args sampling;
    int32_t predict;
    const char *const *stop;
    size_t stop_count;
    bool special, chat;                // chat: a prompt is a message
    struct conversation *conversation; // holds the system message, if any, and no other
};

struct batch_line {
    int64_t index;
    uint64_t hash; // of the line and of the options
    json_t *json;  // the line; texts of `sampling` and `stop` are its
    int32_t *prompt;
    size_t count;
    struct sampling_args sampling; // with the seed of choice 0
    const char *stop[OPTION_STRINGS_MAX + 1];
    size_t stop_count;
    int32_t predict, choices, priority;
    char *grammar_text; // the line's own grammar, if any
    size_t grammar_bytes;
    enum tlm_grammar_kind grammar_kind;
    struct tlm_grammar *grammar;
    int32_t open; // choices in the batch, and one while there are more to come
};

// Reads what the line says. The line is there after an error, too, for its index and id. To be freed in either case; NULL where there is no
// memory for it. Errors: FORMAT, ARGUMENT.
enum tlm_status batch_line_read(struct batch_line **out, int64_t index, uint64_t hash, const char *text,
                                size_t bytes, const struct batch_defaults *defaults, struct tlm_error *err);
// Makes tokens of the prompt and opens the grammar. Errors: those of the template, the tokenizer and tlm_grammar_open();
// ARGUMENT (no tokens).
enum tlm_status batch_line_encode(struct batch_line *l, const struct batch_defaults *defaults,
                                  struct tlm_error *err);
void batch_line_free(struct batch_line *l); // NULL is allowed

// Opens the sampler of one choice. Each has the seed behind that of the one before. Errors: ARGUMENT, MEMORY.
enum tlm_status batch_line_sampler(const struct batch_line *l, int32_t choice, const struct tlm_model *model,
                                   struct tlm_sampler **sampler, struct tlm_error *err);

// The record of an answer, with a newline behind it, for free(); NULL: no memory.
char *batch_line_answer(const struct batch_line *l, int32_t choice, const char *text, size_t bytes,
                        const struct tlm_generate_result *result);
// The record of a failure; `choice` -1: of the whole line.
char *batch_line_failure(const struct batch_line *l, int32_t choice, const char *error);

#endif
