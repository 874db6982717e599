// models/limits.c -- static activations: what `quantize --static-activations` wrote of the inputs of matrices.
//
//     tinylm.activations.matrices   strings: names of tensors
//     tinylm.activations.limits     F32, as many: where the input of each is cut off
//
// Other programs, and tiers that multiply in floats, do not look at them.
#include "models/model.h"

// Far from where 127 divided by it, or squared, would overflow.
#define LIMIT_LEAST 1e-15
#define LIMIT_MOST  1e15

static enum tlm_status take_limit(struct gguf *g, struct gguf_string name, double limit,
                                  struct tlm_error *err)
{
    char text[WEIGHT_NAME], shown[WEIGHT_NAME];
    gguf_printable(name, shown, sizeof shown);
    if (!(limit >= LIMIT_LEAST && limit <= LIMIT_MOST))
        return error_set(err, TLM_ERR_FORMAT,
                         MODEL_KEY_LIMITS ": %s: expected a number from %g to %g, found %g", shown,
                         LIMIT_LEAST, LIMIT_MOST, limit);
    snprintf(text, sizeof text, "%.*s", (int)(name.length < sizeof text ? name.length : 0), name.data);
    const struct gguf_tensor *t = gguf_find_tensor(g, text);
    if (!t || !gguf_string_is(name, text)) // of a name with a zero byte in it
        return error_set(err, TLM_ERR_FORMAT,
                         MODEL_KEY_LIMITED ": expected names of the file's tensors, found '%s'", shown);
    g->tensors[t - g->tensors].tensor.input_limit = (float)limit;
    return TLM_OK;
}

enum tlm_status model_read_limits(struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *names = gguf_find(g, MODEL_KEY_LIMITED),
                            *limits = gguf_find(g, MODEL_KEY_LIMITS);
    struct gguf_string *list;
    if (!names && !limits) return TLM_OK;
    if (!names || !limits || names->type != GGUF_ARRAY || names->item != GGUF_STRING ||
        limits->type != GGUF_ARRAY || limits->item != GGUF_F32 || names->count != limits->count ||
        names->count > g->tensor_count)
        return error_set(err, TLM_ERR_FORMAT,
                         MODEL_KEY_LIMITED
                         ", " MODEL_KEY_LIMITS
                         ": expected names of tensors and as many F32, found something else");
    enum tlm_status s = gguf_value_strings(names, &list, err);
    if (s) return s;
    for (uint64_t i = 0; i < names->count && !s; i++)
        s = take_limit(g, list[i], gguf_value_f64(limits, i), err);
    free(list);
    return s;
}
