// train/dataset.c -- see train/dataset.h.
#include "train/dataset.h"

#include <inttypes.h>
#include <string.h>

#include "core/rng.h"

struct dataset {
    struct dataset_options options;
    struct shard **shards;
    size_t count;
    int64_t *ends; // (count) where each shard ends in the stream
    int64_t tokens, documents, bytes, windows;
};

// The streams of random numbers.
enum { STREAM_OFFSET, STREAM_ROUND };
static const uint64_t DATASET_SEED = 0xD474; // apart from other users of the run's seed

// ---- opening ------------------------------------------------------------------------------------------

static enum tlm_status open_shards(struct dataset *ds, const char *const *paths, size_t count,
                                   const struct tokenizer *t, struct tlm_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct shard *s;
        enum tlm_status status = shard_open(&s, paths[i], err);
        if (status) return status;
        ds->shards[ds->count++] = s;
        if (t && (status = shard_check(s, t, err))) return status;
        if (memcmp(&s->tokenizer, &ds->shards[0]->tokenizer, sizeof s->tokenizer) != 0 ||
            s->vocab_size != ds->shards[0]->vocab_size)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "%.300s: expected tokens of the tokenizer of %.300s, found others", paths[i],
                             paths[0]);
        if (s->tokens > INT64_MAX / 2 - ds->tokens) // a file that is sparse, or a thousand times the same one
            return error_set(err, TLM_ERR_ARGUMENT, "%.300s: too many tokens", paths[i]);
        ds->tokens += s->tokens;
        ds->ends[i] = ds->tokens;
        ds->documents += s->documents;
        ds->bytes += s->bytes;
    }
    return TLM_OK;
}

enum tlm_status dataset_open(struct dataset **out, const char *const *paths, size_t count,
                             const struct tokenizer *t, const struct dataset_options *o,
                             struct tlm_error *err)
{
    *out = NULL;
    if (!count) return error_set(err, TLM_ERR_ARGUMENT, "expected a file of tokens at least, found none");
    if (o->context < 1 || o->context > INT32_MAX)
        return error_set(err, TLM_ERR_ARGUMENT, "context: expected 1 to %d tokens, found %" PRId64, INT32_MAX,
                         o->context);
    struct dataset *ds = calloc(1, sizeof *ds);
    if (!ds) return error_set(err, TLM_ERR_MEMORY, "no memory for a data set");
    ds->options = *o;
    ds->shards = calloc(count, sizeof *ds->shards);
    ds->ends = calloc(count, sizeof *ds->ends);
    enum tlm_status status = ds->shards && ds->ends
                                 ? open_shards(ds, paths, count, t, err)
                                 : error_set(err, TLM_ERR_MEMORY, "no memory for a data set");
    if (status) {
        dataset_close(ds);
        return status;
    }
    ds->windows = (ds->tokens + o->context - 1) / o->context;
    *out = ds;
    return TLM_OK;
}

void dataset_close(struct dataset *ds)
{
    if (!ds) return;
    for (size_t i = 0; i < ds->count; i++) shard_close(ds->shards[i]);
    free(ds->shards);
    free(ds->ends);
    free(ds);
}

int64_t dataset_windows(const struct dataset *ds)
{
    return ds->windows;
}

int64_t dataset_tokens(const struct dataset *ds)
{
    return ds->tokens;
}

int64_t dataset_targets(const struct dataset *ds)
{
    return ds->tokens - ds->documents;
}

int64_t dataset_documents(const struct dataset *ds)
{
    return ds->documents;
}

int64_t dataset_bytes(const struct dataset *ds)
{
    return ds->bytes;
}

int32_t dataset_vocab_size(const struct dataset *ds)
{
    return ds->shards[0]->vocab_size;
}

// ---- the order of an epoch ----------------------------------------------------------------------------

static uint64_t draw(uint64_t seed, uint64_t epoch, uint32_t stream, uint64_t index)
{
    uint32_t r[4];
    rng_philox(seed ^ DATASET_SEED, epoch << 8 | stream, index, r);
    return (uint64_t)r[0] << 32 | r[1];
}

// A Feistel network (Luby and Rackoff, 1988) permutes the numbers of an even number of bits; what it makes of i is given to it again
// until it is below n, which walks along the cycle of i and so permutes 0 .. n - 1 (Black and Rogaway, 2002). The numbers are fewer
// than four times n, so four steps are many.
uint64_t dataset_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i)
{
    enum { ROUNDS = 6 };
    int half = 1;
    while (half < 32 && n > (uint64_t)1 << 2 * half) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    TLM_ASSERT(i < n);
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (draw(seed, epoch, STREAM_ROUND + round, right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

// ---- examples -----------------------------------------------------------------------------------------

struct cursor { // a place in the stream
    const struct dataset *ds;
    size_t index; // of the shard
    const struct shard *shard;
    int64_t at, document, end; // in the shard: the token, its document, and where that ends
};

static void enter_document(struct cursor *c, int64_t document)
{
    c->document = document;
    c->end = document + 1 < c->shard->documents ? c->shard->starts[document + 1] : c->shard->tokens;
}

static void seek(struct cursor *c, const struct dataset *ds, int64_t place)
{
    size_t index = 0;
    while (ds->ends[index] <= place) index++;
    *c = (struct cursor){.ds = ds, .index = index, .shard = ds->shards[index]};
    c->at = place - (ds->ends[index] - c->shard->tokens);
    enter_document(c, shard_document(c->shard, c->at));
}

// To the next token on the ring; true where that begins a document.
static bool advance(struct cursor *c)
{
    if (++c->at < c->end) return false;
    if (c->at < c->shard->tokens) {
        enter_document(c, c->document + 1);
        return true;
    }
    c->index = c->index + 1 < c->ds->count ? c->index + 1 : 0;
    c->shard = c->ds->shards[c->index];
    c->at = 0;
    enter_document(c, 0);
    return true;
}

int64_t dataset_example(const struct dataset *ds, uint64_t number, int32_t *tokens, int32_t *targets,
                        int32_t *positions, int32_t *segments)
{
    uint64_t n = (uint64_t)ds->windows, epoch = number / n, window = number % n;
    int64_t context = ds->options.context, offset = 0, counted = 0, filled;
    if (!ds->options.in_order) {
        offset = (int64_t)(draw(ds->options.seed, epoch, STREAM_OFFSET, 0) % (uint64_t)ds->tokens);
        window = dataset_permute(ds->options.seed, epoch, n, window);
    }
    int64_t first = (int64_t)window * context, left = ds->tokens - first;
    filled = left < context ? left : context;
    struct cursor c;
    seek(&c, ds, (first + offset) % ds->tokens);
    int32_t position = 0, segment = 0;
    for (int64_t i = 0; i < filled; i++) {
        bool same = c.at + 1 < c.end;
        tokens[i] = shard_token(c.shard, c.at);
        targets[i] = same ? shard_token(c.shard, c.at + 1) : -1;
        positions[i] = position++;
        segments[i] = segment;
        counted += same;
        if (advance(&c)) position = 0, segment++;
    }
    // The last token may have ended a document: then the padding's segment has begun already.
    if (position) segment++;
    for (int64_t i = filled; i < context; i++) {
        tokens[i] = 0;
        targets[i] = -1;
        positions[i] = (int32_t)(i - filled);
        segments[i] = segment;
    }
    return counted;
}
