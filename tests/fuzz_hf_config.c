// tests/fuzz_hf_config.c -- any bytes as a config.json: keys that open as a GGUF file, or one line of text.
#include "models/hf_folder.h"
#include "tests/tests.h"

static enum tlm_status import(struct gguf_writer *w, const json_t *config, struct tlm_error *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const struct arch *arch;
    const struct hf_variant *v = type ? hf_variant_find(type, &arch) : NULL;
    struct hf_quantization quantization;
    float table[8];
    bool found;
    if (!v) return error_set(err, TLM_ERR_UNSUPPORTED, "no such model");
    enum tlm_status s = hf_import_keys(w, arch->name, v, config, err);
    if (!s && v->import) s = v->import(w, config, err);
    if (!s) s = hf_quantization_read(&quantization, config, err);
    for (int i = 0; i < HF_ROPE_TABLES && !s; i++) s = hf_rope_table(config, i, 8, table, &found, err);
    return s;
}

int fuzz_hf_config(const uint8_t *data, size_t size)
{
    json_t *config;
    struct gguf_writer *w;
    struct gguf *g = NULL;
    void *bytes = NULL;
    size_t count;
    struct tlm_error err = {0};
    if (json_read_object(&config, (const char *)data, size, "fuzz", &err)) {
        TLM_ASSERT(!config && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    TLM_ASSERT(!gguf_writer_open_memory(&w, "fuzz", NULL));
    enum tlm_status s = import(w, config, &err);
    TLM_ASSERT(!s == !err.code && !strchr(err.text, '\n'));
    if (!s)
        TLM_ASSERT(!gguf_writer_take(w, &bytes, &count, &err) &&
                   !gguf_open_memory(&g, bytes, count, "fuzz", &err));
    gguf_close(g);
    free(bytes);
    gguf_writer_close(w);
    json_decref(config);
    return 0;
}
