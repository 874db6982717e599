// tests/cuda_emu/planted.h -- kernels with a mistake each, and each without it: what the emulation must see.
#ifndef TESTS_CUDA_EMU_PLANTED_H
#define TESTS_CUDA_EMU_PLANTED_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum planted {
    PLANTED_BARRIER,
    PLANTED_WARP_BARRIER,
    PLANTED_OVERRUN,
    PLANTED_UNWRITTEN,
    PLANTED_SHUFFLE,
    PLANTED_EARLY_END,
    PLANTED_WAIT,
    PLANTED_NEVER_WAITED,
    PLANTED_MISALIGNED,
    PLANTED_GLOBAL,
    PLANTED_STUCK,
    PLANTED_PREVIOUS,
    PLANTED_NO_PREVIOUS,
    PLANTED_COUNT
};

// 64 numbers of x become y: turned around within blocks of 64, two blocks. `wrong`: with the mistake.
void planted_run(enum planted which, bool wrong, float *y, const float *x);

// c (16, 8) = a (16, 16) b (8, 16)^T of bf16 by one mma; wrong: A's rows 8 to 15 in the wrong registers.
void planted_mma(bool wrong, float *c, const uint16_t *a, const uint16_t *b);
// The same with fragments by ldmatrix, b as (16, 8), transposed
void planted_ldmatrix(float *c, const uint16_t *a, const uint16_t *b);
// c (16, 8) = a (16, 32) b (8, 32)^T of bytes
void planted_mma_s8(int32_t *c, const int8_t *a, const int8_t *b);
// sums[0] of `count` numbers by blocks that meet at a barrier of the grid; together: a cooperative launch
void planted_grid_sum(bool together, float *sums, const float *x, int blocks);

// y (blocks) sums of x (blocks, 32) up to each block, by blocks that wait for each other; counters (blocks) of zeros, which are zeros again
// behind it
enum planted_chain {
    CHAIN_RIGHT,
    CHAIN_NOT_AWAITED, // no wait for the block in front
    CHAIN_NOT_RESET,   // counters stay as they are
    CHAIN_CIRCLE,      // the first waits, too
    CHAIN_APART,       // an ordinary launch
};
void planted_chain(enum planted_chain which, float *y, unsigned *counters, const float *x, int blocks);

// c (64, 64) = a (64, 128) b (64, 128)^T, or b (128, 64), by copies of tiles and wgmma.
enum planted_tiles {
    TILES_RIGHT,
    TILES_WRITTEN,     // the first row of a is zeros, which threads write into the tile
    TILES_NOT_SHOWN,   // that without shared_written()
    TILES_NOT_AWAITED, // no wait for the barrier of a copy
    TILES_NOT_BEGUN,   // no wgmma_begin()
    TILES_NOT_WAITED,  // no wgmma_wait()
    TILES_EARLY_EMPTY, // the next copy is let in before that
};
enum { PLANTED_SIDE = 64 };
void planted_tiles(enum planted_tiles which, float *c, const uint16_t *a, const uint16_t *b, bool columns);

// c (128, 64) = a (128, 256) b (64, 256)^T by two blocks that share what they read of b.
enum planted_cluster {
    CLUSTER_RIGHT,
    CLUSTER_FORGOTTEN, // a copy for both goes to one
    CLUSTER_OWN_EMPTY, // a block asks its own warpgroup alone whether a tile of both may be written again
    CLUSTER_NOT_MET,   // copies begin when the block's own barriers are made
    CLUSTER_EARLY_END, // one block does not wait for the other
};
enum { CLUSTER_PANELS = 4 };
void planted_cluster(enum planted_cluster which, float *c, const uint16_t *a, const uint16_t *b);

#ifdef __cplusplus
}
#endif

#endif
