// cli/quantize_file.h -- a model's file written again in other types, for `tinylm quantize` and `tinylm eval types`.
#ifndef CLI_QUANTIZE_FILE_H
#define CLI_QUANTIZE_FILE_H

#include "cli/quantize_method.h"
#include "quant/mix.h"
#include "quant/requantize.h"

struct quantize_file {
    struct quantize_method *method; // open
    const struct gguf *in;
    const enum dtype *types; // [in->tensor_count]
    const struct mix *mix;   // what the file is called after; NULL: the type of most numbers
    struct threads *threads;
    bool (*progress)(void *user, uint64_t done, uint64_t total); // or NULL; false stops
    void *user;
};

// On failure nothing is left at `path`. Errors: those of the method, of requantize_run() and of writing.
enum tlm_status quantize_file_write(const struct quantize_file *f, const char *path, struct tlm_error *err);

#endif
