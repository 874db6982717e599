// models/hf_export.c -- writes a GGUF model as a Hugging Face folder: config.json and the weights.
//
// Quantized numbers become BF16. A number that GGUF keeps in single precision while the model is BF16 or F16, as norms are, gets
// the model's type where nothing is lost by it, so that a folder that was converted comes back bit for bit.
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "models/hf_convert.h"
#include "models/hf_folder.h"
#include "quant/quant.h"

enum { MEMBERS_MAX = 4 };

// A tensor of the folder, put together from one tensor of GGUF or from several.
struct item {
    char name[192];
    int dims;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    enum dtype type;
    int64_t parts;  // slices along the first side that are made one after the other
    bool sliced;    // into them, be it a single one
    int64_t expert; // of a stack that the folder has expert by expert; -1: all of it
    int members;
    struct {
        const struct weight_spec *spec;
        const struct gguf_tensor *tensor;
    } member[MEMBERS_MAX];
};

struct export
{
    const struct hf_convert *job;
    struct gguf *in;
    const struct arch *arch;
    const struct hf_variant *variant;
    struct hparams hparams;
    enum dtype type; // of the model
    struct item *items;
    size_t count, room;
    struct kernels kernels;
    uint64_t named; // tensors of `in` that the table names
    uint64_t done, total;
};

// ---- the plan -----------------------------------------------------------------------------------------

static enum tlm_status no_memory(const struct export *x, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "%.200s: no memory to convert it", x->job->in);
}

static bool is_plain(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
}

// The type that most numbers have.
static enum dtype main_type(const struct export *x)
{
    int64_t numbers[DTYPE_COUNT] = {0}, most = 0;
    enum dtype type = DTYPE_BF16;
    if (x->job->type >= 0) return (enum dtype)x->job->type;
    for (uint64_t i = 0; i < x->in->tensor_count; i++) {
        const struct tensor *t = &x->in->tensors[i].tensor;
        numbers[is_plain(t->type) ? t->type : DTYPE_BF16] += tensor_elements(t);
    }
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (numbers[i] > most) most = numbers[i], type = (enum dtype)i;
    return type;
}

static float rounded(enum dtype narrow, float x)
{
    return narrow == DTYPE_F16 ? f32_from_f16(f16_from_f32(x)) : f32_from_bf16(bf16_from_f32(x));
}

// Does each of these numbers come back from the narrow type as it is in GGUF?
static bool is_exact(const struct tensor *t, enum dtype narrow, float add)
{
    const float *x = t->data;
    for (int64_t i = 0, n = tensor_elements(t); i < n; i++)
        if (rounded(narrow, x[i] - add) + add != x[i]) return false;
    return true;
}

static enum dtype item_type(const struct export *x, const struct weight_spec *spec, const struct tensor *t)
{
    struct hf_tensor like = {.spec = spec, .shape = *t};
    if (x->job->type >= 0 || !is_plain(t->type)) return x->type;
    if (t->type != DTYPE_F32 || x->type == DTYPE_F32 || !hf_is_single(&like)) return t->type;
    return is_exact(t, x->type, spec->transform == TRANSFORM_PLUS_ONE ? 1 : 0) ? x->type : DTYPE_F32;
}

// How many sides the row of the table says: a matrix of one row is still a matrix.
static int spec_dims(const struct weight_spec *spec)
{
    return spec->depth != DIM_1 ? 3 : spec->rows != DIM_1 ? 2 : 1;
}

static struct item *new_item(struct export *x)
{
    if (x->count == x->room) {
        size_t room = x->room ? 2 * x->room : 256;
        struct item *grown = realloc(x->items, room * sizeof *grown);
        if (!grown) return NULL;
        x->items = grown;
        x->room = room;
    }
    x->items[x->count] = (struct item){.parts = 1, .expert = -1};
    return &x->items[x->count++];
}

static bool is_experts(enum transform t)
{
    return t == TRANSFORM_EXPERT_EVEN || t == TRANSFORM_EXPERT_ODD || t == TRANSFORM_EXPERT_PLAIN;
}

static enum tlm_status add_item(struct export *x, const struct weight_spec *spec, const struct gguf_tensor *t,
                                int64_t layer, int64_t expert, size_t first_of_layer, struct tlm_error *err)
{
    char name[192];
    hf_expand_name(name, sizeof name, spec->hf, layer, expert);
    struct item *item = NULL;
    for (size_t i = first_of_layer; expert < 0 && i < x->count; i++)
        if (!strcmp(x->items[i].name, name)) item = &x->items[i];
    if (!item) {
        if (!(item = new_item(x))) return no_memory(x, err);
        snprintf(item->name, sizeof item->name, "%s", name);
        item->expert = expert;
        item->type = item_type(x, spec, &t->tensor);
        int dims = spec_dims(spec);
        item->dims = hf_transform_folder_shape(spec->transform, &x->hparams, expert < 0 ? dims : 2,
                                               t->tensor.ne, item->shape);
        item->sliced = dims == 3 && is_experts(spec->transform);
        if (item->sliced) item->parts = t->tensor.ne[2];
    }
    if (item_type(x, spec, &t->tensor) == DTYPE_F32) item->type = DTYPE_F32; // the widest of its members
    TLM_ASSERT(item->members < MEMBERS_MAX);
    item->member[item->members].spec = spec;
    item->member[item->members++].tensor = t;
    return TLM_OK;
}

static enum tlm_status plan_row(struct export *x, const struct weight_spec *spec, int64_t layer,
                                size_t first_of_layer, struct tlm_error *err)
{
    char name[96], shown[96];
    hf_expand_name(name, sizeof name, spec->gguf, layer, 0);
    const struct gguf_tensor *t = gguf_find_tensor(x->in, name);
    if (!t && (spec->optional || !spec->hf)) return TLM_OK;
    if (!t) return error_set(err, TLM_ERR_FORMAT, "%s: the file lacks this tensor", name);
    x->named++;
    if (!spec->hf) return TLM_OK;
    if (!quant_types[t->tensor.type].dequantize)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: type %s is not one of weights",
                         gguf_printable(t->name, shown, sizeof shown), dtype_traits[t->tensor.type].name);
    enum tlm_status s = hf_check_shape(&x->hparams, spec, name, &t->tensor, err);
    const char *hole = strstr(spec->hf, "%d");
    bool each = hole && strstr(hole + 2, "%d");
    if (!each) return s ? s : add_item(x, spec, t, layer, -1, first_of_layer, err);
    for (int64_t e = 0; e < t->tensor.ne[2] && !s; e++)
        s = add_item(x, spec, t, layer, e, first_of_layer, err);
    return s;
}

static enum tlm_status plan(struct export *x, struct tlm_error *err)
{
    enum tlm_status s = TLM_OK;
    for (int64_t l = -1; l < x->hparams.layers && !s; l++) {
        size_t first = x->count;
        for (size_t i = 0; i < x->arch->weight_count && !s; i++) {
            const struct weight_spec *spec = &x->arch->weights[i];
            if (!strstr(spec->gguf, "%d") == (l < 0)) s = plan_row(x, spec, l, first, err);
        }
    }
    if (!s && x->named != x->in->tensor_count)
        s = error_set(err, TLM_ERR_UNSUPPORTED,
                      "expected %" PRIu64 " tensors of architecture %s, found %" PRIu64, x->named,
                      x->arch->name, x->in->tensor_count);
    return s;
}

// ---- numbers ------------------------------------------------------------------------------------------

// One part of an item into `out`; `gguf` has room for as many numbers.
static void make_part(const struct export *x, const struct item *item, int64_t part, uint8_t *gguf,
                      uint8_t *out)
{
    size_t bytes = (size_t)dtype_traits[item->type].block_bytes;
    const int64_t *shape = item->shape + item->sliced;
    int dims = item->dims - item->sliced;
    for (int i = 0; i < item->members; i++) {
        const struct weight_spec *spec = item->member[i].spec;
        const struct tensor *t = &item->member[i].tensor->tensor;
        bool sliced = item->sliced || item->expert >= 0;
        int64_t slice = item->expert >= 0 ? item->expert : part;
        int64_t rows = t->ne[1] * (sliced ? 1 : t->ne[2]), first = sliced ? slice * t->ne[1] : 0;
        struct hf_matrix m = {.transform = spec->transform, .hparams = &x->hparams};
        m.rows = dims == 3 ? shape[0] * shape[1] : shape[0];
        m.cols = dims == 3 ? shape[2] : dims == 2 ? shape[1] : 1;
        m.bias = is_experts(spec->transform) && !item->sliced;
        m.row_count = m.rows;
        float add = spec->transform == TRANSFORM_PLUS_ONE ? -1 : 0;
        uint8_t *in = (uint8_t *)t->data + (size_t)first * dtype_row_bytes(t->type, t->ne[0]);
        if (t->type != item->type || add != 0) {
            hf_convert_numbers(&x->kernels, item->type, gguf, t->type, in, rows * t->ne[0], add);
            in = gguf;
        }
        hf_transform_move(&m, out, in, bytes, false); // which only reads it
    }
}

static size_t part_bytes(const struct item *item)
{
    size_t bytes = (size_t)dtype_traits[item->type].block_bytes;
    for (int i = 0; i < item->dims; i++) bytes *= (size_t)item->shape[i];
    return bytes / (size_t)item->parts;
}

// The item's bytes as they stand in the file; NULL where they have to be made.
static const uint8_t *mapped(const struct item *item)
{
    const struct tensor *t = &item->member[0].tensor->tensor;
    if (item->member[0].spec->transform != TRANSFORM_NONE || t->type != item->type) return NULL;
    return (const uint8_t *)t->data + (item->expert < 0 ? 0 : (size_t)item->expert * t->nb[2]);
}

static enum tlm_status write_bytes(struct export *x, struct safetensors_writer *w, const uint8_t *data,
                                   size_t bytes, struct tlm_error *err)
{
    enum { STEP = 16 << 20 };
    enum tlm_status s = TLM_OK;
    for (size_t n; bytes && !s; bytes -= n, data += n) {
        n = bytes < STEP ? bytes : STEP;
        s = safetensors_write_data(w, data, n, err);
        x->done += n;
        if (!s && x->job->progress && !x->job->progress(x->job->user, x->done, x->total))
            s = error_set(err, TLM_ERR_ARGUMENT, "%.200s: stopped", x->job->out);
    }
    return s;
}

static enum tlm_status write_items(struct export *x, struct safetensors_writer *w, struct tlm_error *err)
{
    size_t largest = 1;
    for (size_t i = 0; i < x->count; i++) {
        size_t bytes = part_bytes(&x->items[i]);
        if (!mapped(&x->items[i]) && bytes > largest) largest = bytes;
        x->total += bytes * (uint64_t)x->items[i].parts;
    }
    uint8_t *gguf = malloc(largest), *out = malloc(largest);
    enum tlm_status s = gguf && out ? TLM_OK : no_memory(x, err);
    for (size_t i = 0; i < x->count && !s; i++) {
        const struct item *item = &x->items[i];
        for (int64_t p = 0; p < item->parts && !s; p++) {
            const uint8_t *data = mapped(item);
            if (!data) make_part(x, item, p, gguf, out);
            s = write_bytes(x, w, data ? data : out, part_bytes(item), err);
        }
        for (int m = 0; m < item->members; m++)
            if (item->expert < 0) gguf_drop_pages(x->in, &item->member[m].tensor->tensor);
    }
    free(gguf);
    free(out);
    return s;
}

static enum tlm_status write_weights(struct export *x, const char *folder, struct tlm_error *err)
{
    static const uint64_t shard_bytes = 5000000000; // as transformers cuts
    struct safetensors_writer *w;
    enum tlm_status s = safetensors_writer_open(&w, folder, shard_bytes, err);
    if (s) return s;
    for (size_t i = 0; i < x->count && !s; i++) {
        const struct item *item = &x->items[i];
        enum safetensors_type type = item->type == DTYPE_F32   ? SAFETENSORS_F32
                                     : item->type == DTYPE_F16 ? SAFETENSORS_F16
                                                               : SAFETENSORS_BF16;
        s = safetensors_add(w, item->name, type, item->dims, item->shape, err);
    }
    if (!s) s = write_items(x, w, err);
    if (!s) s = safetensors_writer_finish(w, err);
    safetensors_writer_close(w);
    return s;
}

// ---- the folder ---------------------------------------------------------------------------------------

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(dir), e->d_name, 0);
    if (dir) closedir(dir);
    rmdir(path);
}

static bool is_free(const char *path)
{
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT;
    DIR *dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    int entries = 0;
    for (struct dirent *e; dir && (e = readdir(dir));)
        entries += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (dir) closedir(dir);
    return dir && !entries;
}

static enum tlm_status write_folder(struct export *x, const char *folder, struct tlm_error *err)
{
    enum tlm_status s = hf_write_config(x->in, x->arch, x->variant, x->type, folder, err);
    if (!s) s = hf_write_tokenizer_files(x->in, folder, err);
    return s ? s : write_weights(x, folder, err);
}

// The files are written into a folder beside the target, which gets its name when all of them are there.
static enum tlm_status stage(struct export *x, struct tlm_error *err)
{
    char *out = strdup(x->job->out), *temp = NULL;
    for (size_t n = out ? strlen(out) : 0; n > 1 && out[n - 1] == '/'; n--) out[n - 1] = '\0';
    if (!out || asprintf(&temp, "%s.tmp.%ld", out, (long)getpid()) < 0) {
        free(out);
        return no_memory(x, err);
    }
    enum tlm_status s = TLM_OK;
    if (!is_free(out))
        s = error_set(err, TLM_ERR_ARGUMENT,
                      "%.300s: expected no such folder or an empty one, found something there", out);
    else if (mkdir(temp, 0777))
        s = error_set(err, TLM_ERR_IO, "%.300s: cannot make the folder: %s", temp, strerror(errno));
    if (!s) {
        s = write_folder(x, temp, err);
        if (!s && rename(temp, out))
            s = error_set(err, TLM_ERR_IO, "%.300s: cannot rename the finished folder to it: %s", out,
                          strerror(errno));
        if (s) remove_folder(temp);
    }
    free(temp);
    free(out);
    return s;
}

static enum tlm_status open_input(struct export *x, struct tlm_error *err)
{
    struct gguf_string name = {"", 0};
    const struct gguf_tensor *embed;
    char shown[64];
    enum tlm_status s = gguf_get_string(x->in, "general.architecture", &name, err);
    if (s) return s;
    x->arch = arch_find(name);
    if (!x->arch)
        return error_set(err, TLM_ERR_UNSUPPORTED, "general.architecture: expected one of %s, found '%s'",
                         arch_names(), gguf_printable(name, shown, sizeof shown));
    for (size_t i = 0; i < x->arch->variant_count && !x->variant; i++) {
        const struct hf_variant *v = &x->arch->variants[i];
        if (!v->match || v->match(x->in)) x->variant = v;
    }
    if (!x->variant)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "architecture %s: no model of transformers is like this one", x->arch->name);
    x->hparams =
        (struct hparams){.embedding_scale = 1, .residual_scale = 1, .logit_scale = 1, .experts.scale = 1};
    if ((s = x->arch->hparams(&x->hparams, x->in, err))) return s;
    if (!(embed = gguf_find_tensor(x->in, "token_embd.weight")))
        return error_set(err, TLM_ERR_FORMAT, "token_embd.weight: the file lacks this tensor");
    x->hparams.vocab = embed->tensor.ne[1];
    x->type = main_type(x);
    x->kernels = hf_kernels();
    return plan(x, err);
}

enum tlm_status hf_convert_to_folder(const struct hf_convert *c, struct tlm_error *err)
{
    struct export x = {.job = c};
    enum tlm_status s = model_file_open(&x.in, c->in, MODEL_ALL, err);
    if (s) return s;
    s = open_input(&x, err);
    if (s) error_prefix(err, "%.200s", c->in);
    if (!s) s = stage(&x, err);
    gguf_close(x.in);
    free(x.items);
    return s;
}
