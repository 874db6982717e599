// text/bpe_train.c -- see text/bpe_train.h.
#include "text/bpe_train.h"

#include <string.h>

#include "text/bpe_learn.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

struct bpe_train {
    const struct bpe_train_options *options;
    struct gguf_string pre;
    struct gguf_string *special;
    struct word_counter *counter;
    struct token_list tokens;
    struct learned_merge *merges;
    size_t merge_count, word_count;
    int32_t bos, eos, unknown; // -1: none
};

static enum tlm_status no_memory(struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "no memory to train a tokenizer");
}

// ---- opening ------------------------------------------------------------------------------------------

static enum tlm_status find_role(const struct bpe_train *t, const char *role, const char *text, int32_t *id,
                                 struct tlm_error *err)
{
    *id = text ? (int32_t)token_list_find(&t->tokens, text, strlen(text)) : -1;
    if (text && *id < 0)
        return error_set(err, TLM_ERR_ARGUMENT, "%s: expected one of the special tokens, found '%.60s'", role,
                         text);
    return TLM_OK;
}

static enum tlm_status add_special(struct bpe_train *t, struct tlm_error *err)
{
    const struct bpe_train_options *o = t->options;
    t->special = calloc(o->special_count + 1, sizeof *t->special);
    if (!t->special) return no_memory(err);
    for (size_t i = 0; i < o->special_count; i++) {
        const char *text = o->special[i];
        size_t length = strlen(text), one;
        t->special[i] = (struct gguf_string){text, length};
        if (!length || length > COUNTED_WORD_MAX)
            return error_set(err, TLM_ERR_ARGUMENT, "special token %zu: expected 1 to %d bytes, found %zu", i,
                             COUNTED_WORD_MAX, length);
        // A name of one character of the alphabet would be taken for that byte.
        if (byte_alphabet_get(text, length, &one) >= 0 && one == length)
            return error_set(err, TLM_ERR_ARGUMENT, "special token '%s': expected more than one character",
                             text);
        if (token_list_find(&t->tokens, text, length) >= 0)
            return error_set(err, TLM_ERR_ARGUMENT,
                             "special token '%.60s': expected each once, found it twice", text);
        if (!token_list_add(&t->tokens, text, length)) return no_memory(err);
    }
    enum tlm_status status = find_role(t, "bos", o->bos, &t->bos, err);
    if (!status) status = find_role(t, "eos", o->eos, &t->eos, err);
    if (!status) status = find_role(t, "unknown", o->unknown, &t->unknown, err);
    return status;
}

static enum tlm_status open_parts(struct bpe_train *t, struct threads *pool, struct tlm_error *err)
{
    const struct bpe_train_options *o = t->options;
    const char *name = o->pre ? o->pre : "gpt-2";
    t->pre = (struct gguf_string){name, strlen(name)};
    const struct pretokenizer_info *info = pretokenizer_find(name, t->pre.length);
    if (!info || info->raw)
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "pre-tokenizer: expected the name of a byte-level one, like gpt-2 or llama-bpe, found '%.60s'",
            name);
    size_t least = 256 + o->special_count;
    if (!o->characters && (o->vocab_size < 0 || (size_t)o->vocab_size < least || o->vocab_size > 1 << 24))
        return error_set(
            err, TLM_ERR_ARGUMENT,
            "vocabulary: expected a size from %zu (256 bytes and %zu special tokens) to %d, found %d", least,
            o->special_count, 1 << 24, (int)o->vocab_size);
    enum tlm_status status = add_special(t, err);
    if (!status) status = word_counter_open(&t->counter, info, t->special, o->special_count, pool, err);
    return status;
}

enum tlm_status bpe_train_open(struct bpe_train **out, const struct bpe_train_options *options,
                               struct threads *pool, struct tlm_error *err)
{
    *out = NULL;
    struct bpe_train *t = calloc(1, sizeof *t);
    if (!t) return no_memory(err);
    t->options = options;
    enum tlm_status status = open_parts(t, pool, err);
    if (status)
        bpe_train_close(t);
    else
        *out = t;
    return status;
}

void bpe_train_close(struct bpe_train *t)
{
    if (!t) return;
    word_counter_close(t->counter);
    token_list_free(&t->tokens);
    free(t->merges);
    free(t->special);
    free(t);
}

enum tlm_status bpe_train_add(struct bpe_train *t, const char *text, size_t bytes, struct tlm_error *err)
{
    return word_counter_add(t->counter, text, bytes, err);
}

// ---- characters ---------------------------------------------------------------------------------------

static size_t character_length(const char *text, size_t left)
{
    unsigned char lead = (unsigned char)text[0];
    size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1, found = 1;
    while (found < n && found < left && ((unsigned char)text[found] & 0xC0) == 0x80) found++;
    return found == n ? n : 1;
}

// A character's bytes, the first one on top, and its length below them all: sorts in the order of bytes.
static uint64_t character_key(const char *text, size_t length)
{
    uint64_t key = 0;
    for (size_t i = 0; i < 4; i++) key = key << 8 | (i < length ? (unsigned char)text[i] : 0);
    return key << 8 | length;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct key_set { // open addressing, at most half full; 0: free
    uint64_t *keys;
    size_t mask, count;
};

static bool set_add(struct key_set *s, uint64_t key)
{
    if (!s->keys || 2 * s->count > s->mask) {
        struct key_set grown = {.mask = s->keys ? 2 * s->mask + 1 : 1023};
        if (!(grown.keys = calloc(grown.mask + 1, sizeof *grown.keys))) return false;
        for (size_t i = 0; s->keys && i <= s->mask; i++)
            if (s->keys[i]) set_add(&grown, s->keys[i]);
        free(s->keys);
        *s = grown;
    }
    size_t i = (key * 0x9E3779B97F4A7C15 >> 32) & s->mask;
    while (s->keys[i] && s->keys[i] != key) i = (i + 1) & s->mask;
    s->count += !s->keys[i];
    s->keys[i] = key;
    return true;
}

// All characters of the words in order, and each byte of those of several bytes as a character of its own.
static bool find_characters(struct key_set *set, const struct counted_word *words, size_t count)
{
    for (size_t w = 0; w < count; w++)
        for (size_t at = 0, n; at < words[w].bytes; at += n) {
            const char *text = words[w].text + at;
            n = character_length(text, words[w].bytes - at);
            if (!set_add(set, character_key(text, n))) return false;
            for (size_t i = 0; i < n && n > 1; i++)
                if (!set_add(set, character_key(text + i, 1))) return false;
        }
    if (!set->keys) return true;
    size_t used = 0;
    for (size_t i = 0; i <= set->mask; i++)
        if (set->keys[i]) set->keys[used++] = set->keys[i];
    qsort(set->keys, used, sizeof *set->keys, compare_keys);
    return true;
}

// The id of the first `length` bytes of a character, which are merged of what is in front of the last one and that one.
static int64_t add_beginning(struct bpe_train *t, uint64_t key, size_t length)
{
    char text[8] = "";
    size_t bytes = 0, before = 0;
    for (size_t i = 0; i < length; i++) {
        before = bytes;
        bytes += byte_alphabet_put((unsigned)(key >> (32 - 8 * i)) & 0xFF, text + bytes);
    }
    int64_t id = token_list_find(&t->tokens, text, bytes);
    if (id >= 0) return id;
    if (length > 1) {
        int64_t left = add_beginning(t, key, length - 1),
                right = token_list_find(&t->tokens, text + before, bytes - before);
        if (left < 0) return -1;
        TLM_ASSERT(right >= 0);
        t->merges[t->merge_count++] =
            (struct learned_merge){(uint32_t)left, (uint32_t)right, t->tokens.count};
    }
    return token_list_add(&t->tokens, text, bytes) ? (int64_t)t->tokens.count - 1 : -1;
}

static enum tlm_status make_characters(struct bpe_train *t, const struct counted_word *words, size_t count,
                                       struct tlm_error *err)
{
    struct key_set set = {0};
    bool whole = find_characters(&set, words, count);
    if (whole) whole = (t->merges = calloc(3 * set.count + 1, sizeof *t->merges)) != NULL;
    for (int several = 0; several < 2; several++)
        for (size_t i = 0; i < set.count && whole; i++) {
            size_t length = set.keys[i] & 0xFF;
            if ((length > 1) == several) whole = add_beginning(t, set.keys[i], length) >= 0;
        }
    free(set.keys);
    return whole ? TLM_OK : no_memory(err);
}

// ---- merges -------------------------------------------------------------------------------------------

static enum tlm_status make_merges(struct bpe_train *t, const struct counted_word *words, size_t count,
                                   struct tlm_error *err)
{
    uint32_t byte_ids[256];
    // The order of the alphabet's characters: printable bytes first.
    for (unsigned point = 0; point < 324; point++)
        for (unsigned b = 0; b < 256; b++) {
            char text[2];
            if (byte_alphabet_point(b) != point) continue;
            byte_ids[b] = t->tokens.count;
            if (!token_list_add(&t->tokens, text, byte_alphabet_put(b, text))) return no_memory(err);
        }
    struct merge_learner learner = {.tokens = &t->tokens,
                                    .special_count = (uint32_t)t->options->special_count,
                                    .byte_ids = byte_ids,
                                    .vocab_size = (uint32_t)t->options->vocab_size,
                                    .min_frequency = t->options->min_frequency};
    enum tlm_status status = merge_learner_run(&learner, words, count, err);
    t->merges = learner.merges;
    t->merge_count = learner.merge_count;
    return status;
}

enum tlm_status bpe_train_run(struct bpe_train *t, struct tlm_error *err)
{
    const struct counted_word *words;
    enum tlm_status status = word_counter_finish(t->counter, &words, &t->word_count, err);
    if (status) return status;
    if (!t->word_count) return error_set(err, TLM_ERR_ARGUMENT, "expected texts to train on, found none");
    status = (t->options->characters ? make_characters : make_merges)(t, words, t->word_count, err);
    word_counter_close(t->counter);
    t->counter = NULL;
    return status;
}

int32_t bpe_train_size(const struct bpe_train *t)
{
    return (int32_t)t->tokens.count;
}

int64_t bpe_train_merges(const struct bpe_train *t)
{
    return (int64_t)t->merge_count;
}

int64_t bpe_train_words(const struct bpe_train *t)
{
    return (int64_t)t->word_count;
}

// ---- writing ------------------------------------------------------------------------------------------

static bool write_merges(const struct bpe_train *t, struct gguf_writer *w)
{
    size_t bytes = 0, at = 0;
    const struct gguf_string *texts = t->tokens.items;
    for (size_t i = 0; i < t->merge_count; i++)
        bytes += texts[t->merges[i].left].length + texts[t->merges[i].right].length + 1;
    struct gguf_string *items = calloc(t->merge_count + 1, sizeof *items);
    char *text = malloc(bytes + 1);
    for (size_t i = 0; i < t->merge_count && items && text; i++) {
        struct gguf_string left = texts[t->merges[i].left], right = texts[t->merges[i].right];
        items[i] = (struct gguf_string){text + at, left.length + 1 + right.length};
        char *p = mempcpy(text + at, left.data, left.length);
        *p++ = ' ';
        memcpy(p, right.data, right.length);
        at += items[i].length;
    }
    bool whole = items && text;
    if (whole) gguf_set_string_array(w, "tokenizer.ggml.merges", items, t->merge_count);
    free(items);
    free(text);
    return whole;
}

enum tlm_status bpe_train_write(const struct bpe_train *t, struct gguf_writer *w, struct tlm_error *err)
{
    int32_t *types = calloc(t->tokens.count, sizeof *types);
    if (!types || !write_merges(t, w)) {
        free(types);
        return no_memory(err);
    }
    for (uint32_t i = 0; i < t->tokens.count; i++)
        types[i] = i >= t->options->special_count ? TOKEN_NORMAL
                   : (int32_t)i == t->unknown     ? TOKEN_UNKNOWN
                                                  : TOKEN_CONTROL;
    gguf_set_string(w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_set_string(w, "tokenizer.ggml.pre", t->pre.data, t->pre.length);
    gguf_set_string_array(w, "tokenizer.ggml.tokens", t->tokens.items, t->tokens.count);
    gguf_set_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, t->tokens.count);
    free(types);
    // "None" is said too: readers take GPT-2's kin to have certain ids where the keys are absent.
    gguf_set_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)t->bos);
    gguf_set_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)t->eos);
    if (t->unknown >= 0) gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", (uint32_t)t->unknown);
    gguf_set_bool(w, "tokenizer.ggml.add_bos_token", false);
    return TLM_OK;
}
