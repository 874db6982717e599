// cli/chat.h -- what the files of tinylm chat share: cli/chat.c talks, cli/chat_commands.c does what lines with a '/' ask for.
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/drafting.h"
#include "cli/terminal.h"

struct chat_args {
    struct model_args model;
    struct session_args session;
    struct sampling_args sampling;
    struct drafting_args drafting;
    struct answer_args answer;
    struct conversation_args conversation;
    const char *think, *stats;
};

struct chat {
    const struct command_line *line;
    struct chat_args *args;
    const struct tlm_model *model;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
    struct drafting drafting;
    struct terminal *terminal;
    struct conversation conversation;
    bool hide;                       // thoughts
    int32_t think_limit;             // tokens; -1: none
    struct tlm_generate_result last; // of the last answer
    bool failed;                     // a message could not be answered
    int output_error;                // errno of a write that failed: the conversation is over
};

// Answers the last message and adds the answer. Errors: those of the prompt and of generating; nothing was added then.
enum tlm_status chat_answer(struct chat *c, struct tlm_error *err);
// Does what a line that starts with '/' asks for; false ends the conversation.
bool chat_command(struct chat *c, const char *line, struct tlm_error *err);

// cli/chat_cache.c: what the cache holds of each turn, and freeing a turn by hand.
bool chat_cache(struct chat *c, const char *operand, struct tlm_error *err);
bool chat_free(struct chat *c, const char *operand, struct tlm_error *err);

#endif
