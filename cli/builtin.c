#include "cli/builtin.h"

// The assembler reads the file: no copy of it in C, and no time of the compiler. The Makefile knows that this object depends on it.
__asm__(".section .rodata\n"
        ".balign 64\n"
        ".global builtin_model\n"
        ".global builtin_end\n"
        "builtin_model:\n"
        ".incbin \"" BUILTIN_FILE "\"\n"
        "builtin_end:\n"
        ".byte 0\n"
        ".text\n");
