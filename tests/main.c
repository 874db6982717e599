// tests/main.c -- runs the suites: all of them, or those named on the command line (test_tinylm gguf session).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tests.h"

static const struct {
    const char *name;
    Suite *(*make)(void);
} suites[] = {
    {"core", suite_core},
    {"file", suite_file},
    {"gguf", suite_gguf},
    {"tokenizer", suite_tokenizer},
    {"bpe", suite_bpe},
    {"bpe_train", suite_bpe_train},
    {"tokenizer_json", suite_tokenizer_json},
    {"template", suite_template},
    {"train", suite_train},
    {"quant", suite_quant},
    {"quant_file", suite_quant_file},
    {"composite", suite_composite},
    {"divergence", suite_divergence},
    {"calibration", suite_calibration},
    {"limits", suite_limits},
    {"gptq", suite_gptq},
    {"rows", suite_rows},
    {"activations", suite_activations},
    {"nodes", suite_nodes},
    {"matmul", suite_matmul},
    {"matmul_quantized", suite_matmul_quantized},
    {"attention", suite_attention},
    {"gradient", suite_gradient},
    {"gradient_kernels", suite_gradient_kernels},
    {"kv", suite_kv},
    {"latent", suite_latent},
    {"experts", suite_experts},
    {"sample", suite_sample},
    {"model", suite_model},
    {"architectures", suite_architectures},
    {"session", suite_session},
    {"generate", suite_generate},
    {"speculation", suite_speculation},
    {"batch", suite_batch},
    {"chat", suite_chat},
    {"safetensors", suite_safetensors},
    {"hf", suite_hf},
    {"hf_quantized", suite_hf_quantized},
    {"shard", suite_shard},
    {"dataset", suite_dataset},
    {"stories", suite_stories},
    {"optimizer", suite_optimizer},
    {"schedule", suite_schedule},
    {"hostile", suite_hostile},
    {"config", suite_config},
    {"new_model", suite_new_model},
    {"compose", suite_compose},
    {"grammar", suite_grammar},
    {"constraint", suite_constraint},
    {"cuda_emu", suite_cuda_emu},
    {"cuda", suite_cuda},
    {"cuda_experts", suite_cuda_experts},
    {"cuda_fused", suite_cuda_fused},
    {"cuda_sample", suite_cuda_sample},
    {"cuda_gradient", suite_cuda_gradient},
    {"cuda_jit", suite_cuda_jit},
    {"cuda_model", suite_cuda_model},
    {"cuda_places", suite_cuda_places},
    {"cuda_train", suite_cuda_train},
};

int main(int argc, char **argv)
{
    SRunner *runner = srunner_create(NULL);
    int chosen = 0;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        int wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], suites[i].name);
        if (!wanted) continue;
        srunner_add_suite(runner, suites[i].make());
        chosen++;
    }
    if (!chosen) {
        fprintf(stderr, "%s: no such suite\n", argv[0]);
        return 2;
    }
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
