// tests/main.c -- runs the suites: all of them, or those named on the command line (test_tinylm gguf session).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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
    {"cuda_persistent", suite_cuda_persistent},
    {"cuda_sample", suite_cuda_sample},
    {"cuda_ahead", suite_cuda_ahead},
    {"cuda_gradient", suite_cuda_gradient},
    {"cuda_jit", suite_cuda_jit},
    {"cuda_model", suite_cuda_model},
    {"cuda_passes", suite_cuda_passes},
    {"cuda_places", suite_cuda_places},
    {"cuda_rows", suite_cuda_rows},
    {"cuda_train", suite_cuda_train},
    {"cuda_wgmma", suite_cuda_wgmma},
};

// The suites that are named, or with no names those whose kernels are the GPU's, or all others. Returns how many tests failed; -1: there is no
// such suite.
static int run(int argc, char **argv, bool gpu)
{
    SRunner *runner = srunner_create(NULL);
    int chosen = 0, failed = 0;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        bool wanted = argc == 1 && !strncmp(suites[i].name, "cuda", 4) == gpu;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], suites[i].name);
        if (!wanted) continue;
        srunner_add_suite(runner, suites[i].make());
        chosen++;
    }
    if (chosen) {
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
    }
    srunner_free(runner);
    return chosen ? failed : -1;
}

// All suites run in two processes, of which the emulation of the GPU keeps one busy.
int main(int argc, char **argv)
{
    int status = 0, failed = 0;
    const pid_t other = argc == 1 ? fork() : 0;
    if (argc == 1 && !other) return run(argc, argv, true) ? EXIT_FAILURE : EXIT_SUCCESS;
    failed = run(argc, argv, false);
    if (failed < 0) {
        fprintf(stderr, "%s: no such suite\n", argv[0]);
        return 2;
    }
    if (argc == 1 && (other < 0 || waitpid(other, &status, 0) < 0)) {
        perror(argv[0]);
        return 2;
    }
    return failed || status ? EXIT_FAILURE : EXIT_SUCCESS;
}
