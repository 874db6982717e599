// models/registry.c -- the architectures there are: a line each.
#include "models/model.h"

static const struct arch *const archs[] = {
    &arch_llama,
};

const struct arch *arch_find(struct gguf_string name)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (gguf_string_is(name, archs[i]->name)) return archs[i];
    return NULL;
}

const char *arch_names(void)
{
    return "llama";
}
