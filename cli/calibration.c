#include "cli/calibration.h"

#include "cli/common.h"
#include "core/file.h"

enum tlm_status calibration_read(const struct tlm_model *m, const char *path, int32_t context, int64_t chunks,
                                 int32_t **tokens, int64_t *texts, struct tlm_error *err)
{
    char *text;
    size_t bytes, count;
    *tokens = NULL;
    enum tlm_status s = file_read(path, &text, &bytes, err);
    if (s) return s;
    s = common_encode(m, text, bytes, TLM_ADD_BOS, tokens, &count, err);
    free(text);
    if (s) return s;
    int64_t all = (int64_t)(count / (size_t)context);
    *texts = chunks && chunks < all ? chunks : all;
    if (!all) {
        free(*tokens);
        *tokens = NULL;
        return error_set(err, TLM_ERR_ARGUMENT, "%.300s: expected %d tokens at least, found %zu: lower -c",
                         path, context, count);
    }
    for (int64_t i = 0; i < *texts; i++) {
        int32_t *to = *tokens + i * context;
        memmove(to, *tokens + i * all / *texts * context, (size_t)context * sizeof *to);
        if (tlm_adds_bos(m)) to[0] = tlm_token_bos(m);
    }
    return TLM_OK;
}
