#include "core/cpu.h"

#include <cpuid.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"ref", "avx2", "avx-vnni", "avx512", "avx512-vnni", "avx512-bf16", "f64"};
_Static_assert(sizeof names / sizeof *names == ISA_COUNT, "a name a tier");

const char *isa_name(enum isa isa)
{
    return names[isa];
}

static bool has_avx_vnni(void)
{
    unsigned a, b, c, d; // clang 14 has no name for it
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

enum isa isa_detect(void)
{
    // The compiler's run-time support reads cpuid and xgetbv, so a system that does not save the registers counts.
    __builtin_cpu_init();
    // Every processor with AVX2 and FMA has F16C, which clang has no name for.
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return ISA_REF;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")))
        return has_avx_vnni() ? ISA_AVX_VNNI : ISA_AVX2;
    if (!__builtin_cpu_supports("avx512vnni")) return ISA_AVX512;
    return __builtin_cpu_supports("avx512bf16") ? ISA_AVX512_BF16 : ISA_AVX512_VNNI;
}

bool isa_supported(enum isa isa)
{
    enum isa best = isa_detect();
    if (isa == ISA_AVX_VNNI) return best >= ISA_AVX2 && has_avx_vnni();
    return isa <= best || isa == ISA_F64;
}

enum tlm_status isa_parse(enum isa *isa, const char *name, struct tlm_error *err)
{
    enum isa best = isa_detect();
    *isa = best;
    if (!name || !strcmp(name, "auto")) return TLM_OK;
    if (!strcmp(name, "avx512") && best > ISA_AVX512) return TLM_OK;
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, names[i])) continue;
        *isa = (enum isa)i;
        if (isa_supported(*isa)) return TLM_OK;
        return error_set(err, TLM_ERR_UNSUPPORTED, "isa '%s': this processor lacks it; its best is '%s'",
                         name, names[best]);
    }
    return error_set(err, TLM_ERR_ARGUMENT,
                     "isa '%s': expected auto, ref, avx2, avx-vnni, avx512, avx512-vnni, avx512-bf16 or f64",
                     name);
}

int cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

uint64_t memory_available(void)
{
    char line[128];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %" SCNu64, &kib) != 1) {
    }
    if (f) fclose(f);
    return kib << 10;
}
