// quant/methods/spool.h -- a file without a name beside the one that is going to be written, mapped: what is worked out in one order and
// written in another stands there, and memory need not hold it.
#ifndef QUANT_METHODS_SPOOL_H
#define QUANT_METHODS_SPOOL_H

#include <stddef.h>

#include "core/error.h"

struct spool {
    char *data;
    size_t size, used;
};

// Room for `bytes` bytes on the disk of `path`, all of it at once: a full disk is seen here and not later. Errors: IO, MEMORY.
enum tlm_status spool_open(struct spool *s, const char *path, size_t bytes, struct tlm_error *err);
void spool_close(struct spool *s);
// The next `bytes` bytes, on a boundary of 64. TLM_ASSERTs that they were asked for, each filled up to a multiple of 64.
void *spool_take(struct spool *s, size_t bytes);

#endif
