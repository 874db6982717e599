// core/gguf_show.h -- names and texts of files as they may stand in a message.
#ifndef CORE_GGUF_SHOW_H
#define CORE_GGUF_SHOW_H

#include <string.h>

#include "core/gguf.h"

// gguf_printable() as a value, for one message: gguf_show(name).text
struct gguf_shown {
    char text[100];
};

static inline struct gguf_shown gguf_show(struct gguf_string s)
{
    struct gguf_shown shown;
    gguf_printable(s, shown.text, sizeof shown.text);
    return shown;
}

static inline struct gguf_shown gguf_show_text(const char *text)
{
    return gguf_show((struct gguf_string){text, strlen(text)});
}

#endif
