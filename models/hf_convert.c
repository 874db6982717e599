// models/hf_convert.c -- writes a folder's model as a GGUF file, tensor by tensor.
#include "models/hf_convert.h"

#include <unistd.h>

#include "core/file.h"
#include "models/hf_folder.h"
#include "quant/mix.h"

struct work {
    const struct hf_convert *job;
    struct hf_folder *folder;
    struct gguf_writer *out;
    uint8_t *buffer; // of the largest part that has to be made
    uint64_t done, total;
};

static enum tlm_status write_bytes(struct work *w, const uint8_t *data, size_t bytes, struct tlm_error *err)
{
    enum { STEP = 16 << 20 };
    enum tlm_status s = TLM_OK;
    for (size_t n; bytes && !s; bytes -= n, data += n) {
        n = bytes < STEP ? bytes : STEP;
        s = gguf_write_data(w->out, data, n, err);
        w->done += n;
        if (!s && w->job->progress && !w->job->progress(w->job->user, w->done, w->total))
            s = error_set(err, TLM_ERR_ARGUMENT, "%.200s: stopped", w->job->out);
    }
    return s;
}

static enum tlm_status write_tensor(struct work *w, const struct hf_tensor *t, struct tlm_error *err)
{
    size_t bytes = hf_part_bytes(t);
    enum tlm_status s = TLM_OK;
    for (int64_t p = 0; p < t->parts && !s; p++) {
        const uint8_t *data = hf_part_mapped(w->folder, t, p);
        if (!data) {
            s = hf_make_part(w->folder, t, p, w->buffer, err);
            data = w->buffer;
        }
        if (!s) s = write_bytes(w, data, bytes, err);
        hf_drop_part(w->folder, t, p);
    }
    return s;
}

// The number that llama.cpp gives to files whose matrices are mostly of a type.
static uint32_t file_type(const struct hf_folder *f)
{
    uint64_t bytes[DTYPE_COUNT] = {0};
    int most = DTYPE_F32;
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct hf_tensor *t = &f->tensors[i];
        if (t->shape.ne[1] > 1) bytes[t->shape.type] += tensor_bytes(&t->shape);
    }
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (bytes[i] > bytes[most]) most = i;
    const struct mix *mix = mix_of_base((enum dtype)most);
    return mix ? mix_file_type(mix) : 0;
}

// The tokenizer as the folder has it, for the way back and for programs that read it; under GGUF's own name for that.
static enum tlm_status copy_tokenizer(struct work *w, struct tlm_error *err)
{
    char *path, *text;
    size_t size;
    if (asprintf(&path, "%s/tokenizer.json", w->folder->path) < 0)
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for its name", w->folder->path);
    enum tlm_status s = TLM_OK;
    if (!access(path, F_OK) && !(s = file_read(path, &text, &size, err))) {
        gguf_set_string(w->out, "tokenizer.huggingface.json", text, size);
        free(text);
    }
    free(path);
    return s;
}

static enum tlm_status write_all(struct work *w, struct tlm_error *err)
{
    struct hf_folder *f = w->folder;
    size_t largest = 1;
    for (uint64_t i = 0; i < f->keys->key_count; i++)
        gguf_set_value(w->out, f->keys->keys[i].name, &f->keys->keys[i].value);
    gguf_set_u32(w->out, "general.quantization_version", 2);
    gguf_set_u32(w->out, "general.file_type", file_type(f));
    enum tlm_status s = copy_tokenizer(w, err);
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct hf_tensor *t = &f->tensors[i];
        gguf_add_tensor(w->out, t->name, &t->shape);
        w->total += tensor_bytes(&t->shape);
        if (!hf_part_mapped(f, t, 0) && hf_part_bytes(t) > largest) largest = hf_part_bytes(t);
    }
    if (s) return s;
    if (!(w->buffer = malloc(largest)))
        return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory for a tensor of %.1f MiB", f->path,
                         (double)largest / 0x1p20);
    for (size_t i = 0; i < f->tensor_count && !s; i++) s = write_tensor(w, &f->tensors[i], err);
    return s ? s : gguf_writer_finish(w->out, err);
}

// Vectors and what else is kept in single precision stays so; MXFP4 is no number of its own.
static void choose_types(struct hf_folder *f, int type)
{
    for (size_t i = 0; i < f->tensor_count && type >= 0; i++) {
        struct tensor *t = &f->tensors[i].shape;
        if (!f->tensors[i].scales && !hf_is_single(&f->tensors[i]))
            *t = tensor_shape((enum dtype)type, t->ne[0], t->ne[1], t->ne[2], t->ne[3]);
    }
}

enum tlm_status hf_convert_to_gguf(const struct hf_convert *c, struct tlm_error *err)
{
    struct work w = {.job = c};
    enum tlm_status s = hf_folder_open(&w.folder, c->in, err);
    if (s) return s;
    choose_types(w.folder, c->type);
    s = gguf_writer_open(&w.out, c->out, err);
    if (!s) s = write_all(&w, err);
    gguf_writer_close(w.out);
    hf_folder_close(w.folder);
    free(w.buffer);
    return s;
}
