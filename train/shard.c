// train/shard.c -- see train/shard.h.
#include "train/shard.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "models/identity.h"
#include "text/vocabulary.h"

#define KEY "tinylm.tokens."
enum { VERSION = 1, NARROW_MAX = 65536 };
static const char architecture[] = "tinylm-tokens";

// ---- hashes -------------------------------------------------------------------------------------------

// Two hashes with different beginnings: for texts and vocabularies that nobody made to collide.
void shard_hash_add(struct shard_hash *h, const void *data, size_t bytes)
{
    for (int i = 0; i < 2; i++) h->part[i] = identity_add(h->part[i], data, bytes);
}

struct shard_hash shard_hash_tokenizer(const struct tokenizer *t)
{
    static const char *const keys[] = {"tokenizer.ggml.model",
                                       "tokenizer.ggml.pre",
                                       "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.scores",
                                       "tokenizer.ggml.merges",
                                       "tokenizer.ggml.add_space_prefix",
                                       "tokenizer.ggml.precompiled_charsmap",
                                       VOCABULARY_KEY_PRE_TOKENIZER,
                                       VOCABULARY_KEY_NORMALIZER,
                                       VOCABULARY_KEY_IGNORE_MERGES,
                                       VOCABULARY_KEY_FUSE_UNKNOWN,
                                       VOCABULARY_KEY_SCORES,
                                       VOCABULARY_KEY_STRIP};
    struct shard_hash h = {{1, 2}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct gguf_value *v = gguf_find(tokenizer_keys(t), keys[i]);
        shard_hash_add(&h, &i, sizeof i);
        if (v) shard_hash_add(&h, v->data, (size_t)(v->end - v->data));
    }
    return h;
}

enum { HASH_DIGITS = 32 };

static void print_hash(const struct shard_hash *h, char text[HASH_DIGITS + 1])
{
    snprintf(text, HASH_DIGITS + 1, "%016" PRIx64 "%016" PRIx64, h->part[0], h->part[1]);
}

static bool read_hash(struct shard_hash *h, struct gguf_string text)
{
    static const char digits[] = "0123456789abcdef";
    if (text.length != HASH_DIGITS) return false;
    *h = (struct shard_hash){{0, 0}};
    for (int i = 0; i < HASH_DIGITS; i++) {
        const char *digit = memchr(digits, text.data[i], 16);
        uint64_t *part = &h->part[i / 16];
        if (!digit) return false;
        *part = *part << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

// ---- reading ------------------------------------------------------------------------------------------

static enum tlm_status read_keys(struct shard *s, const char *path, struct tlm_error *err)
{
    const struct gguf *g = s->gguf;
    struct gguf_string kind = {"", 0}, hash = {"", 0};
    int64_t version = 0, vocab = 0;
    enum tlm_status status;
    if ((status = gguf_get_string(g, "general.architecture", &kind, err))) return status;
    if (!gguf_string_is(kind, architecture))
        return error_set(
            err, TLM_ERR_FORMAT,
            "%.300s: expected token shards ('tinylm data tokenize' makes them), found another kind of file",
            path);
    if ((status = gguf_get_i64(g, KEY "version", &version, err))) return status;
    if (version != VERSION)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "%.300s: expected version %d of token shards, found %" PRId64, path, VERSION,
                         version);
    if ((status = gguf_get_i64(g, KEY "vocab_size", &vocab, err))) return status;
    if (vocab < 1 || vocab > INT32_MAX)
        return error_set(err, TLM_ERR_FORMAT, "%.300s: " KEY "vocab_size: expected 1 to %d, found %" PRId64,
                         path, INT32_MAX, vocab);
    s->vocab_size = (int32_t)vocab;
    if ((status = gguf_get_string(g, KEY "tokenizer", &hash, err))) return status;
    if (!read_hash(&s->tokenizer, hash))
        return error_set(err, TLM_ERR_FORMAT, "%.300s: " KEY "tokenizer: expected %d hexadecimal digits",
                         path, HASH_DIGITS);
    if ((status = gguf_get_i64(g, KEY "bytes", &s->bytes, err))) return status;
    if ((status = gguf_get_i64(g, KEY "characters", &s->characters, err))) return status;
    if (s->bytes < 0 || s->characters < 0)
        return error_set(err, TLM_ERR_FORMAT, "%.300s: " KEY "bytes: expected counts, found negative ones",
                         path);
    return TLM_OK;
}

static enum tlm_status find_list(const struct shard *s, const char *path, const char *name,
                                 const struct tensor **out, struct tlm_error *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(s->gguf, name);
    if (!t || t->tensor.ne[0] < 1 || t->tensor.ne[0] != tensor_elements(&t->tensor))
        return error_set(err, TLM_ERR_FORMAT, "%.300s: tensor '%s': expected a list of numbers, found %s",
                         path, name, t ? "another shape" : "none");
    *out = &t->tensor;
    return TLM_OK;
}

static enum tlm_status check_tokens(const struct shard *s, const char *path, struct tlm_error *err)
{
    // The largest id, where a negative one counts as large: a loop that the compiler makes vectors of.
    uint32_t largest = 0;
    for (int64_t i = 0; s->narrow && i < s->tokens; i++)
        largest = s->narrow[i] > largest ? s->narrow[i] : largest;
    for (int64_t i = 0; s->wide && i < s->tokens; i++)
        largest = (uint32_t)s->wide[i] > largest ? (uint32_t)s->wide[i] : largest;
    if (largest >= (uint32_t)s->vocab_size)
        return error_set(err, TLM_ERR_FORMAT,
                         "%.300s: tokens: expected ids below %" PRId32 ", found %" PRIu32, path,
                         s->vocab_size, largest);
    for (int64_t i = 0; i < s->documents; i++) {
        int64_t least = i ? s->starts[i - 1] + 1 : 0;
        if (s->starts[i] < least || s->starts[i] >= s->tokens || (!i && s->starts[i]))
            return error_set(err, TLM_ERR_FORMAT,
                             "%.300s: documents: item %" PRId64 ": expected %s%" PRId64 ", found %" PRId64,
                             path, i, i ? "at least " : "", least, s->starts[i]);
    }
    return TLM_OK;
}

static enum tlm_status open_parts(struct shard *s, const char *path, struct tlm_error *err)
{
    const struct tensor *tokens, *documents;
    enum tlm_status status;
    if ((status = gguf_open(&s->gguf, path, err))) return status;
    if ((status = read_keys(s, path, err))) return status;
    if ((status = find_list(s, path, "tokens", &tokens, err))) return status;
    if ((status = find_list(s, path, "documents", &documents, err))) return status;
    if ((tokens->type != DTYPE_I16 && tokens->type != DTYPE_I32) || documents->type != DTYPE_I64)
        return error_set(err, TLM_ERR_FORMAT,
                         "%.300s: expected tokens as I16 or I32 and documents as I64, found %s and %s", path,
                         dtype_traits[tokens->type].name, dtype_traits[documents->type].name);
    s->tokens = tokens->ne[0];
    s->documents = documents->ne[0];
    s->narrow = tokens->type == DTYPE_I16 ? tokens->data : NULL;
    s->wide = tokens->type == DTYPE_I32 ? tokens->data : NULL;
    s->starts = documents->data;
    return check_tokens(s, path, err);
}

enum tlm_status shard_open(struct shard **out, const char *path, struct tlm_error *err)
{
    *out = NULL;
    struct shard *s = calloc(1, sizeof *s);
    if (!s) return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory to open it", path);
    enum tlm_status status = open_parts(s, path, err);
    if (status)
        shard_close(s);
    else
        *out = s;
    return status;
}

void shard_close(struct shard *s)
{
    if (!s) return;
    gguf_close(s->gguf);
    free(s);
}

enum tlm_status shard_check(const struct shard *s, const struct tokenizer *t, struct tlm_error *err)
{
    struct shard_hash h = shard_hash_tokenizer(t);
    if (h.part[0] == s->tokenizer.part[0] && h.part[1] == s->tokenizer.part[1]) return TLM_OK;
    return error_set(
        err, TLM_ERR_ARGUMENT,
        "%.300s: expected tokens of the model's tokenizer (%016" PRIx64 ", %" PRId32
        " tokens), found those of another (%016" PRIx64 ", %" PRId32 "): tokenize the texts again",
        s->gguf->files[0].path, h.part[0], tokenizer_size(t), s->tokenizer.part[0], s->vocab_size);
}

int64_t shard_document(const struct shard *s, int64_t i)
{
    int64_t low = 0, high = s->documents;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (s->starts[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// ---- writing ------------------------------------------------------------------------------------------

struct shard_writer {
    char *path, *source;
    FILE *ids; // has no name any more
    int64_t *starts;
    size_t documents, room;
    int64_t tokens, bytes, characters;
    int32_t vocab_size;
    struct shard_hash tokenizer;
};

static enum tlm_status cannot_write(const struct shard_writer *w, struct tlm_error *err)
{
    return error_set(err, TLM_ERR_IO, "%.300s: cannot write the tokens beside it: %s", w->path,
                     strerror(errno));
}

static bool is_narrow(const struct shard_writer *w)
{
    return w->vocab_size <= NARROW_MAX;
}

// A file beside the one that is written, where there is room for that one too.
static enum tlm_status open_ids(struct shard_writer *w, struct tlm_error *err)
{
    char *name;
    if (asprintf(&name, "%s.XXXXXX", w->path) < 0)
        return error_set(err, TLM_ERR_MEMORY, "no memory to write tokens");
    int fd = mkstemp(name);
    enum tlm_status status = TLM_OK;
    if (fd < 0) {
        status = cannot_write(w, err);
    } else {
        unlink(name);
        if (!(w->ids = fdopen(fd, "w+b"))) {
            status = cannot_write(w, err);
            close(fd);
        }
    }
    free(name);
    return status;
}

enum tlm_status shard_writer_open(struct shard_writer **out, const char *path, const struct tokenizer *t,
                                  const char *source, struct tlm_error *err)
{
    *out = NULL;
    struct shard_writer *w = calloc(1, sizeof *w);
    if (w) *w = (struct shard_writer){.path = strdup(path), .source = strdup(source)};
    if (!w || !w->path || !w->source) {
        shard_writer_close(w);
        return error_set(err, TLM_ERR_MEMORY, "no memory to write tokens");
    }
    w->vocab_size = tokenizer_size(t);
    w->tokenizer = shard_hash_tokenizer(t);
    enum tlm_status status = open_ids(w, err);
    if (status)
        shard_writer_close(w);
    else
        *out = w;
    return status;
}

void shard_writer_close(struct shard_writer *w)
{
    if (!w) return;
    if (w->ids) fclose(w->ids);
    free(w->starts);
    free(w->source);
    free(w->path);
    free(w);
}

enum tlm_status shard_writer_add(struct shard_writer *w, bool begins, const int32_t *ids, size_t count,
                                 struct tlm_error *err)
{
    enum { PIECE = 4096 };
    uint16_t narrow[PIECE];
    if (!count) return TLM_OK;
    if (begins) {
        if (w->documents == w->room) {
            size_t room = w->room ? 2 * w->room : 1024;
            int64_t *grown = reallocarray(w->starts, room, sizeof *grown);
            if (!grown)
                return error_set(err, TLM_ERR_MEMORY, "no memory for the places of %zu documents", room);
            w->starts = grown;
            w->room = room;
        }
        w->starts[w->documents++] = w->tokens;
    }
    TLM_ASSERT(w->documents);
    w->tokens += (int64_t)count;
    if (!is_narrow(w))
        return fwrite(ids, sizeof *ids, count, w->ids) == count ? TLM_OK : cannot_write(w, err);
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < PIECE ? count - at : PIECE;
        for (size_t i = 0; i < n; i++) narrow[i] = (uint16_t)ids[at + i];
        if (fwrite(narrow, sizeof *narrow, n, w->ids) != n) return cannot_write(w, err);
    }
    return TLM_OK;
}

void shard_writer_count(struct shard_writer *w, int64_t bytes, int64_t characters)
{
    w->bytes += bytes;
    w->characters += characters;
}

int64_t shard_writer_tokens(const struct shard_writer *w)
{
    return w->tokens;
}

int64_t shard_writer_characters(const struct shard_writer *w)
{
    return w->characters;
}

int64_t shard_writer_documents(const struct shard_writer *w)
{
    return (int64_t)w->documents;
}

static enum tlm_status copy_ids(struct shard_writer *w, struct gguf_writer *out, struct tlm_error *err)
{
    enum { PIECE = 1 << 16 };
    char *piece = malloc(PIECE);
    enum tlm_status status = piece ? TLM_OK : error_set(err, TLM_ERR_MEMORY, "no memory to write tokens");
    if (!status && (fflush(w->ids) || fseeko(w->ids, 0, SEEK_SET))) status = cannot_write(w, err);
    for (size_t n; !status && (n = fread(piece, 1, PIECE, w->ids));)
        status = gguf_write_data(out, piece, n, err);
    if (!status && ferror(w->ids)) status = cannot_write(w, err);
    free(piece);
    return status;
}

enum tlm_status shard_writer_finish(struct shard_writer *w, struct tlm_error *err)
{
    struct gguf_writer *out;
    char hash[HASH_DIGITS + 1];
    if (!w->tokens) return error_set(err, TLM_ERR_ARGUMENT, "%.300s: expected texts, found none", w->path);
    enum tlm_status status = gguf_writer_open(&out, w->path, err);
    if (status) return status;
    gguf_set_string(out, "general.architecture", architecture, sizeof architecture - 1);
    gguf_set_u32(out, KEY "version", VERSION);
    gguf_set_u32(out, KEY "vocab_size", (uint32_t)w->vocab_size);
    print_hash(&w->tokenizer, hash);
    gguf_set_string(out, KEY "tokenizer", hash, HASH_DIGITS);
    gguf_set_u64(out, KEY "bytes", (uint64_t)w->bytes);
    gguf_set_u64(out, KEY "characters", (uint64_t)w->characters);
    gguf_set_string(out, KEY "source", w->source, strlen(w->source));
    struct tensor tokens = tensor_shape(is_narrow(w) ? DTYPE_I16 : DTYPE_I32, w->tokens, 1, 1, 1),
                  documents = tensor_shape(DTYPE_I64, (int64_t)w->documents, 1, 1, 1);
    gguf_add_tensor(out, "tokens", &tokens);
    gguf_add_tensor(out, "documents", &documents);
    status = copy_ids(w, out, err);
    if (!status) status = gguf_write_data(out, w->starts, w->documents * sizeof *w->starts, err);
    if (!status) status = gguf_writer_finish(out, err);
    gguf_writer_close(out);
    return status;
}
