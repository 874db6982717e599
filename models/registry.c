// models/registry.c -- the architectures there are: a line each.
#include "models/model.h"

#define ARCHITECTURES(X) X(llama)

#define DECLARE(name) extern const struct arch arch_##name;
ARCHITECTURES(DECLARE)

#define POINTER(name) &arch_##name,
static const struct arch *const archs[] = {ARCHITECTURES(POINTER)};

enum { ARCH_COUNT = sizeof archs / sizeof *archs };

const struct arch *arch_at(size_t i)
{
    return i < ARCH_COUNT ? archs[i] : NULL;
}

const struct arch *arch_find(struct gguf_string name)
{
    for (size_t i = 0; i < ARCH_COUNT; i++)
        if (gguf_string_is(name, archs[i]->name)) return archs[i];
    return NULL;
}

#define NAME(name) ", " #name

const char *arch_names(void)
{
    return ARCHITECTURES(NAME) + 2;
}
