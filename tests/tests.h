// tests/tests.h -- the suites; a line each. tests/main.c runs them all from the root of the repository.
#ifndef TESTS_TESTS_H
#define TESTS_TESTS_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"

// The tiers of this processor, from the first named on.
#define EACH_ISA(isa, first)                               \
    for (enum isa isa = first; isa <= isa_detect(); isa++) \
        if (isa_supported(isa))

Suite *suite_core(void);
Suite *suite_file(void);
Suite *suite_gguf(void);
Suite *suite_tokenizer(void);
Suite *suite_bpe(void);
Suite *suite_bpe_train(void);
Suite *suite_tokenizer_json(void);
Suite *suite_template(void);
Suite *suite_train(void);
Suite *suite_quant(void);
Suite *suite_quant_file(void);
Suite *suite_composite(void);
Suite *suite_divergence(void);
Suite *suite_calibration(void);
Suite *suite_limits(void);
Suite *suite_gptq(void);
Suite *suite_rows(void);
Suite *suite_activations(void);
Suite *suite_nodes(void);
Suite *suite_matmul(void);
Suite *suite_matmul_quantized(void);
Suite *suite_attention(void);
Suite *suite_gradient(void);
Suite *suite_gradient_kernels(void);
Suite *suite_kv(void);
Suite *suite_latent(void);
Suite *suite_experts(void);
Suite *suite_sample(void);
Suite *suite_model(void);
Suite *suite_architectures(void);
Suite *suite_session(void);
Suite *suite_generate(void);
Suite *suite_speculation(void);
Suite *suite_batch(void);
Suite *suite_chat(void);
Suite *suite_safetensors(void);
Suite *suite_hf(void);
Suite *suite_hf_quantized(void);
Suite *suite_shard(void);
Suite *suite_dataset(void);
Suite *suite_stories(void);
Suite *suite_optimizer(void);
Suite *suite_schedule(void);
Suite *suite_hostile(void);
Suite *suite_config(void);
Suite *suite_new_model(void);
Suite *suite_compose(void);
Suite *suite_grammar(void);
Suite *suite_constraint(void);
Suite *suite_cuda_emu(void);
Suite *suite_cuda(void);
Suite *suite_cuda_experts(void);
Suite *suite_cuda_fused(void);
Suite *suite_cuda_persistent(void);
Suite *suite_cuda_sample(void);
Suite *suite_cuda_ahead(void);
Suite *suite_cuda_gradient(void);
Suite *suite_cuda_jit(void);
Suite *suite_cuda_model(void);
Suite *suite_cuda_passes(void);
Suite *suite_cuda_places(void);
Suite *suite_cuda_rows(void);
Suite *suite_cuda_train(void);
Suite *suite_cuda_wgmma(void);

// Fuzz targets: `make fuzz` drives them with libFuzzer, the suites with a few thousand inputs of their own.
int fuzz_gguf(const uint8_t *data, size_t size);
int fuzz_tokenizer(const uint8_t *data, size_t size);
int fuzz_tokenizer_json(const uint8_t *data, size_t size);
int fuzz_template(const uint8_t *data, size_t size);
int fuzz_safetensors(const uint8_t *data, size_t size);
int fuzz_hf_config(const uint8_t *data, size_t size);
int fuzz_config(const uint8_t *data, size_t size);
int fuzz_grammar(const uint8_t *data, size_t size);

#endif
