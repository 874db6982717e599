// cli/eval_types_file.c -- a model quantized to be measured: a file that is gone when it is closed.
#include <string.h>
#include <unistd.h>

#include "cli/eval_text.h"
#include "cli/eval_types.h"
#include "cli/quantize_file.h"
#include "quant/quant.h"

enum { IMATRIX = 1 };
const char *const types_methods[TYPES_METHODS] = {"rtn", "imatrix", "gptq", "awq"};

const struct quant_method *types_method(int method)
{
    return quant_method_find(method == IMATRIX ? "rtn" : types_methods[method]);
}

static enum tlm_status choose_types(const struct gguf *in, const struct mix *mix, bool weighs,
                                    enum dtype *types, struct tlm_error *err)
{
    struct mix_model model;
    enum tlm_status status = mix_model_read(&model, in, weighs, err);
    for (uint64_t i = 0; i < in->tensor_count && !status; i++) {
        const struct gguf_tensor *t = &in->tensors[i];
        bool rounds = mix_applies(t) && quant_types[t->tensor.type].dequantize;
        types[i] = rounds ? mix_type(mix, &model, t) : t->tensor.type;
    }
    return status;
}

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    return eval_silent(user, (int64_t)done, (int64_t)total);
}

enum tlm_status types_open(struct tlm_model **model, const struct types_source *s, int method,
                           const struct mix *mix, struct tlm_error *err)
{
    char path[512];
    struct method_args args = s->method;
    struct quantize_method q;
    struct gguf *in;
    args.name = types_method(method)->name;
    if (method != IMATRIX) args.sums = NULL;
    eval_scratch_path(path, sizeof path, "types");
    enum tlm_status status = quantize_method_open(&q, &args, s->model.path, false, &in, err);
    if (status) return status;
    enum dtype *types = malloc((size_t)(in->tensor_count + 1) * sizeof *types);
    if (!types) status = error_set(err, TLM_ERR_MEMORY, "no memory for the types of all tensors");
    if (!status) status = choose_types(in, mix, quantize_method_weighs(&q), types, err);
    const struct quantize_file f = {
        .method = &q, .in = in, .types = types, .mix = mix, .threads = s->threads, .progress = go_on};
    if (!status) status = quantize_file_write(&f, path, err);
    quantize_method_close(&q, in);
    free(types);
    if (status) return status;
    struct tlm_model_options how = {.isa = s->model.isa};
    status = tlm_model_open(model, path, &how, err);
    unlink(path);
    return status;
}
