// tests/fuzz_config.c -- any bytes are a config file: it is read, written and read to the same again, or fails with one line.
#include <string.h>

#include "tests/tests.h"
#include "train/config.h"

int fuzz_config(const uint8_t *data, size_t size)
{
    struct train_config c, again;
    struct tlm_error err = {0};
    char *text, *second;
    TLM_ASSERT(!train_config_init(&c, &err) && !train_config_init(&again, &err));
    if (train_config_parse(&c, "fuzz", (const char *)data, size, &err)) {
        TLM_ASSERT(err.code && err.text[0] && !strchr(err.text, '\n'));
    } else {
        TLM_ASSERT(!train_config_text(&c, &text, &err));
        enum tlm_status s = train_config_parse(&again, "fuzz", text, strlen(text), &err);
        if (s) fprintf(stderr, "%s\n%s\n", err.text, text);
        TLM_ASSERT(!s && !train_config_text(&again, &second, &err));
        TLM_ASSERT(!strcmp(text, second));
        free(text);
        free(second);
    }
    train_config_free(&c);
    train_config_free(&again);
    return 0;
}
