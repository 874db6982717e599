// tests/cuda_emu/nvrtc.cc -- cuda/nvrtc.h in the emulation: a compiler that has its results beforehand (tests/cuda_emu/forms.h). Their
// "cubin" is their name.
#include "cuda/nvrtc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/runtime.h"
#include "tests/cuda_emu/forms.h"

struct nvrtc {
    int unused;
};

enum tlm_status nvrtc_open(struct nvrtc **out, struct tlm_error *)
{
    *out = (struct nvrtc *)calloc(1, sizeof(struct nvrtc));
    return TLM_OK;
}

void nvrtc_close(struct nvrtc *n)
{
    free(n);
}

static bool is(const struct emu_form *f, const struct nvrtc_program *p)
{
    char constants[256] = "";
    for (int i = 0; i < p->option_count; i++)
        if (!strncmp(p->options[i], "-DFIXED", 7))
            snprintf(constants + strlen(constants), sizeof constants - strlen(constants), " %s",
                     p->options[i]);
    return !strcmp(f->kernel, p->kernel) && !strcmp(f->constants, constants);
}

enum tlm_status nvrtc_compile(struct nvrtc *, const struct nvrtc_program *p, struct nvrtc_binary *out,
                              struct tlm_error *err)
{
    *out = {};
    for (int i = 0; i < EMU_FORMS; i++) {
        if (!is(&emu_forms[i], p)) continue;
        out->cubin = strdup(p->kernel), out->name = strdup(p->kernel);
        out->size = strlen(p->kernel);
        return TLM_OK;
    }
    return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: %s: not known to the emulation", p->kernel);
}

struct cuda_kernel {
    const void *code;
};

enum tlm_status cuda_kernel_load(struct cuda_kernel **out, const void *cubin, size_t size, const char *name,
                                 struct tlm_error *err)
{
    *out = NULL;
    for (int i = 0; i < EMU_FORMS; i++) {
        const struct emu_form *f = &emu_forms[i];
        if (strcmp(f->kernel, name) || size != strlen(name) || memcmp(cubin, name, size)) continue;
        *out = (struct cuda_kernel *)malloc(sizeof(struct cuda_kernel));
        (*out)->code = f->function;
        return TLM_OK;
    }
    return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: a compiled kernel: no such kernel");
}

void cuda_kernel_unload(struct cuda_kernel *k)
{
    free(k);
}

const void *cuda_kernel_code(const struct cuda_kernel *k)
{
    return k->code;
}
