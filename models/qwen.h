// models/qwen.h -- what the config.json of Qwen2, Qwen3 and Qwen3-MoE have in common (models/qwen2.c).
#ifndef MODELS_QWEN_H
#define MODELS_QWEN_H

#include "models/hf.h"

// Rotation, and sliding_window where use_sliding_window is set: `by_layer` in the layers that layer_types names, or else in those from
// number max_window_layers on; if not, in all. Errors: FORMAT, UNSUPPORTED.
enum tlm_status qwen_import(struct gguf_writer *w, const char *arch, const json_t *config, bool by_layer,
                            struct tlm_error *err);
enum tlm_status qwen_export(json_t *config, const char *arch, const struct gguf *g, bool by_layer,
                            struct tlm_error *err);

#endif
