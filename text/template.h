// text/template.h -- a model's chat template: messages in, the prompt out.
//
// The variables that a template sees are those that transformers' apply_chat_template gives it: messages,
// tools and documents (none where there are none), add_generation_prompt, the special tokens by name
// (bos_token, eos_token, unk_token, pad_token, as far as known), and then any others. Templates read the
// reasoning of a message under names of their own (reasoning_content, thinking): messages are handed over as
// they are.
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include "core/gguf.h"
#include "text/jinja.h"

struct template;

// The template of a GGUF file that is open (tokenizer.chat_template and the special tokens), which may be
// closed then. Errors: FORMAT, UNSUPPORTED (no template in it), MEMORY.
enum tlm_status template_open_gguf(struct template **out, const struct gguf *g, struct tlm_error *err);
// The same of a GGUF file or a Hugging Face folder (chat_template.jinja, tokenizer_config.json).
enum tlm_status template_open(struct template **out, const char *path, struct tlm_error *err);
enum tlm_status template_open_text(struct template **out, const char *source, size_t bytes,
                                   struct tlm_error *err);
void template_close(struct template *t); // NULL is allowed
// The special tokens of a GGUF file or a folder, for a template that came from elsewhere.
enum tlm_status template_read_tokens(struct template *t, const char *path, struct tlm_error *err);
// The same of a GGUF file that is open. Errors: FORMAT, MEMORY.
enum tlm_status template_read_gguf_tokens(struct template *t, const struct gguf *g, struct tlm_error *err);
// Sets "bos_token" or another; errors: MEMORY.
enum tlm_status template_set_token(struct template *t, const char *name, const char *text, size_t bytes,
                                   struct tlm_error *err);

struct template_input {
    const json_t *messages;  // a list of objects
    const json_t *tools;     // a list; NULL for none
    const json_t *variables; // an object whose items become variables and hide those above; NULL for none
    bool add_generation_prompt;
    int64_t now; // for strftime_now; 0: the clock's
};

// What came from messages, tools and variables is told apart in out->input; roles that are plain words, and
// the special tokens, count as the template's own. Errors: as jinja_render(), and ARGUMENT (messages that are
// no list of objects).
enum tlm_status template_render(const struct template *t, const struct template_input *input,
                                struct jinja_output *out, struct tlm_error *err);

// Reads a JSON text (any value at the top); `name` is for the message, which has the line and column. Free
// with json_decref.
enum tlm_status template_parse_json(json_t **out, const char *text, size_t bytes, const char *name,
                                    struct tlm_error *err);

#endif
