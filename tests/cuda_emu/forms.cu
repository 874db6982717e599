// tests/cuda_emu/forms.cu -- kernels with sizes that they know, from their own sources, as NVRTC would compile them: without a host.
#include "tests/cuda_emu/forms.h"

#include "cuda/activations.h"
#include "cuda/decode.h"
#include "cuda/fused.h"
#include "cuda/groups.h"
#include "cuda/products.h"

#define __CUDACC_RTC__

namespace bf16_320
{
#define FIXED_INPUTS       320
#define FIXED_CODE_STRIDE  640
#define FIXED_SCALE_STRIDE 0
#include "cuda/matmul.cu"
} // namespace bf16_320

#undef CUDA_FIXED_H
#undef FIXED_INPUTS
#undef FIXED_CODE_STRIDE
#undef FIXED_SCALE_STRIDE
namespace q4_k_1280
{
#define FIXED_INPUTS       1280
#define FIXED_CODE_STRIDE  640
#define FIXED_SCALE_STRIDE 80
#include "cuda/matmul_quantized.cu"
} // namespace q4_k_1280

#undef CUDA_FIXED_H
namespace fused_bf16
{
#define FIXED_SHAPE                                                                  \
    {                                                                                \
        (dtype)30, 320, 2, {24, 8, 0, 0}, 640, 0, (fused_norm)1, (activation)0, 0, 0 \
    }
#include "cuda/fused_product.h"
} // namespace fused_bf16

#undef CUDA_FIXED_H
#undef CUDA_FUSED_PRODUCT_H
#undef FIXED_SHAPE
namespace fused_q4_k
{
#define FIXED_SHAPE                                                                     \
    {                                                                                   \
        (dtype)12, 1280, 2, {24, 24, 0, 0}, 640, 80, (fused_norm)1, (activation)0, 0, 1 \
    }
#include "cuda/fused_product.h"
} // namespace fused_q4_k

const struct emu_form emu_forms[EMU_FORMS] = {
    {"matmul_kernel<bf16, bf16, 8, 2>", " -DFIXED_INPUTS=320 -DFIXED_CODE_STRIDE=640 -DFIXED_SCALE_STRIDE=0",
     (const void *)bf16_320::matmul_kernel<bf16, bf16, 8, 2>},
    {"matmul_quantized_kernel<decode_Q4_K, 2>",
     " -DFIXED_INPUTS=1280 -DFIXED_CODE_STRIDE=640 -DFIXED_SCALE_STRIDE=80",
     (const void *)q4_k_1280::matmul_quantized_kernel<decode_Q4_K, 2>},
    {"fused::product_kernel<fused::plain<bf16, bf16>, 2>",
     " -DFIXED_SHAPE={(dtype)30,320,2,{24,8,0,0},640,0,(fused_norm)1,(activation)0,0,0}",
     (const void *)fused_bf16::fused::product_kernel<fused_bf16::fused::plain<bf16, bf16>, 2>},
    {"fused::product_kernel<fused::quantized<decode_Q4_K>, 2>",
     " -DFIXED_SHAPE={(dtype)12,1280,2,{24,24,0,0},640,80,(fused_norm)1,(activation)0,0,1}",
     (const void *)fused_q4_k::fused::product_kernel<fused_q4_k::fused::quantized<decode_Q4_K>, 2>},
};
