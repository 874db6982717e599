// cli/conversation.h -- what was said so far, and the prompt that a model sees of it.
//
// Messages are JSON objects as chat templates know them: {"role": "user", "content": ...}. A model with a chat template sees what
// that makes of them; control tokens come from the template alone, never from what somebody typed. A model without one sees
// plain text:
//
//     SYSTEM                      if there is one, with an empty line behind it
//
//     User: what the person typed
//     Assistant: what the model answered
//     User: ...
//     Assistant:                  and here the model goes on
#ifndef CLI_CONVERSATION_H
#define CLI_CONVERSATION_H

#include <jansson.h>

#include "cli/common.h"
#include "generate/thoughts.h"
#include "text/template.h"

// Without a template: what the model would write to speak for the person. An answer ends in front of it.
#define CONVERSATION_STOP "\nUser:"

struct conversation_args {
    const char *system, *template_file, *variables, *tools;
};

enum { CONVERSATION_OPTION_COUNT = 4 };
// --system, --chat-template-file, --kwargs, --tools: into a struct conversation_args
extern const struct option conversation_options[CONVERSATION_OPTION_COUNT];

struct conversation {
    const struct tlm_model *model;
    struct template *template; // NULL: plain text
    json_t *messages;          // an array; a message of role "system", if any, stands first
    json_t *tools, *variables; // NULL: none
    enum thought_style style;  // how this model marks its thoughts
};

// Errors: IO, FORMAT, MEMORY.
enum tlm_status conversation_open(struct conversation *c, const struct tlm_model *model,
                                  const struct conversation_args *args, struct tlm_error *err);
void conversation_close(struct conversation *c);

// Sets, replaces or (NULL or "") removes the system message. Errors: MEMORY.
enum tlm_status conversation_set_system(struct conversation *c, const char *text, struct tlm_error *err);
// Adds a message. `thoughts` may be NULL; templates find them as reasoning_content and thinking. Text that is not UTF-8 gets
// U+FFFD for what is none. Errors: MEMORY.
enum tlm_status conversation_add(struct conversation *c, const char *role, const char *text, size_t bytes,
                                 const char *thoughts, size_t thought_bytes, struct tlm_error *err);
// Takes back the last message if it has this role.
bool conversation_drop_last(struct conversation *c, const char *role);
// Where turn n begins, counted from 1: a message of the user and all up to the next one. Behind the last turn: the number of messages.
size_t conversation_turn(const struct conversation *c, size_t n);
// Drops turn n; false where there is none.
bool conversation_drop_turn(struct conversation *c, size_t n);
// Drops the oldest exchange behind the system message: a message of the user and all up to the next one. False where no second
// one would be left.
bool conversation_drop_oldest(struct conversation *c);
// Drops all but the system message.
void conversation_clear(struct conversation *c);
size_t conversation_exchanges(const struct conversation *c); // messages of the user

struct conversation_prompt {
    int32_t *ids; // for free()
    size_t count;
    enum thought_part begins; // what the model writes first: some templates open its thoughts for it
};

// The first `messages` of the conversation, up to where the model goes on. Errors: those of the template (with its line) and the tokenizer.
enum tlm_status conversation_prompt_of(const struct conversation *c, size_t messages,
                                       struct conversation_prompt *out, struct tlm_error *err);
// All of it.
enum tlm_status conversation_prompt(const struct conversation *c, struct conversation_prompt *out,
                                    struct tlm_error *err);

// JSON Lines, a message a line. Saving refuses to replace a file that is there (ARGUMENT); loading replaces all messages, or none
// where the file is not what it should be (FORMAT, with the line).
enum tlm_status conversation_save(const struct conversation *c, const char *path, struct tlm_error *err);
enum tlm_status conversation_load(struct conversation *c, const char *path, struct tlm_error *err);

#endif
