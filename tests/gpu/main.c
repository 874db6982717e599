// tests/gpu/main.c -- runs the suites of kernels and of models on the device of this machine: all, or those named on the command line.
//
// Each test is a process, which meets the device anew.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tests.h"

bool gpu_memory_shared; // tests/gpu/device.cu: the host reads and writes the device's memory

static const struct {
    const char *name;
    Suite *(*make)(void);
    bool shared; // its tests read and write the device's memory themselves, right behind a launch
} suites[] = {
    {"cuda", suite_cuda, true},
    {"cuda_experts", suite_cuda_experts, true},
    {"cuda_fused", suite_cuda_fused, true},
    {"cuda_sample", suite_cuda_sample, true},
    {"cuda_gradient", suite_cuda_gradient, true},
    {"cuda_jit", suite_cuda_jit, true},
    {"cuda_model", suite_cuda_model, false},
    {"cuda_places", suite_cuda_places, false},
    {"cuda_train", suite_cuda_train, false},
    {"cuda_wgmma", suite_cuda_wgmma, true},
};

// Returns how many tests failed.
static int run(size_t i)
{
    SRunner *runner = srunner_create(suites[i].make());
    gpu_memory_shared = suites[i].shared;
    setenv("CUDA_LAUNCH_BLOCKING", suites[i].shared ? "1" : "0", 1);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}

int main(int argc, char **argv)
{
    int chosen = 0, failed = 0;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        bool wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], suites[i].name);
        if (!wanted) continue;
        failed += run(i);
        chosen++;
    }
    if (!chosen) {
        fprintf(stderr, "%s: no such suite\n", argv[0]);
        return 2;
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
