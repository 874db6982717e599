// text/sentencepiece.c -- SentencePiece's tokenizer.model, a protobuf, as the keys of a GGUF file.
//
//     ModelProto       1 pieces (repeated)  2 trainer_spec  3 normalizer_spec
//     SentencePiece    1 piece (text)  2 score (float)  3 type, numbered as GGUF numbers them
//     TrainerSpec      3 model_type (1 unigram, 2 BPE)  40 unk_id  41 bos_id  42 eos_id  43 pad_id  24 treat_whitespace_as_suffix
//     NormalizerSpec   2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces
//
// A protobuf is a list of fields: a varint of number << 3 | wire type, then a varint (0), 8 bytes (1), a length and so many
// bytes (2), or 4 bytes (5). (sentencepiece_model.proto of google/sentencepiece.)
#include <string.h>

#include "text/tokenizer.h"
#include "text/tokenizer_folder.h"

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

struct field {
    uint32_t number, wire;
    uint64_t value;      // of wire types 0 and 5
    struct reader bytes; // of wire type 2
};

static uint64_t varint(struct reader *r)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (r->at == r->end) break;
        uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) return value;
    }
    r->bad = true;
    return 0;
}

// False at the end, or where the bytes are no field.
static bool next_field(struct reader *r, struct field *f)
{
    if (r->bad || r->at == r->end) return false;
    uint64_t key = varint(r), skip = 0;
    *f = (struct field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    if (f->wire == 0)
        f->value = varint(r);
    else if (f->wire == 2)
        skip = varint(r);
    else if (f->wire == 1 || f->wire == 5)
        skip = f->wire == 1 ? 8 : 4;
    else
        r->bad = true;
    if (skip > (uint64_t)(r->end - r->at)) r->bad = true;
    if (r->bad) return false;
    if (f->wire == 5)
        f->value = (uint32_t)r->at[0] | (uint32_t)r->at[1] << 8 | (uint32_t)r->at[2] << 16 |
                   (uint32_t)r->at[3] << 24;
    f->bytes = (struct reader){.at = r->at, .end = r->at + skip};
    r->at += skip;
    return true;
}

struct model {
    struct folder_tokens tokens;
    int64_t type; // 1 unigram, 2 BPE
    bool adds_space, merges_spaces, suffix;
    struct reader charsmap;
};

static enum tlm_status read_piece(struct model *m, struct reader r, struct tlm_error *err)
{
    struct field f;
    struct reader text = {0};
    uint32_t bits = 0;
    int32_t type = TOKEN_NORMAL;
    while (next_field(&r, &f)) {
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        if (f.number == 2 && f.wire == 5) bits = (uint32_t)f.value;
        if (f.number == 3 && f.wire == 0) type = f.value <= TOKEN_BYTE ? (int32_t)f.value : 0;
    }
    float score;
    memcpy(&score, &bits, sizeof score);
    if (r.bad || !text.at || type < 1)
        return error_set(err, TLM_ERR_FORMAT, "piece %lld: expected a text and a type",
                         (long long)m->tokens.count);
    return folder_tokens_set(&m->tokens, m->tokens.count, (const char *)text.at, (size_t)(text.end - text.at),
                             type, score, err);
}

static bool read_trainer(struct model *m, struct reader r)
{
    struct field f;
    while (next_field(&r, &f)) {
        if (f.wire != 0) continue;
        int64_t id = (int32_t)f.value; // -1 is none, ten bytes long
        if (f.number == 3) m->type = id;
        if (f.number == 24) m->suffix = f.value != 0;
        if (f.number == 40) m->tokens.unknown = id;
        if (f.number == 41) m->tokens.bos = id;
        if (f.number == 42) m->tokens.eos = id;
        if (f.number == 43) m->tokens.padding = id;
    }
    return !r.bad;
}

static bool read_normalizer(struct model *m, struct reader r)
{
    struct field f;
    while (next_field(&r, &f)) {
        if (f.number == 2 && f.wire == 2) m->charsmap = f.bytes;
        if (f.number == 3 && f.wire == 0) m->adds_space = f.value != 0;
        if (f.number == 4 && f.wire == 0) m->merges_spaces = f.value != 0;
    }
    return !r.bad;
}

static enum tlm_status read_model(struct model *m, struct reader r, struct tlm_error *err)
{
    struct field f;
    while (next_field(&r, &f)) {
        if (f.wire != 2) continue;
        if (f.number == 1) {
            enum tlm_status status = read_piece(m, f.bytes, err);
            if (status) return status;
        }
        if ((f.number == 2 && !read_trainer(m, f.bytes)) || (f.number == 3 && !read_normalizer(m, f.bytes)))
            r.bad = true;
    }
    if (r.bad) return error_set(err, TLM_ERR_FORMAT, "expected a protobuf, found bytes that are none");
    if (m->type != 1 && m->type != 2)
        return error_set(err, TLM_ERR_UNSUPPORTED, "expected model type 1 (unigram) or 2 (BPE), found %lld",
                         (long long)m->type);
    int64_t *const roles[] = {&m->tokens.unknown, &m->tokens.bos, &m->tokens.eos, &m->tokens.padding};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (*roles[i] < 0 || *roles[i] >= m->tokens.count) *roles[i] = -1;
    return TLM_OK;
}

// What the configuration says of special tokens goes before what the model says.
static void read_config(struct folder_tokens *t, const json_t *config)
{
    int64_t bos = t->bos, eos = t->eos, padding = t->padding;
    folder_config_read(t, config);
    if (t->bos < 0) t->bos = bos;
    if (t->eos < 0) t->eos = eos;
    if (t->padding < 0) t->padding = padding;
}

enum tlm_status sentencepiece_read(struct vocabulary *v, const void *data, size_t bytes, const json_t *config,
                                   struct tlm_error *err)
{
    struct model m = {.type = 1, .adds_space = true, .merges_spaces = true};
    folder_tokens_init(&m.tokens);
    m.tokens.unknown = 0; // the defaults of the format
    m.tokens.bos = 1;
    m.tokens.eos = 2;
    enum tlm_status status =
        read_model(&m, (struct reader){.at = data, .end = (const uint8_t *)data + bytes}, err);
    if (!status) status = folder_config_tokens(&m.tokens, config, err);
    if (!status) {
        bool unigram = m.type == 1;
        read_config(&m.tokens, config);
        if (m.tokens.adds_bos < 0) m.tokens.adds_bos = !unigram; // as Llama's tokenizer does
        vocabulary_string(v, "tokenizer.ggml.model", unigram ? "t5" : "llama", unigram ? 2 : 5);
        vocabulary_string(v, "tokenizer.ggml.pre", "default", 7);
        vocabulary_bool(v, "tokenizer.ggml.add_space_prefix", m.adds_space);
        vocabulary_bool(v, "tokenizer.ggml.remove_extra_whitespaces", m.merges_spaces);
        if (m.charsmap.at != m.charsmap.end)
            vocabulary_array(v, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, m.charsmap.at,
                             (uint64_t)(m.charsmap.end - m.charsmap.at));
        status = folder_tokens_write(&m.tokens, v, true, err);
    }
    folder_tokens_free(&m.tokens);
    if (status) error_prefix(err, "tokenizer.model");
    return status;
}
