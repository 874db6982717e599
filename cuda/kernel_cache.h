// cuda/kernel_cache.h -- files of kernels that were compiled for a device, and of what measuring them said.
//
//     | magic | checksum of all behind it | faster | bytes of the name, of the cubin | name | cubin |
//
// A file is written under a temporary name and renamed, so that neither a crash nor two processes leave half of one; what is damaged all
// the same is as if it were not there.
#ifndef CUDA_KERNEL_CACHE_H
#define CUDA_KERNEL_CACHE_H

#include "core/error.h"

struct kernel_file {
    char *name;  // of the kernel in the cubin
    void *cubin; // ELF
    size_t size;
    bool faster;  // than the program's own
    void *mapped; // the file
    size_t mapped_size;
};

// Writes "FOLDER/NAME.cubin" to path; name: 32 digits of a hash of `count` texts.
enum tlm_status kernel_cache_path(char **path, const char *folder, const char *const *texts, int count,
                                  struct tlm_error *err);
// Errors: IO where there is no file, FORMAT where it is damaged.
enum tlm_status kernel_cache_read(struct kernel_file *f, const char *path, struct tlm_error *err);
void kernel_cache_close(struct kernel_file *f);
// Makes the folder, too. Errors: IO.
enum tlm_status kernel_cache_write(const char *path, const char *name, const void *cubin, size_t size,
                                   bool faster, struct tlm_error *err);

#endif
