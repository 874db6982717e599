// quant/methods/scan.h -- a model read over windows of tokens, many rows of logits at a time.
//
// A window of n tokens is read from an empty context. The logits behind its tokens n/2 ... n - 2 count, which speak of the tokens of its
// second half: those that llama.cpp's llama-perplexity counts.
#ifndef QUANT_METHODS_SCAN_H
#define QUANT_METHODS_SCAN_H

#include "generate/forward.h"

struct scan_config {
    int32_t window;                    // tokens; at least SCAN_LEAST
    int32_t batch, threads;            // as in tlm_session_options
    const char *kv_type_k, *kv_type_v; // likewise
};

enum { SCAN_LEAST = 4 };

struct scan {
    struct forward forward;
    struct forward_row *rows; // [max_rows]
    int32_t window;
};

// The first token behind which logits count, and how many there are of a window.
static inline int32_t scan_first(int32_t window)
{
    return window / 2;
}

static inline int32_t scan_counted(int32_t window)
{
    return window - 1 - scan_first(window);
}

// Errors: ARGUMENT, MEMORY.
enum tlm_status scan_open(struct scan *s, const struct tlm_model *m, const struct scan_config *config,
                          struct tlm_error *err);
void scan_close(struct scan *s); // of one that is all zero: does nothing

// What a pass has read: logits i = 0 ... count - 1, forward_logits(&s->forward, i), stand behind tokens[first + i].
struct scan_rows {
    int32_t first, count;
};
// Reads the next tokens of a window from tokens[*at] on, and moves *at; 0 begins a window, scan_end() is behind its last pass. Two scans
// of one configuration and vocabulary take the same passes. Errors: CONTEXT.
enum tlm_status scan_pass(struct scan *s, const int32_t *tokens, int32_t *at, struct scan_rows *rows,
                          struct tlm_error *err);
static inline int32_t scan_end(int32_t window)
{
    return window - 1; // nothing follows the last token
}

#endif
