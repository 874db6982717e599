// text/tokenizer_folder.h -- what the readers of a model folder's tokenizer files share: its list of tokens.
#ifndef TEXT_TOKENIZER_FOLDER_H
#define TEXT_TOKENIZER_FOLDER_H

#include <jansson.h>

#include "text/vocabulary.h"

struct folder_tokens {
    struct gguf_string *texts; // (room); no text: a number that no token has. They point into the source
    double *scores;
    int32_t *types;
    uint8_t *strips;                    // see VOCABULARY_KEY_STRIP
    int64_t count, room, given;         // given: calls of folder_tokens_set
    int64_t bos, eos, unknown, padding; // -1: none
    int adds_bos, adds_eos;             // -1: not said
    const char *chat_template;          // NULL: none; points into the configuration
    size_t chat_template_length;
};

void folder_tokens_init(struct folder_tokens *t);
void folder_tokens_free(struct folder_tokens *t);
// Sets a token, or what it had before. Errors: FORMAT (a number far outside), MEMORY.
enum tlm_status folder_tokens_set(struct folder_tokens *t, int64_t id, const char *text, size_t length,
                                  int32_t type, double score, struct tlm_error *err);
int64_t folder_tokens_find(const struct folder_tokens *t, const char *text,
                           size_t length); // -1 where there is none
// Takes the special tokens, flags and the chat template of a tokenizer_config.json; NULL is allowed.
void folder_config_read(struct folder_tokens *t, const json_t *config);
// Adds those tokens that only tokenizer_config.json has. Errors: FORMAT, MEMORY.
enum tlm_status folder_config_tokens(struct folder_tokens *t, const json_t *config, struct tlm_error *err);
// Writes tokens, types, scores if wanted, ids of special tokens and flags.
enum tlm_status folder_tokens_write(struct folder_tokens *t, struct vocabulary *v, bool scores,
                                    struct tlm_error *err);

// The readers: they write keys. `config` is a tokenizer_config.json or NULL. Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status tokenizer_json_read(struct vocabulary *v, const char *text, size_t length, json_t *config,
                                    struct tlm_error *err);
enum tlm_status sentencepiece_read(struct vocabulary *v, const void *data, size_t bytes, const json_t *config,
                                   struct tlm_error *err);

#endif
