// cli/answer.c -- see cli/answer.h.
#include "cli/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const answer_stats_styles[] = {"text", "json", "none", NULL};

const struct option answer_options[ANSWER_OPTION_COUNT] = {
    {"-n, --predict", "N", OPTION_INT, offsetof(struct answer_args, predict), .low = -1, .high = INT32_MAX,
     .help = "new tokens at most; 0 computes the prompt alone; -1 no limit. Default: -1, until the answer "
             "ends or the "
             "context is full."},
    {"-r, --reverse-prompt", "TEXT", OPTION_STRINGS, offsetof(struct answer_args, stop),
     .help = "end the answer in front of this text; may be given again. Default: none."},
    {"--special", NULL, OPTION_FLAG, offsetof(struct answer_args, special),
     .help = "write the names of control tokens, too. Default: off."},
};

// ---- the prompt and the answer ------------------------------------------------------------------------

static void show_progress(size_t done, size_t count)
{
    if (!isatty(STDERR_FILENO)) return;
    if (done < count)
        fprintf(stderr, "\rprompt: %zu of %zu tokens", done, count);
    else
        fprintf(stderr, "\r\033[K"); // to the end of the line
    fflush(stderr);
}

// Computes all of the prompt but what one pass can take, as long as nobody interrupts. *reused receives what
// the session had already. Each pass goes behind the common prefix, for a shorter one would make the session
// drop what it has.
static enum tlm_status feed(struct tlm_session *session, const int32_t *prompt, size_t count, size_t prefix,
                            bool *interrupted, struct tlm_error *err)
{
    size_t batch = (size_t)tlm_session_info(session).batch;
    bool shown = false;
    enum tlm_status status = TLM_OK;
    for (size_t at = prefix; !status && count - at > batch; at += batch) {
        if ((*interrupted = common_interrupted())) break;
        show_progress(at, count);
        shown = true;
        status = tlm_session_sync(session, prompt, at + batch, err);
    }
    if (shown) show_progress(count, count);
    return status;
}

// The prompt without an answer.
static enum tlm_status finish_prompt(struct tlm_session *session, const int32_t *prompt, size_t count,
                                     bool interrupted, struct tlm_generate_result *result,
                                     struct tlm_error *err)
{
    result->finish = interrupted ? TLM_FINISH_CANCELLED : TLM_FINISH_LENGTH;
    result->prompt_tokens = interrupted ? tlm_session_info(session).length : (int32_t)count;
    if (!(result->tokens = malloc((count + 1) * sizeof *prompt))) {
        snprintf(err->text, sizeof err->text, "prompt: no memory for %zu tokens", count);
        return err->code = TLM_ERR_MEMORY;
    }
    memcpy(result->tokens, prompt, count * sizeof *prompt);
    return interrupted ? TLM_OK : tlm_session_sync(session, prompt, count, err);
}

enum tlm_status answer_run(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                           size_t count, const int32_t *timeline, size_t timeline_count, int32_t predict,
                           const struct tlm_generate_options *options, struct tlm_generate_result *result,
                           struct tlm_error *err)
{
    *result = (struct tlm_generate_result){0};
    struct tlm_session_info info = tlm_session_info(session);
    if (timeline_count > (size_t)info.length) timeline_count = (size_t)info.length;
    size_t prefix = 0;
    while (prefix < count && prefix < timeline_count && prompt[prefix] == timeline[prefix]) prefix++;

    double start = common_seconds();
    bool interrupted = false;
    enum tlm_status status = TLM_OK;
    // A prompt that does not fit is left to the error of those who know the context.
    if (count <= (size_t)info.context) status = feed(session, prompt, count, prefix, &interrupted, err);
    if (status) return status;
    double fed = common_seconds() - start;
    if (interrupted || !predict) {
        status = finish_prompt(session, prompt, count, interrupted, result, err);
        fed = common_seconds() - start;
    } else {
        struct tlm_generate_options limited = *options;
        limited.max_tokens = predict < 0 ? 0 : predict;
        status = tlm_generate(session, sampler, prompt, count, &limited, result, err);
    }
    result->prompt_seconds += fed;
    // What feed() computed counts as reused to those who came after it.
    if (result->reused_tokens > (int32_t)prefix || interrupted || !predict)
        result->reused_tokens = (int32_t)prefix;
    return status;
}

int answer_write(const char *text, size_t bytes)
{
    errno = 0;
    if (fwrite(text, 1, bytes, stdout) == bytes && !fflush(stdout)) return 0;
    return errno ? errno : EIO;
}

// ---- statistics ---------------------------------------------------------------------------------------

static const char *finish_name(enum tlm_finish finish)
{
    switch (finish) {
    case TLM_FINISH_LENGTH: return "length";
    case TLM_FINISH_END: return "end";
    case TLM_FINISH_STOP: return "stop";
    case TLM_FINISH_CONTEXT: return "context";
    case TLM_FINISH_CANCELLED: return "cancelled";
    }
    return "?";
}

static double per_second(int32_t tokens, double seconds)
{
    return tokens > 0 && seconds > 0 ? tokens / seconds : 0;
}

void answer_print_stats(const char *style, const struct tlm_session *session,
                        const struct tlm_generate_result *r, uint64_t seed)
{
    // Speeds are of passes: reused tokens take none, and neither does the last new one.
    double prompt_speed = per_second(r->prompt_tokens - r->reused_tokens, r->prompt_seconds);
    double new_speed = per_second(r->new_tokens - 1, r->new_seconds);
    struct tlm_session_info info = tlm_session_info(session);
    const struct tlm_model *model = tlm_session_model(session);
    if (!strcmp(style, "json"))
        fprintf(stderr,
                "{\"prompt_tokens\": %" PRId32 ", \"reused_tokens\": %" PRId32 ", \"prompt_seconds\": %.6f, "
                "\"prompt_tokens_per_second\": %.2f, \"new_tokens\": %" PRId32 ", \"new_seconds\": %.6f, "
                "\"new_tokens_per_second\": %.2f, \"finish\": \"%s\", \"seed\": %" PRIu64
                ", \"context\": %" PRId32 ", \"threads\": %" PRId32 ", \"isa\": \"%s\"}\n",
                r->prompt_tokens, r->reused_tokens, r->prompt_seconds, prompt_speed, r->new_tokens,
                r->new_seconds, new_speed, finish_name(r->finish), seed, info.context, info.threads,
                tlm_model_isa(model));
    else if (!strcmp(style, "text"))
        fprintf(stderr,
                "prompt: %" PRId32 " tokens, %" PRId32 " of them reused, %.3f s, %.1f tokens/s; "
                "new: %" PRId32 " tokens, %.3f s, %.1f tokens/s; finish: %s; seed: %" PRIu64 "\n",
                r->prompt_tokens, r->reused_tokens, r->prompt_seconds, prompt_speed, r->new_tokens,
                r->new_seconds, new_speed, finish_name(r->finish), seed);
}
