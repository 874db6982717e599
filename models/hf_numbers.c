// models/hf_numbers.c -- numbers from one type to another, by the kernels of this machine.
#include "core/cpu.h"
#include "models/hf_folder.h"

struct kernels hf_kernels(void)
{
    return kernels_for(isa_detect());
}

void hf_convert_numbers(const struct kernels *k, enum dtype type, void *out, enum dtype from, const void *in,
                        int64_t count, float add)
{
    enum { CHUNK = 2048 }; // a multiple of every block
    float x[CHUNK];
    uint64_t aligned[CHUNK]; // numbers of a folder may stand at any byte; of at most 8 bytes each
    const uint8_t *at = in;
    uint8_t *to = out;
    for (int64_t n; count > 0; count -= n) {
        n = count < CHUNK ? count : CHUNK;
        size_t bytes = dtype_row_bytes(from, n);
        memcpy(aligned, at, bytes);
        k->to_real[from](x, aligned, n);
        for (int64_t i = 0; add != 0 && i < n; i++) x[i] += add;
        k->from_real[type](to, x, n);
        at += bytes;
        to += dtype_row_bytes(type, n);
    }
}
