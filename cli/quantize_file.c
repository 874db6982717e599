#include "cli/quantize_file.h"

// The mix whose base type most numbers have; NULL where there is none.
static const struct mix *main_mix(const struct quantize_file *f)
{
    int64_t sums[DTYPE_COUNT] = {0};
    enum dtype most = DTYPE_F32;
    for (uint64_t i = 0; i < f->in->tensor_count; i++)
        sums[f->types[i]] += tensor_elements(&f->in->tensors[i].tensor);
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (sums[type] > sums[most]) most = (enum dtype)type;
    return mix_of_base(most);
}

static void copy_metadata(const struct quantize_file *f, struct gguf_writer *out)
{
    gguf_copy_metadata(out, f->in);
    if (!f->in->tensor_count) return; // a vocabulary alone stays what it was
    gguf_set_u32(out, "general.quantization_version", 2);
    const struct mix *mix = f->mix ? f->mix : main_mix(f);
    if (mix) gguf_set_u32(out, "general.file_type", mix_file_type(mix));
}

enum tlm_status quantize_file_write(const struct quantize_file *f, const char *path, struct tlm_error *err)
{
    const struct method_args *args = f->method->args;
    struct gguf_writer *out = NULL;
    struct quant_work work = {.in = f->in, .types = f->types, .path = path};
    enum tlm_status status = quantize_method_run(f->method, &work, f->threads, err);
    if (!status) status = gguf_writer_open(&out, path, err);
    if (!status) {
        struct requantize r = {.in = f->in,
                               .types = f->types,
                               .weights = (const float *const *)work.weights,
                               .ready = work.ready,
                               .columns = (const float *const *)work.columns,
                               .rows = (const float *const *)work.rows,
                               .allow_nonfinite = args->allow_nonfinite,
                               .threads = f->threads,
                               .progress = f->progress,
                               .user = f->user};
        copy_metadata(f, out);
        if (args->static_activations) status = limits_write(&f->method->limits, f->in, f->types, out, err);
        if (!status) status = requantize_run(&r, out, err);
    }
    if (!status) status = gguf_writer_finish(out, err);
    gguf_writer_close(out);
    quant_work_close(&work);
    return status;
}
