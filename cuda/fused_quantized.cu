// cuda/fused_quantized.cu -- products of few rows and quantized weights, with what is done around them.
#include "cuda/fused_product.h"

#ifndef __CUDACC_RTC__

void fused::launch_quantized(struct cuda_stream *s, const struct cuda_fused_product *p, int blocks)
{
    switch (p->shape.type) {
#define PRODUCT(name)                                                                                    \
    case DTYPE_##name:                                                                                   \
        launch<quantized<decode_##name>>(s, "cuda/fused_quantized.cu", "quantized<decode_" #name ">", p, \
                                         blocks);                                                        \
        return;
        CUDA_QUANTIZED(PRODUCT)
    default: TLM_ASSERT(!"a quantized type with kernels");
    }
}

#endif
