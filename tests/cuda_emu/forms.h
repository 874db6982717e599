// tests/cuda_emu/forms.h -- what the emulation's compiler (tests/cuda_emu/nvrtc.cc) "compiles": kernels that were compiled beforehand.
#ifndef TESTS_CUDA_EMU_FORMS_H
#define TESTS_CUDA_EMU_FORMS_H

struct emu_form {
    const char *kernel, *constants; // as in struct jit_form
    const void *function;
};
enum { EMU_FORMS = 4 };
extern const struct emu_form emu_forms[EMU_FORMS];

#endif
