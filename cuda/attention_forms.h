// cuda/attention_forms.h -- the forms of attention, among which cuda/attention.cu chooses.
#ifndef CUDA_ATTENTION_FORMS_H
#define CUDA_ATTENTION_FORMS_H

#include "cuda/kernels.h"

// Many rows, on tensor cores: keys and values of f16, heads of at most 128
bool attention_mma_fits(const struct cuda_attention *a);
void attention_mma(struct cuda_stream *s, const struct cuda_attention *a);

#endif
