// generate/session_file.c -- a session on disk: its tokens, and the keys and values that they have in the cache.
//
// A GGUF file, so that `tinylm info` shows it and nobody else mistakes it for a model:
//
//     general.architecture      "tinylm-session"
//     tinylm.session.version    1
//     tinylm.session.model      hash of the model and of the rotation (models/identity.h)
//     tinylm.session.tokens     i32[length]
//     tinylm.session.exact      i32: positions before it are as a pass computes them, those behind were turned (generate/shift.h)
//     blk.L.keys, blk.L.values  (head size, rows, key-value heads) in the cache's type, I8 for F8_E4M3, which GGUF lacks: the last `rows`
//                               positions, which are all but what a window has passed
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/gguf.h"
#include "generate/session.h"
#include "models/identity.h"
#include "ops/paged.h"

#define KEY "tinylm.session."
enum { VERSION = 1 };

static uint64_t identity_of(const struct tlm_session *s)
{
    const struct forward *f = &s->forward;
    uint64_t hash = model_identity(f->model);
    hash = identity_add(hash, f->rope.freq.data, tensor_bytes(&f->rope.freq));
    hash = identity_add(hash, &f->rope.magnitude, sizeof f->rope.magnitude);
    hash = identity_add(hash, f->rope_local.freq.data, tensor_bytes(&f->rope_local.freq));
    return identity_add(hash, &f->rope_local.magnitude, sizeof f->rope_local.magnitude);
}

// The keys or values of one layer.
struct part {
    const struct paged_kv *store;
    int64_t head; // numbers in a row
    int32_t group;
    int32_t first; // position
    char name[48];
};

static struct part part_of(const struct tlm_session *s, int32_t l, bool values)
{
    const struct kv_cache *c = &s->forward.cache;
    struct part p = {.store = values ? &c->values[l] : &c->keys[l],
                     .head = values ? c->config.value_dim : c->config.head_dim,
                     .group = c->group_of[l]};
    p.first = c->sequences[s->sequence].first[p.group] * KV_BLOCK;
    snprintf(p.name, sizeof p.name, "blk.%" PRId32 ".%s", l, values ? "values" : "keys");
    return p;
}

static enum dtype type_in_file(const struct part *p)
{
    return p->store->type == DTYPE_F8_E4M3 ? DTYPE_I8 : p->store->type;
}

static char *block_rows(const struct tlm_session *s, const struct part *p, int32_t position, int32_t head)
{
    int32_t block = kv_table(&s->forward.cache, p->group, s->sequence)[position / KV_BLOCK];
    return paged_rows(p->store, block, head);
}

// Calls EACH(part) for the keys, and the values where they are stored apart, of all layers.
#define EACH_PART(s, EACH)                                                          \
    for (int32_t l = 0; l < 2 * (s)->forward.cache.config.layers && !status; l++) { \
        struct part p = part_of(s, l / 2, l % 2);                                   \
        if (p.head)                                                                 \
            EACH                                                                    \
                ;                                                                   \
    }

// ---- writing ------------------------------------------------------------------------------------------

static enum tlm_status write_part(const struct tlm_session *s, struct gguf_writer *w, const struct part *p,
                                  struct tlm_error *err)
{
    size_t bytes = dtype_row_bytes(p->store->type, p->head);
    char *row = malloc(bytes);
    enum tlm_status status = row ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "no memory for %zu bytes", bytes);
    for (int32_t h = 0; h < s->forward.cache.config.kv_heads; h++)
        for (int32_t at = p->first; at < s->length && !status; at++) {
            paged_get(row, p->store, block_rows(s, p, at, h), at % KV_BLOCK, p->head);
            status = gguf_write_data(w, row, bytes, err);
        }
    free(row);
    return status;
}

static void declare(const struct tlm_session *s, struct gguf_writer *w, const struct part *p)
{
    struct tensor shape =
        tensor_shape(type_in_file(p), p->head, s->length - p->first, s->forward.cache.config.kv_heads, 1);
    gguf_add_tensor(w, p->name, &shape);
}

enum tlm_status tlm_session_save(const struct tlm_session *s, const char *path, struct tlm_error *err)
{
    struct gguf_writer *w;
    if (!s->length) return error_set(err, TLM_ERR_ARGUMENT, "%s: the session holds no tokens to save", path);
    if (s->forward.model->backend)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: sessions on a GPU are not saved yet", path);
    enum tlm_status status = gguf_writer_open(&w, path, err);
    if (status) return status;
    static const char architecture[] = "tinylm-session";
    gguf_set_string(w, "general.architecture", architecture, sizeof architecture - 1);
    gguf_set_u32(w, KEY "version", VERSION);
    gguf_set_u64(w, KEY "model", identity_of(s));
    gguf_set_array(w, KEY "tokens", GGUF_I32, s->tokens, (uint64_t)s->length);
    gguf_set_i32(w, KEY "exact", s->forward.cache.sequences[s->sequence].exact);
    EACH_PART(s, declare(s, w, &p));
    EACH_PART(s, status = write_part(s, w, &p, err));
    if (!status) status = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return status;
}

// ---- reading ------------------------------------------------------------------------------------------

// Tokens and settings of the file; *count receives the number of tokens.
static enum tlm_status read_header(const struct tlm_session *s, const struct gguf *g, const char *path,
                                   const struct gguf_value **tokens, int32_t *count, struct tlm_error *err)
{
    struct gguf_string architecture = {"", 0};
    int64_t version = 0;
    const struct gguf_value *model = gguf_find(g, KEY "model");
    *tokens = gguf_find(g, KEY "tokens");
    if (gguf_get_string(g, "general.architecture", &architecture, err) ||
        gguf_get_i64(g, KEY "version", &version, err))
        return err->code;
    if (!gguf_string_is(architecture, "tinylm-session"))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected a saved session, found another kind of file",
                         path);
    if (version != VERSION)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: expected version %d of saved sessions, found %lld",
                         path, VERSION, (long long)version);
    uint64_t found = 0, mine = identity_of(s);
    if (!model || model->type != GGUF_U64 || !*tokens || (*tokens)->type != GGUF_ARRAY ||
        (*tokens)->item != GGUF_I32 || !(*tokens)->count)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s: expected " KEY "model and " KEY "tokens, found no such keys", path);
    memcpy(&found, model->data, sizeof found);
    if (found != mine)
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: expected a session of this model (%016" PRIx64
                         "), found one of another model or with another rotation (%016" PRIx64 ")",
                         path, mine, found);
    if ((*tokens)->count > (uint64_t)s->forward.config.context)
        return error_set(err, TLM_ERR_CONTEXT,
                         "%s: expected at most the %d tokens of the context, found %llu", path,
                         s->forward.config.context, (unsigned long long)(*tokens)->count);
    *count = (int32_t)(*tokens)->count;
    for (int32_t i = 0; i < *count; i++) {
        int64_t id = gguf_value_i64(*tokens, (uint64_t)i);
        if (id < 0 || id >= s->forward.model->hparams.vocab)
            return error_set(err, TLM_ERR_FORMAT,
                             "%s: token %d: expected an id of the vocabulary, found %lld", path, i,
                             (long long)id);
    }
    return TLM_OK;
}

static enum tlm_status read_part(struct tlm_session *s, const struct gguf *g, const char *path,
                                 const struct part *p, struct tlm_error *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(g, p->name);
    int32_t heads = s->forward.cache.config.kv_heads;
    if (!t) return error_set(err, TLM_ERR_FORMAT, "%s: tensor %s is missing", path, p->name);
    if (t->tensor.type != type_in_file(p))
        return error_set(err, TLM_ERR_ARGUMENT,
                         "%s: %s: expected %s as this session's cache (-ctk, -ctv), found %s", path, p->name,
                         dtype_traits[p->store->type].name,
                         t->tensor.type == DTYPE_I8 ? "F8_E4M3" : dtype_traits[t->tensor.type].name);
    int64_t rows = t->tensor.ne[1];
    if (t->tensor.ne[0] != p->head || t->tensor.ne[2] != heads || rows > s->length ||
        rows < s->length - p->first)
        return error_set(err, TLM_ERR_FORMAT,
                         "%s: %s: expected %lld x %d to %d x %d, found %lld x %lld x %lld", path, p->name,
                         (long long)p->head, s->length - p->first, s->length, heads,
                         (long long)t->tensor.ne[0], (long long)rows, (long long)t->tensor.ne[2]);
    size_t bytes = dtype_row_bytes(p->store->type, p->head);
    for (int32_t h = 0; h < heads; h++)
        for (int32_t at = p->first; at < s->length; at++) {
            int64_t row = h * rows + at - (s->length - rows);
            paged_put(p->store, block_rows(s, p, at, h), at % KV_BLOCK,
                      (const char *)t->tensor.data + row * (int64_t)bytes, p->head);
        }
    return TLM_OK;
}

enum tlm_status tlm_session_load(struct tlm_session *s, const char *path, struct tlm_error *err)
{
    struct gguf *g;
    const struct gguf_value *tokens;
    int32_t count = 0;
    int64_t exact = INT32_MAX;
    if (s->forward.model->backend)
        return error_set(err, TLM_ERR_UNSUPPORTED, "%s: sessions are not loaded to a GPU yet", path);
    enum tlm_status status = gguf_open(&g, path, err);
    if (status) return status;
    if ((status = gguf_get_i64(g, KEY "exact", &exact, err)) ||
        (status = read_header(s, g, path, &tokens, &count, err))) {
        gguf_close(g);
        return status;
    }
    struct kv_cache *c = &s->forward.cache;
    s->logits_row = -1;
    s->length = kv_truncate(c, s->sequence, 0);
    if (!(status = kv_place(c, s->sequence, count, err))) {
        kv_mark_inexact(c, s->sequence, (int32_t)exact);
        s->length = count;
        EACH_PART(s, status = read_part(s, g, path, &p, err));
        for (int32_t i = 0; i < count; i++) s->tokens[i] = (int32_t)gguf_value_i64(tokens, (uint64_t)i);
        if (status)
            s->length = kv_truncate(c, s->sequence, 0);
        else
            kv_commit(c, s->sequence, s->tokens, count);
    }
    gguf_close(g);
    return status;
}
