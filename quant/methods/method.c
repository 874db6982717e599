// quant/methods/method.c -- the table of methods; see quant/methods/method.h.
#include "quant/methods/method.h"

// Rounding: what the user has brought says which columns matter.
static enum tlm_status rtn_run(struct quant_work *w, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (uint64_t i = 0; i < w->in->tensor_count && !s && w->sums; i++)
        s = quant_work_weigh(w, i, w->sums, err);
    return s;
}

const struct quant_method quant_methods[] = {
    {"rtn", "each number to the nearest that the type has, scales by search", false, false, rtn_run},
    {"gptq", "one column after the other, those behind making up for it, by the moments of a text's rows",
     true, false, gptq_run},
    {"awq", "columns with much in them are scaled up, and what goes into them down", true, true, awq_run},
    {0},
};

const struct quant_method *quant_method_find(const char *name)
{
    for (const struct quant_method *m = quant_methods; m->name; m++)
        if (!strcmp(m->name, name)) return m;
    return NULL;
}

enum tlm_status quant_work_open(struct quant_work *w, struct tlm_error *err)
{
    size_t count = w->in->tensor_count ? w->in->tensor_count : 1;
    w->weights = calloc(count, sizeof *w->weights);
    w->ready = calloc(count, sizeof *w->ready);
    w->columns = calloc(count, sizeof *w->columns);
    w->rows = calloc(count, sizeof *w->rows);
    if (w->weights && w->ready && w->columns && w->rows) return TLM_OK;
    quant_work_close(w);
    return error_set(err, TLM_ERR_MEMORY, "no memory for the work on %zu tensors", count);
}

void quant_work_close(struct quant_work *w)
{
    float ***each[] = {&w->weights, &w->columns, &w->rows};
    for (int k = 0; k < 3; k++) {
        for (uint64_t i = 0; i < w->in->tensor_count && *each[k]; i++) free((*each[k])[i]);
        free(*each[k]);
        *each[k] = NULL;
    }
    free(w->ready);
    w->ready = NULL;
    spool_close(&w->spool);
}

enum tlm_status quant_work_weigh(struct quant_work *w, uint64_t i, const struct imatrix *sums,
                                 struct tlm_error *err)
{
    const struct gguf_tensor *t = &w->in->tensors[i];
    const struct imatrix_entry *e = imatrix_find(sums, t->name);
    if (!e || e->cols * e->mats != t->tensor.ne[0] * t->tensor.ne[2] || t->tensor.ne[3] != 1) return TLM_OK;
    free(w->weights[i]);
    w->weights[i] = imatrix_weights(e);
    return w->weights[i] ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "no memory for weights of columns");
}
