// cuda/fused_product.cu -- products of few rows with what is done around them: which exist, and those of plain weights.
#include "cuda/fused_product.h"

#ifndef __CUDACC_RTC__

// Of the shared memory that a device has some is for the next launch, and for the statistics of the norm.
enum { MOST_SHARED = 160 << 10, OTHER_SHARED = 1 << 10 };

static bool has_kernel(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 ||
           cuda_matmul_input(type) == DTYPE_Q8_1;
}

static size_t column_bytes(const struct cuda_fused_shape *s)
{
    switch (cuda_matmul_input(s->type)) {
    case DTYPE_F32: return 4 * (size_t)s->inputs;
    case DTYPE_BF16: return 2 * (size_t)s->inputs;
    default: return fused::quantized<decode_Q8_0>::column_bytes(s->inputs);
    }
}

bool cuda_fused_product_fits(const struct cuda_fused_shape *s, int64_t rows)
{
    const int32_t numbers = cuda_matmul_input(s->type) == DTYPE_Q8_1 ? 32 : 8;
    const size_t columns = rows <= 2 ? 2 : FUSED_ROWS;
    int64_t outputs = 0;
    for (int p = 0; p < s->parts; p++) outputs += s->outputs[p];
    return has_kernel(s->type) && rows <= FUSED_ROWS && s->inputs % numbers == 0 && outputs < 1 << 30 &&
           columns * column_bytes(s) <= MOST_SHARED &&
           columns * column_bytes(s) + OTHER_SHARED <= cuda_shared_most();
}

void cuda_fused_product(struct cuda_stream *s, const struct cuda_fused_product *p, int blocks)
{
    TLM_ASSERT(cuda_fused_product_fits(&p->shape, p->rows.most));
    static const char file[] = "cuda/fused_product.cu";
    if (!p->rows.most) return;
    switch (p->shape.type) {
    case DTYPE_F32:
        fused::launch<fused::plain<float, float>>(s, file, "plain<float, float>", p, blocks);
        return;
    case DTYPE_F16: fused::launch<fused::plain<f16, float>>(s, file, "plain<f16, float>", p, blocks); return;
    case DTYPE_BF16: fused::launch<fused::plain<bf16, bf16>>(s, file, "plain<bf16, bf16>", p, blocks); return;
    default: fused::launch_quantized(s, p, blocks);
    }
}

#endif
