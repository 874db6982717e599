// text/vocabulary.c -- writes the keys of a vocabulary into memory, as a GGUF file without tensors.
#include "text/vocabulary.h"

#include <string.h>

enum { VERSION = 3, KEYS_AT = 16 };

static void put(struct vocabulary *v, const void *data, size_t bytes)
{
    if (v->failed) return;
    if (v->room - v->size < bytes) {
        size_t room = v->room + v->room / 2 + bytes + 4096;
        uint8_t *grown = room > v->room ? realloc(v->data, room) : NULL;
        if (!grown) {
            v->failed = true;
            return;
        }
        v->data = grown;
        v->room = room;
    }
    if (bytes) memcpy(v->data + v->size, data, bytes);
    v->size += bytes;
}

static void put_u32(struct vocabulary *v, uint32_t x)
{
    put(v, &x, sizeof x);
}

static void put_u64(struct vocabulary *v, uint64_t x)
{
    put(v, &x, sizeof x);
}

void vocabulary_item(struct vocabulary *v, const char *data, size_t length)
{
    put_u64(v, length);
    put(v, data, length);
}

static void begin_key(struct vocabulary *v, const char *key, enum gguf_type type)
{
    vocabulary_item(v, key, strlen(key));
    put_u32(v, type);
    v->keys++;
}

bool vocabulary_open(struct vocabulary *v)
{
    *v = (struct vocabulary){0};
    put(v, "GGUF", 4);
    put_u32(v, VERSION);
    put_u64(v, 0); // tensors
    put_u64(v, 0); // keys, known at the end
    return !v->failed;
}

void vocabulary_close(struct vocabulary *v)
{
    free(v->data);
    *v = (struct vocabulary){0};
}

void vocabulary_string(struct vocabulary *v, const char *key, const char *data, size_t length)
{
    begin_key(v, key, GGUF_STRING);
    vocabulary_item(v, data, length);
}

void vocabulary_u32(struct vocabulary *v, const char *key, uint32_t value)
{
    begin_key(v, key, GGUF_U32);
    put_u32(v, value);
}

void vocabulary_bool(struct vocabulary *v, const char *key, bool value)
{
    uint8_t byte = value;
    begin_key(v, key, GGUF_BOOL);
    put(v, &byte, 1);
}

static void begin_array(struct vocabulary *v, const char *key, enum gguf_type item, uint64_t count)
{
    begin_key(v, key, GGUF_ARRAY);
    put_u32(v, item);
    put_u64(v, count);
}

void vocabulary_array(struct vocabulary *v, const char *key, enum gguf_type item, const void *items,
                      uint64_t count)
{
    begin_array(v, key, item, count);
    put(v, items, count * gguf_type_traits[item].bytes);
}

void vocabulary_strings(struct vocabulary *v, const char *key, uint64_t count)
{
    begin_array(v, key, GGUF_STRING, count);
}

enum tlm_status vocabulary_finish(struct vocabulary *v, struct gguf **g, struct tlm_error *err)
{
    *g = NULL;
    if (v->failed) return error_set(err, TLM_ERR_MEMORY, "tokenizer: no memory for its keys");
    memcpy(v->data + KEYS_AT, &v->keys, sizeof v->keys);
    return gguf_open_memory(g, v->data, v->size, "tokenizer", err);
}
