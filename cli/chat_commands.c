// cli/chat_commands.c -- the lines of a conversation that start with '/'.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/chat.h"

struct command {
    const char *name, *operand, *help; // operand: NULL for none
    // False ends the conversation. An error is printed by the caller.
    bool (*run)(struct chat *c, const char *operand, struct tlm_error *err);
};

static bool run_quit(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)c, (void)operand, (void)err;
    return false;
}

static bool run_clear(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand, (void)err;
    conversation_clear(&c->conversation);
    tlm_sampler_reset(c->sampler);
    fprintf(stderr, "The conversation starts again.\n");
    return true;
}

// Takes back the last answer, if there is one, and then the message before it.
static bool run_undo(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand, (void)err;
    bool answer = conversation_drop_last(&c->conversation, "assistant");
    if (conversation_drop_last(&c->conversation, "user") || answer)
        fprintf(stderr, "Took back the last message and its answer; %zu left.\n",
                conversation_exchanges(&c->conversation));
    else
        fprintf(stderr, "There is nothing to take back.\n");
    return true;
}

static bool run_regen(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand;
    if (!conversation_drop_last(&c->conversation, "assistant"))
        fprintf(stderr, "There is no answer yet.\n");
    else
        chat_answer(c, err); // the sampler's draws go on, so the answer is another one
    return true;
}

static bool run_system(struct chat *c, const char *operand, struct tlm_error *err)
{
    if (!conversation_set_system(&c->conversation, operand, err))
        fprintf(stderr,
                *operand ? "The system text is another one now.\n" : "There is no system text now.\n");
    return true;
}

// What the session has computed of the conversation in FILE stands in FILE.kv.
static bool run_save(struct chat *c, const char *operand, struct tlm_error *err)
{
    char kv[4096];
    struct tlm_session_info info = tlm_session_info(c->session);
    snprintf(kv, sizeof kv, "%s.kv", operand);
    if (conversation_save(&c->conversation, operand, err)) return true;
    fprintf(stderr, "Saved %zu messages to %s", json_array_size(c->conversation.messages), operand);
    if (info.length && !tlm_session_save(c->session, kv, err))
        fprintf(stderr, ", and the cache of %" PRId32 " tokens to %s", info.length, kv);
    fprintf(stderr, ".\n");
    return true;
}

static bool run_load(struct chat *c, const char *operand, struct tlm_error *err)
{
    char kv[4096];
    snprintf(kv, sizeof kv, "%s.kv", operand);
    if (conversation_load(&c->conversation, operand, err)) return true;
    fprintf(stderr, "Loaded %zu messages of %s", json_array_size(c->conversation.messages), operand);
    // Without the cache the conversation goes on as well: it is computed again.
    if (access(kv, F_OK) == 0 && !tlm_session_load(c->session, kv, err))
        fprintf(stderr, ", and the cache of %" PRId32 " tokens", tlm_session_info(c->session).length);
    fprintf(stderr, ".\n");
    return true;
}

// "temp 0.5", or nothing: the names there are.
static bool run_set(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)err;
    if (!*operand) {
        sampling_print(&c->args->sampling, stderr);
        return true;
    }
    char name[64];
    size_t length = strcspn(operand, " \t");
    const char *value = operand + length + strspn(operand + length, " \t");
    snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), operand);
    struct tlm_sampler *sampler;
    struct sampling_args changed = c->args->sampling;
    if (!sampling_set(&changed, name, value) ||
        sampling_open(c->line, &changed, c->model, &sampler) != OPTIONS_GO)
        return true; // has been printed
    tlm_sampler_close(c->sampler);
    c->sampler = sampler;
    c->args->sampling = changed;
    fprintf(stderr, "%s is %s now.\n", name, value);
    return true;
}

static bool run_stats(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand, (void)err;
    struct tlm_session_info info = tlm_session_info(c->session);
    char kv[16], scratch[16];
    fprintf(stderr,
            "%s, isa %s, %" PRId32 " threads; turns: %zu; %" PRId32 " of %" PRId32
            " tokens of context; %" PRIu64 " computed so far; cache %s, scratch %s\n",
            tlm_model_description(c->model), tlm_model_isa(c->model), info.threads,
            conversation_exchanges(&c->conversation), info.length, info.context, info.tokens_computed,
            common_human_bytes(info.kv_bytes, kv, sizeof kv),
            common_human_bytes(info.scratch_bytes, scratch, sizeof scratch));
    if (c->last.prompt_tokens)
        answer_print_stats("text", c->session, &c->last, c->args->sampling.options.seed);
    return true;
}

// What the next token would be by (V) logits: the log of the sum of all e^logit.
static double log_total(const float *logits, int32_t vocab)
{
    double most = -INFINITY, sum = 0;
    for (int32_t i = 0; i < vocab; i++)
        if ((double)logits[i] > most) most = (double)logits[i];
    for (int32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    return most + log(sum);
}

// How far pieces that were moved (--cache-reuse) have led from what computing everything gives: the divergence of the two
// distributions behind the last answer.
static bool run_exact(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)operand;
    size_t count = (size_t)(c->last.prompt_tokens + c->last.new_tokens);
    int32_t vocab = tlm_model_vocab_size(c->model), best = 0, same = 0;
    struct session_args exact = c->args->session;
    struct tlm_session *fresh;
    if (!c->last.tokens) {
        fprintf(stderr, "There is no answer yet.\n");
        return true;
    }
    exact.reuse_shifted = 0;
    if (common_open_session(c->line, c->model, &exact, &fresh) != OPTIONS_GO) return true; // has been printed
    if (!tlm_session_sync(c->session, c->last.tokens, count, err) &&
        !tlm_session_sync(fresh, c->last.tokens, count, err)) {
        const float *p = tlm_session_logits(fresh), *q = tlm_session_logits(c->session);
        double all_p = log_total(p, vocab), all_q = log_total(q, vocab), divergence = 0;
        for (int32_t i = 0; i < vocab; i++) {
            double log_p = (double)p[i] - all_p;
            if (log_p > -100) divergence += exp(log_p) * (log_p - ((double)q[i] - all_q));
            if (p[i] > p[best]) best = i;
            if (q[i] > q[same]) same = i;
        }
        fprintf(stderr,
                "Moved tokens so far: %" PRIu64
                "; KL divergence of the next token from an exact pass: %.3g nats; "
                "most likely token: %s.\n",
                tlm_session_info(c->session).tokens_shifted, divergence,
                best == same ? "the same" : "another one");
    }
    tlm_session_close(fresh);
    return true;
}

static bool run_help(struct chat *c, const char *operand, struct tlm_error *err);

static const struct command commands[] = {
    {"/help", NULL, "this list", run_help},
    {"/undo", NULL, "take back the last message and its answer", run_undo},
    {"/regen", NULL, "another answer to the last message", run_regen},
    {"/system", "[TEXT]", "another system text, or none", run_system},
    {"/set", "[NAME VALUE]", "sampling, such as /set temp 0.7; alone: all settings", run_set},
    {"/save", "FILE", "write the conversation, a message a line of JSON, and its cache beside it", run_save},
    {"/load", "FILE", "go on with a conversation that was saved", run_load},
    {"/clear", NULL, "start again, keeping the system text", run_clear},
    {"/stats", NULL, "what was computed, and how fast", run_stats},
    {"/cache", NULL, "the turns, and what the cache holds of them", chat_cache},
    {"/free", "N | all", "take turn N out of the conversation and the cache; all: empty the cache alone",
     chat_free},
    {"/exact", NULL, "how far --cache-reuse has led from an exact pass", run_exact},
    {"/quit", NULL, "end (Ctrl-D, too)", run_quit},
};

static bool run_help(struct chat *c, const char *operand, struct tlm_error *err)
{
    (void)c, (void)operand, (void)err;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(stderr, "%-8s%-14s%s\n", commands[i].name, commands[i].operand ? commands[i].operand : "",
                commands[i].help);
    fprintf(stderr,
            "A line that ends in \\ goes on in the next; one that starts with a space may start with / too.\n"
            "Ctrl-C stops an answer, or gives up the line that is being typed.\n");
    return true;
}

bool chat_command(struct chat *c, const char *line, struct tlm_error *err)
{
    size_t length = strcspn(line, " \t");
    const char *operand = line + length + strspn(line + length, " \t");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const struct command *k = &commands[i];
        bool exit = k->run == run_quit && length == 5 && !strncmp(line, "/exit", 5);
        if (!exit && (strlen(k->name) != length || strncmp(k->name, line, length) != 0)) continue;
        if (k->operand && *k->operand != '[' && !*operand) {
            fprintf(stderr, "%s: expected %s\n", k->name, k->operand);
            return true;
        }
        err->code = TLM_OK;
        bool more = k->run(c, operand, err);
        if (err->code) common_failed(c->line, err);
        err->code = TLM_OK;
        return more;
    }
    fprintf(stderr, "no command '%.*s'; /help lists them\n", (int)length, line);
    return true;
}
