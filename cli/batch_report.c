#include "cli/batch_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/common.h"

void batch_report_progress(struct batch_report *r)
{
    enum { HOUR = 3600, MINUTE = 60 };
    double now = common_seconds(), seconds = now - r->begin;
    if (!r->shown || now - r->last < 0.2) return;
    r->last = now;
    fprintf(stderr, "\r%" PRId64, r->done);
    if (r->lines >= 0) fprintf(stderr, " of %" PRId64, r->lines);
    fprintf(stderr, " requests, %.1f tokens/s", seconds > 0 ? (double)r->drawn / seconds : 0.0);
    if (r->lines >= 0 && r->done_here) {
        long left = (long)(seconds / (double)r->done_here * (double)(r->lines - r->done));
        fprintf(stderr, ", %ld:%02ld:%02ld left", left / HOUR, left / MINUTE % MINUTE, left % MINUTE);
    }
    fprintf(stderr, "\033[K"); // to the end of the line
    fflush(stderr);
}

void batch_report_hide(const struct batch_report *r)
{
    if (r->shown && r->last > 0) fprintf(stderr, "\r\033[K");
}

static void print_json(const struct batch_report *r, const struct tlm_batch_info *info, double seconds,
                       double speed, const char *isa)
{
    fprintf(stderr,
            "{\"answers\": %" PRId64 ", \"found_answers\": %" PRId64 ", \"failures\": %" PRId64
            ", \"prompt_tokens\": %" PRId64 ", \"reused_tokens\": %" PRId64 ", \"new_tokens\": %" PRId64
            ", \"drafted_tokens\": %" PRId64 ", \"accepted_tokens\": %" PRId64 ", \"seconds\": %.6f"
            ", \"new_tokens_per_second\": %.2f, \"passes\": %" PRIu64 ", \"rows\": %" PRIu64
            ", \"preempted\": %" PRIu64 ", \"evicted_blocks\": %" PRIu64 ", \"kv_bytes\": %" PRIu64
            ", \"parallel\": %" PRId32 ", \"context\": %" PRId32 ", \"cache\": %" PRId32
            ", \"threads\": %" PRId32 ", \"isa\": \"%s\"}\n",
            r->answers, r->found_answers, r->failures, r->prompt_tokens, r->reused_tokens, r->new_tokens,
            r->drafted_tokens, r->accepted_tokens, seconds, speed, info->passes, info->rows, info->preempted,
            info->evicted, info->kv_bytes, info->parallel, info->context, info->cache, info->threads, isa);
}

static void print_text(const struct batch_report *r, const struct tlm_batch_info *info, double seconds,
                       double speed)
{
    char bytes[16];
    fprintf(stderr,
            "answers: %" PRId64 ", %" PRId64 " were there already; prompts: %" PRId64 " tokens, %" PRId64
            " of them reused; new: %" PRId64 " tokens, %.3f s, %.1f tokens/s; ",
            r->answers, r->found_answers, r->prompt_tokens, r->reused_tokens, r->new_tokens, seconds, speed);
    if (r->drafted_tokens)
        fprintf(stderr, "drafted: %" PRId64 ", accepted: %" PRId64 "; ", r->drafted_tokens,
                r->accepted_tokens);
    fprintf(stderr, "passes: %" PRIu64 ", preempted: %" PRIu64 "; cache: %s\n", info->passes, info->preempted,
            common_human_bytes(info->kv_bytes, bytes, sizeof bytes));
}

void batch_report_stats(const struct batch_report *r, const char *style, const struct tlm_batch *batch,
                        const struct tlm_model *model)
{
    const struct tlm_batch_info info = tlm_batch_info(batch);
    double seconds = common_seconds() - r->begin;
    double speed = seconds > 0 ? (double)r->new_tokens / seconds : 0;
    if (!strcmp(style, "json"))
        print_json(r, &info, seconds, speed, tlm_model_isa(model));
    else if (!strcmp(style, "text"))
        print_text(r, &info, seconds, speed);
}
