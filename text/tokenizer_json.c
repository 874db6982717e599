// text/tokenizer_json.c -- Hugging Face's tokenizer.json as the keys of a GGUF file.
//
// BPE in the byte alphabet becomes "gpt2"; BPE over characters "llama" where its merges are all that its tokens allow,
// so that scores say the same, and "gemma4" otherwise; Unigram becomes "t5". Where tokenizer.ggml.pre has no name for what
// the file does to a text before, the file's own words are kept under keys of ours.
#include <limits.h>
#include <search.h>
#include <string.h>

#include "core/file.h"
#include "text/json_text.h"
#include "text/pretokenizer_json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_folder.h"
#include "text/vocabulary.h"

#define MARK "\xE2\x96\x81" // U+2581

struct source {
    const json_t *root, *model;
    json_t *config; // tokenizer_config.json; NULL: none
    struct folder_tokens tokens;
    struct pretokenizer_rules rules;
    const char *kind;
};

// ---- tokens -------------------------------------------------------------------------------------------

static enum tlm_status read_bpe_vocab(struct source *s, struct tlm_error *err)
{
    const json_t *vocab = json_object_get(s->model, "vocab");
    if (!json_is_object(vocab))
        return error_set(err, TLM_ERR_FORMAT, "model.vocab: expected an object of tokens and ids");
    // An object's iterator is not const, though it changes nothing.
    for (void *i = json_object_iter((json_t *)vocab); i; i = json_object_iter_next((json_t *)vocab, i)) {
        const json_t *id = json_object_iter_value(i);
        const char *text = json_object_iter_key(i);
        if (!json_is_integer(id))
            return error_set(err, TLM_ERR_FORMAT, "model.vocab: \"%s\": expected a whole number as its id",
                             json_shown(text).text);
        enum tlm_status status = folder_tokens_set(&s->tokens, json_integer_value(id), text,
                                                   json_object_iter_key_len(i), TOKEN_NORMAL, 0, err);
        if (status) return status;
    }
    return TLM_OK;
}

static enum tlm_status read_unigram_vocab(struct source *s, struct tlm_error *err)
{
    const json_t *vocab = json_object_get(s->model, "vocab"), *item;
    const json_t *unknown = json_object_get(s->model, "unk_id");
    if (!json_is_array(vocab))
        return error_set(err, TLM_ERR_FORMAT, "model.vocab: expected an array of tokens and scores");
    size_t i;
    json_array_foreach(vocab, i, item)
    {
        const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        if (!json_is_string(text) || !json_is_number(score))
            return error_set(err, TLM_ERR_FORMAT, "model.vocab: token %zu: expected a text and a score", i);
        bool is_unknown = json_is_integer(unknown) && json_integer_value(unknown) == (json_int_t)i;
        enum tlm_status status =
            folder_tokens_set(&s->tokens, (int64_t)i, json_string_value(text), json_string_length(text),
                              is_unknown ? TOKEN_UNKNOWN : TOKEN_NORMAL, json_number_value(score), err);
        if (status) return status;
        if (is_unknown) s->tokens.unknown = (int64_t)i;
    }
    return TLM_OK;
}

static bool is_byte_name(struct gguf_string s)
{
    return s.length == 6 && !memcmp(s.data, "<0x", 3) && s.data[5] == '>' &&
           strchr("0123456789ABCDEF", s.data[3]) && strchr("0123456789ABCDEF", s.data[4]);
}

static void mark_bytes(struct source *s)
{
    if (!json_is_true(json_object_get(s->model, "byte_fallback"))) return;
    for (int64_t i = 0; i < s->tokens.count; i++)
        if (is_byte_name(s->tokens.texts[i])) s->tokens.types[i] = TOKEN_BYTE;
}

static enum tlm_status read_added(struct source *s, struct tlm_error *err)
{
    const json_t *list = json_object_get(s->root, "added_tokens"), *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        const json_t *id = json_object_get(item, "id"), *text = json_object_get(item, "content");
        if (!json_is_integer(id) || !json_is_string(text))
            return error_set(err, TLM_ERR_FORMAT, "added_tokens: item %zu: expected an id and a content", i);
        int64_t n = json_integer_value(id);
        bool special = json_is_true(json_object_get(item, "special"));
        bool unknown = n >= 0 && n < s->tokens.count && s->tokens.types[n] == TOKEN_UNKNOWN;
        enum tlm_status status =
            folder_tokens_set(&s->tokens, n, json_string_value(text), json_string_length(text),
                              unknown   ? TOKEN_UNKNOWN
                              : special ? TOKEN_CONTROL
                                        : TOKEN_USER_DEFINED,
                              unknown ? s->tokens.scores[n] : 0, err);
        if (status) return status;
        s->tokens.strips[n] = (uint8_t)(json_is_true(json_object_get(item, "lstrip")) |
                                        json_is_true(json_object_get(item, "rstrip")) << 1);
    }
    return TLM_OK;
}

// ---- merges -------------------------------------------------------------------------------------------

// A merge as its two halves: "a b", or ["a", "b"] in newer files.
static bool halves(const json_t *item, struct gguf_string *left, struct gguf_string *right)
{
    if (json_is_string(item)) {
        const char *text = json_string_value(item), *space;
        size_t length = json_string_length(item);
        space = length > 2 ? memchr(text + 1, ' ', length - 2) : NULL;
        if (!space) return false;
        *left = (struct gguf_string){text, (uint64_t)(space - text)};
        *right = (struct gguf_string){space + 1, length - left->length - 1};
        return true;
    }
    const json_t *a = json_array_get(item, 0), *b = json_array_get(item, 1);
    if (!json_is_string(a) || !json_is_string(b) || !json_string_length(a) || !json_string_length(b))
        return false;
    *left = (struct gguf_string){json_string_value(a), json_string_length(a)};
    *right = (struct gguf_string){json_string_value(b), json_string_length(b)};
    return true;
}

static enum tlm_status write_merges(struct source *s, struct vocabulary *v, struct tlm_error *err)
{
    const json_t *list = json_object_get(s->model, "merges"), *item;
    size_t i;
    if (!json_is_array(list)) return error_set(err, TLM_ERR_FORMAT, "model.merges: expected an array");
    vocabulary_strings(v, "tokenizer.ggml.merges", json_array_size(list));
    json_array_foreach(list, i, item)
    {
        struct gguf_string left, right;
        if (!halves(item, &left, &right))
            return error_set(err, TLM_ERR_FORMAT, "model.merges: merge %zu: expected two tokens", i);
        char joined[512];
        if (left.length + right.length + 1 > sizeof joined)
            return error_set(err, TLM_ERR_UNSUPPORTED, "model.merges: merge %zu: expected at most %zu bytes",
                             i, sizeof joined);
        memcpy(joined, left.data, left.length);
        joined[left.length] = ' ';
        memcpy(joined + left.length + 1, right.data, right.length);
        vocabulary_item(v, joined, left.length + right.length + 1);
    }
    return TLM_OK;
}

// Gives each token minus the number of the first merge that makes it, as SentencePiece's scores were before they became
// merges. False where the merges of a token do not stand together, or some pair of tokens that makes one is no merge:
// then scores would not say the same.
static bool scores_of_merges(struct source *s)
{
    const json_t *list = json_object_get(s->model, "merges"), *vocab = json_object_get(s->model, "vocab"),
                 *item;
    size_t i, pairs = 0;
    char joined[512];
    int64_t current = -1;
    double *scores = s->tokens.scores;
    json_array_foreach(list, i, item)
    {
        struct gguf_string left, right;
        if (!halves(item, &left, &right) || left.length + right.length > sizeof joined) return false;
        memcpy(joined, left.data, left.length);
        memcpy(joined + left.length, right.data, right.length);
        const json_t *id = json_object_getn(vocab, joined, left.length + right.length);
        if (!id) return false;
        int64_t n = json_integer_value(id);
        if (n != current && scores[n] != 0) return false; // its merges came before
        if (n != current) scores[n] = -(double)(i + 1);
        current = n;
    }
    for (int64_t n = 0; n < s->tokens.count; n++) {
        struct gguf_string text = s->tokens.texts[n];
        if (s->tokens.types[n] != TOKEN_NORMAL) continue;
        for (uint64_t at = 1; at < text.length; at++) {
            if ((text.data[at] & 0xC0) == 0x80) continue;
            pairs += json_object_getn(vocab, text.data, at) &&
                     json_object_getn(vocab, text.data + at, text.length - at);
        }
    }
    return pairs == i;
}

// ---- what happens before ------------------------------------------------------------------------------

static const char *type_of(const json_t *json)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    return type ? type : "";
}

// The only step of a list, the step itself, or NULL for none.
static const json_t *only_step(const json_t *json, const char *list, bool *several)
{
    *several = false;
    if (!json_is_object(json)) return NULL;
    if (strcmp(type_of(json), "Sequence") != 0) return json;
    const json_t *items = json_object_get(json, list);
    *several = json_array_size(items) > 1;
    return json_array_get(items, 0);
}

static bool is_space_to_mark(const json_t *step)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(step, "pattern"), "String"));
    const char *content = json_string_value(json_object_get(step, "content"));
    return !strcmp(type_of(step), "Replace") && pattern && content && !strcmp(pattern, " ") &&
           !strcmp(content, MARK);
}

// True where the file does to a text what the kind "llama" does: spaces become marks, one may be put in front.
static bool is_like_llama(const struct source *s, bool *adds_space)
{
    const json_t *normalizer = json_object_get(s->root, "normalizer"),
                 *pre = json_object_get(s->root, "pre_tokenizer");
    const char *mark = json_string_value(json_object_get(pre, "replacement"));
    *adds_space = false;
    if (!strcmp(type_of(pre), "Metaspace")) {
        const char *scheme = json_string_value(json_object_get(pre, "prepend_scheme"));
        *adds_space =
            scheme ? !strcmp(scheme, "always") : !json_is_false(json_object_get(pre, "add_prefix_space"));
        if (scheme && !strcmp(scheme, "first")) return false; // "llama" would put one in front of each span
        return json_is_null(normalizer) && mark && !strcmp(mark, MARK) &&
               json_is_false(json_object_get(pre, "split"));
    }
    // Gemma splits at spaces, of which its normalizer leaves none.
    const char *split = json_string_value(json_object_get(json_object_get(pre, "pattern"), "String"));
    if (json_is_object(pre) && !(split && !strcmp(split, " ") && !strcmp(type_of(pre), "Split")))
        return false;
    const json_t *steps = json_object_get(normalizer, "normalizers"), *first = json_array_get(steps, 0);
    if (is_space_to_mark(normalizer)) return true;
    const char *prepend = json_string_value(json_object_get(first, "prepend"));
    *adds_space = json_array_size(steps) == 2 && !strcmp(type_of(first), "Prepend") && prepend &&
                  !strcmp(prepend, MARK);
    return *adds_space && is_space_to_mark(json_array_get(steps, 1));
}

static enum tlm_status write_json(struct vocabulary *v, const char *key, const json_t *json,
                                  struct tlm_error *err)
{
    char *text = json_dumps(json, JSON_COMPACT);
    if (!text) return error_set(err, TLM_ERR_MEMORY, "tokenizer.json: no memory for its keys");
    vocabulary_string(v, key, text, strlen(text));
    free(text);
    return TLM_OK;
}

// The file's own steps, where they are not what the kind does anyway.
static enum tlm_status write_steps(struct source *s, struct vocabulary *v, struct tlm_error *err)
{
    const json_t *normalizer = json_object_get(s->root, "normalizer"),
                 *pre = json_object_get(s->root, "pre_tokenizer");
    static const char no_steps[] = "{\"type\":\"Sequence\",\"pretokenizers\":[]}";
    enum tlm_status status = TLM_OK;
    if (json_is_object(normalizer)) status = write_json(v, VOCABULARY_KEY_NORMALIZER, normalizer, err);
    if (!status && json_is_object(pre)) return write_json(v, VOCABULARY_KEY_PRE_TOKENIZER, pre, err);
    vocabulary_string(v, VOCABULARY_KEY_PRE_TOKENIZER, no_steps, sizeof no_steps - 1);
    return status;
}

static enum tlm_status write_byte_level(struct source *s, struct vocabulary *v, struct tlm_error *err)
{
    bool several, ignore_merges = json_is_true(json_object_get(s->model, "ignore_merges"));
    const json_t *step = only_step(json_object_get(s->root, "normalizer"), "normalizers", &several);
    bool nfc = step && !several && !strcmp(type_of(step), "NFC");
    size_t length = 0;
    const char *name = NULL;
    if (!step || nfc) name = pretokenizer_name(s->rules.rules, s->rules.count, ignore_merges, nfc, &length);
    // Other engines refuse a name that they do not know, which is better than other tokens.
    vocabulary_string(v, "tokenizer.ggml.pre", name ? name : "custom", name ? length : 6);
    if (!name) {
        if (ignore_merges) vocabulary_bool(v, VOCABULARY_KEY_IGNORE_MERGES, true);
        enum tlm_status status = write_steps(s, v, err);
        if (status) return status;
    }
    return write_merges(s, v, err);
}

static enum tlm_status write_characters(struct source *s, struct vocabulary *v, bool adds_space,
                                        struct tlm_error *err)
{
    vocabulary_string(v, "tokenizer.ggml.pre", "default", 7);
    if (!strcmp(s->kind, "llama")) {
        vocabulary_bool(v, "tokenizer.ggml.add_space_prefix", adds_space);
        return TLM_OK;
    }
    const json_t *decoder = json_object_get(s->root, "decoder"), *item;
    bool strips = false;
    size_t i;
    json_array_foreach(json_object_get(decoder, "decoders"), i, item) strips |=
        !strcmp(type_of(item), "Strip");
    if (!strcmp(type_of(decoder), "Metaspace")) {
        const char *scheme = json_string_value(json_object_get(decoder, "prepend_scheme"));
        strips = scheme ? strcmp(scheme, "never") != 0
                        : !json_is_false(json_object_get(decoder, "add_prefix_space"));
    }
    vocabulary_bool(v, "tokenizer.ggml.add_space_prefix", strips); // what decoding drops
    enum tlm_status status = write_steps(s, v, err);
    if (status || !strcmp(s->kind, "t5")) return status;
    if (json_is_true(json_object_get(s->model, "ignore_merges")))
        vocabulary_bool(v, VOCABULARY_KEY_IGNORE_MERGES, true);
    if (json_is_true(json_object_get(s->model, "fuse_unk")))
        vocabulary_bool(v, VOCABULARY_KEY_FUSE_UNKNOWN, true);
    return write_merges(s, v, err);
}

// ---- the whole ----------------------------------------------------------------------------------------

// Which ends the file puts around a text: TemplateProcessing, alone or in a Sequence.
static void read_template(struct folder_tokens *t, const json_t *processor, int depth)
{
    const json_t *list = json_object_get(processor, "processors"),
                 *single = json_object_get(processor, "single"), *item;
    size_t i;
    if (depth < 4) json_array_foreach(list, i, item) read_template(t, item, depth + 1);
    if (strcmp(type_of(processor), "TemplateProcessing") != 0 || !json_is_array(single)) return;
    bool before = true;
    json_array_foreach(single, i, item)
    {
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (json_object_get(item, "Sequence")) before = false;
        if (!name) continue;
        int64_t id = folder_tokens_find(t, name, strlen(name));
        if (before && t->adds_bos < 0) t->adds_bos = 1;
        if (before && t->bos < 0) t->bos = id;
        if (!before) t->adds_eos = 1;
    }
}

static enum tlm_status read_model(struct source *s, bool *adds_space, struct tlm_error *err)
{
    const char *type = json_string_value(json_object_get(s->model, "type"));
    if (!type) type = json_is_array(json_object_get(s->model, "merges")) ? "BPE" : ""; // older files
    bool bpe = !strcmp(type, "BPE");
    if (!bpe && strcmp(type, "Unigram") != 0)
        return error_set(err, TLM_ERR_UNSUPPORTED, "model.type: expected BPE or Unigram, found \"%s\"",
                         json_shown(type).text);
    static const char *const refused[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (json_string_length(json_object_get(s->model, refused[i])))
            return error_set(err, TLM_ERR_UNSUPPORTED, "model.%s: expected none, found a text", refused[i]);
    enum tlm_status status = bpe ? read_bpe_vocab(s, err) : read_unigram_vocab(s, err);
    if (status ||
        (status = pretokenizer_rules_read(&s->rules, json_object_get(s->root, "pre_tokenizer"), err)))
        return status;
    const json_t *unknown = json_object_get(s->model, "unk_token");
    if (json_is_string(unknown)) {
        s->tokens.unknown =
            folder_tokens_find(&s->tokens, json_string_value(unknown), json_string_length(unknown));
        if (s->tokens.unknown >= 0) s->tokens.types[s->tokens.unknown] = TOKEN_UNKNOWN;
    }
    mark_bytes(s);
    if ((status = read_added(s, err))) return status;
    bool byte_level =
        s->rules.byte_level || !strcmp(type_of(json_object_get(s->root, "decoder")), "ByteLevel");
    bool like_llama = is_like_llama(s, adds_space) && bpe && !byte_level;
    s->kind = !bpe ? "t5" : byte_level ? "gpt2" : like_llama && scores_of_merges(s) ? "llama" : "gemma4";
    return TLM_OK;
}

static enum tlm_status read_all(struct source *s, struct vocabulary *v, struct tlm_error *err)
{
    bool adds_space = false;
    if (!json_is_object(s->model)) return error_set(err, TLM_ERR_FORMAT, "model: expected an object");
    enum tlm_status status = read_model(s, &adds_space, err);
    if (status) return status;
    folder_config_read(&s->tokens, s->config);
    read_template(&s->tokens, json_object_get(s->root, "post_processor"), 0);
    vocabulary_string(v, "tokenizer.ggml.model", s->kind, strlen(s->kind));
    bool scores = !strcmp(s->kind, "llama") || !strcmp(s->kind, "t5");
    if ((status = folder_tokens_write(&s->tokens, v, scores, err))) return status;
    return strcmp(s->kind, "gpt2") != 0 ? write_characters(s, v, adds_space, err)
                                        : write_byte_level(s, v, err);
}

enum tlm_status tokenizer_json_read(struct vocabulary *v, const char *text, size_t length, json_t *config,
                                    struct tlm_error *err)
{
    json_t *root;
    enum tlm_status status = json_text_read(&root, text, length, "tokenizer.json", err);
    if (status) return status;
    struct source s = {.root = root, .model = json_object_get(root, "model"), .config = config};
    folder_tokens_init(&s.tokens);
    status = read_all(&s, v, err);
    if (status) error_prefix(err, "tokenizer.json");
    pretokenizer_rules_free(&s.rules);
    folder_tokens_free(&s.tokens);
    json_decref(root);
    return status;
}
