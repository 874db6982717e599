// train/tokenize.c -- see train/tokenize.h.
#include "train/tokenize.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "core/rng.h"
#include "text/byte_alphabet.h"
#include "text/vocabulary.h"

enum { PIECE_BYTES = 64 << 10, BATCH_JOBS = 1024, BATCH_BYTES = 4 << 20 };
enum { LOT_SEED = 20 }; // of the documents that are for validation

struct job { // a document, or a piece of one
    struct corpus_part part;
    bool whole;        // as it stands in the corpus
    bool begins, ends; // the document
    int target;        // which writer
    int32_t *ids;
    size_t count, room;
    int64_t bytes, characters; // of the text
    struct shard_hash hash;    // of the text, where it is a whole document
};

struct hash_set { // open addressing, at most half full; both parts 0: free
    struct shard_hash *items;
    size_t mask, count;
};

struct work {
    const struct tokenize_options *o;
    struct corpus *corpus;
    struct job *jobs; // (BATCH_JOBS)
    size_t job_count, batch_bytes;
    atomic_size_t taken;
    struct { // a thread
        enum tlm_status status;
        struct tlm_error err;
    } * threads;
    struct shard_writer **writers;
    int64_t documents; // that were read
    bool divides;      // long texts
    bool lossy;        // there are bytes without a token
    bool begun[2];     // the last document of a writer has ids already
    struct hash_set seen;
    int64_t duplicates;
    // The rest of a document that is handed out in pieces.
    struct corpus_part rest;
    size_t
        rest_train; // bytes of it in front of those that go to the second writer; 0: none, or no such place
    bool rest_begins;
    int rest_target;
};

static enum tlm_status no_memory(struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "no memory to tokenize");
}

size_t tokenize_cut(const char *text, size_t bytes)
{
    for (size_t at = PIECE_BYTES; at < bytes; at++) {
        const char *line = memchr(text + at, '\n', bytes - at);
        if (!line) break;
        at = (size_t)(line - text);
        char before = text[at - 1] | 0x20;
        if (before >= 'a' && before <= 'z') return at;
    }
    return bytes;
}

// Byte-level vocabularies by one of the pre-tokenizers that cut at the ends of lines.
static bool divides_texts(const struct tokenizer *t)
{
    const struct gguf *g = tokenizer_keys(t);
    struct gguf_string kind = {"", 0}, pre = {"", 0};
    if (gguf_get_string(g, "tokenizer.ggml.model", &kind, NULL) ||
        gguf_get_string(g, "tokenizer.ggml.pre", &pre, NULL))
        return false;
    return gguf_string_is(kind, "gpt2") && pre.length && !gguf_string_is(pre, "superbpe") &&
           !gguf_string_is(pre, "gemma4") && !gguf_find(g, VOCABULARY_KEY_PRE_TOKENIZER) &&
           !gguf_find(g, VOCABULARY_KEY_NORMALIZER);
}

// A vocabulary of the characters of some text has no tokens for others, and encoding would drop them.
static bool loses_bytes(const struct tokenizer *t)
{
    struct gguf_string kind = {"", 0};
    bool has[256] = {false};
    if (gguf_get_string(tokenizer_keys(t), "tokenizer.ggml.model", &kind, NULL) ||
        !gguf_string_is(kind, "gpt2"))
        return false;
    for (int32_t id = 0; id < tokenizer_size(t); id++) {
        struct gguf_string text = tokenizer_token(t, id);
        size_t length = 0;
        if (tokenizer_type(t, id) == TOKEN_UNKNOWN) return false;
        int byte = text.length && text.length <= 2 ? byte_alphabet_get(text.data, text.length, &length) : -1;
        if (byte >= 0 && length == text.length) has[byte] = true;
    }
    return memchr(has, 0, sizeof has) != NULL;
}

// ---- what a thread does -------------------------------------------------------------------------------

static const char *place_of(const struct job *j, char *buffer, size_t size)
{
    if (j->part.line)
        snprintf(buffer, size, "%.200s: line %" PRId64, j->part.path, j->part.line);
    else
        snprintf(buffer, size, "%.200s", j->part.path);
    return buffer;
}

// The pieces of the ids are the text, or something of it has no token.
static enum tlm_status check_whole(const struct work *w, const struct job *j, const char *text, size_t bytes,
                                   struct tlm_error *err)
{
    size_t at = 0;
    char piece[4096], place[256];
    for (size_t i = 0; i < j->count; i++) {
        size_t n = tokenizer_piece(w->o->tokenizer, j->ids[i], false, true, piece, sizeof piece);
        if (n > sizeof piece || n > bytes - at || memcmp(piece, text + at, n) != 0) break;
        at += n;
    }
    if (at == bytes) return TLM_OK;
    return error_set(
        err, TLM_ERR_FORMAT,
        "%s: expected characters of the vocabulary, found byte 0x%02x, which has no token (train the "
        "tokenizer on this text too, or with --unknown)",
        place_of(j, place, sizeof place), (unsigned)(unsigned char)text[at]);
}

static bool job_room(struct job *j, size_t count)
{
    if (count <= j->room) return true;
    int32_t *grown = realloc(j->ids, count * sizeof *grown);
    if (!grown) return false;
    j->ids = grown;
    j->room = count;
    return true;
}

static enum tlm_status encode(const struct work *w, struct job *j, const char *text, size_t bytes,
                              const struct jinja_output *rendered, struct tlm_error *err)
{
    const struct tokenizer *t = w->o->tokenizer;
    int flags = (j->begins ? TLM_ADD_BOS : 0) | (w->o->special ? TLM_PARSE_SPECIAL : 0);
    enum tlm_status status = job_room(j, bytes / 2 + 16) ? TLM_OK : no_memory(err);
    for (int again = 0; again < 2 && !status; again++) {
        status = rendered ? tokenizer_encode_rendered(t, text, bytes, rendered->input, rendered->input_count,
                                                      j->ids, j->room, &j->count, err)
                          : tokenizer_encode(t, text, bytes, flags, j->ids, j->room, &j->count, err);
        if (!status && j->count <= j->room) break;
        if (!status && !job_room(j, j->count)) status = no_memory(err);
    }
    if (!status && w->lossy && !rendered) status = check_whole(w, j, text, bytes, err);
    int32_t eos = tokenizer_eos(t);
    if (!status && j->ends && eos >= 0 && !(j->count && j->ids[j->count - 1] == eos)) {
        if (!job_room(j, j->count + 1)) return no_memory(err);
        j->ids[j->count++] = eos;
    }
    j->bytes = (int64_t)bytes;
    j->characters = 0;
    for (size_t i = 0; i < bytes; i++) j->characters += (text[i] & 0xC0) != 0x80;
    j->hash = (struct shard_hash){{1, 2}};
    if (w->o->dedup && j->whole) shard_hash_add(&j->hash, text, bytes);
    return status;
}

static enum tlm_status encode_messages(const struct work *w, struct job *j, const json_t *messages,
                                       struct tlm_error *err)
{
    struct jinja_output rendered;
    char place[256];
    if (!w->o->template)
        return error_set(err, TLM_ERR_ARGUMENT, "%s: a conversation needs a tokenizer with a chat template",
                         place_of(j, place, sizeof place));
    enum tlm_status status =
        template_render(w->o->template, &(struct template_input){.messages = messages}, &rendered, err);
    if (status) return error_prefix(err, "%s", place_of(j, place, sizeof place));
    status = encode(w, j, rendered.text, rendered.bytes, &rendered, err);
    jinja_output_free(&rendered);
    return status;
}

static enum tlm_status run_job(const struct work *w, struct job *j, struct tlm_error *err)
{
    struct corpus_document d;
    enum tlm_status status = corpus_parse(&d, &j->part, &w->o->corpus, err);
    if (status) return status;
    status = d.text ? encode(w, j, d.text, d.bytes, NULL, err) : encode_messages(w, j, d.messages, err);
    corpus_document_free(&d);
    return status;
}

static void run_thread(void *user, int index)
{
    struct work *w = user;
    for (size_t i; !w->threads[index].status && (i = atomic_fetch_add(&w->taken, 1)) < w->job_count;)
        w->threads[index].status = run_job(w, &w->jobs[i], &w->threads[index].err);
}

// ---- duplicates ---------------------------------------------------------------------------------------

static struct shard_hash *find_hash(const struct hash_set *s, const struct shard_hash *h)
{
    for (size_t i = (size_t)h->part[0] & s->mask;; i = (i + 1) & s->mask) {
        struct shard_hash *at = &s->items[i];
        if ((!at->part[0] && !at->part[1]) || !memcmp(at, h, sizeof *h)) return at;
    }
}

// Adds a hash; *known says whether it was there.
static bool see(struct hash_set *s, const struct shard_hash *h, bool *known)
{
    if (!s->items || 2 * s->count > s->mask) {
        struct hash_set grown = {.mask = s->items ? 2 * s->mask + 1 : 4095, .count = s->count};
        if (!(grown.items = calloc(grown.mask + 1, sizeof *grown.items))) return false;
        for (size_t i = 0; s->items && i <= s->mask; i++)
            if (s->items[i].part[0] || s->items[i].part[1]) *find_hash(&grown, &s->items[i]) = s->items[i];
        free(s->items);
        *s = grown;
    }
    struct shard_hash *at = find_hash(s, h);
    *known = !memcmp(at, h, sizeof *h);
    s->count += !*known;
    *at = *h;
    return true;
}

// ---- which document goes where ------------------------------------------------------------------------

static int lot(const struct work *w)
{
    if (!w->writers[1]) return 0;
    if (w->o->validation_every) return w->documents % w->o->validation_every == w->o->validation_every - 1;
    return rng_uniform(LOT_SEED, 0, (uint64_t)w->documents) < w->o->validation;
}

static void put_job(struct work *w, struct corpus_part part, bool whole, bool begins, bool ends, int target)
{
    struct job *j = &w->jobs[w->job_count++];
    j->part = part;
    j->whole = whole;
    j->begins = begins;
    j->ends = ends;
    j->target = target;
    w->batch_bytes += part.bytes;
}

// The next piece of a document that is handed out in pieces. Its parts for training and validation end like documents.
static void put_piece(struct work *w)
{
    struct corpus_part *rest = &w->rest, piece = *rest;
    size_t limit = w->rest_train ? w->rest_train : rest->bytes;
    piece.bytes = w->divides ? tokenize_cut(rest->data, limit) : limit;
    bool ends = piece.bytes == limit;
    put_job(w, piece, false, w->rest_begins, ends, w->rest_target);
    rest->data += piece.bytes;
    rest->bytes -= piece.bytes;
    w->rest_begins = ends;
    if (w->rest_train && !(w->rest_train -= piece.bytes)) w->rest_target = 1;
}

static enum tlm_status put_long(struct work *w, struct corpus_part part, bool by_place, int target,
                                struct tlm_error *err)
{
    struct shard_hash hash = {{1, 2}};
    bool known = false;
    if (w->o->dedup) shard_hash_add(&hash, part.data, part.bytes);
    if (w->o->dedup && !see(&w->seen, &hash, &known)) return no_memory(err);
    w->duplicates += known;
    if (known) return TLM_OK;
    w->rest = part;
    w->rest_begins = true;
    w->rest_target = target;
    w->rest_train = by_place ? (size_t)floor((double)part.bytes * (1 - w->o->validation)) : 0;
    while (w->rest_train && (part.data[w->rest_train] & 0xC0) == 0x80) w->rest_train--;
    if (by_place && !w->rest_train) w->rest_target = 1;
    return TLM_OK;
}

// Fills a batch; *more is false behind the last document.
static enum tlm_status gather(struct work *w, bool *more, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    w->job_count = w->batch_bytes = 0;
    while (!status && w->job_count < BATCH_JOBS && w->batch_bytes < BATCH_BYTES) {
        if (w->rest.bytes) {
            put_piece(w);
            continue;
        }
        struct corpus_part part;
        if ((status = corpus_next(w->corpus, &part, err))) break;
        if (!(*more = part.data != NULL)) break;
        bool by_place = part.whole && w->writers[1] && !w->o->validation_every;
        int target = by_place ? 0 : lot(w);
        w->documents++;
        if (by_place || (!part.line && part.bytes > 2 * PIECE_BYTES && w->divides))
            status = put_long(w, part, by_place, target, err);
        else
            put_job(w, part, true, true, true, target);
    }
    return status;
}

// ---- writing ------------------------------------------------------------------------------------------

static enum tlm_status write_job(struct work *w, const struct job *j, struct tlm_error *err)
{
    bool known = false, *begun = &w->begun[j->target];
    if (w->o->dedup && j->whole && !see(&w->seen, &j->hash, &known)) return no_memory(err);
    w->duplicates += known;
    if (known) return TLM_OK;
    if (j->begins) *begun = false;
    enum tlm_status status = shard_writer_add(w->writers[j->target], !*begun, j->ids, j->count, err);
    *begun |= j->count > 0;
    shard_writer_count(w->writers[j->target], j->bytes, j->characters);
    return status;
}

static enum tlm_status run_batches(struct work *w, struct tlm_error *err)
{
    bool more = true;
    enum tlm_status status = TLM_OK;
    while (more && !status) {
        if ((status = gather(w, &more, err))) break;
        atomic_store(&w->taken, 0);
        threads_run(w->o->pool, run_thread, w);
        for (int i = 0; i < threads_count(w->o->pool) && !status; i++)
            if (w->threads[i].status)
                status = error_set(err, w->threads[i].status, "%s", w->threads[i].err.text);
        for (size_t i = 0; i < w->job_count && !status; i++) status = write_job(w, &w->jobs[i], err);
        if (!w->rest.bytes) corpus_release(w->corpus);
        if (!status && w->o->progress && !w->o->progress(w->o->user, corpus_bytes(w->corpus) - w->rest.bytes))
            status = error_set(err, TLM_ERR_ARGUMENT, "interrupted; nothing was written");
    }
    return status;
}

enum tlm_status tokenize_corpus(const struct tokenize_options *o, struct corpus *corpus,
                                struct shard_writer *writers[2], int64_t *duplicates, struct tlm_error *err)
{
    struct work w = {.o = o, .corpus = corpus, .writers = writers};
    w.jobs = calloc(BATCH_JOBS, sizeof *w.jobs);
    w.threads = calloc((size_t)threads_count(o->pool), sizeof *w.threads);
    w.divides = divides_texts(o->tokenizer);
    w.lossy = loses_bytes(o->tokenizer);
    enum tlm_status status = w.jobs && w.threads ? run_batches(&w, err) : no_memory(err);
    *duplicates = w.duplicates;
    for (size_t i = 0; w.jobs && i < BATCH_JOBS; i++) free(w.jobs[i].ids);
    free(w.jobs);
    free(w.threads);
    free(w.seen.items);
    return status;
}
