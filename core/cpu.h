// core/cpu.h -- what this processor can do, as tiers: each tier has all of those before it, but for AVX-VNNI, which some processors with
// AVX-512 lack.
#ifndef CORE_CPU_H
#define CORE_CPU_H

#include <stdbool.h>

#include "core/error.h"

enum isa {
    ISA_REF,         // plain C, strict floating point, any x86-64
    ISA_AVX2,        // AVX2 + FMA + F16C
    ISA_AVX_VNNI,    // + VNNI for vectors of 256 bits
    ISA_AVX512,      // AVX2 + AVX-512 F, BW, VL, DQ
    ISA_AVX512_VNNI, // + VNNI
    ISA_AVX512_BF16, // + BF16
    ISA_F64,         // not a tier: the references in double precision, the oracle of all others
    ISA_COUNT
};

// "ref", "avx2", "avx-vnni", "avx512", "avx512-vnni", "avx512-bf16", "f64"
const char *isa_name(enum isa isa);
// The highest tier that the processor and the system support.
enum isa isa_detect(void);
// Whether they support this one. ISA_F64 runs anywhere.
bool isa_supported(enum isa isa);
// Resolves "auto" (or NULL), a tier's name, "avx512" (the best AVX-512 tier there is), or "f64".
// Errors: ARGUMENT (unknown name), UNSUPPORTED (this machine lacks it).
enum tlm_status isa_parse(enum isa *isa, const char *name, struct tlm_error *err);
// Processors this process may run on, at least 1.
int cpu_count(void);
// Bytes of memory that can be taken without anybody swapping; 0 where the system does not say.
uint64_t memory_available(void);

#endif
