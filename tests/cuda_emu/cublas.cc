// tests/cuda_emu/cublas.cc -- cuda/cublas.h in the emulation: plain loops.
#include "cuda/cublas.h"

#include <stdlib.h>

#include "core/dtype.h"
#include "tests/cuda_emu/emu.h"

struct cublas {
    int unused;
};

enum tlm_status cublas_open(struct cublas **out, struct tlm_error *)
{
    *out = (struct cublas *)calloc(1, sizeof(struct cublas));
    return TLM_OK;
}

void cublas_close(struct cublas *c)
{
    free(c);
}

struct product {
    float *y;
    const void *x;
    struct cuda_matrix w;
    int64_t rows;
    bool add;
};

static void run_product(void *user)
{
    const struct product *p = (const struct product *)user;
    const struct cuda_matrix *w = &p->w;
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t n = 0; n < w->outputs; n++) {
            const uint16_t *column = (const uint16_t *)p->x + r * w->inputs;
            const uint16_t *row = (const uint16_t *)((const char *)w->codes + (size_t)n * w->code_stride);
            float sum = 0;
            for (int64_t k = 0; k < w->inputs; k++) sum += f32_from_bf16(column[k]) * f32_from_bf16(row[k]);
            p->y[r * w->outputs + n] = p->add ? p->y[r * w->outputs + n] + sum : sum;
        }
}

enum tlm_status cublas_matmul(struct cublas *, struct cuda_stream *s, float *y, const void *x,
                              const struct cuda_matrix *w, int64_t rows, bool add, struct tlm_error *)
{
    struct product p = {y, x, *w, rows, add};
    emu::on_stream(s);
    if (!emu::keep(NULL, dim3(), dim3(), 0, emu::IN_ORDER, run_product, &p, sizeof p)) run_product(&p);
    return TLM_OK;
}
