// cli/chat.c -- tinylm chat: a conversation (cli/conversation.h) on a terminal or through a pipe.
//
// Each turn the whole conversation is encoded and handed to the session, which computes only what is new.
#include "cli/chat.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "models/model.h"

static const struct option chat_options[] = {
    {"--think", "HOW", OPTION_STRING, offsetof(struct chat_args, think),
     .help = "what happens to a model's thoughts: show (dimmed on a terminal), hide, or a number of tokens, "
             "beyond which "
             "they are closed and the answer begins. Default: show."},
    {"--stats", "STYLE", OPTION_CHOICE, offsetof(struct chat_args, stats), .choices = answer_stats_styles,
     .help = "after each answer, counts, timings and the seed on standard error: text, json (on one line) or "
             "none. Default: "
             "text on a terminal, else none."},
};

static const char notes[] =
    "The model sees what its chat template makes of the conversation; without one, plain text: the system "
    "text, an empty\n"
    "line, then \"User: ...\" and \"Assistant: ...\" in turn; an answer ends where the model would write "
    "\"User:\".\n"
    "A line that ends in \\ goes on in the next; text that is pasted is one message.\n"
    "Where the context is full, the oldest turns are dropped, and a line on standard error says so.\n"
    "Ctrl-C stops an answer. /help lists the commands. Without a terminal: one answer a line of input.\n"
    "Lines are kept in $XDG_DATA_HOME/tinylm/history (~/.local/share/tinylm/history).\n"
    "Exit: 0 done, 1 failed, 2 wrong usage.\n";

// ---- an answer ----------------------------------------------------------------------------------------

struct text {
    char *data; // for free()
    size_t bytes, capacity;
};

static bool text_add(struct text *t, const char *data, size_t bytes)
{
    if (t->bytes + bytes > t->capacity) {
        size_t capacity = 2 * (t->bytes + bytes);
        char *grown = realloc(t->data, capacity);
        if (!grown) return false;
        t->data = grown;
        t->capacity = capacity;
    }
    if (bytes) memcpy(t->data + t->bytes, data, bytes);
    t->bytes += bytes;
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// An answer while it comes: what was said, what was thought, and how much of it was shown.
struct answer {
    struct chat *chat;
    struct thoughts thoughts;
    struct text said, thought;
    size_t said_shown, thought_shown; // white space at the end waits for what follows
    enum thought_part showing;        // what stands on the screen last
    int32_t thought_tokens;
    bool too_long; // the thoughts reached their limit
    int error;     // errno of a write that failed
    bool no_memory;
};

static int show(struct answer *a, const char *text, size_t bytes)
{
    if (bytes && !a->error) a->error = answer_write(text, bytes);
    return a->error;
}

static int show_mark(struct answer *a, const char *text)
{
    return show(a, text, strlen(text));
}

// Between thoughts and answer: colours on a terminal, the tags elsewhere.
static void change_part(struct answer *a, enum thought_part part)
{
    bool colours = terminal_colours(a->chat->terminal), thinks = part == THOUGHT_THOUGHT;
    if (part == a->showing) return;
    if (thinks)
        show_mark(a, colours ? "\033[2m" : "<think>\n");
    else
        show_mark(a, colours ? "\033[0m\n\n" : "\n</think>\n\n");
    a->showing = part;
}

static int take_part(void *user, enum thought_part part, const char *data, size_t bytes)
{
    struct answer *a = user;
    bool thinks = part == THOUGHT_THOUGHT;
    struct text *t = thinks ? &a->thought : &a->said;
    size_t *shown = thinks ? &a->thought_shown : &a->said_shown;
    if (!text_add(t, data, bytes)) return a->no_memory = true;
    size_t end = t->bytes;
    while (end > *shown && is_space(t->data[end - 1])) end--;
    if (end == *shown || (thinks && a->chat->hide)) return 0;
    change_part(a, part);
    show(a, t->data + *shown, end - *shown);
    *shown = end;
    return a->error;
}

static int answer_token(void *user, int32_t token, const char *text, size_t bytes)
{
    struct answer *a = user;
    (void)token;
    if (a->thoughts.part == THOUGHT_THOUGHT) a->thought_tokens++;
    int stop = thoughts_feed(&a->thoughts, text, bytes);
    int32_t limit = a->chat->think_limit;
    a->too_long = limit >= 0 && a->thoughts.part == THOUGHT_THOUGHT && a->thought_tokens >= limit;
    return stop || a->too_long || common_interrupted();
}

// Tokens kept free for an answer.
static size_t reserve(const struct chat *c)
{
    size_t context = (size_t)tlm_session_info(c->session).context, predict = (size_t)c->args->answer.predict;
    if (c->args->answer.predict >= 0 && predict < context / 4) return predict + 1;
    return context / 4 + 1;
}

// The prompt, dropping the oldest turns where it leaves no room for an answer: then down to half of the context, so that the
// next turns can again reuse what is computed.
static enum tlm_status make_prompt(struct chat *c, struct conversation_prompt *p, struct tlm_error *err)
{
    size_t context = (size_t)tlm_session_info(c->session).context, dropped = 0;
    enum tlm_status status;
    for (size_t limit = context - reserve(c);; limit = context / 2) {
        status = conversation_prompt(&c->conversation, p, err);
        if (status || p->count <= limit || !conversation_drop_oldest(&c->conversation)) break;
        free(p->ids);
        dropped++;
    }
    if (dropped)
        fprintf(stderr, "tinylm chat: the context of %zu tokens is full: dropped the oldest %zu turn%s\n",
                context, dropped, dropped == 1 ? "" : "s");
    if (status || p->count < context) return status;
    free(p->ids);
    p->ids = NULL;
    return error_set(
        err, TLM_ERR_CONTEXT,
        "message: expected fewer than the %zu tokens of the context, found %zu (with the system text)",
        context, p->count);
}

static enum tlm_status generate(struct chat *c, const int32_t *ids, size_t count, struct answer *a,
                                struct tlm_error *err)
{
    const char *stop[OPTION_STRINGS_MAX + 1];
    const struct option_strings *more = &c->args->answer.stop;
    size_t stops = 0;
    if (!c->conversation.template) stop[stops++] = CONVERSATION_STOP;
    for (size_t i = 0; i < more->count; i++) stop[stops++] = more->items[i];
    struct tlm_generate_options options = {.stop = stop,
                                           .stop_count = stops,
                                           // Markers of channels are control tokens.
                                           .special = c->args->answer.special ||
                                                      c->conversation.style == THOUGHT_CHANNELS,
                                           .drafter = c->drafting.drafter,
                                           .draft_max = c->args->drafting.most,
                                           .on_token = answer_token,
                                           .user = a};
    struct tlm_generate_result result;
    enum tlm_status status =
        answer_run(c->session, c->sampler, ids, count, c->args->answer.predict, &options, &result, err);
    free(c->last.tokens);
    c->last = result;
    if (status) c->last = (struct tlm_generate_result){.tokens = result.tokens};
    if (!status && a->no_memory) status = error_set(err, TLM_ERR_MEMORY, "answer: no memory for its text");
    return status;
}

// Thoughts that went on for too long: closes them in the model's name and lets it go on.
static enum tlm_status close_thoughts(struct chat *c, struct answer *a, struct tlm_error *err)
{
    const char *closing = thoughts_closing(c->conversation.style);
    size_t held = (size_t)(c->last.prompt_tokens + c->last.new_tokens), capacity = held + strlen(closing),
           more = 0;
    int32_t *ids = malloc(capacity * sizeof *ids);
    if (!ids) return error_set(err, TLM_ERR_MEMORY, "answer: no memory for %zu tokens", capacity);
    memcpy(ids, c->last.tokens, held * sizeof *ids);
    enum tlm_status status = tokenizer_encode(c->model->tokenizer, closing, strlen(closing),
                                              TLM_PARSE_SPECIAL, ids + held, capacity - held, &more, err);
    struct tlm_generate_result before = c->last;
    thoughts_end(&a->thoughts);
    thoughts_feed(&a->thoughts, closing, strlen(closing));
    a->too_long = false;
    if (!status) status = generate(c, ids, held + more, a, err);
    // What both parts took together.
    c->last.reused_tokens = before.reused_tokens;
    c->last.prompt_tokens = before.prompt_tokens;
    c->last.new_tokens += before.new_tokens + (int32_t)more;
    c->last.prompt_seconds += before.prompt_seconds;
    c->last.new_seconds += before.new_seconds;
    free(ids);
    return status;
}

static enum tlm_status stream(struct chat *c, struct answer *a, struct tlm_error *err)
{
    struct conversation_prompt prompt;
    enum tlm_status status = make_prompt(c, &prompt, err);
    if (status) return status;
    thoughts_begin(&a->thoughts, c->conversation.style, prompt.begins, take_part, a);
    common_clear_interrupt();
    common_catch_interrupt();
    status = generate(c, prompt.ids, prompt.count, a, err);
    if (!status && a->too_long && !a->error) status = close_thoughts(c, a, err);
    if (!terminal_interactive(c->terminal)) common_release_interrupt();
    free(prompt.ids);
    thoughts_end(&a->thoughts);
    if (a->showing == THOUGHT_THOUGHT) change_part(a, THOUGHT_ANSWER); // interrupted while it thought
    return status;
}

enum tlm_status chat_answer(struct chat *c, struct tlm_error *err)
{
    struct answer a = {.chat = c};
    enum tlm_status status = stream(c, &a, err);
    if (!status) {
        c->output_error = a.error ? a.error : answer_write("\n", 1);
        while (a.said.bytes && is_space(a.said.data[a.said.bytes - 1])) a.said.bytes--;
        while (a.thought.bytes && is_space(a.thought.data[a.thought.bytes - 1])) a.thought.bytes--;
        status = conversation_add(&c->conversation, "assistant", a.said.data ? a.said.data : "", a.said.bytes,
                                  a.thought.data, a.thought.bytes, err);
    }
    free(a.said.data);
    free(a.thought.data);
    if (status) return status;
    if (c->last.finish == TLM_FINISH_CONTEXT)
        fprintf(stderr, "tinylm chat: the context is full: the answer was cut\n");
    bool dim = terminal_colours(c->terminal) && strcmp(c->args->stats, "none") != 0;
    if (dim) fputs("\033[2m", stderr);
    answer_print_stats(c->args->stats, c->session, &c->last, c->args->sampling.options.seed);
    if (dim) fputs("\033[0m", stderr);
    return TLM_OK;
}

// Answers `message`. An error leaves the conversation as it was before, but for turns that had to be dropped.
static enum tlm_status say(struct chat *c, const char *message, struct tlm_error *err)
{
    enum tlm_status status =
        conversation_add(&c->conversation, "user", message, strlen(message), NULL, 0, err);
    if (!status && (status = chat_answer(c, err))) conversation_drop_last(&c->conversation, "user");
    return status;
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
    // On a terminal Ctrl-C never ends the program from behind: a conversation is at stake.
    if (interactive) common_catch_interrupt();
    for (bool more = true; more && !c->output_error;) {
        char *message;
        common_clear_interrupt();
        enum terminal_event event = read_message(c, &message, &err);
        if (event == TERMINAL_END) {
            more = false;
        } else if (event == TERMINAL_INTERRUPT) {
            fprintf(stderr, "Ctrl-C again, or Ctrl-D, ends.\n");
        } else if (message[0] == '/') {
            more = chat_command(c, message, &err);
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

// --think: show, hide or a number of tokens.
static int read_think(const struct command_line *line, struct chat *c)
{
    const char *how = c->args->think;
    if (!how || !strcmp(how, "show")) return OPTIONS_GO;
    if (!strcmp(how, "hide")) {
        c->hide = true;
        return OPTIONS_GO;
    }
    char *end;
    long tokens = strtol(how, &end, 10);
    if (*end || end == how || tokens < 0 || tokens > INT32_MAX)
        return options_wrong(line, "--think: expected show, hide or a number of tokens, found '%s'", how);
    c->think_limit = (int32_t)tokens;
    return OPTIONS_GO;
}

static int open_and_converse(const struct command_line *line, struct chat_args *args)
{
    struct tlm_model *model = NULL;
    struct chat c = {.line = line, .args = args, .think_limit = -1};
    struct tlm_error err;
    int wrong = read_think(line, &c);
    if (wrong != OPTIONS_GO) return wrong;
    int code = common_open_model(line, &args->model, false, &model);
    if (code == OPTIONS_GO) code = sampling_open(line, &args->sampling, model, &c.sampler);
    if (code == OPTIONS_GO) code = common_open_session(line, model, &args->session, &c.session);
    if (code == OPTIONS_GO)
        code = drafting_open(line, &args->drafting, &args->sampling, &args->session, model, &c.drafting);
    if (code == OPTIONS_GO && !(c.terminal = terminal_open())) {
        fprintf(stderr, "tinylm chat: no memory for line editing\n");
        code = EXIT_FAILED;
    }
    c.model = model;
    if (code == OPTIONS_GO && conversation_open(&c.conversation, model, &args->conversation, &err))
        code = common_failed(line, &err);
    if (code == OPTIONS_GO && !args->stats) args->stats = terminal_interactive(c.terminal) ? "text" : "none";
    if (code == OPTIONS_GO) code = converse(&c);
    terminal_close(c.terminal);
    conversation_close(&c.conversation);
    free(c.last.tokens);
    drafting_close(&c.drafting);
    tlm_session_close(c.session);
    tlm_sampler_close(c.sampler);
    sampling_close(&args->sampling);
    tlm_model_close(model);
    return common_finish_output(line, code);
}

int command_chat(int argc, char **argv)
{
    struct chat_args args = {.sampling = sampling_defaults(), .answer = {.predict = -1}};
    const struct option_group groups[] = {
        OPTION_GROUP("Model:", model_options, &args.model),
        OPTION_GROUP("Device:", device_options, &args.model),
        OPTION_GROUP("Conversation:", conversation_options, &args.conversation),
        OPTION_GROUP("Thoughts and figures:", chat_options, &args),
        OPTION_GROUP("Answer:", answer_options, &args.answer),
        OPTION_GROUP("Sampling:", sampling_options, &args.sampling),
        OPTION_GROUP("Speculation:", drafting_options, &args.drafting),
        OPTION_GROUP("Machine:", session_options, &args.session),
    };
    const struct command_line line = {"chat", "-m MODEL [--system TEXT] [OPTION ...]", "Talks with a model.",
                                      groups, sizeof groups / sizeof *groups,          notes};
    int code = options_parse(&line, argc, argv, NULL, 0, NULL);
    if (code != OPTIONS_GO) return code == EXIT_DONE ? common_finish_output(&line, code) : code;
    return open_and_converse(&line, &args);
}
