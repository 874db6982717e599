#include "cli/eval_text.h"

#include <inttypes.h>
#include <unistd.h>

#include "cli/common.h"

enum tlm_status eval_read_tokens(const struct tlm_model *m, const char *path, int32_t **tokens, size_t *count,
                                 struct tlm_error *err)
{
    char *text;
    size_t bytes;
    enum tlm_status status = file_read(path, &text, &bytes, err);
    if (status) return status;
    status = common_encode(m, text, bytes, TLM_ADD_BOS, tokens, count, err);
    free(text);
    return status;
}

int eval_check_window(const struct command_line *line, int32_t window)
{
    if (window >= SCAN_LEAST) return OPTIONS_GO;
    return options_wrong(line, "-c: expected windows of %d tokens at least, found %d", SCAN_LEAST, window);
}

int64_t eval_cut_windows(const struct tlm_model *m, int32_t *tokens, size_t count, int32_t window,
                         int32_t most)
{
    int64_t windows = (int64_t)(count / (size_t)window);
    if (most && windows > most) windows = most;
    for (int64_t w = 0; w < windows && tlm_adds_bos(m); w++) tokens[w * window] = tlm_token_bos(m);
    return windows;
}

enum tlm_status eval_read_windows(const struct tlm_model *m, const char *path, int32_t window, int32_t most,
                                  int32_t **tokens, struct compare_text *text, struct tlm_error *err)
{
    size_t count;
    *tokens = NULL;
    enum tlm_status status = eval_read_tokens(m, path, tokens, &count, err);
    if (status) return status;
    *text = (struct compare_text){*tokens, eval_cut_windows(m, *tokens, count, window, most), window};
    if (text->count) return TLM_OK;
    free(*tokens);
    *tokens = NULL;
    return error_set(err, TLM_ERR_ARGUMENT, "%.300s: expected %d tokens at least, found %zu: lower -c", path,
                     window, count);
}

bool eval_progress(void *user, int64_t done, int64_t count)
{
    const char *name = user;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s: %" PRId64 " of %" PRId64 "%s", name, done, count, done == count ? "\n" : " ");
    return !common_interrupted();
}

bool eval_silent(void *user, int64_t done, int64_t count)
{
    (void)user, (void)done, (void)count;
    return !common_interrupted();
}

// ---- what is written ----------------------------------------------------------------------------------

static void json_mean(const char *name, struct mean m)
{
    printf("\"%s\": %.9g, \"%s_error\": %.9g, ", name, m.value, name, m.error);
}

void eval_json_divergence(const struct divergence *d)
{
    json_mean("kld", d->kl);
    printf("\"kld_median\": %.9g, \"kld_90\": %.9g, \"kld_95\": %.9g, \"kld_99\": %.9g, \"kld_99_9\": %.9g, "
           "\"kld_max\": %.9g, ",
           d->kl_median, d->kl_90, d->kl_95, d->kl_99, d->kl_999, d->kl_max);
    json_mean("same_top", d->same_top);
    json_mean("perplexity", d->perplexity);
    json_mean("perplexity_base", d->perplexity_base);
    json_mean("ratio", d->ratio);
    json_mean("log_ratio", d->log_ratio);
    json_mean("change", d->change);
    json_mean("change_rms", d->change_rms);
    printf("\"tokens\": %" PRId64, d->tokens);
}

void eval_scratch_path(char *path, size_t size, const char *name)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%.400s/tinylm-%ld-%s", folder && *folder ? folder : "/tmp", (long)getpid(), name);
}
