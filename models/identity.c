#include "models/identity.h"

#include <string.h>

enum { SAMPLES = 16, SAMPLE_BYTES = 64 }; // of a tensor's data

// Eight bytes at a time through the finalizer of MurmurHash3 (Appleby, public domain).
uint64_t identity_add(uint64_t hash, const void *data, size_t bytes)
{
    const char *from = data;
    hash ^= bytes * 0x9e3779b97f4a7c15;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t x = 0;
        memcpy(&x, from + at, bytes - at < 8 ? bytes - at : 8);
        hash ^= x;
        hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
        hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
        hash ^= hash >> 33;
    }
    return hash;
}

uint64_t model_identity(const struct tlm_model *m)
{
    const struct gguf *g = m->gguf;
    uint64_t hash = 1;
    for (uint64_t i = 0; i < g->key_count; i++) {
        const struct gguf_key *k = &g->keys[i];
        hash = identity_add(hash, k->name.data, k->name.length);
        hash = identity_add(hash, k->value.data, (size_t)(k->value.end - k->value.data));
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        int64_t shape[] = {t->tensor.ne[0], t->tensor.ne[1], t->tensor.ne[2], t->tensor.ne[3],
                           (int64_t)t->tensor.type};
        hash = identity_add(hash, t->name.data, t->name.length);
        hash = identity_add(hash, shape, sizeof shape);
        size_t bytes = tensor_bytes(&t->tensor), piece = bytes < SAMPLE_BYTES ? bytes : SAMPLE_BYTES;
        for (size_t s = 0; s < SAMPLES; s++)
            hash =
                identity_add(hash, (const char *)t->tensor.data + (bytes - piece) / (SAMPLES - 1) * s, piece);
    }
    return hash;
}

uint64_t model_vocabulary_identity(const struct tlm_model *m)
{
    const struct gguf_value *tokens = gguf_find(m->gguf, "tokenizer.ggml.tokens");
    return tokens ? identity_add(1, tokens->data, (size_t)(tokens->end - tokens->data)) : 0;
}
