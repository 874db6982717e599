// tests/fuzz_template.c -- any bytes are a template: it compiles and renders over a conversation, or fails
// with one line.
#include <string.h>

#include "tests/tests.h"
#include "text/template.h"

int fuzz_template(const uint8_t *data, size_t size)
{
    static const char context[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi <b> "
                                  "\\u00e9\\u4f60\"}, {\"role\": \"assistant\", \"content\": null,"
                                  " \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": "
                                  "[1, 2.5, true, \"x\"]}}}]}],"
                                  " \"tools\": [{\"name\": \"f\"}], \"n\": 3, \"s\": \"some text\", \"l\": "
                                  "[3, 1, 2], \"d\": {\"a\": 1, \"b\": [2]}}";
    struct tlm_error err = {0};
    struct jinja_template *t;
    if (jinja_compile(&t, (const char *)data, size, &err)) {
        TLM_ASSERT(!t && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    json_t *json;
    TLM_ASSERT(!template_parse_json(&json, context, sizeof context - 1, "fuzz", &err));
    struct jinja_variable variables[8];
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value) variables[count++] =
        (struct jinja_variable){.name = name, .value = value};
    struct jinja_options options = {.variables = variables,
                                    .variable_count = count,
                                    .now = 1,
                                    .max_steps = 100000,
                                    .max_memory = 16 << 20};
    struct jinja_output out;
    if (jinja_render(t, &options, &out, &err)) {
        TLM_ASSERT(err.code && err.text[0] && !strchr(err.text, '\n') && !out.text);
    } else {
        size_t end = 0;
        for (size_t i = 0; i < out.input_count; i++) {
            TLM_ASSERT((!i || out.input[i].begin > end) && out.input[i].end > out.input[i].begin);
            end = out.input[i].end;
        }
        TLM_ASSERT(end <= out.bytes && !out.text[out.bytes]);
    }
    jinja_output_free(&out);
    jinja_free(t);
    json_decref(json);
    return 0;
}
