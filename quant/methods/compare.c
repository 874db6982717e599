#include "quant/methods/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

// What the threads do with the logits of one pass: compare them, or encode them.
struct rows_job {
    const struct forward *model, *base; // base: or NULL and
    const struct logits_file *file;
    const int32_t *window;
    int64_t window_index;
    struct scan_rows rows;
    int32_t vocab, before;        // rows of the window in earlier passes
    float *decoded;               // (threads, vocab)
    struct divergence_token *out; // of the window
    uint8_t *encoded;             // (rows of a pass) instead
    atomic_int next;
    atomic_bool broken; // a logit is not finite
};

static void compare_rows(void *user, int thread)
{
    struct rows_job *j = user;
    for (int i; (i = atomic_fetch_add(&j->next, 1)) < j->rows.count;) {
        const float *logits = forward_logits(j->model, i), *base;
        if (j->encoded) {
            if (!logits_row_encode(j->encoded + (size_t)i * logits_row_bytes(j->vocab), logits, j->vocab))
                atomic_store(&j->broken, true);
            continue;
        }
        if (j->base) {
            base = forward_logits(j->base, i);
        } else {
            float *decoded = j->decoded + (size_t)thread * (size_t)j->vocab;
            logits_row_decode(decoded, logits_file_row(j->file, j->window_index, j->before + i), j->vocab);
            base = decoded;
        }
        struct divergence_token *t = &j->out[j->before + i];
        *t = divergence_of(base, logits, j->vocab, j->window[j->rows.first + i + 1]);
        if (!isfinite(t->kl) || !isfinite(t->nll) || !isfinite(t->nll_base)) atomic_store(&j->broken, true);
    }
}

// The model's passes over one window (and the base's beside them), and behind each the work on its rows.
static enum tlm_status run_window(struct rows_job *j, struct scan *model, struct scan *base,
                                  struct file_writer *w, struct tlm_error *err)
{
    int32_t end = scan_end(model->window);
    j->before = 0;
    for (int32_t at = 0, base_at = 0; at < end;) {
        enum tlm_status status = scan_pass(model, j->window, &at, &j->rows, err);
        struct scan_rows same;
        if (!status && base) {
            status = scan_pass(base, j->window, &base_at, &same, err);
            TLM_ASSERT(status || (same.first == j->rows.first && same.count == j->rows.count));
        }
        if (status) return status;
        atomic_store(&j->next, 0);
        threads_run(model->forward.threads, compare_rows, j);
        if (atomic_load(&j->broken))
            return error_set(err, TLM_ERR_FORMAT, "window %" PRId64 ": expected finite logits, found others",
                             j->window_index);
        if (w) {
            file_writer_write(w, j->encoded, (size_t)j->rows.count * logits_row_bytes(j->vocab));
            if ((status = file_writer_status(w, err))) return status;
        }
        j->before += j->rows.count;
    }
    return TLM_OK;
}

static enum tlm_status run_windows(struct rows_job *j, struct scan *model, struct scan *base,
                                   struct file_writer *w, const struct compare_text *text,
                                   compare_progress_fn *progress, void *user, struct tlm_error *err)
{
    struct divergence_token *out = j->out;
    for (int64_t i = 0; i < text->count; i++) {
        j->window = text->tokens + i * text->window;
        j->window_index = i;
        j->out = out ? out + i * scan_counted(text->window) : NULL;
        enum tlm_status status = run_window(j, model, base, w, err);
        if (status) return status;
        if (progress && !progress(user, i + 1, text->count))
            return error_set(err, TLM_ERR_CANCELLED, "stopped behind window %" PRId64, i + 1);
    }
    return TLM_OK;
}

enum tlm_status compare_run(struct scan *model, struct scan *base, const struct logits_file *file,
                            const struct compare_text *text, struct divergence_token *out,
                            compare_progress_fn *progress, void *user, struct tlm_error *err)
{
    struct rows_job j = {.model = &model->forward,
                         .base = base ? &base->forward : NULL,
                         .file = file,
                         .vocab = (int32_t)model->forward.model->hparams.vocab,
                         .out = out};
    size_t numbers = (size_t)threads_count(model->forward.threads) * (size_t)j.vocab;
    if (!base && !(j.decoded = malloc(numbers * sizeof *j.decoded)))
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu logits", numbers);
    enum tlm_status status = run_windows(&j, model, base, NULL, text, progress, user, err);
    free(j.decoded);
    return status;
}

enum tlm_status compare_save(struct scan *model, const struct compare_text *text, const char *path,
                             compare_progress_fn *progress, void *user, struct tlm_error *err)
{
    const struct forward_config *c = &model->forward.config;
    struct rows_job j = {.model = &model->forward, .vocab = (int32_t)model->forward.model->hparams.vocab};
    struct logits_info info;
    enum tlm_status status = logits_info_of(&info, model->forward.model, text->window, text->count, err);
    if (status) return status;
    size_t bytes = (size_t)c->max_outputs * logits_row_bytes(j.vocab);
    struct file_writer *w = NULL;
    if (!(j.encoded = malloc(bytes)))
        return error_set(err, TLM_ERR_MEMORY, "no memory for %zu bytes of logits", bytes);
    if (!(status = file_writer_open(&w, path, err))) {
        logits_file_begin(w, &info, text->tokens);
        status = run_windows(&j, model, NULL, w, text, progress, user, err);
        if (status)
            file_writer_abort(w);
        else
            status = file_writer_finish(w, err);
    }
    free(j.encoded);
    return status;
}

enum tlm_status compare_keep(struct logits_file *f, struct scan *model, const struct compare_text *text,
                             const char *path, compare_progress_fn *progress, void *user,
                             struct tlm_error *err)
{
    enum tlm_status status = compare_save(model, text, path, progress, user, err);
    if (status) return status;
    status = logits_file_open(f, path, err);
    unlink(path);
    return status;
}
