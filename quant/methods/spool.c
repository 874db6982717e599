#include "quant/methods/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/arena.h"

enum tlm_status spool_open(struct spool *s, const char *path, size_t bytes, struct tlm_error *err)
{
    *s = (struct spool){0};
    if (!bytes) return TLM_OK;
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0, size = folder + sizeof "./.tinylm-XXXXXX";
    char *name = malloc(size);
    if (!name) return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for its name", path);
    snprintf(name, size, "%.*s.tinylm-XXXXXX", (int)folder, path);
    int file = mkstemp(name);
    if (file >= 0) unlink(name); // gone with the process, however it ends
    free(name);
    int error = file < 0 ? errno : posix_fallocate(file, 0, (off_t)bytes);
    void *data = error ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (!error && data == MAP_FAILED) error = errno;
    if (file >= 0) close(file);
    if (error)
        return error_set(err, TLM_ERR_IO, "%.300s: %zu bytes beside it: %s", path, bytes, strerror(error));
    *s = (struct spool){data, bytes, 0};
    return TLM_OK;
}

void spool_close(struct spool *s)
{
    if (s->data) munmap(s->data, s->size);
    *s = (struct spool){0};
}

void *spool_take(struct spool *s, size_t bytes)
{
    char *at = s->data + s->used;
    bytes = align_up(bytes, 64);
    TLM_ASSERT(bytes <= s->size - s->used);
    s->used += bytes;
    return at;
}
