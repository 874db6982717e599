// models/windows.h -- models some of whose layers see a window of the latest keys and some all: which layers, in GGUF and in
// config.json. GGUF: ARCH.attention.sliding_window, and ARCH.attention.sliding_window_pattern, a period p (the last of p layers sees
// all) or a flag a layer. config.json: sliding_window, and layer_types, or sliding_window_pattern as the period.
#ifndef MODELS_WINDOWS_H
#define MODELS_WINDOWS_H

#include "models/hf.h"

// Sets `window` of each layer. `period` and h->window are what holds where the file does not say; a window of 0 is none. Errors: FORMAT.
enum tlm_status windows_read(struct tlm_model *m, int64_t period, struct tlm_error *err);

// `period` is also transformers' default, `window` the one of the class. The pattern is written where it is not the period that readers take for granted. Errors: FORMAT, UNSUPPORTED.
enum tlm_status windows_import(struct gguf_writer *w, const char *arch, int64_t period, int64_t window,
                               const json_t *config, struct tlm_error *err);
// sliding_window and layer_types. Errors: FORMAT, MEMORY.
enum tlm_status windows_export(json_t *config, const char *arch, int64_t period, int64_t window,
                               const struct gguf *g, struct tlm_error *err);

#endif
