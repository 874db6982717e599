// ops/matmul_int8_avx_vnni.c -- ops/matmul_int8.h with vectors of 8 rows and vpdpbusd as processors without AVX-512 have it: a panel is 16
// rows, times 6 columns. A test builds the same for AVX-512, where it can run too, with the other encoding and another name.
#ifndef KERNELS_OF
#define KERNELS_OF avx_vnni
#define VPDPBUSD   "%{vex%} vpdpbusd"
#endif

#define STRIP      6
#define FORMS      4
#define DIRECT     20
#define WIDENS     0
#define ANY_VECTOR "x"

#include "ops/matmul_int8_256.h"

#include "ops/matmul_int8.h"

typedef vec factor;
INLINE factor load_factor(const dword *x)
{
    factor f;
    __asm__ volatile("vpbroadcastd %1, %0" : "=x"(f) : "m"(*x));
    return f;
}

// Volatile keeps the products in this order, and the compiler from needing twice the registers.
INLINE void dot(vec *sum, vec codes, factor x)
{
    __asm__ volatile(VPDPBUSD " %2, %1, %0" : "+x"(*sum) : "x"(codes), "x"(x));
}

#include "ops/matmul_int8_vnni.h"

#include "ops/matmul_int8_run.h"

DEFINE_ALL_STRIPS

#define DEFINE_DIRECTS(name, type) \
    DEFINE_DIRECT(name, type, 1)   \
    DEFINE_DIRECT(name, type, 2)   \
    DEFINE_DIRECT(name, type, 4)   \
    static direct_fn *const directs_##name[] = {direct_##name##_1, direct_##name##_2, direct_##name##_4};
DEFINE_ALL_KERNELS(KERNELS_OF)
