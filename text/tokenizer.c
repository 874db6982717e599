// text/tokenizer.c -- opens a vocabulary, and does what does not depend on the kind of tokenizer.
#include "core/dtype.h"
#include "text/tokenizer_internal.h"
#include "text/vocabulary.h"

static const struct tokenizer_kind *const kinds[] = {&tokenizer_spm, &tokenizer_bpe, &tokenizer_bpe_raw,
                                                     &tokenizer_unigram};

// Positions in a text and ids are 32-bit numbers, and have room to spare.
enum { MAX_TOKENS = 1 << 24, MAX_TEXT = 1 << 30 };

// Names of tokens that end an answer. Files often mark only one of them as eos, and some give them the type
// of plain text, so such a token also becomes a control token. llama.cpp knows the same names.
static const char *const end_names[] = {"</s>",
                                        "<eos>",
                                        "<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|calls|>",
                                        "<|flush|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<end_of_turn>",
                                        "<end_of_utterance>",
                                        "<turn|>",
                                        "<|tool_response>",
                                        "<|endoftext|>",
                                        "[e~[",
                                        "<|fim_pad|>",
                                        "<|end_of_text|>",
                                        "<|file_sep|>",
                                        "<|repo_name|>",
                                        "<｜end▁of▁sentence｜>"};

// ---- the table of tokens ------------------------------------------------------------------------------

static uint64_t load_8(const char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static uint64_t load_4(const char *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

// Eight bytes a step; the last step overlaps the one before it, so that nothing behind the text is read.
uint32_t token_hash(const char *p, size_t n)
{
    const uint64_t multiplier = 0x9E3779B97F4A7C15; // 2^64 / golden ratio, odd
    uint64_t h = n * multiplier, word = 0;
    for (; n > 8; p += 8, n -= 8) {
        h = (h ^ load_8(p)) * multiplier;
        h ^= h >> 32;
    }
    if (n >= 4)
        word = load_4(p) | load_4(p + n - 4) << 32;
    else if (n)
        word = (uint8_t)p[0] | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint64_t)(uint8_t)p[n - 1] << 16;
    h = (h ^ word) * multiplier;
    return (uint32_t)(h >> 32 ^ h);
}

// The slot that holds the text, or the free one where it belongs.
static struct token_slot *find_slot(const struct tokenizer *t, const char *text, size_t length, uint32_t hash)
{
    for (uint32_t i = hash & t->table.mask;; i = (i + 1) & t->table.mask) {
        struct token_slot *slot = &t->table.slots[i];
        if (slot->id < 0) return slot;
        const struct token *token = &t->tokens[slot->id];
        if (slot->hash == hash && token->length == length && !memcmp(token->text, text, length)) return slot;
    }
}

int32_t token_find(const struct tokenizer *t, const char *text, size_t length)
{
    return find_slot(t, text, length, token_hash(text, length))->id;
}

// A token without text is never found: nothing would stand for it.
static enum tlm_status build_table(struct tokenizer *t, struct tlm_error *err)
{
    uint32_t slots = 4;
    while (slots < 2 * (uint32_t)t->size) slots *= 2;
    t->table.slots = malloc(slots * sizeof *t->table.slots);
    if (!t->table.slots)
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %d tokens", (int)t->size);
    t->table.mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++) t->table.slots[i].id = -1;
    for (int32_t id = 0; id < t->size; id++) {
        const struct token *token = &t->tokens[id];
        if (!token->length) continue;
        uint32_t hash = token_hash(token->text, token->length);
        struct token_slot *slot = find_slot(t, token->text, token->length, hash);
        if (slot->id >= 0)
            return error_set(err, TLM_ERR_FORMAT,
                             "tokenizer.ggml.tokens: expected each token once, found tokens %d and %d equal",
                             (int)slot->id, (int)id);
        *slot = (struct token_slot){hash, id};
    }
    return TLM_OK;
}

// ---- opening ------------------------------------------------------------------------------------------

static enum tlm_status find_kind(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    struct gguf_string name = {0};
    enum tlm_status status = gguf_get_string(g, "tokenizer.ggml.model", &name, err);
    if (status) return status;
    if (!name.data)
        return error_set(err, TLM_ERR_FORMAT, "tokenizer.ggml.model: expected a name, found no such key");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (gguf_string_is(name, kinds[i]->name)) t->kind = kinds[i];
    if (t->kind) return TLM_OK;
    char shown[40];
    return error_set(err, TLM_ERR_UNSUPPORTED,
                     "tokenizer.ggml.model: expected a kind of tokenizer that is supported (llama, gpt2, "
                     "gemma4, t5), found \"%s\"",
                     gguf_printable(name, shown, sizeof shown));
}

// A whole number that has the order of the scores, for which -0 and +0 are equal.
static uint32_t priority_of_score(float score)
{
    uint32_t bits = bits_of_f32(score + 0.0f);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

// Finds an array that has an item for each token. Absent: *out is NULL.
static enum tlm_status find_array(const struct tokenizer *t, const struct gguf *g, const char *key,
                                  const struct gguf_value **out, struct tlm_error *err)
{
    *out = gguf_find(g, key);
    if (!*out) return TLM_OK;
    if ((*out)->type != GGUF_ARRAY || !gguf_value_is_number(*out))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected an array of numbers, found another type", key);
    if ((*out)->count != (uint64_t)t->size)
        return error_set(err, TLM_ERR_FORMAT, "%s: expected %d items, one a token, found %llu", key,
                         (int)t->size, (unsigned long long)(*out)->count);
    return TLM_OK;
}

static enum tlm_status read_scores(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *scores;
    enum tlm_status status = find_array(t, g, "tokenizer.ggml.scores", &scores, err);
    if (status) return status;
    for (int32_t id = 0; id < t->size; id++) {
        double score = scores ? gguf_value_f64(scores, (uint64_t)id) : 0;
        if (score != score)
            return error_set(err, TLM_ERR_FORMAT,
                             "tokenizer.ggml.scores: token %d: expected a number, found NaN", (int)id);
        t->tokens[id].priority = priority_of_score((float)score);
    }
    return TLM_OK;
}

// The value of a hexadecimal digit, or -1.
static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// The byte that a token named <0xXX> stands for, or -1.
static int byte_of_name(const struct token *token)
{
    const char *s = token->text;
    if (token->length != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static enum tlm_status read_types(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    const char *key = "tokenizer.ggml.token_type";
    const struct gguf_value *types;
    enum tlm_status status = find_array(t, g, key, &types, err);
    if (status) return status;
    if (types && !gguf_value_is_integer(types))
        return error_set(err, TLM_ERR_FORMAT, "%s: expected an array of whole numbers, found another type",
                         key);
    for (int32_t id = 0; id < t->size; id++) {
        int64_t type = types ? gguf_value_i64(types, (uint64_t)id) : TOKEN_NORMAL;
        if (type < 0 || type > TOKEN_BYTE)
            return error_set(err, TLM_ERR_FORMAT, "%s: token %d: expected 0 to %d, found %lld", key, (int)id,
                             TOKEN_BYTE, (long long)type);
        struct token *token = &t->tokens[id];
        token->type = type ? (uint8_t)type : TOKEN_UNUSED; // 0 is "undefined", which means the same
        if (type == TOKEN_BYTE && byte_of_name(token) < 0)
            return error_set(
                err, TLM_ERR_FORMAT,
                "tokenizer.ggml.tokens: token %d: expected the name of a byte like <0x0A>, found another",
                (int)id);
    }
    return TLM_OK;
}

static enum tlm_status read_tokens(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    const char *key = "tokenizer.ggml.tokens";
    const struct gguf_value *v = gguf_find(g, key);
    if (!v || v->type != GGUF_ARRAY || v->item != GGUF_STRING)
        return error_set(err, TLM_ERR_FORMAT, "%s: expected an array of strings, found %s", key,
                         v ? "another type" : "no such key");
    if (v->count < 1 || v->count > MAX_TOKENS)
        return error_set(err, TLM_ERR_FORMAT, "%s: expected 1 to %d tokens, found %llu", key, MAX_TOKENS,
                         (unsigned long long)v->count);
    struct gguf_string *texts;
    enum tlm_status status = gguf_value_strings(v, &texts, err);
    if (status) return status;
    t->size = (int32_t)v->count;
    t->tokens = calloc(v->count, sizeof *t->tokens);
    if (!t->tokens)
        status = error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %d tokens", (int)t->size);
    for (int32_t id = 0; !status && id < t->size; id++) {
        if (texts[id].length > TOKEN_MAX_BYTES)
            status = error_set(err, TLM_ERR_FORMAT, "%s: token %d: expected at most %d bytes, found %llu",
                               key, (int)id, TOKEN_MAX_BYTES, (unsigned long long)texts[id].length);
        t->tokens[id].text = texts[id].data;
        t->tokens[id].length = (uint16_t)texts[id].length;
        if (texts[id].length > t->longest) t->longest = (uint32_t)texts[id].length;
    }
    free(texts);
    return status;
}

// Reads the id of a token with a role. A file may say "none" as -1 in 32 bits, signed or not; a default that
// lies outside a small vocabulary is none as well.
static enum tlm_status read_id(const struct tokenizer *t, const struct gguf *g, const char *key,
                               int32_t otherwise, int32_t *out, struct tlm_error *err)
{
    int64_t id = otherwise < t->size ? otherwise : -1;
    enum tlm_status status = gguf_get_i64(g, key, &id, err);
    if (status) return status;
    if (id == UINT32_MAX) id = -1;
    if (id < -1 || id >= t->size)
        return error_set(err, TLM_ERR_FORMAT, "%s: expected -1 to %d, found %lld", key, (int)t->size - 1,
                         (long long)id);
    *out = (int32_t)id;
    return TLM_OK;
}

static enum tlm_status read_roles(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    const struct tokenizer_kind *kind = t->kind;
    int32_t eot, eom;
    enum tlm_status status;
    if ((status = read_id(t, g, "tokenizer.ggml.bos_token_id", kind->bos, &t->bos, err))) return status;
    if ((status = read_id(t, g, "tokenizer.ggml.eos_token_id", kind->eos, &t->eos, err))) return status;
    if ((status = read_id(t, g, "tokenizer.ggml.unknown_token_id", kind->unknown, &t->unknown, err)))
        return status;
    if ((status = read_id(t, g, "tokenizer.ggml.eot_token_id", -1, &eot, err))) return status;
    if ((status = read_id(t, g, "tokenizer.ggml.eom_token_id", -1, &eom, err))) return status;
    t->adds_bos = kind->adds_bos;
    t->adds_space = kind->adds_space;
    if ((status = gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->adds_bos, err))) return status;
    if ((status = gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &t->adds_space, err))) return status;
    if (t->bos < 0) t->adds_bos = false;

    if (t->eos >= 0) t->tokens[t->eos].is_end = true;
    if (eot >= 0) t->tokens[eot].is_end = true;
    if (eom >= 0) t->tokens[eom].is_end = true;
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
        int32_t id = token_find(t, end_names[i], strlen(end_names[i]));
        if (id < 0) continue;
        t->tokens[id].is_end = true;
        t->tokens[id].type = TOKEN_CONTROL;
    }
    return TLM_OK;
}

// Which special tokens take white space along (see VOCABULARY_KEY_STRIP).
static enum tlm_status read_strips(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    const struct gguf_value *strips;
    enum tlm_status status = find_array(t, g, VOCABULARY_KEY_STRIP, &strips, err);
    for (int32_t id = 0; !status && strips && id < t->size; id++)
        t->tokens[id].strip = gguf_value_i64(strips, (uint64_t)id) & 3;
    return status;
}

// A byte's token has its name; a vocabulary without such names may have the byte itself as a token.
static void find_byte_ids(struct tokenizer *t)
{
    for (int b = 0; b < 256; b++) {
        char name[8], byte = (char)b;
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        t->byte_ids[b] = token_find(t, name, 6);
        if (t->byte_ids[b] < 0) t->byte_ids[b] = token_find(t, &byte, 1);
    }
}

static enum tlm_status open_parts(struct tokenizer *t, const struct gguf *g, struct tlm_error *err)
{
    enum tlm_status status;
    if ((status = find_kind(t, g, err))) return status;
    if ((status = read_tokens(t, g, err))) return status;
    if ((status = read_scores(t, g, err))) return status;
    if ((status = read_types(t, g, err))) return status;
    if ((status = read_strips(t, g, err))) return status;
    if ((status = build_table(t, err))) return status;
    if ((status = read_roles(t, g, err))) return status;
    find_byte_ids(t);
    if ((status = t->kind->open(t, g, err))) return status;
    return special_index_init(&t->special, t, err);
}

enum tlm_status tokenizer_open(struct tokenizer **out, const struct gguf *g, struct tlm_error *err)
{
    *out = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu bytes", sizeof *t);
    t->gguf = g;
    enum tlm_status status = open_parts(t, g, err);
    if (status)
        tokenizer_close(t);
    else
        *out = t;
    return status;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t) return;
    if (t->kind) t->kind->close(t);
    special_index_free(&t->special);
    free(t->table.slots);
    free(t->tokens);
    gguf_close(t->own);
    free(t->own_data);
    free(t);
}

// ---- questions ----------------------------------------------------------------------------------------

int32_t tokenizer_size(const struct tokenizer *t)
{
    return t->size;
}

static const struct token *token_of(const struct tokenizer *t, int32_t id)
{
    TLM_ASSERT(id >= 0 && id < t->size);
    return &t->tokens[id];
}

enum token_type tokenizer_type(const struct tokenizer *t, int32_t id)
{
    return (enum token_type)token_of(t, id)->type;
}

struct gguf_string tokenizer_token(const struct tokenizer *t, int32_t id)
{
    const struct token *token = token_of(t, id);
    return (struct gguf_string){token->text, token->length};
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->adds_bos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    return token_of(t, id)->is_end;
}

// ---- encoding and decoding ----------------------------------------------------------------------------

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static enum tlm_status check_size(size_t bytes, struct tlm_error *err)
{
    if (bytes <= MAX_TEXT) return TLM_OK;
    return error_set(err, TLM_ERR_ARGUMENT, "text: expected at most %d bytes at once, found %zu", MAX_TEXT,
                     bytes);
}

// Encodes what stands between the special tokens that were found, and those.
static enum tlm_status encode_around(const struct tokenizer *t, const char *text, size_t bytes,
                                     const struct special_match *matches, size_t match_count,
                                     struct id_sink *sink, struct tlm_error *err)
{
    enum tlm_status status = TLM_OK;
    size_t at = 0;
    for (size_t i = 0; i <= match_count && !status; i++) {
        size_t end = i < match_count ? matches[i].start : bytes, next = end;
        uint8_t strip = i < match_count ? t->tokens[t->special.items[matches[i].item].id].strip : 0;
        while (strip & 1 && end > at && is_space(text[end - 1])) end--;
        sink->first = at == 0;
        if (at < end) status = t->kind->encode(t, text + at, end - at, sink, err);
        if (i == match_count) break;
        const struct special *item = &t->special.items[matches[i].item];
        id_sink_put(sink, item->id);
        at = next + item->length;
        size_t limit = i + 1 < match_count ? matches[i + 1].start : bytes;
        while (strip & 2 && at < limit && is_space(text[at])) at++;
    }
    return status;
}

enum tlm_status tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int flags,
                                 int32_t *ids, size_t capacity, size_t *count, struct tlm_error *err)
{
    struct special_match *matches;
    size_t match_count;
    *count = 0;
    enum tlm_status status = check_size(bytes, err);
    if (!status)
        status = special_find(&t->special, text, (uint32_t)bytes, flags & TLM_PARSE_SPECIAL, &matches,
                              &match_count, err);
    if (status) return status;
    struct id_sink sink = {.ids = ids, .capacity = capacity};
    if (flags & TLM_ADD_BOS && t->adds_bos) id_sink_put(&sink, t->bos);
    status = encode_around(t, text, bytes, matches, match_count, &sink, err);
    free(matches);
    *count = sink.count;
    return status;
}

struct match_list {
    struct special_match *items;
    size_t count;
};

// Adds the special tokens of text[begin, end).
static enum tlm_status find_within(struct match_list *all, const struct tokenizer *t, const char *text,
                                   size_t begin, size_t end, bool control, struct tlm_error *err)
{
    struct special_match *found;
    size_t count;
    if (begin >= end) return TLM_OK;
    enum tlm_status status =
        special_find(&t->special, text + begin, (uint32_t)(end - begin), control, &found, &count, err);
    if (status || !count) {
        if (!status) free(found);
        return status;
    }
    struct special_match *items = reallocarray(all->items, all->count + count, sizeof *items);
    if (!items) {
        free(found);
        return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for %zu special tokens",
                         all->count + count);
    }
    all->items = items;
    for (size_t i = 0; i < count; i++) {
        found[i].start += (uint32_t)begin;
        items[all->count++] = found[i];
    }
    free(found);
    return TLM_OK;
}

enum tlm_status tokenizer_encode_rendered(const struct tokenizer *t, const char *text, size_t bytes,
                                          const struct text_span *plain, size_t plain_count, int32_t *ids,
                                          size_t capacity, size_t *count, struct tlm_error *err)
{
    struct match_list all = {NULL, 0};
    struct id_sink sink = {.ids = ids, .capacity = capacity};
    *count = 0;
    enum tlm_status status = check_size(bytes, err);
    size_t at = 0;
    for (size_t i = 0; i <= plain_count && !status; i++) {
        size_t begin = i < plain_count ? plain[i].begin : bytes;
        status = find_within(&all, t, text, at, begin, true, err);
        if (i == plain_count || status) break;
        at = plain[i].end;
        status = find_within(&all, t, text, begin, at, false, err);
    }
    if (!status) status = encode_around(t, text, bytes, all.items, all.count, &sink, err);
    free(all.items);
    *count = sink.count;
    return status;
}

size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special, char *text,
                       size_t capacity)
{
    const struct token *token = token_of(t, id);
    struct byte_sink sink = {.data = text, .capacity = capacity, .drop_space = first && t->adds_space};
    switch ((enum token_type)token->type) {
    case TOKEN_CONTROL:
    case TOKEN_UNKNOWN:
    case TOKEN_USER_DEFINED:
        if (!special && token->type != TOKEN_USER_DEFINED) break;
        for (uint32_t i = 0; i < token->length; i++) byte_sink_put(&sink, token->text[i]);
        break;
    case TOKEN_BYTE: byte_sink_put(&sink, (char)byte_of_name(token)); break;
    case TOKEN_NORMAL: t->kind->decode(token, &sink); break;
    case TOKEN_UNUSED: break;
    }
    return sink.count;
}
