#include "cuda/kernel_source.h"

// KERNEL_FILES, which the Makefile writes, has a line FILE("path") for each file. The assembler reads them, as it does the model that is built in.
#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)
#define TEXT_(number, path)                     \
    __asm__(".section .rodata\n"                \
            ".global kernel_text_" #number "\n" \
            "kernel_text_" #number ":\n"        \
            ".incbin \"" path "\"\n"            \
            ".byte 0\n"                         \
            ".text\n");                         \
    extern const char kernel_text_##number[];
#define TEXT(number, path) TEXT_(number, path)

#define FILE(path) TEXT(__LINE__, path)
#include KERNEL_FILES
#undef FILE
TEXT(standard, "cuda/standard.h")

#define STANDARD(X) \
    X("math.h") X("stdbool.h") X("stddef.h") X("stdint.h") X("stdio.h") X("stdlib.h") X("string.h")

const char *const kernel_source_names[] = {
#define FILE(path) path,
#include KERNEL_FILES
    STANDARD(FILE)
#undef FILE
};

const char *const kernel_source_texts[] = {
#define FILE(path) JOIN(kernel_text_, __LINE__),
#include KERNEL_FILES
#undef FILE
#define FILE(path) kernel_text_standard,
    STANDARD(FILE)};

const int kernel_source_count = sizeof kernel_source_names / sizeof *kernel_source_names;
