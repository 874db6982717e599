#include "quant/methods/scan.h"

#include "generate/session.h"

enum { LOGIT_BYTES = 64 << 20 }; // that one pass hands out, if that is a row at least

enum tlm_status scan_open(struct scan *s, const struct tlm_model *m, const struct scan_config *config,
                          struct tlm_error *err)
{
    struct forward_config c = {
        .context = config->window, .max_rows = config->batch, .threads = config->threads, .sequences = 1};
    *s = (struct scan){.window = config->window};
    TLM_ASSERT(config->window >= SCAN_LEAST);
    enum tlm_status status = session_resolve(m, &c, config->kv_type_k, config->kv_type_v, err);
    if (status) return status;
    if (c.max_rows > c.context) c.max_rows = c.context;
    int64_t outputs = LOGIT_BYTES / ((int64_t)sizeof(float) * m->hparams.vocab);
    c.max_outputs = outputs < 1 ? 1 : outputs < c.max_rows ? (int32_t)outputs : c.max_rows;
    s->rows = calloc((size_t)c.max_rows, sizeof *s->rows);
    if (!s->rows) return error_set(err, TLM_ERR_MEMORY, "no memory for %d rows", c.max_rows);
    status = forward_open(&s->forward, m, &c, err);
    if (status) {
        free(s->rows);
        *s = (struct scan){0};
    }
    return status;
}

void scan_close(struct scan *s)
{
    if (s->rows) forward_close(&s->forward);
    free(s->rows);
    *s = (struct scan){0};
}

enum tlm_status scan_pass(struct scan *s, const int32_t *tokens, int32_t *at, struct scan_rows *rows,
                          struct tlm_error *err)
{
    const struct forward_config *c = &s->forward.config;
    int32_t counted = scan_first(s->window), end = scan_end(s->window), n = 0;
    *rows = (struct scan_rows){0};
    if (*at == 0) kv_truncate(&s->forward.cache, 0, 0);
    for (int32_t i = *at; i < end && n < c->max_rows; i++) {
        bool output = i >= counted;
        if (output && rows->count == c->max_outputs) break;
        if (output && !rows->count) rows->first = i;
        rows->count += output;
        s->rows[n++] = (struct forward_row){tokens[i], i, 0, output};
    }
    *at += n;
    return forward_run(&s->forward, s->rows, n, err);
}
