// tests/evex_avx512_vnni.c -- the kernels of AVX-VNNI once more, for tests on processors that have vpdpbusd in the encoding of AVX-512 alone.
#define KERNELS_OF evex
#define VPDPBUSD   "vpdpbusd"

#include "ops/ops.h"

matmul_fwd_fn PACKED_KERNELS(evex);

#include "ops/matmul_int8_avx_vnni.c"
