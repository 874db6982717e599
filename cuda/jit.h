// cuda/jit.h -- kernels that are compiled while the program runs, for the sizes of the model at hand, by NVRTC (cuda/nvrtc.h).
//
// The sources are those that nvcc has compiled into the program (cuda/kernel_source.h); what the sizes are is said by macros
// (cuda/fixed.h). A kernel is compiled and measured beside the program's own when it is first launched for such sizes, the faster of the
// two is taken from then on, and both binary and choice are kept on disk (cuda/kernel_cache.h). Where there is no NVRTC, or a kernel does
// not compile, the program's own serves, and the backend's note says why.
#ifndef CUDA_JIT_H
#define CUDA_JIT_H

#include "cuda/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

struct jit; // the kernels of a device

struct jit_form {
    const char *file;    // "cuda/matmul.cu"
    char kernel[80];     // as C++ writes it: "matmul_kernel<bf16, bf16, 8, 2>"
    char constants[224]; // options, a blank in front of each: " -DFIXED_INPUTS=2048"
};

struct jit_counts {
    int compiled, found; // in this process: by NVRTC, and on disk
    int chosen;          // of both, those that are faster than the program's own
    double seconds;      // that all of it took
};

// Kernels for the device, kept in `folder`, which is made when it is first written to. *note of note_size bytes receives the reason once
// something is not to be had. NULL: no memory.
struct jit *jit_open(const struct cuda_device *device, const char *folder, char *note, size_t note_size);
void jit_close(struct jit *j); // NULL is allowed
struct jit_counts jit_counts(const struct jit *j);

// While launches are recorded nothing is compiled or measured: what is not known yet is the program's own.
void jit_hold(struct jit *j, bool held);

// Launches the same work with either kernel: NULL is the program's own.
typedef void jit_launch_fn(void *user, const struct cuda_kernel *kernel);
// The kernel to launch for a form. The first time `launch` is called some dozen times on `s` to measure; it must be work that gives the
// same results each time.
const struct cuda_kernel *jit_choose(struct jit *j, const struct jit_form *form, struct cuda_stream *s,
                                     jit_launch_fn *launch, void *user);

#ifdef __cplusplus
}

// launch(kernel), with what is chosen; `jit` NULL: the program's own.
template <class Launch>
static inline void jit_launch(struct jit *jit, const struct jit_form &form, struct cuda_stream *s,
                              const Launch &launch)
{
    jit_launch_fn *call = [](void *user, const struct cuda_kernel *k) { (*(const Launch *)user)(k); };
    launch(jit ? jit_choose(jit, &form, s, call, (void *)&launch) : (const struct cuda_kernel *)NULL);
}
#endif

#endif
