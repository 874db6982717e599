// tests/fuzz_main.c -- libFuzzer's entry for the target named by FUZZ_TARGET; `make fuzz` builds one program a target.
#include "tests/tests.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return FUZZ_TARGET(data, size);
}
