// tests/nvrtc_check.c -- compiles every kernel that can be made for a model's sizes, for both architectures, with NVIDIA's compiler where
// this machine has it. It needs no device.
//
//     nvrtc_check      a line; exit 1 where something does not compile, or is no binary of the architecture
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "cuda/kernel_source.h"
#include "cuda/nvrtc.h"

#define PRODUCT "-DFIXED_INPUTS=4096"

static const struct form {
    const char *file, *kernel, *constants[3];
} forms[] = {
#define PLAIN(types, numbers, columns, stride)                                  \
    {                                                                           \
        "cuda/matmul.cu", "matmul_kernel<" types ", " numbers ", " columns ">", \
        {                                                                       \
            PRODUCT, "-DFIXED_CODE_STRIDE=" stride, "-DFIXED_SCALE_STRIDE=0"    \
        }                                                                       \
    }
#define QUANTIZED(type, columns, stride, scale_stride)                                       \
    {                                                                                        \
        "cuda/matmul_quantized.cu", "matmul_quantized_kernel<decode_" type ", " columns ">", \
        {                                                                                    \
            PRODUCT, "-DFIXED_CODE_STRIDE=" stride, "-DFIXED_SCALE_STRIDE=" scale_stride     \
        }                                                                                    \
    }
    PLAIN("float, float", "4", "2", "16384"),
    PLAIN("f16, float", "8", "2", "8192"),
    PLAIN("bf16, bf16", "8", "2", "8192"),
    PLAIN("bf16, bf16", "8", "8", "8192"),
    PLAIN("bf16, bf16", "1", "8", "8192"),
    QUANTIZED("Q8_0", "2", "4096", "256"),
    QUANTIZED("Q4_K", "2", "2048", "256"),
    QUANTIZED("Q4_K", "8", "2048", "256"),
    QUANTIZED("Q6_K", "2", "3072", "288"),
    QUANTIZED("IQ2_XXS", "2", "1024", "32"),
#define FUSED(file, weights, columns, shape)                                    \
    {                                                                           \
        "cuda/" file, "fused::product_kernel<fused::" weights ", " columns ">", \
        {                                                                       \
            "-DFIXED_SHAPE=" shape                                              \
        }                                                                       \
    }
    FUSED("fused_product.cu", "plain<bf16, bf16>", "2",
          "{(dtype)30,2048,3,{2048,512,512,0},4096,0,(fused_norm)1,(activation)0,0,0}"),
    FUSED("fused_product.cu", "plain<bf16, bf16>", "8",
          "{(dtype)30,8192,1,{2048,0,0,0},16384,0,(fused_norm)0,(activation)0,0,0}"),
    FUSED("fused_quantized.cu", "quantized<decode_Q4_K>", "2",
          "{(dtype)12,4096,2,{14336,14336,0,0},2048,256,(fused_norm)1,(activation)0,0,1}"),
    FUSED("fused_quantized.cu", "quantized<decode_Q8_0>", "2",
          "{(dtype)8,4096,1,{4096,0,0,0},4096,256,(fused_norm)0,(activation)0,0,0}"),
};

static bool is_binary(const struct nvrtc_binary *b, unsigned architecture)
{
    Elf64_Ehdr h;
    enum { EM_NVIDIA = 190 };
    if (b->size < sizeof h) return false;
    memcpy(&h, b->cubin, sizeof h);
    // The architecture stands in the flags' second byte, before CUDA 13 in the first.
    return !memcmp(h.e_ident, ELFMAG, SELFMAG) && h.e_machine == EM_NVIDIA &&
           ((h.e_flags >> 8 & 0xff) == architecture || (h.e_flags & 0xff) == architecture) &&
           memmem(b->cubin, b->size, b->name, strlen(b->name) + 1);
}

// Returns how many failed.
static int compile(struct nvrtc *n, const struct form *f)
{
    static const struct {
        const char *option;
        unsigned number;
    } architectures[] = {{"-arch=sm_80", 80}, {"-arch=sm_90a", 90}};
    int failures = 0, source = 0;
    while (strcmp(kernel_source_names[source], f->file)) source++;
    for (int i = 0; i < 2; i++) {
        const char *options[] = {architectures[i].option, "-std=c++20",    "-default-device",
                                 f->constants[0],         f->constants[1], f->constants[2]};
        const struct nvrtc_program p = {.text = kernel_source_texts[source],
                                        .names = kernel_source_names,
                                        .texts = kernel_source_texts,
                                        .files = kernel_source_count,
                                        .kernel = f->kernel,
                                        .options = options,
                                        .option_count = f->constants[2] ? 6 : 4};
        struct nvrtc_binary b;
        struct tlm_error err = {0};
        const bool well = !nvrtc_compile(n, &p, &b, &err) && is_binary(&b, architectures[i].number);
        if (!well) printf("FAIL %s %s: %s\n", f->kernel, options[0], *err.text ? err.text : "no such binary");
        failures += !well;
        free(b.cubin), free(b.name);
    }
    return failures;
}

int main(void)
{
    struct nvrtc *n;
    struct tlm_error err;
    int failures = 0;
    const int count = sizeof forms / sizeof *forms;
    if (nvrtc_open(&n, &err)) {
        printf("nvrtc_check: nothing was compiled: %s\n", err.text);
        return 0;
    }
    for (int i = 0; i < count; i++) failures += compile(n, &forms[i]);
    nvrtc_close(n);
    printf("nvrtc_check: %d kernels for two architectures, %d failures\n", count, failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
