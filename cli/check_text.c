// cli/check_text.c -- tinylm check on what stands around the numbers: architecture, tokenizer, chat template.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/check.h"
#include "text/template.h"
#include "text/tokenizer.h"
#include "tinylm.h"

// ---- the tokenizer ------------------------------------------------------------------------------------

static const struct sample {
    const char *name, *text;
} samples[] = {
    {"plain", "The quick brown fox jumps over 13 lazy dogs."},
    {"white space", " two  spaces,\ttabs\n\nand lines \r\n "},
    {"code", "int main(void) { return a[i]++ >= 0x1F ? ~b : !c; } // end"},
    {"scripts", "Gr\xC3\xBC\xC3\x9F"
                "e, \xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82, \xE4\xBD\xA0\xE5\xA5\xBD, "
                "\xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8\xD8\xA7"},
    {"emoji", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80 and \xE2\x9C\xA8"},
    {"control characters", "a\x01"
                           "b\x7F"
                           "c"},
};

// The text of the tokens of a text; *out for free(). Errors: of the tokenizer.
static enum tlm_status round_trip(const struct tokenizer *t, const char *text, char **out, size_t *bytes,
                                  struct tlm_error *err)
{
    int32_t ids[512];
    size_t count, capacity = 4096;
    *out = NULL;
    *bytes = 0;
    enum tlm_status status = tokenizer_encode(t, text, strlen(text), 0, ids, 512, &count, err);
    if (status) return status;
    if (!(*out = malloc(capacity))) return error_set(err, TLM_ERR_MEMORY, "no memory for a text");
    for (size_t i = 0; i < count && i < 512; i++) {
        size_t n = tokenizer_piece(t, ids[i], i == 0, true, *out + *bytes, capacity - *bytes);
        if (n > capacity - *bytes) return error_set(err, TLM_ERR_FORMAT, "a token of %zu bytes", n);
        *bytes += n;
    }
    return TLM_OK;
}

static void check_tokenizer(const struct gguf *g, int *faults, int *notes)
{
    struct tokenizer *t;
    struct tlm_error err;
    char text[256];
    enum tlm_status status = tokenizer_open(&t, g, &err);
    if (!gguf_find(g, "tokenizer.ggml.model")) {
        check_say(notes, "note", "tokenizer", "there is none");
        return;
    }
    if (status) {
        check_say(status == TLM_ERR_UNSUPPORTED ? notes : faults,
                  status == TLM_ERR_UNSUPPORTED ? "note" : "FAULT", "tokenizer", err.text);
        return;
    }
    int good = 0;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        char *back;
        size_t bytes;
        if (round_trip(t, samples[i].text, &back, &bytes, &err)) {
            check_say(faults, "FAULT", "tokenizer", err.text);
        } else if (bytes != strlen(samples[i].text) || memcmp(back, samples[i].text, bytes)) {
            snprintf(text, sizeof text, "%s: another text comes back from its tokens", samples[i].name);
            check_say(notes, "note", "tokenizer",
                      text); // vocabularies without bytes, and normalizers, lose something
        } else {
            good++;
        }
        free(back);
    }
    if (tokenizer_eos(t) < 0) check_say(notes, "note", "tokenizer", "no token ends a text");
    printf("tokenizer: %d tokens; %d of %zu texts come back from their tokens\n", tokenizer_size(t), good,
           sizeof samples / sizeof *samples);
    tokenizer_close(t);
}

// ---- the template -------------------------------------------------------------------------------------

#define USER      "{\"role\":\"user\",\"content\":\"Hello <b>you</b>\"}"
#define ASSISTANT "{\"role\":\"assistant\",\"content\":\"Hi.\"}"
static const char tool[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"time\",\"description\":\"What time is "
    "it?\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"zone\":{\"type\":\"string\",\"description\":\"A zone\"}},"
    "\"required\":[\"zone\"]}}}]";
static const struct conversation {
    const char *name, *messages, *tools;
} conversations[] = {
    {"one message", "[" USER "]", NULL},
    {"a system text", "[{\"role\":\"system\",\"content\":\"Be kind.\"}," USER "]", NULL},
    {"several turns", "[" USER "," ASSISTANT "," USER "]", NULL},
    {"thoughts",
     "[" USER ",{\"role\":\"assistant\",\"content\":\"Hi.\",\"reasoning_content\":\"Greet.\",\"thinking\":"
     "\"Greet.\"}," USER "]",
     NULL},
    {"tools", "[" USER "]", tool},
    {"a tool's result",
     "[" USER ",{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call00001\",\"type\":"
     "\"function\",\"function\":{\"name\":"
     "\"time\",\"arguments\":{\"zone\":\"UTC\"}}}]},{\"role\":\"tool\",\"name\":\"time\",\"tool_call_id\":"
     "\"call00001\",\"content\":"
     "\"12:00\"}]",
     tool},
};

static void check_template(const struct gguf *g, int *faults, int *notes)
{
    struct template *t;
    struct tlm_error err;
    char text[600];
    if (!gguf_find(g, "tokenizer.chat_template")) return;
    if (template_open_gguf(&t, g, &err)) {
        check_say(faults, "FAULT", "chat template", err.text);
        return;
    }
    int good = 0;
    for (size_t i = 0; i < sizeof conversations / sizeof *conversations; i++) {
        const struct conversation *c = &conversations[i];
        json_t *messages = json_loads(c->messages, 0, NULL),
               *tools = c->tools ? json_loads(c->tools, 0, NULL) : NULL;
        struct template_input input = {.messages = messages, .tools = tools, .add_generation_prompt = true};
        struct jinja_output out = {0};
        if (template_render(t, &input, &out, &err)) {
            snprintf(text, sizeof text, "%s: %s", c->name, err.text);
            // Every template has to render a message; it may have no place for tools or systems.
            check_say(i ? notes : faults, i ? "note" : "FAULT", "chat template", text);
        } else {
            good++;
        }
        jinja_output_free(&out);
        json_decref(messages);
        json_decref(tools);
    }
    printf("chat template: renders %d of %zu conversations\n", good,
           sizeof conversations / sizeof *conversations);
    template_close(t);
}

void check_model(const char *path, const struct gguf *g, int *faults, int *notes)
{
    struct tlm_model *m;
    struct tlm_error err;
    enum tlm_status status = g->tensor_count ? tlm_model_open(&m, path, NULL, &err) : TLM_OK;
    if (!g->tensor_count)
        check_say(notes, "note", "weights", "there are none: a vocabulary alone");
    else if (status)
        check_say(status == TLM_ERR_UNSUPPORTED ? notes : faults,
                  status == TLM_ERR_UNSUPPORTED ? "note" : "FAULT", "weights", err.text);
    else
        tlm_model_close(m);
    check_tokenizer(g, faults, notes);
    check_template(g, faults, notes);
}
