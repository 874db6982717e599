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

static int show_progress(void *user, int32_t done, int32_t count)
{
    (void)user;
    if (isatty(STDERR_FILENO)) {
        if (done < count)
            fprintf(stderr, "\rprompt: %" PRId32 " of %" PRId32 " tokens", done, count);
        else
            fprintf(stderr, "\r\033[K"); // to the end of the line
        fflush(stderr);
    }
    return common_interrupted();
}

enum tlm_status answer_run(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                           size_t count, int32_t predict, const struct tlm_generate_options *options,
                           struct tlm_generate_result *result, struct tlm_error *err)
{
    struct tlm_generate_options limited = *options;
    limited.max_tokens = predict < 0 ? 0 : predict ? predict : -1;
    limited.on_prompt = count > (size_t)tlm_session_info(session).batch ? show_progress : NULL;
    return tlm_generate(session, sampler, prompt, count, &limited, result, err);
}

int answer_write(const char *text, size_t bytes)
{
    errno = 0;
    if (fwrite(text, 1, bytes, stdout) == bytes && !fflush(stdout)) return 0;
    return errno ? errno : EIO;
}

// ---- statistics ---------------------------------------------------------------------------------------

const char *answer_finish_name(enum tlm_finish finish)
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
                "\"new_tokens_per_second\": %.2f, \"drafted_tokens\": %" PRId32
                ", \"accepted_tokens\": %" PRId32 ", \"finish\": \"%s\", \"seed\": %" PRIu64
                ", \"context\": %" PRId32 ", \"threads\": %" PRId32 ", \"isa\": \"%s\"}\n",
                r->prompt_tokens, r->reused_tokens, r->prompt_seconds, prompt_speed, r->new_tokens,
                r->new_seconds, new_speed, r->drafted_tokens, r->accepted_tokens,
                answer_finish_name(r->finish), seed, info.context, info.threads, tlm_model_isa(model));
    else if (!strcmp(style, "text")) {
        fprintf(stderr,
                "prompt: %" PRId32 " tokens, %" PRId32 " of them reused, %.3f s, %.1f tokens/s; "
                "new: %" PRId32 " tokens, %.3f s, %.1f tokens/s; ",
                r->prompt_tokens, r->reused_tokens, r->prompt_seconds, prompt_speed, r->new_tokens,
                r->new_seconds, new_speed);
        if (r->drafted_tokens)
            fprintf(stderr, "drafted: %" PRId32 ", accepted: %" PRId32 "; ", r->drafted_tokens,
                    r->accepted_tokens);
        fprintf(stderr, "finish: %s; seed: %" PRIu64 "\n", answer_finish_name(r->finish), seed);
    }
}
