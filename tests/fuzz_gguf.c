// tests/fuzz_gguf.c -- any bytes at all: they open and every part can be walked, or there is one line of
// text.
#include "core/gguf.h"
#include "tests/tests.h"

// The name is looked up through the accessors, which take text that ends with a zero.
static void touch_by_name(const struct gguf *g, struct gguf_string name)
{
    char *key = strndup(name.data,
                        name.length); // ends at a zero inside the name: then another key, or none, is found
    TLM_ASSERT(key);
    int64_t i = 0;
    double f = 0;
    bool b = false;
    struct gguf_string s = {key, 0};
    struct tlm_error err;
    char text[40];
    gguf_get_i64(g, key, &i, &err);
    gguf_get_f64(g, key, &f, &err);
    gguf_get_bool(g, key, &b, &err);
    gguf_get_string(g, key, &s, &err);
    TLM_ASSERT(strlen(gguf_printable(s, text, sizeof text)) < sizeof text);
    if (strlen(key) == name.length) TLM_ASSERT(gguf_find(g, key) && gguf_string_is(name, key));
    free(key);
}

static uint64_t touch_value(const struct gguf_value *v)
{
    uint64_t sum = 0;
    if (v->item == GGUF_STRING) {
        struct gguf_string *strings;
        struct tlm_error err;
        TLM_ASSERT(!gguf_value_strings(v, &strings, &err));
        for (uint64_t i = 0; i < v->count; i++)
            for (uint64_t j = 0; j < strings[i].length; j++) sum += (uint8_t)strings[i].data[j];
        free(strings);
    } else if (gguf_value_is_number(v)) {
        for (uint64_t i = 0; i < v->count; i++)
            sum += (uint64_t)gguf_value_i64(v, i) + bits_of_f32((float)(gguf_value_f64(v, i) * 1e-300));
    } else {
        for (const uint8_t *p = v->data; p < v->end; p++) sum += *p;
    }
    return sum;
}

int fuzz_gguf(const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    struct gguf *g;
    struct tlm_error err = {0};
    if (gguf_open_memory(&g, data, size, "fuzz", &err)) {
        TLM_ASSERT(!g && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    for (uint64_t i = 0; i < g->key_count; i++) {
        sum += touch_value(&g->keys[i].value);
        touch_by_name(g, g->keys[i].name);
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        const uint8_t *bytes = t->data;
        TLM_ASSERT(tensor_bytes(t) > 0 && tensor_elements(t) > 0);
        sum += bytes[0] + bytes[tensor_bytes(t) - 1];
        gguf_drop_pages(g, t);
    }
    gguf_prefetch(g);
    __asm__ volatile("" : : "r"(sum)); // the reads are what this is about
    gguf_close(g);
    return 0;
}
