// models/hf_export_tokenizer.c -- tokenizer.json and tokenizer_config.json of a GGUF vocabulary.
//
// A file that carries its tokenizer.json (tokenizer.huggingface.json) gives it back as it was. Else it is written from the tokens:
// byte-level BPE with the steps that tokenizer.ggml.pre names; SentencePiece's BPE as merges in the order of their scores, with
// bytes for what no token covers; unigram.
#include <inttypes.h>
#include <string.h>

#include "core/file.h"
#include "models/hf_folder.h"
#include "text/pretokenizer.h"
#include "text/vocabulary.h"

#define MARK "\xE2\x96\x81" // U+2581

struct source {
    const struct gguf *g;
    const struct tokenizer *t;
    struct gguf_string kind; // tokenizer.ggml.model
    json_t *vocab;           // text to id
};

static enum tlm_status no_memory(struct tlm_error *err)
{
    return error_set(err, TLM_ERR_MEMORY, "tokenizer.json: no memory for it");
}

static bool flag(const struct gguf *g, const char *key, bool otherwise)
{
    (void)gguf_get_bool(g, key, &otherwise, NULL);
    return otherwise;
}

// The text of a key as JSON; NULL where there is none.
static json_t *json_of_key(const struct gguf *g, const char *key)
{
    struct gguf_string text = {NULL, 0};
    if (gguf_get_string(g, key, &text, NULL) || !text.data) return NULL;
    return json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

// ---- tokens -------------------------------------------------------------------------------------------

// A name that fills up the list to the rows of the embedding.
static bool is_padding(const struct source *s, int32_t id)
{
    char name[24];
    struct gguf_string text = tokenizer_token(s->t, id);
    snprintf(name, sizeof name, "[PAD%" PRId32 "]", id);
    return tokenizer_type(s->t, id) == TOKEN_UNUSED && gguf_string_is(text, name);
}

static enum tlm_status make_vocab(struct source *s, struct tlm_error *err)
{
    s->vocab = json_object();
    for (int32_t i = 0; i < tokenizer_size(s->t); i++) {
        struct gguf_string text = tokenizer_token(s->t, i);
        if (is_padding(s, i)) continue;
        if (json_object_setn_new(s->vocab, text.data, text.length, json_integer(i)))
            return error_set(err, TLM_ERR_UNSUPPORTED, "token %" PRId32 ": expected UTF-8, found other bytes",
                             i);
    }
    return TLM_OK;
}

static json_t *make_added(const struct source *s)
{
    const struct gguf_value *strips = gguf_find(s->g, VOCABULARY_KEY_STRIP);
    json_t *list = json_array();
    for (int32_t i = 0; i < tokenizer_size(s->t); i++) {
        enum token_type type = tokenizer_type(s->t, i);
        struct gguf_string text = tokenizer_token(s->t, i);
        bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if ((!special && type != TOKEN_USER_DEFINED) || !text.length) continue;
        bool known = strips && strips->item == GGUF_U8 && (uint64_t)i < strips->count;
        int strip = known ? (int)gguf_value_i64(strips, (uint64_t)i) : 0;
        json_array_append_new(list,
                              json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", i, "content", text.data,
                                        (size_t)text.length, "single_word", 0, "lstrip", strip & 1, "rstrip",
                                        strip >> 1 & 1, "normalized", 0, "special", special));
    }
    return list;
}

static enum tlm_status merges_of_file(const struct source *s, json_t *merges, struct tlm_error *err)
{
    const struct gguf_value *v = gguf_find(s->g, "tokenizer.ggml.merges");
    struct gguf_string *items = NULL;
    if (!v || v->type != GGUF_ARRAY || v->item != GGUF_STRING)
        return error_set(err, TLM_ERR_FORMAT, "tokenizer.ggml.merges: expected an array of strings");
    enum tlm_status status = gguf_value_strings(v, &items, err);
    for (uint64_t i = 0; i < v->count && !status; i++) {
        const char *text = items[i].data,
                   *space = items[i].length > 2 ? memchr(text + 1, ' ', items[i].length - 2) : NULL;
        size_t left = space ? (size_t)(space - text) : 0;
        if (!space || json_array_append_new(merges, json_pack("[s%, s%]", text, left, space + 1,
                                                              (size_t)items[i].length - left - 1)))
            status = error_set(err, TLM_ERR_FORMAT,
                               "tokenizer.ggml.merges: merge %" PRIu64 ": expected two tokens", i);
    }
    free(items);
    return status;
}

// A token that is made of two others.
struct merge {
    float score;
    int32_t id, left, right;
};

// Larger scores first, as SentencePiece takes them; the merges of one token side by side.
static int compare_merges(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static int64_t id_of(const struct source *s, const char *text, size_t length)
{
    const json_t *id = json_object_getn(s->vocab, text, length);
    return id ? json_integer_value(id) : -1;
}

struct merge_list {
    struct merge *items;
    size_t count, room;
};

static bool add_merges(const struct source *s, struct merge_list *list, int32_t id, float score)
{
    struct gguf_string text = tokenizer_token(s->t, id);
    for (size_t at = 1; at < text.length; at++) {
        if ((text.data[at] & 0xC0) == 0x80) continue; // within a character
        int64_t left = id_of(s, text.data, at),
                right = left < 0 ? -1 : id_of(s, text.data + at, text.length - at);
        if (right < 0) continue;
        if (list->count == list->room) {
            list->room = list->room ? 2 * list->room : 4096;
            struct merge *grown = realloc(list->items, list->room * sizeof *grown);
            if (!grown) return false;
            list->items = grown;
        }
        list->items[list->count++] = (struct merge){score, id, (int32_t)left, (int32_t)right};
    }
    return true;
}

static enum tlm_status merges_of_scores(const struct source *s, json_t *merges, struct tlm_error *err)
{
    const struct gguf_value *scores = gguf_find(s->g, "tokenizer.ggml.scores");
    struct merge_list list = {0};
    bool failed = false;
    for (int32_t i = 0; i < tokenizer_size(s->t) && !failed; i++)
        if (tokenizer_type(s->t, i) == TOKEN_NORMAL)
            failed = !add_merges(s, &list, i, scores ? (float)gguf_value_f64(scores, (uint64_t)i) : 0);
    if (list.count) qsort(list.items, list.count, sizeof *list.items, compare_merges);
    for (size_t i = 0; i < list.count && !failed; i++) {
        struct gguf_string left = tokenizer_token(s->t, list.items[i].left),
                           right = tokenizer_token(s->t, list.items[i].right);
        failed = json_array_append_new(merges, json_pack("[s%, s%]", left.data, (size_t)left.length,
                                                         right.data, (size_t)right.length)) != 0;
    }
    free(list.items);
    return failed ? no_memory(err) : TLM_OK;
}

// ---- steps --------------------------------------------------------------------------------------------

static enum tlm_status make_rule(const struct split_rule *rule, json_t *steps, struct gguf_string name,
                                 struct tlm_error *err)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                            "Contiguous"};
    char shown[48];
    if (rule->kind != SPLIT_REGEX && rule->kind != SPLIT_LITERAL)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "tokenizer.ggml.pre: '%s': its steps cannot be written as a tokenizer.json",
                         gguf_printable(name, shown, sizeof shown));
    size_t length = rule->length ? rule->length : strlen(rule->pattern);
    json_t *step = json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern",
                             rule->kind == SPLIT_REGEX ? "Regex" : "String", rule->pattern, length,
                             "behavior", behaviors[rule->behavior], "invert", rule->invert);
    return json_array_append_new(steps, step) ? no_memory(err) : TLM_OK;
}

static enum tlm_status make_byte_level(const struct source *s, json_t *root, json_t *model,
                                       struct tlm_error *err)
{
    struct gguf_string name = {"default", 7};
    char shown[48];
    json_object_set_new(root, "decoder",
                        json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1,
                                  "trim_offsets", 1, "use_regex", 1));
    json_t *own = json_of_key(s->g, VOCABULARY_KEY_PRE_TOKENIZER);
    if (own) {
        json_object_set_new(root, "pre_tokenizer", own);
        return TLM_OK;
    }
    enum tlm_status status = gguf_get_string(s->g, "tokenizer.ggml.pre", &name, err);
    const struct pretokenizer_info *info = status ? NULL : pretokenizer_find(name.data, name.length);
    if (!status && !info)
        return error_set(err, TLM_ERR_UNSUPPORTED, "tokenizer.ggml.pre: '%s' is not known",
                         gguf_printable(name, shown, sizeof shown));
    json_t *steps = json_array();
    for (size_t i = 0; !status && i < pretokenizer_rule_count(info); i++)
        status = make_rule(&info->rules[i], steps, name, err);
    if (status) {
        json_decref(steps);
        return status;
    }
    json_array_append_new(steps, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                           "trim_offsets", 1, "use_regex", 0));
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps));
    if (info->nfc) json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    if (info->ignore_merges) json_object_set_new(model, "ignore_merges", json_true());
    return TLM_OK;
}

// Spaces become marks, and one is put in front of each span of text.
static void make_marks(const struct source *s, json_t *root)
{
    bool adds = flag(s->g, "tokenizer.ggml.add_space_prefix", gguf_string_is(s->kind, "llama"));
    json_t *replace =
        json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", MARK);
    json_t *normalizer = json_of_key(s->g, VOCABULARY_KEY_NORMALIZER),
           *pre = json_of_key(s->g, VOCABULARY_KEY_PRE_TOKENIZER);
    if (!normalizer && !pre && adds && !gguf_string_is(s->kind, "gemma4"))
        normalizer = json_pack("{s:s, s:[{s:s, s:s}, O]}", "type", "Sequence", "normalizers", "type",
                               "Prepend", "prepend", MARK, replace);
    else if (!normalizer && !pre)
        normalizer = json_incref(replace);
    json_decref(replace);
    if (normalizer) json_object_set_new(root, "normalizer", normalizer);
    if (pre) json_object_set_new(root, "pre_tokenizer", pre);
    json_t *steps = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                              MARK, "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (adds)
        json_array_append_new(
            steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    json_object_set_new(root, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps));
}

// The tokens that a text gets around it.
static json_t *make_processor(const struct source *s)
{
    int32_t bos = tokenizer_adds_bos(s->t) ? tokenizer_bos(s->t) : -1,
            eos = flag(s->g, "tokenizer.ggml.add_eos_token", false) ? tokenizer_eos(s->t) : -1;
    if (bos < 0 && eos < 0) return json_null();
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    for (int round = 0; round < 3; round++) { // text A alone; both texts
        json_t *list = round ? pair : single;
        const int type = round == 2;
        for (int end = 0; end < 3; end++) {
            int32_t id = end == 0 ? bos : eos;
            if (end == 1) {
                json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "Sequence", "id",
                                                      round == 2 ? "B" : "A", "type_id", type));
                continue;
            }
            if (id < 0) continue;
            struct gguf_string text = tokenizer_token(s->t, id);
            json_array_append_new(list, json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id", text.data,
                                                  (size_t)text.length, "type_id", type));
            json_object_setn_new(tokens, text.data, text.length,
                                 json_pack("{s:s%, s:[i], s:[s%]}", "id", text.data, (size_t)text.length,
                                           "ids", id, "tokens", text.data, (size_t)text.length));
        }
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", tokens);
}

// ---- the files ----------------------------------------------------------------------------------------

static json_t *unknown_token(const struct source *s)
{
    for (int32_t i = 0; i < tokenizer_size(s->t); i++) {
        struct gguf_string text = tokenizer_token(s->t, i);
        if (tokenizer_type(s->t, i) == TOKEN_UNKNOWN) return json_stringn(text.data, text.length);
    }
    return json_null();
}

static enum tlm_status make_bpe(const struct source *s, json_t *root, struct tlm_error *err)
{
    bool bytes = gguf_string_is(s->kind, "gpt2"), scores = gguf_string_is(s->kind, "llama");
    json_t *merges = json_array();
    json_t *model = json_pack(
        "{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:O, s:o}", "type", "BPE", "dropout", "unk_token",
        unknown_token(s), "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
        scores || flag(s->g, VOCABULARY_KEY_FUSE_UNKNOWN, false), "byte_fallback", !bytes, "ignore_merges",
        flag(s->g, VOCABULARY_KEY_IGNORE_MERGES, false), "vocab", s->vocab, "merges", merges);
    if (!model || json_object_set_new(root, "model", model)) return no_memory(err);
    if (bytes) {
        json_t *normalizer = json_of_key(s->g, VOCABULARY_KEY_NORMALIZER);
        if (normalizer) json_object_set_new(root, "normalizer", normalizer);
        enum tlm_status status = make_byte_level(s, root, model, err);
        if (status) return status;
    } else {
        make_marks(s, root);
    }
    return scores ? merges_of_scores(s, merges, err) : merges_of_file(s, merges, err);
}

static enum tlm_status make_unigram(const struct source *s, json_t *root, struct tlm_error *err)
{
    const struct gguf_value *scores = gguf_find(s->g, VOCABULARY_KEY_SCORES);
    if (!scores) scores = gguf_find(s->g, "tokenizer.ggml.scores");
    if (gguf_find(s->g, "tokenizer.ggml.precompiled_charsmap"))
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "tokenizer.ggml.precompiled_charsmap: it cannot be written as a tokenizer.json yet");
    json_t *vocab = json_array();
    int64_t unknown = -1;
    bool bytes = false;
    for (int32_t i = 0; i < tokenizer_size(s->t); i++) {
        struct gguf_string text = tokenizer_token(s->t, i);
        if (is_padding(s, i)) continue;
        if (tokenizer_type(s->t, i) == TOKEN_UNKNOWN) unknown = i;
        bytes |= tokenizer_type(s->t, i) == TOKEN_BYTE;
        json_array_append_new(vocab, json_pack("[s%, f]", text.data, (size_t)text.length,
                                               scores ? gguf_value_f64(scores, (uint64_t)i) : 0.0));
    }
    json_object_set_new(root, "model",
                        json_pack("{s:s, s:o, s:o, s:b}", "type", "Unigram", "unk_id",
                                  unknown < 0 ? json_null() : json_integer(unknown), "vocab", vocab,
                                  "byte_fallback", bytes));
    make_marks(s, root);
    return TLM_OK;
}

static enum tlm_status make_tokenizer(struct source *s, json_t *root, struct tlm_error *err)
{
    static const char *const kinds[] = {"llama", "gpt2", "gemma4", "t5"};
    bool known = false;
    char shown[48];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) known |= gguf_string_is(s->kind, kinds[i]);
    if (!known)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "tokenizer.ggml.model: '%s' cannot be written as a tokenizer.json",
                         gguf_printable(s->kind, shown, sizeof shown));
    enum tlm_status status = make_vocab(s, err);
    if (status) return status;
    json_object_set_new(root, "version", json_string("1.0"));
    json_object_set_new(root, "truncation", json_null());
    json_object_set_new(root, "padding", json_null());
    json_object_set_new(root, "added_tokens", make_added(s));
    json_object_set_new(root, "normalizer", json_null());
    json_object_set_new(root, "pre_tokenizer", json_null());
    json_object_set_new(root, "post_processor", make_processor(s));
    json_object_set_new(root, "decoder", json_null());
    return gguf_string_is(s->kind, "t5") ? make_unigram(s, root, err) : make_bpe(s, root, err);
}

static void set_token(const struct source *s, json_t *config, const char *name, const char *key)
{
    int64_t id = -1;
    if (gguf_get_i64(s->g, key, &id, NULL) || id < 0 || id >= tokenizer_size(s->t)) return;
    struct gguf_string text = tokenizer_token(s->t, (int32_t)id);
    json_object_set_new(config, name, json_stringn(text.data, text.length));
}

static json_t *make_config(const struct source *s)
{
    json_t *config = json_object();
    struct gguf_string chat = {NULL, 0};
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    set_token(s, config, "bos_token", "tokenizer.ggml.bos_token_id");
    set_token(s, config, "eos_token", "tokenizer.ggml.eos_token_id");
    set_token(s, config, "unk_token", "tokenizer.ggml.unknown_token_id");
    set_token(s, config, "pad_token", "tokenizer.ggml.padding_token_id");
    json_object_set_new(config, "add_bos_token", json_boolean(tokenizer_adds_bos(s->t)));
    json_object_set_new(config, "add_eos_token",
                        json_boolean(flag(s->g, "tokenizer.ggml.add_eos_token", false)));
    json_object_set_new(config, "clean_up_tokenization_spaces", json_false());
    if (!gguf_get_string(s->g, "tokenizer.chat_template", &chat, NULL) && chat.data)
        json_object_set_new(config, "chat_template", json_stringn(chat.data, chat.length));
    return config;
}

static enum tlm_status write_text(const char *folder, const char *name, struct gguf_string text,
                                  struct tlm_error *err)
{
    char *path;
    struct file_writer *file;
    if (asprintf(&path, "%s/%s", folder, name) < 0) return no_memory(err);
    enum tlm_status status = file_writer_open(&file, path, err);
    free(path);
    if (status) return status;
    file_writer_write(file, text.data, text.length);
    return file_writer_finish(file, err);
}

static enum tlm_status write_tokenizer(struct source *s, const char *folder, const char *name,
                                       struct tlm_error *err)
{
    struct gguf_string text = {NULL, 0};
    enum tlm_status status = gguf_get_string(s->g, "tokenizer.huggingface.json", &text, err);
    if (status) return status;
    if (text.data) return write_text(folder, name, text, err);
    json_t *root = json_object();
    status = make_tokenizer(s, root, err);
    json_decref(s->vocab);
    if (!status) return hf_write_json(folder, name, root, err);
    json_decref(root);
    return status;
}

enum tlm_status hf_write_tokenizer_files(const struct gguf *g, const char *folder, struct tlm_error *err)
{
    struct tokenizer *t;
    struct source s = {.g = g};
    if (!gguf_find(g, "tokenizer.ggml.model")) return TLM_OK; // weights alone
    enum tlm_status status = tokenizer_open(&t, g, err);
    if (status) return status;
    s.t = t;
    status = gguf_get_string(g, "tokenizer.ggml.model", &s.kind, err);
    if (!status) status = write_tokenizer(&s, folder, "tokenizer.json", err);
    if (!status) status = hf_write_json(folder, "tokenizer_config.json", make_config(&s), err);
    tokenizer_close(t);
    return status;
}

enum tlm_status hf_write_tokenizer_json(const struct gguf *g, const char *path, struct tlm_error *err)
{
    struct tokenizer *t;
    struct source s = {.g = g};
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    enum tlm_status status = folder ? tokenizer_open(&t, g, err) : no_memory(err);
    if (!status) {
        s.t = t;
        status = gguf_get_string(g, "tokenizer.ggml.model", &s.kind, err);
        if (!status) status = write_tokenizer(&s, folder, slash ? slash + 1 : path, err);
        tokenizer_close(t);
    }
    free(folder);
    return status;
}
