// tests/fuzz_safetensors.c -- any bytes at all: a safetensors file of which every number can be read, or one line of text.
#include "core/safetensors.h"
#include "tests/tests.h"

int fuzz_safetensors(const uint8_t *data, size_t size)
{
    struct safetensors *s;
    struct tlm_error err = {0};
    if (safetensors_open_memory(&s, data, size, "fuzz", &err)) {
        TLM_ASSERT(!s && err.code && err.text[0] && !strchr(err.text, '\n'));
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct safetensors_tensor *t = &s->tensors[i];
        TLM_ASSERT(safetensors_find(s, t->name) == t);
        TLM_ASSERT(t->data >= data && t->bytes <= (size_t)(data + size - t->data));
        for (size_t j = 0; j < t->bytes; j++) sum += t->data[j];
    }
    __asm__ volatile("" : : "r"(sum)); // the reads are what this is about
    safetensors_close(s);
    return 0;
}
