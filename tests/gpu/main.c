// tests/gpu/main.c -- runs the suites of kernels and of models on the device of this machine: all, or those named on the command line.
//
//     test_gpu [SUITE ...] | --list     --list: the suites; is each launch of their tests waited for; must each be a process
//
// Each test is a process, which meets the device anew; with CK_FORK=no all of a suite's are one.
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
    {"cuda_persistent", suite_cuda_persistent, true},
    {"cuda_sample", suite_cuda_sample, true},
    {"cuda_ahead", suite_cuda_ahead, false},
    {"cuda_gradient", suite_cuda_gradient, true},
    {"cuda_jit", suite_cuda_jit, true},
    {"cuda_model", suite_cuda_model, false},
    {"cuda_places", suite_cuda_places, false},
    {"cuda_rows", suite_cuda_rows, false},
    {"cuda_train", suite_cuda_train, false},
    {"cuda_wgmma", suite_cuda_wgmma, true},
};

// One of its tests starts processes, or leaves the device as no other can use it.
static bool is_apart(size_t i)
{
    return suites[i].make == suite_cuda_jit || suites[i].make == suite_cuda_model;
}

// Returns how many tests failed. Each is told as soon as it has run, for who ends us may have enough of waiting for a kernel.
static int run(size_t i, bool blocking)
{
    SRunner *runner = srunner_create(suites[i].make());
    gpu_memory_shared = suites[i].shared;
    setenv("CUDA_LAUNCH_BLOCKING", suites[i].shared || blocking ? "1" : "0", 1);
    srunner_set_log(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}

int main(int argc, char **argv)
{
    int chosen = 0, failed = 0;
    const char *asked = getenv("CUDA_LAUNCH_BLOCKING"); // every launch is waited for: one that fails is named
    const bool blocking = asked && !strcmp(asked, "1");
    setenv("CK_TIMEOUT_MULTIPLIER", "0.5", 0); // what the emulation takes a minute for
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
            printf("%s %s%s\n", suites[i].name, suites[i].shared ? "waits" : "runs",
                   is_apart(i) ? " apart" : "");
        return 0;
    }
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        bool wanted = argc == 1;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], suites[i].name);
        if (!wanted) continue;
        failed += run(i, blocking);
        chosen++;
    }
    if (!chosen) {
        fprintf(stderr, "%s: no such suite\n", argv[0]);
        return 2;
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
