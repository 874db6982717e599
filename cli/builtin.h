// cli/builtin.h -- the model that is part of the program: what commands take where no -m names another.
#ifndef CLI_BUILTIN_H
#define CLI_BUILTIN_H

#include <stddef.h>

#define BUILTIN_NAME "tinylm-stories"

extern const unsigned char builtin_model[]; // a GGUF file, on a boundary of 64
extern const unsigned char builtin_end[];

static inline size_t builtin_bytes(void)
{
    return (size_t)(builtin_end - builtin_model);
}

#endif
