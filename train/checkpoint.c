#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "ops/ops.h"
#include "quant/quant.h"

static const char architecture[] = "tinylm-checkpoint";
enum { VERSION = 1, HASH_TEXT = 32 };

// ---- what is in it ----------------------------------------------------------------------------------------------

// Array i of a checkpoint: the weights, then what the optimizer keeps.
static struct optimizer_state array(const struct checkpoint *c, int64_t i)
{
    if (i >= c->parameters->count) return optimizer_state(c->optimizer, i - c->parameters->count);
    const struct parameter *p = &c->parameters->item[i];
    struct optimizer_state a = {.type = DTYPE_F32,
                                .ne = {p->cols, p->rows, p->depth},
                                .data = p->value,
                                .bytes = (size_t)p->count * sizeof(float)};
    snprintf(a.name, sizeof a.name, "%s", p->name);
    return a;
}

static int64_t array_count(const struct checkpoint *c)
{
    return c->parameters->count + optimizer_state_count(c->optimizer);
}

struct checksum {
    XXH3_state_t *state;
};

static enum tlm_status checksum_begin(struct checksum *s, struct tlm_error *err)
{
    s->state = XXH3_createState();
    if (!s->state) return error_set(err, TLM_ERR_MEMORY, "checkpoint: no memory for its checksum");
    XXH3_128bits_reset(s->state);
    return TLM_OK;
}

static void checksum_end(struct checksum *s, char text[HASH_TEXT + 1])
{
    XXH128_hash_t h = XXH3_128bits_digest(s->state);
    snprintf(text, HASH_TEXT + 1, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    XXH3_freeState(s->state);
}

// ---- writing ----------------------------------------------------------------------------------------------------

enum tlm_status checkpoint_write(const struct checkpoint *c, const char *config, const char *path,
                                 struct tlm_error *err)
{
    struct gguf_writer *w = NULL;
    struct checksum sum;
    char hash[HASH_TEXT + 1];
    enum tlm_status s = gguf_writer_open(&w, path, err);
    if (s || (s = checksum_begin(&sum, err))) {
        gguf_writer_close(w);
        return s;
    }
    int64_t count = array_count(c);
    for (int64_t i = 0; i < count; i++) {
        struct optimizer_state a = array(c, i);
        struct tensor t = tensor_shape(a.type, a.ne[0], a.ne[1], a.ne[2], 1);
        XXH3_128bits_update(sum.state, a.data, a.bytes);
        gguf_add_tensor(w, a.name, &t);
    }
    checksum_end(&sum, hash);
    gguf_set_string(w, "general.architecture", architecture, strlen(architecture));
    gguf_set_u32(w, "tinylm.checkpoint.version", VERSION);
    gguf_set_string(w, "tinylm.checkpoint.checksum", hash, HASH_TEXT);
    gguf_set_string(w, "tinylm.checkpoint.config", config, strlen(config));
    gguf_set_array(w, "tinylm.checkpoint.state", GGUF_U8, &c->state, sizeof c->state);
    for (int64_t i = 0; i < count && !s; i++) {
        struct optimizer_state a = array(c, i);
        s = gguf_write_data(w, a.data, a.bytes, err);
    }
    if (!s) s = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return s;
}

static bool is_parameter(const struct parameters *p, struct gguf_string name, int64_t *at)
{
    for (*at = 0; *at < p->count; ++*at)
        if (gguf_string_is(name, p->item[*at].name)) return true;
    return false;
}

// The values in rows of the type, a piece at a time.
static enum tlm_status write_values(struct gguf_writer *w, const struct parameter *p, enum dtype type,
                                    const struct kernels *k, struct tlm_error *err)
{
    enum { PIECE = 1 << 16 };
    _Static_assert(PIECE % QUANT_SUPER == 0, "whole blocks");
    if (type == DTYPE_F32) return gguf_write_data(w, p->value, (size_t)p->count * sizeof(float), err);
    uint16_t piece[PIECE];
    enum tlm_status s = TLM_OK;
    for (int64_t i = 0; i < p->count && !s; i += PIECE) {
        int64_t count = p->count - i < PIECE ? p->count - i : PIECE;
        if (type == p->grid)
            parameter_quantize(p, piece, i, count);
        else
            k->from_real[type](piece, p->value + i, count);
        s = gguf_write_data(w, piece, dtype_row_bytes(type, count), err);
    }
    return s;
}

static enum dtype type_of(const struct parameter *p, enum dtype matrices)
{
    return p->grid != DTYPE_COUNT ? p->grid : p->decay ? matrices : DTYPE_F32;
}

enum tlm_status checkpoint_write_model(const struct parameters *p, enum dtype matrices, const char *path,
                                       struct tlm_error *err)
{
    const struct gguf *in = p->model.gguf;
    struct gguf_writer *w = NULL;
    enum tlm_status s = gguf_writer_open(&w, path, err);
    int64_t at;
    if (!s) {
        gguf_copy_metadata(w, in);
        uint32_t number = p->mix                   ? mix_file_type(p->mix)
                          : matrices == DTYPE_BF16 ? 32
                          : matrices == DTYPE_F16  ? 1
                                                   : 0; // as llama.cpp has them
        if (p->mix) gguf_set_u32(w, "general.quantization_version", 2);
        gguf_set_u32(w, "general.file_type", number);
    }
    for (uint64_t i = 0; i < in->tensor_count && !s; i++) {
        struct tensor t = in->tensors[i].tensor;
        char name[WEIGHT_NAME];
        snprintf(name, sizeof name, "%.*s", (int)in->tensors[i].name.length, in->tensors[i].name.data);
        if (is_parameter(p, in->tensors[i].name, &at))
            t = tensor_shape(type_of(&p->item[at], matrices), t.ne[0], t.ne[1], t.ne[2], t.ne[3]);
        gguf_add_tensor(w, name, &t);
    }
    for (uint64_t i = 0; i < in->tensor_count && !s; i++) {
        const struct gguf_tensor *t = &in->tensors[i];
        s = is_parameter(p, t->name, &at)
                ? write_values(w, &p->item[at], type_of(&p->item[at], matrices), &p->model.kernels, err)
                : gguf_write_data(w, t->tensor.data, tensor_bytes(&t->tensor), err);
    }
    if (!s) s = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return s;
}

// ---- reading ----------------------------------------------------------------------------------------------------

static enum tlm_status open_checkpoint(struct gguf **g, const char *path, struct tlm_error *err)
{
    struct gguf_string arch = {0};
    int64_t version = 0;
    enum tlm_status s = gguf_open(g, path, err);
    if (s) return s;
    if (!(s = gguf_get_string(*g, "general.architecture", &arch, err)) &&
        !(s = gguf_get_i64(*g, "tinylm.checkpoint.version", &version, err)) &&
        (!gguf_string_is(arch, architecture) || version != VERSION))
        s = error_set(err, TLM_ERR_FORMAT, "expected a checkpoint of version %d, found another file",
                      VERSION);
    if (s) {
        error_prefix(err, "%s", path);
        gguf_close(*g);
    }
    return s;
}

static enum tlm_status check_sum(const struct gguf *g, struct tlm_error *err)
{
    struct gguf_string stored = {0};
    struct checksum sum;
    char hash[HASH_TEXT + 1];
    enum tlm_status s = gguf_get_string(g, "tinylm.checkpoint.checksum", &stored, err);
    if (s || (s = checksum_begin(&sum, err))) return s;
    for (uint64_t i = 0; i < g->tensor_count; i++)
        XXH3_128bits_update(sum.state, g->tensors[i].tensor.data, tensor_bytes(&g->tensors[i].tensor));
    checksum_end(&sum, hash);
    if (!gguf_string_is(stored, hash))
        return error_set(err, TLM_ERR_FORMAT,
                         "expected data with the checksum of the file, found other data");
    return TLM_OK;
}

// All arrays are there, in their shapes and types, and nothing else.
static enum tlm_status check_arrays(const struct checkpoint *c, const struct gguf *g, struct tlm_error *err)
{
    int64_t count = array_count(c);
    if ((uint64_t)count != g->tensor_count)
        return error_set(err, TLM_ERR_FORMAT, "expected %lld tensors of this model and optimizer, found %llu",
                         (long long)count, (unsigned long long)g->tensor_count);
    for (int64_t i = 0; i < count; i++) {
        struct optimizer_state a = array(c, i);
        const struct gguf_tensor *t = gguf_find_tensor(g, a.name);
        if (!t || t->tensor.type != a.type || tensor_bytes(&t->tensor) != a.bytes ||
            t->tensor.ne[0] != a.ne[0])
            return error_set(err, TLM_ERR_FORMAT, "tensor %s: expected %zu bytes of %s, found %s", a.name,
                             a.bytes, dtype_traits[a.type].name, t ? "another shape or type" : "none");
    }
    return TLM_OK;
}

enum tlm_status checkpoint_read(struct checkpoint *c, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    enum tlm_status s = open_checkpoint(&g, path, err);
    if (s) return s;
    const struct gguf_value *state = gguf_find(g, "tinylm.checkpoint.state");
    if (!state || state->type != GGUF_ARRAY || state->item != GGUF_U8 || state->count != sizeof c->state)
        s = error_set(err, TLM_ERR_FORMAT,
                      "tinylm.checkpoint.state: expected %zu bytes, found something else", sizeof c->state);
    if (!s && !(s = check_arrays(c, g, err)) && !(s = check_sum(g, err))) {
        for (int64_t i = 0; i < array_count(c); i++) {
            struct optimizer_state a = array(c, i);
            memcpy(a.data, gguf_find_tensor(g, a.name)->tensor.data, a.bytes);
        }
        for (int64_t i = 0; i < c->parameters->count; i++)
            parameter_copy(&c->parameters->item[i], &c->parameters->model.kernels);
        memcpy(&c->state, state->data, sizeof c->state);
        *optimizer_progress(c->optimizer) = c->state.optimizer;
    }
    if (s) error_prefix(err, "%s", path);
    gguf_close(g);
    return s;
}

enum tlm_status checkpoint_config(const char *path, char **text, struct tlm_error *err)
{
    struct gguf *g;
    struct gguf_string config = {0};
    enum tlm_status s = open_checkpoint(&g, path, err);
    if (s) return s;
    if (!(s = gguf_get_string(g, "tinylm.checkpoint.config", &config, err)) &&
        !(*text = strndup(config.data ? config.data : "", config.length)))
        s = error_set(err, TLM_ERR_MEMORY, "%s: no memory for its configuration", path);
    gguf_close(g);
    return s;
}

// ---- the files of a run -----------------------------------------------------------------------------------------

void checkpoint_path(char path[CHECKPOINT_PATH], const char *dir, int64_t step)
{
    snprintf(path, CHECKPOINT_PATH, "%s/checkpoint-%08lld.gguf", dir, (long long)step);
}

static int rising(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum tlm_status checkpoint_list(const char *dir, int64_t **steps, int64_t *count, struct tlm_error *err)
{
    *steps = NULL;
    *count = 0;
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return TLM_OK;
    if (!d) return error_set(err, TLM_ERR_IO, "%s: cannot read the folder: %s", dir, strerror(errno));
    enum tlm_status s = TLM_OK;
    for (struct dirent *e; !s && (e = readdir(d));) {
        long long step;
        int end = 0;
        if (sscanf(e->d_name, "checkpoint-%lld.gguf%n", &step, &end) != 1 || !end || e->d_name[end] ||
            step < 0)
            continue;
        int64_t *more = realloc(*steps, (size_t)(*count + 1) * sizeof *more);
        if (!more) {
            s = error_set(err, TLM_ERR_MEMORY, "%s: no memory for its list", dir);
            break;
        }
        *steps = more;
        more[(*count)++] = step;
    }
    closedir(d);
    if (*count) qsort(*steps, (size_t)*count, sizeof **steps, rising);
    if (s) free(*steps), *steps = NULL;
    return s;
}

static enum tlm_status remove_old(const char *dir, int64_t keep, struct tlm_error *err)
{
    int64_t *steps, count;
    enum tlm_status s = checkpoint_list(dir, &steps, &count, err);
    for (int64_t i = 0; !s && keep && i + keep < count; i++) {
        char path[CHECKPOINT_PATH];
        checkpoint_path(path, dir, steps[i]);
        unlink(path); // one that stays does no harm
    }
    free(steps);
    return s;
}

// In the child: all it has to say goes through the pipe.
static void write_and_exit(const struct checkpoint *c, const char *config, const char *dir,
                           enum dtype matrices, int to)
{
    struct tlm_error err = {0};
    char path[CHECKPOINT_PATH], model[CHECKPOINT_PATH];
    signal(SIGINT, SIG_IGN); // Ctrl-C is the parent's
    signal(SIGPIPE, SIG_IGN);
    checkpoint_path(path, dir, c->state.step);
    snprintf(model, sizeof model, "%s/model.gguf", dir);
    enum tlm_status s = checkpoint_write(c, config, path, &err);
    if (!s) s = checkpoint_write_model(c->parameters, matrices, model, &err);
    ssize_t written = s ? write(to, err.text, strlen(err.text)) : 0;
    _exit(s || written < 0 ? 1 : 0);
}

enum tlm_status checkpoint_begin(struct checkpoint_writer *w, const struct checkpoint *c, const char *config,
                                 const char *dir, enum dtype matrices, int64_t keep, struct tlm_error *err)
{
    int ends[2];
    enum tlm_status s = checkpoint_wait(w, dir, keep, err);
    if (s) return s;
    if (pipe(ends)) return error_set(err, TLM_ERR_IO, "checkpoint: no pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        write_and_exit(c, config, dir, matrices, ends[1]);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return error_set(err, TLM_ERR_MEMORY, "checkpoint: no process to write it: %s", strerror(errno));
    }
    *w = (struct checkpoint_writer){child, ends[0], c->state.step};
    return TLM_OK;
}

enum tlm_status checkpoint_wait(struct checkpoint_writer *w, const char *dir, int64_t keep,
                                struct tlm_error *err)
{
    if (!w->child) return TLM_OK;
    char text[512] = "";
    size_t length = 0;
    int status = 0;
    for (ssize_t got; length < sizeof text - 1;) {
        got = read(w->pipe, text + length, sizeof text - 1 - length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        length += (size_t)got;
    }
    close(w->pipe);
    while (waitpid(w->child, &status, 0) < 0 && errno == EINTR) {
    }
    w->child = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return remove_old(dir, keep, err);
    return error_set(err, TLM_ERR_IO, "checkpoint of step %lld: %s", (long long)w->step,
                     *text ? text : "the process that wrote it was ended");
}
