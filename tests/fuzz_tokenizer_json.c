// tests/fuzz_tokenizer_json.c -- bytes are a tokenizer.json where they begin like JSON, and a tokenizer.model otherwise:
// they open, or are refused with one line; what opens encodes texts into ids that it has.
#include "tests/tests.h"
#include "text/tokenizer.h"
#include "text/tokenizer_folder.h"

#include <string.h>

int fuzz_tokenizer_json(const uint8_t *data, size_t size)
{
    static const char text[] = "Once upon  a time 1234 \xE2\x96\x81 \xFF</s>\r\n\xC3\xA9\xE4\xBD\xA0 don't";
    struct tlm_error err = {0};
    struct vocabulary v;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    TLM_ASSERT(vocabulary_open(&v));
    enum tlm_status status = size && (*data == '{' || *data == '[')
                                 ? tokenizer_json_read(&v, (const char *)data, size, NULL, &err)
                                 : sentencepiece_read(&v, data, size, NULL, &err);
    if (!status) status = vocabulary_finish(&v, &g, &err);
    if (!status) status = tokenizer_open(&t, g, &err);
    TLM_ASSERT(!status == !err.code && !strchr(err.text, '\n'));
    int32_t ids[256];
    size_t count;
    if (!status && !tokenizer_encode(t, text, sizeof text - 1, TLM_PARSE_SPECIAL, ids, 256, &count, &err))
        for (size_t i = 0; i < count && i < 256; i++) {
            TLM_ASSERT(ids[i] >= 0 && ids[i] < tokenizer_size(t));
            (void)tokenizer_piece(t, ids[i], !i, true, NULL, 0);
        }
    tokenizer_close(t);
    gguf_close(g);
    vocabulary_close(&v);
    return 0;
}
