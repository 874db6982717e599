#include "cuda/kernel_cache.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/file.h"

static const char magic[8] = "TLMCUBIN";

struct header {
    char magic[8];
    uint64_t checksum; // of all behind it
    uint64_t cubin_bytes;
    uint32_t name_bytes; // with the zero behind it
    uint32_t faster;
};

static uint64_t checksum_of(const struct header *h, const char *name, const void *cubin)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return 0;
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &h->cubin_bytes, sizeof *h - offsetof(struct header, cubin_bytes));
    XXH3_64bits_update(state, name, h->name_bytes);
    XXH3_64bits_update(state, cubin, h->cubin_bytes);
    const uint64_t sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return sum;
}

enum tlm_status kernel_cache_path(char **path, const char *folder, const char *const *texts, int count,
                                  struct tlm_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    *path = NULL;
    if (!state) return error_set(err, TLM_ERR_MEMORY, "kernels: no memory for a hash");
    XXH3_128bits_reset(state);
    // The zeros behind texts keep them apart.
    for (int i = 0; i < count; i++) XXH3_128bits_update(state, texts[i], strlen(texts[i]) + 1);
    const XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    if (asprintf(path, "%s/%016llx%016llx.cubin", folder, (unsigned long long)hash.high64,
                 (unsigned long long)hash.low64) >= 0)
        return TLM_OK;
    *path = NULL;
    return error_set(err, TLM_ERR_MEMORY, "kernels: no memory for the name of a file");
}

static bool is_whole(struct kernel_file *f)
{
    struct header h;
    if (f->mapped_size < sizeof h) return false;
    memcpy(&h, f->mapped, sizeof h);
    const size_t rest = f->mapped_size - sizeof h;
    if (memcmp(h.magic, magic, sizeof magic) || !h.name_bytes || h.name_bytes > rest ||
        h.cubin_bytes != rest - h.name_bytes)
        return false;
    f->name = (char *)f->mapped + sizeof h;
    f->cubin = f->name + h.name_bytes;
    f->size = h.cubin_bytes;
    f->faster = h.faster;
    return !f->name[h.name_bytes - 1] && h.checksum == checksum_of(&h, f->name, f->cubin);
}

enum tlm_status kernel_cache_read(struct kernel_file *f, const char *path, struct tlm_error *err)
{
    *f = (struct kernel_file){0};
    enum tlm_status s = file_map(path, &f->mapped, &f->mapped_size, err);
    if (s || is_whole(f)) return s;
    kernel_cache_close(f);
    return error_set(err, TLM_ERR_FORMAT, "%.300s: expected a compiled kernel, found a damaged one", path);
}

void kernel_cache_close(struct kernel_file *f)
{
    file_unmap(f->mapped, f->mapped_size);
    *f = (struct kernel_file){0};
}

enum tlm_status kernel_cache_write(const char *path, const char *name, const void *cubin, size_t size,
                                   bool faster, struct tlm_error *err)
{
    struct header h = {.cubin_bytes = size, .name_bytes = (uint32_t)strlen(name) + 1, .faster = faster};
    memcpy(h.magic, magic, sizeof magic);
    h.checksum = checksum_of(&h, name, cubin);
    struct file_writer *w;
    file_make_folders(path);
    enum tlm_status s = file_writer_open(&w, path, err);
    if (s) return s;
    file_writer_write(w, &h, sizeof h);
    file_writer_write(w, name, h.name_bytes);
    file_writer_write(w, cubin, size);
    return file_writer_finish(w, err);
}
