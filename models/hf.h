// models/hf.h -- models in Hugging Face folders: config.json, safetensors, tokenizer files.
//
// Opening a folder gives a struct gguf as if the model had been converted: metadata from config.json by the tables below,
// tensors by the architecture's weight table (names and transforms). Tensors that need no transform stay in the mapped
// safetensors files; the others are made in memory. So everything behind a struct gguf works on folders too.
#ifndef MODELS_HF_H
#define MODELS_HF_H

#include <jansson.h>

#include "models/model.h"

enum hf_kind { HF_I64, HF_F64, HF_BOOL };

// One number of config.json and the GGUF key that holds it.
struct hf_key {
    const char *gguf; // without "ARCH."
    const char *hf;   // "a.b" for a key within an object; "a|b" for two names of one, the first is written
    enum hf_kind kind;
    // JSON text of the value where config.json lacks the key or has null: transformers' default for this class, as config.json
    // leaves it out. NULL: the GGUF key is left out too.
    const char *fallback;
};

// A value of model_type, and how its config.json reads. Many tables of keys are shared: HF_KEYS_COMMON.
struct hf_variant {
    const char *model_type; // "mistral"
    const char *class_name; // "MistralForCausalLM"
    const struct hf_key *keys;
    size_t key_count;
    // What a table cannot say; both may be NULL. import: config.json to keys (gguf_set_*, names with "ARCH."). export: the way
    // back; `config` holds what the table gave. match: does this variant describe the open GGUF model? NULL: it does; the
    // first one that matches is exported. Errors: FORMAT, UNSUPPORTED (a setting that we do not compute; never ignore one).
    enum tlm_status (*import)(struct gguf_writer *w, const json_t *config, struct tlm_error *err);
    enum tlm_status (*export)(json_t *config, const struct gguf *g, struct tlm_error *err);
    bool (*match)(const struct gguf *g);
};

// layers, width, feed-forward size, heads, context: the same names in most models
#define HF_KEYS_COMMON                                                                                     \
    {"block_count", "num_hidden_layers", HF_I64, NULL}, {"embedding_length", "hidden_size", HF_I64, NULL}, \
        {"feed_forward_length", "intermediate_size", HF_I64, NULL},                                        \
        {"attention.head_count", "num_attention_heads", HF_I64, NULL},                                     \
        {"attention.head_count_kv", "num_key_value_heads", HF_I64, NULL},                                  \
        {"attention.key_length", "head_dim", HF_I64, NULL},                                                \
        {"attention.value_length", "head_dim", HF_I64, NULL},                                              \
    {                                                                                                      \
        "context_length", "max_position_embeddings", HF_I64, NULL                                          \
    }

// The variant of config.json's model_type and its architecture. NULL where there is none.
const struct hf_variant *hf_variant_find(const char *model_type, const struct arch **arch);

// rope_theta, rope_scaling and rope_parameters (transformers 5) of config.json to ARCH.rope.*, and back. Used by import/export of
// most variants. Divisors of frequencies (Llama 3) become the tensor rope_freqs.weight, LongRoPE's factors rope_factors_*.weight;
// hf_open makes these tensors.
enum tlm_status hf_import_rope(struct gguf_writer *w, const char *arch, const json_t *config,
                               struct tlm_error *err);
enum tlm_status hf_export_rope(json_t *config, const char *arch, const struct gguf *g, struct tlm_error *err);
// partial_rotary_factor, where less than a head turns. Errors: FORMAT.
enum tlm_status hf_export_partial_rope(json_t *config, const char *arch, const struct gguf *g,
                                       struct tlm_error *err);
// Sets config[key] to whether all layers have the biases of `parts` ("attn_q", "attn_k" ...), which are `count`; NULL: the class has none of
// them. Errors: UNSUPPORTED, where some are there and some not, or any that the class has not.
enum tlm_status hf_export_biases(json_t *config, const char *key, const struct gguf *g,
                                 const char *const *parts, size_t count, struct tlm_error *err);
// Typed reading of config.json: keeps *out where the key is absent or null. Errors: FORMAT.
enum tlm_status hf_get_i64(const json_t *config, const char *key, int64_t *out, struct tlm_error *err);
enum tlm_status hf_get_f64(const json_t *config, const char *key, double *out, struct tlm_error *err);
enum tlm_status hf_get_bool(const json_t *config, const char *key, bool *out, struct tlm_error *err);
// FORMAT/UNSUPPORTED unless config[key] is absent, null or the JSON text `expected`.
enum tlm_status hf_expect(const json_t *config, const char *key, const char *expected, struct tlm_error *err);

// How much of a model is opened: of a folder its tokenizer, or all but the numbers that would have to be made, can be had sooner.
enum model_part { MODEL_VOCABULARY, MODEL_SHAPES, MODEL_ALL };

// Opens a folder; gguf_close() gives everything back. Without tokenizer's files there are no tokenizer.* keys, but for
// MODEL_VOCABULARY that is an error. With MODEL_SHAPES data that is not mapped is NULL. Errors: IO, FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status hf_open(struct gguf **out, const char *folder, enum model_part part, struct tlm_error *err);
// The door for -m: a folder, or else a GGUF file, which always opens as a whole.
enum tlm_status model_file_open(struct gguf **out, const char *path, enum model_part part,
                                struct tlm_error *err);

// Writes the tokenizer.json of a GGUF file's vocabulary to `path`. Errors: those of tokenizer_open(), UNSUPPORTED, IO, MEMORY.
enum tlm_status hf_write_tokenizer_json(const struct gguf *g, const char *path, struct tlm_error *err);

#endif
