// docs/example.c -- a whole program on the C API: continues a text, a token at a time.
//
//     make && cc -I. docs/example.c libtinylm.a -ljansson -lpcre2-8 -lutf8proc -lm -lpthread -o example
//     ./example model.gguf "Once upon a time"
#include <stdio.h>
#include <stdlib.h>

#include "tinylm.h"

enum { MAX_TOKENS = 1024, NEW_TOKENS = 64 };

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL.gguf TEXT\n", argv[0]);
        return 2;
    }
    struct tlm_error err;
    struct tlm_model *model = NULL;
    struct tlm_session *session = NULL;
    int32_t tokens[MAX_TOKENS];
    size_t count = 0, length;
    while (argv[2][count]) count++;
    length = count;
    if (tlm_model_open(&model, argv[1], NULL, &err) || tlm_session_open(&session, model, NULL, &err) ||
        tlm_tokenize(model, argv[2], length, TLM_ADD_BOS, tokens, MAX_TOKENS - NEW_TOKENS, &count, &err))
        goto failed;
    if (count > MAX_TOKENS - NEW_TOKENS) {
        fprintf(stderr, "the text has %zu tokens, this example takes %d\n", count, MAX_TOKENS - NEW_TOKENS);
        return 1;
    }
    for (int i = 0; i < NEW_TOKENS; i++) {
        // The session is handed the whole prefix each time; it computes only what is new.
        if (tlm_session_sync(session, tokens, count, &err)) goto failed;
        const float *logits = tlm_session_logits(session); // (V)
        int32_t best = 0;
        for (int32_t t = 1; t < tlm_model_vocab_size(model); t++)
            if (logits[t] > logits[best]) best = t;
        if (tlm_token_is_end(model, best)) break;
        tokens[count++] = best;
        char text[256];
        if (tlm_detokenize(model, &best, 1, TLM_CONTINUE, text, sizeof text, &length, &err)) goto failed;
        fwrite(text, 1, length < sizeof text ? length : sizeof text, stdout);
    }
    putchar('\n');
    tlm_session_close(session);
    tlm_model_close(model);
    return 0;

failed:
    fprintf(stderr, "%s: %s\n", argv[0], err.text);
    tlm_session_close(session);
    tlm_model_close(model);
    return 1;
}
