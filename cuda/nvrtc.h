// cuda/nvrtc.h -- NVIDIA's compiler as a library, where the machine has it: opened when the first kernel is to be compiled, and nothing
// links against it. It needs no device and, as kernels include nothing but what they are given, no toolkit.
#ifndef CUDA_NVRTC_H
#define CUDA_NVRTC_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct nvrtc;

struct nvrtc_program {
    const char *text;         // what is compiled
    const char *const *names; // what its #include lines name, and the texts behind them
    const char *const *texts;
    int files;
    const char *kernel; // as C++ writes it: "matmul_kernel<bf16, bf16, 8, 2>"
    const char *const *options;
    int option_count;
};

struct nvrtc_binary {
    void *cubin; // ELF; free()
    size_t size;
    char *name; // of the kernel in it; free()
};

// Errors: UNSUPPORTED, with the reason.
enum tlm_status nvrtc_open(struct nvrtc **out, struct tlm_error *err);
void nvrtc_close(struct nvrtc *n); // NULL is allowed
// Errors: UNSUPPORTED, with the first line that the compiler complains in; MEMORY.
enum tlm_status nvrtc_compile(struct nvrtc *n, const struct nvrtc_program *p, struct nvrtc_binary *out,
                              struct tlm_error *err);

#ifdef __cplusplus
}
#endif

#endif
