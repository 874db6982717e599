// core/gguf_parse.h -- what core/gguf.c needs of core/gguf_parse.c; everybody else includes core/gguf.h.
#ifndef CORE_GGUF_PARSE_H
#define CORE_GGUF_PARSE_H

#include "core/gguf.h"

// Fills the keys and tensors of `g`, whose one file is set, from the `size` bytes at `data`. Messages do not
// name the file. On failure gguf_close() frees what is there. Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status gguf_parse(struct gguf *g, const void *data, size_t size, struct tlm_error *err);

// Replaces *out by the sorted view of a table of `count` items that begin with their name; `kind` is for
// messages. Errors: FORMAT (a name that comes twice), MEMORY.
enum tlm_status gguf_sort_names(const struct gguf_string ***out, const void *table, uint64_t count,
                                size_t item_bytes, const char *kind, struct tlm_error *err);

#endif
