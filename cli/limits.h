// cli/limits.h -- what this machine can do at most, measured: the yardstick that `tinylm bench` holds speeds
// against.
//
// A limit is measured for a slice of time, in turn with the program and with as many threads, because
// neighbours share memory and clock: minutes later the same machine has another limit.
#ifndef CLI_LIMITS_H
#define CLI_LIMITS_H

#include "core/cpu.h"

enum limit {
    LIMIT_READ, // bytes a second, streamed from memory: 1 GiB in pages of 4 KiB, as files are mapped
    LIMIT_FMA,  // operations a second: f32 multiply and add, 2 a lane
    LIMIT_BF16, // operations a second: bf16 dot products of pairs, 4 a lane
    LIMIT_INT8, // operations a second: int8 dot products of fours, 8 a lane
    LIMIT_COUNT,
};
extern const char *const limit_names[LIMIT_COUNT]; // "read", "fma", "bf16", "int8"

struct limits;

// With the instructions of tier `isa`, on `threads` threads. Errors: MEMORY.
enum tlm_status limits_open(struct limits **out, enum isa isa, int threads, struct tlm_error *err);
void limits_close(struct limits *l); // NULL is allowed
// Uses all threads for about `seconds` and gives the rate. The tier has to have the instructions. The first
// call for LIMIT_READ takes the memory. Errors: MEMORY.
enum tlm_status limits_measure(struct limits *l, enum limit limit, double seconds, double *rate,
                               struct tlm_error *err);

// ---- kernels, a file a tier ---------------------------------------------------------------------------

// Reads every byte of data[0..bytes), its four quarters at once: processors fetch ahead within a page only,
// and with one stream a thread waits at each page's start (2 cores of a Zen 4, pairs: one stream reads 0.73
// of what four do). data on a boundary of 64, bytes a multiple of 256.
typedef void limit_read_fn(const char *data, size_t bytes);
limit_read_fn limit_read_ref, limit_read_avx2, limit_read_avx512;

// Keeps the arithmetic units busy for some tens of microseconds; returns the operations that were done.
typedef double limit_peak_fn(void);
limit_peak_fn limit_fma_ref, limit_fma_avx2, limit_fma_avx512, limit_bf16_avx512_bf16, limit_int8_avx2,
    limit_int8_avx_vnni, limit_int8_avx512_vnni;

// Independent chains: enough to hide the latency of any multiply-add (4 to 6 cycles, at two a cycle), few
// enough for the 16 registers of AVX2.
enum { LIMIT_CHAINS = 12, LIMIT_ROUNDS = 1 << 14 };

#define LIMIT_PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define LIMIT_UNROLL LIMIT_PRAGMA(clang loop unroll(full))
#else
#define LIMIT_UNROLL LIMIT_PRAGMA(GCC unroll 12)
#endif

#endif
