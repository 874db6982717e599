// models/registry.c -- the architectures there are: a line each.
#include "models/model.h"

// The name in C, and general.architecture.
#define ARCHITECTURES(X)        \
    X(llama, "llama")           \
    X(qwen2, "qwen2")           \
    X(qwen3, "qwen3")           \
    X(qwen3moe, "qwen3moe")     \
    X(granite, "granite")       \
    X(ernie4_5, "ernie4_5")     \
    X(gpt2, "gpt2")             \
    X(gptneox, "gptneox")       \
    X(bloom, "bloom")           \
    X(starcoder2, "starcoder2") \
    X(phi3, "phi3")             \
    X(olmo2, "olmo2")           \
    X(command_r, "command-r")   \
    X(cohere2, "cohere2")       \
    X(gemma2, "gemma2")         \
    X(gemma3, "gemma3")         \
    X(gpt_oss, "gpt-oss")       \
    X(deepseek2, "deepseek2")   \
    X(compose, "tinylm-compose")

#define DECLARE(name, gguf) extern const struct arch arch_##name;
ARCHITECTURES(DECLARE)

#define POINTER(name, gguf) &arch_##name,
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

#define NAME(name, gguf) ", " gguf

const char *arch_names(void)
{
    static const char names[] = ARCHITECTURES(NAME);
    return names + 2;
}
