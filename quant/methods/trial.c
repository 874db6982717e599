#include "quant/methods/trial.h"

enum tlm_status trial_open(struct trial *t, struct tlm_model *m, const struct scan_config *config,
                           const struct compare_text *text, const char *path, compare_progress_fn *progress,
                           void *user, struct tlm_error *err)
{
    *t = (struct trial){.model = m, .config = *config, .text = *text};
    t->config.window = text->window;
    struct scan scan = {0};
    size_t count = (size_t)(text->count * scan_counted(text->window));
    enum tlm_status status = TLM_OK;
    if (!(t->tokens = malloc(count * sizeof *t->tokens)))
        status = error_set(err, TLM_ERR_MEMORY, "no memory for the divergences of %zu tokens", count);
    if (!status) status = threads_open(&t->threads, config->threads ? config->threads : cpu_count(), err);
    if (!status) status = scan_open(&scan, m, &t->config, err);
    if (!status) status = compare_keep(&t->base, &scan, text, path, progress, user, err);
    scan_close(&scan);
    if (status) trial_close(t);
    return status;
}

void trial_close(struct trial *t)
{
    logits_file_close(&t->base);
    threads_close(t->threads);
    free(t->tokens);
    *t = (struct trial){0};
}

enum tlm_status trial_run(struct trial *t, const enum dtype *types, compare_progress_fn *progress, void *user,
                          struct divergence *d, struct tlm_error *err)
{
    struct rounded rounded;
    struct scan scan = {0};
    enum tlm_status status = rounded_apply(&rounded, t->model, types, t->threads, err);
    if (status) return status;
    status = scan_open(&scan, t->model, &t->config, err);
    if (!status) status = compare_run(&scan, NULL, &t->base, &t->text, t->tokens, progress, user, err);
    if (!status)
        status = divergence_summarize(d, t->tokens, t->text.count * scan_counted(t->text.window), err);
    scan_close(&scan);
    rounded_undo(&rounded);
    return status;
}
