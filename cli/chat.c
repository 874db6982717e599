// cli/chat.c -- tinylm chat: a conversation in plain text (cli/transcript.h), on a terminal or through a
// pipe.
//
// Each turn the whole transcript is encoded and handed to the session, which computes only what is new.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/sampling.h"
#include "cli/terminal.h"
#include "cli/transcript.h"
#include "core/error.h"

struct chat_args {
    struct model_args model;
    struct session_args session;
    struct sampling_args sampling;
    struct answer_args answer;
    const char *system, *stats;
};

static const struct option chat_options[] = {
    {"--system", "TEXT", OPTION_STRING, offsetof(struct chat_args, system),
     .help = "text in front of the conversation, kept when old turns are dropped. Default: none."},
    {"--stats", "STYLE", OPTION_CHOICE, offsetof(struct chat_args, stats), .choices = answer_stats_styles,
     .help = "after each answer, counts, timings and the seed on standard error: text, json (on one line) or "
             "none. "
             "Default: none."},
};

static const char notes[] =
    "The model sees plain text: the system text, an empty line, then \"User: ...\" and \"Assistant: ...\"\n"
    "in turn; an answer ends where the model would write \"User:\". A line that ends in \\ goes on in the "
    "next.\n"
    "Where the context is full, the oldest turns are dropped, and a line on standard error says so.\n"
    "Ctrl-C stops an answer. /help lists the commands. Without a terminal: one answer a line of input.\n"
    "Lines are kept in $XDG_DATA_HOME/tinylm/history (~/.local/share/tinylm/history).\n"
    "Exit: 0 done, 1 failed, 2 wrong usage.\n";

struct chat {
    const struct command_line *line;
    const struct chat_args *args;
    const struct tlm_model *model;
    struct tlm_session *session;
    struct tlm_sampler *sampler;
    struct terminal *terminal;
    struct transcript transcript;
    struct tlm_generate_result last; // of the last answer; its tokens are what the session holds
    bool failed;                     // a message could not be answered
    int output_error;                // errno of a write that failed: the conversation is over
};

// ---- an answer ----------------------------------------------------------------------------------------

// The text of an answer. White space at its start is not shown, nor any at its end.
struct answer_text {
    char *data;
    size_t bytes, capacity;
    size_t shown; // bytes that are behind us: written, or left out at the start
    bool started; // something was written
    int error;    // errno of a write that failed
    bool no_memory;
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int answer_token(void *user, int32_t token, const char *text, size_t bytes)
{
    (void)token;
    struct answer_text *a = user;
    if (a->bytes + bytes > a->capacity) {
        size_t capacity = 2 * (a->bytes + bytes);
        char *data = realloc(a->data, capacity);
        if (!data) return a->no_memory = true;
        a->data = data;
        a->capacity = capacity;
    }
    if (bytes) memcpy(a->data + a->bytes, text, bytes);
    a->bytes += bytes;

    size_t end = a->bytes;
    while (end > a->shown && is_space(a->data[end - 1])) end--;
    if (!a->started)
        while (a->shown < end && is_space(a->data[a->shown])) a->shown++;
    if (end > a->shown) {
        a->error = answer_write(a->data + a->shown, end - a->shown);
        a->shown = end;
        a->started = true;
    }
    return a->error || common_interrupted();
}

// Tokens kept free for an answer.
static size_t reserve(const struct chat *c)
{
    size_t context = (size_t)tlm_session_info(c->session).context, predict = (size_t)c->args->answer.predict;
    if (c->args->answer.predict >= 0 && predict < context / 4) return predict + 1;
    return context / 4 + 1;
}

// Encodes the conversation from turn `first` on; *ids is for free().
static enum tlm_status encode_from(const struct chat *c, size_t first, int32_t **ids, size_t *count,
                                   struct tlm_error *err)
{
    const struct transcript *t = &c->transcript;
    struct transcript part = {.system = t->system, .turns = t->turns + first, .count = t->count - first};
    size_t bytes;
    char *text = transcript_text(&part, &bytes);
    if (!text) return error_set(err, TLM_ERR_MEMORY, "conversation: no memory for its text");
    enum tlm_status status = common_encode(c->model, text, bytes, TLM_ADD_BOS, ids, count, err);
    free(text);
    return status;
}

// Encodes the conversation, dropping the oldest turns where it leaves no room for an answer: then down to
// half of the context, so that the next turns can again reuse what is computed.
static enum tlm_status encode(struct chat *c, int32_t **ids, size_t *count, struct tlm_error *err)
{
    size_t context = (size_t)tlm_session_info(c->session).context, first = 0;
    enum tlm_status status;
    for (size_t limit = context - reserve(c);; limit = context / 2, first++) {
        status = encode_from(c, first, ids, count, err);
        if (status || *count <= limit || first + 1 == c->transcript.count) break;
        free(*ids);
    }
    if (status) return status;
    if (*count >= context) {
        free(*ids);
        return error_set(
            err, TLM_ERR_CONTEXT,
            "message: expected fewer than the %zu tokens of the context, found %zu (with the system text)",
            context, *count);
    }
    if (first)
        fprintf(stderr, "tinylm chat: the context of %zu tokens is full: dropped the oldest %zu turn%s\n",
                context, first, first == 1 ? "" : "s");
    while (first--) transcript_drop_oldest(&c->transcript);
    return TLM_OK;
}

static enum tlm_status run(struct chat *c, const int32_t *ids, size_t count, struct answer_text *answer,
                           struct tlm_error *err)
{
    const char *stop[OPTION_STRINGS_MAX + 1] = {TRANSCRIPT_STOP};
    const struct option_strings *more = &c->args->answer.stop;
    for (size_t i = 0; i < more->count; i++) stop[i + 1] = more->items[i];
    struct tlm_generate_options options = {.stop = stop,
                                           .stop_count = more->count + 1,
                                           .special = c->args->answer.special,
                                           .on_token = answer_token,
                                           .user = answer};
    struct tlm_generate_result result;
    common_clear_interrupt();
    common_catch_interrupt();
    enum tlm_status status = answer_run(c->session, c->sampler, ids, count, c->last.tokens,
                                        (size_t)(c->last.prompt_tokens + c->last.new_tokens),
                                        c->args->answer.predict, &options, &result, err);
    common_release_interrupt();
    free(c->last.tokens);
    c->last = result;
    if (status)
        c->last = (struct tlm_generate_result){.tokens = result.tokens}; // nothing is known to be computed
    if (!status && answer->no_memory)
        status = error_set(err, TLM_ERR_MEMORY, "answer: no memory for its text");
    return status;
}

// Answers `message`. An error leaves the conversation as it was before.
static enum tlm_status say(struct chat *c, const char *message, struct tlm_error *err)
{
    if (!transcript_add(&c->transcript, message))
        return error_set(err, TLM_ERR_MEMORY, "message: no memory for it");
    struct answer_text answer = {0};
    int32_t *ids;
    size_t count;
    enum tlm_status status = encode(c, &ids, &count, err);
    if (!status) {
        status = run(c, ids, count, &answer, err);
        free(ids);
        c->output_error = answer.error ? answer.error : answer_write("\n", 1);
    }
    if (!status && answer.data && !transcript_answer(&c->transcript, answer.data, answer.shown))
        status = error_set(err, TLM_ERR_MEMORY, "answer: no memory for it");
    if (status) transcript_drop_last(&c->transcript);
    free(answer.data);
    if (status) return status;
    if (c->last.finish == TLM_FINISH_CONTEXT)
        fprintf(stderr, "tinylm chat: the context is full: the answer was cut\n");
    answer_print_stats(c->args->stats, c->session, &c->last, c->args->sampling.options.seed);
    return TLM_OK;
}

// ---- commands -----------------------------------------------------------------------------------------

static void print_stats(const struct chat *c)
{
    struct tlm_session_info info = tlm_session_info(c->session);
    char kv[16], scratch[16];
    fprintf(stderr,
            "%s, isa %s, %" PRId32 " threads; turns: %zu; %" PRId32 " of %" PRId32
            " tokens of context; %" PRIu64 " computed so far; cache %s, scratch %s\n",
            tlm_model_description(c->model), tlm_model_isa(c->model), info.threads, c->transcript.count,
            info.length, info.context, info.tokens_computed, common_human_bytes(info.kv_bytes, kv, sizeof kv),
            common_human_bytes(info.scratch_bytes, scratch, sizeof scratch));
    if (c->last.prompt_tokens)
        answer_print_stats("text", c->session, &c->last, c->args->sampling.options.seed);
}

// Does what a line that starts with '/' asks for; false ends the conversation.
static bool command(struct chat *c, const char *name)
{
    if (!strcmp(name, "/quit") || !strcmp(name, "/exit")) return false;
    if (!strcmp(name, "/reset")) {
        transcript_clear(&c->transcript);
        tlm_sampler_reset(c->sampler);
        fprintf(stderr, "The conversation starts again.\n");
    } else if (!strcmp(name, "/stats")) {
        print_stats(c);
    } else if (!strcmp(name, "/help")) {
        fprintf(
            stderr,
            "/help   this list\n"
            "/reset  start the conversation again, keeping the system text\n"
            "/stats  what was computed, and how fast\n"
            "/quit   end (Ctrl-D, too)\n"
            "A line that ends in \\ goes on in the next; one that starts with a space may start with / too.\n"
            "Ctrl-C stops an answer, or gives up the line that is being typed.\n");
    } else {
        fprintf(stderr, "no command '%s'; /help lists them\n", name);
    }
    return true;
}

// ---- the conversation ---------------------------------------------------------------------------------

// Reads a message, over several lines if they end in a backslash; *message is for free().
static enum terminal_event read_message(struct chat *c, char **message, struct tlm_error *err)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    enum terminal_event event = TERMINAL_END;
    const char *line, *prompt = "> ";
    *message = NULL;
    if (!f) {
        error_set(err, TLM_ERR_MEMORY, "message: no memory for it");
        return TERMINAL_END;
    }
    while ((event = terminal_read(c->terminal, prompt, &line)) == TERMINAL_LINE) {
        size_t length = strlen(line);
        bool more = length && line[length - 1] == '\\';
        terminal_remember(c->terminal, line);
        fwrite(line, 1, length - more, f);
        if (more) fputc('\n', f);
        if (!more) break;
        prompt = ". ";
    }
    // The end of the input behind a backslash ends the message, too; the next read finds the end again.
    if (event == TERMINAL_END && ftell(f) > 0) event = TERMINAL_LINE;
    bool failed = ferror(f);
    if (fclose(f) || failed) {
        error_set(err, TLM_ERR_MEMORY, "message: no memory for it");
        free(text);
        return TERMINAL_END;
    }
    *message = text;
    return event;
}

static bool is_blank(const char *text)
{
    while (is_space(*text)) text++;
    return !*text;
}

// One message after the other until the input ends. Returns the exit code.
static int converse(struct chat *c)
{
    bool interactive = terminal_interactive(c->terminal);
    struct tlm_error err = {TLM_OK, ""};
    if (interactive)
        fprintf(stderr, "%s, %" PRId32 " tokens of context. /help lists the commands, Ctrl-D ends.\n",
                tlm_model_description(c->model), tlm_session_info(c->session).context);
    for (bool more = true; more && !c->output_error;) {
        char *message;
        enum terminal_event event = read_message(c, &message, &err);
        if (event == TERMINAL_END) {
            more = false;
        } else if (event == TERMINAL_INTERRUPT) {
            fprintf(stderr, "Ctrl-C again, or Ctrl-D, ends.\n");
        } else if (message[0] == '/') {
            more = command(c, message);
        } else if (!is_blank(message) && say(c, message, &err)) {
            common_failed(c->line, &err);
            c->failed = true;
            // A message that is too long can be put shorter; all else would only fail again.
            more = err.code == TLM_ERR_CONTEXT;
        }
        free(message);
    }
    if (c->output_error) return common_output_failed(c->line, c->output_error, EXIT_DONE);
    if (err.code && !c->failed) return common_failed(c->line, &err);
    return c->failed && (!interactive || err.code != TLM_ERR_CONTEXT) ? EXIT_FAILED : EXIT_DONE;
}

static int open_and_converse(const struct command_line *line, struct chat_args *args)
{
    struct tlm_model *model = NULL;
    struct chat c = {.line = line, .args = args, .transcript = {.system = args->system}};
    int code = common_open_model(line, &args->model, false, &model);
    if (code == OPTIONS_GO) code = sampling_open(line, &args->sampling, model, &c.sampler);
    if (code == OPTIONS_GO) code = common_open_session(line, model, &args->session, &c.session);
    if (code == OPTIONS_GO && !(c.terminal = terminal_open())) {
        fprintf(stderr, "tinylm chat: no memory for line editing\n");
        code = EXIT_FAILED;
    }
    c.model = model;
    if (code == OPTIONS_GO) code = converse(&c);
    terminal_close(c.terminal);
    transcript_clear(&c.transcript);
    free(c.last.tokens);
    tlm_session_close(c.session);
    tlm_sampler_close(c.sampler);
    tlm_model_close(model);
    return common_finish_output(line, code);
}

int command_chat(int argc, char **argv)
{
    struct chat_args args = {.sampling = sampling_defaults(), .answer = {.predict = -1}, .stats = "none"};
    const struct option_group groups[] = {
        OPTION_GROUP("Model:", model_options, &args.model),
        OPTION_GROUP("Conversation:", chat_options, &args),
        OPTION_GROUP("Answer:", answer_options, &args.answer),
        OPTION_GROUP("Sampling:", sampling_options, &args.sampling),
        OPTION_GROUP("Machine:", session_options, &args.session),
    };
    const struct command_line line = {"chat", "-m MODEL [--system TEXT] [OPTION ...]", "Talks with a model.",
                                      groups, sizeof groups / sizeof *groups,          notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    return open_and_converse(&line, &args);
}
